"""COCO JSON and YOLO text files for training: which pairs they make, and what is wrong."""

import json
import os

import cv2
import numpy as np
import pytest
from layouts import HEIGHT, WIDTH, coded_frame, otb, write_frames, write_png
from test_prepare import BOXES, MARGIN, SIZE, check_crop

from dcfnet_np.train.crops import read_crops
from dcfnet_np.train.detections import find_annotations
from dcfnet_np.train.pairs import all_pairs
from dcfnet_np.train.prepare import Window, plan_sequences, prepare_crops


def coco_image(number, **more):
    size = {"width": WIDTH, "height": HEIGHT}
    return {"id": 100 + number, "file_name": f"{number:06d}.png", **size, **more}


def annotation(number, image, box, **more):
    box = [float(value) for value in box]
    return {"id": number, "image_id": 100 + image, "bbox": box, "category_id": 1, **more}


def coco(root, images, annotations, folder="images", name="annotations/instances.json", **more):
    """Write a COCO file and its coded images; returns the file."""
    for image in images:
        write_png(root / folder / image["file_name"], coded_frame(int(image["file_name"][:6])))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, **more}))
    return path


def yolo_row(box, *more):
    x, y, w, h = box
    shares = (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT
    return " ".join(f"{value:.8g}" for value in (0, *shares, *more))


def yolo(root, tables, image="{:06d}.png", images="images", labels="labels"):
    """Write coded images and a label file of these lines for each."""
    write_frames(root / images, len(tables), image, 0)
    (root / labels).mkdir(parents=True, exist_ok=True)
    for index, lines in enumerate(tables):
        text = (root / labels / image.format(index)).with_suffix(".txt")
        text.write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def made(tmp_path):
    def run(*paths):
        window = Window(size=SIZE, margin=MARGIN)
        counts = prepare_crops(paths, tmp_path / "crops.h5", window)
        return counts, read_crops(tmp_path / "crops.h5", margin=True)

    return run


def refused(path, message):
    """Reading it gives one line with this pattern."""
    with pytest.raises(ValueError, match=message) as info:
        plan_sequences([path])
    assert "\n" not in str(info.value) and len(str(info.value)) < 2000
    return str(info.value)


def check(data, expected):
    """expected: {sequence: [(frame number, image, box)]}."""
    assert list(data.sequences) == list(expected)
    rows = [row for table in expected.values() for row in table]
    assert data.frame.tolist() == [number for number, _, _ in rows]
    np.testing.assert_allclose(data.box, [box for _, _, box in rows], atol=1e-4)
    for crop, (_, image, box) in zip(data.crops, rows, strict=True):
        check_crop(crop, box, image)


# --- what is read


@pytest.mark.parametrize("where", ["beside", "instance_id", "attributes", "file", "far"])
def test_coco_with_track_ids_makes_pairs(tmp_path, made, where):
    """Two targets in two videos; nothing is in order, and frame_id, not the name, is the time."""
    frames = [(0, 1, 30), (1, 1, 10), (2, 1, 20), (3, 2, 7), (4, 2, 5)]  # image, video, frame_id
    images = [coco_image(i, video_id=video, frame_id=time) for i, video, time in frames]
    key = "instance_id" if where == "instance_id" else "track_id"

    def of(track):
        return {"attributes": {"track_id": track}} if where == "attributes" else {key: track}

    annotations = [annotation(9 - i, i, BOXES[i], **of(7)) for i in (4, 2, 0, 1, 3)]
    annotations += [annotation(20, 1, BOXES[4], **of(8)), annotation(21, 2, BOXES[0], iscrowd=1)]
    folder = {"beside": "annotations", "far": "images/train2017"}.get(where, "images")
    videos = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
    path = coco(tmp_path / "data", images, annotations, folder, videos=videos)
    counts, data = made(path if where == "file" else tmp_path / "data")
    assert counts == {"crops": 6}
    expected = {
        "bee.7": [(5, 4, BOXES[4]), (7, 3, BOXES[3])],
        "ant.7": [(10, 1, BOXES[1]), (20, 2, BOXES[2]), (30, 0, BOXES[0])],
        "ant.8": [(10, 1, BOXES[4])],
    }
    check(data, expected)
    drawn = all_pairs(data.sequence, data.frame, 20)
    assert drawn.tolist() == [[0, 1], [2, 3], [2, 4], [3, 4]]
    assert data.validation.tolist() in ([True, False, False], [False, True, True])  # by video


def test_coco_of_one_video_without_ids_of_frames(tmp_path, made):
    annotations = [annotation(i, i, BOXES[i], track_id=1) for i in (3, 0)]
    path = coco(tmp_path, [coco_image(i) for i in (3, 0)], annotations)
    check(made(path)[1], {"instances.1": [(0, 0, BOXES[0]), (3, 3, BOXES[3])]})


def test_stills_make_no_pair_and_the_command_says_so(tmp_path, dcfnet):
    places = [(5, 0, 0), (6, 0, 1), (7, 1, 2)]
    annotations = [annotation(number, image, BOXES[box]) for number, image, box in places]
    path = coco(tmp_path, [coco_image(i) for i in range(2)], annotations)
    crops = tmp_path / "crops.h5"
    code, out, err = dcfnet("prepare", path, "--out", crops, "--size", SIZE, "--margin", MARGIN)
    assert code == 0 and "crops 3, sequences 3" in out
    stills = "3 objects with no track id; an object in one image alone makes no pair"
    assert f"{path}: {stills}" in err
    assert "no sequence has two frames, so these crops make no pair" in err
    data = read_crops(crops, margin=True)
    check(data, {f"{i:06d}.{n}": [(0, i, BOXES[box])] for n, i, box in places})
    code, _, err = dcfnet("train", crops, "--out", tmp_path / "run", "--jitter", 0)
    assert code == 2 and "no two crops of one sequence" in err


@pytest.mark.parametrize("layout", ["images and labels", "beside", "split"])
def test_yolo_with_numbered_targets_makes_pairs(tmp_path, made, layout):
    rows = [[(0, 4)], [(1, 4), (2, 9)], [], [(3, 4)]]
    tables = [[yolo_row(BOXES[box], target) for box, target in row] for row in rows]
    root = tmp_path / "data"
    if layout == "beside":
        yolo(root, tables, "walk_{:02d}.jpg", ".", ".")
        (root / "classes.txt").write_text("person\n")
        (root / "readme.txt").write_text("other words\n")
    else:
        yolo(root / ("train" if layout == "split" else "."), tables, "walk_{:02d}.jpg")
    counts, data = made(root)
    assert counts == {"crops": 4}
    four = [(k, k, BOXES[k]) for k in (0, 1, 3)]
    check(data, {"walk.4": four, "walk.9": [(1, 1, BOXES[2])]})


def test_yolo_stills_beside_a_video(tmp_path, made, caplog):
    tables = [[yolo_row(BOXES[0]), yolo_row(BOXES[1])], [], [yolo_row(BOXES[2])]]
    yolo(tmp_path / "data", tables, "a{}.png")
    expected = [("a0.1", 0, 0), ("a0.2", 0, 1), ("a2.1", 2, 2)]
    _, data = made(tmp_path / "data")
    check(data, {name: [(0, image, BOXES[box])] for name, image, box in expected})
    otb(tmp_path, "ant", BOXES)
    caplog.clear()
    assert made(tmp_path / "ant", tmp_path / "data")[0] == {"crops": 8}
    assert "3 objects with no track id" in caplog.text
    assert "no sequence has two frames" not in caplog.text


def test_an_image_of_another_size_is_left_out(tmp_path, made):
    annotations = [annotation(i, i, BOXES[i], track_id=1) for i in range(3)]
    path = coco(tmp_path, [coco_image(i) for i in range(3)], annotations)
    write_png(tmp_path / "images/000001.png", cv2.resize(coded_frame(1), None, fx=0.5, fy=0.5))
    counts, data = made(path)
    assert counts == {"crops": 2, "the image has another size than annotated": 1}
    assert data.frame.tolist() == [0, 2]


def test_files_of_other_programs(tmp_path, made):
    """UTF-16, and names with Windows' separators."""
    image = coco_image(0)
    path = coco(tmp_path, [image], [annotation(1, 0, BOXES[0])])
    image["file_name"] = "images\\000000.png"
    text = json.dumps({"images": [image], "annotations": [annotation(1, 0, BOXES[0])]})
    path.write_bytes(text.encode("utf-16"))
    check(made(path)[1], {"images/000000.1": [(0, 0, BOXES[0])]})


def test_coco_of_a_folder_for_each_video(tmp_path, made):
    """Without video_id a track id means another target in another folder of images."""
    frames = {"ant": (0, 3), "bee": (1, 4)}
    images, annotations = [], []
    for video, numbers in frames.items():
        for i in numbers:
            write_png(tmp_path / f"images/{video}/{i:06d}.png", coded_frame(i))
            images.append(coco_image(i, file_name=f"{video}/{i:06d}.png"))
            annotations.append(annotation(i, i, BOXES[i], track_id=1))
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    expected = {f"{video}.1": [(i, i, BOXES[i]) for i in frames[video]] for video in frames}
    check(made(path)[1], expected)


# --- near misses

GOOD = [float(value) for value in BOXES[0]]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"bbox": None, "segmentation": [[1, 2, 3]]},
            "annotation 1 has a segmentation and no bbox",
        ),
        (
            {"bbox": [1, 2, 3]},
            r"annotation 1: bbox must be \[x, y, w, h\] in pixels, got \[1, 2, 3\]",
        ),
        ({"bbox": [1, 2, float("nan"), 3]}, "annotation 1: bbox must be of finite numbers"),
        ({"bbox": [0.2, 0.3, 0.1, 0.2]}, "no number of any box is over 1, .* must be in pixels"),
        ({"bbox": [150, 140, 200, 190]}, "most boxes reach out of their .*two corners in place"),
        ({"image_id": 7}, "annotation 1 is of image 7, which is not listed"),
        ({"iscrowd": 1}, "no object with a box"),
    ],
)
def test_coco_near_misses(tmp_path, change, message):
    path = coco(tmp_path, [coco_image(0)], [annotation(1, 0, GOOD) | change])
    assert str(path) in refused(path, message)


def test_coco_without_its_images_or_numbers(tmp_path):
    path = coco(tmp_path, [coco_image(i) for i in range(3)], [annotation(1, 0, GOOD)])
    for number in (1, 2):
        (tmp_path / f"images/00000{number}.png").unlink()
    refused(path, "image .*000001.png and 1 more is missing; put images beside")
    image = {"id": 100, "file_name": "one.png"}
    write_png(tmp_path / "images/one.png", coded_frame(0))
    once = [annotation(1, 0, GOOD, track_id=1)]
    path.write_text(json.dumps({"images": [image], "annotations": once}))
    refused(path, "image one.png of a video needs a frame_id, or a number in its name")
    path.write_text(json.dumps({"images": [image | {"frame_id": 3}], "annotations": once * 2}))
    refused(path, "target 1 of instances has two boxes in one.png; give every target an id")


TWO = {"videos": [{"id": 1, "name": "ant"}, {"id": 2, "name": "ant"}]}


@pytest.mark.parametrize(
    "images, more, message",
    [
        ([{}, {"id": 100}], {}, "two images have the id 100; number them anew"),
        ([{}, {}], TWO, "two videos have the name ant"),
        (
            [{"frame_id": 4}] * 2,
            {},
            "two boxes at number 4, 000000.png and 000001.png; .* frame_id",
        ),
        ([{"frame_id": 2**31}, {}], {}, "at most 2147483647, got 2147483648 of .*000000.png; ren"),
        ([{"width": float("inf")}, {}], {}, "not as COCO has it .OverflowError"),
    ],
)
def test_coco_whose_ids_or_numbers_cannot_be(tmp_path, images, more, message):
    images = [coco_image(i, **image) for i, image in enumerate(images)]
    annotations = [annotation(i, i, BOXES[i], track_id=1) for i in range(2)]
    refused(coco(tmp_path, images, annotations, **more), message)


@pytest.mark.parametrize(
    "content",
    [
        '{"images": 3, "annotations": []}',
        '{"images": [3], "annotations": []}',
        '{"images": [], "annotations": [3]}',
        '{"images": [{"id": 1}], "annotations": []}',
    ],
)
def test_json_of_another_shape(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    refused(tmp_path / "a.json", "a.json is not as COCO has it")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "[" * 100_000])
def test_no_coco(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    refused(tmp_path / "a.json", 'neither a folder nor a COCO file with "images" and "annotations"')
    refused(tmp_path, "holds no sequences; .*; nor a COCO file, nor YOLO's images and labels")


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 66 70 20 31", "line 1: x y w h must be shares .*, got 70; divide pixels"),
        (
            "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9",
            "line 1: expected class x y w h, .*a polygon, a pose",
        ),
        ("0 0.1 0.1 0.2", "line 1: expected class x y w h, got '0 0.1 0.1 0.2'"),
        ("person 0.1 0.1 0.2 0.2", "line 1: expected class x y w h, got 'person"),
        ("0 0.1 0.1 0.2 nan", "line 1: expected class x y w h"),
        ("0 0.1 0.1 0.2 0.2 0.87", "line 1: a sixth number is the target's, got 0.87; no confid"),
        ("0 0.6 0.6 0.9 0.9", "most boxes reach out of their images"),
        ("0 0.1 0.1 0.2 0.2 1\n0 0.1 0.1 0.2 0.2", "must be in all lines or in none"),
    ],
)
def test_yolo_near_misses(tmp_path, line, message):
    yolo(tmp_path / "data", [[line]])
    refused(tmp_path / "data", message)


def test_yolo_that_is_numbered_in_some_files(tmp_path):
    """As `yolo track` writes boxes of the first frames, before they have a number."""
    yolo(tmp_path / "data", [[yolo_row(BOXES[0])], [], [yolo_row(BOXES[1], 4)]], "walk_{}.png")
    refused(tmp_path / "data", "walk_0.txt has lines without a target's number.*walk_2.txt has it")


def test_yolo_without_its_images(tmp_path):
    yolo(tmp_path / "data", [[yolo_row(BOXES[0])], [yolo_row(BOXES[1])]])
    (tmp_path / "data/images/000001.png").write_bytes(b"no image")
    refused(tmp_path / "data", "000001.png does not decode, so the size")
    (tmp_path / "data/images/000001.png").unlink()
    refused(tmp_path / "data", "000001.txt has no image of its name in .*images")
    yolo(tmp_path / "more", [[yolo_row(BOXES[0], 3)]], "one.png")
    refused(tmp_path / "more", "needs its own number in its name")


def test_where_nothing_is_found(tmp_path):
    assert find_annotations(tmp_path) == [] and find_annotations(tmp_path / "not there") == []
    write_frames(tmp_path, 2, "{}.png")
    (tmp_path / "words.txt").write_text("no labels\n")
    assert find_annotations(tmp_path) == []


def test_one_set_in_two_files(tmp_path):
    """As COCO's own instances and person_keypoints; the message stays short."""
    images, annotations = [coco_image(0)], [annotation(i, 0, BOXES[0]) for i in range(3000)]
    for name in ("instances.json", "keypoints.json"):
        coco(tmp_path, images, annotations, name=f"annotations/{name}")
    refused(tmp_path, "and 2980 more, each more than once; name one of the two")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file_to_read(tmp_path, made):
    yolo(tmp_path / "data", [[yolo_row(BOXES[0])]])
    for name in ("data/pipe.json", "data/labels/pipe.txt"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "data/folder.json").mkdir()
    assert made(tmp_path / "data")[0] == {"crops": 1}


def test_files_that_may_not_be_read(tmp_path):
    """They are named as such, and not taken for other or damaged ones."""
    path, crops = tmp_path / "a.json", tmp_path / "crops.h5"
    for file in (path, crops):
        file.write_text("{}")
        file.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    for read, argument in (
        (plan_sequences, [path]),
        (plan_sequences, [tmp_path]),
        (read_crops, crops),
    ):
        with pytest.raises(PermissionError):
            read(argument)
