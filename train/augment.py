"""What happens to a pair of crops before it is learnt from: mirror images and other light.

Off in the released codes, which had a hundred times the crops.  With a few thousand, a network learns the light that
its videos have and loses a target that walks into the shade; so contrast and brightness are drawn anew for the
template and for the search image.  A mirror image is drawn for the pair: both or neither.
"""

from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.backend import Array, array_module


class Augmentation(NamedTuple):
    """How far images are changed; zeros change nothing."""

    flip: bool = False  # mirror half of the pairs, left to right
    light: float = 0.0  # contrast and brightness by up to exp(+-light), each colour by up to a third of that more
    seed: int = 0


class Changes(NamedTuple):
    """What is drawn for a batch of N pairs: for 2N images, the templates first."""

    mirrored: np.ndarray  # (2N,) bool
    contrast: np.ndarray  # (2N,), a factor, as the next two
    brightness: np.ndarray  # (2N,)
    colour: np.ndarray  # (2N, 3)


def draw_changes(pairs: np.ndarray, epoch: int, augmentation: Augmentation, dtype: Any) -> Changes:
    """The random numbers of a batch of pairs (N, 2), from (seed, epoch, template) of each."""
    draws = np.array(
        [np.random.default_rng([augmentation.seed, epoch, int(t)]).uniform(-1, 1, 11) for t, _ in pairs]
    ).reshape(-1, 11)

    def by_image(columns: np.ndarray, strength: float) -> np.ndarray:
        """(N, 2 * k), template's and search's, -> (2N, k) factors up to exp(+-strength)."""
        return np.exp(strength * np.concatenate(np.hsplit(columns, 2)).astype(dtype))

    light = augmentation.light
    return Changes(
        np.tile(draws[:, 0] < 0, 2) & augmentation.flip,
        by_image(draws[:, 1:3], light)[:, 0],
        by_image(draws[:, 3:5], light)[:, 0],
        by_image(draws[:, 5:11], light / 3),
    )


def augment(images: Array, pairs: np.ndarray, epoch: int, augmentation: Augmentation) -> Array:
    """Mirrored and re-lit copies of a batch of pairs.

    images: (2N, 3, H, W) float, 0..255, the N templates first, then their N searches; pairs: (N, 2) indices of the
    crops.  Each pair has random numbers of its own, from (seed, epoch, template), so the result depends neither on
    how a run is cut into batches nor on where it was resumed.
    """
    if not augmentation.flip and augmentation.light == 0:
        return images
    xp = array_module(images)
    changes = draw_changes(pairs, epoch, augmentation, images.dtype)
    if augmentation.light > 0:
        level = images.mean((1, 2, 3), keepdims=True)
        contrast, brightness, colour = (xp.asarray(f).reshape(len(images), -1, 1, 1) for f in changes[1:])
        images = xp.clip((images - level) * contrast + level * brightness * colour, 0, 255)
    if augmentation.flip:
        images = xp.where(xp.asarray(changes.mirrored)[:, None, None, None], images[..., ::-1], images)
    return images
