"""Where the time of tracking and training goes, against the machine's ceilings and, on a CPU,
against PyTorch.

Ours and PyTorch's run in turns on the same cores, so that whatever else the machine does meets
both.  A stage's floor is the larger of its operations at the speed of a large matrix product and
its bytes at that of a large copy. Kernels of a GPU are the matter of `bench_kernels`.
"""

import contextlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import __version__, bench_kernels, kernels, network, tiled
from .backend import Device, current
from .extractor import FastExtractor
from .ops.fourier import irfft2
from .presets import get_preset
from .support.machine import describe_gpu, processor_name, usable_cores
from .support.threads import one_blas_thread
from .tracker import Tracker, peak_to_sidelobe
from .train.config import Config
from .train.device_step import DeviceSteps
from .train.fast_step import FastSteps
from .vision.crop import window_taps
from .vision.windows import gaussian_label
from .weights import Weights

TURNS = 5  # ours and PyTorch's alternate so often
ARCHITECTURE = "conv1"  # that trains
BATCH = 16  # pairs of a training step
SIZE = 125  # pixels of its crops
STEPS = 20  # of training on a GPU, between two looks at the clock


class Ceilings(NamedTuple):
    """What this machine's core and memory can do at best, on one core."""

    flops: float  # a second, float32, a product of 1024x1024 matrices
    bytes: float  # a second, read and written by a copy of 64 MB


class StageTime(NamedTuple):
    """One part of a frame."""

    name: str
    ms: float  # a frame, on one core
    flops: float  # a frame
    bytes: float  # a frame, read and written, each array once
    floor_ms: float  # a frame, on one core


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


def machine() -> dict[str, Any]:
    """Processor, versions, and the BLAS that runs: its name, architecture and threads."""
    import platform

    import threadpoolctl

    libraries = [
        {key: info.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for info in threadpoolctl.threadpool_info()
        if info.get("user_api") == "blas"
    ]
    forced = {
        name: os.environ[name]
        for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        if name in os.environ
    }
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dcfnet_np": f"{__version__} {os.environ.get('DCFNET_COMMIT', '')}".strip(),
        "blas": libraries,
        "forced": forced,
    }


def ceilings() -> Ceilings:
    """Measured on one core, the best of ten."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1024, 1024), np.float32)
    c = np.empty_like(a)
    source = rng.random(2**24, np.float32)
    target = np.empty_like(source)
    with one_blas_thread():
        product = min(_seconds(lambda: np.matmul(a, b, out=c)) for _ in range(10))
    copy = min(_seconds(lambda: np.copyto(target, source)) for _ in range(10))
    return Ceilings(2 * 1024**3 / product, 2 * source.nbytes / copy)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, in ms."""
    low, median, high = np.percentile(np.array(seconds) * 1e3, (25, 50, 75))
    return {"median_ms": float(median), "quartile1_ms": float(low), "quartile3_ms": float(high)}


# ------------------------------------------------------------------------------------------------------ tracking


def tracking(
    frames: Sequence[np.ndarray],
    box: Any,
    weights: Weights,
    preset: str,
    device: str,
    *,
    with_torch: bool,
) -> dict[str, Any]:
    """Frames per second of ours and of PyTorch's tracker in turns, decoding excluded; how far their
    boxes part.

    frames: (H, W, 3) uint8, all in memory; box: of the first one, pixels, 0-based.
    """
    torch_weights = _torch_weights(weights) if with_torch else None
    ours: list[float] = []
    theirs: list[float] = []
    boxes: dict[str, list[Any]] = {}
    for turn in range(TURNS + 1):
        tracker = Tracker(weights, preset, device)
        seconds, boxes["ours"] = _follow(tracker, frames, box, lambda result: result.box)
        ours += seconds if turn else []  # the first turn warms up
        if torch_weights:
            from .yardstick.torch_tracker import TorchTracker

            seconds, boxes["torch"] = _follow(
                TorchTracker(torch_weights, preset), frames, box, lambda result: result
            )
            theirs += seconds if turn else []
    report: dict[str, Any] = {
        "frames": len(frames),
        "ours": spread(ours),
        "fps": 1 / statistics.median(ours),
    }
    if theirs:
        report |= {"torch": spread(theirs), "torch_fps": 1 / statistics.median(theirs)}
        report["ratio"] = report["fps"] / report["torch_fps"]
        gaps = abs(np.array(boxes["ours"]) - np.array(boxes["torch"])).max(1)
        report["boxes"] = {"mean_px": float(gaps.mean()), "largest_px": float(gaps.max())}
    return report


def _follow(
    tracker: Any, frames: Sequence[np.ndarray], box: Any, of: Callable[[Any], Any]
) -> tuple[list[float], list]:
    tracker.init(frames[0], box)
    seconds, boxes = [], []
    for frame in frames[1:]:
        began = time.perf_counter()
        result = tracker.update(frame)
        seconds.append(time.perf_counter() - began)
        boxes.append(of(result))
    return seconds, boxes


def _torch_weights(weights: Weights) -> list[np.ndarray]:
    """What the yardstick's tracker takes: two convolutions, BGR."""
    p = weights.parameters
    first = p["conv1.weight"]
    if weights.channel_order == "rgb":
        first = first[:, ::-1]
    return [first, p["conv1.bias"], p["conv2.weight"], p["conv2.bias"]]


def tracking_stages(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset_name: str, ceiling: Ceilings
) -> list[StageTime]:
    """The stages of a frame one after the other on one core: four patches, in strips, as the
    tracker does them.

    Their sum is more than half of a frame on two cores, where stages of two strips run at the same
    time."""
    preset = get_preset(preset_name)
    tracker = Tracker(weights, preset, "cpu")
    tracker.init(frames[0], box)
    tracker.update(frames[1])
    extract, target = tracker._extract, tracker._target
    if not isinstance(extract, FastExtractor) or target is None or tracker.band is None:
        raise ValueError(
            f"bench: stages are those of the fast path, which {weights.architecture} does not take"
        )
    size, scales = preset.input_size, preset.num_scales
    model, centre, windows = target.filter, target.centre, target.windows(preset.window_factors)
    inverse = tracker._memory[0].inverse
    seconds: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        result = work(*args)
        seconds[name][-1] += time.perf_counter() - began
        return result

    strips = extract._strips
    names = [
        "crop",
        "conv1",
        *(f"{kind}{i}" for i in range(2, len(strips[0].m) + 2) for kind in ("relu", "conv")),
    ]
    names += ["LRN", "transform", "response", "inverse", "peak", "update"]
    seconds = {name: [] for name in names}
    maps = np.empty(0)
    with one_blas_thread():
        for frame in frames[1:]:
            for times in seconds.values():
                times.append(0.0)
            for patches in (windows, windows[:1]):  # detection, then learning
                down, across = timed("crop", window_taps, frame.shape, centre, patches, size)
                for s, (strip, crop) in enumerate(zip(strips, extract._croppers)):
                    for number in range(len(patches)):
                        pixels = timed("crop", crop, frame, down, across, number)
                        timed("conv1", strip.read, pixels, extract._mean)
                        timed("conv1", strip.first_convolution, extract._kernels)
                        for layer in range(len(strip.m)):
                            timed(f"relu{layer + 2}", strip.relu, layer)
                            timed(f"conv{layer + 2}", strip.convolution, layer, extract._kernels)
                        timed("LRN", strip.normalise)
                        timed("transform", strip.transform, extract._spectra[s, number])
                spectra = timed("transform", extract.join, len(patches))
                if len(patches) == scales:
                    response_f = timed("response", model.response_f, spectra)
                    maps = timed("inverse", irfft2, response_f, (size, size), tracker.band, inverse)
                    timed("peak", maps.max, (1, 2))
                    timed("peak", tracker._peak, maps[0])
                    timed("peak", peak_to_sidelobe, maps[0], 5, tracker._memory[0].doubles)
                else:
                    timed("update", model.update, spectra[0])
    costs = _costs(weights, size, scales, strips, tracker.band.spectrum_shape)
    rows = []
    for name, times in seconds.items():
        flops, moved = costs[name]
        floor = max(flops / ceiling.flops, moved / ceiling.bytes) * 1e3
        rows.append(StageTime(name, statistics.median(times) * 1e3, flops, moved, floor))
    return rows


def _costs(
    weights: Weights, size: int, scales: int, strips: Sequence[tiled.Strip], bins: tuple[int, int]
) -> dict[str, tuple[float, float]]:
    """(operations, bytes) of each stage in a frame, as the plain definition has them, each array
    read and written once.

    Winograd's convolutions are counted by their own products, half of the plain ones.
    """
    patches, pixels = scales + 1, size * size
    convolutions = [
        spec
        for spec in network.get_architecture(weights.architecture)
        if isinstance(spec, network.Conv)
    ]
    costs: dict[str, tuple[float, float]] = {
        "crop": (patches * pixels * 3 * 8.0, patches * pixels * 3 * 4 * 4.0)
    }
    for number, spec in enumerate(convolutions, 1):
        products = 2.0 * 9 * spec.c_in * spec.c_out * pixels * (0.5 if number > 1 else 1)
        costs[f"conv{number}"] = (
            patches * products,
            patches * pixels * 4.0 * (spec.c_in + spec.c_out),
        )
        if number > 1:
            costs[f"relu{number}"] = (
                patches * pixels * float(spec.c_in),
                patches * pixels * 8.0 * spec.c_in,
            )
    d = convolutions[-1].c_out
    rows, columns = len(strips[0].dft.rows), strips[0].dft.columns.shape[1]
    spectrum = float(np.prod(bins))
    costs["LRN"] = patches * pixels * d * (2.0 * d + 7), patches * pixels * d * 8.0
    costs["transform"] = (
        patches * d * 2.0 * (pixels * columns + rows * size * columns),
        patches * d * (pixels * 4.0 + spectrum * 8),
    )
    costs["response"] = scales * d * spectrum * 8, (scales + 1) * d * spectrum * 8
    costs["inverse"] = (
        scales * 2.0 * (rows * size * columns + pixels * columns),
        scales * pixels * 4.0,
    )
    costs["peak"] = 2.0 * scales * pixels, 2.0 * scales * pixels * 4
    costs["update"] = d * spectrum * 12, d * spectrum * 8 * 3
    return costs


# ------------------------------------------------------------------------------------------------------ training


def training(architecture: str = ARCHITECTURE, *, with_torch: bool) -> dict[str, Any]:
    """Pairs per second of one training step: BATCH pairs of crops, forward, backward, update; ours
    and PyTorch's.

    Both run the network without padding, as training does; with the same parameters and crops their
    losses agree."""
    crops, pairs = _training_data()
    size = network.feature_size(SIZE, architecture, "valid")
    # a label of 5 pixels
    fast = FastSteps(Config(arch=architecture, padding=1.5), crops)

    def ours() -> float:
        return float(fast.gradients(pairs)[0].mean())

    steps: dict[str, Callable[[], float]] = {"ours": ours}
    if with_torch:
        from .yardstick.torch_train_step import make_step

        images = crops.astype(np.float32) - np.array([104, 117, 123], np.float32)[:, None, None]
        steps["torch"] = make_step(
            images, list(fast.learnt.parameters.values()), gaussian_label((size, size), 5.0)
        )
    # warms up, and both losses are of the first parameters
    losses = {name: step() for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            seconds[name].append(_seconds(step))
    report: dict[str, Any] = {"architecture": architecture, "batch": BATCH, "loss": losses["ours"]}
    report |= {
        "ours": spread(seconds["ours"]),
        "pairs_per_second": BATCH / statistics.median(seconds["ours"]),
    }
    if with_torch:
        theirs = BATCH / statistics.median(seconds["torch"])
        report |= {
            "torch": spread(seconds["torch"]),
            "torch_pairs_per_second": theirs,
            "torch_loss": losses["torch"],
        }
        report["ratio"] = report["pairs_per_second"] / theirs
    return report


def _training_data() -> tuple[np.ndarray, np.ndarray]:
    """Crops of noise, (2 BATCH, 3, SIZE, SIZE) uint8, and BATCH pairs of them."""
    crops = np.random.default_rng(0).integers(0, 256, (2 * BATCH, 3, SIZE, SIZE), dtype=np.uint8)
    return crops, np.arange(2 * BATCH).reshape(2, BATCH).T.copy()


def device_training(config: Config, device: Device) -> dict[str, Any]:
    """Pairs per second of `DeviceSteps` on a GPU in float32, its crops there; the losses are read
    every STEPS steps.
    """
    crops, pairs = _training_data()
    step = DeviceSteps(config, crops, device=device.index)
    seconds: list[float] = []
    losses: list[float] = []

    def steps() -> None:
        for _ in range(STEPS):
            step.step(pairs, lr=0.0)
        losses.extend(step.losses())

    for turn in range(TURNS + 1):
        took = _seconds(steps) / STEPS
        seconds += [took] if turn else []  # the first turn warms up
    report: dict[str, Any] = {"architecture": config.arch, "batch": config.batch, "loss": losses[0]}
    return report | {
        "ours": spread(seconds),
        "pairs_per_second": config.batch / statistics.median(seconds),
    }


# -------------------------------------------------------------------------------------------------------- report


def made_up_frames(
    count: int, shape: tuple[int, int] = (480, 640)
) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """Frames to track in where there are no others: a patch of large random squares circles over
    small pale ones.

    Returns `count` frames (H, W, 3) uint8 and the patch's box (x, y, w, h) in the first, pixels,
    0-based."""
    rng = np.random.default_rng(0)
    background = (
        rng.integers(90, 160, (shape[0] // 8, shape[1] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    patch = rng.integers(0, 256, (6, 5, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    frames = []
    for t in range(count):
        x, y = int(280 + 120 * np.sin(t / 20)), int(200 + 90 * np.cos(t / 20))
        frame = background.copy()
        frame[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        frames.append(frame)
    return frames, (280.0, 290.0, float(patch.shape[1]), float(patch.shape[0]))


def run(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset: str, device: Device
) -> dict[str, Any]:
    """Everything that `dcfnet bench` prints, as JSON knows it.  On a GPU nothing of PyTorch's."""
    reason = (
        _why_no_torch(weights, preset)
        if device.kind == "cpu"
        else "make gpu compares with PyTorch on a GPU"
    )
    report: dict[str, Any] = {
        "machine": machine(),
        "weights": weights.architecture,
        "preset": preset,
    }
    report |= {"device": str(device), "no_torch": reason}
    if device.kind == "cuda":
        report["gpu"] = describe_gpu(device.index)
        report["environment"] = bench_kernels.environment(device.index)
    report["tracking"] = tracking(frames, box, weights, preset, str(device), with_torch=not reason)
    if device.kind == "cpu":
        ceiling = ceilings()
        report["ceilings"] = ceiling._asdict()
        report["stages"] = [
            stage._asdict() for stage in tracking_stages(frames, box, weights, preset, ceiling)
        ]
        report["training"] = training(with_torch="not installed" not in reason)
    else:
        config = Config(arch=ARCHITECTURE, batch=BATCH)
        with current(device):
            if kernels.enabled():
                report["training"] = device_training(config, device)
            crops = _training_data()[0]
            report["kernels"] = bench_kernels.measure(
                frames, box, weights, preset, crops, config, device.index
            )
    return report


def _why_no_torch(weights: Weights, preset: str) -> str:
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed; install the extra bench"
    from .yardstick.torch_tracker import PRESETS, use_threads

    use_threads(usable_cores())
    if preset not in PRESETS:
        return f"PyTorch's tracker has the presets {', '.join(PRESETS)} only"
    convolutions = [
        spec
        for spec in network.get_architecture(weights.architecture)
        if isinstance(spec, network.Conv)
    ]
    plain = len(convolutions) == 2 and all(spec.dilation == 1 for spec in convolutions)
    return (
        "" if plain else f"PyTorch's tracker has two plain convolutions, not {weights.architecture}"
    )


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    host, track = report["machine"], report["tracking"]
    lines = [
        f"{host['processor']}, {host['cores']} cores; Python {host['python']}, NumPy {host['numpy']}"
    ]
    if "gpu" in report:
        about = report["environment"]
        lines.append(
            f"{report['gpu']}; driver {about['driver']}, CuPy {about['cupy']}, commit {about['commit']}"
        )
    for blas in host["blas"]:
        lines.append(
            f"BLAS: {blas['internal_api']} {blas['version']}, {blas['architecture']}, {blas['num_threads']} threads"
        )
    for name, value in host["forced"].items():
        lines.append(
            f"warning: {name}={value} forces BLAS to other kernels than this processor's; unset it for timings"
        )
    lines += [
        "",
        f"tracking: {report['weights']}, preset {report['preset']}, {track['frames']} frames, {report['device']}",
    ]
    if "made_up" in report:
        lines.append(f"  frames   made up; {report['made_up']}")
    if "decode_ms" in track:
        lines.append(f"  decode   {track['decode_ms']:7.2f} ms a frame, not counted below")
    lines.append(_rate("ours", track["ours"], track["fps"], "fps"))
    if "torch" in track:
        lines.append(_rate("PyTorch", track["torch"], track["torch_fps"], "fps"))
        lines.append(f"  ratio    {track['ratio']:7.2f}")
        lines.append(
            f"  boxes    {track['boxes']['mean_px']:.4f} px apart, {track['boxes']['largest_px']:.4f} at most"
        )
    elif report["no_torch"]:
        lines.append(f"  PyTorch: not compared; {report['no_torch']}")
    if "stages" in report:
        ceiling = report["ceilings"]
        flops, moved = ceiling["flops"] / 1e9, ceiling["bytes"] / 1e9
        best = f"{flops:.0f} GFLOP/s in a large product, {moved:.0f} GB/s in a large copy"
        lines += ["", f"a frame on one core, which has {best}"]
        lines.append("  stage         ms   MFLOP   MB   floor ms   times the floor")
        total = 0.0
        for stage in report["stages"]:
            total += stage["ms"]
            size = f"{stage['flops'] / 1e6:7.0f} {stage['bytes'] / 1e6:4.1f}"
            ratio = f"{stage['ms'] / stage['floor_ms']:17.1f}"
            lines.append(
                f"  {stage['name']:10s} {stage['ms']:6.2f} {size} {stage['floor_ms']:10.2f} {ratio}"
            )
        lines.append(f"  {'sum':10s} {total:6.2f}")
    if "training" in report:
        train = report["training"]
        lines += [
            "",
            f"training: {train['architecture']}, {train['batch']} pairs of {SIZE}x{SIZE} a step",
        ]
        lines.append(_rate("ours", train["ours"], train["pairs_per_second"], "pairs/s"))
        if "torch" in train:
            lines.append(
                _rate("PyTorch", train["torch"], train["torch_pairs_per_second"], "pairs/s")
            )
            lines.append(f"  ratio    {train['ratio']:7.2f}")
            lines.append(f"  losses   {train['loss']:.4f} and {train['torch_loss']:.4f}")
    printed = "\n".join(lines) + "\n"
    return (
        printed + "\n" + bench_kernels.text(report["kernels"]) if "kernels" in report else printed
    )


def _rate(name: str, times: dict[str, float], rate: float, unit: str) -> str:
    between = f"half of them {times['quartile1_ms']:.2f} to {times['quartile3_ms']:.2f}"
    return f"  {name:8s} {times['median_ms']:7.2f} ms ({between}), {rate:.1f} {unit}"
