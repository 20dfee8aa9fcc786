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

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
JPEG_SUFFIXES = (".jpg", ".jpeg")
MASK_WORDS = frozenset(
    "mask masks matte alpha gt seg segmentation label labels annotation depth".split()
)

# A sign stands behind no digit: 2024-01-02.  A decimal number has one point: 10.30.05 is none.
_NUMBER = re.compile(
    r"(?P<sign>(?<![0-9])[+-])?"
    r"(?:(?<![0-9.,])(?P<whole>[0-9]+)[.,](?P<fraction>[0-9]+)(?![0-9]|[.,][0-9])|(?P<digits>[0-9]+))"
)


class SourceWarning(UserWarning):
    """Frames were taken, but perhaps not those, or not in the order, that was meant.  One line."""


class _Number(NamedTuple):
    """A number in a name."""

    text: str  # between the number before it and this one, in small letters
    place: str  # all before it, with # for each number
    sign: str
    whole: str
    fraction: str  # digits behind a decimal point, or ""


# of a file, taken apart: its numbers, and what is behind the last one
_Name = tuple[list[_Number], str]
# the places where a sign is a sign; where a point is a decimal one
_Reading = tuple[set[str], set[str]]


def _parse(stem: str) -> _Name:
    numbers: list[_Number] = []
    place, at = "", 0
    for found in _NUMBER.finditer(stem):
        text = stem[at : found.start()].casefold()
        place += text + "#"
        whole = found["whole"] or found["digits"]
        numbers.append(_Number(text, place, found["sign"] or "", whole, found["fraction"] or ""))
        at = found.end()
    return numbers, stem[at:].casefold()


def _key(name: _Name, reading: _Reading) -> list[Any]:
    """Sort key: text, number, text, number, ..., text."""
    (numbers, tail), (signed, decimal) = name, reading
    key: list[Any] = []
    for text, place, sign, whole, fraction in numbers:
        number = (sign if place in signed else "") + whole
        key.append(text if place in signed else text + sign)
        if fraction and place in decimal:
            key.append(Decimal(f"{number}.{fraction}"))
        else:
            key += [Decimal(number), ".", Decimal(fraction)] if fraction else [Decimal(number)]
    return [*key, tail]


def natural_order(path: Path) -> tuple[list[Any], str]:
    """Sort key that takes runs of digits as numbers and no notice of case: frame2, Frame10."""
    return _key(_parse(path.name), (set(), set())), path.name


def _readings(names: Iterable[_Name]) -> tuple[_Reading, _Reading]:
    """How to read the names of one folder, and the other way where one may doubt."""
    numbers: dict[str, list[_Number]] = defaultdict(list)
    for of_name, _ in names:
        for number in of_name:
            numbers[number.place].append(number)
    signed, decimal, doubtful_signs, doubtful_points = set(), set(), set(), set()
    for place, there in numbers.items():
        signs = {number.sign for number in there}
        after_a_letter = place[-2:-1].isalpha()
        if len(signs) > 1:
            signed.add(place)
        if after_a_letter == (len(signs) > 1):  # img-1 beside img2, or nothing but _-1, _-2, ...
            doubtful_signs.add(place)
        fractions = {number.fraction for number in there if number.fraction}
        of_one_width = len({len(fraction) for fraction in fractions}) < 2
        if of_one_width or not any(fraction[1:].endswith("0") for fraction in fractions):
            decimal.add(place)
            if not of_one_width:
                doubtful_points.add(place)
    return (signed, decimal), (signed ^ doubtful_signs, decimal - doubtful_points)


def _in_order(files: list[Path]) -> list[Path]:
    """Files of one folder in order."""
    names = {file: _parse(file.stem) for file in files}
    taken, other = (
        sorted(files, key=lambda file: (_key(names[file], reading), file.name))
        for reading in _readings(names.values())
    )
    for a, b in zip(taken, other):
        if a != b:
            warn_of_source(
                f"{a.parent}: {a.name} is taken before {b.name}; "
                "if that is wrong, rename the files so that all numbers have one width and no sign"
            )
            break
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
    in_order = sorted(
        folders, key=lambda folder: [natural_order(Path(part)) for part in folder.parts]
    )
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
    photos = {file.stem.casefold() for file in files if file.suffix.lower() in JPEG_SUFFIXES}
    unnamed = {_what(file) for file in files if not _mask_words(file)}
    masks = {
        file
        for file in files
        if (file.suffix.lower() not in JPEG_SUFFIXES and file.stem.casefold() in photos)
        or (_mask_words(file) and _what(file) in unnamed)
    }
    frames = [file for file in files if file not in masks]
    if masks:
        first = min(masks)
        warn_of_source(
            f"{first.parent}: {len(masks)} images beside frames, like {first.name}, count as masks and are "
            "left out; to take them, give a pattern"
        )
    _warn_of_twins(frames)
    return frames


def _mask_words(file: Path) -> frozenset[str]:
    return MASK_WORDS.intersection(re.split("[^a-z]+", file.stem.casefold()))


def _what(file: Path) -> tuple[Any, ...]:
    """What an image and its mask share: the numbers in their names, or their words."""
    numbers = _numbers(file)
    words = re.split(r"[\W_]+", file.stem.casefold())
    return numbers or tuple(word for word in words if word and word not in MASK_WORDS)


def _numbers(file: Path) -> tuple[Any, ...]:
    return tuple(
        (number.sign, int(number.whole), number.fraction) for number in _parse(file.stem)[0]
    )


def _warn_of_twins(files: list[Path]) -> None:
    """Tell of two series with the same numbers: left_1, right_1, left_2, right_2."""
    series: dict[str, int] = defaultdict(int)
    twins: dict[tuple[Any, ...], list[tuple[Path, str]]] = defaultdict(list)
    for file in sorted(files):
        numbers, tail = _parse(file.stem)
        shape = (numbers[-1].place if numbers else "") + tail + file.suffix.lower()
        series[shape] += 1
        if numbers:
            twins[_numbers(file)].append((file, shape))
    for same in twins.values():
        if len(same) > 1 and any(series[shape] > 1 for _, shape in same):
            (a, _), (b, _) = same[:2]
            warn_of_source(
                f"{a.parent}: {a.name} and {b.name} have the same number, and both are taken; "
                "for one of the two series give a pattern"
            )
            return


def warn_of_source(message: str) -> None:
    """Say that something may not be what was meant, in one line."""
    warnings.warn(message, SourceWarning, stacklevel=2)
