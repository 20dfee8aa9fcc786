"""Videos written: whole or absent, and at the recording's pace."""

import os
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..support.files import (
    WriteError,
    check_output,
    only_writer,
    part_of,
    sync_and_move,
    write_errors,
)

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
LONGEST_PAUSE = 10.0  # seconds for which a video stands still at most


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Writes frames to a video (mp4v in .mp4, .avi, .mov or .mkv); a context manager.

    The video appears under its name when the `with` block ends, also when it ends by an exception,
    with the frames written so far.  Odd sizes are filled up with a black row or column: the codec
    would cut them off.  Until then it is NAME.part.SUFFIX.  Of a process that was killed, a
    .part.avi or .part.mkv plays but for its last 256 KiB; .mp4 and .mov get their index at their
    end and cannot be read without it.
    Raises ValueError for another suffix, a missing folder, or when OpenCV cannot open the file.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path = Path(path)
        self.frames = 0
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ValueError(f"{self.path}: a video must end in {', '.join(VIDEO_SUFFIXES)}")
        check_output(self.path)
        self._fps, self._part = float(fps), part_of(self.path)
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
        if self._writer is None:
            self._writer, self._shape = self._open(frame.shape), frame.shape
        if frame.shape != self._shape:
            raise ValueError(
                f"VideoWriter.write: frame must have the shape {self._shape}, got {frame.shape}"
            )
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))
        copies = 0 if time is None else self._due(time) - self.frames
        last, self._last = self._last, frame
        if copies < 0:
            return
        for image in [last] * copies + [frame]:
            self._writer.write(image)
            self.frames += 1

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
        size = (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        codec = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
        writer = cv2.VideoWriter(str(self._part.absolute()), codec, self._fps, size)
        if not writer.isOpened():
            raise ValueError(
                f"{self.path}: OpenCV cannot write this video (mp4v, {size[0]}x{size[1]}); try .avi"
            )
        return writer

    def __exit__(self, *error: object) -> None:
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
