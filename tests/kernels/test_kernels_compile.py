"""Every kernel compiled for real GPUs by NVRTC, as CuPy does it; that takes no GPU."""

import pytest

from dcfnet_np import cli, kernels
from dcfnet_np.kernels import compile as compiling

SPILLS = 64  # bytes per thread: a few are harmless and depend on the compiler's version


@pytest.fixture
def compiler():
    try:
        return compiling.compiler()
    except compiling.CompileError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "file, arch",
    [
        (file, arch)
        for file in kernels.sources()
        for arch in compiling.ARCHITECTURES
        if not compiling.too_old(arch, file)
    ],
)
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
    with pytest.raises(
        compiling.CompileError, match=r"sgd\.cu does not compile for sm_90.*no_such_kernel"
    ):
        compiling.compile_file("sgd.cu", ["no_such_kernel<float>"], "sm_90")


def test_an_architecture_too_old_for_a_file(compiler, monkeypatch, capsys):
    assert compiling.minimum_arch("conv_tf32.cu") == 80 and compiling.minimum_arch("conv.cu") == 0
    with pytest.raises(compiling.CompileError, match="TF32 needs compute capability 8.0 or newer"):
        compiling.compile_file("conv_tf32.cu", ["conv3x3_tf32<1, 0>"], "sm_75")
    only = {"conv_tf32.cu": ("conv3x3_tf32<1, 0>",), "sgd.cu": ("sgd_step<float>",)}
    monkeypatch.setattr(compiling, "expressions", lambda: only)
    rows = [(row.file, row.arch) for row in compiling.compile_all(["sm_75", "sm_80"])]
    assert rows == [("conv_tf32.cu", "sm_80"), ("sgd.cu", "sm_75"), ("sgd.cu", "sm_80")]
    assert cli.main(["doctor", "--compile", "sm_75,sm_80"]) == 0
    *_, note, summary = capsys.readouterr().out.splitlines()
    assert note == "conv_tf32.cu is left out for sm_75, which is too old for it"
    assert summary.startswith("3 kernels compiled for sm_75, sm_80")


@pytest.mark.parametrize("arch", ["90", "sm90", "compute_90", ""])
def test_wrong_architectures_are_refused(arch):
    with pytest.raises(ValueError, match="names like sm_90"):
        next(compiling.compile_all([arch]))


def test_every_source_has_expressions():
    found = kernels.expressions()
    assert sorted(found) == kernels.sources()
    for file, names in found.items():
        assert names and len(set(names)) == len(names), file
