"""Generated hard input, and a hundred thousand frames, with what came of it in a file.

    python benchmarks/robustness.py [--scale S] [--frames N] [--json FILE] [--only inputs|frames]

Inputs are those of tests/support/hard_input.py, in batches, each in a process of its own; frames go through
`Tracker` and through `dcfnet track`, which decodes a video and writes boxes and another video.
Exit code 1 for a bug or for memory that grows by more than 5 MB between frame 1,000 and the last.
--scale: 1 is 102,000 inputs.  --json: written after every batch; a run that was cut goes on there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import hard_input  # noqa: E402
import numpy as np  # noqa: E402
from scenes import make_frames, write_video  # noqa: E402

from dcfnet_np import weights  # noqa: E402
from dcfnet_np.support.files import replacing  # noqa: E402
from dcfnet_np.support.machine import describe_machine  # noqa: E402

BATCH = 1000
COUNTS = {
    "boxes": 12_000,
    "results": 8_000,
    "weights .h5": 8_000,
    "weights .mat": 7_000,
    "weights .pth": 7_000,
    "crops.h5": 4_000,
    "data sets": 4_000,
    "images": 3_000,
    "videos": 2_000,
    "track": 2_000,
    "crop": 25_000,
    "MultiTracker": 8_000,
    "Tracker": 12_000,
}
FIRST, MOST_GROWTH = 1000, 5.0  # frames after which memory is taken as settled; MB
TRACK = """
import sys
sys.path.insert(0, {tests!r})
import hard_input
from dcfnet_np import cli, presets
presets.PRESETS["smallest"] = hard_input.SMALLEST
sys.exit(cli.main(sys.argv[1:]))
"""


def inputs(scale: float, folder: Path, report: dict, keep: Callable[[], None]) -> None:
    """All batches that `report` has not, kind by kind; `keep` is called after each."""
    for name, count in COUNTS.items():
        kind = report["kinds"].setdefault(
            name,
            {
                "inputs": 0,
                "batches": 0,
                "ended": {},
                "seconds": 0.0,
                "peak_mb": 0.0,
                "growth_mb_of_a_batch": 0.0,
            },
        )
        for number in range(kind["batches"], -(-max(5, round(count * scale)) // BATCH)):
            batch = hard_input.apart(
                name, min(BATCH, round(count * scale) - number * BATCH), number, folder / name
            )
            kind["ended"] = dict((Counter(kind["ended"]) + Counter(batch["ended"])).most_common())
            kind["inputs"] = sum(kind["ended"].values())
            kind["batches"] = number + 1
            kind["seconds"] = round(kind["seconds"] + batch["seconds"], 1)
            kind["peak_mb"] = max(kind["peak_mb"], batch["peak_mb"])
            kind["growth_mb_of_a_batch"] = max(kind["growth_mb_of_a_batch"], batch["growth_mb"])
            if "bug" in batch:
                report["bugs"].append(batch["bug"])
                print(batch["bug"], file=sys.stderr)
            kinds = report["kinds"]
            report["inputs"] = sum(kinds[each]["inputs"] for each in kinds)
            report["through_readers"] = sum(
                kinds[each]["inputs"] for each in kinds if hard_input.KINDS[each].reads
            )
            keep()
        print(f"{name:14} {kind}", flush=True)


def through_tracker(count: int, folder: Path) -> dict:
    """RSS of this process after FIRST and after `count` frames of `Tracker`."""
    tracker = hard_input.Tracker(hard_input.untrained(), hard_input.SMALLEST, "cpu")
    frames = make_frames(np.random.default_rng(0), 40)
    frames = np.concatenate([frames, frames[::-1]])
    tracker.init(frames[0], (20, 10, 16, 12))
    began, after = time.monotonic(), {}
    for number in range(2, count + 1):
        result = tracker.update(frames[(number - 1) % len(frames)])
        hard_input.good_result(result, frames[0].shape, False)
        if number in (FIRST, count // 2, count):
            after[str(number)] = round(hard_input.rss_mb(), 2)
    return {"frames": count, "seconds": round(time.monotonic() - began, 1), "rss_mb_after": after}


def through_track(count: int, folder: Path) -> dict:
    """RSS of a process of `dcfnet track` when it has written FIRST rows, half of them, and all but
    the last 1 %.
    """
    frames = make_frames(np.random.default_rng(0), 40)
    write_video(
        folder / "in.mp4",
        (frames[min(i % 80, 79 - i % 80)] for i in range(count)),
        "mp4v",
        frames[0],
    )
    weights.save_weights(folder / "network.h5", hard_input.untrained())
    words = [
        sys.executable,
        "-c",
        TRACK.format(tests=str(ROOT / "tests")),
        "track",
        folder / "in.mp4",
    ]
    words += [
        "--box",
        "20,10,16,12",
        "--preset",
        "smallest",
        "--weights",
        folder / "network.h5",
        "--device",
        "cpu",
    ]
    words += ["--save-boxes", folder / "out.csv", "--save-video", folder / "out.mkv"]
    began, after = time.monotonic(), {}
    part, rows = folder / "out.part.csv", -1
    process = subprocess.Popen(
        [str(word) for word in words], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    )
    at = iter([FIRST, count // 2, round(count * 0.99)])
    wanted: int | None = next(at)
    position = 0
    while process.poll() is None:
        time.sleep(0.05)
        if part.exists():
            with open(part, "rb") as stream:
                stream.seek(position)
                data = stream.read()
            position, rows = position + len(data), rows + data.count(b"\n")
        if wanted is not None and rows >= wanted:
            after[str(rows)] = round(hard_input.rss_mb(process.pid), 2)
            wanted = next(at, None)
    boxes = hard_input.read_boxes(folder / "out.csv")
    assert process.returncode == 0 and len(boxes) == count and np.isfinite(boxes).all(), (
        process.returncode,
        len(boxes),
    )
    return {"frames": count, "seconds": round(time.monotonic() - began, 1), "rss_mb_after": after}


def growth(run: dict) -> float:
    first, *_, last = run["rss_mb_after"].values()
    return round(last - first, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--only", choices=("inputs", "frames"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report: dict = {
        "inputs": {"kinds": {}, "bugs": [], "inputs": 0, "through_readers": 0},
        "frames": {},
    }
    if args.json and args.json.exists():
        report |= json.loads(args.json.read_text(encoding="utf-8"))  # goes on where a run was cut
    report |= {
        "date": time.strftime("%Y-%m-%d"),
        "environment": describe_machine(),
        "libc": " ".join(platform.libc_ver()),
    }
    report |= {"hypothesis": version("hypothesis"), "hdf5": hard_input.h5py.version.hdf5_version}

    def keep() -> None:
        if args.json:
            with replacing(args.json) as part:
                part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        if args.only != "frames":
            inputs(args.scale, Path(folder), report["inputs"], keep)
        if args.only != "inputs":
            # windows so small gain nothing by two cores
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            for name in ("Tracker", "track"):
                how = through_tracker if name == "Tracker" else through_track
                run = report["frames"][name] = how(args.frames, Path(folder))
                run["growth_mb"] = growth(run)
                print(f"{name}: {run}", flush=True)
                keep()
    grown = any(run["growth_mb"] > MOST_GROWTH for run in report["frames"].values())
    return int(grown or bool(report["inputs"]["bugs"]))


if __name__ == "__main__":
    sys.exit(main())
