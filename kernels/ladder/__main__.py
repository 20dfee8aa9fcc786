"""`python -m dcfnet_np.kernels.ladder conv --version 2`: run a version, compare, and time it.

Where there is no GPU the kernels run on the CPU, by the stand-in of the tests, with every access to
memory watched; that needs a clone of the repository and g++, and says nothing about time.
"""

import argparse
import os
import shutil
import subprocess
import sys
from typing import Any, TypeAlias

import numpy as np

from dcfnet_np import backend, kernels
from dcfnet_np.kernels import ladder
from dcfnet_np.ops.conv import conv2d_forward
from dcfnet_np.ops.dcf import learn_filter
from dcfnet_np.support.errors import DeviceError

STAND_IN = "cuda_on_cpu"


def run_on_the_cpu(reason: DeviceError) -> int:
    """The same command with the tests' stand-in in CuPy's place.  Returns its exit code."""
    support = kernels.FOLDER.parent / "tests" / "support"
    if not support.is_dir() or not shutil.which("g++"):
        print(f"ladder: {reason}; without a GPU it needs a clone and g++", file=sys.stderr)
        return 2
    path = os.pathsep.join([str(support), *sys.path])
    environment = {**os.environ, "DCFNET_CUPY": STAND_IN, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-m", ladder.__name__, *sys.argv[1:]], env=environment
    ).returncode


Problem: TypeAlias = tuple[list[ladder.Version], tuple[Any, ...], np.ndarray]


def conv_problem(side: int, channels: int, rng: np.random.Generator) -> Problem:
    """Versions, arrays, and what `ops` makes of these."""
    x = rng.standard_normal((2, channels, side, side + 4)).astype(np.float32)
    w = rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
    b = rng.standard_normal(channels).astype(np.float32)
    return ladder.conv_versions(), (x, w, b), conv2d_forward(x, w, b, padding=1)[0]


def filter_problem(side: int, channels: int, rng: np.random.Generator) -> Problem:
    """Versions, arrays, and what `ops` makes of these."""
    bins = side * (side // 2 + 1)
    real, imaginary = rng.standard_normal((2, 2, channels, bins)).astype(np.float32)
    template_f = real + 1j * imaginary
    label_f = template_f[0, 0] * np.float32(0.1)
    arrays = (template_f, label_f, 1e-4)
    return ladder.filter_versions(), arrays, learn_filter(*arrays)


def main() -> int:
    """Run what the command line asks for.  Returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {ladder.__name__}", description=__doc__)
    parser.add_argument("family", choices=("conv", "filter"))
    parser.add_argument("--version", type=int, help="one of them, counted from 1 (default: all)")
    parser.add_argument("--side", type=int, help="of the maps in pixels (default: 125, or 21)")
    parser.add_argument("--channels", type=int, default=32, help="(default: 32)")
    args = parser.parse_args()
    try:
        device = str(backend.select_device("cuda"))
    except DeviceError as error:
        return run_on_the_cpu(error)
    watched = backend.cupy().__name__ == STAND_IN
    problem = conv_problem if args.family == "conv" else filter_problem
    side = args.side or (21 if watched else 125)
    versions, arrays, expected = problem(side, args.channels, np.random.default_rng(0))
    if args.version is not None and not 1 <= args.version <= len(versions):
        parser.error(f"--version: {args.family} has 1 to {len(versions)}, got {args.version}")
    device = "the CPU, with every access watched" if watched else device
    print(f"{args.family}, {args.channels} channels, {side} pixels, on {device}")
    inputs = [a if np.isscalar(a) else backend.cupy().asarray(a) for a in arrays]
    for number, version in enumerate(versions, start=1):
        if args.version in (None, number):
            result = backend.to_numpy(version.run(*inputs))
            difference = abs(result - expected).max() / abs(expected).max()
            time = "" if watched else f"{ladder.milliseconds(version.run, *inputs):9.3f} ms"
            print(f"  {number}  {version.idea:<72} error {difference:.0e}{time}")
            if not difference < 1e-5:
                print("ladder: other numbers than those of dcfnet_np.ops", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
