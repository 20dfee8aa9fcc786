"""`dcfnet bench`: how fast tracking and training are on this machine."""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .. import bench
from ..backend import select_device
from ..support.errors import Failed
from ..support.files import check_output, replacing
from ..vision.sources import open_source
from ..weights import load_weights
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to track, and on which cores."""
    add = partial(common.add_value, parser)
    source = "frames with ground truth, or with --box; default: the demo's clip, or made-up frames"
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=source)
    common.add_box(parser)
    add("--frames", "N", common.parse_count, "the first counted", 80)
    add("--weights", "NAME|FILE", str, "", "light")
    add("--preset", "NAME|FILE.json", str, "one that PyTorch's tracker has too", "pytorch")
    common.add_device(parser, "cpu")
    add("--cores", "N", common.parse_count, "CPU cores to run on", 2)
    add("--json", "FILE", Path, "write every figure")


def run(args: argparse.Namespace) -> int:
    """Print a table, and write it where --json says."""
    if args.json:
        check_output(args.json)
    weights, device = load_weights(args.weights), select_device(args.device)
    clip, why, decode = args.source, "", 0.0
    box: Sequence[float] | None = args.box
    if not clip:
        try:
            clip, box = common.demo_clip(), box or common.DEMO_BOX
        except Failed as error:
            why = str(error)
    if why:
        name, (frames, patch) = "the made-up video", bench.made_up_frames(args.frames)
        box = box or patch
    else:
        with open_source(clip, args.frames) as source:
            began = time.perf_counter()
            name, frames = source.name, list(source)
            decode = (time.perf_counter() - began) / len(frames)
            _, box = common.first_box(box, source)
    if len(frames) < 2:
        raise ValueError(f"{name} has one frame; bench needs two or more")
    with bench.pinned(args.cores):
        report = bench.run(frames, box, weights, args.preset, device)
    if why:
        report["made_up"] = why
    else:
        report["tracking"]["decode_ms"] = decode * 1e3
    print(bench.text(report), end="")
    if args.json:
        with replacing(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0
