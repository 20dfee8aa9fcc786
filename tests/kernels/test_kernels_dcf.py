"""dcf.cu against the array code of ops.dcf, ops.loss and filter, on CPU stand-in and GPU."""

import numpy as np
import pytest
from kernel_device import DTYPES, EXACT, complex_numbers, double, relative_error

from dcfnet_np.backend import to_numpy
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.kernels import dcf, dft
from dcfnet_np.ops import dcf as array_dcf
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward

# N, D, bins
SHAPES = [
    (2, 3, (5, 7)),
    (3, 1, (1, 1)),
    (1, 32, (9, 11)),
    (2, 9, (4, 8)),
    (1, 2, (65,)),
    (0, 3, (3, 3)),
]


@DTYPES
@pytest.mark.parametrize("n, d, bins", SHAPES)
def test_filter_and_response(device, rng, n, d, bins, dtype):
    x, y, z = (
        complex_numbers(rng, shape, dtype) for shape in ((n, d, *bins), bins, (2 * n, d, *bins))
    )
    filter_f, energy = dcf.learn_filter(device(x), device(y), 0.3)
    wide_x, wide_y, wide_z = double(x, y, z)
    assert relative_error(filter_f, array_dcf.learn_filter(wide_x, wide_y, 0.3)) < EXACT[dtype]
    assert relative_error(energy, array_dcf.template_energy(wide_x, 0.3)[:, 0]) < EXACT[dtype]
    assert filter_f.dtype == x.dtype and energy.dtype == dtype

    model = np.repeat(to_numpy(filter_f).astype(complex), 2, axis=0)  # two scales a target
    want = array_dcf.correlate(model, wide_z)
    gain = complex_numbers(rng, (n, *bins), dtype)
    out = dcf.respond(filter_f, device(z), device(gain), scales=2)
    assert relative_error(out, want * np.repeat(gain, 2, axis=0)) < EXACT[dtype]


@DTYPES
@pytest.mark.parametrize("rule", ["ratio", "averages"])
@pytest.mark.parametrize("d, bins", [(3, (5, 7)), (1, (1,)), (32, (3, 13))])
def test_the_online_update_is_the_filters(device, rng, d, bins, rule, dtype):
    """Two targets, four frames: one is left alone in the second (flat), one in the third (lost)."""
    y = complex_numbers(rng, bins, dtype)
    filters = [OnlineFilter(y.astype(complex), 0.2, 0.1, rule) for _ in range(2)]
    # the first update must not read what was there
    garbage = np.full((2, d, *bins), np.nan, y.dtype)
    first = garbage[:, 0]
    model = dcf.Model(device(garbage), device(first.copy()), device(first.real.copy()))
    label = device(y)
    for frame in range(4):
        x, z = (complex_numbers(rng, (2, d, *bins), dtype) for _ in range(2))
        lost = frame == 2
        rates = np.array([1, 1] if frame == 0 else [0.1, 0 if lost else 0.1], dtype)
        if lost:
            x[1] = np.nan
        skipped = frame == 1  # the first target's window is flat
        ranges = np.tile(np.array([9.0, 9.25], np.float32), (2, 3, 1))
        if not skipped:
            ranges[0, 2, 1] = 10
        ranges[1, 0] = 3, 200
        dcf.update_model(device(x), label, device(rates), device(ranges), model, 0.2, rule)
        for target, online in enumerate(filters):
            if not ((lost and target == 1) or (skipped and target == 0)):
                online.update(x[target].astype(complex))
        want = np.stack(
            [online.response_f(zt[None].astype(complex))[0] for online, zt in zip(filters, z)]
        )
        response_f = dcf.respond(model.model_f, device(z), model.gain_f)
        assert relative_error(response_f, want) < EXACT[dtype]


@DTYPES
@pytest.mark.parametrize("n, d, bins", SHAPES)
def test_the_layer_and_its_gradients(device, rng, n, d, bins, dtype):
    """A random label, which is not real in the Fourier domain: it shows a wrong conjugate."""
    x, z, y, dg = (
        complex_numbers(rng, s, dtype) for s in ((n, d, *bins), (n, d, *bins), bins, (n, *bins))
    )
    response_f, energy = dcf.dcf_forward(device(x), device(z), device(y), 0.3)
    wx, wz, wy, wdg = double(x, z, y, dg)
    want_energy = array_dcf.template_energy(wx, 0.3)
    want_filter = array_dcf.learn_filter(wx, wy, 0.3)
    want_response = array_dcf.correlate(want_filter, wz)
    assert relative_error(response_f, want_response) < EXACT[dtype]
    assert relative_error(energy, want_energy[:, 0]) < EXACT[dtype]

    dx, dz = dcf.dcf_backward(device(dg), device(x), device(z), device(y), response_f, energy)
    by_template = array_dcf.template_gradient_f(wdg, wx, wz, wy, want_response, want_energy)
    by_conjugate = array_dcf.template_conj_gradient_f(wdg, wx, want_response, want_energy)
    assert relative_error(dx, by_conjugate + by_template.conj()) < EXACT[dtype]
    assert relative_error(dz, array_dcf.search_gradient_f(wdg, want_filter)) < EXACT[dtype]


@pytest.mark.parametrize("shape, limits", [((9, 11), (4, 5)), ((10, 7), (4, 3))])
def test_the_whole_layer_from_features_to_gradients(device, rng, shape, limits):
    """Eqs. 2-11, transforms and loss included, by kernels alone, against `ops.dcf`."""
    band, tables = make_band(shape, limits, np.float64), dft.make_tables(shape, limits, np.float64)
    template, search = rng.standard_normal((2, 3, 4, *shape))
    label = rng.standard_normal(shape)
    label_f = rfft2(label, band)
    response, cache = array_dcf.dcf_forward(template, search, label_f, 0.1, band)
    _, loss_cache = response_loss_forward(response, label)
    dtemplate, dsearch = array_dcf.dcf_backward(response_loss_backward(loss_cache), cache)

    template_f, search_f = dft.rfft2(device(template), tables), dft.rfft2(device(search), tables)
    response_f, energy = dcf.dcf_forward(template_f, search_f, device(label_f), 0.1)
    got = dft.irfft2(response_f, tables)
    assert relative_error(got, response) < 1e-13
    _, dresponse = dcf.response_loss(got, device(label))
    gradients = dcf.dcf_backward(
        dft.rfft2(dresponse, tables), template_f, search_f, device(label_f), response_f, energy
    )
    assert relative_error(dft.irfft2(gradients[0], tables), dtemplate) < 1e-13
    assert relative_error(dft.irfft2(gradients[1], tables), dsearch) < 1e-13


@DTYPES
@pytest.mark.parametrize("n, shape", [(3, (5, 7)), (1, (1, 1)), (2, (20, 17)), (0, (4, 4))])
def test_response_loss(device, rng, n, shape, dtype):
    for label_shape in (shape, (n, *shape)):
        response, label = (
            rng.standard_normal((n, *shape)).astype(dtype),
            rng.standard_normal(label_shape).astype(dtype),
        )
        losses, dresponse = dcf.response_loss(device(response), device(label))
        want, cache = response_loss_forward(*double(response, label))
        assert float(to_numpy(losses).sum()) == pytest.approx(want, rel=EXACT[dtype])
        assert relative_error(dresponse, response_loss_backward(cache)) < EXACT[dtype]
        shares = rng.uniform(0, 2, n).astype(dtype)
        shares[1:2] = 0
        losses, dresponse = dcf.response_loss(
            device(response), device(label), shares=device(shares)
        )
        residual = double(response)[0] - label
        by_share = shares.astype(float)[:, None, None]
        assert relative_error(losses, (by_share * residual**2).sum((1, 2))) < EXACT[dtype]
        assert relative_error(dresponse, 2 * by_share * residual) < EXACT[dtype]


@DTYPES
def test_response_loss_over_the_limit_has_no_gradient(device, rng, dtype):
    """The limit is for a map's own loss, whatever its share; the loss itself is told as it is."""
    response, label = rng.standard_normal((2, 3, 17, 19)).astype(dtype)
    response[1] *= 3
    shares = np.array([1.5, 0.01, 0.5], dtype)
    losses, dresponse = dcf.response_loss(
        device(response), device(label), shares=device(shares), limit=1000.0
    )
    residual = double(response)[0] - label
    sums = (residual**2).sum((1, 2))
    assert sums[1] > 1000 > max(sums[0], sums[2]) and 1.5 * sums[0] > 1000
    assert relative_error(losses, shares * sums) < EXACT[dtype]
    assert (
        relative_error(dresponse[::2], (2 * shares[:, None, None] * residual)[::2]) < EXACT[dtype]
    )
    assert not to_numpy(dresponse[1]).any()


def test_what_is_refused(device, rng):
    x, y, long_label, wide_label = (
        device(complex_numbers(rng, shape, dtype))
        for shape, dtype in (((2, 3, 4), "f4"), ((4,), "f4"), ((5,), "f4"), ((4,), "f8"))
    )
    for call, message in [
        (lambda: dcf.learn_filter(x.real.copy(), y, 0.1), "must be complex64 or complex128, got"),
        (lambda: dcf.learn_filter(x, long_label, 0.1), r"label_f must have shape \(4,\), got"),
        (lambda: dcf.dcf_forward(x, x, wide_label, 0.1), "label_f must be complex64, got"),
        (lambda: dcf.respond(x, x, y, scales=3), "scales"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            call()
