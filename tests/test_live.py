"""Live, long and odd videos: frames that are dropped, cut out, late or turned, and runs that end
early.
"""

import contextlib
import http.server
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from processes import PATIENCE
from scenes import PATCH, make_frames, make_sequence, write_images, write_sequence, write_video

from dcfnet_np.cli import _parse_moment
from dcfnet_np.track import Painter, Step
from dcfnet_np.vision.box_files import BoxRow, read_boxes
from dcfnet_np.vision.boxes import iou
from dcfnet_np.vision.draw import (
    GREEN,
    RED,
    TARGETS,
    VideoWriter,
    draw_label,
    draw_trail,
    response_inset,
)
from dcfnet_np.vision.frames import Frame
from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.read_ahead import ReadAhead, WriteBehind
from dcfnet_np.vision.sources import open_source

BOX = "20,10,16,12"


# --- reading ahead and writing behind ---


def test_read_ahead_gives_everything_in_order():
    with ReadAhead(range(100), size=3) as items:
        assert list(items) == list(range(100))
        assert items.dropped == 0 and list(items) == []


def test_read_ahead_is_bounded():
    read = []
    items = (read.append(number) or number for number in range(100))
    with ReadAhead(items, size=3) as ahead:
        for taken in range(5):
            assert next(ahead) == taken
            time.sleep(0.02)
            assert len(read) <= taken + 1 + 3 + 1  # taken, waiting, and one in the reader's hand
    assert len(read) < 12
    count = len(read)
    time.sleep(0.02)
    assert len(read) == count  # the thread has ended


def test_read_ahead_raises_after_the_items_before():
    def items():
        yield 1
        yield 2
        raise SourceError("frame 3 does not decode")

    with ReadAhead(items()) as ahead:
        assert [next(ahead), next(ahead)] == [1, 2]
        with pytest.raises(SourceError, match="frame 3"):
            next(ahead)


def test_newest_only():
    gates = [threading.Event() for _ in range(2)]
    read = threading.Event()

    def items():
        yield 0
        gates[0].wait(PATIENCE)
        yield from range(1, 50)
        read.set()
        gates[1].wait(PATIENCE)
        yield 99

    with ReadAhead(items(), newest=True) as ahead:
        assert next(ahead) == 0
        gates[0].set()
        assert read.wait(PATIENCE)  # the reader goes on while nobody takes anything
        assert next(ahead) == 49 and ahead.dropped == 48
        gates[1].set()
        assert list(ahead) == [99]


def test_write_behind_keeps_order_and_waits_at_the_end():
    written = []

    def write(number):
        time.sleep(0.002)
        written.append(number)

    with WriteBehind(write, size=3) as behind:
        for number in range(20):
            behind(number)
            assert number - len(written) <= 4
    assert written == list(range(20))


def test_write_behind_raises_what_went_wrong():
    def write(number):
        if number == 2:
            raise ValueError("no room for 2")

    with pytest.raises(ValueError, match="no room for 2"), WriteBehind(write) as behind:
        behind(2)
    with pytest.raises(ValueError, match="no room for 2"), WriteBehind(write, size=1) as behind:
        for number in range(10):
            behind(number)
    with pytest.raises(KeyError), WriteBehind(write) as behind:
        behind(2)
        raise KeyError  # the first error is the one that counts


# --- start, end, every ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("250", 250),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("1:30", 90.0),
        ("1:30.5", 90.5),
        ("1:02:03", 3723.0),
    ],
)
def test_moments(text, expected):
    moment = _parse_moment(text)
    assert moment == expected and type(moment) is type(expected)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", "1:", ":1", "1:2:3:4", "nan", "1e3s", "²"])
def test_moments_that_are_none(dcfnet, text):
    code, _, err = dcfnet("track", "a.mp4", f"--start={text}")
    assert (
        code == 2
        and "argument --start: must be a frame number, or a time like 90s or 1:30.5" in err
    )


PARTS = [
    ({"start": 3}, range(3, 12)),
    ({"end": 4}, range(4)),
    ({"start": 2, "end": 9, "every": 3}, [2, 5, 8]),
    ({"start": 1, "every": 4, "max_frames": 2}, [1, 5]),
    ({"start": 0.2, "end": 0.4}, None),
]


@pytest.mark.parametrize(("part", "numbers"), PARTS)
def test_parts_of_a_folder_and_of_a_video(tmp_path, rng, part, numbers):
    frames = make_frames(rng, 12)
    write_images(tmp_path / "a", frames)
    write_video(tmp_path / "a.avi", frames, "MJPG")
    (tmp_path / "a" / "groundtruth.txt").write_text("".join(f"{i},1,7,7\n" for i in range(12)))
    for path, fps in ((tmp_path / "a", 25), (tmp_path / "a.avi", 20)):
        wanted = (
            [i for i in range(12) if 0.2 <= i / fps < 0.4] if numbers is None else list(numbers)
        )
        with open_source(path, **part) as source:
            assert source.length == len(wanted)
            for _ in range(2):  # and again
                got = list(source.frames())
                assert [frame.number for frame in got] == wanted
                assert [frame.time for frame in got] == pytest.approx(
                    [i / fps for i in wanted], abs=1e-6
                )
                for frame in got:
                    assert np.abs(frame.image.astype(float) - frames[frame.number]).mean() < 12
            if source.boxes is not None:
                assert source.boxes[:, 0].tolist() == wanted


def test_parts_beyond_the_end(tmp_path, rng):
    write_images(tmp_path / "a", make_frames(rng, 3))
    write_video(tmp_path / "a.avi", make_frames(rng, 3), "MJPG")
    with pytest.raises(SourceError, match="a has 3 frames and none between the start and end"):
        open_source(tmp_path / "a", start=3)
    with pytest.raises(SourceError, match="a.avi has no frame between the start and end"):
        open_source(tmp_path / "a.avi", start=3)
    with pytest.raises(SourceError, match="a.avi has no frame between the start and end"):
        open_source(tmp_path / "a.avi", start=2, end=1)
    for bad in ({"start": -1}, {"end": float("nan")}, {"every": 0}):
        with pytest.raises(ValueError, match="open_source: "):
            open_source(tmp_path / "a", **bad)


def test_track_a_part(dcfnet, tmp_path, network_file):
    frames, boxes = make_sequence(np.random.default_rng(1), 12, 96, 72, (24, 18))
    write_sequence(tmp_path / "car", frames, boxes)
    words = [
        "track",
        tmp_path / "car",
        "--weights",
        network_file,
        "--start",
        3,
        "--every",
        2,
        "--end",
        "0.4s",
    ]
    words += ["--save-boxes", tmp_path / "a.csv", "--save-video", tmp_path / "a.avi"]
    code, out, _ = dcfnet(*words)
    assert code == 0 and "car: 4 frames" in out and "over 4 annotated frames" in out
    lines = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["3", "5", "7", "9"]
    np.testing.assert_allclose(read_boxes(tmp_path / "a.csv")[0], boxes[3], atol=1e-4)
    said = float(out.split("mean IoU ")[1].split()[0])
    assert said == pytest.approx(
        iou(read_boxes(tmp_path / "a.csv"), boxes[3:10:2]).mean(), abs=1e-3
    )
    with open_source(tmp_path / "a.avi") as video:
        assert video.length == 4 and video.fps == pytest.approx(12.5, rel=1e-3)


# --- variable frame rate and rotation ---


def change(data, path, function):
    """An .mp4 with the content of the box at `path`, like [b"moov", b"trak"], put through
    `function`.
    """
    out, position = b"", 0
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + size]
        if kind == path[0]:
            body = function(body) if len(path) == 1 else change(body, path[1:], function)
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        position += size
    return out


def at_varying_times(body):
    """`stts`, the durations of frames: 4 frames of one step, 4 of one and a half, 4 of a half."""
    version, _, count, step = struct.unpack(">IIII", body[:16])
    assert count == 12
    steps = [(4, step), (4, step * 3 // 2), (4, step // 2)]
    return struct.pack(">II", version, len(steps)) + b"".join(
        struct.pack(">II", *row) for row in steps
    )


def turned(body):
    """`tkhd` with the matrix of a telephone held upright: a quarter turn clockwise."""
    return (
        body[:40]
        + struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000)
        + body[76:]
    )


TRACK = [b"moov", b"trak"]
TIMES = np.cumsum([0, *[0.05] * 4, *[0.075] * 4, *[0.025] * 3])


def test_times_of_a_variable_rate(tmp_path, rng):
    write_video(tmp_path / "a.mp4", make_frames(rng, 12), "mp4v")
    data = change(
        (tmp_path / "a.mp4").read_bytes(),
        [*TRACK, b"mdia", b"minf", b"stbl", b"stts"],
        at_varying_times,
    )
    (tmp_path / "b.mp4").write_bytes(data)
    with open_source(tmp_path / "b.mp4") as source:
        assert [frame.time for frame in source.frames()] == pytest.approx(TIMES, abs=2e-3)
    with open_source(tmp_path / "b.mp4", start=0.3) as source:
        assert next(source.frames()).number == 6


def test_a_video_is_upright(tmp_path, rng):
    frames = make_frames(rng, 3)
    write_video(tmp_path / "a.mp4", frames, "mp4v")
    (tmp_path / "b.mp4").write_bytes(
        change((tmp_path / "a.mp4").read_bytes(), [*TRACK, b"tkhd"], turned)
    )
    with open_source(tmp_path / "b.mp4") as source:
        for image, frame in zip(source, frames):
            assert image.shape == (64, 48, 3)
            assert np.abs(image.astype(float) - np.rot90(frame, -1)).mean() < 12


def levels_of(path):
    with open_source(path) as source:
        return [round(image.mean()) for image in source]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 0.1, 0.2, 0.3], [20, 90, 160, 230]),
        ([7.0, 7.1, 7.4, 7.5], [20, 90, 90, 90, 160, 230]),  # stands still until the third is due
        ([0, 0.1, 0.12, 0.2], [20, 90, 230]),  # two within a tenth of a second
        ([0, 0.1, 1000.0, 1000.1], [20, *[90] * 101, 160, 230]),  # no longer than 10 s
        ([0, 0.1, 0.0, 0.05], [20, 90]),  # a clock that goes backwards
    ],
)
def test_a_written_video_keeps_the_pace(tmp_path, times, expected):
    with VideoWriter(tmp_path / "a.avi", 10) as writer:
        for level, at in zip([20, 90, 160, 230], times):
            writer.write(np.full((48, 64, 3), level, np.uint8), at)
    assert levels_of(tmp_path / "a.avi") == pytest.approx(expected, abs=4)


# --- a stream that does not wait ---


@contextlib.contextmanager
def stream(count, pause):
    """An MJPEG stream as network cameras send it: its address, and [the number of the newest
    frame].
    """
    sent = [-1]
    boundary = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            frames = make_frames(np.random.default_rng(0), 1)
            with contextlib.suppress(OSError):  # the reader has gone
                for number in range(count):
                    frames[0, :4] = number % 256  # its number can be read off the frame
                    image = cv2.imencode(".jpg", frames[0])[1].tobytes()
                    self.wfile.write(boundary % len(image) + image + b"\r\n")
                    sent[0] = number
                    time.sleep(pause)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/camera.mjpg?key=secret", sent
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_drops_frames_and_stays_near():
    shown = []
    with stream(120, 0.01) as (address, _), open_source(address) as source:
        assert source.live and source.length is None and "secret" not in source.name
        with ReadAhead(source.frames(), newest=True) as frames:
            for frame in frames:
                shown.append(round(frame.image[:4].mean()))
                assert abs(shown[-1] - frame.number) <= 2
                # meanwhile others come, ten on a machine that has nothing else to do
                time.sleep(0.1)
            assert frames.dropped > 0 and frames.dropped + len(shown) == 120
    assert shown == sorted(shown) and shown[-1] >= 117


def test_track_a_stream(dcfnet, tmp_path, network_file):
    with stream(40, 0.01) as (address, _):
        words = [
            "track",
            address,
            "--box",
            BOX,
            "--weights",
            network_file,
            "--save-boxes",
            tmp_path / "a.csv",
        ]
        code, out, err = dcfnet(*words, "--save-video", tmp_path / "a.mkv")
    assert (code, err) == (0, "") and "secret" not in out
    numbers = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, usecols=0)
    assert (np.diff(numbers) >= 1).all() and numbers[-1] == 39
    assert len(numbers) == 40 or f"{40 - len(numbers)} dropped to keep up" in out
    boxes = read_boxes(tmp_path / "a.csv")
    assert iou(boxes, np.array([PATCH] * len(boxes), float)).min() > 0.6
    assert open_source(tmp_path / "a.mkv").length > 3


def test_a_stream_that_is_not_there(dcfnet):
    code, _, err = dcfnet("track", "http://user:secret@127.0.0.1:9/x", "--box", BOX)
    assert code == 2 and "secret" not in err
    assert "http://127.0.0.1:9/x cannot be opened; check the address" in err


# --- several targets, and drawing ---


@pytest.fixture
def two(tmp_path):
    """A sequence with two moving targets, and their boxes (2, count, 4)."""
    one, first = make_sequence(np.random.default_rng(3), 6, 160, 120, (30, 24), step=(1.5, 1))
    other, second = make_sequence(np.random.default_rng(4), 6, 160, 120, (26, 32), step=(-1, 2))
    second[:, :2] += (80, 40)
    for index, (x, y, w, h) in enumerate(second):
        x, y, w, h = (round(value) for value in (x, y, w, h))
        texture = other[0][10:42, 12:38]
        one[index, y : y + 32, x : x + 26] = texture
    write_images(tmp_path / "two", one)
    return tmp_path / "two", np.stack([first, second])


def test_several_targets_from_a_file(dcfnet, tmp_path, two, network_file):
    folder, truth = two
    np.savetxt(tmp_path / "start.txt", truth[:, 0] + (1, 1, 0, 0), fmt="%.4f", delimiter=",")
    words = ["track", folder, "--boxes", tmp_path / "start.txt", "--weights", network_file]
    words += [
        "--save-boxes",
        tmp_path / "a.csv",
        "--save-video",
        tmp_path / "a.avi",
        "--response",
        "--trail",
        9,
    ]
    code, out, err = dcfnet(*words)
    assert (code, err) == (0, "") and out.startswith("two: 6 frames")
    assert not (tmp_path / "a.csv").exists()
    for number in (1, 2):
        boxes = read_boxes(tmp_path / f"a.{number}.csv")
        alone = [
            "track",
            folder,
            "--box",
            ",".join(f"{v:.4f}" for v in truth[number - 1, 0]),
            "--weights",
            network_file,
        ]
        assert dcfnet(*alone, "--save-boxes", tmp_path / "alone.csv")[0] == 0
        np.testing.assert_allclose(boxes, read_boxes(tmp_path / "alone.csv"), atol=1e-3)
        assert iou(boxes, truth[number - 1]).min() > 0.6


def test_a_bad_file_of_targets(dcfnet, tmp_path, rng, network_file):
    write_images(tmp_path / "walk", make_frames(rng))
    path = tmp_path / "start.csv"
    words = ["track", tmp_path / "walk", "--boxes", path, "--weights", network_file]
    assert dcfnet(*words)[::2] == (2, f"dcfnet: error: {path}: No such file or directory\n")
    path.write_text("x,y,w,h\n20,10,16,12\n70,1,5,5\n")
    code, _, err = dcfnet(*words)
    assert code == 2 and f"{path}, target 2: box must overlap the frame" in err
    path.write_text("x,y,w,h\n")
    code, _, err = dcfnet(*words)
    assert code == 2 and f"{path}: holds no boxes" in err
    path.write_text("x,y,w,h\n20,10,16,12\n")
    code, _, err = dcfnet(*words, "--save-boxes", path)
    assert code == 2 and "is the file of --boxes and would be lost" in err


def test_draw_trail(rng):
    frame = rng.integers(0, 255, (45, 61, 3), np.uint8)
    before = frame.copy()
    image = draw_trail(frame, [(5, 5), (np.nan, 1), (5, 30), (40, 30), (1e12, 30)], (0, 0, 255))
    changed = (image != frame).any(axis=2)
    assert changed[5:31, 5].all() and changed[30, 5:].all() and not changed[:, 10:][:25].any()
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(draw_trail(frame, [(3, 3)]), frame)


@pytest.mark.parametrize(
    "box", [(20, 30, 5, 5), (-5, -5, 9, 9), (1e12, -1e12, 1, 1), (np.nan,) * 4]
)
def test_draw_label(rng, box):
    frame = rng.integers(0, 255, (60, 80, 3), np.uint8)
    before = frame.copy()
    image = draw_label(frame, box, "7", TARGETS[1])
    changed = (image != frame).any(axis=2)
    assert changed.any() == (abs(box[0]) < 100)
    if box[0] == 20:
        assert changed[:30].any() and not changed[31:].any()  # above the box
    np.testing.assert_array_equal(frame, before)


def test_a_text_s_rim_lies_along_it():
    """Every black pixel is next to a green one: a rim of another width would smudge the words."""
    ground = np.full((60, 400, 3), 255, np.uint8)
    image = draw_label(ground, (20, 40, 10, 10), "a long label, 12345", GREEN).astype(int)
    black, green = image.max(2) < 100, (image[..., 1] > 100) & (image[..., 0] < 100)
    assert black.sum() > 100 and green.sum() > 100
    near = cv2.dilate(green.astype(np.uint8), np.ones((5, 5)))
    assert (near[black] > 0).mean() > 0.98


def test_painter(rng):
    """A lost target is red; several have numbers; the path has as many centres as were asked for."""
    image = rng.integers(0, 120, (60, 80, 3), np.uint8)
    before = image.copy()

    def paint(painter, number, *oks):
        rows = [
            BoxRow(
                number,
                (5 + 30 * i + 4 * number, 30, 10, 12),
                0.5,
                ok,
                state="tracking" if ok else "lost",
            )
            for i, ok in enumerate(oks)
        ]
        return painter(Step(Frame(number, 0.0, image), rows, [None] * len(oks)))

    def has(picture, colour):
        return (picture == np.array(colour, np.uint8)).all(axis=2)

    alone = paint(Painter(), 0, True)
    assert has(alone, TARGETS[0])[30, 5:15].all() and not has(alone, TARGETS[0])[:30].any()
    assert has(paint(Painter(), 0, False), RED)[30, 5:15].all()
    two = paint(Painter(), 0, True, False)
    assert has(two, TARGETS[0])[30, 5:15].all() and has(two, RED)[30, 35:45].all()
    assert (two != image).any(axis=2)[:28].any()  # the numbers
    painter = Painter(trail=3)
    for number in range(6):
        picture = paint(painter, number, True)
    path = (picture != image).any(axis=2)[36]
    assert path[22:31].all() and not path[:21].any()  # centres 22, 26, 30
    np.testing.assert_array_equal(image, before)


def test_insets_below_each_other(rng):
    frame = rng.integers(0, 255, (60, 80, 3), np.uint8)
    changed = (response_inset(frame, rng.random((9, 9)), place=1) != frame).any(axis=2)
    assert changed[18:36, -18:].mean() > 0.99 and not changed[:18].any() and not changed[36:].any()
    # does not fit
    np.testing.assert_array_equal(response_inset(frame, rng.random((9, 9)), place=3), frame)


# --- runs that end early ---


def endless(tmp_path, *words, **options):
    """`dcfnet track` on a stream without end, in a process of its own, once it has written 30 rows."""
    words = [
        sys.executable,
        "-m",
        "dcfnet_np",
        "track",
        *map(str, words),
        "--save-boxes",
        str(tmp_path / "a.csv"),
    ]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    part, until = tmp_path / "a.part.csv", time.monotonic() + PATIENCE
    while not part.exists() or part.read_text().count("\n") < 31:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ctrl_c_leaves_whole_files(tmp_path, network_file, suffix):
    video = tmp_path / f"a{suffix}"
    with stream(10**6, 0.01) as (address, _):
        process = endless(
            tmp_path, address, "--box", BOX, "--weights", network_file, "--save-video", video
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err  # how one ends what has no end
    count = len(read_boxes(tmp_path / "a.csv"))
    assert count >= 30 and out.startswith("http://127.0.0.1")
    # it may come between two lines of code
    assert abs(int(out.split("mjpg: ")[1].split()[0]) - count) <= 1
    # frames that fall together in time are left out, on a slow machine most
    assert len(levels_of(video)) >= 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", video.name]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_killed_run_leaves_what_can_be_read(tmp_path, rng, network_file, suffix):
    noise = rng.integers(0, 256, (8, 120, 160, 3), np.uint8)
    write_video(tmp_path / "in.avi", np.tile(noise, (40, 1, 1, 1)), "MJPG")
    words = [
        tmp_path / "in.avi",
        "--box",
        BOX,
        "--weights",
        network_file,
        "--save-video",
        tmp_path / f"a{suffix}",
    ]
    process = endless(tmp_path, *words)
    part = tmp_path / f"a.part{suffix}"
    while part.stat().st_size < 250_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=PATIENCE)
    count = len(read_boxes(tmp_path / "a.part.csv"))
    with open_source(part) as source:
        frames = sum(1 for _ in source)
    assert 10 < frames <= count + 1
    assert not (tmp_path / "a.csv").exists() and not (tmp_path / f"a{suffix}").exists()


def test_a_video_with_a_hole(dcfnet, tmp_path, rng, network_file):
    """Bytes lost in the middle: the run ends well with fewer frames, or says at which frame; the
    boxes are kept.
    """
    write_video(tmp_path / "in.avi", make_frames(rng, 60), "MJPG")
    data = bytearray((tmp_path / "in.avi").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "in.avi").write_bytes(data)
    words = ["track", tmp_path / "in.avi", "--box", BOX, "--weights", network_file]
    code, out, err = dcfnet(
        *words, "--save-boxes", tmp_path / "a.csv", "--save-video", tmp_path / "a.avi"
    )
    count = len(read_boxes(tmp_path / "a.csv"))
    assert count >= 15 and len(levels_of(tmp_path / "a.avi")) >= count
    assert (code == 0 and err == "") or (code == 1 and f"the {count} boxes before it are in" in err)


def test_a_full_disk_behind_the_writer(tmp_path, rng, network_file):
    resource = pytest.importorskip("resource", reason="no limit on the size of files here")
    write_images(tmp_path / "walk", rng.integers(0, 256, (40, 48, 64, 3), np.uint8))
    words = ["track", tmp_path / "walk", "--box", BOX, "--weights", network_file, "--response"]
    words += ["--save-boxes", tmp_path / "a.csv", "--save-video", tmp_path / "a.mp4"]
    done = subprocess.run(
        [sys.executable, "-m", "dcfnet_np", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"cannot write {tmp_path / 'a.mp4'}: only " in done.stderr
    assert len(read_boxes(tmp_path / "a.csv")) == 40
