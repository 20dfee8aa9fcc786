"""Gradients against finite differences: a checker for anybody's op, and its run over ours.

`checker` (with `pair`, the rules of an op) knows nothing of this library; `cases` is what is
checked of it, those of the paper in `equations`; `mutants` asks whether that would notice a
mistake; `report` writes it all down.
"""

from .cases import CASES, run_all
from .checker import Sweep, check, sweep
from .equations import from_paper, to_paper
from .mutants import survivors
from .pair import GradientError, GradientResult
from .report import write_report

__all__ = [
    "CASES",
    "GradientError",
    "GradientResult",
    "Sweep",
    "check",
    "from_paper",
    "run_all",
    "survivors",
    "sweep",
    "to_paper",
    "write_report",
]
