"""How well peak and PSR tell that the target is gone, and what the preset `careful` does
about it.

    python benchmarks/loss_roc.py VALIDATION_DIR DEVELOPMENT_DIR [--json FILE] [--plot FILE.svg]
    [--cores N]

Absence has a ground truth: in three stretches of each sequence the target's box is filled with the
texture beside it. Thresholds come from the first folder alone; the second one says what they are
worth.  Packaged `light`."""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcfnet_np import datasets
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou

MEASURES = ("score", "psr")
STATES = ("tracking", "unsure", "lost")
FALSE_ALARMS = 0.005  # of the frames in which the box is right: what a threshold may cost
THRESHOLDS = np.linspace(0, 1, 21)  # of overlap, OTB's


class Frames(NamedTuple):
    """What was seen in the frames of one run, without the first."""

    absent: np.ndarray  # (n,) bool: the target was cut out
    before: np.ndarray  # overlap in the last frame with the target
    overlap: np.ndarray
    measures: np.ndarray  # (n, 3)
    state: np.ndarray  # index into STATES


def cut_out(frame: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """A copy of the frame without the target: its box and a tenth around it show what is beside it."""
    height, width = frame.shape[:2]
    x, y, w, h = box
    corners = np.clip([x - 0.1 * w, y - 0.1 * h, x + 1.1 * w, y + 1.1 * h], 0, [width, height] * 2)
    left, top, right, bottom = np.rint(corners).astype(int)
    image, w, h = frame.copy(), right - left, bottom - top
    for dx, dy in ((w, 0), (-w, 0), (0, h), (0, -h)):
        if 0 <= left + dx and right + dx <= width and 0 <= top + dy and bottom + dy <= height:
            image[top:bottom, left:right] = frame[top + dy : bottom + dy, left + dx : right + dx]
            return image
    image[top:bottom, left:right] = frame.mean((0, 1))
    return image


def absences(count: int) -> np.ndarray:
    """(count,) bool: three stretches of up to 25 frames."""
    absent = np.zeros(count, bool)
    for start in (count // 4, count // 2, 3 * count // 4):
        absent[start : start + min(25, count // 8)] = True
    return absent


def run(job: tuple[str, str, str, bool]) -> Frames:
    """Track a sequence: folder, name, preset, whether to cut the target out."""
    root, name, preset, cut = job
    (sequence,) = datasets.load_dataset(root, [name])
    absent = absences(len(sequence)) if cut else np.zeros(len(sequence), bool)
    tracker = Tracker(preset=preset, device="cpu")
    rows, before = [], 1.0
    tracker.init(sequence.frame(0), sequence.boxes[0])
    for index in range(1, len(sequence)):
        frame, box = sequence.frame(index), sequence.boxes[index]
        result = tracker.update(cut_out(frame, box) if absent[index] else frame)
        overlap = float(iou(result.box, box))
        before = before if absent[index] else overlap
        rows.append([before, overlap, result.score, result.psr, STATES.index(result.state)])
    table = np.array(rows)
    return Frames(absent[1:], table[:, 0], table[:, 1], table[:, 2:4], table[:, 4])


def join(runs: Sequence[Frames]) -> Frames:
    return Frames(*(np.concatenate(parts) for parts in zip(*runs)))


def right(frames: Frames) -> np.ndarray:
    """The target is there and the box is on it."""
    return ~frames.absent & (frames.overlap >= 0.5)


def gone(frames: Frames) -> np.ndarray:
    """It was followed until it was cut out."""
    return frames.absent & (frames.before >= 0.5)


def area(good: np.ndarray, bad: np.ndarray) -> float:
    """Area under the ROC: how often a good frame's measure is above a bad one's."""
    ranks = np.concatenate([good, bad]).argsort().argsort()[: len(good)]
    return float((ranks.sum() - len(good) * (len(good) - 1) / 2) / (len(good) * len(bad)))


def success(runs: Sequence[Frames]) -> float:
    """OTB's AUC over the frames with the target, the first left out, mean over sequences.

    Only for runs in which the target is cut out: whole sequences are scored elsewhere.
    """
    overlaps = [frames.overlap[~frames.absent] for frames in runs]
    return float(np.mean([(overlap[:, None] > THRESHOLDS).mean() for overlap in overlaps]))


def behaviour(runs: Sequence[Frames]) -> dict[str, float | None]:
    """What a preset did; None where there was nothing to notice."""
    frames = join(runs)
    unsure = frames.state > 0
    drift = ~frames.absent & (frames.overlap < 0.2)
    return {
        "false_alarms_per_1000": 1000 * float(unsure[right(frames)].mean()),
        "called_lost_per_1000": 1000 * float((frames.state == 2)[right(frames)].mean()),
        "absent_noticed": float(unsure[gone(frames)].mean()) if gone(frames).any() else None,
        "drift_noticed": float(unsure[drift].mean()) if drift.any() else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("validation")
    parser.add_argument("development")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    os.environ["DCFNET_CORES"] = "1"  # a sequence on each core
    report: dict = {}
    curves = {}
    with multiprocessing.get_context("spawn").Pool(args.cores) as pool:
        for name, root in (("validation", args.validation), ("development", args.development)):
            names = [sequence.name for sequence in datasets.load_dataset(root)]

            def runs(
                preset: str, cut: bool, root: str = root, names: list[str] = names
            ) -> list[Frames]:
                return pool.map(run, [(root, each, preset, cut) for each in names], chunksize=1)

            cut = runs("default", True)
            curves[name] = join(cut)
            careful_cut = runs("careful", True)
            report[name] = {
                "default_cut": {"auc": success(cut)},
                "careful": behaviour(runs("careful", False)),
                "careful_cut": {"auc": success(careful_cut)} | behaviour(careful_cut),
            }
    frames = curves["validation"]
    report["thresholds"] = {
        measure: float(np.quantile(frames.measures[right(frames), i], FALSE_ALARMS))
        for i, measure in enumerate(MEASURES)
    }
    for name, frames in curves.items():
        for i, measure in enumerate(MEASURES):
            good, bad = frames.measures[right(frames), i], frames.measures[gone(frames), i]
            threshold = report["thresholds"][measure]
            report[name][measure] = {
                "area": area(good, bad),
                "false_alarms_per_1000": 1000 * float((good < threshold).mean()),
                "noticed": float((bad < threshold).mean()),
            }
        report[name]["frames"] = {
            "right": int(right(frames).sum()),
            "gone": int(gone(frames).sum()),
        }
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    print(text, end="")
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    if args.plot:
        plot(curves, report["thresholds"], args.plot)


def plot(curves: dict[str, Frames], thresholds: dict[str, float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axis, (name, frames) in zip(axes, curves.items()):
        for i, measure in enumerate(MEASURES):
            good, bad = (
                np.sort(frames.measures[right(frames), i]),
                np.sort(frames.measures[gone(frames), i]),
            )
            at = np.unique(np.concatenate([good, bad]))
            alarms, noticed = (
                np.searchsorted(good, at) / len(good),
                np.searchsorted(bad, at) / len(bad),
            )
            label = {"score": "peak", "psr": "PSR"}[measure]
            (line,) = axis.plot(alarms, noticed, label=f"{label}, area {area(good, bad):.3f}")
            threshold = thresholds[measure]
            axis.plot(
                (good < threshold).mean(), (bad < threshold).mean(), "o", color=line.get_color()
            )
        axis.set(
            xscale="symlog",
            xlim=(0, 1),
            ylim=(0, 1.02),
            title=name,
            xlabel="false alarms, share of right frames",
        )
        axis.set_xscale("symlog", linthresh=0.01)
        axis.legend(frameon=False, loc="lower right")
    axes[0].set_ylabel("absence noticed, share of frames")
    figure.savefig(path)


if __name__ == "__main__":
    main()
