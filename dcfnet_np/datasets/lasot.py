"""LaSOT: img/, groundtruth.txt, full_occlusion.txt and out_of_view.txt (1: hidden); counts from 1.

Source: https://github.com/HengLan/LaSOT_Evaluation_Toolkit.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, entry_of_folder

LABELS = ("full_occlusion.txt", "out_of_view.txt")


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder."""
    return entry_of_folder(folder, "lasot", "groundtruth.txt", (*LABELS, "nlp.txt"))


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    labels = dict.fromkeys(LABELS, lambda hidden: hidden == 0)
    return [make_sequence(entry, files, read_truth(entry.truth, origin=1), labels)]
