"""Small parts of runner, results, report and tune, each by hand and without tracking."""

import base64
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import write_sequence

from dcfnet_np import datasets
from dcfnet_np.evaluation import report, results, runner
from dcfnet_np.evaluation.protocols import Segment, Trajectory
from dcfnet_np.evaluation.result_files import Run
from dcfnet_np.evaluation.rules import RULES
from dcfnet_np.evaluation.trackers import parse_tracker
from dcfnet_np.evaluation.vot import BOX, FAILED, STARTED, UNKNOWN

COUNT = 12
TRUTH = np.column_stack([20 + 2.0 * np.arange(COUNT), np.full((COUNT, 3), (15, 24, 18))])
IDENTITY, OTHER = parse_tracker("identity"), parse_tracker("other=identity")


def make_sequences(root, *names):
    """Frames of one gray value each, 10 times their number."""
    frames = np.empty((COUNT, 60, 80, 3), np.uint8)
    frames[:] = 10 * np.arange(COUNT)[:, None, None, None]
    for name in names:
        write_sequence(root / name, frames, TRUTH, "{:04d}.png")
    return datasets.load_dataset(root, list(names))


@pytest.fixture
def sequence(tmp_path):
    return make_sequences(tmp_path / "set", "walk")[0]


def job(sequence, spec=IDENTITY, name="", start=0, supervised=False):
    return runner.Job(spec, sequence, Segment(name, start, tuple(TRUTH[start]), supervised))


def run(boxes, states=None):
    states = [STARTED] + [BOX] * (len(boxes) - 1) if states is None else states
    times = np.linspace(0.5, 1.5, len(boxes))
    return Trajectory(np.array(boxes, float), times, times / 10, np.array(states, np.int8))


# --- runner


def test_files_come_back(sequence, tmp_path):
    result = run(TRUTH + 0.25)
    runner.save_job(tmp_path, job(sequence), result)
    for ours, written in zip(result, runner.read_job(tmp_path, job(sequence))):
        np.testing.assert_allclose(ours, written, atol=1e-7)
    states = [STARTED, BOX, FAILED, *[UNKNOWN] * 4, STARTED, BOX, BOX, BOX, BOX]
    supervised = job(sequence, supervised=True)
    runner.save_job(tmp_path / "vot", supervised, run(TRUTH, states))
    back = runner.read_job(tmp_path / "vot", supervised)
    assert back.states.tolist() == states and not (tmp_path / "vot/got10k").exists()
    np.testing.assert_allclose(back.boxes[back.states == BOX], TRUTH[np.array(states) == BOX])


NAN = (np.nan,) * 4


@pytest.mark.parametrize(("first", "second", "pixels"), [
    ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ((0, 0, 0, 0), (0, -0.5, 0, 0.25), 0.5),
    (NAN, NAN, 0),
    (NAN, (0, 0, 0, 0), np.inf),
])  # fmt: skip
def test_verify_says_how_far(sequence, tmp_path, first, second, pixels):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, shift in ((old, first), (new, second)):
        boxes = TRUTH.copy()
        boxes[7] += shift
        runner.save_job(folder, job(sequence), run(boxes))
    (found,) = runner.compare_jobs(old, new, [job(sequence)])
    assert found == ("identity", "walk", pixels == 0, pixels)
    supervised = job(sequence, supervised=True)
    for folder, code in ((old, FAILED), (new, UNKNOWN)):
        states = [STARTED] + [BOX] * (COUNT - 2) + [code]
        runner.save_job(folder, supervised, run(TRUTH, states))
    assert runner.compare_jobs(old, new, [supervised])[0].pixels == np.inf


# --- results


def test_speeds_by_hand():
    """The first frame, which learns, is left out, and so are frames in which no tracker ran."""
    boxes, states = np.zeros((4, 4)), np.zeros(4)
    times, decoding = np.array([9, 0.1, 0.1, np.nan]), np.array([9, 0.3, 0.3, 0.7])
    short = np.array([9, 0.2])
    runs = Trajectory(boxes, times, decoding, states), Trajectory(boxes[:2], short, short, states)
    found = results.tracking_speed(runs)
    assert found == pytest.approx({"fps": 3 / 0.4, "fps_with_decoding": 3 / 1.2})


def as_run(sequence, boxes, name="", start=0, states=None):
    segment = Segment(name, start, tuple(TRUTH[start]))
    return Run(sequence, segment, run(boxes, states), Path(__file__))


def test_runs_of_a_sequence_are_pooled_and_attributes_are_apart(tmp_path):
    first, second, third = make_sequences(tmp_path, "a", "b", "c")
    first = dataclasses.replace(first, attributes=("SV",))
    second = dataclasses.replace(second, attributes=("FM", "SV"))
    far = TRUTH + 500
    runs = [as_run(first, TRUTH, "1"), as_run(first, far[8:], "2", start=8)]
    runs += [as_run(second, far), as_run(third, TRUTH)]
    found = results.score_facts(runs, [first, second, third], RULES["otb"])
    # Of `a` 13 of 16 frames are right, the later run's first too; of `b` the first; 20 of 21
    # thresholds.
    a, b, c = (20 / 21 * share for share in (13 / 16, 1 / 12, 1))
    assert [found["sequences"][name]["success"] for name in "abc"] == pytest.approx([a, b, c])
    assert found["scores"]["success"] == found["mean"]["success"] == pytest.approx((a + b + c) / 3)
    assert found["median"]["success"] == pytest.approx(a)
    attributes = found["attributes"]
    assert [attributes[word]["success"] for word in ("FM", "SV")] == pytest.approx([b, (a + b) / 2])
    assert [attributes[word]["sequences"] for word in ("FM", "SV")] == [1, 2]


SCORES = ("success", "op", "dp", "normalised_precision", "cle", "overlap", "frames")


def facts(success, cle, dp=0.7):
    scores = dict(zip(SCORES, (success, 0.6, dp, 0.8, cle, 0.5, 9)))
    return {
        "scores": scores,
        "median": scores | {"success": success / 2},
        "curves": {"success": [1, success], "precision": [dp, dp], "normalised": [0.8, 0.8]},
        "sequences": {"walk": {"success": success}},
        "attributes": {},
    }


def made_up():
    """Figures of three trackers, the first on the command line in the middle."""
    walk = {"frames": 9, "notes": [], "attributes": []}
    return {
        "protocol": "ope",
        "rules": {"success_score": "curve"},
        "dataset": {"path": "", "name": "set", "sequences": {"walk": walk}},
        "thresholds": {"success": [0, 1], "precision": [0, 1], "normalised": [0, 1]},
        "trackers": {"a": facts(0.5, 3, 0.9), "b": facts(0.9, 12, 0.3), "c": facts(0.2, 40, 0.6)},
        "unscored": [],
        "environment": {"dcfnet_np": "1", "commit": ""},
    }


def test_the_table_is_ranked():
    rows = results.results_table(made_up())
    assert [row[0] for row in rows] == ["tracker", "b", "a", "c"]
    assert rows[2] == ("a", "0.500", "0.600", "0.900", "0.800", "3.0", "0.250", "-", "")


# --- report


def test_the_order_and_the_colours():
    found = made_up()
    rows = report.page_tables(found)["trackers"]
    assert [row["label"] for row in rows] == ["b", "a", "c"]
    assert [row["colour"] for row in rows] == [report.COLOURS[k] for k in (1, 0, 2)]
    plots = {plot.name: [label for label, *_ in plot.lines] for plot in report.plan_plots(found)}
    assert plots == {"success": list("bac"), "precision": list("acb"), "normalised": list("bac")}


def test_the_longest_loss_is_shown(sequence):
    boxes = TRUTH.copy()
    boxes[[3, 7, 8, 9]] += 500
    boxes[11, 2] *= 0.2  # overlap .2: bad, not lost
    share, text, shown = report.longest_loss(as_run(sequence, boxes))
    assert share == pytest.approx(4 / 12) and text == "lost in 4 of 12 frames"
    assert shown == [(6, "before"), (7, "lost"), (8, "later")]
    assert report.longest_loss(as_run(sequence, TRUTH)) is None


def test_pictures_of_a_failure(sequence):
    """Of a run that begins at frame 2: frames by their gray values, boxes by their colours."""
    boxes = TRUTH[2:].copy()
    boxes[4:, :2] = 3, 36
    told = {"protocol": "ope", "trackers": {"identity": 0, "other": 0}}
    (failure,) = report.failure_gallery(told, [as_run(sequence, boxes, start=2)])["failures"]
    pictures = failure["pictures"]
    captions = ["frame 6, before", "frame 7, lost", "frame 10, later"]
    assert [picture["caption"] for picture in pictures] == captions
    data = np.frombuffer(base64.b64decode(pictures[1]["uri"].partition(",")[2]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)
    assert image.shape == (240, 320, 3)
    np.testing.assert_allclose(image[5, 5], 60, atol=3)  # frame 6, counted from 0

    def nearest(colour, rows, columns):
        return abs(image[rows, columns].reshape(-1, 3) - colour).max(axis=1).min()

    blue, green, red = (int(report.COLOURS[0][k : k + 2], 16) for k in (5, 3, 1))
    box = slice(136, 224), slice(4, 120)
    assert nearest((blue, green, red), *box) < 30 < nearest((red, green, blue), *box)
    assert nearest((255, 255, 255), slice(52, 134), slice(120, 240)) < 30
