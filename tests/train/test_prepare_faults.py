"""`dcfnet prepare` killed, on a full disk, with several workers, and with more than its memory."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from layouts import otb

from dcfnet_np.train.crops import read_crops
from dcfnet_np.train.prepare import Window, prepare_crops

BOX = np.array([[60, 50, 20, 31]], float)
SEQUENCES, WINDOW = 6, Window(size=101, margin=12)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def command(root, out, *words):
    options = [root, "--out", out, "--size", 101, "--margin", 12, *words]
    return [sys.executable, "-m", "dcfnet_np", "prepare", *map(str, options)]


def run(words, **settings):
    return subprocess.run(words, capture_output=True, text=True, **settings)


def go_through(words):
    """Run it to a good end."""
    done = run(words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sequences of 8 to 53 frames, less than a block and more; each with boxes of its own."""
    root = tmp_path_factory.mktemp("data")
    for index in range(SEQUENCES):
        boxes = BOX + index + np.arange(8 + 9 * index)[:, None] * (0.5, 0.3, 0.1, 0.2)
        boxes[3] = np.nan
        otb(root, f"s{index}", boxes)
    (root / "s2/img/0009.jpg").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The bytes of the file that an uninterrupted run makes."""
    out = tmp_path_factory.mktemp("whole") / "crops.h5"
    go_through(command(root, out))
    return out.read_bytes()


def test_killed_at_any_moment_the_next_run_ends_with_the_same_file(root, whole, tmp_path):
    """kill -9 again and again, always a little later, until a run is through."""
    out, journal = tmp_path / "crops.h5", tmp_path / "crops.part.jsonl"
    words, kept = command(root, out, "--workers", 2), []

    def lines():
        return len(journal.read_bytes().splitlines()) if journal.exists() else 0

    for wanted in range(1, SEQUENCES):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        while process.poll() is None and lines() <= wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if out.exists():
            break
        kept.append(lines())
    assert len(kept) >= 2 and kept == sorted(kept)
    go_through(words)
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["crops.h5"]


@pytest.mark.parametrize(
    "moment",
    [
        "h5py.File.__exit__ = lambda file, *error: (file.flush(), os.kill(os.getpid(), 9))",
        "crops.sync_and_move = lambda *paths: os.kill(os.getpid(), 9)",
    ],
    ids=["structure half written", "before the file is renamed"],
)
def test_killed_while_the_file_is_finished(root, whole, tmp_path, moment):
    script = (
        "import os, sys, h5py\nfrom dcfnet_np.cli import main\nfrom dcfnet_np.train import crops\n"
        f"{moment}\nmain(sys.argv[1:])"
    )
    words = command(root, tmp_path / "crops.h5")
    done = run([words[0], "-c", script, *words[3:]])
    assert done.returncode == -9 and not (tmp_path / "crops.h5").exists(), done.stderr
    go_through(words)
    assert (tmp_path / "crops.h5").read_bytes() == whole


@pytest.mark.parametrize("missing", [0.7, 1e-9, "room"])
def test_a_full_disk_is_one_line_and_the_run_goes_on(root, whole, tmp_path, missing):
    """A limit on the size of files fails like a full disk: in the crops, and behind them."""
    size = int(len(whole) * (1 - missing)) - 1 if missing != "room" else len(whole) + 100_000
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}
    out = tmp_path / "crops.h5"
    done = run(command(root, out), **limits)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"dcfnet: error: cannot write {out}: File too large; make room")
    assert done.stderr.count("\n") == 1 and f"of {SEQUENCES} sequences kept" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops.part.h5", "crops.part.jsonl"]
    go_through(command(root, out))
    assert out.read_bytes() == whole


def cut_short(root, out, window=WINDOW):
    """A run that is stopped after 100 frames; returns the two files that it leaves."""

    def progress(what, done, total):
        if what == "frames" and done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_crops([root], out, window, progress=progress)
    return out.with_name("crops.part.h5"), out.with_name("crops.part.jsonl")


@pytest.mark.parametrize(
    "damage", ["none", "pixel", "half a line", "no pixels", "no journal", "other settings"]
)
def test_what_does_not_hold_is_made_again(root, whole, tmp_path, damage):
    out = tmp_path / "crops.h5"
    part, journal = cut_short(
        root, out, WINDOW._replace(padding=1.5) if damage == "other settings" else WINDOW
    )
    lines = journal.read_bytes().splitlines(keepends=True)
    assert 2 < len(lines) <= SEQUENCES
    if damage == "pixel":
        pixels = bytearray(part.read_bytes())
        pixels[200_000] ^= 1
        part.write_bytes(pixels)
    elif damage == "half a line":
        journal.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    elif damage == "no pixels":
        part.write_bytes(part.read_bytes()[:5000])
    elif damage == "no journal":
        journal.unlink()
    begins = []
    prepare_crops([root], out, WINDOW, progress=lambda what, done, total: begins.append(done))
    kept = {"none": len(lines) - 1, "half a line": 1, "no journal": 0, "other settings": 0}
    if damage in kept:  # frames of whole sequences, after those of the annotations
        assert begins[SEQUENCES] == sum(8 + 9 * index for index in range(kept[damage]))
    assert out.read_bytes() == whole


def test_annotations_that_changed_are_read_again(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "data")
    out = tmp_path / "crops.h5"
    cut_short(copy, out)
    truth = copy / "s1/groundtruth_rect.txt"
    truth.write_text(truth.read_text().replace("62,52,21,32", "63,52,20,31"))
    prepare_crops([copy], out, WINDOW)
    data = read_crops(out)
    np.testing.assert_array_equal(data.box[data.sequence == 1][0], [62, 51, 20, 31])
    prepare_crops([copy], tmp_path / "anew.h5", WINDOW)
    assert out.read_bytes() == (tmp_path / "anew.h5").read_bytes()


def test_memory_does_not_grow_with_the_set(tmp_path):
    """Peak memory of a process that writes 12 times the crops, 100 MB, is that with few."""
    otb(tmp_path / "data", "ant", np.tile(BOX, (45, 1)))
    for index in range(12):
        shutil.copytree(tmp_path / "data/ant", tmp_path / f"data/ant{index}")
    script = (
        "import resource, sys\nfrom dcfnet_np.cli import main\ncode = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\nsys.exit(code)"
    )
    peaks, sizes, out = [], [], tmp_path / "crops.h5"
    for folder in (tmp_path / "data/ant", tmp_path / "data"):
        words = ["prepare", folder, "--out", out, "--size", "200", "--margin", "30"]
        done = run([sys.executable, "-c", script, *words])
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
        sizes.append(out.stat().st_size)
    assert sizes[1] - sizes[0] > 100e6
    assert peaks[1] - peaks[0] < 15e6
