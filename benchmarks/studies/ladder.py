"""The ladder of docs/results/speed.md: every way of doing each step that the code has, or once had,
timed one after the other.

    python benchmarks/studies/ladder.py [--frames FOLDER] [--json FILE] [--page FILE.md]

One 125x125 patch of `light` on one core, float32; then whole frames and training pairs. All
versions of a step take turns, so that whatever else the machine does meets all of them. Results of
a patch are compared first.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import page
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from dcfnet_np import network
from dcfnet_np.backend import Device
from dcfnet_np.bench import cpu
from dcfnet_np.fast import winograd
from dcfnet_np.fast.strip import make_kernels
from dcfnet_np.ops import conv, lrn
from dcfnet_np.ops.fourier import rfft2
from dcfnet_np.presets import get_preset
from dcfnet_np.support.machine import describe_machine
from dcfnet_np.support.threads import one_blas_thread
from dcfnet_np.tracker import Tracker
from dcfnet_np.tracking.features import NetworkMaps
from dcfnet_np.train.fast_step import FastPair
from dcfnet_np.train.plain_step import PairImages, make_objective, pair_gradients, pair_loss
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.sources import open_source
from dcfnet_np.weights import load_weights

SIZE, TURNS = 125, 15
Steps = dict[str, Callable[[], Any]]


def in_turns(steps: Steps, turns: int = TURNS) -> dict[str, float]:
    """Median ms of each.

    A turn is one call that brings its memory into the cache, and four that are timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            step()
            for _ in range(4):
                began = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(times) * 1e3) for name, times in seconds.items()}


def im2col(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The textbook's: nine copies of the image side by side, one product."""
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(9 * len(padded), -1)
    return (w.reshape(len(w), -1) @ columns + b[:, None]).reshape(1, len(w), *x.shape[2:])


def patch_steps() -> dict[str, Steps]:
    """Steps of one patch: the fast tracker's stages beside other ways to the same numbers."""
    weights, preset = load_weights("light"), get_preset("pytorch")
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    patches = cpu.Patches(frame, (120, 80, 60, 70), weights, preset)
    stages, strips = patches.stages(), range(len(patches.strips))

    def kept(*names: str) -> Callable[[], None]:
        """These stages of the first patch."""
        works = [work for name, work in stages if name in names]
        return lambda: [work(i, 0) for work in works for i in strips] and None

    kept(*(name for name, _ in stages))()
    arrays = tuple(weights.parameters.values())
    first, second, band = arrays[:2], arrays[2:], patches.band
    centre, mean = np.array([150.0, 115.0]), patches.mean[:, None]
    image = crop_patches(frame, centre, patches.windows[:1], SIZE, rounded=True) - mean
    a = conv.conv2d_forward(image, *first)[0]
    x = np.maximum(a, 0)
    y = conv.conv2d_forward(x, *second)[0]
    spec = patches.strips[0].lrn
    how = {"n": spec.n, "k": spec.k, "alpha": spec.alpha, "beta": spec.beta}
    windowed = lrn.lrn_forward(y, **how)[0] * np.outer(np.hanning(SIZE), np.hanning(SIZE))
    windowed = windowed.astype(np.float32)
    for got, wanted in (
        (im2col(x, *second), y),
        (winograd.conv2d_forward(x[0], *second)[0], y[0]),
        (patches.spectra[:, 0].sum(0), rfft2(windowed, band)[0]),
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-5 * abs(wanted).max())
    return {
        "convolution 3 to 32": {
            "im2col, nine copies": lambda: im2col(image, *first),
            "three copies (ops.conv)": lambda: conv.conv2d_forward(image, *first),
            "three copies, row by row, memory kept (fast.strip)": kept("conv1"),
        },
        "ReLU, convolution 32 to 32": {
            "im2col, nine copies": lambda: im2col(np.maximum(a, 0), *second),
            "three copies (ops.conv)": lambda: conv.conv2d_forward(np.maximum(a, 0), *second),
            "Winograd (fast.winograd)": lambda: winograd.conv2d_forward(
                np.maximum(a[0], 0), *second
            ),
            "Winograd, memory kept (fast.strip)": kept("relu2", "conv2"),
        },
        "LRN": {
            "with a power": lambda: (
                y * (spec.k + spec.alpha * lrn.channel_sum(y * y, spec.n)) ** -spec.beta
            ),
            "with square roots (ops.lrn)": lambda: lrn.lrn_forward(y, **how),
            "with square roots, memory kept (fast.strip)": kept("LRN"),
        },
        "window, transform": {
            "NumPy's FFT": lambda: np.fft.rfft2(windowed),
            "SciPy's FFT": lambda: scipy.fft.rfft2(windowed),
            "the band, two products (ops.fourier)": lambda: rfft2(windowed, band),
            "the same, window within, memory kept (fast.strip)": kept("transform"),
        },
    }


def follow(frames: list[np.ndarray], box: Any, cores: int, **options: Any) -> Callable[[], Any]:
    """A tracker that takes the next frame with every call."""
    with mock.patch.dict(os.environ, DCFNET_CORES=str(cores)):
        tracker = Tracker("light", "pytorch", "cpu", **options)
        tracker.init(frames[0], box)
    following = itertools.cycle(frames[1:])
    return lambda: tracker.update(next(following))


def frame_steps(frames: list[np.ndarray], box: Any) -> Steps:
    """A whole frame: three scales and the template."""
    plain = NetworkMaps(load_weights("light"), Device("cpu"))
    return {
        "plain operations, all bins, 1 core": follow(frames, box, 1, features=plain, band=None),
        "plain operations, the band, 1 core": follow(frames, box, 1, features=plain),
        "plain operations, the band, 2 cores": follow(frames, box, 2, features=plain),
        "fast, 1 core": follow(frames, box, 1),
        "fast, 2 cores": follow(frames, box, 2),
    }


def pair_steps() -> Steps:
    """A training pair of `conv1` on one core, without padding: loss and gradients."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (2, 3, SIZE, SIZE), dtype=np.uint8)
    size = network.feature_size(SIZE, "conv1", "valid")
    objective = make_objective((size, size), 5.0, 1e-4, device=Device("cpu"))
    parameters = network.initialise("conv1", seed=0)
    images = PairImages(crops, (104.0, 117.0, 123.0)).images(np.array([[0, 1]]))
    pair = FastPair("conv1", (SIZE, SIZE), objective)

    def plain(objective: Any) -> None:
        pair_gradients(pair_loss(images, parameters, "conv1", objective)[1])

    def fast() -> None:
        pair.gradients(images, make_kernels(parameters, "conv1"), 1.0)

    full = objective._replace(band=None, label_f=rfft2(objective.label))
    return {
        "plain operations, all bins": lambda: plain(full),
        "plain operations, the band": lambda: plain(objective),
        "fast": fast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--frames", type=Path, help="a sequence with ground truth; default: frames that are made up"
    )
    page.add_outputs(parser)
    args = parser.parse_args()
    if args.frames:
        source = open_source(str(args.frames), 81)
        frames, box = list(source), source.first_box
    else:
        rng = np.random.default_rng(0)
        frames, box = (
            [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(10)],
            (120, 80, 60, 70),
        )
    try:
        page.check(args, "ladder")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    report: dict[str, Any] = {"machine": describe_machine()}
    with one_blas_thread():
        report |= {name: in_turns(steps) for name, steps in patch_steps().items()}
        report["training pair"] = in_turns(pair_steps(), 3)
    report["frame"] = in_turns(frame_steps(frames, box))
    page.write(report, table(report), args, "ladder")


def table(report: dict[str, Any]) -> str:
    """The times as docs/results/speed.md shows them."""
    lines = ["", "| step | version | ms |", "|---|---|--:|"]
    for name, times in report.items():
        if name != "machine":
            lines += [
                f"| {'' if i else name} | {v} | {times[v]:.2f} |" for i, v in enumerate(times)
            ]
    host = report["machine"]
    found = [f"{b['internal_api']} {b['version']} ({b['architecture']})" for b in host["blas"]]
    versions = f"Python {host['python']}, NumPy {host['packages']['numpy']}, {' and '.join(found)}"
    lines += ["", f"{host['processor']}, {host['cores']} cores, {versions}.", ""]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
