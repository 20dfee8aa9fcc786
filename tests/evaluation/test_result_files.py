"""`dcfnet score` on results as this and other tools write them: names, forms of rows, order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scenes import make_sequence, write_sequence

from dcfnet_np.datasets import Sequence
from dcfnet_np.evaluation import results
from dcfnet_np.evaluation.result_files import find_results, is_supervised, read_result, read_vot
from dcfnet_np.evaluation.vot import BOX, FAILED, STARTED, UNKNOWN

COUNT = 7
BOXES = np.column_stack(
    [np.linspace(9, 33.5, COUNT), 20 - np.arange(COUNT), *np.full((2, COUNT), [[12], [8.25]])]
)
OURS = BOXES + np.array([1, 1, 0, 0])  # counted from 1


def sequence(name, form="otb", first=0):
    return Sequence(name, form, (Path(),) * COUNT, BOXES + 0.5, first=first)


def rows(path, boxes=OURS, between=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(between.join(f"{value:g}" for value in box) + "\n" for box in boxes))
    return path


# --- which file is a sequence's


@pytest.mark.parametrize("file", [
    "Jogging.1.txt", "Jogging_1.txt", "JOGGING-1.TXT", "Jogging 1.txt", "Jogging-1_001.txt",
    "Jogging.1/Jogging.1_001.txt", "jogging_1/jogging_1_001.txt", "Jogging-1/Jogging-1.txt",
])  # fmt: skip
def test_spellings_of_a_name(tmp_path, file):
    rows(tmp_path / file)
    rows(tmp_path / "Jogging-2.txt", BOXES + 5)
    for beside in ("Jogging-1_time.txt", "Jogging-1_001_time.value", "times/x_time.txt"):
        rows(tmp_path / beside, np.ones((COUNT, 1)))
    found = find_results(tmp_path, [sequence("Jogging.1"), sequence("Jogging.2"), sequence("Man")])
    assert [each.name for each, *_ in found] == ["Jogging.1", "Jogging.2"]
    np.testing.assert_allclose(found[0].found.boxes, BOXES, atol=1e-4)
    np.testing.assert_allclose(found[1].found.boxes, OURS + np.array([3, 3, 5, 5]), atol=1e-4)


def test_the_surest_name_comes_first(tmp_path):
    for shift, file in enumerate(("seq_001", "seq", "SEQ-001")):
        rows(tmp_path / f"{file}.txt", BOXES + shift)
    found = find_results(tmp_path, [sequence("seq"), sequence("seq_001")])
    np.testing.assert_allclose([run.found.boxes[0, 2] for run in found], (13, 12))
    # of this one OTB has the second target alone
    rows(tmp_path / "human4_2.txt")
    assert len(find_results(tmp_path, [sequence("Human4")])) == 1
    text = "no file named like a sequence, such as Human4.txt or Human4/Human4_001.txt"
    with pytest.raises(ValueError, match=text):
        find_results(tmp_path, [sequence("Human4", "lasot")])


def test_names_that_are_not_clear(tmp_path):
    rows(tmp_path / "Jogging-1.txt")
    rows(tmp_path / "jogging_1.txt")
    text = r"Jogging-1\.txt and .*jogging_1\.txt are both named like Jogging\.1; keep one"
    with pytest.raises(ValueError, match=text):
        find_results(tmp_path, [sequence("Jogging.1")])
    (tmp_path / "jogging_1.txt").unlink()
    with pytest.raises(ValueError, match=r"named like both Jogging\.1 and Jogging_1; rename it"):
        find_results(tmp_path, [sequence("Jogging.1"), sequence("Jogging_1")])


def test_a_single_file(tmp_path):
    two = [sequence("Man"), sequence("Jogging.2")]
    ((found, *_),) = find_results(rows(tmp_path / "jogging-2_001.txt"), two)
    assert found.name == "Jogging.2"
    other = rows(tmp_path / "other.txt")
    assert find_results(other, two[:1])[0].sequence.name == "Man"
    text = "named like none of the 2 sequences; rename it, as Man.txt is named"
    with pytest.raises(ValueError, match=text):
        find_results(other, two)


# --- forms of rows


@pytest.mark.parametrize("between", [",", "\t", " "])
def test_a_confidence_and_polygons(tmp_path, between):
    confident = np.column_stack([OURS, np.linspace(0.9, 0.1, COUNT)])
    x, y, w, h = OURS.T
    tilted = np.column_stack([x, y + h / 3, x + w / 4, y, x + w, y + h / 2, x + w / 2, y + h])
    for boxes in (OURS, confident, tilted):
        result = read_result(rows(tmp_path / "a.txt", boxes, between), sequence("a"))
        np.testing.assert_allclose(result.boxes, BOXES, atol=1e-3)
        assert result.states.tolist() == [STARTED] + [BOX] * (COUNT - 1)
        assert not is_supervised(result)


NUMBERS = np.arange(COUNT)


@pytest.mark.parametrize(("columns", "message"), [
    ([NUMBERS, BOXES], "the first of 5 numbers counts the frames"),
    ([NUMBERS + 1, BOXES, BOXES[:, :3]], "the first of 8 numbers counts the frames"),
    ([BOXES, BOXES[:, :2]], "expected 4 numbers a row, 5 with a confidence or 8 of a polygon"),
    ([BOXES, BOXES, BOXES[:, :2]], "got 10"),
    ([BOXES[:-1]], f"has {COUNT - 1} rows, a has {COUNT} frames"),
    ([BOXES[:, :1]], "line 1: expected 0, 1, 2 or four numbers"),
])  # fmt: skip
def test_rows_that_are_no_boxes(tmp_path, columns, message):
    with pytest.raises(ValueError, match=rf"a\.txt.*{message}"):
        read_result(rows(tmp_path / "a.txt", np.column_stack(columns)), sequence("a"))


def test_vot_s_codes(tmp_path):
    """Boxes count from 0; a polygon, of any number of corners, is its smallest upright box."""
    path = tmp_path / "a.txt"
    lines = "\ufeff1\n5,6,7,8\n2\n0.0000\n1\n5,5,9,5,9,11.5,5,9\n1,2,6,2,4,9\n"
    path.write_text(lines, encoding="utf-8")
    result = read_result(path, sequence("a", "vot"))
    states = [STARTED, BOX, FAILED, UNKNOWN, STARTED, BOX, BOX]
    assert result.states.tolist() == states and is_supervised(result)
    started = BOXES[[0, 4]] + 0.5  # the truth, which the tracker was given
    none = [np.nan] * 4
    last = (5, 5, 4, 6.5), (1, 2, 5, 7)
    expected = [started[0], (5, 6, 7, 8), none, none, started[1], *last]
    np.testing.assert_array_equal(result.boxes, expected)
    path.write_text("1\n" + "5,6,7,8\n" * (COUNT - 1))
    assert not is_supervised(read_result(path, sequence("a", "vot")))
    # a long-term result
    path.write_bytes(b"1\r\n5,6,7,8\r\nNaN,NaN,NaN,NaN\r\n\r\n\r\n")
    boxes, found = read_vot(path)
    assert found.tolist() == [STARTED, BOX, UNKNOWN]
    np.testing.assert_array_equal(boxes[1:], [(5, 6, 7, 8), none])


@pytest.mark.parametrize("row", [
    "3", "-1", "nan", "1,2", "1,2,3", "1,2,3,4,5", "1,2,3,4,5,6,7", "m0,0,3,4", "1,2,3,1e10",
    "50,3 40,7 24,2 24,9", "50,3, 40,7, 24,2, 24,9",
])  # fmt: skip
def test_rows_that_vot_does_not_know(tmp_path, row):
    (tmp_path / "a.txt").write_text(f"1\n{row}\n")
    text = "more than one separator, or decimal commas" if "50" in row else "expected 0, 1, 2 or"
    with pytest.raises(ValueError, match=rf"a\.txt, line 2: {text}"):
        read_vot(tmp_path / "a.txt")


def test_frames_that_a_run_left_out(tmp_path):
    """OTB's toolkit begins Tiger1 at its sixth frame."""
    result = read_result(rows(tmp_path / "a.txt", OURS[5:]), sequence("a", first=5))
    assert result.states.tolist() == [UNKNOWN] * 5 + [STARTED, BOX]
    assert np.isnan(result.boxes[:5]).all()
    np.testing.assert_allclose(result.boxes[5:], BOXES[5:], atol=1e-4)


# --- the column `frame`


def table(path, frames, boxes=BOXES):
    frames = [frame if isinstance(frame, str) else int(frame) for frame in frames]
    records = [[frame, *map(float, box)] for frame, box in zip(frames, boxes)]
    if path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(("frame", *"xywh"), row)) for row in records]))
    else:
        lines = [",".join(map(str, row)) + "\n" for row in records]
        path.write_text("frame,x,y,w,h\n" + "".join(lines))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_rows_are_put_in_the_order_of_their_frames(tmp_path, name):
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    for start in (0, 1):
        result = read_result(table(tmp_path / name, order + start, BOXES[order]), sequence("a"))
        np.testing.assert_array_equal(result.boxes, BOXES)
    late = read_result(table(tmp_path / name, [6, 5], BOXES[[6, 5]]), sequence("a", first=5))
    np.testing.assert_array_equal(late.boxes[5:], BOXES[5:])
    for frames, first, message in [
        ([0, 1, 2, 3, 4, 4, 5], 0, "two rows for frame 4; a result needs one for every frame"),
        ([0, 1, 3, 4, 5, 6, 7], 0, "no row for frame 2; a result needs one for every frame"),
        (range(2, COUNT + 2), 0, f"{name} begins at frame 2, a at frame 0"),
        (range(2), 5, f"{name} begins at frame 0, a at frame 5"),
        (range(3), 0, "has 3 rows, a has 7 frames"),
        ([f"{k}.jpg" for k in range(COUNT)], 0, "the column frame must hold whole numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_result(table(tmp_path / name, frames), sequence("a", first=first))


# --- the command


def test_the_order_does_not_change_a_score(tmp_path, dcfnet):
    frames, truth = make_sequence(np.random.default_rng(1), COUNT, 96, 72, (24, 18), step=(4, 3))
    for name in "ab":
        write_sequence(tmp_path / "set" / name, frames, truth)
    order = np.random.default_rng(0).permutation(COUNT)
    (tmp_path / "folder").mkdir()
    table(tmp_path / "folder/b.json", order, truth[order])
    code, out, err = dcfnet("score", tmp_path / "folder", tmp_path / "set")
    missing = "folder has no boxes of a"
    assert (code, out) == (2, "")
    assert err == f"dcfnet: error: {missing}; add them, or give --partial to score what is there\n"
    code, out, err = dcfnet("score", tmp_path / "folder", tmp_path / "set", "--partial")
    assert code == 0 and out.splitlines()[1].split()[:2] == ["folder", "0.952"]
    assert err == f"dcfnet: warning: {missing}\n"
    words = ["score", tmp_path / "folder", tmp_path / "set", "--sequences"]
    assert dcfnet(*words, "b")[::2] == (0, "")
    assert "has no sequence c" in dcfnet(*words, "b,c")[2]


def test_a_supervised_result_has_vot_s_measures(tmp_path, dcfnet):
    """By hand: after the second start no frame is behind the burn-in of ten."""
    options = {"step": (1, 1), "growth": 1}
    frames, truth = make_sequence(np.random.default_rng(1), 30, 96, 72, (24, 18), **options)
    write_sequence(tmp_path / "a", frames, truth, truth="groundtruth.txt", images="color", origin=0)
    half = [",".join(map(str, box)) for box in truth * np.array([1, 1, 0.5, 1])]
    lines = ["1", *half[1:14], "2", *"0000", "1", *half[20:]]
    (tmp_path / "a_001.txt").write_text("\n".join(lines) + "\n")
    code, out, _ = dcfnet("score", tmp_path / "a_001.txt", tmp_path / "a", "--explain")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["tracker", "accuracy", "failures", "robustness", "EAO"]
    assert rows[1] == ["a_001", "0.500", "1", "1.000", "-"] and rows[4] == ["a", "1"]
    assert "so VOT's measures apply and the rules do not" in out.splitlines()[-1]


# --- other trackers' boxes


def write_mat(path, boxes, kind="rect"):
    """As OTB's toolkit does: a cell of structures, of which the first is OPE's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = np.empty((1, 2), object)
    runs[0] = [{"type": kind, "res": boxes, "fps": 20.0, "len": len(boxes)}, {"res": boxes + 50}]
    scipy.io.savemat(path, {"results": runs})


@pytest.fixture
def published(tmp_path):
    """Two sequences; ours in text, one tracker's files of MATLAB and one's of text beside."""
    frames, truth = make_sequence(np.random.default_rng(1), COUNT, 96, 72, (24, 18), step=(4, 3))
    for name in ("Man", "Jogging"):
        write_sequence(tmp_path / "set" / name, frames, truth)
        rows(tmp_path / f"ours/{name}.txt", truth + np.array([1, 1, 0, 0]))
        shifted = truth + np.array([1 + 12, 1, 0, 0])
        write_mat(tmp_path / f"others/KCF/{name.lower()}_KCF.mat", shifted)
        rows(tmp_path / f"others/still/{name}.txt", np.repeat(truth[:1], COUNT, 0) + 1)
    return tmp_path


def test_others_are_scored_by_the_same_rules(published, dcfnet):
    words = ["score", published / "ours", published / "set", "--against", published / "others"]
    code, out, err = dcfnet(*words, "--out", published / "out")
    assert (code, err) == (0, "")
    found = results.load_results(published / "out")["trackers"]
    assert list(found) == ["ours", "KCF", "still"]
    assert found["ours"]["scores"]["success"] == pytest.approx(20 / 21, abs=1e-4)
    # counted from 1: exactly 12 pixels beside the truth in all frames but the first
    assert found["KCF"]["scores"]["cle"] == pytest.approx(12 * (COUNT - 1) / COUNT, abs=1e-3)
    assert out.splitlines()[1].startswith("ours ") and "less ours" in out.splitlines()[0]
    page = (published / "out/report.html").read_text(encoding="utf-8")
    assert "OPE on set" in page and "run by" not in page
    # the report again, from boxes alone
    before = (published / "out/results.json").read_bytes()
    assert dcfnet(*words, "--out", published / "out")[0] == 0
    assert (published / "out/results.json").read_bytes() == before


def test_others_that_do_not_fit(published, dcfnet):
    words = ["score", published / "ours", published / "set", "--against", published / "others"]
    (published / "others/KCF/man_KCF.mat").unlink()
    (published / "ours/Jogging.txt").unlink()
    lost = "ours has no boxes of Jogging; KCF has no boxes of Man; add them, or give --partial"
    code, out, err = dcfnet(*words, "--out", published / "out")
    assert (code, out) == (2, "") and lost in err and not (published / "out").exists()
    code, out, err = dcfnet(*words, "--partial", "--out", published / "out")
    assert code == 0 and "warning: ours has no boxes of Jogging" in err
    row = next(line.split() for line in out.splitlines() if line.startswith("Man "))
    assert sorted(row[1:])[0] == "-"
    # no sequence that both have
    assert results.load_results(published / "out")["trackers"]["KCF"]["to_first"]["mean"] is None
    rows(published / "others/other/Skating.txt")
    assert "other has no file named like a sequence" in dcfnet(*words)[2]
    shutil.rmtree(published / "others/other")
    (published / "ours").rename(published / "KCF")
    words[1] = published / "KCF"
    assert "two trackers are called KCF; rename a folder" in dcfnet(*words)[2]


@pytest.mark.parametrize(("kind", "shape"), [("ivtAff", (COUNT, 6)), ("rect", (COUNT, 6))])
def test_files_of_matlab_that_are_no_boxes(tmp_path, kind, shape):
    write_mat(tmp_path / "a.mat", np.ones(shape), kind)
    with pytest.raises(ValueError, match=r"a\.mat: expected results\{1\}\.res of x,y,w,h rows"):
        read_result(tmp_path / "a.mat", sequence("a"))
    (tmp_path / "a.mat").write_bytes(b"no file of MATLAB")
    with pytest.raises(ValueError, match=r"a\.mat: not a \.mat file of MATLAB 5"):
        read_result(tmp_path / "a.mat", sequence("a"))
