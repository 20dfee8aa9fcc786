"""backend: which device is taken, and why another one is not.  CuPy is played by a module that
fails in one way.

test_cupy_without_gpu.py shows the same with CuPy really installed, as far as a machine without a
GPU can."""

import sys
import types

import numpy as np
import pytest

from dcfnet_np import backend, cli
from dcfnet_np.backend import Device, DeviceError

MIB = 2**20


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class DynamicLibNotFoundError(RuntimeError):
    pass


def raising(error):
    def call(*_, **__):
        raise error

    return call


def make_cupy(devices=(("90", 80000),), driver=12090, counting=None, arange=np.arange, memory=None):
    """A CuPy with these GPUs, (compute capability, MiB free) each; counting them, or a first array,
    may fail.
    """

    class GPU:
        entered = []

        def __init__(self, index):
            self.index, self.compute_capability = index, devices[index][0]

        def __enter__(self):
            self.entered.append(self.index)
            return self

        def __exit__(self, *error):
            self.entered.pop()

    def properties(index):
        major, minor = map(int, (devices[index][0][:-1], devices[index][0][-1]))
        return {
            "name": b"Model %d" % index,
            "totalGlobalMem": 80000 * MIB,
            "major": major,
            "minor": minor,
        }

    runtime = types.SimpleNamespace(
        getDeviceCount=counting or (lambda: len(devices)),
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceProperties=properties,
        memGetInfo=memory or (lambda: (devices[GPU.entered[-1]][1] * MIB, 80000 * MIB)),
    )
    return types.SimpleNamespace(
        cuda=types.SimpleNamespace(runtime=runtime, Device=GPU),
        arange=arange,
        float32=np.float32,
        __version__="14.2.0",
    )


@pytest.fixture
def install(monkeypatch):
    """Put a module in the place of CuPy, for this test only."""

    def put(module):
        monkeypatch.setitem(sys.modules, "cupy", module)
        backend._load_cupy.cache_clear()
        backend._device_reason.cache_clear()

    yield put
    backend._load_cupy.cache_clear()
    backend._device_reason.cache_clear()


insufficient = raising(
    CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
)
no_nvrtc = raising(
    DynamicLibNotFoundError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12":\nNo such file')
)
no_room = raising(OutOfMemoryError("Out of memory allocating 512 bytes"))
UNUSABLE = {
    "not installed": (None, r"CuPy is not installed \(.*\); install the extra gpu12 or gpu13"),
    "no driver": (
        make_cupy(counting=insufficient, driver=0),
        "no GPU can be used: there is no NVIDIA driver",
    ),
    "old driver": (
        make_cupy(counting=insufficient, driver=11080),
        "driver is too old, it is made for CUDA 11.8 and this CuPy for 12.9; update the driver",
    ),
    "no device": (make_cupy(devices=()), "the driver finds no GPU"),
    "no device either": (
        make_cupy(
            counting=raising(
                CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
            )
        ),
        "the driver finds none",
    ),
    "old GPU": (
        make_cupy(devices=[("61", 8000)]),
        r"cuda:0 is too old, its .* is 6.1, the kernels need 7.5",
    ),
    "no NVRTC": (
        make_cupy(arange=no_nvrtc),
        "NVRTC, .* is missing or broken .*; install the CUDA toolkit",
    ),
    "little memory": (
        make_cupy(devices=[("90", 200)]),
        "cuda:0 has 200 of its 80000 MiB of memory free, 256 MiB",
    ),
    "no memory": (
        make_cupy(arange=no_room),
        "cuda:0 has no memory free .OutOfMemoryError: Out of memory",
    ),
    "no memory for a context": (
        make_cupy(memory=raising(CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"))),
        "cuda:0 has no memory free",
    ),
    "wrong sums": (make_cupy(arange=np.zeros), "cuda:0 computes a wrong sum"),
    "anything": (make_cupy(arange=raising(KeyError("?"))), "cuda:0 does not work .KeyError"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable(install, capsys, case):
    """auto falls back and says why; asked for, a GPU is an error of one line; the doctor shows the
    reason.
    """
    module, reason = UNUSABLE[case]
    install(module)
    device = backend.select_device("auto")
    assert device.kind == "cpu" and "\n" not in device.note
    for name in ("cuda", "cuda:0"):
        with pytest.raises(
            DeviceError, match=f"device '{name}' was asked for, but .*{reason}.*; use --device cpu"
        ) as e:
            backend.select_device(name)
        assert "\n" not in str(e.value) and device.note in str(e.value)
    assert cli.main(["doctor"]) == 0
    assert f"everything runs on the CPU: {device.note}" in capsys.readouterr().out


def test_a_cupy_that_does_not_load(install, monkeypatch):
    install(None)
    monkeypatch.setattr(
        backend.importlib, "import_module", raising(OSError("libcudart.so.12: cannot open\nmore"))
    )
    assert (
        "is installed but does not load (OSError: libcudart.so.12: cannot open)"
        in backend.select_device("auto").note
    )


def test_the_first_gpu_that_works(install, capsys):
    install(make_cupy(devices=[("61", 8000), ("90", 30), ("75", 16000)]))
    assert backend.select_device("auto") == Device("cuda", 2)
    install(make_cupy(devices=[("90", 8000), ("90", 8000)]))
    assert backend.select_device("auto") == Device("cuda", 0)
    assert backend._device_reason.cache_info().currsize == 1  # the second was left alone
    install(make_cupy(devices=[("61", 8000), ("90", 30), ("75", 16000)]))
    assert backend.select_device("cuda:2") == Device("cuda", 2)
    with pytest.raises(
        DeviceError, match="'cuda:1' was asked for, but cuda:1 has 30 of its 80000 MiB"
    ):
        backend.select_device("cuda:1")
    with pytest.raises(
        DeviceError, match="'cuda:3' was asked for, but the GPUs are cuda:0 to cuda:2"
    ):
        backend.select_device("cuda:3")
    assert cli.main(["doctor"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gpu")]
    assert [line.split()[1] for line in lines] == ["cuda:0:", "cuda:1:", "cuda:2:"]
    assert (
        "too old" in lines[0]
        and lines[2].endswith("usable")
        and "compute capability 7.5" in lines[2]
    )


def test_one_gpu(install):
    install(make_cupy())
    assert backend.select_device("cuda:0") == backend.select_device("auto") == Device("cuda")
    with pytest.raises(DeviceError, match="the only GPU is cuda:0"):
        backend.select_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda0", "cpu:0", ""])
def test_other_names(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got"):
        backend.select_device(name)
