"""What files say of themselves, read without decoding: is it cut short, how many pictures it has."""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from ..support.files import BYTE_ORDER_MARKS

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # with which an .mp4 or .mov begins
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes by which a video file is shorter than its container says; 0 where it does not say.

    Sources: RIFF with OpenDML (.avi); ISO/IEC 14496-12, 4.2 (.mp4, .mov); RFC 8794, 4 to 6 (.mkv,
    .webm).  Others (.ts, .mpg, .ogv), streams, and a file that has gone do not say.
    """
    try:
        with open(path, "rb") as file:
            there = file.seek(0, os.SEEK_END)
            head = _read_at(file, 0, 12)
            if head[:4] == b"RIFF":
                stated = _end_of_riff(file)
            elif head[:4] == _EBML:
                stated = _end_of_matroska(file)
            else:
                stated = _end_of_boxes(file) if head[4:8] in _BOXES else 0
    except OSError:
        return 0
    return max(stated - there, 0)


def is_avi(path: str | os.PathLike[str]) -> bool:
    """Whether a video file is an .avi, by its first bytes.  Its header counts its pictures."""
    return _head(path, 4) == b"RIFF"


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as text, which FFmpeg would draw as a video, or take for a list of
    other files.
    """
    head = _head(path, 1024)
    marked = any(head.startswith(marks) for marks in BYTE_ORDER_MARKS.values())
    return marked or (len(head) > 0 and not re.search(rb"[^\t-\r\x1b -\xff]", head))


def _head(path: str | os.PathLike[str], count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:  # it has gone meanwhile
        return b""


def _end_of_riff(file: BinaryIO) -> int:
    """Of the last such chunk: a large file has several.  One still being written has no size."""
    at = 0
    while (head := _read_at(file, at, 8))[:4] == b"RIFF" and len(head) == 8:
        (size,) = struct.unpack("<I", head[4:])
        if size == 0xFFFFFFFF:
            break
        at += 8 + size
    return at


def _end_of_boxes(file: BinaryIO) -> int:
    """The end of the last box that has frames or tells where they are; a size of 0 or 1 is none."""
    at = end = 0
    while len(head := _read_at(file, at, 16)) >= 8:
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:
            break
        at += size
        if kind in (b"moov", b"mdat", b"moof"):
            end = at
    return end


def _end_of_matroska(file: BinaryIO) -> int:
    head = _read_at(file, 0, 256)
    at = 4
    for element in (_EBML, _SEGMENT):
        if head[at - 4 : at] != element or not head[at : at + 1]:
            return 0
        width = 9 - head[at].bit_length()  # of the size: by the zeros in front of its first bit
        size = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
        if width > 8 or size == (1 << 7 * width) - 1:  # all ones: not known
            return 0
        at += width + size + 4
    return at - 4


def _read_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def count_packets(path: str | os.PathLike[str]) -> int:
    """How many pictures a video file stores, read but not decoded: the most frames it can have.

    An .mp4 that was cut without encoding stores more than it shows.  0 where it cannot be told.
    """
    import cv2

    video = cv2.VideoCapture(str(Path(path).absolute()), cv2.CAP_FFMPEG)
    count = 0
    if video.set(cv2.CAP_PROP_FORMAT, -1):  # packets as they are
        while video.grab():
            count += 1
    video.release()
    return count


def tiff_pages(file: BinaryIO) -> list[int]:
    """Numbers of a TIFF's pages, without reduced copies of others (thumbnails); [] for another
    file.

    Source: TIFF 6.0, sections 2 and 8 (NewSubfileType); BigTIFF has wider numbers.
    """
    pages: list[int] = []
    seen: set[int] = set()  # where pages begin: damaged files have loops
    try:
        head = file.read(16)
        order = {b"II*\0": "<", b"II+\0": "<", b"MM\0*": ">", b"MM\0+": ">"}[head[:4]]
        big = b"+" in head[:4]
        # A page: how many entries, the entries in the order of their tags, where the next page is.
        count, entry_size, where = (
            (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
        )
        (at,) = struct.unpack_from(where, head, 8 if big else 4)
        while at and at not in seen:
            file.seek(at)
            (entries,) = struct.unpack(count, file.read(struct.calcsize(count)))
            entry = file.read(entry_size)
            (tag,) = struct.unpack_from(order + "H", entry)
            (kind,) = struct.unpack_from(order + "I", entry, 12 if big else 8)
            if tag != 254 or not kind & 1:
                pages.append(len(seen))
            seen.add(at)
            file.seek(at + struct.calcsize(count) + entries * entry_size)
            (at,) = struct.unpack(where, file.read(struct.calcsize(where)))
    except (KeyError, struct.error, OverflowError, OSError, ValueError):
        pass  # no TIFF, or a damaged one: whoever decodes it says so
    return pages


def is_animated(data: bytes) -> bool:
    """Whether a PNG or a WebP has several pictures."""
    if data[:4] == b"\x89PNG":
        return b"acTL" in data[: max(data.find(b"IDAT"), 0)]
    return data[8:16] == b"WEBPVP8X" and bool(int.from_bytes(data[20:21], "big") & 2)
