"""Hard input: a share of what `benchmarks/robustness.py` tries, and the bugs that it found, one by
one.
"""

import json
import struct
import warnings
from pathlib import Path

import cv2
import h5py
import hard_input
import numpy as np
import pytest
import scipy.io
from processes import run_python
from scenes import make_frames, write_images, write_video
from weight_files import CONTAINERS, compressed, matrix, p_int, p_state, p_tensor, p_tuple

from dcfnet_np import datasets, weights
from dcfnet_np.datasets.davis import read_mask
from dcfnet_np.evaluation import results, runner
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.crops import read_crops
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import check_box
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.images import SourceError, decode_image, read_image
from dcfnet_np.vision.sources import open_source
from dcfnet_np.weights import WeightsError
from dcfnet_np.weights.mat import MatlabError, read_mat

TESTS = Path(__file__).parent
SHARE = {"MultiTracker": 40, "Tracker": 40, "track": 32, "boxes": 200, "results": 200}


@pytest.mark.parametrize("name", hard_input.KINDS)
def test_hard_input_ends_well(tmp_path, monkeypatch, name):
    """The same inputs in every run.

    Some must get through: a library that refuses everything would pass else.
    """
    monkeypatch.chdir(tmp_path)
    count = SHARE.get(name, 80)
    ended = hard_input.run(name, count, 0, tmp_path)
    assert sum(ended.values()) >= 0.9 * count
    assert ended["result"] + ended["exit 0"] > 0 and len(ended) > 1, ended


@pytest.mark.parametrize(
    ("what", "said"), [("os.abort()", "Fatal Python error"), ("while True: pass", "Timeout")]
)
def test_a_crash_and_a_hang_are_noticed(tmp_path, what, said):
    """And what was tried last is there to be tried again."""
    program = f"""
        import os, sys
        sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "support")!r}]
        import hard_input
        def check(value, folder):
            {what}
        hard_input.EXAMPLE_SECONDS = 1
        hard_input.KINDS["x"] = hard_input.Kind(hard_input.SEEDS, check, True, lambda value, rng: value)
        sys.argv[1:] = ["x", "5", "0", {str(tmp_path)!r}]
        hard_input.main()
    """
    done = run_python(program)
    assert done.returncode != 0 and said in done.stderr
    assert int((tmp_path / "current.txt").read_text()) >= 0


def refused(function, *arguments, error=ValueError, match="."):
    with pytest.raises(error, match=match) as caught:
        function(*arguments)
    hard_input.clear(caught.value)


# --- boxes and numbers ---


@pytest.mark.parametrize(
    "box", ["1234", b"1234", ["1", "2", "3", "4"], (10**400, 0, 1, 1), np.zeros((4, 4)), "x" * 9999]
)
def test_what_is_no_box(box):
    refused(check_box, box, (48, 64, 3), match="must be four numbers")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".txt"])
@pytest.mark.parametrize("number", ["inf", "-1e300", "1" + "0" * 400])
def test_numbers_that_are_no_pixels(tmp_path, suffix, number):
    path = tmp_path / f"a{suffix}"
    number = "-Infinity" if (suffix, number) == (".json", "inf") else number
    record = f'[{{"x": {number}, "y": 1, "w": 1, "h": 1}}]'
    path.write_text(
        record
        if suffix == ".json"
        else ("x,y,w,h\n" if suffix == ".csv" else "") + f"{number},1,1,1\n"
    )
    refused(read_boxes, path, match="a number beyond 1e|OverflowError")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", 'x,y,w,h\n"' + "7" * 200_000), ("a.json", "[" * 200_000), ("a.json", '[{"x": 1}]')],
)
def test_files_that_are_no_boxes(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    refused(read_boxes, tmp_path / name, match=f"{name}: not a ")


def test_windows_far_outside_are_black(rng):
    """Their pixels have no number that fits into 32 bits."""
    frame = rng.integers(1, 256, (5, 7, 3), np.uint8)
    for centre, window in (((2.0**31, 0), (9, 9)), ((0, -1e300), (9, 9)), ((1e9, 1e9), (3, 3))):
        assert not crop_patches(frame, centre, np.array([window], float), 8, rounded=True).any()


# --- sources ---


def test_digits_of_other_kinds_in_names(tmp_path, rng):
    frames = make_frames(rng, 3)
    for name, frame in zip(("²1.png", "٣.png", "10.png"), frames):
        (tmp_path / name).write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    with open_source(tmp_path) as source:
        assert len(list(source)) == 3


@pytest.mark.parametrize(
    "spec", ["a%99999999999d.png", "x" * 300, "x" * 5000, "9" * 30, "9" * 5000, "http://[::1"]
)
def test_sources_that_cannot_be(spec):
    refused(open_source, spec, error=SourceError)


def endless_png(image):
    """A PNG whose first chunk of pixels is said to be longer than the file."""
    data = cv2.imencode(".png", image)[1].tobytes()
    at = data.index(b"IDAT") - 4
    return data[:at] + struct.pack(">I", 0xFF7FFFF5) + data[at + 4 :]


def test_a_png_without_end(tmp_path, rng):
    """OpenCV 5.0 never comes back from it; in a process of its own, so that this test does."""
    image = make_frames(rng, 1)[0]
    (tmp_path / "a.png").write_bytes(endless_png(image))
    program = f"""
        from pathlib import Path
        from dcfnet_np.vision.images import read_image
        from dcfnet_np.datasets.davis import read_mask
        for read in (lambda path: read_image(path, 1), read_mask):
            try:
                read(Path({str(tmp_path / "a.png")!r}))
            except ValueError as error:
                print(error)
    """
    done = run_python(program)
    assert done.stdout.count("not") == 2 and done.stdout.count("\n") == 2, done
    (tmp_path / "a.png").write_bytes(
        cv2.imencode(".png", image)[1].tobytes() + b"what comes behind does not matter"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1), image)
    gray = cv2.imencode(".png", image[..., 0])[1].tobytes()
    (tmp_path / "a.png").write_bytes(gray)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), image[..., 0])
    assert (
        decode_image(b"", cv2.IMREAD_COLOR) is None
        and decode_image(gray[:9], cv2.IMREAD_COLOR) is None
    )


def test_a_video_of_few_pixels(tmp_path, rng):
    """Damaged ones of 2x2 pixels ended the process inside FFmpeg."""
    write_video(tmp_path / "a.mp4", rng.integers(0, 256, (3, 4, 4, 3), np.uint8), "mp4v")
    refused(
        open_source,
        tmp_path / "a.mp4",
        error=SourceError,
        match="a video of 4x4 pixels, 8x8 are the least",
    )
    write_video(tmp_path / "b.mp4", rng.integers(0, 256, (3, 8, 8, 3), np.uint8), "mp4v")
    with open_source(tmp_path / "b.mp4") as source:
        assert len(list(source)) == 3


def test_a_frame_that_is_said_to_be_there(tmp_path, rng):
    """Of some damaged videos OpenCV's `retrieve` says (True, None)."""

    class Nothing:
        def __getattr__(self, name):
            return getattr(capture, name)

        def retrieve(self):
            return True, None

    write_video(tmp_path / "a.avi", make_frames(rng, 3), "MJPG")
    with open_source(tmp_path / "a.avi") as source:
        frames = source.frames()
        next(frames)
        capture = source._capture
        source._capture = Nothing()
        refused(next, frames, error=SourceError, match="frame 2 of .*a.avi does not decode")


@pytest.mark.parametrize(
    "words",
    [
        ["--trail", "9" * 20],
        ["--start", "9" * 308 + "s"],
        ["--every", "9" * 400],
        ["--max-frames", "٣"],
    ],
)
def test_arguments_beyond_measure(dcfnet, tmp_path, words):
    code, out, err = dcfnet("track", tmp_path, "--box", "1,1,9,9", *words)
    assert (
        code == 2
        and err.startswith(f"dcfnet: error: argument {words[0]}: must be a ")
        and len(err) < 300
    )


# --- the tracker ---


def test_weights_far_too_large(rng):
    frames = make_frames(rng, 2)
    tracker = Tracker(hard_input.hard_weights("huge"), hard_input.PRESETS["tiny"], "cpu")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of another thread
        refused(tracker.init, frames[0], (20, 10, 16, 12), match="Tracker.init: no finite filter")


def test_a_response_that_is_not_finite_moves_nothing(rng):
    """Nor does it get out."""
    frames = make_frames(rng, 2)
    tracker = Tracker(hard_input.untrained(), hard_input.PRESETS["tiny"], "cpu")
    tracker.init(frames[0], (20, 10, 16, 12))
    tracker._target.filter.numerator[0, 0, 1] = np.nan
    result = tracker.update(frames[1], response=True)
    assert result.box == (20, 10, 16, 12) and not result.ok and not result.response.any()
    hard_input.good_result(result, frames[0].shape, True)


# --- .mat, .pth, .h5 ---


def test_mat_files_are_read_as_scipy_does(tmp_path, rng):
    content = {
        "double": rng.random((2, 3, 4)),
        "number": 2.5,
        "bytes": rng.integers(0, 255, (3, 2), np.uint8),
        "text": "Zoë",
        "empty": np.zeros((0, 3)),
        "net": {
            "layers": np.array([[{"type": "conv", "w": np.eye(2)}, {"type": "relu"}]], object),
            "meta": {"a": 1},
        },
    }
    for compress in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compress)
        ours = read_mat((tmp_path / "a.mat").read_bytes())
        theirs = scipy.io.loadmat(tmp_path / "a.mat")
        for name in ("double", "bytes", "empty"):
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype and ours[name].flags.writeable
        assert (ours["number"], ours["text"]) == (2.5, "Zoë")
        assert [layer["type"] for layer in ours["net"]["layers"]] == ["conv", "relu"]
        np.testing.assert_array_equal(ours["net"]["layers"][0]["w"], np.eye(2))
        assert ours["net"]["meta"] == {"a": 1}


def nested(depth):
    data = matrix(6, (1, 1), (9, bytes(8)))
    for _ in range(depth):
        data = matrix(1, (1, 1), (14, data[8:]))
    return data


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (matrix(6, (2**31 - 1, 2**31 - 1), (9, bytes(8))), "1 numbers for a shape"),
        (matrix(1, (2**31 - 1, 2**31 - 1)), "more cells or structures than there are bytes"),
        (matrix(1, (20, 1)), "more cells or structures than there are bytes"),
        (
            matrix(2, (2**31 - 1, 1), (5, struct.pack("<i", 8)), (1, b"")),
            "more cells or structures",
        ),
        (matrix(6, (-1, -1), (9, bytes(8))), "without a shape"),
        (matrix(6, (1, 1), (9, bytes(7))), "half a number"),
        (matrix(6, (1, 1), (99, bytes(8))), "unknown type 99"),
        (matrix(6, (1, 1), (9, bytes(8)))[:-4], "beyond its end"),
        (matrix(4, (1, 1), (16, b"\xff")), "does not decode"),
        (struct.pack("<II", 14, 2**32 - 1), "beyond its end"),
        (compressed(bytes(20 << 20)), "cut short or too large"),
        (compressed(bytes(100))[:-6], "beyond its end"),
        (nested(20), "nested too deep"),
        (nested(500), "nested too deep"),
    ],
    ids=str,
)
def test_mat_files_that_claim_too_much(element, message):
    """SciPy's reader ends the process on such files, or fills the memory."""
    refused(
        read_mat,
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element,
        error=MatlabError,
        match=message,
    )


def test_other_things_in_a_mat_file_do_no_harm():
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for data in (
        matrix(16, (1, 1), (1, b"x")),
        matrix(6, (1, 1), (9, bytes(8)), (9, bytes(8)), flags=0x800),
    ):
        assert read_mat(start + data) == {"net": None}
    assert read_mat(start + nested(10))["net"] != []


@CONTAINERS
@pytest.mark.parametrize("again", [b"q\x01h\x01\x86", b"2\x86"])
def test_tuples_of_the_same_tuples(tmp_path, container, again):
    """Fifty pairs inside each other, as the key of a dict: hashed, that is 2**50 steps."""
    bomb = b"\x80\x02}(" + p_tuple(p_int(1)) + again * 50 + b"K\x01u."
    for state in (bomb, p_state([]).replace(b"}", b"", 1)[:-2] + bomb[3:]):
        path = tmp_path / "bomb.pth"
        path.write_bytes(container(state, {}))
        with pytest.raises(WeightsError, match="too large for a state dict|incomplete or damaged"):
            weights.import_weights(path)


@CONTAINERS
def test_many_tensors_of_one_storage(tmp_path, container):
    """Each is within its storage; together they would be far more than the file."""
    entries = [(f"{i}.weight", p_tensor("0", (1000,), (1,), 1000)) for i in range(300)]
    path = tmp_path / "a.pth"
    path.write_bytes(container(p_state(entries), {"0": bytes(4000)}))
    refused(weights.import_weights, path, error=WeightsError, match="more values than the file")


def test_hdf5_without_checksums_is_not_opened(tmp_path):
    """The library may never return from such a file; ours all have checksums."""
    hard_input.old_hdf5(tmp_path / "a.h5")
    refused(
        weights.load_weights,
        tmp_path / "a.h5",
        error=WeightsError,
        match="no weights: neither a file of dcfnet_np",
    )


# --- crops.h5 ---


@pytest.fixture
def crops_file(tmp_path):
    path = tmp_path / "crops.h5"
    path.write_bytes(hard_input.crop_files()[0])
    assert read_crops(path).crops.shape == (8, 3, 8, 8)
    return path


def empty(file):
    for name in ("crops", "sequence", "frame", "box"):
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(
            name, (0, *shape[1:]), kind, chunks=(1, *shape[1:]), maxshape=(None, *shape[1:])
        )


@pytest.mark.parametrize(
    "change",
    [
        empty,
        lambda file: file.__delitem__("validation"),
        lambda file: file["sequence"].__setitem__(3, 7),
        lambda file: file["sequence"].__setitem__(3, -1),
        lambda file: file["box"].__setitem__((0, 0), np.inf),
        lambda file: file.attrs.__setitem__("padding", np.nan),
        lambda file: file.attrs.__setitem__("padding", -1.0),
        lambda file: file.attrs.__setitem__("margin", -1),
        lambda file: file.attrs.__setitem__("size", [8, 8]),
        lambda file: file.attrs.__setitem__("format", [2, 2]),
    ],
    ids=lambda change: str(change.__code__.co_consts),
)
def test_crops_that_do_not_fit(crops_file, change):
    with h5py.File(crops_file, "r+") as file:
        change(file)
    refused(read_crops, crops_file, match="crops.h5 must be a file made by prepare")


def test_texts_of_crops_lie_where_a_checksum_is(crops_file):
    """A text of variable length lies in a heap without one, where damage made HDF5 loop for ever."""
    with h5py.File(crops_file) as file:
        for name in file.attrs:
            kind = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
            assert kind is None or kind.length is not None, name
    assert len(read_crops(crops_file).digest) == 64


def test_a_validation_flag_that_is_neither(crops_file):
    with h5py.File(crops_file) as file:
        at = file["validation"].id.get_offset()
    data = bytearray(crops_file.read_bytes())
    data[at] = 7
    crops_file.write_bytes(data)
    assert read_crops(crops_file).validation.view(np.uint8).tolist() == [1, 0, 1]


# --- results and data sets ---


@pytest.mark.parametrize("text", ["[1]", "7", "{}", "[" * 100_000, '{"format": 1}', "\x80"])
def test_results_that_are_none(tmp_path, text):
    for name, read in (("results.json", results.load), ("run.json", runner.read_record)):
        (tmp_path / name).write_text(text, encoding="latin-1")
        refused(read, tmp_path, match=name)


@pytest.mark.parametrize("text", [b"1,2,inf,4\n", b"\x80\n", b"nan\n", b"1,2,3,1e300\n"])
def test_vot_results_that_are_none(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text)
    message = "a.txt(, line 1: expected 0, 1, 2 or four numbers| is no UTF-8 text from byte 0 on)"
    refused(runner.read_vot, tmp_path / "a.txt", match=message)


@pytest.mark.parametrize("name", ["attrs.txt", "list.txt"])
def test_files_beside_a_sequence_that_are_no_text(tmp_path, name):
    root = hard_input.dataset_root(tmp_path, "otb")
    (root / name).write_bytes(b"\x80 \xff" + b"7" * 9000)
    if name == "attrs.txt":
        refused(
            datasets.load_dataset,
            root,
            error=datasets.DatasetError,
            match="attrs.txt is no UTF-8 text from byte 0 on",
        )
    assert all(len(problem.text) < 500 for problem in datasets.check_dataset(root))


def test_attributes_nested_without_end(tmp_path):
    root = hard_input.dataset_root(tmp_path, "otb")
    (root / "attributes.json").write_text("[" * 100_000)
    refused(
        datasets.load_dataset,
        root,
        error=datasets.DatasetError,
        match="attributes.json: expected JSON",
    )


def test_a_part_of_uav123_with_another_digit(tmp_path, rng):
    write_images(tmp_path / "data_seq" / "UAV123" / "car1_²", make_frames(rng, 2))
    (tmp_path / "anno" / "UAV123").mkdir(parents=True)
    (tmp_path / "anno" / "UAV123" / "car1_².txt").write_text("1,1,9,9\n" * 2)
    assert [sequence.name for sequence in datasets.load_dataset(tmp_path)] == ["car1_²"]


def test_the_committed_long_run():
    """100,000 inputs, half of them through readers and the command, and no bug; 5 MB at most in
    99,000 frames.
    """
    report = json.loads(
        (TESTS.parent / "benchmarks" / "results" / "robustness.json").read_text(encoding="utf-8")
    )
    found = report["inputs"]
    counts = {name: kind["inputs"] for name, kind in found["kinds"].items()}
    readers = sum(count for name, count in counts.items() if hard_input.KINDS[name].reads)
    assert counts.keys() == hard_input.KINDS.keys() and min(counts.values()) >= 1000
    assert (
        found["inputs"] == sum(counts.values()) >= 100_000
        and found["through_readers"] == readers >= 50_000
    )
    assert found["bugs"] == []
    for run in report["frames"].values():
        (first, start), *_, (last, end) = run["rss_mb_after"].items()
        assert int(first) < 1500 and int(last) >= 99_000 and end - start <= 5, run
