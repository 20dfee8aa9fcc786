"""What every layout is read into: `Sequence`, one target in one video."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..vision.image_files import image_files, natural_order
from ..vision.images import read_image

# in a sequence's folder; the first one with images has the frames
FRAME_FOLDERS = ("img", "color", "img1", ".")
# formats in which a file or folder of annotations has any number of targets
VIDEOS = ("davis", "mot", "vid")


class DatasetError(ValueError):
    """A data set or a sequence cannot be read.  One line: what, where, what to do."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one video.

    frames: image files, as many as boxes.  boxes: (n, 4) float64, 0-based, NaN where there is no
    target; only the first row is a box where the data set gives no more (test splits).  polygons:
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
        return self._rows(slice(start, None))

    def every(self, stride: int) -> "Sequence":
        """Every stride-th frame, as of a slower camera; a negative stride goes backwards."""
        first = -(-self.first // stride) if stride > 0 else 0
        return dataclasses.replace(self._rows(slice(None, None, stride)), first=first)

    def _rows(self, rows: slice) -> "Sequence":
        def of(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else np.ascontiguousarray(values[rows])

        return dataclasses.replace(
            self,
            frames=self.frames[rows],
            boxes=np.ascontiguousarray(self.boxes[rows]),
            polygons=of(self.polygons),
            visible=of(self.visible),
        )


@dataclass(frozen=True)
class Entry:
    """A sequence that is known by name and not read yet; of VIDEOS a video with all its targets.

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


def entry_of_folder(
    folder: Path, format: str, truth: str, marks: tuple[str, ...] = ()
) -> list[Entry]:
    """The sequence that a folder is, if the file `truth` is there, and one of `marks` if given."""
    marked = not marks or any((folder / mark).is_file() for mark in marks)
    found = Entry(folder.resolve().name, format, folder, folder / truth)
    return [found] if found.truth.is_file() and marked else []


def frames_of(folder: Path) -> list[Path]:
    """The frames of one video: the images in the first of FRAME_FOLDERS that has any, in order."""
    return next((found for sub in FRAME_FOLDERS if (found := image_files(folder / sub))), [])


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order of their names, without hidden ones."""
    return _in_order(path for path in folder.iterdir() if path.is_dir())


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder with such names, in natural order, without hidden ones.

    A Mac leaves ._NAME beside NAME.
    """
    return _in_order(folder.glob(pattern))


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted((p for p in paths if not p.name.startswith(".")), key=natural_order)


def frame_number(path: Path) -> int | None:
    """The last number in a frame's file name, its place in time (img/0042.jpg: 42), or None."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None
