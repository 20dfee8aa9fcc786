"""Boxes: checks, conversions, overlap, and the files they are kept in.

A box is `(x, y, w, h)` in pixels: floats, (x, y) the top-left corner counted from 0, the centre at
(x + w/2, y + h/2).  OTB files count from 1: only `from_otb` and `to_otb` shift, and only the
readers and writers of OTB files call them.
"""

import csv
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from ..support import files
from ..support.files import WriteError, read_text, write_errors

Box = tuple[float, float, float, float]

# 50,3, 40,7, 24,2: a blank after every second comma only
PAIRS_OF_COMMAS = re.compile(r"\s*[^\s,]+,[^\s,]+(,\s+[^\s,]+,[^\s,]+){2,}\s*")
LARGEST = 1e9  # pixels; what a file gives as more is no box
SUFFIXES = (".txt", ".csv", ".json")
COLUMNS = ("frame", "x", "y", "w", "h", "score", "ok", "time", "state")


class BoxRow(NamedTuple):
    """One frame of a tracking run; the columns of a .csv or .json file.

    frame: counted from 0.  box: 0-based.  score: how well the target was recognised, 0 to 1, see
    `tracker.score_of`; NaN for the first frame, whose box was given.  ok: whether the tracker
    trusts the box.  time: seconds of tracking alone for this frame.
    state: "tracking", "unsure" or "lost", see `tracker.TrackResult`.
    """

    frame: int
    box: Box
    score: float = math.nan
    ok: bool = True
    time: float = 0.0
    state: str = "tracking"


def check_box(box: Sequence[float], frame_shape: Sequence[int], where: str = "check_box") -> Box:
    """Return `box` as four Python floats, or raise ValueError with one line that says what is
    wrong.

    box: (x, y, w, h), pixels, 0-based.  frame_shape: (height, width, ...).  where: opens the
    message. A box may reach out of the frame, and may be as small as 1x1; it may not hold NaN or
    infinity, be thinner than a pixel, lie entirely outside the frame, or be wider or higher than
    the frame."""
    height, width = int(frame_shape[0]), int(frame_shape[1])
    try:
        values = () if isinstance(box, (str, bytes)) else box  # their letters may be numbers too
        x, y, w, h = (float("" if isinstance(value, (str, bytes)) else value) for value in values)
    except (TypeError, ValueError, OverflowError):
        got = textwrap.shorten(repr(box), 80)
        raise ValueError(f"{where}: box must be four numbers x, y, w, h, got {got}") from None
    text = f"({x:g}, {y:g}, {w:g}, {h:g})"
    if not all(math.isfinite(value) for value in (x, y, w, h)):
        raise ValueError(f"{where}: box must be finite, got {text}")
    if w < 1 or h < 1:
        raise ValueError(f"{where}: box must be at least 1 pixel wide and high, got {text}")
    if w > width or h > height:
        raise ValueError(
            f"{where}: box must be no larger than the frame ({width}x{height} pixels), got {text}"
        )
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(
            f"{where}: box must overlap the frame ({width}x{height} pixels), got {text}"
        )
    return x, y, w, h


def from_otb(boxes: Any) -> np.ndarray:
    """OTB's 1-based corner to a 0-based one.

    boxes: (..., 4), any float; the size does not change.
    """
    return np.asarray(boxes, float) - (1.0, 1.0, 0.0, 0.0)


def to_otb(boxes: Any) -> np.ndarray:
    """A 0-based corner to OTB's 1-based one; the inverse of `from_otb`."""
    return np.asarray(boxes, float) + (1.0, 1.0, 0.0, 0.0)


def polygon_to_box(polygon: Any) -> np.ndarray:
    """The smallest upright box around polygons: x1, y1, ..., xk, yk (..., 2k) -> x, y, w, h (...,
    4).

    The corner keeps the polygon's origin (0- or 1-based).  NaN stays NaN.
    """
    points = np.asarray(polygon, float)
    if points.ndim == 0 or points.shape[-1] < 6 or points.shape[-1] % 2:
        raise ValueError(
            f"polygon_to_box: polygon must be 6, 8, ... numbers in its last axis, got shape {points.shape}"
        )
    points = points.reshape(*points.shape[:-1], -1, 2)
    low, high = points.min(axis=-2), points.max(axis=-2)
    return np.concatenate([low, high - low], axis=-1)


def iou(a: Any, b: Any) -> np.ndarray:
    """Overlap of boxes, area of the intersection over area of the union: (..., 4), (..., 4) ->
    (...), 0 to 1.

    Areas are continuous (w * h, no +1 a side).  Two boxes of no area overlap by 0.  NaN gives NaN.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    intersection = np.maximum(high - low, 0.0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - intersection
    return np.where(union == 0, 0.0, intersection / np.where(union == 0, 1.0, union))


def split_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines of a text file, each as its place for messages and its words; an empty line has none.

    The whole file has one separator, around which there may be blanks: semicolons where there are
    any, else commas, else tabs and blanks.  Raises ValueError for a file with two, and for commas
    that may be decimal ones."""
    text = read_text(path)
    separator = next((sign for sign in ";," if sign in text), None)
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        words = [word.strip() for word in line.split(separator)]
        if separator and words[-1] == "":  # a separator at the end
            words.pop()
        if not any(words):
            yield where, []
            continue
        if any(re.search(r"[\s,]", word) for word in words) or PAIRS_OF_COMMAS.fullmatch(line):
            raise ValueError(
                f"{where}: more than one separator, or decimal commas; part all numbers by one of comma, semicolon, "
                f"tab and blank, and write 50.3, got {line.strip()[:60]!r}"
            )
        yield where, words


def parse_numbers(words: Iterable[str], where: str) -> list[float]:
    """Words as numbers.

    Raises ValueError, one line that begins with `where`, also for one beyond LARGEST.
    """
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise ValueError(f"{where}: expected numbers, got {word[:60]!r}") from None
        if abs(values[-1]) > LARGEST:
            raise ValueError(f"{where}: a number beyond {LARGEST:g}, got {word[:60]!r}")
    return values


def read_numbers(path: str | os.PathLike[str]) -> np.ndarray:
    """Rows of numbers parted as in `split_rows` -> (rows, columns) float64; empty lines are
    skipped.

    Raises ValueError, naming file and line, for a word that is no number or a number beyond
    LARGEST, for rows of different lengths, for a lone nan and for an empty file.
    """
    rows: list[list[float]] = []
    for where, words in split_rows(path):
        if not words:
            continue
        row = parse_numbers(words, where)
        if len(row) == 1 and math.isnan(row[0]):
            raise ValueError(
                f"{where}: a lone nan; write nan for every number, like nan,nan,nan,nan"
            )
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"{where}: expected {len(rows[0])} numbers as above, got {len(row)}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no boxes")
    return np.array(rows)


def read_boxes(path: str | os.PathLike[str]) -> np.ndarray:
    """Boxes of a .txt (OTB rows, 1-based), .csv or .json file (0-based) -> (n, 4) float64, 0-based.

    The columns of a .csv are parted by commas, semicolons or tabs.  Names may be in capitals, as in
    a .json.
    Raises ValueError for another suffix or a malformed file, OSError when it cannot be read.
    """
    path = Path(path)
    if _check_suffix(path) != ".txt":
        return read_numbered_boxes(path)[1]
    rows = read_numbers(path)
    if rows.shape[1] != 4:
        raise ValueError(f"{path}: expected 4 numbers a row, got {rows.shape[1]}")
    return from_otb(rows)


def read_numbered_boxes(path: str | os.PathLike[str]) -> tuple[list[Any] | None, np.ndarray]:
    """Column `frame` as it stands, None without one, and boxes (n, 4) float64, 0-based, of a .csv
    or .json file.

    Raises ValueError for a malformed file, OSError when it cannot be read.
    """
    path = Path(path)
    suffix = _check_suffix(path)
    text = read_text(path)
    try:
        rows: Any = json.loads(text) if suffix == ".json" else _csv_records(text)
        records = [{name.strip().lower(): value for name, value in row.items()} for row in rows]
        boxes = [[_number(record[name]) for name in "xywh"] for record in records]
        frames = [record["frame"] for record in records if "frame" in record]
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        csv.Error,
    ) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 120)
        raise ValueError(
            f"{path}: not a {suffix} file with columns x, y, w, h ({reason})"
        ) from None
    found = np.array(boxes, float).reshape(-1, 4)
    beyond = (abs(found) > LARGEST).any(axis=1)
    if beyond.any():
        raise ValueError(f"{path}: box {beyond.argmax() + 1} has a number beyond {LARGEST:g}")
    return frames if 0 < len(frames) == len(found) else None, found


def _csv_records(text: str) -> Iterator[dict[str, str]]:
    """The rows below the head, whose sign parts the columns.

    Raises ValueError for a row of another length.
    """
    head, _, _ = text.partition("\n")
    separator = next((sign for sign in ";\t" if sign in head), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names = [name.strip().lower() for name in next(rows, [])]
    if any(names.count(name) > 1 for name in "xywh"):
        raise ValueError(f"a column is there twice: {head.strip()}")
    for row in rows:
        if len(row) > 1 and len(row) != len(names):
            raise ValueError(
                f"line {rows.line_num} has {len(row)} columns, the first line {len(names)}"
            )
        if len(row) > 1 or "".join(row).strip():  # no empty line
            yield dict(zip(names, row))


def _number(value: Any) -> float:
    try:
        return math.nan if value in (None, "") else float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number such as 50.3") from None


def write_boxes(path: str | os.PathLike[str], rows: Iterable[BoxRow]) -> None:
    """Write `rows` as .txt (OTB: `x,y,w,h`, 1-based, four decimals), .csv or .json (0-based, all
    columns).

    A file appears under its name only when it is complete.  Raises ValueError for another suffix.
    """
    path = Path(path)
    form = _FORMATS[_check_suffix(path)]
    text = form.head + form.between.join(form.row(row) for row in rows) + form.tail
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


class BoxWriter(AbstractContextManager["BoxWriter"]):
    """Writes rows as they come; the file gets its name when the `with` block ends, also when by an
    exception.

    ::

        with BoxWriter("boxes.csv") as writer:
            writer.add(BoxRow(0, box))

    Until then the rows are in boxes.part.csv, where they stay when the process is killed (a .json
    then lacks its last line, `]`).  Suffix and folder are checked when the writer is made, before
    any tracking.  WriteError when the disk is full; the rows up to there are kept.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0  # rows in the file
        self._format = _FORMATS[_check_suffix(self.path)]
        self._part = files.part_of(self.path)
        files.check_output(self.path)

    def __enter__(self) -> "BoxWriter":
        with write_errors(self.path), ExitStack() as stack:
            stack.enter_context(files.only_writer(self.path))
            self._file = stack.enter_context(open(self._part, "wb", buffering=0))
            self._write(self._format.head)
            self._held = stack.pop_all()
        return self

    def add(self, row: BoxRow) -> None:
        """Write one row, which is in the file when this returns."""
        between = self._format.between if self.count else ""
        self._write(between + self._format.row(row))
        self.count += 1

    def _write(self, text: str) -> None:
        end = self._file.tell()
        data = text.encode()
        with write_errors(self.path):
            try:
                while data:  # a disk that fills up takes a part first
                    data = data[self._file.write(data) :]
            except OSError:
                self._file.seek(end)
                self._file.truncate()  # no half rows
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a run that failed before its first box leaves an older file alone
        keep = self.count > 0 or error is None
        with self._held:
            try:
                if keep:
                    self._write(self._format.tail)
            except WriteError as full:
                raise WriteError(f"{full}; the {self.count} boxes are in {self._part}") from full
            finally:
                self._file.close()
            if keep:
                with write_errors(self.path):
                    files.sync_and_move(self._part, self.path)
            else:
                self._part.unlink(missing_ok=True)


def _check_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: a file of boxes must end in {', '.join(SUFFIXES)}, got {path.suffix or 'nothing'!r}"
        )
    return suffix


def _otb_row(row: BoxRow) -> str:
    return ",".join(f"{value:.4f}" for value in to_otb(row.box)) + "\n"


def _csv_row(row: BoxRow) -> str:
    score = "" if math.isnan(row.score) else f"{row.score:.6f}"
    words = [
        str(row.frame),
        *(f"{v:.6f}" for v in row.box),
        score,
        str(int(row.ok)),
        f"{row.time:.6f}",
        row.state,
    ]
    return ",".join(words) + "\n"


def _json_row(row: BoxRow) -> str:
    numbers = [float(value) for value in (*row.box, row.score)]
    plain = [value if math.isfinite(value) else None for value in numbers]  # JSON knows no NaN
    values = [int(row.frame), *plain, bool(row.ok), float(row.time), row.state]
    return json.dumps(dict(zip(COLUMNS, values, strict=True)))


class _Format(NamedTuple):
    head: str
    row: Callable[[BoxRow], str]
    between: str
    tail: str


_FORMATS = {
    ".txt": _Format("", _otb_row, "", ""),
    ".csv": _Format(",".join(COLUMNS) + "\n", _csv_row, "", ""),
    ".json": _Format("[\n", _json_row, ",\n", "\n]\n"),
}
