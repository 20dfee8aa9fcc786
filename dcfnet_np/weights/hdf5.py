"""Weights in HDF5, the format of dcfnet_np.

A file holds one group per convolution with the datasets `weight` (O, I, 3, 3) and `bias` (O,),
float32, and these attributes at its root:

    format, format_version   "dcfnet_np weights", 1
    architecture             a name of network.ARCHITECTURES
    channel_order, mean      the network sees an image, "bgr" or "rgb", 0..255, minus the mean
    lrn_n, _k, _alpha, _beta constants of the final LRN; they must be the architecture's
    training                 how the weights came about, as JSON
    data_digest              of the training data, where training["data_digest"] gives one, else ""
    parameter_digest         SHA-256 of the parameters; `load_hdf5` computes it again
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..network import ARCHITECTURES, Lrn, get_architecture, parameter_shapes
from ..support.archives import open_hdf5, stored_attributes, stored_dataset
from ..support.files import replacing
from .container import FOREIGN, INCOMPLETE, Weights, WeightsError, parameter_digest, weights_errors

FORMAT = "dcfnet_np weights"
FORMAT_VERSION = 1
LRN = [f"lrn_{constant}" for constant in Lrn._fields]
NEEDED = ["architecture", "channel_order", "mean", "training", "parameter_digest", *LRN]


def save_weights(path: str | os.PathLike[str], weights: Weights) -> None:
    """Write an HDF5 file.  It appears complete or not at all.

    The same weights give the same bytes (no time stamps).  Raises WeightsError when the folder is
    missing, files.WriteError (an OSError) when the disk is full.
    """
    import h5py

    path = Path(path)
    if not path.parent.is_dir():
        raise WeightsError(f"folder {str(path.parent)!r} does not exist; create it first")
    # This version of the format puts a checksum on all metadata; the older default has none, and
    # the HDF5 library may crash on a damaged file.  Texts have fixed length: others lie in a heap
    # without one.  The file is made in memory, since the library also crashes on a full disk.
    version = ("v108", "v108")
    with h5py.File(path.name, "w", driver="core", backing_store=False, libver=version) as file:
        for name, value in _attributes(weights).items():
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        for name, parameter in weights.parameters.items():
            layer, kind = name.split(".")
            # a group that h5py makes by the way has the time in it
            file.require_group(layer)[kind] = parameter
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as part:
        part.write_bytes(image)


def _attributes(weights: Weights) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": weights.architecture,
        "channel_order": weights.channel_order,
        "mean": np.array(weights.mean, np.float64),
        **dict(zip(LRN, _lrn(weights.architecture))),
        "training": json.dumps(weights.training, sort_keys=True),
        "data_digest": str(weights.training.get("data_digest", "")),
        "parameter_digest": parameter_digest(weights.parameters),
    }


def _lrn(architecture: str) -> Lrn:
    """The only LRN of an architecture, its last layer."""
    last = get_architecture(architecture)[-1]
    assert isinstance(last, Lrn)
    return last


def load_hdf5(path: Path) -> Weights:
    """Weights of a file that `save_weights` wrote.  Raises WeightsError."""
    with weights_errors(path), open_hdf5(path) as file:
        found = _checked_attributes(file)
        parameters = {}
        for name, shape in parameter_shapes(found["architecture"]).items():
            try:
                dataset = stored_dataset(file, name.replace(".", "/"))
            except (KeyError, ValueError) as error:
                raise WeightsError(f"{error.args[0]}; {INCOMPLETE}") from None
            # Look before reading: a forged shape must not make us allocate.
            if dataset.shape != shape or dataset.dtype != np.float32:
                got = f"{dataset.dtype} {dataset.shape}"
                raise WeightsError(f"{name} must be float32 {shape}, got {got}")
            parameters[name] = dataset[()]
        mean = tuple(float(value) for value in found["mean"])
        training = json.loads(found["training"])
        order = str(found["channel_order"])
        weights = Weights(found["architecture"], parameters, order, mean, training, path.stem)
        if parameter_digest(parameters) != found["parameter_digest"]:
            advice = "copy or download the file again"
            raise WeightsError(f"the values are not those that were saved: {advice}")
        return weights


def _checked_attributes(file: Any) -> dict[str, Any]:
    """The attributes of a file of ours, of a format and an architecture that are known."""
    found = stored_attributes(file, ["format", "format_version", *NEEDED])
    if found.get("format") != FORMAT or "format_version" not in found:
        raise WeightsError(FOREIGN)
    if (version := int(found["format_version"])) > FORMAT_VERSION:
        newer = f"format version {version} is newer than {FORMAT_VERSION}"
        raise WeightsError(f"{newer}: update dcfnet_np")
    if missing := [name for name in NEEDED if name not in found]:
        raise WeightsError(f"it does not say its {missing[0].replace('_', ' ')}; {INCOMPLETE}")
    name = found["architecture"] = str(found["architecture"])
    if name not in ARCHITECTURES:
        raise WeightsError(f"unknown architecture {name!r}, known: {', '.join(ARCHITECTURES)}")
    lrn, wanted = tuple(float(found[key]) for key in LRN), tuple(_lrn(name))
    if not np.allclose(lrn, wanted, rtol=1e-12, atol=0):
        raise WeightsError(f"LRN constants must be {wanted} for {name!r}, got {lrn}")
    return found
