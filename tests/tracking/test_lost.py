"""A target that goes: thresholds, states, and where a lost one is looked for."""

import dataclasses

import numpy as np
import pytest
from scenes import make_sequence
from trackers import Watched, same_model

from dcfnet_np.backend import Device
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.presets import Preset, get_preset
from dcfnet_np.tracker import MultiTracker, Tracker
from dcfnet_np.tracking import step as plain_step
from dcfnet_np.tracking.features import Extracted
from dcfnet_np.tracking.response import NOTHING, Quality, search_places
from dcfnet_np.tracking.step import PlainStep
from dcfnet_np.tracking.target import Target
from dcfnet_np.vision.boxes import iou

CAREFUL = dataclasses.replace(
    get_preset("careful"), min_score=0.4, lost_after=3, redetection_after=3
)
NOWHERE = dataclasses.replace(CAREFUL, redetection=0)


@pytest.fixture
def video(rng):
    """A target fast enough to uncover every place; frames, boxes, and the background alone."""
    frames, boxes = make_sequence(
        rng, count=60, width=240, height=180, size=(30, 26), step=(3.1, 1.7), growth=1.0
    )
    return frames, boxes, np.median(frames, axis=0).astype(np.uint8)


@pytest.mark.parametrize("many", [False, True])
def test_states_of_a_target_that_goes_and_comes_back(video, many):
    """It is unsure, learns nothing, is lost at its last sure place, and found there again."""
    frames, boxes, empty = video
    tracker = Watched(preset=NOWHERE)
    tracker.init(frames[0], boxes[0])
    group = MultiTracker(preset=NOWHERE, device="cpu")
    group.add(frames[0], boxes[0])

    def update(frame):
        result, other = tracker.update(frame), group.update(frame)[0]
        assert other == result
        return result

    sure = [update(frame) for frame in frames[1:10]]
    assert {(result.state, result.ok) for result in sure} == {("tracking", True)}
    model = tracker.filter
    gone = [update(empty) for _ in range(6)]
    assert [result.state for result in gone] == ["unsure"] * 2 + ["lost"] * 4
    assert not any(result.ok for result in gone)
    assert {result.box for result in gone[2:]} == {sure[-1].box}
    assert max(result.psr for result in gone) < min(result.psr for result in sure)
    assert same_model(tracker.filter, model)
    back = update(frames[9])
    assert back.state == "tracking" and iou(back.box, boxes[9]) > 0.6
    assert not same_model(tracker.filter, model)


@pytest.mark.parametrize("options", [{"min_score": 10.0}, {"min_psr": 1e6}])
def test_either_threshold_makes_it_unsure(video, options):
    frames, boxes, _ = video
    preset = dataclasses.replace(get_preset("default"), **options)
    tracker = Tracker(preset=preset, device="cpu")
    tracker.init(frames[0], boxes[0])
    assert tracker.update(frames[1]).state == "unsure"


@pytest.mark.parametrize("redetection", [4, 1000])
def test_it_is_found_elsewhere(video, redetection):
    """It is back far outside the window: found by growing rings, or by the whole frame at once."""
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


def test_a_share_of_its_usual_score_makes_it_unsure():
    """The usual score is the first sure one, then a running mean; unsure frames leave it alone."""
    preset = Preset("share", min_share=0.5, usual_rate=0.2)
    target = Target((8.0, 16.0, 20.0, 10.0), (100, 200, 3), preset)
    usual = 0.0
    for score, sure in ((0.8, True), (0.3, False), (0.41, True), (0.35, False), (0.5, True)):
        target.judge(Quality(score, 0.0))
        assert (target.unsure == 0) == sure
        if sure:
            usual = score if usual == 0 else 0.8 * usual + 0.2 * score
        assert target.usual == pytest.approx(usual)


@pytest.mark.parametrize(("score", "psr", "found"), [
    (0.5, 9.0, True), (0.47, 9.0, False), (0.5, 7.9, False), (0.29, 9.0, False),
])  # fmt: skip
def test_what_is_believed_elsewhere(score, psr, found):
    preset = Preset("share", min_share=0.5, min_score=0.3, redetection=4, redetection_psr=8.0,
                    redetection_share=0.6)  # fmt: skip
    target = Target((8.0, 16.0, 20.0, 10.0), (100, 200, 3), preset)
    target.judge(Quality(0.8, 0.0))
    assert target.found_by(Quality(score, psr)) == found


@pytest.mark.parametrize("lost_after", [1, 2, 5])
def test_counting_unsure_frames(lost_after):
    """Where it is after each frame, sure or not; it moves by (10, 1) and grows by 1 each time."""
    preset = Preset("count", lost_after=lost_after)
    target = Target((8.0, 16.0, 20.0, 10.0), (100, 200, 3), preset)
    centre, size, unsure = np.array([18.0, 21.0]), np.array([20.0, 10.0]), 0
    sure_place = centre, size
    for sure in [True, False, False, True, False, False, False, False, False, False, True, False]:
        centre, size = np.add(centre, (10, 1)), size + 1
        target.centre, target.size = centre, size
        target.judge(Quality(float(sure), 0.0))
        unsure = 0 if sure else unsure + 1
        if sure:
            sure_place = centre, size
        elif unsure >= lost_after:
            centre, size = sure_place
        assert target.unsure == unsure
        assert tuple(target.centre) == tuple(centre) and tuple(target.size) == tuple(size)
        wanted = "tracking" if unsure == 0 else "lost" if unsure >= lost_after else "unsure"
        assert target.result(np.zeros((3, 3)), NOTHING, False).state == wanted


class Passing(OnlineFilter):
    """A filter that answers with what it is asked."""

    def update(self, template_f):
        pass

    def response_f(self, search_f):
        return search_f[:, 0]


class Answers:
    """Features that make these responses (P, N, N) of the places that a lost target is sought at.

    The first call is for the template, the second one for the search windows, which find nothing.
    """

    def __init__(self, maps, extremes=None):
        self.calls, self.maps, self.extremes = [], maps, extremes

    def __call__(self, frame, centres, windows):
        before = sum(len(call) for call in self.calls[2:])
        self.calls.append(np.hstack([np.broadcast_to(centres, windows.shape), windows]))
        first = len(self.calls) <= 2
        which = (before + np.arange(len(windows))) % len(self.maps)
        maps = np.zeros_like(self.maps[:1]).repeat(len(windows), 0) if first else self.maps[which]
        extremes = np.tile([10.0, 200.0], (len(windows), 3, 1))
        if self.extremes is not None and not first:
            extremes = self.extremes[which]
        return Extracted(maps[:, None], extremes)


def sought(monkeypatch, features, unsure, frame_shape, **options):
    """A frame for a target that is lost after 3 frames and unsure in `unsure` ones by now."""
    monkeypatch.setattr(plain_step, "irfft2", lambda maps, *_: maps)
    options = {"lost_after": 3, "redetection_after": 3, **options}
    preset = dataclasses.replace(get_preset("careful"), **options)
    step = PlainStep(preset, features, None, Device("cpu"), new_filter=Passing)
    step.start(np.zeros(frame_shape, np.uint8), (100.0, 70.0, 30.0, 26.0), 0, "test")
    targets, shape = step.copy_of_targets("test")
    targets[0].unsure = unsure - 1
    step.go_on_with((targets, shape))
    with np.errstate(all="raise"):  # nobody calculates with what is not finite
        (result,) = step.update(np.zeros(frame_shape, np.uint8), [0], True, "test")
    return result, targets[0]


def bump(size, row, column, height, noise, rng):
    map_ = rng.normal(0, noise, (size, size)).astype(np.float32)
    map_[row, column] = height
    return map_


@pytest.mark.parametrize("case", ["best", "low psr", "low score", "flat", "not finite"])
def test_the_place_with_the_best_psr_is_believed(monkeypatch, rng, case):
    """Not the one with the highest peak; none too low, of nothing, or that is not finite."""
    size, shape = 125, (180, 240, 3)
    options = {"low psr": {"redetection_psr": 60.0}, "low score": {"min_score": 0.45}}.get(case, {})
    maps = np.array([bump(size, 9, 4, 0.9, 0.05, rng) for _ in range(5)])
    maps[3] = bump(size, 121, 7, 0.4, 0.01, rng)  # PSR 40, the others 18
    extremes = np.tile([10.0, 200.0], (5, 3, 1))
    if case == "flat":
        extremes[3] = 77
    if case == "not finite":
        maps[3, 60, 60] = -np.inf
    features = Answers(maps, extremes)
    result, target = sought(monkeypatch, features, 3, shape, redetection=5, **options)
    place = search_places(np.array([115.0, 83.0]), np.array([30.0, 26.0]), shape)[3]
    if case in ("low psr", "low score"):
        assert result.state == "lost" and target.unsure == 3
        assert tuple(target.centre) == (115, 83)
    elif case == "best":
        assert result.ok and result.score == pytest.approx(0.4)
        assert result.psr == pytest.approx(40, rel=0.1)
        centre = place + np.array([7 * 90, -4 * 78]) / size  # row 121 of 125 is 4 above
        np.testing.assert_allclose(np.add(result.box[:2], (15, 13)), centre)
        assert result.box[2:] == (30, 26) and target.unsure == 0
        assert np.unravel_index(result.response.argmax(), (size, size)) == (62 - 4, 62 + 7)
        np.testing.assert_allclose(features.calls[-1], [(*centre, 90, 78)])  # to learn from
        assert tuple(target.sure_place[0]) == tuple(target.centre)
    else:
        assert result.ok and result.score == pytest.approx(0.9)


def test_search_places_in_order():
    """The ring row by row from the top left, then the next one; frames are (height, width)."""
    places = search_places(np.array([25.0, 12.0]), np.array([20.0, 8.0]), (24, 80, 3))
    ring = [(5, 4), (25, 4), (45, 4), (5, 12), (45, 12), (5, 20), (25, 20), (45, 20)]
    assert [tuple(place) for place in places] == [*ring, (65, 4), (65, 12), (65, 20)]
    # the frame's edges belong to it
    edge = search_places(np.array([20.0, 8.0]), np.array([20.0, 8.0]), (16, 40, 3))
    grid = {(x, y) for x in (0, 20, 40) for y in (0, 8, 16)}
    assert {tuple(place) for place in edge} == grid - {(20, 8)}
