"""train/plain_step.py: one whole step against finite differences, parts of batches, the reader."""

import threading
import time

import numpy as np
import pytest
from processes import PATIENCE
from training import TINY, config, random_step

from dcfnet_np.train.plain_step import AHEAD, PlainSteps, pair_gradients, pair_loss, read_ahead


def test_gradient_of_a_whole_step(rng):
    images, parameters, objective = random_step(rng)
    _, caches = pair_loss(images, parameters, TINY, objective)
    gradients = pair_gradients(caches)
    assert list(gradients) == list(parameters)
    for name, theta in parameters.items():
        numeric = np.zeros_like(theta)
        h = 1e-5
        for index in np.ndindex(theta.shape):
            ends = []
            for sign in (1, -1):
                moved = {**parameters, name: theta.copy()}
                moved[name][index] += sign * h
                ends.append(pair_loss(images, moved, TINY, objective)[0])
            numeric[index] = (ends[0] - ends[1]) / (2 * h)
        error = abs(numeric - gradients[name]).max() / abs(gradients[name]).max()
        assert error < 1e-6, name


def test_parts_of_a_batch_add_up(rng):
    """Pair by pair against `pair_loss` of all."""
    crops = rng.integers(0, 256, (9, 3, 23, 23), dtype=np.uint8)
    settings = config(divergence=1e9)
    steps = PlainSteps(settings, crops, dtype=np.float64)
    index = rng.integers(0, 9, (5, 2))
    images = steps.pairs.images(index)
    expected = crops[index.T.reshape(-1)] - np.reshape(settings.mean, (3, 1, 1))
    np.testing.assert_array_equal(images, expected)
    loss, caches = pair_loss(images, steps.learnt.parameters, "light", steps.objectives[0])
    losses, gradients = steps.gradients(index)
    assert losses.mean() == pytest.approx(loss, rel=1e-10)
    for name, whole in pair_gradients(caches).items():
        np.testing.assert_allclose(gradients[name], whole, atol=1e-10 * abs(whole).max())
    assert steps.mean_loss(index[:3]) == pytest.approx(losses[:3].mean(), rel=1e-10)


def test_batches_are_read_while_others_compute():
    """While batch 0 is in work, AHEAD batches are read, and no more."""
    read, enough = [], threading.Event()

    def slow(batch):
        read.append(int(batch[0]))
        if len(read) == AHEAD + 1:
            enough.set()
        return batch * 10

    reader = read_ahead(slow, [np.array([number]) for number in range(3 * AHEAD)])
    first, crops = next(reader)
    assert (first, crops) == (0, 0) and enough.wait(PATIENCE)
    time.sleep(0.05)
    assert len(read) == AHEAD + 1
    assert [(int(b[0]), int(c[0])) for b, c in reader] == [(n, 10 * n) for n in range(1, 3 * AHEAD)]


def test_an_error_of_the_reader_comes_in_its_turn():
    before = set(threading.enumerate())
    reader = read_ahead(lambda batch: [1, 2][batch[0]], [np.array([n]) for n in range(4)])
    assert [next(reader)[1], next(reader)[1]] == [1, 2]
    with pytest.raises(IndexError):
        next(reader)
    assert set(threading.enumerate()) <= before  # its thread is gone
