"""Runs: files, workers, Dask, kill and go on; and the commands `eval`, `score` and `verify`."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from scenes import make_sequence, write_sequence

from dcfnet_np import network, weights
from dcfnet_np.cli import main
from dcfnet_np.evaluation import results, runner
from dcfnet_np.evaluation.metrics import mean_interval
from dcfnet_np.evaluation.trackers import TrackerSpec

FRAMES = 24
no_contrib = pytest.mark.skipif(hasattr(cv2, "TrackerCSRT_create"), reason="KCF is there")
TRACKERS = ["--trackers", "gray-dcf,identity,other=gray-dcf"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four sequences; in the last the target jumps away, so that trackers lose it."""
    root = tmp_path_factory.mktemp("data")
    for number in range(4):
        jumps = {"step": (0.5, 0.3), "jump": 12} if number == 3 else {}
        scene = make_sequence(np.random.default_rng(number), FRAMES, 96, 72, (24, 18), **jumps)
        write_sequence(root / f"walk{number}", *scene)
    attributes = {"walk0": ["SV"], "walk1": ["SV", "FM"], "walk3": ["FM"]}
    (root / "attributes.json").write_text(json.dumps(attributes))
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that nobody may write to."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["eval", str(data), *TRACKERS, "--out", str(out)]) == 0
    return out


def files(out):
    """Result files below `out` by relative name, without times, which differ from run to run."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.txt")}
    return {n: data for n, data in found.items() if "times" not in n and "_time.txt" not in n}


def figures(out):
    """results.json without what may differ: speeds, environment and how it was run."""
    loaded = results.load_results(out)
    for name in ("environment", "workers"):
        loaded.pop(name)
    for facts in loaded["trackers"].values():
        facts.pop("speed")
    return loaded


# --- files and figures


def test_results_json(finished, data, dcfnet):
    found = results.load_results(finished)
    assert list(found["trackers"]) == ["gray-dcf", "identity", "other"] and found["skipped"] == {}
    facts = found["trackers"]["gray-dcf"]
    assert facts["settings"]["settings"]["input_size"] == 125
    assert found["rules"]["overlap_thresholds"] == 21 and found["protocol"] == "ope"
    assert 0 < facts["speed"]["fps_with_decoding"] < facts["speed"]["fps"]
    by_sequence = [s["success"] for s in facts["sequences"].values()]
    assert facts["scores"]["success"] == pytest.approx(np.mean(by_sequence))
    assert facts["median"]["success"] == pytest.approx(np.median(by_sequence))
    assert facts["attributes"]["SV"]["sequences"] == 2
    assert facts["attributes"]["SV"]["success"] == pytest.approx(np.mean(by_sequence[:2]))
    assert facts["scores"]["success"] > found["trackers"]["identity"]["scores"]["success"]
    assert min(by_sequence) == by_sequence[3] < 0.6
    environment = found["environment"]
    assert environment["packages"]["numpy"] == np.__version__ and environment["cores"] >= 1
    # a second call runs nothing and prints the same figures
    code, out, _ = dcfnet("eval", data, *TRACKERS, "--out", finished)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[:4]}
    assert code == 0 and rows["tracker"][:4] == ["AUC", "OP@.5", "DP@20", "norm."]
    for tracker, facts in found["trackers"].items():
        assert rows[tracker][0] == f"{facts['scores']['success']:.3f}"


# --- the number of workers does not matter


@pytest.mark.parametrize(("protocol", "trackers", "count"), [
    ("ope", "dcfnet", 2), ("tre", "gray-dcf,identity", 10), ("vot", "gray-dcf,identity", 2),
])  # fmt: skip
def test_two_workers_and_one_give_the_same_files(data, tmp_path, dcfnet, protocol, trackers, count):
    words = ["--sequences", "walk3", "--trackers", trackers, "--protocol", protocol]
    words += ["--device", "cpu"]
    one, two = tmp_path / "1", tmp_path / "2"
    for out in (one, two):
        code, _, err = dcfnet("eval", data, *words, "--workers", out.name, "--out", out)
        assert (code, err) == (0, "")
    assert files(one) == files(two) and len(files(one)) == count  # OPE has GOT-10k's layout too
    assert figures(one) == figures(two)


def test_dask(data, tmp_path, dcfnet, finished, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra train is not installed")
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
    words = ["eval", data, *TRACKERS, "--out", tmp_path / "out", "--dask"]
    with distributed.LocalCluster(2, **options) as cluster:
        code, _, err = dcfnet(*words, cluster.scheduler_address)
        assert (code, err) == (0, "")
    assert files(tmp_path / "out") == files(finished)
    assert figures(tmp_path / "out") == figures(finished)
    monkeypatch.setattr(runner, "DASK_TIMEOUT", 0.5)
    (tmp_path / "out/boxes/identity/walk0.txt").unlink()
    code, _, err = dcfnet(*words, "127.0.0.1:9")
    assert code == 2 and err.startswith("dcfnet: error: no Dask scheduler answers at 127.0.0.1:9")


# --- kill and go on


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def whole_files(out):
    """Box files but the one that is being written."""
    return [path for path in sorted((out / "boxes").glob("*/*.txt")) if ".part" not in path.name]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


KILLED = ["--trackers", "gray-dcf,identity", "--protocol", "sre", "--sequences", "walk0,walk3"]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What the killed runs must give in the end."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["eval", str(data), *KILLED, "--out", str(out)]) == 0
    return out


NO_PROC = not Path("/proc/self/task").is_dir()


@pytest.mark.skipif(NO_PROC, reason="looks for worker processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again(data, tmp_path, whole, how):
    cut = tmp_path / "cut"
    words = ["eval", str(data), *KILLED, "--workers", "2", "--out", str(cut)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "dcfnet_np", *words], **pipes)
    limit = time.monotonic() + PATIENCE
    while not whole_files(cut):
        assert process.poll() is None and time.monotonic() < limit, process.stderr.read()
        time.sleep(0.01)
    pool = children(process)
    process.send_signal(how)
    process.wait(timeout=PATIENCE)
    if how == signal.SIGTERM:
        kept = f"stopped; the same command goes on from here, {cut} keeps what is done\n"
        assert process.returncode == 1
        assert process.stderr.read().endswith(f"dcfnet: error: {kept}")
    limit = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in pool):
        assert time.monotonic() < limit, "workers outlive their parent"
        time.sleep(0.05)
    before = {path: path.stat().st_mtime_ns for path in whole_files(cut)}
    assert pool and 0 < len(before) < 48 and not (cut / "results.json").exists()
    assert main(words) == 0
    assert files(cut) == files(whole) and figures(cut) == figures(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())  # not run again


def test_results_of_another_run_are_not_taken(data, finished, tmp_path, dcfnet):
    shutil.copytree(data / "walk0", tmp_path / "walk0")
    before = contents(finished)
    for root, words, text in [
        (data, ["identity", "--protocol", "tre"], "holds a run with protocol ope, not tre"),
        (data, ["identity", "--rules", "paper"], "holds a run with rules otb, not paper"),
        (tmp_path, ["identity"], "holds a run with dataset"),
        (data, ["identity=gray-dcf"], "holds results of another identity"),
    ]:
        code, out, err = dcfnet("eval", root, "--trackers", *words, "--out", finished)
        assert (code, out) == (2, "") and text in err and err.count("\n") == 1
    assert contents(finished) == before


def test_boxes_of_another_ground_truth_are_not_taken(data, tmp_path, dcfnet):
    shutil.copytree(data / "walk1", tmp_path / "data/walk1")
    command = ["eval", tmp_path / "data", "--trackers", "identity", "--out", tmp_path / "out"]
    assert [dcfnet(*command)[0] for _ in range(2)] == [0, 0]
    truth = tmp_path / "data/walk1/groundtruth_rect.txt"
    x, rest = truth.read_text().split(",", 1)
    truth.write_text(f"{float(x) + 0.5},{rest}")
    code, _, err = dcfnet(*command)
    text = "walk1.txt does not begin at the box that walk1 has now; delete that file"
    assert code == 2 and text in err
    (tmp_path / "out/boxes/identity/walk1.txt").unlink()
    assert dcfnet(*command)[0] == 0


def test_a_tracker_that_cannot_start(data, tmp_path, dcfnet):
    """A flat window: our tracker refuses it.  The other sequences are done and kept."""
    flat = np.full((3, 40, 60, 3), 9, np.uint8), np.array([[9.0, 9, 12, 12]] * 3)
    write_sequence(tmp_path / "set/flat", *flat)
    shutil.copytree(data / "walk0", tmp_path / "set/walk")
    out = tmp_path / "out"
    code, printed, err = dcfnet("eval", tmp_path / "set", "--trackers", "gray-dcf", "--out", out)
    assert (code, printed) == (1, "")
    reason = "gray-dcf on flat: ValueError: Tracker.init: the window around the box"
    assert err.startswith(f"dcfnet: error: {reason}")
    assert [path.name for path in whole_files(out)] == ["walk.txt"]


# --- several runs in one folder


def test_later_runs_are_merged(data, finished, tmp_path, dcfnet):
    """Trackers, then sequences, one after the other: the figures of a single run."""
    out = tmp_path / "out"
    words = ["eval", data, "--out", out, "--trackers"]
    assert dcfnet(*words, "gray-dcf,identity", "--sequences", "walk0,walk1")[0] == 0
    assert dcfnet(*words, "other=gray-dcf", "--sequences", "walk0,walk1")[0] == 0
    assert list(results.load_results(out)["trackers"]) == ["gray-dcf", "identity", "other"]
    code, printed, err = dcfnet(*words, "identity", "--sequences", "walk2")
    lacking = "gray-dcf has no boxes of walk2; other has no boxes of walk2; add them, or give"
    assert (code, printed) == (2, "") and lacking in err
    assert not (out / "boxes/identity/walk2.txt").exists()  # before any work
    code, printed, err = dcfnet(*words, "identity", "--sequences", "walk2", "--partial")
    assert code == 0 and "warning: gray-dcf has no boxes of walk2" in err
    row = next(line.split() for line in printed.splitlines() if line.startswith("walk2 "))
    assert row.count("-") == 2
    assert dcfnet(*words, "gray-dcf,identity,other=gray-dcf")[::2] == (0, "")
    assert files(out) == files(finished) and figures(out) == figures(finished)
    assert (out / "report.html").read_text().count("walk3") > 1


def test_the_report_comes_from_boxes_alone(data, finished, tmp_path, dcfnet):
    """Nothing but box files: the same figures but for speeds and settings."""
    shutil.copytree(finished / "boxes", tmp_path / "boxes")
    words = ["score", tmp_path / "boxes", data, "--out", tmp_path / "out"]
    assert dcfnet(*words)[::2] == (0, "")
    again, before = figures(tmp_path / "out"), figures(finished)
    for facts in (*again["trackers"].values(), *before["trackers"].values()):
        facts.pop("settings")
    assert again == before
    assert "walk3" in (tmp_path / "out/report.html").read_text()


def test_intervals_over_sequences(finished, dcfnet, data):
    """Of the means, and of the differences to the first tracker, which are pairs."""
    found = results.load_results(finished)["trackers"]
    scores = {
        label: [row["success"] for row in facts["sequences"].values()]
        for label, facts in found.items()
    }
    ours, still = (np.array(scores[label]) for label in ("gray-dcf", "identity"))
    assert found["identity"]["interval"] == pytest.approx(mean_interval(still))
    told = found["identity"]["to_first"]
    assert (told["tracker"], told["sequences"]) == ("gray-dcf", 4)
    expected = ((still - ours).mean(), *mean_interval(still - ours))
    assert [told[key] for key in ("mean", "low", "high")] == pytest.approx(expected)
    assert "to_first" not in found["gray-dcf"]
    assert found["other"]["to_first"]["high"] == 0  # the same tracker again
    printed = dcfnet("score", finished / "boxes", data)[1].splitlines()
    low, high = found["gray-dcf"]["interval"]
    assert f"  {low:.3f} to {high:.3f}" in printed[1]
    assert f"  {told['mean']:+.3f} ({told['low']:+.3f} to {told['high']:+.3f})" in printed[3]
    assert [line.split()[0] for line in printed[5:]] == ["AUC", "walk0", "walk1", "walk2", "walk3"]


def test_attributes_that_cover_no_sequence(data, tmp_path, dcfnet):
    (tmp_path / "a.json").write_text('{"walk0": ["SV"], "Basketball": ["OCC"]}')
    words = ["eval", data, "--attributes", tmp_path / "a.json", "--trackers", "identity"]
    words += ["--out", tmp_path / "out", "--sequences"]
    assert dcfnet(*words, "walk0")[::2] == (0, "")
    warning = f"{tmp_path / 'a.json'} has no attributes of 2 of 3 sequences: walk1, walk2"
    assert dcfnet(*words, "walk0,walk1,walk2")[::2] == (0, f"dcfnet: warning: {warning}\n")


def test_signs_of_life_without_a_terminal(data, tmp_path, dcfnet, monkeypatch):
    monkeypatch.setattr("dcfnet_np.commands.eval.LIFE_SIGN", 0)
    words = ["--trackers", "identity", "--sequences", "walk0,walk1", "--out", tmp_path]
    err = dcfnet("eval", data, *words)[2].splitlines()
    counts = [int(re.match(r"dcfnet: (\d+) of 48 frames, \d+ s$", line)[1]) for line in err]
    assert counts == [0, 24, 48]


# --- verify


def test_verify(finished, dcfnet, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path, words = copy / "boxes/identity/walk1.txt", ["verify", copy, "--sequences", "walk1"]
    assert dcfnet(*words) == (0, "3 results, all equal to the byte\n", "")
    lines = path.read_text().splitlines()
    lines[5] = ",".join(f"{float(word) + 0.25:.4f}" for word in lines[5].split(","))
    path.write_text("\n".join(lines) + "\n")
    code, out, err = dcfnet(*words)
    assert code == 1 and out == "identity on walk1: up to 0.2500 pixels\n"
    assert "1 of 3 results" in err
    assert dcfnet(*words, "--tolerance", 0.5)[0] == 0
    for word in ("nan", "inf", "-1"):  # nothing would differ
        assert "must be a number of at least 0" in dcfnet(*words, f"--tolerance={word}")[2]
    path.unlink()
    assert "has no boxes of identity on walk1" in dcfnet(*words)[2]
    code, _, err = dcfnet("verify", tmp_path)
    assert code == 2 and "has no run.json, which" in err


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("label", [
    "../../outside", "/tmp/outside", "a\\b", "..", "", "a\n", "a\0", 7,
], ids=repr)  # fmt: skip
def test_a_label_of_run_json_is_no_path(finished, tmp_path, dcfnet, label):
    """Boxes are written below a label: that of a folder from elsewhere must not lead out of it."""
    out = tmp_path / "a/b/copy"
    out.mkdir(parents=True)
    shutil.copy(finished / "run.json", out)

    def rename(record):
        facts = record["trackers"].pop("identity") | {"label": label}
        record["trackers"][str(label)] = facts

    edit(out / "run.json", rename)
    for folder in (out, tmp_path / "a", tmp_path):  # boxes that would be found there
        shutil.copytree(finished / "boxes/identity", folder / "outside", dirs_exist_ok=True)
    before = contents(tmp_path)
    code, printed, err = dcfnet("verify", out, "--sequences", "walk0")
    assert (code, printed) == (2, "") and err.count("\n") == 1
    assert "run.json is damaged: its trackers cannot be read (" in err
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="tracker"):
        TrackerSpec(label, "identity")


def identity(record):
    return record["trackers"]["identity"]


@pytest.mark.parametrize(("change", "message"), [
    (lambda r: r.update(trackers=[]), r"run.json is damaged: trackers is \[\]"),
    (lambda r: r.update(protocol="../x"), "protocol must be one of ope, tre, sre, vot"),
    (lambda r: r.update(rules="../x"), "unknown rules '../x'"),
    (lambda r: r.update(trackers={}), "holds no tracker whose boxes can be compared"),
    (lambda r: r["trackers"].update(identity=7), "its trackers cannot be read"),
    (lambda r: identity(r).update(kind="x"), "unknown tracker 'x'; known: dcfnet,"),
    (lambda r: identity(r).update(model=["x"]), "tracker settings must be words"),
    (lambda r: identity(r).update(label="walk"), "listed under other names than theirs"),
])  # fmt: skip
def test_a_run_json_that_does_not_fit(finished, tmp_path, dcfnet, change, message):
    shutil.copy(finished / "run.json", tmp_path)
    edit(tmp_path / "run.json", change)
    code, printed, err = dcfnet("verify", tmp_path)
    assert (code, printed) == (2, "") and re.search(message, err) and err.count("\n") == 1


def test_verify_sees_other_weights(data, tmp_path, dcfnet):
    for seed in (1, 2):
        made = weights.Weights("light", network.initialise("light", seed=seed))
        weights.save_weights(tmp_path / f"{seed}.h5", made)
    out, used = tmp_path / "out", tmp_path / "1.h5"
    words = ["--trackers", f"ours=dcfnet:{used}", "--sequences", "walk0", "--device", "cpu"]
    assert dcfnet("eval", data, *words, "--out", out)[0] == 0
    (tmp_path / "2.h5").replace(used)
    code, _, err = dcfnet("verify", out)
    assert code == 2 and "holds results of another ours" in err


# --- the commands


@no_contrib
def test_skipped_trackers_are_named(data, tmp_path, dcfnet):
    words = ["--trackers", "identity,kcf", "--sequences", "walk0", "--out", tmp_path / "out"]
    code, _, err = dcfnet("eval", data, *words)
    assert code == 0 and err.startswith("dcfnet: warning: kcf is skipped: OpenCV")
    assert list(results.load_results(tmp_path / "out")["skipped"]) == ["kcf"]
    assert "kcf was skipped" in (tmp_path / "out/report.html").read_text()
    code, _, err = dcfnet("eval", data, *words, "--trackers", "kcf")
    assert code == 2 and "no tracker is left to run" in err


@pytest.mark.parametrize(("words", "text"), [
    (["--trackers", "x"], "unknown tracker 'x'"),
    (["--trackers", "identity,identity"], "two trackers are called identity"),
    (["--trackers", "identity", "--sequences", "run"], "has no sequence run"),
    (["--rules", "x"], "unknown rules 'x'"),
    (["--workers", 2, "--dask", "x"], "not allowed with argument"),
])  # fmt: skip
def test_bad_words(data, tmp_path, dcfnet, words, text):
    code, out, err = dcfnet("eval", data, *words, "--out", tmp_path / "o")
    assert (code, out) == (2, "") and text in err.splitlines()[-1]
    assert not (tmp_path / "o").exists()


def test_what_eval_needs(data, tmp_path, dcfnet, monkeypatch):
    code, _, err = dcfnet("eval", data)
    assert code == 2 and "give --out DIR" in err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, _, err = dcfnet("eval", data, "--trackers", "identity", "--out", tmp_path / "out")
    assert code == 2 and "a report needs jinja2; install the extra report" in err
    assert not (tmp_path / "out").exists()


def test_check(data, tmp_path, dcfnet):
    assert dcfnet("eval", data, "--check") == (0, f"{data}: no sequence is broken, 0 notes\n", "")
    write_sequence(tmp_path / "set/bad", np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 4)))
    code, out, err = dcfnet("eval", tmp_path / "set", "--check")
    assert code == 1 and out.splitlines()[0].startswith("error  bad: the first row has no box")
    assert "set: 1 problem; a sequence with one is not evaluated" in err


def test_score(finished, data, dcfnet, tmp_path):
    whole = results.load_results(finished)["trackers"]["gray-dcf"]["scores"]
    boxes = finished / "boxes/gray-dcf"
    code, out, _ = dcfnet("score", boxes, data)
    assert code == 0 and f"gray-dcf  {whole['success']:.3f}" in out
    code, out, _ = dcfnet("score", boxes / "walk1.txt", data / "walk1", "--explain")
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["otb", "got10k", "pytracking", "paper"]
    assert f"{whole['success']:.4f} (AUC)" in dcfnet("score", boxes, data, "--explain")[1]
    assert any(line.split() == ["statistic", "mean", "mean", "mean", "median"] for line in lines)
    assert any(line.startswith("paper: an inference") for line in lines)
    (tmp_path / "short.txt").write_text("1,2,3,4\n")
    for result, folder, text in [
        (finished / "plots", data, "has no file named like a sequence"),
        (tmp_path / "short.txt", data / "walk1", "has 1 row, walk1 has 24 frames"),
    ]:
        code, _, err = dcfnet("score", result, folder)
        assert code == 2 and text in err
