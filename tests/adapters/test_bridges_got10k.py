"""The GOT-10k toolkit's experiments run our tracker.  Needs the toolkit: `make vot`."""

import os

import numpy as np
import pytest
import scenes
from bridge_scenes import HEIGHT, WIDTH, make_scene, tracked

os.environ.setdefault("MPLBACKEND", "Agg")
pytest.importorskip("got10k", reason="runs in the toolkits' environment: make vot")

from got10k.experiments import ExperimentGOT10k
from PIL import Image

from dcfnet_np.adapters.got10k import Got10kTracker
from dcfnet_np.vision.boxes import OTB_ORIGIN, iou


def write_boxes(path, boxes):
    np.savetxt(path, boxes, fmt="%.4f", delimiter=",")


def decoded(folder):
    """The frames of a folder as the toolkit reads them, BGR."""
    return [
        np.asarray(Image.open(file).convert("RGB"))[:, :, ::-1]
        for file in sorted(folder.glob("*.jpg"))
    ]


def test_got10k_experiment(tmp_path):
    frames, truth = make_scene()
    folder = tmp_path / "data/val/GOT-10k_Val_000001"
    scenes.write_images(folder, frames, "{:08d}.jpg")
    (folder.parent / "list.txt").write_text(folder.name)
    write_boxes(folder / "groundtruth.txt", truth + OTB_ORIGIN)
    (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: ({WIDTH}, {HEIGHT})\n")
    for label, value in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
        np.savetxt(folder / f"{label}.label", np.full(len(frames), value), fmt="%d")

    experiment = ExperimentGOT10k(
        tmp_path / "data", "val", tmp_path / "results", tmp_path / "reports"
    )
    experiment.run(Got10kTracker(device="cpu"))
    performance = experiment.report(["DCFNet"])["DCFNet"]

    written = list((tmp_path / "results/GOT-10k/DCFNet").rglob("*_00?.txt"))
    assert len(written) == 1  # a deterministic tracker is not run three times
    boxes = np.loadtxt(written[0], delimiter=",") - OTB_ORIGIN
    # the file has three decimals
    assert np.abs(boxes - tracked(decoded(folder), truth[0])).max() < 1e-3
    assert performance["overall"]["ao"] == pytest.approx(iou(boxes, truth)[1:].mean(), abs=1e-6)
    assert performance["overall"]["ao"] > 0.8


def test_origin_0_leaves_boxes_as_they_are():
    frames, truth = make_scene()
    images = [Image.fromarray(frame[:, :, ::-1]) for frame in frames[:3]]
    tracker = Got10kTracker(origin=0, device="cpu")
    tracker.init(images[0], truth[0])
    boxes = [tracker.update(image) for image in images[1:]]
    assert np.array_equal(boxes, tracked(frames[:3], truth[0])[1:])


@pytest.mark.parametrize("bad", ["0001.jpg", np.zeros((8, 8, 3), np.uint8), None])
def test_an_image_of_another_kind(bad):
    tracker = Got10kTracker(device="cpu")
    with pytest.raises(TypeError, match=r"^Got10kTracker: image must be a PIL image, got \w+$"):
        tracker.init(bad, (1, 1, 4, 4))


def test_update_before_init():
    with pytest.raises(RuntimeError, match="call init"):
        Got10kTracker(device="cpu").update(Image.new("RGB", (WIDTH, HEIGHT)))
