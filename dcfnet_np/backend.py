"""NumPy or CuPy: the only module that imports cupy.

The mathematics in `ops` is written once, against "the array module of its arguments"::

    xp = array_module(x, w)
    y = xp.empty(...)

A NumPy array next to a CuPy one is an error, never a silent copy.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
from types import ModuleType
from typing import Any

import numpy as np

from .support.errors import DeviceError

# Turing: the oldest that the kernels are compiled for, see kernels.compile
MINIMUM_CAPABILITY = (7, 5)
NEEDED_MEMORY = 256  # MiB: what a tracker of one target takes, and some
Array = Any  # numpy.ndarray or cupy.ndarray: the two share one interface, not a base class
MIXED = "NumPy and CuPy arrays are mixed: move them to one device first (backend.to_device)"


@dataclasses.dataclass(frozen=True)
class Device:
    """Where arrays live: kind "cpu" or "cuda", index of the GPU, and why the choice fell so."""

    kind: str
    index: int = 0
    note: str = ""

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


# --- CuPy and the GPUs that there are


@functools.cache
def _load_cupy() -> tuple[ModuleType | None, int, str]:
    """Import CuPy and count GPUs: (module, how many, "") or (None, 0, why there is none)."""
    try:
        # DCFNET_CUPY names a module in its place: the tests' stand-in, which runs kernels on a CPU
        cp = importlib.import_module(os.environ.get("DCFNET_CUPY", "cupy"))
    except ImportError as error:
        return None, 0, f"CuPy is not installed ({error}); install the extra gpu12 or gpu13"
    except Exception as error:  # a broken installation raises all sorts of things while it loads
        return None, 0, f"CuPy is installed but does not load ({_one_line(error)})"
    try:
        count = int(cp.cuda.runtime.getDeviceCount())
    except Exception as error:
        return None, 0, f"CuPy is installed but no GPU can be used: {_driver_reason(cp, error)}"
    return (cp, count, "") if count else (None, 0, "CuPy is installed but the driver finds no GPU")


def _driver_reason(cp: ModuleType, error: Exception) -> str:
    """Why GPUs cannot even be counted."""
    if "NoDevice" in str(error):
        return "the driver finds none"
    if "InsufficientDriver" not in str(error):
        return _one_line(error)
    versions = cp.cuda.runtime.driverGetVersion(), cp.cuda.runtime.runtimeGetVersion()
    if versions[0] == 0:
        return "there is no NVIDIA driver"
    driver, needed = (f"{number // 1000}.{number % 1000 // 10}" for number in versions)
    return (
        f"the NVIDIA driver is too old, it is made for CUDA {driver} and this CuPy for {needed}; "
        "update the driver, or install the extra of the older CUDA"
    )


@functools.cache
def _device_reason(index: int) -> str:
    """Why a GPU that there is cannot be used; "" when it can.  It runs one small kernel there."""
    cp, name = cupy(), f"cuda:{index}"
    try:
        with cp.cuda.Device(index) as device:
            major, minor = int(device.compute_capability[:-1]), int(device.compute_capability[-1])
            if (major, minor) < MINIMUM_CAPABILITY:
                found, needed = f"{major}.{minor}", ".".join(map(str, MINIMUM_CAPABILITY))
                return (
                    f"{name} is too old, its compute capability is {found}, "
                    f"the kernels need {needed}"
                )
            free, total = (size // 2**20 for size in cp.cuda.runtime.memGetInfo())
            if free < NEEDED_MEMORY:
                return (
                    f"{name} has {free} of its {total} MiB of memory free, "
                    f"{NEEDED_MEMORY} MiB are needed"
                )
            # One elementwise kernel needs the driver, NVRTC and some memory: all we need later.
            if int((cp.arange(3, dtype=cp.float32) * 2).sum()) != 6:
                return f"{name} computes a wrong sum"
    except Exception as error:  # driver, NVRTC and memory errors have no common base class
        text, why = f"{type(error).__name__} {error}".lower(), _one_line(error)
        if "nvrtc" in text:
            return (
                f"NVRTC, which compiles kernels, is missing or broken ({why}); "
                "install the CUDA toolkit"
            )
        if "outofmemory" in text or "memoryallocation" in text:
            return f"{name} has no memory free ({why})"
        return f"{name} does not work ({why})"
    return ""


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def count_devices() -> int:
    """How many GPUs there are, usable or not."""
    return _load_cupy()[1]


def usable_devices() -> dict[int, str]:
    """For every GPU that there is, why it cannot be used, or "" when it can."""
    return {index: _device_reason(index) for index in range(count_devices())}


def select_device(name: str = "auto") -> Device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a Device.

    "auto" takes the first GPU that works and otherwise the CPU, with the reason in `.note`.
    Raises ValueError for another name, DeviceError when a GPU was asked for that cannot be used.
    """
    wanted = f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}"
    if not isinstance(name, str):
        raise TypeError(wanted)
    if name == "cpu":
        return Device("cpu")
    _, count, reason = _load_cupy()
    if name == "auto":
        reasons = [reason] if reason else []
        for index in range(count):  # no further than needed: a probe takes memory on its GPU
            reasons.append(_device_reason(index))
            if not reasons[-1]:
                return Device("cuda", index)
        return Device("cpu", note="; ".join(reasons))
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdigit() or name == "cuda"):
        raise ValueError(wanted)
    index = int(number or 0)
    if count and index >= count:
        there = "the only GPU is cuda:0"
        if count > 1:
            there = f"the GPUs are cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"device {name!r} was asked for, but {there}")
    reason = reason or _device_reason(index)
    if reason:
        raise DeviceError(f"device {name!r} was asked for, but {reason}; use --device cpu")
    return Device("cuda", index)


def cupy() -> ModuleType:
    """The CuPy module of a machine with a GPU.

    Raises DeviceError with the reason where there is none.
    """
    module, _, reason = _load_cupy()
    if module is None:
        raise DeviceError(reason)
    return module


# --- arrays


def is_numpy(array: Array) -> bool:
    """True for numpy.ndarray, false for cupy.ndarray; TypeError for anything else."""
    if isinstance(array, np.ndarray):
        return True
    if type(array).__module__.split(".")[0] == "cupy":
        return False
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")


def array_module(*arrays: Array) -> Any:
    """numpy or cupy, whichever made all of `arrays` (None is skipped).

    TypeError when they are mixed.
    """
    kinds = {is_numpy(array) for array in arrays if array is not None}
    if len(kinds) > 1:
        raise TypeError(MIXED)
    return cupy() if kinds == {False} else np


def to_numpy(array: Array) -> np.ndarray:
    """Copy a CuPy array to the host; a NumPy array comes back as it is."""
    return array if is_numpy(array) else array.get()


def to_device(array: Array, device: Device) -> Array:
    """Copy an array to `device`; it comes back as it is when it is there already."""
    if device.kind == "cpu":
        return to_numpy(array)
    cp = cupy()
    with cp.cuda.Device(device.index):
        return cp.asarray(array)


def pinned_array(cp: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A host array in page-locked memory, which a GPU copies without the CPU's help.  cp: CuPy."""
    count = int(np.prod(shape))
    memory = cp.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def current(device: Device) -> contextlib.AbstractContextManager[Any]:
    """For `with`: new arrays and kernels go to this device.  On the CPU nothing changes."""
    return contextlib.nullcontext() if device.kind == "cpu" else cupy().cuda.Device(device.index)
