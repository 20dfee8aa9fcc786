"""The checker on gradients that are wrong, and the run over the library on code that is broken."""

import re

import numpy as np
import pytest

from dcfnet_np import backend, gradcheck, network
from dcfnet_np import filter as filter_module
from dcfnet_np.gradcheck import GradientError, check, run_all
from dcfnet_np.ops import conv, dcf, fourier, loss, lrn, relu

# -------------------------------------------------- the checker, on an op with two inputs and products in both


def quadratic(x, w, scale=1.0):
    """y = scale * (x w + x^2), matrices; small and smooth, both gradients with more than one factor."""
    return scale * (x @ w + x**2), (x, w, scale)


def quadratic_backward(dy, cache):
    x, w, scale = cache
    return scale * (dy @ w.T + 2 * dy * x), scale * (x.T @ dy)


@pytest.fixture
def square(rng):
    """x and w, square, so that a transposed gradient has the right shape."""
    return rng.standard_normal((4, 4)), rng.standard_normal((4, 4))


def test_a_right_gradient_passes(square):
    results = check(quadratic, quadratic_backward, square, gradient_names=("dx", "dw"), scale=1.7)
    assert [(r.name, r.gradient, r.shape) for r in results] == [
        ("quadratic", "dx", (4, 4)),
        ("quadratic", "dw", (4, 4)),
    ]
    for r in results:
        assert r.ok and 0 < r.error < 1e-8 and r.checked == 16 and r.at_kinks == 0
        assert r.numeric == pytest.approx(r.analytic, rel=1e-6)


def dropped_term(dx, dw, x, w, dy):
    return dy @ w.T, dw


def one_per_mille(dx, dw, x, w, dy):
    return dx, 1.001 * dw


def transposed(dx, dw, x, w, dy):
    return dx, dw.T


def nan_everywhere(dx, dw, x, w, dy):
    return dx * np.nan, dw


def nan_at_one(dx, dw, x, w, dy):
    dx[2, 1] = np.nan
    return dx, dw


def infinite(dx, dw, x, w, dy):
    return dx, dw + np.inf


def zero(dx, dw, x, w, dy):
    return 0 * dx, dw


def one_element(dx, dw, x, w, dy):
    dw[3, 0] *= 1.01
    return dx, dw


def sign(dx, dw, x, w, dy):
    return dx, -dw


@pytest.mark.parametrize(
    "wrong",
    [dropped_term, one_per_mille, transposed, nan_everywhere, nan_at_one, infinite, zero, one_element, sign],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("exhaustive_limit", [1000, 3], ids=["every element", "directions"])
def test_a_wrong_gradient_fails(square, wrong, exhaustive_limit):
    def backward(dy, cache):
        x, w, _ = cache
        return wrong(*quadratic_backward(dy, cache), x, w, dy)

    with pytest.raises(GradientError, match="is wrong: error") as raised:
        check(quadratic, backward, square, exhaustive_limit=exhaustive_limit)
    broken = 0 if wrong in (dropped_term, nan_everywhere, nan_at_one, zero) else 1
    assert [r.ok for r in raised.value.results] == [i != broken for i in range(2)]
    assert f"gradient {broken} (4, 4)" in str(raised.value)
    assert np.isnan(raised.value.results[broken].error) == (wrong in (nan_everywhere, nan_at_one, infinite))


@pytest.mark.parametrize("exhaustive_limit", [10_000, 3], ids=["every element", "directions"])
@pytest.mark.parametrize("is_complex", [False, True])
def test_the_message_names_the_worst_index_and_both_values(rng, exhaustive_limit, is_complex):
    x = rng.standard_normal((3, 5, 4)) + (1j * rng.standard_normal((3, 5, 4)) if is_complex else 0)
    seen = {}

    def backward(dy, c):
        dx = dy * np.conj(c)
        seen["right"], seen["wrong"] = dx[1, 4, 2], dx[1, 4, 2] * 1.25
        dx[1, 4, 2] *= 1.25
        return dx

    def forward(x):
        c = 2.0 - 0.5j if is_complex else 2.0
        return x * c, c

    with pytest.raises(GradientError) as raised:
        check(forward, backward, (x,), name="scaling", exhaustive_limit=exhaustive_limit)
    message = str(raised.value)
    (result,) = raised.value.results
    assert "\n" not in message and message.startswith("scaling: gradient 0 (3, 5, 4) is wrong")
    assert result.worst == (1, 4, 2) and "index (1, 4, 2)" in message
    values = re.search(r"numeric (\S+), analytic (\S+) \(", message)
    assert complex(values[1]) == pytest.approx(seen["right"], rel=1e-6)
    assert complex(values[2]) == pytest.approx(seen["wrong"], rel=1e-6)


def test_a_nan_of_the_forward_pass_fails(square):
    def forward(x, w):
        y, cache = quadratic(x, w)
        return np.where(x == square[0], y, np.nan), cache  # NaN away from the point itself

    with pytest.raises(GradientError, match="error nan"):
        check(forward, quadratic_backward, square)


# ------------------------------------------------------------------------------------- complex functions


def multiply(z, c):
    return z * c, c


def test_a_complex_gradient_and_its_wrong_conjugate(rng):
    z, c = (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4)) for _ in range(2))
    check(multiply, lambda dy, c: dy * c.conj(), (z,), c=c)
    with pytest.raises(GradientError):
        check(multiply, lambda dy, c: dy * c, (z,), c=c)
    with pytest.raises(GradientError):
        check(multiply, lambda dy, c: (dy * c.conj()).conj(), (z,), c=c)


def test_a_complex_function_of_a_real_array(rng):
    x, c = rng.standard_normal(6), rng.standard_normal(6) + 1j * rng.standard_normal(6)
    check(multiply, lambda dy, c: (dy * c.conj()).real, (x,), c=c)
    with pytest.raises(GradientError, match="must be float64"):
        check(multiply, lambda dy, c: dy * c.conj(), (x,), c=c)


def test_a_real_function_of_a_complex_array(rng):
    z = rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))
    check(lambda z: (abs(z) ** 2, z), lambda dy, z: 2 * dy * z, (z,))
    with pytest.raises(GradientError):  # Wirtinger's derivative is half of dL/dRe + i dL/dIm
        check(lambda z: (abs(z) ** 2, z), lambda dy, z: dy * z, (z,))


@pytest.mark.parametrize("shape", [(5, 7), (6, 4), (1, 1), (2, 2)])
def test_the_conversions_are_inverse_and_match_the_adjoint(rng, shape):
    dx = rng.standard_normal(shape)
    by_paper = fourier.rfft2(dx)
    by_bins = fourier.irfft2_adjoint(dx)
    np.testing.assert_allclose(gradcheck.from_paper(by_paper, shape), by_bins, atol=1e-15)
    np.testing.assert_allclose(gradcheck.to_paper(by_bins, shape), by_paper, atol=1e-14)
    assert gradcheck.bin_counts(shape).sum() == shape[1]


# ---------------------------------------------------------------------------------------- rules of a pair


def writes_input(x, w):
    y, cache = quadratic(x, w)
    x *= 2
    return y, cache


def test_forward_must_not_write_its_inputs(square):
    with pytest.raises(GradientError, match="forward has written into input 0"):
        check(writes_input, quadratic_backward, square)


def test_backward_must_not_write_inputs_or_dy(square):
    def writes_cache(dy, cache):
        gradients = quadratic_backward(dy, cache)
        cache[1][0, 0] = 0
        return gradients

    def writes_dy(dy, cache):
        gradients = quadratic_backward(dy, cache)
        dy *= 2
        return gradients

    with pytest.raises(GradientError, match="backward has written into input 1"):
        check(quadratic, writes_cache, square)
    with pytest.raises(GradientError, match="backward has written into dy"):
        check(quadratic, writes_dy, square)


def test_the_callers_arrays_stay_as_they_are(square):
    before = [a.copy() for a in square]
    with pytest.raises(GradientError):
        check(writes_input, quadratic_backward, square)
    assert all(np.array_equal(a, b) for a, b in zip(square, before, strict=True))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda dx, dw: dx, "backward must return 2 gradients, got 1"),
        (lambda dx, dw: (dx, dw, dw), "backward must return 2 gradients, got 3"),
        (lambda dx, dw: (dx, None), r"gradient 1 must be float64 \(4, 4\) as its input, got None"),
        (
            lambda dx, dw: (dx[:3], dw),
            r"gradient 0 must be float64 \(4, 4\) as its input, got float64 \(3, 4\)",
        ),
        (lambda dx, dw: (dx[None], dw), r"got float64 \(1, 4, 4\)"),
        (lambda dx, dw: (dx, dw.astype(np.float32)), r"gradient 1 .* got float32 \(4, 4\)"),
        (lambda dx, dw: (dx, dw + 0j), r"gradient 1 .* got complex128 \(4, 4\)"),
    ],
)
def test_gradients_must_have_the_form_of_the_inputs(square, returned, message):
    with pytest.raises(GradientError, match=message) as raised:
        check(quadratic, lambda dy, cache: returned(*quadratic_backward(dy, cache)), square)
    assert raised.value.results == []


def test_y_must_keep_float64(square):
    def forward(x, w):
        y, cache = quadratic(x, w)
        return y.astype(np.float32), cache

    with pytest.raises(GradientError, match="y must keep the precision of its inputs, got float32"):
        check(forward, quadratic_backward, square)


def ignores_strides(a):
    """What a raw kernel sees that never looks at strides: the first elements in memory."""
    start = a if a.base is None else a.base
    return start.reshape(-1)[: a.size].reshape(a.shape)


def test_forward_must_heed_strides(square):
    def forward(x, w):
        return quadratic(ignores_strides(x), w)

    with pytest.raises(GradientError, match="y differs by nan when inputs are not contiguous"):
        check(forward, quadratic_backward, square)


def test_backward_must_heed_strides(square):
    def backward(dy, cache):
        return quadratic_backward(ignores_strides(dy), cache)

    with pytest.raises(GradientError, match="gradient 0 differs by nan when inputs are not contiguous"):
        check(quadratic, backward, square)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.complex64])
def test_inputs_must_be_double(dtype):
    with pytest.raises(TypeError, match="check: input 0 of relu_forward must be float64 or complex128, got"):
        check(relu.relu_forward, relu.relu_backward, (np.ones((2, 2), dtype),))


def test_inputs_must_be_finite():
    with pytest.raises(ValueError, match="check: input 0 of relu_forward must be finite"):
        check(relu.relu_forward, relu.relu_backward, (np.array([1.0, np.inf]),))


def test_gradient_names_must_match(square):
    with pytest.raises(ValueError, match="gradient_names must have 2 names, got 1"):
        check(quadratic, quadratic_backward, square, gradient_names=("dx",))


# ------------------------------------------------------------------------------------- shapes and scales


def test_a_float_result(square):
    def forward(x, w):
        return float((x @ w).sum()), (x, w)

    def backward(dy, cache):
        assert isinstance(dy, float)
        x, w = cache
        return dy * np.ones((4, 4)) @ w.T, dy * x.T @ np.ones((4, 4))

    check(forward, backward, square)


def test_a_zero_dimensional_input():
    check(lambda x: (np.sin(x), x), lambda dy, x: np.asarray(dy * np.cos(x)), (np.array(0.3),))


def test_an_empty_input():
    (result,) = check(relu.relu_forward, relu.relu_backward, (np.zeros((0, 3)),))
    assert result.ok and result.checked == 0 and result.error == 0


def test_an_input_of_zeros():
    check(lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x), (np.zeros((2, 3)),))


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scales_of_input_and_output(square, scale):
    def forward(x, w):
        y, cache = quadratic(x / scale, w)
        return y / scale, cache

    def backward(dy, cache):
        dx, dw = quadratic_backward(dy / scale, cache)
        return dx / scale, dw

    check(forward, backward, (scale * square[0], square[1]))


def test_a_gradient_that_is_zero(square):
    """Right where y does not depend on x; and with no scale to compare with, any slope is a failure."""
    results = check(lambda x: (square[1] + 0 * x, x), lambda dy, x: 0 * x, (square[0],))
    assert results[0].error == 0 and "the analytic gradient is zero" in results[0].note
    with pytest.raises(GradientError, match="error inf") as raised:
        check(lambda x: (square[1] + 1e-4 * x, x), lambda dy, x: 0 * x, (square[0],))
    assert "the analytic gradient is zero" in str(raised.value)


# ----------------------------------------------------------------------------------------------- kinks


def test_relu_at_kinks_is_left_out_and_counted(rng):
    x = rng.choice([-1.0, 1.0], 100) * rng.uniform(0.1, 1.0, 100)
    x[:7] = 0.0
    x[7] = 3e-6  # within h = 1e-5 of the kink, on either side
    x[8] = -7e-6
    (result,) = check(relu.relu_forward, relu.relu_backward, (x,))
    assert result.ok and result.at_kinks == 9 and "9 of 100 left out at kinks" in result.note


@pytest.mark.parametrize("offset", np.linspace(-1.2, 1.2, 25))
def test_a_kink_anywhere_within_the_step_is_seen(rng, offset):
    """|x| beside smooth neighbours; the derivative taken at the kink itself may be any between -1 and 1."""
    x = np.concatenate([[offset * 1e-5], rng.uniform(0.5, 1.0, 20), [1.0]])
    for at_zero in (-1.0, 0.0, 1.0):

        def backward(dy, x, at_zero=at_zero):
            return dy * (np.sign(x) if offset else np.where(x == 0, at_zero, np.sign(x)))

        (result,) = check(lambda x: (abs(x), x), backward, (x,))
        # Outside the step there is nothing to see, and the central difference at the kink itself is 0.
        disagrees = abs(offset) < 0.99 and (offset != 0 or at_zero != 0)
        assert result.at_kinks == disagrees


def test_too_many_kinks_are_a_failure(rng):
    x = rng.uniform(0.1, 1.0, 100)
    x[:21] = 0.0
    with pytest.raises(GradientError, match="cannot be checked: .*21 of 100 left out at kinks, the limit is 20%"):
        check(relu.relu_forward, relu.relu_backward, (x,))


def test_a_wrong_relu_fails_beside_kinks(rng):
    x = rng.standard_normal(100)
    x[:7] = 0.0
    for wrong in (lambda dy, c: 1.001 * dy * c.positive, lambda dy, c: dy, lambda dy, c: dy * ~c.positive):
        with pytest.raises(GradientError):
            check(relu.relu_forward, wrong, (x,))


def test_a_smooth_function_never_counts_as_a_kink(rng):
    """However wrong its gradient: nothing may be excused."""
    x = 3 * rng.standard_normal(50)
    for factor in (1 + 3e-6, 1.01, -5.0):
        with pytest.raises(GradientError) as raised:
            check(lambda x: (np.exp(x), x), lambda dy, x, f=factor: f * dy * np.exp(x), (x,))
        assert raised.value.results[0].at_kinks == 0


def test_a_large_relu(rng):
    x = rng.standard_normal((4, 8, 60, 60))
    (result,) = check(relu.relu_forward, relu.relu_backward, (x,))
    assert result.ok and result.checked == gradcheck.DIRECTIONS and result.worst == ()


# -------------------------------------------------------------------------------------- the whole library


def test_every_op_and_equation_is_right():
    rows = run_all()
    assert [f"{r.name} {r.gradient}: {r.error} {r.note}" for r in rows if not r.ok] == []
    assert all(r.error <= (5e-8 if r.equation else 1e-6) for r in rows)
    assert {r.equation for r in rows} == {*map(str, range(1, 12)), "2-3", "5-11", "12-13", "13", ""}
    assert {"relu", "network to loss, padding same", "network to loss, padding valid"} <= {r.name for r in rows}


@pytest.mark.gpu
def test_every_op_and_equation_is_right_on_a_gpu():
    try:
        backend.select_device("cuda")
    except backend.DeviceError as error:
        pytest.skip(str(error))
    assert [f"{r.name} {r.gradient}: {r.error} {r.note}" for r in run_all("cuda") if not r.ok] == []


def test_an_unknown_case_or_device():
    with pytest.raises(ValueError, match="run_all: only must be of conv, relu, .*, got equation 14"):
        run_all(only=["relu", "equation 14"])
    with pytest.raises(ValueError, match="device must be"):
        run_all(device="tpu")


def test_an_op_that_raises_becomes_a_row(monkeypatch):
    def broken(x):
        raise MemoryError("no room")

    monkeypatch.setattr(relu, "relu_forward", broken)
    rows = run_all(only=["relu", "equation 4"])
    assert [r.ok for r in rows] == [False, True, True]
    assert rows[0].name == "relu" and rows[0].note == "MemoryError: no room"


# Broken code.  Each entry: where a function lives, what takes its place (a function of the right one), and the
# cases of which each must fail.  A broken equation must be seen by its own case and by the whole layer's.


def changed(position, change):
    """A backward pass with one of its gradients changed."""

    def broken(right):
        def backward(*args, **options):
            gradients = right(*args, **options)
            if not isinstance(gradients, tuple):
                return change(gradients)
            return tuple(change(g) if i == position else g for i, g in enumerate(gradients))

        return backward

    return broken


def instead(function):
    """Another function altogether."""
    return lambda right: function


def _without_last_tap(dw):
    dw = dw.copy()
    dw[..., -1] = 0
    return dw


def _without_border(dx):
    dx = dx.copy()
    dx[..., -1, :] = 0
    return dx


def _lrn_backward_without_sum(dy, cache):
    return dy * lrn.power(cache.s, cache.beta)


def _lrn_backward_own_channel_only(dy, cache):
    x, y, s, *_, alpha, beta = cache
    return dy * lrn.power(s, beta) - 2 * alpha * beta * x * dy * y / s


def _energy_of_own_channel(template_f, lam):
    return abs(template_f) ** 2 + lam


def _by_template(dresponse_f, template_f, search_f, label_f, response_f, energy, drop=""):
    """Eq. 9 with a term or a conjugate missing."""
    first = search_f.conj() * (label_f if drop == "label conjugate" else label_f.conj())
    if drop == "search conjugate":
        first = search_f * label_f.conj()
    second = response_f.conj()[:, None] * template_f.conj()
    if drop == "response conjugate":
        second = response_f[:, None] * template_f.conj()
    if drop == "template conjugate":
        second = response_f.conj()[:, None] * template_f
    numerator = {"first term": -second, "second term": first}.get(drop, first - second)
    return dresponse_f[:, None] * numerator / energy


def _drop(what):
    return instead(lambda *args: _by_template(*args, drop=what))


def _by_template_of_one_channel(dresponse_f, template_f, search_f, label_f, response_f, energy):
    """Eq. 9 with one channel's own product for the whole response."""
    own_f = label_f * template_f.conj() * search_f / energy
    numerator = search_f.conj() * label_f.conj() - own_f.conj() * template_f.conj()
    return dresponse_f[:, None] * numerator / energy


class _ForgetsNothing(filter_module.OnlineFilter):
    """Adds the new frame without taking away from the old ones."""

    def update(self, template_f):
        old = None if self.numerator is None else (self.numerator.copy(), self.denominator.copy())
        super().update(template_f)
        if old:
            self.numerator += self.learning_rate * old[0]
            self.denominator += self.learning_rate * old[1]


EQ9, EQ10 = ("equation 9", "equation 11", "dcf"), ("equation 10", "equation 11", "dcf")
MUTANTS = {
    "conv: no bias": (conv, "conv2d_forward", lambda f: lambda x, w, b, **o: f(x, w, 0 * b, **o), ["conv"]),
    "conv: dx misses a row": (conv, "conv2d_backward", changed(0, _without_border), ["conv"]),
    "conv: dw misses a tap": (conv, "conv2d_backward", changed(1, _without_last_tap), ["conv"]),
    "conv: dw flipped": (
        conv,
        "conv2d_backward",
        changed(1, lambda dw: dw[..., ::-1, ::-1].copy()),
        ["conv"],
    ),
    "conv: db off by 0.1 %": (conv, "conv2d_backward", changed(2, lambda db: 1.001 * db), ["conv"]),
    "relu: passes everything": (relu, "relu_backward", instead(lambda dy, cache: dy), ["relu"]),
    "relu: leaks forward": (
        relu,
        "relu_forward",
        lambda f: lambda x: (np.maximum(x, 0.01 * x), f(x)[1]),
        ["relu"],
    ),
    "lrn: no sum": (lrn, "lrn_backward", instead(_lrn_backward_without_sum), ["lrn"]),
    "lrn: own channel only": (lrn, "lrn_backward", instead(_lrn_backward_own_channel_only), ["lrn"]),
    "lrn: off by 0.1 %": (lrn, "lrn_backward", changed(0, lambda dx: 1.001 * dx), ["lrn"]),
    "fourier: counts all 2": (
        *(fourier, "mirror_count"),
        lambda f: lambda *args: 0 * f(*args) + 2,
        ["rfft2", "irfft2", "equation 5"],
    ),
    "fourier: last column counted 2": (
        *(fourier, "mirror_count"),
        lambda f: lambda *args: np.concatenate([f(*args)[:-1], [2.0]]),
        ["rfft2", "irfft2"],
    ),
    "fourier: rfft2 adjoint without counts": (
        *(fourier, "rfft2_adjoint"),
        instead(lambda d, shape, band=None: fourier.irfft2(d, shape, band) * shape[0] * shape[1]),
        ["rfft2"],
    ),
    "fourier: irfft2 adjoint without counts": (
        *(fourier, "irfft2_adjoint"),
        instead(lambda d, band=None: fourier.rfft2(d, band) / (d.shape[-2] * d.shape[-1])),
        ["irfft2"],
    ),
    "fourier: rfft2 conjugated": (
        fourier,
        "rfft2",
        changed(0, np.conj),
        ["irfft2", "equation 5", "equation 6"],
    ),
    "loss: without the 2": (
        loss,
        "response_loss_backward",
        changed(0, lambda d: d / 2),
        ["equation 4", "equation 6"],
    ),
    "loss: without the mean": (
        loss,
        "response_loss_backward",
        changed(0, lambda d: d * len(d)),
        ["equation 4"],
    ),
    "loss: upstream ignored": (
        *(loss, "response_loss_backward"),
        lambda f: lambda cache, dloss=1.0: f(cache),
        ["equation 4"],
    ),
    "eq. 1: no lambda": (
        *(dcf, "ridge_loss"),
        lambda f: lambda w, x, y, lam: f(w, x, y, 0.0),
        ["equation 1", "equation 2"],
    ),
    "eq. 2: no lambda": (
        *(dcf, "template_energy"),
        lambda f: lambda x, lam: f(x, 0.0),
        ["equation 2", "equation 11", "dcf"],
    ),
    "eq. 2: as printed, own channel": (
        *(dcf, "template_energy"),
        instead(_energy_of_own_channel),
        ["equation 2", "equation 11", "dcf"],
    ),
    "eq. 2: label not conjugated": (
        *(dcf, "learn_filter"),
        lambda f: lambda x, y, lam: f(x, y.conj(), lam),
        ["equation 2", "equation 11"],
    ),
    "eq. 2: template conjugated": (
        *(dcf, "learn_filter"),
        lambda f: lambda x, y, lam: f(x.conj(), y, lam),
        ["equation 2", "equation 11"],
    ),
    "eq. 3: filter not conjugated": (
        *(dcf, "correlate"),
        lambda f: lambda w, z: f(w.conj(), z),
        ["equation 3", "equation 7", "dcf"],
    ),
    "eq. 3: one channel": (
        *(dcf, "correlate"),
        lambda f: lambda w, z: f(w[:, :1], z[:, :1]),
        ["equation 3", "equation 7", "dcf"],
    ),
    "eq. 7: conjugate": (
        *(dcf, "search_gradient_f"),
        lambda f: lambda d, w: f(d, w.conj()),
        ["equation 7", "dcf"],
    ),
    "eq. 7: off by 0.1 %": (dcf, "search_gradient_f", changed(0, lambda d: 1.001 * d), ["equation 7", "dcf"]),
    "eq. 8: conjugate": (
        *(dcf, "to_image"),
        lambda f: lambda d, *args: f(d.conj(), *args),
        ["equation 8", "dcf"],
    ),
    "eq. 9: no first term": (dcf, "template_gradient_f", _drop("first term"), EQ9),
    "eq. 9: no second term": (dcf, "template_gradient_f", _drop("second term"), EQ9),
    "eq. 9: label not conjugated": (dcf, "template_gradient_f", _drop("label conjugate"), EQ9),
    "eq. 9: search not conjugated": (dcf, "template_gradient_f", _drop("search conjugate"), EQ9),
    "eq. 9: response not conjugated": (dcf, "template_gradient_f", _drop("response conjugate"), EQ9),
    "eq. 9: template not conjugated": (dcf, "template_gradient_f", _drop("template conjugate"), EQ9),
    "eq. 9: one channel's response": (dcf, "template_gradient_f", instead(_by_template_of_one_channel), EQ9),
    "eq. 9: off by 0.1 %": (dcf, "template_gradient_f", changed(0, lambda d: 1.001 * d), EQ9),
    "eq. 10: sign": (dcf, "template_conj_gradient_f", changed(0, np.negative), EQ10),
    "eq. 10: conjugate": (dcf, "template_conj_gradient_f", changed(0, np.conj), EQ10),
    "eq. 10: response not conjugated": (
        *(dcf, "template_conj_gradient_f"),
        lambda f: lambda d, x, g, energy: f(d, x, g.conj(), energy),
        EQ10,
    ),
    "eq. 10: off by 0.1 %": (dcf, "template_conj_gradient_f", changed(0, lambda d: 1.001 * d), EQ10),
    "eq. 11: no eq. 9": (
        *(dcf, "template_gradient"),
        lambda f: lambda a, b, *args: f(0 * a, b, *args),
        ["equation 11", "dcf"],
    ),
    "eq. 11: no eq. 10": (
        *(dcf, "template_gradient"),
        lambda f: lambda a, b, *args: f(a, 0 * b, *args),
        ["equation 11", "dcf"],
    ),
    "eq. 11: eq. 9 not conjugated": (
        *(dcf, "template_gradient"),
        lambda f: lambda a, b, *args: f(a.conj(), b, *args),
        ["equation 11", "dcf"],
    ),
    "dcf: gradients swapped": (dcf, "dcf_backward", lambda f: lambda *args: f(*args)[::-1], ["dcf", "chain"]),
    "eq. 13: no lambda": (
        *(filter_module, "template_energy"),
        lambda f: lambda x, lam: f(x, 0.0),
        ["equation 13"],
    ),
    "eq. 13: forgets nothing": (filter_module, "OnlineFilter", instead(_ForgetsNothing), ["equation 13"]),
    "network: lrn skipped": (network, "lrn_backward", instead(lambda dy, cache: dy), ["chain"]),
    "network: relu skipped": (network, "relu_backward", instead(lambda dy, cache: dy), ["chain"]),
    "network: dw misses a tap": (network, "conv2d_backward", changed(1, _without_last_tap), ["chain"]),
    "network: db off by 0.1 %": (network, "conv2d_backward", changed(2, lambda db: 1.001 * db), ["chain"]),
}


# Fewer and smaller sizes than the real run's, one with even width and one with a band.
MUTANT_GEOMETRIES = (((3, 4), None), ((5, 4), (1, 1)))


def test_unbroken_code_passes_with_the_sizes_of_the_mutants(monkeypatch):
    monkeypatch.setattr(gradcheck, "GEOMETRIES", MUTANT_GEOMETRIES)
    assert all(row.ok for row in run_all())


@pytest.mark.parametrize("mutant", MUTANTS)
def test_broken_code_is_seen(monkeypatch, mutant):
    module, function, broken, cases = MUTANTS[mutant]
    monkeypatch.setattr(gradcheck, "GEOMETRIES", MUTANT_GEOMETRIES)
    monkeypatch.setattr(module, function, broken(getattr(module, function)))
    for case in cases:
        # A row without a shape is an exception: the mutant itself is broken, and nothing was compared.
        assert any(not row.ok and row.shape for row in run_all(only=[case])), f"{case} does not see it"
