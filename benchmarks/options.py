"""What each option for better boxes gains and costs: success AUC and time of a frame, over preset
`default`.

    python benchmarks/options.py VALIDATION_DIR DEVELOPMENT_DIR [--json FILE] [--cores N]

Options are judged on the first folder; the second is stated beside it.  Packaged `light`; OPE,
OTB's AUC."""

import argparse
import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
from loss_roc import THRESHOLDS

from dcfnet_np import bench, datasets
from dcfnet_np.presets import get_preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou

DEFAULT = get_preset("default")
OPTIONS: dict[str, dict] = {
    "default": {},
    "subpixel": {"subpixel": True},
    "continuous_scale": {"continuous_scale": True},
    "subpixel and continuous_scale": {"subpixel": True, "continuous_scale": True},
    "5 scales, half the step": {
        "num_scales": 5,
        "scale_step": DEFAULT.scale_step**0.5,
        "scale_penalty": DEFAULT.scale_penalty**0.5,
    },
    "aspect_step 1.02": {"aspect_step": 1.02},
    "second_rate 0": {"second_rate": 0.0},
    "second_rate 0.03": {"second_rate": 0.03},
    "careful (loss.md)": {
        field: getattr(get_preset("careful"), field)
        for field in ("min_score", "min_psr", "redetection", "redetection_psr")
    },
}
ROUNDS = 40


def sequence_auc(job: tuple[str, str, str]) -> float:
    root, name, option = job
    (sequence,) = datasets.load_dataset(root, [name])
    tracker = Tracker(preset=dataclasses.replace(DEFAULT, **OPTIONS[option]), device="cpu")
    tracker.init(sequence.frame(0), sequence.boxes[0])
    overlaps = [1.0]
    for index in range(1, len(sequence)):
        overlaps.append(
            float(iou(tracker.update(sequence.frame(index)).box, sequence.boxes[index]))
        )
    return float((np.array(overlaps)[:, None] > THRESHOLDS).mean())


def frame_ms() -> dict[str, float]:
    """Median times, the options in turns."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(4)]
    trackers = {}
    for name, options in OPTIONS.items():
        trackers[name] = Tracker(preset=dataclasses.replace(DEFAULT, **options), device="cpu")
        trackers[name].init(frames[0], (120, 80, 60, 70))
    times: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for number in range(ROUNDS):
        for name, tracker in trackers.items():
            start = time.perf_counter()
            tracker.update(frames[0 if "careful" in name else number % 4])  # a target that is there
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values[2:])) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("validation")
    parser.add_argument("development")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    with bench.pinned(2):
        milliseconds = frame_ms()
    os.environ["DCFNET_CORES"] = "1"  # a sequence on each core
    rows: dict[str, dict[str, float]] = {name: {"ms": ms} for name, ms in milliseconds.items()}
    with multiprocessing.get_context("spawn").Pool(args.cores) as pool:
        for folder, root in (("validation", args.validation), ("development", args.development)):
            names = [sequence.name for sequence in datasets.load_dataset(root)]
            jobs = [(root, name, option) for option in OPTIONS for name in names]
            scores = np.reshape(
                pool.map(sequence_auc, jobs, chunksize=1), (len(OPTIONS), len(names))
            )
            for row, aucs in zip(rows.values(), scores):
                row[folder] = float(aucs.mean())
    for name, row in rows.items():
        print(f"| {name} | {row['validation']:.3f} | {row['development']:.3f} | {row['ms']:.1f} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
