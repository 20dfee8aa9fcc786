"""Ground truth in one file with a row a frame, as most data sets have it.

A row is one of

    x,y,w,h             a box; in some data sets its corners x1,y1,x2,y2
    x1,y1,...,xk,yk     a polygon of three points or more, tracked as the smallest upright box
    mx,y,w,h,n0,n1,...  VOT's mask: a window, then lengths of runs of pixels outside and inside, by
                        turns, row by row from the window's corner on (rle_to_mask in the VOT
                        toolkit, vot/region/io.py)

and there is no target in a frame whose row is empty, is nan, has no positive width and height (such
as 0,0,0,0 or -1,-1,-1,-1), or is a single 0, 1 or 2, which are VOT's codes.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..support.words import counted
from ..vision.box_files import parse_numbers, read_numbers, split_rows
from ..vision.boxes import polygon_to_box
from .sequence import Entry, Sequence, frame_number

VOT_CODES = (0.0, 1.0, 2.0)
MOST_POINTS = 100  # of a polygon


class Truth(NamedTuple):
    """boxes: (n, 4) float64, 0-based, NaN where there is no target.  polygons: (n, 2k), or None."""

    boxes: np.ndarray
    polygons: np.ndarray | None = None


class _Region(NamedTuple):
    """One row, as the file counts.  kind: "box", "polygon", "mask" or "absent"."""

    kind: str
    box: tuple[float, ...]
    points: tuple[float, ...] = ()


_ABSENT = _Region("absent", (math.nan,) * 4)


def read_truth(path: Path, origin: int, corners: bool = False) -> Truth:
    """Read a file of rows.

    origin: what the file calls the first pixel, 0 or 1.  corners: a row of four is x1, y1, x2, y2.
    Raises ValueError, one line with file and line, for what is no row, and OSError.
    """
    regions: list[_Region] = []
    blank, before = 0, ""
    for where, words in split_rows(path):
        if not words:  # a frame without a target, unless the file begins or ends with it
            blank += 1
            continue
        region = _region(words, where, corners)
        if {before, region.kind} == {"box", "polygon"}:  # one of both is a mistake
            raise ValueError(f"{where}: expected a {before} as above, got {len(words)} numbers")
        before = region.kind if region.kind in ("box", "polygon") else before
        regions += [_ABSENT] * (blank if regions else 0) + [region]
        blank = 0
    if not regions:
        raise ValueError(f"{path}: holds no boxes")
    _check_extra_columns(path, regions)
    boxes = np.array([region.box for region in regions], float)
    boxes[:, :2] -= origin
    boxes[np.isnan(boxes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)] = np.nan
    return Truth(boxes, _polygons(regions, boxes, origin))


def _region(words: list[str], where: str, corners: bool) -> _Region:
    if words[0][:1] in ("m", "M"):
        return _mask(parse_numbers([words[0][1:], *words[1:]], where), where)
    values = parse_numbers(words, where)
    if all(map(math.isnan, values)) or (len(values) == 1 and values[0] in VOT_CODES):
        return _ABSENT
    if len(values) == 4:
        x, y, w, h = values
        return _Region("box", (x, y, w - x, h - y) if corners else (x, y, w, h))
    if 6 <= len(values) <= 2 * MOST_POINTS and len(values) % 2 == 0:
        return _Region("polygon", tuple(polygon_to_box(values)), tuple(values))
    wanted = "4 numbers a row, or 6, 8, ... for a polygon"
    raise ValueError(f"{where}: expected {wanted}, got {len(values)}")


def _check_extra_columns(path: Path, regions: list[_Region]) -> None:
    """Refuse boxes with further columns, else polygons: frame,target,x,y,w,h or x,y,w,h,0,1."""
    rows = [(index, region.points) for index, region in enumerate(regions) if region.points]
    counts = {points[0] - index for index, points in rows}
    what = ""
    if rows and all(len(points) == 6 and max(map(abs, points[4:])) <= 1 for _, points in rows):
        what = "the last two of 6 numbers are flags"
    elif len(rows) > 1 and counts in ({0}, {1}):
        what = "the first number of each row counts the frames"
    if what:
        raise ValueError(f"{path}: {what}; leave only x,y,w,h in a row, or the points of a polygon")


def _mask(values: list[float], where: str) -> _Region:
    """The smallest box around the pixels of a mask; the mask itself is never made."""
    if len(values) < 4 or not all(value.is_integer() for value in values) or min(values[2:]) < 0:
        wanted = "a mask, m and whole numbers x,y,w,h,n0,n1,..."
        raise ValueError(f"{where}: expected {wanted}, got {counted(len(values), 'number')}")
    left, top, width, height, *runs = map(int, values)
    ends = np.cumsum(runs, dtype=np.int64)
    if runs and ends[-1] > width * height:
        window = f"its window is {width}x{height}"
        raise ValueError(f"{where}: the mask's runs are {ends[-1]} pixels long, {window}")
    starts, stops = ends[::2][: len(runs) // 2], ends[1::2]
    inside = stops > starts
    if not inside.any():
        return _ABSENT
    first_rows, low = np.divmod(starts[inside], width)
    last_rows, high = np.divmod(stops[inside] - 1, width)
    # a run over a row's end has its last pixel and the next row's first
    whole = (last_rows > first_rows).any()
    x, end = (0, width) if whole else (low.min(), high.max() + 1)
    y, bottom = first_rows[0], last_rows[-1] + 1
    return _Region("mask", (left + x, top + y, end - x, bottom - y))


def _polygons(regions: list[_Region], boxes: np.ndarray, origin: int) -> np.ndarray | None:
    """(n, 2k) 0-based where all regions are polygons; shorter ones repeat their last point."""
    if {region.kind for region in regions} - {"absent"} != {"polygon"}:
        return None
    longest = max(len(region.points) for region in regions)
    polygons = np.full((len(regions), longest), np.nan)
    for row, region in zip(polygons, regions):
        if region.points:
            row[:] = region.points + region.points[-2:] * ((longest - len(region.points)) // 2)
    polygons[np.isnan(boxes[:, 0])] = np.nan
    return polygons - origin


# Which frames show their target by a file of labels, from its numbers.
Labels = dict[str, Callable[[np.ndarray], np.ndarray]]


def make_sequence(
    entry: Entry,
    files: list[Path],
    truth: Truth,
    labels: Labels | None = None,
    part: tuple[int, int] | None = None,
    first: int = 0,
) -> Sequence:
    """Put frames and rows together.

    files: all frames of the folder.  labels: by name of their file beside the ground truth.  part:
    first and last number, in the frames' names, of those that the rows are for.  first: see
    `Sequence`.  Of more rows or more frames the first ones of both are used, and a note says so.  A
    single row is the box of the first frame, and the others have none.  Raises ValueError.
    """
    if part is not None:
        numbered = [(path, frame_number(path)) for path in files]
        files = [path for path, n in numbered if n is not None and part[0] <= n <= part[1]]
        if not files:
            raise ValueError(f"{entry.folder} has no frame numbered {part[0]} to {part[1]}")
    boxes, polygons = truth
    if len(boxes) == 1 < len(files):  # a test split: the server alone has the other rows
        boxes, labels = _padded(boxes, len(files)), None
        polygons = None if polygons is None else _padded(polygons, len(files))
    visible = _visible(entry.truth.parent, labels or {}, len(boxes))
    count = min(len(files), len(boxes))
    notes: tuple[str, ...] = ()
    if len(files) != len(boxes):
        kept = "rows" if len(files) < len(boxes) else "frames"
        rows = f"{counted(len(boxes), 'row')} in {entry.truth.name}"
        notes = (f"{counted(len(files), 'frame')} but {rows}; the first {kept}, {count}, are used",)
    return Sequence(
        entry.name,
        entry.format,
        tuple(files[:count]),
        boxes[:count],
        polygons=None if polygons is None else polygons[:count],
        visible=None if visible is None else visible[:count],
        first=first if count > first else 0,
        notes=notes,
        video=entry.folder.name,
    )


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows of NaN below, so that there are `count`."""
    return np.vstack([rows, np.full((count - len(rows), rows.shape[1]), np.nan)])


def _visible(folder: Path, labels: Labels, count: int) -> np.ndarray | None:
    """Which rows show their target by the files that are there, (count,) bool."""
    if not labels:
        return None
    visible = np.ones(count, bool)
    for path, shown in ((folder / name, shown) for name, shown in labels.items()):
        if path.is_file():
            values = read_numbers(path).ravel()  # LaSOT: one row of all frames; GOT-10k: a row each
            if len(values) != count:
                wanted = f"a label for each of {counted(count, 'row')} of ground truth"
                raise ValueError(f"{path}: expected {wanted}, got {len(values)}")
            visible &= shown(values)
    return visible
