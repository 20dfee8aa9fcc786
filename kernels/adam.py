"""Launches `adam.cu`: one step of Adam and of the running average, in place, on CuPy arrays."""

import numpy as np

from dcfnet_np.backend import Array

from . import blocks, c_type, launch, require

FILE = "adam.cu"
EXPRESSIONS = (
    "adam_step<float>",
    "adam_step<double>",
    "update_average<float>",
    "update_average<double>",
)


def step(
    parameters: Array,
    gradient: Array,
    velocity: Array,
    squares: Array,
    *,
    lr: float,
    step: int,
    momentum: float,
    squares_decay: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """Step number `step`, from 1, of Adam; writes parameters, velocity and squares in place.

    All four are flat, of one length and dtype.  Reference: `dcfnet_np.train.optimisers.adam_step`.
    """
    dtype = c_type(parameters, "adam.step: parameters")
    require(parameters, "adam.step: parameters", parameters.dtype, (None,))
    for array, name in ((gradient, "gradient"), (velocity, "velocity"), (squares, "squares")):
        require(array, f"adam.step: {name}", parameters.dtype, parameters.shape)
    numbers = (
        lr,
        momentum,
        1 - momentum**step,
        squares_decay,
        1 - squares_decay**step,
        epsilon,
        weight_decay,
    )
    launch(
        FILE, f"adam_step<{dtype}>", (blocks(parameters.size, 256),), (256,), parameters, gradient, velocity, squares,
        np.int32(parameters.size), *map(parameters.dtype.type, numbers),
    )  # fmt: skip


def update_average(average: Array, parameters: Array, *, share: float) -> None:
    """average += share * (parameters - average), both flat, of one length and dtype.

    Reference: `dcfnet_np.train.optimisers.update_average`.
    """
    dtype = c_type(parameters, "adam.update_average: parameters")
    require(parameters, "adam.update_average: parameters", parameters.dtype, (None,))
    require(average, "adam.update_average: average", parameters.dtype, parameters.shape)
    launch(
        FILE, f"update_average<{dtype}>", (blocks(parameters.size, 256),), (256,), average, parameters,
        np.int32(parameters.size), parameters.dtype.type(share),
    )  # fmt: skip
