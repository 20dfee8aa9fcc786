"""Traces hold what the tracker and a training step computed, and where two of them part."""

import dataclasses
import re
from pathlib import Path

import cuda_on_cpu
import h5py
import numpy as np
import pytest
from kernel_device import on_cpu
from scenes import PATCH, make_frames, make_sequence, write_images
from trackers import Watched

from dcfnet_np import network, trace
from dcfnet_np.backend import Device
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.ops.fourier import irfft2, label_band, rfft2
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.plain_step import make_objective, pair_gradients, pair_loss
from dcfnet_np.vision.windows import gaussian_label
from dcfnet_np.weights import Weights, save_weights

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "traces.md"
SMALL = Preset("small", input_size=45)
BOTH = [SMALL, Preset("ratio", input_size=32, update_rule="ratio", num_scales=1, window_power=0.0)]
OPTIONS = {
    name: dataclasses.replace(preset, input_size=63, sigma_factor=0.2)
    for name, preset in PRESETS.items()
} | {"no band": Preset("no band", input_size=45, num_scales=5)}


@pytest.fixture(scope="module")
def frames():
    return make_frames(np.random.default_rng(4), 4)


@pytest.fixture(scope="module")
def weights():
    return Weights("light", network.initialise("light", 3), "rgb")


@pytest.fixture(params=BOTH, ids=lambda preset: preset.name)
def recorder(request, weights):
    return trace.Recorder(weights, request.param)


def assert_close(got, want, tolerance=1e-5):
    """To `tolerance` of the largest value."""
    np.testing.assert_allclose(got, want, atol=tolerance * abs(want).max(), rtol=1e-7)


def assert_own(record, result, preset):
    """What was traced of a frame is what the tracker used and returned."""
    for name in ("box", "score", "psr", "scale", "ok"):
        np.testing.assert_array_equal(record[name], getattr(result, name))
    assert len(record["response"]) == len(record["peaks"]) == preset.num_scales
    if "redetection_place" in record:
        found = [
            np.array_equal(np.fft.fftshift(map_), result.response)
            for map_ in record["redetection_response"]
        ]
        place = record["redetection_centres"][found]
        np.testing.assert_array_equal(place, record["redetection_place"][None])
    else:
        best = record["response"][record["peaks"].argmax()]
        np.testing.assert_array_equal(np.fft.fftshift(best), result.response)
        assert record["score"] == max(best.max(), 0)


@pytest.mark.parametrize("name", OPTIONS)
def test_recording_changes_nothing(name, frames, weights):
    """Box, response and model are those of a tracker that nobody records."""
    settings = weights, OPTIONS[name]
    tracker, watched, recorder = (
        Tracker(*settings, "cpu"),
        Watched(*settings),
        trace.Recorder(*settings),
    )
    for each in (tracker, watched, recorder):
        each.init(frames[0], PATCH)
    band = recorder.attributes()["band"]  # with a band the tracker's features are the fast ones
    assert (tuple(band) == (-1, -1)) == (name == "no band") and (band[0] == band[1] < 31)
    for frame in frames[1:]:
        result = tracker.update(frame, response=True)
        watched.update(frame)
        recorder.update(frame)
        assert_own(recorder.record, result, recorder.preset)
        for part, mean in zip(("numerator", "denominator"), watched.filter.means):
            np.testing.assert_array_equal(recorder.record[part], mean)


def test_redetection_is_no_learning(rng):
    """A target comes back elsewhere: what is looked for has a name of its own, and is found."""
    scene, boxes = make_sequence(rng, 60, 240, 180, size=(30, 26), step=(3.1, 1.7), growth=1.0)
    empty = np.median(scene, axis=0).astype(np.uint8)
    frames = [*scene[:4], empty, empty, empty, *[scene[35]] * 12]
    preset = dataclasses.replace(PRESETS["careful"], min_score=0.4, lost_after=3)
    tracker, recorder = Tracker(preset=preset, device="cpu"), trace.Recorder(preset=preset)
    steps = [record for _, record in recorder.steps(frames, boxes[0], training=False)]
    tracker.init(frames[0], boxes[0])
    searched = found = 0
    for frame, record in zip(frames[1:], steps[1:]):
        result = tracker.update(frame, response=True)
        assert_own(record, result, preset)
        assert ("template_f" in record) == result.ok
        if "redetection_f" in record:
            parts = ("centres", "windows", "crop", "features", "f", "response")
            (count,) = {len(record[f"redetection_{part}"]) for part in parts}
            assert count in (preset.redetection, preset.redetection + preset.num_scales)
            windowed = record["redetection_features"] * steps[0]["cosine_window"]
            assert_close(record["redetection_f"], rfft2(windowed, recorder.band))
            searched += 1
        if "redetection_place" in record:
            found += 1
            peak, windows = record["redetection_peak"], record["redetection_windows"]
            window = windows[
                preset.redetection + record["redetection_response"][-3:].max((1, 2)).argmax()
            ]
            centre = record["box"][:2] + record["box"][2:] / 2
            moved = peak[::-1] * window / preset.input_size
            np.testing.assert_allclose(centre, record["redetection_place"] + moved)
            np.testing.assert_allclose(record["template_centres"][0], centre)
    assert searched and found == 1 and steps[-1]["ok"]


def test_an_observer_needs_a_cpu(monkeypatch):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    with pytest.raises(ValueError, match="Tracker: an observer needs device='cpu', got cuda:1"):
        Tracker(device="cuda:1", observer=lambda *event: None)


def test_every_quantity_follows_from_the_ones_before(recorder, frames):
    """Which also proves that all are copies: none has changed when the last frame is done."""
    preset, size = recorder.preset, recorder.preset.input_size
    steps = [record for _, record in recorder.steps(frames, PATCH, training=False)]
    label = gaussian_label((size, size), preset.sigma)
    band = label_band(label)
    assert tuple(recorder.attributes()["band"]) == ((-1, -1) if band is None else band.limits)
    model = OnlineFilter(rfft2(label, band), preset.lam, preset.learning_rate, preset.update_rule)
    before = None
    for number, record in enumerate(steps):
        for role in ["template"] if number == 0 else ["search", "template"]:
            windowed = record[f"{role}_features"] * steps[0]["cosine_window"]
            assert_close(record[f"{role}_f"], rfft2(windowed, band))
        centre = record["box"][:2] + record["box"][2:] / 2
        if number:
            response = irfft2(model.response_f(record["search_f"]), (size, size), band)
            np.testing.assert_allclose(record["response"], response, atol=1e-5)
            best, (row, column) = record["peaks"].argmax(), record["peak"]
            highest = record["response"][best].max()
            assert record["response"][best][row, column] == highest
            assert record["score"] == pytest.approx(highest, rel=1e-5)
            moved = record["peak"][::-1] * record["search_windows"][best] / size
            np.testing.assert_allclose(centre, before + moved)
        before = centre
        model.update(record["template_f"][0])
        for name, expected in zip(("numerator", "denominator"), model.means):
            assert_close(record[name], expected)


def test_the_training_step_is_that_of_the_training_loop(recorder, frames):
    steps = dict(recorder.steps(frames, PATCH))
    values, gradients = steps["training values"], steps["training gradients"]
    images = values["images"] + recorder.network.mean
    np.testing.assert_allclose(images[:1], steps["frame 0"]["template_crop"], atol=1e-4)
    one = recorder.preset.num_scales // 2
    np.testing.assert_allclose(images[1], steps["frame 1"]["search_crop"][one], atol=1e-4)
    shape = values["response"].shape[1:]
    objective = make_objective(
        shape, recorder.preset.sigma, recorder.preset.lam, band=False, device=Device("cpu")
    )
    loss, caches = pair_loss(values["images"], recorder.network.parameters, "light", objective)
    assert float(values["loss"]) == pytest.approx(loss, rel=1e-6)
    for name, gradient in pair_gradients(caches).items():
        assert_close(gradients[f"d{name}"], gradient)
    by_paper = gradients["by_conjugate_f"] + gradients["by_template_f"].conj()
    spectra = by_paper, gradients["dsearch_f"]
    for dfeatures, spectrum in zip(gradients["dlrn1"], spectra, strict=True):
        assert_close(irfft2(spectrum, shape)[0], dfeatures, 1e-6)
    for name in ("images", "conv1", "relu1", "conv2", "lrn1"):
        assert gradients[f"d{name}"].shape == values[name].shape


def test_every_quantity_is_documented(recorder, frames):
    documented = set(re.findall(r"`([\w.]+)`", DOCUMENT.read_text()))
    names = {name for record in dict(recorder.steps(frames, PATCH)).values() for name in record}
    heard = set(re.findall(r'"(redetection_\w+)"', Path(trace.__file__).read_text()))
    heard |= {name.replace("search", "redetection") for name in names if name.startswith("search")}
    assert heard | names <= documented | {"dconv2.weight", "dconv2.bias"}


# --- files


def test_a_file_is_read_with_h5py_alone(recorder, frames, tmp_path):
    steps = list(recorder.steps(frames, PATCH))
    path = tmp_path / "trace.h5"
    names = trace.write_trace(path, steps, {**recorder.attributes(), "source": "scene"})
    assert names == [*(f"frame {i}" for i in range(4)), "training values", "training gradients"]
    with h5py.File(path) as file:
        assert list(file) == names and file.attrs["channel_order"] == b"rgb"
        assert f'"input_size": {recorder.preset.input_size}' in file.attrs["preset"].decode()
        for name, record in steps:
            assert list(file[name]) == list(record)
            for quantity, array in record.items():
                np.testing.assert_array_equal(file[name][quantity][()], array)
                assert file[name][quantity].dtype == array.dtype
    assert trace.differences(steps, trace.read_trace(path), 0) == ([], 6)


def test_what_is_no_trace(tmp_path):
    (tmp_path / "text.h5").write_text("text")
    h5py.File(tmp_path / "unchecked.h5", "w").close()
    h5py.File(tmp_path / "other.h5", "w", libver="v110").close()
    for name, message in (
        ("nothing", "there is no such file"),
        ("text", "it cannot be opened"),
        ("unchecked", "it cannot be opened"),
        ("other", "not a trace of version 2"),
    ):
        with pytest.raises(ValueError, match=f"{name}.h5: {message}"):
            next(trace.read_trace(tmp_path / f"{name}.h5"))


def test_a_run_that_fails_leaves_no_file(recorder, frames, tmp_path):
    steps = recorder.steps([frames[0], frames[1][:-1]], PATCH)  # another size
    with pytest.raises(ValueError, match="the frame must be"):
        trace.write_trace(tmp_path / "trace.h5", steps, recorder.attributes())
    assert list(tmp_path.iterdir()) == []


# --- differences


def made_up(*changes):
    """Three steps; changes: (step, quantity, index, value)."""
    steps = [
        (f"frame {i}", {"crop": np.arange(6.0).reshape(2, 3) + i, "box": np.ones(4)})
        for i in range(3)
    ]
    for step, quantity, index, value in changes:
        steps[step][1][quantity][index] = value
    return steps


def test_the_first_difference_comes_first():
    changed = made_up((1, "box", 2, 1.25), (2, "crop", (1, 0), 5.001), (2, "box", 0, 7))
    found, count = trace.differences(made_up(), changed)
    assert count == 3 and [(d.step, d.quantity, d.worst) for d in found] == [
        ("frame 1", "box", (2,)),
        ("frame 2", "crop", (1, 0)),
    ]
    assert found[0].largest == 0.25 and found[0].relative == 0.2
    assert str(found[0]) == "frame 1, box: 0.25 (2.0e-01 of the largest) at (2,): 1 and 1.25"


def test_tolerance_is_relative_and_0_means_every_bit():
    changed = made_up((0, "crop", (0, 0), 4.9e-6))
    assert trace.differences(made_up(), changed, 1e-6)[0] == []  # the largest is 5
    assert trace.differences(made_up(), changed, 0.9e-6)[0][0].quantity == "crop"
    changed = made_up((2, "box", 0, np.nextafter(1, 2)))
    assert trace.differences(made_up(), changed)[0] == []
    assert trace.differences(made_up(), changed, 0)[0][0].quantity == "box"
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        trace.differences([], [], -1)


def test_shapes_missing_quantities_and_nan():
    changed = made_up((2, "box", 3, np.nan))
    changed[0][1]["crop"] = np.ones((2, 2))
    changed[1][1]["extra"] = np.ones(1)
    found, _ = trace.differences(made_up(), changed)
    assert [str(d) for d in found] == [
        "frame 0, crop: shapes (2, 3) and (2, 2)",
        "frame 1, extra: only in the second run",
        "frame 2, box: 1 and nan",
    ]
    both = made_up((2, "box", 3, np.nan))
    assert trace.differences(both, both)[0] == []


# --- the commands


def test_trace_and_diff(tmp_path, frames, weights, dcfnet):
    write_images(tmp_path / "walk", frames)
    save_weights(tmp_path / "random.h5", weights)
    walk, a, b = (tmp_path / name for name in ("walk", "a.h5", "b.h5"))
    common = ["--box", "20,10,16,12", "--weights", tmp_path / "random.h5", "--frames", "2"]
    said = f"wrote {a}: 2 frames and training values, training gradients\n"
    assert dcfnet("trace", walk, "--out", a, *common) == (0, said, "")
    same = "no difference beyond 0 in 4 steps\n"
    assert dcfnet("diff", a, a, "--tolerance", "0") == (0, same, "")
    assert dcfnet("trace", walk, "--out", b, *common, "--preset", "matlab-v2")[0] == 0
    code, by_files, _ = dcfnet("diff", a, b)
    assert code == 0 and by_files.startswith("first difference: frame 0, template_crop: ")
    code, by_presets, _ = dcfnet("diff", "--presets", "default,matlab-v2", walk, *common)
    frame_lines = [line for line in by_files.splitlines() if "training" not in line]
    assert code == 0 and by_presets.splitlines() == frame_lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("diff a.h5", "diff takes two traces, or --presets A,B and a SOURCE, got 1: a.h5"),
        ("diff a.h5 b.h5", "a.h5: there is no such file; a trace is written by dcfnet trace"),
        ("diff --presets pytorch,paper a b", "diff takes one SOURCE with --presets, got 2: a b"),
        ("diff --presets pytorch a", "must be two names with a comma between, got 'pytorch'"),
        ("diff --presets pytorch,other a", "unknown preset 'other'"),
        ("trace nowhere --out t.txt", "t.txt: the output must end in .h5"),
    ],
)
def test_bad_words(words, message, dcfnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = dcfnet(*words.split())
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
