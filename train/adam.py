"""Adam, an optimiser beyond the paper, and the running average of the parameters.

    m <- b m + (1 - b) dL/dtheta             running mean of the gradient
    s <- 0.99 s + (1 - 0.99) (dL/dtheta)^2   and of its square
    theta <- theta - lr (m' / (sqrt(s') + epsilon) + weight_decay theta)

where m' = m / (1 - b^t) and s' = s / (1 - 0.99^t) undo that both began with zeros, t = 1, 2, ...
counts the steps, and b is the momentum.  Sources: Kingma and Ba, 2015, Algorithm 1; the decay
beside the step is Loshchilov and Hutter's,
2019.

Every parameter moves by about lr, whatever the size of its gradient.  That suits this loss: but for
lambda the response does not change when all features are multiplied by one number, so a gradient
says little about the size of a step.

The average is the last steps' parameters, the newest with weight 1 - decay: it rests while they
jump about the minimum.
Source: Polyak and Juditsky, 1992; in the first steps, where it would remember the start, it is
shorter."""

from dcfnet_np.backend import array_module
from dcfnet_np.train.sgd import Parameters, check_same

SQUARES_DECAY = 0.99
EPSILON = 1e-12  # gradients of this loss may be small throughout


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

    Dicts as in `sgd.sgd_step`.  Raises ValueError when names or shapes differ.
    """
    check_same("adam_step", parameters, gradients=gradients, velocity=velocity, squares=squares)
    for name, theta in parameters.items():
        m, s, g = velocity[name], squares[name], gradients[name]
        m += (1 - momentum) * (g - m)
        s += (1 - SQUARES_DECAY) * (g * g - s)
        root = array_module(s).sqrt(s / (1 - SQUARES_DECAY**step))
        theta -= lr * (m / (1 - momentum**step) / (root + EPSILON) + weight_decay * theta)


def average_decay(decay: float, step: int) -> float:
    """What step number `step`, from 1, leaves of the average before it; less in the first steps of
    a run.
    """
    return min(decay, step / (step + 10))


def update_average(average: Parameters, parameters: Parameters, *, step: int, decay: float) -> None:
    """Take the parameters after step number `step`, from 1, into their running average, which is
    written in place.
    """
    decay = average_decay(decay, step)
    for name, theta in parameters.items():
        average[name] += (1 - decay) * (theta - average[name])
