"""What every kernel of a step must do at least, as tables: see `dcfnet_np.bench_kernels`, which
counts it.

    python benchmarks/floors.py [--arch light] [--targets 1] [--batch 16]      the tables of docs/reference/kernels.md

The peaks in the tables are those that gpu-tracking-first.json measured on one H100.  No GPU is
needed."""

import argparse
import json
from pathlib import Path

from dcfnet_np.bench_kernels import Cost, tracking_costs, training_costs


def peaks() -> tuple[float, float]:
    """Operations and bytes per second of the GPU of gpu-tracking-first.json."""
    report = json.loads(
        (Path(__file__).parent / "results" / "gpu-tracking-first.json").read_text()
    )["environment"]
    return report["float32_tflops"] * 1e12, report["gigabytes_per_s"] * 1e9


def table(costs: list[Cost]) -> str:
    """Markdown: operations, bytes and the floor of every row, and of all."""
    flops, bytes_ = peaks()
    lines = ["| kernel | MFLOP | MB | floor, µs |", "|---|---:|---:|---:|"]
    total = Cost("all", sum(c.flops for c in costs), sum(c.bytes for c in costs))
    floors = [cost.floor_us(flops, bytes_) for cost in costs]
    for cost, floor in zip([*costs, total], [*floors, sum(floors)]):
        lines.append(
            f"| {cost.kernel} | {cost.flops / 1e6:.1f} | {cost.bytes / 1e6:.2f} | {floor:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="light", help="of tracking; training is conv1's")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    print(table(tracking_costs(args.arch, args.preset, args.targets)) + "\n")
    print(table(training_costs("conv1", args.batch)))


if __name__ == "__main__":
    main()
