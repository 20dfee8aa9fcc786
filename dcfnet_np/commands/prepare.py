"""`dcfnet prepare`: training crops out of annotated sequences."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..support.errors import Failed
from ..train.crops import read_crops
from ..train.prepare import prepare
from .common import progress_bar

EXAMPLES = """\
examples:
  dcfnet prepare sequences/first sequences/second --out crops.h5
  dcfnet prepare NUS-PRO Temple-color-128 UAV123 --out crops.h5 --workers 8 \\
                 --benchmarks OTB100 vot2015
  dcfnet prepare dataset/annotations/instances.json --out crops.h5
  dcfnet prepare ILSVRC2015 DAVIS --out crops.h5 --padding 1.5 --margin 20 --exclude camel,dog

A folder is one sequence or a whole data set, in any layout that `dcfnet eval` reads.  A detector's
annotations are read too: a COCO .json, or a folder of YOLO labels and images; track ids in them
make sequences, single images make no pair.  A run that was cut goes on when the same command is
given again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sequences, the size of a window, and what to leave out."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add = parser.add_argument
    folders = "sequences, data sets of them, or COCO files"
    add("folders", metavar="SEQUENCE_DIR", nargs="+", type=Path, help=folders)
    add("--out", metavar="FILE.h5", type=Path, required=True)
    padding = "a window is 1 + padding times the box; default: 2"
    add("--padding", type=float, default=2.0, help=padding)
    add("--size", metavar="PIXELS", type=int, default=125, help="of a window; default: 125")
    add(
        "--margin",
        metavar="PIXELS",
        type=int,
        default=24,
        help="around a window, for augmentation; default: 24, the jitter of the recipe `default`",
    )
    share = "of the videos, held out; default: 0.1"
    add("--validation", metavar="SHARE", type=float, default=0.1, help=share)
    add("--exclude", metavar="A,B,...", default="", help="sequences to leave out")
    add(
        "--benchmarks",
        metavar="DIR",
        nargs="+",
        default=[],
        help="sequences that must not be learnt from: refuse videos whose frames are like theirs",
    )
    add("--workers", metavar="N", type=int, default=1, help="processes; default: 1")


def run(args: argparse.Namespace) -> int:
    """Make the file, or go on with it."""
    names = ("padding", "size", "margin", "validation", "benchmarks", "workers")
    options = {name: getattr(args, name) for name in names}
    exclude = [name for name in args.exclude.split(",") if name]
    try:
        with warning_lines(), _bars() as progress:
            counts = prepare(args.folders, args.out, exclude=exclude, progress=progress, **options)
    except KeyboardInterrupt:
        raise Failed("stopped; the same command goes on from here") from None
    except BrokenProcessPool:
        raise Failed(
            "a worker process died (out of memory?); the same command goes on from here"
        ) from None
    crops = counts.pop("crops")
    data = read_crops(args.out, lazy=True)
    held_out = data.validation.sum()
    print(f"{args.out}: crops {crops}, sequences {len(data.sequences)}, held out {held_out}")
    for reason, count in sorted(counts.items()):
        print(f"frames left out because {reason}: {count}")
    return 0


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # above the bars
        tqdm.write(f"dcfnet: warning: {self.format(record)}", file=sys.stderr)


@contextlib.contextmanager
def warning_lines() -> Iterator[None]:
    """The library's warnings as lines of the command's own kind."""
    logger, handler = logging.getLogger("dcfnet_np.train"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that moves a bar for each thing that is done, on a terminal."""
    with contextlib.ExitStack() as stack:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bar = progress_bar(total=total, initial=done, desc=what)
                bars[what] = stack.enter_context(bar)
            bars[what].update(done - bars[what].n)
            if done == total:
                bars[what].close()  # before anything else is printed

        yield progress
