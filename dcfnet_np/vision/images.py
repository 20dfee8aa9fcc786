"""Image files, decoded: (height, width, 3) uint8 BGR, or one clear error."""

from pathlib import Path

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
        if frame is not None:
            return to_bgr(frame)
        wrong = "does not decode as an image; replace it or leave it out"
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except (TypeError, ValueError) as error:
        wrong = f"cannot be used: {error}"
    raise SourceError(f"frame {number} ({file}) {wrong}")


def _decode_file(file: Path) -> np.ndarray | None:
    """A file with a single image.  Raises ValueError for one with several."""
    import cv2

    data = file.read_bytes()
    if (pages := count_pages(file)) > 1:
        advice = "give the file itself, whose pages are frames, or a file for each"
        raise ValueError(f"it has {pages} pages; {advice}")
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


def count_pages(path: Path) -> int:
    """Pages of a TIFF; 1 for another file, 0 for a damaged one."""
    import cv2

    return cv2.imcount(str(path)) if path.suffix.lower() in TIFF_SUFFIXES else 1
