"""Many targets in one batch against a tracker of its own for each, on a CPU and by kernels."""

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import full_size_device, on_cpu  # noqa: F401
from scenes import make_sequence
from test_device_tracker import make_preset, make_weights, sequence

from dcfnet_np.multi_tracker import BATCH, MultiTracker
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.tracker import Tracker

SMALL = Preset("small", input_size=45)


def random_boxes(rng, count, width, height):
    """Of all sizes and shapes, some across the border."""
    sizes = np.exp(rng.uniform(np.log(6), np.log(60), (count, 2)))
    corners = rng.uniform(-0.3, 0.8, (count, 2)) * (width, height)
    corners = np.minimum(np.maximum(corners, 2 - sizes), (width - 2, height - 2))
    return np.hstack([corners, sizes])


def assert_same(got, want):
    np.testing.assert_allclose(got.box, want.box, rtol=1e-9)
    np.testing.assert_allclose(got[1:5], want[1:5], rtol=1e-4)
    assert (got.response is None) == (want.response is None)
    if want.response is not None:
        np.testing.assert_allclose(got.response, want.response, atol=1e-5)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_64_targets_are_64_trackers(rng, preset):
    frames, _ = make_sequence(rng, count=4)
    boxes = random_boxes(rng, 64, 160, 120)
    many = MultiTracker(preset=preset, device="cpu")
    ids = [many.add(frames[0], box) for box in boxes]
    got = [many.update(frame, response=True) for frame in frames[1:]]
    for id, box in zip(ids, boxes):
        one = Tracker(preset=preset, device="cpu")
        one.init(frames[0], box)
        for results, frame in zip(got, frames[1:]):
            assert_same(results[id], one.update(frame, response=True))
    sizes = np.array([result.box[2:] for result in got[-1].values()])
    assert len({result.scale for result in got[-1].values()}) > 3 and sizes.max() > 5 * sizes.min()


@pytest.mark.parametrize("band", ["auto", None])
@pytest.mark.parametrize("lost", [False, True])
def test_targets_come_and_go(rng, band, lost):
    """One is removed and one added midway; a frame that holds nothing stops nobody."""
    frames, truth = make_sequence(rng, count=7)
    if lost:
        frames[3] = 0
    starts = {0: (0, truth[0]), 1: (0, (90.0, 70.0, 20.0, 31.0)), 2: (2, (30.0, 60.0, 25.0, 9.0))}
    many = MultiTracker(preset=SMALL, device="cpu", band=band)
    one = {id: Tracker(preset=SMALL, device="cpu", band=band) for id in starts}
    alive = []
    for number, frame in enumerate(frames):
        if alive:
            results = many.update(frame)
            assert list(results) == alive
            for id in alive:
                assert_same(results[id], one[id].update(frame))
                assert results[id].ok == (not lost or number != 3)
        for id, (start, box) in starts.items():
            if start == number:
                assert many.add(frame, box) == id
                one[id].init(frame, box)
                alive.append(id)
        if number == 4:
            many.remove(1)
            alive.remove(1)


def test_more_targets_than_a_batch_and_one(rng):
    frames, truth = make_sequence(rng, count=2)
    many = MultiTracker(preset=SMALL, device="cpu")
    ids = [many.add(frames[0], truth[0]) for _ in range(BATCH + 1)]
    results = many.update(frames[1])
    assert list(results) == ids and len({result.box for result in results.values()}) == 1


def test_errors_change_nothing(rng):
    frames, truth = make_sequence(rng, count=3)
    many = MultiTracker(preset=SMALL, device="cpu")
    assert many.update(frames[0]) == {}
    with pytest.raises(KeyError, match="there is no target 0"):
        many.remove(0)
    with pytest.raises(ValueError, match="MultiTracker.add: box must be finite"):
        many.add(frames[0], (np.nan, 1, 2, 3))
    with pytest.raises(
        ValueError, match="MultiTracker.add: the window around the box holds nothing to track"
    ):
        many.add(np.zeros_like(frames[0]), truth[0])
    assert many.add(frames[0], truth[0]) == 0
    for call in (lambda frame: many.add(frame, (1, 2, 9, 9)), many.update):
        with pytest.raises(ValueError, match="must be 160x120 as the first one, got 120x160"):
            call(frames[0].transpose(1, 0, 2).copy())
    assert list(many.update(frames[1])) == [0]
    many.remove(0)
    assert many.add(frames[2][:90], (1, 2, 9, 9)) == 1  # of another size, now that there is nobody


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "careful"])
def test_kernels_follow_them_too(full_size_device, rng, name):  # noqa: F811
    """One `DeviceStep` for all, which grows; a removed target's row is given to the next one."""
    images, box = sequence(rng, frames=5)
    weights, preset = make_weights(), make_preset(name)
    boxes = [box, (50.0, 40.0, 20.0, 25.0), (5.0, 3.0, 30.0, 12.0), (60.0, 10.0, 12.0, 14.0)]
    many = {device: MultiTracker(weights, preset, device=device) for device in ("cuda", "cpu")}
    assert many["cuda"]._by_kernels is not None
    results = {device: [] for device in many}
    for device, tracker in many.items():
        for b in boxes[:3]:
            tracker.add(images[0], b)
        results[device].append(tracker.update(images[1], response=True))
        tracker.remove(1)
        results[device].append(tracker.update(images[2]))
        assert tracker.add(images[2], boxes[3]) == 3
        results[device].append(tracker.update(images[3], response=True))
        assert list(results[device][-1]) == [0, 2, 3]
    assert many["cuda"]._by_kernels._step.targets == 4 and set(many["cuda"]._targets.values()) == {
        0,
        1,
        2,
    }
    for got, want in zip(results["cuda"], results["cpu"]):
        assert list(got) == list(want)
        for id in want:
            np.testing.assert_allclose(got[id].box, want[id].box, rtol=1e-9)
            np.testing.assert_allclose(got[id][1:5], want[id][1:5], rtol=2e-3)
            if want[id].response is not None:
                np.testing.assert_allclose(got[id].response, want[id].response, atol=2e-5)


def test_errors_by_kernels(full_size_device, rng):  # noqa: F811
    images, box = sequence(rng, frames=3)
    many = MultiTracker(make_weights(), make_preset("default"), device="cuda")
    many.add(images[0], box)
    with pytest.raises(
        ValueError, match="MultiTracker.add: the window around the box holds nothing to track"
    ):
        many.add(np.full_like(images[0], 5), box)
    with pytest.raises(
        ValueError, match="MultiTracker.add: the frame must be 96x72 as the first one, got 72x96"
    ):
        many.add(images[0].transpose(1, 0, 2), box)
    one = Tracker(make_weights(), make_preset("default"), device="cuda")
    one.init(images[0], box)
    assert many.update(images[1])[0].box == one.update(images[1]).box
    many.remove(0)
    assert many.update(images[1]) == {}
    assert many.add(images[0].transpose(1, 0, 2), (20.0, 30.0, 18.0, 22.0)) == 1


def test_array_code_on_a_gpu(monkeypatch, rng):
    """Without kernels, targets one after the other on the right device."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    images, box = sequence(rng)
    many = MultiTracker(make_weights(), make_preset("default"), device="cuda:1")
    assert many._by_kernels is None
    for _ in range(2):
        many.add(images[0], box)
    results = many.update(images[1])
    one = Tracker(make_weights(), make_preset("default"), device="cpu")
    one.init(images[0], box)
    want = one.update(images[1])
    for result in results.values():
        np.testing.assert_allclose(result.box, want.box, rtol=1e-9)
