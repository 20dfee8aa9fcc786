"""The fast features are the plain ones'."""

import copy

import naive
import numpy as np
import pytest

from dcfnet_np import network
from dcfnet_np.backend import Device
from dcfnet_np.fast.features import FastFeatures
from dcfnet_np.fast.strip import BandDft, Strip, make_kernels, supports
from dcfnet_np.ops.fourier import make_band, rfft2
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.tracker import choose_step
from dcfnet_np.tracking.features import NetworkMaps, PlainFeatures, choose_band, is_flat
from dcfnet_np.vision.windows import hann
from dcfnet_np.weights import Weights

CPU = Device("cpu")
SMALL = Preset("small", input_size=63)
WINDOWS = np.array([[61.3, 48.9], [70.1, 55.5], [90.0, 40.2]])


def biased_weights(architecture, order="bgr"):
    parameters = network.initialise(architecture, seed=3)
    for name, value in parameters.items():
        if name.endswith("bias"):
            value += np.linspace(-20, 30, len(value), dtype=np.float32)
    return Weights(architecture, parameters, order)


def fast_and_plain(architecture, preset, order="bgr"):
    weights, band = biased_weights(architecture, order), choose_band(preset, CPU)
    plain = PlainFeatures(NetworkMaps(weights, CPU), preset, band, CPU)
    return FastFeatures(weights, preset, band, most=3), plain


@pytest.fixture
def frame(rng):
    return rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)


def assert_same(got, expected):
    np.testing.assert_array_equal(got.extremes, expected.extremes)
    largest = abs(expected.spectra).max()
    np.testing.assert_allclose(got.spectra, expected.spectra, atol=1e-6 * largest)


@pytest.mark.parametrize("architecture", ["light", "conv1", "conv2"])
@pytest.mark.parametrize("size", [125, 63, 62, 64])
def test_spectra_are_those_of_whole_patches(frame, architecture, size):
    preset = Preset("small", input_size=size, sigma_factor=0.1 * 125 / size)
    fast, plain = fast_and_plain(architecture, preset)
    for windows in (WINDOWS, WINDOWS[:1]):
        assert_same(fast(frame, (40.2, 30.7), windows), plain(frame, (40.2, 30.7), windows))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_presets_and_channel_orders(frame, name, order):
    fast, plain = fast_and_plain("light", PRESETS[name], order)
    assert_same(fast(frame, (95.0, 5.0), WINDOWS), plain(frame, (95.0, 5.0), WINDOWS))
    patches = plain.crop(frame, np.array([75.3, 52]), WINDOWS)
    assert (patches == np.rint(patches)).all() == PRESETS[name].rounded_crop


def test_every_patch_has_a_place_and_a_size_of_its_own(frame):
    """A batch of windows around several centres is each of them alone, extremes too."""
    centres = np.array([(40.2, 30.7), (100.0, 2.0), (71.5, 60.25)])
    for features in fast_and_plain("light", SMALL):
        together = copy.deepcopy(features(frame, centres, WINDOWS))
        for i in range(3):
            alone = features(frame, centres[i], WINDOWS[i : i + 1])
            assert_same(alone, type(alone)(*(part[i : i + 1] for part in together)))


PLACES = {
    "inside": ((50, 40), (50, 40)),
    "left": ((3, 40), (5, 40)),
    "right below": ((108.5, 88), (105, 86)),
    "larger than the frame": ((55, 45), (55, 45)),
}


@pytest.mark.parametrize("size", [1.0, 3.0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (250, 20, 90)])
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_a_window_of_one_colour_is_flat(place, colour, size, order):
    """The black outside is no content, and one pixel of another colour is."""
    centre, (x, y) = PLACES[place]
    windows = WINDOWS / 2 * (4 if place.startswith("larger") else size)
    for features in fast_and_plain("light", SMALL, order):
        frame = np.full((90, 110, 3), colour, np.uint8)
        assert is_flat(features(frame, centre, windows).extremes)
        frame[y - 2 : y + 3, x - 2 : x + 3, 1] ^= 1  # one grey level of one channel
        assert not is_flat(features(frame, centre, windows).extremes)


def test_a_window_outside_the_frame_is_flat(frame):
    for features in fast_and_plain("light", SMALL):
        outside = features(frame, (-100.0, 40.0), WINDOWS).extremes
        assert (outside == [np.inf, 0]).all() and is_flat(outside)
        both = np.array([(-100.0, 40.0), (50.0, 40.0)])
        assert not is_flat(features(frame, both, WINDOWS[:2]).extremes)


@pytest.mark.parametrize("size", [31, 32])
def test_extremes_are_those_of_the_pixels_inside(rng, size):
    """Pixel by pixel; windows across every side, one larger than the frame."""
    frame = rng.integers(60, 256, (23, 31, 3), dtype=np.uint8)
    centres = np.array([(2.3, 1.6), (28.7, 21.4), (15.5, 11.2)])
    windows = np.array([[17.3, 9.9], [11.0, 14.0], [70.3, 50.1]])
    preset = Preset("small", input_size=size, sigma_factor=0.25, rounded_crop=False)
    expected = np.tile([np.inf, 0.0], (3, 3, 1))
    for centre, window, extremes in zip(centres, windows, expected):
        patch = naive.crop(frame, centre, window, size)
        for i, j in np.ndindex(size, size):
            x, y = centre - window / 2 + np.array([j, i]) * window / (size - 1)
            if 0 <= x <= 30 and 0 <= y <= 22:
                extremes[:, 0] = np.minimum(extremes[:, 0], patch[:, i, j])
                extremes[:, 1] = np.maximum(extremes[:, 1], patch[:, i, j])
    assert (expected[..., 0] >= 60).all()  # nothing of the black outside
    for features in fast_and_plain("light", preset):
        got = features(frame, centres, windows).extremes
        np.testing.assert_allclose(got, expected, atol=1e-4)


def chain(*channels, dilation=1):
    """Convolutions from 3 channels to each of these in turn, ReLU between them, LRN at the end."""
    convolutions = [network.Conv(a, b, dilation) for a, b in zip((3, *channels), channels)]
    between = [layer for convolution in convolutions for layer in (convolution, network.Relu())]
    return (*between[:-1], network.Lrn(n=3, k=1.5, alpha=0.01, beta=0.6))


@pytest.mark.parametrize(
    "channels", [(4, 5), (2, 40), (40, 2), (6, 3, 17), (3, 1, 1, 30), (1, 1), (9,), (1,)]
)
@pytest.mark.parametrize("backward", [False, True])
def test_what_is_supported_works(rng, channels, backward):
    """However wide the layers are; what is not supported is refused."""
    architecture, size = chain(*channels), 37
    dft = BandDft(make_band((size, size), (9, 11)), (size, size), (np.hanning(size),) * 2)
    if len(channels) == 1:
        assert not supports(architecture)
        with pytest.raises(ValueError, match="is no architecture that `supports` takes"):
            Strip(architecture, dft, (size, size), backward=backward)
        return
    parameters = network.initialise(architecture, 3)
    strip = Strip(architecture, dft, (size, size), backward=backward)
    image = rng.uniform(-120, 120, (1, 3, size, size)).astype(np.float32)
    got = np.empty((channels[-1], *dft.band.spectrum_shape), np.complex64)
    kernels = make_kernels(parameters, architecture)
    for _ in range(2):  # in memory that was used
        strip.forward(image[0].transpose(1, 0, 2), np.zeros((3, 1), np.float32), kernels, got)
    features = network.features(image, parameters, architecture) * hann((size, size))
    want = rfft2(features, dft.band)[0]
    np.testing.assert_allclose(got, want, atol=1e-5 * abs(want).max())


def test_what_is_not_supported():
    light = network.get_architecture("light")
    doubled = light[:3] + light[2:]
    for architecture in (light[:-1], light[2:], doubled, (*light, *light), ()):
        assert not supports(architecture)
    assert not supports(chain(4, 5, dilation=2)) and not supports("conv1-dilation")


@pytest.mark.parametrize(
    "architecture, band, kind",
    [
        ("light", "auto", FastFeatures),
        ("light", None, PlainFeatures),
        ("conv1-dilation", "auto", PlainFeatures),
    ],
)
def test_the_fast_ones_are_taken_where_they_fit(architecture, band, kind):
    step = choose_step(biased_weights(architecture), PRESETS["default"], CPU, band, None, 1)
    assert type(step.features) is kind
