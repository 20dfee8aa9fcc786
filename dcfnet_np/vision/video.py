"""Videos, cameras and streams, through OpenCV, and what video files say of themselves."""

import itertools
import math
import os
import re
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..support.files import BYTE_ORDER_MARKS
from ..support.words import counted
from .crop import to_bgr
from .frames import DEFAULT_FPS, Frame, Part, Source, check_frame_size
from .image_files import warn_of_source
from .images import SourceError

SMALLEST_VIDEO = 8  # pixels; damaged videos of 2x2 pixels end the process inside OpenCV's FFmpeg
STREAM_TIMEOUT = 10_000  # milliseconds without an answer after which a stream is given up
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # the first of an .mp4 or .mov
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class VideoSource(Source):
    """A video file, a camera or a stream, through OpenCV.

    A file can be iterated over again; the others go on.
    """

    def __init__(self, target: str | int, name: str, part: Part) -> None:
        import cv2

        self.name = name
        self._target = target
        self._part = part
        self._is_file = isinstance(target, str) and "://" not in target
        self._where = str(target) if self._is_file else name
        # close() may come from another thread than the one that reads
        self._reading = threading.Lock()
        self._capture = self._open()
        width, height, fps, count = (
            self._capture.get(fact)
            for fact in (
                cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_COUNT,
            )
        )  # fmt: skip
        if self._is_file and min(width, height) < SMALLEST_VIDEO:
            self.close()
            what = f"{self._where} is a video of {int(width)}x{int(height)} pixels"
            least = f"{SMALLEST_VIDEO}x{SMALLEST_VIDEO} are the least"
            raise SourceError(f"{what}, {least}; {self._advice}")
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        self._announced = int(count) if int(count) > 0 and isinstance(target, str) else None
        self.live = not self._is_file and self._announced is None
        if self._announced is not None:
            self.length = len(part.of(range(self._announced), self.fps))
        elif not self.live:
            self.length = part.max_frames
        decoded = self._decode()
        if (first := next(decoded, None)) is None:
            self.close()
            if part.start or part.end is not None:
                raise SourceError(f"{self._where} has no frame between the start and end asked for")
            raise SourceError(f"{self._where} opens but gives no frame; {self._advice}")
        self._frames: Iterator[Frame] = itertools.chain([first], decoded)
        self._begun = False

    @property
    def _advice(self) -> str:
        if isinstance(self._target, int):
            return "check that it is plugged in, free and allowed, or try another index"
        if not self._is_file:
            return "check the address and that the stream is running"
        return "check that the file is a complete video, or convert it with ffmpeg"

    def _open(self) -> Any:
        import cv2

        if isinstance(self._target, int):
            capture = cv2.VideoCapture(self._target)
        elif self._is_file:
            # Not OpenCV's other readers: one takes the name for that of numbered images, one
            # complains on stderr.  FFmpeg would take the relative "10:30.mp4" for an address.
            there = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
            path = str(Path(self._target).absolute())
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG if there else cv2.CAP_ANY)
        else:
            waits = cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC
            limits = [number for wait in waits for number in (wait, STREAM_TIMEOUT)]
            capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            kind = "be decoded as a video" if self._is_file else "be opened"
            raise SourceError(f"{self._where} cannot {kind}; {self._advice}")
        return capture

    def frames(self) -> Iterator[Frame]:
        self._check_open()
        if self._begun:
            if self._is_file:
                self._capture.release()
                self._capture = self._open()
            self._frames = self._decode()
        self._begun = True
        yield from self._frames

    def _decode(self) -> Iterator[Frame]:
        """The wanted frames, from where the capture stands."""
        start, end, every, max_frames = self._part
        taken, begun, shape = 0, None, None
        at, opened = -1 / self.fps, time.monotonic()
        for number in itertools.count():
            with self._reading:
                self._check_open()
                if not self._capture.grab():
                    break
                at = self._time_after(at, opened)
                if end is not None and (at if isinstance(end, float) else number) >= end:
                    return
                if (at if isinstance(start, float) else number) < start:
                    continue
                begun = number if begun is None else begun
                if (number - begun) % every:
                    continue
                there, image = self._capture.retrieve()
            # of some damaged videos it says that there is one, and gives none
            if there and image is not None:
                image = to_bgr(image)
                shape = image.shape if shape is None else shape
                check_frame_size(image, shape, number + 1, self._where)
                yield Frame(number, at, image)
            elif not self.live:  # a camera's next picture may be whole again
                what = f"frame {number + 1} of {self._where} does not decode"
                raise SourceError(f"{what}; {self._advice}")
            taken += 1
            if taken == max_frames:
                return
        self._check_end(number, round(at * self.fps) + 1)

    def _time_after(self, last: float, opened: float) -> float:
        """When the frame that was grabbed is due, in seconds."""
        import cv2

        if self.live:
            return time.monotonic() - opened
        at = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # some files have no times, or wrong ones
        return at if last < at < math.inf else last + 1 / self.fps

    def _check_end(self, count: int, reached: int) -> None:
        """Refuse an end after `count` frames, the last due as number `reached`, that is no end.

        A camera never ends.  A file may have fewer bytes than its container says, and an .avi
        counts its pictures.  Other headers tell for how long anything lasts, often the sound: that
        decides nothing.
        """
        frame = f"frame {count + 1} of {self._where}"
        if isinstance(self._target, int):
            raise SourceError(f"{frame} did not come; {self._advice}")
        announced = self._announced or math.inf
        if not self._is_file or count == 0 or reached >= announced:
            return
        if lacking := missing_bytes(self._where):
            raise SourceError(
                f"{frame} is not there: the file is cut short, {lacking} bytes are missing at its "
                "end; copy or record it again"
            )
        if max(2, 0.05 * announced) < announced - reached < math.inf:
            if is_avi(self._where):
                what = f"{frame} does not decode, but the file counts {announced} frames"
                raise SourceError(f"{what}; {self._advice}")
            warn_of_source(
                f"{self._where} ends after {counted(count, 'frame')}, though its header tells of "
                f"{announced}; that is usual where the sound is longer or the file was cut without "
                "encoding, but damage looks the same"
            )

    def close(self) -> None:
        """Free the file or the camera; one that hangs in a read keeps until that ends."""
        super().close()
        if self._reading.acquire(timeout=1):
            self._capture.release()
            self._reading.release()


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as text, which FFmpeg would draw, or take for a list of other files."""
    head = _read_head(path, 1024)
    marked = any(head.startswith(marks) for marks in BYTE_ORDER_MARKS.values())
    return marked or (len(head) > 0 and not re.search(rb"[^\t-\r\x1b -\xff]", head))


def is_avi(path: str | os.PathLike[str]) -> bool:
    """Whether a video file is an .avi, by its first bytes.  Its header counts its pictures."""
    return _read_head(path, 4) == b"RIFF"


def _read_head(path: str | os.PathLike[str], count: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except OSError:  # it has gone meanwhile
        return b""


def missing_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes by which a video file is shorter than its container says; 0 where it does not say.

    Sources: RIFF with OpenDML (.avi); ISO/IEC 14496-12, 4.2 (.mp4, .mov); RFC 8794, 4 to 6 (.mkv,
    .webm).  Others (.ts, .mpg, .ogv), streams, and a file that has gone do not say.
    """
    try:
        with Path(path).open("rb") as file:
            there = file.seek(0, os.SEEK_END)
            head = _read_at(file, 0, 12)
            stated = 0
            if head[:4] == b"RIFF":
                stated = _end_of_riff(file)
            elif head[:4] == EBML:
                stated = _end_of_matroska(file)
            elif head[4:8] in MP4_BOXES:
                stated = _end_of_mp4(file)
    except OSError:
        return 0
    return max(stated - there, 0)


def _end_of_riff(file: BinaryIO) -> int:
    """Of the last such chunk: a large file has several.  One still being written has no size."""
    at = 0
    while (head := _read_at(file, at, 8))[:4] == b"RIFF" and len(head) == 8:
        (size,) = struct.unpack("<I", head[4:])
        if size == 0xFFFFFFFF:
            break
        at += 8 + size
    return at


def _end_of_mp4(file: BinaryIO) -> int:
    """The end of the last box that has frames or tells where they are; a size of 0 or 1 is none."""
    at = end = 0
    while len(head := _read_at(file, at, 16)) >= 8:
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:
            break
        at += size
        if kind in (b"moov", b"mdat", b"moof"):
            end = at
    return end


def _end_of_matroska(file: BinaryIO) -> int:
    head = _read_at(file, 0, 256)
    at = 4
    for element in (EBML, SEGMENT):
        if head[at - 4 : at] != element or not head[at : at + 1]:
            return 0
        width = 9 - head[at].bit_length()  # of the size: by the zeros in front of its first bit
        unknown = (1 << 7 * width) - 1  # all ones
        size = int.from_bytes(head[at : at + width], "big") & unknown
        if width > 8 or size == unknown:
            return 0
        at += width + size + 4
    return at - 4


def _read_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def count_packets(path: str | os.PathLike[str]) -> int:
    """How many pictures a video file stores, read but not decoded: the most frames it can have.

    An .mp4 that was cut without encoding stores more than it shows.  0 where it cannot be told.
    """
    import cv2

    video = cv2.VideoCapture(str(Path(path).absolute()), cv2.CAP_FFMPEG)
    count = 0
    if video.set(cv2.CAP_PROP_FORMAT, -1):  # packets as they are
        while video.grab():
            count += 1
    video.release()
    return count
