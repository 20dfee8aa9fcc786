"""OpenCV's interface against OpenCV's own tracker; bridges without their packages; the toolkits,
run by `make vot`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bridge_scenes import make_scene, tracked
from processes import PATIENCE, run_python

from dcfnet_np.adapters.got10k import _to_bgr
from dcfnet_np.adapters.opencv import OpenCVTracker
from dcfnet_np.vision.crop import to_bgr

ROOT = Path(__file__).parents[2]


def opencv_program(tracker, frames, box):
    """What a program written for OpenCV does with a tracker; keywords, and the box drawn as it
    comes.
    """
    assert tracker.init(image=frames[0], boundingBox=[int(value) for value in box]) is None
    boxes = []
    for frame in frames[1:]:
        ok, found = tracker.update(image=frame)
        assert type(ok) is bool and type(found) is tuple and {*map(type, found)} == {int}
        assert type(tracker.getTrackingScore()) is float
        cv2.rectangle(frame.copy(), found, (0, 255, 0))
        boxes.append(found)
    return np.array(boxes)


@pytest.mark.parametrize("tracker", [OpenCVTracker, cv2.TrackerMIL], ids=["ours", "opencv"])
def test_a_program_for_opencv_runs_with_ours(tracker):
    if not hasattr(tracker, "getTrackingScore"):
        pytest.skip(f"OpenCV {cv2.__version__} has no getTrackingScore")
    frames, truth = make_scene()
    boxes = opencv_program(tracker.create(), frames, truth[0])
    assert np.abs(boxes - truth[1:]).max() < 20


def test_opencv_boxes_are_the_trackers_rounded():
    frames, truth = make_scene()
    tracker = OpenCVTracker("light", "default", "cpu")
    boxes = opencv_program(tracker, frames, truth[0])
    exact = tracked(frames, truth[0])
    assert np.array_equal(boxes, np.rint(exact[1:]))
    assert np.array_equal(tracker.result.box, exact[-1])
    assert tracker.getTrackingScore() == tracker.result.score
    tracker.init(frames[0], truth[0])  # a new start forgets the last result
    assert tracker.result is None
    assert tracker.update(np.zeros_like(frames[0])) == (False, tuple(truth[0]))  # lost
    assert tracker.getTrackingScore() == 0


@pytest.mark.parametrize("make", [OpenCVTracker, OpenCVTracker.create])
def test_opencv_settings_reach_the_tracker(make):
    inner = make("conv1", "matlab-v1", "cpu")._tracker
    assert inner.weights.architecture == "conv1" and inner.preset.name == "matlab-v1"
    assert str(inner.device) == "cpu"


def test_opencv_bad_input():
    frames, truth = make_scene()
    tracker = OpenCVTracker.create(device="cpu")
    with pytest.raises(RuntimeError, match="call init"):
        tracker.update(frames[0])
    with pytest.raises(RuntimeError, match="call update"):
        tracker.getTrackingScore()
    for bad, kind in (("0001.jpg", "str"), (cv2.UMat(frames[0]), "UMat")):
        with pytest.raises(TypeError, match=f"frame must be a NumPy array, got {kind}"):
            tracker.init(bad, truth[0])
    tracker.init(frames[0], truth[0])
    with pytest.raises(ValueError, match="frame must be 336x192"):
        tracker.update(frames[0][:-1])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_gray_images_of_pil_are_not_cut_off(rng, dtype):
    """PIL itself turns all above 255 to white."""
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    gray = rng.integers(0, 2**16, (5, 7))
    image = images.fromarray((gray / 65535 if dtype == np.float32 else gray).astype(dtype))
    np.testing.assert_array_equal(to_bgr(_to_bgr(image)), np.dstack([np.rint(gray / 257)] * 3))


# --- bridges without their packages ---


def test_a_toolkit_that_is_absent():
    def without(package, statement):
        return run_python(f"import sys; sys.modules[{package!r}] = None\n{statement}")

    done = without("got10k", "from dcfnet_np.adapters.got10k import Got10kTracker; Got10kTracker()")
    text = "ImportError: Got10kTracker: the GOT-10k toolkit cannot be imported"
    assert done.stderr.splitlines()[-1].startswith(text)
    for arguments, text in (([], "pip install vot-trax==4.0.2"), (["--preset", "none"], "preset")):
        main = f"from dcfnet_np.adapters.trax import main; sys.exit(main({arguments}))"
        done = without("trax", main)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and text in done.stderr


# --- the toolkits themselves ---


def make(target):
    """`make TARGET` with this interpreter and without what an outer make or pytest left in the
    environment.
    """
    outer = ("MAKE", "MFLAGS", "PYTEST")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(outer)}
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", target]
    options = {"capture_output": True, "text": True, "timeout": PATIENCE}
    return subprocess.run(command, cwd=ROOT, env=environment, **options)


@pytest.mark.needs_toolkits
def test_toolkits_run_our_tracker():
    """test_bridges_got10k.py and test_bridges_trax.py in an environment that `make vot` sets up."""
    if not shutil.which("make"):
        pytest.skip("no make here, which sets up the toolkits' environment")
    # Without a network, or behind a slow one, there is no environment: no fault of the code, so the
    # test skips.
    try:
        setup = make("vot-environment")
    except subprocess.TimeoutExpired:
        pytest.skip(f"the toolkits were not installed in {PATIENCE // 60} minutes")
    if setup.returncode:
        output = setup.stdout + setup.stderr
        # pins that contradict each other are our fault
        assert "ResolutionImpossible" not in output, output
        lines = output.splitlines()
        line = ([line for line in lines if "ERROR" in line] or lines)[-1].strip()
        pytest.skip(f"the toolkits cannot be installed: {line}")
    done = make("vot")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout
