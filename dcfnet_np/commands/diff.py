"""`dcfnet diff`: where two runs part."""

import argparse
from functools import partial

from .. import trace
from ..support.words import counted
from ..vision.sources import open_source
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two traces, or a source and two presets."""
    add = partial(common.add_value, parser)
    inputs = "two traces, or with --presets a source"
    parser.add_argument("inputs", metavar="A.h5 B.h5 | SOURCE", nargs="+", help=inputs)
    add("--presets", "A,B", _parse_presets, "track SOURCE under each of two presets")
    common.add_box(parser)
    add("--frames", "N", common.parse_count, "with --presets", 10)
    add("--weights", "NAME|FILE", str, "with --presets", "light")
    share = "of a quantity's largest magnitude"
    add("--tolerance", "T", common.parse_tolerance, share, 1e-6)


def _parse_presets(text: str) -> list[str]:
    names = text.split(",")
    if len(names) != 2:
        raise argparse.ArgumentTypeError(f"must be two names with a comma between, got {text!r}")
    return names


def run(args: argparse.Namespace) -> int:
    """Say what differs first, and what follows from it."""
    expected, count = "two traces, or --presets A,B and a SOURCE", 2
    if args.presets:
        expected, count = "one SOURCE with --presets", 1
    if len(args.inputs) != count:
        raise ValueError(f"diff takes {expected}, got {len(args.inputs)}: {' '.join(args.inputs)}")
    if not args.presets:
        first, second = map(trace.read_trace, args.inputs)
    else:
        recorders = [trace.Recorder(args.weights, preset) for preset in args.presets]
        with open_source(args.inputs[0], args.frames, need_truth=not args.box) as source:
            frames = list(source)
            _, box = common.first_box(args.box, source)
        first, second = (recorder.steps(frames, box, training=False) for recorder in recorders)
    found, steps = trace.differences(first, second, args.tolerance)
    if not found:
        print(f"no difference beyond {args.tolerance:g} in {counted(steps, 'step')}")
    for number, difference in enumerate(found):
        print(f"{'  then' if number else 'first difference'}: {difference}")
    return 0
