"""Launch functions of `dft.cu`: the band-limited real Fourier transform and its inverse."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import C_TYPES, blocks, launch, output, require

EXPRESSIONS = tuple(
    f"{kernel}<{ctype}, {tile}{sign}>"
    for kernel, sign in (
        ("rows_forward", ""),
        ("columns_transform", ", -1"),
        ("columns_transform", ", 1"),
        ("rows_inverse", ""),
    )
    for ctype, tiles in (("float", (2, 4, 8)), ("double", (2,)))
    for tile in tiles
)
COMPLEX: dict[Any, Any] = {
    np.dtype(np.float32): np.dtype(np.complex64),
    np.dtype(np.float64): np.dtype(np.complex128),
}
COLUMNS = 32  # columns of a block's tile


class DftTables(NamedTuple):
    """Cosines and sines of one band on the device.

    Each table is (inner index, output index) complex, with cos + i sin in each entry.
    """

    shape: tuple[int, int]  # (H, W) of the image
    limits: tuple[int, int]  # (KU, KV)
    dtype: np.dtype  # of the image
    rows_forward: Array  # (W//2 + 1, KV + 1)
    columns_forward: Array  # (H//2 + 1, KU + 1)
    columns_inverse: Array  # (KU + 1, H//2 + 1)
    rows_inverse: Array  # (KV + 1, W//2 + 1), times c_v / (H W)

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        return 2 * self.limits[0] + 1, self.limits[1] + 1


def make_tables(shape: tuple[int, int], limits: tuple[int, int], dtype: Any) -> DftTables:
    """Tables for images of `shape` (H, W) and the band |u| <= KU, v <= KV.

    These are the shape and the limits of a `fourier.Band`, which has checked them.  Made once per
    band, on the current device.
    """
    (height, width), (ku, kv) = shape, limits
    complex_ = COMPLEX[np.dtype(dtype)]
    rows = _table(width // 2 + 1, kv + 1, width)
    columns = _table(height // 2 + 1, ku + 1, height)
    mirror_count = np.where(np.arange(kv + 1) == 0, 1.0, 2.0)  # c_v of ops.fourier
    rows_inverse = rows.T * (mirror_count / (height * width))[:, None]
    tables = (
        backend.cupy().asarray(table.astype(complex_, order="C"))
        for table in (rows, columns, columns.T, rows_inverse)
    )
    return DftTables(shape, limits, np.dtype(dtype), *tables)


def kept_tables(shape: tuple[int, int], limits: tuple[int, int], dtype: Any) -> DftTables:
    """`make_tables` on the current device, made once for each."""
    return _kept_tables(shape, limits, np.dtype(dtype), backend.cupy().cuda.Device().id)


@functools.lru_cache(maxsize=64)
def _kept_tables(
    shape: tuple[int, int], limits: tuple[int, int], dtype: np.dtype, device: int
) -> DftTables:
    return make_tables(shape, limits, dtype)


def _table(inner: int, outputs: int, length: int) -> np.ndarray:
    """exp(2 pi i k j / length), k < inner, j < outputs; angles are reduced in exact integers."""
    angle = 2 * np.pi / length * (np.outer(np.arange(inner), np.arange(outputs)) % length)
    return np.cos(angle) + 1j * np.sin(angle)


def rfft2(
    x: Array, tables: DftTables, *, out: Array | None = None, work: Array | None = None
) -> Array:
    """The kept bins of the transform of real images, as `ops.fourier.rfft2` with a band.

    x: (..., H, W) of the tables' dtype.
    Returns (..., 2 KU + 1, KV + 1) complex, in `out` if given.
    `work`, if given, is (..., H, KV + 1) complex: the transform along rows only.
    """
    height, width = tables.shape
    lead, complex_, columns = x.shape[:-2], COMPLEX[tables.dtype], tables.limits[1] + 1
    require(x, "rfft2: x", tables.dtype, (*lead, height, width))
    out = output(out, "rfft2: out", complex_, (*lead, *tables.spectrum_shape))
    work = output(work, "rfft2: work", complex_, (*lead, height, columns))
    maps = math.prod(lead)
    _product("rows_forward", "", maps * height, columns, tables, x, tables.rows_forward, work,
             maps * height, width, columns)  # fmt: skip
    _columns(-1, maps, height, tables, work, tables.columns_forward, out)
    return out


def irfft2(
    xf: Array, tables: DftTables, *, out: Array | None = None, work: Array | None = None
) -> Array:
    """The real images of these bins, as `ops.fourier.irfft2` with a band.

    xf: (..., 2 KU + 1, KV + 1) complex.
    Returns (..., H, W), in `out` if given; `work` as for `rfft2`.
    """
    height, width = tables.shape
    lead, complex_, columns = xf.shape[:-2], COMPLEX[tables.dtype], tables.limits[1] + 1
    require(xf, "irfft2: xf", complex_, (*lead, *tables.spectrum_shape))
    out = output(out, "irfft2: out", tables.dtype, (*lead, height, width))
    work = output(work, "irfft2: work", complex_, (*lead, height, columns))
    maps = math.prod(lead)
    _columns(1, maps, tables.spectrum_shape[0], tables, xf, tables.columns_inverse, work)
    _product("rows_inverse", "", maps * height, width // 2 + 1, tables, work, tables.rows_inverse,
             out, maps * height, columns, width)  # fmt: skip
    return out


def _columns(
    sign: int, maps: int, length: int, tables: DftTables, x: Array, table: Array, out: Array
) -> None:
    """Transform along the columns, `length` positions to as many as `out` has.

    sign: of the exponent, -1 forward, 1 inverse.
    """
    bins = tables.limits[1] + 1
    rows = 2 * maps * bins
    _product("columns_transform", f", {sign}", rows, table.shape[1], tables, x, table, out,
             rows, length, out.shape[-2], bins)  # fmt: skip


def _product(
    kernel: str,
    sign: str,
    rows: int,
    columns: int,
    tables: DftTables,
    x: Array,
    table: Array,
    out: Array,
    *sizes: int,
) -> None:
    """One matrix product of rows x columns.

    Small ones take small tiles, so that there are blocks for every SM.
    """
    tile = 2 if tables.dtype == np.float64 or rows < 1 << 13 else 4 if rows < 1 << 16 else 8
    name = f"{kernel}<{C_TYPES[str(tables.dtype)]}, {tile}{sign}>"
    grid = (blocks(rows, 16 * tile), blocks(columns, COLUMNS))
    launch("dft.cu", name, grid, (128,), x, table, out, *sizes)
