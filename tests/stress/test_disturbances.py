"""Each disturbance does what it says, and its truth is where the target is."""

import cv2
import numpy as np
import pytest

from dcfnet_np.stress.disturbances import COMES, DISTURBANCES, PANS, RAMP, Moment

HEIGHT, WIDTH = 181, 241
BOX = np.array([100.0, 70.0, 36.0, 22.0])
LAST = 10**6  # a time at which every slow change has ended


def moment(time, strength, direction=0.7, seed=3):
    texture = np.full((40, 50, 3), (0, 0, 200), np.uint8)
    return Moment(time, strength, direction, texture, seed)


def bright_ellipse(box=BOX):
    """A white ellipse that fills the box, drawn four times as fine."""
    fine = np.zeros((4 * HEIGHT, 4 * WIDTH), np.uint8)
    x, y, w, h = 4 * box
    centre, axes = (x + w / 2 - 0.5, y + h / 2 - 0.5), (w, h)
    cv2.ellipse(fine, (centre, axes, 0), 255, -1)
    small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, axis=2)


def seen_box(frame):
    """Where the ellipse is, by its moments: a full one of axes w, h has variances w²/16, h²/16."""
    weights = frame[..., 0].astype(float)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    total = weights.sum()
    x, y = (weights * columns).sum() / total, (weights * rows).sum() / total
    w = 4 * np.sqrt((weights * (columns - x) ** 2).sum() / total)
    h = 4 * np.sqrt((weights * (rows - y) ** 2).sum() / total)
    return np.array([x - w / 2, y - h / 2, w, h])


@pytest.mark.parametrize(("name", "strength"), [
    ("jump", 0.8), ("zoom-in", 1.7), ("zoom-out", 1.9), ("stretch", 2.5), ("turn", 35),
    ("roll", 90), ("none", 0),
])  # fmt: skip
@pytest.mark.parametrize("direction", [0.7, 2.6])
def test_the_truth_is_where_the_target_is(name, strength, direction):
    now = moment(LAST, strength, direction)
    frame, box = DISTURBANCES[name].change(bright_ellipse(), BOX, now)
    seen = seen_box(frame)  # a little larger: what is resampled is smoothed
    np.testing.assert_allclose(box[:2] + box[2:] / 2, seen[:2] + seen[2:] / 2, atol=0.05)
    np.testing.assert_allclose(box[2:], seen[2:], rtol=0.03)


def test_sizes_by_hand():
    def size(name, strength, time=LAST):
        return DISTURBANCES[name].change(bright_ellipse(), BOX, moment(time, strength))[1][2:]

    np.testing.assert_allclose(size("zoom-in", 2), [72, 44])
    np.testing.assert_allclose(size("zoom-out", 2), [18, 11])
    np.testing.assert_allclose(size("zoom-in", 4, RAMP // 2 - 1), [72, 44])  # half way of a ramp
    np.testing.assert_allclose(size("stretch", 4), [72, 11])
    np.testing.assert_allclose(size("roll", 90), [22, 36], atol=1e-9)


def test_a_jump_is_as_long_as_its_strength_says():
    _, box = DISTURBANCES["jump"].change(bright_ellipse(), BOX, moment(0, 1.5))
    assert np.hypot(*(box - BOX)[:2]) == pytest.approx(1.5 * np.sqrt(36 * 22))


@pytest.mark.parametrize("name", DISTURBANCES)
def test_frames_stay_frames(name):
    """What was given is not written to, and what comes is the same for the same moment."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    before = frame.copy()
    disturbance = DISTURBANCES[name]
    for strength in disturbance.strengths:
        for time in range(disturbance.lasts(strength) + 2):
            now = moment(time, strength)
            changed, box = disturbance.change(frame, BOX, now)
            assert (changed.shape, changed.dtype) == (frame.shape, np.uint8)
            assert box.shape == (4,) and np.isfinite(box).all() == np.isfinite(box).any()
        again, _ = disturbance.change(frame, BOX, now)
        assert (again == changed).all()
    assert (frame == before).all() and BOX.tolist() == [100, 70, 36, 22]


@pytest.mark.parametrize("strength", [5, 20])
def test_an_occluder_hides_the_whole_target_for_so_many_frames(strength):
    white = bright_ellipse()
    disturbance = DISTURBANCES["occlusion"]
    hidden, absent = [], []
    for time in range(disturbance.lasts(strength)):
        frame, box = disturbance.change(white, BOX, moment(time, strength))
        hidden.append((frame[..., 0] > 0).sum() == 0)
        absent.append(np.isnan(box).all())
    assert sum(hidden) == strength and np.flatnonzero(hidden)[0] == COMES - 1
    assert all(a for h, a in zip(hidden, absent) if h)  # a target that cannot be seen has no truth
    for name in ("occlusion", "half-occlusion"):  # at the end nothing stays beside the target
        frame, _ = DISTURBANCES[name].change(white, BOX, moment(time + 1, strength))
        assert (frame == white).all()


def test_half_an_occlusion_hides_half():
    white = bright_ellipse()
    for direction in (0.1, 3.0):
        now = moment(COMES + 3, 10, direction)
        frame, box = DISTURBANCES["half-occlusion"].change(white, BOX, now)
        assert (frame[..., 0] > 0).sum() / (white[..., 0] > 0).sum() == pytest.approx(0.5, abs=0.05)
        assert (box == BOX).all()


def test_the_camera_looks_away_and_back():
    white, disturbance = bright_ellipse(), DISTURBANCES["leave"]
    seen, absent = [], []
    for time in range(disturbance.lasts(7)):
        frame, box = disturbance.change(white, BOX, moment(time, 7))
        seen.append((frame[..., 0] > 0).sum())
        absent.append(np.isnan(box).all())
    gone = np.flatnonzero(np.array(seen) == 0)
    assert {*range(PANS - 1, PANS + 7)} <= {*gone} and all(absent[k] for k in gone)
    assert seen[-1] == (white[..., 0] > 0).sum()


def test_a_look_alike_is_a_copy_beside_the_target():
    frame, box = DISTURBANCES["look-alike"].change(bright_ellipse(), BOX, moment(14, 0.7))
    copies, _, facts, _ = cv2.connectedComponentsWithStats((frame[..., 0] > 127).astype(np.uint8))
    assert copies == 3 and (box == BOX).all()  # the ground, and two
    distance = abs(facts[1, 1] + facts[1, 3] / 2 - facts[2, 1] - facts[2, 3] / 2)
    assert distance == pytest.approx(22 / 0.7, abs=1)


def test_light_and_sharpness_do_what_they_say():
    rng = np.random.default_rng(1)
    frame = rng.integers(100, 120, (HEIGHT, WIDTH, 3), np.uint8)

    def after(name, strength, time=LAST):
        return DISTURBANCES[name].change(frame, BOX, moment(time, strength))[0].astype(float)

    assert after("fade", 4).mean() == pytest.approx(frame.mean() / 4, abs=0.5)
    assert after("flash", 2, 0).mean() == pytest.approx(2 * frame.mean(), abs=0.5)
    assert (after("flash", 2, 3) == frame).all()
    assert (after("noise", 10) - frame).std() == pytest.approx(10, abs=0.3)
    for name, strength in (("blur", 0.5), ("coarse", 4)):
        soft = after(name, strength, 0)
        assert soft.std() < 0.5 * frame.std() and soft.mean() == pytest.approx(frame.mean(), abs=1)
    assert 0.5 < abs(after("jpeg", 90) - frame).mean() < 20
