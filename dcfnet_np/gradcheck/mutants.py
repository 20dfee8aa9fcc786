"""Mutation testing: would the checks notice a mistake?

Mutants are made from the syntax tree of a function, one small change each: a term, factor or sign
dropped, an operator exchanged, a conjugate, absolute value or transposition left out, real and
imaginary part exchanged, a constant or a bound of a slice moved by one, arguments or results
swapped, a condition turned round, a statement left out.  Each is compiled, put in the place of the
function, and the checks of the table that reach the function are run: the first that fails has
killed it.  A mutant that survives is equivalent, and then EQUIVALENT says why, or it is a hole in
the checks.

Not mutated, since it could end the process instead of failing a check: a function that makes a view
with `as_strided`. Not mutated, since the result is the same: docstrings, annotations, guards (an
`if` that can only raise), the choice of the array module, whose dtype is asked (real or imaginary
part), the order of a symmetric function's arguments."""

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
from .checker import check
from .table import CASES, run

EXCHANGED: dict[type, type] = {
    **{
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Div,
        ast.Div: ast.Mult,
        ast.And: ast.Or,
        ast.Or: ast.And,
    },
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
}
# calls of which only the argument, or the array, is left
DROPPED = {"conj", "conjugate", "transpose", "abs"}
ATTRIBUTES = {"real": "imag", "imag": "real"}
NOT_MUTATED = {"array_module", "is_numpy"}
SYMMETRIC = {"add", "multiply", "maximum", "minimum", "max", "min", "result_type"}
GPU = ("kernels.enabled()", " is not np")  # a branch with this in its condition is not run on a CPU

UNKNOWN_LENGTH = re.compile(r"(\.reshape\((?:[^()]|\([^()]*\))*)-2")  # a -1 of reshape, one less

# (function, code, mutated code, or "*" for any change of that code): why no check can tell the two
# apart.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "filter.exact_filter",
        "matrix = rows * weights @ rows.conj().swapaxes(-1, -2) + lam * eye",
        "matrix = rows * weights @ rows.conj().swapaxes(-1, 2) + lam * eye",
    ): "the matrix has four axes, so -2 is 2",
    (
        "filter.exact_filter",
        "return xp.linalg.solve(matrix, right[..., None])[..., 0].transpose(2, 0, 1)",
        "return xp.linalg.solve(matrix, right[..., None])[..., -1].transpose(2, 0, 1)",
    ): "that axis has length 1, so the last index is the first",
    (
        "fast.strip.Strip.backward",
        "gradients.append((winograd.kernel_transform_backward(du), dm[1].sum(0)[:, 1:].sum(1)))",
        "gradients.append((winograd.kernel_transform_backward(du), dm[1].sum(0)[:, :].sum(1)))",
    ): "the column before the first tile is zero",
    (
        "fast.strip.Strip.backward",
        "gradients.append((winograd.kernel_transform_backward(du), dm[1].sum(0)[:, 1:].sum(1)))",
        "gradients.append((winograd.kernel_transform_backward(du), dm[1].sum(0)[:, 0:].sum(1)))",
    ): "the column before the first tile is zero",
    (
        "filter.exact_filter",
        "matrix = rows * weights @ rows.conj().swapaxes(-1, -2) + lam * eye",
        "matrix = rows * weights @ rows.conj().swapaxes(-2, -1) + lam * eye",
    ): "the order of the two axes that are exchanged does not matter",
    ("fast.winograd.input_transform_backward", "d0[0] = d5[-1] = 0", "*"): (
        "these two places lie beyond all tiles and are never read; zero keeps them from growing"
    ),
    (
        "ops.dcf.learn_filter",
        "energy = template_energy(template_f, lam) if energy is None else energy",
        "energy = template_energy(template_f, lam)",
    ): "what is given is the same energy",
    ("ops.conv._blocks", "step = 1 if xp is np else max(n, 1)", "*"): (
        "how many images at a time: the sums are the same, and what follows `else` is for a GPU"
    ),
    ("ops.conv._blocks", "for start in range(0, n, step):", "for start in range(-1, n, step):"): (
        "the slice from -1 to 0 is empty"
    ),
    (
        "ops.conv._stack_columns",
        "padded = xp.zeros((n, c, h + 2 * padding, w + 2 * padding), x.dtype)",
        "padded = xp.zeros((n, c, h + 2 * padding, w + 3 * padding), x.dtype)",
    ): "nobody reads the columns on the right",
    (
        "ops.conv._unstack_columns",
        "padded = xp.zeros((n, c, h + 2 * padding, w + 2 * padding), stack.dtype)",
        "padded = xp.zeros((n, c, h + 2 * padding, w + 3 * padding), stack.dtype)",
    ): "nobody reads the columns on the right",
    (
        "ops.dcf.dcf_backward",
        "by_template = template_gradient_f(dresponse_f, template_f, search_f, label_f, response_f, energy)",
        "by_template = template_gradient_f(dresponse_f, template_f, label_f, search_f, response_f, energy)",
    ): "Eq. 9 knows search and label only by their product",
    (
        "ops.dcf.ridge_loss",
        "shape = template.shape[-2:]",
        "shape = template.shape[2:]",
    ): "a template has four axes",
    (
        "ops.lrn.lrn_backward",
        "return lrn_kernels.backward(dy, x, n=n, k=k, alpha=alpha, beta=beta)",
        "return lrn_kernels.backward(x, dy, n=n, k=k, alpha=alpha, beta=beta)",
    ): "only a GPU comes here; tests/test_kernels_lrn.py compares that kernel with this function",
    (
        "ops.lrn.power",
        "if beta == 0.75:",
        "*",
    ): "the general power gives the same as the short cut for 3/4",
}


class Mutant(NamedTuple):
    """One small change to one function."""

    function: str  # "ops.dcf.template_gradient_f"
    line: int  # in its file
    before: str  # the line of code that changes, as `ast.unparse` writes it
    after: str
    on_gpu: bool  # in a branch, or its condition, that only a GPU enters
    code: CodeType  # of the whole mutated function


class Verdict(NamedTuple):
    """What the checks said of a mutant."""

    function: str
    line: int
    before: str
    after: str
    on_gpu: bool
    status: str  # "killed", "equivalent", "not run", "survived"
    by: str  # the check that killed it and its error, or why none did


# -------------------------------------------------------------------------------------------------
# making them


def mutants(function: Callable[..., Any], name: str = "") -> Iterator[Mutant]:
    """Every mutant of a Python function, in the order of its code; no two of them have the same
    code.
    """
    inner = _plain(function)
    lines, first_line = inspect.getsourcelines(inner)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    if ast.get_docstring(definition) is not None:
        definition.body = definition.body[1:] or [ast.Pass()]
    seen = {ast.unparse(definition)}
    for parent, field, index, node, statement, on_gpu in _nodes(definition, definition, False):
        for changed in _changes(node):
            before = _one_line(statement)
            _put(parent, field, index, ast.copy_location(changed, node))
            ast.fix_missing_locations(definition)
            whole = ast.unparse(definition)
            after = _one_line(changed if statement is node else statement)
            if whole not in seen:
                seen.add(whole)
                line = first_line + statement.lineno - 1
                code = _compile(definition, inner)
                yield Mutant(name or function.__qualname__, line, before, after, on_gpu, code)
            _put(parent, field, index, node)


def _plain(function: Callable[..., Any]) -> FunctionType:
    """The function under decorators such as functools.cache."""
    inner = inspect.unwrap(function)
    assert isinstance(inner, FunctionType)
    return inner


# parent, its field and index there, node, its statement, whether that is for a GPU
Node = tuple[ast.AST, str, int | None, ast.AST, ast.stmt, bool]


def _nodes(parent: ast.AST, statement: ast.stmt, on_gpu: bool) -> Iterator[Node]:
    """All that may change below `parent`, with the place where it stands."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "args") and isinstance(
            parent, ast.arg | ast.FunctionDef | ast.AnnAssign
        ):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or _left_alone(node):
                continue
            own = node if isinstance(node, ast.stmt) else statement
            here = on_gpu or (
                isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in GPU)
            )
            if not (isinstance(parent, ast.Attribute) and parent.attr == "dtype"):
                yield parent, field, index, node, own, here
            yield from _nodes(node, own, here)


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return not node.orelse and all(isinstance(inner, ast.Raise) for inner in node.body)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in NOT_MUTATED
    if isinstance(node, ast.Expr):
        return _left_alone(node.value)
    return isinstance(node, ast.Raise | ast.Assert)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of one node."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in EXCHANGED:
            yield ast.BinOp(node.left, EXCHANGED[type(node.op)](), node.right)
        if not isinstance(node.op, ast.MatMult):
            yield node.left
        if isinstance(node.op, ast.Add | ast.Mult | ast.Div):
            yield node.right
        if isinstance(node.op, ast.Sub):
            yield ast.UnaryOp(ast.USub(), node.right)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call):
        yield from _changes_of_call(node)
    elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
        yield ast.Attribute(node.value, ATTRIBUTES[node.attr], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield node.value
    elif isinstance(node, ast.Slice):
        for bound in ("lower", "upper", "step"):
            if getattr(node, bound) is not None:
                yield _with(node, bound, None)
                if bound != "step" and not isinstance(getattr(node, bound), ast.Constant):
                    yield _with(
                        node, bound, ast.BinOp(getattr(node, bound), ast.Add(), ast.Constant(1))
                    )
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in EXCHANGED:
        yield ast.Compare(node.left, [EXCHANGED[type(node.ops[0])]()], node.comparators)
        yield ast.UnaryOp(ast.Not(), node)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(EXCHANGED[type(node.op)](), node.values)
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.If | ast.While) and not isinstance(
        node.test, ast.Compare | ast.UnaryOp
    ):
        yield _with(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in EXCHANGED:
            yield ast.AugAssign(node.target, EXCHANGED[type(node.op)](), node.value)
        yield ast.Assign([node.target], node.value)
        yield ast.Pass()
    elif isinstance(node, ast.Assign) and isinstance(
        node.targets[0], ast.Subscript | ast.Attribute
    ):
        yield ast.Pass()
    elif isinstance(node, ast.Expr):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        for swapped in _swaps(node.value.elts):
            yield ast.Return(ast.Tuple(swapped, ast.Load()))


def _changes_of_call(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in DROPPED:
        is_method = (
            isinstance(node.func, ast.Attribute)
            and name != "abs"
            and not _is_module(node.func.value)
        )
        yield (
            node.func.value if is_method and isinstance(node.func, ast.Attribute) else node.args[0]
        )
    if name not in SYMMETRIC:
        for swapped in _swaps(node.args):
            yield ast.Call(node.func, swapped, node.keywords)


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("np", "xp", "numpy")


def _swaps(nodes: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    """Neighbours exchanged."""
    for i in range(len(nodes) - 1):
        if not isinstance(nodes[i], ast.Starred) and not isinstance(nodes[i + 1], ast.Starred):
            yield [*nodes[:i], nodes[i + 1], nodes[i], *nodes[i + 2 :]]


def _with(node: Any, field: str, value: Any) -> Any:
    """A shallow copy of a node with one field changed."""
    return type(node)(**{**dict(ast.iter_fields(node)), field: value})


def _one_line(statement: ast.AST) -> str:
    """A statement, of a compound one the head."""
    return ast.unparse(statement).splitlines()[0]


def _compile(definition: ast.FunctionDef, function: FunctionType) -> CodeType:
    """The code object of a mutated definition."""
    module = ast.fix_missing_locations(ast.Module([definition], []))
    scope: dict[str, Any] = {}
    exec(compile(module, inspect.getfile(function), "exec"), dict(function.__globals__), scope)
    code: CodeType = scope[definition.name].__code__
    return code


@contextlib.contextmanager
def planted(function: Callable[..., Any], code: CodeType) -> Iterator[None]:
    """Inside the block every caller of `function` runs `code` instead, by whatever name it knows
    the function.
    """
    inner = _plain(function)
    before = inner.__code__
    clear = getattr(function, "cache_clear", lambda: None)
    clear()
    inner.__code__ = code
    try:
        yield
    finally:
        inner.__code__ = before
        clear()


def survivors(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    **options: Any,
) -> list[Mutant]:
    """The mutants of anybody's `backward` that `checker.check` with these arguments does not
    notice.

    None means that the check would have seen every such mistake; each survivor is a mistake that it
    would not see, for want of other inputs, or code that does not matter.
    """
    check(forward, backward, inputs, **options)
    alive = []
    for mutant in mutants(backward):
        with planted(backward, mutant.code), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                check(forward, backward, inputs, **options)
                alive.append(mutant)
            except Exception:  # GradientError, or whatever a broken function raises
                continue
    return alive


# --------------------------------------------------------------------------------------- running
# the checks on them


def targets() -> dict[str, Callable[..., Any]]:
    """What is mutated of this library: every backward pass, adjoint and update in `ops`, `network`,
    `fast` and `filter`, every function of `ops` and `filter` whose docstring names an equation, and whatever
    these call there."""
    modules = [
        importlib.import_module(f"{ops.__name__}.{info.name}")
        for info in pkgutil.iter_modules(ops.__path__)
    ]
    modules += [network, filter_module, strip, winograd]
    own = {module.__name__ for module in modules}
    queue: list[Callable[..., Any]] = []
    for module in modules:
        members = [
            module,
            *(m for m in vars(module).values() if inspect.isclass(m) and m.__module__ in own),
        ]
        for function in (f for member in members for f in vars(member).values()):
            if (
                callable(function)
                and getattr(function, "__module__", "") == module.__name__
                and _is_root(function)
            ):
                queue.append(function)
    found: dict[str, Callable[..., Any]] = {}
    while queue:
        function = queue.pop(0)
        name = f"{function.__module__}.{function.__qualname__}".partition(".")[2]
        if name in found:
            continue
        inner = _plain(function)
        if "as_strided" in inner.__code__.co_names:
            continue  # a wrong view reads foreign memory
        found[name] = function
        called: list[Any] = [inner.__globals__.get(word) for word in _words(inner.__code__)]
        queue += [
            f for f in called if isinstance(inspect.unwrap(f), FunctionType) and f.__module__ in own
        ]
    return found


def _is_root(function: Callable[..., Any]) -> bool:
    if not isinstance(inspect.unwrap(function), FunctionType) or function.__name__.startswith("__"):
        return False
    named = "Eq. " in (function.__doc__ or "") and function.__module__ != network.__name__
    return named or function.__name__.endswith(("backward", "_adjoint", "update"))


def _words(code: CodeType) -> Iterator[str]:
    """The names that a code object looks up, those of its inner functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words(constant)


def judge(every: int = 1, functions: Iterable[str] | None = None) -> Iterator[Verdict]:
    """Run the checks on the mutants of `targets`, in float64 on the CPU.

    every: only each so manieth mutant.  functions: names of `targets`, None for all.
    """
    known = targets()
    calls = _calls()
    number = 0
    for name in known if functions is None else functions:
        cases = [case for case, called in calls.items() if _plain(known[name]).__code__ in called]
        for mutant in mutants(known[name], name):
            number += 1
            if number % every == 0:
                yield _verdict(mutant, known[name], cases)


def _calls() -> dict[str, set[CodeType]]:
    """What each case of the table calls, the quickest case first."""
    found: dict[str, tuple[float, set[CodeType]]] = {}
    for case in CASES:
        called: set[CodeType] = set()
        start = time.perf_counter()
        sys.setprofile(lambda frame, event, _, called=called: called.add(frame.f_code))  # type: ignore[misc]
        try:
            failure = _first_failure([case])
        finally:
            sys.setprofile(None)
        if failure:
            raise RuntimeError(f"mutants: the checks must pass on the code as it is, but {failure}")
        found[case] = time.perf_counter() - start, called
    return {
        case: called for case, (_, called) in sorted(found.items(), key=lambda item: item[1][0])
    }


def _first_failure(cases: Sequence[str]) -> str:
    """Which check of these cases fails first, "" for none."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for result in run(only=cases):
            if not result.ok:
                if result.checked or result.error != np.inf:
                    return f"{result.name}, {result.gradient}: error {result.error:.1e}"
                return f"{result.name}: {textwrap.shorten(result.note.removeprefix(f'{result.name}: '), 80)}"
    return ""


def explanation(mutant: Mutant) -> str:
    """Why EQUIVALENT, or NumPy's `reshape`, says that a mutant cannot be killed, "" where they do
    not.
    """
    if UNKNOWN_LENGTH.sub(r"\1-1", mutant.after, count=1) == mutant.before:
        return "NumPy takes any negative length for the unknown one"
    keys = [(mutant.function, mutant.before, after) for after in (mutant.after, "*")]
    return next((EQUIVALENT[key] for key in keys if key in EQUIVALENT), "")


def _verdict(mutant: Mutant, function: Callable[..., Any], cases: Sequence[str]) -> Verdict:
    with planted(function, mutant.code):
        by = _first_failure(cases)
    status = "killed" if by else "survived"
    reason = explanation(mutant)
    if not by and reason:
        status, by = "equivalent", reason
    elif not by and mutant.on_gpu:
        status, by = (
            "not run",
            "only a GPU takes this branch; tests/support/mistakes_kernels.py plants mistakes there",
        )
    return Verdict(*mutant[:-1], status, by)
