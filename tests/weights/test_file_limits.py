"""What the readers of files may take, memory above all, when a file was made to harm: the table of
docs/reference/robustness.md.

Every hostile file is read in one other process, which says how reading ended and by how much its
peak of memory grew. A reader that waits for ever is seen by that process' time limit.
"""

import functools
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from processes import PATIENCE
from weight_files import compressed, legacy, make, matrix, p_state, p_tensor, state_of, zipped

from dcfnet_np import presets, trace, weights
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.evaluation import results, runner
from dcfnet_np.support.archives import open_hdf5, open_stored_zip, stored_attributes, stored_dataset
from dcfnet_np.train import checkpoint, crops
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.images import read_image
from dcfnet_np.weights.mat import MatlabError, read_mat

MB = 1 << 20
SECONDS = 300  # after which a reader counts as one that never returns
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "robustness.md"

# reader, as the table calls it: (what reads, times the file's size, and MB beside it)
READERS: dict[str, tuple[Callable[[Path], Any], int, int]] = {
    "weights, HDF5": (weights.load_weights, 4, 20),
    "weights, `.mat`": (weights.load_weights, 4, 150),
    "weights, PyTorch": (weights.load_weights, 8, 20),
    "`crops.h5`": (crops.read_crops, 4, 20),
    "a trace": (lambda path: [None for _ in trace.read_trace(path)], 4, 20),
    "a checkpoint": (checkpoint.load_checkpoint, 8, 20),
    "boxes, `.txt`": (read_boxes, 100, 20),
    "boxes, `.csv`": (read_boxes, 100, 20),
    "boxes, `.json`": (read_boxes, 100, 20),
    "ground truth": (lambda path: read_truth(path, origin=0), 100, 20),
    "a preset": (lambda path: presets.get_preset(str(path)), 100, 20),
    "`results.json`": (lambda path: results.load(path.parent), 100, 20),
    "`run.json`": (lambda path: runner.read_record(path.parent), 100, 20),
    "an image of 2^24 pixels": (lambda path: read_image(path, 1), 0, 200),
}


# --- HDF5
# ----------------------------------------------------------------------------------------------------


@functools.cache
def zeros_deflated(size: int) -> bytes:
    """zlib's stream of `size` MB of zeros, a thousandth of it."""
    packer = zlib.compressobj(1)
    return b"".join([packer.compress(bytes(MB)) for _ in range(size)]) + packer.flush()


BOMB = 100  # MB that a few bytes unfold to; far above what any row allows


def filtered(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, chunk: int) -> None:
    """A data set of the right shape, deflated, whose first chunk holds a bomb; `chunk` numbers lie
    in one.
    """
    del file[name]
    chunks = (chunk, *[1] * (len(shape) - 1))
    made = file.create_dataset(
        name, shape, kind, chunks=chunks, maxshape=(None,) * len(shape), compression=1
    )
    made.id.write_direct_chunk((0,) * len(shape), zeros_deflated(BOMB))


def instead(name: str, value: Any) -> Callable[[h5py.File], None]:
    """Put a link or data under a name."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def claimed(
    name: str, shape: tuple[int, ...], kind: Any, **options: Any
) -> Callable[[h5py.File], None]:
    """A data set without content: of `shape`, or somewhere else by `options`."""

    def change(file: h5py.File) -> None:
        old = file[name]
        shape_, kind_ = shape or old.shape, kind or old.dtype
        del file[name]
        file.create_dataset(name, shape_, kind_, **options)

    return change


def virtual(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, kind)
        layout[...] = h5py.VirtualSource("other.h5", name, shape)
        file.create_virtual_dataset(name, layout)

    return change


def references(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        shape = file[name].shape
        there = file["/"].ref
        del file[name]
        file[name] = np.full(shape, there, h5py.ref_dtype)

    return change


def deep(file: h5py.File) -> None:
    here = file
    for _ in range(3000):
        here = here.create_group("g")


def hdf5_changes(name: str, rows: int) -> dict[str, Callable[[h5py.File], None]]:
    """What can be done to the data set `name`, which has numbers."""
    elsewhere = {"external": [("/dev/zero", 0, h5py.h5f.UNLIMITED)]}
    return {
        "a chunk of 100 MB": lambda file: filtered(
            file, name, file[name].shape, file[name].dtype, BOMB * MB // 8
        ),
        "a chunk that unfolds": lambda file: filtered(
            file, name, file[name].shape, file[name].dtype, rows
        ),
        "an external link": instead(name, h5py.ExternalLink("other.h5", name)),
        "a link to a pipe": instead(name, h5py.ExternalLink("pipe", name)),
        "a soft link": instead(name, h5py.SoftLink("/elsewhere")),
        "a group": lambda file: (file.__delitem__(name), file.create_group(name)),
        "an external file": claimed(name, (), None, **elsewhere),
        "a virtual one": virtual(name),
        "references": references(name),
        "a terabyte in chunks": claimed(name, (2**20, 2**18), np.float32, chunks=(64, 64)),
        "a terabyte in one piece": claimed(name, (2**20, 2**18), np.float32),
        "texts of any length": claimed(name, (100,), h5py.string_dtype()),
        "nothing": lambda file: file.__delitem__(name),
    }


def changed(original: bytes, change: Callable[[h5py.File], None]) -> bytes:
    """Change a file in memory; it keeps its checksums."""
    stream = io.BytesIO(original)
    with h5py.File(stream, "r+", libver=("v108", "v110")) as file:
        change(file)
    return stream.getvalue()


def sound_weights(folder: Path) -> bytes:
    weights.save_weights(folder / "sound.h5", make())
    return (folder / "sound.h5").read_bytes()


def sound_crops(folder: Path) -> bytes:
    path, rng = folder / "sound_crops.h5", np.random.default_rng(0)
    with crops.CropWriter(path, {}, 16, [("a", "1"), ("b", "2")]) as writer:
        for count in (3, 2):
            writer.add(rng.integers(0, 256, (count, 3, 16, 16), np.uint8))
            writer.end_sequence(np.arange(count, dtype=np.int32), np.ones((count, 4)), {})
        attributes = {"padding": 2.0, "size": 16, "margin": 0, "skipped": "{}"}
        writer.finish(["a", "b"], np.array([False, True]), attributes)
    return path.read_bytes()


def sound_trace(folder: Path) -> bytes:
    facts = {"format": trace.FORMAT, "format_version": trace.FORMAT_VERSION}
    values = np.random.default_rng(0).random((1000, 3))
    trace.write_trace(
        folder / "sound_trace.h5", [("frame 0", {"a": values, "b": values[:1]})], facts
    )
    return (folder / "sound_trace.h5").read_bytes()


def one_under_many_names(file: h5py.File) -> None:
    file["frame 0/big"] = np.zeros(MB // 4, np.float32)
    for number in range(200):
        file[f"frame 0/{number}"] = file["frame 0/big"]


# --- PyTorch, zip
# --------------------------------------------------------------------------------------------


def overlapping(content: bytes, name: str, count: int, archive: bytes) -> bytes:
    """The archive with `count` more entries in its directory, which all lie on one of `content`."""
    stream = io.BytesIO(archive)
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr(name % 0, content)
        first = file.getinfo(name % 0)
        for number in range(1, count):
            entry = zipfile.ZipInfo(name % number)
            entry.header_offset, entry.file_size, entry.compress_size = (
                first.header_offset,
                len(content),
                len(content),
            )
            entry.CRC = first.CRC
            file.filelist.append(entry)
            file.NameToInfo[entry.filename] = entry
    data = stream.getvalue()
    assert data.count(b"PK\x01\x02") >= count
    return data


def state_of_zeros(count: int, length: int) -> bytes:
    return p_state(
        [(f"{i}.weight", p_tensor(str(i), (length,), (1,), length)) for i in range(count)]
    )


def pth_files() -> dict[str, bytes]:
    parameters = make().parameters
    state, storages = state_of(parameters)
    bytearray8 = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
    return {
        "a deflated storage": zipped(
            state, storages | {"0": bytes(BOMB * MB)}, zipfile.ZIP_DEFLATED
        ),
        "entries on each other": overlapping(
            bytes(MB), "archive/data/%03d", 400, zipped(state_of_zeros(400, MB // 4), {})
        ),
        "a hundred thousand entries": overlapping(
            b"", "archive/data/%06d", 100_000, zipped(state, storages)
        ),
        "a claimed storage": zipped(state_of_zeros(1, 2**40), {"0": bytes(64)}),
        "a claimed storage, old format": legacy(state_of_zeros(1, 2**40), {"0": bytes(64)}),
        "one storage under many names": zipped(
            p_state([(f"{i}.weight", p_tensor("0", (MB,), (1,), MB)) for i in range(100)]),
            {"0": bytes(4 * MB)},
        ),
        "a large index of the memo": zipped(b"\x80\x02Nr\xff\xff\xff\x7f.", {}),
        "a claimed bytearray": zipped(bytearray8, {}),
        "a claimed bytearray, old format": legacy(bytearray8, {}),
        "a claimed text": zipped(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.", {}),
        "16 MB of marks": zipped(b"\x80\x02" + b"(" * 15 * MB + b".", {}),
        "many lists": zipped(b"\x80\x02" + b"]" * 60_000 + b".", {}),
    }


def npz_files() -> dict[str, bytes]:
    """Checkpoints, which NumPy reads from a zip archive of .npy files."""

    def npy(shape: str, kind: str) -> bytes:
        head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head

    def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as file:
            for name, content in entries.items():
                file.writestr(name, content)
        return stream.getvalue()

    meta = npy("()", "<U2") + "{}".encode("utf-32-le")
    big = npy(f"({MB},)", "|u1") + bytes(MB)
    return {
        "a deflated array": archive(
            {"meta.npy": meta, "parameters/a.npy": big * BOMB}, zipfile.ZIP_DEFLATED
        ),
        "arrays on each other": overlapping(
            big, "parameters/%03d.npy", 400, archive({"meta.npy": meta})
        ),
        "a hundred thousand arrays": overlapping(
            b"", "parameters/%06d.npy", 100_000, archive({"meta.npy": meta})
        ),
        "a claimed array": archive(
            {"meta.npy": meta, "parameters/a.npy": npy("(1073741824, 1024)", "<f4")}
        ),
        "a claimed text": archive({"meta.npy": npy("()", "<U1000000000")}),
        "objects": archive({"meta.npy": npy("()", "|O") + b"\x80\x04N."}),
        "deep JSON": archive(
            {"meta.npy": npy("()", "<U200000") + ("[" * 200_000).encode("utf-32-le")}
        ),
    }


# --- .mat
# ----------------------------------------------------------------------------------------------------


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


@functools.cache
def mat_files() -> dict[str, bytes]:
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    number = matrix(6, (1, 1), (9, bytes(8)))
    empty = element(14, b"")
    names = (5, struct.pack("<i", 8)), (1, b"a".ljust(8, b"\0"))
    many = (4 * MB - 200) // 8
    structs = element(
        14, _head(2, (many, 1)) + b"".join(element(*name) for name in names) + empty * many
    )
    dimensions = _flags(6) + element(5, b"\xff\xff\xff\x7f" * (MB // 2))
    return {
        "a variable of 100 MB": start + element(15, zeros_deflated(BOMB)),
        "a thousand of 1 MB": start + compressed(number + bytes(MB)) * 1000,
        "two million dimensions": start + compressed(element(14, dimensions)),
        "two million flags": start + compressed(element(14, element(6, bytes(3 * MB)))),
        "names of one letter": start
        + compressed(
            element(
                14, _head(2, (1, 1)) + element(5, struct.pack("<i", 1)) + element(1, b"a" * 3 * MB)
            )
        ),
        "half a million structures": start + compressed(structs),
        "half a million cells": start + compressed(element(14, _head(1, (many, 1)) + empty * many)),
        "two million variables": start + empty * (2 * MB - 16),
        "numbers without end": start + compressed(matrix(6, (2**31 - 1, 2**31 - 1), (9, bytes(8)))),
    }


def _flags(kind: int) -> bytes:
    return element(6, struct.pack("<II", kind, 0))


def _head(kind: int, shape: tuple[int, ...]) -> bytes:
    return _flags(kind) + element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, b"net")


# --- texts
# ---------------------------------------------------------------------------------------------------


def text_files(suffix: str) -> dict[str, bytes]:
    size = 2 * MB
    row = {"x": 1, "y": 2, "w": 3, "h": 4}
    if suffix == ".json":
        return {
            "deep lists": b"[" * size,
            "deep and closed": b"[" * 100_000 + b"]" * 100_000,
            "many rows": json.dumps([row] * (size // 40)).encode(),
            "one long word": json.dumps([row | {"x": "7" * size}]).encode(),
            "one long number": b'[{"x": ' + b"7" * size + b', "y": 1, "w": 1, "h": 1}]',
            "many lists": b"[" + b"[]," * (size // 3) + b"[]]",
            "a long list for a value": json.dumps(
                {"preset": "default", "padding": [0] * (size // 3)}
            ).encode(),
        }
    head = b"x,y,w,h\n" if suffix == ".csv" else b""
    return {
        "many rows": head + b"1,2,3,4\n" * (size // 8),
        "many short lines": head + b"\n" * size,
        "one long line": head + b"1," * (size // 2),
        "one long word": head + b"7" * size,
        "one long quotation": head + b'"' + b"7" * size,
        "zeros": head + bytes(size),
    }


def image_files() -> dict[str, bytes]:
    def png(width: int, height: int) -> bytes:
        """Only the header is changed: what it claims is not there."""
        data = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]

    def bmp(width: int, height: int) -> bytes:
        data = cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
        return data[:18] + struct.pack("<ii", width, height) + data[26:]

    return {
        "black": cv2.imencode(".png", np.zeros((4096, 4096), np.uint8))[1].tobytes(),
        "a .png that claims 2^30 pixels and more": png(2**15 + 1, 2**15),
        "a .png that claims them and has none": png(4096, 4096),
        "a .bmp that claims 2^30 pixels and more": bmp(2**15 + 1, 2**15),
        "a .bmp that claims them and has none": bmp(4096, 4096),
    }


# --- reading them apart
# ----------------------------------------------------------------------------------------


def hostile_files(folder: Path) -> dict[str, dict[str, bytes]]:
    """reader -> what is wrong -> the file."""
    sound = sound_weights(folder), sound_crops(folder), sound_trace(folder)
    names = "conv1/bias", "box", "frame 0/a"
    made = []
    for data, name in zip(sound, names):
        changes = hdf5_changes(name, 32)
        made.append({case: changed(data, change) for case, change in changes.items()})
    made[0]["groups in groups"] = changed(sound[0], deep)
    made[0]["its group elsewhere"] = changed(
        sound[0], instead("conv1", h5py.ExternalLink("other.h5", "conv1"))
    )
    made[1]["its crops elsewhere"] = changed(
        sound[1], instead("crops", h5py.ExternalLink("other.h5", "crops"))
    )
    made[2]["its frame elsewhere"] = changed(
        sound[2], instead("frame 0", h5py.ExternalLink("other.h5", "frame 0"))
    )
    made[2]["one under 200 names"] = changed(sound[2], one_under_many_names)
    return {
        "weights, HDF5": made[0],
        "`crops.h5`": made[1],
        "a trace": made[2],
        "weights, `.mat`": mat_files(),
        "weights, PyTorch": pth_files(),
        "a checkpoint": npz_files(),
        "boxes, `.txt`": text_files(".txt"),
        "boxes, `.csv`": text_files(".csv"),
        "boxes, `.json`": text_files(".json"),
        "ground truth": text_files(".txt"),
        "a preset": text_files(".json"),
        "`results.json`": text_files(".json"),
        "`run.json`": text_files(".json"),
        "an image of 2^24 pixels": image_files(),
    }


SOUND = {"weights, HDF5": "sound.h5", "`crops.h5`": "sound_crops.h5", "a trace": "sound_trace.h5"}
BINARY = (".h5", ".mat", ".pth", ".npz")
SUFFIXES = dict.fromkeys(SOUND, ".h5") | {
    "weights, `.mat`": ".mat",
    "weights, PyTorch": ".pth",
    "a checkpoint": ".npz",
    "boxes, `.txt`": ".txt",
    "boxes, `.csv`": ".csv",
    "boxes, `.json`": ".json",
    "a preset": ".json",
}
NAMES = {
    "ground truth": "groundtruth_rect.txt",
    "`results.json`": "results.json",
    "`run.json`": "run.json",
}


def memory(what: str) -> float:
    """MB of this process: VmRSS, now, or VmHWM, the peak."""
    return (
        int(re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1))
        / 1024
    )


def read_all(folder: Path) -> None:
    """Read every file of `folder`/list.json, each in a copy of this process, which says how it
    ended.
    """
    for reader, case, path, warm in json.loads((folder / "list.json").read_text()):
        if warm:  # loads libraries
            READERS[reader][0](Path(path))
        elif os.fork() == 0:
            signal.alarm(SECONDS)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = memory("VmRSS")
            try:
                READERS[reader][0](Path(path))
                ended = "a result"
            except Exception as error:
                ended = f"{type(error).__name__}: {str(error)[:1000]}"
            print(json.dumps([reader, case, ended, memory("VmHWM") - before]), flush=True)
            os._exit(0)
        else:
            os.wait()


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], tuple[str, float, float]]:
    """(reader, what is wrong) -> (how reading ended, MB that it took, MB of the file)."""
    folder = tmp_path_factory.mktemp("hostile")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("memory is measured by Linux' /proc")
    tasks, sizes = [], {}
    for reader, cases in hostile_files(folder).items():
        for case, content in cases.items():
            place = folder / f"{len(tasks)}"
            place.mkdir()
            path = place / NAMES.get(reader, f"file{SUFFIXES.get(reader, '.png')}")
            path.write_bytes(content)
            os.mkfifo(place / "pipe")
            if reader in SOUND:
                os.link(folder / SOUND[reader], place / "other.h5")
            tasks.append((reader, case, str(path), False))
            sizes[reader, case] = len(content) / MB
    warm = [(reader, "", str(folder / name), True) for reader, name in SOUND.items()]
    (folder / "list.json").write_text(json.dumps(warm + tasks))
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "support")]
    program = f"import sys; sys.path[:0] = {paths!r}; import test_file_limits as here"
    program += f"; here.read_all(here.Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, (done.stdout[-300:], done.stderr[-2000:])
    found = {
        (reader, case): (ended, mb)
        for reader, case, ended, mb in map(json.loads, done.stdout.splitlines())
    }
    assert found.keys() == sizes.keys()
    return {key: (*found[key], sizes[key]) for key in sizes}


# --- what must hold
# --------------------------------------------------------------------------------------------


def test_memory(measured):
    """Never more than the table says; and every reader came back."""
    too_much = []
    for (reader, case), (ended, mb, size) in measured.items():
        _, times, beside = READERS[reader]
        if mb > times * size + beside:
            too_much.append((reader, case, f"{mb:.0f} MB of a file of {size:.2f} MB", ended))
    assert not too_much


def test_endings(measured):
    """Each of these files is refused in one line of reasonable length that names it; nothing is
    read from elsewhere.
    """
    good = {("weights, HDF5", "groups in groups"), ("a trace", "nothing")}
    for (reader, case), (ended, _, _) in measured.items():
        if SUFFIXES.get(reader) in BINARY:
            refused = r"(Weights|Checkpoint|Value)Error: .{20,400}$"
            pattern = "a result$" if (reader, case) in good else refused
            assert re.match(pattern, ended), (reader, case, ended)


@pytest.mark.parametrize(
    ("reader", "case", "words"),
    [
        ("weights, HDF5", "its group elsewhere", "conv1/weight is a link to another place"),
        ("weights, HDF5", "nothing", "conv1/bias is missing"),
        ("weights, PyTorch", "a deflated storage", "a compressed zip archive, which torch.save"),
        ("weights, PyTorch", "entries on each other", "a zip archive that claims more than it has"),
        ("weights, PyTorch", "a hundred thousand entries", "a zip archive of too many entries"),
        (
            "weights, PyTorch",
            "one storage under many names",
            "its tensors have more values than the file",
        ),
        ("a checkpoint", "arrays on each other", "a zip archive that claims more than it has"),
        ("a checkpoint", "a deflated array", "a compressed zip archive"),
        ("a trace", "one under 200 names", "step 'frame 0' is damaged"),
    ],
)
def test_what_is_said(measured, reader, case, words):
    assert words in measured[reader, case][0]


def test_the_table_says_what_is_measured():
    rows = re.findall(
        r"^\| ([^|]+) \| (?:(\d+) N \+ )?(\d+) MB \|",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    table = {name: (int(times or 0), int(beside)) for name, times, beside in rows}
    assert table == {name: (times, beside) for name, (_, times, beside) in READERS.items()}


# --- what is refused above must not refuse what is sound
# -------------------------------------------------------


def test_sound_files_are_read(tmp_path):
    sound_weights(tmp_path), sound_crops(tmp_path), sound_trace(tmp_path)
    assert weights.load_weights(tmp_path / "sound.h5").training == make().training
    assert crops.read_crops(tmp_path / "sound_crops.h5").crops.shape == (5, 3, 16, 16)
    ((name, record),) = trace.read_trace(tmp_path / "sound_trace.h5")
    np.testing.assert_array_equal(record["a"], np.random.default_rng(0).random((1000, 3)))
    assert name == "frame 0" and list(record) == ["a", "b"]


def test_data_sets_that_are_not_read(tmp_path):
    """Each would be read by h5py, or waited for; each fails at one condition of `stored_dataset`
    alone.
    """
    os.mkfifo(tmp_path / "pipe")
    deflated = zeros_deflated(BOMB)
    with h5py.File(tmp_path / "other.h5", "w", libver="v110") as file:
        file["group/data"] = np.arange(4.0)
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        file["group/data"] = np.arange(4.0)
        file["soft"] = h5py.SoftLink("/group/data")
        file["soft_group"] = h5py.SoftLink("/group")
        file["far"] = h5py.ExternalLink("other.h5", "group/data")
        file["far_group"] = h5py.ExternalLink("other.h5", "group")
        file["pipe"] = h5py.ExternalLink("pipe", "group/data")
        file["files"] = np.arange(4.0)
        claimed("files", (), None, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])(file)
        file["virtual"] = np.arange(4.0)
        virtual("virtual")(file)
        file["references"] = np.full(4, file.ref, h5py.ref_dtype)
        size = len(deflated)  # as many bytes as numbers, so that only the filter tells
        made = file.create_dataset("deflated", (size,), np.uint8, chunks=(size,), compression=1)
        made.id.write_direct_chunk((0,), deflated)
        file.create_dataset("late", (2**20, 2**18), np.float32)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert stored_dataset(file, "group/data")[:].tolist() == [0, 1, 2, 3]
        for name in ("soft", "soft_group/data", "far", "far_group/data", "pipe"):
            with pytest.raises(ValueError, match=f"{name} is a link to another place"):
                stored_dataset(file, name)
        for name in ("files", "virtual", "references", "deflated", "late"):
            with pytest.raises(ValueError, match=f"{name} is compressed, kept elsewhere or not"):
                stored_dataset(file, name)
        with pytest.raises(ValueError, match="group is no data set"):
            stored_dataset(file, "group")


def test_a_data_set_in_the_file_but_in_chunks(tmp_path):
    """As `crops` of crops.h5 has them: what lies there as it is passes, a hole among the chunks
    does not.
    """
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        file.create_dataset("whole", data=np.arange(12.0), chunks=(4,))
        file.create_dataset("holes", (12,), float, chunks=(4,))[:4] = 1
        file.create_dataset("half", data=np.arange(12.0), chunks=(5,))
    with open_hdf5(tmp_path / "a.h5") as file:
        assert stored_dataset(file, "whole")[:].tolist() == list(range(12))
        for name in ("holes", "half"):
            with pytest.raises(
                ValueError, match=f"{name} is compressed, kept elsewhere or not there"
            ):
                stored_dataset(file, name)
        with pytest.raises(KeyError, match="other is missing"):
            stored_dataset(file, "other")
        with pytest.raises(KeyError, match="whole/more is missing"):
            stored_dataset(file, "whole/more")


def test_attributes_that_are_read(tmp_path):
    """Texts of fixed length and a few numbers; no others, since they may be large, or lead to where
    no checksum is.
    """
    values = {
        "text": np.bytes_("Zoë".encode()),
        "number": 3,
        "numbers": np.arange(16),
        "true": np.True_,
        "many": np.arange(17),
        "loose": "any length",
        "texts": np.array([b"a", b"b"]),
        "nothing": h5py.Empty("f4"),
    }
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        for name, value in values.items():
            file.attrs[name] = value
        file.attrs["reference"] = file.ref
    with open_hdf5(tmp_path / "a.h5") as file:
        found = stored_attributes(file, [*values, "reference", "absent"])
    assert found.keys() == {"text", "number", "numbers", "true"}
    assert (
        found["text"] == "Zoë"
        and found["number"] == 3
        and found["numbers"].tolist() == list(range(16))
    )


def test_what_is_opened_as_hdf5(tmp_path):
    for name in ("nothing", ""):
        with pytest.raises(FileNotFoundError):
            open_hdf5(tmp_path / name)
    for libver, good in (("earliest", False), ("v108", True), ("v110", True)):
        h5py.File(tmp_path / "a.h5", "w", libver=(libver, "v110")).close()
        if good:
            open_hdf5(tmp_path / "a.h5").close()
        else:
            with pytest.raises(ValueError, match="no HDF5 file with checksums"):
                open_hdf5(tmp_path / "a.h5")


def test_pipes_are_not_waited_for(tmp_path):
    """In another process, since a reader that opens a pipe never comes back."""
    os.mkfifo(tmp_path / "pipe")
    program = f"""
        from pathlib import Path
        from dcfnet_np import trace, weights
        from dcfnet_np.support.archives import open_hdf5
        from dcfnet_np.train import checkpoint, crops
        imports = weights.import_weights, weights.import_weights, weights.import_weights
        others = crops.read_crops, checkpoint.load_checkpoint, open_hdf5
        for read in (weights.load_weights, *imports, *others, lambda path: next(trace.read_trace(path))):
            try:
                read(Path({str(tmp_path / "pipe")!r}))
            except (ValueError, FileNotFoundError) as error:
                print(error)
    """
    program = textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 8 and all(str(tmp_path / "pipe") in line for line in lines), done


def test_zip_archives_that_are_opened():
    """A thousand entries, and every byte used, are still good; not one more, nor one byte claimed
    twice.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for number in range(1000):
            file.writestr(f"{number}", bytes(100))
    assert len(open_stored_zip(stream.getvalue()).namelist()) == 1000
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr("one more", b"")
    with pytest.raises(ValueError, match="too many entries"):
        open_stored_zip(stream.getvalue())
    with pytest.raises(ValueError, match="compressed zip archive"):
        open_stored_zip(zipped(b"", {"0": bytes(1000)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="claims more than it has"):
        open_stored_zip(overlapping(bytes(1000), "%03d", 100, zipped(b"", {})))


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("weights, HDF5", "conv1/bias"),
        ("`crops.h5`", "crops"),
        ("`crops.h5`", "sequences"),
        ("`crops.h5`", "validation"),
        ("a trace", "frame 0/a"),
        ("a trace", "frame 0"),
    ],
)
def test_nothing_is_read_from_elsewhere(tmp_path, reader, name):
    """The other file is sound and lies where the link says: followed, it would be read."""
    for write in (sound_weights, sound_crops, sound_trace):
        write(tmp_path)
    os.rename(tmp_path / SOUND[reader], tmp_path / "other.h5")
    data = changed(
        (tmp_path / "other.h5").read_bytes(), instead(name, h5py.ExternalLink("other.h5", name))
    )
    (tmp_path / "a.h5").write_bytes(data)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file[name].file.filename.endswith("other.h5")
    with pytest.raises(ValueError, match=r"a\.h5"):
        READERS[reader][0](tmp_path / "a.h5")


def test_one_data_set_under_many_names_counts_each_time(tmp_path):
    (tmp_path / "a.h5").write_bytes(changed(sound_trace(tmp_path), one_under_many_names))
    with pytest.raises(ValueError, match="step 'frame 0' is damaged"):
        list(trace.read_trace(tmp_path / "a.h5"))


def test_a_trace_of_another_version(tmp_path):
    """As traces were before, with compressed data sets."""
    content = changed(
        sound_trace(tmp_path), lambda file: file.attrs.__setitem__("format_version", 1)
    )
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ValueError, match="not a trace of version 2"):
        next(trace.read_trace(tmp_path / "a.h5"))


def test_checkpoints_that_unfold(tmp_path):
    for case, content in npz_files().items():
        (tmp_path / "a.npz").write_bytes(content)
        words = {"a deflated array": "a compressed zip", "arrays on each other": "claims more"}.get(
            case, ""
        )
        with pytest.raises(
            checkpoint.CheckpointError, match=f"is no readable checkpoint .*{words}"
        ):
            checkpoint.load_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a variable of 100 MB", "cut short or too large"),
        ("a thousand of 1 MB", "too large"),
        ("two million dimensions", "too many dimensions"),
        ("two million flags", "too many dimensions"),
        ("names of one letter", "a structure without names"),
        ("two million variables", "too large for a network"),
        ("numbers without end", "1 numbers for a shape of"),
    ],
)
def test_mat_files_that_unfold(case, message):
    with pytest.raises(MatlabError, match=message):
        read_mat(mat_files()[case])


@pytest.mark.parametrize("size", [weights.LARGEST_FILE, weights.LARGEST_FILE + 1])
def test_large_files_are_not_read(tmp_path, size):
    """They are sparse here; what is within the limit is refused for what it is."""
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04")
    os.truncate(tmp_path / "a.pth", size)
    with pytest.raises(weights.WeightsError, match="too large" if size > 16 * MB else "damaged"):
        weights.load_weights(tmp_path / "a.pth")
    os.truncate(tmp_path / "a.pth", 4 * size)
    with pytest.raises(
        checkpoint.CheckpointError, match="over 64 MiB" if size > 16 * MB else "not a zip file"
    ):
        checkpoint.load_checkpoint(tmp_path / "a.pth")
