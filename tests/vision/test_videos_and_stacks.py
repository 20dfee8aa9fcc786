"""What files say of themselves, and what sources make of it: damaged videos, stacks of pages."""

import io
import struct
import warnings

import cv2
import numpy as np
import pytest
from scenes import make_frames, promise_more_frames, write_images, write_video

from dcfnet_np.vision.image_files import SourceWarning
from dcfnet_np.vision.images import SourceError, is_animated, tiff_pages
from dcfnet_np.vision.sources import open_source
from dcfnet_np.vision.video import count_packets, missing_bytes

COUNT = 40
VIDEOS = [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.mkv", "mp4v")]


@pytest.fixture(params=VIDEOS, ids=[name for name, _ in VIDEOS])
def video(request, tmp_path, rng):
    name, codec = request.param
    write_video(tmp_path / name, make_frames(rng, COUNT), codec)
    return tmp_path / name


def index_first(path):
    """An .mp4 or .mov with its index in front, as videos for the web have it."""
    data = path.read_bytes()
    at = data.index(b"moov") - 4
    first = struct.unpack(">I", data[:4])[0]
    moov = bytearray(data[at:])
    where = moov.index(b"stco")
    (count,) = struct.unpack_from(">I", moov, where + 8)
    for entry in range(where + 12, where + 12 + 4 * count, 4):
        struct.pack_into(">I", moov, entry, struct.unpack_from(">I", moov, entry)[0] + len(moov))
    path.write_bytes(data[:first] + moov + data[first:at])


def read(path, **options):
    """Frames of a source, the SourceError that ended it or "", and the warnings."""
    got, error = [], ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_source(path, **options) as source:
            try:
                got.extend(source)
            except SourceError as ended:
                error = str(ended)
    assert all(one.category is SourceWarning for one in caught)
    return got, error, [str(one.message) for one in caught]


def test_a_whole_video_lacks_nothing(video):
    assert missing_bytes(video) == 0 and count_packets(video) == COUNT
    if video.suffix in (".mp4", ".mov"):
        index_first(video)
    got, error, said = read(video)
    assert (len(got), error, said) == (COUNT, "", [])
    video.write_bytes(video.read_bytes() + b"behind" * 9)
    assert missing_bytes(video) == 0


@pytest.mark.parametrize("lacking", [1, 3000])
def test_a_video_cut_short(video, lacking):
    if video.suffix in (".mp4", ".mov"):
        index_first(video)
    video.write_bytes(video.read_bytes()[:-lacking])
    assert missing_bytes(video) == lacking
    got, error, said = read(video)
    # all there: an index at the end, or the last byte of the last picture
    if not (lacking == 1 and len(got) == COUNT and error == ""):
        assert 10 < len(got) < COUNT
        cut = f"is not there: the file is cut short, {lacking} bytes"
        assert error.startswith(f"frame {len(got) + 1} of {video} {cut}")
    assert said == []
    before, error, _ = read(video, max_frames=5)
    assert len(before) == 5 and error == ""  # nobody has asked for the rest


@pytest.mark.parametrize(("factor", "warned"), [(1.02, False), (3, True), (700, True)])
def test_a_header_that_tells_of_more_frames(tmp_path, rng, factor, warned):
    """Sound that is longer than the picture, a clock that starts late: the video is whole."""
    path = tmp_path / "a.mkv"
    write_video(path, make_frames(rng, COUNT), "mp4v")
    promise_more_frames(path, factor)
    got, error, said = read(path)
    assert (len(got), error, len(said)) == (COUNT, "", warned)
    text = f"{path} ends after 40 frames, though its header tells of {COUNT * factor}"
    assert not warned or said[0].startswith(text)
    assert count_packets(path) == COUNT


def test_a_varying_rate_is_no_early_end(tmp_path, rng):
    """By the rate in the header half of the frames are there; the last one stands at the end."""
    path = tmp_path / "a.mkv"
    write_video(path, make_frames(rng, COUNT), "mp4v")
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83\x84") + 4  # the duration of a frame
    assert struct.unpack_from(">I", data, at) == (50_000_000,)
    struct.pack_into(">I", data, at, 25_000_000)
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.length == 2 * COUNT and source.fps == 40
    got, error, said = read(path)
    assert (len(got), error, said) == (COUNT, "", [])


def test_an_avi_counts_its_pictures(tmp_path, rng):
    path = tmp_path / "a.avi"
    write_video(path, make_frames(rng, COUNT), "MJPG")
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(len(data) - half))
    got, error, said = read(path)
    assert 10 < len(got) < 30 and said == []
    text = f"frame {len(got) + 1} of {path} does not decode, but the file counts 40 frames; check"
    assert error.startswith(text)


EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = EBML + b"\x81\x42\x18\x53\x80\x67"
FTYP = b"\0\0\0\x08ftyp"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"RIFF", 0),
        (b"RIFF\x10\0\0\0AVI ", 12),
        (b"RIFF\x04\0\0\0AVI RIFF\x64\0\0\0AVIX", 96),  # more than 1 GB: several of them
        (b"RIFF\xff\xff\xff\xffAVI ", 0),  # not ended yet
        (FTYP + b"\0\0\0\x20mdat", 24),
        (FTYP + b"\0\0\0\x20free", 0),  # nobody needs that
        (FTYP + b"\0\0\0\0mdat", 0),  # up to the end
        (FTYP + b"\0\0\0\x04mdatmoov", 0),  # no box is so small
        (FTYP + b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0", 2**32 + 8 - 24),
        (SEGMENT + b"\x40\x20", 32),
        (SEGMENT + b"\xff" + bytes(9), 0),  # not known
        (SEGMENT + b"\x01" + b"\xff" * 7, 0),
        (EBML + b"\x00\x42\x18\x53", 0),
        (EBML, 0),
        (b"G" * 188, 0),
    ],
)
def test_missing_bytes(tmp_path, data, expected):
    (tmp_path / "a").write_bytes(data)
    assert missing_bytes(tmp_path / "a") == expected
    assert missing_bytes(tmp_path / "gone") == 0


def test_a_name_that_looks_like_an_address(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.avi", make_frames(rng, 3), "MJPG")
    (tmp_path / "in.avi").rename("10:30.avi")
    assert len(read("10:30.avi")[0]) == 3


# --- several pictures in one file


KINDS = {
    "8 bits": lambda frame: frame,
    "gray": lambda frame: frame[..., 1],
    "16 bits": lambda frame: frame.astype(np.uint16) * 257,
    "float": lambda frame: frame.astype(np.float32) / 255,
}


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_frames(tmp_path, rng, kind):
    frames, path = make_frames(rng, 7), tmp_path / "stäck.tif"
    assert cv2.imwritemulti(str(path), [KINDS[kind](frame) for frame in frames])
    expected = np.repeat(frames[..., 1:2], 3, axis=3) if kind == "gray" else frames
    with open_source(path) as source:
        assert (source.name, source.length) == ("stäck", 7)
        for _ in range(2):
            np.testing.assert_array_equal(np.stack(list(source)), expected)
    with open_source(path, start=1, every=2, max_frames=2) as source:
        assert [frame.number for frame in source.frames()] == [1, 3]


def test_a_stack_in_a_folder_is_refused(tmp_path, rng):
    frames = make_frames(rng, 3)
    write_images(tmp_path, frames, "{}.tif")
    cv2.imwritemulti(str(tmp_path / "3.tif"), list(frames))
    got, error, _ = read(tmp_path)
    advice = "give the file itself, whose pages are frames, or a file for each"
    assert len(got) == 2 and error == f"frame 3 ({tmp_path / '3.tif'}) has 3 pages; {advice}"


def pages_of(order, big, kinds):
    """A TIFF without pictures: pages of these NewSubfileTypes, None for no such entry."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    data = head + (struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8))
    entry, where = order + ("HHQI4x" if big else "HHII"), order + ("Q" if big else "I")
    for index, kind in enumerate(kinds):
        tags = [(256, 64)] if kind is None else [(254, kind), (256, 64)]
        data += struct.pack(order + ("Q" if big else "H"), len(tags))
        data += b"".join(struct.pack(entry, tag, 4, 1, value) for tag, value in tags)
        after = len(data) + struct.calcsize(where)
        data += struct.pack(where, after if index + 1 < len(kinds) else 0)
    return data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_thumbnails_are_no_pages(order, big):
    data = pages_of(order, big, [0, 1, None, 2, 3])
    assert tiff_pages(io.BytesIO(data)) == [0, 2, 3]
    assert tiff_pages(io.BytesIO(pages_of(order, big, [1, 0]))) == [1]
    assert tiff_pages(io.BytesIO(pages_of(order, big, [None]))) == [0]
    for length in range(len(data)):  # damaged: no exception, and no more pages than there are
        assert len(tiff_pages(io.BytesIO(data[:length]))) <= 3


def test_pages_in_a_circle():
    data = pages_of("<", False, [0, 0])[:-4] + struct.pack("<I", 8)
    assert tiff_pages(io.BytesIO(data)) == [0, 1]


def gray_tiff(*images):
    """Gray images without compression, all but the largest marked as reduced copies."""
    largest = max(image.size for image in images)
    data = b"II*\0" + struct.pack("<I", 8)
    for number, image in enumerate(images, 1):
        (height, width), pixels = image.shape, len(data) + 2 + 12 * 9 + 4
        tags = {254: image.size < largest, 256: width, 257: height, 258: 8, 259: 1, 262: 1}
        tags |= {273: pixels, 278: height, 279: image.size}
        data += struct.pack("<H", 9)
        data += b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in tags)
        after = pixels + image.size if number < len(images) else 0
        data += struct.pack("<I", after) + image.tobytes()
    return data


@pytest.mark.parametrize("order", [(0,), (0, 1), (1, 0), (1, 0, 1)])
def test_a_thumbnail_is_not_the_frame(tmp_path, rng, order):
    images = [make_frames(rng, 1)[0, ..., 0], np.full((20, 30), 9, np.uint8)]
    (tmp_path / "1.tif").write_bytes(gray_tiff(*(images[index] for index in order)))
    (frame,) = open_source(tmp_path)
    np.testing.assert_array_equal(frame, np.dstack([images[0]] * 3))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animations(tmp_path, rng, suffix):
    frames = make_frames(rng, 3)
    write_images(tmp_path, frames, f"{{}}.{suffix}")
    assert not is_animated((tmp_path / f"1.{suffix}").read_bytes())
    if suffix == "webp":  # with an alpha channel its first chunk is that of an animation
        (tmp_path / "alpha").mkdir()
        image, path = np.dstack([frames[0], frames[0, ..., 0]]), tmp_path / "alpha/1.webp"
        assert cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, 60])
        data = path.read_bytes()
        assert b"VP8X" in data[:16] and not any(is_animated(data[:length]) for length in range(99))
        assert len(read(tmp_path / "alpha")[0]) == 1
    animation = cv2.Animation()
    animation.frames, animation.durations = list(frames), np.full(3, 40, np.int32)
    assert cv2.imwriteanimation(str(tmp_path / f"2.{suffix}"), animation)
    got, error, _ = read(tmp_path)
    assert len(got) == 1
    assert "is an animation; make a video of it, or a file for each picture" in error
