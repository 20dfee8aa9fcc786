"""Trackers by name, for evaluation: our own, OpenCV's, and correlation filters on hand-made
features.

    dcfnet[:WEIGHTS[:PRESET]]   our tracker; weights are a packaged name or a file, PRESET may be a .json file, and
                                NAME:FIELD=VALUE changes a field
    hog-dcf, gray-dcf           the same tracker on 31-channel HOG, or on gray values, instead of learnt features
    csrt, kcf, mosse            OpenCV's, from opencv-contrib-python
    mil, nano:FOLDER, vit:FILE  OpenCV's; mil draws random numbers by the clock, nano and vit need their model files
    identity                    keeps the first box: what a sequence gives away

`NAME=SPEC` gives a tracker another name.  What is not installed raises `Unavailable`.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import weights
from ..presets import Preset, get_preset, join_preset_text, split_preset_text
from ..tracker import Tracker
from ..vision.boxes import Box
from .protocols import EvaluatedTracker

CONTRIB = ("csrt", "kcf", "mosse")
KINDS = ("dcfnet", "hog-dcf", "gray-dcf", *CONTRIB, "mil", "nano", "vit", "identity")
RANDOM = ("mil",)  # boxes differ from run to run: MIL seeds its random numbers by the clock
SMALLEST = 6  # pixels of a target that OpenCV's trackers are given
NANO_FILES = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")

# Constants of the KCF paper's linear (DCF) variants: padding, label, learning rate, lambda over the
# number of elements; scale search and window of the released code.  HOG maps have 63 cells of 4
# pixels, so a window is seen at 252 pixels.  Frozen: no other preset moves them.
HOG_PRESET = Preset(
    "hog-dcf", input_size=63, padding=1.5, sigma_factor=0.1, lam=1e-4, lam_divisor="elements",
    learning_rate=0.02, num_scales=3, scale_step=1.0275, scale_penalty=0.9925,
    update_rule="averages", update_crop="clamped",
)  # fmt: skip
GRAY_PRESET = dataclasses.replace(
    HOG_PRESET, name="gray-dcf", input_size=125, sigma_factor=0.2, learning_rate=0.075
)


class Unavailable(RuntimeError):
    """A tracker cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class Spec:
    """A tracker by name and settings; `make` builds one.

    label: its name in files and tables.  kind: one of KINDS.  model: weights (dcfnet) or model file
    or folder.
    Raises ValueError for anything else: a label is a part of paths that are written.
    """

    label: str
    kind: str
    model: str = ""
    preset: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in dataclasses.astuple(self)):
            raise ValueError(
                f"tracker settings must be words, got {dataclasses.astuple(self)!r:.80}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"unknown tracker {self.kind[:60]!r}; known: {', '.join(KINDS)}")
        if not re.fullmatch(r"[\w-][\w.-]*", self.label):
            raise ValueError(
                f"tracker name {self.label[:60]!r} must be letters, digits, '_', '-' and '.'"
            )


def parse(text: str, weights: str = "light", preset: str = "default", device: str = "auto") -> Spec:
    """`[NAME=]KIND[:MODEL[:PRESET]]` -> Spec.  weights, preset, device: what a plain `dcfnet`
    takes.

    Raises ValueError for an unknown kind or preset, or a name that makes no file name.
    """
    found = re.match(r"(?:([^:=]*)=)?(.*)", text, re.DOTALL)
    name, rest = found.groups() if found else ("", text)
    kind, *words = re.split(r":(?!\w+=)", rest)  # a preset's fields stay with it
    if kind not in KINDS:
        raise ValueError(f"unknown tracker {kind!r}; known: {', '.join(KINDS)}")
    if len(words) > (2 if kind == "dcfnet" else 1) or (
        words and kind not in ("dcfnet", "nano", "vit")
    ):
        raise ValueError(
            f"tracker {rest!r}: expected dcfnet:WEIGHTS:PRESET, nano:FOLDER, vit:FILE or a bare name"
        )
    if kind != "dcfnet":
        label = name or kind
        spec = Spec(label, kind, *words)
    else:
        model, preset = (words + [weights, preset][len(words) :])[:2]
        label = name or re.sub(r"[^\w.-]", "-", "-".join(["dcfnet", *map(_short, words)]))
        # not the name of a file, which may change
        spec = Spec(label, kind, model, join_preset_text(*split_preset_text(preset)), device)
    # a later run, or another machine, may have another working folder
    if spec.model and Path(spec.model).exists():
        spec = dataclasses.replace(spec, model=str(Path(spec.model).resolve()))
    return spec


def _short(word: str) -> str:
    """A file's name without folder and suffix; fields of a preset stay."""
    file, *fields = word.split(":")
    return "-".join([Path(file).stem, *fields])


def make(spec: Spec) -> EvaluatedTracker:
    """A new tracker.

    Raises Unavailable with the reason, ValueError for wrong weights or presets.
    """
    if spec.kind == "dcfnet":
        return Boxes(Tracker(weights=spec.model, preset=spec.preset, device=spec.device))
    if spec.kind == "hog-dcf":
        return Boxes(Tracker(preset=HOG_PRESET, device="cpu", features=Hog()))
    if spec.kind == "gray-dcf":
        return Boxes(Tracker(preset=GRAY_PRESET, device="cpu", features=gray))
    if spec.kind == "identity":
        return Identity()
    return OpenCV(_opencv_factory(spec))


def describe(spec: Spec) -> dict[str, Any]:
    """Everything that settles a tracker's boxes, for the report: preset, weights and their digest,
    versions.
    """
    facts: dict[str, Any] = dataclasses.asdict(spec)
    if spec.kind == "dcfnet":
        used = weights.load_weights(spec.model)
        facts["settings"] = dataclasses.asdict(get_preset(spec.preset))
        facts["architecture"] = used.architecture
        facts["parameters"] = int(sum(p.size for p in used.parameters.values()))
        facts["weights_digest"] = weights.parameter_digest(used.parameters)
    elif spec.kind in ("hog-dcf", "gray-dcf"):
        facts["settings"] = dataclasses.asdict(
            HOG_PRESET if spec.kind == "hog-dcf" else GRAY_PRESET
        )
    elif spec.kind != "identity":
        import cv2

        facts["opencv"] = cv2.__version__
    return facts


class Identity:
    """Gives the first box for every frame."""

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._box = box

    def update(self, frame: np.ndarray) -> Box:
        return self._box


class Boxes:
    """Our tracker, reduced to its boxes."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._tracker.init(frame, box)

    def update(self, frame: np.ndarray) -> Box:
        return self._tracker.update(frame).box


class OpenCV:
    """One of OpenCV's trackers.  It takes whole pixels; a failed frame gives None."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._tracker = self._create()
        x, y, w, h = (int(round(value)) for value in box)
        height, width = frame.shape[:2]
        # They need some of the target inside the frame, and MIL looks for features in a target of 3
        # pixels for ever.
        left, top = min(max(x, 0), width - SMALLEST), min(max(y, 0), height - SMALLEST)
        right, bottom = (
            max(min(x + w, width), left + SMALLEST),
            max(min(y + h, height), top + SMALLEST),
        )
        self._tracker.init(np.ascontiguousarray(frame), (left, top, right - left, bottom - top))

    def update(self, frame: np.ndarray) -> "tuple[float, ...] | None":
        import cv2

        try:
            found, box = self._tracker.update(np.ascontiguousarray(frame))
        except cv2.error:  # some raise where the window leaves the frame
            return None
        return tuple(float(value) for value in box) if found else None


def _opencv_factory(spec: Spec) -> Callable[[], Any]:
    import cv2

    if spec.kind in CONTRIB:
        name = f"Tracker{spec.kind.upper()}"
        legacy: Any = getattr(cv2, "legacy", None)
        for module in (cv2, legacy):
            create = getattr(module, f"{name}_create", None) or getattr(
                getattr(module, name, None), "create", None
            )
            if create is not None:
                return create  # type: ignore[no-any-return]
        raise Unavailable(
            f"OpenCV {cv2.__version__} here has no {name}; it is in opencv-contrib-python, for which "
            "`make baselines` makes an environment"
        )
    if spec.kind == "mil":
        return cv2.TrackerMIL_create  # type: ignore[attr-defined, no-any-return]
    if not spec.model:
        wanted = "nano:FOLDER" if spec.kind == "nano" else "vit:FILE.onnx"
        raise Unavailable(f"no model file; name it: {wanted}")
    path = Path(spec.model)
    files = [path / name for name in NANO_FILES] if spec.kind == "nano" else [path]
    for file in files:
        if not file.is_file():
            raise Unavailable(f"there is no model file {file}")
    if spec.kind == "nano":
        parameters: Any = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
        parameters.backbone, parameters.neckhead = str(files[0]), str(files[1])
        return lambda: cv2.TrackerNano_create(parameters)  # type: ignore[attr-defined]
    parameters = cv2.TrackerVit_Params()  # type: ignore[attr-defined]
    parameters.net = str(files[0])
    return lambda: cv2.TrackerVit_create(parameters)  # type: ignore[attr-defined]


# --- hand-made features
# -----------------------------------------------------------------------------------


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
    PAMI 2010, Sec. 6."""
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
