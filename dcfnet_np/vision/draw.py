"""Pictures of a result: the box, the response map, a contact sheet, a video.  Inputs are never written to.

Frames are (height, width, 3) uint8 BGR; colours are (blue, green, red).
"""

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..files import WriteError, check_output, part_of, replacing

GREEN = (64, 220, 64)
RED = (60, 60, 230)
AMBER = (0, 190, 255)
STATES = {"tracking": GREEN, "unsure": AMBER, "lost": RED}  # colour of a box by its target's state
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


def draw_box(
    frame: np.ndarray,
    box: Sequence[float],
    colour: tuple[int, int, int] = GREEN,
    thickness: int | None = None,
) -> np.ndarray:
    """A copy of `frame` with the outline of `box` (x, y, w, h; pixels, 0-based), none if it is not finite.

    thickness: of the line in pixels; None chooses it by the frame's size.
    """
    import cv2

    _check_frame("draw_box", frame)
    image = frame.copy()
    x, y, w, h = (float(value) for value in box)
    if all(math.isfinite(value) for value in (x, y, w, h)):
        # The box covers the pixels x to x+w-1.  OpenCV takes 32-bit corners, so cut boxes that run far away.
        left, top, right, bottom = (round(min(max(v, -1e6), 1e6)) for v in (x, y, x + w - 1, y + h - 1))
        if thickness is None:
            thickness = 1 + min(frame.shape[:2]) // 300
        cv2.rectangle(image, (left, top), (right, bottom), colour, thickness)
    return image


def response_inset(frame: np.ndarray, response: np.ndarray, fraction: float = 0.3) -> np.ndarray:
    """A copy of `frame` with the response map, in colours, in its top right corner.

    response: (H, W) real, shown as it is: `TrackResult.response` has zero displacement in the middle.
    Colours run from the map's minimum (dark blue) to its maximum (dark red).  fraction: side of the inset
    over the frame's shorter side.
    """
    import cv2

    _check_frame("response_inset", frame)
    response = np.asarray(response)
    if response.ndim != 2 or response.size == 0:
        raise ValueError(f"response_inset: response must be a map (H, W), got shape {response.shape}")
    finite = response[np.isfinite(response)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    levels = (np.nan_to_num(response, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    coloured = cv2.applyColorMap((levels * 255).astype(np.uint8), cv2.COLORMAP_JET)
    side = max(1, round(fraction * min(frame.shape[:2])))
    image = frame.copy()
    image[:side, -side:] = cv2.resize(coloured, (side, side), interpolation=cv2.INTER_LINEAR)
    return image


def contact_sheet(frames: Sequence[np.ndarray], columns: int = 4, gap: int = 4) -> np.ndarray:
    """Frames of one size in a grid, row by row, `gap` white pixels apart: an image (height, width, 3)."""
    if columns < 1 or gap < 0:
        raise ValueError(f"contact_sheet: columns must be positive and gap not negative, got {columns} and {gap}")
    if not frames:
        raise ValueError("contact_sheet: frames must hold at least one frame, got none")
    for frame in frames:
        _check_frame("contact_sheet", frame)
        if frame.shape != frames[0].shape:
            raise ValueError(f"contact_sheet: frames must share one shape, got {frames[0].shape} and {frame.shape}")
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

    The video appears under its name when the `with` block ends, also when it ends by an exception, with the
    frames written so far.  Odd sizes are filled up with a black row or column: the codec would cut them off.
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

    def write(self, frame: np.ndarray) -> None:
        """Add one frame.  The first one settles the size; ValueError for another size later."""
        _check_frame("VideoWriter.write", frame)
        if self._writer is None:
            self._writer = self._open(frame.shape)
            self._shape = frame.shape
        if frame.shape != self._shape:
            raise ValueError(f"VideoWriter.write: frame must have the shape {self._shape}, got {frame.shape}")
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))
        self._writer.write(frame)
        self.frames += 1

    def _open(self, shape: tuple[int, ...]) -> Any:
        import cv2

        size = (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter_fourcc(*"mp4v"), self._fps, size)  # type: ignore[attr-defined]
        if not writer.isOpened():
            raise ValueError(f"{self.path}: OpenCV cannot write this video (mp4v, {size[0]}x{size[1]}); try .avi")
        return writer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with replacing(self.path):
            self._check()

    def _check(self) -> None:
        """OpenCV says nothing about a disk that is full: look whether the frames are there."""
        import cv2

        video = cv2.VideoCapture(str(self._part))
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
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TypeError(f"{where}: frame must be uint8 (height, width, 3), got {got}")
