"""The transforms and every equation of the paper, checked: values and gradients of random problems.

The spectrum of a Gaussian label is real, or nearly so, and hides a wrong conjugate: labels here are
random.  Sizes are odd, even and not square, and D > 1.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from .. import filter as filter_module
from ..backend import Array, array_module, to_numpy
from ..ops import dcf, fourier, loss
from ..ops.fourier import Band
from .checker import STEP
from .pair import VALUE_LIMIT, Findings, GradientResult, Pair, Place, compare, to_host

# --- the paper's convention for complex gradients ---


def bin_counts(shape: tuple[int, int], band: Band | None = None) -> np.ndarray:
    """c_v: how often a stored bin of column v stands in the full spectrum of an image (H, W).

    2, but 1 in column 0 and, for even W, in column W/2.  A band keeps the first columns and so
    their counts.  Written here a second time, apart from `ops.fourier`, because it is what checks
    that module.
    """
    columns = shape[1] // 2 + 1 if band is None else band.spectrum_shape[1]
    return np.array([1.0 if v in (0, shape[1] / 2) else 2.0 for v in range(columns)])


def from_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """dL/dRe X + i dL/dIm X of the stored bins from the paper's "dL/dX*": times c / (H W).

    The paper's dX = rfft2(dx) of Eqs. 5-11 leaves out the 1/(H W) of the inverse transform and
    takes every bin of the full spectrum by itself.  A stored bin stands for itself and for its
    mirror image, c_v bins in all.

    dxf: (..., bins), full half spectrum or banded; shape: (H, W) of the image.
    """
    factor = bin_counts(shape, band) / (shape[0] * shape[1])
    return dxf * array_module(dxf).asarray(factor, dxf.real.dtype)


def to_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """The paper's "dL/dX*" from dL/dRe X + i dL/dIm X: times H W / c, `from_paper` undone."""
    factor = shape[0] * shape[1] / bin_counts(shape, band)
    return dxf * array_module(dxf).asarray(factor, dxf.real.dtype)


# --- random problems ---

Map = Callable[[Array], Array]
# (H, W) and the limits of a band.  Odd, even and non-square; bands in an odd and in an even width.
Geometry = tuple[tuple[int, int], tuple[int, int] | None]
WHOLE: list[Geometry] = [((5, 7), None), ((6, 4), None), ((4, 5), None)]
BANDED: list[Geometry] = [((9, 8), (2, 3)), ((7, 7), (3, 2))]


class Problem:
    """A random correlation-filter problem; names as in `ops.dcf`."""

    def __init__(
        self, place: Place, rng: np.random.Generator, channels: int, geometry: Geometry
    ) -> None:
        shape, limits = geometry
        self.tag = f"D={channels} {shape[0]}x{shape[1]}"
        self.template, self.search = (place.normal(rng, 2, channels, *shape) for _ in range(2))
        self.label = place.normal(rng, *shape)
        self.shape = shape
        self.lam = 0.3 * shape[0] * shape[1]  # a third of the energy of a channel in a bin
        self.band: Band | None = None
        if limits:
            self.tag += f" band {limits[0]},{limits[1]}"
            xp = array_module(self.label)
            self.band = fourier.make_band(shape, limits, place.precision, xp)
        self.template_f, self.search_f = self.rfft2(self.template), self.rfft2(self.search)
        self.label_f = self.rfft2(self.label)
        # Eqs. 2 and 3 written out: a broken function of ops.dcf must not spoil what it is tested on
        self.energy = (abs(self.template_f) ** 2).sum(1, keepdims=True) + self.lam
        self.filter_f = self.template_f * self.label_f.conj() / self.energy
        self.response_f = (self.filter_f.conj() * self.search_f).sum(1)
        # bins of no real image, for column 0 is not symmetric
        real, imaginary = (rng.standard_normal(self.response_f.shape) for _ in range(2))
        self.free_f = place(real + 1j * imaginary)

    def rfft2(self, x: Array) -> Array:
        return fourier.rfft2(x, self.band)

    def irfft2(self, xf: Array) -> Array:
        return fourier.irfft2(xf, self.shape, self.band)

    def to_bins(self, by_paper: Array) -> Array:
        """The gradient by stored bins from what Eqs. 5-10 give."""
        return from_paper(by_paper, self.shape, self.band)

    def to_paper(self, by_bins: Array) -> Array:
        return to_paper(by_bins, self.shape, self.band)

    def by_template(self, dresponse_f: Array) -> Array:
        known = self.template_f, self.search_f, self.label_f, self.response_f, self.energy
        return dcf.template_gradient_f(dresponse_f, *known)

    def by_conjugate(self, dresponse_f: Array) -> Array:
        known = self.template_f, self.response_f, self.energy
        return dcf.template_conj_gradient_f(dresponse_f, *known)

    def pair(
        self, equation: str, name: str, forward: Map, backward: Map, gradient: tuple[str, Array]
    ) -> Pair:
        """A pair whose backward pass needs no cache; gradient: its name, and by what it is."""
        pair = (lambda x: (forward(x), None)), (lambda dy, _: backward(dy))
        names, inputs = gradient[:1], gradient[1:]
        return Pair(f"{name}, {self.tag}", *pair, inputs, names, equation)


def each_problem(
    case: Callable[[Problem], Findings], *channels: int
) -> Callable[[Place], Findings]:
    """A case out of a function of one problem: each geometry with each number of channels."""

    def run(place: Place) -> Findings:
        rng = np.random.default_rng(7)
        for geometry in WHOLE + BANDED:
            for d in channels:
                yield from case(Problem(place, rng, d, geometry))

    return run


def circular_correlation(w: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(w * x)[r, s] = sum over a, b of w[a, b] x[r + a, s + b], indices modulo (H, W).

    (..., H, W) all.
    """
    total = np.zeros(np.broadcast_shapes(w.shape, image.shape))
    for a, b in np.ndindex(*w.shape[-2:]):
        total += w[..., a, b, None, None] * np.roll(image, (-a, -b), (-2, -1))
    return total


def _stationary(
    name: str, equation: str, loss_of: Callable[[np.ndarray], float], w: np.ndarray
) -> GradientResult:
    """Whether the numeric gradient of a loss at w vanishes, relative to that at 0."""

    def largest_slope(at: np.ndarray) -> float:
        h = STEP[np.float64] * abs(w).max()
        axes = np.eye(w.size).reshape(w.size, *w.shape)
        slopes = [loss_of(at + h * axis) - loss_of(at - h * axis) for axis in axes]
        return float(abs(np.array(slopes)).max() / (2 * h))

    error = largest_slope(w) / largest_slope(np.zeros_like(w))
    found = error, VALUE_LIMIT, error <= VALUE_LIMIT
    note = "largest slope at the solution over that at 0"
    return GradientResult(name, "dw = 0", w.shape, *found, note=note, equation=equation)


# --- the transforms ---


def _exponents(p: Problem) -> tuple[np.ndarray, np.ndarray]:
    """exp(-2 pi i u r / H) for the stored rows u, exp(-2 pi i v s / W) for the stored columns v."""
    (height, width), columns = p.shape, p.label_f.shape[1]
    u = np.arange(len(p.label_f))
    if p.band is not None:
        u = u - len(u) * (u > len(u) // 2)
    by_row = np.exp(-2j * np.pi * np.outer(u, np.arange(height)) / height)
    return by_row, np.exp(-2j * np.pi * np.outer(np.arange(columns), np.arange(width)) / width)


def _rfft2(p: Problem) -> Findings:
    x, note = to_host(p.template), "against the sum of exponentials"
    expected = np.einsum("ur,vs,ndrs->nduv", *_exponents(p), x, optimize=True)
    yield compare(f"rfft2, {p.tag}", p.rfft2(p.template), expected, note)
    adjoint = partial(fourier.rfft2_adjoint, shape=p.shape, band=p.band)
    yield p.pair("", "rfft2 and adjoint", p.rfft2, adjoint, ("dx", p.template))


def _irfft2(p: Problem) -> Findings:
    by_row, by_column = (exponents.conj() for exponents in _exponents(p))
    xf = to_host(p.search_f) * bin_counts(p.shape, p.band) / (p.shape[0] * p.shape[1])
    expected = np.einsum("ur,vs,nduv->ndrs", by_row, by_column, xf, optimize=True).real
    note = "against the sum of exponentials"
    yield compare(f"irfft2, {p.tag}", p.irfft2(p.search_f), expected, note)
    adjoint = partial(fourier.irfft2_adjoint, band=p.band)
    yield p.pair("", "irfft2 and adjoint", p.irfft2, adjoint, ("dxf", p.free_f))


# --- Eqs. 1 to 4 ---


def _equation_1(p: Problem) -> Findings:
    """The ridge loss in the Fourier domain against the circular correlation by its definition."""
    if p.band is not None:  # a loss over pixels needs the whole spectrum
        return
    w, template = to_host(p.search), to_host(p.template)  # any filter will do
    residual = circular_correlation(w, template).sum(1) - to_host(p.label)
    expected = (residual**2).sum((1, 2)) + p.lam * (w**2).sum((1, 2, 3))
    got = dcf.ridge_loss(p.rfft2(p.search), p.template, p.label, p.lam)
    yield compare(f"ridge loss, {p.tag}", got, expected, "against sums over pixels", "1")


def _equation_2(p: Problem) -> Findings:
    """The ridge loss, which `equation 1` checks, is stationary (so, being convex, least) there."""
    if p.band is not None or p.label.dtype != np.float64:
        return
    xp = array_module(p.label)

    def ridge_loss(w: np.ndarray) -> float:
        filter_f = p.rfft2(xp.asarray(w))
        return float(dcf.ridge_loss(filter_f, p.template, p.label, p.lam).sum())

    solution = to_numpy(p.irfft2(dcf.learn_filter(p.template_f, p.label_f, p.lam)))
    yield _stationary(f"filter minimises ridge loss, {p.tag}", "2", ridge_loss, solution)


def _equation_3(p: Problem) -> Findings:
    """The response against circular correlation by definition, of the band-limited filter too."""
    w = to_host(p.irfft2(p.filter_f))
    expected = circular_correlation(w, to_host(p.search)).sum(1)
    response = dcf.respond(p.filter_f, p.search_f, p.shape, p.band)
    yield compare(f"response, {p.tag}", response, expected, "against sums over pixels", "3")


def _loss_backward(dloss: float, cache: loss.LossCache) -> Array:
    return loss.response_loss_backward(cache, dloss)


def _equation_4(place: Place) -> Findings:
    """The data term, with one label for all and with one for each response; an empty batch too."""
    rng = np.random.default_rng(4)
    forward = loss.response_loss_forward
    for n, label_shape in ((3, (5, 4)), (3, (3, 5, 4)), (1, (5, 4)), (0, (5, 4))):
        response, label = place.normal(rng, n, 5, 4), place.normal(rng, *label_shape)
        name = f"response loss, N={n}, label {label_shape}"
        if n:
            expected = ((to_host(response) - to_host(label)) ** 2).sum((1, 2)).mean()
            value = place(np.array(forward(response, label)[0]))
            yield compare(name, value, expected, "against the mean of sums over pixels", "4")
        inputs, names = (response,), ("dresponse",)
        yield Pair(name, forward, _loss_backward, inputs, names, "4", {"label": label})


# --- Eqs. 5 to 11 ---


def _equation_5(p: Problem) -> Findings:
    """dL/dg^* = F(dL/dg) for g = F^-1(g^), and dL/dg = F^-1(dL/dg^*) for g^ = F(g)."""
    yield p.pair("5", "F of dg", p.irfft2, lambda dg: p.to_bins(p.rfft2(dg)), ("dgf", p.free_f))
    by_paper = ("dg", p.search)
    yield p.pair("5", "F^-1 of dgf", p.rfft2, lambda dgf: p.irfft2(p.to_paper(dgf)), by_paper)


def _equation_6(p: Problem) -> Findings:
    """Bin by bin: the gradient of the loss itself by the bins of the response."""

    def forward(response_f: Array) -> tuple[float, loss.LossCache]:
        return loss.response_loss_forward(p.irfft2(response_f), p.label)

    def backward(dloss: float, cache: loss.LossCache) -> Array:
        return p.to_bins(p.rfft2(_loss_backward(dloss, cache)))

    name, names = f"loss by response bins, {p.tag}", ("dresponse_f",)
    yield Pair(name, forward, backward, (p.free_f,), names, equation="6")


def _equation_7(p: Problem) -> Findings:
    def forward(search_f: Array) -> Array:
        return dcf.respond(p.filter_f, search_f, p.shape, p.band)

    def backward(dresponse: Array) -> Array:
        return p.to_bins(dcf.search_gradient_f(p.rfft2(dresponse), p.filter_f))

    yield p.pair("7", "search bins", forward, backward, ("dsearch_f", p.search_f))


def _equation_8(p: Problem) -> Findings:
    def backward(dsearch_f: Array) -> Array:
        return dcf.to_image(p.to_paper(dsearch_f), p.shape, p.band)

    yield p.pair("8", "search", p.rfft2, backward, ("dsearch", p.search))


def _response_of_independent(p: Problem, template_f: Array, template_conj_f: Array) -> Array:
    """Eqs. 2 and 3 with phi^(x) and its conjugate as independent variables, as in Eqs. 9 and 10.

    g^* = sum_l y^* phi^l(x) phi^l(z)^* / (sum_k phi^k(x) phi^k(x)^* + lambda)
    """
    energy = (template_f * template_conj_f).sum(1, keepdims=True) + p.lam
    response_conj_f = (p.label_f.conj() * template_f * p.search_f.conj() / energy).sum(1)
    return p.irfft2(response_conj_f.conj())


def _equation_9(p: Problem) -> Findings:
    """A is holomorphic, so dL = Re(dA), and dL/dRe + i dL/dIm is the conjugate of dA."""

    def forward(template_f: Array) -> Array:
        return _response_of_independent(p, template_f, p.template_f.conj())

    def backward(dresponse: Array) -> Array:
        return p.to_bins(p.by_template(p.rfft2(dresponse))).conj()

    yield p.pair("9", "template bins", forward, backward, ("by_template", p.template_f))


def _equation_10(p: Problem) -> Findings:
    """As Eq. 9, by the conjugate."""

    def forward(template_conj_f: Array) -> Array:
        return _response_of_independent(p, p.template_f, template_conj_f)

    def backward(dresponse: Array) -> Array:
        return p.to_bins(p.by_conjugate(p.rfft2(dresponse))).conj()

    gradient = "by_conjugate", p.template_f.conj()
    yield p.pair("10", "conjugate template bins", forward, backward, gradient)


def _equation_11(p: Problem) -> Findings:
    def forward(template: Array) -> Array:
        filter_f = dcf.learn_filter(p.rfft2(template), p.label_f, p.lam)
        return dcf.respond(filter_f, p.search_f, p.shape, p.band)

    def backward(dresponse: Array) -> Array:
        df = p.rfft2(dresponse)
        return dcf.template_gradient(p.by_template(df), p.by_conjugate(df), p.shape, p.band)

    yield p.pair("11", "template", forward, backward, ("dtemplate", p.template))


def _dcf(p: Problem) -> Findings:
    """The whole layer: its value by Eqs. 2 and 3, its gradients by Eqs. 5 to 11."""
    name, inputs = f"dcf, {p.tag}", (p.template, p.search)
    options = {"label_f": p.label_f, "lam": p.lam, "band": p.band}
    response, expected = dcf.dcf_forward(*inputs, **options)[0], p.irfft2(p.response_f)
    yield compare(name, response, expected, "against the formulas written out", "2-3")
    names = ("dtemplate", "dsearch")
    yield Pair(name, dcf.dcf_forward, dcf.dcf_backward, inputs, names, "5-11", options)


# --- Eqs. 12 and 13 ---


class _Frames:
    """Three random frames, their filter of Eq. 13 as sums over frames, and Eq. 12 by its sums."""

    def __init__(self, place: Place, rng: np.random.Generator, label: Array, channels: int) -> None:
        self.label, self.label_f = label, fourier.rfft2(label)
        self.lam, self.rate = 10.0, 0.3
        # beta_t of a running mean
        self.weights = [(1 - self.rate) ** 2, self.rate * (1 - self.rate), self.rate]
        shape = 1, channels, *label.shape
        self.templates = [place.normal(rng, *shape) for _ in self.weights]
        self.templates_f = [fourier.rfft2(template)[0] for template in self.templates]
        self.energies = [(abs(t) ** 2).sum(0) + self.lam for t in self.templates_f]
        self.search_f = fourier.rfft2(place.normal(rng, 2, *shape[1:]))
        self.name = f"online filter, D={channels} {label.shape[0]}x{label.shape[1]}"

    def mean(self, terms: Iterable[Array]) -> Array:
        return sum(b * term for b, term in zip(self.weights, terms, strict=True))

    def by_ratio(self) -> Array:
        numerator = self.mean(self.label_f.conj() * t for t in self.templates_f)
        return numerator / self.mean(self.energies)

    def by_averages(self) -> Array:
        ratios = self.mean(self.label_f / energy for energy in self.energies)
        return self.mean(self.templates_f) * ratios.conj()

    def incremental_loss(self, w: np.ndarray) -> float:
        """sum_t beta_t || sum_l w^l * phi^l(x_t) - y ||^2 + lambda sum_l ||w^l||^2, w (D, H, W)."""
        filter_f = fourier.rfft2(array_module(self.label).asarray(w))[None]
        errors = [float(dcf.ridge_loss(filter_f, t, self.label, 0.0)[0]) for t in self.templates]
        return float(np.dot(self.weights, errors)) + self.lam * float((w**2).sum())


def _equation_13(place: Place) -> Findings:
    """The online filter after three frames is Eq. 13, or the released codes' rule.

    Eq. 13 minimises Eq. 12 when D = 1 and sum beta_t = 1.
    """
    rng = np.random.default_rng(13)
    label = place.normal(rng, 5, 6)
    for channels in (1, 3):
        frames = _Frames(place, rng, label, channels)
        for rule, expected in (("ratio", frames.by_ratio()), ("averages", frames.by_averages())):
            yield from _online_filter(frames, rule, expected)
        if place.precision is not np.float64:
            continue
        if place.device.kind == "cpu":
            yield from _exact_filter(frames)
        if channels == 1:
            solution = to_numpy(fourier.irfft2(frames.by_ratio(), label.shape))
            name = f"{frames.name} minimises Eq. 12"
            yield _stationary(name, "12-13", frames.incremental_loss, solution)


def _online_filter(frames: _Frames, rule: Any, expected: Array) -> Findings:
    name, note = f"{frames.name}, {rule}", "updates against the sums"
    model = filter_module.OnlineFilter(frames.label_f, frames.lam, frames.rate, rule)
    for template_f in frames.templates_f:
        model.update(template_f)
    yield compare(name, model.filter_f, expected, note, "13")
    response_f = dcf.correlate(expected[None], frames.search_f)
    # search windows; the model's memory is made for the first call and anew for the second
    for s in (1, 2):
        got = model.response_f(frames.search_f[:s])
        yield compare(f"{name}, response of {s}", got, response_f[:s], note, "3")


def _exact_filter(frames: _Frames) -> Findings:
    """The minimiser of Eq. 12 against a linear system in each bin, and Eq. 12 against its sums."""
    weights, lam, label_f = np.array(frames.weights), frames.lam, frames.label_f
    stack, stack_f = np.concatenate(frames.templates), np.stack(frames.templates_f)
    exact = filter_module.exact_filter(stack_f, weights, label_f, lam)
    by_bins = np.empty_like(exact)
    for u, v in np.ndindex(*label_f.shape):
        x = stack_f[:, :, u, v]
        matrix = np.einsum("t,td,te->de", weights, x, x.conj()) + lam * np.eye(x.shape[1])
        by_bins[:, u, v] = np.linalg.solve(matrix, weights @ x * label_f[u, v].conj())
    yield compare(f"{frames.name}, exact filter", exact, by_bins, "bin by bin", "12-13")
    got = filter_module.incremental_loss(exact, stack, weights, frames.label, lam)
    expected = frames.incremental_loss(fourier.irfft2(exact, frames.label.shape))
    name = f"{frames.name}, Eq. 12"
    yield compare(name, np.array([got]), np.array([expected]), "against the sums", "12-13")


CASES: dict[str, Callable[[Place], Findings]] = {
    "rfft2": each_problem(_rfft2, 2),
    "irfft2": each_problem(_irfft2, 2),
    "equation 1": each_problem(_equation_1, 1, 3),
    "equation 2": each_problem(_equation_2, 1, 3),
    "equation 3": each_problem(_equation_3, 3),
    "equation 4": _equation_4,
    "equation 5": each_problem(_equation_5, 1),
    "equation 6": each_problem(_equation_6, 1),
    "equation 7": each_problem(_equation_7, 3),
    "equation 8": each_problem(_equation_8, 3),
    "equation 9": each_problem(_equation_9, 3),
    "equation 10": each_problem(_equation_10, 3),
    "equation 11": each_problem(_equation_11, 3),
    "equation 13": _equation_13,
    "dcf": each_problem(_dcf, 1, 3),
}
