"""What `make gpu` runs on a GPU runs here on the stand-in, on small arrays and a few times: it must
not fail.

test_make_gpu.py has the recipe itself.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import pathlib
import signal
import sys

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu

from dcfnet_np import backend, bench, bench_kernels, kernels, network
from dcfnet_np.fast.device_step import DeviceStep
from dcfnet_np.kernels import compile as compiling
from dcfnet_np.presets import PRESETS
from dcfnet_np.train.config import Config
from dcfnet_np.train.device_step import DeviceSteps
from dcfnet_np.weights import Weights

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
SIZE = 15  # of everything


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The stand-in for a GPU, where nothing is repeated; a preset "small"."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    preset = dataclasses.replace(PRESETS["default"], name="small", input_size=SIZE)
    monkeypatch.setitem(PRESETS, "small", preset)
    for module, values in (
        (bench_kernels, {"LAUNCHES": 1, "REPLAYS": 1, "COPIED": 1 << 12, "STEPS": 1}),
        (bench, {"TURNS": 1, "BATCH": 1, "SIZE": SIZE, "STEPS": 1, "ARCHITECTURE": "light"}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def script(monkeypatch):
    """A module of benchmarks/ by its name; with words, what its `main` returns for these arguments."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name, *words):
        module = importlib.import_module(name)
        for constant in {"WARM_UP", "RUNS"} & set(dir(module)):
            monkeypatch.setattr(module, constant, 1)
        if not words:
            return module
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        return module.main()

    yield load
    for name in ("gpu_kernels", "gpu_tracking", "gpu_training", "floors"):
        sys.modules.pop(name, None)


def test_bench_on_a_gpu(dcfnet, tmp_path, monkeypatch):
    """`dcfnet bench --device cuda` where there is neither data nor the demo's clip."""

    def files(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "files", files)
    monkeypatch.setenv("DCFNET_COMMIT", "0123abc")
    words = (
        "--device",
        "cuda",
        "--preset",
        "small",
        "--frames",
        3,
        "--json",
        tmp_path / "bench.json",
    )
    code, out, err = dcfnet("bench", *words)
    assert code == 0, err
    report = json.loads((tmp_path / "bench.json").read_text())
    assert set(report["environment"]) > {
        "device",
        "driver",
        "driver_cuda",
        "runtime",
        "cupy",
        "numpy",
        "commit",
    }
    assert report["environment"]["device"] == "stand-in" and report["environment"]["commit"]
    assert "scikit-video" in report["made_up"] and report["tracking"]["fps"] > 0
    assert report["training"]["pairs_per_second"] > 0
    measured = report["kernels"]
    costs = {
        "tracking": bench_kernels.tracking_costs("light", "small"),
        "training float32": bench_kernels.training_costs("light", 1, SIZE, 0.1 * SIZE / 3),
    }
    costs["training TF32"] = costs["training float32"]
    assert list(measured) == ["ceiling", *costs] and all(
        value > 0 for value in measured["ceiling"].values()
    )
    for title, expected in costs.items():
        rows = measured[title]["stages"]
        assert [row["stage"] for row in rows] == [cost.kernel for cost in expected]
        assert [(row["flops"], row["bytes"]) for row in rows] == [
            (cost.flops, cost.bytes) for cost in expected
        ]
        assert all(row["us"] > 0 for row in rows) and measured[title]["us"] > 0
        assert measured[title]["floor_us"] == pytest.approx(sum(row["floor_us"] for row in rows))
        table = out[out.index(title + "  ") :]
        for row in rows:
            assert row["floor_us"] > 0 or row["stage"] == "search: move"
            assert row["stage"] in table
    assert (
        "times the floor" in out
        and "frames   made up; the demo's clip" in out
        and "stand-in" in out
    )


def test_a_floor_is_the_larger_of_two_times():
    ceiling = bench_kernels.Ceiling(flops=2e6, bytes=1e6, tf32=8e6)
    assert ceiling.floor_us(bench_kernels.Cost("a", flops=6, bytes=1, tf32=True), tf32=False) == 3
    assert ceiling.floor_us(bench_kernels.Cost("a", flops=6, bytes=1, tf32=True), tf32=True) == 1
    assert ceiling.floor_us(bench_kernels.Cost("a", flops=6, bytes=1), tf32=True) == 3
    assert ceiling.floor_us(bench_kernels.Cost("a", flops=6, bytes=5), tf32=False) == 5


def test_bench_says_what_kernels_do_not_do(dcfnet, tmp_path, monkeypatch):
    frames, box = bench.made_up_frames(2)
    config, crops = Config(arch="light", batch=1), np.zeros((2, 3, SIZE, SIZE), np.uint8)
    weights = Weights("light", network.initialise("light", 3))
    monkeypatch.setattr(cuda_on_cpu.Device, "compute_capability", "75")
    report = bench_kernels.measure(frames, box, weights, "careful", crops, config, 0)
    assert "do not know" in report["tracking"]["skipped"] and report["training float32"]["stages"]
    printed = bench_kernels.text(report)
    assert "tracking: not measured; DeviceStep: the kernels do not know" in printed
    assert "training TF32: not measured; this GPU has no TF32" in printed
    monkeypatch.setenv("DCFNET_KERNELS", "0")
    code, out, _ = dcfnet("bench", "--device", "cuda", "--preset", "small", "--frames", 2)
    assert code == 0 and "kernels: not measured; DCFNET_KERNELS=0" in out and "training" not in out


def test_bench_without_a_gpu_is_one_line(dcfnet, monkeypatch):
    monkeypatch.setattr(backend, "_load_cupy", lambda: (None, 0, "there is none"))
    code, out, err = dcfnet("bench", "--device", "cuda")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "there is none" in err


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
    core.Program(getattr(bench_kernels, code), "c++", options).compile(
        "cubin", name_expressions=(code.lower(),)
    )


def test_every_kernel_of_the_benchmark_is_right(script, capsys):
    bench_module = script("gpu_kernels")
    conv = bench_module.conv
    bench = bench_module.Bench(backend.cupy(), bench_kernels.Ceiling(1e12, 1e12, 4e12), None)
    bench_module.bench_forward(bench, 2, 3, 32, 1, True, [conv.FEW], size=21)
    bench_module.bench_forward(bench, 1, 8, 32, 1, False, [conv.FEW], size=11, normalise=True)
    bench_module.bench_input_gradient(bench, 1, 8, 4, 0, [conv.LARGE], size=13)
    bench_module.bench_weight_gradient(
        bench, 1, 8, 4, 0, [conv.WeightTile(4, 16, 8, 1, 2)], [7], 13
    )
    bench_module.bench_lrn(bench, 1, 9, True, False, [8])
    bench_module.bench_lrn(bench, 1, 9, False, True, [8])
    for inverse in (False, True):
        bench_module.bench_dft(bench, 3, 21, 5, inverse)
    bench_module.bench_dcf(bench, 2, 3, 9, 3)
    bench_module.bench_images(bench, 2, 15)
    bench_module.bench_sgd(bench, 33)
    bench_module.bench_tf32(bench, 1, 9, 5, 13)
    assert bench.wrong == 0, capsys.readouterr().out
    assert len(bench.rows) == 17 and all(
        row["us"] > 0 and row["floor_us"] > 0 for row in bench.rows
    )


def test_what_was_measured_before_an_error_is_kept(script, tmp_path):
    saving, report, before = (
        script("gpu_kernels").saving,
        {"fps": 1},
        signal.getsignal(signal.SIGTERM),
    )
    try:
        with (
            pytest.raises(SystemExit, match="out of time"),
            saving(tmp_path / "new" / "a.json", report),
        ):
            report["more"] = 2
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    want = {"fps": 1, "more": 2, "cut_off": "SystemExit: out of time"}
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == want


def test_kernels(script, tmp_path, monkeypatch, capsys):
    """All of gpu_kernels.py but its sizes; and what it compiles, though not in processes, which
    have no stand-in.
    """
    module, asked = script("gpu_kernels"), []
    monkeypatch.setattr(module, "bench_all", lambda bench, *tiles: module.bench_sgd(bench, 33))
    monkeypatch.setattr(module, "in_parallel", asked.extend)
    assert script("gpu_kernels", "--quick", "--json", tmp_path / "kernels.json") == 0
    report = json.loads((tmp_path / "kernels.json").read_text())
    assert [row["kernel"] for row in report["rows"]] == ["sgd"] and report["environment"][
        "device"
    ] == "stand-in"
    assert set(report["ceiling"]) == {"flops", "bytes", "tf32"}
    assert {file for file, _ in asked} == {"conv.cu", "dft.cu", "lrn.cu"}
    asked.clear()
    assert script("gpu_kernels", "--compile") == 0
    assert asked == [
        (file, name) for file, names in kernels.expressions().items() for name in names
    ]
    assert f"{len(asked)} kernels compiled" in capsys.readouterr().out
    asked.clear()
    monkeypatch.setattr(cuda_on_cpu, "__version__", "13.6.0")
    assert script("gpu_kernels", "--compile") == 0
    assert asked == [] and "CuPy 13.6.0 compiles templates anew" in capsys.readouterr().out


def test_tracking(script, tmp_path):
    words = ("--weights", "random:light", "--preset", "small", "--targets", 1, 2, "--check", 2)
    words = (*words, "--seconds", 0.02, "--max-frames", 3, "--out", tmp_path / "tracking.json")
    assert script("gpu_tracking", *words) == 0
    report = json.loads((tmp_path / "tracking.json").read_text())
    assert report["correctness"]["agree"] and report["correctness"]["frames"] == 2
    assert set(report["fps"]) == {
        *(f"{targets} targets, {how}" for targets in (1, 2) for how in ("graph", "launches")),
        *("Tracker", "Tracker, frames on the GPU"),
    }
    assert all(row["fps"] > 0 for row in report["fps"].values())
    assert set(report["stages"]) == {"1", "2"} and len(report["stages"]["2"]["stages"]) == 13
    assert report["goals"]["frames per second of one target, upload included"]["figure"] > 0
    assert report["environment"]["device"] == "stand-in"


def test_training(script, tmp_path, monkeypatch):
    module = script("gpu_training")
    monkeypatch.setattr(module.make_crops, "__defaults__", (6, SIZE))
    words = (
        "--arch",
        "light",
        "--batch",
        1,
        "--seconds",
        0.02,
        "--out",
        tmp_path / "training.json",
    )
    assert script("gpu_training", *words) == 0
    report = json.loads((tmp_path / "training.json").read_text())
    light = report["light"]
    assert light["correctness"]["agree"], light["correctness"]
    for where in ("resident", "streamed"):
        for how in ("graph", "launches"):
            for precision in ("float32", "tf32"):
                assert light[f"{where}, {how}, {precision}"]["pairs_per_s"] > 0
    assert set(light["floor_pairs_per_s"]) == {"float32", "tf32"}
    assert set(light["goals"]) == {
        "light: times PyTorch in float32",
        "light: times PyTorch in tf32",
    }
    crops = module.make_crops(6, 23)
    assert np.array_equal(module.draw(crops, 2, 1), module.draw(crops, 2, 1))


def test_goals(script):
    rows = script("gpu_tracking").goals({"a": (3, 2), "b": (None, 1), "c": (1, 2)})
    assert [row["met"] for row in rows.values()] == [True, None, False]


@pytest.mark.parametrize("arch", sorted(network.ARCHITECTURES))
def test_costs_know_every_stage(script, arch):
    weights = Weights(arch, network.initialise(arch, 3))
    step = DeviceStep(
        weights, dataclasses.replace(PRESETS["paper"], input_size=31), (40, 50), targets=2
    )
    costs = bench_kernels.tracking_costs(arch, step.preset, 2)
    assert [cost.kernel for cost in costs] == [stage.name for stage in step.stages]
    trainer = DeviceSteps(Config(arch=arch, batch=1), np.zeros((2, 3, 23, 23), np.uint8))
    training = bench_kernels.training_costs(arch, 1, 23)
    assert [cost.kernel for cost in training] == [stage.name for stage in trainer.stages(0.0)]
    assert all(cost.flops > 0 or cost.kernel.endswith("pack") for cost in training)
    assert all(cost.bytes > 0 for cost in training)
    assert "| all |" in script("floors").table(training)


def test_the_documentation_shows_these_floors(script):
    floors, text = (
        script("floors"),
        (FOLDER.parent / "docs" / "reference" / "kernels.md").read_text(),
    )
    assert floors.table(bench_kernels.tracking_costs("light", "default")) in text
    assert floors.table(bench_kernels.training_costs("conv1", 16)) in text
