"""dcfnet_np.kernels: finding, validating and launching, whatever the kernel."""

import re

import numpy as np
import pytest

from dcfnet_np import backend, kernels


def test_sources_and_headers_are_found():
    assert {"conv.cu", "lrn.cu", "sgd.cu"} <= set(kernels.sources())
    for file in kernels.sources():
        assert kernels.source(file).splitlines()[1] == f'#line 1 "{file}"'


def test_a_changed_header_makes_another_source(monkeypatch, tmp_path):
    """Or CuPy would take what it compiled before from its disk."""
    for file in ("sgd.cu", "power.cuh"):
        (tmp_path / file).write_text((kernels.FOLDER / file).read_text())
    monkeypatch.setattr(kernels, "FOLDER", tmp_path)
    before = kernels.source("sgd.cu")
    assert kernels.source("sgd.cu") == before
    (tmp_path / "power.cuh").write_text("// another\n")
    assert kernels.source("sgd.cu") != before


@pytest.mark.parametrize("file", kernels.sources())
def test_a_header_says_what_one_needs(file):
    """Formula, equation or "Paper none", layout, launch, reference and versions: at the top."""
    lines = kernels.source(file).splitlines()[2:]
    header = "\n".join(
        lines[: next(i for i, line in enumerate(lines) if not line.startswith("//"))]
    )
    for word in (
        r"\bLayout\b",
        r"\bReference\b",
        r"dcfnet_np\.",
        r"[Gg]rid|Launch",
        r"[Vv]ersion",
        r"Sec\. 4\.1|Eqs?\. \d|\bPaper +none\b",
    ):
        assert re.search(word, header), (file, word)


@pytest.mark.parametrize("value, answer", [("0", False), ("1", True), (None, True)])
def test_the_environment_switches_kernels_off(monkeypatch, value, answer):
    monkeypatch.delenv("DCFNET_KERNELS", raising=False)
    if value is not None:
        monkeypatch.setenv("DCFNET_KERNELS", value)
    assert kernels.enabled() is answer


def test_without_a_gpu_a_launch_says_why(monkeypatch):
    def nothing():
        raise backend.DeviceError("CuPy is not installed")

    monkeypatch.setattr(backend, "cupy", nothing)
    with pytest.raises(backend.DeviceError, match="CuPy is not installed"):
        kernels.launch("sgd.cu", "sgd_step<float>", (1,), (256,), np.zeros(1, np.float32))


def test_launch_converts_only_whole_numbers(device):
    p, g, v = (device(np.ones(3, np.float32)) for _ in range(3))
    constants = [np.float32(0.5)] * 3
    with pytest.raises(
        TypeError, match=r"launch sgd_step<float>: argument 4 must be an array .* got float"
    ):
        kernels.launch("sgd.cu", "sgd_step<float>", (1,), (256,), p, g, v, 3, 0.5, 0.5, 0.5)
    kernels.launch("sgd.cu", "sgd_step<float>", (1,), (256,), p, g, v, 3, *constants)
    assert float(v[0]) == 2.0 and float(p[0]) == 0.0
    kernels.launch("sgd.cu", "sgd_step<float>", (0,), (256,), p, g, v, 3, *constants)
    for grid in ((1, 65536), (1, 1, 65536), (2**31, 1)):
        with pytest.raises(
            ValueError, match=r"a grid is at most \(2\*\*31 - 1, 65535, 65535\), got"
        ):
            kernels.launch("sgd.cu", "sgd_step<float>", grid, (256,), p, g, v, 3, *constants)
    assert float(v[0]) == 2.0


def test_require(device):
    array = device(np.zeros((2, 3), np.float32))
    kernels.require(array, "f: x", np.float32, (2, None))
    with pytest.raises(TypeError, match="f: x must be float64, got float32"):
        kernels.require(array, "f: x", np.float64, (2, 3))
    with pytest.raises(ValueError, match=r"f: x must have shape \(any, 4\), got \(2, 3\)"):
        kernels.require(array, "f: x", np.float32, (None, 4))
    with pytest.raises(ValueError, match="f: x must be C-contiguous .* got strides"):
        kernels.require(array.T, "f: x", np.float32, (3, 2))
    with pytest.raises(TypeError, match="f: x must be an array on the GPU, got float"):
        kernels.require(1.0, "f: x", np.float32, ())
    assert kernels.require_real(array, "f: x", (2, 3)) == "float"
    with pytest.raises(TypeError, match="f: x must be float32 or float64, got int64"):
        kernels.require_real(array.astype(np.int64), "f: x", (2, 3))


@pytest.mark.parametrize("count, size, answer", [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_blocks(count, size, answer):
    assert kernels.blocks(count, size) == answer
