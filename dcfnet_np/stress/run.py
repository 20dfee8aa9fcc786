"""Run trackers through the tunnel.  A folder of results holds

    settings.json     what was run: seed, starts, digest of the videos' annotations, trackers
    TRACKER.jsonl     a line a trial: boxes and scores of the tracker, whether it was sure of
                      them, and the truth
    results.json      outcomes by tracker and disturbance, see `summary`
    report.html       the same for people, see `report`

All trials of one video are written at once, so a run that was cut goes on where it stopped, and a
second run into the same folder adds its trackers, videos and disturbances.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..evaluation.runner import read_result_json
from ..evaluation.trackers import TrackerSpec, describe_tracker, make_tracker
from ..support.files import make_folder, only_writer, replacing
from ..support.workers import map_in_order
from ..vision.boxes import Box
from .trials import Trial, make_scenes, plan_trials, tracked_rows


class StressConfig(NamedTuple):
    """What is run.  disturbances: names of DISTURBANCES.  starts: trials of each in a video."""

    trackers: Sequence[TrackerSpec]
    sequences: Sequence[datasets.Sequence]
    disturbances: Sequence[str]
    starts: int = 1
    seed: int = 0


class Task(NamedTuple):
    """All trials of one tracker in one video; picklable."""

    spec: TrackerSpec
    sequence: datasets.Sequence
    other: datasets.Sequence  # whose textures hide the target
    trials: list[Trial]
    seed: int


class TrialRecord(NamedTuple):
    """What a tracker did in one trial.

    boxes, truth: (n, 4); scores, sure: (n,), the latter 1 where the tracker believes its box, 0
    where it does not.  NaN where the tracker has none.
    """

    trial: Trial
    boxes: np.ndarray
    truth: np.ndarray
    scores: np.ndarray
    sure: np.ndarray


def run_stress(
    config: StressConfig,
    out: Path,
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, list[TrialRecord]]:
    """Run what is not there yet; returns the records of all trackers of this run, by label.

    workers: processes.  progress(what, done, total) is called before the first trial and after each
    video.  Raises ValueError where `out` holds a run with other settings, DatasetError for a video
    that cannot be used, WriteError where another process writes there.
    """
    make_folder(out)
    plans = {each.name: plan_trials(each, config.disturbances, config.starts)
             for each in config.sequences}  # fmt: skip
    with only_writer(out):
        _write_settings(out, config)
        done = {spec.label: read_records(out, spec.label) for spec in config.trackers}
        tasks = []
        for number, sequence in enumerate(config.sequences):
            other = config.sequences[(number + 1) % len(config.sequences)]
            for spec in config.trackers:
                there = {record.trial for record in done[spec.label]}
                open_trials = [trial for trial in plans[sequence.name] if trial not in there]
                if open_trials:
                    tasks.append(Task(spec, sequence, other, open_trials, config.seed))
        progress("start", 0, len(tasks))
        results = map_in_order(run_task, tasks, workers)
        for number, (task, records) in enumerate(zip(tasks, results), start=1):
            _append(out, task.spec.label, records)
            done[task.spec.label] += records
            progress(f"{task.spec.label} on {task.sequence.name}", number, len(tasks))
    wanted = [trial for plan in plans.values() for trial in plan]
    by_trial = {
        label: {record.trial: record for record in records} for label, records in done.items()
    }
    return {label: [records[trial] for trial in wanted] for label, records in by_trial.items()}


def run_task(task: Task) -> list[TrialRecord]:
    """Run one tracker through all trials of a video."""
    frames, boxes, other = load_video(task.sequence, task.other)
    tracker = make_tracker(task.spec)
    records = []
    for trial in task.trials:
        found: list[Box] = []
        truth, scores, sure = [], [], []
        for scene in make_scenes(trial, frames, boxes, other, task.seed):
            if not found:
                x, y, w, h = scene.box.tolist()
                answer: Any = (x, y, w, h)
                tracker.init(scene.frame, answer)
            else:
                answer = tracker.update(scene.frame)
            found.append(_usable(answer, found))
            truth.append(scene.box)
            scores.append(getattr(tracker, "score", np.nan))
            sure.append(getattr(tracker, "ok", np.nan))
        # rounded as in the file, so that a run that was cut ends with the same figures
        boxes_and_truth = np.round(found, 2), np.round(truth, 2)
        numbers = np.round(np.array(scores, float), 4), np.array(sure, float)
        records.append(TrialRecord(trial, *boxes_and_truth, *numbers))
    return records


def load_video(
    sequence: datasets.Sequence, other: datasets.Sequence
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The tracked frames of a video, their boxes (n, 4), and a frame of another video."""
    rows = tracked_rows(sequence)
    frames = [sequence.frame(row) for row in rows]
    return frames, sequence.boxes[rows.start : rows.stop], other.frame(len(other) // 2)


def _usable(box: Any, before: list[Box]) -> Box:
    """The box of a tracker; that of the frame before where it failed."""
    if box is None or not np.isfinite(box).all() or min(box[2:]) <= 0:
        return before[-1]
    x, y, w, h = map(float, box)
    return x, y, w, h


# --- files


def _write_settings(out: Path, config: StressConfig) -> None:
    path = out / "settings.json"
    digests = {
        each.name: hashlib.sha256(each.boxes.tobytes()).hexdigest() for each in config.sequences
    }
    settings: dict[str, Any] = {
        "seed": config.seed,
        "sequences": digests,
        "trackers": {spec.label: describe_tracker(spec) for spec in config.trackers},
    }
    if path.is_file():
        before = read_result_json(path, *settings)
        if before["seed"] != config.seed:
            raise ValueError(f"{out} holds a run of --seed {before['seed']}; choose another --out")
        for key in ("sequences", "trackers"):
            for name, facts in before[key].items():
                if settings[key].setdefault(name, facts) != facts:
                    raise ValueError(f"{out} holds results of another {name}; choose another --out")
    with replacing(path) as part:
        part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _append(out: Path, label: str, records: Sequence[TrialRecord]) -> None:
    lines = [
        json.dumps(
            {
                "trial": [*vars(record.trial).values()],
                "boxes": record.boxes.tolist(),
                "truth": _with_null(record.truth),
                "scores": _with_null(record.scores),
                "sure": _with_null(record.sure),
            }
        )
        for record in records
    ]
    with (out / f"{label}.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def read_records(out: Path, label: str) -> list[TrialRecord]:
    """The trials of a tracker that are done; none where it has not run.

    A last line that was cut is left out.  ValueError for a damaged one.
    """
    path = out / f"{label}.jsonl"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            trial = Trial(*row["trial"])
            names = ("boxes", "truth", "scores", "sure")
            arrays = [np.array(row[name], float) for name in names]
            if [each.shape for each in arrays] != [(trial.frames, 4)] * 2 + [(trial.frames,)] * 2:
                raise ValueError("another number of frames")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number} is damaged ({error}); delete it") from None
        records.append(TrialRecord(trial, *arrays))
    return records


def _with_null(values: np.ndarray) -> Any:
    """Lists for JSON, which has no NaN: of numbers (n,), or of boxes (n, 4)."""
    flat = [None if np.isnan(value) else float(value) for value in values.flat]
    return flat if values.ndim == 1 else [flat[k : k + 4] for k in range(0, len(flat), 4)]
