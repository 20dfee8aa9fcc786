"""Geometry of boxes: checks, conversions, overlap."""

import math

import numpy as np
import pytest

from dcfnet_np.vision.boxes import check_box, from_otb, iou, polygon_to_box, to_otb

FRAME = (100, 160, 3)  # height, width
NAN = math.nan
GOOD = [
    (10, 20, 30, 40), (159, 99, 1, 1), (20.25, 30.5, 1, 1.25), (-29, 20, 30, 40), (-5, -5, 30, 40),
    (150, 90, 30, 40), (0, 0, 160, 100), np.array([1, 2, 3, 4], np.float32),
]  # fmt: skip


@pytest.mark.parametrize("box", GOOD)
def test_check_box_takes(box):
    checked = check_box(box, FRAME, "init")
    assert checked == tuple(float(v) for v in box)
    assert all(type(v) is float for v in checked)


BAD = {
    "finite": [(NAN, 1, 2, 3), (1, 1, NAN, 3), (1, math.inf, 2, 3)],
    "at least 1 pixel wide and high": [(1, 1, 0, 3), (1, 1, -2, 3), (1, 1, 0.99, 3), (1, 1, 3, 0)],
    "overlap the frame": [(160, 10, 5, 5), (10, 100, 5, 5), (-5, 10, 5, 5), (10, -5, 5, 5)],
    "no larger than the frame .160x100": [(0, 0, 161, 50), (0, 0, 50, 101)],
    "four numbers": [(1, 2, 3), (1, 2, 3, 4, 5), "abcd", None],
}


@pytest.mark.parametrize(("message", "box"), [(key, box) for key in BAD for box in BAD[key]])
def test_check_box_refuses_in_one_line(box, message):
    with pytest.raises(ValueError, match=f"^Tracker.init: box must.*{message}") as caught:
        check_box(box, FRAME, "Tracker.init")
    assert "\n" not in str(caught.value)


def test_otb_shifts_the_corner_alone(rng):
    boxes = rng.normal(size=(5, 4))
    np.testing.assert_allclose(from_otb(boxes) - boxes, np.tile([-1, -1, 0, 0], (5, 1)), atol=1e-15)
    np.testing.assert_allclose(to_otb(from_otb(boxes)), boxes, atol=1e-15)


def test_polygon_to_box():
    rotated = [5, 1, 9, 4, 6, 8, 2, 5]
    np.testing.assert_array_equal(polygon_to_box([rotated, [NAN] * 8]), [[2, 1, 7, 7], [NAN] * 4])
    np.testing.assert_array_equal(polygon_to_box([3, 9, 1, 4, 8, 5]), [1, 4, 7, 5])
    for numbers in (4, 7):
        with pytest.raises(ValueError, match=r"6, 8, \.\.\. numbers"):
            polygon_to_box(list(range(numbers)))


def test_iou_by_hand():
    others = [(0, 0, 4, 4), (2, 0, 4, 4), (4, 0, 4, 4), (1, 1, 2, 2), (1, 1, 0, 0), (NAN,) * 4]
    np.testing.assert_allclose(iou((0, 0, 4, 4), others), [1, 8 / 24, 0, 4 / 16, 0, NAN])
    assert iou((1, 1, 0, 0), (1, 1, 0, 0)) == 0


def test_iou_against_counted_pixels(rng):
    for _ in range(50):
        a, b = (np.concatenate([rng.integers(0, 12, 2), rng.integers(1, 12, 2)]) for _ in range(2))
        masks = np.zeros((2, 30, 30), bool)
        for mask, (x, y, w, h) in zip(masks, (a, b)):
            mask[y : y + h, x : x + w] = True
        assert iou(a, b) == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
