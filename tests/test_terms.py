"""A term of an equation that is left out is noticed; docs/learn/equations.md shows it as it is now."""

import re

import pytest
import terms


@pytest.mark.parametrize("equation", terms.EQUATIONS, ids=lambda equation: f"Eq. {equation.number}")
def test_a_term_left_out_is_noticed(equation):
    """Each part of the syntax tree of the equation's functions in turn; whole, they pass the same
    checks.
    """
    assert not terms.failures(equation.checks)
    results = list(terms.dropped(equation))
    unnoticed = [
        (name, what) for name, what, errors in results if not max(errors, default=0) > terms.NOTICED
    ]
    assert not unnoticed
    assert results and not terms.failures(equation.checks)
    assert terms.part(equation, results) in terms.PAGE.read_text(encoding="utf-8"), (
        "out of date: make equations"
    )


def test_the_table_is_up_to_date():
    assert terms.PAGE.read_text(encoding="utf-8").startswith(terms.table()), (
        "out of date: make equations"
    )
    assert [equation.number for equation in terms.EQUATIONS] == [
        str(number) for number in range(1, 14)
    ]


@pytest.mark.parametrize("equation", terms.EQUATIONS, ids=lambda equation: f"Eq. {equation.number}")
def test_the_docstring_names_the_equation(equation):
    text = terms.find(equation.functions[0].removesuffix(".update")).__doc__
    assert re.search(rf"\bEq\. {equation.number}\b", text)


@pytest.mark.parametrize("equation", terms.EQUATIONS, ids=lambda equation: f"Eq. {equation.number}")
def test_its_page_links_to_function_and_test(equation):
    text = (terms.PAGE.parent / equation.section.partition("#")[0]).read_text(encoding="utf-8")
    function = equation.functions[0].removesuffix(".update")
    assert (
        f"\\tag{{{equation.number}}}" in text and f"(../equations.md#eq-{equation.number})" in text
    )
    assert f"(#dcfnet_np.{function})" in text


def test_an_unnoticed_term_would_be_seen():
    """With checks that look elsewhere, what is left out goes unnoticed: the test above can fail."""
    blind = terms.EQUATIONS[6]._replace(checks=("relu",))
    assert [errors for _, _, errors in terms.dropped(blind)] == [[], []]
