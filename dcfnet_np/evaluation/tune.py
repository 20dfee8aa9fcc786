"""Search a preset's online settings for the best mean success AUC on annotated sequences, with
optuna.

What is maximised is a mean over sequences of a mean over starts, strides and weights: one run is
won or lost as a whole, and settings are not to fit one start or one training.  A folder of a search
holds

    study.log     optuna's journal of all trials; a search that was killed goes on from it
    best.json     the best settings so far, a file that `presets.get_preset` takes, with how they came about
    trials.csv    score and settings of every trial

Trial 0 is the preset as it is.  The draws of a trial depend on the seed and on the trials that are
done, so a search that went on after a kill finds what an uninterrupted one does, with any number of
workers."""

import contextlib
import csv
import dataclasses
import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import __version__, datasets, weights
from ..presets import PRESETS, get_preset, join, parse_field, split
from ..support.files import check_output, make_folder, only_writer, replacing
from ..support.workers import worker_pool
from . import baselines
from .baselines import Spec
from .metrics import get_rules
from .protocols import Segment, even_segments, is_annotated, success
from .runner import Job, RunError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

OTB = get_rules("otb")


@dataclass(frozen=True)
class Config:
    """What is searched, and how it is judged.

    preset: its text, as `get_preset` takes it.  weights: names or files.
    search: FIELD=LOW:HIGH[:log], =LOW:HIGH:STEP or =A|B|C, with commas between.
    starts: runs a sequence and stride.  frames: the most of a run; None: to the sequence's end.
    strides: each sequence is run at every so many frames, backwards where negative.
    """

    search: str
    preset: str = "default"
    weights: tuple[str, ...] = ("light",)
    starts: int = 3
    frames: int | None = None
    seed: int = 0
    device: str = "auto"
    strides: tuple[int, ...] = (1,)


class Trial(NamedTuple):
    """fields: what differs from the preset.

    scores: AUC, a row for each weights, a column for each sequence.
    """

    number: int
    fields: dict[str, Any]
    scores: np.ndarray

    @property
    def score(self) -> float:
        return float(self.scores.mean())


class Difference(NamedTuple):
    """Best minus base, over sequences.

    error: standard error of the mean difference, NaN for one sequence.
    """

    mean: float
    error: float


def paired(base: Trial, best: Trial) -> Difference:
    """The difference of two trials with its standard error: both tracked the same sequences, so
    these are pairs.
    """
    each = (best.scores - base.scores).mean(axis=0)
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return Difference(float(each.mean()), float(error))


# --- the space
# --------------------------------------------------------------------------------------------


def parse_search(text: str, preset: str) -> "dict[str, BaseDistribution]":
    """The fields of a search with what they may be.

    ValueError, one line, for what no trial could use.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(
            "dcfnet tune needs optuna; install the extra: pip install 'dcfnet_np[tune]'"
        )
    from optuna.distributions import IntDistribution

    base, space = get_preset(preset), dict[str, Any]()
    for part in text.split(","):
        name, equals, values = (word.strip() for word in part.partition("="))
        if not equals or name in space:
            wanted = "FIELD=LOW:HIGH, FIELD=LOW:HIGH:log, FIELD=LOW:HIGH:STEP or FIELD=A|B, each field once"
            raise ValueError(f"--search {part!r}: expected {wanted}")
        try:
            space[name] = _distribution(name, values)
        except ValueError as error:
            raise ValueError(f"--search {part}: {error}") from None
    # Rules of a preset join at most neighbouring fields, so the corners and each single value show
    # what is wrong.
    allowed = [
        dict(zip(space, values)) for values in itertools.product(*map(_ends, space.values()))
    ]
    for name, axis in space.items():
        if isinstance(axis, IntDistribution):
            allowed += [
                allowed[0] | {name: value} for value in range(axis.low, axis.high + 1, axis.step)
            ]
    for fields in allowed:
        try:
            dataclasses.replace(base, **fields)
        except ValueError as error:
            chosen = ", ".join(f"{name}={value}" for name, value in fields.items())
            raise ValueError(f"--search allows {chosen}, but {error}") from None
    return space


def _distribution(name: str, text: str) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if ":" not in text:
        return CategoricalDistribution(
            [parse_field(name, word.strip()) for word in text.split("|")]
        )
    low, high, *rest = (word.strip() for word in text.split(":"))
    first, last = parse_field(name, low), parse_field(name, high)
    if isinstance(first, (bool, str)):
        raise ValueError(f"{name} has no range; give choices: {name}=A|B")
    if not first < last:
        raise ValueError(f"the low end must be below the high end, got {low} and {high}")
    log = rest == ["log"]
    if log and first <= 0:
        raise ValueError(f"a range with :log must begin above 0, got {low}")
    step = None if log or not rest else parse_field(name, ":".join(rest))
    if step is not None and not 0 < step <= last - first:
        raise ValueError(f"the step must be above 0 and at most the range, got {step}")
    if isinstance(first, int):
        return IntDistribution(first, last, log=log, step=step or 1)
    return FloatDistribution(first, last, log=log, step=step)


def _ends(axis: Any) -> tuple[Any, ...]:
    return axis.choices if hasattr(axis, "choices") else (axis.low, axis.high)


def _holds(axis: Any, value: Any) -> bool:
    if hasattr(axis, "choices"):
        return value in axis.choices
    return bool(
        axis.low <= value <= axis.high and (not axis.step or (value - axis.low) % axis.step == 0)
    )


# --- the search
# -------------------------------------------------------------------------------------------


class Search(contextlib.AbstractContextManager["Search"]):
    """A search in the folder `out`, begun or gone on with; nobody else may write there until it is
    left.

    Raises ValueError for anything wrong, before any work, files.WriteError where another search is
    under way."""

    def __init__(self, config: Config, sequences: Sequence[datasets.Sequence], out: Path) -> None:
        self.config, self.sequences, self.out = config, list(sequences), out
        self.base, self.text = get_preset(config.preset), join(*split(config.preset))
        self.space = parse_search(config.search, config.preset)
        twice = [name for name in config.weights if config.weights.count(name) > 1]
        if twice:
            raise ValueError(f"--weights names {twice[0]} twice; each counts once")
        for stride in config.strides:
            if stride == 0 or config.strides.count(stride) > 1:
                raise ValueError(f"--strides must be whole numbers but 0, each once, got {stride}")
        if not 0 <= config.seed < 2**31:
            raise ValueError(f"--seed must be from 0 to {2**31 - 1}, got {config.seed}")
        digests = {
            name: weights.parameter_digest(weights.load_weights(name).parameters)
            for name in config.weights
        }
        baselines.make(self._spec(config.weights[0], {}))  # for what is wrong with the device
        self.runs = [self._runs_of(sequence) for sequence in self.sequences]
        make_folder(out)
        self._held = contextlib.ExitStack()
        self._held.enter_context(only_writer(out))
        for name in ("study.log", "best.json", "trials.csv"):
            check_output(out / name)
        settings = {
            "preset": {**dataclasses.asdict(self.base), "name": ""},
            "search": "".join(config.search.split()),
            "starts": config.starts,
            "frames": config.frames,
            "strides": config.strides,
            "seed": config.seed,
            "weights": digests,
            "sequences": [sequence.name for sequence in self.sequences],
            "data_digest": data_digest(self.sequences),
        }
        self.settings = json.loads(json.dumps(settings))
        self.study = _open_study(out / "study.log")
        before = self.study.user_attrs.get("settings", self.settings)
        for key, value in self.settings.items():
            if before.get(key) != value:
                raise ValueError(f"{out} holds a search with another {key}; choose another --out")
        self.study.set_user_attr("settings", self.settings)

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def frames(self) -> int:
        """Frames that a trial tracks."""
        return sum(job.frames for job in self._jobs({}))

    def trials(self) -> list[Trial]:
        """Those that are done."""
        done = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.name == "COMPLETE"
        ]
        found = []
        for number, trial in enumerate(done):
            fields = trial.user_attrs.get("fields")
            scores = np.array(trial.user_attrs.get("scores"))
            shape = len(self.config.weights), len(self.sequences)
            if not isinstance(fields, dict) or scores.dtype != float or scores.shape != shape:
                log = self.out / "study.log"
                raise ValueError(
                    f"{log} is damaged: trial {number} has no scores; choose another --out"
                )
            found.append(Trial(number, fields, scores))
        return found

    def best(self) -> Trial:
        """The first of the best."""
        return max(self.trials(), key=lambda trial: trial.score)

    def run(
        self, trials: int, workers: int = 1, progress: Callable[[int], None] = lambda frames: None
    ) -> Iterator[Trial]:
        """Trials until there are so many, each with the files written.  progress: called with the
        frames of each run.

        workers: processes; 1 is this one.  Raises RunError when a run fails.
        """
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING":  # it was cut, and is done again
                self.study.tell(trial.number, state=_failed())
        with contextlib.ExitStack() as stack:
            map_ = stack.enter_context(worker_pool(workers)).map if workers > 1 else map
            while len(self.trials()) < trials:
                self._next(lambda jobs: self._measure(jobs, map_, progress))
                self._write()
                yield self.trials()[-1]
        if self.trials():
            self._write()

    def _next(self, measure: Callable[[list[Job]], np.ndarray]) -> None:
        from optuna.samplers import TPESampler
        from optuna.trial import create_trial

        done = self.trials()
        if not done:
            # Not drawn, since the preset may lie outside what is searched; optuna learns from what
            # lies inside.
            scores = measure(self._jobs({})).tolist()
            inside = {
                name: axis
                for name, axis in self.space.items()
                if _holds(axis, getattr(self.base, name))
            }
            params = {name: getattr(self.base, name) for name in inside}
            attributes = {"fields": {}, "scores": scores}
            value = float(np.mean(scores))
            self.study.add_trial(
                create_trial(
                    value=value, params=params, distributions=inside, user_attrs=attributes
                )
            )
            return
        self.study.sampler = TPESampler(seed=self.config.seed + len(done))
        trial = self.study.ask(self.space)
        fields = {
            name: value for name, value in trial.params.items() if value != getattr(self.base, name)
        }
        same = [other.scores for other in done if other.fields == fields]
        scores = same[0] if same else measure(self._jobs(fields))
        trial.set_user_attr("fields", fields)
        trial.set_user_attr("scores", scores.tolist())
        self.study.tell(trial, float(scores.mean()))

    def _spec(self, name: str, fields: dict[str, Any]) -> Spec:
        label = re.sub(r"[^\w-]", "-", name)
        return Spec(label, "dcfnet", name, join(self.text, fields), self.config.device)

    def _runs_of(self, sequence: datasets.Sequence) -> list[tuple[datasets.Sequence, Segment]]:
        """Strides, then starts."""
        thinned = [sequence.every(stride) for stride in self.config.strides]
        starts, frames = self.config.starts, self.config.frames
        runs = [
            (each, segment)
            for each in thinned
            for segment in even_segments(each, OTB, starts, frames)
        ]
        runs = [
            (each, segment)
            for each, segment in runs
            if is_annotated(each, segment.start, segment.end)
        ]
        if not runs:
            reason = "has no ground truth after its first frame; leave it out by --sequences"
            raise ValueError(f"{sequence.name} {reason}")
        return runs

    def _jobs(self, fields: dict[str, Any]) -> list[Job]:
        """All runs of a trial: weights, then sequences, then their runs."""
        specs = [self._spec(name, fields) for name in self.config.weights]
        return [
            Job(spec, sequence, segment)
            for spec in specs
            for runs in self.runs
            for sequence, segment in runs
        ]

    def _measure(
        self, jobs: list[Job], map_: Callable[..., Any], progress: Callable[[int], None]
    ) -> np.ndarray:
        """AUC of each weights and sequence, means over its runs: (weights, sequences)."""
        # workers end at about the same time
        order = sorted(range(len(jobs)), key=lambda index: -jobs[index].frames)
        scores = np.empty(len(jobs))
        try:
            for index, score in zip(order, map_(_success, [jobs[index] for index in order])):
                scores[index] = score
                progress(jobs[index].frames)
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (out of memory?); the same command goes on from here"
            ) from None
        rows = scores.reshape(len(self.config.weights), -1)
        ends = np.cumsum([len(runs) for runs in self.runs])
        return np.array([[part.mean() for part in np.split(row, ends[:-1])] for row in rows])

    def _write(self) -> None:
        """best.json and trials.csv."""
        trials, best = self.trials(), self.best()
        base = trials[0]
        root, fields = split(join(self.text, best.fields))
        changed = {
            name: value for name, value in fields.items() if value != getattr(PRESETS[root], name)
        }
        difference = paired(base, best)
        provenance = {
            "made_by": f"dcfnet tune, dcfnet_np {__version__}",
            "base": self.text,
            "score": {"base": base.score, "best": best.score},
            "difference": {"mean": difference.mean, "standard_error": _plain(difference.error)},
            "sequences": _pairs(
                [s.name for s in self.sequences], base.scores.mean(axis=0), best.scores.mean(axis=0)
            ),
            "weights": _pairs(
                self.config.weights, base.scores.mean(axis=1), best.scores.mean(axis=1)
            ),
            "trials": len(trials),
            **{
                key: value
                for key, value in self.settings.items()
                if key not in ("preset", "weights", "sequences")
            },
        }
        for name, digest in self.settings["weights"].items():
            provenance["weights"][name]["digest"] = digest
        with replacing(self.out / "best.json") as part:
            content = {"preset": root, **changed, "provenance": provenance}
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with (
            replacing(self.out / "trials.csv") as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["trial", "score", "difference", "standard_error", *self.space])
            for trial in trials:
                values = [trial.fields.get(name, getattr(self.base, name)) for name in self.space]
                writer.writerow([trial.number, trial.score, *paired(base, trial), *values])


def data_digest(sequences: Sequence[datasets.Sequence]) -> str:
    """SHA-256 over names, boxes and frames."""
    total = hashlib.sha256()
    for sequence in sequences:
        total.update(f"{sequence.name} {len(sequence)}\n".encode())
        total.update(np.ascontiguousarray(sequence.boxes, "<f8").tobytes())
        for frame in sequence.frames:
            total.update(frame.read_bytes())
    return total.hexdigest()


def table(search: Search) -> list[tuple[str, ...]]:
    """Rows for a terminal: base and best on every sequence, and means by weights where there are
    several.
    """
    base, best = search.trials()[0], search.best()
    parts: list[tuple[Sequence[str], int]] = [([s.name for s in search.sequences], 0)]
    if len(search.config.weights) > 1:
        # RUN/weights.h5
        short = ["/".join(Path(name).parts[-2:]) for name in search.config.weights]
        parts.append(([f"mean, {name}" for name in short], 1))
    rows: list[tuple[str, ...]] = [("", "base", f"trial {best.number}", "difference")]
    for names, axis in parts:
        pairs = zip(names, base.scores.mean(axis=axis), best.scores.mean(axis=axis))
        rows += [
            (name, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}") for name, old, new in pairs
        ]
    rows.append(
        ("mean", f"{base.score:.4f}", f"{best.score:.4f}", f"{best.score - base.score:+.4f}")
    )
    return rows


def describe(trial: Trial, best: Trial) -> str:
    """A trial in a line, beside the best one so far."""
    words = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.fields.items()
    ]
    settings = ", ".join(words) or "the preset as it is"
    return f"trial {trial.number}: {trial.score:.4f} with {settings}; best {best.score:.4f}, trial {best.number}"


def verdict(search: Search) -> str:
    """A line on the difference and its standard error."""
    base, best = search.trials()[0], search.best()
    if best.number == 0:
        return f"no trial is better than {search.config.preset}"
    mean, error = paired(base, best)
    if np.isnan(error):
        return f"difference {mean:+.4f} on one sequence: that may be chance"
    line = (
        f"difference {mean:+.4f}, standard error {error:.4f} over {len(search.sequences)} sequences"
    )
    return line + (
        ": no more than noise may give" if mean < 2 * error else "; the best of many is flattered"
    )


def _success(job: Job) -> float:
    """Success AUC of one run, in a process of its own."""
    try:
        return success(baselines.make(job.spec), job.sequence, job.segment, OTB)
    except Exception as error:
        raise RunError(
            f"{job.spec.label} on {job.sequence.name}: {type(error).__name__}: {error}"
        ) from error


def _open_study(path: Path) -> "Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # of a search that was killed; optuna would wait
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.is_file():
        lines = path.read_bytes()
        if not lines.endswith(b"\n"):  # the machine stopped amid a line; optuna would append to it
            path.write_bytes(lines[: lines.rfind(b"\n") + 1])
    try:
        backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        return optuna.create_study(
            study_name="tune",
            direction="maximize",
            storage=optuna.storages.JournalStorage(backend),
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to begin again") from None


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _pairs(names: Sequence[str], base: np.ndarray, best: np.ndarray) -> dict[str, dict[str, Any]]:
    return {
        name: {"base": float(old), "best": float(new)} for name, old, new in zip(names, base, best)
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value
