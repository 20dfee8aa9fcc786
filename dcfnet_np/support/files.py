"""Files that are whole or absent: written under another name beside their place, flushed to the
disk, then moved.

The other name of `boxes.csv` is `boxes.part.csv`: it is what a process leaves behind that was
killed midway, and the next run writes over it.  Two processes never write one file or folder of
results: see `only_writer`.
"""

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class WriteError(OSError):
    """A file cannot be written; the message is one line that names it and says what to do."""


BYTE_ORDER_MARKS = {  # the longer ones first: UTF-32's begins like UTF-16's
    "utf-8-sig": (codecs.BOM_UTF8,),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file that a person hands us: UTF-8, or what its byte order mark says.

    Raises OSError, and ValueError with one line that names the file and its encoding.
    """
    data = Path(path).read_bytes()
    known = (name for name, marks in BYTE_ORDER_MARKS.items() if data.startswith(marks))
    encoding = next(known, "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no {encoding.upper()} text from byte {error.start} on; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} has zero bytes, as UTF-16 without a byte order mark has; save it as UTF-8"
        )
    return text


def part_of(path: Path) -> Path:
    """The name that a file has until it is complete."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


@contextlib.contextmanager
def only_writer(path: Path, wait: bool = False) -> Iterator[None]:
    """Inside the block no other process writes `path`, a file or a folder of results, that asks
    here too.

    wait: until another one has ended its block; otherwise WriteError where there is one.  The lock
    is the system's, on a hidden file beside `path` or in the folder: it ends with the process, also
    by kill -9.
    Raises ValueError for a folder in which nothing can be written, OSError for a file.
    """
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    while (stream := _locked(lock, path, wait)) is None:
        pass
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows deletes no open file
            lock.unlink()
        stream.close()


def _locked(lock: Path, path: Path, wait: bool) -> BinaryIO | None:
    """The open file `lock`, locked; None where its last owner has deleted it meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(lock.open("ab"))
        except OSError as error:
            if path.is_dir():
                reason = f"{error.strerror}; choose another --out"
                raise ValueError(f"cannot write in {path}: {reason}") from None
            raise OSError(error.errno, error.strerror, str(path)) from None
        if not _lock(stream.fileno(), wait):
            advice = "wait for its end or choose another name"
            raise WriteError(f"cannot write {path}: another process is writing there; {advice}")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
                stack.pop_all()  # it stays open
                return stream
    return None


def _lock(descriptor: int, wait: bool) -> bool:
    """Lock an open file until it is closed.

    False where another process has it; no lock where there are none.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def check_output(path: Path) -> None:
    """Raise ValueError when no file can be written at `path`: no folder, no permission, a folder
    itself.

    WriteError when another process is writing it.
    """
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file in it")
    part = part_of(path)
    try:
        with only_writer(path):
            # only trying tells: root may write anywhere, but not in /proc
            with part.open("ab") as file:
                empty = file.tell() == 0
            if empty:
                part.unlink()
    except WriteError:
        raise
    except OSError as error:
        advice = "choose a folder that you can write to"
        raise ValueError(
            f"cannot write {path}: {error.strerror} in {path.parent}; {advice}"
        ) from None


def make_folder(path: Path) -> None:
    """Make a folder for results where there is none.  Raises ValueError, one line."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}; choose another --out"
        raise ValueError(f"cannot make the folder {path}: {reason}") from None


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """An OSError inside the block becomes a WriteError that names `path`.

    Not one about a file that is in another folder or does not begin with the same name: `crops.` of
    crops.part.jsonl.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.filename is not None:
            other = Path(str(error.filename))
            if other.parent != path.parent or not other.name.startswith(f"{path.stem}."):
                raise
        reason = f"{error.strerror or error}; make room or choose another folder"
        raise WriteError(f"cannot write {path}: {reason}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name to write to inside the block, whose end moves that file to `path`; an exception
    deletes it instead.

    `path` so is always the old file or the new one, complete.  Raises WriteError.
    """
    part = part_of(path)
    with write_errors(path), only_writer(path, wait=True):
        try:
            yield part
            sync_and_move(part, path)
        finally:
            part.unlink(missing_ok=True)  # only there when something failed


def sync_and_move(part: Path, path: Path) -> None:
    """Flush `part` to the disk, then move it to `path`."""
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    # the new name must reach the disk too; a folder cannot be opened on Windows
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
