"""Makes the environment of test_cupy_without_gpu.py: `make .venv/.cupy`, a part of `make test`.

    python tests/support/cupy_environment.py        run by the Python of .venv; it makes .venv/cupy

There dcfnet_np is installed from this folder with all that its extra gpu12 names: CuPy itself, 131
MB; and NVRTC of CUDA 12, 90 MB, since that of .venv is the newest.  Everything else is what .venv
has, by a .pth file. Where that fails, .venv/cupy.why says why in one line, and the tests are
skipped.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time
import venv

ROOT = pathlib.Path(__file__).parents[2]
PLACE = pathlib.Path(sys.prefix, "cupy")
WHY = pathlib.Path(sys.prefix, "cupy.why")
SECONDS = 240  # for everything
EXTRA = r"""
import importlib.metadata, json
names = importlib.metadata.requires("dcfnet_np")
ours = [name for name in names if 'extra == "gpu12"' in name.replace("'", '"')]
print(json.dumps([name.split(";")[0] for name in ours]))
"""


def make() -> None:
    deadline = time.monotonic() + SECONDS
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)

    def run(*arguments: str) -> str:
        left = deadline - time.monotonic()
        command = [str(python), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=left, cwd=PLACE
        ).stdout

    folder = run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    pathlib.Path(folder, "packages_of_the_tests.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", str(ROOT))
    # or the next wheel is made of these files
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    run(*pip, *json.loads(run("-c", EXTRA)), "nvidia-cuda-nvrtc-cu12")


def main() -> None:
    WHY.unlink(missing_ok=True)
    if not (sys.platform == "linux" and sysconfig.get_platform().endswith("x86_64")):
        WHY.write_text("CuPy's wheel is tried on Linux x86_64 only\n")
        return
    try:
        make()
    except subprocess.TimeoutExpired:
        WHY.write_text(f"CuPy could not be installed in {SECONDS} seconds\n")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "ERROR" in line] or [
            f"exit code {error.returncode}"
        ]
        WHY.write_text(f"CuPy could not be installed: {lines[-1]}\n")
    if WHY.exists():
        shutil.rmtree(PLACE, ignore_errors=True)
        sys.stderr.write(WHY.read_text())


if __name__ == "__main__":
    main()
