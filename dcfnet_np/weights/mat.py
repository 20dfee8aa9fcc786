"""Weights of MatConvNet, and the .mat files of MATLAB 5 to 7.2 that they are kept in.

The reader of .mat files knows numbers, texts, cells and structures.  SciPy's ends the process on
many a damaged file (docs/reference/robustness.md), so this one is made of slices that are checked.
Source: MathWorks, "MAT-File Format", R2023b.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..network import Lrn
from ..support.words import counted
from .container import INCOMPLETE, MEAN_RGB, ForeignNetwork, Weights, WeightsError, weights_errors

UNEVEN = 1e-3  # grey levels by which the pixels of a mean image may differ
LARGEST = 4 << 20  # bytes that a file may unfold to; the networks in question have under 1 MB
DEEPEST = 16  # cells and structures inside each other
MOST_DIMENSIONS = 32  # of an array; a kernel has four
MOST_FIELDS = 1000  # of a structure

START = b"\x00\x01IM"  # at byte 124: version 1, little-endian as all machines of today
EMPTY = np.empty((0, 0))
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
DTYPES = {
    1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8",
    13: "<u8",
}  # fmt: skip
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}


class MatlabError(ValueError):
    """This is no such file, or a damaged one."""


def import_mat(path: Path, architecture: str | None) -> Weights:
    """Weights of a MatConvNet file.

    It has a `net` structure, or the arrays conv1_w, conv1_b, ... as net_param.mat.  MatConvNet
    stores kernels as (height, width, in, out) and sees RGB images, 0..255, minus
    net.meta.normalization.averageImage (123, 117, 104 where the file has none).  Raises
    WeightsError.
    """
    with weights_errors(path, f"not a MATLAB file, or {INCOMPLETE}"):
        content = read_mat(path.read_bytes())
    with weights_errors(path, "the file is whole, but no network as MatConvNet keeps it"):
        training: dict[str, Any] = {"imported_from": path.name}
        mean: tuple[float, ...] = MEAN_RGB
        net = content.get("net", content)  # `save -struct net` makes variables of its fields
        if isinstance(net, dict) and "layers" in net:
            network = _read_layers(net["layers"])
            meta = _structure(net.get("meta"))
            normalization = _structure(meta.get("normalization", net.get("normalization")))
            mean = _mean(normalization.get("averageImage", ())) or MEAN_RGB
            plain = {
                key: value for key, value in meta.items() if isinstance(value, int | float | str)
            }
            training |= {"meta": plain} if plain else {}
        elif "conv1_w" in content:
            count = sum(key.startswith("conv") and key.endswith("_w") for key in content)
            pairs = [(content[f"conv{i}_w"], content[f"conv{i}_b"]) for i in range(1, count + 1)]
            network = ForeignNetwork(pairs)
        else:
            raise WeightsError("no network: neither 'net' with its 'layers' nor 'conv1_w'")
        oihw = [(np.asarray(w).transpose(3, 2, 0, 1), np.ravel(b)) for w, b in network.convolutions]
        found, parameters = network._replace(convolutions=oihw).parameters(architecture)
        return Weights(found, parameters, "rgb", mean, training, path.stem)


def _read_layers(layers: Any) -> ForeignNetwork:
    """The layers of a network; its kernels are still (height, width, in, out).

    Before version 1.0-beta12 kernels were called `filters` and `biases`, LRN `normalize`, and
    `normalization` lay beside the layers: see MatConvNet's vl_simplenn_tidy.m.
    """
    kinds = ["lrn" if layer["type"] == "normalize" else layer["type"] for layer in layers]
    for layer, kind in zip(layers, kinds):
        if kind == "lrn" and not np.allclose(layer["param"], Lrn(), rtol=1e-6, atol=0):
            got = np.ravel(layer["param"])[:8].tolist()
            raise WeightsError(f"LRN constants must be {tuple(Lrn())}, got {got}")
        if np.any(np.not_equal(layer.get("stride", 1), 1)) or np.any(layer.get("leak", 0)):
            what = f"a {kind} layer has a stride or a leak"
            raise WeightsError(f"{what}, which these networks have not")
    convolutions = [layer for layer, kind in zip(layers, kinds) if kind == "conv"]
    return ForeignNetwork(
        convolutions=[_kernel_and_bias(layer) for layer in convolutions],
        dilations=[int(np.max(layer.get("dilate", 1))) for layer in convolutions],
        kinds=[str(kind) for kind in kinds],
    )


def _structure(value: Any) -> dict[str, Any]:
    """A structure; anything else, as an empty matrix, stands for one without fields."""
    return value if isinstance(value, dict) else {}


def _kernel_and_bias(layer: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of a convolution; an empty bias is one of zeros."""
    w, b = layer["weights"][:2] if "weights" in layer else (layer["filters"], layer["biases"])
    return w, b if np.size(b) else np.zeros(w.shape[-1])


def _mean(image: Any) -> tuple[float, ...] | None:
    """A mean per channel, None where there is none.

    MatConvNet subtracts a mean image pixel by pixel.  Here there is one grey level a channel, for
    windows of any size, so an image must be the same everywhere.
    """
    image = np.asarray(image, np.float64)
    if image.size == 0:
        return None
    if image.size in (1, 3):
        image = np.broadcast_to(image.ravel(), (1, 1, 3))
    if image.ndim != 3 or image.shape[-1] != 3:
        raise WeightsError(f"the mean image must have three channels, got shape {image.shape[:8]}")
    pixels = image.reshape(-1, 3)
    if np.ptp(pixels, axis=0).max() > UNEVEN:
        raise WeightsError(
            "its mean image differs from pixel to pixel, and here a mean has three numbers; "
            "if its mean will do, save it again with averageImage = mean(mean(averageImage, 1), 2)"
        )
    return tuple(pixels.mean(axis=0).tolist())


def read_mat(data: bytes) -> dict[str, Any]:
    """The variables of a file by name.

    Numbers are arrays of the shape and dtype that they are stored with, a single one a Python
    number; texts are str; cells lists, column by column; a structure a dict, several of them a list
    of dicts.  What else there is (objects, functions, sparse and complex arrays) is None.  Raises
    MatlabError.
    """
    if data[124:128] != START:
        raise MatlabError("not a .mat file of MATLAB 5 to 7.2")
    found: dict[str, Any] = {}
    room = LARGEST
    elements = _Elements(memoryview(data)[128:])
    while elements:
        kind, content = elements.next()
        if kind == COMPRESSED:
            content = _inflate(content, room)
        room -= 8 + len(content)
        if room < 0:
            raise MatlabError("too large for a network")
        if kind == COMPRESSED:
            kind, content = _Elements(content).next()
        if kind == MATRIX:
            name, value = _matrix(content, DEEPEST)
            found[name] = value
    return found


def _inflate(data: memoryview, most: int) -> memoryview:
    unfolding = zlib.decompressobj()
    try:
        content = unfolding.decompress(data, most + 1)
    except zlib.error as error:
        raise MatlabError(str(error)) from None
    if not unfolding.eof:  # then the checksum was right
        raise MatlabError("a compressed variable is cut short or too large")
    return memoryview(content)


class _Elements:
    """Takes data elements off the front of `data`; each has a type, a length and contents."""

    def __init__(self, data: memoryview) -> None:
        self.data = data

    def __bool__(self) -> bool:
        return len(self.data) > 0

    def next(self) -> tuple[int, memoryview]:
        """(type, contents) of the next one."""
        if len(self.data) < 8:
            raise MatlabError("cut short")
        kind, length = struct.unpack_from("<II", self.data)
        start = 8
        # a short one: type and length share four bytes, the contents are the other four
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, 4
        end = start + length
        if end > (8 if start == 4 else len(self.data)):
            raise MatlabError("an element that reaches beyond its end")
        content = self.data[start:end]
        self.data = self.data[end if kind == COMPRESSED else -(-end // 8) * 8 :]
        return kind, content

    def numbers(self) -> np.ndarray:
        """The next one as an array."""
        kind, content = self.next()
        if kind not in DTYPES:
            raise MatlabError(f"numbers of unknown type {kind}")
        dtype = np.dtype(DTYPES[kind])
        if len(content) % dtype.itemsize:
            raise MatlabError("half a number")
        return np.frombuffer(content, dtype).copy()

    def few_numbers(self) -> list[Any]:
        """The next one as a list."""
        found = self.numbers()
        if len(found) > MOST_DIMENSIONS:  # their product would be multiplied for years
            raise MatlabError("an array of too many dimensions")
        return found.tolist()


def _matrix(content: memoryview, depth: int) -> tuple[str, Any]:
    """Name and value of an array of any class."""
    if not content:
        return "", EMPTY
    if depth == 0:
        raise MatlabError("cells and structures nested too deep")
    elements = _Elements(content)
    flags, shape = elements.few_numbers(), elements.few_numbers()
    name = bytes(elements.next()[1]).decode("latin-1")
    kind, is_complex = (int(flags[0]) & 0xFF, bool(int(flags[0]) & 0x800)) if flags else (0, False)
    if len(shape) < 2 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise MatlabError("an array without a shape")
    count = math.prod(shape)
    if kind in (CELL, STRUCT) and count > max(1, len(content) // 8):
        raise MatlabError("more cells or structures than there are bytes")
    if kind == CELL:
        return name, [_inner(elements, depth) for _ in range(count)]
    if kind == STRUCT:
        fields = _field_names(elements)
        found = [{key: _inner(elements, depth) for key in fields} for _ in range(count)]
        return name, found[0] if count == 1 else found
    if kind == CHAR:
        return name, _text(elements)
    if kind not in NUMBERS or is_complex:
        return name, None
    values = elements.numbers()
    if len(values) != count:
        raise MatlabError(f"{counted(len(values), 'number')} for a shape of {count}")
    return name, values[0].item() if count == 1 else values.reshape(shape, order="F")


def _inner(elements: _Elements, depth: int) -> Any:
    kind, content = elements.next()
    if kind != MATRIX:
        raise MatlabError("no array where one must be")
    return _matrix(content, depth - 1)[1]


def _field_names(elements: _Elements) -> list[str]:
    """Names of equal length, filled up with zeros."""
    length, names = elements.few_numbers(), bytes(elements.next()[1])
    if [type(n) for n in length] != [int] or len(names) > MOST_FIELDS * length[0]:
        raise MatlabError("a structure without names")
    step = max(1, length[0])
    parts = [names[i : i + step] for i in range(0, len(names), step)]
    return [part.split(b"\0")[0].decode("latin-1") for part in parts]


def _text(elements: _Elements) -> str:
    kind, content = elements.next()
    encoding = ENCODINGS.get(kind)
    if encoding is None:
        raise MatlabError(f"a text of unknown type {kind}")
    try:
        return bytes(content).decode(encoding)
    except UnicodeDecodeError:
        raise MatlabError("a text that does not decode") from None
