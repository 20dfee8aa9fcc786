"""Several processes train as one does, to rounding, and one that is lost takes the others with it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE
from test_exploding import whiten
from test_train import SIZE, write_sequence

from dcfnet_np import backend, weights
from dcfnet_np.train import loop, parallel, prepare
from dcfnet_np.train.checkpoint import load_checkpoint
from dcfnet_np.train.config import Config

pytestmark = pytest.mark.needs_mpi


@pytest.fixture(scope="module")
def mpirun():
    """The command that starts processes: of the environment's own mpich, or the system's; else
    skip.
    """
    pytest.importorskip("mpi4py", reason="mpi4py is not installed; it is in the extra mpi")
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
    folders = [
        write_sequence(root / name, 8 + i, seed=i) for i, name in enumerate(("ant", "bee", "cat"))
    ]
    prepare.prepare(folders, root / "crops.h5", size=SIZE)
    for seed, name in enumerate(("dog", "elk")):
        write_sequence(root / "tracked" / name, 5, seed=10 + seed)
    return root


WORDS = [
    "--device", "cpu", "--no-pictures", "--epochs", "2", "--pairs-per-epoch", "0", "--batch", "5",
    "--validation-pairs", "5", "--seed", "3",
]  # fmt: skip


def train_by(mpirun, ranks, data, out, *words, wrapped=("-m", "dcfnet_np")):
    command = [
        mpirun,
        "-n",
        str(ranks),
        sys.executable,
        *wrapped,
        "train",
        data / "crops.h5",
        "--out",
        out,
        *WORDS,
    ]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in (*command, *words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


def test_two_ranks_train_as_one(mpirun, data, tmp_path, dcfnet):
    """18 pairs in batches of 5, so that the ranks have 3 and 2 pairs, and in the last batch 2 and
    1.
    """
    words = ["--track", data / "tracked", "--jitter", "3", "--light", "0.2"]
    assert dcfnet("train", data / "crops.h5", "--out", tmp_path / "one", *WORDS, *words)[0] == 0
    code, out, err = train_by(mpirun, 2, data, tmp_path / "two", *words)
    assert code == 0, err
    assert len(out.splitlines()) == 3  # one of them prints
    one, two = (
        weights.load_weights(str(tmp_path / name / "weights.h5")) for name in ("one", "two")
    )
    for key in ("loss", "validation_loss"):
        np.testing.assert_allclose(two.training[key], one.training[key], rtol=1e-5)
    first = loop.first_parameters(Config(**one.training["config"]))
    for name, value in one.parameters.items():
        moved = abs(value - first[name]).max()
        assert moved > 0 and abs(two.parameters[name] - value).max() < 1e-4 * moved, name
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    sequences = [list(json.loads(log[-1])["sequences"].items()) for log in logs]
    assert [name for name, _ in sequences[1]] == ["dog", "elk"]
    np.testing.assert_allclose(*([score for _, score in part] for part in sequences), atol=0.05)


def test_a_pair_that_explodes_is_left_out_by_all(mpirun, tmp_path, dcfnet):
    """Whichever rank has it: both make the same step, and one of them says so."""
    for seed, name in enumerate(("ant", "bee", "cat")):
        write_sequence(tmp_path / name, 8 + seed, seed=seed)
    whiten(tmp_path / "ant", 3)
    whiten(tmp_path / "cat", 6)
    prepare.prepare(
        [tmp_path / name for name in ("ant", "bee", "cat")], tmp_path / "crops.h5", size=SIZE
    )
    assert dcfnet("train", tmp_path / "crops.h5", "--out", tmp_path / "one", *WORDS)[0] == 0
    code, out, err = train_by(mpirun, 2, tmp_path, tmp_path / "two")
    assert code == 0, err
    states = [load_checkpoint(tmp_path / name / "checkpoint.npz") for name in ("one", "two")]
    assert [[record["left_out"] for record in state.records] for state in states] == [[2, 2]] * 2
    assert states[0].surplus == states[1].surplus
    assert err.count("frame 3 with frame") == err.count("frame 6 with frame") == 1
    one, two = (
        weights.load_weights(str(tmp_path / name / "weights.h5")) for name in ("one", "two")
    )
    np.testing.assert_allclose(two.training["loss"], one.training["loss"], rtol=1e-5)
    first = loop.first_parameters(Config(**one.training["config"]))
    for name, value in one.parameters.items():
        assert abs(two.parameters[name] - value).max() < 1e-4 * abs(value - first[name]).max(), name


def test_bad_input_is_said_once(mpirun, data, tmp_path):
    code, out, err = train_by(mpirun, 2, data, tmp_path / "run", "--arch", "vgg")
    assert code == 2 and out == ""
    assert re.findall("error: rank (.).*arch must be one of", err) == ["0"]


LOSE = """
import os, signal, sys
from dcfnet_np.cli import main
from dcfnet_np.train import loop
real, calls = loop.adam_step, []
def step(*arguments, **settings):
    real(*arguments, **settings)
    calls.append(1)
    if len(calls) == 6 and os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
        WAY
loop.adam_step = step
sys.exit(main())
"""


@pytest.mark.parametrize(
    "way", ["os.kill(os.getpid(), signal.SIGKILL)", "raise MemoryError('no room')"]
)
def test_a_lost_rank_ends_the_job_and_resume_goes_on(mpirun, data, tmp_path, way):
    """Rank 1 goes after its sixth step, of eight.

    Rank 0 would wait for it for ever: mpirun must end it.
    """
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
        ValueError, match="started by mpirun, and mpi4py cannot be used .*; install the extra mpi"
    ):
        parallel.start()


@pytest.mark.gpu
def test_one_rank_adds_by_nccl(xp):
    if xp is np:
        pytest.skip("NCCL is for GPUs: the variant of this test for CuPy")
    device = backend.select_device("cuda")
    with backend.current(device):
        try:
            add = parallel.NcclAdder(parallel.Processes())
        except backend.DeviceError as error:
            pytest.skip(str(error))
        stream = xp.cuda.Stream(non_blocking=True)
        for dtype in (xp.float32, xp.float64):
            with stream:
                values = xp.arange(7, dtype=dtype)
                add(values, stream)
            stream.synchronize()
            np.testing.assert_array_equal(backend.to_numpy(values), np.arange(7))
