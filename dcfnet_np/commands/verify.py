"""`dcfnet verify`: an evaluation again, and every box compared."""

import argparse
import math
import tempfile
from pathlib import Path

from .. import datasets
from ..evaluation import runner
from ..support.errors import Failed
from ..support.words import counted
from . import common
from .eval import add_run_options, run_with_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The evaluation, and how near is near."""
    parser.add_argument("out", metavar="DIR", type=Path, help="the --out of an evaluation")
    common.add_value(parser, "--sequences", "A,B,...", common.parse_names, "only these")
    equal = "default: 0, equal to the byte"
    common.add_value(parser, "--tolerance", "PIXELS", common.parse_tolerance, equal)
    parser.set_defaults(tolerance=0.0)
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run it into a temporary folder, and say what differs."""
    record = runner.read_record(args.out)
    specs = runner.recorded_trackers(record)
    if not specs:
        raise ValueError(f"{args.out} holds no tracker whose boxes can be compared")
    names = args.sequences or list(record["sequences"])
    sequences = datasets.load_dataset(record["dataset"], names)
    options = (record["protocol"], record["rules"])
    evaluation = runner.Evaluation(record["dataset"], specs, sequences, *options)
    for job in runner.plan_jobs(evaluation):
        if not runner.box_file(args.out, job).is_file():
            missing = f"{job.spec.label} on {job.stem}"
            raise ValueError(f"{args.out} has no boxes of {missing}; finish that run first")
    with tempfile.TemporaryDirectory() as folder:
        # says so when weights or settings have changed
        runner.write_record(args.out, evaluation)
        jobs = run_with_bar(evaluation, Path(folder), args)
        compared = runner.compare_jobs(args.out, Path(folder), jobs)
    different = [each for each in compared if not each.identical]
    bad = [each for each in different if not args.tolerance or each.pixels > args.tolerance]
    for each in bad:
        far = f"up to {each.pixels:.4f} pixels"
        if math.isinf(each.pixels):
            far = "another length or state"
        print(f"{each.tracker} on {each.result}: {far}")
    if bad:
        raise Failed(f"different from {args.out}: {len(bad)} of {counted(len(compared), 'result')}")
    exact = f"to {args.tolerance:g} pixels" if args.tolerance else "to the byte"
    print(f"{counted(len(compared), 'result')}, all equal {exact}")
    return 0
