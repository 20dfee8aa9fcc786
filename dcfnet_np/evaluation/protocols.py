"""How a tracker is run over a sequence: OTB's OPE, TRE and SRE, and VOT2015's supervised runs.

Any object with `init(frame, box)` and `update(frame) -> box | None` can be run.  None, and a box
that is not finite or has no positive size, is a failed frame and keeps the last box.  Boxes are
(x, y, w, h), pixels, 0-based.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import datasets
from ..vision.boxes import Box
from .metrics import FrameScores, SequenceScores, is_box, is_there, score_frames, score_sequence
from .rules import Rules
from .vot import BOX, FAILED, STARTED, UNKNOWN, VOT_SKIP, overlap_in_frame

PROTOCOLS = ("ope", "tre", "sre", "vot")

TRE_STARTS = 20
TRE_SHORTEST = 20  # frames of the last run


class EvaluatedTracker(Protocol):
    """What a tracker must have to be evaluated."""

    def init(self, frame: np.ndarray, box: Box) -> Any: ...

    def update(self, frame: np.ndarray) -> Any: ...


@dataclass(frozen=True)
class Segment:
    """One run over a sequence: from frame `start`, begun with `box`, to before `end` or the last.

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


class Trajectory(NamedTuple):
    """What a tracker did, a row for each frame of a segment."""

    boxes: np.ndarray  # (n, 4)
    times: np.ndarray  # (n,) seconds of tracking alone, NaN where it did not run
    decoding: np.ndarray  # (n,) seconds to read and decode the frame
    # (n,) UNKNOWN, STARTED, FAILED or BOX; all but the first are BOX unless supervised
    states: np.ndarray


# --- which runs a protocol has


def plan_segments(sequence: datasets.Sequence, protocol: str, rules: Rules) -> list[Segment]:
    """The runs of a protocol.

    Raises ValueError for an unknown one, DatasetError without a box to start from.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    truth = sequence.boxes
    first = sequence.first if rules.omit_initial else 0
    if not is_box(truth)[first]:
        raise datasets.DatasetError(f"{sequence.name}: frame {first + 1} has no box to start from")
    box = _as_box(truth[first])
    if protocol == "tre":
        starts = enumerate(tre_starts(is_there(truth, rules), first), start=1)
        return [Segment(f"{number:02d}", at, _as_box(truth[at])) for number, at in starts]
    if protocol == "sre":
        shifted = sre_boxes(box, sequence.frame_size())
        return [Segment(name, first, each) for name, each in shifted.items()]
    return [Segment("", first, box, supervised=protocol == "vot")]


def even_segments(
    sequence: datasets.Sequence, rules: Rules, count: int, frames: int | None = None
) -> list[Segment]:
    """`count` runs that start at even distances, each of at most so many frames, OPE's first.

    Unlike TRE's, the last start is as far from the end as the others are apart.  Frames without
    ground truth are passed over, and those that leave fewer than TRE_SHORTEST frames, so a short
    sequence has fewer.  Raises DatasetError.
    """
    (first,) = plan_segments(sequence, "ope", rules)
    usable = np.flatnonzero(is_there(sequence.boxes, rules))
    usable = usable[(usable > first.start) & (usable <= len(sequence) - TRE_SHORTEST)].tolist()
    usable.insert(0, first.start)
    starts = sorted({usable[k * len(usable) // count] for k in range(count)})
    ends = [None if frames is None else start + frames for start in starts]
    return [
        Segment(str(start), start, _as_box(sequence.boxes[start]), end=end)
        for start, end in zip(starts, ends)
    ]


def tre_starts(there: np.ndarray, first: int = 0) -> list[int]:
    """The 20 first frames of TRE's runs, counted from 0, which all go on to the last frame.

    there: (n,) bool, frames with ground truth; the others are passed over.  The runs start at even
    distances, and the last has at least 20 frames.  A sequence too short for 20 different starts
    has fewer.  Source: OTB's splitSeqTRE.
    """
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
    """The 12 first boxes of SRE: four scales, four shifts, four corners pulled out by a tenth.

    frame_size: (width, height); boxes are cut at its edges.  Coordinates are whole pixels where
    OTB's are.
    Source: OTB's shiftInitBB, whose corner shifts move one corner and leave the opposite one.
    """
    x, y, w, h = box
    right, bottom = x + w, y + h
    boxes: dict[str, Any] = {}
    for name, ratio in (("scale_8", 0.8), ("scale_9", 0.9), ("scale_11", 1.1), ("scale_12", 1.2)):
        scaled = (x + w / 2 - ratio * w / 2, y + h / 2 - ratio * h / 2, ratio * w, ratio * h)
        boxes[name] = _half_up(scaled)
    dx, dy = np.ceil(0.1 * w), np.ceil(0.1 * h)
    boxes["left"], boxes["right"] = (x - dx, y, w, h), (x + dx, y, w, h)
    boxes["up"], boxes["down"] = (x, y - dy, w, h), (x, y + dy, w, h)
    left_out, top_out = _half_up((x - 0.1 * w, y - 0.1 * h))
    right_out, bottom_out = _half_up((right + 0.1 * w, bottom + 0.1 * h))
    boxes["topLeft"] = (left_out, top_out, right - left_out, bottom - top_out)
    boxes["topRight"] = (x, top_out, right_out - x, bottom - top_out)
    boxes["bottomLeft"] = (left_out, y, right - left_out, bottom_out - y)
    boxes["bottomRight"] = (x, y, right_out - x, bottom_out - y)
    return {name: _cut_box(each, frame_size) for name, each in boxes.items()}


def _half_up(values: Any) -> Any:
    """Rounded, halves up, where NumPy rounds them to even numbers."""
    return np.floor(np.asarray(values, float) + 0.5)


def _cut_box(box: Any, frame_size: tuple[int, int]) -> Box:
    x, y, w, h = (float(value) for value in box)
    x, y = max(x, 0.0), max(y, 0.0)
    return x, y, min(w, frame_size[0] - x), min(h, frame_size[1] - y)


def _as_box(row: np.ndarray) -> Box:
    x, y, w, h = row.tolist()
    return x, y, w, h


# --- running and scoring


def run_tracker(
    tracker: EvaluatedTracker, sequence: datasets.Sequence, segment: Segment
) -> Trajectory:
    """Run a tracker over one segment.

    Only its own work counts in `times`; frames are decoded before.  In VOT's supervised run a frame
    of no overlap is a failure, and five frames later the tracker starts anew.  A failed frame
    without ground truth cannot be told and is none; a start waits for a frame with ground truth.
    """
    first, count = segment.start, segment.frames(sequence)
    truth = sequence.boxes[first:]
    there = is_box(truth)
    supervised = segment.supervised
    frame_size = sequence.frame_size() if supervised else (0, 0)
    boxes, states = np.full((count, 4), np.nan), np.full(count, UNKNOWN, np.int8)
    times, decoding = np.full((2, count), np.nan)

    def step(index: int, given: Box | None = None) -> Any:
        """Start the tracker from a box, or ask it for one."""
        began = time.perf_counter()
        frame = sequence.frame(first + index)
        decoded = time.perf_counter()
        box = tracker.update(frame) if given is None else tracker.init(frame, given)
        times[index] = time.perf_counter() - decoded
        decoding[index] = decoded - began
        return box

    def overlap_at(index: int) -> float:
        return overlap_in_frame(sequence, first + index, boxes[index], frame_size)

    next_start: int | None = 0
    for index in range(count):
        if next_start is None:
            box = step(index)
            if box is None or not is_box([box])[0]:
                box = boxes[index - 1]  # a failed frame keeps the last box
            boxes[index], states[index] = box, BOX
            if supervised and there[index] and overlap_at(index) <= 0:
                states[index] = FAILED
                next_start = index + VOT_SKIP
        elif index == 0 or (index >= next_start and there[index]):
            given = _as_box(truth[index]) if index else segment.box
            step(index, given)
            boxes[index], states[index] = given, STARTED
            next_start = None
    return Trajectory(boxes, times, decoding, states)


def is_annotated(sequence: datasets.Sequence, start: int = 0, end: int | None = None) -> bool:
    """Whether a frame after `start`, whose box is given, and before `end` has ground truth.

    Without any there is nothing to score: test splits of GOT-10k and others give the first box.
    """
    return bool(is_box(sequence.boxes[start + 1 : end]).any())


def score_runs(
    sequence: datasets.Sequence, runs: Sequence[tuple[Segment, Trajectory]], rules: Rules
) -> SequenceScores:
    """Scores of one sequence from its runs, whose frames are pooled; NaN without annotation."""
    size = sequence.frame_size() if rules.clip_to_frame else None
    frames = []
    for segment, found in runs:
        part = slice(segment.start, segment.end)
        visible = None if sequence.visible is None else sequence.visible[part]
        frames.append(score_frames(found.boxes, sequence.boxes[part], rules, size, visible))
    if not is_annotated(sequence, min(segment.start for segment, _ in runs)):
        frames = [FrameScores(*(values[:0] for values in frames[0]))]
    return score_sequence(frames, rules)


def run_and_score(
    tracker: EvaluatedTracker, sequence: datasets.Sequence, segment: Segment, rules: Rules
) -> float:
    """Success score of one run, AUC or AO as the rules say."""
    found = run_tracker(tracker, sequence, segment)
    return score_runs(sequence, [(segment, found)], rules).scores.success
