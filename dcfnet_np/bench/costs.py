"""The table of stages: what each must do at least, on a CPU and on a GPU.

Operations, and bytes that must move, each array read or written once; a multiply-add counts as two
operations. Transforms count as they are computed, band-limited and with mirror images folded. The
floor is the larger of the two times, operations at the machine's peak and bytes at its bandwidth.
"""

from typing import NamedTuple

import numpy as np

from .. import network
from ..kernels import conv_tf32
from ..ops.fourier import label_band
from ..presets import Preset, get_preset
from ..vision.windows import gaussian_label

REAL, COMPLEX = 4, 8  # bytes


class Cost(NamedTuple):
    """One stage: one launch, or a few."""

    stage: str
    flops: float
    bytes: float
    tf32: bool = False  # whether tensor cores can do it


class Ceiling(NamedTuple):
    """What a core or a GPU can do, measured."""

    flops: float  # float32 operations a second
    bytes: float  # a second, read plus written, in a large copy
    tf32: float = 0.0  # operations a second of tensor cores in TF32; 0 where there are none

    def floor_us(self, cost: Cost, tf32: bool = False) -> float:
        """Microseconds for `cost`, on tensor cores where they can and `tf32` asks for them."""
        flops = self.tf32 if tf32 and cost.tf32 else self.flops
        return 1e6 * max(cost.flops / flops, cost.bytes / self.bytes)


class Maps(NamedTuple):
    """Feature maps of `size` x `size` pixels, `channels` of them, and the bins that are kept."""

    size: int
    channels: int
    limits: tuple[int, int]

    @property
    def pixels(self) -> int:
        return self.size**2

    @property
    def bins(self) -> int:
        return (2 * self.limits[0] + 1) * (self.limits[1] + 1)

    def transform(self, stage: str, maps: int) -> Cost:
        """The band-limited transform of so many maps, or its inverse."""
        half, (ku, kv) = self.size // 2 + 1, self.limits
        flops = 4.0 * (kv + 1) * half * (self.size + 2 * (ku + 1))
        return Cost(stage, maps * flops, maps * (REAL * self.pixels + COMPLEX * self.bins))

    def lrn(self, stage: str, images: int) -> Cost:
        values = images * self.channels * self.pixels
        return Cost(stage, 15.0 * values, 2 * REAL * values)

    def response(self, stage: str, searches: int, targets: int) -> Cost:
        moved = COMPLEX * self.bins * ((searches + targets) * self.channels + searches)
        return Cost(stage, 8.0 * searches * self.channels * self.bins, moved)

    def update(self, stage: str, targets: int) -> Cost:
        values = targets * self.channels * self.bins
        return Cost(stage, 8.0 * values, 3 * COMPLEX * values)


def make_maps(architecture: str, size: int, sigma: float) -> Maps:
    """sigma: of the label, pixels."""
    band = label_band(gaussian_label((size, size), sigma))
    limits = band.limits if band else (size // 2, size // 2)
    return Maps(size, network.output_channels(architecture), limits)


def crop(stage: str, patches: int, pixels: int) -> Cost:
    """Interpolation between four pixels of three colours, grey levels in and floats out."""
    return Cost(stage, 30.0 * patches * pixels, patches * pixels * 3 * (1 + REAL))


def convolution(stage: str, images: int, spec: network.Conv, size: int, out: int) -> Cost:
    """Images of size x size pixels to out x out."""
    flops = 2.0 * 9 * spec.c_in * spec.c_out * images * out * out
    moved = REAL * images * (spec.c_in * size**2 + spec.c_out * out**2)
    return Cost(stage, flops, moved, spec.c_in >= conv_tf32.CHANNELS)


def cpu_tracking_costs(architecture: str, preset: str | Preset) -> list[Cost]:
    """The stages of a frame on a CPU: so many patches as scales, and one to learn from.

    From the second convolution on it is Winograd's, which needs half of the products.
    """
    preset = get_preset(preset)
    scales, size = preset.num_scales, preset.input_size
    maps, patches = make_maps(architecture, size, preset.sigma), scales + 1
    costs = [crop("crop", patches, maps.pixels)]
    specs = [s for s in network.get_architecture(architecture) if isinstance(s, network.Conv)]
    for number, spec in enumerate(specs, 1):
        layer = convolution(f"conv{number}", patches, spec, size, size)
        if number > 1:
            values = patches * spec.c_in * maps.pixels
            costs.append(Cost(f"relu{number}", values, 2 * REAL * values))
            layer = layer._replace(flops=layer.flops / 2)
        costs.append(layer)
    peaks = 2.0 * scales * maps.pixels
    return [
        *costs,
        maps.lrn("LRN", patches),
        maps.transform("transform", patches * maps.channels),
        maps.response("response", scales, 1),
        maps.transform("inverse", scales),
        Cost("peak", peaks, REAL * peaks),
        maps.update("update", 1),
    ]


def tracking_costs(architecture: str, preset: str | Preset, targets: int = 1) -> list[Cost]:
    """The stages of a `DeviceStep`, by their names and in their order, without the upload of the
    frame.
    """
    preset = get_preset(preset)
    size, searches = preset.input_size, targets * preset.num_scales
    maps = make_maps(architecture, size, preset.sigma)
    specs = network.layers(architecture)

    def features(title: str, n: int) -> list[Cost]:
        costs = [crop(f"{title}: crop", n, maps.pixels)]
        for (name, spec), (after_name, after) in zip(specs, [*specs[1:], ("", None)]):
            if not isinstance(spec, network.Conv):
                continue
            layer = convolution(f"{title}: {name}", n, spec, size, size)
            if isinstance(after, network.Lrn):  # in the same launch
                more = 10.0 * maps.channels * n * maps.pixels
                fused = f"{layer.stage}+{after_name}"
                layer = layer._replace(stage=fused, flops=layer.flops + more)
            costs.append(layer)
        return [*costs, maps.transform(f"{title}: DFT", n * maps.channels)]

    return [
        *features("search", searches),
        maps.response("search: response", searches, targets),
        maps.transform("search: inverse DFT", searches),
        Cost("search: peaks", 4.0 * searches * maps.pixels, REAL * searches * maps.pixels),
        Cost("search: move", 0.0, 0.0),
        *features("update", targets),
        maps.update("update: filter", targets),
    ]


def training_costs(
    architecture: str, batch: int, size: int = 125, sigma: float | None = None
) -> list[Cost]:
    """The stages of `DeviceSteps` of so many pairs of crops of `size` pixels, by their names and in
    their order.
    """
    n = 2 * batch
    costs = [Cost("gather", 3.0 * n * size**2, 3 * n * size**2 * (1 + REAL))]
    backward: list[Cost] = []
    width = size
    for name, spec in network.layers(architecture):
        if not isinstance(spec, network.Conv):
            continue
        out = width - 2 * spec.dilation
        forward = convolution(f"{name}: forward", n, spec, width, out)
        packed = REAL * 9.0 * spec.c_in * spec.c_out * 3  # read, and laid out for both directions
        costs += [Cost(f"{name}: pack", 0.0, packed), forward]
        if width < size:  # and the output of the ReLU below is read for its mask
            moved = forward.bytes + REAL * n * spec.c_in * width**2
            backward.append(forward._replace(stage=f"{name}: gradient to the data", bytes=moved))
        backward.append(forward._replace(stage=f"{name}: gradient to the weights"))
        width = out
    maps = make_maps(architecture, width, 0.1 * size / 3 if sigma is None else sigma)
    values, pairs = n * maps.channels * maps.pixels, batch * maps.channels * maps.bins
    bins, shapes = COMPLEX * batch * maps.bins, network.parameter_shapes(architecture).values()
    parameters = sum(int(np.prod(shape)) for shape in shapes)
    return [
        *costs,
        maps.lrn("LRN: forward", n),
        maps.transform("DFT of the features", n * maps.channels),
        Cost("filter and response", 16.0 * pairs, bins * (2 * maps.channels + 1)),
        maps.transform("inverse DFT of the responses", batch),
        Cost("loss", 5.0 * batch * maps.pixels, 2 * REAL * batch * maps.pixels),
        maps.transform("DFT of their gradient", batch),
        Cost("filter and response: backward", 26.0 * pairs, bins * (4 * maps.channels + 2)),
        maps.transform("inverse DFT of the features' gradient", n * maps.channels),
        Cost("LRN: backward", 30.0 * values, 3 * REAL * values),
        *reversed(backward),
        Cost("SGD", 6.0 * parameters, 5 * REAL * parameters),
    ]
