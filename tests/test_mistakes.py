"""Planted mistakes: the tests must fail on every one of mistakes.MISTAKES and
mistakes_kernels.KERNELS.
"""

import pathlib
import shutil

import pytest
from mistakes import MISTAKES, ROOT, run
from mistakes_kernels import KERNELS

from dcfnet_np import kernels

# A few in every run, all of them in `make proof`.
OFTEN = {
    "conv: no barrier after the tile is loaded",
    "conv: reads channels that are not there",
    "conv weights: the last partial sum is left out",
    "conv.py: height and width exchanged",
    "lrn: pixels that are not there",
    "crop: writes right of the patch",
    "dcf: the wrong factor conjugated in the response",
    "peak: no barrier in the search",
    "tf32: two registers of a product exchanged",
}


def each(mistakes):
    often = [() if mistake.name in OFTEN else pytest.mark.slow for mistake in mistakes]
    return [
        pytest.param(mistake, id=mistake.name, marks=mark) for mistake, mark in zip(mistakes, often)
    ]


def assert_noticed(mistake):
    code, output = run(mistake)
    assert code == 1, f"exit code {code}, so the mistake was not noticed:\n{output[-2000:]}"
    assert "1 failed" in output, output[-2000:]


@pytest.mark.parametrize("mistake", each(MISTAKES))
def test_a_mistake_is_noticed(mistake):
    assert_noticed(mistake)


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ to compile kernels for the CPU")
@pytest.mark.parametrize("mistake", each(KERNELS))
def test_a_mistake_in_a_kernel_is_noticed(mistake):
    assert_noticed(mistake)


def test_the_lists():
    names = [mistake.name for mistake in MISTAKES + KERNELS]
    assert len(set(names)) == len(names)
    assert set(names) >= OFTEN
    for mistake in MISTAKES + KERNELS:
        assert mistake.old in (ROOT / mistake.file).read_text(encoding="utf-8"), mistake.name
    families = {
        pathlib.Path(mistake.file).stem for mistake in KERNELS if mistake.file.endswith(".cu")
    }
    assert families == {pathlib.Path(file).stem for file in kernels.sources()}
    shown = (ROOT / "docs" / "reference" / "kernels.md").read_text()
    assert [mistake.name for mistake in KERNELS if mistake.name not in shown] == []
