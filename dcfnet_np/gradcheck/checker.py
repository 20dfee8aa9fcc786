"""Hand-written gradients of anybody's op against finite differences.

docs/reference/gradcheck.md says why.

`check(forward, backward, inputs)` takes a pair, `y, cache = forward(*inputs)` and
`gradients = backward(dy, cache)`, and compares for several upstream gradients dy

    analytic   what `backward` returns for dy
    numeric    (L(x + h) - L(x - h)) / (2 h),    L = Re sum conj(dy) y

at every element of a small input, and along random directions through a large one.  The first dy is
random and weighs all of y.  Then each number of y has a dy alone; of a large y, each of ten groups.
A slope agrees when

    |numeric - analytic| <= LIMIT |analytic| + rounding + uneven

    rounding = NOISE delta / h,   delta: how far rounding moves L, as `_Losses` measures it
    uneven   = how far slope and curvature over +-h differ from those over +-h/2; 0 at first

A closer look follows where numbers disagree, or rounding hides them: Richardson's extrapolation for
four steps h.  For each dy the step decides that knows the slope best.  Where rounding or `uneven`
is more than RESOLUTION of the slope, right and wrong look alike.  Such elements are counted as "too
small" or "at kinks", and an input of which no element can be measured is a failure.

A complex gradient is dL/dRe Z + i dL/dIm Z, so dL = Re sum conj(gradient) dZ, of inputs and of y.
The op runs in the precision of its inputs; sums over y are always taken in float64.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array
from .pair import GradientError, GradientResult, Op, flat, shaped

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


class Sweep(NamedTuple):
    """The error of one gradient over the step: falls like h^2, then rises like 1/h."""

    name: str
    gradient: str
    steps: tuple[float, ...]  # of the largest magnitude of the input
    errors: tuple[float, ...]


def check(  # noqa: PLR0913 - the options of a check are the interface
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
    """Compare the gradients of an op with finite differences; GradientError when one is wrong.

    forward, backward: `y, cache = forward(*inputs, **options)`, y an array or a float, and
        `gradients = backward(dy, cache)`, one for every input and in their order.
    inputs: a list of float64 or complex128 arrays, or float32 or complex64 ones, NumPy or CuPy.
        Whatever needs no gradient goes into `options`.
    step: the h of the differences is `step` times the size of the element; by default STEP.
    tolerance: limit of each error, relative to the largest gradient; by default each element has
        its own (see the module).
    exhaustive_limit: an input with more elements is checked along random directions.

    It also checks that forward and backward give the same when run again, that inputs and dy are
    not written, that non-contiguous ones give the same result, that y keeps the precision and each
    gradient has shape and dtype of its input.  A NaN on either side is a failure.  Up to a fifth of
    the elements may lie at kinks, where nothing is measured: `at_kinks` of the result counts them.

    Returns a result for every input.  Raises TypeError or ValueError for unusable inputs.
    """
    for what, number in (("step", step), ("tolerance", tolerance)):
        if number is not None and not (isinstance(number, Real) and 0 < number < np.inf):
            raise ValueError(f"check: {what} must be a positive number, got {number!r}")
    op = Op(forward, backward, inputs, name, gradient_names, options)
    with np.errstate(all="ignore"):  # a NaN is reported as a result
        losses = _Losses(op, seed, step or STEP[op.precision])
        first = op.gradients(losses.dys[0])
        losses.add_dys()
        lines = [_Line(losses, i, gradient, exhaustive_limit) for i, gradient in enumerate(first)]
        results = [line.compare([gradient], tolerance) for line, gradient in zip(lines, first)]
        if all(result.error <= result.limit for result in results):
            by_dy = [first, *(op.run(op.xp.array, dy)[1:] for dy in losses.dys[1:])]
            results = [line.compare(of_it, tolerance) for line, of_it in zip(lines, zip(*by_dy))]
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
    """The error of each gradient for each of `steps`, by central differences along random moves.

    Arguments as in `check`.  A right gradient draws a V on double logarithmic axes, a wrong one
    never gets below its own error, and `step` belongs at the bottom of the V.  Returns a curve for
    every input; nothing is judged.
    """
    op = Op(forward, backward, inputs, name, gradient_names, options)
    curves = []
    with np.errstate(all="ignore"):
        losses = _Losses(op, seed, 0.0)
        for i, gradient in enumerate(op.gradients(losses.dys[0])):
            largest = abs(op.values[i]).max(initial=0) or 1.0
            numbers = np.arange(flat(gradient).size)
            moves = [losses.direction(numbers) for _ in range(DIRECTIONS)]
            errors = []
            for step in steps:
                sizes = np.full(numbers.shape, largest)
                slopes = [losses.slope(i, move, sizes, step) for move in moves]
                numeric = np.array([s.slope[0] for s in slopes])
                analytic = np.array([s.change @ flat(gradient) for s in slopes])
                scale = abs(analytic).max() or 1.0
                errors.append(float(abs(numeric - analytic).max() / scale))
            curves.append(Sweep(op.name, op.names[i], tuple(map(float, steps)), tuple(errors)))
    return curves


# --- slopes of every L ---


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


class _Losses:
    """L = Re sum conj(dy) y for R upstream gradients dy, and how far rounding moves each."""

    def __init__(self, op: Op, seed: int, step: float) -> None:
        self.op, self.step, self.rng = op, step, np.random.default_rng(seed)
        dy = self.random(op.y.shape)
        if np.iscomplexobj(op.y):
            dy = dy + 1j * self.random(op.y.shape)
        self.dys = [np.asarray(dy).astype(op.y.dtype)]
        self.weights = flat(self.dys[0])[None]  # (R, numbers of y): L = weights @ y
        self.delta = np.zeros(self.weights.shape[1])  # of each number of y

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Magnitudes in [0.5, 1.5) with random signs: nothing hides behind a small factor."""
        return np.asarray(self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1.0, 1.0], shape))

    def direction(self, where: np.ndarray) -> _Move:
        """These numbers, moved at random by as much together as one of them alone."""
        return _Move(where, self.random(where.shape) / np.sqrt(len(where)))

    def add_dys(self) -> None:
        """Measure delta, and add a dy for each number of y, or for numbers that move alike."""
        op, y = self.op, flat(self.op.y)
        own = [_sizes(value)[1] for value in op.values]
        changes = [self.random(size.shape) * size * self.step / 16 for size in own]
        t = self.rng.uniform(0, 1, POINTS)
        points = np.array([op.moved({i: k * c for i, c in enumerate(changes)})[1] for k in t]) - y
        powers = np.vander(t, 4)
        left = points - powers @ (np.linalg.pinv(powers) @ points)
        scatter = np.sqrt((left**2).sum(axis=0) / (POINTS - 4))
        self.delta = np.fmax(scatter, op.eps / 2 * abs(y))
        if len(y) > 1:
            for where in _groups(abs(points).max(axis=0), OUTPUTS):
                dy = np.zeros(len(y))
                dy[where] = self.random(where.shape)
                self.dys.append(shaped(dy, op.y))
        self.weights = np.array([flat(dy) for dy in self.dys])

    def rounding(self) -> np.ndarray:
        """(R): how far rounding moves each L."""
        return np.sqrt(self.weights**2 @ self.delta**2)

    def slope(self, i: int, move: _Move, sizes: np.ndarray, step: float) -> _Slopes:
        """By the difference over +-h: h = step * the size of the largest element that moves.

        The slope is taken over the step that was really made: in float32, x + h is rounded.
        """
        size = sizes[move.where].max(initial=0) or 1.0
        h = step * size
        change = np.zeros(len(sizes))
        change[move.where] = move.factors * step * sizes[move.where]
        (far, y_far), (back, y_back) = self.op.moved({i: change}), self.op.moved({i: -change})
        return _Slopes(
            slope=self.weights @ (y_far - y_back) / (2 * h),
            curvature=self.weights @ (y_far + y_back - 2 * flat(self.op.y)) / h,
            rounding=NOISE * self.rounding() / h,
            change=(flat(far[i]) - flat(back[i]))[move.where] / (2 * h),
            size=size,
        )


def _sizes(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each real number: its size, but at least the root mean square of all; its own size.

    A number that is zero has the root mean square for its own size.
    """
    own = abs(flat(value))
    largest = own.max(initial=0) or 1.0
    typical = largest * np.sqrt(np.mean((own / largest) ** 2)) or 1.0 if own.size else 1.0
    return np.maximum(own, typical), np.where(own > 0, own, typical)


def _groups(sizes: np.ndarray, limit: int) -> list[np.ndarray]:
    """Every index alone; of more than `limit`, groups of like size, so that no small one hides."""
    if len(sizes) <= limit:
        return [np.array([j]) for j in range(len(sizes))]
    return np.array_split(np.argsort(sizes, kind="stable"), DIRECTIONS)


# --- one gradient, compared ---


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

    def __init__(self, losses: _Losses, i: int, gradient: np.ndarray, exhaustive_limit: int):
        self.losses, self.i, self.value = losses, i, losses.op.values[i]
        precision = losses.op.precision
        self.limit, self.resolution = LIMIT[precision], RESOLUTION[precision]
        self.parts = 1 + np.iscomplexobj(self.value)  # real numbers of an element
        self.typical, self.own = _sizes(self.value)
        self.every_element = self.value.size <= exhaustive_limit
        limit = len(self.own) if self.every_element else 0
        groups = _groups(abs(flat(gradient)) * self.typical, limit)
        self.moves = [losses.direction(where) for where in groups]
        if self.every_element:
            self.moves = [_Move(where, np.ones(1)) for where in groups]
        slopes = [losses.slope(i, move, self.typical, losses.step) for move in self.moves]
        shape = len(slopes), len(losses.dys)
        self.slopes = np.array([s.slope for s in slopes]).reshape(shape)
        self.rounding = np.array([s.rounding for s in slopes]).reshape(shape)
        self.changes = [s.change for s in slopes]
        self.distances = np.array([s.size for s in slopes])[:, None]

    def compare(self, gradients: Sequence[np.ndarray], tolerance: float | None) -> GradientResult:
        """The result for what `backward` returned for the first upstream gradients, or for all."""
        rows = len(gradients)
        self.gradients = np.array([flat(gradient) for gradient in gradients])
        self.tolerance = tolerance
        self.dy = abs(self.losses.weights[:rows]).max(axis=1, initial=0)
        # A change of L that is nothing but rounding, where an element moves by all of its size.
        self.nothing = 2 * self.losses.rounding()[:rows]
        moved = zip(self.moves, self.changes)
        along = [self.gradients[:, move.where] @ change for move, change in moved]
        analytic = np.array(along).reshape(-1, rows)
        self.largest = np.fmax.reduce(abs(analytic), axis=0, initial=0)
        numeric, rounding = self.slopes[:, :rows], self.rounding[:, :rows]
        seen = self.look(numeric, analytic, rounding, 0.0, self.distances)
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
        relative = self.limit * abs(analytic)
        if self.tolerance is not None:
            relative = self.tolerance * self.largest
        allowed = known + relative
        gap = abs(numeric - analytic)
        wrong = ~((gap <= allowed) & (gap < np.inf))  # a NaN is wrong
        unknown = ~wrong & (known > self.resolution * np.maximum(abs(numeric), abs(analytic)))
        is_zero = (abs(analytic) * distance <= self.nothing) & (known <= self.resolution * self.dy)
        smooth = (uneven <= 20 * rounding) | (is_zero & (known <= self.resolution**2 * self.dy))
        at_kink = unknown & ~smooth
        too_small = unknown & ~at_kink & ~is_zero
        return _Look(numeric, analytic, known, allowed, wrong, at_kink, too_small, is_zero)

    def closer_look(self, move: _Move) -> _Look:
        """By Richardson's extrapolation; for each L the step that knows its slope best."""
        losses, rows = self.losses, len(self.gradients)
        best: _Look | None = None
        for sizes, factor in (
            (self.typical, 1.0),
            (self.own, 1.0),
            (self.own, 1 / 64),
            (self.typical, 64.0),
        ):
            far = losses.slope(self.i, move, sizes, factor * losses.step)
            near = losses.slope(self.i, move, sizes, factor * losses.step / 2)
            bend = abs(far.curvature - 2 * near.curvature)
            uneven = UNEVEN * (abs(far.slope - near.slope) + bend)[:rows]
            slope, change = (4 * near.slope - far.slope) / 3, (4 * near.change - far.change) / 3
            analytic = self.gradients[:, move.where] @ change
            look = self.look(slope[:rows], analytic, near.rounding[:rows], uneven, near.size)
            better = True if best is None else (look.known < best.known) | np.isnan(best.known)
            best = _Look(*(np.where(better, new, old) for new, old in zip(look, best or look)))
            if (best.known <= self.limit * np.maximum(abs(best.numeric), abs(best.analytic))).all():
                break
        assert best is not None
        return best

    def errors(self, look: _Look) -> np.ndarray:
        """|numeric - analytic| over the largest of each dy; without one, inf if it is wrong."""
        gap = abs(look.numeric - look.analytic)
        without = np.where(look.wrong, np.inf * gap, 0.0)
        scaled = gap / np.where(self.largest == 0, 1, self.largest)
        return np.where(self.largest == 0, without, scaled)

    def count_hidden(self, seen: _Look) -> int:
        """How many elements that move together change every L by less than rounding does."""
        count = 0
        for c, (move, change) in enumerate(zip(self.moves, self.changes)):
            parts = abs(self.gradients[:, move.where] * change)
            nothing = parts * self.distances[c] <= self.nothing[:, None]
            count += ((parts <= seen.known[c][:, None]).all(axis=0) & ~nothing.all(axis=0)).sum()
        return int(count)

    def result(self, seen: _Look, wrong: int | None) -> GradientResult:
        """What was found, in words too.  wrong: the worst move, None if none is wrong."""
        op, n = self.losses.op, self.value.size
        unit = self.parts if self.every_element else 1  # moves for each that is counted
        checked = len(self.moves) // unit
        at_kink = seen.at_kink.any(axis=1).reshape(-1, unit).any(axis=1)
        hidden = seen.hidden.reshape(-1, unit).any(axis=1)
        kinks = int(at_kink.sum())
        too_small = int(hidden.sum()) if self.every_element else self.count_hidden(seen)
        notes = ["every element" if self.every_element else f"{checked} random directions"]
        if checked and not self.largest.any():
            notes.append("the analytic gradient is zero")
        if too_small:
            notes.append(f"{too_small} of {n} too small to be measured beside the rounding of y")
        if kinks:
            notes.append(f"{kinks} of {checked} left out at kinks")
        too_many = kinks > MAX_AT_KINKS * checked
        if too_many:
            notes[-1] += f", the limit is {MAX_AT_KINKS:.0%}"
        error, limit, index, numeric, analytic, row = self.worst(seen, wrong)
        if wrong is not None and row:
            notes.append(self.describe_dy(row))
        ok = wrong is None and not too_many and not (checked and (at_kink | hidden).all())
        what = op.name, op.names[self.i], self.value.shape, error, limit, bool(ok), index
        note = "; ".join(notes)
        return GradientResult(*what, numeric, analytic, checked, kinks, note, too_small=too_small)

    def describe_dy(self, row: int) -> str:
        (where,) = np.nonzero(self.losses.weights[row])
        if len(where) > 1:
            return f"dy at {len(where)} numbers of y alone"
        y = self.losses.op.y
        index = np.unravel_index(where[0] // (1 + np.iscomplexobj(y)), y.shape)
        return f"dy at {tuple(map(int, index))} alone"

    def worst(
        self, seen: _Look, wrong: int | None
    ) -> tuple[float, float, tuple[int, ...], complex, complex, int]:
        """Error, limit, index, both values, number of dy: of the wrong move, or the worst one."""
        if not self.moves:
            return 0.0, self.limit, (), complex("nan"), complex("nan"), 0
        errors = np.where(seen.at_kink | seen.too_small, 0, self.errors(seen))
        if wrong is None:
            c, row = (int(k) for k in np.unravel_index(errors.argmax(), errors.shape))
        else:
            of_wrong = np.where(seen.wrong[wrong], np.nan_to_num(errors[wrong], nan=np.inf), -1)
            c, row = wrong, int(of_wrong.argmax())
        error, limit = float(errors[c, row]), float(seen.allowed[c, row] / (self.largest[row] or 1))
        if not self.every_element and wrong is None:
            values = complex(seen.numeric[c, row]), complex(seen.analytic[c, row])
            return error, limit, (), *values, row
        # of a direction that is wrong, an element that is
        number = c if self.every_element else self.search_element(row, self.moves[c])
        element = number // self.parts
        numbers = np.arange(element * self.parts, (element + 1) * self.parts)  # real, imaginary
        if self.every_element:
            numeric, analytic = seen.numeric[numbers, row], seen.analytic[numbers, row]
        else:
            axes = [_Move(np.array([k]), np.ones(1)) for k in numbers]
            slopes = [self.losses.slope(self.i, axis, self.own, self.losses.step) for axis in axes]
            numeric = np.array([s.slope[row] for s in slopes])
            analytic = self.gradients[row, numbers]
        index = tuple(int(k) for k in np.unravel_index(element, self.value.shape))
        return error, limit, index, complex(*numeric), complex(*analytic), row

    def search_element(self, row: int, move: _Move) -> int:
        """Where the gradient is wrong: halve the set of moved numbers, keep the worse half."""
        gradient = self.gradients[row]
        if np.isnan(gradient).any():
            return int(np.isnan(gradient).argmax())
        while len(move.where) > 1:
            pairs = zip(np.array_split(move.where, 2), np.array_split(move.factors, 2))
            halves, gaps = [_Move(*half) for half in pairs], []
            for half in halves:
                s = self.losses.slope(self.i, half, self.typical, self.losses.step)
                gaps.append(abs(s.slope[row] - gradient[half.where] @ s.change) * s.size)
            move = halves[int(np.argmax(gaps))]
        return int(move.where[0])
