"""Local response normalisation across channels, forward and backward.

    s_c = k + alpha * sum of x_q^2 over the n channels q nearest to c        (|q - c| <= n // 2)
    y_c = x_c * s_c^-beta

`alpha` multiplies the plain sum, as in MatConvNet; PyTorch divides its alpha by n first, so its
1e-4 with n = 5 is 2e-5 here.  The paper puts this layer at the end of the network "to restrict the
magnitude of feature map values".
"""

from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..backend import Array, array_module
from ..kernels import lrn as lrn_kernels


class LrnCache(NamedTuple):
    x: Array  # (N, C, H, W)
    y: Array  # (N, C, H, W)
    s: Array | None  # (N, C, H, W); the GPU kernel computes it again instead
    n: int
    k: float
    alpha: float
    beta: float


def banded_matrix(channels: int, n: int, dtype: Any, xp: Any = np) -> Array:
    """B[c, q] = 1 where |q - c| <= n // 2, else 0; (channels, channels).

    B @ x sums the n channels around each one.
    """
    index = xp.arange(channels)
    return (abs(index[:, None] - index[None, :]) <= n // 2).astype(dtype)


def channel_sum(x: Array, n: int) -> Array:
    """Sum over the n channels around each one, fewer at the ends.  x, result: (N, C, ...).

    A product with `banded_matrix`: one BLAS call.  That matrix is symmetric, so the same function
    is its own adjoint: the backward pass uses it too.
    """
    xp = array_module(x)
    flat = xp.ascontiguousarray(x).reshape(x.shape[0], x.shape[1], int(np.prod(x.shape[2:])))
    return (banded_matrix(x.shape[1], n, x.dtype, xp) @ flat).reshape(x.shape)


def power(s: Array, beta: float) -> Array:
    """s**-beta.

    For the usual beta = 3/4 two square roots and a division, several times as fast as a power.
    """
    xp = array_module(s)
    if beta == 0.75:
        root = xp.sqrt(s)
        root *= xp.sqrt(root)
        return xp.reciprocal(root, out=root)
    return s**-beta


def lrn_forward(
    x: Array, *, n: int = 5, k: float = 1.0, alpha: float = 2e-5, beta: float = 0.75
) -> tuple[Array, LrnCache]:
    """y = x * s**-beta, s = k + alpha * (sum of x**2 over n channels).

    x, y: (N, C, H, W), float.  Raises ValueError when x is not four-dimensional or n is even (the
    window would have no centre).
    """
    if x.ndim != 4:
        raise ValueError(f"lrn_forward: x must be (N, C, H, W), got shape {x.shape}")
    if n < 1 or n % 2 == 0:
        raise ValueError(f"lrn_forward: n must be odd and positive, got {n}")
    xp = array_module(x)
    if xp is not np and kernels.enabled():
        constants = lrn_kernels.Constants(n=n, k=k, alpha=alpha, beta=beta)
        y = lrn_kernels.forward(xp.ascontiguousarray(x), constants=constants)
        return y, LrnCache(x, y, None, n, k, alpha, beta)
    s = channel_sum(x * x, n)
    s *= alpha
    s += k
    y = x * power(s, beta)
    return y, LrnCache(x, y, s, n, k, alpha, beta)


def lrn_backward(dy: Array, cache: LrnCache) -> Array:
    """Gradient of `lrn_forward`.

    x_c enters its own y_c, and through s_q the y_q of every channel q within the window, ds_q/dx_c
    = 2 alpha x_c:

        dx_c = dy_c * s_c^-beta
               - 2 alpha beta x_c * sum over |q - c| <= n // 2 of  dy_q * y_q / s_q

    dy, dx: (N, C, H, W).
    """
    x, y, s, n, k, alpha, beta = cache
    xp = array_module(dy, x)
    if dy.shape != x.shape:
        raise ValueError(f"lrn_backward: dy must have the shape of x, {x.shape}, got {dy.shape}")
    if s is None:
        dy, x = xp.ascontiguousarray(dy), xp.ascontiguousarray(x)
        constants = lrn_kernels.Constants(n=n, k=k, alpha=alpha, beta=beta)
        return lrn_kernels.backward(dy, x, constants=constants)
    through_s = channel_sum(dy * y / s, n)
    through_s *= x
    through_s *= 2 * alpha * beta
    dx = dy * power(s, beta)
    dx -= through_s
    return dx
