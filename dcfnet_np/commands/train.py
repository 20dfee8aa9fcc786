"""`dcfnet train`: the settings of a run, its bar, its lines and pictures."""

import argparse
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ..support.errors import Failed
from ..support.files import WriteError
from ..support.words import counted
from ..train import parallel
from ..train.checkpoint import load_checkpoint
from ..train.config import Config, recipe
from ..train.loop import RunOptions, TrainingError, Watcher, train
from . import common
from .prepare import warning_lines

HELP = {  # of those settings whose name does not say it
    "arch": "light, conv1, conv1-dilation or conv2",
    "padding": "of the crops: prepare's",
    "lam": "lambda of Eq. 2",
    "lam_divisor": "none or elements",
    "batch": "pairs, or clips, a step, of all processes together",
    "pairs": "which make an epoch: all, ahead or near",
    "pairs_per_epoch": "0: as many as there are",
    "frames": "of a clip: more than 2 give gradients through time",
    "learn": "what else is learnt, of lam, sigma, window, rate, with commas between",
    "found_places": "clips learn where the filter finds the target, not where it is",
    "recompute": "clips hold one frame's features in memory at a time: slower",
    "hold_out": "keep the crops' validation sequences for validation",
    "flip": "mirror half of the pairs",
    "light": "change contrast and brightness by up to exp(+-X)",
    "colour": "change each colour's brightness by up to exp(+-X)",
    "cosine_window": "share of the steps whose features have a Hann window, as in tracking",
    "jitter": "move the search window by up to N pixels, and the label with it",
    "scale": "scale the search window by up to exp(+-X)",
    "gray": "share of the pairs that lose their colour",
    "blur": "blur half of the images by up to X pixels",
    "rotate": "turn the search window about the target by up to X degrees",
    "stretch": "make the search window wider and lower, or narrower and higher, by up to exp(+-X)",
    "optimiser": "sgd, the paper's, or adam",
    "averaging": "keep the average of the last steps' weights; of the old average a step leaves X, "
    ".998 say",
    "schedule": "constant, logspace or cosine",
    "divergence": "leave a pair out whose loss is so many times that of a response of zeros",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The crops, the folder, and every setting of a recipe."""
    add, flag = partial(common.add_value, parser), partial(parser.add_argument, action="store_true")
    parser.add_argument("crops", metavar="CROPS.h5", type=Path, help="made by prepare")
    content = "checkpoint, log, weights, pictures"
    parser.add_argument("--out", metavar="RUN_DIR", type=Path, required=True, help=content)
    flag("--resume", help="go on after the last checkpoint in RUN_DIR")
    preset = "whose settings; those that are given go on top; default: default"
    add("--preset", "NAME|FILE.json", str, preset)
    common.add_device(parser)
    flag("--tf32", help="on a GPU: convolutions in TF32, faster and less exact")
    add("--track", "DIR", Path, "sequences to track after epochs; gives best.h5")
    add("--track-every", "N", int, "epochs", 1)
    add("--checkpoint-seconds", "S", float, "between checkpoints within an epoch", 60.0)
    flag("--no-pictures", help="no curves.png and filters.png")
    settings = parser.add_argument_group(
        "settings", "each default is the preset's; docs/reference/training.md explains them"
    )
    for field in dataclasses.fields(Config):
        if field.name != "preset":  # an option of another kind
            option = "--" + field.name.replace("_", "-")
            settings.add_argument(option, help=HELP.get(field.name), **_kind(field.default))


def _kind(default: Any) -> dict[str, Any]:
    """What argparse is to make of a field of Config, by its default."""
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(default, tuple):
        return {"type": _numbers, "metavar": "A,B,..."}
    return {"type": type(default), "metavar": {int: "N", float: "X", str: "NAME"}[type(default)]}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers with commas between them, got {text!r}"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Train.  Where mpirun started several processes, an error of one ends all."""
    processes = parallel.join_processes()
    try:
        return _run(args, processes)
    except BaseException as error:
        if processes.size > 1:
            if processes.rank:
                time.sleep(1)  # what all have found is rank 0's to say
            words = " ".join(str(error).split()) or type(error).__name__
            print(f"dcfnet: error: rank {processes.rank}: {words}", file=sys.stderr, flush=True)
            bad_input = isinstance(error, (ValueError, OSError))
            processes.abort(2 if bad_input and not isinstance(error, WriteError) else 1)
        if isinstance(error, TrainingError):
            raise Failed(str(error)) from error
        raise


def _run(args: argparse.Namespace, processes: parallel.Processes) -> int:
    config = settings(args)
    if args.track_every < 1 or not args.checkpoint_seconds >= 0:
        raise ValueError("--track-every must be at least 1 and --checkpoint-seconds at least 0")
    first = processes.rank == 0
    bar = Bar(args.out, config, not args.no_pictures) if first else nullcontext(Watcher())
    names = ("device", "resume", "tf32", "track", "track_every", "checkpoint_seconds")
    options = RunOptions(**{name: getattr(args, name) for name in names})
    with warning_lines(), bar as watcher:
        weights = train(args.crops, config, args.out, options, processes=processes, watcher=watcher)
    if first:
        print(f"wrote {weights}")
    return 0


def settings(args: argparse.Namespace) -> Config:
    """The preset's settings, or with --resume those of the run, with the given options on top."""
    names = [field.name for field in dataclasses.fields(Config)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    checkpoint = args.out / "checkpoint.npz"
    config = recipe(args.preset or "default")
    if args.resume and checkpoint.exists():
        # one of an older version may have more of them
        of_run = load_checkpoint(checkpoint).config
        config = Config(**{name: of_run[name] for name in names if name in of_run})
    return dataclasses.replace(config, **given)


class Bar(Watcher, AbstractContextManager["Bar"]):
    """Shows a run: a bar on a terminal's stderr, a line for each epoch on stdout, pictures in
    RUN_DIR.
    """

    def __init__(self, out: Path, config: Config, pictures: bool) -> None:
        self._out, self._config, self._records = out, config, list[dict[str, Any]]()
        self._pictures = pictures and importlib.util.find_spec("matplotlib") is not None
        if pictures and not self._pictures:
            why = "they need matplotlib, which is in the extra train"
            print(f"dcfnet: no pictures: {why}", file=sys.stderr)
        self._bar = common.progress_bar(unit=unit_of(config), smoothing=0.05)

    def start(self, records: Sequence[dict[str, Any]], done: int, total: int) -> None:
        """Set the bar to what is done already."""
        self._records = list(records)
        self._bar.reset(total)
        self._bar.initial = self._bar.n = done

    def step(self, pairs: int, loss: float, waiting: float | None) -> None:
        """Move the bar."""
        share = "" if waiting is None else f", waiting {waiting:.1%}"
        epoch = f"epoch {len(self._records) + 1}/{self._config.epochs}"
        self._bar.set_postfix_str(f"{epoch}, loss {loss:.2f}{share}", False)
        self._bar.update(pairs)

    def epoch(self, record: dict[str, Any], parameters: dict[str, Any]) -> None:
        """Print a line, and draw."""
        self._records.append(record)
        self._bar.write(describe_epoch(record, self._config), file=sys.stdout)
        sys.stdout.flush()
        if self._pictures:
            from ..train.pictures import draw_curves, draw_filters

            draw_curves(self._records, self._out / "curves.png")
            draw_filters(parameters, self._out / "filters.png")

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def describe_epoch(record: dict[str, Any], config: Config) -> str:
    """A line of the log for people."""
    what = unit_of(config)
    words = [f"epoch {record['epoch']}/{config.epochs}: loss {record['loss']:.3f}"]
    if record["validation_loss"] is not None:
        words.append(f"validation {record['validation_loss']:.3f}")
    if record["left_out"]:
        words.append(f"{counted(record['left_out'], what)} left out")
    if "success" in record:
        words.append(f"tracked AUC {record['success']:.3f}")
    words.append(f"learning rate {record['lr']:.2g}, {record['pairs_per_second']:.0f} {what}s/s")
    if record["waiting"] is not None:
        words.append(f"{record['waiting']:.1%} of the time waiting for crops")
    words += [f"{name} {value:.3g}" for name, value in record.get("learnt", {}).items()]
    return ", ".join(words)


def unit_of(config: Config) -> str:
    """What a step is made of: a pair or a clip."""
    return "clip" if config.frames > 2 else "pair"
