"""Geometry of boxes: checks, conversions, overlap.

A box is `(x, y, w, h)` in pixels: floats, (x, y) the top-left corner counted from 0, the centre at
(x + w/2, y + h/2).  OTB files count from 1: only `from_otb` and `to_otb` shift, and only the
readers and writers of such files call them.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]
OTB_ORIGIN = np.array([1.0, 1.0, 0.0, 0.0])


def check_box(box: Sequence[float], frame_shape: Sequence[int], where: str = "check_box") -> Box:
    """Return `box` as four Python floats, or raise ValueError that begins with `where`.

    box: (x, y, w, h), pixels, 0-based.  frame_shape: (height, width, ...).  A box may reach out of
    the frame, and may be as small as 1x1; it may not hold NaN or infinity, be thinner than a pixel,
    lie entirely outside the frame, or be wider or higher than the frame.
    """
    height, width = int(frame_shape[0]), int(frame_shape[1])
    try:
        # letters may be numbers too
        values = () if isinstance(box, str | bytes) else box
        x, y, w, h = (
            float("" if isinstance(value, str | bytes) else value)  # type: ignore[redundant-expr]
            for value in values
        )
    except (TypeError, ValueError, OverflowError):
        got = textwrap.shorten(repr(box), 80)
        raise ValueError(f"{where}: box must be four numbers x, y, w, h, got {got}") from None
    frame = f"the frame ({width}x{height} pixels)"
    wanted = ""
    if not all(map(math.isfinite, (x, y, w, h))):
        wanted = "be finite"
    elif w < 1 or h < 1:
        wanted = "be at least 1 pixel wide and high"
    elif w > width or h > height:
        wanted = f"be no larger than {frame}"
    elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
        wanted = f"overlap {frame}"
    if wanted:
        raise ValueError(f"{where}: box must {wanted}, got ({x:g}, {y:g}, {w:g}, {h:g})")
    return x, y, w, h


def from_otb(boxes: Any) -> np.ndarray:
    """OTB's 1-based corner to a 0-based one; boxes: (..., 4), the size does not change."""
    return np.asarray(boxes, float) - OTB_ORIGIN


def to_otb(boxes: Any) -> np.ndarray:
    """A 0-based corner to OTB's 1-based one; the inverse of `from_otb`."""
    return np.asarray(boxes, float) + OTB_ORIGIN


def polygon_to_box(polygon: Any) -> np.ndarray:
    """The smallest upright box around polygons x1, y1, ..., xk, yk: (..., 2k) -> (..., 4).

    The corner keeps the polygon's origin (0- or 1-based).  NaN stays NaN.
    """
    points = np.asarray(polygon, float)
    if points.ndim == 0 or points.shape[-1] < 6 or points.shape[-1] % 2:
        wanted = "6, 8, ... numbers in its last axis"
        raise ValueError(f"polygon_to_box: polygon must be {wanted}, got shape {points.shape}")
    points = points.reshape(*points.shape[:-1], -1, 2)
    low, high = points.min(axis=-2), points.max(axis=-2)
    return np.concatenate([low, high - low], axis=-1)


def iou(a: Any, b: Any) -> np.ndarray:
    """Overlap, area of the intersection over that of the union: (..., 4), (..., 4) -> (...).

    From 0 to 1.  Areas are continuous (w * h, no +1 a side).  Two boxes of no area overlap by 0.
    NaN gives NaN.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    intersection = np.maximum(high - low, 0.0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - intersection
    return np.where(union == 0, 0.0, intersection / np.where(union == 0, 1.0, union))
