"""Launches `sgd.cu`: one step of SGD with momentum and weight decay, in place, on CuPy arrays."""

from dcfnet_np.backend import Array

from . import blocks, launch, require_all, require_real

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
    ctype, dtype = require_real(parameters, "sgd.step: parameters", (None,)), parameters.dtype
    require_all("sgd.step", dtype, parameters.shape, velocity=velocity, gradient=gradient)
    numbers = map(dtype.type, (lr, momentum, weight_decay))
    launch(
        FILE, f"sgd_step<{ctype}>", (blocks(parameters.size, 256),), (256,), parameters, gradient,
        velocity, parameters.size, *numbers,
    )  # fmt: skip
