"""network.py: shapes, the no-cache path, shared weights, and the gradient of the whole network."""

import numpy as np
import pytest

from dcfnet_np import network
from dcfnet_np.network import ARCHITECTURES, Conv, Lrn, Relu
from dcfnet_np.ops.conv import conv2d_forward
from dcfnet_np.ops.lrn import lrn_forward
from dcfnet_np.ops.relu import relu_forward

# A small network that hides nothing: three convolutions, one of them dilated, C != O, and an LRN
# whose cross-channel term is as large as the direct one (with the usual alpha of 2e-5 it could be
# deleted unseen).
STRONG = (
    *(Conv(3, 4), Relu(), Conv(4, 5, dilation=2), Relu(), Conv(5, 6)),
    Lrn(n=3, k=1.5, alpha=0.8, beta=0.6),
)


def random_parameters(architecture, seed, dtype=np.float64):
    """Initialised weights, and biases that are not zero: these could not see a lost one."""
    rng = np.random.default_rng(seed)
    parameters = network.initialise(architecture, seed, dtype)
    for p in parameters.values():
        p += 0.1 * rng.standard_normal(p.shape).astype(dtype)
    return parameters


def test_table_1():
    widths = {
        name: [(s.c_in, s.c_out, s.dilation) for s in specs if isinstance(s, Conv)]
        for name, specs in ARCHITECTURES.items()
    }
    assert widths == {
        "conv1": [(3, 64, 1), (64, 32, 1)],
        "conv1-dilation": [(3, 64, 1), (64, 32, 2)],
        "conv2": [(3, 64, 1), (64, 64, 1), (64, 128, 1), (128, 32, 1)],
        "light": [(3, 32, 1), (32, 32, 1)],
    }
    for name, specs in ARCHITECTURES.items():
        kinds = [type(spec) for spec in specs]
        # no ReLU before the LRN
        assert kinds == [Conv, Relu] * (len(widths[name]) - 1) + [Conv, Lrn]
        assert specs[-1] == (5, 1.0, 2e-5, 0.75) and network.output_channels(name) == 32
    for name, count in (("conv1", 20_256), ("light", 10_144)):  # as the released files
        assert sum(p.size for p in network.initialise(name, 0).values()) == count
    names = [name for name, _ in network.layers("conv2")]
    assert names == ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3", "conv4", "lrn1"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_initialise(architecture):
    a, again = (network.initialise(architecture, 3) for _ in range(2))
    other = network.initialise(architecture, 4)
    network.check_parameters(architecture, a)
    assert list(a) == list(network.parameter_shapes(architecture))
    for name, p in a.items():
        assert p.dtype == np.float32
        np.testing.assert_array_equal(p, again[name])
        if name.endswith("bias"):
            assert not p.any()
        else:
            he = np.sqrt(2 / (9 * p.shape[1]))
            assert abs(p.std() / he - 1) < 0.1 and not np.array_equal(p, other[name])
    assert network.initialise(architecture, 3, np.float64)["conv1.weight"].dtype == np.float64


@pytest.mark.parametrize(
    ("architecture", "valid"),
    [("conv1", 121), ("conv1-dilation", 119), ("conv2", 117), ("light", 121)],
)
def test_feature_size(architecture, valid):
    assert network.feature_size(125, architecture) == 125
    assert network.feature_size(125, architecture, "valid") == valid


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(11, 11), (12, 15)])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, STRONG], ids=[*ARCHITECTURES, "strong"])
def test_shapes_and_no_cache_path(rng, architecture, size, padding):
    x = rng.standard_normal((2, 3, *size)).astype(np.float32)
    parameters = random_parameters(architecture, 1, np.float32)
    before = x.copy(), {name: p.copy() for name, p in parameters.items()}
    y, caches = network.forward(x, parameters, architecture, padding=padding)
    expected = tuple(network.feature_size(n, architecture, padding) for n in size)
    assert y.shape == (2, network.output_channels(architecture), *expected)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(network.features(x, parameters, architecture, padding=padding), y)

    dx, dparameters = network.backward(np.ones_like(y), caches)
    assert dx.shape == x.shape and dx.dtype == np.float32
    without, same = network.backward(np.ones_like(y), caches, input_gradient=False)
    assert without is None and list(dparameters) == list(parameters)
    for name, p in parameters.items():
        assert dparameters[name].shape == p.shape and dparameters[name].dtype == np.float32
        np.testing.assert_array_equal(p, before[1][name])
        np.testing.assert_array_equal(same[name], dparameters[name])
    np.testing.assert_array_equal(x, before[0])


def test_forward_is_the_ops_in_order(rng):
    """Each spec's own constants reach its op."""
    p = random_parameters(STRONG, 9)
    x = rng.standard_normal((1, 3, 8, 11))
    y, _ = conv2d_forward(x, p["conv1.weight"], p["conv1.bias"], padding=1)
    y, _ = relu_forward(y)
    y, _ = conv2d_forward(y, p["conv2.weight"], p["conv2.bias"], padding=2, dilation=2)
    y, _ = relu_forward(y)
    y, _ = conv2d_forward(y, p["conv3.weight"], p["conv3.bias"], padding=1)
    y, _ = lrn_forward(y, n=3, k=1.5, alpha=0.8, beta=0.6)
    np.testing.assert_array_equal(network.features(x, p, STRONG), y)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(9, 9), (10, 12)])
def test_gradient_against_finite_differences(size, padding):
    """Every element of every gradient, from the features back to the image and first weights."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 3, *size))
    parameters = random_parameters(STRONG, 6)
    y, caches = network.forward(x, parameters, STRONG, padding=padding)
    dy = rng.standard_normal(y.shape)
    dx, dparameters = network.backward(dy, caches)

    def loss():
        return float((network.features(x, parameters, STRONG, padding=padding) * dy).sum())

    step = 1e-6  # small: within it no ReLU of this seed changes sign
    gradients = [(parameters[name], gradient) for name, gradient in dparameters.items()]
    for array, analytic in [(x, dx), *gradients]:
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = loss()
            array[index] = kept - step
            numeric[index] = (above - loss()) / (2 * step)
            array[index] = kept
        assert abs(numeric - analytic).max() < 1e-7 * abs(analytic).max()


LIGHT = network.initialise("light", 0)
IMAGE = np.zeros((1, 3, 9, 9), np.float32)


@pytest.mark.parametrize(
    ("x", "architecture", "padding", "error", "message"),
    [
        (IMAGE, "heavy", "same", ValueError, "must be one of conv1, .*, light, got 'heavy'"),
        (IMAGE, "conv1", "same", ValueError, r"weight must have shape \(64, 3, 3, 3\)"),
        (IMAGE, "light", 1, ValueError, "padding must be 'same' or 'valid', got 1"),
        (IMAGE[0], "light", "same", ValueError, r"x must be \(N, 3, H, W\)"),
        (IMAGE[:, :2], "light", "same", ValueError, r"x must be \(N, 3, H, W\)"),
        (IMAGE[:, :, :4], "light", "valid", ValueError, "too small"),
        (IMAGE.astype(float), "light", "same", TypeError, "dtype float32, got float64"),
    ],
)
def test_bad_arguments(x, architecture, padding, error, message):
    with pytest.raises(error, match=message):
        network.features(x, LIGHT, architecture, padding=padding)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2.bias": None}, "must have 'conv2.bias'"),
        ({"conv3.bias": np.zeros(3, np.float32)}, "got 'conv3.bias' too"),
        ({"conv1.bias": np.zeros(31, np.float32)}, r"conv1.bias must have shape \(32,\)"),
        ({"conv1.bias": np.zeros(32)}, "one float dtype, got float32, float64"),
        ({k: v.astype(np.int32) for k, v in LIGHT.items()}, "one float dtype, got int32"),
    ],
)
def test_check_parameters(change, message):
    parameters = {k: v for k, v in {**LIGHT, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        network.check_parameters("light", parameters)
