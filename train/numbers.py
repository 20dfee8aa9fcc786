"""Numbers that are learnt beside the network: lambda, the label's width, the window, the rate.

They are parameters like others, for the optimiser and in checkpoints, but what is learnt is their
logarithm, or the logit of the rate, so that no step makes them invalid.  Nothing decays them.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import presets
from dcfnet_np.backend import Array
from dcfnet_np.train.config import Config

NAMES = {"lam": "log lam", "sigma": "log sigma", "window": "log power", "rate": "logit rate"}
FIELDS = {"lam": "lam", "sigma": "sigma", "window": "power", "rate": "rate"}  # of Numbers


class Numbers(NamedTuple):
    """lam as in Eq. 2; sigma: of the label, pixels; power: of the Hann window; rate: beta."""

    lam: float
    sigma: float
    power: float
    rate: float


def typed_in(config: Config, size: int) -> Numbers:
    """What a run on crops of `size` pixels begins with; the rate is the preset's."""
    rate = presets.get_preset(config.preset).learning_rate
    return Numbers(config.regulariser(size), config.label_sigma(size), 1.0, rate)


def first_numbers(config: Config, size: int, dtype: Any) -> dict[str, np.ndarray]:
    """The parameters of those numbers that `config.learn` names, arrays without axes."""
    lam, sigma, power, rate = typed_in(config, size)
    logit = math.log(rate / (1 - rate)) if 0 < rate < 1 else math.nan
    values = (math.log(lam) if lam > 0 else math.nan), math.log(sigma), math.log(power), logit
    found = dict(zip(NAMES, values))
    for name in config.learnt_names:
        if math.isnan(found[name]):
            raise ValueError(f"train: {name} can be learnt only from a number between its bounds")
    return {NAMES[name]: np.array(found[name], dtype) for name in config.learnt_names}


def numbers_of(parameters: dict[str, Array], begun: Numbers) -> Numbers:
    """Those among the parameters, and the others as they were typed in."""
    found = begun._asdict()
    for name, key in NAMES.items():
        if key in parameters:
            u = float(parameters[key])
            found[FIELDS[name]] = 1 / (1 + math.exp(-u)) if name == "rate" else math.exp(u)
    return Numbers(**found)


def by_parameters(dnumbers: Numbers, numbers: Numbers, names: tuple[str, ...]) -> dict[str, Array]:
    """Gradients by the parameters from those by the numbers.

    By a logarithm it is the number times as much, by a logit beta (1 - beta) times.
    """
    lam, sigma, power, rate = numbers
    factors = dict(zip(NAMES, (lam, sigma, power, rate * (1 - rate))))
    by_name = dict(zip(NAMES, dnumbers))
    return {NAMES[name]: np.array(factors[name] * by_name[name]) for name in names}


def without_numbers(parameters: dict[str, Array]) -> dict[str, Array]:
    """The parameters of the network alone."""
    return {name: value for name, value in parameters.items() if name not in NAMES.values()}


def as_settings(parameters: dict[str, Array], config: Config, size: int) -> dict[str, float]:
    """What was learnt, as fields of a preset: lam, sigma_factor, window_power, learning_rate."""
    begun = typed_in(config, size)
    lam, sigma, power, rate = numbers_of(parameters, begun)
    fields = {
        "lam": ("lam", config.lam * lam / begun.lam if begun.lam else 0.0),
        "sigma": ("sigma_factor", config.sigma_factor * sigma / begun.sigma),
        "window": ("window_power", power),
        "rate": ("learning_rate", rate),
    }
    return {field: value for name, (field, value) in fields.items() if name in config.learnt_names}
