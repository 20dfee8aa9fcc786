"""VOT2015's measures of a supervised run: accuracy, robustness and expected average overlap.

A tracker that has lost its target is started anew, see `protocols`; each frame has a state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import datasets
from .metrics import is_box

VOT_SKIP = 5  # frames between a failure and the new start
VOT_BURN_IN = 10  # frames from a start on that do not count for accuracy
# the challenge's range of sequence lengths for the expected average overlap
VOT2015_LENGTHS = (108, 371)

# States of a frame.  The first three are what VOT's result files write for one without a box.
UNKNOWN, STARTED, FAILED, BOX = 0, 1, 2, 3


class VotScores(NamedTuple):
    """Accuracy, robustness and expected average overlap.

    On few sequences these are a test of the code, not a score: the challenge's 60 give the length
    range its meaning.
    """

    accuracy: float  # mean overlap of tracked frames without the burn-in
    failures: int
    robustness: float  # failures a sequence
    eao: float  # expected average overlap over `lengths`; NaN where no run is long enough
    lengths: tuple[int, int]
    curve: np.ndarray  # expected overlap of a run of 1, 2, ... frames


def vot_overlaps(sequence: datasets.Sequence, boxes: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Overlaps with the ground truth inside the frame, (n,), NaN where the tracker had no box.

    boxes (n, 4), states (n,): of the last n frames of the sequence.
    """
    start = len(sequence) - len(boxes)
    there, frame_size = is_box(sequence.boxes[start:]), sequence.frame_size()
    values = np.full(len(boxes), np.nan)
    for index in np.flatnonzero((states == BOX) & there).tolist():
        values[index] = overlap_in_frame(sequence, start + index, boxes[index], frame_size)
    return values


def vot_scores(
    overlaps: Sequence[np.ndarray],
    states: Sequence[np.ndarray],
    lengths: tuple[int, int] = VOT2015_LENGTHS,
) -> VotScores:
    """VOT2015's measures of one tracker.

    overlaps, states: (n,) of each sequence, from `vot_overlaps` and the tracker's run.
    """
    accurate = []
    for overlap, state in zip(overlaps, states):
        counted = overlap.copy()
        for start in np.flatnonzero(state == STARTED):
            counted[start : start + VOT_BURN_IN] = np.nan
        accurate.append(counted)
    failures = int(sum((state == FAILED).sum() for state in states))
    curve = expected_overlap(overlaps, states)
    inside = curve[lengths[0] - 1 : lengths[1]]
    return VotScores(
        _mean(np.concatenate(accurate)),
        failures,
        failures / len(states),
        _mean(inside),
        lengths,
        curve,
    )


def _mean(values: np.ndarray) -> float:
    """Of those that are not NaN; NaN without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def expected_overlap(overlaps: Sequence[np.ndarray], states: Sequence[np.ndarray]) -> np.ndarray:
    """Expected average overlap of runs of 1, 2, ... frames, NaN where there is none so long.

    Runs are cut at each new start.  One that ends in a failure is filled up with zeros, for the
    tracker would not have come back; one that ends with its sequence counts only up to its length.
    All runs count alike.  The first frame, whose box was given, is left out.  Source: Kristan et
    al., "The Visual Object Tracking VOT2015 challenge results", 2015, Sec. 3, and the challenge's
    estimate_expected_overlap.
    """
    longest = max(len(overlap) for overlap in overlaps)
    fragments = []
    for overlap, state in zip(overlaps, states):
        # The next run starts VOT_SKIP frames after a failure.  As in the toolkit, this run's zeros
        # reach that far.
        later = (np.flatnonzero(state == FAILED) + VOT_SKIP).tolist()
        starts = [0, *(start for start in later if start < len(overlap))]
        ends = [*(start + 1 for start in starts[1:]), len(overlap)]
        for number, (start, end) in enumerate(zip(starts, ends), start=1):
            fragment = np.full(longest, 0.0 if number < len(starts) else np.nan)
            fragment[: end - start] = np.nan_to_num(overlap[start:end], nan=0.0)
            fragments.append(fragment)
    curve = np.full(longest, np.nan)
    curve[0] = 1.0
    sums = np.cumsum(np.array(fragments)[:, 1:], axis=1)  # NaN from the run's end on
    for length in range(2, longest + 1):
        curve[length - 1] = _mean(sums[:, length - 2] / (length - 1))
    return curve


# --- overlaps with polygons


def overlap_in_frame(
    sequence: datasets.Sequence, index: int, box: np.ndarray, frame_size: tuple[int, int]
) -> float:
    """Overlap of a box with the polygon of a frame, or its true box, inside the frame."""
    if sequence.polygons is not None:
        points = sequence.polygons[index].reshape(-1, 2)
    else:
        x, y, w, h = sequence.boxes[index]
        points = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    return polygon_overlap(points, box, frame_size)


def polygon_overlap(points: np.ndarray, box: np.ndarray, frame_size: tuple[int, int]) -> float:
    """Intersection over union of a polygon (n, 2) and a box, both cut at the frame's edges.

    It is 0 where both are empty.
    """
    low = np.clip(box[:2], 0, frame_size)
    high = np.clip(box[:2] + box[2:], 0, frame_size)
    inside = cut_polygon(points, 0, 0, *frame_size)
    intersection = polygon_area(cut_polygon(inside, *low, *high))
    union = polygon_area(inside) + float(np.prod(high - low)) - intersection
    return intersection / union if union > 0 else 0.0


def cut_polygon(
    points: np.ndarray, left: float, top: float, right: float, bottom: float
) -> np.ndarray:
    """The part of a polygon (n, 2) inside an upright box, cut at one edge after the other.

    Source: Sutherland and Hodgman, 1974.
    """
    for axis, limit, sign in ((0, left, 1), (0, right, -1), (1, top, 1), (1, bottom, -1)):
        distance = sign * (points[:, axis] - limit)  # not negative inside
        kept = []
        for index in range(len(points)):
            before = index - 1
            if (distance[index] < 0) != (distance[before] < 0):
                share = distance[before] / (distance[before] - distance[index])
                kept.append(points[before] + share * (points[index] - points[before]))
            if distance[index] >= 0:
                kept.append(points[index])
        points = np.array(kept).reshape(-1, 2)
    return points


def polygon_area(points: np.ndarray) -> float:
    """Area of a polygon (n, 2), by the shoelace formula; 0 for fewer than three points."""
    x, y = points.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
