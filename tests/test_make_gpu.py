"""The recipe of `make gpu`: which parts it runs and how, with a stand-in for Python that notes what
it is asked.

test_gpu_benchmarks.py runs what these parts are.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from processes import PATIENCE

ROOT = pathlib.Path(__file__).parent.parent
PYTHON = """#!/bin/sh
echo "$@" >> {log}
case "$*" in {case}) {action};; esac
"""
PARTS = ["install", "compile", "tests", "bench", "tracking", "training", "kernels"]


@pytest.fixture
def make_gpu(tmp_path):
    """Run it: (exit code, what is printed, what its Python was asked, one line each)."""

    def run(*variables, case="nothing", action=":", sanitizer=False, data=None):
        log, python, tools = tmp_path / "log", tmp_path / "python", tmp_path / "tools"
        python.write_text(PYTHON.format(log=shlex.quote(str(log)), case=case, action=action))
        python.chmod(0o755)
        tools.mkdir(exist_ok=True)
        for name in ("sh", "bash", "date", "timeout", "env", "mkdir", "find", "sleep", "make"):
            (tools / name).unlink(missing_ok=True)
            (tools / name).symlink_to(which(name))
        if sanitizer:
            (tools / "compute-sanitizer").write_text(
                '#!/bin/sh\nshift 4\nexec "$@" --seen-by-sanitizer\n'
            )
            (tools / "compute-sanitizer").chmod(0o755)
        environment = {**os.environ, "PATH": str(tools), "DCFNET_DATA": data or ""}
        command = [
            "make",
            "--no-print-directory",
            "gpu",
            f"PYTHON={python}",
            f"RESULTS={tmp_path / 'results'}",
        ]
        done = subprocess.run(
            [*command, *variables],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return run


def which(name):
    found = [pathlib.Path(folder, name) for folder in os.environ["PATH"].split(os.pathsep)]
    return next(path for path in found if path.is_file())


def titles(printed):
    return [
        line[3:].split()[0]
        for line in printed.splitlines()
        if line.startswith("== ") and "skipped" not in line
    ]


def test_without_data_and_sanitizer(make_gpu, tmp_path):
    code, printed, asked = make_gpu()
    assert code == 0, printed
    assert titles(printed) == PARTS
    assert (
        "David's frames: skipped, no DCFNET_DATA" in printed
        and "racecheck: skipped, no compute-sanitizer" in printed
    )
    results = tmp_path / "results"
    assert asked == [
        "-m pip install --quiet --no-index --no-deps --no-build-isolation -e .",
        "benchmarks/gpu_kernels.py --compile",
        "-m pytest -q -m gpu --durations=5 --continue-on-collection-errors",
        f"-m dcfnet_np bench --device cuda --json {results}/gpu-bench.json",
        f"benchmarks/gpu_tracking.py --out {results}/gpu-tracking.json",
        f"benchmarks/gpu_training.py --arch conv1 --out {results}/gpu-training.json",
        f"benchmarks/gpu_kernels.py --quick --json {results}/gpu-kernels.json",
    ]


def test_with_data_and_sanitizer(make_gpu, tmp_path):
    david = tmp_path / "a folder" / "sequences" / "David"
    david.mkdir(parents=True)
    code, printed, asked = make_gpu(sanitizer=True, data=str(tmp_path / "a folder"))
    assert code == 0, printed
    assert titles(printed) == [*PARTS[:-1], "memcheck", "racecheck", "kernels"]
    assert f"-m dcfnet_np bench {david} --device cuda" in asked[3]
    assert f"gpu_tracking.py --frames {david} --out" in asked[4]
    assert [line.endswith("--seen-by-sanitizer") for line in asked] == [
        6 <= number <= 7 for number in range(9)
    ]


def test_the_sanitizer_sees_tests_of_every_kernel():
    """The names that the Makefile picks are names of tests."""
    command = ["make", "--no-print-directory", "--dry-run", "gpu", "PYTHON=python"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (pytest_words,) = re.findall(r'DCFNET_NO_POOL=1 .*? -m (pytest .*? -k ".*?"); ', recipe)
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(pytest_words), "--collect-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = [
        f"kernels/test_kernels_{name}"
        for name in ("conv", "tf32", "lrn", "dft", "dcf", "crop", "peak")
    ]
    for file in (*files, "train/test_train_device_step"):
        assert f"tests/{file}.py::" in done.stdout, file


def test_a_part_that_fails_does_not_hide_the_others(make_gpu):
    code, printed, asked = make_gpu(case="*gpu_tracking*", action="exit 3")
    assert code != 0 and len(asked) == len(PARTS)
    (line,) = [line for line in printed.splitlines() if line.startswith("failed:")]
    assert "gpu_tracking.py" in line and "gpu_training.py" not in line


def test_tests_that_hang_leave_time(make_gpu):
    code, printed, asked = make_gpu("GPU_TEST_SECONDS=1", case=r"*-m\ pytest*", action="sleep 100")
    assert code != 0 and len(asked) == len(PARTS), printed


def test_it_ends(make_gpu):
    """After GPU_SECONDS, and says what had no time."""
    code, printed, asked = make_gpu(
        "GPU_SECONDS=6", "GPU_GRACE=1", case="*--compile*", action="trap '' TERM; sleep 100"
    )
    assert code != 0 and len(asked) == 2, printed
    assert printed.count("no time left for") == len(PARTS) - 2
