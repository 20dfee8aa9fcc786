"""Steps by kernels alone against the plain steps, on the CPU stand-in and on a GPU; gather.cu."""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu, on_gpu, relative_error
from training import train, write_crops

from dcfnet_np import backend, weights
from dcfnet_np.backend import Device, to_numpy
from dcfnet_np.kernels import conv_tf32, gather
from dcfnet_np.train import loop
from dcfnet_np.train.augment import Augmentation, augment_images, draw_changes
from dcfnet_np.train.clip_step import ClipSteps
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops
from dcfnet_np.train.device_step import SLOTS, DeviceOptions, DeviceSteps
from dcfnet_np.train.exploding import Diverged
from dcfnet_np.train.optimisers import first_learnt
from dcfnet_np.train.parallel import Processes
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.train.prepare import Window

SIZE = 23  # of the crops
EXACT = {np.float32: 2e-5, np.float64: 1e-11}  # of a parameter's largest step
CHECK = DeviceOptions(dtype=np.float64)
MANY_CHANGES = {"flip": True, "jitter": 3, "scale": 0.1, "gray": 0.5, "blur": 1.0, "colour": 0.2}


def make_crops(rng, count=7, margin=0):
    """Smooth crops, each a little different from the one before, as frames of a sequence are."""
    shape = 3, SIZE + 2 * margin, SIZE + 2 * margin
    rough = rng.integers(0, 256, shape).astype(float)
    frames = [rough := 0.8 * rough + 0.2 * rng.integers(0, 256, shape) for _ in range(count)]
    return np.array(frames).round().astype(np.uint8)


def make_config(arch="light", **settings):
    return Config(arch=arch, batch=3, momentum=0.9, weight_decay=5e-3, **({"lam": 1e-2} | settings))


@pytest.mark.parametrize(
    "arch, dtype, settings, margin",
    [
        ("light", np.float32, {"flip": True, "light": 0.4, "seed": 3, "cosine_window": 0.5}, 4),
        ("light", np.float64, MANY_CHANGES, 4),
        ("light", np.float64, {"sigma_factor": 0.02, "cosine_window": 1.0}, 0),  # no band
        ("light", np.float64, {"optimiser": "adam", "averaging": 0.7}, 0),
        ("conv1-dilation", np.float64, {}, 0),
        ("conv2", np.float32, {}, 0),
    ],
)
def test_steps_are_the_plain_ones(full_size_device, rng, arch, dtype, settings, margin):
    """Steps of the third epoch; the last batch is a short one, and has another rate."""
    config, crops = make_config(arch, **settings), make_crops(rng, margin=margin)
    many = arch == "light" and dtype == np.float32
    batches = [rng.integers(0, len(crops), (3, 2)) for _ in range(SLOTS + 1 if many else 2)]
    last = rng.integers(0, len(crops), (2, 2))
    plain = PlainSteps(config, crops, size=SIZE, dtype=dtype)
    losses = [outcome.losses.mean() for outcome in plain.epoch(batches, 1e-6, 2)]
    want_gradients = plain.gradients(last, 2)[1]
    losses += [outcome.losses.mean() for outcome in plain.epoch([last], 3e-7, 2)]

    options = DeviceOptions(dtype=dtype)
    start = first_learnt(config, dtype)
    steps = DeviceSteps(config, crops, start, size=SIZE, options=options)
    for pairs in batches:
        steps.step(pairs, 1e-6, epoch=2)
    got = [*steps.losses()]
    steps.step(last, 3e-7, epoch=2)
    np.testing.assert_allclose([*got, *steps.losses()], losses, rtol=10 * EXACT[dtype])
    assert len(steps.losses()) == 0
    assert steps.mean_loss(last) == pytest.approx(plain.mean_loss(last), rel=10 * EXACT[dtype])
    learnt, want, gradients = steps.learnt, plain.learnt, steps.gradients()
    assert learnt.steps == want.steps and list(learnt.parameters) == list(want.parameters)
    for name, value in want.average.items():
        moved = abs(value - want.parameters[name]).max()
        assert abs(value - learnt.average[name]).max() < 1e-6 * moved, name
    for name, value in want.parameters.items():
        assert learnt.parameters[name].dtype == dtype
        assert relative_error(gradients[name], want_gradients[name]) < 10 * EXACT[dtype], name
        velocity = relative_error(learnt.velocity[name], want.velocity[name])
        assert velocity < 10 * EXACT[dtype], name
        moved = abs(value - start.parameters[name]).max()
        rounding = 4 * len(losses) * np.finfo(dtype).eps * abs(value).max()
        error = abs(learnt.parameters[name] - value).max()
        assert moved > 0 and error < 10 * EXACT[dtype] * moved + rounding, name


@pytest.mark.parametrize(
    "dtype, settings, margin",
    [
        (np.float64, {"learn": "lam,sigma,window,rate", "cosine_window": 0.5, **MANY_CHANGES}, 4),
        (np.float64, {"learn": "window,rate", "cosine_window": 1.0, "averaging": 0.7}, 0),
        (np.float64, {"learn": "lam,rate", "preset": "paper:learning_rate=0.3"}, 0),  # Eq. 13
        (np.float32, {"flip": True, "jitter": 3, "optimiser": "adam"}, 4),
        (np.float64, {"frames": 2, "learn": "lam", "light": 0.4}, 0),
    ],
)
def test_clips_are_the_cpu_s(full_size_device, rng, dtype, settings, margin):
    """Two steps on clips, the second on a short batch, and validation on pairs."""
    config, crops = make_config(**({"frames": 4} | settings)), make_crops(rng, margin=margin)
    clips = [rng.integers(0, len(crops), (count, config.frames)) for count in (3, 2)]
    options = DeviceOptions(dtype=dtype)
    cpu = ClipSteps(config, crops, size=SIZE, dtype=dtype)
    steps = DeviceSteps(
        config, crops, first_learnt(config, dtype, SIZE), size=SIZE, options=options
    )
    for batch in clips:
        (want,), (got,) = (list(each.epoch([batch], 1e-3, 2)) for each in (cpu, steps))
        np.testing.assert_allclose(got.losses, want.losses, rtol=10 * EXACT[dtype])
    pairs = clips[0][:, :2]
    assert steps.mean_loss(pairs) == pytest.approx(cpu.mean_loss(pairs), rel=10 * EXACT[dtype])
    start, learnt = first_learnt(config, dtype, SIZE), steps.learnt
    for group in ("parameters", "velocity", "squares", "average"):
        ours, theirs = getattr(learnt, group), getattr(cpu.learnt, group)
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            step = abs(value - start.parameters[name] * (group in ("parameters", "average"))).max()
            assert relative_error(ours[name], value, step) < 300 * EXACT[dtype], (group, name)
    again = DeviceSteps(config, crops, learnt, size=SIZE, options=options)  # as `--resume` does
    (went_on,), (alone,) = (list(each.epoch(clips[:1], 1e-3, 3)) for each in (steps, again))
    np.testing.assert_array_equal(went_on.losses, alone.losses)


def test_a_clip_that_explodes_is_left_out(full_size_device, rng):
    config, crops = make_config(frames=3), make_crops(rng)
    clips = rng.integers(0, len(crops), (3, 3))
    cpu, steps = (
        kind(config, crops, first_learnt(config, float), size=SIZE, **how)
        for kind, how in ((ClipSteps, {"dtype": np.float64}), (DeviceSteps, {"options": CHECK}))
    )
    losses, _ = cpu.gradients(clips, 1)
    cpu.limit = np.sort(losses)[1:].mean()
    steps._chain._upstream = steps._chain._upstream._replace(limit=cpu.limit)
    steps._chain.backward = [
        *steps._chain._loss_backward_stages(), *steps._chain._network_backward_stages(),
    ]  # fmt: skip
    steps.step(clips, 1e-6, epoch=1)
    _, want = cpu.gradients(clips, 1)
    for name, gradient in steps.gradients().items():
        assert relative_error(gradient, want[name]) < 1e-9, name


def test_a_pair_that_explodes_is_left_out_as_on_the_cpu(full_size_device, rng):
    """A template of a single gray but for one pixel, in the second step, a short one."""
    config, crops = make_config(lam=1e-6), make_crops(rng)
    crops[6], crops[6, :, 11, 11] = 130, 131
    batches = [np.array(pairs) for pairs in ([[0, 1], [2, 3], [4, 5]], [[0, 2], [6, 4]], [[1, 4]])]
    plain, start = PlainSteps(config, crops, dtype=np.float64), first_learnt(config)
    steps = DeviceSteps(config, crops, options=CHECK)
    plain.learnt = plain.learnt._replace(
        parameters={k: v.astype(float) for k, v in start.parameters.items()}
    )
    outcomes, want = (list(s.epoch(batches, 1e-4, 0, 0.5)) for s in (steps, plain))
    left_out = [outcome.left_out.tolist() for outcome in outcomes]
    assert left_out == [[False] * 3, [False, True], [False]]
    assert outcomes[1].surplus == pytest.approx(0.2 + 1 - 0.2)
    for ours, theirs in zip(outcomes, want):
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-8)
    for name, value in steps.learnt.parameters.items():
        moved = abs(value - start.parameters[name]).max()
        assert 0 < moved < 1 and abs(value - plain.learnt.parameters[name]).max() < 1e-8 * moved


class Twins(Processes):
    """Two ranks that have the same pairs, without MPI."""

    size = 2

    def add(self, losses, gradients):
        return losses, {name: 2 * gradient for name, gradient in gradients.items()}


def test_ranks_add_their_gradients(full_size_device, rng):
    config, crops, pairs = make_config(), make_crops(rng), rng.integers(0, 7, (3, 2))
    alone, shared = (DeviceSteps(config, crops, processes=p()) for p in (Processes, Twins))
    alone.step(pairs, 1e-5)
    shared.step(pairs, 1e-5, total=6)
    for name, value in alone.learnt.parameters.items():
        np.testing.assert_allclose(shared.learnt.parameters[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
def test_graph_and_launches_agree(rng):
    on_gpu()
    config, crops = make_config(), make_crops(rng)
    batches = [rng.integers(0, len(crops), (3, 2)) for _ in range(3 * SLOTS)]
    results = []
    for graph in (True, False):
        steps = DeviceSteps(config, crops, options=DeviceOptions(graph=graph))
        for pairs in batches:
            steps.step(pairs, 1e-6)
        results.append((steps.losses(), steps.learnt.parameters))
    for losses, parameters in results[1:]:
        assert (losses == results[0][0]).all()
        assert all((parameters[name] == value).all() for name, value in results[0][1].items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings", [{}, {"flip": True}, {"flip": True, "light": 0.3, "colour": 0.2}]
)
def test_gather_changes_as_augment_does(device, rng, settings, dtype):
    crops = rng.integers(0, 256, (6, 3, 17, 19)).astype(np.uint8)
    mean = rng.uniform(0, 200, 3).astype(dtype)
    pairs, augmentation = rng.integers(0, 6, (8, 2)), Augmentation(**settings, seed=1)
    index = pairs.T.reshape(-1).astype(np.int32)
    images = crops[index].astype(dtype)
    want = augment_images(images, pairs, 3, augmentation) - mean.reshape(3, 1, 1)
    mirrored, contrast, brightness, colour = draw_changes(pairs, 3, augmentation, dtype)
    assert mirrored.any() == ("flip" in settings) and not mirrored.all()
    level = images.mean((1, 2, 3))
    offsets = (level * brightness)[:, None] * colour
    changes = np.column_stack([mirrored, level, contrast, offsets]).astype(dtype)
    changes = device(changes) if settings else None
    got = gather.gather(device(crops), device(index), device(mean), changes=changes)
    assert (to_numpy(got) == want).all()


def test_a_run_with_kernels_is_the_run_on_the_cpu(full_size_device, monkeypatch, tmp_path):
    """The whole loop, killed after an epoch and resumed; on the stand-in's second GPU."""
    crops = write_crops(tmp_path, 7, window=Window(size=SIZE))
    config = Config(
        batch=4, epochs=2, pairs_per_epoch=7, validation_pairs=3, lr_start=1e-4, lr_end=5e-5,
        seed=7, flip=True, light=0.2, cosine_window=0.5, initial_scale=0.4, optimiser="adam",
        averaging=0.7, momentum=0.5,
    )  # fmt: skip
    cpu = train(crops, config, tmp_path / "cpu")
    stand_in = backend.cupy() is cuda_on_cpu.unwatched
    name, epoch = "cuda:1" if stand_in else "cuda", DeviceSteps.epoch

    def killed(steps, batches, lr, number, surplus):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(steps, batches, lr, number, surplus)

    cuda_on_cpu.devices_used.clear()
    with monkeypatch.context() as patch:
        patch.setattr(DeviceSteps, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(crops, config, tmp_path / "gpu", device=name)
    gpu = train(crops, config, tmp_path / "gpu", device=name, resume=True)
    assert cuda_on_cpu.devices_used == {1} or not stand_in

    want, got = (weights.load_weights(str(run / "weights.h5")) for run in (cpu, gpu))
    for kind in ("loss", "validation_loss"):
        np.testing.assert_allclose(got.training[kind], want.training[kind], rtol=1e-4)
    start = first_learnt(config).parameters
    for key, value in want.parameters.items():
        moved = np.abs(value - start[key]).max()
        assert moved > 0 and np.abs(got.parameters[key] - value).max() < 1e-3 * moved + 1e-7, key


def test_a_step_in_tf32(full_size_device, rng):
    """Near float32, and not the same: the second convolution is in TF32."""
    config, crops, pairs = make_config(), make_crops(rng), rng.integers(0, 7, (3, 2))
    losses, gradients = [], []
    for tf32 in (False, True):
        steps = DeviceSteps(config, crops, options=DeviceOptions(tf32=tf32))
        steps.step(pairs, 1e-6)
        losses.append(steps.losses()[0])
        gradients.append(steps.gradients())
    assert 0 < abs(losses[1] / losses[0] - 1) < 1e-3
    for name, want in gradients[0].items():
        assert 0 < relative_error(gradients[1][name], want) < 1e-2, name


def test_a_run_with_kernels_that_diverges_stops(full_size_device, rng):
    steps = DeviceSteps(make_config(), make_crops(rng))
    batches = list(rng.integers(0, 7, (3, 3, 2)))
    with np.errstate(all="ignore"), pytest.raises(Diverged) as info:
        for number, _ in enumerate(steps.epoch(batches, 1e30, 0)):
            assert number == 0  # the first loss is that of the parameters before any step
    np.testing.assert_array_equal(info.value.batch, batches[1])


def steps_for(rng, place, size=SIZE, tf32=False, **settings):
    """What the loop takes for crops without a margin."""
    crops, index = rng.integers(0, 256, (3, 3, size, size)).astype(np.uint8), np.arange(3)
    data, config = Crops(crops, 0 * index, index, ("ant",), 2.0, size, ""), make_config(**settings)
    return loop.make_steps(config, data, first_learnt(config), place, tf32, Processes())


def test_where_the_kernels_do_not_reach(monkeypatch, rng):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    with pytest.raises(ValueError, match="tf32 is for a GPU"):
        steps_for(rng, Device("cpu"), tf32=True)
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    with pytest.raises(ValueError, match="kernels do not do this on cuda:0: DCFNET_KERNELS=0; use"):
        steps_for(rng, Device("cuda"))
    monkeypatch.delenv("DCFNET_KERNELS")
    with pytest.raises(ValueError, match="maps of 20 pixels need the full spectrum"):
        steps_for(rng, Device("cuda"), 24, sigma_factor=0.02)
    with pytest.raises(ValueError, match="found_places and recompute are for a CPU"):
        steps_for(rng, Device("cuda"), frames=4, recompute=True)
    conv_tf32.check_device.cache_clear()
    monkeypatch.setattr(cuda_on_cpu.Device, "compute_capability", "75")
    with pytest.raises(backend.DeviceError, match=r"TF32 needs .* 8.0 or newer, cuda:1 has 7.5"):
        steps_for(rng, Device("cuda", 1), tf32=True)


def test_parameters_of_another_network(full_size_device, rng):
    config = make_config()
    with pytest.raises(ValueError, match=r"conv1\.weight"):
        other = first_learnt(dataclasses.replace(config, arch="conv1"))
        DeviceSteps(config, make_crops(rng), other)
