"""recurrent.cu against ops.recurrent, on CPU stand-in and GPU."""

import numpy as np
import pytest
from kernel_device import DTYPES, complex_numbers, double, relative_error

from dcfnet_np.backend import to_numpy
from dcfnet_np.kernels import recurrent
from dcfnet_np.ops.dcf import lam_gradient
from dcfnet_np.ops.fourier import make_band, shift_spectrum
from dcfnet_np.ops.recurrent import unroll_backward, unroll_forward

EXACT = {np.float32: 1e-5, np.float64: 1e-13}
# S, N, D, shape of the images, limits of the band
CLIPS = [
    (1, 2, 3, (7, 9), None),
    (3, 2, 9, (11, 12), (3, 4)),
    (5, 1, 1, (5, 5), (0, 0)),
    (2, 3, 32, (9, 8), (4, 3)),
]


def by_the_definition(spectra_f, label_f, numbers, places, shape, band, rule, dresponses_f):
    """Responses, and the gradients in the kernels' order, of `ops.recurrent`."""
    steps, clips = places.shape[:2]

    def move(values, sign):
        return np.stack([
            np.stack([
                shift_spectrum(values[t, n], tuple(sign * places[t, n]), shape, band)
                for n in range(clips)
            ]) for t in range(steps)
        ])  # fmt: skip

    rates = np.full(steps, numbers[1])
    rates[0] = 1
    responses_f, cache = unroll_forward(
        move(spectra_f[:-1], 1), spectra_f[1:], label_f, numbers[0], rates, rule
    )
    if dresponses_f is None:
        return responses_f
    by = unroll_backward(dresponses_f, cache, shape, band)
    dspectra_f = np.zeros_like(spectra_f)
    dspectra_f[1:] = by.searches
    dspectra_f[:-1] += move(by.templates, -1)
    return responses_f, dspectra_f, by.lam, by.rates[1:].sum(), by.label


def total(by_bins, shape, band):
    """What the bins' parts add up to."""
    return float(lam_gradient(to_numpy(by_bins).astype(float), shape, band))


@DTYPES
@pytest.mark.parametrize("rule", ["ratio", "averages"])
@pytest.mark.parametrize("clip", CLIPS)
def test_the_cell_and_its_gradients(device, rng, clip, rule, dtype):
    """Targets anywhere, the last clip of a batch without a gradient: its loss is over the limit."""
    steps, n, d, shape, limits = clip
    band = make_band(shape, limits or (shape[0] // 2, shape[1] // 2), np.float64)
    bins = band.spectrum_shape
    spectra_f, label_f, dresponses_f = (
        complex_numbers(rng, sizes, dtype)
        for sizes in ((steps + 1, n, d, *bins), bins, (steps, n, *bins))
    )
    numbers = np.array([0.7, 0.3], dtype)
    places = rng.integers(-3, 4, (steps, n, 2)).astype(np.int32)
    clips = recurrent.Clips(
        *map(device, (spectra_f, label_f, numbers, places)),
        recurrent.make_turns(shape, dtype),
        rule,
    )
    losses, shares = np.full((2, steps, n), 0.5, dtype)
    if n > 1:
        losses[:, -1] = 2.0
    known = recurrent.forward(clips)
    upstream = recurrent.Upstream(*map(device, (dresponses_f, losses, shares)), 1.5)
    got = recurrent.backward(clips, upstream, known)

    wide = *double(spectra_f, label_f), numbers.astype(float), places, shape, band, rule
    (counted,) = double(dresponses_f)
    if n > 1:
        counted[:, -1] = 0
    responses_f, dspectra_f, dlam, drate, dlabel_f = by_the_definition(*wide, counted)
    assert relative_error(known[0], responses_f) < EXACT[dtype]
    assert relative_error(got.spectra, dspectra_f) < EXACT[dtype]
    assert relative_error(to_numpy(got.label).sum(0), dlabel_f) < EXACT[dtype]
    assert total(got.lam, shape, band) == pytest.approx(dlam, rel=30 * EXACT[dtype])
    if steps > 1:
        found = total(got.rate, shape, band)
        assert found == pytest.approx(drate, rel=100 * EXACT[dtype])
    if n > 1:
        assert not to_numpy(got.spectra)[:, -1].any()


def test_what_does_not_fit_is_named(device, rng):
    spectra_f, label_f = complex_numbers(rng, (3, 1, 2, 3, 2), np.float32), np.zeros((3, 2), "F")
    numbers, places = np.zeros(2, np.float32), np.zeros((2, 1, 2), np.int32)
    turns = recurrent.make_turns((3, 3), np.float32)
    for spoilt, message in (
        ((spectra_f[0], label_f, numbers, places), r"spectra_f must be complex64 or complex128, "),
        ((spectra_f, label_f, numbers, places[:1]), r"recurrent.forward: places must have shape"),
        ((spectra_f, label_f[:2], numbers, places), r"recurrent.forward: label_f must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            recurrent.forward(recurrent.Clips(*map(device, spoilt), turns, "ratio"))
