"""Outcomes of the trials by tracker and disturbance, with intervals over videos."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..vision.boxes import iou
from .disturbances import DISTURBANCES
from .run import TrialRecord
from .trials import Verdict, judge

DRAWS = 2000  # of the bootstrap
RUNAWAY = 2.0  # times the true size
RIGHT = 0.5  # overlap of a box that counts as right


def interval(by_video: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean over videos: the bootstrap's percentiles, with a fixed seed.

    Trials of one video are alike, so videos are drawn, not trials.
    """
    values = np.array(by_video, float)
    draws = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def summarise(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """What became of one tracker's targets: {disturbance: figures}, and "all" but "none"."""
    verdicts = [(each, judge(each.trial, each.truth, each.boxes)) for each in records]
    names = [name for name in DISTURBANCES if any(r.trial.disturbance == name for r, _ in verdicts)]
    summary: dict[str, Any] = {}
    for name in names:
        mine = [(r, v) for r, v in verdicts if r.trial.disturbance == name]
        summary[name] = _figures(mine)
        strengths = sorted({record.trial.strength for record, _ in mine})
        summary[name]["strengths"] = {
            f"{strength:g}": _figures([(r, v) for r, v in mine if r.trial.strength == strength])
            for strength in strengths
        }
    summary["all"] = _figures([(r, v) for r, v in verdicts if r.trial.disturbance != "none"])
    return summary


def _figures(verdicts: Sequence[tuple[TrialRecord, Verdict]]) -> dict[str, Any]:
    by_video: dict[str, list[float]] = {}
    for record, verdict in verdicts:
        by_video.setdefault(record.trial.sequence, []).append(verdict.survived)
    if not by_video:
        return {"trials": 0}
    means = [float(np.mean(each)) for each in by_video.values()]
    outcomes = [verdict.outcome for _, verdict in verdicts]
    found = [v.found_after or 0 for _, v in verdicts if v.outcome == "found"]
    return {
        "trials": len(verdicts),
        "survived": float(np.mean(means)),
        "interval": interval(means),
        **{outcome: outcomes.count(outcome) for outcome in ("kept", "found", "lost")},
        "found_after": float(np.median(found)) if found else None,
        "before": float(np.mean([v.before for _, v in verdicts])),
        "after": float(np.mean([v.after for _, v in verdicts])),
        "runaway": sum(v.growth > RUNAWAY for _, v in verdicts),
    }


def calibrate(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """How often a tracker's boxes are right, by what it says of them; empty where it says nothing.

    Right is an overlap with the truth of .5 at least; a box is wrong where the target is not to be
    seen.  Rows: all boxes of which it was sure, all others, and those of scores from 0 to .1 and so
    on, with "frames" and the share "right" of each.  The first frame of a trial does not count.
    """
    right = [np.nan_to_num(iou(each.boxes, each.truth))[1:] >= RIGHT for each in records]
    flags = np.concatenate(right)
    scores = np.concatenate([each.scores[1:] for each in records])
    sure = np.concatenate([each.sure[1:] for each in records])
    groups = {"sure": sure == 1, "not sure": sure == 0}
    for low in range(10):
        inside = (scores >= low / 10) & (scores < (low + 1) / 10 if low < 9 else scores <= 1)
        groups[f"score .{low} to {'1' if low == 9 else f'.{low + 1}'}"] = inside
    return [
        {"what": what, "frames": int(chosen.sum()), "right": float(flags[chosen].mean())}
        for what, chosen in groups.items()
        if chosen.any()
    ]


def summary_table(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """A row a disturbance: the share of targets that each tracker still has at the end."""
    labels = list(found)
    rows = [["disturbance", "trials", *labels]]
    for name in next(iter(found.values())):
        cells = [found[label].get(name, {"trials": 0}) for label in labels]
        rows.append([name, str(cells[0]["trials"]), *map(_share, cells)])
    runaways = [str(found[label]["all"].get("runaway", 0)) for label in labels]
    return [*rows, ["size overrated twice", "", *runaways]]


def _share(figures: dict[str, Any]) -> str:
    if not figures["trials"]:
        return "-"
    low, high = figures["interval"]
    return f"{figures['survived']:.2f} ({low:.2f} to {high:.2f})"
