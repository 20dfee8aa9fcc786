"""Launches `conv.cu`: 3x3 convolution with its gradients, on CuPy arrays.

Reference: `dcfnet_np.ops.conv`.  Arrays are NCHW, float32 or float64, C-contiguous (a TypeError or
ValueError says what else came); outputs are allocated, or written to `out`, so that a captured step
allocates nothing.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import C_TYPES, blocks, conv_tf32, launch, output, require, require_real

FILE = "conv.cu"
# what becomes of a sum: as in conv.cu
PLAIN, BIAS, RELU, MASK, NORMALISE, NORMALISE_WINDOW = range(6)
LANE_OUTPUTS = 32  # of a block; packed weights are padded to a multiple of this
COLUMNS = 32  # pixels of a block, in x


MANY_BLOCKS = 1024  # so many blocks of 32 x 8 pixels keep any GPU of today busy


class Normalise(NamedTuple):
    """Local response normalisation to follow a convolution: `lrn.forward`, n = 5, beta = 0.75."""

    k: float = 1.0
    alpha: float = 2e-5
    window: Array | None = None  # (OH, OW), multiplied in


class Plan(NamedTuple):
    """How a convolution is computed, not what: whatever is None is chosen or made here."""

    packed: Array | None = None  # what `pack` made of the weights, for this direction
    out: Array | None = None  # where the result goes
    tf32: bool = False  # on tensor cores, factors rounded to TF32: see conv_tf32.cu


DEFAULT_PLAN = Plan()


class _After(NamedTuple):
    """What becomes of a sum: PLAIN, BIAS, ..., and what that reads."""

    kind: int
    extra: Array  # the bias, or the output of a ReLU; PLAIN takes any array and does not read it
    normalise: Normalise = Normalise()


def _high(shape: tuple[int, int, int, int], ctype: str) -> int:
    """Rows of a thread for an output of shape (N, O, OH, OW).

    Two are less traffic for each multiplication; one makes as many blocks as possible.
    """
    n, o, oh, ow = shape
    count = n * blocks(o, LANE_OUTPUTS) * blocks(ow, COLUMNS) * blocks(oh, 8)
    return 2 if count >= MANY_BLOCKS and ctype == "float" else 1


def _weight_tile(
    channels: int, outputs: int, ctype: str, dilation: int
) -> tuple[int, int, int, int]:
    """CHANNELS, LANES_O, WARPS and RESIDENT of `conv3x3_weights`, with so many inputs, outputs."""
    lanes = 16 if outputs <= LANE_OUTPUTS else 32
    if ctype == "double":
        return min(channels, 2), lanes, 1, 2
    if channels <= 4:
        return channels if lanes == 32 else blocks(channels, 2), lanes, 1, 8
    # shared memory ends at 48 KB
    warps = min(blocks(channels, 4 * 32 // lanes), 8 if dilation == 1 else 4)
    return 4, lanes, warps, (16 if dilation == 1 else 12) // warps


def _name(ctype: str, channels: int, high: int, dilation: int, after: int) -> str:
    return f"conv3x3<{ctype}, {min(channels, 4)}, {high}, {dilation}, {after}>"


def _weights_name(ctype: str, tile: tuple[int, int, int, int], dilation: int) -> str:
    return f"conv3x3_weights<{ctype}, {', '.join(map(str, tile))}, {dilation}>"


def output_shape(h: int, w: int, padding: int, dilation: int) -> tuple[int, int]:
    """Height and width of the output of a 3x3 convolution."""
    return h + 2 * padding - 2 * dilation, w + 2 * padding - 2 * dilation


def pack(w: Array, *, flipped: bool = False, out: Array | None = None) -> Array:
    """Weights as the kernels read them: (O, C, 3, 3) -> (C, 9, O rounded up to 32s).

    flipped=True packs for the gradient to the data instead: (O, 9, C rounded up to 32s).  Pack once
    while the weights stay the same.
    """
    ctype = require_real(w, "conv.pack: w", (None, None, 3, 3))
    o, c = w.shape[:2]
    inputs, outputs = (o, c) if flipped else (c, o)
    padded = LANE_OUTPUTS * blocks(outputs, LANE_OUTPUTS)
    out = output(out, "conv.pack: out", w.dtype, (inputs, 9, padded))
    name = f"conv3x3_pack<{ctype}, {str(flipped).lower()}>"
    launch(FILE, name, (blocks(out.size, 256),), (256,), w, out, inputs, outputs, padded)
    return out


def forward(
    x: Array,
    w: Array,
    b: Array,
    *,
    padding: int = 1,
    dilation: int = 1,
    relu: bool = False,
    normalise: Normalise | None = None,
    plan: Plan = DEFAULT_PLAN,
) -> Array:
    """y = w * x + b; max(y, 0) with relu=True; with `normalise`, y after LRN and times a window.

    x (N, C, H, W), w (O, C, 3, 3), b (O,) -> y (N, O, OH, OW).  `plan.packed` is pack(w).
    A block normalises what it made, so `normalise` takes at most 32 output channels.
    """
    require_real(x, "conv.forward: x", (None, None, None, None))
    require(w, "conv.forward: w", x.dtype, (None, x.shape[1], 3, 3))
    o = len(w)
    require(b, "conv.forward: b", x.dtype, (o,))
    after = _After(RELU if relu else BIAS, b)
    n, _, height, width = x.shape
    shape = (n, o, *output_shape(height, width, padding, dilation))
    if normalise is not None:
        if relu or plan.tf32 or o > LANE_OUTPUTS:
            raise ValueError(
                "conv.forward: normalise takes no relu, no tf32 and at most 32 outputs, "
                f"got {relu}, {plan.tf32} and {o}"
            )
        after = _After(NORMALISE, b, normalise)
        if normalise.window is not None:
            require(normalise.window, "conv.forward: window", x.dtype, shape[2:])
            after = _After(NORMALISE_WINDOW, b, normalise)
    if plan.packed is None:
        plan = plan._replace(packed=pack(w))
    return _convolve("conv.forward", x, shape, padding, dilation, after, plan)


def input_gradient(
    dy: Array,
    w: Array,
    size: tuple[int, int],
    *,
    padding: int = 1,
    dilation: int = 1,
    relu_output: Array | None = None,
    plan: Plan = DEFAULT_PLAN,
) -> Array:
    """dx of `forward` without its ReLU.

    dy (N, O, OH, OW), w (O, C, 3, 3) and the size (H, W) of x -> dx (N, C, H, W).
    When x came out of a ReLU, `relu_output=x` takes the gradient through it as well: dx is 0 where
    x is 0.  `plan.packed` is pack(w, flipped=True).
    """
    map_size = output_shape(*size, padding, dilation)
    require_real(dy, "conv.input_gradient: dy", (None, None, *map_size))
    require(w, "conv.input_gradient: w", dy.dtype, (dy.shape[1], None, 3, 3))
    c = w.shape[1]
    shape = (dy.shape[0], c, *size)
    if relu_output is not None:
        require(relu_output, "conv.input_gradient: relu_output", dy.dtype, shape)
    if plan.packed is None:
        plan = plan._replace(packed=pack(w, flipped=True))
    after = _After(PLAIN, plan.packed) if relu_output is None else _After(MASK, relu_output)
    return _convolve(
        "conv.input_gradient", dy, shape, 2 * dilation - padding, dilation, after, plan
    )


def _convolve(
    who: str,
    x: Array,
    shape: tuple[int, int, int, int],
    padding: int,
    dilation: int,
    after: _After,
    plan: Plan,
) -> Array:
    """The convolution of x that has this shape; `plan.packed` is given."""
    (n, c, h, w), (_, o, oh, ow) = x.shape, shape
    if min(c, o, oh, ow, dilation) < 1:
        raise ValueError(
            f"{who}: a 3x3 kernel with dilation {dilation}, {c} input and {o} output channels "
            f"does not fit: the output would be {oh} x {ow}"
        )
    padded = LANE_OUTPUTS * blocks(o, LANE_OUTPUTS)
    require(plan.packed, f"{who}: packed", x.dtype, (c, 9, padded))
    y = output(plan.out, f"{who}: out", x.dtype, shape)
    sizes = c, h, w, o, padded, oh, ow, padding
    if plan.tf32:
        conv_tf32.check(x)
        wide, high, outputs = conv_tf32.TILE
        grid = (blocks(ow, wide), blocks(oh, high), n * (padded // outputs))
        launch(
            conv_tf32.FILE, conv_tf32.forward_name(dilation, after.kind), grid, (256,),
            x, plan.packed, after.extra, y, *sizes,
        )  # fmt: skip
        return y
    ctype = C_TYPES[str(x.dtype)]
    high = _high(shape, ctype)
    grid = (blocks(ow, COLUMNS), blocks(oh, 4 * high), n * (padded // LANE_OUTPUTS))
    name, (*factors, window) = _name(ctype, c, high, dilation, after.kind), after.normalise
    launch(
        FILE, name, grid, (128,), x, plan.packed, after.extra,
        after.extra if window is None else window, y, *sizes, *map(x.dtype.type, factors),
    )  # fmt: skip
    return y


def weight_gradient(
    dy: Array,
    x: Array,
    *,
    padding: int = 1,
    dilation: int = 1,
    out: tuple[Array, Array] | None = None,
    part: Array | None = None,
    tf32: bool = False,
) -> tuple[Array, Array]:
    """dw and db of `forward` without its ReLU.

    dy (N, O, OH, OW), x (N, C, H, W) -> dw (O, C, 3, 3), db (O,), written to `out` if given.
    The same sum in the same order at every run.  `part` is room for any number of partial sums, of
    shape (number, 9 C + 1, O); parts(...) of them are allocated here if it is not given.
    """
    who = "conv.weight_gradient"
    ctype = require_real(x, f"{who}: x", (None, None, None, None))
    n, c, h, w = x.shape
    oh, ow = output_shape(h, w, padding, dilation)
    require(dy, f"{who}: dy", x.dtype, (n, None, oh, ow))
    o = dy.shape[1]
    if min(c, o, oh, ow, dilation) < 1:
        raise ValueError(f"{who}: x and dy must not be empty, got {x.shape} and {dy.shape}")
    if part is None:
        part = backend.cupy().empty((parts(dy.shape, c), 9 * c + 1, o), x.dtype)
    require(part, f"{who}: part", x.dtype, (None, 9 * c + 1, o))
    count = len(part)
    dw, db = out or (None, None)
    dw = output(dw, f"{who}: dw", x.dtype, (o, c, 3, 3))
    db = output(db, f"{who}: db", x.dtype, (o,))
    if tf32:
        conv_tf32.check(x)
        warps = conv_tf32.weight_warps(c, dilation)
        file, name = conv_tf32.FILE, conv_tf32.weights_name(warps, dilation)
        grid = count, blocks(c, conv_tf32.CHANNELS * warps), blocks(o, LANE_OUTPUTS)
    else:
        tile = channels, lanes, warps, _ = _weight_tile(c, o, ctype, dilation)
        file, name = FILE, _weights_name(ctype, tile, dilation)
        grid = count, blocks(c, channels * (32 // lanes) * warps), blocks(o, 2 * lanes)
    launch(file, name, grid, (32 * warps,), x, dy, part, n, c, h, w, o, oh, ow, padding)
    name = f"conv3x3_weights_sum<{ctype}>"
    launch(FILE, name, (blocks((9 * c + 1) * o, 32),), (32, 8), part, dw, db, count, c, o)
    return dw, db


def parts(shape: tuple[int, ...], channels: int) -> int:
    """How many partial sums `weight_gradient` makes for dy of this shape, with so many inputs."""
    n, _, oh, ow = shape
    tiles = n * blocks(ow, 32) * blocks(oh, 2)
    return max(1, min(tiles, 1584 if channels <= 4 else 528 if channels <= 32 else 264))


# Channels in and out and dilation of the layers of `network.ARCHITECTURES`.
LAYERS = ((3, 32, 1), (3, 64, 1), (32, 32, 1), (64, 32, 1), (64, 64, 1), (64, 128, 1),
          (128, 32, 1), (64, 32, 2))  # fmt: skip


def _expressions() -> Iterator[str]:
    """Everything that the networks of `network.ARCHITECTURES` launch, for few images and many."""
    afters = (PLAIN, BIAS, MASK, NORMALISE, NORMALISE_WINDOW)
    kinds = [(3, 1, RELU), (4, 1, RELU), *itertools.product((4,), (1, 2), afters)]
    for ctype, highs in (("float", (1, 2)), ("double", (1,))):
        yield from (f"conv3x3_pack<{ctype}, {flipped}>" for flipped in ("false", "true"))
        for high, (channels, dilation, after) in itertools.product(highs, kinds):
            yield _name(ctype, channels, high, dilation, after)
        weight_tiles = {(_weight_tile(c, o, ctype, d), d) for c, o, d in LAYERS}
        yield from (_weights_name(ctype, *pair) for pair in sorted(weight_tiles))
        yield f"conv3x3_weights_sum<{ctype}>"


EXPRESSIONS = tuple(_expressions())
