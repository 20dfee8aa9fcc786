"""Sources: every kind of input, and every way in which one can be bad."""

import numpy as np
import pytest
from scenes import make_frames, write_images, write_video

from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.sources import open_source


def fails(spec, message, **options):
    """The frames before the SourceError that opening and reading `spec` raises in one line."""
    got = []
    with (
        pytest.raises(SourceError, match=message) as caught,
        open_source(spec, **options) as source,
    ):
        got.extend(source)
    assert "\n" not in str(caught.value)
    return got


def read(spec):
    with open_source(spec) as source:
        return np.stack(list(source))


# --- what is opened


def test_folder_in_natural_order(tmp_path, rng):
    frames = make_frames(rng, 12)
    write_images(tmp_path / "take[1]", frames, "f{}.png")  # f10 after f9; no pattern
    (tmp_path / "take[1]/notes.txt").write_text("no frame")
    with open_source(tmp_path / "take[1]") as source:
        assert (source.name, source.length, source.fps) == ("take[1]", 12, 25.0)
        assert source.boxes is None and source.first_box is None
        for _ in range(2):
            np.testing.assert_array_equal(np.stack(list(source)), frames)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_video(tmp_path, rng, name, codec):
    frames = make_frames(rng, 8)
    write_video(tmp_path / name, frames, codec)
    with open_source(tmp_path / name) as source:
        assert (source.name, source.length, source.fps) == ("a", 8, 20.0)
        first, again = np.stack(list(source)), np.stack(list(source))
    assert first.shape == frames.shape and first.dtype == np.uint8
    assert np.abs(first.astype(float) - frames).mean() < 12  # lossy, but these frames in this order
    np.testing.assert_array_equal(first, again)


def kinds_of_images(frame):
    """Kind -> (suffix, image to write, whether it shows the frame's first channel alone)."""
    gray, deep = frame[:, :, 0], frame.astype(np.uint16) * 257
    return {
        "gray": (".png", gray, True),
        "bgra": (".png", np.dstack([frame, gray]), False),
        "16-bit": (".png", deep, False),
        "16-bit gray": (".png", deep[:, :, 0], True),
        "16-bit tiff": (".tiff", deep[:, :, 0], True),
        "float gray": (".tif", gray.astype(np.float32) / 255, True),
        "float": (".tif", frame.astype(np.float32) / 255, False),
    }


def test_every_kind_of_image_becomes_bgr(tmp_path, rng):
    frame = make_frames(rng, 1)[0]
    for kind, (suffix, image, is_gray) in kinds_of_images(frame).items():
        write_images(tmp_path / kind, [image], "{}" + suffix)
        (found,) = open_source(tmp_path / kind)
        assert found.dtype == np.uint8 and found.flags.c_contiguous, kind
        np.testing.assert_array_equal(found, np.dstack([frame[:, :, 0]] * 3) if is_gray else frame)


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_closed_source_says_so(tmp_path, rng, kind):
    path = tmp_path / ("walk" if kind == "folder" else "walk.avi")
    frames = make_frames(rng, 3)
    write_images(path, frames) if kind == "folder" else write_video(path, frames, "MJPG")
    source = open_source(path)
    running = iter(source)
    next(running)
    source.close()
    for frames in (running, iter(source)):
        with pytest.raises(SourceError, match=r"^walk is closed; open it again"):
            next(frames)


# --- what is no source


def test_arguments_that_cannot_be(tmp_path):
    for wrong in (None, 1.5, b"walk", ["a.png", "b.png"], np.zeros((2, 4, 5, 3), np.uint8)):
        message = f"by a path, an address or a camera index, got {type(wrong).__name__}$"
        with pytest.raises(TypeError, match=f"^a source is given {message}"):
            open_source(wrong)
    with pytest.raises(ValueError, match="max_frames must be at least 1, got 0"):
        open_source(tmp_path, max_frames=0)
    with pytest.raises(ValueError, match="start and end must not be negative, got -1 and None"):
        open_source(tmp_path, start=-1)


ANY = "give a video file, a camera index, a folder or a pattern of images$"


def test_names_that_lead_nowhere(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails("", f"^the name of the source is empty; {ANY}")
    fails("no.mp4", f"no.mp4 does not exist; {ANY}")
    fails(63, "^camera 63 cannot be opened; check that it is plugged in")
    fails("63", "^camera 63 cannot be opened")
    fails("*.jpg", "matches no image")
    known = "known layouts: uav123, .*, vot .docs/howto/evaluation.md.; found: nothing"
    fails(tmp_path, f"holds no images; {known}")
    (tmp_path / "groundtruth_rect.txt").write_text("1,2,3,4\n")
    (tmp_path / "img").mkdir()
    fails("*", "matches no image")
    fails(tmp_path, "holds no images")
    write_images(tmp_path, make_frames(rng, 1))
    fails("0001.png", "is a single image; give its folder or a pattern")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.txt", b"50,40,24,20\n" * 900),  # FFmpeg makes a video of letters of it
        ("a.mp4", "Größe".encode("latin-1")),
        ("notes.nfo", "\ufeffx\n".encode("utf-16-le")),
        ("list.txt", b"ffconcat version 1.0\nfile 'other.avi'\n"),
    ],
)
def test_a_text_is_no_video(tmp_path, rng, name, text):
    write_video(tmp_path / "other.avi", make_frames(rng, 3), "MJPG")
    (tmp_path / name).write_bytes(text)
    advice = "give a video file, or a folder or pattern of images$"
    fails(tmp_path / name, f"{name} is a text, no video; {advice}")


# --- frames that cannot be had


@pytest.mark.parametrize("content", [b"", b"not an image"])
@pytest.mark.parametrize("number", [1, 3])
def test_undecodable_frames(tmp_path, rng, content, number):
    frames = make_frames(rng, 4)
    write_images(tmp_path, frames)
    (tmp_path / f"000{number}.png").write_bytes(content)
    message = "does not decode as an image; replace it or leave it out$"
    got = fails(tmp_path, f"^frame {number} .*000{number}.png. {message}")
    np.testing.assert_array_equal(got, frames[: number - 1] if got else [])


def test_frame_vanishes_midway(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 3))
    with (
        pytest.raises(SourceError, match=r"frame 2 .*0002.png. cannot be read"),
        open_source(tmp_path) as source,
    ):
        (tmp_path / "0002.png").unlink()
        list(source)


@pytest.mark.parametrize("shape", [(64, 48), (32, 96), (48, 63), (47, 64)])
def test_a_frame_of_another_shape_midway(tmp_path, rng, shape):
    write_images(tmp_path, make_frames(rng, 2))
    write_images(tmp_path, [rng.integers(0, 256, (*shape, 3), np.uint8)], start=3)
    said = f"is {shape[1]}x{shape[0]} pixels, those before it 64x48; all frames must have one size"
    assert len(fails(tmp_path, f"^frame 3 .*0003.png. {said}")) == 2
