"""Whether videos to learn from are also in a benchmark, by their pictures.

Every frame of the benchmark and some of each video are reduced to 64 bits (the signs of the lowest
frequencies of a 32 x 32 gray picture, a "perceptual hash"), which survive another size, quality and
brightness.  A video that was cropped or mirrored is not found, nor are crops as those of a training
set that was cut before.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dcfnet_np import datasets
from dcfnet_np.support.workers import map_in_order
from dcfnet_np.vision.images import decode_image

SAMPLE = 16  # frames of a video that are looked at
NEAR = 8  # bits of 64 that may differ
SHARE = 0.25  # of these frames that must be in one sequence of the benchmark
FLAT = 4.0  # grey levels: standard deviation of a frame that shows nothing to compare


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


def find_duplicates(
    samples: Mapping[tuple[Path, ...], str],
    benchmarks: Sequence[str | Path],
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, str]:
    """{video that is in the benchmarks: where, and how many of its frames}.

    samples: {some frames: name of the video}.  benchmarks: folders of any format of
    `dcfnet_np.datasets`.
    """
    videos: list[tuple[str, Sequence[Path]]] = [(name, fs) for fs, name in samples.items()]
    for folder in benchmarks:
        videos += [(f"{folder}: {s.name}", s.frames) for s in datasets.load_dataset(folder)]
    total, done = sum(len(frames) for _, frames in videos), 0
    hashes = map_in_order(picture_hash, (path for _, frames in videos for path in frames), workers)
    seen: list[tuple[str, np.ndarray]] = []
    for name, frames in videos:
        values = [next(hashes) for _ in frames]
        done += len(frames)
        progress("pictures", done, total)
        seen.append((name, np.array([value for value in values if value is not None], np.uint64)))
    found = {}
    for name, ours in seen[: len(samples)]:
        for benchmark, theirs in seen[len(samples) :]:
            if len(ours) and len(theirs):
                differ = np.bitwise_count(ours[:, None] ^ theirs).min(axis=1)
                alike = int((differ <= NEAR).sum())
                if alike >= SHARE * len(ours):
                    found[name] = f"{benchmark}, {alike} of {len(ours)} frames"
    return found
