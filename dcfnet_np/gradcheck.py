"""Hand-written gradients against finite differences: a checker for anybody's op, and its run over ours.

**The checker.**  `check(forward, backward, inputs)` takes a pair in the library's form,
`y, cache = forward(*inputs)` and `gradients = backward(dy, cache)`, draws a random upstream gradient dy and
compares, in float64,

    analytic   what `backward` returns
    numeric    (L(x + h) - L(x - h)) / (2 h),    L = Re sum conj(dy) y,    h = step * max|x|

    error = max|numeric - analytic| / max|analytic|                         one number for every gradient

at every element of a small input and along random directions through a large one.  A wrong gradient raises
GradientError, which names the worst index and both values.

**Complex arrays.**  Inputs and outputs may be complex.  The gradient by a complex Z is dL/dRe Z + i dL/dIm Z,
the direction of steepest ascent.  The paper's "dL/dZ*" of Eqs. 5-11 is a multiple of it (see `ops.fourier`);
`from_paper` and `to_paper` are the only places that convert.

**Kinks.**  At a kink, such as ReLU's at 0, there is no derivative to compare with.  An element that disagrees
is looked at again with half the step: a smooth function shows the same slope and curvature, a kink others.
Where the kink is large enough to explain the disagreement the element is left out and counted; too many are a
failure.

**The run.**  `run_all` checks every op and every equation of the paper: the table of `dcfnet gradcheck`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import filter as filter_module
from . import network
from .backend import Array, array_module, cupy, select_device, to_device, to_numpy
from .ops import conv, dcf, fourier, loss, lrn, relu
from .ops.fourier import Band

STEP = 1e-5  # of the largest magnitude of the input: between h^2 (truncation) and 1/h (rounding) in float64
OP_LIMIT = 1e-6
EQUATION_LIMIT = 5e-8
DIRECTIONS = 10  # random directions through a large input
MAX_AT_KINKS = 0.2  # share of the elements, or directions, that may be left out


class GradientResult(NamedTuple):
    """One gradient, compared."""

    name: str  # of the op
    gradient: str  # which of its gradients
    shape: tuple[int, ...]
    error: float  # max|numeric - analytic| / max|analytic|
    limit: float
    ok: bool
    worst: tuple[int, ...]  # index of the worst element; () where only directions were compared
    numeric: complex  # there, or along the worst direction
    analytic: complex
    checked: int  # elements, or directions
    at_kinks: int  # of them left out
    note: str


class GradientError(AssertionError):
    """A gradient is wrong, or an op broke the rules of a pair.  `results`: the gradients compared."""

    def __init__(self, message: str, results: Sequence[GradientResult] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


class Row(NamedTuple):
    """One line of the table of `run_all`."""

    name: str
    equation: str  # of the paper; "" for an op that has none
    shape: tuple[int, ...]
    gradient: str
    error: float
    limit: float
    ok: bool
    note: str


# ------------------------------------------------------------------------------------------------ the checker


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    *,
    step: float = STEP,
    tolerance: float = OP_LIMIT,
    exhaustive_limit: int = 1000,
    seed: int = 0,
    name: str = "",
    gradient_names: Sequence[str] = (),
    **options: Any,
) -> list[GradientResult]:
    """Compare the gradients of an op with central differences; raise GradientError when one is wrong.

    forward, backward: `y, cache = forward(*inputs, **options)`, y an array or a float, and
        `gradients = backward(dy, cache)`, one for every input and in their order.
    inputs: float64 or complex128 arrays, NumPy or CuPy; whatever needs no gradient goes into `options`.
    step: the h of the differences is `step` times the largest magnitude of the input.
    tolerance: limit of each error.
    exhaustive_limit: an input with more elements is checked along random directions.

    It also checks that inputs and dy are not written, that non-contiguous ones give the same result, that y
    keeps float64 and each gradient has shape and dtype of its input.  A NaN on either side is a failure.

    Returns a result for every input.  Raises TypeError or ValueError for unusable inputs.
    """
    name = name or getattr(forward, "__name__", "forward")
    names = list(gradient_names) or [f"gradient {i}" for i in range(len(inputs))]
    if len(names) != len(inputs):
        raise ValueError(f"check: gradient_names must have {len(inputs)} names, got {len(names)}")
    values = [_checked_input(name, i, array) for i, array in enumerate(inputs)]
    xp = array_module(*inputs)
    rng = np.random.default_rng(seed)

    def output(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return _to_host(forward(*[xp.array(array) for array in arrays], **options)[0])

    y = output(values)
    if y.dtype not in (np.float64, np.complex128):
        raise GradientError(f"{name}: y must keep the precision of its inputs, got {y.dtype}")
    dy = _no_tiny_components(y.shape, np.iscomplexobj(y), rng)
    pair = functools.partial(_run_pair, name, names, forward, backward, values, dy, options=options)
    gradients = _same_results(name, names, pair(xp.array), pair(functools.partial(_non_contiguous, xp=xp)))

    results = []
    for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):

        def moved(change: np.ndarray, i: int = i) -> np.ndarray:
            return output([v + change if j == i else v for j, v in enumerate(values)])

        with np.errstate(all="ignore"):  # a NaN is reported as a result
            result = _compare(moved, value, gradient, y, dy, step, tolerance, exhaustive_limit, rng)
        results.append(result._replace(name=name, gradient=names[i]))
    failures = [_describe(result) for result in results if not result.ok]
    if failures:
        raise GradientError("\n".join(failures), results)
    return results


def _checked_input(name: str, i: int, array: Array) -> np.ndarray:
    """Input i on the host, or an error that says what is wrong with it."""
    host = np.array(to_numpy(array))
    if host.dtype not in (np.float64, np.complex128):
        raise TypeError(f"check: input {i} of {name} must be float64 or complex128, got {host.dtype}")
    if not np.isfinite(host).all():
        raise ValueError(f"check: input {i} of {name} must be finite, got NaN or infinity")
    return host


def _to_host(y: Any) -> np.ndarray:
    """A copy on the host of an array or a number: the op may use its memory again."""
    return np.array(y if isinstance(y, float | complex | np.generic) else to_numpy(y))


def _no_tiny_components(shape: tuple[int, ...], is_complex: bool, rng: np.random.Generator) -> np.ndarray:
    """Magnitudes in [0.5, 1.5) with random signs: nothing hides behind a small factor."""

    def draw() -> np.ndarray:
        return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))

    return draw() + 1j * draw() if is_complex else draw()


def _non_contiguous(value: np.ndarray, xp: Any) -> Array:
    """The same array with NaN between its elements: code that ignores strides reads them."""
    if value.ndim == 0:
        return xp.array(value)
    wide = xp.full((*value.shape[:-1], 2 * value.shape[-1]), np.nan, value.dtype)
    wide[..., ::2] = xp.asarray(value)
    return wide[..., ::2]


def _run_pair(
    name: str,
    names: Sequence[str],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    values: Sequence[np.ndarray],
    dy: np.ndarray,
    place: Callable[[np.ndarray], Array],
    options: dict[str, Any],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Forward and backward once: y and the gradients, on the host; GradientError for a wrong form."""
    arrays, upstream = [place(value) for value in values], place(dy)
    y, cache = forward(*arrays, **options)
    _require_unwritten(name, "forward", arrays, values)
    gradients = backward(upstream if dy.ndim else dy.item(), cache)
    _require_unwritten(name, "backward", arrays, values)
    if not np.array_equal(to_numpy(upstream), dy):
        raise GradientError(f"{name}: backward has written into dy")
    if not isinstance(gradients, tuple | list):
        gradients = (gradients,)
    if len(gradients) != len(values):
        raise GradientError(f"{name}: backward must return {len(values)} gradients, got {len(gradients)}")
    for label, gradient, value in zip(names, gradients, values, strict=True):
        is_array = hasattr(gradient, "dtype")
        got = f"{gradient.dtype} {gradient.shape}" if is_array else type(gradient).__name__
        if got != f"{value.dtype} {value.shape}":
            raise GradientError(f"{name}: {label} must be {value.dtype} {value.shape} as its input, got {got}")
    return _to_host(y), [_to_host(gradient) for gradient in gradients]


def _require_unwritten(name: str, when: str, arrays: Sequence[Array], values: Sequence[np.ndarray]) -> None:
    for i, (array, value) in enumerate(zip(arrays, values, strict=True)):
        if not np.array_equal(to_numpy(array), value):
            raise GradientError(f"{name}: {when} has written into input {i}")


Run = tuple[np.ndarray, list[np.ndarray]]  # y and the gradients


def _same_results(name: str, names: Sequence[str], contiguous: Run, strided: Run) -> list[np.ndarray]:
    """The gradients, once both runs agree up to rounding.  A NaN in both is left to the comparison."""
    pairs = zip([contiguous[0], *contiguous[1]], [strided[0], *strided[1]], strict=True)
    for label, (expected, got) in zip(["y", *names], pairs, strict=True):
        scale = abs(expected[np.isfinite(expected)]).max(initial=0)
        if not np.allclose(got, expected, rtol=0, atol=1e-10 * scale, equal_nan=True):
            difference = abs(got - expected).max()
            raise GradientError(f"{name}: {label} differs by {difference:.3g} when inputs are not contiguous")
    return contiguous[1]


def _compare(
    moved: Callable[[np.ndarray], np.ndarray],
    value: np.ndarray,
    gradient: np.ndarray,
    y: np.ndarray,
    dy: np.ndarray,
    step: float,
    limit: float,
    exhaustive_limit: int,
    rng: np.random.Generator,
) -> GradientResult:
    """Compare one gradient with the slopes of L.  moved(change): y where this input is value + change."""
    is_complex = np.iscomplexobj(value)
    every_element = value.size <= exhaustive_limit
    h = step * (float(abs(value).max(initial=0)) or 1.0)

    def slope(direction: np.ndarray) -> float:
        return _inner(dy, moved(h * direction) - moved(-h * direction)) / (2 * h)

    if every_element:
        directions = [d for unit in _units(is_complex) for d in _axes(value.shape, unit)]
    else:  # of length about one: all elements together move by about h
        directions = [_no_tiny_components(value.shape, is_complex, rng) for _ in range(DIRECTIONS)]
        directions = [direction / np.sqrt(value.size) for direction in directions]
    numeric = np.array([slope(direction) for direction in directions])
    analytic = np.array([_inner(gradient, direction) for direction in directions])
    gap = abs(numeric - analytic)
    at_kink = np.zeros(len(directions), bool)
    for j in np.argsort(-gap):  # from the worst on, until one is right, or is wrong and no kink excuses it
        if gap[j] <= limit * abs(analytic).max():
            break
        at_kink[j] = gap[j] <= 4 * _kink_size(moved, directions[j], h, y, dy)  # False where either is NaN
        if not at_kink[j]:
            break
    if every_element and is_complex:  # slopes by the real parts, then by the imaginary parts
        n = value.size
        numeric, analytic = numeric[:n] + 1j * numeric[n:], analytic[:n] + 1j * analytic[n:]
        at_kink = at_kink[:n] | at_kink[n:]
    gap = np.where(at_kink, 0.0, abs(numeric - analytic))

    checked, left_out = len(gap), int(at_kink.sum())
    note = "every element" if every_element else f"{checked} random directions"
    largest = abs(analytic).max(initial=0)
    if largest != 0 or not gap.any():
        error = float(gap.max(initial=0) / (largest or 1.0))
    else:  # no scale to compare with: what is not rounding is wrong
        rounding = 100 * np.finfo(np.float64).eps * float(abs(dy * y).sum()) / h
        error = 0.0 if gap.max() <= rounding else np.inf
    if checked and largest == 0:
        note += "; the analytic gradient is zero"
    if left_out:
        note += f"; {left_out} of {checked} left out at kinks"
    ok = error <= limit and left_out <= MAX_AT_KINKS * checked

    index: tuple[int, ...] = ()
    at_worst = complex("nan"), complex("nan")
    if checked:
        worst = int(gap.argmax())  # the first NaN where there is one
        at_worst = complex(numeric[worst]), complex(analytic[worst])
        if not ok and not every_element:  # go from the worst direction to an element that is wrong
            worst = _search_element(slope, gradient, directions[worst])
            slopes = [slope(_axis(value.shape, worst, unit)) for unit in _units(is_complex)]
            at_worst = complex(*slopes), complex(gradient.flat[worst])
        if not ok or every_element:
            index = tuple(int(k) for k in np.unravel_index(worst, value.shape))
    return GradientResult("", "", value.shape, error, limit, ok, index, *at_worst, checked, left_out, note)


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    """Re sum conj(a) b: the change of L for a change b, when a is its gradient."""
    return float(np.vdot(a, b).real)


def _units(is_complex: bool) -> tuple[complex, ...]:
    return (1.0, 1j) if is_complex else (1.0,)


def _axis(shape: tuple[int, ...], j: int, unit: complex) -> np.ndarray:
    """`unit` at element j, 0 elsewhere."""
    direction = np.zeros(shape, type(unit))
    direction.flat[j] = unit
    return direction


def _axes(shape: tuple[int, ...], unit: complex) -> Iterator[np.ndarray]:
    return (_axis(shape, j, unit) for j in range(int(np.prod(shape))))


def _kink_size(
    moved: Callable[[np.ndarray], np.ndarray], direction: np.ndarray, h: float, y: np.ndarray, dy: np.ndarray
) -> float:
    """How far slope and curvature over +-h differ from those over +-h/2, as a slope.

    Of order h^2 for a smooth function.  Where the slope jumps by J within +-h they are of order J, one or the
    other wherever the jump lies, and the central difference is off by at most twice their sum.
    """
    far, far_back = moved(h * direction), moved(-h * direction)
    near, near_back = moved(h / 2 * direction), moved(-h / 2 * direction)
    slopes = (far - far_back) / (2 * h) - (near - near_back) / h
    curvatures = (far + far_back - 2 * y) / h - 4 * (near + near_back - 2 * y) / h
    return abs(_inner(dy, slopes)) + abs(_inner(dy, curvatures))


def _search_element(slope: Callable[[np.ndarray], float], gradient: np.ndarray, direction: np.ndarray) -> int:
    """An element where the gradient is wrong: halve the set of moved elements, keep the worse half."""
    if np.isnan(gradient).any():
        return int(np.isnan(gradient).argmax())
    kept = np.arange(direction.size)
    while len(kept) > 1:
        halves = np.array_split(kept, 2)
        gaps = []
        for half in halves:
            part = np.zeros_like(direction)
            part.flat[half] = direction.flat[half]
            gaps.append(abs(slope(part) - _inner(gradient, part)))
        kept = halves[int(np.argmax(gaps))]
    return int(kept[0])


def _describe(result: GradientResult) -> str:
    """A failure in one line."""
    what = f"{result.name}: {result.gradient} {result.shape}"
    if result.error <= result.limit:
        return f"{what} cannot be checked: {result.note}, the limit is {MAX_AT_KINKS:.0%}"
    numeric, analytic = (f"{v.real if v.imag == 0 else v:.10g}" for v in (result.numeric, result.analytic))
    return (
        f"{what} is wrong: error {result.error:.3g}, limit {result.limit:.3g}; "
        f"worst at index {result.worst}: numeric {numeric}, analytic {analytic} ({result.note})"
    )


# -------------------------------------------------------------- the paper's convention for complex gradients


def bin_counts(shape: tuple[int, int], band: Band | None = None) -> np.ndarray:
    """c_v: how often a stored bin of column v stands in the full spectrum of an image of `shape` (H, W).

    2, but 1 in column 0 and, for even W, in column W/2.  A band keeps the first columns and so their counts.
    Written here a second time, apart from `ops.fourier`, because it is what checks that module.
    """
    columns = shape[1] // 2 + 1 if band is None else band.spectrum_shape[1]
    return np.array([1.0 if v in (0, shape[1] / 2) else 2.0 for v in range(columns)])


def from_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """dL/dRe X + i dL/dIm X of the stored bins from the paper's "dL/dX*" (Eqs. 5-11): times c / (H W).

    The paper's dX = rfft2(dx) leaves out the 1/(H W) of the inverse transform and takes every bin of the full
    spectrum by itself.  A stored bin stands for itself and for its mirror image, c_v bins in all.

    dxf: (..., bins), full half spectrum or banded; shape: (H, W) of the image.
    """
    return dxf * array_module(dxf).asarray(bin_counts(shape, band) / (shape[0] * shape[1]))


def to_paper(dxf: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """The paper's "dL/dX*" from dL/dRe X + i dL/dIm X: times H W / c, the inverse of `from_paper`."""
    return dxf * array_module(dxf).asarray(shape[0] * shape[1] / bin_counts(shape, band))


# ------------------------------------------------------------------------------ every op and every equation

Place = Callable[[np.ndarray], Array]  # moves a NumPy array to the device under test
Case = Callable[[Place], Iterator[Row]]

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


def _problems(place: Place, channels: Sequence[int] = (3,)) -> Iterator[_Problem]:
    """A problem for each of GEOMETRIES and each number of channels.

    The spectrum of a Gaussian label is real, or nearly so, and hides a wrong conjugate: this label is random.
    """
    rng = np.random.default_rng(7)
    for shape, limits in GEOMETRIES:
        for d in channels:
            template, search = (place(rng.standard_normal((2, d, *shape))) for _ in range(2))
            label = place(rng.standard_normal(shape))
            lam = 0.3 * shape[0] * shape[1]  # a third of the energy of a channel in a bin
            band = None
            if limits is not None:
                band = fourier.make_band(shape, limits, np.float64, array_module(label))
            template_f, search_f, label_f = (fourier.rfft2(a, band) for a in (template, search, label))
            # Eqs. 2 and 3 written out: a broken function of ops.dcf must not spoil what it is tested on.
            energy = (abs(template_f) ** 2).sum(1, keepdims=True) + lam
            filter_f = template_f * label_f.conj() / energy
            response_f = (filter_f.conj() * search_f).sum(1)
            free_f = rng.standard_normal(response_f.shape) + 1j * rng.standard_normal(response_f.shape)
            yield _Problem(
                tag=f"D={d} {shape[0]}x{shape[1]}" + (f" band {limits[0]},{limits[1]}" if limits else ""),
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


def _pair_rows(
    name: str,
    equation: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    gradient_names: Sequence[str],
    **options: Any,
) -> Iterator[Row]:
    """`check` as rows, one for every gradient; a single one with the reason where none could be compared."""
    limit = EQUATION_LIMIT if equation else OP_LIMIT
    try:
        results = check(forward, backward, inputs, tolerance=limit, name=name, gradient_names=gradient_names, **options)
    except GradientError as error:
        results = error.results
        if not results:
            yield Row(name, equation, inputs[0].shape, "all", np.inf, limit, False, str(error))
    for r in results:
        note = r.note if r.ok else _describe(r)
        yield Row(name, equation, r.shape, r.gradient, r.error, limit, r.ok, note)


def _value_row(name: str, equation: str, what: str, got: Array, expected: Array, note: str) -> Row:
    """A row for values that must agree: error = max|got - expected| / max|expected|."""
    got, expected = _to_host(got), _to_host(expected)
    error = float(abs(got - expected).max() / abs(expected).max())
    return Row(name, equation, got.shape, what, error, EQUATION_LIMIT, error <= EQUATION_LIMIT, note)


def _conv_rows(place: Place) -> Iterator[Row]:
    rng = np.random.default_rng(1)
    cases = (((3, 3), 1, 1), ((3, 3), 2, 2), ((2, 4), 0, 1), ((1, 1), 0, 1), ((3, 2), 1, 2))
    for (kh, kw), padding, dilation in cases:
        x, w, b = (place(rng.standard_normal(s)) for s in ((2, 3, 5, 7), (4, 3, kh, kw), (4,)))
        yield from _pair_rows(
            f"conv2d {kh}x{kw} padding {padding} dilation {dilation}",
            "",
            conv.conv2d_forward,
            conv.conv2d_backward,
            (x, w, b),
            ("dx", "dw", "db"),
            padding=padding,
            dilation=dilation,
        )


def _relu_rows(place: Place) -> Iterator[Row]:
    x = place(np.random.default_rng(2).standard_normal((2, 3, 5, 4)))
    yield from _pair_rows("relu", "", relu.relu_forward, relu.relu_backward, (x,), ("dx",))


def _lrn_rows(place: Place) -> Iterator[Row]:
    # alpha near 1: with the 2e-5 in use the term across channels is so small that no check would miss it.
    rng = np.random.default_rng(3)
    cases = ((7, 5, 1.0, 0.9, 0.75), (4, 3, 2.0, 1.1, 0.6), (2, 5, 1.0, 1.0, 0.75), (3, 1, 1.0, 0.8, 0.75))
    for channels, n, k, alpha, beta in cases:
        x = place(rng.standard_normal((2, channels, 3, 4)))
        name = f"lrn C={channels} n={n} k={k} alpha={alpha} beta={beta}"
        options = {"n": n, "k": k, "alpha": alpha, "beta": beta}
        yield from _pair_rows(name, "", lrn.lrn_forward, lrn.lrn_backward, (x,), ("dx",), **options)


def _rfft2_rows(p: _Problem) -> Iterator[Row]:
    def forward(x: Array) -> tuple[Array, None]:
        return fourier.rfft2(x, p.band), None

    def backward(dxf: Array, _: None) -> Array:
        return fourier.rfft2_adjoint(dxf, p.shape, p.band)

    yield from _pair_rows(f"rfft2 and adjoint, {p.tag}", "", forward, backward, (p.template,), ("dx",))


def _irfft2_rows(p: _Problem) -> Iterator[Row]:
    def forward(xf: Array) -> tuple[Array, None]:
        return fourier.irfft2(xf, p.shape, p.band), None

    def backward(dx: Array, _: None) -> Array:
        return fourier.irfft2_adjoint(dx, p.band)

    yield from _pair_rows(f"irfft2 and adjoint, {p.tag}", "", forward, backward, (p.free_f,), ("dxf",))


def _equation_1(p: _Problem) -> Iterator[Row]:
    """The ridge loss in the Fourier domain against the circular correlation of Eq. 1 by its definition."""
    if p.band is not None:  # a loss over pixels needs the whole spectrum
        return
    w, template = _to_host(p.search), _to_host(p.template)  # any filter will do
    residual = _circular_correlation(w, template).sum(1) - _to_host(p.label)
    expected = (residual**2).sum((1, 2)) + p.lam * (w**2).sum((1, 2, 3))
    loss = dcf.ridge_loss(fourier.rfft2(p.search), p.template, p.label, p.lam)
    yield _value_row(f"ridge loss, {p.tag}", "1", "value", loss, expected, "against sums over pixels")


def _circular_correlation(w: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(w * x)[r, s] = sum over a, b of w[a, b] x[r + a, s + b], indices modulo the size.  (..., H, W) all."""
    total = np.zeros(np.broadcast_shapes(w.shape, image.shape))
    for a, b in np.ndindex(*w.shape[-2:]):
        total += w[..., a, b, None, None] * np.roll(image, (-a, -b), (-2, -1))
    return total


def _equation_2(p: _Problem) -> Iterator[Row]:
    """Eq. 2 minimises Eq. 1: the gradient of the ridge loss vanishes there, whatever D.

    With D channels the minimiser solves a D x D system in each bin, (phi phi^H + lambda) w = phi y^*.  Its
    matrix is lambda plus one of rank one, so the solution is phi y^* / (phi^H phi + lambda): Eq. 2.
    """
    if p.band is not None:
        return

    def loss(w: np.ndarray) -> float:
        filter_f = fourier.rfft2(xp.asarray(w))
        return float(dcf.ridge_loss(filter_f, p.template, p.label, p.lam).sum())

    xp = array_module(p.label)
    solution = to_numpy(fourier.irfft2(dcf.learn_filter(p.template_f, p.label_f, p.lam), p.shape))
    yield _stationary_row(f"filter minimises ridge loss, {p.tag}", "2", loss, solution)


def _stationary_row(name: str, equation: str, loss: Callable[[np.ndarray], float], w: np.ndarray) -> Row:
    """A row that says whether the numeric gradient of `loss` at w vanishes, relative to that at 0."""

    def largest_slope(at: np.ndarray) -> float:
        h = STEP * abs(w).max()
        slopes = [loss(at + h * d) - loss(at - h * d) for d in _axes(w.shape, 1.0)]
        return float(abs(np.array(slopes)).max() / (2 * h))

    error = largest_slope(w) / largest_slope(np.zeros_like(w))
    note = "largest slope at the solution over that at 0"
    return Row(name, equation, w.shape, "dw = 0", error, EQUATION_LIMIT, error <= EQUATION_LIMIT, note)


def _equation_3(p: _Problem) -> Iterator[Row]:
    """The response against circular correlation by definition; with a band, of the band-limited filter."""
    w = _to_host(fourier.irfft2(p.filter_f, p.shape, p.band))
    expected = _circular_correlation(w, _to_host(p.search)).sum(1)
    response = dcf.respond(p.filter_f, p.search_f, p.shape, p.band)
    yield _value_row(f"response, {p.tag}", "3", "value", response, expected, "against sums over pixels")


def _equation_4(place: Place) -> Iterator[Row]:
    """The data term of the objective, with one label for all and with one for each response."""
    rng = np.random.default_rng(4)
    response = place(rng.standard_normal((3, 5, 4)))

    def backward(dloss: float, cache: loss.LossCache) -> Array:
        return loss.response_loss_backward(cache, dloss)

    for label_shape in ((5, 4), (3, 5, 4)):
        label = place(rng.standard_normal(label_shape))
        name = f"response loss, label {label_shape}"
        yield from _pair_rows(name, "4", loss.response_loss_forward, backward, (response,), ("dresponse",), label=label)


def _equation_5(p: _Problem) -> Iterator[Row]:
    """dL/dg^* = F(dL/dg) for g = F^-1(g^), and dL/dg = F^-1(dL/dg^*) for g^ = F(g)."""

    def inverse(gf: Array) -> tuple[Array, None]:
        return fourier.irfft2(gf, p.shape, p.band), None

    def through_inverse(dg: Array, _: None) -> Array:
        return from_paper(fourier.rfft2(dg, p.band), p.shape, p.band)

    def transform(g: Array) -> tuple[Array, None]:
        return fourier.rfft2(g, p.band), None

    def through_transform(dgf: Array, _: None) -> Array:
        return fourier.irfft2(to_paper(dgf, p.shape, p.band), p.shape, p.band)

    yield from _pair_rows(f"F of dg, {p.tag}", "5", inverse, through_inverse, (p.free_f,), ("dgf",))
    yield from _pair_rows(f"F^-1 of dgf, {p.tag}", "5", transform, through_transform, (p.search,), ("dg",))


def _equation_6(p: _Problem) -> Iterator[Row]:
    """Bin by bin: the gradient of the loss itself by the bins of the response."""

    def forward(response_f: Array) -> tuple[float, loss.LossCache]:
        return loss.response_loss_forward(fourier.irfft2(response_f, p.shape, p.band), p.label)

    def backward(dloss: float, cache: loss.LossCache) -> Array:
        dresponse = loss.response_loss_backward(cache, dloss)
        return from_paper(fourier.rfft2(dresponse, p.band), p.shape, p.band)

    yield from _pair_rows(f"loss by response bins, {p.tag}", "6", forward, backward, (p.free_f,), ("dresponse_f",))


def _equation_7(p: _Problem) -> Iterator[Row]:
    def forward(search_f: Array) -> tuple[Array, None]:
        return dcf.respond(p.filter_f, search_f, p.shape, p.band), None

    def backward(dresponse: Array, _: None) -> Array:
        dsearch_f = dcf.search_gradient_f(fourier.rfft2(dresponse, p.band), p.filter_f)
        return from_paper(dsearch_f, p.shape, p.band)

    yield from _pair_rows(f"search bins, {p.tag}", "7", forward, backward, (p.search_f,), ("dsearch_f",))


def _equation_8(p: _Problem) -> Iterator[Row]:
    def forward(search: Array) -> tuple[Array, None]:
        return fourier.rfft2(search, p.band), None

    def backward(dsearch_f: Array, _: None) -> Array:
        return dcf.to_image(to_paper(dsearch_f, p.shape, p.band), p.shape, p.band)

    yield from _pair_rows(f"search, {p.tag}", "8", forward, backward, (p.search,), ("dsearch",))


def _response_of_independent(p: _Problem, template_f: Array, template_conj_f: Array) -> Array:
    """Eqs. 2 and 3 with phi^(x) and its conjugate as two independent variables, as Eqs. 9 and 10 treat them.

    g^* = sum_l y^* phi^l(x) phi^l(z)^* / (sum_k phi^k(x) phi^k(x)^* + lambda)
    """
    energy = (template_f * template_conj_f).sum(1, keepdims=True) + p.lam
    response_conj_f = (p.label_f.conj() * template_f * p.search_f.conj() / energy).sum(1)
    return fourier.irfft2(response_conj_f.conj(), p.shape, p.band)


def _equation_9(p: _Problem) -> Iterator[Row]:
    """The derivative of a holomorphic function A: dL = Re(dA), so dL/dRe + i dL/dIm is its conjugate."""

    def forward(template_f: Array) -> tuple[Array, None]:
        return _response_of_independent(p, template_f, p.template_f.conj()), None

    def backward(dresponse: Array, _: None) -> Array:
        dresponse_f = fourier.rfft2(dresponse, p.band)
        derivative = dcf.template_gradient_f(dresponse_f, p.template_f, p.search_f, p.label_f, p.response_f, p.energy)
        return from_paper(derivative, p.shape, p.band).conj()

    yield from _pair_rows(f"template bins, {p.tag}", "9", forward, backward, (p.template_f,), ("by_template",))


def _equation_10(p: _Problem) -> Iterator[Row]:
    """As Eq. 9, by the conjugate."""

    def forward(template_conj_f: Array) -> tuple[Array, None]:
        return _response_of_independent(p, p.template_f, template_conj_f), None

    def backward(dresponse: Array, _: None) -> Array:
        dresponse_f = fourier.rfft2(dresponse, p.band)
        derivative = dcf.template_conj_gradient_f(dresponse_f, p.template_f, p.response_f, p.energy)
        return from_paper(derivative, p.shape, p.band).conj()

    name = f"conjugate template bins, {p.tag}"
    yield from _pair_rows(name, "10", forward, backward, (p.template_f.conj(),), ("by_conjugate",))


def _equation_11(p: _Problem) -> Iterator[Row]:
    def forward(template: Array) -> tuple[Array, None]:
        filter_f = dcf.learn_filter(fourier.rfft2(template, p.band), p.label_f, p.lam)
        return dcf.respond(filter_f, p.search_f, p.shape, p.band), None

    def backward(dresponse: Array, _: None) -> Array:
        dresponse_f = fourier.rfft2(dresponse, p.band)
        by_template = dcf.template_gradient_f(dresponse_f, p.template_f, p.search_f, p.label_f, p.response_f, p.energy)
        by_conjugate = dcf.template_conj_gradient_f(dresponse_f, p.template_f, p.response_f, p.energy)
        return dcf.template_gradient(by_template, by_conjugate, p.shape, p.band)

    yield from _pair_rows(f"template, {p.tag}", "11", forward, backward, (p.template,), ("dtemplate",))


def _dcf_rows(p: _Problem) -> Iterator[Row]:
    """The whole layer: its value by Eqs. 2 and 3, its gradients by Eqs. 5 to 11."""
    name = f"dcf, {p.tag}"
    options = {"label_f": p.label_f, "lam": p.lam, "band": p.band}
    response = dcf.dcf_forward(p.template, p.search, **options)[0]
    expected = fourier.irfft2(p.response_f, p.shape, p.band)
    yield _value_row(name, "2-3", "value", response, expected, "against the formulas written out")
    inputs, names = (p.template, p.search), ("dtemplate", "dsearch")
    yield from _pair_rows(name, "5-11", dcf.dcf_forward, dcf.dcf_backward, inputs, names, **options)


def _equation_13(place: Place) -> Iterator[Row]:
    """The online filter after three frames is Eq. 13, and minimises Eq. 12 when D = 1 and sum beta_t = 1."""
    rng = np.random.default_rng(13)
    shape, lam, rate = (5, 6), 10.0, 0.3
    label = place(rng.standard_normal(shape))
    label_f = fourier.rfft2(label)
    weights = [(1 - rate) ** 2, rate * (1 - rate), rate]  # beta_t of a running mean
    for d in (1, 3):
        templates = [place(rng.standard_normal((1, d, *shape))) for _ in weights]
        templates_f = [fourier.rfft2(template) for template in templates]
        model = filter_module.OnlineFilter(label_f, lam, rate, "ratio")
        for template_f in templates_f:
            model.update(template_f[0])
        assert model.numerator is not None and model.denominator is not None
        filter_f = model.numerator / model.denominator
        numerator = sum(b * label_f.conj() * t[0] for b, t in zip(weights, templates_f, strict=True))
        denominator = sum(b * ((abs(t[0]) ** 2).sum(0) + lam) for b, t in zip(weights, templates_f, strict=True))
        name = f"online filter, D={d} {shape[0]}x{shape[1]}"
        yield _value_row(name, "13", "value", filter_f, numerator / denominator, "updates against the sums")
        if d == 1:
            incremental_loss = functools.partial(_incremental_loss, templates, label, weights, lam)
            solution = to_numpy(fourier.irfft2(filter_f, shape))
            yield _stationary_row(f"{name} minimises Eq. 12", "12-13", incremental_loss, solution)


def _incremental_loss(
    templates: Sequence[Array], label: Array, weights: Sequence[float], lam: float, w: np.ndarray
) -> float:
    """Eq. 12: sum_t beta_t || sum_l w^l * phi^l(x_t) - y ||^2 + lambda sum_l ||w^l||^2.  w: (D, H, W)."""
    filter_f = fourier.rfft2(array_module(label).asarray(w))[None]
    errors = [float(dcf.ridge_loss(filter_f, template, label, 0.0)[0]) for template in templates]
    return float(np.dot(weights, errors)) + lam * float((w**2).sum())


def _chain_rows(place: Place) -> Iterator[Row]:
    """Images to loss: both branches through one small network, then Eqs. 2-4; down to conv1 and images."""
    rng = np.random.default_rng(5)
    architecture = (
        network.Conv(3, 3),
        network.Relu(),
        network.Conv(3, 3, dilation=2),
        network.Lrn(n=3, k=1.0, alpha=0.9, beta=0.75),
    )
    parameters = network.initialise(architecture, seed=6, dtype=np.float64)
    names = list(parameters)
    values = [place(array + 0.1 * rng.standard_normal(array.shape)) for array in parameters.values()]
    for padding, size in (("same", (5, 6)), ("valid", (10, 9))):
        template, search = (place(rng.standard_normal((2, 3, *size))) for _ in range(2))
        shape = tuple(network.feature_size(n, architecture, padding) for n in size)
        label = place(rng.standard_normal(shape))
        chain = _Chain(architecture, padding, names, label)
        yield from _pair_rows(
            f"network to loss, padding {padding}",
            "",
            chain.forward,
            chain.backward,
            (template, search, *values),
            ("dtemplate image", "dsearch image", *(f"d{name}" for name in names)),
            exhaustive_limit=100,  # every parameter; the images along random directions
        )


class _Chain(NamedTuple):
    """The training objective, without weight decay, as a pair."""

    architecture: network.Architecture
    padding: str
    names: list[str]  # of the parameters
    label: Array  # (H', W')

    def forward(self, template: Array, search: Array, *parameters: Array) -> tuple[float, tuple[Any, ...]]:
        named = dict(zip(self.names, parameters, strict=True))
        template, template_caches = network.forward(template, named, self.architecture, padding=self.padding)
        search, search_caches = network.forward(search, named, self.architecture, padding=self.padding)
        response, dcf_cache = dcf.dcf_forward(template, search, fourier.rfft2(self.label), 5.0)
        value, loss_cache = loss.response_loss_forward(response, self.label)
        return value, (template_caches, search_caches, dcf_cache, loss_cache)

    def backward(self, dloss: float, caches: tuple[Any, ...]) -> tuple[Array, ...]:
        template_caches, search_caches, dcf_cache, loss_cache = caches
        dtemplate, dsearch = dcf.dcf_backward(loss.response_loss_backward(loss_cache, dloss), dcf_cache)
        dtemplate, by_template = network.backward(dtemplate, template_caches)
        dsearch, by_search = network.backward(dsearch, search_caches)
        return (dtemplate, dsearch, *(by_template[name] + by_search[name] for name in self.names))


def _per_problem(rows: Callable[[_Problem], Iterator[Row]], *channels: int) -> Callable[[Place], Iterator[Row]]:
    """A case out of a function of one problem."""

    def case(place: Place) -> Iterator[Row]:
        for problem in _problems(place, channels):
            yield from rows(problem)

    return case


CASES: dict[str, Case] = {
    "conv": _conv_rows,
    "relu": _relu_rows,
    "lrn": _lrn_rows,
    "rfft2": _per_problem(_rfft2_rows, 2),
    "irfft2": _per_problem(_irfft2_rows, 2),
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
    "dcf": _per_problem(_dcf_rows, 1, 3),
    "chain": _chain_rows,
}


def run_all(device: str = "cpu", only: Iterable[str] | None = None) -> list[Row]:
    """Check every op, every equation and the whole chain from images to loss; the rows of `dcfnet gradcheck`.

    device: as `backend.select_device`.  The ops run there; differences are taken on the host.
    only: names of CASES, None for all.  Whatever an op raises becomes a row that is not ok.
    Raises ValueError for an unknown case or device, DeviceError where the GPU cannot be used.
    """
    chosen = list(CASES) if only is None else list(only)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        raise ValueError(f"run_all: only must be of {', '.join(CASES)}, got {', '.join(unknown)}")
    target = select_device(device)

    def place(array: np.ndarray) -> Array:
        return to_device(array, target)

    rows: list[Row] = []
    with cupy().cuda.Device(target.index) if target.kind == "cuda" else contextlib.nullcontext():
        for name in chosen:
            try:
                rows.extend(CASES[name](place))
            except Exception as error:  # an op may raise anything, and the other cases must still run
                reason = f"{type(error).__name__}: {error}"
                rows.append(Row(name, "", (), "", np.inf, OP_LIMIT, False, reason))
    return rows
