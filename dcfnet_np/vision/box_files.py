"""Files of boxes: OTB's rows of numbers (.txt), .csv and .json, and any table of plain numbers."""

import csv
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..support.files import (
    WriteError,
    check_output,
    only_writer,
    part_of,
    read_text,
    sync_and_move,
    write_errors,
)  # fmt: skip
from ..support.words import counted
from .boxes import Box, from_otb, to_otb

# 50,3, 40,7, 24,2: a blank after every second comma only
PAIRS_OF_COMMAS = re.compile(r"\s*[^\s,]+,[^\s,]+(,\s+[^\s,]+,[^\s,]+){2,}\s*")
LARGEST = 1e9  # pixels; what a file gives as more is no box
BOX_SUFFIXES = (".txt", ".csv", ".json")
COLUMNS = ("frame", "x", "y", "w", "h", "score", "ok", "time", "state")


class BoxRow(NamedTuple):
    """One frame of a tracking run; the columns of a .csv or .json file.

    frame: counted from 0.  box: 0-based.  score: how well the target was recognised, 0 to 1, see
    `tracking.response.score_of`; NaN for the first frame, whose box was given.  ok: whether the
    tracker trusts the box.  time: seconds of tracking alone for this frame.
    state: "tracking", "unsure" or "lost", see `tracker.TrackResult`.
    """

    frame: int
    box: Box
    score: float = math.nan
    ok: bool = True
    time: float = 0.0
    state: str = "tracking"


def split_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines of a text file, each as its place for messages and its words; an empty line has none.

    The whole file has one separator, around which there may be blanks: semicolons where there are
    any, else commas, else tabs and blanks.  Raises ValueError for a file with two, and for commas
    that may be decimal ones.
    """
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
                f"{where}: more than one separator, or decimal commas; part all numbers by one of "
                f"comma, semicolon, tab and blank, and write 50.3, got {line.strip()[:60]!r}"
            )
        yield where, words


def parse_numbers(words: Iterable[str], where: str) -> list[float]:
    """Words as numbers; ValueError that begins with `where`, also for one beyond LARGEST."""
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
    """Rows of numbers, parted as in `split_rows`, without empty lines -> (rows, columns) float64.

    Raises ValueError, naming file and line, for a word that is no number or a number beyond
    LARGEST, for rows of different lengths, for a lone nan and for an empty file.
    """
    rows: list[list[float]] = []
    for where, words in split_rows(path):
        if not words:
            continue
        row = parse_numbers(words, where)
        if len(row) == 1 and math.isnan(row[0]):
            advice = "write nan for every number, like nan,nan,nan,nan"
            raise ValueError(f"{where}: a lone nan; {advice}")
        if rows and len(row) != len(rows[0]):
            wanted = counted(len(rows[0]), "number")
            raise ValueError(f"{where}: expected {wanted} as above, got {len(row)}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no boxes")
    return np.array(rows)


def read_boxes(path: str | os.PathLike[str]) -> np.ndarray:
    """Boxes of a .txt (OTB rows, 1-based), .csv or .json file (0-based) -> (n, 4) float64, 0-based.

    The columns of a .csv are parted by commas, semicolons or tabs.  Names may be in capitals, as in
    a .json.  Raises ValueError for another suffix or a malformed file, OSError when it cannot be
    read.
    """
    path = Path(path)
    if _check_suffix(path) != ".txt":
        return read_numbered_boxes(path)[1]
    rows = read_numbers(path)
    if rows.shape[1] != 4:
        raise ValueError(f"{path}: expected 4 numbers a row, got {rows.shape[1]}")
    return from_otb(rows)


def read_numbered_boxes(path: str | os.PathLike[str]) -> tuple[list[Any] | None, np.ndarray]:
    """Column `frame` as it stands, None without one, and boxes (n, 4) of a .csv or .json file.

    Boxes are float64, 0-based.  Raises as `read_boxes` does.
    """
    path = Path(path)
    suffix = _check_suffix(path)
    text = read_text(path)
    try:
        rows: Any = json.loads(text) if suffix == ".json" else _csv_records(text)
        records = [{name.strip().lower(): value for name, value in row.items()} for row in rows]
        boxes = [[_number(record[name]) for name in "xywh"] for record in records]
        frames = [record["frame"] for record in records if "frame" in record]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
            csv.Error) as error:  # fmt: skip
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 120)
        wanted = f"a {suffix} file with columns x, y, w, h"
        raise ValueError(f"{path}: not {wanted} ({reason})") from None
    found = np.array(boxes, float).reshape(-1, 4)
    beyond = (abs(found) > LARGEST).any(axis=1)
    if beyond.any():
        raise ValueError(f"{path}: box {beyond.argmax() + 1} has a number beyond {LARGEST:g}")
    return frames if 0 < len(frames) == len(found) else None, found


def _csv_records(text: str) -> Iterator[dict[str, str]]:
    """The rows below the head, whose sign parts the columns; all must have its length."""
    head, _, _ = text.partition("\n")
    separator = next((sign for sign in ";\t" if sign in head), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names = [name.strip().lower() for name in next(rows, [])]
    if any(names.count(name) > 1 for name in "xywh"):
        raise ValueError(f"a column is there twice: {head.strip()}")
    for row in rows:
        if len(row) > 1 and len(row) != len(names):
            count = f"{counted(len(row), 'column')}, the first line {len(names)}"
            raise ValueError(f"line {rows.line_num} has {count}")
        if len(row) > 1 or "".join(row).strip():  # no empty line
            yield dict(zip(names, row))


def _number(value: Any) -> float:
    try:
        return math.nan if value in (None, "") else float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number such as 50.3") from None


def write_boxes(path: str | os.PathLike[str], rows: Iterable[BoxRow]) -> None:
    """Write all `rows` by a `BoxWriter`."""
    with BoxWriter(path) as writer:
        for row in rows:
            writer.add(row)


class BoxWriter(AbstractContextManager["BoxWriter"]):
    """Writes rows as they come; the file gets its name when the `with` block ends.

    ::

        with BoxWriter("boxes.csv") as writer:
            writer.add(BoxRow(0, box))

    A .txt has OTB's rows `x,y,w,h`, 1-based, with four decimals; .csv and .json have all columns,
    0-based.  Until the end, which may be an exception, the rows are in boxes.part.csv, where they
    stay when the process is killed (a .json then lacks its last line, `]`).  Suffix and folder are
    checked when the writer is made, before any tracking.  WriteError when the disk is full; the
    rows up to there are kept.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0  # rows in the file
        self._format = _FORMATS[_check_suffix(self.path)]
        self._part = part_of(self.path)
        check_output(self.path)

    def __enter__(self) -> "BoxWriter":
        with write_errors(self.path), ExitStack() as stack:
            stack.enter_context(only_writer(self.path))
            self._file = stack.enter_context(self._part.open("wb", buffering=0))
            self._write(self._format.head)
            self._held = stack.pop_all()
        return self

    def add(self, row: BoxRow) -> None:
        """Write one row, which is in the file when this returns."""
        between = self._format.between if self.count else ""
        self._write(between + self._format.row(row))
        self.count += 1

    def _write(self, text: str) -> None:
        end, data = self._file.tell(), text.encode()
        with write_errors(self.path):
            try:
                while data:  # a disk that fills up takes a part first
                    data = data[self._file.write(data) :]
            except OSError:
                self._file.truncate(end)  # no half rows
                self._file.seek(end)
                raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # a run that failed before its first box leaves an older file alone
        keep = self.count > 0 or error is None
        with self._held:
            try:
                if keep:
                    self._write(self._format.tail)
            except WriteError as full:
                kept = f"{counted(self.count, 'box')} kept in {self._part}"
                raise WriteError(f"{full}; {kept}") from full
            finally:
                self._file.close()
            if keep:
                with write_errors(self.path):
                    sync_and_move(self._part, self.path)
            else:
                self._part.unlink(missing_ok=True)


def _check_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in BOX_SUFFIXES:
        wanted = f"must end in {', '.join(BOX_SUFFIXES)}"
        raise ValueError(f"{path}: a file of boxes {wanted}, got {path.suffix or 'nothing'!r}")
    return suffix


def _otb_row(row: BoxRow) -> str:
    return ",".join(f"{value:.4f}" for value in to_otb(row.box)) + "\n"


def _csv_row(row: BoxRow) -> str:
    box = ",".join(f"{value:.6f}" for value in row.box)
    score = "" if math.isnan(row.score) else f"{row.score:.6f}"
    return f"{row.frame},{box},{score},{int(row.ok)},{row.time:.6f},{row.state}\n"


def _json_row(row: BoxRow) -> str:
    numbers = [float(value) for value in (*row.box, row.score)]
    plain = [value if math.isfinite(value) else None for value in numbers]  # JSON knows no NaN
    values = [int(row.frame), *plain, bool(row.ok), float(row.time), row.state]
    return json.dumps(dict(zip(COLUMNS, values, strict=True)))


class _Format(NamedTuple):
    head: str
    row: Callable[[BoxRow], str]
    between: str = ""
    tail: str = ""


_FORMATS = {
    ".txt": _Format("", _otb_row),
    ".csv": _Format(",".join(COLUMNS) + "\n", _csv_row),
    ".json": _Format("[\n", _json_row, ",\n", "\n]\n"),
}
