"""Winograd's transforms against their matrices; the whole convolution against the plain one."""

import numpy as np
import pytest

from dcfnet_np.fast import winograd
from dcfnet_np.ops.conv import conv2d_backward, conv2d_forward


def test_the_three_matrices_make_a_convolution_of_three_taps(rng):
    d, g = rng.standard_normal(6), rng.standard_normal(3)
    y = winograd.OUTPUT @ ((winograd.KERNEL @ g) * (winograd.INPUT @ d))
    np.testing.assert_allclose(y, np.convolve(d, g[::-1], "valid"), atol=1e-13)


def test_transforms_spell_their_matrices(rng):
    tiles = winograd.to_tiles(rng.standard_normal((2, 3, 10)), 0)
    v, work = np.empty((6, *tiles.shape[1:])), np.empty(tiles.shape[1:])
    winograd.input_transform(tiles, v, work)
    d = np.stack(
        [
            tiles[3, :, :, :-1],
            *tiles[:, :, :, 1:],
            np.append(tiles[0, :, :, 2:], np.zeros((3, 2, 1)), 2),
        ]
    )
    np.testing.assert_allclose(v[..., 1:], np.tensordot(winograd.INPUT, d, 1), atol=1e-13)

    m = rng.standard_normal((6, 3, 2, 4))
    y = np.empty((4, 3, 2, 4))
    expected = np.tensordot(winograd.OUTPUT, m, 1)
    winograd.output_transform(m.copy(), y)
    np.testing.assert_allclose(y, expected, atol=1e-13)

    dm = np.empty_like(m)
    winograd.output_transform_backward(y, dm)
    np.testing.assert_allclose(dm, np.tensordot(winograd.OUTPUT.T, y, 1), atol=1e-12)


@pytest.mark.parametrize("width", [5, 8, 10, 11])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_convolution_is_the_plain_one(rng, width, dtype, tolerance):
    x = rng.standard_normal((3, 7, width)).astype(dtype)
    w = rng.standard_normal((5, 3, 3, 3)).astype(dtype)
    b = rng.standard_normal(5).astype(dtype)
    expected, cache = conv2d_forward(x[None], w, b)
    y, winograd_cache = winograd.conv2d_forward(x, w, b)
    np.testing.assert_allclose(y, expected[0], atol=tolerance * abs(expected).max())
    dy = rng.standard_normal(y.shape).astype(dtype)
    gradients = winograd.conv2d_backward(dy, winograd_cache)
    for got, wanted in zip(gradients, conv2d_backward(dy[None], cache), strict=True):
        np.testing.assert_allclose(
            got, wanted.reshape(got.shape), atol=tolerance * abs(wanted).max()
        )
