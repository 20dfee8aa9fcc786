"""Pictures of a result: the box, the response map.  Inputs are never written to.

Frames are (height, width, 3) uint8 BGR; colours are (blue, green, red).
"""

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

Colour = tuple[int, int, int]
GREEN: Colour = (64, 220, 64)
RED = (60, 60, 230)
AMBER = (0, 190, 255)
ORANGE, BLUE, PINK, CYAN = (0, 165, 255), (255, 128, 0), (200, 100, 255), (230, 200, 40)
TARGETS = (GREEN, ORANGE, CYAN, PINK, BLUE)  # colours of the first target, the second, ...
STATES = {"tracking": GREEN, "unsure": AMBER, "lost": RED}  # colour of a box by its target's state


def draw_box(
    frame: np.ndarray, box: Sequence[float], colour: Colour = GREEN, thickness: int | None = None
) -> np.ndarray:
    """A copy of `frame` with the outline of `box` (x, y, w, h; pixels, 0-based), none if it is not
    finite.

    thickness: of the line in pixels; None chooses it by the frame's size.
    """
    image = frame.copy()
    x, y, w, h = map(float, box)
    if all(map(math.isfinite, (x, y, w, h))):
        # The box covers the pixels x to x+w-1.
        corners = _pixel(x, y), _pixel(x + w - 1, y + h - 1)
        cv2.rectangle(image, *corners, colour, thickness or _thickness(frame))
    return image


def draw_trail(
    frame: np.ndarray, points: Iterable[Sequence[float]], colour: Colour = GREEN
) -> np.ndarray:
    """A copy of `frame` with the path through `points` (x, y; pixels, 0-based)."""
    image = frame.copy()
    path = [_pixel(x, y) for x, y in points]
    if len(path) > 1:
        cv2.polylines(
            image, [np.array(path, np.int32)], False, colour, _thickness(frame), cv2.LINE_AA
        )
    return image


def draw_label(
    frame: np.ndarray, box: Sequence[float], text: str, colour: Colour = GREEN
) -> np.ndarray:
    """A copy of `frame` with `text` above the box, or inside where it touches the upper edge."""
    image = frame.copy()
    size = max(0.4, min(frame.shape[:2]) / 600)
    height = round(25 * size)
    left, top = _pixel(*box[:2])
    base = top - 4 if top - 4 > height else top + height + 2
    put_text(image, text, (left, base), size, colour)
    return image


def put_text(
    image: np.ndarray, text: str, place: tuple[int, int], size: float, colour: Colour
) -> None:
    """Write on `image` itself, from the left end of the base line at `place`, with a dark rim:
    readable on any ground.

    The rim is the same text, black, a pixel away on every side: a thicker one would be wider
    (OpenCV 5).
    """
    rim = [((x, y), (0, 0, 0)) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y]
    for (x, y), ink in [*rim, ((0, 0), colour)]:
        where = (place[0] + x, place[1] + y)
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def response_inset(
    frame: np.ndarray, response: np.ndarray, fraction: float = 0.3, place: int = 0
) -> np.ndarray:
    """A copy of `frame` with the response map, in colours, in its top right corner.

    response: (H, W) real and finite, shown as it is: `TrackResult.response` has zero displacement
    in the middle.  Colours run from the map's minimum (dark blue) to its maximum (dark red).
    fraction: side of the inset over the frame's shorter side.  place: 1 for the inset below the
    first, and so on; one that would not fit is left out.
    """
    image = frame.copy()
    low, high = float(response.min()), float(response.max())
    grey = ((response - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    side = max(1, round(fraction * min(frame.shape[:2])))
    top = place * side
    if top + side <= len(image):
        coloured = cv2.applyColorMap(grey, cv2.COLORMAP_JET)
        image[top : top + side, -side:] = cv2.resize(coloured, (side, side))
    return image


def _pixel(x: float, y: float) -> tuple[int, int]:
    """OpenCV takes 32-bit numbers, so what runs far away is cut."""
    return round(min(max(x, -1e6), 1e6)), round(min(max(y, -1e6), 1e6))


def _thickness(frame: np.ndarray) -> int:
    return 1 + min(frame.shape[:2]) // 300
