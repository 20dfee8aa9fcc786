"""How a tracker is run over a sequence: OTB's OPE, TRE and SRE, and VOT2015's supervised
experiment.

Any object with `init(frame, box)` and `update(frame) -> box | None` can be run; None, and a box that is not finite or
has no positive size, is a failed frame and keeps the last box.  Boxes are (x, y, w, h), pixels,
0-based."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from .. import datasets
from ..vision.boxes import Box
from .metrics import (
    FrameScores,
    Rules,
    SequenceScores,
    is_box,
    is_there,
    score_frames,
    score_sequence,
)

PROTOCOLS = ("ope", "tre", "sre", "vot")

TRE_STARTS = 20
TRE_SHORTEST = 20  # frames of the last run

VOT_SKIP = 5  # frames between a failure and the new start
VOT_BURN_IN = 10  # frames from a start on that do not count for accuracy
# the challenge's range of sequence lengths for the expected average overlap
VOT2015_LENGTHS = (108, 371)

# What VOT's result files write for a frame without a box.
UNKNOWN, STARTED, FAILED = 0, 1, 2
BOX = 3


class EvaluatedTracker(Protocol):
    """What a tracker must have to be evaluated."""

    def init(self, frame: np.ndarray, box: Box) -> None: ...

    def update(self, frame: np.ndarray) -> Any: ...


@dataclass(frozen=True)
class Segment:
    """One run over a sequence: from frame `start` to before frame `end`, or to the last, begun with
    `box`.

    name: "" for the only run of a sequence, else what tells its result file from the others'.
    """

    name: str
    start: int
    box: Box
    supervised: bool = False
    end: int | None = None

    def frames(self, sequence: datasets.Sequence) -> int:
        """How many there are, the first counted."""
        return len(range(len(sequence))[self.start : self.end])


class Run(NamedTuple):
    """What a tracker did, a row for each frame from the segment's start on.

    boxes: (n, 4).  times: (n,) seconds of tracking alone, NaN where it did not run.  decoding: (n,)
    seconds to read and decode the frame.  states: (n,) UNKNOWN, STARTED, FAILED or BOX; all but the
    first are BOX unless supervised."""

    boxes: np.ndarray
    times: np.ndarray
    decoding: np.ndarray
    states: np.ndarray


def segments(
    sequence: datasets.Sequence, protocol: Literal["ope", "tre", "sre", "vot"], rules: Rules
) -> list[Segment]:
    """The runs of a protocol.

    Raises ValueError for an unknown one, DatasetError without a box to start from.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    first = sequence.first if rules.omit_initial else 0
    there = is_box(sequence.boxes)
    if not there[first]:
        raise datasets.DatasetError(f"{sequence.name}: frame {first + 1} has no box to start from")
    box = _box(sequence.boxes[first])
    if protocol == "ope":
        return [Segment("", first, box)]
    if protocol == "vot":
        return [Segment("", first, box, supervised=True)]
    if protocol == "tre":
        starts = tre_starts(is_there(sequence.boxes, rules), first)
        return [
            Segment(f"{k:02d}", start, _box(sequence.boxes[start]))
            for k, start in enumerate(starts, start=1)
        ]
    shifted = sre_boxes(box, sequence.frame_size())
    return [Segment(name, first, each) for name, each in shifted.items()]


def even_segments(
    sequence: datasets.Sequence, rules: Rules, count: int, frames: int | None = None
) -> list[Segment]:
    """`count` runs that start at even distances, each of at most so many frames; the first is
    OPE's.

    Unlike TRE's, the last start is as far from the end as the others are apart.  Frames without
    ground truth are passed over, and those that leave fewer than TRE_SHORTEST frames, so a short
    sequence has fewer.  Raises DatasetError."""
    (first,) = segments(sequence, "ope", rules)
    usable = np.flatnonzero(is_there(sequence.boxes, rules))
    usable = usable[(usable > first.start) & (usable <= len(sequence) - TRE_SHORTEST)].tolist()
    usable.insert(0, first.start)
    starts = sorted({usable[k * len(usable) // count] for k in range(count)})
    ends = [None if frames is None else start + frames for start in starts]
    return [
        Segment(str(start), start, _box(sequence.boxes[start]), end=end)
        for start, end in zip(starts, ends)
    ]


def is_annotated(sequence: datasets.Sequence, start: int = 0, end: int | None = None) -> bool:
    """Whether a frame after `start`, whose box is given, and before `end` has ground truth.

    Without any there is nothing to score: test splits of GOT-10k and others give the first box.
    """
    return bool(is_box(sequence.boxes[start + 1 : end]).any())


def score(
    sequence: datasets.Sequence, runs: Sequence[tuple[Segment, Run]], rules: Rules
) -> SequenceScores:
    """Scores of one sequence from its runs, whose frames are pooled; NaN without annotation."""
    size = sequence.frame_size() if rules.clip_to_frame else None
    frames = []
    for segment, result in runs:
        part = slice(segment.start, segment.end)
        visible = None if sequence.visible is None else sequence.visible[part]
        frames.append(score_frames(result.boxes, sequence.boxes[part], rules, size, visible))
    if not is_annotated(sequence, min(segment.start for segment, _ in runs)):
        frames = [FrameScores(*(values[:0] for values in frames[0]))]
    return score_sequence(frames, rules)


def success(
    tracker: EvaluatedTracker, sequence: datasets.Sequence, segment: Segment, rules: Rules
) -> float:
    """Success score of one run, AUC or AO as the rules say."""
    return score(sequence, [(segment, run(tracker, sequence, segment))], rules).scores.success


def _box(row: np.ndarray) -> Box:
    x, y, w, h = row.tolist()
    return x, y, w, h


def tre_starts(there: np.ndarray, first: int = 0) -> list[int]:
    """The 20 first frames of TRE's runs, counted from 0, which all go on to the last frame.

    there: (n,) bool, frames with ground truth; the others are passed over.  The runs start at even
    distances, and the last has at least 20 frames.  A sequence too short for 20 different starts
    has fewer.  Source: OTB's splitSeqTRE."""
    usable = np.flatnonzero(there)
    usable = usable[usable >= first]
    last = int(np.sum(len(there) - usable >= TRE_SHORTEST))  # starts that leave enough frames
    if last == 0:
        return [first]
    step = last / (TRE_STARTS - 1)
    # counted from 1, as there
    positions = [int(1 + k * step) for k in range(TRE_STARTS - 1)] + [last]
    return sorted({int(usable[position - 1]) for position in positions if position <= last})


def sre_boxes(box: Box, frame_size: tuple[int, int]) -> dict[str, Box]:
    """The 12 first boxes of SRE: four scales, four shifts and four corners pulled out by a tenth of
    the size.

    frame_size: (width, height); boxes are cut at its edges.  Coordinates are whole pixels where
    OTB's are.
    Source: OTB's shiftInitBB, whose corner shifts move one corner and leave the opposite one.
    """
    x, y, w, h = box
    right, bottom = x + w, y + h
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for name, ratio in (("scale_8", 0.8), ("scale_9", 0.9), ("scale_11", 1.1), ("scale_12", 1.2)):
        scaled = (x + w / 2 - ratio * w / 2, y + h / 2 - ratio * h / 2, ratio * w, ratio * h)
        boxes[name] = _box(_round(np.array(scaled)))
    dx, dy = np.ceil(0.1 * w), np.ceil(0.1 * h)
    boxes["left"], boxes["right"] = (x - dx, y, w, h), (x + dx, y, w, h)
    boxes["up"], boxes["down"] = (x, y - dy, w, h), (x, y + dy, w, h)
    left_out, top_out = _round(x - 0.1 * w), _round(y - 0.1 * h)
    right_out, bottom_out = _round(right + 0.1 * w), _round(bottom + 0.1 * h)
    boxes["topLeft"] = (left_out, top_out, right - left_out, bottom - top_out)
    boxes["topRight"] = (x, top_out, right_out - x, bottom - top_out)
    boxes["bottomLeft"] = (left_out, y, right - left_out, bottom_out - y)
    boxes["bottomRight"] = (x, y, right_out - x, bottom_out - y)
    return {name: _cut(each, frame_size) for name, each in boxes.items()}


def _round(values: Any) -> Any:
    """Halves up, where NumPy rounds them to even numbers."""
    return np.floor(np.asarray(values, float) + 0.5)


def _cut(box: tuple[float, float, float, float], frame_size: tuple[int, int]) -> Box:
    x, y, w, h = (float(value) for value in box)
    x, y = max(x, 0.0), max(y, 0.0)
    return x, y, min(w, frame_size[0] - x), min(h, frame_size[1] - y)


def run(tracker: EvaluatedTracker, sequence: datasets.Sequence, segment: Segment) -> Run:
    """Run a tracker over one segment.

    Only its own work counts in `times`; frames are decoded before.
    """
    if segment.supervised:
        return _run_supervised(tracker, sequence, segment)
    recorder = _Recorder(sequence, segment)
    recorder.start(tracker, 0, segment.box)
    for index in range(1, recorder.count):
        recorder.update(tracker, index)
    return recorder.run


def _run_supervised(
    tracker: EvaluatedTracker, sequence: datasets.Sequence, segment: Segment
) -> Run:
    """VOT's supervised run: a frame of no overlap is a failure, and five frames later the tracker
    starts anew.

    A failed frame without ground truth cannot be told and is none; a start waits for a frame with
    ground truth."""
    recorder = _Recorder(sequence, segment)
    truth = sequence.boxes[segment.start :]
    there = is_box(truth)
    overlap = _overlaps(sequence, segment.start)
    recorder.start(tracker, 0, segment.box)
    index, next_start = 1, None
    while index < recorder.count:
        if next_start is not None:
            if index >= next_start and there[index]:
                recorder.start(tracker, index, _box(truth[index]))
                next_start = None
        else:
            recorder.update(tracker, index)
            if there[index] and overlap(index, recorder.run.boxes[index]) <= 0:
                recorder.run.states[index] = FAILED
                next_start = index + VOT_SKIP
        index += 1
    return recorder.run


class _Recorder:
    """Decodes frames, calls the tracker, and keeps boxes and times."""

    def __init__(self, sequence: datasets.Sequence, segment: Segment) -> None:
        self.sequence, self.first = sequence, segment.start
        self.count = segment.frames(sequence)
        nan = np.full(self.count, np.nan)
        self.run = Run(
            np.full((self.count, 4), np.nan), nan.copy(), nan, np.full(self.count, UNKNOWN, np.int8)
        )

    def start(self, tracker: EvaluatedTracker, index: int, box: Box) -> None:
        self.run.boxes[index] = box
        self._call(index, lambda frame: tracker.init(frame, box))
        self.run.states[index] = STARTED

    def update(self, tracker: EvaluatedTracker, index: int) -> None:
        box = self._call(index, tracker.update)
        if box is None or not is_box([box])[0]:
            box = self.run.boxes[index - 1]  # a failed frame keeps the last box
        self.run.boxes[index] = box
        self.run.states[index] = BOX

    def _call(self, index: int, function: Callable[[np.ndarray], Any]) -> Any:
        began = time.perf_counter()
        frame = self.sequence.frame(self.first + index)
        decoded = time.perf_counter()
        answer = function(frame)
        self.run.times[index] = time.perf_counter() - decoded
        self.run.decoding[index] = decoded - began
        return answer


# --- VOT's measures
# ---------------------------------------------------------------------------------------


class VotScores(NamedTuple):
    """Accuracy, robustness and expected average overlap.

    On few sequences these are a test of the code, not a score: the challenge's 60 give the length
    range its meaning."""

    accuracy: float  # mean overlap of tracked frames without the burn-in
    failures: int
    robustness: float  # failures a sequence
    eao: float  # expected average overlap over `lengths`; NaN where no run is long enough
    lengths: tuple[int, int]
    curve: np.ndarray  # expected overlap of a run of 1, 2, ... frames


def vot_overlaps(sequence: datasets.Sequence, result: Run) -> np.ndarray:
    """Overlap of each frame with ground truth inside the frame: (n,), NaN where the tracker had no
    box of its own.
    """
    start = len(sequence) - len(result.boxes)
    overlap = _overlaps(sequence, start)
    truth = sequence.boxes[start:]
    there = is_box(truth)
    values = np.full(len(truth), np.nan)
    for index in np.flatnonzero((result.states == BOX) & there).tolist():
        values[index] = overlap(index, result.boxes[index])
    return values


def vot_scores(
    overlaps: Sequence[np.ndarray],
    states: Sequence[np.ndarray],
    lengths: tuple[int, int] = VOT2015_LENGTHS,
) -> VotScores:
    """VOT2015's measures of one tracker.

    overlaps, states: (n,) of each sequence, from `vot_overlaps` and `Run`.
    """
    accurate = []
    for overlap, state in zip(overlaps, states):
        counted = overlap.copy()
        for start in np.flatnonzero(state == STARTED):
            counted[start : start + VOT_BURN_IN] = np.nan
        accurate.append(counted)
    tracked = np.concatenate(accurate)
    tracked = tracked[~np.isnan(tracked)]
    failures = int(sum((state == FAILED).sum() for state in states))
    curve = expected_overlap(overlaps, states)
    inside = curve[lengths[0] - 1 : lengths[1]]
    inside = inside[~np.isnan(inside)]
    return VotScores(
        float(tracked.mean()) if tracked.size else float("nan"),
        failures,
        failures / len(states),
        float(inside.mean()) if inside.size else float("nan"),
        lengths,
        curve,
    )


def expected_overlap(overlaps: Sequence[np.ndarray], states: Sequence[np.ndarray]) -> np.ndarray:
    """Expected average overlap of runs of 1, 2, ... frames, NaN where there is none so long.

    Runs are cut at each new start.  One that ends in a failure is filled up with zeros, for the
    tracker would not have come back; one that ends with its sequence counts only up to its length.
    All runs count alike.  The first frame, whose box was given, is left out.  Source: Kristan et
    al., "The Visual Object Tracking VOT2015 challenge results", 2015, Sec. 3, and the challenge's
    estimate_expected_overlap."""
    longest = max(len(overlap) for overlap in overlaps)
    fragments = []
    for overlap, state in zip(overlaps, states):
        # The next run starts VOT_SKIP frames after a failure.  As in the toolkit, this run's zeros
        # reach that far.
        starts = [
            0,
            *(
                int(f) + VOT_SKIP
                for f in np.flatnonzero(state == FAILED)
                if f + VOT_SKIP < len(overlap)
            ),
        ]
        ends = [*(later + 1 for later in starts[1:]), len(overlap)]
        for number, (start, end) in enumerate(zip(starts, ends), start=1):
            fragment = np.full(longest, 0.0 if number < len(starts) else np.nan)
            fragment[: end - start] = np.nan_to_num(overlap[start:end], nan=0.0)
            fragments.append(fragment)
    table = np.array(fragments)
    curve = np.full(longest, np.nan)
    curve[0] = 1.0
    sums = np.cumsum(table[:, 1:], axis=1)  # NaN from the run's end on
    for length in range(2, longest + 1):
        means = sums[:, length - 2] / (length - 1)
        means = means[~np.isnan(means)]
        if means.size:
            curve[length - 1] = means.mean()
    return curve


def _overlaps(sequence: datasets.Sequence, start: int) -> Callable[[int, np.ndarray], float]:
    """A function of frame (from `start` on) and box: overlap with the polygon, or the box, inside
    the frame.
    """
    width, height = sequence.frame_size()
    polygons = sequence.polygons

    def overlap(index: int, box: np.ndarray) -> float:
        if polygons is not None:
            points = polygons[start + index].reshape(-1, 2)
        else:
            x, y, w, h = sequence.boxes[start + index]
            points = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        return polygon_overlap(points, box, (width, height))

    return overlap


def polygon_overlap(points: np.ndarray, box: np.ndarray, frame_size: tuple[int, int]) -> float:
    """Intersection over union of a polygon (n, 2) and a box, both cut at the frame's edges; 0 where
    both are empty.
    """
    width, height = frame_size
    low = np.clip(box[:2], 0, frame_size)
    high = np.clip(box[:2] + box[2:], 0, frame_size)
    inside = cut_polygon(points, 0, 0, width, height)
    intersection = area(cut_polygon(inside, low[0], low[1], high[0], high[1]))
    union = area(inside) + float(np.prod(high - low)) - intersection
    return intersection / union if union > 0 else 0.0


def cut_polygon(
    points: np.ndarray, left: float, top: float, right: float, bottom: float
) -> np.ndarray:
    """The part of a polygon (n, 2) inside an upright box: Sutherland and Hodgman, 1974, one edge
    after the other.
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


def area(points: np.ndarray) -> float:
    """Area of a polygon (n, 2), by the shoelace formula; 0 for fewer than three points."""
    x, y = points.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
