"""Launches `adam.cu`: one step of Adam and of the running average, in place, on CuPy arrays."""

import numpy as np

from dcfnet_np.backend import Array

from . import blocks, c_type, launch, require

FILE = "adam.cu"
EXPRESSIONS = tuple(
    f"{name}<{ctype}>" for name in ("adam_step", "update_average") for ctype in ("float", "double")
)


def step(
    parameters: Array,
    gradient: Array,
    memory: tuple[Array, Array],
    *,
    lr: float,
    step: int,
    decays: tuple[float, float],
    epsilon: float,
    weight_decay: float,
) -> None:
    """Step number `step`, from 1, of Adam; writes parameters and memory in place.

    memory: the running means of the gradient and of its square; decays: what a step leaves of each.
    All arrays are flat, of one length and dtype.  Reference: `train.optimisers.adam_step`.
    """
    ctype, dtype = c_type(parameters, "adam.step: parameters"), parameters.dtype
    require(parameters, "adam.step: parameters", dtype, (None,))
    for array, name in zip((gradient, *memory), ("gradient", "velocity", "squares")):
        require(array, f"adam.step: {name}", dtype, parameters.shape)
    momentum, squares = decays
    numbers = lr, momentum, 1 - momentum**step, squares, 1 - squares**step, epsilon, weight_decay
    launch(
        FILE, f"adam_step<{ctype}>", (blocks(parameters.size, 256),), (256,), parameters, gradient,
        *memory, np.int32(parameters.size), *map(dtype.type, numbers),
    )  # fmt: skip


def update_average(average: Array, parameters: Array, *, share: float) -> None:
    """average += share * (parameters - average), both flat, of one length and dtype.

    Reference: `train.optimisers.update_average`.
    """
    ctype, dtype = c_type(parameters, "adam.update_average: parameters"), parameters.dtype
    require(parameters, "adam.update_average: parameters", dtype, (None,))
    require(average, "adam.update_average: average", dtype, parameters.shape)
    launch(
        FILE, f"update_average<{ctype}>", (blocks(parameters.size, 256),), (256,), average,
        parameters, np.int32(parameters.size), dtype.type(share),
    )  # fmt: skip
