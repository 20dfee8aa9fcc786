"""The features of `tracking.features`, the same numbers to rounding, fast on a CPU."""

import itertools

import numpy as np

from .. import network
from ..ops.fourier import Band
from ..presets import Preset
from ..support.threads import Cores
from ..tracking.features import Extracted, extremes_of
from ..vision.crop import Cropper, window_taps
from ..weights import Weights
from .strip import BandDft, Strip, make_kernels

STRIPS = 2  # of a patch; a fixed number, so that results do not depend on the machine's cores


class FastFeatures:
    """For the networks that `strip.supports` takes, with a band.

    Each patch is cut into STRIPS strips of rows, from the crop to the transform: a core works on
    one strip of all patches.  All memory is made here and used for every frame: a result is
    overwritten by the next call.
    """

    def __init__(self, weights: Weights, preset: Preset, band: Band, most: int) -> None:
        """most: the largest number of windows in one call."""
        size = preset.input_size
        shape = size, size
        vector = np.hanning(size) ** preset.window_power  # 1 everywhere to the power of 0
        dft = BandDft(band, shape, (vector, vector))
        channels = network.output_channels(weights.architecture)
        self._reverse = weights.channel_order == "rgb"  # frames are BGR
        self.kernels = make_kernels(weights.parameters, weights.architecture)
        self.mean = np.array(weights.mean, np.float32)[:, None]
        # A cosine window is zero in the first and the last row: no strip computes these.
        inside = np.flatnonzero(vector)
        edges = np.linspace(inside[0], inside[-1] + 1, STRIPS + 1).astype(int).tolist()
        rows = itertools.pairwise(edges)
        self.strips = [Strip(weights.architecture, dft, shape, strip) for strip in rows]
        self.croppers = [Cropper(size, preset.rounded_crop, strip.reads) for strip in self.strips]
        self.spectra = np.empty((STRIPS, most, channels, *band.spectrum_shape), np.complex64)
        self._extremes = np.empty((STRIPS, most, 3, 2), np.float32)
        self._size = size
        self._cores = Cores()

    def __call__(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> Extracted:
        """As `tracking.features.Features`."""
        n = len(windows)
        down, across = window_taps(frame.shape, centres, windows, self._size)

        def strip_spectra(i: int) -> None:
            strip = self.strips[i]
            for number in range(n):
                pixels = self.croppers[i](frame, down, across, number)
                rows = np.maximum(down.inside[number] - strip.reads.start, 0)
                colours = pixels.transpose(1, 0, 2)
                self._extremes[i, number] = extremes_of(colours, rows, across.inside[number])
                pixels = pixels[:, ::-1] if self._reverse else pixels
                strip.forward(pixels, self.mean, self.kernels, self.spectra[i, number])

        self._cores.map(strip_spectra, range(STRIPS))
        smallest, largest = self._extremes[:, :n, :, 0].min(0), self._extremes[:, :n, :, 1].max(0)
        return Extracted(self.join(n), np.stack([smallest, largest], axis=-1))

    def join(self, n: int) -> np.ndarray:
        """Spectra of n patches: those of their strips, added."""
        first, *others = self.spectra[:, :n]
        for spectra in others:
            first += spectra
        return first
