"""Names and sizes of `conv_tf32.cu`: convolutions on tensor cores.

`conv` launches it where `tf32` is true.
"""

import functools

from dcfnet_np import backend
from dcfnet_np.backend import Array
from dcfnet_np.support.errors import DeviceError

from . import blocks, device_of

FILE = "conv_tf32.cu"
MINIMUM_ARCH = 80  # sm_80: the first with TF32
CHANNELS = 8  # of a product: with fewer input channels most of it would be zeros
TILE = (32, 16, 32)  # pixels in x, in y, and outputs of a block of the forward kernel; 256 threads


def weight_warps(channels: int, dilation: int) -> int:
    """Warps of a block of the gradient to the weights, each with 8 input channels.

    Not more, since shared memory ends at 48 KB.
    """
    return 8 if dilation == 1 and blocks(channels, CHANNELS) > 4 else 4


@functools.cache
def check_device(index: int) -> None:
    """Raise DeviceError unless this GPU has TF32."""
    capability = backend.cupy().cuda.Device(index).compute_capability
    if int(capability) < MINIMUM_ARCH:
        raise DeviceError(
            f"TF32 needs a GPU of compute capability 8.0 or newer, cuda:{index} has "
            f"{capability[:-1]}.{capability[-1]}: leave tf32 off"
        )


def check(array: Array) -> None:
    """Raise unless a convolution of this array can be in TF32.

    TypeError is for its dtype, DeviceError for its GPU.
    """
    if str(array.dtype) != "float32":
        raise TypeError(f"conv: tf32 takes float32, got {array.dtype}")
    check_device(device_of(array))


def forward_name(dilation: int, after: int) -> str:
    """The kernel of the forward pass and of the gradient to the data; `after` as in conv.py."""
    return f"conv3x3_tf32<{dilation}, {after}>"


def weights_name(warps: int, dilation: int) -> str:
    """The kernel of the gradient to the weights."""
    return f"conv3x3_weights_tf32<{warps}, {dilation}>"


EXPRESSIONS = (
    *(forward_name(dilation, after) for dilation in (1, 2) for after in range(4)),
    *(weights_name(warps, dilation) for warps, dilation in ((4, 1), (8, 1), (4, 2))),
)
