"""The fast steps are the plain ones, to rounding, again and again in the same memory."""

import numpy as np
import pytest
from training import config

from dcfnet_np.train.fast_step import FastSteps
from dcfnet_np.train.plain_step import PlainSteps


@pytest.mark.parametrize("arch", ["light", "conv1", "conv2"])
@pytest.mark.parametrize("exploding", [False, True])
def test_steps(rng, exploding, arch):
    """Whole steps with all that a run has: moved windows meet shifted labels, a pair explodes."""
    crops = rng.integers(0, 256, (6, 3, 82, 82), dtype=np.uint8)
    settings = config(
        arch=arch, jitter=6, flip=True, light=0.2, cosine_window=0.5, optimiser="adam",
        averaging=0.7, momentum=0.6, sigma_factor=0.13,
    )  # fmt: skip
    plain, fast = (
        kind(settings, crops, size=70, dtype=np.float64) for kind in (PlainSteps, FastSteps)
    )
    batches = [np.array([[0, 1], [2, 3], [4, 5]]), np.array([[3, 2], [5, 1]])]
    if exploding:
        plain.limit = fast.limit = np.sort(plain.gradients(batches[0], 1)[0])[1:].mean()
    # without the window, and with it
    for ours, theirs in zip(fast.epoch(batches, 1e-3, 1), plain.epoch(batches, 1e-3, 1)):
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
        assert (ours.left_out == theirs.left_out).all()
    assert fast.mean_loss(batches[1]) == pytest.approx(plain.mean_loss(batches[1]), rel=1e-9)
    assert fast.learnt.steps == 2
    for group, wanted in zip(fast.learnt[:4], plain.learnt[:4]):
        for name, value in wanted.items():
            most = 1e-7 * abs(value).max()
            np.testing.assert_allclose(group[name], value, atol=most, err_msg=name)


def test_single_precision(rng):
    crops, pairs = rng.integers(0, 256, (6, 3, 70, 70), dtype=np.uint8), np.arange(6).reshape(3, 2)
    (losses, gradients), (fast_losses, fast_gradients) = (
        kind(config(), crops).gradients(pairs) for kind in (PlainSteps, FastSteps)
    )
    np.testing.assert_allclose(fast_losses, losses, rtol=1e-5)
    for name, gradient in gradients.items():
        assert fast_gradients[name].dtype == np.float32
        np.testing.assert_allclose(fast_gradients[name], gradient, atol=1e-4 * abs(gradient).max())


def test_where_there_is_no_fast_way():
    assert FastSteps.reaches(config(), 125)
    assert not FastSteps.reaches(config(arch="conv1-dilation"), 125)
    assert not FastSteps.reaches(config(sigma_factor=0.02), 125)
