"""Mathematics for pages that load nothing: LaTeX becomes MathML, which every current browser draws
without a script.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

# Browsers need a font of mathematics to stretch brackets; beside it stand its licence and its
# origin.
FONT = Path(__file__).parent / "font" / "STIXTwoMath.woff2"


@cache
def _converter() -> Any:
    import math_core

    return math_core.LatexToMathML()


def inline(latex: str) -> str:
    """$...$ as MathML."""
    return str(_converter().convert_with_local_state(latex, displaystyle=False))


def display(latex: str) -> str:
    r"""$$...$$ as a block that scrolls where it is too wide, the number of its \tag at the end."""
    number = re.search(r"\\tag\{(.+?)\}", latex)  # the paper's number of the equation
    untagged = re.sub(r"\\tag\{.+?\}", "", latex)
    shown = _converter().convert_with_local_state(untagged, displaystyle=True)
    label = f'<span class="eqno">({number[1]})</span>' if number else ""
    return f'<div class="math" tabindex="0">{shown}{label}</div>'


def typeset(html: str) -> str:
    """HTML with every $$...$$ and $...$ in it converted."""
    html = re.sub(r"\$\$(.+?)\$\$", lambda found: display(found[1]), html, flags=re.S)
    return re.sub(r"\$(.+?)\$", lambda found: inline(found[1]), html)
