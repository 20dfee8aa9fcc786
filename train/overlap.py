"""Whether videos to learn from are also in a benchmark: by their names, and by their pictures where
they are at hand.

Names are a hint only: Bird1 of UAV123 and Bird1 of OTB are different videos.  Pictures decide.
Every frame of the benchmark and some of each video are reduced to 64 bits (the signs of the lowest
frequencies of a 32 x 32 gray picture, a "perceptual hash"), which survive another size, quality and
brightness.  A video that was cropped or mirrored is not found, nor are crops as those of a training
set that was cut before."""

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
# grey levels: a frame whose standard deviation is less shows nothing that could be compared
FLAT = 4.0

OTB = """
    Basketball Biker Bird1 Bird2 BlurBody BlurCar1 BlurCar2 BlurCar3 BlurCar4 BlurFace BlurOwl Board Bolt Bolt2 Box
    Boy Car1 Car2 Car24 Car4 CarDark CarScale ClifBar Coke Couple Coupon Crossing Crowds Dancer Dancer2 David David2
    David3 Deer Diving Dog Dog1 Doll DragonBaby Dudek FaceOcc1 FaceOcc2 Fish FleetFace Football Football1 Freeman1
    Freeman3 Freeman4 Girl Girl2 Gym Human2 Human3 Human4 Human5 Human6 Human7 Human8 Human9 Ironman Jogging Jump
    Jumping KiteSurf Lemming Liquor Man Matrix Mhyang MotorRolling MountainBike Panda RedTeam Rubik Shaking Singer1
    Singer2 Skater Skater2 Skating1 Skating2 Skiing Soccer Subway Surfer Suv Sylvester Tiger1 Tiger2 Toy Trans
    Trellis Twinnings Vase Walking Walking2 Woman
"""
VOT = """
    agility animal ants1 ants3 bag ball ball1 ball2 ball3 basketball bicycle birds1 birds2 blanket bmx bolt bolt1
    bolt2 book bubble butterfly car car1 car2 conduction1 crabs1 crossing cup david dinosaur diver diving dribble
    drone1 drone_across drone_flip drunk face fernando fish1 fish2 fish3 fish4 flamingo1 frisbee girl glove
    godfather graduate gymnastics gymnastics1 gymnastics2 gymnastics3 gymnastics4 hand hand1 hand02 hand2 handball1
    handball2 helicopter iceskater iceskater1 iceskater2 jogging juice jump kangaroo lamb leaves marathon marching
    matrix monkey motocross motocross1 motocross2 nature octopus pedestrian1 pedestrian2 polarbear polo rabbit
    rabbit2 racing road rowing shaking sheep singer singer1 singer2 singer3 skating snake soccer1 soccer2 soldier
    sphere sunshade surfing tennis tiger torus traffic trellis tunnel wheel wiper woman zebrafish1
"""  # of the short-term challenges 2013 to 2022


def known_names(names: Sequence[str]) -> dict[str, str]:
    """{name: benchmark} of those names that OTB-100 or a VOT challenge has too.

    Case, what is no letter and no digit, a folder, a target's number and a prefix are left aside:
    "otb/Jogging.2" and "uav_bird1" are known.
    """
    benchmarks = {
        "VOT": {_plain(name) for name in VOT.split()},
        "OTB": {_plain(name) for name in OTB.split()},
    }
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


def sample(frames: Sequence[Path]) -> tuple[Path, ...]:
    """At most SAMPLE frames of a video, evenly spaced."""
    return tuple(
        frames[index] for index in np.unique(np.linspace(0, len(frames) - 1, SAMPLE).astype(int))
    )


def picture_hash(path: Path) -> int | None:
    """64 bits for a picture, alike for pictures that look alike; None for one that is flat or does
    not decode.
    """
    import cv2

    try:  # decoded at a quarter of its size, where its format can do that
        gray = decode_image(path.read_bytes(), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except OSError:
        return None
    if gray is None or gray.std() < FLAT:
        return None
    low = cv2.dct(cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[
        :8, :8
    ].reshape(-1)
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


class Overlap(NamedTuple):
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


def find(
    samples: Mapping[tuple[Path, ...], str],
    benchmarks: Sequence[str | Path],
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Overlap]:
    """Videos, {some frames: name}, that are in the benchmarks: folders of any format of
    `dcfnet_np.datasets`.
    """
    sequences: list[tuple[str, Sequence[Path]]] = [
        (f"{folder}: {sequence.name}", sequence.frames)
        for folder in benchmarks
        for sequence in datasets.load_dataset(folder)
    ]
    videos: list[tuple[str, Sequence[Path]]] = [
        *((name, frames) for frames, name in samples.items()),
        *sequences,
    ]
    total = sum(len(frames) for _, frames in videos)
    hashes = map_in_order(picture_hash, (path for _, frames in videos for path in frames), workers)
    seen: list[tuple[str, list[Path], np.ndarray]] = []
    done = 0
    for name, frames in videos:
        found = {path: next(hashes) for path in frames}
        done += len(frames)
        progress("pictures", done, total)
        kept = {path: value for path, value in found.items() if value is not None}
        seen.append((name, list(kept), np.array(list(kept.values()), np.uint64)))
    overlaps = []
    for name, mine, ours in seen[: len(samples)]:
        for benchmark, others, theirs in seen[len(samples) :]:
            if not len(ours) or not len(theirs):
                continue
            differ = np.bitwise_count(ours[:, None] ^ theirs)
            near = np.flatnonzero(differ.min(axis=1) <= NEAR)
            if len(near) >= SHARE * len(ours):
                alike = others[int(differ[near[0]].argmin())]
                overlaps.append(
                    Overlap(name, benchmark, len(near), len(ours), mine[near[0]], alike)
                )
    return overlaps


def refuse(
    samples: Mapping[tuple[Path, ...], str],
    benchmarks: Sequence[str | Path],
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> None:
    """Raise ValueError, one line, when `find` finds a video in the benchmarks."""
    overlaps = find(samples, benchmarks, workers, progress)
    if overlaps:
        shown = "; ".join(map(str, overlaps[:3])) + (
            f"; and {len(overlaps) - 3} more" if len(overlaps) > 3 else ""
        )
        names = ",".join(dict.fromkeys(overlap.name for overlap in overlaps))
        raise ValueError(
            f"what shall be learnt from is in a benchmark: {shown}; leave it out: --exclude {names}"
        )
