"""train/checkpoint.py: whole or absent, whenever the process is killed."""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from processes import PATIENCE
from training import config

from dcfnet_np.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from dcfnet_np.train.optimisers import first_learnt


def state_of(epoch):
    settings = config(optimiser="adam", averaging=0.5)
    state = Checkpoint(epoch, {}, {}, settings.as_dict(), "abc")
    return state.with_learnt(first_learnt(settings))


def test_round_trip(tmp_path):
    state = state_of(4)._replace(records=({"epoch": 1, "loss": 0.1},), surplus=0.3)
    save_checkpoint(tmp_path / "c.npz", state, crops=np.zeros(3))
    back = load_checkpoint(tmp_path / "c.npz")
    for name, expected in state._asdict().items():
        got = getattr(back, name)
        if isinstance(expected, dict) and name != "config":
            assert list(got) == list(expected) != []
            for key, value in got.items():
                np.testing.assert_array_equal(value, expected[key])
                assert value.dtype == np.float32
        else:
            assert got == expected, name
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("moment", ["numpy.savez", "os.fsync", "os.replace"])
def test_killed_while_writing_leaves_the_old_checkpoint(tmp_path, moment):
    """The process kills itself inside the write: half a file, unflushed, or not yet moved."""
    path = tmp_path / "c.npz"
    save_checkpoint(path, state_of(1))
    program = f"""
        import os, signal, numpy
        from dcfnet_np.train.checkpoint import load_checkpoint, save_checkpoint
        state = load_checkpoint({str(path)!r})
        def die(*arguments, **named):
            if hasattr(arguments[0], "write"):
                arguments[0].write(b"PK half a file")
                arguments[0].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        {moment} = die
        save_checkpoint({str(path)!r}, state._replace(epoch=2))
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(words, check=False, timeout=PATIENCE)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "c.part.npz").is_file()  # it was writing
    assert load_checkpoint(path).epoch == 1
    save_checkpoint(path, state_of(2))
    assert load_checkpoint(path).epoch == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.npz"]


def test_torn_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.npz"
    save_checkpoint(path, state_of(1))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    lengths = 0, 10, len(whole) // 2, len(whole) - 1
    for content in (*(whole[:length] for length in lengths), bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is no readable checkpoint") as info:
            load_checkpoint(path)
        assert "\n" not in str(info.value)
