"""The fast extractor gives the plain one's spectra: every network that it takes, odd and even sizes, every preset."""

import numpy as np
import pytest

from dcfnet_np import extractor, network, tiled
from dcfnet_np.backend import Device
from dcfnet_np.ops.fourier import label_band
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.vision.windows import gaussian_label
from dcfnet_np.weights import Weights

WINDOWS = np.array([[61.3, 48.9], [70.1, 55.5], [90.0, 40.2]])


def random_weights(architecture, order="bgr"):
    parameters = network.initialise(architecture, seed=3)
    for name, value in parameters.items():
        if name.endswith("bias"):
            value += np.linspace(-20, 30, len(value), dtype=np.float32)
    return Weights(architecture, parameters, order)


def extractors(architecture, preset, order="bgr"):
    label = gaussian_label((preset.input_size, preset.input_size), preset.sigma)
    settings = random_weights(architecture, order), preset, label_band(label), Device("cpu")
    fast = extractor.make_extractor(*settings, most=3)
    assert isinstance(fast, extractor.FastExtractor)
    return fast, extractor.Extractor(*settings)


@pytest.mark.parametrize("architecture", ["light", "conv1", "conv2"])
@pytest.mark.parametrize("size", [125, 63, 62, 64])
def test_spectra_are_those_of_whole_patches(rng, architecture, size):
    preset = Preset("small", input_size=size, sigma_factor=0.1 * 125 / size)
    fast, plain = extractors(architecture, preset)
    frame = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    for windows in (WINDOWS, WINDOWS[:1]):
        got, expected = fast(frame, (40.2, 30.7), windows), plain(frame, (40.2, 30.7), windows)
        np.testing.assert_array_equal(got.extremes, expected.extremes)
        np.testing.assert_allclose(got.spectra, expected.spectra, atol=1e-6 * abs(expected.spectra).max())


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_presets_and_channel_orders(rng, name, order):
    fast, plain = extractors("light", PRESETS[name], order)
    frame = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    got, expected = fast(frame, (95.0, 5.0), WINDOWS).spectra, plain(frame, (95.0, 5.0), WINDOWS).spectra
    np.testing.assert_allclose(got, expected, atol=1e-6 * abs(expected).max())


def test_a_flat_patch_is_told(rng):
    for extract in extractors("light", PRESETS["default"]):
        frame = np.full((90, 110, 3), 7, np.uint8)
        assert extractor.is_flat(extract(frame, (50, 40), WINDOWS[:1] / 2).extremes)
        frame[40, 50] = 9
        assert not extractor.is_flat(extract(frame, (50, 40), WINDOWS[:1] / 2).extremes)


def test_the_fast_one_is_not_taken_where_it_does_not_fit():
    preset, device = PRESETS["default"], Device("cpu")
    band = label_band(gaussian_label((125, 125), preset.sigma))
    assert not tiled.supports("conv1-dilation")
    for weights, chosen in ((random_weights("conv1-dilation"), band), (random_weights("light"), None)):
        assert isinstance(extractor.make_extractor(weights, preset, chosen, device, 3), extractor.Extractor)
    with pytest.raises(ValueError, match="conv1-dilation"):
        tiled.Strip("conv1-dilation", None, (125, 125))


def test_every_patch_has_a_place_and_a_size_of_its_own(rng):
    """A batch of windows around several centres is each of them alone, extremes too."""
    centres = np.array([(40.2, 30.7), (100.0, 2.0), (71.5, 60.25)])
    frame = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    for extract in extractors("light", Preset("small", input_size=63)):
        together = extract(frame, centres, WINDOWS)
        spectra, extremes = together.spectra.copy(), together.extremes
        for i in range(3):
            alone = extract(frame, centres[i], WINDOWS[i : i + 1])
            np.testing.assert_allclose(spectra[i], alone.spectra[0], atol=1e-6 * abs(spectra).max())
            np.testing.assert_array_equal(extremes[i], alone.extremes[0])
