"""`dcfnet score`: results by several sets of rules side by side, and what tells them apart."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .metrics import combine_sequences
from .protocols import Segment, Trajectory, is_annotated, score_runs
from .result_files import Pair
from .results import VOT_HEADING, format_figure, vot_figures
from .rules import Rules
from .vot import VotScores, vot_overlaps, vot_scores

NO_BOX = (0.0, 0.0, 0.0, 0.0)  # a segment's box, which scoring does not look at
INFERRED = (
    "paper: an inference from a script in the history of the authors' repository; they stated none"
)
MEASURES = ("success", "OP@.5", "DP@20", "normalised precision@.2", "centre error, px",
            "mean overlap", "frames counted")  # fmt: skip


def score_table(pairs: Sequence[Pair], rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One column a set of rules, one row a measure; a heading first, "-" for no score."""
    columns: list[tuple[str, ...]] = [("", *MEASURES)]
    for each in rules:
        scored = []
        for sequence, result in pairs:
            start = sequence.first if each.omit_initial or np.isnan(result.boxes[0]).any() else 0
            part = Trajectory(*(values[start:] for values in result))
            scored.append(score_runs(sequence, [(Segment("", start, NO_BOX), part)], each))
        scores, _ = combine_sequences(scored, each)
        name = "AO" if each.success_score == "overlap" else "AUC"
        shares = (scores.op, scores.dp, scores.normalised_precision)
        column = [f"{format_figure(scores.success, 4)} ({name})"]
        column += [format_figure(share, 4) for share in shares]
        column += [format_figure(scores.cle, 2), format_figure(scores.overlap, 4)]
        columns.append((each.name, *column, str(scores.frames)))
    return list(zip(*columns))


def vot_table(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """VOT's measures of a supervised run, a heading first."""
    known = [(s, result) for s, result in pairs if is_annotated(s)]
    facts = dict.fromkeys(VotScores._fields)
    if known:
        overlaps = [vot_overlaps(s, result.boxes, result.states) for s, result in known]
        facts = vot_scores(overlaps, [result.states for _, result in known])._asdict()
    return [VOT_HEADING[1:], vot_figures(facts)]


def differing_conventions(rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One row a convention in which the rules differ; a heading first."""
    rows = [("convention", *(each.name for each in rules))]
    for field in dataclasses.fields(Rules)[1:]:
        values = [str(getattr(each, field.name)) for each in rules]
        if len(set(values)) > 1:
            rows.append((field.name, *values))
    return rows
