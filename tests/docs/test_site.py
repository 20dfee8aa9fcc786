"""The site that `make docs` has built: every internal link leads somewhere, and nothing is loaded
from elsewhere.
"""

import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

SITE = pathlib.Path(__file__).parents[2] / "build" / "docs"
CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


class Page(HTMLParser):
    """What a page links to, what it makes the browser load, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        for name in ("href", "src", "srcset", "data", "poster", "xlink:href"):
            if value := found.get(name):
                linked = tag == "link" and found.get("rel") in ("next", "prev", "index", "search")
                (self.links if tag == "a" or linked else self.loads).add(value)
        self.loads |= {match[1] or match[2] for match in CSS_URL.finditer(found.get("style") or "")}


@pytest.fixture(scope="module")
def pages():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make docs")
    return {path: Page(path.read_text(encoding="utf-8")) for path in SITE.rglob("*.html")}


def is_external(address):
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def leads_somewhere(address, path, pages):
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if parts.fragment and target.suffix == ".html":
        return target.is_file() and unquote(parts.fragment) in pages[target].ids
    return target.is_file()


def test_every_internal_link_leads_somewhere(pages):
    """Not of the pages with source code: they name an object by the package that exports it."""
    broken = [
        f"{path.relative_to(SITE)} -> {address}"
        for path, page in pages.items()
        if "_modules" not in path.parts
        for address in page.links | page.loads
        if not is_external(address) and not leads_somewhere(address, path, pages)
    ]
    assert not broken
    assert len(pages) > 50 and sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages):
    """Scripts, styles, fonts, pictures, of pages and style sheets; mathematics is in the page."""
    loads = {(path, address) for path, page in pages.items() for address in page.loads}
    for path in SITE.rglob("*.css"):
        found = CSS_URL.finditer(path.read_text(encoding="utf-8"))
        loads |= {(path, match[1] or match[2]) for match in found}
    assert not [one for one in loads if is_external(one[1]) and not one[1].startswith("data:")]
    assert (SITE / "_static" / "STIXTwoMath.woff2").is_file()
    text = (SITE / "learn" / "derivation" / "template.html").read_text(encoding="utf-8")
    assert text.count("<math") > 20 and '<span class="eqno">(11)</span>' in text
    assert not re.search(r"\$\$|\\frac", text)


def test_the_checks_see_what_is_wrong():
    styled = '<p id="here" style="background: url(//e.org/b.png)">'
    page = Page(f'<a href="x.html"><img src="https://e.org/a.png">{styled}')
    assert page.links == {"x.html"} and page.ids == {"here"}
    assert {a for a in page.loads if is_external(a)} == {"https://e.org/a.png", "//e.org/b.png"}
