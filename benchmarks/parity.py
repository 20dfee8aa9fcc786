"""Remake the golden boxes of tests/golden with the PyTorch yardstick (`make parity`), of all
sequences or those named.

Needs torch, opencv-python and scipy, and $DCFNET_DATA with the development sequences and the
released weights; the library itself is not used.  Each golden file holds one sequence's boxes,
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

    from dcfnet_np.yardstick.torch_tracker import TorchTracker
except ImportError as error:
    sys.exit(f"parity: {error}; pip install torch")

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
# (preset, weights, sequences; None: all of them).  The yardstick's "paper" is the released codes'
# update rule with the paper's constants, so only its score is compared, on David.
RUNS = [
    ("pytorch", "param.pth", None),
    ("paper", "DCFNet-dataset-3-net-21-loss-1-epoch-50.mat", ("David",)),
]


def main() -> None:
    if "DCFNET_DATA" not in os.environ:
        sys.exit("parity: set DCFNET_DATA to the folder with sequences/ and weights/")
    data = Path(os.environ["DCFNET_DATA"])
    sequences = sorted(path.parent for path in (data / "sequences").glob("*/groundtruth_rect.txt"))
    if len(sys.argv) > 1:
        sequences = [sequence for sequence in sequences if sequence.name in sys.argv[1:]]
    for preset, weights, only in RUNS:
        for sequence in (s for s in sequences if only is None or s.name in only):
            frames = [cv2.imread(str(path)) for path in sorted((sequence / "img").glob("*.jpg"))]
            first = np.loadtxt(
                (sequence / "groundtruth_rect.txt").read_text().replace(",", " ").splitlines(),
                max_rows=1,
            )
            tracker = TorchTracker(data / "weights" / weights, preset)
            tracker.init(frames[0], first - [1, 1, 0, 0])
            boxes = [first] + [tracker.update(frame) + [1, 1, 0, 0] for frame in frames[1:]]
            target = GOLDEN / preset / f"{sequence.name}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            header = (
                f"benchmarks/parity.py, preset {preset}, {weights}; torch {torch.__version__.split('+')[0]}, "
                f"opencv {cv2.__version__}, {platform.machine()} CPU"
            )
            np.savetxt(target, boxes, fmt="%.4f", delimiter=",", header=header)
            print(target.relative_to(GOLDEN.parent.parent), len(boxes))


if __name__ == "__main__":
    main()
