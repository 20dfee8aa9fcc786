"""Mistakes to plant in the library, one at a time, which the tests must notice, and the engine that plants them.

Each was chosen by hand where no mutation of the syntax tree comes (see gradcheck.mutants): a constant of a recipe, the
order of two steps, a rule of a data set.  A mistake is planted in a copy of the packages, and its tests run on that.

python tests/mistakes.py [WORD]     plant all whose name or file holds WORD; exit code 1 when one is not noticed
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent


class Mistake(NamedTuple):
    name: str  # what is wrong
    file: str  # from the root of the repository
    tests: str  # words for pytest: files in tests/, -k
    old: str  # the first place where this stands
    new: str


def plant(mistake: Mistake, folder: pathlib.Path) -> None:
    """Make `folder` a copy of the packages, as they install, with the mistake in it."""
    here = {"dcfnet_np": "dcfnet_np", "kernels": "dcfnet_np/kernels", "train": "dcfnet_np/train"}
    for room, installed in here.items():
        shutil.copytree(ROOT / room, folder / installed, ignore=shutil.ignore_patterns("__pycache__"))
    room, rest = mistake.file.split("/", 1)
    path = folder / here[room] / rest
    text = path.read_text(encoding="utf-8")
    if mistake.old not in text:
        raise ValueError(f"{mistake.name!r}: nothing to replace in {mistake.file}; the source has changed")
    path.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")


def run(mistake: Mistake) -> tuple[int, str]:
    """Run the tests with the mistake planted; returns pytest's exit code, 1 where it was noticed, and output."""
    with tempfile.TemporaryDirectory() as folder:
        plant(mistake, pathlib.Path(folder))
        words = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]
        words += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
        for word in shlex.split(mistake.tests):
            words.append(str(ROOT / "tests" / word) if word.endswith(".py") else word)
        before = os.environ.get("PYTHONPATH", "")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [folder, before]))}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


MISTAKES: list[Mistake] = []


def main(words: list[str]) -> int:
    """Plant the mistakes that `words` choose, and print what becomes of each."""
    chosen = [m for m in MISTAKES if all(word in f"{m.name} {m.file}" for word in words)]
    missed = 0
    for number, mistake in enumerate(chosen, start=1):
        code, output = run(mistake)
        noticed = code == 1 and "1 failed" in output
        missed += not noticed
        print(
            f"{number}/{len(chosen)} {'noticed' if noticed else 'MISSED'}: {mistake.file}: {mistake.name}", flush=True
        )
        if not noticed:
            print(output[-2000:])
    print(f"{len(chosen) - missed} of {len(chosen)} noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
