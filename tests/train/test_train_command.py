"""`dcfnet train`: options and presets, validation by tracking, pictures, and kill -9."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from training import read_log, write_crops, write_sequence

from dcfnet_np import weights
from dcfnet_np.train.checkpoint import GROUPS, load_checkpoint
from dcfnet_np.train.config import Config, recipe


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    return write_crops(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder with two sequences that nothing is learnt from."""
    root = tmp_path_factory.mktemp("tracked")
    for seed, name in enumerate(("dog", "elk")):
        write_sequence(root / name, 5, seed=10 + seed)
    return root


SHORT = (
    "--device", "cpu", "--epochs", 2, "--pairs-per-epoch", 0, "--batch", 8, "--validation-pairs", 4,
    "--no-pictures",
)  # fmt: skip


def test_a_run_with_everything(dcfnet, crops_file, tracked, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    run = tmp_path / "run"
    given = {"lr_start": 1e-3, "jitter": 4, "blur": 0.5, "seed": 3}
    options = [w for name, v in given.items() for w in (f"--{name.replace('_', '-')}", v)]
    words = [*SHORT[:-1], *options, "--track", tracked]
    code, out, err = dcfnet("train", crops_file, "--out", run, *words)
    assert (code, err) == (0, "")
    first, second, last = out.splitlines()
    assert first.startswith("epoch 1/2: loss ") and "waiting for crops" in second
    assert last == f"wrote {run / 'weights.h5'}"
    names = {"best.h5", "checkpoint.npz", "curves.png", "filters.png", "log.jsonl", "weights.h5"}
    assert {path.name for path in run.iterdir()} == names
    records = read_log(run)
    for record in records:
        assert set(record["sequences"]) == {"dog", "elk"} and 0 < record["success"] <= 1
        assert record["success"] == pytest.approx(np.mean(list(record["sequences"].values())))
        assert 0 <= record["waiting"] < 1 and record["tracking_seconds"] > 0
    best = weights.load_weights(str(run / "best.h5"))
    scores = [record["success"] for record in records]
    assert len(best.training["success"]) == 1 + scores.index(max(scores))
    trained = weights.load_weights(str(run / "weights.h5")).training
    assert trained["success"] == scores and trained["tracked_sequences"] == ["dog", "elk"]
    short = {"epochs": 2, "pairs_per_epoch": 0, "batch": 8, "validation_pairs": 4}
    expected = dataclasses.replace(recipe("default"), **short, **given)
    assert trained["config"] == expected.as_dict()
    curves, filters = (cv2.imread(str(run / name)) for name in ("curves.png", "filters.png"))
    assert min(curves.shape[:2]) > 100 and min(filters.shape[:2]) > 50
    assert len(np.unique(filters)) > 100  # not an empty page


def test_tracking_agrees_with_the_evaluation(dcfnet, crops_file, tracked, tmp_path):
    run, track = tmp_path / "run", ("--track", tracked, "--track-every", 2)
    assert dcfnet("train", crops_file, "--out", run, *SHORT, *track)[0] == 0
    records = read_log(run)
    assert "success" not in records[0]
    words = ["--trackers", f"dcfnet:{run / 'weights.h5'}:default", "--device", "cpu"]
    assert dcfnet("eval", tracked, "--out", tmp_path / "eval", *words)[0] == 0
    (result,) = json.loads((tmp_path / "eval" / "results.json").read_text())["trackers"].values()
    # boxes have four digits
    assert result["scores"]["success"] == pytest.approx(records[1]["success"], abs=1e-4)


def test_what_is_not_tracked(dcfnet, crops_file, tmp_path):
    """Sequences that are learnt from, and those with nothing to score by."""
    words = ["train", crops_file, "--out", tmp_path / "run", *SHORT, "--track"]
    code, _, err = dcfnet(*words, crops_file.parent / "ant")
    assert code == 2 and "ant of" in err and "is also learnt from" in err
    truth = write_sequence(tmp_path / "set/fly", 4, seed=3) / "groundtruth_rect.txt"
    truth.write_text(truth.read_text().splitlines()[0])
    code, _, err = dcfnet(*words, tmp_path / "set")
    assert code == 2 and "fly of" in err and "has no box after its first: nothing to score" in err


BAD = {
    "unknown preset 'mine'; known: default,": ("--preset", "mine"),
    "padding must be that of": ("--preset", "paper"),
    "arch must be one of": ("--arch", "vgg"),
    "jitter up to 24, got 25": ("--jitter", 25),
    "--mean: must be numbers with commas": ("--mean", "a,b,c"),
    "--checkpoint-seconds at least 0": ("--checkpoint-seconds", "nan"),
    "--track-every must be at least 1": ("--track-every", 0),
    "tf32 is for a GPU": ("--tf32", "--device", "cpu"),
    "there is no file": (),
}


def test_bad_input(dcfnet, crops_file, tmp_path):
    for message, words in BAD.items():
        crops = crops_file if words else tmp_path / "none.h5"
        code, out, err = dcfnet("train", crops, "--out", tmp_path / "run", *words)
        assert (code, out) == (2, "") and err.count("\n") == 1 and message in err
        assert not (tmp_path / "run").exists()


def test_resume_takes_the_settings_of_the_run(dcfnet, crops_file, tmp_path):
    run = tmp_path / "run"
    again = ["train", crops_file, "--out", run, "--resume", "--device", "cpu"]
    assert dcfnet("train", crops_file, "--out", run, *SHORT, "--seed", 5)[0] == 0
    first = weights.load_weights(str(run / "weights.h5"))
    code, _, err = dcfnet("train", crops_file, "--out", run, *SHORT)
    assert code == 2 and "already holds a run; resume it" in err
    (run / "weights.h5").unlink()
    assert dcfnet(*again)[0] == 0
    second = weights.load_weights(str(run / "weights.h5"))
    assert weights.parameter_digest(second.parameters) == weights.parameter_digest(first.parameters)
    assert second.training == first.training
    code, _, err = dcfnet(*again, "--epochs", 3)
    assert code == 2 and "made with epochs 2; give the same" in err


def test_divergence_is_exit_code_1(dcfnet, crops_file, tmp_path):
    words = ["train", crops_file, "--out", tmp_path / "run", *SHORT, "--divergence", 1e-3]
    code, _, err = dcfnet(*words)
    *named, error = err.splitlines()
    assert code == 1 and named and all(line.startswith("dcfnet: warning: ") for line in named)
    assert re.search(r"lower lr_start, or leave out .* \(the batch is in ", error)
    assert (tmp_path / "run" / "diverged.npz").exists()


# --- kill -9

KILLED = Config(
    batch=4, validation_pairs=4, jitter=3, light=0.2, flip=True, lr_end=1e-3, seed=2,
    optimiser="adam", averaging=0.9,
)  # fmt: skip
CLIPS = {"frames": 4, "learn": "lam,sigma,window,rate", "cosine_window": 0.5}
PROGRAM = """
import dataclasses, sys
from test_train_command import CLIPS, KILLED
from training import train
more = CLIPS if sys.argv[5] == "clips" else {}
config = dataclasses.replace(KILLED, epochs=int(sys.argv[4]), **more)
train(sys.argv[1], config, sys.argv[2], resume=True, track=sys.argv[3],
      track_every=config.epochs // 3, checkpoint_seconds=0)
"""


def start(crops_file, run, tracked, epochs, what):
    """The run in a process of its own, a checkpoint after every step."""
    words = map(str, (crops_file, run, tracked, epochs, what))
    command = [sys.executable, "-c", PROGRAM, *words]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)


def final(run):
    """What a run left, to the bit: weights, log without what is of the clock, checkpoint."""
    clock = ("seconds", "pairs_per_second", "waiting", "tracking_seconds")
    log = [{k: value for k, value in record.items() if k not in clock} for record in read_log(run)]
    files = [weights.load_weights(str(run / name)) for name in ("weights.h5", "best.h5")]
    state = load_checkpoint(run / "checkpoint.npz")
    arrays = [
        (name, value.tobytes()) for group in GROUPS for name, value in getattr(state, group).items()
    ]
    return [(weights.parameter_digest(f.parameters), f.training) for f in files], log, arrays


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize(
    "kills, epochs, what",
    [
        (3, 12, "pairs"),
        pytest.param(20, 60, "pairs", marks=pytest.mark.slow),
        pytest.param(20, 60, "clips", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(crops_file, tracked, tmp_path, kills, epochs, what):
    """Until so many kills have hit; every run ends the same."""
    whole, seed, moments = tmp_path / "whole", random.Random(5), []
    began = time.perf_counter()
    assert start(crops_file, whole, tracked, epochs, what).wait(PATIENCE) == 0
    duration, expected, number = time.perf_counter() - began, final(whole), 0
    while number == 0 or len(moments) < kills:
        broken = tmp_path / f"broken{number}"
        process = start(crops_file, broken, tracked, epochs, what)
        if len(moments) < kills:
            time.sleep(seed.uniform(0.05, 0.6 * duration))
            process.send_signal(signal.SIGKILL)  # does nothing to a run that is over
        if process.wait(PATIENCE) == -signal.SIGKILL:
            there = (broken / "checkpoint.npz").exists()
            state = load_checkpoint(broken / "checkpoint.npz") if there else None
            moments.append(None if state is None else (state.epoch, state.steps))
        else:
            assert process.returncode == 0 and final(broken) == expected
            number += 1
    print("killed after (epochs, steps):", *moments)
    assert kills < 20 or len(set(moments)) >= 10
