"""The Fourier transform of an array's own module: SciPy's on the CPU, cuFFT on a GPU, once it is
trusted.
"""

import functools
import importlib
from typing import Any

import numpy as np

from ..backend import Array, to_numpy
from .errors import DeviceError
from .machine import usable_cores


def rfft2(x: Array, xp: Any) -> Array:
    """x: (..., H, W) real, of the module `xp` -> (..., H, W//2 + 1) complex, as precise."""
    if xp is np:  # SciPy's is five times as fast as NumPy's and keeps float32
        return importlib.import_module("scipy.fft").rfft2(x, workers=usable_cores())
    check_cufft(xp, x.shape, x.dtype)
    return xp.fft.rfft2(x)


def irfft2(xf: Array, shape: tuple[int, int], xp: Any) -> Array:
    """xf: (..., H, W//2 + 1) complex, of the module `xp` -> (..., H, W) real, (H, W) = `shape`."""
    if xp is np:
        return importlib.import_module("scipy.fft").irfft2(xf, s=shape, workers=usable_cores())
    check_cufft(xp, (*xf.shape[:-2], *shape), xf.real.dtype)
    return xp.fft.irfft2(xf, s=shape)


def check_cufft(cp: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise DeviceError when cuFFT transforms images of `shape` (..., H, W) wrongly on the current
    device.

    CuPy makes a plan once per shape and device and uses it again.  The second use once gave
    something else, for some odd sizes (CuPy issue 5022); so each is tried twice, forward and back,
    before it is trusted, once.
    """
    if min(shape) > 0:
        _check_cufft(cp, tuple(shape), np.dtype(dtype), cp.cuda.Device().id)


@functools.cache
def _check_cufft(cp: Any, shape: tuple[int, ...], dtype: np.dtype, device: int) -> None:
    image = np.random.default_rng(0).standard_normal(shape[-2:])
    # one an image, so that no two are alike
    factors = np.linspace(1, 2, int(np.prod(shape[:-2], dtype=np.int64)))
    images = cp.asarray((image.astype(dtype) * factors.astype(dtype)[:, None, None]).reshape(shape))
    spectrum = np.fft.rfft2(image)
    tolerance = 1e3 * np.finfo(dtype).eps * abs(spectrum).max()
    for use in ("first", "second"):
        transformed = cp.fft.rfft2(images)
        back = cp.fft.irfft2(transformed, s=shape[-2:])
        maps = transformed.reshape(-1, *spectrum.shape)
        errors = [abs(to_numpy(maps[i]) - factors[i] * spectrum).max() for i in (0, -1)]
        if not max(*errors, float(abs(back - images).max())) <= tolerance:
            raise DeviceError(
                f"cuFFT gives a wrong transform at the {use} use of its plan for {shape} {dtype} "
                f"on cuda:{device}; use band='auto', which does without, or another version of CUDA"
            )
