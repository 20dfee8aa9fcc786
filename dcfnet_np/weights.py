"""Weights: HDF5 files in and out, and importers for the released MatConvNet and PyTorch files.

An HDF5 file holds one group per convolution with the datasets `weight` (O, I, 3, 3) and `bias`
(O,), float32, and these attributes at its root:

    format, format_version   "dcfnet_np weights", 1
    architecture             a name of network.ARCHITECTURES
    channel_order, mean      what the network expects: image in "bgr" or "rgb" order, 0..255, minus the mean
    lrn_n, _k, _alpha, _beta constants of the final LRN; they must be the architecture's
    training                 how the weights came about, as JSON
    data_digest              digest of the training data, where training["data_digest"] gives one, else ""
    parameter_digest         SHA-256 of the parameters (`digest`); `load` computes it again

Nothing read here can run code: HDF5 and .mat hold data only, and the pickle inside a .pth file
passes through an unpickler that knows the few names a table of tensors needs and refuses all
others."""

import contextlib
import hashlib
import io
import json
import math
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .archives import open_hdf5, open_stored_zip, stored_attributes, stored_dataset
from .matlab import read_mat
from .network import (
    ARCHITECTURES,
    Architecture,
    Conv,
    Lrn,
    Parameters,
    check_parameters,
    get_architecture,
    parameter_shapes,
)
from .support.files import replacing

FORMAT = "dcfnet_np weights"
HDF5 = b"\x89HDF\r\n\x1a\n"
FORMAT_VERSION = 1
MEAN_BGR = (104.0, 117.0, 123.0)  # of the released codes, grey levels
MEAN_RGB = MEAN_BGR[::-1]
UNEVEN = 1e-3  # grey levels by which the pixels of a mean image may differ
LARGEST_FILE = 16 << 20  # bytes; the files in question have 40 to 500 KB
LARGEST_PICKLE = 64 << 10  # bytes; the table of a state dict has 1 KB
MOST_REPEATED = 20  # references of a pickle back to tuples; a state dict has none
INCOMPLETE = "the file is incomplete or damaged: copy or download it again"
FOREIGN = "no weights: neither a file of dcfnet_np, nor a MatConvNet .mat, nor a PyTorch state dict"
SAVE_AGAIN = "save it with torch.save(model.state_dict(), FILE)"
LONGEST = 300  # characters of an error; of a longer one the middle is left out


class WeightsError(ValueError):
    """A weights file cannot be used; the message is one line that says why, of at most `LONGEST`
    characters.
    """

    def __init__(self, message: str) -> None:
        text = " ".join("".join(c if c.isprintable() else " " for c in message).split())
        super().__init__(
            text if len(text) <= LONGEST else f"{text[:200]} ... {text[205 - LONGEST :]}"
        )


@dataclass(frozen=True, eq=False)
class Weights:
    """Parameters of one network with all that is needed to use them.  Checked when made:
    WeightsError.

    architecture: a name of network.ARCHITECTURES.  parameters: float32 NumPy arrays, finite.
    channel_order, mean: the network's input is the image, 0..255, in this order, minus the mean
    (three grey levels in the same order).  training: data, settings, seed: anything JSON can hold.
    name: for people."""

    architecture: str
    parameters: Parameters
    channel_order: str = "bgr"
    mean: tuple[float, ...] = MEAN_BGR
    training: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, str):
            raise WeightsError(
                f"architecture must be a name, got {type(self.architecture).__name__}"
            )
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, np.ndarray):
                kind = f"{type(parameter).__module__}.{type(parameter).__name__}"
                raise WeightsError(
                    f"{name} must be a NumPy array (backend.to_numpy makes one), got {kind}"
                )
        try:
            check_parameters(self.architecture, self.parameters)
        except ValueError as error:
            raise WeightsError(str(error)) from None
        for name, parameter in self.parameters.items():
            if parameter.dtype != np.float32:
                raise WeightsError(f"{name} must be float32, got {parameter.dtype}")
            if not np.isfinite(parameter).all():
                raise WeightsError(f"{name} holds NaN or infinite values")
        if self.channel_order not in ("bgr", "rgb"):
            raise WeightsError(f"channel_order must be 'bgr' or 'rgb', got {self.channel_order!r}")
        numbers = [
            value for value in self.mean if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        if len(self.mean) != 3 or len(numbers) != 3:
            raise WeightsError(f"mean must be three finite numbers, got {self.mean!r}")
        try:
            json.dumps(self.training, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"training must be JSON: {error}") from None


def digest(parameters: Parameters) -> str:
    """SHA-256, in hexadecimal, of names, shapes and little-endian float32 values, ordered by name."""
    total = hashlib.sha256()
    for name in sorted(parameters):
        total.update(f"{name} {parameters[name].shape}\n".encode())
        total.update(np.ascontiguousarray(parameters[name], "<f4").tobytes())
    return total.hexdigest()


# ---------------------------------------------------------------------------------------------------- HDF5


def _packaged() -> Any:
    """The folder of the packaged weights."""
    import importlib.resources  # here: it costs more start-up time than the rest of this module

    return importlib.resources.files("dcfnet_np") / "data"


def names() -> list[str]:
    """Names of the packaged weights, as `load` takes them."""
    folder = _packaged()
    if not folder.is_dir():
        return []
    return sorted(
        entry.name.removesuffix(".h5") for entry in folder.iterdir() if entry.name.endswith(".h5")
    )


def load(name_or_path: str | os.PathLike[str]) -> Weights:
    """Packaged weights by name ("light"), or those of a file: ours (HDF5), MatConvNet's or
    PyTorch's.

    The first bytes of a file tell what it is; its name does not matter.

    Raises WeightsError (a ValueError) for a file that is missing, of another kind, truncated, of a
    newer format or an unknown architecture, with wrong shapes, dtypes or values, or changed since
    it was saved."""
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(
            f"weights must be a packaged name, a path or a Weights, got {type(name_or_path).__name__}"
        )
    if str(name_or_path) in names():
        return _load_hdf5(Path(str(_packaged() / f"{name_or_path}.h5")))
    path = Path(name_or_path)
    if not path.exists():
        known = ", ".join(names()) or "none installed"
        raise WeightsError(f"{str(path)!r} is neither a file nor a packaged name ({known})")
    return _load_hdf5(path) if _kind(path) == "h5" else import_weights(path)


def save(path: str | os.PathLike[str], weights: Weights) -> None:
    """Write an HDF5 file.  It appears complete or not at all: written under another name, then
    renamed.

    The same weights give the same bytes (no time stamps).  Raises WeightsError when the folder is
    missing, files.WriteError (an OSError) when the disk is full.
    """
    import h5py

    path = Path(path)
    if not path.parent.is_dir():
        raise WeightsError(f"folder {str(path.parent)!r} does not exist; create it first")
    # This version of the format puts a checksum on all metadata; the older default has none, and
    # the HDF5 library may crash on a damaged file.  Texts have fixed length: others lie in a heap
    # without one. The file is made in memory, since the library also crashes on a full disk.
    with h5py.File(
        path.name, "w", driver="core", backing_store=False, libver=("v108", "v108")
    ) as file:
        for name, value in _attributes(weights).items():
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        for name, parameter in weights.parameters.items():
            layer, kind = name.split(".")
            # a group made by the way has the time in it
            file.require_group(layer)[kind] = parameter
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as part:
        part.write_bytes(image)


def _attributes(weights: Weights) -> dict[str, Any]:
    lrn = _lrn(weights.architecture)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": weights.architecture,
        "channel_order": weights.channel_order,
        "mean": np.array(weights.mean, np.float64),
        **{f"lrn_{constant}": value for constant, value in lrn._asdict().items()},
        "training": json.dumps(weights.training, sort_keys=True),
        "data_digest": str(weights.training.get("data_digest", "")),
        "parameter_digest": digest(weights.parameters),
    }


def _lrn(architecture: str) -> Lrn:
    """The only LRN of an architecture, its last layer."""
    last = get_architecture(architecture)[-1]
    assert isinstance(last, Lrn)
    return last


def _load_hdf5(path: Path) -> Weights:
    _check_file(path)
    with _one_line(path), open_hdf5(path) as file:
        return _from_hdf5(file, path.stem)


def _from_hdf5(file: Any, name: str) -> Weights:
    attributes = stored_attributes(file, _ATTRIBUTES)
    if attributes.get("format") != FORMAT or "format_version" not in attributes:
        raise WeightsError(FOREIGN)
    version = int(attributes["format_version"])
    if version > FORMAT_VERSION:
        raise WeightsError(
            f"format version {version} is newer than {FORMAT_VERSION}: update dcfnet_np"
        )
    for key in _ATTRIBUTES:
        if key not in attributes:
            raise WeightsError(f"it does not say its {key.replace('_', ' ')}; {INCOMPLETE}")
    architecture = str(attributes["architecture"])
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"unknown architecture {architecture!r}, known: {', '.join(ARCHITECTURES)}"
        )
    lrn = tuple(float(attributes[key]) for key in _LRN_ATTRIBUTES)
    expected_lrn = tuple(_lrn(architecture))
    if not np.allclose(lrn, expected_lrn, rtol=1e-12, atol=0):
        raise WeightsError(f"LRN constants must be {expected_lrn} for {architecture!r}, got {lrn}")

    parameters = {}
    for key, shape in parameter_shapes(architecture).items():
        try:
            dataset = stored_dataset(file, key.replace(".", "/"))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{error.args[0]}; {INCOMPLETE}") from None
        # Look before reading: a forged shape must not make us allocate.
        if dataset.shape != shape or dataset.dtype != np.float32:
            raise WeightsError(
                f"{key} must be float32 {shape}, got {dataset.dtype} {dataset.shape}"
            )
        parameters[key] = dataset[()]
    mean = tuple(float(value) for value in attributes["mean"])
    training = json.loads(attributes["training"])
    weights = Weights(
        architecture, parameters, str(attributes["channel_order"]), mean, training, name
    )
    if digest(parameters) != attributes["parameter_digest"]:
        raise WeightsError(
            "the values are not those that were saved: copy or download the file again"
        )
    return weights


_LRN_ATTRIBUTES = tuple(f"lrn_{constant}" for constant in Lrn._fields)
_ATTRIBUTES = (
    *(
        "format",
        "format_version",
        "architecture",
        "channel_order",
        "mean",
        "training",
        "parameter_digest",
    ),
    *_LRN_ATTRIBUTES,
)


# --------------------------------------------------------------------------------------------
# importers


def _kind(path: Path) -> str:
    """Tells "h5", "mat" or "pth" by the first bytes of a file, whatever its name is.

    Raises WeightsError.
    """
    _check_file(path)
    with open(path, "rb") as stream:
        start = stream.read(1024)
    # these have no checksums: see archives.py
    if start.startswith(HDF5) and start[8:9] not in (b"\0", b"\1"):
        return "h5"
    if start[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return "mat"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "pth"
    if start[512:].startswith(HDF5):
        raise WeightsError(
            f"{path}: a MATLAB file of version 7.3; save it in MATLAB with save(FILE, 'net', '-v7')"
        )
    if _is_mat_4(start):
        raise WeightsError(
            f"{path}: a MATLAB file of version 4, which holds no network; save it with save -v7"
        )
    if start[257:262] == b"ustar" or start.startswith(
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")
    ):
        raise WeightsError(f"{path}: an archive; take the file of weights out and name that")
    raise WeightsError(f"{path}: {FOREIGN}")


def _is_mat_4(start: bytes) -> bool:
    """Whether a file begins as MATLAB 4's: kind (a number of four digits), rows, columns,
    imaginary, length of name.
    """
    if len(start) < 20:
        return False
    for order in "<>":
        kind, _, _, imaginary, name = struct.unpack_from(f"{order}5I", start)
        digits = kind // 1000, kind // 100 % 10, kind // 10 % 10, kind % 10
        if (
            all(digit <= most for digit, most in zip(digits, (4, 0, 5, 2)))
            and imaginary < 2
            and 1 < name < 64
        ):
            return start[20 : 19 + name].isascii() and start[19 + name : 20 + name] == b"\0"
    return False


def import_weights(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Weights of a released file, MatConvNet's or PyTorch's.

    architecture: name to use instead of the first one that fits (a PyTorch file does not say
    whether a convolution is dilated).  Raises WeightsError (a ValueError).
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "h5":
        _load_hdf5(path)  # says so where the file is none of ours
        raise WeightsError(f"{path}: weights of dcfnet_np already; use the file as it is")
    return import_mat(path, architecture) if kind == "mat" else import_pth(path, architecture)


def import_mat(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Weights of a MatConvNet file: a `net` structure, or the arrays conv1_w, conv1_b, ... of
    net_param.mat.

    MatConvNet stores kernels as (height, width, in, out) and sees RGB images, 0..255, minus
    net.meta.normalization.averageImage (123, 117, 104 where the file has none).  Raises
    WeightsError."""
    path = Path(path)
    _kind(path)  # names the versions of MATLAB that are not read
    with _one_line(path, f"not a MATLAB file, or {INCOMPLETE}"):
        content = read_mat(path.read_bytes())
    with _one_line(path, "the file is whole, but no network as MatConvNet keeps it"):
        network = _read_net(content)
        training = {"imported_from": path.name, **network.training}
        return _assemble(
            network, architecture, "rgb", network.mean or MEAN_RGB, training, path.stem
        )


def import_pth(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Weights of a PyTorch state dict, in the old format or the zip format, with no torch and no
    code run.

    The tensors must come in pairs, NAME.weight (O, I, 3, 3) and NAME.bias (O,), in the order of the
    network; a checkpoint that holds them under "state_dict" will do.  The images are BGR, 0..255,
    minus 104, 117, 123.
    Raises WeightsError, also for a pickle that asks for any global but the few a state dict needs.
    """
    path = Path(path)
    _check_file(path)
    with _one_line(path, f"not a PyTorch file, or {INCOMPLETE}"):
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
                raise WeightsError(
                    f"no state dict: not every entry is a named tensor; {SAVE_AGAIN}"
                )
            layer, _, kind = key.rpartition(".")
            layers.setdefault(layer, {})[kind] = values = _tensor_values(tensor, storages)
            room -= values.size
            if room < 0:
                raise WeightsError("its tensors have more values than the file")
        for layer, tensors in layers.items():
            if set(tensors) != {"weight", "bias"}:
                raise WeightsError(
                    f"{layer!r} must have a weight and a bias, got {sorted(tensors)}"
                )
        pairs = [(tensors["weight"], tensors["bias"]) for tensors in layers.values()]
        training = {"imported_from": path.name}
        return _assemble(_Network(pairs), architecture, "bgr", MEAN_BGR, training, path.stem)


class _Network(NamedTuple):
    """What a foreign file tells of its network; None where it does not say."""

    convolutions: list[tuple[np.ndarray, np.ndarray]]  # (weight, bias)
    dilations: list[int] | None = None
    kinds: list[str] | None = None  # of all layers: "conv", "relu", "lrn"
    mean: tuple[float, ...] | None = None
    training: dict[str, Any] = {}


def _read_net(content: dict[str, Any]) -> _Network:
    """MatConvNet's network from the variables of a file; the kernels become (out, in, height,
    width).
    """
    net = content.get("net", content)  # `save -struct net` makes variables of its fields
    if isinstance(net, dict) and "layers" in net:
        network = _read_layers(net)
    elif "conv1_w" in content:
        count = sum(key.startswith("conv") and key.endswith("_w") for key in content)
        network = _Network(
            [(content[f"conv{i}_w"], content[f"conv{i}_b"]) for i in range(1, count + 1)]
        )
    else:
        raise WeightsError("no network: neither 'net' with its 'layers' nor 'conv1_w'")
    oihw = [(np.asarray(w).transpose(3, 2, 0, 1), np.ravel(b)) for w, b in network.convolutions]
    return network._replace(convolutions=oihw)


def _read_layers(net: dict[str, Any]) -> _Network:
    """A list of layers and, in `meta`, the mean image and the settings of the tracker.

    Before version 1.0-beta12 kernels were called `filters` and `biases`, LRN `normalize`, and
    `normalization` lay beside the layers: see MatConvNet's vl_simplenn_tidy.m.
    """
    layers = [
        layer | {"type": "lrn"} if layer["type"] == "normalize" else layer
        for layer in net["layers"]
    ]
    convolutions = [layer for layer in layers if layer["type"] == "conv"]
    for layer in layers:
        if layer["type"] == "lrn" and not np.allclose(layer["param"], Lrn(), rtol=1e-6, atol=0):
            raise WeightsError(
                f"LRN constants must be {tuple(Lrn())}, got {np.ravel(layer['param'])[:8].tolist()}"
            )
        if np.any(np.not_equal(layer.get("stride", 1), 1)) or np.any(layer.get("leak", 0)):
            raise WeightsError(
                f"a {layer['type']} layer has a stride or a leak, which these networks have not"
            )
    meta = _structure(net.get("meta"))
    normalization = _structure(meta.get("normalization", net.get("normalization")))
    settings = {key: value for key, value in meta.items() if isinstance(value, (int, float, str))}
    return _Network(
        convolutions=[_kernel_and_bias(layer) for layer in convolutions],
        dilations=[int(np.max(layer.get("dilate", 1))) for layer in convolutions],
        kinds=[str(layer["type"]) for layer in layers],
        mean=_mean(normalization.get("averageImage", ())),
        training={"meta": settings} if settings else {},
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
    pixels = (
        np.broadcast_to(image.ravel(), (1, 3))
        if image.size in (1, 3)
        else image.reshape(-1, image.shape[-1])
    )
    if image.size > 3 and (image.ndim != 3 or image.shape[-1] != 3):
        raise WeightsError(f"the mean image must have three channels, got shape {image.shape[:8]}")
    if np.ptp(pixels, axis=0).max() > UNEVEN:
        raise WeightsError(
            "its mean image differs from pixel to pixel, and here a mean has three numbers; if its mean will do, "
            "save it again with averageImage = mean(mean(averageImage, 1), 2)"
        )
    return tuple(pixels.mean(axis=0).tolist())


def _assemble(
    network: _Network,
    architecture: str | None,
    channel_order: str,
    mean: tuple[float, ...],
    training: dict[str, Any],
    name: str,
) -> Weights:
    """Weights of the first architecture that agrees with all the file tells; kernels are OIHW by
    now.
    """
    widths = [(w.shape[1], w.shape[0]) for w, _ in network.convolutions if w.ndim == 4]
    candidates = [architecture] if architecture else list(ARCHITECTURES)
    fitting = [
        candidate for candidate in candidates if _fits(network, widths, get_architecture(candidate))
    ]
    if not fitting:
        found = ", ".join(f"{c_in} to {c_out}" for c_in, c_out in widths) or "none"
        found += f", dilations {network.dilations}" if network.dilations else ""
        found += f", layers {network.kinds}" if network.kinds else ""
        raise WeightsError(
            f"the network is not {' or '.join(candidates)}: its convolutions are {found}"
        )
    parameters = {}
    for i, (w, b) in enumerate(network.convolutions, start=1):
        parameters[f"conv{i}.weight"] = np.ascontiguousarray(w, np.float32)
        parameters[f"conv{i}.bias"] = np.ascontiguousarray(b, np.float32)
    return Weights(fitting[0], parameters, channel_order, mean, training, name)


def _fits(network: _Network, widths: list[tuple[int, int]], specs: Architecture) -> bool:
    convolutions = [spec for spec in specs if isinstance(spec, Conv)]
    return (
        widths == [(spec.c_in, spec.c_out) for spec in convolutions]
        and network.dilations in (None, [spec.dilation for spec in convolutions])
        and network.kinds in (None, [type(spec).__name__.lower() for spec in specs])
    )


# ------------------------------------------------------------------- PyTorch files, without PyTorch


class _Storage(NamedTuple):
    """A run of numbers that tensors look into."""

    key: str
    dtype: str
    length: int  # in elements


class _Tensor(NamedTuple):
    """A strided view of a storage, all in elements, as the pickle describes it: not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


_STORAGES = {
    "torch.HalfStorage": "<f2",
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
}


class _StateDictUnpickler(pickle.Unpickler):
    """Knows the names a table of tensors needs, each mapped to something harmless of ours, and no
    other.

    A pickle is a program; what it can do is call the globals it asks for.  So `find_class` is the
    gate."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _STORAGES:
            return _STORAGES[full]
        if full == "collections.OrderedDict":
            return OrderedDict
        if full == "torch._utils._rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if full == "torch._utils._rebuild_parameter":
            return lambda tensor, *_: tensor
        raise WeightsError(
            f"forbidden global {full[:80]!r} in the pickle; nothing was run; {SAVE_AGAIN}"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Storages lie outside the pickle, which calls them ("storage", type, key, device, length,
        ...).
        """
        kind, dtype, key, _, length, *_ = pid
        known = kind == "storage" and dtype in _STORAGES.values()
        if not known or not isinstance(key, str) or not _natural(length):
            raise WeightsError("a malformed or unknown kind of storage")
        self.storages[key] = _Storage(key, dtype, length)
        return self.storages[key]


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _unpickle(data: bytes, start: int = 0) -> tuple[Any, dict[str, _Storage], int]:
    """The pickle at data[start:], the storages it refers to, and the offset behind it.

    A first walk over the opcodes, which executes none, finds the end and refuses what could exhaust
    memory or time: the unpickler's memo is an array as long as the largest index that the pickle
    stores to, and tuples of the same tuples, forty deep, would be hashed for years as the key of a
    dict."""
    stream = io.BytesIO(data)
    stream.seek(start)
    harmless: dict[int, bool] = {}  # which stored things are no tuples, by index
    before, again = "", 0
    for opcode, argument, _ in pickletools.genops(stream):
        index = 0
        if opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
            index = len(harmless) if argument is None else int(argument)
            harmless[index] = any(
                word in before for word in ("UNICODE", "GLOBAL", "EMPTY_DICT", "EMPTY_LIST")
            )
        elif opcode.name == "DUP" or (
            "GET" in opcode.name and not harmless.get(int(argument or 0))
        ):
            again += 1
        before = opcode.name
        if (
            stream.tell() - start > LARGEST_PICKLE
            or index > LARGEST_PICKLE
            or again > MOST_REPEATED
        ):
            raise WeightsError("its pickle is too large for a state dict of these networks")
    end = stream.tell()
    unpickler = _StateDictUnpickler(data[start:end])
    return unpickler.load(), unpickler.storages, end


def _read_legacy(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Old format: five pickles (magic number, protocol, system, state, storage keys), then the
    storages.

    Each storage is its length in elements (8 bytes) and its values, in the order of the keys,
    little-endian."""
    magic, _, at = _unpickle(data)
    if magic != 0x1950A86A20F9469CFC6C:
        raise WeightsError(f"not a PyTorch file; {SAVE_AGAIN}")
    protocol, _, at = _unpickle(data, at)
    system, _, at = _unpickle(data, at)
    if protocol != 1001 or system.get("little_endian") is not True:
        raise WeightsError(f"an unknown version of PyTorch's format, or big-endian; {SAVE_AGAIN}")
    state, storages, at = _unpickle(data, at)
    keys, _, at = _unpickle(data, at)
    values = {}
    for key in keys:
        if key not in storages:
            raise WeightsError(INCOMPLETE)
        storage = storages[key]
        stated = int.from_bytes(data[at : at + 8], "little")
        at += 8
        size = storage.length * np.dtype(storage.dtype).itemsize
        if stated != storage.length or at + size > len(data):
            raise WeightsError(INCOMPLETE)
        values[key] = np.frombuffer(data, storage.dtype, storage.length, at)
        at += size
    return state, values


def _read_zip(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Zip format: FOLDER/data.pkl is the state, FOLDER/data/KEY the storages, uncompressed."""
    try:
        archive = open_stored_zip(data)
    except ValueError as error:
        raise WeightsError(f"{error}, which torch.save does not write; {SAVE_AGAIN}") from None
    with archive:
        tables = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(tables) != 1:
            raise WeightsError(f"a zip archive without the data.pkl of torch.save; {SAVE_AGAIN}")
        folder = tables[0].removesuffix("data.pkl")
        if (
            f"{folder}byteorder" in archive.namelist()
            and archive.read(f"{folder}byteorder") != b"little"
        ):
            raise WeightsError(f"big-endian values are not supported; {SAVE_AGAIN}")
        state, storages, _ = _unpickle(archive.read(f"{folder}data.pkl"))
        values = {}
        for key, storage in storages.items():
            raw = archive.read(f"{folder}data/{key}")
            if len(raw) != storage.length * np.dtype(storage.dtype).itemsize:
                raise WeightsError(INCOMPLETE)
            values[key] = np.frombuffer(raw, storage.dtype)
        return state, values


def _tensor_values(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """Copy a strided view out of its storage, after making sure that it stays inside."""
    storage, offset, shape, strides = tensor
    if not isinstance(storage, _Storage) or storage.key not in storages:
        raise WeightsError("a tensor without a storage")
    numbers = (offset, *shape, *strides)
    if (
        len(shape) != len(strides)
        or len(shape) > 4
        or not all(_natural(number) for number in numbers)
    ):
        raise WeightsError("a tensor with malformed shape, strides or offset")
    values = storages[storage.key]
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= len(values) or math.prod(shape) > len(values):
        raise WeightsError(
            f"a tensor of shape {shape} reaches beyond the {len(values)} values of its storage"
        )
    bytes_per_step = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, bytes_per_step).copy()


# ------------------------------------------------------------------------------------------------
# errors


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{str(path)!r} is not a file; check the name")
    if path.stat().st_size > LARGEST_FILE:
        raise WeightsError(f"{path} is too large for weights, over {LARGEST_FILE >> 20} MiB")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: {INCOMPLETE}")


@contextlib.contextmanager
def _one_line(path: Path, otherwise: str = INCOMPLETE) -> Iterator[None]:
    """Whatever goes wrong with the file inside the block becomes a WeightsError of one line,
    `otherwise` in general.

    What a library says of it is in `__cause__`, which `--debug` shows.
    """
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # h5py, pickle and zipfile raise almost anything on a damaged file
        missing = (
            f": {error} is missing"
            if isinstance(error, KeyError) and INCOMPLETE not in otherwise
            else ""
        )
        raise WeightsError(f"{path}: {otherwise}{missing}") from error
