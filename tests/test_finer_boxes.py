"""Options for better boxes: sub-pixel peaks, continuous scale, aspect, a second learning rate."""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import full_size_device, on_cpu  # noqa: F401
from scenes import make_sequence
from test_device_tracker import make_weights, sequence

from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.multi_tracker import MultiTracker
from dcfnet_np.presets import Preset, get_preset
from dcfnet_np.tracker import Tracker, vertex


def variant(**options):
    return dataclasses.replace(get_preset("default"), **options)


def follow(preset, frames, box):
    """Result of the last frame, by a Tracker; a MultiTracker must say the same."""
    one, many = Tracker(preset=preset, device="cpu"), MultiTracker(preset=preset, device="cpu")
    one.init(frames[0], box)
    for _ in range(2):
        many.add(frames[0], box)
    for frame in frames[1:]:
        result, others = one.update(frame), many.update(frame)
        for other in others.values():
            np.testing.assert_allclose(other.box, result.box, rtol=1e-9)
    return result


@pytest.mark.parametrize("place", [-0.5, -0.13, 0.0, 0.31])
def test_vertex_of_a_parabola(place):
    assert vertex(*(7 - 3 * (x - place) ** 2 for x in (-1, 0, 1))) == pytest.approx(place)
    assert vertex(1, 1, 1) == 0


@pytest.mark.parametrize("row, column", [(3.25, 1.6), (-0.4, 0.3), (-5.4, 6.75)])
def test_subpixel_peaks(row, column):
    """Of a paraboloid, across the edge of the map too; without the option the nearest pixel."""
    n = np.arange(15)
    dr, dc = (n - row + 7.5) % 15 - 7.5, (n - column + 7.5) % 15 - 7.5
    response = 100 - dr[:, None] ** 2 - 2 * dc**2
    for subpixel in (False, True):
        tracker = Tracker(preset=Preset("small", input_size=15, subpixel=subpixel), device="cpu")
        want = (row, column) if subpixel else (round(row), round(column))
        np.testing.assert_allclose(tracker._peak(response), want, atol=1e-9)


@pytest.mark.parametrize("name", ["default", "matlab-v1"])
def test_subpixel_on_a_gpu_is_that_of_the_cpu(full_size_device, rng, name):  # noqa: F811
    images, box = sequence(rng)
    preset = dataclasses.replace(get_preset(name), input_size=31, subpixel=True)
    trackers = [Tracker(make_weights(), preset, device=device) for device in ("cuda", "cpu")]
    assert trackers[0]._by_kernels is not None
    for tracker in trackers:
        tracker.init(images[0], box)
    for image in images[1:]:
        got, want = (tracker.update(image) for tracker in trackers)
        np.testing.assert_allclose(got.box, want.box, rtol=1e-3)
        pixel = want.box[2] * 3 / 31
        assert (want.box[0] - box[0]) / pixel % 1 > 1e-6  # between pixels


@pytest.mark.parametrize("steps", [0.8, -0.8])
def test_continuous_scale_takes_sizes_between_the_steps(rng, steps):
    """A target that changes by most of a scale step in one frame; the scale penalty holds the
    answer back.
    """
    scales = {"scale_step": 1.0275, "scale_penalty": 0.9925}
    frames, boxes = make_sequence(rng, count=2, growth=scales["scale_step"] ** steps, step=(0, 0))
    found = [
        follow(variant(**scales, continuous_scale=on), frames, boxes[0]).scale
        for on in (False, True)
    ]
    found = np.log(found) / np.log(scales["scale_step"])
    assert found[0] == pytest.approx(round(found[0]))  # a whole step, or none
    assert 0.2 < found[1] / steps < 1


def test_aspect_follows_a_target_that_widens(rng):
    import cv2

    frames, boxes = make_sequence(rng, count=1, size=(40, 40))
    x, y = boxes[0, :2]
    images = []
    for t in range(8):  # the whole picture is stretched about the target's corner
        factor = 1.025**t
        matrix = np.array([[factor, 0, x * (1 - factor)], [0, 1 / factor, y * (1 - 1 / factor)]])
        images.append(cv2.warpAffine(frames[0], matrix, (160, 120), borderMode=cv2.BORDER_REFLECT))
    plain, wide = (follow(variant(aspect_step=step), images, boxes[0]).box for step in (1.0, 1.025))
    assert plain[2] == pytest.approx(plain[3])
    assert wide[2] / wide[3] > 1.15  # it is 1.41


def test_a_second_rate_is_a_second_model(rng):
    """The response is the mean of two filters', each updated at its own rate; rate 0 keeps the
    first frame.
    """
    frames, boxes = make_sequence(rng, count=5)
    tracker = Tracker(preset=variant(second_rate=0.0), device="cpu")
    tracker.init(frames[0], boxes[0])
    fast, slow = tracker._target.filters
    first = slow.numerator.copy()
    np.testing.assert_array_equal(fast.numerator, first)
    for frame in frames[1:]:
        tracker.update(frame)
    np.testing.assert_array_equal(slow.numerator, first)
    assert (fast.numerator != first).any()
    search_f = rng.standard_normal((3, *first.shape)) + 1j * rng.standard_normal((3, *first.shape))
    search_f = search_f.astype(np.complex64)
    want = (fast.response_f(search_f).copy() + slow.response_f(search_f)) / 2
    np.testing.assert_allclose(tracker._target.response_f(search_f), want, rtol=1e-5)
    assert isinstance(slow, OnlineFilter) and slow.learning_rate == 0


@pytest.mark.parametrize(
    "options", [{"continuous_scale": True}, {"aspect_step": 1.02}, {"second_rate": 0.0}]
)
def test_what_the_kernels_do_not_know(monkeypatch, rng, caplog, options):
    """Array code does it on the GPU, with a line in the log; `DeviceStep` refuses."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    caplog.set_level("INFO")
    images, box = sequence(rng)
    preset = dataclasses.replace(get_preset("default"), input_size=31, **options)
    (name,) = options
    with pytest.raises(ValueError, match=f"the kernels do not know {name} of preset 'default'"):
        DeviceStep(make_weights(), preset, images[0].shape)
    trackers = [Tracker(make_weights(), preset, device=device) for device in ("cuda", "cpu")]
    assert [
        f"the kernels do not know {name}" in record.getMessage() for record in caplog.records
    ] == [True]
    for tracker in trackers:
        tracker.init(images[0], box)
    for image in images[1:]:
        got, want = (tracker.update(image) for tracker in trackers)
        np.testing.assert_allclose(got.box, want.box, rtol=1e-4)


def test_bad_settings():
    for options, message in (
        ({"aspect_step": 0.9}, "aspect_step must be >= 1"),
        ({"second_rate": 2.0}, "second_rate"),
    ):
        with pytest.raises(ValueError, match=message):
            variant(**options)
