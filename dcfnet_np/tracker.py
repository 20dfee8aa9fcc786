"""The tracker of one target: scale pyramid, response, peak, move, model update."""

from typing import Any, NamedTuple

import numpy as np

from .backend import Cores, current, on_own_device, select_device, to_device, to_numpy
from .device_tracker import device_tracker
from .extractor import make_extractor
from .filter import OnlineFilter
from .ops.fourier import InverseWork, irfft2, label_band, make_inverse_work, rfft2
from .presets import Preset, get_preset
from .vision.boxes import check_box
from .vision.crop import to_bgr
from .vision.windows import gaussian_label
from .weights import Weights
from .weights import load as load_weights


class TrackResult(NamedTuple):
    """What is known of the target in one frame."""

    box: tuple[float, float, float, float]  # x, y, w, h in pixels, 0-based, top-left corner
    ok: bool  # False: the window held nothing to track; the box is the last one and the model was not updated
    score: float  # peak of the response; about 1 on the frame that the filter was learned from
    psr: float  # peak-to-sidelobe ratio of the response
    scale: float  # size over the first frame's, geometric mean of both sides
    response: np.ndarray | None = None  # (N, N) response of the best scale, peak at the centre when nothing moved


class Tracker:
    """DCFNet: follow one box through a video.

        tracker = Tracker(weights="light", preset="default", device="auto")
        tracker.init(frame, (x, y, w, h))
        result = tracker.update(frame)

    weights: a packaged name, a path to an .h5 file, or a `Weights`.  preset: a name or a `Preset`.
    band: "auto" keeps the bins of the spectrum that the label needs (see `ops.fourier`), None keeps all.
    On a GPU a frame may lie there already (CuPy, `__cuda_array_interface__` or DLPack; uint8): then no host copies it.
    Raises ValueError for unknown names or wrong files, `backend.DeviceError` for a GPU that cannot be used.
    """

    def __init__(
        self,
        weights: "str | Weights" = "light",
        preset: "str | Preset" = "default",
        device: str = "auto",
        band: "str | None" = "auto",
    ) -> None:
        if band not in ("auto", None):
            raise ValueError(f"Tracker: band must be 'auto' or None, got {band!r}")
        self.preset = get_preset(preset)
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.device = select_device(device)
        self._by_kernels = device_tracker(self.weights, self.preset, self.device, band)
        if self._by_kernels is not None:
            return  # on a GPU kernels do all that follows, see there

        size = self.preset.input_size
        label = gaussian_label((size, size), self.preset.sigma)
        self._band = label_band(label) if band == "auto" else None
        self._inverse: InverseWork | None = None
        if self._band is not None:
            rows, columns = (to_device(matrix, self.device) for matrix in (self._band.rows, self._band.columns))
            self._band = self._band._replace(rows=rows, columns=columns)
            if self.device.kind == "cpu":
                self._inverse = make_inverse_work(self._band, (self.preset.num_scales,), np.float32)
        with current(self.device):
            self._label_f = rfft2(to_device(label, self.device), self._band)
            self._extract = make_extractor(self.weights, self.preset, self._band, self.device)
        self._filter: OnlineFilter | None = None
        self._cores = Cores()
        self._doubles = np.empty((size, size))  # memory for `peak_to_sidelobe`

    @on_own_device
    def init(self, frame: Any, box: Any) -> None:
        """Learn the target inside `box` = (x, y, w, h), pixels, 0-based, of `frame`.

        Raises ValueError when the box is not finite, not positive, outside the frame or larger than it.
        """
        if self._by_kernels is not None:
            return self._by_kernels.init(frame, box)
        frame = to_bgr(frame)
        x, y, w, h = check_box(box, frame.shape, "Tracker.init")
        self._frame_shape = frame.shape
        self._centre = np.array([x + w / 2, y + h / 2])
        self._size = self._first_size = np.array([w, h])
        self._set_size_limits()
        spectra, flat = self._extract(frame, self._centre, self._window_sizes(1.0))
        if flat:
            raise ValueError("Tracker.init: the window around the box holds nothing to track: its pixels are all equal")
        lam = self.preset.lam
        if self.preset.lam_divisor == "elements":
            lam *= spectra.shape[1] * self.preset.input_size**2
        self._filter = OnlineFilter(self._label_f, lam, self.preset.learning_rate, self.preset.update_rule)
        self._filter.update(spectra[0])

    @on_own_device
    def update(self, frame: Any, response: bool = False) -> TrackResult:
        """Find the target in the next frame and learn from it.

        The response map comes back only when `response` is true.  Raises RuntimeError before `init`, ValueError when
        the frame's size is not the first one's.
        """
        if self._by_kernels is not None:
            return TrackResult(*self._by_kernels.update(frame, response))
        if self._filter is None:
            raise RuntimeError("Tracker.update: call init(frame, box) first")
        frame = to_bgr(frame)
        if frame.shape != self._frame_shape:
            raise ValueError(
                f"Tracker.update: the frame must be {self._frame_shape[1]}x{self._frame_shape[0]} as the first one, "
                f"got {frame.shape[1]}x{frame.shape[0]}"
            )
        with self._cores.one_blas_thread():
            return self._find_and_learn(frame, response)

    def _find_and_learn(self, frame: np.ndarray, response: bool) -> TrackResult:
        assert self._filter is not None
        preset = self.preset
        size = preset.input_size

        # Detection: Eq. 3 at every scale of the pyramid around the last position.
        windows = self._window_sizes(preset.scale_factors)
        search_f, flat = self._extract(frame, self._centre, windows)
        if flat:
            return self._result(False, 0.0, 0.0, np.zeros((size, size), np.float32) if response else None)
        maps = to_numpy(irfft2(self._filter.response_f(search_f), (size, size), self._band, self._inverse))
        peaks = maps.reshape(len(maps), -1).max(1) * preset.scale_penalties
        if not np.isfinite(peaks).all() or peaks.max() <= 0:
            return self._result(False, 0.0, 0.0, maps[0] if response else None)
        best = int(peaks.argmax())
        row, column = self._peak(maps[best])

        # One map pixel is window / size frame pixels, as in the released codes (their crop samples window / (size-1)).
        self._centre = self._centre + np.array([column, row]) * windows[best] / size
        wanted = windows[best] / (1 + preset.padding)
        self._size = np.minimum(np.maximum(wanted, self._min_size), self._max_size)

        # Learning: the template at the new place.
        window = windows[best] if preset.update_crop == "window" else self._window_sizes(1.0)[0]
        template_f, flat = self._extract(frame, self._centre, window[None])
        if not flat:
            self._filter.update(template_f[0])
        score = float(maps[best].max())
        return self._result(
            True, score, peak_to_sidelobe(maps[best], work=self._doubles), maps[best] if response else None
        )

    def _window_sizes(self, factors: Any) -> np.ndarray:
        """Widths and heights of the search windows, (S, 2) pixels."""
        return np.atleast_1d(factors)[:, None] * self._size * (1 + self.preset.padding)

    def _set_size_limits(self) -> None:
        """Smallest and largest target size, (w, h) in pixels, from the first one."""
        preset = self.preset
        height, width = self._frame_shape[:2]
        frame_size = np.array([height, width] if preset.swapped_clamp else [width, height])
        self._min_size = np.maximum(preset.min_scale * self._first_size, preset.min_size)
        self._max_size = np.minimum(frame_size, preset.max_scale * self._first_size)

    def _peak(self, response: np.ndarray) -> tuple[int, ...]:
        """Displacement (row, column) of the maximum, in map pixels; indices past the middle are negative ones."""
        if self.preset.column_major_ties:
            column, row = np.unravel_index(response.T.argmax(), response.shape[::-1])
        else:
            row, column = np.unravel_index(response.argmax(), response.shape)
        half = len(response) // 2 - 1 if self.preset.wrap_before_half else len(response) // 2
        return tuple(int(index) - (len(response) if index > half else 0) for index in (row, column))

    def _result(self, ok: bool, score: float, psr: float, response: np.ndarray | None) -> TrackResult:
        x, y = self._centre - self._size / 2
        scale = float(np.sqrt((self._size / self._first_size).prod()))
        box = (float(x), float(y), float(self._size[0]), float(self._size[1]))
        return TrackResult(box, ok, score, psr, scale, None if response is None else np.fft.fftshift(response))


def peak_to_sidelobe(response: np.ndarray, exclude: int = 5, work: np.ndarray | None = None) -> float:
    """Peak-to-sidelobe ratio: (peak - mean) / standard deviation, both of the map without the peak's neighbourhood.

    response: (N, N), circular; left out are the pixels up to `exclude` rows and columns away from the peak (11x11), as
    in Bolme et al., "Visual object tracking using adaptive correlation filters" (MOSSE), CVPR 2010.  work: (N, N)
    float64, for a caller that wants no new array.
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
