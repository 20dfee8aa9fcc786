"""Scores of the packaged weights beside the same networks with random weights: the table of the
model card.

    python benchmarks/score_weights.py --out FILE.json [--weights light conv1] [--preset pytorch]
    [--device auto]

Tracks every sequence of $DCFNET_DATA/<set> once, from its first box, and prints the OTB success AUC
(21 thresholds, mean over sequences).  Random weights are those that training starts from: He's
times `initial_scale`, seeds 0 to 4. On a GPU `DeviceStep` tracks, which gives the boxes of
`Tracker` (tests/test_device_tracker.py)."""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

import dcfnet_np
from dcfnet_np import network, weights
from dcfnet_np.backend import select_device
from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.support.machine import describe_gpu
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou
from dcfnet_np.vision.sources import open_source

ROOT = Path(__file__).parent.parent
SEEDS = range(5)


def random_weights(trained: weights.Weights, seed: int) -> weights.Weights:
    scale = np.float32(trained.training["config"]["initial_scale"])
    parameters = {
        name: p * scale for name, p in network.initialise(trained.architecture, seed).items()
    }
    return weights.Weights(
        trained.architecture, parameters, "bgr", trained.mean, {}, f"random, seed {seed}"
    )


def success_auc(
    used: weights.Weights, preset: str, device: str, frames: list, truth: np.ndarray
) -> float:
    boxes = [truth[0]]
    if device == "cuda":
        step = DeviceStep(used, preset, frames[0].shape)
        step.start(frames[0], truth[:1])
        boxes += [step.step(frame)[0, :4].copy() for frame in frames[1:]]
    else:
        tracker = Tracker(used, preset, "cpu")
        tracker.init(frames[0], truth[0])
        boxes += [tracker.update(frame).box for frame in frames[1:]]
    overlap = iou(np.array(boxes), truth[: len(boxes)])
    overlap = overlap[~np.isnan(overlap)]
    return float(np.mean([(overlap > threshold).mean() for threshold in np.linspace(0, 1, 21)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", nargs="+", default=["pytorch"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", default="sequences")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=weights.packaged_weights(),
        choices=weights.packaged_weights(),
    )
    args = parser.parse_args()
    if "DCFNET_DATA" not in os.environ:
        sys.exit("score_weights: set DCFNET_DATA to the folder with sequences/ or validation/")
    folder = Path(os.environ["DCFNET_DATA"]) / args.set
    device = select_device(args.device).kind
    videos = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        with open_source(str(path)) as source:
            videos[path.name] = (list(source), np.array(source.boxes))

    git = subprocess.run(
        ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, cwd=ROOT
    )
    report = {
        "set": args.set,
        "device": describe_gpu(select_device(args.device).index)
        if device == "cuda"
        else platform.processor() or "cpu",
        "version": dcfnet_np.__version__,
        "commit": git.stdout.strip() if git.returncode == 0 else "not a git checkout",
        "scores": [],
    }
    for name in args.weights:
        trained = weights.load_weights(name)
        for preset in args.preset:
            for used in (trained, *(random_weights(trained, seed) for seed in SEEDS)):
                scores = {
                    video: success_auc(used, preset, device, *videos[video]) for video in videos
                }
                mean = float(np.mean(list(scores.values())))
                report["scores"].append(
                    {
                        "architecture": name,
                        "weights": used.name,
                        "preset": preset,
                        "mean": mean,
                        "auc": scores,
                    }
                )
                print(f"{name:8s} {preset:10s} {used.name:16s} {mean:.4f}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
