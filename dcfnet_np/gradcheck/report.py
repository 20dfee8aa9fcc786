"""The report of `dcfnet gradcheck --report`: every check, curve and mutant, as JSON."""

import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..support.files import check_output, replacing
from .checker import Sweep
from .mutants import Verdict
from .pair import GradientResult


def check_report(path: Path) -> None:
    """Raise ValueError when no report can be written at `path`."""
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path}: a report must end in .json")
    check_output(path)


def write_report(
    path: str | Path,
    results: Sequence[GradientResult],
    curves: Sequence[Sweep] = (),
    verdicts: Sequence[Verdict] | None = None,
) -> None:
    """Write what `check` or `run_all`, `sweep` and `mutants.judge` returned, as JSON.

    An item of a list has a line to itself, so that two reports can be compared line by line.
    Raises ValueError for another name or an impossible place, WriteError when the disk is full.
    """
    path = Path(path)
    check_report(path)
    parts: dict[str, Any] = {
        "environment": {
            "dcfnet_np": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
        "checks": [_plain(result._asdict()) for result in results],
        "sweeps": [_plain(curve._asdict()) for curve in curves],
    }
    if verdicts is not None:
        parts["score"] = score(verdicts)
        by_code: dict[tuple[str, int, str], list[list[str]]] = {}
        for m, status, by in verdicts:
            by_code.setdefault((m.function, m.line, m.before), []).append([m.after, status, by])
        parts["mutants"] = [
            {"function": function, "line": line, "code": code, "mutants": found}
            for (function, line, code), found in by_code.items()
        ]
    with replacing(path) as part:
        blocks = (f"{json.dumps(name)}: {_block(value)}" for name, value in parts.items())
        part.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def score(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many mutants were made, and how many of each status."""
    count = Counter(verdict.status for verdict in verdicts)
    statuses = ("killed", "equivalent", "not run", "survived")
    return {"mutants": sum(count.values()), **{status: count[status] for status in statuses}}


def _block(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"


def _plain(value: Any) -> Any:
    """What JSON does not know: a complex number is [re, im], NaN and infinity are words."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, complex):
        is_real = value.imag == 0 or math.isnan(value.imag)
        return _plain(value.real) if is_real else [value.real, value.imag]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
