"""Drawing and videos: what is painted, and that inputs stay as they are."""

import shutil

import cv2
import numpy as np
import pytest
from processes import run_python

from dcfnet_np.follow import Painter, Step
from dcfnet_np.vision import draw
from dcfnet_np.vision.box_files import BoxRow
from dcfnet_np.vision.draw import RED, TARGETS, draw_box, draw_label
from dcfnet_np.vision.sources import Frame
from dcfnet_np.vision.video_writer import VideoWriter

NAN = np.nan


@pytest.fixture
def frame(rng):
    """255 itself is free for drawing.  Nobody may write to it."""
    image = rng.integers(0, 255, (45, 61, 3), np.uint8)
    image.flags.writeable = False
    return image


def painted(before, after):
    return (before != after).any(axis=2)


def has(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=2)


def test_draw_box_paints_the_outline(frame):
    image = draw_box(frame, (10, 20, 30, 15), (0, 0, 255), thickness=1)
    expected = np.zeros(frame.shape[:2], bool)
    expected[20:35, 10:40] = True
    expected[21:34, 11:39] = False
    np.testing.assert_array_equal(painted(frame, image), expected)
    assert (image[expected] == (0, 0, 255)).all()


def test_nothing_is_drawn_where_there_is_no_box(frame):
    for image in (
        draw_box(frame, (NAN,) * 4),
        draw_box(frame, (1, 2, np.inf, 3)),
        draw_label(frame, (1e12, -1e12, 1, 1), "7"),
        draw.draw_trail(frame, [(3, 3)]),
        draw.response_inset(frame, np.ones((9, 9)), place=3),  # does not fit
    ):
        np.testing.assert_array_equal(image, frame)
        assert image is not frame


def test_response_inset_is_top_right_and_peaks_where_the_map_does(frame):
    response = np.zeros((31, 31), np.float32)
    response[3:8, 20:25] = 1.0  # up and to the right of the middle
    image = draw.response_inset(frame, response, fraction=0.6)
    side = 27
    changed = painted(frame, image)
    assert changed[:side, -side:].mean() > 0.99
    assert not changed[side:].any() and not changed[:, :-side].any()
    inset = image[:side, -side:].astype(int)
    row, column = np.unravel_index((inset[:, :, 2] - inset[:, :, 0]).argmax(), (side, side))
    assert row == pytest.approx(5 / 31 * side, abs=3)
    assert column == pytest.approx(22 / 31 * side, abs=3)
    below = painted(frame, draw.response_inset(frame, response, place=1))
    assert below[14:28, -14:].mean() > 0.9 and not below[:14].any() and not below[28:].any()


def test_painter(rng):
    """A lost target is red; several have numbers; the path has as many centres as it may."""
    image = rng.integers(0, 120, (60, 80, 3), np.uint8)
    image.flags.writeable = False

    def paint(painter, number, *states):
        boxes = [(5 + 30 * i + 4 * number, 30, 10, 12) for i in range(len(states))]
        rows = [
            BoxRow(number, box, 0.5, state == "tracking", state=state)
            for box, state in zip(boxes, states)
        ]
        return painter(Step(Frame(number, 0.0, image), rows, [None] * len(states)))

    alone = paint(Painter(), 0, "tracking")
    assert has(alone, TARGETS[0])[30, 5:15].all() and not has(alone, TARGETS[0])[:30].any()
    assert has(paint(Painter(), 0, "lost"), RED)[30, 5:15].all()
    two = paint(Painter(), 0, "tracking", "lost")
    assert has(two, TARGETS[0])[30, 5:15].all() and has(two, RED)[30, 35:45].all()
    assert painted(image, two)[:28].any()  # the numbers
    painter = Painter(trail=3)
    for number in range(6):
        picture = paint(painter, number, "tracking")
    path = painted(image, picture)[36]
    assert path[22:31].all() and not path[:21].any()  # centres 22, 26, 30


# --- videos ---

LEVELS = [20, 90, 160, 230]


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_video_writer(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 12.5) as writer:
        for level in LEVELS:
            writer.write(np.full((45, 61, 3), level, np.uint8))
        assert not path.exists()  # nothing half-written under the name
    frames, fps = read_video(path)
    assert fps == pytest.approx(12.5, rel=1e-3)
    assert [frame.shape for frame in frames] == [(46, 62, 3)] * 4  # filled up to even sizes
    assert [frame[5:40, 5:55].mean() for frame in frames] == pytest.approx(LEVELS, abs=4)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 0.1, 0.2, 0.3], LEVELS),
        ([7.0, 7.1, 7.4, 7.5], [20, 90, 90, 90, 160, 230]),  # stands still until the third is due
        ([0, 0.1, 0.12, 0.2], [20, 90, 230]),  # two within a tenth of a second
        ([0, 0.1, 1000.0, 1000.1], [20, *[90] * 101, 160, 230]),  # no longer than 10 s
        ([0, 0.1, 0.0, 0.05], [20, 90]),  # a clock that goes backwards
    ],
)
def test_a_written_video_keeps_the_pace(tmp_path, times, expected):
    with VideoWriter(tmp_path / "a.avi", 10) as writer:
        for level, at in zip(LEVELS, times):
            writer.write(np.full((48, 64, 3), level, np.uint8), at)
    levels = [round(frame.mean()) for frame in read_video(tmp_path / "a.avi")[0]]
    assert levels == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("count", [0, 2])
def test_video_writer_keeps_what_it_has(tmp_path, frame, count):
    path = tmp_path / "a.mp4"
    with pytest.raises(RuntimeError), VideoWriter(path, 25) as writer:
        for _ in range(count):
            writer.write(frame)
        raise RuntimeError
    assert len(read_video(path)[0]) == count
    assert list(tmp_path.iterdir()) == ([path] if count else [])


def test_video_writer_refuses(tmp_path, frame):
    for name, fps, text in (
        ("a.txt", 25, "a video must end in .mp4, .avi"),
        ("missing/a.mp4", 25, "there is no folder"),
    ):
        with pytest.raises(ValueError, match=text):
            VideoWriter(tmp_path / name, fps)
    with VideoWriter(tmp_path / "b.mp4", 25) as writer:
        writer.write(frame)
        with pytest.raises(ValueError, match="frame must have the shape"):
            writer.write(frame.transpose(1, 0, 2))
    (tmp_path / "gone").mkdir()
    writer = VideoWriter(tmp_path / "gone" / "a.mp4", 25)
    with pytest.raises(ValueError, match="OpenCV cannot write this video"), writer:
        shutil.rmtree(tmp_path / "gone")
        writer.write(frame)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_full_disk_is_noticed(tmp_path, suffix):
    """OpenCV writes on without a word when a file can grow no more."""
    pytest.importorskip("resource", reason="no limit on the size of files here")
    path = tmp_path / f"a{suffix}"
    program = f"""
        import resource, numpy
        from dcfnet_np.vision.video_writer import VideoWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
        noise = numpy.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), numpy.uint8)
        with VideoWriter({str(path)!r}, 25) as writer:
            for frame in noise:
                writer.write(frame)
    """
    done = run_python(program)
    assert done.returncode == 1
    assert f"WriteError: cannot write {path}: only " in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
