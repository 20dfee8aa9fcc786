"""Every setting of every training recipe against a table typed by hand: the paper, the released
codes, our own.
"""

import dataclasses

import numpy as np
import pytest

from dcfnet_np import network, presets
from dcfnet_np.train.config import Config, recipe

# Sources: the paper, Secs. 3.4 and 4.1; MATLAB v1 (train_DCFNet.m, learning rate 1e-5 and 20
# epochs) and v2 (logspace(-2, -5, 50)); the PyTorch code's train_DCFNet.py.
ALL = {
    "sigma_factor": 0.1, "lam": 1e-4, "pairs_per_epoch": 0, "max_gap": 10, "initial_scale": 1.0,
    "cosine_window": 0.0, "flip": False, "light": 0.0, "colour": 0.0, "jitter": 0, "scale": 0.0,
    "gray": 0.0, "blur": 0.0, "rotate": 0.0, "stretch": 0.0,
    "optimiser": "sgd", "averaging": 0.0, "momentum": 0.9,
    "mean": (104.0, 117.0, 123.0), "hold_out": True, "validation_pairs": 512,
    "divergence": 10.0, "seed": 0,
}  # fmt: skip
V1 = {
    "arch": "conv1", "padding": 1.5, "lam_divisor": "elements", "pairs": "ahead", "batch": 16,
    "epochs": 20, "schedule": "constant", "lr_start": 1e-5, "weight_decay": 5e-4,
}  # fmt: skip
V2 = {
    "arch": "light", "padding": 2.0, "lam_divisor": "elements", "pairs": "ahead", "batch": 32,
    "epochs": 50, "schedule": "logspace", "lr_start": 1e-2, "lr_end": 1e-5, "weight_decay": 5e-4,
}  # fmt: skip
PYTORCH = {
    **V2, "lam_divisor": "none", "weight_decay": 5e-5, "mean": (109.0, 120.0, 119.0),
    # uniform in +-1/sqrt(fan in): variance 1/(3 fan in), He's is 2/fan in
    "initial_scale": 0.408248290463863,
}  # fmt: skip
DEFAULT = {
    "arch": "light", "padding": 2.0, "lam_divisor": "none", "pairs": "near", "batch": 4,
    "epochs": 20, "pairs_per_epoch": 1000, "max_gap": 50, "initial_scale": 0.41,
    "cosine_window": 0.5, "optimiser": "adam", "averaging": 0.999, "schedule": "cosine",
    "lr_start": 4e-3, "lr_end": 4e-5, "weight_decay": 5e-5, "flip": True, "light": 0.3,
    "colour": 0.1, "gray": 0.1, "blur": 1.0, "jitter": 24, "scale": 0.1, "rotate": 14.0,
    "stretch": 0.1,
}  # fmt: skip
TABLE = {
    "default": DEFAULT,
    "careful": DEFAULT,
    "fast": DEFAULT,
    "paper": {**V1, "lam_divisor": "none", "pairs": "all"},
    "matlab-v1": V1,
    "matlab-v2": V2,
    "pytorch": PYTORCH,
    "pytorch-py3": PYTORCH,
}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_setting(name):
    got, want = dataclasses.asdict(recipe(name)), {**ALL, **TABLE[name], "preset": name}
    assert {field: got[field] for field in want} == want
    preset = presets.get_preset(name)
    for field in ("padding", "sigma_factor", "lam", "lam_divisor"):
        assert got[field] == getattr(preset, field), field
    assert network.feature_size(125, got["arch"], "valid") == 121


def test_a_preset_from_a_file_has_the_recipe_of_the_one_it_names(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"preset": "paper", "learning_rate": 0.02}')
    named = dataclasses.replace(recipe("paper"), preset="paper:learning_rate=0.02")
    assert recipe(str(path)) == named
    assert recipe("careful:num_scales=5").epochs == recipe("default").epochs


def test_what_a_plain_config_is():
    """The released PyTorch code's, but for the mean, which is that of tracking, and pairs on both
    sides in time.
    """
    got, want = dataclasses.asdict(Config()), {**ALL, **PYTORCH}
    want |= {"preset": "default", "pairs": "near"}
    want |= {"mean": (104.0, 117.0, 123.0), "initial_scale": 1.0}
    assert {field: got[field] for field in want} == want


def test_rates_labels_and_regularisers():
    """By hand: the rates of the first, the second and the last epoch; sigma and lambda on maps of
    121 pixels.
    """
    rates = {"paper": (1e-5,) * 3, "pytorch": (1e-2, 10 ** (-2 - 3 / 49), 1e-5)}
    rates["default"] = (4e-3, 4e-5 + (4e-3 - 4e-5) * (1 + np.cos(np.pi / 19)) / 2, 4e-5)
    for name, want in rates.items():
        config = recipe(name)
        got = [config.learning_rate(epoch) for epoch in (0, 1, config.epochs - 1)]
        np.testing.assert_allclose(got, want, rtol=1e-12)
    for name in TABLE:  # 121 * 121 * 32 = 468,512
        factor = 468_512 if name.startswith("matlab") else 1
        assert recipe(name).regulariser(125) == pytest.approx(1e-4 * factor, rel=1e-12)
        sigma = 5.0 if recipe(name).padding == 1.5 else 25 / 6
        assert recipe(name).label_sigma(125) == pytest.approx(sigma)
    assert [recipe("default").windowed(step) for step in (1, 2, 3, 4)] == [False, True, False, True]
    some = Config(cosine_window=0.25)
    assert [some.windowed(step) for step in range(1, 9)] == [False, False, False, True] * 2
    assert not recipe("paper").windowed(2) and Config(cosine_window=1).windowed(1)
    assert Config(epochs=1).learning_rate(0) == 1e-2
