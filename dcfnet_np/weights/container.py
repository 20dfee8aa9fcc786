"""`Weights`: the parameters of one network with all that is needed to use them."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..network import (
    ARCHITECTURES,
    Architecture,
    Conv,
    Parameters,
    check_parameters,
    get_architecture,
)

MEAN_BGR = (104.0, 117.0, 123.0)  # of the released codes, grey levels
MEAN_RGB = MEAN_BGR[::-1]
INCOMPLETE = "the file is incomplete or damaged: copy or download it again"
FOREIGN = "no weights: neither a file of dcfnet_np, nor a MatConvNet .mat, nor a PyTorch state dict"
LONGEST = 300  # characters of an error; of a longer one the middle is left out


class WeightsError(ValueError):
    """A weights file cannot be used; the message is one line of at most `LONGEST` characters."""

    def __init__(self, message: str) -> None:
        text = " ".join("".join(c if c.isprintable() else " " for c in message).split())
        if len(text) > LONGEST:
            text = f"{text[:200]} ... {text[205 - LONGEST :]}"
        super().__init__(text)


@contextlib.contextmanager
def weights_errors(path: Path, otherwise: str = INCOMPLETE) -> Iterator[None]:
    """Whatever goes wrong with the file inside the block becomes a WeightsError that names it.

    It says `otherwise` in general; what a library says of it is in `__cause__`, which `--debug`
    shows.
    """
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # h5py, pickle and zipfile raise almost anything on a damaged file
        whole = isinstance(error, KeyError) and INCOMPLETE not in otherwise
        missing = f": {error} is missing" if whole else ""
        raise WeightsError(f"{path}: {otherwise}{missing}") from error


@dataclass(frozen=True, eq=False)
class Weights:
    """Parameters of one network, checked when made: WeightsError.

    architecture: a name of network.ARCHITECTURES.  parameters: float32 NumPy arrays, finite.
    channel_order, mean: the network's input is the image, 0..255, in this order, minus the mean
    (three grey levels in the same order).  training: data, settings, seed: anything JSON can hold.
    name: for people.
    """

    architecture: str
    parameters: Parameters
    channel_order: str = "bgr"
    mean: tuple[float, ...] = MEAN_BGR
    training: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        self._check_parameters()
        if self.channel_order not in ("bgr", "rgb"):
            raise WeightsError(f"channel_order must be 'bgr' or 'rgb', got {self.channel_order!r}")
        # a file may hold anything
        numbers = [
            isinstance(x, int | float) and math.isfinite(x)  # type: ignore[redundant-expr]
            for x in self.mean
        ]
        if numbers != [True] * 3:
            raise WeightsError(f"mean must be three finite numbers, got {self.mean!r}")
        try:
            json.dumps(self.training, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"training must be JSON: {error}") from None

    def _check_parameters(self) -> None:
        if not isinstance(self.architecture, str):
            kind = type(self.architecture).__name__
            raise WeightsError(f"architecture must be a name, got {kind}")
        for name, value in self.parameters.items():
            if not isinstance(value, np.ndarray):
                got = f"{type(value).__module__}.{type(value).__name__}"
                wanted = "a NumPy array (backend.to_numpy makes one)"
                raise WeightsError(f"{name} must be {wanted}, got {got}")
        try:
            check_parameters(self.architecture, self.parameters)
        except ValueError as error:
            raise WeightsError(str(error)) from None
        for name, value in self.parameters.items():
            if value.dtype != np.float32:
                raise WeightsError(f"{name} must be float32, got {value.dtype}")
            if not np.isfinite(value).all():
                raise WeightsError(f"{name} holds NaN or infinite values")


def parameter_digest(parameters: Parameters) -> str:
    """SHA-256, in hexadecimal, of names, shapes and little-endian float32 values, by name."""
    total = hashlib.sha256()
    for name in sorted(parameters):
        total.update(f"{name} {parameters[name].shape}\n".encode())
        total.update(np.ascontiguousarray(parameters[name], "<f4").tobytes())
    return total.hexdigest()


class ForeignNetwork(NamedTuple):
    """What a file of another program tells of its network; None where it does not say."""

    convolutions: list[tuple[np.ndarray, np.ndarray]]  # weights (O, I, 3, 3) and biases (O,)
    dilations: list[int] | None = None
    kinds: list[str] | None = None  # of all layers: "conv", "relu", "lrn"

    def parameters(self, architecture: str | None) -> tuple[str, Parameters]:
        """The first architecture that agrees with all the file tells, and parameters for it.

        architecture: the only one to be tried.  Raises WeightsError where none fits.
        """
        candidates = [architecture] if architecture else list(ARCHITECTURES)
        fitting = (name for name in candidates if self._fits(get_architecture(name)))
        if (found := next(fitting, None)) is None:
            text = ", ".join(f"{c_in} to {c_out}" for c_in, c_out in self._widths()) or "none"
            text += f", dilations {self.dilations}" if self.dilations else ""
            text += f", layers {self.kinds}" if self.kinds else ""
            known = " or ".join(candidates)
            raise WeightsError(f"the network is not {known}: its convolutions are {text}")
        parameters = {}
        for i, (w, b) in enumerate(self.convolutions, start=1):
            parameters[f"conv{i}.weight"] = np.ascontiguousarray(w, np.float32)
            parameters[f"conv{i}.bias"] = np.ascontiguousarray(b, np.float32)
        return found, parameters

    def _widths(self) -> list[tuple[int, int]]:
        return [(w.shape[1], w.shape[0]) for w, _ in self.convolutions if w.ndim == 4]

    def _fits(self, specs: Architecture) -> bool:
        convolutions = [spec for spec in specs if isinstance(spec, Conv)]
        return (
            self._widths() == [(spec.c_in, spec.c_out) for spec in convolutions]
            and self.dilations in (None, [spec.dilation for spec in convolutions])
            and self.kinds in (None, [type(spec).__name__.lower() for spec in specs])
        )
