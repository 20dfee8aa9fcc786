"""Every equation of the paper: its function, its section in docs/, and what its checks say when a
term is left out.

`dropped(equation)` goes through the syntax tree of the equation's functions and leaves out one
thing at a time: a summand, a factor, a divisor, an exponent, a sign, a conjugate, a transform, a
statement that writes an element or updates an array.  With each it runs the equation's checks, and
reports the error that they find.  Nothing is listed by hand, so a function that is rewritten is
covered as it stands.

`make equations` (or `python tests/support/terms.py`) writes docs/learn/equations.md; test_terms.py checks that it
is up to date."""

import ast
import contextlib
import copy
import importlib
import inspect
import math
import pathlib
import textwrap
import warnings
from typing import NamedTuple

import naive
import numpy as np

from dcfnet_np import gradcheck
from dcfnet_np.filter import OnlineFilter, exact_filter, incremental_loss
from dcfnet_np.ops.fourier import irfft2, rfft2
from dcfnet_np.ops.loss import response_loss_forward
from dcfnet_np.train.sgd import sgd_step

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "learn" / "equations.md"
LIMIT = 5e-8  # of an error by value; those of gradcheck's cases have their own
NOTICED = 1e-3  # a left-out term must show at least so much


class Equation(NamedTuple):
    number: str
    what: str
    functions: tuple[str, ...]  # within dcfnet_np; the first one is the equation
    section: str  # in docs/
    checks: tuple[str, ...]  # cases of gradcheck, or functions below
    tests: tuple[str, ...]  # more about it, in tests/


EQUATIONS = [
    Equation("1", "ridge loss", ("ops.dcf.ridge_loss",), "derivation/filter.md#the-problem", ("equation 1",),
             ("test_dcf.test_filter_is_the_least_squares_solution",)),
    Equation("2", "filter", ("ops.dcf.learn_filter", "ops.dcf.template_energy", "ops.dcf.dcf_forward"),
             "derivation/filter.md#one-frequency-solved", ("equation 2", "dcf"),
             ("test_equations.test_eq2_solves_the_system_of_every_bin",
              "test_equations.test_any_other_filter_has_a_larger_ridge_loss")),
    Equation("3", "response", ("ops.dcf.respond", "ops.dcf.correlate"), "derivation/filter.md#the-response-eq-3",
             ("equation 3",), ("test_dcf.test_response_is_a_circular_correlation",
                               "test_equations.test_a_shifted_search_moves_the_response")),
    Equation("4", "objective", ("ops.loss.response_loss_forward", "ops.loss.response_loss_backward",
                                "train.sgd.sgd_step"),
             "derivation/fourier.md#the-objective-eq-4", ("equation 4", "loss_by_value", "step_by_value"), ()),
    Equation("5", "gradients through the transform pair",
             ("ops.fourier.rfft2_adjoint", "ops.fourier.irfft2_adjoint", "ops.fourier.mirror_count"),
             "derivation/fourier.md#eq-5-the-constants-cancel", ("equation 5", "rfft2", "irfft2"),
             ("test_equations.test_eq5_loses_nothing", "test_fourier.test_adjoint_identity")),
    Equation("6", "gradient by the response's bins", ("ops.dcf.dcf_backward",), "derivation/fourier.md#eq-6",
             ("equation 6", "dcf"), ()),
    Equation("7", "search branch, bins", ("ops.dcf.search_gradient_f",),
             "derivation/search.md#the-search-branch-eqs-7-and-8", ("equation 7",), ()),
    Equation("8", "search branch, pixels", ("ops.dcf.to_image",),
             "derivation/search.md#the-search-branch-eqs-7-and-8", ("equation 8",), ()),
    Equation("9", "template branch, by the bins", ("ops.dcf.template_gradient_f",),
             "derivation/template.md#the-two-derivatives", ("equation 9",),
             ("test_equations.test_eqs_9_and_10_are_wirtinger_derivatives",
              "test_equations.test_the_journals_equations_fail_with_several_channels")),
    Equation("10", "template branch, by their conjugates", ("ops.dcf.template_conj_gradient_f",),
             "derivation/template.md#the-two-derivatives", ("equation 10",),
             ("test_equations.test_eqs_9_and_10_are_wirtinger_derivatives",)),
    Equation("11", "template branch, pixels", ("ops.dcf.template_gradient",),
             "derivation/template.md#why-the-two-paths-add-one-of-them-conjugated-eq-11", ("equation 11",),
             ("test_equations.test_a_symmetric_label_hides_a_wrong_conjugate",)),
    Equation("12", "ridge loss over time", ("filter.incremental_loss", "filter.exact_filter"),
             "derivation/online.md#the-exact-answer", ("incremental_loss_by_value", "exact_filter_by_value"),
             ("test_equations.test_eq13_is_an_approximation_for_several_channels",)),
    Equation("13", "filter over time", ("filter.OnlineFilter.update", "filter.OnlineFilter.of_one_frame",
                                        "filter.OnlineFilter.response_f"),
             "derivation/online.md#what-eq-13-is",
             ("equation 13", "ratio_by_value", "averages_by_value"),
             ("test_equations.test_eq13_minimises_eq12_for_one_channel",
              "test_equations.test_eq13_with_other_weights_has_another_lambda",
              "test_dcf.test_the_ratio_rule_is_equation_13")),
]  # fmt: skip


# ------------------------------------------------------------------------- checks by value, beside
# gradcheck's


def distance(got, expected):
    return float(abs(np.asarray(got) - expected).max() / abs(np.asarray(expected)).max())


def loss_by_value():
    rng = np.random.default_rng(40)
    response, label = rng.standard_normal((3, 5, 4)), rng.standard_normal((5, 4))
    expected = sum((response[n, r, s] - label[r, s]) ** 2 for n, r, s in np.ndindex(3, 5, 4)) / 3
    return distance(response_loss_forward(response, label)[0], expected)


def step_by_value():
    theta, gradient, v = np.random.default_rng(41).standard_normal((3, 4, 5))
    expected = theta - 0.3 * (0.9 * v + gradient + 0.2 * theta)
    parameters = {"w": theta.copy()}
    sgd_step(parameters, {"w": gradient}, {"w": v.copy()}, lr=0.3, momentum=0.9, weight_decay=0.2)
    return distance(parameters["w"], expected)


def problem_over_time():
    """Random frames (T, D, H, W), their weights, a label, lambda; the sum of the weights is not
    one.
    """
    rng = np.random.default_rng(42)
    return (
        rng.standard_normal((3, 2, 4, 5)),
        np.array([0.5, 1.0, 2.0]),
        rng.standard_normal((4, 5)),
        3.0,
    )


def incremental_loss_by_value():
    templates, weights, label, lam = problem_over_time()
    w = np.random.default_rng(43).standard_normal(templates.shape[1:])
    expected = lam * (w**2).sum()
    for template, weight in zip(templates, weights):
        response = sum(
            naive.circular_correlation(w[channel], template[channel]) for channel in range(len(w))
        )
        expected += weight * ((response - label) ** 2).sum()
    return distance(incremental_loss(rfft2(w), templates, weights, label, lam), expected)


def exact_filter_by_value():
    """Against the linear system with all unknowns and all shifts of all frames."""
    templates, weights, label, lam = problem_over_time()
    shape = label.shape
    rows = [np.roll(t, (-r, -s), (1, 2)).ravel() for t in templates for r, s in np.ndindex(*shape)]
    system, weight = np.array(rows), np.repeat(weights, label.size)
    matrix = (system.T * weight) @ system + lam * np.eye(system.shape[1])
    expected = np.linalg.solve(matrix, (system.T * weight) @ np.tile(label.ravel(), len(templates)))
    filter_f = exact_filter(rfft2(templates), weights, rfft2(label), lam)
    return distance(irfft2(filter_f, shape).ravel(), expected)


def response_over_time(rule):
    """The responses of an OnlineFilter after three frames, and what its sums are made of."""
    templates, _, label, lam = problem_over_time()
    templates_f, label_f, search_f = rfft2(templates), rfft2(label), rfft2(templates[:1] ** 2)
    model = OnlineFilter(label_f, lam, 0.3, rule)
    for template_f in templates_f:
        model.update(template_f)
    energies = [(abs(template_f) ** 2).sum(0) + lam for template_f in templates_f]
    return (
        model.response_f(search_f)[0],
        [0.49, 0.21, 0.3],
        templates_f,
        energies,
        label_f,
        search_f[0],
    )


def ratio_by_value():
    got, weights, templates_f, energies, label_f, search_f = response_over_time("ratio")
    numerator = sum(b * label_f.conj() * t for b, t in zip(weights, templates_f))
    filter_f = numerator / sum(b * energy for b, energy in zip(weights, energies))
    return distance(got, (filter_f.conj() * search_f).sum(0))


def averages_by_value():
    got, weights, templates_f, energies, label_f, search_f = response_over_time("averages")
    template_f = sum(b * t for b, t in zip(weights, templates_f))
    alpha_f = sum(b * label_f / energy for b, energy in zip(weights, energies))
    return distance(got, alpha_f * (template_f.conj() * search_f).sum(0))


def failures(checks):
    """Errors of the checks that fail, inf for one that stops with an exception."""
    errors = []
    for check in checks:
        if check in gradcheck.CASES:
            errors += [row.error for row in gradcheck.run_all(only=[check]) if not row.ok]
            continue
        try:
            error = globals()[check]()
        except Exception:  # as in gradcheck.run_all: a function without a part may raise anything
            error = math.inf
        errors += [error] if not error <= LIMIT else []
    return errors


# -------------------------------------------------------------------------------------- leaving out
# one term


def without(node):
    """(what is left out, what stays) for each way to leave out a part of this node."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub(), ast.Constant(1)) if not isinstance(
            left, ast.Constant
        ):
            return  # arithmetic of sizes
        case ast.BinOp(left, ast.Add() | ast.Mult() | ast.MatMult(), right):
            yield right, left
            yield left, right
        case ast.BinOp(left, ast.Sub(), right):
            yield right, left
            yield left, ast.UnaryOp(ast.USub(), right)
        case ast.BinOp(left, ast.Div(), right):
            yield right, left
        case ast.BinOp(left, ast.Pow(), _):
            yield node, left
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield node, operand
        case ast.Call(ast.Attribute(value, "conj"), []):
            yield node, value
        case ast.Call(ast.Attribute(xp, "conj"), arguments, keywords):
            yield node, ast.Call(ast.Attribute(xp, "positive", ast.Load()), arguments, keywords)
        case ast.Call(
            ast.Attribute(_, "multiply" | "divide" as name) as function, [left, right], keywords
        ):
            yield right, ast.Call(function, [left, ast.Constant(1)], keywords)
            if name == "multiply":
                yield left, ast.Call(function, [ast.Constant(1), right], keywords)
        case ast.Call(ast.Name("rfft2" | "irfft2"), [first, *_]):
            yield node, first
        case ast.Assign([ast.Subscript(_, ast.Constant(value=value))] as targets, right) if (
            value is ...
        ):
            # all of a new array: it must hold something
            yield right, ast.Assign(targets, ast.Constant(1))
        case ast.AugAssign() | ast.Assign([ast.Subscript()]):
            yield node, ast.Pass()


def sites(node):
    """Nodes in which something can be left out: not in conditions, indices, error messages or type
    annotations.
    """
    match node:
        case ast.Raise() | ast.arguments():
            return
        case ast.If(_, body, orelse):
            children = [*body, *orelse]
        case ast.IfExp(_, body, orelse):
            children = [body, orelse]
        case ast.Subscript(value):
            children = [value]
        case ast.FunctionDef(body=body):
            children = body
        case _:
            children = list(ast.iter_child_nodes(node))
    yield node
    for child in children:
        yield from sites(child)


class Replace(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def find(name):
    """The function of a dotted name within dcfnet_np, a method too."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(["dcfnet_np", *parts[:cut]]))
            for part in parts[cut:]:
                found = getattr(found, part)
            return found
    raise LookupError(name)


def variants(function):
    """(what is left out and where, code) for every part of a function that can be left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for number, site in enumerate(sites(tree.body[0])):
        for choice, (gone, _) in enumerate(without(site)):
            other = copy.deepcopy(tree)
            old = list(sites(other.body[0]))[number]
            new = list(without(old))[choice][1]
            module = compile(
                ast.fix_missing_locations(Replace(old, new).visit(other)),
                function.__code__.co_filename,
                "exec",
            )
            (code,) = (
                c for c in module.co_consts if inspect.iscode(c) and c.co_name == function.__name__
            )
            where = f" in `{ast.unparse(site)}`" if gone is not site else ""
            yield f"`{ast.unparse(gone)}`{where}", code


def dropped(equation):
    """(function, what is left out, errors that the checks then find) for every part of the
    equation.
    """
    for name in equation.functions:
        function = find(name)
        original = function.__code__
        for what, code in variants(function):
            function.__code__ = code
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    yield name, what, failures(equation.checks)
            finally:
                function.__code__ = original


# -----------------------------------------------------------------------------------------------
# the page

HEAD = """\
# The table of equations

Written by `make equations`; a test fails when it is out of date. For each equation of the paper: the function that is
the equation, the section that derives it, the checks that every run of the tests makes (cases of `dcfnet gradcheck`,
and checks of values in `tests/support/terms.py`), and further tests about it.

"""
BELOW = """
## What the checks say when a term is left out

Each row is the function as it stands in the library, with one part of its syntax tree left out, and the largest error
that the equation's checks then find (their limit is 5e-8). "stops" means that shapes or types no longer fit. All rows
come out of the functions themselves, none is listed by hand; the test fails if leaving something out goes unnoticed.
"""


def link(name):
    """To the API, which has no private functions."""
    shown = f"`{name.removeprefix('ops.')}`"
    return shown if "._" in name else f"[{shown}](#dcfnet_np.{name})"


def table_row(equation):
    functions = "<br>".join(link(name) for name in equation.functions)
    checks = "<br>".join(f"`{check}`" for check in equation.checks)
    tests = "<br>".join(
        f"[{test.partition('.test_')[2].replace('_', ' ')}](#{test})" for test in equation.tests
    )
    section = f"[{equation.what}]({equation.section})"
    return f"| {equation.number} | {section} | {functions} | {checks} | {tests} |\n"


def part(equation, results):
    """The equation's part of the page, from the results of `dropped`."""
    lines = [
        f"\n### Eq. {equation.number}\n\nThe {equation.what}.\n\n| function | without | error |\n|---|---|---|\n"
    ]
    for name, what, errors in results:
        finite = [error for error in errors if math.isfinite(error)]
        shown = f"{max(finite):.1g}" if finite else "stops" if errors else "NOT NOTICED"
        lines.append(f"| {link(name)} | {what.replace('|', chr(92) + '|')} | {shown} |\n")
    return "".join(lines)


def table():
    head = "| Eq. | section | functions | checks | tests |\n|---|---|---|---|---|\n"
    return HEAD + head + "".join(map(table_row, EQUATIONS)) + BELOW


if __name__ == "__main__":
    PAGE.write_text(
        table() + "".join(part(e, list(dropped(e))) for e in EQUATIONS), encoding="utf-8"
    )
