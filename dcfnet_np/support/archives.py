"""HDF5 and zip files of unknown makers, which shall take no more memory than they have bytes.

Compression unfolds, entries overlap, links lead into other files.  Our own files need none of this,
so it is refused by what the headers say, before any content is read.
"""

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_ENTRIES = 1000  # of a zip archive; a checkpoint of these networks has about twenty
MOST_NUMBERS = 16  # of an attribute; a mean has three


def open_hdf5(path: Path) -> Any:
    """An h5py.File to read, of structure with checksums (version 2 or newer), as all of ours are.

    HDF5 may never return from damage in an older one, which is what h5py makes by default.
    Raises FileNotFoundError, ValueError for another file, and what h5py raises on a damaged one.
    """
    import h5py

    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"{path} is not a file")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[:8] != b"\x89HDF\r\n\x1a\n" or start[8:] in (b"\x00", b"\x01"):
        raise ValueError("no HDF5 file with checksums")
    return h5py.File(path, "r")


def stored_dataset(group: Any, name: str) -> Any:
    """The data set `name` ("conv1/weight") of an HDF5 group, not yet read.

    It takes as many bytes in the file as in memory.  Raises KeyError when there is none, ValueError
    for links, compression, and what lies elsewhere or is only claimed.
    """
    import h5py

    found = group
    for part in name.split("/"):
        if not isinstance(found, h5py.Group) or part not in found:
            raise KeyError(f"{name} is missing")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to another place")
        found = found[part]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} is no data set")
    layout = found.id.get_create_plist()
    within = layout.get_external_count() == 0 and not found.dtype.hasobject
    if layout.get_nfilters() or not within or found.id.get_storage_size() != found.nbytes:
        raise ValueError(f"{name} is compressed, kept elsewhere or not there")
    return found


def stored_attributes(group: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those of the attributes `names` that are a text of fixed length, decoded, or a few numbers.

    Texts of variable length lie where HDF5 has no checksum; damage there makes it loop for ever.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name not in group.attrs:
            continue
        attribute = group.attrs.get_id(name)
        kind, shape = attribute.dtype.kind, attribute.shape  # None for one without a value
        if kind == "S" and shape == ():
            found[name] = bytes(group.attrs[name]).decode()
        elif kind in "iufb" and shape is not None and math.prod(shape) <= MOST_NUMBERS:
            found[name] = group.attrs[name]
    return found


def open_stored_zip(data: bytes) -> zipfile.ZipFile:
    """A zip archive whose entries are not compressed and do not overlap.

    Raises ValueError, zipfile.BadZipFile.
    """
    # an entry of the directory each, which are listed at once
    if data.count(b"PK\x01\x02") > MOST_ENTRIES:
        raise ValueError("a zip archive of too many entries")
    archive = zipfile.ZipFile(io.BytesIO(data))
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("a compressed zip archive")
    if sum(entry.file_size for entry in archive.infolist()) > len(data):
        raise ValueError("a zip archive that claims more than it has")
    return archive
