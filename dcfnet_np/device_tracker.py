"""One frame of tracking as one chain of kernels: many targets in one batch, the state on the GPU,
boxes come back.

`Tracker` is the specification of every number here.  A step is

    upload -> crop -> conv+ReLU -> conv+LRN x window -> band DFT -> response -> inverse DFT -> peak
    -> move
           -> crop at the new place -> conv+ReLU -> conv+LRN x window -> band DFT -> filter update
           -> result

in buffers that are made once.  Nothing in it is allocated, waits for the host or depends on a value
that the host would have to read, so the chain is captured once as a CUDA graph and replayed for
every frame.  Without a graph the same launches go out one by one.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from . import backend, kernels, network
from .backend import Array, Device
from .extractor import NOTHING_TO_TRACK, is_flat
from .fast.graph import Stage
from .kernels import conv, crop, dcf, dft, lrn, peak
from .ops.fourier import label_band, make_band, rfft2
from .presets import Preset, get_preset
from .vision.boxes import check_box
from .vision.crop import to_bgr
from .vision.windows import gaussian_label, hann
from .weights import Weights, load_weights

log = logging.getLogger(__name__)


class DeviceStep:
    """The tracking step of up to `targets` targets in frames of one size, on one GPU.

        step = DeviceStep("light", "default", frame_shape=(480, 640), targets=2)
        step.start(frame, [(x, y, w, h), (x, y, w, h)])
        results = step.step(frame)          # (targets, 8) float64, columns as in kernels.peak.RESULT

    weights, preset: as for `Tracker`.  device: index of the GPU.  dtype: float32, or float64 for
    checks.
    graph: capture the step as a CUDA graph; else launch its kernels one by one.
    Raises `backend.DeviceError` when there is no usable GPU, ValueError when the preset needs the
    full spectrum of an even size, which has no band, or has settings that the kernels do not know
    (`Preset.array_code_only`)."""

    def __init__(
        self,
        weights: "str | Weights",
        preset: "str | Preset",
        frame_shape: tuple[int, ...],
        targets: int = 1,
        *,
        device: int = 0,
        dtype: Any = np.float32,
        graph: bool = True,
    ) -> None:
        self.preset = get_preset(preset)
        if self.preset.array_code_only:
            names = ", ".join(self.preset.array_code_only)
            raise ValueError(
                f"DeviceStep: the kernels do not know {names} of preset {self.preset.name!r}"
            )
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.targets = targets
        self.frame_shape = (frame_shape[0], frame_shape[1], 3)
        self.dtype = np.dtype(dtype)
        if targets < 1 or min(self.frame_shape) < 1:
            raise ValueError(
                f"DeviceStep: there must be a target and a frame, got {targets} and {frame_shape}"
            )
        self._cp = backend.cupy()
        self._device = self._cp.cuda.Device(device)
        self._graph_wanted = graph
        self._graph: Any = None
        self._steps = 0
        with self._device:
            # A stream of its own: the default stream cannot be captured.
            self._stream = self._cp.cuda.Stream(non_blocking=True)
            self._caller_ready, self._uploaded, self._done = (
                self._cp.cuda.Event(disable_timing=True) for _ in range(3)
            )
            with self._stream:
                self._make_constants()
                self._make_buffers()
            self.frame = backend.pinned_array(self._cp, self.frame_shape, np.uint8)
            self.results = backend.pinned_array(self._cp, (targets, len(peak.RESULT)), np.float64)
            self.stages = self._make_stages()
            self._learn = self.stages[self._learn_from :]
            self._stream.synchronize()

    def __reduce__(self) -> Any:
        raise TypeError(
            "DeviceStep: it cannot be copied or pickled, since its state is on the GPU; make another one"
        )

    def start(self, frame: Any, boxes: Any, who: str = "DeviceStep.start") -> None:
        """Learn targets in `frame` (as for `step`): row t of `boxes` (x, y, w, h; pixels, 0-based)
        is target t.

        A row of NaN leaves that target as it is, so that targets can come one by one; one that
        never came does nothing.
        Raises ValueError, in the name of `who`, for a bad box or frame, and when the window around
        a box is flat: then no target has changed.
        """
        boxes = np.asarray(boxes, np.float64)
        if boxes.shape != (self.targets, 4):
            raise ValueError(f"{who}: boxes must be ({self.targets}, 4), got {boxes.shape}")
        new = ~np.isnan(boxes).all(axis=1)
        geometry = self._targets.state, self._targets.windows, self._targets.update_windows
        with self._device, self._ordered():
            before = [backend.to_numpy(array).copy() for array in geometry]
            state, windows, updates = (array.copy() for array in before)
            scales, grow = self.preset.num_scales, 1 + self.preset.padding
            for target in np.flatnonzero(new):
                x, y, w, h = check_box(boxes[target], self.frame_shape, who)
                centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
                state[target] = [*centre, *size, *size_limits(size, self.frame_shape, self.preset)]
                own = windows[target * scales : (target + 1) * scales]
                own[:, :2] = centre
                own[:, 2:] = self.preset.scale_factors[:, None] * size * grow
                updates[target] = [*centre, *(size * grow)]
            for array, values in zip(geometry, (state, windows, updates)):
                self._set(array, values)
            # 1 for a first frame, 0 for who stays as it is
            self._set(self._targets.rates, new.astype(self.dtype))
            for ranges in (self._targets.ranges, self._targets.update_ranges):
                self._set(
                    ranges, np.tile(np.array(crop.EMPTY_RANGE, np.float32), (len(ranges), 3, 1))
                )
            self._put_frame(frame)
            for stage in self._learn:
                stage.run()
            ranges = backend.to_numpy(self._targets.update_ranges)
            # A target whose window is flat has no model: the kernel left it alone.
            if any(is_flat(ranges[[target]]) for target in np.flatnonzero(new)):
                for array, values in zip(geometry, before):
                    self._set(array, values)
                raise ValueError(f"{who}: {NOTHING_TO_TRACK}")

    def step(self, frame: Any = None) -> np.ndarray:
        """Follow every target into the next frame.  Returns (targets, 8) float64, columns as in
        `kernels.peak.RESULT`.

        `frame` is a NumPy array that `vision.crop.to_bgr` takes; an array on the GPU
        (`frame_on_device`); or None when the caller has written uint8 BGR (H, W, 3) into the
        page-locked `step.frame`, which saves a copy. The array returned is the same one every time.
        """
        with self._device, self._ordered():
            self._put_frame(frame)
            self._run()
            self._fetch()
            self._stream.synchronize()
        return self.results

    def submit(self, frame: Any) -> Array:
        """As `step`, but nothing comes back to the host and nothing waits: the results stay on the
        GPU.

        Returns the array of the results there, the same one every time.  What the caller does with
        it in the stream that is current now comes after this step and before the next one.
        `step.frame` is not for the caller to write while a submitted frame may still be on its way.
        """
        with self._device:
            with self._ordered():
                self._put_frame(frame)
                self._run()
                self._done.record(self._stream)
            self._cp.cuda.get_current_stream().wait_event(self._done)
        return self._targets.results

    def response(self, target: int = 0) -> np.ndarray:
        """The response of the best scale in the last step, (N, N), on the host, its peak at (0, 0)
        when nothing moved.

        Zeros for a flat window or a response that is not finite, the first scale's map for another
        lost target."""
        with self._device, self._stream:
            scale = int(backend.to_numpy(self._targets.results[target])[peak.RESULT.index("scale")])
            maps = self._maps[target * self.preset.num_scales + max(scale, 0)]
            return np.zeros(maps.shape, self.dtype) if scale < 0 else backend.to_numpy(maps).copy()

    def forget(self, target: int) -> None:
        """Nothing happens to this target any more, until `start` gives its row to another one."""
        with self._device, self._ordered():
            self._model_f[target] = 0
            self._gain_f[target] = 0

    def take_over(self, other: "DeviceStep") -> None:
        """Go on with the targets of a step that holds fewer of them, in frames of the same size on
        the same GPU.
        """
        with self._device, self._ordered():
            other._stream.synchronize()
            mine, others = (
                (*step._targets, step._model_f, step._gain_f, step._energy)
                for step in (self, other)
            )
            for array, values in zip(mine, others):
                array[: len(values)] = values

    def _ordered(self) -> Any:
        """This step's stream, for `with`: what goes into it comes after all that the caller has
        queued in its own.
        """
        self._caller_ready.record(self._cp.cuda.get_current_stream())
        self._stream.wait_event(self._caller_ready)
        return self._stream

    def _run(self) -> None:
        """The whole chain, from the frame buffer to the results, all on the device."""
        if self._graph is None and self._graph_wanted and self._steps > 0:
            # Not the first step: that one compiles kernels, which cannot be captured.
            self._stream.begin_capture()
            self._run_stages()
            self._graph = self._stream.end_capture()
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._run_stages()
        self._steps += 1

    def _run_stages(self) -> None:
        for stage in self.stages:
            stage.run()

    def _make_constants(self) -> None:
        """What never changes: parameters, windows, tables of the transform, the label's spectrum."""
        preset, dtype, size = self.preset, self.dtype, self.preset.input_size
        self._specs = network.layers(self.weights.architecture)
        if not isinstance(self._specs[-1][1], network.Lrn):
            raise ValueError(
                f"DeviceStep: the last layer must be Lrn, got {type(self._specs[-1][1]).__name__}"
            )
        self._parameters = {name: self._put(p) for name, p in self.weights.parameters.items()}
        self._packed = {
            name: conv.pack(self._parameters[f"{name}.weight"])
            for name, spec in self._specs
            if isinstance(spec, network.Conv)
        }
        self._mean = self._put(np.array(self.weights.mean))
        self._window = self._put(hann((size, size), dtype)) if preset.cosine_window else None
        label = gaussian_label((size, size), preset.sigma, dtype)
        band = label_band(label, dtype)
        if band is None:
            if size % 2 == 0:
                raise ValueError(
                    f"DeviceStep: this label needs the full spectrum, so an odd input size, got {size}"
                )
            band = make_band((size, size), size // 2, dtype)
        self._tables = dft.make_tables(band.shape, band.limits, dtype)
        self._label_f = self._cp.asarray(rfft2(label, band))
        self._penalties = self._cp.asarray(np.asarray(preset.scale_penalties, np.float64))
        self._factors = self._cp.asarray(np.asarray(preset.scale_factors, np.float64))
        self._channels = network.output_channels(self.weights.architecture)
        self._lam = preset.lam * (
            self._channels * size**2 if preset.lam_divisor == "elements" else 1
        )

    def _make_buffers(self) -> None:
        """What changes in a step: the batch's intermediate results and the targets' state, all in
        place.
        """
        cp, dtype, size = self._cp, self.dtype, self.preset.input_size
        targets, batch, d = self.targets, self.targets * self.preset.num_scales, self._channels
        bins, complex_ = self._tables.spectrum_shape, dft.COMPLEX[dtype]
        widest = max(spec.c_out for _, spec in self._specs if isinstance(spec, network.Conv))
        self._frame = cp.empty(self.frame_shape, np.uint8)
        self._patches = cp.empty((batch, 3, size, size), dtype)
        self._layers = [cp.empty(batch * widest * size * size, dtype) for _ in range(2)]  # in turn
        self._work = cp.empty((batch, d, size, bins[1]), complex_)
        self._features_f = cp.empty((batch, d, *bins), complex_)
        self._response_f = cp.empty((batch, *bins), complex_)
        self._maps = cp.empty((batch, size, size), dtype)
        self._peaks = peak.make_peaks(batch, dtype)
        # Zeros: a target that never came has no response, so it counts as lost and nothing happens
        # to it.
        self._targets = peak.Targets(
            state=cp.zeros((targets, len(peak.STATE))),
            windows=cp.zeros((batch, 4)),
            update_windows=cp.zeros((targets, 4)),
            rates=cp.zeros(targets, dtype),
            results=cp.zeros((targets, len(peak.RESULT))),
            ranges=crop.empty_ranges(batch),
            update_ranges=crop.empty_ranges(targets),
        )
        self._model_f = cp.zeros((targets, d, *bins), complex_)
        self._gain_f = cp.zeros((targets, *bins), complex_)
        self._energy = cp.zeros((targets, *bins), dtype)

    def _make_stages(self) -> list[Stage]:
        """The step in order, every buffer bound."""
        preset, batch, targets = self.preset, self.targets * self.preset.num_scales, self.targets
        response_work = self._work.reshape(-1)[
            : self._maps.size // preset.input_size * self._tables.spectrum_shape[1]
        ]
        response_work = response_work.reshape(batch, preset.input_size, -1)
        search_f, template_f = self._features_f, self._features_f[:targets]
        detection = [
            *self._feature_stages("search", self._targets.windows, self._targets.ranges, batch),
            Stage(
                "search: response",
                partial(dcf.respond, self._model_f, search_f, self._gain_f, scales=preset.num_scales,
                        out=self._response_f),
            ),
            Stage(
                "search: inverse DFT",
                partial(dft.irfft2, self._response_f, self._tables, out=self._maps, work=response_work),
            ),
            Stage(
                "search: peaks",
                partial(peak.map_peaks, self._maps, by_columns=preset.column_major_ties, out=self._peaks),
            ),
            Stage(
                "search: move",
                partial(
                    peak.move_targets, self._maps, self._response_f, self._peaks, self._penalties, self._factors,
                    self._targets,
                    padding=preset.padding, learning_rate=preset.learning_rate,
                    wrap_before_half=preset.wrap_before_half, update_on_window=preset.update_crop == "window",
                    subpixel=preset.subpixel,
                ),
            ),
        ]  # fmt: skip
        learning = [
            *self._feature_stages("update", self._targets.update_windows, self._targets.update_ranges, targets),
            Stage(
                "update: filter",
                partial(
                    dcf.update_model, template_f, self._label_f, self._targets.rates, self._targets.update_ranges,
                    self._model_f, self._gain_f, self._energy, self._lam, preset.update_rule,
                ),
            ),
        ]  # fmt: skip
        self._learn_from = len(detection)
        return [*detection, *learning]

    def _feature_stages(self, title: str, windows: Array, ranges: Array, n: int) -> list[Stage]:
        """Crop n windows, run the network, multiply the cosine window and transform."""
        size = self.preset.input_size
        x = self._patches[:n]
        stages = [
            Stage(
                f"{title}: crop",
                partial(
                    crop.crop_patches, self._frame, windows, self._mean, size, rounded=self.preset.rounded_crop,
                    reverse=self.weights.channel_order == "rgb", out=x, ranges=ranges,
                ),
            )
        ]  # fmt: skip
        for depth, (name, spec) in enumerate(self._specs):
            follower = self._specs[depth + 1][1] if depth + 1 < len(self._specs) else None
            before = self._specs[depth - 1][1] if depth else None
            if isinstance(spec, network.Relu) or _fused(before, spec):
                continue  # the convolution before it did that
            channels = spec.c_out if isinstance(spec, network.Conv) else x.shape[1]
            out = self._layers[len(stages) % 2][: n * channels * size * size].reshape(
                n, channels, size, size
            )
            if isinstance(spec, network.Conv):
                normalise = None
                if isinstance(follower, network.Lrn) and _fused(spec, follower):
                    window = self._window if depth + 2 == len(self._specs) else None
                    normalise = conv.Normalise(follower.k, follower.alpha, window)
                    name = f"{name}+{self._specs[depth + 1][0]}"
                layer = self._specs[depth][0]
                run = partial(
                    conv.forward, x, self._parameters[f"{layer}.weight"], self._parameters[f"{layer}.bias"],
                    padding=spec.dilation, dilation=spec.dilation, relu=isinstance(follower, network.Relu),
                    normalise=normalise, packed=self._packed[layer], out=out,
                )  # fmt: skip
            else:
                window = self._window if depth == len(self._specs) - 1 else None
                run = partial(
                    lrn.forward,
                    x,
                    n=spec.n,
                    k=spec.k,
                    alpha=spec.alpha,
                    beta=spec.beta,
                    window=window,
                    out=out,
                )
            stages.append(Stage(f"{title}: {name}", run))
            x = out
        transform = partial(
            dft.rfft2, x, self._tables, out=self._features_f[:n], work=self._work[:n]
        )
        return [*stages, Stage(f"{title}: DFT", transform)]

    def _put(self, array: np.ndarray) -> Array:
        return self._cp.asarray(np.ascontiguousarray(array, self.dtype))

    def _set(self, array: Array, values: np.ndarray) -> None:
        """Overwrite a device array by a host array, in this stream."""
        if backend.is_numpy(array):  # kernels on the CPU
            array[...] = values
        else:
            array.set(values, stream=self._stream)

    def _put_frame(self, frame: Any) -> None:
        """Bring a frame into the fixed buffer that the step reads."""
        if isinstance(frame, np.ndarray) or frame is None:
            if frame is not None:
                frame = to_bgr(frame)
                self._check_shape(frame)
                self._uploaded.synchronize()  # the last frame has left the page-locked memory
                np.copyto(self.frame, frame)
            self._set(self._frame, self.frame)
            self._uploaded.record(self._stream)
            return
        array = frame_on_device(self._cp, frame)
        self._check_shape(array)
        self._frame[...] = array  # three times, a gray one

    def _check_shape(self, frame: Array) -> None:
        if frame.shape[:2] != self.frame_shape[:2]:
            raise ValueError(
                f"DeviceStep: the frame must be {self.frame_shape} uint8, got {frame.shape} {frame.dtype}"
            )

    def _fetch(self) -> None:
        """Copy the results into page-locked memory, in this stream."""
        if backend.is_numpy(self._targets.results):
            self.results[...] = self._targets.results
        else:
            self._targets.results.get(stream=self._stream, out=self.results, blocking=False)


class DeviceTracker:
    """Targets on a GPU, with the manners of `Tracker`: frames of every kind come in, numbers come
    back.

    It makes a `DeviceStep` for the size of the first frame, and one twice as large when there is no
    place left.  A target has a number, its row there.  Arguments as for `Tracker`; `device` is a
    cuda `backend.Device`."""

    def __init__(self, weights: Weights, preset: Preset, device: Device) -> None:
        self._make_step = partial(DeviceStep, weights, preset, device=device.index)
        self._cp = backend.cupy()
        self._device = self._cp.cuda.Device(device.index)
        self._step: Any = None  # the DeviceStep of the newest frame size
        self._preset = preset
        self._first_sizes: dict[int, float] = {}  # of the targets that there are
        self._unsure: dict[int, int] = {}  # their frames in a row without a response

    def start(self, frame: Any, box: Any, target: int, who: str) -> None:
        """Learn what is inside `box` (x, y, w, h) as number `target`, new or not; `who` stands in
        errors.
        """
        frame, shape = self._look_at(frame)
        _, _, w, h = box = check_box(box, shape, who)
        step, others = (
            self._step,
            {number: size for number, size in self._first_sizes.items() if number != target},
        )
        if others:
            check_frame_shape(shape, step.frame_shape, who)
        if step is None or step.frame_shape != shape:
            step = self._make_step(shape, target + 1)
        elif target >= step.targets:
            step = self._make_step(shape, max(target + 1, 2 * step.targets))
            step.take_over(self._step)
        boxes = np.full((step.targets, 4), np.nan)
        boxes[target] = box
        step.start(frame, boxes, who)
        self._step, self._first_sizes = step, {**others, target: float(np.sqrt(w * h))}
        self._unsure[target] = 0

    def remove(self, target: int) -> None:
        """Its row is free."""
        self._step.forget(target)
        del self._first_sizes[target]

    def update(
        self, frame: Any, targets: Sequence[int], response: bool, who: str
    ) -> list[dict[str, Any]]:
        """Of each target the fields of a `TrackResult`."""
        if self._step is None:
            raise RuntimeError(f"{who}: call init(frame, box) first")
        frame, shape = self._look_at(frame)
        check_frame_shape(shape, self._step.frame_shape, who)
        rows = self._step.step(frame).tolist()
        results = []
        for target in targets:
            x, y, w, h, ok, score, psr, _ = rows[target]
            self._unsure[target] = 0 if ok else self._unsure[target] + 1
            state = state_after(self._unsure[target], self._preset.lost_after)
            result = {
                "box": (x, y, w, h),
                "ok": bool(ok),
                "score": score,
                "psr": psr,
                "state": state,
            }
            result["scale"] = float(np.sqrt(w * h)) / self._first_sizes[target]
            result["response"] = np.fft.fftshift(self._step.response(target)) if response else None
            results.append(result)
        return results

    def _look_at(self, frame: Any) -> tuple[Any, tuple[int, int, int]]:
        """What the step takes of a frame, and the shape of its BGR image; errors for what is no
        frame.
        """
        if isinstance(frame, np.ndarray):
            frame = to_bgr(frame)
            return frame, frame.shape
        with self._device:
            return frame, (*frame_on_device(self._cp, frame).shape[:2], 3)


def state_after(unsure: int, lost_after: int) -> str:
    """State of a target after so many unsure frames in a row, see `tracker.TrackResult`."""
    return "tracking" if unsure == 0 else "unsure" if unsure < lost_after else "lost"


def check_frame_shape(got: tuple[int, ...], wanted: tuple[int, ...], who: str) -> None:
    """Raise ValueError, in the name of `who`, for a frame of another size than the first one."""
    if got != wanted:
        raise ValueError(
            f"{who}: the frame must be {wanted[1]}x{wanted[0]} as the first one, got {got[1]}x{got[0]}"
        )


def device_tracker(
    weights: Weights, preset: Preset, device: Device, band: str | None
) -> DeviceTracker | None:
    """What tracks by kernels for a `Tracker` on `device`; None when its array code is to do it, on
    CPU or GPU.
    """
    if device.kind == "cpu":
        return None
    reason = ""
    if not kernels.enabled():
        reason = "DCFNET_KERNELS=0"
    elif band is None:
        reason = "band=None is the full spectrum, by CuPy's FFT"
    elif (
        preset.input_size % 2 == 0
        and label_band(gaussian_label((preset.input_size,) * 2, preset.sigma)) is None
    ):
        reason = f"sigma {preset.sigma:g} needs the full spectrum of an even size, which the kernels do not have"
    if preset.array_code_only:
        reason = f"the kernels do not know {', '.join(preset.array_code_only)}"
    if reason:
        log.info("%s: array code on the GPU in place of kernels, since %s", device, reason)
        return None
    return DeviceTracker(weights, preset, device)


def frame_on_device(cp: Any, frame: Any) -> Array:
    """A frame that lies on the current GPU as uint8 (H, W, 3) or gray (H, W, 1), without a copy.

    It comes as an array of CuPy, or of anybody by `__cuda_array_interface__` or DLPack: (H, W) or
    (H, W, 1) gray, (H, W, 3) BGR or (H, W, 4) BGRA, uint8.  Raises TypeError and ValueError for
    others."""
    if not (hasattr(frame, "__cuda_array_interface__") or hasattr(frame, "__dlpack__")):
        raise TypeError(
            f"frame must be a NumPy array or an array on the GPU, got {type(frame).__name__}"
        )
    if isinstance(frame, cp.ndarray):
        array = frame
    else:
        # DLPack first: by it the producer orders its stream before ours.
        array = cp.from_dlpack(frame) if hasattr(frame, "__dlpack__") else cp.asarray(frame)
    current = cp.cuda.Device().id
    if kernels.device_of(array) != current:
        raise ValueError(
            f"the frame is on cuda:{kernels.device_of(array)}, the tracker on cuda:{current}"
        )
    if array.dtype != np.uint8:
        raise TypeError(f"a frame on the GPU must be uint8, got {array.dtype}")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            f"frame must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and not empty, got {array.shape}"
        )
    return array[:, :, :3]


def _fused(before: network.Spec | None, spec: network.Spec) -> bool:
    """Does the kernel of the convolution `before` this layer do the layer as well?  Other than
    ReLU, some LRNs.
    """
    return (
        isinstance(before, network.Conv)
        and isinstance(spec, network.Lrn)
        and (spec.n, spec.beta) == (5, 0.75)
        and before.c_out <= conv.LANE_OUTPUTS
    )


def size_limits(
    size: np.ndarray, frame_shape: tuple[int, ...], preset: Preset
) -> tuple[float, ...]:
    """Smallest width and height, largest width and height of a target that starts with `size`, in
    pixels.
    """
    height, width = frame_shape[:2]
    frame_size = np.array([height, width] if preset.swapped_clamp else [width, height])
    smallest = np.maximum(preset.min_scale * size, preset.min_size)
    largest = np.minimum(frame_size, preset.max_scale * size)
    return (*smallest, *largest)
