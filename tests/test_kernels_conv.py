"""conv.cu against dcfnet_np.ops.conv."""

import numpy as np
import pytest
from kernel_device import device, full_size_device, relative_error  # noqa: F401

from dcfnet_np.kernels import conv
from dcfnet_np.ops.conv import conv2d_backward, conv2d_forward
from dcfnet_np.ops.lrn import lrn_forward

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}
# N, C, H, W, O, padding, dilation: no multiple of a tile, more than one tile, less than one
SHAPES = [
    pytest.param((2, 3, 7, 35, 5, 1, 1), id="3-channels"),
    pytest.param((1, 6, 11, 9, 33, 0, 1), id="padding-0"),
    pytest.param((1, 5, 9, 10, 4, 2, 2), id="dilation-2"),
    pytest.param((2, 9, 6, 7, 34, 1, 2), id="dilation-2-padding-1"),
    pytest.param((1, 1, 3, 3, 1, 0, 1), id="one-pixel"),
    pytest.param((1, 1, 1, 1, 1, 1, 1), id="one-element"),
    pytest.param((1, 2, 4, 5, 2, 3, 1), id="padding-3"),
    pytest.param((0, 3, 6, 6, 8, 1, 1), id="no-image"),
]


def inputs(rng, shape, dtype):
    n, c, h, w, o, padding, dilation = shape
    oh, ow = conv.output_shape(h, w, padding, dilation)
    arrays = (n, c, h, w), (o, c, 3, 3), (o,), (n, o, oh, ow)
    return [rng.standard_normal(size).astype(dtype) for size in arrays], {
        "padding": padding,
        "dilation": dilation,
    }


def magnitude(x, w, b, dy, options):
    """What the sums would be without cancellation: forward, and the gradients to x, w and b."""
    y, cache = conv2d_forward(abs(x), abs(w), abs(b), **options)
    return y, *conv2d_backward(abs(dy), cache)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(device, rng, shape, dtype):  # noqa: F811
    (x, w, b, dy), options = inputs(rng, shape, dtype)
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]
    want, _ = conv2d_forward(*wide[:3], **options)
    scale = magnitude(*wide, options)[0]
    y = conv.forward(device(x), device(w), device(b), **options)
    assert y.dtype == dtype
    assert relative_error(y, want, scale) < TOLERANCE[dtype]
    y = conv.forward(device(x), device(w), device(b), relu=True, **options)
    assert relative_error(y, np.maximum(want, 0), scale) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(device, rng, shape, dtype):  # noqa: F811
    (x, w, b, dy), options = inputs(rng, shape, dtype)
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]
    _, cache = conv2d_forward(*wide[:3], **options)
    dx, dw, db = conv2d_backward(wide[3], cache)
    _, dx_scale, dw_scale, db_scale = magnitude(*wide, options)
    got = conv.input_gradient(device(dy), device(w), x.shape[2:], **options)
    assert relative_error(got, dx, dx_scale) < TOLERANCE[dtype]
    got_w, got_b = conv.weight_gradient(device(dy), device(x), **options)
    assert relative_error(got_w, dw, dw_scale) < TOLERANCE[dtype]
    assert relative_error(got_b, db, db_scale) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("outputs", [1, 7, 32])
def test_forward_with_normalisation(device, rng, dtype, windowed, outputs):  # noqa: F811
    (x, w, b, _), options = inputs(rng, (2, 5, 9, 35, outputs, 1, 1), dtype)
    window = rng.standard_normal((9, 35)).astype(dtype) if windowed else None
    wide = [a.astype(np.float64) for a in (x, w, b)]
    want = lrn_forward(conv2d_forward(*wide, **options)[0], k=1.5, alpha=0.3)[0] * (
        window if windowed else 1
    )
    normalise = conv.Normalise(1.5, 0.3, device(window) if windowed else None)
    y = conv.forward(device(x), device(w), device(b), normalise=normalise, **options)
    assert y.dtype == dtype
    assert relative_error(y, want) < 4 * TOLERANCE[dtype]


def test_gradient_through_a_relu(device, rng):  # noqa: F811
    (x, w, b, dy), options = inputs(rng, (2, 6, 9, 7, 3, 1, 1), np.float64)
    x = np.maximum(x, 0)
    _, cache = conv2d_forward(x, w, b, **options)
    want = conv2d_backward(dy, cache)[0] * (x > 0)
    got = conv.input_gradient(device(dy), device(w), x.shape[2:], relu_output=device(x), **options)
    assert relative_error(got, want) < 1e-14


@pytest.mark.parametrize(
    "tile", [conv.FEW, conv.LARGE, conv.Tile(2, 2, 4, 2, 2, 2), conv.Tile(3, 1, 16, 2, 1, 2, 1)]
)
def test_every_tile_is_correct(device, rng, tile):  # noqa: F811
    (x, w, b, _), options = inputs(rng, (1, 5, 10, 37, 33, 1, 1), np.float32)
    want, _ = conv2d_forward(*(a.astype(np.float64) for a in (x, w, b)), **options)
    assert (
        relative_error(conv.forward(device(x), device(w), device(b), tile=tile, **options), want)
        < 2e-6
    )


# of 18 tiles of pixels: some blocks have several, others none
@pytest.mark.parametrize("sums", [1, 7, 30])
@pytest.mark.parametrize("tile", [conv.WeightTile(4, 16, 2, 1, 2), conv.WeightTile(4, 32, 1, 2, 2)])
def test_every_weight_tile_is_correct(device, rng, tile, sums):  # noqa: F811
    (x, w, b, dy), options = inputs(rng, (3, 9, 5, 37, 33, 1, 1), np.float32)
    _, cache = conv2d_forward(*(a.astype(np.float64) for a in (x, w, b)), **options)
    _, dw, db = conv2d_backward(dy.astype(np.float64), cache)
    part = device(np.full((sums, 9 * 9 + 1, 33), np.nan, np.float32))
    got_w, got_b = conv.weight_gradient(device(dy), device(x), tile=tile, part=part, **options)
    assert relative_error(got_w, dw) < 2e-6
    assert relative_error(got_b, db) < 2e-6


def test_given_outputs_are_written(device, rng):  # noqa: F811
    (x, w, b, dy), options = inputs(rng, (1, 3, 5, 6, 4, 1, 1), np.float32)
    x, w, b, dy = map(device, (x, w, b, dy))
    packed, flipped = conv.pack(w), conv.pack(w, flipped=True)
    y, dx = (
        device(np.full(dy.shape, np.nan, np.float32)),
        device(np.full(x.shape, np.nan, np.float32)),
    )
    assert conv.forward(x, w, b, packed=packed, out=y, **options) is y
    assert conv.input_gradient(dy, w, x.shape[2:], packed=flipped, out=dx, **options) is dx
    part = device(np.full((conv.parts(dy.shape, 3), 28, 4), np.nan, np.float32))
    dw, db = conv.weight_gradient(dy, x, part=part, **options)
    again = conv.weight_gradient(dy, x, out=(dw, db), part=part, **options)
    assert again[0] is dw and again[1] is db
    for array in (y, dx, dw, db):
        assert not bool((array != array).any())


def test_full_size(full_size_device, rng):  # noqa: F811
    device = full_size_device  # noqa: F811
    (x, w, b, dy), options = inputs(rng, (1, 32, 125, 125, 32, 1, 1), np.float32)
    y, cache = conv2d_forward(*(a.astype(np.float64) for a in (x, w, b)), **options)
    dx, dw, db = conv2d_backward(dy.astype(np.float64), cache)
    assert relative_error(conv.forward(device(x), device(w), device(b), **options), y) < 2e-6
    assert (
        relative_error(conv.input_gradient(device(dy), device(w), (125, 125), **options), dx) < 2e-6
    )
    got = conv.weight_gradient(device(dy), device(x), **options)
    assert relative_error(got[0], dw) < 2e-6
    assert relative_error(got[1], db) < 2e-6


def test_what_is_refused(device, rng):  # noqa: F811
    (x, w, b, dy), _ = inputs(rng, (2, 3, 6, 7, 4, 1, 1), np.float32)
    x, w, b, dy = map(device, (x, w, b, dy))
    with pytest.raises(ValueError, match="forward: x must be C-contiguous"):
        conv.forward(x[:, :, :, ::2], w, b)
    with pytest.raises(
        ValueError, match=r"forward: x must have shape \(any, 3, any, any\), got \(2, 3, 6\)"
    ):
        conv.forward(x[..., 0], w, b)
    with pytest.raises(TypeError, match="forward: w must be float32, got float64"):
        conv.forward(x, w.astype(np.float64), b)
    with pytest.raises(TypeError, match="forward: x must be float32 or float64, got int32"):
        conv.forward(x.astype(np.int32), w, b)
    with pytest.raises(TypeError, match="forward: w must be an array on the GPU, got list"):
        conv.forward(x, [[1.0]], b)
    with pytest.raises(ValueError, match="forward: a 3x3 kernel with dilation 4"):
        conv.forward(x, w, b, dilation=4)
    with pytest.raises(
        ValueError, match=r"input_gradient: dy must have shape \(any, 4, 6, 8\), got \(2, 4, 6, 7\)"
    ):
        conv.input_gradient(dy, w, (6, 8))
    with pytest.raises(ValueError, match=r"weight_gradient: dy must have shape \(2, any, 4, 5\)"):
        conv.weight_gradient(dy, x, padding=0)
    with pytest.raises(
        ValueError,
        match="normalise takes no relu, no tf32 and at most 32 outputs, got True, False and 4",
    ):
        conv.forward(x, w, b, relu=True, normalise=conv.Normalise())
    with pytest.raises(ValueError, match=r"forward: window must have shape \(6, 7\), got \(7, 6\)"):
        window = device(np.ones((7, 6), np.float32))
        conv.forward(x, w, b, normalise=conv.Normalise(window=window))
    with pytest.raises(ValueError, match=r"forward: out must have shape"):
        conv.forward(x, w, b, out=x)
