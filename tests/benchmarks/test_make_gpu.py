"""The recipe of `make gpu`: which parts it runs and how, with a stand-in for Python that notes what
it is asked. test_bench_gpu.py runs what these parts are.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$@" >> {log}
case "$*" in {case}) {action};; esac
"""
PARTS = ["install", "compile", "tests", "bench", "tracking", "training"]
TOOLS = ("sh", "bash", "date", "timeout", "env", "mkdir", "find", "sleep", "make")


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def make_gpu(tmp_path):
    """Run it: (exit code, what is printed, what its Python was asked, one line each)."""
    log, python, tools = tmp_path / "log", tmp_path / "python", tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))

    def run(*variables, case="nothing", action=":", sanitizer=False, data=""):
        script(python, PYTHON.format(log=shlex.quote(str(log)), case=case, action=action))
        if sanitizer:
            sanitize = '#!/bin/sh\nshift 4\nexec "$@" --seen-by-sanitizer\n'
            script(tools / "compute-sanitizer", sanitize)
        words = [f"PYTHON={python}", f"RESULTS={tmp_path / 'results'}", *variables]
        done = subprocess.run(
            ["make", "--no-print-directory", "gpu", *words],
            cwd=ROOT,
            env={**os.environ, "PATH": str(tools), "DCFNET_DATA": data},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return run


def titles(printed):
    return re.findall(r"^== (\w+)$", printed, re.M)


def test_without_data_and_sanitizer(make_gpu, tmp_path):
    code, printed, asked = make_gpu()
    assert code == 0 and titles(printed) == PARTS, printed
    assert "David's frames: skipped, no DCFNET_DATA" in printed
    assert "racecheck: skipped, no compute-sanitizer" in printed
    results = tmp_path / "results"
    assert asked == [
        "-m pip install --quiet --no-index --no-deps --no-build-isolation -e .",
        "benchmarks/gpu.py compile",
        "-m pytest -q -m gpu --durations=5 --continue-on-collection-errors",
        f"-m dcfnet_np bench --device cuda --json {results}/gpu-bench.json",
        f"benchmarks/gpu.py tracking --out {results}/gpu-tracking.json",
        f"benchmarks/gpu.py training --arch conv1 --out {results}/gpu-training.json",
    ]


def test_with_data_and_sanitizer(make_gpu, tmp_path):
    david = tmp_path / "a folder" / "sequences" / "David"
    david.mkdir(parents=True)
    code, printed, asked = make_gpu(sanitizer=True, data=str(tmp_path / "a folder"))
    assert code == 0 and titles(printed) == [*PARTS, "memcheck", "racecheck"], printed
    assert f"-m dcfnet_np bench {david} --device cuda" in asked[3]
    assert f"gpu.py tracking --frames {david} --out" in asked[4]
    assert [line.endswith("--seen-by-sanitizer") for line in asked] == [False] * 6 + [True] * 2


def test_the_sanitizer_sees_tests_of_every_kernel():
    """The names that the Makefile picks are names of tests."""
    command = ["make", "--no-print-directory", "--dry-run", "gpu", "PYTHON=python"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (words,) = re.findall(r'DCFNET_NO_POOL=1 .*? -m (pytest .*? -k ".*?"); ', recipe)
    collect = [sys.executable, "-m", *shlex.split(words), "--collect-only"]
    done = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [
        f"kernels/test_kernels_{name}"
        for name in ("conv", "tf32", "lrn", "dft", "dcf", "crop", "peak")
    ]
    for file in (*files, "train/test_train_device_step"):
        assert f"tests/{file}.py::" in done.stdout, file


def test_a_part_that_fails_does_not_hide_the_others(make_gpu):
    code, printed, asked = make_gpu(case="*gpu.py\\ tracking*", action="exit 3")
    assert code != 0 and len(asked) == len(PARTS)
    (line,) = [line for line in printed.splitlines() if line.startswith("failed:")]
    assert "gpu.py tracking" in line and "gpu.py training" not in line


def test_tests_that_hang_leave_time(make_gpu):
    code, printed, asked = make_gpu("GPU_TEST_SECONDS=1", case=r"*-m\ pytest*", action="sleep 100")
    assert code != 0 and len(asked) == len(PARTS), printed


def test_it_ends(make_gpu):
    """After GPU_SECONDS, and says what had no time."""
    variables = ("GPU_SECONDS=6", "GPU_GRACE=1")
    code, printed, asked = make_gpu(
        *variables, case="*gpu.py\\ compile*", action="trap '' TERM; sleep 100"
    )
    assert code != 0 and len(asked) == 2, printed
    assert printed.count("no time left for") == len(PARTS) - 2
