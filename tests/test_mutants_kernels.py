"""Planted mistakes: the tests of the kernels must fail on every mistake of mutants_kernels.MUTANTS."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from mutants_kernels import MUTANTS

from dcfnet_np import kernels

TESTS = pathlib.Path(__file__).parent
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


def run(mutant):
    """Run the tests with the mistake planted; returns pytest's exit code and output."""
    family = mutant.name.split(":")[0].split(".")[0].split()[0]
    file = {"sgd": "test_kernels_lrn.py", "adam": "test_kernels_lrn.py"}.get(family, f"test_kernels_{family}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "mutants_kernels", "-p", "no:cacheprovider"]
    command += ["--tb=line", str(TESTS / file), "-k", f"({mutant.tests}) and ascending"]
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "DCFNET_MUTANT": mutant.name, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ to compile kernels for the CPU")
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=() if mutant.name in OFTEN else pytest.mark.slow)
        for mutant in MUTANTS
    ],
)
def test_a_planted_mistake_is_noticed(mutant):
    code, output = run(mutant)
    assert code == 1, f"exit code {code}, so the mistake was not noticed:\n{output[-2000:]}"
    assert "1 failed" in output, output[-2000:]


def test_the_list():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert set(names) >= OFTEN
    families = {pathlib.Path(mutant.file).stem for mutant in MUTANTS if mutant.file.endswith(".cu")}
    assert families == {pathlib.Path(file).stem for file in kernels.sources()}
    shown = (TESTS.parent / "docs" / "kernels.md").read_text()
    assert [name for name in names if name not in shown] == []
