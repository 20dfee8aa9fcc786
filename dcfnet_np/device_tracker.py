"""One frame of tracking as one chain of kernels: many targets in one batch, the state on the GPU, boxes come back.

`Tracker` is the specification of every number here.  A step is

    upload -> crop -> conv+ReLU -> conv+LRN x window -> band DFT -> response -> inverse DFT -> peak -> move
           -> crop at the new place -> conv+ReLU -> conv+LRN x window -> band DFT -> filter update -> result

in buffers that are made once.  Nothing in it is allocated, waits for the host or depends on a value that the host would
have to read, so the chain is captured once as a CUDA graph and replayed for every frame.  Without a graph the same
launches go out one by one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import backend, network
from .backend import Array
from .kernels import conv, crop, dcf, dft, lrn, peak
from .ops.fourier import label_band, make_band, rfft2
from .presets import Preset, get_preset
from .vision.boxes import check_box
from .vision.windows import gaussian_label, hann
from .weights import Weights
from .weights import load as load_weights


class Stage(NamedTuple):
    """A named part of a step, for timing: mostly one kernel launch."""

    name: str
    run: Callable[[], Any]


class DeviceStep:
    """The tracking step of up to `targets` targets in frames of one size, on one GPU.

        step = DeviceStep("light", "default", frame_shape=(480, 640), targets=2)
        step.start(frame, [(x, y, w, h), (x, y, w, h)])
        results = step.step(frame)          # (targets, 8) float64, columns as in kernels.peak.RESULT

    weights, preset: as for `Tracker`.  device: index of the GPU.  dtype: float32, or float64 for checks.
    graph: capture the step as a CUDA graph; else launch its kernels one by one.  subpixel: refine the peak by a
    parabola (no preset does).  Raises `backend.DeviceError` when there is no usable GPU, ValueError when the preset
    needs the full spectrum of an even size, which has no band.
    """

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
        subpixel: bool = False,
    ) -> None:
        self.preset = get_preset(preset)
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.targets = targets
        self.frame_shape = (*frame_shape[:2], 3)
        self.dtype = np.dtype(dtype)
        if targets < 1 or min(self.frame_shape) < 1:
            raise ValueError(f"DeviceStep: there must be a target and a frame, got {targets} and {frame_shape}")
        self._cp = backend.cupy()
        self._device = self._cp.cuda.Device(device)
        self._subpixel = subpixel
        self._graph_wanted = graph
        self._graph: Any = None
        self._steps = 0
        with self._device:
            # A stream of its own: the default stream cannot be captured.
            self._stream = self._cp.cuda.Stream(non_blocking=True)
            with self._stream:
                self._make_constants()
                self._make_buffers()
            self.frame = self._pinned(self.frame_shape, np.uint8)
            self.results = self._pinned((targets, len(peak.RESULT)), np.float64)
            self.stages = self._make_stages()
            self._learn = self.stages[self._learn_from :]
            self._stream.synchronize()

    def start(self, frame: Any, boxes: Any) -> None:
        """Learn targets in `frame`, uint8 BGR (H, W, 3): row t of `boxes` (x, y, w, h; pixels, 0-based) is target t.

        A row of NaN leaves that target as it is, so that targets can come one by one; one that never came does nothing.
        Raises ValueError for a bad box or frame.
        """
        boxes = np.asarray(boxes, np.float64)
        if boxes.shape != (self.targets, 4):
            raise ValueError(f"DeviceStep.start: boxes must be ({self.targets}, 4), got {boxes.shape}")
        new = ~np.isnan(boxes).all(axis=1)
        with self._device, self._stream:
            state, windows, updates = (
                backend.to_numpy(array).copy()
                for array in (self._targets.state, self._targets.windows, self._targets.update_windows)
            )
            scales, grow = self.preset.num_scales, 1 + self.preset.padding
            for target in np.flatnonzero(new):
                x, y, w, h = check_box(boxes[target], self.frame_shape, "DeviceStep.start")
                centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
                state[target] = [*centre, *size, *size_limits(size, self.frame_shape, self.preset)]
                own = windows[target * scales : (target + 1) * scales]
                own[:, :2] = centre
                own[:, 2:] = self.preset.scale_factors[:, None] * size * grow
                updates[target] = [*centre, *(size * grow)]
            self._set(self._targets.state, state)
            self._set(self._targets.windows, windows)
            self._set(self._targets.update_windows, updates)
            self._set(self._targets.rates, new.astype(self.dtype))  # 1 for a first frame, 0 for who stays as it is
            self._put_frame(frame)
            for stage in self._learn:
                stage.run()
            self._stream.synchronize()

    def step(self, frame: Any = None) -> np.ndarray:
        """Follow every target into the next frame.  Returns (targets, 8) float64, columns as in `kernels.peak.RESULT`.

        `frame` is uint8 BGR (H, W, 3): a NumPy array, an array on the GPU (CuPy, `__cuda_array_interface__` or DLPack)
        or None when the caller has written it into the page-locked `step.frame`, which saves a copy.
        The array returned is the same one every time.
        """
        with self._device, self._stream:
            self._put_frame(frame)
            if self._graph is not None:
                self._graph.launch(self._stream)
            elif self._graph_wanted and self._steps > 0:  # the first step compiled all kernels; compiling is no capture
                self._stream.begin_capture()
                self._run()
                self._graph = self._stream.end_capture()
                self._graph.launch(self._stream)
            else:
                self._run()
            self._steps += 1
            self._fetch()
            self._stream.synchronize()
        return self.results

    def _run(self) -> None:
        for stage in self.stages:
            stage.run()

    def _make_constants(self) -> None:
        """What never changes: parameters, windows, tables of the transform, the label's spectrum."""
        preset, dtype, size = self.preset, self.dtype, self.preset.input_size
        self._specs = network.layers(self.weights.architecture)
        if not isinstance(self._specs[-1][1], network.Lrn):
            raise ValueError(f"DeviceStep: the last layer must be Lrn, got {type(self._specs[-1][1]).__name__}")
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
                raise ValueError(f"DeviceStep: this label needs the full spectrum, so an odd input size, got {size}")
            band = make_band((size, size), size // 2, dtype)
        self._tables = dft.make_tables(band.shape, band.limits, dtype)
        self._label_f = self._cp.asarray(rfft2(label, band))
        self._penalties = self._cp.asarray(np.asarray(preset.scale_penalties, np.float64))
        self._factors = self._cp.asarray(np.asarray(preset.scale_factors, np.float64))
        self._channels = network.output_channels(self.weights.architecture)
        self._lam = preset.lam * (self._channels * size**2 if preset.lam_divisor == "elements" else 1)

    def _make_buffers(self) -> None:
        """What changes in a step: the batch's intermediate results and the targets' state, all in place."""
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
        # Zeros: a target that never came has no response, so it counts as lost and nothing happens to it.
        self._targets = peak.Targets(
            state=cp.zeros((targets, len(peak.STATE))),
            windows=cp.zeros((batch, 4)),
            update_windows=cp.zeros((targets, 4)),
            rates=cp.zeros(targets, dtype),
            results=cp.zeros((targets, len(peak.RESULT))),
        )
        self._model_f = cp.zeros((targets, d, *bins), complex_)
        self._gain_f = cp.zeros((targets, *bins), complex_)
        self._energy = cp.zeros((targets, *bins), dtype)

    def _make_stages(self) -> list[Stage]:
        """The step in order, every buffer bound."""
        preset, batch, targets = self.preset, self.targets * self.preset.num_scales, self.targets
        response_work = self._work.reshape(-1)[: self._maps.size // preset.input_size * self._tables.spectrum_shape[1]]
        response_work = response_work.reshape(batch, preset.input_size, -1)
        search_f, template_f = self._features_f, self._features_f[:targets]
        detection = [
            *self._feature_stages("search", self._targets.windows, batch),
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
                    peak.move_targets, self._maps, self._peaks, self._penalties, self._factors, self._targets,
                    padding=preset.padding, learning_rate=preset.learning_rate,
                    wrap_before_half=preset.wrap_before_half, update_on_window=preset.update_crop == "window",
                    subpixel=self._subpixel,
                ),
            ),
        ]  # fmt: skip
        learning = [
            *self._feature_stages("update", self._targets.update_windows, targets),
            Stage(
                "update: filter",
                partial(
                    dcf.update_model, template_f, self._label_f, self._targets.rates, self._model_f, self._gain_f,
                    self._energy, self._lam, preset.update_rule,
                ),
            ),
        ]  # fmt: skip
        self._learn_from = len(detection)
        return [*detection, *learning]

    def _feature_stages(self, title: str, windows: Array, n: int) -> list[Stage]:
        """Crop n windows, run the network, multiply the cosine window and transform."""
        size = self.preset.input_size
        x = self._patches[:n]
        stages = [
            Stage(
                f"{title}: crop",
                partial(
                    crop.crop_patches, self._frame, windows, self._mean, size, rounded=self.preset.rounded_crop,
                    reverse=self.weights.channel_order == "rgb", out=x,
                ),
            )
        ]  # fmt: skip
        for depth, (name, spec) in enumerate(self._specs):
            follower = self._specs[depth + 1][1] if depth + 1 < len(self._specs) else None
            before = self._specs[depth - 1][1] if depth else None
            if isinstance(spec, network.Relu) or _fused(before, spec):
                continue  # the convolution before it did that
            channels = spec.c_out if isinstance(spec, network.Conv) else x.shape[1]
            out = self._layers[len(stages) % 2][: n * channels * size * size].reshape(n, channels, size, size)
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
                    lrn.forward, x, n=spec.n, k=spec.k, alpha=spec.alpha, beta=spec.beta, window=window, out=out
                )
            stages.append(Stage(f"{title}: {name}", run))
            x = out
        transform = partial(dft.rfft2, x, self._tables, out=self._features_f[:n], work=self._work[:n])
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
                self._check_frame(frame)
                np.copyto(self.frame, frame)
            self._set(self._frame, self.frame)
            return
        cp = self._cp
        frame = cp.asarray(frame) if hasattr(frame, "__cuda_array_interface__") else cp.from_dlpack(frame)
        self._check_frame(frame)
        self._frame[...] = frame

    def _check_frame(self, frame: Array) -> None:
        if frame.shape != self.frame_shape or frame.dtype != np.uint8:
            raise ValueError(f"DeviceStep: the frame must be {self.frame_shape} uint8, got {frame.shape} {frame.dtype}")

    def _fetch(self) -> None:
        """Copy the results into page-locked memory, in this stream."""
        if backend.is_numpy(self._targets.results):
            self.results[...] = self._targets.results
        else:
            self._targets.results.get(stream=self._stream, out=self.results, blocking=False)

    def _pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A host array in page-locked memory, which the GPU copies without the CPU's help."""
        count = int(np.prod(shape))
        memory = self._cp.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, count).reshape(shape)


def _fused(before: network.Spec | None, spec: network.Spec) -> bool:
    """Does the kernel of the convolution `before` this layer do the layer as well?  Other than ReLU, some LRNs."""
    return (
        isinstance(before, network.Conv)
        and isinstance(spec, network.Lrn)
        and (spec.n, spec.beta) == (5, 0.75)
        and before.c_out <= conv.LANE_OUTPUTS
    )


def size_limits(size: np.ndarray, frame_shape: tuple[int, ...], preset: Preset) -> tuple[float, ...]:
    """Smallest width and height, largest width and height of a target that starts with `size`, in pixels."""
    height, width = frame_shape[:2]
    frame_size = np.array([height, width] if preset.swapped_clamp else [width, height])
    smallest = np.maximum(preset.min_scale * size, preset.min_size)
    largest = np.maximum(np.minimum(frame_size, preset.max_scale * size), smallest)
    return (*smallest, *largest)
