"""The TraX server answers a TraX client, and the VOT toolkit runs it.  Needs both: `make vot`."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scenes
from bridge_scenes import HEIGHT, LENGTH, WIDTH, make_scene, tracked
from processes import PATIENCE

trax = pytest.importorskip("trax", reason="runs in the toolkits' environment: make vot")
pytest.importorskip("vot", reason="runs in the toolkits' environment: make vot")
from trax.client import Client  # noqa: E402

ROOT = Path(__file__).parents[2]
SERVER = [sys.executable, "-m", "dcfnet_np.adapters.trax"]


class Session:
    """A server in a process of its own and a client connected to it."""

    def __enter__(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*SERVER, "--device", "cpu"], stdin=pipe, stdout=pipe, stderr=pipe
        )
        self.log = []  # what goes over the pipes; vot-trax 4.0.2 needs a place for it
        self.client = Client(
            (self.process.stdin.fileno(), self.process.stdout.fileno()), log=self.log.append
        )
        return self

    def __exit__(self, *error):
        # else vot-trax logs the end through a callback that is gone, and crashes
        self.client.quit()
        code = self.process.wait(timeout=PATIENCE)
        self.ended = code, self.process.stderr.read().decode()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def initialize(self, image, region):
        return self._box(self.client.initialize({"color": image}, [(region, {})], {}))

    def frame(self, image):
        return self._box(self.client.frame({"color": image}, objects=[]))

    @staticmethod
    def _box(reply):
        ((region, properties),), _ = reply
        assert 0 < float(properties["confidence"]) <= 1.5
        return region.bounds()


def rectangle(box):
    return trax.Rectangle.create(*box)


def as_path(frame, folder):
    path = folder / f"{len(list(folder.iterdir()))}.png"
    assert cv2.imwrite(str(path), frame)
    return trax.FileImage.create(str(path))


def as_bytes(frame, folder=None):
    return trax.BufferImage.create(cv2.imencode(".png", frame)[1].tobytes())


@pytest.mark.parametrize("image", [as_path, as_bytes])
def test_boxes_are_those_of_the_tracker(image, tmp_path):
    frames, truth = make_scene()
    with Session() as session:
        boxes = [session.initialize(image(frames[0], tmp_path), rectangle(truth[0]))]
        boxes += [session.frame(image(frame, tmp_path)) for frame in frames[1:]]
    assert session.ended == (0, "")
    # the protocol writes four decimals
    assert np.abs(np.array(boxes) - tracked(frames, truth[0])).max() < 1e-3


def test_polygons_and_masks_arrive_as_their_bounding_box():
    frames, truth = make_scene()
    image = as_bytes(frames[0])
    x, y, w, h = truth[0]
    diamond = [(x, y + h / 3), (x + w / 4, y), (x + w, y + h / 2), (x + w / 2, y + h)]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[int(y) : int(y + h), int(x) : int(x + w)] = 1
    with Session() as session:
        assert session.initialize(image, trax.Polygon.create(diamond)) == (x, y, w, h)
        assert session.initialize(image, trax.Mask.create(mask)) == (x, y, w, h)


BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("case", ["no initialize", "empty file", "text", "no file", "box outside"])
def test_what_ends_a_session(case, tmp_path):
    """In one line, which the client is told too."""
    path = tmp_path / "frame.jpg"
    path.write_bytes(b"text" if case == "text" else b"")
    if case == "no file":
        path.unlink()
    image = as_bytes(BLACK) if case == "box outside" else trax.FileImage.create(str(path))
    box = (-90, 0, 9, 9) if case == "box outside" else (1, 1, 9, 9)
    reason = {
        "no initialize": "Tracker.update: call init(frame, box) first",
        "no file": "No such file",
        "box outside": "must overlap the frame",
    }.get(case, f"{path} does not decode as an image")
    with Session() as session, pytest.raises(trax.TraxException) as failure:
        if case == "no initialize":
            session.frame(as_bytes(BLACK))
        session.initialize(image, rectangle(box))
    code, text = session.ended
    assert code == 1 and text.count("\n") == 1 and text.startswith("dcfnet trax: error: ")
    assert reason in text
    if case != "no initialize":
        assert reason in str(failure.value)


def test_without_a_client():
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(SERVER, timeout=PATIENCE, **options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "TraX client" in done.stderr


# --- the VOT toolkit's own program ---

STACK = """\
title: Made-up sequences
experiments:
  baseline:
    type: supervised
    skip_initialize: 5
    analyses:
      - {type: supervised_average_ar, burnin: 0}
      - {type: supervised_eao_score, low: 4, high: 8}
  multistart:
    type: multistart
    analyses:
      - {type: multistart_average_ar, burnin: 0}
  unsupervised:
    type: unsupervised
    analyses:
      - {type: average_accuracy, burnin: 0}
"""
TOOLKIT = importlib.metadata.version("vot-toolkit")


def vot(*arguments, cwd):
    """The output of `vot`, run with our `python` on its PATH.

    It exits with 0 even when a tracker fails.
    """
    bin_folder = Path(sys.executable).parent
    path = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "TMPDIR": str(cwd), "VOT_RESULTS_BINARY": "0"}
    command = [bin_folder / "vot", *arguments]
    options = {"capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(command, cwd=cwd, env=environment, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def workspace(tmp_path):
    shutil.copy(ROOT / "examples/trackers.ini", tmp_path)
    return tmp_path


@pytest.mark.skipif(
    not TOOLKIT.startswith("0.7."),
    reason=f"the supervised experiment of vot-toolkit {TOOLKIT} fails with any tracker",
)
def test_vot_experiments(workspace):
    for name, jump in (("steady", None), ("jump", 3)):
        frames, truth = make_scene(jump)
        folder = workspace / "sequences" / name
        scenes.write_images(folder / "color", frames, "{:08d}.jpg")
        np.savetxt(folder / "groundtruth.txt", truth, fmt="%.2f", delimiter=",")
        (folder / "sequence").write_text("fps=30\nformat=default\nchannels.color=color/%08d.jpg\n")
        # one run forwards from the first frame, one backwards from the last
        anchors = {0: 1, LENGTH - 1: -1}
        (folder / "anchor.value").write_text(
            "".join(f"{anchors.get(i, 0)}\n" for i in range(LENGTH))
        )
    (workspace / "sequences/list.txt").write_text("steady\njump\n")
    (workspace / "stack.yaml").write_text(STACK)
    (workspace / "config.yaml").write_text("stack: ./stack.yaml\nregistry: [./trackers.ini]\n")

    output = vot("evaluate", "DCFNet", cwd=workspace)
    assert "concluded" in output, output
    folder = workspace / "results/DCFNet"
    lines = (folder / "unsupervised/steady/steady_001.txt").read_text().split()
    decoded = [
        cv2.imread(str(file)) for file in sorted((workspace / "sequences/steady/color").iterdir())
    ]
    # the first line says that the tracker was initialised there
    boxes = np.loadtxt(lines[1:], delimiter=",")
    assert np.abs(boxes - tracked(decoded, truth[0])[1:]).max() < 1e-3
    lines = (folder / "baseline/jump/jump_001.txt").read_text().split()
    # 1: initialised; 2: failed, in the frame of the jump; 0: skipped; b: a box
    assert "".join("b" if "," in line else line for line in lines) == "1bb200001bbb"

    vot("analysis", "DCFNet", "--name", "report", cwd=workspace)
    experiments = json.loads((workspace / "analysis/report.json").read_text())["results"]
    [[(accuracy, failures, *_)], [[expected_overlap]]] = experiments["baseline"]["results"]
    assert accuracy > 0.75 and failures == 0.5  # one failure in two sequences
    assert 0 < expected_overlap < 1
    assert experiments["multistart"]["results"] and experiments["unsupervised"]["results"]
