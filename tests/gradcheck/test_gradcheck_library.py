"""The checker on the library: ops at shapes nobody chose, and the run of `dcfnet gradcheck`."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dcfnet_np import backend
from dcfnet_np.gradcheck import GradientError, check, run_all
from dcfnet_np.ops import conv, dcf, fourier, lrn, relu

# --- our ops at shapes nobody chose ---

shapes = arrays.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=6)
few = settings(max_examples=25, deadline=None, derandomize=True)
kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))


@few
@given(shapes, st.integers(1, 4), kernels, st.integers(0, 2), st.integers(1, 2))
def test_conv_of_any_shape(shape, out, kernel, padding, dilation):
    if any(conv.output_size(size, k, padding, dilation) < 1 for size, k in zip(shape[2:], kernel)):
        return
    rng = np.random.default_rng(sum(shape))
    inputs = [rng.standard_normal(s) for s in (shape, (out, shape[1], *kernel), (out,))]
    options = {"padding": padding, "dilation": dilation, "exhaustive_limit": 200}
    check(conv.conv2d_forward, conv.conv2d_backward, inputs, **options)


@few
@given(shapes, st.sampled_from([1, 3, 5, 7]), st.sampled_from([0.5, 0.75, 1.0]))
def test_lrn_of_any_shape(shape, n, beta):
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    options = {"n": n, "beta": beta, "alpha": 0.9, "exhaustive_limit": 200}
    check(lrn.lrn_forward, lrn.lrn_backward, [x], **options)


@few
@given(shapes, st.data())
def test_dcf_of_any_shape(shape, data):
    """Full spectrum or any band that fits; 1x1 maps and single channels too."""
    rng = np.random.default_rng(sum(shape))
    inputs, label = rng.standard_normal((2, *shape)), rng.standard_normal(shape[2:])
    bands = st.tuples(*(st.integers(0, (size - 1) // 2) for size in shape[2:]))
    limits = data.draw(st.none() | bands)
    band = None if limits is None else fourier.make_band(shape[2:], limits, np.float64)
    options = {"label_f": fourier.rfft2(label, band), "lam": 2.0, "band": band}
    check(dcf.dcf_forward, dcf.dcf_backward, [*inputs], exhaustive_limit=200, **options)


@few
@given(shapes, st.sampled_from([np.float32, np.float64]), st.integers(0, 3))
def test_the_checker_at_any_shape(shape, dtype, dims_dropped):
    """Right passes, a tenth off does not, whatever the number of axes."""
    x = np.random.default_rng(sum(shape)).standard_normal(shape[dims_dropped:]).astype(dtype)
    for factor in (1, dtype(1.1)):
        with contextlib.nullcontext() if factor == 1 else pytest.raises(GradientError):
            check(lambda x: (np.sin(x), x), lambda dy, x, f=factor: dy * np.cos(x) * f, [x])


# --- the whole library ---


def test_every_op_and_equation_is_right():
    rows = run_all()
    assert [str(r) for r in rows if not r.ok] == []
    assert all(r.error <= (5e-8 if r.equation else 1e-6) for r in rows)
    assert {r.equation for r in rows} == {*map(str, range(1, 12)), "2-3", "5-11", "12-13", "13", ""}
    names = {"relu", "network to loss, padding same", "network to loss, padding valid"}
    assert names <= {r.name for r in rows}


def test_every_op_and_equation_is_right_in_float32():
    rows = run_all(precision=np.float32)
    assert [str(r) for r in rows if not r.ok] == []
    assert all(r.limit < 0.03 for r in rows)
    assert {r.equation for r in rows} >= {*map(str, range(3, 12)), "13", ""}


@pytest.mark.gpu
def test_every_op_and_equation_is_right_on_a_gpu():
    try:
        backend.select_device("cuda")
    except backend.DeviceError as error:
        pytest.skip(str(error))
    assert [str(r) for r in run_all("cuda") if not r.ok] == []


def test_an_unknown_case_or_device():
    with pytest.raises(ValueError, match=r"no check equation 14; there are conv, .*, relu, "):
        run_all(only=["relu", "equation 14"])
    with pytest.raises(ValueError, match="device must be"):
        run_all(device="tpu")


def test_an_op_that_raises_becomes_a_row(monkeypatch):
    def broken(x):
        raise MemoryError("no room")

    monkeypatch.setattr(relu, "relu_forward", broken)
    rows = run_all(only=["relu", "equation 4"])
    assert [r.ok for r in rows] == [False] + [True] * 7
    assert rows[0].name == "relu" and rows[0].note == "MemoryError: no room"
