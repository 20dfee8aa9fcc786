"""DAVIS and YouTube-VOS: JPEGImages/[480p/]NAME/, and in Annotations/[480p/]NAME/ a mask a frame.

A mask's pixels say which target they belong to.  Black is background.  In a gray mask the value is
the target's number (DAVIS-2016: 255, the only one); in a coloured one the colour stands for it by
PASCAL VOC's palette, whose first colours are those of DAVIS-2017.  A target's box is the smallest
one around its pixels, all of them.

Source: https://davischallenge.org, and its code davis2017-evaluation.
"""

from pathlib import Path

import numpy as np

from ..vision.images import decode_image, read_image
from .sequence import Entry, Sequence, folders_in

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")  # the first one that is there
MOST_TARGETS = 64  # in a video; with more values an image is no mask


def find_entries(folder: Path) -> list[Entry]:
    """The videos of a root."""
    images, truths = folder / "JPEGImages", folder / "Annotations"
    if not images.is_dir() or not truths.is_dir():
        return []
    resolution = next((name for name in RESOLUTIONS if (truths / name).is_dir()), ".")
    videos = folders_in(truths / resolution)
    return [Entry(video.name, "davis", images / resolution / video.name, video) for video in videos]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """A sequence NAME.ID for each target, NAME for a single one, from its first frame on."""
    targets = read_masks(entry.truth, files)
    sequences = []
    for target, boxes in targets.items():
        name = entry.name if len(targets) == 1 else f"{entry.name}.{target}"
        whole = Sequence(name, "davis", tuple(files), boxes, video=entry.name)
        sequences.append(whole.from_its_first_box())
    return sequences


def voc_palette() -> np.ndarray:
    """PASCAL VOC's 256 colours, (256, 3) uint8, red first.

    The bits of a number go to the three colours by turns, from the top bit of each.
    """
    numbers, palette = np.arange(256), np.zeros((256, 3), int)
    for bit in range(8):
        palette[:, bit % 3] |= (numbers >> bit & 1) << 7 - bit // 3
    return palette.astype(np.uint8)


def read_mask(path: Path) -> np.ndarray:
    """A mask as target numbers, (height, width), 0 for background.  Raises ValueError, one line."""
    import cv2

    try:
        mask = decode_image(path.read_bytes(), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if mask is None or mask.dtype != np.uint8:
        raise ValueError(f"{path} is no mask: it does not decode as an image of 8 bits")
    if mask.ndim == 2:
        return mask
    codes, place = np.unique(_codes(mask[..., 2::-1]), return_inverse=True)  # of BGR(A)
    numbers = {code: number for number, code in enumerate(_codes(voc_palette()).tolist())}
    numbers[0xFFFFFF] = 255  # black and white saved in colour
    if not numbers.keys() >= set(codes.tolist()):
        raise ValueError(f"{path} is no mask: it has colours that are not in PASCAL VOC's palette")
    return np.array([numbers[code] for code in codes.tolist()])[place].reshape(mask.shape[:2])


def _codes(colours: np.ndarray) -> np.ndarray:
    """A number for each colour, (..., 3) uint8, red first -> (...)."""
    return colours.astype(np.int32) @ (1 << 16, 1 << 8, 1)


def read_masks(folder: Path, frames: list[Path]) -> dict[int, np.ndarray]:
    """{target: boxes (n, 4) float64, 0-based} from the masks in `folder`, named as the frames.

    NaN where a target has no pixel, or a frame no mask.  Raises ValueError that names the file.
    """
    boxes: dict[int, np.ndarray] = {}
    size: tuple[int, ...] = ()
    there = {path.stem: path for path in folder.glob("*.png")}
    if not there.keys() & {frame.stem for frame in frames}:
        wanted = f"(.png) with the names of the frames in {frames[0].parent}"
        raise ValueError(f"{folder} has no masks {wanted}")
    for index, frame in enumerate(frames):
        path = there.get(frame.stem)
        if path is None:
            continue
        mask = read_mask(path)
        size = size or read_image(frame, index + 1).shape[:2]
        if mask.shape != size:
            sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, its frame {size[1]}x{size[0]}"
            raise ValueError(f"{path} is {sizes}; a mask must have its frame's size")
        targets = np.unique(mask[mask > 0]).tolist()
        if len(boxes.keys() | set(targets)) > MOST_TARGETS:
            raise ValueError(f"{path} is no mask: it has {len(targets)} different values")
        for target in targets:
            rows, columns = (np.flatnonzero((mask == target).any(axis)) for axis in (1, 0))
            box = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
            boxes.setdefault(target, np.full((len(frames), 4), np.nan))[index] = box
    if not boxes:
        raise ValueError(f"{folder}: no mask has a target in it")
    return {target: boxes[target] for target in sorted(boxes)}
