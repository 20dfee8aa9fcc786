"""Run trackers over a data set: one job a tracker, sequence and segment.

Jobs run in this process, in several, or on Dask.  A folder of results holds

    run.json                            what was run: data set, protocol, trackers with settings
    boxes/TRACKER/SEQUENCE.txt          OTB rows (x,y,w,h from 1, %.4f); SEQUENCE-SEGMENT.txt for
                                        TRE and SRE
    boxes/TRACKER/times/SEQUENCE_time.txt, SEQUENCE_decode.txt    seconds a frame
    got10k/TRACKER/SEQUENCE/SEQUENCE_001.txt, SEQUENCE_time.txt   the GOT-10k toolkit's layout (OPE)

A box file is whole or absent and is written after its times, so a run that was killed goes on where
it stopped.  Scores are always taken from the files.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..support.files import make_folder, only_writer, replacing
from ..support.words import counted
from ..support.workers import hold_threads, worker_pool
from ..vision.box_files import read_boxes, split_rows
from ..vision.boxes import to_otb
from .baselines import Unavailable
from .protocols import Segment, Trajectory, plan_segments, run_tracker
from .result_files import Run, read_vot, unsupervised_states
from .rules import get_rules
from .trackers import TrackerSpec, describe_tracker, make_tracker
from .vot import BOX

Answers = Iterator[tuple["Job", Callable[[], Trajectory]]]

DASK_TIMEOUT = 10  # seconds for a scheduler to answer
DIED = "a worker process died (out of memory?); the same command goes on from here"


class RunError(RuntimeError):
    """A run failed midway; what was finished is kept."""


@dataclass(frozen=True)
class Evaluation:
    """What is run: trackers over sequences.

    dataset: the folder of the sequences.  protocol: one of PROTOCOLS.  rules: a name of RULES.
    attributes: the file that they come from, for the record.
    """

    dataset: str
    trackers: Sequence[TrackerSpec]
    sequences: Sequence[datasets.Sequence]
    protocol: str = "ope"
    rules: str = "otb"
    attributes: str | None = None


class Job(NamedTuple):
    """One run of one tracker; picklable, so that another process or machine can do it."""

    spec: TrackerSpec
    sequence: datasets.Sequence
    segment: Segment

    @property
    def stem(self) -> str:
        """Name of the result file without its suffix."""
        return self.sequence.name + (f"-{self.segment.name}" if self.segment.name else "")

    @property
    def frames(self) -> int:
        return self.segment.frames(self.sequence)


def available_trackers(specs: Sequence[TrackerSpec]) -> tuple[list[TrackerSpec], dict[str, str]]:
    """Those trackers that can be made here, and why not for the others, by label.

    Raises ValueError for wrong settings and for two trackers of one label.
    """
    labels = [spec.label for spec in specs]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"two trackers are called {twice[0]}; give one another name: NAME=TRACKER")
    there, missing = [], {}
    for spec in specs:
        try:
            make_tracker(spec)
            there.append(spec)
        except Unavailable as error:
            missing[spec.label] = str(error)
    return there, missing


def plan_jobs(evaluation: Evaluation) -> list[Job]:
    """All jobs, the longest sequences first, so that workers end at about the same time."""
    rules = get_rules(evaluation.rules)
    jobs = [
        Job(spec, sequence, segment)
        for sequence in evaluation.sequences
        for segment in plan_segments(sequence, evaluation.protocol, rules)
        for spec in evaluation.trackers
    ]
    return sorted(jobs, key=lambda job: -job.frames)


def run_evaluation(
    evaluation: Evaluation,
    out: Path,
    workers: int = 1,
    dask: str | None = None,
    progress: Callable[[int, int], None] = lambda frames, total: None,
) -> list[Job]:
    """Run what is not there yet and write its files; returns all jobs.

    workers, dask: see `run_jobs`.  progress(frames, total) is called with the frames of each job
    that is done, first with those found done.
    Raises ValueError when `out` holds another run, WriteError when another process writes there,
    RunError when a job failed.
    """
    make_folder(out)
    with only_writer(out):
        write_record(out, evaluation)
        jobs = plan_jobs(evaluation)
        open_jobs = [job for job in jobs if not is_done(out, job)]
        total = sum(job.frames for job in jobs)
        progress(total - sum(job.frames for job in open_jobs), total)
        if open_jobs:
            for job, found in run_jobs(open_jobs, workers, dask):
                save_job(out, job, found)
                progress(job.frames, total)
    return jobs


# --- running


def run_job(job: Job, cores: int | None = None) -> Trajectory:
    """Do one job.  cores: hold this process to so many threads before; None leaves it alone."""
    if cores is not None:
        hold_threads(cores)
    return run_tracker(make_tracker(job.spec), job.sequence, job.segment)


def run_jobs(
    jobs: Sequence[Job], workers: int = 1, dask: str | None = None
) -> Iterator[tuple[Job, Trajectory]]:
    """Each job with what its tracker did, in order of completion.

    workers: processes on this machine; 1 is this process.  dask: address of a scheduler whose
    workers have this package and see frames and models under the same paths.  Raises RunError at
    the end when jobs failed, naming the first.
    """
    failed: list[str] = []
    with contextlib.ExitStack() as stack:
        answers: Answers = ((job, functools.partial(run_job, job)) for job in jobs)
        if dask is not None or workers > 1:
            pool = worker_pool(workers) if dask is None else _dask_pool(dask)
            executor, cores = stack.enter_context(pool), None if dask is None else 1
            futures = {executor.submit(run_job, job, cores): job for job in jobs}
            answers = ((futures.pop(each), each.result) for each in as_completed([*futures]))
        for job, get in answers:
            try:
                found = get()
            except BrokenProcessPool:
                raise RunError(DIED) from None
            except Exception as error:
                failed.append(f"{job.spec.label} on {job.stem}: {type(error).__name__}: {error}")
            else:
                yield job, found
    if failed:
        more = f" (and {counted(len(failed) - 1, 'more run')})" if len(failed) > 1 else ""
        raise RunError(f"{failed[0]}{more}; the other results are kept")


@contextlib.contextmanager
def _dask_pool(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        advice = "install the extra train: pip install '.[train]'"
        raise ValueError(f"--dask needs dask.distributed; {advice}") from None
    try:
        client = Client(address, timeout=DASK_TIMEOUT)
    except (OSError, ValueError) as error:
        what = f"no Dask scheduler answers at {address} ({error})"
        raise ValueError(f"{what}; start one: dask scheduler") from None
    with client:
        yield client.get_executor(pure=False)


# --- run.json


def write_record(out: Path, evaluation: Evaluation) -> None:
    """Write run.json.  ValueError where one is there whose results cannot be kept."""
    record = _joined_record(out, evaluation)
    with replacing(out / "run.json") as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def join_evaluation(out: Path, evaluation: Evaluation) -> Evaluation:
    """The evaluation, and what the run.json in `out` has beside: the earlier come first.

    ValueError where that is of another data set or protocol, of other rules, or where another
    tracker or sequence has the same name.
    """
    record = _joined_record(out, evaluation)
    known = {sequence.name: sequence for sequence in evaluation.sequences}
    others = [name for name in record["sequences"] if name not in known]
    if others:
        found = datasets.load_dataset(evaluation.dataset, others, evaluation.attributes)
        known |= {sequence.name: sequence for sequence in found}
    sequences = [known[name] for name in record["sequences"]]
    trackers = recorded_trackers(record)
    return dataclasses.replace(evaluation, trackers=trackers, sequences=sequences)


def _joined_record(out: Path, evaluation: Evaluation) -> dict[str, Any]:
    attributes = evaluation.attributes
    record: dict[str, Any] = {
        "dataset": str(Path(evaluation.dataset).resolve()),
        "protocol": evaluation.protocol,
        "rules": evaluation.rules,
        "attributes": attributes and str(Path(attributes).resolve()),
        "sequences": {sequence.name: len(sequence) for sequence in evaluation.sequences},
        "trackers": {spec.label: describe_tracker(spec) for spec in evaluation.trackers},
    }
    if not (out / "run.json").is_file():
        return record
    before = read_record(out)
    for key in ("dataset", "protocol", "rules"):
        if before[key] != record[key]:
            other = f"a run with {key} {before[key]}, not {record[key]}"
            raise ValueError(f"{out} holds {other}; choose another --out")
    for key in ("trackers", "sequences"):
        joined = before[key] | record[key]
        for name, facts in before[key].items():
            if joined[name] != facts:
                advice = "choose another --out or another name"
                raise ValueError(f"{out} holds results of another {name}; {advice}")
        record[key] = joined
    return record


def read_record(out: Path) -> dict[str, Any]:
    """run.json of a folder of results.

    ValueError when it is none, or names no trackers of ours.
    """
    path = out / "run.json"
    kinds = {"dataset": str, "protocol": str, "rules": str, "sequences": dict, "trackers": dict}
    record = read_result_json(path, *kinds)
    wrong = [key for key, kind in kinds.items() if not isinstance(record[key], kind)]
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong[0]} is {record[wrong[0]]!r:.60}")
    try:
        specs = recorded_trackers(record)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its trackers cannot be read ({error})") from None
    if [spec.label for spec in specs] != list(record["trackers"]):
        raise ValueError(f"{path} is damaged: trackers are listed under other names than theirs")
    return record


def recorded_trackers(record: dict[str, Any]) -> list[TrackerSpec]:
    """The trackers of a run.json.  ValueError, KeyError or TypeError for what describes none."""
    names = [field.name for field in dataclasses.fields(TrackerSpec)]
    tables = record["trackers"].values()
    return [TrackerSpec(**{name: facts[name] for name in names}) for facts in tables]


def read_result_json(path: Path, *keys: str) -> dict[str, Any]:
    """A file that `dcfnet eval` writes, with these keys.  ValueError when it is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        what = f"{path.parent} has no {path.name}, which `dcfnet eval` writes"
        raise ValueError(f"{what}: no results there") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    # a file may hold anything
    is_dict = isinstance(content, dict)
    missing = [key for key in keys if not is_dict or key not in content]
    if missing:
        raise ValueError(f"{path} is damaged: it has no {missing[0]}")
    return content


# --- files of a job


def box_file(out: Path, job: Job) -> Path:
    """Where the boxes of a job are; the job is done when the file is there."""
    return out / "boxes" / job.spec.label / f"{job.stem}.txt"


def save_job(out: Path, job: Job, found: Trajectory) -> None:
    """Write the files of one job; the box file last."""
    path, boxes = box_file(out, job), to_otb(found.boxes)
    times = path.parent / "times"
    times.mkdir(parents=True, exist_ok=True)
    _write_rows(times / f"{job.stem}_time.txt", found.times[:, None], "%.8f")
    _write_rows(times / f"{job.stem}_decode.txt", found.decoding[:, None], "%.8f")
    if job.segment.supervised:
        rows = zip(found.boxes, found.states)
        _write_lines(path, (_row(b, "%.4f") if state == BOX else str(state) for b, state in rows))
        return
    if not job.segment.name:
        folder = out / "got10k" / job.spec.label / job.stem
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(folder / f"{job.stem}_time.txt", found.times[:, None], "%.8f")
        _write_rows(folder / f"{job.stem}_001.txt", boxes, "%.3f")
    _write_rows(path, boxes, "%.4f")


def _row(values: np.ndarray, form: str) -> str:
    return ",".join(form % value for value in values)


def _write_rows(path: Path, rows: np.ndarray, form: str) -> None:
    _write_lines(path, (_row(row, form) for row in rows))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as part:
        part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_job(out: Path, job: Job) -> Trajectory:
    """The files of one job as they were written.

    ValueError when they are damaged or of another length.
    """
    path = box_file(out, job)
    if job.segment.supervised:
        boxes, states = read_vot(path)
    else:
        boxes = read_boxes(path)
        states = unsupervised_states(len(boxes))
    files = [path.parent / "times" / f"{job.stem}_{what}.txt" for what in ("time", "decode")]
    times, decoding = (np.loadtxt(file, ndmin=1) for file in files)
    if {len(boxes), len(times), len(decoding)} != {job.frames}:
        wanted = f"{job.frames} rows of 4 numbers, with times"
        raise ValueError(f"{path}: expected {wanted}; delete it and run again")
    return Trajectory(boxes, times, decoding, states)


def is_done(out: Path, job: Job) -> bool:
    """Whether the boxes of a job are there.

    ValueError where it was done from another first box: its ground truth was corrected.
    """
    path = box_file(out, job)
    if not path.is_file():
        return False
    _, words = next(split_rows(path), ("", []))
    given = [f"{value:.4f}" for value in to_otb(job.segment.box)]
    if not job.segment.supervised and words != given:
        what = f"the box that {job.sequence.name} has now"
        raise ValueError(f"{path} does not begin at {what}; delete that file")
    return True


def whole_jobs(out: Path, evaluation: Evaluation, planned: Collection[Job] = ()) -> list[Job]:
    """Jobs of the sequences that are done by a tracker, or will be when `planned` are."""
    jobs = plan_jobs(evaluation)
    cut = {(job.spec, job.sequence) for job in jobs if job not in planned and not is_done(out, job)}
    return [job for job in jobs if (job.spec, job.sequence) not in cut]


def read_runs(out: Path, evaluation: Evaluation) -> dict[str, list[Run]]:
    """What each tracker did on the sequences that are done, by its label."""
    runs: dict[str, list[Run]] = {spec.label: [] for spec in evaluation.trackers}
    for job in whole_jobs(out, evaluation):
        file = box_file(out, job)
        runs[job.spec.label].append(Run(job.sequence, job.segment, read_job(out, job), file))
    return {label: own for label, own in runs.items() if own}


class Difference(NamedTuple):
    """What `compare_jobs` found for one result file.

    pixels: largest distance of a number, infinite for other lengths.
    """

    tracker: str
    result: str
    identical: bool
    pixels: float


def compare_jobs(out: Path, again: Path, jobs: Sequence[Job]) -> list[Difference]:
    """Hold the box files in `out` against those of the run in `again`, file by file."""
    differences = []
    for job in jobs:
        same = box_file(out, job).read_bytes() == box_file(again, job).read_bytes()
        pixels = 0.0
        if not same:
            before, after = read_job(out, job), read_job(again, job)
            both_lost = np.isnan(before.boxes) & np.isnan(after.boxes)
            distance = np.where(both_lost, 0.0, np.abs(before.boxes - after.boxes))
            known = (before.states == after.states).all() and not np.isnan(distance).any()
            pixels = float(distance.max()) if known else float("inf")
        differences.append(Difference(job.spec.label, job.stem, same, pixels))
    return differences
