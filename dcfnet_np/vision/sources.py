"""Where frames come from: a video, a camera, a stream, a folder or pattern of images, a data set.

`open_source` looks at everything that can be known before the first frame is tracked: that the
source is there, that its first frame decodes, that its ground truth can be read.  What goes wrong
later is raised by the iterator at that frame, so that its user keeps everything up to it.  All
errors are `SourceError`.
"""

import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from .. import datasets
from ..support.words import counted
from .frames import Frame, Part, Source, check_frame_size
from .image_files import IMAGE_SUFFIXES, frames_among, is_image
from .images import SourceError, read_image, stack_pages
from .video import VideoSource, is_text

LONGEST_SPEC = 4096  # letters of a path or an address
ANY_SOURCE = "a video file, a camera index, a folder or a pattern of images"


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
    `dcfnet_np.datasets` knows.  Order and choice of images: see `image_files`.  Where the ground
    truth is needed and is for a part of the frames, they are that part; of several targets, the
    first one that the first frame shows is taken.
    max_frames: stop after so many, the first one counted.
    need_truth: raise when the ground truth beside the frames cannot be used; else say so in
    `truth_error`.
    start, end, every: begin at frame `start` (counted from 0), stop before frame `end`, take each
    `every`-th; a float is a time in seconds.  Ground truth and length are those of the frames that
    are left.  A video is decoded up to its start, since seeking lands on another frame in some
    files.

    Videos stand upright when the file says how they were held.
    Raises SourceError (a ValueError) with one line when the source is missing, empty or
    undecodable.
    """
    for name, value in (("max_frames", max_frames), ("every", every)):
        if value is not None and value < 1:
            raise ValueError(f"open_source: {name} must be at least 1, got {value}")
    if not all(0 <= moment < math.inf for moment in (start, end or 0)):
        raise ValueError(f"open_source: start and end must not be negative, got {start} and {end}")
    part = Part(start, end, every, max_frames)
    text = _name_of_source(spec)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return VideoSource(int(text), f"camera {text}", part)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        return VideoSource(text, _name_of_stream(text), part)
    path = Path(text)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # one part of it is too long
        raise SourceError(f"{path} cannot be opened: {error.strerror}") from None
    if is_folder:
        return _open_folder(path, part, need_truth)
    if is_file:
        return _open_file(path, part)
    if re.search(r"[*?\[]|%\d*d", text):
        files = _match(text)
        return _ImageSource(files[0].parent.name, files, part)
    raise SourceError(f"{path} does not exist; give {ANY_SOURCE}")


def _name_of_source(spec: str | int | os.PathLike[str]) -> str:
    """What was given for a source, as text; TypeError, or SourceError where it cannot be a name."""
    if not isinstance(spec, str | int | os.PathLike):
        got = type(spec).__name__
        raise TypeError(f"a source is given by a path, an address or a camera index, got {got}")
    text = os.fspath(spec) if not isinstance(spec, int) else str(spec)
    if not text:
        raise SourceError(f"the name of the source is empty; give {ANY_SOURCE}")
    if len(text) > LONGEST_SPEC:
        what = f"a source of {len(text)} letters, {text[:60]!r}..."
        raise SourceError(f"{what}: no path and no address is so long")
    return text


def _name_of_stream(address: str) -> str:
    """The address without user and password, which must not turn up in messages."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceError(f"the address of a stream cannot be read: {error}") from None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _open_file(path: Path, part: Part) -> Source:
    """A video, or the pages of a TIFF."""
    if len(pages := stack_pages(path)) > 1:
        return _ImageSource(path.stem, [path] * len(pages), part, pages=pages)
    advice = ""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        advice = "is a single image; give its folder or a pattern in quotes, like '*.jpg'"
    elif is_text(path):
        advice = "is a text, no video; give a video file, or a folder or pattern of images"
    if advice:
        raise SourceError(f"{path} {advice}")
    return VideoSource(str(path), path.stem, part)


def _match(pattern: str) -> list[Path]:
    """Frames of a pattern with `*`, `**`, `?`, `[...]`, or a printf number like %04d in the name.

    What is there under that very name is meant, not a pattern: the folder of "[2024] shots/*.jpg".
    """
    folder = next(parent for parent in Path(pattern).parents if parent.is_dir())
    rest = str(Path(pattern).relative_to(folder))
    name = _printf_name(Path(rest).name)
    for text in (rest.replace("[", "[[]"), rest):
        text = re.sub(r"%\d*d", "*", text)
        # Path.glob would go into hidden folders
        matches = map(Path, glob.glob(text, root_dir=folder, recursive=True))  # noqa: PTH207
        good = [path for path in matches if not name or name.fullmatch(path.name)]
        if files := [folder / path for path in good if is_image(folder / path)]:
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
        what = f"{folder} holds {len(entries)} sequences"
        advice = f"give the frames of one, like {entries[0].folder}, and a box"
        raise SourceError(f"{what}; {advice}")
    files = datasets.frames_of(entries[0].folder if entries else folder)
    if not files:
        inner = [] if entries else _sequences_in(folder)
        if inner:
            advice = f"give one of them, like {inner[0].folder}"
            raise SourceError(f"{folder} holds sequences, not frames; {advice}")
        raise SourceError(f"{folder} holds no images; {datasets.describe_folder(folder)}")
    name, boxes, note, wrong = folder.resolve().name, None, "", ""
    if entries:
        try:
            target, note = _choose_target(entries, files, need_truth)
        except ValueError as error:
            if need_truth:
                raise SourceError(str(error)) from None
            wrong = str(error)
        else:
            name, rows = target.name, dict(zip(target.frames, target.visible_boxes()))
            # a box that is given instead of the truth is for the first frame of all
            files = list(target.frames) if need_truth else files
            boxes = np.array([rows.get(file, (math.nan,) * 4) for file in files])
    source = _ImageSource(name, files, part, boxes)
    source.truth_note, source.truth_error = note, wrong
    return source


def _sequences_in(folder: Path) -> list[datasets.Entry]:
    """The sequences of a whole data set; none in another folder."""
    try:
        return datasets.find_sequences(folder)
    except datasets.DatasetError:
        return []


def _choose_target(
    entries: list[datasets.Entry], files: list[Path], need_truth: bool
) -> tuple[datasets.Sequence, str]:
    """The target of a video that is tracked, and what there is to say about it.

    Raises ValueError.
    """
    targets = [target for entry in entries for target in datasets.read_entry(entry)]
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
        what = f"{target.notes[0].partition(';')[0]}, which does not say for which"
        advice = f"remove the other frames of {files[0].parent}, or give that folder and a box"
        raise SourceError(f"{what}; {advice}")
    return target, "; ".join(target.notes)


class _ImageSource(Source):
    """Image files in the order given, or pages of a TIFF, whose number is then beside each."""

    def __init__(
        self,
        name: str,
        files: list[Path],
        part: Part,
        boxes: np.ndarray | None = None,
        pages: Sequence[int | None] | None = None,
    ) -> None:
        self.name = name
        images = list(enumerate(zip(files, pages or [None] * len(files))))
        self._images = part.of(images, self.fps)
        if not self._images:
            none = "none between the start and end asked for"
            raise SourceError(f"{name} has {counted(len(files), 'frame')} and {none}")
        self.length = len(self._images)
        if boxes is not None:
            rows = [number for number, _ in self._images if number < len(boxes)]
            self.boxes = boxes[rows] if rows else None
        self._shape = self._image(0).shape

    def _image(self, index: int) -> np.ndarray:
        number, (file, page) = self._images[index]
        return read_image(file, number + 1, page)

    def frames(self) -> Iterator[Frame]:
        for index, (number, (file, _)) in enumerate(self._images):
            self._check_open()
            image = self._image(index)
            check_frame_size(image, self._shape, number + 1, str(file))
            yield Frame(number, number / self.fps, image)
