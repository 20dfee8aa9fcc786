"""Training on clips: two frames are a pair, the fast network is the plain one, and gradients, those
of numbers beside the network too, are finite differences.
"""

import dataclasses

import numpy as np
import pytest
from training import TINY, config, read_log, train, write_crops

from dcfnet_np import network
from dcfnet_np.train import loop
from dcfnet_np.train.clip_step import ClipSteps
from dcfnet_np.train.numbers import NAMES
from dcfnet_np.train.pairs import continue_clips, draw_training_pairs
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.weights import load_weights

CHANGED = {"jitter": 5, "flip": True, "light": 0.2, "scale": 0.05, "cosine_window": 1.0}


def crops_of(rng, size=100, count=8):
    return rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)


@pytest.mark.parametrize("changes", [{}, CHANGED])
def test_a_clip_of_two_frames_is_a_pair(rng, changes):
    crops, pairs = crops_of(rng), np.array([[0, 1], [2, 3], [4, 5], [7, 6]])
    plain, clips = (
        kind(config(sigma_factor=0.13, **changes), crops, size=90, dtype=np.float64)
        for kind in (PlainSteps, ClipSteps)
    )
    assert clips._fast
    (wanted, gradients), (losses, ours) = (s.gradients(pairs, 1) for s in (plain, clips))
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    assert clips.mean_loss(pairs) == pytest.approx(plain.mean_loss(pairs), rel=1e-9)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-7 * abs(gradient).max())


@pytest.mark.parametrize("found", [False, True])
def test_the_fast_network_is_the_plain_one(rng, found):
    crops, clips = crops_of(rng), np.array([[0, 1, 2, 3], [7, 5, 4, 6]])
    settings = config(
        frames=4, learn="lam,sigma,window,rate", sigma_factor=0.13, found_places=found, **CHANGED
    )
    fast, plain = (ClipSteps(settings, crops, size=90, dtype=np.float64) for _ in range(2))
    assert fast._fast
    plain._fast = False
    for steps in (fast, plain):
        for name in NAMES.values():  # away from what was typed in
            steps.learnt.parameters[name] += 0.2
    (losses, gradients), (wanted, theirs) = (s.gradients(clips, 1) for s in (fast, plain))
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    assert set(gradients) == {*network.parameter_shapes("light"), *NAMES.values()}
    for name, gradient in theirs.items():
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-7 * abs(gradient).max())


@pytest.mark.parametrize("fast", [False, True])
def test_recomputed_features_are_the_same_and_one_frame_s(rng, fast):
    crops, clips = crops_of(rng), np.array([[0, 1, 2, 3, 4, 5], [7, 5, 4, 6, 2, 1]])
    settings = config(frames=6, learn="lam,sigma,window,rate", sigma_factor=0.13, **CHANGED)
    again = dataclasses.replace(settings, recompute=True)
    (losses, gradients), (wanted, theirs) = (
        run_on_clips(each, crops, clips, fast) for each in (again, settings)
    )
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-10 * abs(gradient).max())


def run_on_clips(settings, crops, clips, fast):
    steps = ClipSteps(settings, crops, size=90, dtype=np.float64)
    steps._fast = fast
    found = steps.gradients(clips, 1)
    if fast:  # one object for each frame that is in memory
        frames = steps._free.get_nowait()
        strips = frames._frames._strips if settings.recompute else frames._strips
        assert len(strips) == (1 if settings.recompute else clips.shape[1])
    return found


@pytest.mark.parametrize("changes", [{}, CHANGED])
def test_gradients_are_finite_differences(rng, changes, monkeypatch):
    """Through four frames: along a direction of each parameter, and by the numbers."""
    monkeypatch.setitem(network.ARCHITECTURES, "tiny", TINY)
    crops, clips = crops_of(rng, 34), np.array([[0, 1, 2, 3], [7, 5, 4, 6]])
    settings = config(arch="tiny", frames=4, learn="lam,sigma,window,rate", lam=30.0, **changes)
    settings = dataclasses.replace(settings, preset="default:learning_rate=0.3", divergence=1e9)
    steps = ClipSteps(settings, crops, size=24, dtype=np.float64)
    losses, gradients = steps.gradients(clips, 1)
    assert set(gradients) == set(steps.learnt.parameters) and np.isfinite(losses).all()
    for name, theta in steps.learnt.parameters.items():
        direction = rng.standard_normal(theta.shape)
        kept, ends = theta.copy(), []
        for h in (1e-5, -1e-5):
            theta[...] = kept + h * direction
            ends.append(steps.gradients(clips, 1)[0].mean())
        theta[...] = kept
        numeric = (ends[0] - ends[1]) / 2e-5
        expected = (gradients[name] * direction).sum()
        if name == "log power" and not changes:
            assert numeric == expected == 0  # no step has the window
        else:
            assert numeric == pytest.approx(expected, rel=2e-5), name


def test_clips_stay_in_their_sequence():
    sequence = np.repeat([0, 1], [9, 4])
    frame = np.concatenate([np.arange(9) * 2, np.arange(4)])
    pairs = np.array([[0, 1], [8, 7], [3, 4], [12, 11], [9, 10], [7, 8]])
    for seed in range(20):
        clips = continue_clips(pairs, sequence, frame, 6, np.random.default_rng(seed), 4)
        assert (clips[:, :2] == pairs).all() and clips.shape == (6, 6)
        assert (sequence[clips] == sequence[clips[:, :1]]).all()
        gaps = abs(np.diff(frame[clips], axis=1))
        assert (gaps >= 1).all() and (gaps <= 4).all()
    assert (np.diff(clips[0])[:2] > 0).all()  # it goes on as it began


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    return write_crops(tmp_path_factory.mktemp("sequences"))


def test_a_run_learns_all_and_goes_on_bit_for_bit(crops_file, tmp_path, monkeypatch):
    monkeypatch.setitem(network.ARCHITECTURES, "tiny", TINY)
    settings = config(arch="tiny", frames=4, learn="lam,sigma,window,rate", cosine_window=0.5,
                      optimiser="adam", averaging=0.9, divergence=1e9)  # fmt: skip
    whole = train(crops_file, settings, tmp_path / "whole")

    class Stop(loop.Watcher):
        steps = 0

        def step(self, pairs, loss, waiting):
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(crops_file, settings, tmp_path / "cut",
                   loop.RunOptions("cpu", checkpoint_seconds=0), watcher=Stop())  # fmt: skip
    cut = train(crops_file, settings, tmp_path / "cut", resume=True)
    assert (cut / "weights.h5").read_bytes() == (whole / "weights.h5").read_bytes()

    learnt = load_weights(whole / "weights.h5").training["learnt"]
    assert learnt == read_log(whole)[-1]["learnt"]
    typed_in = {"lam": 1e-4, "sigma_factor": 0.1, "window_power": 1.0, "learning_rate": 0.015}
    assert set(learnt) == set(typed_in)
    assert all(learnt[name] != value for name, value in typed_in.items())


def test_what_is_learnt_and_what_can_be(crops_file):
    for text in ("lamb", "lam,lam", "lam,"):
        with pytest.raises(ValueError, match="learn must be some of lam, sigma, window, rate"):
            config(learn=text)
    with pytest.raises(ValueError, match="frames must be >= 2, got 1"):
        config(frames=1)
    data = loop.read_crops(crops_file)
    clips = draw_training_pairs(data, config(frames=5), 0)
    pairs = draw_training_pairs(data, config(), 0)
    assert (clips[:, :2] == pairs).all() and clips.shape[1] == 5
