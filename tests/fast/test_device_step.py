"""The whole step by kernels alone against the plain step, on the CPU stand-in and on a GPU."""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu, on_gpu
from trackers import SEQUENCES, golden, make_preset, make_weights, parting, sequence, track_sequence

from dcfnet_np import backend
from dcfnet_np.fast import growing_step
from dcfnet_np.fast.device_step import DeviceStep
from dcfnet_np.presets import PRESETS
from dcfnet_np.tracker import MultiTracker, Tracker
from dcfnet_np.tracking import step as plain_step

NAN = [np.nan] * 4


def follow(step, images, boxes):
    step.start(images[0], boxes)
    return np.array([step.step(image).copy() for image in images[1:]])


@pytest.fixture
def steps(monkeypatch):
    """Every `GrowingDeviceStep` that is made."""
    made = []
    kind = growing_step.GrowingDeviceStep
    monkeypatch.setattr(
        growing_step, "GrowingDeviceStep", lambda *a: made.append(kind(*a)) or made[-1]
    )
    return made


@pytest.fixture
def both(full_size_device, steps):
    """both(weights, preset): a tracker by kernels, wherever these run here, and one by NumPy."""

    def make(weights, preset, kind=Tracker):
        trackers = [kind(weights, preset, device=device) for device in ("cuda", "cpu")]
        assert len(steps) == 1
        return trackers

    return make


def test_targets_are_independent(full_size_device, rng):
    """Three at once, one late and one never started, as each alone; a lost one stays."""
    images, box = sequence(rng)
    other = (50.0, 40.0, 20.0, 25.0)
    settings = make_weights(), make_preset("default"), images[0].shape
    alone = [follow(DeviceStep(*settings), images, [b])[:, 0] for b in (box, other)]
    together = DeviceStep(*settings, targets=3)
    together.start(images[0], [NAN, NAN, box])
    together.start(images[0], [other, NAN, NAN])
    got = []
    for image in images[1:]:
        together.frame[...] = image  # straight into page-locked memory
        got.append(together.step().copy())
    got = np.array(got)
    assert (got[:, 2] == alone[0]).all() and (got[:, 0] == alone[1]).all()
    assert not got[:, 1, :7].any()

    lost = DeviceStep(*settings)
    lost.start(images[0], [box])
    lost.model[1][...] = np.nan
    backend.cupy().cuda.Device().synchronize()
    result = lost.step(images[1])[0]
    assert result[4] == 0 and tuple(result[:4]) == box


KNOWN = [name for name in PRESETS if name != "fast"]  # to kernels


@pytest.mark.parametrize("name", KNOWN)
def test_tracker_on_cuda_and_on_cpu_say_the_same(both, rng, name):
    """Every preset, response maps too, over a frame with nothing in it: lost, then found again."""
    images, box = sequence(rng)
    gpu, cpu = both(make_weights(), make_preset(name))
    for tracker in (gpu, cpu):
        with pytest.raises(RuntimeError, match=r"call init\(frame, box\) first"):
            tracker.update(images[0])
        message = "Tracker.init: the window around the box holds nothing to track"
        with pytest.raises(ValueError, match=message):
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


SHARE = {"min_share": 0.3, "redetection_after": 1, "redetection_share": 0.35}


@pytest.mark.parametrize(("redetection", "lost_after"), [(5, 2), (1000, 50)])
def test_a_target_that_is_found_elsewhere(both, rng, redetection, lost_after):
    """It hides, jumps out of its window, and is learned where it is found; the others go on."""
    images, box = sequence(rng, frames=7, shape=(110, 150))
    empty = np.tile(np.linspace(60, 160, 150).astype(np.uint8)[:, None], (110, 1, 3))
    far = [np.roll(image, (35, 60), axis=(0, 1)) for image in images[2:]]
    boxes = [(22.0, 20.0, 30.0, 12.0), box, (40.0, 30.0, 20.0, 25.0)]
    changes = {**SHARE, "redetection": redetection, "lost_after": lost_after}
    pair = both(make_weights(), make_preset("default", 45, **changes), MultiTracker)
    for tracker in pair:
        for b in boxes:
            tracker.add(images[0], b)
    states = []
    for image in (images[1], empty, empty, *far):
        got, want = (tracker.update(image, response=True) for tracker in pair)
        states.append(want[1].state)
        for id in range(3):
            np.testing.assert_allclose(got[id].box, want[id].box, rtol=1e-9)
            np.testing.assert_allclose(got[id][1:5], want[id][1:5], rtol=2e-3)
            np.testing.assert_allclose(got[id].response, want[id].response, atol=2e-5)
            assert got[id].state == want[id].state
    assert states[0] == "tracking" and states[1] == "unsure" and states[-1] == "tracking"
    x, y = 30 + 3 * 6 + 60, 24 + 2 * 6 + 35
    assert np.hypot(want[1].box[0] - x, want[1].box[1] - y) < 9


@pytest.mark.parametrize("name", ["default", "matlab-v1"])
def test_many_targets_in_a_step_that_grows(both, steps, rng, name):
    """One `DeviceStep` for all; a removed target's row is given to the next one."""
    images, box = sequence(rng, frames=5)
    boxes = [box, (50.0, 40.0, 20.0, 25.0), (5.0, 3.0, 30.0, 12.0), (60.0, 10.0, 12.0, 14.0)]
    results = []
    for tracker in both(make_weights(), make_preset(name), MultiTracker):
        for b in boxes[:3]:
            tracker.add(images[0], b)
        found = [tracker.update(images[1], response=True)]
        tracker.remove(1)
        found.append(tracker.update(images[2]))
        assert tracker.add(images[2], boxes[3]) == 3
        found.append(tracker.update(images[3], response=True))
        assert list(found[-1]) == [0, 2, 3]
        results.append(found)
    assert steps[0].step.targets == 4
    for got, want in zip(*results):
        assert list(got) == list(want)
        for id in want:
            np.testing.assert_allclose(got[id].box, want[id].box, rtol=1e-9)
            np.testing.assert_allclose(got[id][1:5], want[id][1:5], rtol=2e-3)
            if want[id].response is not None:
                np.testing.assert_allclose(got[id].response, want[id].response, atol=2e-5)


def test_errors_of_many_targets(full_size_device, rng):
    images, box = sequence(rng, frames=3)
    settings, turned = (make_weights(), make_preset("default"), "cuda"), (1, 0, 2)
    many = MultiTracker(*settings)
    many.add(images[0], box)
    for frame, message in (
        (np.full_like(images[0], 5), "the window around the box holds nothing to track"),
        (images[0].transpose(turned), "the frame must be 96x72 as the first one, got 72x96"),
    ):
        with pytest.raises(ValueError, match=f"MultiTracker.add: {message}"):
            many.add(frame, box)
    one = Tracker(*settings)
    one.init(images[0], box)
    assert many.update(images[1])[0].box == one.update(images[1]).box
    many.remove(0)
    assert many.update(images[1]) == {}
    assert many.add(images[0].transpose(turned), (20.0, 30.0, 18.0, 22.0)) == 1


def test_the_update_skips_a_flat_window(both, steps, rng):
    """The search windows see a dot that the update's smaller one does not: nothing is learned."""
    images, _ = sequence(rng)
    gpu, cpu = both(make_weights(), make_preset("default", scale_step=1.4, scale_penalty=0.3))
    frame = np.full_like(images[0], 128)
    frame[18:21, 43:47] = 255
    for tracker in (gpu, cpu):
        tracker.init(images[0], (40.0, 30.0, 10.0, 8.0))
    before = backend.to_numpy(steps[0].step.model[0]).copy()
    got, want = gpu.update(frame), cpu.update(frame)
    np.testing.assert_allclose(got.box, want.box, rtol=1e-12)
    assert got.ok and (backend.to_numpy(steps[0].step.model[0]) == before).all()


def test_one_flat_window_of_two_stops_both(full_size_device, rng):
    """Blue where the second target is to be, out of the frame too: nothing has changed."""
    images, box = sequence(rng)
    step = DeviceStep(make_weights(), make_preset("default"), images[0].shape, targets=2)
    frame = images[0].copy()
    frame[:, 76:] = 250, 20, 30
    with pytest.raises(ValueError, match="DeviceStep.start: the window around the box holds"):
        step.start(frame, [box, (90.0, 60.0, 8.0, 9.0)])
    assert not backend.to_numpy(step.rows.state).any()
    step.start(frame, [box, (70.0, 40.0, 12.0, 9.0)])
    # what was seen at the last start is forgotten
    with pytest.raises(ValueError, match="holds nothing to track"):
        step.start(np.full_like(frame, 200), [box, NAN])


CONVERT = {
    "bgr": lambda image: image,
    "gray": lambda image: image[..., 1].copy(),
    "gray 3d": lambda image: image[..., 1:2],
    "bgra": lambda image: np.concatenate([image, image[..., :1]], 2),
    "float": lambda image: image / 255,
    "uint16": lambda image: image.astype(np.uint16) * 257,
}


class Elsewhere:
    """A frame of another library: it shows its memory by one protocol only."""

    def __init__(self, array, protocol):
        self.array = array
        if protocol == "dlpack":
            self.__dlpack_device__, self.__dlpack__ = array.__dlpack_device__, array.__dlpack__
        else:
            given = getattr(array, "__cuda_array_interface__", None)
            self.__cuda_array_interface__ = given or array.__array_interface__


@pytest.mark.parametrize("kind", [kind for kind in CONVERT if kind != "bgr"])
def test_frames_of_every_kind(both, rng, kind):
    images, box = sequence(rng)
    first, second = (CONVERT[kind](image) for image in images[:2])
    gpu, cpu = both(make_weights(), make_preset("default"))
    for tracker in (gpu, cpu):
        tracker.init(first, box)
    np.testing.assert_allclose(gpu.update(second).box, cpu.update(second).box, rtol=1e-12)


@pytest.mark.parametrize("protocol", ["cuda_array_interface", "dlpack"])
@pytest.mark.parametrize("kind", ["bgr", "gray", "bgra"])
def test_frames_on_the_device_come_in_without_the_host(
    full_size_device, both, steps, rng, protocol, kind
):
    images, box = sequence(rng)
    images = [CONVERT[kind](image) for image in images]
    gpu, cpu = both(make_weights(), make_preset("default"))
    there = [Elsewhere(full_size_device(image), protocol) for image in images]
    gpu.init(there[0], box)
    cpu.init(images[0], box)
    step = steps[0].step
    step.frame[...] = 77  # page-locked memory: what goes through the host goes through it
    for image, frame in zip(images[1:], there[1:]):
        np.testing.assert_allclose(gpu.update(frame).box, cpu.update(image).box, rtol=1e-12)
    assert (step.frame == 77).all()


def test_frames_on_the_device_that_are_refused(full_size_device, rng):
    images, box = sequence(rng)
    gpu = Tracker(make_weights(), make_preset("default"), device="cuda")
    floats, four = (full_size_device(image) for image in (images[0] / 255, images[0][None]))
    for frame, error, message in [
        (Elsewhere(floats, "dlpack"), TypeError, "on the GPU must be uint8, got float64"),
        (Elsewhere(four, "dlpack"), ValueError, r"not empty, got \(1, 72, 96, 3\)"),
        ([[1, 2], [3, 4]], TypeError, "a NumPy array or an array on the GPU, got list"),
    ]:
        with pytest.raises(error, match=message):
            gpu.init(frame, box)


def test_results_can_stay_on_the_device(full_size_device, rng):
    images, box = sequence(rng)
    settings = make_weights(), make_preset("default"), images[0].shape
    want = follow(DeviceStep(*settings), images, [box])
    step = DeviceStep(*settings)
    step.start(images[0], [box])
    step.results[...] = 77  # page-locked memory
    kept = [step.submit(image).copy() for image in images[1:]]
    assert isinstance(kept[0], backend.cupy().ndarray)
    assert (np.array([backend.to_numpy(array) for array in kept]) == want).all()
    assert (step.results == 77).all()


def test_another_gpu_than_the_first(monkeypatch, rng):
    """All that a tracker on cuda:1 makes, compiles and launches is made there."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    images, box = sequence(rng)
    cuda_on_cpu.devices_used.clear()
    # of the array code: what it makes, it makes on the current device
    for function in ("rfft2", "irfft2"):
        spy = cuda_on_cpu.on_this_device(getattr(plain_step, function))
        monkeypatch.setattr(plain_step, function, spy)
    for band in ("auto", None):
        follower = Tracker(make_weights(), make_preset("default"), device="cuda:1", band=band)
        assert str(follower.device) == "cuda:1"
        follower.init(images[0], box)
        follower.update(images[1], response=True)
        assert cuda_on_cpu.devices_used == {1}
    with pytest.raises(backend.DeviceError, match="the GPUs are cuda:0 to cuda:1"):
        Tracker(make_weights(), make_preset("default"), device="cuda:2")


@pytest.mark.parametrize(
    "off, why",
    [
        ("kernels", "DCFNET_KERNELS=0"),
        ("band", "band=None"),
        ("size", "even size"),
        ("reuse", "do not know reuse_within"),
    ],
)
def test_array_code_where_kernels_do_not_reach(monkeypatch, steps, rng, caplog, off, why):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    caplog.set_level("INFO")
    preset = make_preset("default")
    if off == "kernels":
        monkeypatch.setenv("DCFNET_KERNELS", "0")
    if off == "size":
        preset = dataclasses.replace(preset, input_size=32, sigma_factor=0.01)
    if off == "reuse":
        preset = dataclasses.replace(preset, reuse_within=0.2)
    images, box = sequence(rng)
    band = None if off == "band" else "auto"
    many = MultiTracker(make_weights(), preset, device="cuda:1", band=band)
    one = Tracker(make_weights(), preset, device="cpu", band=band)
    assert not steps and [why in record.getMessage() for record in caplog.records] == [True]
    one.init(images[0], box)
    for _ in range(2):
        many.add(images[0], box)
    want = one.update(images[1])
    for result in many.update(images[1]).values():
        assert result.ok
        np.testing.assert_allclose(result.box, want.box, rtol=1e-6)


@pytest.mark.gpu
def test_the_four_ways_agree_on_a_gpu(rng):
    """The graph, the kernels one by one, CuPy array code and NumPy."""
    to_gpu = on_gpu()
    images, box = sequence(rng, frames=6)
    weights, preset, shape = make_weights(), make_preset("default"), images[0].shape
    launches = follow(DeviceStep(weights, preset, shape, graph=False), images, [box])
    graph = DeviceStep(weights, preset, shape, graph=True)
    assert (follow(graph, images, [box]) == launches).all()
    assert graph.captured
    assert (follow(graph, [to_gpu(image) for image in images], [box]) == launches).all()
    for options in ({"device": "cuda", "band": None}, {"device": "cpu"}):
        tracker = Tracker(weights, preset, **options)
        tracker.init(images[0], box)
        boxes = [tracker.update(image).box for image in images[1:]]
        np.testing.assert_allclose(launches[:, 0, :4], boxes, rtol=1e-12)


@pytest.mark.parametrize("architecture", ["conv1-dilation", "conv2"])
def test_other_networks_in_float64(full_size_device, rng, architecture):
    images, box = sequence(rng, frames=2)
    weights, preset = make_weights(architecture), make_preset("default")
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(images[0], box)
    want = tracker.update(images[1])
    step = DeviceStep(weights, preset, images[0].shape, dtype=np.float64)
    got = follow(step, images, [box])[0, 0]
    np.testing.assert_allclose(got[:4], want.box, rtol=1e-12)
    assert got[5] == pytest.approx(want.score, rel=1e-4)


def test_bad_calls(full_size_device):
    settings = make_weights(), make_preset("default"), (40, 50)
    step = DeviceStep(*settings, targets=2, graph=False)
    with pytest.raises(ValueError, match=r"boxes must be \(2, 4\), got \(4,\)"):
        step.start(np.zeros((40, 50, 3), np.uint8), (1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"be \(40, 50, 3\) uint8, got \(50, 40, 3\)"):
        step.step(np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="target"):
        DeviceStep(*settings, targets=0)
    with pytest.raises(ValueError, match="DeviceStep: the kernels do not know reuse_within"):
        DeviceStep("light", "fast", (40, 50))


@pytest.mark.gpu
@pytest.mark.parametrize("name", SEQUENCES)
def test_boxes_of_the_development_sequences(data_dir, name):
    """As test_tracker.test_boxes_agree_with_the_yardstick, whole sequences, by kernels on a GPU."""
    on_gpu()
    folder, weights = data_dir / "sequences" / name, data_dir / "weights" / "param.pth"
    boxes = track_sequence(folder, weights, "pytorch", device="cuda")
    distance, overlap = parting(boxes, golden("pytorch", name))
    assert distance <= 0.5 and overlap >= 0.98
