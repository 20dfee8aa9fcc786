"""Every preset against table rows written out by hand, and that a preset cannot be misspelt or
changed.
"""

import dataclasses

import numpy as np
import pytest

from dcfnet_np.evaluation.baselines import GRAY_PRESET, HOG_PRESET
from dcfnet_np.presets import PRESETS, Preset, get_preset, join_preset_text, split_preset_text

# What all have in common, and each preset's row: Sec. 4.1 of the paper; what it leaves open is
# MATLAB v1's, its code. v1 and v2 are the released MATLAB codes (v2 with its .mat file's meta),
# pytorch the released PyTorch code.
ALL = {
    "input_size": 125, "sigma_factor": 0.1, "lam": 1e-4, "num_scales": 3, "min_scale": 0.2, "min_size": 4.0,
    "max_scale": 5.0, "cosine_window": True, "scale_exponents": "centred", "swapped_clamp": False,
    "min_score": 0.0, "min_psr": 0.0, "lost_after": 10, "redetection": 0, "redetection_psr": 0.0,
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
COLUMNS = "padding lam_divisor learning_rate scale_step scale_penalty update_rule".split()
TABLE = {
    "default":     ((2.0, "none",     0.015, 1.055,  0.9975, "averages"), PYTORCH),
    "paper":       ((1.5, "none",     0.008, 1.0375, 1.0,    "ratio"),    MATLAB),
    "matlab-v1":   ((1.5, "elements", 0.002, 1.03,   1.0,    "averages"), MATLAB),
    "matlab-v2":   ((2.0, "elements", 0.011, 1.015,  1.0,    "averages"), MATLAB),
    "pytorch":     ((2.0, "none",     0.01,  1.0275, 0.9925, "averages"), {**PYTORCH, "swapped_clamp": True}),
    "pytorch-py3": ((2.0, "none",     0.01,  1.0275, 0.9925, "averages"),
                    {**PYTORCH, "swapped_clamp": True, "scale_exponents": "python3"}),
    "careful":     ((2.0, "none",     0.015, 1.055,  0.9975, "averages"),
                    {**PYTORCH, "min_score": 0.21, "min_psr": 7.4, "redetection": 8, "redetection_psr": 10.0}),
    # Not among PRESETS: the baselines with hand-made features, after KCF's linear filters.
    "hog-dcf":     ((1.5, "elements", 0.02,  1.0275, 0.9925, "averages"), {**PYTORCH, "input_size": 63}),
    "gray-dcf":    ((1.5, "elements", 0.075, 1.0275, 0.9925, "averages"), {**PYTORCH, "sigma_factor": 0.2}),
}  # fmt: skip
EVERY = {**PRESETS, "hog-dcf": HOG_PRESET, "gray-dcf": GRAY_PRESET}


@pytest.mark.parametrize("name", EVERY)
def test_constants(name):
    """Every field of every preset."""
    row, others = TABLE[name]
    assert dataclasses.asdict(EVERY[name]) == {
        "name": name,
        **ALL,
        **dict(zip(COLUMNS, row, strict=True)),
        **others,
    }


def test_sigma_on_the_map():
    """At 125 pixels: 5 where the window is 2.5 times the target, 4.1667 where it is 3 times."""
    for name in PRESETS:
        assert get_preset(name).sigma == pytest.approx(
            5 if name in ("paper", "matlab-v1") else 4.1667, abs=1e-4
        )


def test_scales():
    np.testing.assert_allclose(PRESETS["pytorch"].scale_factors, [1.0275**-1, 1, 1.0275])
    np.testing.assert_allclose(PRESETS["pytorch"].scale_penalties, [0.9925, 1, 0.9925])
    np.testing.assert_allclose(
        PRESETS["pytorch-py3"].scale_factors, [0.960, 0.987, 1.014], atol=1e-3
    )
    np.testing.assert_allclose(
        PRESETS["pytorch-py3"].scale_penalties, [0.9888, 0.9962, 0.9962], atol=1e-4
    )
    five = Preset("five", num_scales=5, scale_step=2.0, scale_penalty=0.5)
    np.testing.assert_array_equal(five.scale_factors, [0.25, 0.5, 1, 2, 4])
    np.testing.assert_array_equal(five.scale_penalties, [0.25, 0.5, 1, 0.5, 0.25])


def test_a_preset_is_frozen_and_knows_its_fields():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["paper"].padding = 2.0
    with pytest.raises(TypeError, match="paddding"):
        Preset("mine", paddding=2.0)
    wrong = {
        "padding": 0,
        "num_scales": 2,
        "learning_rate": 1.5,
        "lam": -1,
        "input_size": 4,
        "update_crop": "clampd",
    }
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=f"Preset: {field} must be"):
            Preset("mine", **{field: value})
    # On either side of each bound.
    bounds = {
        "input_size": (8, 7), "num_scales": (1, -1), "learning_rate": (0, -1e-9),
        "lam": (0, -1e-9), "min_score": (0, -0.1), "min_psr": (0, -0.1), "lost_after": (1, 0),
        "scale_step": (0.01, 0), "scale_penalty": (0.01, 0), "min_scale": (0.01, 0), "min_size": (0.01, 0),
        "max_scale": (0.01, 0), "sigma_factor": (0.01, 0), "padding": (0.01, 0), "redetection": (0, -1),
    }  # fmt: skip
    for field, (good, bad) in bounds.items():
        assert getattr(Preset("mine", **{field: good}), field) == good
        with pytest.raises(ValueError, match=f"Preset: {field} must be"):
            Preset("mine", **{field: bad})
    for psr, least in ((0.0, 0.0), (6.9, 7.0)):
        with pytest.raises(
            ValueError,
            match="Preset: redetection_psr must be at least min_psr, and min_psr above 0",
        ):
            Preset("mine", redetection=3, redetection_psr=psr, min_psr=least)
    with pytest.raises(ValueError, match="unknown preset 'papr'; known: default, paper"):
        get_preset("papr")
    mine = Preset("mine", padding=1.0)
    assert get_preset(mine) is mine


# --- fields on top of a preset, and files of them ---


def test_a_file_and_words_change_fields(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        '{"preset": "paper", "learning_rate": 0.02, "rounded_crop": true, "padding": 2, "provenance": {"a": 1}}'
    )
    mine = get_preset(str(path))
    assert (mine.learning_rate, mine.rounded_crop, mine.padding) == (0.02, True, 2.0) and type(
        mine.padding
    ) is float
    assert mine == dataclasses.replace(
        PRESETS["paper"], name=str(path), learning_rate=0.02, rounded_crop=True, padding=2.0
    )
    more = get_preset(f"{path}:num_scales=5:rounded_crop=False:lam_divisor=none:learning_rate=1e-3")
    assert (more.num_scales, more.rounded_crop, more.lam_divisor, more.learning_rate) == (
        5,
        False,
        "none",
        1e-3,
    )
    assert more.padding == 2.0 and more.name.endswith("learning_rate=1e-3")
    assert get_preset("default:num_scales=5").scale_step == PRESETS["default"].scale_step
    assert get_preset("default") is PRESETS["default"]
    fields = {
        "learning_rate": 0.1 + 0.2,
        "rounded_crop": True,
        "update_rule": "ratio",
        "num_scales": 7,
    }
    assert split_preset_text(join_preset_text("paper", fields)) == ("paper", fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "mine.json is no JSON"),
        ("[1]", 'mine.json must hold {"preset": "default"'),
        ('{"preset": 5}', 'must hold {"preset": "default"'),
        ('{"preset": "papr"}', "mine.json: unknown preset 'papr'; known: default"),
        (
            '{"preset": "paper", "padd": 1}',
            "mine.json: unknown field 'padd' of a preset; known: input_size, padding",
        ),
        ('{"preset": "paper", "name": "x"}', "unknown field 'name'"),
        (
            '{"preset": "paper", "padding": "1"}',
            "mine.json: padding must be a finite number, got '1'",
        ),
        ('{"preset": "paper", "padding": NaN}', "padding must be a finite number, got nan"),
        ('{"preset": "paper", "padding": true}', "padding must be a finite number, got True"),
        ('{"preset": "paper", "num_scales": 3.0}', "num_scales must be a whole number, got 3.0"),
        ('{"preset": "paper", "rounded_crop": 1}', "rounded_crop must be true or false, got 1"),
        ('{"preset": "paper", "update_rule": 1}', "update_rule must be a text, got 1"),
        (
            f'{{"padding": {"[" * 900}{"]" * 900}}}',
            "mine.json: padding must be a finite number, got [[[[[[[...]]]]]]]",
        ),
        (
            '{"preset": "paper", "num_scales": 4}',
            "mine.json: Preset: num_scales must be odd and positive, got 4",
        ),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        get_preset(str(tmp_path / "mine.json"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, {"padding": 2}])
def test_what_is_no_preset_is_named(wrong):
    with pytest.raises(
        TypeError,
        match="^preset must be a name, a .json file or a Preset, got (NoneType|int|dict)$",
    ):
        get_preset(wrong)


def test_wrong_words():
    with pytest.raises(ValueError, match="cannot read the preset none.json: No such file"):
        get_preset("none.json")
    with pytest.raises(ValueError, match="unknown field 'paddding' of a preset"):
        get_preset("default:paddding=2")
    with pytest.raises(ValueError, match="padding must be a finite number, got 'wide'"):
        get_preset("default:padding=wide")
    with pytest.raises(ValueError, match="default:num_scales=4: Preset: num_scales must be odd"):
        get_preset("default:num_scales=4")
