"""Hand-written gradients of anybody's op against finite differences.

`check(forward, backward, inputs)` takes a pair, `y, cache = forward(*inputs)` and `gradients = backward(dy, cache)`,
draws a random upstream gradient dy and compares

    analytic   what `backward` returns
    numeric    (L(x + h) - L(x - h)) / (2 h),    L = Re sum conj(dy) y,    h = step * max|x|

    error = max|numeric - analytic| / max|analytic|                         one number for every gradient

at every element of a small input and along random directions through a large one.  A wrong gradient raises
GradientError, which names the worst index and both values.

**Complex arrays.**  Inputs and outputs may be complex.  The gradient by a complex Z is dL/dRe Z + i dL/dIm Z, the
direction of steepest ascent, so dL = Re sum conj(gradient) dZ.  dy is such a gradient, by y.  For y = c z that makes
dz = conj(c) dy.  PyTorch has the same; JAX and autograd return the conjugate; Wirtinger's dL/dZ* is half of it.

**float32.**  The op runs in the precision of its inputs and keeps it; sums over y are always taken in float64.  An
output that adds up n terms carries a rounding error of about eps sqrt(n) m, m = |y| there but at least the root mean
square of all, since terms may cancel.  Errors of different outputs are independent, so each L is known to

    delta = eps sqrt(n) |m dy|               Euclidean norm over the outputs that move at all

and the slope to about delta / h.  In float64 that is far below the fixed limit of 1e-6.  In float32 it decides: the
limit becomes ROUNDING * delta / h over max|analytic|, h is large (step 0.02), and Richardson's extrapolation,
(4 slope(h/2) - slope(h)) / 3, takes out the h^2 error that so large a step would leave.  A limit above MAX_LIMIT says
that float32 cannot tell right from wrong here, which is a failure too.

**Kinks.**  At a kink, such as ReLU's at 0, there is no derivative to compare with.  An element that disagrees is looked
at again with half the step: a smooth function shows the same slope and curvature, a kink others.  Where the kink is
large enough to explain the disagreement the element is left out and counted; too many are a failure.  In float32 the
rounding of that second look is some ten limits, so a wrong element may be left out too, while no more than a fifth are.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, array_module, to_numpy

# Step, of the largest magnitude of the input.  float64: between the h^2 of truncation and the 1/h of rounding, as
# `sweep` shows.  float32: between h^4 and 1/h.
STEP = {np.float64: 1e-5, np.float32: 0.02}
LIMIT = 1e-6  # of the error in float64
ROUNDING = 4.0  # float32: delta / h in the limit; 2 come from the extrapolation, 2 are room
TERMS = 1000
MAX_LIMIT = 0.1
DIRECTIONS = 10  # random directions through a large input
MAX_AT_KINKS = 0.2  # share of the elements, or directions, that may be left out
# By NumPy's characters of the dtypes.
PRECISIONS: dict[str, Any] = {"f": np.float32, "d": np.float64, "F": np.float32, "D": np.float64}


class GradientResult(NamedTuple):
    """One gradient, compared; or one value, in the table of our own equations."""

    name: str  # of the op
    gradient: str  # which of its gradients
    shape: tuple[int, ...]
    error: float  # max|numeric - analytic| / max|analytic|
    limit: float
    ok: bool
    worst: tuple[int, ...] = ()  # index of the worst element; () where only directions were compared
    numeric: complex = complex("nan")  # there, or along the worst direction
    analytic: complex = complex("nan")
    checked: int = 0  # elements, or directions
    at_kinks: int = 0  # of them left out
    note: str = ""
    equation: str = ""  # of the paper; "" for an op that has none

    def __str__(self) -> str:
        what = f"{self.name}: {self.gradient} {self.shape}"
        if self.ok:
            return f"{what} is right: error {self.error:.3g}, limit {self.limit:.3g} ({self.note})"
        if self.error <= self.limit:
            return f"{what} cannot be checked: {self.note}"
        numeric, analytic = (f"{v.real if v.imag == 0 else v:.10g}" for v in (self.numeric, self.analytic))
        return (
            f"{what} is wrong: error {self.error:.3g}, limit {self.limit:.3g}; "
            f"worst at index {self.worst}: numeric {numeric}, analytic {analytic} ({self.note})"
        )


class Sweep(NamedTuple):
    """The error of one gradient over the step: falls like h^2, then rises like 1/h as the step shrinks."""

    name: str
    gradient: str
    steps: tuple[float, ...]  # of the largest magnitude of the input
    errors: tuple[float, ...]


class GradientError(AssertionError):
    """A gradient is wrong, or an op broke the rules of a pair.  `results`: the gradients compared."""

    def __init__(self, message: str, results: Sequence[GradientResult] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    *,
    step: float | None = None,
    tolerance: float | None = None,
    terms: int | None = None,
    exhaustive_limit: int = 1000,
    seed: int = 0,
    name: str = "",
    gradient_names: Sequence[str] = (),
    **options: Any,
) -> list[GradientResult]:
    """Compare the gradients of an op with finite differences; raise GradientError when one is wrong.

    forward, backward: `y, cache = forward(*inputs, **options)`, y an array or a float, and
        `gradients = backward(dy, cache)`, one for every input and in their order.
    inputs: float64 or complex128 arrays, or float32 or complex64 ones, NumPy or CuPy; whatever needs no gradient goes
        into `options`.
    step: the h of the differences is `step` times the largest magnitude of the input; by default STEP.
    tolerance: limit of each error; by default LIMIT, in float32 what rounding allows (see the module).
    terms: float32 only: how many terms an element of y adds up, such as C KH KW for a convolution; by default the size
        of the largest input, at most TERMS.
    exhaustive_limit: an input with more elements is checked along random directions.

    It also checks that inputs and dy are not written, that non-contiguous ones give the same result, that y keeps the
    precision and each gradient has shape and dtype of its input.  A NaN on either side is a failure.

    Returns a result for every input.  Raises TypeError or ValueError for unusable inputs.
    """
    op = _Op(forward, backward, inputs, seed, name, gradient_names, options)
    terms = min(TERMS, max(value.size for value in op.values)) if terms is None else terms
    results = []
    with np.errstate(all="ignore"):  # a NaN is reported as a result
        for i, gradient in enumerate(op.gradients()):
            line = _Line(op, i, gradient, STEP[op.precision] if step is None else step)
            results.append(_compare(line, tolerance, terms, exhaustive_limit))
    failures = [str(result) for result in results if not result.ok]
    if failures:
        raise GradientError("\n".join(failures), results)
    return results


def sweep(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    *,
    steps: Sequence[float] = tuple(10.0 ** np.arange(-13, 0.1, 0.5)),
    seed: int = 0,
    name: str = "",
    gradient_names: Sequence[str] = (),
    **options: Any,
) -> list[Sweep]:
    """The error of each gradient for each of `steps`, by plain central differences along random directions.

    Arguments as in `check`.  A right gradient draws a V on double logarithmic axes, a wrong one never gets below its
    own error, and `step` belongs at the bottom of the V.  Returns a curve for every input; nothing is judged.
    """
    op = _Op(forward, backward, inputs, seed, name, gradient_names, options)
    curves = []
    with np.errstate(all="ignore"):
        for i, gradient in enumerate(op.gradients()):
            line = _Line(op, i, gradient, 0.0)
            directions = line.random_directions()
            errors = []
            for step in steps:
                slopes = np.array([line.difference(direction, step * line.scale) for direction in directions])
                errors.append(float(abs(slopes[:, 0] - slopes[:, 1]).max() / (abs(slopes[:, 1]).max() or 1.0)))
            curves.append(Sweep(op.name, op.names[i], tuple(map(float, steps)), tuple(errors)))
    return curves


# ---------------------------------------------------------------------------------------- the op, and its rules


class _Op:
    """A pair with its inputs, y and a random dy on the host, once they are known to be usable."""

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Array],
        seed: int,
        name: str,
        gradient_names: Sequence[str],
        options: dict[str, Any],
    ) -> None:
        self.forward, self.backward, self.options = forward, backward, options
        self.name = name or getattr(forward, "__name__", "forward")
        self.names = list(gradient_names) or [f"gradient {i}" for i in range(len(inputs))]
        if len(self.names) != len(inputs):
            raise ValueError(f"check: gradient_names must have {len(inputs)} names, got {len(self.names)}")
        self.values = [np.array(to_numpy(array)) for array in inputs]
        for i, value in enumerate(self.values):
            if value.dtype.char not in PRECISIONS:
                expected = "float64 or complex128 (or float32 or complex64)"
                raise TypeError(f"check: input {i} of {self.name} must be {expected}, got {value.dtype}")
            if not np.isfinite(value).all():
                raise ValueError(f"check: input {i} of {self.name} must be finite, got NaN or infinity")
        if len({PRECISIONS[value.dtype.char] for value in self.values}) != 1:
            got = ", ".join(str(value.dtype) for value in self.values)
            raise TypeError(f"check: the inputs of {self.name} must share one precision, got {got}")
        self.precision = PRECISIONS[self.values[0].dtype.char]
        self.eps = float(np.finfo(self.precision).eps)
        self.xp = array_module(*inputs)
        self.rng = np.random.default_rng(seed)
        self.y = self.output(self.values)
        is_number = self.y.ndim == 0 and self.y.dtype.char in "dD"  # a loss may be a float in float32 too
        if PRECISIONS.get(self.y.dtype.char) != self.precision and not is_number:
            raise GradientError(f"{self.name}: y must keep the precision of its inputs, got {self.y.dtype}")
        self.dy = no_tiny_components(self.y.shape, np.iscomplexobj(self.y), self.rng).astype(self.y.dtype)
        magnitude = np.maximum(abs(self.y), np.sqrt(np.mean(abs(self.y) ** 2)) if self.y.size else 0)
        self.weighted_dy = abs(self.dy) * magnitude  # m |dy|

    def output(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """y for these inputs."""
        return to_host(self.forward(*[self.xp.array(value) for value in values], **self.options)[0])

    def gradients(self) -> list[np.ndarray]:
        """What `backward` returns, for contiguous arrays and for others.  A NaN in both is left to the comparison."""
        expected = self._run(self.xp.array)
        got = self._run(functools.partial(_non_contiguous, xp=self.xp))
        for label, a, b in zip(["y", *self.names], expected, got, strict=True):
            scale = abs(a[np.isfinite(a)]).max(initial=0)
            if not np.allclose(a, b, rtol=0, atol=1e3 * self.eps * scale, equal_nan=True):
                difference = abs(a - b).max()
                raise GradientError(f"{self.name}: {label} differs by {difference:.3g} when inputs are not contiguous")
        return expected[1:]

    def _run(self, place: Callable[[np.ndarray], Array]) -> list[np.ndarray]:
        """Forward and backward once: y and the gradients, on the host; GradientError for a wrong form."""
        arrays, upstream = [place(value) for value in self.values], place(self.dy)
        y, cache = self.forward(*arrays, **self.options)
        self._require_unwritten("forward", arrays)
        gradients = self.backward(upstream if self.dy.ndim else self.dy.item(), cache)
        self._require_unwritten("backward", arrays)
        if not np.array_equal(to_numpy(upstream), self.dy):
            raise GradientError(f"{self.name}: backward has written into dy")
        if not isinstance(gradients, tuple | list):
            gradients = (gradients,)
        if len(gradients) != len(self.values):
            raise GradientError(f"{self.name}: backward must return {len(self.values)} gradients, got {len(gradients)}")
        for label, gradient, value in zip(self.names, gradients, self.values, strict=True):
            is_array = hasattr(gradient, "dtype")
            got = f"{gradient.dtype} {gradient.shape}" if is_array else type(gradient).__name__
            if got != f"{value.dtype} {value.shape}":
                expected = f"{value.dtype} {value.shape} as its input"
                raise GradientError(f"{self.name}: {label} must be {expected}, got {got}")
        return [to_host(array) for array in (y, *gradients)]

    def _require_unwritten(self, when: str, arrays: Sequence[Array]) -> None:
        for i, (array, value) in enumerate(zip(arrays, self.values, strict=True)):
            if not np.array_equal(to_numpy(array), value):
                raise GradientError(f"{self.name}: {when} has written into input {i}")


def to_host(y: Any) -> np.ndarray:
    """A copy on the host of an array or a number: the op may use its memory again."""
    return np.array(y if isinstance(y, float | complex | np.generic) else to_numpy(y))


def no_tiny_components(shape: tuple[int, ...], is_complex: bool, rng: np.random.Generator) -> np.ndarray:
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


# ------------------------------------------------------------------------------------------------ slopes of L


class _Line:
    """L as a function of one input, the others fixed, and the gradient that shall be its slope."""

    def __init__(self, op: _Op, i: int, gradient: np.ndarray, step: float) -> None:
        self.op, self.i, self.gradient, self.value = op, i, gradient, op.values[i]
        self.is_complex = np.iscomplexobj(self.value)
        self.units: tuple[complex, ...] = (1.0, 1j) if self.is_complex else (1.0,)
        self.scale = float(abs(self.value).max(initial=0)) or 1.0
        self.h = step * self.scale

    def moved(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) where x, this input, is moved by `change`, as far as its precision can."""
        x = (self.value + change).astype(self.value.dtype)
        return x, self.op.output([x if j == self.i else other for j, other in enumerate(self.op.values)])

    def difference(self, direction: np.ndarray, h: float) -> np.ndarray:
        """Slope of L along `direction`: numeric, analytic, and |m dy| over the outputs that moved.

        Both slopes are taken over the step from x to x that was really made: in float32, x + h is rounded.
        """
        (x_far, y_far), (x_back, y_back) = self.moved(h * direction), self.moved(-h * direction)
        numeric = _inner(self.op.dy, _minus(y_far, y_back)) / (2 * h)
        analytic = _inner(self.gradient, _minus(x_far, x_back)) / (2 * h)
        return np.array([numeric, analytic, np.linalg.norm(self.op.weighted_dy[y_far != y_back])])

    def slope(self, direction: np.ndarray) -> np.ndarray:
        """`difference` over h, extrapolated to 0 in float32."""
        far = self.difference(direction, self.h)
        if self.op.precision is np.float64:
            return far
        near = self.difference(direction, self.h / 2)
        return np.array([*(4 * near[:2] - far[:2]) / 3, far[2]])

    def kink_size(self, direction: np.ndarray) -> float:
        """How far slope and curvature over +-h differ from those over +-h/2, as a slope.

        Of order h^2 for a smooth function.  Where the slope jumps by J within +-h they are of order J, one or the other
        wherever the jump lies, and the central difference is off by at most twice their sum.
        """
        h, y = self.h, self.op.y
        far, far_back, near, near_back = (self.moved(s * h * direction)[1] for s in (1, -1, 0.5, -0.5))
        slopes = _minus(far, far_back) / (2 * h) - _minus(near, near_back) / h
        curvatures = (_minus(far, y) + _minus(far_back, y)) / h - 4 * (_minus(near, y) + _minus(near_back, y)) / h
        return abs(_inner(self.op.dy, slopes)) + abs(_inner(self.op.dy, curvatures))

    def axes(self) -> Iterator[np.ndarray]:
        """Every element by itself: along the real parts, then along the imaginary parts."""
        for unit in self.units:
            for j in range(self.value.size):
                yield self.axis(j, unit)

    def axis(self, j: int, unit: complex) -> np.ndarray:
        direction = np.zeros(self.value.shape, type(unit))
        direction.flat[j] = unit
        return direction

    def random_directions(self) -> list[np.ndarray]:
        """Of length about one: all elements together move by about h."""
        shape, size = self.value.shape, max(self.value.size, 1)
        return [no_tiny_components(shape, self.is_complex, self.op.rng) / np.sqrt(size) for _ in range(DIRECTIONS)]

    def search_element(self, direction: np.ndarray) -> int:
        """An element where the gradient is wrong: halve the set of moved elements, keep the worse half."""
        if np.isnan(self.gradient).any():
            return int(np.isnan(self.gradient).argmax())
        kept = np.arange(direction.size)
        while len(kept) > 1:
            halves = np.array_split(kept, 2)
            gaps = []
            for half in halves:
                part = np.zeros_like(direction)
                part.flat[half] = direction.flat[half]
                numeric, analytic, _ = self.slope(part)
                gaps.append(abs(numeric - analytic))
            kept = halves[int(np.argmax(gaps))]
        return int(kept[0])


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    """Re sum conj(a) b, in float64: the change of L for a change b, when a is its gradient."""
    return float(np.vdot(a.astype(np.result_type(a, np.float64)), b).real)


def _minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in float64."""
    return a.astype(np.result_type(a, np.float64)) - b


def _compare(line: _Line, tolerance: float | None, terms: int, exhaustive_limit: int) -> GradientResult:
    """Compare one gradient with the slopes of L."""
    op, value, h = line.op, line.value, line.h
    every_element = value.size <= exhaustive_limit
    directions = list(line.axes()) if every_element else line.random_directions()
    slopes = np.array([line.slope(direction) for direction in directions]).reshape(-1, 3)
    numeric, analytic = slopes[:, 0], slopes[:, 1]
    largest = float(abs(analytic).max(initial=0))
    rounding = op.eps * np.sqrt(terms) * slopes[:, 2].max(initial=0) / h  # delta / h
    if tolerance is not None:
        limit = tolerance
    elif op.precision is np.float64:
        limit = LIMIT
    else:
        limit = ROUNDING * max(rounding / (largest or 1.0), op.eps * np.sqrt(terms))

    gap = abs(numeric - analytic)
    at_kink = np.zeros(len(directions), bool)
    for j in np.argsort(-gap):  # from the worst on, until one is right, or is wrong and no kink excuses it
        if gap[j] <= limit * largest:
            break
        at_kink[j] = gap[j] <= 4 * line.kink_size(directions[j])  # False where either is NaN
        if not at_kink[j]:
            break
    if every_element and line.is_complex:  # slopes by the real parts, then by the imaginary parts
        n = value.size
        numeric, analytic = numeric[:n] + 1j * numeric[n:], analytic[:n] + 1j * analytic[n:]
        at_kink = at_kink[:n] | at_kink[n:]
    gap = np.where(at_kink, 0.0, abs(numeric - analytic))
    checked, left_out = len(gap), int(at_kink.sum())

    notes = ["every element" if every_element else f"{checked} random directions"]
    largest = float(abs(analytic).max(initial=0))
    if largest != 0 or not gap.any():
        error = float(gap.max(initial=0) / (largest or 1.0))
    else:  # no scale to compare with: what is not rounding is wrong
        error = 0.0 if gap.max() <= 100 * rounding else np.inf
    if checked and largest == 0:
        notes.append("the analytic gradient is zero")
    if left_out:
        notes.append(f"{left_out} of {checked} left out at kinks")
    too_many, too_coarse = left_out > MAX_AT_KINKS * checked, limit > MAX_LIMIT and tolerance is None
    if too_many:
        notes[-1] += f", the limit is {MAX_AT_KINKS:.0%}"
    if too_coarse:
        notes.append(f"float32 resolves {limit:.0%} at best; take float64, smaller arrays, or say how many `terms`")
    ok = bool(error <= limit) and not too_many and not too_coarse

    index: tuple[int, ...] = ()
    at_worst = complex("nan"), complex("nan")
    if checked:
        worst = int(gap.argmax())  # the first NaN where there is one
        at_worst = complex(numeric[worst]), complex(analytic[worst])
        if not ok and not every_element:  # go from the worst direction to an element that is wrong
            worst = line.search_element(directions[worst])
            there = np.array([line.slope(line.axis(worst, unit)) for unit in line.units])
            at_worst = complex(*there[:, 0]), complex(line.gradient.flat[worst])
        if not ok or every_element:
            index = tuple(int(k) for k in np.unravel_index(worst, value.shape))
    name, shape = op.name, value.shape
    return GradientResult(
        name, op.names[line.i], shape, error, limit, ok, index, *at_worst, checked, left_out, "; ".join(notes)
    )
