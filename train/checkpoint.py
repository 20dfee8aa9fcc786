"""Checkpoints: all that a run needs to continue bit for bit, in one file that is whole or absent.

Parameters, velocity and the number of finished epochs are the whole state: pairs and learning rate are
functions of (seed, epoch).  A file is written under a temporary name, flushed to the disk and only then
moved to its place, so a process killed at any moment leaves the previous checkpoint behind.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.backend import Array, to_numpy
from dcfnet_np.files import replacing

FORMAT_VERSION = 1


class Checkpoint(NamedTuple):
    """State after `epoch` finished epochs."""

    epoch: int
    parameters: dict[str, Array]
    velocity: dict[str, Array]
    config: dict[str, Any]  # the run's settings, to refuse a resume with others
    digest: str  # of the crops the run learns from


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit the run; the message is one line."""


def save_checkpoint(path: str | Path, state: Checkpoint) -> None:
    """Write `state` to `path` (.npz), whole or not at all."""
    path = Path(path)
    meta = {"format": FORMAT_VERSION, "epoch": state.epoch, "config": state.config, "digest": state.digest}
    arrays: dict[str, Any] = {f"parameters/{name}": to_numpy(value) for name, value in state.parameters.items()}
    arrays |= {f"velocity/{name}": to_numpy(value) for name, value in state.velocity.items()}
    with replacing(path) as part, open(part, "wb") as stream:
        np.savez(stream, meta=np.array(json.dumps(meta)), **arrays)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint (NumPy arrays; nothing is unpickled).  CheckpointError when it is not whole."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(str(archive["meta"]))
            groups: dict[str, dict[str, np.ndarray]] = {"parameters": {}, "velocity": {}}
            for key in archive.files:
                if key != "meta":
                    group, _, name = key.partition("/")
                    groups[group][name] = archive[key]
        if meta["format"] != FORMAT_VERSION:
            raise ValueError(f"its format is {meta['format']}, this version reads {FORMAT_VERSION}")
        return Checkpoint(meta["epoch"], groups["parameters"], groups["velocity"], meta["config"], meta["digest"])
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; start without resume") from None
    except Exception as error:  # a torn file can fail in zipfile, json or numpy
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no readable checkpoint ({line})") from None
