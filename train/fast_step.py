"""The steps of `plain_step`, faster on a CPU: the loss and the gradients of a pair on one core.

The network and the transforms are those of `Strip`, the filter and its gradients the
equations of `ops.dcf`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from dcfnet_np import network
from dcfnet_np.fast.strip import BandDft, Kernels, Strip, make_kernels, supports
from dcfnet_np.ops import dcf
from dcfnet_np.ops.fourier import irfft2, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.train.config import Config
from dcfnet_np.train.plain_step import Objective, PlainSteps, objective_of


class FastPair:
    """All memory that a pair needs; one object works for one thread.

    size: (H, W) of the crops.  The objective's band must not be None; its label (h, w) leaves a
    margin of (H - h) / 2 around it, as a network without padding does.
    """

    def __init__(self, architecture: Any, size: tuple[int, int], objective: Objective) -> None:
        band, dtype = objective.band, objective.label.dtype
        assert band is not None
        self._objective, self._band = objective, band
        windowed = objective.window is not None
        height, width = (np.hanning(n) if windowed else np.ones(n) for n in band.shape)
        dft = BandDft(band, size, (height, width))
        self._strips = [
            Strip(architecture, dft, size, dtype=dtype, backward=True) for _ in range(2)
        ]
        channels = network.output_channels(architecture)
        self._spectra = np.empty((2, 1, channels, *band.spectrum_shape), objective.label_f.dtype)
        self._names = [
            name for name, spec in network.layers(architecture) if isinstance(spec, network.Conv)
        ]
        self._no_mean = np.zeros((1, 1), dtype)

    def loss(self, images: np.ndarray, kernels: Kernels) -> float:
        """Eqs. 2-4 for images (2, C, H, W): the template and its search, the mean taken off."""
        return self._forward(images, kernels)[0]

    def gradients(
        self,
        images: np.ndarray,
        kernels: Kernels,
        share: float,
        label: np.ndarray | None = None,
        limit: float = math.inf,
    ) -> tuple[float, network.Parameters]:
        """The loss, and the gradient of share * loss by every parameter (Eqs. 6-11).

        label: (1, h, w), what the response shall be where the target is off the search image's
        middle.  limit: a loss over it has no gradient, {}.
        """
        loss, loss_cache, energy, filter_f, response_f = self._forward(images, kernels, label)
        if loss > limit:
            return loss, {}
        template_f, search_f = self._spectra
        dresponse_f = rfft2(response_loss_backward(loss_cache, share), self._band)  # Eq. 6
        by_search = dcf.search_gradient_f(dresponse_f, filter_f)
        by_template = dcf.template_gradient_f(
            dresponse_f, template_f, search_f, self._objective.label_f, response_f, energy
        )
        by_template = np.conj(by_template, out=by_template)
        # Eq. 11
        by_template += dcf.template_conj_gradient_f(dresponse_f, template_f, response_f, energy)

        of_template, of_search = (
            strip.backward(gradient_f[0], kernels)
            for strip, gradient_f in zip(self._strips, (by_template, by_search))
        )
        named = {}
        for name, (dw, db), (tw, tb) in zip(self._names, of_search, of_template):
            named[f"{name}.weight"], named[f"{name}.bias"] = dw + tw, db + tb
        return loss, named

    def _forward(
        self, images: np.ndarray, kernels: Kernels, label: np.ndarray | None = None
    ) -> tuple[float, Any, Any, Any, Any]:
        for strip, image, spectrum in zip(self._strips, images, self._spectra):
            strip.forward(image.transpose(1, 0, 2), self._no_mean, kernels, spectrum[0])
        template_f, search_f = self._spectra
        energy = dcf.template_energy(template_f, self._objective.lam)
        label_f, lam = self._objective.label_f, self._objective.lam
        filter_f = dcf.learn_filter(template_f, label_f, lam, energy)  # Eq. 2
        response_f = dcf.correlate(filter_f, search_f)
        response = irfft2(response_f, self._band.shape, self._band)  # Eq. 3
        wanted = self._objective.label if label is None else label
        loss, loss_cache = response_loss_forward(response, wanted)
        return loss, loss_cache, energy, filter_f, response_f


class FastSteps(PlainSteps):
    """`PlainSteps` on a CPU, with a `FastPair` for every thread that works at the same time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # With the window and without: two kinds in a run.
        self._free: dict[int, SimpleQueue[FastPair]] = {
            id(objective): SimpleQueue() for objective in self.objectives
        }

    @staticmethod
    def reaches(config: Config, size: int) -> bool:
        """Whether it can do these crops: not without a band, nor for dilated networks."""
        return supports(config.arch) and objective_of(config, size).band is not None

    @contextmanager
    def pair(self, objective: Objective) -> Iterator[FastPair]:
        """A `FastPair` of one of `objectives` that no other thread has."""
        free = self._free[id(objective)]
        try:
            pair = free.get_nowait()
        except Empty:
            pair = FastPair(self.config.arch, (self.pairs.size,) * 2, objective)
        try:
            yield pair
        finally:
            free.put(pair)

    def _form(self, parameters: network.Parameters) -> Kernels:
        return make_kernels(parameters, self.config.arch)

    def _loss(self, images: np.ndarray, form: Kernels, objective: Objective) -> float:
        with self.pair(objective) as pair:
            return pair.loss(images, form)

    def _gradients(
        self,
        images: np.ndarray,
        form: Kernels,
        objective: Objective,
        label: np.ndarray | None,
        share: float,
    ) -> tuple[float, network.Parameters]:
        with self.pair(objective) as pair:
            return pair.gradients(images, form, share, label, self.limit)
