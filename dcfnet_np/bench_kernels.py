"""Every kernel of a step on a GPU: what it takes, beside what it must take at least.

`tracking_costs` and `training_costs` count: operations, and bytes that must move, each array read
or written once; a multiply-add counts as two operations; transforms count as the kernels do them,
band-limited and with mirror images folded.  `measure` times: each stage alone, a CUDA graph of it
again and again, so that Python's own time is not in it. The floor is the larger of operations at
the GPU's peak and bytes at its bandwidth, both measured in the same run."""

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import backend, kernels, network
from .fast.device_step import DeviceStep, Stage
from .kernels import conv_tf32
from .ops.fourier import label_band
from .presets import Preset, get_preset
from .train.config import Config
from .train.device_step import DeviceOptions, DeviceSteps
from .vision.windows import gaussian_label
from .weights import Weights

REAL, COMPLEX = 4, 8  # bytes
LAUNCHES = 20  # of a stage in one graph
REPLAYS = 15  # of a graph; the median counts
COPIED = 1 << 28  # bytes of the array whose copy shows the bandwidth: more than any cache holds
STEPS = 200  # of the loop that shows the peak of arithmetic


# --------------------------------------------------------------------------------------------------------- costs


class Cost(NamedTuple):
    """One stage: one launch, or a few."""

    kernel: str
    flops: float
    bytes: float
    tf32: bool = False  # whether tensor cores can do it

    def floor_us(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Microseconds that no program can beat on a GPU of these peaks."""
        return 1e6 * max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def tracking_costs(architecture: str, preset: str | Preset, targets: int = 1) -> list[Cost]:
    """The stages of a `DeviceStep`, by their names and in their order, without the upload of the
    frame.
    """
    preset, d = get_preset(preset), network.output_channels(architecture)
    size, scales = preset.input_size, preset.num_scales
    pixels = size**2
    band = label_band(gaussian_label((size, size), preset.sigma))
    limits = band.limits if band else (size // 2, size // 2)
    bins = (2 * limits[0] + 1) * (limits[1] + 1)
    specs = network.layers(architecture)

    def features(title: str, n: int) -> list[Cost]:
        costs = [Cost(f"{title}: crop", 30.0 * n * pixels, n * pixels * 3 * (1 + REAL))]
        for (name, spec), (after_name, after) in zip(specs, [*specs[1:], ("", None)]):
            if isinstance(spec, network.Conv) and isinstance(after, network.Lrn):
                layer = _convolution("", n, spec, size, size)
                costs.append(
                    Cost(
                        f"{title}: {name}+{after_name}",
                        layer.flops + 10.0 * d * n * pixels,
                        layer.bytes,
                    )
                )
            elif isinstance(spec, network.Conv):
                costs.append(_convolution(f"{title}: {name}", n, spec, size, size))
        return [
            *costs,
            Cost(
                f"{title}: DFT",
                n * d * _transform(size, limits),
                n * d * (REAL * pixels + COMPLEX * bins),
            ),
        ]

    n = targets * scales
    return [
        *features("search", n),
        Cost("search: response", 8.0 * n * d * bins, COMPLEX * bins * (n * d + targets * d + n)),
        Cost(
            "search: inverse DFT",
            n * _transform(size, limits),
            n * (REAL * pixels + COMPLEX * bins),
        ),
        Cost("search: peaks", 4.0 * n * pixels, REAL * n * pixels),
        Cost("search: move", 0.0, 0.0),
        *features("update", targets),
        Cost("update: filter", 8.0 * targets * d * bins, 3 * COMPLEX * targets * d * bins),
    ]


def training_costs(
    architecture: str, batch: int, size: int = 125, sigma: float | None = None
) -> list[Cost]:
    """The stages of a `DeviceSteps` of so many pairs of crops of `size` pixels, by their names and in
    their order.
    """
    n, d = 2 * batch, network.output_channels(architecture)
    costs = [Cost("gather", 3.0 * n * size**2, 3 * n * size**2 * (1 + REAL))]
    backward: list[Cost] = []
    sizes, sigma = [size], 0.1 * size / 3 if sigma is None else sigma
    for name, spec in network.layers(architecture):
        if not isinstance(spec, network.Conv):
            continue
        out = sizes[-1] - 2 * spec.dilation
        forward = _convolution(f"{name}: forward", n, spec, sizes[-1], out)
        packed = REAL * 9.0 * spec.c_in * spec.c_out * 3  # read, and laid out for both directions
        costs += [Cost(f"{name}: pack", 0.0, packed), forward]
        if len(sizes) > 1:  # and the output of the ReLU below is read for its mask
            moved = forward.bytes + REAL * n * spec.c_in * sizes[-1] ** 2
            backward.append(
                Cost(f"{name}: gradient to the data", forward.flops, moved, forward.tf32)
            )
        backward.append(forward._replace(kernel=f"{name}: gradient to the weights"))
        sizes.append(out)
    out = sizes[-1]
    pixels, values = out**2, n * d * out**2
    band = label_band(gaussian_label((out, out), sigma))
    limits = band.limits if band else (out // 2, out // 2)
    bins = (2 * limits[0] + 1) * (limits[1] + 1)
    all_maps = Cost(
        "DFT of the features",
        n * d * _transform(out, limits),
        REAL * values + COMPLEX * n * d * bins,
    )
    responses = Cost("", batch * _transform(out, limits), batch * (REAL * pixels + COMPLEX * bins))
    parameters = sum(
        int(np.prod(shape)) for shape in network.parameter_shapes(architecture).values()
    )
    return [
        *costs,
        Cost("LRN: forward", 15.0 * values, 2 * REAL * values),
        all_maps,
        Cost("filter and response", 16.0 * batch * d * bins, COMPLEX * bins * batch * (2 * d + 1)),
        responses._replace(kernel="inverse DFT of the responses"),
        Cost("loss", 5.0 * batch * pixels, 2 * REAL * batch * pixels),
        responses._replace(kernel="DFT of their gradient"),
        Cost(
            "filter and response: backward",
            26.0 * batch * d * bins,
            COMPLEX * bins * batch * (4 * d + 2),
        ),
        all_maps._replace(kernel="inverse DFT of the features' gradient"),
        Cost("LRN: backward", 30.0 * values, 3 * REAL * values),
        *reversed(backward),
        Cost("SGD", 6.0 * parameters, 5 * REAL * parameters),
    ]


def _transform(size: int, limits: tuple[int, int]) -> float:
    """Operations of one band-limited transform of one map, or of its inverse."""
    half, (ku, kv) = size // 2 + 1, limits
    return 2.0 * 2 * (kv + 1) * half * size + 2.0 * 4 * (kv + 1) * half * (ku + 1)


def _convolution(name: str, n: int, spec: network.Conv, size: int, out: int) -> Cost:
    """A convolution of n images of size x size pixels to out x out."""
    flops = 2.0 * 9 * spec.c_in * spec.c_out * n * out * out
    moved = REAL * n * (spec.c_in * size**2 + spec.c_out * out**2)
    return Cost(name, flops, moved, spec.c_in >= conv_tf32.CHANNELS)


# ------------------------------------------------------------------------------------------------------- ceilings


class Ceiling(NamedTuple):
    """What a GPU can do, measured."""

    flops: float  # float32 operations a second, multiply-adds in registers
    bytes: float  # a second, read plus written, in a large copy
    # operations a second of tensor cores in TF32, products in registers; 0 where there are none
    tf32: float

    def floor_us(self, cost: Cost, tf32: bool) -> float:
        """Microseconds for `cost`, on tensor cores where they can and `tf32` asks for them."""
        return cost.floor_us(self.tf32 if tf32 and cost.tf32 else self.flops, self.bytes)


MULTIPLY_ADDS = r"""
__global__ void multiply_adds(float* out, int steps) {
    float a[8];
    for (int i = 0; i < 8; ++i) a[i] = threadIdx.x + i;
    for (int s = 0; s < steps; ++s)
#pragma unroll
        for (int k = 0; k < 16; ++k)
#pragma unroll
            for (int i = 0; i < 8; ++i) a[i] = a[i] * 0.999f + 1.f;
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += a[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}"""
PRODUCTS = r"""
#include "mma.cuh"
__global__ void products(float* out, int steps) {
    float d[8][4] = {};
    const unsigned a[4] = {to_tf32(threadIdx.x), 0u, to_tf32(1.f), 0u}, b[2] = {to_tf32(0.5f), 0u};
    for (int s = 0; s < steps; ++s)
#pragma unroll
        for (int i = 0; i < 8; ++i) multiply_add(d[i], a, b);
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}"""


def measure_ceiling(cp: Any) -> Ceiling:
    """What memory and arithmetic of the current GPU give: a large copy, and multiply-adds in
    registers.
    """
    source = cp.ones(COPIED // 4, np.float32)
    target = cp.empty_like(source)
    # the first wakes the GPU's clocks
    copy = min(median_us(cp, lambda: cp.copyto(target, source)) for _ in range(2))
    device = cp.cuda.Device()
    blocks = device.attributes["MultiProcessorCount"] * 8
    out = cp.empty(blocks * 256, np.float32)

    def threads_per_s(code: str, name: str) -> float:
        module = cp.RawModule(code=code, options=kernels.OPTIONS, name_expressions=(name,))
        kernel = module.get_function(name)
        return (
            out.size
            / median_us(cp, lambda: kernel((blocks,), (256,), (out, np.int32(STEPS))))
            * 1e6
        )

    flops = threads_per_s(MULTIPLY_ADDS, "multiply_adds") * STEPS * 16 * 8 * 2
    tf32 = 0.0
    if int(device.compute_capability) >= conv_tf32.MINIMUM_ARCH:
        tf32 = threads_per_s(PRODUCTS, "products") / 32 * STEPS * 8 * 2 * 16 * 8 * 8
    return Ceiling(flops, 2 * source.nbytes / copy * 1e6, tf32)


def median_us(cp: Any, call: Callable[[], object]) -> float:
    """Microseconds per call on the current GPU: LAUNCHES of them in one graph, the median over its
    replays.

    `call` may only launch kernels and copy on the GPU.  What it needs is there already: all streams
    are waited for."""
    cp.cuda.Device().synchronize()
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        call()  # compiles, which is no capture
        stream.synchronize()
        stream.begin_capture()
        for _ in range(LAUNCHES):
            call()
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        times = []
        for _ in range(REPLAYS):
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.synchronize()
            times.append(cp.cuda.get_elapsed_time(start, end))
    return float(np.median(times)) * 1000 / LAUNCHES


# ---------------------------------------------------------------------------------------------------------- times


def tracking_times(cp: Any, step: DeviceStep, ceiling: Ceiling) -> dict[str, Any]:
    """The stages of a frame of a started `step`, whose targets stay where they are: see
    `stage_times`.
    """
    cp.cuda.Device().synchronize()
    before = [array.copy() for array in step.rows]

    def back() -> None:  # so many moves would carry the targets away
        for array, value in zip(step.rows, before):
            array[...] = value

    costs = tracking_costs(step.weights.architecture, step.preset, step.targets)
    return stage_times(cp, step.stages, costs, ceiling, back)


def training_times(
    cp: Any, step: DeviceSteps, ceiling: Ceiling, tf32: bool = False
) -> dict[str, Any]:
    """The stages of a training step, which learns nothing: see `stage_times`."""
    config = step.config
    costs = training_costs(
        config.arch, config.batch, step.size, config.sigma_factor * step.size / (1 + config.padding)
    )
    return stage_times(cp, step.stages(lr=0.0), costs, ceiling, tf32=tf32)


def stage_times(
    cp: Any,
    stages: Sequence[Stage],
    costs: Sequence[Cost],
    ceiling: Ceiling,
    after_each: Callable[[], None] = lambda: None,
    tf32: bool = False,
) -> dict[str, Any]:
    """{"us", "floor_us", "stages"}: all of them in one graph, their floors' sum, and a row for
    each.

    A row has `us` beside `floor_us`, `flops` and `bytes`.  One stage over and over finds in the
    cache what a whole step has to fetch: it may be below its floor, and all in one graph may take
    longer than the sum."""
    rows = []
    for stage, cost in zip(stages, costs, strict=True):
        if stage.name != cost.kernel:
            raise ValueError(f"stage_times: stage {stage.name!r} has the cost of {cost.kernel!r}")
        row = {
            "stage": stage.name,
            "us": median_us(cp, stage.run),
            "floor_us": ceiling.floor_us(cost, tf32),
        }
        rows.append({**row, "flops": cost.flops, "bytes": cost.bytes})
        after_each()

    def run_all() -> None:
        for stage in stages:
            stage.run()

    whole = median_us(cp, run_all)
    after_each()
    return {"us": whole, "floor_us": sum(row["floor_us"] for row in rows), "stages": rows}


def measure(
    frames: Sequence[np.ndarray],
    box: Any,
    weights: Weights,
    preset: str,
    crops: np.ndarray,
    config: Config,
    index: int,
) -> dict[str, Any]:
    """A frame of one target and a training step on cuda:`index`, stage by stage.

    frames, box: as for `bench.tracking`; crops, config: as for `DeviceSteps`.  A part that the
    kernels do not do has its reason in place of its stages: {"skipped": "..."}.
    """
    if not kernels.enabled():
        return {"skipped": "DCFNET_KERNELS=0"}
    cp = backend.cupy()
    with cp.cuda.Device(index):
        ceiling = measure_ceiling(cp)
        report: dict[str, Any] = {"ceiling": ceiling._asdict()}
        try:
            step = DeviceStep(weights, preset, frames[0].shape, device=index)
        except ValueError as error:
            report["tracking"] = {"skipped": str(error)}
        else:
            step.start(frames[0], [box])
            step.step(frames[1])
            report["tracking"] = tracking_times(cp, step, ceiling)
        for title, tf32 in (("training float32", False), ("training TF32", True)):
            if tf32 and not ceiling.tf32:
                report[title] = {"skipped": "this GPU has no TF32"}
                continue
            trainer = DeviceSteps(config, crops, device=index, options=DeviceOptions(tf32=tf32))
            trainer.step(np.arange(2 * config.batch).reshape(-1, 2) % len(crops), lr=0.0)
            trainer.losses()
            report[title] = training_times(cp, trainer, ceiling, tf32)
    return report


def text(report: dict[str, Any]) -> str:
    """What `measure` found, as tables."""
    if "skipped" in report:
        return f"kernels: not measured; {report['skipped']}\n"
    ceiling = Ceiling(**report["ceiling"])
    best = f"{ceiling.flops / 1e12:.1f} TFLOP/s in float32, {ceiling.tf32 / 1e12:.1f} in TF32"
    lines = [
        f"kernels, each alone; the GPU has {best}, {ceiling.bytes / 1e9:.0f} GB/s in a large copy"
    ]
    for title, part in report.items():
        if title == "ceiling":
            continue
        if "skipped" in part:
            lines += ["", f"{title}: not measured; {part['skipped']}"]
            continue
        lines += ["", f"{title:38s}      us    MFLOP       MB  floor us  times the floor"]
        rows = part["stages"]
        total = {key: sum(row[key] for row in rows) for key in ("us", "flops", "bytes", "floor_us")}
        whole = {**total, "stage": "all in one graph", "us": part["us"]}
        for row in (*rows, {**total, "stage": "sum"}, whole):
            size = f"{row['flops'] / 1e6:8.1f} {row['bytes'] / 1e6:8.2f}"
            ratio = f"{row['us'] / row['floor_us']:16.1f}" if row["floor_us"] else ""
            lines.append(
                f"  {row['stage']:36s} {row['us']:7.1f} {size} {row['floor_us']:9.1f} {ratio}".rstrip()
            )
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------------------------------------- environment


def environment(index: int = 0) -> dict[str, Any]:
    """Device, driver, versions and commit: what a figure on a GPU belongs to."""
    cp = backend.cupy()
    runtime = cp.cuda.runtime
    root = Path(__file__).resolve().parent.parent
    commit = _says("git", "-C", str(root), "rev-parse", "HEAD") if (root / ".git").exists() else ""
    return {
        "device": runtime.getDeviceProperties(index)["name"].decode(),
        "driver": _says("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver_cuda": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cp.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "commit": commit or os.environ.get("DCFNET_COMMIT", "unknown"),
    }


def _says(*command: str) -> str:
    """The first line that a command prints; nothing where there is no such command or it fails."""
    try:
        printed = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return printed.partition("\n")[0].strip()
