"""What this machine is: processor, cores, GPUs, versions, settings.

Every report, every benchmark and `dcfnet doctor` ask here.  Nothing is imported before it is asked
for, so that a library that is broken hides nothing else.
"""

import contextlib
import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "h5py", "cupy-cuda12x", "cupy-cuda13x", "cupy")


def describe_machine() -> dict[str, Any]:
    """What may change a box or a time: versions, commit, processor, cores, GPUs, BLAS, variables.

    GPUs are named only.  None is selected, and no kernel runs there.
    """
    from .. import __version__

    return {
        "dcfnet_np": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": usable_cores(),
        "gpus": gpu_names(),
        "packages": package_versions(),
        "blas": blas_libraries(),
        # where the data are changes no figure
        "variables": {k: v for k, v in variables().items() if k != "DCFNET_DATA"},
    }


def processor_name() -> str:
    """The name of this machine's CPU."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"^model name\s*:\s*(.+)$", text, re.M):
            return found[1].strip()
    return platform.processor() or platform.machine()


def allowed_cores() -> set[int]:
    """The CPU cores that this process may run on: taskset and containers take some away."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many CPU cores this process may use.

    The variable DCFNET_CORES sets another number: evaluation gives each of several worker processes
    its share.
    """
    if os.environ.get("DCFNET_CORES", "").isdigit():
        return max(1, int(os.environ["DCFNET_CORES"]))
    return len(allowed_cores())


def package_versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    versions = {}
    with contextlib.suppress(Exception):  # it comes as one of several packages
        versions["opencv"] = str(importlib.import_module("cv2").__version__)
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def blas_libraries() -> list[dict[str, Any]]:
    """The BLAS libraries that NumPy and SciPy bring: name, version, architecture, threads, file."""
    import threadpoolctl

    for module in ("numpy", "scipy.linalg"):  # each shows once it is loaded
        importlib.import_module(module)
    keys = ("internal_api", "version", "architecture", "num_threads")
    return [
        {**{key: pool.get(key) for key in keys}, "file": Path(pool["filepath"]).name}
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]


def variables() -> dict[str, str]:
    """The environment variables of OpenBLAS and of ours, by name."""
    found = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS_", "DCFNET_"))}
    return dict(sorted(found.items()))


def commit() -> str:
    """The commit of a clone, else what DCFNET_COMMIT says, else ""."""
    root = Path(__file__).parents[2]
    found = _says("git", "-C", str(root), "rev-parse", "HEAD") if (root / ".git").exists() else ""
    return found or os.environ.get("DCFNET_COMMIT", "")


def gpu_names() -> list[str]:
    """A line for every GPU that there is, whether it can be used or not; see `describe_gpu`."""
    from ..backend import count_devices

    return [describe_gpu(index) for index in range(count_devices())]


def describe_gpu(index: int) -> str:
    """A GPU in one line: name, memory, compute capability, versions of driver and runtime."""
    facts = gpu_facts(index)
    return (
        f"cuda:{index}: {facts['name']}, {facts['memory_gib']:.0f} GiB, compute capability "
        f"{facts['capability']}, CUDA driver {facts['driver_cuda']}, runtime {facts['runtime']}"
    )


def gpu_facts(index: int) -> dict[str, Any]:
    """Name, memory and compute capability of a GPU, and the versions that a figure on it needs."""
    from ..backend import cupy

    cp = cupy()
    runtime = cp.cuda.runtime
    properties = runtime.getDeviceProperties(index)
    return {
        "name": properties["name"].decode(),
        "memory_gib": properties["totalGlobalMem"] / 2**30,
        "capability": f"{properties['major']}.{properties['minor']}",
        "driver_cuda": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cp.__version__,
    }


def gpu_driver() -> str:
    """The version of NVIDIA's driver; "" where nvidia-smi does not say."""
    return _says("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _says(*command: str) -> str:
    """The first line that a command prints; nothing where there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()
