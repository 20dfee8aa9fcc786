"""`dcfnet tune`: it finds a better setting, goes on after a kill, and says what is wrong."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets, weights
from dcfnet_np.cli import main
from dcfnet_np.evaluation import tune
from dcfnet_np.presets import get_preset
from dcfnet_np.tracker import Tracker
from dcfnet_np.vision.boxes import iou

FRAMES = {"grow0": 10, "grow1": 22}
# The target grows, which one scale cannot follow.  A small input: speed.
BASE = "default:input_size=47:num_scales=1"
SEARCH = "num_scales=1|3,learning_rate=0.005:0.05:log"
WORDS = ["--preset", BASE, "--search", SEARCH, "--trials", "5", "--starts", "2"]
WORDS += ["--frames", "12", "--seed", "4"]
ONE = ["--search", "num_scales=1|3", "--preset", BASE, "--trials", "1", "--starts", "1"]
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
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_best(out):
    return json.loads((out / "best.json").read_text())


# --- the search


def test_it_finds_the_better_setting(finished):
    trials = rows(finished)
    scores = [float(row["score"]) for row in trials]
    assert [int(row["trial"]) for row in trials] == list(range(5))
    # the preset as it is
    assert (trials[0]["num_scales"], trials[0]["learning_rate"]) == ("1", "0.015")
    assert max(scores) > scores[0] + 0.05
    best, found = trials[int(np.argmax(scores))], read_best(finished)
    assert best["num_scales"] == "3" and found["preset"] == "default"
    # num_scales is default's again
    assert set(found) <= {"preset", "input_size", "learning_rate", "provenance"}
    told = found["provenance"]
    assert told["score"] == {"base": scores[0], "best": max(scores)}
    assert told["trials"] == 5 and told["base"] == BASE
    assert told["difference"]["mean"] == pytest.approx(max(scores) - scores[0])
    settings = get_preset(str(finished / "best.json"))
    assert (settings.num_scales, settings.input_size) == (3, 47)
    assert settings.learning_rate == float(best["learning_rate"])


def auc(preset, sequence, order):
    """Of a run over these frames, by hand; the first counts as right."""
    tracker = Tracker("light", preset, "cpu")
    tracker.init(sequence.frame(order[0]), sequence.boxes[order[0]])
    boxes = np.array([tracker.update(sequence.frame(index)).box for index in order[1:]])
    overlap = np.append(iou(boxes, sequence.boxes[list(order[1:])]), 1.0)
    return (np.minimum(overlap, 1)[:, None] > np.linspace(0, 1, 21)).mean()


def test_the_score_is_a_mean_over_starts_and_sequences(finished, data):
    """The short sequence is run once; the other from its first frame and the second of 3."""
    first, second = datasets.load_dataset(data)
    preset = str(finished / "best.json")
    alone = auc(preset, first, range(10))
    pair = (auc(preset, second, range(12)) + auc(preset, second, range(1, 13))) / 2
    told = read_best(finished)["provenance"]
    assert told["score"]["best"] == pytest.approx((alone + pair) / 2, abs=1e-12)
    assert told["sequences"]["grow1"]["best"] == pytest.approx(pair, abs=1e-12)


def test_strides_leave_frames_out_and_turn_time_round(data, tmp_path, dcfnet):
    """grow1 at every third frame, and at every second one from the last on."""
    words = [*ONE, "--sequences", "grow1", "--strides", "3", "-2", "--out", tmp_path]
    assert dcfnet("tune", data, *words)[0] == 0
    (sequence,) = datasets.load_dataset(data, ["grow1"])
    scores = [auc(BASE, sequence, order) for order in (range(0, 22, 3), range(21, -1, -2))]
    told = read_best(tmp_path)["provenance"]
    assert told["strides"] == [3, -2] and scores[0] != scores[1]
    assert told["score"]["base"] == pytest.approx(np.mean(scores), abs=1e-12)


def test_means_and_standard_error_by_hand():
    base = tune.ScoredTrial(0, {}, [[0.5, 0.4, 0.6], [0.7, 0.6, 0.6]])
    best = tune.ScoredTrial(3, {}, [[0.6, 0.4, 0.9], [0.8, 0.6, 0.5]])
    # differences 0.1, 0, 0.1: deviation 0.0577 over the root of 3
    assert tune.paired_difference(base, best) == pytest.approx((0.2 / 3, 0.1 / 3))
    one, other = (
        trial._replace(scores=[row[:1] for row in trial.scores]) for trial in (base, best)
    )
    assert np.isnan(tune.paired_difference(one, other)[1])


def test_several_weights_count_alike(data, network_file, tmp_path, dcfnet):
    names, told = ("light", str(network_file)), {}
    one = [*ONE, "--preset", "default:input_size=47", "--weights"]
    for words in ((names[0],), (names[1],), names):
        out = tmp_path / str(len(told))
        assert dcfnet("tune", data, *one, *words, "--out", out)[0] == 0
        told[words] = read_best(out)["provenance"]
    scores = [each["score"]["base"] for each in told.values()]
    assert scores[2] == pytest.approx(np.mean(scores[:2])) and scores[0] != scores[1]
    for name in names:
        digest = weights.parameter_digest(weights.load_weights(name).parameters)
        assert told[names]["weights"][name] == digest


# --- going on


def test_a_killed_search_goes_on_as_if_nothing_had_been(finished, data, tmp_path, dcfnet):
    out = tmp_path / "out"
    words, log = ["tune", str(data), "--out", str(out), *WORDS], out / "study.log"
    command = [sys.executable, "-m", "dcfnet_np", *words, "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("trial 2"):
                break
        while log.read_bytes().count(CREATE_TRIAL) <= 3:  # until trial 3 is under way
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert 3 <= len(rows(out)) < 5
    with log.open("ab") as torn:
        torn.write(b'{"op_code": 4, "work')  # as after a power cut
    log.with_name("study.log.lock").touch()  # a kill amid a line leaves it
    code, printed, err = dcfnet(*words)
    assert (code, err) == (0, "") and "trial 2:" not in printed and "trial 4:" in printed
    for name in ("trials.csv", "best.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    count = log.read_bytes().count(CREATE_TRIAL)
    code, again, _ = dcfnet(*words)
    assert code == 0 and "trial 4:" not in again and again.splitlines()[0] in printed
    assert log.read_bytes().count(CREATE_TRIAL) == count
    code, _, err = dcfnet(*words[:-1], "6")
    assert code == 2 and err.endswith("holds a search with another seed; choose another --out\n")


def test_a_log_without_scores_is_damaged(finished, data, tmp_path, dcfnet):
    log = (finished / "study.log").read_bytes().replace(b'"scores"', b'"other"')
    (tmp_path / "study.log").write_bytes(log)
    code, printed, err = dcfnet("tune", data, "--out", tmp_path, *WORDS)
    text = "study.log is damaged: a trial has no scores; choose another --out"
    assert (code, printed) == (2, "") and text in err


# --- bad input

RANGE = "expected FIELD=LOW:HIGH"
SCALES = "--search num_scales=3:7: num_scales must be odd and positive, got 4"


@pytest.mark.parametrize(("search", "message"), [
    ("learning_rat=0.1:0.2", "--search learning_rat=0.1:0.2: unknown field 'learning_rat'"),
    ("name=a|b", "unknown field 'name'"),
    ("learning_rate", f"--search 'learning_rate': {RANGE}"),
    ("num_scales=3|5,num_scales=1:3", "each field once"),
    ("learning_rate=0.1:0.01", "`low <= high` must hold"),
    ("learning_rate=a:b", "learning_rate must be a finite number, got 'a'"),
    ("learning_rate=0:0.1:log", "`low > 0` must hold for `log=True`"),
    ("learning_rate=0.5:2", "--search learning_rate=0.5:2: learning_rate must be in"),
    ("num_scales=3:7", SCALES),
    ("num_scales=3|5.5", "num_scales must be a whole number, got '5.5'"),
    ("rounded_crop=false:true", "rounded_crop has no range; give choices"),
    ("update_rule=ratio|mean", "update_rule must be 'ratio' or 'averages', got 'mean'"),
])  # fmt: skip
def test_a_wrong_search_is_one_line(search, message, tmp_path, dcfnet):
    words = ["--out", tmp_path / "out", "--trials", "3", "--search", search]
    code, out, err = dcfnet("tune", tmp_path, *words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "message"), [
    (["--sequences", "walk"], "has no sequence walk"),
    (["--preset", "fats"], "unknown preset 'fats'"),
    (["--weights", "light", "mine.h5"], "'mine.h5' is neither a file nor a packaged name"),
    (["--strides", "1", "0"], "--strides must be whole numbers but 0"),
])  # fmt: skip
def test_wrong_words_are_one_line(data, tmp_path, dcfnet, words, message):
    code, printed, err = dcfnet("tune", data, "--out", tmp_path / "out", *ONE, *words)
    assert (code, printed) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_else_may_be_wrong(data, tmp_path, dcfnet, monkeypatch):
    def fails(message, root=data, out=tmp_path / "out", code=2):
        found, printed, err = dcfnet("tune", root, "--out", out, *ONE)
        assert (found, printed) == (code, "") and message in err and err.count("\n") == 1

    fails("holds no sequences", root=tmp_path)
    (tmp_path / "file").touch()
    fails("cannot make the folder", out=tmp_path / "file/out")
    shutil.copytree(data / "grow0", tmp_path / "set/torn")
    (tmp_path / "set/torn/img/0005.jpg").write_bytes(b"no picture")
    fails("light on torn-0: SourceError: ", tmp_path / "set", tmp_path / "torn", code=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/study.log").write_text("no journal\nat all\n")
    fails("study.log is damaged")
    monkeypatch.setitem(sys.modules, "optuna", None)
    fails("dcfnet tune needs optuna; install the extra: pip install 'dcfnet_np[train]'")


# --- what is told, with made-up scores


@pytest.fixture
def search(data, tmp_path):
    config = tune.SearchConfig("learning_rate=0.01:0.05", starts=1)
    return tune.PresetSearch(config, datasets.load_dataset(data), tmp_path / "out")


def add(search, *scores):
    """Trials with these scores of the sequences; the first is the preset as it is."""
    for number, row in enumerate(scores):
        search.next_trial(lambda jobs, row=row: [list(row)])
        assert list(search.trials()[-1].fields) == (["learning_rate"] if number else [])


@pytest.mark.parametrize(("best", "words"), [
    ((0.4, 0.5), "no trial is better than default"),
    ((0.5, 0.6),
     r"difference \+0.0500, standard error 0.0500: no more than noise"),
    ((0.56, 0.68), r"\+0.1200, standard error 0.0600; the best of many is flattered"),
])  # fmt: skip
def test_the_verdict(search, best, words):
    add(search, (0.5, 0.5), best)
    assert re.search(words, tune.search_verdict(search))


def test_the_first_of_the_best(search):
    add(search, (0.5, 0.5), (0.7, 0.6), (0.6, 0.7), (0.1, 0.1))
    assert tune.search_table(search) == [
        ("", "base", "trial 1", "difference"),
        ("grow0", "0.500", "0.700", "+0.200"),
        ("grow1", "0.500", "0.600", "+0.100"),
        ("mean", "0.5000", "0.6500", "+0.1500"),
    ]
