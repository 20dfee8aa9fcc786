"""conv.cu against dcfnet_np.ops.conv."""

import numpy as np
import pytest
from kernel_device import DTYPES, double, relative_error

from dcfnet_np.kernels import conv
from dcfnet_np.ops.conv import conv2d_backward, conv2d_forward
from dcfnet_np.ops.lrn import lrn_forward

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}
# N, C, H, W, O, padding, dilation: no multiple of a tile, more than one tile, less than one
SHAPES = {
    "3-channels": (2, 3, 7, 35, 5, 1, 1),
    "padding-0": (1, 6, 11, 9, 33, 0, 1),
    "dilation-2": (1, 5, 9, 10, 4, 2, 2),
    "dilation-2-padding-1": (2, 9, 6, 7, 34, 1, 2),
    "one-pixel": (1, 1, 3, 3, 1, 0, 1),
    "one-element": (1, 1, 1, 1, 1, 1, 1),
    "padding-3": (1, 2, 4, 5, 2, 3, 1),
    "no-image": (0, 3, 6, 6, 8, 1, 1),
}


def inputs(rng, shape, dtype=np.float32):
    """[x, w, b, dy] and the options of a convolution."""
    n, c, h, w, o, padding, dilation = shape
    oh, ow = conv.output_shape(h, w, padding, dilation)
    arrays = (n, c, h, w), (o, c, 3, 3), (o,), (n, o, oh, ow)
    options = {"padding": padding, "dilation": dilation}
    return [rng.standard_normal(size).astype(dtype) for size in arrays], options


def defined(x, w, b, dy, options):
    """y, dx, dw and db by `ops`, in double precision."""
    x, w, b, dy = double(x, w, b, dy)
    y, cache = conv2d_forward(x, w, b, **options)
    return y, *conv2d_backward(dy, cache)


def magnitudes(x, w, b, dy, options):
    """What these sums would be without cancellation."""
    return defined(abs(x), abs(w), abs(b), abs(dy), options)


@DTYPES
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_forward_and_backward(device, rng, shape, dtype):
    arrays, options = inputs(rng, shape, dtype)
    want, scales = defined(*arrays, options), magnitudes(*arrays, options)
    x, w, b, dy = map(device, arrays)
    got = (
        conv.forward(x, w, b, **options),
        conv.input_gradient(dy, w, x.shape[2:], **options),
        *conv.weight_gradient(dy, x, **options),
    )
    assert got[0].dtype == dtype
    for value, expected, scale in zip(got, want, scales):
        assert relative_error(value, expected, scale) < TOLERANCE[dtype]
    y = conv.forward(x, w, b, relu=True, **options)
    assert relative_error(y, np.maximum(want[0], 0), scales[0]) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("outputs", [1, 7, 32])
def test_forward_with_normalisation(device, rng, dtype, windowed, outputs):
    (x, w, b, dy), options = inputs(rng, (2, 5, 9, 35, outputs, 1, 1), dtype)
    window = rng.standard_normal((9, 35)).astype(dtype) if windowed else None
    want = lrn_forward(defined(x, w, b, dy, options)[0], k=1.5, alpha=0.3)[0]
    normalise = conv.Normalise(1.5, 0.3, device(window) if windowed else None)
    y = conv.forward(device(x), device(w), device(b), normalise=normalise, **options)
    assert y.dtype == dtype
    assert relative_error(y, want * (window if windowed else 1)) < 4 * TOLERANCE[dtype]


def test_gradient_through_a_relu(device, rng):
    (x, w, b, dy), options = inputs(rng, (2, 6, 9, 7, 3, 1, 1), np.float64)
    x = np.maximum(x, 0)
    want = defined(x, w, b, dy, options)[1] * (x > 0)
    got = conv.input_gradient(device(dy), device(w), x.shape[2:], relu_output=device(x), **options)
    assert relative_error(got, want) < 1e-14


def test_every_tile_is_correct(device, rng, monkeypatch):
    """Many blocks have two rows of pixels a thread."""
    monkeypatch.setattr(conv, "MANY_BLOCKS", 1)
    arrays, options = inputs(rng, (1, 5, 10, 37, 33, 1, 1))
    x, w, b, _ = map(device, arrays)
    y = conv.forward(x, w, b, **options)
    assert relative_error(y, defined(*arrays, options)[0]) < 2e-6


# of 18 tiles of pixels: some blocks have several, others none
@pytest.mark.parametrize("outputs, sums", [(33, 1), (33, 7), (32, 30)])
def test_every_weight_tile_is_correct(device, rng, outputs, sums):
    arrays, options = inputs(rng, (3, 9, 5, 37, outputs, 1, 1))
    x, _, _, dy = map(device, arrays)
    part = device(np.full((sums, 9 * 9 + 1, outputs), np.nan, np.float32))
    got = conv.weight_gradient(dy, x, part=part, **options)
    for value, want in zip(got, defined(*arrays, options)[2:]):
        assert relative_error(value, want) < 2e-6


def test_given_outputs_are_written(device, rng):
    arrays, options = inputs(rng, (1, 3, 5, 6, 4, 1, 1))
    x, w, b, dy = map(device, arrays)
    packed, flipped = conv.pack(w), conv.pack(w, flipped=True)
    y, dx = (device(np.full(a.shape, np.nan, np.float32)) for a in (dy, x))
    assert conv.forward(x, w, b, plan=conv.Plan(packed, y), **options) is y
    assert conv.input_gradient(dy, w, x.shape[2:], plan=conv.Plan(flipped, dx), **options) is dx
    part = device(np.full((conv.parts(dy.shape, 3), 28, 4), np.nan, np.float32))
    dw, db = conv.weight_gradient(dy, x, part=part, **options)
    again = conv.weight_gradient(dy, x, out=(dw, db), part=part, **options)
    assert again[0] is dw and again[1] is db
    for array in (y, dx, dw, db):
        assert not bool((array != array).any())


def test_full_size(full_size_device, rng):
    arrays, options = inputs(rng, (1, 32, 125, 125, 32, 1, 1))
    x, w, b, dy = map(full_size_device, arrays)
    got = (
        conv.forward(x, w, b, **options),
        conv.input_gradient(dy, w, (125, 125), **options),
        *conv.weight_gradient(dy, x, **options),
    )
    for value, want in zip(got, defined(*arrays, options)):
        assert relative_error(value, want) < 2e-6


REFUSED = {
    "forward: x must be C-contiguous": lambda x, w, b, dy: conv.forward(x[:, :, :, ::2], w, b),
    r"forward: x must have shape \(any, any, any, any\), got \(2, 3, 6\)": lambda x, w, b, dy: (
        conv.forward(x[..., 0].copy(), w, b)
    ),
    "forward: w must be float32, got float64": lambda x, w, b, dy: conv.forward(
        x, w.astype(np.float64), b
    ),
    "forward: a 3x3 kernel with dilation 4": lambda x, w, b, dy: conv.forward(x, w, b, dilation=4),
    r"input_gradient: dy must have shape \(any, any, 6, 8\)": lambda x, w, b, dy: (
        conv.input_gradient(dy, w, (6, 8))
    ),
    r"weight_gradient: dy must have shape \(2, any, 4, 5\)": lambda x, w, b, dy: (
        conv.weight_gradient(dy, x, padding=0)
    ),
    "normalise takes no relu, no tf32 and at most 32": lambda x, w, b, dy: conv.forward(
        x, w, b, relu=True, normalise=conv.Normalise()
    ),
    "forward: out must have shape": lambda x, w, b, dy: conv.forward(
        x, w, b, plan=conv.Plan(out=x)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(device, rng, message):
    arrays, _ = inputs(rng, (2, 3, 6, 7, 4, 1, 1))
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message](*map(device, arrays))
