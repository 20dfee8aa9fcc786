"""Live, long and odd videos: frames that are dropped, cut out, late or turned, and runs that end
early.
"""

import contextlib
import http.server
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

from dcfnet_np.commands.track import parse_moment
from dcfnet_np.vision.box_files import read_boxes
from dcfnet_np.vision.boxes import iou
from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.read_ahead import ReadAhead, WriteBehind
from dcfnet_np.vision.sources import open_source

BOX = "20,10,16,12"


@pytest.fixture
def track(dcfnet, network_file):
    """track(source, *options): exit code, stdout, stderr; `options` in one string or several."""

    def run(source, *options):
        words = [word for option in options for word in str(option).split()]
        return dcfnet("track", source, "--weights", network_file, *words)

    return run


# --- reading ahead and writing behind ---


def test_read_ahead_is_bounded_and_in_order():
    read = []
    items = (read.append(number) or number for number in range(100))
    with ReadAhead(items, size=3) as ahead:
        for taken in range(5):
            assert next(ahead) == taken
            time.sleep(0.02)
            assert len(read) <= taken + 1 + 3 + 1  # taken, waiting, and one in the reader's hand
    count = len(read)
    assert count < 12
    time.sleep(0.02)
    assert len(read) == count  # the thread has ended
    with ReadAhead(range(100), size=3) as ahead:
        assert list(ahead) == list(range(100))
        assert ahead.dropped == 0 and list(ahead) == []


def test_read_ahead_raises_after_the_items_before():
    def items():
        yield from (1, 2)
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

    for numbers in ([2], range(10)):
        with pytest.raises(ValueError, match="no room"), WriteBehind(write, size=1) as behind:
            for number in numbers:
                behind(number)
    with pytest.raises(KeyError), WriteBehind(write) as behind:
        behind(2)
        raise KeyError  # the first error is the one that counts


# --- start, end, every ---

MOMENTS = {"0": 0, "250": 250, "90s": 90.0, "1.5s": 1.5, "1:30.5": 90.5, "1:02:03": 3723.0}


def test_moments(dcfnet):
    for text, expected in MOMENTS.items():
        moment = parse_moment(text)
        assert moment == expected and type(moment) is type(expected)
    for text in ("-1", "1.5", "x", "", "1:", ":1", "1:2:3:4", "nan", "1e3s", "²"):
        code, _, err = dcfnet("track", "a.mp4", f"--start={text}")
        assert code == 2 and "--start: must be a frame number, or a time like 90s or 1:30.5" in err


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
        wanted = numbers or [i for i in range(12) if 0.2 <= i / fps < 0.4]
        times = pytest.approx([i / fps for i in wanted], abs=1e-6)
        with open_source(path, **part) as source:
            assert source.length == len(wanted)
            for _ in range(2):  # and again
                got = list(source.frames())
                assert [frame.number for frame in got] == list(wanted)
                assert [frame.time for frame in got] == times
                for frame in got:
                    assert np.abs(frame.image.astype(float) - frames[frame.number]).mean() < 12
            if source.boxes is not None:
                assert source.boxes[:, 0].tolist() == list(wanted)


def test_parts_beyond_the_end(tmp_path, rng):
    write_images(tmp_path / "a", make_frames(rng, 3))
    write_video(tmp_path / "a.avi", make_frames(rng, 3), "MJPG")
    with pytest.raises(SourceError, match="a has 3 frames and none between the start and end"):
        open_source(tmp_path / "a", start=3)
    for part in ({"start": 3}, {"start": 2, "end": 1}):
        with pytest.raises(SourceError, match="a.avi has no frame between the start and end"):
            open_source(tmp_path / "a.avi", **part)
    for bad in ({"start": -1}, {"end": float("nan")}, {"every": 0}):
        with pytest.raises(ValueError, match="open_source: "):
            open_source(tmp_path / "a", **bad)


def test_track_a_part(track, tmp_path):
    frames, boxes = make_sequence(np.random.default_rng(1), 12, 96, 72, (24, 18))
    write_sequence(tmp_path / "car", frames, boxes)
    path, video = tmp_path / "a.csv", tmp_path / "a.avi"
    part = "--start 3 --every 2 --end 0.4s"
    code, out, _ = track(tmp_path / "car", f"{part} --save-boxes {path} --save-video {video}")
    assert code == 0 and "car: 4 frames" in out and "over 4 annotated frames" in out
    assert [line.split(",")[0] for line in path.read_text().splitlines()[1:]] == list("3579")
    got = read_boxes(path)
    np.testing.assert_allclose(got[0], boxes[3], atol=1e-4)
    said = float(out.split("mean IoU ")[1].split()[0])
    assert said == pytest.approx(iou(got, boxes[3:10:2]).mean(), abs=1e-3)
    with open_source(video) as source:
        assert source.length == 4 and source.fps == pytest.approx(12.5, rel=1e-3)


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
    return struct.pack(">8I", version, 3, 4, step, 4, step * 3 // 2, 4, step // 2)


def turned(body):
    """`tkhd` with the matrix of a telephone held upright: a quarter turn clockwise."""
    matrix = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000)
    return body[:40] + matrix + body[76:]


TRACK = [b"moov", b"trak"]
TIMES = np.cumsum([0, *[0.05] * 4, *[0.075] * 4, *[0.025] * 3])


def test_times_of_a_variable_rate(tmp_path, rng):
    path = tmp_path / "a.mp4"
    write_video(path, make_frames(rng, 12), "mp4v")
    durations = [*TRACK, b"mdia", b"minf", b"stbl", b"stts"]
    path.write_bytes(change(path.read_bytes(), durations, at_varying_times))
    with open_source(path) as source:
        assert [frame.time for frame in source.frames()] == pytest.approx(TIMES, abs=2e-3)
    with open_source(path, start=0.3) as source:
        assert next(source.frames()).number == 6


def test_a_video_is_upright(tmp_path, rng):
    path, frames = tmp_path / "a.mp4", make_frames(rng, 3)
    write_video(path, frames, "mp4v")
    path.write_bytes(change(path.read_bytes(), [*TRACK, b"tkhd"], turned))
    with open_source(path) as source:
        for image, frame in zip(source, frames):
            assert image.shape == (64, 48, 3)
            assert np.abs(image.astype(float) - np.rot90(frame, -1)).mean() < 12


# --- a stream that does not wait ---


@contextlib.contextmanager
def stream(count, pause):
    """The address of an MJPEG stream as network cameras send it."""
    boundary = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            (frame,) = make_frames(np.random.default_rng(0), 1)
            with contextlib.suppress(OSError):  # the reader has gone
                for number in range(count):
                    frame[:4] = number % 256  # its number can be read off the frame
                    image = cv2.imencode(".jpg", frame)[1].tobytes()
                    self.wfile.write(boundary % len(image) + image + b"\r\n")
                    time.sleep(pause)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/camera.mjpg?key=secret"
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_drops_frames_and_stays_near():
    shown = []
    with stream(120, 0.01) as address, open_source(address) as source:
        assert source.live and source.length is None and "secret" not in source.name
        with ReadAhead(source.frames(), newest=True) as frames:
            for frame in frames:
                shown.append(round(frame.image[:4].mean()))
                assert abs(shown[-1] - frame.number) <= 2
                # meanwhile others come, ten on a machine that has nothing else to do
                time.sleep(0.1)
            assert frames.dropped > 0 and frames.dropped + len(shown) == 120
    assert shown == sorted(shown) and shown[-1] >= 117


def test_track_a_stream(track, tmp_path):
    path, video = tmp_path / "a.csv", tmp_path / "a.mkv"
    with stream(40, 0.01) as address:
        code, out, err = track(address, f"--box {BOX} --save-boxes {path} --save-video {video}")
    assert (code, err) == (0, "") and "secret" not in out
    numbers = np.loadtxt(path, delimiter=",", skiprows=1, usecols=0)
    assert (np.diff(numbers) >= 1).all() and numbers[-1] == 39
    assert len(numbers) == 40 or f"{40 - len(numbers)} dropped to keep up" in out
    boxes = read_boxes(path)
    assert iou(boxes, np.array([PATCH] * len(boxes), float)).min() > 0.6
    assert open_source(video).length > 3


def test_a_stream_that_is_not_there(track):
    code, _, err = track("http://user:secret@127.0.0.1:9/x", f"--box {BOX}")
    assert code == 2 and "secret" not in err
    assert "http://127.0.0.1:9/x cannot be opened; check the address" in err


# --- several targets ---


def test_several_targets_from_a_file(track, tmp_path):
    """Two moving targets: each is tracked as it is alone."""
    one, first = make_sequence(np.random.default_rng(3), 6, 160, 120, (30, 24), step=(1.5, 1))
    other, second = make_sequence(np.random.default_rng(4), 6, 160, 120, (26, 32), step=(-1, 2))
    second[:, :2] += (80, 40)
    for index, (x, y) in enumerate(np.rint(second[:, :2]).astype(int)):
        one[index, y : y + 32, x : x + 26] = other[0][10:42, 12:38]
    folder, truth, start = tmp_path / "two", np.stack([first, second]), tmp_path / "start.txt"
    write_images(folder, one)
    np.savetxt(start, truth[:, 0] + (1, 1, 0, 0), fmt="%.4f", delimiter=",")
    outputs = f"--save-boxes {tmp_path / 'a.csv'} --save-video {tmp_path / 'a.avi'}"
    code, out, err = track(folder, f"--boxes {start} {outputs} --response --trail 9")
    assert (code, err) == (0, "") and out.startswith("two: 6 frames")
    assert not (tmp_path / "a.csv").exists()
    for number in (1, 2):
        boxes = read_boxes(tmp_path / f"a.{number}.csv")
        box = ",".join(f"{v:.4f}" for v in truth[number - 1, 0])
        assert track(folder, f"--box {box} --save-boxes {tmp_path / 'alone.csv'}")[0] == 0
        np.testing.assert_allclose(boxes, read_boxes(tmp_path / "alone.csv"), atol=1e-3)
        assert iou(boxes, truth[number - 1]).min() > 0.6


def test_a_bad_file_of_targets(track, tmp_path, rng):
    write_images(tmp_path / "walk", make_frames(rng))
    path = tmp_path / "start.csv"
    good = "x,y,w,h\n20,10,16,12\n"
    for text, option, error in (
        (None, "", f"dcfnet: error: {path}: No such file or directory\n"),
        (f"{good}70,1,5,5\n", "", f"{path}, target 2: box must overlap the frame"),
        ("x,y,w,h\n", "", f"{path}: holds no boxes"),
        (good, f"--save-boxes {path}", "is the file of --boxes and would be lost"),
    ):
        if text:
            path.write_text(text)
        code, _, err = track(tmp_path / "walk", f"--boxes {path}", option)
        assert code == 2 and error in err


# --- runs that end early ---


def endless(tmp_path, *words):
    """`dcfnet track` on a stream without end, in a process of its own, once it has written 30
    rows.
    """
    words = ["track", *map(str, words), "--save-boxes", str(tmp_path / "a.csv")]
    words, pipe = [sys.executable, "-m", "dcfnet_np", *words], subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
    part, until = tmp_path / "a.part.csv", time.monotonic() + PATIENCE
    while not part.exists() or part.read_text().count("\n") < 31:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def count_frames(path):
    with open_source(path) as source:
        return sum(1 for _ in source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ctrl_c_leaves_whole_files(tmp_path, network_file, suffix):
    video = tmp_path / f"a{suffix}"
    with stream(10**6, 0.01) as address:
        words = [address, "--box", BOX, "--weights", network_file, "--save-video", video]
        process = endless(tmp_path, *words)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err  # how one ends what has no end
    count = len(read_boxes(tmp_path / "a.csv"))
    assert count >= 30 and out.startswith("http://127.0.0.1")
    # it may come between two lines of code
    assert abs(int(out.split("mjpg: ")[1].split()[0]) - count) <= 1
    # frames that fall together in time are left out, on a slow machine most
    assert count_frames(video) >= 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", video.name]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_killed_run_leaves_what_can_be_read(tmp_path, rng, network_file, suffix):
    noise = rng.integers(0, 256, (8, 120, 160, 3), np.uint8)
    write_video(tmp_path / "in.avi", np.tile(noise, (40, 1, 1, 1)), "MJPG")
    video, part = tmp_path / f"a{suffix}", tmp_path / f"a.part{suffix}"
    words = ["--box", BOX, "--weights", network_file, "--save-video", video]
    process = endless(tmp_path, tmp_path / "in.avi", *words)
    while part.stat().st_size < 250_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert 10 < count_frames(part) <= len(read_boxes(tmp_path / "a.part.csv")) + 1
    assert not (tmp_path / "a.csv").exists() and not video.exists()


def test_a_video_with_a_hole(track, tmp_path, rng):
    """Bytes lost in the middle: the run ends well with fewer frames, or says at which frame."""
    source, path, video = (tmp_path / name for name in ("in.avi", "a.csv", "a.avi"))
    write_video(source, make_frames(rng, 60), "MJPG")
    data = bytearray(source.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    source.write_bytes(data)
    code, _, err = track(source, f"--box {BOX} --save-boxes {path} --save-video {video}")
    count = len(read_boxes(path))
    assert count >= 15 and count_frames(video) >= count
    assert (code == 0 and err == "") or (code == 1 and f"{count} boxes before it kept in" in err)
