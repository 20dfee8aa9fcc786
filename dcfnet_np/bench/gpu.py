"""A frame and a training step on a GPU: how often a second, and each stage beside its floor.

A stage is timed alone, a CUDA graph of it again and again, so that Python's own time is not in it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend, kernels
from ..fast.device_step import DeviceStep
from ..fast.graph import Stage
from ..kernels import conv_tf32
from ..train.config import Config
from ..train.device_step import DeviceOptions, DeviceSteps
from ..weights import Weights
from .costs import Ceiling, Cost, tracking_costs, training_costs

LAUNCHES = 20  # of a stage in one graph
REPLAYS = 15  # of a graph; the median counts
COPIED = 1 << 28  # bytes of the array whose copy shows the bandwidth: more than any cache holds
MULTIPLIED = 200  # steps of the loop that shows the peak of arithmetic
TURNS = 5
STEPS = 20  # of training, between two looks at the clock

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
    words = out, np.int32(MULTIPLIED)

    def threads_per_s(code: str, name: str) -> float:
        module = cp.RawModule(code=code, options=kernels.OPTIONS, name_expressions=(name,))
        kernel = module.get_function(name)
        return 1e6 * out.size / median_us(cp, lambda: kernel((blocks,), (256,), words))

    flops = threads_per_s(MULTIPLY_ADDS, "multiply_adds") * MULTIPLIED * 16 * 8 * 2
    tf32 = 0.0
    if int(device.compute_capability) >= conv_tf32.MINIMUM_ARCH:
        tf32 = threads_per_s(PRODUCTS, "products") / 32 * MULTIPLIED * 8 * 2 * 16 * 8 * 8
    return Ceiling(flops, 2 * source.nbytes / copy * 1e6, tf32)


def median_us(cp: Any, call: Callable[[], object]) -> float:
    """Microseconds per call on the current GPU: LAUNCHES of them in one graph, the median over its
    replays.

    `call` may only launch kernels and copy on the GPU. What it needs is there already: all streams
    are waited for.
    """
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

    A row has `us` beside `floor_us`, `flops` and `bytes`. One stage over and over finds in the
    cache what a whole step has to fetch: it may be below its floor, and all in one graph may take
    longer than the sum.
    """
    rows = []
    for stage, cost in zip(stages, costs, strict=True):
        if stage.name != cost.stage:
            raise ValueError(f"stage_times: stage {stage.name!r} has the cost of {cost.stage!r}")
        us, floor_us = median_us(cp, stage.run), ceiling.floor_us(cost, tf32)
        row = {"stage": stage.name, "us": us, "floor_us": floor_us}
        rows.append({**row, "flops": cost.flops, "bytes": cost.bytes})
        after_each()

    def run_all() -> None:
        for stage in stages:
            stage.run()

    whole = median_us(cp, run_all)
    after_each()
    return {"us": whole, "floor_us": sum(row["floor_us"] for row in rows), "stages": rows}


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
    costs = training_costs(config.arch, config.batch, step.size, config.label_sigma(step.size))
    return stage_times(cp, step.stages(lr=0.0), costs, ceiling, tf32=tf32)


def measure_training(config: Config, crops: np.ndarray, index: int) -> dict[str, Any]:
    """Times of a step of `config.batch` pairs in float32, and one loss."""
    step = DeviceSteps(config, crops, device=index)
    pairs = _pairs(config, crops)
    seconds: list[float] = []
    losses: list[float] = []
    for _ in range(TURNS + 1):
        began = time.perf_counter()
        for _ in range(STEPS):
            step.step(pairs, lr=0.0)
        losses.extend(step.losses())
        seconds.append((time.perf_counter() - began) / STEPS)
    return {"seconds": seconds[1:], "loss": float(losses[0])}  # the first turn warms up


def _pairs(config: Config, crops: np.ndarray) -> np.ndarray:
    return np.arange(2 * config.batch).reshape(-1, 2) % len(crops)


def measure_kernels(
    frames: Sequence[np.ndarray],
    box: Any,
    weights: Weights,
    preset: str,
    crops: np.ndarray,
    config: Config,
    index: int,
) -> dict[str, Any]:
    """A frame of one target and a training step on cuda:`index`, stage by stage.

    box: in the first frame; crops, config: as for `DeviceSteps`. A part that the kernels do not do
    has its reason in place of its stages: {"skipped": "..."}.
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
            trainer.step(_pairs(config, crops), lr=0.0)
            trainer.losses()
            report[title] = training_times(cp, trainer, ceiling, tf32)
    return report
