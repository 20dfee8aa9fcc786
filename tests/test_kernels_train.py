"""A training step by kernels alone against the NumPy loop, on the CPU stand-in and on a GPU; and
gather.cu.
"""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import device, full_size_device, on_cpu, on_gpu, relative_error  # noqa: F401
from test_train import write_sequence

from dcfnet_np import backend, network, weights
from dcfnet_np.backend import Device, to_numpy
from dcfnet_np.kernels import conv_tf32, gather
from dcfnet_np.train import loop, prepare
from dcfnet_np.train import step as array_step
from dcfnet_np.train.adam import adam_step, update_average
from dcfnet_np.train.augment import Augmentation, augment, draw_changes
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops
from dcfnet_np.train.device_step import SLOTS, TrainStep, device_step
from dcfnet_np.train.sgd import sgd_step, zero_velocity
from dcfnet_np.train.step import Batches, Diverged, batch_gradients, make_objective, mean_loss

SIZE = 23  # of the crops
EXACT = {np.float32: 2e-5, np.float64: 1e-11}  # of a parameter's largest step


def make_crops(rng, count=7, margin=0):
    """Smooth crops, each a little different from the one before, as two frames of a sequence are."""
    shape = 3, SIZE + 2 * margin, SIZE + 2 * margin
    rough = rng.integers(0, 256, shape).astype(float)
    frames = [rough := 0.8 * rough + 0.2 * rng.integers(0, 256, shape) for _ in range(count)]
    return np.array(frames).round().astype(np.uint8)


def as_data(crops):
    """The content of a crops.h5 without a margin."""
    index = np.arange(len(crops))
    return Crops(crops, 0 * index, index, ("ant",), 2.0, crops.shape[-1], "")


def make_config(arch="light", **settings):
    return Config(arch=arch, batch=3, momentum=0.9, weight_decay=5e-3, lam=1e-2, **settings)


def numpy_steps(config, crops, steps, dtype):
    """What the NumPy loop makes of steps [(pairs, lr)], the third epoch of a run.

    Losses, parameters before and after, velocity, the last gradients, and then the mean loss of the
    last pairs."""
    parameters = network.initialise(config.arch, config.seed, dtype)
    start = {name: value.copy() for name, value in parameters.items()}
    size = network.feature_size(SIZE, config.arch, "valid")
    sigma = config.sigma_factor * SIZE / (1 + config.padding)
    plain, windowed = (
        make_objective(
            (size, size),
            sigma,
            config.lam,
            band=config.band,
            window=window,
            dtype=dtype,
            device=Device("cpu", 0, ""),
        )
        for window in (False, True)
    )
    every_second = [plain, windowed] * len(steps)
    objectives = {0: [plain] * len(steps), 0.5: every_second, 1: [windowed] * len(steps)}[
        config.cosine_window
    ]
    batches = Batches(crops, config.mean, dtype, config.augmentation, size=SIZE)
    velocity, squares, losses = zero_velocity(parameters), zero_velocity(parameters), []
    average = {name: value.copy() for name, value in parameters.items()}
    for number, ((pairs, lr), objective) in enumerate(zip(steps, objectives), start=1):
        each, gradients = batch_gradients(
            batches, pairs, parameters, config.arch, objective, epoch=2
        )
        how = {"lr": lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
        if config.optimiser == "adam":
            adam_step(parameters, gradients, velocity, squares, step=number, **how)
        else:
            sgd_step(parameters, gradients, velocity, **how)
        update_average(average, parameters, step=number, decay=config.averaging)
        losses.append(each.mean())
    objective = windowed if config.cosine_window == 1 else plain
    # without averaging the parameters themselves
    mean = mean_loss(batches, pairs, average, config, objective)
    return losses, start, parameters, average, velocity, gradients, mean


@pytest.mark.parametrize(
    "arch, dtype, settings, resident",
    [
        ("light", np.float64, {"cosine_window": 1.0}, True),
        ("light", np.float32, {"flip": True, "light": 0.4, "seed": 3, "cosine_window": 0.5}, False),
        (
            "light",
            np.float64,
            {"flip": True, "jitter": 3, "scale": 0.1, "gray": 0.5, "blur": 1.0, "colour": 0.2},
            False,
        ),
        ("light", np.float64, {"band": False, "flip": True, "light": 0.2}, True),
        ("light", np.float64, {"optimiser": "adam", "averaging": 0.7}, True),
        ("conv1-dilation", np.float64, {}, True),
        ("conv2", np.float32, {}, True),
    ],
)
def test_steps_of_the_numpy_loop(full_size_device, rng, arch, dtype, settings, resident):  # noqa: F811
    config, crops = make_config(arch, **settings), make_crops(rng, margin=0 if resident else 4)
    lrs = [1e-6] * (1 if arch == "conv2" else 2) + [3e-7] * (
        SLOTS if arch == "light" and dtype == np.float32 else 1
    )  # a rate changes
    counts = [3] * (len(lrs) - 1) + [2]  # the last batch is a short one
    steps = [(rng.integers(0, len(crops), (count, 2)), lr) for count, lr in zip(counts, lrs)]
    losses, start, want, average, velocity, gradients, mean = numpy_steps(
        config, crops, steps, dtype
    )
    first = network.initialise(arch, config.seed, dtype)
    step = TrainStep(config, crops, first, dtype=dtype, resident=resident, size=SIZE)
    for pairs, lr in steps[:-1]:
        step.step(pairs, lr, epoch=2)
    got = [*step.losses()]
    step.step(*steps[-1], epoch=2)
    np.testing.assert_allclose([*got, *step.losses()], losses, rtol=10 * EXACT[dtype])
    assert len(step.losses()) == 0
    assert step.mean_loss(steps[-1][0]) == pytest.approx(mean, rel=10 * EXACT[dtype])
    got_gradients, got, got_velocity = step.gradients(), step.parameters(), step.velocity()
    if config.averaging:
        for name, value in step.average().items():
            assert (
                np.abs(value - average[name]).max()
                < 1e-6 * np.abs(average[name] - want[name]).max()
            ), name
    assert list(got) == list(want) == list(got_velocity)
    for name, value in want.items():
        assert got[name].dtype == dtype
        assert relative_error(got_gradients[name], gradients[name]) < 10 * EXACT[dtype], name
        assert relative_error(got_velocity[name], velocity[name]) < 10 * EXACT[dtype], name
        moved = np.abs(value - start[name]).max()
        assert moved > 0
        rounding = 4 * len(steps) * np.finfo(dtype).eps * np.abs(value).max()
        assert np.abs(got[name] - value).max() < 10 * EXACT[dtype] * moved + rounding, name


@pytest.mark.parametrize("size_of_batch", [3, 2])
def test_a_pair_that_explodes_is_left_out_as_on_the_cpu(full_size_device, rng, size_of_batch):  # noqa: F811
    """A template of a single gray but for one pixel, in the second step, of 3 pairs and of 2."""
    config, crops = make_config(lam_divisor="none"), make_crops(rng)
    crops[6], crops[6, :, 11, 11] = 130, 131
    config = dataclasses.replace(config, lam=1e-6)
    batches = [
        np.array([[0, 1], [2, 3], [4, 5]]),
        np.array([[0, 2], [6, 4], [3, 1]])[:size_of_batch],
        np.array([[1, 4]]),
    ]
    size, parameters = SIZE - 4, network.initialise("light", config.seed, np.float64)
    objective = make_objective(
        (size, size),
        config.sigma_factor * SIZE / 3,
        1e-6,
        dtype=np.float64,
        device=Device("cpu", 0, ""),
    )
    limit, velocity, want = 10 * float((objective.label**2).sum()), zero_velocity(parameters), []
    for pairs in batches:
        losses, gradients = batch_gradients(
            Batches(crops, config.mean, np.float64),
            pairs,
            parameters,
            "light",
            objective,
            limit=limit,
        )
        sgd_step(
            parameters, gradients, velocity, lr=1e-4, momentum=0.9, weight_decay=config.weight_decay
        )
        want.append(losses)
    step = TrainStep(
        config, crops, network.initialise("light", config.seed, np.float64), dtype=np.float64
    )
    outcomes = list(step.epoch(batches, 1e-4, 0, 0.5))
    assert [outcome.left_out.tolist() for outcome in outcomes] == [
        [False] * 3,
        [False, True, False][:size_of_batch],
        [False],
    ]
    assert outcomes[1].surplus == pytest.approx(0.2 + 1 - 0.1 * size_of_batch)
    for outcome, losses in zip(outcomes, want):
        np.testing.assert_allclose(outcome.losses, losses, rtol=1e-8)
    for name, value in step.parameters().items():
        moved = abs(value - network.initialise("light", config.seed, np.float64)[name]).max()
        assert 0 < moved < 1 and abs(value - parameters[name]).max() < 1e-8 * moved, name


def test_adam_goes_on_where_it_was(full_size_device, rng):  # noqa: F811
    config, crops = make_config(optimiser="adam", averaging=0.7), make_crops(rng)
    steps = [(rng.integers(0, len(crops), (3, 2)), 1e-3) for _ in range(3)]
    whole, first = (TrainStep(config, crops, dtype=np.float64) for _ in range(2))
    for pairs, lr in steps:
        whole.step(pairs, lr)
    for pairs, lr in steps[:2]:
        first.step(pairs, lr)
    rest = TrainStep(
        config, crops, first.parameters(), first.velocity(), squares=first.squares(), average=first.average(), done=2,
        dtype=np.float64,
    )  # fmt: skip
    rest.step(*steps[2])
    for ours, theirs in (
        (rest.parameters(), whole.parameters()),
        (rest.average(), whole.average()),
    ):
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name])


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings", [{"flip": True}, {"light": 0.5}, {"flip": True, "light": 0.3, "colour": 0.2}]
)
def test_gather_changes_as_augment_does(device, rng, settings, dtype):  # noqa: F811
    crops, mean = (
        rng.integers(0, 256, (6, 3, 17, 19)).astype(np.uint8),
        rng.uniform(0, 200, 3).astype(dtype),
    )
    pairs, augmentation = rng.integers(0, 6, (8, 2)), Augmentation(**settings, seed=1)
    index = pairs.T.reshape(-1).astype(np.int32)
    want = augment(crops[index].astype(dtype), pairs, 3, augmentation) - mean.reshape(3, 1, 1)
    mirrored, contrast, brightness, colour = draw_changes(pairs, 3, augmentation, dtype)
    assert mirrored.any() == ("flip" in settings) and not mirrored.all()
    level = crops[index].astype(dtype).mean((1, 2, 3))
    changes = np.column_stack(
        [mirrored, level, contrast, (level * brightness)[:, None] * colour]
    ).astype(dtype)
    got = gather.gather(device(crops), device(index), device(mean), changes=device(changes))
    assert (to_numpy(got) == want).all()


def test_a_run_by_kernels_is_the_run_on_the_cpu(full_size_device, monkeypatch, tmp_path):  # noqa: F811
    """The whole loop, killed after an epoch and resumed, with all that it can do; on the second GPU
    of the stand-in.
    """
    folders = [
        write_sequence(tmp_path / name, 7 + i, seed=i)
        for i, name in enumerate(("ant", "bee", "cat"))
    ]
    prepare.prepare(folders, tmp_path / "crops.h5", size=SIZE)
    config = Config(
        batch=4, epochs=2, pairs_per_epoch=7, validation_pairs=3, lr_start=1e-4, lr_end=5e-5, seed=7,
        flip=True, light=0.2, cosine_window=0.5, initial_scale=0.4,
    )  # fmt: skip
    cpu = loop.train(tmp_path / "crops.h5", config, tmp_path / "cpu", device="cpu")

    stand_in = backend.cupy() is cuda_on_cpu.unwatched
    name = "cuda:1" if stand_in else "cuda"
    epoch = TrainStep.epoch

    def killed(step, pairs, lr, number, surplus):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(step, pairs, lr, number, surplus)

    cuda_on_cpu.devices_used.clear()
    monkeypatch.setattr(TrainStep, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tmp_path / "crops.h5", config, tmp_path / "gpu", device=name)
    monkeypatch.setattr(TrainStep, "epoch", epoch)
    gpu = loop.train(tmp_path / "crops.h5", config, tmp_path / "gpu", device=name, resume=True)
    if stand_in:
        assert cuda_on_cpu.devices_used == {1}

    want, got = weights.load_weights(str(cpu)), weights.load_weights(str(gpu))
    for kind in ("loss", "validation_loss"):
        np.testing.assert_allclose(got.training[kind], want.training[kind], rtol=1e-4)
    start = network.initialise(config.arch, config.seed)
    for key, value in want.parameters.items():
        moved = np.abs(value - start[key] * np.float32(config.initial_scale)).max()
        assert moved > 0 and np.abs(got.parameters[key] - value).max() < 1e-3 * moved + 1e-7, key


def test_a_step_in_tf32(full_size_device, rng):  # noqa: F811
    """Loss and gradients are near those in float32, and not the same: the second convolution is in
    TF32.
    """
    config, crops, pairs = make_config(), make_crops(rng), rng.integers(0, 7, (3, 2))
    losses, gradients = [], []
    for tf32 in (False, True):
        step = TrainStep(config, crops, tf32=tf32)
        step.step(pairs, 1e-6)
        losses.append(step.losses()[0])
        gradients.append(step.gradients())
    assert 0 < abs(losses[1] / losses[0] - 1) < 1e-3
    for name, want in gradients[0].items():
        assert 0 < relative_error(gradients[1][name], want) < 1e-2, name


def test_where_there_is_no_tf32(monkeypatch, rng):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    crops, config = make_crops(rng), make_config()
    state = loop.first_state(config, "")
    with pytest.raises(ValueError, match="tf32 is for a GPU"):
        device_step(config, as_data(crops), state, Device("cpu"), tf32=True)
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    with pytest.raises(ValueError, match="tf32 is for the kernels, but DCFNET_KERNELS=0"):
        device_step(config, as_data(crops), state, Device("cuda"), tf32=True)
    monkeypatch.delenv("DCFNET_KERNELS")
    conv_tf32.check_device.cache_clear()
    monkeypatch.setattr(cuda_on_cpu.Device, "compute_capability", "75")
    with pytest.raises(backend.DeviceError, match="TF32 needs .* 8.0 or newer, cuda:1 has 7.5"):
        device_step(config, as_data(crops), state, Device("cuda", 1), tf32=True)


def test_a_run_by_kernels_that_diverges_stops(full_size_device, rng):  # noqa: F811
    step = TrainStep(make_config(), make_crops(rng))
    batches = list(rng.integers(0, 7, (3, 3, 2)))
    with np.errstate(all="ignore"), pytest.raises(Diverged) as info:
        for number, _ in enumerate(step.epoch(batches, 1e30, 0)):
            assert number == 0  # the first loss is that of the parameters before any step
    np.testing.assert_array_equal(info.value.batch, batches[1])


def test_array_code_trains_on_the_gpu_that_was_asked_for(monkeypatch, tmp_path):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    monkeypatch.setattr(array_step, "pair_loss", cuda_on_cpu.on_this_device(array_step.pair_loss))
    prepare.prepare([write_sequence(tmp_path / "ant", 5)], tmp_path / "crops.h5", size=SIZE)
    cuda_on_cpu.devices_used.clear()
    loop.train(tmp_path / "crops.h5", Config(batch=8, epochs=1), tmp_path / "run", device="cuda:1")
    assert cuda_on_cpu.devices_used == {1}


@pytest.mark.parametrize(
    "off, why", [("kernels", "DCFNET_KERNELS=0"), ("size", "even size"), ("band", "even size")]
)
def test_array_code_where_kernels_do_not_reach(monkeypatch, rng, caplog, off, why):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    caplog.set_level("INFO")
    if off == "kernels":
        monkeypatch.setenv("DCFNET_KERNELS", "0")
    size, settings = (24, {"sigma_factor": 0.05}) if off == "size" else (64, {"band": False})
    crops, config = (
        rng.integers(0, 256, (3, 3, size, size)).astype(np.uint8),
        make_config(**settings),
    )
    assert device_step(config, as_data(crops), loop.first_state(config, ""), Device("cuda")) is None
    assert why in caplog.text
    assert device_step(config, as_data(crops), loop.first_state(config, ""), Device("cpu")) is None


def test_what_is_refused(full_size_device, rng):  # noqa: F811
    config, crops = make_config(), make_crops(rng)
    with pytest.raises(
        ValueError, match=r"crops must be \(n, 3, size, size\) uint8, got \(7, 3, 23, 22\)"
    ):
        TrainStep(config, crops[..., 1:])
    with pytest.raises(ValueError, match="conv1.weight"):
        TrainStep(config, crops, network.initialise("conv1", 0))
    with pytest.raises(ValueError, match="maps of odd size, got 18"):
        TrainStep(make_config(band=False), crops[..., 1:, 1:])
    step = TrainStep(config, crops, graph=False)
    for wrong in ((4, 2), (0, 2), (3, 3)):
        with pytest.raises(
            ValueError, match=rf"pairs must be \(1 to 3, 2\), got \({wrong[0]}, {wrong[1]}\)"
        ):
            step.step(np.zeros(wrong, int), 1e-6)
    with pytest.raises(ValueError, match="indices below 7"):
        step.step(np.full((3, 2), 7), 1e-6)
