"""MatConvNet's files: every form of network, and what is whole but none."""

import numpy as np
import pytest
import scipy.io
from weight_files import assert_same, make, old_net, refused, write_net

from dcfnet_np import network
from dcfnet_np.ops.conv import conv2d_forward
from dcfnet_np.ops.lrn import lrn_forward
from dcfnet_np.ops.relu import relu_forward
from dcfnet_np.weights import import_weights, load_weights, save_weights


@pytest.mark.parametrize(
    ("architecture", "dilations"),
    [("conv1", (1, 1)), ("conv1-dilation", (1, 2)), ("light", (1, 1))],
)
def test_mat(tmp_path, architecture, dilations):
    expected = make(architecture).parameters
    write_net(tmp_path / "net.mat", expected, dilations, mean=(120, 119, 118))
    found = import_weights(tmp_path / "net.mat")
    assert_same(found.parameters, expected)
    assert (found.architecture, found.channel_order) == (architecture, "rgb")
    assert found.mean == (120.0, 119.0, 118.0)
    meta = {"interp_factor": 0.011, "arch": "DCFNet"}
    assert found.training == {"imported_from": "net.mat", "meta": meta}
    save_weights(tmp_path / "net.h5", found)  # its numbers fit into JSON
    assert load_weights(tmp_path / "net.h5").training == found.training


def test_networks_that_are_not_ours(tmp_path):
    path, light = tmp_path / "net.mat", make("light").parameters
    write_net(path, light, dilations=(1, 3))
    refused(path, r"3 to 32, 32 to 32, dilations \[1, 3\]")
    write_net(path, light | {"conv1.weight": np.zeros((96, 3, 3, 3), np.float32)})
    refused(path, "the network is not conv1 or .*: its convolutions are 3 to 96")
    write_net(path, light | {"conv2.bias": np.full(32, np.nan, np.float32)})
    refused(path, "conv2.bias holds NaN")
    for content in ({"something": np.eye(3)}, {"net": np.eye(3)}):
        scipy.io.savemat(path, content)
        refused(path, "no network: neither 'net' with its 'layers'")


EVEN = np.broadcast_to(np.float32([120, 119, 118]), (5, 7, 3)).copy()


def with_mean(image):
    return {"meta": {"normalization": {"averageImage": image}}}


@pytest.mark.parametrize(
    ("more", "mean"),
    [
        ({}, (123, 117, 104)),
        ({"meta": np.zeros((0, 0))}, (123, 117, 104)),
        ({"meta": {"normalization": {}}}, (123, 117, 104)),
        (with_mean(np.zeros((0, 0))), (123, 117, 104)),
        ({"normalization": {"averageImage": np.float32([[[1, 2, 3]]])}}, (1, 2, 3)),
        ({"meta": {"a": 1}, "normalization": {"averageImage": np.float32([[1, 2, 3]])}}, (1, 2, 3)),
        (with_mean(np.float32([[1], [2], [3]])), (1, 2, 3)),
        (with_mean(7.0), (7, 7, 7)),
        (with_mean(EVEN), (120, 119, 118)),
    ],
)
def test_mat_of_other_forms(tmp_path, more, mean):
    """Of the old form, with any way to have no mean, one grey level, or one even image."""
    net = old_net(make("conv1").parameters, **more)
    for content in ({"net": net}, net):
        scipy.io.savemat(tmp_path / "a.mat", content)
        found = import_weights(tmp_path / "a.mat")
        assert_same(found.parameters, make("conv1").parameters)
        assert (found.architecture, found.channel_order, found.mean) == ("conv1", "rgb", mean)
        assert found.training.get("meta", {}) == ({"a": 1} if "a" in more.get("meta", {}) else {})


def test_mat_without_a_bias(tmp_path):
    """MatConvNet takes an empty one for zeros."""
    expected = make("light").parameters
    net = old_net(expected)
    net["layers"][0, 2]["biases"] = np.zeros((0, 0))
    scipy.io.savemat(tmp_path / "a.mat", {"net": net})
    expected = expected | {"conv2.bias": np.zeros(32, np.float32)}
    assert_same(import_weights(tmp_path / "a.mat").parameters, expected)


def layer(number, **fields):
    def change(net):
        net["layers"][0, number] |= fields

    return change


def without(number, field):
    return lambda net: net["layers"][0, number].pop(field)


def mean_image(image):
    return lambda net: net.update(with_mean(image))


UNEVEN = EVEN + np.float32(0.01) * (np.arange(7) == 3)[:, None]
WHOLE = "whole, but no network as MatConvNet keeps it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (mean_image(UNEVEN), r"image differs from pixel to pixel.*averageImage = mean\(mean\("),
        (mean_image(EVEN[..., :2]), r"three channels, got shape \(5, 7, 2\)"),
        (mean_image(EVEN[0]), r"three channels, got shape \(7, 3\)"),
        (layer(0, stride=np.float64([[1, 2]])), "a conv layer has a stride or a leak"),
        (layer(1, leak=0.1), "a relu layer has a stride or a leak"),
        (layer(3, param=[5, 1, 1e-4, 0.75]), r"LRN constants must be \(5, 1.0, 2e-05, 0.75\)"),
        (layer(0, type="bnorm"), "32 to 32, dilations .1., layers .'bnorm', 'relu', 'conv'"),
        (without(3, "param"), f"{WHOLE}: 'param' is missing"),
        (without(2, "filters"), f"{WHOLE}: 'filters' is missing"),
        (without(1, "type"), f"{WHOLE}: 'type' is missing"),
        (layer(2, filters=3.0), f"{WHOLE}$"),
        (lambda net: net.update(layers=7.0), f"{WHOLE}$"),
        (
            lambda net: net.pop("layers"),
            "no network: neither 'net' with its 'layers' nor 'conv1_w'",
        ),
    ],
)
def test_mat_files_that_are_whole_but_no_network(tmp_path, change, message):
    """They are not called damaged: copying them again would not help."""
    net = old_net(make("light").parameters)
    change(net)
    scipy.io.savemat(tmp_path / "a.mat", {"net": net})
    assert "damaged" not in refused(tmp_path / "a.mat", message)


def test_golden_activations(data_dir):
    """The authors' activations of a 10x10 RGB image in [0, 1]: channel order, padding and LRN."""
    found = import_weights(data_dir / "weights" / "net_param.mat")
    golden = scipy.io.loadmat(data_dir / "weights" / "net_param.mat")["res"].ravel()
    x, *expected = [np.ascontiguousarray(a.transpose(2, 0, 1))[None] for a in golden]
    p = found.parameters
    assert x.shape == (1, 3, 10, 10) and len(expected) == 4

    conv1, _ = conv2d_forward(x, p["conv1.weight"], p["conv1.bias"], padding=1)
    relu1, _ = relu_forward(conv1)
    conv2, _ = conv2d_forward(relu1, p["conv2.weight"], p["conv2.bias"], padding=1)
    norm1, _ = lrn_forward(conv2, n=5, k=1.0, alpha=1e-4 / 5, beta=0.75)
    for ours, theirs in zip([conv1, relu1, conv2, norm1], expected):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    # The LRN changes these values by 1e-4 only: make sure that the comparison sees it.
    assert abs(expected[2] - expected[3]).max() > 5e-5

    np.testing.assert_allclose(network.features(x, p, "light"), expected[3], rtol=0, atol=1e-5)
    bgr = p | {"conv1.weight": np.ascontiguousarray(p["conv1.weight"][:, ::-1])}
    assert abs(network.features(x, bgr, "light") - expected[3]).max() > 0.1


@pytest.mark.parametrize("epoch", ["50", "20-vot"])
def test_released_paper_weights(data_dir, tmp_path, epoch):
    name = f"DCFNet-dataset-3-net-21-loss-1-epoch-{epoch}.mat"
    found = import_weights(data_dir / "weights" / name)
    assert (found.architecture, found.channel_order) == ("conv1", "rgb")
    assert found.mean == (123.0, 117.0, 104.0)
    save_weights(tmp_path / "paper.h5", found)
    assert_same(load_weights(tmp_path / "paper.h5").parameters, found.parameters)
