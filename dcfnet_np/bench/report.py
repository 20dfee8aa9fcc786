"""What `dcfnet bench` finds, as JSON has it and as people read it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import kernels
from ..backend import Device, current
from ..support.machine import describe_gpu, describe_machine, gpu_driver, gpu_facts
from ..support.words import counted
from ..tracker import Tracker
from ..train.config import Config
from ..weights import Weights
from . import cpu, gpu

ARCHITECTURE = "conv1"  # that trains
BATCH = 16  # pairs of a training step
SIZE = 125  # pixels of its crops
FORCING = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}  # variables that choose BLAS's kernels


def measure(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset: str, device: Device
) -> dict[str, Any]:
    """Everything that `dcfnet bench` prints, as JSON knows it. On a GPU nothing of PyTorch's."""
    on_cpu = device.kind == "cpu"
    reason = "make gpu compares with PyTorch on a GPU"
    if on_cpu:
        reason = cpu.why_no_torch_tracker(weights, preset)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "weights": weights.architecture,
        "preset": preset,
        "device": str(device),
        "no_torch": reason,
    }
    if not on_cpu:
        about = environment(device.index)
        report |= {"gpu": describe_gpu(device.index), "environment": about}
    ours, theirs = partial(Tracker, weights, preset, str(device)), None
    if not reason:
        theirs = partial(cpu.load_yardstick().TorchTracker, cpu.torch_arrays(weights), preset)
    tracked = cpu.measure_tracking(frames, box, ours, theirs)
    rates = cpu.rates(tracked.pop("seconds"), "fps")
    report["tracking"] = {"frames": len(frames), **rates, **tracked}
    measure_device = _measure_cpu if on_cpu else _measure_gpu
    return report | measure_device(frames, box, weights, preset, device)


def _measure_cpu(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset: str, device: Device
) -> dict[str, Any]:
    ceiling = cpu.measure_ceiling()
    stages = cpu.measure_stages(frames, box, weights, preset, ceiling)
    found = cpu.measure_training(ARCHITECTURE, BATCH, SIZE, not cpu.why_no_torch())
    rates = cpu.rates(found["seconds"], "pairs_per_second", BATCH)
    losses = {"loss": found["losses"]["ours"]}
    if "torch" in found["losses"]:
        losses["torch_loss"] = found["losses"]["torch"]
    return {
        "ceilings": {"flops": ceiling.flops, "bytes": ceiling.bytes},
        "stages": stages,
        "training": {"architecture": ARCHITECTURE, "batch": BATCH, **losses, **rates},
    }


def _measure_gpu(
    frames: Sequence[np.ndarray], box: Any, weights: Weights, preset: str, device: Device
) -> dict[str, Any]:
    config, crops = Config(arch=ARCHITECTURE, batch=BATCH), cpu.training_crops(BATCH, SIZE)[0]
    report: dict[str, Any] = {}
    with current(device):
        if kernels.enabled():
            found = gpu.measure_training(config, crops, device.index)
            rates = cpu.rates({"ours": found["seconds"]}, "pairs_per_second", BATCH)
            about = {"architecture": ARCHITECTURE, "batch": BATCH, "loss": found["loss"]}
            report["training"] = about | rates
        report["kernels"] = gpu.measure_kernels(
            frames, box, weights, preset, crops, config, device.index
        )
    return report


# --- for people


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [*_machine_lines(report), "", *_tracking_lines(report)]
    if "stages" in report:
        lines += ["", *_stage_lines(report)]
    if "training" in report:
        train = report["training"]
        step = f"{counted(train['batch'], 'pair')} of {SIZE}x{SIZE} a step"
        about = f"training: {train['architecture']}, {step}"
        lines += ["", about, *_rate_lines(train, "pairs_per_second", "pairs/s")]
        if "torch_loss" in train:
            lines.append(f"  losses   {train['loss']:.4f} and {train['torch_loss']:.4f}")
    if "kernels" in report:
        lines += ["", *_kernel_lines(report["kernels"])]
    return "\n".join(lines) + "\n"


def _machine_lines(report: dict[str, Any]) -> list[str]:
    host = report["machine"]
    lines = [
        f"{host['processor']}, {counted(host['cores'], 'core')}; "
        f"Python {host['python']}, NumPy {host['packages']['numpy']}"
    ]
    if "gpu" in report:
        about = report["environment"]
        versions = f"driver {about['driver']}, CuPy {about['cupy']}, commit {about['commit']}"
        lines.append(f"{report['gpu']}; {versions}")
    for blas in host["blas"]:
        which = f"{blas['internal_api']} {blas['version']}, {blas['architecture']}"
        lines.append(f"BLAS: {which}, {counted(blas['num_threads'], 'thread')}")
    for name in FORCING & set(host["variables"]):
        value = host["variables"][name]
        lines.append(
            f"warning: {name}={value} forces BLAS to other kernels than this processor's; "
            "unset it for timings"
        )
    return lines


def _tracking_lines(report: dict[str, Any]) -> list[str]:
    track = report["tracking"]
    about = f"{report['weights']}, preset {report['preset']}, {counted(track['frames'], 'frame')}"
    lines = [f"tracking: {about}, {report['device']}"]
    if "made_up" in report:
        lines.append(f"  frames   made up; {report['made_up']}")
    if "decode_ms" in track:
        lines.append(f"  decode   {track['decode_ms']:7.2f} ms a frame, not counted below")
    lines += _rate_lines(track, "fps", "fps")
    if "boxes" in track:
        mean, largest = track["boxes"]["mean_px"], track["boxes"]["largest_px"]
        lines.append(f"  boxes    {mean:.4f} px apart, {largest:.4f} at most")
    elif report["no_torch"]:
        lines.append(f"  PyTorch: not compared; {report['no_torch']}")
    return lines


def _rate_lines(part: dict[str, Any], rate: str, unit: str) -> list[str]:
    lines = []
    for name, key, prefix in (("ours", "ours", ""), ("PyTorch", "torch", "torch_")):
        if key in part:
            times = part[key]
            between = f"half of them {times['quartile1_ms']:.2f} to {times['quartile3_ms']:.2f}"
            each = f"{times['median_ms']:7.2f} ms ({between})"
            lines.append(f"  {name:8s} {each}, {part[prefix + rate]:.1f} {unit}")
    return lines + ([f"  ratio    {part['ratio']:7.2f}"] if "ratio" in part else [])


def _stage_lines(report: dict[str, Any]) -> list[str]:
    flops, moved = (report["ceilings"][name] / 1e9 for name in ("flops", "bytes"))
    best = f"{flops:.0f} GFLOP/s in a large product, {moved:.0f} GB/s in a large copy"
    rows = [
        (row["name"], row["ms"], row["flops"], row["bytes"], row["floor_ms"])
        for row in report["stages"]
    ]
    return [f"a frame on one core, which has {best}", *_table("stage", "ms", rows), _sum(rows)]


def _kernel_lines(report: dict[str, Any]) -> list[str]:
    if "skipped" in report:
        return [f"kernels: not measured; {report['skipped']}"]
    flops, moved, tf32 = (report["ceiling"][name] for name in ("flops", "bytes", "tf32"))
    best = f"{flops / 1e12:.1f} TFLOP/s in float32, {tf32 / 1e12:.1f} in TF32"
    copy = f"{moved / 1e9:.0f} GB/s in a large copy"
    lines = [f"kernels, each alone; the GPU has {best}, {copy}"]
    for title, part in report.items():
        if "skipped" in part:
            lines += ["", f"{title}: not measured; {part['skipped']}"]
        elif title != "ceiling":
            keys = ("stage", "us", "flops", "bytes", "floor_us")
            rows = [tuple(row[key] for key in keys) for row in part["stages"]]
            whole = "all in one graph", part["us"], 0.0, 0.0, part["floor_us"]
            lines += ["", *_table(title, "us", [*rows, whole]), _sum(rows)]
    return lines


def _table(title: str, unit: str, rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """rows: (stage, time, operations, bytes, floor)."""
    head = f"{unit:>8s} {'MFLOP':>8s} {'MB':>7s} {'floor ' + unit:>9s}  times the floor"
    lines = [f"  {title:36s} {head}"]
    for name, took, flops, moved, floor in rows:
        size = f"{flops / 1e6:8.1f} {moved / 1e6:7.2f}"
        ratio = f"{took / floor:16.1f}" if floor else ""
        lines.append(f"  {name:36s} {took:8.2f} {size} {floor:9.2f} {ratio}".rstrip())
    return lines


def _sum(rows: Sequence[tuple[Any, ...]]) -> str:
    return f"  {'sum':36s} {sum(row[1] for row in rows):8.2f}"


def environment(index: int = 0) -> dict[str, Any]:
    """Machine, GPU and driver: what a figure on a GPU belongs to."""
    facts = gpu_facts(index)
    return {"device": facts["name"], "driver": gpu_driver(), **facts, **describe_machine()}
