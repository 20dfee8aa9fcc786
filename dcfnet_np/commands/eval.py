"""`dcfnet eval`: trackers over a data set, or what is wrong with a copy of one."""

import argparse
from functools import partial
from pathlib import Path

from .. import datasets
from ..evaluation import report, results, runner
from ..evaluation.rules import get_rules
from ..evaluation.trackers import parse_tracker
from ..support.errors import Failed
from ..support.words import counted
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data set, the trackers, the protocol and the rules."""
    add, flag = partial(common.add_value, parser), partial(parser.add_argument, action="store_true")
    where = "folders that docs/howto/evaluation.md lists: OTB, VOT, ..."
    parser.add_argument("dataset", metavar="DATASET_DIR", help=where)
    add("--out", "DIR", Path, "where results go; a run that was cut goes on there")
    flag("--check", help="run nothing: say what is wrong with this copy")
    flag("--decode", help="with --check: decode every frame")
    add("--sequences", "A,B,...", common.parse_names, "default: all")
    protocols = ("ope", "tre", "sre", "vot")
    parser.add_argument("--protocol", choices=protocols, default="ope", help="default: ope")
    trackers = (
        "dcfnet[:WEIGHTS[:PRESET]], hog-dcf, gray-dcf, csrt, kcf, mosse, mil, nano:FOLDER, "
        "vit:FILE, identity; NAME=T renames one; default: dcfnet"
    )
    add("--trackers", "T,T,...", common.parse_names, trackers)
    parser.set_defaults(trackers=["dcfnet"])
    add("--rules", "NAME", str, "otb, got10k, pytracking, paper", "otb")
    add("--attributes", "FILE", str, 'JSON: {"David": ["IV", ...], ...}')
    add("--compare", "DIR", Path, "another --out, to be held beside this one")
    add_run_options(parser)
    common.add_network_options(parser)
    common.add_device(parser)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """--workers or --dask."""
    where = parser.add_mutually_exclusive_group()
    common.add_workers(where)
    scheduler = "a Dask scheduler whose workers see the same paths"
    common.add_value(where, "--dask", "ADDRESS", str, scheduler)


def run(args: argparse.Namespace) -> int:
    """Run what is not there yet, then write results.json and the report."""
    if args.check:
        return _check_dataset(args)
    if args.out is None:
        raise ValueError("give --out DIR for the results, or --check to look at the data set only")
    get_rules(args.rules)
    report.check_report_packages()  # now rather than after the run
    other = None if args.compare is None else results.load_results(args.compare)
    parsed = [parse_tracker(t, args.weights, args.preset, args.device) for t in args.trackers]
    specs, skipped = runner.available_trackers(parsed)
    for label, reason in skipped.items():
        common.warn(f"{label} is skipped: {reason}")
    if not specs:
        raise ValueError("no tracker is left to run")
    sequences = datasets.load_dataset(args.dataset, args.sequences, args.attributes)
    for sequence in sequences:
        for note in sequence.notes:
            common.warn(f"{sequence.name}: {note}")
    options = (args.protocol, args.rules, args.attributes)
    evaluation = runner.Evaluation(args.dataset, specs, sequences, *options)
    jobs = run_with_bar(evaluation, args.out, args)
    how = counted(args.workers, "process")
    if args.dask:
        how = f"Dask at {args.dask}"
    found = results.build_results(evaluation, args.out, jobs, skipped, how)
    results.write_results(args.out / "results.json", found)
    report.write_report(args.out, results.load_results(args.out), jobs, other)
    common.print_table(results.results_table(found))
    if line := results.unscored_line(found["unscored"], len(sequences)):
        server = f"; {args.out / 'got10k'} has the files for a server"
        print(line + (server if args.protocol == "ope" else ""))
    if args.protocol == "vot" and len(sequences) < 60:
        print("VOT's measures on so few sequences test the code; they are no score")
    print(f"wrote {args.out / 'results.json'} and {args.out / 'report.html'}")
    return 0


def run_with_bar(
    evaluation: runner.Evaluation, out: Path, args: argparse.Namespace
) -> list[runner.Job]:
    """Run what is not there yet, with a bar of frames on a terminal; returns all jobs."""
    with common.progress_bar(unit="frame", smoothing=0.05) as bar:

        def progress(frames: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = bar.n = frames  # found done: they say nothing about the speed
                bar.refresh()
            else:
                bar.update(frames)

        try:
            return runner.run_evaluation(evaluation, out, args.workers, args.dask, progress)
        except KeyboardInterrupt:
            bar.close()
            raise Failed(
                f"stopped; the same command goes on from here, {out} keeps what is done"
            ) from None
        except runner.RunError as error:
            raise Failed(str(error)) from error


def _check_dataset(args: argparse.Namespace) -> int:
    problems = list(datasets.check_dataset(args.dataset, args.sequences, args.decode))
    for problem in problems:
        print(f"{'error' if problem.fatal else 'note':<6} {problem.sequence}: {problem.text}")
    fatal = sum(problem.fatal for problem in problems)
    if fatal:
        raise Failed(
            f"{args.dataset}: {counted(fatal, 'problem')}; a sequence with one is not evaluated"
        )
    print(f"{args.dataset}: no sequence is broken, {counted(len(problems), 'note')}")
    return 0
