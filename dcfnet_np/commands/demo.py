"""`dcfnet demo`: a real clip and the packaged weights, by `dcfnet track`."""

import argparse
from pathlib import Path

from ..support.files import make_folder
from . import common, track


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, and the tracker's options."""
    common.add_value(parser, "--out", "DIR", Path, "", Path("out/demo"))
    common.add_network_options(parser)
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Track the clip; write boxes and a video with the response map in it."""
    clip, box = common.demo_clip(), ",".join(map(str, common.DEMO_BOX))
    make_folder(args.out)
    boxes, video = args.out / "boxes.csv", args.out / "carphone.mp4"
    words = [clip, "--box", box, "--save-boxes", boxes, "--save-video", video, "--response"]
    words += ["--weights", args.weights, "--preset", args.preset, "--device", args.device]
    parser = argparse.ArgumentParser()
    track.add_arguments(parser)
    code = track.run(parser.parse_args([str(word) for word in words]))
    print(f"wrote {boxes} and {video}")
    return code
