"""The kernels of one training step on one GPU, from the images of a batch to the next parameters.

    [pack weights -> conv+ReLU -> ... -> conv -> LRN x window -> band DFT -> correlation filter ->
    inverse DFT -> loss -> band DFT -> filter, backward -> inverse DFT -> LRN x window, backward ->
    conv, backward -> ...] -> SGD or Adam

All in buffers that are made once, so that what stands in brackets can be captured as a CUDA graph.
`plain_step`, `clip_step` and `optimisers` are the specification of every number here.

On clips the filter runs through their frames.  Numbers that are learnt beside the network stay on
the host, which takes their step and brings to the GPU what follows from them.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend, network, presets
from dcfnet_np.backend import Array
from dcfnet_np.fast.graph import Stage, label_spectrum
from dcfnet_np.kernels import adam, conv, conv_tf32, dcf, dft, lrn, recurrent, sgd
from dcfnet_np.ops.dcf import lam_gradient
from dcfnet_np.ops.fourier import irfft2, make_band, rfft2
from dcfnet_np.train.clip_step import with_room
from dcfnet_np.train.config import Config
from dcfnet_np.train.numbers import Numbers, by_parameters, numbers_of, typed_in
from dcfnet_np.train.optimisers import (
    EPSILON,
    SQUARES_DECAY,
    Learnt,
    average_decay,
    optimiser_step,
    split_learnt,
)
from dcfnet_np.train.plain_step import objective_of
from dcfnet_np.vision.windows import gaussian_label, hann_power, log_hann, sigma_gradient


class Layer(NamedTuple):
    """A convolution with its ReLU, if any, and its buffers."""

    name: str
    spec: network.Conv
    relu: bool
    tf32: bool
    weight: Array
    bias: Array
    dweight: Array
    dbias: Array
    packed: Array
    flipped: Array
    output: Array
    doutput: Array
    part: Array  # room for partial sums of the gradient to the weights

    def pack(self) -> None:
        """Weights as the kernels of both directions read them."""
        conv.pack(self.weight, out=self.packed)
        conv.pack(self.weight, flipped=True, out=self.flipped)


class FlatParameters:
    """Arrays of all parameters in one flat buffer, on the device, and a view of each."""

    def __init__(self, cp: Any, parameters: network.Parameters, dtype: Any) -> None:
        self.places: dict[str, tuple[int, tuple[int, ...]]] = {}
        size = 0
        for name, value in parameters.items():
            self.places[name] = size, value.shape
            size += value.size
        self.flat = cp.empty(size, dtype)
        for name, value in parameters.items():
            self.view(name)[...] = cp.asarray(value, dtype)

    def view(self, name: str, flat: Array | None = None) -> Array:
        """The array of one parameter; in another flat array if one is given."""
        start, shape = self.places[name]
        flat = self.flat if flat is None else flat
        return flat[start : start + int(np.prod(shape))].reshape(shape)

    def copy(self) -> network.Parameters:
        """A copy of all, NumPy arrays."""
        values = backend.to_numpy(self.flat).copy()
        return {name: self.view(name, values) for name in self.places}


class DeviceChain:
    """Buffers and kernels of steps of `config.batch` pairs, or clips of T = `config.frames` frames;
    make it and use it in its stream.

    cp: CuPy.  learnt: what to start with.  size: of the network's input.  dtype: float32 or
    float64.  tf32: convolutions of more than a few channels in TF32.
    Before a step the caller fills `images` (T batch, 3, size, size), the first frames first;
    `shares` ((T - 1) batch,), how much each response counts; unless it is None, `labels`
    ((T - 1) batch, H, W); and for clips `places` (T - 1, batch, 2), where the targets are in all
    frames but the last.
    """

    def __init__(
        self, cp: Any, config: Config, learnt: Learnt, size: int, dtype: Any, tf32: bool
    ) -> None:
        self._cp, self.config, self.dtype = cp, config, np.dtype(dtype)
        self.steps = learnt.steps
        self.images = cp.empty((config.frames * config.batch, 3, size, size), dtype)
        learnt, self.numbers = split_learnt(learnt)
        self._begun = typed_in(config, size)
        self.parameters = FlatParameters(cp, learnt.parameters, dtype)
        self.gradients = FlatParameters(cp, learnt.parameters, dtype)
        self._velocity = FlatParameters(cp, learnt.velocity, dtype)
        self._squares = FlatParameters(cp, learnt.squares, dtype)  # empty with SGD
        self.average = FlatParameters(cp, learnt.average, dtype)  # empty without averaging
        self._make_layers(tf32)
        self._make_objective(size)
        self._make_spectra()
        self.use_numbers(self.numbers.parameters)
        self.forward = [*self._network_stages(), *self._loss_stages()]
        self.backward = [*self._loss_backward_stages(), *self._network_backward_stages()]

    def learnt(self) -> Learnt:
        """A copy of what is learnt, NumPy arrays."""
        groups = self.parameters, self._velocity, self._squares, self.average
        parameters, velocity, squares, average = (
            group.copy() | {name: value.copy() for name, value in numbers.items()}
            for group, numbers in zip(groups, self.numbers[:4])
        )
        return Learnt(parameters, velocity, squares, average, self.steps)

    def choose_window(self, windowed: bool) -> None:
        """Have the next step with or without the Hann window."""
        if self._window is None:
            return
        self._window[...] = self._windows[windowed]
        if self._slope is not None:
            self._slope[...] = self._slopes[windowed]

    def use_numbers(self, parameters: dict[str, np.ndarray]) -> None:
        """Have the next steps with these numbers, of `numbers.NAMES`."""
        cp, names = self._cp, self.config.learnt_names
        self.now = now = numbers_of(parameters, self._begun)
        shape, dtype = self.label.shape, self.dtype
        self._lam_and_rate[...] = cp.asarray(np.array([now.lam, now.rate], dtype))
        if "sigma" in names:
            label = gaussian_label(shape, now.sigma, dtype)
            self._label_f[...] = cp.asarray(rfft2(label, self._band))
        if self._slope is not None:
            window = hann_power(shape, now.power, np.float64)
            self._windows[1][...] = cp.asarray(window.astype(dtype))
            self._slopes[1][...] = cp.asarray((window * log_hann(shape)).astype(dtype))

    def number_gradients(self) -> dict[str, np.ndarray]:
        """Of the newest step, by the parameters of numbers.  Waits for it."""
        _, lam, rate, label = (backend.to_numpy(each) for each in self._by)
        shape, band = self.label.shape, self._band
        dlam, drate = (float(lam_gradient(v.astype(float), shape, band)) for v in (lam, rate))
        dlabel = irfft2(label.sum(0, keepdims=True), shape, band)[0]
        dpower = 0.0
        if self._slope is not None:
            dpower = float(self._cp.vdot(self._features, self._by_power))
        found = Numbers(dlam, sigma_gradient(dlabel, self.now.sigma), dpower, drate)
        return by_parameters(found, self.now, self.config.learnt_names)

    def descend_numbers(self, lr: float, gradients: dict[str, np.ndarray]) -> None:
        """The step number `steps` of the numbers, as `optimisers` takes it."""
        before = self.numbers._replace(steps=self.steps - 1)
        self.numbers = optimiser_step(self.config, before, gradients, lr)
        self.use_numbers(self.numbers.parameters)

    def descend(self, lr: float) -> None:
        """One step of the optimiser, and of the average."""
        config, parameters = self.config, self.parameters.flat
        gradients, velocity = self.gradients.flat, self._velocity.flat
        how: dict[str, Any] = {"lr": lr, "weight_decay": config.weight_decay}
        if config.optimiser == "adam":
            memory, decays = (velocity, self._squares.flat), (config.momentum, SQUARES_DECAY)
            how |= {"decays": decays, "epsilon": EPSILON}
            adam.step(parameters, gradients, memory, step=self.steps, **how)
        else:
            sgd.step(parameters, gradients, velocity, momentum=config.momentum, **how)
        if config.averaging:
            share = 1 - average_decay(config.averaging, self.steps)
            adam.update_average(self.average.flat, parameters, share=share)

    def _make_layers(self, use_tf32: bool) -> None:
        """The convolutions with their buffers, and the LRN behind them."""
        cp, dtype, layers = self._cp, self.dtype, network.layers(self.config.arch)
        specs = [spec for _, spec in layers]
        lrns = [spec for spec in specs if isinstance(spec, network.Lrn)]
        if specs[-1:] != lrns:
            raise ValueError(f"DeviceSteps: the last layer, and no other, must be Lrn, got {specs}")
        self._lrn = lrn.Constants(*lrns[0])
        self._layers: list[Layer] = []
        side = self.images.shape[-1]
        for i, (name, spec) in enumerate(layers):
            if not isinstance(spec, network.Conv):
                continue
            side, _ = conv.output_shape(side, side, 0, spec.dilation)
            output = cp.empty((len(self.images), spec.c_out, side, side), dtype)
            parts = conv.parts(output.shape, spec.c_in), 9 * spec.c_in + 1, spec.c_out
            weight, bias, dweight, dbias = (
                of.view(f"{name}.{kind}")
                for of in (self.parameters, self.gradients)
                for kind in ("weight", "bias")
            )
            relu = isinstance(specs[i + 1], network.Relu)
            tf32 = use_tf32 and spec.c_in >= conv_tf32.CHANNELS
            part = cp.empty(parts, dtype)
            self._layers.append(
                Layer(
                    name, spec, relu, tf32, weight, bias, dweight, dbias, conv.pack(weight),
                    conv.pack(weight, flipped=True), output, cp.empty_like(output), part,
                )
            )  # fmt: skip

    def _make_objective(self, crop_size: int) -> None:
        """The label, its spectrum with the tables of the transform, and the window."""
        cp, config, dtype = self._cp, self.config, self.dtype
        objective = objective_of(config, crop_size, dtype=dtype)
        label, _, band, self._lam, _ = with_room(config, objective, self._begun.sigma)
        size = len(label)
        self.limit = config.divergence * float((label**2).sum())
        if band is None and size % 2:
            band = make_band((size, size), size // 2, dtype)
        self._band = band
        self._tables, self._label_f = label_spectrum(cp, label, band, "DeviceSteps")
        self.label = cp.asarray(label)
        jitters = config.jitter > 0  # so each response has a label of its own
        many = (config.frames - 1) * config.batch, size, size
        self.labels = cp.empty(many, dtype) if jitters else None
        hann_window = cp.asarray(hann_power((size, size), 1.0, dtype))
        self._windows = cp.ones_like(hann_window), hann_window
        # What the kernels of a captured graph read, filled before each step.
        self._window = hann_window.copy() if config.cosine_window else None
        # the window's derivative by its power, where that is learnt
        learns_window = "window" in config.learnt_names and self._window is not None
        self._slopes = cp.zeros_like(hann_window), cp.zeros_like(hann_window)
        self._slope = cp.zeros_like(hann_window) if learns_window else None
        self._lam_and_rate = cp.empty(2, dtype)

    def _make_spectra(self) -> None:
        """The buffers between the last layer and the loss."""
        cp, dtype, clips, frames = self._cp, self.dtype, self.config.batch, self.config.frames
        n = (frames - 1) * clips  # responses
        features, complex_ = self._layers[-1].output, dft.COMPLEX[self.dtype]
        size, d = features.shape[-1], features.shape[1]
        rows, columns = self._tables.spectrum_shape
        self.shares, self.losses = cp.empty(n, dtype), cp.empty(n, dtype)
        self._features = cp.empty(features.shape, dtype)  # after LRN, and later their gradient
        self._features_f, self._dfeatures_f = (
            cp.empty((frames * clips, d, rows, columns), complex_) for _ in range(2)
        )
        self._work = cp.empty((frames * clips, d, size, columns), complex_)
        self._response_f, self._dresponse_f = (
            cp.empty((n, rows, columns), complex_) for _ in range(2)
        )
        self._energy = cp.empty((n, rows, columns), dtype)
        self._response, self._dresponse = (cp.empty((n, size, size), dtype) for _ in range(2))
        self._response_work = cp.empty((n, size, columns), complex_)
        self._by_power = cp.empty(features.shape, dtype) if self._slope is not None else None
        if not self.config.clips:
            return
        self.places = cp.zeros((frames - 1, clips, 2), np.int32)
        of_clips = frames - 1, clips
        self._clips = recurrent.Clips(
            self._features_f.reshape(frames, clips, d, rows, columns), self._label_f,
            self._lam_and_rate, self.places, recurrent.make_turns((size, size), dtype),
            presets.get_preset(self.config.preset).update_rule,
        )  # fmt: skip
        self._known = (
            self._response_f.reshape(*of_clips, rows, columns),
            recurrent.States(
                cp.empty((*of_clips, d, rows, columns), complex_),
                cp.empty((*of_clips, rows, columns), complex_),
            ),
        )
        by_bins = clips, rows, columns
        self._by = recurrent.Gradients(
            self._dfeatures_f.reshape(self._clips.spectra_f.shape),
            cp.empty(by_bins, dtype), cp.empty(by_bins, dtype), cp.empty(by_bins, complex_),
        )  # fmt: skip
        self._upstream = recurrent.Upstream(
            self._dresponse_f.reshape(*of_clips, rows, columns),
            self.losses.reshape(of_clips), self.shares.reshape(of_clips), self.limit,
        )  # fmt: skip
        self._later = cp.empty((clips, d, rows, columns), complex_)

    def _network_stages(self) -> list[Stage]:
        """From the images to the last convolution."""
        stages, x = [], self.images
        for layer in self._layers:
            run = partial(
                conv.forward, x, layer.weight, layer.bias, padding=0,
                dilation=layer.spec.dilation, relu=layer.relu,
                plan=conv.Plan(layer.packed, layer.output, tf32=layer.tf32),
            )  # fmt: skip
            stages.append(Stage(f"{layer.name}: pack", layer.pack))
            stages.append(Stage(f"{layer.name}: forward", run))
            x = layer.output
        return stages

    def _loss_stages(self) -> list[Stage]:
        """From the last convolution to the loss and its gradient by the response."""
        n, x = self.config.batch, self._layers[-1].output
        template_f, search_f = self._features_f[:n], self._features_f[n:]
        label = self.label if self.labels is None else self.labels
        normalise = partial(lrn.forward, x, self._lrn, window=self._window, out=self._features)
        transform = partial(
            dft.rfft2, self._features, self._tables, out=self._features_f, work=self._work
        )
        respond: Any = partial(
            dcf.dcf_forward, template_f, search_f, self._label_f, self._lam,
            out=(self._response_f, self._energy),
        )  # fmt: skip
        limit = self.limit
        if self.config.clips:  # a clip explodes, not a response
            respond, limit = partial(recurrent.forward, self._clips, out=self._known), np.inf
        invert = partial(
            dft.irfft2, self._response_f, self._tables, out=self._response,
            work=self._response_work,
        )  # fmt: skip
        loss = partial(
            dcf.response_loss, self._response, label, shares=self.shares, limit=limit,
            out=(self.losses, self._dresponse),
        )  # fmt: skip
        return [
            Stage("LRN: forward", normalise),
            Stage("DFT of the features", transform),
            Stage("filter and response", respond),
            Stage("inverse DFT of the responses", invert),
            Stage("loss", loss),
        ]

    def _loss_backward_stages(self) -> list[Stage]:
        """From the gradient by the response to that by the last convolution."""
        n, last = self.config.batch, self._layers[-1]
        template_f, search_f = self._features_f[:n], self._features_f[n:]
        transform = partial(
            dft.rfft2, self._dresponse, self._tables, out=self._dresponse_f,
            work=self._response_work,
        )  # fmt: skip
        respond: Any = partial(
            dcf.dcf_backward, self._dresponse_f, template_f, search_f, self._label_f,
            self._response_f, self._energy, out=(self._dfeatures_f[:n], self._dfeatures_f[n:]),
        )  # fmt: skip
        if self.config.clips:
            respond = partial(
                recurrent.backward, self._clips, self._upstream, self._known, out=self._by,
                later=self._later,
            )  # fmt: skip
        invert = partial(
            dft.irfft2, self._dfeatures_f, self._tables, out=self._features, work=self._work
        )
        normalise = partial(
            lrn.backward, self._features, last.output, self._lrn, window=self._window,
            out=last.doutput,
        )  # fmt: skip
        stages = [
            Stage("DFT of their gradient", transform),
            Stage("filter and response: backward", respond),
            Stage("inverse DFT of the features' gradient", invert),
            Stage("LRN: backward", normalise),
        ]
        if self._slope is not None:  # how the windowed features change with the window's power
            by_power = partial(
                lrn.forward, last.output, self._lrn, window=self._slope, out=self._by_power
            )
            stages.append(Stage("LRN: by the window's power", by_power))
        return stages

    def _network_backward_stages(self) -> list[Stage]:
        """From the gradient by the last convolution to that by every parameter."""
        stages, layers = [], self._layers
        for layer, below in zip(reversed(layers), (*reversed(layers[:-1]), None)):
            x = self.images if below is None else below.output
            to_weights = partial(
                conv.weight_gradient, layer.doutput, x, padding=0, dilation=layer.spec.dilation,
                out=(layer.dweight, layer.dbias), part=layer.part, tf32=layer.tf32,
            )  # fmt: skip
            stages.append(Stage(f"{layer.name}: gradient to the weights", to_weights))
            if below is not None:
                to_data = partial(
                    conv.input_gradient, layer.doutput, layer.weight, x.shape[2:], padding=0,
                    dilation=layer.spec.dilation, relu_output=x if below.relu else None,
                    plan=conv.Plan(layer.flipped, below.doutput, tf32=layer.tf32),
                )  # fmt: skip
                stages.append(Stage(f"{layer.name}: gradient to the data", to_data))
        return stages
