"""`dcfnet tune`: a search for the settings of a preset."""

import argparse
from functools import partial
from pathlib import Path

from .. import datasets
from ..evaluation import runner, tune
from ..support.errors import Failed
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, what, and how long to search."""
    add, need = partial(common.add_value, parser), partial(parser.add_argument, required=True)
    where = "folders that docs/howto/evaluation.md lists"
    parser.add_argument("dataset", metavar="SEQUENCES_DIR", help=where)
    need("--out", metavar="DIR", type=Path, help="a search that was cut goes on there")
    ranges = (
        "FIELD=LOW:HIGH, LOW:HIGH:log, LOW:HIGH:STEP or A|B|C, as in "
        "learning_rate=0.002:0.05:log,num_scales=3|5"
    )
    need("--search", metavar="FIELD=...,...", help=ranges)
    count = common.parse_count
    need("--trials", metavar="N", type=count, help="the preset as it is counted")
    several = partial(parser.add_argument, nargs="+")
    means = "scores are means over them; default: light"
    several("--weights", metavar="NAME|FILE", default=["light"], help=means)
    common.add_preset(parser)
    add("--sequences", "A,B,...", common.parse_names, "default: all")
    add("--starts", "K", count, "runs a stride", 3)
    strides = (
        "run each sequence at every N-th frame, as of a slower camera; backwards for -N; default: 1"
    )
    several("--strides", metavar="N", type=int, default=[1], help=strides)
    add("--frames", "N", count, "the most of a run; default: to the end")
    common.add_workers(parser)
    add("--seed", "N", int, "", 0)
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Search on from what --out holds; a line for each trial."""
    weights, strides = tuple(args.weights), tuple(args.strides)
    settings = (args.starts, args.frames, args.seed, args.device, strides)
    config = tune.SearchConfig(args.search, args.preset, weights, *settings)
    tune.parse_search_space(config.search, config.preset)  # before the sequences, which may be many
    sequences = datasets.load_dataset(args.dataset, args.sequences)
    search = tune.PresetSearch(config, sequences, args.out)
    with search:
        try:
            for trial in search.run(args.trials, args.workers):
                print(tune.trial_line(trial, search.best()), flush=True)
        except KeyboardInterrupt:
            raise Failed(
                f"stopped; the same command goes on from here, {args.out} keeps what is done"
            ) from None
        except runner.RunError as error:
            raise Failed(str(error)) from error
    common.print_table(tune.search_table(search))
    print(tune.search_verdict(search))
    print(f"wrote {args.out / 'best.json'} and {args.out / 'trials.csv'}")
    return 0
