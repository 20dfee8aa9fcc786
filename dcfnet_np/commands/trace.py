"""`dcfnet trace`: every intermediate of a run, in a file."""

import argparse
from pathlib import Path

from ..support.files import check_output
from ..trace import Recorder, write_trace
from ..vision.sources import open_source
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to track, and what to write."""
    common.add_source(parser)
    common.add_box(parser)
    common.add_value(parser, "--frames", "N", common.parse_count, "the first counted", 10)
    common.add_value(parser, "--out", "FILE.h5", Path, "", Path("trace.h5"))
    common.add_network_options(parser)


def run(args: argparse.Namespace) -> int:
    """Track the first frames and write what happens."""
    if args.out.suffix.lower() != ".h5":
        raise ValueError(f"{args.out}: the output must end in .h5")
    check_output(args.out)
    common.check_overwrite(args.out, args.source)
    recorder = Recorder(args.weights, args.preset)
    with open_source(args.source, args.frames, need_truth=not args.box) as source:
        frames = list(source)
        _, box = common.first_box(args.box, source)
        attributes = {**recorder.attributes(), "source": source.name}
        names = write_trace(args.out, recorder.steps(frames, box), attributes)
    count = f"{len(frames)} frame{'' if len(frames) == 1 else 's'}"
    print(f"wrote {args.out}: {count} and {', '.join(names[-2:])}")
    return 0
