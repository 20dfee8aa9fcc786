"""`dcfnet eval`: trackers over a data set, or what is wrong with a copy of one."""

import argparse
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import datasets
from ..evaluation import report, results, runner
from ..evaluation.result_files import Run
from ..evaluation.rules import get_rules
from ..evaluation.trackers import TrackerSpec, parse_tracker
from ..support.errors import Failed
from ..support.words import counted
from . import common

LIFE_SIGN = 30  # seconds between lines where stderr is no terminal


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
        "dcfnet[:WEIGHTS[:PRESET]], hog-dcf, gray-dcf, csrt, kcf, mosse, identity; "
        "NAME=T renames one; default: dcfnet"
    )
    add("--trackers", "T,T,...", common.parse_names, trackers)
    parser.set_defaults(trackers=["dcfnet"])
    add("--rules", "NAME", str, "otb, got10k, pytracking, paper", "otb")
    add("--attributes", "FILE", str, 'JSON: {"David": ["IV", ...], ...}')
    add_partial(parser)
    add_run_options(parser)
    common.add_network_options(parser)
    common.add_device(parser)


def add_partial(parser: argparse.ArgumentParser) -> None:
    """--partial."""
    lacking = "go on where a tracker lacks sequences: score what it has"
    parser.add_argument("--partial", action="store_true", help=lacking)


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
    specs, skipped = wanted_trackers(args)
    sequences = _load_sequences(args)
    options = (args.protocol, args.rules, args.attributes)
    evaluation = runner.Evaluation(args.dataset, specs, sequences, *options)
    whole = runner.join_evaluation(args.out, evaluation)
    there: dict[str, set[str]] = {spec.label: set() for spec in whole.trackers}
    for job in runner.whole_jobs(args.out, whole, set(runner.plan_jobs(evaluation))):
        there[job.spec.label].add(job.sequence.name)
    refuse_missing(there, whole.sequences, args.partial)
    run_with_bar(evaluation, args.out, args)
    how = counted(args.workers, "process")
    if args.dask:
        how = f"Dask at {args.dask}"
    settings = runner.read_record(args.out)["trackers"]
    runs = runner.read_runs(args.out, whole)
    about = (args.protocol, get_rules(args.rules), settings, skipped, how)
    found = results.build_results(args.dataset, whole.sequences, runs, *about)
    print_tables(found)
    if found["unscored"] and args.protocol == "ope":
        print(f"{args.out / 'got10k'} has the files for a server")
    write_files(args.out, found, runs)
    return 0


def wanted_trackers(args: argparse.Namespace) -> tuple[list[TrackerSpec], dict[str, str]]:
    """The trackers of --trackers that can be made here; and why not, by label, with warnings."""
    parsed = [parse_tracker(t, args.weights, args.preset, args.device) for t in args.trackers]
    specs, skipped = runner.available_trackers(parsed)
    for label, reason in skipped.items():
        common.warn(f"{label} is skipped: {reason}")
    if not specs:
        raise ValueError("no tracker is left to run")
    return specs, skipped


def _load_sequences(args: argparse.Namespace) -> list[datasets.Sequence]:
    """The sequences, with warnings about what is not as it should be."""
    sequences = datasets.load_dataset(args.dataset, args.sequences, args.attributes)
    for sequence in sequences:
        for note in sequence.notes:
            common.warn(f"{sequence.name}: {note}")
    bare = [sequence.name for sequence in sequences if not sequence.attributes]
    if args.attributes and bare:
        count, names = f"{len(bare)} of {len(sequences)}", results.first_names(bare)
        common.warn(f"{args.attributes} has no attributes of {count} sequences: {names}")
    return sequences


def refuse_missing(
    there: Mapping[str, Collection[str]], sequences: Sequence[datasets.Sequence], partial: bool
) -> None:
    """Say which sequences a tracker lacks: a warning with --partial, else ValueError.

    there: names of the sequences of each tracker.
    """
    line = results.missing_line(there, [sequence.name for sequence in sequences])
    if line and not partial:
        raise ValueError(f"{line}; add them, or give --partial to score what is there")
    if line:
        common.warn(line)


def print_tables(found: dict[str, Any]) -> None:
    """Scores of all sequences, then of each, and what has none."""
    sequences = found["dataset"]["sequences"]
    common.print_table(results.results_table(found))
    print()
    common.print_table(results.sequences_table(found))
    if line := results.unscored_line(found["unscored"], len(sequences)):
        print(line)
    if found["protocol"] == "vot" and len(sequences) < 60:
        print("VOT's measures on so few sequences test the code; they are no score")


def write_files(out: Path, found: dict[str, Any], runs: Mapping[str, list[Run]]) -> None:
    """results.json and the report."""
    results.write_results(out / "results.json", found)
    first, *_ = runs.values()
    report.write_report(out, results.load_results(out), first)
    print(f"wrote {out / 'results.json'} and {out / 'report.html'}")


def run_with_bar(
    evaluation: runner.Evaluation, out: Path, args: argparse.Namespace
) -> list[runner.Job]:
    """Run what is not there yet, and show how far it is; returns all jobs.

    On a terminal by a bar of frames, elsewhere by a line every LIFE_SIGN seconds.
    """
    began = told = time.monotonic()
    done = 0
    with common.progress_bar(unit="frame", smoothing=0.05) as bar:

        def progress(frames: int, total: int) -> None:
            nonlocal done, told
            done += frames
            if bar.disable:
                if time.monotonic() >= told + LIFE_SIGN:
                    told = time.monotonic()
                    print(
                        f"dcfnet: {done} of {total} frames, {told - began:.0f} s", file=sys.stderr
                    )
            elif bar.total is None:
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
