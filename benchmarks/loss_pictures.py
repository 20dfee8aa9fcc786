"""What the preset `careful` does when a target leaves, is hidden, the picture is black, or the
scene changes: pictures.

    python benchmarks/loss_pictures.py FOLDER

Made-up videos, 320x180: a textured disc over a textured background.  Each picture is twelve frames
in order; the box is green while tracking, amber when unsure, red when lost.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.draw import STATES, contact_sheet, draw_box, put_text

WIDTH, HEIGHT, SIDE = 320, 180, 44
FRAMES = 72


class Scene:
    """A background and a disc that can be put anywhere on it."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(90, 150, (12, 20, 3), np.uint8)
        self.background = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self.background = cv2.add(
            self.background, rng.integers(0, 12, self.background.shape, np.uint8)
        )
        self.disc = cv2.resize(
            rng.integers(0, 256, (7, 7, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST
        )
        self.wall = np.full((HEIGHT, 80, 3), (90, 110, 120), np.uint8) + rng.integers(
            0, 40, (HEIGHT, 80, 3), np.uint8
        )

    def draw(self, x: float, y: float) -> np.ndarray:
        """With the disc's corner at (x, y), wherever that is."""
        pad = 2 * SIDE
        image = np.pad(self.background, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        top, left = round(y) + pad, round(x) + pad
        if -pad < y < HEIGHT + SIDE and -pad < x < WIDTH + SIDE:
            inside = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)) < SIDE / 2
            image[top : top + SIDE, left : left + SIDE][inside] = self.disc[inside]
        return np.ascontiguousarray(image[pad : pad + HEIGHT, pad : pad + WIDTH])


def leaving(scene: Scene, t: int) -> np.ndarray:
    """Out on the right, in again lower on the left."""
    return scene.draw(150 + 5 * t, 40) if t < 40 else scene.draw(-44 + 4 * (t - 40), 110)


def hidden(scene: Scene, t: int) -> np.ndarray:
    """Behind a wall."""
    frame = scene.draw(60 + 3 * min(t, 25) + 3 * max(t - 40, 0), 70)
    frame[:, 125:205] = scene.wall
    return frame


def black(scene: Scene, t: int) -> np.ndarray:
    """Twenty black frames, while it moves on."""
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8) if 20 <= t < 40 else scene.draw(40 + 2 * t, 60)


def cut(scene: Scene, t: int) -> np.ndarray:
    """Another scene without it, then the first scene again, where it has gone elsewhere."""
    if 20 <= t < 40:
        return Scene(seed=8).background
    return scene.draw(60 + t, 40) if t < 20 else scene.draw(240 - t, 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    scene = Scene(seed=5)
    for event in (leaving, hidden, black, cut):
        tracker = Tracker(preset="careful", device="cpu")
        corner = {"leaving": (150, 40), "hidden": (60, 70), "black": (40, 60), "cut": (60, 40)}[
            event.__name__
        ]
        tracker.init(event(scene, 0), (*corner, SIDE, SIDE))
        pictures, states = [], []
        for t in range(1, FRAMES + 1):
            frame = event(scene, t)
            result = tracker.update(frame)
            states.append(result.state)
            picture = draw_box(frame, result.box, STATES[result.state], thickness=2)
            text = f"{t}: {result.state}, {result.score:.2f}, {result.psr:.0f}"
            put_text(picture, text, (6, 14), 0.45, (255, 255, 255))
            pictures.append(picture)
        cv2.imwrite(
            str(args.folder / f"loss-{event.__name__}.jpg"),
            contact_sheet(pictures[5::6], columns=4),
            [cv2.IMWRITE_JPEG_QUALITY, 80],
        )
        changes = [t for t in range(1, FRAMES) if states[t] != states[t - 1]]
        print(event.__name__, ", ".join(f"{t + 1}: {states[t]}" for t in [0, *changes]))


if __name__ == "__main__":
    main()
