"""Damaged files, made by hypothesis: sound ones with bits flipped, numbers written into them,
pieces cut, doubled or blanked. What must hold is in hard_input.py.
"""

import contextlib
import functools
import math
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import h5py
import hard_input as hard
import numpy as np
import scipy.io
from hypothesis import strategies as st
from scenes import make_frames, write_video
from weight_files import legacy, old_net, state_of, write_net, zipped

from dcfnet_np import weights
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.crops import CropWriter, read_crops
from dcfnet_np.train.pairs import epoch_pairs
from dcfnet_np.vision.images import read_image
from dcfnet_np.vision.sources import open_source

# --- damaged files

EDITS: dict[str, Callable[[bytes, int], bytes]] = {
    "flip": lambda piece, value: bytes(byte ^ 1 << value % 8 for byte in piece[:1]) + piece[1:],
    "number": lambda piece, value: (value % 2**64).to_bytes(64, "little")[: len(piece)],
    "drop": lambda piece, value: b"",
    "repeat": lambda piece, value: piece * (2 + value % 8),
    "zeros": lambda piece, value: bytes(len(piece)),
    "noise": lambda piece, value: random.Random(value).randbytes(len(piece)),
}
PLACES = st.integers(0, 400) | st.integers(0, 10**6) | st.integers(-400, -1)
NUMBERS = st.sampled_from((0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**64 - 1))
LENGTHS = st.sampled_from((1, 1, 4, 8, 64, 10**9))  # the last one: up to the end
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(EDITS)), PLACES, NUMBERS | st.integers(0, 255), LENGTHS),
    max_size=4,
)


def damage(data: bytes, steps: Any) -> bytes:
    for edit, where, value, length in steps:
        at = where % (len(data) + 1)
        piece = data[at : at + length][: 10**4 if edit == "repeat" else None]
        data = data[:at] + EDITS[edit](piece, value) + data[at + len(piece) :]
    return data


@functools.cache
def still_frames() -> np.ndarray:
    return make_frames(np.random.default_rng(0), 12)


class FileKind(NamedTuple):
    """Sound files, name and bytes, and what must hold where one of them, damaged, is read."""

    make: Callable[[], list[tuple[str, bytes]]]
    read: Callable[[Path], Any]

    def check(self, value: Any, folder: Path) -> str:
        number, steps = value
        name, data = self.make()[number % len(self.make())]
        path = folder / name
        path.write_bytes(damage(data, steps))
        try:
            self.read(path)
        except ValueError as error:
            return hard.clear(error, path.name)
        return "result"


def made(name: str, write: Callable[[Path], Any]) -> tuple[str, bytes]:
    """What `write(path)` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return name, path.read_bytes()


def released(suffix: str) -> list[tuple[str, bytes]]:
    """The authors' files, where $DCFNET_DATA has them."""
    folder = Path(os.environ.get("DCFNET_DATA", "nowhere")) / "weights"
    return [(path.name, path.read_bytes()) for path in sorted(folder.glob(f"*{suffix}"))]


# --- weights and crops


def old_hdf5(path: Path) -> None:
    """Weights as h5py writes them by default: no checksums, texts on a heap, links, chunks."""
    weights.save_weights(path, hard.untrained())
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value.decode() if isinstance(value, bytes) else value
        for index, (name, value) in enumerate(hard.untrained().parameters.items()):
            options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
            file.create_dataset(
                name.replace(".", "/"), data=value, **(options if index % 2 else {})
            )
        file["soft"], file["far"] = h5py.SoftLink("/conv1"), h5py.ExternalLink("other.h5", "/conv1")


@functools.cache
def hdf5_files() -> list[tuple[str, bytes]]:
    light, conv2 = hard.untrained("light"), hard.untrained("conv2")
    ours = [lambda path, each=each: weights.save_weights(path, each) for each in (light, conv2)]
    return [made("a.h5", write) for write in (*ours, old_hdf5)]


@functools.cache
def mat_files() -> list[tuple[str, bytes]]:
    p = hard.untrained().parameters
    old = {"net": old_net(p), "sparse": scipy.sparse.eye(3), "words": ["a", "bc"]}
    return [
        made("a.mat", lambda path: write_net(path, p)),
        made("a.mat", lambda path: scipy.io.savemat(path, old)),
        *released(".mat"),
    ]


@functools.cache
def pth_files() -> list[tuple[str, bytes]]:
    small = {"conv1.weight": np.ones((2, 3), np.float32)}
    return [
        *(("a.pth", legacy(*state_of(p))) for p in (hard.untrained().parameters, small)),
        *(("a.pth", zipped(*state_of(p))) for p in (hard.untrained().parameters, small)),
        *released(".pth"),
    ]


def read_weights(path: Path) -> None:
    """Numbers may have changed where a file has no checksum: they must still track."""
    found = weights.load_weights(path)
    for values in found.parameters.values():
        assert np.isfinite(values).all() and values.dtype == np.float32
    if path.suffix != ".h5" and found.architecture == "light":
        tracker, frames = Tracker(found, "default:input_size=31", "cpu"), still_frames()
        try:
            tracker.init(frames[0], (20, 10, 16, 12))
        except ValueError as error:
            hard.clear(error)
            return
        for frame in frames[1:3]:
            hard.good_result(tracker.update(frame), frame.shape, False)


@functools.cache
def crop_files() -> list[tuple[str, bytes]]:
    def write(path: Path, margin: int) -> None:
        rng, side = np.random.default_rng(0), 8 + 2 * margin
        with CropWriter(path, {"size": 8}, side, [("a", "1"), ("b", "2"), ("c", "3")]) as writer:
            for count in (3, 1, 4):
                writer.add(rng.integers(0, 256, (count, 3, side, side), np.uint8))
                numbers = np.arange(count, dtype=np.int32)
                writer.end_sequence(numbers, np.ones((count, 4)), {"no box": 1})
            attributes = {"padding": 2.0, "size": 8, "margin": margin, "skipped": "{}"}
            writer.finish(["a", "b", "c"], np.array([False, False, True]), attributes)

    return [made("crops.h5", lambda path, margin=margin: write(path, margin)) for margin in (0, 2)]


def read_crop_file(path: Path) -> None:
    found = read_crops(path)
    n, m, side = len(found.crops), len(found.sequences), found.size + 2 * found.margin
    assert found.crops.shape == (n, 3, side, side) and found.crops.dtype == np.uint8
    assert int(found.crops.sum()) >= 0
    assert found.sequence.shape == found.frame.shape == (n,) and found.box.shape == (n, 4)
    assert ((found.sequence >= 0) & (found.sequence < m)).all()
    assert math.isfinite(found.padding) and found.padding > 0 and not np.isinf(found.box).any()
    with contextlib.suppress(ValueError):
        pairs = epoch_pairs(found.sequence, found.frame, seed=0, epoch=0)
        assert pairs.size and pairs.min() >= 0 and pairs.max() < n


# --- images and videos

IMAGES = (".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm", ".pgm", ".jp2")
VIDEOS = ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v"), (".avi", "XVID"))


@functools.cache
def image_files() -> list[tuple[str, bytes]]:
    frame, files = still_frames()[0], []
    for suffix in IMAGES:
        for image in (frame, frame[..., 0], frame.astype(np.uint16) * 257, frame[:1, :1]):
            with contextlib.suppress(cv2.error):
                good, data = cv2.imencode(suffix, image)
                files += [(f"a{suffix}", data.tobytes())] if good else []
    return files


@functools.cache
def video_files() -> list[tuple[str, bytes]]:
    frames = still_frames()
    small = made("a.mp4", lambda path: write_video(path, frames[:3, :10, :12], "mp4v"))
    files = []
    for suffix, codec in VIDEOS:
        files.append(made(f"a{suffix}", lambda path, codec=codec: write_video(path, frames, codec)))
    return [*files, small]


def read_one_image(path: Path) -> None:
    frame = read_image(path, 1)
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size


def read_video(path: Path) -> None:
    shapes = set()
    with open_source(path) as source:
        assert 0 < source.fps <= 1000
        for count, frame in enumerate(source.frames()):
            shapes.add((frame.image.shape, frame.image.dtype.name))
            assert frame.number >= count and math.isfinite(frame.time) and count < 5000
    assert len(shapes) == 1 and shapes.pop()[1] == "uint8"
