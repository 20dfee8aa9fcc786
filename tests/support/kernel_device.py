"""Where kernels are tested: on the CPU, run by the stand-in `cuda_on_cpu`, and on a GPU where there
is one.

A test takes the fixture `device`, which tests/conftest.py imports, and gives its arrays through it:
`device(x)` is a copy on the device.
"""

import os
import shutil

import cuda_on_cpu
import numpy as np
import pytest

from dcfnet_np import backend
from dcfnet_np.kernels import conv_tf32

ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EXACT = {np.float32: 3e-6, np.float64: 1e-14}  # relative errors


def on_gpu():
    try:
        backend.select_device("cuda")
        # each array from CUDA itself: what lies behind it is nobody's
        if os.environ.get("DCFNET_NO_POOL"):
            backend.cupy().cuda.set_allocator(None)
        return backend.cupy().asarray
    except backend.DeviceError as error:
        pytest.skip(str(error))


def on_cpu(monkeypatch, stand_in, order="ascending"):
    if not shutil.which("g++"):
        pytest.skip("no g++ to compile kernels for the CPU")
    monkeypatch.setattr(backend, "_load_cupy", lambda: (stand_in, 2, ""))
    backend._device_reason.cache_clear()
    conv_tf32.check_device.cache_clear()
    monkeypatch.setattr(cuda_on_cpu.Kernel, "seed", ORDERS[order])
    return np.ascontiguousarray


@pytest.fixture(params=["ascending", "shuffled", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """A GPU, or the CPU with threads and blocks in one of several orders, every access watched."""
    return on_gpu() if request.param == "gpu" else on_cpu(monkeypatch, cuda_on_cpu, request.param)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def full_size_device(request, monkeypatch):
    """The same for large arrays: on the CPU nothing is watched, which is five times as fast."""
    return on_gpu() if request.param == "gpu" else on_cpu(monkeypatch, cuda_on_cpu.unwatched)


def double(*arrays):
    """The same numbers in double precision."""
    return [a.astype(np.result_type(a.dtype, np.float64)) for a in arrays]


def complex_numbers(rng, shape, dtype):
    values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return values.astype(np.result_type(dtype, np.complex64))


def relative_error(got, want, scale=None):
    """Largest error over the largest value, or over what the sums would be without cancellation."""
    got = backend.to_numpy(got)
    assert got.shape == want.shape
    if want.size == 0:
        return 0.0
    largest = np.abs(want if scale is None else scale).max()
    return float(np.abs(got - want).max() / (largest if largest > 0 else 1))
