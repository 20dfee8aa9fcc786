"""The plain training loop: pairs -> crops -> network -> correlation filter -> loss, all the way back, SGD.

Template and search go through the network as one batch, so the shared weights' gradients add by themselves.
The network runs without padding, as in the released codes: a 125 crop gives a 121 map, and no border of zeros
teaches the filter where the middle is.  The label stays that of the crop, sigma = sigma_factor * size / (1 +
padding) pixels.
"""

import argparse
import dataclasses
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network, tiled, weights
from dcfnet_np.backend import (
    Array,
    Cores,
    Device,
    DeviceError,
    array_module,
    current,
    select_device,
    to_device,
    to_numpy,
)
from dcfnet_np.files import WriteError, replacing, write_errors
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward
from dcfnet_np.ops.fourier import Band, label_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.train.augment import Augmentation, augment
from dcfnet_np.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from dcfnet_np.train.pair_step import PairStep, PairSteps
from dcfnet_np.train.pairs import epoch_pairs
from dcfnet_np.train.prepare import Crops, read_crops
from dcfnet_np.train.sgd import learning_rate, sgd_step, zero_velocity
from dcfnet_np.vision.windows import gaussian_label, hann

VALIDATION_SEED = 20170413  # one draw of validation pairs for every run, so that runs compare
log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number.  The message is one line."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are the released PyTorch code's where it has them.

    An unknown name is a TypeError, a bad value a ValueError.
    """

    arch: str = "light"
    padding: float = 2.0  # of the crops; checked against the file
    sigma_factor: float = 0.1  # label's standard deviation, of the target's size in the crop
    lam: float = 1e-4  # lambda of Eq. 2, not divided by the number of features
    batch: int = 32  # pairs a step
    epochs: int = 50
    pairs_per_epoch: int = 0  # 0: every crop is the template once
    max_gap: int = 10  # frames between template and search
    initial_scale: float = 1.0  # of the first weights, times He's; 6**-0.5 is the spread that PyTorch starts with
    cosine_window: bool = False  # multiply the features by a Hann window, as in tracking
    flip: bool = False  # mirror half of the pairs, see train.augment
    light: float = 0.0  # change contrast and brightness by up to exp(+-light), see train.augment
    lr_start: float = 1e-2
    lr_end: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-5  # gamma/2 ||theta||^2, see train.sgd; the MATLAB codes have 5e-4
    mean: tuple[float, ...] = weights.MEAN_BGR  # as in tracking; the released code trained with 109, 120, 119
    held_out_every: int = 10  # every tenth sequence gives validation pairs only; 0: none
    validation_pairs: int = 512  # the same in every epoch and run
    band: bool = True  # only the frequencies that the label needs, exact to rounding
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "arch": (self.arch in network.ARCHITECTURES, f"one of {', '.join(network.ARCHITECTURES)}"),
            "padding": (self.padding > 0, "> 0"),
            "sigma_factor": (self.sigma_factor > 0, "> 0"),
            "lam": (self.lam >= 0, ">= 0"),
            "batch": (self.batch >= 1, ">= 1"),
            "epochs": (self.epochs >= 1, ">= 1"),
            "pairs_per_epoch": (self.pairs_per_epoch >= 0, ">= 0"),
            "max_gap": (self.max_gap >= 1, ">= 1"),
            "initial_scale": (self.initial_scale > 0, "> 0"),
            "light": (self.light >= 0, ">= 0"),
            "lr_start": (self.lr_start > 0, "> 0"),
            "lr_end": (self.lr_end > 0, "> 0"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "weight_decay": (self.weight_decay >= 0, ">= 0"),
            "mean": (len(self.mean) == 3, "three numbers"),
            "held_out_every": (self.held_out_every >= 0 and self.held_out_every != 1, "0 or >= 2"),
            "validation_pairs": (self.validation_pairs >= 1, ">= 1"),
            "seed": (self.seed >= 0, ">= 0"),
        }
        for name, (good, expected) in rules.items():
            if not good:
                raise ValueError(f"Config: {name} must be {expected}, got {getattr(self, name)!r}")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


class Objective(NamedTuple):
    """What the response shall be, on the feature map; all on one device."""

    label: Array  # (H, W)
    label_f: Array  # its spectrum, all of it or `band`
    band: Band | None
    lam: float
    window: Array | None = None  # (H, W), times the features


def make_objective(
    shape: tuple[int, int],
    sigma: float,
    lam: float,
    *,
    band: bool = True,
    window: bool = False,
    dtype: Any = np.float32,
    device: Device,
) -> Objective:
    """The Gaussian label of standard deviation sigma (pixels) on maps of `shape`, its spectrum, and a Hann window."""
    label = to_device(gaussian_label(shape, sigma, dtype), device)
    kept = label_band(label, dtype) if band else None
    return Objective(label, rfft2(label, kept), kept, lam, to_device(hann(shape, dtype), device) if window else None)


def pair_loss(
    images: Array, parameters: network.Parameters, architecture: Any, objective: Objective
) -> tuple[float, Any]:
    """Forward pass of a batch of pairs.  images: (2N, 3, H, W), the N templates first, then their N searches.

    Returns the loss (Eq. 4 without weight decay, mean over the N pairs) and the caches for `pair_gradients`.
    """
    n = len(images) // 2
    features, network_caches = network.forward(images, parameters, architecture, padding="valid")
    if objective.window is not None:
        features = features * objective.window  # a new array: the network's caches hold the old one
    response, dcf_cache = dcf_forward(features[:n], features[n:], objective.label_f, objective.lam, objective.band)
    loss, loss_cache = response_loss_forward(response, objective.label)
    return loss, (network_caches, dcf_cache, loss_cache, objective.window)


def pair_gradients(caches: Any, share: float = 1.0) -> network.Parameters:
    """Backward pass of `pair_loss`: gradient of share * loss by every parameter."""
    network_caches, dcf_cache, loss_cache, window = caches
    dresponse = response_loss_backward(loss_cache, share)
    dtemplate, dsearch = dcf_backward(dresponse, dcf_cache)
    xp = array_module(dtemplate)
    dfeatures = xp.concatenate([dtemplate, dsearch])
    if window is not None:
        dfeatures *= window
    _, dparameters = network.backward(dfeatures, network_caches, input_gradient=False)
    return dparameters


class Batches:
    """Crops on their device, the pairs of a step as normalised images, and the threads that work on them.

    On a CPU a step is done pair by pair, spread over the cores (see `backend.Cores`); gradients are added in order, so
    the result does not depend on the number of cores.  On a GPU there is one part.
    """

    def __init__(
        self,
        crops: Array,
        mean: tuple[float, ...],
        dtype: Any = np.float32,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  a NamedTuple does not change
    ) -> None:
        xp = array_module(crops)
        self.crops = crops
        self.mean = xp.asarray(mean, dtype).reshape(1, 3, 1, 1)
        self.augmentation = augmentation
        self.on_cpu = xp is np
        self.cores = Cores()
        self._pair_steps: tuple[Any, Objective, PairSteps] | None = None

    def images(self, pairs: np.ndarray, epoch: int | None = None) -> Array:
        """(N, 2) index pairs -> (2N, 3, size, size), templates first, the mean taken off; augmented in an epoch."""
        images = self.crops[array_module(self.crops).asarray(pairs.T.reshape(-1))].astype(self.mean.dtype)
        if epoch is not None:
            images = augment(images, pairs, epoch, self.augmentation)
        images -= self.mean
        return images

    def pair_steps(self, architecture: Any, objective: Objective) -> PairSteps | None:
        """The fast way to do a pair, None where there is none: on a GPU, without a band, for dilated networks."""
        if not self.on_cpu or objective.band is None or not tiled.supports(architecture):
            return None
        if self._pair_steps is None or self._pair_steps[0] != architecture or self._pair_steps[1] is not objective:
            size = self.crops.shape[-2:]
            windows = [np.ones(n) if objective.window is None else np.hanning(n) for n in objective.label.shape]
            settings = objective.label, objective.label_f, objective.band, objective.lam, (windows[0], windows[1])
            steps = PairSteps(lambda: PairStep(architecture, size, *settings))
            self._pair_steps = architecture, objective, steps
        return self._pair_steps[2]

    def map(self, function: Callable[[Array, float], Any], pairs: np.ndarray, epoch: int | None = None) -> list[Any]:
        """function(images, share of the batch) of every part of the batch, results in order."""
        at_once = 1 if self.on_cpu else len(pairs)
        parts = [pairs[start : start + at_once] for start in range(0, len(pairs), at_once)]

        def work(part: np.ndarray) -> Any:
            return function(self.images(part, epoch), len(part) / len(pairs))

        if not self.on_cpu:
            return [work(part) for part in parts]
        return self.cores.map(work, parts)


def batch_gradients(
    batches: Batches,
    pairs: np.ndarray,
    parameters: network.Parameters,
    architecture: Any,
    objective: Objective,
    epoch: int | None = None,
) -> tuple[float, network.Parameters]:
    """Loss (mean over the pairs) and its gradient by every parameter, for one batch of index pairs (N, 2).

    With the number of an epoch the images are augmented.
    """

    steps = batches.pair_steps(architecture, objective)
    kernels = tiled.make_kernels(parameters, architecture) if steps else None

    def part(images: Array, share: float) -> tuple[float, network.Parameters]:
        if steps and kernels:
            with steps.one() as step:
                loss, gradients = step.gradients(images, kernels, share)
            return share * loss, gradients
        loss, caches = pair_loss(images, parameters, architecture, objective)
        return share * loss, pair_gradients(caches, share)

    total, gradients = 0.0, zero_velocity(parameters)
    for loss, dparameters in batches.map(part, pairs, epoch):
        total += loss
        for name, gradient in dparameters.items():
            gradients[name] += gradient
    return total, gradients


def mean_loss(
    batches: Batches, pairs: np.ndarray, parameters: network.Parameters, config: Config, objective: Objective
) -> float:
    """Mean loss over index pairs, no gradients."""

    steps = batches.pair_steps(config.arch, objective)
    kernels = tiled.make_kernels(parameters, config.arch) if steps else None

    def part(images: Array, share: float) -> float:
        if steps and kernels:
            with steps.one() as step:
                return share * step.loss(images, kernels)
        return share * pair_loss(images, parameters, config.arch, objective)[0]

    total = 0.0
    for start in range(0, len(pairs), config.batch):
        batch = pairs[start : start + config.batch]
        total += len(batch) * sum(batches.map(part, batch))
    return total / len(pairs)


def split(data: Crops, config: Config) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which crops are held out for validation, (n,) bool, and the names of their sequences."""
    every = config.held_out_every
    held = range(every - 1, len(data.sequences), every) if every else range(0)
    return np.isin(data.sequence, held), tuple(data.sequences[i] for i in held)


def draw(data: Crops, chosen: np.ndarray, config: Config, seed: int, epoch: int, count: int | None) -> np.ndarray:
    """`epoch_pairs` among the chosen crops (n,) bool, as indices into all crops."""
    index = np.flatnonzero(chosen)
    pairs = epoch_pairs(
        data.sequence[index], data.frame[index], seed=seed, epoch=epoch, max_gap=config.max_gap, count=count
    )
    return index[pairs]


def train(
    crops_path: str | Path,
    config: Config,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    tf32: bool = False,
) -> Path:
    """Train a network; returns the path of the weights, RUN_DIR/weights.h5.

    crops_path: made by `prepare`.  out: RUN_DIR, made when missing; it gets log.jsonl (a line an epoch),
    checkpoint.npz (after every epoch) and at the end weights.h5.  resume: go on after the last checkpoint;
    on a CPU the result is that of an uninterrupted run, bit for bit.  tf32: on a GPU, convolutions in TF32, faster and
    less exact.  Raises ValueError when settings, crops
    and folder do not fit together, DeviceError for a GPU that is not there, TrainingError when the loss is no
    longer finite.
    """
    place = select_device(device)
    with current(place):
        return _train(crops_path, config, out, place, resume, tf32)


def _train(crops_path: str | Path, config: Config, out: str | Path, place: Device, resume: bool, tf32: bool) -> Path:
    from dcfnet_np.train.device_step import device_step  # which imports this module

    data = read_crops(crops_path)
    if data.padding != config.padding:
        raise ValueError(f"train: padding must be that of {crops_path}, {data.padding:g}, got {config.padding:g}")
    held, held_names = split(data, config)
    out = Path(out)
    checkpoint_path, log_path = out / "checkpoint.npz", out / "log.jsonl"
    if checkpoint_path.exists() and not resume:
        raise ValueError(f"train: {out} already holds a run; resume it, or choose another folder")

    start, parameters, velocity = 0, network.initialise(config.arch, config.seed), {}
    parameters = {name: value * np.float32(config.initial_scale) for name, value in parameters.items()}
    if resume:
        state = load_checkpoint(checkpoint_path)
        check_resume(state, config, data.digest)
        start, parameters, velocity = state.epoch, state.parameters, state.velocity
    by_kernels = device_step(config, data.crops, parameters, velocity, place, tf32)
    if by_kernels is not None:
        place = Device("cpu")  # what is left to do here
    parameters = {name: to_device(value, place) for name, value in parameters.items()}
    velocity = {name: to_device(value, place) for name, value in velocity.items()} or zero_velocity(parameters)

    augmentation = Augmentation(config.flip, config.light, config.seed)
    batches = Batches(to_device(data.crops, place), config.mean, augmentation=augmentation)
    map_size = network.feature_size(data.size, config.arch, "valid")
    sigma = config.sigma_factor * data.size / (1 + config.padding)
    objective = make_objective(
        (map_size, map_size), sigma, config.lam, band=config.band, window=config.cosine_window, device=place
    )
    validation = draw(data, held, config, VALIDATION_SEED, 0, config.validation_pairs) if held.any() else None

    out.mkdir(parents=True, exist_ok=True)
    records = keep_log(log_path, start)
    for epoch in range(start, config.epochs):
        began = time.perf_counter()
        lr = learning_rate(config.lr_start, config.lr_end, config.epochs, epoch)
        pairs = draw(data, ~held, config, config.seed, epoch, config.pairs_per_epoch or None)
        if by_kernels is None:
            loss = run_epoch(batches, pairs, parameters, velocity, config, objective, lr, epoch)
        else:
            loss = by_kernels.epoch(pairs, lr, epoch)
            parameters, velocity = by_kernels.parameters(), by_kernels.velocity()
        seconds = time.perf_counter() - began
        validation_loss = None
        if validation is not None and by_kernels is not None:
            validation_loss = by_kernels.mean_loss(validation)
        elif validation is not None:
            validation_loss = mean_loss(batches, validation, parameters, config, objective)
        record = {
            "epoch": epoch + 1,
            "lr": lr,
            "loss": loss,
            "validation_loss": validation_loss,
            "pairs_per_second": len(pairs) / seconds,
            "seconds": seconds,
        }
        records.append(record)
        with write_errors(log_path), open(log_path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        save_checkpoint(checkpoint_path, Checkpoint(epoch + 1, parameters, velocity, config.as_dict(), data.digest))
        log.info("%s", json.dumps(record))

    training = {
        "config": config.as_dict(),
        "data_digest": data.digest,
        "sequences": [name for name in data.sequences if name not in held_names],
        "validation_sequences": list(held_names),
        "loss": [record["loss"] for record in records],
        "validation_loss": [record["validation_loss"] for record in records],
    }
    trained = {name: to_numpy(value) for name, value in parameters.items()}
    result = weights.Weights(config.arch, trained, "bgr", config.mean, training, config.arch)
    weights.save(out / "weights.h5", result)
    return out / "weights.h5"


def run_epoch(
    batches: Batches,
    pairs: np.ndarray,
    parameters: network.Parameters,
    velocity: network.Parameters,
    config: Config,
    objective: Objective,
    lr: float,
    epoch: int,
) -> float:
    """One SGD step for every batch of the pairs (n, 2); writes parameters and velocity.  Returns the mean loss."""
    total = 0.0
    for first in range(0, len(pairs), config.batch):
        batch = pairs[first : first + config.batch]
        loss, gradients = batch_gradients(batches, batch, parameters, config.arch, objective, epoch)
        if not math.isfinite(loss):
            raise TrainingError(f"train: the loss is {loss} at learning rate {lr:.2g}; lower lr_start")
        sgd_step(
            parameters,
            gradients,
            velocity,
            lr=lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        total += loss * len(batch)
    return total / len(pairs)


def check_resume(state: Checkpoint, config: Config, digest: str) -> None:
    """Raise CheckpointError unless a checkpoint belongs to these settings and crops."""
    if state.digest != digest:
        raise CheckpointError("train: the checkpoint was made with other crops; give the same file or start anew")
    settings = config.as_dict()
    other = [f"{name} {state.config.get(name)!r}" for name in settings if settings[name] != state.config.get(name)]
    if other:
        raise CheckpointError(f"train: the checkpoint was made with {', '.join(other)}; give the same or start anew")
    network.check_parameters(config.arch, state.parameters)


def keep_log(path: Path, epochs: int) -> list[dict[str, Any]]:
    """The log's first `epochs` records.  The file is cut to them: a killed run may have written half a line."""
    lines = path.read_text(encoding="utf-8").splitlines()[:epochs] if path.exists() else []
    with replacing(path) as part:
        part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return [json.loads(line) for line in lines]


def main(arguments: list[str] | None = None) -> int:
    """`python -m dcfnet_np.train.loop crops.h5 --out RUN_DIR [--arch light] [--lr-start 1e-2] …`"""
    parser = argparse.ArgumentParser(prog="dcfnet_np.train.loop", description=main.__doc__)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--out", required=True, type=Path, metavar="RUN_DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--tf32", action="store_true", help="on a GPU: convolutions in TF32, faster and less exact")
    fields = [field for field in dataclasses.fields(Config) if field.name not in ("mean", "band")]
    for field in fields:
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        parser.add_argument("--" + field.name.replace("_", "-"), default=field.default, **kind)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = Config(**{field.name: getattr(options, field.name) for field in fields})
        train(options.crops, config, options.out, device=options.device, resume=options.resume, tf32=options.tf32)
    except (ValueError, RuntimeError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        bad_input = isinstance(error, (ValueError, DeviceError, OSError)) and not isinstance(error, WriteError)
        return 2 if bad_input else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
