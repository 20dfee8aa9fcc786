"""The ladder of docs/results/speed.md: every way of doing each step that the code has, or once had, timed
one after the other.

    python benchmarks/ladder.py [--frames FOLDER] [--json FILE] [--page docs/results/speed.md]

One 125x125 patch of `light` on one core, float32; then whole frames and training pairs.  All
versions of a step take turns, so that whatever else the machine does meets all of them.  Their
results are compared first."""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import page
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from dcfnet_np import bench, extractor, network, tiled
from dcfnet_np.backend import Device
from dcfnet_np.ops import conv, lrn, winograd
from dcfnet_np.ops.fourier import label_band, rfft2
from dcfnet_np.presets import get_preset
from dcfnet_np.support.threads import one_blas_thread
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.fast_step import FastPair
from dcfnet_np.train.plain_step import PairImages, make_objective, pair_gradients, pair_loss
from dcfnet_np.vision.sources import open_source
from dcfnet_np.vision.windows import gaussian_label
from dcfnet_np.weights import load_weights

SIZE, TURNS = 125, 15
MARKS = "<!-- ladder: written by benchmarks/ladder.py --page -->", "<!-- end of ladder -->"
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
    columns = (
        sliding_window_view(padded, (3, 3), axis=(1, 2))
        .transpose(0, 3, 4, 1, 2)
        .reshape(9 * len(padded), -1)
    )
    return (w.reshape(len(w), -1) @ columns + b[:, None]).reshape(1, len(w), *x.shape[2:])


def patch_steps() -> dict[str, Steps]:
    """Steps of one patch; each group's results agree."""
    weights, preset = load_weights("light"), get_preset("pytorch")
    p = weights.parameters
    rng = np.random.default_rng(0)
    band = label_band(gaussian_label((SIZE, SIZE), preset.sigma))
    assert band is not None
    vector = np.hanning(SIZE).astype(np.float32)
    window = np.outer(vector, vector)
    dft = tiled.BandDft(band, (SIZE, SIZE), (vector, vector))
    # as the tracker's
    strips = [tiled.Strip("light", dft, (SIZE, SIZE), part) for part in ((0, 62), (62, SIZE))]
    kernels = tiled.make_kernels(p, "light")
    spectra = np.empty((2, 32, *band.spectrum_shape), np.complex64)
    image = rng.uniform(-100, 100, (1, 3, SIZE, SIZE)).astype(np.float32)
    rows = np.ascontiguousarray(image[0].transpose(1, 0, 2))
    mean = np.zeros((3, 1), np.float32)
    for strip, spectrum in zip(strips, spectra):
        strip.forward(rows[strip.reads], mean, kernels, spectrum)

    first = conv.conv2d_forward(image, p["conv1.weight"], p["conv1.bias"])[0]
    x = np.maximum(first, 0)
    second = p["conv2.weight"], p["conv2.bias"]
    y = conv.conv2d_forward(x, *second)[0]
    spec = strips[0].lrn
    normalised = lrn.lrn_forward(y, n=spec.n, k=spec.k, alpha=spec.alpha, beta=spec.beta)[0]

    def strip_first() -> None:
        for strip in strips:
            strip.read(rows[strip.reads], mean)
            strip.first_convolution(kernels)

    def strip_second() -> None:
        for strip in strips:
            strip.relu(0)
            strip.convolution(0, kernels)

    def strip_lrn() -> None:
        for strip in strips:
            strip.normalise()

    def strip_transform() -> None:
        for strip, spectrum in zip(strips, spectra):
            strip.transform(spectrum)

    def close(a: np.ndarray, b: np.ndarray) -> None:
        np.testing.assert_allclose(a, b, atol=2e-5 * abs(b).max())

    close(im2col(x, *second), y)
    close(winograd.conv2d_forward(x[0], *second)[0], y[0])
    close(winograd.from_tiles(np.concatenate([strip.y for strip in strips], axis=1), SIZE), y[0])
    expected = np.fft.rfft2((normalised * window)[0])
    close(rfft2(normalised * window, band)[0], band_of(expected, band.limits))
    close(spectra.sum(0), band_of(expected, band.limits))

    return {
        "convolution 3 to 32": {
            "im2col, nine copies": lambda: im2col(image, p["conv1.weight"], p["conv1.bias"]),
            "three copies (ops.conv)": lambda: conv.conv2d_forward(
                image, p["conv1.weight"], p["conv1.bias"]
            ),
            "three copies, row by row, memory kept (tiled)": strip_first,
        },
        "ReLU, convolution 32 to 32": {
            "im2col, nine copies": lambda: im2col(np.maximum(first, 0), *second),
            "three copies (ops.conv)": lambda: conv.conv2d_forward(np.maximum(first, 0), *second),
            "Winograd (ops.winograd)": lambda: winograd.conv2d_forward(
                np.maximum(first[0], 0), *second
            ),
            "Winograd, memory kept (tiled)": strip_second,
        },
        "LRN": {
            "with a power": lambda: (
                y * (spec.k + spec.alpha * lrn.channel_sum(y * y, spec.n)) ** -spec.beta
            ),
            "with square roots (ops.lrn)": lambda: lrn.lrn_forward(
                y, n=spec.n, k=spec.k, alpha=spec.alpha, beta=spec.beta
            ),
            "with square roots, memory kept (tiled)": strip_lrn,
        },
        "window, transform": {
            "NumPy's FFT": lambda: np.fft.rfft2(normalised * window),
            "SciPy's FFT": lambda: scipy.fft.rfft2(normalised * window),
            "the band, two products (ops.fourier)": lambda: rfft2(normalised * window, band),
            "the same, window within, memory kept (tiled)": strip_transform,
        },
    }


def band_of(spectrum: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """The kept bins of a half spectrum."""
    ku, kv = limits
    return np.concatenate(
        [spectrum[..., : ku + 1, : kv + 1], spectrum[..., -ku:, : kv + 1]], axis=-2
    )


class Following:
    """A tracker that takes the next frame with every call."""

    def __init__(
        self, frames: list[np.ndarray], box: Any, plain: bool, cores: str, **changes: Any
    ) -> None:
        before = os.environ.get("DCFNET_CORES")
        os.environ["DCFNET_CORES"] = cores
        preset = dataclasses.replace(get_preset("pytorch"), **changes.pop("preset", {}))
        self.tracker = Tracker("light", preset, "cpu", **changes)
        if plain:
            t = self.tracker
            t._extract = extractor.Extractor(t.weights, preset, t.band, Device("cpu"))
        os.environ.pop("DCFNET_CORES") if before is None else os.environ.update(DCFNET_CORES=before)
        self.tracker.init(frames[0], box)
        self.frames, self.next = frames, 1

    def __call__(self) -> None:
        self.tracker.update(self.frames[self.next])
        self.next = self.next % (len(self.frames) - 1) + 1


def frame_steps(frames: list[np.ndarray], box: Any) -> Steps:
    """A whole frame: three scales and the template."""
    return {
        "plain operations, all bins, 1 core": Following(frames, box, True, "1", band=None),
        "plain operations, the band, 1 core": Following(frames, box, True, "1"),
        "plain operations, the band, 2 cores": Following(frames, box, True, "2"),
        "tiled, 1 core": Following(frames, box, False, "1"),
        "tiled, 2 cores": Following(frames, box, False, "2"),
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
        pair.gradients(images, tiled.make_kernels(parameters, "conv1"), 1.0)

    full = objective._replace(band=None, label_f=rfft2(objective.label))
    return {
        "plain operations, all bins": lambda: plain(full),
        "plain operations, the band": lambda: plain(objective),
        "tiled": fast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--frames", type=Path, help="a sequence with ground truth; default: frames that are made up"
    )
    parser.add_argument("--page", type=Path, help="a Markdown file whose table is written anew")
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
        page.check(args.json, args.page, MARKS)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    report: dict[str, Any] = {"machine": bench.machine()}
    with one_blas_thread():
        report |= {name: in_turns(steps) for name, steps in patch_steps().items()}
        report["training pair"] = in_turns(pair_steps(), 3)
    report["frame"] = in_turns(frame_steps(frames, box))
    for name, times in report.items():
        if name != "machine":
            print(f"{name}, ms")
            for version, ms in times.items():
                print(f"  {version:46s} {ms:8.2f}")
    page.write(report, args.json, table(report), args.page, MARKS)


def table(report: dict[str, Any]) -> str:
    """The times as docs/results/speed.md shows them."""
    lines = ["", "| step | version | ms |", "|---|---|--:|"]
    for name, times in report.items():
        if name != "machine":
            lines += [
                f"| {'' if i else name} | {v} | {times[v]:.2f} |" for i, v in enumerate(times)
            ]
    host = report["machine"]
    blas = " and ".join(
        f"{b['internal_api']} {b['version']} ({b['architecture']})" for b in host["blas"]
    )
    lines += [
        "",
        f"{host['processor']}, {host['cores']} cores, Python {host['python']}, NumPy {host['numpy']}, {blas}.",
        "",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
