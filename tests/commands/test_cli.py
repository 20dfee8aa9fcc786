"""The `dcfnet` command: results, exit codes, and one clear line for all that can go wrong."""

import csv
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from scenes import PATCH, make_frames, write_images, write_video

from dcfnet_np import backend, cli, gradcheck, kernels, weights
from dcfnet_np.kernels import compile as compiling
from dcfnet_np.ops import relu
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import iou
from dcfnet_np.vision.sources import open_source

BOX = "20,10,16,12"


@pytest.fixture
def folder(tmp_path, rng):
    """Five frames of the moving patch."""
    write_images(tmp_path / "walk", make_frames(rng))
    return tmp_path / "walk"


@pytest.fixture
def fails(dcfnet):
    """fails(code, text, *words): one error line with `text` in it, and no result."""

    def run(code, text, *words):
        got, out, err = dcfnet(*[word for each in words for word in str(each).split()])
        assert err.startswith("dcfnet: error: ") and err.count("\n") == 1 and err.endswith("\n")
        assert text in err, err
        assert not re.match(r"dcfnet: error: ([A-Z][a-z]\w*|\w+_\w+): ", err), "names our Python"
        assert (got, out) == (code, "")

    return run


def command(*words, **options):
    """The command in a process of its own."""
    words = [sys.executable, "-m", "dcfnet_np", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, **pipes, **options)


def expected_boxes(count):
    return np.array([PATCH] * count, float) + np.outer(np.arange(count), (1, 1, 0, 0))


# --- track ---


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_track_a_folder(track, folder, tmp_path, suffix):
    path = tmp_path / f"boxes{suffix}"
    code, out, err = track(folder, f"--save-boxes {path}", box=BOX)
    assert (code, err) == (0, "")
    assert out.startswith("walk: 5 frames, ") and "fps (tracking alone), mean score" in out
    assert out.count("\n") == 1 and "IoU" not in out
    boxes = read_boxes(path)
    np.testing.assert_array_equal(boxes[0], PATCH)
    assert iou(boxes, expected_boxes(5)).min() > 0.6
    if suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [row["frame"] for row in rows] == list("01234")
        assert {row["ok"] for row in rows} == {"1"} and rows[0]["score"] == ""
        assert all(0 < float(row["score"]) < 2 for row in rows[1:])
        assert all(0 < float(row["time"]) < 60 for row in rows)


@pytest.mark.parametrize("response", [False, True])
def test_track_saves_the_video(track, tmp_path, rng, response):
    frames = make_frames(rng, 3)
    write_video(tmp_path / "in.avi", frames, "MJPG")
    options = f"--save-video {tmp_path / 'out.mp4'}" + " --response" * response
    assert track(tmp_path / "in.avi", options, box=BOX)[0] == 0
    with open_source(tmp_path / "out.mp4") as source:
        drawn = np.stack(list(source)).astype(int)
        assert source.fps == 20 and len(drawn) == 3
    corner = np.abs(drawn - frames)[:, :10, -10:].mean((1, 2, 3))
    assert corner[0] < 40  # no response to the first frame
    assert (corner[2] > 60) == response
    outline = drawn[0][PATCH[1], PATCH[0] : PATCH[0] + PATCH[2]].mean(axis=0)  # top edge, green
    assert outline[1] > 1.4 * max(outline[0], outline[2])


def test_a_box_may_begin_with_a_minus(track, folder, tmp_path):
    options = f"--max-frames 2 --save-boxes {tmp_path / 'a.csv'}"
    assert track(folder, options, box="-4,-2.5,16,12")[0] == 0
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.csv")[0], (-4, -2.5, 16, 12))


# --- bad arguments and input: exit code 2, before any work ---

HERE = f"track {{walk}} --box {BOX}"
BAD = [
    ("", "the following arguments are required: COMMAND"),
    ("fly", "invalid choice: 'fly'"),
    ("track", "the following arguments are required: SOURCE"),
    ("track . --speed 9", "unrecognized arguments: --speed"),
    ("track . --box 1,2,3", "must be X,Y,W,H, four numbers with commas between, got '1,2,3'"),
    ("track . --box", "expected one argument"),
    (f"track . --box {BOX} --select", "not allowed with argument --box"),
    ("track . --max-frames 0", "must be a whole number of at least 1, got '0'"),
    ("track {walk} --box 1,1,0,3", "--box: box must be at least 1 pixel wide and high"),
    ("track {walk}", "walk has no ground truth to start from; give --box X,Y,W,H or --select"),
    (f"track {{tmp}}/no.mp4 --box {BOX}", "no.mp4 does not exist"),
    (f"track {{tmp}} --box {BOX}", "holds no images"),
    (f"{HERE} --save-boxes {{tmp}}/a.xls", "a file of boxes must end in .txt, .csv, .json, got"),
    (f"{HERE} --save-boxes {{tmp}}/no/a.txt", "there is no folder"),
    (f"{HERE} --save-video {{tmp}}/a.gif", "a video must end in .mp4"),
    (f"{HERE} --save-boxes /proc/b.csv", "cannot write /proc/b.csv: "),
    (f"{HERE} --preset fats", "unknown preset 'fats'"),
    (f"{HERE} --weights {{tmp}}/bad.h5", "bad.h5"),
    (f"{HERE} --device tpu", "device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
    ("convert {tmp}/bad.pth {tmp}/a.h5", "bad.pth"),
    ("convert {tmp}/bad.pth {tmp}/a.npz", "the output must end in .h5"),
    ("convert {tmp}/bad.pth {tmp}/a.h5 --arch foo", "argument --arch: invalid choice: 'foo'"),
    ("gradcheck --report {tmp}/report.txt", "report.txt: a report must end in .json"),
    ("gradcheck relu fly", "error: there is no check fly; there are conv, "),
    ("gradcheck relu --mutants", "--mutants needs every check"),
    ("train {tmp}/no.h5 --out {tmp}/run --arch foo", "error: arch must be one of conv1, "),
    (f"{HERE} --preset default:num_scales=4", "default:num_scales=4: num_scales must be odd"),
    ("doctor --compile 90", "error: archs must be names like sm_90, got '90'"),
]


@pytest.mark.parametrize(("words", "text"), BAD)
def test_bad_arguments(fails, folder, tmp_path, words, text):
    if "/proc" in words and not Path("/proc").is_dir():
        pytest.skip("needs a folder in which nobody can make files")
    for name in ("bad.h5", "bad.pth"):
        (tmp_path / name).write_bytes(b"nothing")
    before = sorted(tmp_path.rglob("*"))
    fails(2, text, words.format(walk=folder, tmp=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_first_row_of_ground_truth(fails, folder):
    (folder / "groundtruth.txt").write_text("nan,nan,nan,nan\n" * 5)
    text = "the ground truth of walk has no target in the first frame; give --box"
    fails(2, text, "track", folder)


def test_what_opencv_says_about_bad_sources_stays_out(tmp_path):
    """OpenCV and FFmpeg write to stderr themselves: only a process of its own shows it."""
    (tmp_path / "a.mp4").write_bytes(b"\0no video" * 100)
    sources = {tmp_path / "a.mp4": "cannot be decoded as a video", 63: "camera 63 cannot be opened"}
    for source, text in sources.items():
        process = command("track", source, "--box", BOX)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (2, "")
        assert err.startswith("dcfnet: error: ") and text in err and err.count("\n") == 1, err


def test_outputs_never_overwrite_inputs(fails, track, tmp_path, rng):
    frames = make_frames(rng, 3)
    write_video(tmp_path / "in.avi", frames, "MJPG")
    os.link(tmp_path / "in.avi", tmp_path / "other.avi")
    write_video(tmp_path / "x.part.avi", frames, "MJPG")
    truth = tmp_path / "car" / "groundtruth_rect.txt"
    write_images(tmp_path / "car" / "img", frames)
    truth.write_text("21,11,16,12\n" * 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    itself, lost = "is the source itself and would be lost", "is ground truth and would be lost"
    for source, output, text in (
        ("in.avi", "--save-video {}/in.avi", f"in.avi {itself}; choose another name"),
        ("in.avi", "--save-video {}/other.avi", f"other.avi {itself}"),
        ("x.part.avi", "--save-video {}/x.avi", itself),
        ("car", "--save-boxes {}/car/groundtruth_rect.txt", lost),
        ("car/img/*.png", "--save-boxes {}/car/groundtruth_rect.txt", lost),
    ):
        fails(2, text, "track", tmp_path / source, "--box", BOX, output.format(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    truth.unlink()
    assert track(tmp_path / "in.avi", f"--save-boxes {truth}", box=BOX)[0] == 0  # nothing is lost


@pytest.mark.parametrize("text", ["21,11,16,12\nnan\n", "21,11,16,12\n" * 2])
def test_broken_ground_truth_matters_only_without_a_box(track, fails, folder, text):
    (folder / "groundtruth_rect.txt").write_text(text)
    code, out, err = track(folder, box=BOX)
    assert code == 0 and out.startswith("walk: 5 frames") and "IoU" not in out
    assert err.startswith("dcfnet: warning: ") and err.count("\n") == 1
    assert "groundtruth_rect.txt" in err and err.endswith("; going on without mean IoU\n")
    fails(2, "groundtruth_rect.txt", "track", folder)


def test_a_gpu_that_is_not_there(fails, folder):
    if backend.select_device("auto").kind == "cuda":
        pytest.skip("there is a GPU")
    fails(2, "device 'cuda' was asked for, but", f"track {folder} --box {BOX} --device cuda")
    fails(2, "device 'cuda:1' was asked for, but", "gradcheck --device cuda:1")
    fails(2, "device 'cuda' was asked for, but", "bench --device cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize("option", ["--select", f"--show --box {BOX}"])
def test_no_display(fails, folder, monkeypatch, option):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    fails(2, f"{option.split()[0]} needs a display", "track", folder, option)


# --- failures midway: exit code 1, and what was done is kept ---


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_undecodable_frame_midway(track, folder, tmp_path, suffix):
    (folder / "0004.png").write_bytes(b"not an image")
    path, video = tmp_path / f"a{suffix}", tmp_path / "a.mp4"
    code, out, err = track(folder, f"--save-boxes {path} --save-video {video}", box=BOX)
    assert (code, out, err.count("\n")) == (1, "", 1)
    why = "does not decode as an image; replace it or leave it out"
    assert f"{why}; 3 boxes before it kept in {path}" in err
    boxes = read_boxes(path)
    assert len(boxes) == 3 and iou(boxes, expected_boxes(3)).min() > 0.6
    with open_source(video) as source:
        assert len(list(source)) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_keeps_the_boxes(folder, network_file, tmp_path, signal_name):
    (folder / "0004.png").unlink()
    # the command waits here, for as long as we hold the pipe open and write nothing
    os.mkfifo(folder / "0004.png")
    path, part = tmp_path / "a.csv", tmp_path / "a.part.csv"
    options = ["--weights", network_file, "--save-boxes", path]
    process = command("track", folder, "--box", BOX, *options)
    pipe = None
    while pipe is None:
        assert process.poll() is None, process.stderr.read()
        try:
            pipe = os.open(folder / "0004.png", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.05)
    until = time.monotonic() + PATIENCE
    # frames are read ahead
    while len(read_boxes(part)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(read_boxes(part)) == 3  # on the disk already
    process.send_signal(getattr(signal, signal_name))
    out, err = process.communicate(timeout=PATIENCE)
    os.close(pipe)
    assert process.returncode == 1 and out.startswith("walk: 3 frames")
    assert err == "dcfnet: stopped after 3 frames\n"
    assert len(read_boxes(path)) == 3
    assert not list(tmp_path.glob("*.part*"))


def test_debug_shows_the_traceback(dcfnet, folder):
    code, _, err = dcfnet("track", folder, "--box", "1,1,0,3", "--debug")
    assert code == 2 and "Traceback" in err and "in check_box" in err
    assert err.splitlines()[-1].startswith("dcfnet: error: --box: box must be at least 1 pixel")


# --- the other commands ---


def test_help_is_light():
    script = (
        "import sys, dcfnet_np.cli as c; c.make_parser('');"
        "print(*{'numpy', 'cv2', 'scipy', 'h5py', 'tqdm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == ""


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert " ".join(cli.COMMANDS[name].split()) in " ".join(capsys.readouterr().out.split())


def test_convert(dcfnet, data_dir, tmp_path):
    code, out, _ = dcfnet("convert", data_dir / "weights" / "param.pth", tmp_path / "a.h5")
    assert (code, out) == (0, f"{tmp_path / 'a.h5'}: light, 10144 parameters, bgr input\n")
    assert weights.load_weights(tmp_path / "a.h5").architecture == "light"


@pytest.fixture
def few_cases(monkeypatch):
    """Only two of the cases, since test_gradcheck.py runs them all; and mutants of one function."""
    chosen = {name: gradcheck.CASES[name] for name in ("relu", "equation 4")}
    for module in (gradcheck.cases, gradcheck.mutants):
        monkeypatch.setattr(module, "CASES", chosen)
    name = "ops.relu.relu_backward"
    function = gradcheck.mutants.targets()[name]
    monkeypatch.setattr(gradcheck.mutants, "targets", lambda: {name: function})


@pytest.mark.parametrize("option", [(), ("--float32",)])
def test_gradcheck(dcfnet, few_cases, option):
    code, out, err = dcfnet("gradcheck", *option)
    assert (code, err) == (0, "")
    *_, last = lines = out.splitlines()
    assert lines[0].split() == ["op", "eq.", "shape", "gradient", "error", "limit"]
    assert last.endswith("checks, all within their limits")
    assert len(lines) == int(last.split()[0]) + 2
    assert all(line.endswith("  ok") for line in lines[1:-1])
    if option:
        limits = [float(line.split()[-2]) for line in lines[1:-1]]
        assert all(1e-7 < limit < 0.01 for limit in limits if limit)  # 0 for an empty batch


def test_gradcheck_of_one_op(dcfnet, few_cases, tmp_path):
    path = tmp_path / "report.json"
    code, out, err = dcfnet("gradcheck", "relu", "--report", path)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:-2]] == ["relu", "relu"]
    assert [curve["gradient"] for curve in json.loads(path.read_text())["sweeps"]] == ["dx"]


def test_gradcheck_of_a_wrong_gradient(dcfnet, few_cases, monkeypatch):
    right = relu.relu_backward
    monkeypatch.setattr(relu, "relu_backward", lambda dy, cache: 1.001 * right(dy, cache))
    code, out, err = dcfnet("gradcheck")
    assert code == 1
    assert err.startswith("dcfnet: error: ") and " checks failed" in err and err.count("\n") == 1
    assert any(line.startswith("relu") and line.endswith("  WRONG") for line in out.splitlines())


def test_gradcheck_with_a_report_and_mutants(dcfnet, few_cases, tmp_path):
    path = tmp_path / "report.json"
    code, out, err = dcfnet("gradcheck", "--mutants", "--report", path)
    assert (code, err) == (0, "")
    *_, mutants, last = out.splitlines()
    assert mutants == "3 mutants, 3 killed, 0 equivalent, 0 not run, 0 survived"
    assert last == f"wrote {path}"
    report = json.loads(path.read_text())
    assert len(report["checks"]) == len(out.splitlines()) - 4 and report["score"]["killed"] == 3
    assert [curve["gradient"] for curve in report["sweeps"]] == ["dx", "dresponse"]
    del gradcheck.cases.CASES["relu"]
    code, out, err = dcfnet("gradcheck", "--mutants")
    assert code == 1 and "3 mutants survived" in err
    assert out.count("survived: ops.relu.relu_backward, line ") == 3


def test_doctor(dcfnet, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    code, out, err = dcfnet("doctor")
    assert (code, err) == (0, "")
    found = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert found["numpy"] == np.__version__ and found["opencv"] == cv2.__version__
    assert found["python"].startswith(sys.version.split()[0])
    assert "OPENBLAS_CORETYPE=Haswell" in found["variables"]
    assert {"scipy", "h5py", "cupy", "cores", "blas", "gpu", "weights"} <= set(found)
    if backend.select_device("auto").kind == "cpu":
        assert backend.select_device("auto").note in found["gpu"]


# the write fails at the end, or at the first line
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("word", ["doctor", "--help"])
def test_a_reader_that_leaves_is_no_error(word, unbuffered):
    process = command(word, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    process.stdout.close()  # as `head` does, here before the first line
    assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE) in (0, 1)


def test_doctor_survives_a_broken_library():
    """A module that does not import is a finding, not a crash."""
    broken = "sys.modules.update({name: None for name in ('h5py', 'numpy', 'threadpoolctl')})"
    script = f"import sys; {broken}; from dcfnet_np.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("h5py", "numpy"):
        assert f"{name:<12} does not import" in done.stdout
    assert f"{'gpu':<12} unknown (" in done.stdout


def test_doctor_compiles_the_kernels(dcfnet, fails, monkeypatch):
    try:
        compiling.compiler()
    except compiling.CompileError:
        fails(1, "pip install cuda-core", "doctor --compile sm_80")
        pytest.skip("cuda-core with NVRTC is not installed")
    monkeypatch.setattr(kernels, "sources", lambda: ["peak.cu"])
    code, out, err = dcfnet("doctor", "--compile", "sm_80,sm_90")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert {line.split()[1] for line in lines[1:-1]} == {"sm_80", "sm_90"}
    assert lines[-1].startswith(f"{len(lines) - 2} kernels compiled for sm_80, sm_90")


# --- demo ---


def test_demo_without_its_clip(fails, monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    text = "install the extra demo: pip install '.[demo]' in a clone"
    fails(1, text, "demo --out", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_demo(dcfnet, fails, tmp_path):
    try:
        importlib.metadata.distribution("scikit-video")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed: the extra demo")
    (tmp_path / "a").write_text("mine")
    fails(2, f"cannot make the folder {tmp_path}/a/b: ", "demo --out", tmp_path / "a" / "b")
    out_dir = tmp_path / "new" / "demo"
    code, out, err = dcfnet("demo", "--out", out_dir)
    assert (code, err) == (0, "")
    names = [out_dir / name for name in ("boxes.csv", "carphone.mp4")]
    assert out.startswith("carphone_pristine: 120 frames, ")
    assert out.splitlines()[-1] == f"wrote {names[0]} and {names[1]}"
    boxes = read_boxes(names[0])
    assert boxes.shape == (120, 4)
    np.testing.assert_array_equal(boxes[0], (64, 30, 46, 64))
    with open_source(names[1]) as video:
        assert len(list(video)) == 120
    assert iou(boxes[-1], (47, 30, 48, 68)) > 0.5  # the face moves little and stays large
