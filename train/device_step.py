"""Steps of training by the kernels of `device_chain` on one GPU.

The crops of a batch are copied to the GPU while the step before it computes, the chain runs as a
CUDA graph, and the optimiser follows.  The host hands over which pairs come next and never waits
for their loss: it may be SLOTS steps ahead, and reads the losses when the steps are over.  Several
processes add their gradients on the host, between the graph and the optimiser.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import kernels, network
from dcfnet_np.backend import Array, Device, to_numpy
from dcfnet_np.fast.graph import DeviceQueue, Stage, launch_stages
from dcfnet_np.kernels import conv_tf32, gather
from dcfnet_np.train.augment import cut_images, draw_changes, shift_label
from dcfnet_np.train.clip_step import clip_pairs, clip_shifts, mirrored_clips
from dcfnet_np.train.config import Config
from dcfnet_np.train.device_chain import DeviceChain
from dcfnet_np.train.exploding import Outcome, judge_losses
from dcfnet_np.train.numbers import without_numbers
from dcfnet_np.train.optimisers import Learnt, first_learnt
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.plain_step import objective_of

SLOTS = 4  # steps that can be under way
STRETCH = 64  # steps after which their losses are looked at


class DeviceOptions(NamedTuple):
    """How `DeviceSteps` works.

    dtype: float32, or float64 for checks.  graph: capture the step as a CUDA graph; else launch its
    kernels one by one.  tf32: convolutions of more than a few channels on tensor cores, which are
    fast and round every factor to 10 bits of fraction (docs/reference/kernels.md says what that
    costs).
    """

    dtype: Any = np.float32
    graph: bool = True
    tf32: bool = False


class Transfer(NamedTuple):
    """Page-locked memory, and the array on the device that it is copied to."""

    host: np.ndarray
    device: Array


class Slot(NamedTuple):
    """What one step under way needs of the host."""

    crops: Transfer  # (T batch, 3, size, size) uint8, templates first
    changes: Transfer  # (T batch, 6), how they are changed: kernels.gather.CHANGE
    shares: Transfer  # (responses,), how much each counts: 0 for those that fill a short batch up
    places: Transfer  # (T - 1, batch, 2): where the targets are in all frames but the last
    losses: np.ndarray  # (responses,): each response's share of the loss, page-locked
    uploaded: Any  # event: the four are on the device
    over: Any  # event: the step is done and its losses are here


class DeviceSteps:
    """Steps of training on one GPU, of `config.batch` pairs or clips each, or fewer.

        steps = DeviceSteps(config, crops)
        for pairs in ...:                     # (batch, 2) indices into crops: template, search;
            steps.step(pairs, lr)             # or clips, (batch, T)
        losses = steps.losses()               # of all these steps; waits for the last one
        trained = steps.learnt.parameters

    crops: (n, 3, S, S) uint8; size: of the network's input, S less the margin on both sides.
    learnt: what to start with; default: `first_learnt`.  device: index of the GPU.  processes:
    those that share each batch.  Raises `backend.DeviceError` when there is no usable GPU, or no
    TF32 on it, ValueError when the label needs the full spectrum of an even size, which has no
    band, or the network is not convolutions and one LRN behind them.
    """

    waited = None  # the host cannot see how long steps wait for crops

    def __init__(
        self,
        config: Config,
        crops: np.ndarray,
        learnt: Learnt | None = None,
        *,
        size: int | None = None,
        device: int = 0,
        processes: Processes = Processes(),  # noqa: B008  has no state
        options: DeviceOptions = DeviceOptions(),  # noqa: B008  does not change
    ) -> None:
        self.config, self.dtype = config, np.dtype(options.dtype)
        self.size = crops.shape[-1] if size is None else size
        learnt = first_learnt(config, size=self.size) if learnt is None else learnt
        network.check_parameters(config.arch, without_numbers(learnt.parameters))
        self._processes, self._crops = processes, crops
        self._ahead = 0  # steps made whose losses `epoch` has yet to yield
        self._steps = 0  # since the losses were last asked for
        self._losses: list[np.ndarray] = []
        self._queue = queue = DeviceQueue(device, graph=options.graph)
        self._uploads = queue.new_stream()
        with queue.active() as cp:
            self._in_order = cp.arange(config.frames * config.batch, dtype=np.int32)
            self._mean_pixel = cp.asarray(np.asarray(config.mean, self.dtype))
            self._chain = DeviceChain(cp, config, learnt, self.size, self.dtype, options.tf32)
            self._slots = [self._make_slot(cp) for _ in range(SLOTS)]
        queue.stream.synchronize()

    # --- what the loop asks for

    def epoch(
        self, batches: Sequence[np.ndarray], lr: float, epoch: int, surplus: float = 0.0
    ) -> Iterator[Outcome]:
        """One step for each batch of pairs (n, 2), augmented: see `PlainSteps.epoch`.

        They come STRETCH steps at a time; the last of these is yielded when `settled`.
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
                outcome = judge_losses(losses, self._chain.limit, surplus, batch)
                surplus, self._ahead = outcome.surplus, len(stretch) - 1 - number
                yield outcome

    @property
    def settled(self) -> bool:
        """See `PlainSteps`."""
        return self._ahead == 0

    @property
    def learnt(self) -> Learnt:
        """A copy of what is learnt, NumPy arrays.  Waits for the last step."""
        self._queue.stream.synchronize()
        return self._chain.learnt()

    def mean_loss(self, pairs: np.ndarray) -> float:
        """The mean loss of pairs (n, 2) as they are: see `PlainSteps.mean_loss`."""
        size, chain = self.config.batch, self._chain
        # the rest of a clip does not count
        pairs = np.column_stack([pairs, *[pairs[:, 1:]] * (self.config.frames - 2)])
        batches = [pairs[first : first + size] for first in range(0, len(pairs), size)]
        parameters = chain.parameters.flat
        with self._queue.active():
            newest = parameters.copy()
            if self.config.averaging:
                parameters[...] = chain.average.flat
                chain.use_numbers(chain.numbers.average)
            chain.choose_window(self.config.cosine_window == 1)
        for batch in batches:
            self._submit(batch, None, None, len(batch))
        losses = self.losses()
        with self._queue.active():
            parameters[...] = newest
            chain.use_numbers(chain.numbers.parameters)
        return float(losses @ [len(batch) for batch in batches]) / len(pairs)

    # --- step by step

    def step(
        self, pairs: np.ndarray, lr: float, epoch: int | None = None, total: int | None = None
    ) -> None:
        """One step on `pairs`, (batch or fewer, 2) indices into the crops, at learning rate `lr`.

        Does not wait for it.  With the number of an epoch the images are augmented.  total: of how
        many pairs the loss is the mean, when others are with other processes; these may leave none
        for this one.
        """
        self._submit(pairs, epoch, float(lr), total or len(pairs))

    def losses(self) -> np.ndarray:
        """The mean loss of every step since the last call, (steps,) float64; waits for the last."""
        return self._shares_of_losses().sum(axis=1)

    def gradients(self) -> network.Parameters:
        """The gradients of the last step, NumPy arrays; for tests."""
        self._queue.stream.synchronize()
        return self._chain.gradients.copy()

    def stages(self, lr: float) -> list[Stage]:
        """The kernels of a step at this learning rate, in order and by name."""
        chain, name = self._chain, self.config.optimiser
        collect = Stage("gather", partial(self._gather, self._slots[0]))
        descend = Stage({"sgd": "SGD", "adam": "Adam"}[name], partial(chain.descend, lr))
        return [collect, *chain.forward, *chain.backward, descend]

    def _submit(self, pairs: np.ndarray, epoch: int | None, lr: float | None, total: int) -> None:
        """Bring a batch to the device, in a slot of its own, and queue a step on it.

        lr: None to compute the losses alone.
        """
        count, slot, chain = len(pairs), self._slots[self._steps % SLOTS], self._chain
        # repeated to a whole batch; a rank may have none
        whole = self.config.batch, self.config.frames
        pairs = np.resize(pairs if count else np.zeros((1, whole[1]), int), whole)
        with self._queue.device:
            if self._steps >= SLOTS:
                self._finish(slot)
            steps = whole[1] - 1
            shares = slot.shares.host.reshape(steps, -1)
            shares[...] = (np.arange(len(pairs)) < count) / self.dtype.type(total)
            if lr is None:
                shares[1:] = 0
            else:
                shares /= steps
            shifts = clip_shifts(pairs, epoch, self.config.augmentation)
            slot.places.host[1:] = 0 if shifts is None else shifts.reshape(steps, -1, 2)[:-1]
            changed = self._fill(slot, pairs, epoch)
            slot.uploaded.record(self._uploads)
            with self._queue.stream as stream:
                stream.wait_event(slot.uploaded)
                self._gather(slot, changed)
                chain.shares[...] = slot.shares.device
                if self.config.clips:
                    chain.places[...] = slot.places.device
                if chain.labels is not None:
                    wanted = chain.label if shifts is None else shift_label(chain.label, shifts)
                    chain.labels[...] = wanted
                if lr is None:
                    launch_stages(chain.forward)
                else:
                    self._learn(lr)
                self._queue.fetch(chain.losses, slot.losses)
                slot.over.record(stream)
        self._steps += 1

    def _fill(self, slot: Slot, pairs: np.ndarray, epoch: int | None) -> bool:
        """Write a batch into page-locked memory and queue its upload.

        Returns whether `gather` has to change the crops.
        """
        augmentation, seen = self.config.augmentation, slot.crops.host
        if self.size == self._crops.shape[-1] and (epoch is None or not augmentation.cuts):
            # in range; "raise" is slower
            np.take(self._crops, pairs.T.reshape(-1), axis=0, out=seen, mode="clip")
        else:
            both = clip_pairs(pairs)
            raw = np.asarray(self._crops[both.T])
            cut = cut_images(raw, both, self.size, epoch, augmentation)
            seen[: len(pairs)], seen[len(pairs) :] = cut[0, : len(pairs)], cut[1]
        changed = epoch is not None and augmentation.relights
        if epoch is not None and changed:
            slot.changes.host[...] = self._changes(pairs, epoch, seen)
        for values in (slot.shares, slot.places, slot.crops, *[slot.changes] * changed):
            self._queue.put(values.device, values.host, self._uploads)
        return changed

    def _changes(self, pairs: np.ndarray, epoch: int, crops: np.ndarray) -> np.ndarray:
        """The augmentation of a batch of crops as `gather` takes it, (T batch, 6)."""
        augmentation, both = self.config.augmentation, clip_pairs(pairs)
        n, frames = pairs.shape
        kept = np.r_[:n, len(both) : 2 * len(both)]  # each template once
        _, contrast, brightness, colour = (
            values[kept] for values in draw_changes(both, epoch, augmentation, self.dtype)
        )
        mirrored = np.tile(mirrored_clips(pairs, epoch, augmentation), frames)
        # The mean grey level, as NumPy has it: the sum of bytes is exact.
        total = crops.sum((1, 2, 3), dtype=np.int64).astype(self.dtype)
        level = total / self.dtype.type(crops[0].size)
        offsets = (level * brightness)[:, None] * colour
        return np.column_stack([mirrored, level, contrast, offsets]).astype(self.dtype)

    def _gather(self, slot: Slot, changed: bool = False) -> None:
        """The batch of a slot as images, the mean taken off."""
        changes, out = slot.changes.device if changed else None, self._chain.images
        gather.gather(slot.crops.device, self._in_order, self._mean_pixel, changes=changes, out=out)

    def _learn(self, lr: float) -> None:
        """Gradients, and a step of the optimiser."""
        chain = self._chain
        chain.choose_window(self.config.windowed(chain.steps + 1))
        self._queue.replay((*chain.forward, *chain.backward))
        by_numbers = chain.number_gradients() if self.config.learn else {}
        if self._processes.size > 1:
            flat = chain.gradients.flat
            _, total = self._processes.add(np.empty(0), {"all": to_numpy(flat)} | by_numbers)
            self._queue.put(flat, total.pop("all"))
            by_numbers = total
        chain.steps += 1
        chain.descend(lr)  # outside of the graph, which would keep the numbers of its capture
        if by_numbers:
            chain.descend_numbers(lr, by_numbers)

    def _finish(self, slot: Slot) -> None:
        """Wait until the step in this slot is over, and keep its losses."""
        slot.over.synchronize()
        self._losses.append(slot.losses.reshape(-1, self.config.batch).sum(0, dtype=np.float64))

    def _shares_of_losses(self) -> np.ndarray:
        """Those of every pair, (steps, batch), of which the mean loss of a step is the sum."""
        for number in range(max(0, self._steps - SLOTS), self._steps):
            self._finish(self._slots[number % SLOTS])
        result, self._losses, self._steps = self._losses, [], 0
        return np.array(result, np.float64).reshape(-1, self.config.batch)

    def _make_slot(self, cp: Any) -> Slot:
        queue, batch, frames = self._queue, self.config.batch, self.config.frames
        n, responses = frames * batch, (frames - 1) * batch

        def transfer(shape: tuple[int, ...], dtype: Any) -> Transfer:
            host = queue.pinned(shape, dtype)
            host[...] = 0
            return Transfer(host, cp.zeros(shape, dtype))

        return Slot(
            crops=transfer((n, 3, self.size, self.size), np.uint8),
            changes=transfer((n, len(gather.CHANGE)), self.dtype),
            shares=transfer((responses,), self.dtype),
            places=transfer((frames - 1, batch, 2), np.int32),
            losses=queue.pinned((responses,), self.dtype),
            uploaded=queue.new_event(),
            over=queue.new_event(),
        )


def check_kernels(config: Config, size: int, device: Device, tf32: bool) -> None:
    """Raise an error unless `DeviceSteps` can do crops of `size` pixels on this GPU.

    ValueError where the kernels cannot do it, DeviceError where TF32 is asked for and there is
    none.
    """
    objective = objective_of(config, size)
    reason = "" if kernels.enabled() else "DCFNET_KERNELS=0"
    if config.found_places or config.recompute:
        reason = "found_places and recompute are for a CPU"
    if objective.band is None and len(objective.label) % 2 == 0:
        reason = f"maps of {len(objective.label)} pixels need the full spectrum of an even size"
    if reason:
        raise ValueError(
            f"train: the kernels do not do this on {device}: {reason}; use the device cpu"
        )
    if tf32:
        conv_tf32.check_device(device.index)
