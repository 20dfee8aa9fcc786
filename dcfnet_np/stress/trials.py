"""Trials: a piece of a real video with one disturbance in it, and what a tracker made of it."""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .. import datasets
from ..vision.boxes import iou
from .disturbances import DISTURBANCES, Disturbance, Moment

BEFORE = 15  # frames of a trial before the disturbance
AFTER = 25  # and after it
LAST = 5  # at the end of a trial; whoever is on the target there has survived
SMALLEST = 12  # pixels of a target's side
FEWEST_FRAMES, MOST_FRAMES = 10, 120  # of a video that are used
ON_TARGET = 0.3  # overlap
SOON = 2  # frames after the disturbance


@dataclasses.dataclass(frozen=True)
class Trial:
    """One disturbance of one strength in one video.

    start: its first frame, counted in the part of the video that `tracked_rows` names.
    """

    sequence: str
    disturbance: str
    strength: float
    start: int

    @property
    def name(self) -> str:
        """Unique among the trials of a run."""
        return f"{self.sequence} {self.disturbance} {self.strength:g} {self.start}"

    @property
    def begins(self) -> int:
        """Frame of the trial in which the disturbance begins."""
        return BEFORE

    @property
    def ends(self) -> int:
        """Frame of the trial from which on the target shall be tracked as before."""
        return BEFORE + DISTURBANCES[self.disturbance].lasts(self.strength)

    @property
    def frames(self) -> int:
        """Of the whole trial."""
        return self.ends + AFTER


def tracked_rows(sequence: datasets.Sequence) -> range:
    """The longest part of a sequence in which the target is annotated, seen and not too small.

    At most MOST_FRAMES of it.  Raises DatasetError where it has fewer than FEWEST_FRAMES frames.
    """
    boxes = sequence.visible_boxes()
    good = np.isfinite(boxes).all(axis=1) & (np.nan_to_num(boxes[:, 2:]).min(axis=1) >= SMALLEST)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    parts = [range(start, end) for start, end in zip(edges[::2].tolist(), edges[1::2].tolist())]
    longest = max(parts, key=len, default=range(0))
    if len(longest) < FEWEST_FRAMES:
        raise datasets.DatasetError(
            f"{sequence.name}: nowhere is the target annotated, visible and at least {SMALLEST} "
            f"pixels wide and high for {FEWEST_FRAMES} frames"
        )
    return longest[:MOST_FRAMES]


def plan_trials(
    sequence: datasets.Sequence, disturbances: Sequence[str], starts: int = 1
) -> list[Trial]:
    """All trials of one video: every disturbance, in all its strengths, at so many starts."""
    count = len(tracked_rows(sequence))
    firsts = sorted({k * count // starts for k in range(starts)})
    return [
        Trial(sequence.name, name, strength, first)
        for name in disturbances
        for strength in DISTURBANCES[name].strengths
        for first in firsts
    ]


class Scene(NamedTuple):
    """A frame of a trial as a tracker sees it, and where the target is in it."""

    frame: np.ndarray  # (H, W, 3) uint8 BGR
    box: np.ndarray  # (4,), NaN where the target is not to be seen


def make_scenes(
    trial: Trial, frames: Sequence[np.ndarray], boxes: np.ndarray, other: np.ndarray, seed: int
) -> Iterator[Scene]:
    """The frames of a trial, one after the other.

    frames, boxes: of the tracked part.  other: a frame of another video, from which an occluder
    takes its texture.  seed: of all that is drawn, together with the trial's name.
    """
    disturbance: Disturbance = DISTURBANCES[trial.disturbance]
    rng = np.random.default_rng([seed, zlib.crc32(trial.name.encode())])
    direction = float(rng.uniform(0, 2 * np.pi))
    texture = _piece(other, rng)
    for number in range(trial.frames):
        time = number - trial.begins
        skipped = int(trial.strength) if disturbance.skips and time >= 0 else 0
        index = there_and_back(trial.start + number + skipped, len(frames))
        frame, box = frames[index], boxes[index]
        if time >= 0:
            now = Moment(time, trial.strength, direction, texture, int(rng.integers(2**31)))
            frame, box = disturbance.change(frame, box, now)
        yield Scene(frame, box)


def there_and_back(number: int, count: int) -> int:
    """Frame `number` of a video of `count` frames that is played on and on, forth and back."""
    number %= max(2 * count - 2, 1)
    return number if number < count else 2 * count - 2 - number


def _piece(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A piece of a third of a frame's width and height."""
    height, width = frame.shape[0] // 3, frame.shape[1] // 3
    top, left = rng.integers(frame.shape[0] - height), rng.integers(frame.shape[1] - width)
    return frame[top : top + height, left : left + width]


# --- judging


class Verdict(NamedTuple):
    """What became of a target.

    survived: the tracker is on it in the last frames.  found_after: frames from the end of the
    disturbance until it is on the target for good, None where never.  before, after: mean overlap.
    growth: the largest factor by which the target's size was overrated; sizes are relative to the
    first frame's, geometric means of both sides.
    """

    survived: bool
    found_after: int | None
    before: float
    after: float
    growth: float

    @property
    def outcome(self) -> str:
        """ "kept", "found" again, or "lost"."""
        if not self.survived or self.found_after is None:
            return "lost"
        return "kept" if self.found_after <= SOON else "found"


def judge(trial: Trial, truth: np.ndarray, boxes: np.ndarray) -> Verdict:
    """Hold the boxes of a tracker, (n, 4), against the truth, (n, 4), of all frames of a trial."""
    overlap = np.nan_to_num(iou(boxes, truth))
    overlap = np.where(np.isfinite(truth).all(axis=1), overlap, np.nan)
    after = overlap[trial.ends :]
    off = np.flatnonzero(~(after >= ON_TARGET))
    found_after = 0 if not off.size else int(off[-1]) + 1
    with np.errstate(invalid="ignore"):
        sizes = np.sqrt(np.nan_to_num(boxes[:, 2:]).prod(axis=1))
        true_sizes = np.sqrt(truth[:, 2:].prod(axis=1))
        ratio = (sizes / sizes[0]) / np.maximum(true_sizes / true_sizes[0], 1.0)
    return Verdict(
        bool((after[-LAST:] >= ON_TARGET).all()),
        found_after if found_after < len(after) else None,
        float(np.nanmean(overlap[1 : trial.begins])),
        float(np.nanmean(after)),
        float(np.nanmax(ratio)),
    )
