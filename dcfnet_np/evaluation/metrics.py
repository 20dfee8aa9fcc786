"""Scores of boxes against ground truth, and the conventions behind every number.

Papers and toolkits disagree about small things that change a score.  `Rules` has one field for
each, the OTB toolkit's choice as default; `RULES` has named sets.  Boxes are (x, y, w, h), pixels,
0-based, a row a frame."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ..vision.boxes import iou

NORMALISED_THRESHOLDS = np.arange(51) / 100  # of the centre error over the target's size, 0 to 0.5


@dataclass(frozen=True)
class Rules:
    """The conventions of a score.  Defaults are those of OTB's MATLAB toolkit.

    An unknown field raises TypeError, a bad value ValueError.
    """

    name: str = "otb"
    # Success curve: the share of frames whose overlap exceeds each of so many thresholds, evenly
    # from 0 to 1.
    overlap_thresholds: int = 21
    # ">": a perfect run fails at threshold 1 and scores 20/21 = .952.  ">=": it scores 1.
    overlap_test: Literal[">", ">="] = ">"
    # Success score: "curve" is the mean of the success curve (OTB's AUC), "overlap" the mean
    # overlap (GOT-10k's AO).
    success_score: Literal["curve", "overlap"] = "curve"
    # OP, the overlap precision at .5, has a sign of its own, since the paper's script has.
    op_test: Literal[">", ">="] = ">"
    # Precision curve: the share of frames with a centre error within 0, 1, ... n - 1 pixels; DP is
    # its value at 20.
    precision_thresholds: int = 51
    precision_test: Literal["<=", "<"] = "<="
    # "centre": distances are between centres; x + w / 2, or x + (w - 1) / 2 as OTB has it, makes no
    # difference between two boxes.  "corner": corner boxes taken for centre boxes, as the paper's
    # script does: distances are those of the corners, and overlaps those of boxes that have their
    # centre where their corner is.
    centre: Literal["centre", "corner"] = "centre"
    # "continuous": a box covers w * h.  "inclusive": it ends at the pixel x + w and so covers (w +
    # 1) * (h + 1).
    area: Literal["continuous", "inclusive"] = "continuous"
    # Cut both boxes at the frame's edges before the overlap is taken (GOT-10k).
    clip_to_frame: bool = False
    # "truth": the first frame counts and is right.  "skip": it does not count.  "result": it counts
    # as it stands.
    first_frame: Literal["truth", "skip", "result"] = "truth"
    # A result that is NaN or has no positive size: "previous" takes the box of the frame before,
    # "miss" no overlap.
    failed_frame: Literal["previous", "miss"] = "previous"
    # Ground truth that counts as there: "positive" wants x, y, w, h > 0 when counted from 1 (so a
    # box that reaches out of the frame to the left or at the top is not there); "size" only w, h >
    # 0.
    truth: Literal["positive", "size"] = "positive"
    # Frames without ground truth: "otb" calls them failures of overlap but hits of the precision
    # curve (the toolkit writes -1 for both); "skip" leaves them out.
    absent: Literal["otb", "skip"] = "otb"
    # One vote a sequence, or one a frame.
    average: Literal["sequences", "frames"] = "sequences"
    # Over sequences, for scores; curves are always means.
    statistic: Literal["mean", "median"] = "mean"
    # Start where OTB's toolkit starts: Tiger1 at its sixth frame.  It changes what is tracked, not
    # only the score.
    omit_initial: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            allowed = getattr(field.type, "__args__", None)
            if allowed is not None and getattr(self, field.name) not in allowed:
                raise ValueError(
                    f"Rules: {field.name} must be one of {allowed}, got {getattr(self, field.name)!r}"
                )
        if self.overlap_thresholds < 2 or self.precision_thresholds < 21:
            raise ValueError(
                "Rules: needs at least 2 overlap_thresholds and 21 precision_thresholds (DP is read at 20 pixels), "
                f"got {self.overlap_thresholds} and {self.precision_thresholds}"
            )
        if self.average == "frames" and self.statistic == "median":
            raise ValueError(
                "Rules: statistic 'median' is over sequences, so average must be 'sequences'"
            )


RULES: dict[str, Rules] = {
    rules.name: rules
    for rules in (
        Rules(),
        # got10k 0.1.3, ExperimentGOT10k: average overlap of all visible frames but the first.
        Rules(
            "got10k",
            overlap_thresholds=101,
            success_score="overlap",
            clip_to_frame=True,
            first_frame="skip",
            failed_frame="miss",
            truth="size",
            absent="skip",
            average="frames",
            omit_initial=False,
        ),
        # pytracking's analysis/extract_results.py for OTB.
        Rules("pytracking", truth="size", absent="skip", omit_initial=False),
        # What printed the paper's Table 2, as its repository's history suggests: OP_DP_CLE.m with
        # the usual function compute_performance_measures; medians over sequences, corners for
        # centres, the other sign at each threshold.
        Rules(
            "paper",
            op_test=">=",
            precision_test="<",
            centre="corner",
            first_frame="result",
            truth="size",
            absent="skip",
            statistic="median",
        ),
    )
}


def get_rules(rules: "str | Rules") -> Rules:
    """Rules by name; Rules come back as they are.  ValueError names the known ones."""
    if isinstance(rules, Rules):
        return rules
    if rules not in RULES:
        raise ValueError(f"unknown rules {rules!r}; known: {', '.join(RULES)}")
    return RULES[rules]


class FrameScores(NamedTuple):
    """What each counted frame contributes: three arrays (n,).

    -1 overlap always fails, -1 error always hits.
    """

    overlap: np.ndarray
    error: np.ndarray  # distance of the centres, pixels
    normalised: np.ndarray  # the same with x over the target's width and y over its height
    there: np.ndarray  # bool: the frame has ground truth


class Scores(NamedTuple):
    """Scores of one sequence, or of many.

    All from 0 to 1 but `cle`, pixels, and `frames`, how many counted.
    """

    success: float  # AUC or AO, as the rules say
    op: float  # overlap precision at .5
    dp: float  # distance precision at 20 pixels
    normalised_precision: float  # share of frames whose normalised error is at most .2
    cle: float  # mean centre error of the frames with ground truth
    overlap: float  # mean overlap of the frames with ground truth
    frames: int


class Curves(NamedTuple):
    """Success, precision and normalised precision at their thresholds."""

    success: np.ndarray
    precision: np.ndarray
    normalised: np.ndarray


class SequenceScores(NamedTuple):
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


def repair(boxes: np.ndarray) -> np.ndarray:
    """Put the box of the frame before in the place of one that is not finite or has no positive
    size.
    """
    boxes = boxes.copy()
    failed = np.flatnonzero(~is_box(boxes))
    for index in failed[failed > 0]:
        boxes[index] = boxes[index - 1]
    return boxes


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
     Raises ValueError for other shapes."""
    boxes, truth = np.array(boxes, float), np.array(truth, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.shape != truth.shape:
        raise ValueError(
            f"score_frames: boxes and truth must both be (n, 4), got {boxes.shape} and {truth.shape}"
        )
    if rules.clip_to_frame and frame_size is None:
        raise ValueError(
            f"score_frames: the rules {rules.name!r} cut boxes at the frame's edges and need frame_size"
        )
    there = is_there(truth, rules)
    if visible is not None:
        there &= np.asarray(visible, bool)
    if rules.first_frame == "truth":
        boxes[0] = truth[0]
    if rules.failed_frame == "previous":
        boxes = repair(boxes)

    if rules.centre == "corner":
        boxes[:, :2] -= boxes[:, 2:] / 2
        truth[:, :2] -= truth[:, 2:] / 2
    difference = (boxes[:, :2] + boxes[:, 2:] / 2) - (truth[:, :2] + truth[:, 2:] / 2)
    error = np.hypot(*difference.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = np.hypot(*(difference / truth[:, 2:]).T)

    if rules.clip_to_frame and frame_size is not None:
        boxes, truth = clip(boxes, frame_size), clip(truth, frame_size)
    if rules.area == "inclusive":
        boxes[:, 2:] += 1
        truth[:, 2:] += 1
    # the box's far edge is rounded: equal boxes may exceed 1 by 1e-16
    overlap = np.clip(iou(boxes, truth), 0, 1)
    overlap[~is_box(boxes)] = 0.0
    error[~np.isfinite(error)] = np.inf
    normalised[~np.isfinite(normalised)] = np.inf

    counted = np.ones(len(truth), bool)
    if rules.first_frame == "skip":
        counted[0] = False
    if rules.absent == "skip":
        counted &= there
    else:
        for values in (overlap, error, normalised):
            values[~there] = -1.0
    return FrameScores(*(values[counted] for values in (overlap, error, normalised, there)))


def clip(boxes: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Cut boxes (n, 4) at the edges of a frame of (width, height), as the GOT-10k toolkit does.

    A corner left of the frame or above it is moved in and the size stays, so that such a box is
    shifted, not cut."""
    low = np.clip(boxes[:, :2], 0, frame_size)
    return np.hstack([low, np.clip(boxes[:, 2:], 0, frame_size - low)])


def curves(frames: FrameScores, rules: Rules) -> Curves:
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
    """Scores of one sequence from all its runs: one for OPE, up to 20 for TRE, 12 for SRE, whose
    frames are pooled.
    """
    frames = FrameScores(*(np.concatenate(values) for values in zip(*runs)))
    drawn = curves(frames, rules)
    overlap = frames.overlap[frames.there]
    mean_overlap = float(overlap.mean()) if overlap.size else float("nan")
    if len(frames.overlap):
        op = frames.overlap > 0.5 if rules.op_test == ">" else frames.overlap >= 0.5
        op_share = float(op.mean())
    else:
        op_share = float("nan")
    error = frames.error[frames.there]
    scores = Scores(
        success=float(drawn.success.mean()) if rules.success_score == "curve" else mean_overlap,
        op=op_share,
        dp=float(drawn.precision[20]),
        normalised_precision=float(drawn.normalised[20]),
        cle=float(error.mean()) if error.size else float("nan"),
        overlap=mean_overlap,
        frames=len(frames.overlap),
    )
    return SequenceScores(scores, drawn, frames)


def combine(sequences: Sequence[SequenceScores], rules: Rules) -> tuple[Scores, Curves]:
    """Scores and curves of a set of sequences, by the rules' average and statistic.

    Sequences in which no frame counts are left out; without any other, scores and curves are NaN.
    Raises ValueError when `sequences` is empty.
    """
    counted = [sequence for sequence in sequences if sequence.scores.frames] or list(sequences[:1])
    if not counted:
        raise ValueError("combine: needs at least one sequence")
    if rules.average == "frames":
        pooled = score_sequence([sequence.frames for sequence in counted], rules)
        return pooled.scores, pooled.curves
    statistic = np.mean if rules.statistic == "mean" else np.median
    columns = zip(*(sequence.scores for sequence in counted))
    scores = Scores(*(float(statistic(column)) for column in columns))  # type: ignore[arg-type]
    drawn = Curves(
        *(np.mean(column, axis=0) for column in zip(*(sequence.curves for sequence in counted)))
    )
    return scores._replace(frames=sum(sequence.scores.frames for sequence in counted)), drawn
