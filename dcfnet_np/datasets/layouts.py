"""Which sequences a folder holds, in any layout, and reading them."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import ModuleType

from ..files import read_text
from ..vision.image_files import natural_order
from . import davis, got10k, lasot, mot, nfs, nuspro, otb, tc128, trackingnet, uav123, vid, vot
from .sequence import FRAME_FOLDERS, DatasetError, Entry, Sequence, folders_in, frames_of

# The layouts, by the names of their modules.  The first one that finds something in a folder has
# it:
#   find(folder) -> entries     of a folder, which is a root or a sequence; nothing but names is read
#   read(entry, files) -> sequences     one for each target; files: the frames.  ValueError and OSError
FORMATS: dict[str, ModuleType] = {
    layout.__name__.rpartition(".")[2]: layout
    for layout in (
        uav123,
        davis,
        vid,
        trackingnet,
        nfs,
        mot,
        otb,
        tc128,
        got10k,
        lasot,
        nuspro,
        vot,
    )
}


def load(
    root: str | os.PathLike[str],
    names: list[str] | None = None,
    attributes: str | os.PathLike[str] | None = None,
) -> list[Sequence]:
    """All sequences below `root`, which may be a single one, or those of `names`, in that order.

    attributes: a JSON file {sequence name: [attribute, ...]}; by default attributes.json in `root`,
    and attrs.txt in a sequence's folder.  Raises DatasetError for an unknown name, for two
    sequences of one name, and for a sequence that cannot be read.
    """
    root = Path(root)
    entries = find(root)
    tables = _read_attributes(root, attributes)
    found: dict[str, Sequence] = {}
    for entry in entries:
        if names is not None and not any(entry.holds(name) for name in names):
            continue
        for sequence in read(entry):
            if sequence.name in found:
                one, other = found[sequence.name].frames[0].parent, sequence.frames[0].parent
                raise DatasetError(
                    f"{one} and {other} are both called {sequence.name}; rename one, or give its folder"
                )
            known_attributes = tables.get(sequence.name) or _folder_attributes(entry.folder)
            found[sequence.name] = dataclasses.replace(sequence, attributes=tuple(known_attributes))
    missing = [name for name in names or () if name not in found]
    if missing:
        known = ", ".join(entry.name for entry in entries[:8]) + (
            ", ..." if len(entries) > 8 else ""
        )
        raise DatasetError(f"{root} has no sequence {', '.join(missing)}; it has {known}")
    return list(found.values()) if names is None else [found[name] for name in names]


def find(root: str | os.PathLike[str]) -> list[Entry]:
    """The sequences below `root`, which may be a single one; nothing but file names is read.

    Raises DatasetError.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(
            f"{root} is no folder; give the data set's folder, or that of one sequence"
        )
    entries = find_here(root)
    if not entries:
        for folder in folders_in(root):
            # LaSOT has a folder of classes between.
            entries += find_here(folder) or [
                e for inner in folders_in(folder) for e in find_here(inner)
            ]
    if not entries:
        raise DatasetError(f"{root} holds no sequences; {describe(root)}")
    return entries


def find_here(folder: Path) -> list[Entry]:
    """The sequences of a folder that is itself a sequence or a data set's root; none where it only
    has such in it.
    """
    return next((found for layout in FORMATS.values() if (found := layout.find(folder))), [])


def is_ground_truth(path: Path) -> bool:
    """Whether a text file is named and placed like annotations, which must not be written over."""
    named = re.fullmatch(r"groundtruth.*\.txt|(.*_)?gt\.txt", path.name.lower())
    in_anno = "anno" in [folder.name for folder in path.absolute().parents[:2]]
    of_nfs = path.absolute().parent.name in nfs.RATES and path.with_suffix("").is_dir()
    return bool(named) or in_anno or of_nfs


def describe(folder: Path) -> str:
    """For messages about a folder of an unknown layout: which ones are known, and what is there."""
    names = sorted(folder.iterdir(), key=natural_order)
    shown = ", ".join(f"{path.name}/" if path.is_dir() else path.name for path in names[:5])
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    known = ", ".join(FORMATS)
    return f"known layouts: {known} (docs/howto/evaluation.md); found: {shown + more if names else 'nothing'}"


def read(entry: Entry) -> list[Sequence]:
    """Read the annotations of an entry: a sequence, or one for each target of its video.

    Raises DatasetError.
    """
    files = frames_of(entry.folder)
    if not files:
        folders = ", ".join(f"{name}/" for name in FRAME_FOLDERS[:-1])
        raise DatasetError(
            f"{entry.folder} holds no images, neither directly nor in one of {folders}"
        )
    try:
        return FORMATS[entry.format].read(entry, files)
    except (OSError, ValueError) as error:
        raise DatasetError(f"ground truth cannot be read: {error}") from None


def _read_attributes(root: Path, file: str | os.PathLike[str] | None) -> dict[str, list[str]]:
    path = root / "attributes.json" if file is None else Path(file)
    if file is None and not path.is_file():
        return {}
    try:
        table = json.loads(read_text(path))
        return {name: [str(word) for word in words] for name, words in table.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DatasetError(
            f'{path}: expected JSON like {{"David": ["IV", "SV"]}} ({error})'
        ) from None


def _folder_attributes(folder: Path) -> list[str]:
    """attrs.txt of OTB's Python toolkit: words parted by commas."""
    path = folder / "attrs.txt"
    try:
        return re.findall(r"[A-Za-z]+", read_text(path)) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise DatasetError(f"attributes cannot be read: {error}") from None
