"""Checkpoints: all that a run needs to continue bit for bit, in one file that is whole or absent.

Parameters, the optimiser's memory, how far the run is and what it logged are the whole state:
pairs, augmentation and learning rate are functions of (seed, epoch).  A file is written under a
temporary name, flushed to the disk and only then moved to its place, so a process killed at any
moment leaves the previous checkpoint behind.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import network
from dcfnet_np.backend import Array, to_numpy
from dcfnet_np.support.archives import open_stored_zip
from dcfnet_np.support.files import replacing
from dcfnet_np.train.config import Config
from dcfnet_np.train.numbers import without_numbers
from dcfnet_np.train.optimisers import Learnt

FORMAT_VERSION = 3
LARGEST_FILE = 64 << 20  # bytes; networks take less than 1 MB, the log about 1 KB an epoch
GROUPS = ("parameters", "velocity", "squares", "average")  # of arrays, one for each parameter


class Checkpoint(NamedTuple):
    """State after `epoch` finished epochs and `steps` steps of the next."""

    epoch: int
    parameters: dict[str, Array]
    velocity: dict[str, Array]  # of SGD; of Adam the running mean of the gradient
    config: dict[str, Any]  # the run's settings, to refuse a resume with others
    digest: str  # of the crops the run learns from
    steps: int = 0
    loss: float = 0.0  # sum over the pairs of these steps, without those left out
    left_out: int = 0  # pairs of these steps that exploded
    surplus: float = 0.0  # of such pairs in the run, see `exploding`
    seconds: float = 0.0  # that these steps took
    waited: float = 0.0  # of these seconds, for crops
    records: tuple[dict[str, Any], ...] = ()  # the log's lines, one for each finished epoch
    squares: dict[str, Array] = {}  # noqa: RUF012  these two: see `optimisers.Learnt`
    average: dict[str, Array] = {}  # noqa: RUF012

    def learnt(self, steps: int) -> Learnt:
        """What the run has learnt, after so many steps in all its epochs."""
        return Learnt(self.parameters, self.velocity, self.squares, self.average, steps)

    def with_learnt(self, learnt: Learnt) -> "Checkpoint":
        """The same state with what was learnt since."""
        parameters, velocity, squares, average, _ = learnt
        return self._replace(
            parameters=parameters, velocity=velocity, squares=squares, average=average
        )


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit the run; the message is one line."""


def save_checkpoint(path: str | Path, state: Checkpoint, **more: np.ndarray) -> None:
    """Write `state` to `path` (.npz), whole or not at all; `more` arrays are not read again."""
    values = state._asdict()
    groups = {group: values.pop(group) for group in GROUPS}
    arrays: dict[str, Any] = {
        f"{group}/{name}": to_numpy(a) for group in GROUPS for name, a in groups[group].items()
    }
    facts: dict[str, Any] = {"format": FORMAT_VERSION} | values
    with replacing(Path(path)) as part, part.open("wb") as stream:
        np.savez(stream, meta=np.array(json.dumps(facts)), **(arrays | more))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, NumPy arrays.  CheckpointError when it is not whole."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; start without resume")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has over {LARGEST_FILE >> 20} MiB")
        data = path.read_bytes()
        open_stored_zip(data).close()  # refuses what would unfold
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            facts: dict[str, Any] = json.loads(str(archive["meta"]))
            groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in GROUPS}
            for key in archive.files:
                group, _, name = key.partition("/")
                if group in groups:
                    groups[group][name] = archive[key]
        if facts.pop("format") != FORMAT_VERSION:
            raise ValueError(f"it is not of format {FORMAT_VERSION}, which this version reads")
        return Checkpoint(**{**facts, **groups, "records": tuple(facts["records"])})
    except Exception as error:  # a torn file can fail in zipfile, json or numpy
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no readable checkpoint ({line})") from None


def check_resume(state: Checkpoint, config: Config, digest: str) -> None:
    """Raise CheckpointError unless a checkpoint belongs to these settings and crops."""
    if state.digest != digest:
        raise CheckpointError(
            "train: the checkpoint was made with other crops; give the same file or start anew"
        )
    other = [
        f"{name} {state.config.get(name)!r}"
        for name, value in config.as_dict().items()
        if value != state.config.get(name)
    ]
    if other:
        raise CheckpointError(
            f"train: the checkpoint was made with {', '.join(other)}; give the same or start anew"
        )
    network.check_parameters(config.arch, without_numbers(state.parameters))
