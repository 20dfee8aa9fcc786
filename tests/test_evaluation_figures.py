"""Small parts of runner, results, report and tune, each by hand and without tracking."""

import base64
import dataclasses
import json

import cv2
import numpy as np
import pytest
from scenes import write_sequence

from dcfnet_np import datasets, weights
from dcfnet_np.evaluation import report, results, runner, tune
from dcfnet_np.evaluation.baselines import parse
from dcfnet_np.evaluation.metrics import RULES
from dcfnet_np.evaluation.protocols import BOX, FAILED, STARTED, UNKNOWN, Run, Segment

COUNT = 12
TRUTH = np.column_stack([20 + 2.0 * np.arange(COUNT), np.full((COUNT, 3), (15, 24, 18))])
IDENTITY, OTHER = parse("identity"), parse("other=identity")


def make_sequences(root, *names):
    """Frames of one gray value each, 10 times their number."""
    frames = np.empty((COUNT, 60, 80, 3), np.uint8)
    frames[:] = 10 * np.arange(COUNT)[:, None, None, None]
    for name in names:
        write_sequence(root / name, frames, TRUTH, "{:04d}.png")
    return datasets.load_dataset(root, list(names))


@pytest.fixture
def sequence(tmp_path):
    return make_sequences(tmp_path / "set", "walk")[0]


def job(sequence, spec=IDENTITY, name="", start=0):
    return runner.Job(spec, sequence, Segment(name, start, tuple(TRUTH[start])))


def run(boxes, states=None):
    states = [STARTED] + [BOX] * (len(boxes) - 1) if states is None else states
    times = np.linspace(0.5, 1.5, len(boxes))
    return Run(np.array(boxes, float), times, times / 10, np.array(states, np.int8))


# --- runner ---


def test_files_come_back(sequence, tmp_path):
    result = run(TRUTH + 0.25)
    runner.save(tmp_path, job(sequence), result)
    back = runner.read(tmp_path, job(sequence))
    for ours, written in zip(result, back):
        np.testing.assert_allclose(ours, written, atol=1e-7)
    folder = tmp_path / "got10k/identity/walk"
    server = np.loadtxt(folder / "walk_001.txt", delimiter=",")
    np.testing.assert_allclose(server, TRUTH + (1.25, 1.25, 0.25, 0.25))
    np.testing.assert_allclose(np.loadtxt(folder / "walk_time.txt"), result.times)


def test_a_supervised_run_comes_back(sequence, tmp_path):
    states = [STARTED, BOX, FAILED, *[UNKNOWN] * 4, STARTED, BOX, BOX, BOX, BOX]
    supervised = runner.Job(IDENTITY, sequence, Segment("", 0, tuple(TRUTH[0]), supervised=True))
    runner.save(tmp_path, supervised, run(TRUTH, states))
    back = runner.read(tmp_path, supervised)
    assert back.states.tolist() == states and not (tmp_path / "got10k").exists()
    np.testing.assert_allclose(back.boxes[back.states == BOX], TRUTH[np.array(states) == BOX])


@pytest.mark.parametrize(("first", "second", "pixels"), [
    ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ((0, 0, 0, 0), (0, -0.5, 0, 0.25), 0.5),
    ((np.nan,) * 4, (np.nan,) * 4, 0),
    ((np.nan,) * 4, (0, 0, 0, 0), np.inf),
])  # fmt: skip
def test_verify_says_how_far(sequence, tmp_path, first, second, pixels):
    for folder, shift in (("old", first), ("new", second)):
        boxes = TRUTH.copy()
        boxes[7] += shift
        runner.save(tmp_path / folder, job(sequence), run(boxes))
    (found,) = runner.verify(tmp_path / "old", tmp_path / "new", [job(sequence)])
    assert found == ("identity", "walk", pixels == 0, pixels)


def test_verify_looks_at_states(sequence, tmp_path):
    supervised = runner.Job(IDENTITY, sequence, Segment("", 0, tuple(TRUTH[0]), supervised=True))
    for folder, code in (("old", FAILED), ("new", UNKNOWN)):
        runner.save(
            tmp_path / folder, supervised, run(TRUTH, [STARTED] + [BOX] * (COUNT - 2) + [code])
        )
    assert runner.verify(tmp_path / "old", tmp_path / "new", [supervised])[0].pixels == np.inf


def test_what_a_folder_of_results_remembers(sequence, tmp_path):
    out, config = tmp_path / "out", runner.Config(str(tmp_path / "set"), (IDENTITY,))
    out.mkdir()
    runner.remember(out, config, [IDENTITY], [sequence])
    runner.remember(out, config, [OTHER], [sequence])
    assert list(runner.read_record(out)["trackers"]) == ["other", "identity"]
    assert [spec.label for spec in runner.specs_of(runner.read_record(out))] == [
        "other",
        "identity",
    ]
    shorter = dataclasses.replace(sequence, frames=sequence.frames[:-1])
    for changes, specs, sequences, message in [
        ({"dataset": str(tmp_path)}, [IDENTITY], [sequence], "holds a run with dataset"),
        ({"protocol": "tre"}, [IDENTITY], [sequence], "holds a run with protocol ope, not tre"),
        ({"rules": "paper"}, [IDENTITY], [sequence], "holds a run with rules otb, not paper"),
        ({}, [parse("identity=gray-dcf")], [sequence], "holds results of another identity"),
        ({}, [IDENTITY], [shorter], "holds results of another walk"),
    ]:
        with pytest.raises(ValueError, match=message):
            runner.remember(out, dataclasses.replace(config, **changes), specs, sequences)


# --- results ---


def test_speeds_by_hand():
    """The first frame, which learns, is left out, and so are frames in which a tracker did not run."""
    boxes, states = np.zeros((4, 4)), np.zeros(4)
    one = Run(boxes, np.array([9, 0.1, 0.1, np.nan]), np.array([9, 0.3, 0.3, 0.7]), states)
    two = Run(boxes[:2], np.array([9, 0.2]), np.array([9, 0.2]), states[:2])
    found = results.speed([one, two])
    assert found == pytest.approx({"fps": 3 / 0.4, "fps_with_decoding": 3 / 1.2})


def test_what_results_json_holds(sequence, tmp_path):
    jobs = [job(sequence), job(sequence, OTHER)]
    for each in jobs:
        runner.save(tmp_path, each, run(TRUTH))
    config = runner.Config(str(tmp_path), (IDENTITY, OTHER), rules="got10k")
    found = results.build(config, tmp_path, config.trackers, [sequence], jobs, {}, "1 process")
    thresholds = {
        name: (len(values), values[0], values[-1]) for name, values in found["thresholds"].items()
    }
    assert thresholds == {
        "success": (101, 0, 1),
        "precision": (51, 0, 50),
        "normalised": (51, 0, 0.5),
    }
    assert found["rules"] == dataclasses.asdict(RULES["got10k"]) and found["unscored"] == []
    for facts in found["trackers"].values():
        assert {name: len(values) for name, values in facts["curves"].items()} == {
            n: t[0] for n, t in thresholds.items()
        }
        assert facts["scores"]["success"] == 1 and "median" not in facts


def test_a_digest_knows_names_and_bytes(tmp_path):
    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(files, ("1\n", "2\n", "1\n")):
        path.write_text(text)
    digests = [
        results.digest(each) for each in (files[:2], files[1::-1], files[1:], files[:1], [files[2]])
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_runs_of_a_sequence_are_pooled_and_attributes_are_apart(tmp_path):
    first, second, third = make_sequences(tmp_path, "a", "b", "c")
    first, second = (
        dataclasses.replace(s, attributes=w) for s, w in ((first, ("SV",)), (second, ("FM", "SV")))
    )
    far = TRUTH + 500
    runs = [(job(first, name="1"), run(TRUTH)), (job(first, name="2", start=8), run(far[8:]))]
    runs += [(job(second), run(far)), (job(third), run(TRUTH))]
    found = results._scores(runs, [first, second, third], RULES["otb"])
    # Of `a` 13 of 16 frames are right, the later run's first too; of `b` the first; 20 of 21
    # thresholds.
    a, b, c = (20 / 21 * share for share in (13 / 16, 1 / 12, 1))
    assert [found["sequences"][name]["success"] for name in "abc"] == pytest.approx([a, b, c])
    assert found["scores"]["success"] == found["mean"]["success"] == pytest.approx((a + b + c) / 3)
    assert found["median"]["success"] == pytest.approx(a)
    attributes = {
        word: (each["success"], each["sequences"]) for word, each in found["attributes"].items()
    }
    assert attributes == {"FM": (pytest.approx(b), 1), "SV": (pytest.approx((a + b) / 2), 2)}


SCORES = ("success", "op", "dp", "normalised_precision", "cle", "overlap", "frames")


def facts(success, cle, dp=0.7):
    scores = dict(zip(SCORES, (success, 0.6, dp, 0.8, cle, 0.5, 9)))
    median = dict(zip(SCORES, (success / 2, 0.1, 0.1, 0.1, 0.1, 0.1, 9)))
    row = {"success": success, "curves": {}}
    curves = {"success": [1, success], "precision": [dp, dp], "normalised": [0.8, 0.8]}
    return {
        "scores": scores, "mean": scores, "median": median, "attributes": {}, "curves": curves,
        "sequences": {"walk": row}, "speed": {"fps": 5.0, "fps_with_decoding": 4.0}, "settings": {}, "boxes_digest": "",
    }  # fmt: skip


def made_up():
    """Figures of three trackers, the first on the command line in the middle."""
    return {
        "protocol": "ope",
        "rules": {"success_score": "curve"},
        "dataset": {
            "path": "",
            "name": "set",
            "sequences": {"walk": {"frames": 9, "notes": [], "attributes": []}},
        },
        "thresholds": {"success": [0, 1], "precision": [0, 1], "normalised": [0, 1]},
        "trackers": {
            "a": facts(0.5, 3.0, 0.9),
            "b": facts(0.9, 12.0, 0.3),
            "c": facts(0.2, 40.0, 0.6),
        },
        "unscored": [],
        "skipped": {},
        "workers": "",
        "environment": {"dcfnet_np": "1", "commit": ""},
    }


def test_the_table_is_ranked():
    rows = results.table(made_up())
    assert [row[0] for row in rows] == ["tracker", "b", "a", "c"]
    assert rows[2] == ("a", "0.500", "0.600", "0.900", "0.800", "3.0", "0.250")


# --- report ---


def test_what_is_best_and_which_colour():
    found = made_up()
    context = report._context(found)
    assert [row["label"] for row in context["trackers"]] == ["b", "a", "c"]
    assert [row["colour"] for row in context["trackers"]] == [report.COLOURS[k] for k in (1, 0, 2)]
    best = {
        row["label"]: [name for name, is_best in row["best"].items() if is_best]
        for row in context["trackers"]
    }
    assert "cle" in best["a"] and "cle" not in best["c"] and "success" in best["b"]
    plots = {name: [line.label for line in lines] for name, *_, lines in report._plots(found)}
    assert plots == {"success": list("bac"), "precision": list("acb"), "normalised": list("bac")}


def test_a_comparison_is_ours_less_theirs():
    ours, theirs = made_up(), made_up()
    theirs["trackers"]["a"]["sequences"]["walk"] = {"success": 0.3}
    rows = {row["tracker"]: row for row in report._compare(ours, theirs)["rows"]}
    assert (rows["a"]["this"], rows["a"]["other"]) == (0.5, 0.3)
    assert rows["a"]["difference"] == pytest.approx(0.2)


def test_the_longest_loss_is_shown(sequence):
    boxes = TRUTH.copy()
    boxes[[3, 7, 8, 9]] += 500
    boxes[11, 2] *= 0.2  # overlap .2: bad, not lost
    share, text, shown = report._longest_loss(job(sequence), run(boxes))
    assert share == pytest.approx(4 / 12) and text == "lost in 4 of 12 frames"
    assert shown == [(6, "before"), (7, "lost"), (8, "later")]
    assert report._longest_loss(job(sequence), run(TRUTH)) is None


def test_the_first_failure_is_shown():
    states = [STARTED, BOX, BOX, FAILED, *[UNKNOWN] * 4, STARTED, BOX, FAILED, UNKNOWN]
    shown = [(2, "before"), (3, "failed"), (8, "started again")]
    assert report._supervised_failure(run(TRUTH, states)) == (2.0, "2 failures", shown)


def test_pictures_of_a_failure(sequence, tmp_path):
    """Of a run that begins at frame 2: the frame's gray value, and the box in the tracker's colour,
    truth in white.
    """
    boxes = TRUTH[2:].copy()
    boxes[4:, :2] = 3, 36
    jobs = [job(sequence, start=2), job(sequence, OTHER)]
    runner.save(tmp_path, jobs[0], run(boxes))
    (failure,) = report._gallery(
        tmp_path, {"protocol": "ope", "trackers": {"identity": 0, "other": 0}}, jobs
    )["failures"]
    assert [picture["caption"] for picture in failure["pictures"]] == [
        "frame 6, before",
        "frame 7, lost",
        "frame 10, later",
    ]
    picture = failure["pictures"][1]
    data = base64.b64decode(picture["uri"].partition(",")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert image.shape == (240, 320, 3)
    np.testing.assert_allclose(image[5, 5], 60, atol=3)  # frame 6, counted from 0

    def nearest(colour, left, top, right, bottom):
        part = image[top:bottom, left:right].reshape(-1, 3)
        return abs(part - colour).max(axis=1).min()

    hexadecimal = report.COLOURS[0]
    blue, green, red = (int(hexadecimal[k : k + 2], 16) for k in (5, 3, 1))
    assert (
        nearest((blue, green, red), 4, 136, 120, 224)
        < 30
        < nearest((red, green, blue), 4, 136, 120, 224)
    )
    assert nearest((255, 255, 255), 120, 52, 240, 134) < 30


# --- tune ---


@pytest.fixture
def search(tmp_path):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    sequences = make_sequences(tmp_path / "set", "a", "b")
    return tune.Search(
        tune.Config("learning_rate=0.01:0.05", starts=1), sequences, tmp_path / "out"
    )


def add(search, *scores):
    """Trials with these scores of the sequences; the first is the preset as it is."""
    for number, row in enumerate(scores):
        search._next(lambda jobs, row=row: np.array([row], float))
        attributes = search.study.get_trials(deepcopy=False)[-1].user_attrs
        assert attributes["scores"] == [list(row)]
        assert list(attributes["fields"]) == (["learning_rate"] if number else [])


@pytest.mark.parametrize(("scores", "words"), [
    ([(0.5, 0.5), (0.4, 0.5)], "no trial is better than default"),
    ([(0.5, 0.5), (0.5, 0.6)], r"difference \+0.0500, standard error 0.0500 over 2 sequences: no more than noise"),
    ([(0.5, 0.5), (0.56, 0.6)], r"\+0.0800, standard error 0.0200 .*; the best of many is flattered"),
    ([(0.5, 0.5), (0.56, 0.68)], r"\+0.1200, standard error 0.0600 .*; the best of many is flattered"),
    ([(0.5, 0.5), (0.56, 0.7)], r"\+0.1300, standard error 0.0700 .*: no more than noise"),
])  # fmt: skip
def test_the_verdict(search, scores, words):
    import re

    add(search, *scores)
    assert re.search(words, tune.verdict(search))


def test_the_first_of_the_best(search):
    add(search, (0.5, 0.5), (0.7, 0.6), (0.6, 0.7), (0.1, 0.1))
    assert search.best().number == 1
    rows = tune.table(search)
    assert rows[0] == ("", "base", "trial 1", "difference")
    assert rows[1:] == [("a", "0.500", "0.700", "+0.200"), ("b", "0.500", "0.600", "+0.100"),
                        ("mean", "0.5000", "0.6500", "+0.1500")]  # fmt: skip


def drawn(search):
    add(search, (0.5, 0.5), (0.5, 0.5), (0.5, 0.5))
    return [trial.fields["learning_rate"] for trial in search.trials()[1:]]


def test_draws_depend_on_the_seed_and_the_trial(search, tmp_path):
    again = [
        tune.Search(
            dataclasses.replace(search.config, seed=seed), search.sequences, tmp_path / str(seed)
        )
        for seed in (0, 1)
    ]
    first, same, other = drawn(search), *map(drawn, again)
    assert (
        first == same and first[0] != first[1] and set(first) != set(other) and first[0] != other[0]
    )


def test_a_mean_over_runs_then_sequences(search):
    """Sequence `a` has two runs here and `b` one; the values are told by their places."""
    search.runs[0] = [search.runs[0][0], search.runs[0][0]]
    jobs, order = search._jobs({}), []

    def tell(function, wanted):
        order.extend(wanted)
        return [{"a": 0.4, "b": 0.9}[job.sequence.name] + 0.1 * (job is jobs[1]) for job in wanted]

    np.testing.assert_allclose(search._measure(jobs, tell, lambda frames: None), [[0.45, 0.9]])
    assert len(order) == 3


def test_a_digest_of_the_data(tmp_path):
    (sequence,) = make_sequences(tmp_path, "a")
    before = tune.data_digest([sequence])
    assert tune.data_digest(datasets.load_dataset(tmp_path)) == before
    moved = dataclasses.replace(sequence, boxes=sequence.boxes + 0.5)
    renamed = dataclasses.replace(sequence, name="b")
    frame = sequence.frames[5]
    frame.write_bytes(frame.read_bytes() + b"0")
    assert len({before, *(tune.data_digest([each]) for each in (moved, renamed, sequence))}) == 4


def test_what_a_range_holds():
    distributions = pytest.importorskip("optuna.distributions")
    steps = distributions.FloatDistribution(0.5, 1.5, step=0.25)
    assert [tune._holds(steps, value) for value in (0.5, 0.75, 0.8, 1.5, 1.75, 0.25)] == [
        True,
        True,
        False,
        True,
    ] + [False] * 2
    assert tune._holds(distributions.CategoricalDistribution([1, 3]), 3)
    assert not tune._holds(distributions.CategoricalDistribution([1, 3]), 2)


def test_every_weights_has_its_digest(tmp_path, network_file):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    sequences = make_sequences(tmp_path / "set", "a", "b")
    names = ("light", str(network_file))
    config = tune.Config("learning_rate=0.01:0.05", weights=names, starts=1)
    search = tune.Search(config, sequences, tmp_path / "out")
    search._next(lambda jobs: np.array([[0.5, 0.7], [0.1, 0.2]]))
    search._write()
    told = json.loads((tmp_path / "out/best.json").read_text())["provenance"]
    assert {name: told["weights"][name]["digest"] for name in names} == {
        name: weights.parameter_digest(weights.load_weights(name).parameters) for name in names
    }
    assert [told["weights"][name]["base"] for name in names] == pytest.approx([0.6, 0.15])
    assert [told["sequences"][name]["base"] for name in "ab"] == pytest.approx([0.3, 0.45])
