"""What the readers of files may take, memory above all, when a file was made to harm.

The limits are the table of docs/reference/robustness.md.  Every hostile file is read in one other
process, which says how reading ended and by how much its peak of memory grew.  A reader that waits
for ever is seen by that process' time limit.
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
import zipfile
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from weight_files import (
    compressed,
    element,
    make,
    matrix,
    p_state,
    p_tensor,
    small_crops,
    state_of,
    zipped,
)  # fmt: skip

from dcfnet_np import presets, trace, weights
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.evaluation import results, runner
from dcfnet_np.support.archives import open_hdf5, stored_attributes, stored_dataset
from dcfnet_np.train import checkpoint, crops
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.images import read_image
from dcfnet_np.weights.mat import MatlabError, read_mat

MB = 1 << 20
SECONDS = 300  # after which a reader counts as one that never returns
BOMB = 100  # MB that a few bytes unfold to; far above what any row allows
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "robustness.md"

# reader, as the table calls it: (name of the file, what reads, times its size, and MB beside it)
READERS = {
    "weights, HDF5": ("a.h5", weights.load_weights, 4, 20),
    "weights, `.mat`": ("a.mat", weights.load_weights, 4, 150),
    "weights, PyTorch": ("a.pth", weights.load_weights, 8, 20),
    "`crops.h5`": ("a.h5", crops.read_crops, 4, 20),
    "a trace": ("a.h5", lambda path: [None for _ in trace.read_trace(path)], 4, 20),
    "a checkpoint": ("a.npz", checkpoint.load_checkpoint, 8, 20),
    "boxes, `.txt`": ("a.txt", read_boxes, 100, 20),
    "boxes, `.csv`": ("a.csv", read_boxes, 100, 20),
    "boxes, `.json`": ("a.json", read_boxes, 100, 20),
    "ground truth": ("groundtruth.txt", lambda path: read_truth(path, origin=0), 100, 20),
    "a preset": ("a.json", lambda path: presets.get_preset(str(path)), 100, 20),
    "`results.json`": ("results.json", lambda path: results.load_results(path.parent), 100, 20),
    "`run.json`": ("run.json", lambda path: runner.read_record(path.parent), 100, 20),
    "an image of 2^24 pixels": ("a.png", lambda path: read_image(path, 1), 0, 200),
}


# --- HDF5


@functools.cache
def zeros_deflated(size):
    """zlib's stream of `size` MB of zeros, a thousandth of it."""
    packer = zlib.compressobj(1)
    return b"".join([packer.compress(bytes(MB)) for _ in range(size)]) + packer.flush()


def instead(name, value):
    """Put a link or data under a name; nothing where there is no value."""

    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


def one_under_many_names(file):
    file["frame 0/big"] = np.zeros(MB // 4, np.float32)
    for number in range(200):
        file[f"frame 0/{number}"] = file["frame 0/big"]


def bomb(name):
    """A data set of the same shape whose only chunk unfolds to 100 MB."""

    def change(file):
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        chunks = (BOMB * MB // 8, *[1] * (len(shape) - 1))
        free = (None,) * len(shape)
        made = file.create_dataset(name, shape, kind, chunks=chunks, maxshape=free, compression=1)
        made.id.write_direct_chunk((0,) * len(shape), zeros_deflated(BOMB))

    return change


def terabyte(name):
    def change(file):
        del file[name]
        file.create_dataset(name, (2**20, 2**18), np.float32)

    return change


def changed(original, change):
    """Change a file in memory; it keeps its checksums."""
    stream = io.BytesIO(original)
    with h5py.File(stream, "r+", libver=("v108", "v110")) as file:
        change(file)
    return stream.getvalue()


def sound_weights(path):
    weights.save_weights(path, make())


def sound_trace(path):
    facts = {"format": trace.FORMAT, "format_version": trace.FORMAT_VERSION}
    values = np.random.default_rng(0).random((1000, 3))
    trace.write_trace(path, [("frame 0", {"a": values, "b": values[:1]})], facts)


# reader: (what writes a sound file, a data set to change, names to lead away)
HDF5 = {
    "weights, HDF5": (sound_weights, "conv1/bias", ["conv1"]),
    "`crops.h5`": (small_crops, "box", ["box", "crops"]),
    "a trace": (sound_trace, "frame 0/a", ["frame 0"]),
}


def hdf5_files(reader, path):
    """Of what `stored_dataset` refuses, see below, what would show in memory or in another file."""
    write, name, others = HDF5[reader]
    write(path)
    changes = {
        "a chunk of 100 MB": bomb(name),
        "a terabyte": terabyte(name),
        "nothing": instead(name, None),
        "a link to a pipe": instead(name, h5py.ExternalLink("pipe", name)),
    }
    for other in others:
        changes[f"{other} elsewhere"] = instead(other, h5py.ExternalLink("other.h5", other))
    if reader == "a trace":
        changes["one under 200 names"] = one_under_many_names
    return {case: changed(path.read_bytes(), change) for case, change in changes.items()}


# --- PyTorch, zip


def overlapping(content, name, count, archive):
    """The archive with `count` more entries in its directory, which all lie on one of `content`."""
    stream, size = io.BytesIO(archive), len(content)
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr(name % 0, content)
        first = file.getinfo(name % 0)
        for number in range(1, count):
            entry = zipfile.ZipInfo(name % number)
            entry.header_offset, entry.CRC = first.header_offset, first.CRC
            entry.file_size = entry.compress_size = size
            file.filelist.append(entry)
            file.NameToInfo[entry.filename] = entry
    return stream.getvalue()


def zeros(count, length):
    tensors = [p_tensor(str(i), (length,), (1,), length) for i in range(count)]
    return p_state([(f"{i}.weight", tensor) for i, tensor in enumerate(tensors)])


def pth_files():
    state, storages = state_of(make().parameters)
    bytearray8 = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
    many_names = [(f"{i}.weight", p_tensor("0", (MB,), (1,), MB)) for i in range(100)]
    bomb = storages | {"0": bytes(BOMB * MB)}
    overlaid = zipped(zeros(400, MB // 4), {})
    return {
        "a deflated storage": zipped(state, bomb, zipfile.ZIP_DEFLATED),
        "entries on each other": overlapping(bytes(MB), "archive/data/%03d", 400, overlaid),
        "a hundred thousand entries": overlapping(b"", "a/%06d", 100_000, zipped(state, storages)),
        "a claimed storage": zipped(zeros(1, 2**40), {"0": bytes(64)}),
        "one storage under many names": zipped(p_state(many_names), {"0": bytes(4 * MB)}),
        "a large index of the memo": zipped(b"\x80\x02Nr\xff\xff\xff\x7f.", {}),
        "a claimed bytearray": zipped(bytearray8, {}),
        "16 MB of marks": zipped(b"\x80\x02" + b"(" * 15 * MB + b".", {}),
    }


def npz_files():
    """Checkpoints, which NumPy reads from a zip archive of .npy files."""

    def npy(shape, kind):
        head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head

    def archive(entries, method=zipfile.ZIP_STORED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as file:
            for name, content in entries.items():
                file.writestr(f"{name}.npy", content)
        return stream.getvalue()

    meta = {"meta": npy("()", "<U2") + "{}".encode("utf-32-le")}
    big = npy(f"({MB},)", "|u1") + bytes(MB)
    return {
        "a deflated array": archive(meta | {"parameters/a": big * BOMB}, zipfile.ZIP_DEFLATED),
        "arrays on each other": overlapping(big, "parameters/%03d.npy", 400, archive(meta)),
        "a claimed array": archive(meta | {"parameters/a": npy("(1073741824, 1024)", "<f4")}),
        "a claimed text": archive({"meta": npy("()", "<U1000000000")}),
        "objects": archive({"meta": npy("()", "|O") + b"\x80\x04N."}),
    }


# --- .mat


def array_of(kind, shape, *elements):
    """An array of a .mat file whose contents are elements of any length."""
    flags, name = element(6, struct.pack("<II", kind, 0)), element(1, b"net")
    size = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + size + name + b"".join(elements))


@functools.cache
def mat_files():
    """What is wrong -> (the file, what the reader says)."""
    number, empty = matrix(6, (1, 1), (9, bytes(8))), element(14, b"")
    many = (4 * MB - 200) // 8
    names = element(5, struct.pack("<i", 8)), element(1, b"a".ljust(8, b"\0"))
    flags = element(6, struct.pack("<II", 6, 0))
    dimensions = element(14, flags + element(5, b"\xff\xff\xff\x7f" * (MB // 2)))
    elements = {
        "a variable of 100 MB": (element(15, zeros_deflated(BOMB)), "cut short or too large"),
        "a thousand of 1 MB": (compressed(number + bytes(MB)) * 1000, "too large"),
        "two million dimensions": (compressed(dimensions), "too many dimensions"),
        "half a million structures": (compressed(array_of(2, (many, 1), *names, empty * many)), ""),
        "two million variables": (empty * (2 * MB - 16), "too large for a network"),
        "numbers without end": (
            compressed(matrix(6, (2**31 - 1,) * 2, (9, bytes(8)))), "1 number for a shape of",
        ),
    }  # fmt: skip
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return {case: (start + content, said) for case, (content, said) in elements.items()}


# --- texts, images


def text_files(suffix):
    size = 2 * MB
    if suffix == ".json":
        row = {"x": 1, "y": 2, "w": 3, "h": 4}
        return {
            "many rows": json.dumps([row] * (size // 40)).encode(),
            "a long list for a value": json.dumps({"padding": [0] * (size // 3)}).encode(),
            "deep lists": b"[" * size,
            "one long number": b'[{"x": ' + b"7" * size + b', "y": 1, "w": 1, "h": 1}]',
        }
    head = b"x,y,w,h\n" if suffix == ".csv" else b""
    contents = {
        "many rows": b"1,2,3,4\n" * (size // 8), "many short lines": b"\n" * size,
        "one long line": b"1," * (size // 2), "one long quotation": b'"' + b"7" * size,
    }  # fmt: skip
    return {case: head + content for case, content in contents.items()}


def image_files():
    """Only a header is changed: what it claims is not there."""

    def png(width, height):
        data = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]

    return {
        "black": cv2.imencode(".png", np.zeros((4096, 4096), np.uint8))[1].tobytes(),
        "a .png that claims 2^30 pixels and more": png(2**15 + 1, 2**15),
        "a .png that claims them and has none": png(4096, 4096),
    }


def hostile_files(reader, path):
    """What is wrong -> the file, None for a pipe; `path` is for a sound one."""
    if reader in HDF5:
        return hdf5_files(reader, path) | {"a pipe": None}
    if reader == "weights, `.mat`":
        return {case: content for case, (content, _) in mat_files().items()}
    name = READERS[reader][0]
    if name in ("a.pth", "a.npz"):
        return (pth_files() if name == "a.pth" else npz_files()) | {"a pipe": None}
    return image_files() if name == "a.png" else text_files(Path(name).suffix)


# --- reading them apart


def memory(what):
    """MB of this process: VmRSS, now, or VmHWM, the peak."""
    return int(re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def read_all(tasks):
    """Read the files of a list, each in a copy of this process, which says how it ended."""
    for reader, case, path, warm in json.loads(Path(tasks).read_text()):
        read = READERS[reader][1]
        if warm:  # loads libraries
            read(Path(path))
        elif os.fork() == 0:
            signal.alarm(SECONDS)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = memory("VmRSS")
            try:
                read(Path(path))
                ended = "a result"
            except Exception as error:
                ended = f"{type(error).__name__}: {str(error)[:1000]}"
            print(json.dumps([reader, case, ended, memory("VmHWM") - before]), flush=True)
            os._exit(0)
        else:
            os.wait()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(reader, what is wrong) -> (how reading ended, MB that it took, MB of the file)."""
    folder = tmp_path_factory.mktemp("hostile")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("memory is measured by Linux' /proc")
    warm, tasks, sizes = [], [], {}
    for number, (reader, (name, *_)) in enumerate(READERS.items()):
        sound = folder / f"sound{number}.h5"
        for case, content in hostile_files(reader, sound).items():
            place = folder / f"{len(tasks)}"
            place.mkdir()
            os.mkfifo(place / "pipe")
            if content is None:  # a pipe is waited for by those that open it
                os.mkfifo(place / name)
            else:
                (place / name).write_bytes(content)
            if reader in HDF5:
                os.link(sound, place / "other.h5")
            tasks.append((reader, case, str(place / name), False))
            sizes[reader, case] = len(content or b"") / MB
        warm += [(reader, "", str(sound), True)] if reader in HDF5 else []
    (folder / "list.json").write_text(json.dumps(warm + tasks))
    program = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent / 'support')]!r}; "
    program += f"import test_file_limits; test_file_limits.read_all({str(folder / 'list.json')!r})"
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, (done.stdout[-300:], done.stderr[-2000:])
    rows = map(json.loads, done.stdout.splitlines())
    found = {(reader, case): (ended, mb) for reader, case, ended, mb in rows}
    assert found.keys() == sizes.keys()
    return {key: (*found[key], sizes[key]) for key in sizes}


# --- what must hold


def test_memory(measured):
    """Never more than the table says; and every reader came back."""
    too_much = []
    for (reader, case), (ended, mb, size) in measured.items():
        *_, times, beside = READERS[reader]
        if mb > times * size + beside:
            too_much.append((reader, case, f"{mb:.0f} MB of a file of {size:.2f} MB", ended))
    assert not too_much


def test_endings(measured):
    """Each binary file is refused in one line of reasonable length; nothing is read elsewhere."""
    good = {("a trace", "nothing")}
    for (reader, case), (ended, _, _) in measured.items():
        if READERS[reader][0] in ("a.h5", "a.mat", "a.pth", "a.npz"):
            refused = r"(Weights|Checkpoint|Value|FileNotFound)Error: .{20,400}$"
            pattern = "a result$" if (reader, case) in good else refused
            assert re.match(pattern, ended), (reader, case, ended)


def test_what_is_said(measured):
    for reader, case, words in (
        ("weights, HDF5", "conv1 elsewhere", "conv1/weight is a link to another place"),
        ("weights, HDF5", "nothing", "conv1/bias is missing"),
        ("weights, PyTorch", "a deflated storage", "a compressed zip archive, which torch.save"),
        ("weights, PyTorch", "entries on each other", "a zip archive that claims more than it has"),
        ("weights, PyTorch", "a hundred thousand entries", "a zip archive of too many entries"),
        ("a checkpoint", "arrays on each other", "a zip archive that claims more than it has"),
        ("a checkpoint", "a deflated array", "a compressed zip archive"),
        ("a trace", "one under 200 names", "step 'frame 0' is damaged"),
    ):
        assert words in measured[reader, case][0]
    for content, said in mat_files().values():
        if said:
            with pytest.raises(MatlabError, match=said):
                read_mat(content)


def test_the_table_says_what_is_measured():
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (?:(\d+) N \+ )?(\d+) MB \|", text, re.MULTILINE)
    table = {name: (int(times or 0), int(beside)) for name, times, beside in rows}
    assert table == {name: (times, beside) for name, (*_, times, beside) in READERS.items()}


# --- what is refused above must not refuse what is sound


def test_data_sets_that_are_not_read(tmp_path):
    """Each would be read by h5py, or waited for; each fails at one condition alone."""
    deflated = zeros_deflated(BOMB)
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        file["group/data"] = np.arange(4.0)
        file["soft"] = h5py.SoftLink("/group/data")
        file["far_group"] = h5py.ExternalLink("other.h5", "group")
        external = [("/dev/zero", 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("files", (4,), float, external=external)
        file["references"] = np.full(4, file.ref, h5py.ref_dtype)
        size = len(deflated)  # as many bytes as numbers, so that only the filter tells
        made = file.create_dataset("deflated", (size,), np.uint8, chunks=(size,), compression=1)
        made.id.write_direct_chunk((0,), deflated)
        file.create_dataset("whole", data=np.arange(12.0), chunks=(4,))
        file.create_dataset("holes", (12,), float, chunks=(4,))[:4] = 1
    with open_hdf5(tmp_path / "a.h5") as file:
        assert stored_dataset(file, "group/data")[:].tolist() == [0, 1, 2, 3]
        assert stored_dataset(file, "whole")[:].tolist() == list(range(12))
        link, kept = "is a link to another place", "is compressed, kept elsewhere or not"
        for name, said in {
            "soft": link, "far_group/data": link, "files": kept, "references": kept,
            "deflated": kept, "holes": kept, "group": "is no data set",
        }.items():  # fmt: skip
            with pytest.raises(ValueError, match=f"{name} {said}"):
                stored_dataset(file, name)
        for name in ("other", "whole/more"):
            with pytest.raises(KeyError, match=f"{name} is missing"):
                stored_dataset(file, name)


def test_attributes_that_are_read(tmp_path):
    """Texts of fixed length and a few numbers; others may lead to where no checksum is."""
    good = {"text": np.bytes_("Zoë".encode()), "number": 3, "16": np.arange(16), "true": np.True_}
    texts, nothing = np.array([b"a", b"b"]), h5py.Empty("f4")
    bad = {"17": np.arange(17), "loose": "any length", "texts": texts, "nothing": nothing}
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        for name, value in (good | bad | {"reference": file.ref}).items():
            file.attrs[name] = value
    with open_hdf5(tmp_path / "a.h5") as file:
        found = stored_attributes(file, [*good, *bad, "reference", "absent"])
    assert found.keys() == good.keys() and found["text"] == "Zoë" and found["number"] == 3
    assert found["16"].tolist() == list(range(16))


def test_a_large_checkpoint_is_not_read(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04")
    for size, message in ((64 * MB, "not a zip file"), (64 * MB + 1, "over 64 MiB")):
        os.truncate(path, size)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            checkpoint.load_checkpoint(path)
