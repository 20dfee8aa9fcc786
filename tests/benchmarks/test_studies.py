"""The studies that make tables of the pages: run on made-up scenes with untrained networks."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import network, weights
from dcfnet_np.evaluation import results

ROOT = Path(__file__).parents[2]
SMALL = "default:input_size=47"


@pytest.fixture
def study(monkeypatch):
    """A module of benchmarks/studies by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "studies"))
    return importlib.import_module


@pytest.fixture
def scenes(tmp_path):
    """A data set of two targets that grow."""
    for number in range(2):
        scene = make_sequence(np.random.default_rng(number), 6, 96, 72, (20, 16), growth=1.03)
        write_sequence(tmp_path / f"set/grow{number}", *scene)
    return tmp_path / "set"


def untrained(path, seed):
    parameters = network.initialise("conv1-dilation", seed=seed)
    weights.save_weights(path, weights.Weights("conv1-dilation", parameters))
    return path


def make_page(study, tmp_path, name):
    begin, end = study("page").marks(name)
    path = tmp_path / "page.md"
    path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")

    def read():
        """The table; what stood around it is still there."""
        before, rest = path.read_text().split(begin)
        table, after = rest.split(end)
        assert (before, after) == ("before\n", "\nafter\n")
        assert "old" not in table and str(tmp_path) not in table
        return table

    return path, read


def test_ablation(study, scenes, tmp_path):
    file = untrained(tmp_path / "dilated.h5", 3)
    path, read_page = make_page(study, tmp_path, "ablation")
    words = [scenes, "--weights", f"conv1-dilation={file}", "--preset", SMALL]
    words += ["--out", tmp_path / "out", "--json", tmp_path / "a.json", "--page", path]
    assert study("ablation").main([str(word) for word in words]) == 0

    content, found = (
        json.loads((tmp_path / "a.json").read_text()),
        results.load_results(tmp_path / "out"),
    )
    networks, scales = content["networks"], content["scales"]
    assert [row["label"] for row in networks] == ["conv1", "conv1-dilation", "conv2"]
    assert [row["receptive_field"] for row in networks] == [5, 7, 9]
    assert [row["scales"] for row in scales] == [1, 3, 5, 7]
    assert {row["network"] for row in scales} == {"conv1"}
    # The file that was named, and the packaged weights for the others.
    for row, used in zip(networks, ("conv1", file, "conv2")):
        assert row["weights_digest"] == weights.parameter_digest(
            weights.load_weights(used).parameters
        )
    for row in networks + scales:
        facts = found["trackers"][row["label"]]
        settings, scores = facts["settings"]["settings"], facts["scores"]
        assert (settings["num_scales"], settings["input_size"]) == (row["scales"], 47)
        assert (row["auc"], row["cle"]) == (scores["success"], scores["cle"]) and row["fps"] > 0
        assert row["auc"] == pytest.approx(np.mean(list(row["sequences"].values())))
        errors = [facts["sequences"][name]["cle"] for name in row["sequences"]]
        assert row["median_cle"] == np.median(errors)
    assert scales[1]["auc"] > scales[0]["auc"]  # one scale cannot follow a target that grows
    assert scales[0]["paper"] == {"op": 0.73, "dp": 0.80, "cle": 18.32, "fps": 89.44}

    one, table = scales[0], read_page()
    assert f"| 1 | {one['auc']:.3f} | {one['op']:.3f} | {one['dp']:.3f} |" in table
    columns = [line.count("|") for line in table.splitlines() if line.startswith("|")]
    assert columns == [14] * 5 + [12] * 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "conv3=light"], "NAME one of conv1, conv1-dilation, conv2, got 'conv3'"),
        (["--weights", "conv2"], "--weights takes NAME=FILE"),
        (["--weights", "conv2=light"], "--weights conv2=light: the file holds the network light"),
        (["--weights", "conv2=none.h5"], "'none.h5' is neither a file nor a packaged name"),
        (["--page", "none.md"], "none.md"),
    ],
)
def test_ablation_names_wrong_words(study, words, message, capsys):
    with pytest.raises(SystemExit):
        study("ablation").main(["nowhere", *words])
    assert message in capsys.readouterr().err


def test_seeds(study, scenes, tmp_path, dcfnet):
    trackers = [f"released=dcfnet:light:{SMALL}"]
    for name in ("conv1-dilation-1", "conv1-dilation-12"):
        file = untrained(tmp_path / f"{name}.h5", int(name.split("-")[-1]))
        trackers.append(f"{name}=dcfnet:{file}:{SMALL}")
    out, path = tmp_path / "out", make_page(study, tmp_path, "seeds")
    assert dcfnet("eval", scenes, "--trackers", ",".join(trackers), "--out", out)[0] == 0
    words = [out, out, "--json", tmp_path / "s.json", "--page", path[0]]
    assert study("seeds").main([str(word) for word in words]) == 0

    found = json.loads((out / "results.json").read_text())["trackers"]
    content, again = json.loads((tmp_path / "s.json").read_text())["evaluations"]
    assert content == again
    labels = {name: [each["label"] for each in row] for name, row in content["networks"].items()}
    seeds = ["conv1-dilation-1", "conv1-dilation-12"]
    assert labels == {"released": ["released"], "conv1-dilation": seeds}
    a, b = sorted(found[label]["sequences"]["grow0"]["success"] for label in seeds)
    table = path[1]()
    assert a != b and f"| {(a + b) / 2:.3f} ({a:.3f} to {b:.3f}) |" in table
    assert table.count("| released | conv1-dilation, 2 seeds |") == 2  # a table for each folder
    auc = found["conv1-dilation-12"]["scores"]["success"]
    assert f", conv1-dilation-12 {auc:.3f}. Presets:" in table and ", OPE, " in table


def test_nothing_is_written_where_a_part_cannot_be(study, tmp_path, capsys):
    """A page without the lines that hold a table, a folder without results."""
    path = tmp_path / "page.md"
    path.write_text("no marks\n")
    for name, words in (("ablation", ["nowhere"]), ("seeds", [str(tmp_path)])):
        with pytest.raises(SystemExit):
            study(name).main([*words, "--json", str(tmp_path / "s.json"), "--page", str(path)])
    assert not (tmp_path / "s.json").exists() and path.read_text() == "no marks\n"
    error = capsys.readouterr().err
    assert "it must hold" in error and "results.json" in error


@pytest.mark.parametrize(
    ("name", "file"), [("ablation", "results/ablation"), ("seeds", "reference/training")]
)
def test_the_pages_have_the_marks(study, name, file):
    text = (ROOT / f"docs/{file}.md").read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for mark in study("page").marks(name))


def test_growth(study, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    growth = study("growth")
    small = {"SCALES": (1, 3), "SIZES": (15, 31), "TARGETS": (1, 2), "ROUNDS": 3, "ALONE": 1}
    for constant, value in small.items():
        monkeypatch.setattr(growth, constant, value)
    monkeypatch.setattr("sys.argv", ["growth.py", "--plots", str(tmp_path)])
    growth.main()
    assert {path.name for path in tmp_path.iterdir()} == {"speed_growth.svg", "targets.svg"}
