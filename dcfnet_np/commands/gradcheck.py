"""`dcfnet gradcheck`: gradients against finite differences, and the checks against mutants."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from ..gradcheck import mutants, report, table
from ..gradcheck.checker import GradientResult
from ..gradcheck.mutants import Verdict
from ..support.errors import Failed
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, how precisely, and what to write."""
    flag = partial(parser.add_argument, action="store_true")
    common.add_device(parser, "cpu")
    flag("--float32", help="in float32, with the limits that rounding allows")
    content = ".html or .json: worst cases, every check, error over step"
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
    rows = table.run_all(args.device, precision=np.float32 if args.float32 else np.float64)
    common.print_table(
        [("op", "eq.", "shape", "gradient", "error", "limit", ""), *map(_words, rows)]
    )
    wrong = [row for row in rows if not row.ok]
    for row in wrong:
        print(row)
    verdict = f"{len(wrong)} failed" if wrong else "all within their limits"
    print(f"{len(rows)} checks, {verdict}")
    verdicts = _judge_mutants() if args.mutants and not wrong else None
    if args.report:
        report.write_report(args.report, rows, table.sweep_all(), verdicts)
        print(f"wrote {args.report}")
    if wrong or not rows:
        raise Failed(f"{len(wrong)} of {len(rows)} checks failed; the table above names them")
    if verdicts and (survived := report.score(verdicts)["survived"]):
        raise Failed(f"{survived} mutants survived; they are listed above")
    return 0


def _words(row: GradientResult) -> tuple[str, ...]:
    shape = "x".join(map(str, row.shape))
    numbers = f"{row.error:.1e}", f"{row.limit:.0e}"
    return row.name, row.equation, shape, row.gradient, *numbers, "ok" if row.ok else "WRONG"


def _judge_mutants() -> list[Verdict]:
    verdicts: list[Verdict] = list(common.progress_bar(mutants.judge(), unit="mutant"))
    for each in verdicts:
        if each.status == "survived":
            place = f"{each.function}, line {each.line}"
            print(f"survived: {place}: {each.before}  ->  {each.after}")
    print(", ".join(f"{count} {status}" for status, count in report.score(verdicts).items()))
    return verdicts
