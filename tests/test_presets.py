"""Every preset against table rows written out by hand, and that a preset cannot be misspelt or changed."""

import dataclasses

import numpy as np
import pytest

from dcfnet_np.presets import PRESETS, Preset, get_preset, join, split

TABLE = {
    #               padding  sigma   lam    divisor     rate   step    penalty  rule        crop      rounded
    "default":     (2.0, 4.1667, 1e-4, "none",     0.015, 1.055,  0.9975, "averages", "clamped", True),
    "paper":       (1.5, 5.0,    1e-4, "none",     0.008, 1.0375, 1.0,    "ratio",    "window",  False),
    "matlab-v1":   (1.5, 5.0,    1e-4, "elements", 0.002, 1.03,   1.0,    "averages", "window",  False),
    "matlab-v2":   (2.0, 4.1667, 1e-4, "elements", 0.011, 1.015,  1.0,    "averages", "window",  False),
    "pytorch":     (2.0, 4.1667, 1e-4, "none",     0.01,  1.0275, 0.9925, "averages", "clamped", True),
    "pytorch-py3": (2.0, 4.1667, 1e-4, "none",     0.01,  1.0275, 0.9925, "averages", "clamped", True),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_constants(name):
    preset = get_preset(name)
    names = "padding sigma lam lam_divisor learning_rate scale_step scale_penalty update_rule update_crop rounded_crop"
    got = tuple(getattr(preset, field) for field in names.split())
    assert (got[0], round(got[1], 4), *got[2:]) == TABLE[name]
    assert preset.name == name and preset.input_size == 125 and preset.num_scales == 3


def test_matlab_walks_down_columns_and_wraps_early():
    for name in ("paper", "matlab-v1", "matlab-v2"):
        assert PRESETS[name].column_major_ties and PRESETS[name].wrap_before_half
    for name in ("pytorch", "pytorch-py3", "default"):
        assert not PRESETS[name].column_major_ties and not PRESETS[name].wrap_before_half
    assert PRESETS["pytorch"].swapped_clamp and not PRESETS["default"].swapped_clamp


def test_scales():
    np.testing.assert_allclose(PRESETS["pytorch"].scale_factors, [1.0275**-1, 1, 1.0275])
    np.testing.assert_allclose(PRESETS["pytorch"].scale_penalties, [0.9925, 1, 0.9925])
    np.testing.assert_allclose(PRESETS["pytorch-py3"].scale_factors, [0.960, 0.987, 1.014], atol=1e-3)
    np.testing.assert_allclose(PRESETS["pytorch-py3"].scale_penalties, [0.9888, 0.9962, 0.9962], atol=1e-4)


def test_a_preset_is_frozen_and_knows_its_fields():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["paper"].padding = 2.0
    with pytest.raises(TypeError, match="paddding"):
        Preset("mine", paddding=2.0)
    wrong = {"padding": 0, "num_scales": 2, "learning_rate": 1.5, "lam": -1, "input_size": 4, "update_crop": "clampd"}
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=f"Preset: {field} must be"):
            Preset("mine", **{field: value})
    with pytest.raises(ValueError, match="unknown preset 'papr'; known: default, paper"):
        get_preset("papr")
    mine = Preset("mine", padding=1.0)
    assert get_preset(mine) is mine


# --- fields on top of a preset, and files of them ---


def test_a_file_and_words_change_fields(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        '{"preset": "paper", "learning_rate": 0.02, "subpixel": true, "padding": 2, "provenance": {"a": 1}}'
    )
    mine = get_preset(str(path))
    assert (mine.learning_rate, mine.subpixel, mine.padding) == (0.02, True, 2.0) and type(mine.padding) is float
    assert mine == dataclasses.replace(PRESETS["paper"], name=str(path), learning_rate=0.02, subpixel=True, padding=2.0)
    more = get_preset(f"{path}:num_scales=5:subpixel=False:lam_divisor=none:learning_rate=1e-3")
    assert (more.num_scales, more.subpixel, more.lam_divisor, more.learning_rate) == (5, False, "none", 1e-3)
    assert more.padding == 2.0 and more.name.endswith("learning_rate=1e-3")
    assert get_preset("default:num_scales=5").scale_step == PRESETS["default"].scale_step
    assert get_preset("default") is PRESETS["default"]
    fields = {"learning_rate": 0.1 + 0.2, "subpixel": True, "update_rule": "ratio", "num_scales": 7}
    assert split(join("paper", fields)) == ("paper", fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "mine.json is no JSON"),
        ("[1]", 'mine.json must hold {"preset": "default"'),
        ('{"preset": 5}', 'must hold {"preset": "default"'),
        ('{"preset": "papr"}', "mine.json: unknown preset 'papr'; known: default"),
        ('{"preset": "paper", "padd": 1}', "mine.json: unknown field 'padd' of a preset; known: input_size, padding"),
        ('{"preset": "paper", "name": "x"}', "unknown field 'name'"),
        ('{"preset": "paper", "padding": "1"}', "mine.json: padding must be a finite number, got '1'"),
        ('{"preset": "paper", "padding": NaN}', "padding must be a finite number, got nan"),
        ('{"preset": "paper", "padding": true}', "padding must be a finite number, got True"),
        ('{"preset": "paper", "num_scales": 3.0}', "num_scales must be a whole number, got 3.0"),
        ('{"preset": "paper", "subpixel": 1}', "subpixel must be true or false, got 1"),
        ('{"preset": "paper", "update_rule": 1}', "update_rule must be a text, got 1"),
        ('{"preset": "paper", "num_scales": 4}', "mine.json: Preset: num_scales must be odd and positive, got 4"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        get_preset(str(tmp_path / "mine.json"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_words():
    with pytest.raises(ValueError, match="cannot read the preset none.json: No such file"):
        get_preset("none.json")
    with pytest.raises(ValueError, match="unknown field 'paddding' of a preset"):
        get_preset("default:paddding=2")
    with pytest.raises(ValueError, match="padding must be a finite number, got 'wide'"):
        get_preset("default:padding=wide")
    with pytest.raises(ValueError, match="default:num_scales=4: Preset: num_scales must be odd"):
        get_preset("default:num_scales=4")
