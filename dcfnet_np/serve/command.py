"""`dcfnet serve`: its options, and the server around the application."""

import argparse
import importlib.util
import ipaddress
import os
import socket
import tempfile
from pathlib import Path

NEEDED = ("starlette", "uvicorn", "websockets")
LARGEST_MESSAGE = 8_000_000  # bytes of a camera's picture


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command, besides the tracker's."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: 127.0.0.1, this machine alone",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="default: 8000; 0 takes any that is free"
    )
    parser.add_argument(
        "--max-upload",
        metavar="MB",
        type=float,
        default=500.0,
        help="largest video that is taken; default: 500",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name by which browsers may call this machine, besides localhost and addresses",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.  Raises ValueError for what can be known before."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"dcfnet serve needs {', '.join(missing)}; install the extra: pip install 'dcfnet_np[serve]'"
        )
    if not (0 < args.max_upload < 1e6):
        raise ValueError(
            f"--max-upload must be more than 0 and less than a million, got {args.max_upload:g}"
        )
    # a small JPEG may unpack to gigabytes
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**25))

    import uvicorn

    from ..backend import DeviceError
    from ..tracker import MultiTracker
    from .app import make_app

    def make_tracker() -> MultiTracker:
        return MultiTracker(weights=args.weights, preset=args.preset, device=args.device)

    try:
        make_tracker()  # what is wrong with the options shows now
    except DeviceError as error:
        raise ValueError(str(error)) from error
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
        host, port = listener.getsockname()[:2]
        address = ipaddress.ip_address(host)
        shown = (
            socket.gethostname() if address.is_unspecified else f"[{host}]" if ":" in host else host
        )
        print(f"open http://{shown}:{port}/ in a browser; Ctrl-C ends", flush=True)
        if not address.is_loopback:
            print(
                "everybody who can reach this address can use it and see what is tracked",
                flush=True,
            )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # how it is ended
            pass
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason}; try --port 0 or another --host"
        ) from None
