"""VOT: groundtruth.txt (or groundtruth_poly.txt) of boxes, polygons or masks; counts from 0.

A folder with groundtruth.txt and no mark of another data set is read like this.  Source: the VOT
toolkit, https://github.com/votchallenge/toolkit, vot/region/io.py.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, entry_of_folder


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder."""
    names = "groundtruth.txt", "groundtruth_poly.txt"
    return next((found for name in names if (found := entry_of_folder(folder, "vot", name))), [])


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    return [make_sequence(entry, files, read_truth(entry.truth, origin=0))]
