"""What the device steps of tracking and of training need of CUDA: a stream, a graph, a frame.

A step is a list of stages, mostly one kernel launch each, in buffers that are made once.  Nothing
in it is allocated, waits for the host or depends on a value that the host would have to read.  So
its stages can be captured once as a CUDA graph, and replayed for every step.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend, kernels
from dcfnet_np.backend import Array
from dcfnet_np.kernels import dft
from dcfnet_np.ops.fourier import Band, make_band, rfft2


class Stage(NamedTuple):
    """A named part of a step, for timing: mostly one kernel launch."""

    name: str
    run: Callable[[], Any]


def launch_stages(stages: Iterable[Stage]) -> None:
    """Run the stages one by one, in order."""
    for stage in stages:
        stage.run()


def label_spectrum(
    cp: Any, label: np.ndarray, band: Band | None, who: str
) -> tuple[dft.DftTables, Array]:
    """The tables of the transform that a label (N, N) needs, and its spectrum, on the device.

    band: None where it needs the full one.  Then ValueError, in the name of `who`, for an even N.
    """
    size = len(label)
    if band is None:
        if size % 2 == 0:
            raise ValueError(f"{who}: this label needs the full spectrum of an even size, {size}")
        band = make_band((size, size), size // 2, label.dtype)
    tables = dft.make_tables(band.shape, band.limits, label.dtype)
    return tables, cp.asarray(rfft2(label, band))


def frame_on_device(cp: Any, frame: Any) -> Array:
    """A frame that lies on the current GPU as uint8 (H, W, 3) or gray (H, W, 1), without a copy.

    It comes as an array of CuPy, or of anybody by `__cuda_array_interface__` or DLPack: (H, W) or
    (H, W, 1) gray, (H, W, 3) BGR or (H, W, 4) BGRA, uint8.  Raises TypeError and ValueError for
    others.
    """
    if not (hasattr(frame, "__cuda_array_interface__") or hasattr(frame, "__dlpack__")):
        raise TypeError(
            f"frame must be a NumPy array or an array on the GPU, got {type(frame).__name__}"
        )
    if isinstance(frame, cp.ndarray):
        array = frame
    else:
        # DLPack first: by it the producer orders its stream before ours.
        array = cp.from_dlpack(frame) if hasattr(frame, "__dlpack__") else cp.asarray(frame)
    here, there = cp.cuda.Device().id, kernels.device_of(array)
    if there != here:
        raise ValueError(f"the frame is on cuda:{there}, the tracker on cuda:{here}")
    if array.dtype != np.uint8:
        raise TypeError(f"a frame on the GPU must be uint8, got {array.dtype}")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            "frame must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and not empty, "
            f"got {array.shape}"
        )
    return array[:, :, :3]


class DeviceQueue:
    """A stream on one GPU, with what goes into it.

    device: index of the GPU.  graph: `replay` captures its stages as a CUDA graph; else it launches
    them one by one.  Raises `backend.DeviceError` when there is no usable GPU.
    """

    def __init__(self, device: int = 0, *, graph: bool = True) -> None:
        self.cp = backend.cupy()
        self.device = self.cp.cuda.Device(device)
        self.stream = self.new_stream()
        self._caller_ready = self.new_event()
        self._graph_wanted, self._compiled = graph, False
        self._graph: Any = None

    @property
    def captured(self) -> bool:
        """Whether `replay` has a graph by now."""
        return self._graph is not None

    @contextmanager
    def active(self) -> Iterator[Any]:
        """For `with`: arrays and kernels go to this device, and into this stream."""
        with self.device, self.stream:
            yield self.cp

    @contextmanager
    def after_caller(self) -> Iterator[Any]:
        """As `active`, behind all that the caller has queued in the stream that is current now."""
        with self.device:
            self._caller_ready.record(self.cp.cuda.get_current_stream())
            self.stream.wait_event(self._caller_ready)
            with self.stream:
                yield self.cp

    def replay(self, stages: Sequence[Stage]) -> None:
        """Run these stages, the same in every call, while this queue is active."""
        if not self._graph_wanted or not self._compiled:
            launch_stages(stages)  # the first time compiles kernels, which cannot be captured
            self._compiled = True
            return
        if self._graph is None:
            self.stream.begin_capture()
            launch_stages(stages)
            self._graph = self.stream.end_capture()
        self._graph.launch(self.stream)

    def put(self, array: Array, values: np.ndarray, stream: Any = None) -> None:
        """Overwrite a device array by a host array, in this stream or another one."""
        if backend.is_numpy(array):  # kernels on the CPU
            array[...] = values
        else:
            array.set(values, stream=self.stream if stream is None else stream)

    def fetch(self, array: Array, out: np.ndarray) -> None:
        """Copy a device array into page-locked memory, in this stream, without waiting."""
        if backend.is_numpy(array):
            out[...] = array
        else:
            array.get(stream=self.stream, out=out, blocking=False)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A host array in page-locked memory, which the GPU copies without the CPU's help."""
        return backend.pinned_array(self.cp, shape, dtype)

    def new_stream(self) -> Any:
        """A stream beside the default one, which cannot be captured."""
        with self.device:
            return self.cp.cuda.Stream(non_blocking=True)

    def new_event(self) -> Any:
        """An event, to order streams and to wait for them."""
        with self.device:
            return self.cp.cuda.Event(disable_timing=True)
