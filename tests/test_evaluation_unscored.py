"""Sequences of which only the first frame has ground truth, as in test splits: tracked whole, and
never scored.
"""

import csv
import json

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.evaluation import protocols, results
from dcfnet_np.evaluation.metrics import RULES

COUNT = 9
WORDS = "of which only the first frame has ground truth"


def write(root, name, whole, seed=0):
    """A sequence of GOT-10k's layout."""
    frames, boxes = make_sequence(np.random.default_rng(seed), COUNT, 96, 72, (24, 18))
    form = {"name": "{:08d}.jpg", "images": ".", "truth": "groundtruth.txt"}
    write_sequence(root / name, frames, boxes if whole else boxes[:1], **form)
    (root / name / "meta_info.ini").write_text("[METAINFO]\n")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A test split."""
    root = tmp_path_factory.mktemp("split")
    for number in range(2):
        write(root, f"Test_{number}", whole=False, seed=number)
    (root / "attributes.json").write_text(json.dumps({"Test_0": ["SV"]}))
    return root


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One sequence of a test split between two that are annotated."""
    root = tmp_path_factory.mktemp("mixed")
    for number in range(3):
        write(root, f"Val_{number}", whole=number != 1, seed=number)
    (root / "attributes.json").write_text(json.dumps({"Val_1": ["SV"], "Val_2": ["SV", "FM"]}))
    return root


def test_all_frames_are_there(split):
    for sequence in datasets.load_dataset(split):
        assert len(sequence) == COUNT and sequence.boxes.shape == (COUNT, 4)
        assert np.isnan(sequence.boxes[1:]).all() and np.isfinite(sequence.boxes[0]).all()
        assert not protocols.is_annotated(sequence)


def test_polygons_of_the_first_frame_alone(tmp_path):
    frames, boxes = make_sequence(np.random.default_rng(0), COUNT, 96, 72, (24, 18))
    x, y, w, h = boxes[:1].T
    polygon = np.column_stack([x, y + h / 3, x + w / 4, y, x + w, y + h / 2, x + w / 2, y + h])
    write_sequence(
        tmp_path / "a", frames, polygon, images="color", truth="groundtruth.txt", origin=0
    )
    (sequence,) = datasets.load_dataset(tmp_path)
    assert sequence.polygons.shape == (COUNT, 8) and np.isnan(sequence.polygons[1:]).all()
    np.testing.assert_allclose(sequence.boxes[0], boxes[0], atol=1e-3)


@pytest.mark.parametrize("rules", list(RULES))
def test_a_test_split_is_tracked_and_not_scored(split, tmp_path, dcfnet, rules):
    out = tmp_path / "out"
    code, printed, err = dcfnet(
        "eval", split, "--trackers", "identity,gray-dcf", "--rules", rules, "--out", out
    )
    assert (code, err) == (0, "")
    table = [line.split() for line in printed.splitlines()]
    assert table[1] == ["identity", *"------"] and table[2] == ["gray-dcf", *"------"]
    assert (
        f"no score for 2 of 2 sequences, {WORDS}: Test_0, Test_1; {out / 'got10k'} has the files for"
        in printed
    )
    for tracker in ("identity", "gray-dcf"):
        for name in ("Test_0", "Test_1"):
            folder = out / "got10k" / tracker / name
            boxes = np.loadtxt(folder / f"{name}_001.txt", delimiter=",")
            assert boxes.shape == (COUNT, 4) and np.loadtxt(folder / f"{name}_time.txt").shape == (
                COUNT,
            )
            np.testing.assert_allclose(
                boxes[0], np.loadtxt(split / name / "groundtruth.txt", delimiter=","), atol=1e-3
            )
            assert (boxes[1:] == boxes[0]).all() == (tracker == "identity")
    found = results.load(out)
    assert found["unscored"] == ["Test_0", "Test_1"]
    for facts in found["trackers"].values():
        for scores in (facts["scores"], *facts["sequences"].values()):
            assert scores["frames"] == 0
            assert all(
                scores[name] is None
                for name in ("success", "op", "dp", "normalised_precision", "cle", "overlap")
            )
        assert facts["attributes"] == {}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"No score for 2 of 2 sequences, {WORDS}" in page and 'id="plots"' not in page


@pytest.mark.parametrize("protocol", ["ope", "tre", "sre", "vot"])
def test_a_mixed_folder_scores_what_is_annotated(mixed, tmp_path, dcfnet, protocol):
    words = ["--trackers", "identity,gray-dcf", "--protocol", protocol]
    code, printed, err = dcfnet("eval", mixed, *words, "--out", tmp_path / "all")
    assert (code, err) == (0, "") and f"no score for 1 of 3 sequences, {WORDS}: Val_1" in printed
    assert (
        dcfnet("eval", mixed, *words, "--sequences", "Val_0,Val_2", "--out", tmp_path / "two")[0]
        == 0
    )
    every, two = results.load(tmp_path / "all"), results.load(tmp_path / "two")
    assert (every["unscored"], two["unscored"]) == (["Val_1"], [])
    key = "vot" if protocol == "vot" else "scores"
    for label, facts in every["trackers"].items():
        alone = two["trackers"][label]
        assert facts[key] == alone[key] and facts.get("mean") == alone.get("mean")
        assert facts.get("attributes") == alone.get("attributes")
        assert {name: facts["sequences"][name] for name in ("Val_0", "Val_2")} == alone["sequences"]
        measures = ("accuracy", "failures") if protocol == "vot" else ("success", "cle")
        assert all(facts["sequences"]["Val_1"][measure] is None for measure in measures)
    page = (tmp_path / "all/report.html").read_text(encoding="utf-8")
    assert f"No score for 1 of 3 sequences, {WORDS}: Val_1" in page and 'id="plots"' in page


def test_vot_without_any_score(split, tmp_path, dcfnet):
    code, printed, err = dcfnet(
        "eval", split, "--trackers", "identity", "--protocol", "vot", "--out", tmp_path / "out"
    )
    assert (code, err) == (0, "") and printed.splitlines()[1].split() == ["identity", *"----"]
    facts = results.load(tmp_path / "out")["trackers"]["identity"]["vot"]
    assert facts["lengths"] == [108, 371] and facts["failures"] is None and facts["eao"] is None


def test_score_and_verify_and_tune(split, mixed, tmp_path, dcfnet):
    out = tmp_path / "out"
    assert dcfnet("eval", mixed, "--trackers", "gray-dcf", "--out", out)[0] == 0
    expected = f"{results.load(out)['trackers']['gray-dcf']['scores']['success']:.4f} (AUC)"
    for folder in ("boxes/gray-dcf", "got10k/gray-dcf"):
        code, printed, err = dcfnet("score", out / folder, mixed)
        assert (code, err) == (0, "") and printed.splitlines()[1].split(maxsplit=1)[1][
            :5
        ] == expected[:5]
        assert printed.splitlines()[-1] == f"no score for 1 of 3 sequences, {WORDS}: Val_1"
    assert dcfnet("verify", out) == (0, "3 results, all equal to the byte\n", "")

    assert dcfnet("eval", split, "--trackers", "identity", "--out", tmp_path / "split")[0] == 0
    code, printed, _ = dcfnet("score", tmp_path / "split/boxes/identity", split, "--explain")
    assert (
        code == 0
        and "nan" not in printed
        and printed.splitlines()[1].split()[1:] == ["-", "(AUC)", "-", "(AO)"] + ["-", "(AUC)"] * 2
    )

    words = [
        "--search",
        "num_scales=1|3",
        "--trials",
        "1",
        "--preset",
        "default:input_size=47",
        "--starts",
        "1",
    ]
    code, _, err = dcfnet("tune", mixed, "--out", tmp_path / "tune", *words)
    assert (
        code == 2
        and "Val_1 has no ground truth after its first frame; leave it out by --sequences" in err
    )
    assert not (tmp_path / "tune").exists()
    words += ["--sequences", "Val_0,Val_2"]
    assert dcfnet("tune", mixed, "--out", tmp_path / "tune", *words)[0] == 0
    (row,) = csv.DictReader((tmp_path / "tune/trials.csv").open())
    assert 0.5 < float(row["score"]) < 1


def test_starts_that_lead_nowhere_do_not_count(split, tmp_path):
    """A target that is annotated in the first half alone: later starts have nothing to score."""
    from dcfnet_np.evaluation import tune

    frames, boxes = make_sequence(np.random.default_rng(0), 60, 96, 72, (24, 18))
    boxes[31:] = np.nan
    write_sequence(tmp_path / "a", frames, boxes)
    config = tune.Config("num_scales=1|3", "default:input_size=47", starts=4, frames=12)
    search = tune.Search(config, datasets.load_dataset(tmp_path), tmp_path / "out")
    assert [segment.start for _, segment in search.runs[0]] == [0, 7, 15, 23]
    boxes[20:] = np.nan
    boxes[33] = 5, 5, 20, 20  # alone
    write_sequence(tmp_path / "a", frames, boxes)
    search = tune.Search(config, datasets.load_dataset(tmp_path), tmp_path / "other")
    assert [segment.start for _, segment in search.runs[0]] == [0, 5, 10, 15]
    for frames, starts in ((None, range(20)), (12, range(19))):
        config = tune.Config("num_scales=1|3", starts=21, frames=frames)
        search = tune.Search(config, datasets.load_dataset(tmp_path), tmp_path / f"out{frames}")
        assert [segment.start for _, segment in search.runs[0]] == list(starts)


def test_benchmarks_refuse_what_has_no_score(split, tmp_path, dcfnet, monkeypatch, capsys):
    import importlib
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    assert dcfnet("eval", split, "--trackers", "identity", "--out", tmp_path / "out")[0] == 0
    with pytest.raises(SystemExit):
        importlib.import_module("seeds").main([str(tmp_path / "out")])
    assert "no score for 2 of 2 sequences" in capsys.readouterr().err
