"""crops.h5, the file between `prepare` and training: its reader and its writer.

    crops       (n, 3, stored, stored) uint8, BGR, stored = size + 2 * margin; a crop a chunk, one
                behind the other
    box         (n, 4) float64, the target's x, y, w, h in its frame, pixels, 0-based
    sequence    (n,) int32, index into `sequences`
    frame       (n,) int32, number in the frame's file name: the distance in time of two crops
    sequences   (m,) names; videos (m,): which video each is from: it may have several targets
    validation  (m,) bool: gives no training pairs, see `held_out_videos`
    digests     (m,) SHA-256 over the crops of each sequence
    attributes: format, padding, size, margin, skipped (JSON: reason -> count), digest (SHA-256 over
    all crops)

A kill cannot hurt the writer.  While the file is made, `crops.part.h5` holds the pixels alone, from
byte HEAD on, and `crops.part.jsonl` one line for the settings and one for every finished sequence.
HDF5, which bears neither a kill nor a full disk, comes last: it lays its structure around the
pixels that are there, in room that was reserved.
"""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcfnet_np.support.archives import open_hdf5, stored_attributes, stored_dataset
from dcfnet_np.support.files import only_writer, part_of, replacing, sync_and_move, write_errors

FORMAT_VERSION = 2
HEAD = 4096  # bytes before the first pixel, more than HDF5 writes before its first data set
ROOM = 256 << 10  # bytes for HDF5's structure, besides the index; it takes about 50,000
VALIDATION_SHARE = 0.1


class Crops(NamedTuple):
    """The content of crops.h5."""

    crops: np.ndarray  # (n, 3, side, side) uint8, BGR; side = size + 2 * margin
    sequence: np.ndarray  # (n,) index into sequences
    frame: np.ndarray  # (n,) number in the file name
    sequences: tuple[str, ...]
    padding: float  # of the window of `size` pixels: it is 1 + padding times the box
    size: int  # pixels of that window
    digest: str
    margin: int = 0  # pixels that `crops` has on every side beyond the window, at the same scale
    box: np.ndarray = np.empty((0, 4))  # (n, 4) float64, in its frame, 0-based
    validation: np.ndarray = np.empty(0, bool)  # (m,) sequences that give validation pairs only


def held_out_videos(videos: Sequence[str], share: float = VALIDATION_SHARE) -> np.ndarray:
    """Which sequences are for validation, (m,) bool, from the names of their videos.

    A video is held out when the number that SHA-256 makes of its name, evenly spread over 0..1, is
    below `share`.  So it is on the same side in every file, whatever else is in it, and all targets
    of a video are.  Where none is below, the video of the smallest number is held out, unless it is
    the only one.
    """
    hashes = (hashlib.sha256(video.encode()).hexdigest() for video in videos)
    numbers = np.array([int(text[:8], 16) / 2**32 for text in hashes])
    if share == 0 or len(set(videos)) < 2:
        return np.zeros(len(videos), bool)
    return numbers < max(share, np.nextafter(numbers.min(), 1))


def read_crops(path: str | Path) -> Crops:
    """Read crops.h5; `crops` is a map of the file, read where it is indexed.

    So memory need not hold it; it must not be written to, nor the file replaced meanwhile.  Raises
    ValueError, one line, when it is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; make one with dcfnet prepare")
    try:
        return _read_mapped(path)
    except PermissionError:
        raise
    except Exception as error:  # h5py raises almost anything on a damaged file
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} must be a file made by prepare, and it is incomplete or something else "
            f"({reason}); make it again with dcfnet prepare"
        ) from error


def _read_mapped(path: Path) -> Crops:
    """The whole file, its pixels as a map of it."""
    with open_hdf5(path) as file:
        facts = stored_attributes(file, ("format", "padding", "size", "margin", "digest"))
        if int(facts["format"]) != FORMAT_VERSION:
            raise ValueError(f"its format is {int(facts['format'])}")
        pixels = _map_pixels(path, stored_dataset(file, "crops"))
        names = tuple(stored_dataset(file, "sequences").asstr()[:].tolist())
        columns = "sequence", "frame", "box", "validation"
        sequence, frame, box, validation = (stored_dataset(file, name)[:] for name in columns)
    size, margin, padding = int(facts["size"]), int(facts["margin"]), float(facts["padding"])
    n, side = len(frame), size + 2 * margin
    shapes = [value.shape for value in (pixels, sequence, frame, box, validation)]
    if shapes != [(n, 3, side, side), (n,), (n,), (n, 4), (len(names),)]:
        raise ValueError("sizes that do not fit together")
    within = n > 0 and 0 <= sequence.min() <= sequence.max() < len(names)
    whole = sequence.dtype.kind == frame.dtype.kind == "i"
    possible = size > 0 and margin >= 0 and 0 < padding < np.inf and not np.isinf(box).any()
    if not (within and whole and possible):
        raise ValueError("numbers that cannot be")
    held_out = validation != 0  # a damaged byte is neither False nor True
    digest = str(facts["digest"])
    return Crops(pixels, sequence, frame, names, padding, size, digest, margin, box, held_out)


def _map_pixels(path: Path, crops: Any) -> np.ndarray:
    """The pixels of an open data set as a map of its file."""
    last, stride = len(crops) - 1, int(np.prod(crops.shape[1:]))
    first, end = (crops.id.get_chunk_info(k).byte_offset for k in (0, last))
    if end != first + last * stride or crops.dtype != np.uint8:
        raise ValueError("crops that do not lie one behind the other")
    return np.memmap(path, np.uint8, "r", first, crops.shape)


class Record(NamedTuple):
    """What is known of a finished sequence, besides its pixels: a line of the journal."""

    name: str
    source: str  # digest of what it was made from
    frame: list[int]  # of each crop
    box: list[list[float]]  # of each crop; JSON keeps the last bit
    skipped: dict[str, int]  # reason -> count
    digest: str  # SHA-256 over its crops

    def line(self) -> str:
        """As JSON."""
        return json.dumps(self._asdict()) + "\n"


class CropWriter(AbstractContextManager["CropWriter"]):
    """Writes crops.h5 sequence by sequence, and goes on where an earlier run of the same settings
    was cut.

    ::

        with CropWriter(out, settings, side, expected) as writer:
            for ... in expected[len(writer.records):]:
                writer.add(crops)         # as often as wanted
                writer.end_sequence(...)  # from here on it is kept
            writer.finish(...)

    out: the file.  settings: what must be equal for a run to go on, JSON.  side: pixels of a crop.
    expected: (name, source) of every sequence, in order.  Without `finish` the unfinished files
    stay.  WriteError when the disk is full.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], side: int, expected: Sequence[tuple[str, str]]
    ) -> None:
        self.out, self.part = out, part_of(out)
        self.journal = self.part.with_suffix(".jsonl")
        self.records: list[Record] = []
        self._settings, self._expected = json.dumps(settings, sort_keys=True), expected
        self._shape = 3, side, side
        self._bytes = 3 * side * side
        self._all = hashlib.sha256()  # over all crops
        self._one = hashlib.sha256()  # over those of the sequence under way

    @property
    def count(self) -> int:
        """Crops of finished sequences."""
        return sum(len(record.frame) for record in self.records)

    def __enter__(self) -> "CropWriter":
        with write_errors(self.out), ExitStack() as stack:
            stack.enter_context(only_writer(self.out))
            self.part.touch()
            self._file = self.part.open("r+b")  # closed by __exit__
            self._resume()
            self._held = stack.pop_all()
        return self

    def _resume(self) -> None:
        """Take over what an earlier run finished, as far as its pixels are as the journal says."""
        there = self.journal.is_file()
        lines = self.journal.read_text(encoding="utf-8").splitlines() if there else []
        if lines[:1] != [self._settings]:
            lines = []  # of other settings
        self._file.seek(HEAD)
        for line, (name, source) in zip(lines[1:], self._expected):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):  # the line that was being written
                break
            before, one = self._all.copy(), hashlib.sha256()
            for _ in range(len(record.frame)):
                pixels = self._file.read(self._bytes)
                one.update(pixels)
                self._all.update(pixels)
            if (record.name, record.source, record.digest) != (name, source, one.hexdigest()):
                self._all = before
                break
            self.records.append(record)
        kept = [self._settings + "\n", *(record.line() for record in self.records)]
        with replacing(self.journal) as part:
            part.write_text("".join(kept), encoding="utf-8")
        self._file.seek(0)
        self._file.write(bytes(HEAD))
        self._file.truncate(HEAD + self.count * self._bytes)
        self._file.seek(0, os.SEEK_END)

    def add(self, crops: np.ndarray) -> None:
        """Write crops (..., 3, side, side) uint8 of the sequence under way."""
        pixels = crops.tobytes()
        self._one.update(pixels)
        self._all.update(pixels)
        with write_errors(self.out):
            self._file.write(pixels)

    def end_sequence(self, frame: np.ndarray, box: np.ndarray, skipped: dict[str, int]) -> None:
        """All crops of the next expected sequence are written: their frames and boxes."""
        name, source = self._expected[len(self.records)]
        digest, self._one = self._one.hexdigest(), hashlib.sha256()
        record = Record(name, source, frame.tolist(), box.tolist(), skipped, digest)
        with write_errors(self.out):
            self._sync()  # the pixels before the line that speaks of them
            with self.journal.open("a", encoding="utf-8") as stream:
                stream.write(record.line())
                stream.flush()
                os.fsync(stream.fileno())
        self.records.append(record)

    def finish(
        self, videos: Sequence[str], validation: np.ndarray, attributes: dict[str, Any]
    ) -> None:
        """Lay HDF5's structure around the pixels and give the file its name."""
        records = self.records
        lengths = [len(record.frame) for record in records]
        index: dict[str, np.ndarray] = {
            "box": np.concatenate([np.reshape(record.box, (-1, 4)) for record in records]),
            "sequence": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "frame": np.concatenate([np.array(record.frame, np.int32) for record in records]),
            "sequences": _text([record.name for record in records]),
            "videos": _text(videos),
            "validation": np.asarray(validation, bool),
            "digests": _text([record.digest for record in records]),
        }
        facts = {"format": FORMAT_VERSION, "digest": self._all.hexdigest(), **attributes}
        with write_errors(self.out):
            for _ in range(-(-(ROOM + sum(array.nbytes for array in index.values())) // ROOM)):
                self._file.write(bytes(ROOM))
            self._sync()
            with _Around(self.part, "r+b") as around:
                self._lay_structure(around, index, facts)
                self._file.truncate(around.end)
            sync_and_move(self.part, self.out)
        self.journal.unlink()

    def _lay_structure(
        self, around: "_Around", index: dict[str, np.ndarray], facts: dict[str, Any]
    ) -> None:
        import h5py

        # What has more than 1024 bytes starts at a multiple of HEAD: so the pixels, which come
        # first, at HEAD.
        layout = {"alignment_threshold": 1024, "alignment_interval": HEAD, "meta_block_size": 0}
        with h5py.File(around, "w", libver=("v110", "v110"), **layout) as file:
            here = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            here.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            here.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the pixels are there
            shape, chunk = (self.count, *self._shape), (1, *self._shape)
            crops = file.create_dataset("crops", shape, "u1", chunks=chunk, dcpl=here)
            places = [crops.id.get_chunk_info(k).byte_offset for k in (0, self.count - 1)]
            if places != [HEAD, HEAD + (self.count - 1) * self._bytes]:
                version = h5py.version.hdf5_version
                raise RuntimeError(f"HDF5 {version} wants the crops elsewhere: {places}")
            for name, array in index.items():
                file[name] = array
            for name, value in facts.items():
                # texts of a fixed length: others lie where no checksum is
                file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value

    def discard(self) -> None:
        """Leave nothing behind."""
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def skipped(self) -> Counter[str]:
        """How many frames were left out so far, by reason."""
        return sum((Counter(record.skipped) for record in self.records), Counter())

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(self, *error: object) -> None:
        # What the file still holds may not fit on the disk; no finished sequence has it.
        with self._held, suppress(OSError):
            self._file.close()


def _text(words: Sequence[str]) -> np.ndarray:
    """Words as HDF5 stores them, in a length that all have."""
    import h5py

    encoded = [word.encode() for word in words]
    return np.array(encoded, h5py.string_dtype("utf-8", max(map(len, encoded))))


class _Around(io.FileIO):
    """A file that HDF5 takes for an empty one, so that it writes around what it holds already."""

    end = 0  # what HDF5 takes for its length

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == os.SEEK_END:
            return super().seek(self.end + offset)
        return super().seek(offset, whence)

    def write(self, data: Any) -> int:
        count = super().write(data)
        self.end = max(self.end, self.tell())
        return count

    def truncate(self, size: int | None = None) -> int:
        self.end = self.tell() if size is None else size
        return self.end
