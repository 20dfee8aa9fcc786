"""train/: pairs, SGD, crops, one whole step against finite differences, checkpoints and resume."""

import json
import math
import re
import signal
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from processes import PATIENCE

from dcfnet_np import network, weights
from dcfnet_np.backend import Device, to_device, to_numpy
from dcfnet_np.network import Conv, Lrn, Relu
from dcfnet_np.ops.fourier import rfft2
from dcfnet_np.support import threads
from dcfnet_np.train import adam, checkpoint, loop, pairs, prepare, sgd, step
from dcfnet_np.train.config import Config
from dcfnet_np.train.parallel import Processes

CPU = Device("cpu")
SIZE = 24  # of the crops here; 20 x 20 feature maps
# LRN with an alpha near 1, so that its cross-channel term counts.
TINY = (Conv(3, 4), Relu(), Conv(4, 3), Lrn(n=3, k=1.0, alpha=0.8, beta=0.75))


def write_sequence(folder, frames=6, first=1, seed=0, boxes=None):
    """A textured square moving over noise, 1-based boxes; frame numbers in the file names."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 120, (60, 80, 3), np.uint8)
    texture = cv2.resize(rng.integers(100, 256, (5, 5, 3), np.uint8), (16, 20))
    (folder / "img").mkdir(parents=True)
    rows = []
    for index in range(frames):
        x, y = 20 + 2 * index, 15 + index
        frame = background.copy()
        frame[y : y + 20, x : x + 16] = texture
        cv2.imwrite(str(folder / "img" / f"{first + index:05d}.png"), frame)
        rows.append([x + 1, y + 1, 16, 20])
    rows = rows if boxes is None else boxes(rows)
    text = "".join(",".join(str(value) for value in row) + "\n" for row in rows)
    (folder / "groundtruth_rect.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    """Three sequences of 8, 9 and 10 frames; the digest of its name decides that bee is held out."""
    root = tmp_path_factory.mktemp("sequences")
    folders = [
        write_sequence(root / name, 8 + i, seed=i) for i, name in enumerate(("ant", "bee", "cat"))
    ]
    out = root / "crops.h5"
    assert prepare.prepare(folders, out, size=SIZE) == {"crops": 27}
    return out


def config(**changes):
    settings = {"epochs": 3, "batch": 5, "lr_end": 1e-3, "validation_pairs": 6, "seed": 7}
    return Config(**(settings | changes))


# -------------------------------------------------------------------------------------------------
# pairs

SEQUENCE = np.repeat([0, 1, 2, 3], [30, 7, 1, 25])
FRAME = np.concatenate([np.arange(30), [1, 2, 3, 40, 41, 55, 99], [0], np.arange(5, 130, 5)])


@pytest.mark.parametrize("max_gap", [1, 4, 10])
def test_pairs_obey_the_rules(max_gap):
    drawn = pairs.epoch_pairs(SEQUENCE, FRAME, seed=3, epoch=0, max_gap=max_gap)
    template, search = drawn.T
    gap = FRAME[search] - FRAME[template]
    assert (SEQUENCE[template] == SEQUENCE[search]).all()
    assert (gap != 0).all() and (abs(gap) <= max_gap).all()
    assert (gap > 0).any() and (gap < 0).any()
    # By brute force: who has a partner is a template, once.
    near = (SEQUENCE[:, None] == SEQUENCE) & (abs(FRAME[:, None] - FRAME) <= max_gap)
    assert sorted(template) == list(np.flatnonzero(near.sum(1) > 1))


def test_all_pairs_are_those_found_by_brute_force():
    drawn = pairs.epoch_pairs(SEQUENCE, FRAME, seed=3, epoch=0, max_gap=7, mode="all")
    gap = FRAME[None, :] - FRAME[:, None]
    expected = np.argwhere((SEQUENCE[:, None] == SEQUENCE) & (gap >= 1) & (gap <= 7))
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, expected))
    assert not np.array_equal(drawn, expected)  # shuffled


def test_the_papers_number_of_pairs():
    """10 N - 55 for a video of N frames: 1,651,360 from 166,643 frames of 274 videos (Sec. 4.1)."""
    for n in (10, 11, 57):
        assert len(pairs.all_pairs(np.zeros(n, int), np.arange(n))) == 10 * n - 55
    lengths = np.full(274, 166_643 // 274)
    lengths[: 166_643 - lengths.sum()] += 1
    sequence = np.repeat(np.arange(274), lengths)
    frame = np.arange(166_643) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    assert len(pairs.all_pairs(sequence, frame)) == 1_651_360 == 10 * 166_643 - 55 * 274


def test_partners_ahead_come_later():
    template, search = pairs.epoch_pairs(
        SEQUENCE, FRAME, seed=3, epoch=0, max_gap=10, mode="ahead"
    ).T
    gap = FRAME[search] - FRAME[template]
    assert (SEQUENCE[template] == SEQUENCE[search]).all() and gap.min() >= 1 and gap.max() == 10
    later = (
        (SEQUENCE[:, None] == SEQUENCE) & (FRAME > FRAME[:, None]) & (FRAME <= FRAME[:, None] + 10)
    )
    assert sorted(template) == list(np.flatnonzero(later.any(1)))


def test_every_allowed_partner_is_drawn():
    seen = set()
    for epoch in range(200):
        seen |= set(
            map(tuple, pairs.epoch_pairs(SEQUENCE, FRAME, seed=0, epoch=epoch, max_gap=4).tolist())
        )
    near = (SEQUENCE[:, None] == SEQUENCE) & (abs(FRAME[:, None] - FRAME) <= 4)
    np.fill_diagonal(near, False)
    assert seen == set(map(tuple, np.argwhere(near).tolist()))


def test_pairs_are_a_function_of_seed_and_epoch():
    def draw(seed, epoch):
        return pairs.epoch_pairs(SEQUENCE, FRAME, seed=seed, epoch=epoch)

    assert np.array_equal(draw(1, 2), draw(1, 2))
    assert not np.array_equal(draw(1, 2), draw(1, 3))
    assert not np.array_equal(draw(1, 2), draw(2, 2))


def test_pairs_count():
    for count in (1, 10, 300):
        drawn = pairs.epoch_pairs(SEQUENCE, FRAME, seed=0, epoch=0, count=count)
        assert drawn.shape == (count, 2)
    uses = np.bincount(drawn[:, 0])
    assert uses[uses > 0].max() - uses[uses > 0].min() <= 1
    some = pairs.epoch_pairs(SEQUENCE, FRAME, seed=0, epoch=0, count=20, mode="all")
    assert len(np.unique(some, axis=0)) == 20


def test_pairs_bad_input():
    with pytest.raises(ValueError, match="no two crops of one sequence are at most 10"):
        pairs.epoch_pairs(np.arange(5), np.arange(5), seed=0, epoch=0)
    with pytest.raises(ValueError, match="sorted"):
        pairs.partners(np.array([0, 0, 0]), np.array([1, 3, 2]))
    with pytest.raises(ValueError, match="each frame once"):
        pairs.partners(np.array([0, 0]), np.array([3, 3]))
    with pytest.raises(ValueError, match="max_gap must be at least 1"):
        pairs.partners(np.array([0]), np.array([0]), 0)
    with pytest.raises(ValueError, match="mode must be one of all, ahead, near"):
        pairs.epoch_pairs(SEQUENCE, FRAME, seed=0, epoch=0, mode="behind")


# --------------------------------------------------------------------------------------------------- SGD


def test_sgd_two_steps_by_hand(xp):
    parameters = {"w": xp.array([1.0, -2.0], xp.float32)}
    velocity = sgd.zero_velocity(parameters)
    settings = {"momentum": 0.5, "weight_decay": 0.1}
    sgd.sgd_step(parameters, {"w": xp.array([1.0, 3.0], xp.float32)}, velocity, lr=0.1, **settings)
    # v = g + 0.1 theta = 1.1, 2.8;  theta - 0.1 v = 0.89, -2.28
    np.testing.assert_allclose(to_numpy(velocity["w"]), [1.1, 2.8], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(parameters["w"]), [0.89, -2.28], rtol=1e-6)
    sgd.sgd_step(parameters, {"w": xp.array([-1.0, 0.0], xp.float32)}, velocity, lr=0.2, **settings)
    # v = 0.5 v + g + 0.1 theta = 0.55 - 1 + 0.089, 1.4 + 0 - 0.228;  theta - 0.2 v
    np.testing.assert_allclose(to_numpy(velocity["w"]), [-0.361, 1.172], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(parameters["w"]), [0.9622, -2.5144], rtol=1e-6)
    assert parameters["w"].dtype == velocity["w"].dtype == np.float32


def test_sgd_refuses_what_does_not_fit():
    parameters = {"w": np.zeros(3)}
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    with pytest.raises(ValueError, match=r"gradients must have 'w' of shape \(3,\), got nothing"):
        sgd.sgd_step(parameters, {}, {"w": np.zeros(3)}, **settings)
    with pytest.raises(ValueError, match=r"velocity must have 'w' of shape \(3,\), got \(2,\)"):
        sgd.sgd_step(parameters, {"w": np.zeros(3)}, {"w": np.zeros(2)}, **settings)


def test_adam_two_steps_by_hand(xp):
    """Beside the scalar algorithm as Kingma and Ba print it, with bias corrections, and the decay
    beside the step.
    """
    gradients = [[1.0, -30.0], [0.5, 0.0]]
    parameters, momentum, decay, lr = {"w": xp.array([1.0, -2.0])}, 0.6, 0.1, 0.05
    velocity, squares = sgd.zero_velocity(parameters), sgd.zero_velocity(parameters)
    for number, gradient in enumerate(gradients, start=1):
        adam.adam_step(
            parameters, {"w": xp.array(gradient)}, velocity, squares,
            lr=lr, step=number, momentum=momentum, weight_decay=decay,
        )  # fmt: skip
    expected = []
    for theta, first, second in zip([1.0, -2.0], *gradients):
        m = s = 0.0
        for t, g in ((1, first), (2, second)):
            m, s = 0.6 * m + 0.4 * g, 0.99 * s + 0.01 * g**2
            theta -= 0.05 * (m / (1 - 0.6**t) / math.sqrt(s / (1 - 0.99**t)) + 0.1 * theta)
        expected.append(theta)
    np.testing.assert_allclose(to_numpy(parameters["w"]), expected, rtol=1e-9)
    # The first step is lr against the sign of the gradient, whatever its size.
    one = {"w": np.array([5.0, 5.0])}
    adam.adam_step(
        one, {"w": np.array([1e-6, -1e3])}, sgd.zero_velocity(one), sgd.zero_velocity(one),
        lr=lr, step=1, momentum=0.9, weight_decay=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(one["w"], [5 - lr, 5 + lr], rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"adam_step: squares must have 'w' of shape \(2,\), got nothing"
    ):
        adam.adam_step(one, one, one, {}, lr=lr, step=1, momentum=0.9, weight_decay=0.0)


def test_average_forgets_the_start_and_then_keeps_its_share(rng):
    average, values = {"w": rng.standard_normal(3)}, rng.standard_normal((40, 3))
    expected = average["w"].copy()
    for number, value in enumerate(values, start=1):
        adam.update_average(average, {"w": value}, step=number, decay=0.75)
        kept = min(0.75, number / (number + 10))
        expected = kept * expected + (1 - kept) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-12)


def test_a_share_of_the_steps_has_the_window():
    some = Config(cosine_window=0.25)
    assert [some.windowed(step) for step in range(1, 9)] == [False, False, False, True] * 2
    assert all(Config(cosine_window=1).windowed(step) for step in range(1, 9))
    assert not any(Config().windowed(step) for step in range(1, 9))


def test_learning_rates():
    rates = [Config(epochs=50).learning_rate(epoch) for epoch in range(50)]
    np.testing.assert_allclose(rates, np.logspace(-2, -5, 50))
    assert Config(epochs=1).learning_rate(0) == 1e-2
    stepped = Config(schedule="step", lr_start=0.5, lr_steps=(2, 3), epochs=5)
    np.testing.assert_allclose(
        [stepped.learning_rate(epoch) for epoch in range(5)], [0.5, 0.5, 0.05, 0.005, 0.005]
    )
    assert {Config(schedule="constant").learning_rate(epoch) for epoch in range(50)} == {1e-2}
    wave = Config(schedule="cosine", lr_start=0.8, lr_end=0.2, epochs=5)
    middle = 0.15 * 2**0.5
    expected = [0.8, 0.5 + middle, 0.5, 0.5 - middle, 0.2]
    np.testing.assert_allclose([wave.learning_rate(epoch) for epoch in range(5)], expected)


# ------------------------------------------------------------------------------------------- a
# whole step


def random_step(rng, dtype=np.float64, n=3, size=(13, 12)):
    """Images, parameters and an asymmetric random label: a Gaussian one could not see a wrong
    conjugate.
    """
    images = rng.standard_normal((2 * n, 3, *size)).astype(dtype)
    parameters = network.initialise(TINY, 5, dtype)
    for value in parameters.values():
        value += 0.1 * rng.standard_normal(value.shape)
    label = rng.standard_normal((size[0] - 4, size[1] - 4)).astype(dtype)
    return images, parameters, step.Objective(label, rfft2(label), None, 0.3)


@pytest.mark.parametrize("size", [(13, 12), (12, 15)])
def test_gradient_of_a_whole_step(rng, size):
    images, parameters, objective = random_step(rng, size=size)
    loss, caches = step.pair_loss(images, parameters, TINY, objective)
    gradients = step.pair_gradients(caches)
    assert list(gradients) == list(parameters)
    for name, theta in parameters.items():
        numeric = np.zeros_like(theta)
        h = 1e-5
        for index in np.ndindex(theta.shape):
            ends = []
            for sign in (1, -1):
                moved = {**parameters, name: theta.copy()}
                moved[name][index] += sign * h
                ends.append(step.pair_loss(images, moved, TINY, objective)[0])
            numeric[index] = (ends[0] - ends[1]) / (2 * h)
        error = abs(numeric - gradients[name]).max() / abs(gradients[name]).max()
        assert error < 1e-6, name


def test_loss_of_a_step_is_the_mean_over_pairs(rng):
    images, parameters, objective = random_step(rng)
    loss = step.pair_loss(images, parameters, TINY, objective)[0]
    singles = [step.pair_loss(images[[i, 3 + i]], parameters, TINY, objective)[0] for i in range(3)]
    np.testing.assert_allclose(loss, np.mean(singles), rtol=1e-12)


def test_parts_of_a_batch_add_up(rng, xp):
    crops = rng.integers(0, 256, (9, 3, 13, 12), dtype=np.uint8)
    _, parameters, objective = random_step(rng)
    device = Device("cpu" if xp is np else "cuda")
    parameters = {name: to_device(value, device) for name, value in parameters.items()}
    label = to_device(objective.label, device)
    objective = step.Objective(label, rfft2(label), None, 0.3)
    batches = step.Batches(crops, (104.0, 117.0, 123.0), np.float64, device=device)
    index = rng.integers(0, 9, (5, 2))

    images = batches.images(index)
    expected = crops[np.concatenate([index[:, 0], index[:, 1]])] - np.reshape(
        [104.0, 117.0, 123.0], (3, 1, 1)
    )
    np.testing.assert_array_equal(to_numpy(images), expected)
    loss, caches = step.pair_loss(images, parameters, TINY, objective)
    whole = step.pair_gradients(caches)
    losses, gradients = step.batch_gradients(batches, index, parameters, TINY, objective)
    assert losses.mean() == pytest.approx(loss, rel=1e-10)
    for name in whole:
        np.testing.assert_allclose(
            to_numpy(gradients[name]), to_numpy(whole[name]), rtol=1e-8, atol=1e-11
        )


def test_objective_band_is_exact_enough(rng):
    images = (60 * rng.standard_normal((4, 3, 65, 65))).astype(np.float32)
    parameters = network.initialise("light", 0)
    full = step.make_objective((61, 61), 4.0, 1e-4, band=False, device=CPU)
    banded = step.make_objective((61, 61), 4.0, 1e-4, band=True, device=CPU)
    assert full.band is None and banded.band is not None
    loss, caches = step.pair_loss(images, parameters, "light", full)
    band_loss, band_caches = step.pair_loss(images, parameters, "light", banded)
    assert band_loss == pytest.approx(loss, rel=1e-5)
    gradients, band_gradients = step.pair_gradients(caches), step.pair_gradients(band_caches)
    for name, gradient in gradients.items():
        assert abs(band_gradients[name] - gradient).max() <= 1e-4 * abs(gradient).max()


def test_training_overfits_one_batch(crops_file):
    data = prepare.read_crops(crops_file)
    batches = step.Batches(data.crops, (104.0, 117.0, 123.0))
    objective = step.make_objective((SIZE - 4, SIZE - 4), 1.0, 1e-4, device=CPU)
    parameters = network.initialise("light", 0)
    velocity = sgd.zero_velocity(parameters)
    batch = pairs.epoch_pairs(data.sequence, data.frame, seed=0, epoch=0, count=4)
    losses = []
    for _ in range(60):
        each, gradients = step.batch_gradients(batches, batch, parameters, "light", objective)
        sgd.sgd_step(parameters, gradients, velocity, lr=0.01, momentum=0.9, weight_decay=0.0)
        losses.append(each.mean())
    assert losses[-1] < 0.5 * losses[0]


# ------------------------------------------------------------------------------------- runs and
# checkpoints


@pytest.fixture(scope="module")
def whole_run(crops_file, tmp_path_factory):
    """RUN_DIR of an uninterrupted run."""
    return loop.train(
        crops_file, config(), tmp_path_factory.mktemp("runs") / "whole", device="cpu"
    ).parent


def read_log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_train_writes_log_checkpoint_and_weights(crops_file, whole_run):
    assert {path.name for path in whole_run.iterdir()} == {
        "checkpoint.npz",
        "log.jsonl",
        "weights.h5",
    }
    records = read_log(whole_run)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    np.testing.assert_allclose([record["lr"] for record in records], np.logspace(-2, -3, 3))
    assert all(
        record["pairs_per_second"] > 0 and record["validation_loss"] > 0 for record in records
    )
    assert all(0 <= record["waiting"] < 1 for record in records)

    result = weights.load_weights(str(whole_run / "weights.h5"))
    assert (result.architecture, result.channel_order) == ("light", "bgr")
    assert result.training["config"] == config().as_dict()
    assert result.training["sequences"] == ["ant", "cat"]
    assert result.training["validation_sequences"] == ["bee"]
    assert result.training["data_digest"] == prepare.read_crops(crops_file).digest
    assert result.training["loss"] == [record["loss"] for record in records]
    state = checkpoint.load_checkpoint(whole_run / "checkpoint.npz")
    assert state.epoch == 3
    for name, value in result.parameters.items():
        np.testing.assert_array_equal(value, state.parameters[name])
        assert not np.array_equal(value, network.initialise("light", 7)[name])


def test_the_log_has_the_mean_loss_of_the_epochs_pairs(crops_file, tmp_path):
    settings = config(epochs=1, lr_start=1e-30)  # so that the parameters stay
    run = loop.train(crops_file, settings, tmp_path / "run", device="cpu").parent
    data = prepare.read_crops(crops_file)
    objective = step.make_objective((SIZE - 4, SIZE - 4), 0.1 * SIZE / 3, 1e-4, device=CPU)
    held, _ = loop.split(data, settings)
    drawn = loop.draw(data, ~held, settings, 7, 0, "near", None)
    assert len(drawn) == 18
    mean = step.mean_loss(
        step.Batches(data.crops, settings.mean),
        drawn,
        loop.first_parameters(settings),
        settings,
        objective,
    )
    assert read_log(run)[0]["loss"] == pytest.approx(mean, rel=1e-5)


def test_held_out_sequences_are_never_learnt_from(crops_file):
    data = prepare.read_crops(crops_file)
    held, names = loop.split(data, config())
    assert names == ("bee",) and np.array_equal(held, data.sequence == 1)
    drawn = loop.draw(data, ~held, config(), 0, 0, "near", 500)
    assert set(data.sequence[drawn].ravel()) == {0, 2}
    assert set(data.sequence[loop.draw(data, held, config(), 0, 0, "near", 500)].ravel()) == {1}
    assert loop.split(data, config(hold_out=False))[1] == ()


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.mark.parametrize(
    "place, after, done",
    [
        ("save_checkpoint", 0, None),  # nothing is there yet
        ("sgd_step", 2, (0, 2)),  # 18 crops, 4 steps an epoch
        ("mean_loss", 1, (1, 4)),  # the validation after the second epoch
        ("sgd_step", 8, (2, 0)),
        ("save_weights", 0, (3, 0)),
    ],
)
def test_resume_is_bit_identical(crops_file, whole_run, tmp_path, monkeypatch, place, after, done):
    broken, calls = tmp_path / "broken", []
    module = loop._Run if place == "save_weights" else loop
    real = getattr(module, place)

    def interrupted(*arguments, **settings):
        calls.append(place)
        if len(calls) > after:
            raise Killed
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(module, place, interrupted)
        with pytest.raises(Killed):
            loop.train(crops_file, config(), broken, device="cpu", checkpoint_seconds=0)
    if done is None:
        assert not list(broken.iterdir())
    else:
        state = checkpoint.load_checkpoint(broken / "checkpoint.npz")
        assert (state.epoch, state.steps) == done
        with open(broken / "log.jsonl", "a") as stream:
            stream.write('{"epoch": 3, "lo')
    loop.train(crops_file, config(), broken, device="cpu", resume=True)

    first, second = (
        checkpoint.load_checkpoint(run / "checkpoint.npz") for run in (whole_run, broken)
    )
    for name, value in first.parameters.items():
        np.testing.assert_array_equal(value, second.parameters[name])
        np.testing.assert_array_equal(first.velocity[name], second.velocity[name])
    for key in ("epoch", "lr", "loss", "validation_loss"):
        assert [r[key] for r in read_log(whole_run)] == [r[key] for r in read_log(broken)]
    assert (weights.load_weights(str(broken / "weights.h5")).training) == weights.load_weights(
        str(whole_run / "weights.h5")
    ).training


def test_result_does_not_depend_on_the_number_of_cores(crops_file, tmp_path, monkeypatch):
    results = []
    for cores in (1, 3):
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        loop.train(crops_file, config(epochs=1), tmp_path / str(cores), device="cpu")
        results.append(
            checkpoint.load_checkpoint(tmp_path / str(cores) / "checkpoint.npz").parameters
        )
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


def state_of(epoch):
    parameters = network.initialise("light", epoch)
    return checkpoint.Checkpoint(
        epoch, parameters, sgd.zero_velocity(parameters), {"seed": epoch}, "abc"
    )


def test_checkpoint_round_trip(tmp_path):
    state = state_of(4)
    checkpoint.save_checkpoint(tmp_path / "c.npz", state)
    back = checkpoint.load_checkpoint(tmp_path / "c.npz")
    assert (back.epoch, back.config, back.digest) == (4, {"seed": 4}, "abc")
    for group, expected in ((back.parameters, state.parameters), (back.velocity, state.velocity)):
        assert list(group) == list(expected)
        for name, value in group.items():
            np.testing.assert_array_equal(value, expected[name])
            assert value.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("moment", ["numpy.savez", "os.fsync", "os.replace"])
def test_killed_while_writing_leaves_the_old_checkpoint(tmp_path, moment):
    """The process kills itself inside the write of a second checkpoint: half a file, unflushed, or
    not yet moved.
    """
    path = tmp_path / "c.npz"
    checkpoint.save_checkpoint(path, state_of(1))
    program = f"""
        import os, signal, numpy
        from dcfnet_np.train.checkpoint import Checkpoint, save_checkpoint
        def die(*arguments, **named):
            if hasattr(arguments[0], "write"):
                arguments[0].write(b"PK half a file")
                arguments[0].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        {moment} = die
        save_checkpoint({str(path)!r}, Checkpoint(2, {{"w": numpy.ones(3)}}, {{"w": numpy.ones(3)}}, {{}}, "abc"))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=PATIENCE
    )
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "c.part.npz").is_file()  # it was writing
    assert checkpoint.load_checkpoint(path).epoch == 1
    checkpoint.save_checkpoint(path, state_of(2))
    assert checkpoint.load_checkpoint(path).epoch == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.npz"]


def test_torn_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save_checkpoint(path, state_of(1))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(checkpoint.CheckpointError, match="is no readable checkpoint") as info:
            checkpoint.load_checkpoint(path)
        assert "\n" not in str(info.value)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(checkpoint.CheckpointError, match="is no readable checkpoint"):
        checkpoint.load_checkpoint(path)


def test_train_bad_input(crops_file, tmp_path):
    with pytest.raises(TypeError, match="momentun"):
        Config(momentun=0.9)
    for name, bad in [
        ("arch", "vgg"),
        ("batch", 0),
        ("epochs", 0),
        ("lr_start", 0.0),
        ("lr_end", float("nan")),
        ("momentum", 1.0),
        ("cosine_window", 1.1),
        ("weight_decay", -1.0),
        ("sigma_factor", 0.0),
        ("seed", -1),
        ("mean", (1.0, 2.0)),
    ]:
        with pytest.raises(ValueError, match=f"Config: {name} must be"):
            Config(**{name: bad})
    with pytest.raises(ValueError, match="padding must be that of .*crops.h5, 2, got 1.5"):
        loop.train(crops_file, config(padding=1.5), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()

    loop.train(crops_file, config(epochs=1), tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match="already holds a run"):
        loop.train(crops_file, config(epochs=1), tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match="made with seed 7; give the same"):
        loop.train(
            crops_file, config(epochs=1, seed=8), tmp_path / "run", device="cpu", resume=True
        )
    other = tmp_path / "other.h5"
    prepare.prepare([crops_file.parent / "ant"], other, size=SIZE)
    with pytest.raises(ValueError, match="other crops"):
        loop.train(other, config(epochs=1), tmp_path / "run", device="cpu", resume=True)


def test_a_run_that_began_and_ended_meanwhile_is_kept(crops_file, tmp_path):
    class Slow(Processes):
        """Reads that there is no run; before it writes, another process has done one."""

        def broadcast(self, value):
            loop.train(crops_file, config(epochs=1), tmp_path / "run", device="cpu")
            return value

    with pytest.raises(ValueError, match="already holds a run"):
        loop.train(
            crops_file, config(epochs=1, seed=8), tmp_path / "run", device="cpu", processes=Slow()
        )
    assert checkpoint.load_checkpoint(tmp_path / "run" / "checkpoint.npz").config["seed"] == 7


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "settings, why",
    [
        (
            {"lr_start": 1e30, "lr_end": 1e30},
            "the loss is nan, at learning rate 1e+30; lower lr_start",
        ),
        ({"divergence": 1e-3}, "too many pairs explode, 5 of the last 5"),
    ],
)
def test_divergence_stops_the_run_and_keeps_the_batch(crops_file, tmp_path, settings, why):
    with pytest.raises(loop.TrainingError, match=re.escape(why)):
        loop.train(crops_file, config(**settings), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "weights.h5").exists()
    kept = tmp_path / "run" / "diverged.npz"
    state = checkpoint.load_checkpoint(kept)  # before the step: what it starts from is finite
    assert all(np.isfinite(value).all() for value in state.parameters.values())
    with np.load(kept) as archive:
        batch, crops = archive["pairs"], archive["crops"]
    data = prepare.read_crops(crops_file, margin=True)
    np.testing.assert_array_equal(crops, data.crops[batch.T])
    held, _ = loop.split(data, config(**settings))
    drawn = loop.draw(data, ~held, config(**settings), 7, state.epoch, "near", None)
    np.testing.assert_array_equal(batch, drawn[5 * state.steps : 5 * state.steps + 5])


@pytest.mark.gpu
def test_gpu_run_agrees_with_the_cpu(crops_file, tmp_path, xp):
    if xp is np:
        pytest.skip(
            "compares a run on the GPU with one on the CPU, once: in the variant of this test for CuPy"
        )
    settings = config(epochs=1)
    paths = [
        loop.train(crops_file, settings, tmp_path / name, device=name) for name in ("cpu", "cuda")
    ]
    cpu, cuda = (weights.load_weights(str(path)).parameters for path in paths)
    for name, value in cpu.items():
        np.testing.assert_allclose(cuda[name], value, rtol=1e-3, atol=1e-4)
