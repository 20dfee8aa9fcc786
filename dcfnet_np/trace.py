"""Traces: every intermediate of tracking and of one training step, in one HDF5 file, and where two
of them part.

    recorder = Recorder(weights="light", preset="default")
    write_trace("trace.h5", recorder.steps(frames, box), recorder.attributes())

A step is a name and a dict of arrays in the order in which they were computed: "frame 0", the first
frame, then "frame 1" and so on, then "training values" and "training gradients".
docs/reference/traces.md describes every quantity.

`Recorder` listens to a `Tracker` as its observer.  What the tracker's fast features do not show,
crops and features, `PlainFeatures` computes again.  Everything is copied, since the tracker uses
its memory again.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import __version__, network
from .backend import Device
from .ops import dcf, fourier, loss
from .presets import Preset, get_preset
from .support.archives import open_hdf5, stored_attributes, stored_dataset
from .support.files import check_output, replacing
from .tracker import Tracker, TrackResult
from .tracking.features import NetworkMaps, PlainFeatures, choose_band
from .vision.boxes import check_box
from .vision.crop import to_bgr
from .vision.windows import gaussian_label
from .weights import Weights, load_weights, parameter_digest

FORMAT = "dcfnet_np trace"
FORMAT_VERSION = 2
TOLERANCE = 1e-6  # of a quantity's largest magnitude

Record = dict[str, np.ndarray]
Step = tuple[str, Record]


class Recorder:
    """Keeps what a `Tracker` on the CPU computes: `record` is the step of the newest frame."""

    def __init__(
        self,
        weights: str | Weights = "light",
        preset: str | Preset = "default",
        band: str | None = "auto",
    ) -> None:
        cpu = Device("cpu")
        self.preset = get_preset(preset)
        self.weights = weights if isinstance(weights, Weights) else load_weights(weights)
        self.tracker = Tracker(self.weights, self.preset, "cpu", band, observer=self._hear)
        self.band = choose_band(self.preset, cpu) if band == "auto" else None
        self.network = NetworkMaps(self.weights, cpu)
        self.plain = PlainFeatures(self.network, self.preset, self.band, cpu)
        self.record: Record = {}

    def steps(self, frames: Iterable[Any], box: Any, training: bool = True) -> Iterator[Step]:
        """Track through `frames` from `box` (pixels, 0-based) and yield a step for each.

        The training step, on the first frame and the second (or the first again), comes last.
        """
        pair = []
        for number, frame in enumerate(frames):
            if number == 0:
                self.init(frame, box)
                first = self.record["template_centres"], self.record["template_windows"]
            else:
                self.update(frame)
            # both at the first place: where the target went is the label's affair
            if number < 2 and training:
                pair.append(self._crop(*first))
            yield f"frame {number}", self.record
        if pair:
            values, gradients = self._training_step(pair[0], pair[-1])
            yield "training values", values
            yield "training gradients", gradients

    def attributes(self) -> dict[str, Any]:
        """What a reader needs to know beside the arrays: all settings, the weights, the band."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "dcfnet_np": __version__,
            "preset": json.dumps(dataclasses.asdict(self.preset)),
            "weights_digest": parameter_digest(self.weights.parameters),
            "architecture": str(self.weights.architecture),
            "channel_order": self.weights.channel_order,
            "mean": np.array(self.weights.mean),
            "band": np.array(self.band.limits if self.band is not None else (-1, -1)),
        }

    def init(self, frame: Any, box: Any) -> None:
        """As `Tracker.init`."""
        size = (self.preset.input_size, self.preset.input_size)
        self._frame = to_bgr(frame)
        label = gaussian_label(size, self.preset.sigma)
        self.record = {"label": label, "label_f": fourier.rfft2(label, self.band)}
        self._note("cosine_window", self.plain.window)
        self._note("box", check_box(box, self._frame.shape, "Recorder.init"))
        self.tracker.init(self._frame, box)

    def update(self, frame: Any, response: bool = False) -> TrackResult:
        """As `Tracker.update`."""
        self._frame, self.record = to_bgr(frame), {}
        result = self.tracker.update(self._frame, response)
        for name in ("box", "score", "psr", "scale", "ok"):
            self._note(name, getattr(result, name))
        return result

    def _note(self, name: str, value: Any) -> None:
        """Keep a copy; of what comes in parts, one after the other."""
        parts = [self.record[name]] if name in self.record else []
        self.record[name] = np.concatenate([*parts, value]) if parts else np.array(value)

    def _hear(self, event: str, values: dict[str, Any]) -> None:
        """An event of the tracker, see `Tracker`."""
        if event == "model":
            for name, mean in zip(("numerator", "denominator"), values["filter"].means):
                self._note(name, mean)
        elif event == "response":
            for name in ("response", "peaks"):
                self._note(name, values[name])
        elif event == "move":
            self._note("peak", values["peak"])
        elif event == "redetection move":
            self._note("redetection_place", values["centre"])
            self._note("redetection_peak", values["peak"])
        else:
            self._note(f"{event}_centres", values["centres"])
            self._note(f"{event}_windows", values["windows"])
            patches = self._crop(values["centres"], values["windows"])
            self._note(f"{event}_crop", patches)
            self._note(f"{event}_features", self.network.of_images(patches))
            self._note(f"{event}_f", values["spectra"])
            if event == "redetection":
                self._note("redetection_response", values["response"])

    def _crop(self, centres: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """Patches of the newest frame, channels as the weights have them."""
        return self.network.in_order(self.plain.crop(self._frame, centres, windows))

    def _training_step(self, template: np.ndarray, search: np.ndarray) -> tuple[Record, Record]:
        """Forward and backward pass of Eq. 4 on one pair of crops (1, 3, N, N).

        As in `train.plain_step`, both go through the network as one batch, without padding, and the
        label has the size of the map.
        """
        values: Record = {"images": np.concatenate([template, search]) - self.network.mean}
        parameters, architecture = self.network.parameters, self.weights.architecture
        x, caches = values["images"], []
        for name, spec in network.layers(architecture):
            x, cache = network.layer_forward(x, name, spec, parameters, padding="valid")
            values[name] = x
            caches.append(cache)
        label = gaussian_label((x.shape[2], x.shape[3]), self.preset.sigma)
        response, f = dcf.dcf_forward(x[:1], x[1:], fourier.rfft2(label), self.preset.lam)
        value, loss_cache = loss.response_loss_forward(response, label)
        values["label"] = label
        for name in ("label_f", "template_f", "search_f", "energy", "filter_f", "response_f"):
            values[name] = getattr(f, name)
        values |= {"response": response, "loss": np.array(value)}

        dresponse = loss.response_loss_backward(loss_cache)
        dresponse_f = fourier.rfft2(dresponse)
        gradients: Record = {"dresponse": dresponse, "dresponse_f": dresponse_f}
        gradients["dsearch_f"] = dcf.search_gradient_f(dresponse_f, f.filter_f)
        gradients["by_template_f"] = dcf.template_gradient_f(
            dresponse_f, f.template_f, f.search_f, f.label_f, f.response_f, f.energy
        )
        gradients["by_conjugate_f"] = dcf.template_conj_gradient_f(
            dresponse_f, f.template_f, f.response_f, f.energy
        )
        dy: Any = np.concatenate(dcf.dcf_backward(dresponse, f))
        for layer in reversed(caches):
            gradients[f"d{layer.name}"] = dy
            dy, dparameters = network.backward(dy, [layer])
            gradients |= {f"d{name}": gradient for name, gradient in dparameters.items()}
        gradients["dimages"] = dy
        return values, gradients


# --- files


def write_trace(path: str | Path, steps: Iterable[Step], attributes: dict[str, Any]) -> list[str]:
    """Write steps as they come to an HDF5 file: a group a step, a dataset a quantity.

    Returns the names of the steps.  Raises ValueError for an impossible place, WriteError when the
    disk is full.
    """
    import h5py

    path = Path(path)
    check_output(path)
    names = []
    with (
        replacing(path) as part,
        h5py.File(part, "w", libver=("v108", "v108"), track_order=True) as file,
    ):
        for name, value in attributes.items():  # texts of fixed length: see stored_attributes
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        for name, record in steps:
            group = file.create_group(name, track_order=True)
            for quantity, array in record.items():
                group.create_dataset(quantity, data=array)
            names.append(name)
    return names


def read_trace(path: str | Path) -> Iterator[Step]:
    """The steps of a trace file, one at a time.  Raises ValueError when it is none."""
    path = Path(path)
    try:
        file = open_hdf5(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else "it cannot be opened"
        raise ValueError(f"{path}: {reason}; a trace is written by dcfnet trace") from None
    with file:
        facts = stored_attributes(file, ("format", "format_version"))
        if facts != {"format": FORMAT, "format_version": FORMAT_VERSION}:
            raise ValueError(
                f"{path}: not a trace of version {FORMAT_VERSION}; write it with dcfnet trace"
            )
        room = path.stat().st_size  # one data set may stand under many names
        for name in file:
            record = {}
            try:
                for quantity in file[name]:
                    dataset = stored_dataset(file, f"{name}/{quantity}")
                    room -= dataset.nbytes
                    if room < 0:
                        raise ValueError("it claims more than it has")
                    record[quantity] = dataset[()]
            except Exception as error:  # h5py raises almost anything on a damaged file
                raise ValueError(
                    f"{path}: step {name[:40]!r} is damaged; write it again with dcfnet trace"
                ) from error
            yield name, record


# --- differences


class Difference(NamedTuple):
    """Where and by how much one quantity of two runs parts for the first time."""

    step: str
    quantity: str
    largest: float  # max|a - b|; infinite where shapes differ or one run lacks the quantity
    relative: float  # to the larger of max|a| and max|b|
    worst: tuple[int, ...]  # index of the largest
    note: str  # both values there, or what else is different

    def __str__(self) -> str:
        where = f" at {self.worst}" if self.worst else ""
        amount = f"{self.largest:.3g} ({self.relative:.1e} of the largest){where}: "
        told = amount if np.isfinite(self.largest) else ""
        return f"{self.step}, {self.quantity}: {told}{self.note}"


def differences(
    first: Iterable[Step], second: Iterable[Step], tolerance: float = TOLERANCE
) -> tuple[list[Difference], int]:
    """The first difference of every quantity, in the order of computation; the number of steps.

    A quantity differs where max|a - b| exceeds `tolerance` times its largest magnitude; 0 asks for
    the same bits.  The first of the list is where the runs part; the others follow from it, or have
    reasons of their own.  The shorter run ends the comparison.
    """
    if not tolerance >= 0:
        raise ValueError(f"differences: tolerance must be at least 0, got {tolerance}")
    found: dict[str, Difference] = {}
    count = 0
    for (name, a), (other_name, b) in zip(first, second):
        if name != other_name:  # one run is shorter, and here comes its training step
            break
        count += 1
        for quantity in dict.fromkeys((*a, *b)):
            if quantity not in found:
                difference = _compare(a.get(quantity), b.get(quantity), tolerance)
                if difference is not None:
                    found[quantity] = Difference(name, quantity, *difference)
    return list(found.values()), count


def _compare(
    a: np.ndarray | None, b: np.ndarray | None, tolerance: float
) -> tuple[float, float, tuple[int, ...], str] | None:
    """The last four of a `Difference`; None where there is none."""
    if a is None or b is None:
        return np.inf, np.inf, (), f"only in the {'second' if a is None else 'first'} run"
    if a.shape != b.shape:
        return np.inf, np.inf, (), f"shapes {a.shape} and {b.shape}"
    if np.array_equal(a, b, equal_nan=True) or not a.size:
        return None
    gap = abs(a.astype(np.result_type(a, np.float64)) - b)
    gap = np.where(np.isnan(a) & np.isnan(b), 0, np.where(np.isnan(gap), np.inf, gap))
    largest, scale = float(gap.max()), float(max(abs(a).max(), abs(b).max()))
    if largest <= tolerance * scale:
        return None
    index = tuple(int(i) for i in np.unravel_index(gap.argmax(), gap.shape))
    relative = largest / scale if scale else np.inf
    return largest, relative, index, f"{a[index]:.6g} and {b[index]:.6g}"
