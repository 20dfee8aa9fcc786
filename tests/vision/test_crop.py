"""Crop, frame conversion, Gaussian label, Hann window."""

import cv2
import naive
import numpy as np
import pytest

from dcfnet_np.vision.crop import Cropper, crop_patches, make_taps, to_bgr, window_taps
from dcfnet_np.vision.windows import gaussian_label, hann

# centre and window: inside, larger than the frame, across a corner, outside, one pixel, thin
CROPS = [
    ((20.3, 15.7), (12.0, 9.5)),
    ((20.0, 15.0), (90.0, 70.0)),
    ((1.5, 0.25), (20.0, 12.0)),
    ((-30.0, 80.0), (10.0, 10.0)),
    ((10.5, 10.5), (1.0, 1.0)),
    ((12.0, 9.0), (3.0, 40.0)),
]


@pytest.fixture
def frame(rng):
    return rng.integers(0, 256, (31, 42, 3), np.uint8)


@pytest.mark.parametrize("centre, window", CROPS)
def test_crop_is_its_definition(frame, centre, window):
    patch = crop_patches(frame, centre, np.array([window]), 11, rounded=False)
    assert patch.dtype == np.float32 and patch.shape == (1, 3, 11, 11)
    np.testing.assert_allclose(patch[0], naive.crop(frame, centre, window, 11), atol=1e-3)


@pytest.mark.parametrize("centre, window", CROPS)
def test_rounded_crop_is_opencv_s(frame, centre, window):
    """cv2.warpAffine by the matrix of the released PyTorch code, but for ties of rounding."""
    size = 25
    x0, y0 = centre[0] - window[0] / 2, centre[1] - window[1] / 2
    a, b = (size - 1) / window[0], (size - 1) / window[1]
    matrix = np.array([[a, 0, -a * x0], [0, b, -b * y0]])
    expected = cv2.warpAffine(frame, matrix, (size, size), borderMode=cv2.BORDER_CONSTANT)
    (patch,) = crop_patches(frame, centre, np.array([window]), size, rounded=True)
    assert (patch == np.rint(patch)).all()
    difference = abs(patch.transpose(1, 2, 0) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.03


@pytest.mark.parametrize(
    "centre, length, inside",
    [
        (5.0, 10.0, range(11)),  # at 0, 1, .. 10
        (5.25, 10.0, range(10)),  # .25 .. 10.25
        (4.75, 10.0, range(1, 11)),
        (0.0, 20.0, range(5, 11)),  # -10, -8, .. 10
        (10.0, 20.0, range(6)),
        (5.0, 100.0, range(5, 6)),
        (-7.0, 10.0, range(11, 11)),  # before all pixels
        (17.0, 10.0, range(0)),  # behind them
    ],
)
def test_which_output_pixels_lie_inside_the_frame(centre, length, inside):
    """Of 11 that sample 11 pixels, 0 .. 10."""
    taps = make_taps([centre, 5.0], np.array([length, 10.0]), 11, 11)
    assert range(*taps.inside[0]) == inside and tuple(taps.inside[1]) == (0, 11)
    for j in inside:
        assert taps.weights[0, :, j].sum() == 1


def test_frames_of_every_kind(rng):
    bgr = rng.integers(0, 256, (5, 4, 3), np.uint8)
    gray = bgr[..., 0]
    assert to_bgr(bgr) is bgr or np.shares_memory(to_bgr(bgr), bgr)
    np.testing.assert_array_equal(to_bgr(gray), np.repeat(gray[..., None], 3, 2))
    np.testing.assert_array_equal(to_bgr(gray[..., None]), to_bgr(gray))
    np.testing.assert_array_equal(to_bgr(np.dstack([bgr, gray])), bgr)


# Values of 0 .. 65535, and the level of 256 that is nearest to 255 v / 65535.
LEVELS = {
    0: 0, 1: 0, 128: 0, 129: 1, 255: 1, 256: 1, 257: 1, 385: 1, 386: 2, 20000: 78, 32767: 127,
    32768: 128, 40000: 156, 65278: 254, 65406: 254, 65407: 255, 65535: 255,
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_deep_frames_are_rounded_to_the_nearest_level(rng, dtype, channels):
    values = np.array(list(LEVELS))[rng.integers(0, len(LEVELS), (7, 5, channels or 1))]
    frame = (values if dtype[1] == "u" else values / 65535).astype(dtype)
    frame = frame[..., 0] if channels is None else frame
    before = frame.copy()
    bgr = to_bgr(frame)
    expected = np.vectorize(LEVELS.get)(values)
    expected = expected[..., :3] if channels in (3, 4) else np.repeat(expected, 3, axis=2)
    assert bgr.dtype == np.uint8
    np.testing.assert_array_equal(bgr, expected)
    np.testing.assert_array_equal(frame, before)
    # no copy of its own
    np.testing.assert_array_equal(to_bgr(frame[::-1, ::2]), expected[::-1, ::2])


@pytest.mark.parametrize("rounded", [False, True])
def test_one_cropper_for_frames_of_one_area_and_other_shapes(rng, rounded):
    """Its memory is made for the first frame: a turned frame has as many pixels, in other rows."""
    crop, size, windows = Cropper(11, rounded), 11, np.array([[25.0, 13.0]])
    for height, width in [(12, 16), (16, 12), (12, 16), (8, 24), (24, 8)]:
        frame = rng.integers(0, 256, (height, width, 3), np.uint8)
        down, across = window_taps(frame.shape, (width / 2 + 0.3, height / 2 - 0.4), windows, size)
        padded = np.pad(frame, ((40, 40), (40, 40), (0, 0))).astype(float)
        x = width / 2 + 0.3 - 12.5 + np.arange(size) * 2.5 + 40
        y = height / 2 - 0.4 - 6.5 + np.arange(size) * 1.3 + 40
        (i, j), (u, v) = (y.astype(int), x.astype(int)), (y % 1, x % 1)
        expected = sum(
            np.multiply.outer(a, b)[..., None] * padded[np.ix_(i + di, j + dj)]
            for di, a in ((0, 1 - u), (1, u))
            for dj, b in ((0, 1 - v), (1, v))
        )
        got = crop(frame, down, across, 0).transpose(0, 2, 1)
        np.testing.assert_allclose(
            got, np.rint(expected) if rounded else expected, atol=1.01 if rounded else 1e-3
        )


WRONG = {
    ValueError: [
        np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8),
        np.full((4, 4), np.nan), np.full((4, 4), 1.001), np.full((4, 4), -0.001),
        np.full((4, 4), np.inf, np.float32),
    ],
    TypeError: [
        np.zeros((4, 4, 3), np.int32), np.zeros((4, 4), np.int16), np.zeros((4, 4), np.uint32),
        np.zeros((4, 4), np.float16), np.zeros((4, 4), bool), None, "frame.png",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "frame"), [(key, frame) for key in WRONG for frame in WRONG[key]]
)
def test_what_is_no_frame(frame, error):
    with pytest.raises(error, match="frame"):
        to_bgr(frame)


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (125, 121)])
def test_label_peaks_at_the_origin_and_wraps(shape):
    label = gaussian_label(shape, 2.0, np.float64)
    assert label[0, 0] == 1 and label.argmax() == 0
    for row, column in [(1, 0), (0, 2), (2, 1)]:
        if row < (shape[0] + 1) // 2 and column < (shape[1] + 1) // 2:
            expected = np.exp(-(row**2 + column**2) / 8)
            assert label[row, column] == pytest.approx(expected)
            assert label[-row, -column] == pytest.approx(expected)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_label(shape, 0.0)


def test_hann_window():
    window = hann((5, 7))
    assert window.dtype == np.float32 and window[2, 3] == 1
    assert not window[0].any() and not window[:, -1].any()
