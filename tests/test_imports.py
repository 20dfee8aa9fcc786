"""`import dcfnet_np` is light, and every public name leads somewhere."""

import importlib
import subprocess
import sys

import pytest
from processes import PATIENCE

import dcfnet_np

HEAVY = ("cv2", "scipy", "h5py", "cupy", "matplotlib", "torch")


def heavy_modules_after(statement):
    """Those of HEAVY that a fresh interpreter has loaded after `statement`."""
    script = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_loads_nothing_heavy():
    assert heavy_modules_after("import dcfnet_np") == []


def test_the_check_above_sees_a_heavy_module():
    assert heavy_modules_after("import dcfnet_np, h5py") == ["h5py"]


def test_public_names_are_listed_before_they_are_loaded():
    assert set(dcfnet_np.__all__) <= set(dir(dcfnet_np))


@pytest.mark.parametrize("name", sorted(dcfnet_np._WHERE))
def test_public_name(name):
    module, attribute = dcfnet_np._WHERE[name]
    assert getattr(dcfnet_np, name) is getattr(importlib.import_module(module), attribute)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dcfnet_np.nothing
