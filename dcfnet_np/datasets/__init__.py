"""The field's data sets: which folder is a sequence, and where its target is in which frames.

This is the only reader of ground truth.  Each module that `layouts.FORMATS` names is one layout; it
says how the layout is known, who defines it, and where its boxes are counted from.  Everything that
leaves this package counts from 0, and a frame without a target is a row of NaN.  A video with
several targets becomes NAME.ID each.
"""

from .layouts import (
    describe_folder,
    find_here,
    find_sequences,
    is_ground_truth,
    load_dataset,
    read_entry,
)  # fmt: skip
from .problems import Problem, check_dataset
from .sequence import DatasetError, Entry, Sequence, frame_number, frames_of

__all__ = [
    "DatasetError", "Entry", "Problem", "Sequence", "check_dataset", "describe_folder", "find_here",
    "find_sequences", "frame_number", "frames_of", "is_ground_truth", "load_dataset", "read_entry",
]  # fmt: skip
