"""Times every kernel of training and most of tracking alone, each beside its floor, on the GPU.

    python benchmarks/gpu_kernels.py [--json FILE] [--quick] [--only TEXT]
    python benchmarks/gpu_kernels.py --compile      compile all that the library launches, on all cores; time nothing

Every kernel and variant is first checked against NumPy in float64; a wrong one is not timed and the
exit code is
1.  A time is the median over replays of a CUDA graph of launches, so Python's own time is not in
it.  The floor is the larger of FLOPs over the peak rate and bytes (each array once) over the
bandwidth, both measured in this run: for kernels in TF32 the peak of the tensor cores, the rest of
them in float32.  `dcfnet bench --device cuda` times the kernels of a step in their places; this
compares tiles, and looks at every kernel alone."""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dcfnet_np import backend, kernels
from dcfnet_np.bench_kernels import environment, measure_ceiling, median_us
from dcfnet_np.kernels import conv, crop, dcf, dft, gather, lrn, sgd
from dcfnet_np.kernels.compile import minimum_arch
from dcfnet_np.ops import dcf as array_dcf
from dcfnet_np.ops.conv import conv2d_backward, conv2d_forward
from dcfnet_np.ops.fourier import irfft2, make_band, rfft2
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.ops.lrn import lrn_backward, lrn_forward
from dcfnet_np.vision.crop import crop_patches

TOLERANCE = 3e-6  # float32, over the largest value
TF32_TOLERANCE = 2e-3
CHECKED = 2  # images that are checked; all of them are timed


@contextlib.contextmanager
def saving(path, report):
    """Write the report to `path`, if any, whatever happens inside; an error or the end of the time
    is named in it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))  # what `timeout` sends
    try:
        yield
    except BaseException as error:
        report["cut_off"] = f"{type(error).__name__}: {error}"[:300]
        raise
    finally:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(report, indent=1) + "\n")


def keeps_kernels(cp):
    """Does CuPy keep templates on disk, so that other processes find them?  Issues 9667 and 10173
    there.
    """
    return tuple(map(int, cp.__version__.split(".")[:2])) >= (14, 2)


def compile_one(file_and_name):
    """Compile one kernel; CuPy keeps it on disk."""
    kernels._kernel(backend.cupy(), 0, *file_and_name)


def compile_ahead(few, large, weights, chunks):
    """Compile all variants on all cores: one after another they take minutes."""
    names = [
        ("conv.cu", conv._name("float", tile._replace(c_step=min(c_step, tile.c_step)), 1, after))
        for tiles, afters in ((few, ()), (large, (conv.MASK,)))
        for tile in tiles
        for c_step, after in ((3, conv.RELU), (8, conv.BIAS), *((8, after) for after in afters))
    ]
    names += [
        ("conv.cu", conv._name("float", tile, 1, conv.NORMALISE_WINDOW))
        for tile in few + large
        if can_normalise(tile)
    ]
    names += [("conv.cu", conv._weights_name("float", tile, 1)) for tile in weights]
    names += [("dft.cu", name) for name in dft.EXPRESSIONS if "float" in name]
    names += [
        ("lrn.cu", lrn._name(kernel, "float", 2, chunk, window))
        for kernel, window in (
            ("lrn_forward", True),
            ("lrn_forward", False),
            ("lrn_backward", False),
        )
        for chunk in chunks
    ]
    in_parallel(names)


def compile_everything(cp):
    """Compile what the library launches on this GPU; returns how many kernels that are."""
    capability = int(cp.cuda.Device().compute_capability)
    names = [
        (file, name)
        for file, expressions in kernels.expressions().items()
        if capability >= minimum_arch(file)
        for name in expressions
    ]
    in_parallel(names)
    return len(names)


def in_parallel(names):
    """Compile kernels (file, name) on all cores; CuPy keeps them on disk."""
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, 16)) as pool:
        pool.map(compile_one, names, chunksize=1)


def can_normalise(tile):
    """Does a block of this tile have all 32 channels, and a thread all channels of a pixel?"""
    return tile.outputs == conv.LANE_OUTPUTS and tile.warps_o <= 4


class Bench:
    """Checks, times and prints one case after another."""

    def __init__(self, cp, ceiling, only):
        self.cp, self.ceiling, self.only = cp, ceiling, only
        self.rows: list[dict[str, Any]] = []
        self.wrong = 0
        self.rng = np.random.default_rng(0)

    def random(self, *shape):
        return self.cp.asarray(self.rng.standard_normal(shape, dtype=np.float32))

    def case(self, kernel, shape, variant, call, check, flops, arrays, tf32=False):
        """Time call() after check() gave the error of its result; `arrays` are all that it must
        move.
        """
        tolerance = TF32_TOLERANCE if tf32 else TOLERANCE
        if self.only and self.only not in f"{kernel} {shape} {variant}":
            return
        try:
            error = float(check())
            us = median_us(self.cp, call) if error <= tolerance else float("nan")
        except Exception as reason:  # one variant that cannot launch must not hide the others
            print(
                f"{kernel:20} {shape:26} {variant:24} {type(reason).__name__}: {reason}", flush=True
            )
            self.rows.append(
                {"kernel": kernel, "shape": shape, "variant": variant, "failed": str(reason)}
            )
            self.wrong += 1
            return
        self.wrong += not error <= tolerance
        size = sum(array.nbytes for array in arrays)
        floor = 1e6 * max(
            flops / (self.ceiling.tf32 if tf32 else self.ceiling.flops), size / self.ceiling.bytes
        )
        row = {
            "kernel": kernel, "shape": shape, "variant": variant, "us": us, "floor_us": floor, "error": error,
            "tflops": flops / us / 1e6, "gb_per_s": size / us / 1e3,
        }  # fmt: skip
        self.rows.append(row)
        print(
            f"{kernel:20} {shape:26} {variant:24} {us:9.1f} us  floor {floor:8.1f}  x{us / floor:5.2f} "
            f"{row['tflops']:6.1f} TFLOP/s {row['gb_per_s']:7.0f} GB/s  error {error:.1e}",
            flush=True,
        )

    def error(self, got, want):
        got = self.cp.asnumpy(got)
        return np.abs(got - want).max() / np.abs(want).max()


def label(tile):
    return "/".join(map(str, tile))


def bench_forward(bench, n, c, o, padding, relu, tiles, size=125, normalise=False):
    x, w, b = bench.random(n, c, size, size), bench.random(o, c, 3, 3), bench.random(o)
    packed = conv.pack(w)
    y = bench.cp.empty((n, o, *conv.output_shape(size, size, padding, 1)), np.float32)
    few = min(n, CHECKED)
    want = conv2d_forward(
        *(bench.cp.asnumpy(a).astype(np.float64) for a in (x[:few], w, b)), padding=padding
    )[0]
    want = np.maximum(want, 0) if relu else want
    follow = None
    if normalise:
        window = np.outer(np.hanning(size), np.hanning(size)).astype(np.float32)
        want = lrn_forward(want)[0] * window
        follow = conv.Normalise(window=bench.cp.asarray(window))
    for tile in tiles:
        tile = tile._replace(c_step=min(c, tile.c_step))
        if normalise and not can_normalise(tile):
            continue

        def run(tile=tile):
            return conv.forward(
                x,
                w,
                b,
                padding=padding,
                relu=relu,
                normalise=follow,
                packed=packed,
                out=y,
                tile=tile,
            )

        flops = 2 * 9 * c * y.size
        bench.case(
            "conv+lrn forward" if normalise else "conv forward", f"{n}x{c}->{o} {size} p{padding}", label(tile), run,
            lambda run=run: bench.error(run()[:few], want), flops, (x, y),
        )  # fmt: skip


def bench_input_gradient(bench, n, c, o, padding, tiles, size=123):
    dy = bench.random(n, o, *conv.output_shape(size, size, padding, 1))
    w, x = bench.random(o, c, 3, 3), bench.random(n, c, size, size)
    packed, dx = conv.pack(w, flipped=True), bench.cp.empty_like(x)
    few = min(n, CHECKED)
    host = [bench.cp.asnumpy(a).astype(np.float64) for a in (x[:few], w, dy[:few])]
    _, cache = conv2d_forward(host[0], host[1], np.zeros(o), padding=padding)
    want = conv2d_backward(host[2], cache)[0] * (host[0] > 0)
    for tile in tiles:

        def run(tile=tile):
            return conv.input_gradient(
                dy,
                w,
                (size, size),
                padding=padding,
                relu_output=x,
                packed=packed,
                out=dx,
                tile=tile,
            )

        bench.case(
            "conv input gradient", f"{n}x{o}->{c} {size} p{padding}", label(tile), run,
            lambda run=run: bench.error(run()[:few], want), 2 * 9 * c * dy.size, (dy, x, dx),
        )  # fmt: skip


def bench_weight_gradient(bench, n, c, o, padding, tiles, counts, size):
    x, dy = (
        bench.random(n, c, size, size),
        bench.random(n, o, *conv.output_shape(size, size, padding, 1)),
    )
    few = min(n, CHECKED)
    host = [bench.cp.asnumpy(a[:few]).astype(np.float64) for a in (x, dy)]
    _, cache = conv2d_forward(host[0], np.zeros((o, c, 3, 3)), np.zeros(o), padding=padding)
    want = conv2d_backward(host[1], cache, input_gradient=False)[1]
    out = (bench.cp.empty((o, c, 3, 3), np.float32), bench.cp.empty(o, np.float32))
    for tile in tiles:
        for count in counts:
            part = bench.cp.empty((count, 9 * c + 1, o), np.float32)

            def run(tile=tile, part=part, images=n):
                return conv.weight_gradient(
                    dy[:images], x[:images], padding=padding, out=out, part=part, tile=tile
                )

            bench.case(
                "conv weight gradient", f"{n}x{c}->{o} {size} p{padding}", f"{label(tile)} parts {count}", run,
                lambda run=run: bench.error(run(images=few)[0], want), 2 * 9 * c * dy.size, (x, dy),
            )  # fmt: skip


def bench_lrn(bench, n, size, window, backward, chunks):
    x, dy = bench.random(n, 32, size, size) * 50, bench.random(n, 32, size, size)
    hann = (
        bench.cp.asarray(np.outer(np.hanning(size), np.hanning(size)).astype(np.float32))
        if window
        else None
    )
    out = bench.cp.empty_like(x)
    few = min(n, CHECKED)
    factor = 1.0 if hann is None else bench.cp.asnumpy(hann).astype(np.float64)
    want, cache = lrn_forward(bench.cp.asnumpy(x[:few]).astype(np.float64))
    want = lrn_backward(bench.cp.asnumpy(dy[:few]) * factor, cache) if backward else want * factor
    for chunk in chunks:

        def run(chunk=chunk):
            if backward:
                return lrn.backward(dy, x, window=hann, out=out, chunk=chunk)
            return lrn.forward(x, window=hann, out=out, chunk=chunk)

        bench.case(
            f"lrn {'backward' if backward else 'forward'}{' window' if window else ''}", f"{n}x32 {size}",
            f"chunk {chunk}", run, lambda run=run: bench.error(run()[:few], want),
            (30 if backward else 15) * x.size, (x, dy, out) if backward else (x, out),
        )  # fmt: skip


def bench_dft(bench, maps, size, limit, inverse):
    """Both passes of the transform of `maps` maps, or of its inverse."""
    tables = dft.make_tables((size, size), (limit, limit), np.float32)
    band = make_band((size, size), (limit, limit), np.float64)
    x, xf = (
        bench.random(maps, size, size),
        bench.cp.empty((maps, *tables.spectrum_shape), np.complex64),
    )
    work = bench.cp.empty((maps, size, limit + 1), np.complex64)
    few = min(maps, CHECKED)
    want = rfft2(bench.cp.asnumpy(x[:few]).astype(np.float64), band)
    dft.rfft2(x, tables, out=xf, work=work)
    if inverse:
        want = irfft2(bench.cp.asnumpy(xf[:few]).astype(np.complex128), (size, size), band)

    def run():
        if inverse:
            return dft.irfft2(xf, tables, out=x, work=work)
        return dft.rfft2(x, tables, out=xf, work=work)

    half = size // 2 + 1
    flops = maps * 4 * (limit + 1) * half * (size + 2 * (limit + 1))
    bench.case(
        f"dft {'inverse' if inverse else 'forward'}", f"{maps} {size} K{limit}", "", run,
        lambda: bench.error(run()[:few], want), flops, (x, xf),
    )  # fmt: skip


def bench_tf32(bench, n, c, o, size):
    """The three kernels of a convolution without padding on tensor cores."""
    out = size - 2
    x, w, b, dy = (
        bench.random(*s) for s in ((n, c, size, size), (o, c, 3, 3), (o,), (n, o, out, out))
    )
    packed, flipped = conv.pack(w), conv.pack(w, flipped=True)
    y, dx = bench.cp.empty_like(dy), bench.cp.empty_like(x)
    gradients = bench.cp.empty_like(w), bench.cp.empty_like(b)
    part = bench.cp.empty((conv.parts(dy.shape, c), 9 * c + 1, o), np.float32)
    few, flops, shape = min(n, CHECKED), 2 * 9 * c * dy.size, f"{n}x{c}->{o} {size} p0"
    host = [bench.cp.asnumpy(a).astype(np.float64) for a in (x[:few], w, b, dy[:few])]
    want, cache = conv2d_forward(*host[:3], padding=0)
    want_dx, want_dw, _ = conv2d_backward(host[3], cache)

    def forward():
        return conv.forward(x, w, b, padding=0, packed=packed, out=y, tf32=True)

    def to_data():
        return conv.input_gradient(
            dy, w, (size, size), padding=0, packed=flipped, out=dx, tf32=True
        )

    def to_weights(images=n):
        return conv.weight_gradient(
            dy[:images], x[:images], padding=0, out=gradients, part=part, tf32=True
        )

    for kernel, run, check, arrays in (
        ("conv tf32 forward", forward, lambda: bench.error(forward()[:few], want), (x, y)),
        ("conv tf32 input grad", to_data, lambda: bench.error(to_data()[:few], want_dx), (dy, dx)),
        (
            "conv tf32 weight grad",
            to_weights,
            lambda: bench.error(to_weights(few)[0], want_dw),
            (x, dy),
        ),
    ):
        bench.case(kernel, shape, "", run, check, flops, arrays, tf32=True)


def bench_dcf(bench, n, d, size, limit):
    """The fused filter layer and the loss, forward and backward, at the bins of a band."""
    cp, bins = bench.cp, (2 * limit + 1, limit + 1)
    x, z = (bench.random(n, d, *bins) + 1j * bench.random(n, d, *bins) for _ in range(2))
    y, dg = (bench.random(*s) + 1j * bench.random(*s) for s in (bins, (n, *bins)))
    out, gradients = dcf.dcf_forward(x, z, y, 0.1), (cp.empty_like(x), cp.empty_like(z))
    few, shape = min(n, CHECKED), f"{n}x{d} K{limit}"
    wide = [cp.asnumpy(a).astype(np.complex128) for a in (x[:few], z[:few], y, dg[:few])]
    energy, filter_f = (
        array_dcf.template_energy(wide[0], 0.1),
        array_dcf.learn_filter(wide[0], wide[2], 0.1),
    )
    response = array_dcf.correlate(filter_f, wide[1])
    dx = array_dcf.template_conj_gradient_f(wide[3], wide[0], response, energy)
    dx = (
        dx
        + array_dcf.template_gradient_f(wide[3], wide[0], wide[1], wide[2], response, energy).conj()
    )

    def forward():
        return dcf.dcf_forward(x, z, y, 0.1, out=out)

    def backward():
        return dcf.dcf_backward(dg, x, z, y, *out, out=gradients)

    bench.case("dcf forward", shape, "", forward, lambda: bench.error(forward()[0][:few], response), 16 * x.size,
               (x, z, *out))  # fmt: skip
    bench.case("dcf backward", shape, "", backward, lambda: bench.error(backward()[0][:few], dx), 26 * x.size,
               (x, z, dg, *out, *gradients))  # fmt: skip

    maps, label = bench.random(n, size, size), bench.random(size, size)
    shares, both = cp.full(n, 1 / n, np.float32), (cp.empty(n, np.float32), cp.empty_like(maps))
    _, cache = response_loss_forward(*(cp.asnumpy(a).astype(np.float64) for a in (maps, label)))

    def loss():
        return dcf.response_loss(maps, label, shares=shares, out=both)

    bench.case("response loss", f"{n} {size}", "", loss, lambda: bench.error(loss()[1], response_loss_backward(cache)),
               5 * maps.size, (maps, both[1]))  # fmt: skip


def bench_images(bench, n, size):
    """The crop of n windows of a frame, and the gathering of n crops of many."""
    cp, rng = bench.cp, bench.rng
    frame, mean = (
        rng.integers(0, 256, (480, 640, 3), np.uint8),
        np.array([104, 117, 123], np.float32),
    )
    windows = np.column_stack([rng.uniform(100, 400, (n, 2)), rng.uniform(60, 300, (n, 2))])
    out, ranges = cp.empty((n, 3, size, size), np.float32), crop.empty_ranges(n)
    want = crop_patches(frame, windows[0, :2], windows[:1, 2:], size, rounded=True) - mean.reshape(
        3, 1, 1
    )
    crops = rng.integers(0, 256, (512, 3, size, size), np.uint8)
    index = rng.integers(0, len(crops), n).astype(np.int32)
    device = [cp.asarray(array) for array in (frame, windows, mean, crops, index)]

    def cut():
        return crop.crop_patches(*device[:3], size, rounded=True, out=out, ranges=ranges)

    def collect():
        return gather.gather(device[3], device[4], device[2], out=out)

    bench.case(
        "crop",
        f"{n} {size}",
        "",
        cut,
        lambda: bench.error(cut()[:1], want),
        30 * n * size**2,
        (out,),
    )
    want_crops = crops[index[:CHECKED]] - mean.reshape(3, 1, 1)
    bench.case("gather", f"{n} {size}", "", collect, lambda: bench.error(collect()[: len(want_crops)], want_crops),
               3 * n * size**2, (out, out.view(np.uint8)[..., :size]))  # fmt: skip


def bench_sgd(bench, size):
    p, g, v = bench.random(size), bench.random(size), bench.random(size)

    def run():
        sgd.step(p, g, v, lr=0.0, momentum=0.5, weight_decay=0.0)

    def check():
        want = 0.5 * bench.cp.asnumpy(v).astype(np.float64) + bench.cp.asnumpy(g)
        run()
        return bench.error(v, want)

    bench.case("sgd", f"{size}", "", run, check, 6 * size, (p, p, g, v, v))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    parser.add_argument("--quick", action="store_true", help="only the tiles that the library uses")
    parser.add_argument("--only", help="only cases with this text in their line")
    parser.add_argument(
        "--compile", action="store_true", help="only compile, all that the library launches"
    )
    arguments = parser.parse_args()
    try:
        cp = backend.cupy()
    except backend.DeviceError as error:
        sys.exit(f"gpu_kernels: {error}")
    if arguments.compile and not keeps_kernels(cp):
        print(
            f"nothing compiled ahead: CuPy {cp.__version__} compiles templates anew in every process, 14.2 does not"
        )
        return 0
    if arguments.compile:
        count = compile_everything(cp)
        print(f"{count} kernels compiled")
        return 0
    about, ceiling = environment(), measure_ceiling(cp)
    print(json.dumps({**about, "ceiling": ceiling._asdict()}), flush=True)
    bench = Bench(cp, ceiling, arguments.only)

    T, W = conv.Tile, conv.WeightTile
    few, large, weights, first = [conv.FEW], [conv.LARGE], [W(4, 16, 8, 1, 2)], [W(3, 32, 1, 1, 8)]
    counts, counts_first, chunks = [264], [1584], [lrn.CHUNK]
    if not arguments.quick:
        few += [T(4, 1, 8, 4, 1, 4), T(4, 1, 4, 8, 1, 3), T(4, 2, 4, 8, 1, 3), T(8, 1, 8, 4, 1, 5)]
        few += [T(4, 1, 4, 4, 2, 3), T(8, 1, 4, 8, 1, 3), T(2, 1, 8, 4, 1, 5, 1)]
        large += [
            T(8, 2, 8, 4, 1, 4),
            T(4, 2, 8, 4, 1, 3),
            T(8, 2, 8, 4, 1, 3),
            T(4, 2, 8, 4, 2, 2),
        ]
        large += [
            T(8, 2, 8, 4, 2, 2),
            T(4, 4, 4, 8, 1, 2),
            T(8, 4, 4, 8, 1, 2),
            T(4, 4, 8, 4, 1, 2),
        ]
        large += [
            T(4, 1, 8, 4, 1, 5),
            T(4, 1, 8, 4, 1, 7),
            T(4, 2, 8, 2, 2, 4),
            T(2, 2, 8, 4, 1, 4, 1),
        ]
        large += [T(4, 2, 8, 4, 1, 3, 1), T(2, 2, 8, 4, 2, 2, 1)]
        weights += [W(4, 16, 4, 1, 4), W(4, 16, 4, 1, 3), W(4, 16, 2, 1, 6), W(2, 16, 8, 1, 3)]
        first += [W(3, 32, 1, 1, 6), W(3, 32, 2, 1, 4), W(3, 16, 1, 2, 4)]
        counts, counts_first, chunks = [132, 264, 528], [1056, 1584, 2112], [4, 8, 16, 32]
    if not arguments.only and keeps_kernels(cp):
        compile_ahead(few, large, weights + first, chunks)

    with saving(
        arguments.json,
        {"what": "kernels", "environment": about, "ceiling": ceiling._asdict(), "rows": bench.rows},
    ):
        bench_all(bench, few, large, weights, first, counts, counts_first, chunks)
    print(f"{len(bench.rows)} timed, {bench.wrong} wrong")
    return 1 if bench.wrong else 0


def bench_all(bench, few, large, weights, first, counts, counts_first, chunks):
    # tracking: three scales, one template, 64 targets
    for n in (3, 1):
        bench_forward(bench, n, 3, 32, 1, True, few)
        bench_forward(bench, n, 32, 32, 1, False, few)
        bench_forward(bench, n, 32, 32, 1, False, few, normalise=True)
        bench_lrn(bench, n, 125, True, False, chunks)
        bench_dft(bench, 32 * n, 125, 28, False)
        bench_dft(bench, n, 125, 28, True)
    bench_forward(bench, 192, 3, 32, 1, True, large)
    bench_forward(bench, 192, 32, 32, 1, False, large)
    bench_forward(bench, 192, 32, 32, 1, False, large, normalise=True)
    bench_dft(bench, 192 * 32, 125, 28, False)
    bench_dft(bench, 192, 125, 28, True)
    bench_lrn(bench, 192, 125, True, False, chunks)
    bench_forward(bench, 3, 3, 64, 1, True, few[:3])
    bench_forward(bench, 3, 64, 32, 1, False, few[:3])
    # training: 16 pairs, no padding
    bench_forward(bench, 32, 3, 64, 0, True, large)
    bench_forward(bench, 32, 64, 32, 0, False, large, size=123)
    bench_input_gradient(bench, 32, 64, 32, 0, large)
    bench_weight_gradient(bench, 32, 64, 32, 0, weights, counts, 123)
    bench_weight_gradient(bench, 32, 3, 64, 0, first, counts_first, 125)
    bench_lrn(bench, 32, 121, False, False, chunks)
    bench_lrn(bench, 32, 121, False, True, chunks)
    bench_dft(bench, 32 * 32, 121, 28, False)
    bench_dft(bench, 32 * 32, 121, 28, True)
    bench_dcf(bench, 16, 32, 121, 28)
    bench_images(bench, 3, 125)
    bench_images(bench, 192, 125)
    bench_sgd(bench, 20256)
    if bench.ceiling.tf32:
        bench_tf32(bench, 32, 64, 32, 123)


if __name__ == "__main__":
    sys.exit(main())
