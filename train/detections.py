"""Annotations of detectors, COCO JSON and YOLO text files, read as sequences.

    COCO  a .json file with "images" and "annotations", whose "bbox" is [x, y, w, h] in pixels from
          0, beside the images or in a folder near them
    YOLO  a .txt file of an image's name, beside it, or in labels/ where the image is in images/: a
          line "class x y w h" an object, its centre and size as shares of the image's

An object is a sequence of one image, unless a number says in which images it is the same target: in
COCO `track_id` or `instance_id` (CVAT has them in `attributes`), with `video_id` and `frame_id` or
`frame_index` of the images, or a folder of images for each video; in YOLO a sixth number, as `yolo
track` writes it, in images whose names differ by their last number alone.
"""

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.datasets import DatasetError, Entry, Sequence, frame_number
from dcfnet_np.support.files import read_text
from dcfnet_np.vision.image_files import IMAGE_SUFFIXES, natural_order
from dcfnet_np.vision.images import SourceError, read_image


@dataclass(frozen=True, eq=False)
class Target(Sequence):
    """A sequence that knows the numbers of its frames, (n,), rising, and the sizes annotated.

    sizes: (n, 2) widths and heights of the images; 0 where the annotations do not give them.
    """

    numbers: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


class Box(NamedTuple):
    """Where a target is in an image."""

    image: Path
    number: int  # of the image in its video
    box: tuple[float, float, float, float]  # x, y, w, h in pixels from 0
    size: tuple[int, int]  # the image's width and height, or 0, 0


Tracks = Mapping[tuple[str, Any], list[Box]]  # {(video, target): its boxes}


def find_annotations(root: Path) -> list[Entry]:
    """COCO files and YOLO labels of a folder or one folder below it, or a COCO file, if any."""
    if root.is_file():
        if not _is_coco(root):
            raise DatasetError(
                f'{root} is neither a folder nor a COCO file with "images" and "annotations"'
            )
        return [Entry(root.stem, "coco", root.parent, root)]
    if not root.is_dir():
        return []
    folders = [root, *sorted((path for path in root.iterdir() if path.is_dir()), key=natural_order)]
    files = [
        file for folder in folders for file in sorted(folder.glob("*.json"), key=natural_order)
    ]
    coco = [file for file in files if file.is_file() and _is_coco(file)]  # no pipe
    if coco:
        return [Entry(file.stem, "coco", file.parent, file) for file in coco]
    return [entry for folder in folders for entry in _yolo_entries(folder)]


def read_annotations(entry: Entry) -> list[Sequence]:
    """Every target of an entry that `find_annotations` found.  Raises DatasetError."""
    path = entry.truth
    try:
        tracks = _read_coco(path) if entry.format == "coco" else _read_yolo(entry)
    except (DatasetError, PermissionError):
        raise
    except Exception as error:  # almost anything, for JSON of another shape than COCO's
        line = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise DatasetError(f"{path} is not as {entry.format.upper()} has it ({line})") from None
    if not tracks:
        raise DatasetError(f"{path}: no object with a box; nothing can be learnt from it")
    _refuse_corners(path, [box for boxes in tracks.values() for box in boxes if all(box.size)])
    return [_target(entry, video, target, boxes) for (video, target), boxes in tracks.items()]


def _target(entry: Entry, video: str, target: Any, boxes: list[Box]) -> Target:
    boxes = sorted(boxes, key=lambda box: box.number)
    for one, two in itertools.pairwise(boxes):
        if one.number == two.number:
            raise DatasetError(
                f"{entry.truth}: target {target} of {video} has two boxes at number {one.number}, "
                f"in {one.image.name} and {two.image.name}; give every target an id of its own in "
                "its video, and every image a number of its own, the last in its name or COCO's "
                "frame_id"
            )
    images, numbers, places, sizes = zip(*boxes)
    return Target(
        f"{video}.{target}", entry.format, images, np.array(places), video=video, numbers=numbers,
        sizes=sizes,
    )  # fmt: skip


def _refuse_corners(path: Path, boxes: list[Box]) -> None:
    """Boxes that reach out of their images have two corners in place of a corner and a size."""
    ends = np.array([(x + w, y + h) for _, _, (x, y, w, h), _ in boxes]).reshape(-1, 2)
    sizes = np.array([box.size for box in boxes]).reshape(-1, 2)
    out = (ends > 1.01 * sizes + 1).any(axis=1)
    if out.sum() > len(boxes) / 2:
        wrong = boxes[int(out.argmax())]
        raise DatasetError(
            f"{path}: most boxes reach out of their images, as x, y, w, h = {wrong.box} of "
            f"{wrong.image.name}; are these two corners, or the boxes of larger images?"
        )


# --- COCO


def _is_coco(path: Path) -> bool:
    try:
        return {"images", "annotations"} <= set(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError):
        return False


def _read_coco(path: Path) -> Tracks:
    content = json.loads(path.read_bytes())
    listed = content.get("videos", ())
    videos = {video["id"]: str(video.get("name", video["id"])) for video in listed}
    images = {image["id"]: image for image in content["images"]}
    # Else the boxes of one image would be read as another's.
    if len(images) < len(content["images"]) or len({*videos.values()}) < len(listed):
        ids = Counter(image["id"] for image in content["images"]) + Counter(videos.values())
        ((twice, _),) = ids.most_common(1)
        raise DatasetError(
            f"{path}: two images or videos are {twice}; number them anew, as when files are merged"
        )
    names = {key: str(image["file_name"]).replace("\\", "/") for key, image in images.items()}
    files = _image_files(path, names)
    annotations = [
        annotation for annotation in content["annotations"] if not annotation.get("iscrowd")
    ]
    tracked = all(_track_id(annotation) is not None for annotation in annotations)
    tracks: dict[tuple[str, Any], list[Box]] = defaultdict(list)
    for annotation in annotations:
        box, key = _coco_box(path, annotation), annotation["image_id"]
        if key not in images:
            raise DatasetError(
                f"{path}: annotation {annotation.get('id')} is of image {key}, which is not listed"
            )
        image, name, number = images[key], names[key], 0
        if tracked:
            folder, _, _ = name.rpartition("/")
            id_ = image.get("video_id")
            video = (folder or path.stem) if id_ is None else videos.get(id_, str(id_))
            target, number = _track_id(annotation), _number(path, image, name)
        else:
            video, target = Path(name).with_suffix("").as_posix(), annotation["id"]
        size = int(image.get("width") or 0), int(image.get("height") or 0)
        tracks[video, target].append(Box(files[key], number, box, size))
    return tracks


def _track_id(annotation: Mapping[str, Any]) -> Any:
    """What links an annotation to others of the same target, None where nothing does."""
    known = {**(annotation.get("attributes") or {}), **annotation}
    return known.get("track_id", known.get("instance_id"))


def _number(path: Path, image: Mapping[str, Any], name: str) -> int:
    """An image's place in its video."""
    for place in (image.get("frame_id"), image.get("frame_index"), frame_number(Path(name))):
        if place is not None:
            return int(place)
    raise DatasetError(f"{path}: image {name} of a video needs a frame_id, or a number in its name")


def _coco_box(path: Path, annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = annotation.get("bbox") or ()
    if len(box) != 4 or not np.isfinite(np.array(box, float)).all():
        raise DatasetError(
            f"{path}: annotation {annotation.get('id')}: bbox must be [x, y, w, h] in pixels, got "
            f"{str(box)[:60]}"
        )
    x, y, w, h = map(float, box)
    return x, y, w, h


def _image_files(path: Path, names: Mapping[Any, str]) -> dict[Any, Path]:
    """{id: file} of the images, all in the first folder near the JSON file that has one of them."""
    near: list[Path] = []
    for base in (path.parent, path.resolve().parent.parent):
        inner = sorted(folder for folder in base.iterdir() if folder.is_dir())
        near += [base, *inner, *(deep for folder in inner for deep in sorted(folder.glob("*/")))]
    first = next(iter(names.values()), "")
    folder = next((folder for folder in near if (folder / first).is_file()), path.parent)
    files = {key: folder / name for key, name in names.items()}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} images are missing, as {missing[0]}; put images beside the "
            "file or in images/"
        )
    return files


# --- YOLO


def _yolo_entries(folder: Path) -> list[Entry]:
    name, labels, images = folder.resolve().name, folder / "labels", folder / "images"
    if labels.is_dir() and images.is_dir():
        return [Entry(name, "yolo", images, labels)]
    if folder.name in ("labels", "images"):
        return []
    beside = any(_image_of(text, folder) for text in folder.glob("*.txt"))
    return [Entry(name, "yolo", folder, folder)] if beside else []


def _image_of(text: Path, folder: Path) -> Path | None:
    """The image in a folder that a label file belongs to."""
    endings = (ending for suffix in IMAGE_SUFFIXES for ending in (suffix, suffix.upper()))
    images = (folder / (text.stem + ending) for ending in endings)
    return next((image for image in images if image.is_file()), None)


def _read_yolo(entry: Entry) -> Tracks:
    tracks: dict[tuple[str, Any], list[Box]] = defaultdict(list)
    for text, table in _yolo_tables(entry).items():
        place = text.parent.relative_to(entry.truth)
        image = _image_of(text, entry.folder / place)
        if image is None:
            raise DatasetError(f"{text} has no image of its name in {entry.folder / place}")
        width, height = _size(image) if table else (0, 0)
        for index, (x, y, w, h, *track) in enumerate(table, start=1):
            box = (x - w / 2) * width, (y - h / 2) * height, w * width, h * height
            video, target, number = text.stem, index, 0
            if track:
                found = re.fullmatch(r"(.*?)[-_. ]*(\d+)", text.stem)
                if found is None:
                    raise DatasetError(
                        f"{text}: an image with numbered targets needs its own number in its name"
                    )
                video, target, number = found[1] or entry.name, int(track[0]), int(found[2])
            key = (place / video).as_posix(), target
            tracks[key].append(Box(image, number, box, (width, height)))
    return tracks


def _yolo_tables(entry: Entry) -> dict[Path, list[tuple[float, ...]]]:
    """{label file: its rows}; all rows have a target's number, or none has."""
    there = (text for text in entry.truth.rglob("*.txt") if not text.name.startswith("."))
    texts = sorted((text for text in there if text.is_file()), key=natural_order)
    if entry.truth == entry.folder:  # other texts may lie there
        texts = [text for text in texts if _image_of(text, text.parent)]
    rows = {text: _yolo_rows(text) for text in texts if text.name != "classes.txt"}
    numbered = {len(row) == 5: text for text, table in rows.items() for row in table}
    if len(numbered) > 1:
        raise DatasetError(
            f"{numbered[False]} has lines without a target's number, the sixth, and "
            f"{numbered[True]} has it; number these targets, or delete their lines"
        )
    return rows


def _yolo_rows(text: Path) -> list[tuple[float, ...]]:
    """x, y, w, h and, if given, the target's number of every line."""
    rows = []
    for number, line in enumerate(read_text(text).splitlines(), start=1):
        try:
            _, *box = map(float, line.split() or ["0"])
        except ValueError:
            box = [np.nan]
        good = all(-0.01 <= share <= 1.01 for share in box[:4]) and len(box) in (0, 4, 5)
        if not good or not all(target.is_integer() for target in box[4:]):
            raise DatasetError(
                f"{text}, line {number}: expected class x y w h, shares of the image from 0 to 1, "
                f"and the target's number if it has one, got {line[:40]!r}; no polygon, no "
                "confidence"
            )
        if box:
            rows.append(tuple(box))
    return rows


def _size(image: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    try:
        height, width = read_image(image, 0).shape[:2]
    except SourceError:
        unknown = "so the size that boxes are shares of is unknown"
        raise DatasetError(f"{image} does not decode, {unknown}; replace it") from None
    return width, height
