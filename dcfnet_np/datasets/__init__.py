"""The field's data sets: which folder is a sequence, and where its target is in which frames.

This is the only reader of ground truth.  Each module that `find.FORMATS` names is one layout; it
says how the layout is known, who defines it, and where its boxes are counted from.  Everything that
leaves this package counts from 0, and a frame without a target is a row of NaN.  A video with
several targets becomes NAME.ID each.
"""

from .layouts import describe, find, find_here, is_ground_truth, load, read
from .problems import Problem, check
from .sequence import DatasetError, Entry, Sequence, frame_number, frames_of

__all__ = [
    "DatasetError", "Entry", "Problem", "Sequence", "check", "describe", "find", "find_here",
    "frame_number", "frames_of", "is_ground_truth", "load", "read",
]  # fmt: skip
