"""From a frame of any kind to the network's input: colour conversion and the crop of a scale pyramid."""

from typing import Any

import numpy as np


def to_bgr(frame: Any) -> np.ndarray:
    """A frame as uint8 BGR (H, W, 3), converted here and nowhere else.

    Takes uint8, uint16 (full range 0..65535: scale the values of a 10- or 12-bit camera up) or float (0..1) frames of
    shape (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA (alpha is dropped).  A uint8 BGR frame comes back as it is.
    Raises TypeError for another type or dtype, ValueError for another shape, an empty frame or NaN.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame must be a NumPy array, got {type(frame).__name__}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or frame.size == 0:
        raise ValueError(f"frame must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and not empty, got {frame.shape}")
    if frame.dtype == np.uint16:
        frame = (frame // 257).astype(np.uint8)
    elif frame.dtype in (np.float32, np.float64):
        if not np.isfinite(frame).all():
            raise ValueError("a float frame must be finite, got NaN or infinity")
        if frame.min() < 0 or frame.max() > 1:
            raise ValueError(
                f"a float frame must hold values from 0 to 1, got {frame.min():g} to {frame.max():g}; "
                "divide by 255, or convert it to uint8"
            )
        frame = np.rint(frame * 255).astype(np.uint8)
    elif frame.dtype != np.uint8:
        raise TypeError(f"frame must be uint8, uint16, float32 or float64, got {frame.dtype}")
    if frame.shape[2] == 1:
        return np.repeat(frame, 3, axis=2)
    return frame[:, :, :3]


def _taps(start: float, length: float, size: int, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear interpolation along one axis: two source indices and two weights for each of `size` output pixels.

    Output pixel j samples start + j * length / (size - 1).  A tap outside 0 .. limit - 1 gets weight 0.
    """
    position = start + np.arange(size) * (length / (size - 1))
    low = np.floor(position)
    high_weight = position - low
    low_weight = np.where((low >= 0) & (low < limit), 1 - high_weight, 0).astype(np.float32)
    high_weight = np.where((low >= -1) & (low < limit - 1), high_weight, 0).astype(np.float32)
    low_index = np.clip(low, 0, limit - 1).astype(np.intp)
    high_index = np.clip(low + 1, 0, limit - 1).astype(np.intp)
    return low_index, high_index, low_weight, high_weight


def crop_patches(frame: np.ndarray, centre: Any, windows: np.ndarray, size: int, *, rounded: bool) -> np.ndarray:
    """Cut windows of several sizes around one centre and scale each to size x size pixels.

    frame: (H, W, 3) uint8; centre: (x, y) in pixels, 0-based; windows: (S, 2) widths and heights in pixels.
    Pixel (i, j) of a patch samples the frame at x = cx - w/2 + j w / (size - 1), likewise y, bilinearly, with zeros
    outside the frame; `rounded` rounds to whole grey levels, as an 8-bit image resampler does.
    Returns (S, 3, size, size) float32, 0..255, channels as in the frame.

    Interpolation is separable: rows first, of just the columns that are needed, then columns.
    Source: the crop of the released PyTorch code (rounded) and of the MATLAB codes (not rounded).
    """
    height, width = frame.shape[:2]
    patches = np.empty((len(windows), 3, size, size), np.float32)
    for patch, (window_w, window_h) in zip(patches, windows, strict=True):
        x0, x1, wx0, wx1 = _taps(centre[0] - window_w / 2, window_w, size, width)
        y0, y1, wy0, wy1 = _taps(centre[1] - window_h / 2, window_h, size, height)
        left = x0[0]
        strip = frame[:, left : x1[-1] + 1]
        rows = strip[y0] * wy0[:, None, None]
        rows += strip[y1] * wy1[:, None, None]
        pixels = rows[:, x0 - left] * wx0[:, None]
        pixels += rows[:, x1 - left] * wx1[:, None]
        if rounded:
            np.rint(pixels, out=pixels)
        patch[...] = pixels.transpose(2, 0, 1)
    return patches
