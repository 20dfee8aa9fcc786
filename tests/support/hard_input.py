"""Hard input, made by hypothesis, and what must hold for every piece of it: a result, or one clear
error.

`KINDS` are kinds of input, each with a strategy that makes it and a check that says how it ended:
"result", or the error's name.  A check fails for anything else: another exception, a message of
several lines or without the file's name, a box that is not finite, a jump in memory.

A damaged file may end the process inside a library written in C, or hang it.  So `apart` tries a
batch in a process of its own, with limits on memory and time; what was tried last then lies in its
folder.  By hand, a batch is

    python tests/support/hard_input.py KIND COUNT SEED FOLDER
"""

import contextlib
import dataclasses
import faulthandler
import functools
import io
import json
import math
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

# As the command does, before OpenCV is loaded: no lines of its own.
os.environ |= {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

import cv2
import h5py
import numpy as np
import scipy.io
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from scenes import make_frames, write_images, write_video
from weight_files import legacy, state_of, write_net, zipped

from dcfnet_np import cli, datasets, network, presets, weights
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.evaluation import results, runner
from dcfnet_np.multi_tracker import MultiTracker
from dcfnet_np.tracker import Tracker, TrackResult
from dcfnet_np.train.crops import CropWriter, read_crops
from dcfnet_np.train.pairs import epoch_pairs
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.crop import crop_patches, to_bgr
from dcfnet_np.vision.images import SourceError, read_image
from dcfnet_np.vision.sources import open_source

EXAMPLE_SECONDS = 300  # after which one input counts as a hang
EXAMPLE_MB = 400  # that one input may add to the peak
PROCESS_GB = 6  # of addresses, for a process
LARGEST = 1e9  # pixels; a larger number in a box is an error


# --- what must hold
# ------------------------------------------------------------------------------------------


def clear(error: BaseException, *names: str) -> str:
    """The error's type, after making sure that its message is one line of reasonable length with
    `names` in it.
    """
    message = str(error)
    assert "\n" not in message and 10 < len(message) < 600, message[:2000]
    for name in names:
        assert name in message, (name, message)
    return type(error).__name__


def good_box(box: Any, shape: tuple[int, ...]) -> None:
    """Finite, of positive size, no larger than the frame, and not further away than its search
    window reaches.
    """
    assert len(box) == 4 and all(
        isinstance(value, float) and math.isfinite(value) for value in box
    ), box
    x, y, w, h = box
    largest = max(shape[:2])
    assert 0 < w <= largest and 0 < h <= largest, (box, shape)
    assert max(abs(x), abs(y)) <= 10 * largest, (box, shape)


def good_result(result: TrackResult, shape: tuple[int, ...], response: bool) -> None:
    good_box(result.box, shape)
    assert result.state in ("tracking", "unsure", "lost") and result.ok == (
        result.state == "tracking"
    )
    for value in (result.score, result.psr, result.apce, result.scale):
        assert isinstance(value, float) and math.isfinite(value), result
    assert (result.response is not None) == response
    assert result.response is None or np.isfinite(result.response).all()


def good_rows(boxes: np.ndarray) -> str:
    """Boxes of a file: numbers of a possible size, or NaN for none."""
    assert boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype == np.float64, boxes
    assert not (abs(boxes) > 4 * LARGEST).any(), boxes
    return "result"


# --- frames and boxes
# ----------------------------------------------------------------------------------------

DTYPES = (
    "uint8",
    "uint16",
    "float32",
    "float64",
    "bool",
    "int32",
    "float16",
    "complex64",
    "object",
    ">f4",
    ">u2",
)
CONTENTS = (
    "noise",
    "noise",
    "noise",
    "noise",
    "ramp",
    "spot",
    "low",
    "high",
    "nan",
    "inf",
    "large",
    "negative",
)
LAYOUTS = ("plain", "steps", "reversed", "transposed", "read-only")
NO_FRAMES = (
    None,
    "frame",
    b"frame",
    [[1, 2], [3, 4]],
    7,
    np.float64(3),
    np.zeros(0),
    np.zeros((2, 2, 2, 2), np.uint8),
)


class Picture(NamedTuple):
    """How to make a frame."""

    height: int = 1
    width: int = 1
    channels: int | None = 3
    dtype: str = "uint8"
    content: str = "noise"
    layout: str = "plain"
    seed: int = 0

    def make(self) -> np.ndarray:
        height, width, channels, dtype, content, layout, number = self
        rng = np.random.default_rng(number)
        shape = (height, width, *([] if channels is None else [channels]))
        values = rng.random(shape)
        if content == "ramp":
            values = np.broadcast_to(
                np.linspace(0, 1, max(width, 1)).reshape(1, -1, *[1] * (len(shape) - 2)), shape
            )
        elif content in ("low", "high"):
            values = np.full(shape, float(content == "high"))
        elif content == "spot":
            values = np.zeros(shape)
            values[height // 2 :, width // 2 :][:1, :1] = 1
        scale = (
            {"u": 255, "b": 1, "i": 255}.get(np.dtype(dtype).kind, 1)
            if dtype != "uint16"
            else 65535
        )
        frame = (values * scale).astype(dtype)
        if np.dtype(dtype).kind in "fc" and content in ("nan", "inf", "large", "negative"):
            bad = {"nan": np.nan, "inf": np.inf, "large": 255.0, "negative": -1e-3}[content]
            frame[rng.random(shape) < (0.5 if number % 2 else 0.01)] = bad
            frame.reshape(-1)[number % frame.size if frame.size else 0 :][:1] = bad
        if layout == "steps":
            frame = np.repeat(np.repeat(frame, 2, 0), 2, 1)[::2, ::2]
        elif layout == "reversed":
            frame = frame[::-1, ::-1]
        elif layout == "transposed":
            frame = np.asfortranarray(frame)
        elif layout == "read-only":
            frame.setflags(write=False)
        return frame


SIDES = st.sampled_from((1, 2, 3, 4, 7)) | st.integers(1, 60) | st.integers(1, 250)
SIZES = st.tuples(SIDES, SIDES) | st.sampled_from(((1, 4000), (4000, 1), (2, 1500), (0, 5)))
SEEDS = st.integers(0, 2**16)
COLOURS = st.sampled_from((3, 3, 3, None, 1, 4, 2, 0, 5))


@st.composite
def pictures(draw: Any, size: tuple[int, int] | None = None, good: bool = False) -> Picture:
    """size: (height, width) of it.  good: one that is taken."""
    height, width = size or draw(SIZES)
    channels = draw(st.sampled_from((3, None, 1, 4)) if good else COLOURS)
    dtype = draw(st.sampled_from(DTYPES[:4] if good else DTYPES))
    content = draw(st.sampled_from(CONTENTS[:8] if good else CONTENTS))
    return Picture(
        height, width, channels, dtype, content, draw(st.sampled_from(LAYOUTS)), draw(SEEDS)
    )


HARD_NUMBERS = st.sampled_from(
    (
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1 - 1e-9,
        1e-9,
        5e-324,
        1e9,
        1e300,
        -1e300,
        math.nan,
        math.inf,
        -math.inf,
        2**31,
        2**63,
    )
) | st.floats(-300, 300)
NO_NUMBERS = st.sampled_from(
    (None, "7", "x", b"7", 10**400, 1j, True, [1.0], np.float32(2), np.zeros(1), np.zeros(3))
)
NO_BOXES = st.sampled_from(
    (None, 7, "1234", b"abcd", "", {}, {1: 2}, np.zeros((4, 4)), np.zeros(0), "x" * 10_000)
)


@st.composite
def boxes_in(draw: Any, height: int, width: int) -> Any:
    """A box for a frame, of any kind."""
    how = draw(st.integers(0, 19))
    if how == 0:
        return draw(st.lists(HARD_NUMBERS | NO_NUMBERS, max_size=6))
    if how == 1:
        return draw(NO_BOXES)
    if how == 2:
        return tuple(draw(st.lists(HARD_NUMBERS, min_size=4, max_size=4)))
    # Fractions of the frame, also outside and thin: most are taken.
    w = draw(st.sampled_from((1.0, float(width), width / 2)) | st.floats(1, max(width, 1)))
    h = draw(st.sampled_from((1.0, float(height), height / 2)) | st.floats(1, max(height, 1)))
    x, y = draw(st.floats(-w, width)), draw(st.floats(-h, height))
    box: Any = (x, y, w, h)
    return [box, list(box), np.array(box), np.array(box, np.float32)][draw(st.integers(0, 3))]


PRESETS = {
    name: dataclasses.replace(presets.PRESETS[base], **{"input_size": 31, **changes, "name": name})
    for name, base, changes in (
        ("tiny", "default", {}),
        ("tiny-paper", "paper", {"input_size": 33}),
        ("tiny-v1", "matlab-v1", {"input_size": 63}),
        ("tiny-pytorch", "pytorch", {"input_size": 32}),
        ("tiny-careful", "careful", {"lost_after": 1}),
        ("tiny-whole", "careful", {"lost_after": 2, "redetection": 1000}),
        (
            "tiny-fine",
            "default",
            {"subpixel": True, "continuous_scale": True, "aspect_step": 1.02, "second_rate": 0.1},
        ),
        ("tiny-no-lam", "default", {"lam": 0.0, "min_size": 0.5, "learning_rate": 1.0}),
        (
            "tiny-one",
            "paper",
            {"num_scales": 1, "lam": 0.0, "cosine_window": False, "input_size": 8},
        ),
        (
            "tiny-steep",
            "default",
            {"scale_step": 3.0, "padding": 0.1, "max_scale": 1000.0, "min_scale": 1e-9},
        ),
    )
}

# for speed
SMALLEST = dataclasses.replace(
    presets.PRESETS["default"], input_size=15, num_scales=1, name="smallest"
)


@functools.cache
def untrained(architecture: str = "light") -> weights.Weights:
    return weights.Weights(architecture, network.initialise(architecture, seed=3))


@functools.cache
def hard_weights(kind: str) -> weights.Weights:
    """Weights of the right shapes with values that nobody trained: zero, tiny, huge."""
    if kind in ("light", "conv2"):
        return untrained(kind)
    scale = {"zero": 0.0, "tiny": 1e-30, "huge": 1e30}[kind]
    parameters = {
        name: value * np.float32(scale) for name, value in network.initialise("light", 3).items()
    }
    return weights.Weights("light", parameters)


@functools.cache
def tracker_of(preset: str, kind: str, band: str | None, many: bool) -> Any:
    """One of a kind for all inputs of a process, so that what one leaves behind meets the next."""
    return (MultiTracker if many else Tracker)(hard_weights(kind), PRESETS[preset], "cpu", band)


@st.composite
def videos(draw: Any) -> Any:
    """(preset, weights, band, frames, boxes, whether maps are wanted)."""
    first = (
        draw(pictures(good=draw(st.integers(0, 7)) > 0))
        if draw(st.integers(0, 31))
        else draw(st.integers(0, 7))
    )
    size = first[:2] if isinstance(first, Picture) else (5, 5)
    frames = [first]
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.integers(0, 19))
        frames.append(draw(pictures() if how == 0 else pictures(size, good=how > 1)))
    boxes = draw(st.lists(boxes_in(*size), min_size=1, max_size=3))
    kind = draw(st.sampled_from(("light",) * 5 + ("conv2", "zero", "tiny", "huge")))
    return (
        draw(st.sampled_from(sorted(PRESETS))),
        kind,
        draw(st.sampled_from(("auto", "auto", None))),
        frames,
        boxes,
        draw(st.booleans()),
    )


def frame_of(picture: Any) -> Any:
    return picture.make() if isinstance(picture, Picture) else NO_FRAMES[picture]


def check_tracker(value: Any, folder: Path) -> str:
    preset, kind, band, pictures_, boxes, response = value
    tracker = tracker_of(preset, kind, band, False)
    first = frame_of(pictures_[0])
    try:
        tracker.init(first, boxes[0])
    except (ValueError, TypeError) as error:
        return clear(error)
    ended = "result"
    for picture in pictures_[1:]:
        frame = frame_of(picture)
        try:
            good_result(tracker.update(frame, response), first.shape, response)
        except (ValueError, TypeError) as error:
            ended = f"{clear(error)} later"
    return ended


def check_multi_tracker(value: Any, folder: Path) -> str:
    preset, kind, band, pictures_, boxes, response = value
    tracker = tracker_of(preset, kind, band, True)
    first = frame_of(pictures_[0])
    ids, ended = [], ""
    try:
        for box in boxes:
            try:
                ids.append(tracker.add(first, box))
            except (ValueError, TypeError) as error:
                ended = clear(error)
        for number, picture in enumerate(pictures_[1:]):
            try:
                found = tracker.update(frame_of(picture), response)
            except (ValueError, TypeError) as error:
                ended = f"{clear(error)} later"
                continue
            assert list(found) == ids
            for result in found.values():
                good_result(result, first.shape, response)
            if number == 1 and ids:
                tracker.remove(ids.pop(0))
    finally:
        for id in list(tracker._targets):
            tracker.remove(id)
    return ended or "result"


@st.composite
def crops_of(draw: Any) -> Any:
    picture = draw(pictures(good=True))
    number = HARD_NUMBERS.filter(math.isfinite)
    windows = draw(st.lists(st.tuples(number.map(abs), number.map(abs)), min_size=1, max_size=3))
    return (
        picture,
        (draw(number), draw(number)),
        windows,
        draw(st.integers(8, 40)),
        draw(st.booleans()),
    )


def check_crop(value: Any, folder: Path) -> str:
    picture, centre, windows, size, rounded = value
    try:
        frame = to_bgr(picture.make())
    except ValueError as error:
        return clear(error)
    patches = crop_patches(frame, centre, np.array(windows, float), size, rounded=rounded)
    assert patches.shape == (len(windows), 3, size, size) and patches.dtype == np.float32
    assert ((patches >= 0) & (patches <= 255.001)).all()  # also not NaN
    return "result"


# --- damaged files
# -------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: Any, count: int) -> Any:
    """(which of `count` files, what happens to its bytes): see `damage`."""
    where = st.floats(0, 1) | st.integers(0, 400) | st.integers(0, 4096) | st.integers(-400, -1)
    values = st.sampled_from(
        (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
    )
    steps = st.tuples(
        st.sampled_from(STEPS), where, values | st.integers(0, 255), st.integers(1, 64)
    )
    return draw(st.integers(0, count - 1)), draw(st.lists(steps, max_size=6))


STEPS = (
    "flip",
    "flip",
    "byte",
    "byte",
    "word",
    "long",
    "cut",
    "drop",
    "repeat",
    "splice",
    "zeros",
    "tail",
)


def damage(data: bytes, steps: Any) -> bytes:
    """Flip a bit, set a byte or a word, cut the end off, take a piece out, double or move one,
    blank one, append.
    """
    for step, where, value, length in steps:
        size = max(len(data), 1)
        at = int(where * (size - 1)) if isinstance(where, float) else where % size
        changed = bytearray(data)
        if step == "flip":
            changed[at : at + 1] = bytes(byte ^ 1 << value % 8 for byte in changed[at : at + 1])
        elif step == "byte":
            changed[at : at + 1] = bytes([value & 0xFF])
        elif step in ("word", "long"):
            width = 4 if step == "word" else 8
            changed[at : at + width] = (value % 256**width).to_bytes(width, "little")
        elif step == "cut":
            del changed[at:]
        elif step == "drop":
            del changed[at : at + length]
        elif step == "repeat":
            changed[at:at] = changed[at : at + length] * (1 + value % 8)
        elif step == "splice":
            source = value * 97 % size
            changed[at : at + length] = changed[source : source + length]
        elif step == "zeros":
            changed[at : at + length] = bytes(length)
        else:
            changed += random.Random(value).randbytes(length)
        data = bytes(changed)
    return data


def make_bytes(write: Callable[[Path], Any], suffix: str = ".bin") -> bytes:
    """What `write(path)` writes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


def released(*suffixes: str) -> list[tuple[str, bytes]]:
    """The authors' files, where $DCFNET_DATA has them."""
    folder = Path(os.environ.get("DCFNET_DATA", "nowhere")) / "weights"
    return [
        (path.suffix, path.read_bytes())
        for path in sorted(folder.glob("*"))
        if path.suffix in suffixes
    ]


def old_hdf5(path: Path) -> None:
    """The same content as h5py writes it by default: no checksums, texts on a heap, links, chunks."""
    weights.save_weights(path, untrained())
    with h5py.File(path) as file:
        attributes, values = (
            dict(file.attrs),
            {name: file[name][:] for name in ("conv1/weight", "conv1/bias")},
        )
        values |= {name: file[name][:] for name in ("conv2/weight", "conv2/bias")}
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value.decode() if isinstance(value, bytes) else value
        for index, (name, value) in enumerate(values.items()):
            options = (
                {"compression": "gzip", "shuffle": True, "fletcher32": True} if index % 2 else {}
            )
            file.create_dataset(name, data=value, **options)
        file["soft"], file["far"] = h5py.SoftLink("/conv1"), h5py.ExternalLink("other.h5", "/conv1")


def small_hdf5(path: Path) -> None:
    """Structure nearly alone: where a changed byte does most."""
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "dcfnet_np weights", 1
        file.attrs["architecture"], file.attrs["mean"] = "light", [1.0, 2.0, 3.0]
        file.create_dataset(
            "conv1/weight", data=np.zeros((32, 3, 3, 3), np.float32), compression="gzip"
        )
        file["conv1/bias"] = np.array(["text", "other"], h5py.string_dtype())
        file.create_dataset("more", (2, 2), np.float32, chunks=(1, 1), maxshape=(None, None))


def mat_arrays(path: Path, compress: bool) -> None:
    p = untrained().parameters
    arrays = {f"conv{i}_w": p[f"conv{i}.weight"].transpose(2, 3, 1, 0) for i in (1, 2)}
    arrays |= {f"conv{i}_b": p[f"conv{i}.bias"][:, None] for i in (1, 2)}
    scipy.io.savemat(path, arrays, do_compression=compress)


def small_mat(path: Path) -> None:
    cells = np.empty((1, 3), object)
    kernel = np.empty((1, 2), object)
    kernel[0] = [np.ones((3, 3, 2, 1), np.float32), np.zeros((1, 1))]
    cells[0] = [
        {"type": "conv", "weights": kernel, "dilate": 1},
        {"type": "relu"},
        {"type": "lrn", "param": [5, 1, 2]},
    ]
    meta = {
        "normalization": {"averageImage": np.ones((1, 1, 3), np.float32)},
        "arch": "DCFNet",
        "words": ["a", "bc"],
    }
    scipy.io.savemat(
        path,
        {
            "net": {"layers": cells, "meta": meta},
            "conv1_w": np.eye(3),
            "sparse": scipy.sparse.eye(3),
        },
    )


@functools.cache
def weight_files(kind: str) -> list[tuple[str, bytes]]:
    if kind == "h5":
        files = [
            make_bytes(lambda path, name=name: weights.save_weights(path, untrained(name)))
            for name in ("light", "conv2")
        ]
        files += [make_bytes(old_hdf5), make_bytes(small_hdf5)]
        return [(".h5", data) for data in files]
    if kind == "mat":
        p = untrained().parameters
        files = [make_bytes(lambda path: write_net(path, p), ".mat"), make_bytes(small_mat, ".mat")]
        files += [make_bytes(lambda path, c=c: mat_arrays(path, c), ".mat") for c in (True, False)]
        return [(".mat", data) for data in files] + released(".mat")
    files = [container(*state_of(untrained().parameters)) for container in (legacy, zipped)]
    files += [
        container(*state_of({"conv1.weight": np.ones((2, 3), np.float32)}))
        for container in (legacy, zipped)
    ]
    return [(".pth", data) for data in files] + released(".pth")


def check_weights(kind: str, value: Any, folder: Path) -> str:
    number, steps = value
    files = weight_files(kind)
    suffix, data = files[number % len(files)]
    path = folder / f"current{suffix}"
    path.write_bytes(damage(data, steps))
    try:
        found = weights.load_weights(path)
    except weights.WeightsError as error:
        return clear(error, path.name)
    assert all(
        np.isfinite(values).all() and values.dtype == np.float32
        for values in found.parameters.values()
    )
    # numbers may have changed: it must still track
    if kind != "h5" and found.architecture == "light":
        tracker = Tracker(found, PRESETS["tiny"], "cpu")
        frames = still_frames()
        try:
            tracker.init(frames[0], (20, 10, 16, 12))
        except ValueError as error:
            return f"{clear(error)} later"
        for frame in frames[1:3]:
            good_result(tracker.update(frame), frame.shape, False)
    return "result"


@functools.cache
def still_frames() -> np.ndarray:
    return make_frames(np.random.default_rng(0), 12)


@functools.cache
def crop_files() -> list[bytes]:
    def write(path: Path, margin: int) -> None:
        rng, side, expected = (
            np.random.default_rng(0),
            8 + 2 * margin,
            [("a", "1"), ("b", "2"), ("c", "3")],
        )
        with CropWriter(path, {"size": 8}, side, expected) as writer:
            for count in (3, 1, 4):
                writer.add(rng.integers(0, 256, (count, 3, side, side), np.uint8))
                writer.end_sequence(
                    np.arange(count, dtype=np.int32), np.ones((count, 4)), {"no box": 1}
                )
            attributes = {"padding": 2.0, "size": 8, "margin": margin, "skipped": "{}"}
            writer.finish(["a", "b", "c"], np.array([False, False, True]), attributes)

    return [make_bytes(lambda path, margin=margin: write(path, margin), ".h5") for margin in (0, 2)]


def check_crops(value: Any, folder: Path) -> str:
    (number, steps), margin, lazy = value
    path = folder / "current.h5"
    path.write_bytes(damage(crop_files()[number], steps))
    try:
        found = read_crops(path, margin=margin, lazy=lazy)
    except ValueError as error:
        return clear(error, path.name)
    n, m = len(found.crops), len(found.sequences)
    side = found.size + 2 * found.margin
    assert (
        found.crops.shape == (n, 3, side, side)
        and found.crops.dtype == np.uint8
        and int(found.crops.sum()) >= 0
    )
    assert found.sequence.shape == found.frame.shape == (n,) and found.box.shape == (n, 4)
    assert ((found.sequence >= 0) & (found.sequence < m)).all() and found.validation.shape == (m,)
    assert math.isfinite(found.padding) and found.padding > 0 and not np.isinf(found.box).any()
    try:
        pairs = epoch_pairs(found.sequence, found.frame, seed=0, epoch=0)
    except ValueError as error:
        return f"{clear(error)} later"
    assert pairs.size and pairs.min() >= 0 and pairs.max() < n
    return "result"


# --- files of numbers and texts
# ------------------------------------------------------------------------------

WORDS = st.sampled_from(
    (
        "1",
        "2.5",
        "-3",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e9",
        "1e400",
        "1e-400",
        "",
        "x",
        "0x10",
        "1_0",
        "٣",
        "²",
    )
    + (
        "9" * 400,
        "null",
        "true",
        '"',
        "'",
        "[",
        "]",
        "{",
        "}",
        "\ufeff",
        "\0",
        "é",
        "1 2",
        "1;2",
        "--",
        "+4",
        "1e",
    )
) | st.integers(-5, 500).map(str)
NEWLINES = st.sampled_from(("\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\u2028", ""))


@st.composite
def texts(draw: Any, suffix: str) -> bytes:
    """Rows of numbers and of what is none, as a table or as JSON."""
    how = draw(st.integers(0, 7))
    if how == 0:
        return draw(st.binary(max_size=60))
    columns = draw(st.sampled_from((4, 4, 4, 8, 3, 1, 5, 6, 9, 10)))
    cells = st.integers(0, 300).map(str) if how > 3 else WORDS
    rows = draw(st.lists(st.lists(cells, min_size=columns, max_size=columns), max_size=6))
    if suffix == ".json":
        names = draw(
            st.sampled_from(
                (("x", "y", "w", "h"),) * 3 + (("x", "y", "w"), ("frame", "x", "x", "h"))
            )
        )
        records = [dict(zip(names, [_json_word(word) for word in row])) for row in rows]
        text = json.dumps(
            draw(st.sampled_from((records, records, {"boxes": records}, records[:1] or 7)))
        )
        depth = draw(st.sampled_from((0, 0, 0, 1, 5000, 200_000)))
        text = "[" * depth + text + "]" * depth
    else:
        between = draw(st.sampled_from((",", "\t", " ", ", ", ";")))
        ends = draw(NEWLINES)
        head = (
            draw(st.sampled_from(("frame,x,y,w,h,score\n", "x,y,w,h\n", "")))
            if suffix == ".csv"
            else ""
        )
        mask = draw(st.sampled_from(("", "", "", "m")))
        text = head + "".join(mask + between.join(row) + ends for row in rows)
    data = text.encode(
        draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))), errors="replace"
    )
    if how in (1, 4):
        data = damage(data, draw(damaged(1))[1])
    if draw(st.integers(0, 200)) == 0:
        data += b'"' + b"7" * 200_000
    return data


def _json_word(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


@st.composite
def box_texts(draw: Any) -> Any:
    suffix = draw(st.sampled_from((".txt", ".csv", ".json")))
    return suffix, draw(st.integers(0, 2)), draw(texts(suffix))


def check_boxes(value: Any, folder: Path) -> str:
    suffix, reader, data = value
    path = folder / (
        f"current{suffix}"
        if reader == 0
        else "groundtruth.txt"
        if reader == 1
        else "groundtruth_rect.txt"
    )
    path.write_bytes(data)
    try:
        return good_rows(read_boxes(path) if reader == 0 else read_truth(path, reader - 1).boxes)
    except ValueError as error:
        return clear(error, path.name)


@st.composite
def dataset_folders(draw: Any) -> Any:
    """(format, the file that is hard, its content)."""
    form = draw(st.sampled_from(tuple(DATASET_FILES)))
    name = draw(st.sampled_from(DATASET_FILES[form]))
    if name.endswith(".xml"):
        return form, name, damage(XML, draw(damaged(1))[1])
    if name.endswith(".png"):
        return form, name, damage(mask_png(), draw(damaged(1))[1])
    if name == "attributes.json":
        return form, name, draw(texts(".json"))
    if draw(st.booleans()):
        return form, name, damage(_sound(form, name), draw(damaged(1))[1])
    return form, name, draw(texts(".txt"))


DATASET_FILES = {
    "otb": (
        "groundtruth_rect.txt",
        "groundtruth_rect.2.txt",
        "attrs.txt",
        "attributes.json",
        "list.txt",
    ),
    "vot": ("groundtruth.txt",),
    "uav123": ("anno/UAV20L/a.txt",),
    "trackingnet": ("anno/a.txt",),
    "nfs": ("30/a.txt",),
    "mot": ("gt/gt.txt",),
    "got10k": ("groundtruth.txt", "cover.label", "absence.label"),
    "lasot": ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt"),
    "nuspro": ("groundtruth.txt", "occlusion.txt"),
    "tc128": ("a_gt.txt", "a_frames.txt"),
    "vid": ("Annotations/VID/val/a/0001.xml",),
    "davis": ("Annotations/480p/a/0001.png",),
}
XML = (
    b"<annotation><object><trackid>0</trackid><bndbox><xmax>30</xmax><xmin>3</xmin><ymax>9</ymax><ymin>2</ymin></bndbox>"
    b"<occluded>0</occluded></object><object><trackid>7</trackid><bndbox><xmax>9</xmax><xmin>2</xmin><ymax>8.5</ymax>"
    b"<ymin>1</ymin></bndbox></object></annotation>"
)


@functools.cache
def mask_png() -> bytes:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 5:30], mask[30:40, 5:9] = 1, 2
    return cv2.imencode(".png", mask)[1].tobytes()


FRAMES = {
    "vid": "Data/VID/val/a",
    "davis": "JPEGImages/480p/a",
    "vot": "color",
    "got10k": ".",
    "uav123": "data_seq/UAV123/a",
    "trackingnet": "frames/a",
    "nfs": "30/a",
    "mot": "img1",
}
ROWS = b"3,4,20,10\n4,4,20,10\n5,4,20,10\n"


@functools.cache
def dataset_root(folder: Path, form: str) -> Path:
    """A sound data set of one format, with three frames."""
    root = folder / f"dataset-{form}"
    write_images(root / FRAMES.get(form, "img"), still_frames()[:3])
    for name in DATASET_FILES[form]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_sound(form, name))
    return root


def _sound(form: str, name: str) -> bytes:
    if name.endswith(".xml"):
        return XML
    if name.endswith(".png"):
        return mask_png()
    return {
        "attrs.txt": b"IV, SV",
        "attributes.json": b'{"a": ["IV"]}',
        "list.txt": b"",
        "cover.label": b"8\n8\n8\n",
        "absence.label": b"0\n0\n0\n",
        "full_occlusion.txt": b"0,0,1",
        "out_of_view.txt": b"0,0,0",
        "occlusion.txt": b"0\n1\n2\n",
        "a_frames.txt": b"1,3",
        "30/a.txt": b'0 3 4 23 14 0 0 0 0 "a"\n0 4 4 24 14 1 1 0 0 "a"\n0 5 4 25 14 2 0 0 0 "a"\n',
        "gt/gt.txt": b"1,1,3,4,20,10,1\n2,1,4,4,20,10,1\n2,2,4,4,20,10,1\n3,2,5,4,20,10,0\n",
    }.get(name, ROWS)


def check_dataset(value: Any, folder: Path) -> str:
    form, name, data = value
    root = dataset_root(folder, form)
    (root / name).write_bytes(data)
    ended = "result"
    try:
        for sequence in datasets.load_dataset(root):
            good_rows(sequence.boxes)
            assert len(sequence.boxes) == len(sequence.frames) > 0
    except datasets.DatasetError as error:
        ended = clear(error, root.name)
    try:
        with open_source(root) as source:
            assert source.boxes is None or good_rows(source.boxes)
    except SourceError as error:
        clear(error, root.name)
    try:
        for problem in datasets.check_dataset(root, decode=True):
            clear(ValueError(f"{problem.sequence}: {problem.text}"))
    except datasets.DatasetError as error:
        clear(error)
    finally:
        (root / name).write_bytes(_sound(form, name))
    return ended


@st.composite
def result_texts(draw: Any) -> Any:
    name = draw(st.sampled_from(("results.json", "run.json", "vot.txt", "score.txt")))
    if name.endswith(".json") and draw(st.booleans()):
        text = json.dumps(
            {
                "format": 1,
                "dataset": "x",
                "protocol": "ope",
                "rules": "otb",
                "sequences": {},
                "trackers": {},
            }
        )
        return name, damage(text.encode(), draw(damaged(1))[1])
    if name == "score.txt" and draw(st.booleans()):
        return name, damage(ROWS, draw(damaged(1))[1])
    return name, draw(texts(name[-5:] if name.endswith(".json") else ".txt"))


def check_results(value: Any, folder: Path) -> str:
    name, data = value
    path = folder / name
    path.write_bytes(data)
    if name == "score.txt":
        root = dataset_root(folder, "otb")
        (root / "groundtruth_rect.2.txt").unlink(missing_ok=True)
        code, out, err = command("score", path, root)
        assert code in (0, 2) and "inf" not in out.lower(), (code, out, err)
        return "exit 0" if code == 0 else clear(ValueError(err.strip()), name) and "exit 2"
    try:
        if name == "results.json":
            assert results.load(folder)["format"] == results.FORMAT_VERSION
        elif name == "run.json":
            assert set(runner.read_record(folder)) >= {
                "dataset",
                "protocol",
                "rules",
                "sequences",
                "trackers",
            }
        else:
            boxes, states = runner.read_vot(path)
            good_rows(boxes)
            assert states.shape == (len(boxes),)
        return "result"
    except ValueError as error:
        return clear(error, name)


# --- images, videos and the command
# --------------------------------------------------------------------------

IMAGES = (".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm", ".pgm", ".jp2")
VIDEOS = ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v"), (".avi", "XVID"))


@functools.cache
def image_files() -> list[tuple[str, bytes]]:
    frame = still_frames()[0]
    files = []
    for suffix in IMAGES:
        for image in (frame, frame[..., 0], frame.astype(np.uint16) * 257, frame[:1, :1]):
            with contextlib.suppress(cv2.error):
                good, data = cv2.imencode(suffix, image)
                files += [(suffix, data.tobytes())] if good else []
    return files


def check_image(value: Any, folder: Path) -> str:
    number, steps = value
    suffix, data = image_files()[number % len(image_files())]
    path = folder / f"current{suffix}"
    path.write_bytes(damage(data, steps))
    try:
        frame = read_image(path, 1)
    except SourceError as error:
        return clear(error, path.name)
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size
    return "result"


@functools.cache
def video_files() -> list[tuple[str, bytes]]:
    frames = still_frames()
    files = [
        (suffix, make_bytes(lambda p, c=codec: write_video(p, frames, c), suffix))
        for suffix, codec in VIDEOS
    ]
    return [
        *files,
        (".mp4", make_bytes(lambda path: write_video(path, frames[:3, :10, :12], "mp4v"), ".mp4")),
    ]


def check_video(value: Any, folder: Path) -> str:
    number, steps = value
    suffix, data = video_files()[number % len(video_files())]
    path = folder / f"current{suffix}"
    path.write_bytes(damage(data, steps))
    count, shape = 0, None
    try:
        with open_source(path) as source:
            assert 0 < source.fps <= 1000
            for frame in source.frames():
                shape = shape or frame.image.shape
                assert frame.image.shape == shape and frame.image.dtype == np.uint8
                assert frame.number >= count and math.isfinite(frame.time)
                count += 1
                assert count < 5000
    except SourceError as error:
        return clear(error, path.name) + (" later" if count else "")
    assert count
    return "result"


def command(*words: Any) -> tuple[int, str, str]:
    """`dcfnet` in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


OPTION_WORDS = st.sampled_from(
    (
        "0",
        "1",
        "2",
        "5",
        "-1",
        "1.5",
        "x",
        "",
        "nan",
        "inf",
        "1e9",
        "9" * 20,
        "9" * 400 + "s",
        "0.1s",
        "1:0",
        "9:59:59",
    )
    + ("²", "٣", "0x2", "9" * 5000)
)


@st.composite
def runs(draw: Any) -> Any:
    """(source, [damage], options, suffixes of boxes and video)."""
    sources = ("video", "video", "video", "folder", "folder", "sequence", "frames", "boxes", "odd")
    source = draw(st.sampled_from(sources))
    steps = draw(damaged(64)) if draw(st.integers(0, 1)) else (draw(st.integers(0, 63)), [])
    options = []
    for option in draw(
        st.lists(
            st.sampled_from(("--start", "--end", "--every", "--max-frames", "--trail")), max_size=2
        )
    ):
        options += [option, draw(st.sampled_from(("1", "2", "3", "0.05s")) | OPTION_WORDS)]
    boxes = draw(texts(".txt")) if source in ("boxes", "sequence") else b""
    box = (
        ",".join(draw(st.lists(WORDS, min_size=4, max_size=4)))
        if draw(st.integers(0, 9)) == 0
        else "20,10,16,12"
    )
    box = "0,0,1,1" if source == "frames" and draw(st.booleans()) else box
    saved = (
        draw(st.sampled_from((".csv", ".txt", ".json"))),
        draw(st.sampled_from(("", "", "", ".mp4", ".avi", ".mkv"))),
    )
    size = draw(SIZES.filter(lambda size: 0 < min(size) and max(size) < 300))
    preset = draw(st.sampled_from(sorted(PRESETS)))
    return source, steps, options, boxes, box, saved, size, preset, draw(st.booleans())


ODD_SOURCES = (
    *(
        "nothing",
        "99",
        "9" * 30,
        "a%99999999999d.png",
        "%d.png",
        "http://[::1",
        "rtsp://",
        "a\0b",
        "",
        ".",
        "*",
    ),
    *(
        "x" * 5000,
        "[",
        "a[b/*.png",
        "file:///nowhere",
        "²",
        "-",
        "/dev/null",
        "//",
        "~",
        "%s%n.jpg",
        "a%0d*.png",
    ),
)


def check_track(value: Any, folder: Path) -> str:
    source, (number, steps), options, boxes, box, saved, (height, width), preset, response = value
    network_file = folder / "network.h5"
    if not network_file.exists():
        weights.save_weights(network_file, untrained())
    inputs, outputs = folder / "inputs", folder / "outputs"
    for place in (inputs, outputs):
        place.mkdir(exist_ok=True)
        for path in place.iterdir():
            path.unlink()
    start, shape = ["--box", box], (48, 64)
    if source == "video" or source == "boxes":
        suffix, data = video_files()[number % len(video_files())]
        spec: Any = inputs / f"video{suffix}"
        spec.write_bytes(damage(data, steps) if source == "video" else data)
    elif source == "odd":
        spec = ODD_SOURCES[number % len(ODD_SOURCES)]
    else:
        spec = inputs
        if source == "frames":
            shape = (height, width)
            write_images(inputs, [Picture(height, width, seed=i).make() for i in range(4)])
        else:
            write_images(inputs, still_frames()[:5])
            suffix, data = image_files()[number % len(image_files())]
            target = inputs / f"{number % 6:04d}.png"
            target.write_bytes(damage(data, steps) if steps else data)
    if source == "boxes":
        (inputs / "boxes.txt").write_bytes(boxes)
        start = ["--boxes", inputs / "boxes.txt"]
    elif source == "sequence":
        (inputs / "groundtruth.txt").write_bytes(boxes)
        start = []
    words = [
        "track",
        spec,
        *start,
        *options,
        "--weights",
        network_file,
        "--preset",
        preset,
        "--device",
        "cpu",
    ]
    words += ["--save-boxes", outputs / f"a{saved[0]}"]
    words += ["--save-video", outputs / f"a{saved[1]}"] if saved[1] else []
    words += ["--response"] if response else []
    with patch.dict(presets.PRESETS, PRESETS):  # names that the command knows here
        code, out, err = command(*words)

    lines = err.splitlines()
    assert all(line.startswith("dcfnet: ") and len(line) < 800 for line in lines), err[:2000]
    assert sum(line.startswith("dcfnet: error: ") for line in lines) == (code != 0), err[:2000]
    assert "debug shows where" not in err, err
    files = sorted(path.name for path in outputs.iterdir())
    assert not any(".part" in name for name in files), files
    assert code in (0, 1, 2) and (code != 0 or " frame" in out), (code, out)
    if code == 2:
        assert files == [], files
    for name in files:
        if name.endswith(saved[0]):
            rows = read_boxes(outputs / name)
            assert len(rows) >= 1
            largest = max(shape) if source == "frames" else 5000
            for row in rows[1:].tolist():
                good_box(row, (largest, largest))
    assert code != 0 or any(name.endswith(saved[0]) for name in files)
    return f"exit {code}"


# --- kinds and batches
# ---------------------------------------------------------------------------------------


class Kind(NamedTuple):
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any, Path], str]
    reads: bool  # files or `dcfnet track`, rather than arrays
    vary: Callable[
        [Any, random.Random], Any
    ]  # another input like the one that was drawn, which costs less than to draw


def random_steps(rng: random.Random) -> list[Any]:
    places = (rng.random(), rng.randrange(400), rng.randrange(4096), -1 - rng.randrange(400))
    values = (
        0,
        1,
        0x7F,
        0x80,
        0xFF,
        2**31 - 1,
        2**31,
        2**32 - 1,
        2**64 - 1,
        rng.randrange(256),
        rng.randrange(256),
    )
    return [
        (rng.choice(STEPS), rng.choice(places), rng.choice(values), 1 + rng.randrange(64))
        for _ in range(rng.randint(1, 4))
    ]


def vary_damage(value: Any, rng: random.Random) -> Any:
    return value[0], random_steps(rng)


def vary_crops(value: Any, rng: random.Random) -> Any:
    return vary_damage(value[0], rng), rng.random() < 0.5, rng.random() < 0.5


def vary_bytes(value: Any, rng: random.Random) -> Any:
    """Of (..., data): the data damaged."""
    return *value[:-1], damage(value[-1], random_steps(rng))


def vary_run(value: Any, rng: random.Random) -> Any:
    source, damage_, options, boxes, *others, preset, response = value
    boxes = damage(boxes, random_steps(rng)) if boxes else boxes
    return (
        source,
        vary_damage(damage_, rng),
        options,
        boxes,
        *others,
        rng.choice(sorted(PRESETS)),
        not response,
    )


def vary_video(value: Any, rng: random.Random) -> Any:
    _, kind, band, *others = value
    return (
        rng.choice(sorted(PRESETS)),
        rng.choice(("light", kind)),
        rng.choice(("auto", band)),
        *others,
    )


def vary_crop(value: Any, rng: random.Random) -> Any:
    picture, centre, windows, size, rounded = value
    factor = 10.0 ** rng.randint(-3, 3)
    return (
        picture,
        centre,
        [(w * factor, h / factor) for w, h in windows],
        rng.randint(8, 40),
        not rounded,
    )


KINDS = {
    "Tracker": Kind(videos(), check_tracker, False, vary_video),
    "MultiTracker": Kind(videos(), check_multi_tracker, False, vary_video),
    "crop": Kind(crops_of(), check_crop, False, vary_crop),
    "boxes": Kind(box_texts(), check_boxes, True, vary_bytes),
    "data sets": Kind(dataset_folders(), check_dataset, True, vary_bytes),
    "results": Kind(result_texts(), check_results, True, vary_bytes),
    "weights .h5": Kind(damaged(4), functools.partial(check_weights, "h5"), True, vary_damage),
    "weights .mat": Kind(damaged(16), functools.partial(check_weights, "mat"), True, vary_damage),
    "weights .pth": Kind(damaged(16), functools.partial(check_weights, "pth"), True, vary_damage),
    "crops.h5": Kind(
        st.tuples(damaged(2), st.booleans(), st.booleans()), check_crops, True, vary_crops
    ),
    "images": Kind(damaged(64), check_image, True, vary_damage),
    "videos": Kind(damaged(16), check_video, True, vary_damage),
    "track": Kind(runs(), check_track, True, vary_run),
}
VARIANTS = 8  # inputs for each that hypothesis draws


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rss_mb(pid: int | str = "self") -> float:
    """Memory that a process holds now.  Linux."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def run(
    name: str, count: int, number: int, folder: Path, shrink: bool = False, **options: Any
) -> Counter[str]:
    """Try `count` inputs of a kind in this process; how they ended.

    number: seed.  Raises what a check raises.
    """
    kind, ended = KINDS[name], Counter[str]()

    @seed(number)
    @settings(
        max_examples=-(-count // VARIANTS),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        **options,
    )
    @given(kind.strategy)
    def attempt(value: Any) -> None:
        rng = random.Random(repr(value))
        for each in (value, *(kind.vary(value, rng) for _ in range(VARIANTS - 1))):
            (folder / "current.txt").write_text(repr(each), encoding="utf-8", errors="replace")
            before = peak_mb()
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                ended[kind.check(each, folder)] += 1
            assert peak_mb() - before < EXAMPLE_MB, f"{peak_mb() - before:.0f} MB for one input"

    attempt()
    return ended


def apart(name: str, count: int, number: int, folder: Path, timeout: float = 900) -> dict[str, Any]:
    """`run` in a process of its own: {"ended", "seconds", "peak_mb", "growth_mb"}, with "bug" when
    there is one.
    """
    words = [sys.executable, __file__, name, str(count), str(number), str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout, env=environment
        )
        code, output, complaint = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, output, complaint = -1, "", f"no end after {error.timeout:.0f} s"
    try:
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        report = {"ended": {}, "seconds": 0.0, "peak_mb": 0.0, "growth_mb": 0.0}
    if code or complaint.startswith("Fatal"):
        report["bug"] = f"{name}, seed {number}, exit {code}: {complaint.strip()[-4000:]}"
    return report


def main() -> None:
    name, count, number, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (PROCESS_GB << 30, PROCESS_GB << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    began = time.monotonic()
    check = KINDS[name].check

    def guarded(value: Any, folder: Path) -> str:
        faulthandler.dump_traceback_later(EXAMPLE_SECONDS, exit=True)
        try:
            return check(value, folder)
        finally:
            faulthandler.cancel_dump_traceback_later()

    faulthandler.enable()
    KINDS[name] = KINDS[name]._replace(check=guarded)
    cli.make_parser = functools.cache(cli.make_parser)  # half of the time of `track`
    ended: Counter[str] = Counter()
    before = 0.0
    for part in range(5):  # the first one fills buffers and caches
        ended += run(name, -(-count // 5), 5 * number + part, folder, shrink=True)
        before = before or rss_mb()
    report = {"ended": dict(ended), "seconds": round(time.monotonic() - began, 1)}
    report |= {"peak_mb": round(peak_mb(), 1), "growth_mb": round(rss_mb() - before, 1)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
