"""Made-up videos for tests: a textured patch that moves one pixel a frame over a textured background."""

import cv2
import numpy as np

HEIGHT, WIDTH = 48, 64
PATCH = (20, 10, 16, 12)  # x, y, w, h of the patch in the first frame, 0-based


def make_frames(rng, count=5, height=HEIGHT, width=WIDTH):
    """(count, height, width, 3) uint8."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2)
    patch = rng.integers(0, 256, (PATCH[3], PATCH[2], 3), np.uint8)
    for index, frame in enumerate(frames):
        left, top = PATCH[0] + index % 20, PATCH[1] + index % 20
        frame[top : top + PATCH[3], left : left + PATCH[2]] = patch
    return frames


def write_images(folder, frames, name="{:04d}.png", start=1):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start):
        assert cv2.imwrite(str(folder / name.format(number)), frame)


def write_video(path, frames, codec):
    size = (frames[0].shape[1], frames[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20.0, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
