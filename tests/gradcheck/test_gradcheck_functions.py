"""Right and wrong gradients of functions of every kind, with the verdict that each must get;
torch's is the same.

Where torch and mathematics disagree (a slope below torch's 1e-5, a right one that its step of 1e-6
spoils, an error of less than one per mille) a function says nothing about either, and is not here.
"""

import warnings

import numpy as np
import pytest

from dcfnet_np.gradcheck import GradientError, check
from dcfnet_np.ops import conv, lrn

RNG = np.random.default_rng(8)
X = RNG.standard_normal((3, 4))
KINKY = np.array([3e-6, -4e-6, 1.0])
UNLIKE = np.array([2e-3, 0.7, 30.0, 5e3])
BIG, SIGNS = np.array([1e7, 1.0, 30.0]), np.array([1, -1, 1])
MATRIX, COMPLEX = (
    RNG.standard_normal((4, 5)),
    RNG.standard_normal((3, 2)) + 1j * RNG.standard_normal((3, 2)),
)
FACTOR = RNG.standard_normal((3, 2)) + 1j * RNG.standard_normal((3, 2))
MAPS, KERNEL = RNG.standard_normal((1, 2, 4, 3)), RNG.standard_normal((2, 2, 3, 3))
MANY = np.cos(np.arange(100_000.0))


def by_element(f, derivative, x):
    """y = f(x); backward multiplies by the derivative."""
    return lambda x: (f(x), x), lambda dy, x: dy * derivative(x), [x]


def of_many(few):
    """A sum of 1e5 elements, of which `few` vary."""
    n = len(few)
    return lambda x: ((MANY[:-n] ** 2).sum() + (x**2).sum(), x), lambda dy, x: 2 * dy * x, [few]


def softmax(x):
    y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    return y, y


def two_outputs(x):
    return np.concatenate([1e9 * x, x]), len(x)


def clamp(x):
    return np.clip(x, -0.5, 0.5), x


def except_at(j, factor, backward):
    """One element of the gradient multiplied by `factor`."""

    def wrong(dy, cache):
        dx = backward(dy, cache).copy()
        dx.flat[j] *= factor
        return dx

    return wrong


def pair(forward, backward, *inputs):
    return forward, backward, list(inputs)


def norm(x):
    return np.sqrt((x**2).sum()), x


def fft(x):
    return np.fft.fft(x, axis=0), None


def matmul(x, w):
    return x @ w, (x, w)


def fft_backward(dy, _):
    return np.fft.ifft(dy, axis=0) * len(dy)


def softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def lrn_forward(x):
    return lrn.lrn_forward(x, n=3, alpha=0.9)


def conv_forward(x, w):
    return conv.conv2d_forward(x, w, np.zeros(2), padding=1)


def conv_backward(dy, cache):
    return conv.conv2d_backward(dy, cache)[:2]


def conv_turned(dy, cache):
    dx, dw = conv_backward(dy, cache)
    return dx, dw[:, :, ::-1, ::-1].copy()


PASSES, FAILS = True, False
FUNCTIONS = {
    "sin": (PASSES, *by_element(np.sin, np.cos, X)),
    "sin, the sign": (FAILS, *by_element(np.sin, lambda x: -np.cos(x), X)),
    "tanh": (PASSES, *by_element(np.tanh, lambda x: 1 - np.tanh(x) ** 2, X)),
    "tanh, no square": (FAILS, *by_element(np.tanh, lambda x: 1 - np.tanh(x), X)),
    "times 1e6": (PASSES, *by_element(lambda x: 1e6 * x**2, lambda x: 2e6 * x, X)),
    "log, unlike": (PASSES, *by_element(np.log, lambda x: 1 / x, UNLIKE)),
    "log, smallest slope doubled": (
        FAILS,
        *pair(lambda x: (np.log(x), x), except_at(3, 2, lambda dy, x: dy / x), UNLIKE),
    ),
    "sqrt, unlike": (PASSES, *by_element(np.sqrt, lambda x: 0.5 / np.sqrt(x), UNLIKE)),
    "sqrt, no half": (FAILS, *by_element(np.sqrt, lambda x: 1 / np.sqrt(x), UNLIKE)),
    "1/x, unlike": (PASSES, *by_element(lambda x: 1 / x, lambda x: -1 / x**2, UNLIKE)),
    "1/x, 1 of 4 turned": (
        FAILS,
        *pair(lambda x: (1 / x, x), except_at(2, -1, lambda dy, x: -dy / x**2), UNLIKE),
    ),
    "exp, unlike": (PASSES, *by_element(np.exp, np.exp, np.array([-3.0, 1e-3, 4.0, 11.0]))),
    "exp, smallest dropped": (
        FAILS,
        *pair(
            lambda x: (np.exp(x), x),
            except_at(0, 0, lambda dy, x: dy * np.exp(x)),
            np.array([-3.0, 1e-3, 11.0]),
        ),
    ),
    "sum of logs, unlike": (
        PASSES,
        *pair(lambda x: (np.log(x).sum(), x), lambda dy, x: dy / x, UNLIKE),
    ),
    "x + 1e6": (PASSES, *by_element(lambda x: x + 1e6, np.ones_like, X)),
    "x + 1e6, a tenth off": (
        FAILS,
        *by_element(lambda x: x + 1e6, lambda x: np.full_like(x, 1.1), X),
    ),
    "1e6 added and taken away": (PASSES, *by_element(lambda x: (x + 1e6) - 1e6, np.ones_like, X)),
    "x + 1e15, lost in rounding": (FAILS, *by_element(lambda x: x + 1e15, np.ones_like, X)),
    "1e7 times another, second doubled": (
        FAILS,
        *pair(lambda x: (x * BIG, 0), lambda dy, _: dy * BIG * [1, 2, 1], X[0, :3]),
    ),
    "1e7 times another, in one sum": (
        PASSES,
        *pair(lambda x: (x @ BIG, 0), lambda dy, _: dy * BIG, X[0, :3] / 1e3),
    ),
    "1e7 times another, in one sum, turned": (
        FAILS,
        *pair(lambda x: (x @ BIG, 0), lambda dy, _: dy * BIG * SIGNS, X[0, :3] / 1e3),
    ),
    "two outputs, one 1e9 times": (
        PASSES,
        *pair(two_outputs, lambda dy, n: 1e9 * dy[:n] + dy[n:], X[0]),
    ),
    "two outputs, the small turned": (
        FAILS,
        *pair(two_outputs, lambda dy, n: 1e9 * dy[:n] - dy[n:], X[0]),
    ),
    "relu": (PASSES, *by_element(lambda x: np.maximum(x, 0), lambda x: x > 0, X)),
    "relu, near 0": (
        PASSES,
        *by_element(lambda x: np.maximum(x, 0), lambda x: x > 0, np.array([4e-6, -5e-6, 1.0])),
    ),
    "relu, all at 0": (
        FAILS,
        *by_element(lambda x: np.maximum(x, 0), lambda x: x > 0, np.zeros(5)),
    ),
    "relu, dead ones pass": (FAILS, *by_element(lambda x: np.maximum(x, 0), np.ones_like, X)),
    "abs": (PASSES, *by_element(np.abs, np.sign, X)),
    "abs, 0 among others": (PASSES, *by_element(np.abs, np.sign, np.array([0.0, 1.0, -2.0]))),
    "abs, near its kink at 1": (
        PASSES,
        *by_element(lambda x: abs(x - 1), lambda x: np.sign(x - 1), 1 + KINKY),
    ),
    "abs, near its kink at 1, turned": (
        FAILS,
        *by_element(lambda x: abs(x - 1), lambda x: np.sign(x - 1) * [1, -1, 1], 1 + KINKY),
    ),
    "clamp, narrow": (
        PASSES,
        *by_element(
            lambda x: np.clip(x, -4e-6, 4e-6), lambda x: abs(x) < 4e-6, X[0] * [1, 0, 1, 1]
        ),
    ),
    "clamp": (PASSES, *pair(clamp, lambda dy, x: dy * (abs(x) < 0.5), X)),
    "clamp, straight through": (FAILS, *pair(clamp, lambda dy, x: dy, X)),
    "x^3, 0 among few": (
        PASSES,
        *by_element(lambda x: x**3, lambda x: 3 * x**2, np.array([0, -0.4, 1])),
    ),
    "x|x|, 0 among few": (
        PASSES,
        *by_element(lambda x: x * abs(x), lambda x: 2 * abs(x), np.array([0, -0.4, 1])),
    ),
    "relu / 1e4, 0 among few": (
        FAILS,
        *by_element(
            lambda x: 1e-4 * np.maximum(x, 0), lambda x: 1e-4 * (x > 0), np.array([0.0, 1.0, -2.0])
        ),
    ),
    "round": (PASSES, *by_element(np.round, np.zeros_like, X)),
    "round, straight through": (FAILS, *by_element(np.round, np.ones_like, X)),
    "max": (PASSES, *pair(lambda x: (x.max(), x), lambda dy, x: dy * (x == x.max()), X)),
    "max, the mean": (
        FAILS,
        *pair(lambda x: (x.max(), x), lambda dy, x: dy * np.full(x.shape, 1 / x.size), X),
    ),
    "sum of 1e5": (PASSES, *of_many(X[0])),
    "sum of 1e5, 1 of 4 off": (
        FAILS,
        *pair(of_many(X[0])[0], except_at(1, 1.1, lambda dy, x: 2 * dy * x), X[0]),
    ),
    "sum of 1": (PASSES, *pair(lambda x: (softmax(x)[0].sum(), x), lambda dy, x: 0 * x, X)),
    "matmul": (PASSES, *pair(matmul, lambda dy, c: (dy @ c[1].T, c[0].T @ dy), X, MATRIX)),
    "matmul, transposed": (
        FAILS,
        *pair(matmul, lambda dy, c: (dy @ c[1], c[0].T @ dy), MATRIX[:, :4], MATRIX[:, 1:].copy()),
    ),
    "softmax": (PASSES, *pair(softmax, softmax_backward, X)),
    "softmax, no sum": (FAILS, *pair(softmax, lambda dy, y: y * (dy - dy * y), X)),
    "norm": (PASSES, *pair(norm, lambda dy, x: dy * x / np.sqrt((x**2).sum()), X)),
    "norm, at 0": (FAILS, *pair(norm, lambda dy, x: dy * x / np.sqrt((x**2).sum()), np.zeros(3))),
    "norm, squared": (FAILS, *pair(norm, lambda dy, x: dy * x / (x**2).sum(), X)),
    "LRN": (PASSES, *pair(lrn_forward, lrn.lrn_backward, MAPS)),
    "LRN, no sum over channels": (FAILS, *pair(lrn_forward, lambda dy, c: dy * c.s**-c.beta, MAPS)),
    "conv": (PASSES, *pair(conv_forward, conv_backward, MAPS, KERNEL)),
    "conv, kernel turned": (FAILS, *pair(conv_forward, conv_turned, MAPS, KERNEL)),
    "cumsum": (
        PASSES,
        *pair(lambda x: (x.cumsum(), 0), lambda dy, _: dy[::-1].cumsum()[::-1], X[0]),
    ),
    "cumsum, not reversed": (
        FAILS,
        *pair(lambda x: (x.cumsum(), 0), lambda dy, _: dy.cumsum(), X[0]),
    ),
    "NaN": (FAILS, *pair(lambda x: (x**2, x), except_at(5, np.nan, lambda dy, x: 2 * dy * x), X)),
    "FFT": (PASSES, *pair(fft, fft_backward, COMPLEX)),
    "FFT, no conjugate": (FAILS, *pair(fft, lambda dy, _: np.fft.fft(dy, axis=0), COMPLEX)),
    "complex product": (
        PASSES,
        *pair(lambda z: (z * FACTOR, 0), lambda dy, _: dy * FACTOR.conj(), COMPLEX),
    ),
    "complex product, no conjugate": (
        FAILS,
        *pair(lambda z: (z * FACTOR, 0), lambda dy, _: dy * FACTOR, COMPLEX),
    ),
    "|z|^2": (PASSES, *pair(lambda z: (abs(z) ** 2, z), lambda dy, z: 2 * dy * z, COMPLEX)),
    "|z|^2, Wirtinger's half": (
        FAILS,
        *pair(lambda z: (abs(z) ** 2, z), lambda dy, z: dy * z, COMPLEX),
    ),
    "y is x": (PASSES, *pair(lambda x: (x, None), lambda dy, _: dy, X)),
}


def passes(forward, backward, inputs):
    try:
        return all(result.ok for result in check(forward, backward, inputs))
    except GradientError as error:
        assert error.results, error  # a verdict about the gradient, not about the form of the pair
        return False


@pytest.mark.parametrize("name", FUNCTIONS)
def test_verdict(name):
    expected, *function = FUNCTIONS[name]
    assert passes(*function) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_says_the_same(name):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; verdicts are literals too"
    )
    expected, forward, backward, inputs = FUNCTIONS[name]

    class Pair(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.arrays = [tensor.detach().numpy().copy() for tensor in tensors]
            return torch.tensor(forward(*ctx.arrays)[0])

        @staticmethod
        def backward(ctx, dy):
            gradients = backward(dy.numpy().copy(), forward(*ctx.arrays)[1])
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
            return tuple(torch.tensor(np.array(gradient)) for gradient in gradients)

    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(Pair.apply, tensors, raise_exception=False) == expected
