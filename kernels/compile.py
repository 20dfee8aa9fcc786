"""Compiles every kernel with NVRTC as CuPy would, on a machine with or without a GPU.

Needs cuda-core and an NVRTC: `pip install cuda-core nvidia-cuda-nvrtc`.
`dcfnet doctor --compile` shows what `compile_all` gives.
"""

import importlib
import io
import re
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NamedTuple

from . import FOLDER, expressions, source

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")


class CompileError(RuntimeError):
    """A kernel does not compile, or there is no compiler; the message says what it said."""


class Row(NamedTuple):
    """What the compiler says of one kernel on one architecture."""

    file: str
    kernel: str  # the C++ name expression
    arch: str  # "sm_90"
    registers: int  # per thread
    shared: int  # bytes of static shared memory per block
    stack: int  # bytes of local memory per thread that are no spills
    spills: int  # bytes per thread that did not fit into registers, stored and loaded
    warnings: tuple[str, ...]


def compiler() -> ModuleType:
    """The module cuda.core; CompileError with the reason when it or NVRTC is missing."""
    try:
        core = importlib.import_module("cuda.core")
        importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except Exception as error:  # a missing library raises whatever its loader raises
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CompileError(
            f"cuda-core with NVRTC is not usable ({line}); "
            "pip install cuda-core cuda-bindings nvidia-cuda-nvrtc"
        ) from None
    return core


def compile_all(archs: Sequence[str] = ARCHITECTURES) -> Iterator[Row]:
    """Compile everything that the library launches for each of `archs`, e.g. ("sm_75", "sm_90").

    One row per kernel and architecture, as they get done (about a second per file and
    architecture); files that an architecture is too old for (`too_old`) are left out.  Raises
    CompileError when there is no compiler or a kernel does not compile.
    """
    for arch in archs:
        if not re.fullmatch(r"sm_\d+[af]?", arch):
            raise ValueError(f"archs must be names like sm_90, got {arch!r}")
    for file, names in expressions().items():
        for arch in archs:
            if not too_old(arch, file):
                yield from compile_file(file, names, arch)


def minimum_arch(file: str) -> int:
    """The oldest architecture that the kernels of a .cu file run on: 80 for sm_80, 0 for any."""
    family = importlib.import_module(f"{__package__}.{file.removesuffix('.cu')}")
    return getattr(family, "MINIMUM_ARCH", 0)


def too_old(arch: str, file: str) -> bool:
    """Whether the kernels of a .cu file do not run on this architecture, "sm_75"."""
    return int(re.sub(r"\D", "", arch)) < minimum_arch(file)


def compile_file(file: str, names: Sequence[str], arch: str) -> list[Row]:
    """Compile the kernels `names` of one .cu file for one architecture."""
    core = compiler()
    options = core.ProgramOptions(
        name=file, arch=arch, std="c++17", include_path=[str(FOLDER)], ptxas_options=["-v"]
    )
    log = io.StringIO()
    try:
        program = core.Program(source(file), "c++", options)
        cubin = program.compile("cubin", name_expressions=tuple(names), logs=log)
    except Exception as error:  # cuda.core and NVRTC have no common base class
        said = [line for line in f"{log.getvalue()}\n{error}".splitlines() if "error" in line]
        raise CompileError(
            f"{file} does not compile for {arch}: {'; '.join(said) or error}"
        ) from None
    symbols = {_text(symbol): name for name, symbol in cubin.symbol_mapping.items()}
    return list(_rows(log.getvalue(), file, arch, symbols))


def _text(symbol: bytes | str) -> str:
    return symbol.decode() if isinstance(symbol, bytes) else symbol


def _rows(log: str, file: str, arch: str, symbols: dict[str, str]) -> Iterator[Row]:
    """Parse what `ptxas -v` writes: a line that names the kernel, its spills, its registers."""
    warnings = tuple(line for line in log.splitlines() if "warning" in line)
    pattern = (
        r"Compiling entry function '(?P<symbol>\w+)'.*?"
        r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
        r"(?P<loads>\d+) bytes spill.*?"
        r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)"
    )
    for match in re.finditer(pattern, log, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        yield Row(
            file,
            symbols[match["symbol"]],
            arch,
            int(match["registers"]),
            int(shared[1]) if shared else 0,
            int(match["stack"]),
            int(match["stores"]) + int(match["loads"]),
            warnings,
        )
