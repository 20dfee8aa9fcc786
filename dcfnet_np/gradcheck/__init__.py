"""Gradients against finite differences: a checker for anybody's op, and its run over every op and
equation of ours.

`checker` knows nothing of this library's ops; `table` is the run over them, `mutants` asks whether
that run would notice a mistake, and `report` writes it all down.
"""

from .checker import GradientError, GradientResult, Sweep, check, sweep
from .mutants import survivors
from .report import write_report
from .table import CASES, from_paper, run_all, to_paper

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
