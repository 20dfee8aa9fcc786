"""Tables of the pages against the committed runs, and these against a run of today."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np import datasets
from dcfnet_np.evaluation import protocols
from dcfnet_np.evaluation.metrics import mean_interval
from dcfnet_np.evaluation.rules import RULES
from dcfnet_np.evaluation.trackers import TrackerSpec, make_tracker

ROOT = Path(__file__).parents[2]
PACKAGED = ("light", "conv1")
ALWAYS_SURE = "default:min_share=0:redetection=0"  # as `default` was then
CAREFUL = "careful (loss.md)"  # a row of docs/results/boxes.md
# rows of docs/results/loss.md
WHOLE = "AUC, nothing cut out: `default` (always sure then), `careful` ([boxes](boxes.md))"
CUT = "AUC with it cut out at times, frames with it but the first: `default`, `careful`"


def committed(name):
    return json.loads((ROOT / "benchmarks/results" / name).read_text(encoding="utf-8"))


def table_row(page, first):
    """Fractions in the last row of a page that begins with this cell."""
    text = (ROOT / page).read_text(encoding="utf-8")
    *_, cells = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", text, re.MULTILINE)
    return [float(number) for number in re.findall(r"(?<![\w.])\d*\.\d+", cells)]


# --- the model card


def rows(architecture):
    """Those of one network with `default`: the packaged weights', and those of random ones."""
    found = committed("weights-sequences.json")["scores"]
    found = [r for r in found if r["architecture"] == architecture and r["preset"] == "default"]
    (packaged,) = (row for row in found if row["weights"] == architecture)
    return packaged, [row for row in found if "random" in row["weights"]]


@pytest.mark.parametrize("architecture", PACKAGED)
def test_the_model_card_says_what_the_committed_run_says(architecture):
    """.63 at least, .10 above five random seeds, and the card's figures are the run's."""
    packaged, random = rows(architecture)
    for row in (packaged, *random):
        scores = list(row["auc"].values())
        assert len(scores) == 12 and row["mean"] == pytest.approx(np.mean(scores))
    means = [row["mean"] for row in random]
    assert len(means) == 5 and packaged["mean"] >= max(0.63, np.mean(means) + 0.10)
    card = table_row("dcfnet_np/data/README.md", f"`{architecture}`")
    assert card[0] == pytest.approx(packaged["mean"], abs=5e-4)
    assert card[-3:] == pytest.approx([np.mean(means), min(means), max(means)], abs=5e-4)


@pytest.mark.parametrize("architecture", PACKAGED)
@pytest.mark.parametrize("name", ["Deer", "Bird2"])
def test_the_committed_run_is_that_of_the_packaged_weights(data_dir, architecture, name):
    """Tracked again: with other weights or settings than the committed run's both sequences score
    otherwise.
    """
    (sequence,) = datasets.load_dataset(data_dir / "sequences", [name])
    (segment,) = protocols.plan_segments(sequence, "ope", RULES["otb"])
    tracker = make_tracker(TrackerSpec("ours", "dcfnet", architecture, ALWAYS_SURE, "cpu"))
    packaged, _ = rows(architecture)
    score = protocols.run_and_score(tracker, sequence, segment, RULES["otb"])
    assert score == pytest.approx(packaged["auc"][name], abs=0.005)


@pytest.mark.parametrize(("first", "tracker"), [
    ("packaged `light`, 51 KB, the default", "light"), ("packaged `conv1`, 91 KB", "conv1"),
    ("the same filter on HOG features", "hog-dcf"), ("CSRT of OpenCV 5.0", "csrt"),
    ("KCF of OpenCV 5.0", "kcf"),
])  # fmt: skip
def test_the_readme_has_the_committed_runs_intervals(first, tracker):
    others = {row["tracker"]: row for row in committed("baselines.json")["scores"]}
    scores = list((others.get(tracker) or rows(tracker)[0])["auc"].values())
    expected = [np.mean(scores), *mean_interval(scores)]
    assert table_row("README.md", first) == pytest.approx(expected, abs=5e-4)


# --- `careful`


def test_the_pages_say_what_the_committed_runs_say():
    options, loss = committed("options.json"), committed("loss.json")
    for name, row in options.items():
        said = table_row("docs/results/boxes.md", name)
        assert said == pytest.approx([row["validation"], row["development"]], abs=5e-4), name
    folders, names = ("validation", "development"), ("default", CAREFUL)
    whole = [options[name][folder] for folder in folders for name in names]
    assert table_row("docs/results/loss.md", WHOLE) == pytest.approx(whole, abs=5e-4)
    cuts = [(folder, name) for folder in folders for name in ("default_cut", "careful_cut")]
    cut = [loss[folder][name]["auc"] for folder, name in cuts]
    said = table_row("docs/results/loss.md", CUT)
    assert said == pytest.approx(cut, abs=5e-4)


def test_whole_sequences_are_scored_in_one_place():
    """Two runs once disagreed on `careful`: one counted the first frames, the other did not."""
    loss = committed("loss.json")
    for folder in ("validation", "development"):
        assert "auc" not in loss[folder]["careful"] and "default" not in loss[folder]
