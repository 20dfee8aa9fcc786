"""The checker on gradients that are right, wrong, or cannot be measured."""

import re

import numpy as np
import pytest
from pairs import (
    EXP,
    RELU,
    assert_fails,
    by_element,
    plus,
    power,
    power_backward,
    quadratic,
    quadratic_backward,
    scaled,
    times,
)

from dcfnet_np import gradcheck
from dcfnet_np.gradcheck import check, checker, run_all, sweep
from dcfnet_np.ops import fourier, lrn


@pytest.fixture
def square(rng):
    """x and w, square, so that a transposed gradient has the right shape."""
    return rng.standard_normal((4, 4)), rng.standard_normal((4, 4))


# --- right and wrong ---


def test_a_right_gradient_passes(square):
    results = check(quadratic, quadratic_backward, square, gradient_names=("dx", "dw"), scale=1.7)
    for r, gradient in zip(results, ("dx", "dw"), strict=True):
        assert (r.name, r.gradient, r.shape) == ("quadratic", gradient, (4, 4))
        assert r.ok and 0 < r.error < 1e-8 and r.checked == 16 and r.at_kinks == 0
        assert r.numeric == pytest.approx(r.analytic, rel=1e-6)


def with_element(gradient, index, value):
    changed = gradient.copy()
    changed[index] = value
    return changed


WRONG = {
    "dropped term": lambda dx, dw, x, w, dy: (dy @ w.T, dw),
    "zero": lambda dx, dw, x, w, dy: (0 * dx, dw),
    "NaN everywhere": lambda dx, dw, x, w, dy: (dx * np.nan, dw),
    "NaN at one": lambda dx, dw, x, w, dy: (with_element(dx, (2, 1), np.nan), dw),
    "one per mille": lambda dx, dw, x, w, dy: (dx, 1.001 * dw),
    "transposed": lambda dx, dw, x, w, dy: (dx, dw.T),
    "infinite": lambda dx, dw, x, w, dy: (dx, dw + np.inf),
    "one element": lambda dx, dw, x, w, dy: (dx, with_element(dw, (3, 0), 1.01 * dw[3, 0])),
    "sign": lambda dx, dw, x, w, dy: (dx, -dw),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("exhaustive_limit", [1000, 3], ids=["every element", "directions"])
def test_a_wrong_gradient_fails(square, name, exhaustive_limit):
    def backward(dy, cache):
        return WRONG[name](*quadratic_backward(dy, cache), *cache[:2], dy)

    pair = quadratic, backward, square
    error = assert_fails("is wrong: error", *pair, exhaustive_limit=exhaustive_limit)
    broken = list(WRONG).index(name) > 3  # which of the two gradients
    assert [r.ok for r in error.results] == [i != broken for i in range(2)]
    assert f"gradient {int(broken)} (4, 4)" in str(error)
    is_nan = name.startswith("NaN") or name == "infinite"
    assert np.isnan(error.results[broken].error) == is_nan


@pytest.mark.parametrize("exhaustive_limit", [10_000, 3], ids=["every element", "directions"])
@pytest.mark.parametrize("c", [2.0, 2.0 - 0.5j])
def test_the_message_names_the_worst_index_and_both_values(rng, exhaustive_limit, c):
    x = rng.standard_normal((3, 5, 4)) + (1j * rng.standard_normal((3, 5, 4)) if c.imag else 0)
    forward, right = times(c)
    seen = {}

    def backward(dy, _):
        dx = right(dy, _)
        seen["right"], seen["wrong"] = dx[1, 4, 2], dx[1, 4, 2] * 1.25
        return with_element(dx, (1, 4, 2), seen["wrong"])

    message = r"^scaling: gradient 0 \(3, 5, 4\) is wrong"
    options = {"name": "scaling", "exhaustive_limit": exhaustive_limit}
    error = assert_fails(message, forward, backward, [x], **options)
    assert error.results[0].worst == (1, 4, 2) and "index (1, 4, 2)" in str(error)
    values = re.search(r"numeric (\S+), analytic (\S+) \(", str(error))
    assert complex(values[1]) == pytest.approx(seen["right"], rel=1e-6)
    assert complex(values[2]) == pytest.approx(seen["wrong"], rel=1e-6)


def test_a_nan_of_the_forward_pass_fails(square):
    def forward(x, w):
        y, cache = quadratic(x, w)
        return np.where(x == square[0], y, np.nan), cache  # NaN away from the point itself

    assert_fails("error nan", forward, quadratic_backward, square)


def test_a_complex_function_of_a_real_array(rng):
    x, c = rng.standard_normal(6), rng.standard_normal(6) + 1j * rng.standard_normal(6)
    forward, backward = times(c)
    check(forward, lambda dy, _: backward(dy, _).real, [x])
    assert_fails("must be float64", forward, backward, [x])


@pytest.mark.parametrize("shape", [(5, 7), (6, 4), (1, 1), (2, 2)])
def test_the_conversions_are_inverse_and_match_the_adjoint(rng, shape):
    dx = rng.standard_normal(shape)
    by_paper = fourier.rfft2(dx)
    by_bins = fourier.irfft2_adjoint(dx)
    np.testing.assert_allclose(gradcheck.from_paper(by_paper, shape), by_bins, atol=1e-15)
    np.testing.assert_allclose(gradcheck.to_paper(by_bins, shape), by_paper, atol=1e-14)
    assert gradcheck.equations.bin_counts(shape).sum() == shape[1]


# --- scales and rounding ---


def test_beside_a_large_offset_a_larger_step_measures(rng):
    x = rng.uniform(0.5, 1.0, 6)
    forward, backward = plus(3e7)
    (result,) = check(forward, backward, [x])
    assert result.too_small == 0 and result.limit < 1e-3
    assert_fails("is wrong", forward, scaled(1.01, backward), [x])


def test_what_rounding_hides_is_counted(rng):
    """One element of three is lost beside the others in a sum; alone it is a failure."""
    w, x = np.array([1e12, 1.0, 1e10]), rng.uniform(0.5, 1.0, 3)
    (result,) = check(lambda x: (x @ w, x), lambda dy, x: dy * w, [x])
    assert result.ok and result.too_small == 1 and "is right wherever it can be" in str(result)
    assert "1 of 3 too small to be measured beside the rounding of y" in result.note
    assert_fails("cannot be checked: .*1 of 1 too small to be measured", *plus(1e12), [x[:1]])


def test_rounding_is_not_taken_for_a_kink(rng):
    x = rng.uniform(0.5, 1.0, 50)
    tiny = by_element(lambda x: 1e-9 * x + 100, lambda x: np.full_like(x, 1e-9))
    for pair in (plus(2e9), tiny):
        error = assert_fails("cannot be checked: .*50 of 50 too small to be measured", *pair, [x])
        assert error.results[0].at_kinks == 0


def test_what_the_others_of_a_direction_hide_is_counted(rng):
    w = np.ones(100)
    w[7] = 1e14  # ten elements move together, and ten outputs share a dy
    (result,) = check(*times(w), [rng.uniform(0.5, 1.0, 100)], exhaustive_limit=50)
    assert 1 <= result.too_small <= 9  # those that share both
    assert f"{result.too_small} of 100 too small to be measured" in result.note


def test_a_large_input_is_moved_in_groups_of_like_gradients(rng):
    """A small gradient does not hide behind the large ones: it moves with small ones."""
    x, w = rng.uniform(0.5, 1.0, 2000), 10.0 ** rng.uniform(-3, 3, 2000)
    w[rng.permutation(2000)[:1000]] *= 1e-6
    (result,) = check(*times(w), [x])
    assert result.checked == checker.DIRECTIONS and result.too_small == 0
    smallest = np.where(w == w.min(), 2.0, 1.0)
    message = rf"worst at index \({w.argmin()},\)"
    assert_fails(message, times(w)[0], times(w * smallest)[1], [x])


def test_a_tolerance_is_of_the_largest_gradient():
    x = np.array([1.0, 1e-3])

    def forward(x):
        return float((x**2).sum()), x

    def backward(dy, x):
        return 2 * dy * x + [0, 1e-5]  # half a per cent of the small one

    check(forward, backward, [x], tolerance=1e-4)
    for options in ({"tolerance": 1e-6}, {}):
        assert_fails(r"worst at index \(1,\)", forward, backward, [x], **options)


def test_the_note_names_the_number_of_y():
    """Only where it is alone can the small one be seen beside the large one."""

    def stacked(z):
        return np.stack([1e12 * z, z]), None

    def backward(dy, _):
        return 1e12 * dy[0] + dy[1] * [-1, 1]

    assert_fails(r"dy at \(1, 0\) alone", stacked, backward, [np.array([1 + 2j, 3 - 1j])])


def test_noise_around_zero_is_no_kink():
    """Imaginary parts of a transform that are zero for every real image."""
    rows = run_all(only=["equation 5", "rfft2"])
    assert [row.at_kinks + row.too_small for row in rows] == [0] * 20


def test_a_gradient_that_is_zero(square):
    """Right where y does not depend on x; without a scale to compare with, any slope is wrong."""
    constant = by_element(lambda x: square[1] + 0 * x, np.zeros_like)
    (result,) = check(*constant, square[:1])
    assert result.error == 0 and "the analytic gradient is zero" in result.note
    message = "error inf.*the analytic gradient is zero"
    assert_fails(message, lambda x: (square[1] + 1e-4 * x, x), constant[1], square[:1])


# --- kinks ---


def test_relu_at_kinks_is_left_out_and_counted(rng):
    x = rng.choice([-1.0, 1.0], 100) * rng.uniform(0.1, 1.0, 100)
    x[:7] = 0.0
    x[7:9] = 3e-6, -7e-6  # within h of the kink: a smaller step keeps away from it
    (result,) = check(*RELU, [x])
    assert result.ok and result.at_kinks == 7 and "7 of 100 left out at kinks" in result.note
    assert "is right wherever it can be measured" in str(result)
    for wrong in (scaled(1.001, RELU[1]), lambda dy, c: dy, lambda dy, c: dy * ~c.positive):
        assert_fails("is wrong", RELU[0], wrong, [x])
    x[:21] = 0.0
    message = "cannot be checked: .*21 of 100 left out at kinks, the limit is 20%"
    assert_fails(message, *RELU, [x])


@pytest.mark.parametrize("offset", np.linspace(-1.2, 1.2, 13))
def test_beside_a_kink_a_gradient_is_measured_and_at_it_left_out(rng, offset):
    """|x| beside smooth neighbours; at the kink itself the derivative may be any in -1 .. 1."""
    first = offset * 1e-5 if abs(offset) > 0.01 else 0
    x = np.concatenate([[first], rng.uniform(0.5, 1.0, 20), [1.0]])
    for at_zero in (-1.0, 0.0, 1.0):
        absolute = by_element(abs, lambda x, d=at_zero: np.where(x == 0, d, np.sign(x)))
        (result,) = check(*absolute, [x])
        assert result.at_kinks == (x[0] == 0 and at_zero != 0)  # there the central difference is 0
    if x[0]:
        half = by_element(abs, lambda x: np.where(x == x[0], 0.5, 1) * np.sign(x))
        assert_fails(r"worst at index \(0,\)", *half, [x])


def test_a_smooth_function_never_counts_as_a_kink(rng):
    """However wrong its gradient: nothing may be excused."""
    x = 3 * rng.standard_normal(50)
    for factor in (1 + 3e-6, 1.01, -5.0):
        error = assert_fails("is wrong", EXP[0], scaled(factor, EXP[1]), [x])
        assert error.results[0].at_kinks == 0


# --- float32 ---


@pytest.mark.parametrize(
    ("forward", "backward"),
    [RELU, (lrn.lrn_forward, lrn.lrn_backward), EXP],
    ids=["relu", "lrn", "exp"],
)
def test_float32_passes_what_is_right_and_fails_what_is_half_a_percent_off(forward, backward):
    wrong = scaled(1.005, backward)
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((2, 5, 4, 3)).astype(np.float32)
        (result,) = check(forward, backward, [x], seed=seed)
        assert 0 <= result.error < 0.5 * result.limit < 1e-2
        assert_fails("is wrong", forward, wrong, [x], seed=seed)


def test_rounding_inside_the_op_is_measured(rng):
    """y does not show it: 1e3 is added and taken away again."""
    x = rng.standard_normal(12).astype(np.float32)
    limits = []
    for offset in (np.float32(0), np.float32(1e3)):
        pair = by_element(lambda x, offset=offset: (x + offset) - offset, np.ones_like)
        limits.append(check(*pair, [x])[0].limit)
    assert limits[0] < 0.002 < limits[1] < 0.1


def test_y_must_keep_float32_but_a_loss_may_be_a_float(rng):
    x = rng.standard_normal(5).astype(np.float32)
    message = "y must keep the precision of its inputs, got float64"
    assert_fails(message, *by_element(lambda x: x.astype(np.float64), np.ones_like), [x])
    check(lambda x: (float((x**2).sum()), x), lambda dy, x: np.float32(dy) * 2 * x, [x])


# --- sweeps ---


def test_a_sweep_draws_a_v(square):
    cubic = by_element(lambda x: x**3, lambda x: 3 * x**2)
    (curve,) = sweep(*cubic, square[:1], name="cubic", gradient_names=["dx"])
    assert (curve.name, curve.gradient) == ("cubic", "dx")
    steps, errors = np.array(curve.steps), np.array(curve.errors)
    assert 1e-7 < steps[errors.argmin()] < 1e-4 and errors.min() < 1e-9
    truncation = errors[(steps > 9e-4) & (steps < 0.2)]  # two steps a decade: h^2 is 10 times each
    np.testing.assert_allclose(truncation[1:] / truncation[:-1], 10, rtol=1e-3)
    assert errors[steps < 2e-13].min() > 1e-5  # rounding


def test_a_sweep_of_a_wrong_gradient_has_a_floor(square):
    (curve,) = sweep(power, scaled(1.01, power_backward), square[:1])
    assert np.median(curve.errors) == pytest.approx(0.01 / 1.01, rel=1e-3)
