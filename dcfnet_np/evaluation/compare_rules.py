"""`dcfnet score --explain`: one result by several sets of rules, and what tells them apart."""

import dataclasses
from collections.abc import Sequence

from .metrics import combine_sequences
from .protocols import score_runs
from .result_files import Run
from .results import format_figure
from .rules import Rules

INFERRED = (
    "paper: an inference from a script in the history of the authors' repository; they stated none"
)
MEASURES = ("success", "OP@.5", "DP@20", "normalised precision@.2", "centre error, px",
            "mean overlap", "frames counted")  # fmt: skip


def score_table(runs: Sequence[Run], rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One column a set of rules, one row a measure; a heading first, "-" for no score.

    runs: over all frames of their sequences.
    """
    columns: list[tuple[str, ...]] = [("", *MEASURES)]
    for each in rules:
        cut = [run.start_by(each) for run in runs]
        scored = [score_runs(run.sequence, [(run.segment, run.found)], each) for run in cut]
        scores, _ = combine_sequences(scored, each)
        name = "AO" if each.success_score == "overlap" else "AUC"
        shares = (scores.op, scores.dp, scores.normalised_precision)
        column = [f"{format_figure(scores.success, 4)} ({name})"]
        column += [format_figure(share, 4) for share in shares]
        column += [format_figure(scores.cle, 2), format_figure(scores.overlap, 4)]
        columns.append((each.name, *column, str(scores.frames)))
    return list(zip(*columns))


def differing_conventions(rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One row a convention in which the rules differ; a heading first."""
    rows = [("convention", *(each.name for each in rules))]
    for field in dataclasses.fields(Rules)[1:]:
        values = [str(getattr(each, field.name)) for each in rules]
        if len(set(values)) > 1:
            rows.append((field.name, *values))
    return rows
