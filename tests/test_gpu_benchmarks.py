"""What `make gpu` runs on a GPU runs here on the stand-in, on small arrays and with no times: it must not fail."""

import argparse
import dataclasses
import importlib
import pathlib
import sys

import cuda_on_cpu
import numpy as np
import pytest
from kernel_device import on_cpu

from dcfnet_np import backend, network
from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.presets import PRESETS
from dcfnet_np.train.config import Config
from dcfnet_np.weights import Weights

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A module of benchmarks/ by its name, with the stand-in for its GPU; a launch takes one microsecond."""
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    monkeypatch.syspath_prepend(str(FOLDER))
    kernels = importlib.import_module("gpu_kernels")

    def median_us(cp, call):
        call()
        return 1.0

    def load(name):
        module = importlib.import_module(name)
        for attribute, value in (
            ("median_us", median_us),
            ("measure_ceiling", lambda cp: kernels.Ceiling(1e12, 1e12, 4e12)),
        ):
            if hasattr(module, attribute):
                monkeypatch.setattr(module, attribute, value)
        return module

    yield load
    for name in ("gpu_kernels", "gpu_tracking", "gpu_training", "floors"):
        sys.modules.pop(name, None)


def test_every_kernel_of_the_benchmark_is_right(script, capsys):
    bench_module = script("gpu_kernels")
    conv = bench_module.conv
    bench = bench_module.Bench(backend.cupy(), bench_module.Ceiling(1e12, 1e12, 4e12), None)
    bench_module.bench_forward(bench, 2, 3, 32, 1, True, [conv.FEW], size=21)
    bench_module.bench_forward(bench, 1, 8, 32, 1, False, [conv.FEW], size=11, normalise=True)
    bench_module.bench_input_gradient(bench, 1, 8, 4, 0, [conv.LARGE], size=13)
    bench_module.bench_weight_gradient(bench, 1, 8, 4, 0, [conv.WeightTile(4, 16, 8, 1, 2)], [7], 13)
    bench_module.bench_lrn(bench, 1, 9, True, False, [8])
    bench_module.bench_lrn(bench, 1, 9, False, True, [8])
    for inverse in (False, True):
        bench_module.bench_dft(bench, 3, 21, 5, inverse)
    bench_module.bench_dcf(bench, 2, 3, 9, 3)
    bench_module.bench_images(bench, 2, 15)
    bench_module.bench_sgd(bench, 33)
    bench_module.bench_tf32(bench, 1, 9, 5, 13)
    assert bench.wrong == 0, capsys.readouterr().out
    assert len(bench.rows) == 17 and all(row["us"] == 1 and row["floor_us"] > 0 for row in bench.rows)


def test_tracking(script):
    module = script("gpu_tracking")
    frames, box = module.synthetic_frames(4)
    weights = Weights("light", network.initialise("light", 3))
    preset = dataclasses.replace(PRESETS["default"], input_size=31)
    report = module.correctness(weights, preset, frames, box, 2)
    assert report["agree"] and report["frames"] == 2
    rows = module.measure_stages(backend.cupy(), DeviceStep(weights, preset, frames[0].shape))
    assert len(rows) == 13 and all(row["ms"] == 1e-3 for row in rows)
    assert all(row["floor_ms"] > 0 for row in rows if row["stage"] != "search: move")
    fps = module.measure_fps(lambda frame: None, frames, 0.01)
    assert fps["fps"] > 0
    assert module.goals({"a": (3, 2), "b": (None, 1)})["a"]["met"] is True


@pytest.mark.parametrize("arch", sorted(network.ARCHITECTURES))
def test_floors_know_every_stage(script, arch):
    floors = script("floors")
    weights = Weights(arch, network.initialise(arch, 3))
    step = DeviceStep(weights, dataclasses.replace(PRESETS["paper"], input_size=31), (40, 50), targets=2)
    costs = floors.tracking(arch, step.preset, 2)
    assert [cost.kernel for cost in costs] == [stage.name for stage in step.stages]
    training = floors.training(arch, 4, 65)
    assert all(cost.flops > 0 and cost.bytes > 0 for cost in training)
    assert "| all |" in floors.table(training)


def test_training(script):
    module = script("gpu_training")
    crops = module.make_crops(6, 23)
    config = Config(arch="light", batch=2, weight_decay=5e-4, lam=1e-2)
    report = module.correctness(config, crops)
    assert report["agree"], {key: value for key, value in report.items() if "error" in key}
    args = argparse.Namespace(batch=2, seconds=0.01)
    got = module.measure(lambda pairs: None, lambda: None, crops, args)
    assert got["pairs_per_s"] > 0
    assert np.array_equal(module.draw(crops, 2, 1), module.draw(crops, 2, 1))


def test_the_documentation_shows_these_floors(script):
    floors, text = script("floors"), (FOLDER.parent / "docs" / "kernels.md").read_text()
    assert floors.table(floors.tracking("light", "default")) in text
    assert floors.table(floors.training("conv1", 16)) in text
