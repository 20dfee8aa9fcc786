"""Remake the golden boxes of tests/golden with the PyTorch yardstick (`make parity`), of all
sequences or of those named.

    DCFNET_DATA=/path python benchmarks/parity.py [SEQUENCE ...]

Needs torch and opencv; nothing of dcfnet_np is used. Each golden file holds one sequence's boxes,
1-based `x,y,w,h` rows as the OTB result files, under a header with its provenance.
"""

import os
import platform
import sys
from pathlib import Path

import cv2
import numpy as np

try:
    import torch
    from yardstick.torch_dcfnet import TorchTracker
except ImportError as error:
    sys.exit(f"parity: {error}; pip install torch")

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
# (preset, weights, sequences; None: all of them). The yardstick's "paper" is the released codes'
# update rule with the paper's constants, so only its score is compared, on David.
RUNS = [
    ("pytorch", "param.pth", None),
    ("paper", "DCFNet-dataset-3-net-21-loss-1-epoch-50.mat", ("David",)),
]


def boxes_of(sequence: Path, weights: Path, preset: str) -> list[np.ndarray]:
    truth = (sequence / "groundtruth_rect.txt").read_text().replace(",", " ")
    first = np.loadtxt(truth.splitlines(), max_rows=1)
    frames = [cv2.imread(str(path)) for path in sorted((sequence / "img").glob("*.jpg"))]
    tracker = TorchTracker(weights, preset)
    tracker.init(frames[0], first - [1, 1, 0, 0])
    return [first, *(np.add(tracker.update(frame), [1, 1, 0, 0]) for frame in frames[1:])]


def main() -> None:
    if "DCFNET_DATA" not in os.environ:
        sys.exit("parity: set DCFNET_DATA to the folder with sequences/ and weights/")
    data = Path(os.environ["DCFNET_DATA"])
    wanted = sys.argv[1:]
    about = f"torch {torch.__version__.split('+')[0]}, opencv {cv2.__version__}"
    for preset, weights, only in RUNS:
        for truth in sorted((data / "sequences").glob("*/groundtruth_rect.txt")):
            name = truth.parent.name
            if (wanted and name not in wanted) or (only and name not in only):
                continue
            boxes = boxes_of(truth.parent, data / "weights" / weights, preset)
            target = GOLDEN / preset / f"{name}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            where = f"{about}, {platform.machine()} CPU"
            header = f"benchmarks/parity.py, preset {preset}, {weights}; {where}"
            np.savetxt(target, boxes, fmt="%.4f", delimiter=",", header=header)
            print(target.relative_to(GOLDEN.parent.parent), len(boxes))


if __name__ == "__main__":
    main()
