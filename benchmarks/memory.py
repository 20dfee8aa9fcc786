"""Peak memory of tracking and of a training step, each in a process of its own, and how long
imports take.

    python benchmarks/memory.py [SEQUENCE] [--json FILE]

SEQUENCE: a folder with ground truth, `$DCFNET_DATA/sequences/David` by default, else made-up
frames."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SETUP = """
import resource, sys
import numpy as np
def report():
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
FRAMES = """
import dcfnet_np
from dcfnet_np.vision.sources import open_source
def frames():
    if SEQUENCE:
        yield from open_source(SEQUENCE, 60)
    else:
        rng = np.random.default_rng(0)
        yield from (rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(60))
"""
TRACKER = """
tracker = None
for frame in frames():
    if tracker is None:
        tracker = MAKE
        tracker.init(frame, (128, 79, 64, 78))
    else:
        tracker.update(frame)
"""
STEP = "from dcfnet_np import bench\nbench.TURNS = 2\nbench.training('conv1', with_torch=False)\n"
TORCH_STEP = (
    "from dcfnet_np import network\nfrom dcfnet_np.vision.windows import gaussian_label\n"
    "from dcfnet_np.yardstick.torch_train_step import make_step\n"
    "images = np.random.default_rng(0).uniform(-100, 100, (32, 3, 125, 125)).astype(np.float32)\n"
    "step = make_step(images, list(network.initialise('conv1', 0).values()), gaussian_label((121, 121), 5.0))\n"
    "for _ in range(3): step()\n"
)
CASES = {
    "an interpreter with NumPy": "",
    "importing the tracker": "import dcfnet_np.tracker\n",
    "... and loading weights": "import dcfnet_np\ndcfnet_np.load_weights('light')\n",
    "... and making a tracker": "import dcfnet_np\ndcfnet_np.Tracker('light', 'pytorch', 'cpu')\n",
    "decoding the frames": FRAMES + "for frame in frames(): pass\n",
    "tracking, light": FRAMES
    + TRACKER.replace("MAKE", "dcfnet_np.Tracker('light', 'pytorch', 'cpu')"),
    "tracking, conv1": FRAMES
    + TRACKER.replace("MAKE", "dcfnet_np.Tracker('conv1', 'pytorch', 'cpu')"),
    "training step, conv1, 16 pairs": STEP,
    "PyTorch: import": "import torch\n",
    "PyTorch: training step, conv1, 16 pairs": TORCH_STEP,
}
IMPORTS = ("import numpy", "import numpy, dcfnet_np", "import numpy, dcfnet_np.tracker")


def peak_mb(script: str, sequence: str) -> float:
    script = f"{SETUP}SEQUENCE = {sequence!r}\n{script}report()\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


def seconds(statement: str) -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequence", nargs="?", default="")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    david = Path(os.environ.get("DCFNET_DATA", "nowhere")) / "sequences" / "David"
    sequence = args.sequence or (str(david) if david.is_dir() else "")
    report: dict = {
        "frames": Path(sequence).name if sequence else "made up",
        "peak_mb": {},
        "import_seconds": {},
    }
    print("peak memory, MB, and above an interpreter with NumPy")
    base = 0.0
    for name, script in CASES.items():
        try:
            peak = peak_mb(script, sequence)
        except RuntimeError as error:
            print(f"  {name:42s} skipped: {error}")
            continue
        base = base or peak
        report["peak_mb"][name] = peak
        print(f"  {name:42s} {peak:7.1f} {peak - base:+8.1f}")
    print("start, s, the best of 7")
    for statement in IMPORTS:
        report["import_seconds"][statement] = seconds(statement)
        print(f"  {statement:42s} {report['import_seconds'][statement]:7.3f}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
