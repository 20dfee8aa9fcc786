"""The moving picture of the README: the demo's clip with its box, and the response beside it.

    python benchmarks/studies/moving_picture.py docs/_static/demo.webp

Needs the extra `demo`, for the clip.
"""

import sys

import cv2
import numpy as np

import dcfnet_np
from dcfnet_np.commands.common import demo_clip
from dcfnet_np.vision.draw import draw_box

BOX = (64, 30, 46, 64)  # the face in the first frame: x, y, w, h, pixels, 0-based
ZOOM = 2  # the clip is 176x144


def picture(frame, result):
    """The frame with its box beside the response, (height, width, 3) uint8 BGR."""
    large = cv2.resize(frame, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    large = draw_box(large, [value * ZOOM for value in result.box], thickness=2)
    side = len(large)
    heights = np.clip(255 * result.response / 0.8, 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(heights, cv2.COLORMAP_VIRIDIS)
    return np.hstack([large, cv2.resize(colours, (side, side))])


def main(path):
    tracker = dcfnet_np.Tracker(weights="light", device="cpu")
    pictures = []
    with dcfnet_np.open_source(demo_clip()) as frames:
        for number, frame in enumerate(frames):
            if number == 0:
                tracker.init(frame, BOX)
            else:
                result = tracker.update(frame, response=True)
                if number % 2 == 0:
                    pictures.append(picture(frame, result))
    animation = cv2.Animation()
    animation.frames = pictures
    animation.durations = [67] * len(pictures)  # milliseconds: the clip's speed
    animation.loop_count = 0  # for ever
    if not cv2.imwriteanimation(path, animation, [cv2.IMWRITE_WEBP_QUALITY, 60]):
        sys.exit(f"{path}: OpenCV could not write it")
    print(f"wrote {path}: {len(pictures)} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
