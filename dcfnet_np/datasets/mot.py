"""MOTChallenge: img1/ and gt/gt.txt with a row for each target and frame; all counts from 1.

A row is frame, target, x, y, w, h, flag, ...; rows whose flag is 0 are not to be considered.
Source: https://motchallenge.net/instructions.
"""

from pathlib import Path

import numpy as np

from ..support.words import counted
from ..vision.box_files import read_numbers
from ..vision.boxes import from_otb
from .sequence import Entry, Sequence, entry_of_folder, frame_number


def find_entries(folder: Path) -> list[Entry]:
    """The video of a folder."""
    return entry_of_folder(folder, "mot", "gt/gt.txt")


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """A sequence NAME.ID for each target, NAME for a single one, from its first to its last frame.

    Targets that are in a single frame are left out: there is nothing to track.
    """
    rows = _read_rows(entry.truth)
    indices = _indices(rows[:, 0].astype(int), files, entry)
    found = {}
    for target in np.unique(rows[:, 1]).astype(int).tolist():
        of_target = rows[:, 1] == target
        places = indices[of_target]
        if len(np.unique(places)) < len(places):
            raise ValueError(f"{entry.truth}: target {target} has two rows for one frame")
        if len(places) > 1:
            first, count = places.min(), np.ptp(places) + 1
            boxes = np.full((count, 4), np.nan)
            boxes[places - first] = from_otb(rows[of_target, 2:6])
            found[target] = tuple(files[first : first + count]), boxes
    if not found:
        raise ValueError(f"{entry.truth}: no target is in two frames")
    names = {
        target: entry.name if len(found) == 1 else f"{entry.name}.{target}" for target in found
    }
    return [
        Sequence(names[target], "mot", frames, boxes, video=entry.name)
        for target, (frames, boxes) in found.items()
    ]


def _read_rows(path: Path) -> np.ndarray:
    """The rows to be considered, (n, 6 or more)."""
    rows = read_numbers(path)
    if rows.shape[1] < 6:
        wanted = "frame,target,x,y,w,h,... in a row"
        raise ValueError(f"{path}: expected {wanted}, got {counted(rows.shape[1], 'number')}")
    if not np.isfinite(rows[:, :6]).all() or (rows[:, :2] != np.floor(rows[:, :2])).any():
        wanted = "frames and targets must be whole numbers, and boxes without nan"
        raise ValueError(f"{path}: {wanted}")
    rows = rows[(rows[:, 4:6] > 0).all(axis=1)]
    return rows if rows.shape[1] < 7 else rows[rows[:, 6] != 0]


def _indices(frames: np.ndarray, files: list[Path], entry: Entry) -> np.ndarray:
    """The place in `files` of each frame number; the names may count from 0."""
    numbers = [frame_number(path) for path in files]
    start = 1 if 0 in numbers else 0
    places = {number + start: index for index, number in enumerate(numbers) if number is not None}
    missing = sorted(set(frames.tolist()) - set(places))
    if missing:
        what = f"{entry.folder} has no frame {missing[0]} ({len(missing)} are missing)"
        raise ValueError(f"{entry.truth}: {what}")
    return np.array([places[frame] for frame in frames.tolist()], int)
