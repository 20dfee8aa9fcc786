"""SGD, Adam, and the running average of the parameters.

SGD with momentum and weight decay, the paper's:

    v     <- momentum * v + dL/dtheta + weight_decay * theta
    theta <- theta - lr * v

The term weight_decay * theta is the gradient of gamma/2 * ||theta||^2 with gamma = `weight_decay`.
The paper's Eq. 4 prints gamma * ||theta||^2, whose gradient is twice that; its text and both
released codes mean the usual convention, gamma/2, so their gamma = 5e-4 is weight_decay=5e-4 here.
Biases are decayed like weights, as in both released codes; numbers beside the network are not
(`train.numbers`).  The learning rate multiplies the velocity, as in PyTorch and MatConvNet, so a
new rate acts at once on the accumulated steps.

Adam, an optimiser beyond the paper:

    m <- b m + (1 - b) dL/dtheta             running mean of the gradient
    s <- 0.99 s + (1 - 0.99) (dL/dtheta)^2   and of its square
    theta <- theta - lr (m' / (sqrt(s') + epsilon) + weight_decay theta)

where m' = m / (1 - b^t) and s' = s / (1 - 0.99^t) undo that both began with zeros, t = 1, 2, ...
counts the steps, and b is the momentum.  Sources: Kingma and Ba, 2015, Algorithm 1; the decay
beside the step is Loshchilov and Hutter's, 2019.  Every parameter moves by about lr, whatever the
size of its gradient.  That suits this loss: but for lambda the response does not change when all
features are multiplied by one number, so a gradient says little about the size of a step.

The average is the last steps' parameters, the newest with weight 1 - decay: it rests while they
jump about the minimum.  Source: Polyak and Juditsky, 1992; in the first steps, where it would
remember the start, it is shorter.
"""

from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network
from dcfnet_np.backend import Array, array_module
from dcfnet_np.train.config import Config
from dcfnet_np.train.numbers import NAMES, first_numbers

Parameters = dict[str, Array]
SQUARES_DECAY = 0.99
BESIDE = set(NAMES.values())  # parameters that are no weights: nothing decays them
EPSILON = 1e-12  # gradients of this loss may be small throughout


class Learnt(NamedTuple):
    """What a run has learnt after so many steps: dicts of arrays, one for each parameter."""

    parameters: Parameters
    velocity: Parameters  # of SGD; of Adam the running mean of the gradient
    squares: Parameters  # of Adam: the running mean of the gradient's square; {} with SGD
    average: Parameters  # of the parameters; {} without config.averaging
    steps: int = 0


def first_learnt(config: Config, dtype: Any = np.float32, size: int = 125) -> Learnt:
    """What a run starts from, NumPy arrays: He's first weights times config.initial_scale.

    size: of the crops, for the numbers that are learnt beside the network.
    """
    parameters = {
        name: value * np.float32(config.initial_scale)
        for name, value in network.initialise(config.arch, config.seed, dtype).items()
    }
    parameters |= first_numbers(config, size, dtype)
    squares = zero_velocity(parameters) if config.optimiser == "adam" else {}
    average = {name: value.copy() for name, value in parameters.items()} if config.averaging else {}
    return Learnt(parameters, zero_velocity(parameters), squares, average)


def zero_velocity(parameters: Parameters) -> Parameters:
    """The velocity to start with: zeros in the shape, dtype and place of every parameter."""
    return {name: array_module(value).zeros_like(value) for name, value in parameters.items()}


def split_learnt(learnt: Learnt) -> tuple[Learnt, Learnt]:
    """What was learnt of the network, and of the numbers beside it; the arrays are the same."""
    parts = []
    for beside in (False, True):
        groups = (
            {name: value for name, value in group.items() if (name in BESIDE) == beside}
            for group in learnt[:4]
        )
        parameters, velocity, squares, average = groups
        parts.append(Learnt(parameters, velocity, squares, average, learnt.steps))
    return parts[0], parts[1]


def optimiser_step(config: Config, learnt: Learnt, gradients: Parameters, lr: float) -> Learnt:
    """The next step of config's optimiser, and of the average; writes the arrays of `learnt`."""
    step = learnt.steps + 1
    for part, decay in zip(split_learnt(learnt), (config.weight_decay, 0.0)):
        how = {"lr": lr, "momentum": config.momentum, "weight_decay": decay}
        parameters, velocity, squares, _, _ = part
        if config.optimiser == "adam" and parameters:
            adam_step(parameters, gradients, velocity, squares, step=step, **how)
        elif parameters:
            sgd_step(parameters, gradients, velocity, **how)
    if config.averaging:
        update_average(learnt.average, learnt.parameters, step=step, decay=config.averaging)
    return learnt._replace(steps=step)


def sgd_step(
    parameters: Parameters,
    gradients: Parameters,
    velocity: Parameters,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """One step; writes `parameters` and `velocity` in place.

    The three are dicts with the same names and shapes, NumPy or CuPy arrays of one float dtype,
    which is kept.
    """
    for name, theta in parameters.items():
        v = velocity[name]
        v *= momentum
        v += gradients[name]
        v += weight_decay * theta
        theta -= lr * v


def adam_step(
    parameters: Parameters,
    gradients: Parameters,
    velocity: Parameters,
    squares: Parameters,
    *,
    lr: float,
    step: int,
    momentum: float,
    weight_decay: float,
) -> None:
    """Step number `step`, from 1; writes `parameters`, `velocity` (m) and `squares` (s) in place.

    Dicts as in `sgd_step`.
    """
    for name, theta in parameters.items():
        m, s, g = velocity[name], squares[name], gradients[name]
        m += (1 - momentum) * (g - m)
        s += (1 - SQUARES_DECAY) * (g * g - s)
        root = array_module(s).sqrt(s / (1 - SQUARES_DECAY**step))
        theta -= lr * (m / (1 - momentum**step) / (root + EPSILON) + weight_decay * theta)


def average_decay(decay: float, step: int) -> float:
    """What step number `step`, from 1, leaves of the average; less in the first steps of a run."""
    return min(decay, step / (step + 10))


def update_average(average: Parameters, parameters: Parameters, *, step: int, decay: float) -> None:
    """Take the parameters after step number `step`, from 1, into their average, in place."""
    decay = average_decay(decay, step)
    for name, theta in parameters.items():
        average[name] += (1 - decay) * (theta - average[name])
