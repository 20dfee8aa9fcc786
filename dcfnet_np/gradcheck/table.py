"""Every op and every equation of the paper, checked: the table of `dcfnet gradcheck`.

A case yields pairs, whose gradients `checker` compares with finite differences, and results: values
compared with their definition written out, slowly, so that forward and backward cannot be wrong
together.

The spectrum of a Gaussian label is real, or nearly so, and hides a wrong conjugate: labels here are
random.  Sizes are odd, even and not square, and D > 1.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import filter as filter_module
from .. import network
from ..backend import Array, Device, array_module, cupy, select_device, to_device, to_numpy
from ..fast import winograd
from ..fast.strip import BandDft, Kernels, Strip, make_kernels
from ..ops import conv, dcf, fourier, loss, lrn, relu
from ..ops.fourier import Band
from .checker import STEP, GradientError, GradientResult, Sweep, check, sweep, to_host

EQUATION_LIMIT = 5e-8


class Pair(NamedTuple):
    """Something with a gradient: what `check` takes."""

    name: str
    equation: str  # of the paper; "" for an op that has none
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: Sequence[Array]
    gradient_names: Sequence[str]
    options: dict[str, Any]


class Place(NamedTuple):
    """Moves arrays to the device and into the precision under test."""

    device: Device
    precision: Any  # np.float64 or np.float32

    def __call__(self, array: np.ndarray) -> Array:
        kind = (
            np.result_type(self.precision, np.complex64)
            if np.iscomplexobj(array)
            else self.precision
        )
        return to_device(array.astype(kind), self.device)


Case = Callable[[Place], Iterator[Pair | GradientResult]]


def _value(name: str, equation: str, got: Any, expected: Any, note: str) -> GradientResult:
    """Values that must agree: error = max|got - expected| / max|expected|."""
    got, expected = to_host(got), to_host(expected)
    limit = EQUATION_LIMIT
    # as many roundings as there are values: every sum here is shorter than that
    if got.dtype.char in "fF":
        limit = float(4 * np.finfo(np.float32).eps * np.sqrt(got.size))
    gap = abs(got - expected)
    error = float(gap.max() / abs(expected).max())
    worst = np.unravel_index(int(gap.argmax()), got.shape)
    index = tuple(int(i) for i in worst)
    values = complex(expected[worst]), complex(got[worst])
    return GradientResult(
        name,
        "value",
        got.shape,
        error,
        limit,
        bool(error <= limit),
        index,
        *values,
        got.size,
        0,
        note,
        equation,
    )


# ----------------------------------------------------------------- the paper's convention for
# complex gradients


def bin_counts(shape: tuple[int, int], band: Band | None = None) -> np.ndarray:
    """c_v: how often a stored bin of column v stands in the full spectrum of an image of `shape`
    (H, W).

    2, but 1 in column 0 and, for even W, in column W/2.  A band keeps the first columns and so
    their counts. Written here a second time, apart from `ops.fourier`, because it is what checks
    that module."""
    columns = shape[1] // 2 + 1 if band is None else band.spectrum_shape[1]
    return np.array([1.0 if v in (0, shape[1] / 2) else 2.0 for v in range(columns)])


def from_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """dL/dRe X + i dL/dIm X of the stored bins from the paper's "dL/dX*" (Eqs. 5-11): times c / (H
    W).

    The paper's dX = rfft2(dx) leaves out the 1/(H W) of the inverse transform and takes every bin
    of the full spectrum by itself.  A stored bin stands for itself and for its mirror image, c_v
    bins in all.

    dxf: (..., bins), full half spectrum or banded; shape: (H, W) of the image.
    """
    factor = bin_counts(shape, band) / (shape[0] * shape[1])
    return dxf * array_module(dxf).asarray(factor, dxf.real.dtype)


def to_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """The paper's "dL/dX*" from dL/dRe X + i dL/dIm X: times H W / c, the inverse of `from_paper`."""
    factor = shape[0] * shape[1] / bin_counts(shape, band)
    return dxf * array_module(dxf).asarray(factor, dxf.real.dtype)


# -------------------------------------------------------------------------------------------------
# the ops


def _conv(place: Place) -> Iterator[Pair | GradientResult]:
    rng = np.random.default_rng(1)
    for (kh, kw), padding, dilation in (
        ((3, 3), 1, 1),
        ((3, 3), 2, 2),
        ((2, 4), 0, 1),
        ((1, 1), 0, 1),
        ((3, 2), 1, 2),
    ):
        x, w, b = (place(rng.standard_normal(s)) for s in ((2, 3, 5, 7), (4, 3, kh, kw), (4,)))
        name = f"conv2d {kh}x{kw} padding {padding} dilation {dilation}"
        options = {"padding": padding, "dilation": dilation}
        y = conv.conv2d_forward(x, w, b, **options)[0]
        yield _value(
            name, "", y, _correlation(x, w, b, padding, dilation), "against sums over taps"
        )
        inputs, names = (x, w, b), ("dx", "dw", "db")
        yield Pair(name, "", conv.conv2d_forward, conv.conv2d_backward, inputs, names, options)

        def without_input_gradient(dy: Array, cache: conv.ConvCache) -> Sequence[Array]:
            dx, *gradients = conv.conv2d_backward(dy, cache, input_gradient=False)
            assert dx is None
            return gradients

        forward = functools.partial(conv.conv2d_forward, x, **options)
        yield Pair(f"{name}, no dx", "", forward, without_input_gradient, inputs[1:], names[1:], {})


def _winograd(place: Place) -> Iterator[Pair | GradientResult]:
    if place.device.kind != "cpu":
        return  # there kernels/conv.cu does the convolution
    rng = np.random.default_rng(11)
    for width in (5, 8, 9, 11):  # the last tile is full, or lacks one column, two, three
        x, w, b = (place(rng.standard_normal(s)) for s in ((3, 6, width), (4, 3, 3, 3), (4,)))
        name = f"conv2d by Winograd, width {width}"
        y = winograd.conv2d_forward(x, w, b)[0]
        yield _value(name, "", y, _correlation(x[None], w, b, 1, 1)[0], "against sums over taps")
        forward, backward = winograd.conv2d_forward, winograd.conv2d_backward
        yield Pair(name, "", forward, backward, (x, w, b), ("dx", "dw", "db"), {})


def _strip(place: Place) -> Iterator[Pair | GradientResult]:
    """The fast network with its transform, three convolutions deep: whole images, a map inside one,
    some rows.
    """
    # float32's steps meet too many kinks of ReLU
    if place.device.kind == "cpu" and place.precision is np.float64:
        yield from _one_strip(place, (9, 11), (9, 11), None)
        yield from _one_strip(place, (10, 13), (6, 9), None)
        yield from _one_strip(place, (12, 9), (12, 9), (4, 9))


def _one_strip(
    place: Place, shape: tuple[int, int], size: tuple[int, int], rows: tuple[int, int] | None
) -> Iterator[Pair | GradientResult]:
    rng = np.random.default_rng(12)
    layers = (
        network.Conv(3, 4),
        network.Relu(),
        network.Conv(4, 3),
        network.Relu(),
        network.Conv(3, 5),
    )
    architecture = (*layers, network.Lrn(n=3, alpha=0.9, beta=0.75))
    shapes = network.parameter_shapes(architecture)
    parameters = [
        place(rng.standard_normal(s) * (0.6 if len(s) > 1 else 0.2)) for s in shapes.values()
    ]
    image, mean = place(rng.standard_normal((3, *shape))), place(rng.standard_normal((3, 1)))
    windows = place(rng.uniform(0.5, 1.5, size[0])), place(rng.uniform(0.5, 1.5, size[1]))
    band = fourier.make_band(size, (2, 3), place.precision)
    strip = Strip(
        architecture, BandDft(band, shape, windows), shape, rows, place.precision, backward=True
    )
    spectrum = np.empty((5, *band.spectrum_shape), np.result_type(place.precision, np.complex64))

    def forward(*values: Array) -> tuple[Array, Kernels]:
        kernels = make_kernels(dict(zip(shapes, values)), architecture)
        strip.forward(image.transpose(1, 0, 2)[strip.reads], mean, kernels, spectrum)
        return fourier.irfft2(spectrum, size, band), kernels

    def backward(dy: Array, kernels: Kernels) -> list[Array]:
        strip.forward(image.transpose(1, 0, 2)[strip.reads], mean, kernels, spectrum)
        gradients = strip.backward(fourier.rfft2(dy, band), kernels)
        return [gradient for pair in gradients for gradient in pair]

    features = network.features(
        (image - mean[:, None])[None], dict(zip(shapes, parameters)), architecture
    )[0]
    if rows:
        features[:, : rows[0]] = features[:, rows[1] :] = 0
    top, left = (shape[0] - size[0]) // 2, (shape[1] - size[1]) // 2
    windowed = features[:, top : top + size[0], left : left + size[1]] * np.outer(*windows)
    expected = fourier.irfft2(fourier.rfft2(windowed, band), size, band)
    name = f"strip {shape[0]}x{shape[1]}, map {size[0]}x{size[1]}, rows {rows or 'all'}"
    yield _value(name, "", forward(*parameters)[0], expected, "against network.features")
    yield Pair(name, "", forward, backward, parameters, [f"d{key}" for key in shapes], {})


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


def _relu(place: Place) -> Iterator[Pair | GradientResult]:
    x = place(np.random.default_rng(2).standard_normal((2, 3, 5, 4)))
    yield _value(
        "relu",
        "",
        relu.relu_forward(x)[0],
        np.where(to_host(x) > 0, to_host(x), 0),
        "by comparison",
    )
    yield Pair("relu", "", relu.relu_forward, relu.relu_backward, (x,), ("dx",), {})


def _lrn(place: Place) -> Iterator[Pair | GradientResult]:
    # alpha near 1: with the 2e-5 in use the term across channels is so small that no check would
    # miss it.
    rng = np.random.default_rng(3)
    cases = (
        (7, 5, 1.0, 0.9, 0.75),
        (4, 3, 2.0, 1.1, 0.6),
        (2, 5, 1.0, 1.0, 0.75),
        (3, 1, 1.0, 0.8, 0.75),
    )
    for channels, n, k, alpha, beta in cases:
        x = place(rng.standard_normal((2, channels, 3, 4)))
        name = f"lrn C={channels} n={n} k={k} alpha={alpha} beta={beta}"
        options: dict[str, Any] = {"n": n, "k": k, "alpha": alpha, "beta": beta}
        expected = to_host(x).astype(np.float64)
        sums = [
            (expected[:, max(c - n // 2, 0) : c + n // 2 + 1] ** 2).sum(1) for c in range(channels)
        ]
        expected *= (k + alpha * np.stack(sums, 1)) ** -beta
        yield _value(
            name, "", lrn.lrn_forward(x, **options)[0], expected, "against sums over channels"
        )
        yield Pair(name, "", lrn.lrn_forward, lrn.lrn_backward, (x,), ("dx",), options)


# ------------------------------------------------------------------- the Fourier transforms and the
# equations

# (H, W) and the limits of a band.  Odd, even and non-square; bands in an odd and in an even width.
GEOMETRIES: tuple[tuple[tuple[int, int], tuple[int, int] | None], ...] = (
    ((5, 7), None),
    ((6, 4), None),
    ((4, 5), None),
    ((9, 8), (2, 3)),
    ((7, 7), (3, 2)),
)


class _Problem(NamedTuple):
    """A random correlation-filter problem; names as in `ops.dcf`."""

    tag: str
    shape: tuple[int, int]
    band: Band | None
    template: Array  # (N, D, H, W)
    search: Array
    label: Array  # (H, W)
    lam: float
    template_f: Array  # (N, D, bins)
    search_f: Array
    label_f: Array  # (bins)
    energy: Array  # (N, 1, bins)
    filter_f: Array  # (N, D, bins)
    response_f: Array  # (N, bins)
    free_f: Array  # (N, bins), random: bins of no real image, for column 0 is not symmetric

    def pair(
        self,
        name: str,
        equation: str,
        forward: Callable[[Array], Any],
        backward: Callable[[Array], Any],
        wrt: Array,
        gradient: str,
    ) -> Pair:
        """A pair of one input whose backward pass needs no cache."""

        def forward_and_no_cache(x: Array) -> tuple[Array, None]:
            return forward(x), None

        def backward_of_no_cache(dy: Array, _: None) -> Array:
            return backward(dy)

        name = f"{name}, {self.tag}"
        return Pair(
            name, equation, forward_and_no_cache, backward_of_no_cache, (wrt,), (gradient,), {}
        )

    def to_bins(self, dresponse: Array, gradient_f: Callable[[Array], Array]) -> Array:
        """The gradient by stored bins that one of Eqs. 7, 9, 10 gives for the gradient by the
        response.
        """
        return from_paper(gradient_f(fourier.rfft2(dresponse, self.band)), self.shape, self.band)


def _problems(place: Place, channels: Sequence[int]) -> Iterator[_Problem]:
    """A problem for each of GEOMETRIES and each number of channels."""
    rng = np.random.default_rng(7)
    for shape, limits in GEOMETRIES:
        for d in channels:
            template, search = (place(rng.standard_normal((2, d, *shape))) for _ in range(2))
            label = place(rng.standard_normal(shape))
            lam = 0.3 * shape[0] * shape[1]  # a third of the energy of a channel in a bin
            band = limits and fourier.make_band(shape, limits, place.precision, array_module(label))
            template_f, search_f, label_f = (
                fourier.rfft2(a, band) for a in (template, search, label)
            )
            # Eqs. 2 and 3 written out: a broken function of ops.dcf must not spoil what it is
            # tested on.
            energy = (abs(template_f) ** 2).sum(1, keepdims=True) + lam
            filter_f = template_f * label_f.conj() / energy
            response_f = (filter_f.conj() * search_f).sum(1)
            free_f = rng.standard_normal(response_f.shape) + 1j * rng.standard_normal(
                response_f.shape
            )
            yield _Problem(
                tag=f"D={d} {shape[0]}x{shape[1]}"
                + (f" band {limits[0]},{limits[1]}" if limits else ""),
                shape=shape,
                band=band,
                template=template,
                search=search,
                label=label,
                lam=lam,
                template_f=template_f,
                search_f=search_f,
                label_f=label_f,
                energy=energy,
                filter_f=filter_f,
                response_f=response_f,
                free_f=place(free_f),
            )


def _exponents(shape: tuple[int, int], band: Band | None) -> tuple[np.ndarray, np.ndarray]:
    """exp(-2 pi i u r / H) for the stored rows u, and exp(-2 pi i v s / W) for the stored columns
    v.
    """
    (height, width), (rows, columns) = (
        shape,
        (shape[0], shape[1] // 2 + 1) if band is None else band.spectrum_shape,
    )
    u = np.arange(rows) if band is None else np.arange(rows) - rows * (np.arange(rows) > rows // 2)
    by_row = np.exp(-2j * np.pi * np.outer(u, np.arange(height)) / height)
    return by_row, np.exp(-2j * np.pi * np.outer(np.arange(columns), np.arange(width)) / width)


def _rfft2(p: _Problem) -> Iterator[Pair | GradientResult]:
    by_row, by_column = _exponents(p.shape, p.band)
    expected = np.einsum("ur,vs,ndrs->nduv", by_row, by_column, to_host(p.template), optimize=True)
    yield _value(
        f"rfft2, {p.tag}",
        "",
        fourier.rfft2(p.template, p.band),
        expected,
        "against the sum of exponentials",
    )
    yield p.pair(
        "rfft2 and adjoint",
        "",
        lambda x: fourier.rfft2(x, p.band),
        lambda dxf: fourier.rfft2_adjoint(dxf, p.shape, p.band),
        p.template,
        "dx",
    )


def _irfft2(p: _Problem) -> Iterator[Pair | GradientResult]:
    by_row, by_column = _exponents(p.shape, p.band)
    weighted = to_host(p.search_f) * bin_counts(p.shape, p.band) / (p.shape[0] * p.shape[1])
    expected = np.einsum(
        "ur,vs,nduv->ndrs", by_row.conj(), by_column.conj(), weighted, optimize=True
    ).real
    got = fourier.irfft2(p.search_f, p.shape, p.band)
    yield _value(f"irfft2, {p.tag}", "", got, expected, "against the sum of exponentials")
    yield p.pair(
        "irfft2 and adjoint",
        "",
        lambda xf: fourier.irfft2(xf, p.shape, p.band),
        lambda dx: fourier.irfft2_adjoint(dx, p.band),
        p.free_f,
        "dxf",
    )


def _equation_1(p: _Problem) -> Iterator[Pair | GradientResult]:
    """The ridge loss in the Fourier domain against the circular correlation of Eq. 1 by its
    definition.
    """
    if p.band is not None:  # a loss over pixels needs the whole spectrum
        return
    w, template = to_host(p.search), to_host(p.template)  # any filter will do
    residual = _circular_correlation(w, template).sum(1) - to_host(p.label)
    expected = (residual**2).sum((1, 2)) + p.lam * (w**2).sum((1, 2, 3))
    got = dcf.ridge_loss(fourier.rfft2(p.search), p.template, p.label, p.lam)
    yield _value(f"ridge loss, {p.tag}", "1", got, expected, "against sums over pixels")


def _circular_correlation(w: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(w * x)[r, s] = sum over a, b of w[a, b] x[r + a, s + b], indices modulo the size.

    (..., H, W) all.
    """
    total = np.zeros(np.broadcast_shapes(w.shape, image.shape))
    for a, b in np.ndindex(*w.shape[-2:]):
        total += w[..., a, b, None, None] * np.roll(image, (-a, -b), (-2, -1))
    return total


def _equation_2(p: _Problem) -> Iterator[Pair | GradientResult]:
    """The ridge loss of Eq. 1, which `equation 1` checks, is stationary (so, being convex, least)
    at Eq. 2.
    """
    if p.band is not None or p.label.dtype != np.float64:
        return

    def ridge_loss(w: np.ndarray) -> float:
        filter_f = fourier.rfft2(xp.asarray(w))
        return float(dcf.ridge_loss(filter_f, p.template, p.label, p.lam).sum())

    xp = array_module(p.label)
    solution = to_numpy(fourier.irfft2(dcf.learn_filter(p.template_f, p.label_f, p.lam), p.shape))
    yield _stationary(f"filter minimises ridge loss, {p.tag}", "2", ridge_loss, solution)


def _stationary(
    name: str, equation: str, loss: Callable[[np.ndarray], float], w: np.ndarray
) -> GradientResult:
    """Whether the numeric gradient of `loss` at w vanishes, relative to that at 0."""

    def largest_slope(at: np.ndarray) -> float:
        h = STEP[np.float64] * abs(w).max()
        axes = np.eye(w.size).reshape(w.size, *w.shape)
        slopes = [loss(at + h * axis) - loss(at - h * axis) for axis in axes]
        return float(abs(np.array(slopes)).max() / (2 * h))

    error, limit = largest_slope(w) / largest_slope(np.zeros_like(w)), EQUATION_LIMIT
    note = "largest slope at the solution over that at 0"
    return GradientResult(
        name, "dw = 0", w.shape, error, limit, error <= limit, note=note, equation=equation
    )


def _equation_3(p: _Problem) -> Iterator[Pair | GradientResult]:
    """The response against circular correlation by definition; with a band, of the band-limited
    filter.
    """
    w = to_host(fourier.irfft2(p.filter_f, p.shape, p.band))
    expected = _circular_correlation(w, to_host(p.search)).sum(1)
    response = dcf.respond(p.filter_f, p.search_f, p.shape, p.band)
    yield _value(f"response, {p.tag}", "3", response, expected, "against sums over pixels")


def _equation_4(place: Place) -> Iterator[Pair | GradientResult]:
    """The data term of the objective, with one label for all and with one for each response; for an
    empty batch too.
    """
    rng = np.random.default_rng(4)

    def backward(dloss: float, cache: loss.LossCache) -> Array:
        return loss.response_loss_backward(cache, dloss)

    for n, label_shape in ((3, (5, 4)), (3, (3, 5, 4)), (1, (5, 4)), (0, (5, 4))):
        response, label = (
            place(rng.standard_normal((n, 5, 4))),
            place(rng.standard_normal(label_shape)),
        )
        name = f"response loss, N={n}, label {label_shape}"
        if n:
            expected = ((to_host(response) - to_host(label)) ** 2).sum((1, 2)).mean()
            value = place(np.array(loss.response_loss_forward(response, label)[0]))
            yield _value(name, "4", value, expected, "against the mean of sums over pixels")
        yield Pair(
            name,
            "4",
            loss.response_loss_forward,
            backward,
            (response,),
            ("dresponse",),
            {"label": label},
        )


def _equation_5(p: _Problem) -> Iterator[Pair | GradientResult]:
    """dL/dg^* = F(dL/dg) for g = F^-1(g^), and dL/dg = F^-1(dL/dg^*) for g^ = F(g)."""
    yield p.pair(
        "F of dg",
        "5",
        lambda gf: fourier.irfft2(gf, p.shape, p.band),
        lambda dg: p.to_bins(dg, lambda dgf: dgf),
        p.free_f,
        "dgf",
    )
    yield p.pair(
        "F^-1 of dgf",
        "5",
        lambda g: fourier.rfft2(g, p.band),
        lambda dgf: fourier.irfft2(to_paper(dgf, p.shape, p.band), p.shape, p.band),
        p.search,
        "dg",
    )


def _equation_6(p: _Problem) -> Iterator[Pair | GradientResult]:
    """Bin by bin: the gradient of the loss itself by the bins of the response."""

    def forward(response_f: Array) -> tuple[float, loss.LossCache]:
        return loss.response_loss_forward(fourier.irfft2(response_f, p.shape, p.band), p.label)

    def backward(dloss: float, cache: loss.LossCache) -> Array:
        return p.to_bins(loss.response_loss_backward(cache, dloss), lambda dresponse_f: dresponse_f)

    yield Pair(
        f"loss by response bins, {p.tag}", "6", forward, backward, (p.free_f,), ("dresponse_f",), {}
    )


def _equation_7(p: _Problem) -> Iterator[Pair | GradientResult]:
    yield p.pair(
        "search bins",
        "7",
        lambda search_f: dcf.respond(p.filter_f, search_f, p.shape, p.band),
        lambda dresponse: p.to_bins(dresponse, lambda df: dcf.search_gradient_f(df, p.filter_f)),
        p.search_f,
        "dsearch_f",
    )


def _equation_8(p: _Problem) -> Iterator[Pair | GradientResult]:
    yield p.pair(
        "search",
        "8",
        lambda search: fourier.rfft2(search, p.band),
        lambda dsearch_f: dcf.to_image(to_paper(dsearch_f, p.shape, p.band), p.shape, p.band),
        p.search,
        "dsearch",
    )


def _response_of_independent(p: _Problem, template_f: Array, template_conj_f: Array) -> Array:
    """Eqs. 2 and 3 with phi^(x) and its conjugate as two independent variables, as Eqs. 9 and 10
    treat them.

    g^* = sum_l y^* phi^l(x) phi^l(z)^* / (sum_k phi^k(x) phi^k(x)^* + lambda)
    """
    energy = (template_f * template_conj_f).sum(1, keepdims=True) + p.lam
    response_conj_f = (p.label_f.conj() * template_f * p.search_f.conj() / energy).sum(1)
    return fourier.irfft2(response_conj_f.conj(), p.shape, p.band)


def _by_template(p: _Problem, dresponse_f: Array) -> Array:
    return dcf.template_gradient_f(
        dresponse_f, p.template_f, p.search_f, p.label_f, p.response_f, p.energy
    )


def _by_conjugate(p: _Problem, dresponse_f: Array) -> Array:
    return dcf.template_conj_gradient_f(dresponse_f, p.template_f, p.response_f, p.energy)


def _equation_9(p: _Problem) -> Iterator[Pair | GradientResult]:
    """The derivative of a holomorphic function A: dL = Re(dA), so dL/dRe + i dL/dIm is its
    conjugate.
    """
    yield p.pair(
        "template bins",
        "9",
        lambda template_f: _response_of_independent(p, template_f, p.template_f.conj()),
        lambda dresponse: p.to_bins(dresponse, lambda df: _by_template(p, df)).conj(),
        p.template_f,
        "by_template",
    )


def _equation_10(p: _Problem) -> Iterator[Pair | GradientResult]:
    """As Eq. 9, by the conjugate."""
    yield p.pair(
        "conjugate template bins",
        "10",
        lambda template_conj_f: _response_of_independent(p, p.template_f, template_conj_f),
        lambda dresponse: p.to_bins(dresponse, lambda df: _by_conjugate(p, df)).conj(),
        p.template_f.conj(),
        "by_conjugate",
    )


def _equation_11(p: _Problem) -> Iterator[Pair | GradientResult]:
    def forward(template: Array) -> Array:
        filter_f = dcf.learn_filter(fourier.rfft2(template, p.band), p.label_f, p.lam)
        return dcf.respond(filter_f, p.search_f, p.shape, p.band)

    def backward(dresponse: Array) -> Array:
        df = fourier.rfft2(dresponse, p.band)
        return dcf.template_gradient(_by_template(p, df), _by_conjugate(p, df), p.shape, p.band)

    yield p.pair("template", "11", forward, backward, p.template, "dtemplate")


def _dcf(p: _Problem) -> Iterator[Pair | GradientResult]:
    """The whole layer: its value by Eqs. 2 and 3, its gradients by Eqs. 5 to 11."""
    name = f"dcf, {p.tag}"
    options = {"label_f": p.label_f, "lam": p.lam, "band": p.band}
    response = dcf.dcf_forward(p.template, p.search, **options)[0]
    expected = fourier.irfft2(p.response_f, p.shape, p.band)
    yield _value(name, "2-3", response, expected, "against the formulas written out")
    inputs, names = (p.template, p.search), ("dtemplate", "dsearch")
    yield Pair(name, "5-11", dcf.dcf_forward, dcf.dcf_backward, inputs, names, options)


def _equation_13(place: Place) -> Iterator[Pair | GradientResult]:
    """The online filter after three frames is Eq. 13, and minimises Eq. 12 when D = 1 and sum
    beta_t = 1.

    The released codes' rule too, against the same sums over frames.
    """
    rng = np.random.default_rng(13)
    shape, lam, rate = (5, 6), 10.0, 0.3
    label = place(rng.standard_normal(shape))
    label_f = fourier.rfft2(label)
    weights = [(1 - rate) ** 2, rate * (1 - rate), rate]  # beta_t of a running mean

    def mean(terms: Iterable[Array]) -> Array:
        return sum(b * term for b, term in zip(weights, terms, strict=True))

    for d in (1, 3):
        templates = [place(rng.standard_normal((1, d, *shape))) for _ in weights]
        templates_f = [fourier.rfft2(template) for template in templates]
        energies = [(abs(t[0]) ** 2).sum(0) + lam for t in templates_f]
        ratio = filter_module.OnlineFilter(label_f, lam, rate, "ratio")
        averages = filter_module.OnlineFilter(label_f, lam, rate, "averages")
        for template_f in templates_f:
            ratio.update(template_f[0])
            averages.update(template_f[0])
        name, note = f"online filter, D={d} {shape[0]}x{shape[1]}", "updates against the sums"
        filter_f = mean(label_f.conj() * t[0] for t in templates_f) / mean(energies)
        averages_f = (
            mean(t[0] for t in templates_f) * mean(label_f / energy for energy in energies).conj()
        )
        search_f = fourier.rfft2(place(rng.standard_normal((2, d, *shape))))
        for rule, model, expected in (
            ("ratio", ratio, filter_f),
            ("averages", averages, averages_f),
        ):
            yield _value(f"{name}, {rule}", "13", model.filter_f, expected, note)
            response_f = dcf.correlate(expected[None], search_f)
            # search windows; the model's memory is made for the first call and anew for the second
            for s in (1, 2):
                got = model.response_f(search_f[:s])
                yield _value(f"{name}, {rule}, response of {s}", "3", got, response_f[:s], note)
        if place.device.kind == "cpu" and place.precision is np.float64:
            beta, stack = np.array(list(weights)), np.concatenate(templates)
            stack_f = fourier.rfft2(stack)
            exact = filter_module.exact_filter(stack_f, beta, label_f, lam)
            by_bins = np.empty_like(exact)
            for u, v in np.ndindex(*label_f.shape):
                x = stack_f[:, :, u, v]
                matrix = sum(b * np.outer(t, t.conj()) for b, t in zip(beta, x)) + lam * np.eye(d)
                by_bins[:, u, v] = np.linalg.solve(
                    matrix, sum(b * t for b, t in zip(beta, x)) * label_f[u, v].conj()
                )
            yield _value(f"{name}, exact filter", "12-13", exact, by_bins, "bin by bin")
            got = filter_module.incremental_loss(exact, stack, beta, label, lam)
            expected = _incremental_loss(
                templates, label, weights, lam, fourier.irfft2(exact, shape)
            )
            yield _value(
                f"{name}, Eq. 12",
                "12-13",
                np.array([got]),
                np.array([expected]),
                "against the sums",
            )
        if d == 1 and place.precision is np.float64:
            incremental_loss = functools.partial(_incremental_loss, templates, label, weights, lam)
            solution = to_numpy(fourier.irfft2(filter_f, shape))
            yield _stationary(f"{name} minimises Eq. 12", "12-13", incremental_loss, solution)


def _incremental_loss(
    templates: Sequence[Array], label: Array, weights: Sequence[float], lam: float, w: np.ndarray
) -> float:
    """Eq. 12: sum_t beta_t || sum_l w^l * phi^l(x_t) - y ||^2 + lambda sum_l ||w^l||^2.  w: (D, H,
    W).
    """
    filter_f = fourier.rfft2(array_module(label).asarray(w))[None]
    errors = [float(dcf.ridge_loss(filter_f, template, label, 0.0)[0]) for template in templates]
    return float(np.dot(weights, errors)) + lam * float((w**2).sum())


# --------------------------------------------------------------------------------- from images to
# the loss


def _chain(place: Place) -> Iterator[Pair | GradientResult]:
    """Images to loss: both branches through one small network, then Eqs. 2-4; down to conv1 and
    images.
    """
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
        values = [
            place(array + 0.1 * rng.standard_normal(array.shape)) for array in parameters.values()
        ]
        images = [place(rng.standard_normal((2, 3, *size))) for _ in range(2)]
        shape = tuple(network.feature_size(n, architecture, padding) for n in size)
        chain = _Chain(
            architecture,
            padding,
            list(parameters),
            place(rng.standard_normal(shape)),
            input_gradient,
        )
        gradients = [f"d{name}" for name in parameters]
        # every parameter; the images along random directions
        options: dict[str, Any] = {"exhaustive_limit": 100}
        name = f"network to loss, padding {padding}"
        if input_gradient:
            inputs, gradients = (*values, *images), [*gradients, "dtemplate image", "dsearch image"]
        else:
            name, inputs, options = f"{name}, no dx", tuple(values), {**options, "images": images}
        yield Pair(name, "", chain.forward, chain.backward, inputs, gradients, options)


class _Chain(NamedTuple):
    """The training objective, without weight decay, as a pair."""

    architecture: network.Architecture
    padding: str
    names: list[str]  # of the parameters
    label: Array  # (H', W')
    input_gradient: bool

    def forward(
        self, *inputs: Array, images: Sequence[Array] = ()
    ) -> tuple[float, tuple[Any, ...]]:
        """inputs: the parameters, then template and search unless these are given as `images`."""
        named = dict(zip(self.names, inputs))
        template, search = images or inputs[len(named) :]
        template, template_caches = network.forward(
            template, named, self.architecture, padding=self.padding
        )
        search, search_caches = network.forward(
            search, named, self.architecture, padding=self.padding
        )
        response, dcf_cache = dcf.dcf_forward(template, search, fourier.rfft2(self.label), 5.0)
        value, loss_cache = loss.response_loss_forward(response, self.label)
        return value, (template_caches, search_caches, dcf_cache, loss_cache)

    def backward(self, dloss: float, caches: tuple[Any, ...]) -> tuple[Array, ...]:
        template_caches, search_caches, dcf_cache, loss_cache = caches
        dtemplate, dsearch = dcf.dcf_backward(
            loss.response_loss_backward(loss_cache, dloss), dcf_cache
        )
        dtemplate, by_template = network.backward(
            dtemplate, template_caches, input_gradient=self.input_gradient
        )
        dsearch, by_search = network.backward(
            dsearch, search_caches, input_gradient=self.input_gradient
        )
        parameters = [by_template[name] + by_search[name] for name in self.names]
        if self.input_gradient:
            return (*parameters, dtemplate, dsearch)
        assert dtemplate is None and dsearch is None
        return tuple(parameters)


# --------------------------------------------------------------------------------------------------- the run


def _per_problem(
    case: Callable[[_Problem], Iterator[Pair | GradientResult]], *channels: int
) -> Case:
    """A case out of a function of one problem."""

    def run(place: Place) -> Iterator[Pair | GradientResult]:
        for problem in _problems(place, channels):
            yield from case(problem)

    return run


CASES: dict[str, Case] = {
    "conv": _conv,
    "winograd": _winograd,
    "strip": _strip,
    "relu": _relu,
    "lrn": _lrn,
    "rfft2": _per_problem(_rfft2, 2),
    "irfft2": _per_problem(_irfft2, 2),
    "equation 1": _per_problem(_equation_1, 1, 3),
    "equation 2": _per_problem(_equation_2, 1, 3),
    "equation 3": _per_problem(_equation_3, 3),
    "equation 4": _equation_4,
    "equation 5": _per_problem(_equation_5, 1),
    "equation 6": _per_problem(_equation_6, 1),
    "equation 7": _per_problem(_equation_7, 3),
    "equation 8": _per_problem(_equation_8, 3),
    "equation 9": _per_problem(_equation_9, 3),
    "equation 10": _per_problem(_equation_10, 3),
    "equation 11": _per_problem(_equation_11, 3),
    "equation 13": _equation_13,
    "dcf": _per_problem(_dcf, 1, 3),
    "chain": _chain,
}


def run_all(
    device: str = "cpu", only: Iterable[str] | None = None, precision: Any = np.float64
) -> list[GradientResult]:
    """Check every op, every equation and the whole chain from images to loss; the rows of `dcfnet
    gradcheck`.

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
        raise ValueError(f"run_all: only must be of {', '.join(CASES)}, got {', '.join(unknown)}")
    target = select_device(device)
    with cupy().cuda.Device(target.index) if target.kind == "cuda" else contextlib.nullcontext():
        for name in chosen:
            try:
                for item in CASES[name](Place(target, precision)):
                    yield from _check_pair(item) if isinstance(item, Pair) else [item]
            except (
                Exception
            ) as error:  # an op may raise anything, and the other cases must still run
                yield _not_comparable(name, "", (), f"{type(error).__name__}: {error}")


def _check_pair(pair: Pair) -> list[GradientResult]:
    """`check`, with a result for a failure too."""
    options = {"name": pair.name, "gradient_names": pair.gradient_names, **pair.options}
    try:
        results = check(pair.forward, pair.backward, pair.inputs, **options)
    except GradientError as error:
        results = error.results
        if not results:
            return [_not_comparable(pair.name, pair.equation, pair.inputs[0].shape, str(error))]
    return [result._replace(equation=pair.equation) for result in results]


def _not_comparable(name: str, equation: str, shape: tuple[int, ...], note: str) -> GradientResult:
    return GradientResult(
        name, "all", shape, np.inf, EQUATION_LIMIT, False, note=note, equation=equation
    )


def sweep_all() -> list[Sweep]:
    """`checker.sweep` of the first pair of every case that has one, on the CPU in float64: curves
    for the report.
    """
    curves: list[Sweep] = []
    for case in CASES.values():
        pair = next(
            (item for item in case(Place(Device("cpu"), np.float64)) if isinstance(item, Pair)),
            None,
        )
        if pair is not None:
            options = {
                name: value for name, value in pair.options.items() if name != "exhaustive_limit"
            }
            options |= {"name": pair.name, "gradient_names": pair.gradient_names}
            curves.extend(sweep(pair.forward, pair.backward, pair.inputs, **options))
    return curves
