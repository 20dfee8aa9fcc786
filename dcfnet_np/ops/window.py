"""Features times a window, as in tracking, and the gradients by both."""

from typing import NamedTuple

from ..backend import Array


class WindowCache(NamedTuple):
    features: Array  # (N, D, H, W)
    window: Array  # (H, W)


def window_forward(features: Array, window: Array) -> tuple[Array, WindowCache]:
    """x' = m x, pixel by pixel.  features: (N, D, H, W); window: (H, W)."""
    return features * window, WindowCache(features, window)


def window_backward(dy: Array, cache: WindowCache) -> tuple[Array, Array]:
    """dL/dx = m dL/dx', and dL/dm = the sum over images and channels of dL/dx' x."""
    return dy * cache.window, (dy * cache.features).sum((0, 1))
