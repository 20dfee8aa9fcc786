"""`dcfnet train`: options and presets, validation by tracking, pictures, the reader, and kill -9
with --resume.
"""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from test_train import SIZE, write_sequence

from dcfnet_np import network, presets, weights
from dcfnet_np.train import prepare
from dcfnet_np.train.checkpoint import GROUPS, load_checkpoint
from dcfnet_np.train.config import Config, recipe
from dcfnet_np.train.reader import AHEAD, prefetch

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def crops_file(tmp_path_factory):
    """Three sequences; the digest of its name decides that bee is held out."""
    root = tmp_path_factory.mktemp("sequences")
    folders = [
        write_sequence(root / name, 8 + i, seed=i) for i, name in enumerate(("ant", "bee", "cat"))
    ]
    prepare.prepare(folders, root / "crops.h5", size=SIZE)
    return root / "crops.h5"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder with two sequences that nothing is learnt from."""
    root = tmp_path_factory.mktemp("tracked")
    for seed, name in enumerate(("dog", "elk")):
        write_sequence(root / name, 5, seed=10 + seed)
    return root


SHORT = (
    "--device", "cpu", "--epochs", 2, "--pairs-per-epoch", 0, "--batch", 8, "--validation-pairs", 4, "--no-pictures",
)  # fmt: skip


def test_a_run_with_everything(dcfnet, crops_file, tracked, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    run = tmp_path / "run"
    words = [
        *SHORT[:-1],
        "--lr-start",
        "1e-3",
        "--track",
        tracked,
        "--jitter",
        4,
        "--blur",
        0.5,
        "--seed",
        3,
    ]
    code, out, err = dcfnet("train", crops_file, "--out", run, *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert (
        len(lines) == 3
        and lines[0].startswith("epoch 1/2: loss ")
        and "waiting for crops" in lines[1]
    )
    assert lines[2] == f"wrote {run / 'weights.h5'}"
    names = {"best.h5", "checkpoint.npz", "curves.png", "filters.png", "log.jsonl", "weights.h5"}
    assert {path.name for path in run.iterdir()} == names
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for record in records:
        assert set(record["sequences"]) == {"dog", "elk"} and 0 < record["success"] <= 1
        assert record["success"] == pytest.approx(np.mean(list(record["sequences"].values())))
        assert 0 <= record["waiting"] < 1 and record["tracking_seconds"] > 0
    best = weights.load_weights(str(run / "best.h5"))
    scores = [record["success"] for record in records]
    assert len(best.training["success"]) == 1 + scores.index(max(scores))
    trained = weights.load_weights(str(run / "weights.h5")).training
    assert trained["success"] == scores and trained["tracked_sequences"] == ["dog", "elk"]
    expected = dataclasses.replace(
        recipe("default"),
        epochs=2,
        pairs_per_epoch=0,
        batch=8,
        validation_pairs=4,
        lr_start=1e-3,
        jitter=4,
        blur=0.5,
        seed=3,
    )
    assert trained["config"] == expected.as_dict()
    curves, filters = (cv2.imread(str(run / name)) for name in ("curves.png", "filters.png"))
    assert min(curves.shape[:2]) > 100 and min(filters.shape[:2]) > 50
    assert len(np.unique(filters)) > 100  # not an empty page


def test_tracking_agrees_with_the_evaluation(dcfnet, crops_file, tracked, tmp_path):
    run = tmp_path / "run"
    assert (
        dcfnet("train", crops_file, "--out", run, *SHORT, "--track", tracked, "--track-every", 2)[0]
        == 0
    )
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert "success" not in records[0]
    words = ["--trackers", f"dcfnet:{run / 'weights.h5'}:default", "--device", "cpu"]
    assert dcfnet("eval", tracked, "--out", tmp_path / "eval", *words)[0] == 0
    (result,) = json.loads((tmp_path / "eval" / "results.json").read_text())["trackers"].values()
    # boxes have four digits
    assert result["scores"]["success"] == pytest.approx(records[1]["success"], abs=1e-4)


def test_what_is_learnt_is_not_tracked(dcfnet, crops_file, tmp_path):
    code, _, err = dcfnet(
        "train", crops_file, "--out", tmp_path / "run", *SHORT, "--track", crops_file.parent / "ant"
    )
    assert code == 2 and "ant of" in err and "is also learnt from" in err


def test_what_cannot_be_scored_is_not_tracked(dcfnet, crops_file, tmp_path):
    write_sequence(tmp_path / "set/fly", 4, seed=3)
    truth = tmp_path / "set/fly/groundtruth_rect.txt"
    truth.write_text(truth.read_text().splitlines()[0])
    code, _, err = dcfnet(
        "train", crops_file, "--out", tmp_path / "run", *SHORT, "--track", tmp_path / "set"
    )
    assert (
        code == 2 and "fly of" in err and "has no box after its first: nothing to score by" in err
    )


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_has_its_recipe(name):
    config, preset = recipe(name), presets.get_preset(name)
    assert config.preset == name
    for field in ("padding", "sigma_factor", "lam", "lam_divisor"):
        assert getattr(config, field) == getattr(preset, field), field
    assert network.feature_size(125, config.arch, "valid") == 121


def test_a_preset_from_a_file_has_the_recipe_of_the_one_it_names(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"preset": "paper", "learning_rate": 0.02}')
    assert recipe(str(path)) == dataclasses.replace(
        recipe("paper"), preset="paper:learning_rate=0.02"
    )
    assert recipe("careful:num_scales=5").epochs == recipe("default").epochs


def test_recipes_are_the_papers_and_the_codes():
    paper = recipe("paper")
    assert (paper.arch, paper.pairs, paper.max_gap, paper.batch, paper.epochs) == (
        "conv1",
        "all",
        10,
        16,
        20,
    )
    assert {paper.learning_rate(epoch) for epoch in range(20)} == {1e-5}
    assert (paper.momentum, paper.weight_decay) == (0.9, 5e-4)
    v2 = recipe("matlab-v2")
    np.testing.assert_allclose([v2.learning_rate(e) for e in range(50)], np.logspace(-2, -5, 50))
    assert v2.regulariser(125) == pytest.approx(1e-4 * 121 * 121 * 32)  # energies divided by H W C
    pytorch = recipe("pytorch")
    assert (pytorch.batch, pytorch.weight_decay, pytorch.mean) == (32, 5e-5, (109.0, 120.0, 119.0))
    assert pytorch.regulariser(125) == 1e-4 and pytorch.pairs == "ahead"
    for name in ("paper", "matlab-v1", "matlab-v2", "pytorch"):
        assert not recipe(name).augmentation.cuts and not recipe(name).augmentation.relights


def test_bad_input(dcfnet, crops_file, tmp_path):
    def error(*words, crops=crops_file):
        code, out, err = dcfnet("train", crops, "--out", tmp_path / "run", *words)
        assert (code, out) == (2, "") and err.count("\n") == 1 and not (tmp_path / "run").exists()
        return err

    assert "there is no file" in error(crops=tmp_path / "none.h5")
    assert "unknown preset 'mine'; known: default," in error("--preset", "mine")
    assert "padding must be that of" in error("--preset", "paper")
    assert "arch must be one of" in error("--arch", "vgg")
    assert "jitter up to 24, got 25" in error("--jitter", 25)
    assert "needs lr_steps" in error("--schedule", "step")
    assert "lr_steps must be rising" in error("--schedule", "step", "--lr-steps", "4,2")
    assert "--lr-steps: must be whole numbers with commas" in error(
        "--schedule", "step", "--lr-steps", "4,x"
    )
    assert "--mean: must be numbers with commas" in error("--mean", "a,b,c")
    assert "--checkpoint-seconds at least 0" in error("--checkpoint-seconds", "nan")
    assert "--track-every must be at least 1" in error("--track-every", 0)
    assert "tf32 is for a GPU" in error("--tf32", "--device", "cpu")


def test_resume_takes_the_settings_of_the_run(dcfnet, crops_file, tmp_path):
    run = tmp_path / "run"
    assert dcfnet("train", crops_file, "--out", run, *SHORT, "--seed", 5)[0] == 0
    first = weights.load_weights(str(run / "weights.h5"))
    code, _, err = dcfnet("train", crops_file, "--out", run, *SHORT)
    assert code == 2 and "already holds a run; resume it" in err
    (run / "weights.h5").unlink()
    assert dcfnet("train", crops_file, "--out", run, "--resume", "--device", "cpu")[0] == 0
    again = weights.load_weights(str(run / "weights.h5"))
    assert (
        weights.parameter_digest(again.parameters) == weights.parameter_digest(first.parameters)
        and again.training == first.training
    )
    code, _, err = dcfnet(
        "train", crops_file, "--out", run, "--resume", "--device", "cpu", "--epochs", 3
    )
    assert code == 2 and "made with epochs 2; give the same" in err


def test_divergence_is_exit_code_1(dcfnet, crops_file, tmp_path):
    code, _, err = dcfnet(
        "train", crops_file, "--out", tmp_path / "run", *SHORT, "--divergence", 1e-3
    )
    *named, error = err.splitlines()
    assert code == 1 and named and all(line.startswith("dcfnet: warning: ") for line in named)
    assert re.search(r"lower lr_start, or leave out .* \(the batch is in ", error)
    assert (tmp_path / "run" / "diverged.npz").exists()


# --- the reader
# -------------------------------------------------------------------------------------------


def test_batches_are_read_while_others_compute():
    """While batch 0 is in work, AHEAD batches are read, and no more."""
    read, enough = [], threading.Event()

    def slow(batch):
        read.append(int(batch[0]))
        if len(read) == AHEAD + 1:
            enough.set()
        return batch * 10

    batches = [np.array([number]) for number in range(3 * AHEAD)]
    reader = prefetch(slow, batches)
    first, crops = next(reader)
    assert (first, crops) == (0, 0) and enough.wait(PATIENCE)
    time.sleep(0.05)
    assert len(read) == AHEAD + 1
    assert [(int(b[0]), int(c[0])) for b, c in reader] == [(n, 10 * n) for n in range(1, 3 * AHEAD)]


def test_an_error_of_the_reader_comes_in_its_turn():
    def fails(batch):
        if batch[0] == 1:
            raise OSError("the disk is gone")
        return batch

    reader = prefetch(fails, [np.array([n]) for n in range(3)])
    assert next(reader)[0] == 0
    with pytest.raises(OSError, match="the disk is gone"):
        next(reader)
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("dcfnet-reader")
    ]


# --- kill -9
# ----------------------------------------------------------------------------------------------

KILLED = Config(
    batch=4,
    validation_pairs=4,
    jitter=3,
    light=0.2,
    flip=True,
    lr_end=1e-3,
    seed=2,
    optimiser="adam",
    averaging=0.9,
)
PROGRAM = """
import dataclasses, sys
from dcfnet_np.train import loop
from test_train_run import KILLED
config = dataclasses.replace(KILLED, epochs=int(sys.argv[4]))
loop.train(sys.argv[1], config, sys.argv[2], device="cpu", resume=True, track=sys.argv[3],
           track_every=config.epochs // 3, checkpoint_seconds=0)
"""


def start(crops_file, run, tracked, epochs):
    """The run in a process of its own, a checkpoint after every step."""
    command = [sys.executable, "-c", PROGRAM, str(crops_file), str(run), str(tracked), str(epochs)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS / 'support'}",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def final(run):
    """What a run left: weights and log, without what is of the clock."""
    state = load_checkpoint(run / "checkpoint.npz")
    clock = ("seconds", "pairs_per_second", "waiting", "tracking_seconds")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in record.items() if key not in clock} for record in log]
    arrays = {
        f"{group}/{name}": value
        for group in GROUPS
        for name, value in getattr(state, group).items()
    }
    files = [weights.load_weights(str(run / name)) for name in ("weights.h5", "best.h5")]
    return (
        [(weights.parameter_digest(file.parameters), file.training) for file in files],
        log,
        arrays,
    )


def kill_and_resume(kills, epochs, crops_file, tracked, folder):
    """Kill runs at random moments, from start-up to the last file, until `kills` have hit; every
    run ends the same.

    Returns after how many steps the kills came.
    """
    whole, seed, moments = folder / "whole", random.Random(5), []
    began = time.perf_counter()
    assert start(crops_file, whole, tracked, epochs).wait(PATIENCE) == 0
    duration = time.perf_counter() - began
    expected, broken, number = final(whole), folder / "broken0", 0
    while len(moments) < kills:
        process = start(crops_file, broken, tracked, epochs)
        time.sleep(seed.uniform(0.05, 0.6 * duration))
        process.send_signal(signal.SIGKILL)  # does nothing to a run that is over
        code = process.wait(PATIENCE)
        if code == -signal.SIGKILL:
            there = (broken / "checkpoint.npz").exists()
            state = load_checkpoint(broken / "checkpoint.npz") if there else None
            moments.append(None if state is None else (state.epoch, state.steps))
        else:
            assert code == 0, process.stderr.read()
            compare(final(broken), expected)
            number += 1
            broken = folder / f"broken{number}"
    process = start(crops_file, broken, tracked, epochs)
    assert process.wait(PATIENCE) == 0, process.stderr.read()
    compare(final(broken), expected)
    return moments


def compare(got, expected):
    """To the bit."""
    assert got[:2] == expected[:2]
    assert list(got[2]) == list(expected[2])
    for name, value in expected[2].items():
        np.testing.assert_array_equal(got[2][name], value)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_three_kills(crops_file, tracked, tmp_path):
    kill_and_resume(3, 12, crops_file, tracked, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_twenty_kills(crops_file, tracked, tmp_path, capsys):
    moments = kill_and_resume(20, 60, crops_file, tracked, tmp_path)
    with capsys.disabled():
        print("\nkilled after (epochs, steps):", *moments)
    assert len(moments) == 20 and len(set(moments)) >= 10
