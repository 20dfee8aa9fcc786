"""A training step by kernels alone against the NumPy loop, on the CPU stand-in and on a GPU; and gather.cu."""

import numpy as np
import pytest
from kernel_device import device, full_size_device, on_gpu, relative_error  # noqa: F401

from dcfnet_np import network
from dcfnet_np.backend import Device, to_numpy
from dcfnet_np.kernels import gather
from dcfnet_np.train.device_step import SLOTS, TrainStep
from dcfnet_np.train.loop import Batches, Config, batch_gradients, make_objective
from dcfnet_np.train.sgd import sgd_step, zero_velocity

SIZE = 23  # of the crops
EXACT = {np.float32: 2e-5, np.float64: 1e-11}  # of a parameter's largest step


def make_crops(rng, count=7):
    """Smooth crops, each a little different from the one before, as two frames of a sequence are."""
    rough = rng.integers(0, 256, (3, SIZE, SIZE)).astype(float)
    frames = [rough := 0.8 * rough + 0.2 * rng.integers(0, 256, (3, SIZE, SIZE)) for _ in range(count)]
    return np.array(frames).round().astype(np.uint8)


def make_config(arch="light", **settings):
    return Config(arch=arch, batch=3, momentum=0.9, weight_decay=5e-3, lam=1e-2, **settings)


def numpy_steps(config, crops, steps, dtype):
    """Losses, parameters before and after the steps [(pairs, lr)], and the last gradients, by the NumPy loop."""
    parameters = network.initialise(config.arch, config.seed, dtype)
    start = {name: value.copy() for name, value in parameters.items()}
    size = network.feature_size(SIZE, config.arch, "valid")
    sigma = config.sigma_factor * SIZE / (1 + config.padding)
    objective = make_objective(
        (size, size), sigma, config.lam, band=config.band, dtype=dtype, device=Device("cpu", 0, "")
    )
    batches, velocity, losses = Batches(crops, config.mean, dtype), zero_velocity(parameters), []
    for pairs, lr in steps:
        loss, gradients = batch_gradients(batches, pairs, parameters, config.arch, objective)
        sgd_step(parameters, gradients, velocity, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay)
        losses.append(loss)
    return losses, start, parameters, gradients


@pytest.mark.parametrize(
    "arch, dtype, settings, resident",
    [
        ("light", np.float64, {}, True),
        ("light", np.float32, {}, False),
        ("light", np.float64, {"band": False}, False),
        ("conv1-dilation", np.float64, {}, True),
        ("conv2", np.float32, {}, True),
    ],
)
def test_steps_of_the_numpy_loop(full_size_device, rng, arch, dtype, settings, resident):  # noqa: F811
    config, crops = make_config(arch, **settings), make_crops(rng)
    lrs = [1e-6] * 2 + [3e-7] * (SLOTS if arch == "light" and dtype == np.float32 else 1)  # a rate changes
    steps = [(rng.integers(0, len(crops), (3, 2)), lr) for lr in lrs]
    losses, start, want, gradients = numpy_steps(config, crops, steps, dtype)
    step = TrainStep(config, crops, network.initialise(arch, config.seed, dtype), dtype=dtype, resident=resident)
    for pairs, lr in steps[:-1]:
        step.step(pairs, lr)
    got = [*step.losses()]
    step.step(*steps[-1])
    np.testing.assert_allclose([*got, *step.losses()], losses, rtol=10 * EXACT[dtype])
    assert len(step.losses()) == 0
    got_gradients, got = step.gradients(), step.parameters()
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == dtype
        assert relative_error(got_gradients[name], gradients[name]) < 10 * EXACT[dtype], name
        moved = np.abs(value - start[name]).max()
        assert moved > 0
        rounding = 4 * len(steps) * np.finfo(dtype).eps * np.abs(value).max()
        assert np.abs(got[name] - value).max() < 10 * EXACT[dtype] * moved + rounding, name


@pytest.mark.gpu
def test_graph_launches_and_streaming_agree(rng):
    on_gpu()
    config, crops = make_config(), make_crops(rng)
    steps = [(rng.integers(0, len(crops), (3, 2)), 1e-6) for _ in range(3 * SLOTS)]
    results = []
    for graph, resident in ((True, True), (False, True), (True, False)):
        step = TrainStep(config, crops, graph=graph, resident=resident)
        for pairs, lr in steps:
            step.step(pairs, lr)
        results.append((step.losses(), step.parameters()))
    for losses, parameters in results[1:]:
        assert (losses == results[0][0]).all()
        assert all((parameters[name] == value).all() for name, value in results[0][1].items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (2, 3, 17, 19), (1, 3, 1, 1)])
def test_gather(device, rng, shape, dtype):  # noqa: F811
    crops, mean = rng.integers(0, 256, shape).astype(np.uint8), rng.uniform(0, 200, 3).astype(dtype)
    index = rng.integers(0, shape[0], 7).astype(np.int32)
    got = gather.gather(device(crops), device(index), device(mean))
    assert got.dtype == dtype
    assert (to_numpy(got) == crops[index] - mean.reshape(3, 1, 1)).all()


def test_what_is_refused(full_size_device, rng):  # noqa: F811
    config, crops = make_config(), make_crops(rng)
    with pytest.raises(ValueError, match=r"crops must be \(n, 3, size, size\) uint8, got \(7, 3, 23, 22\)"):
        TrainStep(config, crops[..., 1:])
    with pytest.raises(ValueError, match="conv1.weight"):
        TrainStep(config, crops, network.initialise("conv1", 0))
    with pytest.raises(ValueError, match="maps of odd size, got 18"):
        TrainStep(make_config(band=False), crops[..., 1:, 1:])
    step = TrainStep(config, crops, graph=False)
    with pytest.raises(ValueError, match=r"pairs must be \(3, 2\), got \(2, 2\)"):
        step.step(np.zeros((2, 2), int), 1e-6)
    with pytest.raises(ValueError, match="indices below 7"):
        step.step(np.full((3, 2), 7), 1e-6)
