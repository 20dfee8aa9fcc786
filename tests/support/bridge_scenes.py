"""The videos that the toolkits' tests share: a textured target of 48x36 pixels that moves three
pixels a frame.
"""

import cv2
import numpy as np
import scenes

LENGTH, WIDTH, HEIGHT = 12, 336, 192


def make_scene(jump=None):
    """(LENGTH, HEIGHT, WIDTH, 3) uint8 BGR and boxes (LENGTH, 4), 0-based; at frame `jump` the
    picture is mirrored.
    """
    small = scenes.make_frames(np.random.default_rng(2017), LENGTH, HEIGHT // 3, WIDTH // 3)
    frames = np.stack(
        [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for frame in small]
    )
    x, y, w, h = scenes.PATCH
    boxes = 3.0 * np.array([(x + i, y + i, w, h) for i in range(LENGTH)])
    if jump is not None:
        frames[jump:] = frames[jump:, :, ::-1].copy()
        boxes[jump:, 0] = WIDTH - boxes[jump:, 0] - boxes[jump:, 2]
    return frames, boxes


def tracked(frames, box):
    """Boxes of `Tracker` itself, (n, 4), the first the given one."""
    from dcfnet_np import Tracker

    tracker = Tracker("light", "default", device="cpu")
    tracker.init(frames[0], box)
    return np.array([box] + [tracker.update(frame).box for frame in frames[1:]])
