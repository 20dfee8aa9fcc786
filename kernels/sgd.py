"""Launches `sgd.cu`: one step of SGD with momentum and weight decay, in place, on CuPy arrays."""

import numpy as np

from dcfnet_np.backend import Array

from . import blocks, c_type, launch, require

FILE = "sgd.cu"
EXPRESSIONS = ("sgd_step<float>", "sgd_step<double>")


def step(
    parameters: Array,
    gradient: Array,
    velocity: Array,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """velocity = momentum * velocity + gradient + weight_decay * parameters, and the step.

    The step is parameters -= lr * velocity.  All three are flat, of one length and dtype;
    parameters and velocity are written in place.  Reference: `train.optimisers.sgd_step`.
    """
    dtype = c_type(parameters, "sgd.step: parameters")
    require(parameters, "sgd.step: parameters", parameters.dtype, (None,))
    require(velocity, "sgd.step: velocity", parameters.dtype, parameters.shape)
    require(gradient, "sgd.step: gradient", parameters.dtype, parameters.shape)
    numbers = map(parameters.dtype.type, (lr, momentum, weight_decay))
    launch(
        FILE, f"sgd_step<{dtype}>", (blocks(parameters.size, 256),), (256,), parameters, gradient,
        velocity, np.int32(parameters.size), *numbers,
    )  # fmt: skip
