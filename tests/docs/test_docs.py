"""The Python and the commands of derivation and guides are executed, page by page, and print what
the page says.
"""

import contextlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from dcfnet_np.commands.common import demo_clip
from dcfnet_np.gradcheck.pair import GradientError
from dcfnet_np.support.errors import Failed

DOCS = pathlib.Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = [
    *sorted(DOCS.glob("learn/derivation/*.md")),
    *sorted(DOCS.glob("howto/*.md")),
    DOCS / "learn" / "questions.md",
]
PAGES = [page for page in RUN if "```python\n" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_page(page, tmp_path, monkeypatch):
    """In the page's order and one namespace, in an empty folder; a block of text right below Python
    is its output.
    """
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None]):
        line = text.count("\n", 0, block.start(2))
        if block[1] == "console":
            run_commands(block[2], f"{page}:{line}")
        elif block[1] == "python":
            printed = io.StringIO()
            # blank lines first: a traceback then shows the page's own lines
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + block[2], str(page), "exec"), namespace)
            follows = (
                after is not None
                and after[1] == "text"
                and not text[block.end() : after.start()].strip()
            )
            assert printed.getvalue() == (after[2] if follows else ""), (
                f"{page}:{line}: the page shows another output"
            )


def test_readme(tmp_path, monkeypatch, capsys):
    """Its ten lines follow the face in the clip, its other lines check a gradient."""
    try:
        clip = demo_clip()
    except Failed as error:
        pytest.skip(str(error))
    shutil.copy(clip, tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS.parent / "README.md").read_text(encoding="utf-8"))
    track, check = (code for language, code in blocks if language == "python")
    exec(compile(track, "README.md", "exec"), {})
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 119 and all(0.2 < float(row.split()[-1]) <= 1 for row in rows)
    exec(compile(check, "README.md", "exec"), {})
    with pytest.raises(GradientError, match="worst"):
        exec(compile(check.replace("2 * x", "3 * x"), "README.md", "exec"), {})


def run_commands(block, where):
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    for row in block.splitlines():
        assert row.startswith("$ "), where
        done = subprocess.run(
            ["bash", "-c", row[2:]],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{where}: {row}\n{done.stderr}"


def test_the_check_sees_pages():
    assert len(PAGES) >= 11
