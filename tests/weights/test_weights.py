"""Weights: HDF5 round trips, what is checked, and which file is read as what."""

import io
import os
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from processes import run_python
from weight_files import (
    TRAINING,
    assert_same,
    legacy,
    make,
    refused,
    state_of,
    write_net,
    zipped,
)  # fmt: skip

import dcfnet_np
from dcfnet_np import network, weights
from dcfnet_np.weights import Weights, WeightsError, import_weights, load_weights, save_weights

DAMAGED = "the file is incomplete or damaged: copy or download it again"
FOREIGN = "no weights: neither a file of dcfnet_np, nor a MatConvNet .mat, nor a PyTorch"


@pytest.mark.parametrize("architecture", network.ARCHITECTURES)
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_round_trip_is_exact(tmp_path, architecture, order):
    """With a record longer than the 64 KB that older HDF5 files give an attribute."""
    training = TRAINING | {"loss": [i / 7 for i in range(20_000)], "who": "Zoë"}
    before = make(architecture, channel_order=order, training=training)
    save_weights(tmp_path / "some.h5", before)
    after = load_weights(str(tmp_path / "some.h5"))
    assert_same(before.parameters, after.parameters)
    assert (after.architecture, after.channel_order) == (architecture, order)
    assert (after.mean, after.training, after.name) == (before.mean, training, "some")
    assert [path.name for path in tmp_path.iterdir()] == ["some.h5"]  # no temporary file


def test_file_layout(tmp_path):
    """One group a layer and the attributes, read with h5py alone."""
    save_weights(tmp_path / "a.h5", make("conv1-dilation"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["conv1", "conv2"] and sorted(file["conv2"]) == ["bias", "weight"]
        assert file["conv2/weight"].shape == (32, 64, 3, 3)
        found = dict(file.attrs)
    expected = {
        "format": b"dcfnet_np weights", "format_version": 1, "architecture": b"conv1-dilation",
        "channel_order": b"bgr", "data_digest": b"f00d",
        "lrn_n": 5, "lrn_k": 1.0, "lrn_alpha": 2e-5, "lrn_beta": 0.75,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    np.testing.assert_array_equal(found["mean"], [1.5, 2.25, 1 / 3])


def test_a_full_disk_is_one_error(tmp_path):
    """HDF5 writing to the disk itself ends the process here with a segmentation fault."""
    pytest.importorskip("resource", reason="no limit on the size of files here")
    path = tmp_path / "a.h5"
    program = f"""
        import resource
        from dcfnet_np import network, weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        made = weights.Weights("light", network.initialise("light", 0))
        weights.save_weights({str(path)!r}, made)
    """
    done = run_python(program)
    expected = f"WriteError: cannot write {path}: File too large; make room"
    assert done.returncode == 1 and expected in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_packaged_names():
    folder = Path(dcfnet_np.__file__).parent / "data"
    names = weights.packaged_weights()
    assert names == sorted(path.stem for path in folder.glob("*.h5"))
    assert [load_weights(name).name for name in names] == names


def attribute(name, value):
    """Texts of fixed length, as `save_weights` writes them."""
    value = np.bytes_(value) if isinstance(value, str) else value
    return lambda file: file.attrs.__setitem__(name, value)


def without(name):
    return lambda file: file.attrs.pop(name)


def dataset(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


def poke(file):
    file["conv2/bias"][7] += np.float32(1)


ONES = np.ones(32, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("format"), FOREIGN),
        (attribute("format", "keras"), FOREIGN),
        (without("format_version"), FOREIGN),
        (attribute("format_version", 2), "format version 2 is newer than 1"),
        (attribute("format_version", "two"), DAMAGED),
        (attribute("architecture", "resnet"), "unknown architecture 'resnet', known: conv1"),
        (attribute("architecture", "conv1"), r"conv1.weight must be float32 \(64, 3, 3, 3\)"),
        (without("mean"), "does not say its mean; .*download it again"),
        (attribute("mean", [1.0, 2.0, np.nan]), "three finite numbers"),
        (attribute("channel_order", "gbr"), "'bgr' or 'rgb', got 'gbr'"),
        (attribute("lrn_alpha", 1e-4), "LRN constants"),
        (attribute("training", "{"), DAMAGED),
        (attribute("training", "[" * 100_000), DAMAGED),
        (dataset("conv2/bias", None), "conv2/bias is missing"),
        (dataset("conv1", np.zeros(3)), "conv1"),
        (dataset("conv1/bias", np.append(ONES, 1)), r"conv1.bias must be float32 \(32,\), got"),
        (dataset("conv1/bias", np.zeros(32)), r"must be float32 \(32,\), got float64"),
        (dataset("conv1/bias", ONES * np.inf), "conv1.bias holds NaN or infinite"),
        (poke, "values are not those that were saved"),
    ],
)
def test_bad_hdf5(tmp_path, change, message):
    save_weights(tmp_path / "bad.h5", make())
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        change(file)
    refused(tmp_path / "bad.h5", message)


def test_truncated_hdf5(tmp_path):
    save_weights(tmp_path / "a.h5", make())
    whole = (tmp_path / "a.h5").read_bytes()
    for length in (9, 100, 512, 2048, len(whole) // 2, len(whole) - 1):
        refused(tmp_path / "a.h5", DAMAGED, whole[:length])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "heavy"}, "must be one of"),
        ({"architecture": network.ARCHITECTURES["light"]}, "must be a name"),
        ({"channel_order": "BGR"}, "channel_order"),
        ({"mean": (1.0, 2.0)}, "mean"),
        ({"mean": (1.0, 2.0, float("inf"))}, "mean"),
        ({"mean": ("a", "b", "c")}, "mean"),
        ({"training": {"x": np.zeros(3)}}, "training must be JSON"),
        ({"training": {"x": float("nan")}}, "training must be JSON"),
        ({"parameters": {}}, "conv1.weight"),
        ({"parameters": {"conv1.weight": [1.0]}}, "must be a NumPy array"),
        ({"parameters": network.initialise("light", 0, np.float64)}, "float32, got float64"),
        ({"parameters": network.initialise("conv1", 0)}, r"\(32, 3, 3, 3\)"),
    ],
)
def test_weights_are_checked_when_made(changes, message):
    fields = {"architecture": "light", "parameters": network.initialise("light", 0)}
    with pytest.raises(WeightsError, match=message):
        Weights(**fields | changes)


def test_errors_are_short():
    """One cap for all: the middle of a long message goes, and control characters do."""
    assert str(WeightsError("a\n b\t\x1b[0mc\0")) == "a b [0mc"
    assert str(WeightsError("x" * 300)) == "x" * 300
    assert str(WeightsError("a" * 1000 + "z" * 1000)) == "a" * 200 + " ... " + "z" * 95


# --- what kind of file it is


def test_what_is_no_file(tmp_path):
    with pytest.raises(WeightsError, match="'nothing' is neither a file nor a packaged") as error:
        load_weights("nothing")
    assert all(name in str(error.value) for name in weights.packaged_weights())
    for wrong in (None, 3, ["light"]):
        got = type(wrong).__name__
        with pytest.raises(TypeError, match=f"a packaged name, a path or a Weights, got {got}"):
            load_weights(wrong)
    with pytest.raises(WeightsError, match="does not exist"):
        save_weights(tmp_path / "no" / "a.h5", make())
    refused(tmp_path, "is not a file")
    refused(tmp_path / "nothing", "is not a file", read=import_weights)


@pytest.mark.parametrize("name", ["net.pth.tar", "net.PTH", "net.h5", "net.mat", "net"])
def test_the_first_bytes_tell_the_kind(tmp_path, name):
    """`load_weights` takes all kinds by any name; `import_weights` the foreign ones."""
    parameters, path = make().parameters, tmp_path / name
    save_weights(tmp_path / "one.h5", make())
    write_net(tmp_path / "one.mat", parameters)
    files = {kind: (tmp_path / f"one.{kind}").read_bytes() for kind in ("h5", "mat")}
    files |= {"zip": zipped(*state_of(parameters)), "old": legacy(*state_of(parameters))}
    for kind, content in files.items():
        path.write_bytes(content)
        assert_same(load_weights(path).parameters, parameters)
        if kind == "h5":
            refused(path, "weights of dcfnet_np already; use the file", read=import_weights)
        else:
            found = import_weights(path)
            assert_same(found.parameters, parameters)
            assert found.channel_order == ("rgb" if kind == "mat" else "bgr")
            assert found.training["imported_from"] == name


def tar(content):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("net.pth")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n\0" + bytes(99), "a MATLAB file of ver"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM", "no network: neither 'net' with its"),
        (tar(b"weights"), "an archive; take the file of weights out"),
        (b"\x1f\x8b\x08" + bytes(99), "an archive; take the file of weights out"),
        (b"\x08\x00onnx" + bytes(99), FOREIGN),
        (b"\x89HDF", FOREIGN),
        (b"\x89HDF\r\n\x1a\n\0" + bytes(99), FOREIGN),
        (b"hello, this is text\n" * 100, FOREIGN),
        (b"P", FOREIGN),
        (b"", DAMAGED),
    ],
)  # fmt: skip
def test_other_kinds_are_named(tmp_path, content, message):
    """The same for both ways in; none sends the reader to another that sends him back."""
    for read in (load_weights, import_weights):
        refused(tmp_path / "net.pth.tar", message, content, read)


def test_a_large_file_is_not_read(tmp_path):
    """It is sparse here; what is within the limit is refused for what it is."""
    path = tmp_path / "a.pth"
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, weights.LARGEST_FILE)
    refused(path, "damaged")
    os.truncate(path, weights.LARGEST_FILE + 1)
    refused(path, "too large for weights, over 16 MiB")
