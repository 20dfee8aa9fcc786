"""conv_tf32.cu against dcfnet_np.ops.conv on factors rounded to TF32; its distance to float32."""

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu, relative_error
from test_kernels_conv import defined, inputs, magnitudes

from dcfnet_np import backend
from dcfnet_np.kernels import conv, conv_tf32

TF32 = conv.Plan(tf32=True)
EXACT = 4e-6  # of what the sums would be without cancellation, once the factors are rounded
ROUNDING = 2.0**-11  # the largest relative error of rounding to TF32
# N, C, H, W, O, padding, dilation: no multiple of a tile, more than one tile, less than one
SHAPES = {
    "9-channels": (2, 9, 7, 35, 5, 1, 1),
    "padding-0": (1, 3, 18, 9, 33, 0, 1),
    "dilation-2": (1, 11, 9, 40, 34, 2, 2),
    "35-channels": (1, 35, 5, 6, 7, 2, 2),
    "dilation-2-padding-1": (2, 17, 6, 7, 3, 1, 2),
    "one-element": (1, 1, 1, 1, 1, 1, 1),
    "no-image": (0, 8, 6, 6, 8, 1, 1),
}


def rounded(x):
    """The nearest TF32, ties away from zero."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def on_rounded_factors(x, w, b, dy, options):
    """y, dx, dw and db; the bias and its gradient are not rounded."""
    y, dx, dw, _ = defined(rounded(x), rounded(w), b, rounded(dy), options)
    return y, dx, dw, dy.sum((0, 2, 3), dtype=np.float64)


def test_rounding_by_hand():
    values = [1, 1 + 2**-11, 1 + 2**-12, -1 - 2**-11, 2**-130]
    wanted = [1, 1 + 2**-10, 1, -1 - 2**-10, 2**-130]
    assert (rounded(np.array(values)) == np.array(wanted, np.float32)).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_forward_and_backward(device, rng, shape):
    arrays, options = inputs(rng, shape)
    want, scales = on_rounded_factors(*arrays, options), magnitudes(*arrays, options)
    x, w, b, dy = map(device, arrays)
    got = (
        conv.forward(x, w, b, plan=TF32, **options),
        conv.input_gradient(dy, w, x.shape[2:], plan=TF32, **options),
        *conv.weight_gradient(dy, x, tf32=True, **options),
    )
    assert got[0].dtype == np.float32
    for value, expected, scale in zip(got, want, scales):
        assert relative_error(value, expected, scale) < EXACT
    y = conv.forward(x, w, b, plan=TF32, relu=True, **options)
    assert relative_error(y, np.maximum(want[0], 0), scales[0]) < EXACT


def test_gradient_through_a_relu(device, rng):
    (x, w, b, dy), options = inputs(rng, (1, 9, 9, 7, 10, 1, 1))
    x = np.maximum(x, 0)
    want = on_rounded_factors(x, w, b, dy, options)[1] * (x > 0)
    given = {"relu_output": device(x), "plan": TF32, **options}
    assert relative_error(conv.input_gradient(device(dy), device(w), (9, 7), **given), want) < 1e-5


# of 12 strips of pixels: one block has several, others have none
@pytest.mark.parametrize("sums", [1, 30])
def test_any_number_of_partial_sums(device, rng, sums):
    arrays, options = inputs(rng, (2, 40, 5, 37, 9, 1, 1))
    part = device(np.full((sums, 9 * 40 + 1, 9), np.nan, np.float32))
    x, dy = device(arrays[0]), device(arrays[3])
    got = conv.weight_gradient(dy, x, part=part, tf32=True, **options)[0]
    assert relative_error(got, on_rounded_factors(*arrays, options)[2]) < 1e-5


def test_the_error_of_tf32(full_size_device, rng):
    """A sum is off by at most 2^-10 of its factors' magnitudes' sum; in the mean by far less."""
    arrays, options = inputs(rng, (1, 64, 40, 40, 32, 0, 1))
    x, w, b, dy = map(full_size_device, arrays)
    got = (
        conv.forward(x, w, b, plan=TF32, **options),
        conv.input_gradient(dy, w, (40, 40), plan=TF32, **options),
        conv.weight_gradient(dy, x, tf32=True, **options)[0],
    )
    for value, want, scale in zip(got, defined(*arrays, options), magnitudes(*arrays, options)):
        difference = backend.to_numpy(value) - want
        assert np.all(np.abs(difference) <= 2.01 * ROUNDING * scale)
        relative = np.sqrt((difference**2).mean() / (want**2).mean())
        assert 5e-5 < relative < 5e-4  # about 2^-11.5: rounding happened, and no more than that


def test_what_is_refused(monkeypatch, rng):
    put = on_cpu(monkeypatch, cuda_on_cpu)
    x, w, b, dy = map(put, inputs(rng, (1, 8, 6, 7, 4, 1, 1))[0])
    with pytest.raises(TypeError, match="tf32 takes float32, got float64"):
        conv.forward(*(a.astype(np.float64) for a in (x, w, b)), plan=TF32)
    with pytest.raises(ValueError, match="normalise takes no relu, no tf32"):
        conv.forward(x, w, b, normalise=conv.Normalise(), plan=TF32)
    conv_tf32.check_device.cache_clear()
    monkeypatch.setattr(cuda_on_cpu.Device, "compute_capability", "75")
    message = "TF32 needs a GPU of compute capability 8.0 or newer, cuda:0 has 7.5: leave tf32 off"
    for call in (
        lambda: conv.forward(x, w, b, plan=TF32),
        lambda: conv.input_gradient(dy, w, (6, 7), plan=TF32),
        lambda: conv.weight_gradient(dy, x, tf32=True),
    ):
        with pytest.raises(backend.DeviceError, match=message):
            call()
