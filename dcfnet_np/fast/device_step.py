"""One frame of tracking as one chain of kernels: many targets in one batch, the state on the GPU.

`tracking.step.PlainStep` is the specification of every number here.  A step is

    upload -> crop -> conv+ReLU -> conv+LRN x window -> band DFT -> response -> inverse DFT -> peak
    -> move
           -> crop at the new place -> conv+ReLU -> conv+LRN x window -> band DFT -> filter update
           -> result

in buffers that are made once.  Nothing in it is allocated, waits for the host or depends on a value
that the host would have to read, so the chain is captured once as a CUDA graph and replayed for
every frame.  Without a graph the same launches go out one by one.

A target that is to be looked for elsewhere is rare.  The host sees so in the results, and launches
what that takes after the chain.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import backend, network
from ..backend import Array
from ..kernels import conv, crop, dcf, dft, lrn, peak
from ..ops.fourier import label_band
from ..presets import Preset, get_preset
from ..tracking.features import NOTHING_TO_TRACK, is_flat
from ..tracking.response import peak_place
from ..tracking.step import look_elsewhere
from ..tracking.target import Target, size_limits
from ..vision.boxes import check_box
from ..vision.crop import to_bgr
from ..vision.windows import gaussian_label, hann_power
from ..weights import Weights, load_weights
from .graph import DeviceQueue, Stage, frame_on_device, label_spectrum, launch_stages

NO_REUSE = "the kernels do not know reuse_within"


class DeviceStep:
    """The tracking step of up to `targets` targets in frames of one size, on one GPU.

        step = DeviceStep("light", "default", frame_shape=(480, 640), targets=2)
        step.start(frame, [(x, y, w, h), (x, y, w, h)])
        results = step.step(frame)      # (targets, 9) float64, columns as in kernels.peak.RESULT

    weights, preset: as for `Tracker`.  device: index of the GPU.  dtype: float32, or float64 for
    checks.  graph: capture the step as a CUDA graph; else launch its kernels one by one.
    Raises `backend.DeviceError` when there is no usable GPU, ValueError when the preset has
    `reuse_within`, or needs the full spectrum of an even size, which has no band.
    """

    def __init__(
        self,
        weights: str | Weights,
        preset: str | Preset,
        frame_shape: tuple[int, ...],
        targets: int = 1,
        *,
        device: int = 0,
        dtype: Any = np.float32,
        graph: bool = True,
    ) -> None:
        self.preset = get_preset(preset)
        if self.preset.reuse_within:
            raise ValueError(f"DeviceStep: {NO_REUSE}")
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.targets, self.dtype = targets, np.dtype(dtype)
        self.frame_shape = (*frame_shape[:2], 3)
        if targets < 1 or min(self.frame_shape) < 1:
            raise ValueError(
                f"DeviceStep: there must be a target and a frame, got {targets} and {frame_shape}"
            )
        self._queue = DeviceQueue(device, graph=graph)
        self._uploaded, self._done = self._queue.new_event(), self._queue.new_event()
        with self._queue.active() as cp:
            self._make_constants(cp)
            self._make_buffers(cp)
            self._found: dict[int, np.ndarray] = {}  # responses elsewhere in this frame
            self.frame = self._queue.pinned(self.frame_shape, np.uint8)
            self.results = self._queue.pinned((targets, len(peak.RESULT)), np.float64)
            detection, self._learning = self._detection_stages(), self._learning_stages()
            self.stages = [*detection, *self._learning]
            elsewhere = self._elsewhere, self._elsewhere_ranges, len(self._elsewhere)
            self._look = self._feature_stages("elsewhere", *elsewhere)
            self._queue.stream.synchronize()

    def __reduce__(self) -> Any:
        raise TypeError(
            "DeviceStep: it cannot be copied or pickled, since its state is on the GPU; "
            "make another one"
        )

    def start(self, frame: Any, boxes: Any, who: str = "DeviceStep.start") -> None:
        """Learn targets in `frame` (as for `step`): row t of `boxes` (x, y, w, h) is target t.

        A row of NaN leaves that target as it is, so that targets can come one by one; one that
        never came does nothing.  Boxes are in pixels, 0-based.  Raises ValueError, in the name of
        `who`, for a bad box or frame, and when the window around a box is flat: then no target has
        changed.
        """
        boxes = np.asarray(boxes, np.float64)
        if boxes.shape != (self.targets, 4):
            raise ValueError(f"{who}: boxes must be ({self.targets}, 4), got {boxes.shape}")
        new = ~np.isnan(boxes).all(axis=1)
        geometry = self.rows.state, self.rows.windows, self.rows.update_windows
        with self._queue.after_caller():
            before = [backend.to_numpy(array).copy() for array in geometry]
            state, windows, updates = (array.copy() for array in before)
            scales, grow = self.preset.num_scales, 1 + self.preset.padding
            for target in np.flatnonzero(new):
                x, y, w, h = check_box(boxes[target], self.frame_shape, who)
                centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
                place = *centre, *size
                limits = size_limits(size, self.frame_shape, self.preset)
                state[target] = [*place, *limits, 0, 0, *place]
                own = windows[target * scales : (target + 1) * scales]
                own[:, :2] = centre
                own[:, 2:] = self.preset.scale_factors[:, None] * size * grow
                updates[target] = [*centre, *(size * grow)]
            for array, values in zip(geometry, (state, windows, updates)):
                self._queue.put(array, values)
            # 1 for a first frame, 0 for who stays as it is
            self._queue.put(self.rows.rates, new.astype(self.dtype))
            self._empty(self.rows.ranges)
            self._empty(self.rows.update_ranges)
            self._put_frame(frame)
            launch_stages(self._learning)
            ranges = backend.to_numpy(self.rows.update_ranges)
            # A target whose window is flat has no model: the kernel left it alone.
            if any(is_flat(ranges[[target]]) for target in np.flatnonzero(new)):
                for array, values in zip(geometry, before):
                    self._queue.put(array, values)
                raise ValueError(f"{who}: {NOTHING_TO_TRACK}")

    def step(self, frame: Any = None) -> np.ndarray:
        """Follow every target into the next frame.  Returns (targets, 9), as `kernels.peak.RESULT`.

        `frame` is a NumPy array that `vision.crop.to_bgr` takes; an array on the GPU
        (`frame_on_device`); or None when the caller has written uint8 BGR (H, W, 3) into the
        page-locked `step.frame`, which saves a copy.  The array returned, float64, is the same one
        every time.
        """
        with self._queue.after_caller():
            self._put_frame(frame)
            self._queue.replay(self.stages)
            self._queue.fetch(self.rows.results, self.results)
            self._queue.stream.synchronize()
            self._found.clear()
            if self.preset.redetection:
                w, unsure = (self.results[:, peak.RESULT.index(name)] for name in ("w", "unsure"))
                for target in np.flatnonzero((w > 0) & (unsure >= self.preset.redetection_after)):
                    self._redetect(int(target))
        return self.results

    def submit(self, frame: Any) -> Array:
        """As `step`, but nothing comes back and nothing waits: the results stay on the GPU.

        So no target is looked for elsewhere: the host does not see which of them are unsure.

        Returns the array of the results there, the same one every time.  What the caller does with
        it in the stream that is current now comes after this step and before the next one.
        `step.frame` is not for the caller to write while a submitted frame may still be on its way.
        """
        with self._queue.device:
            with self._queue.after_caller() as cp:
                self._put_frame(frame)
                self._queue.replay(self.stages)
                self._done.record(self._queue.stream)
            cp.cuda.get_current_stream().wait_event(self._done)
        return self.rows.results

    def response(self, target: int = 0) -> np.ndarray:
        """The response (N, N) of the best scale in the last step, on the host, as `PlainStep`'s.

        Zeros for a flat window or a response that is not finite, the first scale's map for another
        lost target.
        """
        if target in self._found:
            return self._found[target]
        with self._queue.active():
            scale = int(backend.to_numpy(self.rows.results[target])[peak.RESULT.index("scale")])
            maps = self._maps[target * self.preset.num_scales + max(scale, 0)]
            return np.zeros(maps.shape, self.dtype) if scale < 0 else backend.to_numpy(maps).copy()

    def forget(self, target: int) -> None:
        """Nothing happens to this target any more, until `start` gives its row to another one."""
        with self._queue.after_caller():
            for array in (self.rows.state, *self.model[:2]):
                array[target] = 0

    def take_over(self, other: "DeviceStep") -> None:
        """Go on with the targets of a step for fewer, in frames of one size on the same GPU."""
        with self._queue.after_caller():
            other._queue.stream.synchronize()
            theirs = *other.rows, *other.model
            for array, values in zip((*self.rows, *self.model), theirs):
                array[: len(values)] = values

    @property
    def captured(self) -> bool:
        """Whether steps are replayed as a graph by now."""
        return self._queue.captured

    def _make_constants(self, cp: Any) -> None:
        """What never changes: parameters, windows, the transform's tables, the label's spectrum."""
        preset, dtype, size = self.preset, self.dtype, self.preset.input_size
        architecture = self.weights.architecture
        self._specs = network.layers(architecture)
        if not isinstance(self._specs[-1][1], network.Lrn):
            last = type(self._specs[-1][1]).__name__
            raise ValueError(f"DeviceStep: the last layer must be Lrn, got {last}")

        def put(array: np.ndarray) -> Array:
            return cp.asarray(np.ascontiguousarray(array, dtype))

        self._parameters = {name: put(p) for name, p in self.weights.parameters.items()}
        names = [name for name, spec in self._specs if isinstance(spec, network.Conv)]
        self._packed = {name: conv.pack(self._parameters[f"{name}.weight"]) for name in names}
        self._mean = put(np.array(self.weights.mean))
        self._window = put(hann_power((size, size), preset.window_power, dtype))
        label = gaussian_label((size, size), preset.sigma, dtype)
        band = label_band(label, dtype)
        self._tables, self._label_f = label_spectrum(cp, label, band, "DeviceStep")
        self._penalties = cp.asarray(np.asarray(preset.scale_penalties, np.float64))
        self._factors = cp.asarray(np.asarray(preset.scale_factors, np.float64))
        self._channels = network.output_channels(architecture)
        elements = self._channels * size**2 if preset.lam_divisor == "elements" else 1
        self._lam = preset.lam * elements

    def _make_buffers(self, cp: Any) -> None:
        """What changes in a step: the batch's intermediate results and the targets' state."""
        dtype, size = self.dtype, self.preset.input_size
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
        most = batch if self.preset.redetection else 0  # windows elsewhere, of one target at a time
        self._elsewhere = cp.zeros((most, 4))
        self._elsewhere_ranges = crop.empty_ranges(most)
        self._elsewhere_maps = cp.empty((most, size, size), dtype)
        # Zeros: a target that never came has no response, so it counts as lost and nothing happens
        # to it.
        self.rows = peak.Targets(
            state=cp.zeros((targets, len(peak.STATE))),
            windows=cp.zeros((batch, 4)),
            update_windows=cp.zeros((targets, 4)),
            rates=cp.zeros(targets, dtype),
            results=cp.zeros((targets, len(peak.RESULT))),
            ranges=crop.empty_ranges(batch),
            update_ranges=crop.empty_ranges(targets),
        )
        self.model = dcf.Model(
            model_f=cp.zeros((targets, d, *bins), complex_),
            gain_f=cp.zeros((targets, *bins), complex_),
            energy=cp.zeros((targets, *bins), dtype),
        )

    def _detection_stages(self) -> list[Stage]:
        """From the search windows to the targets' new places, every buffer bound."""
        preset, rows, batch = self.preset, self.rows, self.targets * self.preset.num_scales
        respond = partial(
            dcf.respond, self.model.model_f, self._features_f, self.model.gain_f,
            scales=preset.num_scales, out=self._response_f,
        )  # fmt: skip
        invert = partial(self._invert, self._response_f, self._maps)
        ties = preset.column_major_ties
        find = partial(peak.map_peaks, self._maps, by_columns=ties, out=self._peaks)
        rules = peak.MoveRules.of(preset)
        move = partial(
            peak.move_targets, self._maps, self._response_f, self._peaks, self._penalties,
            self._factors, rows, rules,
        )  # fmt: skip
        return [
            *self._feature_stages("search", rows.windows, rows.ranges, batch),
            Stage("search: response", respond),
            Stage("search: inverse DFT", invert),
            Stage("search: peaks", find),
            Stage("search: move", move),
        ]

    def _invert(self, response_f: Array, maps: Array) -> None:
        """The responses (n, N, N) of their spectra."""
        n, size, columns = len(maps), self.preset.input_size, self._tables.spectrum_shape[1]
        work = self._work.reshape(-1)[: n * size * columns].reshape(n, size, columns)
        dft.irfft2(response_f, self._tables, out=maps, work=work)

    def _learning_stages(self) -> list[Stage]:
        """From the windows at the new places to the new models."""
        rows, targets = self.rows, self.targets
        update = partial(
            dcf.update_model, self._features_f[:targets], self._label_f, rows.rates,
            rows.update_ranges, self.model, self._lam, self.preset.update_rule,
        )  # fmt: skip
        features = self._feature_stages("update", rows.update_windows, rows.update_ranges, targets)
        return [*features, Stage("update: filter", update)]

    def _feature_stages(self, title: str, windows: Array, ranges: Array, n: int) -> list[Stage]:
        """Crop n windows, run the network, multiply the cosine window and transform."""
        size = self.preset.input_size
        x = self._patches[:n]
        cut = partial(
            crop.crop_patches, self._frame, windows, self._mean, size, out=x, ranges=ranges,
            rounded=self.preset.rounded_crop, reverse=self.weights.channel_order == "rgb",
        )  # fmt: skip
        stages = [Stage(f"{title}: crop", cut)]
        for depth, (name, spec) in enumerate(self._specs):
            before = self._specs[depth - 1][1] if depth else None
            if isinstance(spec, network.Relu) or _fused(before, spec):
                continue  # the convolution before it did that
            channels = spec.c_out if isinstance(spec, network.Conv) else x.shape[1]
            flat = self._layers[len(stages) % 2]
            out = flat[: n * channels * size * size].reshape(n, channels, size, size)
            if isinstance(spec, network.Conv):
                layer, run = self._convolution(depth, spec, x, out)
            else:
                window = self._window if depth == len(self._specs) - 1 else None
                run = partial(lrn.forward, x, lrn.Constants(*spec), window=window, out=out)
                layer = name
            stages.append(Stage(f"{title}: {layer}", run))
            x = out
        features_f, work = self._features_f[:n], self._work[:n]
        transform = partial(dft.rfft2, x, self._tables, out=features_f, work=work)
        return [*stages, Stage(f"{title}: DFT", transform)]

    def _convolution(
        self, depth: int, spec: network.Conv, x: Array, out: Array
    ) -> tuple[str, Callable[[], Any]]:
        """Layer `depth`, and what its kernel does beside it: ReLU, or LRN and the window."""
        name = self._specs[depth][0]
        next_name, follower = self._specs[depth + 1] if depth + 1 < len(self._specs) else ("", None)
        normalise, title = None, name
        if isinstance(follower, network.Lrn) and _fused(spec, follower):
            window = self._window if depth + 2 == len(self._specs) else None
            normalise = conv.Normalise(follower.k, follower.alpha, window)
            title = f"{name}+{next_name}"
        weight, bias = (self._parameters[f"{name}.{kind}"] for kind in ("weight", "bias"))
        return title, partial(
            conv.forward, x, weight, bias, padding=spec.dilation, dilation=spec.dilation,
            relu=isinstance(follower, network.Relu), normalise=normalise,
            plan=conv.Plan(self._packed[name], out),
        )  # fmt: skip

    def _redetect(self, row: int) -> None:
        """Look for a target at some other places in this frame, and learn it where it is found."""
        values = backend.to_numpy(self.rows.state[row])
        place, size, smallest, largest = values[:8].reshape(4, 2)
        target = Target((*(place - size / 2), *size), self.frame_shape, self.preset)
        target.centre, target.size = place, size
        target.min_size, target.max_size = smallest, largest
        target.usual, target.unsure = float(values[8]), int(values[9])  # columns: peak.STATE
        target.sure_place = values[10:12], values[12:14]
        answer = partial(self._answer_elsewhere, row)
        found = look_elsewhere(target, self.frame_shape, len(self._elsewhere), answer)
        if found is None:
            return
        peak = peak_place(found.response, self.preset)
        target.reappear(found.place, found.window, peak, found.quality)
        self._found[row] = found.response

        # Back to the device, and learn: of all targets this one alone has a rate.
        here, scales, put = [*target.centre, *target.size], self.preset.num_scales, self._queue.put
        put(self.rows.state[row], np.array([*here, *values[4:8], target.usual, 0, *here]))
        windows = target.windows(self.preset.scale_factors)
        centres = np.tile(target.centre, (scales, 1))
        put(self.rows.windows[row * scales : (row + 1) * scales], np.hstack([centres, windows]))
        put(self.rows.update_windows[row], np.array([*target.centre, *target.template_window]))
        self._empty(self.rows.update_ranges[row : row + 1])
        rates = np.zeros(self.targets, self.dtype)
        rates[row] = self.preset.learning_rate
        put(self.rows.rates, rates)
        launch_stages(self._learning)
        self.results[row] = [*target.box, 1, *found.quality, 0, 0]

    def _answer_elsewhere(
        self, row: int, places: np.ndarray, windows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Responses of a target's filter (P, N, N) at these places, and extremes (P, 3, 2)."""
        n, most = len(places), len(self._elsewhere)
        values = np.hstack([places, windows])
        self._queue.put(self._elsewhere, values[np.minimum(np.arange(most), n - 1)])
        self._empty(self._elsewhere_ranges)
        launch_stages(self._look)
        model, own = self.model, slice(row, row + 1)
        response_f = self._response_f[:most]
        dcf.respond(
            model.model_f[own], self._features_f[:most], model.gain_f[own],
            scales=most, out=response_f,
        )  # fmt: skip
        self._invert(response_f, self._elsewhere_maps)
        maps, ranges = self._elsewhere_maps[:n], self._elsewhere_ranges[:n]
        return backend.to_numpy(maps), backend.to_numpy(ranges)

    def _empty(self, ranges: Array) -> None:
        """No pixel has been seen of these windows, (n, 3, 2)."""
        empty = np.array(crop.EMPTY_RANGE, np.float32)
        self._queue.put(ranges, np.tile(empty, (len(ranges), 3, 1)))

    def _put_frame(self, frame: Any) -> None:
        """Bring a frame into the fixed buffer that the step reads."""
        if isinstance(frame, np.ndarray) or frame is None:
            if frame is not None:
                frame = to_bgr(frame)
                self._check_shape(frame)
                self._uploaded.synchronize()  # the last frame has left the page-locked memory
                np.copyto(self.frame, frame)
            self._queue.put(self._frame, self.frame)
            self._uploaded.record(self._queue.stream)
            return
        array = frame_on_device(self._queue.cp, frame)
        self._check_shape(array)
        self._frame[...] = array  # three times, a gray one

    def _check_shape(self, frame: Array) -> None:
        if frame.shape[:2] != self.frame_shape[:2]:
            raise ValueError(
                f"DeviceStep: the frame must be {self.frame_shape} uint8, "
                f"got {frame.shape} {frame.dtype}"
            )


def _fused(before: network.Spec | None, spec: network.Spec) -> bool:
    """Does the kernel of the convolution `before` this layer do it too?  Some LRNs, beside ReLU."""
    return (
        isinstance(before, network.Conv)
        and isinstance(spec, network.Lrn)
        and (spec.n, spec.beta) == (5, 0.75)
        and before.c_out <= conv.LANE_OUTPUTS
    )
