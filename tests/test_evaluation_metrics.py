"""Scores: hand-computed cases, every convention of `Rules`, and the GOT-10k toolkit's figures on
the same boxes.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np import datasets
from dcfnet_np.datasets import Sequence
from dcfnet_np.evaluation import explain
from dcfnet_np.evaluation.metrics import (
    RULES,
    Rules,
    combine,
    get_rules,
    score_frames,
    score_sequence,
)
from dcfnet_np.evaluation.protocols import BOX, Run
from dcfnet_np.evaluation.result_files import find_results

TRUTH = np.array([[10, 20, 40, 30]] * 4, float) + np.arange(4)[:, None] * (2, 1, 0, 0)


def scores(boxes, truth=TRUTH, rules="otb", **options):
    rules = get_rules(rules)
    return score_sequence([score_frames(boxes, truth, rules, **options)], rules).scores


def some_boxes(rng, count=60):
    """Ground truth and a result that drifts from it, inside 320x240 pixels."""
    truth = np.column_stack([rng.uniform(5, 200, (count, 2)), rng.uniform(20, 90, (count, 2))])
    boxes = truth + rng.normal(0, 1, (count, 4)) * np.linspace(0.5, 14, count)[:, None]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 3)
    return boxes, truth


# --- by hand ---


def test_truth_against_itself():
    found = scores(TRUTH)
    assert found.success == pytest.approx(20 / 21, abs=1e-12)
    assert (found.op, found.dp, found.normalised_precision, found.cle, found.overlap) == (
        1,
        1,
        1,
        0,
        1,
    )
    assert scores(TRUTH, rules=Rules(overlap_test=">=")).success == 1
    assert scores(TRUTH, rules="got10k", frame_size=(200, 200)).success == 1  # AO


def test_truth_against_itself_at_uneven_coordinates(rng):
    boxes, truth = some_boxes(rng, 2000)
    assert scores(truth, truth).success == pytest.approx(20 / 21, abs=1e-12)


def test_a_shift_by_hand():
    # Shifted by half its width, 20 pixels: intersection 20 * 30 = 600, union 2 * 1200 - 600 = 1800,
    # overlap 1/3.
    found = scores(TRUTH + (20, 0, 0, 0))
    # The first frame counts as right.  1/3 exceeds the thresholds 0, .05, ..., .3: seven of 21.
    assert found.success == pytest.approx((20 / 21 + 3 * 7 / 21) / 4)
    assert found.op == 0.25
    assert found.dp == 1  # an error of exactly 20 counts
    assert found.normalised_precision == 0.25  # 20 / 40 = .5 > .2
    assert found.cle == pytest.approx(15)
    assert found.overlap == pytest.approx((1 + 3 / 3) / 4)
    assert found.frames == 4


def test_centres_and_sizes_by_hand():
    # Twice as wide and high around the same corner: centre off by (20, 15), 25 pixels; overlap 1/4.
    found = scores(TRUTH * (1, 1, 2, 2), rules=Rules(first_frame="result"))
    assert found.cle == 25
    assert found.overlap == 0.25
    assert found.dp == 0
    assert found.success == pytest.approx(5 / 21)  # above 0, .05, .1, .15, .2, not above .25
    assert scores(
        TRUTH * (1, 1, 2, 2), rules=Rules(first_frame="result", overlap_test=">=")
    ).success == pytest.approx(6 / 21)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"precision_test": "<"}, "dp", 0.25),
        ({"first_frame": "skip"}, "dp", 1.0),
        ({"first_frame": "skip"}, "op", 0.0),
        ({"first_frame": "result"}, "op", 0.0),
        ({"success_score": "overlap"}, "success", 0.5),
        ({"area": "inclusive"}, "overlap", (1 + 3 * (21 * 31) / (2 * 41 * 31 - 21 * 31)) / 4),
        ({"overlap_thresholds": 101}, "success", (100 / 101 + 3 * 34 / 101) / 4),
        ({"clip_to_frame": True}, "overlap", 1.0),
    ],
    ids=str,
)
def test_one_convention_changed(changes, field, expected):
    """The shift by half a width again, each time with one other convention."""
    size = (200, 200)
    truth, boxes = TRUTH, TRUTH + (20, 0, 0, 0)
    # a box that reaches out of the frame to the right is cut to the truth
    if "clip_to_frame" in changes:
        boxes = TRUTH + (0, 0, 100, 0)
        size = (50, 200)
        truth = TRUTH + (0, 0, 50, 0)
    assert getattr(scores(boxes, truth, Rules(**changes), frame_size=size), field) == pytest.approx(
        expected
    )


def test_op_has_its_own_sign():
    boxes = TRUTH + (0, 0, 40, 0)  # twice as wide: overlap exactly 1/2
    assert scores(boxes, rules=Rules(first_frame="skip")).op == 0
    assert scores(boxes, rules=Rules(first_frame="skip", op_test=">=")).op == 1


def test_corners_in_the_place_of_centres():
    boxes = TRUTH * (1, 1, 2, 2)  # same corner
    found = scores(boxes, rules=Rules(centre="corner", first_frame="result"))
    assert found.cle == 0
    assert found.overlap == pytest.approx(0.25)


@pytest.mark.parametrize("bad", [(np.nan, 1, 5, 5), (3, 3, 0, 9), (3, 3, 9, -1)])
def test_failed_frames(bad):
    boxes = TRUTH.copy()
    boxes[2] = bad
    # The box before is off by (2, 1): overlap 38 * 29 / (2400 - 38 * 29).
    before = 38 * 29 / (2400 - 38 * 29)
    assert scores(boxes).overlap == pytest.approx((3 + before) / 4)
    assert scores(boxes).cle == pytest.approx(5**0.5 / 4)
    missed = scores(boxes, rules=Rules(failed_frame="miss"))
    assert missed.overlap == pytest.approx(3 / 4)
    assert missed.success == pytest.approx(3 / 4 * 20 / 21)


def test_frames_without_truth():
    truth = TRUTH.copy()
    truth[1] = 0
    truth[2] = np.nan
    otb = scores(TRUTH, truth)
    assert otb.frames == 4
    assert otb.op == 0.5  # they count as missed
    assert otb.dp == 1.0  # and as hit
    assert (otb.overlap, otb.cle) == (1, 0)  # which the means leave out
    skipped = scores(TRUTH, truth, "pytracking")
    assert (skipped.frames, skipped.op, skipped.dp) == (2, 1, 1)


def test_truth_left_of_the_frame_is_absent_for_otb_alone():
    truth = TRUTH.copy()
    truth[3, 0] = -1  # 0 when counted from 1
    assert scores(truth, truth).op == 0.75
    assert scores(truth, truth, "pytracking").op == 1
    truth[3, 0] = -0.5
    assert scores(truth, truth).op == 1


def test_labels_hide_frames():
    boxes = TRUTH + (100, 0, 0, 0)
    visible = [True, True, False, False]
    assert scores(boxes, rules="pytracking", visible=visible).frames == 2
    assert scores(boxes, visible=visible).dp == pytest.approx(3 / 4)


# --- sets of sequences ---


def test_mean_median_and_frames():
    good, bad = TRUTH, TRUTH[:2] + (1000, 0, 0, 0)
    parts = [(good, TRUTH), (bad, TRUTH[:2]), (good, TRUTH)]

    def combined(**changes):
        rules = Rules(first_frame="skip", **changes)
        return combine(
            [score_sequence([score_frames(b, t, rules)], rules) for b, t in parts], rules
        )

    scores_of_sequences, curves = combined()
    assert scores_of_sequences.op == pytest.approx(2 / 3)
    assert scores_of_sequences.frames == 7
    assert curves.success[0] == pytest.approx(2 / 3)
    assert combined(statistic="median")[0].op == 1
    assert combined(average="frames")[0].op == pytest.approx(6 / 7)


def test_segments_of_a_sequence_are_pooled():
    rules = Rules(first_frame="result")
    runs = [
        score_frames(TRUTH, TRUTH, rules),
        score_frames(TRUTH[2:] + (500, 0, 0, 0), TRUTH[2:], rules),
    ]
    assert score_sequence(runs, rules).scores.op == pytest.approx(4 / 6)


def test_a_sequence_in_which_nothing_counts():
    rules = RULES["pytracking"]
    nothing = score_sequence([score_frames(TRUTH, np.full((4, 4), np.nan), rules)], rules)
    assert nothing.scores.frames == 0 and np.isnan(nothing.scores.success)
    whole = score_sequence([score_frames(TRUTH, TRUTH, rules)], rules)
    assert combine([whole, nothing], rules)[0].success == pytest.approx(20 / 21)
    for each in RULES.values():
        overall, drawn = combine([nothing, nothing], each)
        assert (
            overall.frames == 0
            and np.isnan(overall[:-1]).all()
            and all(np.isnan(curve).all() for curve in drawn)
        )
    with pytest.raises(ValueError, match="at least one sequence"):
        combine([], rules)


# --- bad input ---


def test_bad_input():
    with pytest.raises(ValueError, match=r"must both be \(n, 4\)"):
        score_frames(TRUTH, TRUTH[:3], Rules())
    with pytest.raises(ValueError, match="need frame_size"):
        score_frames(TRUTH, TRUTH, RULES["got10k"])
    with pytest.raises(ValueError, match="unknown rules 'OTB'; known: otb, got10k"):
        get_rules("OTB")
    with pytest.raises(ValueError, match="centre must be one of"):
        Rules(centre="middle")
    with pytest.raises(ValueError, match="'median' is over sequences"):
        Rules(average="frames", statistic="median")
    with pytest.raises(TypeError):
        Rules(centres="corner")


def test_inputs_are_not_written(rng):
    boxes, truth = some_boxes(rng)
    before = boxes.copy(), truth.copy()
    for rules in RULES.values():
        score_frames(boxes, truth, rules, (100, 80))
    np.testing.assert_array_equal((boxes, truth), before)


# --- the GOT-10k toolkit ---


@pytest.fixture(scope="module")
def toolkit():
    os.environ.setdefault("MPLBACKEND", "Agg")
    return pytest.importorskip("got10k.experiments", reason="the extra got10k is not installed")


def test_equal_to_the_toolkits_metrics(toolkit, rng):
    from got10k.utils.metrics import center_error, rect_iou

    boxes, truth = some_boxes(rng, 500)
    ours = score_frames(boxes, truth, Rules(first_frame="result", truth="size"))
    np.testing.assert_allclose(ours.overlap, rect_iou(boxes, truth), atol=1e-12)
    np.testing.assert_allclose(ours.error, center_error(boxes, truth), atol=1e-12)
    bound = (150, 120)
    rules = dataclasses.replace(RULES["got10k"], first_frame="result")
    cut = score_frames(boxes, truth, rules, bound)
    np.testing.assert_allclose(cut.overlap, rect_iou(boxes.copy(), truth.copy(), bound), atol=1e-9)


def made_by(cls, **attributes):
    """An experiment of the toolkit without its data set, whose folders it would look for."""
    experiment = cls.__new__(cls)
    for name, value in attributes.items():
        setattr(experiment, name, value)
    return experiment


class Memory:
    """A data set of the toolkit's kind: name -> (files, boxes, meta)."""

    def __init__(self, sequences):
        self.sequences = sequences
        self.seq_names = list(sequences)
        self.return_meta = False

    def __len__(self):
        return len(self.seq_names)

    def __getitem__(self, key):
        name = key if isinstance(key, str) else self.seq_names[key]
        if isinstance(key, int) and key >= len(self.seq_names):
            raise IndexError(key)
        truth, meta = self.sequences[name]
        return ([], truth, meta) if self.return_meta else ([], truth)


def test_equal_to_the_toolkits_otb_report(toolkit, rng, tmp_path):
    results = {f"s{k}": some_boxes(rng, 40 + 13 * k) for k in range(3)}
    folder = tmp_path / "results/ours"
    folder.mkdir(parents=True)
    for name, (boxes, _) in results.items():
        np.savetxt(folder / f"{name}.txt", boxes, delimiter=",")
    experiment = made_by(
        toolkit.ExperimentOTB,
        dataset=Memory({name: (truth, {}) for name, (_, truth) in results.items()}),
        result_dir=str(tmp_path / "results"),
        report_dir=str(tmp_path / "reports"),
        nbins_iou=21,
        nbins_ce=51,
    )
    theirs = experiment.report(["ours"])["ours"]
    scored = {
        n: score_sequence([score_frames(b, t, Rules())], Rules()) for n, (b, t) in results.items()
    }
    overall, curves = combine(list(scored.values()), Rules())
    assert overall.success == pytest.approx(theirs["overall"]["success_score"], abs=1e-6)
    assert overall.dp == pytest.approx(theirs["overall"]["precision_score"], abs=1e-6)
    assert overall.op == pytest.approx(theirs["overall"]["success_rate"], abs=1e-6)
    np.testing.assert_allclose(curves.success, theirs["overall"]["success_curve"], atol=1e-6)
    np.testing.assert_allclose(curves.precision, theirs["overall"]["precision_curve"], atol=1e-6)
    for name, sequence in scored.items():
        assert sequence.scores.success == pytest.approx(
            theirs["seq_wise"][name]["success_score"], abs=1e-6
        )
    json.loads((tmp_path / "reports/ours/performance.json").read_text())


def test_equal_to_the_toolkits_got10k_report(toolkit, rng, tmp_path):
    size = (200, 170)
    results = {f"s{k}": some_boxes(rng, 30 + 17 * k) for k in range(3)}
    cover = {name: rng.integers(0, 3, len(boxes)) for name, (boxes, _) in results.items()}
    for name, (boxes, _) in results.items():
        folder = tmp_path / "results/ours" / name
        folder.mkdir(parents=True)
        np.savetxt(folder / f"{name}_001.txt", boxes, delimiter=",")
        np.savetxt(folder / f"{name}_time.txt", np.full(len(boxes), 0.5))
    experiment = made_by(
        toolkit.ExperimentGOT10k,
        subset="val",
        dataset=Memory(
            {
                n: (t.copy(), {"cover": cover[n], "resolution": str(size)})
                for n, (_, t) in results.items()
            }
        ),
        result_dir=str(tmp_path / "results"),
        report_dir=str(tmp_path / "reports"),
        nbins_iou=101,
    )
    theirs = experiment.report(["ours"])["ours"]
    rules = RULES["got10k"]
    scored = []
    for name, (boxes, truth) in results.items():
        scored.append(
            score_sequence([score_frames(boxes, truth, rules, size, cover[name] > 0)], rules)
        )
        assert scored[-1].scores.success == pytest.approx(theirs["seq_wise"][name]["ao"], abs=1e-6)
    overall, curves = combine(scored, rules)
    assert overall.success == pytest.approx(theirs["overall"]["ao"], abs=1e-6)
    assert overall.op == pytest.approx(theirs["overall"]["sr"], abs=1e-6)
    np.testing.assert_allclose(curves.success, theirs["overall"]["succ_curve"], atol=1e-6)


# --- score --explain ---


def test_rules_side_by_side(tmp_path):
    truth = np.array([[10, 20, 40, 30]] * 20, float)
    sequence = Sequence("Tiger1", "otb", (Path(),) * 20, truth, first=5)
    boxes = truth.copy()
    boxes[1:5] += 500  # in the frames that OTB's toolkit leaves out
    rules = [RULES["otb"], RULES["pytracking"], RULES["paper"]]
    result = Run(boxes, *np.full((2, 20), np.nan), np.full(20, BOX))
    rows = {row[0]: row[1:] for row in explain.table([(sequence, result)], rules)}
    assert rows[""] == ("otb", "pytracking", "paper")
    assert rows["success"][0] == "0.9524 (AUC)"
    assert rows["success"][1] == f"{16 / 20 * 20 / 21:.4f} (AUC)"
    assert rows["frames counted"] == ("15", "20", "15")
    names = [row[0] for row in explain.conventions(rules)]
    assert "statistic" in names and "overlap_thresholds" not in names


# --- real sequences ---


def test_the_golden_boxes_score_what_the_yardstick_scored(data_dir, tmp_path):
    """AUC of the PyTorch tracker with the released parameters, as published with the sequences."""
    published = {
        "David": 0.732,
        "Crossing": 0.786,
        "Bird2": 0.771,
        "Man": 0.824,
        "Skiing": 0.444,
        "Girl": 0.758,
        "Freeman1": 0.631,
        "DragonBaby": 0.641,
        "Deer": 0.780,
        "Dog": 0.610,
        "Subway": 0.685,
        "vot15_bag": 0.672,
    }
    for file in (Path(__file__).parent / "golden/pytorch").glob("*.txt"):
        # without its comment
        (tmp_path / file.name).write_text(file.read_text().partition("\n")[2])
    pairs = find_results(tmp_path, datasets.load_dataset(data_dir / "sequences"))
    assert len(pairs) == 12
    found = {
        sequence.name: scores(result.boxes, sequence.boxes).success for sequence, result in pairs
    }
    assert {name: round(value, 3) for name, value in found.items()} == pytest.approx(
        published, abs=0.0011
    )
    for sequence, _ in pairs:
        assert scores(sequence.boxes, sequence.boxes).success == pytest.approx(20 / 21, abs=1e-12)
