"""Scores of boxes against ground truth, by the conventions of `Rules`.

Boxes are (x, y, w, h), pixels, 0-based, a row a frame.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from ..vision.boxes import iou
from .rules import Rules

NORMALISED_THRESHOLDS = np.arange(51) / 100  # of the centre error over the target's size, 0 to 0.5


class FrameScores(NamedTuple):
    """What each counted frame contributes: arrays (n,).

    An overlap of -1 always fails, an error of -1 always hits.
    """

    overlap: np.ndarray
    error: np.ndarray  # distance of the centres, pixels
    normalised: np.ndarray  # the same with x over the target's width and y over its height
    there: np.ndarray  # bool: the frame has ground truth


class Scores(NamedTuple):
    """Scores of one sequence, or of many, from 0 to 1 but for `cle` and `frames`."""

    success: float  # AUC or AO, as the rules say
    op: float  # overlap precision at .5
    dp: float  # distance precision at 20 pixels
    normalised_precision: float  # share of frames whose normalised error is at most .2
    cle: float  # mean centre error of the frames with ground truth, pixels
    overlap: float  # mean overlap of the frames with ground truth
    frames: int  # how many counted


class Curves(NamedTuple):
    """Success, precision and normalised precision at their thresholds."""

    success: np.ndarray
    precision: np.ndarray
    normalised: np.ndarray


class SequenceScores(NamedTuple):
    """All figures of one sequence."""

    scores: Scores
    curves: Curves
    frames: FrameScores


def is_box(boxes: Any) -> np.ndarray:
    """Which rows are boxes, finite and of positive size: (n, 4) -> (n,) bool."""
    boxes = np.asarray(boxes, float)
    found: np.ndarray = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    return found


def is_there(truth: Any, rules: Rules) -> np.ndarray:
    """Which frames have ground truth by the rules: (n, 4) 0-based -> (n,) bool."""
    truth = np.asarray(truth, float)
    there = is_box(truth)
    if rules.truth == "positive":  # counted from 1, x and y must be positive
        there &= (truth[:, :2] > -1).all(axis=1)
    return there


def score_frames(
    boxes: Any,
    truth: Any,
    rules: Rules,
    frame_size: tuple[int, int] | None = None,
    visible: Any = None,
) -> FrameScores:
    """Overlap and centre errors of one run.

    boxes, truth: (n, 4).  frame_size: (width, height), which `clip_to_frame` needs.  visible: (n,)
    bool from the data set's own labels; frames where it is false are as those without ground truth.
    Raises ValueError for other shapes.
    """
    boxes, truth = np.array(boxes, float), np.array(truth, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.shape != truth.shape:
        shapes = f"{boxes.shape} and {truth.shape}"
        raise ValueError(f"score_frames: boxes and truth must both be (n, 4), got {shapes}")
    there = is_there(truth, rules)
    if visible is not None:
        there &= np.asarray(visible, bool)
    counted = np.ones(len(truth), bool)
    if rules.first_frame == "skip":
        counted[0] = False
    if rules.absent == "skip":
        counted &= there

    _apply_conventions(boxes, truth, rules)
    difference = (boxes[:, :2] + boxes[:, 2:] / 2) - (truth[:, :2] + truth[:, 2:] / 2)
    error = np.hypot(*difference.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = np.hypot(*(difference / truth[:, 2:]).T)

    if rules.clip_to_frame and frame_size is not None:
        boxes, truth = clip_boxes(boxes, frame_size), clip_boxes(truth, frame_size)
    if rules.area == "inclusive":
        boxes[:, 2:] += 1
        truth[:, 2:] += 1
    # the box's far edge is rounded: equal boxes may exceed 1 by 1e-16
    overlap = np.clip(iou(boxes, truth), 0, 1)
    overlap[~is_box(boxes)] = 0.0
    error[~np.isfinite(error)] = np.inf
    normalised[~np.isfinite(normalised)] = np.inf
    for values in (overlap, error, normalised):
        values[~there] = -1.0  # where absent frames count
    return FrameScores(*(values[counted] for values in (overlap, error, normalised, there)))


def _apply_conventions(boxes: np.ndarray, truth: np.ndarray, rules: Rules) -> None:
    """Put first and failed frames, and corners, as the rules have them, into the arrays (n, 4)."""
    if rules.first_frame == "truth":
        boxes[0] = truth[0]
    if rules.failed_frame == "previous":
        failed = np.flatnonzero(~is_box(boxes))
        for index in failed[failed > 0]:
            boxes[index] = boxes[index - 1]
    if rules.centre == "corner":
        boxes[:, :2] -= boxes[:, 2:] / 2
        truth[:, :2] -= truth[:, 2:] / 2


def clip_boxes(boxes: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Cut boxes (n, 4) at the edges of a frame of (width, height), as the GOT-10k toolkit does.

    A corner left of the frame or above it is moved in and the size stays, so that such a box is
    shifted, not cut.
    """
    low = np.clip(boxes[:, :2], 0, frame_size)
    return np.hstack([low, np.clip(boxes[:, 2:], 0, frame_size - low)])


def score_curves(frames: FrameScores, rules: Rules) -> Curves:
    """The three curves of some frames; NaN when there are none."""
    overlap_at = np.linspace(0, 1, rules.overlap_thresholds)
    error_at = np.arange(rules.precision_thresholds)
    exceeds = np.greater if rules.overlap_test == ">" else np.greater_equal
    within = np.less_equal if rules.precision_test == "<=" else np.less

    def share(hits: np.ndarray) -> np.ndarray:
        return hits.mean(axis=0) if len(hits) else np.full(hits.shape[1], np.nan)

    return Curves(
        share(exceeds(frames.overlap[:, None], overlap_at)),
        share(within(frames.error[:, None], error_at)),
        share(within(frames.normalised[:, None], NORMALISED_THRESHOLDS)),
    )


def score_sequence(runs: Sequence[FrameScores], rules: Rules) -> SequenceScores:
    """Scores of a sequence, whose runs are pooled: one of OPE, up to 20 of TRE, 12 of SRE."""
    frames = FrameScores(*(np.concatenate(values) for values in zip(*runs)))
    curves = score_curves(frames, rules)

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else float("nan")

    error = frames.error[frames.there]
    mean_overlap = mean(frames.overlap[frames.there])
    op = frames.overlap > 0.5 if rules.op_test == ">" else frames.overlap >= 0.5
    scores = Scores(
        success=float(curves.success.mean()) if rules.success_score == "curve" else mean_overlap,
        op=mean(op),
        dp=float(curves.precision[20]),
        normalised_precision=float(curves.normalised[20]),
        cle=mean(error),
        overlap=mean_overlap,
        frames=len(frames.overlap),
    )
    return SequenceScores(scores, curves, frames)


def combine_sequences(parts: Sequence[SequenceScores], rules: Rules) -> tuple[Scores, Curves]:
    """Scores and curves of a set of sequences, by the rules' average and statistic.

    Sequences in which no frame counts are left out; without any other, scores and curves are NaN.
    """
    counted = [part for part in parts if part.scores.frames] or list(parts[:1])
    if rules.average == "frames":
        pooled = score_sequence([part.frames for part in counted], rules)
        return pooled.scores, pooled.curves
    statistic: Any = np.mean if rules.statistic == "mean" else np.median
    means: Any = [float(statistic(column)) for column in zip(*(part.scores for part in counted))]
    scores = Scores(*means)
    curves = Curves(*(np.mean(column, axis=0) for column in zip(*(p.curves for p in counted))))
    return scores._replace(frames=sum(part.scores.frames for part in counted)), curves


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Where the mean of the population lies that the sequences were drawn from, (low, high).

    Student's interval, mean +- t s / sqrt(n), with t of n - 1 degrees of freedom; of the
    differences of two trackers it is that of a paired test.  It takes sequences, not frames, as the
    draws: frames of one video are alike.  NaN for fewer than two values.  Chosen before the
    percentile bootstrap, which is too narrow for a dozen sequences, and needs a seed.
    Sources: Student, "The probable error of a mean", Biometrika 6, 1908; Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69, 2015, Sec. 4.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    half = stdtrit(len(values) - 1, (1 + level) / 2) * error
    return float(mean - half), float(mean + half)
