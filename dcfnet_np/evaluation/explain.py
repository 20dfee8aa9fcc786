"""`dcfnet score --explain`: one result by several rules, side by side, and the conventions that
tell them apart.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .metrics import Rules, combine
from .protocols import Run, Segment, VotScores, is_annotated, score, vot_overlaps, vot_scores
from .result_files import Pair
from .results import VOT_HEADING, figure, vot_figures

NO_BOX = (0.0, 0.0, 0.0, 0.0)  # a segment's box, which scoring does not look at
INFERRED = (
    "paper: an inference from a script in the history of the authors' repository; they stated none"
)


def table(pairs: Sequence[Pair], rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One column a set of rules, one row a measure; a heading first, "-" for no score."""
    columns = []
    for each in rules:
        scored = []
        for sequence, result in pairs:
            start = sequence.first if each.omit_initial or np.isnan(result.boxes[0]).any() else 0
            part = Run(*(values[start:] for values in result))
            scored.append(score(sequence, [(Segment("", start, NO_BOX), part)], each))
        scores, _ = combine(scored, each)
        name = "AO" if each.success_score == "overlap" else "AUC"
        shares = (scores.op, scores.dp, scores.normalised_precision)
        column = [f"{figure(scores.success, 4)} ({name})", *(figure(share, 4) for share in shares)]
        columns.append([*column, figure(scores.cle, 2), figure(scores.overlap, 4), scores.frames])
    names = ["success", "OP@.5", "DP@20", "normalised precision@.2"]
    names += ["centre error, px", "mean overlap", "frames counted"]
    rows = [("", *(each.name for each in rules))]
    rows += [
        (name, *(str(value) for value in values)) for name, values in zip(names, zip(*columns))
    ]
    return rows


def vot_table(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """VOT's measures of a supervised run, a heading first."""
    parts = [(vot_overlaps(*pair), pair[1].states) for pair in pairs if is_annotated(pair[0])]
    facts = vot_scores(*zip(*parts))._asdict() if parts else dict.fromkeys(VotScores._fields)
    return [VOT_HEADING[1:], vot_figures(facts)]


def conventions(rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One row a convention in which the rules differ; a heading first."""
    rows = [("convention", *(each.name for each in rules))]
    for field in dataclasses.fields(Rules):
        values = [getattr(each, field.name) for each in rules]
        if field.name != "name" and len(set(values)) > 1:
            rows.append((field.name, *(str(value) for value in values)))
    return rows
