"""`dcfnet bench` measures and reports; how fast is for the machine to say, so no time is asserted
here.
"""

import json

import cv2
import pytest
from scenes import make_frames

from dcfnet_np.bench import cpu, report
from dcfnet_np.bench.costs import Ceiling
from dcfnet_np.support.machine import usable_cores
from dcfnet_np.weights import load_weights

STAGES = "crop conv1 relu2 conv2 LRN transform response inverse peak update"


@pytest.fixture
def folder(tmp_path, rng):
    for number, frame in enumerate(make_frames(rng, 4)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    return tmp_path


def test_the_command(dcfnet, folder, monkeypatch):
    for module, name, value in ((cpu, "TURNS", 1), (cpu, "ROUNDS", 1), (report, "BATCH", 2)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    file, box = folder / "bench.json", ("--box", "20,10,16,12")
    code, printed, _ = dcfnet("bench", folder, *box, "--frames", 3, "--json", file)
    found = json.loads(file.read_text())
    assert code == 0
    for part in ("BLAS", "decode", "fps", "pairs/s", "conv2", "times the floor"):
        assert part in printed
    assert "warning: OPENBLAS_CORETYPE=Prescott forces BLAS" in printed
    assert " ".join(stage["name"] for stage in found["stages"]) == STAGES
    assert all(stage["ms"] > 0 and stage["floor_ms"] > 0 for stage in found["stages"])
    assert ("torch" in found["tracking"]) == (not found["no_torch"])


def test_a_stage_has_its_operations_and_its_floor(rng):
    frames, ceiling = make_frames(rng, 2), Ceiling(1e11, 1e10)
    rows = cpu.measure_stages(frames, (20, 10, 16, 12), load_weights("light"), "pytorch", ceiling)
    row = next(row for row in rows if row["name"] == "conv2")
    # half of two operations a tap, four patches
    assert row["flops"] == 4 * 125 * 125 * 32 * 32 * 9
    assert row["floor_ms"] == pytest.approx(1e3 * row["flops"] / 1e11)


def test_pinned_gives_the_cores_back():
    before = usable_cores()
    with cpu.pinned(1) as cores:
        assert cores == 1 == usable_cores()
    assert usable_cores() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--box", "20,10,16,12", "--frames", 1), "one frame"), (("--frames", 2), "--box")],
)
def test_bad_input_is_one_line(dcfnet, folder, words, said):
    code, out, err = dcfnet("bench", folder, *words)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
