"""What a search of settings may draw: the words of `--search` as distributions of optuna's."""

import dataclasses
import importlib.util
import itertools
from collections.abc import Sequence
from typing import Any

from ..presets import get_preset, parse_field


def parse_search_space(text: str, preset: str) -> dict[str, Any]:
    """The fields of a search with optuna's distributions of what they may be.

    ValueError, one line, for what no trial could use.
    """
    if importlib.util.find_spec("optuna") is None:
        advice = "install the extra: pip install 'dcfnet_np[train]'"
        raise ValueError(f"dcfnet tune needs optuna; {advice}")
    base, space = get_preset(preset), dict[str, Any]()
    for part in text.split(","):
        name, equals, values = (word.strip() for word in part.partition("="))
        if not equals or name in space:
            forms = "FIELD=LOW:HIGH, FIELD=LOW:HIGH:log, FIELD=LOW:HIGH:STEP or FIELD=A|B"
            raise ValueError(f"--search {part!r}: expected {forms}, each field once")
        try:
            space[name] = _parse_axis(name, values)
        except ValueError as error:
            raise ValueError(f"--search {part}: {error}") from None
    # Rules of a preset join at most neighbouring fields, so the corners and each single value show
    # what is wrong.
    axes = {name: _values(axis) for name, axis in space.items()}
    corners = itertools.product(*((axis[0], axis[-1]) for axis in axes.values()))
    allowed = [dict(zip(space, corner)) for corner in corners]
    singles = [{name: value} for name, axis in axes.items() for value in axis]
    allowed += [allowed[0] | single for single in singles]
    for fields in allowed:
        try:
            dataclasses.replace(base, **fields)
        except ValueError as error:
            chosen = ", ".join(f"{name}={value}" for name, value in fields.items())
            raise ValueError(f"--search allows {chosen}, but {error}") from None
    return space


def _parse_axis(name: str, text: str) -> Any:
    """One distribution of optuna's, which refuses a range that is none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if ":" not in text:
        choices = [parse_field(name, word.strip()) for word in text.split("|")]
        return CategoricalDistribution(choices)
    low, high, *rest = (word.strip() for word in text.split(":"))
    first, last = parse_field(name, low), parse_field(name, high)
    if isinstance(first, bool | str):
        raise ValueError(f"{name} has no range; give choices: {name}=A|B")
    log = rest == ["log"]
    step = None if log or not rest else parse_field(name, ":".join(rest))
    if step is not None and step > last - first:  # optuna would take one value
        raise ValueError(f"the step must be at most the range, got {step}")
    if isinstance(first, int):
        return IntDistribution(first, last, log=log, step=1 if step is None else step)
    return FloatDistribution(first, last, log=log, step=step)


def _values(axis: Any) -> Sequence[Any]:
    """The values of an axis where they are counted, else its ends."""
    if hasattr(axis, "choices"):
        return tuple(axis.choices)
    whole = isinstance(axis.low, int)
    return range(axis.low, axis.high + 1, axis.step) if whole else (axis.low, axis.high)


def holds(axis: Any, value: Any) -> bool:
    """Whether a trial may draw this value."""
    if hasattr(axis, "choices") or isinstance(axis.low, int):
        return value in _values(axis)
    on_step = not axis.step or (value - axis.low) % axis.step == 0
    return bool(axis.low <= value <= axis.high and on_step)
