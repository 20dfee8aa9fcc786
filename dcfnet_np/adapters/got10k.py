"""The GOT-10k toolkit's `Tracker`: its experiments (GOT-10k, OTB, LaSOT, ...) run DCFNet.

Needs the package got10k.
"""

from typing import Any

import numpy as np

from ..presets import Preset
from ..tracker import Tracker
from ..weights import Weights

_missing = ""
try:  # this module can always be imported; making a tracker says what is missing
    from got10k.trackers import Tracker as ToolkitTracker
except ImportError as error:
    ToolkitTracker, _missing = object, str(error)


class Got10kTracker(ToolkitTracker):  # type: ignore[misc]  # the toolkit has no types
    """A tracker for `got10k.experiments`.

        ExperimentOTB("OTB", version=2015).run(Got10kTracker())

    name: folder of the results and label in the toolkit's reports.
    origin: number of the first pixel in the data set's files, whose boxes the toolkit hands over as
    they are.  1 is OTB's rule, and that of the toolkit's authors for GOT-10k too.  The boxes that
    come back count from it as well.
    weights, preset, device: as for `Tracker`.  ImportError where the toolkit is not installed.
    """

    def __init__(
        self,
        name: str = "DCFNet",
        origin: int = 1,
        weights: "str | Weights" = "light",
        preset: "str | Preset" = "default",
        device: str = "auto",
    ) -> None:
        if _missing:
            why = f"the GOT-10k toolkit cannot be imported ({_missing})"
            raise ImportError(f"Got10kTracker: {why}; pip install got10k==0.1.3")
        # so that experiments run it once, not three times
        super().__init__(name, is_deterministic=True)
        self._tracker = Tracker(weights, preset, device)
        self._origin = np.array([origin, origin, 0, 0])

    def init(self, image: Any, box: Any) -> None:
        """Learn the target inside `box` = (x, y, w, h), corner counted from `origin`.  image: PIL,
        of any mode.

        Raises TypeError for another kind of image, ValueError for a box that cannot be tracked.
        """
        self._tracker.init(_to_bgr(image), np.subtract(box, self._origin))

    def update(self, image: Any) -> np.ndarray:
        """The target in the next image: (4,) float64 x, y, w, h, corner counted from `origin`.

        A target that is not found keeps its last box.  Raises RuntimeError before `init`.
        """
        return np.add(self._tracker.update(_to_bgr(image)).box, self._origin)


def _to_bgr(image: Any) -> np.ndarray:
    """A PIL image as a frame: (H, W, 3) uint8 as in OpenCV, or gray of 16 bits or floats."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(f"Got10kTracker: image must be a PIL image, got {type(image).__name__}")
    if image.mode == "F" or image.mode.startswith("I"):  # PIL would cut off what is above 255
        gray = np.asarray(image)
        fits = gray.dtype.kind in "iu" and 0 <= gray.min() <= gray.max() < 2**16
        return gray.astype(np.uint16) if fits else gray
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
