"""OTB: img/ and groundtruth_rect.txt; OTB100's toolkit, MATLAB, counts from 1.

Source: http://cvlab.hanyang.ac.kr/tracker_benchmark, configSeqs.m for the ranges of frames.
"""

from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, files_in

# Frames that are annotated where the folder holds more: first and last number in the frames' names.
RANGES = {
    "david": (300, 770), "football1": (1, 74), "freeman3": (1, 460), "freeman4": (1, 283),
    "diving": (1, 215), "blurcar1": (247, 988), "blurcar3": (3, 359), "blurcar4": (18, 397),
}  # fmt: skip
FIRST = {"tiger1": 5}  # where the toolkit starts: the target is hidden before


def find_entries(folder: Path) -> list[Entry]:
    """One sequence, or one for each target: groundtruth_rect.1.txt becomes NAME.1, and so on."""
    name = folder.resolve().name
    single = folder / "groundtruth_rect.txt"
    truths = [single] if single.is_file() else []
    truths += files_in(folder, "groundtruth_rect.*.txt")
    if len(truths) > 1:  # an empty file is a target that was given up, as in Human4
        full = [path for path in truths if path.is_file() and path.read_bytes().strip()]
        truths = full or truths[:1]
    names = [name] if len(truths) == 1 else [f"{name}.{n + 1}" for n in range(len(truths))]
    return [Entry(name, "otb", folder, truth) for name, truth in zip(names, truths)]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    truth = read_truth(entry.truth, origin=1)
    key = entry.folder.name.lower()
    part = RANGES.get(key) if len(files) > len(truth.boxes) > 1 else None
    return [make_sequence(entry, files, truth, part=part, first=FIRST.get(key, 0))]
