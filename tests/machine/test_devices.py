"""Which device is taken, and why another one is not.  CuPy is played by a module that fails in one
way.

test_cupy_without_gpu.py shows the same with CuPy really installed, as far as a machine without a
GPU can.
"""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from dcfnet_np import backend, cli
from dcfnet_np.backend import Device, DeviceError, select_device
from dcfnet_np.support import machine

MIB = 2**20


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class DynamicLibNotFoundError(RuntimeError):
    pass


def raising(kind, message):
    def call(*_, **__):
        raise kind(message)

    return call


def make_cupy(*devices, driver=12090, counting=None, arange=np.arange):
    """A CuPy with these GPUs, (compute capability, MiB free) each; counting them, or a first array,
    may fail.
    """
    devices = devices or (("90", 80000),)

    class GPU:
        entered: ClassVar[list[int]] = []

        def __init__(self, index):
            self.index, self.compute_capability = index, devices[index][0]

        def __enter__(self):
            self.entered.append(self.index)
            return self

        def __exit__(self, *error):
            self.entered.pop()

    def properties(index):
        facts = {"name": b"Model %d" % index, "totalGlobalMem": 80000 * MIB}
        return facts | dict(zip(("major", "minor"), map(int, devices[index][0])))

    runtime = SimpleNamespace(
        getDeviceCount=counting or (lambda: len(devices)),
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceProperties=properties,
        memGetInfo=lambda: (devices[GPU.entered[-1]][1] * MIB, 80000 * MIB),
    )
    cuda = SimpleNamespace(runtime=runtime, Device=GPU)
    return SimpleNamespace(cuda=cuda, arange=arange, float32=np.float32, __version__="14.2.0")


@pytest.fixture
def install(monkeypatch):
    """Put a module in the place of CuPy, for this test only."""

    def forget():
        backend._load_cupy.cache_clear()
        backend._device_reason.cache_clear()

    def put(module):
        monkeypatch.setitem(sys.modules, "cupy", module)
        forget()

    yield put
    forget()


old_driver = raising(CUDARuntimeError, "cudaErrorInsufficientDriver: version is insufficient")
no_nvrtc = raising(DynamicLibNotFoundError, 'Failure finding "libnvrtc.so.13":\nNo such file')
no_room = raising(OutOfMemoryError, "Out of memory allocating 512 bytes")
UNUSABLE = [  # what is there, and what is said about it
    (None, r"CuPy is not installed \(.*\); install the extra gpu12 or gpu13"),
    (make_cupy(counting=old_driver, driver=0), "no GPU can be used: there is no NVIDIA driver"),
    (
        make_cupy(counting=old_driver, driver=11080),
        "driver is too old, it is made for CUDA 11.8 and this CuPy for 12.9; update the driver",
    ),
    (make_cupy(counting=lambda: 0), "the driver finds no GPU"),
    (make_cupy(("61", 8000)), r"cuda:0 is too old, its .* is 6.1, the kernels need 7.5"),
    (make_cupy(arange=no_nvrtc), "NVRTC, .* is missing or broken .*; install the CUDA toolkit"),
    (make_cupy(("90", 200)), "cuda:0 has 200 of its 80000 MiB of memory free, 256 MiB"),
    (make_cupy(arange=no_room), "cuda:0 has no memory free .OutOfMemoryError: Out of memory"),
    (make_cupy(arange=np.zeros), "cuda:0 computes a wrong sum"),
]


@pytest.mark.parametrize(("module", "reason"), UNUSABLE)
def test_unusable(install, capsys, module, reason):
    """auto falls back and says why; asked for, a GPU is an error of one line; the doctor shows the
    reason.
    """
    install(module)
    device = select_device("auto")
    assert device.kind == "cpu" and "\n" not in device.note
    for name in ("cuda", "cuda:0"):
        said = f"device '{name}' was asked for, but .*{reason}.*; use --device cpu"
        with pytest.raises(DeviceError, match=said) as error:
            select_device(name)
        assert "\n" not in str(error.value) and device.note in str(error.value)
    assert cli.main(["doctor"]) == 0
    assert f"everything runs on the CPU: {device.note}" in capsys.readouterr().out


def test_the_first_gpu_that_works(install, capsys):
    install(make_cupy())
    assert select_device("cuda:0") == select_device("auto") == Device("cuda")
    with pytest.raises(DeviceError, match="the only GPU is cuda:0"):
        select_device("cuda:1")
    install(make_cupy(("90", 8000), ("90", 8000)))
    assert select_device("auto") == Device("cuda", 0)
    assert backend._device_reason.cache_info().currsize == 1  # the second was left alone
    install(make_cupy(("61", 8000), ("90", 30), ("75", 16000)))
    assert select_device("auto") == select_device("cuda:2") == Device("cuda", 2)
    for name, reason in (
        ("cuda:1", "cuda:1 has 30 of its 80000 MiB"),
        ("cuda:3", "the GPUs are cuda:0 to cuda:2"),
    ):
        with pytest.raises(DeviceError, match=f"'{name}' was asked for, but {reason}"):
            select_device(name)
    assert cli.main(["doctor"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gpu")]
    assert [line.split()[1] for line in lines] == ["cuda:0:", "cuda:1:", "cuda:2:"]
    assert "too old" in lines[0] and lines[2].endswith("usable")
    assert "Model 2, 78 GiB, compute capability 7.5, CUDA driver 12090" in lines[2]


def test_a_machine_is_described_without_selecting_a_gpu(install):
    install(make_cupy(("61", 8000), ("90", 80000), arange=raising(AssertionError, "a kernel ran")))
    facts = machine.describe_machine()
    assert [line.split()[0] for line in facts["gpus"]] == ["cuda:0:", "cuda:1:"]
    assert backend._device_reason.cache_info().currsize == 0
    assert facts["packages"]["numpy"] == np.__version__ and facts["cores"] >= 1
    assert facts["processor"] and facts["blas"] and "DCFNET_DATA" not in facts["variables"]
    install(None)
    assert machine.describe_machine()["gpus"] == []


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda0", "cpu:0", ""])
def test_other_names(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got"):
        select_device(name)
