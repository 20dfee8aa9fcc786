"""Every equation of the paper: its function, its section, and what its checks say without a term.

`dropped(equation)` goes through the syntax tree of the equation's functions and leaves out one
thing at a time: a summand, a factor, a divisor, an exponent, a sign, a conjugate, a transform, a
statement that writes an element or updates an array.  With each it runs the equation's checks, and
reports the error that they find.  Nothing is listed by hand, so a function that is rewritten is
covered as it stands.  The engine is that of `gradcheck.mutants`.

`make equations` (or `python tests/support/terms.py`) writes docs/learn/equations.md; test_terms.py
checks that it is up to date.
"""

import ast
import math
import pathlib
import pkgutil
from typing import NamedTuple

import numpy as np

from dcfnet_np import gradcheck
from dcfnet_np.gradcheck.mutants import left_alone, mutants, planted
from dcfnet_np.train.optimisers import sgd_step

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "learn" / "equations.md"
NOTICED = 1e-3  # a left-out term must show at least so much


class Equation(NamedTuple):
    number: str
    what: str
    functions: tuple[str, ...]  # within dcfnet_np; the first one is the equation
    section: str  # in docs/derivation/
    checks: tuple[str, ...]  # cases of gradcheck, or sgd_step_by_value
    tests: tuple[str, ...]  # more about it, in tests/


EQUATIONS = [
    Equation("1", "ridge loss", ("ops.dcf.ridge_loss",), "filter.md#the-problem", ("equation 1",),
             ("test_dcf.test_filter_is_the_least_squares_solution",)),
    Equation("2", "filter",
             ("ops.dcf.learn_filter", "ops.dcf.template_energy", "ops.dcf.dcf_forward"),
             "filter.md#one-frequency-solved", ("equation 2", "dcf"),
             ("test_equations.test_eq2_solves_the_system_of_every_bin",
              "test_equations.test_any_other_filter_has_a_larger_ridge_loss")),
    Equation("3", "response", ("ops.dcf.respond", "ops.dcf.correlate"),
             "filter.md#the-response-eq-3", ("equation 3",),
             ("test_dcf.test_response_is_a_circular_correlation",
              "test_equations.test_a_shifted_search_moves_the_response")),
    Equation("4", "objective",
             ("ops.loss.response_loss_forward", "ops.loss.response_loss_backward",
              "train.optimisers.sgd_step"),
             "fourier.md#the-objective-eq-4", ("equation 4", "sgd_step_by_value"), ()),
    Equation("5", "gradients through the transform pair",
             ("ops.fourier.rfft2_adjoint", "ops.fourier.irfft2_adjoint",
              "ops.fourier.mirror_count"),
             "fourier.md#eq-5-the-constants-cancel", ("equation 5", "rfft2", "irfft2"),
             ("test_equations.test_eq5_loses_nothing", "test_fourier.test_adjoint_identity")),
    Equation("6", "gradient by the response's bins", ("ops.dcf.dcf_backward",),
             "fourier.md#eq-6", ("equation 6", "dcf"), ()),
    Equation("7", "search branch, bins", ("ops.dcf.search_gradient_f",),
             "search.md#the-search-branch-eqs-7-and-8", ("equation 7",), ()),
    Equation("8", "search branch, pixels", ("ops.dcf.to_image",),
             "search.md#the-search-branch-eqs-7-and-8", ("equation 8",), ()),
    Equation("9", "template branch, by the bins", ("ops.dcf.template_gradient_f",),
             "template.md#the-two-derivatives", ("equation 9",),
             ("test_equations.test_eqs_9_and_10_are_wirtinger_derivatives",
              "test_equations.test_the_journals_equations_fail_with_several_channels")),
    Equation("10", "template branch, by their conjugates", ("ops.dcf.template_conj_gradient_f",),
             "template.md#the-two-derivatives", ("equation 10",),
             ("test_equations.test_eqs_9_and_10_are_wirtinger_derivatives",)),
    Equation("11", "template branch, pixels", ("ops.dcf.template_gradient",),
             "template.md#why-the-two-paths-add-one-of-them-conjugated-eq-11", ("equation 11",),
             ("test_equations.test_a_symmetric_label_hides_a_wrong_conjugate",)),
    Equation("12", "ridge loss over time", ("filter.incremental_loss", "filter.exact_filter"),
             "online.md#the-exact-answer", ("equation 13",),
             ("test_equations.test_eq13_is_an_approximation_for_several_channels",)),
    Equation("13", "filter over time",
             ("ops.recurrent.blend", "ops.recurrent.newest", "ops.recurrent.answer",
              "filter.OnlineFilter.update"),
             "online.md#what-eq-13-is", ("equation 13",),
             ("test_equations.test_eq13_minimises_eq12_for_one_channel",
              "test_equations.test_eq13_with_other_weights_has_another_lambda",
              "test_dcf.test_the_ratio_rule_is_equation_13")),
]  # fmt: skip


def sgd_step_by_value():
    """The error of a step with momentum and weight decay."""
    theta, gradient, v = np.random.default_rng(41).standard_normal((3, 4, 5))
    expected = theta - 0.3 * (0.9 * v + gradient + 0.2 * theta)
    parameters = {"w": theta.copy()}
    sgd_step(parameters, {"w": gradient}, {"w": v.copy()}, lr=0.3, momentum=0.9, weight_decay=0.2)
    return float(abs(parameters["w"] - expected).max() / abs(expected).max())


def failures(checks):
    """Errors of the checks that fail, inf for one that stops with an exception."""
    cases = [check for check in checks if check in gradcheck.CASES]
    errors = [row.error for row in gradcheck.run_all(only=cases) if not row.ok]
    if "sgd_step_by_value" in checks:
        try:
            error = sgd_step_by_value()
        except Exception:  # as in gradcheck.run_all: a function without a part may raise anything
            error = math.inf
        errors += [] if error <= 5e-8 else [error]
    return errors


# --- leaving out one term ---


def without(node):
    """What stays, for each way to leave out a part of this node."""
    yield from without_operand(node)
    match node:
        case ast.Call(ast.Attribute(value, "conj"), []):
            yield value
        case ast.Call(ast.Attribute(xp, "conj"), arguments, keywords):
            yield ast.Call(ast.Attribute(xp, "positive", ast.Load()), arguments, keywords)
        case ast.Call(ast.Attribute(_, "multiply" | "divide" as name) as f, [left, right], out):
            yield ast.Call(f, [left, ast.Constant(1)], out)
            if name == "multiply":
                yield ast.Call(f, [ast.Constant(1), right], out)
        case ast.Call(ast.Name("rfft2" | "irfft2"), [first, *_]):
            yield first
        case ast.Assign([ast.Subscript(_, ast.Constant(value=index))] as targets) if index is ...:
            yield ast.Assign(targets, ast.Constant(1))  # all of a new array: it must hold something
        case ast.AugAssign() | ast.Assign([ast.Subscript()]):
            yield ast.Pass()


def without_operand(node):
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub(), ast.Constant(1)) if not isinstance(
            left, ast.Constant
        ):
            return  # arithmetic of sizes
        case ast.BinOp(left, ast.Add() | ast.Mult() | ast.MatMult(), right):
            yield from (left, right)
        case ast.BinOp(left, ast.Sub(), right):
            yield from (left, ast.UnaryOp(ast.USub(), right))
        case ast.BinOp(left, ast.Div() | ast.Pow()):
            yield left
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield operand


def is_no_term(parent, field, node):
    """Conditions, indices, error messages and type annotations."""
    return field in ("test", "slice") or left_alone(parent, field, node)


def find(name):
    """The function of a dotted name within dcfnet_np, a method too."""
    return pkgutil.resolve_name(f"dcfnet_np.{name}")


def dropped(equation):
    """(mutant, errors that the checks then find) for every part of the equation."""
    for name in equation.functions:
        for mutant in mutants(find(name), name, without, is_no_term):
            with planted(find(name), mutant.code):
                yield mutant, failures(equation.checks)


# --- the page ---

HEAD = """\
# The table of equations

Written by `make equations`; a test fails when it is out of date. For each equation of the paper:
the function that is the equation, the section that derives it, the checks that every run of the
tests makes (cases of `dcfnet gradcheck`, and one of values in `tests/support/terms.py`), and
further tests about it.

| Eq. | section | functions | checks | tests |
|---|---|---|---|---|
"""
BELOW = """
## What the checks say when a term is left out

Each row is the function as it stands in the library, with one part of its syntax tree left out: in
the place of what the second column shows stands the third. Then follows the largest error that the
equation's checks find (their limit is 5e-8). "stops" means that shapes or types no longer fit. All
rows come out of the functions themselves, none is listed by hand; the test fails if leaving
something out goes unnoticed.
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
    section = f"[{equation.what}](derivation/{equation.section})"
    return f"| {equation.number} | {section} | {functions} | {checks} | {tests} |\n"


def part(equation, results):
    """The equation's part of the page, from the results of `dropped`."""
    lines = [f"\n### Eq. {equation.number}\n\nThe {equation.what}.\n\n"]
    lines += ["| function | in the place of | stands | error |\n|---|---|---|---|\n"]
    for mutant, errors in results:
        finite = [error for error in errors if math.isfinite(error)]
        shown = f"{max(finite):.1g}" if finite else "stops" if errors else "NOT NOTICED"
        code = " | ".join(f"`{text}`".replace("|", r"\|") for text in (mutant.part, mutant.becomes))
        lines.append(f"| {link(mutant.function)} | {code} | {shown} |\n")
    return "".join(lines)


def table():
    return HEAD + "".join(map(table_row, EQUATIONS)) + BELOW


if __name__ == "__main__":
    parts = [part(equation, list(dropped(equation))) for equation in EQUATIONS]
    PAGE.write_text(table() + "".join(parts), encoding="utf-8")
