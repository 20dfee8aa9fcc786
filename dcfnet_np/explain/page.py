"""Put the interactive page together: one HTML file with frames, weights, font and scripts in it."""

import base64
import dataclasses
import importlib.util
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__, network
from ..ops.dcf import dcf_backward, dcf_forward
from ..ops.fourier import NEGLIGIBLE, Band, label_band, rfft2
from ..ops.loss import response_loss_backward, response_loss_forward
from ..presets import PRESETS, Preset
from ..support.files import replacing
from ..tracker import Tracker
from ..train.config import recipe
from ..vision.boxes import Box, check_box
from ..vision.crop import crop_patches, to_bgr
from ..vision.windows import gaussian_label, hann
from ..weights import Weights
from . import mathml

LONGEST_SIDE = 240  # pixels; larger frames are scaled down
SEARCH_FRAME = 4  # frame of the page in which the search window lies at first

HERE = Path(__file__).parent
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(.+?)";$', re.M)
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) ([\w$]+)", re.M)

# The default settings, but with the paper's rule of the update, whose numerator and denominator
# Fig. 2 shows.
# the paper's tracker, which believes every response
PRESET: Preset = dataclasses.replace(
    PRESETS["default"], name="page", update_rule="ratio", min_share=0.0, redetection=0
)

# Training in the page: small and short, by plain SGD as the released code has it.
TRAINING = {
    "size": 67,  # pixels of a patch
    "map": network.feature_size(67, "light", "valid"),
    "batch": 4,  # pairs
    "gap": 5,  # frames between the two of a pair, at most
    "momentum": recipe("pytorch").momentum,
    "decay": recipe("pytorch").weight_decay,
}


class Clip(NamedTuple):
    """What the page shows."""

    frames: list[np.ndarray]  # (H, W, 3) uint8 BGR
    box: Box  # of the target in the first frame: x, y, w, h, pixels, 0-based
    source: str  # where the frames come from


def check_installed() -> None:
    """Raise ValueError when a package of the extra `teach` is missing."""
    for name in ("jinja2", "math_core"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"the page needs {name}; install the extra teach: pip install '.[teach]'"
            )


def write_page(path: Path, clip: Clip, weights: Weights) -> None:
    """Write the page to `path`.

    Raises ValueError for a box outside the frame or another network, WriteError.
    """
    html = render(clip, weights)
    with replacing(path) as part:
        part.write_text(html, encoding="utf-8")


def render(clip: Clip, weights: Weights) -> str:
    """The page as a string.  weights: of the network `light`, with BGR input."""
    check_installed()
    import jinja2
    from markupsafe import Markup

    if weights.architecture != "light" or weights.channel_order != "bgr":
        raise ValueError(
            "explain: the page computes the network light with BGR input, got "
            f"{weights.architecture} with {weights.channel_order}; "
            "choose --weights light or a file trained like it"
        )
    clip = scaled(clip)
    frame = min(SEARCH_FRAME, len(clip.frames) - 1)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = lambda html: Markup(mathml.typeset(str(html)))
    environment.globals |= {"preset": PRESET, "training": TRAINING, "version": __version__}
    data = {
        "frames": [_picture(frame) for frame in clip.frames],
        "box": clip.box,
        "boxes": _boxes(clip, weights),
        "weights": _packed(weights.parameters),
        "random": _packed(_random()),
        "mean": weights.mean,
        "frame": frame,
        "reference": reference(clip, weights, frame),
    }
    font = "data:font/woff2;base64," + base64.b64encode(mathml.FONT.read_bytes()).decode()
    scripts = {name: join_modules(f"{name}.js") for name in ("worker", "main")}
    return environment.get_template("page.html.j2").render(
        source=clip.source,
        count=len(clip.frames),
        frame=frame,
        beta=math.log10(PRESET.learning_rate),
        lam=math.log10(PRESET.lam),
        band=_band().limits[0],
        styles=Markup(_read("style.css").replace("FONT", font)),
        data=_script(json.dumps(data)),
        **{name: _script(text) for name, text in scripts.items()},
    )


# --- the library's side of the numbers


def reference(clip: Clip, weights: Weights, frame: int) -> dict[str, float]:
    """What the library computes in float32 with the settings of the start: norms and the loss."""
    size, (x, y, w, h) = PRESET.input_size, clip.box
    centre, window = (x + w / 2, y + h / 2), np.array([[w, h]]) * (1 + PRESET.padding)
    pair = (clip.frames[0], clip.frames[frame])
    patches = [crop_patches(image, centre, window, size, rounded=True) for image in pair]
    images = np.concatenate(patches) - np.array(weights.mean, np.float32).reshape(3, 1, 1)
    features, caches = network.forward(images, weights.parameters, weights.architecture)
    features = features * hann((size, size))  # a new array: the caches hold the old one
    label = gaussian_label((size, size), PRESET.sigma)
    band = _band()
    response, cache = dcf_forward(features[:1], features[1:], rfft2(label, band), PRESET.lam, band)
    loss, loss_cache = response_loss_forward(response, label)
    dtemplate, dsearch = dcf_backward(response_loss_backward(loss_cache), cache)
    dfeatures = np.concatenate([dtemplate, dsearch]) * hann((size, size))
    _, dparameters = network.backward(dfeatures, caches, input_gradient=False)
    arrays = {
        "template": features[0],
        "search": features[1],
        "filter": cache.filter_f,
        "response": response,
        "eq8": dsearch,
        "eq11": dtemplate,
        "w1": dparameters["conv1.weight"],
        "w2": dparameters["conv2.weight"],
    }
    norms = {name: float(np.linalg.norm(np.asarray(a, complex))) for name, a in arrays.items()}
    return {**norms, "peak": float(response.max()), "loss": loss}


def _boxes(clip: Clip, weights: Weights) -> list[Box]:
    """The library's boxes: for training, and to hold the page's own tracker against."""
    tracker = Tracker(weights, PRESET, "cpu")
    tracker.init(clip.frames[0], clip.box)
    return [clip.box, *(tracker.update(frame).box for frame in clip.frames[1:])]


def _random() -> network.Parameters:
    scale = np.float32(recipe("default").initial_scale)
    return {name: value * scale for name, value in network.initialise("light", seed=0).items()}


def _band() -> Band:
    band = label_band(gaussian_label((PRESET.input_size, PRESET.input_size), PRESET.sigma))
    if band is None:
        raise ValueError(f"explain: the page needs a label with a band, got sigma {PRESET.sigma:g}")
    return band


# --- what goes into the file


def scaled(clip: Clip) -> Clip:
    """The clip with frames of at most LONGEST_SIDE pixels; ValueError for a box outside."""
    import cv2

    frames = [to_bgr(frame) for frame in clip.frames]
    box = check_box(clip.box, frames[0].shape, "explain")
    height, width = frames[0].shape[:2]
    factor = LONGEST_SIDE / max(height, width)
    if factor >= 1:
        return Clip(frames, box, clip.source)
    size = (round(width * factor), round(height * factor))
    x, y, w, h = box
    across, down = size[0] / width, size[1] / height
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return Clip(small, (x * across, y * down, w * across, h * down), clip.source)


def moved(image: np.ndarray, count: int) -> list[np.ndarray]:
    """A clip from one image: the camera goes around a circle of an eighth of the shorter side."""
    import cv2

    height, width = image.shape[:2]
    radius = min(height, width) / 16
    frames, border = [], cv2.BORDER_REFLECT_101
    for turn in np.linspace(0, 2 * np.pi, count):
        shift = np.array([[1, 0, radius * np.sin(turn)], [0, 1, radius * (1 - np.cos(turn))]])
        frames.append(cv2.warpAffine(image, shift, (width, height), borderMode=border))
    return frames


def _picture(frame: np.ndarray) -> str:
    """Lossless, so that the page computes with the very pixels that the library sees."""
    import cv2

    good, data = cv2.imencode(".webp", frame, [cv2.IMWRITE_WEBP_QUALITY, 101])
    if not good:
        raise RuntimeError("OpenCV cannot write WebP")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def _packed(parameters: network.Parameters) -> str:
    """All parameters of `light` in the order of its layers, little-endian float32, base64."""
    names = network.parameter_shapes("light")
    values = np.concatenate([parameters[name].ravel() for name in names]).astype("<f4")
    return base64.b64encode(values.tobytes()).decode()


def constants() -> str:
    """The module constants.js: what preset, network and recipe hold, so no script repeats it."""
    preset = dataclasses.asdict(PRESET)
    preset |= {
        name: getattr(PRESET, name).tolist() for name in ("scale_factors", "scale_penalties")
    }
    (lrn,) = (spec for _, spec in network.layers("light") if isinstance(spec, network.Lrn))
    sizes = [math.prod(shape) for shape in network.parameter_shapes("light").values()]
    values = {
        "PRESET": preset,
        "LRN": lrn._asdict(),
        "LAYERS": dict(zip(("w1", "b1", "w2", "b2"), sizes, strict=True)),  # how many numbers each
        "NEGLIGIBLE": NEGLIGIBLE[np.dtype(np.float32)],
        "TRAINING": TRAINING,
    }
    return "".join(f"export const {name} = {json.dumps(values[name])};\n" for name in values)


def join_modules(name: str) -> str:
    """The module `name` of js/ and all that it imports, in one script.

    constants.js is no file, see `constants`.  Each module becomes a function that is called at once
    and returns what the module exports; its imports become names taken out of these.  So modules
    may use one name for different things, as they may in files of their own.
    """
    done: dict[str, str] = {}

    def add(module: str) -> None:
        source = constants() if module == "constants.js" else _read(f"js/{module}")
        for wanted in re.findall(IMPORT, source):
            if wanted[1] not in done:
                add(wanted[1])
        exported = ", ".join(re.findall(EXPORT, source))
        source = re.sub(IMPORT, r'const {\1} = modules["\2"];', source)
        source = re.sub(r"^export ", "", source, flags=re.M) + f"\nreturn {{ {exported} }};"
        done[module] = f'modules["{module}"] = (() => {{\n\n{source}\n}})();'

    add(name)
    return "\n\n".join(['"use strict";\nconst modules = {};', *done.values()])


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _script(text: str) -> Any:
    """Text that may stand in a <script>: nothing in it ends the element."""
    from markupsafe import Markup

    return Markup(text.replace("</", "<\\/").replace("<!--", "<\\!--"))
