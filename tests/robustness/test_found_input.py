"""The bugs that hard input found, one by one. Each fails without its repair."""

import struct
import warnings

import cv2
import h5py
import hard_files
import hard_input
import numpy as np
import pytest
import scipy.io
from hard_files import dataset_root
from processes import run_python
from scenes import make_frames, write_images, write_video
from weight_files import CONTAINERS, compressed, matrix, p_int, p_state, p_tensor, p_tuple

from dcfnet_np import datasets
from dcfnet_np.datasets.davis import read_mask
from dcfnet_np.evaluation import results, runner
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.crops import read_crops
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import check_box
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.images import decode_image, read_image
from dcfnet_np.vision.sources import open_source
from dcfnet_np.weights import import_weights, load_weights
from dcfnet_np.weights.mat import read_mat

BOX = (20, 10, 16, 12)


def refused(function, *arguments, match="."):
    with pytest.raises(ValueError, match=match) as caught:
        function(*arguments)
    hard_input.clear(caught.value)


# --- texts


@pytest.mark.parametrize(
    "box", ["1234", b"1234", ["1", "2", "3", "4"], (10**400, 0, 1, 1), np.zeros((4, 4)), "x" * 9999]
)
def test_what_is_no_box(box):
    refused(check_box, box, (48, 64, 3), match="must be four numbers")


def in_folder(read):
    """Of a reader that is given the folder of its file."""
    return lambda path: read(path.parent)


BEYOND, NO_VOT = "a number beyond 1e|OverflowError", "expected 0, 1, 2 or four numbers"
NO_RESULTS = ("[1]", "7", "{}", "[" * 100_000, '{"format": 1}', b"\x80")
TEXTS = [
    *(
        ("a.txt", f"{number},1,1,1\n", read_boxes, BEYOND)
        for number in ("inf", "-1e300", "9" * 400)
    ),
    *(("a.csv", f"x,y,w,h\n{number},1,1,1\n", read_boxes, BEYOND) for number in ("inf", "9" * 400)),
    ("a.json", '[{"x": -Infinity, "y": 1, "w": 1, "h": 1}]', read_boxes, BEYOND),
    ("a.json", f'[{{"x": {"9" * 400}, "y": 1, "w": 1, "h": 1}}]', read_boxes, BEYOND),
    ("a.csv", 'x,y,w,h\n"' + "7" * 200_000, read_boxes, "a.csv: not a "),
    ("a.json", "[" * 200_000, read_boxes, "a.json: not a "),
    ("a.json", '[{"x": 1}]', read_boxes, "a.json: not a "),
    *(
        ("results.json", text, in_folder(results.load_results), "results.json")
        for text in NO_RESULTS
    ),
    *(("run.json", text, in_folder(runner.read_record), "run.json") for text in NO_RESULTS),
    *(("a.txt", text, runner.read_vot, NO_VOT) for text in ("1,2,inf,4\n", "nan\n", "1,2,3,1e300")),
    ("a.txt", b"\x80\n", runner.read_vot, "a.txt is no UTF-8 text from byte 0 on"),
]


@pytest.mark.parametrize(("name", "text", "read", "match"), TEXTS, ids=lambda each: str(each)[:20])
def test_texts_that_are_none(tmp_path, name, text, read, match):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(read, tmp_path / name, match=match)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a/attrs.txt", b"\x80 \xff" + b"7" * 9000, "attrs.txt is no UTF-8 text from byte 0 on"),
        ("list.txt", b"\x80 \xff" + b"7" * 9000, None),
        ("attributes.json", b"[" * 100_000, "attributes.json: expected JSON"),
    ],
)
def test_files_beside_a_sequence_that_are_no_text(tmp_path, name, text, match):
    root, _ = dataset_root(tmp_path, "otb")
    (root / name).write_bytes(text)
    if match:
        refused(datasets.load_dataset, root, match=match)
    if name.endswith(".txt"):
        assert all(len(problem.text) < 500 for problem in datasets.check_dataset(root))


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("--trail", "9" * 20),
        ("--start", "9" * 308 + "s"),
        ("--every", "9" * 400),
        ("--max-frames", "٣"),
    ],
)
def test_arguments_beyond_measure(dcfnet, tmp_path, option, word):
    code, _, err = dcfnet("track", tmp_path, "--box", "1,1,9,9", option, word)
    assert code == 2 and len(err) < 300
    assert err.startswith(f"dcfnet: error: argument {option}: must be a ")


# --- sources


def test_digits_of_other_kinds_in_names(tmp_path, rng):
    frames = make_frames(rng, 3)
    for name, frame in zip(("²1.png", "٣.png", "10.png"), frames):
        (tmp_path / name).write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    with open_source(tmp_path) as source:
        assert len(list(source)) == 3
    write_images(tmp_path / "uav" / "data_seq" / "UAV123" / "car1_²", frames[:2])
    truth = tmp_path / "uav" / "anno" / "UAV123" / "car1_².txt"
    truth.parent.mkdir(parents=True)
    truth.write_text("1,1,9,9\n" * 2)
    found = datasets.load_dataset(tmp_path / "uav")
    assert [sequence.name for sequence in found] == ["car1_²"]


@pytest.mark.parametrize(
    "spec", ["a%99999999999d.png", "x" * 300, "x" * 5000, "9" * 30, "9" * 5000, "http://[::1"]
)
def test_sources_that_cannot_be(spec):
    refused(open_source, spec)


def test_a_png_without_end(tmp_path, rng):
    """Its first chunk is said to be longer than the file, and OpenCV 5.0 never comes back; in a
    process of its own, so that this test does.
    """
    image, path = make_frames(rng, 1)[0], tmp_path / "a.png"
    data = cv2.imencode(".png", image)[1].tobytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 0xFF7FFFF5) + data[at + 4 :])
    program = f"""
        from pathlib import Path
        from dcfnet_np.vision.images import read_image
        from dcfnet_np.datasets.davis import read_mask
        for read in (lambda path: read_image(path, 1), read_mask):
            try:
                read(Path({str(path)!r}))
            except ValueError as error:
                print(error)
    """
    done = run_python(program)
    assert done.stdout.count("not") == 2 and done.stdout.count("\n") == 2, done
    path.write_bytes(data + b"what comes behind does not matter")
    np.testing.assert_array_equal(read_image(path, 1), image)
    gray = cv2.imencode(".png", image[..., 0])[1].tobytes()
    path.write_bytes(gray)
    np.testing.assert_array_equal(read_mask(path), image[..., 0])
    assert decode_image(b"", cv2.IMREAD_COLOR) is None
    assert decode_image(gray[:9], cv2.IMREAD_COLOR) is None


def test_a_video_of_few_pixels(tmp_path, rng):
    """Damaged ones of 2x2 pixels ended the process inside FFmpeg."""
    for side in (4, 8):
        frames = rng.integers(0, 256, (3, side, side, 3), np.uint8)
        write_video(tmp_path / f"{side}.mp4", frames, "mp4v")
    refused(open_source, tmp_path / "4.mp4", match="a video of 4x4 pixels, 8x8 are the least")
    with open_source(tmp_path / "8.mp4") as source:
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
        refused(next, frames, match="frame 2 of .*a.avi does not decode")


# --- the tracker


def test_windows_far_outside_are_black(rng):
    """Their pixels have no number that fits into 32 bits."""
    frame = rng.integers(1, 256, (5, 7, 3), np.uint8)
    for centre, window in (((2.0**31, 0), (9, 9)), ((0, -1e300), (9, 9)), ((1e9, 1e9), (3, 3))):
        assert not crop_patches(frame, centre, np.array([window], float), 8, rounded=True).any()


def test_weights_far_too_large(rng):
    tracker = Tracker(hard_input.untrained("huge"), hard_input.PRESETS[0], "cpu")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of another thread
        refused(tracker.init, make_frames(rng, 1)[0], BOX, match="Tracker.init: no finite filter")


def test_a_response_that_is_not_finite_moves_nothing(rng):
    """Nor does it get out."""
    frames = make_frames(rng, 2)
    told = {}

    def hear(name, values):
        told.update(values)

    tracker = Tracker(hard_input.untrained(), hard_input.PRESETS[0], "cpu", observer=hear)
    tracker.init(frames[0], BOX)
    told["filter"].means[0][0, 0, 1] = np.nan
    result = tracker.update(frames[1], response=True)
    assert result.box == BOX and not result.ok and not result.response.any()
    hard_input.good_result(result, frames[0].shape, True)


# --- .mat


START = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
NUMBER = matrix(6, (1, 1), (9, bytes(8)))


@pytest.mark.parametrize("compress", [False, True])
def test_mat_files_are_read_as_scipy_does(tmp_path, rng, compress):
    layers = np.array([[{"type": "conv", "w": np.eye(2)}, {"type": "relu"}]], object)
    content = {
        "double": rng.random((2, 3, 4)),
        "bytes": rng.integers(0, 255, (3, 2), np.uint8),
        "empty": np.zeros((0, 3)),
        "number": 2.5,
        "text": "Zoë",
        "net": {"layers": layers, "meta": {"a": 1}},
    }
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compress)
    ours = read_mat((tmp_path / "a.mat").read_bytes())
    theirs = scipy.io.loadmat(tmp_path / "a.mat")
    for name in ("double", "bytes", "empty"):
        np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours[name].dtype == theirs[name].dtype and ours[name].flags.writeable
    assert (ours["number"], ours["text"]) == (2.5, "Zoë") and ours["net"]["meta"] == {"a": 1}
    assert [layer["type"] for layer in ours["net"]["layers"]] == ["conv", "relu"]
    np.testing.assert_array_equal(ours["net"]["layers"][0]["w"], np.eye(2))


def nested(depth):
    data = NUMBER
    for _ in range(depth):
        data = matrix(1, (1, 1), (14, data[8:]))
    return data


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (matrix(6, (2**31 - 1, 2**31 - 1), (9, bytes(8))), "1 number for a shape"),
        (matrix(1, (2**31 - 1, 2**31 - 1)), "more cells or structures than there are bytes"),
        (matrix(1, (20, 1)), "more cells or structures than there are bytes"),
        (
            matrix(2, (2**31 - 1, 1), (5, struct.pack("<i", 8)), (1, b"")),
            "more cells or structures",
        ),
        (matrix(6, (-1, -1), (9, bytes(8))), "without a shape"),
        (matrix(6, (1, 1), (9, bytes(7))), "half a number"),
        (matrix(6, (1, 1), (99, bytes(8))), "unknown type 99"),
        (NUMBER[:-4], "beyond its end"),
        (matrix(4, (1, 1), (16, b"\xff")), "does not decode"),
        (struct.pack("<II", 14, 2**32 - 1), "beyond its end"),
        (compressed(bytes(20 << 20)), "cut short or too large"),
        (compressed(bytes(100))[:-6], "beyond its end"),
        (nested(20), "nested too deep"),
        (nested(500), "nested too deep"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_mat_files_that_claim_too_much(element, message):
    """SciPy's reader ends the process on such files, or fills the memory."""
    refused(read_mat, START + element, match=message)


# --- .pth, .h5


@CONTAINERS
@pytest.mark.parametrize("again", [b"q\x01h\x01\x86", b"2\x86"])
def test_tuples_of_the_same_tuples(tmp_path, container, again):
    """Fifty pairs inside each other, as the key of a dict: hashed, that is 2**50 steps."""
    bomb = b"\x80\x02}(" + p_tuple(p_int(1)) + again * 50 + b"K\x01u."
    for state in (bomb, p_state([]).replace(b"}", b"", 1)[:-2] + bomb[3:]):
        (tmp_path / "bomb.pth").write_bytes(container(state, {}))
        message = "too large for a state dict|incomplete or damaged"
        refused(import_weights, tmp_path / "bomb.pth", match=message)


@CONTAINERS
def test_many_tensors_of_one_storage(tmp_path, container):
    """Each is within its storage; together they would be far more than the file."""
    entries = [(f"{i}.weight", p_tensor("0", (1000,), (1,), 1000)) for i in range(300)]
    path = tmp_path / "a.pth"
    path.write_bytes(container(p_state(entries), {"0": bytes(4000)}))
    refused(import_weights, path, match="more values than the file")


def test_hdf5_without_checksums_is_not_opened(tmp_path):
    """The library may never return from such a file; ours all have checksums."""
    hard_files.old_hdf5(tmp_path / "a.h5")
    refused(load_weights, tmp_path / "a.h5", match="no weights: neither a file of dcfnet_np")


@pytest.fixture
def crops_file(tmp_path):
    path = tmp_path / "crops.h5"
    path.write_bytes(hard_files.crop_files()[0][1])
    assert read_crops(path).crops.shape == (8, 3, 8, 8)
    return path


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def element(name, index, value):
    return lambda file: file[name].__setitem__(index, value)


def no_crop(file):
    for name in ("crops", "sequence", "frame", "box"):
        (_, *shape), kind = file[name].shape, file[name].dtype
        del file[name]
        chunks, most = (1, *shape), (None, *shape)
        file.create_dataset(name, (0, *shape), kind, chunks=chunks, maxshape=most)


@pytest.mark.parametrize(
    "change",
    [
        *(attribute("padding", value) for value in (np.nan, -1.0)),
        attribute("margin", -1),
        attribute("size", [8, 8]),
        attribute("format", [2, 2]),
        *(element("sequence", 3, value) for value in (7, -1)),
        element("box", (0, 0), np.inf),
        lambda file: file.__delitem__("validation"),
        no_crop,
    ],
)
def test_crops_that_do_not_fit(crops_file, change):
    with h5py.File(crops_file, "r+") as file:
        change(file)
    refused(read_crops, crops_file, match="crops.h5 must be a file made by prepare")
