"""The source distribution, installed in a clean environment away from the source tree, is whole."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = shutil.ignore_patterns(
    ".*", "build", "dist", "out", "runs", "__pycache__", "*.egg-info", "*.pyc", "*.tmp"
)
PROBES = ("kernels/probe.cu", "kernels/probe.cuh", "data/probe.h5", "data/probe.md")

# Run in the clean environment: import every module; print {module: file} and the package's data
# files.
IMPORT_EVERYTHING = """
import importlib, importlib.util, json, pathlib, pkgutil
import dcfnet_np
modules = {"dcfnet_np": dcfnet_np.__file__}
for info in pkgutil.walk_packages(dcfnet_np.__path__, "dcfnet_np."):
    if not info.name.endswith("__main__"):
        modules[info.name] = importlib.import_module(info.name).__file__
folder = pathlib.Path(dcfnet_np.__file__).parent
files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
print(json.dumps({"modules": modules, "files": files}))
"""


def run(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    command = list(map(str, command))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def expected_files(source):
    """Files of a copy of the repository that install, by their name in the package."""
    rooms = {"": source / "dcfnet_np", "kernels/": source / "kernels", "train/": source / "train"}
    return {
        prefix + path.relative_to(folder).as_posix()
        for prefix, folder in rooms.items()
        for path in folder.rglob("*.*")
        if path.is_file()
    }


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
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    (wheel,) = (source / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """What a clean environment finds with the wheel of the sdist in it and our dependencies in
    reach.
    """
    away = tmp_path_factory.mktemp("away")
    run(sys.executable, "-m", "venv", "--without-pip", away / "venv", cwd=away)
    python = away / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--no-index", archives[1], cwd=away)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", where, cwd=away).strip())
    # A folder that a .pth file adds has its own .pth files ignored: an editable dcfnet_np stays out
    # of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = json.loads(run(python, "-I", "-c", IMPORT_EVERYTHING, cwd=away))
    found["site"] = site
    return found


def test_everything_is_there_in_the_clean_environment(source, installed):
    """Every module imports, and all data of the package are installed: kernels, weights, pages."""
    expected = expected_files(source)
    assert set(PROBES) <= expected <= set(installed["files"])
    names = {name.removesuffix(".py") for name in expected if name.endswith(".py")}
    modules = {f"dcfnet_np/{name}".removesuffix("/__init__").replace("/", ".") for name in names}
    assert set(installed["modules"]) == {name for name in modules if not name.endswith("__main__")}
    for file in installed["modules"].values():
        assert Path(file).is_relative_to(installed["site"])


def test_sdist_can_be_tested_and_wheel_holds_only_the_package(archives):
    with tarfile.open(archives[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    top = {"LICENSE", "README.md", "CHANGELOG.md", "Makefile"}
    assert top | {"tests/conftest.py", "kernels/probe.cu"} <= names
    with zipfile.ZipFile(archives[1]) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top.partition("-")[0] for top in tops} == {"dcfnet_np"}
