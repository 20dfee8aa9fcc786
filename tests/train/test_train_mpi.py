"""Several processes train as one does, to rounding; one that is lost takes the others along."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE
from training import read_log, write_crops, write_sequence

from dcfnet_np import weights
from dcfnet_np.train import parallel
from dcfnet_np.train.checkpoint import load_checkpoint
from dcfnet_np.train.config import Config
from dcfnet_np.train.optimisers import first_learnt

pytestmark = pytest.mark.needs_mpi


@pytest.fixture(scope="module")
def mpirun():
    """The command that starts processes: of the environment's own mpich, or the system's; else
    skip.
    """
    pytest.importorskip("mpi4py", reason="mpi4py is not installed; it is in the extra train")
    own = Path(sys.executable).parent / "mpirun"
    found = str(own) if own.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("there is no mpirun; pip install mpich, or install a package of the system")
    program = "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size())"
    done = subprocess.run(
        [found, "-n", "2", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if "".join(done.stdout.split()) != "22":
        pytest.skip(
            f"mpirun starts no two processes that find each other: {done.stderr.strip()[:200]}"
        )
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with crops.h5 and with tracked/, two sequences."""
    root = tmp_path_factory.mktemp("mpi")
    write_crops(root, white=[("ant", 3), ("cat", 6)])
    for seed, name in enumerate(("dog", "elk")):
        write_sequence(root / "tracked" / name, 5, seed=10 + seed)
    return root


WORDS = [
    "--device", "cpu", "--no-pictures", "--epochs", "2", "--pairs-per-epoch", "0", "--batch", "5",
    "--validation-pairs", "5", "--seed", "3",
]  # fmt: skip


def train_by(mpirun, ranks, data, out, *words, wrapped=("-m", "dcfnet_np")):
    command = [mpirun, "-n", ranks, sys.executable, *wrapped]
    command += ["train", data / "crops.h5", "--out", out, *WORDS, *words]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE,
        env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def check_same(one, two):
    """Losses and parameters of two RUN_DIRs agree to rounding."""
    one, two = (weights.load_weights(str(run / "weights.h5")) for run in (one, two))
    for key in ("loss", "validation_loss"):
        np.testing.assert_allclose(two.training[key], one.training[key], rtol=1e-5)
    first = first_learnt(Config(**one.training["config"])).parameters
    for name, value in one.parameters.items():
        moved = abs(value - first[name]).max()
        assert moved > 0 and abs(two.parameters[name] - value).max() < 1e-4 * moved, name


def test_two_ranks_train_as_one(mpirun, data, tmp_path, dcfnet):
    """18 pairs in batches of 5: 3 and 2 for the ranks, and of the last batch 2 and 1.

    Pairs that explode are left out, whichever rank has them, and one of them says so.
    """
    words = ["--track", data / "tracked", "--jitter", "3"]
    assert dcfnet("train", data / "crops.h5", "--out", tmp_path / "one", *WORDS, *words)[0] == 0
    code, out, err = train_by(mpirun, 2, data, tmp_path / "two", *words)
    assert code == 0, err
    assert len(out.splitlines()) == 3  # one of them prints
    check_same(tmp_path / "one", tmp_path / "two")
    states = [load_checkpoint(tmp_path / name / "checkpoint.npz") for name in ("one", "two")]
    assert [[record["left_out"] for record in state.records] for state in states] == [[2, 2]] * 2
    assert states[0].surplus == states[1].surplus
    assert err.count("frame 3 with frame") == err.count("frame 6 with frame") == 1
    last = [read_log(tmp_path / name)[-1]["sequences"] for name in ("one", "two")]
    assert list(last[1]) == ["dog", "elk"]
    np.testing.assert_allclose(*(list(scores.values()) for scores in last), atol=0.05)


def test_two_ranks_learn_numbers_from_clips_as_one(mpirun, data, tmp_path, dcfnet):
    words = ["--frames", "3", "--learn", "lam,sigma,window,rate", "--cosine-window", "0.5"]
    assert dcfnet("train", data / "crops.h5", "--out", tmp_path / "one", *WORDS, *words)[0] == 0
    code, _, err = train_by(mpirun, 2, data, tmp_path / "two", *words)
    assert code == 0, err
    check_same(tmp_path / "one", tmp_path / "two")
    one, two = (read_log(tmp_path / name)[-1]["learnt"] for name in ("one", "two"))
    typed_in = {"lam": 1e-4, "sigma_factor": 0.1, "window_power": 1.0, "learning_rate": 0.015}
    for name, value in typed_in.items():
        moved = abs(one[name] - value)
        assert moved > 0 and abs(two[name] - one[name]) < 1e-3 * moved, name


def test_bad_input_is_said_once(mpirun, data, tmp_path):
    code, out, err = train_by(mpirun, 2, data, tmp_path / "run", "--arch", "vgg")
    assert code == 2 and out == ""
    assert re.findall("error: rank (.).*arch must be one of", err) == ["0"]


LOSE = """
import os, signal, sys
from dcfnet_np.cli import main
from dcfnet_np.train import optimisers
real, calls = optimisers.adam_step, []
def step(*arguments, **settings):
    real(*arguments, **settings)
    calls.append(1)
    rank = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK"))
    if len(calls) == 6 and rank == "1":
        WAY
optimisers.adam_step = step
sys.exit(main())
"""


@pytest.mark.parametrize(
    "way", ["os.kill(os.getpid(), signal.SIGKILL)", "raise MemoryError('no room')"]
)
def test_a_lost_rank_ends_the_job_and_resume_goes_on(mpirun, data, tmp_path, way):
    """Rank 1 goes after its sixth step, of eight; mpirun must end rank 0, which would wait."""
    words = ["--checkpoint-seconds", "0"]
    program = tmp_path / "lose.py"
    program.write_text(LOSE.replace("WAY", way))
    code, _, err = train_by(mpirun, 2, data, tmp_path / "run", *words, wrapped=[program])
    assert code != 0 and not (tmp_path / "run" / "weights.h5").exists()
    if "MemoryError" in way:
        assert "error: rank 1: no room" in err
    state = load_checkpoint(tmp_path / "run" / "checkpoint.npz")
    assert (state.epoch, state.steps) in [(1, 1), (1, 2)]
    code, _, err = train_by(mpirun, 2, data, tmp_path / "run", "--resume")
    assert code == 0, err
    code, _, err = train_by(mpirun, 2, data, tmp_path / "whole")
    first, second = (
        weights.load_weights(str(tmp_path / name / "weights.h5")) for name in ("run", "whole")
    )
    for name, value in first.parameters.items():
        np.testing.assert_array_equal(value, second.parameters[name])


def test_without_mpi4py_it_says_so(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        ValueError,
        match=r"started by mpirun, and mpi4py cannot be used .*; install the extra train",
    ):
        parallel.join_processes()
