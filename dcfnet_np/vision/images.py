"""Image files, decoded: (height, width, 3) uint8 BGR, or one clear error."""

import io
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .crop import to_bgr

TIFF_SUFFIXES = (".tif", ".tiff")


class SourceError(ValueError):
    """A source or a frame of it cannot be had; one line: what, where, what to do."""


def read_image(file: Path, number: int, page: int | None = None) -> np.ndarray:
    """Decode one image file to (height, width, 3) uint8 BGR; every depth and kind is converted.

    number: of the frame, counted from 1, for messages.  page: of a TIFF, counted from 0; without it
    a file of several pictures is refused, as all errors with SourceError.
    """
    try:
        frame = _decode_file(file) if page is None else _decode_page(file, page)
        wrong = (
            "" if frame is not None else "does not decode as an image; replace it or leave it out"
        )
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except ValueError as error:
        wrong = str(error)
    if not wrong:
        try:
            return to_bgr(frame)
        except (TypeError, ValueError) as error:
            wrong = f"cannot be used: {error}"
    raise SourceError(f"frame {number} ({file}) {wrong}")


def _decode_file(file: Path) -> np.ndarray | None:
    """A file with a single image.  Raises ValueError for one with several."""
    import cv2

    data = file.read_bytes()
    pages = tiff_pages(io.BytesIO(data))
    if len(pages) > 1:
        advice = "give the file itself, whose pages are frames, or a file for each"
        raise ValueError(f"has {len(pages)} pages; {advice}")
    if is_animated(data):
        raise ValueError("is an animation; make a video of it, or a file for each picture")
    if pages and pages[0] > 0:  # behind a thumbnail
        return _decode_page(file, pages[0])
    # IMREAD_COLOR turns gray and palette images to BGR, drops alpha and applies the camera's
    # orientation; ANYDEPTH keeps 16 bits for to_bgr.  OpenCV's TIFF reader can do neither with
    # float samples.
    tiff = file.suffix.lower() in TIFF_SUFFIXES
    flags = cv2.IMREAD_UNCHANGED if tiff else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    return decode_image(data, flags)


def _decode_page(file: Path, page: int) -> np.ndarray | None:
    import cv2

    try:
        there, images = cv2.imreadmulti(str(file), page, 1, flags=cv2.IMREAD_UNCHANGED)
    except cv2.error:  # too many pixels
        return None
    return images[0] if there and images else None


def decode_image(data: bytes, flags: int) -> np.ndarray | None:
    """An encoded image as OpenCV gives it for these flags; None where it does not decode.

    From bytes, since imread cannot open every file name on Windows.
    """
    import cv2

    if not _ends_where_it_says(data):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # no bytes, or too many pixels
        return None


def _ends_where_it_says(data: bytes) -> bool:
    """False for a PNG with a chunk that is longer than the file: OpenCV 5.0 then reads for ever."""
    at = 8
    while data[:4] == b"\x89PNG" and at < len(data) and data[at - 8 : at - 4] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return at <= max(len(data), 8)


def is_animated(data: bytes) -> bool:
    """Whether a PNG or a WebP has several pictures."""
    if data[:4] == b"\x89PNG":
        return b"acTL" in data[: max(data.find(b"IDAT"), 0)]
    return data[8:16] == b"WEBPVP8X" and bool(int.from_bytes(data[20:21], "big") & 2)


def stack_pages(path: Path) -> list[int]:
    """Numbers of a TIFF's pages; [] for another file."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return []
    try:
        with path.open("rb") as file:
            return tiff_pages(file)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened: {error.strerror}") from None


def tiff_pages(file: BinaryIO) -> list[int]:
    """Numbers of a TIFF's pages, without thumbnails of others; [] for another file.

    Source: TIFF 6.0, sections 2 and 8 (NewSubfileType); BigTIFF has wider numbers.
    """
    pages: list[int] = []
    seen: set[int] = set()  # where pages begin: damaged files have loops
    try:
        head = file.read(16)
        order = {b"II*\0": "<", b"II+\0": "<", b"MM\0*": ">", b"MM\0+": ">"}[head[:4]]
        big = b"+" in head[:4]
        # A page: how many entries, the entries in the order of their tags, where the next page is.
        count, size, where = (
            (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
        )
        width = struct.calcsize(count)
        (at,) = struct.unpack_from(where, head, 8 if big else 4)
        while at and at not in seen:
            file.seek(at)
            (entries,) = struct.unpack(count, file.read(width))
            entry = file.read(size)
            (tag,) = struct.unpack_from(order + "H", entry)
            (kind,) = struct.unpack_from(order + "I", entry, 12 if big else 8)
            if tag != 254 or not kind & 1:
                pages.append(len(seen))
            seen.add(at)
            file.seek(at + width + entries * size)
            (at,) = struct.unpack(where, file.read(struct.calcsize(where)))
    except (KeyError, struct.error, OverflowError, OSError, ValueError):
        pass  # no TIFF, or a damaged one: whoever decodes it says so
    return pages
