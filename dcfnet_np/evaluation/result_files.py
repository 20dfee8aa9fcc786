"""Result files of this and of other tools: which of them is a sequence's, and the boxes in it.

A file holds a row for each frame:

    SEQUENCE.txt    x,y,w,h from 1, as OTB has it; a fifth number is a confidence, eight are the
                    corners of a polygon.  VOT's: 1 where the tracker was started, 2 where it
                    failed, 0 where it has no box, else boxes or polygons from 0
    SEQUENCE.csv    columns x, y, w, h from 0, in the order of a column `frame` where there is one
    SEQUENCE.json   a list of objects with these names

Toolkits also write SEQUENCE/SEQUENCE_001.txt, and each spells names in its own way: Jogging-1,
jogging_1, Jogging.1.
"""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import datasets
from ..support.words import counted
from ..vision.box_files import BOX_SUFFIXES, LARGEST, read_numbered_boxes, read_numbers, split_rows
from ..vision.boxes import from_otb, polygon_to_box
from .protocols import Trajectory
from .vot import BOX, FAILED, STARTED, UNKNOWN

CODES = (UNKNOWN, STARTED, FAILED)
FIRST_RUN = "_001"  # toolkits repeat the runs of a random tracker, and score the first

Pair = tuple[datasets.Sequence, Trajectory]  # a sequence and a tracker's boxes for all its frames


def find_results(result: Path, sequences: Sequence[datasets.Sequence]) -> list[Pair]:
    """The sequences that a result file, or a folder of them, has boxes for, with these boxes.

    Raises ValueError when no file fits a sequence, when two fit the same one, or when a file is
    damaged or has another number of rows than its sequence has frames.
    """
    first = sequences[0].name
    if result.is_dir():
        files = _match(_candidates(result), sequences)
        if not files:
            names = f"{first}.txt or {first}/{first}{FIRST_RUN}.txt"
            raise ValueError(f"{result} has no file named like a sequence, such as {names}")
    else:
        files = _match([(result.stem, result)], sequences)
        if not files and len(sequences) > 1:
            advice = f"rename it, as {first}{result.suffix} is named"
            raise ValueError(
                f"{result} is named like none of the {len(sequences)} sequences; {advice}"
            )
        files = files or {first: result}
    return [(each, read_result(files[each.name], each)) for each in sequences if each.name in files]


def _candidates(folder: Path) -> list[tuple[str, Path]]:
    """(name, file) for all that may be a result: SEQUENCE.txt and SEQUENCE/SEQUENCE_001.txt."""
    found = [(path.stem, path) for path in sorted(folder.iterdir()) if path.is_file()]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        stems = (inner.name, inner.name + FIRST_RUN)
        found += [(inner.name, path) for path in sorted(inner.iterdir()) if path.stem in stems]
    return [(name, path) for name, path in found if path.suffix.lower() in BOX_SUFFIXES]


def _spelling(name: str) -> str:
    return re.sub(r"[-_. ]+", ".", name).lower()


def _is_second_target(name: str, sequence: datasets.Sequence) -> bool:
    """Of Human4 OTB has the second target alone, which toolkits call Human4-2."""
    stem, number = _spelling(name)[:-2], _spelling(name)[-2:]
    same = sequence.format == "otb" and stem == _spelling(sequence.name)
    return same and re.fullmatch(r"\.\d", number) is not None


# How a file's name may be a sequence's, the surest first.
_FITS: tuple[Callable[[str, datasets.Sequence], bool], ...] = (
    lambda name, sequence: name == sequence.name,
    lambda name, sequence: _spelling(name) == _spelling(sequence.name),
    lambda name, sequence: _spelling(name.removesuffix(FIRST_RUN)) == _spelling(sequence.name),
    _is_second_target,
)


def _match(left: list[tuple[str, Path]], sequences: Sequence[datasets.Sequence]) -> dict[str, Path]:
    """File by name of sequence.  ValueError where that is not clear."""
    found: dict[str, Path] = {}
    for fits in _FITS:
        owners: dict[Path, str] = {}
        for sequence in sequences:
            if sequence.name in found:
                continue
            files, own = [path for name, path in left if fits(name, sequence)], sequence.name
            if len(files) > 1:
                raise ValueError(f"{files[0]} and {files[1]} are both named like {own}; keep one")
            for file in files:
                if file in owners:
                    both = f"both {owners[file]} and {own}"
                    raise ValueError(f"{file} is named like {both}; rename it")
                owners[file] = own
        found |= {name: file for file, name in owners.items()}
        left = [(name, path) for name, path in left if path not in owners]
    return found


def read_result(path: Path, sequence: datasets.Sequence) -> Trajectory:
    """The boxes of one file, a row for each frame of its sequence, 0-based; times are NaN.

    They are NaN where the tracker had none, and in the frames before `sequence.first` where the run
    left these out, as OTB's toolkit does.
    Raises ValueError for a damaged file and for another number of rows.
    """
    if path.suffix.lower() == ".txt":
        boxes, states = _read_text(path)
    else:
        boxes, states = _read_table(path, sequence)
    if len(boxes) == len(sequence) - sequence.first:
        boxes = np.vstack([np.full((sequence.first, 4), np.nan), boxes])
        states = np.concatenate([np.full(sequence.first, UNKNOWN, np.int8), states])
    if len(boxes) != len(sequence):
        frames = f"{sequence.name} has {counted(len(sequence), 'frame')}"
        raise ValueError(f"{path} has {counted(len(boxes), 'row')}, {frames}")
    given = (states == STARTED) & np.isnan(boxes).all(axis=1)
    boxes[given] = sequence.boxes[given]
    nothing = np.full(len(boxes), np.nan)
    return Trajectory(boxes, nothing, nothing, states)


def is_supervised(result: Trajectory) -> bool:
    """Whether a tracker was started again after failures, as in VOT's supervised experiment."""
    return bool((result.states == FAILED).any() or (result.states == STARTED).sum() > 1)


def unsupervised_states(count: int) -> np.ndarray:
    """States (n,) of a run that was started once: STARTED, then BOX."""
    states = np.full(count, BOX, np.int8)
    states[:1] = STARTED
    return states


def _read_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if any(len(words) == 1 for _, words in split_rows(path)):
        return read_vot(path)
    rows = read_numbers(path)
    columns = rows.shape[1]
    counts = np.isin(rows[:, 0] - np.arange(len(rows)), (0, 1)).all()
    if columns > 4 and len(rows) > 1 and counts:
        what = f"the first of {columns} numbers counts the frames"
        raise ValueError(f"{path}: {what}; leave that column out")
    if columns not in (4, 5, 8):
        wanted = "4 numbers a row, 5 with a confidence or 8 of a polygon"
        raise ValueError(f"{path}: expected {wanted}, got {columns}")
    boxes = from_otb(polygon_to_box(rows) if columns == 8 else rows[:, :4])
    return boxes, unsupervised_states(len(boxes))


def _read_table(path: Path, sequence: datasets.Sequence) -> tuple[np.ndarray, np.ndarray]:
    """A .csv or .json file, in the order of its frames."""
    numbers, boxes = read_numbered_boxes(path)
    if numbers is not None:
        try:
            frames = np.array([int(number) for number in numbers])
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{path}: the column frame must hold whole numbers") from None
        order = np.argsort(frames)
        frames, boxes = frames[order], boxes[order]
        for before, after in itertools.pairwise(frames):
            if after != before + 1:
                what = f"two rows for frame {after}"
                what = what if after == before else f"no row for frame {before + 1}"
                raise ValueError(f"{path} has {what}; a result needs one for every frame")
        start = len(sequence) - len(boxes)
        if start in (0, sequence.first) and frames[0] not in (start, start + 1):
            begins = f"{path} begins at frame {frames[0]}"
            raise ValueError(f"{begins}, {sequence.name} at frame {start}")
    return boxes, unsupervised_states(len(boxes))


def read_vot(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A VOT result file: boxes (n, 4), NaN where there is none, and states (n,).  0-based.

    A row is one of VOT's codes, a box, four nan for none, or a polygon, whose smallest upright box
    is taken.  Empty lines are skipped.
    Raises ValueError, naming file and line.
    """
    boxes, states = [], []
    for where, words in split_rows(path):
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if not words:
            continue
        if len(values) == 4 and all(map(math.isnan, values)):
            values = [UNKNOWN]
        is_box = len(values) == 4 or (len(values) > 4 and len(values) % 2 == 0)
        is_box = is_box and all(abs(value) <= LARGEST for value in values)
        if not is_box and not (len(values) == 1 and values[0] in CODES):
            got = " ".join(words)[:60]
            raise ValueError(f"{where}: expected 0, 1, 2 or four numbers, got {got!r}")
        if len(values) > 4:
            values = polygon_to_box(values).tolist()
        boxes.append(values if is_box else [np.nan] * 4)
        states.append(BOX if is_box else int(values[0]))
    return np.array(boxes, float).reshape(-1, 4), np.array(states, np.int8)
