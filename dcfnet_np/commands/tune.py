"""`dcfnet tune`: a search for the settings of a preset."""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..evaluation import datasets, runner, tune
from ..support.errors import Failed
from .common import (
    add_device,
    add_preset,
    add_workers,
    parse_count,
    parse_names,
    print_table,
    progress_bar,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, what, and how long to search."""
    add = parser.add_argument
    where = "folders that docs/howto/evaluation.md lists"
    add("dataset", metavar="SEQUENCES_DIR", help=where)
    out = "a search that was cut goes on there"
    add("--out", metavar="DIR", type=Path, required=True, help=out)
    add(
        "--search",
        metavar="FIELD=...,...",
        required=True,
        help="FIELD=LOW:HIGH, LOW:HIGH:log, LOW:HIGH:STEP or A|B|C, as in "
        "learning_rate=0.002:0.05:log,num_scales=3|5",
    )
    trials = "the preset as it is counted"
    add("--trials", metavar="N", type=parse_count, required=True, help=trials)
    means = "scores are means over them; default: light"
    add("--weights", metavar="NAME|FILE", nargs="+", default=["light"], help=means)
    add_preset(parser)
    add("--sequences", metavar="A,B,...", type=parse_names, help="default: all")
    starts = "runs a stride; default: 3"
    add("--starts", metavar="K", type=parse_count, default=3, help=starts)
    add(
        "--strides",
        metavar="N",
        type=int,
        nargs="+",
        default=[1],
        help="run each sequence at every N-th frame, as of a slower camera; backwards for -N; "
        "default: 1",
    )
    frames = "the most of a run; default: to the end"
    add("--frames", metavar="N", type=parse_count, help=frames)
    add_workers(parser)
    add("--seed", metavar="N", type=int, default=0, help="default: 0")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Search on from what --out holds; a line for each trial."""
    weights, strides = tuple(args.weights), tuple(args.strides)
    settings = (args.starts, args.frames, args.seed, args.device, strides)
    config = tune.Config(args.search, args.preset, weights, *settings)
    tune.parse_search(config.search, config.preset)  # before the sequences, which may be many
    sequences = datasets.load(args.dataset, args.sequences)
    search = tune.Search(config, sequences, args.out)
    done, began = len(search.trials()), time.monotonic()
    with search, progress_bar(unit="frame", smoothing=0.05) as bar:
        bar.reset(search.frames() * args.trials)
        bar.initial = bar.n = search.frames() * min(done, args.trials)
        try:
            for trial in search.run(args.trials, args.workers, bar.update):
                a_trial = (time.monotonic() - began) / (trial.number + 1 - done)
                left = tqdm.format_interval(a_trial * (args.trials - trial.number - 1))
                line = f"{tune.describe(trial, search.best())}; {left} left"
                bar.write(line, file=sys.stdout)
                sys.stdout.flush()
        except KeyboardInterrupt:
            bar.close()
            raise Failed(
                f"stopped; the same command goes on from here, {args.out} keeps what is done"
            ) from None
        except runner.RunError as error:
            raise Failed(str(error)) from error
    print_table(tune.table(search))
    print(tune.verdict(search))
    print(f"wrote {args.out / 'best.json'} and {args.out / 'trials.csv'}")
    return 0
