"""MOTChallenge: img1/ and gt/gt.txt with a row for each target and frame; frames, targets and boxes
count from 1.

A row is frame, target, x, y, w, h, flag, ...; rows whose flag is 0 are not to be considered.
Source: https://motchallenge.net/instructions.
"""

from pathlib import Path

import numpy as np

from ..vision.box_files import read_numbers
from ..vision.boxes import from_otb
from .sequence import Entry, Sequence, frame_number


def find_entries(folder: Path) -> list[Entry]:
    """The video of a folder."""
    truth = folder / "gt" / "gt.txt"
    return [Entry(folder.resolve().name, "mot", folder, truth)] if truth.is_file() else []


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """A sequence NAME.ID for each target, NAME alone for a single one, from its first to its last
    frame.

    Targets that are in a single frame are left out: there is nothing to track.
    """
    rows = read_numbers(entry.truth)
    if rows.shape[1] < 6:
        raise ValueError(
            f"{entry.truth}: expected frame,target,x,y,w,h,... in a row, got {rows.shape[1]} numbers"
        )
    if not np.isfinite(rows[:, :6]).all() or (rows[:, :2] != np.floor(rows[:, :2])).any():
        raise ValueError(
            f"{entry.truth}: frames and targets must be whole numbers, and boxes without nan"
        )
    rows = rows[(rows[:, 4:6] > 0).all(axis=1)]
    rows = rows if rows.shape[1] < 7 else rows[rows[:, 6] != 0]
    indices = _indices(rows[:, 0].astype(int), files, entry)
    found = {}
    for target in np.unique(rows[:, 1]).astype(int).tolist():
        of_target = rows[:, 1] == target
        places = indices[of_target]
        if len(np.unique(places)) < len(places):
            raise ValueError(f"{entry.truth}: target {target} has two rows for one frame")
        if len(places) > 1:
            boxes = np.full((places.max() + 1 - places.min(), 4), np.nan)
            boxes[places - places.min()] = from_otb(rows[of_target, 2:6])
            found[target] = tuple(files[places.min() : places.max() + 1]), boxes
    if not found:
        raise ValueError(f"{entry.truth}: no target is in two frames")
    sequences = []
    for target, (frames, boxes) in found.items():
        name = entry.name if len(found) == 1 else f"{entry.name}.{target}"
        sequences.append(Sequence(name, "mot", frames, boxes, video=entry.name))
    return sequences


def _indices(frames: np.ndarray, files: list[Path], entry: Entry) -> np.ndarray:
    """The place in `files` of each frame number: by the number in its name, which may count from 0."""
    numbers = [frame_number(path) for path in files]
    start = 1 if 0 in numbers else 0
    places = {number + start: index for index, number in enumerate(numbers) if number is not None}
    missing = sorted(set(frames.tolist()) - set(places))
    if missing:
        raise ValueError(
            f"{entry.truth}: {entry.folder} has no frame {missing[0]} ({len(missing)} are missing)"
        )
    return np.array([places[frame] for frame in frames.tolist()], int)
