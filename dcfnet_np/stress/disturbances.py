"""What can happen to a target: each disturbance changes the frames of a video and says where the
target is in them.

A disturbance is a function of a frame as it was, the box of its target, and a `Moment`: how strong
it is, and how long it has lasted.  It returns the frame as a tracker shall see it and the box of
the target there, NaN where the target cannot be seen.  Frames are (H, W, 3) uint8 BGR, boxes
(x, y, w, h) float64, pixels, 0-based.  A frame that was given is never written to.

What a camera would see beyond the edge of the frame is not known: there the edge goes on.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ..vision.boxes import iou

NOWHERE = np.full(4, np.nan)
OCCLUDER = 1.4  # its width and height, of the target's
COMES = 5  # frames that an occluder takes to come, and to go
PANS = 10  # frames that the camera takes to look away, and back
RAMP = 30  # frames of a slow change
SETTLES = 10  # frames of a change that stays, before the tracker is judged
BLINK = 3  # frames of a flash


class Moment(NamedTuple):
    """One frame of a disturbance.

    time: frames since it began, 0 for the first.  strength: in `Disturbance.unit`.  direction: a
    drawn angle in radians.  texture: (h, w, 3), a piece of another video.  seed: of this frame.
    """

    time: int
    strength: float
    direction: float
    texture: np.ndarray
    seed: int


Changed = tuple[np.ndarray, np.ndarray]  # a frame, and the box of its target
Change = Callable[[np.ndarray, np.ndarray, Moment], Changed]


class Disturbance(NamedTuple):
    """name, unit: for people.  strengths: what is tried, the weakest first.

    change: makes a frame.  lasts(strength): frames until the target shall be tracked as before.
    skips: frames of the video that are dropped where it begins, by the strength.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    change: Change
    lasts: Callable[[float], int]
    skips: bool = False


def progress(time: int, frames: int) -> float:
    """How much of a slow change of so many frames has happened after frame `time`: 0 to 1."""
    return min(1.0, (time + 1) / frames)


# --- geometry


def transform(frame: np.ndarray, box: np.ndarray, matrix: np.ndarray) -> Changed:
    """The frame under a linear map (2, 2) of (x, y) around the middle of the target.

    The new box is the smallest around the ellipse that fills the old one: a box that turns does not
    grow by its corners, where there is seldom anything of the target.
    """
    half = box[2:] / 2
    centre = box[:2] + half
    # A pixel's centre is half a pixel from its corner, from which boxes are counted.
    middle = centre - 0.5
    affine = np.column_stack([matrix, middle - matrix @ middle])
    shrinks = 1 / min(np.linalg.norm(matrix, axis=1))
    if shrinks > 1.2:  # what is too fine for the new pixels is smoothed first
        frame = cv2.GaussianBlur(frame, (0, 0), 0.5 * shrinks)
    new_half = np.hypot(*(matrix * half).T)
    return _warp(frame, affine), np.concatenate([centre - new_half, 2 * new_half])


def shift(frame: np.ndarray, box: np.ndarray, by: np.ndarray) -> Changed:
    """The frame, moved by (x, y) pixels, as by a camera that turns."""
    affine = np.column_stack([np.eye(2), by])
    return _warp(frame, affine), box + np.array([*by, 0, 0])


def _warp(frame: np.ndarray, affine: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return cv2.warpAffine(frame, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)


def paste(
    frame: np.ndarray, patch: np.ndarray, centre: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """A copy of the frame with a patch around `centre` (x, y), as far as it is inside.

    mask: (h, w), 1 where the patch hides the frame.
    """
    height, width = patch.shape[:2]
    left, top = np.round(centre - np.array([width, height]) / 2).astype(int)
    rows = slice(max(top, 0), min(top + height, frame.shape[0]))
    columns = slice(max(left, 0), min(left + width, frame.shape[1]))
    result = frame.copy()
    if rows.start < rows.stop and columns.start < columns.stop:
        inner = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        seen, share = patch[inner], 1.0 if mask is None else mask[inner][..., None]
        result[rows, columns] = np.rint(share * seen + (1 - share) * result[rows, columns])
    return result


def nothing(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """No change: what a tracker loses without any disturbance, or by dropped frames alone."""
    return frame, box


def jump(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The camera is knocked, and stays where it is then."""
    length = now.strength * np.sqrt(box[2:].prod())
    return shift(frame, box, length * np.array([np.cos(now.direction), np.sin(now.direction)]))


def turn(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The picture turns around the target, slowly."""
    return _turned(frame, box, now.strength * progress(now.time, RAMP), now.direction)


def roll(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The picture turns around the target from one frame to the next."""
    return _turned(frame, box, now.strength, now.direction)


def _turned(frame: np.ndarray, box: np.ndarray, degrees: float, direction: float) -> Changed:
    angle = np.radians(degrees) * (1 if np.cos(direction) > 0 else -1)
    cos, sin = np.cos(angle), np.sin(angle)
    return transform(frame, box, np.array([[cos, -sin], [sin, cos]]))


def zoom_in(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The target grows."""
    factor = now.strength ** progress(now.time, RAMP)
    return transform(frame, box, np.diag([factor, factor]))


def zoom_out(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The target shrinks."""
    factor = now.strength ** -progress(now.time, RAMP)
    return transform(frame, box, np.diag([factor, factor]))


def stretch(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The target gets wider and lower, or narrower and higher; its area stays."""
    sign = 1 if np.cos(now.direction) > 0 else -1
    factor = now.strength ** (0.5 * sign * progress(now.time, RAMP))
    return transform(frame, box, np.diag([factor, 1 / factor]))


def leave(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The camera looks away, until the target is out of the picture, and back."""
    height, width = frame.shape[:2]
    gaps = {  # how far the target is from being out, with a quarter of its size to spare
        (-1, 0): box[0] + 1.25 * box[2],
        (1, 0): width - box[0] + 0.25 * box[2],
        (0, -1): box[1] + 1.25 * box[3],
        (0, 1): height - box[1] + 0.25 * box[3],
    }
    side = min(gaps, key=lambda each: gaps[each])
    back = 2 * PANS + now.strength - now.time - 1
    share = max(0.0, min(1.0, (now.time + 1) / PANS, back / PANS))
    changed, moved = shift(frame, box, share * gaps[side] * np.array(side))
    inside = iou(moved, [max(moved[0], 0), max(moved[1], 0), *_inside(moved, width, height)])
    return changed, moved if inside > 0.5 else NOWHERE


def _inside(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Width and height of the part of a box that is in the frame."""
    end = np.minimum(box[:2] + box[2:], [width, height])
    return np.maximum(end - np.maximum(box[:2], 0), 0)


# --- something comes in between


def occlude(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Something larger than the target crosses it from one side and hides it for some frames."""
    place = _crossing(now)
    return _covered(frame, box, place, now), NOWHERE if abs(place) < 0.2 else box


def occlude_half(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Something comes from the side, hides half of the target for some frames, and goes back."""
    half = box[2] / 2 / _reach(box)
    place = 1 - (1 - abs(_crossing(now))) * half
    return _covered(frame, box, place if np.cos(now.direction) > 0 else -place, now), box


def _crossing(now: Moment) -> float:
    """Where an occluder is: from -1, beside the target, to 0, on it, for some frames, and to 1."""
    if now.time < COMES:
        return progress(now.time, COMES) - 1
    return min(1.0, max(0.0, (now.time + 2 - COMES - now.strength) / COMES))


def _reach(box: np.ndarray) -> float:
    """Pixels between the middles of target and occluder when they touch."""
    return float(1 + OCCLUDER) / 2 * box[2]


def _covered(frame: np.ndarray, box: np.ndarray, place: float, now: Moment) -> np.ndarray:
    if abs(place) >= 1:
        return frame
    width, height = np.maximum(np.round(OCCLUDER * box[2:]).astype(int), 1).tolist()
    patch = cv2.resize(now.texture, (width, height), interpolation=cv2.INTER_AREA)
    return paste(frame, patch, box[:2] + box[2:] / 2 + np.array([place * _reach(box), 0]))


def look_alike(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """A copy of the target passes beside it.  The strength says how near: 1 over the distance."""
    x, y, w, h = box
    left, top = int(max(x, 0)), int(max(y, 0))
    patch = frame[top : int(y + h), left : int(x + w)]
    if not patch.size:
        return frame, box
    height, width = patch.shape[:2]
    rows = (np.arange(height) + 0.5) * 2 / height - 1
    columns = (np.arange(width) + 0.5) * 2 / width - 1
    radius = np.hypot(rows[:, None], columns)
    mask = np.clip((1 - radius) / 0.15, 0, 1)  # an ellipse with a soft edge
    along = 2 * (2 * progress(now.time, RAMP) - 1)  # in target widths
    away = (1 if np.sin(now.direction) > 0 else -1) / now.strength
    centre = box[:2] + box[2:] * (0.5 + np.array([along, away]))
    return paste(frame, patch, centre, mask), box


# --- light and sharpness


def fade(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """It gets darker."""
    return _brightness(frame, now.strength ** -progress(now.time, RAMP)), box


def flash(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Too much light for some frames."""
    return _brightness(frame, now.strength if now.time < BLINK else 1.0), box


def _brightness(frame: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(frame * np.float32(factor)), 0, 255).astype(np.uint8)


def blur(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """The camera shakes: every point is a line, as long as the strength says, in target sizes."""
    if now.time >= SETTLES:
        return frame, box
    length = now.strength * np.sqrt(box[2:].prod())
    count = max(1, round(length))
    side = 2 * (count // 2) + 3
    kernel = np.zeros((side, side), np.float32)
    way = np.array([np.cos(now.direction), np.sin(now.direction)])
    for step in np.linspace(-0.5, 0.5, 4 * count):
        column, row = np.rint(side // 2 + step * length * way).astype(int)
        kernel[row, column] += 1
    return cv2.filter2D(frame, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), box


def noise(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Normal noise on every value."""
    draws = np.random.default_rng(now.seed).standard_normal(frame.shape, np.float32)
    return np.clip(np.rint(frame + now.strength * draws), 0, 255).astype(np.uint8), box


def jpeg(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Much compressed.  The strength is 100 less JPEG's quality."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(100 - now.strength)]
    decoded = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
    return np.asarray(decoded), box


def coarse(frame: np.ndarray, box: np.ndarray, now: Moment) -> Changed:
    """Seen by a camera of fewer pixels."""
    height, width = frame.shape[:2]
    size = max(1, round(width / now.strength)), max(1, round(height / now.strength))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), box


# --- the list


def _at_once(strength: float) -> int:
    return 1


def _ramp(strength: float) -> int:
    return RAMP


def _settled(strength: float) -> int:
    return SETTLES


def _crossed(strength: float) -> int:
    return 2 * COMES + int(strength)


def _looked_away(strength: float) -> int:
    return 2 * PANS + int(strength)


DISTURBANCES = {
    each.name: each
    for each in (
        Disturbance("none", "", (0,), nothing, _at_once),
        Disturbance("occlusion", "frames hidden", (5, 10, 20, 40), occlude, _crossed),
        Disturbance("half-occlusion", "frames half hidden", (10, 20, 40), occlude_half, _crossed),
        Disturbance("leave", "frames away", (5, 10, 20, 40), leave, _looked_away),
        Disturbance("jump", "target sizes", (0.5, 1, 1.5, 2), jump, _at_once),
        Disturbance("dropped", "frames dropped", (2, 5, 10, 20), nothing, _at_once, skips=True),
        Disturbance("look-alike", "1 / distance", (0.5, 0.7, 1, 1.4), look_alike, _ramp),
        Disturbance("zoom-in", "times", (1.5, 2, 3), zoom_in, _ramp),
        Disturbance("zoom-out", "times", (1.5, 2, 3), zoom_out, _ramp),
        Disturbance("stretch", "width over height", (1.5, 2, 4), stretch, _ramp),
        Disturbance("turn", "degrees, slowly", (30, 60, 90), turn, _ramp),
        Disturbance("roll", "degrees, at once", (10, 20, 45, 90), roll, _at_once),
        Disturbance("fade", "times darker", (2, 4, 8), fade, _ramp),
        Disturbance("flash", "times brighter", (2, 4, 8), flash, lambda strength: BLINK),
        Disturbance("blur", "target sizes", (0.25, 0.5, 1), blur, _settled),
        Disturbance("noise", "grey levels", (10, 25, 50), noise, _settled),
        Disturbance("jpeg", "100 - quality", (80, 90, 97), jpeg, _settled),
        Disturbance("coarse", "times fewer pixels a side", (2, 4, 8), coarse, _settled),
    )
}
