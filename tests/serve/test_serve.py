"""`dcfnet serve`: the page used in a real browser, and what the server refuses."""

import base64
import contextlib
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from browser import OPTIONS, chromium
from processes import PATIENCE
from scenes import make_frames, make_sequence, promise_more_frames, write_video

# on a machine for make gpu, say
pytest.importorskip("websockets", reason="the extra serve is not installed")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dcfnet_np.follow import Step
from dcfnet_np.serve.app import Guard, pack
from dcfnet_np.vision.box_files import BoxRow, read_boxes
from dcfnet_np.vision.boxes import iou
from dcfnet_np.vision.frames import Frame
from dcfnet_np.vision.sources import open_source

SIZE = (160, 120)
BOX = '{"box": [1, 2, 30, 40]}'


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """(video of a moving target, its boxes)."""
    path = tmp_path_factory.mktemp("serve") / "a walk.avi"
    frames, boxes = make_sequence(np.random.default_rng(5), 40, *SIZE, (36, 28))
    write_video(path, frames, "MJPG")
    return path, boxes


@contextlib.contextmanager
def running(*words):
    """`dcfnet serve` in a process of its own: (process, port)."""
    words = [sys.executable, "-m", "dcfnet_np", "serve", "--port", "0", *words]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        found = re.search(r"open http://127.0.0.1:(\d+)/ in a browser", process.stdout.readline())
        assert found, process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def port():
    with running("--max-upload", "3") as (_, port):
        yield port


def ask(port, method, path, body=None, **headers):
    """(status, headers, body) of one request; the path is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def upload(port, data, name="a.avi"):
    status, _, body = ask(port, "POST", f"/videos?name={name}", data)
    return status, json.loads(body)


def hear(talk):
    """The next message, a JSON object."""
    return json.loads(talk.recv(timeout=PATIENCE))


# --- in a browser, as a person would ---


@pytest.fixture(scope="module")
def browser():
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(*(word for word in OPTIONS[1:] if "=" not in word), *camera) as program:
        yield program


@pytest.fixture
def page(browser, port):
    """The page, just opened; it loads nothing from elsewhere and complains of nothing."""
    context = browser.new_context(viewport={"width": 1000, "height": 800}, permissions=["camera"])
    page = context.new_page()
    complaints, asked = page.complaints, _ = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    visit(page, port)
    yield page
    context.close()
    own = (f"http://127.0.0.1:{port}/", "blob:", "data:")
    assert complaints == [] and all(url.startswith(own) for url in asked)


def visit(page, port):
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#about:has-text('light')")


def drag(page, box, size=SIZE):
    """Draw a box, in the video's pixels, with the mouse."""
    area = page.locator("#picture").bounding_box()
    scale = min(area["width"] / size[0], area["height"] / size[1])
    left = area["x"] + (area["width"] - size[0] * scale) / 2
    top = area["y"] + (area["height"] - size[1] * scale) / 2
    x, y, w, h = box
    page.mouse.move(left + x * scale, top + y * scale)
    page.mouse.down()
    page.mouse.move(left + (x + w / 2) * scale, top + (y + h / 2) * scale, steps=3)
    page.mouse.move(left + (x + w) * scale, top + (y + h) * scale, steps=3)
    page.mouse.up()


def pixels(page, selector):
    """What a canvas shows, (height, width, 3)."""
    script = "(canvas) => canvas.toDataURL('image/png').split(',')[1]"
    data = np.frombuffer(base64.b64decode(page.locator(selector).evaluate(script)), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_from_upload_to_download(page, scene, tmp_path):
    path, truth = scene
    with page.expect_file_chooser() as chooser:
        page.click("text=Open a video")
    chooser.value.set_files(path)
    page.wait_for_selector("#start:visible")
    assert page.inner_text("#name") == "a walk.avi, 160×120, at most 40 frames"
    assert page.is_disabled("#start")
    drag(page, truth[0])
    values = [page.input_value(f"#{name}") for name in "xywh"]
    assert values == [str(round(value)) for value in truth[0]]
    page.uncheck("#pace")
    page.click("#start")
    page.wait_for_selector("#again:visible", timeout=1000 * PATIENCE)
    assert page.inner_text("#status") == "Tracked 40 frames."
    assert page.inner_text("#frame") == "39 of at most 39"
    assert 0 < float(page.inner_text("#score")) < 1.5
    shown = pixels(page, "#picture").astype(int)
    with open_source(path, start=39) as source:
        plain = next(iter(source)).astype(int)
    # the box around the target, and nothing else
    rows, columns = np.nonzero(np.abs(shown - plain).max(axis=2) > 40)
    assert 60 < len(rows) < 800
    drawn = [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]
    assert drawn == pytest.approx(list(truth[39]), abs=8)
    assert pixels(page, "#map").shape == (125, 125, 3) and pixels(page, "#map").std() > 10
    assert pixels(page, "#scores").std() > 1
    for suffix in (".csv", ".json", ".txt"):
        with page.expect_download() as download:
            page.click(f"text={suffix}")
        assert download.value.suggested_filename == f"a walk-boxes{suffix}"
        download.value.save_as(tmp_path / f"boxes{suffix}")
        boxes = read_boxes(tmp_path / f"boxes{suffix}")
        assert len(boxes) == 40 and iou(boxes, truth).min() > 0.5


def test_with_the_keyboard_alone(page, scene):
    """Tab to the picture, place the box, start, stop; then another box from where it ended."""
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "file"
    page.set_input_files("#file", scene[0])
    page.wait_for_selector("#start:visible")
    page.focus("#stage")
    right, others = "ArrowRight", ("Control+ArrowUp", "Shift+ArrowDown", "Shift+ArrowLeft")
    for key in (right, right, *others):
        page.keyboard.press(key)
    assert [page.input_value(f"#{name}") for name in "xywh"] == ["54", "30", "52", "41"]
    page.fill("#w", "40")
    page.keyboard.press("Tab")
    page.focus("#stage")
    page.keyboard.press("Enter")
    page.wait_for_selector("#score:not(:text('–'))")
    page.keyboard.press("Escape")
    page.wait_for_selector("#again:visible")
    assert page.evaluate("() => document.activeElement.id") == "again"
    page.keyboard.press("Enter")
    page.wait_for_selector("#start:visible")
    assert 0 < int(page.input_value("#from")) < 39 and page.input_value("#x") == ""


def test_the_camera(page, tmp_path):
    """Chromium's made-up camera."""
    page.click("#camera")
    page.wait_for_selector("#name:has-text('camera, 640×480')")
    page.wait_for_selector("#start:visible")
    page.wait_for_timeout(300)
    drag(page, (200, 150, 150, 150), (640, 480))
    page.wait_for_selector("#frame:has-text('5')")
    page.click("#stop")
    page.wait_for_selector("#again:visible")
    with page.expect_download() as download:
        page.click("text=.csv")
    assert download.value.suggested_filename == "camera-boxes.csv"
    download.value.save_as(tmp_path / "a.csv")
    assert len(read_boxes(tmp_path / "a.csv")) >= 5


def test_what_goes_wrong_is_said(page, scene, tmp_path):
    (tmp_path / "notes.avi").write_text("no video")
    page.set_input_files("#file", tmp_path / "notes.avi")
    page.wait_for_selector("#error:has-text('notes.avi is no .mp4')")
    # the browser's own
    assert len(page.complaints) == 1 and "status of 415" in page.complaints.pop()
    (tmp_path / "large.avi").write_bytes(bytes(3_000_001))
    page.set_input_files("#file", tmp_path / "large.avi")
    page.wait_for_selector("#error:has-text('large.avi is larger than 3 MB')")
    page.set_input_files("#file", scene[0])
    page.wait_for_selector("#start:visible")
    assert page.is_hidden("#error")
    for name, value in zip("xywh", ("500", "20", "20", "20")):
        page.fill(f"#{name}", value)
    page.keyboard.press("Tab")
    page.click("#start")
    page.wait_for_selector("#error:has-text('box must overlap the frame (160x120 pixels)')")


def test_a_server_that_dies_is_noticed(browser, scene):
    page = browser.new_page()
    with running() as (process, port):
        visit(page, port)
        page.set_input_files("#file", scene[0])
        page.wait_for_selector("#start:visible")
        drag(page, scene[1][0])
        page.click("#start")
        page.wait_for_selector("#score:not(:text('–'))")
        process.kill()
        page.wait_for_selector("#error:has-text('The server ended the run')")
        assert page.is_visible("#again")
    page.close()


@pytest.mark.parametrize(
    ("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")]
)
def test_on_a_telephone(browser, port, scheme, ground):
    size = {"width": 360, "height": 740}
    page = browser.new_page(color_scheme=scheme, viewport=size, has_touch=True)
    visit(page, port)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "sideways"
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == ground
    page.close()


# --- what is refused ---


def test_only_our_own_page_is_served(port):
    here = f"127.0.0.1:{port}"
    assert ask(port, "GET", "/", Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[", ""):
        status, _, body = ask(port, "GET", "/", Host=host)
        assert status in (400, 403) and b"<html" not in body
    path = "/videos?name=a.avi"
    assert ask(port, "POST", path, b"", Host=here, Origin=f"http://{here}")[0] == 415
    for origin in ("http://evil.example", f"http://localhost:{port}", "http://127.0.0.1:1", "null"):
        assert ask(port, "POST", path, b"", Host=here, Origin=origin)[0] == 403
        address = f"ws://{here}/camera"
        with pytest.raises(InvalidStatus, match="403"), connect(address, origin=origin):
            pass
    wish = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    wish["Sec-WebSocket-Key"] = base64.b64encode(bytes(16)).decode()
    assert ask(port, "GET", "/camera", Host="evil.example", **wish)[0] == 403
    for path in ("/", "/page/page.js", "/config", "/nothing"):
        headers = ask(port, "GET", path)[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_names_that_are_allowed():
    guard = Guard(None, frozenset({"localhost", "studio.lan"}))
    ours = "localhost localhost:80 127.0.0.1:8000 [::1]:8000 192.168.1.5 STUDIO.lan:1"
    others = ":80 studio.lan.evil.org evil.org#localhost localhost@evil.org [::1 1.2.3.4.org"
    assert all(map(guard._is_ours, ours.split()))
    assert not any(map(guard._is_ours, ["", *others.split()]))


PATHS = r"""/page/../app.py /page/%2e%2e/app.py /page/..%2fapp.py /page/%2e%2e%2f%2e%2e%2fcli.py
    /page//etc/passwd /page/....//app.py /page/\..\app.py /runs/..%2f..%2fetc/boxes.csv
    /runs/x/boxes.py /videos/..%2f..%2fetc%2fpasswd/frame.jpg /videos/%00/frame.jpg"""


def test_no_path_leads_out(port):
    for path in PATHS.split():
        status, _, body = ask(port, "GET", path)
        assert status == 404 and b"import" not in body and b"root:" not in body, path


def test_a_name_is_only_a_name(port, scene):
    data = scene[0].read_bytes()
    names = {"..%2f..%2fetc%2fx.avi": "x.avi", "%00": "\0", "": "video", "a" * 999: "a" * 100}
    for name, kept in names.items():
        status, facts = upload(port, data, name)
        assert (status, facts["name"]) == (200, kept)
        assert re.fullmatch(r"[\w-]{22}", facts["id"])
        assert (facts["width"], facts["height"], facts["frames"]) == (*SIZE, 40)


def test_uploads_have_a_limit(port):
    status, answer = upload(port, bytes(3_000_001))
    assert status == 413 and "larger than 3 MB; start with a higher --max-upload" in answer["error"]
    chunks = (bytes(10_000) for _ in range(400))  # nothing said about the length before
    # the server may hang up before all is sent
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert upload(port, chunks)[0] == 413


def test_only_videos_reach_the_decoder(port, scene):
    """FFmpeg would open what a play list names; a broken video is refused by its own name."""
    for data in (
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"v=0\r\nm=video 1 RTP/AVP 96\r\n",
        b"",
        b"RIFF\0\0\0\0WAVE",
    ):
        status, answer = upload(port, data, "list.avi")
        assert status == 415 and answer["error"].startswith("list.avi is no .mp4")
    data = scene[0].read_bytes()
    status, answer = upload(port, data[:40] + bytes(len(data) - 40))
    assert status == 415 and "a.avi cannot be decoded" in answer["error"]
    assert "/tmp" not in answer["error"]


def test_the_oldest_video_goes(port, scene):
    ids = [upload(port, scene[0].read_bytes())[1]["id"] for _ in range(4)]
    assert [ask(port, "GET", f"/videos/{id_}/frame.jpg")[0] for id_ in ids] == [404, 200, 200, 200]
    picture = ask(port, "GET", f"/videos/{ids[1]}/frame.jpg?number=7")[2]
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    for number in ("40", "-1", "x", "1e3", "%C2%B2"):
        assert ask(port, "GET", f"/videos/{ids[1]}/frame.jpg?number={number}")[0] == 404


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("not JSON", "expected a JSON object"),
        ("[1, 2]", "expected a JSON object"),
        ("{}", "box must be four numbers"),
        ('{"box": [1, 2, 30, 40], "start": -1}', "start must be a frame number"),
        ('{"box": [1, 2, 30, 40], "start": 1.5}', "start must be a frame number"),
        ('{"box": [1, 2, 30, 40], "start": 40}', "a.avi has no frame between"),
    ],
)
def test_bad_orders(port, scene, order, text):
    id_ = upload(port, scene[0].read_bytes())[1]["id"]
    with connect(f"ws://127.0.0.1:{port}/videos/{id_}/track") as talk:
        talk.send(order)
        answer = hear(talk)
        answer = hear(talk) if "run" in answer else answer
        assert text in answer["error"] and id_ not in answer["error"]


def test_a_camera_that_sends_nonsense(port):
    with connect(f"ws://127.0.0.1:{port}/camera") as talk:
        talk.send(BOX)
        talk.send(b"no JPEG")
        assert "run" in hear(talk)
        assert hear(talk) == {"error": "a picture of the camera does not decode"}
    with connect(f"ws://127.0.0.1:{port}/camera", max_size=None) as talk:
        talk.send(BOX)
        hear(talk)
        with pytest.raises(ConnectionClosed):  # larger than any picture
            talk.send(bytes(9_000_000))
            hear(talk)


def test_runs_at_once_have_a_limit(port):
    address = f"ws://127.0.0.1:{port}/camera"
    with contextlib.ExitStack() as stack:
        for talk in [stack.enter_context(connect(address)) for _ in range(4)]:
            talk.send(BOX)
            assert "run" in hear(talk)
        with connect(address) as late:
            assert "4 runs are going already" in hear(late)["error"]
    for _ in range(100):  # the server notices only after a while that the four have gone
        with connect(address) as again:
            with contextlib.suppress(ConnectionClosed):
                again.send(BOX)
            answer = hear(again)
        if "run" in answer:
            break
        time.sleep(0.1)
    assert "run" in answer


def track_all(port, data, name):
    """What was said of an upload, how many frames came, and the last message."""
    facts, count = upload(port, data, name)[1], 0
    with connect(f"ws://127.0.0.1:{port}/videos/{facts['id']}/track") as talk:
        talk.send('{"box": [10, 8, 36, 28], "pace": false}')
        talk.recv(timeout=PATIENCE)
        while isinstance(message := talk.recv(timeout=PATIENCE), bytes):
            count += 1
            talk.send('{"shown": 1}')
    return facts, count, json.loads(message)


def test_frames_that_are_not_there(port, scene, tmp_path):
    """A header of too many frames, and a video cut short, which is named as the page does."""
    frames, _ = make_sequence(np.random.default_rng(5), 40, *SIZE, (36, 28))
    write_video(tmp_path / "a.mkv", frames, "mp4v")
    promise_more_frames(tmp_path / "a.mkv", 7)
    facts, count, end = track_all(port, (tmp_path / "a.mkv").read_bytes(), "a.mkv")
    assert (facts["frames"], count, end) == (40, 40, {"end": 1})
    data = scene[0].read_bytes()
    facts, count, end = track_all(port, data[: len(data) // 2], "my%20walk.avi")
    assert 10 < count < 30 and facts["frames"] <= count + 1
    words = f"frame {count + 1} of my walk.avi is not there: the file is cut short"
    assert end["error"].startswith(words)
    assert "dcfnet-serve-" not in end["error"] and facts["id"] not in end["error"]


def test_frames_wait_for_the_page(port, scene):
    """No more than a few messages are sent ahead of what the page has shown."""
    id_ = upload(port, scene[0].read_bytes())[1]["id"]
    with connect(f"ws://127.0.0.1:{port}/videos/{id_}/track") as talk:
        talk.send('{"box": [10, 8, 36, 28], "pace": false}')
        run = hear(talk)["run"]
        for number in range(3):
            data = talk.recv(timeout=PATIENCE)
            length = struct.unpack(">I", data[:4])[0]
            assert json.loads(data[4 : 4 + length])["frame"] == number
        with pytest.raises(TimeoutError):
            talk.recv(timeout=2)
        talk.send('{"stop": 1}')
        assert hear(talk) == {"end": 1}
    status, headers, body = ask(port, "GET", f"/runs/{run}/boxes.csv")
    assert status == 200 and body.count(b"\n") == 4
    assert headers["Content-Disposition"] == 'attachment; filename="a-boxes.csv"'


# --- parts and the command ---


def test_pack(rng):
    image, map_ = make_frames(rng, 1)[0], rng.random((5, 5))
    row = BoxRow(7, (1.234, 2, 3, 4), 0.5, False, 0.0125, "lost")
    data = pack(Step(Frame(7, 0.28, image), [row], [map_]), True)
    length = struct.unpack(">I", data[:4])[0]
    head, rest = json.loads(data[4 : 4 + length]), data[4 + length :]
    picture = head.pop("picture")
    assert head == {
        "frame": 7, "time": 0.28, "box": [1.23, 2, 3, 4], "score": 0.5, "ok": False,
        "state": "lost", "ms": 12.5, "map": 5,
    }  # fmt: skip
    decoded = cv2.imdecode(np.frombuffer(rest[:picture], np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == image.shape
    levels = np.frombuffer(rest[picture:], np.uint8).reshape(5, 5)
    np.testing.assert_allclose(levels, (map_ - map_.min()) / np.ptp(map_) * 255, atol=1)
    first = pack(Step(Frame(0, 0.0, image), [BoxRow(0, (1, 2, 3, 4))], [None]), False)
    assert json.loads(first[4:])["score"] is None and json.loads(first[4:])["map"] == 0


def test_ctrl_c_ends_the_server_and_its_files(scene):
    with running() as (process, port):
        assert upload(port, scene[0].read_bytes())[0] == 200
        with connect(f"ws://127.0.0.1:{port}/camera"):  # somebody is still there
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE) == 0
        assert process.stderr.read() == ""


def test_bad_options(dcfnet, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        code, out, err = dcfnet("serve", "--port", number)
        assert (code, out) == (2, "") and f"cannot listen on 127.0.0.1, port {number}: " in err
    for words, text in (
        (["--port", 99999], "cannot listen on 127.0.0.1, port 99999"),
        (["--host", "no such host"], "cannot listen on no such host"),
        (["--max-upload", 0], "--max-upload must be more than 0"),
        (["--weights", "heavy"], "neither a file nor a packaged name"),
    ):
        code, out, err = dcfnet("serve", "--port", 0, *words)
        assert (code, out, err.count("\n")) == (2, "", 1) and text in err
    monkeypatch.setattr("dcfnet_np.commands.serve.NEEDED", ("no_such_package",))
    code, _, err = dcfnet("serve")
    assert code == 2 and "dcfnet serve needs no_such_package; install the extra" in err
