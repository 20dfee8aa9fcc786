"""The whole step by kernels alone against the NumPy tracker, on the CPU stand-in and on a GPU."""

import dataclasses

import numpy as np
import pytest
from kernel_device import full_size_device, on_gpu  # noqa: F401

from dcfnet_np import backend, network
from dcfnet_np.device_tracker import DeviceStep
from dcfnet_np.presets import PRESETS
from dcfnet_np.tracker import Tracker
from dcfnet_np.weights import Weights

SIZE = 31  # of the network's input: every kernel needs more than one block, or a part of one


def sequence(rng, frames=4, shape=(72, 96)):
    """A textured patch that moves and grows over a smooth background; returns frames and the first box."""
    import cv2

    background = cv2.resize(rng.integers(60, 160, (6, 8, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
    texture = rng.integers(0, 256, (9, 11, 3), np.uint8)
    images = []
    for t in range(frames):
        image = background.copy()
        w, h = 22 + 2 * t, 18 + 2 * t
        x, y = 30 + 3 * t, 24 + 2 * t
        image[y : y + h, x : x + w] = cv2.resize(texture, (w, h), interpolation=cv2.INTER_LINEAR)
        images.append(image)
    return images, (30.0, 24.0, 22.0, 18.0)


def make_weights(architecture="light", channel_order="bgr"):
    return Weights(architecture, network.initialise(architecture, seed=3), channel_order=channel_order)


def make_preset(name):
    return dataclasses.replace(PRESETS[name], input_size=SIZE)


def follow(step, images, boxes):
    step.start(images[0], boxes)
    return np.array([step.step(image).copy() for image in images[1:]])


@pytest.mark.parametrize("name", ["default", "paper", "matlab-v1"])
def test_same_boxes_as_the_tracker(full_size_device, rng, name):  # noqa: F811
    images, box = sequence(rng)
    weights, preset = make_weights(channel_order="rgb" if name == "paper" else "bgr"), make_preset(name)
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(images[0], box)
    want = [tracker.update(image) for image in images[1:]]
    assert want[-1].scale != 1 and abs(want[-1].box[0] - box[0]) > 3  # it moved and it grew
    got = follow(DeviceStep(weights, preset, images[0].shape, graph=graphs()), images, [box])[:, 0]
    np.testing.assert_allclose(got[:, :4], [r.box for r in want], rtol=1e-12)
    assert got[:, 4].all()
    np.testing.assert_allclose(got[:, 5], [r.score for r in want], rtol=1e-4)
    np.testing.assert_allclose(got[:, 6], [r.psr for r in want], rtol=1e-3)


def graphs():
    """Can steps be captured here?  On the stand-in there is nothing to capture."""
    return hasattr(backend.cupy().cuda, "Graph")


def test_targets_are_independent(full_size_device, rng):  # noqa: F811
    """Three at once, one of them late and one never started, as each alone; a lost one stays and the others go on."""
    images, box = sequence(rng)
    other = (50.0, 40.0, 20.0, 25.0)
    weights, preset = make_weights(), make_preset("default")
    alone = [
        follow(DeviceStep(weights, preset, images[0].shape, graph=graphs()), images, [b])[:, 0] for b in (box, other)
    ]
    together = DeviceStep(weights, preset, images[0].shape, targets=3, graph=graphs())
    nan = [np.nan] * 4
    together.start(images[0], [nan, nan, box])
    together.start(images[0], [other, nan, nan])
    got = []
    for image in images[1:]:
        together.frame[...] = image  # straight into page-locked memory
        got.append(together.step().copy())
    got = np.array(got)
    assert (got[:, 2] == alone[0]).all()
    assert (got[:, 0] == alone[1]).all()
    assert not got[:, 1].any()

    black = np.zeros_like(images[0])
    lost = DeviceStep(weights, preset, images[0].shape, graph=graphs())
    lost.start(images[0], [box])
    lost._gain_f[...] = np.nan
    backend.cupy().cuda.Device().synchronize()
    result = lost.step(black)[0]
    assert result[4] == 0 and tuple(result[:4]) == box


@pytest.mark.gpu
def test_graph_launches_and_device_frames_agree(rng):
    to_gpu = on_gpu()
    images, box = sequence(rng, frames=6)
    weights, preset, shape = make_weights(), make_preset("default"), images[0].shape
    launches = follow(DeviceStep(weights, preset, shape, graph=False), images, [box])
    graph = DeviceStep(weights, preset, shape, graph=True)
    assert (follow(graph, images, [box]) == launches).all()
    assert graph._graph is not None
    assert (follow(graph, [to_gpu(image) for image in images], [box]) == launches).all()


@pytest.mark.parametrize("architecture", ["conv1-dilation", "conv2"])
def test_other_networks_in_float64(full_size_device, rng, architecture):  # noqa: F811
    images, box = sequence(rng, frames=2)
    parameters = network.initialise(architecture, seed=3)
    weights, preset = Weights(architecture, parameters), make_preset("default")
    tracker = Tracker(weights, preset, device="cpu")
    tracker.init(images[0], box)
    want = tracker.update(images[1])
    step = DeviceStep(weights, preset, images[0].shape, dtype=np.float64, graph=graphs())
    got = follow(step, images, [box])[0, 0]
    np.testing.assert_allclose(got[:4], want.box, rtol=1e-12)
    assert got[5] == pytest.approx(want.score, rel=1e-4)


def test_errors(full_size_device, rng):  # noqa: F811
    weights, preset = make_weights(), make_preset("default")
    step = DeviceStep(weights, preset, (40, 50), targets=2, graph=False)
    with pytest.raises(ValueError, match=r"boxes must be \(2, 4\), got \(4,\)"):
        step.start(np.zeros((40, 50, 3), np.uint8), (1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"the frame must be \(40, 50, 3\) uint8, got \(50, 40, 3\)"):
        step.step(np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="target"):
        DeviceStep(weights, preset, (40, 50), targets=0)
