"""Tracking and training on a real GPU: correct first, then fast.

    python benchmarks/gpu.py compile              all kernels, on all cores
    python benchmarks/gpu.py tracking --out FILE.json [--frames SEQUENCE_DIR] [--targets 1 8 64]
    python benchmarks/gpu.py training --out FILE.json [--arch conv1 light]

Rates are those of a CUDA graph and of kernels launched one by one, for frames with their upload and
for crops on the GPU or streamed; then come every stage of a frame beside its floor, and PyTorch,
eager and compiled, where torch is installed. The goals are in docs/reference/kernels.md. Boxes that
are not those of NumPy are not timed, and the exit code is 1; that training is right the GPU tests
say. `make gpu` runs all.
"""

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend, kernels, network
from dcfnet_np.bench import cpu, gpu
from dcfnet_np.bench.costs import Ceiling, training_costs
from dcfnet_np.bench.report import environment
from dcfnet_np.fast.device_step import DeviceStep
from dcfnet_np.kernels.compile import minimum_arch
from dcfnet_np.support.errors import DeviceError
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.config import Config
from dcfnet_np.train.device_step import DeviceOptions, DeviceSteps
from dcfnet_np.vision.sources import open_source
from dcfnet_np.vision.windows import gaussian_label
from dcfnet_np.weights import Weights, load_weights

BOX_TOLERANCE = 0.01  # pixels that two ways to the same box may differ
WARM_UP = 20  # calls before a measurement
RUNS = 5  # of a measurement; the median counts
LR = 1e-5
CROPS, SIZE = 512, 125  # of training
KINDS = ("eager", "compiled")  # of PyTorch


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def saving(path: Path, report: dict) -> Iterator[None]:
    """Write the report whatever happens inside; an error or the end of the time is named in it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))  # what `timeout` sends
    try:
        yield
    except BaseException as error:
        report["cut_off"] = f"{type(error).__name__}: {error}"[:300]
        raise
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")


def measure_rate(
    step: Callable[[int], Any], seconds: float, finish: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """How often a second step(0), step(1), ... goes, waiting for the last one included."""
    for number in range(WARM_UP):
        step(number)
    finish()
    runs = []
    for _ in range(RUNS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / RUNS:
            step(count)
            count += 1
        finish()
        runs.append(count / (time.perf_counter() - start))
    return {"per_second": statistics.median(runs), "runs": [round(run, 1) for run in runs]}


def against_torch(measures: dict[str, Callable[[Any], dict]], reason: str) -> dict[str, Any]:
    """What each makes of the yardstick, or why it was not measured."""
    if reason:
        return {"skipped": reason}
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "torch finds no GPU"}
    yardstick = cpu.load_yardstick()
    rows: dict[str, Any] = {"version": {"torch": torch.__version__}}
    for name, measure in measures.items():
        try:
            rows[name] = measure(yardstick)
        except Exception as error:  # a compiler that cannot do it; the others must still run
            rows[name] = {"skipped": f"{type(error).__name__}: {error}"[:300]}
        say(f"PyTorch, {name}: {rows[name]}")
    return rows


# --- compiling


def compile_one(file_and_name: tuple[str, str]) -> None:
    """CuPy keeps it on disk."""
    kernels._kernel(backend.cupy(), 0, *file_and_name)


def in_parallel(names: list[tuple[str, str]]) -> None:
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, 16)) as pool:
        pool.map(compile_one, names, chunksize=1)


def compile_all(args: argparse.Namespace, cp: Any) -> int:
    """One after another they would take minutes, in the first test of each."""
    if tuple(map(int, cp.__version__.split(".")[:2])) < (14, 2):  # its issues 9667 and 10173
        print(
            f"nothing compiled ahead: CuPy {cp.__version__} compiles templates anew in every "
            "process, 14.2 does not"
        )
        return 0
    capability = int(cp.cuda.Device().compute_capability)
    files = {f: e for f, e in kernels.expressions().items() if capability >= minimum_arch(f)}
    names = [(file, name) for file, expressions in files.items() for name in expressions]
    in_parallel(names)
    print(f"{len(names)} kernels compiled")
    return 0


# --- tracking


class Scene(NamedTuple):
    weights: Weights
    preset: str
    frames: list[np.ndarray]
    box: Any  # in the first frame

    def start_tracker(self, device: str) -> Tracker:
        tracker = Tracker(self.weights, self.preset, device)
        tracker.init(self.frames[0], self.box)
        return tracker

    def start_step(self, targets: int, graph: bool) -> DeviceStep:
        """A step that follows the box and others, each moved a little."""
        boxes = np.tile(np.array(self.box, float), (targets, 1))
        boxes[1:, :2] += np.random.default_rng(1).uniform(-6, 6, (targets, 2))[1:]
        shape = self.frames[0].shape
        step = DeviceStep(self.weights, self.preset, shape, targets, graph=graph)
        step.start(self.frames[0], boxes)
        return step

    def rate(self, update: Callable[[Any], Any], seconds: float) -> dict:
        """Frames go there and back again, so that no target ever jumps."""
        images = self.frames[1:] + self.frames[-2:0:-1]
        return measure_rate(lambda number: update(images[number % len(images)]), seconds)


def track(args: argparse.Namespace, cp: Any) -> int:
    if args.frames:
        with open_source(str(args.frames), max_frames=args.max_frames) as source:
            frames, box = [np.ascontiguousarray(frame) for frame in source], source.first_box
    else:
        frames, box = cpu.made_up_frames(args.max_frames)
    scene = Scene(load_weights(args.weights), args.preset, frames, box)
    report = {"what": "tracking", "weights": args.weights, "preset": args.preset}
    report |= {"frame": frames[0].shape, "frames": len(frames), "environment": environment()}
    ceiling = gpu.measure_ceiling(cp)
    report["ceiling"] = ceiling._asdict()
    with saving(args.out, report):
        report["correctness"] = compare_boxes(scene, args.check)
        say(f"{report['environment']['device']}: {report['correctness']}")
        if not report["correctness"]["agree"]:
            return 1
        report["stages"] = {}
        rows = report["fps"] = {}
        for targets, graph in itertools.product(args.targets, (True, False)):
            step = scene.start_step(targets, graph)
            key = f"{targets} targets, {'graph' if graph else 'launches'}"
            row = rows[key] = scene.rate(step.step, args.seconds)
            row |= {"ms": 1e3 / row["per_second"], "target_updates": row["per_second"] * targets}
            say(f"{key}: {row}")
            if not graph:
                times = gpu.tracking_times(cp, step, ceiling)
                report["stages"][str(targets)] = times
            del step
            cp.get_default_memory_pool().free_all_blocks()
        tracker = scene.start_tracker("cuda")
        rows["Tracker"] = scene.rate(tracker.update, args.seconds)
        on_gpu = scene._replace(frames=[cp.asarray(frame) for frame in frames])
        rows["Tracker, frames on the GPU"] = on_gpu.rate(tracker.update, args.seconds)
        report["torch"] = track_by_torch(scene, args.seconds)
    return 0


def compare_boxes(scene: Scene, count: int) -> dict:
    tracker, frames = scene.start_tracker("cpu"), scene.frames[1 : count + 1]
    want = np.array([tracker.update(frame).box for frame in frames])
    report: dict = {"frames": len(want), "agree": True}
    for name, graph in (("graph", True), ("launches", False)):
        step = scene.start_step(1, graph)
        got = [step.step(frame)[0, :4].copy() for frame in frames]
        gap = report[f"{name}_largest_difference_px"] = float(abs(np.array(got) - want).max())
        report["agree"] &= gap <= BOX_TOLERANCE
    return report


def track_by_torch(scene: Scene, seconds: float) -> dict[str, Any]:
    def rate(yardstick: Any, compiled: bool) -> dict:
        yardstick.allow_tf32(False)  # float32, as ours
        arrays = cpu.torch_arrays(scene.weights)
        theirs = yardstick.TorchTracker(arrays, scene.preset, "cuda", True, compiled)
        theirs.init(scene.frames[0], scene.box)
        ours, first = scene.start_tracker("cpu"), scene.frames[1:11]
        gaps = [abs(theirs.update(frame) - ours.update(frame).box).max() for frame in first]
        return {**scene.rate(theirs.update, seconds), "largest_difference_px": float(max(gaps))}

    ways = {kind: functools.partial(rate, compiled=kind == "compiled") for kind in KINDS}
    return against_torch(ways, cpu.why_no_torch_tracker(scene.weights, scene.preset))


# --- training


def train(args: argparse.Namespace, cp: Any) -> int:
    crops, ceiling = cpu.training_crops(CROPS // 2, SIZE)[0], gpu.measure_ceiling(cp)
    report: dict = {"what": "training", "batch": args.batch, "size": SIZE, "crops": CROPS}
    report |= {"environment": environment(), "ceiling": ceiling._asdict()}
    with saving(args.out, report):
        for arch in args.arch:
            config = Config(arch=arch, batch=args.batch, weight_decay=5e-4)
            report[arch] = measure_training(args, cp, crops, config, ceiling)
    return 0


def draw(config: Config, seed: int) -> np.ndarray:
    """Pairs of neighbours."""
    template = np.random.default_rng(seed).integers(0, CROPS - 1, config.batch)
    return np.stack([template, template + 1], 1)


def measure_training(
    args: argparse.Namespace, cp: Any, crops: np.ndarray, config: Config, ceiling: Ceiling
) -> dict[str, Any]:
    """Pairs per second of every way, of the floor and of PyTorch."""
    side, sigma = network.feature_size(SIZE, config.arch, "valid"), config.label_sigma(SIZE)
    label = gaussian_label((side, side), sigma)
    precisions = ("float32", "tf32") if ceiling.tf32 else ("float32",)
    row: dict[str, Any] = {}

    def rate(step: Callable[[np.ndarray], Any], finish: Callable[[], Any]) -> dict:
        found = measure_rate(lambda seed: step(draw(config, seed)), args.seconds, finish)
        return {**found, "pairs_per_s": args.batch * found["per_second"]}

    for graph, precision in itertools.product((True, False), precisions):
        where = "graph" if graph else "launches"
        options = DeviceOptions(graph=graph, tf32=precision == "tf32")
        step = DeviceSteps(config, crops, options=options)
        row[f"{where}, {precision}"] = rate(functools.partial(step.step, lr=LR), step.losses)
        say(f"{config.arch}, {where}, {precision}: {row[f'{where}, {precision}']}")
        del step
        cp.get_default_memory_pool().free_all_blocks()
    costs = training_costs(config.arch, args.batch, SIZE, sigma)
    row["floor_pairs_per_s"] = {
        name: 1e6 * args.batch / sum(ceiling.floor_us(cost, name == "tf32") for cost in costs)
        for name in precisions
    }

    def torch_rate(yardstick: Any, compiled: bool, tf32: bool) -> dict:
        import torch

        yardstick.allow_tf32(tf32)
        start = list(network.initialise(config.arch, config.seed).values())
        theirs = yardstick.TorchStep(crops, start, label, LR, "cuda", compiled)
        ours = DeviceSteps(config, crops, options=DeviceOptions(tf32=tf32))
        ours.step(draw(config, 0), LR)
        error = abs(theirs.step(draw(config, 0)).item() / ours.losses()[0] - 1)
        return {**rate(theirs.step, torch.cuda.synchronize), "loss_error": float(error)}

    row["torch"] = against_torch(
        {
            f"{kind}, {name}": functools.partial(
                torch_rate, compiled=kind == "compiled", tf32=name == "tf32"
            )
            for kind, name in itertools.product(KINDS, precisions)
        },
        cpu.why_no_torch(),
    )
    return row


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    _, tracking, training = map(parts.add_parser, ("compile", "tracking", "training"))
    for part in (tracking, training):
        part.add_argument("--out", type=Path, required=True, help="JSON file to write")
        part.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    tracking.add_argument("--frames", type=Path, help="a sequence folder; default: made-up frames")
    tracking.add_argument("--weights", default="light", help="as for track")
    tracking.add_argument("--preset", default="default")
    tracking.add_argument("--targets", type=int, nargs="+", default=[1, 8, 64])
    tracking.add_argument("--check", type=int, default=40, help="frames to compare before timing")
    tracking.add_argument("--max-frames", type=int, default=120)
    known = sorted(network.ARCHITECTURES)
    training.add_argument("--arch", nargs="+", default=["conv1", "light"], choices=known)
    training.add_argument("--batch", type=int, default=16)
    args = parser.parse_args(argv)
    try:
        cp = backend.cupy()
    except DeviceError as error:
        sys.exit(f"gpu.py: {error}")
    return {"compile": compile_all, "tracking": track, "training": train}[args.part](args, cp)


if __name__ == "__main__":
    sys.exit(main())
