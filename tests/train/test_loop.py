"""train/loop.py: what a run writes, learns from, resumes from and refuses."""

import re

import numpy as np
import pytest
from training import SIZE, Killed, config, read_log, train, write_crops

from dcfnet_np import network, weights
from dcfnet_np.support import threads
from dcfnet_np.train import loop, optimisers
from dcfnet_np.train.checkpoint import GROUPS, load_checkpoint
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import read_crops
from dcfnet_np.train.optimisers import first_learnt
from dcfnet_np.train.pairs import draw_training_pairs, draw_validation_pairs
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.train.prepare import Window, prepare_crops


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    """Two sequences to learn from and one held out; frame 3 of ant shows next to nothing."""
    return write_crops(tmp_path_factory.mktemp("sequences"), white=[("ant", 3)])


WHOLE = config(initial_scale=0.41, optimiser="adam", averaging=0.9)


@pytest.fixture(scope="module")
def whole_run(crops_file, tmp_path_factory):
    """RUN_DIR of an uninterrupted run."""
    return train(crops_file, WHOLE, tmp_path_factory.mktemp("runs") / "whole")


def test_log_checkpoint_and_weights(crops_file, whole_run):
    files = {path.name for path in whole_run.iterdir()}
    assert files == {"checkpoint.npz", "log.jsonl", "weights.h5"}
    records = read_log(whole_run)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    np.testing.assert_allclose([record["lr"] for record in records], np.logspace(-2, -3, 3))
    for record in records:
        assert record["pairs_per_second"] > 0 and record["validation_loss"] > 0
        assert 0 <= record["waiting"] < 1
    result = weights.load_weights(str(whole_run / "weights.h5"))
    assert (result.architecture, result.channel_order) == ("light", "bgr")
    training = result.training
    assert training["config"] == WHOLE.as_dict()
    assert training["sequences"] == ["ant", "cat"]
    assert training["validation_sequences"] == ["bee"]
    assert training["data_digest"] == read_crops(crops_file).digest
    assert training["loss"] == [record["loss"] for record in records]
    state = load_checkpoint(whole_run / "checkpoint.npz")
    assert state.epoch == 3
    for name, value in result.parameters.items():
        np.testing.assert_array_equal(value, state.average[name])
        assert not np.array_equal(value, network.initialise("light", 7)[name])


def test_the_log_has_the_mean_loss_of_the_epochs_pairs(crops_file, tmp_path):
    settings = config(epochs=1, lr_start=1e-30)  # so that the parameters stay
    run, data = train(crops_file, settings, tmp_path / "run"), read_crops(crops_file)
    drawn = draw_training_pairs(data, settings, 0)
    assert len(drawn) == 18
    losses = PlainSteps(settings, data.crops, size=SIZE).gradients(drawn)[0]
    mean = np.sort(losses)[:-1].mean()  # one pair explodes
    assert read_log(run)[0]["loss"] == pytest.approx(mean, rel=1e-5)


def test_held_out_sequences_are_never_learnt_from(crops_file):
    data, many = read_crops(crops_file), config(pairs_per_epoch=500, validation_pairs=500)
    assert set(data.sequence[draw_training_pairs(data, many, 0)].ravel()) == {0, 2}
    assert set(data.sequence[draw_validation_pairs(data, many)].ravel()) == {1}
    assert len(draw_validation_pairs(data, config(hold_out=False))) == 0


@pytest.mark.parametrize(
    "module, place, after, done",
    [
        (loop, "save_checkpoint", 0, None),  # nothing is there yet
        (optimisers, "adam_step", 3, (0, 3)),  # 18 crops, 4 steps an epoch
        (PlainSteps, "mean_loss", 1, (1, 4)),  # the validation after the second epoch
        (optimisers, "adam_step", 8, (2, 0)),
        (weights, "save_weights", 0, (3, 0)),
    ],
)
def test_resume_is_bit_identical(
    crops_file, whole_run, tmp_path, monkeypatch, module, place, after, done
):
    broken, calls, real = tmp_path / "broken", [], getattr(module, place)

    def interrupted(*arguments, **settings):
        calls.append(place)
        if len(calls) > after:
            raise Killed
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(module, place, interrupted)
        with pytest.raises(Killed):
            train(crops_file, WHOLE, broken, checkpoint_seconds=0)
    if done is None:
        assert not list(broken.iterdir())
    else:
        state = load_checkpoint(broken / "checkpoint.npz")
        assert (state.epoch, state.steps) == done
        with (broken / "log.jsonl").open("a") as stream:
            stream.write('{"epoch": 3, "lo')
    train(crops_file, WHOLE, broken, resume=True)

    first, second = (load_checkpoint(run / "checkpoint.npz") for run in (whole_run, broken))
    assert first.surplus == second.surplus
    for group in GROUPS:
        for name, value in getattr(first, group).items():
            np.testing.assert_array_equal(value, getattr(second, group)[name])
    for key in ("epoch", "lr", "loss", "left_out", "validation_loss"):
        assert [r[key] for r in read_log(whole_run)] == [r[key] for r in read_log(broken)]
    trained = [
        weights.load_weights(str(run / "weights.h5")).training for run in (broken, whole_run)
    ]
    assert trained[0] == trained[1]


def test_result_does_not_depend_on_the_number_of_cores(crops_file, tmp_path, monkeypatch):
    results = []
    for cores in (1, 3):
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        run = train(crops_file, config(epochs=1), tmp_path / str(cores))
        results.append(load_checkpoint(run / "checkpoint.npz").parameters)
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


BAD = {
    "arch": "vgg", "batch": 0, "epochs": 0, "lr_start": 0.0, "lr_end": float("nan"),
    "momentum": 1.0, "cosine_window": 1.1, "weight_decay": -1.0, "sigma_factor": 0.0, "seed": -1,
    "mean": (1.0, 2.0),
}  # fmt: skip


def test_bad_settings():
    with pytest.raises(TypeError, match="momentun"):
        Config(momentun=0.9)
    for name, bad in BAD.items():
        with pytest.raises(ValueError, match=f"^{name} must be"):
            Config(**{name: bad})


def test_bad_input(crops_file, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=r"padding must be that of .*crops.h5, 2, got 1.5"):
        train(crops_file, config(padding=1.5), run)
    assert not run.exists()
    train(crops_file, config(epochs=1), run)
    with pytest.raises(ValueError, match="already holds a run"):
        train(crops_file, config(epochs=1), run)
    with pytest.raises(ValueError, match="made with seed 7; give the same"):
        train(crops_file, config(epochs=1, seed=8), run, resume=True)
    other = tmp_path / "other.h5"
    prepare_crops([crops_file.parent / "ant"], other, Window(size=SIZE))
    with pytest.raises(ValueError, match="other crops"):
        train(other, config(epochs=1), run, resume=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "settings, why",
    [
        (
            {"lr_start": 1e30, "lr_end": 1e30},
            "the loss is nan, at learning rate 1e+30; lower lr_st",
        ),
        ({"divergence": 1e-3}, "too many pairs explode, 5 of the last 5 with a loss over "),
    ],
)
def test_divergence_stops_the_run_and_keeps_the_batch(crops_file, tmp_path, settings, why):
    with pytest.raises(loop.TrainingError, match=re.escape(why)) as info:
        train(crops_file, config(**settings), tmp_path / "run")
    assert "\n" not in str(info.value) and not (tmp_path / "run" / "weights.h5").exists()
    kept = tmp_path / "run" / "diverged.npz"
    state = load_checkpoint(kept)  # before the step: what it starts from is finite
    assert all(np.isfinite(value).all() for value in state.parameters.values())
    with np.load(kept) as archive:
        batch, crops = archive["pairs"], archive["crops"]
    data = read_crops(crops_file)
    np.testing.assert_array_equal(crops, data.crops[batch.T])
    drawn = draw_training_pairs(data, config(**settings), state.epoch)
    np.testing.assert_array_equal(batch, drawn[5 * state.steps : 5 * state.steps + 5])


def test_training_learns(crops_file, tmp_path):
    """The loss falls, and the first weights are He's."""
    settings = config(epochs=12, lr_end=1e-2, initial_scale=0.5)
    losses = [record["loss"] for record in read_log(train(crops_file, settings, tmp_path / "run"))]
    assert losses[-1] < 0.5 * losses[0]
    first, he = first_learnt(settings).parameters, network.initialise("light", 7)
    for name, value in he.items():
        np.testing.assert_array_equal(first[name], value * np.float32(0.5))
