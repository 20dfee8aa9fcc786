"""A stand-in for CuPy that runs CUDA kernels on the CPU, for tests on machines without a GPU.

RawModule compiles the very same CUDA source with g++ and calls it on NumPy arrays, watching for
races and accesses outside the arrays: see cuda_on_cpu.cpp.  `empty` and `empty_like` fill with NaN,
so an output that a kernel forgets, or reads before it is written, shows.  A stream runs what it is
given at once, or captures it: then the launches run when the graph does, with the arrays of the
capture, and what cannot be captured is an error.  All devices are the CPU, but which one is current
is kept, and `devices_used` collects those on which something was made or launched.  Every other
name is NumPy's.

`cuda_on_cpu.unwatched` is the same without the watching, about five times as fast: for large
arrays.
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import re
import subprocess
import tempfile
import time
import types
from typing import ClassVar

import numpy

__version__ = "14.2.0"  # of the CuPy that it stands for
HERE = pathlib.Path(__file__).parent
FLAGS = [
    "-std=c++17", "-O2", "-gdwarf-4", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-Wall",
    "-Wextra", "-Wno-unknown-pragmas", f"-I{HERE}",
]  # fmt: skip
WATCH = ["-fsanitize=thread,bounds", "-fno-sanitize-recover"]
# _FORTIFY_SOURCE's check of longjmp takes fibers for a broken stack
ENGINE = ["-U_FORTIFY_SOURCE", str(HERE / "cuda_on_cpu.cpp")]


class Device:
    """A number that is current inside `with`: cupy.cuda.Device."""

    compute_capability = "90"
    attributes: ClassVar[dict[str, int]] = {"MultiProcessorCount": 1}
    entered: ClassVar[list[int]] = [0]

    def __init__(self, device=None):
        self.id = self.entered[-1] if device is None else int(device)

    def __enter__(self):
        self.entered.append(self.id)
        return self

    def __exit__(self, *error):
        self.entered.pop()

    def synchronize(self):
        pass


devices_used = set()


def on_this_device(function):
    """The same function, which adds the current device to `devices_used`; not to be captured."""

    @functools.wraps(function)
    def call(*args, **options):
        if Stream.entered[-1].captured is not None:
            raise LaunchError(f"{function.__qualname__} in a capture")
        devices_used.add(Device().id)
        return function(*args, **options)

    return call


class Stream:
    """Kernels run when they are launched, or are captured: cupy.cuda.Stream."""

    ptr = 0
    captured = None  # or a list of launches
    entered: ClassVar[list["Stream"]] = []

    def __init__(self, null=False, non_blocking=False, ptds=False):
        devices_used.add(Device().id)
        self.null = null

    def __enter__(self):
        self.entered.append(self)
        return self

    def __exit__(self, *error):
        self.entered.pop()

    def synchronize(self):
        if self.captured is not None:
            raise LaunchError("Stream.synchronize in a capture")

    def wait_event(self, event):
        pass

    def begin_capture(self):
        if self.null:
            raise LaunchError("the default stream cannot be captured")
        self.captured = []

    def end_capture(self):
        graph, self.captured = Graph(self.captured), None
        return graph


class Graph:
    """Launches, to be run again and again: cupy.cuda.Graph."""

    def __init__(self, launches):
        self.launches = launches

    def launch(self, stream=None):
        for kernel, *launch in self.launches:
            kernel.run(*launch)


Stream.entered.append(Stream(null=True))
devices_used.clear()


class Event:
    """Everything before it is over when it is recorded: cupy.cuda.Event."""

    def __init__(self, block=False, disable_timing=False):
        devices_used.add(Device().id)

    def record(self, stream=None):
        self.time = time.perf_counter()

    synchronize = Device.synchronize


cuda = types.SimpleNamespace(
    Device=Device,
    Stream=Stream,
    Event=Event,
    Graph=Graph,
    get_current_stream=lambda: Stream.entered[-1],
    get_elapsed_time=lambda start, end: 1e3 * (end.time - start.time),
    is_available=lambda: True,
    alloc_pinned_memory=bytearray,  # all memory is the host's
    runtime=types.SimpleNamespace(
        getDeviceCount=lambda: 2,
        memGetInfo=lambda: (1 << 30, 1 << 30),
        getDeviceProperties=lambda index: {
            "name": b"stand-in",
            "totalGlobalMem": 1 << 30,
            "major": 9,
            "minor": 0,
        },
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
    ),
)
get_default_memory_pool = functools.partial(types.SimpleNamespace, free_all_blocks=lambda: None)
zeros, zeros_like, from_dlpack = map(
    on_this_device, (numpy.zeros, numpy.zeros_like, numpy.from_dlpack)
)


def __getattr__(name):
    return getattr(numpy, name)


def asnumpy(array):
    return numpy.asarray(array)


@on_this_device
def asarray(array, dtype=None):
    """Of an object with `__cuda_array_interface__` the memory itself: the interface is NumPy's with
    another name.
    """
    if hasattr(array, "__cuda_array_interface__"):
        array = types.SimpleNamespace(
            __array_interface__=array.__cuda_array_interface__, owner=array
        )
    return numpy.asarray(array, dtype)


@on_this_device
def empty(shape, dtype=float):
    """Nothing that could pass for a result: every byte is 255, which makes floats NaN and integers
    -1.
    """
    array = numpy.empty(shape, dtype)
    array.reshape(-1).view(numpy.uint8)[...] = 255
    return array


def empty_like(prototype, dtype=None):
    return empty(prototype.shape, dtype or prototype.dtype)


class _Unwatched:
    """The same stand-in without its checks, five times as fast: for large arrays."""

    RawModule = staticmethod(lambda code, **options: RawModule(code, watched=False, **options))

    def __getattr__(self, name):
        return globals()[name] if name in globals() else getattr(numpy, name)


unwatched = _Unwatched()


class LaunchError(RuntimeError):
    """The kernel could not be launched, or it did what it must not."""


class RawModule:
    @on_this_device
    def __init__(self, code, *, options=(), name_expressions=(), watched=True):
        self._names = list(name_expressions)
        source = "\n".join(
            ['#include "cuda_on_cpu.h"', code]
            + [f"CUDA_ON_CPU_KERNEL({i}, {name})" for i, name in enumerate(self._names)]
            + [""]
        )
        includes = [o for o in options if o[:2] == "-I"]
        self._path = library(source, includes, watched)
        self._library = ctypes.CDLL(str(self._path))

    def get_function(self, name):
        return Kernel(self._library, self._path, self._names.index(name), name)


def library(source, includes, watched):
    """Path of the shared library made of this source; it is kept for the next run."""
    engine = build("engine.o", ENGINE + FLAGS + ["-c"], "", HERE.glob("*.*"))
    headers = [p for o in includes for p in pathlib.Path(o[2:]).glob("*.cuh")]
    kernels = build(
        "kernels.o",
        FLAGS + WATCH * watched + includes + ["-c", "-x", "c++", "-"],
        source,
        [HERE / "cuda_on_cpu.h", *headers],
    )
    return build("kernels.so", ["-shared", str(kernels), str(engine)], "", [])


def build(name, command, source, files):
    texts = [path.read_text() for path in sorted(files) if path.suffix != ".pyc"]
    key = hashlib.sha256(repr([command, source, texts]).encode())
    folder = pathlib.Path(tempfile.gettempdir(), f"cuda_on_cpu-{os.getuid()}")
    path = folder / f"{key.hexdigest()[:24]}-{name}"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [os.environ.get("CXX", "g++"), *command, "-o", new], check=True, input=source, text=True
        )
        new.rename(path)
    return path


class Kernel:
    seed = 0  # the order of blocks and threads: 0 ascending, 1 descending, others shuffled

    def __init__(self, dll, path, number, name):
        self.name, self._path = name, path
        self._launch, signature = (getattr(dll, f"{f}_{number}") for f in ("launch", "signature"))
        self._launch.restype = signature.restype = ctypes.c_char_p
        self.signature = signature().decode().split()

    def __call__(self, grid, block, args):
        devices_used.add(Device().id)
        captured = Stream.entered[-1].captured
        if captured is None:
            self.run(grid, block, args)
        else:
            captured.append((self, grid, block, args))

    def run(self, grid, block, args):
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name} takes {len(self.signature)} arguments, not {len(args)}")
        values, arrays = [], []
        for i, (arg, want) in enumerate(zip(args, self.signature)):
            if not isinstance(arg, (numpy.ndarray, numpy.generic)):
                kind = f"{type(arg).__name__}; CuPy would not convert it"
                raise TypeError(f"{self.name}: argument {i} is a {kind}")
            array = isinstance(arg, numpy.ndarray)
            got = "P" * array + f"{arg.dtype.kind}{arg.dtype.itemsize}"
            if got != want:
                raise TypeError(f"{self.name}: argument {i} is {got}, the kernel takes {want}")
            if array:
                if not arg.flags.c_contiguous:
                    raise TypeError(f"{self.name}: argument {i} is not contiguous")
                arrays += [arg.ctypes.data, arg.nbytes]
                values.append(ctypes.c_void_p(arg.ctypes.data))
            else:
                values.append(ctypes.create_string_buffer(arg.tobytes()))
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        grid, block = ((ctypes.c_uint * 3)(*(*d, 1, 1, 1)[:3]) for d in (grid, block))
        arrays = (ctypes.c_uint64 * len(arrays))(*arrays)
        error = self._launch(grid, block, self.seed, arrays, len(arrays) // 2, pointers)
        if error:
            error = re.sub("@(0x[0-9a-f]+)", lambda m: line_of(self._path, m[1]), error.decode())
            raise LaunchError(f"{self.name}: {error}")


@functools.cache
def line_of(path, address):
    run = subprocess.run(["addr2line", "-e", path, address], capture_output=True, text=True)
    return run.stdout.split(" ")[0].strip() or address
