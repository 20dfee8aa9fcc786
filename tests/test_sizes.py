"""No function, module or line is too long to be read in a go."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("dcfnet_np", "kernels", "train", "benchmarks")
CODE = {".py", ".cu", ".cuh", ".js", ".css"}
MODULES = {".py", ".cu", ".js"}
GENERATED = ("docs/examples/", "docs/_extra/", "docs/reference/api/")

MOST_COLUMNS, MOST_OF_FUNCTION, MOST_OF_MODULE = 100, 60, 450
SHORTER = {"dcfnet_np/cli.py": 200}  # modules that stay shorter than all others

QUOTES = "its rows quote source"
WIDE = {  # file or folder with wider lines: why
    "tests/support/mistakes.py": QUOTES,
    "tests/support/mistakes_kernels.py": QUOTES,
}

# where no line of prose can be broken: code, formulas, addresses of links, HTML
UNBROKEN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)|(?<!\\)\$[^$]+\$|\]\([^)]*\)|<[^<>]+>")
MARK = re.compile(r"\s*([-*+]|\d+[.)])?\s*")  # of an item of a list
NO_PROSE = re.compile(r"\s*(\||#{1,6} )| {4}")  # a row of a table, a heading, code
FENCE = re.compile(r"\s*(`{3,}|~{3,})")


def files_of(folders, suffixes):
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.*"))]
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def long_functions(source):
    """Name and lines of each, from its `def` to its end."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MOST_OF_FUNCTION:
                yield f"{node.name}: {lines} lines"


def wide_lines(text):
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MOST_COLUMNS:
            yield f"{number}: {len(line)} columns"


def wide_prose(text):
    """Lines that are too wide and hold a space at which they can be broken."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if line.strip() == "$$" or mark:
            this = mark[1] if mark else "$$"
            fence = "" if this == fence else fence or this
        elif not fence and len(line) > MOST_COLUMNS and not NO_PROSE.match(line):
            words = UNBROKEN.sub("_", line[MARK.match(line).end() :])
            if " " in words:
                yield f"{number}: {len(line)} columns"


@pytest.mark.parametrize("path", files_of(FOLDERS, {".py"}), ids=name_of)
def test_functions(path):
    assert not list(long_functions(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", files_of(FOLDERS, MODULES), ids=name_of)
def test_modules(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= SHORTER.get(name_of(path), MOST_OF_MODULE)


@pytest.mark.parametrize("path", files_of([*FOLDERS, "tests"], CODE), ids=name_of)
def test_lines_of_code(path):
    if not name_of(path).startswith(tuple(WIDE)):
        assert not list(wide_lines(path.read_text(encoding="utf-8")))


def test_lines_of_prose():
    pages = [*ROOT.glob("*.md"), *files_of([*FOLDERS, "docs", "examples", "tests"], {".md"})]
    found = [
        f"{name_of(page)}:{line}"
        for page in pages
        if not name_of(page).startswith(GENERATED)
        for line in wide_prose(page.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_each_exception_is_needed():
    for start in WIDE:
        texts = [
            path.read_text(encoding="utf-8")
            for path in files_of([*FOLDERS, "tests"], CODE)
            if name_of(path).startswith(start)
        ]
        assert any(any(wide_lines(text)) for text in texts), f"strike out {start}"


def test_what_is_too_long_is_seen():
    body = "    x = 1\n"
    assert not list(long_functions("def f():\n" + body * 59))
    assert list(long_functions("def f():\n" + body * 60)) == ["f: 61 lines"]
    assert list(long_functions("class A:\n    async def f():\n" + f"    {body}" * 60))
    assert list(wide_lines("a\n" + "b" * 100 + "\n" + "c" * 101)) == ["3: 101 columns"]


@pytest.mark.parametrize("line", ["word " * 21, "- " + "word " * 21, f"`{'a ' * 50}` word"])
def test_prose_that_is_too_wide_is_seen(line):
    assert list(wide_prose(f"title\n\n```\n{line}\n```\n\n{line}")) == [f"7: {len(line)} columns"]


@pytest.mark.parametrize(
    "line",
    [
        "w" * 101,
        "- " + "w" * 101,
        f"[`a`](#{'a' * 100}),",
        f"${'a + ' * 40}b$",
        f"| {'word ' * 30} |",
        f"# {'word ' * 30}",
        "    " + "word " * 30,
        f"$$\n{'a + ' * 40}\n$$",
        f"```\n{'word ' * 30}\n```",
    ],
)
def test_what_cannot_be_broken_passes(line):
    assert not list(wide_prose(line))
