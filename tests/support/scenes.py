"""Made-up videos for tests: a textured patch that moves one pixel a frame over a textured
background.
"""

import struct

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


def write_video(path, frames, codec, like=None):
    """like: a frame of their size, where `frames` is a generator."""
    like = frames[0] if like is None else like
    size = (like.shape[1], like.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20.0, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def promise_more_frames(path, factor):
    """Make the header of a whole .mkv tell of `factor` times as many frames, as where the sound is
    longer.
    """
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # the duration: its name and width, then a double
    struct.pack_into(">d", data, at, factor * struct.unpack_from(">d", data, at)[0])
    path.write_bytes(data)


def make_sequence(
    rng, count=30, width=160, height=120, size=(36, 28), step=(1.7, 0.9), growth=1.004, jump=None
):
    """A textured target on a textured background: frames (count, height, width, 3) and its exact
    boxes (count, 4).

    The target moves by `step` pixels a frame, bounces off the edges and grows by the factor
    `growth`; it is drawn with subpixel accuracy, so the boxes (x, y, w, h; 0-based) are exact.
    From frame `jump` on it is at the opposite place.
    """
    texture = cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 1.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    background = cv2.GaussianBlur(rng.integers(60, 200, (height, width, 3), np.uint8), (0, 0), 3)
    frames, boxes = np.empty((count, height, width, 3), np.uint8), np.empty((count, 4))
    free = np.array([width, height]) - np.array(size) * growth**count - 4
    for index in range(count):
        w, h = np.array(size) * growth**index
        x, y = 2 + np.abs((np.array([10, 8]) + np.array(step) * index + free) % (2 * free) - free)
        if jump is not None and index >= jump:
            x, y = width - w - x, height - h - y
        # Pixel centres of the texture, -.5 .. 63.5, go to the box's edges, x - .5 .. x + w - .5.
        matrix = np.array([[w / 64, 0, x - 0.5 + w / 128], [0, h / 64, y - 0.5 + h / 128]])
        warped = cv2.warpAffine(texture, matrix, (width, height), flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(
            np.ones((64, 64), np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR
        )
        frames[index] = warped * (mask > 0.5)[..., None] + background * (mask <= 0.5)[..., None]
        boxes[index] = x, y, w, h
    return frames, boxes


def write_sequence(
    folder, frames, boxes, name="{:04d}.jpg", images="img", truth="groundtruth_rect.txt", origin=1
):
    """A sequence folder; by default OTB's.  Boxes may be polygons, 8 numbers a row."""
    write_images(folder / images, frames, name)
    shift = origin * (np.array([1, 1, 0, 0]) if boxes.shape[1] == 4 else 1)
    np.savetxt(folder / truth, boxes + shift, fmt="%.4f", delimiter=",")
