"""Trackers by name, for evaluation: our own, and the baselines that it is held against.

    dcfnet[:WEIGHTS[:PRESET]]   our tracker; weights are a packaged name or a file, PRESET may be a
                                .json file, and NAME:FIELD=VALUE changes a field
    hog-dcf, gray-dcf           the same tracker on 31-channel HOG, or on gray values, instead of
                                learnt features
    csrt, kcf, mosse            OpenCV's, from opencv-contrib-python
    identity                    keeps the first box: what a sequence gives away

`NAME=SPEC` gives a tracker another name.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import weights
from ..presets import get_preset, join_preset_text, split_preset_text
from ..tracker import Tracker
from ..vision.boxes import Box
from . import baselines
from .protocols import EvaluatedTracker

KINDS = ("dcfnet", *baselines.FEATURES, *baselines.OPENCV, "identity")


@dataclass(frozen=True)
class TrackerSpec:
    """A tracker by name and settings; `make_tracker` builds one.

    label: its name in files and tables.  kind: one of KINDS.  model: weights of dcfnet.
    Raises ValueError for anything else: a label is a part of paths that are written.
    """

    label: str
    kind: str
    model: str = ""
    preset: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"tracker settings must be words, got {values!r:.80}")
        if self.kind not in KINDS:
            raise ValueError(f"unknown tracker {self.kind[:60]!r}; known: {', '.join(KINDS)}")
        if not re.fullmatch(r"[\w-][\w.-]*", self.label):
            wanted = "letters, digits, '_', '-' and '.'"
            raise ValueError(f"tracker name {self.label[:60]!r} must be {wanted}")


def parse_tracker(
    text: str, weights: str = "light", preset: str = "default", device: str = "auto"
) -> TrackerSpec:
    """`[NAME=]KIND[:MODEL[:PRESET]]` -> TrackerSpec.

    weights, preset, device: what a plain `dcfnet` takes.
    Raises ValueError for an unknown kind or preset, or a name that makes no file name.
    """
    found = re.match(r"(?:([^:=]*)=)?(.*)", text, re.DOTALL)
    name, rest = found.groups() if found else ("", text)
    kind, *words = re.split(r":(?!\w+=)", rest)  # a preset's fields stay with it
    if kind not in KINDS:
        raise ValueError(f"unknown tracker {kind!r}; known: {', '.join(KINDS)}")
    if len(words) > (2 if kind == "dcfnet" else 0):
        raise ValueError(f"tracker {rest!r}: expected dcfnet:WEIGHTS:PRESET or a bare name")
    if kind != "dcfnet":
        return TrackerSpec(name or kind, kind)
    model, preset = (words + [weights, preset][len(words) :])[:2]
    label = re.sub(r"[^\w.-]", "-", "-".join([kind, *map(_stem, words)]))
    # not the name of a file, which may change
    preset = join_preset_text(*split_preset_text(preset))
    # a later run, or another machine, may have another working folder
    if Path(model).exists():
        model = str(Path(model).resolve())
    return TrackerSpec(name or label, kind, model, preset, device)


def _stem(word: str) -> str:
    """A file's name without folder and suffix; fields of a preset stay."""
    file, *fields = word.split(":")
    return "-".join([Path(file).stem, *fields])


def make_tracker(spec: TrackerSpec) -> EvaluatedTracker:
    """A new tracker.

    Raises baselines.Unavailable with the reason, ValueError for wrong weights or presets.
    """
    if spec.kind == "dcfnet":
        return BoxTracker(Tracker(weights=spec.model, preset=spec.preset, device=spec.device))
    if spec.kind in baselines.FEATURES:
        return BoxTracker(baselines.make_feature_tracker(spec.kind))
    if spec.kind == "identity":
        return baselines.IdentityTracker()
    return baselines.OpenCVTracker(baselines.find_opencv(spec.kind))


def describe_tracker(spec: TrackerSpec) -> dict[str, Any]:
    """All that settles a tracker's boxes, for the report: preset, digest of weights, versions."""
    facts: dict[str, Any] = dataclasses.asdict(spec)
    if spec.kind == "dcfnet":
        used = weights.load_weights(spec.model)
        facts["settings"] = dataclasses.asdict(get_preset(spec.preset))
        facts["architecture"] = used.architecture
        facts["parameters"] = int(sum(p.size for p in used.parameters.values()))
        facts["weights_digest"] = weights.parameter_digest(used.parameters)
    elif spec.kind in baselines.FEATURES:
        facts["settings"] = dataclasses.asdict(baselines.FEATURES[spec.kind])
    elif spec.kind != "identity":
        import cv2

        facts["opencv"] = cv2.__version__
    return facts


class BoxTracker:
    """Our tracker, reduced to its boxes.  score, ok: of the last frame, 1 and True in the first."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.score, self.ok = 1.0, True

    def init(self, frame: np.ndarray, box: Box) -> None:
        self._tracker.init(frame, box)
        self.score, self.ok = 1.0, True

    def update(self, frame: np.ndarray) -> Box:
        result = self._tracker.update(frame)
        self.score, self.ok = result.score, result.ok
        return result.box
