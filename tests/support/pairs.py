"""Ops to check, right and wrong, and what a check of a wrong one must say."""

import numpy as np
import pytest

from dcfnet_np.gradcheck import GradientError, check
from dcfnet_np.ops import relu


def quadratic(x, w, scale=1.0):
    """y = scale * (x w + x^2), matrices; small and smooth, gradients with several factors."""
    return scale * (x @ w + x**2), (x, w, scale)


def quadratic_backward(dy, cache):
    x, w, scale = cache
    return scale * (dy @ w.T + 2 * dy * x), scale * (x.T @ dy)


def power(x):
    return x**2, x


def power_backward(dy, x):
    return 2 * dy * x


def times(factor):
    """y = factor * x."""
    return lambda x: (factor * x, None), lambda dy, _: dy * np.conj(factor)


def by_element(f, derivative):
    return lambda x: (f(x), x), lambda dy, x: dy * derivative(x)


def plus(offset):
    return by_element(lambda x: x + offset, np.ones_like)


def scaled(factor, backward):
    """A backward pass that is wrong by a factor."""
    return lambda dy, cache: dy.dtype.type(factor) * backward(dy, cache)


RELU = relu.relu_forward, relu.relu_backward
EXP = by_element(np.exp, np.exp)


def assert_fails(message, *arguments, **options):
    """The error of a check that must fail, in one line for each result."""
    with pytest.raises((TypeError, ValueError, GradientError), match=message) as raised:
        check(*arguments, **options)
    assert str(raised.value).count("\n") <= 1
    return raised.value
