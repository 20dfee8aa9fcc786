"""NUS-PRO: groundtruth.txt of corners x1 y1 x2 y2 beside the frames, with occlusion.txt; from 1.

occlusion.txt: 0 visible, 1 partly hidden, 2 wholly hidden.  Source: Li, Lin, Wu, Yang and Yan,
"NUS-PRO: a new visual tracking challenge", 2016, and the readme of its data.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, entry_of_folder

LABELS = {"occlusion.txt": lambda hidden: hidden < 2}


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder, which occlusion.txt or the list in the folder above marks."""
    marks = () if (folder.parent / "seq_list_with_gt.csv").is_file() else tuple(LABELS)
    return entry_of_folder(folder, "nuspro", "groundtruth.txt", marks)


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    truth = read_truth(entry.truth, origin=1, corners=True)
    return [make_sequence(entry, files, truth, LABELS)]
