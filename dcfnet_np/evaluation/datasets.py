"""Readers of the field's data sets, and a check of a copy.

A sequence is a folder of frames with ground truth; its format is known by its files:

    otb     img/ and groundtruth_rect.txt, or groundtruth_rect.1.txt, .2.txt, ... for several targets     from 1
    vot     groundtruth.txt of boxes or polygons beside the frames, in color/ or in img/                    from 0
    got10k  groundtruth.txt beside the frames, with meta_info.ini or *.label                                from 1
    lasot   img/, groundtruth.txt, full_occlusion.txt and out_of_view.txt; folders of classes above it      from 1
    uav123  ROOT/anno/UAV123/NAME.txt and ROOT/data_seq/UAV123/FOLDER/, one folder for several sequences    from 1

A plain folder with any of these ground truth files is read as OTB's or VOT's.  The last column says where boxes are
counted from in the files; everything that leaves this module counts from 0.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..vision.boxes import from_otb, polygon_to_box, read_numbers
from ..vision.sources import FRAME_FOLDERS, SourceError, image_files, natural_order, read_image

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

ATTRIBUTES_FILE = "attributes.json"


class DatasetError(ValueError):
    """A data set or a sequence cannot be read.  One line: what, where, what to do."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one video.

    frames: image files, as many as boxes.  boxes: (n, 4) float64, 0-based, NaN where there is no target.
    polygons: (n, 8) where the data set has them (VOT), else None.  visible: (n,) bool from the data set's labels, else
    None.  first: where OTB's toolkit starts.  notes: what was done to make frames and rows fit.
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

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> np.ndarray:
        """Decode one frame: (height, width, 3) uint8 BGR.  SourceError when it cannot be had."""
        return read_image(self.frames[index], index + 1)

    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the first frame, which is decoded for it."""
        height, width = self.frame(0).shape[:2]
        return width, height


@dataclass(frozen=True)
class Problem:
    """Something wrong with a copy of a sequence; `fatal` when it cannot be evaluated."""

    sequence: str
    text: str
    fatal: bool = True


class _Entry:
    """A sequence that is known by name and not read yet."""

    def __init__(self, name: str, format: str, folder: Path, truth: Path, part: tuple[int, int] | None = None) -> None:
        self.name, self.format, self.folder, self.truth, self.part = name, format, folder, truth, part


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
    entries = {entry.name: entry for entry in _entries(root)}
    if names is not None:
        missing = [name for name in names if name not in entries]
        if missing:
            known = ", ".join(list(entries)[:8]) + (", ..." if len(entries) > 8 else "")
            raise DatasetError(f"{root} has no sequence {', '.join(missing)}; it has {known}")
        entries = {name: entries[name] for name in names}
    tables = _read_attributes(root, attributes)
    found = []
    for entry in entries.values():
        sequence = _read(entry)
        known_attributes = tables.get(entry.name) or _folder_attributes(entry.folder)
        found.append(dataclasses.replace(sequence, attributes=tuple(known_attributes)))
    return found


def check(root: str | os.PathLike[str], names: list[str] | None = None, decode: bool = False) -> Iterator[Problem]:
    """Problems of a copy of a data set, sequence by sequence.

    decode: decode every frame, not only the first and the last of each sequence.
    Raises DatasetError when there is no data set at all.
    """
    root = Path(root)
    entries = _entries(root)
    listed = root / "list.txt"
    if listed.is_file():
        there = {entry.name for entry in entries}
        for name in listed.read_text(encoding="utf-8").split():
            if name not in there:
                yield Problem(name, f"{listed} names it, but there is no such folder with ground truth")
    for empty in sorted(path for path in root.iterdir() if path.is_dir() and image_files(path / "img")):
        if not any(entry.folder == empty for entry in entries):
            yield Problem(empty.name, f"{empty} has frames but no ground truth that is not empty")
    for entry in entries:
        if names is not None and entry.name not in names:
            continue
        try:
            sequence = _read(entry)
        except DatasetError as error:
            yield Problem(entry.name, str(error))
            continue
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
    numbers = [_number(path) for path in sequence.frames]
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


def _entries(root: Path) -> list[_Entry]:
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; give the data set's folder, or that of one sequence")
    entries = _uav123_entries(root) or _folder_entries(root)
    if not entries:
        for folder in _folders(root):
            # LaSOT has a folder of classes between.
            entries += _folder_entries(folder) or [e for inner in _folders(folder) for e in _folder_entries(inner)]
    if not entries:
        raise DatasetError(
            f"{root} holds no sequences; expected folders with groundtruth_rect.txt or groundtruth.txt and frames"
        )
    return entries


def _folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_order)


def _folder_entries(folder: Path) -> list[_Entry]:
    """The sequences of one folder: none, one, or one for each target."""
    name = folder.resolve().name
    targets = sorted(folder.glob("groundtruth_rect.*.txt"), key=natural_order)
    single = folder / "groundtruth_rect.txt"
    truths = [path for path in [single, *targets] if path.is_file() and path.read_bytes().strip()]
    if truths:  # an empty file is a target that was given up, as in Human4
        names = [name] if len(truths) == 1 else [f"{name}.{number}" for number in range(1, len(truths) + 1)]
        return [_Entry(each, "otb", folder, path) for each, path in zip(names, truths)]
    for truth in (folder / "groundtruth.txt", folder / "groundtruth_poly.txt"):
        if truth.is_file():
            return [_Entry(name, _format(folder), folder, truth)]
    return []


def _format(folder: Path) -> str:
    """The format of a folder with groundtruth.txt."""
    if (folder / "meta_info.ini").is_file() or (folder / "absence.label").is_file():
        return "got10k"
    if (folder / "full_occlusion.txt").is_file() or (folder / "nlp.txt").is_file():
        return "lasot"
    return "vot"


def _uav123_entries(root: Path) -> list[_Entry]:
    entries = []
    for truth in sorted((root / "anno" / "UAV123").glob("*.txt"), key=natural_order):
        name, _, number = truth.stem.partition("_")
        parts = UAV123_PARTS.get(name, [])
        frames = root / "data_seq" / "UAV123"
        if number.isdigit() and 1 <= int(number) <= len(parts):
            entries.append(_Entry(truth.stem, "uav123", frames / name, truth, parts[int(number) - 1]))
        else:
            entries.append(_Entry(truth.stem, "uav123", frames / truth.stem, truth))
    return entries


# --- reading a sequence -----------------------------------------------------------------------------------


def _read(entry: _Entry) -> Sequence:
    files = next((found for sub in FRAME_FOLDERS if (found := image_files(entry.folder / sub))), [])
    if not files:
        raise DatasetError(f"{entry.folder} holds no images, neither directly nor in img/ or color/")
    try:
        rows = read_numbers(entry.truth, blank_rows=True)
    except (OSError, ValueError) as error:
        raise DatasetError(f"ground truth cannot be read: {error}") from None
    if rows.shape[1] not in (4, 8):
        raise DatasetError(f"{entry.truth}: expected 4 or 8 numbers a row, got {rows.shape[1]}")
    polygons = rows if rows.shape[1] == 8 else None
    boxes = polygon_to_box(rows) if polygons is not None else rows
    if entry.format != "vot":
        boxes = from_otb(boxes)
        polygons = None if polygons is None else polygons - 1.0
    visible = _visible(entry, len(boxes))

    notes = []
    key = entry.folder.name.lower()
    part = entry.part
    if entry.format == "otb" and len(files) > len(boxes):
        part = OTB_RANGES.get(key)
    if part is not None:
        files = [path for path in files if (n := _number(path)) is not None and part[0] <= n <= part[1]]
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
    )


def _visible(entry: _Entry, count: int) -> np.ndarray | None:
    """GOT-10k's cover.label (0: hidden) or LaSOT's two files (1: hidden), (count,) bool; None where there are none."""
    if entry.format == "got10k":
        files = [entry.folder / "cover.label"]
    elif entry.format == "lasot":
        files = [entry.folder / "full_occlusion.txt", entry.folder / "out_of_view.txt"]
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
        visible &= values > 0 if entry.format == "got10k" else values == 0
    return visible


def _number(path: Path) -> int | None:
    """The last run of digits in a frame's name."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def _read_attributes(root: Path, file: str | os.PathLike[str] | None) -> dict[str, list[str]]:
    path = root / ATTRIBUTES_FILE if file is None else Path(file)
    if file is None and not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: [str(word) for word in words] for name, words in table.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f'{path}: expected JSON like {{"David": ["IV", "SV"]}} ({error})') from None


def _folder_attributes(folder: Path) -> list[str]:
    """attrs.txt of OTB's Python toolkit: words parted by commas."""
    path = folder / "attrs.txt"
    return re.findall(r"[A-Za-z]+", path.read_text(encoding="utf-8")) if path.is_file() else []
