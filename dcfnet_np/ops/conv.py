"""Two-dimensional convolution (cross-correlation, as every network library has it), stride 1.

    y[n, o, r, s] = b[o] + sum over c, i, j of
                    w[o, c, i, j] * xp[n, c, r + i*dilation, s + j*dilation]

xp is x with `padding` zeros on each side.  The sum over c and j, for one kernel row i, is a matrix
product: side by side copies of xp, each shifted by one column of the kernel, are stacked as the
rows of a matrix

    stack[c*KW + j, r*OW + s] = xp[c, r, s + j*dilation]

and kernel row i reads the columns of that matrix from i*dilation*OW on.  So a 3x3 kernel needs
three copies of the input, not the nine of plain im2col, and three BLAS calls.  `conv2d` in
tests/support/naive.py is the definition, and kernels/conv.cu does the same on a GPU.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..backend import Array, array_module
from ..kernels import conv as conv_kernels


class ConvCache(NamedTuple):
    x: Array  # (N, C, H, W)
    w: Array  # (O, C, KH, KW)
    padding: int
    dilation: int


def output_size(size: int, kernel: int, padding: int, dilation: int) -> int:
    """Length of the output along one axis; stride 1."""
    return size + 2 * padding - dilation * (kernel - 1)


def conv2d_forward(
    x: Array, w: Array, b: Array, *, padding: int = 1, dilation: int = 1
) -> tuple[Array, ConvCache]:
    """y = w * x + b, stride 1.

    x: (N, C, H, W); w: (O, C, KH, KW); b: (O,); all one float dtype.  y: (N, O, OH, OW) with
    OH = H + 2 padding - dilation (KH - 1).  Raises ValueError when the shapes do not fit, TypeError
    for mixed dtypes.
    """
    xp = array_module(x, w, b)
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or b.shape != w.shape[:1]:
        raise ValueError(
            "conv2d_forward: x must be (N, C, H, W), w (O, C, KH, KW) and b (O,), "
            f"got {x.shape}, {w.shape}, {b.shape}"
        )
    if not x.dtype == w.dtype == b.dtype:
        got = f"{x.dtype}, {w.dtype}, {b.dtype}"
        raise TypeError(f"conv2d_forward: x, w and b must have one dtype, got {got}")
    if padding < 0 or dilation < 1:
        got = f"{padding} and {dilation}"
        raise ValueError(f"conv2d_forward: padding must be >= 0 and dilation >= 1, got {got}")
    o, _, kh, kw = w.shape
    oh, ow = _output_shape(x, w, padding, dilation)
    if oh < 1 or ow < 1:
        kernel = f"{kh}x{kw} kernel with dilation {dilation}"
        raise ValueError(f"conv2d_forward: a {kernel} does not fit into {x.shape}")
    cache = ConvCache(x, w, padding, dilation)
    if xp is not np and kernels.enabled() and (kh, kw) == (3, 3):
        arrays = map(xp.ascontiguousarray, (x, w, b))
        return conv_kernels.forward(*arrays, padding=padding, dilation=dilation), cache

    y = xp.empty((len(x), o, oh * ow), x.dtype)
    kernel_rows = _rows(w)
    for images in _blocks(xp, len(x)):
        stack = _stack_columns(x[images], kw, ow, padding, dilation)
        y[images] = b[:, None]
        for i in range(kh):
            first = i * dilation * ow
            y[images] += kernel_rows[i] @ stack[:, :, first : first + oh * ow]
    return y.reshape(len(x), o, oh, ow), cache


def conv2d_backward(
    dy: Array, cache: ConvCache, *, input_gradient: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients of `conv2d_forward`: each of its steps in reverse order.

        db = sum of dy over images and pixels
        dw_i = dy @ stack_i^T            stack_i: the columns of `stack` that kernel row i reads
        dstack_i += w_i^T @ dy           then the shifted copies add up to dx

    dy: (N, O, OH, OW).  Returns dx (None when `input_gradient` is false: the first layer needs
    none), dw, db.
    """
    x, w, padding, dilation = cache
    xp = array_module(dy, x, w)
    n, c, h, width = x.shape
    o, _, kh, kw = w.shape
    oh, ow = _output_shape(x, w, padding, dilation)
    if dy.shape != (n, o, oh, ow):
        wanted = n, o, oh, ow
        raise ValueError(f"conv2d_backward: dy must have the shape of y, {wanted}, got {dy.shape}")

    dy = xp.ascontiguousarray(dy)
    if xp is not np and kernels.enabled() and (kh, kw) == (3, 3):
        options: Any = {"padding": padding, "dilation": dilation}
        x, w = xp.ascontiguousarray(x), xp.ascontiguousarray(w)
        dw, db = conv_kernels.weight_gradient(dy, x, **options)
        if not input_gradient:
            return None, dw, db
        return conv_kernels.input_gradient(dy, w, (h, width), **options), dw, db

    dy = dy.reshape(n, o, oh * ow)
    db = dy.sum((0, 2))
    drows = xp.zeros((kh, o, c * kw), w.dtype)
    columns = [slice(i * dilation * ow, i * dilation * ow + oh * ow) for i in range(kh)]
    for images in _blocks(xp, n):
        stack = _stack_columns(x[images], kw, ow, padding, dilation)
        for i in range(kh):
            drows[i] += (dy[images] @ stack[:, :, columns[i]].transpose(0, 2, 1)).sum(0)
    dw = xp.ascontiguousarray(drows.reshape(kh, o, c, kw).transpose(1, 2, 0, 3))
    if not input_gradient:
        return None, dw, db

    dx = xp.empty_like(x)
    kernel_rows = _rows(w)
    for images in _blocks(xp, n):
        dstack = xp.zeros((len(x[images]), c * kw, (h + 2 * padding) * ow), x.dtype)
        for i in range(kh):
            dstack[:, :, columns[i]] += kernel_rows[i].T @ dy[images]
        dx[images] = _unstack_columns(dstack, x[images].shape, kw, padding, dilation)
    return dx, dw, db


def _output_shape(x: Array, w: Array, padding: int, dilation: int) -> tuple[int, int]:
    height, width = x.shape[2:]
    kh, kw = w.shape[2:]
    return output_size(height, kh, padding, dilation), output_size(width, kw, padding, dilation)


def _stack_columns(
    x: Array, kernel_width: int, out_width: int, padding: int, dilation: int
) -> Array:
    """The matrix `stack`: x (N, C, H, W) -> (N, C*KW, (H + 2 padding) * OW)."""
    xp = array_module(x)
    n, c, h, w = x.shape
    padded = xp.zeros((n, c, h + 2 * padding, w + 2 * padding), x.dtype)
    padded[:, :, padding : padding + h, padding : padding + w] = x
    stack = xp.empty((n, c, kernel_width, h + 2 * padding, out_width), x.dtype)
    for j in range(kernel_width):
        stack[:, :, j] = padded[:, :, :, j * dilation : j * dilation + out_width]
    return stack.reshape(n, c * kernel_width, (h + 2 * padding) * out_width)


def _unstack_columns(
    stack: Array, shape: tuple[int, ...], kernel_width: int, padding: int, dilation: int
) -> Array:
    """Adjoint of `_stack_columns`: every copy adds back to where it was taken, dx of `shape`."""
    xp = array_module(stack)
    n, c, h, w = shape
    out_width = stack.shape[2] // (h + 2 * padding)
    stack = stack.reshape(n, c, kernel_width, h + 2 * padding, out_width)
    padded = xp.zeros((n, c, h + 2 * padding, w + 2 * padding), stack.dtype)
    for j in range(kernel_width):
        padded[:, :, :, j * dilation : j * dilation + out_width] += stack[:, :, j]
    return padded[:, :, padding : padding + h, padding : padding + w]


def _rows(w: Array) -> Array:
    """Kernel rows as matrices: w (O, C, KH, KW) -> (KH, O, C*KW)."""
    o, c, kh, kw = w.shape
    return array_module(w).ascontiguousarray(w.transpose(2, 0, 1, 3)).reshape(kh, o, c * kw)


def _blocks(xp: object, n: int) -> Iterator[slice]:
    """Images to work on at once: one on a CPU, where its stack stays in cache; all on a GPU."""
    step = 1 if xp is np else max(n, 1)
    for start in range(0, n, step):
        yield slice(start, start + step)
