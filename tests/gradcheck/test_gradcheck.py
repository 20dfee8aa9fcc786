"""The checker on gradients that are wrong, and the run over the library on code that is broken."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dcfnet_np import backend, gradcheck
from dcfnet_np.gradcheck import GradientError, check, checker, run_all, sweep
from dcfnet_np.ops import conv, dcf, fourier, lrn, relu

# -------------------------------------------------- the checker, on an op with two inputs and
# products in both


def quadratic(x, w, scale=1.0):
    """y = scale * (x w + x^2), matrices; small and smooth, both gradients with more than one
    factor.
    """
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
    [
        dropped_term,
        one_per_mille,
        transposed,
        nan_everywhere,
        nan_at_one,
        infinite,
        zero,
        one_element,
        sign,
    ],
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
    assert np.isnan(raised.value.results[broken].error) == (
        wrong in (nan_everywhere, nan_at_one, infinite)
    )


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


def test_of_several_wrong_elements_the_worst_is_named():
    factors = np.ones((3, 4))
    factors[0, 1], factors[1, 2], factors[2, 3] = 1.01, 3.0, 1.1
    x = np.linspace(1.0, 2.0, 12).reshape(3, 4)
    with pytest.raises(GradientError, match=r"worst at index \(1, 2\)"):
        check(lambda x: (x**2, x), lambda dy, x: 2 * dy * x * factors, (x,))


def test_a_nan_of_the_forward_pass_fails(square):
    def forward(x, w):
        y, cache = quadratic(x, w)
        return np.where(x == square[0], y, np.nan), cache  # NaN away from the point itself

    with pytest.raises(GradientError, match="error nan"):
        check(forward, quadratic_backward, square)


# ------------------------------------------------------------------------------------- complex
# functions


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
    assert gradcheck.equations.bin_counts(shape).sum() == shape[1]


# ---------------------------------------------------------------------------------------- rules of
# a pair


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
        (lambda dx, dw: (dx, None), r"gradient 1 must be float64 \(4, 4\), as its input; got None"),
        (
            lambda dx, dw: (dx[:3], dw),
            r"gradient 0 must be float64 \(4, 4\), as its input; got float64 \(3, 4\)",
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

    with pytest.raises(
        GradientError, match="gradient 0 differs by nan when inputs are not contiguous"
    ):
        check(quadratic, backward, square)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool])
def test_inputs_must_be_real_or_complex_of_known_precision(dtype):
    with pytest.raises(
        TypeError, match="check: input 0 of relu_forward must be float64 or complex128 .*, got"
    ):
        check(relu.relu_forward, relu.relu_backward, (np.ones((2, 2), dtype),))


def test_inputs_must_share_a_precision(square):
    with pytest.raises(
        TypeError, match="inputs of quadratic must share one precision, got float64, float32"
    ):
        check(quadratic, quadratic_backward, (square[0], square[1].astype(np.float32)))


def test_inputs_must_be_finite():
    with pytest.raises(ValueError, match="check: input 0 of relu_forward must be finite"):
        check(relu.relu_forward, relu.relu_backward, (np.array([1.0, np.inf]),))


def test_gradient_names_must_match(square):
    with pytest.raises(ValueError, match="gradient_names must have 2 names, got 1"):
        check(quadratic, quadratic_backward, square, gradient_names=("dx",))


# ------------------------------------------------------------------------------- first mistakes,
# one line each

A = np.arange(12.0).reshape(3, 4) + 0.5


def power(x):
    return x**2, x


def power_backward(dy, x):
    return 2 * dy * x


@pytest.mark.parametrize(
    ("forward", "backward", "inputs", "message"),
    [
        (
            power,
            power_backward,
            A,
            r"the inputs of power must be a list of arrays, such as \[x\], got float64 \(3, 4\)",
        ),
        (power, power_backward, 3.0, "must be a list of arrays, such as .* got float"),
        (power, power_backward, [], "must hold at least one array, got none"),
        (
            power,
            power_backward,
            [[1.0, 2.0]],
            r"input 0 of power must be an array, such as np.array\(.*got a list of 2",
        ),
        (power, power_backward, [2.0], "input 0 of power must be an array, .* got float"),
        (
            power,
            power_backward,
            [np.float64(2)],
            r"input 0 of power must be an array, .* got float64 \(\)",
        ),
        (
            power,
            power_backward,
            [A.astype(int)],
            "input 0 .* got int64; convert it, or give what has no gradient",
        ),
        (
            power,
            power_backward,
            [A, A],
            r"forward is called as forward\(input 0, input 1\), but too many",
        ),
        (power, lambda dy: dy, [A], r"backward is called as backward\(dy, cache\), but too many"),
        (power, 2 * A, [A], r"backward must be a function, got float64 \(3, 4\)"),
        (
            lambda x: x**2,
            power_backward,
            [A],
            r"return the pair \(y, cache\), got float64 .*; without a cache, `return y,",
        ),
        (
            lambda x: x**2,
            power_backward,
            [A[:2]],
            r"forward must return the pair \(y, cache\), got float64 \(2, 4\)",
        ),
        (
            lambda x: None,
            power_backward,
            [A],
            r"the pair \(y, cache\), got None \(is a `return` missing",
        ),
        (lambda x: (x, x, x), power_backward, [A], r"the pair \(y, cache\), got a tuple of 3"),
        (
            lambda x: ((x, x), x),
            power_backward,
            [A],
            "y must be one array or a float, got a tuple of 2; check several",
        ),
        (
            lambda x: (int(x.sum()), x),
            power_backward,
            [A],
            "y must be one array or a float, got int",
        ),
        (
            lambda x: (x > 1, x),
            power_backward,
            [A],
            "y must keep the precision of its inputs, got bool",
        ),
        (
            power,
            lambda dy, x: None,
            [A],
            r"gradient 0 must be float64 \(3, 4\), as its input; got None",
        ),
        (
            power,
            lambda dy, x: 1.0,
            [A],
            r"gradient 0 must be float64 \(3, 4\), as its input; got float",
        ),
        (
            power,
            lambda dy, x: [[1.0]],
            [A],
            r"gradient 0 must be float64 \(3, 4\), as its input; got a list of 1",
        ),
        (
            lambda x: (x[x > 0.5 - 1e-9], x),
            lambda dy, x: x,
            [A],
            "the shape of y changes with the values",
        ),
    ],
)
def test_a_first_mistake_gets_one_line(forward, backward, inputs, message):
    with pytest.raises((TypeError, ValueError, GradientError), match=message) as raised:
        check(forward, backward, inputs)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["step", "tolerance"])
@pytest.mark.parametrize("value", [0, -1e-5, float("nan"), float("inf"), "1e-5", [1e-5]])
def test_steps_and_tolerances_are_positive_numbers(name, value):
    with pytest.raises(
        ValueError, match=f"^check: {name} must be a positive number, got "
    ) as raised:
        check(power, power_backward, [A], **{name: value})
    assert "\n" not in str(raised.value)


def test_any_byte_order():
    (result,) = check(power, power_backward, [A.astype(A.dtype.newbyteorder())])
    assert result.ok


def test_a_random_pair_is_named(rng):
    def dropout(x):
        mask = rng.random(x.shape) > 0.5
        return x * mask, mask

    with pytest.raises(
        GradientError, match="dropout: y differs by .* when run twice: draw random numbers once"
    ):
        check(dropout, lambda dy, mask: dy * mask, [A])
    with pytest.raises(GradientError, match="power: gradient 0 differs by .* when run twice"):
        check(power, lambda dy, x: 2 * dy * x * rng.random(), [A])


def test_y_may_be_the_input_and_backward_may_return_dy():
    check(lambda x: (x, None), lambda dy, _: dy, [A])
    check(lambda x: (x[::-1], None), lambda dy, _: dy[::-1], [A])


# ------------------------------------------------------------------------------------- shapes and
# scales


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


def test_beside_a_large_offset_a_larger_step_measures(rng):
    x = rng.uniform(0.5, 1.0, 6)
    (result,) = check(lambda x: (x + 3e7, x), lambda dy, x: dy, (x,))
    assert result.too_small == 0 and result.limit < 1e-3
    with pytest.raises(GradientError, match="is wrong"):
        check(lambda x: (x + 3e7, x), lambda dy, x: 1.01 * dy, (x,))


def test_what_rounding_hides_is_counted(rng):
    """One element of three is lost beside the others in a sum; alone it is a failure."""
    w = np.array([1e12, 1.0, 1e10])
    (result,) = check(lambda x: (x @ w, x), lambda dy, x: dy * w, (rng.uniform(0.5, 1.0, 3),))
    assert result.ok and result.too_small == 1
    assert "1 of 3 too small to be measured beside the rounding of y" in result.note
    with pytest.raises(
        GradientError, match="cannot be checked: .*1 of 1 too small to be measured"
    ) as raised:
        check(
            lambda x: (x.sum() + 1e12, x),
            lambda dy, x: dy * np.ones(1),
            (rng.uniform(0.5, 1.0, 1),),
        )
    assert raised.value.results[0].too_small == 1


def test_rounding_is_not_taken_for_a_kink(rng):
    x = rng.uniform(0.5, 1.0, 50)
    for forward, slope in ((lambda x: (x + 2e9, x), 1.0), (lambda x: (1e-9 * x + 100, x), 1e-9)):
        with pytest.raises(
            GradientError, match="cannot be checked: .*50 of 50 too small to be measured"
        ) as raised:
            check(forward, lambda dy, x, slope=slope: slope * dy, (x,))
        assert raised.value.results[0].at_kinks == 0


def test_what_the_others_of_a_direction_hide_is_counted(rng):
    w = np.ones(100)
    w[7] = 1e14  # ten elements move together, and ten outputs share a dy
    (result,) = check(
        lambda x: (x * w, x),
        lambda dy, x: dy * w,
        (rng.uniform(0.5, 1.0, 100),),
        exhaustive_limit=50,
    )
    assert 1 <= result.too_small <= 9  # those that share both
    assert f"{result.too_small} of 100 too small to be measured" in result.note


def test_a_large_input_is_moved_in_groups_of_like_gradients(rng):
    """A small gradient does not hide behind the large ones: it moves with small ones."""
    x, w = rng.uniform(0.5, 1.0, 2000), 10.0 ** rng.uniform(-3, 3, 2000)
    w[rng.permutation(2000)[:1000]] *= 1e-6
    (result,) = check(lambda x: (x * w, x), lambda dy, x: dy * w, (x,))
    assert result.checked == checker.DIRECTIONS and result.too_small == 0
    smallest = np.where(w == w.min(), 2.0, 1.0)
    with pytest.raises(GradientError, match=rf"worst at index \({w.argmin()},\)"):
        check(lambda x: (x * w, x), lambda dy, x: dy * w * smallest, (x,))


def test_a_tolerance_is_of_the_largest_gradient():
    x = np.array([1.0, 1e-3])

    def forward(x):
        return float((x**2).sum()), x

    def backward(dy, x):
        return 2 * dy * x + [0, 1e-5]  # half a per cent of the small one

    check(forward, backward, (x,), tolerance=1e-4)
    for options in ({"tolerance": 1e-6}, {}):
        with pytest.raises(GradientError, match=r"worst at index \(1,\)"):
            check(forward, backward, (x,), **options)


def test_the_note_names_the_number_of_y():
    """Only where it is alone can the small one be seen beside the large one."""
    z = np.array([1 + 2j, 3 - 1j])

    def stacked(z):
        return np.stack([1e12 * z, z]), None

    with pytest.raises(GradientError, match=r"dy at \(1, 0\) alone"):
        check(stacked, lambda dy, _: 1e12 * dy[0] + dy[1] * [-1, 1], (z,))


def test_noise_around_zero_is_no_kink():
    """Imaginary parts of a transform that are zero for every real image."""
    assert [row.at_kinks + row.too_small for row in run_all(only=["equation 5", "rfft2"])] == [
        0
    ] * 20


def test_a_gradient_that_is_zero(square):
    """Right where y does not depend on x; and with no scale to compare with, any slope is a
    failure.
    """
    results = check(lambda x: (square[1] + 0 * x, x), lambda dy, x: 0 * x, (square[0],))
    assert results[0].error == 0 and "the analytic gradient is zero" in results[0].note
    with pytest.raises(GradientError, match="error inf") as raised:
        check(lambda x: (square[1] + 1e-4 * x, x), lambda dy, x: 0 * x, (square[0],))
    assert "the analytic gradient is zero" in str(raised.value)


# -----------------------------------------------------------------------------------------------
# kinks


def test_relu_at_kinks_is_left_out_and_counted(rng):
    x = rng.choice([-1.0, 1.0], 100) * rng.uniform(0.1, 1.0, 100)
    x[:7] = 0.0
    x[7:9] = 3e-6, -7e-6  # within h of the kink: a smaller step keeps away from it
    (result,) = check(relu.relu_forward, relu.relu_backward, (x,))
    assert result.ok and result.at_kinks == 7 and "7 of 100 left out at kinks" in result.note


@pytest.mark.parametrize("offset", np.linspace(-1.2, 1.2, 25))
def test_beside_a_kink_a_gradient_is_measured_and_at_it_left_out(rng, offset):
    """|x| beside smooth neighbours; the derivative taken at the kink itself may be any between -1 and 1."""
    x = np.concatenate(
        [[offset * 1e-5 if abs(offset) > 0.01 else 0], rng.uniform(0.5, 1.0, 20), [1.0]]
    )
    for at_zero in (-1.0, 0.0, 1.0):

        def backward(dy, x, at_zero=at_zero):
            return dy * np.where(x == 0, at_zero, np.sign(x))

        (result,) = check(lambda x: (abs(x), x), backward, (x,))
        assert result.at_kinks == (x[0] == 0 and at_zero != 0)  # there the central difference is 0
    if x[0]:
        with pytest.raises(GradientError, match=r"worst at index \(0,\)"):
            check(
                lambda x: (abs(x), x),
                lambda dy, x: dy * np.where(x == x[0], 0.5, 1) * np.sign(x),
                (x,),
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_smooth_zero_is_no_kink(dtype):
    """Slope 0 at 0, where the slope over +-h is h^2 or h/3 instead: not wrong, and measured."""
    x = np.array([0, 1, -2, 0.3], dtype)
    for forward, backward in (
        (lambda x: (x**3, x), lambda dy, x: 3 * dy * x**2),
        (lambda x: (x * abs(x), x), lambda dy, x: 2 * dy * abs(x)),
    ):
        (result,) = check(forward, backward, [x])
        assert result.ok and result.at_kinks == 0


def test_too_many_kinks_are_a_failure(rng):
    x = rng.uniform(0.1, 1.0, 100)
    x[:21] = 0.0
    with pytest.raises(
        GradientError, match="cannot be checked: .*21 of 100 left out at kinks, the limit is 20%"
    ):
        check(relu.relu_forward, relu.relu_backward, (x,))


def test_a_wrong_relu_fails_beside_kinks(rng):
    x = rng.standard_normal(100)
    x[:7] = 0.0
    for wrong in (
        lambda dy, c: 1.001 * dy * c.positive,
        lambda dy, c: dy,
        lambda dy, c: dy * ~c.positive,
    ):
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
    assert result.ok and result.checked == checker.DIRECTIONS and result.worst == ()


# ---------------------------------------------------------------------------------------------
# float32


def relu_pair(scale):
    return relu.relu_forward, lambda dy, cache: np.float32(scale) * relu.relu_backward(dy, cache)


def lrn_pair(scale):
    return lrn.lrn_forward, lambda dy, cache: np.float32(scale) * lrn.lrn_backward(dy, cache)


def exponential_pair(scale):
    return lambda x: (np.exp(x), x), lambda dy, x: np.float32(scale) * dy * np.exp(x)


@pytest.mark.parametrize("pair", [relu_pair, lrn_pair, exponential_pair])
def test_float32_passes_what_is_right_and_fails_what_is_half_a_percent_off(pair):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
        (result,) = check(*pair(1.0), (x,), seed=seed)
        assert 0 <= result.error < 0.5 * result.limit < 1e-2
        with pytest.raises(GradientError, match="is wrong"):
            check(*pair(1.005), (x,), seed=seed)


def test_float32_of_complex_arrays(rng):
    z, c = (
        (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))).astype(np.complex64)
        for _ in range(2)
    )
    check(multiply, lambda dy, c: dy * c.conj(), (z,), c=c)
    with pytest.raises(GradientError):
        check(multiply, lambda dy, c: dy * c, (z,), c=c)


def test_float32_says_when_it_cannot_tell(rng):
    """The sum of many large numbers, of which the gradient moves hardly anything."""
    x = rng.standard_normal(50).astype(np.float32)
    with pytest.raises(
        GradientError, match="cannot be checked: .*50 of 50 too small to be measured"
    ):
        check(lambda x: (x + np.float32(1e7), x), lambda dy, x: dy, (x,))


def test_rounding_inside_the_op_is_measured(rng):
    """y does not show it: 1e4 is added and taken away again."""
    x = rng.standard_normal(12).astype(np.float32)

    def forward(x, offset):
        return (x + np.float32(offset)) - np.float32(offset), x

    (exact,), (rounded,) = (
        check(forward, lambda dy, x: dy, (x,), offset=offset) for offset in (0, 1e3)
    )
    assert exact.limit < 0.002 and 0.002 < rounded.limit < 0.1


def test_y_must_keep_float32(rng):
    x = rng.standard_normal(5).astype(np.float32)
    with pytest.raises(GradientError, match="y must keep the precision of its inputs, got float64"):
        check(lambda x: (x.astype(np.float64), x), lambda dy, x: dy.astype(np.float32), (x,))
    # a loss may be a float
    check(lambda x: (float((x**2).sum()), x), lambda dy, x: np.float32(dy) * 2 * x, (x,))


# -----------------------------------------------------------------------------------------------
# sweeps


def test_a_sweep_draws_a_v(square):
    def cubic(x):
        return x**3, x

    (curve,) = sweep(
        cubic, lambda dy, x: 3 * x**2 * dy, square[:1], name="cubic", gradient_names=["dx"]
    )
    assert (curve.name, curve.gradient) == ("cubic", "dx")
    steps, errors = np.array(curve.steps), np.array(curve.errors)
    best = steps[errors.argmin()]
    assert 1e-7 < best < 1e-4 and errors.min() < 1e-9
    truncation = errors[(steps > 9e-4) & (steps < 0.2)]  # two steps a decade: h^2 is 10 times each
    np.testing.assert_allclose(truncation[1:] / truncation[:-1], 10, rtol=1e-3)
    assert errors[steps < 2e-13].min() > 1e-5  # rounding


def test_a_sweep_of_a_wrong_gradient_has_a_floor(square):
    (curve, _) = sweep(
        quadratic,
        lambda dy, c: (1.01 * quadratic_backward(dy, c)[0], quadratic_backward(dy, c)[1]),
        square,
    )
    assert np.median(curve.errors) == pytest.approx(0.01 / 1.01, rel=1e-3)


# -------------------------------------------------------------------------- our ops at shapes
# nobody chose

shapes = arrays.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=6)
few = settings(max_examples=25, deadline=None, derandomize=True)


@few
@given(
    shapes,
    st.integers(1, 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 2),
    st.integers(1, 2),
)
def test_conv_of_any_shape(shape, out, kernel, padding, dilation):
    if any(conv.output_size(size, k, padding, dilation) < 1 for size, k in zip(shape[2:], kernel)):
        return
    rng = np.random.default_rng(sum(shape))
    x, w, b = (rng.standard_normal(s) for s in (shape, (out, shape[1], *kernel), (out,)))
    options = {"padding": padding, "dilation": dilation}
    check(conv.conv2d_forward, conv.conv2d_backward, (x, w, b), exhaustive_limit=200, **options)


@few
@given(shapes, st.sampled_from([1, 3, 5, 7]), st.sampled_from([0.5, 0.75, 1.0]))
def test_lrn_of_any_shape(shape, n, beta):
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    check(lrn.lrn_forward, lrn.lrn_backward, (x,), n=n, beta=beta, alpha=0.9, exhaustive_limit=200)


@few
@given(shapes, st.data())
def test_dcf_of_any_shape(shape, data):
    """Full spectrum or any band that fits; 1x1 maps and single channels too."""
    rng = np.random.default_rng(sum(shape))
    template, search = rng.standard_normal((2, *shape))
    limits = data.draw(
        st.none() | st.tuples(*(st.integers(0, (size - 1) // 2) for size in shape[2:]))
    )
    band = None if limits is None else fourier.make_band(shape[2:], limits, np.float64)
    options = {
        "label_f": fourier.rfft2(rng.standard_normal(shape[2:]), band),
        "lam": 2.0,
        "band": band,
    }
    check(dcf.dcf_forward, dcf.dcf_backward, (template, search), exhaustive_limit=200, **options)


@few
@given(shapes, st.sampled_from([np.float32, np.float64]), st.integers(0, 3))
def test_the_checker_at_any_shape(shape, dtype, dims_dropped):
    """Right passes, a tenth off does not, whatever the number of axes."""
    x = np.random.default_rng(sum(shape)).standard_normal(shape[dims_dropped:]).astype(dtype)
    check(lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x), (x,))
    with pytest.raises(GradientError):
        check(lambda x: (np.sin(x), x), lambda dy, x: (dy * np.cos(x) * 1.1).astype(dtype), (x,))


# -------------------------------------------------------------------------------------- the whole
# library


def test_every_op_and_equation_is_right_in_float32():
    rows = run_all(precision=np.float32)
    assert [str(r) for r in rows if not r.ok] == []
    assert all(r.limit < 0.02 for r in rows)
    assert {r.equation for r in rows} >= {*map(str, range(3, 12)), "13", ""}


def test_every_op_and_equation_is_right():
    rows = run_all()
    assert [str(r) for r in rows if not r.ok] == []
    assert all(r.error <= (5e-8 if r.equation else 1e-6) for r in rows)
    assert {r.equation for r in rows} == {*map(str, range(1, 12)), "2-3", "5-11", "12-13", "13", ""}
    assert {"relu", "network to loss, padding same", "network to loss, padding valid"} <= {
        r.name for r in rows
    }


@pytest.mark.gpu
def test_every_op_and_equation_is_right_on_a_gpu():
    try:
        backend.select_device("cuda")
    except backend.DeviceError as error:
        pytest.skip(str(error))
    assert [str(r) for r in run_all("cuda") if not r.ok] == []


def test_an_unknown_case_or_device():
    with pytest.raises(
        ValueError, match="run_all: only must be of conv, .*, relu, .*, got equation 14"
    ):
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
