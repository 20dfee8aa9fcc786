"""Whether videos to learn from are also in a benchmark: by their names, and by their pictures.

Names are a hint only: Bird1 of UAV123 and Bird1 of OTB are different videos.  Pictures decide.
Every frame of the benchmark and some of each video are reduced to 64 bits (the signs of the lowest
frequencies of a 32 x 32 gray picture, a "perceptual hash"), which survive another size, quality and
brightness.  A video that was cropped or mirrored is not found, nor are crops as those of a training
set that was cut before.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcfnet_np import datasets
from dcfnet_np.support.workers import map_in_order
from dcfnet_np.vision.images import decode_image

SAMPLE = 16  # frames of a video that are looked at
NEAR = 8  # bits of 64 that may differ
SHARE = 0.25  # of these frames that must be in one sequence of the benchmark
FLAT = 4.0  # grey levels: standard deviation of a frame that shows nothing to compare


def benchmark_names() -> dict[str, list[str]]:
    """The sequences of OTB-100, and of VOT's short-term challenges from 2013 to 2022."""
    return json.loads(Path(__file__).with_name("benchmark_names.json").read_text())


def known_names(names: Sequence[str]) -> dict[str, str]:
    """{name: benchmark} of those names that OTB-100 or a VOT challenge has too.

    Case, what is no letter and no digit, a folder, a target's number and a prefix are left aside:
    "otb/Jogging.2" and "uav_bird1" are known.
    """
    benchmarks = {key: set(map(_plain, words)) for key, words in benchmark_names().items()}
    known: dict[str, str] = {}
    for name in names:
        stem = name.rsplit("/", 1)[-1]
        stem = stem.rsplit(".", 1)[0] if stem.rsplit(".", 1)[-1].isdigit() else stem
        for benchmark, words in benchmarks.items():
            if words & {_plain(stem), _plain(stem.split("_", 1)[-1])}:
                known[name] = f"{known[name]}, {benchmark}" if name in known else benchmark
    return known


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def sample_frames(frames: Sequence[Path]) -> tuple[Path, ...]:
    """At most SAMPLE frames of a video, evenly spaced."""
    places = np.unique(np.linspace(0, len(frames) - 1, SAMPLE).astype(int))
    return tuple(frames[index] for index in places)


def picture_hash(path: Path) -> int | None:
    """64 bits, alike for pictures that look alike; None for a flat one, or none that decodes."""
    import cv2

    try:  # decoded at a quarter of its size, where its format can do that
        gray = decode_image(path.read_bytes(), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except OSError:
        return None
    if gray is None or gray.std() < FLAT:
        return None
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].reshape(-1)
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


class Duplicate(NamedTuple):
    """A video that a benchmark has too."""

    name: str
    benchmark: str  # folder and sequence
    matches: int  # frames of the sample that are in it
    looked_at: int
    frame: Path  # one of them, and what it is alike
    alike: Path

    def __str__(self) -> str:
        return (
            f"{self.name} is {self.benchmark} ({self.matches} of {self.looked_at} frames, "
            f"like {self.frame} and {self.alike})"
        )


def find_duplicates(
    samples: Mapping[tuple[Path, ...], str],
    benchmarks: Sequence[str | Path],
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Duplicate]:
    """Videos that are in the benchmarks.

    samples: {some frames: name of the video}.  benchmarks: folders of any format of
    `dcfnet_np.datasets`.
    """
    videos: list[tuple[str, Sequence[Path]]] = [(name, fs) for fs, name in samples.items()]
    for folder in benchmarks:
        videos += [(f"{folder}: {s.name}", s.frames) for s in datasets.load_dataset(folder)]
    total, done = sum(len(frames) for _, frames in videos), 0
    hashes = map_in_order(picture_hash, (path for _, frames in videos for path in frames), workers)
    seen: list[tuple[str, list[Path], np.ndarray]] = []
    for name, frames in videos:
        values = [next(hashes) for _ in frames]
        done += len(frames)
        progress("pictures", done, total)
        kept = [(path, value) for path, value in zip(frames, values) if value is not None]
        numbers = np.array([value for _, value in kept], np.uint64)
        seen.append((name, [path for path, _ in kept], numbers))
    found = []
    for name, mine, ours in seen[: len(samples)]:
        for benchmark, others, theirs in seen[len(samples) :]:
            if not len(ours) or not len(theirs):
                continue
            differ = np.bitwise_count(ours[:, None] ^ theirs)
            near = np.flatnonzero(differ.min(axis=1) <= NEAR)
            if len(near) >= SHARE * len(ours):
                alike = others[int(differ[near[0]].argmin())]
                found.append(Duplicate(name, benchmark, len(near), len(ours), mine[near[0]], alike))
    return found


def refuse_duplicates(
    samples: Mapping[tuple[Path, ...], str],
    benchmarks: Sequence[str | Path],
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> None:
    """Raise ValueError, one line, when `find_duplicates` finds a video in the benchmarks."""
    found = find_duplicates(samples, benchmarks, workers, progress)
    if found:
        shown = "; ".join(map(str, found[:3]))
        shown += f"; and {len(found) - 3} more" if len(found) > 3 else ""
        names = ",".join(dict.fromkeys(duplicate.name for duplicate in found))
        raise ValueError(
            f"what shall be learnt from is in a benchmark: {shown}; leave it out: --exclude {names}"
        )
