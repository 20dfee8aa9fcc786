"""Launches `lrn.cu`: local response normalisation, optionally times a window, on CuPy arrays.

Reference: `dcfnet_np.ops.lrn`.  Arrays are (N, C, H, W), float32 or float64, C-contiguous.
"""

from typing import Any, NamedTuple

from dcfnet_np.backend import Array

from . import blocks, launch, output, require, require_real

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
) -> Array:
    """y = x * (k + alpha * (sum of x**2 over n channels))**-beta, times `window` if given.

    x, y: (N, C, H, W); window: (H, W).
    """
    return _launch("lrn_forward", (x,), constants, window, out)


def backward(
    dy: Array,
    x: Array,
    constants: Constants = DEFAULT,
    *,
    window: Array | None = None,
    out: Array | None = None,
) -> Array:
    """dx of `forward` from dy and x, both (N, C, H, W)."""
    require(dy, "lrn_backward: dy", x.dtype, x.shape)
    return _launch("lrn_backward", (x, dy), constants, window, out)


def _launch(
    kernel: str,
    arrays: tuple[Array, ...],
    constants: Constants,
    window: Array | None,
    out: Array | None,
) -> Array:
    x = arrays[0]
    ctype = require_real(x, f"{kernel}: x", (None, None, None, None))
    n, *factors = constants
    if n < 1 or n % 2 == 0:
        raise ValueError(f"{kernel}: n must be odd and positive, got {n}")
    images, channels, height, width = x.shape
    if window is not None:
        require(window, f"{kernel}: window", x.dtype, (height, width))
    out = output(out, f"{kernel}: out", x.dtype, x.shape)
    grid = (blocks(height * width, THREADS), blocks(channels, CHUNK), images)
    launch(
        "lrn.cu", _name(kernel, ctype, n // 2, window is not None), grid, (THREADS,), *arrays,
        x if window is None else window, out, channels, height * width,
        *map(x.dtype.type, factors),
    )  # fmt: skip
    return out


def _name(kernel: str, ctype: str, radius: int, window: bool) -> str:
    return f"{kernel}<{ctype}, {radius}, {CHUNK}, {str(window).lower()}>"


EXPRESSIONS: tuple[Any, ...] = tuple(
    _name(kernel, ctype, 2, window)
    for kernel in ("lrn_forward", "lrn_backward")
    for ctype in ("float", "double")
    for window in (False, True)
)
