"""`dcfnet prepare`: training crops out of annotated sequences."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..support.errors import Failed
from ..train.crops import read_crops
from ..train.prepare import Window, prepare_crops
from . import common

EXAMPLES = """\
examples:
  dcfnet prepare sequences/first sequences/second --out crops.h5
  dcfnet prepare NUS-PRO UAV123 --out crops.h5 --workers 8 --benchmarks OTB100 vot2015
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
    add = partial(common.add_value, parser)
    folders = "sequences, data sets of them, or COCO files"
    several = partial(parser.add_argument, nargs="+")
    several("folders", metavar="SEQUENCE_DIR", type=Path, help=folders)
    parser.add_argument("--out", metavar="FILE.h5", type=Path, required=True)
    add("--padding", "PADDING", float, "a window is 1 + padding times the box", 2.0)
    add("--size", "PIXELS", int, "of a window", 125)
    margin = "around a window, for augmentation, as the jitter of the recipe `default`"
    add("--margin", "PIXELS", int, margin, 24)
    add("--validation", "SHARE", float, "of the videos, held out", 0.1)
    parser.add_argument("--exclude", metavar="A,B,...", default="", help="sequences to leave out")
    unseen = "sequences that must not be learnt from: refuse videos whose frames are like theirs"
    several("--benchmarks", metavar="DIR", default=[], help=unseen)
    add("--workers", "N", int, "processes", 1)


def run(args: argparse.Namespace) -> int:
    """Make the file, or go on with it."""
    names = ("validation", "benchmarks", "workers")
    options = {name: getattr(args, name) for name in names}
    window = Window(args.padding, args.size, args.margin)
    exclude = [name for name in args.exclude.split(",") if name]
    try:
        with warning_lines(), _bars() as progress:
            counts = prepare_crops(
                args.folders, args.out, window, exclude=exclude, progress=progress, **options
            )
    except KeyboardInterrupt:
        raise Failed("stopped; the same command goes on from here") from None
    except BrokenProcessPool:
        raise Failed(
            "a worker process died (out of memory?); the same command goes on from here"
        ) from None
    crops = counts.pop("crops")
    data = read_crops(args.out)
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
    """A function (what, done, total) that moves a bar for each thing that is done."""
    with contextlib.ExitStack() as stack:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bar = common.progress_bar(total=total, initial=done, desc=what)
                bars[what] = stack.enter_context(bar)
            bars[what].update(done - bars[what].n)
            if done == total:
                bars[what].close()  # before anything else is printed

        yield progress
