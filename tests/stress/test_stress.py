"""Trials, verdicts, runs that go on, and the command `stress`."""

import json
import re

import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.stress import run
from dcfnet_np.stress.summary import calibrate, interval, summarise
from dcfnet_np.stress.trials import Trial, judge, make_scenes, there_and_back, tracked_rows

FEW = ["--disturbances", "none,jump", "--trackers", "identity,gray-dcf"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for number in range(2):
        scene = make_sequence(np.random.default_rng(number), 14, 128, 96, (24, 18), (0.9, 0.6))
        write_sequence(root / f"walk{number}", *scene)
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that nobody may write to."""
    from dcfnet_np.cli import main

    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["stress", str(data), *FEW, "--out", str(out)]) == 0
    return out


# --- trials


def test_there_and_back():
    assert [there_and_back(k, 4) for k in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [there_and_back(k, 1) for k in range(3)] == [0, 0, 0]


def test_only_the_longest_part_with_a_target_is_used():
    boxes = np.tile([5.0, 5, 20, 30], (40, 1))
    boxes[3] = np.nan  # absent
    boxes[20, 2] = 8  # too small
    visible = np.ones(40, bool)
    visible[35] = False
    sequence = datasets.Sequence("a", "otb", (None,) * 40, boxes, visible=visible)
    assert tracked_rows(sequence) == range(4, 20)
    short = datasets.Sequence("b", "otb", (None,) * 9, boxes[4:13])
    with pytest.raises(datasets.DatasetError, match="^b: nowhere is the target annotated"):
        tracked_rows(short)


def test_scenes_begin_as_the_video_and_depend_on_the_seed_alone():
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (12, 40, 50, 3), np.uint8))
    boxes = np.tile([10.0, 8, 15, 13], (12, 1)) + np.arange(12)[:, None] * [1, 0, 0, 0]
    trial = Trial("a", "noise", 25.0, 5)
    scenes = list(make_scenes(trial, frames, boxes, frames[0], 1))
    assert len(scenes) == trial.frames
    for number, scene in enumerate(scenes):
        index = there_and_back(5 + number, 12)
        assert (scene.box == boxes[index]).all()
        assert (scene.frame == frames[index]).all() == (number < trial.begins)
    again = make_scenes(trial, frames, boxes, frames[0], 1)
    assert all((a.frame == b.frame).all() for a, b in zip(scenes, again))
    other = list(make_scenes(trial, frames, boxes, frames[0], 2))
    assert (other[-1].frame != scenes[-1].frame).any()


def test_dropped_frames_are_passed_over():
    frames = [np.full((9, 9, 3), k, np.uint8) for k in range(120)]
    trial = Trial("a", "dropped", 5.0, 0)
    scenes = make_scenes(trial, frames, np.ones((120, 4)), frames[0], 0)
    seen = [int(scene.frame[0, 0, 0]) for scene in scenes]
    expected = [*range(trial.begins), *range(trial.begins + 5, trial.frames + 5)]
    assert seen == expected


# --- verdicts

TRIAL = Trial("a", "occlusion", 5.0, 0)  # 15 frames, then 15 of an occluder, then 25
TRUTH = np.tile([10.0, 10, 20, 20], (55, 1))
AWAY = np.array([50.0, 50, 20, 20])


@pytest.mark.parametrize(("off", "outcome", "found_after"), [
    ([], "kept", 0),
    (range(15, 30), "kept", 0),  # what happens during it does not count
    (range(15, 32), "kept", 2),
    (range(15, 40), "found", 10),
    ([45], "found", 16),
    (range(15, 55), "lost", None),
    ([51], "lost", 22),  # not on it in the last frames
])  # fmt: skip
def test_outcomes_by_hand(off, outcome, found_after):
    boxes = TRUTH.copy()
    boxes[[*off]] = AWAY
    verdict = judge(TRIAL, TRUTH, boxes)
    assert (verdict.outcome, verdict.found_after) == (outcome, found_after)
    lost = sum(frame >= 30 for frame in off)
    assert verdict.before == 1 and verdict.after == pytest.approx(1 - lost / 25)


def test_growth_is_against_the_true_size():
    boxes = TRUTH.copy()
    boxes[20, 2:] = 60  # three times the size
    assert judge(TRIAL, TRUTH, boxes).growth == pytest.approx(3)
    truth = TRUTH.copy()
    truth[20, 2:] = 60
    assert judge(TRIAL, truth, boxes).growth == pytest.approx(1)
    truth[20] = np.nan  # not to be seen: nobody knows its size
    assert judge(TRIAL, truth, boxes).growth == pytest.approx(1)


def test_the_share_of_survivors_is_a_mean_over_videos():
    def record(video, strength, lost):
        trial = Trial(video, "occlusion", strength, 0)
        truth = np.tile(TRUTH[0], (trial.frames, 1))
        boxes = truth + (np.arange(trial.frames) >= 30)[:, None] * 60 * lost
        return run.TrialRecord(trial, boxes, truth, *np.zeros((2, trial.frames)))

    rows = [record("a", 5.0, False), record("a", 10.0, True), record("b", 5.0, True)]
    found = summarise(rows)
    assert found["occlusion"]["survived"] == pytest.approx((0.5 + 0) / 2)
    assert found["occlusion"]["strengths"]["5"]["survived"] == pytest.approx(0.5)
    assert found["all"] == {k: v for k, v in found["occlusion"].items() if k != "strengths"}
    assert [found["all"][key] for key in ("trials", "kept", "found", "lost")] == [3, 1, 0, 2]


def test_the_interval_covers_the_mean_of_videos():
    assert interval([0.5] * 4) == (0.5, 0.5)
    low, high = interval([0.0, 1.0] * 50)  # a mean of .5, whose deviation is .05
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)


def test_what_a_score_is_worth():
    """By hand: right from an overlap of .5 on, never where the target is hidden."""
    n, truth = TRIAL.frames, TRUTH.copy()
    boxes, scores, sure = truth.copy(), np.full(n, 0.45), np.ones(n)
    truth[5:7] = np.nan  # hidden; both scored .45
    boxes[10:14] = AWAY
    scores[10:13], sure[10:13] = 0.1, 0
    scores[20], scores[0] = 1.0, 0.2  # the first frame is given
    rows = {
        row.pop("what"): row
        for row in calibrate([run.TrialRecord(TRIAL, boxes, truth, scores, sure)])
    }
    assert rows == {
        "sure": {"frames": n - 4, "right": (n - 4 - 3) / (n - 4)},
        "not sure": {"frames": 3, "right": 0},
        "score .1 to .2": {"frames": 3, "right": 0},
        "score .4 to .5": {"frames": n - 5, "right": pytest.approx((n - 5 - 3) / (n - 5))},
        "score .9 to 1": {"frames": 1, "right": 1},
    }  # fmt: skip
    silent = run.TrialRecord(TRIAL, boxes, truth, *np.full((2, n), np.nan))
    assert calibrate([silent]) == []


# --- runs


def test_what_a_run_leaves(finished):
    found = json.loads((finished / "results.json").read_text())
    assert list(found["trackers"]) == ["identity", "gray-dcf"] and len(found["videos"]) == 2
    gray = found["trackers"]["gray-dcf"]
    assert list(gray) == ["none", "jump", "all"]
    assert gray["none"]["survived"] == 1 and gray["jump"]["strengths"]["2"]["survived"] == 0
    assert gray["all"]["trials"] == 2 * 4
    assert found["trackers"]["identity"]["jump"]["strengths"]["2"]["lost"] == 2
    page = (finished / "report.html").read_text()
    assert "target sizes" in page and page.count("data:image/jpeg") == 10
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not list(finished.glob("*.part*"))


def test_a_run_that_was_cut_goes_on_and_more_can_be_added(finished, data, tmp_path, dcfnet):
    out = tmp_path / "out"
    words = ["stress", data, "--out", out]
    few = ["--disturbances", "jump", "--trackers", "gray-dcf", "--sequences", "walk1,walk0"]
    assert dcfnet(*words, *few)[0] == 0
    path = out / "gray-dcf.jsonl"
    path.write_text(path.read_text()[:-50])  # a kill in the middle of a line
    assert dcfnet(*words, *FEW, "--workers", "2")[0] == 0

    def trackers(folder):
        return json.loads((folder / "results.json").read_text())["trackers"]

    assert trackers(out) == trackers(finished)  # and the number of processes does not matter


def test_a_video_that_cannot_be_used_is_left_out(data, tmp_path, dcfnet):
    scene = make_sequence(np.random.default_rng(5), 6, 128, 96)
    write_sequence(tmp_path / "data/short", *scene)
    words = ["--trackers", "identity", "--disturbances", "none", "--out", tmp_path / "out"]
    code, _, err = dcfnet("stress", tmp_path / "data", *words)
    assert code == 2 and err.splitlines()[-1].endswith("/data can be used")
    code, _, err = dcfnet("stress", tmp_path / "data", data, *words)
    assert code == 0 and err.startswith("dcfnet: warning: short: nowhere is the target annotated")


@pytest.mark.parametrize(("words", "line"), [
    (["--disturbances", "rain"], "there is no disturbance 'rain'; known: none, occlusion,"),
    (["--sequences", "walk0,walk7"], "there is no sequence walk7 in "),
    (["--trackers", "magic"], "unknown tracker 'magic'"),
    (["--seed", "-1"], "--seed must be at least 0, got -1"),
])  # fmt: skip
def test_bad_input_is_one_line_before_any_work(data, tmp_path, dcfnet, words, line):
    code, out, err = dcfnet("stress", data, "--out", tmp_path / "out", *words)
    assert (code, out) == (2, "") and err.startswith(f"dcfnet: error: {line}")
    assert err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_another_seed_needs_another_folder(finished, data, dcfnet):
    code, _, err = dcfnet("stress", data, *FEW, "--out", finished, "--seed", "4")
    assert code == 2 and err.endswith("holds a run of --seed 0; choose another --out\n")


@pytest.mark.parametrize(("text", "line"), [("{", "is damaged"), ("{}", "it has no seed")])
def test_damaged_settings_are_named(data, tmp_path, dcfnet, text, line):
    (tmp_path / "settings.json").write_text(text)
    code, _, err = dcfnet("stress", data, "--trackers", "identity", "--out", tmp_path)
    assert code == 2 and f"{tmp_path / 'settings.json'} is damaged" in err and line in err


def test_a_damaged_line_is_named(finished, data, tmp_path, dcfnet):
    out = tmp_path / "out"
    out.mkdir()
    first, *others = (finished / "identity.jsonl").read_text().splitlines(keepends=True)
    (out / "identity.jsonl").write_text(first + others[0].replace("[", "{", 1) + others[1])
    code, _, err = dcfnet("stress", data, "--trackers", "identity", "--out", out)
    assert code == 2 and "identity.jsonl: line 2 is damaged" in err and err.count("\n") == 1
