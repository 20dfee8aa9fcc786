"""`dcfnet score`: box files against ground truth, and the report of them."""

import argparse
from functools import partial
from pathlib import Path

from .. import datasets
from ..evaluation import compare_rules, report, results
from ..evaluation.result_files import find_trackers, is_supervised
from ..evaluation.rules import RULES, get_rules
from ..support.files import make_folder
from . import common
from .eval import add_partial, print_tables, refuse_missing, write_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The boxes, the ground truth and the rules."""
    add = partial(common.add_value, parser)
    result = "a box file, a folder of them, or one with a folder a tracker, as boxes/ of `eval`"
    parser.add_argument("result", metavar="RESULT", type=Path, help=result)
    truth = "the sequence's folder, or the data set's"
    parser.add_argument("dataset", metavar="DATASET_DIR", help=truth)
    others = "others' boxes, a folder a tracker: .txt, or .mat of OTB's toolkit; both from 1"
    add("--against", "DIR", Path, others)
    add("--sequences", "A,B,...", common.parse_names, "default: all")
    add("--rules", "NAME", str, "", "otb")
    add_partial(parser)
    add("--out", "DIR", Path, "write results.json and the report there")
    every = "by all rules side by side, and what tells them apart"
    parser.add_argument("--explain", action="store_true", help=every)


def run(args: argparse.Namespace) -> int:
    """Print the tables, and write the report where it is asked for."""
    rules = get_rules(args.rules)
    if args.out is not None:
        report.check_report_packages()
    sequences = datasets.load_dataset(args.dataset, args.sequences)
    trackers = find_trackers(args.result, sequences)
    if args.against is not None:
        others = find_trackers(args.against, sequences)
        if twice := sorted(trackers.keys() & others.keys()):
            raise ValueError(f"two trackers are called {twice[0]}; rename a folder")
        trackers |= others
    there = {label: {run.sequence.name for run in runs} for label, runs in trackers.items()}
    refuse_missing(there, sequences, args.partial)
    supervised = any(is_supervised(run.found) for runs in trackers.values() for run in runs)
    if args.explain and not supervised:
        first, *_ = trackers.values()
        common.print_table(compare_rules.score_table(first, list(RULES.values())))
        print()
        common.print_table(compare_rules.differing_conventions(list(RULES.values())))
        print(f"\n{compare_rules.INFERRED}\n")
    runs = trackers
    if not supervised:
        runs = {label: [run.start_by(rules) for run in own] for label, own in trackers.items()}
    protocol = "vot" if supervised else "ope"
    found = results.build_results(args.dataset, sequences, runs, protocol, rules, {}, {}, "")
    print_tables(found)
    if supervised:
        print("started again after failures, so VOT's measures apply and the rules do not")
    if args.out is not None:
        make_folder(args.out)
        write_files(args.out, found, runs)
    return 0
