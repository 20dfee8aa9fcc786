"""dft.cu against the array code of ops.fourier, on the CPU stand-in and on a GPU."""

import numpy as np
import pytest
from kernel_device import device  # noqa: F401

from dcfnet_np import kernels
from dcfnet_np.backend import to_numpy
from dcfnet_np.kernels import dft
from dcfnet_np.ops.fourier import irfft2, make_band, rfft2

EXACT = {np.float32: 2e-6, np.float64: 1e-14}  # of the largest value
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


def spectrum(rng, lead, band, dtype):
    shape = (*lead, *band.spectrum_shape)
    values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return values.astype(np.result_type(dtype, np.complex64))


def error(got, want):
    return abs(to_numpy(got) - want).max() / abs(want).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, limits", BANDS)
def test_both_directions_agree_with_array_code(device, rng, shape, limits, dtype):  # noqa: F811
    band, tables = make_band(shape, limits, np.float64), dft.make_tables(shape, limits, dtype)
    x = rng.standard_normal((2, 3, *shape)).astype(dtype)
    got = dft.rfft2(device(x), tables)
    assert got.dtype == np.result_type(dtype, np.complex64)
    assert error(got, rfft2(x.astype(np.float64), band)) < EXACT[dtype]

    # column 0 not Hermitian: its imaginary part must not count
    xf = spectrum(rng, (5,), band, dtype)
    got = dft.irfft2(device(xf), tables)
    assert got.dtype == dtype
    assert error(got, irfft2(xf.astype(np.complex128), shape, band)) < EXACT[dtype]


@pytest.mark.parametrize("tile", [2, 4, 8])
def test_every_tile_size(device, rng, monkeypatch, tile):  # noqa: F811
    """The launcher takes larger tiles for larger batches; here each one meets a batch that no tile
    divides.
    """
    launched = []

    def launch(file, name, grid, block, *args):
        name = name.replace(", 2", f", {tile}", 1)
        launched.append(name)
        # and an idle block
        kernels.launch(file, name, (-(-grid[0] * 2 // tile) + 1, *grid[1:]), block, *args)

    monkeypatch.setattr(dft, "launch", launch)
    band, tables = (
        make_band((11, 9), (5, 3), np.float64),
        dft.make_tables((11, 9), (5, 3), np.float32),
    )
    x = rng.standard_normal((13, 11, 9), np.float32)
    assert (
        error(dft.rfft2(device(x), tables), rfft2(x.astype(np.float64), band)) < EXACT[np.float32]
    )
    xf = spectrum(rng, (13,), band, np.float32)
    assert error(dft.irfft2(device(xf), tables), irfft2(xf, (11, 9), band)) < EXACT[np.float32]
    assert len(launched) == 4 and all(f", {tile}" in name for name in launched)


def test_what_a_band_keeps_comes_back(device, rng):  # noqa: F811
    tables = dft.make_tables((10, 15), (4, 7), np.float64)
    band = make_band((10, 15), (4, 7), np.float64)
    x = irfft2(spectrum(rng, (3,), band, np.float64), (10, 15), band)
    assert error(dft.irfft2(dft.rfft2(device(x), tables), tables), x) < 1e-14


def test_an_empty_batch_and_given_buffers(device, rng):  # noqa: F811
    tables = dft.make_tables((6, 5), (2, 2), np.float32)
    assert dft.rfft2(device(np.zeros((0, 4, 6, 5), np.float32)), tables).shape == (0, 4, 5, 3)
    assert dft.irfft2(device(np.zeros((0, 5, 3), np.complex64)), tables).shape == (0, 6, 5)
    x = device(rng.standard_normal((4, 6, 5), np.float32))
    out, work = (
        device(np.full((4, 5, 3), np.nan, np.complex64)),
        device(np.full((4, 6, 3), np.nan, np.complex64)),
    )
    assert dft.rfft2(x, tables, out=out, work=work) is out
    assert (to_numpy(out) == to_numpy(dft.rfft2(x, tables))).all()
    image = device(np.full((4, 6, 5), np.nan, np.float32))
    assert dft.irfft2(out, tables, out=image, work=work) is image
    assert (to_numpy(image) == to_numpy(dft.irfft2(out, tables))).all()


def test_errors_come_before_the_launch(device):  # noqa: F811
    tables = dft.make_tables((6, 5), (2, 2), np.float32)
    for x, error_type, message in [
        (np.zeros((1, 6, 5)), TypeError, "must be float32, got float64"),
        (np.zeros((1, 5, 6), np.float32), ValueError, r"must have shape \(1, 6, 5\)"),
        (np.zeros((1, 6, 10), np.float32)[:, :, ::2], ValueError, "C-contiguous"),
    ]:
        if message == "C-contiguous":
            x = device(x.repeat(2, 2))[:, :, ::2]
            with pytest.raises(error_type, match=message):
                dft.rfft2(x, tables)
            continue
        with pytest.raises(error_type, match=message):
            dft.rfft2(device(x), tables)
    with pytest.raises(ValueError, match="2 K"):
        dft.make_tables((6, 5), (3, 2), np.float32)
    with pytest.raises(TypeError, match="float16"):
        dft.make_tables((6, 5), (2, 2), np.float16)
