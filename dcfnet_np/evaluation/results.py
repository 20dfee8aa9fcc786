"""From runs to results.json: every figure, the configuration, the environment; and the tables."""

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..support.files import replacing
from ..support.machine import describe_machine
from ..support.words import counted
from .metrics import NORMALISED_THRESHOLDS, Scores, combine_sequences, mean_interval
from .protocols import Trajectory, is_annotated, score_runs
from .result_files import Run
from .rules import Rules
from .runner import read_result_json
from .vot import VOT2015_LENGTHS, VotScores, vot_overlaps, vot_scores

FORMAT_VERSION = 1


def build_results(
    dataset: str,
    sequences: Sequence[datasets.Sequence],
    runs: Mapping[str, Sequence[Run]],
    protocol: str,
    rules: Rules,
    settings: Mapping[str, Any],
    skipped: dict[str, str],
    workers: str,
) -> dict[str, Any]:
    """All figures of finished runs, as plain values.

    runs, settings: of each tracker, by label.  skipped: labels of trackers that could not be had,
    with reasons.  workers: how it was run, for who reads the speeds; "" where that is not known.
    """
    trackers: dict[str, Any] = {}
    for label, own in runs.items():
        trackers[label] = {
            "settings": settings.get(label, {}),
            "speed": tracking_speed([run.found for run in own]),
            "boxes_digest": digest_files([run.file for run in own]),
            **(_vot_facts(own) if protocol == "vot" else score_facts(own, sequences, rules)),
        }
    if protocol != "vot" and (rules.average, rules.statistic) == ("sequences", "mean"):
        add_intervals(trackers)
    folder = Path(dataset).resolve()
    return {
        "format": FORMAT_VERSION,
        "protocol": protocol,
        "rules": dataclasses.asdict(rules),
        "dataset": {
            "path": str(folder),
            "name": folder.name,
            "sequences": {sequence.name: _sequence_facts(sequence) for sequence in sequences},
        },
        "thresholds": {
            "success": np.linspace(0, 1, rules.overlap_thresholds).tolist(),
            "precision": list(range(rules.precision_thresholds)),
            "normalised": NORMALISED_THRESHOLDS.tolist(),
        },
        "trackers": trackers,
        "unscored": [sequence.name for sequence in sequences if not is_annotated(sequence)],
        "skipped": skipped,
        "workers": workers,
        "environment": describe_machine(),
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write results.json; NaN and infinity become null."""
    text = json.dumps(_finite(results), indent=1, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def load_results(out: Path) -> dict[str, Any]:
    """results.json of a folder.  ValueError when there is none or it is of another format."""
    path = out / "results.json"
    results = read_result_json(path, "format", "trackers")
    if results["format"] != FORMAT_VERSION:
        written = f"{results['format']!r:.60}"
        raise ValueError(f"{path} has format {written}, this version reads {FORMAT_VERSION}")
    return results


def load_scored_results(out: Path) -> dict[str, Any]:
    """As `load_results`.  ValueError also when a sequence has no score: some need every figure."""
    results = load_results(out)
    if line := unscored_line(results.get("unscored", ()), len(results["dataset"]["sequences"])):
        raise ValueError(f"{out}: {line}")
    return results


# --- the parts


def score_facts(
    runs: Sequence[Run], sequences: Sequence[datasets.Sequence], rules: Rules
) -> dict[str, Any]:
    """Scores and curves of one tracker: over all sequences, by attribute and by sequence.

    The segments of a sequence are pooled.
    """
    segments = defaultdict(list)
    for run in runs:
        segments[run.sequence.name].append((run.segment, run.found))
    known = [sequence for sequence in sequences if sequence.name in segments]
    scored = {each.name: score_runs(each, segments[each.name], rules) for each in known}
    parts = list(scored.values())
    overall, curves = combine_sequences(parts, rules)
    facts: dict[str, Any] = {"scores": overall._asdict(), "curves": _lists(curves)}
    if rules.average == "sequences":
        for statistic in ("mean", "median"):
            by = dataclasses.replace(rules, statistic=statistic)
            facts[statistic] = combine_sequences(parts, by)[0]._asdict()
    facts["attributes"] = {}
    for word in sorted({word for sequence in known for word in sequence.attributes}):
        having = [scored[each.name] for each in known if word in each.attributes]
        having = [each for each in having if each.scores.frames]
        if having:
            scores = combine_sequences(having, rules)[0]._asdict()
            facts["attributes"][word] = {**scores, "sequences": len(having)}
    facts["sequences"] = {name: each.scores._asdict() for name, each in scored.items()}
    return facts


def _lists(arrays: Any) -> dict[str, Any]:
    return {name: values.tolist() for name, values in arrays._asdict().items()}


def add_intervals(trackers: dict[str, Any]) -> None:
    """Put 95 % intervals of the success score over sequences into the facts of `score_facts`.

    `interval` is that of the tracker's mean, `to_first` that of its difference to the first
    tracker, over the sequences that both have.
    """
    first, *_ = trackers
    successes = {
        label: {name: row["success"] for name, row in facts["sequences"].items() if row["frames"]}
        for label, facts in trackers.items()
    }
    for label, own in successes.items():
        trackers[label]["interval"] = mean_interval(list(own.values()))
        if label == first:
            continue
        pairs = [own[name] - successes[first][name] for name in own if name in successes[first]]
        low, high = mean_interval(pairs)
        mean = float(np.mean(pairs)) if pairs else math.nan
        facts = {"tracker": first, "mean": mean, "low": low, "high": high, "sequences": len(pairs)}
        trackers[label]["to_first"] = facts


def _vot_facts(runs: Sequence[Run]) -> dict[str, Any]:
    by_sequence: dict[str, Any] = {}
    overlaps, states = [], []
    for run in runs:
        facts: dict[str, Any] = {"accuracy": None, "failures": None}
        if is_annotated(run.sequence, run.segment.start):
            overlaps.append(vot_overlaps(run.sequence, run.found.boxes, run.found.states))
            states.append(run.found.states)
            one = vot_scores(overlaps[-1:], states[-1:])
            facts = {"accuracy": one.accuracy, "failures": one.failures}
        by_sequence[run.sequence.name] = facts
    whole: dict[str, Any] = dict.fromkeys(VotScores._fields)
    whole |= {"lengths": VOT2015_LENGTHS, "curve": []}
    if overlaps:
        scores = vot_scores(overlaps, states)
        whole = scores._asdict() | {"curve": scores.curve.tolist()}
    return {"vot": whole, "sequences": by_sequence}


def tracking_speed(runs: Sequence[Trajectory]) -> dict[str, float]:
    """Frames per second of tracking alone, and with decoding.

    The first frames of a run, which learn, are left out.
    """
    tracking = np.concatenate([found.times[1:] for found in runs])
    decoding = np.concatenate([found.decoding[1:] for found in runs])
    ran = ~np.isnan(tracking)
    count, seconds = int(ran.sum()), float(tracking[ran].sum())
    both = seconds + float(decoding[ran].sum())
    return {
        "fps": count / seconds if seconds else math.nan,
        "fps_with_decoding": count / both if both else math.nan,
    }


def digest_files(files: Sequence[Path]) -> str:
    """SHA-256 over names and bytes of files, ordered by name."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.name}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _sequence_facts(sequence: datasets.Sequence) -> dict[str, Any]:
    facts = {"format": sequence.format, "frames": len(sequence), "first": sequence.first}
    return {**facts, "attributes": list(sequence.attributes), "notes": list(sequence.notes)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- tables and lines for a terminal


def results_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows for a terminal, a heading first, the best tracker at the top; "-" for no score."""
    ranked = [(label, results["trackers"][label]) for label in ranked_trackers(results)]
    if results["protocol"] == "vot":
        names = ("accuracy", "failures", "robustness", "eao")
        vot: list[tuple[str, ...]] = []
        for label, facts in ranked:
            digits = (0 if name == "failures" else 3 for name in names)
            vot.append((label, *map(format_figure, (facts["vot"][n] for n in names), digits)))
        return [("tracker", "accuracy", "failures", "robustness", "EAO"), *vot]
    auc, first = success_name(results), next(iter(results["trackers"]))
    heading = ("tracker", auc, "OP@.5", "DP@20", "norm. P", "CLE", f"median {auc}")
    rows: list[tuple[str, ...]] = [(*heading, "95 % interval", f"less {first}, 95 % interval")]
    for label, facts in ranked:
        scores: Any = Scores(**facts["scores"])
        shares = (scores.success, scores.op, scores.dp, scores.normalised_precision)
        median = format_figure(facts["median"]["success"] if "median" in facts else None)
        figures = (*map(format_figure, shares), format_figure(scores.cle, 1), median)
        rows.append((label, *figures, interval_text(facts), difference_text(facts)))
    return rows


def interval_text(facts: dict[str, Any]) -> str:
    """The interval of a tracker's success score: "0.571 to 0.735"; "-" for none."""
    low, high = facts.get("interval") or (None, None)
    return "-" if format_figure(low) == "-" else f"{low:.3f} to {high:.3f}"


def difference_text(facts: dict[str, Any]) -> str:
    """A tracker's difference to the first: "+0.016 (-0.031 to +0.063)"; "" for the first itself."""
    told = facts.get("to_first")
    if told is None or format_figure(told["mean"]) == "-":
        return ""
    inside = "-"
    if format_figure(told["low"]) != "-":
        inside = f"{told['low']:+.3f} to {told['high']:+.3f}"
    return f"{told['mean']:+.3f} ({inside})"


def sequences_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Success, or VOT's failures, of every tracker on every sequence; a heading first."""
    labels, vot = ranked_trackers(results), results["protocol"] == "vot"
    rows: list[tuple[str, ...]] = [("failures" if vot else success_name(results), *labels)]
    for name in results["dataset"]["sequences"]:
        told = [results["trackers"][label]["sequences"].get(name, {}) for label in labels]
        key, digits = ("failures", 0) if vot else ("success", 3)
        rows.append((name, *(format_figure(each.get(key), digits) for each in told)))
    return rows


def ranked_trackers(results: dict[str, Any]) -> list[str]:
    """Labels, the best tracker first."""

    def key(label: str) -> float:
        facts = results["trackers"][label]
        return sortable(facts["vot"]["eao"] if "vot" in facts else facts["scores"]["success"])

    return sorted(results["trackers"], key=key, reverse=True)


def success_name(results: dict[str, Any]) -> str:
    """What the rules' success score is called."""
    return "AO" if results["rules"]["success_score"] == "overlap" else "AUC"


def unscored_line(names: Sequence[str], count: int) -> str:
    """A line on those of `count` sequences that cannot be scored, "" for none."""
    words = f"no score for {len(names)} of {counted(count, 'sequence')}"
    reason = "of which only the first frame has ground truth"
    return f"{words}, {reason}: {first_names(names)}" if names else ""


def missing_line(there: Mapping[str, Collection[str]], sequences: Sequence[str]) -> str:
    """A line on the sequences that a tracker has no boxes of, "" for none.

    there: names of the sequences of each tracker.
    """
    parts = []
    for label, names in there.items():
        if lost := [name for name in sequences if name not in names]:
            parts.append(f"{label} has no boxes of {first_names(lost, 12)}")
    return "; ".join(parts)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """The first names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def format_figure(value: float | None, digits: int = 3) -> str:
    """A number for a table, "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def sortable(value: float | None) -> float:
    """A score by which trackers are ranked; one without a score comes last."""
    return -1.0 if value is None or math.isnan(value) else value
