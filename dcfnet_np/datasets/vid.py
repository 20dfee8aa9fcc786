"""ILSVRC-VID: Data/VID/.../NAME/, and in Annotations/VID/.../NAME/ an XML file a frame; from 0.

A file has any number of objects, which keep their trackid through a video.  Source: the devkit of
ILSVRC2015, readme.
"""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..vision.boxes import Box
from .sequence import Entry, Sequence


def find_entries(folder: Path) -> list[Entry]:
    """Every folder with XML files below Annotations/, or its VID/ where it has DET/ too.

    Folders of train lie deeper than those of val.
    """
    top, images = folder / "Annotations", folder / "Data"
    start = top / "VID" if (top / "VID").is_dir() else top
    walk = os.walk(start) if images.is_dir() else ()
    truths = sorted(
        Path(path) for path, _, files in walk if any(file.endswith(".xml") for file in files)
    )
    return [Entry(truth.name, "vid", images / truth.relative_to(top), truth) for truth in truths]


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """A sequence NAME.TRACKID for each target of a video, from the first frame that has it.

    Corners in the files count pixels from 0, both included, so the width is xmax - xmin + 1.  A
    target is not visible where it is marked as occluded.  Raises ValueError that names the file.
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for index, frame in enumerate(files):
        path = entry.truth / f"{frame.stem}.xml"
        if not path.is_file():
            continue
        for target, box, occluded in _read_frame(path):
            if target not in found:
                found[target] = np.full((len(files), 4), np.nan), np.ones(len(files), bool)
            boxes, visible = found[target]
            boxes[index], visible[index] = box, not occluded
    if not found:
        nothing = f"no object in any .xml with the name of a frame in {files[0].parent}"
        raise ValueError(f"{entry.truth}: {nothing}")
    sequences = []
    for target, (boxes, visible) in sorted(found.items()):
        name = f"{entry.name}.{target}"
        whole = Sequence(name, "vid", tuple(files), boxes, visible=visible, video=entry.name)
        sequences.append(whole.from_its_first_box())
    return sequences


def _read_frame(path: Path) -> list[tuple[int, Box, bool]]:
    """(trackid, box, occluded) of every object of one file."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except (OSError, ElementTree.ParseError, UnicodeError) as error:
        raise ValueError(f"{path} is no XML that can be read: {error}") from None
    found = []
    for entry in objects:
        names = "trackid", "bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax"
        texts = [entry.findtext(name, "") for name in names]
        try:
            target, (left, top, right, bottom) = int(texts[0]), map(float, texts[1:])
        except ValueError:
            wanted = "<object> with trackid and bndbox of xmin, ymin, xmax, ymax"
            raise ValueError(f"{path}: expected {wanted}, got {texts}") from None
        box = (left, top, right - left + 1, bottom - top + 1)
        found.append((target, box, entry.findtext("occluded", "0").strip() == "1"))
    return found
