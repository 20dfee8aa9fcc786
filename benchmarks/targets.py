"""How the cost of a frame grows with the number of targets: one MultiTracker against as many Trackers.  JSON and a plot.

    python benchmarks/targets.py [--json FILE] [--plot FILE.svg]

Frames are made up (their content does not matter), 640x480; `light`, preset `default`, two cores.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from dcfnet_np import bench
from dcfnet_np.multi_tracker import MultiTracker
from dcfnet_np.tracker import Tracker

TARGETS = (1, 2, 3, 4, 8, 16, 32, 64)
SECONDS = 4.0  # a number of targets and a way, at least


def frame_ms(follow: object, frames: list) -> list[float]:
    """Times of updates, without the first two."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 7 or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        follow(frames[len(times) % len(frames)])
        times.append((time.perf_counter() - start) * 1e3)
    return times[2:]


def measure(count: int, frames: list, boxes: np.ndarray) -> dict[str, float]:
    many = MultiTracker(device="cpu")
    alone = [Tracker(device="cpu") for _ in range(min(count, 8))]  # the others would cost the same
    for box in boxes[:count]:
        many.add(frames[0], box)
    for tracker, box in zip(alone, boxes):
        tracker.init(frames[0], box)

    def one_by_one(frame: np.ndarray) -> None:
        for tracker in alone:
            tracker.update(frame)

    together = float(np.median(frame_ms(many.update, frames)))
    return {"together": together / count, "one_by_one": float(np.median(frame_ms(one_by_one, frames))) / len(alone)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(8)]
    sizes = np.exp(rng.uniform(np.log(20), np.log(120), (max(TARGETS), 2)))
    boxes = np.hstack([rng.uniform(0, 1, sizes.shape) * ((640, 480) - sizes), sizes])
    with bench.pinned(2):
        rows = {count: measure(count, frames, boxes) for count in TARGETS}
    for count, row in rows.items():
        print(f"{count:3} targets: {row['together']:.2f} ms each together, {row['one_by_one']:.2f} ms one by one")
    if args.json:
        report = {"machine": bench.machine(), "ms_a_target": rows}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(rows, args.plot)


def plot(rows: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name, label in (("one_by_one", "a Tracker each"), ("together", "one MultiTracker")):
        axis.plot(list(rows), [row[name] for row in rows.values()], "o-", label=label)
    axis.set(xscale="log", xlabel="targets", ylabel="ms a frame and target", ylim=(0, None))
    axis.set_xticks(list(rows), [str(count) for count in rows], minor=False)
    axis.minorticks_off()
    axis.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
