"""The rules of a pair: each first mistake gets one line that says what to do."""

import numpy as np
import pytest
from pairs import assert_fails, by_element, power, power_backward, quadratic, quadratic_backward

from dcfnet_np.gradcheck import check

A = np.arange(12.0).reshape(3, 4) + 0.5


@pytest.fixture
def square(rng):
    """x and w, square, so that a transposed gradient has the right shape."""
    return rng.standard_normal((4, 4)), rng.standard_normal((4, 4))


def ignores_strides(a):
    """What a raw kernel sees that never looks at strides: the first elements in memory."""
    start = a if a.base is None else a.base
    return start.reshape(-1)[: a.size].reshape(a.shape)


def test_nobody_writes_into_inputs_or_dy(square):
    def writes_input(x, w):
        y, cache = quadratic(x, w)
        x *= 2
        return y, cache

    def writes_cache(dy, cache):
        gradients = quadratic_backward(dy, cache)
        cache[1][0, 0] = 0
        return gradients

    def writes_dy(dy, cache):
        gradients = quadratic_backward(dy, cache)
        dy *= 2
        return gradients

    before = [a.copy() for a in square]
    assert_fails("forward has written into input 0", writes_input, quadratic_backward, square)
    assert_fails("backward has written into input 1", quadratic, writes_cache, square)
    assert_fails("backward has written into dy", quadratic, writes_dy, square)
    assert all(np.array_equal(a, b) for a, b in zip(square, before, strict=True))


def test_strides_are_heeded(square):
    def forward(x, w):
        return quadratic(ignores_strides(x), w)

    def backward(dy, cache):
        return quadratic_backward(ignores_strides(dy), cache)

    when = "differs by nan when inputs are not contiguous"
    assert_fails(f"y {when}", forward, quadratic_backward, square)
    assert_fails(f"gradient 0 {when}", quadratic, backward, square)


def test_a_random_pair_is_named(rng):
    def dropout(x):
        mask = rng.random(x.shape) > 0.5
        return x * mask, mask

    when = "differs by .* when run twice: draw random numbers once"
    assert_fails(f"dropout: y {when}", dropout, lambda dy, mask: dy * mask, [A])
    backward = by_element(np.square, lambda x: 2 * x * rng.random())[1]
    assert_fails(f"power: gradient 0 {when}", power, backward, [A])


def test_gradients_must_have_the_form_of_the_inputs(square):
    for returned, message in (
        (lambda dx, dw: dx, "backward must return 2 gradients, got 1"),
        (lambda dx, dw: (dx, dw, dw), "backward must return 2 gradients, got 3"),
        (lambda dx, dw: (dx, None), r"gradient 1 must be float64 \(4, 4\), as its input; got None"),
        (lambda dx, dw: (dx[None], dw), r"gradient 0 .* got float64 \(1, 4, 4\)"),
        (lambda dx, dw: (dx, dw.astype(np.float32)), r"gradient 1 .* got float32 \(4, 4\)"),
        (lambda dx, dw: (dx, dw + 0j), r"gradient 1 .* got complex128 \(4, 4\)"),
    ):

        def backward(dy, cache, returned=returned):
            return returned(*quadratic_backward(dy, cache))

        assert assert_fails(message, quadratic, backward, square).results == []


LIST = r"the inputs of power must be a list of arrays, such as \[x\], got float"
OF_INPUTS = [
    (A, rf"{LIST}64 \(3, 4\)"),
    (3.0, LIST),
    ([], "must hold at least one array, got none"),
    ([[1.0, 2.0]], r"input 0 of power must be an array, .* got a list of 2"),
    ([2.0], "input 0 of power must be an array, .* got float"),
    ([np.float64(2)], r"must be an array, .* got float64 \(\)"),
    ([A.astype(int)], "got int64; convert it, or give what has no gradient"),
    ([A.astype(np.float16)], "must be float64 or complex128 .*got float16"),
    ([A, A], r"forward is called as forward\(input 0, input 1\), but too"),
    ([A * np.inf], "check: input 0 of power must be finite"),
]
OF_FORWARD = [
    (lambda x: x**2, r"the pair \(y, cache\), got float64 .*; without a cache"),
    (lambda x: np.stack([x, x]), r"the pair \(y, cache\), got float64 \(2, 3, 4\)"),
    (lambda x: None, r"\(y, cache\), got None \(is a `return` missing"),
    (lambda x: (x, x, x), r"the pair \(y, cache\), got a tuple of 3"),
    (lambda x: ((x, x), x), "or a float, got a tuple of 2; check several"),
    (lambda x: (int(x.sum()), x), "y must be one array or a float, got int"),
    (lambda x: (x > 1, x), "must keep the precision of its inputs, got bool"),
    (lambda x: (x.astype(np.float32), x), "keep the precision of its inputs, got float32"),
]
OF_BACKWARD = [
    (lambda dy: dy, r"backward is called as backward\(dy, cache\), but too many"),
    (2 * A, r"backward must be a function, got float64 \(3, 4\)"),
    (lambda dy, x: None, r"gradient 0 must be .*, as its input; got None"),
    (lambda dy, x: 1.0, r"gradient 0 must be .*, as its input; got float"),
    (lambda dy, x: [[1.0]], r"gradient 0 must be .*, as its input; got a list of 1"),
]


def test_a_first_mistake_gets_one_line():
    for inputs, message in OF_INPUTS:
        assert_fails(message, power, power_backward, inputs)
    for forward, message in OF_FORWARD:
        assert_fails(message, forward, power_backward, [A])
    for backward, message in OF_BACKWARD:
        assert_fails(message, power, backward, [A])
    shrinking = lambda x: (x[x > 0.5 - 1e-9], x), lambda dy, x: x
    assert_fails("the shape of y changes with the values", *shrinking, [A])


def test_other_refusals(square):
    two = quadratic, quadratic_backward
    single = square[0], square[1].astype(np.float32)
    assert_fails("must share one precision, got float64, float32", *two, single)
    assert_fails("must have 2 names, got 1", *two, square, gradient_names=("dx",))
    for name in ("step", "tolerance"):
        for value in (0, -1e-5, float("nan"), float("inf"), "1e-5", [1e-5]):
            message = f"^check: {name} must be a positive number, got "
            assert_fails(message, power, power_backward, [A], **{name: value})


def test_what_is_no_mistake(square):
    """Any byte order; y that is the input; a float for a loss; inputs of no axis, none, zeros."""
    check(power, power_backward, [A.astype(A.dtype.newbyteorder())])
    check(lambda x: (x, None), lambda dy, _: dy, [A])
    check(lambda x: (x[::-1], None), lambda dy, _: dy[::-1], [A])
    sine = by_element(np.sin, lambda x: np.asarray(np.cos(x)))
    check(*sine, [np.array(0.3)])
    check(*sine, [np.zeros((2, 3))])
    (result,) = check(*sine, [np.zeros((0, 3))])
    assert result.ok and result.checked == 0 and result.error == 0

    def backward(dy, x):
        assert isinstance(dy, float)
        return dy * 2 * x

    check(lambda x: (float((x**2).sum()), x), backward, square[:1])
