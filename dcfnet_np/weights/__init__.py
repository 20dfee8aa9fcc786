"""Weights: HDF5 files in and out, and importers for released MatConvNet and PyTorch files.

Nothing read here can run code: HDF5 and .mat hold data only, and the pickle inside a .pth file
passes through an unpickler that knows the few names a table of tensors needs and refuses all
others.
"""

import os
from pathlib import Path
from typing import Any

from .container import (
    FOREIGN,
    INCOMPLETE,
    MEAN_BGR,
    MEAN_RGB,
    Weights,
    WeightsError,
    parameter_digest,
)
from .hdf5 import load_hdf5, save_weights
from .mat import START, import_mat
from .pth import import_pth

__all__ = [
    "LARGEST_FILE", "MEAN_BGR", "MEAN_RGB", "Weights", "WeightsError", "import_weights",
    "load_weights", "packaged_weights", "parameter_digest", "save_weights",
]  # fmt: skip

LARGEST_FILE = 16 << 20  # bytes; the files in question have 40 to 500 KB
HDF5 = b"\x89HDF\r\n\x1a\n"
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")  # gzip, bzip2, xz, 7-Zip
IMPORTERS = {"mat": import_mat, "pth": import_pth}


def packaged_weights() -> list[str]:
    """Names of the packaged weights, as `load_weights` takes them."""
    folder = _packaged()
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".h5") for name in names if name.endswith(".h5"))


def _packaged() -> Any:
    import importlib.resources  # here: it costs more start-up time than the rest of this module

    return importlib.resources.files("dcfnet_np") / "data"


def load_weights(name_or_path: str | os.PathLike[str]) -> Weights:
    """Packaged weights by name ("light"), or those of a file.

    Its first bytes tell whether it is ours (HDF5), MatConvNet's or PyTorch's.  Raises WeightsError
    (a ValueError) for a file that is missing, of another kind, truncated, of a newer format or an
    unknown architecture, with wrong shapes, dtypes or values, or changed since it was saved.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        got = type(name_or_path).__name__
        raise TypeError(f"weights must be a packaged name, a path or a Weights, got {got}")
    path = Path(name_or_path)
    if str(name_or_path) in packaged_weights():
        path = Path(str(_packaged() / f"{name_or_path}.h5"))
    if not path.exists():
        known = ", ".join(packaged_weights()) or "none installed"
        raise WeightsError(f"{str(path)!r} is neither a file nor a packaged name ({known})")
    kind = _kind_of_file(path)
    return load_hdf5(path) if kind == "h5" else IMPORTERS[kind](path, None)


def import_weights(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Weights of a released file, MatConvNet's or PyTorch's.

    architecture: name to use instead of the first one that fits (a PyTorch file does not say
    whether a convolution is dilated).  Raises WeightsError (a ValueError).
    """
    path = Path(path)
    kind = _kind_of_file(path)
    if kind == "h5":
        load_hdf5(path)  # says so where the file is none of ours
        raise WeightsError(f"{path}: weights of dcfnet_np already; use the file as it is")
    return IMPORTERS[kind](path, architecture)


def _kind_of_file(path: Path) -> str:
    """Tells "h5", "mat" or "pth" by the first bytes of a file.  Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{str(path)!r} is not a file; check the name")
    if path.stat().st_size > LARGEST_FILE:
        raise WeightsError(f"{path} is too large for weights, over {LARGEST_FILE >> 20} MiB")
    with path.open("rb") as stream:
        start = stream.read(1024)
    # older versions have no checksums, see support/archives.py
    if start.startswith(HDF5) and start[8:9] not in (b"\0", b"\1"):
        return "h5"
    if start[124:128] == START:
        return "mat"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "pth"
    what = FOREIGN if start else INCOMPLETE
    if start[512:].startswith(HDF5):
        what = "a MATLAB file of version 7.3; save it in MATLAB with save(FILE, 'net', '-v7')"
    elif start[257:262] == b"ustar" or start.startswith(PACKED):
        what = "an archive; take the file of weights out and name that"
    raise WeightsError(f"{path}: {what}")
