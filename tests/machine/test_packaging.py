"""The source distribution, and the wheel that is made of it, are whole."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = shutil.ignore_patterns(
    ".*", "build", "dist", "out", "runs", "__pycache__", "*.egg-info", "*.pyc", "*.tmp"
)
PROBES = ("kernels/probe.cu", "kernels/probe.cuh", "data/probe.h5", "data/probe.md")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the repository with one probe file of every kind that is package data."""
    copy = tmp_path_factory.mktemp("source") / "repository"
    shutil.copytree(ROOT, copy, ignore=SKIPPED)
    for probe in PROBES:
        (copy / probe.replace("data/", "dcfnet_np/data/")).write_text("probe\n")
    return copy


@pytest.fixture(scope="module")
def archives(source):
    """(sdist, wheel): `build` makes the wheel from the unpacked sdist, not from the source tree."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    command = [sys.executable, "-m", "build", "--no-isolation"]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,) = (source / "dist").glob("*.tar.gz")
    (wheel,) = (source / "dist").glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_package_and_nothing_else(source, archives):
    """Every module, and all data: kernels, weights, pages."""
    rooms = {"": source / "dcfnet_np", "kernels/": source / "kernels", "train/": source / "train"}
    expected = {
        prefix + path.relative_to(folder).as_posix()
        for prefix, folder in rooms.items()
        for path in folder.rglob("*.*")
        if path.is_file()
    }
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
    assert set(PROBES) <= expected <= {name.removeprefix("dcfnet_np/") for name in names}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"dcfnet_np"}


def test_the_sdist_can_be_tested(archives):
    with tarfile.open(archives[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    top = {"LICENSE", "README.md", "CHANGELOG.md", "Makefile"}
    assert top | {"tests/conftest.py", "kernels/probe.cu"} <= names
