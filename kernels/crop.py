"""Launch function of `crop.cu`: the windows of a frame, scaled to the network's input."""

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import blocks, launch, output, require, require_real

EMPTY_RANGE = (np.inf, 0.0)  # smallest and largest pixel of none: see ranges.cuh
EXPRESSIONS = tuple(
    f"crop<{ctype}, {rounded}>" for ctype in ("float", "double") for rounded in ("false", "true")
)


def crop_patches(
    frame: Array,
    windows: Array,
    mean: Array,
    size: int,
    *,
    rounded: bool,
    reverse: bool = False,
    out: Array | None = None,
    ranges: Array | None = None,
) -> Array:
    """Every window of `frame`, scaled to size x size, minus `mean`.

    It is `vision.crop.crop_patches` for many centres.  frame: (H, W, 3) uint8 BGR; windows: (P, 4)
    float64 rows of centre x, y, width, height in pixels, 0-based; mean: (3,) float32 or float64, in
    the order of the output's channels, which is the frame's or, with `reverse`, RGB.
    `rounded` rounds to whole grey levels.  `ranges`, if given, (P, 3, 2) float32, is widened by the
    smallest and largest value of each window's colours inside the frame; begin with `empty_ranges`.
    Returns (P, 3, size, size) of the mean's dtype, in `out` if given.
    """
    require(frame, "crop_patches: frame", np.uint8, (None, None, 3))
    require(windows, "crop_patches: windows", np.float64, (None, 4))
    ctype = require_real(mean, "crop_patches: mean", (3,))
    if size < 2:
        raise ValueError(f"crop_patches: size must be at least 2, got {size}")
    height, width, _ = frame.shape
    if height * width == 0:
        raise ValueError(f"crop_patches: frame must not be empty, got {frame.shape}")
    shape = (len(windows), 3, size, size)
    out = output(out, "crop_patches: out", mean.dtype, shape)
    ranges = empty_ranges(len(windows)) if ranges is None else ranges
    require(ranges, "crop_patches: ranges", np.float32, (len(windows), 3, 2))
    grid = blocks(size, 32), blocks(size, 8), len(windows)
    launch("crop.cu", f"crop<{ctype}, {str(rounded).lower()}>", grid, (32, 8),
           frame, windows, mean, out, ranges, height, width, size, int(reverse))  # fmt: skip
    return out


def empty_ranges(windows: int) -> Array:
    """The range of no pixel, which every pixel widens: (windows, 3, 2) float32 on this device."""
    return backend.cupy().asarray(np.tile(np.array(EMPTY_RANGE, np.float32), (windows, 3, 1)))
