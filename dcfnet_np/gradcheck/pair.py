"""A pair, forward and backward, run on the host's terms; its rules, and what is found about it."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..backend import Array, Device, array_module, to_device, to_numpy
from ..support.words import counted

VALUE_LIMIT = 5e-8  # of a value, in float64
# By NumPy's characters of the dtypes.
PRECISIONS: dict[str, Any] = {"f": np.float32, "d": np.float64, "F": np.float32, "D": np.float64}


class GradientResult(NamedTuple):
    """One gradient, compared; or one value, of our own equations."""

    name: str  # of the op
    gradient: str  # which of its gradients
    shape: tuple[int, ...]
    error: float  # |numeric - analytic| at the worst element over max|analytic|
    limit: float  # of the error of that element
    ok: bool
    worst: tuple[int, ...] = ()  # index of that element; () where only directions were compared
    numeric: complex = complex("nan")  # there, or along the worst direction
    analytic: complex = complex("nan")
    checked: int = 0  # elements, or directions
    at_kinks: int = 0  # of them left out
    note: str = ""
    equation: str = ""  # of the paper; "" for an op that has none
    too_small: int = 0  # elements left out because rounding hides their gradient

    def __str__(self) -> str:
        what, by = f"{self.name}: {self.gradient} {self.shape}", f"error {self.error:.3g}"
        if self.ok:
            where = " wherever it can be measured" if self.at_kinks or self.too_small else ""
            return f"{what} is right{where}: {by}, limit {self.limit:.1g} ({self.note})"
        if self.error <= self.limit:
            return f"{what} cannot be checked: {self.note}"
        numeric, analytic = (
            f"{v.real if v.imag == 0 else v:.10g}" for v in (self.numeric, self.analytic)
        )
        return (
            f"{what} is wrong: {by}, limit {self.limit:.1g}; worst at index {self.worst}: "
            f"numeric {numeric}, analytic {analytic} ({self.note})"
        )


class GradientError(AssertionError):
    """A gradient is wrong, or an op broke the rules of a pair; `results`: those compared."""

    def __init__(self, message: str, results: Sequence[GradientResult] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


class Pair(NamedTuple):
    """Something with a gradient: what `check` takes."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: Sequence[Array]
    gradient_names: Sequence[str]
    equation: str = ""  # of the paper; "" for an op that has none
    options: dict[str, Any] | None = None

    def arguments(self) -> dict[str, Any]:
        """What `check` takes by keyword."""
        names = {"name": self.name, "gradient_names": self.gradient_names}
        return {**names, **(self.options or {})}


class Place(NamedTuple):
    """Moves arrays to the device and into the precision under test."""

    device: Device
    precision: Any  # np.float64 or np.float32

    def __call__(self, array: np.ndarray) -> Array:
        kind = np.result_type(self.precision, np.complex64 if np.iscomplexobj(array) else np.half)
        return to_device(array.astype(kind), self.device)

    def normal(self, rng: np.random.Generator, *shape: int) -> Array:
        """Random numbers of the normal distribution."""
        return self(rng.standard_normal(shape))


Findings = Iterator[Pair | GradientResult]  # what a case yields


def compare(name: str, got: Any, expected: Any, note: str, equation: str = "") -> GradientResult:
    """Values that must agree: error = max|got - expected| / max|expected|."""
    got, expected = to_host(got), to_host(expected)
    limit = VALUE_LIMIT
    # as many roundings as there are values: every sum here is shorter than that
    if got.dtype.char in "fF":
        limit = float(4 * np.finfo(np.float32).eps * np.sqrt(got.size))
    gap = abs(got - expected)
    worst = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), got.shape))
    error = float(gap.max() / abs(expected).max())
    what = name, "value", got.shape, error, limit, bool(error <= limit), worst
    values = complex(expected[worst]), complex(got[worst])
    return GradientResult(*what, values[0], values[1], got.size, note=note, equation=equation)


class Op:
    """A pair with its inputs and y on the host, once they are known to be usable."""

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Array],
        name: str,
        gradient_names: Sequence[str],
        options: dict[str, Any],
    ) -> None:
        self.forward, self.backward, self.options = forward, backward, options
        self.name = name or getattr(forward, "__name__", "forward")
        self.values = _usable_inputs(inputs, self.name)
        count = len(inputs)
        self.names = list(gradient_names) or [f"gradient {i}" for i in range(count)]
        if len(self.names) != count:
            got = len(self.names)
            raise ValueError(f"check: gradient_names must have {counted(count, 'name')}, got {got}")
        _require_arguments("forward", forward, [f"input {i}" for i in range(count)], options)
        _require_arguments("backward", backward, ["dy", "cache"], {})
        self.precision = PRECISIONS[self.values[0].dtype.char]
        self.eps = float(np.finfo(self.precision).eps)
        self.xp = array_module(*inputs)
        self.y = self.run_forward([self.xp.array(value) for value in self.values])[0]

    def fail(self, what: str) -> NoReturn:
        raise GradientError(f"{self.name}: {what}")

    def run_forward(self, arrays: Sequence[Array]) -> tuple[np.ndarray, Any]:
        """y on the host, and the cache; GradientError where forward returns anything else."""
        returned = self.forward(*arrays, **self.options)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            hint = "without a cache, `return y, None`"
            self.fail(f"forward must return the pair (y, cache), got {_kind(returned)}; {hint}")
        y, cache = returned
        if not isinstance(y, float | complex) and not _is_array(y):
            hint = "check several outputs one by one, or as one array"
            self.fail(f"y must be one array or a float, got {_kind(y)}; {hint}")
        host = to_host(y)
        # a loss may be a float in float32 too
        is_number = host.ndim == 0 and host.dtype.char in "dD"
        if PRECISIONS.get(host.dtype.char) != self.precision and not is_number:
            self.fail(f"y must keep the precision of its inputs, got {host.dtype}")
        return host, cache

    def run(self, place: Callable[[np.ndarray], Array], dy: np.ndarray) -> list[np.ndarray]:
        """Forward and backward once: y and the gradients, on the host, in the right form."""
        arrays, upstream = [place(value) for value in self.values], place(dy)
        y, cache = self.run_forward(arrays)
        self._require_unwritten("forward", arrays)
        gradients = self.backward(upstream if dy.ndim else dy.item(), cache)
        self._require_unwritten("backward", arrays)
        if not np.array_equal(to_numpy(upstream), dy):
            self.fail("backward has written into dy")
        if not isinstance(gradients, tuple | list):
            gradients = (gradients,)
        expected = len(self.values)
        if len(gradients) != expected:
            self.fail(f"backward must return {counted(expected, 'gradient')}, got {len(gradients)}")
        for label, gradient, value in zip(self.names, gradients, self.values):
            got, form = _kind(gradient), _kind(value)
            if got != form:
                self.fail(f"{label} must be {form}, as its input; got {got}")
        return [y, *map(to_host, gradients)]

    def _require_unwritten(self, when: str, arrays: Sequence[Array]) -> None:
        for i, (array, value) in enumerate(zip(arrays, self.values)):
            if not np.array_equal(to_numpy(array), value):
                self.fail(f"{when} has written into input {i}")

    def gradients(self, dy: np.ndarray) -> list[np.ndarray]:
        """What `backward` returns; the same when run again, and for arrays with strides."""
        expected = self.run(self.xp.array, dy)
        again = "when run twice: draw random numbers once, outside, and keep no state"
        for place, when in (
            (self.xp.array, again),
            (self._non_contiguous, "when inputs are not contiguous"),
        ):
            for label, a, b in zip(["y", *self.names], expected, self.run(place, dy)):
                if a.shape != b.shape:
                    self.fail(f"{label} differs by its shape {when}")
                limit = 1e3 * self.eps * abs(a[np.isfinite(a)]).max(initial=0)
                if not np.allclose(a, b, rtol=0, atol=limit, equal_nan=True):
                    self.fail(f"{label} differs by {abs(a - b).max():.3g} {when}")
        return expected[1:]

    def _non_contiguous(self, value: np.ndarray) -> Array:
        """The same array with NaN between its elements: code that ignores strides reads them."""
        if value.ndim == 0:
            return self.xp.array(value)
        wide = self.xp.full((*value.shape[:-1], 2 * value.shape[-1]), np.nan, value.dtype)
        wide[..., ::2] = self.xp.asarray(value)
        return wide[..., ::2]

    def moved(self, moves: dict[int, np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """The inputs moved by `moves`, as far as their precision can, and the numbers of y."""
        values = [
            shaped(flat(v) + moves[i], v) if i in moves else v for i, v in enumerate(self.values)
        ]
        y = self.run_forward([self.xp.array(value) for value in values])[0]
        if y.shape != self.y.shape:
            self.fail(f"the shape of y changes with the values: {self.y.shape}, {y.shape}")
        return values, flat(y)


def _usable_inputs(inputs: Sequence[Array], name: str) -> list[np.ndarray]:
    """Copies of the inputs on the host; TypeError or ValueError for what cannot be checked."""
    all_of_them = f"check: the inputs of {name} must"
    if not isinstance(inputs, list | tuple):
        raise TypeError(f"{all_of_them} be a list of arrays, such as [x], got {_kind(inputs)}")
    if not inputs:
        raise ValueError(f"{all_of_them} hold at least one array, got none")
    values = []
    for i, array in enumerate(inputs):
        this = f"check: input {i} of {name} must be"
        if isinstance(array, np.generic) or not _is_array(array):
            raise TypeError(f"{this} an array, such as np.array(...), got {_kind(array)}")
        value = np.array(to_numpy(array))
        value = value.astype(value.dtype.newbyteorder("="))
        if value.dtype.char not in PRECISIONS:
            hint = "convert it, or give what has no gradient by keyword"
            kinds = "float64 or complex128 (or float32 or complex64)"
            raise TypeError(f"{this} {kinds}, got {value.dtype}; {hint}")
        if not np.isfinite(value).all():
            raise ValueError(f"{this} finite, got NaN or infinity")
        values.append(value)
    if len({PRECISIONS[value.dtype.char] for value in values}) != 1:
        got = ", ".join(str(value.dtype) for value in values)
        raise TypeError(f"{all_of_them} share one precision, got {got}")
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
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, tuple | list) else name


def to_host(y: Any) -> np.ndarray:
    """A copy on the host of an array or a number: the op may use its memory again."""
    return np.array(y if isinstance(y, float | complex | np.generic) else to_numpy(y))


def flat(array: np.ndarray) -> np.ndarray:
    """The real numbers of an array in float64; a complex element is two."""
    array = np.ascontiguousarray(array).reshape(-1)
    return array.view(array.real.dtype).astype(np.float64)


def shaped(numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`flat` undone: an array like another one."""
    return numbers.astype(like.real.dtype).view(like.dtype).reshape(like.shape)
