"""Whole runs against a second training: the network, filter and loss of the paper's Secs. 3.1 and
3.2 as autograd sees them, and the optimisers as their papers print them.  Nothing of `plain_step`,
`loop`, `optimisers` and `ops` is used here.

Constants that a short run would not show (a decay of 5e-4) are enlarged; `test_recipes` pins those
of the recipes.
"""

import dataclasses
import math

import h5py
import numpy as np
import pytest
from training import read_log, train, write_crops

from dcfnet_np import weights
from dcfnet_np.network import ARCHITECTURES, Conv
from dcfnet_np.train import augment, pairs
from dcfnet_np.train.checkpoint import load_checkpoint
from dcfnet_np.train.config import recipe
from dcfnet_np.train.prepare import Window

autograd = pytest.importorskip(
    "autograd", reason="autograd is not installed; it is in the extra test"
)
anp = pytest.importorskip("autograd.numpy")
SIZE, MARGIN = 22, 4  # maps of 18 x 18 pixels


@pytest.fixture(scope="module", params=[1.5, 2.0])
def crops_file(tmp_path_factory, request):
    root, window = tmp_path_factory.mktemp("sequences"), Window(request.param, SIZE, MARGIN)
    return write_crops(root, 5, window=window), request.param


# --- the paper


def convolution(x, weight, bias):
    """3 x 3, without padding: nine products of shifted images."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    y = sum(
        anp.einsum("nchw,oc->nohw", x[:, :, i : i + height, j : j + width], weight[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    return y + bias[:, None, None]


def features(x, theta):
    """conv - ReLU - conv - LRN over five channels, k 1, alpha 1e-4 / 5, beta .75."""
    x = anp.maximum(convolution(x, theta["conv1.weight"], theta["conv1.bias"]), 0)
    x = convolution(x, theta["conv2.weight"], theta["conv2.bias"])
    square, d = x**2, x.shape[1]
    near = abs(np.subtract.outer(np.arange(d), np.arange(d))) <= 2
    return x * (1 + 2e-5 * anp.einsum("nchw,oc->nohw", square, near.astype(float))) ** -0.75


def respond(theta, images, label, config, windowed):
    """Eqs. 2 and 3: (N, H, W).

    images: (2, N, 3, S, S), templates and searches; label: (H, W), peak at (0, 0).
    """
    template, search = (features(part, theta) for part in images)
    if windowed:
        n = template.shape[-1]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))
        template, search = template * np.outer(hann, hann), search * np.outer(hann, hann)
    numel = template[0].size if config.lam_divisor == "elements" else 1  # the MATLAB codes'
    xf, zf, yf = anp.fft.fft2(template), anp.fft.fft2(search), np.fft.fft2(label)
    energy = anp.sum(anp.real(xf * anp.conj(xf)), 1) / numel + config.lam
    response = anp.real(anp.fft.ifft2(yf * anp.sum(anp.conj(xf) * zf, 1) / numel / energy))
    return response


def gaussian(n, sigma):
    """Peak at (0, 0), the distance around the edges."""
    distance = np.minimum(np.arange(n), n - np.arange(n))
    return np.exp(-np.add.outer(distance**2, distance**2) / (2 * sigma**2))


class Run:
    """A training of `config` on a crops.h5, in float64."""

    def __init__(self, path, config):
        self.config = config
        with h5py.File(path) as file:
            self.crops, self.sequence, self.frame = (
                file[name][:] for name in ("crops", "sequence", "frame")
            )
            self.held = file["validation"][:][self.sequence]
        n = SIZE - 4
        self.label = gaussian(n, config.sigma_factor * SIZE / (1 + config.padding))
        rng, self.theta = np.random.default_rng(config.seed), {}
        convolutions = [spec for spec in ARCHITECTURES[config.arch] if isinstance(spec, Conv)]
        for number, spec in enumerate(convolutions, 1):
            spread = config.initial_scale * math.sqrt(2 / (9 * spec.c_in))
            self.theta[f"conv{number}.weight"] = spread * rng.standard_normal(
                (spec.c_out, spec.c_in, 3, 3)
            )
            self.theta[f"conv{number}.bias"] = np.zeros(spec.c_out)
        zeros = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.m, self.s, self.average, self.t = zeros, dict(zeros), dict(self.theta), 0
        self.gradient = autograd.value_and_grad(
            lambda theta, *scene: anp.mean(self.losses(theta, *scene))
        )

    def losses(self, theta, images, labels, windowed):
        """Eq. 4 without weight decay, of each pair.

        The wanted response may peak off the middle, the label does not.
        """
        response = respond(theta, images, self.label, self.config, windowed)
        return anp.sum((response - labels) ** 2, (1, 2))

    def draw(self, chosen, seed, epoch, mode, count=None):
        index = np.flatnonzero(chosen)
        sequence, frame = self.sequence[index], self.frame[index]
        how = {"seed": seed, "epoch": epoch, "mode": mode, "count": count}
        return index[pairs.epoch_pairs(sequence, frame, max_gap=self.config.max_gap, **how)]

    def scene(self, batch, epoch):
        """Images without their mean, and labels, of a batch as this epoch augments it
        (`test_augment` has how).
        """
        changes = self.config.augmentation
        seen = augment.cut_images(self.crops[batch.T], batch, SIZE, epoch, changes).astype(float)
        labels = np.repeat(self.label[None], len(batch), 0)
        if epoch is not None:
            flat = seen.reshape(-1, 3, SIZE, SIZE)
            seen = augment.augment_images(flat, batch, epoch, changes).reshape(seen.shape)
            shifts = augment.label_shifts(batch, epoch, changes)
            if shifts is not None:
                labels = np.array([np.roll(self.label, shift, (0, 1)) for shift in shifts])
        return seen - np.reshape(self.config.mean, (3, 1, 1)), labels

    def epoch(self, epoch, rate):
        """Train; the mean loss of the epoch's pairs."""
        config, total = self.config, 0.0
        drawn = self.draw(
            ~self.held, config.seed, epoch, config.pairs, config.pairs_per_epoch or None
        )
        for batch in np.split(drawn, range(config.batch, len(drawn), config.batch)):
            self.t += 1
            # At a share of .5 every second step has the window, at .4 the third, the fifth, the
            # eighth, ...
            windowed = math.floor(self.t * config.cosine_window) != math.floor(
                (self.t - 1) * config.cosine_window
            )
            loss, gradient = self.gradient(self.theta, *self.scene(batch, epoch), windowed)
            total += loss * len(batch)
            for name, g in gradient.items():
                self.step(name, g, rate)
        return total / len(drawn)

    def step(self, name, g, rate):
        config, theta = self.config, self.theta[name]
        if config.optimiser == "adam":
            self.m[name] = config.momentum * self.m[name] + (1 - config.momentum) * g
            self.s[name] = 0.99 * self.s[name] + 0.01 * g**2
            m, s = self.m[name] / (1 - config.momentum**self.t), self.s[name] / (1 - 0.99**self.t)
            theta = theta - rate * (m / (np.sqrt(s) + 1e-12) + config.weight_decay * theta)
        else:
            self.m[name] = config.momentum * self.m[name] + g + config.weight_decay * theta
            theta = theta - rate * self.m[name]
        self.theta[name] = theta
        kept = min(config.averaging, self.t / (self.t + 10))
        self.average[name] = kept * self.average[name] + (1 - kept) * theta

    def validation(self):
        """The mean loss on the held-out pairs, by the averaged weights; windowed where every step
        is.
        """
        config = self.config
        drawn = self.draw(self.held, pairs.VALIDATION_SEED, 0, "near", config.validation_pairs)
        return self.losses(self.average, *self.scene(drawn, None), config.cosine_window == 1).mean()


# --- the comparison

FEW = {"batch": 4, "epochs": 3, "validation_pairs": 5, "seed": 3}
RUNS = {
    "default": {
        "pairs_per_epoch": 13, "jitter": 4, "cosine_window": 0.4, "averaging": 0.8,
        "weight_decay": 0.3, "lr_end": 1e-3, "lam": 1e5,
    },
    "paper": {"max_gap": 2, "weight_decay": 0.02, "lr_start": 0.02, "lam": 1e5},
    "matlab-v1": {"weight_decay": 0.02, "lr_start": 0.02, "cosine_window": 1.0, "lam": 10.0},
    "matlab-v2": {
        "weight_decay": 0.02, "lr_start": 0.02, "lr_end": 0.01, "averaging": 0.9, "lam": 10.0,
    },
    "pytorch": {
        "optimiser": "adam", "lr_start": 2e-3, "lr_end": 1e-3, "momentum": 0.6, "weight_decay": 0.3,
        "rotate": 9.0, "lam": 1e5,
    },
}  # fmt: skip
# The rate of each epoch: half a cosine wave, constant, and evenly in the logarithm.
RATES = {
    "default": (4e-3, 2.5e-3, 1e-3),
    "paper": (0.02, 0.02, 0.02),
    "matlab-v1": (0.02, 0.02, 0.02),
    "matlab-v2": (0.02, math.sqrt(2) * 0.01, 0.01),
    "pytorch": (2e-3, math.sqrt(2) * 1e-3, 1e-3),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_three_epochs(crops_file, tmp_path, name):
    """Parameters, average, losses and rates are the second training's, to float32."""
    path, padding = crops_file
    config = dataclasses.replace(recipe(name), **FEW, **RUNS[name])
    if config.padding != padding:
        pytest.skip("the crops of the other recipes")
    out = train(path, config, tmp_path / "run")
    records = read_log(out)
    second, start = Run(path, config), Run(path, config).theta
    for epoch, (record, rate) in enumerate(zip(records, RATES[name], strict=True)):
        assert record["loss"] == pytest.approx(second.epoch(epoch, rate), rel=1e-3)
        assert record["lr"] == pytest.approx(rate)
        assert record["validation_loss"] == pytest.approx(second.validation(), rel=1e-3)
    state = load_checkpoint(out / "checkpoint.npz")
    kept = weights.load_weights(str(out / "weights.h5")).parameters
    for key, value in second.theta.items():
        # Adam's steps are as long where the gradient is mere rounding.
        share = 0.03 if config.optimiser == "adam" else 3e-3
        allowed = share * np.linalg.norm(value - start[key])
        assert np.linalg.norm(state.parameters[key] - value) < allowed, key
        expected = second.average[key] if config.averaging else value
        assert np.linalg.norm(kept[key] - expected) < allowed, key
