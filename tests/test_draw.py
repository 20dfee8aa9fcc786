"""Drawing: what is painted, and that inputs stay as they are."""

import shutil

import cv2
import numpy as np
import pytest
from processes import run_python

from dcfnet_np.vision.draw import contact_sheet, draw_box, response_inset
from dcfnet_np.vision.video import VideoWriter

RED = (0, 0, 255)


@pytest.fixture
def frame(rng):
    return rng.integers(0, 255, (45, 61, 3), np.uint8)  # 255 itself is free for drawing


def painted(before, after):
    return (before != after).any(axis=2)


def test_draw_box_paints_the_outline(frame):
    before = frame.copy()
    image = draw_box(frame, (10, 20, 30, 15), RED, thickness=1)
    expected = np.zeros(frame.shape[:2], bool)
    expected[20:35, 10:40] = True
    expected[21:34, 11:39] = False
    np.testing.assert_array_equal(painted(frame, image), expected)
    assert (image[expected] == RED).all()
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    "box", [(-10, -10, 30, 30), (50, 40, 99, 99), (5, 5, 1, 1), (1, 1, 1e12, 1e12)]
)
def test_draw_box_at_the_borders(frame, box):
    assert draw_box(frame, box).shape == frame.shape


@pytest.mark.parametrize("box", [(np.nan,) * 4, (1, 2, np.inf, 3)])
def test_draw_box_draws_nothing_where_there_is_no_box(frame, box):
    image = draw_box(frame, box)
    np.testing.assert_array_equal(image, frame)
    assert image is not frame


def test_response_inset_is_top_right_and_peaks_where_the_map_does(frame):
    before = frame.copy()
    response = np.zeros((31, 31), np.float32)
    response[3:8, 20:25] = 1.0  # up and to the right of the middle
    image = response_inset(frame, response, fraction=0.6)
    side = 27
    changed = painted(frame, image)
    assert changed[:side, -side:].mean() > 0.99
    assert not changed[side:].any() and not changed[:, :-side].any()
    inset = image[:side, -side:].astype(int)
    row, column = np.unravel_index((inset[:, :, 2] - inset[:, :, 0]).argmax(), (side, side))
    assert row == pytest.approx(5 / 31 * side, abs=3)
    assert column == pytest.approx(22 / 31 * side, abs=3)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    "response", [np.zeros((5, 5)), np.full((4, 6), np.nan), np.array([[0, np.inf], [1, np.nan]])]
)
def test_response_inset_of_an_odd_map(frame, response):
    with np.errstate(all="raise"):
        assert response_inset(frame, response).shape == frame.shape


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(5, 3, (2, 3)), (6, 3, (2, 3)), (2, 4, (1, 2)), (1, 1, (1, 1))]
)
def test_contact_sheet(rng, count, columns, grid):
    frames = list(rng.integers(0, 255, (count, 7, 9, 3), np.uint8))
    sheet = contact_sheet(frames, columns, gap=2)
    assert sheet.shape == (grid[0] * 9 - 2, grid[1] * 11 - 2, 3)
    for index, frame in enumerate(frames):
        row, column = divmod(index, grid[1])
        np.testing.assert_array_equal(
            sheet[row * 9 : row * 9 + 7, column * 11 : column * 11 + 9], frame
        )
    frames_area = sum(frame[..., 0].size for frame in frames)
    assert (sheet == 255).all(axis=2).sum() == sheet[..., 0].size - frames_area


def test_contact_sheet_refuses(rng):
    frame = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([])
    with pytest.raises(ValueError, match="share one shape"):
        contact_sheet([frame, frame.transpose(1, 0, 2)])
    with pytest.raises(ValueError, match="share one shape"):
        contact_sheet([frame, frame[:3]])
    with pytest.raises(ValueError, match="columns must be positive"):
        contact_sheet([frame], columns=0)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 5)), np.zeros((4, 5, 3)), np.zeros((4, 5, 4), np.uint8), None]
)
def test_only_uint8_bgr_frames(bad, tmp_path):
    for draw in (
        lambda: draw_box(bad, (0, 0, 1, 1)),
        lambda: response_inset(bad, np.zeros((3, 3))),
        lambda: contact_sheet([bad]),
        lambda: VideoWriter(tmp_path / "a.mp4", 25).write(bad),
    ):
        with pytest.raises(TypeError, match="frame must be uint8 .height, width, 3., got"):
            draw()


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_video_writer(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    levels = [20, 90, 160, 230]
    with VideoWriter(path, 12.5) as writer:
        for level in levels:
            writer.write(np.full((45, 61, 3), level, np.uint8))
        assert not path.exists()  # nothing half-written under the name
    frames, fps = read_video(path)
    assert fps == pytest.approx(12.5, rel=1e-3)
    assert [frame.shape for frame in frames] == [(46, 62, 3)] * 4  # filled up to even sizes
    assert [frame[5:40, 5:55].mean() for frame in frames] == pytest.approx(levels, abs=4)
    assert list(tmp_path.iterdir()) == [path]


def test_video_writer_keeps_what_it_has(tmp_path, frame):
    path = tmp_path / "a.mp4"
    with pytest.raises(RuntimeError), VideoWriter(path, 25) as writer:
        writer.write(frame)
        writer.write(frame)
        raise RuntimeError
    assert len(read_video(path)[0]) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_video_writer_without_frames_writes_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_video_writer_refuses(tmp_path, frame):
    with pytest.raises(ValueError, match="a video must end in .mp4, .avi"):
        VideoWriter(tmp_path / "a.txt", 25)
    with pytest.raises(ValueError, match="there is no folder"):
        VideoWriter(tmp_path / "missing" / "a.mp4", 25)
    with pytest.raises(ValueError, match="fps must be positive"):
        VideoWriter(tmp_path / "a.mp4", 0)
    with (
        pytest.raises(ValueError, match="frame must have the shape"),
        VideoWriter(tmp_path / "b.mp4", 25) as writer,
    ):
        writer.write(frame)
        writer.write(frame.transpose(1, 0, 2))


def test_video_that_cannot_be_opened(tmp_path, frame):
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
        from dcfnet_np.vision.video import VideoWriter
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
