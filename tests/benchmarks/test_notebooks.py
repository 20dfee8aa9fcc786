"""The notebooks run, and print what their committed outputs say.

`make notebooks` runs them and keeps the new outputs.
"""

import os
import sys
from pathlib import Path

import pytest

# on a machine for make gpu, say
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
NotebookClient = pytest.importorskip("nbclient", reason="nbclient is not installed").NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def execute(path, folder):
    """The notebook, run in `folder`; what would differ from machine to machine is left out."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, record_timing=False, resources=where)
    # Pictures go into the notebook, whatever backend an earlier test of this process has chosen.
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def printed(notebook):
    """Per code cell its text, and how many pictures it shows."""
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [output.get("text", "") for output in cell.outputs]
            pictures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
            cells.append(("".join(texts), pictures))
    return cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_prints_what_it_shows(path, tmp_path):
    committed = printed(nbformat.read(path, as_version=4))
    again = printed(execute(path, tmp_path))
    assert again == committed, f"run it again: make notebooks ({path.name})"
    assert any(text for text, _ in committed) and any(pictures for _, pictures in committed)


def test_notebooks_are_small():
    assert len(NOTEBOOKS) >= 5
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 2_000_000


if __name__ == "__main__":
    for notebook_path in sys.argv[1:] or NOTEBOOKS:
        nbformat.write(execute(notebook_path, EXAMPLES), notebook_path)
