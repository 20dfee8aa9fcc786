"""The two-dimensional real Fourier transform, full or band-limited, and its gradients' conventions.

Transforms are unnormalised forward, 1/(HW) backward, over the last two axes, and keep half of the
spectrum: columns v = 0 .. W//2, since X[-u, -v] = conj X[u, v] for a real image.

**The paper's gradients (Eqs. 5-6).**  For a real image z with transform Z = rfft2(z), and
dz = dL/dz, the paper's "dL/dZ*" is

    dZ = rfft2(dz)            dz = irfft2(dZ)                                       (Eq. 5)

with no normalisation and no weights: the very transforms of the forward pass.  It is not the
gradient by the real and imaginary part of the stored bins, but a multiple of it:

    dZ[u, v] = (H W / c_v) * (dL/dRe Z[u, v] + i dL/dIm Z[u, v])
    c_v = 2, but 1 in column 0 and, for even W, in the last column

c_v counts how often the bin stands in the full spectrum: the half spectrum keeps one of each
conjugate pair, so moving a stored bin moves its mirror image as well.  `ops.dcf` uses the paper's
convention throughout; `gradcheck` converts.  `rfft2_adjoint` and `irfft2_adjoint` are the true
adjoints, weights included: <rfft2(x), d> = <x, rfft2_adjoint(d)> with <a, b> = Re sum conj(a) b
over the stored bins.

**The band.**  A Gaussian label is narrow in frequency, and the response is the label's transform
times a ratio that is bounded by about one, so bins beyond some |u|, |v| > K carry nothing.  Keeping
2K+1 rows and K+1 columns is exact to rounding, costs a fifth at K = 28 and turns the transform into
two small matrix products (see `Band`).
"""

from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..backend import Array, array_module
from ..kernels import dft
from ..support import fft

# |Y| of a Gaussian label falls to 3.7e-8 of its peak at 5.85 standard deviations in frequency, to
# 1e-15 at 8.3; the rounding of the label's own transform is a few 1e-16.
NEGLIGIBLE = {np.dtype(np.float32): 3.7e-8, np.dtype(np.float64): 1e-15}


class Band(NamedTuple):
    """The kept part of a half spectrum, rows u = 0..KU, -KU..-1 and columns v = 0..KV, and its DFT
    matrices.

    The columns' real and imaginary parts stand in turn: read as complex numbers, a product with
    them is the transform along s, and back they multiply real and imaginary parts.
    """

    shape: tuple[int, int]  # (H, W) of the image
    limits: tuple[int, int]  # (KU, KV)
    rows: Array  # (2(KU+1), H): cos(2 pi u r / H) over sin(2 pi u r / H)
    columns: Array  # (W, 2(KV+1)): cos(2 pi v s / W), -sin(2 pi v s / W) in turn
    inverse_columns: Array  # (2(KV+1), W): the same turned, times c_v / (H W)

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        return 2 * self.limits[0] + 1, self.limits[1] + 1


def make_band(
    shape: tuple[int, int], limits: int | tuple[int, int], dtype: Any = np.float32, xp: Any = np
) -> Band:
    """Keep |u| <= KU and v <= KV of a spectrum of an image of `shape` (H, W).

    limits: (KU, KV), or one number for both.  xp: the array module of the matrices.  Raises
    ValueError unless 2 KU + 1 <= H and 2 KV + 1 <= W: then no kept bin but those of column 0 is its
    own mirror image.
    """
    height, width = shape
    ku, kv = (limits, limits) if isinstance(limits, int) else limits
    if min(ku, kv) < 0 or 2 * ku + 1 > height or 2 * kv + 1 > width:
        raise ValueError(
            f"make_band: limits must satisfy 2 K + 1 <= size, got {(ku, kv)} for an image of "
            f"{shape}"
        )
    # Angles are reduced modulo the size in exact integers, so that the matrices are right to the
    # last bit.
    u, v = np.arange(ku + 1), np.arange(kv + 1)
    row_angle = 2 * np.pi / height * (np.outer(u, np.arange(height)) % height)
    column_angle = 2 * np.pi / width * (np.outer(np.arange(width), v) % width)
    rows = np.vstack([np.cos(row_angle), np.sin(row_angle)]).astype(dtype)
    columns = np.stack([np.cos(column_angle), -np.sin(column_angle)], axis=2)
    columns = columns.reshape(width, -1).astype(dtype)
    weights = np.where(v == 0, 1, 2).astype(dtype) / (height * width)  # mirror images counted
    inverse = np.ascontiguousarray((columns * np.repeat(weights, 2)).T)
    return Band((height, width), (ku, kv), *map(xp.asarray, (rows, columns, inverse)))


def label_band(label: Array, dtype: Any = None) -> Band | None:
    """The band that a label (H, W) needs in arithmetic of `dtype`, its own by default.

    None when it is (nearly) the full spectrum.  Taken from the label's own spectrum, so that a
    random label gets None and a Gaussian one of standard deviation s at size N gets K = ceil(5.85 N
    / (2 pi s)) in float32: 28 at padding 2, 24 at padding 1.5.
    """
    xp = array_module(label)
    dtype = np.dtype(label.dtype if dtype is None else dtype)
    height, width = label.shape
    magnitude = abs(rfft2(label.astype(np.float64)))
    rows, columns = xp.nonzero(magnitude > NEGLIGIBLE[dtype] * magnitude.max())
    limits = int(xp.minimum(rows, height - rows).max()) + 1, int(columns.max()) + 1
    if 2 * limits[0] + 1 >= height or 2 * limits[1] + 1 >= width:
        return None
    return make_band((height, width), limits, dtype, xp)


def rfft2(x: Array, band: Band | None = None) -> Array:
    """X[u, v] = sum over r, s of x[r, s] exp(-2 pi i (u r / H + v s / W)), the kept bins.

    x: (..., H, W) real.  Returns (..., H, W//2 + 1), or (..., 2 KU + 1, KV + 1) with a band,
    complex.
    """
    xp = array_module(x)
    if band is None:
        return fft.rfft2(x, xp)
    if x.shape[-2:] != band.shape:
        height, width = band.shape
        raise ValueError(f"rfft2: x must be (..., {height}, {width}) for this band, got {x.shape}")
    if xp is not np and kernels.enabled():
        return dft.rfft2(xp.ascontiguousarray(x), dft.kept_tables(band.shape, band.limits, x.dtype))
    parts = (band.rows @ (x @ band.columns)).view(xp.result_type(x.dtype, np.complex64))
    return join_parts(parts, band)


def join_parts(parts: Array, band: Band) -> Array:
    """The kept bins from C = sum over r of cos(2 pi u r / H) z[r] and S, the same with sines.

    z is the image transformed along s.  exp(-i a) z = cos(a) z - i sin(a) z, so bin u is C - i S,
    and bin -u is C + i S.  parts: (..., 2(KU+1), KV+1) complex, C over S.  Returns (..., 2 KU + 1,
    KV + 1).
    """
    ku, _ = band.limits
    c, s = parts[..., : ku + 1, :], -1j * parts[..., ku + 1 :, :]
    return array_module(parts).concatenate([c + s, (c - s)[..., :0:-1, :]], axis=-2)


def irfft2(xf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """The real image of `shape` (H, W) whose half spectrum is `xf`; dropped bins count as zero.

    xf: (..., H, W//2 + 1), or (..., 2 KU + 1, KV + 1) with a band.  `shape` has no default on
    purpose: a half spectrum does not tell an odd width from an even one, and NumPy's default is
    even (121 would come back as 120).
    """
    xp = array_module(xf)
    if band is None:
        return fft.irfft2(xf, shape, xp)
    if shape != band.shape or xf.shape[-2:] != band.spectrum_shape:
        raise ValueError(
            f"irfft2: expected {band.spectrum_shape} bins for {band.shape}, "
            f"got {xf.shape} for {shape}"
        )
    real = xf.real.dtype
    if xp is not np and kernels.enabled():
        return dft.irfft2(xp.ascontiguousarray(xf), dft.kept_tables(band.shape, band.limits, real))
    return band.rows.T @ split_parts(xf, band).view(real) @ band.inverse_columns


def shift_spectrum(
    xf: Array, displacement: tuple[int, int], shape: tuple[int, int], band: Band | None = None
) -> Array:
    """The spectrum of the image moved by minus `displacement` (rows, columns), around its edges.

    X[u, v] exp(2 pi i (u dr / H + v dc / W)).  xf: as `rfft2` gives it for an image of `shape`.
    """
    height, width = shape
    ku, kv = (height // 2, width // 2) if band is None else band.limits
    xp, (rows, columns) = array_module(xf), displacement
    u = xp.arange(xf.shape[-2])
    u = xp.where(u > ku, u - xf.shape[-2], u)  # from 0 up, then the negative ones
    angle = (u * rows % height / height)[:, None] + xp.arange(kv + 1) * columns % width / width
    return xf * xp.exp(2j * np.pi * angle).astype(xf.dtype)


def split_parts(xf: Array, band: Band) -> Array:
    """What cosines and sines are to be multiplied with on the way back.

    The sum over all u of exp(i a) X[u] is that over u >= 0 of cos(a) E[u] + sin(a) O[u], with

        E[u] = X[u] + X[-u]            O[u] = i (X[u] - X[-u])            E[0] = X[0],  O[0] = 0

    xf: (..., 2 KU + 1, KV + 1).  Returns (..., 2(KU+1), KV+1) complex, E over O.
    """
    ku, _ = band.limits
    first, positive, negative = xf[..., :1, :], xf[..., 1 : ku + 1, :], xf[..., :ku:-1, :]
    xp, even, odd = array_module(xf), positive + negative, 1j * (positive - negative)
    return xp.concatenate([first, even, xp.zeros_like(first), odd], axis=-2)


def mirror_count(shape: tuple[int, int], band: Band | None, dtype: Any, xp: Any = np) -> Array:
    """c_v of the module's docstring, how often a bin of column v stands in the full spectrum."""
    columns = shape[1] // 2 + 1 if band is None else band.limits[1] + 1
    count = xp.full(columns, 2, dtype)
    count[0] = 1
    if band is None and shape[1] % 2 == 0:
        count[-1] = 1
    return count


def inner(af: Array, bf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """<a, b> = sum over pixels of a b, from the spectra of real images: Parseval.

    1 / (H W) times the sum over the full spectrum of Re(conj(a^) b^), each stored bin counted as
    often as it stands there.  af, bf: (..., bins).  Returns one number.
    """
    count = mirror_count(shape, band, af.real.dtype, array_module(af, bf))
    return (count * (af.conj() * bf).real).sum() / (shape[0] * shape[1])


def rfft2_adjoint(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """True adjoint of `rfft2`, Eq. 5 with its weights: dL/dx from dxf = dL/dRe X + i dL/dIm X.

    Each stored bin counts once here and c_v times in `irfft2`: dx = H W irfft2(dxf / c).  Returns
    (..., H, W).
    """
    count = mirror_count(shape, band, dxf.real.dtype, array_module(dxf))
    return irfft2(dxf / count, shape, band) * dxf.real.dtype.type(shape[0] * shape[1])


def irfft2_adjoint(dx: Array, band: Band | None = None) -> Array:
    """True adjoint of `irfft2`: dL/dRe X + i dL/dIm X of the stored bins, c / (H W) * rfft2(dx)."""
    shape = dx.shape[-2:]
    count = mirror_count(shape, band, dx.dtype, array_module(dx))
    return rfft2(dx, band) * (count / dx.dtype.type(shape[0] * shape[1]))
