"""A TraX server, through which the VOT toolkit runs DCFNet.  Needs the extra `bridges`.

    python -m dcfnet_np.adapters.trax --weights light --preset default

The protocol runs over standard input and output, or the socket in TRAX_SOCKET.  Exit codes: 0 the
client ended the session, 1 failed midway, 2 bad arguments.  An error is one line on stderr, which
the client is told too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tracker import Tracker
from ..vision.images import decode_image


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one client until it quits; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dcfnet_np.adapters.trax", description="DCFNet as a TraX server."
    )
    add = parser.add_argument
    packaged = "packaged weights or a .h5 file"
    add("--weights", default="light", metavar="NAME|FILE", help=packaged)
    constants = "constants of the tracker"
    add("--preset", default="default", metavar="NAME|FILE.json", help=constants)
    add("--device", default="auto", metavar="auto|cpu|cuda[:N]")
    args = parser.parse_args(argv)
    try:
        tracker = Tracker(args.weights, args.preset, args.device)
    except (ValueError, OSError, RuntimeError) as error:
        return _complain(error, 2)
    try:
        import trax
    except ImportError as error:
        return _complain(f"TraX cannot be imported ({error}); pip install vot-trax==4.0.2", 2)
    try:
        server = trax.Server(
            [
                trax.Region.RECTANGLE
            ],  # the client turns polygons and masks into their bounding boxes
            # no raw pixels: vot-trax 4.0.2 writes past its memory at some sizes
            [trax.Image.PATH, trax.Image.BUFFER],
            tracker_name="DCFNet",
            tracker_description=f"dcfnet_np, weights {args.weights}, preset {args.preset}",
        )
        try:
            serve(tracker, server)
        except (ValueError, OSError, RuntimeError) as error:
            server.quit(_one_line(error))
            return _complain(error, 1)
        server.quit()
    except trax.TraxException as error:
        who = "such as the VOT toolkit, which starts this program"
        return _complain(f"no TraX client here, {who} ({error})", 1)
    return 0


def serve(tracker: Tracker, server: Any) -> None:
    """Answer the client's requests until it quits.  server: `trax.Server`.

    Boxes go through unchanged: TraX and the VOT toolkit count pixels from 0, as `Tracker` does.
    The client may initialise again at any frame, as the supervised experiment does.  Raises what
    `Tracker` raises, and ValueError or OSError for an image that cannot be read.
    """
    from trax import Rectangle, TraxStatus

    while True:
        request = server.wait()
        if request.type == TraxStatus.INITIALIZE:
            # one object: the server does not offer to follow several
            region, _ = request.objects[0]
            box = region.bounds()
            tracker.init(read_image(request.image["color"]), box)
            server.status([(Rectangle.create(*box), {"confidence": 1.0})])
        elif request.type == TraxStatus.FRAME:
            result = tracker.update(read_image(request.image["color"]))
            server.status([(Rectangle.create(*result.box), {"confidence": result.score})])
        else:
            return


def read_image(image: Any) -> np.ndarray:
    """A TraX image, a file's name or an encoded file itself, as (H, W, 3) uint8 BGR."""
    import cv2
    from trax import FileImage

    data = Path(image.path()).read_bytes() if isinstance(image, FileImage) else image.buffer()
    frame = decode_image(bytes(data), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if frame is None:
        name = image.path() if isinstance(image, FileImage) else "the image"
        raise ValueError(f"{name} does not decode as an image")
    return frame


def _complain(message: object, code: int) -> int:
    print(f"dcfnet trax: error: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
