"""What happens to a pair of crops before it is learnt from.

Everything here is off in the released codes, which had a hundred times the crops.  With a few
thousand, a network learns the light that its videos have and loses a target that walks into the
shade, and it never sees a target off the middle or of another size.

Crops may be stored with a margin around the network's input.  Two steps lead from there to the
network:

    cut_images      on bytes: the window that the network sees, moved, scaled, turned; gray; blurred
    augment_images  on floats: mirror images, contrast, brightness and colour

The window of the template is never moved, scaled or turned, only that of the search image: the
filter is learnt from a centred, upright target.  Where the search window moves by (dx, dy), the
target is found at (-dx, -dy), and so the label must be shifted (`label_shifts`).  Each pair has
random numbers of its own, from (seed, epoch, template, search), so the result depends neither on
how a run is cut into batches nor on where it was resumed; and their number is fixed, so what one
change draws does not depend on which others are on.
"""

from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.backend import Array, array_module

GRAY = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R: ITU-R BT.601, as OpenCV's
DRAWS = 20  # random numbers of a pair; number 14 is not used


class Augmentation(NamedTuple):
    """How far images are changed; zeros change nothing."""

    flip: bool = False  # mirror half of the pairs, left to right
    light: float = 0.0  # contrast and brightness of each image, by up to exp(+-light)
    colour: float = 0.0  # brightness of each colour of each image, by up to exp(+-colour)
    jitter: int = 0  # move the search window by up to so many pixels of the input, on each axis
    scale: float = 0.0  # scale the search window by up to exp(+-scale)
    gray: float = 0.0  # share of the pairs that lose their colour
    blur: float = 0.0  # blur half of the images, standard deviation up to so many pixels
    rotate: float = 0.0  # turn the search window about the target by up to so many degrees
    stretch: float = 0.0  # make the search window wider and lower, or not, by up to exp(+-stretch)
    seed: int = 0

    @property
    def relights(self) -> bool:
        """Whether `augment_images` has anything to do."""
        return self.flip or self.light > 0 or self.colour > 0

    @property
    def cuts(self) -> bool:
        """Whether `cut_images` does anything but cut the middle out."""
        return self.jitter > 0 or self.warps or self.gray > 0 or self.blur > 0

    @property
    def warps(self) -> bool:
        """Whether search windows are more than moved."""
        return self.scale > 0 or self.rotate > 0 or self.stretch > 0


class Changes(NamedTuple):
    """What `augment_images` does to a batch of N pairs: to 2N images, the templates first."""

    mirrored: np.ndarray  # (2N,) bool
    contrast: np.ndarray  # (2N,), a factor, as the next two
    brightness: np.ndarray  # (2N,)
    colour: np.ndarray  # (2N, 3)


class Cuts(NamedTuple):
    """What `cut_images` does to a batch of N pairs."""

    shift: np.ndarray  # (N, 2) int, by which the search window moves, right and down
    scale: np.ndarray  # (N,), of the search window
    gray: np.ndarray  # (N,) bool
    blur: np.ndarray  # (N, 2) standard deviations in pixels, of template and search
    angle: np.ndarray  # (N,) radians, of the search window
    stretch: np.ndarray  # (N,), of the search window: so many times as wide, and as much lower


def _draw(pairs: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """(N, DRAWS) numbers from -1 to 1."""
    seeds = ([seed, epoch, int(template), int(search)] for template, search in pairs)
    draws = [np.random.default_rng(words).uniform(-1, 1, DRAWS) for words in seeds]
    return np.array(draws).reshape(-1, DRAWS)


def draw_changes(pairs: np.ndarray, epoch: int, augmentation: Augmentation, dtype: Any) -> Changes:
    """What `augment_images` does to these pairs (N, 2) in this epoch."""
    draws = _draw(pairs, epoch, augmentation.seed)

    def by_image(columns: np.ndarray, strength: float) -> np.ndarray:
        """(N, 2 * k), template's and search's, -> (2N, k) factors up to exp(+-strength)."""
        return np.exp(strength * np.concatenate(np.hsplit(columns, 2)).astype(dtype))

    light = augmentation.light
    return Changes(
        np.tile(draws[:, 0] < 0, 2) & augmentation.flip,
        by_image(draws[:, 1:3], light)[:, 0],
        by_image(draws[:, 3:5], light)[:, 0],
        by_image(draws[:, 5:11], augmentation.colour),
    )


def draw_cuts(pairs: np.ndarray, epoch: int, augmentation: Augmentation) -> Cuts:
    """What `cut_images` does to these pairs (N, 2) in this epoch."""
    draws = _draw(pairs, epoch, augmentation.seed)[:, 11:]
    share = (draws[:, 4] + 1) / 2  # evenly from 0 to 1
    return Cuts(
        # Whole pixels, each of the 2 jitter + 1 as often: then nothing is interpolated that need
        # not be.
        np.floor((draws[:, :2] + 1) / 2 * (2 * augmentation.jitter + 1)).astype(int)
        - augmentation.jitter,
        np.exp(augmentation.scale * draws[:, 2]),
        share < augmentation.gray,
        np.maximum(draws[:, 5:7], 0) * augmentation.blur,
        np.radians(augmentation.rotate * draws[:, 7]),
        np.exp(augmentation.stretch * draws[:, 8]),
    )


def label_shifts(pairs: np.ndarray, epoch: int, augmentation: Augmentation) -> np.ndarray | None:
    """Where the wanted response of each pair peaks, (N, 2) int: rows down and columns right.

    None when that is (0, 0) for all, since no window is moved.  A mirror image moves the peak to
    the other side.
    """
    if augmentation.jitter == 0:
        return None
    cuts = draw_cuts(pairs, epoch, augmentation)
    mirrored = draw_changes(pairs, epoch, augmentation, float).mirrored[: len(pairs)]
    # A window of another scale shows the same way in other pixels: to the nearest whole one.
    right, down = np.rint(cuts.shift / cuts.scale[:, None]).astype(int).T
    return np.stack([-down, np.where(mirrored, right, -right)], axis=1)


def shift_label(label: Array, shifts: np.ndarray) -> Array:
    """The label (H, W), its peak at (0, 0), moved by (N, 2) shifts around the edges: (N, H, W)."""
    xp = array_module(label)
    height, width = label.shape
    rows = (np.arange(height) - shifts[:, :1]) % height
    columns = (np.arange(width) - shifts[:, 1:]) % width
    return label[xp.asarray(rows)[:, :, None], xp.asarray(columns)[:, None, :]]


def cut_images(
    raw: np.ndarray, pairs: np.ndarray, size: int, epoch: int | None, augmentation: Augmentation
) -> np.ndarray:
    """What the network sees of a batch of stored crops.

    raw: (2, N, 3, S, S) uint8, templates and searches, S - size even; pairs: (N, 2) indices of the
    crops.  With epoch None, as in validation, that is the middle of each.  Returns (2, N, 3, size,
    size) uint8.
    """
    margin = (raw.shape[-1] - size) // 2
    middle = raw[..., margin : margin + size, margin : margin + size] if margin else raw
    if epoch is None or not augmentation.cuts:
        return middle
    import cv2

    cuts = draw_cuts(pairs, epoch, augmentation)
    images = middle.copy()
    for i in range(len(pairs)):
        dx, dy = cuts.shift[i]
        if augmentation.warps:
            images[1, i] = _warped(raw[1, i], size, cuts, i)
        elif augmentation.jitter > 0:
            top, left = margin + dy, margin + dx
            images[1, i] = raw[1, i, :, top : top + size, left : left + size]
        for image, sigma in zip(images[:, i], cuts.blur[i]):
            if sigma > 0.1:  # less is nothing at all
                for channel in image:
                    cv2.GaussianBlur(channel, (0, 0), sigma, dst=channel)
            if cuts.gray[i]:
                gray = np.tensordot(GRAY, image.astype(np.float32), 1)
                image[...] = np.rint(gray).astype(np.uint8)
    return images


def _warped(crop: np.ndarray, size: int, cuts: Cuts, i: int) -> np.ndarray:
    """The search window of pair i, in a crop (3, S, S) with the target in its middle.

    The window is scaled, stretched and turned about the target, which stays where `label_shifts`
    says.  Bilinear, rounded; where the window leaves the crop, its edge goes on.
    """
    import cv2

    middle, half = (crop.shape[-1] - 1) / 2, (size - 1) / 2
    sine, cosine, stretch = np.sin(cuts.angle[i]), np.cos(cuts.angle[i]), cuts.stretch[i]
    turn = cuts.scale[i] * np.array([[cosine, -sine], [sine, cosine]])
    linear = turn @ np.diag([stretch, 1 / stretch])
    target = half - cuts.shift[i] / cuts.scale[i]  # its place in the window
    # From the window's pixels to the crop's, as WARP_INVERSE_MAP takes it.
    transform = np.column_stack([linear, middle - linear @ target])
    how: dict[str, Any] = {
        "flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        "borderMode": cv2.BORDER_REPLICATE,
    }
    return np.stack([cv2.warpAffine(c, transform, (size, size), **how) for c in crop])


def augment_images(
    images: np.ndarray, pairs: np.ndarray, epoch: int, augmentation: Augmentation
) -> np.ndarray:
    """Mirrored and re-lit copies of a batch of pairs.

    images: (2N, 3, H, W) float, 0..255, the N templates first, then their N searches; pairs: (N, 2)
    indices of the crops.
    """
    if not augmentation.relights:
        return images
    changes = draw_changes(pairs, epoch, augmentation, images.dtype)
    if augmentation.light > 0 or augmentation.colour > 0:
        level = images.mean((1, 2, 3), keepdims=True)
        contrast, brightness, colour = (f.reshape(len(images), -1, 1, 1) for f in changes[1:])
        images = np.clip((images - level) * contrast + level * brightness * colour, 0, 255)
    if augmentation.flip:
        images = np.where(changes.mirrored[:, None, None, None], images[..., ::-1], images)
    return images
