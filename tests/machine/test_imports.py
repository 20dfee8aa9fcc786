"""`import dcfnet_np` is light, and every public name leads somewhere."""

import importlib

import pytest
from processes import run_python

import dcfnet_np

HEAVY = ("cv2", "scipy", "h5py", "cupy", "matplotlib", "torch")


@pytest.mark.parametrize(("more", "found"), [("", []), (", h5py", ["h5py"])])
def test_import_loads_nothing_heavy(more, found):
    """And the check sees a module that is heavy."""
    loaded = f"*[name for name in {HEAVY!r} if name in sys.modules]"
    done = run_python(f"import dcfnet_np{more}\nimport sys\nprint({loaded})")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == found


def test_public_names():
    assert set(dcfnet_np.__all__) <= set(dir(dcfnet_np))  # listed before they are loaded
    for name, (module, attribute) in dcfnet_np._WHERE.items():
        assert getattr(dcfnet_np, name) is getattr(importlib.import_module(module), attribute)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dcfnet_np.nothing
