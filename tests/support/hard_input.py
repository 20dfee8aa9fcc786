"""Hard frames and boxes, made by hypothesis, and what must hold for every piece of hard input: a
result, or one clear error.

A check says how an input ended: "result", or the error's name. It fails for anything else: another
exception, a message of several lines or without the file's name, a box that is not finite.
"""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dcfnet_np import network, weights
from dcfnet_np.tracker import MultiTracker, Tracker, TrackResult

LARGEST = 1e9  # pixels; a larger number in a box is an error
REFUSED = ValueError, TypeError

# --- what must hold


def clear(error: BaseException, *names: str) -> str:
    """The error's type, after making sure that its message is one line of reasonable length with
    `names` in it.
    """
    message = str(error)
    assert "\n" not in message and 10 < len(message) < 600, message[:2000]
    assert all(name in message for name in names), (names, message)
    return type(error).__name__


def good_box(box: Any, shape: tuple[int, ...]) -> None:
    """Finite, of positive size, no larger than the frame, and not further away than its search
    window reaches.
    """
    assert len(box) == 4 and all(isinstance(v, float) and math.isfinite(v) for v in box), box
    x, y, w, h = box
    largest = max(shape[:2])
    assert 0 < w <= largest and 0 < h <= largest, (box, shape)
    assert max(abs(x), abs(y)) <= 10 * largest, (box, shape)


def good_result(result: TrackResult, shape: tuple[int, ...], response: bool) -> None:
    good_box(result.box, shape)
    assert result.state in ("tracking", "unsure", "lost")
    assert result.ok == (result.state == "tracking")
    numbers = result.score, result.psr, result.scale
    assert all(isinstance(v, float) and math.isfinite(v) for v in numbers), result
    assert (result.response is not None) == response
    assert result.response is None or np.isfinite(result.response).all()


def good_rows(boxes: np.ndarray) -> None:
    """Boxes of a file: numbers of a possible size, or NaN for none."""
    assert boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype == np.float64, boxes
    assert not (abs(boxes) > 4 * LARGEST).any(), boxes


# --- frames and boxes

GOOD = "uint8", "uint16", "float32", "float64"
DTYPES = *GOOD, "bool", "int32", "float16", "complex64", "object", ">f4", ">u2"
NO_NUMBER = {"nan": np.nan, "inf": np.inf, "large": 255.0, "negative": -1e-3}
NO_FRAMES = (None, "frame", [[1, 2], [3, 4]], np.float64(3), np.zeros(0))
NO_BOXES = (None, "1234", b"abcd", {1: 2}, np.zeros((4, 4)), "x" * 10_000, (10**400, None, 1j, "7"))
LAYOUTS = (
    lambda frame: frame,
    lambda frame: np.repeat(frame, 2, 1)[:, ::2],
    lambda frame: frame[::-1, ::-1],
    np.asfortranarray,
)
HARD_NUMBERS = st.sampled_from((0.0, 1 - 1e-9, 5e-324, 1e9, -1e300, math.nan, math.inf))
SIDES = st.integers(8, 60) | st.integers(1, 250) | st.sampled_from((1, 2, 3, 4, 7))
SIZES = st.tuples(SIDES, SIDES) | st.sampled_from(((1, 4000), (4000, 1), (0, 5)))
WHICH = st.integers(0, 15)  # hypothesis likes the ends of a range; what is rare is in the middle


@st.composite
def pictures(draw: Any, size: tuple[int, int] | None = None, good: bool = False) -> np.ndarray:
    """size: (height, width) of it. good: one that is taken."""
    channels = draw(st.sampled_from((3, None, 1, 4) if good else (3, 3, None, 1, 4, 2, 0, 5)))
    dtype = np.dtype(draw(st.sampled_from(GOOD if good else DTYPES)))
    contents = *("noise",) * 8, "spot", "low", "high", *(() if good else NO_NUMBER)
    content, seed = draw(st.sampled_from(contents)), draw(st.integers(0, 2**16))
    shape = (*(size or draw(SIZES)), *(() if channels is None else (channels,)))
    unit = np.random.default_rng(seed).random(shape)
    if content in ("low", "high"):
        unit[...] = content == "high"
    elif content == "spot":
        unit = (unit == unit.max(initial=0)).astype(float)
    frame = (unit * {"i": 255, "u": 255**dtype.itemsize}.get(dtype.kind, 1)).astype(dtype)
    if dtype.kind in "fc" and content in NO_NUMBER and frame.size:
        frame.reshape(-1)[seed % frame.size :][: 1 + seed % 99] = NO_NUMBER[content]
    frame = draw(st.sampled_from(LAYOUTS))(frame)
    frame.setflags(write=seed % 2 == 0)
    return frame


@st.composite
def boxes_in(draw: Any, height: int, width: int) -> Any:
    """Boxes for a frame of this size: most are taken, also outside and thin."""
    how = draw(WHICH)
    if how == 7:
        return draw(st.sampled_from(NO_BOXES))
    if how == 9:
        return draw(st.tuples(*[HARD_NUMBERS | st.floats(-300, 300)] * 4))
    w, h = (draw(st.sampled_from((1.0, n, n / 2)) | st.floats(1, max(n, 1)))
            for n in (float(width), float(height)))  # fmt: skip
    box = draw(st.floats(-w, width)), draw(st.floats(-h, height)), w, h
    return draw(st.sampled_from((box, np.array(box, np.float32))))


# --- tracking

PRESETS = (
    "default:input_size=31",
    "paper:input_size=33",
    "matlab-v1:input_size=63",
    "pytorch:input_size=32",
    "careful:input_size=31:lost_after=1",
    "careful:input_size=31:lost_after=2:redetection=1000",
    "default:input_size=31:lam=0.0:min_size=0.5:learning_rate=1.0",
    "paper:num_scales=1:lam=0.0:window_power=0:input_size=8",
    "default:input_size=31:scale_step=3.0:padding=0.1:max_scale=1000.0:min_scale=1e-9",
)
SCALES = {"zero": 0.0, "tiny": 1e-30, "huge": 1e30}


@functools.cache
def untrained(kind: str = "light") -> weights.Weights:
    """Random weights of a network, or of `light` times a number of SCALES."""
    architecture, scale = ("light", SCALES[kind]) if kind in SCALES else (kind, 1.0)
    parameters = network.initialise(architecture, 3)
    scaled = {name: value * np.float32(scale) for name, value in parameters.items()}
    return weights.Weights(architecture, scaled)


@st.composite
def clips(draw: Any) -> Any:
    """(preset, weights, frames, boxes, whether maps are wanted)."""
    how = draw(WHICH)
    if how == 7:
        first, size = draw(st.sampled_from(NO_FRAMES)), (5, 5)
    else:
        first = draw(pictures(good=how != 9))
        size = first.shape[:2]
    frames = [first]
    for _ in range(draw(st.integers(1, 3))):
        how = draw(WHICH)
        frames.append(draw(pictures() if how == 7 else pictures(size, good=how != 9)))
    boxes = draw(st.lists(boxes_in(*size), min_size=1, max_size=3))
    kind = draw(st.sampled_from(("light",) * 8 + ("conv2", *SCALES)))
    return draw(st.sampled_from(PRESETS)), kind, frames, boxes, draw(st.booleans())


def check_tracking(value: Any, folder: Path) -> str:
    """A `Tracker` where there is one box, else a `MultiTracker`."""
    preset, kind, frames, boxes, response = value
    many, first, ended = len(boxes) > 1, frames[0], "result"
    tracker: Any = (MultiTracker if many else Tracker)(untrained(kind), preset, "cpu")
    for box in boxes:
        try:
            (tracker.add if many else tracker.init)(first, box)
        except REFUSED as error:
            ended = clear(error)
    if ended != "result" and not many:
        return ended
    for frame in frames[1:]:
        try:
            found = tracker.update(frame, response)
        except REFUSED as error:
            ended = f"{clear(error)} later"
            continue
        for result in found.values() if many else [found]:
            good_result(result, first.shape, response)
    return ended
