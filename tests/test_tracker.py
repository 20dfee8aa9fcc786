"""The tracker of one target: on images made here, at borders, on bad input, and against the
yardstick's boxes.
"""

import dataclasses
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import make_sequence

from dcfnet_np import network
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.support.threads import Cores
from dcfnet_np.tracker import Tracker, peak_to_sidelobe, score_of
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import from_otb, iou
from dcfnet_np.vision.crop import window_taps
from dcfnet_np.vision.sources import open_source
from dcfnet_np.weights import Weights, import_weights

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
SMALL = Preset("small", input_size=45)


def random_weights(seed=1, order="bgr"):
    return Weights(
        "light", network.initialise("light", seed), order, (104.0, 117.0, 123.0), {}, "random"
    )


@pytest.fixture
def scene(rng):
    """A textured patch on a textured background: scene(x, y, w, h) is the frame with the patch's
    corner at (x, y).
    """
    background = cv2.resize(
        rng.integers(0, 256, (12, 16, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC
    )
    texture = rng.integers(0, 256, (5, 6, 3), np.uint8)

    def draw(x, y, w=30, h=24):
        frame = background.copy()
        patch = cv2.resize(texture, (w, h), interpolation=cv2.INTER_NEAREST)
        frame[y : y + h, x : x + w] = patch[: 120 - y, : 160 - x]
        return frame

    return draw


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "pytorch-py3"])
def test_a_still_target_stays_put(scene, preset):
    tracker = Tracker(random_weights(), preset)
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    for _ in range(3):
        result = tracker.update(scene(60, 40))
    assert (
        result.box == pytest.approx((60, 40, 30, 24), abs=1e-9)
        and result.ok
        and result.scale == pytest.approx(1)
    )
    assert result.score == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dx, dy", [(7, 0), (0, -6), (-5, 8)])
@pytest.mark.parametrize("rule", ["ratio", "averages"])
def test_it_follows_in_the_right_direction(scene, dx, dy, rule):
    tracker = Tracker(random_weights(), Preset("small", input_size=45, update_rule=rule))
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    box = tracker.update(scene(60 + dx, 40 + dy)).box
    pixel = 30 * 3 / 45  # one pixel of the response in the frame
    assert abs(box[0] - 60 - dx) <= pixel and abs(box[1] - 40 - dy) <= pixel


def test_it_follows_a_growing_target(scene):
    tracker = Tracker(random_weights(), Preset("many scales", num_scales=5, learning_rate=0.02))
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    for growth in range(1, 6):
        result = tracker.update(scene(60 - growth, 40 - growth, 30 + 2 * growth, 24 + 2 * growth))
    assert result.scale > 1.15
    assert iou(result.box, (55, 35, 40, 34)) > 0.7


def test_channel_order_of_the_weights_is_respected(scene):
    """Weights with reversed input channels, said to be RGB, are the same network."""
    bgr = random_weights()
    flipped = dict(bgr.parameters)
    flipped["conv1.weight"] = np.ascontiguousarray(flipped["conv1.weight"][:, ::-1])
    rgb = Weights("light", flipped, "rgb", (123.0, 117.0, 104.0), {}, "rgb")
    results = []
    for weights in (bgr, rgb):
        tracker = Tracker(weights, SMALL)
        tracker.init(scene(60, 40), (60, 40, 30, 24))
        results.append(tracker.update(scene(66, 43), response=True))
    assert results[0].box == results[1].box
    np.testing.assert_allclose(results[0].response, results[1].response, atol=1e-5)


def test_response_is_given_on_request_with_the_still_peak_in_the_middle(scene):
    tracker = Tracker(random_weights(), SMALL)
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    assert tracker.update(scene(60, 40)).response is None
    response = tracker.update(scene(60, 40), response=True).response
    assert response.shape == (45, 45) and np.unravel_index(response.argmax(), (45, 45)) == (22, 22)


@pytest.mark.parametrize("band", ["auto", None], ids=["fast", "plain"])
@pytest.mark.parametrize("place", [(60, 40), (4, 3), (124, 90)])
@pytest.mark.parametrize("colour", [0, 77, 255, (200, 20, 90)])
@pytest.mark.parametrize("preset", ["default", "matlab-v1"])
def test_a_frame_without_content_changes_nothing(scene, preset, colour, place, band):
    """The box stays, the model is not updated, and the target is found again; also where windows
    leave the frame.
    """
    tracker = Tracker(
        random_weights(), dataclasses.replace(PRESETS[preset], input_size=45), band=band
    )
    tracker.init(scene(*place), (*place, 30, 24))
    before = tracker.update(scene(*place))
    model = tracker._target.filter.numerator.copy()
    lost = tracker.update(np.full((120, 160, 3), colour, np.uint8), response=True)
    assert (
        not lost.ok
        and lost.box == before.box
        and lost.score == lost.psr == 0
        and not lost.response.any()
    )
    np.testing.assert_array_equal(tracker._target.filter.numerator, model)
    assert tracker.update(scene(*place)).ok


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_dot_of_one_colour_in_the_widest_window_is_content(scene, channel):
    tracker = Tracker(random_weights(), dataclasses.replace(SMALL, scale_step=1.5))
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    frame = np.full((120, 160, 3), 128, np.uint8)
    assert not tracker.update(frame).score
    # 54 pixels left of the middle: within 45 of the first window it is not
    frame[50:53, 19:23, channel] = 255
    assert tracker.update(frame).score > 0


def test_a_template_of_one_colour_is_not_learned(scene):
    """The search windows see a dot that the smaller window of the template does not."""
    tracker = Tracker(
        random_weights(), dataclasses.replace(SMALL, scale_step=1.5, scale_penalty=0.5)
    )
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    model = tracker._target.filter.numerator.copy()
    frame = np.full((120, 160, 3), (200, 20, 90), np.uint8)
    frame[50:53, 13:17] = 0
    result = tracker.update(frame)
    assert result.ok and result.scale <= 1
    np.testing.assert_array_equal(tracker._target.filter.numerator, model)
    tracker.update(scene(60, 40))
    assert (tracker._target.filter.numerator != model).any()


@pytest.mark.parametrize(
    "box", [(60, 40, 30, 24), (0, 0, 30, 24), (-10, 100, 30, 40), (150, 5, 40, 30)]
)
@pytest.mark.parametrize("colour", [0, 9, 255, (200, 20, 90)])
def test_nothing_to_learn_from(scene, colour, box):
    tracker = Tracker(random_weights(), SMALL)
    with pytest.raises(
        ValueError, match="Tracker.init: the window around the box holds nothing to track"
    ):
        tracker.init(np.full((120, 160, 3), colour, np.uint8), box)


@pytest.mark.parametrize("rule", ["averages", "ratio"])
def test_white_frames_do_not_lose_a_target_at_the_rim(rng, rule):
    frames, boxes = make_sequence(rng, count=30, size=(30, 24), step=(0.4, 0.3), growth=1.0)
    tracker = Tracker(
        preset=dataclasses.replace(PRESETS["default"], update_rule=rule), device="cpu"
    )
    tracker.init(frames[0][6:, 8:], boxes[0] - (8, 6, 0, 0))  # the target's corner is outside
    for number, (frame, box) in enumerate(zip(frames[1:, 6:, 8:], boxes[1:] - (8, 6, 0, 0)), 1):
        blank = number % 5 == 0
        result = tracker.update(np.full_like(frame, 255) if blank else frame)
        assert result.ok != blank and result.score <= 1
        assert blank or iou(result.box, box) > 0.7


def test_a_start_in_the_dark_has_scores_of_at_most_one(rng):
    """The peak rises with the contrast; the score says that the target was recognised."""
    frames, boxes = make_sequence(rng, count=12, growth=1.0)
    for preset in ("default", "careful"):
        tracker = Tracker(preset=preset, device="cpu")
        tracker.init(frames[0] // 16, boxes[0])
        results = [
            tracker.update(frame // max(1, 16 - 3 * n), True)
            for n, frame in enumerate(frames[1:], 1)
        ]
        assert max(result.response.max() for result in results) > 5
        assert all(result.ok and 0.5 < result.score <= 1 for result in results)
        assert iou(results[-1].box, boxes[-1]) > 0.7


def waves(size, *terms):
    """Sum of amplitude * cos(2 pi (u row + v column) / size - phase), for (amplitude, u, v, phase)."""
    row, column = np.mgrid[:size, :size]
    parts = [
        a * np.cos(2 * np.pi * (u * row + v * column) / size - phase) for a, u, v, phase in terms
    ]
    return np.sum(parts, axis=0)


@pytest.mark.parametrize("size", [15, 16])
def test_what_a_score_is(size):
    together = (3.0, 1, 2, 0.0), (2.0, 0, 0, 0.0), (1.0, 4, -3, 0.0)
    assert score_of(waves(size, *together)) == pytest.approx(1, rel=1e-12)  # 6 of 3 + 2 + 1
    assert score_of(np.roll(waves(size, *together), (4, 7), (0, 1))) == pytest.approx(1, rel=1e-12)
    against = waves(
        size, (3.0, 1, 2, 0.0), (2.0, 1, 2, np.pi), (2.0, 0, 0, np.pi), (4.0, 2, 1, np.pi / 2)
    )
    amplitudes = 1 + 2 + 4  # the first two are one wave
    assert (
        score_of(against) == pytest.approx(against.max() / amplitudes, rel=1e-12)
        and against.max() > 1
    )
    for factor in (1e-6, 0.01, 0.1):  # below 1 it is the peak
        assert against.max() * factor < 1
        assert score_of(against * factor) == pytest.approx(against.max() * factor, rel=1e-12)
    assert score_of(against * 1e6) == pytest.approx(score_of(against), rel=1e-9)
    assert score_of(np.full((5, 5), -2.0)) == score_of(np.zeros((5, 5))) == 0


# --- the conventions in which the released codes differ ---


def peak_of(preset, size, *peaks):
    """Displacement (row, column) that a tracker reads off a map with peaks at the given indices."""
    response = np.zeros((size, size), np.float32)
    for peak in peaks:
        response[peak] = 1
    return Tracker(random_weights(), dataclasses.replace(PRESETS[preset], input_size=size))._peak(
        response
    )


@pytest.mark.parametrize(
    "preset, size, index, displacement",
    [
        ("pytorch", 125, 61, 61), ("pytorch", 125, 62, 62), ("pytorch", 125, 63, -62), ("pytorch", 125, 124, -1),
        ("matlab-v1", 125, 61, 61), ("matlab-v1", 125, 62, -63), ("matlab-v1", 125, 63, -62),
        ("pytorch", 24, 12, 12), ("pytorch", 24, 13, -11), ("matlab-v1", 24, 11, 11), ("matlab-v1", 24, 12, -12),
    ],
)  # fmt: skip
def test_where_indices_become_negative(preset, size, index, displacement):
    assert peak_of(preset, size, (index, 3)) == (displacement, 3)
    assert peak_of(preset, size, (3, index)) == (3, displacement)


def test_which_of_two_equal_peaks_wins():
    assert peak_of("pytorch", 45, (2, 7), (5, 1)) == (2, 7)  # first along the rows
    assert peak_of("matlab-v1", 45, (2, 7), (5, 1)) == (5, 1)  # first down the columns


@pytest.mark.parametrize("preset, largest", [("default", (160, 110)), ("pytorch", (120, 110))])
def test_size_limits(scene, preset, largest):
    """A target of 40x22 in a frame of 160x120: at most five times its size and the frame's, (h, w)
    in `pytorch`.
    """
    tracker = Tracker(random_weights(), preset)
    tracker.init(scene(60, 40), (60, 40, 40, 22))
    assert (
        tuple(tracker._target.min_size) == (8, pytest.approx(4.4))
        and tuple(tracker._target.max_size) == largest
    )
    tracker.init(scene(60, 40), (60, 40, 10, 6))
    assert tuple(tracker._target.min_size) == (4, 4) and tuple(tracker._target.max_size) == (50, 30)


@pytest.mark.parametrize("preset", ["pytorch", "matlab-v1"])
def test_a_size_stops_at_its_limit_and_the_template_crop_follows_or_not(scene, preset, monkeypatch):
    """PyTorch cuts the template by the clamped size, MATLAB by the window that was found."""
    limited = dataclasses.replace(PRESETS[preset], max_scale=1.0, scale_step=1.2, scale_penalty=1.0)
    tracker = Tracker(random_weights(), limited)
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    cut = []
    extract = tracker._extract
    monkeypatch.setattr(
        tracker,
        "_extract",
        lambda frame, centre, size: cut.append(size) or extract(frame, centre, size),
    )
    result = tracker.update(scene(57, 38, 36, 28))
    assert result.box[2:] == (30, 24)  # found larger, held at the first size
    wanted = 1.2 if preset == "matlab-v1" else 1.0
    np.testing.assert_allclose(
        cut[1], [[30 * wanted * (1 + limited.padding), 24 * wanted * (1 + limited.padding)]]
    )


def test_lambda_of_the_matlab_codes_is_divided_by_the_number_of_features(scene):
    lam = {}
    for preset in ("matlab-v1", "matlab-v2", "paper", "pytorch"):
        tracker = Tracker(random_weights(), preset)
        tracker.init(scene(60, 40), (60, 40, 30, 24))
        lam[preset] = tracker._target.filter.lam
    assert lam["paper"] == lam["pytorch"] == 1e-4
    assert lam["matlab-v1"] == lam["matlab-v2"] == pytest.approx(1e-4 * 125 * 125 * 32)


def test_move_score_and_psr_come_from_the_best_scale(scene):
    preset = Preset("steps", scale_step=1.2, scale_penalty=1.0)
    tracker = Tracker(random_weights(), preset)
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    result = tracker.update(scene(61, 44, 36, 28), response=True)
    assert result.scale == pytest.approx(1.2)
    response = np.fft.ifftshift(result.response)
    assert result.score == response.max() < 1
    # BLAS's threads add in another order
    assert result.psr == pytest.approx(peak_to_sidelobe(response), rel=1e-12)
    row, column = (
        i - 125 if i > 62 else i for i in np.unravel_index(response.argmax(), response.shape)
    )
    centre = (75 + column * 30 * 1.2 * 3 / 125, 52 + row * 24 * 1.2 * 3 / 125)
    assert result.box[:2] == pytest.approx((centre[0] - 18, centre[1] - 14.4))


def test_the_scale_penalty_keeps_a_still_target_s_size(scene):
    """With a penalty near zero no other scale can win, however much the target grows."""
    tracker = Tracker(random_weights(), Preset("still", scale_step=1.2, scale_penalty=0.01))
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    assert tracker.update(scene(57, 38, 36, 28)).scale == 1


def test_crop_is_rounded_where_the_preset_says_so(scene):
    for preset, whole in (("pytorch", True), ("matlab-v1", False)):
        tracker = Tracker(random_weights(), preset)
        tracker.init(scene(60, 40), (60, 40, 30, 24))
        cropper = tracker._extract._croppers[0]
        patch = cropper(
            scene(60, 40), *window_taps((120, 160), (75.3, 52), np.array([[77.7, 51.3]]), 125), 0
        )
        assert (patch == np.rint(patch)).all() == whole


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 20, 20),
        (150, 110, 30, 30),
        (-10, 50, 30, 20),
        (80, 60, 1, 1),
        (5, 5, 150, 2),
        (0, 0, 160, 120),
    ],
    ids=["corner", "across the far corner", "across the left", "one pixel", "thin", "whole frame"],
)
def test_targets_at_borders_and_of_odd_sizes(scene, box):
    tracker = Tracker(random_weights(), SMALL)
    tracker.init(scene(60, 40), box)
    for shift in range(4):
        result = tracker.update(scene(60 + shift, 40))
        assert np.isfinite(result.box).all() and min(result.box[2:]) > 0


def test_a_target_that_runs_out_of_the_frame(scene):
    tracker = Tracker(random_weights(), SMALL)
    tracker.init(scene(120, 80), (120, 80, 30, 24))
    for shift in range(0, 40, 4):
        result = tracker.update(scene(120 + shift, min(80 + shift, 119)))
        assert np.isfinite(result.box).all()


@pytest.mark.parametrize(
    "box", [(np.nan, 0, 5, 5), (0, 0, -5, 5), (0, 0, 0, 5), (200, 10, 5, 5), (0, 0, 500, 5), (1, 2)]
)
def test_bad_boxes(scene, box):
    with pytest.raises(ValueError, match="Tracker.init"):
        Tracker(random_weights(), SMALL).init(scene(60, 40), box)


def test_bad_calls(scene):
    tracker = Tracker(random_weights(), SMALL)
    with pytest.raises(RuntimeError, match=r"call init\(frame, box\) first"):
        tracker.update(scene(60, 40))
    tracker.init(scene(60, 40), (60, 40, 30, 24))
    with pytest.raises(ValueError, match="must be 160x120 as the first one, got 80x120"):
        tracker.update(scene(60, 40)[:, ::2])
    with pytest.raises(ValueError, match="must be 160x120 as the first one, got 120x160"):
        tracker.update(scene(60, 40).transpose(1, 0, 2))
    with pytest.raises(ValueError, match="band must be"):
        Tracker(random_weights(), SMALL, band="some")
    with pytest.raises(ValueError, match="unknown preset"):
        Tracker(random_weights(), "fast")


def test_a_tracker_starts_anew_on_a_turned_frame(scene):
    """160x120, then 120x160: nothing is left of the first shape."""
    again, new = (Tracker(random_weights(), SMALL) for _ in range(2))
    again.init(scene(60, 40), (60, 40, 30, 24))
    again.update(scene(62, 41))
    turned = [scene(60 + i, 40 + i).transpose(1, 0, 2) for i in range(3)]
    for tracker in (again, new):
        tracker.init(turned[0], (40, 60, 24, 30))
    for frame in turned[1:]:
        a, b = again.update(frame), new.update(frame)
        assert a.box == b.box and a.score == b.score


def test_peak_to_sidelobe_ratio(rng):
    response = rng.normal(0.1, 0.05, (45, 45))
    response[:6, :6] = response[-5:, :6] = response[:6, -5:] = response[-5:, -5:] = 0.7
    response[0, 0] = 1.0
    outside = np.ones((45, 45), bool)
    outside[np.ix_([*range(6), *range(40, 45)], [*range(6), *range(40, 45)])] = False
    expected = (1 - response[outside].mean()) / response[outside].std()
    assert peak_to_sidelobe(response) == pytest.approx(expected)
    assert peak_to_sidelobe(np.ones((45, 45))) == 0
    assert peak_to_sidelobe(np.ones((5, 5))) == 0


# --- real frames ---


@pytest.mark.parametrize("size", [63, 125, 251])
@pytest.mark.parametrize("padding", [1.5, 2.0])
@pytest.mark.parametrize("cosine_window", [True, False])
def test_band_and_full_spectrum_give_one_response(data_dir, size, padding, cosine_window):
    """Float32, real frames: the two responses differ by at most 1e-6 of the peak."""
    weights = import_weights(data_dir / "weights" / "param.pth")
    preset = Preset("band", input_size=size, padding=padding, cosine_window=cosine_window)
    responses = []
    for band in ("auto", None):
        tracker = Tracker(weights, preset, band=band)
        with open_source(str(data_dir / "sequences" / "David"), max_frames=2) as source:
            first, second = source
            tracker.init(first, source.first_box)
            responses.append(tracker.update(second, response=True).response)
    assert abs(responses[0] - responses[1]).max() <= 1e-6 * abs(responses[1]).max()


def track_sequence(folder, weights, preset, frames=None):
    """Boxes (n, 4), 0-based, of a run on one sequence."""
    tracker = Tracker(weights, preset)
    boxes = []
    with open_source(str(folder), max_frames=frames) as source:
        for frame in source:
            if not boxes:
                tracker.init(frame, source.first_box)
                boxes.append(source.first_box)
            else:
                boxes.append(tracker.update(frame).box)
    return np.array(boxes)


def auc(boxes, truth):
    """OTB's success AUC: the share of frames with an overlap above t, mean over 21 thresholds 0,
    .05, ..., 1.
    """
    overlap = iou(boxes, truth)
    return np.mean([(overlap > threshold).mean() for threshold in np.linspace(0, 1, 21)])


SEQUENCES = sorted(path.stem for path in (GOLDEN / "pytorch").glob("*.txt"))


def golden(preset, name):
    return from_otb(np.loadtxt(GOLDEN / preset / f"{name}.txt", delimiter=","))


@pytest.mark.parametrize("name", SEQUENCES)
def test_boxes_agree_with_the_yardstick(data_dir, name):
    """Preset pytorch, the released param.pth, a hundred frames: boxes of the PyTorch tracker
    (benchmarks/parity.py).

    On eleven of the twelve they are equal; on Subway one scale is another one for some frames.
    """
    boxes = track_sequence(
        data_dir / "sequences" / name, data_dir / "weights" / "param.pth", "pytorch", 100
    )
    expected = golden("pytorch", name)[: len(boxes)]
    distance = np.hypot(
        *(boxes[:, :2] + boxes[:, 2:] / 2 - expected[:, :2] - expected[:, 2:] / 2).T
    )
    # pixels; the files have four digits
    assert distance.mean() <= (0.02 if name == "Subway" else 1e-3)
    assert iou(boxes, expected).mean() >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_whole_sequences_score_as_the_yardstick(data_dir, name):
    folder = data_dir / "sequences" / name
    truth = read_boxes(folder / "groundtruth_rect.txt")
    boxes = track_sequence(folder, data_dir / "weights" / "param.pth", "pytorch")
    expected = auc(golden("pytorch", name), truth)
    assert auc(boxes, truth) == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_the_paper_s_david(data_dir):
    folder = data_dir / "sequences" / "David"
    weights = data_dir / "weights" / "DCFNet-dataset-3-net-21-loss-1-epoch-50.mat"
    truth = read_boxes(folder / "groundtruth_rect.txt")
    assert auc(track_sequence(folder, weights, "paper"), truth) == pytest.approx(0.795, abs=0.03)
    assert auc(golden("paper", "David"), truth) == pytest.approx(0.795, abs=0.001)


# --- the packaged weights ---


@pytest.mark.slow
def test_packaged_light_scores_as_the_model_card_says(data_dir):
    scores = []
    for name in SEQUENCES:
        folder = data_dir / "sequences" / name
        scores.append(
            auc(
                track_sequence(folder, "light", "default"),
                read_boxes(folder / "groundtruth_rect.txt"),
            )
        )
    assert np.mean(scores) == pytest.approx(0.653, abs=0.01)


def test_a_frame_allocates_no_array(scene, monkeypatch):
    """In steady state all memory is there: what an update has at any moment beyond what was there
    before is 32 KB.

    That is small objects and vectors of one number a row, each below 4 KB.  A patch or a map has 60
    KB, a spectrum 400.

    Ufuncs have buffers of their own when they walk over strided arrays, of a fixed number of
    elements.  These are no arrays; they are made small here, in the one thread that the test runs
    on, so that arrays would be seen."""
    tracker = Tracker(random_weights(), "pytorch")
    frames = [scene(60 + i % 3, 40) for i in range(8)]
    tracker.init(frames[0], (60, 40, 30, 24))
    monkeypatch.setattr(
        Cores, "map", lambda cores, function, items: [function(item) for item in items]
    )
    peaks = []
    size = np.setbufsize(128)
    tracemalloc.start()
    try:
        for frame in frames:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            tracker.update(frame)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
        np.setbufsize(size)
    assert max(peaks[2:]) < 32 * 1024
