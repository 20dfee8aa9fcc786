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
from processes import PATIENCE

from dcfnet_np.adapters.got10k import _to_bgr
from dcfnet_np.adapters.opencv import OpenCVTracker
from dcfnet_np.vision.crop import to_bgr

ROOT = Path(__file__).parent.parent


def opencv_program(tracker, frames, box):
    """What a program written for OpenCV does with a tracker; keywords, and the box drawn as it
    comes.
    """
    assert tracker.init(image=frames[0], boundingBox=[int(value) for value in box]) is None
    boxes = []
    for frame in frames[1:]:
        ok, found = tracker.update(image=frame)
        assert (
            type(ok) is bool and type(found) is tuple and all(type(value) is int for value in found)
        )
        assert type(tracker.getTrackingScore()) is float
        cv2.rectangle(frame.copy(), found, (0, 255, 0))
        boxes.append(found)
    return np.array(boxes)


@pytest.mark.parametrize("tracker", [OpenCVTracker, cv2.TrackerMIL], ids=["ours", "opencv"])
def test_a_program_for_opencv_runs_with_ours(tracker):
    if tracker is cv2.TrackerMIL and not hasattr(tracker, "getTrackingScore"):
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


def test_opencv_target_is_lost_in_a_black_frame():
    frames, truth = make_scene()
    tracker = OpenCVTracker.create(device="cpu")
    tracker.init(frames[0], truth[0])
    assert tracker.update(np.zeros_like(frames[0])) == (False, tuple(truth[0]))
    assert tracker.getTrackingScore() == 0


def test_opencv_settings_reach_the_tracker():
    """And a new start forgets the last result."""
    frames, truth = make_scene()
    for tracker in (
        OpenCVTracker("conv1", "matlab-v1", "cpu"),
        OpenCVTracker.create("conv1", "matlab-v1", "cpu"),
    ):
        inner = tracker._tracker
        assert (inner.weights.architecture, inner.preset.name, str(inner.device)) == (
            "conv1",
            "matlab-v1",
            "cpu",
        )
    tracker.init(frames[0], truth[0])
    tracker.update(frames[1])
    assert tracker.result.ok and tracker.getTrackingScore() > 0.1
    tracker.init(frames[0], truth[0])
    assert tracker.result is None


def test_opencv_bad_input():
    frames, truth = make_scene()
    tracker = OpenCVTracker.create(device="cpu")
    with pytest.raises(RuntimeError, match="call init"):
        tracker.update(frames[0])
    with pytest.raises(RuntimeError, match="call update"):
        tracker.getTrackingScore()
    with pytest.raises(TypeError, match="frame must be a NumPy array, got str"):
        tracker.init("0001.jpg", truth[0])
    with pytest.raises(TypeError, match="frame must be a NumPy array, got UMat"):
        tracker.init(cv2.UMat(frames[0]), truth[0])
    with pytest.raises(ValueError, match="box must be four numbers"):
        tracker.init(frames[0], (1, 2, 3))
    tracker.init(frames[0], truth[0])
    with pytest.raises(ValueError, match="frame must be 336x192"):
        tracker.update(frames[0][:-1])


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("RGB to BGR", lambda frame, folder: frame[:, :, ::-1].copy()[:, :, ::-1]),
        (
            "part of a larger picture",
            lambda frame, folder: np.pad(frame, ((9, 9), (5, 5), (0, 0)))[9:-9, 5:-5],
        ),
        (
            "bytes of somebody else",
            lambda frame, folder: np.frombuffer(frame.tobytes(), np.uint8).reshape(frame.shape),
        ),
        ("DLPack", lambda frame, folder: np.from_dlpack(frame)),
        ("memory-mapped file", lambda frame, folder: mapped(frame, folder)),
    ],
)
def test_frames_are_taken_without_a_copy(kind, frame, tmp_path):
    from dcfnet_np.vision.crop import to_bgr

    frames, truth = make_scene()
    views = [frame(picture, tmp_path) for picture in frames[:3]]
    assert np.shares_memory(to_bgr(views[0]), views[0])
    assert np.array_equal(tracked(views, truth[0]), tracked(frames[:3], truth[0]))
    assert np.array_equal(views, frames[:3])  # and none is written to


def mapped(frame, folder):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, frame)
    return np.load(path, mmap_mode="r")


# --- bridges without their packages ---


def without(package, statement):
    script = f"import sys; sys.modules[{package!r}] = None\n{statement}"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )


def test_got10k_is_absent():
    done = without("got10k", "from dcfnet_np.adapters.got10k import Got10kTracker; Got10kTracker()")
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: Got10kTracker: the GOT-10k toolkit cannot be imported"
    )


def test_trax_is_absent():
    done = without("trax", "from dcfnet_np.adapters.trax import main; sys.exit(main([]))")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install vot-trax==4.0.2" in done.stderr


def test_trax_arguments():
    command = [sys.executable, "-m", "dcfnet_np.adapters.trax", "--preset", "none"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "preset" in done.stderr


# --- the toolkits themselves ---


def make(target):
    """`make TARGET` with this interpreter and without what an outer make or pytest left in the
    environment.
    """
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTEST"))
    }
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", target]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.needs_toolkits
def test_toolkits_run_our_tracker():
    """tests/test_bridges_got10k.py and tests/test_bridges_trax.py in an environment that `make vot`
    sets up.
    """
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
        pytest.skip(
            f"the toolkits cannot be installed: {([x for x in lines if 'ERROR' in x] or lines)[-1].strip()}"
        )
    done = make("vot")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_gray_images_of_pil_are_not_cut_off(rng, dtype):
    """PIL itself turns all above 255 to white."""
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    gray = rng.integers(0, 2**16, (5, 7))
    image = images.fromarray((gray / 65535 if dtype == np.float32 else gray).astype(dtype))
    np.testing.assert_array_equal(to_bgr(_to_bgr(image)), np.dstack([np.rint(gray / 257)] * 3))
