"""The two windows of a correlation filter: the Gaussian label and the Hann (cosine) window."""

from typing import Any

import numpy as np


def gaussian_label(shape: tuple[int, int], sigma: float, dtype: Any = np.float32) -> np.ndarray:
    """The desired response y: exp(-d^2 / (2 sigma^2)), d the distance from the peak at (0, 0).

    Distances wrap around: index i of N stands for i up to N//2 and for i - N after it, so the label
    is what a Gaussian "peaked at the centre" becomes when its centre is rolled to the origin.
    shape: (H, W); sigma in pixels of the feature map.  Returns (H, W).  Source: the paper's Sec.
    3.1, the released codes' `gaussian_shaped_labels`.
    """
    if not sigma > 0:
        raise ValueError(f"gaussian_label: sigma must be positive, got {sigma}")
    row = wrapped_index(shape[0])[:, None]
    column = wrapped_index(shape[1])[None, :]
    return np.exp(-(row**2 + column**2) / (2 * sigma**2)).astype(dtype)


def sigma_gradient(dlabel: np.ndarray, sigma: float) -> float:
    """dL/dsigma = sum over pixels of dL/dy y d^2 / sigma^3, through `gaussian_label`.

    dlabel: (H, W).
    """
    rows, columns = (wrapped_index(n) for n in dlabel.shape)
    distances = rows[:, None] ** 2 + columns**2
    label = gaussian_label(dlabel.shape, sigma, np.float64)
    return float((dlabel * label * distances).sum() / sigma**3)


def wrapped_index(n: int) -> np.ndarray:
    """Signed distance from index 0 on a circle of n: 0, 1, ..., n//2, then up to -1."""
    index = np.arange(n, dtype=np.float64)
    return np.where(index > n // 2, index - n, index)


def hann(shape: tuple[int, int], dtype: Any = np.float32) -> np.ndarray:
    """The symmetric Hann window, an outer product: zero at the edges, one at the centre."""
    return np.outer(np.hanning(shape[0]), np.hanning(shape[1])).astype(dtype)


def hann_power(shape: tuple[int, int], power: float, dtype: Any = np.float32) -> np.ndarray:
    """The Hann window to a power: narrower for more than 1, wider for less; 0 is no window at all.

    shape: (H, W).  Returns (H, W).
    """
    return (hann(shape, np.float64) ** power).astype(dtype)


def power_gradient(dwindow: np.ndarray, power: float) -> float:
    """dL/dp = sum over pixels of dL/dm m log(h), through m = h^p of `hann_power`, p > 0.

    dwindow: (H, W).
    """
    window = hann_power(dwindow.shape, power, np.float64)
    return float((dwindow * window * log_hann(dwindow.shape)).sum())


def log_hann(shape: tuple[int, int]) -> np.ndarray:
    """log(h) of the Hann window (H, W); 0 where h is 0, since h^p stays 0 there."""
    window = hann(shape, np.float64)
    return np.log(window, where=window > 0, out=np.zeros_like(window))
