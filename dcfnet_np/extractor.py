"""From a frame to the spectra of its features: crop, mean, network, window, transform.

Two ways to one result.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from . import network, tiled
from .backend import Array, Device, to_device
from .ops.fourier import Band, rfft2
from .presets import Preset
from .support.threads import Cores
from .vision.crop import Cropper, crop_patches, window_taps
from .weights import Weights

NOTHING_TO_TRACK = (
    "the window around the box holds nothing to track: the frame has one colour there"
)
# of a patch, see `FastExtractor`; a fixed number, so that results do not depend on the machine's
# cores
STRIPS = 2


class Extracted(NamedTuple):
    """Spectra of the features of P patches, and what their colours range over, see `extremes_of`."""

    spectra: Array  # (P, D, bins) complex
    extremes: np.ndarray  # (P, 3, 2)


def is_flat(extremes: np.ndarray) -> bool:
    """Whether patches hold nothing: one colour, to half a grey level, or no pixel of the frame at
    all.

    extremes: (P, 3, 2), see `extremes_of`.  Interpolation between equal pixels is exact only to
    rounding."""
    return bool((extremes[..., 1].max(0) - extremes[..., 0].min(0) < 0.5).all())


def extremes_of(patch: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Smallest and largest value of each colour: (C, 2), of the pixels inside the frame; (inf, 0)
    if there are none.

    patch: (C, height, width), 0..255; rows, columns: first and one past last that are inside.  What
    is outside is black in a patch, but no content.
    """
    inside = patch[:, slice(*rows), slice(*columns)]
    # one axis at a time: a third of the time
    smallest = inside.min(1, initial=np.inf).min(1, initial=np.inf)
    return np.stack([smallest, inside.max(1, initial=0).max(1, initial=0)], axis=1)


def extremes_of_windows(
    patches: np.ndarray, frame_shape: tuple[int, ...], centres: Any, windows: np.ndarray
) -> np.ndarray:
    """`extremes_of` for whole patches (P, C, N, N), cut by `crop_patches` as the other arguments
    say: (P, C, 2).
    """
    down, across = window_taps(frame_shape, centres, windows, patches.shape[-1])
    return np.stack([extremes_of(*each) for each in zip(patches, down.inside, across.inside)])


class Extractor:
    """Any network, any device, with or without a band: `network.features` and `rfft2` on whole
    patches.

    P windows of a frame, of one target or of many, are one batch.
    """

    def __init__(self, weights: Weights, preset: Preset, band: Band | None, device: Device) -> None:
        size = preset.input_size
        vector = np.hanning(size) if preset.cosine_window else np.ones(size)
        self._preset, self._band, self._device = preset, band, device
        self._architecture = weights.architecture
        self._reverse = weights.channel_order == "rgb"  # frames are BGR
        self.parameters = {name: to_device(p, device) for name, p in weights.parameters.items()}
        self.mean = to_device(np.array(weights.mean, np.float32).reshape(3, 1, 1), device)
        self.window = to_device(np.outer(vector, vector).astype(np.float32), device)
        self._cores = Cores()

    def __call__(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> Extracted:
        """frame: (H, W, 3) uint8 BGR; centres: (P, 2) x, y, or one (2,); windows: (P, 2) widths and
        heights; pixels.
        """
        patches = self.crop(frame, centres, windows)
        extremes = extremes_of_windows(patches, frame.shape, centres, windows)
        if self._device.kind == "cuda":
            return Extracted(self._spectra(to_device(patches, self._device)), extremes)
        # a patch a core
        return Extracted(np.concatenate(self._cores.map(self._spectra, patches[:, None])), extremes)

    def crop(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """The patches (P, 3, N, N), 0..255, in the weights' channel order."""
        patches = crop_patches(
            frame, centres, windows, self._preset.input_size, rounded=self._preset.rounded_crop
        )
        return np.ascontiguousarray(patches[:, ::-1]) if self._reverse else patches

    def features(self, patches: Array) -> Array:
        """What the network makes of patches, before the window: (P, D, N, N)."""
        return network.features(patches - self.mean, self.parameters, self._architecture)

    def _spectra(self, patches: Array) -> Array:
        features = self.features(patches)
        features *= self.window
        return rfft2(features, self._band)


class FastExtractor:
    """The same numbers to rounding, fast on a CPU, for the networks that `tiled.supports` takes,
    with a band.

    Each patch is cut into STRIPS strips of rows, from the crop to the transform: a core works on
    one strip of all patches.
    All memory is made here and used for every frame: a result is overwritten by the next call.
    """

    def __init__(self, weights: Weights, preset: Preset, band: Band, most: int) -> None:
        """most: the largest number of windows in one call."""
        size = preset.input_size
        vector = np.hanning(size) if preset.cosine_window else np.ones(size)
        dft = tiled.BandDft(band, (size, size), (vector, vector))
        channels = network.output_channels(weights.architecture)
        self._reverse = weights.channel_order == "rgb"  # frames are BGR
        self._kernels = tiled.make_kernels(weights.parameters, weights.architecture)
        self._mean = np.array(weights.mean, np.float32)[:, None]
        # A cosine window is zero in the first and the last row: no strip computes these.
        inside = np.flatnonzero(vector)
        edges = np.linspace(inside[0], inside[-1] + 1, STRIPS + 1).astype(int)
        rows = [(int(top), int(bottom)) for top, bottom in itertools.pairwise(edges)]
        self._strips = [
            tiled.Strip(weights.architecture, dft, (size, size), strip) for strip in rows
        ]
        self._croppers = [Cropper(size, preset.rounded_crop, strip.reads) for strip in self._strips]
        self._spectra = np.empty((STRIPS, most, channels, *band.spectrum_shape), np.complex64)
        self._extremes = np.empty((STRIPS, most, 3, 2), np.float32)
        self._size = size
        self._cores = Cores()

    def __call__(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> Extracted:
        """As `Extractor`."""
        n = len(windows)

        down, across = window_taps(frame.shape, centres, windows, self._size)

        def strip_spectra(i: int) -> None:
            strip, crop = self._strips[i], self._croppers[i]
            for number in range(n):
                pixels = crop(frame, down, across, number)
                pixels = pixels[:, ::-1] if self._reverse else pixels
                rows = np.maximum(down.inside[number] - strip.reads.start, 0)
                self._extremes[i, number] = extremes_of(
                    pixels.transpose(1, 0, 2), rows, across.inside[number]
                )
                strip.forward(pixels, self._mean, self._kernels, self._spectra[i, number])

        self._cores.map(strip_spectra, range(STRIPS))
        smallest, largest = self._extremes[:, :n, :, 0].min(0), self._extremes[:, :n, :, 1].max(0)
        return Extracted(self.join(n), np.stack([smallest, largest], axis=-1))

    def join(self, n: int) -> np.ndarray:
        """Spectra of n patches: those of their strips, added."""
        first, *others = self._spectra[:, :n]
        for spectra in others:
            first += spectra
        return first


def make_extractor(
    weights: Weights, preset: Preset, band: Band | None, device: Device, most: int
) -> Any:
    """The fastest extractor that these settings allow, for at most `most` windows in one call."""
    if device.kind == "cpu" and band is not None and tiled.supports(weights.architecture):
        return FastExtractor(weights, preset, band, most)
    return Extractor(weights, preset, band, device)
