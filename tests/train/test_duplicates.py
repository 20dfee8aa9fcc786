"""Videos that are in a benchmark: found by their pictures, in another size and quality."""

import cv2
import numpy as np
import pytest
from scenes import make_sequence, write_sequence

from dcfnet_np.train.duplicates import NEAR, find_duplicates, picture_hash
from dcfnet_np.train.prepare import plan_sequences


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A benchmark of two videos; to learn from, one of them in disguise and one that is like
    neither.
    """
    root = tmp_path_factory.mktemp("data")
    for number, name in enumerate(("Known", "Other")):
        frames, boxes = make_sequence(
            np.random.default_rng(number), 30, 320, 240, (72, 56), (4.1, 2.3)
        )
        write_sequence(root / "benchmark" / name, frames, boxes)
        if name == "Known":  # every other frame from the fifth on, smaller, darker, as a poor JPEG
            disguised = [cv2.resize(frame, None, fx=0.7, fy=0.7) for frame in frames[5::2]]
            disguised = [(255 * (frame / 255.0) ** 1.3).astype(np.uint8) for frame in disguised]
            write_sequence(root / "learn/disguise", disguised, boxes[5::2] * 0.7)
            for path, frame in zip(sorted((root / "learn/disguise/img").iterdir()), disguised):
                assert cv2.imwrite(str(path), frame, [cv2.IMWRITE_JPEG_QUALITY, 50])
    frames, boxes = make_sequence(np.random.default_rng(7), 20, 320, 240, (72, 56), (4.1, 2.3))
    write_sequence(root / "learn/innocent", frames, boxes)
    return root


@pytest.mark.parametrize("workers", [1, 2])
def test_a_video_of_a_benchmark_is_refused(data, tmp_path, dcfnet, workers):
    words = ["prepare", data / "learn", "--out", tmp_path / "crops.h5", "--size", 40]
    words += ["--workers", workers]
    code, printed, said = dcfnet(*words, "--benchmarks", data / "benchmark")
    assert (code, printed) == (2, "") and not list(tmp_path.iterdir())
    assert said.count("\n") == 1 and f"disguise is {data / 'benchmark'}: Known, " in said
    assert "innocent" not in said and "--exclude disguise" in said
    other = data / "benchmark/Other"
    code, printed, said = dcfnet(*words, "--benchmarks", other, other)
    assert code == 0, said
    words += ["--exclude", "disguise"]
    code, printed, said = dcfnet(*words, "--benchmarks", data / "benchmark")
    assert (code, said) == (0, "") and "sequences 1" in printed


def test_frames_that_show_nothing_are_like_nothing(tmp_path, data):
    flat = np.full((20, 64, 64, 3), 90, np.uint8)
    for name in ("benchmark", "learn"):
        write_sequence(tmp_path / name / "night", flat, np.tile([10.0, 10, 20, 20], (20, 1)))
        (tmp_path / name / "night/img/0003.jpg").write_bytes(b"")
    assert picture_hash(tmp_path / "learn/night/img/0001.jpg") is None
    samples = {item.sample: item.name for item in plan_sequences([tmp_path / "learn"])}
    assert find_duplicates(samples, [tmp_path / "benchmark"]) == {}


def test_real_videos_are_told_apart(data_dir, tmp_path):
    """Nothing to learn from or to validate with is in the development sequences; a poor copy is
    still alike.
    """
    samples = {
        item.sample: item.name
        for name in ("train", "validation")
        for item in plan_sequences([data_dir / name])
    }
    assert len(samples) == 46
    assert find_duplicates(samples, [data_dir / "sequences"]) == {}
    david = {item.sample: item.name for item in plan_sequences([data_dir / "sequences/David"])}
    pictures = [path for item in plan_sequences([data_dir / "sequences"]) for path in item.sample]
    differ = []
    for path in pictures:
        poor = cv2.resize(cv2.imread(str(path)), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        poor = (255 * (poor / 255.0) ** 0.8).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / "poor.jpg"), poor, [cv2.IMWRITE_JPEG_QUALITY, 60])
        differ.append((picture_hash(path) ^ picture_hash(tmp_path / "poor.jpg")).bit_count())
    assert np.mean(np.array(differ) <= NEAR) > 0.95
    found = find_duplicates(david, [data_dir / "sequences/David", data_dir / "sequences/Girl"])
    assert found["David"].endswith("David, 16 of 16 frames")
