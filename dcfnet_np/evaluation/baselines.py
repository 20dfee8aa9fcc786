"""What our tracker is held against: OpenCV's trackers, hand-made features, the first box kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..presets import PRESETS
from ..tracker import Tracker
from ..vision.boxes import Box

OPENCV = {"csrt": "CSRT", "kcf": "KCF", "mosse": "MOSSE"}
SMALLEST = 6  # pixels of a target that OpenCV's trackers are given


class Unavailable(RuntimeError):
    """A tracker cannot be had here; the message says why and what to do."""


class IdentityTracker:
    """Gives the first box for every frame."""

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._box = box

    def update(self, frame: np.ndarray) -> Box:
        return self._box


class OpenCVTracker:
    """One of OpenCV's trackers.  It takes whole pixels; a failed frame gives None."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._tracker = self._create()
        x, y, w, h = (round(value) for value in box)
        height, width = frame.shape[:2]
        # they need some of the target inside the frame
        left, top = min(max(x, 0), width - SMALLEST), min(max(y, 0), height - SMALLEST)
        right = max(min(x + w, width), left + SMALLEST)
        bottom = max(min(y + h, height), top + SMALLEST)
        self._tracker.init(np.ascontiguousarray(frame), (left, top, right - left, bottom - top))

    def update(self, frame: np.ndarray) -> tuple[float, ...] | None:
        import cv2

        try:
            found, box = self._tracker.update(np.ascontiguousarray(frame))
        except cv2.error:  # some raise where the window leaves the frame
            return None
        return tuple(float(value) for value in box) if found else None


def find_opencv(kind: str) -> Callable[[], Any]:
    """What makes a tracker of OpenCV's, one of OPENCV.  Raises Unavailable with the reason."""
    import cv2

    name = f"Tracker{OPENCV[kind]}"
    for module in (cv2, getattr(cv2, "legacy", None)):
        create = getattr(module, f"{name}_create", None)
        create = create or getattr(getattr(module, name, None), "create", None)
        if create is not None:
            return create
    raise Unavailable(
        f"OpenCV {cv2.__version__} here has no {name}; it is in opencv-contrib-python, "
        "for which `make baselines` makes an environment"
    )


# --- hand-made features

# Constants of the KCF paper's linear (DCF) variants: padding, label, learning rate, lambda over the
# number of elements; scale search and window of the released code.  HOG maps have 63 cells of 4
# pixels, so a window is seen at 252 pixels.  Frozen: no other preset moves them.
HOG_PRESET = dataclasses.replace(
    PRESETS["pytorch"], name="hog-dcf", input_size=63, padding=1.5, lam_divisor="elements",
    learning_rate=0.02, swapped_clamp=False,
)  # fmt: skip
GRAY_PRESET = dataclasses.replace(
    HOG_PRESET, name="gray-dcf", input_size=125, sigma_factor=0.2, learning_rate=0.075
)
FEATURES = {"hog-dcf": HOG_PRESET, "gray-dcf": GRAY_PRESET}


def make_feature_tracker(kind: str) -> Tracker:
    """`Tracker` on hand-made features: "hog-dcf" or "gray-dcf"."""
    features = Hog() if kind == "hog-dcf" else gray
    return Tracker(preset=FEATURES[kind], device="cpu", features=features)


class Hog:
    """`fhog` as the features of a `Tracker`."""

    cell = 4

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        return fhog(patches, self.cell)


def gray(patches: np.ndarray) -> np.ndarray:
    """Gray values of BGR patches, -.5 to .5: (S, 3, N, N), 0..255 -> (S, 1, N, N) float32."""
    weights = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601, as OpenCV has it
    return np.einsum("scij,c->sij", patches, weights)[:, None] / np.float32(255) - np.float32(0.5)


def fhog(patches: np.ndarray, cell: int = 4) -> np.ndarray:
    """Felzenszwalb's HOG: (S, C, N, N) -> (S, 31, N // cell, N // cell) float32.

    Channels: 18 signed orientations, 9 unsigned ones, and 4 with the gradient energy around the
    cell.  Each pixel votes, with its gradient's length, for the nearest of 18 directions in the
    four cells around it, bilinearly; each cell's votes are divided by the energies of the four
    blocks of 2x2 cells that hold it, cut at .2, and summed.
    Source: Felzenszwalb et al., "Object detection with discriminatively trained part-based models",
    PAMI 2010, Sec. 6.
    """
    count, _, height, width = patches.shape
    rows, columns = height // cell, width // cell
    patches = patches[:, :, : rows * cell, : columns * cell].astype(np.float32, copy=False)
    dx, dy = np.zeros_like(patches), np.zeros_like(patches)
    dx[..., 1:-1] = (patches[..., 2:] - patches[..., :-2]) / 2
    dy[..., 1:-1, :] = (patches[..., 2:, :] - patches[..., :-2, :]) / 2
    # Of the colours, the one with the longest gradient.
    strongest = (dx**2 + dy**2).argmax(axis=1)[:, None]
    dx = np.take_along_axis(dx, strongest, axis=1)[:, 0]
    dy = np.take_along_axis(dy, strongest, axis=1)[:, 0]
    length = np.hypot(dx, dy)
    direction = np.rint(np.arctan2(dy, dx) * (18 / (2 * np.pi))).astype(np.intp) % 18

    # Votes.  A pixel at y lies (y + .5) / cell - .5 cells from the middle of cell 0; cells outside
    # take no votes.
    low_row, high_row, low_row_weight = _bins(rows * cell, cell)
    low_column, high_column, low_column_weight = _bins(columns * cell, cell)
    histogram = np.zeros(count * 18 * (rows + 2) * (columns + 2), np.float32)
    base = (np.arange(count)[:, None, None] * 18 + direction) * (rows + 2)
    for row, row_weight in ((low_row, low_row_weight), (high_row, 1 - low_row_weight)):
        for column, column_weight in (
            (low_column, low_column_weight),
            (high_column, 1 - low_column_weight),
        ):
            index = (base + row[:, None]) * (columns + 2) + column
            votes = length * (row_weight[:, None] * column_weight)
            histogram += np.bincount(index.ravel(), votes.ravel(), histogram.size).astype(
                np.float32
            )
    signed = histogram.reshape(count, 18, rows + 2, columns + 2)[:, :, 1:-1, 1:-1]
    unsigned = signed[:, :9] + signed[:, 9:]

    # Energies of 2x2 blocks of cells; at the border a cell stands for its missing neighbours.
    energy = np.pad((unsigned**2).sum(axis=1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    block = energy[:, :-1, :-1] + energy[:, :-1, 1:] + energy[:, 1:, :-1] + energy[:, 1:, 1:]
    scale = 1 / np.sqrt(block + np.float32(1e-4))
    out = np.zeros((count, 31, rows, columns), np.float32)
    corners = (scale[:, :-1, :-1], scale[:, :-1, 1:], scale[:, 1:, :-1], scale[:, 1:, 1:])
    for number, corner in enumerate(corners):
        cut = np.minimum(signed * corner[:, None], 0.2)
        out[:, :18] += 0.5 * cut
        out[:, 18:27] += 0.5 * np.minimum(unsigned * corner[:, None], 0.2)
        out[:, 27 + number] = 0.2357 * cut.sum(axis=1)
    return out


def _bins(size: int, cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel the two nearest cells, counted from 1 so that 0 lies outside, and the weight
    of the first.
    """
    position = (np.arange(size) + 0.5) / cell - 0.5
    low = np.floor(position)
    return (
        low.astype(np.intp) + 1,
        low.astype(np.intp) + 2,
        (1 - (position - low)).astype(np.float32),
    )
