"""The `dcfnet` command: it finds the command that is asked for, runs it, and turns errors into exit
codes.

Exit codes: 0 done, 1 failed, 2 bad arguments or input.  An error is one line on stderr that says
what to do; `--debug` adds the traceback.  Results go to stdout or files, progress to stderr when
that is a terminal.  Only the module of the command that is asked for is imported, so that
`dcfnet --help` answers at once.
"""

import argparse
import contextlib
import importlib
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from .support.errors import DeviceError, Failed
from .support.files import WriteError

COMMANDS = {  # what each does; its module in `commands` has the same name
    "demo": "track a face in a real clip: its boxes and a video",
    "track": "track targets through a video, a camera, a stream, a folder or a sequence",
    "serve": "a page in the browser: open a video or camera, draw a box, watch, take the boxes",
    "eval": "run trackers over a data set: boxes, scores and a report; or check a copy",
    "score": "score box files against ground truth",
    "verify": "run an evaluation again and compare every box",
    "stress": "disturb annotated videos in known ways: what a tracker loses, and finds again",
    "tune": "search a preset's settings for the best success AUC on annotated sequences",
    "prepare": "cut training crops out of annotated sequences, into one HDF5 file",
    "train": "train a network from crops; `mpirun -n N dcfnet train ...` shares the work",
    "convert": "convert weights of MatConvNet or PyTorch to a file of dcfnet_np",
    "gradcheck": "check every gradient and equation against finite differences",
    "trace": "record every intermediate of tracking and of one training step, for h5py",
    "diff": "say where two traces, or one source under two presets, part first and by how much",
    "explain": "write the derivation as one interactive HTML page, for a browser without a network",
    "bench": "measure tracking and training on this machine, beside PyTorch where it is installed",
    "doctor": "say what is installed, which GPU there is, what falls back and why",
}


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
                words = (word for word in arguments if not word.startswith("-"))
                parser = make_parser(next(words, ""))
                args = parser.parse_args(_join_negative_box(arguments))
                code: int = args.run(args)
                return code
            finally:
                print(end="", flush=True)  # here, where a stdout that has gone can be dealt with
    except BrokenPipeError:  # whoever read stdout has gone, as `head` does: no error worth a line
        # else Python complains at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, code = _message_and_code(error)
        print(f"dcfnet: error: {' '.join(message.split())}", file=sys.stderr)
        return code


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of one command only, or of all commands for None."""
    from . import __version__

    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="dcfnet",
        description="DCFNet, a small correlation-filter tracker, with hand-written gradients.",
    )
    parser.add_argument("--version", action="version", version=f"dcfnet_np {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = parsers.add_parser(name, help=text, description=text, parents=[common])
        if command in (None, name):
            module = importlib.import_module(f"{__package__}.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _message_and_code(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return "stopped", 1
    if isinstance(error, (Failed, WriteError)):
        return str(error), 1
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", 2
    if isinstance(error, (OSError, ValueError, DeviceError)):
        return str(error), 2
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


@contextlib.contextmanager
def _endings_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, end a command as Ctrl-C does.

    What `nohup` ignores stays so.
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

        def show_ours(message: Any, category: type[Warning], *rest: Any, **options: Any) -> None:
            if category.__module__.startswith(__package__):
                print(f"dcfnet: warning: {message}", file=sys.stderr)
            else:
                show(message, category, *rest, **options)

        warnings.showwarning = show_ours
        yield


def _join_negative_box(arguments: list[str]) -> list[str]:
    """`--box -5,3,20,30` to `--box=-5,3,20,30`: argparse takes a leading dash for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] == "--box" and re.match(r"-[\d.]", word):
            joined[-1] = f"--box={word}"
        else:
            joined.append(word)
    return joined


if __name__ == "__main__":
    sys.exit(main())
