"""Runs: files, workers, Dask, kill and go on, verify; and the commands `eval`, `score` and
`verify`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE
from scenes import make_sequence, write_sequence

from dcfnet_np import datasets
from dcfnet_np.cli import main
from dcfnet_np.evaluation import results, runner
from dcfnet_np.evaluation.baselines import Spec, parse
from dcfnet_np.vision.box_files import read_boxes

FRAMES = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four sequences; in the last the target jumps away, so that trackers lose it."""
    root = tmp_path_factory.mktemp("data")
    for number in range(4):
        jumps = {"step": (0.5, 0.3), "jump": 12} if number == 3 else {}
        scene = make_sequence(np.random.default_rng(number), FRAMES, 96, 72, (24, 18), **jumps)
        write_sequence(root / f"walk{number}", *scene)
    (root / "attributes.json").write_text(
        json.dumps({"walk0": ["SV"], "walk1": ["SV", "FM"], "walk3": ["FM"]})
    )
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that nobody may write to."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert (
        main(
            ["eval", str(data), "--trackers", "gray-dcf,identity,other=gray-dcf", "--out", str(out)]
        )
        == 0
    )
    return out


def files(out, but=("times", "_time.txt")):
    """Result files below `out` by relative name; times differ from run to run."""
    found = {}
    for path in sorted(out.rglob("*.txt")):
        name = str(path.relative_to(out))
        if not any(word in name for word in but):
            found[name] = path.read_bytes()
    return found


def figures(out):
    """results.json without what may differ: speeds, environment and how it was run."""
    loaded = results.load(out)
    for name in ("environment", "workers"):
        loaded.pop(name)
    for facts in loaded["trackers"].values():
        facts.pop("speed")
    return loaded


def command(*words, **options):
    words = [sys.executable, "-m", "dcfnet_np", *map(str, words)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# --- files ---


def test_files_of_a_run(finished, data):
    truth = datasets.load_dataset(data)
    for tracker in ("gray-dcf", "identity", "other"):
        for sequence in truth:
            path = finished / "boxes" / tracker / f"{sequence.name}.txt"
            boxes = read_boxes(path)
            np.testing.assert_allclose(boxes[0], sequence.boxes[0], atol=1e-4)
            assert len(boxes) == FRAMES
            got10k = finished / "got10k" / tracker / sequence.name
            rows = np.loadtxt(got10k / f"{sequence.name}_001.txt", delimiter=",")
            np.testing.assert_allclose(rows - (1, 1, 0, 0), boxes, atol=6e-4)
            assert np.loadtxt(got10k / f"{sequence.name}_time.txt").shape == (FRAMES,)
    assert (finished / "report.html").is_file() and (finished / "plots/success.png").is_file()
    assert not list(finished.rglob("*.part*"))


def test_results_json(finished):
    found = results.load(finished)
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
    assert len(facts["boxes_digest"]) == 64
    environment = found["environment"]
    assert environment["packages"]["numpy"] == np.__version__ and environment["cores"] >= 1


def test_the_table_says_what_the_json_says(finished, data, dcfnet):
    code, out, _ = dcfnet(
        "eval", data, "--trackers", "gray-dcf,identity,other=gray-dcf", "--out", finished
    )
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[:4]}
    assert rows["tracker"][:4] == ["AUC", "OP@.5", "DP@20", "norm."]
    for tracker, facts in results.load(finished)["trackers"].items():
        assert rows[tracker][0] == f"{facts['scores']['success']:.3f}"


# --- the number of workers does not matter ---


@pytest.mark.parametrize("protocol", ["ope", "tre", "sre", "vot"])
def test_two_workers_and_one_give_the_same_files(data, tmp_path, dcfnet, protocol):
    words = ["--sequences", "walk3", "--trackers", "gray-dcf,identity", "--protocol", protocol]
    for workers in (1, 2):
        code, _, err = dcfnet(
            "eval", data, *words, "--workers", workers, "--out", tmp_path / str(workers)
        )
        assert (code, err) == (0, "")
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    # OPE has the GOT-10k layout too
    expected = {"ope": 4, "tre": 10, "sre": 24, "vot": 2}[protocol]
    assert one == two and len(one) == expected
    assert figures(tmp_path / "1") == figures(tmp_path / "2")


def test_dcfnet_on_two_workers(data, tmp_path, dcfnet):
    for workers in (1, 2):
        words = [
            "--sequences",
            "walk0",
            "--workers",
            workers,
            "--device",
            "cpu",
            "--out",
            tmp_path / str(workers),
        ]
        assert dcfnet("eval", data, *words)[0] == 0
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_workers_share_the_cores(monkeypatch):
    import cv2
    import threadpoolctl

    from dcfnet_np.support.machine import usable_cores

    monkeypatch.setenv("DCFNET_CORES", "")  # hold_threads sets it; put back by monkeypatch
    blas, opencv = threadpoolctl.threadpool_info(), cv2.getNumThreads()
    try:
        runner.hold_threads(1)
        assert usable_cores() == 1 and cv2.getNumThreads() == 1
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    finally:
        cv2.setNumThreads(opencv)
        threadpoolctl.threadpool_limits({pool["filepath"]: pool["num_threads"] for pool in blas})


def test_dask(data, tmp_path, dcfnet, finished):
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with distributed.LocalCluster(
        2, processes=True, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        words = ["--trackers", "gray-dcf,identity,other=gray-dcf", "--out", tmp_path / "out"]
        code, _, err = dcfnet("eval", data, *words, "--dask", cluster.scheduler_address)
        assert (code, err) == (0, "")
    assert files(tmp_path / "out") == files(finished)
    assert figures(tmp_path / "out") == figures(finished)


def test_no_scheduler(data, tmp_path, dcfnet, monkeypatch):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr(runner, "DASK_TIMEOUT", 0.5)
    code, _, err = dcfnet(
        "eval", data, "--trackers", "identity", "--dask", "127.0.0.1:9", "--out", tmp_path / "out"
    )
    assert code == 2 and err.startswith("dcfnet: error: no Dask scheduler answers at 127.0.0.1:9")


# --- kill and go on ---


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


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="looks for worker processes in /proc"
)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_and_started_again(data, tmp_path, whole, how):
    words, cut = [*KILLED, "--workers", "2"], tmp_path / "cut"
    process = command("eval", data, *words, "--out", cut)
    limit = time.monotonic() + PATIENCE
    while not whole_files(cut):
        assert process.poll() is None and time.monotonic() < limit, process.stderr.read()
        time.sleep(0.01)
    workers = children(process)
    process.send_signal(how)
    process.wait(timeout=PATIENCE)
    if how == signal.SIGTERM:
        error = process.stderr.read()
        assert process.returncode == 1
        assert (
            error
            == f"dcfnet: error: stopped; the same command goes on from here, {cut} keeps what is done\n"
        )
    limit = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < limit, "workers outlive their parent"
        time.sleep(0.05)
    assert workers
    before = {path: path.stat().st_mtime_ns for path in whole_files(cut)}
    assert 0 < len(before) < 48 and not (cut / "results.json").exists()
    assert main(["eval", str(data), *words, "--out", str(cut)]) == 0
    assert files(cut) == files(whole)
    assert figures(cut) == figures(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())  # not run again


def test_results_of_another_run_are_not_taken(data, finished, dcfnet):
    def fails(text, *words):
        code, out, err = dcfnet("eval", *words, "--out", finished)
        assert (code, out) == (2, "") and text in err and err.count("\n") == 1

    fails(
        "holds a run with protocol ope, not tre",
        data,
        "--trackers",
        "identity",
        "--protocol",
        "tre",
    )
    fails(
        "holds a run with rules otb, not got10k",
        data,
        "--trackers",
        "identity",
        "--rules",
        "got10k",
    )
    fails("holds results of another identity", data, "--trackers", "identity=gray-dcf")
    fails("holds a run with dataset", data / "walk1", "--trackers", "identity")


def test_boxes_of_another_ground_truth_are_not_taken(data, tmp_path, dcfnet):
    shutil.copytree(data, tmp_path / "data")
    command = [
        "eval",
        tmp_path / "data",
        "--trackers",
        "identity",
        "--sequences",
        "walk0,walk1",
        "--out",
        tmp_path / "out",
    ]
    assert [dcfnet(*command)[0] for _ in range(2)] == [0, 0]
    truth = tmp_path / "data/walk1/groundtruth_rect.txt"
    lines = truth.read_text().splitlines()
    lines[0] = ",".join(str(float(word) + 0.5) for word in lines[0].split(","))
    truth.write_text("\n".join(lines))
    code, _, err = dcfnet(*command)
    assert (
        code == 2
        and "boxes/identity/walk1.txt does not begin at the box that walk1 has now; delete that file"
        in err
    )
    (tmp_path / "out/boxes/identity/walk1.txt").unlink()
    assert dcfnet(*command)[0] == 0


def test_a_tracker_that_cannot_start(data, tmp_path, dcfnet):
    """A flat window: our tracker refuses it.  The other sequences are done and kept."""
    write_sequence(
        tmp_path / "set/flat",
        np.full((3, 40, 60, 3), 9, np.uint8),
        np.array([[9.0, 9, 12, 12]] * 3),
    )
    write_sequence(
        tmp_path / "set/walk", *make_sequence(np.random.default_rng(0), 4, 96, 72, (24, 18))
    )
    code, out, err = dcfnet(
        "eval", tmp_path / "set", "--trackers", "gray-dcf", "--out", tmp_path / "out"
    )
    assert (code, out) == (1, "")
    assert err.startswith(
        "dcfnet: error: gray-dcf on flat: ValueError: Tracker.init: the window around the box"
    )
    assert (tmp_path / "out/boxes/gray-dcf/walk.txt").is_file()
    assert not (tmp_path / "out/boxes/gray-dcf/flat.txt").exists()


# --- verify ---


def test_verify(finished, dcfnet, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    code, out, err = dcfnet("verify", tmp_path / "copy", "--sequences", "walk0,walk1")
    assert (code, out, err) == (0, "6 results, all equal to the byte\n", "")
    path = tmp_path / "copy/boxes/identity/walk1.txt"
    lines = path.read_text().splitlines()
    lines[5] = ",".join(f"{float(word) + 0.25:.4f}" for word in lines[5].split(","))
    path.write_text("\n".join(lines) + "\n")
    code, out, err = dcfnet("verify", tmp_path / "copy", "--sequences", "walk1")
    assert code == 1 and out == "identity on walk1: up to 0.2500 pixels\n"
    assert "1 of 3 results differ" in err
    assert dcfnet("verify", tmp_path / "copy", "--sequences", "walk1", "--tolerance", 0.5)[0] == 0
    path.unlink()
    assert (
        "has no boxes of identity on walk1"
        in dcfnet("verify", tmp_path / "copy", "--sequences", "walk1")[2]
    )
    code, _, err = dcfnet("verify", tmp_path)
    assert code == 2 and "has no run.json, which" in err


@pytest.mark.parametrize("tolerance", ["nan", "inf", "-1", "1,5"])
@pytest.mark.parametrize("command", [["verify", "DIR"], ["diff", "A.h5", "B.h5"]])
def test_a_tolerance_under_which_nothing_would_differ(dcfnet, command, tolerance):
    code, _, err = dcfnet(*command, f"--tolerance={tolerance}")
    assert code == 2 and f"--tolerance: must be a number of at least 0, got '{tolerance}'" in err


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


WRONG_LABELS = [
    "../../outside",
    "/tmp/outside",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    ".hidden",
    "a\n",
    "a\0",
    7,
    None,
    ["a"],
]


@pytest.mark.parametrize("label", WRONG_LABELS, ids=repr)
def test_a_label_of_run_json_is_no_path(finished, tmp_path, dcfnet, label):
    """Boxes are written below a tracker's label, so that of a folder from elsewhere must not lead
    out of it.
    """
    out = tmp_path / "a/b/copy"
    shutil.copytree(finished, out)

    def rename(record):
        facts = record["trackers"].pop("identity") | {"label": label}
        record["trackers"][str(label)] = facts

    edit(out / "run.json", rename)
    for folder in (out, tmp_path / "a", tmp_path):  # boxes that would be found there
        shutil.copytree(finished / "boxes/identity", folder / "outside", dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    code, printed, err = dcfnet("verify", out, "--sequences", "walk0")
    assert (code, printed) == (
        2,
        "",
    ) and "run.json is damaged: its trackers cannot be read (" in err
    assert err.count("\n") == 1
    assert {
        path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()
    } == before
    with pytest.raises(ValueError, match="tracker"):
        Spec(label, "identity")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(trackers=[]), r"run.json is damaged: trackers is \[\]"),
        (lambda r: r.update(sequences=["walk0"]), "run.json is damaged: sequences is"),
        (lambda r: r.update(dataset=7), "run.json is damaged: dataset is 7"),
        (lambda r: r.update(protocol=None), "run.json is damaged: protocol is None"),
        (lambda r: r.update(rules={}), "run.json is damaged: rules is {}"),
        (lambda r: r.update(protocol="../x"), "protocol must be one of ope, tre, sre, vot"),
        (lambda r: r.update(rules="../x"), "unknown rules '../x'"),
        (lambda r: r.update(sequences={"../walk0": 24}), "has no sequence ../walk0"),
        (lambda r: r.update(trackers={}), "holds no tracker whose boxes can be compared"),
        (lambda r: r["trackers"].update(identity=7), "its trackers cannot be read"),
        (lambda r: r["trackers"]["identity"].pop("kind"), "its trackers cannot be read"),
        (
            lambda r: r["trackers"]["identity"].update(kind="x"),
            "unknown tracker 'x'; known: dcfnet,",
        ),
        (lambda r: r["trackers"]["identity"].update(model=["x"]), "tracker settings must be words"),
        (
            lambda r: r["trackers"]["identity"].update(label="walk"),
            "listed under other names than theirs",
        ),
    ],
)
def test_a_run_json_that_does_not_fit(finished, tmp_path, dcfnet, change, message):
    shutil.copytree(finished, tmp_path / "copy")
    edit(tmp_path / "copy/run.json", change)
    code, printed, err = dcfnet("verify", tmp_path / "copy")
    assert (code, printed) == (2, "") and re.search(message, err) and err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(trackers=[]),
        lambda r: r["trackers"].update(identity=7),
        lambda r: r["trackers"]["identity"].pop("sequences"),
        lambda r: r["trackers"]["identity"]["sequences"].update(walk0=[1]),
        lambda r: r["trackers"]["identity"]["sequences"]["walk0"].update(success="x"),
        lambda r: r.pop("rules"),
        lambda r: r.update(rules=[1]),
        lambda r: r.update(dataset={}),
        lambda r: r.pop("environment"),
        lambda r: r["environment"].update(commit=None),
        lambda r: r.update(protocol=None),
    ],
)
def test_a_results_json_that_does_not_fit(finished, data, tmp_path, dcfnet, change):
    """Said before the run, not by a report that fails after it."""
    (tmp_path / "other").mkdir()
    shutil.copy(finished / "results.json", tmp_path / "other")
    edit(tmp_path / "other/results.json", change)
    words = ["--trackers", "identity", "--out", tmp_path / "out", "--compare", tmp_path / "other"]
    code, printed, err = dcfnet("eval", data, *words)
    assert (code, printed) == (2, "") and "results.json is damaged: it lacks some of what" in err
    assert not (tmp_path / "out").exists()


def test_verify_sees_other_weights(data, tmp_path, dcfnet):
    from dcfnet_np import network, weights

    for seed in (1, 2):
        weights.save_weights(
            tmp_path / f"{seed}.h5",
            weights.Weights("light", network.initialise("light", seed=seed)),
        )
    out, used = tmp_path / "out", tmp_path / "1.h5"
    words = [
        "--trackers",
        f"ours=dcfnet:{used}",
        "--sequences",
        "walk0",
        "--device",
        "cpu",
        "--out",
        out,
    ]
    assert dcfnet("eval", data, *words)[0] == 0
    os.replace(tmp_path / "2.h5", used)
    code, _, err = dcfnet("verify", out)
    assert code == 2 and "holds results of another ours" in err


# --- the commands ---


def test_skipped_trackers_are_named(data, tmp_path, dcfnet):
    words = ["--trackers", "identity,nano", "--sequences", "walk0", "--out", tmp_path / "out"]
    code, out, err = dcfnet("eval", data, *words)
    assert (
        code == 0
        and err == "dcfnet: warning: nano is skipped: no model file; name it: nano:FOLDER\n"
    )
    assert list(results.load(tmp_path / "out")["skipped"]) == ["nano"]
    assert "nano was skipped" in (tmp_path / "out/report.html").read_text()
    code, _, err = dcfnet("eval", data, "--trackers", "nano", "--out", tmp_path / "none")
    assert code == 2 and "no tracker is left to run" in err and not (tmp_path / "none").exists()


def test_bad_words(data, tmp_path, dcfnet):
    def fails(text, *words):
        code, out, err = dcfnet("eval", *words)
        assert (code, out) == (2, "") and text in err.splitlines()[-1]

    fails("give --out DIR", data)
    fails("unknown tracker 'x'", data, "--trackers", "x", "--out", tmp_path / "o")
    fails("unknown rules 'x'", data, "--rules", "x", "--out", tmp_path / "o")
    fails(
        "has no sequence run",
        data,
        "--sequences",
        "run",
        "--trackers",
        "identity",
        "--out",
        tmp_path / "o",
    )
    fails(
        "two trackers are called identity",
        data,
        "--trackers",
        "identity,identity",
        "--out",
        tmp_path / "o",
    )
    fails("has no results.json", data, "--compare", tmp_path, "--out", tmp_path / "o")
    fails("not allowed with argument", data, "--workers", 2, "--dask", "x", "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_check(data, tmp_path, dcfnet):
    assert dcfnet("eval", data, "--check") == (0, f"{data}: no sequence is broken, 0 notes\n", "")
    write_sequence(tmp_path / "set/bad", np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 4)))
    code, out, err = dcfnet("eval", tmp_path / "set", "--check")
    assert code == 1 and out.splitlines()[0].startswith("error  bad: the first row has no box")
    assert "keep sequences from being evaluated" in err


def test_score(finished, data, dcfnet, tmp_path):
    whole = results.load(finished)["trackers"]["gray-dcf"]["scores"]
    code, out, _ = dcfnet("score", finished / "boxes/gray-dcf", data)
    assert code == 0 and f"success{' ' * 18}{whole['success']:.4f} (AUC)" in out
    code, out, _ = dcfnet(
        "score", finished / "boxes/gray-dcf/walk1.txt", data / "walk1", "--explain"
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["otb", "got10k", "pytracking", "paper"]
    assert any(line.split() == ["statistic", "mean", "mean", "mean", "median"] for line in lines)
    assert lines[-1].startswith("paper: an inference")
    code, _, err = dcfnet("score", finished / "boxes", data)
    assert code == 2 and "has no file named like a sequence" in err
    (tmp_path / "short.txt").write_text("1,2,3,4\n")
    code, _, err = dcfnet("score", tmp_path / "short.txt", data / "walk1")
    assert code == 2 and "has 1 rows, walk1 has 24 frames" in err


def test_labels_are_kept_apart():
    specs = [parse("a=identity"), parse("a=gray-dcf")]
    with pytest.raises(ValueError, match="two trackers are called a; give one another name"):
        runner.available(specs)


def test_a_report_without_its_packages(data, tmp_path, dcfnet, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, _, err = dcfnet("eval", data, "--trackers", "identity", "--out", tmp_path / "out")
    assert code == 2 and "a report needs jinja2; install the extra report" in err
    assert not (tmp_path / "out").exists()
