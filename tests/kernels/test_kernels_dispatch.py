"""Array code on CuPy: where it hands over to kernels, and the guard before cuFFT.

And where DCFNET_KERNELS=0 keeps it.  CuPy is played by the stand-in, whose arrays are NumPy's:
`array_module` is what tells the two apart.
"""

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu, on_gpu

from dcfnet_np import backend
from dcfnet_np.backend import DeviceError, to_numpy
from dcfnet_np.ops import conv, fourier, lrn
from dcfnet_np.support import fft as fft_module


@pytest.fixture
def launched(monkeypatch):
    """Ops take their arrays for CuPy's; returns the list of the kernels that are launched."""
    on_cpu(monkeypatch, cuda_on_cpu)
    for module in (conv, fourier, lrn):
        monkeypatch.setattr(module, "array_module", lambda *arrays: cuda_on_cpu)
    names, run = [], cuda_on_cpu.Kernel.run
    monkeypatch.setattr(
        cuda_on_cpu.Kernel,
        "run",
        lambda kernel, *args: names.append(kernel.name.split("<")[0]) or run(kernel, *args),
    )
    return names


def convolve(rng, dtype):
    x, w, b = (
        rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 7, 6), (4, 3, 3, 3), (4,))
    )
    y, cache = conv.conv2d_forward(x[:, :, ::-1], w, b, padding=1)  # not contiguous
    return y, *conv.conv2d_backward(y * 0.5, cache)


def normalise(rng, dtype):
    x = rng.standard_normal((2, 6, 5, 4)).astype(dtype)[..., ::-1]
    y, cache = lrn.lrn_forward(x, alpha=0.9)
    return y, lrn.lrn_backward(y + 1, cache)


def transform(rng, dtype):
    band = fourier.make_band((9, 11), (3, 4), dtype)
    spectrum = fourier.rfft2(
        rng.standard_normal((2, 3, 11, 9)).astype(dtype).swapaxes(-1, -2), band
    )
    return spectrum, fourier.irfft2(spectrum * (1 + 2j), (9, 11), band)


OPS = {convolve: "conv3x3", normalise: "lrn_forward", transform: "rows_forward"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", OPS)
def test_ops_hand_over_to_kernels(monkeypatch, op, dtype, request):
    want = op(np.random.default_rng(5), dtype)
    names = request.getfixturevalue("launched")
    got = op(np.random.default_rng(5), dtype)
    assert OPS[op] in names
    names.clear()
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    array_code = op(np.random.default_rng(5), dtype)
    assert names == []
    for by_kernels, by_arrays, value in zip(got, array_code, want):
        assert by_kernels.dtype == by_arrays.dtype == value.dtype
        limit = 50 * np.finfo(dtype).eps * abs(value).max()
        np.testing.assert_allclose(by_kernels, value, atol=limit)
        np.testing.assert_allclose(by_arrays, value, atol=limit)


class BrokenFft:
    """Transforms of which one goes wrong after so many right ones of its kind."""

    def __init__(self, forward=99, back=99):
        self.left = {"rfft2": forward, "irfft2": back}

    def rfft2(self, x):
        return self.count("rfft2", np.fft.rfft2(x))

    def irfft2(self, x, s):
        return self.count("irfft2", np.fft.irfft2(x, s=s))

    def count(self, name, result):
        self.left[name] -= 1
        if self.left[name] < 0:
            result.reshape(-1)[-1] += 3
        return result


@pytest.mark.parametrize(
    "fft, use",
    [
        (BrokenFft(), None),
        (BrokenFft(forward=0), "first"),
        (BrokenFft(back=0), "first"),
        (BrokenFft(forward=1), "second"),
        (BrokenFft(back=1), "second"),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (1, 8, 5), (7, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_wrong_cufft_is_noticed(launched, monkeypatch, fft, use, shape, dtype):
    fft = BrokenFft(fft.left["rfft2"], fft.left["irfft2"])
    monkeypatch.setattr(cuda_on_cpu, "fft", fft, raising=False)
    fft_module._check_cufft.cache_clear()
    x = np.ones(shape, dtype)
    if use is None:
        for _ in range(3):
            assert fourier.rfft2(x).shape == (*shape[:-1], shape[-1] // 2 + 1)
            assert fourier.irfft2(fourier.rfft2(x), shape[-2:]).shape == shape
        # once for a shape, then trusted
        assert fft.left == {"rfft2": 99 - 2 - 6, "irfft2": 99 - 2 - 3}
        return
    with pytest.raises(
        DeviceError, match=rf"wrong transform at the {use} use of its plan .* on cuda:0; use band"
    ):
        fourier.rfft2(x)
    with pytest.raises(DeviceError, match="wrong transform"):  # still not trusted
        fft.left = {"rfft2": 0, "irfft2": 0}
        fourier.irfft2(
            np.ones((*shape[:-1], shape[-1] // 2 + 1), np.result_type(dtype, np.complex64)),
            shape[-2:],
        )


@pytest.mark.gpu
@pytest.mark.parametrize("size", [121, 125, 128, 151])
def test_cufft_and_the_band_of_kernels_agree_on_a_gpu(rng, size):
    """The full spectrum by cuFFT, plans made once and used again, and the same bins by kernels."""
    put = on_gpu()
    x = rng.standard_normal((4, 32, size, size)).astype(np.float32)
    limit = (size - 1) // 2
    band, plans = fourier.make_band((size, size), limit), backend.cupy().fft.config.get_plan_cache()
    rows = [*range(limit + 1), *range(size - limit, size)]
    sizes = []
    for _ in range(3):
        full = fourier.rfft2(put(x))
        kept = to_numpy(fourier.rfft2(put(x), band))
        want = np.fft.rfft2(x.astype(np.float64))
        assert abs(to_numpy(full) - want).max() < 2e-6 * abs(want).max()
        assert abs(kept - want[..., rows, : limit + 1]).max() < 2e-6 * abs(want).max()
        assert abs(to_numpy(fourier.irfft2(full, (size, size))) - x).max() < 1e-5
        sizes.append(plans.get_curr_size())
    assert sizes[0] == sizes[2]
