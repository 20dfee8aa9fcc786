"""Trackers by name: hand-made features against loops, OpenCV's trackers, and what is not there."""

import cv2
import numpy as np
import pytest
from scenes import make_sequence

from dcfnet_np.evaluation import baselines
from dcfnet_np.evaluation.baselines import Unavailable, fhog, gray
from dcfnet_np.evaluation.trackers import TrackerSpec, describe_tracker, make_tracker, parse_tracker
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou

HAS_CONTRIB = hasattr(cv2, "TrackerCSRT_create")


@pytest.fixture(scope="module")
def scene():
    return make_sequence(np.random.default_rng(11), 12, 160, 120, (44, 36))


def follow(tracker, frames, boxes):
    """Overlaps in every frame but the first; a failed frame keeps the last box."""
    tracker.init(frames[0], tuple(boxes[0]))
    last, overlaps = tuple(boxes[0]), []
    for frame, truth in zip(frames[1:], boxes[1:]):
        last = tracker.update(frame) or last
        overlaps.append(float(iou(last, truth)))
    return np.array(overlaps)


# --- names

FIELDS = "default:num_scales=5:scale_step=1.02"
FIVE = "dcfnet-conv1-default-num_scales-5-scale_step-1.02"


@pytest.mark.parametrize(("text", "spec"), [
    ("dcfnet", ("dcfnet", "dcfnet", "light", "default")),
    ("dcfnet:conv1", ("dcfnet-conv1", "dcfnet", "conv1", "default")),
    ("dcfnet:a/param.h5:pytorch", ("dcfnet-param-pytorch", "dcfnet", "a/param.h5", "pytorch")),
    ("released=dcfnet:a/param.h5:pytorch", ("released", "dcfnet", "a/param.h5", "pytorch")),
    (f"dcfnet:conv1:{FIELDS}", (FIVE, "dcfnet", "conv1", FIELDS)),
    (f"five=dcfnet:conv1:{FIELDS}", ("five", "dcfnet", "conv1", FIELDS)),
    ("again=kcf", ("again", "kcf")),
])  # fmt: skip
def test_names(text, spec):
    assert parse_tracker(text) == TrackerSpec(*spec)


def test_files_are_named_once_and_for_all(tmp_path, monkeypatch):
    """A later run must not depend on what is in a preset's file then, nor on the folder."""
    (tmp_path / "mine.json").write_text('{"preset": "paper", "num_scales": 5}')
    (tmp_path / "my.h5").touch()
    monkeypatch.chdir(tmp_path)
    spec = parse_tracker("dcfnet:my.h5:mine.json:padding=2")
    assert (spec.label, spec.model) == ("dcfnet-my-mine-padding-2", str(tmp_path / "my.h5"))
    assert spec.preset == "paper:num_scales=5:padding=2.0"


@pytest.mark.parametrize(("text", "message"), [
    ("siamfc", "unknown tracker 'siamfc'; known: dcfnet, hog-dcf"),
    ("", "unknown tracker ''"),
    ("kcf:model", "tracker 'kcf:model': expected"),
    ("dcfnet:a:b:c", "expected dcfnet:WEIGHTS:PRESET or a bare name"),
    ("a/b=kcf", "tracker name 'a/b' must be letters"),
    (".=kcf", "tracker name"),
])  # fmt: skip
def test_wrong_names(text, message):
    with pytest.raises(ValueError, match=message):
        parse_tracker(text)


@pytest.mark.skipif(HAS_CONTRIB, reason="OpenCV's contrib trackers are there")
def test_what_is_not_there_says_why():
    with pytest.raises(Unavailable, match="TrackerKCF; it is in opencv-contrib-python"):
        make_tracker(parse_tracker("kcf"))


# --- features


def naive_fhog(patch, cell):
    """HOG of one patch (C, H, W), pixel by pixel, from the paper's text."""
    _, height, width = patch.shape
    rows, columns = height // cell, width // cell
    votes = np.zeros((rows, columns, 18))
    for y in range(1, rows * cell - 1):
        for x in range(1, columns * cell - 1):
            best = max(
                (np.hypot(p[y, x + 1] - p[y, x - 1], p[y + 1, x] - p[y - 1, x]) / 2, c)
                for c, p in enumerate(patch)
            )
            p = patch[best[1]]
            angle = np.arctan2(p[y + 1, x] - p[y - 1, x], p[y, x + 1] - p[y, x - 1])
            bin_ = round(angle / (2 * np.pi) * 18) % 18
            row, column = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
            for r in range(rows):
                for c in range(columns):
                    share = max(0, 1 - abs(r - row)) * max(0, 1 - abs(c - column))
                    votes[r, c, bin_] += share * best[0]
    return votes


def test_fhog_against_loops(rng):
    # neither square nor gray
    cell, patches = 3, rng.uniform(0, 255, (2, 2, 15, 18)).astype(np.float32)
    # At the border gradients are one-sided in no direction: the loops skip it, so make it flat
    # there.
    patches[..., [0, 1, -2, -1], :] = 40
    patches[..., [0, 1, -2, -1]] = 40
    features = fhog(patches, cell)
    assert features.shape == (2, 31, 5, 6) and features.dtype == np.float32
    for patch, found in zip(patches.astype(float), features):
        votes = naive_fhog(patch, cell)
        unsigned = votes[..., :9] + votes[..., 9:]
        energy = np.pad((unsigned**2).sum(2), 1, mode="edge")
        for r in range(5):
            for c in range(6):
                expected = np.zeros(31)
                for k, (dr, dc) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
                    block = np.sqrt(energy[r + dr : r + dr + 2, c + dc : c + dc + 2].sum() + 1e-4)
                    signed = np.minimum(votes[r, c] / block, 0.2)
                    expected[:18] += signed / 2
                    expected[18:27] += np.minimum(unsigned[r, c] / block, 0.2) / 2
                    expected[27 + k] = 0.2357 * signed.sum()
                np.testing.assert_allclose(found[:, r, c], expected, atol=2e-4)


def test_gray():
    patch = np.zeros((1, 3, 2, 2), np.float32)
    patch[0, :, 0, 0] = 255, 0, 0  # blue
    patch[0, :, 0, 1] = 255
    np.testing.assert_allclose(gray(patch)[0, 0], [[0.114 - 0.5, 0.5], [-0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize(("name", "channels", "size"), [("hog-dcf", 31, 63), ("gray-dcf", 1, 125)])
def test_filters_on_hand_made_features(scene, name, channels, size):
    frames, boxes = scene
    tracker = make_tracker(parse_tracker(name))
    assert follow(tracker, frames, boxes).min() > 0.6
    inner = tracker._tracker
    assert isinstance(inner, Tracker) and inner.preset.input_size == size
    frame = frames[0]
    # the window reaches out of a white frame
    with pytest.raises(ValueError, match="holds nothing to track"):
        inner.init(np.full_like(frame, 255), (3.0, 4.0, 20.0, 20.0))


# --- trackers


@pytest.mark.parametrize("name", baselines.OPENCV)
def test_opencv(scene, name):
    try:
        trackers = [make_tracker(parse_tracker(name)) for _ in range(2)]
    except Unavailable as error:
        pytest.skip(str(error))
    first, second = (follow(tracker, *scene) for tracker in trackers)
    assert first.mean() > 0.5
    np.testing.assert_array_equal(first, second)


class Fake:
    """A tracker of OpenCV's that keeps what it is given and cannot go on."""

    def __init__(self, error=False):
        self.error = error

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        if self.error:
            raise cv2.error("window outside the frame")
        return False, (0, 0, 0, 0)


EDGES = {  # of a frame of 160x120 pixels: a box, and what OpenCV gets of it; 6 pixels at least
    (-20.4, -10.2, 30, 30): (0, 0, 10, 20),
    (150, 110, 40, 40): (150, 110, 10, 10),
    (20, 20, 1, 1): (20, 20, 6, 6),
    (158.6, 119, 5, 9): (154, 114, 6, 6),
    (-90, 30, 85, 12): (0, 30, 6, 12),
    (30.5, 40.4, 21.6, 19.4): (30, 40, 22, 19),
}


@pytest.mark.parametrize(("box", "inside"), EDGES.items())
def test_opencv_starts_at_the_edge(scene, box, inside):
    """It gets whole pixels in the frame."""
    fake = Fake()
    baselines.OpenCVTracker(lambda: fake).init(scene[0][0], box)
    assert fake.box == inside


@pytest.mark.parametrize("error", [True, False])
def test_a_failed_frame_of_opencv_has_no_box(scene, error):
    tracker = baselines.OpenCVTracker(lambda: Fake(error))
    tracker.init(scene[0][0], (10, 10, 20, 20))
    assert tracker.update(scene[0][1]) is None


def test_facts_for_the_report():
    facts = describe_tracker(parse_tracker("dcfnet:conv1:paper"))
    assert facts["architecture"] == "conv1" and facts["parameters"] == 20256
    assert len(facts["weights_digest"]) == 64 and facts["settings"]["name"] == "paper"
    assert describe_tracker(parse_tracker("csrt"))["opencv"] == cv2.__version__
    assert describe_tracker(parse_tracker("hog-dcf"))["settings"]["learning_rate"] == 0.02
