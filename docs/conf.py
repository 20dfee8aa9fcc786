"""How Sphinx builds the site: `make docs`.

Pages are Markdown (MyST), the API is read from docstrings.
"""

import importlib
import pkgutil
import re
import shutil
import sys
from pathlib import Path

from docutils import nodes

import dcfnet_np
from dcfnet_np.cli import main as dcfnet
from dcfnet_np.explain import mathml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# the tests that prove equations are documented beside the API
sys.path[:0] = [str(path) for path in (ROOT / "tests").iterdir() if path.is_dir()]
sys.path.insert(0, str(ROOT / "tests"))

project = "dcfnet_np"
author = "the dcfnet_np developers"
copyright = author
version = release = dcfnet_np.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.autoprogram",
]
exclude_patterns = ["_build", "_extra"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
nb_execution_mode = "off"  # the notebooks keep the outputs that the tests compare
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = f"dcfnet_np {release}"
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
html_static_path = ["_static", str(mathml.FONT.parent)]
html_extra_path = ["_extra"]  # the interactive page, made below
(DOCS / "_extra").mkdir(exist_ok=True)
html_css_files = ["site.css"]


# --- mathematics as MathML: no script, no request; every current browser draws it


def inline_math(self, node):
    """$...$"""
    self.body.append(mathml.inline(node.astext()))
    raise nodes.SkipNode


def display_math(self, node):
    """$$...$$"""
    self.body.append(mathml.display(node.astext()) + "\n")
    raise nodes.SkipNode


# --- the API: a page for each module, from its docstrings, which are plain text


def write_api_pages(app):
    """reference/api/MODULE.md for every module that is installed, so that a new one needs no line
    here.
    """
    folder = DOCS / "reference" / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for module in modules():
        directive = f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
        name = module.removeprefix("dcfnet_np.")
        (folder / f"{name}.md").write_text(f"# {name}\n\n{directive}", encoding="utf-8")
    public = []
    for name, (module, what) in sorted(dcfnet_np._WHERE.items()):
        target = f"{module}.{what}" if callable(getattr(dcfnet_np, name)) else module
        public.append(f"- [`{name}`](#{target})\n")
    (folder / "_public.txt").write_text("".join(public), encoding="utf-8")
    layers = importlib.import_module("test_layers").LAYERS[:-1]
    order = " < ".join(", ".join(f"`{room}`" for room in rooms) for rooms in layers)
    (folder / "_layers.txt").write_text(order + "\n", encoding="utf-8")


def modules():
    """Names of all public modules; kernels/ and train/ lie outside the folder of an editable
    install.
    """
    names = {"dcfnet_np.kernels", "dcfnet_np.train"}
    for package in ("dcfnet_np", *sorted(names)):
        path = importlib.import_module(package).__path__
        names |= {info.name for info in pkgutil.walk_packages(path, f"{package}.")}
    return sorted(name for name in names if not name.rpartition(".")[2].startswith("_"))


def plain_text(app, what, name, obj, options, lines):
    """A docstring as reStructuredText: indented paragraphs are shown as they stand, the others are
    prose.
    """
    out = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        rows = paragraph.split("\n")
        if not paragraph.strip():
            continue
        if all(row.startswith(" ") for row in rows if row):
            out += ["::", "", *("    " + row for row in rows), ""]
        elif rows[0].startswith(("- ", "* ")):
            out += [*map(escaped, rows), ""]
        elif any(row.startswith(" ") for row in rows):  # items whose further lines are indented
            items = re.split(r"\n(?! )", paragraph)
            out += [*("| " + escaped(" ".join(item.split())) for item in items), ""]
        else:
            out += [*map(escaped, rows), ""]
    lines[:] = out


def escaped(text):
    """`code` as code, **bold** as bold, everything else literally."""
    parts = re.split(
        r"(`[^`]+`|\*\*[^*]+\*\*)", text.removesuffix(":") if text.endswith("::") else text
    )
    shown = []
    for part in parts:
        if part.startswith("`") and part.endswith("`") and len(part) > 1:
            shown.append(f"``{part.strip('`')}``\\ ")
        elif part.startswith("**") and part.endswith("**") and len(part) > 4:
            shown.append(part)
        else:
            shown.append(re.sub(r"([\\*_|`])", r"\\\1", part))
    return "".join(shown)


def skip_member(app, what, name, obj, skip, options):
    """The fields of a NamedTuple stand in its signature already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


# --- pages that lie elsewhere


def copy_notebooks(app):
    """examples/*.ipynb into the site's source, so that pages can link to them and they to pages."""
    folder = DOCS / "examples"
    folder.mkdir(exist_ok=True)
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")
        (folder / notebook.name).write_text(text, encoding="utf-8")


def write_interactive_page(app):
    """explain.html from the demo's clip, into the site as it is."""
    if dcfnet(["explain", "--out", str(DOCS / "_extra" / "explain.html")]):
        raise RuntimeError("the interactive page could not be made")


def name_files_outside(app, docname, source):
    """A link out of docs/, which a reader of the repository can follow, becomes the file's name, or
    that of the notebook's copy in the site.
    """
    up = "../" * (docname.count("/") + 1)
    source[0] = re.sub(rf"\]\({up}(examples/\w+\.ipynb)", rf"]({up[3:]}\1", source[0])
    source[0] = re.sub(rf"\[([^\]]+)\]\({re.escape(up)}([^)]+)\)", r"\1 (`\2`)", source[0])


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("builder-inited", write_api_pages)
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", write_interactive_page)
    app.connect("source-read", name_files_outside)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("autodoc-skip-member", skip_member)
