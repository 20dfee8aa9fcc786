"""PyTorch's files, read without PyTorch: values, and pickles that are damaged or hostile."""

import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from weight_files import (
    CONTAINERS,
    assert_same,
    legacy,
    make,
    p_state,
    p_string,
    p_tensor,
    refused,
    state_of,
    zipped,
)  # fmt: skip

from dcfnet_np import network
from dcfnet_np.weights import import_weights


@CONTAINERS
@pytest.mark.parametrize("architecture", ["light", "conv1", "conv2"])
def test_pth(tmp_path, container, architecture):
    expected, path = make(architecture).parameters, tmp_path / "net.pth"
    path.write_bytes(container(*state_of(expected)))
    found = import_weights(path)
    assert_same(found.parameters, expected)
    assert (found.architecture, found.name) == (architecture, "net")
    assert (found.channel_order, found.mean) == ("bgr", (104.0, 117.0, 123.0))
    other = "light" if architecture == "conv1" else "conv1-dilation"
    refused(path, f"not {other}", read=lambda path: import_weights(path, other))
    if architecture == "conv1":
        assert import_weights(path, "conv1-dilation").architecture == "conv1-dilation"


@CONTAINERS
def test_strides_and_offsets(tmp_path, container):
    """A tensor may be a transposed view into a storage that it shares with another one."""
    expected = make("light").parameters
    w = expected["conv1.weight"]
    _, storages = state_of(expected)
    storages["0"] = expected["conv1.bias"].tobytes() + w.transpose(3, 2, 1, 0).tobytes()
    entries = [
        ("0.weight", p_tensor("0", w.shape, (1, 32, 96, 288), 896, 32)),
        ("0.bias", p_tensor("0", (32,), (1,), 896)),
        ("2.weight", p_tensor("2", (32, 32, 3, 3), (288, 9, 3, 1), 9216)),
        ("2.bias", p_tensor("3", (32,), (1,), 32)),
    ]
    del storages["1"]
    (tmp_path / "a.pth").write_bytes(container(p_state(entries), storages))
    assert_same(import_weights(tmp_path / "a.pth").parameters, expected)


class Evil:
    """Pickles into a call of any function: the attack that an allow-list is for."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["alone", "legacy", "zipped"])
def test_malicious_pickle_does_not_run(tmp_path, protocol, place):
    marker = tmp_path / "marker"
    evil = pickle.dumps({"state_dict": Evil(os.system, f"touch '{marker}'")}, protocol)
    pickle.loads(evil)
    assert marker.exists()  # the attack is a live one
    marker.unlink()
    content = {"alone": evil, "legacy": legacy(evil, {}), "zipped": zipped(evil, {})}[place]
    known = place != "alone" or protocol >= 2  # by its first byte
    message = r"forbidden global '(posix|nt)\.system'" if known else "no weights"
    refused(tmp_path / "evil.pth", message, content)
    assert not marker.exists()


NEAR_MISSES = """
    collections defaultdict|collections Counter|collections OrderedDict.fromkeys
    collections ordereddict|collections.abc OrderedDict|_collections OrderedDict
    torch._utils _rebuild_tensor|torch._utils _rebuild_tensor_v3|torch._utils __builtins__
    torch._utils _rebuild_parameter_with_state|torch._utils _rebuild_tensor_v2.__globals__
    torch _rebuild_tensor_v2|torch load|torch FloatTensor|torch floatstorage
    torch.cuda FloatStorage|torch BFloat16Storage|torch.storage _load_from_bytes
    torch.serialization load|builtins getattr|builtins eval|builtins OrderedDict|__builtin__ eval
    os system|posix system|pickle loads|numpy frombuffer|numpy.core.multiarray _reconstruct
"""


@CONTAINERS
@pytest.mark.parametrize("near", [line.strip() for line in re.split(r"[|\n]", NEAR_MISSES.strip())])
def test_no_other_global_passes(tmp_path, container, near):
    """Names beside those that are allowed, by both ways of asking: one is enough for any code."""
    module, name = near.split()
    words = [b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)]
    message = f"forbidden global '{re.escape(f'{module}.{name}')}' in the pickle; nothing was run"
    for asked in (f"c{module}\n{name}\n".encode(), b"".join(words) + b"\x93"):
        content = container(b"\x80\x04" + asked + b")R.", {})
        refused(tmp_path / "evil.pth", f"{message}; save it with torch.save", content)


@CONTAINERS
def test_a_pickle_changes_nothing_of_ours(tmp_path, container):
    """BUILD sets attributes of what was made before; here of the class that a state dict is."""
    before = dict(vars(OrderedDict))
    for state in (b"}X\x03\x00\x00\x00getNs", b"N}X\x03\x00\x00\x00getNs\x86"):
        content = container(b"\x80\x02ccollections\nOrderedDict\n" + state + b"b.", {})
        refused(tmp_path / "evil.pth", ".", content)
        assert dict(vars(OrderedDict)) == before


def tensor(*words):
    """A state dict of one tensor, a.weight, in a storage of 16 numbers."""
    return p_state([("a.weight", p_tensor("0", *words))])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (pickle.dumps([1, 2], 2), "no state dict"),
        (pickle.dumps({"a": 1}, 2), "no state dict"),
        (p_state([]), "its convolutions are none"),
        (tensor((4, 4), (4, 1), 16), "must have a weight and a bias"),
        (tensor((4, 4), (4, 1), 17), "incomplete or damaged"),
        (tensor((4, 4), (4, 1), 16, 1), "reaches beyond"),
        (tensor((4, 4), (5, 1), 16), "reaches beyond"),
        (tensor((2**40,), (0,), 16), "reaches beyond"),
        (tensor((1,), (1,), 16, -1), "malformed"),
        (tensor((4, 4), (4, -1), 16, 15), "malformed"),
        (tensor((1,) * 40, (1,) * 40, 16), "malformed"),
        (tensor((4,), (1,), -16), "malformed"),
        (tensor((4,), (1,), 16, 0, b"ctorch\nCharStorage\n"), "CharStorage"),
        (tensor((4,), (1,), 4, 0, p_string("<c16")), "unknown kind of storage"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "too large"),  # a memo of 32 GB in ten bytes
        (b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns.", "too large"),  # deeper than C's stack
    ],
    ids=str,
)
@CONTAINERS
def test_bad_state_dict(tmp_path, container, state, message):
    storages = {"0": bytes(64)} if b"Storage" in state else {}
    refused(tmp_path / "bad.pth", message, container(state, storages))


def test_storage_length_must_agree(tmp_path):
    state, storages = state_of(make().parameters)
    whole = legacy(state, storages)
    at = whole.index(storages["2"]) - 8
    assert whole[at : at + 8] == struct.pack("<q", 9216)
    content = whole[:at] + struct.pack("<q", 9215) + whole[at + 8 :]
    refused(tmp_path / "a.pth", "incomplete or damaged: copy or download it again", content)


def test_foreign_zip(tmp_path):
    path = tmp_path / "a.pth"
    deflated = zipped(*state_of(make().parameters), zipfile.ZIP_DEFLATED)
    refused(path, "compressed", deflated)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "without the data.pkl")


def test_released_pth_is_the_mat_in_bgr(data_dir):
    pth = import_weights(data_dir / "weights" / "param.pth")
    mat = import_weights(data_dir / "weights" / "DCFNet-net-7-125-2.mat")
    assert (pth.channel_order, pth.mean) == ("bgr", (104.0, 117.0, 123.0))
    assert (mat.channel_order, mat.mean) == ("rgb", (123.0, 117.0, 104.0))
    assert pth.architecture == mat.architecture == "light"
    flipped = mat.parameters | {"conv1.weight": mat.parameters["conv1.weight"][:, ::-1]}
    assert_same(pth.parameters, flipped)
    golden = import_weights(data_dir / "weights" / "net_param.mat")
    assert_same(golden.parameters, mat.parameters)
    meta = mat.training["meta"]
    assert (meta["interp_factor"], meta["scale_step"], meta["padding"]) == (0.011, 1.015, 2)

    # Either file makes the same features of the same image.
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 20, 17)).astype(np.float32)  # BGR
    by_pth, by_mat = (
        network.features(np.ascontiguousarray(x) - mean, found.parameters, "light")
        for x, found in ((image, pth), (image[:, ::-1], mat))
        for mean in [np.float32(found.mean).reshape(3, 1, 1)]
    )
    np.testing.assert_allclose(by_pth, by_mat, rtol=1e-4, atol=1e-3)
