"""The interactive page in a real browser without a network: its numbers are the library's, and
every control moves.
"""

import base64
import dataclasses
import json
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
from dcfnet_np.explain import mathml, page
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.ops.recurrent import unroll_backward, unroll_forward
from dcfnet_np.tracking.response import score_of
from dcfnet_np.train import plain_step
from dcfnet_np.train.optimisers import sgd_step, zero_velocity
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.windows import gaussian_label, hann

# relative to the largest magnitude: the library computes here in single precision, the page in
# double
TOLERANCE = 1e-4
SIZE = 125
NAMES = {"w1": "conv1.weight", "b1": "conv1.bias", "w2": "conv2.weight", "b2": "conv2.bias"}
# Settings that nobody would choose: window partly outside the frame, narrow label cut by the band.
ODD = {
    "frame": 3, "centre": [31.25, 40.5], "padding": 1.7,
    "sigmaFactor": 0.06, "lambda": 3e5, "band": 17,
}  # fmt: skip


def walk(growth=1.05, width=112, height=84, margin=0.0):
    """Eight frames in which a textured target walks and grows; the box is `margin` larger."""
    rng = np.random.default_rng(4)
    frames, boxes = make_sequence(rng, 8, width, height, (24, 18), growth=growth)
    x, y, w, h = map(float, boxes[0])
    box = (x - margin * w / 2, y - margin * h / 2, (1 + margin) * w, (1 + margin) * h)
    return page.Clip([np.ascontiguousarray(frame) for frame in frames], box, "a made-up scene")


def blank_third():
    """A still target whose window reaches out of the frame; the third frame is blue."""
    clip = walk(1.0)
    frames = [np.ascontiguousarray(clip.frames[0][:, 8:])] * 8
    frames[2] = np.full_like(frames[0], (250, 30, 10))
    return page.Clip(frames, (clip.box[0] - 8, *clip.box[1:]), "a made-up scene")


@pytest.fixture(scope="module")
def clip():
    return walk()


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
        yield opened(browser, file)


def opened(browser, path):
    browser.open(path)
    browser.wait("window.dcfnet && dcfnet.idle()")
    return browser


# Arrays leave the page as base64 of single precision.
SEND = """
(async () => {
  const pack = (x) => {
    if (ArrayBuffer.isView(x)) {
      const bytes = new Uint8Array(Float32Array.from(x).buffer), letters = [];
      for (const byte of bytes) letters.push(String.fromCharCode(byte));
      return { f32: btoa(letters.join("")) };
    }
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


def of_module(browser, name, script):
    """The value of `script` where the names of a module of the page are known as `m`."""
    joined = page.join_modules(name)
    return get(browser, f"(() => {{ {joined}; const m = modules['{name}']; return {script}; }})()")


def close(found, expected):
    expected = np.asarray(expected)
    error = np.abs(np.asarray(found).reshape(expected.shape) - expected).max()
    assert error < TOLERANCE * np.abs(expected).max()


def scroll(browser, name):
    where = "{ behavior: 'instant', block: 'center' }"
    browser.run(f"document.getElementById('{name}').scrollIntoView({where})")
    settle(browser)


def settle(browser):
    """Until all is computed and drawn: what comes into sight is seen in a frame."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))"
    for _ in range(2):
        browser.run(f"new Promise((done) => {frames})")
        browser.wait("dcfnet.idle()")


def slide(browser, name, value):
    browser.run(f"document.getElementById('{name}').value = {value}")
    browser.run(f"document.getElementById('{name}').dispatchEvent(new Event('input'))")
    settle(browser)


def choose(browser, name, value):
    browser.run(f"document.querySelector('#{name} input[value={value}]').click()")
    settle(browser)


def press(browser, name):
    browser.run(f"document.getElementById('{name}').click()")


def words_of(browser, name):
    return browser.run(f"document.getElementById('{name}').innerText")


def pictures(browser, name):
    """What the canvas of this name shows, or all inside the element."""
    drawn = f"[...document.querySelectorAll('canvas#{name}, #{name} canvas')]"
    return browser.run(f"{drawn}.map((canvas) => canvas.toDataURL()).join()")


def area(browser, name):
    box = browser.run(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
    return box["left"], box["top"], box["width"], box["height"]


# --- the numbers ---


def test_features_filter_response_and_gradients(browser, clip):
    loaded, (x, y, w, h) = weights.load_weights("light"), clip.box
    window = np.array([[w, h]]) * (1 + ODD["padding"])
    places = ((0, (x + w / 2, y + h / 2)), (ODD["frame"], ODD["centre"]))
    crops = [crop_patches(clip.frames[f], c, window, SIZE, rounded=True) for f, c in places]
    images = np.concatenate(crops) - np.array(loaded.mean, np.float32).reshape(3, 1, 1)
    features, caches = network.forward(images, loaded.parameters, "light")
    features = features * hann((SIZE, SIZE))
    label = gaussian_label((SIZE, SIZE), ODD["sigmaFactor"] * SIZE / (1 + ODD["padding"]))
    band = make_band((SIZE, SIZE), ODD["band"])
    label_f = rfft2(label, band)
    response, cache = dcf_forward(features[:1], features[1:], label_f, ODD["lambda"], band)
    loss, loss_cache = response_loss_forward(response, label)
    dtemplate, dsearch = dcf_backward(response_loss_backward(loss_cache), cache)
    dfeatures = np.concatenate([dtemplate, dsearch]) * hann((SIZE, SIZE))
    dimages, dparameters = network.backward(dfeatures, caches)

    before = browser.run("dcfnet.settings")
    browser.run(f"Object.assign(dcfnet.settings, {json.dumps(ODD)})")
    found = get(browser, "dcfnet.arrays()")
    browser.run(f"Object.assign(dcfnet.settings, {json.dumps(before)})")
    close(found["features"], features)
    for part in ("re", "im"):
        whole = np.reshape([one[part] for one in found["filterF"]], (32, SIZE, SIZE // 2 + 1))
        stored = np.concatenate([whole[:, :18, :18], whole[:, -17:, :18]], axis=1)
        close(stored, cache.filter_f[0].real if part == "re" else cache.filter_f[0].imag)
    close(found["response"], response[0])
    assert found["loss"] == pytest.approx(loss, rel=TOLERANCE)
    close(found["dtemplate"], dtemplate[0])
    close(found["dsearch"], dsearch[0])
    close(found["dimages"], dimages)
    for ours, theirs in NAMES.items():
        close(found["parameters"][ours], dparameters[theirs])


def plain_and_fast(browser, name, script):
    """Arrays that `script` computes by functions of a module and by those of fast.js."""
    numbers = "(n, f) => Float64Array.from({ length: n }, (_, i) => Math.sin(f * i * i))"
    names = f'plain = modules["{name}"], fast = modules["fast.js"], numbers = {numbers}'
    plain, fast = of_module(browser, "session.js", f"(() => {{ const {names}; {script} }})()")
    assert np.std(plain) > 0.1
    close(fast, plain)


@pytest.mark.parametrize(("depth", "outputs", "size"), [(32, 32, 127), (4, 2, 3), (8, 6, 12)])
def test_the_fast_convolution_is_the_plain_one(browser, depth, outputs, size):
    script = f"""
      const x = Array.from({{ length: {depth} }}, (_, c) => numbers({size * size}, 1 + c / 7));
      const given = [x, numbers({depth * outputs * 9}, 2), numbers({outputs}, 3)];
      return [plain.convForward(...given), fast.fastConvForward(...given)];"""
    plain_and_fast(browser, "conv.js", script)


def test_the_fast_transform_is_the_plain_one(browser):
    """A factor 5 after a factor 3, which leaves 7 to be done, with 11 columns."""
    script = """
      const x = { re: numbers(1155, 2), im: numbers(1155, 3) };
      return [plain.fftPass, fast.fastPassOfFive].map((pass) => {
        const y = { re: numbers(1155, 5), im: numbers(1155, 7) };
        pass(x, y, 5, 3, 77);
        return [y.re, y.im];
      });"""
    plain_and_fast(browser, "fourier.js", script)


def test_the_fast_filter_is_the_plain_one(browser):
    """Some bins of three channels; the others stay zero."""
    script = """
      const spectra = (n) => Array.from({ length: n }, (_, l) =>
        ({ re: numbers(60, 2 + l), im: numbers(60, 3 + l / 2) }));
      const [x, z, bins] = [spectra(3), spectra(4).slice(1), [0, 3, 6, 30, 57]];
      const given = [x, x[2], numbers(60, 9).map((e) => e + 2), bins];
      const w = [plain.learnFilter(...given), fast.fastLearnFilter(...given)];
      const g = [plain.correlate(w[0], z, bins), fast.fastCorrelate(w[0], z, bins)];
      return w.map((one, k) => [...one, g[k]].flatMap(({ re, im }) => [re, im]));"""
    plain_and_fast(browser, "dcf.js", script)


def test_through_time(browser):
    """Four templates of three channels: the gradients are those of ops.recurrent."""
    script = """(() => {
      const numbers = (n, f) => Float64Array.from({ length: n }, (_, i) => Math.sin(f * i * i + f));
      const spectrum = (f) => ({ re: numbers(16, f), im: numbers(16, f / 3 + 1) });
      const templates = [1, 2, 3, 4].map((t) => [5, 6, 7].map((l) => spectrum(t * l)));
      const search = [8, 9, 11].map(spectrum), dg = spectrum(13), y = spectrum(17);
      const given = { labelF: y, bins: [...y.re.keys()], lambda: 0.7 }, words = [templates, search];
      const forward = m.throughTime(...words, given, 0.3);
      const gradients = m.throughTimeBackward(dg, ...words, given, 0.3, forward);
      return { templates, search, dg, y, g: forward.responseF, gradients };
    })()"""
    found = of_module(browser, "recurrent.js", script)

    def spectra(value):
        if isinstance(value, list):
            return np.stack([spectra(each) for each in value])
        return (value["re"].astype(complex) + 1j * value["im"]).reshape(4, 4)

    found = {name: spectra(value) for name, value in found.items()}
    templates, rates = found["templates"][:, None], np.array([1, 0.3, 0.3, 0.3])
    searches = np.broadcast_to(found["search"], templates.shape)
    responses, cache = unroll_forward(templates, searches, found["y"], 0.7, rates, "ratio")
    close(found["g"], responses[-1, 0])
    upstream = np.zeros_like(responses)
    upstream[-1] = found["dg"]
    close(found["gradients"], unroll_backward(upstream, cache, (4, 6)).templates[:, 0])


def test_a_step_of_training(program, tmp_path, monkeypatch, clip):
    """The first two steps from the random weights: pairs, loss, gradients, parameters, with a decay
    that shows.
    """
    monkeypatch.setitem(page.TRAINING, "decay", 0.3)
    page.write_page(tmp_path / "page.html", clip, weights.load_weights("light"))
    mean = np.array(weights.load_weights("light").mean, np.float32).reshape(3, 1, 1)
    size, sigma, cpu = (63, 63), 0.1 * 67 / 3, select_device("cpu")
    objective = plain_step.make_objective(size, sigma, 1e-4, band=False, window=True, device=cpu)
    parameters = page._random()
    velocity = zero_velocity(parameters)
    with Page(program) as browser:
        opened(browser, tmp_path / "page.html")
        crops = []
        for frame, (x, y, w, h) in zip(clip.frames, browser.run("dcfnet.data.boxes")):
            window = np.array([[3 * w, 3 * h]])
            crop = crop_patches(frame, (x + w / 2, y + h / 2), window, 67, rounded=True)
            crops.append(crop[0] - mean)
        scroll(browser, "training")
        assert words_of(browser, "decay") == "0.3"
        rate = 10 ** float(browser.run("document.getElementById('rate').value"))
        for number in (1, 2):
            press(browser, "train-step")
            browser.wait(f"dcfnet.lastStep.result?.step === {number} && dcfnet.idle()")
            found = get(browser, "dcfnet.lastStep.result")
            pairs = np.array(found["batch"])
            assert len(set(map(tuple, pairs))) == 4 and (pairs[:, 0] < pairs[:, 1]).all()
            images = np.stack([crops[i] for i in pairs.T.reshape(-1)])
            loss, caches = plain_step.pair_loss(images, parameters, "light", objective)
            gradients = plain_step.pair_gradients(caches)
            sgd_step(parameters, gradients, velocity, lr=rate, momentum=0.9, weight_decay=0.3)
            assert found["loss"] == pytest.approx(loss, rel=TOLERANCE)
            for ours, theirs in NAMES.items():
                close(found["gradients"][ours], gradients[theirs])
                close(found["parameters"][ours], parameters[theirs])


OTHER = {  # no number that `default` has
    "padding": 1.7, "sigma_factor": 0.13, "lam": 1e6, "learning_rate": 0.2, "num_scales": 5,
    "scale_step": 1.035, "scale_penalty": 0.988, "min_scale": 0.87, "min_size": 16.6,
    "max_scale": 1.21,
}  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "fields", "last"),
    [
        (lambda: walk(1.05), {"learning_rate": 0.3}, None),
        # as high as the frame, and not as wide
        (lambda: walk(1.06, 64, 34, 0.4), {}, (33.6 * 1.055**6, 34)),
        (lambda: walk(1.06), OTHER, (1.21 * 24, 1.21 * 18)),
        (lambda: walk(0.95), OTHER, (0.87 * 24, 16.6)),
        (blank_third, {"learning_rate": 0.1}, (24, 18)),
    ],
    ids=["grows", "meets the frame", "other grows", "other shrinks", "blank frame"],
)
def test_the_tracker_box_for_box(program, tmp_path, monkeypatch, scene, fields, last):
    """Where the scale changes, to the largest and the smallest size, for any constants; a frame
    that is blank is no answer.  And the model at the end.
    """
    preset = dataclasses.replace(page.PRESET, **fields)
    monkeypatch.setattr(page, "PRESET", preset)
    clip, tracker = scene(), Watched("light", preset)
    page.write_page(tmp_path / "page.html", clip, weights.load_weights("light"))
    tracker.init(clip.frames[0], clip.box)
    with Page(program) as browser:
        opened(browser, tmp_path / "page.html")
        settings = browser.run("dcfnet.settings")
        given = [settings[name] for name in ("padding", "sigmaFactor", "lambda")]
        assert given == [preset.padding, preset.sigma_factor, preset.lam]
        scroll(browser, "online")
        assert f"β = {preset.learning_rate:g}." in words_of(browser, "online")
        for number, frame in enumerate(clip.frames[1:], 1):
            press(browser, "track-step")
            browser.wait(f"dcfnet.steps.length === {number + 1} && dcfnet.idle()")
            found, result = get(browser, "dcfnet.steps.at(-1)"), tracker.update(frame)
            assert found["box"] == pytest.approx(result.box, abs=1e-6)
            assert found["score"] == pytest.approx(result.score, rel=TOLERANCE)
            assert result.ok == bool(found["response"].any()) == (found["score"] > 0)
            theirs = browser.run(f"dcfnet.data.boxes[{number}]")
            assert theirs == pytest.approx(result.box, abs=1e-9)
        assert browser.run("document.getElementById('track-step').disabled")
    assert last is None or result.box[2:] == pytest.approx(last)
    numerator, denominator = tracker.filter.means
    rows, columns = denominator.shape
    first, middle = (SIZE - rows) // 2, SIZE // 2
    for name, stored in (
        ("denominator", denominator),
        ("numerator", np.sqrt((abs(numerator) ** 2).sum(0))),
    ):
        whole = found[name].reshape(SIZE, SIZE)[first : first + rows, middle : middle + columns]
        close(whole, np.fft.fftshift(stored, axes=0))


def test_what_the_page_s_tracker_does_not_know_is_off():
    """Whoever switches one of these on in `page.PRESET` has to teach session.js."""
    known = {*OTHER, "name", "input_size", "lost_after", "redetection_psr", "redetection_share"}
    known |= {"usual_rate", "redetection_after", "min_share_decay"}
    fields = dataclasses.asdict(page.PRESET)
    assert {name: value for name, value in fields.items() if name not in known} == {
        "lam_divisor": "none", "update_rule": "ratio", "update_crop": "clamped",
        "scale_exponents": "centred", "swapped_clamp": False, "rounded_crop": True,
        "window_power": 1.0, "column_major_ties": False, "wrap_before_half": False,
        "min_score": 0.0, "min_psr": 0.0, "min_share": 0.0, "redetection": 0,
        "reuse_within": 0.0,
    }  # fmt: skip


def test_no_constant_is_typed_twice():
    """Of what the library knows, no number stands in a script or a text."""
    numbers = r"(?<![\w.])(1e-4|5e-5|0\.015|0?\.99[27]5|1\.0[25]\d+|5\.85|125|67)(?!\.?\w)"
    folder = Path(page.__file__).parent
    for path in [*folder.rglob("*.js"), *folder.rglob("*.j2")]:
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        assert not re.findall(numbers, text), path.name


@pytest.mark.parametrize("size", [9, 10])
@pytest.mark.parametrize("height", [0.5, 7.0, -3.0])
def test_a_score_in_the_page(browser, size, height):
    """As `score_of`, from the half spectrum."""
    response = np.random.default_rng(8).normal(size=(size, size))
    response *= height / response.max() if height > 0 else 1
    response -= 10 if height < 0 else 0
    half = np.fft.rfft2(response).ravel()
    spectrum = {"re": half.real.tolist(), "im": half.imag.tolist()}
    values = json.dumps([float(response.max()), spectrum, size])
    found = of_module(browser, "session.js", f"m.scoreOf(...{values})")
    assert found == pytest.approx(score_of(response), rel=1e-9) and 0 <= found <= 1


def test_the_table_of_the_page(browser):
    """What a reader sees: each difference from the library's numbers, as the page writes it."""
    scroll(browser, "checked")
    browser.wait("document.querySelectorAll('#reference tr').length")
    rows = [row.split("\t") for row in words_of(browser, "reference").splitlines()]
    assert len(rows) == 10
    for name, ours, theirs, difference in rows:
        assert float(ours) == pytest.approx(float(theirs), rel=TOLERANCE), name
        assert float(difference.replace("−", "-")) < TOLERANCE


def test_finite_differences(browser):
    """Through the layer and the whole network; each way of breaking the backward pass shows."""
    errors = {}
    for flaw in ("none", "conjugate", "mirror", "journal"):
        choose(browser, "backward-flaw", flaw)
        for place in ("eq8", "eq11", "pixel-template", "pixel-search"):
            scroll(browser, place)
            left, top, width, height = area(browser, place)
            browser.page.mouse.click(left + 0.47 * width, top + 0.56 * height)
            settle(browser)
            words = words_of(browser, "difference")
            assert re.search("row (69|70), column 58", words), words
            front, power = re.search(r"relative\s+([\d.]+)(?: × 10)?(\S*)", words).groups()
            raised = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
            errors[flaw, place] = float(front) * 10.0 ** int(raised or 0)
    choose(browser, "backward-flaw", "none")
    assert all(error < 1e-5 for (flaw, _), error in errors.items() if flaw == "none"), errors
    for flaw in ("conjugate", "mirror", "journal"):
        assert errors[flaw, "eq11"] > 1e-3 and errors[flaw, "pixel-template"] > 1e-3, errors


# --- the controls ---


def test_every_control_does_something(file, program):
    """Each slider, choice and button changes a picture or a text; nobody complains."""
    sliders = {
        "frame": "patch-search", "padding": "patch-template", "sigma": "label-map",
        "lambda": "filter-map", "band": "filter-map", "channel": "eq11",
        "step": None, "rate": None, "beta": "reach",
    }  # fmt: skip
    with Page(program) as browser:
        opened(browser, file)
        ids = "[...document.querySelectorAll('input[type=range]')].map((slider) => slider.id)"
        assert set(browser.run(ids)) == set(sliders), "a slider without a test"
        scroll(browser, "online")
        for _ in range(2):  # with one template there is nothing to share out
            press(browser, "track-step")
            settle(browser)
        for name, shown in sliders.items():
            scroll(browser, shown or name)
            seen = []
            for end in ("min", "max"):
                slide(browser, name, browser.run(f"document.getElementById('{name}').{end}"))
                seen.append(
                    [words_of(browser, f"{name}-value"), shown and pictures(browser, shown)]
                )
            assert seen[0][0] != seen[1][0], name
            assert shown is None or seen[0][1] != seen[1][1], name
        press(browser, "reset")
        settle(browser)
        settings = browser.run("dcfnet.settings")
        assert settings["padding"] == 2 and settings["band"] is None
        for name, shown in (
            ("which", "grid"), ("flaw", "break-wrong"), ("backward-flaw", "eq11"),
            ("start", "kernels"),
        ):  # fmt: skip
            scroll(browser, shown)
            values = f"[...document.querySelectorAll('#{name} input')].map((one) => one.value)"
            seen = set()
            for value in (values := browser.run(values)):
                choose(browser, name, value)
                seen.add(pictures(browser, shown))
            # "λ = 0" changes nothing that can be seen in colours, and says so
            assert len(seen) >= len(values) - (name == "flaw"), name
        buttons = "[...document.querySelectorAll('main button[id], #dock button')].map((b) => b.id)"
        for button in browser.run(buttons):
            press(browser, button)
            if button in ("train", "play"):
                time.sleep(0.5)
                press(browser, button)
        press(browser, "band-auto")
        settle(browser)
        assert browser.run("dcfnet.settings.band") == 28
        assert browser.messages == [] and browser.requests == []


def test_mouse_touch_and_keyboard(file, program):
    with Page(program, size=(390, 844), touch=True, dark=True) as browser:
        opened(browser, file)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        for name in ("frame-search", "frame-response", "frame-backward"):
            scroll(browser, name)
            start, before = browser.run("dcfnet.settings.centre"), pictures(browser, name)
            words = words_of(browser, "peak")
            left, top, width, height = area(browser, name)
            x, y = left + width / 2, top + height / 2
            for kind, points in (
                ("touchStart", [{"x": x, "y": y}]),
                ("touchMove", [{"x": x + 15, "y": y + 6}]),
                ("touchEnd", []),
            ):
                browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
            settle(browser)
            now = browser.run("dcfnet.settings.centre")
            assert now[0] > start[0] and now[1] > start[1] and pictures(browser, name) != before
            assert words_of(browser, "peak") != words
            browser.run(f"document.getElementById('{name}').focus()")
            browser.page.keyboard.press("ArrowLeft")
            settle(browser)
            assert browser.run("dcfnet.settings.centre")[0] == pytest.approx(now[0] - 1)
        browser.run("document.getElementById('grid').children[0].focus()")
        browser.page.keyboard.press("ArrowDown")
        assert browser.run("document.activeElement.ariaLabel") == "Channel 9"
        drawn = "[...document.querySelectorAll('figure canvas, aside canvas')]"
        shown = f"{drawn}.filter((c) => c.offsetParent)"
        assert browser.run(f"{shown}.filter((c) => !c.ariaLabel).map((c) => c.id)") == []
        assert browser.messages == []


# --- the file ---


def test_the_page_needs_nothing_else(file):
    text = file.read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", text)
    # the last one is a variable of a script
    allowed = ("#", "data:", "https://arxiv.org/", "address;")
    assert all(address.startswith(allowed) for address in addresses), set(addresses)
    assert "$$" not in text.split("<script")[0] and text.count("<math") > 40
    assert len(set(re.findall(r'class="eqno">\((\d+)\)', text))) == 13


def test_the_font_has_all_signs_of_the_page(file):
    """Those that its note lists; a single letter is drawn in italics."""
    maths = re.findall(r"<math.*?</math>", file.read_text(encoding="utf-8"), re.DOTALL)
    signs = {ord(sign) for sign in re.sub(r"<[^>]*>|\s", "", "".join(maths))}
    note = (mathml.FONT.parent / "OFL.txt").read_text(encoding="utf-8")
    ranges = [part.split("-") for part in re.search(r"unicodes=(\S+)", note)[1].split(",")]
    held = {i for ends in ranges for i in range(int(ends[0], 16), int(ends[-1], 16) + 1)}
    assert signs - held <= {0xFE00}  # the last one chooses a shape
    assert {0x1D44E + i for i in range(26) if i != 7} | {0x210E} <= held


def test_the_command(tmp_path, dcfnet):
    frames, boxes = make_sequence(np.random.default_rng(0), 2, 320, 200, (60, 44))
    image, out = tmp_path / "one.png", tmp_path / "one.html"
    cv2.imwrite(str(image), frames[0])
    box = ",".join(f"{value:g}" for value in boxes[0])
    code, said, _ = dcfnet("explain", image, "--box", box, "--out", out, "--frames", "3")
    assert code == 0 and "3 frames of one.png, one image under a moving camera" in said
    for words, complaint in (
        ([image], "give --box X,Y,W,H"),
        ([image, "--box", "900,9,9,9"], "must overlap the frame"),
        ([image, "--box", box, "--weights", "conv1"], "the network light"),
        (["--frames", "1"], "--frames must be at least 2"),
    ):
        code, _, err = dcfnet("explain", *words, "--out", out)
        assert code == 2 and complaint in err


def test_a_large_frame_is_scaled_down(clip):
    large = [np.repeat(np.repeat(frame, 4, 0), 4, 1) for frame in clip.frames[:2]]
    small = page.scaled(page.Clip(large, tuple(4 * value for value in clip.box), "large"))
    assert small.frames[0].shape == (180, 240, 3)
    np.testing.assert_allclose(small.box, np.array(clip.box) * 240 / 112)


def test_one_image_goes_once_around_a_circle(rng):
    """Of 64x80 pixels: 4 right and 4 down, 8 down, 4 left and 4 down, back again."""
    image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    start, right, down, left, end = page.moved(image, 5)
    for found, expected in (
        (start, image), (end, image), (down[8:], image[:-8]),
        (right[4:, 4:], image[:-4, :-4]), (left[4:, :-4], image[:-4, 4:]),
    ):  # fmt: skip
        np.testing.assert_array_equal(found, expected)


def test_random_weights_in_the_file():
    """As the packaged ones began with, .41 of He's."""
    random = page._random()
    assert random["conv2.weight"].std() == pytest.approx(0.41 * np.sqrt(2 / (9 * 32)), rel=0.03)
    assert not random["conv1.bias"].any()


def test_mathematics():
    shown = mathml.typeset(r"<p>$a$ and $$\frac{a}{b} \tag{7}$$</p>")
    assert shown.count("<math") == 2 and '<span class="eqno">(7)</span>' in shown
    assert "$" not in shown and mathml.FONT.stat().st_size < 90_000
