"""Every preset against table rows written out by hand; a preset cannot be misspelt or changed."""

import dataclasses
import re

import numpy as np
import pytest

from dcfnet_np.evaluation.baselines import GRAY_PRESET, HOG_PRESET
from dcfnet_np.presets import (
    LEARNABLE,
    PRESETS,
    Preset,
    get_preset,
    join_preset_text,
    split_preset_text,
    with_learnt,
)
from dcfnet_np.tracker import Tracker
from dcfnet_np.weights import load_weights

# What all have in common, and each preset's row: Sec. 4.1 of the paper; what it leaves open is
# MATLAB v1's, its code.  v1 and v2 are the released MATLAB codes (v2 with its .mat file's meta),
# pytorch the released PyTorch code.
ALL = {
    "input_size": 125, "sigma_factor": 0.1, "lam": 1e-4, "num_scales": 3, "min_scale": 0.2,
    "min_size": 4.0, "max_scale": 5.0, "window_power": 1.0, "scale_exponents": "centred",
    "swapped_clamp": False, "min_score": 0.0, "min_psr": 0.0, "lost_after": 10, "redetection": 0,
    "redetection_psr": 0.0, "min_share": 0.0, "min_share_decay": 1.0, "usual_rate": 0.05,
    "redetection_share": 0.0, "redetection_after": 1, "reuse_within": 0.0,
}  # fmt: skip
MATLAB = {
    "update_crop": "window",
    "rounded_crop": False,
    "column_major_ties": True,
    "wrap_before_half": True,
}
PYTORCH = {
    "update_crop": "clamped",
    "rounded_crop": True,
    "column_major_ties": False,
    "wrap_before_half": False,
}
SWAPPED = {**PYTORCH, "swapped_clamp": True}
CAREFUL = {
    "min_score": 0.21, "min_psr": 7.4, "redetection": 9, "redetection_psr": 10.0,
    "redetection_after": 10,
}  # fmt: skip
KEEPS = {"min_share": 0.4, "min_share_decay": 0.98, "redetection": 9, "redetection_share": 0.7}
COLUMNS = ["padding", "lam_divisor", "learning_rate", "scale_step", "scale_penalty", "update_rule"]
TABLE = {
    "default":     ((2.0, "none",     0.015, 1.055,  0.9975, "averages"), {**PYTORCH, **KEEPS}),
    "paper":       ((1.5, "none",     0.008, 1.0375, 1.0,    "ratio"),    MATLAB),
    "matlab-v1":   ((1.5, "elements", 0.002, 1.03,   1.0,    "averages"), MATLAB),
    "matlab-v2":   ((2.0, "elements", 0.011, 1.015,  1.0,    "averages"), MATLAB),
    "pytorch":     ((2.0, "none",     0.01,  1.0275, 0.9925, "averages"), SWAPPED),
    "pytorch-py3": ((2.0, "none",     0.01,  1.0275, 0.9925, "averages"),
                    {**SWAPPED, "scale_exponents": "python3"}),
    "fast":        ((2.0, "none",     0.015, 1.055,  0.9975, "averages"),
                    {**PYTORCH, **KEEPS, "reuse_within": 0.17}),
    "careful":     ((2.0, "none",     0.015, 1.055,  0.9975, "averages"), {**PYTORCH, **CAREFUL}),
    # Not among PRESETS: the baselines with hand-made features, after KCF's linear filters.
    "hog-dcf":     ((1.5, "elements", 0.02,  1.0275, 0.9925, "averages"),
                    {**PYTORCH, "input_size": 63}),
    "gray-dcf":    ((1.5, "elements", 0.075, 1.0275, 0.9925, "averages"),
                    {**PYTORCH, "sigma_factor": 0.2}),
}  # fmt: skip
EVERY = {**PRESETS, "hog-dcf": HOG_PRESET, "gray-dcf": GRAY_PRESET}


@pytest.mark.parametrize("name", EVERY)
def test_constants(name):
    """Every field of every preset."""
    row, others = TABLE[name]
    columns = dict(zip(COLUMNS, row, strict=True))
    assert dataclasses.asdict(EVERY[name]) == {"name": name, **ALL, **columns, **others}


def test_sigma_and_scales():
    """At 125 pixels sigma is 5 where the window is 2.5 times the target, 4.1667 where it is 3."""
    for name, preset in PRESETS.items():
        wanted = 5 if name in ("paper", "matlab-v1") else 4.1667
        assert preset.sigma == pytest.approx(wanted, abs=1e-4)
    for name, factors, penalties in (
        ("pytorch", [1.0275**-1, 1, 1.0275], [0.9925, 1, 0.9925]),
        ("pytorch-py3", [0.960, 0.987, 1.014], [0.9888, 0.9962, 0.9962]),
    ):
        np.testing.assert_allclose(PRESETS[name].scale_factors, factors, atol=1e-3)
        np.testing.assert_allclose(PRESETS[name].scale_penalties, penalties, atol=1e-4)
    five = Preset("five", num_scales=5, scale_step=2.0, scale_penalty=0.5)
    np.testing.assert_array_equal(five.scale_factors, [0.25, 0.5, 1, 2, 4])
    np.testing.assert_array_equal(five.scale_penalties, [0.25, 0.5, 1, 0.5, 0.25])


# The best value that is taken, and one that is not.
BOUNDS = {
    "input_size": (8, 7), "num_scales": (1, -1), "learning_rate": (0, -1e-9), "lam": (0, -1e-9),
    "min_score": (0, -0.1), "min_psr": (0, -0.1), "lost_after": (1, 0), "scale_step": (0.01, 0),
    "scale_penalty": (0.01, 0), "min_scale": (0.01, 0), "min_size": (0.01, 0),
    "max_scale": (0.01, 0), "sigma_factor": (0.01, 0), "padding": (0.01, 0),
    "redetection": (0, -1), "min_share": (0, -0.1), "usual_rate": (0, 1.1),
    "min_share_decay": (0, 1.1), "redetection_psr": (0, -0.1), "reuse_within": (0, -0.1),
    "redetection_share": (0, -0.1), "redetection_after": (1, 0),
    "update_crop": ("window", "clampd"), "update_rule": ("ratio", "mean"),
}  # fmt: skip


@pytest.mark.parametrize(
    "field, good, bad",
    [*((field, *bounds) for field, bounds in BOUNDS.items()), ("learning_rate", 1, 1.5)],
)
def test_a_value_out_of_range_is_refused(field, good, bad):
    assert getattr(Preset("mine", **{"redetection": 0, field: good}), field) == good
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Preset("mine", **{field: bad})


def test_a_preset_is_frozen_and_knows_its_fields():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["paper"].padding = 2.0
    with pytest.raises(TypeError, match="paddding"):
        Preset("mine", paddding=2.0)
    with pytest.raises(ValueError, match="num_scales must be odd"):
        Preset("mine", num_scales=2)
    with pytest.raises(ValueError, match="redetection must be >= 0, got -1"):
        get_preset("careful:redetection=-1")
    with pytest.raises(ValueError, match="redetection must be 0 where min_score, min_psr and"):
        Preset("mine", redetection=3, min_share=0.0)
    with pytest.raises(ValueError, match="unknown preset 'papr'; known: default, paper"):
        get_preset("papr")
    mine = Preset("mine", padding=1.0)
    assert get_preset(mine) is mine


# --- fields on top of a preset, and files of them ---


def test_a_file_and_words_change_fields(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        '{"preset": "paper", "learning_rate": 0.02, "rounded_crop": true, "padding": 2, '
        '"provenance": {"a": 1}}'
    )
    mine = get_preset(str(path))
    changes = {"learning_rate": 0.02, "rounded_crop": True, "padding": 2.0}
    assert mine == dataclasses.replace(PRESETS["paper"], name=str(path), **changes)
    assert type(mine.padding) is float
    more = get_preset(f"{path}:num_scales=5:rounded_crop=False:lam_divisor=none:learning_rate=1e-3")
    assert (more.num_scales, more.rounded_crop, more.learning_rate) == (5, False, 1e-3)
    assert more.padding == 2.0 and more.name.endswith("learning_rate=1e-3")
    assert get_preset("default:num_scales=5").scale_step == PRESETS["default"].scale_step
    assert get_preset("default") is PRESETS["default"]
    fields = {"learning_rate": 0.1 + 0.2, "rounded_crop": True, "update_rule": "ratio"}
    assert split_preset_text(join_preset_text("paper", fields)) == ("paper", fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "mine.json is no JSON"),
        ("[1]", 'mine.json must hold {"preset": "default"'),
        ('{"preset": "papr"}', "mine.json: unknown preset 'papr'; known: default"),
        ('{"padd": 1}', "mine.json: unknown field 'padd' of a preset; known: input_size, padding"),
        ('{"padding": "1"}', "mine.json: padding must be a finite number, got '1'"),
        ('{"padding": NaN}', "padding must be a finite number, got nan"),
        ('{"num_scales": 3.0}', "num_scales must be a whole number, got 3.0"),
        ('{"rounded_crop": 1}', "rounded_crop must be true or false, got 1"),
        ('{"update_rule": 1}', "update_rule must be a text, got 1"),
        (
            f'{{"padding": {"[" * 900}{"]" * 900}}}',
            "mine.json: padding must be a finite number, got [[[[[[[...]]]]]]]",
        ),
        ('{"num_scales": 4}', "mine.json: num_scales must be odd and positive, got 4"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        get_preset(str(tmp_path / "mine.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.json", "cannot read the preset none.json: No such file"),
        ("default:paddding=2", "unknown field 'paddding' of a preset"),
        ("default:num_scales=4", "default:num_scales=4: num_scales must be odd"),
    ],
)
def test_wrong_words(text, message):
    with pytest.raises(ValueError, match=message):
        get_preset(text)


@pytest.mark.parametrize("wrong", [None, 3, {"padding": 2}])
def test_what_is_no_preset_is_named(wrong):
    message = "^preset must be a name, a .json file or a Preset, got (NoneType|int|dict)$"
    with pytest.raises(TypeError, match=message):
        get_preset(wrong)


def test_what_weights_have_learnt():
    """It stands in for what nobody gave, of our own presets."""
    learnt = {"lam": 2e-3, "sigma_factor": 0.09, "window_power": 0.7, "learning_rate": 0.02}
    assert set(learnt) == set(LEARNABLE)
    weights = load_weights("light")
    weights = dataclasses.replace(weights, training=weights.training | {"learnt": learnt})
    preset = Tracker(weights, "careful:lam=0.5", "cpu").preset
    wanted = {**dataclasses.asdict(PRESETS["careful"]), **learnt, "lam": 0.5}
    assert dataclasses.asdict(preset) == {**wanted, "name": "careful:lam=0.5"}
    assert Tracker(weights, "pytorch", "cpu").preset is PRESETS["pytorch"]
    assert Tracker(weights, PRESETS["default"], "cpu").preset is PRESETS["default"]
    assert Tracker("light", "default", "cpu").preset is PRESETS["default"]
    for wrong in ("text", ["lam"], {"unknown": 1}):
        assert with_learnt("default", wrong) == PRESETS["default"]
    with pytest.raises(ValueError, match="^lam must be a finite number, got 'much'$"):
        with_learnt("default", {"lam": "much"})
