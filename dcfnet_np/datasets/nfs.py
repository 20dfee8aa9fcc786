"""Need for Speed: 30/NAME.txt and 30/NAME/, likewise 240, in a folder for each video; from 0.

A row has VATIC's columns: track, x1, y1, x2, y2, frame, lost, occluded, generated, "label"; there
is no target where `lost` is 1.  Source: https://github.com/cvondrick/vatic, readme, which counts
frames from 0, and the GOT-10k toolkit 0.1.3, got10k/datasets/nfs.py: where there are eight rows a
frame, every eighth is taken, and one row too many or too few does not matter.
"""

from pathlib import Path

import numpy as np

from ..support.files import read_text
from ..support.words import counted
from ..vision.box_files import parse_numbers
from .rows import Truth, make_sequence
from .sequence import Entry, Sequence, files_in

RATES = ("30", "240")  # frames a second


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder; where both rates are there, NAME.30 and NAME.240."""
    rates = [folder] if folder.name in RATES else [folder / rate for rate in RATES]
    truths = [path for rate in rates for path in files_in(rate, "*.txt")]
    truths = [path for path in truths if path.with_suffix("").is_dir()]
    twice = len({path.stem for path in truths}) < len(truths)
    names = [f"{path.stem}.{path.parent.name}" if twice else path.stem for path in truths]
    return [Entry(name, "nfs", path.with_suffix(""), path) for name, path in zip(names, truths)]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    rows = _read_rows(entry.truth)
    if abs(len(rows) / len(files) - 8) < 1:
        rows = rows[::8]
    if abs(len(rows) - len(files)) == 1:
        count = min(len(rows), len(files))
        rows, files = rows[:count], files[:count]
    boxes = np.hstack([rows[:, 1:3], rows[:, 3:5] - rows[:, 1:3]])
    boxes[(rows[:, 6] == 1) | (boxes[:, 2:] <= 0).any(axis=1)] = np.nan
    return [make_sequence(entry, files, Truth(boxes))]


def _read_rows(path: Path) -> np.ndarray:
    """The nine numbers of each row, (n, 9)."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words, where = line.split()[:9], f"{path}, line {number}"  # the label may have blanks in it
        if 0 < len(words) < 9:
            raise ValueError(
                f"{where}: expected nine numbers and a label, got {counted(len(words), 'word')}"
            )
        if words:
            rows.append(parse_numbers(words, where))
    if (count := len({row[0] for row in rows})) != 1:
        raise ValueError(f"{path}: expected the rows of one track, got {count} tracks")
    return np.array(rows)
