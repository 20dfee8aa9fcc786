"""OpenCV's tracker interface: code written for `cv2.TrackerMIL` and its like runs DCFNet."""

from typing import Any

from ..presets import Preset
from ..tracker import Tracker, TrackResult
from ..weights import Weights


class OpenCVTracker:
    """A `cv2.Tracker` in names, arguments and results.

        tracker = OpenCVTracker.create()
        tracker.init(image, (x, y, w, h))
        ok, (x, y, w, h) = tracker.update(image)

    Images are those of OpenCV (BGR).  Boxes are 0-based pixels, top-left corner; as in OpenCV they
    come back as whole numbers.  `result` holds the last update in full (`TrackResult`: box in
    fractions of a pixel, score, PSR, scale), None before the first.  Arguments and errors of the
    constructor are those of `Tracker`.
    """

    def __init__(
        self,
        weights: str | Weights = "light",
        preset: str | Preset = "default",
        device: str = "auto",
    ) -> None:
        self._tracker = Tracker(weights, preset, device)
        self.result: TrackResult | None = None

    @classmethod
    def create(cls, *settings: Any, **named: Any) -> "OpenCVTracker":
        """The same as the constructor; OpenCV's trackers are made by `create`."""
        return cls(*settings, **named)

    def init(self, image: Any, boundingBox: Any) -> None:
        """Learn the target inside `boundingBox` = (x, y, w, h), any sequence of four numbers.

        Raises ValueError for a box that cannot be tracked, TypeError for another image.
        """
        self._tracker.init(image, boundingBox)
        self.result = None

    def update(self, image: Any) -> tuple[bool, tuple[int, int, int, int]]:
        """Find the target in the next image -> (ok, (x, y, w, h)).

        ok: False when the window holds nothing to track; the box is then the last one.  Raises
        RuntimeError before `init`, ValueError for an image of another size than the first.
        """
        self.result = self._tracker.update(image)
        x, y, w, h = (round(value) for value in self.result.box)
        return self.result.ok, (x, y, w, h)

    def getTrackingScore(self) -> float:
        """Score of the last update, 0 to 1: about 1 at the start, lower as the target changes."""
        if self.result is None:
            raise RuntimeError("OpenCVTracker.getTrackingScore: call update(image) first")
        return self.result.score
