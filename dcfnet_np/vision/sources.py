"""Where frames come from: a video file, a camera, a stream, a folder or pattern of images, a data
set's sequence.

`open_source` looks at everything that can be known before the first frame is tracked: that the
source is there, that its first frame decodes, that its ground truth can be read.  What goes wrong
later is raised by the iterator at that frame, so that its user keeps everything up to it.  All
errors are `SourceError`."""

import glob
import itertools
import math
import os
import re
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from .. import datasets
from .boxes import Box
from .containers import is_avi, is_text, missing_bytes
from .image_files import IMAGE_SUFFIXES, frames_among, is_image, warn_of_source
from .images import SourceError, read_image, stack_pages

DEFAULT_FPS = 25.0
SMALLEST_VIDEO = 8  # pixels; damaged videos of 2x2 pixels end the process inside OpenCV's FFmpeg
LONGEST_SPEC = 4096  # letters of a path or an address
STREAM_TIMEOUT = 10_000  # milliseconds without an answer after which a stream is given up


class Frame(NamedTuple):
    """One frame of a source."""

    number: int  # in the recording, counted from 0
    time: float  # seconds in the recording; of a camera or stream, since it was opened
    image: np.ndarray  # (height, width, 3) uint8 BGR


class Part(NamedTuple):
    """Which frames of a recording are wanted: numbers count from 0, a float is a time in seconds."""

    start: int | float = 0
    end: int | float | None = None
    every: int = 1
    max_frames: int | None = None


class Source(AbstractContextManager["Source"]):
    """Frames to iterate over, each (height, width, 3) uint8 BGR and of the same size.

    name: for messages and titles.  fps: of the recording, 25 where it is not known.  length: number
    of frames, None for a camera or stream; of a video what its header says, which can be far too
    many.  live: frames come by themselves, and are lost to those who do not keep up.  first_box:
    ground truth of the first frame, or None where there is none in it.
    boxes: ground truth, (n, 4) float64, a row a frame, NaN where the target is absent, or None.
    0-based.
    truth_error: why there are no boxes although there is a file of them, else "".  truth_note: what
    there is to know about them, such as which of several targets they are of, else "".
    """

    name: str = ""
    fps: float = DEFAULT_FPS
    length: int | None = None
    live: bool = False
    boxes: np.ndarray | None = None
    truth_error: str = ""
    truth_note: str = ""
    closed: bool = False

    @property
    def first_box(self) -> Box | None:
        if self.boxes is None or np.isnan(self.boxes[0]).any():
            return None
        x, y, w, h = self.boxes[0].tolist()
        return x, y, w, h

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames from the first on, with number and time.

        Raises SourceError at one that cannot be had.
        """

    def __iter__(self) -> Iterator[np.ndarray]:
        """The images of `frames()`."""
        return (frame.image for frame in self.frames())

    def close(self) -> None:
        """Free the file or the camera.

        A closed source is not read again: its iterator raises SourceError.
        """
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise SourceError(f"{self.name} is closed; open it again to read it")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    spec: str | int | os.PathLike[str],
    max_frames: int | None = None,
    *,
    need_truth: bool = True,
    start: int | float = 0,
    end: int | float | None = None,
    every: int = 1,
) -> Source:
    """Open a source of frames.

    spec: a video file; a TIFF of several pages; a camera index (an int, or a string of digits:
    write `./0` for a folder of that name); the address of a stream (`rtsp://...`, `http://...`); a
    folder of images; a pattern (`shots/*.png`, `shots/%04d.png`); the folder of a sequence that
    `dcfnet_np.datasets` knows.  Order and choice of
    images: see `image_files`.  Where the ground truth is needed and is for a part of the frames,
    they are that part; of several targets, the first one that the first frame shows is taken.
    max_frames: stop after so many, the first one counted.
    need_truth: raise when the ground truth beside the frames cannot be used; else say so in
    `truth_error`. start, end, every: begin at frame `start` (counted from 0), stop before frame
    `end`, take each `every`-th; a float is a time in seconds.  Ground truth and length are those of
    the frames that are left.  A video is decoded up to its start, since seeking lands on another
    frame in some files.

    Videos stand upright when the file says how they were held.
    Raises SourceError (a ValueError) with one line when the source is missing, empty or
    undecodable."""
    for name, value in (("max_frames", max_frames), ("every", every)):
        if value is not None and value < 1:
            raise ValueError(f"open_source: {name} must be at least 1, got {value}")
    if not (0 <= start < math.inf) or (end is not None and not (0 <= end < math.inf)):
        raise ValueError(f"open_source: start and end must not be negative, got {start} and {end}")
    part = Part(start, end, every, max_frames)
    text = _name_of_source(spec)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return _VideoSource(int(text), f"camera {text}", part)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        return _VideoSource(text, _name_of_stream(text), part)
    path = Path(text)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # one part of it is too long
        raise SourceError(f"{path} cannot be opened: {error.strerror}") from None
    if is_folder:
        return _open_folder(path, part, need_truth)
    if is_file:
        if len(pages := stack_pages(path)) > 1:
            return _ImageSource(path.stem, [(path, page) for page in pages], part)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise SourceError(
                f"{path} is a single image; give its folder or a pattern in quotes, like '*.jpg'"
            )
        if is_text(path):
            raise SourceError(
                f"{path} is a text, no video; give a video file, or a folder or pattern of images"
            )
        return _VideoSource(str(path), path.stem, part)
    if re.search(r"[*?\[]|%\d*d", text):
        files = _match(text)
        return _ImageSource(files[0].parent.name, _whole(files), part)
    raise SourceError(
        f"{path} does not exist; give a video file, a camera index, a folder or a pattern of images"
    )


def _name_of_source(spec: str | int | os.PathLike[str]) -> str:
    """What was given for a source, as text.

    Raises TypeError, and SourceError where it cannot be a name.
    """
    if not isinstance(spec, str | int | os.PathLike):
        raise TypeError(
            f"a source is given by a path, an address or a camera index, got {type(spec).__name__}"
        )
    text = os.fspath(spec) if not isinstance(spec, int) else str(spec)
    if not text:
        raise SourceError(
            "the name of the source is empty; give a video file, a camera index, a folder or a pattern of images"
        )
    if len(text) > LONGEST_SPEC:
        raise SourceError(
            f"a source of {len(text)} letters, {text[:60]!r}...: no path and no address is so long"
        )
    return text


def _name_of_stream(address: str) -> str:
    """The address without user and password, which must not turn up in messages."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceError(f"the address of a stream cannot be read: {error}") from None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _match(pattern: str) -> list[Path]:
    """Frames of a pattern with `*`, `**`, `?`, `[...]`, or a printf number like %04d in the name.

    What is there under that very name is meant, not a pattern: the folder of "[2024] shots/*.jpg".
    """
    folder = next(parent for parent in Path(pattern).parents if parent.is_dir())
    rest = str(Path(pattern).relative_to(folder))
    name = _printf_name(Path(rest).name)
    for text in (rest.replace("[", "[[]"), rest):
        matches = glob.glob(re.sub(r"%\d*d", "*", text), root_dir=folder, recursive=True)
        files = [folder / match for match in matches]
        files = [
            file for file in files if is_image(file) and (not name or name.fullmatch(file.name))
        ]
        if files:
            return frames_among(files)
    raise SourceError(f"the pattern {pattern!r} matches no image; check the folder and the ending")


def _printf_name(name: str) -> re.Pattern[str] | None:
    """The names that printf writes for %04d (0042, -042), `*` and `?` besides; None without one."""
    parts = re.split(r"%0?(\d*)d", name)
    for index, part in enumerate(parts):
        width = min(int(part or 1), 255) if index % 2 else 0
        literal = re.escape(part).replace(r"\*", ".*").replace(r"\?", ".")
        parts[index] = f"(?:[0-9]{{{width},}}|-[0-9]{{{max(width - 1, 1)},}})" if width else literal
    return re.compile("".join(parts)) if len(parts) > 1 else None


def _open_folder(folder: Path, part: Part, need_truth: bool) -> Source:
    """A folder of frames, with ground truth where `datasets` finds any."""
    entries = datasets.find_here(folder)
    if len({entry.folder for entry in entries}) > 1:
        one = entries[0].folder
        raise SourceError(
            f"{folder} holds {len(entries)} sequences; give the frames of one, like {one}, and a box"
        )
    files = datasets.frames_of(entries[0].folder if entries else folder)
    if not files:
        if not entries and (inner := _sequences_in(folder)):
            raise SourceError(
                f"{folder} holds sequences, not frames; give one of them, like {inner[0].folder}"
            )
        raise SourceError(f"{folder} holds no images; {datasets.describe_folder(folder)}")
    if not entries:
        return _ImageSource(folder.resolve().name, _whole(files), part)
    try:
        target, note = _choose_target(
            [each for entry in entries for each in datasets.read_entry(entry)], files, need_truth
        )
    except ValueError as error:
        if need_truth:
            raise SourceError(str(error)) from None
        source = _ImageSource(folder.resolve().name, _whole(files), part)
        source.truth_error = str(error)
        return source
    boxes = (
        target.boxes
        if target.visible is None
        else np.where(target.visible[:, None], target.boxes, np.nan)
    )
    if need_truth:
        files = list(target.frames)
    else:  # the box that is given instead is for the first frame of all
        rows = dict(zip(target.frames, boxes))
        boxes = np.array([rows.get(file, (math.nan,) * 4) for file in files])
    source = _ImageSource(target.name, _whole(files), part, boxes)
    source.truth_note = note
    return source


def _sequences_in(folder: Path) -> list[datasets.Entry]:
    """The sequences of a whole data set; none in another folder."""
    try:
        return datasets.find_sequences(folder)
    except datasets.DatasetError:
        return []


def _choose_target(
    targets: list[datasets.Sequence], files: list[Path], need_truth: bool
) -> tuple[datasets.Sequence, str]:
    """The target of a video that is tracked, and what there is to say about it.

    Raises SourceError.
    """
    there = (
        each for each in targets if each.frames[0] == files[0] and not np.isnan(each.boxes[0]).any()
    )
    target = next(there, targets[0])
    if len(targets) > 1:
        text = f"{target.video} has {len(targets)} targets"
        if not need_truth:
            raise SourceError(f"{text}, and it is not known which one is meant")
        return target, f"{text}, of which {target.name} is taken; give a box for another one"
    if target.notes and len(target) < len(files):
        # Some OTB sequences are annotated from a later frame on: pairing them from the first would
        # be wrong.
        raise SourceError(
            f"{target.notes[0].partition(';')[0]}, which does not say for which; remove the other frames of "
            f"{files[0].parent}, or give that folder and a box"
        )
    return target, "; ".join(target.notes)


def _whole(files: list[Path]) -> list[tuple[Path, int | None]]:
    """Images that are files, none of them a page of one."""
    return [(file, None) for file in files]


class _ImageSource(Source):
    """Images in the order given: files, or pages of a TIFF."""

    def __init__(
        self,
        name: str,
        images: list[tuple[Path, int | None]],
        part: Part,
        boxes: np.ndarray | None = None,
    ) -> None:
        self.name = name
        start, end = (_frame_at(at, self.fps) for at in (part.start, part.end))
        self._images = list(enumerate(images))[start : end : part.every][: part.max_frames]
        if not self._images:
            raise SourceError(
                f"{name} has {len(images)} frames and none between the start and end asked for"
            )
        self.length = len(self._images)
        if boxes is not None:
            rows = [number for number, _ in self._images if number < len(boxes)]
            self.boxes = boxes[rows] if rows else None
        first, image = self._images[0]
        self._shape = read_image(image[0], first + 1, image[1]).shape

    def frames(self) -> Iterator[Frame]:
        for number, (file, page) in self._images:
            self._check_open()
            image = read_image(file, number + 1, page)
            _check_size(image, self._shape, number + 1, str(file))
            yield Frame(number, number / self.fps, image)


def _frame_at(moment: int | float | None, fps: float) -> int | None:
    """The number of the first frame from `moment` on, which is a number already or a time in
    seconds.
    """
    return math.ceil(moment * fps) if isinstance(moment, float) else moment


class _VideoSource(Source):
    """A video file, a camera or a stream, through OpenCV.

    A file can be iterated over again; the others go on.
    """

    def __init__(self, target: str | int, name: str, part: Part) -> None:
        import cv2

        self.name = name
        self._target = target
        self._part = part
        self._is_file = isinstance(target, str) and "://" not in target
        # close() may come from another thread than the one that reads
        self._reading = threading.Lock()
        self._capture = self._open()
        size = [
            int(self._capture.get(side))
            for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        ]
        if self._is_file and min(size) < SMALLEST_VIDEO:
            self.close()
            least = f"{SMALLEST_VIDEO}x{SMALLEST_VIDEO} are the least; {self._advice}"
            raise SourceError(f"{self._where} is a video of {size[0]}x{size[1]} pixels, {least}")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._announced = announced if announced > 0 and isinstance(target, str) else None
        self.live = not self._is_file and self._announced is None
        self.length = None if self.live else self._count_wanted()
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            self.close()
            if part.start or part.end is not None:
                raise SourceError(f"{self._where} has no frame between the start and end asked for")
            raise SourceError(f"{self._where} opens but gives no frame; {self._advice}")

    def _count_wanted(self) -> int | None:
        """How many frames there will be, as far as the header tells."""
        if self._announced is None:
            return self._part.max_frames
        start, end = (_frame_at(at, self.fps) for at in (self._part.start, self._part.end))
        return len(range(self._announced)[start : end : self._part.every][: self._part.max_frames])

    @property
    def _where(self) -> str:
        return str(self._target) if self._is_file else self.name

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
            # complains on stderr.
            there = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
            # FFmpeg would take the relative "10:30.mp4" for an address
            path = os.path.abspath(self._target)
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG if there else cv2.CAP_ANY)
        else:
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                STREAM_TIMEOUT,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                STREAM_TIMEOUT,
            ]
            capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            kind = "be decoded as a video" if self._is_file else "be opened"
            raise SourceError(f"{self._where} cannot {kind}; {self._advice}")
        return capture

    def frames(self) -> Iterator[Frame]:
        self._check_open()
        if self._first is None:
            if self._is_file:
                self._capture.release()
                self._capture = self._open()
            self._frames = self._decode()
        while (frame := self._first or next(self._frames, None)) is not None:
            self._first = None
            yield frame

    def _decode(self) -> Iterator[Frame]:
        """The wanted frames, from where the capture stands."""
        import cv2

        from .crop import to_bgr

        start, end, every, max_frames = self._part
        taken, begun, shape = 0, None, None
        at, opened = -1 / self.fps, time.monotonic()
        for number in itertools.count():
            with self._reading:
                self._check_open()
                if not self._capture.grab():
                    break
                last, at = at, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if self.live:
                    at = time.monotonic() - opened
                elif not last < at < math.inf:  # the file has no times, or wrong ones
                    at = last + 1 / self.fps
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
                _check_size(image, shape, number + 1, self._where)
                yield Frame(number, at, image)
            elif not self.live:  # a camera's next picture may be whole again
                raise SourceError(
                    f"frame {number + 1} of {self._where} does not decode; {self._advice}"
                )
            taken += 1
            if taken == max_frames:
                return
        self._check_end(number, round(at * self.fps) + 1)

    def _check_end(self, count: int, reached: int) -> None:
        """Whether the recording ends here, after `count` frames, the last of which is due as number
        `reached`.

        A camera never ends.  A file may have fewer bytes than its container says, and an .avi
        counts its pictures. Other headers tell for how long anything lasts, often the sound: that
        decides nothing."""
        if isinstance(self._target, int):
            raise SourceError(f"frame {count + 1} of {self._where} did not come; {self._advice}")
        announced = self._announced or math.inf
        if not self._is_file or count == 0 or reached >= announced:
            return
        if lacking := missing_bytes(self._where):
            raise SourceError(
                f"frame {count + 1} of {self._where} is not there: the file is cut short, "
                f"{lacking} bytes are missing at its end; copy or record it again"
            )
        if max(2, 0.05 * announced) < announced - reached < math.inf:
            if is_avi(self._where):
                raise SourceError(
                    f"frame {count + 1} of {self._where} does not decode, but the file counts {announced} frames; "
                    f"{self._advice}"
                )
            warn_of_source(
                f"{self._where} ends after {count} frames, though its header tells of {announced}; that is usual "
                "where the sound is longer or the file was cut without encoding, but damage looks the same"
            )

    def close(self) -> None:
        """Free the file or the camera; one that hangs in a read keeps until that ends."""
        super().close()
        if self._reading.acquire(timeout=1):
            self._capture.release()
            self._reading.release()


def _check_size(frame: np.ndarray, shape: tuple[int, ...], number: int, where: str) -> None:
    if frame.shape != shape:
        raise SourceError(
            f"frame {number} ({where}) is {frame.shape[1]}x{frame.shape[0]} pixels, those before it "
            f"{shape[1]}x{shape[0]}; all frames must have one size"
        )
