"""Transforms, the band and the true adjoints."""

import naive
import numpy as np
import pytest

from dcfnet_np.backend import to_numpy
from dcfnet_np.ops.fourier import (
    irfft2,
    irfft2_adjoint,
    label_band,
    make_band,
    rfft2,
    rfft2_adjoint,
    shift_spectrum,
)
from dcfnet_np.vision.windows import gaussian_label

SHAPES = [(5, 7), (6, 8), (5, 8), (9, 4), (1, 1), (1, 6)]
BANDS = [((9, 7), (2, 3)), ((12, 10), (4, 3)), ((5, 8), (0, 0)), ((125, 121), 28)]


@pytest.mark.parametrize("shape", SHAPES)
def test_transform_is_its_definition(xp, rng, shape):
    x = rng.standard_normal((2, *shape))
    xf = rfft2(xp.asarray(x))
    for image, spectrum in zip(x, to_numpy(xf), strict=True):
        np.testing.assert_allclose(spectrum, naive.dft2(image)[:, : shape[1] // 2 + 1], atol=1e-12)
    np.testing.assert_allclose(to_numpy(irfft2(xf, shape)), x, atol=1e-13)


def kept_bins(shape, band):
    """Indices of the band's bins in the full half spectrum."""
    ku, kv = band.limits
    return np.ix_([*range(ku + 1), *range(shape[0] - ku, shape[0])], range(kv + 1))


@pytest.mark.parametrize("shape, limits", BANDS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_band_is_a_part_of_the_full_spectrum(xp, rng, shape, limits, dtype, tolerance):
    x = rng.standard_normal((2, 3, *shape)).astype(dtype)
    band = make_band(shape, limits, dtype, xp)
    full = rfft2(x.astype(np.float64))
    kept = full[(..., *kept_bins(shape, band))]
    xf = rfft2(xp.asarray(x), band)
    assert xf.dtype == np.result_type(dtype, np.complex64) and xf.shape[-2:] == band.spectrum_shape
    assert abs(to_numpy(xf) - kept).max() <= tolerance * abs(full).max()

    padded = np.zeros_like(full)
    padded[(..., *kept_bins(shape, band))] = kept
    image = irfft2(xf, shape, band)
    assert image.dtype == dtype
    assert abs(to_numpy(image) - irfft2(padded, shape)).max() <= 4 * tolerance * abs(x).max()


@pytest.mark.parametrize("shape, limits", [*((s, None) for s in SHAPES), *BANDS[:3]])
@pytest.mark.parametrize("displacement", [(0, 0), (2, -1), (-3, 5)])
def test_a_shifted_spectrum_is_that_of_the_moved_image(xp, rng, shape, limits, displacement):
    x = rng.standard_normal((2, 3, *shape))
    band = None if limits is None else make_band(shape, limits, np.float64, xp)
    moved = np.roll(x, [-step for step in displacement], axis=(-2, -1))
    got = shift_spectrum(rfft2(xp.asarray(x), band), displacement, shape, band)
    want = to_numpy(rfft2(xp.asarray(moved), band))
    np.testing.assert_allclose(to_numpy(got), want, atol=1e-12 * abs(want).max())


@pytest.mark.parametrize("shape, limits", [*((s, None) for s in SHAPES), *BANDS[:3]])
def test_adjoint_identity(xp, rng, shape, limits):
    """Re <A x, y> = <x, A* y> over the stored bins, for both transforms; both numbers are shown on
    failure.
    """
    band = None if limits is None else make_band(shape, limits, np.float64, xp)
    x = xp.asarray(rng.standard_normal((2, *shape)))
    xf = rfft2(x, band)
    yf = xp.asarray(rng.standard_normal(xf.shape) + 1j * rng.standard_normal(xf.shape))
    left = float((xf.conj() * yf).sum().real)
    assert left == pytest.approx(float((x * rfft2_adjoint(yf, shape, band)).sum()), rel=1e-12)
    left = float((irfft2(yf, shape, band) * x).sum())
    assert left == pytest.approx(float((yf.conj() * irfft2_adjoint(x, band)).sum().real), rel=1e-12)


@pytest.mark.parametrize("padding, limit", [(2.0, 28), (1.5, 24)])
@pytest.mark.parametrize("size", [63, 125, 187, 251])
def test_band_of_a_gaussian_label(size, padding, limit):
    label = gaussian_label((size, size), 0.1 * size / (1 + padding), np.float64)
    assert label_band(label, np.float32).limits == (limit, limit)
    wider = label_band(label)  # in float64, where a label of 63 pixels needs everything
    assert wider is None if size == 63 else wider.limits > (limit, limit)


def test_label_that_needs_everything_gets_the_full_spectrum(rng):
    assert label_band(rng.random((31, 29))) is None
    assert label_band(gaussian_label((21, 31), 0.5)) is None


def test_band_of_a_label_that_is_not_square():
    ku, kv = label_band(gaussian_label((63, 125), 4.2, np.float64), np.float32).limits
    assert kv > ku


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 K"):
        make_band((8, 8), 4)
    band = make_band((9, 9), 2)
    with pytest.raises(ValueError, match="for this band"):
        rfft2(np.zeros((9, 8), np.float32), band)
    with pytest.raises(ValueError, match="expected"):
        irfft2(np.zeros((5, 4), np.complex64), (9, 9), band)
    with pytest.raises(TypeError):
        irfft2(np.zeros((9, 5), complex))  # no default for the shape
