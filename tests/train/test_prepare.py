"""`dcfnet prepare`: crops from every layout, by position; the file, its reader and its split."""

import hashlib
import json
import re

import cv2
import h5py
import numpy as np
import pytest
from layouts import HEIGHT, LAYOUTS, WIDTH, davis, otb, write_png, write_rows

from dcfnet_np import datasets
from dcfnet_np.train.crops import held_out_videos, read_crops
from dcfnet_np.train.prepare import Window, prepare_crops

SIZE, MARGIN, DEFAULT = 33, 5, Window()
BOXES = np.array(
    [[60, 50, 20, 31], [64, 52, 23, 30], [3, 5, 40, 24], [190, 150, 48, 45], [70, 60, 19, 17]],
    float,
)


@pytest.fixture
def made(tmp_path):
    """made(folders...) -> the counts and the content of crops.h5, with its margin."""

    def run(*folders, window=(2.0, SIZE, MARGIN), **settings):
        out = tmp_path / "crops.h5"
        counts = prepare_crops(folders, out, Window(*window), **settings)
        assert sorted(path.name for path in tmp_path.glob("crops*")) == ["crops.h5"]
        return counts, read_crops(out)

    return run


def sampled_points(box, padding, size, margin):
    """x and y of the points that a crop's pixels are taken from, straight from the definition."""
    x, y, w, h = box
    place = (np.arange(-margin, size + margin) - (size - 1) / 2) / (size - 1)
    return x + w / 2 + place * w * (1 + padding), y + h / 2 + place * h * (1 + padding)


def check_crop(crop, box, index, padding=2.0, size=SIZE, margin=MARGIN):
    """Every pixel of a crop of a coded frame says where it was taken from; outside all is 0."""
    x, y = sampled_points(box, padding, size, margin)
    inside = ((y >= 0) & (y <= HEIGHT - 1))[:, None] & ((x >= 0) & (x <= WIDTH - 1))
    beyond = ((y <= -1) | (y >= HEIGHT))[:, None] | (x <= -1) | (x >= WIDTH)
    assert inside.any()
    blue, green, red = crop.astype(float)
    assert abs(blue - x)[inside].max() <= 0.501
    assert abs(green - y[:, None])[inside].max() <= 0.501
    assert (red[inside] == 4 * index).all()
    assert not crop[:, beyond].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(tmp_path, made, layout):
    root = tmp_path / "data"
    for name in ("ant", "bee"):
        LAYOUTS[layout](root, name, BOXES)
    counts, data = made(root)
    read = datasets.load_dataset(root)
    numbers = [datasets.frame_number(path) for one in read for path in one.frames]
    n = len(read)
    assert data.sequences == tuple(one.name for one in read) and n in (1, 2)
    assert counts == {"crops": len(data.crops)} == {"crops": n * len(BOXES)}
    np.testing.assert_array_equal(data.frame, numbers)
    np.testing.assert_array_equal(data.sequence, np.repeat(np.arange(n), len(BOXES)))
    np.testing.assert_allclose(data.box, np.tile(BOXES, (n, 1)), atol=1e-4)
    for crop, box, index in zip(data.crops, data.box, [*range(len(BOXES))] * n):
        check_crop(crop, box, index)


@pytest.mark.parametrize(("padding", "size", "margin"), [(1.5, 24, 0), (3.0, 20, 20)])
def test_other_sizes(tmp_path, made, padding, size, margin):
    otb(tmp_path, "ant", BOXES)
    _, data = made(tmp_path / "ant", window=(padding, size, margin))
    assert (data.padding, data.size, data.margin) == (padding, size, margin)
    for index, crop in enumerate(data.crops):
        check_crop(crop, BOXES[index], index, padding, size, margin)


def test_what_is_left_out_is_counted_by_reason(tmp_path, made):
    boxes = np.tile(BOXES[:1], (9, 1))
    otb(tmp_path, "ant", boxes)
    boxes[1] = np.nan
    boxes[2, 2] = 0
    boxes[3, 0] = 500
    boxes[4, 1] = -80
    write_rows(tmp_path / "ant/groundtruth_rect.txt", boxes + np.array([1, 1, 0, 0]))
    (tmp_path / "ant/img/0006.jpg").write_bytes(b"no image")
    (tmp_path / "ant/img/0007.jpg").write_bytes(b"")
    counts, data = made(tmp_path / "ant")
    reasons = "the target is absent", "the box is outside the frame", "the frame does not decode"
    assert counts == {"crops": 3, **dict.fromkeys(reasons, 2)}
    assert data.frame.tolist() == [1, 8, 9]
    with h5py.File(tmp_path / "crops.h5") as file:
        assert {"crops": 3} | json.loads(file.attrs["skipped"]) == counts


def test_windows_of_one_colour_are_left_out(tmp_path, made):
    """White, gray and black, also beyond the frame; not where one pixel of the window differs."""
    # in a window of 48 x 48 pixels, 44 .. 92 and 34 .. 82, sampled 1.5 apart
    box = np.array([60, 50, 16, 16])
    values = [255, 128, 0, 255, 255, 255, 128, 255]
    otb(tmp_path, "ant", np.tile(box, (len(values) + 1, 1)))
    otb(tmp_path, "bee", np.array([[2, 3, 30, 30]] * 2 + [[60, 50, 16, 16]] * 2))
    for index, value in enumerate(values):
        frame = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
        if index == 4:
            frame[49:51, 60:62] = 254
        if index == 5:
            frame[56:60, 95:98] = 0  # beyond the window, within the margin
        if index == 6:
            frame[80:82, 90:92, 1] = 130  # at the window's rim, in one colour
        write_png(tmp_path / f"ant/img/{index + 1:04d}.jpg", frame)
    write_png(tmp_path / "bee/img/0001.jpg", np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    counts, data = made(tmp_path / "ant", tmp_path / "bee")
    assert counts == {"crops": 6, "the window shows nothing": 7}
    assert data.frame.tolist() == [5, 7, 9, 2, 3, 4]


def test_labels_of_the_data_sets_hide_frames(tmp_path, made):
    """GOT-10k's, and Tiger1, whose first five frames OTB leaves out."""
    LAYOUTS["got10k"](tmp_path, "got10k", BOXES)
    write_rows(tmp_path / "got10k/cover.label", [[8], [0], [1], [8], [8]])
    otb(tmp_path, "Tiger1", np.tile(BOXES[:1], (8, 1)))
    counts, data = made(tmp_path / "Tiger1", tmp_path / "got10k")
    assert counts == {"crops": 7, "the target is hidden": 6}
    assert data.frame.tolist() == [6, 7, 8, 1, 3, 4, 5]


def test_two_targets_of_one_video(tmp_path, made):
    """The second leaves in the last frame.  Both are on one side of the split."""
    root = tmp_path / "data"
    davis(root, "ant", BOXES, 1)
    davis(root, "bee", BOXES)
    for index, path in enumerate(sorted((root / "Annotations/480p/ant").iterdir())[:4]):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[110 + index : 130, 100:140] = 2
        cv2.imwrite(str(path), mask)
    counts, data = made(root)
    assert data.sequences == ("ant.1", "ant.2", "bee")
    assert counts == {"crops": 14, "the target is absent": 1}
    np.testing.assert_array_equal(data.box[:5], BOXES)
    np.testing.assert_array_equal(data.box[5:9], [[100, 110 + k, 40, 20 - k] for k in range(4)])
    assert data.validation.tolist() in ([True, True, False], [False, False, True])


# --- names, order, split


def test_names_that_two_data_sets_share(tmp_path, made):
    for root in ("one", "two"):
        otb(tmp_path / root, "bee", BOXES[:2])
        otb(tmp_path / root, f"only-{root}", BOXES[:1])
    folders = tmp_path / "two", tmp_path / "one"
    _, data = made(*folders)
    assert data.sequences == ("one/bee", "two/bee", "only-one", "only-two")
    assert made(*folders[::-1])[1].digest == data.digest
    _, data = made(*folders, exclude=["two/bee", "only-one"])
    assert data.sequences == ("bee", "only-two")


def test_the_split_depends_on_the_name_of_the_video_alone():
    names = [f"video{index}" for index in range(500)]
    alone, more = held_out_videos(names), held_out_videos(names, 0.3)
    assert 30 <= alone.sum() <= 70 and (more >= alone).all() and more.sum() > alone.sum()
    np.testing.assert_array_equal(held_out_videos(names[::-1])[::-1], alone)
    np.testing.assert_array_equal(held_out_videos(names[:250])[:250], alone[:250])
    assert not held_out_videos(names, 0).any()
    two = held_out_videos(["video0", "video1", "video0"]).tolist()
    assert two in ([True, False, True], [False, True, False])
    assert held_out_videos(["video0", "video0"]).tolist() == [False, False]


# --- the file


def test_what_the_file_says_of_itself(tmp_path, made):
    for name in ("ant", "bee"):
        otb(tmp_path, name, BOXES)
    _, data = made(tmp_path / "ant", tmp_path / "bee")
    with h5py.File(tmp_path / "crops.h5") as file:
        assert file["crops"].chunks == (1, 3, SIZE + 2 * MARGIN, SIZE + 2 * MARGIN)
        np.testing.assert_array_equal(file["crops"][:], data.crops)
        digests = file["digests"].asstr()[:].tolist()
        assert file["videos"].asstr()[:].tolist() == ["ant", "bee"]
    halves = data.crops[:5], data.crops[5:]
    assert digests == [hashlib.sha256(half.tobytes()).hexdigest() for half in halves]
    assert data.digest == hashlib.sha256(data.crops.tobytes()).hexdigest()


def test_read_crops_refuses_other_files(tmp_path, made):
    path, damaged = tmp_path / "crops.h5", "made by prepare, and it is incomplete or something else"

    def refused(message=damaged):
        with pytest.raises(ValueError, match=message) as info:
            read_crops(path)
        assert "\n" not in str(info.value)

    refused("there is no file .*crops.h5; make one with dcfnet prepare")
    path.write_bytes(b"no HDF5")
    refused()
    with h5py.File(path, "w", libver="v110") as file:
        file.attrs["format"] = 99
    refused("its format is 99")
    otb(tmp_path, "ant", BOXES)
    made(tmp_path / "ant")
    with h5py.File(path, "a") as file:
        del file["frame"]
        file["frame"] = np.arange(3)
    refused("sizes that do not fit together")


# --- bad input: one clear line


def refused(*folders, out=None, window=DEFAULT, **settings):
    """The message with which prepare refuses; nothing is left behind."""
    out = out or folders[0].parent / "crops.h5"
    with pytest.raises(ValueError) as info:
        prepare_crops(folders, out, window, **settings)
    assert not list(out.parent.glob("crops*")) and "\n" not in str(info.value)
    return str(info.value)


def test_bad_arguments(tmp_path):
    otb(tmp_path, "ant", BOXES)
    ant = tmp_path / "ant"
    for settings, message in (
        ({"window": Window(padding=-1)}, "padding must be > 0, got -1"),
        ({"window": Window(size=8)}, "size must be >= 20, got 8"),
        ({"window": Window(margin=-1)}, "margin must be >= 0, got -1"),
        ({"validation": 1}, "validation must be >= 0 and < 1, got 1"),
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"out": ant / "groundtruth_rect.txt"}, "out must be a name that ends in .h5, got"),
        ({"out": tmp_path / "no/crops.h5"}, "there is no folder"),
        ({"exclude": ["bee"]}, "no sequence bee to exclude"),
        ({"exclude": ["ant"]}, "got no sequence"),
    ):
        assert message in refused(ant, **settings)
    assert (ant / "groundtruth_rect.txt").is_file()
    assert "ant 2 times; name one of" in refused(ant, ant)


def test_bad_folders(tmp_path):
    otb(tmp_path, "ant", BOXES)
    ant, empty = tmp_path / "ant", tmp_path / "empty"
    empty.mkdir()
    assert "is no folder" in refused(tmp_path / "nothing")
    assert "holds no sequences" in refused(empty)
    write_rows(ant / "groundtruth_rect.txt", BOXES[:3])
    wrong = "ant: 5 frames but 3 rows in groundtruth_rect.txt; .* --exclude ant$"
    assert re.search(wrong, refused(ant))
    write_rows(ant / "groundtruth_rect.txt", np.full((5, 4), np.nan))
    assert "no frame can be used ({'the target is absent': 5})" in refused(ant)
    write_rows(ant / "groundtruth_rect.txt", BOXES)
    name = "0001.jpg"
    for other, message in (
        ("first.jpg", "numbers in their names, .*first.jpg with number None"),
        ("04.jpg", "each a higher one, .*/0*4.jpg with number 4"),
        ("1700000000033.jpg", "at most 2147483647, got .*033.jpg with number 1700000000033"),
    ):
        (ant / "img" / name).rename(ant / "img" / other)
        assert re.search(message, refused(ant))
        name = other


VID = "Annotations/VID/train/ILSVRC2015_VID_train_0000/ant/000003.xml"
NO_BOX = b"<annotation><object><trackid>0</trackid></object></annotation>"


@pytest.mark.parametrize(
    ("layout", "file", "content", "message"),
    [
        ("tc128", "ant/ant_frames.txt", b"4", "the first and the last frame, got 1"),
        ("tc128", "ant/ant_frames.txt", b"40,50", "has no frame numbered 40 to 50"),
        ("davis", "Annotations/480p/ant/00002.png", b"no image", "00002.png is no mask: it does"),
        ("vid", VID, b"<annotation><obj", "is no XML that"),
        ("vid", VID, NO_BOX, "expected <object> with trackid and bndbox"),
    ],
)
def test_malformed_annotations(tmp_path, layout, file, content, message):
    LAYOUTS[layout](tmp_path / "data", "ant", BOXES)
    (tmp_path / "data" / file).write_bytes(content)
    assert message in refused(tmp_path / "data")


def test_pictures_that_are_no_masks(tmp_path, rng):
    davis(tmp_path / "data", "ant", BOXES)
    mask = tmp_path / "data/Annotations/480p/ant/00001.png"
    cv2.imwrite(str(mask), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    assert "00001.png is no mask: it has colours that are not in" in refused(tmp_path / "data")
    for path in mask.parent.iterdir():
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    assert "no mask has a target in it" in refused(tmp_path / "data")


def test_the_command(tmp_path, dcfnet):
    otb(tmp_path / "data", "bee", BOXES)
    otb(tmp_path / "data", "ant", np.vstack([BOXES, [[np.nan] * 4]]))
    out = tmp_path / "crops.h5"
    words = ["prepare", tmp_path / "data", "--out", out]
    code, printed, said = dcfnet(*words, "--size", 40, "--margin", 2)
    assert (code, printed) == (
        0,
        f"{out}: crops 10, sequences 2, held out 1\n"
        "frames left out because the target is absent: 1\n",
    )
    assert said == ""
    code, printed, said = dcfnet(*words, "--exclude", "bee,ant")
    assert (code, printed) == (2, "") and said.count("\n") == 1
    assert said.startswith("dcfnet: error: prepare: each sequence")
