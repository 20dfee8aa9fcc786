"""MATLAB's .mat files of version 5 to 7.2, as far as networks are kept in them: numbers, texts,
cells, structures.

SciPy's reader ends the process on many a damaged file (docs/reference/robustness.md), so this one is made of
slices that are checked.  Source: MathWorks, "MAT-File Format", R2023b.
"""

import math
import struct
import zlib
from typing import Any

import numpy as np

LARGEST = 4 << 20  # bytes that a file may unfold to; the networks in question have under 1 MB
DEEPEST = 16  # cells and structures inside each other
MOST_DIMENSIONS = 32  # of an array; a kernel has four
MOST_FIELDS = 1000  # of a structure

EMPTY = np.empty((0, 0))
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class MatlabError(ValueError):
    """This is no such file, or a damaged one."""


def read_mat(data: bytes) -> dict[str, Any]:
    """The variables of a file by name.

    Numbers are arrays of the shape and dtype that they are stored with, a single one a Python
    number; texts are str; cells lists, column by column; a structure a dict, several of them a list
    of dicts.  What else there is (objects, functions, sparse and complex arrays) is None.  Raises
    MatlabError."""
    if data[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise MatlabError("not a .mat file of MATLAB 5 to 7.2")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, Any] = {}
    room = LARGEST
    elements = _Elements(memoryview(data)[128:], order)
    while elements:
        kind, content = elements.next()
        if kind == COMPRESSED:
            content = _inflate(content, room)
        room -= 8 + len(content)
        if room < 0:
            raise MatlabError("too large for a network")
        if kind == COMPRESSED:
            kind, content = _Elements(content, order).next()
        if kind == MATRIX:
            name, value = _matrix(content, order, DEEPEST)
            found[name] = value
    return found


def _inflate(data: memoryview, most: int) -> memoryview:
    unfolding = zlib.decompressobj()
    try:
        content = unfolding.decompress(data, most + 1)
    except zlib.error as error:
        raise MatlabError(str(error)) from None
    if not unfolding.eof:  # then the checksum was right
        raise MatlabError("a compressed variable is cut short or too large")
    return memoryview(content)


class _Elements:
    """Takes one data element after another off the front of `data`; each has a type, a length and
    contents.
    """

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order = data, order

    def __bool__(self) -> bool:
        return len(self.data) > 0

    def next(self) -> tuple[int, memoryview]:
        """(type, contents) of the next one."""
        if len(self.data) < 8:
            raise MatlabError("cut short")
        kind, length = struct.unpack_from(self.order + "II", self.data)
        start = 8
        # a short one: type and length share four bytes, the contents are the other four
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, 4
        end = start + length
        if end > (8 if start == 4 else len(self.data)):
            raise MatlabError("an element that reaches beyond its end")
        content = self.data[start:end]
        self.data = self.data[end if kind == COMPRESSED else -(-end // 8) * 8 :]
        return kind, content

    def numbers(self) -> np.ndarray:
        """The next one as an array."""
        kind, content = self.next()
        if kind not in DTYPES:
            raise MatlabError(f"numbers of unknown type {kind}")
        dtype = np.dtype(self.order + DTYPES[kind])
        if len(content) % dtype.itemsize:
            raise MatlabError("half a number")
        return np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))

    def few_numbers(self) -> list[Any]:
        """The next one as a list."""
        found = self.numbers()
        if len(found) > MOST_DIMENSIONS:  # their product would be multiplied for years
            raise MatlabError("an array of too many dimensions")
        return found.tolist()


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of an array of any class."""
    if not content:
        return "", EMPTY
    if depth == 0:
        raise MatlabError("cells and structures nested too deep")
    elements = _Elements(content, order)
    flags, shape = elements.few_numbers(), elements.few_numbers()
    name = bytes(elements.next()[1]).decode("latin-1")
    kind, is_complex = (int(flags[0]) & 0xFF, bool(int(flags[0]) & 0x800)) if flags else (0, False)
    if len(shape) < 2 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise MatlabError("an array without a shape")
    count = math.prod(shape)
    if kind in (CELL, STRUCT) and count > max(1, len(content) // 8):
        raise MatlabError("more cells or structures than there are bytes")
    if kind == CELL:
        return name, [_inner(elements, order, depth) for _ in range(count)]
    if kind == STRUCT:
        fields = _field_names(elements)
        structures = [
            {field: _inner(elements, order, depth) for field in fields} for _ in range(count)
        ]
        return name, structures[0] if count == 1 else structures
    if kind == CHAR:
        return name, _text(elements, order)
    if kind not in NUMBERS or is_complex:
        return name, None
    values = elements.numbers()
    if len(values) != count:
        raise MatlabError(f"{len(values)} numbers for a shape of {count}")
    return name, values[0].item() if count == 1 else values.reshape(shape, order="F")


def _inner(elements: _Elements, order: str, depth: int) -> Any:
    kind, content = elements.next()
    if kind != MATRIX:
        raise MatlabError("no array where one must be")
    return _matrix(content, order, depth - 1)[1]


def _field_names(elements: _Elements) -> list[str]:
    """Names of equal length, filled up with zeros."""
    length, names = elements.few_numbers(), bytes(elements.next()[1])
    if (
        len(length) != 1
        or not isinstance(length[0], int)
        or not len(names) <= MOST_FIELDS * length[0]
    ):
        raise MatlabError("a structure without names")
    step = max(1, length[0])
    return [
        names[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)
    ]


def _text(elements: _Elements, order: str) -> str:
    kind, content = elements.next()
    encoding = ENCODINGS.get(kind)
    if encoding is None:
        raise MatlabError(f"a text of unknown type {kind}")
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    try:
        return bytes(content).decode(encoding)
    except UnicodeDecodeError:
        raise MatlabError("a text that does not decode") from None
