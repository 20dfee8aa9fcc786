"""`dcfnet score`: box files against ground truth."""

import argparse
from pathlib import Path

from .. import datasets
from ..evaluation import compare_rules, result_files, results
from ..evaluation.protocols import is_annotated
from ..evaluation.rules import RULES, get_rules
from ..support.words import counted
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The boxes, the ground truth and the rules."""
    add = parser.add_argument
    result = "a box file, or a folder of SEQUENCE.txt"
    add("result", metavar="RESULT", type=Path, help=result)
    add("dataset", metavar="DATASET_DIR", help="the sequence's folder, or the data set's")
    common.add_value(parser, "--rules", "NAME", str, "", "otb")
    every = "by all rules side by side, and what tells them apart"
    add("--explain", action="store_true", help=every)


def run(args: argparse.Namespace) -> int:
    """Print a table."""
    rules = list(RULES.values()) if args.explain else [get_rules(args.rules)]
    sequences = datasets.load_dataset(args.dataset)
    pairs = result_files.find_results(args.result, sequences)
    missing = sorted({each.name for each in sequences} - {each.name for each, _ in pairs})
    if missing:
        count = f"{len(missing)} of {counted(len(sequences), 'sequence')}"
        common.warn(f"no result for {count}: {results.first_names(missing)}")
    supervised = any(result_files.is_supervised(result) for _, result in pairs)
    if supervised:
        common.print_table(compare_rules.vot_table(pairs))
    else:
        common.print_table(compare_rules.score_table(pairs, rules))
    if line := results.unscored_line([s.name for s, _ in pairs if not is_annotated(s)], len(pairs)):
        print(line)
    if supervised:
        print("started again after failures, so VOT's measures apply and the rules do not")
    elif args.explain:
        print()
        common.print_table(compare_rules.differing_conventions(rules))
        print(f"\n{compare_rules.INFERRED}")
    return 0
