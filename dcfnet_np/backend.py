"""NumPy or CuPy: the only module that imports cupy.

The mathematics in `ops` is written once, against "the array module of its arguments"::

    xp = array_module(x, w)
    y = xp.empty(...)

A NumPy array next to a CuPy one is an error, never a silent copy.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])
# Turing: the oldest that the kernels are compiled for, see kernels.compile
MINIMUM_CAPABILITY = (7, 5)
NEEDED_MEMORY = 256  # MiB: what a tracker of one target takes, and some
Array = Any  # numpy.ndarray or cupy.ndarray: the two share one interface, not a base class


class DeviceError(RuntimeError):
    """A GPU was asked for and cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Device:
    """Where arrays live: kind "cpu" or "cuda", index of the GPU, and why the choice fell so."""

    kind: str
    index: int = 0
    note: str = ""

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


@functools.cache
def _load_cupy() -> tuple[ModuleType | None, int, str]:
    """Import CuPy and count GPUs: (module, how many, "") or (None, 0, why there is none)."""
    try:
        # DCFNET_CUPY names a module in its place: the tests' stand-in, which runs kernels on a CPU
        cp = importlib.import_module(os.environ.get("DCFNET_CUPY", "cupy"))
    except ImportError as error:
        return None, 0, f"CuPy is not installed ({error}); install the extra gpu12 or gpu13"
    except Exception as error:  # a broken installation raises all sorts of things while it loads
        return None, 0, f"CuPy is installed but does not load ({_one_line(error)})"
    try:
        count = int(cp.cuda.runtime.getDeviceCount())
    except Exception as error:
        return None, 0, f"CuPy is installed but no GPU can be used: {_driver_reason(cp, error)}"
    return (cp, count, "") if count else (None, 0, "CuPy is installed but the driver finds no GPU")


def _driver_reason(cp: ModuleType, error: Exception) -> str:
    """Why GPUs cannot even be counted."""
    if "InsufficientDriver" in str(error):
        driver, needed = cp.cuda.runtime.driverGetVersion(), cp.cuda.runtime.runtimeGetVersion()
        if driver == 0:
            return "there is no NVIDIA driver"
        return (
            f"the NVIDIA driver is too old, it is made for CUDA {_cuda_version(driver)} and this CuPy for "
            f"{_cuda_version(needed)}; update the driver, or install the extra of the older CUDA"
        )
    if "NoDevice" in str(error):
        return "the driver finds none"
    return _one_line(error)


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@functools.cache
def _device_reason(index: int) -> str:
    """Why a GPU that there is cannot be used; "" when it can.  It runs one small kernel there."""
    cp, name = cupy(), f"cuda:{index}"
    try:
        with cp.cuda.Device(index) as device:
            major, minor = int(device.compute_capability[:-1]), int(device.compute_capability[-1])
            if (major, minor) < MINIMUM_CAPABILITY:
                needed = ".".join(map(str, MINIMUM_CAPABILITY))
                return f"{name} is too old, its compute capability is {major}.{minor}, the kernels need {needed}"
            free, total = (bytes_ // 2**20 for bytes_ in cp.cuda.runtime.memGetInfo())
            if free < NEEDED_MEMORY:
                return f"{name} has {free} of its {total} MiB of memory free, {NEEDED_MEMORY} MiB are needed"
            # One elementwise kernel needs the driver, NVRTC and a little memory: all that we need
            # later.
            if int((cp.arange(3, dtype=cp.float32) * 2).sum()) != 6:
                return f"{name} computes a wrong sum"
    except Exception as error:  # driver, NVRTC and memory errors have no common base class
        text = f"{type(error).__name__} {error}".lower()
        if "nvrtc" in text:
            return f"NVRTC, which compiles kernels, is missing or broken ({_one_line(error)}); install the CUDA toolkit"
        if "outofmemory" in text or "memoryallocation" in text:
            return f"{name} has no memory free ({_one_line(error)})"
        return f"{name} does not work ({_one_line(error)})"
    return ""


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def cupy() -> ModuleType:
    """The CuPy module of a machine with a GPU.

    Raises DeviceError with the reason where there is none.
    """
    module, _, reason = _load_cupy()
    if module is None:
        raise DeviceError(reason)
    return module


def nccl() -> ModuleType:
    """CuPy's NCCL, which `cupy.cuda` has only once it is imported by name.

    Raises DeviceError where there is none.
    """
    cupy()
    module = importlib.import_module("cupy.cuda.nccl")
    if not module.available:
        raise DeviceError(
            "NCCL, which adds the gradients of several GPUs, is not there; install nvidia-nccl-cu12 or "
            "nvidia-nccl-cu13, or train by one process"
        )
    return module


def select_device(name: str = "auto") -> Device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a Device.

    "auto" takes the first GPU that works and otherwise the CPU, with the reason in `.note`.
    Raises ValueError for another name, DeviceError when a GPU was asked for that cannot be used.
    """
    if not isinstance(name, str):
        raise TypeError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    if name == "cpu":
        return Device("cpu")
    if name == "auto":
        _, count, reason = _load_cupy()
        reasons = [reason] if reason else []
        for index in range(count):  # no further than needed: a probe takes memory on its GPU
            reasons.append(_device_reason(index))
            if not reasons[-1]:
                return Device("cuda", index)
        return Device("cpu", note="; ".join(reasons))
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdigit() or name == "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    _, count, reason = _load_cupy()
    index = int(number or 0)
    if count and index >= count:
        there = (
            "the only GPU is cuda:0" if count == 1 else f"the GPUs are cuda:0 to cuda:{count - 1}"
        )
        raise DeviceError(f"device {name!r} was asked for, but {there}")
    reason = reason or _device_reason(index)
    if reason:
        raise DeviceError(f"device {name!r} was asked for, but {reason}; use --device cpu")
    return Device("cuda", index)


def usable_devices() -> dict[int, str]:
    """For every GPU that there is, why it cannot be used, or "" when it can."""
    return {index: _device_reason(index) for index in range(_load_cupy()[1])}


def describe(device: Device) -> str:
    """A GPU in one line: name, memory, compute capability, versions of driver and runtime."""
    cp = cupy()
    properties = cp.cuda.runtime.getDeviceProperties(device.index)
    return (
        f"{device}: {properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"compute capability {properties['major']}.{properties['minor']}, CUDA driver "
        f"{cp.cuda.runtime.driverGetVersion()}, runtime {cp.cuda.runtime.runtimeGetVersion()}"
    )


def is_numpy(array: Array) -> bool:
    """True for numpy.ndarray, false for cupy.ndarray; TypeError for anything else."""
    if isinstance(array, np.ndarray):
        return True
    if type(array).__module__.split(".")[0] == "cupy":
        return False
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")


def array_module(*arrays: Array) -> Any:
    """numpy or cupy, whichever made all of `arrays` (None is skipped).

    TypeError when they are mixed.
    """
    kinds = {is_numpy(array) for array in arrays if array is not None}
    if len(kinds) > 1:
        raise TypeError(
            "NumPy and CuPy arrays are mixed: move them to one device first (backend.to_device)"
        )
    return cupy() if kinds == {False} else np


def to_numpy(array: Array) -> np.ndarray:
    """Copy a CuPy array to the host; a NumPy array comes back as it is."""
    return array if is_numpy(array) else array.get()


def to_device(array: Array, device: Device) -> Array:
    """Copy an array to `device`; it comes back as it is when it is there already."""
    if device.kind == "cpu":
        return to_numpy(array)
    cp = cupy()
    with cp.cuda.Device(device.index):
        return cp.asarray(array)


def pinned_array(cp: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A host array in page-locked memory, which a GPU copies without the CPU's help.  cp: CuPy."""
    count = int(np.prod(shape))
    memory = cp.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def current(device: Device) -> contextlib.AbstractContextManager[Any]:
    """For `with`: new arrays and kernels go to this device.  On the CPU nothing changes."""
    return contextlib.nullcontext() if device.kind == "cpu" else cupy().cuda.Device(device.index)


def exclusive(method: Method) -> Method:
    """A method that runs with its object's `device` as the current one, and alone: see `Turn`."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        with self.turn.take(method.__qualname__), current(self.device):
            return method(self, *args, **options)

    return cast(Method, run)


class Turn:
    """Lets one call at a time work with an object.

    A second one is refused: their order would be left to chance.
    """

    def __init__(self, device: Device) -> None:
        # the process that made it, or took a turn last
        self._device, self._process = device, os.getpid()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, who: str) -> Iterator[None]:
        """For `with`.  Raises RuntimeError, in the name of `who`, where that cannot be."""
        if self._device.kind == "cuda" and self._process != os.getpid():
            raise RuntimeError(
                f"{who}: this tracker is on {self._device} and was made before a fork, which CUDA does not survive; "
                "make it in the process that uses it"
            )
        if not self._lock.acquire(blocking=False):
            if self._process != os.getpid():
                raise RuntimeError(
                    f"{who}: this tracker was at work when its process was forked, so its state is that of no frame; "
                    "make another one in the new process"
                )
            raise RuntimeError(
                f"{who}: this tracker is at work already, in another thread or in its observer; "
                "give each thread a tracker of its own, or let the threads take turns by a lock"
            )
        self._process = os.getpid()
        try:
            yield
        finally:
            self._lock.release()


def processor() -> str:
    """The name of this machine's CPU."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """CPU cores that this process may use: fewer than the machine has under taskset and in many
    containers.

    The variable DCFNET_CORES sets another number: evaluation gives each of several worker processes
    its share."""
    if os.environ.get("DCFNET_CORES", "").isdigit():
        return max(1, int(os.environ["DCFNET_CORES"]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Blas:
    """The BLAS of this process, held to one thread as long as anybody wants that.

    The number is the whole process's: the first to come sets it, the last to go sets it back.  With
    OpenMP it is each thread's own, so everybody does both.
    """

    def __init__(self) -> None:
        import threadpoolctl

        libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self._own = [
            library for library in libraries if getattr(library, "threading_layer", "") == "openmp"
        ]
        self._shared = [library for library in libraries if library not in self._own]
        # threadpoolctl 3.8 lets only the thread that came first set the number: here any may be the
        # last one to go.
        openblas = getattr(threadpoolctl, "OpenBLASController", None)
        self._free = getattr(openblas, "clear_controlling_thread", lambda force: None)
        self._before: list[int] = []
        self._lock, self._inside = threading.Lock(), 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @contextlib.contextmanager
    def one_thread(self) -> Iterator[None]:
        own = [library.num_threads for library in self._own]
        self._set(self._own, [1] * len(own))
        with self._lock:
            if self._inside == 0:
                self._before = [library.num_threads for library in self._shared]
                self._set(self._shared, [1] * len(self._before))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._set(self._shared, self._before)
            self._set(self._own, own)

    def _set(self, libraries: list[Any], numbers: list[int]) -> None:
        for library, number in zip(libraries, numbers):
            self._free(force=True)
            library.set_num_threads(number)
            self._free(force=True)

    def _after_fork(self) -> None:
        """The threads that were inside are not in the new process."""
        if self._inside:
            self._set(self._shared, self._before)
        self._lock, self._inside = threading.Lock(), 0


_blas = functools.cache(_Blas)  # one, made when it is first needed


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """For `with`, in any number of threads: BLAS has one thread.

    More would keep their cores busy for a while.
    """
    return _blas().one_thread()


class Cores:
    """All CPU cores, each at work on items of its own, with one BLAS thread in each.

    An image passes through a whole network on one core, where most of it stays in that core's
    cache, and the steps that are not BLAS run on all cores too.  BLAS's own threads would share
    every small product instead, and wait for each other: when another program takes a core, for ten
    times as long as the product lasts."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0  # that has the pool's threads: a fork copies none of them

    def _others(self) -> ThreadPoolExecutor | None:
        """Threads for all cores but one: the calling thread works too, it would only wait
        otherwise.
        """
        if self._process != os.getpid():
            others = usable_cores() - 1
            self._pool = ThreadPoolExecutor(others) if others else None
            self._process = os.getpid()
        return self._pool

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """[function(item) for item in items], in order; BLAS has its threads back afterwards."""

        def work(item: Any) -> Any:
            with one_blas_thread():
                return function(item)

        pool = self._others()
        with one_blas_thread():
            if pool is None:
                return [work(item) for item in items]
            tasks = [(item, pool.submit(work, item)) for item in items]
            try:
                # What no other thread has begun is cancelled there and done here.
                results = [work(item) if task.cancel() else task for item, task in tasks]
            finally:
                wait([task for _, task in tasks])
            return [result.result() if isinstance(result, Future) else result for result in results]


def fft_module(xp: Any) -> Any:
    """The FFT library of an array module.

    SciPy's is five times as fast as NumPy's and keeps float32.
    """
    return importlib.import_module("scipy.fft") if xp is np else xp.fft


def fft_workers(xp: Any) -> dict[str, int]:
    """Keyword arguments that let a CPU transform use every core; a GPU transform takes none."""
    return {"workers": usable_cores()} if xp is np else {}


def check_cufft(cp: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise DeviceError when cuFFT transforms images of `shape` (..., H, W) wrongly on the current
    device.

    CuPy makes a plan once per shape and device and uses it again.  The second use once gave
    something else, for some odd sizes (CuPy issue 5022); so each is tried twice, forward and back,
    before it is trusted, once."""
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
        errors = [
            abs(to_numpy(maps[number]) - factors[number] * spectrum).max() for number in (0, -1)
        ]
        if not max(*errors, float(abs(back - images).max())) <= tolerance:
            raise DeviceError(
                f"cuFFT gives a wrong transform at the {use} use of its plan for {shape} {dtype} on cuda:{device}; "
                "use band='auto', which does without, or another version of CUDA"
            )
