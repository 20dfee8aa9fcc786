"""The source distribution, installed in a clean environment away from the source tree, is complete."""

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

ROOT = Path(__file__).parent.parent
SKIPPED = shutil.ignore_patterns(
    ".*", "build", "dist", "out", "runs", "__pycache__", "*.egg-info", "*.pyc", "*.tmp"
)

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
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def expected_modules(source):
    """Names of all modules below a copy of the repository, as they must install."""
    rooms = {"dcfnet_np": "dcfnet_np", "kernels": "dcfnet_np.kernels", "train": "dcfnet_np.train"}
    names = set()
    for folder, package in rooms.items():
        for path in (source / folder).rglob("*.py"):
            parts = [package, *path.relative_to(source / folder).with_suffix("").parts]
            names.add(".".join(part for part in parts if part != "__init__"))
    return {name for name in names if not name.endswith("__main__")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the repository with one probe file of every kind that is package data."""
    copy = tmp_path_factory.mktemp("source") / "repository"
    shutil.copytree(ROOT, copy, ignore=SKIPPED)
    (copy / "dcfnet_np/data").mkdir(exist_ok=True)
    for probe in (
        "kernels/probe.cu",
        "kernels/probe.cuh",
        "dcfnet_np/data/probe.h5",
        "dcfnet_np/data/probe.md",
    ):
        (copy / probe).write_text("probe\n")
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
    site = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=away
        ).strip()
    )
    # A folder that a .pth file adds has its own .pth files ignored: an editable dcfnet_np stays out
    # of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = json.loads(run(python, "-I", "-c", IMPORT_EVERYTHING, cwd=away))
    found["site"] = site
    return found


def test_every_module_imports_from_the_clean_environment(source, installed):
    assert set(installed["modules"]) == expected_modules(source)
    strangers = [
        f for f in installed["modules"].values() if not Path(f).is_relative_to(installed["site"])
    ]
    assert not strangers
    assert {"dcfnet_np.kernels", "dcfnet_np.train"} <= set(installed["modules"])


def test_kernels_and_weights_are_installed(source, installed):
    expected = {f"kernels/{p.name}" for p in (source / "kernels").glob("*.cu*")}
    expected |= {f"evaluation/{p.name}" for p in (source / "dcfnet_np/evaluation").glob("*.j2")}
    page = [
        p for p in (source / "dcfnet_np/explain").rglob("*.*") if p.suffix in (".css", ".j2", ".js")
    ]
    expected |= {str(p.relative_to(source / "dcfnet_np")) for p in page}
    assert len(page) > 20
    expected |= {
        f"data/{p.name}"
        for p in (source / "dcfnet_np/data").iterdir()
        if p.suffix in (".h5", ".md")
    }
    expected |= {f"serve/page/{name}" for name in ("index.html", "page.js", "style.css")}
    expected |= {"py.typed"}
    assert {"kernels/probe.cu", "kernels/probe.cuh", "data/probe.h5", "data/probe.md"} <= expected
    assert expected <= set(installed["files"])


def test_sdist_can_be_tested_and_wheel_holds_only_the_package(archives):
    with tarfile.open(archives[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "tests/conftest.py",
        "kernels/probe.cu",
    } <= names
    with zipfile.ZipFile(archives[1]) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top.partition("-")[0] for top in tops} == {"dcfnet_np"}
