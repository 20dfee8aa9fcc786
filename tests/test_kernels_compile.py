"""Every kernel compiled for real GPUs by NVRTC, as CuPy does it; that takes no GPU."""

import pytest

from dcfnet_np import kernels
from dcfnet_np.kernels import compile as compiling

SPILLS = 64  # bytes per thread: a few are harmless and depend on the compiler's version


@pytest.fixture
def compiler():
    try:
        return compiling.compiler()
    except compiling.CompileError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("arch", compiling.ARCHITECTURES)
@pytest.mark.parametrize("file", kernels.sources())
def test_compiles(compiler, file, arch):
    names = kernels.expressions()[file]
    rows = compiling.compile_file(file, names, arch)
    assert {row.kernel for row in rows} == set(names)
    for row in rows:
        assert row.warnings == (), row
        assert row.spills <= SPILLS, row
        assert 0 < row.registers <= 255, row
        assert row.shared <= 48 * 1024, row


def test_a_kernel_that_does_not_compile_is_named(compiler):
    with pytest.raises(compiling.CompileError, match=r"sgd\.cu does not compile for sm_90.*no_such_kernel"):
        compiling.compile_file("sgd.cu", ["no_such_kernel<float>"], "sm_90")


@pytest.mark.parametrize("arch", ["90", "sm90", "compute_90", ""])
def test_wrong_architectures_are_refused(arch):
    with pytest.raises(ValueError, match="names like sm_90"):
        next(compiling.compile_all([arch]))


def test_every_source_has_expressions():
    found = kernels.expressions()
    assert sorted(found) == kernels.sources()
    for file, names in found.items():
        assert names and len(set(names)) == len(names), file
