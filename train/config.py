"""Settings of a training run, and the recipes of the paper and of the released codes by name.

`dcfnet --help` reads these fields, so what takes time to import is imported where it is needed.
"""

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcfnet_np.train.augment import Augmentation

PYTORCH_INITIAL = 6**-0.5  # PyTorch's first weights, times He's


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are the released PyTorch code's where it has them.

    An unknown name is a TypeError, a bad value a ValueError.
    """

    arch: str = "light"
    preset: str = "default"  # whose online settings track the validation sequences
    padding: float = 2.0  # of the crops; checked against the file
    sigma_factor: float = 0.1  # label's standard deviation, of the target's size in the crop
    lam: float = 1e-4  # lambda of Eq. 2
    # "elements": energies are divided by H W D first, as in `presets.Preset`
    lam_divisor: str = "none"
    batch: int = 32  # pairs a step, of all processes together
    epochs: int = 50
    pairs: str = "near"  # which make an epoch: all, ahead, near; see train.pairs
    pairs_per_epoch: int = 0  # 0: as many as there are
    max_gap: int = 10  # frames between template and search
    frames: int = 2  # of a clip; 2 are a pair, see train.clip_step
    # what is learnt beside the network, of lam, sigma, window, rate, with commas; see train.numbers
    learn: str = ""
    found_places: bool = False  # clips learn where the response peaks, not where the target is
    recompute: bool = False  # clips hold one frame's features at a time, and compute them twice
    initial_scale: float = 1.0  # of the first weights, times He's
    # share of the steps whose features have a Hann window, as in tracking
    cosine_window: float = 0.0
    flip: bool = False  # this and the next eight: see train.augment.Augmentation
    light: float = 0.0
    colour: float = 0.0
    jitter: int = 0
    scale: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    rotate: float = 0.0
    stretch: float = 0.0
    optimiser: str = "sgd"  # or adam: see train.optimisers
    # what a step leaves of the running average of the weights; 0: no average
    averaging: float = 0.0
    schedule: str = "logspace"  # see `learning_rate`
    lr_start: float = 1e-2
    lr_end: float = 1e-5  # of logspace and cosine
    momentum: float = 0.9
    weight_decay: float = 5e-5  # see train.optimisers; the MATLAB codes have 5e-4
    # as in tracking; the released code trained with 109, 120, 119
    mean: tuple[float, ...] = (104.0, 117.0, 123.0)
    # the crops' validation sequences give no training pairs; else they are learnt from too
    hold_out: bool = True
    validation_pairs: int = 512  # the same in every epoch and run
    # a pair whose loss is so many times that of a response of zeros is left out
    divergence: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))  # JSON has lists
        for name, (good, expected) in self._rules().items():
            if not good:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """{field: (whether it is good, what it must be)}."""
        from dcfnet_np import network, presets
        from dcfnet_np.train import pairs

        presets.get_preset(self.preset)
        one_of = {
            "arch": tuple(network.ARCHITECTURES),
            "lam_divisor": ("none", "elements"),
            "pairs": pairs.MODES,
            "optimiser": ("sgd", "adam"),
            "schedule": ("constant", "logspace", "cosine"),
        }
        value = vars(self)
        rules = {name: (value[name] in c, f"one of {', '.join(c)}") for name, c in one_of.items()}
        positive = "padding", "sigma_factor", "initial_scale", "lr_start", "lr_end", "divergence"
        for name in positive:
            rules[name] = 0 < value[name] < math.inf, "> 0"
        for name in ("batch", "epochs", "max_gap", "validation_pairs"):
            rules[name] = value[name] >= 1, ">= 1"
        augmentation = "light colour jitter scale blur rotate stretch"
        for name in f"lam pairs_per_epoch {augmentation} weight_decay seed".split():
            rules[name] = 0 <= value[name] < math.inf, ">= 0"
        for name in ("cosine_window", "gray"):
            rules[name] = 0 <= value[name] <= 1, "in [0, 1]"
        rules["frames"] = value["frames"] >= 2, ">= 2"
        known = "lam", "sigma", "window", "rate"
        good = set(self.learnt_names) <= set(known) and len(set(self.learnt_names)) == len(
            self.learnt_names
        )
        rules["learn"] = good, f"some of {', '.join(known)}, with commas"
        for name in ("momentum", "averaging"):
            rules[name] = 0 <= value[name] < 1, "in [0, 1)"
        return rules | {"mean": (len(self.mean) == 3, "three numbers")}

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def learnt_names(self) -> tuple[str, ...]:
        """What `learn` names."""
        return tuple(self.learn.split(",")) if self.learn else ()

    @property
    def clips(self) -> bool:
        """Whether training takes more than pairs and a network."""
        return self.frames > 2 or bool(self.learn)

    @property
    def augmentation(self) -> "Augmentation":
        """The settings of `train.augment`."""
        from dcfnet_np.train.augment import Augmentation

        return Augmentation(**{name: getattr(self, name) for name in Augmentation._fields})

    def learning_rate(self, epoch: int) -> float:
        """The rate of an epoch, 0-based.

        constant: lr_start throughout, the paper's.  logspace: evenly spaced in log from lr_start to
        lr_end, both reached, the released 2.0 codes'.  cosine: half a wave from lr_start down to
        lr_end, slow at both ends.
        """
        first, last = self.lr_start, self.lr_end
        if self.schedule == "constant" or self.epochs == 1:
            return first
        if self.schedule == "cosine":
            wave = math.cos(math.pi * epoch / (self.epochs - 1))
            return last + (first - last) * (1 + wave) / 2
        return float(first * (last / first) ** (epoch / (self.epochs - 1)))

    def windowed(self, step: int) -> bool:
        """Whether step number `step`, from 1, has the Hann window: at .5 every second one."""
        return math.floor(step * self.cosine_window) > math.floor((step - 1) * self.cosine_window)

    def label_sigma(self, size: int) -> float:
        """The label's standard deviation in pixels, when the crops are of `size` pixels."""
        return self.sigma_factor * size / (1 + self.padding)

    def regulariser(self, size: int) -> float:
        """What stands for lambda in Eq. 2, when the crops are of `size` pixels.

        Energies that are divided by H W D are a lambda so many times as large.
        """
        from dcfnet_np import network

        if self.lam_divisor == "none":
            return self.lam
        side = network.feature_size(size, self.arch, "valid")
        return self.lam * side * side * network.output_channels(self.arch)


def recipe(preset: str) -> Config:
    """The training settings of a preset.

    docs/reference/training.md has every constant with its source.
    A preset of other online settings alone is trained as `default` is.  One from a file is trained
    as the one that it names.  ValueError names the known presets.
    """
    from dcfnet_np import presets

    v1 = Config(
        preset="matlab-v1", arch="conv1", padding=1.5, lam_divisor="elements", pairs="ahead",
        batch=16, epochs=20, schedule="constant", lr_start=1e-5, weight_decay=5e-4,
    )  # fmt: skip
    pytorch = Config(
        preset="pytorch", pairs="ahead", initial_scale=PYTORCH_INITIAL, mean=(109.0, 120.0, 119.0)
    )
    ours = Config(  # for a few thousand crops
        preset="default", batch=4, epochs=20, pairs_per_epoch=1000, max_gap=50, initial_scale=0.41,
        cosine_window=0.5, optimiser="adam", averaging=0.999, schedule="cosine", lr_start=4e-3,
        lr_end=4e-5, flip=True, light=0.3, colour=0.1, gray=0.1, blur=1.0, jitter=24, scale=0.1,
        rotate=14.0, stretch=0.1,
    )  # fmt: skip
    recipes = (
        ours,
        dataclasses.replace(v1, preset="paper", lam_divisor="none", pairs="all"),
        v1,
        Config(preset="matlab-v2", lam_divisor="elements", pairs="ahead", weight_decay=5e-4),
        pytorch,
        dataclasses.replace(pytorch, preset="pytorch-py3"),
    )
    by_name = {config.preset: config for config in recipes}
    base, fields = presets.split_preset_text(preset)
    # Not the name of a file: a run, and what it leaves, must not depend on it.
    return dataclasses.replace(
        by_name.get(base, by_name["default"]), preset=presets.join_preset_text(base, fields)
    )
