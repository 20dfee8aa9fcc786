"""Frozen tracking settings: what the paper says, what each released code does, and our own default.

The sources disagree in small ways that change scores, and each is a named preset here.
docs/reference/presets.md goes through every constant, row by row.  Two things that the sources also
differ in, the mean and the channel order, belong to the weights (`weights.Weights`), since a
network is only right with its own.

Wherever a preset is named, `NAME:FIELD=VALUE` changes a field, and a .json file holds such a
change: see `split_preset_text`.
"""

import contextlib
import dataclasses
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from .support.files import read_text

# fields whose bound is 0
POSITIVE = (
    *("padding", "sigma_factor", "scale_step", "scale_penalty"),
    *("min_scale", "min_size", "max_scale"),
)
NOT_NEGATIVE = (
    *("lam", "min_score", "min_psr", "min_share"),
    *("redetection", "redetection_psr", "redetection_share", "reuse_within", "window_power"),
)
# what training can learn beside the network, see train.numbers
LEARNABLE = "lam", "sigma_factor", "window_power", "learning_rate"
OWN = "default", "fast", "careful"  # presets that no source fixes


@dataclass(frozen=True)
class Preset:
    """Settings of the tracker; those not given are `default`'s.  Sizes are in pixels.

    An unknown field raises TypeError, a bad value ValueError.
    """

    name: str
    input_size: int = 125  # network input and, padded, feature map
    padding: float = 2.0  # the window is (1 + padding) times the target
    sigma_factor: float = 0.1  # label sigma = sigma_factor * input_size / (1 + padding)
    lam: float = 1e-4  # lambda of Eqs. 1-2
    # "none": as in Eq. 2.  "elements": energies are divided by H W D before lambda is added
    # (MATLAB), the same as multiplying lambda by H W D.
    lam_divisor: Literal["none", "elements"] = "none"
    learning_rate: float = 0.015  # weight of the newest frame in the model
    # Eq. 13, or the released codes' (see `filter`)
    update_rule: Literal["ratio", "averages"] = "averages"
    # size of the template crop after a scale change
    update_crop: Literal["clamped", "window"] = "clamped"
    # A peak at most so far from the middle of its window, as a share of the window, is learned from
    # that window: its spectrum, moved there.  Else the template is a crop of its own; 0: always.
    reuse_within: float = 0.0
    num_scales: int = 3
    scale_step: float = 1.055
    scale_penalty: float = 0.9975  # factor on the peak of scale s, to the power of |s|
    # exponents -1, 0, 1, or n - 3/2 = -1.5, -0.5, 0.5: what num_scale / 2 became under Python 3
    scale_exponents: Literal["centred", "python3"] = "centred"
    min_scale: float = 0.2  # smallest size over the first one, at least min_size pixels
    min_size: float = 4.0
    max_scale: float = 5.0  # largest size over the first one, at most the frame
    swapped_clamp: bool = False  # the PyTorch code compares (w, h) with the frame's (h, w)
    rounded_crop: bool = True  # crop rounded to whole grey levels
    window_power: float = 1.0  # of the Hann window that features are multiplied by; 0: no window
    column_major_ties: bool = False  # which of several equal peaks wins: MATLAB walks down columns
    # at N = 125, index 62 means -63 (MATLAB, 1-based test) instead of +62
    wrap_before_half: bool = False
    # Loss, docs/results/loss.md; none of the sources has it.
    # With a lower score or PSR the tracker is unsure and learns nothing; 0: always sure.
    min_score: float = 0.0
    min_psr: float = 0.0
    # The same for the score as a share of the target's usual one, a running mean over the frames
    # in which the tracker was sure; the newest weighs usual_rate.  Each unsure frame multiplies
    # min_share by its decay: a target that has changed is taken for itself in the end.
    min_share: float = 0.4
    min_share_decay: float = 0.98
    usual_rate: float = 0.05
    lost_after: int = 10  # frames in a row that are unsure, until the target counts as lost
    # windows a frame in which the target is also looked for, after so many unsure frames in a row:
    # the nearest ones first, on and on through the whole frame and again.  As many as the frame
    # has: the whole frame at once.
    redetection: int = 9
    redetection_after: int = 1
    # what PSR and share must reach there beside the bounds above: many windows are many chances to
    # err
    redetection_psr: float = 0.0
    redetection_share: float = 0.7

    def __post_init__(self) -> None:
        rules = {
            "input_size": (self.input_size >= 8, ">= 8"),
            "num_scales": (self.num_scales >= 1 and self.num_scales % 2 == 1, "odd and positive"),
            "learning_rate": (0 <= self.learning_rate <= 1, "in [0, 1]"),
            "usual_rate": (0 <= self.usual_rate <= 1, "in [0, 1]"),
            "min_share_decay": (0 <= self.min_share_decay <= 1, "in [0, 1]"),
            "lost_after": (self.lost_after >= 1, ">= 1"),
            "redetection_after": (self.redetection_after >= 1, ">= 1"),
        }
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), get_args(field.type)
            if choices:
                rules[field.name] = (value in choices, " or ".join(map(repr, choices)))
            elif field.name in POSITIVE:
                rules[field.name] = (value > 0, "> 0")
            elif field.name in NOT_NEGATIVE:
                rules[field.name] = (value >= 0, ">= 0")
        if self.redetection > 0:
            rules["redetection"] = (
                self.has_thresholds,
                "0 where min_score, min_psr and min_share are 0: any response would be believed",
            )
        for name, (good, expected) in rules.items():
            if not good:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    @property
    def sigma(self) -> float:
        """Standard deviation of the label in pixels of the feature map."""
        return self.sigma_factor * self.input_size / (1 + self.padding)

    @property
    def has_thresholds(self) -> bool:
        """Whether a response can be too weak to be believed."""
        return bool(self.min_score or self.min_psr or self.min_share)

    @property
    def exponents(self) -> np.ndarray:
        """Scale exponents s of Sec. 4.1, (num_scales,)."""
        half = self.num_scales // 2 if self.scale_exponents == "centred" else self.num_scales / 2
        return np.arange(self.num_scales) - half

    @property
    def scale_factors(self) -> np.ndarray:
        """a^s of Sec. 4.1, (num_scales,)."""
        return self.scale_step**self.exponents

    @property
    def scale_penalties(self) -> np.ndarray:
        """Factors on the peaks of the scales, (num_scales,)."""
        return self.scale_penalty ** abs(self.exponents)


# Learning rate, scale step and penalty: found on validation sequences, docs/howto/tuning.md.  What
# keeps a target: found in the wind tunnel, docs/results/loss.md.  The rest is the PyTorch code's.
_DEFAULT = Preset("default")

# The sources believe every response.
_ALWAYS_SURE = dataclasses.replace(
    _DEFAULT, min_share=0.0, min_share_decay=1.0, redetection=0, redetection_share=0.0
)

_PYTORCH = dataclasses.replace(
    _ALWAYS_SURE,
    name="pytorch",
    learning_rate=0.01,
    scale_step=1.0275,
    scale_penalty=0.9925,
    swapped_clamp=True,
)

_MATLAB_V1 = dataclasses.replace(
    _ALWAYS_SURE,
    name="matlab-v1",
    padding=1.5,
    lam_divisor="elements",
    learning_rate=0.002,
    scale_step=1.03,
    scale_penalty=1.0,  # the code says .9925, but multiplies all scales by it: no effect
    update_crop="window",
    rounded_crop=False,
    column_major_ties=True,
    wrap_before_half=True,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _DEFAULT,
        # What the paper is silent about is v1's, the code of the paper.
        dataclasses.replace(
            _MATLAB_V1,
            name="paper",
            lam_divisor="none",
            learning_rate=0.008,
            scale_step=1.0375,
            update_rule="ratio",
        ),
        _MATLAB_V1,
        # The values in the released .mat file's meta, which override the script's (0.01, 1.0275,
        # 0.9925).
        dataclasses.replace(
            _MATLAB_V1, name="matlab-v2", padding=2.0, learning_rate=0.011, scale_step=1.015
        ),
        _PYTORCH,
        dataclasses.replace(_PYTORCH, name="pytorch-py3", scale_exponents="python3"),
        # A quarter less work: no crop to learn from, docs/results/boxes.md.
        dataclasses.replace(_DEFAULT, name="fast", reuse_within=0.17),
        # Unsure by thresholds that are the same for every target: docs/results/loss.md.
        dataclasses.replace(
            _ALWAYS_SURE,
            name="careful",
            min_score=0.21,
            min_psr=7.4,
            redetection=9,
            redetection_after=10,
            redetection_psr=10.0,
        ),
    )
}


def get_preset(preset: str | Preset) -> Preset:
    """A preset by its text, see `split_preset_text`; a Preset comes back as it is.

    ValueError, one line, for anything wrong.
    """
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str):
        kind = type(preset).__name__
        raise TypeError(f"preset must be a name, a .json file or a Preset, got {kind}")
    base, fields = split_preset_text(preset)
    if not fields:
        return PRESETS[base]
    try:
        return dataclasses.replace(PRESETS[base], name=preset, **fields)
    except ValueError as error:
        raise ValueError(f"{preset}: {error}") from None


def with_learnt(preset: str | Preset, learnt: Any) -> Preset:
    """A preset, with what its weights have learnt beside the network.

    learnt: {field: number} of LEARNABLE fields, or None.  It stands in for a field of `default`,
    `fast` and `careful` that the text does not give; the presets of others, and a Preset, stay.
    """
    if not (isinstance(preset, str) and isinstance(learnt, dict)):
        return get_preset(preset)
    base, given = split_preset_text(preset)
    if base not in OWN:
        return get_preset(preset)
    fields = {name: _checked(name, learnt[name]) for name in LEARNABLE if name in learnt}
    return dataclasses.replace(PRESETS[base], name=preset, **(fields | given))


def split_preset_text(preset: str) -> tuple[str, dict[str, Any]]:
    """`NAME|FILE.json[:FIELD=VALUE...]` -> a name in PRESETS, and the fields that go on top of it.

    The file holds {"preset": NAME, FIELD: VALUE, ...}, without a name `default`'s; what else is
    under "provenance" is for people.
    """
    text, *words = re.split(r":(?=\w+=)", preset)
    base, fields = _read(Path(text)) if text.lower().endswith(".json") else (text, {})
    if base not in PRESETS:
        where = "" if base == text else f"{text}: "
        known = f"{', '.join(PRESETS)}, or a .json file of fields"
        raise ValueError(f"{where}unknown preset {base!r}; known: {known}")
    for word in words:
        name, _, value = word.partition("=")
        fields[name] = parse_field(name, value)
    return base, fields


def join_preset_text(base: str, fields: Mapping[str, Any]) -> str:
    """The text that `split_preset_text` takes apart."""
    return ":".join([base, *(f"{name}={value}" for name, value in fields.items())])


def parse_field(name: str, text: str) -> Any:
    """The value of a field from text; ValueError for an unknown field or another type's value."""
    kind, value = _kind(name), text
    with contextlib.suppress(ValueError):
        value = json.loads(text.lower()) if kind is bool else kind(text)
    return _checked(name, value)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise ValueError(f"cannot read the preset {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the preset {path} is no JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("preset", ""), str):
        raise ValueError(
            f'{path} must hold {{"preset": "default", FIELD: VALUE, ...}}, '
            "with the name of a preset"
        )
    base = content.pop("preset", "default")
    content.pop("provenance", None)
    try:
        return base, {name: _checked(name, value) for name, value in content.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _kind(name: str) -> type:
    """int, float, bool or str.  ValueError for an unknown field."""
    kinds = {field.name: field.type for field in dataclasses.fields(Preset) if field.name != "name"}
    if name not in kinds:
        raise ValueError(f"unknown field {name!r} of a preset; known: {', '.join(kinds)}")
    kind = kinds[name]
    return kind if isinstance(kind, type) else str


def _checked(name: str, value: Any) -> Any:
    kind = _kind(name)
    good = type(value) is kind or (kind is float and type(value) is int)
    if not good or (kind is float and not math.isfinite(value)):
        words = {int: "a whole number", float: "a finite number", bool: "true or false"}
        expected = words.get(kind, "a text")
        raise ValueError(f"{name} must be {expected}, got {reprlib.repr(value)}")
    return kind(value)
