"""One frame of tracking: search windows, response, peak, move, redetection, template, model.

A `FrameStep` does it for a batch of targets, by their rows.  `PlainStep` is the definition, and
what a CPU runs: only its features and its filter may be faster ones.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from ..backend import Array, Device, array_module, current, to_device, to_numpy
from ..filter import OnlineFilter
from ..ops.fourier import Band, irfft2, rfft2, shift_spectrum
from ..presets import Preset
from ..support.threads import Cores, one_blas_thread
from ..vision.boxes import check_box
from ..vision.crop import to_bgr
from ..vision.windows import gaussian_label
from .features import NOTHING_TO_TRACK, Extracted, Features, is_flat
from .response import NOTHING, Quality, measure, peak_place, search_places
from .target import Target, TrackResult, check_frame_shape

# of places and windows, (P, 2) both: their responses (P, N, N) and extremes (P, 3, 2)
Answer: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# of an event's name and its values, see `tracker.Tracker`
Observer: TypeAlias = Callable[[str, dict[str, Any]], None]


class FrameStep(Protocol):
    """One frame of tracking for a batch of targets.  `who` stands in errors."""

    def start(self, frame: Any, box: Any, row: int, who: str) -> None:
        """Learn what is inside `box` (x, y, w, h; pixels, 0-based) as target `row`, new or not.

        Raises ValueError for a bad box, a flat window, and another size of frame than that of the
        other targets; then nothing has changed.
        """

    def update(
        self, frame: Any, rows: Sequence[int], response: bool, who: str
    ) -> list[TrackResult]:
        """Find these targets in the next frame and learn from it.  RuntimeError before `start`."""

    def remove(self, row: int) -> None:
        """Forget this target."""

    def copy_of_targets(self, who: str) -> Any:
        """What another step goes on from; TypeError where targets stay on a GPU."""

    def go_on_with(self, targets: Any) -> None:
        """Take the targets that `copy_of_targets` of another step gave."""


class PlainStep:
    """The definition, in array code, on a CPU or a GPU.

    features, band, device: of one another, see `features`.  batch: the most targets that are worked
    on at the same time.  new_filter: what makes a filter, with the arguments of `OnlineFilter`.
    observer: hears of each event of a frame, see `tracker.Tracker`.
    """

    def __init__(
        self,
        preset: Preset,
        features: Features,
        band: Band | None,
        device: Device,
        batch: int = 1,
        new_filter: Callable[..., OnlineFilter] = OnlineFilter,
        observer: Observer | None = None,
    ) -> None:
        self.preset, self.features, self.band, self._device = preset, features, band, device
        self._shape = preset.input_size, preset.input_size
        self._batch, self._new_filter, self._observer = batch, new_filter, observer
        label = to_device(gaussian_label(self._shape, preset.sigma), device)
        # so that no number depends on BLAS's threads
        with current(device), one_blas_thread():
            self._label_f = rfft2(label, band)
        self._cores = Cores() if device.kind == "cpu" else None  # that share out the targets
        self._targets: dict[int, Target] = {}
        self._frame_shape: tuple[int, ...] = ()

    def start(self, frame: Any, box: Any, row: int, who: str) -> None:
        frame, preset = to_bgr(frame), self.preset
        if self._targets.keys() - {row}:
            check_frame_shape(frame.shape, self._frame_shape, who)
        target = Target(check_box(box, frame.shape, who), frame.shape, preset)
        with one_blas_thread():
            template_f, extremes = self._template(frame, [target])
            if is_flat(extremes):
                raise ValueError(f"{who}: {NOTHING_TO_TRACK}")
            elements = template_f.shape[1] * preset.input_size**2
            lam = preset.lam * (elements if preset.lam_divisor == "elements" else 1)
            target.filter = self._new_filter(
                self._label_f, lam, preset.learning_rate, preset.update_rule
            )
            target.filter.update(template_f[0])
            if not array_module(template_f).isfinite(target.filter.response_f(template_f)).all():
                raise ValueError(
                    f"{who}: no finite filter comes from this window; "
                    "are the features not finite, the weights far too large, or is lam zero?"
                )
            self._tell("model", filter=target.filter)
        self._targets[row], self._frame_shape = target, frame.shape

    def update(
        self, frame: Any, rows: Sequence[int], response: bool, who: str
    ) -> list[TrackResult]:
        if not self._targets:
            raise RuntimeError(f"{who}: call init(frame, box) first")
        frame = to_bgr(frame)
        check_frame_shape(frame.shape, self._frame_shape, who)
        targets = [self._targets[row] for row in rows]
        results: list[TrackResult] = []
        with one_blas_thread():
            for first in range(0, len(targets), self._batch):
                results += self._follow(frame, targets[first : first + self._batch], response)
        return results

    def remove(self, row: int) -> None:
        del self._targets[row]

    def copy_of_targets(self, who: str) -> Any:
        check_copy(self._device, who)
        return copy.deepcopy((self._targets, self._frame_shape))

    def go_on_with(self, targets: Any) -> None:
        self._targets, self._frame_shape = targets

    def _follow(
        self, frame: np.ndarray, targets: Sequence[Target], response: bool
    ) -> list[TrackResult]:
        """Find every target in the next frame and learn from it; at most `batch` of them."""
        # Detection: Eq. 3 at every scale around the last position, all windows in one batch.
        count, scales = len(targets), self.preset.num_scales
        windows = np.concatenate([t.windows(self.preset.scale_factors) for t in targets])
        centres = np.repeat([target.centre for target in targets], scales, axis=0)
        search_f, extremes = self._look("search", frame, centres, windows)

        def find(i: int) -> TrackResult:
            own = slice(i * scales, (i + 1) * scales)
            return self._find(targets[i], windows[own], search_f[own], extremes[own], response)

        results = self._each(find, count)
        for i, target in enumerate(targets):
            if self.preset.redetection and target.unsure >= self.preset.redetection_after:
                results[i] = self._redetect(frame, target, response) or results[i]

        # Learning: the template at the new place.
        learners = [target for target, result in zip(targets, results) if result.ok]
        cropped = [target for target in learners if target.template_f is None]
        if cropped:
            template_f, extremes = self._template(frame, cropped)
            for i, target in enumerate(cropped):
                if not is_flat(extremes[i : i + 1]):
                    target.template_f = template_f[i]

        def learn(i: int) -> None:
            target = learners[i]
            if target.template_f is not None:
                target.filter.update(target.template_f)
                target.template_f = None  # memory of the features, which they use again

        self._each(learn, len(learners))
        self._tell("model", filter=targets[0].filter)  # who observes has one target
        return results

    def _find(
        self,
        target: Target,
        windows: np.ndarray,
        search_f: Array,
        extremes: np.ndarray,
        response: bool,
    ) -> TrackResult:
        """Move one target to the best peak of its responses.  search_f: (S, D, bins)."""
        preset = self.preset
        if is_flat(extremes):
            maps = np.zeros((len(windows), *self._shape), np.float32)
        else:
            maps = self._respond(target, search_f)
        peaks = maps.reshape(len(maps), -1).max(1) * preset.scale_penalties
        self._tell("response", response=maps, peaks=peaks)
        best, quality = 0, NOTHING
        if not (np.isfinite(peaks).all() and np.isfinite(maps.min())):  # weights far too large
            maps = np.zeros_like(maps)
        elif peaks.max() > 0:
            best = int(peaks.argmax())
            quality = measure(maps[best])
            peak = peak_place(maps[best], preset)
            self._tell("move", peak=peak, window=windows[best])
            target.move(peak, windows[best])
            reach = max(map(abs, peak)) / preset.input_size
            if preset.reuse_within and reach <= preset.reuse_within:
                target.template_f = shift_spectrum(search_f[best], peak, self._shape, self.band)
        target.judge(quality)
        return target.result(maps[best], quality, response)

    def _redetect(self, frame: np.ndarray, target: Target, response: bool) -> TrackResult | None:
        """Look for a target at some other places; None when it is not there."""

        def answer(places: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            spectra, extremes = self.features(frame, places, windows)
            maps = self._respond(target, spectra)
            values = {"centres": places, "windows": windows, "spectra": spectra, "response": maps}
            self._tell("redetection", **values)
            return maps, extremes

        most = self.preset.num_scales * self._batch  # windows in one call
        found = look_elsewhere(target, frame.shape, most, answer)
        if found is None:
            return None
        peak = peak_place(found.response, self.preset)
        self._tell("redetection move", centre=found.place, peak=peak, window=found.window)
        target.reappear(found.place, found.window, peak, found.quality)
        return target.result(found.response, found.quality, response)

    def _template(self, frame: np.ndarray, targets: Sequence[Target]) -> Extracted:
        """What is to be learned of each target where it is now."""
        centres = np.stack([target.centre for target in targets])
        windows = np.stack([target.template_window for target in targets])
        return self._look("template", frame, centres, windows)

    def _look(
        self, event: str, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray
    ) -> Extracted:
        """Features of windows, and tell so."""
        seen = self.features(frame, centres, windows)
        self._tell(event, centres=centres, windows=windows, spectra=seen.spectra)
        return seen

    def _respond(self, target: Target, search_f: Array) -> np.ndarray:
        """Eq. 3: the responses (P, N, N), zero displacement at (0, 0)."""
        return to_numpy(irfft2(target.filter.response_f(search_f), self._shape, self.band))

    def _each(self, work: Callable[[int], Any], count: int) -> list[Any]:
        """[work(0), ..., work(count - 1)], spread over the cores where these do the work."""
        if count == 1 or self._cores is None:
            return [work(i) for i in range(count)]
        return self._cores.map(work, range(count))

    def _tell(self, event: str, **values: Any) -> None:
        if self._observer is not None:
            self._observer(event, values)


class Found(NamedTuple):
    """A response elsewhere: of the window (w, h) around a place (x, y), pixels."""

    place: np.ndarray
    window: np.ndarray
    response: np.ndarray  # (N, N)
    quality: Quality


def look_elsewhere(
    target: Target, frame_shape: tuple[int, ...], most: int, answer: Answer
) -> Found | None:
    """Where a target is found again; None where it is not.

    Looks at the next `redetection` places.  The best one may show the target at the edge of its
    window, so it is looked at once more, with the target in the middle and at every scale, and then
    believed or not.  At most `most` places a call of `answer`.
    """
    preset, window = target.preset, target.windows()[0]
    places = next_places(target, frame_shape)
    first = _best(places, np.tile(window, (len(places), 1)), np.ones(len(places)), most, answer)
    if first is None or not target.recognises(first.quality):
        return None
    row, column = peak_place(first.response, preset)
    place = first.place + np.array([column, row]) * window / preset.input_size
    windows = target.windows(preset.scale_factors)
    centres = np.tile(place, (len(windows), 1))
    again = _best(centres, windows, preset.scale_penalties, most, answer)
    return again if again is not None and target.found_by(again.quality) else None


def next_places(target: Target, frame_shape: tuple[int, ...]) -> np.ndarray:
    """The places (P, 2) at which an unsure target is looked for in this frame.

    They are around the last sure place: in every second frame the nearest ones, in between the next
    ones outwards, and from the frame's edges on again from the middle.
    """
    preset, (centre, size) = target.preset, target.sure_place
    places = search_places(centre, size, frame_shape)
    count = min(preset.redetection, len(places))
    frames = target.unsure - preset.redetection_after
    block = (frames + 1) // 2 if frames % 2 else 0
    return np.take(places, range(block * count, (block + 1) * count), axis=0, mode="wrap")


def _best(
    places: np.ndarray, windows: np.ndarray, penalties: np.ndarray, most: int, answer: Answer
) -> Found | None:
    """The response with the highest peak, times its penalty; None where nothing answers."""
    found: Any = None
    highest = 0.0
    for first in range(0, len(places), most):
        some = slice(first, first + most)
        maps, extremes = answer(places[some], windows[some])
        for i, map_ in enumerate(maps, start=first):
            answered = np.isfinite(map_).all() and not is_flat(extremes[i - first][None])
            peak = map_.max() * penalties[i] if answered else 0.0
            if peak > highest:
                highest, found = peak, (places[i], windows[i], map_.copy())
    if found is None:
        return None
    place, window, response = found
    return Found(place, window, response, measure(response))


def check_copy(device: Device, who: str) -> None:
    """Raise TypeError, in the name of `who`, for a copy of targets on a GPU."""
    if device.kind != "cpu":
        raise TypeError(
            f"{who}: this tracker is on {device}, where its targets stay, so it cannot be copied "
            "or pickled; make another one, and start it from the boxes of its results"
        )
