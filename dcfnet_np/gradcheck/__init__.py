"""Gradients against finite differences: a checker for anybody's op, and its run over every op and
equation of ours.

`checker` knows nothing of this library's ops; `cases` is what is checked of them, `mutants` asks whether
that run would notice a mistake, and `report` writes it all down.
"""

from .cases import CASES, from_paper, run_all, to_paper
from .checker import GradientError, GradientResult, Sweep, check, sweep
from .mutants import survivors
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
