"""ReLU, forward and backward."""

from typing import NamedTuple

from ..backend import Array, array_module


class ReluCache(NamedTuple):
    positive: Array  # bool, shape of x


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """y = max(x, 0).  x, y: any shape and real dtype."""
    xp = array_module(x)
    return xp.maximum(x, 0), ReluCache(x > 0)


def relu_backward(dy: Array, cache: ReluCache) -> Array:
    """dx = dy where x > 0, else 0 (the derivative at 0 is taken as 0).  dy, dx: shape of x."""
    array_module(dy, cache.positive)
    if dy.shape != cache.positive.shape:
        raise ValueError(
            f"relu_backward: dy must have the shape of x, {cache.positive.shape}, got {dy.shape}"
        )
    return dy * cache.positive
