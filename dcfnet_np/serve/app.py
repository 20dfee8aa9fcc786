"""The web application behind `dcfnet serve`: uploads, tracking over a WebSocket, boxes to download.

    GET  /                      the page; its files under /page/
    GET  /config                what the page must know: limits, weights, preset
    POST /videos?name=NAME      a video as the body -> {"id", "name", "width", "height", "fps",
                                "frames"}; frames: at most so many, null where that is not known
    GET  /videos/ID/frame.jpg   ?number=N: one frame to draw the box on
    WS   /videos/ID/track       the page sends {"box": [x, y, w, h], "start": N, "pace": bool}, then
                                {"shown": 1} for each message that it has shown, or {"stop": 1}
    WS   /camera                it sends {"box": [...]}, then JPEG pictures, or {"stop": 1}
    GET  /runs/ID/boxes.SUFFIX  the boxes of a run, .csv, .json or .txt

Over a WebSocket the server sends {"run": ID}, then a message of `pack` a frame, then {"end": 1} or
{"error": "..."}.  An ID is random and stands for a file that the server has named itself: no name
from outside becomes a path.  `Guard` keeps other sites' pages out.
"""

import contextlib
import ipaddress
import json
import math
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np
from anyio import sleep
from anyio.to_thread import run_sync as in_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..follow import Step, follow
from ..tracker import MultiTracker
from ..vision.box_files import BOX_SUFFIXES, BoxRow, write_boxes
from ..vision.boxes import Box, check_box
from ..vision.frames import Frame
from ..vision.images import decode_image
from ..vision.read_ahead import ReadAhead
from ..vision.sources import open_source
from ..vision.video import count_packets

PAGE = Path(__file__).parent / "page"
KEPT_VIDEOS, KEPT_RUNS = 3, 20  # the oldest are deleted
RUNS_AT_ONCE = 4
AHEAD = 3  # messages on their way to the page at most, so that what it shows is never old
SHOWN_WIDTH = 1280  # pictures are sent no wider
MAX_PIXELS = 2**25  # of a frame: 8192x4096
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
STRANGER = (
    "dcfnet serve answers its own page only; "
    "a further name of this machine takes --allow-host NAME\n"
)
GONE = "there is no such video any more; open it again"


class Guard:
    """Lets in what comes from our own page only; a middleware.

    A page of another site could send requests here, or have its own name point here (DNS
    rebinding).  So the Host must be an address or one of `names`, and the Origin, which browsers
    send with every upload and WebSocket, must be ours.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host) or (origin is not None and urlsplit(origin).netloc != host):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            return await PlainTextResponse(STRANGER, 403)(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # half an IPv6 address
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


class Video(NamedTuple):
    """An uploaded file."""

    name: str
    path: Path
    width: int
    height: int


class Run(NamedTuple):
    """What was tracked, and the boxes so far."""

    name: str
    rows: list[BoxRow]


class Refused(Exception):
    """A request that cannot be served; the message is one line for the page."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Service:
    """What the routes do; everything is in memory and in `folder`, and ends with the process.

    Arguments as for `make_app`.
    """

    make_tracker: Callable[[], MultiTracker]
    folder: Path
    max_upload: int
    facts: dict[str, Any]
    videos: dict[str, Video] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    going: int = 0  # runs at this moment

    def routes(self) -> list[Any]:
        """For Starlette."""
        config = JSONResponse({"max_upload": self.max_upload, **self.facts})
        return [
            Route("/", lambda request: FileResponse(PAGE / "index.html")),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/config", lambda request: config),
            Route("/videos", self.upload, methods=["POST"]),
            Route("/videos/{id}/frame.jpg", self.frame),
            WebSocketRoute("/videos/{id}/track", self._talking(self.track_video)),
            WebSocketRoute("/camera", self._talking(self.track_camera)),
            Route("/runs/{id}/boxes.{suffix}", self.boxes),
        ]

    async def upload(self, request: Request) -> Response:
        """Take a video and look at it."""
        name = Path(request.query_params.get("name", "")).name[:100] or "video"
        if int(request.headers.get("content-length") or 0) > self.max_upload:
            raise self._too_large()
        id_ = secrets.token_urlsafe(16)
        path = self.folder / id_
        try:
            await self._receive(request, path)
            video, facts = await in_thread(_look_at, path, name)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, ClientDisconnect):
                raise Refused("the upload was cut off") from error
            if isinstance(error, OSError):
                raise Refused(f"the video cannot be stored: {error.strerror}", 507) from error
            raise
        self.videos[id_] = video
        while len(self.videos) > KEPT_VIDEOS:
            self.videos.pop(next(iter(self.videos))).path.unlink(missing_ok=True)
        return JSONResponse({"id": id_, **facts})

    async def _receive(self, request: Request, path: Path) -> None:
        received = 0
        with path.open("xb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                if received > self.max_upload:
                    raise self._too_large()
                await in_thread(file.write, chunk)

    def _too_large(self) -> Refused:
        most = f"{self.max_upload / 1e6:g} MB"
        return Refused(f"the video is larger than {most}; start with a higher --max-upload", 413)

    async def frame(self, request: Request) -> Response:
        """One frame of an uploaded video as a JPEG picture."""
        video = self.videos.get(request.path_params["id"])
        number = request.query_params.get("number", "0")
        if video is None or not (number.isascii() and number.isdecimal()):
            raise Refused(GONE, 404)

        def read() -> bytes:
            with open_source(video.path, start=int(number)) as source:
                return _to_jpeg(next(source.frames()).image)

        try:
            picture = await in_thread(read)
        except ValueError:
            raise Refused(f"{video.name} has no frame {number}", 404) from None
        return Response(picture, media_type="image/jpeg")

    async def boxes(self, request: Request) -> Response:
        """The boxes of a run as a file."""
        run, suffix = self.runs.get(request.path_params["id"]), f".{request.path_params['suffix']}"
        if run is None or suffix not in BOX_SUFFIXES or not run.rows:
            raise Refused("there are no such boxes", 404)
        path = self.folder / f"{request.path_params['id']}{suffix}"
        await in_thread(write_boxes, path, run.rows)
        return FileResponse(path, filename=f"{Path(run.name).stem}-boxes{suffix}")

    async def track_video(self, socket: WebSocket) -> None:
        """Track a box through an uploaded video and send every frame with what was found."""
        video = self.videos.get(socket.path_params["id"])
        if video is None:
            raise Refused(GONE)
        order = await _order(socket)
        box, start = _checked_box(order, (video.height, video.width)), order.get("start", 0)
        if type(start) is not int or start < 0:
            raise Refused("start must be a frame number")
        run = await self._begin(socket, video.name)
        tracker = await in_thread(self.make_tracker)
        source = await in_thread(lambda: open_source(video.path, start=start))
        with source, ReadAhead(source.frames()) as frames:
            steps = follow(frames, [box], tracker, response=True)
            begin = None  # when the video would have begun
            while (step := await in_thread(next, steps, None)) is not None:
                run.rows.append(step.rows[0])
                if begin is None:
                    begin = time.monotonic() - step.frame.time
                if order.get("pace", True):
                    await sleep(max(0.0, begin + step.frame.time - time.monotonic()))
                await socket.send_bytes(await in_thread(pack, step, True))
                if len(run.rows) >= AHEAD and "stop" in await _order(socket):
                    return

    async def track_camera(self, socket: WebSocket) -> None:
        """Track a box through a camera's pictures: the page sends one after each answer."""
        order = await _order(socket)
        run = await self._begin(socket, "camera")
        tracker = await in_thread(self.make_tracker)
        begin = time.monotonic()
        newest: list[Frame] = []  # from which each step takes one
        steps: Iterator[Step] | None = None
        while (picture := (await _message(socket)).get("bytes")) is not None:
            image = await in_thread(_from_jpeg, picture)
            newest.append(Frame(len(run.rows), time.monotonic() - begin, image))
            if steps is None:
                box = _checked_box(order, image.shape)
                steps = follow(iter(newest.pop, None), [box], tracker, response=True)
            step = await in_thread(next, steps)
            run.rows.append(step.rows[0])
            await socket.send_bytes(await in_thread(pack, step, False))

    def _talking(self, work: Callable[[WebSocket], Awaitable[None]]) -> Any:
        """`work` as a route, which tells the page how it ended."""

        async def talk(socket: WebSocket) -> None:
            await socket.accept()
            end: dict[str, Any] = {"end": 1}
            try:
                if self.going >= RUNS_AT_ONCE:
                    raise Refused(f"{RUNS_AT_ONCE} runs are going already; stop one of them")
                self.going += 1
                try:
                    await work(socket)
                finally:
                    self.going -= 1
            except WebSocketDisconnect:
                return
            except (Refused, ValueError) as error:
                end = {"error": str(error)}
                if video := self.videos.get(socket.path_params.get("id", "")):
                    end = {"error": str(error).replace(str(video.path), video.name)}
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the page has gone
                await socket.send_json(end)
                await socket.close()

        return talk

    async def _begin(self, socket: WebSocket, name: str) -> Run:
        """A new run, whose ID the page is told."""
        id_ = secrets.token_urlsafe(16)
        self.runs[id_] = Run(name, [])
        while len(self.runs) > KEPT_RUNS:
            old = next(iter(self.runs))
            del self.runs[old]
            for suffix in BOX_SUFFIXES:
                (self.folder / f"{old}{suffix}").unlink(missing_ok=True)
        await socket.send_json({"run": id_})
        return self.runs[id_]


async def _message(socket: WebSocket) -> Message:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    return message


async def _order(socket: WebSocket) -> dict[str, Any]:
    """The next message of the page: a JSON object."""
    try:
        order = json.loads((await _message(socket)).get("text") or "")
    except ValueError:
        order = None
    if not isinstance(order, dict):
        raise Refused("expected a JSON object")
    return order


def _checked_box(order: dict[str, Any], shape: Sequence[int]) -> Box:
    return check_box(order.get("box", ()), shape, "the box")


def _look_at(path: Path, name: str) -> tuple[Video, dict[str, Any]]:
    """Whether an upload is a video, and what the page wants to know of it."""
    if not _is_video(path):
        raise Refused(f"{name} is no .mp4, .mov, .mkv, .webm, .avi, .ogv, .mpg or .ts video", 415)
    try:
        with open_source(path) as source:
            height, width = next(source.frames()).image.shape[:2]
    except ValueError:
        advice = "is it a complete video? ffmpeg may convert it"
        raise Refused(f"{name} cannot be decoded; {advice}", 415) from None
    if height * width > MAX_PIXELS:
        raise Refused(f"{name} has {width}x{height} pixels, too many; make it smaller", 413)
    facts = {"name": name, "width": width, "height": height, "fps": source.fps}
    return Video(name, path, width, height), {**facts, "frames": count_packets(path) or None}


def _is_video(path: Path) -> bool:
    """By the first bytes.

    FFmpeg would also read play lists, which name other files and addresses to be opened.
    """
    with path.open("rb") as file:
        head = file.read(189)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # .mp4, .mov
        # .mkv, .ogv, .mpg
        or head.startswith((b"\x1a\x45\xdf\xa3", b"OggS", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == b"G" and head[188:189] == b"G")  # .ts: a packet of 188 bytes, and the next
    )


def pack(step: Step, picture: bool) -> bytes:
    """A message for the page: length of the JSON (4 bytes, big-endian), JSON, picture, map.

    The JSON has frame, time, box, score (null in the first frame), ok, state, ms (of the tracker),
    picture (bytes of a JPEG, 0 for none) and map (its side; a byte a pixel, its least value 0 and
    its largest 255; 0 for none).
    """
    (row,), (map_,) = step.rows, step.maps
    jpeg = _to_jpeg(step.frame.image) if picture else b""
    levels = b""
    if map_ is not None:
        low, high = float(map_.min()), float(map_.max())
        levels = ((map_ - low) * (255 / ((high - low) or 1.0))).astype(np.uint8).tobytes()
    facts = {
        "frame": row.frame,
        "time": round(step.frame.time, 3),
        "box": [round(value, 2) for value in row.box],
        "score": None if math.isnan(row.score) else round(row.score, 4),
        "ok": row.ok,
        "state": row.state,
        "ms": round(1000 * row.time, 1),
        "picture": len(jpeg),
        "map": 0 if map_ is None else len(map_),
    }
    head = json.dumps(facts).encode()
    return struct.pack(">I", len(head)) + head + jpeg + levels


def _to_jpeg(image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    if width > SHOWN_WIDTH:
        size = (SHOWN_WIDTH, max(1, round(height * SHOWN_WIDTH / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def _from_jpeg(data: bytes) -> np.ndarray:
    image = decode_image(data, cv2.IMREAD_COLOR)
    if image is None:
        raise Refused("a picture of the camera does not decode")
    return image


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": str(error)}, error.status)


def make_app(
    make_tracker: Callable[[], MultiTracker],
    folder: Path,
    max_upload: int = 500_000_000,
    names: Iterable[str] = (),
    facts: dict[str, Any] | None = None,
) -> Starlette:
    """The application, for any ASGI server.

    make_tracker: a new one for each run.  folder: an empty one for uploads.  max_upload: bytes.
    names: of this machine, besides localhost and addresses.  facts: shown by the page.
    """
    service = Service(make_tracker, folder, max_upload, facts or {})
    guard = Middleware(Guard, names=frozenset({"localhost", *(name.lower() for name in names)}))
    return Starlette(
        routes=service.routes(), middleware=[guard], exception_handlers={Refused: _refuse}
    )
