"""How the cost of a frame grows with scales, input size, cores and targets: JSON and plots.

    python benchmarks/studies/growth.py [--json FILE] [--plots FOLDER]

Frames are made up (their content does not matter); `light`, and the preset `pytorch` but for what
is varied. Many targets are tracked with `default` by one MultiTracker, and by a Tracker each.
--plots writes speed_growth.svg and targets.svg, which docs/results/speed.md and
docs/howto/targets.md show.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dcfnet_np.bench import cpu
from dcfnet_np.presets import get_preset
from dcfnet_np.support.machine import describe_machine
from dcfnet_np.tracker import MultiTracker, Tracker

SCALES, SIZES, CORES = (1, 3, 5, 7), (63, 125, 187, 251), (1, 2)
TARGETS = (1, 2, 4, 8, 16, 32, 64)
ALONE = 8  # single trackers that are run; more of them would cost the same each
ROUNDS = 25


def noise(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def in_turns(ways: dict[Any, Callable[[np.ndarray], Any]], frames: list) -> dict[Any, float]:
    """Median ms of a call for each; all take turns, so that they meet the same load."""
    seconds: dict[Any, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS):
        for way, follow in ways.items():
            began = time.perf_counter()
            follow(frames[number % len(frames)])
            seconds[way].append(time.perf_counter() - began)
    return {way: float(np.median(values[2:]) * 1e3) for way, values in seconds.items()}


def frame_ms(cores: int = 2, **changes: Any) -> float:
    """Of one target."""
    frames = noise(8, 240, 320)
    with cpu.pinned(cores):
        tracker = Tracker("light", dataclasses.replace(get_preset("pytorch"), **changes), "cpu")
        tracker.init(frames[0], (120, 80, 60, 70))
        return in_turns({"": tracker.update}, frames)[""]


def target_ms() -> dict[str, dict[int, float]]:
    """Of a frame and target, over the number of targets."""
    frames, rng = noise(8, 480, 640), np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(20), np.log(120), (max(TARGETS), 2)))
    boxes = np.hstack([rng.uniform(0, 1, sizes.shape) * ((640, 480) - sizes), sizes])
    alone = [Tracker(device="cpu") for _ in range(ALONE)]
    for single, box in zip(alone, boxes):
        single.init(frames[0], box)
    ways: dict[Any, Any] = {0: lambda frame: [single.update(frame) for single in alone]}
    for count in TARGETS:
        together = MultiTracker(device="cpu")
        for box in boxes[:count]:
            together.add(frames[0], box)
        ways[count] = together.update
    with cpu.pinned(2):
        ms = in_turns(ways, frames)
    one_by_one = {ALONE: ms.pop(0) / ALONE}
    return {"together": {n: each / n for n, each in ms.items()}, "one_by_one": one_by_one}


def plot(report: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    labels = {"scales": "scales", "input": "input size, pixels", "cores": "cores"}
    for axis, (name, label) in zip(axes, labels.items()):
        x, y = np.array(list(report[name]), float), np.array(list(report[name].values()))
        # what one more patch, the template's, and the number of pixels let expect
        work = {"scales": x + 1, "input": x**2, "cores": 1 / x}[name]
        known = 0 if name == "cores" else 1  # the point that the others are compared with
        axis.plot(x, y, "o-", label="measured")
        axis.plot(x, y[known] * work / work[known], "--", color="gray", label="as the work")
        axis.set(xlabel=label, ylabel="ms a frame", ylim=(0, None), xticks=x)
    axes[0].legend(frameon=False)
    figure.savefig(folder / "speed_growth.svg")

    figure, axis = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    x, y = zip(*report["targets"]["together"].items())
    axis.plot(x, y, "o-", label="one MultiTracker")
    alone = report["targets"]["one_by_one"][ALONE]
    axis.axhline(alone, color="gray", linestyle="--", label="a Tracker each")
    axis.set(xscale="log", xlabel="targets", ylabel="ms a frame and target", ylim=(0, None))
    axis.set_xticks(TARGETS, [str(count) for count in TARGETS])
    axis.minorticks_off()
    axis.legend(frameon=False)
    figure.savefig(folder / "targets.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    args = parser.parse_args()
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "scales": {n: frame_ms(num_scales=n) for n in SCALES},
        "input": {n: frame_ms(input_size=n) for n in SIZES},
        "cores": {n: frame_ms(cores=n) for n in CORES},
        "targets": target_ms(),
    }
    for name in ("scales", "input", "cores"):
        print(name, ", ".join(f"{n}: {ms:.1f} ms" for n, ms in report[name].items()))
    for name, times in report["targets"].items():
        print(name, ", ".join(f"{n}: {ms:.2f} ms a target" for n, ms in times.items()))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plots:
        plot(report, args.plots)


if __name__ == "__main__":
    main()
