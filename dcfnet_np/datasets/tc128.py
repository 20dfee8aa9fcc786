"""TempleColor128: img/, NAME_gt.txt, NAME_frames.txt (the first and the last frame); counts from 1.

Source: Liang, Blasch and Ling, "Encoding color information for visual tracking", 2015, and its
data's folders.
"""

from pathlib import Path

import numpy as np

from ..support.words import counted
from ..vision.box_files import read_numbers
from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, files_in


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder."""
    truths = files_in(folder, "*_gt.txt")[:1]
    return [Entry(folder.resolve().name, "tc128", folder, truth) for truth in truths]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    file, part = entry.truth.with_name(entry.truth.name.replace("_gt.txt", "_frames.txt")), None
    if file.is_file():
        numbers = read_numbers(file).ravel()
        if len(numbers) != 2 or not np.isfinite(numbers).all():
            wanted = "the numbers of the first and the last frame"
            raise ValueError(f"{file}: expected {wanted}, got {counted(len(numbers), 'number')}")
        part = int(numbers[0]), int(numbers[1])
    return [make_sequence(entry, files, read_truth(entry.truth, origin=1), part=part)]
