"""The CUDA kernels: where their sources are, how they are compiled, checked and launched.

Each family has a source and the Python functions that launch it, side by side: `conv.cu` and
`conv.py`, and so on.  A launch function checks its arrays, allocates what it returns, and calls
`launch`; nothing is compiled before a kernel is first launched on a device.  The array code of
`dcfnet_np.ops` is the specification of every kernel, and `DCFNET_KERNELS=0` runs that code on the
GPU instead.

A RawKernel converts nothing: a Python int arrives as 64 bits, a stride is ignored, an array of
another type is read as garbage.  So `require` is called on every array, and `launch` makes a C int
of every Python int and takes no other Python number.
"""

import functools
import hashlib
import importlib
import os
import pathlib
from typing import Any

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

# the .cu files lie beside this file, in a wheel as in a checkout
FOLDER = pathlib.Path(__file__).parent
OPTIONS = ("-std=c++17", f"-I{FOLDER}")
MOST_BLOCKS = 65535  # of a grid, in y and in z: CUDA's limit
# what the kernels' first template argument can be
C_TYPES = {"float32": "float", "float64": "double"}


def enabled() -> bool:
    """False when DCFNET_KERNELS=0 asks for array code (CuPy) in place of the kernels."""
    return os.environ.get("DCFNET_KERNELS", "1") != "0"


def sources() -> list[str]:
    """Names of the .cu files, sorted."""
    return sorted(path.name for path in FOLDER.glob("*.cu"))


def source(file: str) -> str:
    """Text of one .cu file, marked so that messages of the compiler carry its name and lines.

    The first line names the contents of all headers: CuPy keeps what it compiled on disk by the
    text alone (templates since 14.2), and would go on with an old kernel when only a header has
    changed.
    """
    headers = b"".join(header.read_bytes() for header in sorted(FOLDER.glob("*.cuh")))
    digest, text = hashlib.sha256(headers).hexdigest(), (FOLDER / file).read_text()
    return f'// headers {digest}\n#line 1 "{file}"\n{text}'


def expressions() -> dict[str, tuple[str, ...]]:
    """Per .cu file the name expressions that the library launches.

    One is "lrn_forward<float, 2, 8, false>".  For `dcfnet doctor --compile` and tests, which
    compile everything ahead.
    """
    found = {}
    for file in sources():
        family = importlib.import_module(f"{__name__}.{pathlib.Path(file).stem}")
        found[file] = tuple(family.EXPRESSIONS)
    return found


@functools.cache
def _kernel(cp: Any, device: int, file: str, name: str) -> Any:
    """The compiled kernel on one device.

    One module per expression, so any template argument works.
    """
    module = cp.RawModule(code=source(file), options=OPTIONS, name_expressions=(name,))
    return module.get_function(name)


def launch(file: str, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    """Run one kernel on the device of its arrays, on the current stream.

    file    the source, "conv.cu"
    name    the C++ name expression, "lrn_forward<float, 2, 8, false>"
    grid, block   up to three numbers each; an empty grid is nothing to do, and nothing is launched
    args    arrays and NumPy scalars of exactly the kernel's types; a Python int is a C int
    Raises TypeError for a Python float, ValueError when the arrays are on several devices or there
    are more blocks than a GPU takes.
    """
    cp = backend.cupy()
    devices = set()
    args = tuple(np.int32(arg) if isinstance(arg, int) else arg for arg in args)
    for number, arg in enumerate(args):
        if isinstance(arg, cp.ndarray):
            devices.add(device_of(arg))
        elif not isinstance(arg, np.generic):
            raise TypeError(
                f"launch {name}: argument {number} must be an array on the GPU or a NumPy scalar, "
                f"got {type(arg).__name__}"
            )
    if len(devices) != 1:
        raise ValueError(f"launch {name}: the arrays must be on one device, got {sorted(devices)}")
    if 0 in grid:
        return
    if grid[0] >= 1 << 31 or max(grid[1:], default=0) > MOST_BLOCKS:
        raise ValueError(
            f"launch {name}: a grid is at most (2**31 - 1, {MOST_BLOCKS}, {MOST_BLOCKS}), "
            f"got {grid}"
        )
    (device,) = devices
    with cp.cuda.Device(device):
        _kernel(cp, device, file, name)(grid, block, args)


def device_of(array: Array) -> int:
    """Index of the GPU that holds a CuPy array."""
    # of an array of the tests' stand-in, which says no device
    current = backend.cupy().cuda.Device()
    return int(getattr(array.device, "id", current.id))


def require(array: Array, name: str, dtype: Any, shape: tuple[int | None, ...]) -> None:
    """Check one array before it goes to a kernel; None in `shape` stands for any length.

    `name` says whose and which: "conv.forward: x".  Raises TypeError for another type or dtype,
    ValueError for another shape and for an array whose elements do not lie one after another.
    """
    cp = backend.cupy()
    if not isinstance(array, cp.ndarray):
        raise TypeError(f"{name} must be an array on the GPU, got {type(array).__name__}")
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}")
    fits = len(array.shape) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        wanted += "," * (len(shape) == 1)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous (use ascontiguousarray), got strides {array.strides}"
        )


def require_all(who: str, dtype: Any, shape: tuple[int | None, ...], **arrays: Array) -> None:
    """`require` for several arrays that must be alike."""
    for name, array in arrays.items():
        require(array, f"{who}: {name}", dtype, shape)


def require_real(array: Array, name: str, shape: tuple[int | None, ...]) -> str:
    """`require` for float32 or float64; returns the template argument, "float" or "double"."""
    if str(array.dtype) not in C_TYPES:
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    require(array, name, array.dtype, shape)
    return C_TYPES[str(array.dtype)]


def output(out: Array | None, name: str, dtype: Any, shape: tuple[int, ...]) -> Array:
    """`out`, checked; or a new array where it is None."""
    if out is None:
        return backend.cupy().empty(shape, dtype)
    require(out, name, dtype, shape)
    return out


def blocks(count: int, size: int) -> int:
    """How many blocks of `size` cover `count` elements: the quotient, rounded up."""
    return -(-count // size)
