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
from . import metrics
from .baselines import Spec, describe
from .metrics import Curves, Rules, Scores, SequenceScores, combine, get_rules
from .protocols import (
    VOT2015_LENGTHS,
    Run,
    VotScores,
    is_annotated,
    score,
    vot_overlaps,
    vot_scores,
)
from .runner import Config, Job, box_file, read, read_json

FORMAT_VERSION = 1


def build(
    config: Config,
    out: Path,
    specs: Sequence[Spec],
    sequences: Sequence[datasets.Sequence],
    jobs: Sequence[Job],
    skipped: dict[str, str],
    workers: str,
) -> dict[str, Any]:
    """All figures of a finished run, as plain values.

    workers: how it was run, for who reads the speeds.
    """
    rules = get_rules(config.rules)
    trackers = {}
    for spec in specs:
        own = [job for job in jobs if job.spec == spec]
        runs = [(job, read(out, job)) for job in own]
        facts: dict[str, Any] = {
            "settings": describe(spec),
            "speed": speed([result for _, result in runs]),
        }
        facts["boxes_digest"] = digest([box_file(out, job) for job in own])
        if config.protocol == "vot":
            facts.update(_vot(runs))
        else:
            facts.update(_scores(runs, sequences, rules))
        trackers[spec.label] = facts
    return {
        "format": FORMAT_VERSION,
        "protocol": config.protocol,
        "rules": dataclasses.asdict(rules),
        "dataset": {
            "path": str(Path(config.dataset).resolve()),
            "name": Path(config.dataset).resolve().name,
            "sequences": {s.name: _sequence_facts(s) for s in sequences},
        },
        "thresholds": {
            "success": np.linspace(0, 1, rules.overlap_thresholds).tolist(),
            "precision": list(range(rules.precision_thresholds)),
            "normalised": metrics.NORMALISED_THRESHOLDS.tolist(),
        },
        "trackers": trackers,
        "unscored": [sequence.name for sequence in sequences if not is_annotated(sequence)],
        "skipped": skipped,
        "workers": workers,
        "environment": describe_machine(),
    }


def write(path: Path, results: dict[str, Any]) -> None:
    """Write results.json; NaN and infinity become null."""
    with replacing(path) as part:
        part.write_text(
            json.dumps(_plain(results), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def load(out: Path) -> dict[str, Any]:
    """results.json of a folder.  ValueError when there is none or it is of another format."""
    path = out / "results.json"
    results = read_json(path, "format", "trackers")
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


def load_scored(out: Path) -> dict[str, Any]:
    """As `load`.  ValueError also when a sequence has no score, for who needs every figure."""
    results = load(out)
    if line := unscored(results.get("unscored", ()), len(results["dataset"]["sequences"])):
        raise ValueError(f"{out}: {line}")
    return results


def score_jobs(runs: Sequence[tuple[Job, Run]], rules: Rules) -> dict[str, SequenceScores]:
    """Scores of one tracker by sequence; the segments of a sequence are pooled."""
    by_sequence = defaultdict(list)
    for job, result in runs:
        by_sequence[job.sequence].append((job.segment, result))
    return {sequence.name: score(sequence, parts, rules) for sequence, parts in by_sequence.items()}


def _scores(
    runs: Sequence[tuple[Job, Run]], sequences: Sequence[datasets.Sequence], rules: Rules
) -> dict[str, Any]:
    scored = score_jobs(runs, rules)
    overall, curves = combine(list(scored.values()), rules)
    facts: dict[str, Any] = {"scores": overall._asdict(), "curves": _curves(curves)}
    if rules.average == "sequences":
        for statistic in ("mean", "median"):
            by = dataclasses.replace(rules, statistic=statistic)
            facts[statistic] = combine(list(scored.values()), by)[0]._asdict()
    attributes = sorted({word for sequence in sequences for word in sequence.attributes})
    facts["attributes"] = {}
    for word in attributes:
        having = [
            scored[s.name]
            for s in sequences
            if word in s.attributes and scored[s.name].scores.frames
        ]
        if having:
            facts["attributes"][word] = combine(having, rules)[0]._asdict() | {
                "sequences": len(having)
            }
    facts["sequences"] = {
        sequence.name: scored[sequence.name].scores._asdict()
        | {"curves": _curves(scored[sequence.name].curves)}
        for sequence in sequences
    }
    return facts


def _curves(curves: Curves) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in curves._asdict().items()}


def _vot(runs: Sequence[tuple[Job, Run]]) -> dict[str, Any]:
    by_sequence: dict[str, Any] = {}
    parts = []
    for job, result in runs:
        by_sequence[job.sequence.name] = {"accuracy": None, "failures": None}
        if is_annotated(job.sequence, job.segment.start):
            overlap = vot_overlaps(job.sequence, result)
            parts.append((overlap, result.states))
            one = vot_scores([overlap], [result.states])
            by_sequence[job.sequence.name] = {"accuracy": one.accuracy, "failures": one.failures}
    facts: dict[str, Any] = dict.fromkeys(VotScores._fields) | {
        "lengths": VOT2015_LENGTHS,
        "curve": [],
    }
    if parts:
        whole = vot_scores(*zip(*parts))
        facts = whole._asdict() | {"curve": whole.curve.tolist()}
    return {"vot": facts, "sequences": by_sequence}


def speed(runs: Sequence[Run]) -> dict[str, float]:
    """Frames per second of tracking alone, and with decoding; first frames of a run, which learn,
    are left out.
    """
    tracking = np.concatenate([result.times[1:] for result in runs])
    decoding = np.concatenate([result.decoding[1:] for result in runs])
    ran = ~np.isnan(tracking)
    count, seconds = int(ran.sum()), float(tracking[ran].sum())
    both = seconds + float(decoding[ran].sum())
    return {
        "fps": count / seconds if seconds else math.nan,
        "fps_with_decoding": count / both if both else math.nan,
    }


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over names and bytes of files, ordered by name."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.name}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _sequence_facts(sequence: datasets.Sequence) -> dict[str, Any]:
    return {
        "format": sequence.format,
        "frames": len(sequence),
        "first": sequence.first,
        "attributes": list(sequence.attributes),
        "notes": list(sequence.notes),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows for a terminal, a heading first, the best tracker at the top; "-" for no score."""
    trackers = results["trackers"]
    if results["protocol"] == "vot":
        ranked = sorted(trackers.items(), key=lambda item: -sortable(item[1]["vot"]["eao"]))
        return [VOT_HEADING, *((label, *vot_figures(facts["vot"])) for label, facts in ranked)]
    heading = "AO" if results["rules"]["success_score"] == "overlap" else "AUC"
    rows: list[tuple[str, ...]] = [
        ("tracker", heading, "OP@.5", "DP@20", "norm. P", "CLE", "median " + heading)
    ]
    for label, facts in sorted(
        trackers.items(), key=lambda item: -sortable(item[1]["scores"]["success"])
    ):
        scores: Any = Scores(**facts["scores"])
        median = facts["median"]["success"] if "median" in facts else None
        figures = (scores.success, scores.op, scores.dp, scores.normalised_precision)
        rows.append((label, *map(figure, figures), figure(scores.cle, 1), figure(median)))
    return rows


VOT_HEADING = ("tracker", "accuracy", "failures", "robustness", "EAO")


def vot_figures(vot: dict[str, Any]) -> tuple[str, ...]:
    """VOT's measures as VOT_HEADING names them."""
    accuracy, robustness, eao = (figure(vot[name]) for name in ("accuracy", "robustness", "eao"))
    return accuracy, figure(vot["failures"], 0), robustness, eao


def unscored(names: Sequence[str], count: int) -> str:
    """A line on those of `count` sequences that cannot be scored, "" for none."""
    words = f"no score for {len(names)} of {count} sequences"
    reason = "of which only the first frame has ground truth"
    return f"{words}, {reason}: {few(names)}" if names else ""


def few(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def figure(value: float | None, digits: int = 3) -> str:
    """A number for a table, "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def sortable(value: float | None) -> float:
    """A score by which trackers are ranked; one without a score comes last."""
    return -1.0 if value is None or math.isnan(value) else value
