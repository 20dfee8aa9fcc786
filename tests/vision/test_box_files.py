"""Files of boxes: what comes back, what is refused, and what a run that ends early leaves."""

import csv
import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
from processes import run_python

from dcfnet_np.vision.box_files import BoxRow, BoxWriter, read_boxes, read_numbers, write_boxes

NAN = math.nan
BOX, GONE = (4, 6, 10, 9), (NAN,) * 4
SUFFIXES = pytest.mark.parametrize("suffix", [".txt", ".csv", ".json"])
COLUMNS = ["frame", "x", "y", "w", "h", "score", "ok", "time", "state"]


def random_rows(rng, count=7):
    """Rows as a tracker makes them: NumPy numbers, a first row without a score."""
    boxes = rng.uniform(-20, 150, (count, 4))
    numbers = range(1, count)
    rows = [BoxRow(i, tuple(boxes[i]), rng.random(), bool(i % 2), rng.random()) for i in numbers]
    return [BoxRow(0, tuple(boxes[0])), *rows], boxes


# --- reading


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\r\n5\t6\t7\t8", "\ufeff1 2  3 4\n\n5 6\t7 8\n\n",
        "1, 2 ,3, 4,\n5,6,7,8", "1;2;3;4;\n5 ; 6 ; 7 ; 8", " 1,  2, 3,   4 \n5,6\t,7,8",
    ],
)  # fmt: skip
def test_one_separator_with_blanks_around_it(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.txt"), [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    "text",
    [
        "x, y, w, h\n4, 6, 10, 9\n,,,\n",
        "X;Y;W;H\r\n4;6;10;9\r\n;;;\r\n",
        " Frame\tx \tY\tw\th\n0\t4\t6\t10\t9\n\n1\tnan\tnan\tnan\tnan\n",
        '"x","y","w","h"\n"4","6","10","9"\n"","","",""\n',
        json.dumps([{"X": 4, " Y": 6, "W": 10, "h": 9}, dict.fromkeys("xywh")]),
    ],
)
def test_heads_of_tables(tmp_path, text):
    path = tmp_path / ("a.json" if text[0] == "[" else "a.csv")
    path.write_text(text, newline="")
    np.testing.assert_array_equal(read_boxes(path), [BOX, GONE])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no boxes"),
        ("a.txt", "1,2,3,4\n1,2,x,4\n", "line 2: expected numbers"),
        ("a.txt", "1,2,3,4\n1,2,3\n", "line 2: expected 4 numbers"),
        ("a.txt", "1,2,3,4\nnan\n", "line 2: a lone nan; write nan for every number"),
        ("a.txt", "1,2,3\n", "expected 4 numbers a row, got 3"),
        *(
            ("a.txt", text, "line [12]: more than one separator, or decimal commas")
            for text in (
                "50,3 40,7 24,2 24,9",
                "50,3;40,7;24,2;24,9",
                "50,3, 40,7, 24,2, 24,9",
                "50,40,24,24\n50 40 24 24",
                "50;40 24;24",
            )
        ),
        ("a.txt", "5,7".encode("utf-16-le"), "has zero bytes, as UTF-16 without a byte order"),
        ("a.txt", "café".encode("latin-1"), "is no UTF-8 text from byte 3 on; save it as UTF-8"),
        ("a.txt", b"\xff\xfe1", "is no UTF-16 text from byte 2 on"),
        ("a.txt", "1,2,3,1e10\n", "line 1: a number beyond 1e"),
        ("a.csv", "frame,x,y\n0,1,2\n", "not a .csv file with columns x, y, w, h"),
        ("a.csv", "x;y;w;h\n50,3;40,7;24,2;24,9\n", "'50,3' is no number such as 50.3"),
        ("a.csv", "x,y,w,h\n50,3,40,7,24,2,24,9\n", "line 2 has 8 columns, the first line 4"),
        ("a.csv", "x,y,w,h\n50,40,24\n", "line 2 has 3 columns, the first line 4"),
        ("a.csv", "x,y,w,h,X\n1,2,3,4,5\n", "a column is there twice"),
        ("a.csv", "50,40,24,24\n50,40,24,24\n", "with columns x, y, w, h"),
        ("a.csv", "x,y,w,h\n1,2,3,4\n1,2,3,1e10\n", "box 2 has a number beyond 1e"),
        ("a.json", "[{]", "not a .json file"),
        ("a.json", "3", "not a .json file"),
        ("a.xml", "", "must end in .txt, .csv, .json, got '.xml'"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"{name}.*{message}") as caught:
        read_boxes(tmp_path / name)
    assert "\n" not in str(caught.value)


# --- writing


@pytest.mark.parametrize(
    ("suffix", "precision"), [(".txt", 1e-4), (".csv", 1e-6), (".json", 0), (".TXT", 1e-4)]
)
def test_boxes_come_back(tmp_path, rng, suffix, precision):
    rows, boxes = random_rows(rng)
    path = tmp_path / f"boxes{suffix}"
    write_boxes(path, [*rows, BoxRow(7, GONE, NAN, False)])
    np.testing.assert_allclose(read_boxes(path), [*boxes, GONE], rtol=0, atol=precision)
    assert list(tmp_path.iterdir()) == [path]


def test_txt_is_otb(tmp_path):
    path = tmp_path / "boxes.txt"
    write_boxes(path, [BoxRow(0, (0, 1.5, 20, 30)), BoxRow(1, (-3.25, 1 / 3, 20, 30), 0.5)])
    assert path.read_bytes() == b"1.0000,2.5000,20.0000,30.0000\n-2.2500,1.3333,20.0000,30.0000\n"


def test_csv_and_json_carry_all_columns(tmp_path, rng):
    rows, _ = random_rows(rng)
    for name in ("a.csv", "a.json"):
        write_boxes(tmp_path / name, rows)
    with (tmp_path / "a.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_json = json.loads((tmp_path / "a.json").read_text())
    assert (from_csv[0]["score"], from_json[0]["score"]) == ("", None)
    for records in (from_csv, from_json):
        assert [list(record) for record in records] == [COLUMNS] * len(rows)
        for record, row in zip(records[1:], rows[1:]):
            assert (int(record["frame"]), bool(int(record["ok"]))) == (row.frame, row.ok)
            found = float(record["time"]), float(record["score"])
            assert found == pytest.approx((row.time, row.score), abs=1e-6)


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt])
@SUFFIXES
def test_writer_keeps_what_it_has(tmp_path, rng, suffix, failure):
    rows, boxes = random_rows(rng)
    path = tmp_path / f"a{suffix}"
    path.write_text("older")
    with pytest.raises(failure) if failure else nullcontext(), BoxWriter(path) as writer:
        for row in rows[:3]:
            writer.add(row)
        assert path.read_text() == "older"  # nothing half-written under the name
        if failure:
            raise failure
    np.testing.assert_allclose(read_boxes(path), boxes[:3], atol=1e-4)
    assert list(tmp_path.iterdir()) == [path]


@SUFFIXES
def test_writers_without_a_box(tmp_path, suffix):
    """An empty run has its file; one that failed before the first box leaves the older one."""
    path = tmp_path / f"a{suffix}"
    write_boxes(path, [])
    path.write_text("older")
    with pytest.raises(ValueError), BoxWriter(path) as writer:
        writer.add(BoxRow(0, ("x", 0, 0, 0)))
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


WRITE_ROWS = """
    import os, resource, signal
    from dcfnet_np.vision.box_files import BoxRow, BoxWriter
    {limit}
    with BoxWriter({path!r}) as writer:
        for i in range({count}):
            writer.add(BoxRow(i, (i, 2, 30, 40), 0.5))
        {end}
"""


@SUFFIXES
@pytest.mark.parametrize("missing", [1, 20])
def test_a_full_disk_keeps_whole_rows_and_names_the_file(tmp_path, suffix, missing):
    """A limit on the size of files fails like a full disk: first a part of a row, then an error."""
    pytest.importorskip("resource", reason="no limit on the size of files here")
    path, part = tmp_path / f"a{suffix}", tmp_path / f"a.part{suffix}"
    write_boxes(path, [BoxRow(i, (i, 2, 30, 40), 0.5) for i in range(8)])
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size - missing},) * 2)"
    path.unlink()
    done = run_python(WRITE_ROWS.format(path=str(path), count=100, end="", limit=limit))
    last = done.stderr.splitlines()[-1]
    said = f"WriteError: cannot write {path}: File too large; make room"
    assert done.returncode == 1 and said in last
    (kept,) = tmp_path.iterdir()
    all_fit = (suffix, missing) == (".json", 1)  # but not the last line
    assert kept == (part if all_fit else path)
    if all_fit:
        assert f"8 boxes kept in {part}" in last
        part.write_text(part.read_text() + "]")
    np.testing.assert_allclose(read_boxes(kept), [(i, 2, 30, 40) for i in range(7 + all_fit)])
