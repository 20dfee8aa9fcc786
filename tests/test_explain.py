"""The interactive page in a real browser without a network: every control moves, and its numbers
are the library's.
"""

import base64
import dataclasses
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Page, chromium
from scenes import make_sequence
from trackers import Watched

from dcfnet_np import network, weights
from dcfnet_np.backend import select_device
from dcfnet_np.cli import main
from dcfnet_np.explain import mathml, page
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.tracker import Tracker
from dcfnet_np.tracking.response import score_of
from dcfnet_np.train import step
from dcfnet_np.train.sgd import sgd_step, zero_velocity
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.windows import gaussian_label, hann

TOLERANCE = (
    # relative, of the largest magnitude: the page computes in double precision, the library here in
    # single
    1e-4
)
SIZE = 125
# Settings that nobody would choose: window partly outside the frame, narrow label cut by the band,
# odd padding.
ODD = {
    "frame": 3,
    "centre": [31.25, 40.5],
    "padding": 1.7,
    "sigmaFactor": 0.06,
    "lambda": 3e5,
    "band": 17,
}


@pytest.fixture(scope="module")
def clip():
    """Eight frames in which a textured target, no square, walks over a textured ground and grows."""
    return walk(1.05)


def walk(growth, width=112, height=84, margin=0.0):
    """margin: how much wider and higher the box is than the target, as a share of it."""
    frames, boxes = make_sequence(
        np.random.default_rng(4), 8, width, height, (24, 18), growth=growth
    )
    x, y, w, h = map(float, boxes[0])
    box = (x - margin * w / 2, y - margin * h / 2, (1 + margin) * w, (1 + margin) * h)
    return page.Clip([np.ascontiguousarray(frame) for frame in frames], box, "a made-up scene")


@pytest.fixture(scope="module")
def file(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    page.write_page(path, clip, weights.load_weights("light"))
    return path


@pytest.fixture(scope="module")
def program():
    with chromium() as program:
        yield program


@pytest.fixture(scope="module")
def browser(file, program):
    with Page(program) as browser:
        browser.open(file)
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        yield browser


# Arrays leave the page as base64 of single precision: {"": 1} is kept, {"": Float32Array} becomes
# {"": {f32: "..."}}.
SEND = """
(async () => {
  const text = (bytes) => {
    let letters = "";
    for (let i = 0; i < bytes.length; i += 4096) letters += String.fromCharCode(...bytes.subarray(i, i + 4096));
    return btoa(letters);
  };
  const pack = (x) => {
    if (ArrayBuffer.isView(x)) return { f32: text(new Uint8Array(Float32Array.from(x).buffer)) };
    if (Array.isArray(x)) return x.map(pack);
    if (!x || typeof x !== "object") return x;
    return Object.fromEntries(Object.entries(x).map(([key, value]) => [key, pack(value)]));
  };
  return pack(await (VALUE));
})()
"""


def get(browser, script):
    """The value of a JavaScript expression whose typed arrays become NumPy's."""

    def unpack(value):
        if isinstance(value, list):
            return [unpack(item) for item in value]
        if isinstance(value, dict):
            if set(value) == {"f32"}:
                return np.frombuffer(base64.b64decode(value["f32"]), "<f4")
            return {name: unpack(item) for name, item in value.items()}
        return value

    return unpack(browser.run(SEND.replace("VALUE", script)))


def close(found, expected):
    expected = np.asarray(expected)
    error = (
        np.abs(np.asarray(found).reshape(expected.shape) - expected).max() / np.abs(expected).max()
    )
    assert error < TOLERANCE, error


def library(clip, settings):
    """Features, filter, response and all gradients by the Python library in float32."""
    loaded = weights.load_weights("light")
    x, y, w, h = clip.box
    window = np.array([[w, h]]) * (1 + settings["padding"])
    crops = [
        crop_patches(clip.frames[frame], centre, window, SIZE, rounded=True)
        for frame, centre in ((0, (x + w / 2, y + h / 2)), (settings["frame"], settings["centre"]))
    ]
    images = np.concatenate(crops) - np.array(loaded.mean, np.float32).reshape(3, 1, 1)
    features, caches = network.forward(images, loaded.parameters, "light")
    features = features * hann((SIZE, SIZE))
    label = gaussian_label((SIZE, SIZE), settings["sigmaFactor"] * SIZE / (1 + settings["padding"]))
    band = make_band((SIZE, SIZE), settings["band"])
    response, cache = dcf_forward(
        features[:1], features[1:], rfft2(label, band), settings["lambda"], band
    )
    loss, loss_cache = response_loss_forward(response, label)
    dtemplate, dsearch = dcf_backward(response_loss_backward(loss_cache), cache)
    dimages, dparameters = network.backward(
        np.concatenate([dtemplate, dsearch]) * hann((SIZE, SIZE)), caches
    )
    return {
        "features": features,
        "filter_f": cache.filter_f[0],
        "response": response[0],
        "loss": loss,
        "dtemplate": dtemplate[0],
        "dsearch": dsearch[0],
        "dimages": dimages,
        "parameters": dparameters,
    }


def in_band(spectra, K):
    """(D, bins) of the whole half spectrum, cut to the rows and columns of a band, in its order."""
    whole = spectra.reshape(32, SIZE, SIZE // 2 + 1)
    return np.concatenate([whole[:, : K + 1, : K + 1], whole[:, -K:, : K + 1]], axis=1)


# --- the numbers ---


def test_features_filter_response_and_gradients(browser, clip):
    expected = library(clip, ODD)
    before = browser.run("dcfnet.settings")
    browser.run(f"Object.assign(dcfnet.settings, {page.json.dumps(ODD)})")
    forward = get(browser, "dcfnet.forward()")
    backward = get(browser, "dcfnet.backward()")
    through = get(browser, "dcfnet.throughNetwork()")
    browser.run(f"Object.assign(dcfnet.settings, {page.json.dumps(before)})")
    close(forward["features"], expected["features"])
    close(in_band(forward["filterF"]["re"], 17), expected["filter_f"].real)
    close(in_band(forward["filterF"]["im"], 17), expected["filter_f"].imag)
    close(forward["response"], expected["response"])
    assert forward["loss"] == pytest.approx(expected["loss"], rel=TOLERANCE)
    close(backward["dtemplate"], expected["dtemplate"])
    close(backward["dsearch"], expected["dsearch"])
    close([through["template"], through["search"]], expected["dimages"])
    names = {"w1": "conv1.weight", "b1": "conv1.bias", "w2": "conv2.weight", "b2": "conv2.bias"}
    for ours, theirs in names.items():
        close(through["parameters"][ours], expected["parameters"][theirs])


# what a browser may do with `new Worker`, and how many share the features; none: the page itself
WORKERS = {
    "no worker": ("window.Worker = class { constructor() { throw new Error('none'); } };", 1),
    "dead workers": (
        "window.Worker = class extends Worker { constructor() { super('data:text/javascript,('); } };",
        1,
    ),
    "one worker": (
        "{ let left = 1; window.Worker = class extends Worker"
        " { constructor(address) { if (left-- <= 0) throw new Error('one'); super(address); } } };",
        1,
    ),
    "two workers": ("", 2),
}


@pytest.mark.parametrize("case", WORKERS)
def test_any_number_of_workers(case, clip, file, program):
    """The features that two workers share, and what is left where a browser starts one or none."""
    script, count = WORKERS[case]
    with Page(program) as browser:
        browser.page.add_init_script(script)
        browser.open(file)
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        browser.wait(f"dcfnet.workers().then((count) => count === {count})")
        browser.run(f"Object.assign(dcfnet.settings, {page.json.dumps(ODD)})")
        found, expected = get(browser, "dcfnet.forward()"), library(clip, ODD)
        close(found["features"], expected["features"])
        close(found["response"], expected["response"])
        assert browser.messages == []


def test_a_step_of_training(browser, clip):
    """The first two steps from the random weights: pairs, loss, gradients, parameters with momentum
    and decay.
    """
    boxes = browser.run("dcfnet.data.boxes")
    mean = np.array(weights.load_weights("light").mean, np.float32).reshape(3, 1, 1)
    crops = [
        crop_patches(frame, (x + w / 2, y + h / 2), np.array([[3 * w, 3 * h]]), 67, rounded=True)[0]
        - mean
        for frame, (x, y, w, h) in zip(clip.frames, boxes)
    ]
    cpu = select_device("cpu")
    objective = step.make_objective(
        (63, 63), 0.1 * 67 / 3, 1e-4, band=False, window=True, device=cpu
    )
    parameters = page._random()
    velocity = zero_velocity(parameters)
    scroll(browser, "training")
    rate = 10 ** float(browser.run("document.getElementById('rate').value"))
    for number in (1, 2):
        browser.run("document.getElementById('train-step').click()")
        browser.wait(f"dcfnet.lastStep.result?.step === {number} && dcfnet.idle()")
        found = get(browser, "dcfnet.lastStep.result")
        pairs = np.array(found["batch"])
        assert (
            len({tuple(pair) for pair in found["batch"]}) == 4 and (pairs[:, 0] < pairs[:, 1]).all()
        )
        images = np.stack([crops[i] for i in pairs.T.reshape(-1)])
        loss, caches = step.pair_loss(images, parameters, "light", objective)
        gradients = step.pair_gradients(caches)
        sgd_step(parameters, gradients, velocity, lr=rate, momentum=0.9, weight_decay=5e-5)
        assert found["loss"] == pytest.approx(loss, rel=TOLERANCE)
        for ours, theirs in {
            "w1": "conv1.weight",
            "b1": "conv1.bias",
            "w2": "conv2.weight",
            "b2": "conv2.bias",
        }.items():
            close(found["gradients"][ours], gradients[theirs])
            close(found["parameters"][ours], parameters[theirs])


def test_weight_decay(browser):
    """Large enough to show: the one of a training is below the tolerance in a few steps."""
    rng = np.random.default_rng(5)
    parameters, *gradients = ({"w": rng.normal(size=12), "b": rng.normal(size=3)} for _ in range(3))
    velocity = zero_velocity(parameters)
    values = page.json.dumps(
        [
            {name: value.tolist() for name, value in part.items()}
            for part in (parameters, velocity, *gradients)
        ]
    )
    found = get(
        browser,
        f"(() => {{ {page.join_modules('sgd.js')}; const [parameters, velocity, ...gradients] = {values};"
        "for (const one of gradients)"
        " modules['sgd.js'].sgdStep(parameters, one, velocity, { rate: 0.1, momentum: 0.7, decay: 0.3 });"
        "return { parameters, velocity }; })()",
    )
    for one in gradients:
        sgd_step(parameters, one, velocity, lr=0.1, momentum=0.7, weight_decay=0.3)
    for name in parameters:
        close(found["parameters"][name], parameters[name])
        close(found["velocity"][name], velocity[name])
    scroll(browser, "training")
    assert browser.run("document.getElementById('decay').textContent") == "5 × 10⁻⁵"


def test_the_tracker(browser, clip):
    """At another learning rate than the boxes in the page, with numerator and denominator at the
    end.
    """
    preset = dataclasses.replace(page.PRESET, learning_rate=10**-0.5)
    tracker = Watched("light", preset)
    tracker.init(clip.frames[0], clip.box)
    scroll(browser, "online")
    slide(browser, "beta", -0.5)
    for number, frame in enumerate(clip.frames[1:], 1):
        browser.run("document.getElementById('track-step').click()")
        browser.wait(f"dcfnet.steps.length === {number + 1} && dcfnet.idle()")
        result = tracker.update(frame)
        found = get(browser, "dcfnet.steps.at(-1)")
        assert found["box"] == pytest.approx(result.box, abs=1e-6)
        assert found["score"] == pytest.approx(result.score, rel=TOLERANCE)
    assert browser.run("document.getElementById('track-step').disabled")
    whole = found["denominator"].reshape(SIZE, SIZE)
    half, K = SIZE // 2, 28
    stored = np.fft.fftshift(tracker.filter.means[1], axes=0)
    close(whole[half - K : half + K + 1, half : half + K + 1], stored)
    numerator = np.fft.fftshift(np.sqrt((abs(tracker.filter.means[0]) ** 2).sum(0)), axes=0)
    close(
        found["numerator"].reshape(SIZE, SIZE)[half - K : half + K + 1, half : half + K + 1],
        numerator,
    )


OTHER = {  # no number that `default` has
    "padding": 1.7, "sigma_factor": 0.13, "lam": 1e6, "learning_rate": 0.2, "num_scales": 5, "scale_step": 1.035,
    "scale_penalty": 0.988, "min_scale": 0.87, "min_size": 16.6, "max_scale": 1.21,
}  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "fields", "last"),
    [
        ((1.05,), {}, None),
        ((1.06, 64, 34, 0.4), {}, (33.6 * 1.055**6, 34)),  # as high as the frame, and not as wide
        ((1.06,), OTHER, (1.21 * 24, 1.21 * 18)),
        ((0.95,), OTHER, (0.87 * 24, 16.6)),
    ],
    ids=["default grows", "default meets the frame", "other grows", "other shrinks"],
)
def test_every_constant_is_the_preset_s(program, tmp_path, monkeypatch, scene, fields, last):
    """Box for box where the scale changes, up to the largest and down to the smallest size, for any
    constants.
    """
    preset = dataclasses.replace(page.PRESET, **fields)
    monkeypatch.setattr(page, "PRESET", preset)
    clip = walk(*scene)
    page.write_page(tmp_path / "page.html", clip, weights.load_weights("light"))
    tracker, boxes = Tracker("light", preset, "cpu"), []
    tracker.init(clip.frames[0], clip.box)
    with Page(program) as browser:
        browser.open(tmp_path / "page.html")
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        settings = browser.run("dcfnet.settings")
        assert (settings["padding"], settings["sigmaFactor"], settings["lambda"]) == (
            preset.padding, preset.sigma_factor, preset.lam,
        )  # fmt: skip
        scroll(browser, "online")
        assert f"β = {preset.learning_rate:g}." in browser.run(
            "document.getElementById('online').innerText"
        )
        for number, frame in enumerate(clip.frames[1:], 1):
            browser.run("document.getElementById('track-step').click()")
            browser.wait(f"dcfnet.steps.length === {number + 1} && dcfnet.idle()")
            result = tracker.update(frame)
            boxes.append(result.box)
            assert browser.run("dcfnet.steps.at(-1).score") == pytest.approx(
                result.score, rel=TOLERANCE
            )
            assert browser.run("dcfnet.steps.at(-1).box") == pytest.approx(boxes[-1], abs=1e-6)
            assert browser.run(f"dcfnet.data.boxes[{number}]") == pytest.approx(boxes[-1], abs=1e-9)
    assert len({box[2] for box in boxes}) > 3 and boxes[-1][2] != boxes[-1][3]
    assert last is None or boxes[-1][2:] == pytest.approx(last)


def test_what_the_page_s_tracker_does_not_know_is_off():
    """Whoever switches one of these on in `default` has to teach session.js."""
    known = {*OTHER, "name", "input_size", "lost_after", "redetection_psr"}
    rest = {
        name: value for name, value in dataclasses.asdict(page.PRESET).items() if name not in known
    }
    assert rest == {
        "lam_divisor": "none", "update_rule": "ratio", "update_crop": "clamped", "scale_exponents": "centred",
        "swapped_clamp": False, "rounded_crop": True, "cosine_window": True, "column_major_ties": False,
        "wrap_before_half": False, "min_score": 0.0, "min_psr": 0.0, "redetection": 0,
    }  # fmt: skip


def test_no_constant_is_typed_twice():
    """Of what the library knows, no number stands in a script or a text."""
    folder = Path(page.__file__).parent
    for path in [*folder.glob("js/*.js"), *folder.glob("sections/*.j2"), *folder.glob("*.j2")]:
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        found = re.findall(
            r"(?<![\w.])(1e-4|5e-5|0\.015|0?\.99[27]5|1\.0[25]\d+|5\.85|125|67)(?!\.?\w)", text
        )
        assert not found, f"{path.name}: {found}"


def test_the_tracker_on_a_blank_frame(program, tmp_path):
    """A still target whose window reaches out of the frame; the third frame is blue."""
    frames, boxes = make_sequence(np.random.default_rng(4), 8, 112, 84, (24, 18))
    first = np.ascontiguousarray(frames[0, :, 8:])  # the target is near the left rim
    frames = np.stack([first] * 8)
    frames[2] = 250, 30, 10
    box = (boxes[0, 0] - 8, *boxes[0, 1:])
    page.write_page(
        tmp_path / "page.html",
        page.Clip(list(frames), box, "a made-up scene"),
        weights.load_weights("light"),
    )
    tracker = Watched("light", dataclasses.replace(page.PRESET, learning_rate=0.1))
    tracker.init(frames[0], box)
    with Page(program) as browser:
        browser.open(tmp_path / "page.html")
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        scroll(browser, "online")
        slide(browser, "beta", -1)
        for number, frame in enumerate(frames[1:4], 1):
            browser.run("document.getElementById('track-step').click()")
            browser.wait(f"dcfnet.steps.length === {number + 1} && dcfnet.idle()")
            result, found = tracker.update(frame), get(browser, "dcfnet.steps.at(-1)")
            assert found["box"] == pytest.approx(result.box, abs=1e-6)
            assert found["score"] == pytest.approx(result.score, rel=TOLERANCE)
            assert (
                (number == 2)
                == (not result.ok)
                == (not found["response"].any())
                == (found["score"] == 0)
            )
            if number != 2:
                model = get(browser, "dcfnet.steps.at(-1).denominator").reshape(SIZE, SIZE)[
                    34:91, 62:91
                ]
                close(model, np.fft.fftshift(tracker.filter.means[1], axes=0))


@pytest.mark.parametrize("size", [9, 10])
@pytest.mark.parametrize("height", [0.5, 7.0, -3.0])
def test_a_score_in_the_page(browser, size, height):
    """As `tracker.score_of`, from the half spectrum."""
    response = np.random.default_rng(8).normal(size=(size, size))
    response *= height / response.max() if height > 0 else 1
    response -= 10 if height < 0 else 0
    half = np.fft.rfft2(response).ravel()
    values = page.json.dumps(
        [float(response.max()), {"re": half.real.tolist(), "im": half.imag.tolist()}, size]
    )
    script = (
        f"{page.join_modules('session.js')}; return modules['session.js'].scoreOf(...{values});"
    )
    found = get(browser, f"(() => {{ {script} }})()")
    assert found == pytest.approx(score_of(response), rel=1e-9) and 0 <= found <= 1


def test_the_table_of_the_page(browser):
    """What a reader sees: each difference from the library's numbers, written by the page itself."""
    scroll(browser, "checked")
    browser.wait("document.querySelectorAll('#reference tr').length")
    rows = browser.run(
        "[...document.querySelectorAll('#reference tr')].map((row) => row.innerText.split('\\t'))"
    )
    assert len(rows) == 10
    for name, ours, theirs, difference in rows:
        assert float(ours) == pytest.approx(float(theirs), rel=TOLERANCE), name
        assert float(difference.replace("−", "-")) < TOLERANCE


def test_finite_differences(browser):
    """Through the layer and through the whole network, and each way of breaking the backward pass
    shows.
    """
    scroll(browser, "eq11")
    errors = {}
    for flaw in ("none", "conjugate", "mirror", "journal"):
        browser.run(f"document.querySelector('#backward-flaw input[value={flaw}]').click()")
        for place in ("eq11", "pixel-template", "pixel-search"):
            settle(browser)
            click(browser, place, 0.47, 0.56)
            settle(browser)
            words = browser.run("document.querySelector('#difference').innerText")
            assert "row 69, column 58" in words or "row 70, column 58" in words, words
            errors[flaw, place] = error_of(words)
    browser.run("document.querySelector('#backward-flaw input[value=none]').click()")
    settle(browser)
    click(browser, "eq8", 0.47, 0.56)
    settle(browser)
    errors["none", "eq8"] = error_of(browser.run("document.querySelector('#difference').innerText"))
    assert all(error < 1e-5 for (flaw, _), error in errors.items() if flaw == "none"), errors
    for flaw in ("conjugate", "mirror", "journal"):
        assert errors[flaw, "eq11"] > 1e-3 and errors[flaw, "pixel-template"] > 1e-3, errors


def error_of(words):
    """ "error, relative 3.6 × 10⁻⁵" as a number."""
    text = words.split("error, relative")[1].strip().replace("−", "-")
    front, _, power = text.partition(" × 10")
    return float(front) * 10.0 ** int(
        power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")) or 0
    )


# --- the controls ---


def scroll(browser, name):
    browser.run(
        f"document.getElementById('{name}').scrollIntoView({{ behavior: 'instant', block: 'center' }})"
    )
    settle(browser)


def settle(browser):
    """Until no worker has anything to do, and what they said is drawn: what comes into sight is
    seen in a frame.
    """
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
    for _ in range(2):
        browser.run(frames)
        browser.wait("dcfnet.idle()")


def slide(browser, name, value):
    browser.run(
        f"(slider => {{ slider.value = {value}; slider.dispatchEvent(new Event('input', {{ bubbles: true }})); }})"
        f"(document.getElementById('{name}'))"
    )


def click(browser, name, x, y):
    scroll(browser, name)
    box = browser.run(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
    browser.page.mouse.click(box["left"] + x * box["width"], box["top"] + y * box["height"])


def picture(browser, name):
    return browser.run(f"document.getElementById('{name}').toDataURL()")


def test_every_control_does_something(file, program):
    """Each slider, box, choice and button changes a picture or a text; nobody complains; nothing is
    asked for.
    """
    with Page(program) as browser:
        browser.open(file)
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        ids = "[...document.querySelectorAll('input[type=range]')].map((slider) => slider.id)"
        shows = {
            "frame": "patch-search", "padding": "patch-template", "sigma": "label-map", "lambda": "filter-map",
            "band": "filter-map", "channel": "eq8", "step": None, "rate": None, "beta": None,
        }  # fmt: skip
        assert set(browser.run(ids)) == set(shows), "a slider without a test"
        for name, shown in shows.items():
            scroll(browser, name)
            words, pictures = (
                [browser.run(f"document.getElementById('{name}-value').textContent")],
                [],
            )
            for end in ("min", "max"):
                slide(browser, name, browser.run(f"document.getElementById('{name}').{end}"))
                settle(browser)
                words.append(browser.run(f"document.getElementById('{name}-value').textContent"))
                pictures.append(picture(browser, shown) if shown else end)
            assert words[1] != words[2] and len(set(pictures)) == 2, name
        browser.run("document.getElementById('reset').click()")
        settle(browser)
        assert (
            browser.run("dcfnet.settings.padding") == 2
            and browser.run("dcfnet.settings.band") is None
        )

        for name, shown in {
            "which": "grid",
            "flaw": "break-wrong",
            "backward-flaw": "eq11",
            "start": "kernels",
        }.items():
            scroll(browser, name)
            choices = browser.run(
                f"[...document.querySelectorAll('#{name} input')].map((choice) => choice.value)"
            )
            seen = set()
            for value in choices:
                browser.run(f"document.querySelector('#{name} input[value={value}]').click()")
                time.sleep(0.2)
                settle(browser)
                drawn = f"[...document.querySelectorAll('canvas#{shown}, #{shown} canvas')]"
                seen.add(browser.run(f"{drawn}.map((canvas) => canvas.toDataURL()).join()"))
            # "λ = 0" changes nothing that can be seen in colours, and says so
            assert len(seen) >= len(choices) - (name == "flaw"), name
        for button in browser.run(
            "[...document.querySelectorAll('main button[id], #dock button')].map((one) => one.id)"
        ):
            if button not in ("train", "play"):
                browser.run(f"document.getElementById('{button}').click()")
        for button in ("train", "play"):
            browser.run(f"document.getElementById('{button}').click()")
            time.sleep(0.5)
            browser.run(f"document.getElementById('{button}').click()")
        browser.run("document.getElementById('band-auto').click()")
        settle(browser)
        assert browser.run("dcfnet.settings.band") == 28
        assert browser.messages == [] and browser.requests == []


def test_mouse_touch_and_keyboard(file, program):
    with Page(program, size=(390, 844), touch=True, dark=True) as browser:
        browser.open(file)
        browser.wait("window.dcfnet && dcfnet.timings.length && dcfnet.idle()")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (
            "the page scrolls sideways"
        )
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        for name in ("frame-search", "frame-response", "frame-backward"):
            scroll(browser, name)
            start, before = browser.run("dcfnet.settings.centre"), picture(browser, name)
            words = browser.run("document.getElementById('peak').textContent")
            box = browser.run(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
            x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
            browser.send(
                "Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}]
            )
            browser.send(
                "Input.dispatchTouchEvent",
                type="touchMove",
                touchPoints=[{"x": x + 15, "y": y + 6}],
            )
            browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            settle(browser)
            now = browser.run("dcfnet.settings.centre")
            assert now[0] > start[0] and now[1] > start[1] and picture(browser, name) != before
            assert browser.run("document.getElementById('peak').textContent") != words
            browser.run(f"document.getElementById('{name}').focus()")
            browser.page.keyboard.press("ArrowLeft")
            settle(browser)
            assert browser.run("dcfnet.settings.centre")[0] == pytest.approx(now[0] - 1)
        browser.run("document.getElementById('grid').children[0].focus()")
        browser.page.keyboard.press("ArrowDown")
        assert browser.run("document.activeElement.ariaLabel") == "Channel 9"
        shown = "[...document.querySelectorAll('figure canvas, aside canvas')].filter((canvas) => canvas.offsetParent)"
        unnamed = browser.run(
            f"{shown}.filter((canvas) => !canvas.ariaLabel).map((canvas) => canvas.id)"
        )
        assert unnamed == []
        assert browser.messages == []


# --- the file ---


def test_the_page_needs_nothing_else(file):
    text = file.read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", text)
    # the last one is a variable of a script
    allowed = ("#", "data:", "https://arxiv.org/", "address;")
    assert all(address.startswith(allowed) for address in addresses), set(addresses)
    assert "$$" not in text.split("<script")[0] and text.count("<math") > 40
    assert 13 == len(set(re.findall(r'class="eqno">\((\d+)\)', text)))


def test_the_command(tmp_path, capsys):
    frames, boxes = make_sequence(np.random.default_rng(0), 2, 320, 200, (60, 44))
    cv2.imwrite(str(tmp_path / "one.png"), frames[0])
    box = ",".join(f"{value:g}" for value in boxes[0])
    out = tmp_path / "one.html"
    assert (
        main(
            ["explain", str(tmp_path / "one.png"), "--box", box, "--out", str(out), "--frames", "3"]
        )
        == 0
    )
    assert "3 frames of one.png, one image under a moving camera" in capsys.readouterr().out
    for words, complaint in (
        ([str(tmp_path / "one.png")], "give --box X,Y,W,H"),
        ([str(tmp_path / "one.png"), "--box", "900,9,9,9"], "must overlap the frame"),
        ([str(tmp_path / "one.png"), "--box", box, "--weights", "conv1"], "the network light"),
        ([str(tmp_path / "none.png"), "--box", box], "none.png"),
        (["--frames", "1"], "--frames must be at least 2"),
    ):
        assert main(["explain", *words, "--out", str(out)]) == 2
        assert complaint in capsys.readouterr().err


def test_a_large_frame_is_scaled_down(clip):
    large = [np.repeat(np.repeat(frame, 4, 0), 4, 1) for frame in clip.frames[:2]]
    small = page.scaled(page.Clip(large, tuple(4 * value for value in clip.box), "large"))
    assert small.frames[0].shape == (180, 240, 3)
    np.testing.assert_allclose(small.box, np.array(clip.box) * 240 / 112)


def test_one_image_goes_once_around_a_circle(rng):
    """Of 64x80 pixels: 4 right and 4 down, 8 down, 4 left and 4 down, back again."""
    image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    start, right, down, left, end = page.moved(image, 5)
    for frame in (start, end):
        np.testing.assert_array_equal(frame, image)
    np.testing.assert_array_equal(down[8:], image[:-8])
    np.testing.assert_array_equal(right[4:, 4:], image[:-4, :-4])
    np.testing.assert_array_equal(left[4:, :-4], image[:-4, 4:])


def test_pictures_and_weights_in_the_file(rng):
    """Every pixel as it is; random weights with the spread that the packaged ones began with, .41
    of He's.
    """
    image = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    data = np.frombuffer(base64.b64decode(page._picture(image).split(",")[1]), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR), image)
    random = page._random()
    assert random["conv2.weight"].std() == pytest.approx(0.41 * np.sqrt(2 / (9 * 32)), rel=0.03)
    assert not random["conv1.bias"].any()


def test_modules_are_joined(monkeypatch):
    files = {
        "js/a.js": 'import { two } from "./b.js";\nimport {\n  one,\n  $,\n} from "./c.js";\nconst hidden = 1;\n',
        "js/b.js": 'import { one } from "./c.js";\nexport async function two() {}\nconst hidden = 2;\n',
        "js/c.js": "export const one = 1;\nexport const $ = 2;\n",
    }
    monkeypatch.setattr(page, "_read", files.__getitem__)
    joined = page.join_modules("a.js")
    assert (
        joined.index('modules["c.js"] =')
        < joined.index('modules["b.js"] =')
        < joined.index('modules["a.js"] =')
    )
    assert "return { one, $ };" in joined and "return { two };" in joined
    assert "import" not in joined and "export" not in joined


def test_mathematics():
    shown = mathml.typeset(r"<p>$a$ and $$\frac{a}{b} \tag{7}$$</p>")
    assert (
        shown.count("<math") == 2 and '<span class="eqno">(7)</span>' in shown and "$" not in shown
    )
    assert (
        mathml.font_for(shown).startswith("data:font/woff;base64,")
        and len(mathml.font_for(shown)) < 60000
    )
