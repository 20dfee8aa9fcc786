"""GOT-10k: groundtruth.txt beside the frames, with meta_info.ini or labels; counts from 1.

cover.label: 0 where the target is hidden.  absence.label: 1 where it is not in the frame.  The test
split has the first row only.  Source: the GOT-10k toolkit 0.1.3, got10k/datasets/got10k.py.
"""

import re
from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, entry_of_folder

LABELS = {"cover.label": lambda cover: cover > 0, "absence.label": lambda absent: absent == 0}


def find_entries(folder: Path) -> list[Entry]:
    """The sequence of a folder; one of the test split may be known by its name alone."""
    known = re.fullmatch(r"GOT-10k_(Train|Val|Test)_\d+", folder.resolve().name)
    marks = () if known else ("meta_info.ini", *LABELS)
    return entry_of_folder(folder, "got10k", "groundtruth.txt", marks)


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    return [make_sequence(entry, files, read_truth(entry.truth, origin=1), LABELS)]
