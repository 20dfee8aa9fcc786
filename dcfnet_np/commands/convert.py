"""`dcfnet convert`: weights of others into a file of ours."""

import argparse
from pathlib import Path

from .. import weights
from ..network import ARCHITECTURES
from ..support.files import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From, to, and of which network."""
    kinds = "such as .mat, .pth, .pth.tar; its name does not matter"
    parser.add_argument("input", metavar="IN", type=Path, help=kinds)
    parser.add_argument("output", metavar="OUT.h5", type=Path)
    arch = "where the file does not say which one; default: the first that fits"
    parser.add_argument("--arch", metavar="NAME", choices=ARCHITECTURES, help=arch)


def run(args: argparse.Namespace) -> int:
    """Read, write, and say what it was."""
    if args.output.suffix.lower() != ".h5":
        raise ValueError(f"{args.output}: the output must end in .h5")
    check_output(args.output)
    loaded = weights.import_weights(args.input, args.arch)
    weights.save_weights(args.output, loaded)
    count = sum(parameter.size for parameter in loaded.parameters.values())
    print(f"{args.output}: {loaded.architecture}, {count} parameters, {loaded.channel_order} input")
    return 0
