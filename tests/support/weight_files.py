"""Files of weights for tests: PyTorch's written opcode by opcode, MatConvNet's by SciPy."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

from dcfnet_np import network
from dcfnet_np.weights import Weights

TRAINING = {"epochs": 20, "seed": 3, "data": ["a", "b"], "data_digest": "f00d", "lr": 1e-5}


def make(architecture="light", seed=0, **changes):
    """Weights with random values everywhere: biases too, so that none can get lost unseen."""
    rng = np.random.default_rng(seed)
    parameters = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in network.parameter_shapes(architecture).items()
    }
    fields = dict(parameters=parameters, mean=(1.5, 2.25, 1 / 3), training=TRAINING, name="test")
    return Weights(architecture, **(fields | changes))


def p_string(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def p_int(number):
    return b"\x8a\x08" + struct.pack("<q", number)  # LONG1


def p_tuple(*items):
    return b"(" + b"".join(items) + b"t"


def p_tensor(key, shape, strides, length, offset=0, storage=b"ctorch\nFloatStorage\n"):
    pid = (
        p_tuple(p_string("storage"), storage, p_string(key), p_string("cpu"), p_int(length)) + b"Q"
    )
    sizes, steps = p_tuple(*map(p_int, shape)), p_tuple(*map(p_int, strides))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + p_tuple(pid, p_int(offset), sizes, steps, b"\x89N")
        + b"R"
    )


def p_state(entries):
    """Pickle of an OrderedDict from (name, pickled tensor) pairs."""
    body = b"".join(p_string(name) + tensor for name, tensor in entries)
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + body + b"u."


def state_of(parameters):
    """(pickle, storages) of parameters under the names of a torch.nn.Sequential."""
    entries, storages = [], {}
    for i, (name, value) in enumerate(parameters.items()):
        layer, kind = name.removeprefix("conv").split(".")
        steps = [stride // value.itemsize for stride in value.strides]
        tensor = p_tensor(str(i), value.shape, steps, value.size)
        entries.append((f"feature.{2 * int(layer) - 2}.{kind}", tensor))
        storages[str(i)] = value.tobytes()
    return p_state(entries), storages


def legacy(state, storages):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}]
    parts = [pickle.dumps(item, 2) for item in head] + [state, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", len(raw) // 4) + raw for raw in storages.values()]
    return b"".join(parts)


def zipped(state, storages, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", state)
        archive.writestr("archive/byteorder", "little")
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


CONTAINERS = pytest.mark.parametrize("container", [legacy, zipped])


def write_net(
    path, parameters, dilations=(1, 1), lrn=(5, 1, 2e-5, 0.75), mean=(123.0, 117.0, 104.0)
):
    """A MatConvNet file with two convolutions, as the authors' scripts save it."""
    layers = []
    for i, dilation in enumerate(dilations, start=1):
        cell = np.empty((1, 2), object)
        cell[0, 0] = parameters[f"conv{i}.weight"].transpose(2, 3, 1, 0)
        cell[0, 1] = parameters[f"conv{i}.bias"][:, None]
        dilate = np.uint8([[dilation, dilation]])
        layers.append({"name": f"conv{i}", "type": "conv", "weights": cell, "dilate": dilate})
        layers.append({"name": f"relu{i}", "type": "relu"})
    layers[-1] = {"name": "norm1", "type": "lrn", "param": np.array([lrn], float)}
    cells = np.empty((1, len(layers)), object)
    cells[0] = layers
    normalization = {"averageImage": np.float32(mean).reshape(1, 1, 3)}
    meta = {"normalization": normalization, "interp_factor": 0.011, "arch": "DCFNet"}
    scipy.io.savemat(path, {"net": {"layers": cells, "meta": meta}})


def cells(*items):
    made = np.empty((1, len(items)), object)
    made[0] = [*items, None][:-1]
    return made


def old_net(parameters, **more):
    """A network as MatConvNet had it before 1.0-beta12."""
    w = [parameters[f"conv{i}.weight"].transpose(2, 3, 1, 0) for i in (1, 2)]
    b = [parameters[f"conv{i}.bias"][None] for i in (1, 2)]
    layers = [{"type": "conv", "filters": w[0], "biases": b[0], "stride": 1}, {"type": "relu"}]
    layers += [
        {"type": "conv", "filters": w[1], "biases": b[1]},
        {"type": "normalize", "param": [5, 1, 2e-5, 0.75]},
    ]
    return {"layers": cells(*layers), **more}


def matrix(kind, shape, *parts, flags=0):
    """An array of a .mat file from its parts, each (type, bytes)."""
    head = [
        (6, struct.pack("<II", kind | flags, 0)),
        (5, struct.pack(f"<{len(shape)}i", *shape)),
        (1, b"net"),
    ]
    body = b"".join(
        struct.pack("<II", t, len(data)) + data + bytes(-len(data) % 8)
        for t, data in [*head, *parts]
    )
    return struct.pack("<II", 14, len(body)) + body


def compressed(data):
    packed = zlib.compress(data)
    return struct.pack("<II", 15, len(packed)) + packed
