"""Sequences of which only the first frame has ground truth, as in test splits.

They are tracked whole, and never scored.
"""

import json

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.evaluation import protocols, results, tune

COUNT = 9
WORDS = "of which only the first frame has ground truth"


def write_set(root, whole):
    """Sequences of GOT-10k's layout; whole: which of them are annotated."""
    for number, annotated in enumerate(whole):
        frames, boxes = make_sequence(np.random.default_rng(number), COUNT, 96, 72, (24, 18))
        form = {"name": "{:08d}.jpg", "images": ".", "truth": "groundtruth.txt"}
        write_sequence(root / f"S_{number}", frames, boxes if annotated else boxes[:1], **form)
        (root / f"S_{number}" / "meta_info.ini").write_text("[METAINFO]\n")
    (root / "attributes.json").write_text(json.dumps({"S_1": ["SV"], "S_2": ["SV", "FM"]}))
    return root


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A test split."""
    return write_set(tmp_path_factory.mktemp("split"), [False, False])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One sequence of a test split between two that are annotated."""
    return write_set(tmp_path_factory.mktemp("mixed"), [True, False, True])


@pytest.mark.parametrize("rules", ["otb", "got10k"])
def test_a_test_split_is_tracked_and_not_scored(split, tmp_path, dcfnet, rules):
    for sequence in datasets.load_dataset(split):
        assert sequence.boxes.shape == (COUNT, 4) and np.isnan(sequence.boxes[1:]).all()
        assert not protocols.is_annotated(sequence)
    out, trackers = tmp_path / "out", ("identity", "gray-dcf")
    words = ["--trackers", ",".join(trackers), "--rules", rules, "--out", out]
    code, printed, err = dcfnet("eval", split, *words)
    assert (code, err) == (0, "")
    table = [line.split() for line in printed.splitlines()]
    assert table[1] == ["identity", *"-------"] and table[2] == ["gray-dcf", *"-------"]
    assert table[5] == ["S_0", "-", "-"]
    line = f"no score for 2 of 2 sequences, {WORDS}: S_0, S_1\n{out / 'got10k'} has the files for"
    assert line in printed
    for tracker in trackers:
        for name in ("S_0", "S_1"):
            folder = out / "got10k" / tracker / name
            boxes = np.loadtxt(folder / f"{name}_001.txt", delimiter=",")
            assert boxes.shape == (COUNT, 4)
            assert np.loadtxt(folder / f"{name}_time.txt").shape == (COUNT,)
            given = np.loadtxt(split / name / "groundtruth.txt", delimiter=",")
            np.testing.assert_allclose(boxes[0], given, atol=1e-3)
            assert (boxes[1:] == boxes[0]).all() == (tracker == "identity")
    found = results.load_results(out)
    assert found["unscored"] == ["S_0", "S_1"]
    for facts in found["trackers"].values():
        for scores in (facts["scores"], *facts["sequences"].values()):
            assert scores["frames"] == 0
            assert {scores[name] for name in ("success", "op", "dp", "cle", "overlap")} == {None}
        assert facts["attributes"] == {}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"No score for 2 of 2 sequences, {WORDS}" in page and 'id="plots"' not in page


@pytest.mark.parametrize("protocol", ["tre", "vot"])
def test_a_mixed_folder_scores_what_is_annotated(mixed, tmp_path, dcfnet, protocol):
    words = ["--trackers", "identity,gray-dcf", "--protocol", protocol]
    code, printed, err = dcfnet("eval", mixed, *words, "--out", tmp_path / "all")
    assert (code, err) == (0, "") and f"no score for 1 of 3 sequences, {WORDS}: S_1" in printed
    words += ["--sequences", "S_0,S_2", "--out", tmp_path / "two"]
    assert dcfnet("eval", mixed, *words)[0] == 0
    every, two = (results.load_results(tmp_path / name) for name in ("all", "two"))
    assert (every["unscored"], two["unscored"]) == (["S_1"], [])
    for label, facts in every["trackers"].items():
        alone = two["trackers"][label]
        for key in ("vot", "scores", "mean", "attributes", "interval", "to_first"):
            assert facts.get(key) == alone.get(key)
        unscored = facts["sequences"].pop("S_1")
        assert facts["sequences"] == alone["sequences"]
        measures = ("accuracy", "failures") if protocol == "vot" else ("success", "cle")
        assert all(unscored[measure] is None for measure in measures)
    page = (tmp_path / "all/report.html").read_text(encoding="utf-8")
    assert f"No score for 1 of 3 sequences, {WORDS}: S_1" in page and 'id="plots"' in page


def test_score_and_verify(split, mixed, tmp_path, dcfnet):
    out = tmp_path / "out"
    assert dcfnet("eval", mixed, "--trackers", "gray-dcf", "--out", out)[0] == 0
    expected = results.load_results(out)["trackers"]["gray-dcf"]["scores"]["success"]
    for folder in ("boxes/gray-dcf", "got10k/gray-dcf"):
        code, printed, err = dcfnet("score", out / folder, mixed)
        score = printed.splitlines()[1].split()[1]
        assert (code, err) == (0, "") and float(score) == pytest.approx(expected, abs=1e-3)
        assert printed.splitlines()[-1] == f"no score for 1 of 3 sequences, {WORDS}: S_1"
    assert dcfnet("verify", out) == (0, "3 results, all equal to the byte\n", "")
    assert dcfnet("eval", split, "--trackers", "identity", "--out", tmp_path / "split")[0] == 0
    with pytest.raises(ValueError, match="no score for 2 of 2 sequences"):
        results.load_scored_results(tmp_path / "split")
    code, printed, _ = dcfnet("score", tmp_path / "split/boxes/identity", split, "--explain")
    assert code == 0 and "nan" not in printed
    row = printed.splitlines()[1].split()
    assert row == ["success", "-", "(AUC)", "-", "(AO)", "-", "(AUC)", "-", "(AUC)"]


def test_tune(mixed, tmp_path, dcfnet):
    words = ["tune", mixed, "--out", tmp_path / "tune", "--search", "num_scales=1|3", "--trials", 1]
    code, _, err = dcfnet(*words)
    advice = "S_1 has no ground truth after its first frame; leave it out by --sequences"
    assert code == 2 and advice in err and not (tmp_path / "tune").exists()


def test_starts_that_lead_nowhere_do_not_count(tmp_path):
    """A target that is annotated in the first half alone: later starts have nothing to score."""

    def starts(hidden, name, **options):
        frames, boxes = make_sequence(np.random.default_rng(0), 60, 96, 72, (24, 18))
        boxes[hidden] = np.nan
        write_sequence(tmp_path / name / "a", frames, boxes)
        config = tune.SearchConfig("num_scales=1|3", "default:input_size=47", **options)
        sequences = datasets.load_dataset(tmp_path / name)
        with tune.PresetSearch(config, sequences, tmp_path / f"out_{name}") as search:
            return [segment.start for _, segment in search.runs[0]]

    assert starts(slice(31, None), "half", starts=4, frames=12) == [0, 7, 15, 23]
    alone = [*range(20, 33), *range(34, 60)]
    assert starts(alone, "alone", starts=4, frames=12) == [0, 5, 10, 15]
    assert starts(alone, "every", starts=21) == list(range(20))
    assert starts(alone, "short", starts=21, frames=12) == list(range(19))
