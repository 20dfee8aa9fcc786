"""The training loop: epochs of steps, validation, a log, and checkpoints to go on from.

RUN_DIR gets checkpoint.npz, log.jsonl (a line an epoch), weights.h5 at the end, best.h5 where
sequences are tracked, and diverged.npz when a step's loss is no number or too many pairs explode.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dcfnet_np import network, weights
from dcfnet_np.backend import Device, current, to_numpy
from dcfnet_np.support.files import make_folder, only_writer, replacing
from dcfnet_np.train.augment import check_margin
from dcfnet_np.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops, read_crops
from dcfnet_np.train.device_step import DeviceOptions, DeviceSteps, kernels_reach, share_of_batch
from dcfnet_np.train.exploding import Diverged, Outcome
from dcfnet_np.train.fast_step import FastSteps
from dcfnet_np.train.optimisers import Learnt, first_learnt
from dcfnet_np.train.pairs import epoch_pairs
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.train.validation import load_sequences, track_sequences

VALIDATION_SEED = 20170413  # one draw of validation pairs for every run, so that runs compare
HELD = "train: {} already holds a run; resume it, or choose another folder"
log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number, or too many pairs explode.

    The message is one line.
    """


class Steps(Protocol):
    """What makes the steps of a run, plainly, fast or on a device; see `PlainSteps`."""

    @property
    def learnt(self) -> Learnt: ...
    @property
    def settled(self) -> bool: ...
    @property
    def waited(self) -> float | None: ...
    def epoch(
        self, batches: Sequence[np.ndarray], lr: float, epoch: int, surplus: float = 0.0
    ) -> Iterator[Outcome]: ...
    def mean_loss(self, pairs: np.ndarray) -> float: ...


class Watcher(Protocol):
    """Is told how a run goes: `dcfnet train` draws a progress bar."""

    def start(self, records: Sequence[dict[str, Any]], done: int, total: int) -> None:
        """A run with these lines in its log begins; it learnt from `done` of `total` pairs."""

    def step(self, pairs: int, loss: float, waiting: float | None) -> None:
        """One more step: its pairs, its loss, and the share of the epoch spent on waiting."""

    def epoch(self, record: dict[str, Any], parameters: network.Parameters) -> None:
        """An epoch is over: its line of the log, and the parameters."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a run is done.

    resume: go on after the last checkpoint, or begin where there is none yet; on a CPU the result
    is that of an uninterrupted run, bit for bit.  tf32: on a GPU, convolutions in TF32, faster and
    less exact.  track: a folder of sequences to track after every `track_every` epochs and after
    the last, with the online settings of config.preset.
    """

    device: str = "auto"
    resume: bool = False
    tf32: bool = False
    track: str | Path | None = None
    track_every: int = 1
    checkpoint_seconds: float = 60.0  # between checkpoints within an epoch


def train(
    crops_path: str | Path,
    config: Config,
    out: str | Path,
    options: RunOptions = RunOptions(),
    *,
    processes: Processes = Processes(),  # noqa: B008  has no state
    watcher: Watcher | None = None,
) -> Path:
    """Train a network; returns the path of the weights, RUN_DIR/weights.h5.

    crops_path: made by `prepare`.  out: RUN_DIR, made when missing.  processes: those that share
    the work, `parallel.join_processes()`.  watcher: told of every step, on rank 0.  Raises
    ValueError when settings, crops and folder do not fit together, DeviceError for a GPU that is
    not there, TrainingError when the loss is no longer finite or too many pairs explode.
    """
    place = processes.device(options.device)
    with current(place):
        run = _Run(crops_path, config, Path(out), options, place, processes)
        if processes.rank:
            return run.go(None)
        make_folder(run.out)
        with only_writer(run.out):
            return run.go(watcher)


def make_steps(
    config: Config, data: Crops, learnt: Learnt, place: Device, tf32: bool, processes: Processes
) -> Steps:
    """The quickest steps there are on `place`.

    Raises ValueError when TF32 was asked for and array code is all there is, DeviceError when the
    GPU has none.
    """
    if tf32 and place.kind == "cpu":
        raise ValueError("train: tf32 is for a GPU, and this run is on the CPU; leave tf32 off")
    if place.kind == "cuda" and kernels_reach(config, data.size, place, tf32):
        return DeviceSteps(
            share_of_batch(config, processes), data.crops, learnt, size=data.size,
            device=place.index, processes=processes,
            options=DeviceOptions(resident=False, tf32=tf32),
        )  # fmt: skip
    fast = place.kind == "cpu" and FastSteps.reaches(config, data.size)
    kind = FastSteps if fast else PlainSteps
    return kind(config, data.crops, learnt, size=data.size, device=place, processes=processes)


class _Run:
    """A run that has read and checked everything; its state is a `Checkpoint`."""

    def __init__(
        self,
        crops_path: str | Path,
        config: Config,
        out: Path,
        options: RunOptions,
        place: Device,
        processes: Processes,
    ) -> None:
        self.config, self.out, self.options, self.processes = config, out, options, processes
        self.device = str(place)
        self.data = data = read_data(crops_path, config, processes)
        names = held_out_names(data, config)
        self.learnt_names = [name for name in data.sequences if name not in names]
        track = options.track
        self.tracked = [] if track is None else load_sequences(track, self.learnt_names)
        self.checkpoint_path = out / "checkpoint.npz"
        self.state, self.fresh = self.first_state()
        batches = self.draw_batches(0)
        self.pairs = sum(map(len, batches))  # in this epoch as in every other
        done = self.state.epoch * len(batches) + self.state.steps
        learnt = self.state.learnt(done)
        self.steps = make_steps(config, data, learnt, place, options.tf32, processes)
        self.validation = draw_validation_pairs(data, config)
        self.named = set[int]()  # templates of pairs that exploded

    def first_state(self) -> tuple[Checkpoint, bool]:
        """The last checkpoint, or that of a run that begins; and whether it begins."""
        ranks, path, config = self.processes, self.checkpoint_path, self.config
        if not ranks.broadcast(path.exists()):
            return first_checkpoint(config, self.data.digest), True
        if not self.options.resume:
            raise ValueError(HELD.format(self.out))
        state = ranks.broadcast(load_checkpoint(path) if ranks.rank == 0 else None)
        assert state is not None
        check_resume(state, config, self.data.digest)
        return state, False

    def go(self, watcher: Watcher | None) -> Path:
        """Epochs up to the last."""
        if self.processes.rank == 0:
            # another process was quicker, and is done
            if self.fresh and self.checkpoint_path.exists():
                raise ValueError(HELD.format(self.out))
            self.save()  # so that there is something to resume from now on
        if watcher is not None:
            begun = self.draw_batches(0)[: self.state.steps]
            done = self.state.epoch * self.pairs + sum(map(len, begun))
            watcher.start(self.state.records, done, self.config.epochs * self.pairs)
        while self.state.epoch < self.config.epochs:
            try:
                self.run_epoch(watcher)
            except Diverged as error:
                raise self.diverged(error) from None
            self.end_epoch()
            if watcher is not None:
                watcher.epoch(self.state.records[-1], self.parameters())
        if self.processes.rank == 0:
            weights.save_weights(self.out / "weights.h5", self.weights())
        return self.out / "weights.h5"

    def draw_batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, (config.batch or fewer, 2) index pairs each."""
        pairs, size = draw_training_pairs(self.data, self.config, epoch), self.config.batch
        return [pairs[start : start + size] for start in range(0, len(pairs), size)]

    def run_epoch(self, watcher: Watcher | None) -> None:
        """What is left of an epoch, step by step, with a checkpoint now and then."""
        before = self.state
        batches = self.draw_batches(before.epoch)[before.steps :]
        lr = self.config.learning_rate(before.epoch)
        outcomes = self.steps.epoch(batches, lr, before.epoch, before.surplus)
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
                seconds=before.seconds + now - began,
                waited=before.waited + (self.steps.waited or 0.0),
            )
            if watcher is not None:
                watcher.step(len(batch), float(outcome.losses.mean()), self.waiting())
            if now - saved >= self.options.checkpoint_seconds and self.steps.settled:
                self.save()
                saved = time.perf_counter()

    def name_left_out(self, batch: np.ndarray, outcome: Outcome) -> None:
        """Say which pairs of a step exploded, each template once."""
        if self.processes.rank:
            return
        left_out, data = outcome.left_out, self.data
        for (template, search), loss in zip(batch[left_out], outcome.losses[left_out]):
            if template not in self.named:
                self.named.add(template)
                name = data.sequences[data.sequence[template]]
                log.warning(
                    "%s, frame %d with frame %d is left out: its loss is %.3g, which a template "
                    "gives that shows next to nothing",
                    name, *data.frame[[template, search]], loss,
                )  # fmt: skip

    def waiting(self) -> float | None:
        """The share of this epoch's time that steps waited for crops; None where unknown."""
        known = self.steps.waited is not None
        return self.state.waited / max(self.state.seconds, 1e-9) if known else None

    def end_epoch(self) -> None:
        """Validation, a line of the log, and a checkpoint."""
        self.fetch()
        state, config = self.state, self.config
        if state.left_out == self.pairs:
            raise TrainingError("train: every pair of an epoch exploded; lower lr_start")
        epoch = state.epoch + 1
        record: dict[str, Any] = {
            "epoch": epoch,
            "lr": config.learning_rate(state.epoch),
            "loss": state.loss / (self.pairs - state.left_out),
            "left_out": state.left_out,
            "validation_loss": self.validation_loss(),
            "pairs_per_second": self.pairs / state.seconds,
            "seconds": state.seconds,
            "waiting": self.waiting(),
        }
        if self.tracked and (epoch % self.options.track_every == 0 or epoch == config.epochs):
            record |= self.track()
        records = (*state.records, record)
        self.state = state._replace(
            epoch=epoch, steps=0, loss=0.0, left_out=0, seconds=0.0, waited=0.0, records=records
        )
        if self.processes.rank == 0:
            scores = [r["success"] for r in records if "success" in r]
            if "success" in record and scores.index(max(scores)) == len(scores) - 1:
                weights.save_weights(self.out / "best.h5", self.weights())
            self.save()
        log.info("%s", json.dumps(record))

    def validation_loss(self) -> float | None:
        """The mean loss of the pairs that are held out; None when there are none."""
        if len(self.validation) == 0:
            return None
        mine = self.validation[self.processes.rank :: self.processes.size]
        total = len(mine) * self.steps.mean_loss(mine) if len(mine) else 0.0
        return sum(self.processes.gather(total)) / len(self.validation)

    def track(self) -> dict[str, Any]:
        """Success AUC of the tracked sequences, mean and each, for the log."""
        began, preset = time.perf_counter(), self.config.preset
        scores = track_sequences(self.weights(), preset, self.device, self.tracked, self.processes)
        return {
            "success": float(np.mean(list(scores.values()))),
            "sequences": scores,
            "tracking_seconds": time.perf_counter() - began,
        }

    def fetch(self) -> None:
        """Bring what is learnt into the state."""
        self.state = self.state.with_learnt(self.steps.learnt)

    def save(self) -> None:
        """Write the checkpoint, and the log as the checkpoint has it."""
        if self.processes.rank:
            return
        self.fetch()
        save_checkpoint(self.checkpoint_path, self.state)
        lines = [json.dumps(record) + "\n" for record in self.state.records]
        with replacing(self.out / "log.jsonl") as part:
            part.write_text("".join(lines), encoding="utf-8")

    def parameters(self) -> network.Parameters:
        """What is validated and kept: with averaging the average."""
        return self.state.average or self.state.parameters

    def weights(self) -> weights.Weights:
        """The network as it is, with all that is known of how it came about."""
        config, records = self.config, self.state.records
        training = {
            "config": config.as_dict(),
            "data_digest": self.data.digest,
            "sequences": self.learnt_names,
            "validation_sequences": list(held_out_names(self.data, config)),
            "loss": [record["loss"] for record in records],
            "validation_loss": [record["validation_loss"] for record in records],
            "tracked_sequences": [sequence.name for sequence in self.tracked],
            "success": [record.get("success") for record in records],
        }
        trained = {name: to_numpy(value) for name, value in self.parameters().items()}
        return weights.Weights(config.arch, trained, "bgr", config.mean, training, config.arch)

    def diverged(self, error: Diverged) -> TrainingError:
        """Keep the batch that a step failed on, with the state before it; returns what to raise."""
        path, losses = self.out / "diverged.npz", error.losses
        if self.processes.rank == 0:
            self.fetch()
            crops = np.asarray(self.data.crops[error.batch.T])
            save_checkpoint(path, self.state, pairs=error.batch, crops=crops)
        exploded = int((losses > error.limit).sum())
        what, advice = "a gradient is no number", "lower lr_start"
        if not np.isfinite(losses).all():
            what = f"the loss is {losses.mean():.3g}"
        elif exploded:
            what = f"too many pairs explode, {exploded} of the last {len(losses)}"
            what += f" with a loss over {error.limit:.3g}"
            advice += ", or leave out the sequences that were named"
        lr = self.config.learning_rate(self.state.epoch)
        return TrainingError(
            f"train: {what}, at learning rate {lr:.2g}; {advice} (the batch is in {path})"
        )


def read_data(path: str | Path, config: Config, processes: Processes) -> Crops:
    """The crops, mapped from their file.  ValueError when they do not fit the settings."""
    data = read_crops(path, margin=True, lazy=True)
    if data.padding != config.padding:
        raise ValueError(
            f"train: padding must be that of {path}, {data.padding:g}, got {config.padding:g}"
        )
    check_margin(config.augmentation, data.margin)
    if any(digest != data.digest for digest in processes.gather(data.digest)):
        raise ValueError(f"train: {path} must be the same on all machines, got different ones")
    return data


def first_checkpoint(config: Config, digest: str) -> Checkpoint:
    """That of a run that begins, NumPy arrays."""
    empty = Checkpoint(0, {}, {}, config.as_dict(), digest)
    return empty.with_learnt(first_learnt(config))


def held_out_names(data: Crops, config: Config) -> tuple[str, ...]:
    """The sequences that are held out for validation: the file says which."""
    held = data.validation & config.hold_out
    return tuple(name for name, out in zip(data.sequences, held) if out)


def draw_training_pairs(data: Crops, config: Config, epoch: int) -> np.ndarray:
    """The pairs of an epoch, (n, 2) indices of crops; none of the sequences that are held out."""
    learnt = ~(data.validation & config.hold_out)[data.sequence]
    count = config.pairs_per_epoch or None
    return _draw(
        data, learnt, config, seed=config.seed, epoch=epoch, mode=config.pairs, count=count
    )


def draw_validation_pairs(data: Crops, config: Config) -> np.ndarray:
    """The pairs of the validation loss, (n, 2) indices: the same in every epoch and run."""
    held = (data.validation & config.hold_out)[data.sequence]
    if not held.any():
        return np.empty((0, 2), np.int64)
    count = config.validation_pairs
    return _draw(data, held, config, seed=VALIDATION_SEED, epoch=0, mode="near", count=count)


def _draw(data: Crops, chosen: np.ndarray, config: Config, **how: Any) -> np.ndarray:
    """`epoch_pairs` among the chosen crops (n,) bool, as indices into all crops."""
    index = np.flatnonzero(chosen)
    sequence, frame = data.sequence[index], data.frame[index]
    return index[epoch_pairs(sequence, frame, max_gap=config.max_gap, **how)]


def check_resume(state: Checkpoint, config: Config, digest: str) -> None:
    """Raise CheckpointError unless a checkpoint belongs to these settings and crops."""
    if state.digest != digest:
        raise CheckpointError(
            "train: the checkpoint was made with other crops; give the same file or start anew"
        )
    other = [
        f"{name} {state.config.get(name)!r}"
        for name, value in config.as_dict().items()
        if value != state.config.get(name)
    ]
    if other:
        raise CheckpointError(
            f"train: the checkpoint was made with {', '.join(other)}; give the same or start anew"
        )
    network.check_parameters(config.arch, state.parameters)
