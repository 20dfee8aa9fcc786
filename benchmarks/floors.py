"""What every kernel of a step must do at least: floating-point operations, and bytes that must move.

    python benchmarks/floors.py [--arch light] [--targets 1] [--batch 16]      the tables of docs/kernels.md

Each array is read or written once and a multiply-add counts as two operations; transforms count as the kernels do them,
band-limited and with mirror images folded.  A floor is the larger of operations over the peak rate and bytes over the
bandwidth.  The peaks in the tables are those that gpu-tracking-first.json measured on one H100.  No GPU is needed.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcfnet_np import network
from dcfnet_np.kernels import conv_tf32
from dcfnet_np.ops.fourier import label_band
from dcfnet_np.presets import Preset, get_preset
from dcfnet_np.vision.windows import gaussian_label

REAL, COMPLEX = 4, 8  # bytes


class Cost(NamedTuple):
    """One launch, or two of one kernel."""

    kernel: str
    flops: float
    bytes: float
    tf32: bool = False  # whether tensor cores can do it

    def floor_us(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Microseconds that no program can beat on a GPU of these peaks."""
        return 1e6 * max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def transform(size: int, limits: tuple[int, int]) -> float:
    """Operations of one band-limited transform of one map, or of its inverse."""
    half, (ku, kv) = size // 2 + 1, limits
    return 2.0 * 2 * (kv + 1) * half * size + 2.0 * 4 * (kv + 1) * half * (ku + 1)


def convolution(name: str, n: int, spec: network.Conv, size: int, out: int) -> Cost:
    """A convolution of n images of size x size pixels to out x out."""
    flops = 2.0 * 9 * spec.c_in * spec.c_out * n * out * out
    moved = REAL * n * (spec.c_in * size**2 + spec.c_out * out**2)
    return Cost(name, flops, moved, spec.c_in >= conv_tf32.CHANNELS)


def tracking(architecture: str, preset: str | Preset, targets: int = 1) -> list[Cost]:
    """The stages of a `DeviceStep`, by their names and in their order, without the upload of the frame."""
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
                layer = convolution("", n, spec, size, size)
                costs.append(Cost(f"{title}: {name}+{after_name}", layer.flops + 10.0 * d * n * pixels, layer.bytes))
            elif isinstance(spec, network.Conv):
                costs.append(convolution(f"{title}: {name}", n, spec, size, size))
        return [
            *costs,
            Cost(f"{title}: DFT", n * d * transform(size, limits), n * d * (REAL * pixels + COMPLEX * bins)),
        ]

    n = targets * scales
    return [
        *features("search", n),
        Cost("search: response", 8.0 * n * d * bins, COMPLEX * bins * (n * d + targets * d + n)),
        Cost("search: inverse DFT", n * transform(size, limits), n * (REAL * pixels + COMPLEX * bins)),
        Cost("search: peaks", 4.0 * n * pixels, REAL * n * pixels),
        Cost("search: move", 0.0, 0.0),
        *features("update", targets),
        Cost("update: filter", 8.0 * targets * d * bins, 3 * COMPLEX * targets * d * bins),
    ]


def training(architecture: str, batch: int, size: int = 125, sigma: float | None = None) -> list[Cost]:
    """The kernels of a `TrainStep` of so many pairs of crops of `size` pixels."""
    n, d = 2 * batch, network.output_channels(architecture)
    costs = [Cost("gather", 3.0 * n * size**2, 3 * n * size**2 * (1 + REAL))]
    backward: list[Cost] = []
    sizes, sigma = [size], 0.1 * size / 3 if sigma is None else sigma
    for name, spec in network.layers(architecture):
        if not isinstance(spec, network.Conv):
            continue
        out = sizes[-1] - 2 * spec.dilation
        forward = convolution(f"{name}: forward", n, spec, sizes[-1], out)
        costs.append(forward)
        backward.append(forward._replace(kernel=f"{name}: gradient to the weights"))
        if len(sizes) > 1:  # and the output of the ReLU below is read for its mask
            moved = forward.bytes + REAL * n * spec.c_in * sizes[-1] ** 2
            backward.append(Cost(f"{name}: gradient to the data", forward.flops, moved, forward.tf32))
        sizes.append(out)
    out = sizes[-1]
    pixels, values = out**2, n * d * out**2
    band = label_band(gaussian_label((out, out), sigma))
    limits = band.limits if band else (out // 2, out // 2)
    bins = (2 * limits[0] + 1) * (limits[1] + 1)
    all_maps = Cost("DFT of the features", n * d * transform(out, limits), REAL * values + COMPLEX * n * d * bins)
    responses = Cost("", batch * transform(out, limits), batch * (REAL * pixels + COMPLEX * bins))
    parameters = sum(int(np.prod(shape)) for shape in network.parameter_shapes(architecture).values())
    return [
        *costs,
        Cost("LRN: forward", 15.0 * values, 2 * REAL * values),
        all_maps,
        Cost("filter and response", 16.0 * batch * d * bins, COMPLEX * bins * batch * (2 * d + 1)),
        responses._replace(kernel="inverse DFT of the responses"),
        Cost("loss", 5.0 * batch * pixels, 2 * REAL * batch * pixels),
        responses._replace(kernel="DFT of their gradient"),
        Cost("filter and response: backward", 26.0 * batch * d * bins, COMPLEX * bins * batch * (4 * d + 2)),
        all_maps._replace(kernel="inverse DFT of the features' gradient"),
        Cost("LRN: backward", 30.0 * values, 3 * REAL * values),
        *reversed(backward),
        Cost("SGD", 6.0 * parameters, 5 * REAL * parameters),
    ]


def peaks() -> tuple[float, float]:
    """Operations and bytes per second of the GPU of gpu-tracking-first.json."""
    report = json.loads((Path(__file__).parent / "results" / "gpu-tracking-first.json").read_text())["environment"]
    return report["float32_tflops"] * 1e12, report["gigabytes_per_s"] * 1e9


def table(costs: list[Cost]) -> str:
    """Markdown: operations, bytes and the floor of every row, and of all."""
    flops, bytes_ = peaks()
    lines = ["| kernel | MFLOP | MB | floor, µs |", "|---|---:|---:|---:|"]
    total = Cost("all", sum(c.flops for c in costs), sum(c.bytes for c in costs))
    floors = [cost.floor_us(flops, bytes_) for cost in costs]
    for cost, floor in zip([*costs, total], [*floors, sum(floors)]):
        lines.append(f"| {cost.kernel} | {cost.flops / 1e6:.1f} | {cost.bytes / 1e6:.2f} | {floor:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="light", help="of tracking; training is conv1's")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    print(table(tracking(args.arch, args.preset, args.targets)) + "\n")
    print(table(training("conv1", args.batch)))


if __name__ == "__main__":
    main()
