"""`dcfnet trace`: every intermediate of a run, in a file."""

import argparse
from pathlib import Path

from ..support.files import check_output
from ..trace import Recorder, write_trace
from ..vision.sources import open_source
from .common import (
    add_box,
    add_network_options,
    add_source,
    check_overwrite,
    first_box,
    parse_count,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to track, and what to write."""
    add_source(parser)
    add_box(parser)
    add = parser.add_argument
    frames = "default: 10, the first counted"
    add("--frames", metavar="N", type=parse_count, default=10, help=frames)
    default = Path("trace.h5")
    add("--out", metavar="FILE.h5", type=Path, default=default, help=f"default: {default}")
    add_network_options(parser)


def run(args: argparse.Namespace) -> int:
    """Track the first frames and write what happens."""
    if args.out.suffix.lower() != ".h5":
        raise ValueError(f"{args.out}: the output must end in .h5")
    check_output(args.out)
    check_overwrite(args.out, args.source)
    recorder = Recorder(args.weights, args.preset)
    with open_source(args.source, args.frames, need_truth=not args.box) as source:
        frames = list(source)
        _, box = first_box(args.box, source)
        attributes = {**recorder.attributes(), "source": source.name}
        names = write_trace(args.out, recorder.steps(frames, box), attributes)
    count = f"{len(frames)} frame{'' if len(frames) == 1 else 's'}"
    print(f"wrote {args.out}: {count} and {', '.join(names[-2:])}")
    return 0
