"""Mutation testing: would the checks notice a mistake?

Mutants are made from the syntax tree of a function, one small change each: a term, factor or sign
dropped, an operator exchanged, a conjugate, absolute value or transposition left out, real and
imaginary part exchanged, a constant or a bound of a slice moved by one, arguments or results
swapped, a condition turned round, a statement left out.  Each is compiled, put in the place of the
function, and the cases that reach the function are run: the first check that fails has killed it.
A mutant that survives is equivalent, and then EQUIVALENT says why, or it is a hole in the checks.

Not mutated, since it could end the process instead of failing a check: a function that makes a view
with `as_strided`.  Not mutated, since the result is the same: see `left_alone`.
"""

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from .. import filter as filter_module
from .. import network, ops
from ..backend import Array
from ..fast import strip, winograd
from ..vision import windows
from .cases import CASES, run
from .checker import check

_PAIRS = ((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or), (ast.Eq, ast.NotEq),
          (ast.Is, ast.IsNot), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE))  # fmt: skip
EXCHANGED: dict[type, type] = {**dict(_PAIRS), **{other: one for one, other in _PAIRS}}
DROPPED = {"conj", "conjugate", "transpose", "abs"}  # only the argument, or the array, is left
SYMMETRIC = {"inner", "add", "multiply", "maximum", "minimum", "max", "min", "result_type"}
NOT_MUTATED = {"array_module", "is_numpy"}
GPU = ("kernels.enabled()", " is not np")  # a branch with this in its condition is not run on a CPU

UNKNOWN_LENGTH = re.compile(r"(\.reshape\((?:[^()]|\([^()]*\))*)-2")  # a -1 of reshape, one less
EXACT = "filter.exact_filter"
STRIP, BLOCKS = "fast.strip.Strip.backward", "ops.conv._blocks"
# (function, part of a line of its code, what stands there in the mutant, or "*" for any change of
# that line, why no check can tell the two apart)
EQUIVALENT: list[tuple[str, str, str, str]] = [
    (EXACT, "swapaxes(-1, -2)", "swapaxes(-1, 2)", "the matrix has four axes, so -2 is 2"),
    (EXACT, "swapaxes(-1, -2)", "swapaxes(-2, -1)", "the order of two exchanged axes is nothing"),
    (EXACT, "[..., 0]", "[..., -1]", "that axis has length 1, so the last index is the first"),
    ("ops.dcf.learn_filter", "template_energy(template_f, lam) if energy is None else energy",
     "template_energy(template_f, lam)", "what is given is the same energy"),
    (STRIP, "[:, 1:]", "[:, :]", "the column before the first tile is zero"),
    (STRIP, "[:, 1:]", "[:, 0:]", "the column before the first tile is zero"),
    ("fast.strip.Strip._first_gradient", "dw[:, 1, -1]", "*", "all three rows hold ones"),
    ("fast.winograd.input_transform_backward", "d0[0] = d5[-1] = 0", "*",
     "these two places lie beyond all tiles and are never read; zero keeps them from growing"),
    (BLOCKS, "step = 1 if xp is np else max(n, 1)", "*",
     "how many images at a time: the sums are the same, and what follows `else` is for a GPU"),
    (BLOCKS, "range(0, n", "range(-1, n", "the slice from -1 to 0 is empty"),
    ("ops.conv._stack_columns", "w + 2", "w + 3", "nobody reads the columns on the right"),
    ("ops.conv._unstack_columns", "w + 2", "w + 3", "nobody reads the columns on the right"),
    ("ops.dcf.dcf_backward", "template_f, search_f, label_f", "template_f, label_f, search_f",
     "Eq. 9 knows search and label only by their product"),
    ("ops.recurrent.answer_backward", "(dresponse_f, answer(state, search_f, rule), b)",
     "(answer(state, search_f, rule), dresponse_f, b)", "Re(a^* b) is Re(b^* a)"),
    ("vision.windows.wrapped_index", "index > n", "index >= n", "only its square is used"),
    ("ops.dcf.ridge_loss", "shape[-2:]", "shape[2:]", "a template has four axes"),
    ("ops.lrn.lrn_backward", "lrn_kernels.backward(dy, x", "lrn_kernels.backward(x, dy",
     "only a GPU comes here; tests/test_kernels_lrn.py compares that kernel with this function"),
    ("ops.lrn.power", "if beta == 0.75:", "*",
     "the general power gives the same as the short cut for 3/4"),
]  # fmt: skip


class Mutant(NamedTuple):
    """One small change to one function."""

    function: str  # "ops.dcf.template_gradient_f"
    line: int  # in its file
    before: str  # the line of code that changes, as `ast.unparse` writes it
    after: str
    on_gpu: bool  # in a branch, or its condition, that only a GPU enters
    part: str  # of the line, that changes
    becomes: str
    code: CodeType  # of the whole mutated function


class Verdict(NamedTuple):
    """What the checks said of a mutant."""

    mutant: Mutant
    status: str  # "killed", "equivalent", "not run", "survived"
    by: str  # the check that killed it and its error, or why none did


# --- the engine: every change of one node, compiled and planted ---

Function = Callable[..., Any]
Changes = Callable[[Any], Iterable[ast.AST]]  # what may stand in the place of a node
Skip = Callable[[ast.AST, str, ast.AST], bool]  # parent, its field, node: whether it stays


class _Site(NamedTuple):
    """A node, and where it stands."""

    parent: ast.AST
    field: str
    place: int | None  # in the field, where that is a list
    node: ast.AST
    statement: ast.stmt
    on_gpu: bool

    def put(self, node: ast.AST) -> None:
        if self.place is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.place] = node


def left_alone(parent: ast.AST, field: str, node: ast.AST) -> bool:
    """Annotations, guards (an `if` that can only raise), the choice of the array module."""
    if field in ("annotation", "returns", "args") and not isinstance(parent, ast.Call):
        return True
    if isinstance(node, ast.If):
        return not node.orelse and all(isinstance(inner, ast.Raise) for inner in node.body)
    call = node.value if isinstance(node, ast.Expr) else node
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
        return call.func.id in NOT_MUTATED
    return isinstance(node, ast.Raise | ast.Assert)


def _sites(parent: ast.AST, statement: ast.stmt, on_gpu: bool, skip: Skip) -> Iterator[_Site]:
    """All that may change below `parent`."""
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or skip(parent, field, node):
                continue
            own = node if isinstance(node, ast.stmt) else statement
            is_branch = isinstance(node, ast.If) and any(w in ast.unparse(node.test) for w in GPU)
            here = on_gpu or is_branch
            if not (isinstance(parent, ast.Attribute) and parent.attr == "dtype"):
                yield _Site(parent, field, index, node, own, here)
            yield from _sites(node, own, here, skip)


def mutants(
    function: Function, name: str = "", changes: Changes | None = None, skip: Skip = left_alone
) -> Iterator[Mutant]:
    """Every mutant of a Python function, in the order of its code; no two have the same code.

    changes: what may stand in the place of a node, None for `small_changes`.
    """
    inner = _undecorated(function)
    lines, first_line = inspect.getsourcelines(inner)
    (definition,) = ast.parse(textwrap.dedent("".join(lines))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    if ast.get_docstring(definition) is not None:
        definition.body = definition.body[1:] or [ast.Pass()]
    seen = {ast.unparse(definition)}
    for site in _sites(definition, definition, False, skip):
        for changed in (changes or small_changes)(site.node):
            before = _head(site.statement)
            site.put(ast.copy_location(changed, site.node))
            ast.fix_missing_locations(definition)
            whole = ast.unparse(definition)
            if whole not in seen:
                seen.add(whole)
                after = _head(changed if site.statement is site.node else site.statement)
                line = first_line + site.statement.lineno - 1
                what = name or function.__qualname__, line, before, after, site.on_gpu
                part, becomes = ast.unparse(site.node), ast.unparse(changed)
                yield Mutant(*what, part, becomes, _compile(definition, inner))
            site.put(site.node)


def _undecorated(function: Function) -> FunctionType:
    """The function under decorators such as functools.cache."""
    inner = inspect.unwrap(function)
    assert isinstance(inner, FunctionType)
    return inner


def _head(statement: ast.AST) -> str:
    """A statement, of a compound one the first line."""
    return ast.unparse(statement).splitlines()[0]


def _compile(definition: ast.FunctionDef, function: FunctionType) -> CodeType:
    """The code object of a mutated definition."""
    module = ast.fix_missing_locations(ast.Module([definition], []))
    codes = compile(module, inspect.getfile(function), "exec").co_consts
    return next(c for c in codes if isinstance(c, CodeType) and c.co_name == definition.name)


@contextlib.contextmanager
def planted(function: Function, code: CodeType) -> Iterator[None]:
    """Inside the block every caller of `function` runs `code`, and nothing warns.

    By whatever name it knows the function: the function itself gets another code object.
    """
    inner = _undecorated(function)
    before = inner.__code__
    clear = getattr(function, "cache_clear", lambda: None)
    clear()
    inner.__code__ = code
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        inner.__code__ = before
        clear()


# --- the small changes, by the kind of node ---


def small_changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of one node."""
    for changes in (_of_statement, _of_operation, _of_operand):
        yield from changes(node)


def _of_statement(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.AugAssign(target, _, value):
            yield from _exchanged(node)
            yield ast.Assign([target], value)
            yield ast.Pass()
        case ast.Assign([ast.Subscript() | ast.Attribute(), *_]) | ast.Expr():
            yield ast.Pass()
        case ast.Return(ast.Tuple(values)):
            for swapped in _swaps(values):
                yield ast.Return(ast.Tuple(swapped, ast.Load()))
        case ast.If(ast.Compare() | ast.UnaryOp()) | ast.While(ast.Compare() | ast.UnaryOp()):
            return  # its test is changed
        case ast.If(test) | ast.While(test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))


def _of_operation(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, op, right):
            yield from _exchanged(node)
            if not isinstance(op, ast.MatMult):
                yield left
            if isinstance(op, ast.Add | ast.Mult | ast.Div):
                yield right
            if isinstance(op, ast.Sub):
                yield ast.UnaryOp(ast.USub(), right)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.BoolOp():
            yield from _exchanged(node)
        case ast.Compare(ops=[op]) if type(op) in EXCHANGED:
            yield _with(node, ops=[EXCHANGED[type(op)]()])
            yield ast.UnaryOp(ast.Not(), node)
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)


def _of_operand(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Attribute(attr="real" | "imag" as part):
            yield _with(node, attr="imag" if part == "real" else "real")
        case ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.Slice():
            for bound in ("lower", "upper", "step"):
                yield from _of_bound(node, bound)
        case ast.Call(function, arguments):
            name = getattr(function, "attr", getattr(function, "id", ""))
            owner = getattr(function, "value", None)
            if name in DROPPED:
                is_method = getattr(owner, "id", "") not in ("np", "xp", "numpy")
                yield owner if owner and is_method and name != "abs" else arguments[0]
            if name not in SYMMETRIC:
                yield from (_with(node, args=swapped) for swapped in _swaps(arguments))


def _of_bound(node: ast.Slice, bound: str) -> Iterator[ast.AST]:
    value = getattr(node, bound)
    if value is not None:
        yield _with(node, **{bound: None})
        if bound != "step" and not isinstance(value, ast.Constant):
            yield _with(node, **{bound: ast.BinOp(value, ast.Add(), ast.Constant(1))})


def _exchanged(node: Any) -> list[ast.AST]:
    other = EXCHANGED.get(type(node.op))
    return [_with(node, op=other())] if other else []


def _swaps(nodes: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    """Neighbours exchanged."""
    for i in range(len(nodes) - 1):
        if not any(isinstance(node, ast.Starred) for node in nodes[i : i + 2]):
            yield [*nodes[:i], nodes[i + 1], nodes[i], *nodes[i + 2 :]]


def _with(node: Any, **fields: Any) -> Any:
    """A shallow copy of a node with other fields."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


# --- running the checks on them ---


def survivors(
    forward: Function, backward: Function, inputs: Sequence[Array], **options: Any
) -> list[Mutant]:
    """The mutants of anybody's `backward` that `check` with these arguments does not notice.

    None means that the check would have seen every such mistake; each survivor is a mistake that it
    would not see, for want of other inputs, or code that does not matter.
    """
    check(forward, backward, inputs, **options)
    alive = []
    for mutant in mutants(backward):
        with planted(backward, mutant.code):
            try:
                check(forward, backward, inputs, **options)
                alive.append(mutant)
            except Exception:  # GradientError, or whatever a broken function raises
                continue
    return alive


def targets() -> dict[str, Function]:
    """What is mutated of this library.

    Every backward pass, gradient, adjoint and update of the modules below, every function of `ops`
    and `filter` whose docstring names an equation, and whatever these call there.
    """
    names = [info.name for info in pkgutil.iter_modules(ops.__path__)]
    modules = [importlib.import_module(f"{ops.__name__}.{name}") for name in names]
    modules += [network, filter_module, strip, winograd, windows]
    own = {module.__name__ for module in modules}
    queue: list[Function] = []
    for module in modules:
        classes = [m for m in vars(module).values() if inspect.isclass(m) and m.__module__ in own]
        for function in (f for member in (module, *classes) for f in vars(member).values()):
            if getattr(function, "__module__", "") == module.__name__ and _is_root(function):
                queue.append(function)
    found: dict[str, Function] = {}
    while queue:
        function = queue.pop(0)
        name = f"{function.__module__}.{function.__qualname__}".partition(".")[2]
        inner = _undecorated(function)
        # a wrong view would read foreign memory
        if name not in found and "as_strided" not in inner.__code__.co_names:
            found[name] = function
            called: list[Any] = [inner.__globals__.get(word) for word in inner.__code__.co_names]
            queue += [f for f in called if _is_function(f) and f.__module__ in own]
    return found


def _is_function(value: Any) -> bool:
    return callable(value) and isinstance(inspect.unwrap(value), FunctionType)


def _is_root(function: Any) -> bool:
    if not _is_function(function) or function.__name__.startswith("__"):
        return False
    named = "Eq. " in (function.__doc__ or "") and function.__module__ != network.__name__
    ends = "backward", "_gradient", "_gradient_f", "_adjoint", "update"
    return named or function.__name__.endswith(ends)


def judge(every: int = 1, functions: Iterable[str] | None = None) -> Iterator[Verdict]:
    """Run the checks on the mutants of `targets`, in float64 on the CPU.

    every: judge only every n-th mutant.  functions: names of `targets`, None for all.
    """
    known, calls, number = targets(), _calls(), 0
    for name in known if functions is None else functions:
        code = _undecorated(known[name]).__code__
        cases = [case for case, called in calls.items() if code in called]
        for mutant in mutants(known[name], name):
            number += 1
            if number % every == 0:
                yield _verdict(mutant, known[name], cases)


def _calls() -> dict[str, set[CodeType]]:
    """What each case calls, the quickest case first."""
    seconds: dict[str, float] = {}
    found: dict[str, set[CodeType]] = {}
    for case in CASES:
        called = found[case] = set()
        start = time.perf_counter()
        sys.setprofile(
            lambda frame, event, _, called=called: called.add(frame.f_code)  # type: ignore[misc]
        )
        try:
            failure = _first_failure([case])
        finally:
            sys.setprofile(None)
        if failure:
            raise RuntimeError(f"mutants: the checks must pass on the code as it is, but {failure}")
        seconds[case] = time.perf_counter() - start
    return {case: found[case] for case in sorted(found, key=seconds.__getitem__)}


def _first_failure(cases: Sequence[str]) -> str:
    """Which check of these cases fails first, "" for none."""
    for result in run(only=cases):
        if not result.ok:
            if result.checked or result.error != np.inf:
                return f"{result.name}, {result.gradient}: error {result.error:.1e}"
            note = textwrap.shorten(result.note.removeprefix(f"{result.name}: "), 80)
            return f"{result.name}: {note}"
    return ""


def explanation(mutant: Mutant) -> str:
    """Why EQUIVALENT, or NumPy's `reshape`, says that no check kills a mutant; "" for neither."""
    if UNKNOWN_LENGTH.sub(r"\1-1", mutant.after, count=1) == mutant.before:
        return "NumPy takes any negative length for the unknown one"
    return next((entry[3] for entry in EQUIVALENT if excuses(entry, mutant)), "")


def excuses(entry: tuple[str, str, str, str], mutant: Mutant) -> bool:
    """Whether an entry of EQUIVALENT is about this mutant."""
    function, old, new, _ = entry
    is_there = function == mutant.function and old in mutant.before
    return is_there and (new == "*" or mutant.before.replace(old, new, 1) == mutant.after)


def _verdict(mutant: Mutant, function: Function, cases: Sequence[str]) -> Verdict:
    with planted(function, mutant.code):
        by, status = _first_failure(cases), "killed"
    if not by:
        status, by = "survived", explanation(mutant)
        if by:
            status = "equivalent"
        elif mutant.on_gpu:
            status = "not run"
            by = "only a GPU takes this branch; tests/support/mistakes_kernels.py has its mistakes"
    return Verdict(mutant, status, by)
