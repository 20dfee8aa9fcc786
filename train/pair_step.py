"""Loss and gradients of one pair of crops on one CPU core, fast: `train.step.pair_loss` and
`pair_gradients` in one.

The network and the transforms are those of `Strip`, the filter and its gradients the
equations of `ops.dcf`."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from dcfnet_np import network
from dcfnet_np.fast.strip import BandDft, Kernels, Strip
from dcfnet_np.ops import dcf
from dcfnet_np.ops.fourier import Band, irfft2, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward


class PairStep:
    """All memory that a pair needs; one object works for one thread.

    size: (H, W) of the crops.  label, label_f, band, lam: of the response, whose shape (h, w)
    leaves a margin of (H - h) / 2 around it, as a network without padding does.  windows: vectors
    (h,), (w,), see `BandDft`."""

    def __init__(
        self,
        architecture: Any,
        size: tuple[int, int],
        label: np.ndarray,
        label_f: np.ndarray,
        band: Band,
        lam: float,
        windows: tuple[np.ndarray, np.ndarray],
    ) -> None:
        dtype = label.dtype
        self._label, self._label_f, self._band, self._lam = label, label_f, band, lam
        dft = BandDft(band, size, windows)
        self._strips = [
            Strip(architecture, dft, size, dtype=dtype, backward=True) for _ in range(2)
        ]
        channels = network.output_channels(architecture)
        self._spectra = np.empty((2, 1, channels, *band.spectrum_shape), label_f.dtype)
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
            dresponse_f, template_f, search_f, self._label_f, response_f, energy
        )
        by_template = np.conj(by_template, out=by_template)
        # Eq. 11
        by_template += dcf.template_conj_gradient_f(dresponse_f, template_f, response_f, energy)

        totals: list[tuple[np.ndarray, np.ndarray]] = []
        for strip, gradient_f in zip(self._strips, (by_template, by_search)):
            gradients = strip.backward(gradient_f[0], kernels)
            totals = (
                [(dw + tw, db + tb) for (dw, db), (tw, tb) in zip(gradients, totals)]
                if totals
                else gradients
            )
        named = {}
        for name, (dw, db) in zip(self._names, totals):
            named[f"{name}.weight"], named[f"{name}.bias"] = dw, db
        return loss, named

    def _forward(
        self, images: np.ndarray, kernels: Kernels, label: np.ndarray | None = None
    ) -> tuple[float, Any, Any, Any, Any]:
        for strip, image, spectrum in zip(self._strips, images, self._spectra):
            strip.forward(image.transpose(1, 0, 2), self._no_mean, kernels, spectrum[0])
        template_f, search_f = self._spectra
        energy = dcf.template_energy(template_f, self._lam)
        filter_f = dcf.learn_filter(template_f, self._label_f, self._lam, energy)  # Eq. 2
        response_f = dcf.correlate(filter_f, search_f)
        response = irfft2(response_f, self._band.shape, self._band)  # Eq. 3
        loss, loss_cache = response_loss_forward(response, self._label if label is None else label)
        return loss, loss_cache, energy, filter_f, response_f


class PairSteps:
    """A `PairStep` for every thread that works at the same time, made when needed and used again."""

    def __init__(self, make: Callable[[], PairStep]) -> None:
        self._make = make
        self._free: SimpleQueue[PairStep] = SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[PairStep]:
        """A step that no other thread has."""
        try:
            step = self._free.get_nowait()
        except Empty:
            step = self._make()
        try:
            yield step
        finally:
            self._free.put(step)
