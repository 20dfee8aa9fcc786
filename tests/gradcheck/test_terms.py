"""A term of an equation that is left out is noticed; the page shows it as it is now."""

import re

import pytest
import terms

each_equation = pytest.mark.parametrize(
    "equation", terms.EQUATIONS, ids=lambda equation: f"Eq. {equation.number}"
)


@each_equation
def test_a_term_left_out_is_noticed(equation):
    """Each part of the syntax tree in turn; whole, the functions pass the same checks."""
    results = list(terms.dropped(equation))
    assert results and not terms.failures(equation.checks)
    unnoticed = [
        (mutant.function, mutant.part, mutant.becomes)
        for mutant, errors in results
        if not max(errors, default=0) > terms.NOTICED
    ]
    assert not unnoticed
    page = terms.PAGE.read_text(encoding="utf-8")
    assert terms.part(equation, results) in page, "out of date: make equations"


def test_the_table_is_up_to_date():
    page = terms.PAGE.read_text(encoding="utf-8")
    assert page.startswith(terms.table()), "out of date: make equations"
    assert [equation.number for equation in terms.EQUATIONS] == [str(n) for n in range(1, 14)]


@each_equation
def test_docstring_and_section_name_each_other(equation):
    function = equation.functions[0].removesuffix(".update")
    assert re.search(rf"\bEq\. {equation.number}\b", terms.find(function).__doc__)
    page = equation.section.partition("#")[0]
    text = (terms.PAGE.parent / "derivation" / page).read_text(encoding="utf-8")
    assert f"\\tag{{{equation.number}}}" in text
    assert f"(../equations.md#eq-{equation.number})" in text
    assert f"(#dcfnet_np.{function})" in text


def test_an_unnoticed_term_would_be_seen():
    """With checks that look elsewhere, what is left out goes unnoticed: the test above can fail."""
    blind = terms.EQUATIONS[6]._replace(checks=("relu",))
    assert [errors for _, errors in terms.dropped(blind)] == [[], []]
