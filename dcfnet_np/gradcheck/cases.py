"""Every op, every equation and the whole chain from images to loss: what `dcfnet gradcheck` checks.

A case yields pairs, whose gradients `checker` compares with finite differences, and results: values
compared with their definition written out, slowly, so that forward and backward cannot be wrong
together.
"""

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import network
from ..backend import Array, Device, cupy, select_device
from ..fast import winograd
from ..fast.strip import BandDft, Kernels, Strip, make_kernels
from ..ops import conv, dcf, fourier, loss, lrn, relu
from . import equations, learnable
from .checker import Sweep, check, sweep
from .pair import (
    VALUE_LIMIT,
    Findings,
    GradientError,
    GradientResult,
    Pair,
    Place,
    compare,
    to_host,
)


def _correlation(x: Array, w: Array, b: Array, padding: int, dilation: int) -> np.ndarray:
    """Convolution as networks have it, tap by tap."""
    x, w, b = map(to_host, (x, w, b))
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = (x.shape[2 + a] - dilation * (w.shape[2 + a] - 1) for a in (0, 1))
    y = np.zeros((len(x), len(w), height, width)) + b[:, None, None]
    for i, j in np.ndindex(*w.shape[2:]):
        moved = x[:, :, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
        y += np.einsum("oc,nchw->nohw", w[:, :, i, j], moved)
    return y


def _without_input_gradient(dy: Array, cache: conv.ConvCache) -> Sequence[Array]:
    dx, *gradients = conv.conv2d_backward(dy, cache, input_gradient=False)
    assert dx is None
    return gradients


def _conv(place: Place) -> Findings:
    rng = np.random.default_rng(1)
    sizes = ((3, 3), 1, 1), ((3, 3), 2, 2), ((2, 4), 0, 1), ((1, 1), 0, 1), ((3, 2), 1, 2)
    forward, backward, names = conv.conv2d_forward, conv.conv2d_backward, ("dx", "dw", "db")
    for (kh, kw), padding, dilation in sizes:
        shapes = (2, 3, 5, 7), (4, 3, kh, kw), (4,)
        x, w, b = (place.normal(rng, *shape) for shape in shapes)
        name = f"conv2d {kh}x{kw} padding {padding} dilation {dilation}"
        options = {"padding": padding, "dilation": dilation}
        expected = _correlation(x, w, b, padding, dilation)
        yield compare(name, forward(x, w, b, **options)[0], expected, "against sums over taps")
        yield Pair(name, forward, backward, (x, w, b), names, options=options)
        of_parameters = partial(forward, x, **options)
        yield Pair(f"{name}, no dx", of_parameters, _without_input_gradient, (w, b), names[1:])


def _winograd(place: Place) -> Findings:
    if place.device.kind != "cpu":
        return  # there kernels/conv.cu does the convolution
    rng = np.random.default_rng(11)
    forward, backward = winograd.conv2d_forward, winograd.conv2d_backward
    for width in (5, 8, 9, 11):  # the last tile is full, or lacks one column, two, three
        x, w, b = (place.normal(rng, *shape) for shape in ((3, 6, width), (4, 3, 3, 3), (4,)))
        name, expected = f"conv2d by Winograd, width {width}", _correlation(x[None], w, b, 1, 1)[0]
        yield compare(name, forward(x, w, b)[0], expected, "against sums over taps")
        yield Pair(name, forward, backward, (x, w, b), ("dx", "dw", "db"))


def _strip(place: Place) -> Findings:
    """The fast network with its transform: whole images, a map inside one, some rows."""
    # float32's steps meet too many kinks of ReLU
    if place.device.kind == "cpu" and place.precision is np.float64:
        yield from _one_strip(place, (9, 11), (9, 11), None)
        yield from _one_strip(place, (10, 13), (6, 9), None)
        yield from _one_strip(place, (12, 9), (12, 9), (4, 9))


def _one_strip(
    place: Place, shape: tuple[int, int], size: tuple[int, int], rows: tuple[int, int] | None
) -> Findings:
    """shape: (H, W) of the image; size: of the map in its middle; rows: of the image, None: all."""
    rng = np.random.default_rng(12)
    relu_, normalise = network.Relu(), network.Lrn(n=3, alpha=0.9, beta=0.75)
    convolutions = network.Conv(2, 4), network.Conv(4, 3), network.Conv(3, 5)
    architecture = (convolutions[0], relu_, convolutions[1], relu_, convolutions[2], normalise)
    shapes = network.parameter_shapes(architecture)
    parameters = [place.normal(rng, *s) * (0.6 if len(s) > 1 else 0.2) for s in shapes.values()]
    image, mean = place.normal(rng, 2, *shape), place.normal(rng, 2, 1)
    base = place(rng.uniform(0.5, 1.5, size[0])), place(rng.uniform(0.5, 1.5, size[1]))
    power, log_base = place(np.array(1.3)), np.log(np.outer(*base))
    band = fourier.make_band(size, (2, 3), place.precision)
    flat = BandDft(band, shape, (np.ones(size[0]), np.ones(size[1])))
    strip = Strip(architecture, flat, shape, rows, place.precision, backward=True)
    spectrum = np.empty((5, *band.spectrum_shape), np.complex128)

    def forward(*values: Array) -> tuple[Array, tuple[Kernels, tuple[Array, ...]]]:
        *weights, power = values
        kernels = make_kernels(dict(zip(shapes, weights)), architecture)
        strip.use(BandDft(band, shape, (base[0] ** power, base[1] ** power)), log_base)
        strip.forward(image.transpose(1, 0, 2)[strip.reads], mean, kernels, spectrum)
        return fourier.irfft2(spectrum, size, band), (kernels, values)

    def backward(dy: Array, cache: tuple[Kernels, tuple[Array, ...]]) -> list[Array]:
        kernels, values = cache
        forward(*values)
        gradients = strip.backward(fourier.rfft2(dy, band), kernels)
        return [*(gradient for pair in gradients for gradient in pair), np.array(strip.dpower)]

    images = (image - mean[:, None])[None]
    features = network.features(images, dict(zip(shapes, parameters)), architecture)[0]
    if rows:
        features[:, : rows[0]] = features[:, rows[1] :] = 0
    top, left = (shape[0] - size[0]) // 2, (shape[1] - size[1]) // 2
    windowed = features[:, top : top + size[0], left : left + size[1]] * np.outer(*base) ** 1.3
    expected = fourier.irfft2(fourier.rfft2(windowed, band), size, band)
    name = f"strip {shape[0]}x{shape[1]}, map {size[0]}x{size[1]}, rows {rows or 'all'}"
    inputs, names = [*parameters, power], [f"d{key}" for key in (*shapes, "power")]
    yield compare(name, forward(*inputs)[0], expected, "against network.features")
    yield Pair(name, forward, backward, inputs, names)


def _relu(place: Place) -> Findings:
    x = place.normal(np.random.default_rng(2), 2, 3, 5, 4)
    expected = np.where(to_host(x) > 0, to_host(x), 0)
    yield compare("relu", relu.relu_forward(x)[0], expected, "by comparison")
    yield Pair("relu", relu.relu_forward, relu.relu_backward, (x,), ("dx",))


def _lrn(place: Place) -> Findings:
    # alpha near 1: with the 2e-5 in use the term across channels is so small that no check would
    # miss it
    rng = np.random.default_rng(3)
    for channels, n, k, alpha, beta in (
        (7, 5, 1.0, 0.9, 0.75),
        (4, 3, 2.0, 1.1, 0.6),
        (2, 5, 1.0, 1.0, 0.75),
        (3, 1, 1.0, 0.8, 0.75),
    ):
        x = place.normal(rng, 2, channels, 3, 4)
        name = f"lrn C={channels} n={n} k={k} alpha={alpha} beta={beta}"
        options: dict[str, Any] = {"n": n, "k": k, "alpha": alpha, "beta": beta}
        wide = to_host(x).astype(np.float64)
        near = [wide[:, max(c - n // 2, 0) : c + n // 2 + 1] for c in range(channels)]
        expected = wide * (k + alpha * np.stack([(v**2).sum(1) for v in near], 1)) ** -beta
        y = lrn.lrn_forward(x, **options)[0]
        yield compare(name, y, expected, "against sums over channels")
        yield Pair(name, lrn.lrn_forward, lrn.lrn_backward, (x,), ("dx",), options=options)


# --- from images to the loss ---


def _chain(place: Place) -> Findings:
    """Both branches through one small network, then Eqs. 2-4; down to conv1 and the images."""
    # so many ReLUs have a kink within the large steps of float32
    if place.precision is not np.float64:
        return
    rng = np.random.default_rng(5)
    normalise = network.Lrn(n=3, k=1.0, alpha=0.9, beta=0.75)
    with_relu = (network.Conv(3, 3), network.Relu(), network.Conv(3, 3, dilation=2), normalise)
    without = (network.Conv(3, 2), network.Conv(2, 3), normalise)
    for architecture, padding, size, input_gradient in (
        (with_relu, "same", (5, 6), True),
        (with_relu, "valid", (10, 9), True),
        (without, "valid", (9, 8), False),
    ):
        parameters = network.initialise(architecture, seed=6, dtype=np.float64)
        inputs = [place(v + 0.1 * rng.standard_normal(v.shape)) for v in parameters.values()]
        images = [place.normal(rng, 2, 3, *size) for _ in range(2)]
        label = place.normal(rng, *(network.feature_size(n, architecture, padding) for n in size))
        pair = _objective(architecture, padding, list(parameters), label, input_gradient)
        gradients = [f"d{name}" for name in parameters]
        # every parameter; the images along random directions
        options: dict[str, Any] = {"exhaustive_limit": 100}
        name = f"network to loss, padding {padding}"
        if input_gradient:
            inputs, gradients = inputs + images, [*gradients, "dtemplate image", "dsearch image"]
        else:
            name, options = f"{name}, no dx", {**options, "images": images}
        yield Pair(name, *pair, inputs, gradients, options=options)


def _objective(
    architecture: network.Architecture,
    padding: str,
    names: list[str],
    label: Array,
    input_gradient: bool,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Forward and backward of the training objective, without weight decay.

    names: of the parameters; label: (H', W').
    """
    label_f = fourier.rfft2(label)

    def forward(*inputs: Array, images: Sequence[Array] = ()) -> tuple[float, tuple[Any, ...]]:
        """inputs: the parameters, then template and search unless these are given as `images`."""
        named = dict(zip(names, inputs))
        (template, template_caches), (search, search_caches) = (
            network.forward(image, named, architecture, padding=padding)
            for image in images or inputs[len(names) :]
        )
        response, dcf_cache = dcf.dcf_forward(template, search, label_f, 5.0)
        value, loss_cache = loss.response_loss_forward(response, label)
        return value, (template_caches, search_caches, dcf_cache, loss_cache)

    def backward(dloss: float, caches: tuple[Any, ...]) -> list[Array]:
        *branches, dcf_cache, loss_cache = caches
        dmaps = dcf.dcf_backward(loss.response_loss_backward(loss_cache, dloss), dcf_cache)
        (dtemplate, by_template), (dsearch, by_search) = (
            network.backward(dmap, cache, input_gradient=input_gradient)
            for dmap, cache in zip(dmaps, branches)
        )
        parameters = [by_template[name] + by_search[name] for name in names]
        if input_gradient:
            return [*parameters, dtemplate, dsearch]
        assert dtemplate is dsearch is None
        return parameters

    return forward, backward


# --- the run ---

CASES: dict[str, Callable[[Place], Findings]] = {
    "conv": _conv,
    "winograd": _winograd,
    "strip": _strip,
    "relu": _relu,
    "lrn": _lrn,
    **equations.CASES,
    **learnable.CASES,
    "chain": _chain,
}


def run_all(
    device: str = "cpu", only: Iterable[str] | None = None, precision: Any = np.float64
) -> list[GradientResult]:
    """Check every op, every equation and the whole chain: the rows of `dcfnet gradcheck`.

    device: as `backend.select_device`.  The ops run there; differences are taken on the host.
    only: names of CASES, None for all.  precision: np.float64 or np.float32 (see `checker`).
    Whatever an op raises becomes a result that is not ok.
    Raises ValueError for an unknown case or device, DeviceError where the GPU cannot be used.
    """
    return list(run(device, only, precision))


def run(
    device: str = "cpu", only: Iterable[str] | None = None, precision: Any = np.float64
) -> Iterator[GradientResult]:
    """`run_all`, result by result."""
    chosen = list(CASES) if only is None else list(only)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        known = ", ".join(map(shlex.quote, CASES))
        raise ValueError(f"there is no check {', '.join(unknown)}; there are {known}")
    target = select_device(device)
    with cupy().cuda.Device(target.index) if target.kind == "cuda" else contextlib.nullcontext():
        for name in chosen:
            try:
                for item in CASES[name](Place(target, precision)):
                    yield from _check_pair(item) if isinstance(item, Pair) else [item]
            except Exception as error:  # whatever an op raises: the other cases must still run
                yield _not_comparable(name, f"{type(error).__name__}: {error}")


def _check_pair(pair: Pair) -> list[GradientResult]:
    """`check`, with a result for a failure too."""
    try:
        results = check(pair.forward, pair.backward, pair.inputs, **pair.arguments())
    except GradientError as error:
        shape = pair.inputs[0].shape
        results = error.results or [_not_comparable(pair.name, str(error), shape)]
    return [result._replace(equation=pair.equation) for result in results]


def _not_comparable(name: str, note: str, shape: tuple[int, ...] = ()) -> GradientResult:
    return GradientResult(name, "all", shape, np.inf, VALUE_LIMIT, ok=False, note=note)


def sweep_all(only: Iterable[str] | None = None) -> list[Sweep]:
    """`sweep` of the first pair of every case that has one, on the CPU in float64.

    only: names of CASES, None for all.
    """
    curves: list[Sweep] = []
    for name in CASES if only is None else only:
        items = CASES[name](Place(Device("cpu"), np.float64))
        pair = next((item for item in items if isinstance(item, Pair)), None)
        if pair is not None:
            arguments = pair.arguments()
            arguments.pop("exhaustive_limit", None)
            curves += sweep(pair.forward, pair.backward, pair.inputs, **arguments)
    return curves
