"""Launch function of `gather.cu`: crops gathered to a training batch."""

import numpy as np

from dcfnet_np.backend import Array

from . import blocks, launch, output, require, require_real

EXPRESSIONS = tuple(
    f"gather<{ctype}, {changed}>" for ctype in ("float", "double") for changed in ("false", "true")
)
# the columns of `changes`; see gather.cu
CHANGE = ("mirror", "level", "contrast", "offset 0", "offset 1", "offset 2")


def gather(
    crops: Array,
    index: Array,
    mean: Array,
    *,
    changes: Array | None = None,
    out: Array | None = None,
) -> Array:
    """The crops of these indices, changed as in `train.augment`, minus `mean`.

    It is `train.plain_step.PairImages.images`.  crops: (count, 3, H, W) uint8; index: (N,) int32,
    every one < count, which is not checked: they are on the GPU; mean: (3,) float32 or float64;
    changes: None or (N, 6) of the same dtype, columns as in CHANGE.
    Returns (N, 3, H, W) of the mean's dtype, in `out` if given.
    """
    ctype = require_real(mean, "gather: mean", (3,))
    require(crops, "gather: crops", np.uint8, (None, 3, None, None))
    require(index, "gather: index", np.int32, (None,))
    shape = (len(index), *crops.shape[1:])
    if changes is not None:
        require(changes, "gather: changes", mean.dtype, (len(index), len(CHANGE)))
    out = output(out, "gather: out", mean.dtype, shape)
    pixels = shape[2] * shape[3]
    name = f"gather<{ctype}, {str(changes is not None).lower()}>"
    launch(
        "gather.cu", name, (blocks(pixels, 256), len(index)), (256,), crops, index,
        mean if changes is None else changes, mean, out, shape[3], pixels,
    )  # fmt: skip
    return out
