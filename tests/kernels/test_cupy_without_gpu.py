"""`pip install .[gpu12]` on a machine without a GPU leaves everything working.

CuPy is really installed, in .venv/cupy, which `make test` makes (see cupy_environment.py).
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE
from scenes import PATCH, make_frames, write_images

from dcfnet_np import Tracker, kernels

PYTHON = Path(sys.prefix, "cupy", "bin", "python")
WHY = Path(sys.prefix, "cupy.why")
NO_DRIVER = "CuPy is installed but no GPU can be used: there is no NVIDIA driver"


def run(*arguments, cwd=None, code=0):
    command = [str(PYTHON), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def refused(*arguments, cwd, device):
    """The command says no in one line, and why."""
    done = run("-m", "dcfnet_np", *arguments, "--device", device, cwd=cwd, code=2)
    (line,) = done.stderr.strip().splitlines()
    assert f"device '{device}' was asked for" in line and "--device cpu" in line


@pytest.fixture(scope="module", autouse=True)
def environment():
    if WHY.exists():
        pytest.skip(WHY.read_text().strip())
    if not PYTHON.exists():
        pytest.skip("there is no .venv/cupy: make .venv/.cupy")
    if "True" in run("-c", "import cupy; print(cupy.is_available())").stdout:
        pytest.skip("this machine has a GPU")


def test_doctor_says_what_there_is(tmp_path):
    driver = run("-c", "import cupy; print(cupy.cuda.runtime.driverGetVersion())")  # 0: none
    if driver.stdout.strip() != "0":
        pytest.skip("this machine has an NVIDIA driver; the test is about none")
    done = run("-m", "dcfnet_np", "doctor", cwd=tmp_path)
    assert "(cupy-cuda12x)" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("gpu")]
    assert line.endswith(f"none is used, everything runs on the CPU: {NO_DRIVER}")


FOLLOW = """
import json, sys
import numpy as np
import dcfnet_np
frames, box = np.load(sys.argv[1]), json.loads(sys.argv[2])
tracker = dcfnet_np.Tracker(device="auto")
tracker.init(frames[0], box)
boxes = [tracker.update(frame).box for frame in frames[1:]]
try:
    dcfnet_np.Tracker(device="cuda")
    refused = ""
except Exception as error:
    refused = f"{type(error).__name__}: {error}"
print(json.dumps([str(tracker.device), tracker.device.note, boxes, refused, dcfnet_np.__file__]))
"""


def test_tracking_falls_back_and_gives_the_same_boxes(tmp_path, rng):
    frames, box = make_frames(rng), PATCH
    np.save(tmp_path / "frames.npy", frames)
    done = run("-c", FOLLOW, tmp_path / "frames.npy", json.dumps(box), cwd=tmp_path)
    device, note, boxes, refused, file = json.loads(done.stdout)
    assert file.startswith(str(PYTHON.parent.parent))  # the installed one
    assert device == "cpu" and "CuPy is installed but" in note and "\n" not in note
    assert refused.startswith("DeviceError: device 'cuda' was asked for, but CuPy is installed but")
    tracker = Tracker(device="cpu")
    tracker.init(frames[0], box)
    np.testing.assert_array_equal(boxes, [tracker.update(frame).box for frame in frames[1:]])


def test_the_command_line_refuses_a_gpu_in_one_line(tmp_path, rng):
    write_images(tmp_path / "frames", make_frames(rng, 3))
    track = ("track", tmp_path / "frames", "--box", ",".join(map(str, PATCH)))
    run("-m", "dcfnet_np", *track, "--save-boxes", tmp_path / "boxes.csv", cwd=tmp_path)
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 4
    refused(*track, cwd=tmp_path, device="cuda")
    refused("gradcheck", cwd=tmp_path, device="cuda:1")


COMPILE = """
from cupy_backends.cuda.libs import nvrtc
from dcfnet_np import kernels
assert nvrtc.getVersion()[0] == 12, nvrtc.getVersion()
where = ("--gpu-architecture=compute_80", "--device-as-default-execution-space")
for file, names in kernels.expressions().items():
    program = nvrtc.createProgram(kernels.source(file), file, (), ())
    for name in names:
        nvrtc.addNameExpression(program, name)
    try:
        nvrtc.compileProgram(program, (*kernels.OPTIONS, *where))
    except Exception:
        raise SystemExit(nvrtc.getProgramLog(program))
    code = nvrtc.getPTX(program).decode()
    print(file, len(names), all(nvrtc.getLoweredName(program, name) in code for name in names))
"""


def test_cuda_12_compiles_every_kernel(tmp_path):
    """By CuPy's own way to the compiler; test_kernels_compile.py does it with the newest CUDA."""
    expected = [f"{file} {len(names)} True" for file, names in kernels.expressions().items()]
    assert run("-c", COMPILE, cwd=tmp_path).stdout.splitlines() == expected
