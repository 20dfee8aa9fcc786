"""The fast extractor gives the plain one's spectra: every network that it takes, odd and even
sizes, every preset.
"""

import naive
import numpy as np
import pytest

from dcfnet_np import extractor, network, tiled
from dcfnet_np.backend import Device
from dcfnet_np.ops.fourier import label_band, make_band, rfft2
from dcfnet_np.presets import PRESETS, Preset
from dcfnet_np.vision.windows import gaussian_label, hann
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
        np.testing.assert_allclose(
            got.spectra, expected.spectra, atol=1e-6 * abs(expected.spectra).max()
        )


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_presets_and_channel_orders(rng, name, order):
    fast, plain = extractors("light", PRESETS[name], order)
    frame = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    got, expected = (
        fast(frame, (95.0, 5.0), WINDOWS).spectra,
        plain(frame, (95.0, 5.0), WINDOWS).spectra,
    )
    np.testing.assert_allclose(got, expected, atol=1e-6 * abs(expected).max())


PLACES = {
    "inside": ((50, 40), (50, 40)),
    "left": ((3, 40), (5, 40)),
    "right below": ((108.5, 88), (105, 86)),
    "larger than the frame": ((55, 45), (55, 45)),
}


@pytest.mark.parametrize("size", [1.0, 3.0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("colour", [(0, 0, 0), (7, 7, 7), (255, 255, 255), (250, 20, 90)])
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_a_window_of_one_colour_is_flat(place, colour, size, order):
    """The black outside is no content, and one pixel of another colour is."""
    centre, (x, y) = PLACES[place]
    windows = WINDOWS / 2 * (4 if place.startswith("larger") else size)
    for extract in extractors("light", Preset("small", input_size=63), order):
        frame = np.full((90, 110, 3), colour, np.uint8)
        assert extractor.is_flat(extract(frame, centre, windows).extremes)
        frame[y - 2 : y + 3, x - 2 : x + 3, 1] ^= 1  # one grey level of one channel
        assert not extractor.is_flat(extract(frame, centre, windows).extremes)


def test_a_window_outside_the_frame_is_flat(rng):
    frame = rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)
    for extract in extractors("light", Preset("small", input_size=63)):
        outside, both = extract(frame, (-100.0, 40.0), WINDOWS), [(-100.0, 40.0), (50.0, 40.0)]
        assert (outside.extremes == [np.inf, 0]).all() and extractor.is_flat(outside.extremes)
        assert not extractor.is_flat(extract(frame, np.array(both), WINDOWS[:2]).extremes)


@pytest.mark.parametrize("size", [31, 32])
def test_extremes_are_those_of_the_pixels_inside(rng, size):
    """Pixel by pixel; windows across every side, one larger than the frame."""
    frame = rng.integers(60, 256, (23, 31, 3), dtype=np.uint8)
    centres = np.array([(2.3, 1.6), (28.7, 21.4), (15.5, 11.2)])
    windows = np.array([[17.3, 9.9], [11.0, 14.0], [70.3, 50.1]])
    preset = Preset("small", input_size=size, sigma_factor=0.25, rounded_crop=False)
    expected = np.tile([np.inf, 0.0], (3, 3, 1))
    for patch, (cx, cy), (w, h), (low, high) in zip(
        [naive.crop(frame, *each, size) for each in zip(centres, windows)],
        centres,
        windows,
        expected.transpose(0, 2, 1),
    ):
        for i, j in np.ndindex(size, size):
            x, y = cx - w / 2 + j * w / (size - 1), cy - h / 2 + i * h / (size - 1)
            if 0 <= x <= 30 and 0 <= y <= 22:
                low[...], high[...] = (
                    np.minimum(low, patch[:, i, j]),
                    np.maximum(high, patch[:, i, j]),
                )
    assert (expected[..., 0] >= 60).all()  # nothing of the black outside
    for extract in extractors("light", preset):
        np.testing.assert_allclose(extract(frame, centres, windows).extremes, expected, atol=1e-4)


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
    dft = tiled.BandDft(make_band((size, size), (9, 11)), (size, size), (np.hanning(size),) * 2)
    if not tiled.supports(architecture):
        assert len(channels) == 1
        with pytest.raises(ValueError, match="is not an architecture that `tiled.supports` takes"):
            tiled.Strip(architecture, dft, (size, size), backward=backward)
        return
    parameters = network.initialise(architecture, 3)
    strip = tiled.Strip(architecture, dft, (size, size), backward=backward)
    image = rng.uniform(-120, 120, (1, 3, size, size)).astype(np.float32)
    got = np.empty((channels[-1], *dft.band.spectrum_shape), np.complex64)
    kernels = tiled.make_kernels(parameters, architecture)
    for _ in range(2):  # in memory that was used
        strip.forward(image[0].transpose(1, 0, 2), np.zeros((3, 1), np.float32), kernels, got)
    want = rfft2(network.features(image, parameters, architecture) * hann((size, size)), dft.band)[
        0
    ]
    np.testing.assert_allclose(got, want, atol=1e-5 * abs(want).max())


def test_what_is_not_supported():
    light = network.get_architecture("light")
    for architecture in (
        chain(4, 5, dilation=2),
        light[:-1],
        light[2:],
        light[:3] + light[2:],
        (*light, *light),
        (),
    ):
        assert not tiled.supports(architecture)


def test_the_fast_one_is_not_taken_where_it_does_not_fit():
    preset, device = PRESETS["default"], Device("cpu")
    band = label_band(gaussian_label((125, 125), preset.sigma))
    assert not tiled.supports("conv1-dilation")
    for weights, chosen in (
        (random_weights("conv1-dilation"), band),
        (random_weights("light"), None),
    ):
        assert isinstance(
            extractor.make_extractor(weights, preset, chosen, device, 3), extractor.Extractor
        )
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
