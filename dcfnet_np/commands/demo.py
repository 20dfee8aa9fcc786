"""`dcfnet demo`: a real clip, the packaged weights, and what there is to see."""

import argparse
import contextlib
from pathlib import Path

import cv2
import numpy as np

from ..follow import follow
from ..multi_tracker import MultiTracker
from ..support.files import WriteError, make_folder, replacing
from ..vision.box_files import BoxWriter
from ..vision.draw import contact_sheet
from ..vision.read_ahead import ReadAhead, WriteBehind
from ..vision.sources import open_source
from ..vision.video_writer import VideoWriter
from . import common
from .track import Outputs, take_all

SHEET_FRAMES, SHEET_COLUMNS = 12, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, and the tracker's options."""
    common.add_value(parser, "--out", "DIR", Path, "", Path("out/demo"))
    common.add_network_options(parser)
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Track the clip; write boxes, a video and a contact sheet."""
    clip = common.demo_clip()
    make_folder(args.out)
    boxes, video, sheet = (
        args.out / name for name in ("boxes.csv", "carphone.mp4", "contact_sheet.png")
    )
    pictures: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(clip))
        frames = stack.enter_context(ReadAhead(source.frames()))
        tracker = MultiTracker(weights=args.weights, preset=args.preset, device=args.device)
        outputs = Outputs([stack.enter_context(BoxWriter(boxes))])
        writer = stack.enter_context(VideoWriter(video, source.fps))
        behind = stack.enter_context(WriteBehind(writer.write))
        outputs.viewers += [
            lambda step, picture: behind(picture),
            lambda step, picture: pictures.append(picture),
        ]
        stopped = take_all(follow(frames, [common.DEMO_BOX], tracker, True), outputs, source.length)
    places = np.linspace(0, len(pictures) - 1, SHEET_FRAMES).round().astype(int)
    chosen = [pictures[place] for place in sorted(set(places))]
    with replacing(sheet) as part:
        if not cv2.imwrite(str(part), contact_sheet(chosen, SHEET_COLUMNS)):
            raise WriteError(f"cannot write {sheet}; make room or choose another folder")
    print(outputs.summary.line(source.name))
    print(f"wrote {boxes}, {video} and {sheet}")
    return 1 if stopped else 0
