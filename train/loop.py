"""The training loop: epochs of steps, validation, a log, and checkpoints to go on from.

RUN_DIR gets checkpoint.npz, log.jsonl (a line an epoch), weights.h5 at the end, best.h5 where
sequences are tracked, and diverged.npz when a step's loss is no number or too many pairs explode.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from dcfnet_np import network, weights
from dcfnet_np.backend import Array, Device, current, to_numpy
from dcfnet_np.support.files import make_folder, only_writer, replacing
from dcfnet_np.train import numbers
from dcfnet_np.train.checkpoint import Checkpoint, check_resume, load_checkpoint, save_checkpoint
from dcfnet_np.train.clip_step import ClipSteps
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops, read_crops
from dcfnet_np.train.device_step import DeviceOptions, DeviceSteps, check_kernels
from dcfnet_np.train.exploding import Diverged, Outcome
from dcfnet_np.train.fast_step import FastSteps
from dcfnet_np.train.optimisers import Learnt, first_learnt
from dcfnet_np.train.pairs import draw_training_pairs, draw_validation_pairs
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.train.validation import load_sequences, track_sequences

log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number, or too many pairs explode.

    The message is one line.
    """


class Watcher:
    """Is told how a run goes, and does nothing; `dcfnet train` has one that draws a bar."""

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
    watcher: Watcher = Watcher(),  # noqa: B008  has no state
) -> Path:
    """Train a network; returns the path of the weights, RUN_DIR/weights.h5.

    crops_path: made by `prepare`.  out: RUN_DIR, made when missing.  processes: those that share
    the work, `parallel.join_processes()`; rank 0 alone writes.  watcher: told of every step.
    Raises ValueError when settings, crops and folder do not fit together, DeviceError for a GPU
    that is not there, TrainingError when the loss is no longer finite or too many pairs explode.
    """
    place = processes.device(options.device)
    with current(place), ExitStack() as stack:
        run = _Run(crops_path, config, Path(out), options, place, processes)
        if run.writes:
            make_folder(run.out)
            stack.enter_context(only_writer(run.out))
        run.begin(watcher)
        while run.state.epoch < config.epochs:
            run.learn(watcher)
            run.end_epoch()
            watcher.epoch(run.state.records[-1], run.parameters())
        if run.writes:
            weights.save_weights(run.out / "weights.h5", run.weights())
    return run.out / "weights.h5"


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
        self.device, self.writes = str(place), processes.rank == 0
        self.data = data = read_data(crops_path, config, processes)
        held = data.validation & config.hold_out  # sequences
        self.learnt_names = [name for name, is_held in zip(data.sequences, held) if not is_held]
        track = options.track
        self.tracked = [] if track is None else load_sequences(track, self.learnt_names)
        self.checkpoint = out / "checkpoint.npz"
        self.state = self._first_state()
        batches = self.draw_batches(0)
        self.pairs = sum(map(len, batches))  # in this epoch as in every other
        done = self.state.epoch * len(batches) + self.state.steps
        self.steps = make_steps(
            config, data, self.state.learnt(done), place, options.tf32, processes
        )
        self.validation = draw_validation_pairs(data, config)
        self.named = set[int]()  # templates of pairs that exploded

    def _first_state(self) -> Checkpoint:
        """The last checkpoint, or that of a run that begins."""
        config, digest, ranks = self.config, self.data.digest, self.processes
        if not ranks.broadcast(self.checkpoint.exists()):
            learnt = first_learnt(config, size=self.data.size)
            return Checkpoint(0, {}, {}, config.as_dict(), digest).with_learnt(learnt)
        if not self.options.resume:
            raise ValueError(
                f"train: {self.out} already holds a run; resume it, or choose another folder"
            )
        state = ranks.broadcast(load_checkpoint(self.checkpoint) if self.writes else None)
        assert state is not None
        check_resume(state, config, digest)
        return state

    def begin(self, watcher: Watcher) -> None:
        """Write a first checkpoint, so that there is something to resume from now on."""
        self.save()
        state, begun = self.state, self.draw_batches(0)[: self.state.steps]
        done = state.epoch * self.pairs + sum(map(len, begun))
        watcher.start(state.records, done, self.config.epochs * self.pairs)

    def draw_batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, (config.batch or fewer, 2) index pairs each."""
        pairs, size = draw_training_pairs(self.data, self.config, epoch), self.config.batch
        return [pairs[start : start + size] for start in range(0, len(pairs), size)]

    def learn(self, watcher: Watcher) -> None:
        """What is left of an epoch, step by step, with a checkpoint now and then."""
        before = self.state
        batches = self.draw_batches(before.epoch)[before.steps :]
        lr = self.config.learning_rate(before.epoch)
        outcomes = self.steps.epoch(batches, lr, before.epoch, before.surplus)
        began = saved = time.perf_counter()
        try:
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
                watcher.step(len(batch), float(outcome.losses.mean()), self.waiting())
                if now - saved >= self.options.checkpoint_seconds and self.steps.settled:
                    self.save()
                    saved = time.perf_counter()
        except Diverged as error:
            raise self.diverged(error, lr) from None

    def name_left_out(self, batch: np.ndarray, outcome: Outcome) -> None:
        """Say which pairs of a step exploded, each template once."""
        left_out, data = outcome.left_out, self.data
        for (template, *_, search), loss in zip(batch[left_out], outcome.losses[left_out]):
            if self.writes and template not in self.named:
                self.named.add(template)
                name = data.sequences[data.sequence[template]]
                log.warning(
                    "%s, frame %d with frame %d is left out: its loss is %.3g, which a template "
                    "gives that shows next to nothing",
                    name, *data.frame[[template, search]], loss,
                )  # fmt: skip

    def diverged(self, error: Diverged, lr: float) -> TrainingError:
        """Keep the batch that a step failed on, with the state before it; returns what to raise."""
        path, losses = self.out / "diverged.npz", error.losses
        self.state = self.state.with_learnt(self.steps.learnt)
        if self.writes:
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
        return TrainingError(
            f"train: {what}, at learning rate {lr:.2g}; {advice} (the batch is in {path})"
        )

    def waiting(self) -> float | None:
        """The share of this epoch's time that steps waited for crops; None where unknown."""
        known = self.steps.waited is not None
        return self.state.waited / max(self.state.seconds, 1e-9) if known else None

    def end_epoch(self) -> None:
        """Validation, a line of the log, and a checkpoint."""
        state, config = self.state.with_learnt(self.steps.learnt), self.config
        self.state = state
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
        if self.config.learn:
            record["learnt"] = self.settings()
        if self.tracked and (epoch % self.options.track_every == 0 or epoch == config.epochs):
            record |= self.track()
        records = (*state.records, record)
        self.state = state._replace(
            epoch=epoch, steps=0, loss=0.0, left_out=0, seconds=0.0, waited=0.0, records=records
        )
        scores = [r["success"] for r in records if "success" in r]
        if self.writes and "success" in record and max(scores) not in scores[:-1]:
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

    def save(self) -> None:
        """Write the checkpoint, and the log as the checkpoint has it."""
        if self.writes:
            self.state = self.state.with_learnt(self.steps.learnt)
            save_checkpoint(self.checkpoint, self.state)
            lines = [json.dumps(record) + "\n" for record in self.state.records]
            with replacing(self.out / "log.jsonl") as part:
                part.write_text("".join(lines), encoding="utf-8")

    def parameters(self) -> network.Parameters:
        """What is kept, of the network."""
        return numbers.without_numbers(self._kept())

    def settings(self) -> dict[str, float]:
        """What was learnt beside the network, by the names that a preset has for it."""
        return numbers.as_settings(self._kept(), self.config, self.data.size)

    def _kept(self) -> dict[str, Array]:
        """What is validated and written: with averaging the average."""
        return self.state.average or self.state.parameters

    def weights(self) -> weights.Weights:
        """The network as it is, with all that is known of how it came about."""
        config, records, names = self.config, self.state.records, self.learnt_names
        training = {
            "config": config.as_dict(),
            "data_digest": self.data.digest,
            "sequences": names,
            "validation_sequences": [name for name in self.data.sequences if name not in names],
            "loss": [record["loss"] for record in records],
            "validation_loss": [record["validation_loss"] for record in records],
            "tracked_sequences": [sequence.name for sequence in self.tracked],
            "success": [record.get("success") for record in records],
        }
        if config.learn:
            training["learnt"] = self.settings()
        trained = {name: to_numpy(value) for name, value in self.parameters().items()}
        return weights.Weights(config.arch, trained, "bgr", config.mean, training, config.arch)


def make_steps(
    config: Config, data: Crops, learnt: Learnt, place: Device, tf32: bool, processes: Processes
) -> PlainSteps | DeviceSteps:
    """The quickest steps there are on `place`.

    Raises ValueError when TF32 was asked for on a CPU, or the kernels cannot do it on a GPU,
    DeviceError when the GPU has no TF32.
    """
    if place.kind == "cuda":
        check_kernels(config, data.size, place, tf32)
        share = dataclasses.replace(config, batch=-(-config.batch // processes.size))
        return DeviceSteps(
            share, data.crops, learnt, size=data.size, device=place.index, processes=processes,
            options=DeviceOptions(tf32=tf32),
        )  # fmt: skip
    if tf32:
        raise ValueError("train: tf32 is for a GPU, and this run is on the CPU; leave tf32 off")
    kind = FastSteps if FastSteps.reaches(config, data.size) else PlainSteps
    if config.clips:
        kind = ClipSteps
    return kind(config, data.crops, learnt, size=data.size, processes=processes)


def read_data(path: str | Path, config: Config, processes: Processes) -> Crops:
    """The crops, mapped from their file.  ValueError when they do not fit the settings."""
    data = read_crops(path)
    if data.padding != config.padding:
        raise ValueError(
            f"train: padding must be that of {path}, {data.padding:g}, got {config.padding:g}"
        )
    if config.jitter > data.margin:
        raise ValueError(
            f"train: {path} has a margin of {data.margin} pixels and so allows a jitter up to "
            f"{data.margin}, got {config.jitter}; prepare crops with a larger margin"
        )
    if any(digest != data.digest for digest in processes.gather(data.digest)):
        raise ValueError(f"train: {path} must be the same on all machines, got different ones")
    return data
