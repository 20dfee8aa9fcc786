"""Mathematics for pages that load nothing: LaTeX becomes MathML, which every current browser draws
without a script.
"""

import base64
import importlib.util
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

# browsers need a font of mathematics to stretch brackets; SIL Open Font License
FONT = "STIXTwoMath-Regular.ttf"


@cache
def _converter() -> Any:
    import math_core

    return math_core.LatexToMathML()


def inline(latex: str) -> str:
    """$...$ as MathML."""
    return str(_converter().convert_with_local_state(latex, displaystyle=False))


def display(latex: str) -> str:
    r"""$$...$$ as a block, with the number of its \tag on the right; a wide one scrolls, with the keyboard too."""
    number = re.search(r"\\tag\{(.+?)\}", latex)  # the paper's number of the equation
    shown = _converter().convert_with_local_state(
        re.sub(r"\\tag\{.+?\}", "", latex), displaystyle=True
    )
    label = f'<span class="eqno">({number[1]})</span>' if number else ""
    return f'<div class="math" tabindex="0">{shown}{label}</div>'


def typeset(html: str) -> str:
    """HTML with every $$...$$ and $...$ in it converted."""
    html = re.sub(r"\$\$(.+?)\$\$", lambda found: display(found[1]), html, flags=re.S)
    return re.sub(r"\$(.+?)\$", lambda found: inline(found[1]), html)


def font_file() -> Path:
    """STIX Two Math, which comes inside the package ziamath."""
    spec = importlib.util.find_spec("ziamath")
    if spec is None or spec.origin is None:
        raise ValueError("the font of the mathematics comes with ziamath; install the extra teach")
    return Path(spec.origin).parent / "fonts" / FONT


def font_for(html: str) -> str:
    """The part of the font that the mathematics in `html` needs, WOFF, as a data URI."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    options = subset.Options(flavor="woff", layout_features=["ssty", "math"], notdef_outline=True)
    options.name_IDs = ["*"]  # the licence travels with the font
    chooser = subset.Subsetter(options)
    text = "".join(
        re.sub(r"<[^>]*>", "", math) for math in re.findall(r"<math.*?</math>", html, re.S)
    )
    chooser.populate(text=text + "".join(map(_italic, text)))
    font = TTFont(font_file())
    chooser.subset(font)
    font.flavor = "woff"
    stream = io.BytesIO()
    font.save(stream)
    return "data:font/woff;base64," + base64.b64encode(stream.getvalue()).decode()


def _italic(letter: str) -> str:
    """The mathematical italic in whose shape a browser shows a single letter."""
    for first, last, italic in (
        ("A", "Z", 0x1D434),
        ("a", "z", 0x1D44E),
        ("Α", "Ω", 0x1D6E2),
        ("α", "ω", 0x1D6FC),
    ):
        if first <= letter <= last:
            return "ℎ" if letter == "h" else chr(italic + ord(letter) - ord(first))
    return {"∂": "\U0001d715", "ϕ": "\U0001d719"}.get(letter, "")
