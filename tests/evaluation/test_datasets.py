"""Every layout, typed by hand: the text of the files and the right boxes; what is wrong in copies.

`open_source` and `load_dataset` must agree.
"""

import itertools
import json

import numpy as np
import pytest
from layouts import write_png, write_xml
from scenes import make_sequence, write_images, write_sequence

from dcfnet_np.datasets import (
    DatasetError,
    check_dataset,
    find_sequences,
    is_ground_truth,
    load_dataset,
)  # fmt: skip
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.presets import get_preset
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.sources import open_source

NAN = np.nan
GONE = (NAN,) * 4


def make(root, frames, files, count=4, first=1):
    """Frames in the folder `frames`, and files by their path below root."""
    for number in range(first, first + count):
        write_png(root / frames / f"{number:06d}.jpg", np.zeros((40, 60, 3), np.uint8))
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


# What the files say, and the boxes that this means: x, y, w, h from 0.
BOXES = [(4, 6, 10, 9), GONE, (5, 8, 10, 11), (6.5, 8, 9, 10)]
FROM_1 = "5,7,10,9\n{},{},{},{}\n6,9,10,11\n7.5,9,9,10\n"
ZEROS, MINUS, NANS = (FROM_1.format(*[word] * 4) for word in ("0", "-1", "nan"))
THERE = FROM_1.format(1, 1, 9, 9)
BLANK = "5,7,10,9\n\n6,9,10,11\n7.5,9,9,10\n"
FROM_0 = "4,6,10,9\n0,0,0,0\n5,8,10,11\n6.5,8,9,10\n"
CORNERS_1 = "5 7 15 16\n0 0 0 0\n6 9 16 20\n7.5 9 16.5 19\n"
CORNERS_HIDDEN = CORNERS_1.replace("0 0 0 0", "3 3 9 9")
NO_POLYGON = ",".join(["nan"] * 8)
POLYGONS_0 = f"4,7,9,6,14,10,8,15\n{NO_POLYGON}\n5,8,15,8,15,19,5,19\n6.5,18,11,8,15.5,9,7,9\n"
POLYGONS_1 = "5,8,10,7,15,11,9,16\n0,0,0,0,0,0,0,0\n6,9,16,9,16,20,6,20\n7.5,19,12,9,16.5,10,8,10\n"
TRIANGLES_0 = "4,15,9,6,14,10\n0\n5,8,15,8,5,19,7,9,6,8\n6.5,18,15.5,8,7,9\n"
# m x y w h, then runs outside and inside, row by row; the first window is wider than its inside.
MASKS = [
    "m3,6,12,9,1,10,86,1",  # from (4, 6) to (13, 6), and (4 + 9, 14): 97 = 8 * 12 + 1
    "m3,6,2,2,4",
    "m5,8,10,11,0,110",
    "m6,7,9,11,0,0,9,90",
]
MASK_BOXES = [(4, 6, 10, 9), GONE, (5, 8, 10, 11), (6, 8, 9, 10)]
VATIC = [
    '0 4 6 14 15 0 0 0 0 "ball"',
    '0 1 1 9 9 1 1 0 1 "ball"',
    '0 5 8 15 19 2 0 1 0 "ball"',
    '0 6.5 8 15.5 18 3 0 0 1 "a red, round; ball"',
]
EIGHT_A_FRAME = "\n".join(row for each in VATIC for row in [each] + [VATIC[1]] * 7)
MOT = "1,7,5,7,10,9,1,1,1\n3,7,6,9,10,11,1,1,.5\n4,7,7.5,9,9,10,1,1,1\n"
MOT += "2,7,1,1,5,5,0,1,1\n2,3,1,1,5,5,0,8,1\n"
BIRD = "bird/bird-1"
BY_NAME = "GOT-10k_Val_000001"

LAYOUTS = {
    "otb zeros": ("a/img", {"a/groundtruth_rect.txt": ZEROS}),
    "otb minus": ("a/img", {"a/groundtruth_rect.txt": MINUS}),
    "otb blank": ("a/img", {"a/groundtruth_rect.txt": BLANK}),
    "otb nan": ("a/img", {"a/groundtruth_rect.txt": NANS}),
    "otb polygons": ("a/img", {"a/groundtruth_rect.txt": POLYGONS_1}),
    "otb wins": ("a/img", {"a/groundtruth_rect.txt": ZEROS, "a/groundtruth.txt": "2,1,7,7\n"}),
    "tc128": ("a/img", {"a/a_gt.txt": ZEROS, "a/a_frames.txt": "1,4"}),
    "got10k": ("a", {"a/groundtruth.txt": ZEROS, "a/meta_info.ini": ""}),
    "got10k absent": ("a", {"a/groundtruth.txt": THERE, "a/absence.label": "0\n1\n0\n0\n"}),
    "got10k cover": ("a", {"a/groundtruth.txt": THERE, "a/cover.label": "8\n0\n3\n1\n"}),
    "got10k by its name": (BY_NAME, {f"{BY_NAME}/groundtruth.txt": ZEROS}),
    "lasot": (f"{BIRD}/img", {
        f"{BIRD}/groundtruth.txt": THERE,
        f"{BIRD}/full_occlusion.txt": "0,0,0,0", f"{BIRD}/out_of_view.txt": "0,1,0,0",
    }),
    "nuspro": ("a", {"a/groundtruth.txt": CORNERS_1, "a/occlusion.txt": "0\n0\n1\n0\n"}),
    "nuspro hidden": ("a", {
        "a/groundtruth.txt": CORNERS_HIDDEN, "a/occlusion.txt": "0\n2\n1\n1\n",
    }),
    "nuspro list": ("a", {"a/groundtruth.txt": CORNERS_1, "seq_list_with_gt.csv": "a"}),
    "nuspro polygons": ("a", {"a/groundtruth.txt": POLYGONS_1, "a/occlusion.txt": "0\n" * 4}),
    "vot": ("a/color", {"a/groundtruth.txt": FROM_0}),
    "vot in its folder": ("a", {"a/groundtruth_poly.txt": POLYGONS_0}),
    "vot polygons": ("a/color", {"a/groundtruth.txt": POLYGONS_0}),
    "vot triangles": ("a/color", {"a/groundtruth.txt": TRIANGLES_0}),
    "vot masks": ("a/color", {"a/groundtruth.txt": "\n".join(MASKS)}),
    "vot masks and boxes": ("a/color", {
        "a/groundtruth.txt": "\n".join([MASKS[0], *FROM_0.split()[1:]]),
    }),
    "uav123": ("data_seq/UAV123/boat1", {"anno/UAV123/boat1.txt": NANS}),
    "uav20l": ("data_seq/UAV123/car1", {"anno/UAV20L/car1.txt": NANS}),
    "trackingnet": ("TRAIN_0/frames/x_0", {"TRAIN_0/anno/x_0.txt": FROM_0}),
    "nfs": ("ball/30/ball", {"ball/30/ball.txt": "\n".join(VATIC)}),
    "nfs eight rows a frame": ("ball/240/ball", {"ball/240/ball.txt": EIGHT_A_FRAME}),
    "nfs a row too many": ("ball/30/ball", {"ball/30/ball.txt": "\n".join([*VATIC, VATIC[1]])}),
    "mot": ("MOT17-02/img1", {"MOT17-02/gt/gt.txt": MOT}),
    "mot from 0": ("MOT17-02/img1", {"MOT17-02/gt/gt.txt": MOT}),
}  # fmt: skip


def make_layout(root, layout):
    """The files, and the folder of the sequence."""
    frames, files = LAYOUTS[layout]
    make(root, frames, files, first=0 if layout == "mot from 0" else 1)
    top = frames.split("/")[0]
    return {"data_seq": root, "bird": root / BIRD}.get(top, root / top)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_typed_by_hand(tmp_path, layout):
    home = make_layout(tmp_path, layout)
    expected = MASK_BOXES if layout == "vot masks" else BOXES
    (one,) = load_dataset(tmp_path)
    assert one.format == layout.split()[0].replace("uav20l", "uav123") and one.notes == ()
    np.testing.assert_array_equal(one.visible_boxes(), expected)
    assert len(one) == 4 and one.frame_size() == (60, 40)
    for need_truth in (True, False):
        with open_source(home, need_truth=need_truth) as source:
            np.testing.assert_array_equal(source.boxes, expected)
            assert (source.first_box, source.length) == (expected[0], 4)
            assert (source.name, source.truth_error, source.truth_note) == (one.name, "", "")


def test_polygons_keep_their_points(tmp_path):
    (tmp_path / "a.txt").write_text(POLYGONS_1)
    (tmp_path / "b.txt").write_text(TRIANGLES_0)
    boxes, polygons = read_truth(tmp_path / "a.txt", 1)
    expected = [[4, 7, 9, 6, 14, 10, 8, 15], [6.5, 18, 11, 8, 15.5, 9, 7, 9]]
    np.testing.assert_array_equal(polygons[[0, 3]], expected)
    assert np.isnan(polygons[1]).all() and np.isnan(boxes[1]).all()
    _, polygons = read_truth(tmp_path / "b.txt", 0)
    np.testing.assert_array_equal(polygons[0], [4, 15, 9, 6, 14, 10, 14, 10, 14, 10])
    np.testing.assert_array_equal(polygons[2], [5, 8, 15, 8, 5, 19, 7, 9, 6, 8])


def test_boxes_of_masks_against_masks(tmp_path, rng):
    """The mask is made here, pixel by pixel, as the VOT toolkit's rle_to_mask does."""
    rows, expected = [], []
    for _ in range(200):
        mask = rng.random(tuple(rng.integers(1, 7, 2))) < rng.choice([0, 0.1, 0.5, 1])
        x, y = rng.integers(-3, 9, 2)
        runs = [len(list(group)) for _, group in itertools.groupby([False, *mask.ravel().tolist()])]
        runs[0] -= 1  # the False in front
        rows.append("m" + ",".join(map(str, [x, y, mask.shape[1], mask.shape[0], *runs])))
        where = np.argwhere(mask) if mask.any() else np.full((1, 2), NAN)
        low, high = where.min(0), where.max(0)
        expected.append([x + low[1], y + low[0], *(high - low + 1)[::-1]])
    (tmp_path / "groundtruth.txt").write_text("\n".join(rows))
    np.testing.assert_array_equal(read_truth(tmp_path / "groundtruth.txt", 0).boxes, expected)
    assert np.isnan(expected).any() and np.isfinite(expected).all(axis=1).sum() > 100


# --- several targets


TARGETS = "1,9,5,7,10,9,1\n2,9,6,7,10,9,1\n2,2,21,8,8,8,1\n4,2,23,8,8,8,1\n3,5,1,1,4,4,1\n"
TARGETS += "1,1,1,1,0,4,1\n2,1,1,1,0,4,1\n"  # no target: it has no width


def test_targets_of_mot(tmp_path):
    """Each from its first to its last frame; one that is there once, or without a size, is none."""
    make(tmp_path, "V/img1", {"V/gt/gt.txt": TARGETS}, 5)
    two, nine = load_dataset(tmp_path)
    assert (two.name, nine.name, two.video) == ("V.2", "V.9", "V")
    np.testing.assert_array_equal(two.boxes, [(20, 7, 8, 8), GONE, (22, 7, 8, 8)])
    np.testing.assert_array_equal(nine.boxes, [(4, 6, 10, 9), (5, 6, 10, 9)])
    assert [path.name for path in two.frames] == ["000002.jpg", "000003.jpg", "000004.jpg"]
    with open_source(tmp_path / "V") as source:  # the first frame shows 9 alone
        assert (source.name, source.length, source.first_box) == ("V.9", 2, (4, 6, 10, 9))
    assert [each.name for each in load_dataset(tmp_path, ["V.9"])] == ["V.9"]


@pytest.mark.parametrize("layout", ["davis", "vid"])
def test_a_target_that_appears_later_begins_there(tmp_path, layout):
    make(tmp_path, "JPEGImages/a" if layout == "davis" else "Data/VID/val/a", {})
    for n in range(1, 5):
        if layout == "davis":
            mask = np.zeros((40, 60), np.uint8)
            mask[6:15, 4:14] = 1
            if n > 2:
                mask[20:30, 20 + n : 40] = 2
            write_png(tmp_path / f"Annotations/a/{n:06d}.png", mask)
        else:
            objects = [(1, (4, 6, 10, 9), 0)]
            if n > 2:
                objects.append((2, (20 + n, 20, 20 - n, 10), int(n == 4)))
            write_xml(tmp_path / f"Annotations/VID/val/a/{n:06d}.xml", objects)
    whole, late = load_dataset(tmp_path)
    assert (len(whole), len(late)) == (4, 2) and late.frames == whole.frames[2:]
    np.testing.assert_array_equal(late.boxes, [(23, 20, 17, 10), (24, 20, 16, 10)])
    assert layout == "davis" or late.visible.tolist() == [True, False]
    assert [each for each in check_dataset(tmp_path) if each.fatal] == []
    with open_source(tmp_path) as source:
        assert (source.name, source.length) == (whole.name, 4)


def test_the_first_target_that_the_first_frame_shows_is_tracked(tmp_path, dcfnet):
    frames, boxes = make_sequence(np.random.default_rng(3), 6)
    write_sequence(tmp_path / "Jogging", frames, boxes, truth="groundtruth_rect.2.txt")
    (tmp_path / "Jogging/groundtruth_rect.1.txt").write_text("0,0,0,0\n" + "9,9,20,20\n" * 5)
    assert [one.name for one in load_dataset(tmp_path)] == ["Jogging.1", "Jogging.2"]
    with open_source(tmp_path / "Jogging") as source:
        assert source.name == "Jogging.2"
        np.testing.assert_allclose(source.boxes, boxes, atol=1e-4)
    code, out, err = dcfnet("track", tmp_path / "Jogging", "--save-boxes", tmp_path / "out.csv")
    assert code == 0 and "over 6 annotated frames" in out
    assert "Jogging has 2 targets, of which Jogging.2 is taken; give a box for another one" in err
    np.testing.assert_allclose(read_boxes(tmp_path / "out.csv")[0], boxes[0], atol=1e-4)
    with open_source(tmp_path / "Jogging", need_truth=False) as source:
        assert source.boxes is None and "not known which one" in source.truth_error
    (tmp_path / "Jogging/groundtruth_rect.1.txt").write_text("\n")  # given up, as in Human4
    assert [one.name for one in load_dataset(tmp_path)] == ["Jogging"]


# --- which frames the rows are for


def numbers(one):
    return [int(path.stem) for path in (one.frames[0], one.frames[-1])]


def test_ranges_of_frames(tmp_path):
    """OTB's where a folder has more frames than rows; parts of UAV123's folders; Tiger1's start."""
    rows = {f"{name}/groundtruth_rect.txt": ZEROS for name in ("David", "Tiger1", "FaceOcc1")}
    make(tmp_path / "otb", "David/img", rows, 6, first=298)
    make(tmp_path / "otb", "Tiger1/img", {"Tiger1/groundtruth_rect.txt": "5,7,10,9\n" * 9}, 9)
    make(tmp_path / "otb", "FaceOcc1/img", {}, 4, first=301)
    david, face, tiger = load_dataset(tmp_path / "otb")
    assert (numbers(david), numbers(face), tiger.first) == ([300, 303], [301, 304], 5)
    uav = tmp_path / "uav"
    files = {f"anno/UAV123/uav1_{number}.txt": ZEROS for number in (3, 9)}
    make(uav, "data_seq/UAV123/uav1", files, 7, first=2470)
    make(uav, "data_seq/UAV123/uav1_9", {}, 4)  # no part of uav1 has this number
    part, whole = load_dataset(uav)
    assert (numbers(part), numbers(whole)) == ([2473, 2476], [1, 4])
    with open_source(tmp_path / "otb/David") as source:
        assert source.length == 4 and source.first_box == (4, 6, 10, 9)
    # a box is given for the first of all frames
    with open_source(tmp_path / "otb/David", need_truth=False) as source:
        assert source.length == 6 and source.first_box is None
        np.testing.assert_array_equal(source.boxes[[0, 1, 2, 5]], [GONE, GONE, BOXES[0], BOXES[3]])


def test_the_first_box_alone(tmp_path):
    make(tmp_path, "GOT-10k_Test_000001", {"GOT-10k_Test_000001/groundtruth.txt": "5,7,10,9\n"})
    # no row of OTB's 300
    make(tmp_path, "David/img", {"David/groundtruth_rect.txt": "5,7,10,9\n"}, first=298)
    for one in load_dataset(tmp_path):
        assert len(one) == 4 and one.notes == ()
        np.testing.assert_array_equal(one.boxes, [BOXES[0], GONE, GONE, GONE])


def test_rows_and_frames_that_do_not_fit(tmp_path):
    make(tmp_path, "A/img", {"A/groundtruth_rect.txt": "1,2,3,4\n" * 3}, 5)
    make(tmp_path, "B/img", {"B/groundtruth_rect.txt": "1,2,3,4\n" * 6}, 2)
    a, b = load_dataset(tmp_path)
    assert len(a) == len(a.boxes) == 3 and len(b) == len(b.boxes) == 2
    said = "frames but 3 rows in groundtruth_rect.txt"
    assert a.notes == (f"5 {said}; the first frames, 3, are used",)
    assert [(each.sequence, each.fatal) for each in check_dataset(tmp_path)] == [
        ("A", False), ("B", False),
    ]  # fmt: skip
    with pytest.raises(SourceError, match=f"5 {said}, which does not say for which; remove"):
        open_source(tmp_path / "A")
    assert open_source(tmp_path / "B").boxes.shape == (2, 4)


def test_every_stride(tmp_path):
    make(tmp_path, "a/img", {"a/groundtruth_rect.txt": ZEROS})
    (one,) = load_dataset(tmp_path)
    for stride, rows in ((2, [0, 2]), (-1, [3, 2, 1, 0])):
        thin = one.every(stride)
        np.testing.assert_array_equal(thin.boxes, np.array(BOXES)[rows])
        assert thin.frames == tuple(one.frames[row] for row in rows)


# --- what is found where


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/groundtruth_rect.1.TXT", True), ("a/a_gt.txt", True), ("a/gt/gt.txt", True),
        ("anno/UAV123/a.txt", True), ("anno/a.txt", True), ("30/a.txt", True),
        ("30/b.txt", False), ("a/boxes.txt", False), ("a/regt.txt", False),
    ],
)  # fmt: skip
def test_annotations_are_not_written_over(tmp_path, name, expected):
    (tmp_path / "30/a").mkdir(parents=True)
    assert is_ground_truth(tmp_path / name) == expected


def found(root):
    return [entry.name for entry in find_sequences(root)]


def test_versions_of_one_data_set(tmp_path):
    for rate in ("30", "240"):
        make(tmp_path / "nfs", f"ball/{rate}/ball", {f"ball/{rate}/ball.txt": "\n".join(VATIC)})
    assert found(tmp_path / "nfs") == ["ball.30", "ball.240"]
    assert found(tmp_path / "nfs/ball/30") == ["ball"]
    files = {"anno/UAV123/car1_1.txt": ZEROS, "anno/UAV20L/car1.txt": ZEROS}
    make(tmp_path / "uav", "data_seq/UAV123/car1", files)
    assert found(tmp_path / "uav") == ["car1_1"]
    (entry,) = find_sequences(tmp_path / "uav/anno/UAV20L")
    assert (entry.name, entry.part) == ("car1", None)


def test_folders_that_are_no_sequence(tmp_path):
    make(tmp_path / "x", "deep/er/frames", {"labels.xml": ""})
    known = "known layouts: uav123, .*, mot, .*; found: deep/, labels.xml$"
    for reading, error in ((find_sequences, DatasetError), (open_source, SourceError)):
        with pytest.raises(error, match=known):
            reading(tmp_path / "x")
    files = {f"anno/UAV123/{name}.txt": ZEROS for name in "ab"}
    make(tmp_path / "many", "data_seq/UAV123/a", files)
    with pytest.raises(SourceError, match=r"2 sequences; give the frames of one, like .*UAV123/a"):
        open_source(tmp_path / "many")
    with pytest.raises(DatasetError, match="is no folder; give the data set's folder"):
        load_dataset(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="has no sequence C; it has a, b"):
        load_dataset(tmp_path / "many", ["C"])


HIDDEN = b"\0\5\x16\7\0\2\0\0Mac OS X"  # what a Mac leaves beside files on other file systems


@pytest.mark.parametrize("layout", ["tc128", "uav123", "trackingnet", "nfs", "otb zeros", "vot"])
def test_what_a_mac_leaves_beside_annotations(tmp_path, layout):
    make_layout(tmp_path, layout)
    for name in LAYOUTS[layout][1]:
        for path in (tmp_path / name, tmp_path / "__MACOSX" / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"._{path.name}").write_bytes(HIDDEN)
    (sequence,) = load_dataset(tmp_path)
    np.testing.assert_array_equal(sequence.boxes, BOXES)


def test_two_sequences_of_one_name(tmp_path):
    for year in ("vot2013", "vot2014"):
        make(tmp_path, f"{year}/bolt", {f"{year}/bolt/groundtruth.txt": FROM_0})
    said = "vot2013/bolt and .*vot2014/bolt are both called bolt; rename one"
    for names in (None, ["bolt"]):
        with pytest.raises(DatasetError, match=said):
            load_dataset(tmp_path, names)
    assert [each.name for each in load_dataset(tmp_path / "vot2014")] == ["bolt"]
    (problem,) = (each for each in check_dataset(tmp_path) if each.fatal)
    assert f"has the name of {tmp_path / 'vot2014/bolt'}" in problem.text
    with pytest.raises(SourceError, match=r"sequences, not frames; .* like .*vot2013/bolt$"):
        open_source(tmp_path)


def test_attributes(tmp_path):
    for name in "AB":
        make(tmp_path / "set", name, {f"{name}/groundtruth.txt": FROM_0})
    (tmp_path / "set/attributes.json").write_text(json.dumps({"A": ["IV"]}))
    (tmp_path / "set/B/attrs.txt").write_text("SV, OCC\n")
    assert [one.attributes for one in load_dataset(tmp_path / "set")] == [("IV",), ("SV", "OCC")]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"B": ["OCC", "SV"]}))
    assert load_dataset(tmp_path / "set", attributes=other)[1].attributes == ("OCC", "SV")
    other.write_text("[1]")
    with pytest.raises(DatasetError, match="expected JSON like"):
        load_dataset(tmp_path / "set", attributes=other)


# --- what is wrong


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{frame},7,50,40,24,20", "the first number of each row counts the frames"),
        ("{frame},7,50,40,24,20,1,1", "the first number of each row counts the frames"),
        ("50,40,24,20,0,1", "the last two of 6 numbers are flags"),
        ("50,40,24,20,-1,0.75", "the last two of 6 numbers are flags"),
    ],
)
def test_boxes_with_further_columns_are_no_polygons(tmp_path, row, message):
    for first in (0, 1):
        rows = "\n".join(row.format(frame=first + index) for index in range(4))
        make(tmp_path / str(first), "a", {"a/groundtruth.txt": rows})
        with pytest.raises(DatasetError, match=f"groundtruth.txt: {message}; leave only x,y,w,h"):
            load_dataset(tmp_path / str(first))


POLYGON = r"line 1: expected 4 numbers a row, or 6, 8, \.\.\. for a polygon"
MASK = r"line 1: expected a mask, m and whole numbers x,y,w,h,n0,n1,\.\.\."
TWO_TRACKS = "\n".join([*VATIC, "1" + VATIC[0][1:]])


@pytest.mark.parametrize(
    ("layout", "text", "message"),
    [
        ("otb zeros", "", "holds no boxes"),
        ("otb zeros", "n 1 2 3\n", "line 1: expected numbers, got 'n'"),
        ("otb zeros", "5,7,10,9\n5,7,10,9,1,2\n", "line 2: expected a box as above, got 6 numbers"),
        ("vot", POLYGONS_0 + "1,2,3,4\n", "line 5: expected a polygon as above, got 4 numbers"),
        ("vot", "1,2,3,4,5,6,7\n", f"{POLYGON}, got 7"),
        ("vot", ",".join("7" * 202), f"{POLYGON}, got 202"),
        ("vot", "3\n", "line 1: expected 4 numbers"),
        ("vot", ",1,2,3\n", "line 1: expected numbers, got ''"),
        ("vot", "50,3 40,7 24,2 24,9", "line 1: more than one separator, or decimal commas"),
        ("vot", "m1,2,3\n", f"{MASK}, got 3 numbers"),
        ("vot", "m1,2,3.5,4,0,2\n", MASK),
        ("vot", "m1,2,3,4,0,-2\n", MASK),
        ("vot", "m1,2,3,4,9,4\n", "line 1: the mask's runs are 13 pixels long, its window is 3x4"),
        ("vot", "m1,2,3,x\n", "line 1: expected numbers, got 'x'"),
        ("nfs", "0 1 2 3\n", "line 1: expected nine numbers and a label, got 4 words"),
        ("nfs", TWO_TRACKS, "expected the rows of one track, got 2 tracks"),
        ("mot", "1,2,3,4,5\n", "expected frame,target,x,y,w,h,... in a row, got 5 numbers"),
        ("mot", "1,2,3,4,5,6\n9,2,3,4,5,6\n", "has no frame 9 .1 are missing"),
        ("mot", "1,2,3,4,5,6\n1,2,3,4,5,7\n", "target 2 has two rows for one frame"),
        ("mot", "1,2.5,3,4,5,6\n", "frames and targets must be whole numbers"),
        ("mot", "1,2,3,4,5,6\n", "no target is in two frames"),
    ],
)
def test_rows_that_are_none(tmp_path, layout, text, message):
    home = make_layout(tmp_path, layout)
    (name,) = LAYOUTS[layout][1]
    (tmp_path / name).write_text(text)
    for error, read in ((DatasetError, lambda: load_dataset(tmp_path)),
                        (SourceError, lambda: open_source(home))):  # fmt: skip
        with pytest.raises(error, match=message) as caught:
            read()
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with open_source(home, need_truth=False) as source:  # nobody needs it
        assert source.boxes is None and name in source.truth_error and len(list(source)) == 4


@pytest.mark.parametrize("text", ["0\n0\n0\n", "0,0 0;0"])
def test_labels_that_do_not_fit(tmp_path, text):
    make(tmp_path, "a", {"a/groundtruth.txt": THERE, "a/absence.label": text})
    with pytest.raises(
        DatasetError, match=r"absence.label.*(a label for each of 4 rows|separator)"
    ):
        load_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_text_that_people_hand_us_is_decoded_by_its_mark(tmp_path, encoding):
    make(tmp_path, "data/a/img", {
        "data/a/groundtruth.txt": THERE, "data/a/out_of_view.txt": "0,1,0,0",
        "data/a/attrs.txt": "IV,OCC", "data/attributes.json": '{"b": ["SV"]}',
        "boxes.csv": "x,y,w,h\n4,6,10,9\n", "boxes.txt": "5,7,10,9",
        "boxes.json": '[{"x": 4, "y": 6, "w": 10, "h": 9}]', "preset.json": '{"num_scales": 5}',
    })  # fmt: skip
    texts = [path for path in tmp_path.rglob("*") if path.suffix in (".txt", ".csv", ".json")]
    assert len(texts) == 8
    for path in texts:
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        path.write_bytes((mark + path.read_text()).encode(encoding))
    (one,) = load_dataset(tmp_path / "data")
    assert one.attributes == ("IV", "OCC") and one.visible.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(one.visible_boxes(), BOXES)
    for suffix in ("csv", "json", "txt"):
        np.testing.assert_array_equal(read_boxes(tmp_path / f"boxes.{suffix}"), BOXES[:1])
    preset = get_preset(str(tmp_path / "preset.json"))
    assert preset.num_scales == 5 and preset.scale_step == get_preset("default").scale_step


def test_check_names_what_is_wrong(tmp_path):
    there = "4,3,4,5\n5,3,4,5\n6,3,4,5\n"
    rows = dict.fromkeys(["Good", "Gap", "Broken", "Size", "Jogging"], there)
    rows |= {"Words": "1,2,3,4\none,2,3,4\n", "Start": "0,0,0,0\n2,2,2,2\n2,2,0,2\n"}
    for name, text in rows.items():
        truth = "groundtruth_rect.2.txt" if name == "Jogging" else "groundtruth_rect.txt"
        make(tmp_path, f"{name}/img", {f"{name}/{truth}": text}, 3)
    make(tmp_path, "Frames/img", {}, 2)
    make(tmp_path, "Jogging", {"Jogging/groundtruth_rect.1.txt": there}, 0)
    (tmp_path / "Gap/img/000002.jpg").rename(tmp_path / "Gap/img/000005.jpg")
    (tmp_path / "Broken/img/000002.jpg").write_bytes(b"no image")
    write_images(tmp_path / "Size/img", np.zeros((1, 9, 8, 3), np.uint8), "{:06d}.jpg", start=3)
    said = {}
    for each in check_dataset(tmp_path, decode=True):
        said.setdefault(each.sequence, []).append((each.fatal, each.text))
    words = f"{tmp_path}/Words/groundtruth_rect.txt, line 2: expected numbers, got 'one'"
    nothing = "the first row has no box of positive size: there is nothing to start from"
    expected = {
        "Words": [(True, f"ground truth cannot be read: {words}")],
        "Frames": [(True, f"{tmp_path / 'Frames'} has frames but no ground truth")],
        "Gap": [(False, "gaps in the frame numbers: 2, the first after 000001.jpg")],
        "Size": [(True, "000003.jpg is 8x9 pixels, the first frame 60x40")],
        "Start": [
            (True, nothing), (False, "no target, or no positive width and height, in row 3"),
        ],
    }  # fmt: skip
    assert {name: said[name] for name in expected} == expected
    assert said.keys() == {*expected, "Broken"}
    assert said["Broken"][0][0] and "does not decode" in said["Broken"][0][1]
    # only first and last are decoded
    assert "Broken" not in {each.sequence for each in check_dataset(tmp_path)}
