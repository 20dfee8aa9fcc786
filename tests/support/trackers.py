"""Small networks, presets and videos for the tests of tracking, and what a tracker tells."""

import copy
import dataclasses
from pathlib import Path

import cv2
import numpy as np

from dcfnet_np import network
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import from_otb, iou
from dcfnet_np.vision.sources import open_source
from dcfnet_np.weights import Weights

GOLDEN = Path(__file__).parents[1] / "golden"
SEQUENCES = sorted(path.stem for path in (GOLDEN / "pytorch").glob("*.txt"))
SMALL = Preset("small", input_size=45)


def make_weights(architecture="light", order="bgr", seed=3):
    """An untrained network."""
    return Weights(architecture, network.initialise(architecture, seed), channel_order=order)


def make_preset(name, size=31, **changes):
    """A preset on maps of few pixels: every kernel still needs more than one block, or a part."""
    return dataclasses.replace(PRESETS[name], input_size=size, **changes)


def sequence(rng, frames=4, shape=(72, 96)):
    """A textured patch that moves and grows over a smooth background: frames and the first box."""
    noise = rng.integers(60, 160, (6, 8, 3), np.uint8)
    background = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    texture = rng.integers(0, 256, (9, 11, 3), np.uint8)
    images = []
    for t in range(frames):
        image = background.copy()
        w, h = 22 + 2 * t, 18 + 2 * t
        x, y = 30 + 3 * t, 24 + 2 * t
        image[y : y + h, x : x + w] = cv2.resize(texture, (w, h), interpolation=cv2.INTER_LINEAR)
        images.append(image)
    return images, (30.0, 24.0, 22.0, 18.0)


class Watched:
    """A `Tracker` and copies of the last values of every event that it has told."""

    def __init__(self, *settings, **options):
        self.last, self.names = {}, []
        self.tracker = Tracker(*settings, **{"device": "cpu", **options}, observer=self._hear)
        self.init, self.update = self.tracker.init, self.tracker.update

    def _hear(self, name, values):
        self.names.append(name)
        self.last[name] = copy.deepcopy(values)

    @property
    def filter(self):
        return self.last["model"]["filter"]


def same_model(first, second):
    """Whether two filters are the same to the bit."""
    return all(np.array_equal(a, b) for a, b in zip(first.means, second.means, strict=True))


def track_sequence(folder, weights, preset, frames=None, device="auto"):
    """Boxes (n, 4), 0-based, of a run on one sequence."""
    tracker = Tracker(weights, preset, device)
    boxes = []
    with open_source(str(folder), max_frames=frames) as source:
        for frame in source:
            if not boxes:
                tracker.init(frame, source.first_box)
                boxes.append(source.first_box)
            else:
                boxes.append(tracker.update(frame).box)
    return np.array(boxes)


def golden(preset, name):
    """The yardstick's boxes (n, 4), 0-based."""
    return from_otb(np.loadtxt(GOLDEN / preset / f"{name}.txt", delimiter=","))


def parting(boxes, expected):
    """Mean distance of the centres in pixels, and mean overlap."""
    expected = expected[: len(boxes)]
    centres = (boxes[:, :2] + boxes[:, 2:] / 2) - (expected[:, :2] + expected[:, 2:] / 2)
    return np.hypot(*centres.T).mean(), iou(boxes, expected).mean()


def auc(boxes, truth):
    """OTB's success AUC: the share of frames with an overlap above t, t = 0, .05, ..., 1."""
    overlap = iou(boxes, truth)
    return np.mean([(overlap > threshold).mean() for threshold in np.linspace(0, 1, 21)])
