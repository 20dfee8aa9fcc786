"""What every layout is read into: `Sequence`, one target in one video."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..vision.image_files import image_files, natural_order
from ..vision.images import read_image

FRAME_FOLDERS = ("img", "color", "img1", ".")  # the first one with images has the frames
# formats in which a file or folder of annotations has any number of targets
VIDEOS = ("davis", "mot", "vid")


class DatasetError(ValueError):
    """A data set or a sequence cannot be read.  One line: what, where, what to do."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one video.

    frames: image files, as many as boxes.  boxes: (n, 4) float64, 0-based, NaN where there is no
    target; only the first row is a box where the data set gives no more (test splits). polygons:
    (n, 2k), x1, y1, ..., xk, yk, 0-based, where the data set has them (VOT), else None.  visible:
    (n,) bool from the data set's labels, else None.  first: where OTB's toolkit starts.  notes:
    what was done to make frames and rows fit.  video: name of the video, which other targets may
    share.
    """

    name: str
    format: str
    frames: tuple[Path, ...]
    boxes: np.ndarray
    polygons: np.ndarray | None = None
    visible: np.ndarray | None = None
    attributes: tuple[str, ...] = ()
    first: int = 0
    notes: tuple[str, ...] = ()
    video: str = ""

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> np.ndarray:
        """Decode one frame: (height, width, 3) uint8 BGR.  SourceError when it cannot be had."""
        return read_image(self.frames[index], index + 1)

    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the first frame, which is decoded for it."""
        height, width = self.frame(0).shape[:2]
        return width, height

    def visible_boxes(self) -> np.ndarray:
        """The boxes, NaN where the target is there but hidden."""
        if self.visible is None:
            return self.boxes
        return np.where(self.visible[:, None], self.boxes, np.nan)

    def from_its_first_box(self) -> "Sequence":
        """Without the frames before the target appears, for trackers are started there."""
        start = int((~np.isnan(self.boxes).any(axis=1)).argmax())
        visible = None if self.visible is None else self.visible[start:]
        return dataclasses.replace(
            self, frames=self.frames[start:], boxes=self.boxes[start:], visible=visible
        )

    def every(self, stride: int) -> "Sequence":
        """Every stride-th frame, as of a slower camera; for a negative stride backwards, from the
        last frame on.
        """

        def thin(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else np.ascontiguousarray(rows[::stride])

        return dataclasses.replace(
            self,
            frames=self.frames[::stride],
            boxes=np.ascontiguousarray(self.boxes[::stride]),
            polygons=thin(self.polygons),
            visible=thin(self.visible),
            first=-(-self.first // stride) if stride > 0 else 0,
        )


@dataclass(frozen=True)
class Entry:
    """A sequence that is known by name and not read yet; for formats of VIDEOS a video with all its
    targets.

    folder: of the frames.  truth: file or folder of the annotations.  part: first and last frame
    number, where it is a part of its folder.
    """

    name: str
    format: str
    folder: Path
    truth: Path
    part: tuple[int, int] | None = None

    def holds(self, name: str) -> bool:
        """Whether a sequence of this name can be in it."""
        return name == self.name or (self.format in VIDEOS and name.startswith(self.name + "."))


def frames_of(folder: Path) -> list[Path]:
    """The frames of one video: the images in the first of FRAME_FOLDERS that has any, in natural
    order.
    """
    return next((found for sub in FRAME_FOLDERS if (found := image_files(folder / sub))), [])


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order of their names, without hidden ones."""
    return sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=natural_order,
    )


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder with such names, in natural order, without hidden ones: a Mac leaves
    ._NAME beside NAME.
    """
    return sorted(
        (p for p in folder.glob(pattern) if not p.name.startswith(".")), key=natural_order
    )


def frame_number(path: Path) -> int | None:
    """The last number in a frame's file name, its place in time (img/0042.jpg: 42), or None."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None
