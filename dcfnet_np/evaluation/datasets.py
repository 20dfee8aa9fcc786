"""Readers of the field's data sets, and a check of a copy.

A sequence is a folder of frames with ground truth; its format is known by its files:

    otb      img/ and groundtruth_rect.txt, or groundtruth_rect.1.txt, .2.txt, ... for several targets     from 1
    vot      groundtruth.txt of boxes or polygons beside the frames, in color/ or in img/                    from 0
    got10k   groundtruth.txt beside the frames, with meta_info.ini or *.label                                from 1
    lasot    img/, groundtruth.txt, full_occlusion.txt and out_of_view.txt; folders of classes above it      from 1
    uav123   ROOT/anno/UAV123/NAME.txt and ROOT/data_seq/UAV123/FOLDER/, one folder for several sequences;   from 1
             likewise UAV123_10fps
    nuspro   groundtruth.txt of corners x1 y1 x2 y2 beside the frames, with occlusion.txt, or below a        from 1
             folder that has seq_list_with_gt.csv
    tc128    TempleColor128: img/, NAME_gt.txt, and NAME_frames.txt with the first and last frame            from 1
    davis    ROOT/JPEGImages/[480p/]NAME/ and masks in ROOT/Annotations/[480p/]NAME/: see `masks`
    vid      ROOT/Data/VID/.../NAME/ and ILSVRC's XML in ROOT/Annotations/VID/.../NAME/, a file a frame      from 0

A plain folder with any of these ground truth files is read as OTB's or VOT's.  The last column says where boxes are
counted from in the files; everything that leaves this module counts from 0.  Videos of DAVIS and VID have any number of
targets: they become NAME.ID each, or just NAME where a DAVIS video has one.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..vision.boxes import from_otb, polygon_to_box, read_numbers
from ..vision.sources import FRAME_FOLDERS, SourceError, image_files, natural_order, read_image
from . import masks, vid

# Frames of OTB that are annotated where the folder holds more: first and last number in the frames' names.
OTB_RANGES = {
    "david": (300, 770),
    "football1": (1, 74),
    "freeman3": (1, 460),
    "freeman4": (1, 283),
    "diving": (1, 215),
    "blurcar1": (247, 988),
    "blurcar3": (3, 359),
    "blurcar4": (18, 397),
}
# OTB's toolkit starts Tiger1 at frame 6: the target is hidden before.
OTB_FIRST = {"tiger1": 5}

# Parts of UAV123's folders: sequence name -> first and last frame number.  Others take their folder as it is.
UAV123_PARTS = {
    "bird1": [(1, 253), (775, 1477), (1573, 2437)],
    "car1": [(1, 751), (751, 1627), (1627, 2629)],
    "car6": [(1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)],
    "car8": [(1, 1357), (1357, 2575)],
    "car16": [(1, 415), (415, 1993)],
    "group1": [(1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)],
    "group2": [(1, 907), (907, 1771), (1771, 2683)],
    "group3": [(1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)],
    "person2": [(1, 1189), (1189, 2623)],
    "person4": [(1, 1501), (1501, 2743)],
    "person5": [(1, 877), (877, 2101)],
    "person7": [(1, 1249), (1249, 2065)],
    "person8": [(1, 1075), (1075, 1525)],
    "person12": [(1, 601), (601, 1621)],
    "person14": [(1, 847), (847, 1813), (1813, 2923)],
    "person17": [(1, 1501), (1501, 2347)],
    "person19": [(1, 1243), (1243, 2791), (2791, 4357)],
    "truck4": [(1, 577), (577, 1261)],
    "uav1": [(1, 1555), (1555, 2377), (2473, 3469)],
}

DAVIS_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
ATTRIBUTES_FILE = "attributes.json"


class DatasetError(ValueError):
    """A data set or a sequence cannot be read.  One line: what, where, what to do."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one video.

    frames: image files, as many as boxes.  boxes: (n, 4) float64, 0-based, NaN where there is no target.
    polygons: (n, 8) where the data set has them (VOT), else None.  visible: (n,) bool from the data set's labels, else
    None.  first: where OTB's toolkit starts.  notes: what was done to make frames and rows fit.  video: name of the
    video, which other targets may share.
    """

    name: str
    format: str
    frames: tuple[Path, ...]
    boxes: np.ndarray
    polygons: np.ndarray | None = None
    visible: np.ndarray | None = None
    attributes: tuple[str, ...] = ()
    first: int = 0
    notes: tuple[str, ...] = ()
    video: str = ""

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> np.ndarray:
        """Decode one frame: (height, width, 3) uint8 BGR.  SourceError when it cannot be had."""
        return read_image(self.frames[index], index + 1)

    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the first frame, which is decoded for it."""
        height, width = self.frame(0).shape[:2]
        return width, height

    def every(self, stride: int) -> "Sequence":
        """Every stride-th frame, as of a slower camera; for a negative stride backwards, from the last frame on."""

        def thin(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else np.ascontiguousarray(rows[::stride])

        return dataclasses.replace(
            self,
            frames=self.frames[::stride],
            boxes=np.ascontiguousarray(self.boxes[::stride]),
            polygons=thin(self.polygons),
            visible=thin(self.visible),
            first=-(-self.first // stride) if stride > 0 else 0,
        )


@dataclass(frozen=True)
class Problem:
    """Something wrong with a copy of a sequence; `fatal` when it cannot be evaluated."""

    sequence: str
    text: str
    fatal: bool = True


@dataclass(frozen=True)
class Entry:
    """A sequence that is known by name and not read yet; for DAVIS and VID a video with all its targets.

    folder: of the frames.  truth: file or folder of the annotations.  part: first and last frame number, where it is
    a part of its folder.
    """

    name: str
    format: str
    folder: Path
    truth: Path
    part: tuple[int, int] | None = None

    def holds(self, name: str) -> bool:
        """Whether a sequence of this name can be in it."""
        return name == self.name or (self.format in _VIDEOS and name.startswith(self.name + "."))


def load(
    root: str | os.PathLike[str],
    names: list[str] | None = None,
    attributes: str | os.PathLike[str] | None = None,
) -> list[Sequence]:
    """All sequences below `root`, which may be a single one, or those of `names`, in that order.

    attributes: a JSON file {sequence name: [attribute, ...]}; by default attributes.json in `root`, and attrs.txt in a
    sequence's folder.  Raises DatasetError for an unknown name or a sequence that cannot be read.
    """
    root = Path(root)
    entries = find(root)
    tables = _read_attributes(root, attributes)
    found = {}
    for entry in entries:
        if names is not None and not any(entry.holds(name) for name in names):
            continue
        for sequence in read(entry):
            known_attributes = tables.get(sequence.name) or _folder_attributes(entry.folder)
            found[sequence.name] = dataclasses.replace(sequence, attributes=tuple(known_attributes))
    missing = [name for name in names or () if name not in found]
    if missing:
        known = ", ".join(entry.name for entry in entries[:8]) + (", ..." if len(entries) > 8 else "")
        raise DatasetError(f"{root} has no sequence {', '.join(missing)}; it has {known}")
    return list(found.values()) if names is None else [found[name] for name in names]


def check(root: str | os.PathLike[str], names: list[str] | None = None, decode: bool = False) -> Iterator[Problem]:
    """Problems of a copy of a data set, sequence by sequence.

    decode: decode every frame, not only the first and the last of each sequence.
    Raises DatasetError when there is no data set at all.
    """
    root = Path(root)
    entries = find(root)
    listed = root / "list.txt"
    if listed.is_file():
        there = {entry.name for entry in entries}
        for name in listed.read_text(encoding="utf-8", errors="replace").split():
            if name not in there:
                yield Problem(name[:60], f"{listed} names it, but there is no such folder with ground truth")
    for empty in sorted(path for path in root.iterdir() if path.is_dir() and image_files(path / "img")):
        if not any(entry.folder == empty for entry in entries):
            yield Problem(empty.name, f"{empty} has frames but no ground truth that is not empty")
    for entry in entries:
        if names is not None and not any(entry.holds(name) for name in names):
            continue
        try:
            sequences = read(entry)
        except DatasetError as error:
            yield Problem(entry.name, str(error))
            continue
        for sequence in sequences:
            if names is None or sequence.name in names:
                yield from _check_sequence(sequence, decode)


def _check_sequence(sequence: Sequence, decode: bool) -> Iterator[Problem]:
    for note in sequence.notes:
        yield Problem(sequence.name, note, fatal=False)
    boxes = sequence.boxes
    absent = np.isnan(boxes).any(axis=1)
    thin = ~absent & (boxes[:, 2:] <= 0).any(axis=1)
    if absent[0] or thin[0]:
        yield Problem(sequence.name, "the first row has no box of positive size: there is nothing to start from")
    if thin[1:].any():
        rows = _rows(np.flatnonzero(thin[1:]) + 1)
        yield Problem(sequence.name, f"no positive width and height in {rows}; they count as absent", fatal=False)
    if absent.any():
        yield Problem(sequence.name, f"no target in {_rows(np.flatnonzero(absent))}", fatal=False)
    numbers = [frame_number(path) for path in sequence.frames]
    if None not in numbers and sequence.format != "uav123":
        gaps = np.flatnonzero(np.diff(np.array(numbers, float)) != 1)
        if gaps.size:
            after = sequence.frames[gaps[0]].name
            text = f"gaps in the frame numbers: {gaps.size}, the first after {after}"
            yield Problem(sequence.name, text, fatal=False)
    size = None
    for index in range(len(sequence)) if decode else sorted({0, len(sequence) - 1}):
        try:
            frame = sequence.frame(index)
        except SourceError as error:
            yield Problem(sequence.name, str(error))
            continue
        if size is not None and frame.shape[:2] != size:
            yield Problem(
                sequence.name,
                f"{sequence.frames[index].name} is {frame.shape[1]}x{frame.shape[0]} pixels, "
                f"the first frame {size[1]}x{size[0]}",
            )
        size = size or frame.shape[:2]
    if size is None:
        return
    height, width = size
    with np.errstate(invalid="ignore"):
        outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, :2] + boxes[:, 2:] <= 0).any(axis=1)
    outside &= ~thin
    if outside.any():
        yield Problem(sequence.name, f"the box lies outside the frame in {_rows(np.flatnonzero(outside))}", fatal=False)


def _rows(indices: np.ndarray) -> str:
    """Rows of a file in words, counted from 1: "row 3", "rows 3, 4, 5, 6, ... (20 in all)"."""
    shown = ", ".join(str(index + 1) for index in indices[:4])
    more = f", ... ({len(indices)} in all)" if len(indices) > 4 else ""
    return f"row{'s' if len(indices) > 1 else ''} {shown}{more}"


# --- finding sequences ------------------------------------------------------------------------------------


def find(root: str | os.PathLike[str]) -> list[Entry]:
    """The sequences below `root`, which may be a single one; nothing but file names is read.  Raises DatasetError."""
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; give the data set's folder, or that of one sequence")
    entries = _entries(root)
    if not entries:
        for folder in _folders(root):
            # LaSOT has a folder of classes between.
            entries += _entries(folder) or [e for inner in _folders(folder) for e in _folder_entries(inner)]
    if not entries:
        raise DatasetError(
            f"{root} holds no sequences; expected folders with groundtruth_rect.txt or groundtruth.txt and frames, "
            "or the root of another data set that docs/evaluation.md lists"
        )
    return entries


def _entries(root: Path) -> list[Entry]:
    """The sequences of one data set or of one folder."""
    return _uav123_entries(root) or _davis_entries(root) or _vid_entries(root) or _folder_entries(root)


def _folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_order)


def _folder_entries(folder: Path) -> list[Entry]:
    """The sequences of one folder: none, one, or one for each target."""
    name = folder.resolve().name
    targets = sorted(folder.glob("groundtruth_rect.*.txt"), key=natural_order)
    single = folder / "groundtruth_rect.txt"
    truths = [path for path in [single, *targets] if path.is_file() and path.read_bytes().strip()]
    if truths:  # an empty file is a target that was given up, as in Human4
        names = [name] if len(truths) == 1 else [f"{name}.{number}" for number in range(1, len(truths) + 1)]
        return [Entry(each, "otb", folder, path) for each, path in zip(names, truths)]
    for truth in sorted(folder.glob("*_gt.txt"), key=natural_order)[:1]:
        return [Entry(name, "tc128", folder, truth)]
    for truth in (folder / "groundtruth.txt", folder / "groundtruth_poly.txt"):
        if truth.is_file():
            return [Entry(name, _format(folder), folder, truth)]
    return []


def _format(folder: Path) -> str:
    """The format of a folder with groundtruth.txt."""
    if (folder / "meta_info.ini").is_file() or (folder / "absence.label").is_file():
        return "got10k"
    if (folder / "full_occlusion.txt").is_file() or (folder / "nlp.txt").is_file():
        return "lasot"
    if (folder / "occlusion.txt").is_file() or (folder.parent / "seq_list_with_gt.csv").is_file():
        return "nuspro"
    return "vot"


def _uav123_entries(root: Path) -> list[Entry]:
    entries = []
    for version, step in (("UAV123", 1), ("UAV123_10fps", 3)):
        frames = root / "data_seq" / version
        for truth in sorted((root / "anno" / version).glob("*.txt"), key=natural_order):
            name, _, number = truth.stem.partition("_")
            parts = UAV123_PARTS.get(name, [])
            if re.fullmatch("[0-9]{1,9}", number) and 1 <= int(number) <= len(parts):
                first, last = ((n - 1) // step + 1 for n in parts[int(number) - 1])
                entries.append(Entry(truth.stem, "uav123", frames / name, truth, (first, last)))
            else:
                entries.append(Entry(truth.stem, "uav123", frames / truth.stem, truth))
        if entries:
            break
    return entries


def _davis_entries(root: Path) -> list[Entry]:
    """DAVIS has a folder for each resolution between, of which the smallest that all versions have is taken."""
    images, truths = root / "JPEGImages", root / "Annotations"
    if not images.is_dir() or not truths.is_dir():
        return []
    resolution = next((name for name in DAVIS_RESOLUTIONS if (truths / name).is_dir()), ".")
    folders = _folders(truths / resolution)
    return [Entry(folder.name, "davis", images / resolution / folder.name, folder) for folder in folders]


def _vid_entries(root: Path) -> list[Entry]:
    """Every folder with XML files below Annotations/, or its VID/ where it has DET/ too; train is deeper than val."""
    top, images = root / "Annotations", root / "Data"
    start = top / "VID" if (top / "VID").is_dir() else top
    walk = os.walk(start) if images.is_dir() else ()
    truths = sorted(Path(folder) for folder, _, files in walk if any(file.endswith(".xml") for file in files))
    return [Entry(folder.name, "vid", images / folder.relative_to(top), folder) for folder in truths]


# --- reading a sequence -----------------------------------------------------------------------------------


def read(entry: Entry) -> list[Sequence]:
    """Read the annotations of an entry: a sequence, or one for each target of its video.  Raises DatasetError."""
    files = next((found for sub in FRAME_FOLDERS if (found := image_files(entry.folder / sub))), [])
    if not files:
        raise DatasetError(f"{entry.folder} holds no images, neither directly nor in img/ or color/")
    if entry.format not in _VIDEOS:
        return [_read_rows(entry, files)]
    try:
        targets = _VIDEOS[entry.format](entry.truth, files)
    except ValueError as error:
        raise DatasetError(f"annotations cannot be read: {error}") from None
    single = entry.format == "davis" and len(targets) == 1
    return [
        Sequence(
            entry.name if single else f"{entry.name}.{target}",
            entry.format,
            tuple(files),
            boxes,
            visible=visible,
            video=entry.name,
        )
        for target, (boxes, visible) in targets.items()
    ]


# Readers of videos: (folder of annotations, frames) -> {target: (boxes, visible)}, boxes 0-based.
_VIDEOS: dict[str, Callable[[Path, list[Path]], dict[int, tuple[np.ndarray, np.ndarray | None]]]] = {
    "davis": masks.read,
    "vid": vid.read,
}


def _read_rows(entry: Entry, files: list[Path]) -> Sequence:
    """A sequence whose ground truth is one file with a row of numbers for each frame."""
    try:
        rows = read_numbers(entry.truth, blank_rows=True)
    except (OSError, ValueError) as error:
        raise DatasetError(f"ground truth cannot be read: {error}") from None
    if rows.shape[1] not in (4, 8):
        raise DatasetError(f"{entry.truth}: expected 4 or 8 numbers a row, got {rows.shape[1]}")
    polygons = rows if rows.shape[1] == 8 else None
    boxes = polygon_to_box(rows) if polygons is not None else rows
    if entry.format == "nuspro":
        boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    if entry.format != "vot":
        boxes = from_otb(boxes)
        polygons = None if polygons is None else polygons - 1.0
    visible = _visible(entry, len(boxes))

    notes = []
    key = entry.folder.name.lower()
    part = entry.part
    if entry.format == "otb" and len(files) > len(boxes):
        part = OTB_RANGES.get(key)
    if entry.format == "tc128":
        part = _tc128_range(entry)
    if part is not None:
        files = [path for path in files if (n := frame_number(path)) is not None and part[0] <= n <= part[1]]
    if len(boxes) == 1 < len(files):  # a test split: the server alone has the other rows
        boxes = _padded(boxes, len(files))
        polygons = None if polygons is None else _padded(polygons, len(files))
        visible = None
    count = min(len(files), len(boxes))
    if count == 0:
        raise DatasetError(f"{entry.folder} has no frame numbered {part[0]} to {part[1]}" if part else "no frames")
    if len(files) != len(boxes):
        kept = "the first rows" if len(files) < len(boxes) else "the first frames"
        notes.append(f"{len(files)} frames but {len(boxes)} rows in {entry.truth.name}; {kept}, {count}, are used")
    if polygons is not None:
        polygons = polygons[:count]
    first = OTB_FIRST.get(key, 0) if entry.format == "otb" and count > OTB_FIRST.get(key, 0) else 0
    return Sequence(
        entry.name,
        entry.format,
        tuple(files[:count]),
        boxes[:count],
        polygons,
        None if visible is None else visible[:count],
        first=first,
        notes=tuple(notes),
        video=entry.folder.name,
    )


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows of NaN below, so that there are `count`."""
    return np.vstack([rows, np.full((count - len(rows), rows.shape[1]), np.nan)])


def _tc128_range(entry: Entry) -> tuple[int, int] | None:
    """First and last frame number from NAME_frames.txt, None where there is no such file."""
    file = entry.truth.with_name(entry.truth.name.replace("_gt.txt", "_frames.txt"))
    if not file.is_file():
        return None
    try:
        numbers = read_numbers(file).ravel()
    except (OSError, ValueError) as error:
        raise DatasetError(f"frame range cannot be read: {error}") from None
    if len(numbers) != 2 or not np.isfinite(numbers).all():
        raise DatasetError(f"{file}: expected the numbers of the first and the last frame, got {len(numbers)} numbers")
    return int(numbers[0]), int(numbers[1])


def _visible(entry: Entry, count: int) -> np.ndarray | None:
    """Which rows show their target, (count,) bool; None where the format has no such labels.

    From GOT-10k's cover.label (0: hidden), LaSOT's two files (1: hidden), NUS-PRO's occlusion.txt (2: wholly hidden).
    """
    if entry.format == "got10k":
        files = [entry.folder / "cover.label"]
    elif entry.format == "lasot":
        files = [entry.folder / "full_occlusion.txt", entry.folder / "out_of_view.txt"]
    elif entry.format == "nuspro":
        files = [entry.folder / "occlusion.txt"]
    else:
        return None
    visible = np.ones(count, bool)
    for file in files:
        if not file.is_file():
            continue
        try:
            values = read_numbers(file).ravel()  # LaSOT: one row of all frames; GOT-10k: a row a frame
        except ValueError as error:
            raise DatasetError(f"labels cannot be read: {error}") from None
        if len(values) != count:
            raise DatasetError(f"{file}: expected a label for each of {count} rows of ground truth, got {len(values)}")
        visible &= {"got10k": values > 0, "lasot": values == 0, "nuspro": values < 2}[entry.format]
    return visible


def frame_number(path: Path) -> int | None:
    """The last number in a frame's file name, its place in time (img/0042.jpg: 42), or None."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def _read_attributes(root: Path, file: str | os.PathLike[str] | None) -> dict[str, list[str]]:
    path = root / ATTRIBUTES_FILE if file is None else Path(file)
    if file is None and not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: [str(word) for word in words] for name, words in table.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DatasetError(f'{path}: expected JSON like {{"David": ["IV", "SV"]}} ({error})') from None


def _folder_attributes(folder: Path) -> list[str]:
    """attrs.txt of OTB's Python toolkit: words parted by commas."""
    path = folder / "attrs.txt"
    return re.findall(r"[A-Za-z]+", path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
