"""`dcfnet stress`: what will break a tracker on these videos?"""

import argparse
import sys
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from .. import datasets
from ..evaluation.report import check_report_packages
from ..evaluation.runner import DIED
from ..stress import report
from ..stress import run as tunnel
from ..stress.disturbances import DISTURBANCES
from ..stress.summary import calibrate, summarise, summary_table
from ..stress.trials import tracked_rows
from ..support.errors import Failed
from . import common
from .eval import wanted_trackers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The videos, the trackers, the disturbances."""
    add = partial(common.add_value, parser)
    where = "annotated videos, in folders that docs/howto/evaluation.md lists"
    parser.add_argument("dataset", metavar="SEQUENCES_DIR", nargs="+", help=where)
    add("--out", "DIR", Path, "where results go; a run that was cut goes on there")
    add("--trackers", "T,T,...", common.parse_names, "as for eval; default: dcfnet")
    add("--disturbances", "D,D,...", common.parse_names, f"{', '.join(DISTURBANCES)}; default: all")
    add("--sequences", "A,B,...", common.parse_names, "default: all")
    add("--starts", "N", common.parse_count, "trials of each kind in a video", 1)
    add("--seed", "N", int, "of all that is drawn", 0)
    common.add_workers(parser)
    common.add_network_options(parser)
    common.add_device(parser)
    parser.set_defaults(trackers=["dcfnet"], disturbances=list(DISTURBANCES))


def run(args: argparse.Namespace) -> int:
    """Run what is not there yet, then write results.json and the report."""
    if args.out is None:
        raise ValueError("give --out DIR for the results")
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    unknown = [name for name in args.disturbances if name not in DISTURBANCES]
    if unknown:
        known = ", ".join(DISTURBANCES)
        raise ValueError(f"there is no disturbance {unknown[0]!r}; known: {known}")
    check_report_packages()  # now rather than after the run
    specs, _ = wanted_trackers(args)
    config = tunnel.StressConfig(
        specs, load_videos(args.dataset, args.sequences), args.disturbances, args.starts, args.seed
    )
    records = run_with_bar(config, args)
    found = {label: summarise(each) for label, each in records.items()}
    worth = {label: calibrate(each) for label, each in records.items()}
    report.write_results(args.out, config, found, worth)
    report.write_report(args.out, config, records, found, worth)
    common.print_table(summary_table(found))
    print(f"wrote {args.out / 'results.json'} and {args.out / 'report.html'}")
    return 0


def load_videos(folders: list[str], names: list[str] | None) -> list[datasets.Sequence]:
    """The sequences of all folders, or those of these names, with a warning for what is left out.

    Raises ValueError for what is not there, and where none can be used.
    """
    videos = []
    for folder in folders:
        entries = datasets.find_sequences(Path(folder))
        wanted = [e.name for e in entries if names is None or any(map(e.holds, names))]
        videos += datasets.load_dataset(folder, wanted) if wanted else []
    have = [video.name for video in videos]
    missing = [name for name in names or [] if name not in have]
    twice = sorted({name for name in have if have.count(name) > 1})
    if missing or twice:
        what = f"no sequence {missing[0]}" if missing else f"more than one sequence {twice[0]}"
        raise ValueError(f"there is {what} in {', '.join(folders)}; name others with --sequences")
    usable = []
    for video in videos:
        try:
            tracked_rows(video)
            usable.append(video)
        except datasets.DatasetError as error:
            common.warn(f"{error}; it is left out")
    if not usable:
        raise ValueError(f"no video in {', '.join(folders)} can be used")
    return usable


def run_with_bar(
    config: tunnel.StressConfig, args: argparse.Namespace
) -> dict[str, list[tunnel.TrialRecord]]:
    """Run what is not there yet, with a bar of videos on a terminal, else with a line for each."""
    with common.progress_bar(unit="video") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if bar.disable and done:
                print(f"dcfnet: {done} of {total} done: {what}", file=sys.stderr)

        try:
            return tunnel.run_stress(config, args.out, args.workers, progress)
        except BrokenProcessPool:
            raise Failed(DIED) from None
        except KeyboardInterrupt:
            raise Failed(
                f"stopped; the same command goes on from here, {args.out} keeps what is done"
            ) from None
