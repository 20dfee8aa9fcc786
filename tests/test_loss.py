"""Confidence and loss: what is measured, when the tracker is unsure, what it does then, and where it looks."""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu
from scenes import make_sequence

from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.multi_tracker import MultiTracker
from dcfnet_np.presets import PRESETS, get_preset
from dcfnet_np.tracker import Tracker, measure, peak_to_energy, search_places
from dcfnet_np.vision.boxes import iou, read_boxes

# The background of these scenes stands still and is learned with the target: a higher threshold tells them apart.
CAREFUL = dataclasses.replace(get_preset("careful"), min_score=0.4, lost_after=3)
NOWHERE = dataclasses.replace(CAREFUL, redetection=0)


def without_target(frames):
    """The background: what most frames show, since the target moves."""
    return np.median(frames, axis=0).astype(np.uint8)


@pytest.fixture
def video(rng):
    """A target that moves fast enough to uncover every place; frames, boxes, and the background alone."""
    frames, boxes = make_sequence(rng, count=60, width=240, height=180, size=(30, 26), step=(3.1, 1.7), growth=1.0)
    return frames, boxes, without_target(frames)


def test_measures_of_a_response(rng):
    response = rng.normal(0, 0.1, (31, 31)).astype(np.float32)
    response[4, 7] = 0.9
    heights = response.astype(float) - response.min()
    assert peak_to_energy(response) == pytest.approx((0.9 - response.min()) ** 2 / (heights**2).mean())
    assert peak_to_energy(np.ones((5, 5))) == 0
    quality = measure(response)
    assert quality.score == pytest.approx(0.9) and quality.apce == peak_to_energy(response)


def test_published_presets_are_always_sure():
    for name, preset in PRESETS.items():
        cautious = preset.min_score, preset.min_psr, preset.redetection
        assert any(cautious) == (name == "careful"), name


@pytest.mark.parametrize("many", [False, True])
def test_states_of_a_target_that_goes_and_comes_back(video, many):
    """It is unsure, learns nothing, is lost at its last sure place, and found there again."""
    frames, boxes, empty = video
    tracker = MultiTracker(preset=NOWHERE, device="cpu") if many else Tracker(preset=NOWHERE, device="cpu")
    (tracker.add if many else tracker.init)(frames[0], boxes[0])
    target = tracker._targets[0] if many else tracker._target

    def update(frame):
        result = tracker.update(frame)
        return result[0] if many else result

    sure = [update(frame) for frame in frames[1:10]]
    assert {(result.state, result.ok) for result in sure} == {("tracking", True)}
    model = target.filter.numerator.copy()
    gone = [update(empty) for _ in range(6)]
    assert [result.state for result in gone] == ["unsure"] * 2 + ["lost"] * 4 and not any(r.ok for r in gone)
    assert {result.box for result in gone[2:]} == {sure[-1].box}
    assert max(result.psr for result in gone) < min(result.psr for result in sure)
    np.testing.assert_array_equal(target.filter.numerator, model)
    back = update(frames[9])
    assert back.state == "tracking" and iou(back.box, boxes[9]) > 0.6
    assert (target.filter.numerator != model).any()


def test_either_threshold_makes_it_unsure(video):
    frames, boxes, _ = video
    for options in ({"min_score": 10.0}, {"min_psr": 1e6}):
        tracker = Tracker(preset=dataclasses.replace(get_preset("default"), **options), device="cpu")
        tracker.init(frames[0], boxes[0])
        assert tracker.update(frames[1]).state == "unsure"


@pytest.mark.parametrize("redetection", [4, 1000])
def test_it_is_found_elsewhere(video, redetection):
    """It vanishes and is back far outside the window: by growing rings within frames, by the whole frame at once."""
    frames, boxes, empty = video
    tracker = Tracker(preset=dataclasses.replace(CAREFUL, redetection=redetection), device="cpu")
    tracker.init(frames[0], boxes[0])
    for frame in frames[1:5]:
        tracker.update(frame)
    far = 35
    assert abs(boxes[far, :2] - boxes[4, :2]).max() > 1.5 * boxes[0, 2:].max()
    for _ in range(4):
        result = tracker.update(empty)
    assert result.state == "lost"
    found = [tracker.update(frames[far]) for _ in range(1 if redetection == 1000 else 20)]
    assert found[-1].state == "tracking" and iou(found[-1].box, boxes[far]) > 0.5
    assert redetection == 1000 or found[0].state == "lost"  # the nearest places come first


def test_search_places():
    places = search_places(np.array([50.0, 30.0]), np.array([20.0, 10.0]), (60, 90, 3))
    assert len(places) == 5 * 7 - 1  # every place in the frame but its own
    assert (places >= 0).all() and (places <= (90, 60)).all()
    offsets = (places - (50, 30)) / (20, 10)
    rings = abs(offsets).max(1)
    assert (offsets == np.rint(offsets)).all() and (np.diff(rings) >= 0).all() and rings[0] == 1
    assert len(search_places(np.array([5.0, 5.0]), np.array([20.0, 20.0]), (10, 10, 3))) == 0


def test_a_small_target_is_not_looked_for_without_end(video):
    """What a lost frame costs is bounded by `redetection`, not by the number of places in the frame."""
    frames, boxes, _ = video
    tracker = Tracker(preset=CAREFUL, device="cpu")
    tracker.init(frames[0], (*boxes[0, :2], 4.0, 4.0))
    windows = []
    extract = tracker._extract
    tracker._extract = lambda frame, centres, sizes: windows.append(len(sizes)) or extract(frame, centres, sizes)
    for _ in range(4):
        del windows[:]
        tracker.update(np.zeros_like(frames[0]))
    assert sum(windows) == 3 + CAREFUL.redetection


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_psr": -1}, "min_psr must be >= 0"),
        ({"lost_after": 0}, "lost_after must be >= 1"),
        ({"redetection": 3}, "redetection_psr must be at least min_psr"),
        ({"redetection": 3, "min_psr": 7, "redetection_psr": 6}, "redetection_psr must be at least min_psr"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(get_preset("default"), **options)


def test_on_a_gpu_array_code_does_it_and_the_kernels_refuse(monkeypatch, video, caplog):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    caplog.set_level("INFO")
    frames, boxes, empty = video
    small = dataclasses.replace(CAREFUL, input_size=31)
    with pytest.raises(ValueError, match="the kernels do not know min_score, min_psr of preset 'careful'"):
        DeviceStep("light", small, frames[0].shape)
    tracker = Tracker(preset=small, device="cuda")
    assert "the kernels do not know min_score" in caplog.text
    other = Tracker(preset=small, device="cpu")
    for each in (tracker, other):
        each.init(frames[0], boxes[0])
    for frame in (frames[1], *[empty] * 4, frames[2]):
        got, want = tracker.update(frame), other.update(frame)
        assert got.state == want.state
        np.testing.assert_allclose(got.box, want.box, rtol=1e-6)


def test_state_in_files_and_drawings(tmp_path, rng, dcfnet):
    from scenes import write_images

    frames, boxes = make_sequence(rng, count=6)
    frames[3] = 0
    write_images(tmp_path / "in", frames)
    box = ",".join(f"{value:.2f}" for value in boxes[0])
    for suffix in ("csv", "json"):
        out = tmp_path / f"boxes.{suffix}"
        code, _, error = dcfnet("track", tmp_path / "in", "--box", box, "--save-boxes", out, "--device", "cpu",
                                "--save-video", tmp_path / "out.avi")  # fmt: skip
        assert code == 0, error
        assert out.read_text().count("unsure") == 1 and out.read_text().count("tracking") == 5
        assert len(read_boxes(out)) == 6
