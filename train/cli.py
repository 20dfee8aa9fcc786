"""`dcfnet train`: its arguments, its progress bar, and what it prints."""

import argparse
import contextlib
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from dcfnet_np.files import WriteError
from dcfnet_np.train.config import Config
from dcfnet_np.train.prepare_cli import warning_lines

if TYPE_CHECKING:
    from dcfnet_np.train.parallel import Processes

_Number = TypeVar("_Number", int, float)
HELP = {  # of those settings whose name does not say it
    "arch": "light, conv1, conv1-dilation or conv2",
    "padding": "of the crops: prepare's",
    "lam": "lambda of Eq. 2",
    "lam_divisor": "none or elements",
    "batch": "pairs a step, of all processes together",
    "pairs": "which make an epoch: all, ahead or near",
    "pairs_per_epoch": "0: as many as there are",
    "hold_out": "keep the crops' validation sequences for validation",
    "flip": "mirror half of the pairs",
    "light": "change contrast and brightness by up to exp(+-X)",
    "colour": "change each colour's brightness by up to exp(+-X)",
    "cosine_window": "share of the steps whose features have a Hann window, as in tracking",
    "jitter": "move the search window by up to N pixels, and the label with it",
    "scale": "scale the search window by up to exp(+-X)",
    "upside_down": "mirror half of the pairs top to bottom",
    "gray": "share of the pairs that lose their colour",
    "blur": "blur half of the images by up to X pixels",
    "rotate": "turn the search window about the target by up to X degrees",
    "stretch": "make the search window wider and lower, or narrower and higher, by up to exp(+-X)",
    "optimiser": "sgd, the paper's, or adam",
    "averaging": "keep the average of the last steps' weights; of the old average a step leaves X, .998 say",
    "schedule": "constant, step, logspace or cosine",
    "lr_steps": "with step: a tenth of the rate after so many epochs",
    "divergence": "leave a pair out whose loss is so many times that of a response of zeros",
}
# of Config: --preset is an option of another kind, and only tests turn the band off
LEFT_OUT = ("preset", "band")


def add_command(
    command: Callable[..., argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]
) -> None:
    """Register `dcfnet train`, which `run` is to do."""
    parser = command(
        "train", run, "train a network from crops; `mpirun -n N dcfnet train ...` shares the work"
    )
    parser.add_argument("crops", metavar="CROPS.h5", type=Path, help="made by prepare")
    parser.add_argument(
        "--out",
        metavar="RUN_DIR",
        type=Path,
        required=True,
        help="checkpoint, log, weights, pictures",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on after the last checkpoint in RUN_DIR"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE.json",
        help="whose settings; those that are given go on top; default: default",
    )
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda[:N]", default="auto", help="default: auto"
    )
    parser.add_argument(
        "--tf32", action="store_true", help="on a GPU: convolutions in TF32, faster and less exact"
    )
    parser.add_argument(
        "--track", metavar="DIR", type=Path, help="sequences to track after epochs; gives best.h5"
    )
    parser.add_argument(
        "--track-every", metavar="N", type=int, default=1, help="epochs; default: 1"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        metavar="S",
        type=float,
        default=60.0,
        help="between checkpoints within an epoch; default: 60",
    )
    parser.add_argument("--no-pictures", action="store_true", help="no curves.png and filters.png")
    settings = parser.add_argument_group(
        "settings", "each default is the preset's; docs/reference/training.md explains them"
    )
    for field in dataclasses.fields(Config):
        if field.name not in LEFT_OUT:
            settings.add_argument(
                "--" + field.name.replace("_", "-"), help=HELP.get(field.name), **_kind(field)
            )


def _kind(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    """What argparse is to make of a field of Config."""
    default = field.default
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(default, tuple):
        return {"type": _integers if field.name == "lr_steps" else _numbers, "metavar": "A,B,..."}
    return {"type": type(default), "metavar": {int: "N", float: "X", str: "NAME"}[type(default)]}


def _integers(text: str) -> tuple[int, ...]:
    return _split(text, int, "whole numbers")


def _numbers(text: str) -> tuple[float, ...]:
    return _split(text, float, "numbers")


def _split(text: str, kind: Callable[[str], _Number], what: str) -> tuple[_Number, ...]:
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be {what} with commas between them, got {text!r}"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Do it; the exit code.  Where mpirun started several processes, an error of one ends all."""
    from dcfnet_np.train import parallel

    processes = parallel.start()
    try:
        return _run(args, processes)
    except BaseException as error:
        if processes.size > 1:
            if processes.rank:
                time.sleep(1)  # what all have found is rank 0's to say
            words = " ".join(str(error).split()) or type(error).__name__
            print(f"dcfnet: error: rank {processes.rank}: {words}", file=sys.stderr, flush=True)
            bad_input = isinstance(error, (ValueError, OSError)) and not isinstance(
                error, WriteError
            )
            processes.abort(2 if bad_input else 1)
        raise


def _run(args: argparse.Namespace, processes: "Processes") -> int:
    from dcfnet_np.train.loop import train

    config = settings(args)
    if args.track_every < 1 or not args.checkpoint_seconds >= 0:
        raise ValueError("--track-every must be at least 1 and --checkpoint-seconds at least 0")
    first = processes.rank == 0
    bar = Bar(args.out, config, not args.no_pictures) if first else contextlib.nullcontext()
    with warning_lines(), bar as watcher:
        weights = train(
            args.crops, config, args.out, device=args.device, resume=args.resume, tf32=args.tf32, track=args.track,
            track_every=args.track_every, checkpoint_seconds=args.checkpoint_seconds, processes=processes,
            watcher=watcher,
        )  # fmt: skip
    if first:
        print(f"wrote {weights}")
    return 0


def settings(args: argparse.Namespace) -> Config:
    """The preset's settings, or with --resume those of the run, with the options that were given on
    top.
    """
    given = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(Config)
        if field.name != "band"
    }
    given = {name: value for name, value in given.items() if value is not None}
    from dcfnet_np.train.checkpoint import load_checkpoint
    from dcfnet_np.train.config import recipe

    checkpoint = args.out / "checkpoint.npz"
    if args.resume and checkpoint.exists():
        return dataclasses.replace(Config(**load_checkpoint(checkpoint).config), **given)
    return dataclasses.replace(recipe(args.preset or "default"), **given)


class Bar:
    """Shows a run: a bar on a terminal's stderr, a line for each epoch on stdout, pictures in
    RUN_DIR.
    """

    def __init__(self, out: Path, config: Config, pictures: bool) -> None:
        from tqdm import tqdm

        self._out, self._config, self._records = out, config, list[dict[str, Any]]()
        self._pictures = pictures and importlib.util.find_spec("matplotlib") is not None
        if pictures and not self._pictures:
            print(
                "dcfnet: no pictures: they need matplotlib, which is in the extra report",
                file=sys.stderr,
            )
        self._bar = tqdm(unit="pair", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05)

    def start(self, records: Sequence[dict[str, Any]], done: int, total: int) -> None:
        """See `train.loop.Watcher`, as the next two."""
        self._records = list(records)
        self._bar.reset(total)
        self._bar.initial = self._bar.n = done

    def step(self, pairs: int, loss: float, waiting: float | None) -> None:
        """Move the bar."""
        share = "" if waiting is None else f", waiting {waiting:.1%}"
        self._bar.set_postfix_str(
            f"epoch {len(self._records) + 1}/{self._config.epochs}, loss {loss:.2f}{share}", False
        )
        self._bar.update(pairs)

    def epoch(self, record: dict[str, Any], parameters: Mapping[str, Any]) -> None:
        """Print a line, and draw."""
        self._records.append(record)
        self._bar.write(describe(record, self._config.epochs), file=sys.stdout)
        sys.stdout.flush()
        if self._pictures:
            from dcfnet_np.train.pictures import draw_curves, draw_filters

            draw_curves(self._records, self._out / "curves.png")
            draw_filters(parameters, self._out / "filters.png")

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


def describe(record: dict[str, Any], epochs: int) -> str:
    """A line of the log for people."""
    words = [f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}"]
    if record["validation_loss"] is not None:
        words.append(f"validation {record['validation_loss']:.3f}")
    if record["left_out"]:
        words.append(f"{record['left_out']} pairs left out")
    if "success" in record:
        words.append(f"tracked AUC {record['success']:.3f}")
    words.append(f"learning rate {record['lr']:.2g}, {record['pairs_per_second']:.0f} pairs/s")
    if record["waiting"] is not None:
        words.append(f"{record['waiting']:.1%} of the time waiting for crops")
    return ", ".join(words)
