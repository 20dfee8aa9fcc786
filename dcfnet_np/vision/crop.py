"""From a frame of any kind to the network's input: colours, and the crop of a scale pyramid."""

from typing import Any, NamedTuple

import numpy as np


def to_bgr(frame: Any) -> np.ndarray:
    """A frame as uint8 BGR (H, W, 3), converted here and nowhere else.

    Takes uint8, uint16 (full range 0..65535: scale the values of a 10- or 12-bit camera up) or
    float (0..1) frames of shape (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA (alpha is
    dropped).  A uint8 BGR frame comes back as it is; others are rounded to the nearest of 256
    levels.  Raises TypeError for another type or dtype, ValueError for another shape, an empty
    frame or NaN.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame must be a NumPy array, got {type(frame).__name__}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or frame.size == 0:
        wanted = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and not empty"
        raise ValueError(f"frame must be {wanted}, got {frame.shape}")
    dtype = frame.dtype.newbyteorder("=")
    if dtype == np.uint16:
        frame = ((frame + np.uint32(128)) // 257).astype(np.uint8)
    elif dtype in (np.float32, np.float64):
        if not np.isfinite(frame).all():
            raise ValueError("a float frame must be finite, got NaN or infinity")
        if frame.min() < 0 or frame.max() > 1:
            got = f"{frame.min():g} to {frame.max():g}"
            advice = "divide by 255, or convert it to uint8"
            raise ValueError(f"a float frame must hold values from 0 to 1, got {got}; {advice}")
        frame = np.rint(frame * 255).astype(np.uint8)
    elif dtype != np.uint8:
        raise TypeError(f"frame must be uint8, uint16, float32 or float64, got {frame.dtype}")
    if frame.shape[2] == 1:
        return np.repeat(frame, 3, axis=2)
    return frame[:, :, :3]


class Taps(NamedTuple):
    """Bilinear interpolation of S windows along one axis: n output pixels, each mixed from two."""

    indices: np.ndarray  # (S, 2, n) int32: the pixel before and the pixel behind its position
    weights: np.ndarray  # (S, 2, n) float32; 0 for a pixel outside the frame
    inside: np.ndarray  # (S, 2) int: first and one past last output pixel within 0 .. limit - 1


def make_taps(centres: Any, lengths: np.ndarray, size: int, limit: int) -> Taps:
    """Output pixel j of `size` samples centre - length / 2 + j * length / (size - 1).

    Of pixels 0 .. limit - 1.  centres: a number, or (S,), lengths: (S,), of the windows along this
    axis.
    """
    lengths = np.asarray(lengths, np.float64)[:, None]
    position = np.reshape(centres, (-1, 1)) - lengths / 2 + np.arange(size) * (lengths / (size - 1))
    # pixels further outside are as black, and have indices that fit
    np.clip(position, -1, limit, out=position)
    inside = np.stack([np.sum(position < 0, axis=1), np.sum(position <= limit - 1, axis=1)], axis=1)
    low = np.floor(position)
    indices = np.empty((len(lengths), 2, size), np.int32)
    indices[:, 0], indices[:, 1] = low, low + 1
    weight = np.empty(indices.shape, np.float32)
    weight[:, 1] = position - low
    weight[:, 0] = 1 - (position - low)
    weight *= (indices >= 0) & (indices < limit)
    return Taps(np.clip(indices, 0, limit - 1, out=indices), weight, inside)


class Cropper:
    """Cuts windows of several sizes out of a frame and scales each to size x size pixels.

    Pixel (i, j) of a patch samples the frame at x = cx - w/2 + j w / (size - 1), likewise y,
    bilinearly, with zeros outside the frame; only rows `rows` of a patch are made.  `rounded`
    rounds to whole grey levels, as an 8-bit image resampler does.  Interpolation is separable: rows
    first, of just the columns that are needed, then columns.
    Source: the crop of the released PyTorch code (rounded) and of the MATLAB codes (not rounded).

    Memory is made for the first frame and used again.  One object works for one thread.
    """

    def __init__(self, size: int, rounded: bool, rows: slice = slice(None)) -> None:
        self.rounded, self.rows = rounded, rows
        height = len(range(size)[rows])
        self._taken = np.empty((height, 3, 2 * size), np.float32)
        self._pixels = np.empty((height, 3, size), np.float32)
        self._frame_size = (0, 0)

    def __call__(self, frame: np.ndarray, down: Taps, across: Taps, number: int) -> np.ndarray:
        """Window `number` of the taps along both axes.  frame: (H, W, 3) uint8.

        Returns (rows, 3, size) float32, 0..255, rows before channels; the next call overwrites it.
        """
        n, (height, width, _) = len(self._pixels), frame.shape
        if (height, width) != self._frame_size:
            self._frame_size = height, width
            self._copy = np.empty(height * width * 3, np.uint8)
            self._bytes = np.empty(2 * n * width * 3, np.uint8)
            self._lines = np.empty(2 * n * width * 3, np.float32)
            self._planes = np.empty(n * width * 3, np.float32)
        columns, rows = across.indices[number], down.indices[number, :, self.rows]
        left, right = int(columns[0, 0]), int(columns[1, -1]) + 1
        top, bottom = int(rows[0, 0]), int(rows[1, -1]) + 1
        count = n * (right - left) * 3

        seen = frame[top:bottom, left:right]
        region = self._copy[: seen.size].reshape(seen.shape)
        region[...] = seen
        taken = self._bytes[: 2 * count].reshape(2 * n, -1, 3)
        np.take(region, (rows - top).reshape(-1), axis=0, out=taken, mode="clip")
        lines = self._lines[: 2 * count].reshape(2 * n, -1)
        lines[...] = taken.reshape(2 * n, -1)
        lines *= down.weights[number, :, self.rows].reshape(-1, 1)
        mixed = lines[:n]
        mixed += lines[n:]

        planes = self._planes[:count].reshape(n, 3, -1)
        planes[...] = mixed.reshape(n, -1, 3).transpose(0, 2, 1)
        places, size = (columns - left).reshape(-1), self._pixels.shape[2]
        pair = np.take(planes, places, axis=2, out=self._taken, mode="clip")
        pair *= across.weights[number].reshape(-1)
        pixels = np.add(pair[..., :size], pair[..., size:], out=self._pixels)
        return np.rint(pixels, out=pixels) if self.rounded else pixels


def window_taps(
    frame_shape: tuple[int, ...], centres: Any, windows: np.ndarray, size: int
) -> tuple[Taps, Taps]:
    """Taps down and across for windows (S, 2), widths and heights, around centres (x, y).

    centres: (S, 2), or one for all.
    """
    centres, windows = np.asarray(centres), np.asarray(windows)
    down, across = (
        make_taps(centres[..., axis], windows[:, axis], size, frame_shape[1 - axis])
        for axis in (1, 0)
    )
    return down, across


def crop_patches(
    frame: np.ndarray, centres: Any, windows: np.ndarray, size: int, *, rounded: bool
) -> np.ndarray:
    """Patches of S windows, see `Cropper` and `window_taps`.

    Returns (S, 3, size, size) float32, 0..255, channels as in the frame.
    """
    crop = Cropper(size, rounded)
    down, across = window_taps(frame.shape, centres, windows, size)
    patches = np.empty((len(windows), 3, size, size), np.float32)
    for number, patch in enumerate(patches):
        patch[...] = crop(frame, down, across, number).transpose(1, 0, 2)
    return patches
