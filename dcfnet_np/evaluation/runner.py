"""Run trackers over a data set: one job a tracker, sequence and segment, in this process, in
several, or on Dask.

A folder of results holds

    run.json                            what was run: data set, protocol, trackers with settings and weights digest
    boxes/TRACKER/SEQUENCE.txt          OTB rows (x,y,w,h from 1, %.4f); SEQUENCE-SEGMENT.txt for TRE and SRE
    boxes/TRACKER/times/SEQUENCE_time.txt, SEQUENCE_decode.txt    seconds a frame
    got10k/TRACKER/SEQUENCE/SEQUENCE_001.txt, SEQUENCE_time.txt   the GOT-10k toolkit's layout (OPE)

A box file is whole or absent and is written after its times, so a run that was killed goes on where
it stopped. Scores are always taken from the files.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..support.files import make_folder, only_writer, replacing
from ..support.workers import hold_threads, worker_pool
from ..vision.box_files import read_boxes, split_rows
from ..vision.boxes import to_otb
from . import baselines
from .baselines import Spec, Unavailable
from .metrics import get_rules
from .protocols import BOX, STARTED, Run, Segment, run, segments
from .result_files import read_vot

DASK_TIMEOUT = 10  # seconds for a scheduler to answer


class RunError(RuntimeError):
    """A run failed midway; what was finished is kept."""


@dataclass(frozen=True)
class Config:
    """What is run.

    dataset: a folder.  sequences: names, or None for all.  rules: a name of metrics.RULES.
    """

    dataset: str
    trackers: tuple[Spec, ...]
    protocol: str = "ope"
    rules: str = "otb"
    sequences: tuple[str, ...] | None = None
    attributes: str | None = None


class Job(NamedTuple):
    """One run of one tracker; picklable, so that another process or machine can do it."""

    spec: Spec
    sequence: datasets.Sequence
    segment: Segment

    @property
    def stem(self) -> str:
        """Name of the result file without its suffix."""
        return self.sequence.name + (f"-{self.segment.name}" if self.segment.name else "")

    @property
    def frames(self) -> int:
        return self.segment.frames(self.sequence)


def available(specs: Sequence[Spec]) -> tuple[list[Spec], dict[str, str]]:
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
            baselines.make(spec)
            there.append(spec)
        except Unavailable as error:
            missing[spec.label] = str(error)
    return there, missing


def plan(
    config: Config, specs: Sequence[Spec], sequences: Sequence[datasets.Sequence]
) -> list[Job]:
    """All jobs, the longest sequences first, so that workers end at about the same time."""
    rules = get_rules(config.rules)
    jobs = [
        Job(spec, sequence, segment)
        for sequence in sequences
        for segment in segments(sequence, config.protocol, rules)  # type: ignore[arg-type]
        for spec in specs
    ]
    return sorted(jobs, key=lambda job: -job.frames)


def remember(
    out: Path, config: Config, specs: Sequence[Spec], sequences: Sequence[datasets.Sequence]
) -> None:
    """Write run.json, or hold the run against the one that is there: ValueError unless its results
    can be kept.
    """
    path = out / "run.json"
    record: dict[str, Any] = {
        "dataset": str(Path(config.dataset).resolve()),
        "protocol": config.protocol,
        "rules": config.rules,
        "attributes": config.attributes and str(Path(config.attributes).resolve()),
        "sequences": {sequence.name: len(sequence) for sequence in sequences},
        "trackers": {spec.label: baselines.describe(spec) for spec in specs},
    }
    if path.is_file():
        before = read_record(out)
        for key in ("dataset", "protocol", "rules"):
            if before[key] != record[key]:
                raise ValueError(
                    f"{out} holds a run with {key} {before[key]}, not {record[key]}; choose another --out"
                )
        for key in ("trackers", "sequences"):
            for name, facts in before[key].items():
                if record[key].setdefault(name, facts) != facts:
                    raise ValueError(
                        f"{out} holds results of another {name}; choose another --out or another name"
                    )
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(out: Path) -> dict[str, Any]:
    """run.json of a folder of results.

    ValueError when it is none, or names no trackers of ours.
    """
    path = out / "run.json"
    kinds = {"dataset": str, "protocol": str, "rules": str, "sequences": dict, "trackers": dict}
    record = read_json(path, *kinds)
    wrong = [key for key, kind in kinds.items() if not isinstance(record[key], kind)]
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong[0]} is {record[wrong[0]]!r:.60}")
    try:
        specs = specs_of(record)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its trackers cannot be read ({error})") from None
    if [spec.label for spec in specs] != list(record["trackers"]):
        raise ValueError(f"{path} is damaged: trackers are listed under other names than theirs")
    return record


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A file that `dcfnet eval` writes, with these keys.

    ValueError when it is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"{path.parent} has no {path.name}, which `dcfnet eval` writes: no results there"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is damaged: it has no {missing[0]}")
    return content


# --- running
# ----------------------------------------------------------------------------------------------


def run_job(job: Job, cores: int | None = None) -> Run:
    """Do one job.  cores: hold this process to so many threads before; None leaves it alone."""
    if cores is not None:
        hold_threads(cores)
    return run(baselines.make(job.spec), job.sequence, job.segment)


def execute(
    jobs: Sequence[Job], workers: int = 1, dask: str | None = None
) -> Iterator[tuple[Job, Run]]:
    """Each job with its run, in order of completion.

    workers: processes on this machine; 1 is this process.  dask: address of a scheduler whose
    workers have this package and see frames and models under the same paths.  Raises RunError at
    the end when jobs failed, naming the first."""
    failed: list[str] = []

    def collect(job: Job, get: Callable[[], Run]) -> Iterator[tuple[Job, Run]]:
        try:
            result = get()
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (out of memory?); the same command goes on from here"
            ) from None
        except Exception as error:
            failed.append(f"{job.spec.label} on {job.stem}: {type(error).__name__}: {error}")
            return
        yield job, result

    if dask is not None:
        with _dask_futures(jobs, dask) as pairs:
            for job, get in pairs:
                yield from collect(job, get)
    elif workers > 1:
        with worker_pool(workers) as executor:
            for job, get in _completed({executor.submit(run_job, job): job for job in jobs}):
                yield from collect(job, get)
    else:
        for job in jobs:
            yield from collect(job, lambda job=job: run_job(job))  # type: ignore[misc]
    if failed:
        more = f" (and {len(failed) - 1} more runs)" if len(failed) > 1 else ""
        raise RunError(f"{failed[0]}{more}; the other results are kept")


def _completed(futures: "dict[Future[Run], Job]") -> Iterator[tuple[Job, Callable[[], Run]]]:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield futures.pop(future), future.result


@contextlib.contextmanager
def _dask_futures(
    jobs: Sequence[Job], address: str
) -> Iterator[Iterator[tuple[Job, Callable[[], Run]]]]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError(
            "--dask needs dask.distributed; install the extra dask: pip install '.[dask]'"
        ) from None
    try:
        client = Client(address, timeout=DASK_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address} ({error}); start one: dask scheduler"
        ) from None
    with client:
        futures = {client.submit(run_job, job, 1, pure=False): job for job in jobs}
        yield ((futures[future], future.result) for future in as_completed(futures))


# --- files
# ------------------------------------------------------------------------------------------------


def box_file(out: Path, job: Job) -> Path:
    """Where the boxes of a job are; the job is done when the file is there."""
    return out / "boxes" / job.spec.label / f"{job.stem}.txt"


def save(out: Path, job: Job, result: Run) -> None:
    """Write the files of one job; the box file last."""
    path = box_file(out, job)
    times = path.parent / "times"
    times.mkdir(parents=True, exist_ok=True)
    _write_rows(times / f"{job.stem}_time.txt", result.times[:, None], "%.8f")
    _write_rows(times / f"{job.stem}_decode.txt", result.decoding[:, None], "%.8f")
    if not job.segment.supervised:
        if not job.segment.name:
            folder = out / "got10k" / job.spec.label / job.stem
            folder.mkdir(parents=True, exist_ok=True)
            _write_rows(folder / f"{job.stem}_time.txt", result.times[:, None], "%.8f")
            _write_rows(folder / f"{job.stem}_001.txt", to_otb(result.boxes), "%.3f")
        _write_rows(path, to_otb(result.boxes), "%.4f")
        return
    lines = [
        ",".join(f"{value:.4f}" for value in box) if state == BOX else str(int(state))
        for box, state in zip(result.boxes, result.states)
    ]
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: np.ndarray, form: str) -> None:
    text = "".join(",".join(form % value for value in row) + "\n" for row in rows)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read(out: Path, job: Job) -> Run:
    """The files of one job as they were written.

    ValueError when they are damaged or of another length.
    """
    path = box_file(out, job)
    times = path.parent / "times"
    if job.segment.supervised:
        boxes, states = read_vot(path)
    else:
        boxes = read_boxes(path)
        states = np.full(len(boxes), BOX, np.int8)
        states[0] = STARTED
    seconds = [np.loadtxt(times / f"{job.stem}_{what}.txt", ndmin=1) for what in ("time", "decode")]
    if boxes.shape != (job.frames, 4) or any(len(values) != job.frames for values in seconds):
        raise ValueError(
            f"{path}: expected {job.frames} rows of 4 numbers, with times; delete it and run again"
        )
    return Run(boxes, seconds[0], seconds[1], states)


def _check_start(out: Path, job: Job) -> None:
    """ValueError where a job was done from another first box, as the ground truth has been
    corrected since.
    """
    path = box_file(out, job)
    _, words = next(split_rows(path), ("", []))
    if not job.segment.supervised and words != [
        f"{value:.4f}" for value in to_otb(job.segment.box)
    ]:
        raise ValueError(
            f"{path} does not begin at the box that {job.sequence.name} has now; delete that file"
        )


def evaluate(
    config: Config,
    out: Path,
    specs: Sequence[Spec],
    sequences: Sequence[datasets.Sequence],
    workers: int = 1,
    dask: str | None = None,
    progress: Callable[[int, int], None] = lambda frames, total: None,
) -> list[Job]:
    """Run what is not there yet and write its files; returns all jobs.

    progress(frames, total) is called with the frames of each job that is done, first with those
    found done.
    Raises ValueError when `out` holds another run, WriteError when another process writes there,
    RunError when a job failed.
    """
    make_folder(out)
    with only_writer(out):
        remember(out, config, specs, sequences)
        jobs = plan(config, specs, sequences)
        open_jobs = []
        for job in jobs:
            if box_file(out, job).is_file():
                _check_start(out, job)
            else:
                open_jobs.append(job)
        total = sum(job.frames for job in jobs)
        progress(total - sum(job.frames for job in open_jobs), total)
        if open_jobs:
            for job, result in execute(open_jobs, workers, dask):
                save(out, job, result)
                progress(job.frames, total)
    return jobs


class Difference(NamedTuple):
    """What `verify` found for one result file.

    pixels: largest distance of a number, infinite for other lengths.
    """

    tracker: str
    result: str
    identical: bool
    pixels: float


def verify(out: Path, again: Path, jobs: Sequence[Job]) -> list[Difference]:
    """Hold the box files in `out` against those of the run in `again`, file by file."""
    differences = []
    for job in jobs:
        old, new = box_file(out, job), box_file(again, job)
        same = old.read_bytes() == new.read_bytes()
        pixels = 0.0
        if not same:
            before, after = read(out, job), read(again, job)
            both_lost = np.isnan(before.boxes) & np.isnan(after.boxes)
            distance = np.where(both_lost, 0.0, np.abs(before.boxes - after.boxes))
            states_differ = bool((before.states != after.states).any())
            pixels = (
                float("inf") if states_differ or np.isnan(distance).any() else float(distance.max())
            )
        differences.append(Difference(job.spec.label, job.stem, same, pixels))
    return differences


def specs_of(record: dict[str, Any]) -> list[Spec]:
    """The trackers of a run.json.  ValueError, KeyError or TypeError for what describes none."""
    names = [field.name for field in dataclasses.fields(Spec)]
    return [Spec(**{name: facts[name] for name in names}) for facts in record["trackers"].values()]
