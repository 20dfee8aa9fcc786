"""`dcfnet prepare`: its arguments, its progress bar and what it prints."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

EXAMPLES = """\
examples:
  dcfnet prepare sequences/first sequences/second --out crops.h5
  dcfnet prepare NUS-PRO Temple-color-128 UAV123 --out crops.h5 --workers 8 --benchmarks OTB100 vot2015
  dcfnet prepare dataset/annotations/instances.json --out crops.h5
  dcfnet prepare ILSVRC2015 DAVIS --out crops.h5 --padding 1.5 --margin 20 --exclude camel,dog

A folder is one sequence or a whole data set, in any layout that `dcfnet eval` reads. A detector's
annotations are read too: a COCO .json, or a folder of YOLO labels and images; track ids in them make
sequences, single images make no pair. A run that was cut goes on when the same command is given again.
"""


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Register `prepare`.  command(name, run, text) makes the parser of one command."""
    parser = command(
        "prepare", run, "cut training crops out of annotated sequences, into one HDF5 file"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "folders",
        metavar="SEQUENCE_DIR",
        nargs="+",
        type=Path,
        help="sequences, data sets of them, or COCO files",
    )
    parser.add_argument("--out", metavar="FILE.h5", type=Path, required=True)
    parser.add_argument(
        "--padding",
        type=float,
        default=2.0,
        help="a window is 1 + padding times the box; default: 2",
    )
    parser.add_argument(
        "--size", metavar="PIXELS", type=int, default=125, help="of a window; default: 125"
    )
    parser.add_argument(
        "--margin",
        metavar="PIXELS",
        type=int,
        default=24,
        help="around a window, for augmentation; default: 24, the jitter of the recipe `default`",
    )
    parser.add_argument(
        "--validation",
        metavar="SHARE",
        type=float,
        default=0.1,
        help="of the videos, held out; default: 0.1",
    )
    parser.add_argument("--exclude", metavar="A,B,...", default="", help="sequences to leave out")
    parser.add_argument(
        "--benchmarks",
        metavar="DIR",
        nargs="+",
        default=[],
        help="sequences that must not be learnt from: refuse videos whose frames are like theirs",
    )
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="processes; default: 1")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    from concurrent.futures.process import BrokenProcessPool

    from .crops import read_crops
    from .prepare import Window, prepare_crops

    try:
        with warning_lines(), _bars() as progress:
            counts = prepare_crops(
                args.folders,
                args.out,
                Window(args.padding, args.size, args.margin),
                validation=args.validation,
                exclude=[name for name in args.exclude.split(",") if name],
                benchmarks=args.benchmarks,
                workers=args.workers,
                progress=progress,
            )
    except (KeyboardInterrupt, BrokenProcessPool) as stop:
        what = (
            "stopped"
            if isinstance(stop, KeyboardInterrupt)
            else "a worker process died (out of memory?)"
        )
        print(f"dcfnet: error: {what}; the same command goes on from here", file=sys.stderr)
        return 1
    crops = counts.pop("crops")
    data = read_crops(args.out, lazy=True)
    print(
        f"{args.out}: crops {crops}, sequences {len(data.sequences)}, held out {data.validation.sum()}"
    )
    for reason, count in sorted(counts.items()):
        print(f"frames left out because {reason}: {count}")
    return 0


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)  # above the bars


@contextlib.contextmanager
def warning_lines() -> Iterator[None]:
    """The library's warnings as lines of the command's own kind."""
    logger, handler = logging.getLogger("dcfnet_np.train"), _Lines()
    handler.setFormatter(logging.Formatter("dcfnet: warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that moves a bar for each thing that is done, on a terminal."""
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        bars: dict[str, tqdm] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bar = tqdm(
                    total=total,
                    initial=done,
                    desc=what,
                    disable=not sys.stderr.isatty(),
                    leave=False,
                )
                bars[what] = stack.enter_context(bar)
            bars[what].update(done - bars[what].n)
            if done == total:
                bars[what].close()  # before anything else is printed

        yield progress
