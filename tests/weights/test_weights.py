"""weights.py: HDF5 round trips, the released files, and files that are damaged, foreign or hostile."""

import io
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import run_python
from weight_files import (
    CONTAINERS,
    TRAINING,
    legacy,
    make,
    old_net,
    p_state,
    p_string,
    p_tensor,
    state_of,
    write_net,
    zipped,
)  # fmt: skip

import dcfnet_np
from dcfnet_np import network, weights
from dcfnet_np.ops.conv import conv2d_forward
from dcfnet_np.ops.lrn import lrn_forward
from dcfnet_np.ops.relu import relu_forward
from dcfnet_np.weights import Weights, WeightsError

FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype == np.float32
        assert a[name].tobytes() == b[name].tobytes(), name


def one_line(error):
    """The message of a caught error, after making sure that it is one line of reasonable length."""
    message = str(error.value)
    assert isinstance(error.value, ValueError)
    assert "\n" not in message and 10 < len(message) < 500
    # Nothing of the inside: names of our functions, what HDF5 or pickle say.
    assert not re.search(
        r"\b(load|save|import_\w+|check_\w+): |storage '|synchronously|pickle data|unpack", message
    )
    return message


# ---------------------------------------------------------------------------------------------------- HDF5


@pytest.mark.parametrize("architecture", network.ARCHITECTURES)
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_round_trip_is_exact(tmp_path, architecture, order):
    path = tmp_path / "some.h5"
    before = make(architecture, channel_order=order)
    weights.save_weights(path, before)
    after = weights.load_weights(str(path))
    assert_same(before.parameters, after.parameters)
    assert (after.architecture, after.channel_order, after.mean) == (
        architecture,
        order,
        before.mean,
    )
    assert (after.training, after.name) == (TRAINING, "some")
    assert os.listdir(tmp_path) == ["some.h5"]  # no temporary file stays behind


def test_long_training_record(tmp_path):
    """A loss curve longer than the 64 KB that older HDF5 files give an attribute."""
    training = {"loss": [i / 7 for i in range(20_000)], "who": "Zoë"}
    weights.save_weights(tmp_path / "a.h5", make(training=training))
    assert weights.load_weights(tmp_path / "a.h5").training == training


def test_file_layout(tmp_path):
    """One group a layer and the attributes, read with h5py alone."""
    weights.save_weights(tmp_path / "a.h5", make("conv1-dilation"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["conv1", "conv2"]
        assert sorted(file["conv2"]) == ["bias", "weight"]
        assert file["conv2/weight"].shape == (32, 64, 3, 3)
        a = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in file.attrs.items()
        }
    assert (a["format"], a["format_version"], a["architecture"]) == (
        "dcfnet_np weights",
        1,
        "conv1-dilation",
    )
    assert (a["channel_order"], a["data_digest"]) == ("bgr", "f00d")
    assert (a["lrn_n"], a["lrn_k"], a["lrn_alpha"], a["lrn_beta"]) == (5, 1.0, 2e-5, 0.75)
    np.testing.assert_array_equal(a["mean"], [1.5, 2.25, 1 / 3])


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    weights.save_weights(path, make(seed=1))
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save_weights(path, make(seed=2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_full_disk_is_one_error(tmp_path):
    """HDF5 writing to the disk itself ends the process here with a segmentation fault."""
    pytest.importorskip("resource", reason="no limit on the size of files here")
    path = tmp_path / "a.h5"
    program = f"""
        import resource
        from dcfnet_np import network, weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        weights.save_weights({str(path)!r}, weights.Weights("light", network.initialise("light", 0)))
    """
    done = run_python(program)
    assert done.returncode == 1
    assert (
        f"WriteError: cannot write {path}: File too large; make room"
        in done.stderr.splitlines()[-1]
    )
    assert os.listdir(tmp_path) == []


def test_packaged_names():
    folder = Path(dcfnet_np.__file__).parent / "data"
    assert weights.packaged_weights() == sorted(path.stem for path in folder.glob("*.h5"))
    for name in weights.packaged_weights():
        assert weights.load_weights(name).name == name


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def set_attribute(name, value):
    """Texts of fixed length, as `save` writes them."""
    return lambda file: file.attrs.__setitem__(
        name, np.bytes_(value) if isinstance(value, str) else value
    )


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


def poke(file):
    file["conv2/bias"][7] += np.float32(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.pop("format"), "no weights: neither a file of dcfnet_np"),
        (set_attribute("format", "keras"), "no weights: neither a file of dcfnet_np"),
        (lambda file: file.attrs.pop("format_version"), "no weights: neither a file of dcfnet_np"),
        (set_attribute("format_version", 2), "format version 2 is newer than 1"),
        (set_attribute("format_version", "two"), "damaged"),
        (set_attribute("architecture", "resnet"), "unknown architecture 'resnet', known: conv1"),
        (set_attribute("architecture", "conv1"), r"conv1.weight must be float32 \(64, 3, 3, 3\)"),
        (lambda file: file.attrs.pop("mean"), "does not say its mean; .*download it again"),
        (set_attribute("mean", [1.0, 2.0]), "three finite numbers"),
        (set_attribute("mean", [1.0, 2.0, np.nan]), "three finite numbers"),
        (set_attribute("channel_order", "gbr"), "'bgr' or 'rgb', got 'gbr'"),
        (set_attribute("lrn_alpha", 1e-4), "LRN constants"),
        (set_attribute("training", "{"), "damaged"),
        (set_attribute("training", "[" * 100_000), "damaged"),
        (replace("conv2/bias", None), "conv2.bias is missing"),
        (replace("conv1", None), "conv1.weight is missing"),
        (replace("conv1", np.zeros(3)), "conv1"),
        (
            replace("conv1/bias", np.zeros(33, np.float32)),
            r"conv1.bias must be float32 \(32,\), got float32",
        ),
        (replace("conv1/bias", np.zeros(32)), r"must be float32 \(32,\), got float64"),
        (
            replace("conv1/bias", np.full(32, np.inf, np.float32)),
            "conv1.bias holds NaN or infinite",
        ),
        (poke, "values are not those that were saved"),
    ],
)
def test_bad_hdf5(tmp_path, change, message):
    path = tmp_path / "bad.h5"
    weights.save_weights(path, make())
    weights.load_weights(path)
    edit(path, change)
    with pytest.raises(WeightsError, match=message) as error:
        weights.load_weights(path)
    assert str(path) in one_line(error)


def test_huge_dataset_is_not_allocated(tmp_path):
    """A forged file may claim a terabyte that takes no room on disk."""
    path = tmp_path / "bad.h5"
    weights.save_weights(path, make())

    def claim(file):
        del file["conv1/weight"]
        file["conv1"].create_dataset("weight", (2**20, 2**20), np.float32, chunks=(64, 64))

    edit(path, claim)
    with pytest.raises(
        WeightsError, match="conv1/weight is compressed, kept elsewhere or not there"
    ):
        weights.load_weights(path)


def test_not_hdf5(tmp_path):
    foreign = (
        "no weights: neither a file of dcfnet_np, nor a MatConvNet .mat, nor a PyTorch state dict"
    )
    incomplete = "the file is incomplete or damaged: copy or download it again"
    for content, message in (
        (b"", incomplete),
        (b"\x89HDF", foreign),
        (b"hello, this is text\n" * 100, foreign),
    ):
        path = tmp_path / "a.h5"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=f"a.h5: {message}$") as error:
            weights.load_weights(path)
        one_line(error)


def test_missing_and_directory(tmp_path):
    with pytest.raises(
        WeightsError, match="'nothing' is neither a file nor a packaged name"
    ) as error:
        weights.load_weights("nothing")
    message = one_line(error)
    assert all(name in message for name in weights.packaged_weights())
    with pytest.raises(WeightsError, match="is not a file"):
        weights.load_weights(tmp_path)
    for wrong in (None, 3, ["light"]):
        with pytest.raises(
            TypeError,
            match="^weights must be a packaged name, a path or a Weights, got (None|int|list)",
        ):
            weights.load_weights(wrong)
    with pytest.raises(WeightsError, match="does not exist"):
        weights.save_weights(tmp_path / "no" / "a.h5", make())
    for function in (weights.import_weights, weights.import_weights):
        with pytest.raises(WeightsError, match="is not a file"):
            function(tmp_path / "nothing")


def test_truncated_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    weights.save_weights(path, make())
    whole = path.read_bytes()
    for length in (8, 9, 100, 512, 2048, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="damaged") as error:
            weights.load_weights(path)
        one_line(error)


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
        (
            {"parameters": network.initialise("light", 0, np.float64)},
            "must be float32, got float64",
        ),
        ({"parameters": network.initialise("conv1", 0)}, r"\(32, 3, 3, 3\)"),
    ],
)
def test_weights_are_checked_when_made(changes, message):
    architecture = changes.pop("architecture", "light")
    fields = {"parameters": network.initialise("light", 0)} | changes
    with pytest.raises(WeightsError, match=message) as error:
        Weights(architecture, **fields)
    one_line(error)


# --------------------------------------------------------------- PyTorch files, written here opcode
# by opcode


@CONTAINERS
@pytest.mark.parametrize("architecture", ["light", "conv1", "conv2"])
def test_pth(tmp_path, container, architecture):
    expected = make(architecture).parameters
    path = tmp_path / "net.pth"
    path.write_bytes(container(*state_of(expected)))
    for read in (weights.import_weights, weights.import_weights, weights.load_weights):
        found = read(path)
        assert_same(found.parameters, expected)
        assert (found.architecture, found.name) == (architecture, "net")
        assert (found.channel_order, found.mean) == ("bgr", (104.0, 117.0, 123.0))
    if architecture == "conv1":
        assert weights.import_weights(path, "conv1-dilation").architecture == "conv1-dilation"
    with pytest.raises(
        WeightsError, match="not conv1-dilation" if architecture != "conv1" else "not light"
    ):
        weights.import_weights(path, "conv1-dilation" if architecture != "conv1" else "light")


@CONTAINERS
def test_pth_strides_and_offsets(tmp_path, container):
    """A tensor may be a transposed view into a storage that it shares with another one."""
    expected = make("light").parameters
    w = expected["conv1.weight"]
    state, storages = state_of(expected)
    storages["0"] = expected["conv1.bias"].tobytes() + w.transpose(3, 2, 1, 0).tobytes()
    entries = [("0.weight", p_tensor("0", w.shape, (1, 32, 96, 288), 896, 32))]
    entries.append(("0.bias", p_tensor("0", (32,), (1,), 896)))
    entries += [("2.weight", p_tensor("2", (32, 32, 3, 3), (288, 9, 3, 1), 9216))]
    entries += [("2.bias", p_tensor("3", (32,), (1,), 32))]
    del storages["1"]
    path = tmp_path / "a.pth"
    path.write_bytes(container(p_state(entries), storages))
    assert_same(weights.import_weights(path).parameters, expected)


class Evil:
    """Pickles into a call of any function: the attack that an allow-list is for."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("place", ["alone", "legacy", "zipped"])
def test_malicious_pickle_does_not_run(tmp_path, protocol, place):
    marker = tmp_path / "marker"
    evil = pickle.dumps({"state_dict": Evil(os.system, f"touch '{marker}'")}, protocol)
    pickle.loads(evil)
    assert marker.exists()  # the attack is a live one
    marker.unlink()

    path = tmp_path / "evil.pth"
    path.write_bytes({"alone": evil, "legacy": legacy(evil, {}), "zipped": zipped(evil, {})}[place])
    known = place != "alone" or protocol >= 2  # by its first byte
    message = r"forbidden global '(posix|nt)\.system'" if known else "no weights"
    with pytest.raises(WeightsError, match=message) as error:
        weights.import_weights(path)
    one_line(error)
    assert not marker.exists()


NEAR_MISSES = """
    collections defaultdict|collections Counter|collections ChainMap|collections namedtuple
    collections OrderedDict.fromkeys|collections OrderedDict.__init__|collections ordereddict
    collections.abc OrderedDict|collections.abc Callable|_collections OrderedDict|collections_ OrderedDict
    torch._utils _rebuild_tensor|torch._utils _rebuild_tensor_v1|torch._utils _rebuild_tensor_v3
    torch._utils _rebuild_parameter_with_state|torch._utils _rebuild_sparse_tensor|torch._utils _import_dotted_name
    torch._utils __builtins__|torch._utils _rebuild_tensor_v2.__globals__|torch.utils _rebuild_tensor_v2
    torch _rebuild_tensor_v2|torch load|torch FloatTensor|torch Storage|torch floatstorage|torch.cuda FloatStorage
    torch BFloat16Storage|torch.storage _load_from_bytes|torch.storage FloatStorage|torch.serialization load
    builtins getattr|builtins eval|builtins OrderedDict|__builtin__ eval|builtins __import__|builtins str.format
    os system|posix system|pickle loads|numpy frombuffer|sys exit|numpy.core.multiarray _reconstruct
"""


@CONTAINERS
@pytest.mark.parametrize("near", [line.strip() for line in re.split(r"[|\n]", NEAR_MISSES.strip())])
def test_no_other_global_passes(tmp_path, container, near):
    """Names beside those that are allowed, by both ways of asking: one of them is enough for any
    code.
    """
    module, name = near.split()
    old = f"c{module}\n{name}\n".encode()
    new = (
        b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93"
    )
    for asked in (old, new):
        path = tmp_path / "evil.pth"
        path.write_bytes(container(b"\x80\x04" + asked + b")R.", {}))
        with pytest.raises(WeightsError, match="forbidden global") as error:
            weights.import_weights(path)
        assert (
            f"'{module}.{name}' in the pickle; nothing was run; save it with torch.save"
            in one_line(error)
        )


@CONTAINERS
def test_a_pickle_changes_nothing_of_ours(tmp_path, container):
    """BUILD sets attributes of what was made before; here of the class that a state dict is."""
    before = dict(vars(OrderedDict))
    for state in (b"}X\x03\x00\x00\x00getNs", b"N}X\x03\x00\x00\x00getNs\x86"):
        path = tmp_path / "evil.pth"
        path.write_bytes(container(b"\x80\x02ccollections\nOrderedDict\n" + state + b"b.", {}))
        with pytest.raises(WeightsError):
            weights.import_weights(path)
        assert dict(vars(OrderedDict)) == before


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (pickle.dumps([1, 2], 2), "no state dict"),
        (pickle.dumps({"a": 1}, 2), "no state dict"),
        (p_state([]), "its convolutions are none"),
        (
            p_state([("a.weight", p_tensor("0", (4, 4), (4, 1), 16))]),
            "must have a weight and a bias",
        ),
        (p_state([("a.weight", p_tensor("0", (4, 4), (4, 1), 17))]), "incomplete or damaged"),
        (p_state([("a.weight", p_tensor("0", (4, 4), (4, 1), 16, 1))]), "reaches beyond"),
        (p_state([("a.weight", p_tensor("0", (4, 4), (5, 1), 16))]), "reaches beyond"),
        (p_state([("a.weight", p_tensor("0", (2**40,), (0,), 16))]), "reaches beyond"),
        (p_state([("a.weight", p_tensor("0", (1,), (1,), 16, -1))]), "malformed"),
        (p_state([("a.weight", p_tensor("0", (4, 4), (4, -1), 16, 15))]), "malformed"),
        (p_state([("a.weight", p_tensor("0", (1,) * 40, (1,) * 40, 16))]), "malformed"),
        (p_state([("a.weight", p_tensor("0", (4,), (1,), -16))]), "malformed"),
        (
            p_state([("a.weight", p_tensor("0", (4,), (1,), 16, 0, b"ctorch\nCharStorage\n"))]),
            "CharStorage",
        ),
        (
            p_state([("a.weight", p_tensor("0", (4,), (1,), 4, 0, p_string("<c16")))]),
            "unknown kind of storage",
        ),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "too large"),  # a memo of 32 GB in ten bytes
        # would overflow the C stack
        (b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns.", "too large"),
    ],
)
@CONTAINERS
def test_bad_state_dict(tmp_path, container, state, message):
    path = tmp_path / "bad.pth"
    path.write_bytes(container(state, {"0": bytes(64)} if b"Storage" in state else {}))
    with pytest.raises(WeightsError, match=message) as error:
        weights.import_weights(path)
    one_line(error)


@CONTAINERS
def test_truncated_pth(tmp_path, container):
    whole = container(*state_of(make().parameters))
    path = tmp_path / "a.pth"
    for length in (
        0,
        1,
        3,
        14,
        20,
        100,
        400,
        700,
        5000,
        len(whole) // 2,
        len(whole) - 5,
        len(whole) - 1,
    ):
        path.write_bytes(whole[:length])
        inside_values = container is legacy and length > 2000
        with pytest.raises(
            WeightsError, match="incomplete or damaged: copy or download" if inside_values else None
        ) as error:
            weights.import_weights(path)
        one_line(error)


def test_storage_length_must_agree(tmp_path):
    state, storages = state_of(make().parameters)
    whole = legacy(state, storages)
    at = whole.index(storages["2"]) - 8
    assert whole[at : at + 8] == struct.pack("<q", 9216)
    path = tmp_path / "a.pth"
    path.write_bytes(whole[:at] + struct.pack("<q", 9215) + whole[at + 8 :])
    with pytest.raises(WeightsError, match="incomplete or damaged: copy or download it again"):
        weights.import_weights(path)


def test_foreign_zip(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(zipped(*state_of(make().parameters), zipfile.ZIP_DEFLATED))
    with pytest.raises(WeightsError, match="compressed"):
        weights.import_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="without the data.pkl"):
        weights.import_weights(path)


# ---------------------------------------------------------------------------------- what kind of
# file it is


def kinds_of_files(tmp_path):
    """The same network as each kind of file that is read."""
    parameters = make().parameters
    weights.save_weights(tmp_path / "one.h5", make())
    write_net(tmp_path / "one.mat", parameters)
    files = {kind: (tmp_path / f"one.{kind}").read_bytes() for kind in ("h5", "mat")}
    return files | {"zip": zipped(*state_of(parameters)), "old": legacy(*state_of(parameters))}


@pytest.mark.parametrize(
    "name", ["net.pth.tar", "net.ckpt", "net.PTH", "net.h5", "net.mat", "net.pth", "net", "NET.MAT"]
)
def test_the_first_bytes_tell_the_kind(tmp_path, name):
    """`load` takes all kinds by any name; `import_weights` the foreign ones, and says what to do
    with ours.
    """
    for kind, content in kinds_of_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        assert_same(weights.load_weights(path).parameters, make().parameters)
        if kind == "h5":
            with pytest.raises(
                WeightsError, match="weights of dcfnet_np already; use the file as it is"
            ) as error:
                weights.import_weights(path)
            one_line(error)
        else:
            found = weights.import_weights(path)
            assert_same(found.parameters, make().parameters)
            assert found.channel_order == ("rgb" if kind == "mat" else "bgr")
            assert found.training["imported_from"] == name


def test_a_big_endian_mat_file_is_known(tmp_path):
    """Its version and the mark of its order are turned; here there is nothing behind them."""
    (tmp_path / "a.pth").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI")
    with pytest.raises(WeightsError, match="no network: neither 'net' with its 'layers' nor"):
        weights.load_weights(tmp_path / "a.pth")


def mat_4(name, order="<", kind=0):
    values = struct.pack(f"{order}5i", kind, 1, 1, 0, len(name) + 1) + name + b"\0" + bytes(8)
    return values


def packed(data):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("net.pth")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n\0" + bytes(600), "no weights: neither a file of dcfnet_np, nor"),
        (b"\x89HDF\r\n\x1a\n\1" + bytes(600), "no weights: neither a file of dcfnet_np, nor"),
        (
            b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n\0",
            "version 7.3; ",
        ),
        (mat_4(b"net"), "version 4"),
        (mat_4(b"a_long_name", ">", 1000), "version 4"),
        (mat_4(b"x", "<", 4052), "version 4"),
        (mat_4(b"x", "<", 5000), "no weights"),
        (mat_4(b"x", "<", 100), "no weights"),
        (mat_4(b"x", "<", 60), "no weights"),
        (mat_4(b"x", "<", 3), "no weights"),
        (mat_4(b"x")[:19], "no weights"),
        (mat_4(b"x" * 64), "no weights"),
        (mat_4(b"x\xe9"), "no weights"),
        (mat_4(b"x").replace(b"x\0", b"xx"), "no weights"),
        (packed(b"weights"), "an archive; take the file of weights out"),
        (b"\x1f\x8b\x08" + bytes(99), "an archive; take the file of weights out"),
        (b"BZh9" + bytes(99), "an archive; take the file of weights out"),
        (
            b"\x08\x00onnx" + bytes(99),
            "no weights: neither a file of dcfnet_np, nor a MatConvNet .mat, nor a PyTorch",
        ),
        (b"<!DOCTYPE html>", "no weights"),
        (b"P", "no weights"),
        (b"", "incomplete or damaged"),
    ],
)
def test_other_kinds_are_named(tmp_path, content, message):
    """In one line, the same for every way in; none sends the reader to another that sends him back."""
    path = tmp_path / "net.pth.tar"
    path.write_bytes(content)
    for read in (weights.load_weights, weights.import_weights, weights.import_weights):
        with pytest.raises(WeightsError, match=message) as error:
            read(path)
        assert "net.pth.tar" in one_line(error)


def test_errors_are_short():
    """One cap for all: the middle of a long message goes, line breaks and control characters too."""
    assert str(WeightsError("a\n b\t\x1b[0mc\0")) == "a b [0mc"
    assert str(WeightsError("x" * 300)) == "x" * 300
    long = str(WeightsError("".join(f"{number} " for number in range(1000))))
    assert (
        len(long) == 300
        and long.startswith("0 1 2 3 ")
        and " ... " in long
        and long.endswith(" 998 999")
    )
    text = str(weights.WeightsError("a" * 1000 + "z" * 1000))
    assert text == "a" * 200 + " ... " + "z" * 95


def only_weights_error(read, path, content):
    path.write_bytes(content)
    try:
        read(path)
    except WeightsError as error:
        assert "\n" not in str(error)


@FUZZ
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x04\x95"]),
)
def test_random_bytes_as_pth(tmp_path, content, start):
    only_weights_error(weights.import_weights, tmp_path / "a.pth", start + content)


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("container", [legacy, zipped])
def test_damaged_pth(tmp_path, container, data):
    content = bytearray(container(*state_of(make().parameters)))
    where = data.draw(st.integers(0, 1500) | st.integers(-800, -1))
    content[where] = data.draw(st.integers(0, 255))
    only_weights_error(weights.import_weights, tmp_path / "a.pth", bytes(content))


@FUZZ
@given(data=st.data())
def test_damaged_hdf5(tmp_path, data):
    """A changed byte is noticed by a checksum of HDF5's metadata or of ours, or it does not matter."""
    path, original = tmp_path / "a.h5", make()
    weights.save_weights(path, original)
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, 3000) | st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert_same(weights.load_weights(path).parameters, original.parameters)
    except WeightsError as error:
        assert "\n" not in str(error)


@FUZZ
@given(content=st.binary(max_size=300), signature=st.booleans())
def test_random_bytes_as_hdf5(tmp_path, content, signature):
    only_weights_error(
        weights.load_weights, tmp_path / "a.h5", b"\x89HDF\r\n\x1a\n" * signature + content
    )


@FUZZ
@given(content=st.binary(max_size=300), header=st.booleans())
def test_random_bytes_as_mat(tmp_path, content, header):
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" if header else b""
    only_weights_error(weights.import_weights, tmp_path / "a.mat", start + content)


# -----------------------------------------------------------------------------------------
# MatConvNet files


@pytest.mark.parametrize(
    ("architecture", "dilations"),
    [("conv1", (1, 1)), ("conv1-dilation", (1, 2)), ("light", (1, 1))],
)
def test_mat(tmp_path, architecture, dilations):
    expected = make(architecture).parameters
    path = tmp_path / "net.mat"
    write_net(path, expected, dilations, mean=(120, 119, 118))
    found = weights.import_weights(path)
    assert_same(found.parameters, expected)
    assert (found.architecture, found.channel_order, found.mean) == (
        architecture,
        "rgb",
        (120.0, 119.0, 118.0),
    )
    assert found.training == {
        "imported_from": "net.mat",
        "meta": {"interp_factor": 0.011, "arch": "DCFNet"},
    }
    weights.save_weights(tmp_path / "net.h5", found)  # its numbers fit into JSON
    assert weights.load_weights(tmp_path / "net.h5").training == found.training


def test_bad_mat(tmp_path):
    path = tmp_path / "net.mat"
    light = make("light").parameters
    write_net(path, light, lrn=(5, 1, 1e-4, 0.75))
    with pytest.raises(WeightsError, match="LRN constants"):
        weights.import_weights(path)
    write_net(path, light, dilations=(1, 3))
    with pytest.raises(WeightsError, match=r"3 to 32, 32 to 32, dilations \[1, 3\]"):
        weights.import_weights(path)
    wide = light | {"conv1.weight": np.zeros((96, 3, 3, 3), np.float32)}
    write_net(path, wide)
    with pytest.raises(
        WeightsError, match="the network is not conv1 or .*: its convolutions are 3 to 96"
    ):
        weights.import_weights(path)
    write_net(path, light | {"conv2.bias": np.full(32, np.nan, np.float32)})
    with pytest.raises(WeightsError, match="conv2.bias holds NaN"):
        weights.import_weights(path)
    scipy.io.savemat(path, {"something": np.eye(3)})
    with pytest.raises(WeightsError, match="no network"):
        weights.import_weights(path)
    scipy.io.savemat(path, {"net": np.eye(3)})
    with pytest.raises(WeightsError, match="no network: neither 'net' with its 'layers'"):
        weights.import_weights(path)
    write_net(path, light)
    whole = path.read_bytes()
    for length in (0, 10, 127, 200, 5000, len(whole) - 20):  # the very last bytes are padding
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as error:
            weights.import_weights(path)
        one_line(error)


EVEN = np.broadcast_to(np.float32([120, 119, 118]), (5, 7, 3)).copy()


@pytest.mark.parametrize(
    ("more", "mean"),
    [
        ({}, (123, 117, 104)),
        ({"meta": {}}, (123, 117, 104)),
        ({"meta": np.zeros((0, 0))}, (123, 117, 104)),
        ({"meta": {"normalization": {}}}, (123, 117, 104)),
        ({"meta": {"normalization": {"averageImage": np.zeros((0, 0))}}}, (123, 117, 104)),
        ({"normalization": {"averageImage": np.float32([[[1, 2, 3]]])}}, (1, 2, 3)),
        ({"meta": {"a": 1}, "normalization": {"averageImage": np.float32([[1, 2, 3]])}}, (1, 2, 3)),
        ({"meta": {"normalization": {"averageImage": np.float32([[1], [2], [3]])}}}, (1, 2, 3)),
        ({"meta": {"normalization": {"averageImage": 7.0}}}, (7, 7, 7)),
        ({"meta": {"normalization": {"averageImage": EVEN}}}, (120, 119, 118)),
    ],
)
def test_mat_of_other_forms(tmp_path, more, mean):
    """Of the old form, with any way to have no mean, one grey level, or an image that is the same
    everywhere.
    """
    expected = make("conv1").parameters
    for name, content in (
        ("net", {"net": old_net(expected, **more)}),
        ("loose", old_net(expected, **more)),
    ):
        scipy.io.savemat(tmp_path / f"{name}.mat", content)
        found = weights.import_weights(tmp_path / f"{name}.mat")
        assert_same(found.parameters, expected)
        assert (found.architecture, found.channel_order, found.mean) == ("conv1", "rgb", mean)
        assert found.training.get("meta", {}) == ({"a": 1} if "a" in more.get("meta", {}) else {})


def test_mat_without_a_bias(tmp_path):
    """MatConvNet takes an empty one for zeros."""
    expected = make("light").parameters
    net = old_net(expected)
    net["layers"][0, 2]["biases"] = np.zeros((0, 0))
    scipy.io.savemat(tmp_path / "a.mat", {"net": net})
    expected = expected | {"conv2.bias": np.zeros(32, np.float32)}
    assert_same(weights.import_weights(tmp_path / "a.mat").parameters, expected)


def layer_with(number, **fields):
    def change(net):
        net["layers"][0, number] |= fields

    return change


def without(number, field):
    return lambda net: net["layers"][0, number].pop(field)


def mean_image(image):
    return lambda net: net.update(meta={"normalization": {"averageImage": image}})


UNEVEN = EVEN + np.float32(0.01) * (np.arange(7) == 3)[:, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            mean_image(UNEVEN),
            r"mean image differs from pixel to pixel.*averageImage = mean\(mean\(",
        ),
        (mean_image(EVEN[..., :2]), r"three channels, got shape \(5, 7, 2\)"),
        (mean_image(EVEN[0]), r"three channels, got shape \(7, 3\)"),
        (layer_with(0, stride=np.float64([[1, 2]])), "a conv layer has a stride or a leak"),
        (layer_with(1, leak=0.1), "a relu layer has a stride or a leak"),
        (layer_with(3, param=[5, 1, 1e-4, 0.75]), r"LRN constants must be \(5, 1.0, 2e-05, 0.75\)"),
        (
            layer_with(0, type="bnorm"),
            "its convolutions are 32 to 32, dilations .1., layers .'bnorm', 'relu', 'conv'",
        ),
        (without(3, "param"), "whole, but no network as MatConvNet keeps it: 'param' is missing"),
        (
            without(2, "filters"),
            "whole, but no network as MatConvNet keeps it: 'filters' is missing",
        ),
        (without(1, "type"), "whole, but no network as MatConvNet keeps it: 'type' is missing"),
        (layer_with(2, filters=3.0), "whole, but no network as MatConvNet keeps it$"),
        (lambda net: net.update(layers=7.0), "whole, but no network as MatConvNet keeps it$"),
        (
            lambda net: net.pop("layers"),
            "no network: neither 'net' with its 'layers' nor 'conv1_w'",
        ),
    ],
)
def test_mat_files_that_are_whole_but_no_network(tmp_path, change, message):
    """They are not called damaged: copying them again would not help."""
    net = old_net(make("light").parameters)
    change(net)
    scipy.io.savemat(tmp_path / "a.mat", {"net": net})
    with pytest.raises(WeightsError, match=message) as error:
        weights.import_weights(tmp_path / "a.mat")
    assert "damaged" not in one_line(error)


# -------------------------------------------------------------------------------------- the
# released files


def test_golden_activations(data_dir):
    """The authors' activations of a 10x10 RGB image in [0, 1]: channel order, padding and LRN are
    theirs.
    """
    found = weights.import_weights(data_dir / "weights" / "net_param.mat")
    golden = scipy.io.loadmat(data_dir / "weights" / "net_param.mat")["res"].ravel()
    x, *expected = [np.ascontiguousarray(a.transpose(2, 0, 1))[None] for a in golden]
    p = found.parameters
    assert x.shape == (1, 3, 10, 10) and len(expected) == 4

    conv1, _ = conv2d_forward(x, p["conv1.weight"], p["conv1.bias"], padding=1)
    relu1, _ = relu_forward(conv1)
    conv2, _ = conv2d_forward(relu1, p["conv2.weight"], p["conv2.bias"], padding=1)
    norm1, _ = lrn_forward(conv2, n=5, k=1.0, alpha=1e-4 / 5, beta=0.75)
    for ours, theirs in zip([conv1, relu1, conv2, norm1], expected):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    # The LRN changes these values by 1e-4 only: make sure that the comparison sees it.
    assert abs(expected[2] - expected[3]).max() > 5e-5

    np.testing.assert_allclose(network.features(x, p, "light"), expected[3], rtol=0, atol=1e-5)
    bgr = p | {"conv1.weight": np.ascontiguousarray(p["conv1.weight"][:, ::-1])}
    assert abs(network.features(x, bgr, "light") - expected[3]).max() > 0.1


def test_released_pth_is_the_mat_in_bgr(data_dir):
    pth = weights.import_weights(data_dir / "weights" / "param.pth")
    mat = weights.import_weights(data_dir / "weights" / "DCFNet-net-7-125-2.mat")
    assert (pth.channel_order, pth.mean) == ("bgr", (104.0, 117.0, 123.0))
    assert (mat.channel_order, mat.mean) == ("rgb", (123.0, 117.0, 104.0))
    assert pth.architecture == mat.architecture == "light"
    flipped = {name: value for name, value in mat.parameters.items()}
    flipped["conv1.weight"] = mat.parameters["conv1.weight"][:, ::-1]
    assert_same(pth.parameters, flipped)
    golden = weights.import_weights(data_dir / "weights" / "net_param.mat")
    assert_same(golden.parameters, mat.parameters)
    meta = mat.training["meta"]
    assert (meta["interp_factor"], meta["scale_step"], meta["padding"]) == (0.011, 1.015, 2)

    # Either file makes the same features of the same image.
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 20, 17)).astype(np.float32)  # BGR
    by_pth = network.features(
        image - np.float32(pth.mean).reshape(3, 1, 1), pth.parameters, "light"
    )
    rgb = np.ascontiguousarray(image[:, ::-1])
    by_mat = network.features(rgb - np.float32(mat.mean).reshape(3, 1, 1), mat.parameters, "light")
    np.testing.assert_allclose(by_pth, by_mat, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("epoch", ["50", "20-vot"])
def test_released_paper_weights(data_dir, tmp_path, epoch):
    path = data_dir / "weights" / f"DCFNet-dataset-3-net-21-loss-1-epoch-{epoch}.mat"
    found = weights.import_weights(path)
    assert (found.architecture, found.channel_order) == ("conv1", "rgb")
    assert found.mean == (123.0, 117.0, 104.0)
    weights.save_weights(tmp_path / "paper.h5", found)
    assert_same(weights.load_weights(tmp_path / "paper.h5").parameters, found.parameters)


def test_truncated_released_pth(data_dir, tmp_path):
    whole = (data_dir / "weights" / "param.pth").read_bytes()
    path = tmp_path / "a.pth"
    for length in (15, 119, 300, 544, 623, 700, 20_000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as error:
            weights.import_weights(path)
        one_line(error)
