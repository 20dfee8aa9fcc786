"""Pictures of a result: the box, the response map, a contact sheet, a video.  Inputs are never
written to.

Frames are (height, width, 3) uint8 BGR; colours are (blue, green, red).
"""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..support.files import (
    WriteError,
    check_output,
    only_writer,
    part_of,
    sync_and_move,
    write_errors,
)

GREEN = (64, 220, 64)
RED = (60, 60, 230)
ORANGE, BLUE, PINK, CYAN = (0, 165, 255), (255, 128, 0), (200, 100, 255), (230, 200, 40)
TARGETS = (GREEN, ORANGE, CYAN, PINK, BLUE)  # colours of the first target, the second, ...
LONGEST_PAUSE = 10.0  # seconds for which a video stands still at most
AMBER = (0, 190, 255)
STATES = {"tracking": GREEN, "unsure": AMBER, "lost": RED}  # colour of a box by its target's state
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


def draw_box(
    frame: np.ndarray,
    box: Sequence[float],
    colour: tuple[int, int, int] = GREEN,
    thickness: int | None = None,
) -> np.ndarray:
    """A copy of `frame` with the outline of `box` (x, y, w, h; pixels, 0-based), none if it is not
    finite.

    thickness: of the line in pixels; None chooses it by the frame's size.
    """
    import cv2

    _check_frame("draw_box", frame)
    image = frame.copy()
    x, y, w, h = (float(value) for value in box)
    if all(math.isfinite(value) for value in (x, y, w, h)):
        # The box covers the pixels x to x+w-1.  OpenCV takes 32-bit corners, so cut boxes that run
        # far away.
        left, top, right, bottom = (
            round(min(max(v, -1e6), 1e6)) for v in (x, y, x + w - 1, y + h - 1)
        )
        if thickness is None:
            thickness = 1 + min(frame.shape[:2]) // 300
        cv2.rectangle(image, (left, top), (right, bottom), colour, thickness)
    return image


def draw_trail(
    frame: np.ndarray, points: Iterable[Sequence[float]], colour: tuple[int, int, int] = GREEN
) -> np.ndarray:
    """A copy of `frame` with the path through `points` (x, y; pixels, 0-based) without those that
    are not finite.
    """
    import cv2

    _check_frame("draw_trail", frame)
    finite = np.array([(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)], float)
    image = frame.copy()
    if len(finite) > 1:
        path = np.clip(np.round(finite), -1e6, 1e6).astype(np.int32)
        cv2.polylines(image, [path], False, colour, 1 + min(frame.shape[:2]) // 300, cv2.LINE_AA)
    return image


def draw_label(
    frame: np.ndarray, box: Sequence[float], text: str, colour: tuple[int, int, int] = GREEN
) -> np.ndarray:
    """A copy of `frame` with `text` above the box, or inside where the box touches the upper edge."""
    _check_frame("draw_label", frame)
    image = frame.copy()
    x, y = (float(value) for value in box[:2])
    if math.isfinite(x) and math.isfinite(y):
        size = max(0.4, min(frame.shape[:2]) / 600)
        height = round(25 * size)
        left, base = round(min(max(x, -1e6), 1e6)), round(min(max(y, -1e6), 1e6)) - 4
        place = (left, base if base > height else base + height + 6)
        put_text(image, text, place, size, colour)
    return image


def put_text(
    image: np.ndarray, text: str, place: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> None:
    """Write on `image` itself, from the left end of the base line at `place`, with a dark rim:
    readable on any ground.

    The rim is the same text, black, a pixel away on every side: a thicker one would be wider
    (OpenCV 5)."""
    import cv2

    rim = [((x, y), (0, 0, 0)) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y]
    for (x, y), ink in [*rim, ((0, 0), colour)]:
        where = (place[0] + x, place[1] + y)
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def response_inset(
    frame: np.ndarray, response: np.ndarray, fraction: float = 0.3, place: int = 0
) -> np.ndarray:
    """A copy of `frame` with the response map, in colours, in its top right corner.

    response: (H, W) real, shown as it is: `TrackResult.response` has zero displacement in the
    middle. Colours run from the map's minimum (dark blue) to its maximum (dark red).  fraction:
    side of the inset over the frame's shorter side.  place: 1 for the inset below the first, and so
    on; one that would not fit is left out.
    """
    import cv2

    _check_frame("response_inset", frame)
    response = np.asarray(response)
    if response.ndim != 2 or response.size == 0:
        raise ValueError(
            f"response_inset: response must be a map (H, W), got shape {response.shape}"
        )
    finite = response[np.isfinite(response)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    levels = (np.nan_to_num(response, nan=low, posinf=high, neginf=low) - low) / (
        (high - low) or 1.0
    )
    coloured = cv2.applyColorMap((levels * 255).astype(np.uint8), cv2.COLORMAP_JET)
    side = max(1, round(fraction * min(frame.shape[:2])))
    image = frame.copy()
    top = place * side
    if top + side <= len(image):
        image[top : top + side, -side:] = cv2.resize(
            coloured, (side, side), interpolation=cv2.INTER_LINEAR
        )
    return image


def contact_sheet(frames: Sequence[np.ndarray], columns: int = 4, gap: int = 4) -> np.ndarray:
    """Frames of one size in a grid, row by row, `gap` white pixels apart: an image (height, width,
    3).
    """
    if columns < 1 or gap < 0:
        raise ValueError(
            f"contact_sheet: columns must be positive and gap not negative, got {columns} and {gap}"
        )
    if not frames:
        raise ValueError("contact_sheet: frames must hold at least one frame, got none")
    for frame in frames:
        _check_frame("contact_sheet", frame)
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"contact_sheet: frames must share one shape, got {frames[0].shape} and {frame.shape}"
            )
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(shape, 255, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Writes frames to a video (mp4v in .mp4, .avi, .mov or .mkv); a context manager.

    The video appears under its name when the `with` block ends, also when it ends by an exception,
    with the frames written so far.  Odd sizes are filled up with a black row or column: the codec
    would cut them off. Until then it is NAME.part.SUFFIX.  Of a process that was killed, a
    .part.avi or .part.mkv plays but for its last 256 KiB; .mp4 and .mov get their index at their
    end and cannot be read without it.
    Raises ValueError for another suffix, a missing folder, or when OpenCV cannot open the file.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path = Path(path)
        self.frames = 0
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ValueError(f"{self.path}: a video must end in {', '.join(VIDEO_SUFFIXES)}")
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"VideoWriter: fps must be positive and finite, got {fps}")
        check_output(self.path)
        self._fps = float(fps)
        self._part = part_of(self.path)
        self._shape: tuple[int, ...] = ()
        self._writer: Any = None
        self._begin: float | None = None  # time of the first frame
        self._last: Any = None
        self._held = ExitStack()  # the file, for us alone

    def __enter__(self) -> "VideoWriter":
        with write_errors(self.path):
            self._held.enter_context(only_writer(self.path))
        return self

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Add one frame.  The first one settles the size; ValueError for another size later.

        time: seconds.  Where it is given, the video keeps the recording's pace, though it has
        frames at a constant rate only: the last frame is repeated until this one is due (10 s at
        most), and one that comes while the last is still due is left out.
        """
        _check_frame("VideoWriter.write", frame)
        if self._writer is None:
            self._writer = self._open(frame.shape)
            self._shape = frame.shape
        if frame.shape != self._shape:
            raise ValueError(
                f"VideoWriter.write: frame must have the shape {self._shape}, got {frame.shape}"
            )
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))
        if time is not None:
            copies = self._due(time) - self.frames
            if copies < 0:
                self._last = frame
                return
            for _ in range(copies):
                self._writer.write(self._last)
            self.frames += copies
        self._writer.write(frame)
        self.frames += 1
        self._last = frame

    def _due(self, time: float) -> int:
        """The number in the video of a frame of that time; a longer pause is cut down."""
        if self._begin is None:
            self._begin = time
        due = round((time - self._begin) * self._fps)
        too_many = due - self.frames - round(LONGEST_PAUSE * self._fps)
        if too_many > 0:
            self._begin += too_many / self._fps
            due -= too_many
        return due

    def _open(self, shape: tuple[int, ...]) -> Any:
        import cv2

        size = (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        codec = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
        writer = cv2.VideoWriter(str(self._part.absolute()), codec, self._fps, size)
        if not writer.isOpened():
            raise ValueError(
                f"{self.path}: OpenCV cannot write this video (mp4v, {size[0]}x{size[1]}); try .avi"
            )
        return writer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            if self._writer is None:
                return
            self._writer.release()
            self._writer = None
            try:
                with write_errors(self.path):
                    self._check()
                    sync_and_move(self._part, self.path)
            finally:
                self._part.unlink(missing_ok=True)  # only there when something failed

    def _check(self) -> None:
        """OpenCV says nothing about a disk that is full: look whether the frames are there."""
        import cv2

        video = cv2.VideoCapture(str(self._part.absolute()))
        there = 0
        while video.grab():  # the header of an .avi promises frames that are not there
            there += 1
        video.release()
        if there < self.frames:
            raise WriteError(
                f"cannot write {self.path}: only {there} of {self.frames} frames are there; "
                "is the disk full? make room or choose another folder"
            )


def _check_frame(where: str, frame: np.ndarray) -> None:
    if (
        not isinstance(frame, np.ndarray)
        or frame.dtype != np.uint8
        or frame.ndim != 3
        or frame.shape[2] != 3
    ):
        got = (
            f"{frame.dtype} {frame.shape}"
            if isinstance(frame, np.ndarray)
            else type(frame).__name__
        )
        raise TypeError(f"{where}: frame must be uint8 (height, width, 3), got {got}")
