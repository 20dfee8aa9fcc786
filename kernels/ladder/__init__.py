"""The same kernel in several versions, from the plainest to the one in use, to read and to run.

    python -m dcfnet_np.kernels.ladder conv --version 2

`conv.cu` and `filter.cu` beside this file are the early versions; the last one is the library's
own.  Every version is compared with the definition in `dcfnet_np.ops` before anything is said
about it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from .. import blocks, conv, dcf, launch


class Version(NamedTuple):
    """One step of a ladder."""

    idea: str
    run: Callable[..., Array]  # on arrays of the device; returns what the definition returns


def conv_versions() -> list[Version]:
    """3x3 convolutions of x (N, C, H, W) with w (O, C, 3, 3) and b (O,), padding 1."""

    def early(number: int, outputs: int) -> Callable[..., Array]:
        def run(x: Array, w: Array, b: Array) -> Array:
            (n, c, height, width), o = x.shape, len(w)
            y = backend.cupy().empty((n, o, height, width), x.dtype)
            grid = (blocks(width, 32), blocks(height, 8), n * blocks(o, outputs))
            sizes = map(np.int32, (c, height, width, o))
            name = f"conv3x3_v{number}<{c_type(x)}>"
            launch("ladder/conv.cu", name, grid, (32, 8), x, w, b, y, *sizes)
            return y

        return run

    return [
        Version("a thread makes one number, all from global memory", early(1, 1)),
        Version("a block keeps its tile of x in shared memory", early(2, 1)),
        Version("a thread makes eight outputs of a pixel in registers", early(3, 8)),
        Version("in use: conv.cu, several pixels a thread, packed weights", conv.forward),
    ]


def filter_versions() -> list[Version]:
    """Filters (N, D, P) by Eq. 2 of template_f (N, D, P), label_f (P,) and lam."""

    def early(number: int, bins: int, block: tuple[int, ...]) -> Callable[..., Array]:
        def run(template_f: Array, label_f: Array, lam: float) -> Array:
            n, d, p = template_f.shape
            filter_f = backend.cupy().empty(template_f.shape, template_f.dtype)
            real = template_f.real.dtype.type
            launch(
                "ladder/filter.cu",
                f"learn_filter_v{number}<{c_type(template_f)}>",
                (blocks(p, bins), n),
                block,
                *(template_f, label_f, filter_f, np.int32(d), np.int32(p), real(lam)),
            )
            return filter_f

        return run

    def in_use(template_f: Array, label_f: Array, lam: float) -> Array:
        return dcf.learn_filter(template_f, label_f, lam)[0]

    return [
        Version("a thread takes a bin, all channels in turn", early(1, 128, (128,))),
        Version("a warp takes a bin, its lanes the channels", early(2, 4, (32, 4))),
        Version("in use: dcf.cu, eight threads a bin, neighbours on neighbouring bins", in_use),
    ]


def c_type(array: Array) -> str:
    """The kernels' name of the array's real type."""
    return "float" if array.real.dtype == np.float32 else "double"


def milliseconds(run: Callable[..., Array], *arrays: Any) -> float:
    """The shortest of ten launches on a GPU, by its own clock, after a first one that compiles."""
    cp = backend.cupy()
    run(*arrays)
    times = []
    for _ in range(10):
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        run(*arrays)
        end.record()
        end.synchronize()
        times.append(float(cp.cuda.get_elapsed_time(start, end)))
    return min(times)
