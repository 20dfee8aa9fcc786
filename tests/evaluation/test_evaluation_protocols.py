"""OPE, TRE, SRE and VOT's supervised experiment, with trackers whose every move is known."""

import dataclasses
import os

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.datasets import DatasetError, Sequence
from dcfnet_np.evaluation import protocols, vot
from dcfnet_np.evaluation.baselines import IdentityTracker
from dcfnet_np.evaluation.protocols import Segment, even_segments, plan_segments, run_tracker
from dcfnet_np.evaluation.rules import Rules
from dcfnet_np.evaluation.vot import BOX, FAILED, STARTED, UNKNOWN

COUNT = 30
AWAY = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Walk"
    write_sequence(folder, *make_sequence(np.random.default_rng(3), COUNT, 64, 48, (16, 12)))
    return datasets.load_dataset(folder)[0]


def hide(sequence, *frames, **changes):
    """The sequence without ground truth in these frames."""
    boxes = sequence.boxes.copy()
    boxes[list(frames)] = np.nan
    return dataclasses.replace(sequence, boxes=boxes, **changes)


class Script:
    """Answers what it is told, by frame, else the truth."""

    def __init__(self, sequence, answers):
        self.sequence, self.answers, self.started, self.frame = sequence, answers, [], None

    def locate(self, frame):
        count = range(len(self.sequence))
        return next(k for k in count if np.array_equal(self.sequence.frame(k), frame))

    def init(self, frame, box):
        self.frame = self.locate(frame)
        self.started.append((self.frame, box))

    def update(self, frame):
        assert self.locate(frame) == self.frame + 1
        self.frame += 1
        return self.answers.get(self.frame, tuple(self.sequence.boxes[self.frame]))


def test_ope(sequence):
    (segment,) = plan_segments(sequence, "ope", Rules())
    assert segment == Segment("", 0, tuple(sequence.boxes[0]))
    nan = float("nan")
    tracker = Script(sequence, {4: None, 5: (nan, 1, 2, 3), 6: (1, 1, 0, 5), 9: (1, 2, 3, 4)})
    result = run_tracker(tracker, sequence, segment)
    expected = sequence.boxes.copy()
    expected[4:7] = expected[3]  # failed frames keep the last box
    expected[9] = (1, 2, 3, 4)
    np.testing.assert_array_equal(result.boxes, expected)
    assert tracker.started == [(0, tuple(sequence.boxes[0]))]
    assert (result.times >= 0).all() and (result.decoding > 0).all()
    assert result.states.tolist() == [STARTED] + [BOX] * (COUNT - 1)


def test_decoding_is_not_counted(sequence, monkeypatch):
    """By a clock that stands still but while a frame is read."""
    read, now = Sequence.frame, [0.0]

    def slow(self, index):
        now[0] += 1
        return read(self, index)

    monkeypatch.setattr(Sequence, "frame", slow)
    monkeypatch.setattr(protocols.time, "perf_counter", lambda: now[0])
    segment = Segment("", 25, tuple(sequence.boxes[25]))
    result = run_tracker(IdentityTracker(), sequence, segment)
    assert result.times.tolist() == [0] * 5 and result.decoding.tolist() == [1] * 5


def test_where_a_run_starts(sequence):
    late = dataclasses.replace(sequence, first=5)  # as OTB's toolkit starts Tiger1
    assert plan_segments(late, "ope", Rules())[0].start == 5
    assert plan_segments(late, "ope", Rules(omit_initial=False))[0].start == 0
    with pytest.raises(DatasetError, match="frame 1 has no box to start from"):
        plan_segments(hide(sequence, 0), "ope", Rules())
    with pytest.raises(ValueError, match="protocol must be one of ope, tre, sre, vot"):
        plan_segments(sequence, "OPE", Rules())


# --- TRE and SRE


def test_even_segments_by_hand(sequence):
    """Of the frames 0 to 10 that leave 20, every third or so; frame 3 is without ground truth."""
    hidden = hide(sequence, 3)
    found = even_segments(hidden, Rules(), 3, frames=8)
    assert [(segment.start, segment.end) for segment in found] == [(0, 8), (4, 12), (7, 15)]
    assert [each.box for each in found] == [tuple(hidden.boxes[k]) for k in (0, 4, 7)]
    assert len({segment.name for segment in found}) == 3
    whole = even_segments(sequence, Rules(), 2)
    assert [(segment.start, segment.frames(sequence)) for segment in whole] == [(0, 30), (5, 25)]
    assert len(even_segments(sequence, Rules(), 99)) == 11
    boxes, frames = hidden.boxes[:6], sequence.frames[:6]
    short = dataclasses.replace(sequence, frames=frames, boxes=boxes)
    assert [segment.start for segment in even_segments(short, Rules(), 3, frames=4)] == [0]


def test_a_run_that_ends_early_counts_its_own_frames(sequence):
    boxes = sequence.boxes.copy()
    boxes[12:] += 1000  # later frames must not matter
    segment = Segment("x", 5, tuple(boxes[5]), end=12)
    later = dataclasses.replace(sequence, boxes=boxes)
    answers = {8: (900, 900, 3, 3)}
    expected = 20 / 21 * 6 / 7  # six frames of overlap 1, which exceeds all thresholds but the last
    success = protocols.run_and_score(Script(sequence, answers), later, segment, Rules())
    assert success == pytest.approx(expected)
    result = run_tracker(Script(sequence, answers), later, segment)
    assert result.boxes.shape == (7, 4)
    skipping = dataclasses.replace(later, visible=np.arange(COUNT) >= 10)
    scores = protocols.score_runs(skipping, [(segment, result)], Rules(absent="skip")).scores
    assert scores.frames == 2 and scores.success == pytest.approx(20 / 21)


def test_tre_starts_by_hand():
    # 400 frames: the last start leaves 20, so 381 starts can be chosen from; 381 / 19 = 20.05...
    starts = protocols.tre_starts(np.ones(400, bool))
    assert len(starts) == 20 and starts[1] == int(1 + 381 / 19) - 1
    assert starts[0] == 0 and starts[-1] == 380  # the last run has frames 380 .. 399
    assert set(np.diff(starts)) <= {20, 21}
    absent = np.arange(400) % 2 == 1  # every second frame is passed over
    starts = protocols.tre_starts(absent)
    assert len(starts) == 20 and all(absent[starts]) and starts[-1] == 379
    for count in (10, 20):
        assert protocols.tre_starts(np.ones(count, bool)) == [0]
    few = protocols.tre_starts(np.ones(25, bool))
    assert few == sorted(set(few)) and few[0] == 0 and few[-1] == 5
    assert protocols.tre_starts(np.ones(60, bool), first=5)[0] == 5


def test_sre_boxes_by_hand(sequence):
    boxes = protocols.sre_boxes((100, 60, 40, 25), (320, 240))
    assert boxes == {
        "scale_8": (104, 63, 32, 20),  # 104, 62.5 -> 63
        "scale_9": (102, 61, 36, 23),  # 61.25 and 22.5
        "scale_11": (98, 59, 44, 28),  # 58.75 and 27.5
        "scale_12": (96, 58, 48, 30),  # 57.5
        "left": (96, 60, 40, 25),
        "right": (104, 60, 40, 25),
        "up": (100, 57, 40, 25),  # ceil(2.5)
        "down": (100, 63, 40, 25),
        "topLeft": (96, 58, 44, 27),  # 57.5 -> 58; the opposite corner stays at 140, 85
        "topRight": (100, 58, 44, 27),
        "bottomLeft": (96, 60, 44, 28),  # 87.5 -> 88
        "bottomRight": (100, 60, 44, 28),
    }
    boxes = protocols.sre_boxes((2, 1, 40, 30), (44, 30))
    assert all(x >= 0 and y >= 0 and x + w <= 44 and y + h <= 30 for x, y, w, h in boxes.values())
    assert boxes["left"] == (0, 1, 40, 29) and boxes["right"] == (6, 1, 38, 29)
    parts = plan_segments(sequence, "sre", Rules())
    assert len({part.box for part in parts}) == 12 and all(part.start == 0 for part in parts)


# --- VOT


def supervised(sequence, answers):
    (segment,) = plan_segments(sequence, "vot", Rules())
    tracker = Script(sequence, answers)
    result = run_tracker(tracker, sequence, segment)
    return [frame for frame, _ in tracker.started], result


def overlaps_of(sequence, result):
    return vot.vot_overlaps(sequence, result.boxes, result.states)


def test_reset_five_frames_after_a_failure(sequence):
    started, result = supervised(sequence, {3: AWAY, 12: AWAY, 27: AWAY})
    states = np.full(COUNT, BOX)
    states[[0, 8, 17]] = STARTED
    states[[3, 12, 27]] = FAILED
    states[4:8] = states[13:17] = states[28:] = UNKNOWN
    assert result.states.tolist() == states.tolist() and started == [0, 8, 17]
    np.testing.assert_array_equal(result.boxes[8], sequence.boxes[8])
    assert np.isnan(result.times[4:8]).all() and not np.isnan(result.times[8])
    # a start waits for ground truth
    assert supervised(hide(sequence, 8, 9), {3: AWAY})[0] == [0, 10]


def test_a_frame_without_ground_truth_is_no_failure(sequence):
    hidden = hide(sequence, 3, 4, 5)
    started, result = supervised(hidden, {4: AWAY})
    assert result.states.tolist() == [STARTED] + [BOX] * (COUNT - 1) and started == [0]
    known = np.isfinite(overlaps_of(hidden, result))
    assert np.flatnonzero(~known).tolist() == [0, 3, 4, 5]


def test_vot_measures_by_hand():
    # 20 frames: started at 0, failed at 12, started at 17.
    states = np.array([STARTED] + [BOX] * 11 + [FAILED] + [UNKNOWN] * 4 + [STARTED] + [BOX] * 2)
    overlap = np.full(20, np.nan)
    overlap[1:12], overlap[[10, 11]], overlap[18:] = 0.5, 0.8, 0.6
    found = vot.vot_scores([overlap], [states], lengths=(2, 3))
    # frames 10 and 11: the others are burn-in or have no box
    assert found.accuracy == pytest.approx(0.8)
    assert (found.failures, found.robustness) == (1, 1)
    # Runs: 0.5 x 9, .8 x 2, then zeros for ever; and .6 x 2, of three frames.
    curve = found.curve[[0, 1, 2, 3, 19]]
    assert curve == pytest.approx([1, 0.55, 0.55, 0.5, (9 * 0.5 + 2 * 0.8) / 19])
    assert found.eao == pytest.approx(0.55)
    assert np.isnan(vot.vot_scores([overlap], [states]).eao)  # no run of 108 frames


def test_overlap_with_a_polygon_by_hand():
    diamond = np.array([(5, 0), (10, 5), (5, 10), (0, 5)], float)  # area 50

    def overlap(points, *box):
        return vot.polygon_overlap(points, np.array(box), (100, 100))

    assert overlap(diamond, 0, 0, 10, 10) == pytest.approx(0.5)
    assert overlap(diamond, 0, 0, 5, 10) == pytest.approx(25 / 75)
    assert overlap(diamond, 20, 0, 5, 10) == 0
    # only what lies inside the frame counts
    left = diamond - np.array([5, 0])
    assert overlap(left, -9, 0, 14, 10) == pytest.approx(25 / 50)


def test_overlap_with_polygons_is_the_toolkits(rng):
    os.environ.setdefault("MPLBACKEND", "Agg")
    reason = "the extra got10k is not installed"
    metrics = pytest.importorskip("got10k.utils.metrics", reason=reason)
    for _ in range(60):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 4))
        corners = np.column_stack([np.cos(angle), np.sin(angle)])
        points = rng.uniform(10, 90, 2) + rng.uniform(10, 60) * corners
        box = np.concatenate([rng.uniform(-20, 80, 2), rng.uniform(5, 60, 2)])
        theirs = metrics.poly_iou(points.reshape(1, 8), box[None], bound=(100, 80))[0]
        assert vot.polygon_overlap(points, box, (100, 80)) == pytest.approx(theirs, abs=1e-9)


def test_polygons_of_a_sequence_decide(sequence):
    """The upper left triangle of each box, and an answer in the lower right corner of one."""
    x, y, w, h = sequence.boxes.T
    triangle = np.column_stack([x, y, x + w, y, x, y + h, x, y])
    corner = {4: tuple(sequence.boxes[4] + np.array([13, 9, -13, -9]))}
    assert supervised(sequence, corner)[1].states[4] == BOX
    with_polygons = dataclasses.replace(sequence, polygons=triangle)
    _, result = supervised(with_polygons, corner)
    assert result.states[4] == FAILED
    overlaps = overlaps_of(with_polygons, result)
    assert overlaps[1] == pytest.approx(0.5, abs=1e-6)
    assert np.isnan(overlaps[[0, 4, 5, 9]]).all()
