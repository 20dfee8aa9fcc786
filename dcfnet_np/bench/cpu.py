"""Tracking and training on a CPU, in turns with PyTorch's, and each stage of a frame alone.

Ours and PyTorch's run in turns on the same cores, so that whatever else the machine does meets
both. PyTorch's tracker and step, the yardstick, are in benchmarks/ of the repository.
"""

import contextlib
import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import network
from ..backend import Device
from ..fast.features import FastFeatures
from ..fast.strip import supports
from ..filter import OnlineFilter
from ..ops.fourier import Band, irfft2, rfft2
from ..presets import Preset, get_preset
from ..support.machine import usable_cores
from ..support.threads import one_blas_thread
from ..tracking.features import choose_band
from ..tracking.response import measure, peak_place
from ..train.config import Config
from ..train.fast_step import FastSteps
from ..vision.crop import window_taps
from ..vision.windows import gaussian_label
from ..weights import Weights
from .costs import Ceiling, cpu_tracking_costs

YARDSTICK = Path(__file__).parents[2] / "benchmarks" / "yardstick" / "torch_dcfnet.py"
TURNS = 5  # ours and PyTorch's alternate so often
ROUNDS = 30  # of the stages of a frame


@contextlib.contextmanager
def pinned(cores: int) -> Iterator[int]:
    """Run on the first `cores` cores that this process may use; the others are given back
    afterwards.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield usable_cores()
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield min(cores, len(before))
    finally:
        os.sched_setaffinity(0, before)


def seconds_of(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_ceiling() -> Ceiling:
    """What one core and the memory do at best: a product of 1024x1024 matrices in float32, and a
    copy of 64 MB; the best of ten.
    """
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1024, 1024), np.float32)
    c = np.empty_like(a)
    source = rng.random(2**24, np.float32)
    target = np.empty_like(source)
    with one_blas_thread():
        product = min(seconds_of(lambda: np.matmul(a, b, out=c)) for _ in range(10))
    copy = min(seconds_of(lambda: np.copyto(target, source)) for _ in range(10))
    return Ceiling(2 * 1024**3 / product, 2 * source.nbytes / copy)


def made_up_frames(
    count: int, shape: tuple[int, int] = (480, 640)
) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """Frames to track in where there are no others: a patch of large random squares circles over
    small pale ones.

    Returns `count` frames (H, W, 3) uint8 and the patch's box (x, y, w, h) in the first, pixels,
    0-based.
    """
    rng = np.random.default_rng(0)
    squares = rng.integers(90, 160, (shape[0] // 8, shape[1] // 8, 3), np.uint8)
    background = squares.repeat(8, 0).repeat(8, 1)
    patch = rng.integers(0, 256, (6, 5, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    frames = []
    for t in range(count):
        x, y = int(280 + 120 * np.sin(t / 20)), int(200 + 90 * np.cos(t / 20))
        frame = background.copy()
        frame[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        frames.append(frame)
    return frames, (280.0, 290.0, float(patch.shape[1]), float(patch.shape[0]))


# --- PyTorch


def why_no_torch() -> str:
    """Why nothing of PyTorch's can be measured here; "" where it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed; install the extra bench"
    if not YARDSTICK.is_file():
        return "PyTorch's tracker is in benchmarks/ of the repository, which is not here"
    return ""


def why_no_torch_tracker(weights: Weights, preset: str) -> str:
    """Why PyTorch's tracker is not measured; "" where it is."""
    if reason := why_no_torch():
        return reason
    known = load_yardstick().PRESETS
    if preset not in known:
        return f"PyTorch's tracker has the presets {', '.join(known)} only"
    specs = network.get_architecture(weights.architecture)
    dilations = [spec.dilation for spec in specs if isinstance(spec, network.Conv)]
    plain = dilations == [1, 1]
    name = weights.architecture
    return "" if plain else f"PyTorch's tracker has two plain convolutions, not {name}"


def load_yardstick() -> ModuleType:
    """PyTorch's tracker and step; it takes the cores that are ours."""
    spec = importlib.util.spec_from_file_location("torch_dcfnet", YARDSTICK)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {YARDSTICK}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.use_threads(usable_cores())
    return module


def torch_arrays(weights: Weights) -> list[np.ndarray]:
    """What PyTorch's tracker takes: two convolutions, BGR."""
    names = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
    first, *others = (weights.parameters[name] for name in names)
    return [first[:, ::-1] if weights.channel_order == "rgb" else first, *others]


# --- tracking


def measure_tracking(
    frames: Sequence[np.ndarray], box: Any, make_ours: Callable[[], Any], make_theirs: Any = None
) -> dict[str, Any]:
    """Times of a frame of two trackers in turns, decoding excluded; how far their boxes part.

    frames: (H, W, 3) uint8, all in memory; box: of the first one, pixels, 0-based.
    """
    makers = {"ours": make_ours} | ({"torch": make_theirs} if make_theirs else {})
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    boxes: dict[str, np.ndarray] = {}
    for turn in range(TURNS + 1):
        for name, make in makers.items():
            tracker = make()
            tracker.init(frames[0], box)
            found = []
            for frame in frames[1:]:
                began = time.perf_counter()
                result = tracker.update(frame)
                if turn:  # the first one warms up
                    seconds[name].append(time.perf_counter() - began)
                found.append(getattr(result, "box", result))
            boxes[name] = np.array(found)
    report: dict[str, Any] = {"seconds": seconds}
    if make_theirs:
        gaps = abs(boxes["ours"] - boxes["torch"]).max(1)
        report["boxes"] = {"mean_px": float(gaps.mean()), "largest_px": float(gaps.max())}
    return report


def one_frame(
    fast: FastFeatures,
    model: OnlineFilter,
    frame: np.ndarray,
    taps: Any,
    preset: Preset,
    band: Band,
    timed: Callable[..., Any],
) -> None:
    """What the tracker does with a frame, on one core: `timed(stage, function, *arguments)`.

    taps: of the windows, by `window_taps`; the last one is to learn from.
    """

    def first_convolution(strip: Any, pixels: np.ndarray) -> None:
        strip.read(pixels, fast.mean)
        strip.first_convolution(fast.kernels)

    def peak(maps: np.ndarray) -> None:
        best = maps[maps.max((1, 2)).argmax()]
        peak_place(best, preset)
        measure(best)

    count = preset.num_scales + 1
    parts = list(zip(fast.strips, fast.croppers, fast.spectra))
    for n, (strip, cropper, spectra) in itertools.product(range(count), parts):
        pixels = timed("crop", cropper, frame, *taps, n)
        timed("conv1", first_convolution, strip, pixels)
        for layer in range(len(strip.m)):
            timed(f"relu{layer + 2}", strip.relu, layer)
            timed(f"conv{layer + 2}", strip.convolution, layer, fast.kernels)
        timed("LRN", strip.normalise)
        timed("transform", strip.transform, spectra[n])
    joined = timed("transform", fast.join, count)
    if model.means is None:
        model.update(joined[-1])
    response_f = timed("response", model.response_f, joined[:-1])
    maps = timed("inverse", irfft2, response_f, band.shape, band)
    timed("peak", peak, maps)
    timed("update", model.update, joined[-1])


def measure_stages(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset_name: str, ceiling: Ceiling
) -> list[dict[str, Any]]:
    """The stages of a frame on one core: ms, operations, bytes, and the floor.

    Their sum is more than half of a frame on two cores, where stages of two strips run at the same
    time.  ValueError for a network that the fast path does not take.
    """
    preset = get_preset(preset_name)
    band = choose_band(preset, Device("cpu"))
    if band is None or not supports(weights.architecture):
        raise ValueError(
            f"bench: stages are those of the fast path, which {weights.architecture} does not take"
        )
    x, y, w, h = box
    windows = np.array([w, h]) * (1 + preset.padding) * np.append(preset.scale_factors, 1)[:, None]
    centre = np.array([x + w / 2, y + h / 2])
    taps = window_taps(frames[0].shape, centre, windows, preset.input_size)
    fast = FastFeatures(weights, preset, band, len(windows))
    label_f = rfft2(gaussian_label(band.shape, preset.sigma), band)
    model = OnlineFilter(label_f, preset.lam, preset.learning_rate, preset.update_rule)
    costs = cpu_tracking_costs(weights.architecture, preset)
    seconds = {cost.stage: np.zeros(ROUNDS + 1) for cost in costs}

    def timed(stage: str, work: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        result = work(*args)
        seconds[stage][number] += time.perf_counter() - began
        return result

    with one_blas_thread():
        for number in range(ROUNDS + 1):
            # another frame each time: no cache holds its pixels
            one_frame(fast, model, frames[number % len(frames)], taps, preset, band, timed)
    return [
        {
            "name": cost.stage,
            "ms": float(np.median(seconds[cost.stage][1:])) * 1e3,  # the first round warms up
            "flops": cost.flops,
            "bytes": cost.bytes,
            "floor_ms": ceiling.floor_us(cost) / 1e3,
        }
        for cost in costs
    ]


# --- training


def training_crops(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of noise, (2 batch, 3, size, size) uint8, and `batch` pairs of them."""
    crops = np.random.default_rng(0).integers(0, 256, (2 * batch, 3, size, size), dtype=np.uint8)
    return crops, np.arange(2 * batch).reshape(2, batch).T.copy()


def measure_training(
    architecture: str, batch: int, size: int, with_torch: bool
) -> dict[str, dict[str, Any]]:
    """Times of a training step, forward, backward and update, ours and PyTorch's in turns, and
    their first losses, which agree: both have the same parameters and crops, and no padding.
    """
    crops, pairs = training_crops(batch, size)
    config = Config(arch=architecture, batch=batch, padding=1.5)
    fast = FastSteps(config, crops)
    steps: dict[str, Callable[[], float]] = {"ours": lambda: float(fast.gradients(pairs)[0].mean())}
    if with_torch:
        out = network.feature_size(size, architecture, "valid")
        label = gaussian_label((out, out), config.label_sigma(size))
        start = list(fast.learnt.parameters.values())
        theirs = load_yardstick().TorchStep(crops, start, label, lr=1e-9)
        steps["torch"] = lambda: theirs.step(pairs).item()
    # warms up, and both losses are of the first parameters
    losses = {name: step() for name, step in steps.items()}
    seconds: dict[str, Any] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step))
    return {"seconds": seconds, "losses": losses}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, in ms."""
    low, median, high = np.percentile(np.array(seconds) * 1e3, (25, 50, 75))
    return {"median_ms": float(median), "quartile1_ms": float(low), "quartile3_ms": float(high)}


def rates(seconds: dict[str, list[float]], unit: str, per_step: int = 1) -> dict[str, Any]:
    """Times of ours, and of PyTorch's where it ran, as a report has them; rates in `unit`."""
    per_second = {name: per_step / statistics.median(each) for name, each in seconds.items()}
    report: dict[str, Any] = {"ours": spread(seconds["ours"]), unit: per_second["ours"]}
    if "torch" in seconds:
        report |= {"torch": spread(seconds["torch"]), f"torch_{unit}": per_second["torch"]}
        report["ratio"] = per_second["ours"] / per_second["torch"]
    return report
