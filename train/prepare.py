"""Annotated sequences -> crops.h5 (see `crops`): around every target one square crop, as the
tracker would take it.

The window is the target's box times 1 + padding on each axis (padding 2: three times the box),
`size` x `size` pixels, zero outside the frame; around it lie `margin` pixels more on each side, at
the same scale, for augmentation.  Both crops of a training pair are centred, so the wanted response
always peaks at 0.

Frames that show no target, whose window is of one colour, or that do not decode, are left out and
counted by reason. Sequences are read as `dcfnet_np.datasets` reads them, one at a time,
and their frames in blocks, so memory holds a few blocks, whatever the size of the set.
"""

import hashlib
import itertools
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcfnet_np import datasets
from dcfnet_np.support.files import WriteError, check_output
from dcfnet_np.support.workers import map_in_order
from dcfnet_np.tracking.features import extremes_of_windows, is_flat
from dcfnet_np.train import detections, overlap
from dcfnet_np.train.crops import (
    FORMAT_VERSION,
    VALIDATION_SHARE,
    Crops,
    CropWriter,
    held_out,
    read_crops,
)
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.images import SourceError, read_image

__all__ = ["Crops", "Item", "cut", "fault", "plan", "prepare", "read_crops"]

BLOCK = 32  # frames that a worker cuts at a time
MARGIN = 24  # pixels around a window of 125
SMALLEST = 20  # pixels of a crop
LARGEST_NUMBER = 2**31 - 1  # of a frame, in the file
# inside the frame it is of one colour, see `tracking.features.is_flat`
NOTHING = "the window shows nothing"
log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # (what is done, how many so far, of how many)


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Item(NamedTuple):
    """A sequence to be cut, known by what does not weigh much; it is read again when its turn
    comes.
    """

    name: str  # unique in the file
    entry: datasets.Entry
    target: int  # which sequence of the entry
    video: str
    frames: int
    source: str  # digest of boxes, labels, and names and sizes of the frames
    sample: tuple[Path, ...]  # some of its frames, for `overlap`


class Block(NamedTuple):
    """Some frames of a sequence, and where the target is in them; picklable."""

    frames: tuple[Path, ...]
    boxes: np.ndarray  # (k, 4) 0-based
    hidden: np.ndarray  # (k,) bool, by the data set's labels
    # (k) widths and heights of the frames, 0 where they are not known
    sizes: Sequence[tuple[int, int]]
    size: int
    margin: int
    padding: float


class Cut(NamedTuple):
    """What became of a block."""

    crops: np.ndarray  # (j, 3, stored, stored) uint8, j <= k
    reasons: list[str | None]  # (k,) why there is no crop, or None


def plan(
    folders: Sequence[Path], exclude: Sequence[str] = (), progress: Progress = no_progress
) -> list[Item]:
    """All sequences below the folders, in the order of their videos' names; their annotations are
    read for it.

    Where two have one name, each gets that of its parent folder in front: OTB/Bike and
    Temple-color-128/Bike.
    exclude: names to leave out.  Raises ValueError, one line, for a folder without sequences,
    annotations that cannot be read or do not fit the frames, an unknown name to exclude, and one
    sequence given twice."""
    entries = sorted(
        (entry for folder in folders for entry in _find(folder)),
        key=lambda entry: (entry.name, entry.folder.parent.name, entry.truth),
    )
    left_out: set[str] = set()
    items: list[Item] = []
    for number, entry in enumerate(entries, start=1):
        names = {entry.name, _qualified(entry, entry.name)}
        if names & set(exclude):
            left_out |= names
            continue
        for target, sequence in enumerate(_read(entry)):
            names = {sequence.name, _qualified(entry, sequence.name)}
            if names & set(exclude):
                left_out |= names
            else:
                source, sample = _check_sequence(sequence), overlap.sample(sequence.frames)
                items.append(
                    Item(
                        sequence.name, entry, target, sequence.video, len(sequence), source, sample
                    )
                )
        progress("annotations", number, len(entries))
    unknown = sorted(set(exclude) - left_out)
    if unknown:
        raise ValueError(f"prepare: there is no sequence {', '.join(unknown)} to exclude")
    count = Counter(item.name for item in items)
    items = [
        item._replace(name=_qualified(item.entry, item.name)) if count[item.name] > 1 else item
        for item in items
    ]
    twice = [name for name, number in Counter(item.name for item in items).items() if number > 1]
    if twice or not items:
        got = (
            f"{_shown(twice)}, each more than once; name one of the two folders or files alone"
            if twice
            else "none"
        )
        raise ValueError(f"prepare: sequences must have different names, at least one, got {got}")
    return items


def _find(folder: Path) -> list[datasets.Entry]:
    """The sequences below a folder, or those that annotations of a detector make."""
    try:
        return datasets.find_sequences(folder)
    except datasets.DatasetError as error:
        found = detections.find(folder)
        if not found:
            raise datasets.DatasetError(
                f"{error}; nor a COCO file, nor YOLO's images and labels (dcfnet prepare --help)"
            ) from None
        return found


def _read(entry: datasets.Entry) -> list[datasets.Sequence]:
    return (
        detections.read(entry) if entry.format in ("coco", "yolo") else datasets.read_entry(entry)
    )


def _qualified(entry: datasets.Entry, name: str) -> str:
    return f"{entry.folder.resolve().parent.name}/{name}"


def _check_sequence(sequence: datasets.Sequence) -> str:
    """Digest of what the crops of a sequence are made from; ValueError when boxes and frames do not
    go together.
    """
    if sequence.notes:
        raise ValueError(
            f"prepare: {sequence.name}: {sequence.notes[0].split(';')[0]}; which belong together is not certain: "
            f"mend it, or leave it out with --exclude {sequence.name}"
        )
    frame_numbers(sequence)
    facts = hashlib.sha256(sequence.boxes.tobytes())
    facts.update(b"" if sequence.visible is None else sequence.visible.tobytes())
    facts.update(
        json.dumps([(path.name, path.stat().st_size) for path in sequence.frames]).encode()
    )
    return facts.hexdigest()


def frame_numbers(sequence: datasets.Sequence) -> np.ndarray:
    """The number of each frame, (n,) int32, by `datasets.frame_number`.

    Raises ValueError when a name has none, or when they do not increase.
    """
    if isinstance(sequence, detections.Target):
        numbers: list[int | None] = [*sequence.numbers]
    else:
        numbers = [datasets.frame_number(path) for path in sequence.frames]
    for number, path in zip(numbers, sequence.frames):
        if number is None:
            raise ValueError(f"prepare: frames must have a number in their name, got {path}")
        if abs(number) > LARGEST_NUMBER:
            raise ValueError(
                f"prepare: a frame's number must be at most {LARGEST_NUMBER}, got {number} of {path}; renumber"
            )
    places = np.array(numbers, np.int32)
    wrong = np.flatnonzero(np.diff(places) <= 0)
    if wrong.size:
        raise ValueError(
            f"prepare: frames must be numbered in order, each number once, got {sequence.frames[wrong[0]].name} "
            f"and {sequence.frames[wrong[0] + 1].name} in {sequence.frames[0].parent}"
        )
    return places


def fault(box: np.ndarray, hidden: bool, frame_shape: tuple[int, ...] | None) -> str | None:
    """Why nothing can be learnt from a box (x, y, w, h), 0-based, in a frame of (H, W, 3) if it is
    known, or None.
    """
    if not np.isfinite(box).all():
        return "the target is absent"
    if hidden:
        return "the target is hidden"
    x, y, w, h = box
    if w < 1 or h < 1:
        return "the box is smaller than a pixel"
    if x + w <= 0 or y + h <= 0 or (frame_shape and (x >= frame_shape[1] or y >= frame_shape[0])):
        return "the box is outside the frame"
    return None


def cut(block: Block) -> Cut:
    """The crops of a block of frames."""
    crops, reasons = [], []
    stored = block.size + 2 * block.margin
    for path, box, hidden, size in zip(block.frames, block.boxes, block.hidden, block.sizes):
        reason = fault(box, bool(hidden), None)
        if reason is None:
            try:
                frame = read_image(path, datasets.frame_number(path) or 0)
                wrong = all(size) and frame.shape[:2] != size[::-1]
                reason = (
                    "the image has another size than annotated"
                    if wrong
                    else fault(box, False, frame.shape)
                )
            except SourceError:
                reason = "the frame does not decode"
        if reason is None:
            # Neighbouring pixels of the window lie window / (size - 1) apart; so do those of the
            # margin.
            window = box[2:] * (1 + block.padding) * ((stored - 1) / (block.size - 1))
            centre = tuple(box[:2] + box[2:] / 2)
            crop = crop_patches(frame, centre, window[None], stored, rounded=True)[0].astype(
                np.uint8
            )
            edge, own = slice(block.margin, stored - block.margin), box[2:] * (1 + block.padding)
            pixels = crop[None, :, edge, edge].astype(np.float32)
            if is_flat(extremes_of_windows(pixels, frame.shape, centre, own[None])):
                reason = NOTHING
            else:
                crops.append(crop)
        reasons.append(reason)
    return Cut(np.array(crops, np.uint8).reshape(-1, 3, stored, stored), reasons)


def blocks(sequence: datasets.Sequence, size: int, margin: int, padding: float) -> Iterator[Block]:
    """A sequence in blocks."""
    hidden = np.arange(len(sequence)) < sequence.first
    if sequence.visible is not None:
        hidden |= ~sequence.visible
    sizes = sequence.sizes if isinstance(sequence, detections.Target) else ((0, 0),) * len(sequence)
    for start in range(0, len(sequence), BLOCK):
        part = slice(start, start + BLOCK)
        yield Block(
            sequence.frames[part],
            sequence.boxes[part],
            hidden[part],
            sizes[part],
            size,
            margin,
            padding,
        )


def prepare(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    padding: float = 2.0,
    size: int = 125,
    margin: int = MARGIN,
    validation: float = VALIDATION_SHARE,
    exclude: Sequence[str] = (),
    benchmarks: Sequence[str | Path] = (),
    workers: int = 1,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Write crops.h5 from sequences of any format of `dcfnet_np.datasets`; the file appears whole
    or not at all.

    folders: of data sets or single sequences.  padding, size, margin: see above.  validation: share
    of the videos that is held out, see `crops.held_out`.  exclude: names of sequences to leave out.
     benchmarks: folders of sequences that must not be learnt from: a video that is in both is
    refused, see `overlap`.  workers: processes; the file does not depend on their number.

    A run that was cut leaves NAME.part.h5 and NAME.part.jsonl; called again with the same
    arguments, it goes on from there and ends with the same file.  Sequences called like those of
    OTB or VOT are warned of in the log.
    Returns {"crops": number written, reason: number of frames left out, ...}.  Raises ValueError
    for bad arguments and what `plan` refuses, and when no crop is left; WriteError when the disk is
    full."""
    out = Path(out)
    rules = {
        "padding": (padding, padding > 0, "> 0"),
        "size": (size, size >= SMALLEST, f">= {SMALLEST}"),
        "margin": (margin, margin >= 0, ">= 0"),
        "validation": (validation, 0 <= validation < 1, ">= 0 and < 1"),
        "workers": (workers, workers >= 1, ">= 1"),
        # and so no frame and no ground truth
        "out": (out, out.suffix == ".h5", "a name that ends in .h5"),
    }
    for name, (value, good, expected) in rules.items():
        if not good:
            raise ValueError(f"prepare: {name} must be {expected}, got {value}")
    check_output(out)
    items = plan([Path(folder) for folder in folders], exclude, progress)
    _say_what_makes_no_pairs(items)
    known = overlap.known_names([item.name for item in items])
    if known:
        shown = _shown(f"{name} ({benchmark})" for name, benchmark in known.items())
        log.warning(
            "called like sequences of benchmarks: %s; where they are the same videos, exclude them",
            shown,
        )
    if benchmarks:
        samples: dict[tuple[Path, ...], str] = {}
        for item in items:  # several targets of one video are its name
            samples[item.sample] = item.entry.name if item.sample in samples else item.name
        overlap.refuse(samples, benchmarks, workers, progress)

    settings = {"format": FORMAT_VERSION, "padding": padding, "size": size, "margin": margin}
    expected_keys = [(item.name, item.source) for item in items]
    with CropWriter(out, settings, size + 2 * margin, expected_keys) as writer:
        try:
            _write(writer, items, settings, workers, progress)
            skipped = writer.skipped()
            if skipped[NOTHING]:
                found = {record.name: record.skipped.get(NOTHING, 0) for record in writer.records}
                log.warning(
                    "%s in frames of %s",
                    NOTHING,
                    _shown(f"{n} ({k})" for n, k in found.items() if k),
                )
            if writer.count == 0:
                writer.discard()
                raise ValueError(f"prepare: no frame can be used ({dict(skipped)})")
            videos = [item.video for item in items]
            attributes = {**settings, "skipped": json.dumps(skipped)}
            writer.finish(videos, held_out(videos, validation), attributes)
        except WriteError as full:
            kept = f"{len(writer.records)} of {len(items)} sequences are kept, and the same command goes on from there"
            raise WriteError(f"{full}; {kept}") from full
    return {"crops": writer.count, **skipped}


def _say_what_makes_no_pairs(items: Sequence[Item]) -> None:
    """Warn of annotations of single images, which are read but make no pair."""
    stills = Counter(
        item.entry.truth
        for item in items
        if item.frames == 1 and item.entry.format in ("coco", "yolo")
    )
    for truth, count in stills.items():
        log.warning(
            "%s: %d objects are in one image each, which no track id links; they make no pair",
            truth,
            count,
        )
    if all(item.frames == 1 for item in items):
        log.warning(
            "no sequence has two frames, so these crops make no pair, and train will refuse them"
        )


def _shown(words: Iterable[str]) -> str:
    """The first 20 of these words."""
    words = list(words)
    return ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")


def _write(
    writer: CropWriter,
    items: Sequence[Item],
    settings: dict[str, float],
    workers: int,
    progress: Progress,
) -> None:
    """Cut and write the sequences that are not there yet."""
    left = items[len(writer.records) :]
    size, margin, padding = int(settings["size"]), int(settings["margin"]), settings["padding"]
    under_way: deque[datasets.Sequence] = deque()

    def tasks() -> Iterator[Block]:
        for entry, targets in itertools.groupby(left, key=lambda item: item.entry):
            sequences = _read(entry)
            for item in targets:
                sequence = sequences[item.target]
                if len(sequence) != item.frames:
                    raise ValueError(
                        f"prepare: {item.name} has changed while it was read; start again"
                    )
                under_way.append(sequence)
                yield from blocks(sequence, size, margin, padding)

    total = sum(item.frames for item in items)
    done = total - sum(item.frames for item in left)
    progress("frames", done, total)
    results = map_in_order(cut, tasks(), workers)
    for item in left:
        reasons: list[str | None] = []
        while len(reasons) < item.frames:
            result = next(results)
            writer.add(result.crops)
            reasons += result.reasons
            done += len(result.reasons)
            progress("frames", done, total)
        sequence = under_way.popleft()
        for path, reason in zip(sequence.frames, reasons):
            if reason is not None:
                log.info("%s skipped: %s", path, reason)
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        writer.end_sequence(
            frame_numbers(sequence)[kept],
            sequence.boxes[kept],
            dict(Counter(reason for reason in reasons if reason is not None)),
        )
