"""What is wrong with a copy of a data set."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import read_text
from ..vision.images import SourceError
from .layouts import find_sequences, read_entry
from .sequence import DatasetError, Sequence, folders_in, frame_number, frames_of


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
    root = Path(root)
    entries = find_sequences(root)
    listed = root / "list.txt"
    if listed.is_file():
        # Jogging: Jogging.1
        there = {name for entry in entries for name in (entry.name, entry.folder.resolve().name)}
        try:
            missing = [name for name in read_text(listed).split() if name not in there]
        except (OSError, ValueError) as error:
            yield Problem(listed.name, str(error))
            missing = []
        for name in missing:
            yield Problem(
                name[:60], f"{listed} names it, but there is no such folder with ground truth"
            )
    for folder in folders_in(root):
        if frames_of(folder) and not any(
            folder in (entry.folder, *entry.folder.parents) for entry in entries
        ):
            yield Problem(folder.name, f"{folder} has frames but no ground truth")
    seen: set[str] = set()
    for entry in entries:
        if names is not None and not any(entry.holds(name) for name in names):
            continue
        try:
            sequences = read_entry(entry)
        except DatasetError as error:
            yield Problem(entry.name, str(error))
            continue
        for sequence in sequences:
            if names is None or sequence.name in names:
                if sequence.name in seen:
                    yield Problem(
                        sequence.name,
                        f"another sequence has the name of {entry.folder}; rename one",
                    )
                seen.add(sequence.name)
                yield from _check_sequence(sequence, decode)


def _check_sequence(sequence: Sequence, decode: bool) -> Iterator[Problem]:
    for note in sequence.notes:
        yield Problem(sequence.name, note, fatal=False)
    boxes = sequence.boxes
    absent = np.isnan(boxes).any(axis=1)
    if absent[0]:
        yield Problem(
            sequence.name,
            "the first row has no box of positive size: there is nothing to start from",
        )
    elif len(absent) > 1 and absent[1:].all():
        yield Problem(
            sequence.name,
            "only the first frame has a box: there is nothing to score by",
            fatal=False,
        )
    if absent[1:].any() and not absent[1:].all():
        rows = _rows(np.flatnonzero(absent[1:]) + 1)
        yield Problem(
            sequence.name, f"no target, or no positive width and height, in {rows}", fatal=False
        )
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
            here, first = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, size))
            text = f"{sequence.frames[index].name} is {here} pixels, the first frame {first}"
            yield Problem(sequence.name, text)
        size = size or frame.shape[:2]
    if size is None:
        return
    height, width = size
    with np.errstate(invalid="ignore"):
        outside = (
            (boxes[:, 0] >= width)
            | (boxes[:, 1] >= height)
            | (boxes[:, :2] + boxes[:, 2:] <= 0).any(axis=1)
        )
    if outside.any():
        yield Problem(
            sequence.name,
            f"the box lies outside the frame in {_rows(np.flatnonzero(outside))}",
            fatal=False,
        )


def _rows(indices: np.ndarray) -> str:
    """Rows of a file in words, counted from 1: "row 3", "rows 3, 4, 5, 6, ... (20 in all)"."""
    shown = ", ".join(str(index + 1) for index in indices[:4])
    more = f", ... ({len(indices)} in all)" if len(indices) > 4 else ""
    return f"row{'s' if len(indices) > 1 else ''} {shown}{more}"
