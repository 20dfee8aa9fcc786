"""The report of a tunnel run: results.json and one self-contained HTML page."""

import json
from pathlib import Path
from typing import Any

from ..evaluation.report import check_report_packages
from ..support.files import replacing
from .run import StressConfig, TrialRecord

__all__ = ["check_report_packages", "write_report", "write_results"]


def write_results(out: Path, config: StressConfig, found: dict[str, dict[str, Any]]) -> None:
    """Write results.json."""
    facts = {
        "videos": [sequence.name for sequence in config.sequences],
        "starts": config.starts,
        "seed": config.seed,
        "trackers": found,
    }
    with replacing(out / "results.json") as part:
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_report(
    out: Path,
    config: StressConfig,
    records: dict[str, list[TrialRecord]],
    found: dict[str, dict[str, Any]],
) -> None:
    """Write report.html."""
