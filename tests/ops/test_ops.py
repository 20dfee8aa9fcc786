"""Convolution, ReLU, LRN and the loss against their definitions; their gradients are in
test_gradcheck.py.
"""

import naive
import numpy as np
import pytest

from dcfnet_np.backend import to_numpy
from dcfnet_np.ops.conv import conv2d_backward, conv2d_forward
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.ops.lrn import lrn_backward, lrn_forward
from dcfnet_np.ops.relu import relu_backward, relu_forward

CONVOLUTIONS = [  # x, kernel, padding, dilation
    pytest.param((2, 3, 7, 6), (4, 3, 3, 3), 1, 1, id="same"),
    pytest.param((1, 2, 5, 8), (3, 2, 3, 3), 0, 1, id="valid"),
    pytest.param((2, 1, 9, 7), (2, 1, 3, 3), 2, 2, id="dilated"),
    pytest.param((1, 2, 6, 5), (3, 2, 2, 4), 1, 1, id="even kernel"),
    pytest.param((1, 1, 1, 1), (1, 1, 1, 1), 0, 1, id="one element"),
    pytest.param((0, 2, 5, 5), (3, 2, 3, 3), 1, 1, id="empty batch"),
]


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 1e-5)])
@pytest.mark.parametrize("shape, kernel, padding, dilation", CONVOLUTIONS)
def test_convolution_is_its_definition(xp, rng, shape, kernel, padding, dilation, dtype, tolerance):
    x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(kernel).astype(dtype)
    b = rng.standard_normal(kernel[0]).astype(dtype)
    y, cache = conv2d_forward(
        xp.asarray(x), xp.asarray(w), xp.asarray(b), padding=padding, dilation=dilation
    )
    assert y.dtype == dtype
    np.testing.assert_allclose(
        to_numpy(y), naive.conv2d(x, w, b, padding, dilation), atol=tolerance, rtol=tolerance
    )
    gradients = conv2d_backward(y, cache)
    assert [g.shape for g in gradients] == [x.shape, w.shape, b.shape]
    assert all(g.dtype == dtype for g in gradients)


def test_convolution_refuses_what_does_not_fit(rng):
    x, w, b = np.zeros((1, 3, 5, 5)), np.zeros((2, 3, 3, 3)), np.zeros(2)
    with pytest.raises(ValueError, match=r"x must be \(N, C, H, W\)"):
        conv2d_forward(x[0], w, b)
    with pytest.raises(ValueError, match="b"):
        conv2d_forward(x, w, np.zeros(3))
    with pytest.raises(TypeError, match="one dtype"):
        conv2d_forward(x, w.astype(np.float32), b)
    with pytest.raises(ValueError, match="does not fit"):
        conv2d_forward(x, w, b, padding=0, dilation=3)
    _, cache = conv2d_forward(x, w, b)
    with pytest.raises(ValueError, match="dy must have the shape of y"):
        conv2d_backward(np.zeros((1, 2, 4, 5)), cache)


@pytest.mark.parametrize(
    "channels, n, beta", [(1, 5, 0.75), (4, 3, 0.75), (7, 5, 0.5), (32, 5, 0.75)]
)
def test_lrn_is_its_definition(xp, rng, channels, n, beta):
    x = rng.standard_normal((2, channels, 3, 4))
    y, _ = lrn_forward(xp.asarray(x), n=n, k=1.5, alpha=0.9, beta=beta)
    np.testing.assert_allclose(to_numpy(y), naive.lrn(x, n, 1.5, 0.9, beta), rtol=1e-13)


def test_lrn_refuses_what_has_no_centre():
    with pytest.raises(ValueError, match="n must be odd"):
        lrn_forward(np.zeros((1, 4, 2, 2)), n=4)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        lrn_forward(np.zeros((4, 2, 2)))
    _, cache = lrn_forward(np.ones((1, 4, 2, 2)))
    with pytest.raises(ValueError, match="shape of x"):
        lrn_backward(np.ones((1, 4, 2, 3)), cache)


def test_relu(xp):
    x = xp.asarray([[-1.0, 0.0, 2.0]])
    y, cache = relu_forward(x)
    assert to_numpy(y).tolist() == [[0, 0, 2]]
    assert to_numpy(relu_backward(xp.asarray([[5.0, 6.0, 7.0]]), cache)).tolist() == [[0, 0, 7]]
    with pytest.raises(ValueError, match="shape of x"):
        relu_backward(x[:, :2], cache)


def test_response_loss_by_hand(xp):
    response = xp.asarray([[[1.0, 2.0]], [[0.0, -1.0]]])
    label = xp.asarray([[1.0, 0.0]])
    loss, cache = response_loss_forward(response, label)
    assert loss == (0 + 4 + 1 + 1) / 2
    assert to_numpy(response_loss_backward(cache, 3.0)).tolist() == [[[0, 6]], [[-3, -3]]]
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        response_loss_forward(response[0], label)
    assert response_loss_forward(response[:0], label)[0] == 0


def test_inputs_of_two_libraries_are_refused():
    with pytest.raises(TypeError, match="NumPy or CuPy"):
        relu_forward([1.0, 2.0])
