"""`dcfnet prepare`: crops from every layout, by position; what is left out; the file, its reader
and its split.
"""

import hashlib
import json
import re
import tracemalloc

import cv2
import h5py
import numpy as np
import pytest
from layouts import HEIGHT, LAYOUTS, WIDTH, davis, otb, write_png, write_rows, write_xml

from dcfnet_np import datasets
from dcfnet_np.train import prepare
from dcfnet_np.train.crops import held_out, read_crops

SIZE, MARGIN = 33, 5
BOXES = np.array(
    [[60, 50, 20, 31], [64, 52, 23, 30], [3, 5, 40, 24], [190, 150, 48, 45], [70, 60, 19, 17]],
    float,
)


@pytest.fixture
def made(tmp_path):
    """made(folders...) -> the counts and the content of crops.h5, with its margin."""

    def run(*folders, **settings):
        out = tmp_path / "crops.h5"
        counts = prepare.prepare(folders, out, **({"size": SIZE, "margin": MARGIN} | settings))
        assert sorted(path.name for path in tmp_path.glob("crops*")) == ["crops.h5"]
        return counts, read_crops(out, margin=True)

    return run


def sampled_points(box, padding, size, margin):
    """x and y of the points that a crop's pixels are taken from, straight from the definition."""
    x, y, w, h = box
    place = (np.arange(-margin, size + margin) - (size - 1) / 2) / (size - 1)
    return x + w / 2 + place * w * (1 + padding), y + h / 2 + place * h * (1 + padding)


def check_crop(crop, box, index, padding=2.0, size=SIZE, margin=MARGIN):
    """Every pixel of a crop of a coded frame says where it was taken from; outside the frame all is
    0.
    """
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
    expected = {"uav123_10fps": ("car1_2",), "vid": ("ant.0", "bee.0")}.get(layout, ("ant", "bee"))
    assert data.sequences == expected
    assert counts == {"crops": len(data.crops)} == {"crops": len(expected) * len(BOXES)}
    first = {"uav123_10fps": 251, "tc128": 4, "davis": 0, "vid": 0, "trackingnet": 0}.get(layout, 1)
    np.testing.assert_array_equal(data.frame, np.tile(first + np.arange(len(BOXES)), len(expected)))
    np.testing.assert_array_equal(data.sequence, np.repeat(np.arange(len(expected)), len(BOXES)))
    np.testing.assert_allclose(data.box, np.tile(BOXES, (len(expected), 1)), atol=1e-4)
    for crop, box, frame in zip(data.crops, data.box, data.frame):
        check_crop(crop, box, frame - first)


@pytest.mark.parametrize(
    ("padding", "size", "margin"), [(1.5, 24, 0), (2.0, 125, 16), (3.0, 20, 20)]
)
def test_other_sizes(tmp_path, made, padding, size, margin):
    otb(tmp_path, "ant", BOXES)
    _, data = made(tmp_path / "ant", padding=padding, size=size, margin=margin)
    assert (data.padding, data.size, data.margin) == (padding, size, margin)
    assert data.crops.shape == (5, 3, size + 2 * margin, size + 2 * margin)
    for index, crop in enumerate(data.crops):
        check_crop(crop, BOXES[index], index, padding, size, margin)


def test_without_its_margin_a_crop_is_that_of_no_margin(tmp_path, rng):
    """Noise, in which a shift by a fraction of a pixel shows; rounding may differ by one grey
    level.
    """
    write_rows(tmp_path / "ant/groundtruth_rect.txt", BOXES + (1.3, 0.8, 0, 0))
    for index in range(len(BOXES)):
        (tmp_path / "ant/img").mkdir(exist_ok=True)
        noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"ant/img/{index}.png"), noise)
    found = []
    for margin in (0, 7):
        prepare.prepare([tmp_path / "ant"], tmp_path / "crops.h5", size=SIZE, margin=margin)
        data = read_crops(tmp_path / "crops.h5")
        assert data.margin == 0
        found.append(data.crops.astype(int))
    difference = abs(found[0] - found[1])
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_what_is_left_out_is_counted_by_reason(tmp_path, made):
    boxes = np.tile(BOXES[:1], (9, 1))
    otb(tmp_path, "ant", boxes)
    boxes[1] = np.nan
    boxes[2, 2] = 0
    boxes[3, 0] = 500
    boxes[4, 1] = -80
    write_rows(tmp_path / "ant/groundtruth_rect.txt", boxes + (1, 1, 0, 0))
    (tmp_path / "ant/img/0006.jpg").write_bytes(b"no image")
    (tmp_path / "ant/img/0007.jpg").write_bytes(b"")
    counts, data = made(tmp_path / "ant")
    assert counts == {
        "crops": 3,
        "the target is absent": 2,
        "the box is outside the frame": 2,
        "the frame does not decode": 2,
    }
    assert data.frame.tolist() == [1, 8, 9]
    with h5py.File(tmp_path / "crops.h5") as file:
        assert json.loads(file.attrs["skipped"]) == {
            key: value for key, value in counts.items() if key != "crops"
        }


def test_windows_of_one_colour_are_left_out(tmp_path, made, caplog):
    """White, gray and black, also where the window reaches out of the frame; not where one pixel of
    it differs.

    A pixel in the margin around the window does not count.
    """
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
    assert "the window shows nothing in frames of ant (6), bee (1)" in caplog.text


def test_labels_of_the_data_sets_hide_frames(tmp_path, made):
    for layout, file, labels in (
        ("got10k", "cover.label", [[8], [0], [1], [8], [8]]),
        ("lasot", "out_of_view.txt", [[0, 0, 1, 0, 0]]),
        ("nuspro", "occlusion.txt", [[0], [1], [2], [0], [0]]),
    ):
        LAYOUTS[layout](tmp_path / layout, layout, BOXES)
        (folder,) = (path.parent for path in (tmp_path / layout).rglob("groundtruth.txt"))
        write_rows(folder / file, labels)
    counts, data = made(*(tmp_path / name for name in ("got10k", "lasot", "nuspro")))
    assert counts == {"crops": 12, "the target is hidden": 3}
    assert [data.frame[data.sequence == k].tolist() for k in range(3)] == [
        [1, 3, 4, 5],
        [1, 2, 4, 5],
        [1, 2, 4, 5],
    ]


def test_the_hidden_start_of_tiger1(tmp_path, made):
    otb(tmp_path, "Tiger1", np.tile(BOXES[:1], (8, 1)))
    counts, data = made(tmp_path / "Tiger1")
    assert counts == {"crops": 3, "the target is hidden": 5} and data.frame.tolist() == [6, 7, 8]


def test_annotations_of_single_images_beside_vid_are_not_looked_at(tmp_path, made):
    LAYOUTS["vid"](tmp_path / "data", "ant", BOXES)
    (tmp_path / "data/Annotations/DET/train").mkdir(parents=True)
    (tmp_path / "data/Annotations/DET/train/one.xml").write_text(
        "<annotation><object></object></annotation>"
    )
    assert made(tmp_path / "data")[1].sequences == ("ant.0",)


def test_xml_of_two_targets(tmp_path, made):
    LAYOUTS["vid"](tmp_path / "data", "ant", BOXES)
    folder = next((tmp_path / "data/Annotations").rglob("*.xml")).parent
    write_xml(folder / "000001.xml", [(7, BOXES[0], 0), (0, BOXES[1], 1)])
    write_xml(folder / "000002.xml", [])
    (folder / "000003.xml").unlink()
    counts, data = made(tmp_path / "data")
    assert data.sequences == ("ant.0", "ant.7")
    assert counts == {"crops": 3, "the target is hidden": 1, "the target is absent": 2 + 3}
    assert data.frame.tolist() == [0, 4, 1]
    np.testing.assert_array_equal(data.box, BOXES[[0, 4, 0]])


@pytest.mark.parametrize("kind", ["colours", "numbers"])
def test_masks_of_two_targets(tmp_path, made, kind):
    """The first two colours of VOC's palette, in BGR, or gray values; the second target leaves in
    the last frame.
    """
    davis(tmp_path / "data", "ant", BOXES, (0, 0, 128) if kind == "colours" else 1)
    folder = tmp_path / "data/Annotations/480p/ant"
    for index, path in enumerate(sorted(folder.iterdir())[:4]):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[110 + index : 130, 100:140] = (0, 128, 0) if kind == "colours" else 2
        cv2.imwrite(str(path), mask)
    counts, data = made(tmp_path / "data")
    assert data.sequences == ("ant.1", "ant.2") and counts == {
        "crops": 9,
        "the target is absent": 1,
    }
    np.testing.assert_array_equal(data.box[:5], BOXES)
    np.testing.assert_array_equal(data.box[5:], [[100, 110 + k, 40, 20 - k] for k in range(4)])
    (video,) = {sequence.video for sequence in datasets.load_dataset(tmp_path / "data")}
    assert video == "ant"
    (second,) = datasets.load_dataset(tmp_path / "data", ["ant.2"])
    assert np.isnan(second.boxes[4]).all()


# --- names, order, split ---


def test_names_that_two_data_sets_share(tmp_path, made):
    for root in ("one", "two"):
        otb(tmp_path / root, "bee", BOXES[:2])
        otb(tmp_path / root, f"only-{root}", BOXES[:1])
    _, data = made(tmp_path / "two", tmp_path / "one")
    assert data.sequences == ("one/bee", "two/bee", "only-one", "only-two")
    _, data = made(tmp_path / "two", tmp_path / "one", exclude=["two/bee", "only-one"])
    assert data.sequences == ("bee", "only-two")


def test_the_order_of_folders_does_not_matter(tmp_path, made):
    for name in ("bee", "ant", "cat"):
        otb(tmp_path, name, BOXES)
    first = made(tmp_path / "ant", tmp_path / "bee", tmp_path / "cat")[1]
    second = made(tmp_path / "cat", tmp_path / "ant", tmp_path / "bee")[1]
    assert first.digest == second.digest and first.sequences == second.sequences == (
        "ant",
        "bee",
        "cat",
    )


def test_the_split_depends_on_the_name_of_the_video_alone():
    names = [f"video{index}" for index in range(500)]
    alone = held_out(names)
    assert 30 <= alone.sum() <= 70
    np.testing.assert_array_equal(held_out(names[::-1])[::-1], alone)
    np.testing.assert_array_equal(held_out(names[:250])[:250], alone[:250])
    assert (held_out(names, 0.3) >= alone).all() and held_out(names, 0.3).sum() > alone.sum()
    assert not held_out(names, 0).any()
    assert held_out(["video0", "video1", "video0"]).tolist() in (
        [True, False, True],
        [False, True, False],
    )
    assert held_out(["video0", "video0"]).tolist() == [False, False]


def test_targets_of_one_video_are_on_one_side(tmp_path, made):
    davis(tmp_path / "data", "ant", BOXES, 1)
    for path in (tmp_path / "data/Annotations/480p/ant").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[110:130, 100:140] = 2
        cv2.imwrite(str(path), mask)
    davis(tmp_path / "data", "bee", BOXES)
    _, data = made(tmp_path / "data")
    assert data.sequences == ("ant.1", "ant.2", "bee")
    assert data.validation.tolist() in ([True, True, False], [False, False, True])


# --- the file ---


def test_what_the_file_says_of_itself(tmp_path, made):
    for name in ("ant", "bee"):
        otb(tmp_path, name, BOXES)
    _, data = made(tmp_path / "ant", tmp_path / "bee")
    with h5py.File(tmp_path / "crops.h5") as file:
        assert file["crops"].chunks == (1, 3, SIZE + 2 * MARGIN, SIZE + 2 * MARGIN)
        np.testing.assert_array_equal(file["crops"][:], data.crops)
        digests = file["digests"].asstr()[:].tolist()
        assert file["videos"].asstr()[:].tolist() == ["ant", "bee"]
    assert digests == [
        hashlib.sha256(data.crops[5 * k : 5 * k + 5].tobytes()).hexdigest() for k in (0, 1)
    ]
    assert data.digest == hashlib.sha256(data.crops.tobytes()).hexdigest()


def test_a_lazy_reader_holds_no_crops(tmp_path):
    otb(tmp_path, "ant", np.tile(BOXES, (8, 1)))
    prepare.prepare([tmp_path / "ant"], tmp_path / "crops.h5", size=125)
    for margin in (False, True):
        whole = read_crops(tmp_path / "crops.h5", margin=margin)
        tracemalloc.start()
        lazy = read_crops(tmp_path / "crops.h5", margin=margin, lazy=True)
        some = np.asarray(lazy.crops[[3, 39, 3]])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(some, whole.crops[[3, 39, 3]])
        np.testing.assert_array_equal(lazy.crops, whole.crops)
        assert peak < whole.crops.nbytes / 4
        with pytest.raises(ValueError, match="read-only"):
            lazy.crops[0] = 0


def test_hdf5_without_checksums_is_not_opened(tmp_path, made, monkeypatch):
    """HDF5 may never come back from damage in it."""
    otb(tmp_path, "ant", BOXES)
    made(tmp_path / "ant")
    with h5py.File(tmp_path / "crops.h5", "r") as file, h5py.File(tmp_path / "old.h5", "w") as old:
        for name in file:
            file.copy(name, old)
        old.attrs.update(file.attrs)
    opened = []
    monkeypatch.setattr(h5py, "File", lambda *words, **more: opened.append(words))
    with pytest.raises(ValueError, match="old.h5 must be a file made by prepare"):
        read_crops(tmp_path / "old.h5")
    assert opened == []


def test_read_crops_refuses_other_files(tmp_path, made):
    path = tmp_path / "crops.h5"
    with pytest.raises(
        ValueError, match="there is no file .*crops.h5; make one with dcfnet prepare"
    ):
        read_crops(path)
    damaged = "made by prepare, and it is incomplete or something else; make it again"
    for content in (b"no HDF5", b"\x89HDF\r\n\x1a\n" * 9):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=damaged):
            read_crops(path)
    with h5py.File(path, "w", libver="v110") as file:
        file["crops"] = np.zeros(3)
        file.attrs["format"] = 2
    with pytest.raises(ValueError, match=damaged):
        read_crops(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = 99
    with pytest.raises(ValueError, match="its format is 99"):
        read_crops(path)
    otb(tmp_path, "ant", BOXES)
    made(tmp_path / "ant")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=damaged):
        read_crops(path, lazy=True)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["frame"]
        file["frame"] = np.arange(3)
    with pytest.raises(ValueError, match=damaged):
        read_crops(path)


# --- bad input: one clear line ---


def refused(*folders, out=None, **settings):
    """The message with which prepare refuses; nothing is left behind."""
    out = out or folders[0].parent / "crops.h5"
    with pytest.raises(ValueError) as info:
        prepare.prepare(folders, out, **settings)
    assert not list(out.parent.glob("crops*")) and "\n" not in str(info.value)
    return str(info.value)


def test_bad_arguments(tmp_path):
    otb(tmp_path, "ant", BOXES)
    ant = tmp_path / "ant"
    assert "padding must be > 0, got -1" in refused(ant, padding=-1)
    assert "size must be >= 20, got 8" in refused(ant, size=8)
    assert "margin must be >= 0, got -1" in refused(ant, margin=-1)
    assert "validation must be >= 0 and < 1, got 1" in refused(ant, validation=1)
    assert "workers must be >= 1, got 0" in refused(ant, workers=0)
    assert "out must be a name that ends in .h5" in refused(ant, out=ant / "groundtruth_rect.txt")
    assert (ant / "groundtruth_rect.txt").is_file()
    assert "there is no folder" in refused(ant, out=tmp_path / "no/crops.h5")
    assert re.search(
        "different names, at least one, got .*ant, each more than once", refused(ant, ant)
    )
    assert "no sequence bee to exclude" in refused(ant, exclude=["bee"])
    assert "at least one, got none" in refused(ant, exclude=["ant"])


def test_bad_folders(tmp_path):
    otb(tmp_path, "ant", BOXES)
    ant = tmp_path / "ant"
    assert "is no folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "holds no sequences" in refused(tmp_path / "empty")
    write_rows(ant / "groundtruth_rect.txt", BOXES[:3])
    assert re.search(
        "ant: 5 frames but 3 rows in groundtruth_rect.txt; .* --exclude ant$", refused(ant)
    )
    write_rows(ant / "groundtruth_rect.txt", np.full((5, 4), np.nan))
    assert "no frame can be used ({'the target is absent': 5})" in refused(ant)
    write_rows(ant / "groundtruth_rect.txt", BOXES)
    (ant / "img/0001.jpg").rename(ant / "img/first.jpg")
    assert "number in their name, got" in refused(ant)
    (ant / "img/first.jpg").rename(ant / "img/04.jpg")
    assert re.search("each number once, got 0*4.jpg and 0*4.jpg", refused(ant))
    (ant / "img/04.jpg").rename(ant / "img/1700000000033.jpg")
    assert re.search("at most 2147483647, got 1700000000033 of .*033.jpg; renumber", refused(ant))


@pytest.mark.parametrize(
    ("layout", "file", "content", "message"),
    [
        (
            "otb",
            "ant/groundtruth_rect.txt",
            b"1,2,3\n",
            "expected 4 numbers a row, or 6, 8, ... for a polygon, got 3",
        ),
        (
            "otb",
            "ant/groundtruth_rect.txt",
            b"1,2,3,4\nx,2,3,4\n",
            "line 2: expected numbers, got 'x'",
        ),
        (
            "vot",
            "ant/groundtruth.txt",
            b"1,2,3,4,5,6,7,8\n1,2\n",
            "line 2: expected 4 numbers a row",
        ),
        ("got10k", "ant/groundtruth.txt", b"", "holds no boxes"),
        ("lasot", "thing/ant/out_of_view.txt", b"0,0", "a label for each of 5 rows"),
        ("uav123", "anno/UAV123/ant.txt", b"\xff\xfe\x00", "is no UTF-16 text"),
        ("nuspro", "ant/occlusion.txt", b"0\n0\n", "a label for each of 5 rows"),
        ("tc128", "ant/ant_frames.txt", b"4", "the numbers of the first and the last frame, got 1"),
        ("tc128", "ant/ant_frames.txt", b"40,50", "has no frame numbered 40 to 50"),
        (
            "davis",
            "Annotations/480p/ant/00002.png",
            b"no image",
            "00002.png is no mask: it does not decode",
        ),
        (
            "davis",
            "Annotations/480p/ant/00002.png",
            b"",
            "00002.png is no mask: it does not decode",
        ),
        (
            "vid",
            "Annotations/VID/train/ILSVRC2015_VID_train_0000/ant/000003.xml",
            b"<annotation><obj",
            "is no XML that",
        ),
        (
            "vid",
            "Annotations/VID/train/ILSVRC2015_VID_train_0000/ant/000003.xml",
            b"<annotation><object><trackid>0</trackid></object></annotation>",
            "expected <object> with trackid and bndbox",
        ),
    ],
)
def test_malformed_annotations(tmp_path, layout, file, content, message):
    LAYOUTS[layout](tmp_path / "data", "ant", BOXES)
    (tmp_path / "data" / file).write_bytes(content)
    assert message in refused(tmp_path / "data")


def test_pictures_that_are_no_masks(tmp_path, rng):
    davis(tmp_path / "data", "ant", BOXES)
    mask = tmp_path / "data/Annotations/480p/ant/00001.png"
    cv2.imwrite(str(mask), rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8))
    assert "00001.png is no mask: it has 255 different values" in refused(tmp_path / "data")
    cv2.imwrite(str(mask), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    assert "00001.png is no mask: it has colours that are not in" in refused(tmp_path / "data")
    cv2.imwrite(str(mask), rng.integers(0, 256, (HEIGHT, WIDTH), np.uint16))
    assert "00001.png is no mask: it does not decode as an image of 8 bits" in refused(
        tmp_path / "data"
    )
    for path in mask.parent.iterdir():
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    assert "no mask has a target in it" in refused(tmp_path / "data")
    for path in list(mask.parent.iterdir()):
        path.rename(path.with_name("x" + path.name))
    assert "has no masks (.png) with the names of the frames" in refused(tmp_path / "data")


# --- the command ---


def test_the_command(tmp_path, dcfnet):
    otb(tmp_path / "data", "Bird1", BOXES)
    otb(tmp_path / "data", "ant", np.vstack([BOXES, [[np.nan] * 4]]))
    out = tmp_path / "crops.h5"
    code, printed, said = dcfnet(
        "prepare", tmp_path / "data", "--out", out, "--size", 40, "--margin", 2
    )
    assert (code, printed) == (
        0,
        f"{out}: crops 10, sequences 2, held out 1\nframes left out because the target is absent: 1\n",
    )
    assert said == (
        "dcfnet: warning: called like sequences of benchmarks: Bird1 (OTB); "
        "where they are the same videos, exclude them\n"
    )
    code, printed, said = dcfnet(
        "prepare", tmp_path / "data", "--out", out, "--exclude", "Bird1,ant"
    )
    assert (
        (code, printed) == (2, "")
        and said.count("\n") == 1
        and said.startswith("dcfnet: error: prepare: sequences")
    )
    code, printed, said = dcfnet("prepare", tmp_path / "nothing", "--out", out)
    assert (code, printed) == (2, "") and said.count("\n") == 1


def test_training_sequences_that_are_cut_already(data_dir, tmp_path):
    assert prepare.prepare([data_dir / "train" / "segtrack_girl"], tmp_path / "crops.h5") == {
        "crops": 21
    }
    data = read_crops(tmp_path / "crops.h5")
    assert data.crops.shape == (21, 3, 125, 125)
    assert 20 < data.crops.mean() < 200
