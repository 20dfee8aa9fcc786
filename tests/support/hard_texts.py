"""Hard texts and command lines, made by hypothesis; with those of hard_input.py and hard_files.py
the KINDS of hard input.
"""

import contextlib
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hard_files as files
import hard_input as hard
import numpy as np
from hard_files import STEPS, damage, image_files, still_frames, video_files
from hypothesis import strategies as st
from layouts import LAYOUTS
from scenes import write_images

from dcfnet_np import cli, datasets, weights
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.evaluation import results, runner
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.sources import open_source

# --- files of numbers and texts

PLAIN_WORDS = """1 2.5 -3 nan NaN inf -Infinity 1e9 1e400 1e-400 x 0x10 1_0 ٣ ² null true " [ { }
    ; -- +4 1e é"""
MORE_WORDS = "", "\ufeff", "\0", "1 2", "9" * 400
WORDS = st.sampled_from((*PLAIN_WORDS.split(), *MORE_WORDS)) | st.integers(-5, 500).map(str)
NEWLINES = st.sampled_from(("\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\u2028", ""))
HEADS = st.sampled_from(("", "frame,x,y,w,h,score\n", "x,y,w,h\n"))


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
        names = draw(st.sampled_from(("xywh", "xywh", "xyw", ("frame", "x", "x", "h"))))
        records = [dict(zip(names, map(json_word, row))) for row in rows]
        text = json.dumps(draw(st.sampled_from((records, {"boxes": records}, records[:1] or 7))))
        depth = draw(st.sampled_from((0, 0, 0, 1, 5000, 200_000)))
        text = "[" * depth + text + "]" * depth
    else:
        between, ends = draw(st.sampled_from((",", "\t", " ", ", ", ";"))), draw(NEWLINES)
        head, mask = draw(HEADS) if suffix == ".csv" else "", "m" if how == 7 else ""
        text = head + "".join(mask + between.join(row) + ends for row in rows)
    data = text.encode(draw(st.sampled_from(("utf-8",) * 3 + ("utf-8-sig", "utf-16"))), "replace")
    return damage(data, draw(STEPS)) if how in (1, 4) else data


def json_word(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


@st.composite
def box_texts(draw: Any) -> Any:
    names = ("a.txt", "a.csv", "a.json", "groundtruth.txt", "groundtruth_rect.txt")
    name = draw(st.sampled_from(names))
    return name, draw(texts(Path(name).suffix))


def check_boxes(value: Any, folder: Path) -> str:
    name, data = value
    path = folder / name
    path.write_bytes(data)
    try:
        if name.startswith("a."):
            hard.good_rows(read_boxes(path))
        else:
            hard.good_rows(read_truth(path, int("rect" in name)).boxes)
    except ValueError as error:
        return hard.clear(error, path.name)
    return "result"


FRAMES = {".jpg", ".jpeg", ".png"}
BOXES = np.array([(3, 4, 20, 10), (4, 4, 20, 10), (5, 4, 20, 10)], float)
BESIDE = {
    "otb": {"a/attrs.txt": "IV, SV", "attributes.json": '{"b": ["IV"]}', "list.txt": ""},
    "got10k": {"a/cover.label": "8\n8\n8\n", "a/absence.label": "0\n0\n0\n"},
}


@functools.cache
def dataset_root(folder: Path, layout: str) -> tuple[Path, dict[str, bytes]]:
    """A sound data set of one layout, and its files without those of the frames."""
    root = folder / f"dataset-{layout}"
    LAYOUTS[layout](root, "a", BOXES)
    for name, text in BESIDE.get(layout, {}).items():
        (root / name).write_text(text)
    paths = [path for path in sorted(root.rglob("*.*")) if path.suffix.lower() not in FRAMES]
    masks = sorted(root.glob("Annotations/**/*.png"))
    return root, {str(p.relative_to(root)): p.read_bytes() for p in paths + masks}


@st.composite
def dataset_files(draw: Any) -> Any:
    """(layout, which of its files is hard, its content or the damage to it)."""
    layout, number = draw(st.sampled_from(sorted(LAYOUTS))), draw(st.integers(0, 15))
    return layout, number, draw(st.just([]) | STEPS | STEPS | texts(".json") | texts(".txt"))


def check_dataset(value: Any, folder: Path) -> str:
    layout, number, hard_part = value
    root, files = dataset_root(folder, layout)
    name, sound = sorted(files.items())[number % len(files)]
    data = hard_part if isinstance(hard_part, bytes) else damage(sound, hard_part)
    (root / name).write_bytes(data)
    ended = "result"
    try:
        for sequence in datasets.load_dataset(root):
            hard.good_rows(sequence.boxes)
            assert len(sequence.boxes) == len(sequence.frames) > 0
    except datasets.DatasetError as error:
        ended = hard.clear(error, root.name)
    try:
        for problem in datasets.check_dataset(root, decode=True):
            hard.clear(ValueError(f"{problem.sequence}: {problem.text}"))
        with open_source(root / "a") as source:
            if source.boxes is not None:
                hard.good_rows(source.boxes)
    except ValueError as error:
        hard.clear(error)
    (root / name).write_bytes(sound)
    return ended


RECORD = {"format": 1, "dataset": "x", "protocol": "ope", "rules": "otb", "sequences": {}}
SOUND_RESULTS = json.dumps(RECORD | {"trackers": {}}).encode()


@st.composite
def result_files(draw: Any) -> Any:
    name = draw(st.sampled_from(("results.json", "run.json", "vot.txt")))
    if name.endswith(".json") and draw(st.booleans()):
        return name, damage(SOUND_RESULTS, draw(st.just([]) | STEPS))
    return name, draw(texts(Path(name).suffix))


def check_results(value: Any, folder: Path) -> str:
    name, data = value
    (folder / name).write_bytes(data)
    try:
        if name == "results.json":
            assert results.load_results(folder)["format"] == results.FORMAT_VERSION
        elif name == "run.json":
            assert {*RECORD, "trackers"} - {"format"} <= set(runner.read_record(folder))
        else:
            boxes, states = runner.read_vot(folder / name)
            hard.good_rows(boxes)
            assert states.shape == (len(boxes),)
    except ValueError as error:
        return hard.clear(error, name)
    return "result"


# --- the command

OPTIONS = "--start", "--end", "--every", "--max-frames", "--trail"
PLAIN_OPTION_WORDS = "1 2 3 0.05s 0 5 -1 1.5 x nan inf 1e9 1:0 9:59:59 ² ٣ 0x2"
LONG_WORDS = "", "9" * 20, "9" * 400 + "s", "9" * 5000
OPTION_WORDS = st.sampled_from((*PLAIN_OPTION_WORDS.split(), *LONG_WORDS))
PLAIN_SOURCES = """nothing 99 a%99999999999d.png %d.png http://[::1 rtsp:// . * [ a[b/*.png
    file:///nowhere ² - /dev/null // ~ %s%n.jpg a%0d*.png"""
ODD_SOURCES = *PLAIN_SOURCES.split(), "", "a\0b", "9" * 30, "x" * 5000


@st.composite
def runs(draw: Any) -> Any:
    """(source, (number, damage), options, boxes, suffixes of boxes and video, preset)."""
    kinds = ("video", "video", "folder", "folder", "sequence", "boxes", "odd")
    source = draw(st.sampled_from(kinds))
    steps = draw(STEPS) if draw(st.booleans()) else []
    options = draw(st.dictionaries(st.sampled_from(OPTIONS), OPTION_WORDS, max_size=2))
    boxes = draw(texts(".txt")) if source in ("boxes", "sequence") else b""
    saved = (
        draw(st.sampled_from((".csv", ".txt", ".json"))),
        draw(st.sampled_from(("", "", ".mkv"))),
    )
    preset = draw(st.sampled_from(hard.PRESETS))
    return source, (draw(st.integers(0, 63)), steps), options, boxes, saved, preset


def command(*words: Any) -> tuple[int, str, str]:
    """`dcfnet` in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def write_source(source: str, number: int, steps: Any, boxes: bytes, inputs: Path) -> list[Any]:
    """What `dcfnet track` is asked to follow, in an empty folder."""
    start = ["--box", "20,10,16,12"]
    if source == "odd":
        return [ODD_SOURCES[number % len(ODD_SOURCES)], *start]
    if source in ("video", "boxes"):
        name, data = video_files()[number % len(video_files())]
        (inputs / name).write_bytes(data if source == "boxes" else damage(data, steps))
        if source == "boxes":
            (inputs / "boxes.txt").write_bytes(boxes)
            start = ["--boxes", inputs / "boxes.txt"]
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
    source, (number, steps), options, boxes, (boxes_suffix, video_suffix), preset = value
    network_file, outputs = folder / "network.h5", folder / "outputs"
    if not network_file.exists():
        weights.save_weights(network_file, hard.untrained())
    for place in (folder / "inputs", outputs):
        place.mkdir(exist_ok=True)
        for path in place.iterdir():
            path.unlink()
    words = ["track", *write_source(source, number, steps, boxes, folder / "inputs")]
    words += [word for option in options.items() for word in option]
    words += ["--weights", network_file, "--preset", preset, "--device", "cpu"]
    words += ["--save-boxes", outputs / f"a{boxes_suffix}"]
    words += ["--save-video", outputs / f"a{video_suffix}"] if video_suffix else []
    code, out, err = command(*words)

    lines = err.splitlines()
    assert all(line.startswith("dcfnet: ") and len(line) < 800 for line in lines), err[:2000]
    assert sum(line.startswith("dcfnet: error: ") for line in lines) == (code != 0), err[:2000]
    assert "debug shows where" not in err, err
    found = sorted(path.name for path in outputs.iterdir())
    assert not any(".part" in name for name in found), found
    assert code in (0, 1, 2) and (code != 0 or " frame" in out), (code, out)
    assert code != 2 or found == [], found
    assert code != 0 or f"a{boxes_suffix}" in found
    if f"a{boxes_suffix}" in found:
        rows = read_boxes(outputs / f"a{boxes_suffix}").tolist()
        for row in rows[1:]:
            hard.good_box(row, (5000, 5000))
    return f"exit {code}"


# --- kinds


class Kind(NamedTuple):
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any, Path], str]


# some of them are sound
DAMAGED = st.tuples(st.integers(0, 63), st.just([]) | STEPS | STEPS | STEPS)
KINDS = {
    "tracking": Kind(hard.clips(), hard.check_tracking),
    "boxes": Kind(box_texts(), check_boxes),
    "data sets": Kind(dataset_files(), check_dataset),
    "results": Kind(result_files(), check_results),
    "weights .h5": Kind(DAMAGED, files.FileKind(files.hdf5_files, files.read_weights).check),
    "weights .mat": Kind(DAMAGED, files.FileKind(files.mat_files, files.read_weights).check),
    "weights .pth": Kind(DAMAGED, files.FileKind(files.pth_files, files.read_weights).check),
    "crops.h5": Kind(DAMAGED, files.FileKind(files.crop_files, files.read_crop_file).check),
    "images": Kind(DAMAGED, files.FileKind(image_files, files.read_one_image).check),
    "videos": Kind(DAMAGED, files.FileKind(video_files, files.read_video).check),
    "track": Kind(runs(), check_track),
}
