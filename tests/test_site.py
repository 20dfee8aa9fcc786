"""The site that `make docs` has built: every internal link leads somewhere, and nothing is loaded
from elsewhere.
"""

import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

SITE = pathlib.Path(__file__).parent.parent / "build" / "docs"
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
                is_link = tag == "a" or (
                    tag == "link" and found.get("rel") in ("next", "prev", "index", "search")
                )
                (self.links if is_link else self.loads).add(value)
        self.loads |= {match[1] or match[2] for match in CSS_URL.finditer(found.get("style") or "")}


@pytest.fixture(scope="module")
def pages():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make docs")
    return {path: Page(path.read_text(encoding="utf-8")) for path in SITE.rglob("*.html")}


def is_external(address):
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def test_every_internal_link_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        if "_modules" in path.parts:
            # source code: its links back name an object by the package that exports it, not by its
            # page
            continue
        for address in page.links | page.loads:
            if is_external(address):
                continue
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            found = target.is_file()
            if found and parts.fragment and target.suffix == ".html":
                found = unquote(parts.fragment) in pages[target].ids
            if not found:
                broken.append(f"{path.relative_to(SITE)} -> {address}")
    assert not broken
    assert len(pages) > 50 and sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages):
    """Scripts, styles, fonts, pictures: of the pages and of their style sheets.

    data: is in the page itself.
    """
    loads = {(path, address) for path, page in pages.items() for address in page.loads}
    for path in SITE.rglob("*.css"):
        loads |= {
            (path, match[1] or match[2])
            for match in CSS_URL.finditer(path.read_text(encoding="utf-8"))
        }
    elsewhere = [
        f"{path.relative_to(SITE)}: {a}"
        for path, a in loads
        if is_external(a) and not a.startswith("data:")
    ]
    assert not elsewhere
    assert (SITE / "_static" / "STIXTwoMath-Regular.ttf").is_file()


def test_mathematics_is_in_the_page(pages):
    text = (SITE / "learn" / "derivation" / "template.html").read_text(encoding="utf-8")
    assert text.count("<math") > 20 and '<span class="eqno">(11)</span>' in text
    assert not re.search(r"\$\$|\\frac", text)


def test_the_checks_see_what_is_wrong():
    page = Page(
        '<a href="x.html"><img src="https://e.org/a.png"><p id="here" style="background: url(//e.org/b.png)">'
    )
    assert page.links == {"x.html"} and page.ids == {"here"}
    assert {a for a in page.loads if is_external(a)} == {"https://e.org/a.png", "//e.org/b.png"}
