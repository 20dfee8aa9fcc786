"""What a response says: where the target is, how sure that is, and where else to look."""

from typing import NamedTuple

import numpy as np

from ..presets import Preset


class Quality(NamedTuple):
    """How much a response looks like that of the target."""

    score: float  # see `score_of`
    psr: float  # see `peak_to_sidelobe`


NOTHING = Quality(0.0, 0.0)


def measure(response: np.ndarray) -> Quality:
    """Score and PSR of a response (N, N)."""
    return Quality(score_of(response), peak_to_sidelobe(response))


def score_of(response: np.ndarray) -> float:
    """How well a target was recognised, from 0 to 1, by its response (N, N).

    It is the peak where that is at most 1, the peak that was learned.  A higher one comes of more
    contrast than was learned, as after a dark first frame, and its height says nothing: then it is
    the peak over the sum of the amplitudes of the waves that the response is made of.  That is 1
    where the crests of all waves meet.
    """
    peak = float(response.max())
    if peak > 1:
        peak = min(peak / float(abs(np.fft.fft2(response)).mean()), 1.0)
    return max(peak, 0.0)


def peak_to_sidelobe(response: np.ndarray, exclude: int = 5) -> float:
    """Peak-to-sidelobe ratio: (peak - mean) / deviation of the map around the peak's neighbourhood.

    response: (N, N), circular.  The neighbourhood, which is left out, is up to `exclude` rows and
    columns away (11x11).  Source: Bolme et al., "Visual object tracking using adaptive correlation
    filters" (MOSSE), CVPR 2010.
    """
    height, width = response.shape
    heights = response.astype(np.float64)  # sums in double precision
    row, column = divmod(int(response.argmax()), width)
    near_rows = np.arange(row - exclude, row + exclude + 1) % height
    near_columns = np.arange(column - exclude, column + exclude + 1) % width
    near = heights[near_rows[:, None], near_columns]
    count = heights.size - near.size
    if count <= 0:
        return 0.0
    mean = (heights.sum() - near.sum()) / count
    squares = np.vdot(heights, heights) - np.vdot(near, near)
    deviation = np.sqrt(max(squares / count - mean**2, 0.0))
    return float((response[row, column] - mean) / deviation) if deviation > 0 else 0.0


def peak_place(response: np.ndarray, preset: Preset) -> tuple[int, int]:
    """Displacement (row, column) of the maximum, pixels of the map; past the middle a negative one.

    Of several equal ones the first wins, along the rows or down the columns.
    """
    size = len(response)
    if preset.column_major_ties:
        column, row = divmod(int(response.T.argmax()), size)
    else:
        row, column = divmod(int(response.argmax()), size)
    half = size // 2 - 1 if preset.wrap_before_half else size // 2
    return row - (size if row > half else 0), column - (size if column > half else 0)


def search_places(centre: np.ndarray, size: np.ndarray, frame_shape: tuple[int, ...]) -> np.ndarray:
    """Where a target may be: (P, 2) centres in the frame, the nearest first, so `centre` itself.

    They are one target apart.  So the target is off the middle of some window by half its size at
    most, which the cosine window still shows.
    """
    lows, highs = np.ceil(-centre / size), np.floor((np.array(frame_shape[1::-1]) - centre) / size)
    across, down = (np.arange(low, high + 1) for low, high in zip(lows, highs))
    offsets = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    rings = abs(offsets).max(axis=1)
    return centre + offsets[rings.argsort(kind="stable")] * size
