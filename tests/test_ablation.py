"""The paper's ablations, run on a made-up scene with untrained networks."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import network, weights
from dcfnet_np.evaluation import results

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("ablation")
    sys.modules.pop("ablation", None)


def test_both_tables(ablation, tmp_path):
    for number in range(2):
        scene = make_sequence(np.random.default_rng(number), 6, 96, 72, (20, 16), growth=1.03)
        write_sequence(tmp_path / f"set/grow{number}", *scene)
    file = tmp_path / "dilated.h5"
    weights.save_weights(
        file, weights.Weights("conv1-dilation", network.initialise("conv1-dilation", seed=3))
    )
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ablation.MARKS[0]}\nold\n{ablation.MARKS[1]}\nafter\n")
    words = [
        str(tmp_path / "set"),
        "--weights",
        f"conv1-dilation={file}",
        "--preset",
        "default:input_size=47",
    ]
    words += [
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "a.json"),
        "--page",
        str(page),
    ]
    assert ablation.main(words) == 0

    content, found = json.loads((tmp_path / "a.json").read_text()), results.load(tmp_path / "out")
    assert [row["label"] for row in content["networks"]] == ["conv1", "conv1-dilation", "conv2"]
    assert [row["receptive_field"] for row in content["networks"]] == [5, 7, 9]
    assert [row["scales"] for row in content["scales"]] == [1, 3, 5, 7]
    # The file that was named, and the packaged weights for the others.
    digests = {row["network"]: row["weights_digest"] for row in content["networks"]}
    used = {"conv1": "conv1", "conv1-dilation": file, "conv2": "conv2"}
    assert digests == {
        name: weights.parameter_digest(weights.load_weights(each).parameters)
        for name, each in used.items()
    }
    assert {row["network"] for row in content["scales"]} == {"conv1"}
    for row in content["networks"] + content["scales"]:
        facts = found["trackers"][row["label"]]
        settings = facts["settings"]["settings"]
        assert (settings["num_scales"], settings["input_size"]) == (row["scales"], 47)
        assert (row["auc"], row["cle"]) == (
            facts["scores"]["success"],
            facts["scores"]["cle"],
        ) and row["fps"] > 0
        assert row["auc"] == pytest.approx(np.mean(list(row["sequences"].values())))
        assert row["median_cle"] == np.median(
            [facts["sequences"][name]["cle"] for name in row["sequences"]]
        )
    # one scale cannot follow a target that grows
    assert content["scales"][1]["auc"] > content["scales"][0]["auc"]
    assert content["scales"][0]["paper"] == {"op": 0.73, "dp": 0.80, "cle": 18.32, "fps": 89.44}

    text = page.read_text()
    assert text.startswith(f"before\n{ablation.MARKS[0]}\n") and text.endswith(
        f"\n{ablation.MARKS[1]}\nafter\n"
    )
    assert "old" not in text and str(tmp_path) not in text
    one = content["scales"][0]
    assert (
        f"| 1 | {one['auc']:.3f} | {one['op']:.3f} | {one['dp']:.3f} | {one['cle']:.1f} |" in text
    )
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert tables == [14] * 5 + [12] * 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--weights", "conv3=light"],
            "--weights takes NAME=FILE with NAME one of conv1, conv1-dilation, conv2",
        ),
        (["--weights", "conv2"], "--weights takes NAME=FILE"),
        (["--weights", "conv2=light"], "--weights conv2=light: the file holds the network light"),
        (["--weights", "conv2=none.h5"], "'none.h5' is neither a file nor a packaged name"),
        (["--page", "none.md"], "none.md"),
    ],
)
def test_wrong_words(ablation, words, message, capsys):
    with pytest.raises(SystemExit):
        ablation.main(["nowhere", *words])
    assert message in capsys.readouterr().err


def test_the_page_has_the_marks(ablation):
    text = (FOLDER.parent / "docs/results/ablation.md").read_text(encoding="utf-8")
    assert text.count(ablation.MARKS[0]) == text.count(ablation.MARKS[1]) == 1
