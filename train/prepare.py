"""Annotated sequences -> crops.h5: around every target one square crop, as the tracker would take it.

The window is the target's box times 1 + padding on each axis (padding 2: three times the box), resized to
`size` x `size`, zero outside the frame.  Both crops of a training pair are centred, so the wanted response
always peaks at 0.

    crops     (n, 3, size, size) uint8, BGR
    sequence  (n,) int32, index into `sequences`
    frame     (n,) int32, number in the frame's file name: the distance in time of two crops
    sequences (m,) names, sorted
    attributes: format, padding, size, skipped (JSON: reason -> count), digest (SHA-256 over crops, in order)
"""

import argparse
import hashlib
import json
import logging
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.files import WriteError, check_output, replacing
from dcfnet_np.vision.boxes import read_boxes
from dcfnet_np.vision.crop import crop_patches

FORMAT_VERSION = 1
FRAME_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
log = logging.getLogger(__name__)


class Crops(NamedTuple):
    """The content of crops.h5."""

    crops: np.ndarray  # (n, 3, size, size) uint8, BGR
    sequence: np.ndarray  # (n,) index into sequences
    frame: np.ndarray  # (n,) number in the file name
    sequences: tuple[str, ...]
    padding: float
    size: int
    digest: str


def list_frames(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Frames of a sequence folder (img/*.jpg …, in order of their numbers) and their boxes: (n, 4), 0-based x, y, w, h.

    Raises ValueError when there are no frames, or not one row of groundtruth_rect.txt for each.
    """
    frames = [path for path in (folder / "img").glob("*") if path.suffix.lower() in FRAME_SUFFIXES]
    if not frames:
        raise ValueError(f"prepare: {folder} must be a sequence folder with frames in img/, found none")
    frames.sort(key=frame_number)
    truth = folder / "groundtruth_rect.txt"
    if not truth.is_file():
        raise ValueError(f"prepare: {folder} must have a groundtruth_rect.txt, found none")
    boxes = read_boxes(truth)
    if len(boxes) != len(frames):
        raise ValueError(f"prepare: {truth} must have one row per frame, got {len(boxes)} rows, {len(frames)} frames")
    return frames, boxes


def frame_number(path: Path) -> int:
    """The last number in a frame's file name, its place in time: img/0042.jpg -> 42."""
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise ValueError(f"prepare: frames must have a number in their name, got {path}")
    return int(digits[-1])


def fault(box: np.ndarray, frame_shape: tuple[int, ...]) -> str | None:
    """Why nothing can be learnt from a box (x, y, w, h), 0-based, in a frame of (H, W, 3), or None."""
    if not np.isfinite(box).all():
        return "box is not finite"
    x, y, w, h = box
    if w < 1 or h < 1:
        return "box is smaller than a pixel"
    if x >= frame_shape[1] or y >= frame_shape[0] or x + w <= 0 or y + h <= 0:
        return "box is outside the frame"
    return None


def prepare(folders: list[Path], out: str | Path, *, padding: float = 2.0, size: int = 125) -> dict[str, int]:
    """Write crops.h5 from sequence folders; the file appears whole or not at all.

    Frames that cannot be used are skipped.  Returns {"crops": number written, reason: number skipped, …}.
    Raises ValueError for a folder that is no sequence, two sequences of one name, or when no crop is left.
    """
    import cv2
    import h5py

    if padding <= 0 or size < 8:
        raise ValueError(f"prepare: padding must be > 0 and size >= 8, got {padding} and {size}")
    out = Path(out)
    if out.suffix != ".h5":  # and so it is no frame and no ground truth
        raise ValueError(f"prepare: out must end in .h5, got {out}")
    check_output(out)
    folders = sorted((Path(folder) for folder in folders), key=lambda folder: folder.resolve().name)
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"prepare: sequences must have different names, at least one, got {names}")
    listed = [list_frames(folder) for folder in folders]

    skipped: Counter[str] = Counter()
    digest = hashlib.sha256()
    sequence: list[int] = []
    number: list[int] = []
    with replacing(out) as part, h5py.File(part, "w") as file:
        capacity = sum(len(frames) for frames, _ in listed)
        crops = file.create_dataset("crops", (capacity, 3, size, size), "u1", chunks=(1, 3, size, size))
        for index, (frames, boxes) in enumerate(listed):
            for path, box in zip(frames, boxes, strict=True):
                data = np.frombuffer(path.read_bytes(), np.uint8)
                frame = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
                reason = "frame does not decode" if frame is None else fault(box, frame.shape)
                if frame is None or reason is not None:
                    skipped[str(reason)] += 1
                    log.info("%s skipped: %s", path, reason)
                    continue
                centre = tuple(box[:2] + box[2:] / 2)
                window = box[2:] * (1 + padding)
                crop = crop_patches(frame, centre, window[None], size, rounded=True)[0].astype(np.uint8)
                crops[len(number)] = crop
                digest.update(crop.tobytes())
                sequence.append(index)
                number.append(frame_number(path))
            log.info("%s: %d frames", names[index], len(frames))
        if not number:
            raise ValueError(f"prepare: no frame can be used ({dict(skipped)})")
        crops.resize(len(number), axis=0)
        file.create_dataset("sequences", data=names, dtype=h5py.string_dtype())
        file["sequence"] = np.array(sequence, np.int32)
        file["frame"] = np.array(number, np.int32)
        file.attrs.update(
            format=FORMAT_VERSION,
            padding=padding,
            size=size,
            skipped=json.dumps(skipped),
            digest=digest.hexdigest(),
        )
    return {"crops": len(number), **skipped}


def read_crops(path: str | Path) -> Crops:
    """Read crops.h5 into memory.  Raises ValueError, one line, when it is no such file."""
    import h5py

    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}; make one with python -m dcfnet_np.train.prepare")
    form: Any = None
    try:
        with h5py.File(path, "r") as file:
            attributes: dict[str, Any] = dict(file.attrs)
            form = attributes.get("format")
            if form != FORMAT_VERSION:
                raise ValueError("another format")
            return Crops(
                file["crops"][:],
                file["sequence"][:],
                file["frame"][:],
                tuple(file["sequences"].asstr()[:].tolist()),
                float(attributes["padding"]),
                int(attributes["size"]),
                str(attributes["digest"]),
            )
    except (OSError, KeyError, ValueError, AttributeError) as error:  # what HDF5 says of it is in __cause__
        found = "it is incomplete or something else" if form in (None, FORMAT_VERSION) else f"its format is {form}"
        advice = "make it again with python -m dcfnet_np.train.prepare"
        raise ValueError(f"{path} must be a file made by prepare, and {found}; {advice}") from error


def main(arguments: list[str] | None = None) -> int:
    """`python -m dcfnet_np.train.prepare SEQUENCE_DIR... --out crops.h5`"""
    parser = argparse.ArgumentParser(prog="dcfnet_np.train.prepare", description=main.__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="SEQUENCE_DIR")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--padding", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=125)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        counts = prepare(options.folders, options.out, padding=options.padding, size=options.size)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1 if isinstance(error, WriteError) else 2
    log.info("%s: %s", options.out, ", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
