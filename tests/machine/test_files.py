"""Files that several processes want, and files that are the same whenever they are written."""

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from processes import PATIENCE
from scenes import make_sequence, write_sequence
from weight_files import small_crops

from dcfnet_np import network, trace, weights
from dcfnet_np.support.files import WriteError, only_writer, replacing

BUSY = "another process is writing there; wait for its end or choose another name"


def start(program, *words):
    """A Python process that runs `program`; its stdout is a pipe of text."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk") / "walk"
    write_sequence(folder, *make_sequence(np.random.default_rng(1), 6, 96, 72, (24, 18)))
    return folder


def write_crops(path):
    small_crops(path, (2,), 45)


# --- one writer at a time ---


@pytest.mark.parametrize(
    "words",
    [
        "track {walk} --save-boxes {out}.csv",
        "track {walk} --save-boxes {out}.txt",
        "track {walk} --save-video {out}.avi",
        "prepare {walk} --out {out}.h5 --size 21 --margin 0",
        "gradcheck --report {out}.json",
        "trace {walk} --out {out}.h5 --frames 2",
        "eval {walk} --trackers identity --out {out}",
        "tune {walk} --search num_scales=1|3 --trials 1 --starts 1 --frames 2 --out {out}",
        "train {crops} --out {out} --preset paper --padding 2 --epochs 1 --no-hold-out "
        "--no-pictures",
    ],
)
def test_two_writers_of_one_place(dcfnet, walk, tmp_path, words):
    crops, out = tmp_path / "crops.h5", tmp_path / "out"
    write_crops(crops)
    words = words.format(walk=walk, crops=crops, out=out).split()
    place = next(tmp_path.joinpath(word) for word in words if word.startswith(str(out)))
    if place == out:
        out.mkdir()
    with only_writer(place):
        before = sorted(tmp_path.rglob("*"))
        code, _, err = dcfnet(*words)
        assert err == f"dcfnet: error: cannot write {place}: {BUSY}\n"
        assert code == 1 and sorted(tmp_path.rglob("*")) == before
    if words[0] != "gradcheck":  # which takes long
        assert dcfnet(*words)[0] == 0
    assert not list(tmp_path.rglob("*.lock"))


def test_a_lock_ends_with_its_process(tmp_path):
    held = """
        import sys, time, pathlib
        from dcfnet_np.support.files import only_writer
        with only_writer(pathlib.Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(3600)
    """
    path = tmp_path / "boxes.csv"
    process = start(held, path)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(WriteError, match=BUSY), only_writer(path):
        pass
    process.kill()
    process.communicate(timeout=PATIENCE)
    with only_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_many_write_is_always_whole(tmp_path):
    """Four processes replace one file at the same time, as fast as they can; who reads it sees one
    of theirs.
    """
    write = """
        import sys, pathlib
        from dcfnet_np.support.files import replacing
        path, letter = pathlib.Path(sys.argv[1]), sys.argv[2]
        for _ in range(40):
            with replacing(path) as part, open(part, "w") as stream:
                for _ in range(20):
                    stream.write(letter * 1000)
                    stream.flush()
    """
    path = tmp_path / "a.txt"
    with replacing(path) as part:
        part.write_text("z" * 20_000)
    writers = [start(write, path, letter) for letter in "abcd"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        seen.add(text[0])
        assert text == text[0] * 20_000
    for writer in writers:
        _, err = writer.communicate(timeout=PATIENCE)
        assert (writer.returncode, err) == (0, "")
    assert len(seen) > 1 and list(tmp_path.iterdir()) == [path]


# --- the same content, the same bytes ---


def write_weights(path):
    weights.save_weights(path, weights.Weights("light", network.initialise("light", seed=1)))


def write_trace(path):
    trace.write_trace(path, [("frame 0", {"box": np.arange(4.0)})], {"source": "scene"})


@pytest.mark.parametrize("write", [write_weights, write_crops, write_trace])
def test_files_do_not_tell_when_they_were_written(tmp_path, write):
    write(tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 counts seconds
    write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
