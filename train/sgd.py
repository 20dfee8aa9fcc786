"""Stochastic gradient descent with momentum and weight decay.

    v     <- momentum * v + dL/dtheta + weight_decay * theta
    theta <- theta - lr * v

The term weight_decay * theta is the gradient of gamma/2 * ||theta||^2 with gamma = `weight_decay`.  The
paper's Eq. 4 prints gamma * ||theta||^2, whose gradient is twice that; its text and both released codes mean
the usual convention, gamma/2, so their gamma = 5e-4 is weight_decay=5e-4 here.  Biases are decayed
like weights, as in both released codes: neither excludes them.  The learning rate multiplies the
velocity, as in PyTorch and MatConvNet, so a new rate acts at once on the accumulated steps.
"""

import math

from dcfnet_np.backend import Array, array_module

Parameters = dict[str, Array]


def zero_velocity(parameters: Parameters) -> Parameters:
    """The velocity to start with: zeros in the shape, dtype and place of every parameter."""
    return {name: array_module(value).zeros_like(value) for name, value in parameters.items()}


def check_same(function: str, parameters: Parameters, **others: Parameters) -> None:
    """Raise ValueError unless the others have the names and shapes of the parameters."""
    for name, theta in parameters.items():
        for kind, other in others.items():
            if name not in other or other[name].shape != theta.shape:
                got = other[name].shape if name in other else "nothing"
                raise ValueError(
                    f"{function}: {kind} must have {name!r} of shape {theta.shape}, got {got}"
                )


def sgd_step(
    parameters: Parameters,
    gradients: Parameters,
    velocity: Parameters,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """One step; writes `parameters` and `velocity` in place (the only function here that writes its
    inputs).

    The three are dicts with the same names and shapes, NumPy or CuPy arrays of one float dtype,
    which is kept. Raises ValueError when names or shapes differ.
    """
    check_same("sgd_step", parameters, gradients=gradients, velocity=velocity)
    for name, theta in parameters.items():
        v = velocity[name]
        v *= momentum
        v += gradients[name]
        v += weight_decay * theta
        theta -= lr * v


SCHEDULES = ("constant", "step", "logspace", "cosine")


def learning_rate(
    lr_start: float,
    lr_end: float,
    epochs: int,
    epoch: int,
    schedule: str = "logspace",
    steps: tuple[int, ...] = (),
) -> float:
    """The rate of `epoch` (0-based), of the `epochs` of a run.

    logspace: evenly spaced in log from lr_start to lr_end, both reached, the released 2.0 codes'.
    constant: lr_start throughout, the paper's.  step: after each number of epochs in `steps` a
    tenth of what it was.  cosine: half a wave from lr_start down to lr_end, slow at both ends.
    """
    if schedule == "step":
        return lr_start * 0.1 ** sum(epoch >= after for after in steps)
    if schedule == "constant" or epochs == 1:
        return lr_start
    if schedule == "cosine":
        return lr_end + (lr_start - lr_end) * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2
    return float(lr_start * (lr_end / lr_start) ** (epoch / (epochs - 1)))
