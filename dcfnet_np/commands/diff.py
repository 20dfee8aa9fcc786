"""`dcfnet diff`: where two runs part."""

import argparse

from .. import trace
from ..vision.sources import open_source
from .common import add_box, first_box, parse_count, parse_tolerance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two traces, or a source and two presets."""
    add = parser.add_argument
    inputs = "two traces, or with --presets a source"
    add("inputs", metavar="A.h5 B.h5 | SOURCE", nargs="+", help=inputs)
    presets = "track SOURCE under each of two presets"
    add("--presets", metavar="A,B", type=_parse_presets, help=presets)
    add_box(parser)
    frames = "with --presets; default: 10"
    add("--frames", metavar="N", type=parse_count, default=10, help=frames)
    weights = "with --presets; default: light"
    add("--weights", metavar="NAME|FILE", default="light", help=weights)
    share = "of a quantity's largest magnitude; default: 1e-6"
    add("--tolerance", metavar="T", type=parse_tolerance, default=1e-6, help=share)


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
            _, box = first_box(args.box, source)
        first, second = (recorder.steps(frames, box, training=False) for recorder in recorders)
    found, steps = trace.differences(first, second, args.tolerance)
    if not found:
        print(f"no difference beyond {args.tolerance:g} in {steps} steps")
    for number, difference in enumerate(found):
        print(f"{'  then' if number else 'first difference'}: {difference}")
    return 0
