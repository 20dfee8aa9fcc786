"""Pairs whose loss explodes: left out, named, counted everywhere; many of them end the run."""

import logging
import math

import numpy as np
import pytest
from training import Killed, config, read_log, train, write_crops

from dcfnet_np import weights
from dcfnet_np.train import loop, optimisers
from dcfnet_np.train.checkpoint import load_checkpoint
from dcfnet_np.train.crops import read_crops
from dcfnet_np.train.exploding import Diverged, judge_losses
from dcfnet_np.train.fast_step import FastSteps
from dcfnet_np.train.optimisers import first_learnt
from dcfnet_np.train.plain_step import PlainSteps


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    """Two sequences to learn from and one held out; frame 3 of ant shows next to nothing."""
    return write_crops(tmp_path_factory.mktemp("white"), white=[("ant", 3)])


def test_what_is_left_out_and_what_ends_a_run():
    """20 pairs a step: a tenth of them, 2, may explode for ever; 10 more than that end the run."""
    batch, surplus = np.arange(40).reshape(20, 2), 0.0
    losses = np.ones(20)
    losses[[4, 9]] = 2.0
    for _ in range(100):
        outcome = judge_losses(losses, 1.5, surplus, batch)
        surplus = outcome.surplus
        assert outcome.left_out.nonzero()[0].tolist() == [4, 9] and surplus == 0
    losses[11] = 1e9
    for number in range(1, 11):
        surplus = judge_losses(losses, 1.5, surplus, batch).surplus
        assert surplus == pytest.approx(number)
    with pytest.raises(Diverged) as info:
        judge_losses(losses, 1.5, surplus, batch)
    assert info.value.limit == 1.5 and info.value.batch is batch and info.value.losses is losses
    assert judge_losses(np.ones(20), 1.5, 4.5, batch).surplus == 2.5  # it falls again
    # at the limit is not over it
    assert not judge_losses(np.full(20, 1.5), 1.5, 0.0, batch).left_out.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_a_run_at_once(bad):
    with pytest.raises(Diverged):
        judge_losses(np.array([1.0, bad]), 5.0, 0.0, np.zeros((2, 2), int))


@pytest.mark.parametrize("kind", [PlainSteps, FastSteps])
def test_a_step_learns_from_the_other_pairs_alone(rng, kind):
    """The limit lies between the losses of three pairs; the divisor stays the number of all."""
    crops, pairs = rng.integers(0, 256, (6, 3, 70, 70), dtype=np.uint8), np.arange(6).reshape(3, 2)
    steps = kind(config(), crops)
    losses, _ = steps.gradients(pairs)
    steps.limit = np.sort(losses)[1:].mean()
    again, got = steps.gradients(pairs)
    np.testing.assert_array_equal(again, losses)
    kept = pairs[losses <= steps.limit]
    assert len(kept) == 2
    _, want = steps.gradients(kept, total=3)
    for name, gradient in want.items():
        np.testing.assert_allclose(got[name], gradient, atol=1e-6 * abs(gradient).max())


def test_a_run_goes_on_and_says_so(crops_file, tmp_path, caplog, dcfnet):
    settings = config(initial_scale=0.41)
    run = train(crops_file, settings, tmp_path / "run")
    assert [record["left_out"] for record in read_log(run)] == [1, 1, 1]
    assert all(0 < record["loss"] < 5 for record in read_log(run))
    data = read_crops(crops_file)
    drawn = loop.draw_training_pairs(data, settings, 0)
    (search,) = (int(search) for template, search in drawn if template == 2)
    # once for a template
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    named = f"ant, frame 3 with frame {data.frame[search]} is left out: its loss is "
    assert warning.startswith(named)
    code, out, err = dcfnet(
        "train", crops_file, "--out", tmp_path / "again", "--epochs", 1, "--pairs-per-epoch", 18,
        "--device", "cpu", "--no-pictures", "--pairs", "near", "--light", 0, "--blur", 0,
        "--jitter", 0,
    )  # fmt: skip
    assert code == 0 and "1 pair left out" in out
    assert err.startswith("dcfnet: warning: ant, frame 3 with frame ") and err.count("\n") == 1
    # The parameters stay what ordinary pairs make of them.
    start = first_learnt(settings).parameters
    for name, value in weights.load_weights(str(run / "weights.h5")).parameters.items():
        assert np.isfinite(value).all() and 0 < abs(value - start[name]).max() < 1


def test_the_count_is_kept_within_an_epoch(crops_file, tmp_path, monkeypatch):
    """A checkpoint between two steps has the pairs left out so far, and the surplus."""
    states = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state, **more: states.append(state))
    settings = config(initial_scale=0.41, batch=1)
    train(crops_file, settings, tmp_path / "run", checkpoint_seconds=0)
    counts = [state.left_out for state in states if state.epoch == 0]
    assert counts[0] == 0 and counts[-1] == 1 and sorted(counts) == counts
    first = counts.index(1)
    assert states[first].surplus == 1 - 0.1
    assert states[first + 1].surplus == pytest.approx(0.8)


def test_a_resumed_run_ends_where_the_whole_one_does(crops_file, tmp_path, monkeypatch):
    """Killed after the first of the two steps that it makes before it ends."""
    settings, run, real = config(divergence=1e-3), tmp_path / "run", optimisers.sgd_step

    def interrupted(*arguments, **how):
        real(*arguments, **how)
        monkeypatch.setattr(optimisers, "sgd_step", killed)

    def killed(*arguments, **how):
        raise Killed

    monkeypatch.setattr(optimisers, "sgd_step", interrupted)
    with pytest.raises(Killed):
        train(crops_file, settings, run, checkpoint_seconds=0)
    monkeypatch.setattr(optimisers, "sgd_step", real)
    state = load_checkpoint(run / "checkpoint.npz")
    assert (state.steps, state.left_out, state.surplus) == (1, 5, 4.5)
    with pytest.raises(loop.TrainingError, match="leave out the sequences that were named"):
        train(crops_file, settings, run, resume=True)
    state = load_checkpoint(run / "diverged.npz")
    assert (state.epoch, state.steps, state.left_out, state.surplus) == (0, 2, 10, 9.0)


def test_a_short_epoch_of_nothing_else_ends_too(crops_file, tmp_path):
    """Nine such pairs are less than what ends a run, but there is no loss to write down."""
    with pytest.raises(loop.TrainingError, match="every pair of an epoch exploded"):
        train(crops_file, config(divergence=1e-3, pairs_per_epoch=9), tmp_path / "run")
