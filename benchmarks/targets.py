"""How the cost of a frame grows with the number of targets: MultiTracker against Trackers.  JSON
and a plot.

    python benchmarks/targets.py [--json FILE] [--plot FILE.svg]

Frames are made up (their content does not matter), 640x480; `light`, preset `default`, two cores.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from dcfnet_np import bench
from dcfnet_np.tracker import MultiTracker, Tracker

TARGETS = (1, 2, 4, 8, 16, 32, 64)
ALONE = 8  # single trackers that are run; more of them would cost the same each
ROUNDS = 25


def measure(frames: list, boxes: np.ndarray) -> dict[str, dict[int, float]]:
    """Median times of a frame over the number of targets, all in turns, so that they meet the same
    neighbours' load.
    """
    together = {count: MultiTracker(device="cpu") for count in TARGETS}
    alone = [Tracker(device="cpu") for _ in range(ALONE)]
    for count, tracker in together.items():
        for box in boxes[:count]:
            tracker.add(frames[0], box)
    for single, box in zip(alone, boxes):
        single.init(frames[0], box)

    def one_by_one(frame: np.ndarray) -> None:
        for single in alone:
            single.update(frame)

    ways = {("together", count): tracker.update for count, tracker in together.items()}
    ways[("one_by_one", ALONE)] = one_by_one
    times: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS):
        for way, follow in ways.items():
            start = time.perf_counter()
            follow(frames[number % len(frames)])
            times[way].append((time.perf_counter() - start) * 1e3 / way[1])
    medians = {way: float(np.median(values[2:])) for way, values in times.items()}
    return {
        name: {way[1]: ms for way, ms in medians.items() if way[0] == name}
        for name in ("together", "one_by_one")
    }


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
        times = measure(frames, boxes)
    print(f"a Tracker each: {times['one_by_one'][ALONE]:.2f} ms a frame and target")
    for count, ms in times["together"].items():
        print(f"one MultiTracker, {count:2} targets: {ms:.2f} ms a frame and target")
    if args.json:
        report = {"machine": bench.machine(), "ms_a_frame_and_target": times}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(times, args.plot)


def plot(times: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    axis.plot(
        list(times["together"]), list(times["together"].values()), "o-", label="one MultiTracker"
    )
    axis.axhline(times["one_by_one"][ALONE], color="gray", linestyle="--", label="a Tracker each")
    axis.set(xscale="log", xlabel="targets", ylabel="ms a frame and target", ylim=(0, None))
    axis.set_xticks(TARGETS, [str(count) for count in TARGETS])
    axis.minorticks_off()
    axis.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
