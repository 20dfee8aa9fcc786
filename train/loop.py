"""The training loop: epochs of SGD steps, with validation, a log, and checkpoints to go on from
after any end.

RUN_DIR gets checkpoint.npz, log.jsonl (a line an epoch), weights.h5 at the end, best.h5 where
sequences are tracked, and diverged.npz when a step's loss is no number or too many pairs explode.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dcfnet_np import datasets, network, weights
from dcfnet_np.backend import Device, array_module, current, to_device, to_numpy
from dcfnet_np.support.files import make_folder, only_writer, replacing
from dcfnet_np.train.adam import adam_step, update_average
from dcfnet_np.train.augment import check_margin
from dcfnet_np.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops, read_crops
from dcfnet_np.train.device_step import device_step
from dcfnet_np.train.pairs import epoch_pairs
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.reader import prefetch
from dcfnet_np.train.sgd import sgd_step, zero_velocity
from dcfnet_np.train.step import (
    Batches,
    Diverged,
    Objective,
    Outcome,
    batch_gradients,
    judge,
    make_objective,
    mean_loss,
)
from dcfnet_np.train.validation import load_sequences, success

VALIDATION_SEED = 20170413  # one draw of validation pairs for every run, so that runs compare
CHECKPOINT_SECONDS = 60.0  # between checkpoints within an epoch
HELD = "train: {} already holds a run; resume it, or choose another folder"
log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number, or too many pairs explode.

    The message is one line.
    """


class Watcher(Protocol):
    """Is told how a run goes: `dcfnet train` draws a progress bar."""

    def start(self, records: Sequence[dict[str, Any]], done: int, total: int) -> None:
        """A run begins whose log has these lines, and which has learnt from `done` of `total`
        pairs.
        """

    def step(self, pairs: int, loss: float, waiting: float | None) -> None:
        """One more step: its pairs and loss, and the share of the epoch's time so far that it
        waited for crops.
        """

    def epoch(self, record: dict[str, Any], parameters: network.Parameters) -> None:
        """An epoch is over: its line of the log, and the parameters."""


class ArraySteps:
    """Steps by array code, with crops read in advance; `train.device_step.TrainStep` does them by
    kernels on a GPU.
    """

    def __init__(
        self,
        batches: Batches,
        config: Config,
        plain: Objective,
        windowed: Objective,
        processes: Processes,
    ) -> None:
        """plain, windowed: the objective of steps without and with the Hann window."""
        self._batches, self._config, self._processes = batches, config, processes
        self._objectives = plain, windowed
        # Of a pair.  A response of zeros costs the label's own energy.
        self._limit = config.divergence * float((plain.label**2).sum())
        self.waited = 0.0  # seconds for crops

    def epoch(
        self, batches: Sequence[np.ndarray], state: Checkpoint, lr: float, first: int
    ) -> Iterator[Outcome]:
        """A step for each batch of pairs (n, 2) of the state's epoch; writes the arrays of the
        state.

        first: the number of the first of these steps in the run, from 1.  Raises Diverged, before
        anything is written."""
        config, ranks, surplus = self._config, self._processes, state.surplus
        mine = (batch[ranks.rank :: ranks.size] for batch in batches)
        reader = prefetch(self._batches.read, mine)
        for step, batch in enumerate(batches, start=first):
            began = time.perf_counter()
            pairs, raw = next(reader)
            self.waited += time.perf_counter() - began
            objective = self._objectives[config.windowed(step)]
            losses = np.zeros(len(batch))
            losses[ranks.rank :: ranks.size], gradients = batch_gradients(
                self._batches, pairs, state.parameters, config.arch, objective, state.epoch, raw, len(batch),
                self._limit,
            )  # fmt: skip
            losses, gradients = ranks.add(losses, gradients)
            outcome = judge(losses, self._limit, surplus, batch)
            surplus = outcome.surplus
            if not all(bool(array_module(g).isfinite(g).all()) for g in gradients.values()):
                raise Diverged(losses, self._limit, batch)
            how = {"lr": lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
            if config.optimiser == "adam":
                adam_step(
                    state.parameters, gradients, state.velocity, state.squares, step=step, **how
                )
            else:
                sgd_step(state.parameters, gradients, state.velocity, **how)
            if config.averaging:
                update_average(state.average, state.parameters, step=step, decay=config.averaging)
            yield outcome

    def mean_loss(self, pairs: np.ndarray, parameters: network.Parameters) -> float:
        """The mean loss of this rank's pairs as they are, nothing learnt; windowed where every step
        is.
        """
        objective = self._objectives[self._config.cosine_window == 1]
        return mean_loss(self._batches, pairs, parameters, self._config, objective)


def train(
    crops_path: str | Path,
    config: Config,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    tf32: bool = False,
    track: str | Path | None = None,
    track_every: int = 1,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    processes: Processes = Processes(),  # noqa: B008  has no state
    watcher: Watcher | None = None,
) -> Path:
    """Train a network; returns the path of the weights, RUN_DIR/weights.h5.

    crops_path: made by `prepare`.  out: RUN_DIR, made when missing.  resume: go on after the last
    checkpoint, or begin where there is none yet; on a CPU the result is that of an uninterrupted
    run, bit for bit.  tf32: on a GPU, convolutions in TF32, faster and less exact.  track: a folder
    of sequences to track after every `track_every` epochs and after the last, with the online
    settings of config.preset.  processes: those that share the work,
    `parallel.start()`.  watcher: told of every step, on rank 0.  Raises ValueError when settings,
    crops and folder do not fit together, DeviceError for a GPU that is not there, TrainingError
    when the loss is no longer finite or too many pairs explode, see `step.judge`.
    """
    place = processes.device(device)
    with current(place):
        run = _Run(crops_path, config, Path(out), place, resume, tf32, track, processes)
        if processes.rank:
            return run.go(track_every, checkpoint_seconds, watcher)
        make_folder(run.out)
        with only_writer(run.out):
            return run.go(track_every, checkpoint_seconds, watcher)


class _Run:
    """A run that has read and checked everything; its state is a `Checkpoint`."""

    def __init__(
        self,
        crops_path: str | Path,
        config: Config,
        out: Path,
        place: Device,
        resume: bool,
        tf32: bool,
        track: str | Path | None,
        processes: Processes,
    ) -> None:
        self.config, self.out, self.processes, self.device = config, out, processes, str(place)
        self.named = set[int]()  # templates of pairs that exploded
        self.data = data = read_crops(crops_path, margin=True, lazy=True)
        if data.padding != config.padding:
            raise ValueError(
                f"train: padding must be that of {crops_path}, {data.padding:g}, got {config.padding:g}"
            )
        check_margin(config.augmentation, data.margin)
        if any(digest != data.digest for digest in processes.gather(data.digest)):
            raise ValueError(
                f"train: {crops_path} must be the same on all machines, got different ones"
            )
        self.held, self.held_names = split(data, config)
        self.learnt = [name for name in data.sequences if name not in self.held_names]
        self.tracked: list[datasets.Sequence] = []
        if track is not None:
            self.tracked = load_sequences(track, self.learnt)

        self.checkpoint_path = out / "checkpoint.npz"
        there = processes.broadcast(self.checkpoint_path.exists())
        self.fresh = not there
        if there and not resume:
            raise ValueError(HELD.format(out))
        if there:
            state = processes.broadcast(
                load_checkpoint(self.checkpoint_path) if processes.rank == 0 else None
            )
            assert state is not None
            check_resume(state, config, data.digest)
        else:
            state = first_state(config, data.digest)
        self.steps_per_epoch = len(self.draw_batches(0))  # in this epoch as in every other
        self.by_kernels = device_step(
            config, data, state, place, self.steps_done(state), tf32, processes
        )
        if self.by_kernels is not None:
            place = Device("cpu")  # what is left to do here

        def placed(values: network.Parameters) -> network.Parameters:
            return {name: to_device(value, place) for name, value in values.items()}

        self.state = state._replace(
            parameters=placed(state.parameters), velocity=placed(state.velocity), squares=placed(state.squares),
            average=placed(state.average),
        )  # fmt: skip

        map_size = network.feature_size(data.size, config.arch, "valid")
        sigma, lam = (
            config.sigma_factor * data.size / (1 + config.padding),
            config.regulariser(data.size),
        )
        plain, windowed = (
            make_objective(
                (map_size, map_size), sigma, lam, band=config.band, window=window, device=place
            )
            for window in (False, True)
        )
        self.batches = Batches(
            data.crops, config.mean, augmentation=config.augmentation, size=data.size, device=place
        )
        self.by_arrays = ArraySteps(self.batches, config, plain, windowed, processes)
        self.validation = np.empty((0, 2), np.int64)
        if self.held.any():
            self.validation = draw(
                data, self.held, config, VALIDATION_SEED, 0, "near", config.validation_pairs
            )

    def go(self, track_every: int, checkpoint_seconds: float, watcher: Watcher | None) -> Path:
        """Epochs up to the last."""
        config, first = self.config, self.processes.rank == 0
        if first:
            # another process was quicker, and is done
            if self.fresh and self.checkpoint_path.exists():
                raise ValueError(HELD.format(self.out))
            self.save()  # so that there is something to resume from now on
        batches = self.draw_batches(0)
        self.pairs = sum(map(len, batches))  # in this epoch as in every other
        done = self.state.epoch * self.pairs + sum(map(len, batches[: self.state.steps]))
        watcher = watcher if first else None
        if watcher is not None:
            watcher.start(self.state.records, done, config.epochs * self.pairs)
        while self.state.epoch < config.epochs:
            try:
                self.run_epoch(checkpoint_seconds, watcher)
            except Diverged as error:
                raise self.diverged(error) from None
            self.end_epoch(track_every)
            if watcher is not None:
                watcher.epoch(self.state.records[-1], self.parameters())
        if first:
            self.save_weights("weights.h5")
        return self.out / "weights.h5"

    def steps_done(self, state: Checkpoint) -> int:
        """How many steps the run has made."""
        return state.epoch * self.steps_per_epoch + state.steps

    def draw_batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, (config.batch or fewer, 2) index pairs each."""
        config = self.config
        count = config.pairs_per_epoch or None
        pairs = draw(self.data, ~self.held, config, config.seed, epoch, config.pairs, count)
        return [pairs[start : start + config.batch] for start in range(0, len(pairs), config.batch)]

    def run_epoch(self, checkpoint_seconds: float, watcher: Watcher | None) -> None:
        """What is left of an epoch, step by step, with a checkpoint now and then."""
        state = self.state
        batches = self.draw_batches(state.epoch)[state.steps :]
        lr = self.config.learning_rate(state.epoch)
        if self.by_kernels is not None:
            outcomes = self.by_kernels.epoch(batches, lr, state.epoch, state.surplus)
        else:
            outcomes = self.by_arrays.epoch(batches, state, lr, self.steps_done(state) + 1)
        self.by_arrays.waited = 0.0
        began = saved = time.perf_counter()
        for batch, outcome in zip(batches, outcomes, strict=True):
            now = time.perf_counter()
            self.name_left_out(batch, outcome)
            kept = outcome.losses[~outcome.left_out]
            self.state = self.state._replace(
                steps=self.state.steps + 1,
                loss=self.state.loss + float(kept.sum()),
                left_out=self.state.left_out + len(batch) - len(kept),
                surplus=outcome.surplus,
                seconds=state.seconds + now - began,
                waited=state.waited + self.by_arrays.waited,
            )
            if watcher is not None:
                watcher.step(len(batch), float(outcome.losses.mean()), self.waiting())
            if now - saved >= checkpoint_seconds and (
                self.by_kernels is None or self.by_kernels.settled()
            ):
                self.save()
                saved = time.perf_counter()

    def name_left_out(self, batch: np.ndarray, outcome: Outcome) -> None:
        """Say which pairs of a step exploded, each template once."""
        if self.processes.rank:
            return
        for (template, search), loss in zip(
            batch[outcome.left_out], outcome.losses[outcome.left_out]
        ):
            if template not in self.named:
                self.named.add(template)
                log.warning(
                    "%s, frame %d with frame %d is left out: its loss is %.3g, which a template gives that shows next "
                    "to nothing",
                    self.data.sequences[self.data.sequence[template]], *self.data.frame[[template, search]], loss,
                )  # fmt: skip

    def waiting(self) -> float | None:
        """The share of this epoch's time that steps waited for crops; None on a GPU, where the host
        cannot see it.
        """
        return (
            None
            if self.by_kernels is not None
            else self.state.waited / max(self.state.seconds, 1e-9)
        )

    def end_epoch(self, track_every: int) -> None:
        """Validation, a line of the log, and a checkpoint."""
        self.fetch()
        left_out = self.state.left_out
        if left_out == self.pairs:
            raise TrainingError("train: every pair of an epoch exploded; lower lr_start")
        epoch = self.state.epoch + 1
        record: dict[str, Any] = {
            "epoch": epoch,
            "lr": self.config.learning_rate(self.state.epoch),
            "loss": self.state.loss / (self.pairs - left_out),
            "left_out": left_out,
            "validation_loss": self.validation_loss(),
            "pairs_per_second": self.pairs / self.state.seconds,
            "seconds": self.state.seconds,
            "waiting": self.waiting(),
        }
        if self.tracked and (epoch % track_every == 0 or epoch == self.config.epochs):
            record |= self.track()
        records = (*self.state.records, record)
        self.state = self.state._replace(
            epoch=epoch, steps=0, loss=0.0, left_out=0, seconds=0.0, waited=0.0, records=records
        )
        if self.processes.rank == 0:
            best = max(
                (r for r in records if "success" in r), key=lambda r: r["success"], default=None
            )
            if best is record:
                self.save_weights("best.h5")
            self.save()
        log.info("%s", json.dumps(record))

    def validation_loss(self) -> float | None:
        """The mean loss of the pairs that are held out; None when there are none."""
        if len(self.validation) == 0:
            return None
        mine, total = self.validation[self.processes.rank :: self.processes.size], 0.0
        if len(mine) and self.by_kernels is not None:
            total = len(mine) * self.by_kernels.mean_loss(mine)
        elif len(mine):
            total = len(mine) * self.by_arrays.mean_loss(mine, self.parameters())
        return sum(self.processes.gather(total)) / len(self.validation)

    def track(self) -> dict[str, Any]:
        """Success AUC of the tracked sequences, mean and each, for the log."""
        began = time.perf_counter()
        preset = self.config.preset
        scores = success(self.weights(), preset, self.device, self.tracked, self.processes)
        seconds = time.perf_counter() - began
        return {
            "success": float(np.mean(list(scores.values()))),
            "sequences": scores,
            "tracking_seconds": seconds,
        }

    def fetch(self) -> None:
        """Bring the state to where `save` finds it."""
        if self.by_kernels is not None:
            k = self.by_kernels
            self.state = self.state._replace(
                parameters=k.parameters(),
                velocity=k.velocity(),
                squares=k.squares(),
                average=k.average(),
            )

    def save(self) -> None:
        """Write the checkpoint, and the log as the checkpoint has it."""
        if self.processes.rank:
            return
        self.fetch()
        save_checkpoint(self.checkpoint_path, self.state)
        with replacing(self.out / "log.jsonl") as part:
            part.write_text(
                "".join(json.dumps(r) + "\n" for r in self.state.records), encoding="utf-8"
            )

    def parameters(self) -> network.Parameters:
        """What the run has learnt so far: with averaging the average, which is what is validated
        and kept.
        """
        return self.state.average or self.state.parameters

    def weights(self) -> weights.Weights:
        """The network as it is, with all that is known of how it came about."""
        records = self.state.records
        training = {
            "config": self.config.as_dict(),
            "data_digest": self.data.digest,
            "sequences": self.learnt,
            "validation_sequences": list(self.held_names),
            "loss": [record["loss"] for record in records],
            "validation_loss": [record["validation_loss"] for record in records],
            "tracked_sequences": [sequence.name for sequence in self.tracked],
            "success": [record.get("success") for record in records],
        }
        arch, trained = (
            self.config.arch,
            {name: to_numpy(value) for name, value in self.parameters().items()},
        )
        return weights.Weights(arch, trained, "bgr", self.config.mean, training, arch)

    def save_weights(self, name: str) -> None:
        """Write the network to RUN_DIR."""
        weights.save_weights(self.out / name, self.weights())

    def diverged(self, error: Diverged) -> TrainingError:
        """Keep the batch that a step failed on, with the state before it; returns what to raise."""
        path = self.out / "diverged.npz"
        if self.processes.rank == 0:
            self.fetch()
            save_checkpoint(
                path, self.state, pairs=error.batch, crops=self.batches.read(error.batch)
            )
        exploded, what, advice = (
            int((error.losses > error.limit).sum()),
            "a gradient is no number",
            "lower lr_start",
        )
        if not np.isfinite(error.losses).all():
            what = f"the loss is {error.losses.mean():.3g}"
        elif exploded:
            what = f"too many pairs explode, {exploded} of the last {len(error.losses)}"
            what += f" with a loss over {error.limit:.3g}"
            advice += ", or leave out the sequences that were named"
        lr = self.config.learning_rate(self.state.epoch)
        return TrainingError(
            f"train: {what}, at learning rate {lr:.2g}; {advice} (the batch is in {path})"
        )


def first_parameters(config: Config) -> network.Parameters:
    """What a run starts from, NumPy arrays: He's times config.initial_scale."""
    parameters = network.initialise(config.arch, config.seed)
    return {name: value * np.float32(config.initial_scale) for name, value in parameters.items()}


def first_state(config: Config, digest: str) -> Checkpoint:
    """That of a run that begins, NumPy arrays."""
    parameters = first_parameters(config)
    squares = zero_velocity(parameters) if config.optimiser == "adam" else {}
    average = {name: value.copy() for name, value in parameters.items()} if config.averaging else {}
    velocity = zero_velocity(parameters)
    return Checkpoint(
        0, parameters, velocity, config.as_dict(), digest, squares=squares, average=average
    )


def split(data: Crops, config: Config) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which crops are held out for validation, (n,) bool, and the names of their sequences: the
    file says which.
    """
    held = data.validation & config.hold_out
    return held[data.sequence], tuple(name for name, out in zip(data.sequences, held) if out)


def draw(
    data: Crops,
    chosen: np.ndarray,
    config: Config,
    seed: int,
    epoch: int,
    mode: str,
    count: int | None,
) -> np.ndarray:
    """`epoch_pairs` among the chosen crops (n,) bool, as indices into all crops."""
    index = np.flatnonzero(chosen)
    pairs = epoch_pairs(
        data.sequence[index],
        data.frame[index],
        seed=seed,
        epoch=epoch,
        max_gap=config.max_gap,
        count=count,
        mode=mode,
    )
    return index[pairs]


def check_resume(state: Checkpoint, config: Config, digest: str) -> None:
    """Raise CheckpointError unless a checkpoint belongs to these settings and crops."""
    if state.digest != digest:
        raise CheckpointError(
            "train: the checkpoint was made with other crops; give the same file or start anew"
        )
    settings = config.as_dict()
    other = [
        f"{name} {state.config.get(name)!r}"
        for name in settings
        if settings[name] != state.config.get(name)
    ]
    if other:
        raise CheckpointError(
            f"train: the checkpoint was made with {', '.join(other)}; give the same or start anew"
        )
    network.check_parameters(config.arch, state.parameters)
