"""Every layout, typed by hand: the text of the files, and the right boxes; `open_source` and `load`
must agree.
"""

import itertools
import json

import numpy as np
import pytest
from layouts import write_png, write_xml
from scenes import make_sequence, write_sequence

from dcfnet_np.cli import main
from dcfnet_np.datasets import (
    DatasetError,
    check_dataset,
    find_sequences,
    is_ground_truth,
    load_dataset,
)
from dcfnet_np.datasets.rows import read_truth
from dcfnet_np.files import read_text
from dcfnet_np.presets import get_preset
from dcfnet_np.vision.box_files import read_boxes, read_numbers
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
BLANK = "5,7,10,9\n\n6,9,10,11\n7.5,9,9,10\n"
FROM_0 = "4,6,10,9\n0,0,0,0\n5,8,10,11\n6.5,8,9,10\n"
CORNERS_1 = "5 7 15 16\n0 0 0 0\n6 9 16 20\n7.5 9 16.5 19\n"
POLYGONS_0 = "4,7,9,6,14,10,8,15\nnan,nan,nan,nan,nan,nan,nan,nan\n5,8,15,8,15,19,5,19\n6.5,18,11,8,15.5,9,7,9\n"
POLYGONS_1 = "5,8,10,7,15,11,9,16\n0,0,0,0,0,0,0,0\n6,9,16,9,16,20,6,20\n7.5,19,12,9,16.5,10,8,10\n"
TRIANGLES_0 = "4,15,9,6,14,10\n0\n5,8,15,8,5,19,7,9,6,8\n6.5,18,15.5,8,7,9\n"
# m x y w h, then runs outside and inside, row by row; the first window is wider than what is inside
# of it.
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
MOT = "1,7,5,7,10,9,1,1,1\n3,7,6,9,10,11,1,1,.5\n4,7,7.5,9,9,10,1,1,1\n2,7,1,1,5,5,0,1,1\n2,3,1,1,5,5,0,8,1\n"

LAYOUTS = {
    "otb zeros": ("a/img", {"a/groundtruth_rect.txt": ZEROS}, BOXES),
    "otb minus": ("a/img", {"a/groundtruth_rect.txt": MINUS}, BOXES),
    "otb blank": ("a/img", {"a/groundtruth_rect.txt": BLANK}, BOXES),
    "otb nan": ("a/img", {"a/groundtruth_rect.txt": NANS}, BOXES),
    "otb polygons": ("a/img", {"a/groundtruth_rect.txt": POLYGONS_1}, BOXES),
    "tc128": ("a/img", {"a/a_gt.txt": ZEROS, "a/a_frames.txt": "1,4"}, BOXES),
    "got10k": ("a", {"a/groundtruth.txt": ZEROS, "a/meta_info.ini": ""}, BOXES),
    "got10k labels": (
        "a",
        {"a/groundtruth.txt": FROM_1.format(1, 1, 9, 9), "a/absence.label": "0\n1\n0\n0\n"},
        BOXES,
    ),
    "got10k by its name": (
        "GOT-10k_Val_000001",
        {"GOT-10k_Val_000001/groundtruth.txt": ZEROS},
        BOXES,
    ),
    "lasot": (
        "bird/bird-1/img",
        {
            "bird/bird-1/groundtruth.txt": FROM_1.format(1, 1, 9, 9),
            "bird/bird-1/full_occlusion.txt": "0,0,0,0",
            "bird/bird-1/out_of_view.txt": "0,1,0,0",
        },
        BOXES,
    ),
    "nuspro": ("a", {"a/groundtruth.txt": CORNERS_1, "a/occlusion.txt": "0\n0\n1\n0\n"}, BOXES),
    "nuspro hidden": (
        "a",
        {
            "a/groundtruth.txt": CORNERS_1.replace("0 0 0 0", "3 3 9 9"),
            "a/occlusion.txt": "0\n2\n1\n1\n",
        },
        BOXES,
    ),
    "nuspro list": ("a", {"a/groundtruth.txt": CORNERS_1, "seq_list_with_gt.csv": "a"}, BOXES),
    "nuspro polygons": (
        "a",
        {"a/groundtruth.txt": POLYGONS_1, "a/occlusion.txt": "0\n0\n0\n0\n"},
        BOXES,
    ),
    "vot": ("a/color", {"a/groundtruth.txt": FROM_0}, BOXES),
    "vot polygons": ("a/color", {"a/groundtruth.txt": POLYGONS_0}, BOXES),
    "vot triangles": ("a/color", {"a/groundtruth.txt": TRIANGLES_0}, BOXES),
    "vot masks": ("a/color", {"a/groundtruth.txt": "\n".join(MASKS)}, MASK_BOXES),
    "vot masks and boxes": (
        "a/color",
        {"a/groundtruth.txt": "\n".join([MASKS[0], *FROM_0.split()[1:]])},
        BOXES,
    ),
    "uav123": ("data_seq/UAV123/boat1", {"anno/UAV123/boat1.txt": NANS}, BOXES),
    "uav20l": ("data_seq/UAV123/car1", {"anno/UAV20L/car1.txt": NANS}, BOXES),
    "trackingnet": ("TRAIN_0/frames/x_0", {"TRAIN_0/anno/x_0.txt": FROM_0}, BOXES),
    "nfs": ("ball/30/ball", {"ball/30/ball.txt": "\n".join(VATIC)}, BOXES),
    "nfs, eight rows a frame": (
        "ball/240/ball",
        {
            "ball/240/ball.txt": "\n".join(
                itertools.chain(*([row] + [VATIC[1]] * 7 for row in VATIC))
            )
        },
        BOXES,
    ),
    "nfs, a row too many": (
        "ball/30/ball",
        {"ball/30/ball.txt": "\n".join([*VATIC, VATIC[1]])},
        BOXES,
    ),
    "mot": ("MOT17-02/img1", {"MOT17-02/gt/gt.txt": MOT}, BOXES),
    "mot from 0": ("MOT17-02/img1", {"MOT17-02/gt/gt.txt": MOT}, BOXES),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_typed_by_hand(tmp_path, layout):
    frames, files, expected = LAYOUTS[layout]
    make(tmp_path, frames, files, first=0 if layout == "mot from 0" else 1)
    (one,) = load_dataset(tmp_path)
    assert (
        one.format == layout.split()[0].replace("uav20l", "uav123").rstrip(",") and one.notes == ()
    )
    shown = one.boxes if one.visible is None else np.where(one.visible[:, None], one.boxes, NAN)
    np.testing.assert_array_equal(shown, expected)
    top = frames.split("/")[0]
    home = {"data_seq": tmp_path, "bird": tmp_path / "bird/bird-1"}.get(top, tmp_path / top)
    with open_source(home) as source:
        np.testing.assert_array_equal(source.boxes, expected)
        assert source.first_box == expected[0] and source.length == 4 and source.name == one.name
        assert source.truth_error == source.truth_note == ""
    with open_source(home, need_truth=False) as source:
        np.testing.assert_array_equal(source.boxes, expected)


def test_polygons_keep_their_points(tmp_path):
    (tmp_path / "a.txt").write_text(POLYGONS_1)
    (tmp_path / "b.txt").write_text(TRIANGLES_0)
    boxes, polygons = read_truth(tmp_path / "a.txt", 1)
    np.testing.assert_array_equal(
        polygons[[0, 3]], [[4, 7, 9, 6, 14, 10, 8, 15], [6.5, 18, 11, 8, 15.5, 9, 7, 9]]
    )
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
        where = np.argwhere(mask)
        low, high = (
            (where.min(0), where.max(0)) if len(where) else (np.full(2, NAN), np.full(2, NAN))
        )
        expected.append([x + low[1], y + low[0], *(high - low + 1)[::-1]])
    (tmp_path / "groundtruth.txt").write_text("\n".join(rows))
    np.testing.assert_array_equal(read_truth(tmp_path / "groundtruth.txt", 0).boxes, expected)
    assert np.isnan(expected).any() and 100 < np.isfinite(expected).all(axis=1).sum()


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
        assert source.name == "V.9" and source.length == 2 and source.first_box == (4, 6, 10, 9)
    (only,) = load_dataset(tmp_path, ["V.9"])
    assert only.name == "V.9"


@pytest.mark.parametrize("layout", ["davis", "vid"])
def test_a_target_that_appears_later_begins_there(tmp_path, layout):
    if layout == "davis":
        make(tmp_path, "JPEGImages/a", {})
        for number in range(1, 5):
            mask = np.zeros((40, 60), np.uint8)
            mask[6:15, 4:14] = 1
            if number in (3, 4):
                mask[20:30, 20 + number : 40] = 2
            write_png(tmp_path / f"Annotations/a/{number:06d}.png", mask)
    else:
        make(tmp_path, "Data/VID/val/a", {})
        for number in range(1, 5):
            late = (
                [(2, (20 + number, 20, 20 - number, 10), int(number == 4))]
                if number in (3, 4)
                else []
            )
            write_xml(
                tmp_path / f"Annotations/VID/val/a/{number:06d}.xml", [(1, (4, 6, 10, 9), 0), *late]
            )
    whole, late = load_dataset(tmp_path)
    assert (len(whole), len(late)) == (4, 2) and late.frames == whole.frames[2:]
    np.testing.assert_array_equal(late.boxes, [(23, 20, 17, 10), (24, 20, 16, 10)])
    assert layout == "davis" or late.visible.tolist() == [True, False]
    assert [each for each in check_dataset(tmp_path) if each.fatal] == []
    with open_source(tmp_path) as source:
        assert (source.name, source.length) == (whole.name, 4)


def test_the_first_target_that_the_first_frame_shows_is_tracked(tmp_path, capsys):
    frames, boxes = make_sequence(np.random.default_rng(3), 6)
    write_sequence(tmp_path / "Jogging", frames, boxes, truth="groundtruth_rect.2.txt")
    (tmp_path / "Jogging/groundtruth_rect.1.txt").write_text("0,0,0,0\n" + "9,9,20,20\n" * 5)
    with open_source(tmp_path / "Jogging") as source:
        assert source.name == "Jogging.2"
        np.testing.assert_allclose(source.boxes, boxes, atol=1e-4)
    assert (
        main(["track", str(tmp_path / "Jogging"), "--save-boxes", str(tmp_path / "out.csv")]) == 0
    )
    out, err = capsys.readouterr()
    assert "Jogging has 2 targets, of which Jogging.2 is taken; give a box for another one" in err
    assert "over 6 annotated frames" in out
    np.testing.assert_allclose(read_boxes(tmp_path / "out.csv")[0], boxes[0], atol=1e-4)
    with open_source(tmp_path / "Jogging", need_truth=False) as source:
        assert source.boxes is None and "not known which one" in source.truth_error


def test_frames_without_a_target_are_not_counted(tmp_path, capsys):
    frames, boxes = make_sequence(np.random.default_rng(3), 6)
    boxes[2:4] = -1
    write_sequence(tmp_path / "a", frames, boxes, images=".", truth="groundtruth.txt", origin=0)
    assert main(["track", str(tmp_path / "a")]) == 0
    assert "over 4 annotated frames" in capsys.readouterr().out


def test_frames_that_the_rows_are_for(tmp_path):
    """A box is given for the first of all frames; without one the annotated frames are tracked, as
    in eval.
    """
    make(
        tmp_path, "David/img", {"David/groundtruth_rect.txt": FROM_1.format(*"1189")}, 6, first=298
    )
    with open_source(tmp_path / "David") as source:
        assert source.length == 4 and source.first_box == (4, 6, 10, 9)
    with open_source(tmp_path / "David", need_truth=False) as source:
        assert source.length == 6 and source.first_box is None
        np.testing.assert_array_equal(source.boxes[[0, 1, 2, 5]], [GONE, GONE, BOXES[0], BOXES[3]])


def test_the_first_box_alone(tmp_path):
    make(tmp_path, "GOT-10k_Test_000001", {"GOT-10k_Test_000001/groundtruth.txt": "5,7,10,9\n"})
    # no row of OTB's 300
    make(tmp_path, "David/img", {"David/groundtruth_rect.txt": "5,7,10,9\n"}, first=298)
    for one in load_dataset(tmp_path):
        assert len(one) == 4 and one.notes == ()
        np.testing.assert_array_equal(one.boxes, [BOXES[0], GONE, GONE, GONE])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/groundtruth_rect.1.TXT", True),
        ("a/a_gt.txt", True),
        ("a/gt/gt.txt", True),
        ("anno/UAV123/a.txt", True),
        ("anno/a.txt", True),
        ("30/a.txt", True),
        ("30/b.txt", False),
        ("a/boxes.txt", False),
        ("a/regt.txt", False),
    ],
)
def test_annotations_are_not_written_over(tmp_path, name, expected):
    (tmp_path / "30/a").mkdir(parents=True)
    assert is_ground_truth(tmp_path / name) == expected


def test_both_rates_of_nfs(tmp_path):
    for rate in ("30", "240"):
        make(tmp_path, f"ball/{rate}/ball", {f"ball/{rate}/ball.txt": "\n".join(VATIC)})
    assert [entry.name for entry in find_sequences(tmp_path)] == ["ball.30", "ball.240"]
    assert [entry.name for entry in find_sequences(tmp_path / "ball/30")] == ["ball"]


def test_versions_of_uav123(tmp_path):
    make(
        tmp_path,
        "data_seq/UAV123/car1",
        {"anno/UAV123/car1_1.txt": ZEROS, "anno/UAV20L/car1.txt": ZEROS},
    )
    assert [entry.name for entry in find_sequences(tmp_path)] == ["car1_1"]
    assert [(entry.name, entry.part) for entry in find_sequences(tmp_path / "anno/UAV20L")] == [
        ("car1", None)
    ]


def test_unknown_layouts_say_what_is_known_and_what_is_there(tmp_path):
    make(tmp_path / "x", "deep/er/frames", {"labels.xml": ""})
    for reading, error in ((find_sequences, DatasetError), (open_source, SourceError)):
        with pytest.raises(
            error, match="known layouts: uav123, .*, mot, .*; found: deep/, labels.xml$"
        ):
            reading(tmp_path / "x")
    make(
        tmp_path / "many", "data_seq/UAV123/a", {f"anno/UAV123/{name}.txt": ZEROS for name in "ab"}
    )
    with pytest.raises(
        SourceError, match="holds 2 sequences; give the frames of one, like .*UAV123/a, and a box"
    ):
        open_source(tmp_path / "many")


HIDDEN = b"\0\5\x16\7\0\2\0\0Mac OS X"  # what a Mac leaves beside files on other file systems


@pytest.mark.parametrize(
    "layout", ["tc128", "uav123", "uav20l", "trackingnet", "nfs", "otb zeros", "vot"]
)
def test_what_a_mac_leaves_beside_annotations(tmp_path, layout):
    frames, texts, expected = LAYOUTS[layout]
    make(tmp_path, frames, texts)
    for name in [*texts, *(f"__MACOSX/{name}" for name in texts)]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"._{path.name}").write_bytes(HIDDEN)
    (sequence,) = load_dataset(tmp_path)
    np.testing.assert_array_equal(sequence.boxes, expected)


def test_two_sequences_of_one_name(tmp_path):
    for year in ("vot2013", "vot2014"):
        make(tmp_path, f"{year}/bolt", {f"{year}/bolt/groundtruth.txt": FROM_0})
    for names in (None, ["bolt"]):
        with pytest.raises(
            DatasetError, match="vot2013/bolt and .*vot2014/bolt are both called bolt; rename one"
        ):
            load_dataset(tmp_path, names)
    assert [each.name for each in load_dataset(tmp_path / "vot2014")] == ["bolt"]
    (problem,) = (each for each in check_dataset(tmp_path) if each.fatal)
    assert (
        problem.sequence == "bolt"
        and "has the name of" in problem.text
        and "vot2014/bolt" in problem.text
    )
    with pytest.raises(
        SourceError, match="holds sequences, not frames; give one of them, like .*vot2013/bolt$"
    ):
        open_source(tmp_path)


def test_a_list_names_the_folder_of_two_targets(tmp_path):
    make(
        tmp_path,
        "Jogging/img",
        {f"Jogging/groundtruth_rect.{n}.txt": FROM_1.format(1, 1, 9, 9) for n in (1, 2)},
    )
    (tmp_path / "list.txt").write_text("Jogging\nSkating2\n")
    assert [(each.sequence, each.fatal) for each in check_dataset(tmp_path)] == [("Skating2", True)]


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


@pytest.mark.parametrize(
    ("layout", "text", "message"),
    [
        ("otb zeros", "5,7,10,9\n5,7,10,9,1,2\n", "line 2: expected a box as above, got 6 numbers"),
        ("vot", POLYGONS_0 + "1,2,3,4\n", "line 5: expected a polygon as above, got 4 numbers"),
        (
            "vot",
            "1,2,3,4,5,6,7\n",
            "line 1: expected 4 numbers a row, or 6, 8, ... for a polygon, got 7",
        ),
        (
            "vot",
            ",".join("7" * 202),
            "expected 4 numbers a row, or 6, 8, ... for a polygon, got 202",
        ),
        ("vot", "3\n", "line 1: expected 4 numbers"),
        ("vot", ",1,2,3\n", "line 1: expected numbers, got ''"),
        (
            "vot",
            "m1,2,3\n",
            "line 1: expected a mask, m and whole numbers x,y,w,h,n0,n1,..., got 3 numbers",
        ),
        ("vot", "m1,2,3.5,4,0,2\n", "line 1: expected a mask"),
        ("vot", "m1,2,3,4,0,-2\n", "line 1: expected a mask"),
        ("vot", "m1,2,3,4,9,4\n", "line 1: the mask's runs are 13 pixels long, its window is 3x4"),
        ("vot", "m1,2,3,x\n", "line 1: expected numbers, got 'x'"),
        ("nfs", "0 1 2 3\n", "line 1: expected nine numbers and a label, got 4 words"),
        (
            "nfs",
            "\n".join([*VATIC, "1" + VATIC[0][1:]]),
            "expected the rows of one track, got 2 tracks",
        ),
        ("mot", "1,2,3,4,5\n", "expected frame,target,x,y,w,h,... in a row, got 5 numbers"),
        ("mot", "1,2,3,4,5,6\n9,2,3,4,5,6\n", "has no frame 9 .1 are missing"),
        ("mot", "1,2,3,4,5,6\n1,2,3,4,5,7\n", "target 2 has two rows for one frame"),
        ("mot", "1,2.5,3,4,5,6\n", "frames and targets must be whole numbers"),
        ("mot", "1,2,3,4,5,6\n", "no target is in two frames"),
    ],
)
def test_rows_that_are_none(tmp_path, layout, text, message):
    frames, files, _ = LAYOUTS[layout]
    make(tmp_path, frames, {name: text for name in files})
    (name,) = files
    for reading, error in ((load_dataset, DatasetError), (open_source, SourceError)):
        with pytest.raises(error, match=message) as caught:
            reading(tmp_path if reading is load_dataset else tmp_path / frames.split("/")[0])
        assert name in str(caught.value) and "\n" not in str(caught.value)


# --- text
# -------------------------------------------------------------------------------------------------

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom", "utf-32"]


def encode(text, encoding):
    name = encoding.removesuffix("-bom")
    return (("\ufeff" if name != encoding else "") + text).encode(name)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_text_that_people_hand_us_is_decoded_by_its_mark(tmp_path, encoding):
    make(
        tmp_path,
        "data/a/img",
        {
            "data/a/groundtruth.txt": FROM_1.format(1, 1, 9, 9),
            "data/a/out_of_view.txt": "0,1,0,0",
            "data/a/attrs.txt": "IV,OCC",
            "data/attributes.json": '{"b": ["SV"]}',
            "boxes.csv": "x,y,w,h\n4,6,10,9\n",
            "boxes.json": '[{"x": 4, "y": 6, "w": 10, "h": 9}]',
            "boxes.txt": "5,7,10,9",
            "preset.json": '{"num_scales": 5}',
        },
    )
    texts = [path for path in tmp_path.rglob("*") if path.suffix in (".txt", ".csv", ".json")]
    assert len(texts) == 8
    for path in texts:
        path.write_bytes(encode(path.read_text(), encoding))
    (one,) = load_dataset(tmp_path / "data")
    assert one.attributes == ("IV", "OCC") and one.visible.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(one.boxes[[0, 2, 3]], [BOXES[0], BOXES[2], BOXES[3]])
    for suffix in ("csv", "json", "txt"):
        np.testing.assert_array_equal(read_boxes(tmp_path / f"boxes.{suffix}"), BOXES[:1])
    preset = get_preset(str(tmp_path / "preset.json"))
    assert preset.num_scales == 5 and preset.scale_step == get_preset("default").scale_step


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "5,7,10,9".encode("utf-16-le"),
            "has zero bytes, as UTF-16 without a byte order mark has; save it as UTF-8",
        ),
        ("café".encode("latin-1"), "is no UTF-8 text from byte 3 on; save it as UTF-8"),
        (b"\xff\xfe1", "is no UTF-16 text from byte 2 on"),
    ],
)
def test_other_texts_are_refused_by_name(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    for reading in (read_text, read_numbers, read_boxes, lambda path: read_truth(path, 0)):
        with pytest.raises(ValueError, match=f"a.txt {message}"):
            reading(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "50,3 40,7 24,2 24,9",
        "50,3;40,7;24,2;24,9",
        "50,3\t40,7\t24,2\t24,9",
        "50,3, 40,7, 24,2, 24,9",
        "50 40 24 24\n50,3 40,7 24,2 24,9",
        "50,40,24,24\n50 40 24 24",
        "50,40 24,24",
        "50;40;24,24",
        "50,40\t24 24",
        "50;40 24;24",
    ],
)
def test_more_than_one_separator_is_refused_everywhere(tmp_path, text):
    for name in ("a/groundtruth.txt", "b/groundtruth_rect.txt", "c/c_gt.txt"):
        make(tmp_path, name.split("/")[0], {name: text})
        with pytest.raises(
            SourceError, match=f"{name}, line [12]: more than one separator, or decimal commas"
        ):
            open_source((tmp_path / name).parent)
    make(tmp_path, "d", {"d/groundtruth.txt": "1,2,3,4\n" * 4, "d/absence.label": text})
    with pytest.raises(DatasetError, match="absence.label, line [12]: more than one separator"):
        load_dataset(tmp_path / "d")
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(ValueError, match="boxes.txt, line [12]: more than one separator"):
        read_boxes(tmp_path / "boxes.txt")


@pytest.mark.parametrize(
    "text",
    ["5,7,10,9", "5;7;10;9;", "5\t7 10\t9", " 5,  7, 10,   9 ", "5 ; 7 ; 10 ; 9", "5,7,10,9,"],
)
def test_one_separator_with_blanks_around_it(tmp_path, text):
    (tmp_path / "a.txt").write_text(f"{text}\r\n{text}\n")
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.txt"), [BOXES[0]] * 2)


@pytest.mark.parametrize(
    "text",
    [
        "x, y, w, h\n4, 6, 10, 9\n,,,\n",
        "X;Y;W;H\r\n4;6;10;9\r\n;;;\r\n",
        " Frame\tx \tY\tw\th\n0\t4\t6\t10\t9\n\n1\tnan\tnan\tnan\tnan\n",
        '"x","y","w","h"\n"4","6","10","9"\n"","","",""\n',
    ],
)
def test_heads_of_csv(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, newline="")
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.csv"), [BOXES[0], GONE])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x;y;w;h\n50,3;40,7;24,2;24,9\n", "'50,3' is no number such as 50.3"),
        ("x,y,w,h\n50,3,40,7,24,2,24,9\n", "line 2 has 8 columns, the first line 4"),
        ("x,y,w,h\n50,40,24\n", "line 2 has 3 columns, the first line 4"),
        ("x,y,w,h,X\n1,2,3,4,5\n", "a column is there twice"),
        ("50,40,24,24\n50,40,24,24\n", "with columns x, y, w, h"),
    ],
)
def test_rows_of_csv_that_are_none(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"a.csv: not a .csv file .*{message}"):
        read_boxes(tmp_path / "a.csv")


def test_capitals_in_json(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps([{"X": 4, " Y": 6, "W": 10, "h": 9}, dict.fromkeys("xywh")])
    )
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.json"), [BOXES[0], GONE])
