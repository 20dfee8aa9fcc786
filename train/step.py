"""One step of training: pairs -> images -> network -> correlation filter -> loss, and all the way
back.

Template and search go through the network as one batch, so the shared weights' gradients add by
themselves. The network runs without padding, as in the released codes: a 125 crop gives a 121 map,
and no border of zeros teaches the filter where the middle is.  The label stays that of the crop,
sigma = sigma_factor * size / (1 + padding) pixels.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network
from dcfnet_np.backend import Array, Device, array_module, to_device, to_numpy
from dcfnet_np.fast.strip import make_kernels, supports
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward
from dcfnet_np.ops.fourier import Band, label_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.support.threads import Cores
from dcfnet_np.train.augment import Augmentation, augment, cut, label_shifts, shift_label
from dcfnet_np.train.config import Config
from dcfnet_np.train.pair_step import PairStep, PairSteps
from dcfnet_np.train.sgd import zero_velocity
from dcfnet_np.vision.windows import gaussian_label, hann

EXPECTED = 0.1  # share of the pairs that may explode, see `judge`
MANY = 10.0  # pairs beyond that share, which end a run


class Diverged(Exception):
    """A step that must not be made: the losses of its pairs, what each may be, and the index pairs
    of its batch.
    """

    def __init__(self, losses: np.ndarray, limit: float, batch: np.ndarray) -> None:
        self.losses, self.limit, self.batch = losses, limit, batch


class Outcome(NamedTuple):
    """What a step came to."""

    losses: np.ndarray  # (N,) float64, of its pairs
    left_out: np.ndarray  # (N,) bool, pairs that exploded, of which the step has learnt nothing
    surplus: float  # see `judge`


def judge(losses: np.ndarray, limit: float, surplus: float, batch: np.ndarray) -> Outcome:
    """Which pairs of a step are left out of it, and whether the run can go on.

    losses: (N,), of the pairs batch, (N, 2) indices.  A pair explodes when its loss is over
    `limit`: nearly always its template shows next to nothing.  A few such pairs are no harm.
    `surplus`, 0 at first, grows by one with each of them and falls by EXPECTED, not below 0, with
    every pair of the run.  Raises Diverged when it is over MANY, and when a loss is no finite
    number, which only the parameters can do."""
    left_out = losses > limit
    surplus = max(0.0, surplus + float(left_out.sum()) - EXPECTED * len(losses))
    if not np.isfinite(losses).all() or surplus > MANY:
        raise Diverged(losses, limit, batch)
    return Outcome(losses, left_out, surplus)


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
    """The Gaussian label of standard deviation sigma (pixels) on maps of `shape`, its spectrum, and
    a Hann window.
    """
    label = to_device(gaussian_label(shape, sigma, dtype), device)
    kept = label_band(label, dtype) if band else None
    return Objective(
        label,
        rfft2(label, kept),
        kept,
        lam,
        to_device(hann(shape, dtype), device) if window else None,
    )


def pair_loss(
    images: Array,
    parameters: network.Parameters,
    architecture: Any,
    objective: Objective,
    label: Array | None = None,
) -> tuple[float, Any]:
    """Forward pass of a batch of pairs.  images: (2N, 3, H, W), the N templates first, then their N
    searches.

    label: (N, H, W), what the responses shall be where the targets are off the middle; default: the
    objective's.
    Returns the loss (Eq. 4 without weight decay, mean over the N pairs) and the caches for
    `pair_gradients`."""
    n = len(images) // 2
    features, network_caches = network.forward(images, parameters, architecture, padding="valid")
    if objective.window is not None:
        features = features * objective.window  # a new array: the network's caches hold the old one
    response, dcf_cache = dcf_forward(
        features[:n], features[n:], objective.label_f, objective.lam, objective.band
    )
    loss, loss_cache = response_loss_forward(response, objective.label if label is None else label)
    return loss, (network_caches, dcf_cache, loss_cache, objective.window)


def each_loss(caches: Any) -> Array:
    """The loss of each pair, (N,), of which `pair_loss` gave the mean."""
    residual = caches[2].residual
    return (residual * residual).sum((1, 2))


def pair_gradients(caches: Any, share: float = 1.0, limit: float = math.inf) -> network.Parameters:
    """Backward pass of `pair_loss`: gradient of share * loss by every parameter; pairs over `limit`
    add nothing.
    """
    network_caches, dcf_cache, loss_cache, window = caches
    dresponse = response_loss_backward(loss_cache, share)
    dresponse *= (each_loss(caches) <= limit)[:, None, None]
    dtemplate, dsearch = dcf_backward(dresponse, dcf_cache)
    xp = array_module(dtemplate)
    dfeatures = xp.concatenate([dtemplate, dsearch])
    if window is not None:
        dfeatures *= window
    _, dparameters = network.backward(dfeatures, network_caches, input_gradient=False)
    return dparameters


class Batches:
    """Crops, the pairs of a step as normalised images on a device, and the threads that work on
    them.

    On a CPU a step is done pair by pair, spread over the cores (see `support.threads.Cores`); gradients are
    added in order, so the result does not depend on the number of cores.  On a GPU there is one
    part.

    crops: (n, 3, S, S) uint8, in memory or mapped from a file; size: of the network's input, S less
    the margin on both sides; default: S.
    """

    def __init__(
        self,
        crops: np.ndarray,
        mean: tuple[float, ...],
        dtype: Any = np.float32,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  a NamedTuple does not change
        *,
        size: int | None = None,
        device: Device = Device("cpu"),  # noqa: B008  frozen
    ) -> None:
        self.crops = crops
        self.size = crops.shape[-1] if size is None else size
        self.device = device
        self.mean = to_device(np.asarray(mean, dtype).reshape(1, 3, 1, 1), device)
        self.augmentation = augmentation
        self.on_cpu = device.kind == "cpu"
        self.cores = Cores()
        # with the window and without: two in a run
        self._pair_steps: list[tuple[Any, Objective, PairSteps]] = []

    def read(self, pairs: np.ndarray) -> np.ndarray:
        """The stored crops of (N, 2) index pairs: (2, N, 3, S, S) uint8, templates and searches."""
        return np.asarray(self.crops[pairs.T])

    def images(
        self, pairs: np.ndarray, epoch: int | None = None, raw: np.ndarray | None = None
    ) -> Array:
        """(N, 2) index pairs -> (2N, 3, size, size), templates first, the mean taken off; augmented
        in an epoch.

        raw: what `read` gave for these pairs, if that was done already.
        """
        seen = cut(
            self.read(pairs) if raw is None else raw, pairs, self.size, epoch, self.augmentation
        )
        images = to_device(seen.reshape(-1, *seen.shape[2:]), self.device).astype(self.mean.dtype)
        if epoch is not None:
            images = augment(images, pairs, epoch, self.augmentation)
        images -= self.mean
        return images

    def labels(self, pairs: np.ndarray, epoch: int | None, objective: Objective) -> Array | None:
        """What the responses shall be, (N, H, W), where search windows are moved; None where they
        are not.
        """
        shifts = None if epoch is None else label_shifts(pairs, epoch, self.augmentation)
        return None if shifts is None else shift_label(objective.label, shifts)

    def pair_steps(self, architecture: Any, objective: Objective) -> PairSteps | None:
        """The fast way to do a pair, None where there is none: on a GPU, without a band, for
        dilated networks.
        """
        if not self.on_cpu or objective.band is None or not supports(architecture):
            return None
        for known, same, steps in self._pair_steps:
            if known == architecture and same is objective:
                return steps
        size = self.size, self.size
        windows = [
            np.ones(n) if objective.window is None else np.hanning(n) for n in objective.label.shape
        ]
        settings = (
            objective.label,
            objective.label_f,
            objective.band,
            objective.lam,
            (windows[0], windows[1]),
        )
        steps = PairSteps(lambda: PairStep(architecture, size, *settings))
        self._pair_steps.append((architecture, objective, steps))
        return steps

    def map(
        self,
        function: Callable[[np.ndarray, Array], Any],
        pairs: np.ndarray,
        epoch: int | None = None,
        raw: np.ndarray | None = None,
    ) -> list[Any]:
        """function(pairs, images) of every part of the batch, results in order."""
        at_once = 1 if self.on_cpu else max(len(pairs), 1)

        def work(start: int) -> Any:
            part = slice(start, start + at_once)
            return function(
                pairs[part], self.images(pairs[part], epoch, None if raw is None else raw[:, part])
            )

        starts = range(0, len(pairs), at_once)
        return self.cores.map(work, starts) if self.on_cpu else [work(start) for start in starts]


def batch_gradients(
    batches: Batches,
    pairs: np.ndarray,
    parameters: network.Parameters,
    architecture: Any,
    objective: Objective,
    epoch: int | None = None,
    raw: np.ndarray | None = None,
    total: int | None = None,
    limit: float = math.inf,
) -> tuple[np.ndarray, network.Parameters]:
    """The loss of each pair, (N,) float64, and the gradient of their mean by every parameter;
    pairs: (N, 2) indices.

    With the number of an epoch the images are augmented.  raw: the crops, see `Batches.images`.
    total: divide by so many pairs in place of N, when the others of the batch are with other
    processes.  limit: a pair whose loss is larger adds nothing to the gradient.
    """
    steps = batches.pair_steps(architecture, objective)
    kernels = make_kernels(parameters, architecture) if steps else None
    total = total or len(pairs)

    def work(part: np.ndarray, images: Array) -> tuple[np.ndarray, network.Parameters]:
        share, label = len(part) / total, batches.labels(part, epoch, objective)
        if steps and kernels:
            with steps.one() as step:
                loss, gradients = step.gradients(images, kernels, share, label, limit)
            return np.array([loss]), gradients
        _, caches = pair_loss(images, parameters, architecture, objective, label)
        return to_numpy(each_loss(caches)), pair_gradients(caches, share, limit)

    losses, gradients = [np.empty(0)], zero_velocity(parameters)
    for part_losses, dparameters in batches.map(work, pairs, epoch, raw):
        losses.append(part_losses)
        for name, gradient in dparameters.items():
            gradients[name] += gradient
    return np.concatenate(losses), gradients


def mean_loss(
    batches: Batches,
    pairs: np.ndarray,
    parameters: network.Parameters,
    config: Config,
    objective: Objective,
) -> float:
    """Mean loss over index pairs, no gradients."""
    steps = batches.pair_steps(config.arch, objective)
    kernels = make_kernels(parameters, config.arch) if steps else None

    def work(part: np.ndarray, images: Array) -> float:
        if steps and kernels:
            with steps.one() as step:
                return len(part) * step.loss(images, kernels)
        return len(part) * pair_loss(images, parameters, config.arch, objective)[0]

    starts = range(0, len(pairs), config.batch)
    return sum(
        sum(batches.map(work, pairs[start : start + config.batch])) for start in starts
    ) / len(pairs)
