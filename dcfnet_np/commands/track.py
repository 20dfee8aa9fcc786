"""`dcfnet track`: targets through a source, into files and a window."""

import argparse
import contextlib
import dataclasses
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..follow import Painter, Step, Summary, follow
from ..support.errors import Failed
from ..support.files import WriteError
from ..support.words import counted
from ..tracker import MultiTracker
from ..vision.box_files import BoxWriter, read_boxes
from ..vision.boxes import check_box
from ..vision.frames import Source
from ..vision.read_ahead import ReadAhead, WriteBehind
from ..vision.sources import open_source
from ..vision.video_writer import VideoWriter
from . import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to track, where, and what to write."""
    common.add_source(parser)
    start = parser.add_mutually_exclusive_group()
    common.add_box(start)
    rows = "several targets, a row each: .txt as OTB's rows, 1-based; .csv or .json, 0-based"
    common.add_value(start, "--boxes", "FILE", Path, rows)
    start.add_argument("--select", action="store_true", help="draw the box with the mouse")
    common.add_network_options(parser)
    common.add_device(parser)
    add, flag = partial(common.add_value, parser), partial(parser.add_argument, action="store_true")
    rows = (
        ".txt: OTB rows, 1-based; .csv or .json: 0-based, with score, ok, time and state; "
        "of several targets, FILE.1.csv, FILE.2.csv, ..."
    )
    add("--save-boxes", "FILE", Path, rows)
    video = (
        "the frames with the box drawn; an .avi or .mkv can be played after kill -9 too, "
        "as FILE.part.avi"
    )
    add("--save-video", "FILE", Path, video)
    flag("--show", help="show the frames in a window; q or Esc stops")
    flag("--response", help="draw the response map into video and window")
    add("--trail", "N", common.parse_count, "draw the path of the last N frames too")
    begin = "begin, with the box, at frame N, counted from 0, or at a time like 90s or 1:30.5"
    add("--start", "N|TIME", parse_moment, begin)
    add("--end", "N|TIME", parse_moment, "stop before that frame or time")
    add("--every", "N", common.parse_count, "track each N-th frame only", 1)
    add("--max-frames", "N", common.parse_count, "stop after N frames, the first counted")
    parser.set_defaults(trail=0, start=0)


def parse_moment(text: str) -> int | float:
    """A frame number, or a time in seconds as a float: 90s, 1:30, 1:02:03.5."""
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    found = re.fullmatch(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9}(?:\.\d*)?)(s?)", text, re.ASCII)
    if found is None or not (found[2] or found[4]):
        raise argparse.ArgumentTypeError(
            f"must be a frame number, or a time like 90s or 1:30.5, got {text[:60]!r}"
        )
    return 3600.0 * int(found[1] or 0) + 60.0 * int(found[2] or 0) + float(found[3])


def run(args: argparse.Namespace) -> int:
    """Track to the end, or to Ctrl-C."""
    targets = None if args.boxes is None else read_boxes(args.boxes).tolist()
    if targets == []:
        raise ValueError(f"{args.boxes}: holds no boxes")
    paths = _box_files(args.save_boxes, 1 if targets is None else len(targets))
    for path in filter(None, (*paths, args.save_video)):
        common.check_overwrite(path, args.source, args.boxes)
    with contextlib.ExitStack() as stack:
        outputs = Outputs([stack.enter_context(BoxWriter(path)) for path in paths])
        _check_display(args)
        source = stack.enter_context(_open(args))
        frames = stack.enter_context(ReadAhead(source.frames(), newest=source.live))
        first = next(frames)
        if args.save_video:
            video = stack.enter_context(VideoWriter(args.save_video, source.fps / args.every))
            behind = stack.enter_context(WriteBehind(video.write))
            outputs.viewers.append(lambda step, picture: behind(picture, step.frame.time))
        if args.show:
            outputs.viewers.append(Window())
        boxes = _first_boxes(args, targets, source, first.image)
        outputs.painter = Painter(args.trail)
        outputs.summary = Summary(source.boxes if targets is None else None)
        tracker = MultiTracker(weights=args.weights, preset=args.preset, device=args.device)
        response = args.response and bool(outputs.viewers)
        steps = follow(itertools.chain([first], frames), boxes, tracker, response)
        stopped = take_all(steps, outputs, source.length)
    print(outputs.summary.line(source.name, frames.dropped))
    return 1 if stopped and not source.live else 0


def _box_files(path: Path | None, count: int) -> list[Path]:
    """The files for the boxes of `count` targets; several have their number before the suffix."""
    if path is None or count == 1:
        return [] if path is None else [path]
    return [path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(1, count + 1)]


def _open(args: argparse.Namespace) -> Source:
    part = {"start": args.start, "end": args.end, "every": args.every}
    need_truth = not (args.box or args.boxes or args.select)
    source = open_source(args.source, args.max_frames, need_truth=need_truth, **part)
    if source.truth_error:
        common.warn(f"{source.truth_error}; going on without mean IoU")
    return source


def _first_boxes(
    args: argparse.Namespace, targets: list[list[float]] | None, source: Source, image: np.ndarray
) -> list[tuple[float, float, float, float]]:
    named: list[tuple[str, Sequence[float]]]
    if targets is not None:
        named = [(f"{args.boxes}, target {number}", box) for number, box in enumerate(targets, 1)]
    elif args.select:
        named = [("--select", _select(image))]
    else:
        named = [common.first_box(args.box, source, "give --box X,Y,W,H or --select")]
    return [check_box(box, image.shape, origin) for origin, box in named]


# --- what becomes of each frame


class Stopped(Exception):
    """The user ended the run in its window: not an error."""


@dataclasses.dataclass
class Outputs:
    """Who gets what is found: a file of boxes for each target, or none, and viewers of pictures."""

    writers: list[BoxWriter]
    viewers: list[Callable[[Step, np.ndarray], None]] = dataclasses.field(default_factory=list)
    painter: Painter = dataclasses.field(default_factory=Painter)
    summary: Summary = dataclasses.field(default_factory=Summary)

    def take(self, step: Step) -> None:
        """One more frame."""
        self.summary.add(step)
        for writer, row in zip(self.writers, step.rows):
            writer.add(row)
        if self.viewers:
            picture = self.painter(step)
            for viewer in self.viewers:
                viewer(step, picture)

    def kept(self) -> str:
        """The end of an error's line: which boxes are there all the same."""
        if not self.writers or not self.writers[0].count:
            return ""
        paths = ", ".join(str(writer.path) for writer in self.writers)
        return f"; {counted(self.writers[0].count, 'box')} before it kept in {paths}"


def take_all(steps: Iterator[Step], outputs: Outputs, length: int | None) -> bool:
    """Hand every step to `outputs`, with a bar on a terminal; returns whether Ctrl-C ended it.

    What goes wrong midway becomes `Failed`; the rows before it are written.
    """
    with common.progress_bar(steps, total=length, unit="frame") as bar:
        try:
            for step in bar:
                outputs.take(step)
        except Stopped:
            pass
        except KeyboardInterrupt:
            bar.close()
            frames = counted(outputs.summary.frames, "frame")
            print(f"dcfnet: stopped after {frames}", file=sys.stderr)
            return True
        except Exception as error:
            ours = isinstance(error, (ValueError, WriteError))
            name = "" if ours else f"{type(error).__name__}: "
            raise Failed(f"{name}{error}{outputs.kept()}") from error
    return False


# --- windows


def _check_display(args: argparse.Namespace) -> None:
    options = {
        "--select": (args.select, "give --box X,Y,W,H"),
        "--show": (args.show, "use --save-video FILE"),
    }
    # Without a display, Qt ends the whole process instead of raising: let it do so in another one.
    script = "import cv2; cv2.namedWindow('dcfnet'); cv2.destroyAllWindows()"
    for option, (wanted, instead) in options.items():
        if (
            wanted
            and subprocess.run([sys.executable, "-c", script], capture_output=True).returncode
        ):
            raise ValueError(
                f"{option} needs a display and an OpenCV with windows, and there is none; {instead}"
            )


def _select(frame: np.ndarray) -> Sequence[float]:
    title = "dcfnet: draw the target, then Enter"
    _open_window(title, frame)
    box = cv2.selectROI(title, frame, showCrosshair=False, printNotice=False)
    cv2.destroyAllWindows()
    if not any(box):
        raise ValueError("--select: no box was drawn; draw it with the mouse, then press Enter")
    return box


def _open_window(title: str, frame: np.ndarray) -> None:
    """A window that can be resized: small frames are enlarged, large ones fit on a screen."""
    height, width = frame.shape[:2]
    zoom = min(3.0, 1280 / width, 720 / height)
    # GUI_NORMAL: without OpenCV's tool bar
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, round(width * zoom), round(height * zoom))


class Window:
    """Shows pictures until a key or the window's own button ends the run."""

    title = "dcfnet: q or Esc stops"
    _opened = False

    def __call__(self, step: Step, picture: np.ndarray) -> None:
        if not self._opened:
            _open_window(self.title, picture)
            self._opened = True
        elif cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            raise Stopped
        cv2.imshow(self.title, picture)
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            raise Stopped
