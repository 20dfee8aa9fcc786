"""Many targets in one batch against a tracker of its own for each; by kernels: test_device_step."""

import numpy as np
import pytest
from scenes import make_sequence
from trackers import SMALL

from dcfnet_np.tracker import BATCH, MultiTracker, Tracker


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
    for frame, box, message in (
        (frames[0], (np.nan, 1, 2, 3), "box must be finite"),
        (0 * frames[0], truth[0], "the window around the box holds nothing to track"),
    ):
        with pytest.raises(ValueError, match=f"MultiTracker.add: {message}"):
            many.add(frame, box)
    assert many.add(frames[0], truth[0]) == 0
    turned = frames[0].transpose(1, 0, 2).copy()
    for call in (lambda frame: many.add(frame, (1, 2, 9, 9)), many.update):
        with pytest.raises(ValueError, match="must be 160x120 as the first one, got 120x160"):
            call(turned)
    assert list(many.update(frames[1])) == [0]
    many.remove(0)
    assert many.add(frames[2][:90], (1, 2, 9, 9)) == 1  # of another size, now that there is nobody
