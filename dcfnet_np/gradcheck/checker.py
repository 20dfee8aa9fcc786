"""Hand-written gradients of anybody's op against finite differences.  docs/reference/gradcheck.md says why.

`check(forward, backward, inputs)` takes a pair, `y, cache = forward(*inputs)` and
`gradients = backward(dy, cache)`, and compares for several upstream gradients dy

    analytic   what `backward` returns for dy
    numeric    (L(x + h) - L(x - h)) / (2 h),    L = Re sum conj(dy) y

at every element of a small input, and along random directions through a large one.  The first dy is
random and weighs all of y.  Then each number of y has a dy alone; of a large y, each of ten groups.
A slope agrees when

    |numeric - analytic| <= LIMIT |analytic| + rounding + uneven

    rounding = NOISE delta / h,   delta: how far rounding moves L, as `_Op.draw_dys` measures it
    uneven   = how far slope and curvature over +-h differ from those over +-h/2; 0 at the first look

A closer look follows where numbers disagree, or rounding hides them: Richardson's extrapolation for
four steps h.  For each dy the step decides that knows the slope best.  Where rounding or `uneven`
is more than RESOLUTION of the slope, right and wrong look alike.  Such elements are counted as "too
small" or "at kinks", and an input of which no element can be measured is a failure.

A complex gradient is dL/dRe Z + i dL/dIm Z, so dL = Re sum conj(gradient) dZ, of inputs and of y.
The op runs in the precision of its inputs; sums over y are always taken in float64.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, array_module, to_numpy

# h of the size of an element: between the h^2 of truncation and the 1/h of rounding, see `sweep`.
STEP = {np.float64: 1e-5, np.float32: 0.01}
LIMIT = {np.float64: 5e-8, np.float32: 1e-3}  # of |numeric - analytic|, in units of |analytic|
RESOLUTION = {np.float64: 1e-3, np.float32: 0.1}  # a slope that is known less well is not measured
NOISE = 10.0  # delta is known to a factor of about two, and a slope has up to two of it
UNEVEN = 4.0  # the slope over a kink is off by at most this many `uneven`
POINTS = 12  # so near to each other that a cubic goes through them but for rounding
DIRECTIONS = 10  # random directions through a large input, groups of a large y
OUTPUTS = 50  # a y of more numbers is large
MAX_AT_KINKS = 0.2  # share of the elements, or directions, that may be left out
# By NumPy's characters of the dtypes.
PRECISIONS: dict[str, Any] = {"f": np.float32, "d": np.float64, "F": np.float32, "D": np.float64}


class GradientResult(NamedTuple):
    """One gradient, compared; or one value, in the table of our own equations."""

    name: str  # of the op
    gradient: str  # which of its gradients
    shape: tuple[int, ...]
    error: float  # |numeric - analytic| at the worst element over max|analytic|
    limit: float  # of the error of that element
    ok: bool
    # index of the worst element; () where only directions were compared
    worst: tuple[int, ...] = ()
    numeric: complex = complex("nan")  # there, or along the worst direction
    analytic: complex = complex("nan")
    checked: int = 0  # elements, or directions
    at_kinks: int = 0  # of them left out
    note: str = ""
    equation: str = ""  # of the paper; "" for an op that has none
    too_small: int = 0  # elements left out because rounding hides their gradient

    def __str__(self) -> str:
        what = f"{self.name}: {self.gradient} {self.shape}"
        if self.ok:
            return f"{what} is right: error {self.error:.3g}, limit {self.limit:.1g} ({self.note})"
        if self.error <= self.limit:
            return f"{what} cannot be checked: {self.note}"
        numeric, analytic = (
            f"{v.real if v.imag == 0 else v:.10g}" for v in (self.numeric, self.analytic)
        )
        return (
            f"{what} is wrong: error {self.error:.3g}, limit {self.limit:.1g}; "
            f"worst at index {self.worst}: numeric {numeric}, analytic {analytic} ({self.note})"
        )


class Sweep(NamedTuple):
    """The error of one gradient over the step: falls like h^2, then rises like 1/h as the step
    shrinks.
    """

    name: str
    gradient: str
    steps: tuple[float, ...]  # of the largest magnitude of the input
    errors: tuple[float, ...]


class GradientError(AssertionError):
    """A gradient is wrong, or an op broke the rules of a pair.

    `results`: the gradients compared.
    """

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
    exhaustive_limit: int = 1000,
    seed: int = 0,
    name: str = "",
    gradient_names: Sequence[str] = (),
    **options: Any,
) -> list[GradientResult]:
    """Compare the gradients of an op with finite differences; raise GradientError when one is
    wrong.

    forward, backward: `y, cache = forward(*inputs, **options)`, y an array or a float, and
        `gradients = backward(dy, cache)`, one for every input and in their order.
    inputs: a list of float64 or complex128 arrays, or float32 or complex64 ones, NumPy or CuPy.
        Whatever needs no gradient goes into `options`.
    step: the h of the differences is `step` times the size of the element; by default STEP.
    tolerance: limit of each error, relative to the largest gradient; by default each element has
    its
        own (see the module).
    exhaustive_limit: an input with more elements is checked along random directions.

    It also checks that forward and backward give the same when run again, that inputs and dy are
    not written, that non-contiguous ones give the same result, that y keeps the precision and each
    gradient has shape and dtype of its input.  A NaN on either side is a failure.

    Returns a result for every input.  Raises TypeError or ValueError for unusable inputs.
    """
    for what, number in (("step", step), ("tolerance", tolerance)):
        if number is not None and not (isinstance(number, Real) and 0 < number < np.inf):
            raise ValueError(f"check: {what} must be a positive number, got {number!r}")
    op = _Op(forward, backward, inputs, seed, name, gradient_names, options)
    with np.errstate(all="ignore"):  # a NaN is reported as a result
        first = op.gradients()
        op.draw_dys(STEP[op.precision] if step is None else step)
        lines = [_Line(op, i, gradient, exhaustive_limit) for i, gradient in enumerate(first)]
        results = [line.compare([gradient], tolerance) for line, gradient in zip(lines, first)]
        if all(result.error <= result.limit for result in results):
            by_dy = [first, *(op.run(op.xp.array, dy)[1:] for dy in op.dys[1:])]
            results = [
                line.compare(gradients, tolerance) for line, gradients in zip(lines, zip(*by_dy))
            ]
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
    """The error of each gradient for each of `steps`, by plain central differences along random
    directions.

    Arguments as in `check`.  A right gradient draws a V on double logarithmic axes, a wrong one
    never gets below its own error, and `step` belongs at the bottom of the V.  Returns a curve for
    every input; nothing is judged."""
    op = _Op(forward, backward, inputs, seed, name, gradient_names, options)
    curves = []
    with np.errstate(all="ignore"):
        for i, gradient in enumerate(op.gradients()):
            value = _flat(op.values[i])
            scale = np.full(value.shape, abs(op.values[i]).max(initial=0) or 1.0)
            everything = np.arange(value.size)
            moves = [
                no_tiny_components(value.shape, False, op.rng) / np.sqrt(value.size)
                for _ in range(DIRECTIONS)
            ]
            errors = []
            for step in steps:
                slopes = [op.slope(i, _Move(everything, move), scale, step) for move in moves]
                pairs = np.array([(s.slope[0], s.change @ _flat(gradient)) for s in slopes])
                errors.append(
                    float(abs(pairs[:, 0] - pairs[:, 1]).max() / (abs(pairs[:, 1]).max() or 1.0))
                )
            curves.append(Sweep(op.name, op.names[i], tuple(map(float, steps)), tuple(errors)))
    return curves


# ---------------------------------------------------------------------------------------- the op,
# and its rules


class _Move(NamedTuple):
    """Some of the real numbers of an array, and how far each moves, in units of its size."""

    where: np.ndarray
    factors: np.ndarray


class _Slopes(NamedTuple):
    """Slope and curvature of each L along a move, by one central difference."""

    slope: np.ndarray  # (R): of each L
    curvature: np.ndarray  # (R), times h
    rounding: np.ndarray  # (R): how well the slope is known
    change: np.ndarray  # of the numbers that moved, as far as their precision can, over h
    size: float  # of the element that moved, h / step


class _Op:
    """A pair with its inputs, y and the upstream gradients on the host, once they are known to be
    usable.
    """

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
        self.values = _usable_inputs(inputs, self.name)
        self.names = list(gradient_names) or [f"gradient {i}" for i in range(len(inputs))]
        if len(self.names) != len(inputs):
            raise ValueError(
                f"check: gradient_names must have {len(inputs)} names, got {len(self.names)}"
            )
        _require_arguments("forward", forward, [f"input {i}" for i in range(len(inputs))], options)
        _require_arguments("backward", backward, ["dy", "cache"], {})
        self.precision = PRECISIONS[self.values[0].dtype.char]
        self.eps = float(np.finfo(self.precision).eps)
        self.xp = array_module(*inputs)
        self.rng = np.random.default_rng(seed)
        self.y = self.run_forward([self.xp.array(value) for value in self.values])[0]
        self.dys = [
            no_tiny_components(self.y.shape, np.iscomplexobj(self.y), self.rng).astype(self.y.dtype)
        ]
        self.weights = _flat(self.dys[0])[None]  # (R, numbers of y): L = weights @ y
        self.delta = np.zeros(self.weights.shape[1])
        self.step = 0.0

    def run_forward(self, arrays: Sequence[Array]) -> tuple[np.ndarray, Any]:
        """y on the host, and the cache; GradientError where forward returns anything else."""
        returned = self.forward(*arrays, **self.options)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            hint = "without a cache, `return y, None`"
            raise GradientError(
                f"{self.name}: forward must return the pair (y, cache), got {_kind(returned)}; {hint}"
            )
        y, cache = returned
        if not isinstance(y, float | complex) and not _is_array(y):
            hint = "check several outputs one by one, or as one array"
            raise GradientError(
                f"{self.name}: y must be one array or a float, got {_kind(y)}; {hint}"
            )
        host = to_host(y)
        # a loss may be a float in float32 too
        is_number = host.ndim == 0 and host.dtype.char in "dD"
        if PRECISIONS.get(host.dtype.char) != self.precision and not is_number:
            raise GradientError(
                f"{self.name}: y must keep the precision of its inputs, got {host.dtype}"
            )
        return host, cache

    def gradients(self) -> list[np.ndarray]:
        """What `backward` returns; the same when run again, and for arrays with strides."""
        expected = self.run(self.xp.array, self.dys[0])
        strided = functools.partial(_non_contiguous, xp=self.xp)
        again = "when run twice: draw random numbers once, outside, and keep no state"
        for place, when in ((self.xp.array, again), (strided, "when inputs are not contiguous")):
            for label, a, b in zip(
                ["y", *self.names], expected, self.run(place, self.dys[0]), strict=True
            ):
                scale = abs(a[np.isfinite(a)]).max(initial=0)
                if a.shape != b.shape or not np.allclose(
                    a, b, rtol=0, atol=1e3 * self.eps * scale, equal_nan=True
                ):
                    by = f"{abs(a - b).max():.3g}" if a.shape == b.shape else "its shape"
                    raise GradientError(f"{self.name}: {label} differs by {by} {when}")
        return expected[1:]

    def run(self, place: Callable[[np.ndarray], Array], dy: np.ndarray) -> list[np.ndarray]:
        """Forward and backward once: y and the gradients, on the host; GradientError for a wrong
        form.
        """
        arrays, upstream = [place(value) for value in self.values], place(dy)
        y, cache = self.run_forward(arrays)
        self._require_unwritten("forward", arrays)
        gradients = self.backward(upstream if dy.ndim else dy.item(), cache)
        self._require_unwritten("backward", arrays)
        if not np.array_equal(to_numpy(upstream), dy):
            raise GradientError(f"{self.name}: backward has written into dy")
        if not isinstance(gradients, tuple | list):
            gradients = (gradients,)
        if len(gradients) != len(self.values):
            raise GradientError(
                f"{self.name}: backward must return {len(self.values)} gradients, got {len(gradients)}"
            )
        for label, gradient, value in zip(self.names, gradients, self.values, strict=True):
            if _kind(gradient) != _kind(value):
                got = _kind(gradient)
                raise GradientError(
                    f"{self.name}: {label} must be {_kind(value)}, as its input; got {got}"
                )
        return [y, *map(to_host, gradients)]

    def _require_unwritten(self, when: str, arrays: Sequence[Array]) -> None:
        for i, (array, value) in enumerate(zip(arrays, self.values, strict=True)):
            if not np.array_equal(to_numpy(array), value):
                raise GradientError(f"{self.name}: {when} has written into input {i}")

    # ------------------------------------------------------------------------------------- slopes
    # of every L

    def moved(self, moves: dict[int, np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """The inputs moved by `moves`, as far as their precision can, and the numbers of y there."""
        values = [
            _shaped(_flat(v) + moves[i], v) if i in moves else v for i, v in enumerate(self.values)
        ]
        y = self.run_forward([self.xp.array(value) for value in values])[0]
        if y.shape != self.y.shape:
            raise GradientError(
                f"{self.name}: the shape of y changes with the values: {self.y.shape}, {y.shape}"
            )
        return values, _flat(y)

    def draw_dys(self, step: float) -> None:
        """Measure delta, and add a dy for each number of y, or for groups of numbers that move
        alike.
        """
        self.step = step
        own = [_sizes(value)[1] for value in self.values]
        changes = [
            no_tiny_components(size.shape, False, self.rng) * size * step / 16 for size in own
        ]
        t = self.rng.uniform(0, 1, POINTS)
        y = _flat(self.y)
        points = (
            np.array(
                [self.moved({i: k * change for i, change in enumerate(changes)})[1] for k in t]
            )
            - y
        )
        powers = np.vander(t, 4)
        scatter = np.sqrt(
            ((points - powers @ (np.linalg.pinv(powers) @ points)) ** 2).sum(axis=0) / (POINTS - 4)
        )
        self.delta = np.fmax(scatter, self.eps / 2 * abs(y))
        count = len(self.delta)
        if count > 1:
            for where in _groups(abs(points).max(axis=0), OUTPUTS):
                dy = np.zeros(count)
                dy[where] = no_tiny_components(where.shape, False, self.rng)
                self.dys.append(_shaped(dy, self.y))
        self.weights = np.array([_flat(dy) for dy in self.dys])

    def slope(self, i: int, move: _Move, sizes: np.ndarray, step: float) -> _Slopes:
        """By the difference over +-h: h = step * the size of the element, or of the largest that
        moves.

        The slope is taken over the step that was really made: in float32, x + h is rounded.
        """
        size = sizes[move.where].max(initial=0) or 1.0
        h = step * size
        change = np.zeros(len(sizes))
        change[move.where] = move.factors * step * sizes[move.where]
        (far, y_far), (back, y_back) = self.moved({i: change}), self.moved({i: -change})
        return _Slopes(
            self.weights @ (y_far - y_back) / (2 * h),
            self.weights @ (y_far + y_back - 2 * _flat(self.y)) / h,
            NOISE * np.sqrt(self.weights**2 @ self.delta**2) / h,
            (_flat(far[i]) - _flat(back[i]))[move.where] / (2 * h),
            size,
        )


def _usable_inputs(inputs: Sequence[Array], name: str) -> list[np.ndarray]:
    """Copies of the inputs on the host; TypeError or ValueError for what cannot be checked."""
    if not isinstance(inputs, list | tuple):
        raise TypeError(
            f"check: the inputs of {name} must be a list of arrays, such as [x], got {_kind(inputs)}"
        )
    if not inputs:
        raise ValueError(f"check: the inputs of {name} must hold at least one array, got none")
    values = []
    for i, array in enumerate(inputs):
        if isinstance(array, np.generic) or not _is_array(array):
            raise TypeError(
                f"check: input {i} of {name} must be an array, such as np.array(...), got {_kind(array)}"
            )
        value = np.array(to_numpy(array))
        value = value.astype(value.dtype.newbyteorder("="))
        if value.dtype.char not in PRECISIONS:
            expected = "float64 or complex128 (or float32 or complex64)"
            hint = "convert it, or give what has no gradient by keyword"
            raise TypeError(
                f"check: input {i} of {name} must be {expected}, got {value.dtype}; {hint}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"check: input {i} of {name} must be finite, got NaN or infinity")
        values.append(value)
    if len({PRECISIONS[value.dtype.char] for value in values}) != 1:
        got = ", ".join(str(value.dtype) for value in values)
        raise TypeError(f"check: the inputs of {name} must share one precision, got {got}")
    return values


def _require_arguments(
    what: str, function: Any, arguments: Sequence[str], options: dict[str, Any]
) -> None:
    """TypeError for what is no function of these arguments."""
    if not callable(function):
        raise TypeError(f"check: {what} must be a function, got {_kind(function)}")
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        called = ", ".join([*arguments, *(f"{name}=..." for name in options)])
        raise TypeError(f"check: {what} is called as {what}({called}), but {error}") from error
    except ValueError:
        pass  # written in C, without a signature


def _is_array(value: Any) -> bool:
    """Of NumPy, or on a GPU."""
    return isinstance(value, np.ndarray | np.generic) or hasattr(value, "__cuda_array_interface__")


def _kind(value: Any) -> str:
    """What somebody gave in the place of something else."""
    if value is None:
        return "None (is a `return` missing?)"
    if _is_array(value):
        return f"{value.dtype} {value.shape}"
    return (
        f"a {type(value).__name__} of {len(value)}"
        if isinstance(value, tuple | list)
        else type(value).__name__
    )


def to_host(y: Any) -> np.ndarray:
    """A copy on the host of an array or a number: the op may use its memory again."""
    return np.array(y if isinstance(y, float | complex | np.generic) else to_numpy(y))


def no_tiny_components(
    shape: tuple[int, ...], is_complex: bool, rng: np.random.Generator
) -> np.ndarray:
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


def _flat(array: np.ndarray) -> np.ndarray:
    """The real numbers of an array in float64; a complex element is two."""
    array = np.ascontiguousarray(array).reshape(-1)
    return array.view(array.real.dtype).astype(np.float64)


def _shaped(numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`_flat` undone: an array like another one."""
    return numbers.astype(like.real.dtype).view(like.dtype).reshape(like.shape)


def _sizes(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each real number: the root mean square of all, where it is larger than its own size; its
    own.
    """
    own = abs(_flat(value))
    largest = own.max(initial=0) or 1.0
    typical = largest * np.sqrt(np.mean((own / largest) ** 2)) or 1.0 if own.size else 1.0
    return np.maximum(own, typical), np.where(own > 0, own, typical)


def _groups(sizes: np.ndarray, limit: int) -> list[np.ndarray]:
    """Every index alone; of more than `limit`, groups of like size, so that nothing hides behind a
    large one.
    """
    order = np.argsort(sizes, kind="stable")
    return (
        np.array_split(order, DIRECTIONS)
        if len(order) > limit
        else [np.array([j]) for j in range(len(order))]
    )


# ------------------------------------------------------------------------------------- one
# gradient, compared


class _Look(NamedTuple):
    """Moves seen by every L: arrays (moves, R), or (R) for one move."""

    numeric: np.ndarray
    analytic: np.ndarray
    known: np.ndarray  # to which the numeric slope is known: rounding + uneven
    allowed: np.ndarray  # of |numeric - analytic|
    wrong: np.ndarray
    at_kink: np.ndarray  # whether the slope is not known well enough, because of a kink
    too_small: np.ndarray  # or because of rounding
    is_zero: np.ndarray  # whether the analytic slope is nothing but rounding

    @property
    def hidden(self) -> np.ndarray:
        """(moves): whether rounding hides the slope from every L that has one."""
        unseen = self.too_small | self.at_kink | self.is_zero
        return np.asarray(self.too_small.any(axis=-1) & unseen.all(axis=-1))


class _Line:
    """Every L as a function of one input, the others fixed; its slopes against R gradients."""

    def __init__(self, op: _Op, i: int, gradient: np.ndarray, exhaustive_limit: int) -> None:
        self.op, self.i, self.value = op, i, op.values[i]
        self.limit, self.resolution = LIMIT[op.precision], RESOLUTION[op.precision]
        self.parts = 1 + np.iscomplexobj(self.value)  # real numbers of an element
        self.typical, self.own = _sizes(self.value)
        self.every_element = self.value.size <= exhaustive_limit
        self.moves = []
        for where in _groups(
            abs(_flat(gradient)) * self.typical, len(self.own) * self.every_element
        ):
            factors = no_tiny_components(where.shape, False, op.rng) / np.sqrt(len(where))
            self.moves.append(_Move(where, np.ones(1) if self.every_element else factors))
        slopes = [op.slope(i, move, self.typical, op.step) for move in self.moves]
        shape = len(slopes), len(op.dys)
        self.slopes = np.array([s.slope for s in slopes]).reshape(shape)
        self.rounding = np.array([s.rounding for s in slopes]).reshape(shape)
        self.changes = [s.change for s in slopes]
        self.distances = np.array([s.size for s in slopes])[:, None]

    def compare(self, gradients: Sequence[np.ndarray], tolerance: float | None) -> GradientResult:
        """The result for what `backward` returned for the first upstream gradients, or for all."""
        self.gradients = np.array([_flat(gradient) for gradient in gradients])
        self.tolerance, rows = tolerance, len(gradients)
        self.dy = abs(self.op.weights[:rows]).max(axis=1, initial=0)
        # A change of L that is nothing but rounding, where an element moves by all of its size.
        self.nothing = 2 * np.sqrt(self.op.weights[:rows] ** 2 @ self.op.delta**2)
        along = [
            self.gradients[:, move.where] @ change for move, change in zip(self.moves, self.changes)
        ]
        analytic = np.array(along).reshape(-1, rows)
        self.largest = np.fmax.reduce(abs(analytic), axis=0, initial=0)
        seen = self.look(
            self.slopes[:, :rows], analytic, self.rounding[:, :rows], 0.0, self.distances
        )
        wrong = None
        for c in np.argsort(-np.nan_to_num(self.errors(seen), nan=np.inf).max(axis=1)):
            if seen.wrong[c].any() or seen.hidden[c]:
                for old, new in zip(seen, self.closer_look(self.moves[c])):
                    old[c] = new
                if seen.wrong[c].any():
                    wrong = int(c)  # the worst that no kink excuses
                    break
        return self.result(seen, wrong)

    def look(self, numeric: Any, analytic: Any, rounding: Any, uneven: Any, distance: Any) -> _Look:
        """The error model of the module."""
        known = rounding + uneven + self.nothing / distance
        relative = (
            self.limit * abs(analytic) if self.tolerance is None else self.tolerance * self.largest
        )
        allowed = known + relative
        gap = abs(numeric - analytic)
        wrong = ~((gap <= allowed) & (gap < np.inf))  # a NaN is wrong
        unknown = ~wrong & (known > self.resolution * np.maximum(abs(numeric), abs(analytic)))
        is_zero = (abs(analytic) * distance <= self.nothing) & (known <= self.resolution * self.dy)
        smooth = (uneven <= 20 * rounding) | (is_zero & (known <= self.resolution**2 * self.dy))
        at_kink = unknown & ~smooth
        return _Look(
            numeric,
            analytic,
            known,
            allowed,
            wrong,
            at_kink,
            unknown & ~at_kink & ~is_zero,
            is_zero,
        )

    def closer_look(self, move: _Move) -> _Look:
        """By Richardson's extrapolation; of several steps, for each L the one that knows its slope
        best.
        """
        op, rows = self.op, len(self.gradients)
        best: _Look | None = None
        for sizes, factor in (
            (self.typical, 1.0),
            (self.own, 1.0),
            (self.own, 1 / 64),
            (self.typical, 64.0),
        ):
            far = op.slope(self.i, move, sizes, factor * op.step)
            near = op.slope(self.i, move, sizes, factor * op.step / 2)
            uneven = UNEVEN * (
                abs(far.slope - near.slope) + abs(far.curvature - 2 * near.curvature)
            )
            slope, change = (4 * near.slope - far.slope) / 3, (4 * near.change - far.change) / 3
            analytic = self.gradients[:, move.where] @ change
            look = self.look(slope[:rows], analytic, near.rounding[:rows], uneven[:rows], near.size)
            better = True if best is None else (look.known < best.known) | np.isnan(best.known)
            best = _Look(*(np.where(better, new, old) for new, old in zip(look, best or look)))
            if (best.known <= self.limit * np.maximum(abs(best.numeric), abs(best.analytic))).all():
                break
        assert best is not None
        return best

    def errors(self, look: _Look) -> np.ndarray:
        """|numeric - analytic| over the largest of each dy; where there is none, inf if it is wrong."""
        gap = abs(look.numeric - look.analytic)
        without = np.where(look.wrong, np.inf * gap, 0.0)
        return np.where(
            self.largest == 0, without, gap / np.where(self.largest == 0, 1, self.largest)
        )

    def count_hidden(self, seen: _Look) -> int:
        """How many elements change every L by less than rounding does, of those that move together."""
        count = 0
        for c, (move, change) in enumerate(zip(self.moves, self.changes)):
            parts = abs(self.gradients[:, move.where] * change)
            nothing = parts * self.distances[c] <= self.nothing[:, None]
            count += ((parts <= seen.known[c][:, None]).all(axis=0) & ~nothing.all(axis=0)).sum()
        return int(count)

    def result(self, seen: _Look, wrong: int | None) -> GradientResult:
        """What was found, in words too.  wrong: the worst move, None if none is wrong."""
        op, n = self.op, self.value.size
        unit = self.parts if self.every_element else 1  # moves for each that is counted
        checked = len(self.moves) // unit
        at_kink = seen.at_kink.any(axis=1).reshape(-1, unit).any(axis=1)
        hidden = seen.hidden.reshape(-1, unit).any(axis=1)
        too_small = int(hidden.sum()) if self.every_element else self.count_hidden(seen)
        notes = ["every element" if self.every_element else f"{checked} random directions"]
        if checked and not self.largest.any():
            notes.append("the analytic gradient is zero")
        if too_small:
            notes.append(f"{too_small} of {n} too small to be measured beside the rounding of y")
        if at_kink.any():
            notes.append(f"{at_kink.sum()} of {checked} left out at kinks")
        too_many = at_kink.sum() > MAX_AT_KINKS * checked
        if too_many:
            notes[-1] += f", the limit is {MAX_AT_KINKS:.0%}"
        error, limit, index, numeric, analytic, row = self.worst(seen, wrong)
        if wrong is not None and row:
            (where,) = np.nonzero(op.weights[row])
            output = tuple(
                int(k)
                for k in np.unravel_index(where[0] // (1 + np.iscomplexobj(op.y)), op.y.shape)
            )
            notes.append(
                f"dy at {output} alone"
                if len(where) == 1
                else f"dy at {len(where)} numbers of y alone"
            )
        ok = wrong is None and not too_many and not (checked and (at_kink | hidden).all())
        what = (
            op.name,
            op.names[self.i],
            self.value.shape,
            error,
            limit,
            bool(ok),
            index,
            numeric,
            analytic,
        )
        return GradientResult(
            *what, checked, int(at_kink.sum()), "; ".join(notes), too_small=too_small
        )

    def worst(
        self, seen: _Look, wrong: int | None
    ) -> tuple[float, float, tuple[int, ...], complex, complex, int]:
        """Error, limit, index, both values, number of dy: of the wrong move, or of the largest
        error.
        """
        if not self.moves:
            return 0.0, self.limit, (), complex("nan"), complex("nan"), 0
        errors = np.where(seen.at_kink | seen.too_small, 0, self.errors(seen))
        c, row = (int(k) for k in np.unravel_index(errors.argmax(), errors.shape))
        if wrong is not None:
            c, row = (
                wrong,
                int(
                    np.where(
                        seen.wrong[wrong], np.nan_to_num(errors[wrong], nan=np.inf), -1
                    ).argmax()
                ),
            )
        error, limit = float(errors[c, row]), float(seen.allowed[c, row] / (self.largest[row] or 1))
        if self.every_element:
            element = c // self.parts
            # real and imaginary part
            numbers = slice(element * self.parts, (element + 1) * self.parts)
            pairs = zip(seen.numeric[numbers, row], seen.analytic[numbers, row])
        elif wrong is None:
            return (
                error,
                limit,
                (),
                complex(seen.numeric[c, row]),
                complex(seen.analytic[c, row]),
                row,
            )
        else:  # go from the worst direction to an element that is wrong
            element = self.search_element(row, self.moves[c]) // self.parts
            numbers = slice(element * self.parts, (element + 1) * self.parts)
            axes = [_Move(np.array([k]), np.ones(1)) for k in range(numbers.start, numbers.stop)]
            slopes = [
                self.op.slope(self.i, axis, self.own, self.op.step).slope[row] for axis in axes
            ]
            pairs = zip(slopes, self.gradients[row, numbers])
        numeric, analytic = (complex(*parts) for parts in zip(*pairs))
        index = tuple(int(k) for k in np.unravel_index(element, self.value.shape))
        return error, limit, index, numeric, analytic, row

    def search_element(self, row: int, move: _Move) -> int:
        """Where the gradient is wrong: halve the set of moved numbers, keep the worse half."""
        gradient = self.gradients[row]
        if np.isnan(gradient).any():
            return int(np.isnan(gradient).argmax())
        while len(move.where) > 1:
            halves = [
                _Move(*half)
                for half in zip(np.array_split(move.where, 2), np.array_split(move.factors, 2))
            ]
            gaps = []
            for half in halves:
                slopes = self.op.slope(self.i, half, self.typical, self.op.step)
                gaps.append(
                    abs(slopes.slope[row] - gradient[half.where] @ slopes.change) * slopes.size
                )
            move = halves[int(np.argmax(gaps))]
        return int(move.where[0])
