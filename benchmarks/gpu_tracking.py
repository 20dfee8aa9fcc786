"""Tracking on a real GPU: correct first, then fast.  Writes one JSON file.

    python benchmarks/gpu_tracking.py --out results.json [--frames SEQUENCE_DIR | FRAMES.npy --box X,Y,W,H]

1. The boxes of the captured step, of the same kernels launched one by one and of the NumPy tracker
must agree; if
   they do not, nothing is timed and the exit code is 1.
2. Frames per second, frame upload included, for 1, 8 and 64 targets, as a CUDA graph and launch by
launch.
3. Microseconds per stage, from captured graphs, beside the floor: the larger of its arithmetic at
the float32 peak and
   its traffic at the GPU's memory bandwidth.
4. The same tracker in PyTorch, where torch is installed: its crops on the CPU (OpenCV) and on the
GPU, the network
   eager and compiled.

Without --frames it makes a sequence of its own: a textured patch that moves over noise.
"""

import argparse
import importlib
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from gpu_kernels import saving

from dcfnet_np import backend, network
from dcfnet_np.bench import made_up_frames
from dcfnet_np.bench_kernels import Ceiling, environment, measure_ceiling, tracking_times
from dcfnet_np.fast.device_step import DeviceStep
from dcfnet_np.presets import get_preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.windows import gaussian_label
from dcfnet_np.weights import Weights, load_weights

TOLERANCE = 0.01  # pixels that two ways to the same box may differ
WARM_UP = 20  # frames before a measurement
RUNS = 5  # of a measurement; the median counts


def main() -> int:
    args = arguments()
    try:
        cp = backend.cupy()
    except backend.DeviceError as error:
        sys.exit(f"gpu_tracking: {error}")
    frames, box = read_frames(args)
    weights = make_weights(args.weights)
    report = {
        "what": "tracking",
        "weights": args.weights,
        "preset": args.preset,
        "frame": frames[0].shape,
        "frames": len(frames),
        "environment": environment(),
        "ceiling": measure_ceiling(cp)._asdict(),
    }
    with saving(args.out, report):
        return run(args, cp, frames, box, weights, report)


def run(args, cp, frames, box, weights, report: dict) -> int:
    """All measurements, into the report; the exit code."""
    report["correctness"] = correctness(weights, args.preset, frames, box, args.check)
    say(f"{report['environment']['device']}: {report['correctness']}")
    if not report["correctness"]["agree"]:
        return 1
    report["fps"] = {}
    for targets in args.targets:
        for graph in (True, False):
            key = f"{targets} targets, {'graph' if graph else 'launches'}"
            step = make_step(weights, args.preset, frames, box, targets, graph)
            report["fps"][key] = measure_fps(step.step, frames, args.seconds)
            report["fps"][key]["target_updates_per_s"] = report["fps"][key]["fps"] * targets
            say(f"{key}: {report['fps'][key]}")
            if not graph:
                times = tracking_times(cp, step, Ceiling(**report["ceiling"]))
                report.setdefault("stages", {})[str(targets)] = times
                for row in times["stages"]:
                    say(f"    {row['stage']:22s} {row['us']:8.1f} us, floor {row['floor_us']:.1f}")
            del step
            cp.get_default_memory_pool().free_all_blocks()
    tracker = Tracker(weights, args.preset, device="cuda")
    tracker.init(frames[0], box)
    report["fps"]["Tracker"] = measure_fps(tracker.update, frames, args.seconds)
    report["fps"]["Tracker, frames on the GPU"] = measure_fps(
        tracker.update, [cp.asarray(frame) for frame in frames], args.seconds
    )
    report["torch"] = torch_trackers(weights, args.preset, frames, box, args.seconds)
    ours = report["fps"].get("1 targets, graph", {}).get("fps")
    for kind in ("eager", "compiled"):
        theirs = [
            row["fps"] for key, row in report["torch"].items() if kind in key and "fps" in row
        ]
        if ours and theirs:
            report[f"times_torch_{kind}"] = ours / max(theirs)
    say(f"torch: {report['torch']}")
    report["goals"] = goals(
        {
            "frames per second of one target, upload included": (ours, 2000),
            "target-updates per second of 64 targets": (
                report["fps"].get("64 targets, graph", {}).get("target_updates_per_s"), 20000,
            ),
            "times PyTorch eager": (report.get("times_torch_eager"), 6),
        }
    )  # fmt: skip
    return 0


def goals(figures: dict) -> dict:
    """{what: (figure or None, goal)} as rows that say whether the goal is met, printed and
    returned.
    """
    rows = {
        what: {"figure": figure, "goal": goal, "met": None if figure is None else figure >= goal}
        for what, (figure, goal) in figures.items()
    }
    for what, row in rows.items():
        say(f"goal: {what}: {row}")
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--frames", type=Path, help="OTB sequence folder, or .npy of (N, H, W, 3) uint8 BGR"
    )
    parser.add_argument(
        "--box", type=lambda t: tuple(map(float, t.split(","))), help="x,y,w,h, 0-based; for .npy"
    )
    parser.add_argument(
        "--weights",
        default="light",
        help="packaged name, .h5, .pth or .mat file, or random:ARCHITECTURE",
    )
    parser.add_argument("--preset", default="default")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--check", type=int, default=40, help="frames to compare before timing")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--max-frames", type=int, default=120)
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make_weights(name: str) -> Weights:
    if name.startswith("random:"):
        architecture = name.removeprefix("random:")
        return Weights(architecture, network.initialise(architecture, seed=0))
    return load_weights(name)


def read_frames(args: argparse.Namespace) -> tuple[list[np.ndarray], tuple[float, ...]]:
    if args.frames is None:
        return made_up_frames(args.max_frames)
    if args.frames.suffix == ".npy":
        if args.box is None:
            raise SystemExit("gpu_tracking.py: --frames FILE.npy needs --box X,Y,W,H")
        return list(np.load(args.frames)[: args.max_frames]), args.box
    from dcfnet_np.vision.sources import open_source

    with open_source(str(args.frames), max_frames=args.max_frames) as source:
        frames = [np.ascontiguousarray(frame) for frame in source]
        box = args.box or source.first_box
    return frames, tuple(map(float, box))


def make_step(weights, preset, frames, box, targets, graph) -> DeviceStep:
    """A step whose targets are the given box, each moved a little."""
    step = DeviceStep(weights, preset, frames[0].shape, targets, graph=graph)
    shifts = (
        np.random.default_rng(1).uniform(-6, 6, (targets, 2)) * (np.arange(targets) > 0)[:, None]
    )
    boxes = np.tile(box, (targets, 1))
    boxes[:, :2] += shifts
    step.start(frames[0], boxes)
    return step


def correctness(weights, preset, frames, box, count) -> dict:
    frames = frames[: count + 1]
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(frames[0], box)
    want = np.array([tracker.update(frame).box for frame in frames[1:]])
    report = {"frames": len(want)}
    for name, graph in (("graph", True), ("launches", False)):
        step = make_step(weights, preset, frames, box, 1, graph)
        start = time.perf_counter()
        got = [step.step(frames[1])[0, :4].copy()]
        # compiles what is not in CuPy's cache
        report[f"{name}_first_frame_s"] = time.perf_counter() - start
        got += [step.step(frame)[0, :4].copy() for frame in frames[2:]]
        report[f"{name}_largest_difference_px"] = float(abs(np.array(got) - want).max())
    report["moved_px"] = float(np.hypot(*(want[:, :2] - np.array(box)[:2]).T).max())
    report["agree"] = all(
        report[f"{name}_largest_difference_px"] <= TOLERANCE for name in ("graph", "launches")
    )
    return report


def measure_fps(step, frames, seconds) -> dict:
    """Median of RUNS; frames go there and back again, so that no target ever jumps."""
    there_and_back = frames[1:] + frames[-2:0:-1]
    for frame in there_and_back[:WARM_UP]:
        step(frame)
    runs = []
    for _ in range(RUNS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / RUNS:
            step(there_and_back[count % len(there_and_back)])
            count += 1
        runs.append(count / (time.perf_counter() - start))
    return {"fps": statistics.median(runs), "runs": [round(run, 1) for run in runs]}


def torch_trackers(weights, preset, frames, box, seconds) -> dict:
    """The tracker in PyTorch, its crops by OpenCV as in the released code, or on the GPU; its
    network also compiled.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return {"skipped": str(error)}
    if not torch.cuda.is_available():
        return {"skipped": "torch finds no GPU"}
    # float32, as ours
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    report: dict = {"version": {"torch": torch.__version__}}
    for where in ("eager, cpu crop", "eager, gpu crop", "compiled, gpu crop"):
        try:
            tracker = TorchTracker(torch, weights, get_preset(preset), gpu_crop="gpu crop" in where)
            if "compiled" in where:
                tracker.network = torch.compile(tracker.network)
            tracker.init(frames[0], box)
            first = [tracker.update(frame) for frame in frames[1:11]]
            ours = Tracker(weights, preset, device="cpu")
            ours.init(frames[0], box)
            difference = max(
                abs(np.array(ours.update(f).box) - b).max() for f, b in zip(frames[1:11], first)
            )
            report[where] = {
                **measure_fps(tracker.update, frames, seconds),
                "largest_difference_px": float(difference),
            }
        except (
            Exception
        ) as error:  # no OpenCV, or no compiler that can do it; the others must still run
            report[where] = {"skipped": f"{type(error).__name__}: {error}"[:300]}
    return report


class TorchTracker:
    """What `Tracker` does, for the released rule ("averages"), as one would write it in PyTorch."""

    def __init__(self, torch, weights, preset, gpu_crop) -> None:
        if (
            preset.update_rule != "averages"
            or preset.lam_divisor != "none"
            or preset.update_crop != "clamped"
        ):
            raise SystemExit(
                f"gpu_tracking.py: the PyTorch tracker knows no preset like {preset.name}"
            )
        self.torch, self.preset, self.gpu_crop, self.rgb = (
            torch,
            preset,
            gpu_crop,
            weights.channel_order == "rgb",
        )
        self.cv2 = None if gpu_crop else importlib.import_module("cv2")
        self.parameters = {
            name: torch.from_numpy(p).cuda() for name, p in weights.parameters.items()
        }
        self.layers = network.layers(weights.architecture)
        size = preset.input_size
        self.mean = torch.tensor(weights.mean, device="cuda").reshape(3, 1, 1)
        self.window = torch.from_numpy(
            np.outer(np.hanning(size), np.hanning(size)).astype(np.float32)
        ).cuda()
        self.label_f = torch.fft.rfft2(
            torch.from_numpy(gaussian_label((size, size), preset.sigma)).cuda()
        )

    def crops(self, frame, windows):
        torch, n = self.torch, self.preset.input_size
        if self.gpu_crop:
            height, width = frame.shape[:2]
            step = torch.linspace(-0.5, 0.5, n, device="cuda", dtype=torch.float64)
            x = self.centre[0] + step * torch.tensor(windows[:, :1], device="cuda")
            y = self.centre[1] + step * torch.tensor(windows[:, 1:], device="cuda")
            x, y = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
            grid = torch.stack(
                [x[:, None, :].expand(-1, n, -1), y[:, :, None].expand(-1, -1, n)], -1
            ).float()
            image = self.frame_gpu.expand(len(windows), -1, -1, -1)
            out = torch.nn.functional.grid_sample(image, grid, align_corners=False).round()
        else:
            patches = []
            for w, h in windows:
                a, b = (n - 1) / w, (n - 1) / h
                x0, y0 = self.centre[0] - w / 2, self.centre[1] - h / 2
                matrix = np.array([[a, 0, -a * x0], [0, b, -b * y0]])
                patches.append(self.cv2.warpAffine(frame, matrix, (n, n)))
            out = torch.from_numpy(np.stack(patches)).cuda().permute(0, 3, 1, 2).float()
        return (out.flip(1) if self.rgb else out) - self.mean

    def features(self, frame, windows):
        return self.network(self.crops(frame, windows))

    def network(self, x):
        functional = self.torch.nn.functional
        for name, spec in self.layers:
            if isinstance(spec, network.Conv):
                w, b = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
                x = functional.conv2d(x, w, b, padding=spec.dilation, dilation=spec.dilation)
            elif isinstance(spec, network.Relu):
                x = functional.relu(x)
            else:
                x = functional.local_response_norm(
                    x, spec.n, spec.alpha * spec.n, spec.beta, spec.k
                )
        return self.torch.fft.rfft2(x * self.window)

    def upload(self, frame):
        if self.gpu_crop:
            self.frame_gpu = self.torch.from_numpy(frame).cuda().permute(2, 0, 1)[None].float()

    def learn(self, frame, rate):
        f = self.features(frame, self.size[None] * (1 + self.preset.padding))
        alpha = self.label_f / ((f.real**2 + f.imag**2).sum(1, keepdim=True) + self.preset.lam)
        if rate == 1:
            self.alpha, self.model = alpha, f
        else:
            self.alpha = (1 - rate) * self.alpha + rate * alpha
            self.model = (1 - rate) * self.model + rate * f

    def init(self, frame, box):
        with self.torch.inference_mode():
            x, y, w, h = box
            self.centre, self.size = np.array([x + w / 2, y + h / 2]), np.array([w, h], float)
            preset, first = self.preset, self.size
            edge = np.array(frame.shape[:2] if preset.swapped_clamp else frame.shape[1::-1])
            self.smallest = np.maximum(preset.min_scale * first, preset.min_size)
            self.largest = np.maximum(np.minimum(edge, preset.max_scale * first), self.smallest)
            self.upload(frame)
            self.learn(frame, 1)

    def update(self, frame):
        with self.torch.inference_mode():
            preset, n = self.preset, self.preset.input_size
            self.upload(frame)
            windows = preset.scale_factors[:, None] * self.size * (1 + preset.padding)
            f = self.features(frame, windows)
            response_f = (f * self.model.conj()).sum(1) * self.alpha[0]
            maps = self.torch.fft.irfft2(response_f, s=(n, n)).cpu().numpy()
            best = int((maps.reshape(len(maps), -1).max(1) * preset.scale_penalties).argmax())
            row, column = np.unravel_index(maps[best].argmax(), (n, n))
            step = np.array([column - n * (column > n // 2), row - n * (row > n // 2)])
            self.centre = self.centre + step * windows[best] / n
            self.size = np.clip(windows[best] / (1 + preset.padding), self.smallest, self.largest)
            self.learn(frame, preset.learning_rate)
            return np.array([*(self.centre - self.size / 2), *self.size])


if __name__ == "__main__":
    sys.exit(main())
