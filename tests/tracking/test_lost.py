"""A target that goes: thresholds, states, and where a lost one is looked for."""

import dataclasses

import numpy as np
import pytest
from scenes import make_sequence
from trackers import Watched, same_model

from dcfnet_np.presets import Preset, get_preset
from dcfnet_np.tracker import MultiTracker, Tracker
from dcfnet_np.tracking.response import NOTHING, Quality, measure, search_places
from dcfnet_np.tracking.step import look_elsewhere, next_places
from dcfnet_np.tracking.target import Target
from dcfnet_np.vision.boxes import iou

CAREFUL = dataclasses.replace(
    get_preset("careful"), min_score=0.4, lost_after=3, redetection_after=3
)


@pytest.fixture
def video(rng):
    """A target fast enough to uncover every place; frames, boxes, and the background alone."""
    frames, boxes = make_sequence(
        rng, count=60, width=240, height=180, size=(30, 26), step=(3.1, 1.7), growth=1.0
    )
    return frames, boxes, np.median(frames, axis=0).astype(np.uint8)


@pytest.mark.parametrize("many", [False, True])
def test_states_of_a_target_that_goes_and_comes_back(video, many):
    """It is unsure, learns nothing, keeps its size, is lost, and found at its last sure place."""
    frames, boxes, empty = video
    tracker = Watched(preset=CAREFUL)
    tracker.init(frames[0], boxes[0])
    group = MultiTracker(preset=CAREFUL, device="cpu")
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
    assert {result.box[2:] for result in gone} == {sure[-1].box[2:]}
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
    """The usual score is a running mean over sure frames; after unsure ones it starts anew.

    The share that is asked for falls from .5 to .4 and .32 in unsure frames.
    """
    preset = Preset("share", min_share=0.5, usual_rate=0.2, min_share_decay=0.8)
    target = Target((8.0, 16.0, 20.0, 10.0), (100, 200, 3), preset)
    for score, unsure, usual in (
        (0.8, 0, 0.8),
        (0.39, 1, 0.8),
        (0.31, 2, 0.8),
        (0.26, 0, 0.26),
        (0.5, 0, 0.308),
        (0.15, 1, 0.308),
        (0.11, 2, 0.308),
        (0.09, 3, 0.308),
        (0.0, 4, 0.308),
    ):
        target.judge(Quality(score, 0.0))
        assert target.unsure == unsure
        assert target.usual == pytest.approx(usual)


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
        else:
            size = sure_place[1]
        assert target.unsure == unsure
        assert tuple(target.centre) == tuple(centre) and tuple(target.size) == tuple(size)
        wanted = "tracking" if unsure == 0 else "lost" if unsure >= lost_after else "unsure"
        assert target.result(np.zeros((3, 3)), NOTHING, False).state == wanted


# --- elsewhere, with answers by hand

SIZE, FRAME = 25, (180, 240, 3)
SOUGHT = Preset("sought", min_share=0.5, redetection=4, redetection_after=1, redetection_share=0.75,
                redetection_psr=6.0, input_size=SIZE, lost_after=50)  # fmt: skip


def unsure_target(preset=SOUGHT, unsure=1):
    """A target of 30 x 26 pixels that was sure at (115, 83), with a score of .8."""
    target = Target((100.0, 70.0, 30.0, 26.0), FRAME, preset)
    target.recognise(Quality(0.8, 20.0))
    target.unsure, target.centre = unsure, np.array([140.0, 60.0])  # where a weak peak was
    return target


class Answers:
    """Responses of windows elsewhere, as many as asked for; hears where they are."""

    def __init__(self, peaks, rng):
        """peaks: (height, row, column) of each window that is asked for, in turn."""
        self.maps = [bump(SIZE, row, column, height, rng) for height, row, column in peaks]
        self.extremes = np.tile([10.0, 200.0], (len(self.maps), 3, 1))
        self.places, self.windows = np.empty((0, 2)), np.empty((0, 2))
        self.calls = []

    def __call__(self, places, windows):
        begin, count = len(self.places), len(places)
        self.calls.append(count)
        self.places = np.concatenate([self.places, places])
        self.windows = np.concatenate([self.windows, windows])
        return np.array(self.maps[begin : begin + count]), self.extremes[begin : begin + count]


def bump(size, row, column, height, rng):
    map_ = rng.normal(0, 0.02, (size, size)).astype(np.float32)
    map_[row, column] = height
    return map_


FAINT, MIDDLE = (0.1, 3, 3), (0.7, 1, 24)


def test_a_place_is_looked_at_once_more(rng):
    """At the edge of its window a target is faint: in the middle, at the right scale, it is not."""
    faint = (0.45, 21, 2)  # row 21 of 25 is 4 above
    answers = Answers([FAINT, FAINT, faint, FAINT, (0.6, 0, 0), (0.65, 0, 0), MIDDLE], rng)
    target = unsure_target()
    found = look_elsewhere(target, FRAME, 3, answers)
    assert answers.calls == [3, 1, 3]
    window, places = (
        np.array([90.0, 78.0]),
        search_places(np.array([115.0, 83.0]), target.size, FRAME),
    )
    np.testing.assert_allclose(answers.places[:4], places[:4])
    np.testing.assert_allclose(answers.windows[:4], np.tile(window, (4, 1)))
    middle = places[2] + np.array([2, -4]) / SIZE * window
    np.testing.assert_allclose(answers.places[4:], np.tile(middle, (3, 1)))
    np.testing.assert_allclose(answers.windows[4:], SOUGHT.scale_factors[:, None] * window)
    np.testing.assert_allclose(found.place, middle)
    np.testing.assert_allclose(found.window, SOUGHT.scale_factors[2] * window)
    assert found.quality == measure(answers.maps[6]) and (found.response == answers.maps[6]).all()


@pytest.mark.parametrize(("first", "again", "change", "believed"), [
    (0.45, 0.65, {}, True),
    (0.35, 0.65, {}, False),  # below min_share of .8: not worth a second look
    (0.45, 0.55, {}, False),  # below redetection_share
    (0.45, 0.65, {"redetection_psr": 60.0}, False),
    (0.45, 0.65, {"min_score": 0.5}, False),
    (0.45, 0.65, {"min_psr": 30.0, "redetection_psr": 30.0}, False),
])  # fmt: skip
def test_what_is_believed(rng, first, again, change, believed):
    peaks = [FAINT, (first, 2, 2), FAINT, FAINT, (again, 0, 0), FAINT, FAINT]
    answers = Answers(peaks, rng)
    found = look_elsewhere(unsure_target(dataclasses.replace(SOUGHT, **change)), FRAME, 9, answers)
    assert (found is not None) == believed
    assert len(answers.places) == (7 if first > 0.4 and "min" not in str(change) else 4)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("case", ["flat", "inf", "nan"])
def test_windows_that_do_not_answer(rng, case, again):
    """The highest one holds one colour, or is not finite: the next one counts."""
    answers = Answers(
        [FAINT, (0.9, 2, 2), (0.5, 2, 2), FAINT, (0.9, 0, 0), (0.7, 0, 0), FAINT], rng
    )
    which = 4 if again else 1
    if case == "flat":
        answers.extremes[which] = 77
    else:
        answers.maps[which][7, 9] = float(case)
    found = look_elsewhere(unsure_target(), FRAME, 4, answers)
    assert found.quality.score == pytest.approx(0.7 if again else 0.9)
    nearest = search_places(np.array([115.0, 83.0]), np.array([30.0, 26.0]), FRAME)
    place = nearest[1 if again else 2] + 2 / SIZE * np.array([90.0, 78.0])
    np.testing.assert_allclose(found.place, place)


def test_which_places_in_which_frame():
    """The nearest ones in every second frame, in between further and further ones, then again."""
    places = search_places(np.array([115.0, 83.0]), np.array([30.0, 26.0]), FRAME)
    total = len(places)
    blocks = [0, 1, 0, 2, 0, 3]
    for frame, block in enumerate(blocks, start=1):
        wanted = places[np.arange(4 * block, 4 * block + 4)]
        np.testing.assert_allclose(next_places(unsure_target(unsure=frame), FRAME), wanted)
    late = next_places(unsure_target(unsure=total), FRAME)
    assert len(late) == 4 and all(any((place == each).all() for each in places) for place in late)
    everywhere = dataclasses.replace(SOUGHT, redetection=1000)
    np.testing.assert_allclose(next_places(unsure_target(everywhere, 2), FRAME), places)


def test_a_target_that_went_out_of_the_frame(rng):
    """Its last sure place is so far outside that no place is inside."""
    target = unsure_target()
    target.sure_place = np.array([-5.0, 90.0]), np.array([250.0, 20.0])
    assert look_elsewhere(target, FRAME, 3, Answers([], rng)) is None


def test_search_places_in_order():
    """The middle, the ring row by row from the top left, the next one; frames (height, width)."""
    places = search_places(np.array([25.0, 12.0]), np.array([20.0, 8.0]), (24, 80, 3))
    ring = [(5, 4), (25, 4), (45, 4), (5, 12), (45, 12), (5, 20), (25, 20), (45, 20)]
    assert [tuple(each) for each in places] == [(25, 12), *ring, (65, 4), (65, 12), (65, 20)]
    # the frame's edges belong to it
    edge = search_places(np.array([20.0, 8.0]), np.array([20.0, 8.0]), (16, 40, 3))
    assert {tuple(place) for place in edge} == {(x, y) for x in (0, 20, 40) for y in (0, 8, 16)}
