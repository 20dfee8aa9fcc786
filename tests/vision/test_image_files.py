"""Which images of a folder are frames, and in which order."""

import random
import warnings
from pathlib import Path

import pytest
from scenes import make_frames, write_images

from dcfnet_np.support.words import counted
from dcfnet_np.vision.image_files import SourceWarning, frames_among, image_files, natural_order
from dcfnet_np.vision.images import SourceError
from dcfnet_np.vision.sources import open_source


def names_of(files, folder="walk"):
    """The frames among files of these names, given in a random order: names, and the warnings."""
    paths = [Path(folder) / name for name in files]
    random.Random(7).shuffle(paths)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = [path.relative_to(folder).as_posix() for path in frames_among(paths)]
    assert all(one.category is SourceWarning and "\n" not in str(one.message) for one in caught)
    return frames, [str(one.message) for one in caught]


SURE = {  # in the right order
    "counters": [f"f{i}.png" for i in range(13)],
    "padded and overflowing": ["f98.png", "f99.png", "f100.png"],
    "seconds of one width": [f"{i // 4}.{25 * (i % 4):02d}.png" for i in range(9)],
    "dates and times": [
        f"2024-01-{time}.00.png" for time in ("02_10.30", "02_10.31", "02_11.04", "10_01.00")
    ],
    "versions": ["1.2.8.png", "1.2.9.png", "1.2.11.png", "1.9.1.png", "1.11.1.png"],
    "nanoseconds": [f"1700000000.1234567{i}.png" for i in (88, 89, 91)],
    "signs": [f"frame_{i}.png" for i in range(-11, 3)],
    "signs of one of two numbers": ["x1_-5.png", "x1_3.png", "x2_-7.png", "x2_4.png"],
    "a minus that parts": [f"shot-{i}.png" for i in range(1, 12)],
    "copies": ["IMG_1234.jpg", "IMG_1234-1.jpg", "IMG_1234-2.jpg", "IMG_1235.jpg"],
    "case": [("img%02d.png", "IMG%02d.PNG")[i % 2] % i for i in range(12)],
    "letters behind one number": ["v2_a.png", "v2_b.png", "v2_c.png"],
    "words that hold others": ["0001.png", "0001_labeled.png"],
    "no digits of ASCII": ["٣.png", "٤.png"],
}  # fmt: skip


@pytest.mark.parametrize("kind", SURE)
def test_order_that_is_sure(kind):
    assert names_of(SURE[kind]) == (SURE[kind], [])


DOUBTFUL = {  # in the order taken: also what a reader could have meant otherwise
    "seconds": [f"t{i * 0.25:g}.png" for i in range(9)],
    "time.time()": [f"{1700000000 + i * 0.125!r}.png" for i in range(9)],
    "decimal commas": ["t0,125.png", "t0,25.png", "t0,5.png"],
    "signed seconds": [f"{i * 0.25:g}.png" for i in range(-5, 3)],
    "a sign behind a letter": [f"T{i}.png" for i in range(-11, 3)],
    "nothing but minus": [f"_-{i}.png" for i in range(1, 12)],
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_order_that_is_doubtful(kind):
    frames, (said,) = names_of(DOUBTFUL[kind])
    assert frames == DOUBTFUL[kind]
    a, b = said.removeprefix("walk: ").split(";")[0].split(" is taken before ")
    assert frames.index(a) < frames.index(b)


MASKS = {  # frames, then masks
    "png beside jpg": (["0001.jpg", "0002.jpg", "0003.JPEG"], ["0001.png", "0002.PNG", "0003.bmp"]),
    "some": (["0001.jpg", "0002.jpg", "0003.png"], ["0001.png"]),
    "words behind": (["0001.png", "0002.png"], ["0001_mask.png", "0002-GT.png", "0002.depth.tif"]),
    "words in front": (["img_0001.jpg", "img_0002.jpg"], ["mask_1.png", "seg 0002.png"]),
    "jpg too": (["0001.jpg", "0002.jpg"], ["0001_mask.jpg"]),
    "without numbers": (["img.png", "other.png"], ["img_mask.png"]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_left_out(kind):
    frames, masks = MASKS[kind]
    found, (said,) = names_of(frames + masks)
    assert found == frames
    beside = f"{counted(len(masks), 'image')} beside frames, like {min(masks)}"
    assert said.startswith(f"walk: {beside}, left out as masks")


@pytest.mark.parametrize("name", ["{}_{:04d}.png", "{1:04d}_{0}.png"])
def test_two_series_are_told_of(name):
    files = [name.format(side, number) for side in ("left", "right") for number in (1, 2)]
    frames, (said,) = names_of(files)
    assert sorted(frames) == sorted(files)
    a, b = (name.format(side, 1) for side in ("left", "right"))
    assert said.startswith(f"walk: {a} and {b} have the same number")


def test_one_folder_after_the_other():
    files = [f"9CAM/{i}.png" for i in (9998, 9999)] + [f"10CAM/{i}.png" for i in (1, 2)]
    files += [f"10CAM/b/{i}.png" for i in (1, 2)]
    files += [f"11CAM/{folder}/{i}.png" for folder in (2, 10) for i in (1, 2)] + ["12CAM/1/1.png"]
    assert names_of(files) == (files, [])
    # no mask: elsewhere
    assert names_of(["a/0001.jpg", "b/0001.png"]) == (["a/0001.jpg", "b/0001.png"], [])


def test_sequences_are_in_natural_order():
    for names in ("2 3cars car car1 Car2 car2-1 car10 car10.5 Dog dog_",
                  "David David2 David2b David3 girl Girl2"):  # fmt: skip
        files = [Path(name) for name in names.split()]
        assert sorted(reversed(files), key=natural_order) == files


def test_a_folder(tmp_path, rng):
    write_images(tmp_path, make_frames(rng, 3), "f{}.png", start=9)
    write_images(tmp_path, make_frames(rng, 1), "._f{}.png", start=9)  # a Mac's shadow of a file
    (tmp_path / "notes.txt").write_text("no frame")
    assert [file.name for file in image_files(tmp_path)] == ["f9.png", "f10.png", "f11.png"]
    assert image_files(tmp_path / "nowhere") == []


# --- patterns ---


def opened(pattern):
    """The level of gray of each frame: how frames are told apart here."""
    with open_source(str(pattern)) as source:
        return [int(frame[0, 0, 0]) for frame in source]


@pytest.fixture
def levels(rng):
    frames = make_frames(rng, 6)
    frames[:] = (rng.permutation(6) * 40).astype(frames.dtype)[:, None, None, None]
    return frames


@pytest.mark.parametrize("folder", ["[2024] shots", "100% %d", "a*b", "plain"])
@pytest.mark.parametrize(
    "pattern", ["*.png", "%04d.png", "????.png", "%d.png", "000[1-6].png", "**/*.png"]
)
def test_folders_with_special_letters(tmp_path, levels, folder, pattern):
    write_images(tmp_path / folder, levels)
    assert opened(tmp_path / folder / pattern) == levels[:, 0, 0, 0].tolist()


def test_a_file_with_brackets_is_meant_before_a_class(tmp_path, levels):
    write_images(tmp_path, levels[:3], "[ab]_{}.png")
    write_images(tmp_path, levels[3:], "a_{}.png")
    assert opened(tmp_path / "[ab]_*.png") == levels[:3, 0, 0, 0].tolist()
    assert opened(tmp_path / "[ab]_%d.png") == levels[:3, 0, 0, 0].tolist()
    assert opened(tmp_path / "[a]_*.png") == levels[3:, 0, 0, 0].tolist()


def test_a_printf_number_is_nothing_but_a_number(tmp_path, levels):
    write_images(tmp_path, levels[:2], "a{:03d}.png", start=999)
    write_images(tmp_path, levels[2:3], "a-02.png")
    write_images(tmp_path, levels[3:4], "a001_mask.png")
    write_images(tmp_path, levels[4:5], "a01.png")
    with pytest.warns(SourceWarning, match="a-02.png is taken before a999.png"):
        assert opened(tmp_path / "a%03d.png") == levels[[2, 0, 1], 0, 0, 0].tolist()
    with pytest.raises(SourceError, match="matches no image"):
        open_source(str(tmp_path / "b%03d.png"))


@pytest.mark.parametrize("pattern", ["*/*.png", "**/*.png", "10?CAM/IMG_%04d.png"])
def test_a_pattern_over_folders(tmp_path, levels, pattern):
    write_images(tmp_path / "DCIM/100CAM", levels[:3], "IMG_{:04d}.png", start=9997)
    write_images(tmp_path / "DCIM/101CAM", levels[3:], "IMG_{:04d}.png")
    assert opened(tmp_path / "DCIM" / pattern) == levels[:, 0, 0, 0].tolist()
