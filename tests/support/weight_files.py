"""Files of weights and crops for tests: PyTorch's opcode by opcode, MatConvNet's by SciPy."""

import io
import pickle
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

from dcfnet_np import network
from dcfnet_np.train.crops import CropWriter
from dcfnet_np.weights import Weights, WeightsError, load_weights

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


def assert_same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype == np.float32
        assert a[name].tobytes() == b[name].tobytes(), name


def refused(path, message, content=None, read=load_weights):
    """Reading ends in one WeightsError of reasonable length that says `message` and names the file.

    Nothing of the inside: names of our functions, what HDF5 or pickle say.
    """
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read(path)
    text = str(error.value)
    assert "\n" not in text and len(text) < 500 and str(path) in text
    inside = r"\b(load|save|import_\w+|check_\w+): |storage '|synchronously|pickle data|unpack"
    assert not re.search(inside, text)
    return text


def small_crops(path, counts=(3, 2), side=16, margin=0):
    """A crops.h5 of noise: sequences a, b, ... of so many crops each; of several the last is kept
    for validation.
    """
    rng, names = np.random.default_rng(5), list("abc"[: len(counts)])
    with CropWriter(path, {}, side + 2 * margin, [(name, "source") for name in names]) as writer:
        for count in counts:
            writer.add(rng.integers(0, 256, (count, 3, *[side + 2 * margin] * 2), np.uint8))
            writer.end_sequence(np.arange(count, dtype=np.int32), np.ones((count, 4)), {})
        facts = {"padding": 2.0, "size": side, "margin": margin, "skipped": "{}"}
        writer.finish(names, np.arange(len(names)) >= max(1, len(names) - 1), facts)


# --- PyTorch


def p_string(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def p_int(number):
    return b"\x8a\x08" + struct.pack("<q", number)  # LONG1


def p_tuple(*items):
    return b"(" + b"".join(items) + b"t"


def p_tensor(key, shape, strides, length, offset=0, storage=b"ctorch\nFloatStorage\n"):
    words = p_string("storage"), storage, p_string(key), p_string("cpu"), p_int(length)
    sizes, steps = p_tuple(*map(p_int, shape)), p_tuple(*map(p_int, strides))
    fields = p_tuple(p_tuple(*words) + b"Q", p_int(offset), sizes, steps, b"\x89N")
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + fields + b"R"


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


# --- MatConvNet


def cells(*items):
    made = np.empty((1, len(items)), object)
    made[0] = [*items, None][:-1]
    return made


def write_net(
    path, parameters, dilations=(1, 1), lrn=(5, 1, 2e-5, 0.75), mean=(123.0, 117.0, 104.0)
):
    """A MatConvNet file with two convolutions, as the authors' scripts save it."""
    layers = []
    for i, dilation in enumerate(dilations, start=1):
        w, b = parameters[f"conv{i}.weight"], parameters[f"conv{i}.bias"]
        weights = cells(w.transpose(2, 3, 1, 0), b[:, None])
        dilate = np.uint8([[dilation, dilation]])
        layers.append({"name": f"conv{i}", "type": "conv", "weights": weights, "dilate": dilate})
        layers.append({"name": f"relu{i}", "type": "relu"})
    layers[-1] = {"name": "norm1", "type": "lrn", "param": np.array([lrn], float)}
    normalization = {"averageImage": np.float32(mean).reshape(1, 1, 3)}
    meta = {"normalization": normalization, "interp_factor": 0.011, "arch": "DCFNet"}
    scipy.io.savemat(path, {"net": {"layers": cells(*layers), "meta": meta}})


def old_net(parameters, **more):
    """A network as MatConvNet had it before 1.0-beta12."""
    w = [parameters[f"conv{i}.weight"].transpose(2, 3, 1, 0) for i in (1, 2)]
    b = [parameters[f"conv{i}.bias"][None] for i in (1, 2)]
    layers = [{"type": "conv", "filters": w[0], "biases": b[0], "stride": 1}, {"type": "relu"}]
    layers += [{"type": "conv", "filters": w[1], "biases": b[1]}]
    layers += [{"type": "normalize", "param": [5, 1, 2e-5, 0.75]}]
    return {"layers": cells(*layers), **more}


def element(kind, data):
    """A data element of a .mat file."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, *parts, flags=0):
    """An array of a .mat file from its parts, each (type, bytes)."""
    head = [(6, struct.pack("<II", kind | flags, 0))]
    head += [(5, struct.pack(f"<{len(shape)}i", *shape)), (1, b"net")]
    return element(14, b"".join(element(*part) for part in [*head, *parts]))


def compressed(data):
    packed = zlib.compress(data)
    return struct.pack("<II", 15, len(packed)) + packed
