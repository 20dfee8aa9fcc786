"""Result files of this and of other tools: which of them is a sequence's, and the boxes in it.

A file holds a row for each frame:

    SEQUENCE.txt    x,y,w,h from 1, as OTB has it; a fifth number is a confidence, eight are the
                    corners of a polygon.  VOT's: 1 where the tracker was started, 2 where it
                    failed, 0 where it has no box, else boxes or polygons from 0
    SEQUENCE.mat    what OTB's toolkit writes: results{1}.res of type rect, from 1
    SEQUENCE.csv    columns x, y, w, h from 0, in the order of a column `frame` where there is one
    SEQUENCE.json   a list of objects with these names

Toolkits also write SEQUENCE/SEQUENCE_001.txt and SEQUENCE_TRACKER.mat, and each spells names in its
own way: Jogging-1, jogging_1, Jogging.1.
"""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import datasets
from ..support.words import counted
from ..vision.box_files import BOX_SUFFIXES, LARGEST, read_numbered_boxes, read_numbers, split_rows
from ..vision.boxes import from_otb, polygon_to_box
from ..weights.mat import read_mat
from .protocols import Segment, Trajectory
from .rules import Rules
from .vot import BOX, FAILED, STARTED, UNKNOWN

SUFFIXES = (*BOX_SUFFIXES, ".mat")
CODES = (UNKNOWN, STARTED, FAILED)
FIRST_RUN = "_001"  # toolkits repeat the runs of a random tracker, and score the first
NO_BOX = (0.0, 0.0, 0.0, 0.0)  # a segment's box, which scoring does not look at


class Run(NamedTuple):
    """What a tracker did in a segment of a sequence, and the file that says so."""

    sequence: datasets.Sequence
    segment: Segment
    found: Trajectory
    file: Path

    def start_by(self, rules: Rules) -> "Run":
        """Without the first frames where the rules, or the tool that made the file, leave them out.

        Of a run over all frames.
        """
        left_out = bool(np.isnan(self.found.boxes[0]).any())
        start = self.sequence.first if rules.omit_initial or left_out else 0
        found = Trajectory(*(values[start:] for values in self.found))
        return self._replace(segment=Segment("", start, NO_BOX), found=found)


def find_trackers(result: Path, sequences: Sequence[datasets.Sequence]) -> dict[str, list[Run]]:
    """The runs of one tracker, or of one in each folder of `result`, by the name of file or folder.

    Raises ValueError as `find_results` does.
    """
    folders = [result]
    if result.is_dir() and not _match(_candidates(result), sequences):
        inside = sorted(path for path in result.iterdir() if path.is_dir())
        folders = [path for path in inside if _candidates(path)] or folders
    return {
        (path.resolve().name if path.is_dir() else path.stem): find_results(path, sequences)
        for path in folders
    }


def find_results(result: Path, sequences: Sequence[datasets.Sequence]) -> list[Run]:
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
    runs = []
    for sequence in sequences:
        if path := files.get(sequence.name):
            runs.append(Run(sequence, Segment("", 0, NO_BOX), read_result(path, sequence), path))
    return runs


def _candidates(folder: Path) -> list[tuple[str, Path]]:
    """(name, file) for all that may be a result: SEQUENCE.txt and SEQUENCE/SEQUENCE_001.txt."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [(path.stem.removesuffix(f"_{folder.name}"), path) for path in files]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        stems = (inner.name, inner.name + FIRST_RUN)
        found += [(inner.name, path) for path in sorted(inner.iterdir()) if path.stem in stems]
    return [(name, path) for name, path in found if path.suffix.lower() in SUFFIXES]


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
    elif path.suffix.lower() == ".mat":
        boxes = _read_mat(path)
        states = unsupervised_states(len(boxes))
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


def is_supervised(found: Trajectory) -> bool:
    """Whether a tracker was started again after failures, as in VOT's supervised experiment."""
    return bool((found.states == FAILED).any() or (found.states == STARTED).sum() > 1)


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


def _read_mat(path: Path) -> np.ndarray:
    """The boxes of the first run in a file of OTB's toolkit, (n, 4), 0-based."""
    try:
        runs = read_mat(path.read_bytes()).get("results")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    first = runs[0] if isinstance(runs, list) and runs else runs
    kind, rows = (first.get("type"), first.get("res")) if isinstance(first, dict) else ("", None)
    if kind != "rect" or not isinstance(rows, np.ndarray) or rows.shape[1:] != (4,):
        wanted = "results{1}.res of x,y,w,h rows and results{1}.type 'rect'"
        raise ValueError(f"{path}: expected {wanted}, as OTB's toolkit writes them")
    boxes = from_otb(rows.astype(float))
    boxes[(abs(boxes) > LARGEST).any(axis=1)] = np.nan
    return boxes


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
