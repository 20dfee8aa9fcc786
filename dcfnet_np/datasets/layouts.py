"""Which sequences a folder holds, in any layout, and reading them."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import ModuleType

from ..support.files import read_text
from ..vision.image_files import natural_order
from . import davis, got10k, lasot, mot, nfs, nuspro, otb, tc128, trackingnet, uav123, vid, vot
from .sequence import FRAME_FOLDERS, DatasetError, Entry, Sequence, folders_in, frames_of

# The layouts, by the names of their modules.  The first one that finds something in a folder has
# it:
#   find_entries(folder) -> entries     of a data set's root or a sequence, by nothing but names
#   read_sequences(entry, files) -> sequences, one for each target; files: the frames.
#                                       Raises ValueError and OSError.
# The frames lie in `Entry.folder` or in one of its FRAME_FOLDERS: a new name of such a folder goes
# there.  The name of `Entry.folder` is that of the video, by which training holds videos out.
LAYOUTS = (
    uav123, davis, vid, trackingnet, nfs, mot, otb, tc128, got10k, lasot, nuspro, vot,
)  # fmt: skip
FORMATS: dict[str, ModuleType] = {layout.__name__.rpartition(".")[2]: layout for layout in LAYOUTS}


def load_dataset(
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
    entries = find_sequences(root)
    tables = _read_attributes(root, attributes)
    found: dict[str, Sequence] = {}
    for entry in entries:
        if names is not None and not any(map(entry.holds, names)):
            continue
        for sequence in read_entry(entry):
            name = sequence.name
            if name in found:
                both = f"{found[name].frames[0].parent} and {sequence.frames[0].parent}"
                advice = "rename one, or give its folder"
                raise DatasetError(f"{both} are both called {name}; {advice}")
            words = tables.get(name) or _folder_attributes(entry.folder)
            found[name] = dataclasses.replace(sequence, attributes=tuple(words))
    if missing := [name for name in names or () if name not in found]:
        known = [entry.name for entry in entries[:8]] + ["..."] * (len(entries) > 8)
        what = f"{root} has no sequence {', '.join(missing)}"
        raise DatasetError(f"{what}; it has {', '.join(known)}")
    return list(found.values()) if names is None else [found[name] for name in names]


def find_sequences(root: str | os.PathLike[str]) -> list[Entry]:
    """The sequences below `root`, which may be a single one, by nothing but file names.

    Raises DatasetError.
    """
    root = Path(root)
    if not root.is_dir():
        advice = "give the data set's folder, or that of one sequence"
        raise DatasetError(f"{root} is no folder; {advice}")
    if entries := find_here(root):
        return entries
    for folder in folders_in(root):
        # LaSOT has a folder of classes between.
        entries += find_here(folder) or [e for f in folders_in(folder) for e in find_here(f)]
    if not entries:
        raise DatasetError(f"{root} holds no sequences; {describe_folder(root)}")
    return entries


def find_here(folder: Path) -> list[Entry]:
    """The sequences of a folder that is itself a sequence or a data set's root."""
    return next((found for layout in LAYOUTS if (found := layout.find_entries(folder))), [])


def is_ground_truth(path: Path) -> bool:
    """Whether a text file is named and placed like annotations, which must not be written over."""
    named = re.fullmatch(r"groundtruth.*\.txt|(.*_)?gt\.txt", path.name.lower())
    in_anno = "anno" in [folder.name for folder in path.absolute().parents[:2]]
    of_nfs = path.absolute().parent.name in nfs.RATES and path.with_suffix("").is_dir()
    return bool(named) or in_anno or of_nfs


def describe_folder(folder: Path) -> str:
    """For messages about a folder of an unknown layout: which ones are known, and what is there."""
    names = sorted(folder.iterdir(), key=natural_order)
    shown = [f"{path.name}/" if path.is_dir() else path.name for path in names[:5]]
    shown += [f"... ({len(names)} in all)"] * (len(names) > 5)
    known = f"known layouts: {', '.join(FORMATS)} (docs/howto/evaluation.md)"
    return f"{known}; found: {', '.join(shown) or 'nothing'}"


def read_entry(entry: Entry) -> list[Sequence]:
    """Read the annotations of an entry: a sequence, or one for each target of its video.

    Raises DatasetError.
    """
    files = frames_of(entry.folder)
    if not files:
        folders = ", ".join(f"{name}/" for name in FRAME_FOLDERS[:-1])
        where = f"neither directly nor in one of {folders}"
        raise DatasetError(f"{entry.folder} holds no images, {where}")
    try:
        return FORMATS[entry.format].read_sequences(entry, files)
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
