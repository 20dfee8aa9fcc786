"""Launch function of `gather.cu`: crops gathered to a training batch."""

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import blocks, c_type, launch, require

EXPRESSIONS = ("gather<float>", "gather<double>")


def gather(crops: Array, index: Array, mean: Array, *, out: Array | None = None) -> Array:
    """The crops of these indices, minus `mean`: `train.loop.Batches.images`.

    crops: (count, 3, H, W) uint8; index: (N,) int32, every one < count, which is not checked: they are on the GPU;
    mean: (3,) float32 or float64.  Returns (N, 3, H, W) of the mean's dtype, in `out` if given.
    """
    ctype = c_type(mean, "gather: mean")
    require(mean, "gather: mean", mean.dtype, (3,))
    require(crops, "gather: crops", np.uint8, (None, 3, None, None))
    require(index, "gather: index", np.int32, (None,))
    shape = (len(index), *crops.shape[1:])
    if out is None:
        out = backend.cupy().empty(shape, mean.dtype)
    require(out, "gather: out", mean.dtype, shape)
    pixels = shape[2] * shape[3]
    launch("gather.cu", f"gather<{ctype}>", (blocks(pixels, 256), len(index)), (256,), crops, index, mean, out,
           np.int32(pixels))  # fmt: skip
    return out
