"""UAV123: anno/UAV123/NAME.txt and data_seq/UAV123/FOLDER/ in a root; counts from 1.

A folder has the frames of several sequences.  Likewise UAV123_10fps, with every third frame, and
UAV20L, whose sequences are the whole folders of UAV123.  Source: Mueller, Smith and Ghanem, "A
benchmark and simulator for UAV tracking", 2016, configSeqs.m.
"""

import re
from pathlib import Path

from .rows import make_sequence, read_truth
from .sequence import Entry, Sequence, files_in

# annotations: frames
VERSIONS = {"UAV123": "UAV123", "UAV123_10fps": "UAV123_10fps", "UAV20L": "UAV123"}

# Parts of UAV123's folders: sequence name -> first and last frame number.  Others take their folder
# as it is.
PARTS = {
    "bird1": [(1, 253), (775, 1477), (1573, 2437)], "car1": [(1, 751), (751, 1627), (1627, 2629)],
    "car6": [(1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)],
    "car8": [(1, 1357), (1357, 2575)], "car16": [(1, 415), (415, 1993)],
    "group1": [(1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)],
    "group2": [(1, 907), (907, 1771), (1771, 2683)],
    "group3": [(1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)],
    "person2": [(1, 1189), (1189, 2623)], "person4": [(1, 1501), (1501, 2743)],
    "person5": [(1, 877), (877, 2101)], "person7": [(1, 1249), (1249, 2065)],
    "person8": [(1, 1075), (1075, 1525)], "person12": [(1, 601), (601, 1621)],
    "person14": [(1, 847), (847, 1813), (1813, 2923)], "person17": [(1, 1501), (1501, 2347)],
    "person19": [(1, 1243), (1243, 2791), (2791, 4357)], "truck4": [(1, 577), (577, 1261)],
    "uav1": [(1, 1555), (1555, 2377), (2473, 3469)],
}  # fmt: skip


def find_entries(folder: Path) -> list[Entry]:
    """The sequences of the first of VERSIONS in a root; its folder anno/VERSION chooses one."""
    chosen = folder.resolve()
    if chosen.parent.name == "anno" and chosen.name in VERSIONS:
        return _find_version(chosen.parent.parent, chosen.name)
    return next((found for version in VERSIONS if (found := _find_version(folder, version))), [])


def _find_version(root: Path, version: str) -> list[Entry]:
    frames = root / "data_seq" / VERSIONS[version]
    step = 3 if version == "UAV123_10fps" else 1
    entries = []
    for truth in files_in(root / "anno" / version, "*.txt"):
        name, _, number = truth.stem.partition("_")
        parts = PARTS.get(name, [])
        if re.fullmatch("[0-9]{1,9}", number) and 1 <= int(number) <= len(parts):
            first, last = ((n - 1) // step + 1 for n in parts[int(number) - 1])
            entries.append(Entry(truth.stem, "uav123", frames / name, truth, (first, last)))
        else:
            entries.append(Entry(truth.stem, "uav123", frames / truth.stem, truth))
    return entries


def read_sequences(entry: Entry, files: list[Path]) -> list[Sequence]:
    """The sequence of an entry."""
    return [make_sequence(entry, files, read_truth(entry.truth, origin=1), part=entry.part)]
