"""The whole step by kernels alone against the NumPy tracker, on the CPU stand-in and on a GPU."""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import full_size_device, on_cpu, on_gpu  # noqa: F401
from test_tracker import SEQUENCES, golden, track_sequence

from dcfnet_np import backend, network
from dcfnet_np import tracker as tracker_module
from dcfnet_np.device_tracker import DeviceStep, size_limits
from dcfnet_np.presets import PRESETS
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou
from dcfnet_np.weights import Weights

SIZE = 31  # of the network's input: every kernel needs more than one block, or a part of one


def sequence(rng, frames=4, shape=(72, 96)):
    """A textured patch that moves and grows over a smooth background; returns frames and the first
    box.
    """
    import cv2

    background = cv2.resize(
        rng.integers(60, 160, (6, 8, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    texture = rng.integers(0, 256, (9, 11, 3), np.uint8)
    images = []
    for t in range(frames):
        image = background.copy()
        w, h = 22 + 2 * t, 18 + 2 * t
        x, y = 30 + 3 * t, 24 + 2 * t
        image[y : y + h, x : x + w] = cv2.resize(texture, (w, h), interpolation=cv2.INTER_LINEAR)
        images.append(image)
    return images, (30.0, 24.0, 22.0, 18.0)


def make_weights(architecture="light", channel_order="bgr"):
    return Weights(
        architecture, network.initialise(architecture, seed=3), channel_order=channel_order
    )


def make_preset(name):
    return dataclasses.replace(PRESETS[name], input_size=SIZE)


@pytest.mark.parametrize(
    "swapped, size, smallest, largest",
    [
        (False, (40, 22), (10, 5.5), (160, 99)),  # 5 times 40 is more than the frame's 160
        # as the PyTorch code compares: width with the frame's height
        (True, (40, 22), (10, 5.5), (120, 99)),
        (False, (10, 50), (4, 12.5), (45, 120)),  # a quarter of 10 is below 4 pixels
    ],
)
def test_size_limits_of_a_target(swapped, size, smallest, largest):
    preset = dataclasses.replace(
        PRESETS["default"], min_scale=0.25, max_scale=4.5, swapped_clamp=swapped
    )
    assert size_limits(np.array(size, float), (120, 160, 3), preset) == (*smallest, *largest)


def follow(step, images, boxes):
    step.start(images[0], boxes)
    return np.array([step.step(image).copy() for image in images[1:]])


@pytest.mark.parametrize("name", ["default", "paper", "matlab-v1"])
def test_same_boxes_as_the_tracker(full_size_device, rng, name):  # noqa: F811
    images, box = sequence(rng)
    weights, preset = (
        make_weights(channel_order="rgb" if name == "paper" else "bgr"),
        make_preset(name),
    )
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(images[0], box)
    want = [tracker.update(image) for image in images[1:]]
    assert want[-1].scale != 1 and abs(want[-1].box[0] - box[0]) > 3  # it moved and it grew
    got = follow(DeviceStep(weights, preset, images[0].shape), images, [box])[:, 0]
    np.testing.assert_allclose(got[:, :4], [r.box for r in want], rtol=1e-12)
    assert got[:, 4].all()
    np.testing.assert_allclose(got[:, 5], [r.score for r in want], rtol=1e-4)
    np.testing.assert_allclose(got[:, 6], [r.psr for r in want], rtol=1e-3)


def test_targets_are_independent(full_size_device, rng):  # noqa: F811
    """Three at once, one of them late and one never started, as each alone; a lost one stays and
    the others go on.
    """
    images, box = sequence(rng)
    other = (50.0, 40.0, 20.0, 25.0)
    weights, preset = make_weights(), make_preset("default")
    alone = [
        follow(DeviceStep(weights, preset, images[0].shape), images, [b])[:, 0]
        for b in (box, other)
    ]
    together = DeviceStep(weights, preset, images[0].shape, targets=3)
    nan = [np.nan] * 4
    together.start(images[0], [nan, nan, box])
    together.start(images[0], [other, nan, nan])
    got = []
    for image in images[1:]:
        together.frame[...] = image  # straight into page-locked memory
        got.append(together.step().copy())
    got = np.array(got)
    assert (got[:, 2] == alone[0]).all()
    assert (got[:, 0] == alone[1]).all()
    assert not got[:, 1, :7].any()

    lost = DeviceStep(weights, preset, images[0].shape)
    lost.start(images[0], [box])
    lost._gain_f[...] = np.nan
    backend.cupy().cuda.Device().synchronize()
    result = lost.step(images[1])[0]
    assert result[4] == 0 and tuple(result[:4]) == box


def on_gpu_and_cpu(weights, preset):
    """A tracker by kernels, wherever these run here, and one by NumPy."""
    gpu = Tracker(weights, preset, device="cuda")
    assert gpu._by_kernels is not None
    return gpu, Tracker(weights, preset, device="cpu")


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "careful"])
def test_tracker_on_cuda_and_on_cpu_say_the_same(full_size_device, rng, name):  # noqa: F811
    """Every preset, response maps too, over a frame with nothing in it: lost there, found again
    after it.
    """
    images, box = sequence(rng)
    gpu, cpu = on_gpu_and_cpu(make_weights(), make_preset(name))
    for tracker in (gpu, cpu):
        with pytest.raises(RuntimeError, match=r"call init\(frame, box\) first"):
            tracker.update(images[0])
        with pytest.raises(
            ValueError, match="Tracker.init: the window around the box holds nothing to track"
        ):
            tracker.init(np.full_like(images[0], 77), box)
        tracker.init(images[0], box)
    grey = np.full_like(images[0], 90)
    for image in (images[1], grey, images[2], images[3]):
        got, want = gpu.update(image, response=True), cpu.update(image, response=True)
        np.testing.assert_allclose(got.box, want.box, rtol=1e-12)
        assert got.ok == want.ok == (image is not grey) and got.state == want.state
        np.testing.assert_allclose(got[2:5], want[2:5], rtol=1e-3)
        assert got.response.dtype == np.float32
        np.testing.assert_allclose(got.response, want.response, atol=2e-5 * max(want.score, 1e-9))
        if image is grey:
            assert not got.response.any() and got.score == got.psr == 0
    assert gpu.update(images[3]).response is None
    for tracker in (gpu, cpu):
        with pytest.raises(ValueError, match="the frame must be 96x72 as the first one, got 72x96"):
            tracker.update(images[0].transpose(1, 0, 2))


def test_the_update_skips_a_flat_window(full_size_device, rng):  # noqa: F811
    """The search windows see a dot that the smaller window of the update does not: the model stays
    as it was.
    """
    images, _ = sequence(rng)
    weights, preset = (
        make_weights(),
        dataclasses.replace(make_preset("default"), scale_step=1.4, scale_penalty=0.8),
    )
    gpu, cpu = on_gpu_and_cpu(weights, preset)
    frame = np.full_like(images[0], 128)
    frame[22, 40] = 255
    box = (40.0, 30.0, 10.0, 8.0)
    for tracker in (gpu, cpu):
        tracker.init(images[0], box)
    models = gpu._by_kernels._step._model_f.copy(), cpu._target.filter.numerator.copy()
    got, want = gpu.update(frame), cpu.update(frame)
    np.testing.assert_allclose(got.box, want.box, rtol=1e-12)
    assert (cpu._target.filter.numerator == models[1]).all() == bool(
        (gpu._by_kernels._step._model_f == models[0]).all()
    )


def test_one_flat_window_of_two_stops_both(full_size_device, rng):  # noqa: F811
    """Blue where the second target is to be, out of the frame too: `start` names it and changes
    nothing.
    """
    images, box = sequence(rng)
    step = DeviceStep(make_weights(), make_preset("default"), images[0].shape, targets=2)
    frame = images[0].copy()
    frame[:, 76:] = 250, 20, 30
    with pytest.raises(
        ValueError, match="DeviceStep.start: the window around the box holds nothing to track"
    ):
        step.start(frame, [box, (90.0, 60.0, 8.0, 9.0)])
    assert not backend.to_numpy(step._targets.state).any()
    step.start(frame, [box, (70.0, 40.0, 12.0, 9.0)])
    # what was seen at the last start is forgotten
    with pytest.raises(ValueError, match="holds nothing to track"):
        step.start(np.full_like(frame, 200), [box, [np.nan] * 4])


@pytest.mark.parametrize("kind", ["gray", "gray 3d", "bgra", "float", "uint16"])
def test_frames_of_every_kind(full_size_device, rng, kind):  # noqa: F811
    images, box = sequence(rng)
    convert = {
        "gray": lambda image: image[..., 1],
        "gray 3d": lambda image: image[..., 1:2],
        "bgra": lambda image: np.concatenate([image, image[..., :1]], 2),
        "float": lambda image: image / 255,
        "uint16": lambda image: image.astype(np.uint16) * 257,
    }[kind]
    gpu, cpu = on_gpu_and_cpu(make_weights(), make_preset("default"))
    for tracker in (gpu, cpu):
        tracker.init(convert(images[0]), box)
    np.testing.assert_allclose(
        gpu.update(convert(images[1])).box, cpu.update(convert(images[1])).box, rtol=1e-12
    )


class Elsewhere:
    """A frame of another library: it shows its memory by one protocol only."""

    def __init__(self, array, protocol):
        self.array = array
        if protocol == "dlpack":
            self.__dlpack_device__, self.__dlpack__ = array.__dlpack_device__, array.__dlpack__
        else:
            interface = (
                getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
            )
            self.__cuda_array_interface__ = interface


@pytest.mark.parametrize("protocol", ["cuda_array_interface", "dlpack"])
@pytest.mark.parametrize("kind", ["bgr", "gray", "bgra"])
def test_frames_on_the_device_come_in_without_the_host(full_size_device, rng, protocol, kind):  # noqa: F811
    images, box = sequence(rng)
    if kind == "gray":
        images = [image[..., 1].copy() for image in images]
    if kind == "bgra":
        images = [np.concatenate([image, image[..., :1]], 2) for image in images]
    gpu, cpu = on_gpu_and_cpu(make_weights(), make_preset("default"))
    there = [Elsewhere(full_size_device(image), protocol) for image in images]
    gpu.init(there[0], box)
    cpu.init(images[0], box)
    # page-locked memory: what goes through the host goes through it
    gpu._by_kernels._step.frame[...] = 77
    for image, frame in zip(images[1:], there[1:]):
        np.testing.assert_allclose(gpu.update(frame).box, cpu.update(image).box, rtol=1e-12)
    assert (gpu._by_kernels._step.frame == 77).all()


def test_frames_on_the_device_that_are_refused(full_size_device, rng):  # noqa: F811
    images, box = sequence(rng)
    gpu, _ = on_gpu_and_cpu(make_weights(), make_preset("default"))
    for frame, error, message in [
        (
            Elsewhere(full_size_device(images[0] / 255), "dlpack"),
            TypeError,
            "on the GPU must be uint8, got float64",
        ),
        (
            Elsewhere(full_size_device(images[0][None]), "dlpack"),
            ValueError,
            r"not empty, got \(1, 72, 96, 3\)",
        ),
        ([[1, 2], [3, 4]], TypeError, "a NumPy array or an array on the GPU, got list"),
    ]:
        with pytest.raises(error, match=message):
            gpu.init(frame, box)


def test_results_can_stay_on_the_device(full_size_device, rng):  # noqa: F811
    images, box = sequence(rng)
    weights, preset = make_weights(), make_preset("default")
    want = follow(DeviceStep(weights, preset, images[0].shape), images, [box])
    step = DeviceStep(weights, preset, images[0].shape)
    step.start(images[0], [box])
    step.results[...] = 77  # page-locked memory
    kept = [step.submit(image).copy() for image in images[1:]]
    assert isinstance(kept[0], backend.cupy().ndarray)
    assert (np.array([backend.to_numpy(array) for array in kept]) == want).all()
    assert (step.results == 77).all()


def test_another_gpu_than_the_first(monkeypatch, rng):
    """All that a tracker on cuda:1 makes, compiles and launches, it makes, compiles and launches
    there.
    """
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    images, box = sequence(rng)
    cuda_on_cpu.devices_used.clear()
    # of the array code: what it makes, it makes on the current device
    for function in ("rfft2", "irfft2"):
        spy = cuda_on_cpu.on_this_device(getattr(tracker_module, function))
        monkeypatch.setattr(tracker_module, function, spy)
    for band in ("auto", None):
        follower = Tracker(make_weights(), make_preset("default"), device="cuda:1", band=band)
        assert str(follower.device) == "cuda:1"
        follower.init(images[0], box)
        follower.update(images[1], response=True)
        assert cuda_on_cpu.devices_used == {1}
    with pytest.raises(backend.DeviceError, match="the GPUs are cuda:0 to cuda:1"):
        Tracker(make_weights(), make_preset("default"), device="cuda:2")


@pytest.mark.parametrize(
    "off, why", [("kernels", "DCFNET_KERNELS=0"), ("band", "band=None"), ("size", "even size")]
)
def test_array_code_where_kernels_do_not_reach(monkeypatch, rng, caplog, off, why):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    caplog.set_level("INFO")
    preset = make_preset("default")
    if off == "kernels":
        monkeypatch.setenv("DCFNET_KERNELS", "0")
    if off == "size":
        preset = dataclasses.replace(preset, input_size=32, sigma_factor=0.01)
    images, box = sequence(rng)
    tracker = Tracker(make_weights(), preset, device="cuda", band=None if off == "band" else "auto")
    assert tracker._by_kernels is None
    assert [why in record.getMessage() for record in caplog.records] == [True]
    tracker.init(images[0], box)
    assert tracker.update(images[1]).ok


@pytest.mark.gpu
def test_the_four_ways_agree_on_a_gpu(rng):
    """The graph, the kernels one by one, CuPy array code and NumPy."""
    to_gpu = on_gpu()
    images, box = sequence(rng, frames=6)
    weights, preset, shape = make_weights(), make_preset("default"), images[0].shape
    launches = follow(DeviceStep(weights, preset, shape, graph=False), images, [box])
    graph = DeviceStep(weights, preset, shape, graph=True)
    assert (follow(graph, images, [box]) == launches).all()
    assert graph._graph is not None
    assert (follow(graph, [to_gpu(image) for image in images], [box]) == launches).all()
    for tracker in (
        Tracker(weights, preset, device="cuda", band=None),
        Tracker(weights, preset, device="cpu"),
    ):
        tracker.init(images[0], box)
        boxes = [tracker.update(image).box for image in images[1:]]
        np.testing.assert_allclose(launches[:, 0, :4], boxes, rtol=1e-12)


@pytest.mark.parametrize("architecture", ["conv1-dilation", "conv2"])
def test_other_networks_in_float64(full_size_device, rng, architecture):  # noqa: F811
    images, box = sequence(rng, frames=2)
    parameters = network.initialise(architecture, seed=3)
    weights, preset = Weights(architecture, parameters), make_preset("default")
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(images[0], box)
    want = tracker.update(images[1])
    step = DeviceStep(weights, preset, images[0].shape, dtype=np.float64)
    got = follow(step, images, [box])[0, 0]
    np.testing.assert_allclose(got[:4], want.box, rtol=1e-12)
    assert got[5] == pytest.approx(want.score, rel=1e-4)


def test_errors(full_size_device, rng):  # noqa: F811
    weights, preset = make_weights(), make_preset("default")
    step = DeviceStep(weights, preset, (40, 50), targets=2, graph=False)
    with pytest.raises(ValueError, match=r"boxes must be \(2, 4\), got \(4,\)"):
        step.start(np.zeros((40, 50, 3), np.uint8), (1, 2, 3, 4))
    with pytest.raises(
        ValueError, match=r"the frame must be \(40, 50, 3\) uint8, got \(50, 40, 3\)"
    ):
        step.step(np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="target"):
        DeviceStep(weights, preset, (40, 50), targets=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SEQUENCES)
def test_boxes_of_the_development_sequences(data_dir, name):
    """As test_tracker.test_boxes_agree_with_the_yardstick, whole sequences, by kernels on a GPU."""
    on_gpu()
    boxes = track_sequence(
        data_dir / "sequences" / name, data_dir / "weights" / "param.pth", "pytorch"
    )
    expected = golden("pytorch", name)[: len(boxes)]
    distance = np.hypot(
        *(boxes[:, :2] + boxes[:, 2:] / 2 - expected[:, :2] - expected[:, 2:] / 2).T
    )
    assert distance.mean() <= 0.5
    assert iou(boxes, expected).mean() >= 0.98
