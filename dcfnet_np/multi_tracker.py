"""The tracker of many targets: all windows of a frame go through crop, network and filter as one
batch.
"""

from typing import Any

from .device_tracker import check_frame_shape
from .presets import Preset
from .support.threads import exclusive, one_blas_thread
from .tracker import Target, TrackerBase, TrackResult
from .vision.boxes import check_box
from .vision.crop import to_bgr
from .weights import Weights

BATCH = 8  # targets that pass together on a CPU: enough for both cores, and 60 MB of memory


class MultiTracker(TrackerBase):
    """Follow any number of boxes, of any sizes, through a video.

        tracker = MultiTracker(weights="light", preset="default", device="auto")
        first = tracker.add(frame, (x, y, w, h))
        second = tracker.add(frame, (x, y, w, h))
        results = tracker.update(frame)             # {first: TrackResult, second: TrackResult}
        tracker.remove(first)

    Every target's results are those of a `Tracker` of its own, to rounding.  Arguments as for
    `Tracker`.  All frames have one size as long as there is a target.  On a GPU a step has rows for
    1, 2, 4, 8, ... targets; those of removed ones are used again, but not given back.  Threads,
    forks and copies: as for `Tracker`."""

    _memory_of_targets = ("_targets", "_frame_shape", "_next")

    def __init__(
        self,
        weights: "str | Weights" = "light",
        preset: "str | Preset" = "default",
        device: str = "auto",
        band: "str | None" = "auto",
    ) -> None:
        super().__init__(weights, preset, device, band, batch=BATCH)
        self._targets: dict[int, Any] = {}  # id -> Target, on a GPU the number of its row
        self._frame_shape: tuple[int, ...] = ()
        self._next = 0

    @exclusive
    def add(self, frame: Any, box: Any) -> int:
        """Learn the target inside `box` = (x, y, w, h), pixels, 0-based, of `frame`.  Returns its
        id, used only once.

        Raises ValueError as `Tracker.init` does, and when the frame's size is not that of the other
        targets' frames. Nothing has changed then.
        """
        if self._by_kernels is not None:
            taken = set(self._targets.values())
            target: Any = next(row for row in range(len(taken) + 1) if row not in taken)
            self._by_kernels.start(frame, box, target, "MultiTracker.add")
        else:
            frame = to_bgr(frame)
            if self._targets:
                check_frame_shape(frame.shape, self._frame_shape, "MultiTracker.add")
            with one_blas_thread():
                target = self._start(
                    frame, check_box(box, frame.shape, "MultiTracker.add"), "MultiTracker.add"
                )
            self._frame_shape = frame.shape
        self._targets[self._next] = target
        self._next += 1
        return self._next - 1

    @exclusive
    def remove(self, id: int) -> None:
        """Follow this target no longer.  Raises KeyError for an id that there is not."""
        if id not in self._targets:
            raise KeyError(
                f"MultiTracker.remove: there is no target {id}; there are {list(self._targets)}"
            )
        target = self._targets.pop(id)
        if self._by_kernels is not None:
            self._by_kernels.remove(target)

    @exclusive
    def update(self, frame: Any, response: bool = False) -> dict[int, TrackResult]:
        """Find every target in the next frame and learn from it.  Returns {id: result}, in the
        order of `add`.

        Response maps come back only when `response` is true.  Raises ValueError when the frame's
        size is not that of the frames before.
        """
        if not self._targets:
            return {}
        if self._by_kernels is not None:
            rows = self._by_kernels.update(
                frame, list(self._targets.values()), response, "MultiTracker.update"
            )
            return {id: TrackResult(**row) for id, row in zip(self._targets, rows)}
        frame = to_bgr(frame)
        check_frame_shape(frame.shape, self._frame_shape, "MultiTracker.update")
        targets: list[Target] = list(self._targets.values())
        results: list[TrackResult] = []
        with one_blas_thread():
            for first in range(0, len(targets), BATCH):
                results += self._follow(frame, targets[first : first + BATCH], response)
        return dict(zip(self._targets, results))
