"""OPE, TRE, SRE and VOT's supervised experiment, with trackers whose every move is known."""

import dataclasses
import os

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.datasets import DatasetError, Sequence
from dcfnet_np.evaluation import protocols
from dcfnet_np.evaluation.metrics import Rules
from dcfnet_np.evaluation.protocols import (
    BOX,
    FAILED,
    STARTED,
    UNKNOWN,
    Segment,
    even_segments,
    segments,
    sre_boxes,
    tre_starts,
)

COUNT = 30


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Walk"
    write_sequence(folder, *make_sequence(np.random.default_rng(3), COUNT, 64, 48, (16, 12)))
    return datasets.load_dataset(folder)[0]


class Script:
    """Answers what it is told, by frame; counts from the frame it was started at."""

    def __init__(self, sequence, answers):
        self.sequence, self.answers = sequence, answers
        self.started = []
        self.frame = None

    def locate(self, frame):
        for index in range(len(self.sequence)):
            if np.array_equal(self.sequence.frame(index), frame):
                return index
        raise AssertionError("a frame that is not the sequence's")

    def init(self, frame, box):
        self.frame = self.locate(frame)
        self.started.append((self.frame, box))

    def update(self, frame):
        assert self.locate(frame) == self.frame + 1
        self.frame += 1
        return self.answers.get(self.frame, tuple(self.sequence.boxes[self.frame]))


def test_ope(sequence):
    (segment,) = segments(sequence, "ope", Rules())
    assert segment == Segment("", 0, tuple(sequence.boxes[0]))
    nan = float("nan")
    tracker = Script(sequence, {4: None, 5: (nan, 1, 2, 3), 6: (1, 1, 0, 5), 9: (1, 2, 3, 4)})
    result = protocols.run(tracker, sequence, segment)
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
    from dcfnet_np.evaluation.baselines import Identity

    result = protocols.run(Identity(), sequence, Segment("", 25, tuple(sequence.boxes[25])))
    assert result.times.tolist() == [0] * 5 and result.decoding.tolist() == [1] * 5


def test_a_start_that_otb_leaves_out(sequence):
    import dataclasses

    late = dataclasses.replace(sequence, first=5)
    assert segments(late, "ope", Rules())[0].start == 5
    assert segments(late, "ope", Rules(omit_initial=False))[0].start == 0


def test_nothing_to_start_from(sequence):
    import dataclasses

    boxes = sequence.boxes.copy()
    boxes[0] = np.nan
    with pytest.raises(DatasetError, match="frame 1 has no box to start from"):
        segments(dataclasses.replace(sequence, boxes=boxes), "ope", Rules())
    with pytest.raises(ValueError, match="protocol must be one of ope, tre, sre, vot"):
        segments(sequence, "OPE", Rules())


# --- TRE ---


def test_even_segments_by_hand(sequence):
    """Of the frames 0 to 10 that leave 20, every third or so; frame 3 is without ground truth."""
    boxes = sequence.boxes.copy()
    boxes[3] = np.nan
    hidden = dataclasses.replace(sequence, boxes=boxes)
    found = even_segments(hidden, Rules(), 3, frames=8)
    assert [(segment.start, segment.end) for segment in found] == [(0, 8), (4, 12), (7, 15)]
    assert [segment.box for segment in found] == [tuple(boxes[start]) for start in (0, 4, 7)]
    assert len({segment.name for segment in found}) == 3
    whole = even_segments(sequence, Rules(), 2)
    assert [(segment.start, segment.frames(sequence)) for segment in whole] == [(0, 30), (5, 25)]
    assert len(even_segments(sequence, Rules(), 99)) == 11
    short = dataclasses.replace(sequence, frames=sequence.frames[:6], boxes=boxes[:6])
    assert [segment.start for segment in even_segments(short, Rules(), 3, frames=4)] == [0]


def test_a_run_that_ends_early_counts_its_own_frames(sequence):
    boxes = sequence.boxes.copy()
    boxes[12:] += 1000  # later frames must not matter
    segment = Segment("x", 5, tuple(boxes[5]), end=12)
    moved = dataclasses.replace(sequence, boxes=boxes)
    tracker = Script(sequence, {8: (900, 900, 3, 3)})
    result = protocols.run(tracker, moved, segment)
    assert result.boxes.shape == (7, 4)
    expected = 20 / 21 * 6 / 7  # six frames of overlap 1, which exceeds all thresholds but the last
    assert protocols.success(
        Script(sequence, {8: (900, 900, 3, 3)}), moved, segment, Rules()
    ) == pytest.approx(expected)
    visible = np.ones(COUNT, bool)
    visible[:10] = False
    skipping = dataclasses.replace(moved, visible=visible)
    scores = protocols.score(skipping, [(segment, result)], Rules(absent="skip")).scores
    assert scores.frames == 2 and scores.success == pytest.approx(20 / 21)


def test_tre_starts_by_hand():
    # 400 frames: the last start leaves 20, so 381 starts can be chosen from; 381 / 19 = 20.05...
    starts = tre_starts(np.ones(400, bool))
    assert len(starts) == 20
    assert starts[0] == 0 and starts[-1] == 380  # the last run has frames 380 .. 399
    assert set(np.diff(starts)) <= {20, 21}
    assert starts[1] == int(1 + 381 / 19) - 1


def test_tre_passes_over_absent_frames():
    there = np.ones(400, bool)
    there[::2] = False
    starts = tre_starts(there)
    assert len(starts) == 20 and all(there[starts])
    assert starts[-1] == 379


def test_tre_of_short_sequences():
    assert tre_starts(np.ones(10, bool)) == [0]
    assert tre_starts(np.ones(20, bool)) == [0]
    few = tre_starts(np.ones(25, bool))
    assert few == sorted(set(few)) and few[0] == 0 and few[-1] == 5
    assert tre_starts(np.ones(60, bool), first=5)[0] == 5


def test_tre_runs_to_the_end(sequence):
    parts = segments(sequence, "tre", Rules())
    assert [part.name for part in parts] == [f"{k:02d}" for k in range(1, len(parts) + 1)]
    for part in parts:
        assert part.box == tuple(sequence.boxes[part.start])
    last = protocols.run(Script(sequence, {}), sequence, parts[-1])
    assert len(last.boxes) == 20
    np.testing.assert_array_equal(last.boxes, sequence.boxes[-20:])


# --- SRE ---


def test_sre_boxes_by_hand():
    boxes = sre_boxes((100, 60, 40, 25), (320, 240))
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


def test_sre_boxes_end_at_the_frame():
    boxes = sre_boxes((2, 1, 40, 30), (44, 30))
    assert all(x >= 0 and y >= 0 and x + w <= 44 and y + h <= 30 for x, y, w, h in boxes.values())
    assert boxes["left"] == (0, 1, 40, 29)
    assert boxes["right"] == (6, 1, 38, 29)


def test_sre_runs(sequence):
    parts = segments(sequence, "sre", Rules())
    assert len(parts) == 12 and len({part.box for part in parts}) == 12
    assert all(part.start == 0 for part in parts)


# --- VOT ---


def supervised(sequence, answers):
    (segment,) = segments(sequence, "vot", Rules())
    tracker = Script(sequence, answers)
    return tracker, protocols.run(tracker, sequence, segment)


def test_reset_five_frames_after_a_failure(sequence):
    away = (0.0, 0.0, 1.0, 1.0)
    tracker, result = supervised(sequence, {3: away, 12: away, 27: away})
    states = np.full(COUNT, BOX)
    states[[0, 8, 17]] = STARTED
    states[[3, 12, 27]] = FAILED
    states[4:8] = states[13:17] = states[28:] = UNKNOWN
    assert result.states.tolist() == states.tolist()
    assert [frame for frame, _ in tracker.started] == [0, 8, 17]
    assert tracker.started[1][1] == tuple(sequence.boxes[8])
    assert np.isnan(result.times[4:8]).all() and not np.isnan(result.times[8])


def test_a_start_waits_for_ground_truth(sequence):
    import dataclasses

    boxes = sequence.boxes.copy()
    boxes[8:10] = np.nan
    tracker, result = supervised(
        dataclasses.replace(sequence, boxes=boxes), {3: (0.0, 0.0, 1.0, 1.0)}
    )
    assert [frame for frame, _ in tracker.started] == [0, 10]


def test_a_frame_without_ground_truth_is_no_failure(sequence):
    boxes = sequence.boxes.copy()
    boxes[3:6] = np.nan
    tracker, result = supervised(
        dataclasses.replace(sequence, boxes=boxes), {4: (0.0, 0.0, 1.0, 1.0)}
    )
    assert result.states.tolist() == [STARTED] + [BOX] * (COUNT - 1)
    assert [frame for frame, _ in tracker.started] == [0]
    overlaps = protocols.vot_overlaps(dataclasses.replace(sequence, boxes=boxes), result)
    assert np.isnan(overlaps[3:6]).all() and np.isfinite(overlaps[[1, 2, *range(6, COUNT)]]).all()


def test_vot_measures_by_hand():
    # 20 frames: started at 0, failed at 12, started at 17.
    states = np.array([STARTED] + [BOX] * 11 + [FAILED] + [UNKNOWN] * 4 + [STARTED] + [BOX] * 2)
    overlap = np.full(20, np.nan)
    overlap[1:12] = 0.5
    overlap[[10, 11]] = 0.8
    overlap[18:] = 0.6
    found = protocols.vot_scores([overlap], [states], lengths=(2, 3))
    # frames 10 and 11: the others are burn-in or have no box
    assert found.accuracy == pytest.approx(0.8)
    assert (found.failures, found.robustness) == (1, 1)
    # Runs: 0.5 x 9, .8 x 2, then zeros for ever; and .6 x 2, of three frames.
    assert found.curve[0] == 1
    assert found.curve[1] == pytest.approx((0.5 + 0.6) / 2)
    assert found.curve[2] == pytest.approx((0.5 + 0.6) / 2)
    assert found.curve[3] == pytest.approx(0.5)  # only the first is so long
    assert found.curve[19] == pytest.approx((9 * 0.5 + 2 * 0.8) / 19)
    assert found.eao == pytest.approx(0.55)
    assert np.isnan(protocols.vot_scores([overlap], [states]).eao)  # no run of 108 frames


def test_a_failure_too_late_for_a_new_start():
    states = np.array([STARTED, BOX, BOX, FAILED, UNKNOWN, UNKNOWN])
    curve = protocols.expected_overlap([np.array([np.nan, 1, 1, np.nan, np.nan, np.nan])], [states])
    np.testing.assert_allclose(curve, [1, 1, 1, 2 / 3, 2 / 4, 2 / 5])


def test_shorter_sequences_do_not_count_beyond_their_end():
    perfect = np.array([STARTED, BOX, BOX, BOX])
    short = np.array([STARTED, BOX])
    curve = protocols.expected_overlap(
        [np.array([np.nan, 1, 1, 1]), np.array([np.nan, 0.5])], [perfect, short]
    )
    np.testing.assert_allclose(curve, [1, 0.75, 1, 1])


def test_overlap_with_a_polygon_by_hand():
    diamond = np.array([(5, 0), (10, 5), (5, 10), (0, 5)], float)  # area 50
    frame = (100, 100)
    assert protocols.polygon_overlap(diamond, np.array([0, 0, 10, 10]), frame) == pytest.approx(0.5)
    assert protocols.polygon_overlap(diamond, np.array([0, 0, 5, 10]), frame) == pytest.approx(
        25 / 75
    )
    assert protocols.polygon_overlap(diamond, np.array([20, 0, 5, 10]), frame) == 0
    # Only what lies inside the frame counts.
    assert protocols.polygon_overlap(
        diamond - (5, 0), np.array([-9, 0, 14, 10]), frame
    ) == pytest.approx(25 / 50)


def test_overlap_with_polygons_is_the_toolkits(rng):
    os.environ.setdefault("MPLBACKEND", "Agg")
    metrics = pytest.importorskip(
        "got10k.utils.metrics", reason="the extra got10k is not installed"
    )
    for _ in range(60):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 4))
        points = rng.uniform(10, 90, 2) + rng.uniform(10, 60) * np.column_stack(
            [np.cos(angle), np.sin(angle)]
        )
        box = np.concatenate([rng.uniform(-20, 80, 2), rng.uniform(5, 60, 2)])
        theirs = metrics.poly_iou(points.reshape(1, 8), box[None], bound=(100, 80))[0]
        assert protocols.polygon_overlap(points, box, (100, 80)) == pytest.approx(theirs, abs=1e-9)


def test_polygons_of_a_sequence_decide(sequence):
    import dataclasses

    x, y, w, h = sequence.boxes.T
    # The upper left triangle of each box; an answer in the lower right corner meets the box but not
    # the triangle.
    triangle = np.column_stack([x, y, x + w, y, x, y + h, x, y])
    corner = sequence.boxes[4] + (13, 9, -13, -9)
    with_polygons = dataclasses.replace(sequence, polygons=triangle)
    assert supervised(sequence, {4: tuple(corner)})[1].states[4] == BOX
    tracker, result = supervised(with_polygons, {4: tuple(corner)})
    assert result.states[4] == FAILED
    overlaps = protocols.vot_overlaps(with_polygons, result)
    assert overlaps[1] == pytest.approx(0.5, abs=1e-6)
    assert np.isnan(overlaps[[0, 4, 5, 9]]).all()
