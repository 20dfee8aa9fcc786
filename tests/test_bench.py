"""`dcfnet bench` measures and reports; how fast is for the machine to say, so no time is asserted
here.
"""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dcfnet_np import bench, cli
from dcfnet_np.support.machine import usable_cores
from dcfnet_np.weights import load_weights


@pytest.fixture
def folder(tmp_path, rng):
    for number in range(4):
        cv2.imwrite(
            str(tmp_path / f"{number}.png"), rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        )
    return tmp_path


def test_the_command(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "TURNS", 1)
    monkeypatch.setattr(bench, "BATCH", 2)
    out = tmp_path / "bench.json"
    assert (
        cli.main(
            ["bench", str(folder), "--box", "40,30,30,25", "--frames", "3", "--json", str(out)]
        )
        == 0
    )
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    for part in ("BLAS", "decode", "fps", "pairs/s", "conv2", "times the floor"):
        assert part in printed
    assert [stage["name"] for stage in report["stages"]] == [
        *(
            "crop",
            "conv1",
            "relu2",
            "conv2",
            "LRN",
            "transform",
            "response",
            "inverse",
            "peak",
            "update",
        )
    ]
    assert all(stage["ms"] > 0 and stage["floor_ms"] > 0 for stage in report["stages"])
    assert ("torch" in report["tracking"]) == (not report["no_torch"])


def test_stages_are_a_frame_of_the_tracker(rng):
    """What is timed stage by stage leaves the model that `update` leaves."""
    frames = [rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(3)]
    rows = bench.tracking_stages(
        frames, (40, 30, 30, 25), load_weights("light"), "pytorch", bench.Ceilings(1e11, 1e10)
    )
    convolution = next(row for row in rows if row.name == "conv2")
    # half of two operations a tap, four patches
    assert convolution.flops == 4 * 125 * 125 * 32 * 32 * 9


def test_a_forced_blas_is_warned_about(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    report = {
        "machine": bench.machine(),
        "weights": "light",
        "preset": "pytorch",
        "device": "cpu",
        "no_torch": "no",
    }
    times = {"median_ms": 1.0, "quartile1_ms": 1.0, "quartile3_ms": 1.0}
    report["tracking"] = {"frames": 2, "ours": times, "fps": 1000.0}
    assert "OPENBLAS_CORETYPE=Prescott" in bench.text(report)


def test_pinned_gives_the_cores_back():
    before = usable_cores()
    with bench.pinned(1) as cores:
        assert cores == 1 == usable_cores()
    assert usable_cores() == before


def test_bad_input_is_one_line(folder, capsys, tmp_path):
    assert cli.main(["bench", str(folder), "--box", "40,30,30,25", "--frames", "1"]) == 2
    assert "one frame" in capsys.readouterr().err
    assert cli.main(["bench", str(folder), "--frames", "2"]) == 2
    assert "--box" in capsys.readouterr().err


def test_the_ladder_runs(monkeypatch, rng):
    """Every version of every step; `patch_steps` compares their results."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    ladder = importlib.import_module("ladder")
    groups = [*ladder.patch_steps().values(), ladder.pair_steps()]
    frames = list(rng.integers(0, 256, (3, 90, 120, 3), dtype=np.uint8))
    groups.append(ladder.frame_steps(frames, (60, 40, 30, 24)))
    for steps in groups:
        assert all(ms > 0 for ms in ladder.in_turns(steps, turns=1).values())
