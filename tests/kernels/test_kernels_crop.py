"""crop.cu against vision.crop, on the CPU stand-in and on a GPU."""

import numpy as np
import pytest
from kernel_device import DTYPES

from dcfnet_np.backend import to_numpy
from dcfnet_np.kernels.crop import crop_patches, empty_ranges
from dcfnet_np.vision import crop as array_crop

MEAN = (104.0, 117.0, 123.0)
# centre x, y, width, height: inside, larger than the frame, partly and wholly outside, thin, tiny,
# far
WINDOWS = [
    (20.3, 15.7, 12.0, 9.5),
    (20.0, 15.0, 90.0, 70.0),
    (0.25, 29.9, 11.1, 30.0),
    (-40.0, 10.0, 20.0, 20.0),
    (17.5, 12.5, 0.5, 33.3),
    (5.0, 5.0, 1.0, 1.0),
    (1e7, -1e7, 8.0, 8.0),
    (19.0, 14.0, 38.0, 28.0),
    (20.0, 15.0, 40.0, 30.0),  # from the first pixel's middle to the last one's
]


def reference(frame, size, rounded, reverse, dtype, mean=MEAN):
    patches = np.concatenate(
        [
            array_crop.crop_patches(frame, w[:2], np.array([w[2:]]), size, rounded=rounded)
            for w in WINDOWS
        ]
    )
    patches = patches[:, ::-1] if reverse else patches
    return patches.astype(dtype) - np.array(mean, dtype).reshape(3, 1, 1)


def ranges_inside(patches, frame):
    """Smallest and largest value of each colour, of the pixels that lie within the frame."""
    ranges = np.tile([np.inf, 0.0], (len(patches), 3, 1))
    height, width = frame.shape[:2]
    for patch, (cx, cy, w, h), (low, high) in zip(patches, WINDOWS, ranges.transpose(0, 2, 1)):
        size = patch.shape[1]
        for i, j in np.ndindex(size, size):
            x, y = cx - w / 2 + j * (w / (size - 1)), cy - h / 2 + i * (h / (size - 1))
            if 0 <= x <= width - 1 and 0 <= y <= height - 1:
                pixel = patch[:, i, j]
                low[...], high[...] = np.minimum(low, pixel), np.maximum(high, pixel)
    return ranges


@pytest.mark.parametrize("rounded", [True, False])
@DTYPES
@pytest.mark.parametrize("size, reverse", [(33, False), (8, True)])
def test_to_the_bit(device, rng, size, reverse, dtype, rounded):
    frame = rng.integers(0, 256, (31, 41, 3), np.uint8)
    ranges = empty_ranges(len(WINDOWS))
    got = crop_patches(
        device(frame), device(np.array(WINDOWS)), device(np.array(MEAN, dtype)), size,
        rounded=rounded, reverse=reverse, ranges=ranges,
    )  # fmt: skip
    want = reference(frame, size, rounded, reverse, dtype)
    pixels = reference(frame, size, rounded, reverse, dtype, mean=(0, 0, 0))
    np.testing.assert_array_equal(to_numpy(ranges), ranges_inside(pixels, frame))
    assert got.dtype == dtype and got.shape == want.shape
    assert (to_numpy(got) == want).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2)])
def test_tiny_frames(device, rng, shape):
    frame = rng.integers(0, 256, (*shape, 3), np.uint8)
    windows, mean = np.array([(0.0, 0.0, 3.0, 3.0), (1.0, 1.0, 9.0, 2.0)]), np.zeros(3, np.float32)
    got = to_numpy(crop_patches(device(frame), device(windows), device(mean), 9, rounded=False))
    for patch, window in zip(got, windows):
        want = array_crop.crop_patches(frame, window[:2], window[None, 2:], 9, rounded=False)[0]
        assert (patch == want).all()


def test_no_windows_and_a_given_output(device, rng):
    frame, mean = device(rng.integers(0, 256, (6, 7, 3), np.uint8)), device(np.zeros(3, np.float32))
    none = crop_patches(frame, device(np.empty((0, 4))), mean, 5, rounded=True)
    assert none.shape == (0, 3, 5, 5)
    out = device(np.full((1, 3, 5, 5), np.nan, np.float32))
    windows = device(np.array([[3.0, 3.0, 4.0, 4.0]]))
    assert crop_patches(frame, windows, mean, 5, rounded=True, out=out) is out
    assert (to_numpy(out) == to_numpy(crop_patches(frame, windows, mean, 5, rounded=True))).all()


def test_what_is_refused(device):
    frame, windows = device(np.zeros((4, 4, 3), np.uint8)), device(np.ones((2, 4)))
    mean = device(np.zeros(3, np.float32))
    for message, (an_image, some_windows, size) in {
        "frame must be uint8, got float64": (device(np.zeros((4, 4, 3))), windows, 5),
        r"frame must have shape \(any, any, 3\)": (device(np.zeros((4, 4, 4), "u1")), windows, 5),
        "windows must be float64": (frame, device(np.ones((2, 4), np.float32)), 5),
        "size must be at least 2": (frame, windows, 1),
        "frame must not be empty": (device(np.zeros((0, 4, 3), np.uint8)), windows, 5),
    }.items():
        with pytest.raises((TypeError, ValueError), match=message):
            crop_patches(an_image, some_windows, mean, size, rounded=True)
