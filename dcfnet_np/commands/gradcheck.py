"""`dcfnet gradcheck`: gradients against finite differences, and the checks against mutants."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from ..gradcheck import cases, mutants, report
from ..gradcheck.mutants import Verdict
from ..gradcheck.pair import GradientResult
from ..support.errors import Failed
from ..support.words import counted
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, where, how precisely, and what to write."""
    flag = partial(parser.add_argument, action="store_true")
    names = "conv, lrn, 'equation 4', ...; a wrong name lists them; default: all"
    parser.add_argument("ops", metavar="OP", nargs="*", help=names)
    common.add_device(parser, "cpu")
    flag("--float32", help="in float32, with the limits that rounding allows")
    content = "a .json: every check, error over step, mutants"
    common.add_value(parser, "--report", "FILE", Path, content)
    mutants = (
        "also change every backward pass in all small ways, on the CPU, "
        "and see whether the checks notice"
    )
    flag("--mutants", help=mutants)


def run(args: argparse.Namespace) -> int:
    """Print a table; exit code 1 where a gradient is wrong, or a mutant survives."""
    if args.report:
        report.check_report(args.report)
    if args.ops and args.mutants:
        raise ValueError("--mutants needs every check: name no op beside it")
    only = args.ops or None
    rows = cases.run_all(args.device, only, np.float32 if args.float32 else np.float64)
    common.print_table(
        [("op", "eq.", "shape", "gradient", "error", "limit", ""), *map(_words, rows)]
    )
    wrong = [row for row in rows if not row.ok]
    for row in wrong:
        print(row)
    verdict = f"{len(wrong)} failed" if wrong else "all within their limits"
    print(f"{counted(len(rows), 'check')}, {verdict}")
    verdicts = _judge_mutants() if args.mutants and not wrong else None
    if args.report:
        report.write_report(args.report, rows, cases.sweep_all(only), verdicts)
        print(f"wrote {args.report}")
    if wrong or not rows:
        raise Failed(f"{len(wrong)} of {counted(len(rows), 'check')} failed, named above")
    if verdicts and (survived := report.score(verdicts)["survived"]):
        raise Failed(f"{counted(survived, 'mutant')} survived, listed above")
    return 0


def _words(row: GradientResult) -> tuple[str, ...]:
    shape = "x".join(map(str, row.shape))
    numbers = f"{row.error:.1e}", f"{row.limit:.0e}"
    return row.name, row.equation, shape, row.gradient, *numbers, "ok" if row.ok else "WRONG"


def _judge_mutants() -> list[Verdict]:
    verdicts: list[Verdict] = list(common.progress_bar(mutants.judge(), unit="mutant"))
    for mutant, status, _ in verdicts:
        if status == "survived":
            place = f"{mutant.function}, line {mutant.line}"
            print(f"survived: {place}: {mutant.before}  ->  {mutant.after}")
    print(", ".join(f"{count} {status}" for status, count in report.score(verdicts).items()))
    return verdicts
