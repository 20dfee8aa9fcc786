"""`dcfnet score` on results as this and other tools write them: names of files, forms of rows,
order of frames.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np.datasets import Sequence
from dcfnet_np.evaluation.protocols import BOX, FAILED, STARTED, UNKNOWN
from dcfnet_np.evaluation.result_files import find_results, is_supervised, read_result, read_vot

COUNT = 7
BOXES = np.column_stack(
    [np.linspace(9, 33.5, COUNT), 20 - np.arange(COUNT), *np.full((2, COUNT), [[12], [8.25]])]
)


def sequence(name, form="otb", first=0):
    return Sequence(name, form, (Path(),) * COUNT, BOXES + 0.5, first=first)


def rows(path, boxes=BOXES + (1, 1, 0, 0), between=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(between.join(f"{value:g}" for value in box) + "\n" for box in boxes))
    return path


# --- which file is a sequence's ---


@pytest.mark.parametrize("file", [
    "Jogging.1.txt", "Jogging-1.txt", "Jogging_1.txt", "jogging_1.txt", "JOGGING-1.TXT", "Jogging 1.txt",
    "Jogging-1_001.txt", "Jogging.1/Jogging.1_001.txt", "jogging_1/jogging_1_001.txt", "Jogging-1/Jogging-1.txt",
])  # fmt: skip
def test_spellings_of_a_name(tmp_path, file):
    rows(tmp_path / file)
    rows(tmp_path / "Jogging-2.txt", BOXES + 5)
    for beside in (
        "Jogging-1_time.txt",
        "Jogging-1_confidence.value",
        "Jogging-1_001_time.value",
        "times/x_time.txt",
    ):
        rows(tmp_path / beside, np.ones((COUNT, 1)))
    found = find_results(tmp_path, [sequence("Jogging.1"), sequence("Jogging.2"), sequence("Man")])
    assert [each.name for each, _ in found] == ["Jogging.1", "Jogging.2"]
    np.testing.assert_allclose(found[0][1].boxes, BOXES, atol=1e-4)
    np.testing.assert_allclose(found[1][1].boxes, BOXES + (4, 4, 5, 5), atol=1e-4)


def test_the_exact_name_comes_first(tmp_path):
    for shift, file in enumerate(("seq_001", "seq", "SEQ-001")):
        rows(tmp_path / f"{file}.txt", BOXES + shift)
    found = find_results(tmp_path, [sequence("seq"), sequence("seq_001")])
    np.testing.assert_allclose([result.boxes[0, 2] for _, result in found], (13, 12))


def test_a_target_of_which_otb_has_only_the_second(tmp_path):
    rows(tmp_path / "human4_2.txt")
    assert len(find_results(tmp_path, [sequence("Human4")])) == 1
    with pytest.raises(
        ValueError,
        match="no file named like a sequence, such as Human4.txt or Human4/Human4_001.txt",
    ):
        find_results(tmp_path, [sequence("Human4", "lasot")])


def test_names_that_are_not_clear(tmp_path):
    rows(tmp_path / "Jogging-1.txt"), rows(tmp_path / "jogging_1.txt")
    with pytest.raises(
        ValueError,
        match="Jogging-1.txt and .*jogging_1.txt are both named like Jogging.1; keep one",
    ):
        find_results(tmp_path, [sequence("Jogging.1")])
    (tmp_path / "jogging_1.txt").unlink()
    with pytest.raises(
        ValueError, match="Jogging-1.txt is named like both Jogging.1 and Jogging_1; rename it"
    ):
        find_results(tmp_path, [sequence("Jogging.1"), sequence("Jogging_1")])


def test_a_single_file(tmp_path):
    two = [sequence("Man"), sequence("Jogging.2")]
    ((found, _),) = find_results(rows(tmp_path / "jogging-2_001.txt"), two)
    assert found.name == "Jogging.2"
    other = rows(tmp_path / "other.txt")
    assert find_results(other, two[:1])[0][0].name == "Man"
    with pytest.raises(
        ValueError,
        match="other.txt is named like none of the 2 sequences; rename it, as Man.txt is named$",
    ):
        find_results(other, two)


# --- forms of rows ---


@pytest.mark.parametrize("between", [",", "\t", " ", ", "])
def test_a_confidence_and_polygons(tmp_path, between):
    ours = BOXES + (1, 1, 0, 0)
    confident = np.column_stack([ours, np.linspace(0.9, 0.1, COUNT)])
    x, y, w, h = ours.T
    tilted = np.column_stack([x, y + h / 3, x + w / 4, y, x + w, y + h / 2, x + w / 2, y + h])
    for boxes in (ours, confident, tilted):
        result = read_result(rows(tmp_path / "a.txt", boxes, between), sequence("a"))
        np.testing.assert_allclose(result.boxes, BOXES, atol=1e-3)
        assert result.states.tolist() == [STARTED] + [BOX] * (COUNT - 1) and not is_supervised(
            result
        )


@pytest.mark.parametrize(("columns", "message"), [
    (np.column_stack([np.arange(COUNT), BOXES]), "the first of 5 numbers counts the frames"),
    (np.column_stack([np.arange(COUNT) + 1, BOXES]), "the first of 5 numbers counts the frames"),
    (np.column_stack([np.arange(COUNT), BOXES, BOXES[:, :3]]), "the first of 8 numbers counts the frames"),
    (np.column_stack([BOXES, BOXES[:, :2]]), "expected 4 numbers a row, 5 with a confidence or 8 of a polygon, got 6"),
    (np.column_stack([BOXES, BOXES, BOXES[:, :2]]), "got 10"),
    (BOXES[:-1], f"has {COUNT - 1} rows, a has {COUNT} frames"),
    (BOXES[:, :1], "line 1: expected 0, 1, 2 or four numbers"),
])  # fmt: skip
def test_rows_that_are_no_boxes(tmp_path, columns, message):
    with pytest.raises(ValueError, match=f"a.txt.*{message}"):
        read_result(rows(tmp_path / "a.txt", columns), sequence("a"))


def test_vot_s_codes(tmp_path):
    """Boxes count from 0; a polygon, of any number of corners, is its smallest upright box."""
    path = tmp_path / "a.txt"
    path.write_text(
        "\ufeff1\n5,6,7,8\n2\n0.0000\n1\n5,5,9,5,9,11.5,5,9\n1,2,6,2,4,9\n", encoding="utf-8"
    )
    result = read_result(path, sequence("a", "vot"))
    assert result.states.tolist() == [
        STARTED,
        BOX,
        FAILED,
        UNKNOWN,
        STARTED,
        BOX,
        BOX,
    ] and is_supervised(result)
    started = BOXES[[0, 4]] + 0.5  # the truth, which the tracker was given
    expected = [
        started[0],
        (5, 6, 7, 8),
        [np.nan] * 4,
        [np.nan] * 4,
        started[1],
        (5, 5, 4, 6.5),
        (1, 2, 5, 7),
    ]
    np.testing.assert_array_equal(result.boxes, expected)
    path.write_text("1\n" + "5,6,7,8\n" * (COUNT - 1))
    assert not is_supervised(read_result(path, sequence("a", "vot")))


@pytest.mark.parametrize(
    "row",
    ["3", "-1", "nan", "1,2", "1,2,3", "1,2,3,4,5", "1,2,3,4,5,6,7", "m0,0,3,4", "1,2,3,1e10"],
)
def test_rows_that_vot_does_not_know(tmp_path, row):
    (tmp_path / "a.txt").write_text(f"1\n{row}\n")
    with pytest.raises(ValueError, match="a.txt, line 2: expected 0, 1, 2 or four numbers, got"):
        read_vot(tmp_path / "a.txt")


def test_vot_s_long_term_results(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1\r\n5,6,7,8\r\nNaN,NaN,NaN,NaN\r\n\r\n\r\n")
    boxes, states = read_vot(tmp_path / "a.txt")
    assert states.tolist() == [STARTED, BOX, UNKNOWN]
    np.testing.assert_array_equal(boxes[1:], [(5, 6, 7, 8), [np.nan] * 4])


@pytest.mark.parametrize(
    "row", ["50,3 40,7 24,2 24,9", "50,3;40,7;24,2;24,9", "50,3, 40,7, 24,2, 24,9"]
)
def test_decimal_commas_in_a_vot_result(tmp_path, row):
    (tmp_path / "a.txt").write_text(f"1\n{row}\n")
    with pytest.raises(
        ValueError, match="a.txt, line 2: more than one separator, or decimal commas"
    ):
        read_vot(tmp_path / "a.txt")


def test_frames_that_a_run_left_out(tmp_path):
    """OTB's toolkit begins Tiger1 at its sixth frame."""
    result = read_result(rows(tmp_path / "a.txt", BOXES[5:] + (1, 1, 0, 0)), sequence("a", first=5))
    assert np.isnan(result.boxes[:5]).all() and result.states.tolist() == [UNKNOWN] * 5 + [
        STARTED,
        BOX,
    ]
    np.testing.assert_allclose(result.boxes[5:], BOXES[5:], atol=1e-4)


# --- the column `frame` ---


def table(path, frames, boxes=BOXES):
    records = [
        dict(zip(("frame", *"xywh"), (f if isinstance(f, str) else int(f), *map(float, b))))
        for f, b in zip(frames, boxes)
    ]
    if path.suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        path.write_text(
            "frame,x,y,w,h\n" + "".join(",".join(map(str, r.values())) + "\n" for r in records)
        )
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_rows_are_put_in_the_order_of_their_frames(tmp_path, name):
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    for start in (0, 1):
        result = read_result(table(tmp_path / name, order + start, BOXES[order]), sequence("a"))
        np.testing.assert_array_equal(result.boxes, BOXES)

    def fails(message, frames, first=0):
        with pytest.raises(ValueError, match=message):
            read_result(table(tmp_path / name, frames), sequence("a", first=first))

    fails(
        f"{name} has two rows for frame 4; a result needs one for every frame",
        [0, 1, 2, 3, 4, 4, 5],
    )
    fails(
        f"{name} has no row for frame 2; a result needs one for every frame", [0, 1, 3, 4, 5, 6, 7]
    )
    fails(f"{name} begins at frame 2, a at frame 0", range(2, COUNT + 2))
    fails(f"{name} begins at frame 0, a at frame 5", range(2), first=5)
    fails("has 3 rows, a has 7 frames", range(3))
    fails("the column frame must hold whole numbers", [f"{k}.jpg" for k in range(COUNT)])
    late = read_result(table(tmp_path / name, [6, 5], BOXES[[6, 5]]), sequence("a", first=5))
    np.testing.assert_array_equal(late.boxes[5:], BOXES[5:])


def test_the_order_does_not_change_a_score(tmp_path, dcfnet):
    from scenes import make_sequence, write_sequence

    frames, truth = make_sequence(np.random.default_rng(1), COUNT, 96, 72, (24, 18), step=(4, 3))
    write_sequence(tmp_path / "set/a", frames, truth)
    write_sequence(tmp_path / "set/b", frames, truth)
    order = np.random.default_rng(0).permutation(COUNT)
    code, out, err = dcfnet(
        "score", table(tmp_path / "a.csv", order, truth[order]), tmp_path / "set/a"
    )
    assert code == 0 and "0.9524 (AUC)" in out and err == ""
    (tmp_path / "folder").mkdir()
    code, out, err = dcfnet(
        "score", table(tmp_path / "folder/b.json", order, truth[order]).parent, tmp_path / "set"
    )
    assert code == 0 and "0.9524 (AUC)" in out
    assert err == "dcfnet: warning: no result for 1 of 2 sequences: a\n"
    code, _, err = dcfnet(
        "score", table(tmp_path / "a.csv", [0, 1, 2, 3, 4, 5, 9], truth), tmp_path / "set/a"
    )
    assert code == 2 and "has no row for frame 6" in err


def test_a_supervised_result_has_vot_s_measures(tmp_path, dcfnet):
    """By hand: after the second start no frame is behind the burn-in of ten."""
    from scenes import make_sequence, write_sequence

    frames, truth = make_sequence(
        np.random.default_rng(1), 30, 96, 72, (24, 18), step=(1, 1), growth=1
    )
    write_sequence(tmp_path / "a", frames, truth, truth="groundtruth.txt", images="color", origin=0)
    half = truth * (1, 1, 0.5, 1)
    lines = ["1", *(",".join(map(str, box)) for box in half[1:14]), "2", *"0000", "1"]
    lines += [",".join(map(str, box)) for box in half[20:]]
    (tmp_path / "a_001.txt").write_text("\n".join(lines) + "\n")
    code, out, _ = dcfnet("score", tmp_path / "a_001.txt", tmp_path / "a", "--explain")
    assert code == 0
    head, figures, words = out.splitlines()
    assert head.split() == ["accuracy", "failures", "robustness", "EAO"]
    assert figures.split() == ["0.500", "1", "1.000", "-"] and "VOT's measures" in words
