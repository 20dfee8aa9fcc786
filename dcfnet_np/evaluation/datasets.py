"""The data sets that are evaluated on: `dcfnet_np.datasets` under the name by which evaluation and
training know it.
"""

from ..datasets import DatasetError, Entry, Problem, Sequence, check, find, frame_number, load, read

__all__ = [
    "DatasetError",
    "Entry",
    "Problem",
    "Sequence",
    "check",
    "find",
    "frame_number",
    "load",
    "read",
]
