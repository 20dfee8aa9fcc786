"""What is wrong with a copy of a data set."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..vision.images import SourceError
from .layouts import find_sequences, read_entry
from .sequence import DatasetError, Entry, Sequence, folders_in, frame_number, frames_of


@dataclass(frozen=True)
class Problem:
    """Something wrong with a copy of a sequence; `fatal` when it cannot be evaluated."""

    sequence: str
    text: str
    fatal: bool = True


def check_dataset(
    root: str | os.PathLike[str], names: list[str] | None = None, decode: bool = False
) -> Iterator[Problem]:
    """Problems of a copy of a data set, sequence by sequence.

    decode: decode every frame, not only the first and the last of each sequence.
    Raises DatasetError when there is no data set at all.
    """
    entries = find_sequences(root)
    yield from _bare_folders(Path(root), entries)
    seen: set[str] = set()
    for entry in entries:
        if names is not None and not any(map(entry.holds, names)):
            continue
        try:
            sequences = read_entry(entry)
        except DatasetError as error:
            yield Problem(entry.name, str(error))
            continue
        for sequence in sequences:
            name = sequence.name
            if names is not None and name not in names:
                continue
            if name in seen:
                yield Problem(name, f"another sequence has the name of {entry.folder}; rename one")
            seen.add(name)
            for text, fatal in _problems_of_rows(sequence):
                yield Problem(name, text, fatal)
            yield from _problems_of_frames(sequence, decode)


def _bare_folders(root: Path, entries: list[Entry]) -> Iterator[Problem]:
    """Folders of frames without ground truth."""
    known = {folder for entry in entries for folder in (entry.folder, *entry.folder.parents)}
    for folder in folders_in(root):
        if folder not in known and frames_of(folder):
            yield Problem(folder.name, f"{folder} has frames but no ground truth")


def _problems_of_rows(sequence: Sequence) -> Iterator[tuple[str, bool]]:
    """(text, fatal) of what the ground truth and the frames' names tell."""
    for note in sequence.notes:
        yield note, False
    absent = np.isnan(sequence.boxes).any(axis=1)
    later = np.flatnonzero(absent[1:]) + 1
    if absent[0]:
        nothing = "there is nothing to start from"
        yield f"the first row has no box of positive size: {nothing}", True
    elif 0 < len(later) == len(absent) - 1:
        yield "only the first frame has a box: there is nothing to score by", False
    if 0 < len(later) < len(absent) - 1:
        yield f"no target, or no positive width and height, in {_rows(later)}", False
    numbers = [frame_number(path) for path in sequence.frames]
    if None not in numbers and sequence.format != "uav123":
        gaps = np.flatnonzero(np.diff(np.array(numbers, float)) != 1)
        if gaps.size:
            after = sequence.frames[gaps[0]].name
            yield f"gaps in the frame numbers: {gaps.size}, the first after {after}", False


def _problems_of_frames(sequence: Sequence, decode: bool) -> Iterator[Problem]:
    """Frames that do not decode or have another size."""
    size = None
    for index in range(len(sequence)) if decode else sorted({0, len(sequence) - 1}):
        try:
            height, width = sequence.frame(index).shape[:2]
        except SourceError as error:
            yield Problem(sequence.name, str(error))
            continue
        size = size or (width, height)
        if (width, height) != size:
            here, first = f"{width}x{height} pixels", f"{size[0]}x{size[1]}"
            text = f"{sequence.frames[index].name} is {here}, the first frame {first}"
            yield Problem(sequence.name, text)


def _rows(indices: np.ndarray) -> str:
    """Rows of a file in words, counted from 1: "row 3", "rows 3, 4, 5, 6, ... (20 in all)"."""
    shown = ", ".join(str(index + 1) for index in indices[:4])
    more = f", ... ({len(indices)} in all)" if len(indices) > 4 else ""
    return f"row{'s' if len(indices) > 1 else ''} {shown}{more}"
