"""Launches `adam.cu`: one step of Adam and of the running average, in place, on CuPy arrays."""

from dcfnet_np.backend import Array

from . import blocks, launch, require_all, require_real

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
    ctype, dtype = require_real(parameters, "adam.step: parameters", (None,)), parameters.dtype
    means = {"gradient": gradient, "velocity": memory[0], "squares": memory[1]}
    require_all("adam.step", dtype, parameters.shape, **means)
    momentum, squares = decays
    numbers = lr, momentum, 1 - momentum**step, squares, 1 - squares**step, epsilon, weight_decay
    launch(
        FILE, f"adam_step<{ctype}>", (blocks(parameters.size, 256),), (256,), parameters, gradient,
        *memory, parameters.size, *map(dtype.type, numbers),
    )  # fmt: skip


def update_average(average: Array, parameters: Array, *, share: float) -> None:
    """average += share * (parameters - average), both flat, of one length and dtype.

    Reference: `train.optimisers.update_average`.
    """
    ctype = require_real(parameters, "adam.update_average: parameters", (None,))
    dtype = parameters.dtype
    require_all("adam.update_average", dtype, parameters.shape, average=average)
    launch(
        FILE, f"update_average<{ctype}>", (blocks(parameters.size, 256),), (256,), average,
        parameters, parameters.size, dtype.type(share),
    )  # fmt: skip
