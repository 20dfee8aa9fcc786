"""dft.cu against dcfnet_np.ops.fourier."""

import numpy as np
import pytest
from kernel_device import DTYPES, EXACT, complex_numbers, relative_error

from dcfnet_np import kernels
from dcfnet_np.backend import to_numpy
from dcfnet_np.kernels import dft
from dcfnet_np.ops.fourier import irfft2, make_band, rfft2

# (H, W), (KU, KV): odd, even, not square, one pixel, wider than a tile, nothing but the mean
BANDS = [
    ((13, 13), (4, 4)),
    ((12, 10), (5, 4)),
    ((9, 40), (4, 17)),
    ((71, 6), (35, 2)),
    ((1, 1), (0, 0)),
    ((2, 3), (0, 1)),
    ((8, 8), (0, 0)),
]


@DTYPES
@pytest.mark.parametrize("shape, limits", BANDS)
def test_both_directions(device, rng, shape, limits, dtype):
    band, tables = make_band(shape, limits, np.float64), dft.make_tables(shape, limits, dtype)
    x = rng.standard_normal((2, 3, *shape)).astype(dtype)
    got = dft.rfft2(device(x), tables)
    assert got.dtype == np.result_type(dtype, np.complex64)
    assert relative_error(got, rfft2(x.astype(np.float64), band)) < EXACT[dtype]

    # column 0 not Hermitian: its imaginary part must not count
    xf = complex_numbers(rng, (5, *band.spectrum_shape), dtype)
    got = dft.irfft2(device(xf), tables)
    assert got.dtype == dtype
    assert relative_error(got, irfft2(xf.astype(np.complex128), shape, band)) < EXACT[dtype]


@pytest.mark.parametrize("tile", [2, 4, 8])
def test_every_tile_size(device, rng, monkeypatch, tile):
    """The launcher takes larger tiles for larger batches; here each meets one that none divides."""
    launched = []

    def launch(file, name, grid, block, *args):
        name = name.replace(", 2", f", {tile}", 1)
        launched.append(name)
        # and an idle block
        kernels.launch(file, name, (-(-grid[0] * 2 // tile) + 1, *grid[1:]), block, *args)

    monkeypatch.setattr(dft, "launch", launch)
    band = make_band((11, 9), (5, 3), np.float64)
    tables = dft.make_tables((11, 9), (5, 3), np.float32)
    x = rng.standard_normal((13, 11, 9), np.float32)
    want = rfft2(x.astype(np.float64), band)
    assert relative_error(dft.rfft2(device(x), tables), want) < EXACT[np.float32]
    xf = complex_numbers(rng, (13, *band.spectrum_shape), np.float32)
    want = irfft2(xf, (11, 9), band)
    assert relative_error(dft.irfft2(device(xf), tables), want) < EXACT[np.float32]
    assert len(launched) == 4 and all(f", {tile}" in name for name in launched)


def test_an_empty_batch_and_given_buffers(device, rng):
    tables = dft.make_tables((6, 5), (2, 2), np.float32)
    assert dft.rfft2(device(np.zeros((0, 4, 6, 5), np.float32)), tables).shape == (0, 4, 5, 3)
    assert dft.irfft2(device(np.zeros((0, 5, 3), np.complex64)), tables).shape == (0, 6, 5)
    x = device(rng.standard_normal((4, 6, 5), np.float32))
    out, work = (device(np.full((4, n, 3), np.nan, np.complex64)) for n in (5, 6))
    assert dft.rfft2(x, tables, out=out, work=work) is out
    assert (to_numpy(out) == to_numpy(dft.rfft2(x, tables))).all()
    image = device(np.full((4, 6, 5), np.nan, np.float32))
    assert dft.irfft2(out, tables, out=image, work=work) is image
    assert (to_numpy(image) == to_numpy(dft.irfft2(out, tables))).all()


def test_what_is_refused(device):
    tables = dft.make_tables((6, 5), (2, 2), np.float32)
    for x, message in [
        (device(np.zeros((1, 6, 5))), "must be float32, got float64"),
        (device(np.zeros((1, 5, 6), np.float32)), r"must have shape \(1, 6, 5\)"),
        (device(np.zeros((1, 6, 10), np.float32))[:, :, ::2], "C-contiguous"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            dft.rfft2(x, tables)
