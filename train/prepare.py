"""Annotated sequences -> crops.h5 (see `crops`): around every target one square crop, as the
tracker would take it.

Both crops of a training pair are centred, so the wanted response always peaks at 0.  Frames that
show no target, whose window is of one colour, or that do not decode, are left out and counted by
reason.  Sequences are read as `dcfnet_np.datasets` reads them, one at a time, and their
frames in blocks, so memory holds a few blocks, whatever the size of the set.
"""

import hashlib
import itertools
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcfnet_np import datasets
from dcfnet_np.support.files import WriteError, check_output
from dcfnet_np.support.words import counted
from dcfnet_np.support.workers import map_in_order
from dcfnet_np.tracking.features import extremes_of_windows, is_flat
from dcfnet_np.train import detections, duplicates
from dcfnet_np.train.crops import FORMAT_VERSION, VALIDATION_SHARE, CropWriter, held_out_videos
from dcfnet_np.vision.crop import crop_patches
from dcfnet_np.vision.images import SourceError, read_image

BLOCK = 32  # frames that a worker cuts at a time
SMALLEST = 20  # pixels of a crop
LARGEST_NUMBER = 2**31 - 1  # of a frame, in the file
log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # (what is done, how many so far, of how many)


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Window(NamedTuple):
    """What is cut around a target.

    The target's box times 1 + padding on each axis (padding 2: three times the box) is the window
    of `size` x `size` pixels, zero outside the frame.  Around it lie `margin` pixels more on each
    side, at the same scale, for augmentation.
    """

    padding: float = 2.0
    size: int = 125
    margin: int = 24

    @property
    def stored(self) -> int:
        """Pixels of a side with the margins."""
        return self.size + 2 * self.margin


class Item(NamedTuple):
    """A sequence to be cut, known by what does not weigh much; it is read again in its turn."""

    name: str  # unique in the file
    entry: datasets.Entry
    target: int  # which sequence of the entry
    video: str
    frames: int
    source: str  # digest of boxes, labels, and names and sizes of the frames
    sample: tuple[Path, ...]  # some of its frames, for `duplicates`


class Frame(NamedTuple):
    """A frame of a sequence, and where the target is in it."""

    path: Path
    box: np.ndarray  # (4,) 0-based
    hidden: bool  # by the data set's labels
    size: tuple[int, int]  # width and height by the annotations, 0 where not known


def prepare_crops(
    folders: Sequence[str | Path],
    out: str | Path,
    window: Window = Window(),  # noqa: B008  a NamedTuple does not change
    *,
    validation: float = VALIDATION_SHARE,
    exclude: Sequence[str] = (),
    benchmarks: Sequence[str | Path] = (),
    workers: int = 1,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Write crops.h5 from annotated sequences; the file appears whole or not at all.

    folders: of data sets or single sequences.  validation: share of the videos that is held out,
    see `held_out_videos`.  exclude: names of sequences to leave out.  benchmarks: folders of
    sequences that must not be learnt from: a video that is in both is refused, see `duplicates`.
    workers: processes; the file does not depend on their number.

    A run that was cut leaves NAME.part.h5 and NAME.part.jsonl; called again with the same
    arguments, it goes on from there and ends with the same file.  Returns {"crops": number written,
    reason: number of frames left out, ...}.  Raises ValueError for bad arguments and what
    `plan_sequences` refuses, and when no crop is left; WriteError when the disk is full.
    """
    out = Path(out)
    _check_arguments(window, validation, workers, out)
    items = plan_sequences([Path(folder) for folder in folders], exclude, progress)
    stills = sum(item.frames == 1 for item in items)
    if stills:
        log.warning("%d targets are in one image each, which no track id links: no pair", stills)
    if benchmarks:
        samples: dict[tuple[Path, ...], str] = {}
        for item in items:  # several targets of one video are its name
            samples[item.sample] = item.entry.name if item.sample in samples else item.name
        found = duplicates.find_duplicates(samples, benchmarks, workers, progress)
        if found:
            shown = "; ".join(f"{name} is {where}" for name, where in [*found.items()][:3])
            raise ValueError(
                f"prepare: what shall be learnt from is in a benchmark: {shown}; leave it out: "
                f"--exclude {','.join(found)}"
            )

    settings = {"format": FORMAT_VERSION, **window._asdict()}
    expected = [(item.name, item.source) for item in items]
    with CropWriter(out, settings, window.stored, expected) as writer:
        try:
            _cut_and_write(writer, items, window, workers, progress)
            skipped = writer.skipped()
            if writer.count == 0:
                writer.discard()
                raise ValueError(f"prepare: no frame can be used ({dict(skipped)})")
            videos = [item.video for item in items]
            attributes = {**settings, "skipped": json.dumps(skipped)}
            writer.finish(videos, held_out_videos(videos, validation), attributes)
        except WriteError as full:
            kept = f"{len(writer.records)} of {counted(len(items), 'sequence')} kept"
            raise WriteError(f"{full}; {kept}, and the same command goes on from there") from full
    return {"crops": writer.count, **skipped}


def _check_arguments(window: Window, validation: float, workers: int, out: Path) -> None:
    rules = {
        "padding": (window.padding, window.padding > 0, "> 0"),
        "size": (window.size, window.size >= SMALLEST, f">= {SMALLEST}"),
        "margin": (window.margin, window.margin >= 0, ">= 0"),
        "validation": (validation, 0 <= validation < 1, ">= 0 and < 1"),
        "workers": (workers, workers >= 1, ">= 1"),
        # and so no frame and no ground truth
        "out": (out, out.suffix == ".h5", "a name that ends in .h5"),
    }
    for name, (value, good, wanted) in rules.items():
        if not good:
            raise ValueError(f"prepare: {name} must be {wanted}, got {value}")
    check_output(out)


# --- which sequences


def plan_sequences(
    folders: Sequence[Path], exclude: Sequence[str] = (), progress: Progress = no_progress
) -> list[Item]:
    """All sequences below the folders, by the names of their videos; reads annotations.

    Where two have one name, each gets that of its parent folder in front: OTB/Bike and
    Temple-color-128/Bike.  exclude: names to leave out, with the folder or without.  Raises
    ValueError, one line, for a folder without sequences, annotations that cannot be read or do not
    fit the frames, an unknown name to exclude, and one sequence given twice.
    """
    entries = sorted(
        (entry for folder in folders for entry in _find_entries(folder)),
        key=lambda entry: (entry.name, entry.folder.parent.name, entry.truth),
    )
    items: list[Item] = []
    unknown = set(exclude)

    def is_excluded(entry: datasets.Entry, name: str) -> bool:
        names = {name, _in_folder(entry, name)} & set(exclude)
        unknown.difference_update(names)
        return bool(names)

    for number, entry in enumerate(entries, start=1):
        sequences = [] if is_excluded(entry, entry.name) else _read_entry(entry)
        for target, sequence in enumerate(sequences):
            if not is_excluded(entry, sequence.name):
                items.append(_item(entry, target, sequence))
        progress("annotations", number, len(entries))
    if unknown:
        raise ValueError(f"prepare: there is no sequence {', '.join(sorted(unknown))} to exclude")
    count = Counter(item.name for item in items)
    items = [
        item._replace(name=_in_folder(item.entry, item.name)) if count[item.name] > 1 else item
        for item in items
    ]
    ((name, most),) = Counter(item.name for item in items).most_common(1) or [("no sequence", 0)]
    if most != 1:
        raise ValueError(
            f"prepare: each sequence must be there once, got {name} {most} times; name one of the "
            "folders or files alone"
        )
    return items


def _find_entries(folder: Path) -> list[datasets.Entry]:
    """The sequences below a folder, or those that annotations of a detector make."""
    try:
        return datasets.find_sequences(folder)
    except datasets.DatasetError as error:
        found = detections.find_annotations(folder)
        if not found:
            raise datasets.DatasetError(
                f"{error}; nor a COCO file, nor YOLO's images and labels (dcfnet prepare --help)"
            ) from None
        return found


def _read_entry(entry: datasets.Entry) -> list[datasets.Sequence]:
    read = detections.read_annotations if entry.format in ("coco", "yolo") else datasets.read_entry
    return read(entry)


def _in_folder(entry: datasets.Entry, name: str) -> str:
    return f"{entry.folder.resolve().parent.name}/{name}"


def _item(entry: datasets.Entry, target: int, sequence: datasets.Sequence) -> Item:
    """ValueError when the sequence's boxes and frames do not go together."""
    name = sequence.name
    if sequence.notes:
        raise ValueError(
            f"prepare: {name}: {sequence.notes[0].split(';')[0]}; which belong together is not "
            f"certain: mend it, or leave it out with --exclude {name}"
        )
    frame_numbers(sequence)
    facts = hashlib.sha256(sequence.boxes.tobytes())
    facts.update(b"" if sequence.visible is None else sequence.visible.tobytes())
    files = [(path.name, path.stat().st_size) for path in sequence.frames]
    facts.update(json.dumps(files).encode())
    sample = duplicates.sample_frames(sequence.frames)
    return Item(name, entry, target, sequence.video, len(sequence), facts.hexdigest(), sample)


def frame_numbers(sequence: datasets.Sequence) -> np.ndarray:
    """The number of each frame, (n,) int32, by `datasets.frame_number`.

    Raises ValueError when a name has none, or when they do not increase.
    """
    numbers: list[int | None] = (
        [*sequence.numbers]
        if isinstance(sequence, detections.Target)
        else [datasets.frame_number(path) for path in sequence.frames]
    )
    last = -LARGEST_NUMBER - 1
    for number, path in zip(numbers, sequence.frames):
        if number is None or not last < number <= LARGEST_NUMBER:
            raise ValueError(
                f"prepare: frames must have numbers in their names, each a higher one, at most "
                f"{LARGEST_NUMBER}, got {path} with number {number}; renumber"
            )
        last = number
    return np.array(numbers, np.int32)


# --- cutting


def box_fault(
    box: np.ndarray, hidden: bool, frame_shape: tuple[float, ...] = (np.inf, np.inf)
) -> str | None:
    """Why nothing can be learnt from a box (x, y, w, h), 0-based, or None.

    frame_shape: (H, W, 3) of its frame if it is known.
    """
    if not np.isfinite(box).all():
        return "the target is absent"
    if hidden:
        return "the target is hidden"
    x, y, w, h = box
    if w < 1 or h < 1:
        return "the box is smaller than a pixel"
    if x + w <= 0 or y + h <= 0 or x >= frame_shape[1] or y >= frame_shape[0]:
        return "the box is outside the frame"
    return None


def cut_block(frames: Sequence[Frame], window: Window) -> list[np.ndarray | str]:
    """The crop of each frame, (3, stored, stored) uint8, or why there is none."""
    return [_cut_frame(*frame, window) for frame in frames]


def _cut_frame(
    path: Path, box: np.ndarray, hidden: bool, annotated: tuple[int, int], window: Window
) -> np.ndarray | str:
    reason = box_fault(box, hidden)
    if reason:
        return reason  # before the frame is read
    try:
        frame = read_image(path, datasets.frame_number(path) or 0)
    except SourceError:
        return "the frame does not decode"
    if all(annotated) and frame.shape[:2] != annotated[::-1]:
        return "the image has another size than annotated"
    reason = box_fault(box, hidden, frame.shape)
    if reason:
        return reason
    stored, own = window.stored, box[2:] * (1 + window.padding)
    # Neighbouring pixels of the window lie window / (size - 1) apart; so do those of the margin.
    size = own * ((stored - 1) / (window.size - 1))
    centre = tuple(box[:2] + box[2:] / 2)
    crop = crop_patches(frame, centre, size[None], stored, rounded=True)[0].astype(np.uint8)
    inner = slice(window.margin, stored - window.margin)
    pixels = crop[None, :, inner, inner].astype(np.float32)
    if is_flat(extremes_of_windows(pixels, frame.shape, centre, own[None])):
        return "the window shows nothing"  # inside the frame it is of one colour
    return crop


def _blocks(sequence: datasets.Sequence) -> Iterator[list[Frame]]:
    """A sequence, BLOCK frames at a time."""
    hidden = np.arange(len(sequence)) < sequence.first
    if sequence.visible is not None:
        hidden |= ~sequence.visible
    unknown = ((0, 0),) * len(sequence)
    sizes = sequence.sizes if isinstance(sequence, detections.Target) else unknown
    frames = [*map(Frame, sequence.frames, sequence.boxes, hidden, sizes)]
    for start in range(0, len(frames), BLOCK):
        yield frames[start : start + BLOCK]


def _cut_and_write(
    writer: CropWriter, items: Sequence[Item], window: Window, workers: int, progress: Progress
) -> None:
    """Cut and write the sequences that are not there yet."""
    left = items[len(writer.records) :]
    under_way: deque[datasets.Sequence] = deque()

    def tasks() -> Iterator[list[Frame]]:
        for entry, targets in itertools.groupby(left, key=lambda item: item.entry):
            sequences = _read_entry(entry)
            for item in targets:
                sequence = sequences[item.target]
                if len(sequence) != item.frames:
                    raise ValueError(
                        f"prepare: {item.name} has changed while it was read; start again"
                    )
                under_way.append(sequence)
                yield from _blocks(sequence)

    total = sum(item.frames for item in items)
    done = total - sum(item.frames for item in left)
    progress("frames", done, total)
    results = map_in_order(partial(cut_block, window=window), tasks(), workers)
    for item in left:
        kept, skipped, number = [], Counter[str](), 0
        while number < item.frames:
            for result in next(results):
                if isinstance(result, str):
                    log.info("%s skipped: %s", under_way[0].frames[number], result)
                    skipped[result] += 1
                else:
                    writer.add(result)
                    kept.append(number)
                number += 1
            progress("frames", done + number, total)
        done += number
        sequence = under_way.popleft()
        writer.end_sequence(frame_numbers(sequence)[kept], sequence.boxes[kept], dict(skipped))
