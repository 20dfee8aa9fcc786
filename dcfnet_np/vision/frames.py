"""What every source of frames is: frames to iterate over, perhaps with ground truth."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from .boxes import Box
from .images import SourceError

DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """One frame of a source."""

    number: int  # in the recording, counted from 0
    time: float  # seconds in the recording; of a camera or stream, since it was opened
    image: np.ndarray  # (height, width, 3) uint8 BGR


class Part(NamedTuple):
    """Which frames of a recording are wanted: numbers from 0; a float is a time in seconds."""

    start: int | float = 0
    end: int | float | None = None
    every: int = 1
    max_frames: int | None = None

    def of(self, frames: Any, fps: float) -> Any:
        """The wanted ones of a sequence of all frames."""

        def number(moment: int | float | None) -> int | None:
            return math.ceil(moment * fps) if isinstance(moment, float) else moment

        return frames[number(self.start) : number(self.end) : self.every][: self.max_frames]


class Source(AbstractContextManager["Source"]):
    """Frames to iterate over, each (height, width, 3) uint8 BGR and of the same size.

    name: for messages and titles.  fps: of the recording, 25 where it is not known.  length: number
    of frames, None for a camera or stream; of a video what its header says, which can be far too
    many.  live: frames come by themselves, and are lost to those who do not keep up.  boxes: ground
    truth, (n, 4) float64, 0-based, a row a frame, NaN where the target is absent, or None.
    first_box: that of the first frame, None where the target is not in it.  truth_error: why there
    are no boxes although there is a file of them, else "".  truth_note: what there is to know about
    them, such as which of several targets they are of, else "".
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
        """The frames from the first on; raises SourceError at one that cannot be had."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """The images of `frames()`."""
        return (frame.image for frame in self.frames())

    def close(self) -> None:
        """Free the file or the camera; the iterator of a closed source raises SourceError."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise SourceError(f"{self.name} is closed; open it again to read it")

    def __exit__(self, *_: object) -> None:
        self.close()


def check_frame_size(frame: np.ndarray, shape: tuple[int, ...], number: int, where: str) -> None:
    """Raise SourceError unless a frame, the `number`-th one, has the shape of those before it."""
    if frame.shape != shape:
        here, before = (f"{width}x{height}" for height, width, _ in (frame.shape, shape))
        what = f"frame {number} ({where}) is {here} pixels, those before it {before}"
        raise SourceError(f"{what}; all frames must have one size")
