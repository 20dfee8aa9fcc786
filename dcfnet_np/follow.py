"""Following targets through a source, frame by frame: what `dcfnet track`, `dcfnet demo` and
`dcfnet serve` share.

    with open_source("street.mp4") as source, ReadAhead(source.frames()) as frames:
        for step in follow(frames, [(64, 30, 46, 64)], MultiTracker()):
            print(step.rows[0].box)
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .support.words import counted
from .tracker import MultiTracker
from .vision.box_files import BoxRow
from .vision.boxes import Box, iou
from .vision.draw import STATES, TARGETS, draw_box, draw_label, draw_trail, response_inset
from .vision.frames import Frame


class Step(NamedTuple):
    """One frame and what was found in it: a row and a response map for each target."""

    frame: Frame
    rows: list[BoxRow]
    maps: list[np.ndarray | None]  # None in the first frame, and where no maps were asked for


def follow(
    frames: Iterable[Frame], boxes: Sequence[Box], tracker: MultiTracker, response: bool = False
) -> Iterator[Step]:
    """Track `boxes` of the first frame through all frames with a new tracker.

    boxes: (x, y, w, h), pixels, 0-based.  response: also give the response maps.  The rows' time is
    that of the tracker alone, in equal shares.
    """
    rows: list[BoxRow] = []
    for frame in frames:
        start = time.perf_counter()
        maps: list[np.ndarray | None] = [None] * len(boxes)
        if not rows:
            for box in boxes:
                tracker.add(frame.image, box)
            rows = [BoxRow(frame.number, box) for box in boxes]
        else:
            found = tracker.update(frame.image, response).values()
            rows = [BoxRow(frame.number, r.box, r.score, r.ok, state=r.state) for r in found]
            maps = [result.response for result in found]
        share = (time.perf_counter() - start) / len(boxes)
        yield Step(frame, [row._replace(time=share) for row in rows], maps)


class Painter:
    """Draws the steps of a run into pictures: boxes, the path of each target, response maps.

    trail: how many past centres the path has; 0 for none.
    """

    def __init__(self, trail: int = 0) -> None:
        self._trail = trail
        self._paths: list[deque[tuple[float, float]]] = []

    def __call__(self, step: Step) -> np.ndarray:
        """The frame with everything drawn into it.

        Unsure and lost targets have the colours of `STATES`.
        """
        image = step.frame.image
        self._paths = self._paths or [deque(maxlen=self._trail) for _ in step.rows]
        for index, (row, path) in enumerate(zip(step.rows, self._paths, strict=True)):
            x, y, w, h = row.box
            path.append((x + w / 2, y + h / 2))
            colour = TARGETS[index % len(TARGETS)]
            image = draw_trail(image, path, colour) if self._trail else image
            image = draw_box(image, row.box, colour if row.ok else STATES[row.state])
            if len(step.rows) > 1:
                image = draw_label(image, row.box, str(index + 1), colour)
        for index, map_ in enumerate(step.maps):
            image = image if map_ is None else response_inset(image, map_, place=index)
        return image


class Summary:
    """What a run comes to, kept in a few numbers however long it is.

    truth: ground truth of the frames that are tracked, (n, 4), or None.
    """

    def __init__(self, truth: np.ndarray | None = None) -> None:
        self.frames = 0
        self._truth = np.empty((0, 4)) if truth is None else truth
        self._updates = self._annotated = 0
        self._seconds = self._score = self._overlap = 0.0

    def add(self, step: Step) -> None:
        """Count one more frame."""
        if self.frames:
            self._updates += len(step.rows)
            self._seconds += sum(row.time for row in step.rows)
            self._score += sum(row.score for row in step.rows)
        if self.frames < len(self._truth):
            overlap = float(iou(step.rows[0].box, self._truth[self.frames]))
            if not math.isnan(overlap):
                self._overlap += overlap
                self._annotated += 1
        self.frames += 1

    def line(self, name: str, dropped: int = 0) -> str:
        """Frames, speed of tracking alone, mean score, and mean IoU where there is ground truth."""
        parts = [f"{name}: {counted(self.frames, 'frame')}"]
        if dropped:
            parts.append(f"{dropped} dropped to keep up")
        if self._seconds > 0:
            parts.append(f"{(self.frames - 1) / self._seconds:.1f} fps (tracking alone)")
            parts.append(f"mean score {self._score / self._updates:.3f}")
        if self._annotated > 1:  # the first box is given
            overlap = self._overlap / self._annotated
            parts.append(f"mean IoU {overlap:.3f} over {self._annotated} annotated frames")
        return ", ".join(parts)
