"""`Tracker` follows one target through a video, `MultiTracker` any number of them.

Both choose a step once, in `choose_step`, and hand every frame to it.
"""

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .backend import Device
from .fast import growing_step, strip
from .fast.features import FastFeatures
from .presets import Preset, get_preset, with_learnt
from .support.threads import Turn, exclusive
from .tracking.features import NetworkMaps, PlainFeatures, choose_band
from .tracking.step import FrameStep, Observer, PlainStep
from .tracking.target import TrackResult
from .weights import Weights, load_weights

__all__ = ["MultiTracker", "TrackResult", "Tracker"]

log = logging.getLogger(__name__)

BATCH = 8  # targets that pass together on a CPU: enough for both cores, and 60 MB of memory
FeatureMaps = Callable[[np.ndarray], np.ndarray]  # see `PlainFeatures`


def choose_step(
    source: Weights | FeatureMaps,
    preset: Preset,
    device: Device,
    band: str | None,
    observer: Observer | None,
    batch: int,
) -> FrameStep:
    """The fastest step that these settings allow, for `batch` targets at a time.

    source: of the features: the weights of a network, or a function that makes feature maps.
    """
    if isinstance(source, Weights) and device.kind == "cuda":
        reason = growing_step.reason_against(preset, band)
        if not reason:
            return growing_step.GrowingDeviceStep(source, preset, device)
        log.info("%s: array code on the GPU in place of kernels, since %s", device, reason)
    kept = choose_band(preset, device) if band == "auto" else None
    features: Any
    if not isinstance(source, Weights):
        features = PlainFeatures(source, preset, kept, device)
    elif device.kind == "cpu" and kept is not None and strip.supports(source.architecture):
        features = FastFeatures(source, preset, kept, batch * preset.num_scales)
    else:
        features = PlainFeatures(NetworkMaps(source, device), preset, kept, device)
    return PlainStep(preset, features, kept, device, batch, observer=observer)


class _Base:
    """What both trackers share: settings, the step, copies.  Arguments as for `Tracker`."""

    _batch = 1  # targets at a time
    _memory: tuple[str, ...] = ()  # attributes that a copy takes over beside settings and targets

    def __init__(
        self,
        weights: str | Weights = "light",
        preset: str | Preset = "default",
        device: str = "auto",
        band: str | None = "auto",
        observer: Observer | None = None,
        features: FeatureMaps | None = None,
    ) -> None:
        name = type(self).__name__
        if band not in ("auto", None):
            raise ValueError(f"{name}: band must be 'auto' or None, got {band!r}")
        get_preset(preset)  # its errors before any file is read
        if features is None and not isinstance(weights, Weights):
            weights = load_weights(weights)
        learnt = weights.training.get("learnt") if isinstance(weights, Weights) else None
        self.preset = with_learnt(preset, learnt)
        source: Any = weights if features is None else features
        self.weights = weights if features is None else None
        own = "an observer needs" if observer else "features of your own need" if features else ""
        self.device = backend.select_device("cpu" if own and device == "auto" else device)
        if own and self.device.kind != "cpu":
            raise ValueError(f"{name}: {own} device='cpu', got {self.device}: kernels tell nothing")
        self.turn = Turn(self.device)
        self._step = choose_step(source, self.preset, self.device, band, observer, self._batch)
        self._watched = observer is not None
        settings = {"weights": weights, "preset": self.preset, "device": str(self.device)}
        self._settings: dict[str, Any] = {**settings, "band": band, "features": features}

    def __reduce__(self) -> Any:
        """For `copy.deepcopy` and pickle: settings and targets; all else is made anew."""
        name = type(self).__name__
        if self._watched:
            raise TypeError(
                f"{name}: this tracker is watched by an observer, so it cannot be copied or "
                "pickled; make another one, and start it from the boxes of its results"
            )
        with self.turn.take(name):  # copied here, so that it is the state of one frame
            memory = {key: copy.copy(getattr(self, key)) for key in self._memory}
            state = self._step.copy_of_targets(name), memory
        return functools.partial(type(self), **self._settings), (), state

    def __setstate__(self, state: tuple[Any, dict[str, Any]]) -> None:
        self._step.go_on_with(state[0])
        vars(self).update(state[1])

    def __copy__(self) -> "_Base":
        return copy.deepcopy(self)  # two trackers cannot share a target


class Tracker(_Base):
    """DCFNet: follow one box through a video.

        tracker = Tracker(weights="light", preset="default", device="auto")
        tracker.init(frame, (x, y, w, h))
        result = tracker.update(frame)

    weights: a packaged name, a path to an .h5 file, or a `Weights`.  preset: a name or a `Preset`.
    device: "auto", "cpu", "cuda" or "cuda:N".  On a GPU a frame may lie there already (CuPy,
    `__cuda_array_interface__` or DLPack; uint8): then no host copies it.
    band: "auto" keeps the bins of the spectrum that the label needs (see `ops.fourier`), None keeps
    all.
    features: a function of your own in the place of a network, patches (P, 3, N, N), BGR, 0..255,
    float32 -> feature maps (P, D, N, N), see `tracking.features.PlainFeatures`; on a CPU.
    observer: a function that is called with the name and the values of each event below, while they
    come about; on a CPU.
    Raises ValueError for unknown names or wrong files, `backend.DeviceError` for a GPU that cannot
    be used.

    One call at a time: a second thread that comes meanwhile gets a RuntimeError.  On a CPU
    `copy.deepcopy` and pickle give a tracker that goes on as this one would; a tracker also goes on
    in a forked process.

    Events, in the order of a frame (S windows; arrays are the tracker's own and are overwritten
    later: copy them):

        search            centres, windows (S, 2), pixels; spectra (S, D, bins) of the windowed
                          features
        response          response (S, N, N), peak at (0, 0) where nothing moved; peaks (S,): with
                          penalties
        move              peak (row, column), map pixels; window (w, h): the target's now.  Only
                          where there is a peak
        redetection       as search, and response: of other places, for an unsure target; once or
                          more, and once more where it may be
        redetection move  as move, and centre: the place where it is found
        template          as search: what is learned from.  Not in an unsure frame; in `init` the
                          first event
        model             filter: the `OnlineFilter`, after this frame
    """

    @exclusive
    def init(self, frame: Any, box: Any) -> None:
        """Learn the target inside `box` = (x, y, w, h), pixels, 0-based, of `frame`.

        Raises ValueError when the box is not finite, not positive, outside the frame or larger than
        it, and when the window around it holds nothing.
        """
        self._step.start(frame, box, 0, "Tracker.init")

    @exclusive
    def update(self, frame: Any, response: bool = False) -> TrackResult:
        """Find the target in the next frame and learn from it.

        The response map comes back only when `response` is true.  Raises RuntimeError before
        `init`, ValueError when the frame's size is not the first one's.
        """
        return self._step.update(frame, [0], response, "Tracker.update")[0]


class MultiTracker(_Base):
    """Follow any number of boxes, of any sizes, through a video.

        tracker = MultiTracker(weights="light", preset="default", device="auto")
        first = tracker.add(frame, (x, y, w, h))
        second = tracker.add(frame, (x, y, w, h))
        results = tracker.update(frame)             # {first: TrackResult, second: TrackResult}
        tracker.remove(first)

    All windows of a frame go through crop, network and filter as one batch.  Every target's results
    are those of a `Tracker` of its own, to rounding.  Arguments as for `Tracker`.  All frames have
    one size as long as there is a target.  On a GPU a step has rows for 1, 2, 4, 8, ... targets;
    those of removed ones are used again, but not given back.  Threads, forks and copies: as for
    `Tracker`.
    """

    _batch, _memory = BATCH, ("_rows", "_next")

    def __init__(
        self,
        weights: str | Weights = "light",
        preset: str | Preset = "default",
        device: str = "auto",
        band: str | None = "auto",
        features: FeatureMaps | None = None,
    ) -> None:
        super().__init__(weights, preset, device, band, None, features)
        self._rows: dict[int, int] = {}  # id -> row in the step
        self._next = 0

    @exclusive
    def add(self, frame: Any, box: Any) -> int:
        """Learn the target inside `box` = (x, y, w, h), pixels, 0-based.  Returns its new id.

        Raises ValueError as `Tracker.init` does, and when the frame's size is not that of the other
        targets' frames.  Nothing has changed then.
        """
        taken = set(self._rows.values())
        row = next(row for row in range(len(taken) + 1) if row not in taken)
        self._step.start(frame, box, row, "MultiTracker.add")
        self._rows[self._next] = row
        self._next += 1
        return self._next - 1

    @exclusive
    def remove(self, id: int) -> None:
        """Follow this target no longer.  Raises KeyError for an id that there is not."""
        if id not in self._rows:
            raise KeyError(
                f"MultiTracker.remove: there is no target {id}; there are {list(self._rows)}"
            )
        self._step.remove(self._rows.pop(id))

    @exclusive
    def update(self, frame: Any, response: bool = False) -> dict[int, TrackResult]:
        """Find every target in the next frame and learn from it: {id: result}, in order of `add`.

        Response maps come back only when `response` is true.  Raises ValueError when the frame's
        size is not that of the frames before.
        """
        if not self._rows:
            return {}
        rows = list(self._rows.values())
        results = self._step.update(frame, rows, response, "MultiTracker.update")
        return dict(zip(self._rows, results))
