"""From a frame to the spectra of its features: crop, feature maps, window, transform.

`PlainFeatures` is the definition; `fast.features` computes the same numbers on a CPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import network
from ..backend import Array, Device, to_device
from ..ops.fourier import Band, label_band, rfft2
from ..presets import Preset
from ..support.threads import Cores
from ..vision.crop import crop_patches, window_taps
from ..vision.windows import gaussian_label, hann_power
from ..weights import Weights

NOTHING_TO_TRACK = (
    "the window around the box holds nothing to track: the frame has one colour there"
)


class Extracted(NamedTuple):
    """Spectra of the features of P patches, and what their colours range over."""

    spectra: Array  # (P, D, bins) complex
    extremes: np.ndarray  # (P, 3, 2), see `extremes_of`


class Features(Protocol):
    """What a step asks for.  A result may be overwritten by the next call."""

    def __call__(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> Extracted:
        """frame: (H, W, 3) uint8 BGR; centres, windows: (P, 2), x, y and w, h; pixels."""


class NetworkMaps:
    """The feature maps that a network makes of patches: (P, 3, N, N) BGR, 0..255 -> (P, D, N, N).

    On a CPU each core works on one patch.
    """

    def __init__(self, weights: Weights, device: Device) -> None:
        self._architecture, self._device = weights.architecture, device
        self._reverse = weights.channel_order == "rgb"  # frames are BGR
        self.parameters = {name: to_device(p, device) for name, p in weights.parameters.items()}
        self.mean = to_device(np.array(weights.mean, np.float32).reshape(3, 1, 1), device)
        self._cores = Cores()

    def __call__(self, patches: np.ndarray) -> Array:
        return self.of_images(self.in_order(patches))

    def of_images(self, patches: np.ndarray) -> Array:
        """The same for patches in the weights' channel order."""
        images = to_device(patches, self._device)
        if self._device.kind == "cuda":
            return self._features(images)
        return np.concatenate(self._cores.map(self._features, images[:, None]))

    def in_order(self, patches: np.ndarray) -> np.ndarray:
        """Patches in the weights' channel order."""
        return np.ascontiguousarray(patches[:, ::-1]) if self._reverse else patches

    def _features(self, images: Array) -> Array:
        return network.features(images - self.mean, self.parameters, self._architecture)


class PlainFeatures:
    """Any feature maps, with or without a band, on whole patches: the definition.

    maps: patches (P, 3, N c, N c), BGR, 0..255, float32 -> (P, D, N, N), where N is the preset's
    `input_size`, and c the attribute `cell` of `maps`, 1 where there is none: pixels of a patch for
    each pixel of the map.  P windows of a frame, of one target or of many, are one batch.
    """

    def __init__(
        self, maps: Callable[[np.ndarray], Array], preset: Preset, band: Band | None, device: Device
    ) -> None:
        size = preset.input_size
        window = hann_power((size, size), preset.window_power)
        self.maps, self.window = maps, to_device(window, device)
        self._preset, self._band = preset, band
        self._size = size * getattr(maps, "cell", 1)

    def __call__(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> Extracted:
        patches = self.crop(frame, centres, windows)
        features = self.maps(patches)
        count, size, shape = len(windows), self._preset.input_size, np.shape(features)
        if len(shape) != 4 or (shape[0], *shape[2:]) != (count, size, size):
            got = shape if hasattr(features, "shape") else type(features).__name__
            raise ValueError(
                f"features must give an array ({count}, D, {size}, {size}) for patches "
                f"{patches.shape}, got {got}; input_size of the preset is the map's size"
            )
        features = features.astype(np.float32, copy=False) * self.window
        extremes = extremes_of_windows(patches, frame.shape, centres, windows)
        return Extracted(rfft2(features, self._band), extremes)

    def crop(self, frame: np.ndarray, centres: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """The patches, BGR, 0..255; arguments as for a call."""
        rounded = self._preset.rounded_crop
        return crop_patches(frame, centres, windows, self._size, rounded=rounded)


def choose_band(preset: Preset, device: Device) -> Band | None:
    """The band of the spectrum that the preset's label needs; None for all of it."""
    band = label_band(gaussian_label((preset.input_size,) * 2, preset.sigma))
    if band is None:
        return None
    shape, limits, *matrices = band
    return Band(shape, limits, *(to_device(matrix, device) for matrix in matrices))


def is_flat(extremes: np.ndarray) -> bool:
    """Whether patches hold nothing: one colour, to half a grey level, or no pixel of the frame.

    extremes: (P, 3, 2), see `extremes_of`.  Interpolation between equal pixels is exact only to
    rounding.
    """
    return bool((extremes[..., 1].max(0) - extremes[..., 0].min(0) < 0.5).all())


def extremes_of(patch: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
    """Smallest and largest value of each colour inside the frame, (C, 2); (inf, 0) for none.

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
    """`extremes_of` for whole patches (P, C, N, N), cut by `crop_patches`: (P, C, 2)."""
    down, across = window_taps(frame_shape, centres, windows, patches.shape[-1])
    return np.stack([extremes_of(*each) for each in zip(patches, down.inside, across.inside)])
