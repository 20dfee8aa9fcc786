"""One step of training, plainly: pairs -> images -> network -> filter -> loss, and back again.

Template and search go through the network as one batch, so the shared weights' gradients add by
themselves.  The network runs without padding, as in the released codes: a 125 crop gives a 121 map,
and no border of zeros teaches the filter where the middle is.  The label stays that of the crop,
sigma = sigma_factor * size / (1 + padding) pixels.

`fast_step` and `device_step` compute the same numbers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network
from dcfnet_np.backend import Array, Device, array_module, to_device
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward
from dcfnet_np.ops.fourier import Band, label_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.support.threads import Cores
from dcfnet_np.train.augment import (
    Augmentation,
    augment_images,
    cut_images,
    label_shifts,
    shift_label,
)
from dcfnet_np.train.config import Config
from dcfnet_np.train.exploding import Diverged, Outcome, judge_losses
from dcfnet_np.train.optimisers import Learnt, first_learnt, optimiser_step, zero_velocity
from dcfnet_np.train.parallel import Processes
from dcfnet_np.vision.windows import gaussian_label, hann

AHEAD = 4  # batches that lie ready at most; 3 MB each for 32 pairs of 125 x 125


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
    device: Device = Device("cpu"),  # noqa: B008  frozen
) -> Objective:
    """The objective on maps of `shape`: the Gaussian label of standard deviation sigma (pixels).

    band: keep only the frequencies that the label needs.  window: with a Hann window.
    """
    label = to_device(gaussian_label(shape, sigma, dtype), device)
    kept = label_band(label, dtype) if band else None
    hann_window = to_device(hann(shape, dtype), device) if window else None
    return Objective(label, rfft2(label, kept), kept, lam, hann_window)


def objective_of(
    config: Config, size: int, *, window: bool = False, dtype: Any = np.float32
) -> Objective:
    """The objective of a run on crops of `size` pixels, NumPy arrays."""
    side = network.feature_size(size, config.arch, "valid")
    sigma, lam = config.label_sigma(size), config.regulariser(size)
    return make_objective((side, side), sigma, lam, window=window, dtype=dtype)


def pair_loss(
    images: Array,
    parameters: network.Parameters,
    architecture: Any,
    objective: Objective,
    label: Array | None = None,
) -> tuple[float, Any]:
    """Forward pass of a batch of pairs.

    images: (2N, 3, H, W), the N templates first, then their N searches.  label: (N, H, W), what the
    responses shall be where the targets are off the middle; default: the objective's.  Returns the
    loss (Eq. 4 without weight decay, mean over the N pairs) and the caches for `pair_gradients`.
    """
    n = len(images) // 2
    features, network_caches = network.forward(images, parameters, architecture, padding="valid")
    if objective.window is not None:
        features = features * objective.window  # a new array: the network's caches hold the old one
    response, dcf_cache = dcf_forward(
        features[:n], features[n:], objective.label_f, objective.lam, objective.band
    )
    loss, loss_cache = response_loss_forward(response, objective.label if label is None else label)
    return loss, (network_caches, dcf_cache, loss_cache, objective.window)


def pair_gradients(caches: Any, share: float = 1.0) -> network.Parameters:
    """Backward pass of `pair_loss`: the gradient of share * loss by every parameter."""
    network_caches, dcf_cache, loss_cache, window = caches
    dtemplate, dsearch = dcf_backward(response_loss_backward(loss_cache, share), dcf_cache)
    dfeatures = array_module(dtemplate).concatenate([dtemplate, dsearch])
    if window is not None:
        dfeatures *= window
    _, dparameters = network.backward(dfeatures, network_caches, input_gradient=False)
    return dparameters


class PairImages:
    """Crops, and the pairs of a step as normalised images.

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
    ) -> None:
        self.crops, self.augmentation = crops, augmentation
        self.size = crops.shape[-1] if size is None else size
        self.mean = np.asarray(mean, dtype).reshape(1, 3, 1, 1)

    def read(self, pairs: np.ndarray) -> np.ndarray:
        """The stored crops of (N, 2) index pairs: (2, N, 3, S, S) uint8, templates and searches."""
        return np.asarray(self.crops[pairs.T])

    def images(
        self, pairs: np.ndarray, epoch: int | None = None, raw: np.ndarray | None = None
    ) -> np.ndarray:
        """(N, 2) index pairs -> (2N, 3, size, size), templates first, the mean taken off.

        epoch: augmented as in this epoch.  raw: what `read` gave for these pairs.
        """
        raw = self.read(pairs) if raw is None else raw
        seen = cut_images(raw, pairs, self.size, epoch, self.augmentation)
        images = seen.reshape(-1, *seen.shape[2:]).astype(self.mean.dtype)
        if epoch is not None:
            images = augment_images(images, pairs, epoch, self.augmentation)
        images -= self.mean
        return images

    def labels(self, pairs: np.ndarray, epoch: int | None, label: np.ndarray) -> np.ndarray | None:
        """What the responses shall be, (N, H, W), where search windows are moved; else None."""
        shifts = None if epoch is None else label_shifts(pairs, epoch, self.augmentation)
        return None if shifts is None else shift_label(label, shifts)


class PlainSteps:
    """Steps of training by the functions above: the definition of every number.

        steps = PlainSteps(config, crops)
        for outcome in steps.epoch(batches, lr, epoch): ...
        trained = steps.learnt.parameters

    crops, size: as for `PairImages`.  learnt: what to start with; default: `first_learnt`.
    processes: those that share each batch.  A step is done pair by pair, spread over the cores (see
    `support.threads.Cores`); gradients are added in order, so the result does not depend on the
    number of cores.
    """

    settled = True  # whether `learnt` is that after the step whose outcome `epoch` yielded last
    # Seconds that the steps of the last `epoch` waited for crops; None where unknown.
    waited: float | None = 0.0

    def __init__(
        self,
        config: Config,
        crops: np.ndarray,
        learnt: Learnt | None = None,
        *,
        size: int | None = None,
        dtype: Any = np.float32,
        processes: Processes = Processes(),  # noqa: B008  has no state
    ) -> None:
        self.learnt = learnt or first_learnt(config, dtype, size or crops.shape[-1])
        self.config, self._processes, self._cores = config, processes, Cores()
        self.pairs = pairs = PairImages(crops, config.mean, dtype, config.augmentation, size=size)
        self.objectives = [  # of steps without and with the Hann window
            objective_of(config, pairs.size, window=window, dtype=dtype) for window in (False, True)
        ]
        # Of a pair.  A response of zeros costs the label's own energy.
        self.limit = config.divergence * float((self.objectives[0].label ** 2).sum())

    def epoch(
        self, batches: Sequence[np.ndarray], lr: float, epoch: int, surplus: float = 0.0
    ) -> Iterator[Outcome]:
        """A step for each batch of pairs (n, 2), augmented as in this epoch; writes `learnt`.

        surplus: before the first of these steps, see `judge_losses`.  Raises Diverged, before
        anything is written.
        """
        ranks, waited = self._processes, 0.0
        mine = (batch[ranks.rank :: ranks.size] for batch in batches)
        reader = read_ahead(self.pairs.read, mine)
        for batch in batches:
            began = time.perf_counter()
            pairs, raw = next(reader)
            self.waited = waited = waited + time.perf_counter() - began
            losses = np.zeros(len(batch))
            losses[ranks.rank :: ranks.size], gradients = self.gradients(
                pairs, epoch, raw, total=len(batch)
            )
            losses, gradients = ranks.add(losses, gradients)
            outcome = judge_losses(losses, self.limit, surplus, batch)
            surplus = outcome.surplus
            if not all(np.isfinite(gradient).all() for gradient in gradients.values()):
                raise Diverged(losses, self.limit, batch)
            self.learnt = optimiser_step(self.config, self.learnt, gradients, lr)
            yield outcome

    def mean_loss(self, pairs: np.ndarray) -> float:
        """The mean loss of pairs (n, 2) as they are, by the average if there is one.

        Nothing is learnt; with the Hann window where every step has it.
        """
        objective = self.objectives[self.config.cosine_window == 1]
        form = self._form(self.learnt.average or self.learnt.parameters)

        def work(pair: np.ndarray) -> float:
            return self._loss(self.pairs.images(pair), form, objective)

        size, total = self.config.batch, 0.0
        for start in range(0, len(pairs), size):
            total += sum(self._cores.map(work, pairs[start : start + size, None]))
        return total / len(pairs)

    def gradients(
        self,
        pairs: np.ndarray,
        epoch: int | None = None,
        raw: np.ndarray | None = None,
        *,
        total: int | None = None,
    ) -> tuple[np.ndarray, network.Parameters]:
        """What the next step has: each pair's loss, (N,) float64, and the gradients of their mean.

        pairs, epoch, raw: as for `PairImages.images`.  total: divide by so many pairs in place of
        N, when the others of the batch are with other processes.  A pair whose loss is over
        `limit` adds nothing to the gradient.
        """
        form, share = self._form(self.learnt.parameters), 1 / (total or len(pairs))
        objective = self.objectives[self.config.windowed(self.learnt.steps + 1)]

        def work(i: int) -> tuple[float, network.Parameters]:
            pair, crops = pairs[i : i + 1], None if raw is None else raw[:, i : i + 1]
            images = self.pairs.images(pair, epoch, crops)
            label = self.pairs.labels(pair, epoch, objective.label)
            return self._gradients(images, form, objective, label, share)

        losses, gradients = np.zeros(len(pairs)), zero_velocity(self.learnt.parameters)
        for i, (loss, of_pair) in enumerate(self._cores.map(work, range(len(pairs)))):
            losses[i] = loss
            for name, gradient in of_pair.items():
                gradients[name] += gradient
        return losses, gradients

    def _form(self, parameters: network.Parameters) -> Any:
        """Parameters as the next two take them; made once for many pairs."""
        return parameters

    def _loss(self, images: np.ndarray, form: Any, objective: Objective) -> float:
        return pair_loss(images, form, self.config.arch, objective)[0]

    def _gradients(
        self,
        images: np.ndarray,
        form: Any,
        objective: Objective,
        label: np.ndarray | None,
        share: float,
    ) -> tuple[float, network.Parameters]:
        """The loss of a pair, and the gradients of share * loss; {} where it explodes."""
        loss, caches = pair_loss(images, form, self.config.arch, objective, label)
        return loss, {} if loss > self.limit else pair_gradients(caches, share)


def read_ahead(
    read: Callable[[np.ndarray], np.ndarray], batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(batch, read(batch)) of every batch, in order; a thread reads up to AHEAD batches in advance.

    What `read` raises is raised here, when its batch's turn comes.
    """
    pool = ThreadPoolExecutor(1, "dcfnet-reader")
    ready: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
    try:
        for batch in batches:
            ready.append((batch, pool.submit(read, batch)))
            if len(ready) > AHEAD:
                first, crops = ready.popleft()
                yield first, crops.result()
        for last, crops in ready:
            yield last, crops.result()
    finally:
        pool.shutdown(cancel_futures=True)
