"""Search a preset's online settings for the best mean success AUC on annotated sequences.

optuna draws and keeps the trials; here is what may be drawn, what a trial scores, and what is left
behind.  What is maximised is a mean over sequences of a mean over starts, strides and weights: one
run is won or lost as a whole, and settings are not to fit one start or one training.  A folder of a
search holds

    study.log     optuna's journal of all trials; a search that was killed goes on from it
    best.json     the best settings so far, a file that `presets.get_preset` takes, with how they
                  came about
    trials.csv    score and settings of every trial

Trial 0 is the preset as it is.  The draws of a trial depend on the seed and on the trials that are
done, so a search that went on after a kill finds what an uninterrupted one does, with any number of
workers.
"""

import contextlib
import csv
import dataclasses
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import __version__, datasets, weights
from ..presets import PRESETS, get_preset, join_preset_text, parse_field, split_preset_text
from ..support.files import make_folder, only_writer, replacing
from .protocols import even_segments, is_annotated, score_runs
from .rules import get_rules
from .runner import Job, run_jobs
from .trackers import TrackerSpec, make_tracker

if TYPE_CHECKING:
    from optuna import Study

OTB = get_rules("otb")
TOLD_SETTINGS = ("weights", "search", "starts", "frames", "strides", "seed", "data_digest")


@dataclass(frozen=True)
class SearchConfig:
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

    def __post_init__(self) -> None:
        if 0 in self.strides:
            raise ValueError("--strides must be whole numbers but 0")


class ScoredTrial(NamedTuple):
    """fields: what differs from the preset.  scores: AUC, a row for each weights."""

    number: int
    fields: dict[str, Any]
    scores: list[list[float]]

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))


def paired_difference(base: ScoredTrial, best: ScoredTrial) -> tuple[float, float]:
    """Mean difference of two trials over sequences, and its standard error, NaN for one sequence.

    Both tracked the same sequences, so these are pairs.
    """
    each = np.subtract(best.scores, base.scores).mean(axis=0)
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return float(each.mean()), float(error)


# --- what may be drawn


def parse_search_space(text: str, preset: str) -> dict[str, Any]:
    """The fields of a search with optuna's distributions of what they may be.

    ValueError, one line, for what no trial could use.
    """
    if importlib.util.find_spec("optuna") is None:
        advice = "install the extra: pip install 'dcfnet_np[train]'"
        raise ValueError(f"dcfnet tune needs optuna; {advice}")
    base, space = get_preset(preset), dict[str, Any]()
    for part in text.split(","):
        name, equals, values = (word.strip() for word in part.partition("="))
        if not equals or name in space:
            forms = "FIELD=LOW:HIGH, FIELD=LOW:HIGH:log, FIELD=LOW:HIGH:STEP or FIELD=A|B"
            raise ValueError(f"--search {part!r}: expected {forms}, each field once")
        try:
            space[name] = _parse_axis(name, values)
            for value in _values(space[name]):
                dataclasses.replace(base, **{name: value})
        except ValueError as error:
            raise ValueError(f"--search {part}: {error}") from None
    return space


def _parse_axis(name: str, text: str) -> Any:
    """One distribution of optuna's, which refuses a range that is none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if ":" not in text:
        return CategoricalDistribution(
            [parse_field(name, word.strip()) for word in text.split("|")]
        )
    low, high, *rest = (word.strip() for word in text.split(":"))
    first, last = parse_field(name, low), parse_field(name, high)
    if isinstance(first, bool | str):
        raise ValueError(f"{name} has no range; give choices: {name}=A|B")
    log = rest == ["log"]
    step = None if log or not rest else parse_field(name, ":".join(rest))
    if isinstance(first, int):
        return IntDistribution(first, last, log=log, step=1 if step is None else step)
    return FloatDistribution(first, last, log=log, step=step)


def _values(axis: Any) -> Sequence[Any]:
    """The values of an axis where they are counted, else its ends."""
    if hasattr(axis, "choices"):
        return tuple(axis.choices)
    whole = isinstance(axis.low, int)
    return range(axis.low, axis.high + 1, axis.step) if whole else (axis.low, axis.high)


# --- the search


class PresetSearch(contextlib.ExitStack):
    """A search in the folder `out`, begun or gone on with; nobody else may write there meanwhile.

    Raises ValueError for anything wrong, before any work, files.WriteError where another search is
    under way.
    """

    def __init__(
        self, config: SearchConfig, sequences: Sequence[datasets.Sequence], out: Path
    ) -> None:
        super().__init__()
        self.config, self.sequences, self.out = config, list(sequences), out
        self.base = get_preset(config.preset)
        self.text = join_preset_text(*split_preset_text(config.preset))
        self.space = parse_search_space(config.search, config.preset)
        used = {name: weights.load_weights(name).parameters for name in config.weights}
        make_tracker(self._spec(config.weights[0], {}))  # for what is wrong with the device
        self.runs = [_plan_runs(sequence, config) for sequence in self.sequences]
        make_folder(out)
        self.enter_context(only_writer(out))
        truth = b"".join(each.boxes.astype("<f8").tobytes() for each in self.sequences)
        settings = {
            "preset": {**dataclasses.asdict(self.base), "name": ""},
            "search": "".join(config.search.split()),
            **{name: getattr(config, name) for name in ("starts", "frames", "strides", "seed")},
            "weights": {name: weights.parameter_digest(each) for name, each in used.items()},
            "sequences": [sequence.name for sequence in self.sequences],
            "data_digest": hashlib.sha256(truth).hexdigest(),
        }
        self.settings = json.loads(json.dumps(settings))
        self.study = _open_study(out / "study.log")
        before = self.study.user_attrs.get("settings", self.settings)
        for key, value in self.settings.items():
            if before.get(key) != value:
                raise ValueError(f"{out} holds a search with another {key}; choose another --out")
        self.study.set_user_attr("settings", self.settings)

    def trials(self) -> list[ScoredTrial]:
        """Those that are done."""
        from optuna.trial import TrialState

        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        try:
            told = [(trial.user_attrs["fields"], trial.user_attrs["scores"]) for trial in done]
        except KeyError:
            what = f"{self.out / 'study.log'} is damaged: a trial has no scores"
            raise ValueError(f"{what}; choose another --out") from None
        return [ScoredTrial(number, *each) for number, each in enumerate(told)]

    def best(self) -> ScoredTrial:
        """The first of the best."""
        return max(self.trials(), key=lambda trial: trial.score)

    def base_and_best(self) -> dict[str, dict[str, float]]:
        """Scores of the preset as it is and of the best trial, by sequence."""
        pair = (np.mean(trial.scores, axis=0).tolist() for trial in (self.trials()[0], self.best()))
        names = (sequence.name for sequence in self.sequences)
        return {name: {"base": old, "best": new} for name, old, new in zip(names, *pair)}

    def run(self, trials: int, workers: int = 1) -> Iterator[ScoredTrial]:
        """Trials until there are so many, each with the files written.

        workers: processes; 1 is this one.  Raises RunError when a run fails.
        """
        while len(self.trials()) < trials:
            self.next_trial(lambda jobs: self.measure(jobs, workers))
            self.write_files()
            yield self.trials()[-1]
        self.write_files()

    def next_trial(self, measure: Callable[[list[Job]], list[list[float]]]) -> None:
        """Draw the next settings and tell optuna how they score: the preset's first."""
        from optuna.samplers import TPESampler
        from optuna.trial import create_trial

        done, base = self.trials(), vars(self.base)
        if not done:  # not drawn, for it may lie outside what is searched
            scores = measure(self._jobs({}))
            told: dict[str, Any] = {"fields": {}, "scores": scores}
            self.study.add_trial(create_trial(value=float(np.mean(scores)), user_attrs=told))
            return
        self.study.sampler = TPESampler(seed=self.config.seed + len(done))
        asked = self.study.ask(self.space)
        fields = {name: value for name, value in asked.params.items() if value != base[name]}
        same = [other.scores for other in done if other.fields == fields]
        scores = same[0] if same else measure(self._jobs(fields))
        asked.set_user_attr("fields", fields)
        asked.set_user_attr("scores", scores)
        self.study.tell(asked, float(np.mean(scores)))

    def measure(self, jobs: list[Job], workers: int) -> list[list[float]]:
        """AUC of each sequence, the mean over its runs, in a row for each weights."""
        scores = {}
        # the longest first: workers end at about the same time
        for job, found in run_jobs(sorted(jobs, key=lambda job: -job.frames), workers):
            scored = score_runs(job.sequence, [(job.segment, found)], OTB)
            scores[job] = scored.scores.success
        in_order = iter([scores[job] for job in jobs])
        return [
            [float(np.mean([next(in_order) for _ in runs])) for runs in self.runs]
            for _ in self.config.weights
        ]

    def _spec(self, name: str, fields: dict[str, Any]) -> TrackerSpec:
        label = re.sub(r"[^\w-]", "-", name)
        preset = join_preset_text(self.text, fields)
        return TrackerSpec(label, "dcfnet", name, preset, self.config.device)

    def _jobs(self, fields: dict[str, Any]) -> list[Job]:
        """All runs of a trial: weights, then sequences, then their runs."""
        specs = [self._spec(name, fields) for name in self.config.weights]
        return [Job(spec, *run) for spec in specs for runs in self.runs for run in runs]

    def write_files(self) -> None:
        """best.json and trials.csv."""
        trials, best = self.trials(), self.best()
        base = trials[0]
        root, fields = split_preset_text(join_preset_text(self.text, best.fields))
        plain = vars(PRESETS[root])
        mean, error = paired_difference(base, best)
        provenance = {
            "made_by": f"dcfnet tune, dcfnet_np {__version__}",
            "base": self.text,
            "score": {"base": base.score, "best": best.score},
            "difference": {"mean": mean, "standard_error": None if np.isnan(error) else error},
            "sequences": self.base_and_best(),
            "trials": len(trials),
            **{key: self.settings[key] for key in TOLD_SETTINGS},
        }
        changed = {name: value for name, value in fields.items() if value != plain[name]}
        content = {"preset": root, **changed, "provenance": provenance}
        with replacing(self.out / "best.json") as part:
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with (
            replacing(self.out / "trials.csv") as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["trial", "score", "difference", "standard_error", *self.space])
            for trial in trials:
                values = [trial.fields.get(name, getattr(self.base, name)) for name in self.space]
                difference = paired_difference(base, trial)
                writer.writerow([trial.number, trial.score, *difference, *values])


def _plan_runs(sequence: datasets.Sequence, config: SearchConfig) -> list[tuple[Any, Any]]:
    """(sequence, segment) of the runs that can be scored: strides, then starts."""
    runs = [
        (each, segment)
        for each in map(sequence.every, config.strides)
        for segment in even_segments(each, OTB, config.starts, config.frames)
        if is_annotated(each, segment.start, segment.end)
    ]
    if not runs:
        reason = "has no ground truth after its first frame; leave it out by --sequences"
        raise ValueError(f"{sequence.name} {reason}")
    return runs


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
        storage = optuna.storages.JournalStorage(backend)
        options: Any = {"direction": "maximize", "load_if_exists": True}
        return optuna.create_study(storage=storage, study_name="tune", **options)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to begin again") from None


# --- what is told


def search_table(search: PresetSearch) -> list[tuple[str, ...]]:
    """Rows for a terminal: base and best on every sequence."""
    base, best = search.trials()[0], search.best()
    rows = search.base_and_best() | {"mean": {"base": base.score, "best": best.score}}
    table: list[tuple[str, ...]] = [("", "base", f"trial {best.number}", "difference")]
    for name, row in rows.items():
        old, new, digits = row["base"], row["best"], 4 if name == "mean" else 3
        figures = (f"{old:.{digits}f}", f"{new:.{digits}f}", f"{new - old:+.{digits}f}")
        table.append((name, *figures))
    return table


def trial_line(trial: ScoredTrial, best: ScoredTrial) -> str:
    """A trial in a line, beside the best one so far."""
    settings = join_preset_text("", trial.fields)[1:] or "the preset as it is"
    line = f"trial {trial.number}: {trial.score:.4f} with {settings}"
    return f"{line}; best {best.score:.4f}, trial {best.number}"


def search_verdict(search: PresetSearch) -> str:
    """A line on the difference and its standard error."""
    base, best = search.trials()[0], search.best()
    if best.number == 0:
        return f"no trial is better than {search.config.preset}"
    mean, error = paired_difference(base, best)
    line = f"difference {mean:+.4f}, standard error {error:.4f}"
    if mean >= 2 * error:  # never where one sequence has no error
        return f"{line}; the best of many is flattered"
    return f"{line}: no more than noise may give"
