"""Where frames come from: a video file, a camera, a folder or pattern of images, an OTB or VOT sequence.

`open_source` looks at everything that can be known before the first frame is tracked: that the source is
there, that its first frame decodes, that its ground truth can be read.  What goes wrong later is raised by
the iterator at that frame, so that its user keeps everything up to it.  All errors are `SourceError`.
"""

import glob
import os
import re
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .boxes import Box, from_otb, polygon_to_box, read_numbers

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
GROUND_TRUTH = ("groundtruth_rect.txt", "groundtruth.txt", "groundtruth_poly.txt")  # the first one there wins
FRAME_FOLDERS = ("img", "color", ".")
DEFAULT_FPS = 25.0


class SourceError(ValueError):
    """A source cannot be opened, or a frame of it cannot be had.  One line: what, where, what to do."""


class Source(AbstractContextManager["Source"]):
    """Frames to iterate over, each (height, width, 3) uint8 BGR and of the same size.

    name: for messages and titles.  fps: of the recording, 25 where it is not known.  length: number of
    frames (an estimate for a video), None for a camera.  first_box: ground truth of the first frame, or None.
    boxes: ground truth, (n, 4) float64, a row a frame, NaN where the target is absent, or None.  0-based.
    truth_error: why there are no boxes although there is a file of them, else "".
    """

    name: str = ""
    fps: float = DEFAULT_FPS
    length: int | None = None
    boxes: np.ndarray | None = None
    truth_error: str = ""
    closed: bool = False

    @property
    def first_box(self) -> Box | None:
        if self.boxes is None:
            return None
        x, y, w, h = self.boxes[0].tolist()
        return x, y, w, h

    @abstractmethod
    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames from the first on.  Raises SourceError at one that cannot be had."""

    def close(self) -> None:
        """Free the file or the camera.  A closed source is not read again: its iterator raises SourceError."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise SourceError(f"{self.name} is closed; open it again to read it")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(
    spec: str | int | os.PathLike[str], max_frames: int | None = None, *, need_truth: bool = True
) -> Source:
    """Open a source of frames.

    spec: a video file; a camera index (an int, or a string of digits: write `./0` for a folder of that name);
    a folder of images; a pattern (`shots/*.png`, `shots/%04d.png`); an OTB sequence folder (`img/` and
    `groundtruth_rect.txt`) or a VOT one (`groundtruth.txt` or `groundtruth_poly.txt`, four numbers or an
    8-number polygon a row, beside the frames, `color/` or `img/`).  Images are read in natural order of their
    names (2 before 10).  groundtruth_rect.txt is 1-based, as in OTB; VOT's files are 0-based.
    max_frames: stop after so many, the first one counted.
    need_truth: raise when the ground truth beside the frames cannot be used; else say so in `truth_error`.

    Raises SourceError (a ValueError) with one line when the source is missing, empty or undecodable.
    """
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"open_source: max_frames must be at least 1, got {max_frames}")
    text = os.fspath(spec) if not isinstance(spec, int) else str(spec)
    if text.isascii() and text.isdigit():
        return _VideoSource(int(text), f"camera {text}", max_frames)
    path = Path(text)
    if path.is_dir():
        return _open_folder(path, max_frames, need_truth)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise SourceError(f"{path} is a single image; give its folder or a pattern in quotes, like '*.jpg'")
        return _VideoSource(str(path), path.stem, max_frames)
    if re.search(r"[*?\[]|%\d*d", text):
        return _ImageSource(path.parent.name or path.name, _match(text), max_frames)
    raise SourceError(f"{path} does not exist; give a video file, a camera index, a folder or a pattern of images")


def read_ground_truth(path: str | os.PathLike[str]) -> np.ndarray:
    """Ground truth of a sequence -> (n, 4) float64, 0-based; rows of NaN mark frames without a target.

    A row has four numbers, or eight for a polygon, which becomes its min/max box; all of them are nan where there
    is no target.  Only a file called groundtruth_rect.txt counts from 1.  Raises SourceError.
    """
    path = Path(path)
    try:
        rows = read_numbers(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"ground truth cannot be read: {error}") from None
    if rows.shape[1] == 8:
        rows = polygon_to_box(rows)
    if rows.shape[1] != 4:
        raise SourceError(f"ground truth {path}: expected 4 or 8 numbers a row, got {rows.shape[1]}")
    return from_otb(rows) if path.name == "groundtruth_rect.txt" else rows


def natural_order(path: Path) -> list[Any]:
    """Sort key that takes runs of digits as numbers: frame2 before frame10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.name)]


def image_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order of their names; none where there is no such folder."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((file for file in files if not file.name.startswith(".")), key=natural_order)


def _match(pattern: str) -> list[Path]:
    """Files of a pattern with `*`, `?`, `[...]`, or with a printf number such as %04d."""

    def digits(found: re.Match[str]) -> str:
        return "[0-9]" * int(found[1] or 1) + "*"  # %04d writes 10000 with five digits

    matches = glob.glob(re.sub(r"%0?(\d*)d", digits, pattern))
    files = [Path(match) for match in matches if Path(match).suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise SourceError(f"the pattern {pattern!r} matches no image; check the folder and the ending")
    return sorted(files, key=natural_order)


def _open_folder(folder: Path, max_frames: int | None, need_truth: bool) -> Source:
    files = next((found for sub in FRAME_FOLDERS if (found := image_files(folder / sub))), [])
    if not files:
        raise SourceError(
            f"{folder} holds no images, neither directly nor in img/ or color/; expected {', '.join(IMAGE_SUFFIXES)}"
        )
    boxes, truth_error = None, ""
    try:
        boxes = _read_truth(folder, files)
    except SourceError as error:
        if need_truth:
            raise
        truth_error = str(error)
    source = _ImageSource(folder.resolve().name, files, max_frames, boxes)
    source.truth_error = truth_error
    return source


def _read_truth(folder: Path, files: list[Path]) -> np.ndarray | None:
    truth = next((folder / name for name in GROUND_TRUTH if (folder / name).is_file()), None)
    boxes = None if truth is None else read_ground_truth(truth)
    if boxes is not None and 1 < len(boxes) < len(files):
        # Some OTB sequences are annotated from a later frame on: pairing them from the first would be wrong.
        raise SourceError(
            f"{truth} has {len(boxes)} rows for {len(files)} frames, and does not say for which; "
            f"remove the other frames, or give {files[0].parent} and a box"
        )
    return boxes


class _ImageSource(Source):
    """Image files, in the order given."""

    def __init__(self, name: str, files: list[Path], max_frames: int | None, boxes: np.ndarray | None = None) -> None:
        self.name = name
        self.files = files[:max_frames]
        self.length = len(self.files)
        self.boxes = None if boxes is None else boxes[: self.length]
        self._shape = read_image(self.files[0], 1).shape

    def __iter__(self) -> Iterator[np.ndarray]:
        for number, file in enumerate(self.files, start=1):
            self._check_open()
            frame = read_image(file, number)
            _check_size(frame, self._shape, number, str(file))
            yield frame


class _VideoSource(Source):
    """A video file or a camera, through OpenCV.  A file can be iterated over again; a camera goes on."""

    def __init__(self, target: str | int, name: str, max_frames: int | None) -> None:
        self.name = name
        self._target = target
        self._max_frames = max_frames
        self._capture = self._open()
        self._first = self._read(self._capture)
        if self._first is None:
            self.close()
            raise SourceError(f"{self._where} opens but gives no frame; {self._advice}")
        import cv2

        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._announced = announced if announced > 0 and isinstance(target, str) else None
        self.length = self._announced
        if max_frames is not None:
            self.length = max_frames if self.length is None else min(self.length, max_frames)

    @property
    def _where(self) -> str:
        return self.name if isinstance(self._target, int) else str(self._target)

    @property
    def _advice(self) -> str:
        if isinstance(self._target, int):
            return "check that it is plugged in, free and allowed, or try another index"
        return "check that the file is a complete video, or convert it with ffmpeg"

    def _open(self) -> Any:
        import cv2

        capture = cv2.VideoCapture(self._target)
        if not capture.isOpened():
            kind = "be opened" if isinstance(self._target, int) else "be decoded as a video"
            raise SourceError(f"{self._where} cannot {kind}; {self._advice}")
        return capture

    def _read(self, capture: Any) -> np.ndarray | None:
        from .crop import to_bgr

        there, frame = capture.read()
        return to_bgr(frame) if there else None

    def __iter__(self) -> Iterator[np.ndarray]:
        self._check_open()
        if self._first is None and isinstance(self._target, str):
            self._capture.release()
            self._capture = self._open()
        number = 0
        shape = None
        while self._max_frames is None or number < self._max_frames:
            self._check_open()
            frame, self._first = self._first, None
            if frame is None:
                frame = self._read(self._capture)
            if frame is None:
                self._check_end(number)
                return
            number += 1
            shape = frame.shape if shape is None else shape
            _check_size(frame, shape, number, self._where)
            yield frame

    def _check_end(self, count: int) -> None:
        """A camera never ends; a file ends about where its header says: that count may be an estimate."""
        if isinstance(self._target, int):
            raise SourceError(f"frame {count + 1} of {self._where} did not come; {self._advice}")
        if self._announced and self._announced - count > max(2, 0.05 * self._announced):
            raise SourceError(
                f"frame {count + 1} of {self._where} does not decode, "
                f"but the file announces {self._announced} frames; {self._advice}"
            )

    def close(self) -> None:
        super().close()
        self._capture.release()


def read_image(file: Path, number: int) -> np.ndarray:
    """Decode one image file to (height, width, 3) uint8 BGR; gray, alpha, 16-bit and float are converted."""
    import cv2

    from .crop import to_bgr

    # IMREAD_COLOR turns gray and palette images to BGR, drops alpha and applies the camera's orientation;
    # ANYDEPTH keeps 16 bits for to_bgr.  OpenCV's TIFF reader can do neither with float samples.
    tiff = file.suffix.lower() in (".tif", ".tiff")
    flags = cv2.IMREAD_UNCHANGED if tiff else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        # Through imdecode, since imread cannot open every file name on Windows.
        frame = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), flags)
    except OSError as error:
        raise SourceError(f"frame {number} ({file}) cannot be read: {error.strerror}") from None
    except cv2.error:  # an empty file
        frame = None
    if frame is None:
        raise SourceError(f"frame {number} ({file}) does not decode as an image; replace it or leave it out")
    try:
        return to_bgr(frame)
    except (TypeError, ValueError) as error:
        raise SourceError(f"frame {number} ({file}) cannot be used: {error}") from None


def _check_size(frame: np.ndarray, shape: tuple[int, ...], number: int, where: str) -> None:
    if frame.shape != shape:
        raise SourceError(
            f"frame {number} ({where}) is {frame.shape[1]}x{frame.shape[0]} pixels, those before it "
            f"{shape[1]}x{shape[0]}; all frames must have one size"
        )
