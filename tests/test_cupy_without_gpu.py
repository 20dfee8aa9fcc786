"""`pip install .[gpu12]` on a machine without a GPU leaves everything working: with CuPy really
installed.

The environment is .venv/cupy, which `make test` makes (see cupy_environment.py).
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


def run(*arguments, cwd=None):
    command = [str(PYTHON), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)


@pytest.fixture(scope="module", autouse=True)
def environment():
    if WHY.exists():
        pytest.skip(WHY.read_text().strip())
    if not PYTHON.exists():
        pytest.skip("there is no .venv/cupy: make .venv/.cupy")
    done = run("-c", "import cupy; print(cupy.is_available())")
    assert done.returncode == 0, done.stderr
    if "True" in done.stdout:
        pytest.skip("this machine has a GPU")


def one_line_of_error(done, *words):
    """The command said no in one line, and that these words."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), done.stderr


def test_doctor_says_what_there_is(tmp_path):
    driver = run("-c", "import cupy; print(cupy.cuda.runtime.driverGetVersion())")  # 0: none
    assert driver.returncode == 0, driver.stderr
    if driver.stdout.strip() != "0":
        pytest.skip("this machine has an NVIDIA driver; the test is about none")
    done = run("-m", "dcfnet_np", "doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
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
    assert done.returncode == 0, done.stderr
    device, note, boxes, refused, file = json.loads(done.stdout)
    assert file.startswith(str(PYTHON.parent.parent))  # the installed one
    assert device == "cpu" and "CuPy is installed but" in note and "\n" not in note
    assert refused.startswith("DeviceError: device 'cuda' was asked for, but CuPy is installed but")
    tracker = Tracker(device="cpu")
    tracker.init(frames[0], box)
    np.testing.assert_array_equal(boxes, [tracker.update(frame).box for frame in frames[1:]])


def test_the_command_line_refuses_a_gpu_in_one_line(tmp_path, rng):
    write_images(tmp_path / "frames", make_frames(rng, 3))
    track = ("-m", "dcfnet_np", "track", tmp_path / "frames", "--box", ",".join(map(str, PATCH)))
    done = run(*track, "--save-boxes", tmp_path / "boxes.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 4
    one_line_of_error(
        run(*track, "--device", "cuda", cwd=tmp_path), "device 'cuda' was asked for", "--device cpu"
    )
    one_line_of_error(
        run("-m", "dcfnet_np", "gradcheck", "--device", "cuda:1", cwd=tmp_path),
        "device 'cuda:1' was asked for",
    )


def test_gradients_are_checked(tmp_path):
    script = (
        "from dcfnet_np import gradcheck as g; rows = g.run_all('auto', ['conv', 'lrn', 'dcf']); "
    )
    done = run("-c", script + "print(len(rows), all(row.ok for row in rows))", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 5 and done.stdout.split()[1] == "True"


def test_training_works(tmp_path):
    from training import write_crops

    write_crops(tmp_path)
    command = (
        "-m",
        "dcfnet_np",
        "train",
        tmp_path / "crops.h5",
        "--epochs",
        "1",
        "--pairs-per-epoch",
        "0",
        "--out",
    )
    one_line_of_error(
        run(*command, tmp_path / "a", "--device", "cuda", cwd=tmp_path),
        "device 'cuda' was asked for",
    )
    done = run(*command, tmp_path / "a", "--device", "auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "weights.h5").exists()


NCCL = """
import warnings
import cupy
from dcfnet_np import backend
warnings.simplefilter("ignore")
backend._load_cupy = lambda: (cupy, 1, "")
try:
    print(callable(backend.nccl().get_unique_id))
except backend.DeviceError as error:
    print(str(error).startswith("NCCL"))
"""


def test_nccl_is_found_or_missed(tmp_path):
    """CuPy imports it by name only: `cupy.cuda.nccl` alone is an AttributeError (CuPy issue 8710)."""
    done = run("-c", NCCL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


COMPILE = """
from cupy_backends.cuda.libs import nvrtc
from dcfnet_np import kernels
assert nvrtc.getVersion()[0] == 12, nvrtc.getVersion()
for file, names in kernels.expressions().items():
    program = nvrtc.createProgram(kernels.source(file), file, (), ())
    for name in names:
        nvrtc.addNameExpression(program, name)
    options = (*kernels.OPTIONS, "--gpu-architecture=compute_80", "--device-as-default-execution-space")
    try:
        nvrtc.compileProgram(program, options)
    except Exception:
        raise SystemExit(nvrtc.getProgramLog(program))
    code = nvrtc.getPTX(program).decode()
    print(file, len(names), all(nvrtc.getLoweredName(program, name) in code for name in names))
"""


def test_cuda_12_compiles_every_kernel(tmp_path):
    """By CuPy's own way to the compiler; test_kernels_compile.py does it with the newest CUDA."""
    done = run("-c", COMPILE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        f"{file} {len(names)} True" for file, names in kernels.expressions().items()
    ]
