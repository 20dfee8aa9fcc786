"""`dcfnet serve`: the server around the web application."""

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import socket
import tempfile
from functools import partial
from pathlib import Path

from ..multi_tracker import MultiTracker
from . import common

NEEDED = ("starlette", "uvicorn", "websockets")
LARGEST_MESSAGE = 8_000_000  # bytes of a camera's picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, what to take, and the tracker's options."""
    add = partial(common.add_value, parser)
    add("--host", "HOST", str, "address to listen on; 127.0.0.1 is this machine alone", "127.0.0.1")
    add("--port", "PORT", int, "0 takes any that is free", 8000)
    add("--max-upload", "MB", float, "largest video that is taken", 500.0)
    names = "a name by which browsers may call this machine, besides localhost and addresses"
    parser.add_argument("--allow-host", metavar="NAME", action="append", default=[], help=names)
    common.add_network_options(parser)
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.  Raises ValueError for what can be known before."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extra = "pip install 'dcfnet_np[serve]'"
        raise ValueError(f"dcfnet serve needs {', '.join(missing)}; install the extra: {extra}")
    if not (0 < args.max_upload < 1e6):
        raise ValueError(
            f"--max-upload must be more than 0 and less than a million, got {args.max_upload:g}"
        )
    # a small JPEG may unpack to gigabytes
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**25))

    import uvicorn

    from ..serve.app import make_app

    def make_tracker() -> MultiTracker:
        return MultiTracker(weights=args.weights, preset=args.preset, device=args.device)

    make_tracker()  # what is wrong with the options shows now
    listener = _listen(args.host, args.port)
    with listener, tempfile.TemporaryDirectory(prefix="dcfnet-serve-") as folder:
        facts = {"weights": Path(args.weights).name, "preset": Path(args.preset).name}
        names = [args.host, socket.gethostname(), *args.allow_host]
        app = make_app(make_tracker, Path(folder), int(args.max_upload * 1e6), names, facts)
        config = uvicorn.Config(
            app,
            log_level="warning",
            ws_max_size=LARGEST_MESSAGE,
            ws_max_queue=4,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        _say_where(*listener.getsockname()[:2])
        with contextlib.suppress(KeyboardInterrupt):  # how it is ended
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _say_where(host: str, port: int) -> None:
    address = ipaddress.ip_address(host)
    shown = f"[{host}]" if address.version == 6 else host
    if address.is_unspecified:
        shown = socket.gethostname()
    print(f"open http://{shown}:{port}/ in a browser; Ctrl-C ends", flush=True)
    if not address.is_loopback:
        print("everybody who can reach this address can use it and see what is tracked", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason}; try --port 0 or another --host"
        ) from None
