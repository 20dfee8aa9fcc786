"""peak.cu against the tracker's array code, on the CPU stand-in and on a GPU."""

import dataclasses

import numpy as np
import pytest

from dcfnet_np.backend import to_numpy
from dcfnet_np.kernels import peak
from dcfnet_np.presets import PRESETS
from dcfnet_np.tracking.response import NOTHING, measure, peak_place
from dcfnet_np.tracking.target import Target

SMALLEST, LARGEST = (4.0, 5.0), (60.0, 45.0)


def unravel(index, shape):
    return int(index) // shape[1], int(index) % shape[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (2, 24, 25), (2, 40, 23), (0, 4, 4)])
def test_map_peaks(device, rng, shape, dtype):
    maps = rng.standard_normal(shape).astype(dtype)
    values, indices, sums = map(to_numpy, peak.map_peaks(device(maps)))
    flat = maps.reshape(len(maps), shape[1] * shape[2])
    assert (values == flat.max(1)).all() and (indices == flat.argmax(1)).all()
    wide = flat.astype(np.float64)
    np.testing.assert_allclose(
        sums, np.stack([wide.sum(1), (wide**2).sum(1)], 1), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("shape", [(5, 7), (30, 23)])
def test_ties(device, rng, shape):
    maps = rng.integers(0, 3, (6, *shape)).astype(np.float32)  # many equal peaks
    rows = to_numpy(peak.map_peaks(device(maps)).indices)
    columns = to_numpy(peak.map_peaks(device(maps), by_columns=True).indices)
    for image, by_row, by_column in zip(maps, rows, columns):
        assert by_row == image.argmax()
        row, column = np.unravel_index(image.ravel(order="F").argmax(), shape, order="F")
        assert unravel(by_column, shape) == (row, column)


def test_nan_is_the_largest(device, rng):
    maps = rng.standard_normal((3, 9, 8)).astype(np.float32)
    maps[1, 4, 2] = maps[1, 7, 7] = np.nan
    maps[2, 3, 3] = np.inf
    values, indices, _ = map(to_numpy, peak.map_peaks(device(maps)))
    assert np.isfinite(values[0]) and np.isnan(values[1]) and values[2] == np.inf
    assert indices[1] == 4 * 8 + 2


def resting(preset, box):
    """A target that has been followed for a while, as a `Target`."""
    x, y, w, h = box
    target = Target(tuple(box), (100, 200, 3), preset)
    target.min_size, target.max_size = np.array(SMALLEST), np.array(LARGEST)
    target.usual, target.unsure = 0.9, 1
    target.sure_place = np.array([x - 7, y + 5]), np.array([w + 1, h + 2])
    return target


def make_targets(put, preset, boxes, dtype):
    """T targets at rest and the windows of their search, as the tracker has them before a frame."""
    targets = [resting(preset, box) for box in boxes]
    t, windows = len(targets), []
    for target in targets:
        sizes = target.windows(preset.scale_factors)
        windows.append(np.hstack([np.tile(target.centre, (len(sizes), 1)), sizes]))
    ranges = np.tile(np.array([3, 250], np.float32), (t * preset.num_scales, 3, 1))
    arrays = (
        np.array([state_of(target) for target in targets]),
        np.concatenate(windows),
        np.empty((t, 4)),
        np.empty(t, dtype),
        np.empty((t, len(peak.RESULT))),
        ranges,
        ranges[:t].copy(),
    )
    return peak.Targets(*map(put, arrays))


def state_of(target):
    """Columns as in peak.STATE."""
    limits = *target.min_size, *target.max_size
    sure = *target.sure_place[0], *target.sure_place[1]
    return [*target.centre, *target.size, *limits, target.usual, target.unsure, *sure]


def expected(preset, response, box, flat):
    """What `PlainStep` does between response and learning, by its own functions, for one target.

    Returns the target, the quality of its response, and the best scale, -1 for no response.
    """
    target = resting(preset, box)
    windows = target.windows(preset.scale_factors)
    peaks = response.reshape(len(response), -1).max(1) * preset.scale_penalties
    answered = not flat and np.isfinite(peaks).all()
    best, quality = 0 if answered else -1, NOTHING
    if answered and peaks.max() > 0:
        best = int(peaks.argmax())
        quality = measure(response[best])
        target.move(peak_place(response[best], preset), windows[best])
    target.judge(quality)
    return target, quality, best


def half_spectra(maps):
    with np.errstate(invalid="ignore"):  # some hold NaN and infinity on purpose
        return np.fft.rfft2(maps.astype(float)).astype(np.result_type(maps, np.complex64))


def move(put, preset, maps, targets):
    """`map_peaks` and `move_targets` on maps (T, S, N, N), as `DeviceStep` calls them."""
    maps = maps.reshape(-1, *maps.shape[2:])
    peak.move_targets(
        put(maps),
        put(half_spectra(maps)),
        peak.map_peaks(put(maps), by_columns=preset.column_major_ties),
        put(preset.scale_penalties),
        put(preset.scale_factors),
        targets,
        peak.MoveRules.of(preset),
    )


SHARE = {"min_share": 0.45, "min_share_decay": 0.8, "min_score": 0.1, "usual_rate": 0.3}


@pytest.mark.parametrize("dtype, size", [(np.float32, 25), (np.float64, 16), (np.float32, 9)])
@pytest.mark.parametrize("name", [*PRESETS, "share"])
def test_move_targets(device, rng, name, dtype, size):
    """Found, at the edges of the map, unsure and lost ones, and those without a response."""
    changes = SHARE if name == "share" else {}
    preset = dataclasses.replace(PRESETS.get(name, PRESETS["default"]), input_size=size, **changes)
    s = preset.num_scales
    boxes = np.array(
        [
            (30.2, 20.4, 20.0, 12.5),
            (5.0, 6.0, 4.2, 44.9),
            (60.1, 50.7, 30.0, 7.7),
            (1.0, 2.0, 9.0, 9.0),
        ]
    )
    boxes = np.vstack([boxes, boxes[:1], [(20.0, 30.0, 59.9, 5.05)]])
    maps = rng.standard_normal((len(boxes), s, size, size)).astype(dtype)
    # the same in all scales: the penalties decide, then the first wins
    maps[0, :, size - 2, 1] = 9.0
    maps[1, s - 1, size // 2, size // 2 + 1] = 12.0  # the middle of the map, where a sign changes
    maps[2] = -abs(maps[2])  # nothing above zero: lost
    maps[3, 0, 2, 2] = np.nan
    maps[5, 0, size // 2 + 1, size // 2] = 12.0  # the middle again, and a scale that is too small
    maps[5] /= 33  # a peak below 1 is the score itself
    targets = make_targets(device, preset, boxes, dtype)
    targets.ranges[4 * s : 6 * s, :, 1] = 3.25  # flat windows
    targets.ranges[4 * s : 6 * s, 1] += 100  # of one colour, which is not gray
    targets.ranges[5 * s - 1] = np.inf, 0  # the last outside the frame
    targets.ranges[6 * s - 1, 2, 1] = 4  # but for one colour of the last window of the next target
    move(device, preset, maps, targets)
    state, windows, updates, rates, results, *both_ranges = map(to_numpy, targets)
    for ranges in both_ranges:
        assert ranges.shape[1:] == (3, 2) and (ranges == [np.inf, 0]).all()
    for t, box in enumerate(boxes):
        target, quality, best = expected(preset, maps[t], box, t == 4)
        np.testing.assert_allclose(state[t], state_of(target), rtol=1e-7)
        exact = [*range(8), *range(9, 14)]  # all but the usual score
        assert (state[t, exact] == np.array(state_of(target))[exact]).all()
        sure = target.unsure == 0
        if sure:
            assert (updates[t] == [*target.centre, *target.template_window]).all()
        sizes = target.windows(preset.scale_factors)
        centres = np.tile(target.centre, (s, 1))
        assert (windows[t * s : (t + 1) * s] == np.hstack([centres, sizes])).all()
        assert rates[t] == (dtype(preset.learning_rate) if sure else 0)
        assert (results[t, :5] == [*target.box, sure]).all()
        assert results[t, 5] == pytest.approx(quality.score, rel=1e-6)
        assert results[t, 6] == pytest.approx(quality.psr, rel=1e-9)
        assert (results[t, 7:] == [best, target.unsure]).all()
    if name == "share":
        assert set(state[:, 9]) == {0, 2}  # some are sure, some are lost


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_a_value_that_is_not_finite_is_no_response(device, rng, scale, value, dtype):
    """Whatever its scale, as in `PlainStep`; the target beside it, at peace, moves."""
    preset, box = dataclasses.replace(PRESETS["default"], input_size=9), (30.0, 20.0, 18.0, 12.0)
    maps = abs(rng.normal(0, 0.1, (2, 3, 9, 9))).astype(dtype)
    maps[:, 1, 2, 3] = 0.8
    maps[0, scale, 5, 1] = value
    targets = make_targets(device, preset, np.array([box, box]), dtype)
    move(device, preset, maps, targets)
    state, _, _, rates, results, *_ = map(to_numpy, targets)
    unsure = resting(preset, box)
    unsure.judge(NOTHING)
    assert tuple(results[0]) == (*unsure.box, 0, 0, 0, -1, 2) and rates[0] == 0
    assert tuple(state[0, :4]) == (39, 26, *unsure.size)
    assert results[1, 4] == 1 and results[1, 5] == dtype(0.8) and rates[1] > 0
    np.testing.assert_allclose(state[1, :2], [39 + 3 * 54 / 9, 26 + 2 * 36 / 9])


def test_errors_come_before_the_launch(device):
    maps = device(np.zeros((4, 5, 5), np.float32))
    preset = PRESETS["default"]
    targets = make_targets(device, preset, np.ones((2, 4)), np.float32)
    with pytest.raises(ValueError, match="at least one pixel"):
        peak.map_peaks(device(np.zeros((2, 0, 3), np.float32)))
    with pytest.raises(TypeError, match="float32 or float64"):
        peak.map_peaks(device(np.zeros((2, 3, 3), np.int32)))
    with pytest.raises(ValueError, match="3 scales of every target, got 4"):
        peak.move_targets(
            maps, half_spectra(maps), peak.make_peaks(4, np.float32), device(np.ones(3)),
            device(np.ones(3)), targets, peak.MoveRules(1.0, 0.1),
        )  # fmt: skip
