"""`dcfnet doctor`: what is installed and what works.

Whatever is broken or missing becomes a finding: this command must not fail.  So it imports all
that may be broken where it asks.
"""

import argparse
import importlib
import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .. import __version__
from ..support import machine
from ..support.errors import Failed
from ..support.words import counted

MODULES = {"numpy": "numpy", "scipy": "scipy", "opencv": "cv2", "h5py": "h5py"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--compile."""
    archs = (
        "instead, compile every CUDA kernel for these architectures; "
        "takes cuda-core and NVRTC, and no GPU"
    )
    add = partial(parser.add_argument, nargs="?", const="sm_75,sm_80,sm_90")
    add("--compile", metavar="sm_75,sm_80,...", help=archs)


def run(args: argparse.Namespace) -> int:
    """A line a finding, or a table of kernels."""
    if args.compile:
        return _compile(args.compile.split(","))
    for name, value in _findings():
        print(f"{name:<12} {value}")
    return 0


def _findings() -> Iterator[tuple[str, str]]:
    yield "dcfnet_np", __version__
    system = f"{platform.system()} {platform.machine()}"
    yield "python", f"{platform.python_version()} ({system}, {sys.executable})"
    for name, module in MODULES.items():
        yield name, _version(module)
    versions = machine.package_versions()
    cupy = [f"{version} ({name})" for name, version in versions.items() if "cupy" in name]
    yield "cupy", cupy[0] if cupy else "not installed"
    yield "cores", f"{len(machine.allowed_cores())} usable of {os.cpu_count()}"
    yield from _lines("blas", _blas)
    variables = ", ".join(f"{name}={value}" for name, value in machine.variables().items())
    yield "variables", variables or "no OPENBLAS_* or DCFNET_* variable is set"
    yield from _lines("gpu", _gpu)
    yield from _lines("weights", _weights)


def _lines(name: str, ask: Callable[[], Iterator[str]]) -> Iterator[tuple[str, str]]:
    try:
        for line in ask():
            yield name, line
    except Exception as error:
        yield name, f"unknown ({type(error).__name__}: {error})"


def _version(module: str) -> str:
    try:
        return str(importlib.import_module(module).__version__)
    except Exception as error:
        return f"does not import ({type(error).__name__}: {error})"


def _blas() -> Iterator[str]:
    libraries = machine.blas_libraries()
    for each in libraries:
        kernel = f", kernel {each['architecture']}" if each["architecture"] else ""
        threads = f"{counted(each['num_threads'], 'thread')} ({each['file']})"
        yield f"{each['internal_api']} {each['version']}{kernel}, {threads}"
    if not libraries:
        yield "none that threadpoolctl knows"


def _gpu() -> Iterator[str]:
    from ..backend import select_device, usable_devices
    from ..kernels import enabled

    chosen, reasons = select_device("auto"), usable_devices()
    if chosen.kind == "cpu":
        yield f"none is used, everything runs on the CPU: {chosen.note}"
    for index, reason in reasons.items():
        yield f"{machine.describe_gpu(index)}: {reason or 'usable'}"
    if reasons and not enabled():
        yield "DCFNET_KERNELS=0: array code by CuPy in place of the kernels"


def _weights() -> Iterator[str]:
    from .. import weights

    names = weights.packaged_weights()
    for name in names:
        try:
            loaded = weights.load_weights(name)
            count = sum(parameter.size for parameter in loaded.parameters.values())
            yield f"{name}: {loaded.architecture}, {count} parameters"
        except Exception as error:
            yield f"{name}: does not load ({type(error).__name__}: {error})"
    if not names:
        yield "none is packaged: the installation is incomplete"


def _compile(archs: Sequence[str]) -> int:
    from ..kernels import sources
    from ..kernels.compile import CompileError, compile_all, too_old

    columns = ("file", "arch", "registers", "shared", "stack", "spills", "kernel")
    line = "{:<8} {:<6} {:>9} {:>7} {:>6} {:>7}  {}"
    count = 0
    try:
        for row in compile_all(archs):
            if not count:
                print(line.format(*columns[:5], "spilled", "kernel"))
            print(line.format(*(getattr(row, column) for column in columns)))
            for warning in row.warnings:
                print(f"  {warning}")
            count += 1
    except CompileError as error:
        raise Failed(str(error)) from error
    for arch, file in itertools.product(archs, sources()):
        if too_old(arch, file):
            print(f"{file} is left out for {arch}, which is too old for it")
    print(f"{count} kernels compiled for {', '.join(archs)}; shared, stack and spilled in bytes")
    return 0
