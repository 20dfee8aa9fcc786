"""`dcfnet score --explain`: one result by several rules, side by side, and the conventions that tell them apart."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..vision.boxes import read_boxes
from . import datasets
from .metrics import Rules, combine, score_frames, score_sequence

Pair = tuple[datasets.Sequence, np.ndarray]  # a sequence and the boxes of a result, (n, 4), 0-based

INFERRED = "paper: an inference from a script in the history of the authors' repository; they stated none"


def pair(result: Path, sequences: Sequence[datasets.Sequence]) -> list[Pair]:
    """The sequences that a result file, or a folder of files named after sequences, has boxes for.

    Raises ValueError when nothing fits, or when a file has another number of rows than its sequence has frames.
    """
    if result.is_dir():
        files = {sequence.name: result / f"{sequence.name}.txt" for sequence in sequences}
        files = {name: file for name, file in files.items() if file.is_file()}
        if not files:
            raise ValueError(f"{result} has no file named like a sequence, such as {sequences[0].name}.txt")
    else:
        named = [sequence for sequence in sequences if sequence.name == result.stem] or list(sequences)
        if len(named) > 1:
            raise ValueError(f"{result} is named like none of the {len(named)} sequences; give one sequence's folder")
        files = {named[0].name: result}
    pairs = []
    for sequence in sequences:
        if sequence.name not in files:
            continue
        boxes = read_boxes(files[sequence.name])
        if len(boxes) == len(sequence) - sequence.first:  # a run that left the first frames out, as OTB's does
            boxes = np.vstack([np.full((sequence.first, 4), np.nan), boxes])
        if len(boxes) != len(sequence):
            raise ValueError(
                f"{files[sequence.name]} has {len(boxes)} rows, {sequence.name} has {len(sequence)} frames"
            )
        pairs.append((sequence, boxes))
    return pairs


def table(pairs: Sequence[Pair], rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One column a set of rules, one row a measure; a heading first."""
    columns = []
    for each in rules:
        scored = []
        for sequence, boxes in pairs:
            start = sequence.first if each.omit_initial or np.isnan(boxes[0]).any() else 0
            visible = None if sequence.visible is None else sequence.visible[start:]
            size = sequence.frame_size() if each.clip_to_frame else None
            frames = score_frames(boxes[start:], sequence.boxes[start:], each, size, visible)
            scored.append(score_sequence([frames], each))
        scores, _ = combine(scored, each)
        success = f"{scores.success:.4f} ({'AO' if each.success_score == 'overlap' else 'AUC'})"
        figures = [scores.op, scores.dp, scores.normalised_precision]
        columns.append(
            [success, *(f"{f:.4f}" for f in figures), f"{scores.cle:.2f}", f"{scores.overlap:.4f}", scores.frames]
        )
    names = (
        "success",
        "OP@.5",
        "DP@20",
        "normalised precision@.2",
        "centre error, px",
        "mean overlap",
        "frames counted",
    )
    rows = [("", *(each.name for each in rules))]
    rows += [(name, *(str(value) for value in values)) for name, values in zip(names, zip(*columns))]
    return rows


def conventions(rules: Sequence[Rules]) -> list[tuple[str, ...]]:
    """One row a convention in which the rules differ; a heading first."""
    rows = [("convention", *(each.name for each in rules))]
    for field in dataclasses.fields(Rules):
        values = [getattr(each, field.name) for each in rules]
        if field.name != "name" and len(set(values)) > 1:
            rows.append((field.name, *(str(value) for value in values)))
    return rows
