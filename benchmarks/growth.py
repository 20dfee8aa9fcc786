"""How the cost of a frame grows with scales, input size and cores: JSON, and a plot where
matplotlib is installed.

    python benchmarks/growth.py [--json FILE] [--plot FILE.svg]

Frames are made up (their content does not matter); `light`, preset `pytorch` but for what is
varied."""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np

from dcfnet_np import bench
from dcfnet_np.presets import get_preset
from dcfnet_np.tracker import Tracker

SCALES, SIZES, CORES = (1, 3, 5, 7), (63, 125, 187, 251), (1, 2)
FRAMES = 40


def frame_ms(frames: list, cores: int = 2, **changes: object) -> float:
    """Median time of an update."""
    with bench.pinned(cores):
        tracker = Tracker("light", dataclasses.replace(get_preset("pytorch"), **changes), "cpu")
        tracker.init(frames[0], (120, 80, 60, 70))
        times = []
        for frame in frames:
            began = time.perf_counter()
            tracker.update(frame)
            times.append(time.perf_counter() - began)
    return float(np.median(times[5:]) * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(FRAMES)]
    report = {
        "machine": bench.machine(),
        "scales": {n: frame_ms(frames, num_scales=n) for n in SCALES},
        "input": {n: frame_ms(frames, input_size=n) for n in SIZES},
        "cores": {n: frame_ms(frames, cores=n) for n in CORES},
    }
    for name in ("scales", "input", "cores"):
        print(name, ", ".join(f"{n}: {ms:.1f} ms" for n, ms in report[name].items()))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(report, args.plot)


def plot(report: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    labels = {"scales": "scales", "input": "input size, pixels", "cores": "cores"}
    for axis, (name, label) in zip(axes, labels.items()):
        x, y = np.array(list(report[name]), float), np.array(list(report[name].values()))
        axis.plot(x, y, "o-", label="measured")
        if name == "scales":  # one more patch is the template's
            axis.plot(x, y[1] * (x + 1) / 4, "--", color="gray", label="patches")
        elif name == "input":
            axis.plot(x, y[1] * (x / 125) ** 2, "--", color="gray", label="pixels")
        else:
            axis.plot(x, y[0] / x, "--", color="gray", label="1 / cores")
        axis.set(xlabel=label, xticks=x, ylim=(0, None))
        axis.legend(frameon=False)
    axes[0].set_ylabel("ms a frame")
    figure.savefig(path)


if __name__ == "__main__":
    main()
