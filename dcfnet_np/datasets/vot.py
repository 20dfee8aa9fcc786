"""VOT: groundtruth.txt (or groundtruth_poly.txt) of boxes, polygons or masks; counts from 0.

A folder with groundtruth.txt and no mark of another data set is read like this.  Source: the VOT
toolkit, https://github.com/votchallenge/toolkit, vot/region/io.py.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder."""
    truths = [
        path
        for name in ("groundtruth.txt", "groundtruth_poly.txt")
        if (path := folder / name).is_file()
    ]
    return [Entry(folder.resolve().name, "vot", folder, truth) for truth in truths[:1]]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    return [make_sequence(entry, files, read_truth(entry.truth, origin=0))]
