"""train/optimisers.py by hand: SGD, Adam, the average."""

import math

import numpy as np

from dcfnet_np.backend import to_numpy
from dcfnet_np.train.optimisers import adam_step, sgd_step, update_average, zero_velocity


def test_sgd_two_steps_by_hand(xp):
    parameters = {"w": xp.array([1.0, -2.0], xp.float32)}
    velocity = zero_velocity(parameters)
    settings = {"momentum": 0.5, "weight_decay": 0.1}
    sgd_step(parameters, {"w": xp.array([1.0, 3.0], xp.float32)}, velocity, lr=0.1, **settings)
    # v = g + 0.1 theta = 1.1, 2.8;  theta - 0.1 v = 0.89, -2.28
    np.testing.assert_allclose(to_numpy(velocity["w"]), [1.1, 2.8], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(parameters["w"]), [0.89, -2.28], rtol=1e-6)
    sgd_step(parameters, {"w": xp.array([-1.0, 0.0], xp.float32)}, velocity, lr=0.2, **settings)
    # v = 0.5 v + g + 0.1 theta = 0.55 - 1 + 0.089, 1.4 + 0 - 0.228;  theta - 0.2 v
    np.testing.assert_allclose(to_numpy(velocity["w"]), [-0.361, 1.172], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(parameters["w"]), [0.9622, -2.5144], rtol=1e-6)
    assert parameters["w"].dtype == velocity["w"].dtype == np.float32


def test_adam_two_steps_by_hand(xp):
    """Beside the scalar algorithm as Kingma and Ba print it, and the decay beside the step."""
    gradients = [[1.0, -30.0], [0.5, 0.0]]
    parameters = {"w": xp.array([1.0, -2.0])}
    velocity, squares = zero_velocity(parameters), zero_velocity(parameters)
    how = {"lr": 0.05, "momentum": 0.6, "weight_decay": 0.1}
    for step, gradient in enumerate(gradients, start=1):
        adam_step(parameters, {"w": xp.array(gradient)}, velocity, squares, step=step, **how)
    expected = []
    for theta, first, second in zip([1.0, -2.0], *gradients):
        m = s = 0.0
        for t, g in ((1, first), (2, second)):
            m, s = 0.6 * m + 0.4 * g, 0.99 * s + 0.01 * g**2
            theta -= 0.05 * (m / (1 - 0.6**t) / math.sqrt(s / (1 - 0.99**t)) + 0.1 * theta)
        expected.append(theta)
    np.testing.assert_allclose(to_numpy(parameters["w"]), expected, rtol=1e-9)


def test_average_forgets_the_start_and_then_keeps_its_share(rng):
    average, values = {"w": rng.standard_normal(3)}, rng.standard_normal((40, 3))
    expected = average["w"].copy()
    for number, value in enumerate(values, start=1):
        update_average(average, {"w": value}, step=number, decay=0.75)
        kept = min(0.75, number / (number + 10))
        expected = kept * expected + (1 - kept) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-12)
