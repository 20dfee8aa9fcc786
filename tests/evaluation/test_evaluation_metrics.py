"""Scores by hand, convention by convention, and the GOT-10k toolkit's figures on the same boxes."""

import os
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np import datasets
from dcfnet_np.evaluation import compare_rules
from dcfnet_np.evaluation.metrics import (
    combine_sequences,
    mean_interval,
    score_frames,
    score_sequence,
)  # fmt: skip
from dcfnet_np.evaluation.protocols import Segment, Trajectory
from dcfnet_np.evaluation.result_files import NO_BOX, Run, find_results
from dcfnet_np.evaluation.rules import RULES, Rules, get_rules
from dcfnet_np.evaluation.vot import BOX

TRUTH = np.array([[10, 20, 40, 30]] * 4, float) + np.arange(4)[:, None] * np.array([2, 1, 0, 0])


def moved(boxes, *change):
    return boxes + np.array(change, float)


def scores(boxes, truth=TRUTH, rules="otb", **options):
    rules = get_rules(rules)
    return score_sequence([score_frames(boxes, truth, rules, **options)], rules).scores


def some_boxes(rng, count=60):
    """Ground truth and a result that drifts from it, inside 320x240 pixels."""
    truth = np.column_stack([rng.uniform(5, 200, (count, 2)), rng.uniform(20, 90, (count, 2))])
    boxes = truth + rng.normal(0, 1, (count, 4)) * np.linspace(0.5, 14, count)[:, None]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 3)
    return boxes, truth


# --- by hand


def test_truth_against_itself():
    found = scores(TRUTH)
    assert found == pytest.approx((20 / 21, 1, 1, 1, 0, 1, 4), abs=1e-12)
    assert scores(TRUTH, rules=Rules(overlap_test=">=")).success == 1
    assert scores(TRUTH, rules="got10k", frame_size=(200, 200)).success == 1  # AO


@pytest.mark.parametrize(("changes", "field", "expected"), [
    ({"precision_test": "<"}, "dp", 0.25),
    ({"first_frame": "skip"}, "dp", 1.0),
    ({"first_frame": "skip"}, "op", 0.0),
    ({"first_frame": "result"}, "op", 0.0),
    ({"success_score": "overlap"}, "success", 0.5),
    ({"area": "inclusive"}, "overlap", (1 + 3 * (21 * 31) / (2 * 41 * 31 - 21 * 31)) / 4),
    ({"overlap_thresholds": 101}, "success", (100 / 101 + 3 * 34 / 101) / 4),
    ({"clip_to_frame": True}, "overlap", 1.0),
], ids=str)  # fmt: skip
def test_one_convention_changed(changes, field, expected):
    """The shift by half a width again, each time with one other convention."""
    truth, boxes, size = TRUTH, moved(TRUTH, 20, 0, 0, 0), (200, 200)
    if "clip_to_frame" in changes:  # a box that reaches out of the frame is cut to the truth
        truth, boxes, size = moved(TRUTH, 0, 0, 50, 0), moved(TRUTH, 0, 0, 100, 0), (50, 200)
    found = scores(boxes, truth, Rules(**changes), frame_size=size)
    assert getattr(found, field) == pytest.approx(expected)


def test_frames_without_truth_and_hidden_ones():
    truth = TRUTH.copy()
    truth[1], truth[2] = 0, np.nan
    otb, skipped = scores(TRUTH, truth), scores(TRUTH, truth, "pytracking")
    # for OTB they are missed, and hit, and left out of the means
    assert (otb.frames, otb.op, otb.dp, otb.overlap, otb.cle) == (4, 0.5, 1, 1, 0)
    assert (skipped.frames, skipped.op, skipped.dp) == (2, 1, 1)
    far, visible = moved(TRUTH, 100, 0, 0, 0), [True, True, False, False]
    assert scores(far, rules="pytracking", visible=visible).frames == 2
    assert scores(far, visible=visible).dp == pytest.approx(3 / 4)


# --- sets of sequences


def test_mean_median_and_frames():
    parts = [(TRUTH, TRUTH), (moved(TRUTH[:2], 1000, 0, 0, 0), TRUTH[:2]), (TRUTH, TRUTH)]

    def combined(**changes):
        rules = Rules(first_frame="skip", **changes)
        scored = [score_sequence([score_frames(b, t, rules)], rules) for b, t in parts]
        return combine_sequences(scored, rules)

    found, curves = combined()
    assert found.op == pytest.approx(2 / 3) and found.frames == 7
    assert curves.success[0] == pytest.approx(2 / 3)
    assert combined(statistic="median")[0].op == 1
    assert combined(statistic="median")[1].success[0] == pytest.approx(2 / 3)
    assert combined(average="frames")[0].op == pytest.approx(6 / 7)


def test_the_interval_of_a_mean_by_hand():
    """Mean 5, deviation 2.582 over the root of 4, and Student's table: 3.182 at 3 degrees."""
    low, high = mean_interval([2, 4, 6, 8])
    assert (low, high) == pytest.approx((5 - 3.1824 * 1.29099, 5 + 3.1824 * 1.29099), abs=1e-3)
    assert mean_interval([3, 3, 3]) == (3, 3) and np.isnan(mean_interval([3])).all()


def test_a_sequence_in_which_nothing_counts():
    rules = RULES["pytracking"]
    nothing = score_sequence([score_frames(TRUTH, np.full((4, 4), np.nan), rules)], rules)
    whole = score_sequence([score_frames(TRUTH, TRUTH, rules)], rules)
    assert combine_sequences([whole, nothing], rules)[0].success == pytest.approx(20 / 21)
    for each in RULES.values():
        overall, drawn = combine_sequences([nothing, nothing], each)
        assert overall.frames == 0 and np.isnan(overall[:-1]).all()
        assert all(np.isnan(curve).all() for curve in drawn)


def test_bad_input(rng):
    with pytest.raises(ValueError, match=r"must both be \(n, 4\)"):
        score_frames(TRUTH, TRUTH[:3], Rules())
    with pytest.raises(ValueError, match="unknown rules 'OTB'; known: otb, got10k"):
        get_rules("OTB")
    with pytest.raises(ValueError, match="centre must be one of"):
        Rules(centre="middle")
    with pytest.raises(ValueError, match="'median' is over sequences"):
        Rules(average="frames", statistic="median")
    boxes, truth = some_boxes(rng)
    before = boxes.copy(), truth.copy()
    for rules in RULES.values():
        score_frames(boxes, truth, rules, (100, 80))
    np.testing.assert_array_equal((boxes, truth), before)  # inputs are not written


# --- the GOT-10k toolkit


@pytest.fixture(scope="module")
def toolkit():
    os.environ.setdefault("MPLBACKEND", "Agg")
    return pytest.importorskip("got10k.experiments", reason="the extra got10k is not installed")


class Memory:
    """A data set of the toolkit's kind: name -> (files, boxes, meta)."""

    def __init__(self, sequences):
        self.sequences, self.seq_names, self.return_meta = sequences, list(sequences), False

    def __len__(self):
        return len(self.seq_names)

    def __getitem__(self, key):
        truth, meta = self.sequences[key if isinstance(key, str) else self.seq_names[key]]
        return ([], truth, meta) if self.return_meta else ([], truth)


@pytest.mark.parametrize("name", ["otb", "got10k"])
def test_equal_to_the_toolkits_reports(toolkit, rng, tmp_path, name):
    size, rules = (200, 170), RULES[name]
    results = {f"s{k}": some_boxes(rng, 30 + 17 * k) for k in range(3)}
    cover = {key: rng.integers(0, 3, len(boxes)) for key, (boxes, _) in results.items()}
    for key, (boxes, _) in results.items():
        folder = tmp_path / "results/ours" / ("" if name == "otb" else key)
        folder.mkdir(parents=True, exist_ok=True)
        file = f"{key}.txt" if name == "otb" else f"{key}_001.txt"
        np.savetxt(folder / file, boxes, delimiter=",")
        np.savetxt(folder / f"{key}_time.txt", np.full(len(boxes), 0.5))
    # an experiment without its data set, whose folders it would look for
    kind = toolkit.ExperimentOTB if name == "otb" else toolkit.ExperimentGOT10k
    experiment = kind.__new__(kind)
    meta = {key: {"cover": cover[key], "resolution": str(size)} for key in results}
    experiment.dataset = Memory({key: (t.copy(), meta[key]) for key, (_, t) in results.items()})
    experiment.subset, experiment.nbins_iou = "val", rules.overlap_thresholds
    experiment.nbins_ce = rules.precision_thresholds
    experiment.result_dir = str(tmp_path / "results")
    experiment.report_dir = str(tmp_path / "reports")
    theirs = experiment.report(["ours"])["ours"]
    words = ("ao", "sr", "succ_curve")
    if name == "otb":
        words = ("success_score", "success_rate", "success_curve")
    scored = []
    for key, (boxes, truth) in results.items():
        visible = None if name == "otb" else cover[key] > 0
        frames = score_frames(boxes, truth, rules, size, visible)
        scored.append(score_sequence([frames], rules))
        their = theirs["seq_wise"][key][words[0]]
        assert scored[-1].scores.success == pytest.approx(their, abs=1e-6)
    overall, curves = combine_sequences(scored, rules)
    theirs = theirs["overall"]
    assert overall.success == pytest.approx(theirs[words[0]], abs=1e-6)
    assert overall.op == pytest.approx(theirs[words[1]], abs=1e-6)
    np.testing.assert_allclose(curves.success, theirs[words[2]], atol=1e-6)
    if name == "otb":
        assert overall.dp == pytest.approx(theirs["precision_score"], abs=1e-6)
        np.testing.assert_allclose(curves.precision, theirs["precision_curve"], atol=1e-6)


# --- score --explain, and real sequences


def test_rules_side_by_side():
    truth = np.array([[10, 20, 40, 30]] * 20, float)
    sequence = datasets.Sequence("Tiger1", "otb", (Path(),) * 20, truth, first=5)
    boxes = truth.copy()
    boxes[1:5] += 500  # in the frames that OTB's toolkit leaves out
    rules = [RULES["otb"], RULES["pytracking"], RULES["paper"]]
    result = Trajectory(boxes, *np.full((2, 20), np.nan), np.full(20, BOX))
    run = Run(sequence, Segment("", 0, NO_BOX), result, Path())
    table = compare_rules.score_table([run], rules)
    rows = {row[0]: row[1:] for row in table}
    assert rows[""] == ("otb", "pytracking", "paper")
    assert rows["success"][:2] == ("0.9524 (AUC)", f"{16 / 20 * 20 / 21:.4f} (AUC)")
    assert rows["frames counted"] == ("15", "20", "15")
    names = [row[0] for row in compare_rules.differing_conventions(rules)]
    assert "statistic" in names and "overlap_thresholds" not in names


# AUC of the PyTorch tracker with the released parameters, as published with the sequences.
PUBLISHED = {
    "David": 0.732, "Crossing": 0.786, "Bird2": 0.771, "Man": 0.824, "Skiing": 0.444, "Girl": 0.758,
    "Freeman1": 0.631, "DragonBaby": 0.641, "Deer": 0.780, "Dog": 0.610, "Subway": 0.685,
    "vot15_bag": 0.672,
}  # fmt: skip


def test_the_golden_boxes_score_what_the_yardstick_scored(data_dir, tmp_path):
    for file in (Path(__file__).parents[1] / "golden/pytorch").glob("*.txt"):
        # without its comment
        (tmp_path / file.name).write_text(file.read_text().partition("\n")[2])
    runs = find_results(tmp_path, datasets.load_dataset(data_dir / "sequences"))
    pairs = [(run.sequence, run.found.boxes) for run in runs]
    found = {sequence.name: scores(boxes, sequence.boxes).success for sequence, boxes in pairs}
    assert {name: round(value, 3) for name, value in found.items()} == pytest.approx(
        PUBLISHED, abs=0.0011
    )
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    low, high = (f"{end:.3f}"[1:] for end in mean_interval(list(found.values())))
    assert f"`pytorch` | .694 | {low} to {high} |" in readme
    for sequence, _ in pairs:
        assert scores(sequence.boxes, sequence.boxes).success == pytest.approx(20 / 21, abs=1e-12)
