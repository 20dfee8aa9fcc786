"""A pair on one core is `pair_loss` and `pair_gradients`, to rounding, again and again in the same
memory.
"""

import numpy as np
import pytest

from dcfnet_np import network
from dcfnet_np.backend import Device
from dcfnet_np.fast.strip import make_kernels
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.train import step as plain
from dcfnet_np.train.augment import Augmentation


def batch(rng, architecture, size, dtype, window):
    map_size = network.feature_size(size, architecture, "valid")
    objective = plain.make_objective(
        (map_size, map_size), 4.2, 0.3, window=window, dtype=dtype, device=Device("cpu")
    )
    label = rng.uniform(0, 1, objective.label.shape).astype(dtype)
    band = make_band(label.shape, (14, 17), dtype)
    objective = objective._replace(label=label, band=band, label_f=rfft2(label, band))
    crops = rng.integers(0, 256, (6, 3, size, size), dtype=np.uint8)
    parameters = network.initialise(architecture, 3, dtype)
    for name, value in parameters.items():
        if name.endswith("bias"):
            value += 10 * rng.standard_normal(value.shape).astype(dtype)
    return plain.Batches(crops, (104.0, 117.0, 123.0), dtype), parameters, objective


@pytest.mark.parametrize("window", [False, True], ids=["no window", "window"])
@pytest.mark.parametrize("architecture", ["light", "conv1", "conv2"])
@pytest.mark.parametrize(
    ("dtype", "loss_limit", "limit"), [(np.float64, 1e-12, 1e-11), (np.float32, 1e-5, 1e-4)]
)
def test_loss_and_gradients(rng, architecture, dtype, loss_limit, limit, window):
    batches, parameters, objective = batch(rng, architecture, 70, dtype, window)
    steps = batches.pair_steps(architecture, objective)
    kernels = make_kernels(parameters, architecture)
    for pair in ([0, 1], [2, 3], [0, 1]):
        images = batches.images(np.array([pair]))
        expected, caches = plain.pair_loss(images, parameters, architecture, objective)
        gradients = plain.pair_gradients(caches, 0.25)
        with steps.one() as step:
            assert step.loss(images, kernels) == pytest.approx(expected, rel=loss_limit)
            loss, got = step.gradients(images, kernels, 0.25)
        assert loss == pytest.approx(expected, rel=loss_limit)
        assert list(got) == list(parameters)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(
                got[name], gradient, atol=limit * abs(gradient).max(), err_msg=name
            )


def test_moved_windows_meet_shifted_labels(rng):
    """`batch_gradients`, pair by pair and fast, against all pairs at once by the plain code."""
    batches, parameters, objective = batch(rng, "light", 70, np.float64, False)
    crops = rng.integers(0, 256, (6, 3, 82, 82), dtype=np.uint8)
    moved = plain.Batches(
        crops, (104.0, 117.0, 123.0), np.float64, Augmentation(jitter=6, flip=True), size=70
    )
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    labels = moved.labels(pairs, 1, objective)
    assert abs(labels - objective.label).max(axis=(1, 2)).min() > 0.1
    images = moved.images(pairs, 1)
    expected, caches = plain.pair_loss(images, parameters, "light", objective, labels)
    losses, gradients = plain.batch_gradients(moved, pairs, parameters, "light", objective, 1)
    assert moved.pair_steps("light", objective) is not None
    assert losses.mean() == pytest.approx(expected, rel=1e-12)
    for name, gradient in plain.pair_gradients(caches).items():
        np.testing.assert_allclose(
            gradients[name], gradient, atol=1e-11 * abs(gradient).max(), err_msg=name
        )


def test_where_there_is_no_fast_way(rng):
    for architecture in ("light", "conv1-dilation"):
        batches, _, objective = batch(rng, architecture, 70, np.float32, False)
        fast = batches.pair_steps(architecture, objective)
        assert (fast is None) == (architecture == "conv1-dilation")
        assert batches.pair_steps(architecture, objective._replace(band=None)) is None


def test_the_result_does_not_depend_on_the_cores(rng, monkeypatch):
    batches, parameters, objective = batch(rng, "light", 70, np.float32, False)
    pairs = np.array([[0, 1], [2, 3], [4, 5], [1, 0], [3, 2]])
    results = []
    for cores in (1, 2, 3):
        monkeypatch.setattr("dcfnet_np.support.threads.usable_cores", lambda cores=cores: cores)
        again = plain.Batches(batches.crops, (104.0, 117.0, 123.0))
        results.append(plain.batch_gradients(again, pairs, parameters, "light", objective))
    for losses, gradients in results[1:]:
        np.testing.assert_array_equal(losses, results[0][0])
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, results[0][1][name])
