"""Every name that a page, a docstring or a kernel cites exists: modules, functions, files."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"dcfnet_np": "dcfnet_np", "kernels": "dcfnet_np.kernels", "train": "dcfnet_np.train"}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "VISION.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/[!_er]*/**/*.md")),
    *sorted(ROOT.glob("docs/reference/*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "dcfnet_np" / "data" / "README.md",
]
SOURCES = [path for folder in (*PACKAGES, "benchmarks") for path in (ROOT / folder).rglob("*.py")]
KERNELS = [*(ROOT / "kernels").rglob("*.cu"), *(ROOT / "kernels").rglob("*.cuh")]
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"(?:dcfnet_np\.)?[a-z_]\w*(?:\.\w+)+")
ROOTS = "tests|benchmarks|docs|kernels|train|dcfnet_np|examples"
FILE = re.compile(rf"(?<![\w/])(?:\.\./)*((?:{ROOTS})/[\w/.-]+\.\w+)")
EXAMPLES = {"dcfnet_np/ops/whiten.py"}  # what a reader is told to write
SUFFIXES = {"py", "md", "cu", "cuh", "json", "h5", "csv", "txt", "html", "part", "mp4", "js", "cpp"}


def rooms():
    """First parts of names that mean a module of ours: `ops` in `ops.dcf.respond`."""
    return {path.stem for path in (ROOT / "dcfnet_np").iterdir() if not path.name.startswith("_")}


def resolves(name):
    """Whether the dotted name is a module of ours or something in one."""
    parts = name.removeprefix("dcfnet_np.").split(".")
    for length in range(len(parts), -1, -1):
        try:
            found = importlib.import_module(".".join(["dcfnet_np", *parts[:length]]))
        except ImportError:
            continue
        for part in parts[length:]:
            fields = getattr(found, "__annotations__", {})
            if not hasattr(found, part):
                return part in fields
            found = getattr(found, part)
        return True
    return False


def is_ours(name):
    first = name.split(".")[0]
    return first == "dcfnet_np" or first in rooms() | {"kernels", "train"}


def missing(text):
    """The names and files in `text` that do not exist."""
    for code in CODE.findall(text):
        name = code.partition("(")[0].rstrip(":")
        is_name = DOTTED.fullmatch(name) and name.rpartition(".")[2] not in SUFFIXES
        if is_name and is_ours(name) and not resolves(name):
            yield name
    for file in FILE.findall(text):
        if not (ROOT / file).exists() and "NAME" not in file and file not in EXAMPLES:
            yield file


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_on_a_page(page):
    assert not list(missing(page.read_text(encoding="utf-8")))


def test_names_in_docstrings_and_comments():
    found = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        strings = [
            ast.get_docstring(node, clean=False) or ""
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        ]
        comments = re.findall(r"# .*", text)
        wrong = list(missing("\n".join([*strings, *comments])))
        if wrong:
            found[path.relative_to(ROOT).as_posix()] = wrong
    assert not found


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_names_in_a_kernel(path):
    """`dcfnet_np.a.b: f, g` on a line "Reference", and every other dotted name of ours."""
    comments = "\n".join(re.findall(r"//(.*)", path.read_text(encoding="utf-8")))
    cited = set(re.findall(r"\bdcfnet_np(?:\.\w+)+", comments))
    for module, names in re.findall(r"\b(dcfnet_np(?:\.\w+)+): (\w+(?:, \w+)*)", comments):
        cited |= {f"{module}.{name}" for name in names.split(", ")}
    assert not [name for name in cited if not resolves(name)]
    assert not list(missing(comments))


def test_a_wrong_name_is_seen():
    text = "`ops.dcf.respond`, `ops.dcf.answer`, `tests/conftest.py`, `tests/nothing.py`, `train.x`"
    assert list(missing(text)) == ["ops.dcf.answer", "train.x", "tests/nothing.py"]
