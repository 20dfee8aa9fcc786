"""Pairs whose loss explodes: left out, named, counted the same everywhere; many of them end the
run.
"""

import json
import logging
import math

import cv2
import numpy as np
import pytest
from test_train import SIZE, TINY, config, random_step, write_sequence

from dcfnet_np import network, weights
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.train import loop, prepare, step
from dcfnet_np.train.checkpoint import GROUPS, load_checkpoint
from dcfnet_np.train.crops import read_crops


def whiten(folder, number, value=254):
    """A frame that shows next to nothing: a label of 4 x 4 pixels, one grey level darker than its
    ground.
    """
    frame = np.full((60, 80, 3), 255, np.uint8)
    frame[25:29, 28:32] = value
    assert cv2.imwrite(str(folder / "img" / f"{number:05d}.png"), frame)


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    """Two sequences to learn from and one held out; frame 3 of ant shows next to nothing."""
    root = tmp_path_factory.mktemp("white")
    folders = [
        write_sequence(root / name, 8 + i, seed=i) for i, name in enumerate(("ant", "bee", "cat"))
    ]
    whiten(folders[0], 3)
    assert prepare.prepare(folders, root / "crops.h5", size=SIZE) == {"crops": 27}
    return root / "crops.h5"


def test_what_is_left_out_and_what_ends_a_run():
    """20 pairs a step: a tenth of them, 2, may explode for ever; 10 more than that end the run."""
    batch, surplus = np.arange(40).reshape(20, 2), 0.0
    losses = np.ones(20)
    losses[[4, 9]] = 2.0
    for _ in range(100):
        outcome = step.judge(losses, 1.5, surplus, batch)
        surplus = outcome.surplus
        assert outcome.left_out.nonzero()[0].tolist() == [4, 9] and surplus == 0
    losses[11] = 1e9
    for number in range(1, 11):
        surplus = step.judge(losses, 1.5, surplus, batch).surplus
        assert surplus == pytest.approx(number)
    with pytest.raises(step.Diverged) as info:
        step.judge(losses, 1.5, surplus, batch)
    assert info.value.limit == 1.5 and info.value.batch is batch and info.value.losses is losses
    assert step.judge(np.ones(20), 1.5, 4.5, batch).surplus == 2.5  # it falls again
    # at the limit is not over it
    assert not step.judge(np.full(20, 1.5), 1.5, 0.0, batch).left_out.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_a_run_at_once(bad):
    with pytest.raises(step.Diverged):
        step.judge(np.array([1.0, bad]), 5.0, 0.0, np.zeros((2, 2), int))


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_learns_from_the_other_pairs_alone(rng, fast):
    """The limit lies between the losses of three pairs; the divisor stays the number of all pairs."""
    crops = rng.integers(0, 256, (6, 3, 13, 12), dtype=np.uint8)
    _, parameters, objective = random_step(rng)
    architecture, pairs = TINY, np.array([[0, 1], [2, 3], [4, 5]])
    if fast:
        crops = rng.integers(0, 256, (6, 3, SIZE, SIZE), dtype=np.uint8)
        architecture, parameters = "light", network.initialise("light", 3, np.float64)
        label, band = (
            rng.standard_normal((SIZE - 4, SIZE - 4)),
            make_band((SIZE - 4, SIZE - 4), (6, 7), np.float64),
        )
        objective = step.Objective(label, rfft2(label, band), band, 0.3)
    batches = step.Batches(crops, (104.0, 117.0, 123.0), np.float64)
    assert (batches.pair_steps(architecture, objective) is not None) == fast
    losses, _ = step.batch_gradients(batches, pairs, parameters, architecture, objective)
    limit = np.sort(losses)[1:].mean()
    again, got = step.batch_gradients(
        batches, pairs, parameters, architecture, objective, limit=limit
    )
    np.testing.assert_array_equal(again, losses)
    kept = pairs[losses <= limit]
    assert len(kept) == 2
    _, want = step.batch_gradients(batches, kept, parameters, architecture, objective, total=3)
    for name, gradient in want.items():
        np.testing.assert_allclose(
            got[name], gradient, rtol=1e-12, atol=1e-12 * abs(gradient).max()
        )


def test_all_pairs_at_once_leave_out_the_same(rng):
    """`pair_gradients` of a whole batch, as array code on a GPU does it."""
    images, parameters, _ = random_step(rng)
    label = rng.standard_normal((9, 8))
    objective = step.Objective(label, rfft2(label), None, 0.3)
    _, caches = step.pair_loss(images, parameters, TINY, objective)
    losses = step.each_loss(caches)
    singles = [step.pair_loss(images[[i, 3 + i]], parameters, TINY, objective) for i in range(3)]
    np.testing.assert_allclose(losses, [loss for loss, _ in singles], rtol=1e-12)
    largest = int(losses.argmax())
    parts = [
        step.pair_gradients(part, 1 / 3) for i, (_, part) in enumerate(singles) if i != largest
    ]
    got = step.pair_gradients(caches, limit=np.sort(losses)[1:].mean())
    for name, gradient in got.items():
        np.testing.assert_allclose(
            gradient, sum(part[name] for part in parts), rtol=1e-9, atol=1e-12
        )


def left_out_by_hand(data, settings, epoch):
    """Pairs of an epoch whose template is frame 3 of ant."""
    held, _ = loop.split(data, settings)
    drawn = loop.draw(data, ~held, settings, settings.seed, epoch, settings.pairs, None)
    return [int(search) for template, search in drawn if template == 2]


def test_a_run_goes_on_and_says_so(crops_file, tmp_path, caplog, dcfnet):
    run = tmp_path / "run"
    loop.train(crops_file, config(initial_scale=0.41), run, device="cpu")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["left_out"] for record in records] == [1, 1, 1]
    assert all(0 < record["loss"] < 5 for record in records)
    data = read_crops(crops_file)
    (search,) = left_out_by_hand(data, config(), 0)
    # once for a template
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith(
        f"ant, frame 3 with frame {data.frame[search]} is left out: its loss is "
    )
    code, out, err = dcfnet(
        "train", crops_file, "--out", tmp_path / "again", "--epochs", 1, "--pairs-per-epoch", 18, "--device", "cpu",
        "--no-pictures", "--pairs", "near", "--light", 0, "--blur", 0, "--jitter", 0,
    )  # fmt: skip
    assert code == 0 and "1 pairs left out" in out
    assert err.startswith("dcfnet: warning: ant, frame 3 with frame ") and err.count("\n") == 1


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.mark.parametrize("after", [3, 4, 7])
def test_resume_is_bit_identical(crops_file, tmp_path, monkeypatch, after):
    """The count of pairs left out, and how near the run is to its end, go into the checkpoint."""
    settings, real, calls = (
        config(initial_scale=0.41, optimiser="adam", averaging=0.9),
        loop.adam_step,
        [],
    )
    whole = loop.train(crops_file, settings, tmp_path / "whole", device="cpu").parent

    def interrupted(*arguments, **how):
        calls.append(1)
        if len(calls) > after:
            raise Killed
        real(*arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "adam_step", interrupted)
        with pytest.raises(Killed):
            loop.train(crops_file, settings, tmp_path / "cut", device="cpu", checkpoint_seconds=0)
    loop.train(crops_file, settings, tmp_path / "cut", device="cpu", resume=True)
    first, second = (load_checkpoint(run / "checkpoint.npz") for run in (whole, tmp_path / "cut"))
    assert first.surplus == second.surplus
    for key in ("loss", "left_out", "validation_loss"):
        assert [r[key] for r in first.records] == [r[key] for r in second.records]
    for group in GROUPS:
        for name, value in getattr(first, group).items():
            np.testing.assert_array_equal(value, getattr(second, group)[name])


def test_the_count_is_kept_within_an_epoch(crops_file, tmp_path, monkeypatch):
    """A checkpoint between two steps has the pairs left out so far, and the surplus."""
    states = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state, **more: states.append(state))
    loop.train(
        crops_file,
        config(initial_scale=0.41, batch=1),
        tmp_path / "run",
        device="cpu",
        checkpoint_seconds=0,
    )
    counts = [state.left_out for state in states if state.epoch == 0]
    assert counts[0] == 0 and counts[-1] == 1 and sorted(counts) == counts
    surplus = [state.surplus for state in states]
    assert surplus[counts.index(1)] == 1 - 0.1 and surplus[counts.index(1) + 1] == pytest.approx(
        0.8
    )


def test_many_such_pairs_end_the_run_and_keep_the_state(crops_file, tmp_path):
    with pytest.raises(loop.TrainingError) as info:
        loop.train(crops_file, config(divergence=1e-3), tmp_path / "run", device="cpu")
    text = str(info.value)
    assert (
        text.startswith("train: too many pairs explode, 5 of the last 5 with a loss over ")
        and "\n" not in text
    )
    assert "leave out the sequences that were named" in text
    state = load_checkpoint(tmp_path / "run" / "diverged.npz")
    assert (state.epoch, state.steps, state.left_out) == (
        0,
        2,
        10,
    ) and state.surplus == pytest.approx(9)


def test_a_resumed_run_ends_where_the_whole_one_does(crops_file, tmp_path, monkeypatch):
    """Killed after the first of the two steps that it makes before it ends."""
    calls, real = [], loop.sgd_step

    def interrupted(*arguments, **how):
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        real(*arguments, **how)

    settings = config(divergence=1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "sgd_step", interrupted)
        with pytest.raises(Killed):
            loop.train(crops_file, settings, tmp_path / "run", device="cpu", checkpoint_seconds=0)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.npz")
    assert (state.steps, state.left_out, state.surplus) == (1, 5, 4.5)
    with pytest.raises(loop.TrainingError):
        loop.train(crops_file, settings, tmp_path / "run", device="cpu", resume=True)
    state = load_checkpoint(tmp_path / "run" / "diverged.npz")
    assert (state.steps, state.left_out, state.surplus) == (2, 10, 9.0)


def test_a_short_epoch_of_nothing_else_ends_too(crops_file, tmp_path):
    """Nine pairs that all explode are less than what ends a run, but there is no loss to write
    down.
    """
    with pytest.raises(loop.TrainingError, match="every pair of an epoch exploded"):
        loop.train(
            crops_file, config(divergence=1e-3, pairs_per_epoch=9), tmp_path / "run", device="cpu"
        )


def test_weights_of_a_run_with_a_bad_pair_track_as_well(crops_file, tmp_path):
    """Left out is as if it were not there: the parameters stay what ordinary pairs make of them."""
    run = loop.train(crops_file, config(initial_scale=0.41), tmp_path / "run", device="cpu")
    start = loop.first_parameters(config(initial_scale=0.41))
    for name, value in weights.load_weights(str(run)).parameters.items():
        assert np.isfinite(value).all() and 0 < abs(value - start[name]).max() < 1
