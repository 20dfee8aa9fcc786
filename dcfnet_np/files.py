"""Files that are whole or absent: written under another name beside their place, flushed to the disk, then moved.

The other name of `boxes.csv` is `boxes.part.csv`: it is what a process leaves behind that was killed midway, and
the next run writes over it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class WriteError(OSError):
    """A file cannot be written; the message is one line that names it and says what to do."""


def part_of(path: Path) -> Path:
    """The name that a file has until it is complete."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def check_output(path: Path) -> None:
    """Raise ValueError when no file can be written at `path`: no folder, no permission, a folder itself."""
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file in it")
    part = part_of(path)
    try:
        with open(part, "ab") as file:  # only trying tells: root may write anywhere, but not in /proc
            empty = file.tell() == 0
        if empty:
            part.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror} in {path.parent}; choose a folder that you can write to"
        ) from None


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """An OSError inside the block becomes a WriteError that names `path`, unless it is about another file."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.filename is not None and str(error.filename) not in (str(path), str(part_of(path))):
            raise
        reason = error.strerror or str(error)
        raise WriteError(f"cannot write {path}: {reason}; make room or choose another folder") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name to write to inside the block, whose end moves that file to `path`; an exception deletes it instead.

    `path` so is always the old file or the new one, complete.  Raises WriteError.
    """
    part = part_of(path)
    try:
        with write_errors(path):
            yield part
            sync_and_move(part, path)
    finally:
        part.unlink(missing_ok=True)  # only there when something failed


def sync_and_move(part: Path, path: Path) -> None:
    """Flush `part` to the disk, then move it to `path`."""
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, path)
    if os.name == "posix":  # the new name must reach the disk too; a folder cannot be opened on Windows
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
