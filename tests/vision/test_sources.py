"""Sources: every kind of input, and every way in which one can be bad."""

import numpy as np
import pytest
from scenes import make_frames, write_images, write_video

from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.sources import open_source


def fails(spec, message, **options):
    """The message of the SourceError that opening and reading `spec` raises, and the frames before
    it.
    """
    got = []
    with (
        pytest.raises(SourceError, match=message) as caught,
        open_source(spec, **options) as source,
    ):
        got.extend(source)
    assert "\n" not in str(caught.value)
    return got


# --- folders and patterns ---


def test_folder_in_natural_order(tmp_path, rng):
    frames = make_frames(rng, 12)
    write_images(tmp_path / "walk", frames, "f{}.png")  # f10 after f9, not after f1
    (tmp_path / "walk" / "notes.txt").write_text("no frame")
    with open_source(tmp_path / "walk") as source:
        assert (source.name, source.length, source.fps) == ("walk", 12, 25.0)
        assert source.boxes is None and source.first_box is None
        np.testing.assert_array_equal(np.stack(list(source)), frames)
        np.testing.assert_array_equal(np.stack(list(source)), frames)  # and again


@pytest.mark.parametrize(
    "pattern", ["walk/a*.png", "walk/a%03d.png", "walk/a%d.png", "walk/a00[0-9].png"]
)
def test_pattern(tmp_path, rng, pattern):
    frames = make_frames(rng)
    write_images(tmp_path / "walk", frames, "a{:03d}.png")
    write_images(tmp_path / "walk", frames[:1], "b{:03d}.png")
    with open_source(str(tmp_path / pattern)) as source:
        assert (source.name, source.length) == ("walk", 5)
        np.testing.assert_array_equal(np.stack(list(source)), frames)


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path, rng):
    write_images(tmp_path / "take[1]", make_frames(rng, 2))
    assert open_source(tmp_path / "take[1]").length == 2


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (99, 5)])
def test_max_frames_counts_the_first(tmp_path, rng, limit, expected):
    frames = make_frames(rng)
    write_images(tmp_path / "a", frames)
    write_video(tmp_path / "a.avi", frames, "MJPG")
    for spec in (tmp_path / "a", tmp_path / "a.avi"):
        with open_source(spec, max_frames=limit) as source:
            assert source.length == expected
            assert len(list(source)) == expected


def test_max_frames_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="max_frames must be at least 1, got 0"):
        open_source(tmp_path, max_frames=0)


@pytest.mark.parametrize(
    "wrong", [None, 1.5, b"walk", ["a.png", "b.png"], np.zeros((2, 4, 5, 3), np.uint8)]
)
def test_what_is_no_source_is_named(wrong):
    kind = type(wrong).__name__
    with pytest.raises(
        TypeError, match=f"^a source is given by a path, an address or a camera index, got {kind}$"
    ):
        open_source(wrong)


def test_an_empty_name_is_not_the_current_folder(tmp_path, rng, monkeypatch):
    write_images(tmp_path, make_frames(rng))
    monkeypatch.chdir(tmp_path)
    fails(
        "",
        "^the name of the source is empty; give a video file, a camera index, a folder or a pattern of images$",
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_rounded(tmp_path, rng, suffix, channels):
    image = rng.integers(0, 2**16, (9, 7, channels), np.uint16)
    write_images(tmp_path, [image], "1" + suffix)
    (frame,) = open_source(tmp_path)
    np.testing.assert_array_equal(frame, np.broadcast_to(np.rint(image / 257), frame.shape))


def stored(kind, frame):
    """(file suffix, image to write, BGR image to expect) of one kind of frame."""
    gray = frame[:, :, 0]
    if kind == "gray":
        return ".png", gray, np.dstack([gray] * 3)
    if kind == "bgra":
        return ".png", np.dstack([frame, gray]), frame
    if kind == "16-bit":
        return ".png", frame.astype(np.uint16) * 257, frame
    if kind == "16-bit gray":
        return ".png", gray.astype(np.uint16) * 257, np.dstack([gray] * 3)
    if kind == "16-bit tiff":
        return ".tiff", gray.astype(np.uint16) * 257, np.dstack([gray] * 3)
    if kind == "float gray":
        return ".tif", gray.astype(np.float32) / 255, np.dstack([gray] * 3)
    return ".tif", frame.astype(np.float32) / 255, frame


@pytest.mark.parametrize(
    "kind", ["gray", "bgra", "16-bit", "16-bit gray", "16-bit tiff", "float gray", "float"]
)
def test_every_kind_of_image_becomes_bgr(tmp_path, rng, kind):
    suffix, image, expected = stored(kind, make_frames(rng, 1)[0])
    write_images(tmp_path / "a", [image], "{}" + suffix)
    (frame,) = open_source(tmp_path / "a")
    assert frame.dtype == np.uint8 and frame.flags.c_contiguous
    np.testing.assert_array_equal(frame, expected)


# --- sequences ---


@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_otb_sequence_is_one_based(tmp_path, rng, separator):
    write_images(tmp_path / "Car" / "img", make_frames(rng, 3))
    rows = [(21, 11, 16, 12), (22.5, 12, 16, 12), (np.nan,) * 4]
    text = "\n".join(separator.join(str(value) for value in row) for row in rows)
    (tmp_path / "Car" / "groundtruth_rect.txt").write_text(text)
    with open_source(tmp_path / "Car") as source:
        assert (source.name, source.length) == ("Car", 3)
        assert source.first_box == (20.0, 10.0, 16.0, 12.0)
        expected = [(20, 10, 16, 12), (21.5, 11, 16, 12), (np.nan,) * 4]
        np.testing.assert_array_equal(source.boxes, expected)
        assert len(list(source)) == 3
    with open_source(tmp_path / "Car", max_frames=2) as source:
        assert source.boxes.shape == (2, 4)


@pytest.mark.parametrize("folder", [".", "color", "img"])
@pytest.mark.parametrize("name", ["groundtruth.txt", "groundtruth_poly.txt"])
def test_vot_sequence_with_polygons(tmp_path, rng, folder, name):
    write_images(tmp_path / "bag" / folder, make_frames(rng, 2), "{:08d}.jpg")
    (tmp_path / "bag" / name).write_text("5,1,9,4,6,8,2,5\nnan,nan,nan,nan,nan,nan,nan,nan\n")
    with open_source(tmp_path / "bag") as source:
        np.testing.assert_array_equal(source.boxes, [(2, 1, 7, 7), (np.nan,) * 4])
        assert len(list(source)) == 2


def test_vot_sequence_with_rectangles_is_zero_based(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 1))
    (tmp_path / "groundtruth.txt").write_text("20,10,16,12\n")
    assert open_source(tmp_path).first_box == (20.0, 10.0, 16.0, 12.0)


def test_groundtruth_rect_wins(tmp_path, rng):
    write_images(tmp_path / "img", make_frames(rng, 1))
    (tmp_path / "groundtruth_poly.txt").write_text("5,1,9,4,6,8,2,5\n")
    (tmp_path / "groundtruth.txt").write_text("2,1,7,7\n")
    (tmp_path / "groundtruth_rect.txt").write_text("31,41,5,6\n")
    assert open_source(tmp_path).first_box == (30.0, 40.0, 5.0, 6.0)


def test_one_row_of_ground_truth_is_the_first_box(tmp_path, rng):
    write_images(tmp_path / "img", make_frames(rng, 4))
    (tmp_path / "groundtruth_rect.txt").write_text("31,41,5,6\n")
    source = open_source(tmp_path)
    assert source.length == 4 and source.boxes.shape == (4, 4) and np.isnan(source.boxes[1:]).all()


def test_more_rows_than_frames_are_cut(tmp_path, rng):
    write_images(tmp_path / "img", make_frames(rng, 2))
    (tmp_path / "groundtruth_rect.txt").write_text("31,41,5,6\n" * 9)
    assert open_source(tmp_path).boxes.shape == (2, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,2,3,4\n1,2,3,4\n",
            "3 frames but 2 rows in groundtruth_rect.txt, which does not say for which; remove",
        ),
        ("", "holds no boxes"),
        ("1,2,3\n" * 3, "expected 4 numbers a row, or 6, 8, ... for a polygon, got 3"),
        ("n 1 2 3\n" * 3, "line 1: expected numbers, got 'n'"),
        ("1,2,3,4\n1,2\n1,2,3,4\n", "line 2: expected 4 numbers a row, .*, got 2"),
    ],
)
def test_bad_ground_truth(tmp_path, rng, text, message):
    write_images(tmp_path / "img", make_frames(rng, 3))
    (tmp_path / "groundtruth_rect.txt").write_text(text)
    fails(tmp_path, message)
    fails(tmp_path, "groundtruth_rect.txt")


@pytest.mark.parametrize("text", ["m 1 2 3\n" * 3, "1,2,3,4\n1,2,3,4\n", ""])
def test_bad_ground_truth_that_nobody_needs(tmp_path, rng, text):
    write_images(tmp_path / "img", make_frames(rng, 3))
    (tmp_path / "groundtruth_rect.txt").write_text(text)
    with open_source(tmp_path, need_truth=False) as source:
        assert source.boxes is None and "groundtruth_rect.txt" in source.truth_error
        assert len(list(source)) == 3
    (tmp_path / "groundtruth_rect.txt").write_text("1,2,3,4\n" * 3)
    with open_source(tmp_path, need_truth=False) as source:
        assert source.boxes.shape == (3, 4) and source.truth_error == ""


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
        with pytest.raises(SourceError, match="^walk is closed; open it again"):
            next(frames)


def test_real_sequences_open(data_dir):
    for folder in sorted((data_dir / "sequences").iterdir()):
        if not folder.is_dir():
            continue
        with open_source(folder) as source:
            assert source.boxes.shape == (source.length, 4)
            first = next(iter(source))
            assert first.ndim == 3 and first.dtype == np.uint8


# --- videos and cameras ---


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_video(tmp_path, rng, name, codec):
    frames = make_frames(rng, 8)
    write_video(tmp_path / name, frames, codec)
    with open_source(tmp_path / name) as source:
        assert (source.name, source.length, source.fps) == ("a", 8, 20.0)
        assert source.boxes is None
        first, again = np.stack(list(source)), np.stack(list(source))
    assert first.shape == frames.shape and first.dtype == np.uint8
    assert np.abs(first.astype(float) - frames).mean() < 12  # lossy, but these frames in this order
    np.testing.assert_array_equal(first, again)


def test_camera_that_does_not_open():
    fails(63, "^camera 63 cannot be opened; check that it is plugged in")
    fails("63", "^camera 63 cannot be opened")


# --- bad input ---


def test_missing(tmp_path):
    fails(tmp_path / "no.mp4", "no.mp4 does not exist; give a video file")


@pytest.mark.parametrize("content", [b"", b"not a video\0" * 100])
def test_undecodable_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    fails(
        tmp_path / "a.mp4",
        "a.mp4 cannot be decoded as a video; check that the file is a complete video",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.txt", "50,40,24,20\n" * 900),  # FFmpeg makes a video of letters of it
        ("a.mp4", "Größe"),
        ("notes.nfo", "\ufeffx\n".encode("utf-16-le")),
        ("list.txt", "ffconcat version 1.0\nfile 'other.avi'\n"),
    ],
)
def test_a_text_is_no_video(tmp_path, rng, name, text):
    write_video(tmp_path / "other.avi", make_frames(rng, 3), "MJPG")
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    fails(
        tmp_path / name,
        f"{name} is a text, no video; give a video file, or a folder or pattern of images$",
    )


def test_video_cut_short_gives_its_frames_first(tmp_path, rng):
    write_video(tmp_path / "a.avi", make_frames(rng, 40), "MJPG")
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    got = fails(
        tmp_path / "a.avi",
        r"frame \d+ of .*a.avi is not there: the file is cut short, \d+ bytes are missing",
    )
    assert 10 < len(got) < 30


def test_empty_folder(tmp_path):
    fails(
        tmp_path,
        "holds no images; known layouts: uav123, .*, vot .docs/howto/evaluation.md.; found: nothing",
    )
    (tmp_path / "groundtruth_rect.txt").write_text("1,2,3,4\n")
    (tmp_path / "img").mkdir()
    fails(tmp_path, "holds no images")


def test_pattern_that_matches_nothing(tmp_path):
    fails(str(tmp_path / "*.jpg"), "matches no image")
    (tmp_path / "a.txt").write_text("")
    fails(str(tmp_path / "*"), "matches no image")


def test_single_image(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 1))
    fails(tmp_path / "0001.png", "is a single image; give its folder or a pattern")


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_first_frame_undecodable(tmp_path, rng, content):
    write_images(tmp_path, make_frames(rng, 3))
    (tmp_path / "0001.png").write_bytes(content)
    assert fails(tmp_path, "frame 1 .*0001.png. does not decode as an image") == []


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_frame_undecodable_midway(tmp_path, rng, content):
    frames = make_frames(rng, 4)
    write_images(tmp_path, frames)
    (tmp_path / "0003.png").write_bytes(content)
    got = fails(
        tmp_path, "^frame 3 .*0003.png. does not decode as an image; replace it or leave it out$"
    )
    np.testing.assert_array_equal(np.stack(got), frames[:2])


def test_frame_vanishes_midway(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 3))
    with (
        pytest.raises(SourceError, match="frame 2 .*0002.png. cannot be read"),
        open_source(tmp_path) as source,
    ):
        (tmp_path / "0002.png").unlink()
        list(source)


def test_frame_of_values_that_cannot_be_used(tmp_path, rng):
    write_images(tmp_path, [make_frames(rng, 1)[0].astype(np.float32) + 7], "{}.tif")
    fails(tmp_path, "frame 1 .*1.tif. cannot be used: ")


@pytest.mark.parametrize("shape", [(64, 48), (32, 96), (96, 32), (48, 63), (47, 64)])
def test_a_frame_of_another_shape_midway(tmp_path, rng, shape):
    write_images(tmp_path, make_frames(rng, 2))
    write_images(tmp_path, [rng.integers(0, 256, (*shape, 3), np.uint8)], start=3)
    got = fails(
        tmp_path, f"^frame 3 .*0003.png. is {shape[1]}x{shape[0]} pixels, those before it 64x48"
    )
    assert len(got) == 2


def test_frame_changes_size_midway(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 3))
    write_images(tmp_path, make_frames(rng, 1, height=40), start=4)
    got = fails(
        tmp_path,
        "^frame 4 .*0004.png. is 64x40 pixels, those before it 64x48; all frames must have one",
    )
    assert len(got) == 3
