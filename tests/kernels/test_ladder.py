"""The ladder of kernels: every version computes what dcfnet_np.ops defines; its command runs."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from kernel_device import relative_error

from dcfnet_np import kernels
from dcfnet_np.kernels import compile as compiling
from dcfnet_np.kernels import ladder
from dcfnet_np.ops.conv import conv2d_forward
from dcfnet_np.ops.dcf import learn_filter

EXACT = {np.float32: 2e-6, np.float64: 1e-14}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", range(4))
def test_conv(device, rng, number, dtype):
    """More than a tile in each direction, and no multiple of eight outputs."""
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((2, 3, 11, 35), (10, 3, 3, 3), (10,)))
    expected = conv2d_forward(*(a.astype(np.float64) for a in (x, w, b)), padding=1)[0]
    y = ladder.conv_versions()[number].run(device(x), device(w), device(b))
    assert y.dtype == dtype and relative_error(y, expected) < EXACT[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("n, d, bins", [(2, 3, 131), (1, 40, 7)])
def test_filter(device, rng, number, dtype, n, d, bins):
    """More channels than lanes, more bins than threads, and a label that is not real."""
    x, y = (
        (rng.standard_normal(s) + 1j * rng.standard_normal(s)).astype(np.result_type(dtype, "c8"))
        for s in ((n, d, bins), (bins,))
    )
    w = ladder.filter_versions()[number].run(device(x), device(y), 0.3)
    assert w.dtype == x.dtype
    assert relative_error(w, learn_filter(x.astype(complex), y.astype(complex), 0.3)) < EXACT[dtype]


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ to compile kernels for the CPU")
def test_the_command():
    words = [sys.executable, "-m", "dcfnet_np.kernels.ladder", "filter", "--side", "7"]
    done = subprocess.run([*words, "--version", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, row = done.stdout.splitlines()
    assert row.startswith("  2  a warp takes a bin") and "error" in row
    done = subprocess.run([*words, "--version", "9"], capture_output=True, text=True)
    assert done.returncode == 2 and "filter has 1 to 3, got 9" in done.stderr


@pytest.mark.parametrize("file", ["ladder/conv.cu", "ladder/filter.cu"])
def test_it_compiles_for_a_gpu(file):
    versions = {"conv": ("conv3x3_v", 3), "filter": ("learn_filter_v", 2)}
    stem, count = versions[file.split("/")[1].removesuffix(".cu")]
    names = [f"{stem}{number + 1}<{t}>" for number in range(count) for t in ("float", "double")]
    try:
        rows = compiling.compile_file(file, names, "sm_90")
    except compiling.CompileError as error:
        if "not usable" in str(error):
            pytest.skip(str(error))
        raise
    assert len(rows) == len(names) and (kernels.FOLDER / file).is_file()
