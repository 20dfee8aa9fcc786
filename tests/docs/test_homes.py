"""docs/reference/homes.md is what `make equations` writes, and every home in it exists."""

import importlib
import sys
from pathlib import Path

import homes
import pytest
from test_cited_names import resolves

TESTS = Path(__file__).parents[1]


def test_the_page_is_up_to_date():
    assert homes.PAGE.read_text(encoding="utf-8") == homes.table(), "out of date: make equations"


@pytest.mark.parametrize("step", homes.STEPS, ids=lambda step: step.name)
def test_its_homes_exist(step):
    for name in (*step.plain, *step.fast, *step.cuda, *step.page):
        assert (homes.ROOT / name).is_file() if "/" in name else resolves(name), name


@pytest.mark.parametrize("step", homes.STEPS, ids=lambda step: step.name)
def test_a_test_compares_them(step, monkeypatch):
    assert step.tests
    for name in step.tests:
        module, function = name.split(".")
        (path,) = TESTS.rglob(f"{module}.py")
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        assert callable(getattr(importlib.import_module(module), function))
