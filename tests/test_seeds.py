"""The table over the seeds of a recipe, from a real `dcfnet eval` of untrained networks."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import network, weights

ROOT = Path(__file__).parent.parent


@pytest.fixture
def seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("seeds")
    sys.modules.pop("seeds", None)


def test_means_and_ranges(seeds, tmp_path, dcfnet):
    for number in range(2):
        scene = make_sequence(np.random.default_rng(number), 6, 96, 72, (20, 16), growth=1.03)
        write_sequence(tmp_path / f"set/grow{number}", *scene)
    trackers = ["released=dcfnet:light:default:input_size=47"]
    for name in ("conv1-dilation-1", "conv1-dilation-12"):
        file, seed = tmp_path / f"{name}.h5", int(name.split("-")[-1])
        weights.save_weights(
            file, weights.Weights("conv1-dilation", network.initialise("conv1-dilation", seed=seed))
        )
        trackers.append(f"{name}=dcfnet:{file}:default:input_size=47")
    out = tmp_path / "out"
    assert dcfnet("eval", tmp_path / "set", "--trackers", ",".join(trackers), "--out", out)[0] == 0

    page = tmp_path / "page.md"
    page.write_text(f"before\n{seeds.MARKS[0]}\nold\n{seeds.MARKS[1]}\nafter\n")
    assert (
        seeds.main([str(out), str(out), "--json", str(tmp_path / "s.json"), "--page", str(page)])
        == 0
    )
    found = json.loads((out / "results.json").read_text())["trackers"]
    content, again = json.loads((tmp_path / "s.json").read_text())["evaluations"]
    labels = {"released": ["released"], "conv1-dilation": ["conv1-dilation-1", "conv1-dilation-12"]}
    assert content["networks"].keys() == labels.keys() and content == again
    for name, each in labels.items():
        assert [one["auc"] for one in content["networks"][name]] == [
            found[label]["scores"]["success"] for label in each
        ]
    a, b = sorted(
        found[label]["sequences"]["grow0"]["success"] for label in labels["conv1-dilation"]
    )
    assert a != b
    text = page.read_text()
    assert (
        f"| {(a + b) / 2:.3f} ({a:.3f} to {b:.3f}) |" in text
        and "old" not in text
        and str(tmp_path) not in text
    )
    assert text.startswith(f"before\n{seeds.MARKS[0]}\n") and text.endswith(
        f"\n{seeds.MARKS[1]}\nafter\n"
    )
    assert text.count("| released | conv1-dilation, 2 seeds |") == 2  # a table for each folder
    auc = {name: facts["scores"]["success"] for name, facts in found.items()}
    assert (
        f", conv1-dilation-12 {auc['conv1-dilation-12']:.3f}. Presets:" in text
        and ", OPE, " in text
    )

    page.write_text("no marks\n")
    (tmp_path / "s.json").unlink()
    with pytest.raises(SystemExit):
        seeds.main([str(out), "--json", str(tmp_path / "s.json"), "--page", str(page)])
    assert not (tmp_path / "s.json").exists() and page.read_text() == "no marks\n"


def test_a_folder_without_results_is_refused(seeds, tmp_path, capsys):
    with pytest.raises(SystemExit):
        seeds.main([str(tmp_path)])
    assert "results.json" in capsys.readouterr().err
