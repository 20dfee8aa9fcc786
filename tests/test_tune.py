"""`dcfnet tune`: it finds a better setting, goes on after a kill as if nothing had been, and says
what is wrong.
"""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.cli import main
from dcfnet_np.evaluation import tune
from dcfnet_np.presets import get_preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou

FRAMES = {"grow0": 10, "grow1": 22}
# The target grows, which one scale cannot follow.  A small input: speed.
BASE = "default:input_size=47:num_scales=1"
WORDS = [
    "--preset",
    BASE,
    "--search",
    "num_scales=1|3,learning_rate=0.005:0.05:log",
    "--trials",
    "5",
    "--starts",
    "2",
]
WORDS += ["--frames", "12", "--seed", "4"]
CREATE_TRIAL = b'"op_code":4'  # in optuna's journal


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for number, (name, count) in enumerate(FRAMES.items()):
        scene = make_sequence(np.random.default_rng(number), count, 96, 72, (20, 16), growth=1.03)
        write_sequence(root / name, *scene)
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A search that nobody may write to."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["tune", str(data), "--out", str(out), *WORDS]) == 0
    return out


def rows(out):
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


# --- the search ---


def test_it_finds_the_better_setting(finished):
    trials = rows(finished)
    scores = [float(row["score"]) for row in trials]
    assert [int(row["trial"]) for row in trials] == list(range(5))
    # the preset as it is
    assert (trials[0]["num_scales"], trials[0]["learning_rate"]) == ("1", "0.015")
    assert max(scores) > scores[0] + 0.05
    best = trials[int(np.argmax(scores))]
    assert best["num_scales"] == "3"

    found = json.loads((finished / "best.json").read_text())
    told = found["provenance"]
    assert found["preset"] == "default"
    # num_scales is default's again
    assert set(found) <= {"preset", "input_size", "learning_rate", "provenance"}
    assert (
        told["score"] == {"base": scores[0], "best": max(scores)}
        and told["trials"] == 5
        and told["base"] == BASE
    )
    assert told["difference"]["mean"] == pytest.approx(max(scores) - scores[0])
    settings = get_preset(str(finished / "best.json"))
    assert (settings.num_scales, settings.input_size) == (3, 47)
    assert settings.learning_rate == float(best["learning_rate"])


def test_the_score_is_a_mean_over_starts_and_sequences(finished, data):
    """By hand: the short sequence is run once; the other twice, from the first frame and the middle
    of the first 3.
    """
    scores = []
    for sequence, starts in zip(datasets.load_dataset(data), ((0,), (0, 1))):
        for start in starts:
            tracker = Tracker("light", str(finished / "best.json"), "cpu")
            tracker.init(sequence.frame(start), sequence.boxes[start])
            later = range(start + 1, min(start + 12, len(sequence)))
            boxes = [tracker.update(sequence.frame(index)).box for index in later]
            overlap = np.append(iou(np.array(boxes), sequence.boxes[later.start : later.stop]), 1.0)
            scores.append((np.minimum(overlap, 1)[:, None] > np.linspace(0, 1, 21)).mean())
    told = json.loads((finished / "best.json").read_text())["provenance"]
    assert told["score"]["best"] == pytest.approx((scores[0] + np.mean(scores[1:])) / 2, abs=1e-12)
    assert told["sequences"]["grow1"]["best"] == pytest.approx(np.mean(scores[1:]), abs=1e-12)


def test_strides_leave_frames_out_and_turn_time_round(data, tmp_path, dcfnet):
    """By hand: grow1 at every third frame, and at every second one from the last on."""
    words = [
        "--search",
        "rounded_crop=true|false",
        "--preset",
        BASE,
        "--trials",
        "1",
        "--starts",
        "1",
    ]
    code, *_ = dcfnet(
        "tune",
        data,
        "--out",
        tmp_path / "out",
        *words,
        "--sequences",
        "grow1",
        "--strides",
        "3",
        "-2",
    )
    assert code == 0
    (sequence,) = datasets.load_dataset(data, ["grow1"])
    scores = []
    for order in (range(0, 22, 3), range(21, -1, -2)):
        tracker = Tracker("light", BASE, "cpu")
        tracker.init(sequence.frame(order[0]), sequence.boxes[order[0]])
        boxes = np.array([tracker.update(sequence.frame(index)).box for index in order[1:]])
        overlap = np.append(iou(boxes, sequence.boxes[list(order[1:])]), 1.0)
        scores.append((np.minimum(overlap, 1)[:, None] > np.linspace(0, 1, 21)).mean())
    told = json.loads((tmp_path / "out/best.json").read_text())["provenance"]
    assert told["strides"] == [3, -2]
    assert (
        told["score"]["base"] == pytest.approx(np.mean(scores), abs=1e-12)
        and scores[0] != scores[1]
    )


def test_a_thinned_sequence_keeps_rows_together(data):
    (sequence,) = datasets.load_dataset(data, ["grow1"])
    sequence = dataclasses.replace(sequence, visible=np.arange(22) % 5 > 0, first=4)
    for stride, first in ((3, 2), (1, 4), (-3, 0)):
        thin, kept = sequence.every(stride), range(22)[::stride]
        assert (
            thin.frames == tuple(sequence.frames[index] for index in kept) and thin.first == first
        )
        np.testing.assert_array_equal(thin.boxes, sequence.boxes[list(kept)])
        np.testing.assert_array_equal(thin.visible, sequence.visible[list(kept)])


def test_means_and_standard_error_by_hand():
    base = tune.Trial(0, {}, np.array([[0.5, 0.4, 0.6], [0.7, 0.6, 0.6]]))
    best = tune.Trial(3, {}, np.array([[0.6, 0.4, 0.9], [0.8, 0.6, 0.5]]))
    # differences 0.1, 0, 0.1: deviation 0.0577 over the root of 3
    mean, error = tune.paired(base, best)
    assert mean == pytest.approx(0.2 / 3) and error == pytest.approx(0.1 / 3)
    assert np.isnan(
        tune.paired(
            base._replace(scores=base.scores[:, :1]), best._replace(scores=best.scores[:, :1])
        ).error
    )


def test_several_weights_count_alike(data, network_file, tmp_path, dcfnet):
    words = [
        "--search",
        "rounded_crop=true|false",
        "--preset",
        "default:input_size=47",
        "--trials",
        "1",
        "--starts",
        "1",
    ]
    code, out, _ = dcfnet(
        "tune", data, "--out", tmp_path / "out", *words, "--weights", "light", network_file
    )
    assert (
        code == 0
        and "mean, light " in out
        and f"mean, {network_file.parent.name}/{network_file.name} " in out
    )
    told = json.loads((tmp_path / "out/best.json").read_text())["provenance"]
    both = [told["weights"][name]["base"] for name in ("light", str(network_file))]
    assert told["score"]["base"] == pytest.approx(np.mean(both)) and both[0] != both[1]
    assert "no trial is better than default" in out


# --- going on ---


def test_a_killed_search_goes_on_as_if_nothing_had_been(finished, data, tmp_path, dcfnet):
    words = ["tune", str(data), "--out", str(tmp_path / "out"), *WORDS]
    process = subprocess.Popen(
        [sys.executable, "-m", "dcfnet_np", *words, "--workers", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "out/study.log"
    for line in process.stdout:
        if line.startswith("trial 2"):
            break
    while log.read_bytes().count(CREATE_TRIAL) <= 3:  # until trial 3 is under way
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 3 <= len(rows(tmp_path / "out")) < 5
    with open(log, "ab") as torn:
        torn.write(b'{"op_code": 4, "work')  # as after a power cut
    log.with_name("study.log.lock").touch()  # a kill amid a line leaves it
    code, out, err = dcfnet(*words)
    assert code == 0 and err == "" and "trial 2:" not in out and "trial 4:" in out
    for name in ("trials.csv", "best.json"):
        assert (tmp_path / "out" / name).read_bytes() == (finished / name).read_bytes()

    before = log.read_bytes()
    again = dcfnet(*words)
    assert again[0] == 0 and "trial 4:" not in again[1] and again[1].splitlines()[0] in out
    assert log.read_bytes().count(CREATE_TRIAL) == before.count(CREATE_TRIAL)
    code, _, err = dcfnet(*words[:-1], "6")
    assert code == 2 and err.endswith("holds a search with another seed; choose another --out\n")


@pytest.mark.parametrize("word", [b'"scores"', b'"fields"'])
def test_a_log_without_scores_is_damaged(finished, data, tmp_path, dcfnet, word):
    shutil.copytree(finished, tmp_path / "out")
    log = tmp_path / "out/study.log"
    log.write_bytes(log.read_bytes().replace(word, b'"other"'))
    code, printed, err = dcfnet("tune", data, "--out", tmp_path / "out", *WORDS)
    assert (code, printed) == (
        2,
        "",
    ) and "study.log is damaged: trial 0 has no scores; choose another --out" in err


# --- bad input ---


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "learning_rat=0.1:0.2",
            "--search learning_rat=0.1:0.2: unknown field 'learning_rat' of a preset; known: input",
        ),
        ("name=a|b", "unknown field 'name'"),
        ("learning_rate", "--search 'learning_rate': expected FIELD=LOW:HIGH"),
        ("num_scales=3|5,num_scales=1:3", "each field once"),
        ("learning_rate=0.1:0.01", "the low end must be below the high end, got 0.1 and 0.01"),
        ("learning_rate=a:b", "learning_rate must be a finite number, got 'a'"),
        ("learning_rate=0:0.1:log", "a range with :log must begin above 0, got 0"),
        ("learning_rate=0.1:0.2:0.5", "the step must be above 0 and at most the range, got 0.5"),
        ("learning_rate=0.1:0.2:linear", "learning_rate must be a finite number, got 'linear'"),
        (
            "learning_rate=0.5:2",
            "--search allows learning_rate=2.0, but Preset: learning_rate must be in [0, 1]",
        ),
        ("num_scales=3:7", "--search allows num_scales=4, but Preset: num_scales must be odd"),
        ("num_scales=3|5.5", "num_scales must be a whole number, got '5.5'"),
        ("rounded_crop=false:true", "rounded_crop has no range; give choices"),
        ("rounded_crop=0|1", "rounded_crop must be true or false, got 0"),
        (
            "update_rule=ratio|mean",
            "but Preset: update_rule must be 'ratio' or 'averages', got 'mean'",
        ),
    ],
)
def test_a_wrong_search_is_one_line(search, message, tmp_path, dcfnet):
    code, out, err = dcfnet(
        "tune", tmp_path, "--out", tmp_path / "out", "--trials", "3", "--search", search
    )
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_else_may_be_wrong(data, tmp_path, dcfnet, monkeypatch):
    def fails(message, *words, root=data, out=tmp_path / "out"):
        words = [*words, "--search", "num_scales=3|5", "--trials", "3"]
        code, printed, err = dcfnet("tune", root, "--out", out, *words)
        assert code == 2 and printed == "" and message in err and err.count("\n") == 1

    fails("holds no sequences", root=tmp_path)
    fails("has no sequence walk", "--sequences", "walk")
    fails("unknown preset 'fast'", "--preset", "fast")
    fails("'mine.h5' is neither a file nor a packaged name", "--weights", "light", "mine.h5")
    fails("--weights names light twice", "--weights", "light", "light")
    fails("--strides must be whole numbers but 0, each once, got 0", "--strides", "1", "0")
    fails("--strides must be whole numbers but 0, each once, got 2", "--strides", "2", "2")
    fails("--seed must be from 0 to", "--seed", "-1")
    (tmp_path / "file").touch()
    fails("cannot make the folder", out=tmp_path / "file/out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/study.log").write_text("no journal\nat all\n")
    fails("study.log is damaged")
    monkeypatch.setitem(sys.modules, "optuna", None)
    fails("dcfnet tune needs optuna; install the extra: pip install 'dcfnet_np[tune]'")


def test_a_frame_that_cannot_be_read_stops_the_search(data, tmp_path, dcfnet):
    scene = make_sequence(np.random.default_rng(0), 8, 96, 72, (20, 16))
    write_sequence(tmp_path / "set/torn", *scene)
    (tmp_path / "set/torn/img/0005.jpg").write_bytes(b"no picture")
    words = ["--search", "num_scales=1|3", "--trials", "2", "--preset", BASE, "--starts", "1"]
    code, _, err = dcfnet("tune", tmp_path / "set", "--out", tmp_path / "out", *words)
    assert code == 1 and "light on torn" in err and "0005.jpg" in err and err.count("\n") == 1
