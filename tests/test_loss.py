"""Confidence and loss: what is measured, when the tracker is unsure, what it does then, and where
it looks.
"""

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu
from scenes import make_sequence

from dcfnet_np import tracker as tracker_module
from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.extractor import Extracted
from dcfnet_np.multi_tracker import MultiTracker
from dcfnet_np.presets import PRESETS, get_preset
from dcfnet_np.tracker import NOTHING, Target, Tracker, measure, peak_to_energy, search_places
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import iou

# The background of these scenes stands still and is learned with the target: a higher threshold
# tells them apart.
CAREFUL = dataclasses.replace(get_preset("careful"), min_score=0.4, lost_after=3)
NOWHERE = dataclasses.replace(CAREFUL, redetection=0)


def without_target(frames):
    """The background: what most frames show, since the target moves."""
    return np.median(frames, axis=0).astype(np.uint8)


@pytest.fixture
def video(rng):
    """A target that moves fast enough to uncover every place; frames, boxes, and the background
    alone.
    """
    frames, boxes = make_sequence(
        rng, count=60, width=240, height=180, size=(30, 26), step=(3.1, 1.7), growth=1.0
    )
    return frames, boxes, without_target(frames)


def test_measures_of_a_response(rng):
    response = rng.normal(0, 0.1, (31, 31)).astype(np.float32)
    response[4, 7] = 0.9
    heights = response.astype(float) - response.min()
    assert peak_to_energy(response) == pytest.approx(
        (0.9 - response.min()) ** 2 / (heights**2).mean()
    )
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
    tracker = (
        MultiTracker(preset=NOWHERE, device="cpu")
        if many
        else Tracker(preset=NOWHERE, device="cpu")
    )
    (tracker.add if many else tracker.init)(frames[0], boxes[0])
    target = tracker._targets[0] if many else tracker._target

    def update(frame):
        result = tracker.update(frame)
        return result[0] if many else result

    sure = [update(frame) for frame in frames[1:10]]
    assert {(result.state, result.ok) for result in sure} == {("tracking", True)}
    model = target.filter.numerator.copy()
    gone = [update(empty) for _ in range(6)]
    assert [result.state for result in gone] == ["unsure"] * 2 + ["lost"] * 4 and not any(
        r.ok for r in gone
    )
    assert {result.box for result in gone[2:]} == {sure[-1].box}
    assert max(result.psr for result in gone) < min(result.psr for result in sure)
    np.testing.assert_array_equal(target.filter.numerator, model)
    back = update(frames[9])
    assert back.state == "tracking" and iou(back.box, boxes[9]) > 0.6
    assert (target.filter.numerator != model).any()


def test_either_threshold_makes_it_unsure(video):
    frames, boxes, _ = video
    for options in ({"min_score": 10.0}, {"min_psr": 1e6}):
        tracker = Tracker(
            preset=dataclasses.replace(get_preset("default"), **options), device="cpu"
        )
        tracker.init(frames[0], boxes[0])
        assert tracker.update(frames[1]).state == "unsure"


@pytest.mark.parametrize("redetection", [4, 1000])
def test_it_is_found_elsewhere(video, redetection):
    """It vanishes and is back far outside the window: by growing rings within frames, by the whole
    frame at once.
    """
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


def careful_tracker(frame, box, **options):
    tracker = Tracker(preset=dataclasses.replace(get_preset("careful"), **options), device="cpu")
    tracker.init(frame, box)
    return tracker


def test_every_constant_of_careful():
    """Typed from docs/results/loss.md; all else is `default`'s."""
    wanted = {
        "min_score": 0.21,
        "min_psr": 7.4,
        "lost_after": 10,
        "redetection": 8,
        "redetection_psr": 10.0,
    }
    assert get_preset("careful") == dataclasses.replace(
        get_preset("default"), name="careful", **wanted
    )
    assert {name: getattr(get_preset("careful"), name) for name in wanted} == wanted


@pytest.mark.parametrize("lost_after", [1, 2, 5])
def test_counting_unsure_frames(lost_after):
    """Where it is after each of `frames`, sure or not; it moves by (10, 1) and grows by 1 each
    time.
    """
    target = Target((8.0, 16.0, 20.0, 10.0), (100, 200, 3), get_preset("default"))
    centre, size, unsure = np.array([18.0, 21.0]), np.array([20.0, 10.0]), 0
    sure_place = centre, size
    for sure in [True, False, False, True, False, False, False, False, False, False, True, False]:
        centre, size = centre + (10, 1), size + 1
        target.centre, target.size = centre, size
        target.judge(sure, lost_after)
        unsure = 0 if sure else unsure + 1
        if sure:
            sure_place = centre, size
        elif unsure >= lost_after:
            centre, size = sure_place
        assert target.unsure == unsure
        assert tuple(target.centre) == tuple(centre) and tuple(target.size) == tuple(size)
        state = target.result(np.zeros((3, 3)), NOTHING, lost_after, False).state
        assert state == (
            "tracking" if unsure == 0 else "lost" if unsure >= lost_after else "unsure"
        )


def with_responses(tracker, monkeypatch, maps, extremes=None):
    """The tracker sees these responses, (P, N, N), one for each place that it asks for, and notes
    the windows.
    """
    asked = []

    def extract(frame, centres, windows):
        first = len(asked)
        asked.extend((*centre, *window) for centre, window in zip(np.atleast_2d(centres), windows))
        many = np.arange(first, len(asked))
        ranges = (
            np.tile([10.0, 200.0], (len(many), 3, 1))
            if extremes is None
            else extremes[many % len(maps)]
        )
        return Extracted(np.array([maps[i % len(maps)] for i in many]), ranges)

    tracker._extract = extract
    monkeypatch.setattr(Target, "response_f", lambda self, search_f: search_f)
    monkeypatch.setattr(tracker_module, "irfft2", lambda maps, *_: maps)
    return asked


def bump(size, row, column, height, noise, rng):
    map_ = rng.normal(0, noise, (size, size)).astype(np.float32)
    map_[row, column] = height
    return map_


def lost_target(tracker, box, unsure):
    target = tracker._target
    target.unsure = unsure
    assert tuple(target.centre - target.size / 2) == pytest.approx(box[:2])
    return target


@pytest.mark.parametrize("unsure", [3, 4, 6, 17])
def test_which_places_are_looked_at(video, monkeypatch, rng, unsure):
    """The first `redetection` of the list when it becomes lost, then the next ones, then from the
    front again.
    """
    frames, boxes, _ = video
    box = (100.0, 70.0, 30.0, 26.0)
    tracker = careful_tracker(frames[0], box, lost_after=3, redetection=7)
    target = lost_target(tracker, box, unsure)
    asked = with_responses(tracker, monkeypatch, np.zeros((1, 125, 125), np.float32))
    assert tracker._redetect(frames[0], target, False) is None
    columns, rows = [-3, -2, -1, 0, 1, 2, 3, 4], [-3, -2, -1, 0, 1, 2, 3]
    rows = [r for r in rows if 0 <= 83 + 26 * r <= 180]
    columns = [c for c in columns if 0 <= 115 + 30 * c <= 240]
    places = [(115 + 30 * c, 83 + 26 * r) for r in rows for c in columns if (r, c) != (0, 0)]
    # stable: rows from the top in a ring
    places.sort(key=lambda p: max(abs(p[0] - 115) / 30, abs(p[1] - 83) / 26))
    start = (unsure - 3) * 7
    wanted = [(*places[(start + i) % len(places)], 90, 78) for i in range(7)]
    np.testing.assert_allclose(asked, wanted)


@pytest.mark.parametrize("case", ["best", "low psr", "low score", "flat", "not finite"])
def test_the_place_with_the_best_psr_is_believed(video, monkeypatch, rng, case):
    """Not that with the highest peak; none that is too low, holds nothing, or has a value that is
    not finite.
    """
    frames, _, _ = video
    box, size = (100.0, 70.0, 30.0, 26.0), 125
    options = {"low psr": {"redetection_psr": 60.0}, "low score": {"min_score": 0.45}}.get(case, {})
    tracker = careful_tracker(frames[0], box, lost_after=3, redetection=5, **options)
    target = lost_target(tracker, box, 3)
    maps = np.array([bump(size, 9, 4, 0.9, 0.05, rng) for _ in range(5)])
    maps[3] = bump(size, 121, 7, 0.4, 0.01, rng)  # PSR 40, the others 18
    extremes = np.tile([10.0, 200.0], (5, 3, 1))
    if case == "flat":
        extremes[3] = 77
    if case == "not finite":
        maps[3, 60, 60] = -np.inf
    place = search_places(target.centre, target.size, frames[0].shape)[3]
    before = target.centre
    with_responses(tracker, monkeypatch, maps, extremes)
    with np.errstate(all="raise"):  # nobody calculates with what is not finite
        result = tracker._redetect(frames[0], target, True)
    if case in ("low psr", "low score"):
        assert result is None and target.unsure == 3 and tuple(target.centre) == tuple(before)
    elif case == "best":
        assert (
            result.ok
            and result.score == np.float32(0.4)
            and result.psr == pytest.approx(40, rel=0.1)
        )
        centre = place + np.array([7 * 90, -4 * 78]) / size  # row 121 of 125 is 4 above
        np.testing.assert_allclose(np.array(result.box[:2]) + (15, 13), centre)
        assert result.box[2:] == (30, 26) and target.unsure == 0
        assert np.unravel_index(result.response.argmax(), (size, size)) == (62 - 4, 62 + 7)
        np.testing.assert_allclose(target.template_window, (90, 78))
        assert tuple(target.sure_place[0]) == tuple(target.centre)
    else:
        assert result.ok and result.score == np.float32(0.9)


def test_search_places():
    places = search_places(np.array([50.0, 30.0]), np.array([20.0, 10.0]), (60, 90, 3))
    assert len(places) == 5 * 7 - 1  # every place in the frame but its own
    assert (places >= 0).all() and (places <= (90, 60)).all()
    offsets = (places - (50, 30)) / (20, 10)
    rings = abs(offsets).max(1)
    assert (offsets == np.rint(offsets)).all() and (np.diff(rings) >= 0).all() and rings[0] == 1
    assert len(search_places(np.array([5.0, 5.0]), np.array([20.0, 20.0]), (10, 10, 3))) == 0


def test_search_places_in_order():
    """The ring around the place row by row from the top left, then the next ring; frames are
    (height, width).
    """
    places = search_places(np.array([25.0, 12.0]), np.array([20.0, 8.0]), (24, 80, 3))
    ring = [(5, 4), (25, 4), (45, 4), (5, 12), (45, 12), (5, 20), (25, 20), (45, 20)]
    assert [tuple(place) for place in places] == [*ring, (65, 4), (65, 12), (65, 20)]
    # the frame's edges belong to it
    edge = search_places(np.array([20.0, 8.0]), np.array([20.0, 8.0]), (16, 40, 3))
    assert {tuple(place) for place in edge} == {(x, y) for x in (0, 20, 40) for y in (0, 8, 16)} - {
        (20, 8)
    }


def test_a_small_target_is_not_looked_for_without_end(video):
    """What a lost frame costs is bounded by `redetection`, not by the number of places in the
    frame.
    """
    frames, boxes, _ = video
    tracker = Tracker(preset=CAREFUL, device="cpu")
    tracker.init(frames[0], (*boxes[0, :2], 4.0, 4.0))
    windows = []
    extract = tracker._extract
    tracker._extract = lambda frame, centres, sizes: (
        windows.append(len(sizes)) or extract(frame, centres, sizes)
    )
    counts = []
    for _ in range(4):
        del windows[:]
        tracker.update(np.zeros_like(frames[0]))
        counts.append(sum(windows))
    # lost in the third frame, and looked for there
    assert counts == [3, 3, *[3 + CAREFUL.redetection] * 2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_psr": -1}, "min_psr must be >= 0"),
        ({"lost_after": 0}, "lost_after must be >= 1"),
        ({"redetection": 3}, "redetection_psr must be at least min_psr"),
        (
            {"redetection": 3, "min_psr": 7, "redetection_psr": 6},
            "redetection_psr must be at least min_psr",
        ),
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
    with pytest.raises(
        ValueError, match="the kernels do not know min_score, min_psr of preset 'careful'"
    ):
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
