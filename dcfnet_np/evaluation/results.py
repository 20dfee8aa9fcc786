"""From result files to results.json: every figure, the configuration, the environment."""

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..support.files import replacing
from ..support.machine import describe_machine
from ..support.words import counted
from .metrics import NORMALISED_THRESHOLDS, Scores, SequenceScores, combine_sequences
from .protocols import Trajectory, is_annotated, score_runs
from .rules import Rules, get_rules
from .runner import Evaluation, Job, box_file, read_job, read_result_json
from .trackers import describe_tracker
from .vot import VOT2015_LENGTHS, VotScores, vot_overlaps, vot_scores

FORMAT_VERSION = 1
VOT_HEADING = ("tracker", "accuracy", "failures", "robustness", "EAO")

Runs = Sequence[tuple[Job, Trajectory]]


def build_results(
    evaluation: Evaluation, out: Path, jobs: Sequence[Job], skipped: dict[str, str], workers: str
) -> dict[str, Any]:
    """All figures of a finished run, as plain values.

    skipped: labels of trackers that could not be had, with reasons.  workers: how it was run, for
    who reads the speeds.
    """
    rules, sequences = get_rules(evaluation.rules), evaluation.sequences
    trackers = {}
    for spec in evaluation.trackers:
        runs = [(job, read_job(out, job)) for job in jobs if job.spec == spec]
        trackers[spec.label] = {
            "settings": describe_tracker(spec),
            "speed": tracking_speed([found for _, found in runs]),
            "boxes_digest": digest_files([box_file(out, job) for job, _ in runs]),
            **(
                _vot_facts(runs)
                if evaluation.protocol == "vot"
                else score_facts(runs, sequences, rules)
            ),
        }
    folder = Path(evaluation.dataset).resolve()
    return {
        "format": FORMAT_VERSION,
        "protocol": evaluation.protocol,
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
    if results.get("format") != FORMAT_VERSION:
        written = f"{results.get('format')!r:.60}"
        raise ValueError(f"{path} has format {written}, this version reads {FORMAT_VERSION}")
    try:
        words = [results["protocol"], results["dataset"]["name"]]
        words += [results["environment"].get(key) for key in ("dcfnet_np", "commit")]
        tables = [facts["sequences"] for facts in results["trackers"].values()]
        scores = [row.get("success") for table in tables for row in table.values()]
        whole = isinstance(results["rules"], dict) and all(isinstance(word, str) for word in words)
        whole &= all(isinstance(score, int | float | None) for score in scores)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged: it lacks some of what `dcfnet eval` writes")
    return results


def load_scored_results(out: Path) -> dict[str, Any]:
    """As `load_results`.  ValueError also when a sequence has no score: some need every figure."""
    results = load_results(out)
    if line := unscored_line(results.get("unscored", ()), len(results["dataset"]["sequences"])):
        raise ValueError(f"{out}: {line}")
    return results


# --- the parts


def score_sequences(runs: Runs, rules: Rules) -> dict[str, SequenceScores]:
    """Scores of one tracker by sequence; the segments of a sequence are pooled."""
    parts = defaultdict(list)
    for job, found in runs:
        parts[job.sequence].append((job.segment, found))
    return {sequence.name: score_runs(sequence, own, rules) for sequence, own in parts.items()}


def score_facts(runs: Runs, sequences: Sequence[datasets.Sequence], rules: Rules) -> dict[str, Any]:
    """Scores and curves of one tracker: over all sequences, by attribute and by sequence."""
    scored = score_sequences(runs, rules)
    parts = list(scored.values())
    overall, curves = combine_sequences(parts, rules)
    facts: dict[str, Any] = {"scores": overall._asdict(), "curves": _lists(curves)}
    if rules.average == "sequences":
        for statistic in ("mean", "median"):
            by = dataclasses.replace(rules, statistic=statistic)
            facts[statistic] = combine_sequences(parts, by)[0]._asdict()
    facts["attributes"] = {}
    for word in sorted({word for sequence in sequences for word in sequence.attributes}):
        having = [scored[each.name] for each in sequences if word in each.attributes]
        having = [each for each in having if each.scores.frames]
        if having:
            scores = combine_sequences(having, rules)[0]._asdict()
            facts["attributes"][word] = {**scores, "sequences": len(having)}
    facts["sequences"] = {
        each.name: {
            **scored[each.name].scores._asdict(),
            "curves": _lists(scored[each.name].curves),
        }
        for each in sequences
    }
    return facts


def _lists(arrays: Any) -> dict[str, Any]:
    return {name: values.tolist() for name, values in arrays._asdict().items()}


def _vot_facts(runs: Runs) -> dict[str, Any]:
    by_sequence: dict[str, Any] = {}
    overlaps, states = [], []
    for job, found in runs:
        facts: dict[str, Any] = {"accuracy": None, "failures": None}
        if is_annotated(job.sequence, job.segment.start):
            overlaps.append(vot_overlaps(job.sequence, found.boxes, found.states))
            states.append(found.states)
            one = vot_scores(overlaps[-1:], states[-1:])
            facts = {"accuracy": one.accuracy, "failures": one.failures}
        by_sequence[job.sequence.name] = facts
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


# --- tables for a terminal


def results_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows for a terminal, a heading first, the best tracker at the top; "-" for no score."""
    ranked = [(label, results["trackers"][label]) for label in ranked_trackers(results)]
    if results["protocol"] == "vot":
        return [VOT_HEADING, *((label, *vot_figures(facts["vot"])) for label, facts in ranked)]
    auc = success_name(results)
    rows: list[tuple[str, ...]] = [
        ("tracker", auc, "OP@.5", "DP@20", "norm. P", "CLE", f"median {auc}")
    ]
    for label, facts in ranked:
        scores: Any = Scores(**facts["scores"])
        shares = (scores.success, scores.op, scores.dp, scores.normalised_precision)
        median = format_figure(facts["median"]["success"] if "median" in facts else None)
        rows.append((label, *map(format_figure, shares), format_figure(scores.cle, 1), median))
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


def vot_figures(vot: dict[str, Any]) -> tuple[str, ...]:
    """VOT's measures as VOT_HEADING names them."""
    names = ("accuracy", "failures", "robustness", "eao")
    return tuple(format_figure(vot[name], 0 if name == "failures" else 3) for name in names)


def unscored_line(names: Sequence[str], count: int) -> str:
    """A line on those of `count` sequences that cannot be scored, "" for none."""
    words = f"no score for {len(names)} of {counted(count, 'sequence')}"
    reason = "of which only the first frame has ground truth"
    return f"{words}, {reason}: {first_names(names)}" if names else ""


def first_names(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def format_figure(value: float | None, digits: int = 3) -> str:
    """A number for a table, "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def sortable(value: float | None) -> float:
    """A score by which trackers are ranked; one without a score comes last."""
    return -1.0 if value is None or math.isnan(value) else value
