"""TrackingNet: anno/NAME.txt and frames/NAME/ in TRAIN_0 to TRAIN_11 and TEST; counts from 0.

TEST has the first row only.  Source: https://github.com/SilvioGiancola/TrackingNet-devkit, which
states the columns x, y, w, h and no origin; its frames are numbered from 0.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, files_in


def find_entries(folder: Path) -> list[Entry]:
    """The sequences of one chunk."""
    frames = folder / "frames"
    truths = files_in(folder / "anno", "*.txt") if frames.is_dir() else []
    return [Entry(truth.stem, "trackingnet", frames / truth.stem, truth) for truth in truths]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    return [make_sequence(entry, files, read_truth(entry.truth, origin=0))]
