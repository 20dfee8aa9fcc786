"""Tracking: scale pyramid, response, peak, move, model update.

`TrackerBase` is the step from one frame to the next, `Target` what is known of one target in
between.  `Tracker` follows one target; `multi_tracker.MultiTracker` many, with the same step.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import backend
from .backend import Array, to_device, to_numpy
from .device_tracker import check_frame_shape, device_tracker, size_limits, state_after
from .extractor import NOTHING_TO_TRACK, is_flat, make_extractor
from .filter import OnlineFilter
from .ops.fourier import Band, InverseWork, irfft2, label_band, make_inverse_work, rfft2
from .presets import Preset, get_preset
from .support.threads import Cores, Turn, exclusive, one_blas_thread
from .vision.boxes import Box, check_box
from .vision.crop import to_bgr
from .vision.windows import gaussian_label
from .weights import Weights, load_weights

# of an event's name and its values, see `Tracker`
Observer: TypeAlias = Callable[[str, dict[str, Any]], None]


class TrackResult(NamedTuple):
    """What is known of the target in one frame."""

    box: tuple[float, float, float, float]  # x, y, w, h in pixels, 0-based, top-left corner
    ok: bool  # the state is "tracking"; otherwise nothing was learned from this frame
    score: float  # how well it was recognised, 0 to 1, see `score_of`
    psr: float  # peak-to-sidelobe ratio of the response
    scale: float  # size over the first frame's, geometric mean of both sides
    # (N, N) response of the best scale, peak at the centre when nothing moved
    response: np.ndarray | None = None
    # average peak-to-correlation energy of the response; NaN where kernels do the work
    apce: float = np.nan
    # or "unsure": no response, or score or PSR below the preset's; or "lost": unsure for long
    state: str = "tracking"


class Target:
    """What is known of one target: its place and size, the limits of its size, and the filter that
    finds it.
    """

    filters: list[OnlineFilter]  # one for each learning rate
    template_window: np.ndarray  # (w, h) of what is to be learned next, around the centre

    def __init__(self, box: Box, frame_shape: tuple[int, ...], preset: Preset) -> None:
        x, y, w, h = box  # pixels, 0-based
        self.centre = np.array([x + w / 2, y + h / 2])
        self.size = self.first_size = np.array([w, h])
        self.min_size, self.max_size = np.reshape(
            size_limits(self.size, frame_shape, preset), (2, 2)
        )
        self.padding = preset.padding
        self.unsure = 0  # frames in a row
        self.sure_place = self.centre, self.size  # the last one

    def windows(self, factors: Any = 1.0) -> np.ndarray:
        """Widths and heights of windows around it, (S, 2) pixels, for (S, 2) factors on its size or
        one number.
        """
        return np.atleast_2d(factors) * self.size * (1 + self.padding)

    def move(self, displacement: tuple[float, ...], window: np.ndarray, map_size: int) -> None:
        """To the peak (row, column) of the response in a search window (w, h), and to that window's
        size.

        One map pixel is window / size frame pixels, as in the released codes (their crop samples
        window / (size-1))."""
        row, column = displacement
        self.centre = self.centre + np.array([column, row]) * window / map_size
        self.size = np.minimum(
            np.maximum(window / (1 + self.padding), self.min_size), self.max_size
        )

    def judge(self, sure: bool, lost_after: int) -> None:
        """Count unsure frames.

        A target that is lost by now is taken for where it was seen last.
        """
        if sure:
            self.unsure, self.sure_place = 0, (self.centre, self.size)
            return
        self.unsure += 1
        if self.unsure >= lost_after:
            self.centre, self.size = self.sure_place

    def learn(self, template_f: Array, extremes: np.ndarray) -> None:
        """Update the filter, unless there is nothing in the template.

        extremes: (1, 3, 2), see `is_flat`.
        """
        if not is_flat(extremes):
            for model in self.filters:
                model.update(template_f)

    @property
    def filter(self) -> OnlineFilter:
        """The first one, most often the only one."""
        return self.filters[0]

    def response_f(self, search_f: Array) -> Array:
        """Eq. 3 in the Fourier domain, (S, bins): the mean over the filters."""
        response_f = self.filter.response_f(search_f)
        for other in self.filters[1:]:
            response_f += other.response_f(search_f)
        if len(self.filters) > 1:
            response_f /= len(self.filters)
        return response_f

    def result(
        self, response: np.ndarray, quality: "Quality", lost_after: int, with_response: bool
    ) -> TrackResult:
        """As things stand.  response: with zero displacement at (0, 0)."""
        x, y = self.centre - self.size / 2
        box = (float(x), float(y), float(self.size[0]), float(self.size[1]))
        scale = float(np.sqrt((self.size / self.first_size).prod()))
        map_ = np.fft.fftshift(response) if with_response else None
        state = state_after(self.unsure, lost_after)
        return TrackResult(
            box, state == "tracking", quality.score, quality.psr, scale, map_, quality.apce, state
        )


class Quality(NamedTuple):
    """How much a response looks like that of the target."""

    score: float  # see `score_of`
    psr: float
    apce: float


NOTHING = Quality(0.0, 0.0, 0.0)


class Memory(NamedTuple):
    """Arrays for the detection of one target, used again for every frame."""

    inverse: InverseWork | None
    doubles: np.ndarray  # (N, N) float64, for `measure`


class TrackerBase:
    """The step from one frame to the next, for a batch of targets.  Arguments as for `Tracker`.

    batch: the most targets that are worked on at the same time; there is memory for so many.
    """

    # attributes: what a copy takes over beside the settings
    _memory_of_targets: tuple[str, ...] = ()
    _observer: Observer | None = None

    def __init__(
        self,
        weights: "str | Weights",
        preset: "str | Preset",
        device: str,
        band: "str | None",
        batch: int,
    ) -> None:
        if band not in ("auto", None):
            raise ValueError(f"{type(self).__name__}: band must be 'auto' or None, got {band!r}")
        self.preset = get_preset(preset)
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.device = backend.select_device(device)
        self.turn = Turn(self.device)
        settings = {
            "weights": self.weights,
            "preset": self.preset,
            "device": str(self.device),
            "band": band,
        }
        self._settings: dict[str, Any] = settings  # of a copy
        self._by_kernels = device_tracker(self.weights, self.preset, self.device, band)
        if self._by_kernels is not None:
            return  # on a GPU kernels do all that follows, see there

        size, scales = self.preset.input_size, len(self.preset.window_factors)
        label = gaussian_label((size, size), self.preset.sigma)
        # None: all bins of the spectrum
        self.band: Band | None = label_band(label) if band == "auto" else None
        inverse: list[InverseWork | None] = [None] * batch
        if self.band is not None:
            rows, columns = (
                to_device(matrix, self.device) for matrix in (self.band.rows, self.band.columns)
            )
            self.band = self.band._replace(rows=rows, columns=columns)
            if self.device.kind == "cpu":
                inverse = [
                    make_inverse_work(self.band, (scales,), np.float32) for _ in range(batch)
                ]
        # so that no number depends on BLAS's threads
        with backend.current(self.device), one_blas_thread():
            self._label_f = rfft2(to_device(label, self.device), self.band)
            self._extract = make_extractor(
                self.weights, self.preset, self.band, self.device, batch * scales
            )
        self._memory = [Memory(work, np.empty((size, size))) for work in inverse]
        self._cores = Cores()

    def __reduce__(self) -> Any:
        """For `copy.deepcopy` and pickle: settings and targets.

        All else is memory, and is made anew.
        """
        reason = f"on {self.device}, where its targets stay" if self.device.kind != "cpu" else ""
        reason = "watched by an observer" if self._observer else reason
        if reason:
            raise TypeError(
                f"{type(self).__name__}: this tracker is {reason}, so it cannot be copied or pickled; "
                "make another one, and start it from the boxes of its results"
            )
        # copied here, so that it is the state of one frame
        with self.turn.take(type(self).__name__):
            state = {
                name: value for name, value in vars(self).items() if name in self._memory_of_targets
            }
            state = copy.deepcopy(state)
        return functools.partial(type(self), **self._settings), (), state

    def __copy__(self) -> "TrackerBase":
        return copy.deepcopy(self)  # two trackers cannot share a target

    def _tell(self, event: str, **values: Any) -> None:
        if self._observer is not None:
            self._observer(event, values)

    def _start(self, frame: np.ndarray, box: Box, who: str) -> Target:
        """A new target, from its box in `frame`.

        Raises ValueError, in the name of `who`, for a flat window and where the filter is not
        finite."""
        preset = self.preset
        target = Target(box, frame.shape, preset)
        spectra, extremes = self._extract(frame, target.centre, target.windows())
        self._tell(
            "template", centres=target.centre[None], windows=target.windows(), spectra=spectra
        )
        if is_flat(extremes):
            raise ValueError(f"{who}: {NOTHING_TO_TRACK}")
        lam = preset.lam
        if preset.lam_divisor == "elements":
            lam *= spectra.shape[1] * preset.input_size**2
        rates = [preset.learning_rate] + ([preset.second_rate] if preset.second_rate >= 0 else [])
        target.filters = [
            OnlineFilter(self._label_f, lam, rate, preset.update_rule) for rate in rates
        ]
        for model in target.filters:
            model.update(spectra[0])
        if not backend.array_module(spectra).isfinite(target.response_f(spectra)).all():
            raise ValueError(
                f"{who}: no finite filter comes from this window; are the weights far too large, or is lam zero?"
            )
        self._tell("model", filters=target.filters)
        return target

    def _follow(
        self, frame: np.ndarray, targets: Sequence[Target], response: bool
    ) -> list[TrackResult]:
        """Find every target in the next frame and learn from it; at most `batch` of them."""
        preset = self.preset

        # Detection: Eq. 3 at every scale of the pyramid around the last position, all windows in
        # one batch.
        windows = np.stack([target.windows(preset.window_factors) for target in targets])
        centres = np.repeat([target.centre for target in targets], windows.shape[1], axis=0)
        search_f, extremes = self._extract(frame, centres, windows.reshape(-1, 2))
        self._tell("search", centres=centres, windows=windows.reshape(-1, 2), spectra=search_f)
        search_f = search_f.reshape(*windows.shape[:2], *search_f.shape[1:])
        extremes = extremes.reshape(*windows.shape[:2], *extremes.shape[1:])
        results = self._for_each(
            lambda i: self._find(
                targets[i], windows[i], search_f[i], extremes[i], self._memory[i], response
            ),
            len(targets),
        )

        if preset.redetection:
            for i, target in enumerate(targets):
                if target.unsure >= preset.lost_after:
                    results[i] = self._redetect(frame, target, response) or results[i]

        # Learning: the template at the new place.
        learners = [target for target, result in zip(targets, results) if result.ok]
        if learners:
            centres = np.stack([target.centre for target in learners])
            template_windows = np.stack([target.template_window for target in learners])
            template_f, extremes = self._extract(frame, centres, template_windows)
            self._tell("template", centres=centres, windows=template_windows, spectra=template_f)
            self._for_each(
                lambda i: learners[i].learn(template_f[i], extremes[i : i + 1]), len(learners)
            )
        if self._observer is not None:  # then there is one target, see `Tracker`
            self._tell("model", filters=targets[0].filters)
        return results

    def _find(
        self,
        target: Target,
        windows: np.ndarray,
        search_f: Array,
        extremes: np.ndarray,
        memory: Memory,
        response: bool,
    ) -> TrackResult:
        """Move one target to the best peak of its responses.

        windows: (S, 2); search_f: (S, D, bins).
        """
        preset, size = self.preset, self.preset.input_size
        if is_flat(extremes):
            maps = np.zeros((len(windows), size, size), np.float32)
        else:
            maps = to_numpy(
                irfft2(target.response_f(search_f), (size, size), self.band, memory.inverse)
            )
        peaks = maps.reshape(len(maps), -1).max(1) * preset.window_penalties
        self._tell("response", response=maps, peaks=peaks)
        best, quality = 0, NOTHING
        if not (np.isfinite(peaks).all() and np.isfinite(maps.min())):  # weights far too large
            maps = np.zeros_like(maps)
        elif peaks.max() > 0:
            best = int(peaks.argmax())
            quality = measure(maps[best], memory.doubles)
            window = windows[best]
            if preset.continuous_scale and 0 < best < preset.num_scales - 1:
                window = window * preset.scale_step ** vertex(*peaks[best - 1 : best + 2])
            peak = self._peak(maps[best])
            self._tell("move", peak=peak, window=window)
            target.move(peak, window, size)
            target.template_window = (
                window if preset.update_crop == "window" else target.windows()[0]
            )
        sure = (
            quality.score > 0
            and quality.score >= preset.min_score
            and quality.psr >= preset.min_psr
        )
        target.judge(sure, preset.lost_after)
        return target.result(maps[best], quality, preset.lost_after, response)

    def _redetect(self, frame: np.ndarray, target: Target, response: bool) -> TrackResult | None:
        """Look for a lost target at some other places; None when it is not there."""
        preset, size = self.preset, self.preset.input_size
        places = search_places(target.centre, target.size, frame.shape)
        if len(places) == 0:
            return None
        count = min(preset.redetection, len(places))
        begin = (target.unsure - preset.lost_after) * count
        places = np.take(places, range(begin, begin + count), axis=0, mode="wrap")
        (window,) = target.windows()
        found, found_map, found_place = NOTHING, None, target.centre
        most = preset.num_scales * len(self._memory)  # windows in one call
        for first in range(0, count, most):
            some = places[first : first + most]
            windows = np.tile(window, (len(some), 1))
            search_f, extremes = self._extract(frame, some, windows)
            maps = to_numpy(irfft2(target.response_f(search_f), (size, size), self.band))
            self._tell(
                "redetection", centres=some, windows=windows, spectra=search_f, response=maps
            )
            for place, map_, own_extremes in zip(some, maps, extremes):
                answered = not is_flat(own_extremes[None]) and np.isfinite(map_).all()
                quality = measure(map_) if answered else NOTHING
                if quality.psr > found.psr:
                    found, found_map, found_place = quality, map_.copy(), place
        if (
            found_map is None
            or found.psr < preset.redetection_psr
            or found.score < preset.min_score
        ):
            return None
        peak = self._peak(found_map)
        self._tell("redetection move", centre=found_place, peak=peak, window=window)
        target.centre = found_place
        target.move(peak, window, size)
        target.template_window = target.windows()[0]
        target.judge(True, preset.lost_after)
        return target.result(found_map, found, preset.lost_after, response)

    def _peak(self, response: np.ndarray) -> tuple[float, ...]:
        """Displacement (row, column) of the maximum, in map pixels; indices past the middle are
        negative ones.
        """
        if self.preset.column_major_ties:
            column, row = np.unravel_index(response.T.argmax(), response.shape[::-1])
        else:
            row, column = np.unravel_index(response.argmax(), response.shape)
        size = len(response)
        half = size // 2 - 1 if self.preset.wrap_before_half else size // 2
        peak: list[float] = [int(index) - (size if index > half else 0) for index in (row, column)]
        if self.preset.subpixel:
            peak[0] += vertex(*response[[row - 1, row, (row + 1) % size], column])
            peak[1] += vertex(*response[row, [column - 1, column, (column + 1) % size]])
        return peak[0], peak[1]

    def _for_each(self, work: Callable[[int], Any], count: int) -> list[Any]:
        """[work(0), ..., work(count - 1)], spread over the cores where these do the work."""
        if count == 1 or self.device.kind == "cuda":
            return [work(i) for i in range(count)]
        return self._cores.map(work, range(count))


class Tracker(TrackerBase):
    """DCFNet: follow one box through a video.

        tracker = Tracker(weights="light", preset="default", device="auto")
        tracker.init(frame, (x, y, w, h))
        result = tracker.update(frame)

    weights: a packaged name, a path to an .h5 file, or a `Weights`.  preset: a name or a `Preset`.
    band: "auto" keeps the bins of the spectrum that the label needs (see `ops.fourier`), None keeps
    all.
    observer: is called with the name and the values of each event below, while they come about; on
    a CPU. On a GPU a frame may lie there already (CuPy, `__cuda_array_interface__` or DLPack;
    uint8): then no host copies it.
    Raises ValueError for unknown names or wrong files, `backend.DeviceError` for a GPU that cannot
    be used.

    One call at a time: a second thread that comes meanwhile gets a RuntimeError.  On a CPU
    `copy.deepcopy` and pickle give a tracker that goes on as this one would; a tracker also goes on
    in a forked process.

    Events, in the order of a frame (S windows; arrays are the tracker's own and are overwritten
    later: copy them):

        search            centres, windows (S, 2), pixels; spectra (S, D, bins): of the windowed features
        response          response (S, N, N), peak at (0, 0) where nothing moved; peaks (S,): with penalties
        move              peak (row, column), map pixels; window (w, h): the target's now.  Only where there is a peak
        redetection       as search, and response: of other places, for a lost target; once or more
        redetection move  as move, and centre: the place where it is found
        template          as search: what is learned from.  Not in an unsure frame; in `init` the first event
        model             filters: the list of `OnlineFilter`, after this frame
    """

    _memory_of_targets = ("_target", "_frame_shape")

    def __init__(
        self,
        weights: "str | Weights" = "light",
        preset: "str | Preset" = "default",
        device: str = "auto",
        band: "str | None" = "auto",
        observer: Observer | None = None,
    ) -> None:
        super().__init__(weights, preset, device, band, batch=1)
        if observer is not None and self.device.kind != "cpu":
            raise ValueError(
                f"Tracker: an observer needs device='cpu', got {self.device}: kernels tell nothing"
            )
        self._observer = observer
        self._target: Target | None = None

    @exclusive
    def init(self, frame: Any, box: Any) -> None:
        """Learn the target inside `box` = (x, y, w, h), pixels, 0-based, of `frame`.

        Raises ValueError when the box is not finite, not positive, outside the frame or larger than
        it."""
        if self._by_kernels is not None:
            return self._by_kernels.start(frame, box, 0, "Tracker.init")
        frame = to_bgr(frame)
        with one_blas_thread():
            self._target = self._start(
                frame, check_box(box, frame.shape, "Tracker.init"), "Tracker.init"
            )
        self._frame_shape = frame.shape

    @exclusive
    def update(self, frame: Any, response: bool = False) -> TrackResult:
        """Find the target in the next frame and learn from it.

        The response map comes back only when `response` is true.  Raises RuntimeError before
        `init`, ValueError when the frame's size is not the first one's.
        """
        if self._by_kernels is not None:
            return TrackResult(**self._by_kernels.update(frame, [0], response, "Tracker.update")[0])
        if self._target is None:
            raise RuntimeError("Tracker.update: call init(frame, box) first")
        frame = to_bgr(frame)
        check_frame_shape(frame.shape, self._frame_shape, "Tracker.update")
        with one_blas_thread():
            return self._follow(frame, [self._target], response)[0]


def search_places(centre: np.ndarray, size: np.ndarray, frame_shape: tuple[int, ...]) -> np.ndarray:
    """Where else a target may be: (P, 2) centres in the frame, one target apart, the nearest first;
    without `centre`.

    So the target is off the middle of some window by half its size at most, which the cosine window
    still shows."""
    lows, highs = np.ceil(-centre / size), np.floor((np.array(frame_shape[1::-1]) - centre) / size)
    across, down = (np.arange(low, high + 1) for low, high in zip(lows, highs))
    offsets = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    rings = abs(offsets).max(axis=1)
    order = rings.argsort(kind="stable")
    return centre + offsets[order[rings[order] > 0]] * size


def vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three neighbours is highest, relative to the middle one, the
    largest of them.
    """
    bend = 2 * float(at) - float(before) - float(after)
    return 0.5 * (float(after) - float(before)) / bend if bend > 0 else 0.0


def score_of(response: np.ndarray) -> float:
    """How well a target was recognised, from 0 to 1, by its response (N, N).

    It is the peak where that is at most 1, the peak that was learned.  A higher one comes of more
    contrast than was learned, as after a dark first frame, and its height says nothing: then it is
    the peak over the sum of the amplitudes of the waves that the response is made of.  That is 1
    where the crests of all waves meet."""
    peak = float(response.max())
    if peak > 1:
        peak = min(peak / float(abs(np.fft.fft2(response)).mean()), 1.0)
    return max(peak, 0.0)


def measure(response: np.ndarray, work: np.ndarray | None = None) -> Quality:
    """Score, PSR and APCE of a response (N, N).  work: as for `peak_to_sidelobe`."""
    return Quality(
        score_of(response), peak_to_sidelobe(response, work=work), peak_to_energy(response, work)
    )


def peak_to_energy(response: np.ndarray, work: np.ndarray | None = None) -> float:
    """Average peak-to-correlation energy: (max - min)^2 / mean of (response - min)^2, in double
    precision.

    Source: Wang et al., "Large margin object tracking with circulant feature maps", CVPR 2017, Eq.
    9."""
    heights = np.subtract(response, response.min(), dtype=np.float64, out=work)
    energy = np.vdot(heights, heights) / heights.size
    return float(heights.max() ** 2 / energy) if energy > 0 else 0.0


def peak_to_sidelobe(
    response: np.ndarray, exclude: int = 5, work: np.ndarray | None = None
) -> float:
    """Peak-to-sidelobe ratio: (peak - mean) / standard deviation, both of the map without the
    peak's neighbourhood.

    response: (N, N), circular; left out are the pixels up to `exclude` rows and columns away from
    the peak (11x11), as in Bolme et al., "Visual object tracking using adaptive correlation
    filters" (MOSSE), CVPR 2010.  work: (N, N) float64, for a caller that wants no new array.
    """
    height, width = response.shape
    work = np.empty(response.shape) if work is None else work
    work[...] = response  # sums in double precision
    row, column = divmod(int(response.argmax()), width)
    near_rows = np.arange(row - exclude, row + exclude + 1) % height
    near_columns = np.arange(column - exclude, column + exclude + 1) % width
    near = work[near_rows[:, None], near_columns]
    count = work.size - near.size
    total = work.sum() - near.sum()
    squares = np.vdot(work, work) - np.vdot(near, near)
    if count <= 0:
        return 0.0
    mean = total / count
    deviation = np.sqrt(max(squares / count - mean**2, 0.0))
    return float((response[row, column] - mean) / deviation) if deviation > 0 else 0.0
