"""The conventions behind every score: `Rules` has a field for each, `RULES` has named sets.

Papers and toolkits disagree about small things that change a score.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal


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
    # "continuous": a box covers w * h.  "inclusive": it ends at the pixel x + w and so covers
    # (w + 1) * (h + 1).
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
    # box that reaches out of the frame to the left or at the top is not there); "size" only
    # w, h > 0.
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
            allowed, value = getattr(field.type, "__args__", None), getattr(self, field.name)
            if allowed is not None and value not in allowed:
                raise ValueError(f"{field.name} must be one of {allowed}, got {value!r}")
        if self.overlap_thresholds < 2 or self.precision_thresholds < 21:
            raise ValueError(
                "rules need at least 2 overlap_thresholds and 21 precision_thresholds (DP is "
                f"read at 20 pixels), got {self.overlap_thresholds}, {self.precision_thresholds}"
            )
        if self.average == "frames" and self.statistic == "median":
            raise ValueError("statistic 'median' is over sequences, so average must be 'sequences'")


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


def get_rules(rules: str | Rules) -> Rules:
    """Rules by name; Rules come back as they are.  ValueError names the known ones."""
    if isinstance(rules, Rules):
        return rules
    if rules not in RULES:
        raise ValueError(f"unknown rules {rules!r}; known: {', '.join(RULES)}")
    return RULES[rules]
