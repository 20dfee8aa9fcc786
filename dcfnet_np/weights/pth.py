"""Weights of a PyTorch state dict, read with no torch and with no code run.

Both formats of torch.save are read: the old one, a row of pickles, and the zip archive.
"""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..support.archives import open_stored_zip
from ..support.words import counted
from .container import INCOMPLETE, MEAN_BGR, ForeignNetwork, Weights, WeightsError, weights_errors

LARGEST_PICKLE = 64 << 10  # bytes; the table of a state dict has 1 KB
MOST_REPEATED = 20  # references of a pickle back to tuples; a state dict has none
SAVE_AGAIN = "save it with torch.save(model.state_dict(), FILE)"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the old format
STORAGES = {
    "torch.HalfStorage": "<f2",
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
}


class _Storage(NamedTuple):
    """A run of numbers that tensors look into."""

    key: str
    dtype: str
    length: int  # in elements

    @property
    def size(self) -> int:
        """In bytes."""
        return self.length * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
    """A strided view of a storage, all in elements, as the pickle describes it: not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


Values = dict[str, np.ndarray]  # of the storages, by key


def import_pth(path: Path, architecture: str | None) -> Weights:
    """Weights of a state dict, or of a checkpoint that holds one under "state_dict".

    The tensors must come in pairs, NAME.weight (O, I, 3, 3) and NAME.bias (O,), in the order of the
    network.  The images are BGR, 0..255, minus 104, 117, 123.  Raises WeightsError, also for a
    pickle that asks for any global but the few a state dict needs.
    """
    with weights_errors(path, f"not a PyTorch file, or {INCOMPLETE}"):
        data = path.read_bytes()
        state, storages = _read_zip(data) if data.startswith(b"PK\x03\x04") else _read_legacy(data)
        if isinstance(state, dict):
            state = state.get("state_dict", state)
        if not isinstance(state, dict):
            raise WeightsError(f"the file holds no state dict; {SAVE_AGAIN}")
        layers: dict[str, dict[str, np.ndarray]] = {}
        room = sum(len(values) for values in storages.values())
        for key, tensor in state.items():
            if not isinstance(key, str) or not isinstance(tensor, _Tensor):
                what = "no state dict: not every entry is a named tensor"
                raise WeightsError(f"{what}; {SAVE_AGAIN}")
            layer, _, kind = key.rpartition(".")
            layers.setdefault(layer, {})[kind] = values = _tensor_values(tensor, storages)
            room -= values.size
            if room < 0:
                raise WeightsError("its tensors have more values than the file")
        for layer, tensors in layers.items():
            if set(tensors) != {"weight", "bias"}:
                got = sorted(tensors)
                raise WeightsError(f"{layer!r} must have a weight and a bias, got {got}")
        pairs = [(tensors["weight"], tensors["bias"]) for tensors in layers.values()]
        found, parameters = ForeignNetwork(pairs).parameters(architecture)
        training = {"imported_from": path.name}
        return Weights(found, parameters, "bgr", MEAN_BGR, training, path.stem)


def _read_legacy(data: bytes) -> tuple[Any, Values]:
    """Old format: pickles of magic number, protocol, system, state and storage keys; storages.

    Each storage is its length in elements (8 bytes) and its values, in the order of the keys,
    little-endian.
    """
    magic, _, at = _unpickle(data)
    if magic != MAGIC:
        raise WeightsError(f"not a PyTorch file; {SAVE_AGAIN}")
    protocol, _, at = _unpickle(data, at)
    system, _, at = _unpickle(data, at)
    if protocol != PROTOCOL or system.get("little_endian") is not True:
        raise WeightsError(f"an unknown version of PyTorch's format, or big-endian; {SAVE_AGAIN}")
    state, storages, at = _unpickle(data, at)
    keys, _, at = _unpickle(data, at)
    values = {}
    for key in keys:
        if (storage := storages.get(key)) is None:
            raise WeightsError(INCOMPLETE)
        start, at = at + 8, at + 8 + storage.size
        stated = int.from_bytes(data[start - 8 : start], "little")
        if stated != storage.length or at > len(data):
            raise WeightsError(INCOMPLETE)
        values[key] = np.frombuffer(data, storage.dtype, storage.length, start)
    return state, values


def _read_zip(data: bytes) -> tuple[Any, Values]:
    """Zip format: FOLDER/data.pkl is the state, FOLDER/data/KEY the storages, uncompressed."""
    try:
        archive = open_stored_zip(data)
    except ValueError as error:
        raise WeightsError(f"{error}, which torch.save does not write; {SAVE_AGAIN}") from None
    with archive:
        names = archive.namelist()
        tables = [name for name in names if name.endswith("/data.pkl")]
        if len(tables) != 1:
            raise WeightsError(f"a zip archive without the data.pkl of torch.save; {SAVE_AGAIN}")
        folder = tables[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in names and archive.read(order) != b"little":
            raise WeightsError(f"big-endian values are not supported; {SAVE_AGAIN}")
        state, storages, _ = _unpickle(archive.read(tables[0]))
        values = {}
        for key, storage in storages.items():
            raw = archive.read(f"{folder}data/{key}")
            if len(raw) != storage.size:
                raise WeightsError(INCOMPLETE)
            values[key] = np.frombuffer(raw, storage.dtype)
        return state, values


def _unpickle(data: bytes, start: int = 0) -> tuple[Any, dict[str, _Storage], int]:
    """The pickle at data[start:], the storages it refers to, and the offset behind it."""
    end = _end_of_pickle(data, start)
    unpickler = _StateDictUnpickler(data[start:end])
    return unpickler.load(), unpickler.storages, end


def _end_of_pickle(data: bytes, start: int) -> int:
    """Walks over the opcodes, executes none, and refuses what could exhaust memory or time.

    The unpickler's memo is an array as long as the largest index that the pickle stores to, and
    tuples of the same tuples, forty deep, would be hashed for years as the key of a dict.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    harmless: dict[int, bool] = {}  # which stored things are no tuples, by index
    before, again = "", 0
    for opcode, argument, _ in pickletools.genops(stream):
        name, index = opcode.name, 0
        if name.endswith("PUT") or name == "MEMOIZE":
            index = len(harmless) if argument is None else int(argument)
            known = "UNICODE", "GLOBAL", "EMPTY_DICT", "EMPTY_LIST"
            harmless[index] = any(word in before for word in known)
        elif name == "DUP" or ("GET" in name and not harmless.get(int(argument or 0))):
            again += 1
        before = name
        if max(stream.tell() - start, index) > LARGEST_PICKLE or again > MOST_REPEATED:
            raise WeightsError("its pickle is too large for a state dict of these networks")
    return stream.tell()


class _StateDictUnpickler(pickle.Unpickler):
    """Knows the names that a table of tensors needs, and no other.

    Each is mapped to something harmless of ours.  A pickle is a program; what it can do is call the
    globals it asks for.  So `find_class` is the gate.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        known = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *fields: _Tensor(*fields[:4]),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            **STORAGES,
        }
        if full not in known:
            what = f"forbidden global {full[:80]!r} in the pickle"
            raise WeightsError(f"{what}; nothing was run; {SAVE_AGAIN}")
        return known[full]

    def persistent_load(self, pid: Any) -> _Storage:
        """Storages lie outside the pickle: ("storage", type, key, device, length, ...)."""
        kind, dtype, key, _, length, *_ = pid
        known = kind == "storage" and dtype in STORAGES.values()
        if not known or not isinstance(key, str) or not _is_natural(length):
            raise WeightsError("a malformed or unknown kind of storage")
        self.storages[key] = _Storage(key, dtype, length)
        return self.storages[key]


def _is_natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _tensor_values(tensor: _Tensor, storages: Values) -> np.ndarray:
    """Copy a strided view out of its storage, after making sure that it stays inside."""
    storage, offset, shape, strides = tensor
    if not isinstance(storage, _Storage) or storage.key not in storages:
        raise WeightsError("a tensor without a storage")
    natural = all(map(_is_natural, (offset, *shape, *strides)))
    if len(shape) != len(strides) or len(shape) > 4 or not natural:
        raise WeightsError("a tensor with malformed shape, strides or offset")
    values = storages[storage.key]
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
    if 0 in shape or last >= len(values) or math.prod(shape) > len(values):
        what = f"a tensor of shape {shape} reaches beyond"
        raise WeightsError(f"{what} its storage of {counted(len(values), 'value')}")
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps).copy()
