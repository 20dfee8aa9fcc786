"""One step of training as one chain of kernels: crops -> loss -> gradients -> SGD or Adam, all on
one GPU.

`train.step.batch_gradients`, `train.sgd` and `train.adam` are the specification of every number
here.  A step is

    gather -> [pack weights -> conv+ReLU -> ... -> conv -> LRN x window -> band DFT -> correlation
    filter -> inverse DFT
    -> loss -> band DFT -> filter, backward -> inverse DFT -> LRN x window, backward -> conv,
    backward -> ...] -> SGD

in buffers that are made once, what stands in brackets captured as a CUDA graph.  The host hands
over which pairs come next and never waits for their loss: it may be SLOTS steps ahead, and reads
the losses when the steps are over. With several processes NCCL adds the gradients between the graph
and SGD."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend, kernels, network
from dcfnet_np.backend import Array, Device
from dcfnet_np.fast.graph import DeviceQueue, Stage, launch_stages
from dcfnet_np.kernels import adam, conv, conv_tf32, dcf, dft, gather, lrn, sgd
from dcfnet_np.ops.fourier import label_band, make_band, rfft2
from dcfnet_np.train.adam import EPSILON, SQUARES_DECAY, average_decay
from dcfnet_np.train.augment import cut, draw_changes, label_shifts, shift_label
from dcfnet_np.train.checkpoint import Checkpoint
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.step import Outcome, judge
from dcfnet_np.vision.windows import gaussian_label, hann

SLOTS = 4  # steps that can be under way
STRETCH = 64  # steps after which their losses are looked at
log = logging.getLogger(__name__)


class Slot(NamedTuple):
    """What one step under way needs of the host: page-locked memory, and its event."""

    chosen: np.ndarray  # (2 batch,) int32, which crops: templates first
    changes: np.ndarray  # (2 batch, 6), how they are changed: kernels.gather.CHANGE
    # (batch,), how much each pair counts: 0 for those that fill a short batch up
    shares: np.ndarray
    losses: np.ndarray  # (batch,): each pair's share of the loss
    crops: np.ndarray | None  # (2 batch, 3, size, size) uint8, when crops are streamed
    device_chosen: Array
    device_changes: Array
    device_shares: Array
    device_crops: Array | None
    uploaded: Any  # event: crops and index are on the device
    over: Any  # event: the step is done and its losses are here


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


class TrainStep:
    """Steps of SGD or Adam on one GPU, `config.batch` pairs each, or fewer.

        step = TrainStep(config, crops)
        for pairs in ...:                     # (batch, 2) indices into crops: template, search
            step.step(pairs, lr)
        losses = step.losses()                # of all these steps; waits for the last one
        trained = step.parameters()

    crops: (n, 3, S, S) uint8; size: of the network's input, S less the margin on both sides.
    parameters, velocity, squares, average: those to start with after `done` steps, see
    `checkpoint.Checkpoint`; else parameters from config.seed, which are the average, and zeros.
    resident: keep all crops on the GPU; else every batch is streamed from page-locked memory while
    the step before it computes.  dtype: float32, or float64 for checks.
    graph: capture the step as a CUDA graph; else launch its kernels one by one.  tf32: convolutions
    of more than a few channels on tensor cores, which are fast and round every factor to 10 bits of
    fraction (docs/reference/kernels.md says what that costs).  processes: those that share each batch.
    Raises `backend.DeviceError` when there is no usable GPU, or no TF32 on it, ValueError when the
    label needs the full spectrum of an even size, which has no band, or the network is not
    convolutions and one LRN behind them."""

    def __init__(
        self,
        config: Config,
        crops: np.ndarray,
        parameters: network.Parameters | None = None,
        velocity: network.Parameters | None = None,
        *,
        squares: network.Parameters | None = None,
        average: network.Parameters | None = None,
        done: int = 0,
        device: int = 0,
        dtype: Any = np.float32,
        graph: bool = True,
        resident: bool = True,
        tf32: bool = False,
        size: int | None = None,
        processes: Processes = Processes(),  # noqa: B008  has no state
    ) -> None:
        if (
            crops.ndim != 4
            or crops.shape[1] != 3
            or crops.shape[2] != crops.shape[3]
            or crops.dtype != np.uint8
        ):
            raise ValueError(
                f"TrainStep: crops must be (n, 3, size, size) uint8, got {crops.shape} {crops.dtype}"
            )
        parameters = (
            network.initialise(config.arch, config.seed) if parameters is None else parameters
        )
        network.check_parameters(config.arch, parameters)
        self.config = config
        self.dtype = np.dtype(dtype)
        self._queue = queue = DeviceQueue(device, graph=graph)
        self._cp = queue.cp
        self._done = done  # steps of the optimiser
        self._ahead = 0  # steps made whose losses `epoch` has yet to yield
        self._steps = 0  # since the losses were last asked for
        self._losses: list[np.ndarray] = []
        self._crops_host = crops
        self._tf32 = tf32
        self._augmentation, self._processes = config.augmentation, processes
        self.size = crops.shape[-1] if size is None else size
        if resident and (self._augmentation.cuts or self.size != crops.shape[-1]):
            raise ValueError(
                "TrainStep: crops with a margin, and all that is done on the CPU, need resident=False"
            )
        self._uploads = queue.new_stream()
        with queue.device:
            self._add = processes.adder_on(Device("cuda", device))
        with queue.active():
            self._crops = self._cp.asarray(np.ascontiguousarray(crops)) if resident else None
            self._make_network(parameters, self.size)
            self._velocity = self._flatten(velocity)
            self._squares = self._flatten(squares) if config.optimiser == "adam" else None
            self._average = self._flatten(average or parameters) if config.averaging else None
            self._make_objective()
            self._forward, self._backward = self._make_forward(), self._make_backward()
            self._slots = [self._make_slot(self.size) for _ in range(SLOTS)]
        queue.stream.synchronize()

    def epoch(
        self, batches: Sequence[np.ndarray], lr: float, epoch: int, surplus: float = 0.0
    ) -> Iterator[Outcome]:
        """One step for each batch of pairs (n, 2), augmented: `train.loop.ArraySteps.epoch`.

        They come STRETCH steps at a time; the last of these is yielded when `settled`.  surplus:
        before the first of these steps, see `step.judge`.  Raises Diverged.
        """
        ranks = self._processes
        for first in range(0, len(batches), STRETCH):
            stretch = batches[first : first + STRETCH]
            for batch in stretch:
                self.step(batch[ranks.rank :: ranks.size], lr, epoch, total=len(batch))
            shares = ranks.gather(self._shares_of_losses())
            for number, batch in enumerate(stretch):
                losses = np.empty(len(batch))
                for rank, share in enumerate(shares):
                    mine = losses[rank :: ranks.size]
                    mine[:] = share[number][: len(mine)] * len(batch)
                outcome = judge(losses, self._limit, surplus, batch)
                surplus, self._ahead = outcome.surplus, len(stretch) - 1 - number
                yield outcome

    def settled(self) -> bool:
        """Whether the parameters are those after the step whose loss `epoch` yielded last."""
        return self._ahead == 0

    def mean_loss(self, pairs: np.ndarray) -> float:
        """The mean loss of pairs (n, 2) as they are, nothing learnt: `train.step.mean_loss`, of the
        average if any.
        """
        batches = [
            pairs[first : first + self.config.batch]
            for first in range(0, len(pairs), self.config.batch)
        ]
        with self._queue.active():
            newest = self._flat.copy()
            self._choose_window(False)
            if self._average is not None:
                self._flat[...] = self._average
        for batch in batches:
            self._submit(batch, None, lambda: launch_stages(self._forward), len(batch))
        losses = self.losses()
        with self._queue.active():
            self._flat[...] = newest
        return float(losses @ [len(batch) for batch in batches]) / len(pairs)

    def step(
        self, pairs: np.ndarray, lr: float, epoch: int | None = None, total: int | None = None
    ) -> None:
        """One SGD step on `pairs`, (batch or fewer, 2) indices into the crops, at learning rate
        `lr`.

        Does not wait for it.  With the number of an epoch the images are augmented.  total: of how
        many pairs the loss is the mean, when others are with other processes; these may leave none
        for this one."""
        self._submit(pairs, epoch, lambda: self._replay(float(lr)), total or len(pairs))

    def _submit(
        self, pairs: np.ndarray, epoch: int | None, work: Callable[[], object], total: int
    ) -> None:
        """Bring a batch to the device, in a slot of its own, and queue `work` on it."""
        pairs, batch = np.asarray(pairs), self.config.batch
        if (
            pairs.ndim != 2
            or pairs.shape[1] != 2
            or not (len(pairs) or total)
            or len(pairs) > batch
        ):
            raise ValueError(f"TrainStep.step: pairs must be (1 to {batch}, 2), got {pairs.shape}")
        count, pairs = (
            len(pairs),
            np.resize(pairs if len(pairs) else np.zeros((1, 2), int), (batch, 2)),
        )
        if pairs.min() < 0 or pairs.max() >= len(self._crops_host):
            raise ValueError(
                f"TrainStep.step: pairs must be indices below {len(self._crops_host)}, got others"
            )
        index = pairs.T.reshape(-1)
        changed = epoch is not None and self._augmentation.relights
        slot = self._slots[self._steps % SLOTS]
        with self._queue.device:
            if self._steps >= SLOTS:
                self._finish(slot)
            slot.shares[...] = (np.arange(batch) < count) / self.dtype.type(total)
            self._queue.put(slot.device_shares, slot.shares, self._uploads)
            if slot.crops is None:
                slot.chosen[...] = index
                self._queue.put(slot.device_chosen, slot.chosen, self._uploads)
            else:
                self._read(pairs, index, epoch, slot.crops)
                self._queue.put(slot.device_crops, slot.crops, self._uploads)
            if epoch is not None and changed:
                slot.changes[...] = self._changes(pairs, index, epoch, slot.crops)
                self._queue.put(slot.device_changes, slot.changes, self._uploads)
            slot.uploaded.record(self._uploads)
            with self._queue.stream:
                self._queue.stream.wait_event(slot.uploaded)
                crops = self._crops if slot.crops is None else slot.device_crops
                gather.gather(
                    crops, slot.device_chosen, self._mean_pixel, changes=slot.device_changes if changed else None,
                    out=self._images,
                )  # fmt: skip
                self._shares[...] = slot.device_shares
                if self._labels is not None:
                    shifts = (
                        None if epoch is None else label_shifts(pairs, epoch, self._augmentation)
                    )
                    self._labels[...] = (
                        self._label if shifts is None else shift_label(self._label, shifts)
                    )
                work()
                self._queue.fetch(self._map_losses, slot.losses)
                slot.over.record(self._queue.stream)
        self._steps += 1

    def _read(
        self, pairs: np.ndarray, index: np.ndarray, epoch: int | None, out: np.ndarray
    ) -> None:
        """What the network sees of a batch, as bytes, (2 batch, 3, size, size)."""
        if self.size == self._crops_host.shape[-1] and (
            epoch is None or not self._augmentation.cuts
        ):
            # in range; "raise" is slower
            np.take(self._crops_host, index, axis=0, out=out, mode="clip")
        else:
            raw = np.asarray(self._crops_host[pairs.T])
            out[...] = cut(raw, pairs, self.size, epoch, self._augmentation).reshape(out.shape)

    def _changes(
        self, pairs: np.ndarray, index: np.ndarray, epoch: int, crops: np.ndarray | None
    ) -> np.ndarray:
        """The augmentation of a batch as `gather` takes it, (2 batch, 6).

        crops: the batch, where it is streamed.
        """
        mirrored, contrast, brightness, colour = draw_changes(
            pairs, epoch, self._augmentation, self.dtype
        )
        # The mean grey level, as NumPy has it: the sum of bytes is exact.
        crops = self._crops_host[index] if crops is None else crops
        level = crops.sum((1, 2, 3), dtype=np.int64).astype(self.dtype) / self.dtype.type(
            crops[0].size
        )
        return np.column_stack(
            [mirrored, level, contrast, (level * brightness)[:, None] * colour]
        ).astype(self.dtype)

    def losses(self) -> np.ndarray:
        """The mean loss of every step since the last call, (steps,) float64, in order.

        Waits for the last step.
        """
        return self._shares_of_losses().sum(axis=1)

    def _shares_of_losses(self) -> np.ndarray:
        """Those of every pair, (steps, batch), of which the mean loss of a step is the sum."""
        first = max(0, self._steps - SLOTS)
        for number in range(first, self._steps):
            self._finish(self._slots[number % SLOTS])
        result, self._losses, self._steps = self._losses, [], 0
        return np.array(result, np.float64).reshape(-1, self.config.batch)

    def parameters(self) -> network.Parameters:
        """A copy of the parameters, NumPy arrays.  Waits for the last step."""
        return self._unflatten(self._flat)

    def velocity(self) -> network.Parameters:
        """A copy of the optimiser's velocity, NumPy arrays.  Waits for the last step."""
        return self._unflatten(self._velocity)

    def squares(self) -> network.Parameters:
        """A copy of Adam's squares, NumPy arrays, {} with SGD.  Waits for the last step."""
        return {} if self._squares is None else self._unflatten(self._squares)

    def average(self) -> network.Parameters:
        """A copy of the parameters' average, NumPy arrays, {} without averaging.

        Waits for the last step.
        """
        return {} if self._average is None else self._unflatten(self._average)

    def gradients(self) -> network.Parameters:
        """The gradients of the last step, NumPy arrays; for tests."""
        return self._unflatten(self._dflat)

    def _unflatten(self, flat: Array) -> network.Parameters:
        self._queue.stream.synchronize()
        values = backend.to_numpy(flat).copy()
        return {name: self._view(values, name) for name in self._places}

    def _view(self, flat: Array, name: str) -> Array:
        start, shape = self._places[name]
        return flat[start : start + int(np.prod(shape))].reshape(shape)

    def _finish(self, slot: Slot) -> None:
        """Wait until the step in this slot is over, and keep its losses."""
        slot.over.synchronize()
        self._losses.append(slot.losses.copy())

    def _choose_window(self, windowed: bool) -> None:
        """Have the next step with or without the Hann window."""
        if self._window is not None and self.config.cosine_window < 1:
            self._window[...] = self._windows[windowed]

    def _replay(self, lr: float) -> None:
        self._choose_window(self.config.windowed(self._done + 1))
        self._queue.replay((*self._forward, *self._backward))
        if self._add is not None:
            self._add(self._dflat, self._queue.stream)
        self._done += 1
        self._descend(lr)  # outside of the graph, which would keep the numbers of its capture

    def _flatten(self, values: network.Parameters | None) -> Array:
        """One flat buffer of all parameters, or of what belongs to each; zeros when there are none."""
        flat = self._cp.zeros(
            sum(int(np.prod(shape)) for _, shape in self._places.values()), self.dtype
        )
        for name, value in (values or {}).items():
            self._view(flat, name)[...] = self._cp.asarray(value, self.dtype)
        return flat

    def _make_network(self, parameters: network.Parameters, size: int) -> None:
        """The layers, with all parameters and their gradients in one flat buffer each."""
        cp, dtype, n = self._cp, self.dtype, 2 * self.config.batch
        specs = [spec for _, spec in network.layers(self.config.arch)]
        lrns = [spec for spec in specs if isinstance(spec, network.Lrn)]
        if specs[-1:] != lrns:
            raise ValueError(f"TrainStep: the last layer, and no other, must be Lrn, got {specs}")
        self._lrn = lrns[0]
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        start = 0
        for name, value in parameters.items():
            self._places[name] = (start, value.shape)
            start += value.size
        self._flat, self._dflat = self._flatten(parameters), self._flatten(None)
        self._images = cp.empty((n, 3, size, size), dtype)
        self._mean_pixel = cp.asarray(np.asarray(self.config.mean, dtype))
        self._layers: list[Layer] = []
        height = size
        for i, (name, spec) in enumerate(network.layers(self.config.arch)):
            if not isinstance(spec, network.Conv):
                continue
            height, _ = conv.output_shape(height, height, 0, spec.dilation)
            tf32 = self._tf32 and spec.c_in >= conv_tf32.CHANNELS
            weight, bias = (self._view(self._flat, f"{name}.{kind}") for kind in ("weight", "bias"))
            dweight, dbias = (
                self._view(self._dflat, f"{name}.{kind}") for kind in ("weight", "bias")
            )
            output = cp.empty((n, spec.c_out, height, height), dtype)
            part = cp.empty(
                (conv.parts(output.shape, spec.c_in), 9 * spec.c_in + 1, spec.c_out), dtype
            )
            self._layers.append(
                Layer(
                    name, spec, isinstance(specs[i + 1], network.Relu), tf32, weight, bias, dweight, dbias,
                    conv.pack(weight), conv.pack(weight, flipped=True), output, cp.empty_like(output), part,
                )
            )  # fmt: skip

    def _make_objective(self) -> None:
        """The label, the band's tables, and the buffers between the last layer and the loss."""
        cp, config, dtype, n = self._cp, self.config, self.dtype, self.config.batch
        features = self._layers[-1].output
        size, d = features.shape[-1], features.shape[1]
        sigma = config.sigma_factor * self.size / (1 + config.padding)
        label = gaussian_label((size, size), sigma, dtype)
        self._limit = config.divergence * float((label**2).sum())
        band = label_band(label, dtype) if config.band else None
        if band is None:
            if size % 2 == 0:
                raise ValueError(
                    f"TrainStep: this label needs the full spectrum, so maps of odd size, got {size}"
                )
            band = make_band((size, size), size // 2, dtype)
        self._tables = dft.make_tables(band.shape, band.limits, dtype)
        self._label, self._label_f = cp.asarray(label), cp.asarray(rfft2(label, band))
        self._lam = config.regulariser(self.size)
        self._labels = cp.empty((n, size, size), dtype) if config.jitter > 0 else None  # one a pair
        hann_window = cp.asarray(hann((size, size), dtype))
        self._windows = cp.ones_like(hann_window), hann_window
        # What the kernels of a captured graph read; where only some steps have the Hann window,
        # filled before each.
        self._window = hann_window.copy() if config.cosine_window else None
        self._shares = cp.empty(n, dtype)
        bins, complex_ = self._tables.spectrum_shape, dft.COMPLEX[dtype]
        self._features = cp.empty(features.shape, dtype)  # after LRN, and later their gradient
        self._features_f = cp.empty((2 * n, d, *bins), complex_)
        self._dfeatures_f = cp.empty((2 * n, d, *bins), complex_)
        self._work = cp.empty((2 * n, d, size, bins[1]), complex_)
        self._response_f, self._dresponse_f = (
            cp.empty((n, *bins), complex_),
            cp.empty((n, *bins), complex_),
        )
        self._energy = cp.empty((n, *bins), dtype)
        self._response, self._dresponse = (
            cp.empty((n, size, size), dtype),
            cp.empty((n, size, size), dtype),
        )
        self._response_work = cp.empty((n, size, bins[1]), complex_)
        self._map_losses = cp.empty(n, dtype)

    def _make_slot(self, size: int) -> Slot:
        cp, n = self._cp, 2 * self.config.batch
        index = self._queue.pinned((n,), np.int32)
        crops = (
            None if self._crops is not None else self._queue.pinned((n, 3, size, size), np.uint8)
        )
        index[...] = 0 if crops is None else np.arange(n)  # streamed crops come in order
        shapes = (n, len(gather.CHANGE)), (n // 2,), (n // 2,)
        changes, shares, losses = (self._queue.pinned(shape, self.dtype) for shape in shapes)
        return Slot(
            index,
            changes,
            shares,
            losses,
            crops,
            cp.asarray(index.copy()),
            cp.empty(changes.shape, self.dtype),
            cp.empty(shares.shape, self.dtype),
            None if crops is None else cp.empty(crops.shape, np.uint8),
            self._queue.new_event(),
            self._queue.new_event(),
        )

    def stages(self, lr: float) -> list[Stage]:
        """The kernels of a step at this learning rate, in order and by name, the gathering of the
        batch before them.
        """
        slot = self._slots[0]
        crops = self._crops if slot.crops is None else slot.device_crops
        collect = partial(
            gather.gather, crops, slot.device_chosen, self._mean_pixel, out=self._images
        )
        return [
            Stage("gather", collect),
            *self._forward,
            *self._backward,
            Stage("SGD" if self._squares is None else "Adam", partial(self._descend, lr)),
        ]

    def _descend(self, lr: float) -> None:
        """One step of the optimiser, and of the average."""
        config, how = (
            self.config,
            {"lr": lr, "momentum": self.config.momentum, "weight_decay": self.config.weight_decay},
        )
        if self._squares is not None:
            adam.step(
                self._flat, self._dflat, self._velocity, self._squares, step=self._done, squares_decay=SQUARES_DECAY,
                epsilon=EPSILON, **how,
            )  # fmt: skip
        else:
            sgd.step(self._flat, self._dflat, self._velocity, **how)
        if self._average is not None:
            adam.update_average(
                self._average, self._flat, share=1 - average_decay(config.averaging, self._done)
            )

    def _make_forward(self) -> list[Stage]:
        """From the images to the loss and its gradient by the response, every buffer bound."""
        n, spec = self.config.batch, self._lrn
        stages = []
        x = self._images
        for layer in self._layers:
            run = partial(
                conv.forward, x, layer.weight, layer.bias, padding=0, dilation=layer.spec.dilation, relu=layer.relu,
                packed=layer.packed, out=layer.output, tf32=layer.tf32,
            )  # fmt: skip
            stages += [
                Stage(f"{layer.name}: pack", layer.pack),
                Stage(f"{layer.name}: forward", run),
            ]
            x = layer.output
        template_f, search_f = self._features_f[:n], self._features_f[n:]
        label = self._label if self._labels is None else self._labels
        return [
            *stages,
            Stage(
                "LRN: forward",
                partial(
                    lrn.forward, x, n=spec.n, k=spec.k, alpha=spec.alpha, beta=spec.beta, window=self._window,
                    out=self._features,
                ),
            ),
            Stage(
                "DFT of the features",
                partial(dft.rfft2, self._features, self._tables, out=self._features_f, work=self._work),
            ),
            Stage(
                "filter and response",
                partial(
                    dcf.dcf_forward, template_f, search_f, self._label_f, self._lam,
                    out=(self._response_f, self._energy),
                ),
            ),
            Stage(
                "inverse DFT of the responses",
                partial(dft.irfft2, self._response_f, self._tables, out=self._response, work=self._response_work),
            ),
            Stage(
                "loss",
                partial(
                    dcf.response_loss, self._response, label, shares=self._shares, limit=self._limit,
                    out=(self._map_losses, self._dresponse),
                ),
            ),
        ]  # fmt: skip

    def _make_backward(self) -> list[Stage]:
        """From the gradient by the response to that by every parameter, every buffer bound."""
        n, layers, spec = self.config.batch, self._layers, self._lrn
        template_f, search_f = self._features_f[:n], self._features_f[n:]
        stages = [
            Stage(
                "DFT of their gradient",
                partial(dft.rfft2, self._dresponse, self._tables, out=self._dresponse_f, work=self._response_work),
            ),
            Stage(
                "filter and response: backward",
                partial(
                    dcf.dcf_backward, self._dresponse_f, template_f, search_f, self._label_f, self._response_f,
                    self._energy, out=(self._dfeatures_f[:n], self._dfeatures_f[n:]),
                ),
            ),
            Stage(
                "inverse DFT of the features' gradient",
                partial(dft.irfft2, self._dfeatures_f, self._tables, out=self._features, work=self._work),
            ),
            Stage(
                "LRN: backward",
                partial(
                    lrn.backward, self._features, layers[-1].output, n=spec.n, k=spec.k, alpha=spec.alpha,
                    beta=spec.beta, window=self._window, out=layers[-1].doutput,
                ),
            ),
        ]  # fmt: skip
        for i in reversed(range(len(layers))):
            layer, below = layers[i], layers[i - 1] if i else None
            x = self._images if below is None else below.output
            to_weights = partial(
                conv.weight_gradient, layer.doutput, x, padding=0, dilation=layer.spec.dilation,
                out=(layer.dweight, layer.dbias), part=layer.part, tf32=layer.tf32,
            )  # fmt: skip
            stages.append(Stage(f"{layer.name}: gradient to the weights", to_weights))
            if below is not None:
                to_data = partial(
                    conv.input_gradient, layer.doutput, layer.weight, x.shape[2:], padding=0,
                    dilation=layer.spec.dilation, relu_output=x if below.relu else None, packed=layer.flipped,
                    out=below.doutput, tf32=layer.tf32,
                )  # fmt: skip
                stages.append(Stage(f"{layer.name}: gradient to the data", to_data))
        return stages


def device_step(
    config: Config,
    data: Crops,
    state: Checkpoint,
    device: Device,
    done: int = 0,
    tf32: bool = False,
    processes: Processes = Processes(),  # noqa: B008  has no state
) -> TrainStep | None:
    """What trains by kernels for `train.loop` on `device`, crops streamed; None when array code is
    to do it.

    state: of a run that has made `done` steps.  Raises ValueError when TF32 was asked for and array
    code is all there is, DeviceError when the GPU has none.
    """
    if tf32 and device.kind == "cpu":
        raise ValueError("train: tf32 is for a GPU, and this run is on the CPU; leave tf32 off")
    if device.kind == "cpu":
        return None
    size = network.feature_size(data.size, config.arch, "valid")
    label = gaussian_label((size, size), config.sigma_factor * data.size / (1 + config.padding))
    reason = ""
    if not kernels.enabled():
        reason = "DCFNET_KERNELS=0"
    elif size % 2 == 0 and (not config.band or label_band(label) is None):
        reason = f"maps of {size} pixels need the full spectrum of an even size, which the kernels do not have"
    if reason and tf32:
        raise ValueError(f"train: tf32 is for the kernels, but {reason}; leave tf32 off")
    if reason:
        log.info("%s: array code on the GPU in place of kernels, since %s", device, reason)
        return None
    if tf32:
        conv_tf32.check_device(device.index)
    # of this rank, rounded up
    share = dataclasses.replace(config, batch=-(-config.batch // processes.size))
    return TrainStep(
        share, data.crops, state.parameters, state.velocity, squares=state.squares, average=state.average, done=done,
        device=device.index, resident=False, tf32=tf32, size=data.size, processes=processes,
    )  # fmt: skip
