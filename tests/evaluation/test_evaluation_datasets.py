"""Readers of the field's formats, from folders made here; the check of a copy."""

import json

import numpy as np
import pytest
from scenes import make_sequence, write_images, write_sequence

from dcfnet_np import datasets
from dcfnet_np.datasets import DatasetError


@pytest.fixture(scope="module")
def scene():
    """Six small frames and their boxes."""
    return make_sequence(np.random.default_rng(5), 6, 64, 48, (16, 12))


def blank(count, height=8, width=8):
    return np.zeros((count, height, width, 3), np.uint8)


def boxes_of(count):
    return np.arange(count)[:, None] * (1.0, 0, 0, 0) + (3, 2, 4, 5)


def problems(root, **options):
    return [
        (problem.sequence, problem.fatal, problem.text)
        for problem in datasets.check_dataset(root, **options)
    ]


def test_the_generator_is_exact(scene):
    """The target covers its box: where the picture differs from the background, found again from
    two frames.
    """
    frames, boxes = scene
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 100
    for index in (0, 5):
        background = np.where(np.arange(6) == index, False, True)
        still = np.median(frames[background], axis=0)
        x, y, w, h = boxes[index]
        rows, columns = np.nonzero(np.abs(frames[index] - still).sum(2) > 90)
        assert rows.size and y - 1 <= rows.min() and rows.max() <= y + h and columns.max() <= x + w


# --- formats ---


def test_otb(tmp_path, scene):
    frames, boxes = scene
    write_sequence(tmp_path / "Car", frames, boxes)
    (tmp_path / "Car/attrs.txt").write_text("IV, SV,OCC\n")
    (one,) = datasets.load_dataset(tmp_path)
    assert (one.name, one.format, len(one), one.attributes) == (
        "Car",
        "otb",
        6,
        ("IV", "SV", "OCC"),
    )
    np.testing.assert_allclose(one.boxes, boxes, atol=1e-4)
    assert one.frame_size() == (64, 48)
    (again,) = datasets.load_dataset(tmp_path / "Car")
    np.testing.assert_array_equal(again.boxes, one.boxes)


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1\t2\t3\t4\r\n5\t6\t7\t8",
        " 1 2 3 4 \n5 6 7 8\n\n\n",
        "\ufeff1, 2,3 ,4\n5,6\t,7,8\n",
    ],
)
def test_commas_tabs_and_blanks(tmp_path, text):
    write_images(tmp_path / "A/img", blank(2))
    (tmp_path / "A/groundtruth_rect.txt").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(
        datasets.load_dataset(tmp_path)[0].boxes, [[0, 1, 3, 4], [4, 5, 7, 8]]
    )


def test_a_missing_row_is_an_absent_target(tmp_path):
    write_images(tmp_path / "A/img", blank(4))
    (tmp_path / "A/groundtruth_rect.txt").write_text("1,2,3,4\n\n\n5,6,7,8\n\n")
    boxes = datasets.load_dataset(tmp_path)[0].boxes
    assert np.isnan(boxes[1:3]).all() and boxes[3].tolist() == [4, 5, 7, 8]


def test_two_targets(tmp_path):
    write_images(tmp_path / "Jogging/img", blank(3))
    for number in (1, 2):
        np.savetxt(
            tmp_path / f"Jogging/groundtruth_rect.{number}.txt",
            boxes_of(3) + number,
            delimiter="\t",
        )
    first, second = datasets.load_dataset(tmp_path)
    assert (first.name, second.name) == ("Jogging.1", "Jogging.2")
    np.testing.assert_array_equal(second.boxes - first.boxes, np.ones((3, 4)))
    (only,) = datasets.load_dataset(tmp_path, ["Jogging.2"])
    assert only.name == "Jogging.2"


def test_an_empty_target_file_is_no_target(tmp_path):
    write_sequence(tmp_path / "Human4", blank(2), boxes_of(2), truth="groundtruth_rect.2.txt")
    (tmp_path / "Human4/groundtruth_rect.1.txt").write_text("\n")
    assert [sequence.name for sequence in datasets.load_dataset(tmp_path)] == ["Human4"]


def test_ranges_of_otb(tmp_path):
    """Only where a folder has more frames than rows."""
    write_sequence(tmp_path / "original/Diving", blank(231), boxes_of(215))
    (cut,) = datasets.load_dataset(tmp_path / "original")
    assert (cut.frames[0].name, cut.frames[-1].name, cut.notes) == ("0001.jpg", "0215.jpg", ())
    frames = blank(12)
    write_images(tmp_path / "late/David/img", frames, start=295)
    np.savetxt(tmp_path / "late/David/groundtruth_rect.txt", boxes_of(7), delimiter=",")
    (late,) = datasets.load_dataset(tmp_path / "late")
    assert (late.frames[0].name, late.frames[-1].name) == ("0300.png", "0306.png")
    write_sequence(tmp_path / "renumbered/David", frames, boxes_of(12))
    (renumbered,) = datasets.load_dataset(tmp_path / "renumbered")
    assert renumbered.frames[0].name == "0001.jpg" and len(renumbered) == 12


def test_the_start_of_tiger1(tmp_path):
    write_sequence(tmp_path / "Tiger1", blank(9), boxes_of(9))
    assert datasets.load_dataset(tmp_path)[0].first == 5


@pytest.mark.parametrize("images", ["color", "img", "."])
def test_vot(tmp_path, images):
    x, y = 10.5, 6.25
    polygons = np.array([[x, y + 4, x + 6, y, x + 9, y + 5, x + 3, y + 8]] * 3)
    write_sequence(
        tmp_path / "bag", blank(3), polygons, "{:08d}.jpg", images, "groundtruth.txt", origin=0
    )
    text = (tmp_path / "bag/groundtruth.txt").read_text().splitlines()
    text[1] = ",".join(["nan"] * 8)
    (tmp_path / "bag/groundtruth.txt").write_text("\n".join(text))
    (bag,) = datasets.load_dataset(tmp_path)
    assert bag.format == "vot"
    np.testing.assert_allclose(bag.boxes[0], [x, y, 9, 8])
    np.testing.assert_allclose(bag.polygons[2], polygons[2])
    assert np.isnan(bag.boxes[1]).all() and np.isnan(bag.polygons[1]).all()


def test_got10k(tmp_path):
    folder = tmp_path / "val/GOT-10k_Val_000001"
    write_sequence(folder, blank(3), boxes_of(3), "{:08d}.jpg", ".", "groundtruth.txt")
    (folder / "meta_info.ini").write_text("[METAINFO]\n")
    (folder / "cover.label").write_text("8\n0\n3\n")
    (folder.parent / "list.txt").write_text("GOT-10k_Val_000001\nGOT-10k_Val_000002\n")
    (one,) = datasets.load_dataset(tmp_path / "val")
    assert one.format == "got10k" and one.visible.tolist() == [True, False, True]
    np.testing.assert_allclose(one.boxes, boxes_of(3))
    assert problems(tmp_path / "val")[0][:2] == ("GOT-10k_Val_000002", True)


def test_lasot(tmp_path):
    folder = tmp_path / "bird/bird-1"
    write_sequence(folder, blank(4), boxes_of(4), "{:08d}.jpg", "img", "groundtruth.txt")
    (folder / "full_occlusion.txt").write_text("0,1,0,0")
    (folder / "out_of_view.txt").write_text("0,0,0,1")
    (folder / "nlp.txt").write_text("a bird")
    (one,) = datasets.load_dataset(tmp_path)
    assert (one.name, one.format) == ("bird-1", "lasot")
    assert one.visible.tolist() == [True, False, True, False]
    np.testing.assert_allclose(one.boxes, boxes_of(4))
    (folder / "out_of_view.txt").write_text("0,0,0")
    with pytest.raises(DatasetError, match="a label for each of 4 rows"):
        datasets.load_dataset(tmp_path)


def test_uav123(tmp_path):
    write_images(tmp_path / "data_seq/UAV123/uav1", blank(5), "{:06d}.jpg", start=2470)
    write_images(tmp_path / "data_seq/UAV123/boat1", blank(3), "{:06d}.jpg")
    (tmp_path / "anno/UAV123").mkdir(parents=True)
    rows = boxes_of(2)
    np.savetxt(tmp_path / "anno/UAV123/uav1_3.txt", rows, delimiter=",")  # frames 2473 to 3469
    (tmp_path / "anno/UAV123/boat1.txt").write_text("1,1,2,2\nNaN,NaN,NaN,NaN\n3,1,2,2\n")
    boat, uav = datasets.load_dataset(tmp_path)
    assert (uav.name, uav.frames[0].name, len(uav)) == ("uav1_3", "002473.jpg", 2)
    np.testing.assert_array_equal(uav.boxes, rows - (1, 1, 0, 0))
    assert np.isnan(boat.boxes[1]).all() and boat.boxes[2].tolist() == [2, 0, 2, 2]


def test_attributes_from_a_file(tmp_path):
    for name in ("A", "B"):
        write_sequence(tmp_path / "set" / name, blank(2), boxes_of(2))
    (tmp_path / "set/attributes.json").write_text(json.dumps({"A": ["IV"]}))
    assert [s.attributes for s in datasets.load_dataset(tmp_path / "set")] == [("IV",), ()]
    (tmp_path / "other.json").write_text(json.dumps({"B": ["OCC", "SV"]}))
    assert [
        s.attributes
        for s in datasets.load_dataset(tmp_path / "set", attributes=tmp_path / "other.json")
    ][1] == ("OCC", "SV")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(DatasetError, match="expected JSON like"):
        datasets.load_dataset(tmp_path / "set", attributes=tmp_path / "other.json")


# --- what is wrong ---


def test_rows_and_frames_that_do_not_fit(tmp_path):
    write_sequence(tmp_path / "A", blank(5), boxes_of(3))
    write_sequence(tmp_path / "B", blank(2), boxes_of(6))
    a, b = datasets.load_dataset(tmp_path)
    assert len(a) == len(a.boxes) == 3 and len(b) == len(b.boxes) == 2
    assert a.notes == (
        "5 frames but 3 rows in groundtruth_rect.txt; the first frames, 3, are used",
    )
    assert [(name, fatal) for name, fatal, _ in problems(tmp_path)] == [("A", False), ("B", False)]


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(DatasetError, match="is no folder"):
        datasets.load_dataset(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="holds no sequences"):
        datasets.load_dataset(tmp_path)
    write_sequence(tmp_path / "A", blank(2), boxes_of(2))
    with pytest.raises(DatasetError, match="has no sequence C; it has A"):
        datasets.load_dataset(tmp_path, ["A", "C"])
    (tmp_path / "A/groundtruth_rect.txt").write_text("1,2,3\n")
    with pytest.raises(
        DatasetError, match="expected 4 numbers a row, or 6, 8, ... for a polygon, got 3"
    ):
        datasets.load_dataset(tmp_path)


def test_check_names_what_is_wrong(tmp_path):
    write_sequence(tmp_path / "Good", blank(3), boxes_of(3))
    write_sequence(tmp_path / "Words", blank(2), boxes_of(2))
    (tmp_path / "Words/groundtruth_rect.txt").write_text("1,2,3,4\none,2,3,4\n")
    write_images(tmp_path / "Frames/img", blank(2))
    write_sequence(
        tmp_path / "Start", blank(3), np.array([[0, 0, 0, 0], [1, 1, 2, 2], [1, 1, 0, 2.0]])
    )
    write_sequence(tmp_path / "Gap", blank(3), boxes_of(3))
    (tmp_path / "Gap/img/0002.jpg").rename(tmp_path / "Gap/img/0005.jpg")
    write_sequence(tmp_path / "Broken", blank(3), boxes_of(3))
    (tmp_path / "Broken/img/0002.jpg").write_bytes(b"no image")
    write_sequence(tmp_path / "Size", blank(3), boxes_of(3))
    write_images(tmp_path / "Size/img", blank(1, 9, 8), "{:04d}.jpg", start=3)
    write_sequence(
        tmp_path / "Outside", blank(3), boxes_of(3) + [[0, 0, 0, 0], [20, 0, 0, 0], [0, -30, 0, 0]]
    )
    found = {name: (fatal, text) for name, fatal, text in problems(tmp_path, decode=True)}
    assert found["Words"] == (
        True,
        f"ground truth cannot be read: {tmp_path}/Words/groundtruth_rect.txt, line 2: expected numbers, got 'one'",
    )
    assert found["Frames"][0] and "frames but no ground truth" in found["Frames"][1]
    assert found["Gap"] == (False, "gaps in the frame numbers: 2, the first after 0001.jpg")
    assert found["Broken"][0] and "does not decode" in found["Broken"][1]
    assert found["Size"] == (True, "0003.jpg is 8x9 pixels, the first frame 8x8")
    assert found["Outside"] == (False, "the box lies outside the frame in rows 2, 3")
    start = [(fatal, text) for name, fatal, text in problems(tmp_path) if name == "Start"]
    assert start == [
        (True, "the first row has no box of positive size: there is nothing to start from"),
        (False, "no target, or no positive width and height, in row 3"),
    ]
    assert set(found) == {"Words", "Frames", "Gap", "Broken", "Size", "Outside", "Start"}
    # only first and last are decoded
    assert "Broken" not in {name for name, *_ in problems(tmp_path)}
