"""The fast steps are the plain ones, to rounding, again and again in the same memory."""

import numpy as np
import pytest
from training import config

from dcfnet_np import network
from dcfnet_np.fast.strip import make_kernels
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.train.fast_step import FastPair, FastSteps
from dcfnet_np.train.plain_step import (
    PairImages,
    PlainSteps,
    make_objective,
    pair_gradients,
    pair_loss,
)


@pytest.mark.parametrize("window", [False, True], ids=["no window", "window"])
@pytest.mark.parametrize("architecture", ["light", "conv2"])
@pytest.mark.parametrize(
    ("dtype", "loss_limit", "limit"), [(np.float64, 1e-12, 1e-11), (np.float32, 1e-5, 1e-4)]
)
def test_loss_and_gradients_of_a_pair(rng, architecture, dtype, loss_limit, limit, window):
    size = 70
    side = network.feature_size(size, architecture, "valid")
    objective = make_objective((side, side), 4.2, 0.3, window=window, dtype=dtype)
    label = rng.uniform(0, 1, objective.label.shape).astype(dtype)
    band = make_band(label.shape, (14, 17), dtype)
    objective = objective._replace(label=label, band=band, label_f=rfft2(label, band))
    crops = rng.integers(0, 256, (6, 3, size, size), dtype=np.uint8)
    parameters = network.initialise(architecture, 3, dtype)
    for name, value in parameters.items():
        if name.endswith("bias"):
            value += 10 * rng.standard_normal(value.shape).astype(dtype)
    pairs, kernels = (
        PairImages(crops, (104.0, 117.0, 123.0), dtype),
        make_kernels(parameters, architecture),
    )
    fast = FastPair(architecture, (size, size), objective)
    for pair in ([0, 1], [2, 3], [0, 1]):
        images = pairs.images(np.array([pair]))
        expected, caches = pair_loss(images, parameters, architecture, objective)
        assert fast.loss(images, kernels) == pytest.approx(expected, rel=loss_limit)
        loss, got = fast.gradients(images, kernels, 0.25)
        assert loss == pytest.approx(expected, rel=loss_limit)
        assert list(got) == list(parameters)
        for name, gradient in pair_gradients(caches, 0.25).items():
            most = limit * abs(gradient).max()
            np.testing.assert_allclose(got[name], gradient, atol=most, err_msg=name)


@pytest.mark.parametrize("exploding", [False, True])
def test_steps(rng, exploding):
    """Whole steps with all that a run has: moved windows meet shifted labels, a pair explodes."""
    crops = rng.integers(0, 256, (6, 3, 82, 82), dtype=np.uint8)
    settings = config(
        jitter=6, flip=True, light=0.2, cosine_window=0.5, optimiser="adam", averaging=0.7,
        momentum=0.6, sigma_factor=0.13,
    )  # fmt: skip
    plain, fast = (
        kind(settings, crops, size=70, dtype=np.float64) for kind in (PlainSteps, FastSteps)
    )
    batches = [np.array([[0, 1], [2, 3], [4, 5]]), np.array([[3, 2], [5, 1]])]
    if exploding:
        plain.limit = fast.limit = np.sort(plain.gradients(batches[0], 1)[0])[1:].mean()
    for ours, theirs in zip(fast.epoch(batches, 1e-3, 1), plain.epoch(batches, 1e-3, 1)):
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
        assert (ours.left_out == theirs.left_out).all()
    assert fast.mean_loss(batches[1]) == pytest.approx(plain.mean_loss(batches[1]), rel=1e-9)
    assert fast.learnt.steps == 2
    for group, wanted in zip(fast.learnt[:4], plain.learnt[:4]):
        for name, value in wanted.items():
            most = 1e-7 * abs(value).max()
            np.testing.assert_allclose(group[name], value, atol=most, err_msg=name)


def test_where_there_is_no_fast_way():
    assert FastSteps.reaches(config(), 125)
    assert not FastSteps.reaches(config(arch="conv1-dilation"), 125)
    assert not FastSteps.reaches(config(sigma_factor=0.02), 125)
