"""Boxes: checks, conversions, overlap, files."""

import csv
import json
import math
import signal

import numpy as np
import pytest
from processes import run_python

from dcfnet_np.vision.box_files import BoxRow, BoxWriter, read_boxes, read_numbers, write_boxes
from dcfnet_np.vision.boxes import check_box, from_otb, iou, polygon_to_box, to_otb

FRAME = (100, 160, 3)  # height, width
NAN = math.nan


def random_rows(rng, count=7):
    """Rows as a tracker makes them: NumPy numbers, a first row without a score."""
    boxes = rng.uniform(-20, 150, (count, 4))
    rows = [
        BoxRow(i, tuple(box), rng.random(), bool(i % 2), rng.random())
        for i, box in enumerate(boxes)
    ]
    rows[0] = BoxRow(0, tuple(boxes[0]))
    return rows, boxes


@pytest.mark.parametrize(
    "box",
    [
        (10, 20, 30, 40),
        (159, 99, 1, 1),
        (20.25, 30.5, 1, 1.25),
        (-29, 20, 30, 40),
        (-5, -5, 30, 40),
        (150, 90, 30, 40),
        (0, 0, 160, 100),
        np.array([1, 2, 3, 4], np.float32),
    ],
)
def test_check_box_takes(box):
    checked = check_box(box, FRAME, "init")
    assert checked == tuple(float(v) for v in box)
    assert all(type(v) is float for v in checked)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((NAN, 1, 2, 3), "finite"),
        ((1, 1, NAN, 3), "finite"),
        ((1, math.inf, 2, 3), "finite"),
        ((1, 1, 0, 3), "at least 1 pixel wide and high"),
        ((1, 1, 3, 0), "at least 1 pixel wide and high"),
        ((1, 1, -2, 3), "at least 1 pixel wide and high"),
        ((1, 1, 0.99, 3), "at least 1 pixel wide and high"),
        ((1, 1, 3, 0.99), "at least 1 pixel wide and high"),
        ((160, 10, 5, 5), "overlap the frame"),
        ((10, 100, 5, 5), "overlap the frame"),
        ((-5, 10, 5, 5), "overlap the frame"),
        ((10, -5, 5, 5), "overlap the frame"),
        ((0, 0, 161, 50), "no larger than the frame .160x100"),
        ((0, 0, 50, 101), "no larger than the frame .160x100"),
        ((1, 2, 3), "four numbers"),
        ((1, 2, 3, 4, 5), "four numbers"),
        ("abcd", "four numbers"),
        (None, "four numbers"),
    ],
)
def test_check_box_refuses_in_one_line(box, message):
    with pytest.raises(ValueError, match=f"^Tracker.init: box must.*{message}") as caught:
        check_box(box, FRAME, "Tracker.init")
    assert "\n" not in str(caught.value)


def test_otb_shifts_the_corner_alone(rng):
    boxes = rng.normal(size=(5, 4))
    np.testing.assert_allclose(from_otb(boxes) - boxes, np.tile([-1, -1, 0, 0], (5, 1)), atol=1e-15)
    np.testing.assert_allclose(to_otb(from_otb(boxes)), boxes, atol=1e-15)


def test_polygon_to_box():
    rotated = [5, 1, 9, 4, 6, 8, 2, 5]
    np.testing.assert_array_equal(polygon_to_box(rotated), [2, 1, 7, 7])
    np.testing.assert_array_equal(polygon_to_box([rotated, [NAN] * 8]), [[2, 1, 7, 7], [NAN] * 4])
    np.testing.assert_array_equal(polygon_to_box([[3, 9, 1, 4, 8, 5]]), [[1, 4, 7, 5]])
    for numbers in (4, 5, 7, 9):
        with pytest.raises(ValueError, match="6, 8, ... numbers"):
            polygon_to_box(list(range(numbers)))


def test_iou_by_hand():
    a = (0, 0, 4, 4)
    others = [
        (0, 0, 4, 4),
        (2, 0, 4, 4),
        (4, 0, 4, 4),
        (9, 9, 1, 1),
        (1, 1, 2, 2),
        (1, 1, 0, 0),
        (NAN,) * 4,
    ]
    np.testing.assert_allclose(iou(a, others), [1, 8 / 24, 0, 0, 4 / 16, 0, NAN])
    assert iou((1, 1, 0, 0), (1, 1, 0, 0)) == 0


def test_iou_against_counted_pixels(rng):
    for _ in range(50):
        a, b = (np.concatenate([rng.integers(0, 12, 2), rng.integers(1, 12, 2)]) for _ in range(2))
        masks = np.zeros((2, 30, 30), bool)
        for mask, (x, y, w, h) in zip(masks, (a, b)):
            mask[y : y + h, x : x + w] = True
        assert iou(a, b) == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1\t2\t3\t4\r\n5\t6\t7\t8",
        "\ufeff1 2  3 4\n\n5 6\t7 8\n\n",
        "1, 2 ,3, 4,\n5,6,7,8",
    ],
)
def test_read_numbers_takes_commas_tabs_and_spaces(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_numbers(path), [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no boxes"),
        ("1,2,3,4\n1,2,x,4\n", "line 2: expected numbers"),
        ("1,2,3,4\n1,2,3\n", "line 2: expected 4 numbers"),
        ("1,2,3,4\nnan\n", "line 2: a lone nan; write nan for every number"),
    ],
)
def test_read_numbers_names_the_line(tmp_path, text, message):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"a.txt.*{message}"):
        read_numbers(path)


@pytest.mark.parametrize(
    ("suffix", "precision"), [(".txt", 1e-4), (".csv", 1e-6), (".json", 0), (".TXT", 1e-4)]
)
def test_boxes_come_back(tmp_path, rng, suffix, precision):
    rows, boxes = random_rows(rng)
    path = tmp_path / f"boxes{suffix}"
    write_boxes(path, rows)
    np.testing.assert_allclose(read_boxes(path), boxes, rtol=0, atol=precision)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_txt_is_otb(tmp_path):
    path = tmp_path / "boxes.txt"
    write_boxes(path, [BoxRow(0, (0, 1.5, 20, 30)), BoxRow(1, (-3.25, 1 / 3, 20, 30), 0.5)])
    assert path.read_bytes() == b"1.0000,2.5000,20.0000,30.0000\n-2.2500,1.3333,20.0000,30.0000\n"


def test_csv_and_json_carry_all_columns(tmp_path, rng):
    rows, _ = random_rows(rng)
    write_boxes(tmp_path / "a.csv", rows)
    write_boxes(tmp_path / "a.json", rows)
    with open(tmp_path / "a.csv", newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_json = json.loads((tmp_path / "a.json").read_text())
    for records in (from_csv, from_json):
        assert [list(record) for record in records] == [
            ["frame", "x", "y", "w", "h", "score", "ok", "time", "state"]
        ] * len(rows)
        assert [int(record["frame"]) for record in records] == list(range(len(rows)))
        assert [bool(int(record["ok"])) for record in records] == [row.ok for row in rows]
        assert [float(record["time"]) for record in records] == pytest.approx(
            [row.time for row in rows], abs=1e-6
        )
        scores = [float(record["score"]) for record in records[1:]]
        assert scores == pytest.approx([row.score for row in rows[1:]], abs=1e-6)
    assert from_csv[0]["score"] == ""
    assert from_json[0]["score"] is None


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_nan_boxes_come_back(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_boxes(path, [BoxRow(0, (1, 2, 3, 4)), BoxRow(1, (NAN,) * 4, NAN, False)])
    np.testing.assert_array_equal(read_boxes(path), [[1, 2, 3, 4], [NAN] * 4])


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_an_empty_run_can_be_written(tmp_path, suffix):
    write_boxes(tmp_path / f"a{suffix}", [])
    assert (tmp_path / f"a{suffix}").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "frame,x,y\n0,1,2\n", "not a .csv file with columns x, y, w, h"),
        ("a.csv", "frame,x,y,w,h\n0,1,2,3,four\n", "not a .csv file"),
        ("a.json", "[{]", "not a .json file"),
        ("a.json", "3", "not a .json file"),
        ("a.txt", "1,2,3\n", "expected 4 numbers a row, got 3"),
        ("a.xml", "", "must end in .txt, .csv, .json, got '.xml'"),
    ],
)
def test_read_boxes_refuses_in_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_boxes(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_writer_keeps_what_it_has(tmp_path, rng, suffix, failure):
    rows, boxes = random_rows(rng)
    path = tmp_path / f"a{suffix}"
    path.write_text("older")

    def run():
        with BoxWriter(path) as writer:
            for row in rows[:3]:
                writer.add(row)
            assert path.read_text() == "older"  # nothing half-written under the name
            if failure:
                raise failure

    if failure:
        with pytest.raises(failure):
            run()
    else:
        run()
    np.testing.assert_allclose(read_boxes(path), boxes[:3], atol=1e-4)
    assert list(tmp_path.iterdir()) == [path]


def test_writer_that_failed_before_the_first_box_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("older")
    with pytest.raises(RuntimeError), BoxWriter(path):
        raise RuntimeError
    assert path.read_text() == "older"


def test_writer_refuses_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        BoxWriter(tmp_path / "a.xls")
    with pytest.raises(ValueError, match="there is no folder"):
        BoxWriter(tmp_path / "missing" / "a.txt")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        BoxWriter(tmp_path / "b.txt")


def test_a_failing_write_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(ValueError):
        write_boxes(path, [BoxRow(0, ("x", 0, 0, 0))])
    path.mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        write_boxes(path, [BoxRow(0, (1, 2, 3, 4))])
    assert list(tmp_path.iterdir()) == [path]


WRITE_ROWS = """
    import os, resource, signal
    from dcfnet_np.vision.box_files import BoxRow, BoxWriter
    {limit}
    with BoxWriter({path!r}) as writer:
        for i in range({count}):
            writer.add(BoxRow(i, (i, 2, 30, 40), 0.5))
        {end}
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
def test_a_killed_run_leaves_its_rows(tmp_path, suffix):
    path, part = tmp_path / f"a{suffix}", tmp_path / f"a.part{suffix}"
    end = "os.kill(os.getpid(), signal.SIGKILL)"
    done = run_python(WRITE_ROWS.format(path=str(path), count=3, end=end, limit=""))
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("[!.]*")) == [part]
    if suffix == ".json":
        part.write_text(part.read_text() + "]")
    np.testing.assert_allclose(read_boxes(part), [(i, 2, 30, 40) for i in range(3)])
    write_boxes(path, [BoxRow(0, (1, 2, 3, 4))])  # the next run is not disturbed
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
@pytest.mark.parametrize("missing", [1, 20])
def test_a_full_disk_keeps_whole_rows_and_names_the_file(tmp_path, suffix, missing):
    """A limit on the size of files fails like a full disk: first with a part of a row, then with an
    error.
    """
    pytest.importorskip("resource", reason="no limit on the size of files here")
    path, part = tmp_path / f"a{suffix}", tmp_path / f"a.part{suffix}"
    write_boxes(path, [BoxRow(i, (i, 2, 30, 40), 0.5) for i in range(8)])
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size - missing},) * 2)"
    path.unlink()
    done = run_python(WRITE_ROWS.format(path=str(path), count=100, end="", limit=limit))
    last = done.stderr.splitlines()[-1]
    assert (
        done.returncode == 1
        and f"WriteError: cannot write {path}: File too large; make room" in last
    )
    (kept,) = tmp_path.iterdir()
    count = 7
    assert kept == (part if (suffix, missing) == (".json", 1) else path)
    if kept == part:  # all rows fit, but not the last line
        count = 8
        assert f"the 8 boxes are in {part}" in last
        part.write_text(part.read_text() + "]")
    np.testing.assert_allclose(read_boxes(kept), [(i, 2, 30, 40) for i in range(count)])
