"""Steps of training on clips: the loss of T frames, and gradients through all of them.

The first frame of a clip gives the first template.  Every later one is searched, and, but for the
last, learned from: its spectrum, moved to where its target is, is the next template, as the preset
`fast` does it.  So each frame goes through the network once.  Responses, and gradients back through
time and by the numbers of `numbers`, are those of `ops.recurrent`.  Two frames are a pair.

`ClipSteps` does what `PlainSteps` does, for clips.  Its network is plain, or `Strip`'s.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network, presets
from dcfnet_np.backend import Array
from dcfnet_np.fast.strip import BandDft, Strip, make_kernels, supports
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.ops.fourier import Band, irfft2, label_band, rfft2, shift_spectrum
from dcfnet_np.ops.loss import response_loss_backward, response_loss_forward
from dcfnet_np.ops.recurrent import Rule, unroll_backward, unroll_forward
from dcfnet_np.ops.window import window_backward, window_forward
from dcfnet_np.train.augment import Augmentation, draw_changes, label_shifts, shift_label
from dcfnet_np.train.config import Config
from dcfnet_np.train.numbers import Numbers, by_parameters, numbers_of, typed_in, without_numbers
from dcfnet_np.train.optimisers import zero_velocity
from dcfnet_np.train.plain_step import Objective, PairImages, PlainSteps
from dcfnet_np.vision.windows import (
    gaussian_label,
    hann_power,
    log_hann,
    power_gradient,
    sigma_gradient,
)

NARROWEST = 0.9  # a learnt label may get so narrow, of what was typed in, and keep all its waves


class ClipForm(NamedTuple):
    """What all clips of a step share."""

    parameters: network.Parameters
    numbers: Numbers
    label_f: Array  # of the filter, of width numbers.sigma
    window: Array | None  # (H, W), of steps that have it; None for `Strip`, whose dfts have it
    kernels: Any  # of `Strip`; None for the plain network
    dfts: tuple[BandDft, ...]  # of `Strip`: for steps without the window, and with it


class Unwound(NamedTuple):
    """The forward pass of a clip behind the network."""

    displacements: np.ndarray  # (T, 2), rows and columns: where each frame's target is
    loss_cache: Any
    unrolled: Any


def clip_loss(
    spectra: Array,
    displacements: np.ndarray | None,
    wanted: Array,
    form: ClipForm,
    rule: Rule,
    band: Band | None,
) -> tuple[float, Unwound]:
    """The mean loss of the T - 1 responses of a clip.

    spectra: (T, D, bins), of the frames' features; wanted: (T - 1, H, W), the desired responses;
    displacements: (T, 2), where the targets are, as (0, 0) in the first frame.  None: where the
    responses say that they are.
    """
    shape, rate = wanted.shape[1:], form.numbers.rate
    if displacements is None:
        displacements = found_displacements(spectra, form, rule, shape, band)
    templates_f = np.stack(
        [
            shift_spectrum(spectrum, tuple(place), shape, band)
            for spectrum, place in zip(spectra[:-1], displacements)
        ]
    )
    rates = np.full(len(templates_f), rate, wanted.dtype)
    rates[0] = 1
    responses_f, unrolled = unroll_forward(
        templates_f[:, None], spectra[1:, None], form.label_f, form.numbers.lam, rates, rule
    )
    responses = irfft2(responses_f[:, 0], shape, band)
    loss, loss_cache = response_loss_forward(responses, wanted)
    return loss, Unwound(displacements, loss_cache, unrolled)


def clip_gradients(
    unwound: Unwound, share: float, form: ClipForm, shape: tuple[int, int], band: Band | None
) -> tuple[Array, Numbers]:
    """Of share * loss: by the spectra (T, D, bins), and by lambda, sigma and the rate."""
    dresponses = response_loss_backward(unwound.loss_cache, share)
    by = unroll_backward(rfft2(dresponses, band)[:, None], unwound.unrolled, shape, band)
    dspectra = np.zeros((len(by.searches) + 1, *by.searches.shape[2:]), by.searches.dtype)
    dspectra[1:] = by.searches[:, 0]
    for t, place in enumerate(unwound.displacements[:-1]):
        dspectra[t] += shift_spectrum(by.templates[t, 0], tuple(-place), shape, band)
    dsigma = sigma_gradient(irfft2(by.label, shape, band), form.numbers.sigma)
    return dspectra, Numbers(float(by.lam), dsigma, 0.0, float(by.rates[1:].sum()))


def found_displacements(
    spectra: Array, form: ClipForm, rule: Rule, shape: tuple[int, int], band: Band | None
) -> np.ndarray:
    """Where the filter itself finds the targets, (T, 2); it learns from there on."""
    model = OnlineFilter(form.label_f, form.numbers.lam, form.numbers.rate, rule)
    places = np.zeros((len(spectra), 2), int)
    model.update(spectra[0])
    for t in range(1, len(spectra)):
        response = irfft2(model.response_f(spectra[t : t + 1]), shape, band)[0]
        place = np.array(np.unravel_index(response.argmax(), shape))
        places[t] = np.where(place > np.array(shape) // 2, place - shape, place)
        model.update(shift_spectrum(spectra[t], tuple(places[t]), shape, band))
    return places


def clip_pairs(clips: np.ndarray) -> np.ndarray:
    """(N, T) clips -> ((T - 1) N, 2): each later frame with the first one, step by step."""
    first = np.broadcast_to(clips[:, :1], clips[:, 1:].shape)
    return np.stack([first.T, clips[:, 1:].T], axis=-1).reshape(-1, 2)


def mirrored_clips(clips: np.ndarray, epoch: int | None, augmentation: Augmentation) -> np.ndarray:
    """Which clips are mirrored, (N,) bool: all of a clip or nothing of it, as its first pair is."""
    if epoch is None or not augmentation.flip:
        return np.zeros(len(clips), bool)
    return draw_changes(clips[:, :2], epoch, augmentation, float).mirrored[: len(clips)]


def clip_shifts(
    clips: np.ndarray, epoch: int | None, augmentation: Augmentation
) -> np.ndarray | None:
    """Where the wanted responses peak, ((T - 1) N, 2): see `augment.label_shifts`."""
    if epoch is None:
        return None
    upright = augmentation._replace(flip=False)
    shifts = label_shifts(clip_pairs(clips), epoch, upright)
    if shifts is None:
        return None
    mirrored = np.tile(mirrored_clips(clips, epoch, augmentation), clips.shape[1] - 1)
    return np.where(mirrored[:, None], shifts * [1, -1], shifts)


def with_room(config: Config, objective: Objective, sigma: float) -> Objective:
    """Where the label's width is learnt, with the band of a narrower label, which is wider."""
    if "sigma" not in config.learnt_names:
        return objective
    label = objective.label
    narrow = gaussian_label((len(label), len(label)), NARROWEST * sigma, label.dtype)
    return objective._replace(band=label_band(narrow))


class ClipImages(PairImages):
    """One clip at a time, (1, T) indices of crops: its first frame as the template of a pair, every
    other one as the search of a pair with it.

    augmentation: of the clips; pairs alone would be mirrored one by one.
    """

    def __init__(
        self, crops: np.ndarray, mean: tuple[float, ...], dtype: Any, augmentation: Augmentation,
        *, size: int,
    ) -> None:  # fmt: skip
        self.of_clips = augmentation
        super().__init__(crops, mean, dtype, augmentation._replace(flip=False), size=size)

    def images(
        self, clips: np.ndarray, epoch: int | None = None, raw: np.ndarray | None = None
    ) -> np.ndarray:
        """The frames as normalised images (T, 3, size, size), see `PairImages.images`."""
        raw = self.read(clips) if raw is None else raw
        others = len(raw) - 1
        both = np.stack([np.repeat(raw[:1, 0], others, axis=0), raw[1:, 0]])
        images = super().images(clip_pairs(clips), epoch, both)
        frames = np.concatenate([images[:1], images[others:]])
        return frames[..., ::-1] if mirrored_clips(clips, epoch, self.of_clips)[0] else frames

    def labels(self, clips: np.ndarray, epoch: int | None, label: np.ndarray) -> np.ndarray | None:
        """What the responses shall be, (T - 1, H, W); None where all targets are in the middle."""
        shifts = clip_shifts(clips, epoch, self.of_clips)
        return None if shifts is None else shift_label(label, shifts)


class ClipSteps(PlainSteps):
    """`PlainSteps` on clips: `epoch` takes batches (n, T) of indices of crops."""

    def __init__(self, config: Config, crops: np.ndarray, *arguments: Any, **options: Any) -> None:
        super().__init__(config, crops, *arguments, **options)
        size, mean = self.pairs.size, self.pairs.mean
        self.pairs = ClipImages(crops, config.mean, mean.dtype, config.augmentation, size=size)
        self._rule = presets.get_preset(config.preset).update_rule
        self._begun = typed_in(config, size)
        self.objectives = [with_room(config, each, self._begun.sigma) for each in self.objectives]
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._fast = supports(config.arch) and self.objectives[0].band is not None

    def _form(self, parameters: network.Parameters) -> ClipForm:
        numbers, objective = numbers_of(parameters, self._begun), self.objectives[0]
        shape, dtype = objective.label.shape, objective.label.dtype
        label = gaussian_label(shape, numbers.sigma, dtype)
        label_f = rfft2(label, objective.band)
        own = without_numbers(parameters)
        if not self._fast or objective.band is None:
            window = hann_power(shape, numbers.power, dtype)
            return ClipForm(own, numbers, label_f, window, None, ())
        size = self.pairs.size, self.pairs.size
        band, vectors = objective.band, [np.hanning(n) for n in shape]
        dfts = tuple(
            BandDft(band, size, (vectors[0] ** power, vectors[1] ** power))
            for power in (0.0, numbers.power)
        )
        kernels = make_kernels(parameters, self.config.arch)
        return ClipForm(own, numbers, label_f, None, kernels, dfts)

    def _loss(self, images: np.ndarray, form: ClipForm, objective: Objective) -> float:
        with self._frames() as frames:
            spectra = frames.forward(images, form, objective)
            wanted = np.broadcast_to(objective.label, (len(images) - 1, *objective.label.shape))
            places = np.zeros((len(images), 2), int)
            return clip_loss(spectra, places, wanted, form, self._rule, objective.band)[0]

    def _gradients(
        self,
        images: np.ndarray,
        form: ClipForm,
        objective: Objective,
        label: np.ndarray | None,
        share: float,
    ) -> tuple[float, network.Parameters]:
        shape, band = objective.label.shape, objective.band
        wanted, places = label, None
        if wanted is None:
            wanted = np.broadcast_to(objective.label, (len(images) - 1, *shape))
        if not self.config.found_places:
            places = np.vstack([[0, 0], *map(peak_of, wanted)])
        with self._frames() as frames:
            spectra = frames.forward(images, form, objective)
            loss, unwound = clip_loss(spectra, places, wanted, form, self._rule, band)
            if loss > self.limit:
                return loss, {}
            dspectra, by_numbers = clip_gradients(unwound, share, form, shape, band)
            gradients, dpower = frames.backward(dspectra, form, objective)
        names = self.config.learnt_names
        by_numbers = by_numbers._replace(power=dpower)
        return loss, gradients | by_parameters(by_numbers, form.numbers, names)

    @contextmanager
    def _frames(self) -> Iterator[Any]:
        """The network for one clip, which no other thread has."""
        try:
            frames = self._free.get_nowait()
        except Empty:
            frames = (StripFrames if self._fast else PlainFrames)(self.config, self.pairs.size)
            frames = Recomputed(frames) if self.config.recompute else frames
        try:
            yield frames
        finally:
            self._free.put(frames)


def peak_of(label: np.ndarray) -> list[int]:
    """The place of a maximum, rows and columns, past the middle as negative ones."""
    place = np.unravel_index(label.argmax(), label.shape)
    return [int(p - n if p > n // 2 else p) for p, n in zip(place, label.shape)]


class PlainFrames:
    """From images to the spectra of their windowed features, and back, by `network` and `ops`."""

    def __init__(self, config: Config, size: int) -> None:
        self._arch = config.arch
        self._caches: tuple[Any, Any] = (), None

    def forward(self, images: np.ndarray, form: ClipForm, objective: Objective) -> np.ndarray:
        """images: (T, C, H, W).  Returns (T, D, bins)."""
        windowed = objective.window is not None
        features, caches = network.forward(images, form.parameters, self._arch, padding="valid")
        window_cache = None
        if windowed:
            features, window_cache = window_forward(features, form.window)
        self._caches = caches, window_cache
        return rfft2(features, objective.band)

    def backward(
        self, dspectra: np.ndarray, form: ClipForm, objective: Objective
    ) -> tuple[network.Parameters, float]:
        """Gradients by the network's parameters, and by the window's power."""
        caches, window_cache = self._caches
        dfeatures, dpower = irfft2(dspectra, objective.label.shape, objective.band), 0.0
        if window_cache is not None:
            dfeatures, dwindow = window_backward(dfeatures, window_cache)
            dpower = power_gradient(dwindow, form.numbers.power)
        return network.backward(dfeatures, caches, input_gradient=False)[1], dpower


class StripFrames:
    """The same by `Strip`, one for each frame of a clip; it keeps what `backward` needs."""

    def __init__(self, config: Config, size: int) -> None:
        self._arch, self._size = config.arch, size
        self._learns_window = "window" in config.learnt_names
        self._strips: list[Strip] = []
        self._names = [
            name for name, spec in network.layers(config.arch) if isinstance(spec, network.Conv)
        ]

    def forward(self, images: np.ndarray, form: ClipForm, objective: Objective) -> np.ndarray:
        """As that of `PlainFrames`."""
        windowed, shape = objective.window is not None, objective.label.shape
        dtype = objective.label.dtype
        dft, size = form.dfts[windowed], (self._size, self._size)
        logs = log_hann(shape) if windowed and self._learns_window else None
        channels, nothing = network.output_channels(self._arch), np.zeros((1, 1), dtype)
        spectra = np.empty((len(images), channels, *dft.band.spectrum_shape), form.label_f.dtype)
        for t, image in enumerate(images):
            if t == len(self._strips):
                self._strips.append(Strip(self._arch, dft, size, dtype=dtype, backward=True))
            self._strips[t].use(dft, logs)
            self._strips[t].forward(image.transpose(1, 0, 2), nothing, form.kernels, spectra[t])
        return spectra

    def backward(
        self, dspectra: np.ndarray, form: ClipForm, objective: Objective
    ) -> tuple[network.Parameters, float]:
        """As that of `PlainFrames`."""
        total = zero_velocity(form.parameters)
        for strip, dspectrum in zip(self._strips, dspectra):
            for name, (dw, db) in zip(self._names, strip.backward(dspectrum, form.kernels)):
                total[f"{name}.weight"] += dw
                total[f"{name}.bias"] += db
        learnt = self._learns_window and objective.window is not None
        dpower = sum(strip.dpower for strip in self._strips[: len(dspectra)]) if learnt else 0.0
        return total, dpower


class Recomputed:
    """The same, one frame at a time: memory holds the features of one, however long the clip is.

    What stays of each frame is its spectrum; `backward` computes its features again.
    """

    def __init__(self, frames: PlainFrames | StripFrames) -> None:
        self._frames = frames
        self._images: np.ndarray = np.empty(0)

    def forward(self, images: np.ndarray, form: ClipForm, objective: Objective) -> np.ndarray:
        """As that of `PlainFrames`."""
        self._images = images
        spectra = [self._frames.forward(image[None], form, objective) for image in images]
        return np.concatenate(spectra)

    def backward(
        self, dspectra: np.ndarray, form: ClipForm, objective: Objective
    ) -> tuple[network.Parameters, float]:
        """As that of `PlainFrames`."""
        total, dpower = zero_velocity(form.parameters), 0.0
        for image, dspectrum in zip(self._images, dspectra):
            self._frames.forward(image[None], form, objective)
            gradients, by_power = self._frames.backward(dspectrum[None], form, objective)
            for name, gradient in gradients.items():
                total[name] += gradient
            dpower += by_power
        return total, dpower
