"""Which images of a folder are frames, and in which order they are taken.

Order: runs of digits count as numbers (2 before 10), letters' case does not count, and a folder is
read to its end before the next one.  A number may have one decimal point or comma (.25 before .5),
unless one in its place ends in a zero, as a counter's do (1.9 before 1.10).  A sign counts where
the numbers in one place differ in it (-1 before 0).  Where names can be read in two ways that
differ, a `SourceWarning` says which one was taken.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ..support.words import counted

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
JPEG_SUFFIXES = (".jpg", ".jpeg")
MASK_WORDS = {
    "mask", "masks", "matte", "alpha", "gt", "seg", "segmentation", "label", "labels",
    "annotation", "depth",
}  # fmt: skip

# A sign stands behind no digit: 2024-01-02.  A decimal number has one point: 10.30.05 is none.
NUMBER = re.compile(
    r"(?P<sign>(?<![0-9])[+-])?"
    r"(?:(?<![0-9.,])(?P<whole>[0-9]+)[.,](?P<fraction>[0-9]+)(?![0-9]|[.,][0-9])"
    r"|(?P<digits>[0-9]+))"
)


class SourceWarning(UserWarning):
    """Frames were taken, but perhaps not those, or not in the order, that was meant.  One line."""


def warn_of_source(message: str) -> None:
    """Say that something may not be what was meant, in one line."""
    warnings.warn(message, SourceWarning, stacklevel=2)


class _Number(NamedTuple):
    """A number in a name."""

    text: str  # between the number before it and this one, in small letters
    place: str  # all before it, with # for each number
    sign: str
    whole: str
    fraction: str  # digits behind a decimal point, or ""


class _Name:
    """The stem of a file's name, taken apart: its numbers, and the `tail` behind the last one."""

    def __init__(self, stem: str) -> None:
        self.numbers: list[_Number] = []
        place, at = "", 0
        for found in NUMBER.finditer(stem):
            text = stem[at : found.start()].casefold()
            place += text + "#"
            sign, whole = found["sign"] or "", found["whole"] or found["digits"]
            self.numbers.append(_Number(text, place, sign, whole, found["fraction"] or ""))
            at = found.end()
        self.tail = stem[at:].casefold()

    def values(self) -> tuple[Any, ...]:
        """The numbers, equal for equal ones, however many zeros lead them."""
        return tuple((n.sign, int(n.whole), n.fraction) for n in self.numbers)

    def key(self, signed: Iterable[str] = (), decimal: Iterable[str] = ()) -> list[Any]:
        """Sort key: text, number, text, number, ..., text.

        signed, decimal: the places where a sign is a sign, and a point a decimal one.
        """
        key: list[Any] = []
        for text, place, sign, whole, fraction in self.numbers:
            number = sign + whole if place in signed else whole
            key.append(text if place in signed else text + sign)
            if fraction and place in decimal:
                key.append(Decimal(f"{number}.{fraction}"))
            else:
                key += [Decimal(number), ".", Decimal(fraction)] if fraction else [Decimal(number)]
        return [*key, self.tail]


def natural_order(path: Path) -> tuple[list[Any], str]:
    """Sort key that takes runs of digits as numbers and no notice of case: frame2, Frame10."""
    return _Name(path.name).key(), path.name


Reading = tuple[set[str], set[str]]  # arguments of `_Name.key`


def _readings(names: Iterable[_Name]) -> tuple[Reading, Reading]:
    """How to read the names of one folder, and the other way where one may doubt."""
    numbers: dict[str, list[_Number]] = defaultdict(list)
    for name in names:
        for number in name.numbers:
            numbers[number.place].append(number)
    signed, decimal, doubtful_signs, doubtful_points = set(), set(), set(), set()
    for place, there in numbers.items():
        differ = len({number.sign for number in there}) > 1
        if differ:
            signed.add(place)
        if place[-2:-1].isalpha() == differ:  # img-1 beside img2, or nothing but _-1, _-2, ...
            doubtful_signs.add(place)
        fractions = {number.fraction for number in there if number.fraction}
        of_one_width = len(set(map(len, fractions))) < 2
        if of_one_width or not any(fraction[1:].endswith("0") for fraction in fractions):
            decimal.add(place)
            if not of_one_width:
                doubtful_points.add(place)
    return (signed, decimal), (signed ^ doubtful_signs, decimal - doubtful_points)


def _in_order(files: list[Path]) -> list[Path]:
    """Files of one folder in order."""
    names = {file: _Name(file.stem) for file in files}
    taken, other = (
        sorted(files, key=lambda file: (names[file].key(*reading), file.name))
        for reading in _readings(names.values())
    )
    if taken != other:
        a, b = next((a, b) for a, b in zip(taken, other) if a != b)
        advice = "rename the files so that all numbers have one width and no sign"
        what = f"{a.parent}: {a.name} is taken before {b.name}"
        warn_of_source(f"{what}; if that is wrong, {advice}")
    return taken


def frames_among(files: Iterable[Path]) -> list[Path]:
    """Those of `files`, images, that are frames, in order, folder by folder.

    Left out, with a `SourceWarning`, are masks beside their frames: what is no JPEG beside a JPEG
    of the same name (0001.png beside 0001.jpg), and what has one of `MASK_WORDS` in its name beside
    an image of the same numbers without it (0001_mask.png beside 0001.png).  Another warning tells
    of two series with the same numbers.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    in_order = sorted(folders, key=lambda folder: [natural_order(Path(p)) for p in folder.parts])
    return [file for folder in in_order for file in _in_order(_without_masks(folders[folder]))]


def image_files(folder: Path) -> list[Path]:
    """The frames of a folder in order, see `frames_among`; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return frames_among(file for file in folder.iterdir() if is_image(file))


def is_image(file: Path) -> bool:
    """Whether a file has an image's suffix and is not hidden."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _without_masks(files: list[Path]) -> list[Path]:
    photos = {file.stem.casefold() for file in files if _is_jpeg(file)}
    unnamed = {_what(file) for file in files if not _is_named_mask(file)}
    masks = {
        file
        for file in files
        if (not _is_jpeg(file) and file.stem.casefold() in photos)
        or (_is_named_mask(file) and _what(file) in unnamed)
    }
    if masks:
        first = min(masks)
        what = f"{first.parent}: {counted(len(masks), 'image')} beside frames, like {first.name}"
        warn_of_source(f"{what}, left out as masks; to take them, give a pattern")
    frames = [file for file in files if file not in masks]
    _warn_of_twins(frames)
    return frames


def _is_jpeg(file: Path) -> bool:
    return file.suffix.lower() in JPEG_SUFFIXES


def _is_named_mask(file: Path) -> bool:
    return not MASK_WORDS.isdisjoint(re.split("[^a-z]+", file.stem.casefold()))


def _what(file: Path) -> tuple[Any, ...]:
    """What an image and its mask share: the numbers in their names, or their words."""
    words = re.split(r"[\W_]+", file.stem.casefold())
    return _Name(file.stem).values() or tuple(w for w in words if w and w not in MASK_WORDS)


def _warn_of_twins(files: list[Path]) -> None:
    """Tell of two series with the same numbers: left_1, right_1, left_2, right_2."""
    series: dict[str, int] = defaultdict(int)
    twins: dict[tuple[Any, ...], list[tuple[Path, str]]] = defaultdict(list)
    for file in sorted(files):
        name = _Name(file.stem)
        shape = "".join(n.place for n in name.numbers[-1:]) + name.tail + file.suffix.lower()
        series[shape] += 1
        if values := name.values():
            twins[values].append((file, shape))
    for same in twins.values():
        if len(same) > 1 and any(series[shape] > 1 for _, shape in same):
            (a, _), (b, _) = same[:2]
            what = f"{a.parent}: {a.name} and {b.name} have the same number, and both are taken"
            warn_of_source(f"{what}; for one of the two series give a pattern")
            return
