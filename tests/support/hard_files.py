"""Damaged files, made by hypothesis: sound ones with bits flipped, numbers written into them,
pieces cut, doubled or blanked; for texts also rows of words. KINDS has all hard input, with what
hard_input.py makes.
"""

import contextlib
import functools
import io
import json
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
from layouts import LAYOUTS
from scenes import make_frames, write_images, write_video
from weight_files import legacy, old_net, small_crops, state_of, write_net, zipped

from dcfnet_np import cli, datasets, weights
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.evaluation import results, runner
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.crops import read_crops
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.images import read_image
from dcfnet_np.vision.sources import open_source

# --- damage

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
    """`data` after these steps; a text in their place is taken as it is."""
    if isinstance(steps, bytes):
        return steps
    for edit, where, value, length in steps:
        at = where % (len(data) + 1)
        piece = data[at : at + length][: 10**4 if edit == "repeat" else None]
        data = data[:at] + EDITS[edit](piece, value) + data[at + len(piece) :]
    return data


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


@functools.cache
def still_frames() -> np.ndarray:
    return make_frames(np.random.default_rng(0), 12)


# --- texts

WORDS = st.integers(0, 300).map(str) | st.sampled_from(
    ("1", "2.5", "-3", "nan", "inf", "1e9", "1e400", "x", "1_0", "٣", "true", '"', "[", ";", "é",
     "", "\ufeff", "\0", "1 2", "9" * 400)
)  # fmt: skip


@st.composite
def texts(draw: Any) -> bytes:
    """Rows of numbers and of what is none, as a table or as JSON."""
    columns = draw(st.sampled_from((4, 4, 4, 8, 1, 5, 9)))
    rows = draw(st.lists(st.lists(WORDS, min_size=columns, max_size=columns), max_size=6))
    between = draw(st.sampled_from((",", ",", "\t", " ", ", ", ";", "json")))
    if between == "json":
        depth = draw(st.sampled_from((0, 0, 0, 1, 200_000)))
        text = "[" * depth + json.dumps([dict(zip("xywh", row)) for row in rows]) + "]" * depth
    else:
        ends = draw(st.sampled_from(("\n", "\n", "\r\n", "\r", "\n\n", "\u2028", "")))
        head = draw(st.sampled_from(("", "", "m", "frame,x,y,w,h,score\n", "x,y,w,h\n")))
        text = head + "".join(between.join(row) + ends for row in rows)
    return text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16"))))


RECORD = {"format": 1, "dataset": "x", "protocol": "ope", "rules": "otb", "sequences": {}}
ROWS = "1,2,3,4\n2,3,4,5\nnan,nan,nan,nan\n"
TEXT_FILES = {
    "a.txt": ROWS,
    "a.csv": f"x,y,w,h\n{ROWS}",
    "a.json": json.dumps([dict.fromkeys("xywh", 2.5), dict.fromkeys("xywh")]),
    "groundtruth.txt": ROWS,
    "groundtruth_rect.txt": ROWS.replace(",", "\t"),
    "results.json": json.dumps(RECORD | {"trackers": {}}),
    "run.json": json.dumps(RECORD | {"trackers": {}}),
    "vot.txt": "1\n1,2,3,4\n2\n0\n",
}


def text_files() -> list[tuple[str, bytes]]:
    return [(name, text.encode()) for name, text in TEXT_FILES.items()]


def read_a_text(path: Path) -> None:
    if path.name == "results.json":
        assert results.load_results(path.parent)["format"] == results.FORMAT_VERSION
    elif path.name == "run.json":
        assert {*RECORD, "trackers"} - {"format"} <= set(runner.read_record(path.parent))
    elif path.name == "vot.txt":
        boxes, states = runner.read_vot(path)
        hard.good_rows(boxes)
        assert states.shape == (len(boxes),)
    elif path.name.startswith("ground"):
        hard.good_rows(read_truth(path, int("rect" in path.name)).boxes)
    else:
        hard.good_rows(read_boxes(path))


# --- data sets

FRAMES = {".jpg", ".jpeg", ".png"}
BOXES = np.array([(3, 4, 20, 10), (4, 4, 20, 10), (5, 4, 20, 10)], float)
BESIDE = {"a/attrs.txt": "IV, SV", "attributes.json": '{"b": ["IV"]}', "list.txt": ""}


@functools.cache
def dataset_root(folder: Path, layout: str) -> tuple[Path, dict[str, bytes]]:
    """A sound data set of one layout, and its files without those of the frames."""
    root = folder / f"dataset-{layout}"
    LAYOUTS[layout](root, "a", BOXES)
    for name, text in BESIDE.items() if layout == "otb" else ():
        (root / name).write_text(text)
    paths = [path for path in sorted(root.rglob("*.*")) if path.suffix.lower() not in FRAMES]
    masks = sorted(root.glob("Annotations/**/*.png"))
    return root, {str(p.relative_to(root)): p.read_bytes() for p in paths + masks}


def check_dataset(value: Any, folder: Path) -> str:
    """(layout, (which of its files is hard, the damage to it or its text))."""
    layout, (number, hard_part) = value
    root, files = dataset_root(folder, layout)
    name, sound = sorted(files.items())[number % len(files)]
    (root / name).write_bytes(damage(sound, hard_part))
    ended = "result"
    try:
        for sequence in datasets.load_dataset(root):
            hard.good_rows(sequence.boxes)
            assert len(sequence.boxes) == len(sequence.frames) > 0
    except datasets.DatasetError as error:
        ended = hard.clear(error, root.name)
    for problem in datasets.check_dataset(root, decode=True):
        hard.clear(ValueError(f"{problem.sequence}: {problem.text}"))
    (root / name).write_bytes(sound)
    return ended


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
def weight_files() -> list[tuple[str, bytes]]:
    """HDF5, .mat and .pth in turn, of every form."""
    light, conv2 = hard.untrained("light"), hard.untrained("conv2")
    ours = [lambda path, each=each: weights.save_weights(path, each) for each in (light, conv2)]
    p, small = light.parameters, {"conv1.weight": np.ones((2, 3), np.float32)}
    old = {"net": old_net(p), "sparse": scipy.sparse.eye(3), "words": ["a", "bc"]}
    return [
        *(made("a.h5", write) for write in (*ours, old_hdf5)),
        made("a.mat", lambda path: write_net(path, p)),
        made("a.mat", lambda path: scipy.io.savemat(path, old)),
        *(("a.pth", form(*state_of(each))) for form in (legacy, zipped) for each in (p, small)),
        *released(".mat"),
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
    kinds = [lambda path, margin=m: small_crops(path, (3, 1, 4), 8, margin) for m in (0, 2)]
    return [made("crops.h5", write) for write in kinds]


def read_crop_file(path: Path) -> None:
    found = read_crops(path)
    n, m, side = len(found.crops), len(found.sequences), found.size + 2 * found.margin
    assert found.crops.shape == (n, 3, side, side) and found.crops.dtype == np.uint8
    assert int(found.crops.sum()) >= 0
    assert found.sequence.shape == found.frame.shape == (n,) and found.box.shape == (n, 4)
    assert ((found.sequence >= 0) & (found.sequence < m)).all()
    assert math.isfinite(found.padding) and found.padding > 0 and not np.isinf(found.box).any()


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
    return [
        made(f"a{suffix}", lambda path, codec=codec: write_video(path, still_frames(), codec))
        for suffix, codec in VIDEOS
    ]


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


# --- the command

RUNS = st.tuples(
    st.sampled_from(("video", "folder", "sequence")),
    st.integers(0, 63),
    st.just([]) | STEPS,
    texts(),
    st.sampled_from(hard.PRESETS),
)


def write_source(source: str, number: int, steps: Any, boxes: bytes, inputs: Path) -> list[Any]:
    """What `dcfnet track` is asked to follow, in a folder of its own."""
    start = ["--box", "20,10,16,12"]
    if source == "video":
        name, data = video_files()[number % len(video_files())]
        (inputs / name).write_bytes(damage(data, steps))
        return [inputs / name, *start]
    write_images(inputs, still_frames()[:5])
    name, data = image_files()[number % len(image_files())]
    if steps:
        (inputs / f"{number % 6:04d}.png").write_bytes(damage(data, steps))
    if source == "folder":
        return [inputs, *start]
    (inputs / "groundtruth.txt").write_bytes(boxes)
    return [inputs]


def check_track(value: Any, folder: Path) -> str:
    source, number, steps, boxes, preset = value
    network_file = folder / "network.h5"
    if not network_file.exists():
        weights.save_weights(network_file, hard.untrained())
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory(dir=folder) as inputs:
        outputs = Path(inputs) / "outputs"
        outputs.mkdir()
        words = ["track", *write_source(source, number, steps, boxes, Path(inputs))]
        words += ["--weights", network_file, "--preset", preset, "--device", "cpu"]
        words += ["--save-boxes", outputs / "a.csv", "--save-video", outputs / "a.mkv"]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([str(word) for word in words])
        found = {path.name for path in outputs.iterdir()}
        rows = read_boxes(outputs / "a.csv").tolist() if "a.csv" in found else []
    lines = err.getvalue().splitlines()
    assert all(line.startswith("dcfnet: ") and len(line) < 800 for line in lines), lines
    assert sum(line.startswith("dcfnet: error: ") for line in lines) == (code != 0), lines
    assert not any("debug shows where" in line for line in lines), lines
    assert code in (0, 1, 2) and (code != 0 or " frame" in out.getvalue()), (code, out.getvalue())
    assert found <= {"a.csv", "a.mkv"} and (code != 2 or not found), found
    assert code != 0 or "a.csv" in found
    for row in rows[1:]:
        hard.good_box(row, (5000, 5000))
    return f"exit {code}"


# --- kinds


class Kind(NamedTuple):
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any, Path], str]


# some of them are sound
DAMAGED = st.tuples(st.integers(0, 63), st.just([]) | STEPS | STEPS | STEPS)
HARD_TEXTS = st.tuples(st.integers(0, 63), st.just([]) | STEPS | texts() | texts())
KINDS = {
    "tracking": Kind(hard.clips(), hard.check_tracking),
    "texts": Kind(HARD_TEXTS, FileKind(text_files, read_a_text).check),
    "data sets": Kind(st.tuples(st.sampled_from(sorted(LAYOUTS)), HARD_TEXTS), check_dataset),
    "weights": Kind(DAMAGED, FileKind(weight_files, read_weights).check),
    "crops.h5": Kind(DAMAGED, FileKind(crop_files, read_crop_file).check),
    "images": Kind(DAMAGED, FileKind(image_files, read_one_image).check),
    "videos": Kind(DAMAGED, FileKind(video_files, read_video).check),
    "track": Kind(RUNS, check_track),
}
