"""Functions of every kind with right and wrong gradients: the verdicts of ours and of torch.

Where torch and mathematics disagree (a slope below torch's 1e-5, a right one that its step of 1e-6
spoils, an error of less than one per mille) a function says nothing about either, and is not here.
"""

import warnings

import numpy as np
import pytest

from dcfnet_np.gradcheck import GradientError, check

RNG = np.random.default_rng(8)
X = RNG.standard_normal((3, 4))
KINKY = 1 + np.array([3e-6, -4e-6, 1.0])
FEW = np.array([0, -0.4, 1])
UNLIKE = np.array([2e-3, 0.7, 30.0, 5e3])
BIG = np.array([1e7, 1.0, 30.0])
MATRIX = RNG.standard_normal((4, 5))
SQUARES = [MATRIX[:, :4], MATRIX[:, 1:].copy()]
COMPLEX, FACTOR = (RNG.standard_normal((2, 3, 2)) + 1j * RNG.standard_normal((2, 3, 2)))[:]
MANY = np.cos(np.arange(100_000.0))


def two_outputs(x):
    return np.concatenate([1e9 * x, x])


def dtwo_outputs(dy, x):
    return 1e9 * dy[:4] + dy[4:]


def dtwo_outputs_turned(dy, x):
    return 1e9 * dy[:4] - dy[4:]


def relu(x):
    return np.maximum(x, 0)


def positive(x):
    return x > 0


def clamp(x):
    return np.clip(x, -0.5, 0.5)


def narrow(x):
    return np.clip(x, -4e-6, 4e-6)


def of_many(x):
    """A sum of 1e5 elements, of which few vary."""
    return (MANY[: -x.size] ** 2).sum() + (x**2).sum()


def dsquares(dy, x):
    return 2 * dy * x


def about_1(x):
    return abs(x - 1)


def dabout_1(x):
    return np.sign(x - 1)


def dmatmul(dy, inputs):
    x, w = inputs
    return dy @ w.T, x.T @ dy


def with_one_wrong(j, factor, backward):
    """One element of the gradient multiplied by `factor`."""

    def wrong(dy, cache):
        dx = backward(dy, cache).copy()
        dx.flat[j] *= factor
        return dx

    return wrong


ones, turned = np.ones_like, np.array([1, -1, 1])
# name, f, x, the derivative of f, one that is wrong; None where there is nothing to ask
BY_ELEMENT = [
    ("sin", np.sin, X, np.cos, lambda x: -np.cos(x)),
    ("tanh", np.tanh, X, lambda x: 1 - np.tanh(x) ** 2, lambda x: 1 - np.tanh(x)),
    ("times 1e6", lambda x: 1e6 * x**2, X, lambda x: 2e6 * x, None),
    ("log, unlike", np.log, UNLIKE, lambda x: 1 / x, lambda x: [1, 1, 1, 2] / x),
    ("sqrt, unlike", np.sqrt, UNLIKE, lambda x: 0.5 / np.sqrt(x), lambda x: 1 / np.sqrt(x)),
    ("1/x", np.reciprocal, UNLIKE, lambda x: -1 / x**2, lambda x: [-1, -1, 1, -1] / x**2),
    ("exp", np.exp, np.log(UNLIKE), np.exp, lambda x: [0, 1, 1, 1] * np.exp(x)),
    ("sum of logs", lambda x: np.log(x).sum(), UNLIKE, lambda x: 1 / x, None),
    ("x + 1e6", lambda x: x + 1e6, X, ones, lambda x: np.full_like(x, 1.1)),
    ("1e6 added and taken away", lambda x: (x + 1e6) - 1e6, X, ones, None),
    ("x + 1e15, lost in rounding", lambda x: x + 1e15, X, None, ones),
    ("times 1e7", lambda x: x * BIG, X[0, :3], lambda x: BIG, lambda x: BIG * [1, 2, 1]),
    ("sum, 1e7", lambda x: x @ BIG, X[0, :3] / 1e3, lambda x: BIG, lambda x: BIG * turned),
    ("relu", relu, X, positive, ones),
    ("relu, near 0", relu, np.array([4e-6, -5e-6, 1.0]), positive, None),
    ("relu, all at 0", relu, np.zeros(5), None, positive),
    ("relu, small, one at 0", lambda x: relu(x) / 1e4, FEW, None, lambda x: (x > 0) / 1e4),
    ("abs", np.abs, X, np.sign, None),
    ("abs, 0 among others", np.abs, np.array([0.0, 1.0, -2.0]), np.sign, None),
    ("abs, near its kink", about_1, KINKY, dabout_1, lambda x: dabout_1(x) * turned),
    ("clamp", clamp, X, lambda x: abs(x) < 0.5, ones),
    ("clamp, narrow", narrow, X[0] * [1, 0, 1, 1], lambda x: abs(x) < 4e-6, None),
    ("x^3, 0 among few", lambda x: x**3, FEW, lambda x: 3 * x**2, None),
    ("x|x|, 0 among few", lambda x: x * abs(x), FEW, lambda x: 2 * abs(x), None),
    ("round", np.round, X, np.zeros_like, ones),
    ("max", np.max, X, lambda x: x == x.max(), lambda x: np.full(x.shape, 1 / x.size)),
    ("|z|^2", lambda z: abs(z) ** 2, COMPLEX, lambda z: 2 * z, lambda z: z),
    ("times c", lambda z: z * FACTOR, COMPLEX, lambda z: FACTOR.conj(), lambda z: FACTOR),
    ("NaN", lambda x: x**2, X, None, lambda x: np.where(x == x[1, 1], np.nan, 2 * x)),
    ("y is x", lambda x: x, X, ones, None),
]
# name, f, inputs, backward(dy, inputs), one that is wrong
FUNCTIONS = [
    ("two outputs, one large", two_outputs, [X[0]], dtwo_outputs, dtwo_outputs_turned),
    ("sum of 1e5", of_many, [X[0]], dsquares, with_one_wrong(1, 1.1, dsquares)),
    ("matmul", np.matmul, [X, MATRIX], dmatmul, None),
    ("matmul, square", np.matmul, SQUARES, None, lambda dy, c: (dy @ c[1], c[0].T @ dy)),
    ("cumsum", np.cumsum, [X[0]], lambda dy, x: dy[::-1].cumsum()[::-1], lambda dy, x: dy.cumsum()),
    (
        "FFT",
        np.fft.fft,
        [COMPLEX.T],
        lambda dy, z: 3 * np.fft.ifft(dy),
        lambda dy, z: np.fft.fft(dy),
    ),
]


def verdicts():
    of_elements = [
        (name, f, [x], *(g and (lambda dy, x, g=g: dy * g(x)) for g in derivatives))
        for name, f, x, *derivatives in BY_ELEMENT
    ]
    for name, forward, inputs, right, wrong in of_elements + FUNCTIONS:
        for word, backward in (("right", right), ("wrong", wrong)):
            if backward:
                pair = forward, backward, inputs
                yield pytest.param(*pair, word == "right", id=f"{name}, {word}")


each_verdict = pytest.mark.parametrize(
    ("forward", "backward", "inputs", "expected"), list(verdicts())
)


@each_verdict
def test_verdict(forward, backward, inputs, expected):
    def with_cache(*arrays):
        return forward(*arrays), arrays if len(arrays) > 1 else arrays[0]

    try:
        passes = all(result.ok for result in check(with_cache, backward, inputs))
    except GradientError as error:
        assert error.results, error  # a verdict about the gradient, not about the form of the pair
        passes = False
    assert passes == expected


@each_verdict
def test_torch_says_the_same(forward, backward, inputs, expected):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; verdicts are ours too")

    class Pair(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.arrays = [tensor.detach().numpy().copy() for tensor in tensors]
            return torch.tensor(forward(*ctx.arrays))

        @staticmethod
        def backward(ctx, dy):
            cache = ctx.arrays if len(ctx.arrays) > 1 else ctx.arrays[0]
            gradients = backward(dy.numpy().copy(), cache)
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
            return tuple(torch.tensor(np.array(gradient)) for gradient in gradients)

    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(Pair.apply, tensors, raise_exception=False) == expected
