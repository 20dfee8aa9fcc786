"""Launches `lrn.cu`: local response normalisation, optionally times a window, on CuPy arrays.

Reference: `dcfnet_np.ops.lrn`.  Arrays are (N, C, H, W), float32 or float64, C-contiguous.
"""

from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import blocks, c_type, launch, require

FILE = "lrn.cu"
THREADS = 128
CHUNK = 8  # channels that a thread walks


class Constants(NamedTuple):
    """What a normalisation is: see `forward`."""

    n: int = 5
    k: float = 1.0
    alpha: float = 2e-5
    beta: float = 0.75


DEFAULT = Constants()


def forward(
    x: Array,
    constants: Constants = DEFAULT,
    *,
    window: Array | None = None,
    out: Array | None = None,
    chunk: int = CHUNK,
) -> Array:
    """y = x * (k + alpha * (sum of x**2 over n channels))**-beta, times `window` if given.

    x, y: (N, C, H, W); window: (H, W).
    """
    return _launch("lrn_forward", (x,), constants, window, out, chunk)


def backward(
    dy: Array,
    x: Array,
    constants: Constants = DEFAULT,
    *,
    window: Array | None = None,
    out: Array | None = None,
    chunk: int = CHUNK,
) -> Array:
    """dx of `forward` from dy and x, both (N, C, H, W)."""
    return _launch("lrn_backward", (x, dy), constants, window, out, chunk)


def _launch(
    kernel: str,
    arrays: tuple[Array, ...],
    constants: Constants,
    window: Array | None,
    out: Array | None,
    chunk: int,
) -> Array:
    x = arrays[0]
    dtype = c_type(x, f"{kernel}: x")
    require(x, f"{kernel}: x", x.dtype, (None, None, None, None))
    for array, name in zip(arrays[1:], ("dy",), strict=False):
        require(array, f"{kernel}: {name}", x.dtype, x.shape)
    n, *factors = constants
    if n < 1 or n % 2 == 0:
        raise ValueError(f"{kernel}: n must be odd and positive, got {n}")
    images, channels, height, width = x.shape
    if window is not None:
        require(window, f"{kernel}: window", x.dtype, (height, width))
    if out is None:
        out = backend.cupy().empty(x.shape, x.dtype)
    require(out, f"{kernel}: out", x.dtype, x.shape)
    grid = (blocks(height * width, THREADS), blocks(channels, chunk), images)
    launch(
        FILE, _name(kernel, dtype, n // 2, chunk, window is not None), grid, (THREADS,),
        *arrays, x if window is None else window, out,
        np.int32(channels), np.int32(height * width), *map(x.dtype.type, factors),
    )  # fmt: skip
    return out


def _name(kernel: str, dtype: str, radius: int, chunk: int, window: bool) -> str:
    return f"{kernel}<{dtype}, {radius}, {chunk}, {str(window).lower()}>"


EXPRESSIONS: tuple[Any, ...] = tuple(
    _name(kernel, dtype, 2, CHUNK, window)
    for kernel in ("lrn_forward", "lrn_backward")
    for dtype in ("float", "double")
    for window in (False, True)
)
