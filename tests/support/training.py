"""Small things to train on: sequences, crops, a tiny network, and runs."""

import json

import cv2
import numpy as np

from dcfnet_np import network
from dcfnet_np.network import Conv, Lrn, Relu
from dcfnet_np.ops.fourier import rfft2
from dcfnet_np.train import loop, plain_step
from dcfnet_np.train.config import Config
from dcfnet_np.train.prepare import Window, prepare_crops

SIZE = 24  # of the crops here; 20 x 20 feature maps
WINDOW = Window(size=SIZE)
# LRN with an alpha near 1, so that its cross-channel term counts.
TINY = (Conv(3, 4), Relu(), Conv(4, 3), Lrn(n=3, k=1.0, alpha=0.8, beta=0.75))


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


def write_sequence(folder, frames=6, seed=0):
    """A textured square moving over noise, 1-based boxes; frame numbers in the file names."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 120, (60, 80, 3), np.uint8)
    texture = cv2.resize(rng.integers(100, 256, (5, 5, 3), np.uint8), (16, 20))
    (folder / "img").mkdir(parents=True)
    rows = []
    for index in range(frames):
        x, y = 20 + 2 * index, 15 + index
        frame = background.copy()
        frame[y : y + 20, x : x + 16] = texture
        cv2.imwrite(str(folder / "img" / f"{1 + index:05d}.png"), frame)
        rows.append(f"{x + 1},{y + 1},16,20\n")
    (folder / "groundtruth_rect.txt").write_text("".join(rows))
    return folder


def whiten(folder, number, value=254):
    """A frame that shows next to nothing: 4 x 4 pixels, one grey level darker than their ground."""
    frame = np.full((60, 80, 3), 255, np.uint8)
    frame[25:29, 28:32] = value
    assert cv2.imwrite(str(folder / "img" / f"{number:05d}.png"), frame)


def write_crops(root, frames=8, white=(), window=WINDOW):
    """crops.h5 of ant, bee and cat, each with a frame more; the digest of its name holds bee out.

    white: (sequence, frame) that show next to nothing.
    """
    for seed, name in enumerate(("ant", "bee", "cat")):
        write_sequence(root / name, frames + seed, seed)
    for name, number in white:
        whiten(root / name, number)
    counts = prepare_crops(
        [root / name for name in ("ant", "bee", "cat")], root / "crops.h5", window
    )
    assert counts == {"crops": 3 * frames + 3}
    return root / "crops.h5"


def config(**changes):
    settings = {"epochs": 3, "batch": 5, "lr_end": 1e-3, "validation_pairs": 6, "seed": 7}
    return Config(**(settings | changes))


def train(crops, settings, out, *, processes=None, **options):
    """RUN_DIR of a run on the CPU; options as in RunOptions."""
    more = {} if processes is None else {"processes": processes}
    options = loop.RunOptions(**({"device": "cpu"} | options))
    return loop.train(crops, settings, out, options, **more).parent


def read_log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def random_step(rng, dtype=np.float64, n=3, size=(13, 12)):
    """Images, parameters and an asymmetric random label, which sees a wrong conjugate."""
    images = rng.standard_normal((2 * n, 3, *size)).astype(dtype)
    parameters = network.initialise(TINY, 5, dtype)
    for value in parameters.values():
        value += 0.1 * rng.standard_normal(value.shape)
    label = rng.standard_normal((size[0] - 4, size[1] - 4)).astype(dtype)
    return images, parameters, plain_step.Objective(label, rfft2(label), None, 0.3)
