"""3x3 convolution with half the multiplications: Winograd's F(4, 3) along the rows of an image.

Four neighbouring outputs y0..y3 of a row need six inputs d0..d5 and three taps g0..g2.  Plainly
that is 12 products; as polynomials, multiplied through their values at the points 0, 1, -1, 2, -2
and infinity, it is six:

    y = A^T ((G g) * (B^T d))                            * elementwise, one product a point

Source: Winograd, Arithmetic Complexity of Computations, 1980; the matrices are those of Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, Sec. 4.3.  Kernel rows and
channels are summed between the two transforms: with U = G g, V = B^T d and the tiles of four
columns numbered by t, a convolution is six matrix products a row,

    M[e, r, o, t] = sum over i, c of  U[e, o, (i, c)] V[e, r + i, c, t],      e = 0..5

**The layout.**  `tiles` are images cut into tiles of four columns, which are kept apart:

    tiles[k, r, c, t] = image[c, r, 4t + k],      k = 0..3, t = 0..T-1, zero beyond the width

so that each transform is a handful of additions of long arrays.  Rows stand before channels: rows
r, r+1, r+2 of V lie one after another and are, with no copy, the matrix of 3C rows that M's product
needs (`kernel_rows`).  A tile also needs one column of each neighbour, so one more t, always zero,
stands before the first: `tiles` is (4, R, C, 1 + T).

A backward function is its forward function transposed, with the same matrices.  All write into
arrays of the caller.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

# B^T, G and A^T, as the literature prints them.  Functions below spell B^T and A^T as additions.
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)


def make_tiles(rows: int, channels: int, width: int, dtype: Any) -> np.ndarray:
    """Zero `tiles` for an image of `width` columns: (4, rows, channels, 1 + ceil(width / 4)).

    Behind each of the four stands one more zero, the right neighbour of the very last tile.
    """
    line = 1 + -(-width // 4)
    flat = np.zeros((4, rows * channels * line + 1), dtype)
    strides = np.empty((rows, channels, line), dtype).strides
    return as_strided(flat, (4, rows, channels, line), (flat.strides[0], *strides))


def kernel_rows(v: np.ndarray, rows: int) -> np.ndarray:
    """Rows r, r+1, r+2 of `v` as one matrix, for each of `rows` outputs.

    (..., R, C, T) -> (..., rows, 3C, T), a view.  The channels of a row must stand right after
    those of the row before.  Rows overlap: not to be written.
    """
    *lead, height, c, tiles = v.shape
    if height < rows + 2 or v.strides[-3] != c * v.strides[-2]:
        raise ValueError(
            f"kernel_rows: v must have {rows + 2} rows and channels side by side, "
            f"got {v.shape}, {v.strides}"
        )
    return as_strided(v, (*lead, rows, 3 * c, tiles), v.strides, writeable=False)


def kernel_transform(w: np.ndarray) -> np.ndarray:
    """U = G g along a kernel's columns.  w: (O, C, 3, 3) -> (6, 1, O, 3C), its last axis (i, c)."""
    u = np.einsum("ej,ocij->eoic", KERNEL.astype(w.dtype), w)
    return np.ascontiguousarray(u).reshape(6, 1, w.shape[0], -1)


def kernel_transform_backward(du: np.ndarray) -> np.ndarray:
    """dg = G^T dU.  du: (6, O, 3C), the last axis (i, c).  Returns dw (O, C, 3, 3)."""
    du = du.reshape(6, du.shape[1], 3, -1)
    return np.einsum("ej,eoic->ocij", KERNEL.astype(du.dtype), du)


def reversed_kernel(u: np.ndarray) -> np.ndarray:
    """U for the gradient of V: dV[e, r] = sum over i of U[e, i]^T dM[e, r - i].

    So kernel rows go from last to first.  u: (6, 1, O, 3C).  Returns (6, 1, C, 3O).
    """
    _, _, o, columns = u.shape
    c = columns // 3
    turned = u.reshape(6, o, 3, c)[:, :, ::-1].transpose(0, 3, 2, 1)
    return np.ascontiguousarray(turned).reshape(6, 1, c, 3 * o)


def kernel_products(
    dm: np.ndarray, v: np.ndarray, dm_pixels: np.ndarray, v_pixels: np.ndarray
) -> np.ndarray:
    """dU[e, o, (i, c)] = sum over r, t of dM[e, r, o, t] V[e, r + i, c, t].

    dm: (6, R, O, T); v: (6, R + 2, C, T), any strides.  Written: dm_pixels (R, T, O) and v_pixels
    (R + 2, T, C), one e at a time with channels last, so that each (e, i) is one product over all
    pixels.  Returns (6, O, 3C).
    """
    rows, _, o = dm_pixels.shape
    c = v_pixels.shape[2]
    du = np.empty((6, o, 3, c), dm.dtype)
    for e in range(6):
        dm_pixels[...] = dm[e].transpose(0, 2, 1)
        v_pixels[...] = v[e].transpose(0, 2, 1)
        for i in range(3):
            du[e, :, i] = dm_pixels.reshape(-1, o).T @ v_pixels[i : i + rows].reshape(-1, c)
    return du.reshape(6, o, 3 * c)


def _neighbours(tiles: np.ndarray) -> list[np.ndarray]:
    """The six columns d0..d5 that a tile's outputs need, for all tiles at once: flat views.

    d1..d4 are the tile's own columns, d0 the last one of its left neighbour, d5 the first one of
    its right neighbour.  Left out is the very first element, a zero before a tile.
    """
    if len(tiles) != 4 or tiles.strides[0] != (tiles[0].size + 1) * tiles.itemsize:
        raise ValueError(
            "winograd: tiles must be (4, R, C, 1 + T) of make_tiles, "
            f"got {tiles.shape}, {tiles.strides}"
        )
    flat = as_strided(tiles, (4, tiles[0].size + 1), (tiles.strides[0], tiles.itemsize))
    return [flat[3, :-2], flat[0, 1:-1], flat[1, 1:-1], flat[2, 1:-1], flat[3, 1:-1], flat[0, 2:]]


def input_transform(tiles: np.ndarray, v: np.ndarray, work: np.ndarray) -> None:
    """V = B^T d.  tiles: (4, R, C, 1 + T); written: v (6, R, C, 1 + T), work (R, C, 1 + T).

    With a = d4 - 4 d2, b = d3 - 4 d1, c = d4 - d2, e = 2 (d3 - d1) the rows of B^T are
    4 (d0 - d2) + c,  a + b,  a - b,  c + e,  c - e,  d5 - d3 - 2e.
    """
    d0, d1, d2, d3, d4, d5 = _neighbours(tiles)
    v0, v1, v2, v3, v4, v5 = v.reshape(6, -1)[:, 1:]
    w = work.reshape(-1)[1:]
    np.multiply(d2, -4, out=v1)
    v1 += d4  # a
    np.multiply(d1, -4, out=w)
    w += d3  # b
    np.subtract(v1, w, out=v2)
    v1 += w
    np.subtract(d4, d2, out=v3)  # c
    np.subtract(d0, d2, out=v0)
    v0 *= 4
    v0 += v3
    np.subtract(d3, d1, out=w)
    w *= 2  # e
    np.subtract(v3, w, out=v4)
    v3 += w
    w *= 2
    np.subtract(d5, d3, out=v5)
    v5 -= w


def input_transform_backward(dv: np.ndarray, dtiles: np.ndarray, work: np.ndarray) -> None:
    """dd = B dV, added up where tiles share a column.

    dv: (6, R, C, 1 + T), zero at place 0 of the last axis; used up.  Written: dtiles (4, R, C,
    1 + T), work (R, C, 1 + T).

    With s = dv1 + dv2, u = dv1 - dv2, p = dv3 + dv4, q = 2 (dv3 - dv4) the columns of B^T give
    dd0 = 4 dv0,  dd1 = 4 (dv5 - u) - q,  dd2 = -5 dv0 - 4 s - p,  dd3 = u + q - 5 dv5,
    dd4 = dv0 + s + p,  dd5 = dv5.
    """
    d0, d1, d2, d3, d4, d5 = _neighbours(dtiles)
    v0, v1, v2, v3, v4, v5 = dv.reshape(6, -1)[:, 1:]
    w = work.reshape(-1)[1:]
    d0[0] = d5[-1] = 0  # beyond the first and the last tile, where no other column writes
    np.subtract(v1, v2, out=w)  # u
    v1 += v2  # s
    np.subtract(v3, v4, out=v2)
    v2 *= 2  # q
    v3 += v4  # p
    np.subtract(v5, w, out=d1)
    d1 *= 4
    d1 -= v2
    np.add(w, v2, out=d3)
    np.multiply(v5, 5, out=w)
    d3 -= w
    np.add(v0, v1, out=d4)
    d4 += v3
    v1 *= 4
    v1 += v3
    np.multiply(v0, -5, out=d2)
    d2 -= v1
    v0 *= 4
    d0 += v0  # the left neighbour's last column, d4 above
    d5 += v5  # the right neighbour's first column, d1 above


def output_transform(m: np.ndarray, y: np.ndarray) -> None:
    """y = A^T m.  m: (6, R, O, T), used up; y: (4, R, O, T), any strides, written.

    With p = m1 + m2, q = m1 - m2, r = m3 + m4, s = m3 - m4 the rows of A^T are  m0 + p + r,
    q + 2s,  p + 4r,  q + 8s + m5.  A bias may be added to m1 alone: the column of A^T is all ones.
    """
    m0, m1, m2, m3, m4, m5 = m
    m5 += m1
    m5 -= m2  # q + m5
    m1 += m2  # p
    m2 *= -2
    m2 += m1  # q
    m0 += m1
    m0 += m3
    np.add(m0, m4, out=y[0])
    m3 -= m4  # s
    m3 *= 2
    np.add(m2, m3, out=y[1])
    m4 *= 8
    m3 *= 2  # 4s
    m4 += m3  # 4s + 8 m4 = 4r
    np.add(m1, m4, out=y[2])
    m3 *= 2
    np.add(m5, m3, out=y[3])


def output_transform_backward(dy: np.ndarray, dm: np.ndarray) -> None:
    """dM = A dy.  dy: (4, R, O, T), any strides; dm: (6, R, O, T), any strides, written.

    With e = dy0 + dy2, o = dy1 + dy3, f = dy0 + 4 dy2, h = 2 dy1 + 8 dy3 the rows of A are
    dy0,  e + o,  e - o,  f + h,  f - h,  dy3.
    """
    np.multiply(dy[2], 3, out=dm[4])
    np.add(dy[0], dy[2], out=dm[2])  # e
    dm[4] += dm[2]  # f
    np.add(dy[1], dy[3], out=dm[5])  # o
    np.add(dm[2], dm[5], out=dm[1])
    dm[2] -= dm[5]
    np.multiply(dy[3], 6, out=dm[0])
    dm[5] *= 2
    dm[0] += dm[5]  # h = 2 o + 6 dy3
    np.add(dm[4], dm[0], out=dm[3])
    dm[4] -= dm[0]
    dm[0] = dy[0]
    dm[5] = dy[3]


# --- the whole, for checks; `strip` does it in memory of its own


class WinogradCache(NamedTuple):
    v: np.ndarray  # (6, H + 2, C, 1 + T)
    u: np.ndarray  # (6, 1, O, 3C)
    shape: tuple[int, int, int]  # (C, H, W)


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, WinogradCache]:
    """The convolution of `ops.conv` of one image, padding 1: x (C, H, W) -> y (O, H, W)."""
    _, height, width = x.shape
    tiles = to_tiles(x, 1)
    v, work = np.empty((6, *tiles.shape[1:]), x.dtype), np.empty(tiles.shape[1:], x.dtype)
    input_transform(tiles, v, work)
    u = kernel_transform(w)
    m = u @ kernel_rows(v[..., 1:], height)
    m[1] += b[:, None]
    y = np.empty((4, *m.shape[1:]), x.dtype)
    output_transform(m, y)
    return from_tiles(y, width), WinogradCache(v, u, x.shape)


def conv2d_backward(
    dy: np.ndarray, cache: WinogradCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients dx, dw, db of `conv2d_forward`, its steps in reverse."""
    v, u, (c, height, width) = cache
    o = len(dy)
    tiles = v.shape[3] - 1
    dm = np.zeros((6, height + 4, o, 1 + tiles), dy.dtype)  # two rows of zeros above and below
    inner = dm[:, 2:-2, :, 1:]
    output_transform_backward(to_tiles(dy, 0)[..., 1:], inner)
    pixels = np.empty((height, tiles, o), dy.dtype), np.empty((height + 2, tiles, c), dy.dtype)
    dw = kernel_transform_backward(kernel_products(inner, v[..., 1:], *pixels))
    dv = np.zeros_like(v)
    np.matmul(reversed_kernel(u), kernel_rows(dm[..., 1:], height + 2), out=dv[..., 1:])
    dx = make_tiles(height + 2, c, width, dy.dtype)
    input_transform_backward(dv, dx, np.empty(dx.shape[1:], dy.dtype))
    return from_tiles(dx[:, 1:-1, :, 1:], width), dw, inner[1].sum((0, 2))


def to_tiles(x: np.ndarray, padding: int) -> np.ndarray:
    """An image (C, H, W) as tiles, `padding` rows of zeros above and below."""
    c, height, width = x.shape
    tiles = make_tiles(height + 2 * padding, c, width, x.dtype)
    for k in range(4):
        columns = x[:, :, k::4].transpose(1, 0, 2)
        tiles[k, padding : padding + height, :, 1 : 1 + columns.shape[2]] = columns
    return tiles


def from_tiles(y: np.ndarray, width: int) -> np.ndarray:
    """(4, R, C, T) -> (C, R, width), what lies beyond the width left out."""
    return y.transpose(2, 1, 3, 0).reshape(y.shape[2], y.shape[1], -1)[:, :, :width]
