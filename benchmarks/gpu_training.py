"""Training on a real GPU: correct first, then fast.  Writes one JSON file.

    python benchmarks/gpu_training.py --out results.json [--crops crops.h5] [--arch conv1 light]

1. Losses and parameters of the captured step, of its kernels launched one by one and of the NumPy
loop must agree; if
   they do not, nothing is timed and the exit code is 1.
2. Pairs per second: crops on the GPU or streamed from page-locked memory, as a CUDA graph and
launch by launch, in
   float32 and in TF32, beside the floor: of every kernel the larger of its arithmetic at the GPU's
   peak and its bytes.
3. The same step by PyTorch's autograd, eager and compiled, in float32 and in TF32, where torch is
installed.

Without --crops it makes crops of its own; the time of a step does not depend on what is in them.
"""

import argparse
import importlib
import itertools
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from gpu_kernels import saving
from gpu_tracking import goals, say

from dcfnet_np import backend, network
from dcfnet_np.bench_kernels import Ceiling, environment, measure_ceiling, training_costs
from dcfnet_np.kernels import conv_tf32
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import read_crops
from dcfnet_np.train.device_step import DeviceOptions, DeviceSteps
from dcfnet_np.train.plain_step import PlainSteps
from dcfnet_np.vision.windows import gaussian_label

LR = 1e-5
TOLERANCE = 1e-3  # of the loss, and of how far a parameter moved
TF32_TOLERANCE = 5e-3  # of the loss
WARM_UP = 5  # steps before a measurement
RUNS = 5  # of a measurement; the median counts


def main() -> int:
    args = arguments()
    try:
        cp = backend.cupy()
    except backend.DeviceError as error:
        sys.exit(f"gpu_training: {error}")
    crops = read_crops(args.crops).crops if args.crops else make_crops()
    report: dict = {
        "what": "training",
        "batch": args.batch,
        "size": crops.shape[-1],
        "crops": len(crops),
    }
    report |= {"environment": environment(), "ceiling": measure_ceiling(cp)._asdict()}
    with saving(args.out, report):
        return run(args, cp, crops, report)


def run(args: argparse.Namespace, cp, crops: np.ndarray, report: dict) -> int:
    """All measurements, into the report; the exit code."""
    failed = False
    for arch in args.arch:
        config = Config(arch=arch, batch=args.batch, weight_decay=5e-4)
        row = report[arch] = {"correctness": correctness(config, crops)}
        say(f"{arch}: {row['correctness']}")
        if not row["correctness"]["agree"]:
            failed = True
            continue
        ceiling = Ceiling(**report["ceiling"])
        precisions = ["float32", "tf32"] if ceiling.tf32 else ["float32"]
        for resident, graph, precision in itertools.product(
            (True, False), (True, False), precisions
        ):
            where = "resident" if resident else "streamed"
            key = f"{where}, {'graph' if graph else 'launches'}, {precision}"
            options = DeviceOptions(graph=graph, resident=resident, tf32=precision == "tf32")
            step = DeviceSteps(config, crops, options=options)
            row[key] = measure(
                lambda pairs, step=step: step.step(pairs, LR), step.losses, crops, args
            )
            say(f"{arch}, {key}: {row[key]}")
            del step
            cp.get_default_memory_pool().free_all_blocks()
        costs = training_costs(arch, args.batch, crops.shape[-1], sigma_of(config, crops))
        floors = {
            which: sum(ceiling.floor_us(cost, which == "tf32") for cost in costs)
            for which in precisions
        }
        row["floor_pairs_per_s"] = {which: args.batch * 1e6 / us for which, us in floors.items()}
        row["torch"] = torch_steps(config, crops, args, precisions)
        say(f"{arch}: floor {row['floor_pairs_per_s']}, torch {row['torch']}")
        figures = {}
        for precision, goal in zip(precisions, (5000, 10000)):
            ours = row[f"resident, graph, {precision}"]["pairs_per_s"]
            theirs = [
                r["pairs_per_s"]
                for k, r in row["torch"].items()
                if precision in k and "pairs_per_s" in r
            ]
            row[f"times_torch_{precision}"] = ours / max(theirs) if theirs else None
            if arch == "conv1":
                figures[f"pairs per second in {precision}"] = (ours, goal)
            figures[f"{arch}: times PyTorch in {precision}"] = (row[f"times_torch_{precision}"], 1)
        row["goals"] = goals(figures)
    return int(failed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--crops", type=Path, help="crops.h5 of `prepare`")
    parser.add_argument(
        "--arch", nargs="+", default=["conv1", "light"], choices=sorted(network.ARCHITECTURES)
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    return parser.parse_args()


def make_crops(count: int = 512, size: int = 125) -> np.ndarray:
    """Squares of random grey levels, each crop a little different from the one before."""
    rng = np.random.default_rng(0)
    squares = -(-size // 5)
    first = rng.uniform(0, 256, (3, squares, squares))
    frames = [first := 0.9 * first + 0.1 * rng.uniform(0, 256, first.shape) for _ in range(count)]
    return np.array(frames, np.uint8).repeat(5, 2).repeat(5, 3)[..., :size, :size]


def draw(crops: np.ndarray, batch: int, seed: int) -> np.ndarray:
    """Pairs of neighbours."""
    template = np.random.default_rng(seed).integers(0, len(crops) - 1, batch)
    return np.stack([template, template + 1], 1)


def sigma_of(config: Config, crops: np.ndarray) -> float:
    return config.label_sigma(crops.shape[-1])


def correctness(config: Config, crops: np.ndarray, steps: int = 2) -> dict:
    """Ours against the NumPy loop on the same pairs."""
    plain, start = PlainSteps(config, crops), network.initialise(config.arch, config.seed)
    drawn = [draw(crops, config.batch, seed) for seed in range(steps)]
    want = [float(outcome.losses.mean()) for outcome in plain.epoch(drawn, LR, 0)]
    parameters = plain.learnt.parameters
    report: dict = {"steps": steps, "losses": want}
    ways = {"graph": {"graph": True}, "launches": {"graph": False}}
    if int(backend.cupy().cuda.Device().compute_capability) >= conv_tf32.MINIMUM_ARCH:
        ways["tf32"] = {"tf32": True}
    for name, options in ways.items():
        step = DeviceSteps(config, crops, options=DeviceOptions(**options))
        for pairs in drawn:
            step.step(pairs, LR)
        losses, got = step.losses(), step.learnt.parameters
        report[f"{name}_loss_error"] = float((abs(losses - want) / want).max())
        report[f"{name}_parameter_error"] = max(
            float(abs(got[key] - value).max() / abs(value - start[key]).max())
            for key, value in parameters.items()
        )
    # In TF32 a parameter that hardly moves may move otherwise: only its loss is judged.
    exact = [
        report[f"{name}_{what}_error"]
        for name in ("graph", "launches")
        for what in ("loss", "parameter")
    ]
    report["agree"] = (
        max(exact) <= TOLERANCE and report.get("tf32_loss_error", 0.0) <= TF32_TOLERANCE
    )
    return report


def measure(step, finish, crops: np.ndarray, args: argparse.Namespace) -> dict:
    """Median pairs per second of RUNS, drawing pairs and reading the losses included."""
    for seed in range(WARM_UP):
        step(draw(crops, args.batch, seed))
    finish()
    runs = []
    for _ in range(RUNS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < args.seconds / RUNS:
            step(draw(crops, args.batch, count))
            count += 1
        finish()
        runs.append(args.batch * count / (time.perf_counter() - start))
    return {"pairs_per_s": statistics.median(runs), "runs": [round(run) for run in runs]}


def torch_steps(
    config: Config, crops: np.ndarray, args: argparse.Namespace, precisions: list[str]
) -> dict:
    """The same step by autograd, eager and compiled."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return {"torch": {"skipped": str(error)}}
    if not torch.cuda.is_available():
        return {"torch": {"skipped": "torch finds no GPU"}}
    rows = {}
    for kind, precision in itertools.product(("eager", "compiled"), precisions):
        try:
            rows[f"{kind}, {precision}"] = torch_step(
                torch, config, crops, args, kind == "compiled", precision == "tf32"
            )
        except Exception as error:  # a compiler that cannot do it; the others must still run
            rows[f"{kind}, {precision}"] = {"skipped": f"{type(error).__name__}: {error}"[:300]}
    return rows


def torch_step(
    torch, config: Config, crops: np.ndarray, args: argparse.Namespace, compiled: bool, tf32: bool
) -> dict:
    """The same step on the same pairs, crops on the GPU, no wait for the loss."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    functional = torch.nn.functional
    parameters = {
        name: torch.from_numpy(value).cuda().requires_grad_()
        for name, value in network.initialise(config.arch, config.seed).items()
    }
    optimiser = torch.optim.SGD(
        parameters.values(), LR, momentum=config.momentum, weight_decay=config.weight_decay
    )
    size = network.feature_size(crops.shape[-1], config.arch, "valid")
    label = torch.from_numpy(gaussian_label((size, size), sigma_of(config, crops))).cuda()
    label_f, mean = (
        torch.fft.rfft2(label),
        torch.tensor(config.mean, device="cuda").reshape(3, 1, 1),
    )
    resident, losses = torch.from_numpy(crops).cuda(), []

    def loss_of(x):
        for name, spec in network.layers(config.arch):
            if isinstance(spec, network.Conv):
                x = functional.conv2d(
                    x,
                    parameters[f"{name}.weight"],
                    parameters[f"{name}.bias"],
                    dilation=spec.dilation,
                )
            elif isinstance(spec, network.Relu):
                x = functional.relu(x)
            else:
                x = functional.local_response_norm(
                    x, spec.n, spec.alpha * spec.n, spec.beta, spec.k
                )
        template_f, search_f = torch.fft.rfft2(x).chunk(2)
        gain = label_f / ((template_f.real**2 + template_f.imag**2).sum(1) + config.lam)
        response = torch.fft.irfft2((search_f * template_f.conj()).sum(1) * gain, s=label.shape)
        return ((response - label) ** 2).sum() / len(response)

    objective = torch.compile(loss_of) if compiled else loss_of

    def step(pairs):
        x = resident[torch.from_numpy(pairs.T.reshape(-1).copy()).cuda()].float() - mean
        loss = objective(x)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())

    first = [draw(crops, config.batch, seed) for seed in range(2)]
    for pairs in first:
        step(pairs)
    ours = DeviceSteps(config, crops, options=DeviceOptions(tf32=tf32))
    for pairs in first:
        ours.step(pairs, LR)
    want = torch.stack(losses).cpu().numpy()
    error = float((abs(ours.losses() - want) / want).max())

    def finish():
        torch.cuda.synchronize()
        losses.clear()

    return {"version": torch.__version__, "loss_error": error, **measure(step, finish, crops, args)}


if __name__ == "__main__":
    sys.exit(main())
