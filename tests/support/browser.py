"""An installed Chromium, driven by Playwright, without a network.

with chromium() as program, Page(program) as page:
    page.open(path)
    page.run("document.title")             # a promise is waited for
    page.messages, page.requests           # of the console; addresses other than the page's own
"""

import contextlib
import shutil

import pytest
from processes import PATIENCE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (  # headless, quiet, and with networking off
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
)


def find_browser():
    """Its path; without one the test is skipped."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium found; install the package chromium of the system")
    return program


@contextlib.contextmanager
def chromium(*options):
    """A browser for one or more `Page`s; without `options` it has no network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        words = list(options or OPTIONS[1:])
        yield driver.chromium.launch(executable_path=find_browser(), args=words)


class Page:
    """A window with one page; `page` is Playwright's, for all that is not here."""

    def __init__(self, program, size=(1280, 900), scale=1, dark=False, touch=False):
        self._context = program.new_context(
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            is_mobile=touch,
            offline=True,
        )
        self.messages, self.requests = [], []
        self.page = self._context.new_page()
        self._protocol = self._context.new_cdp_session(self.page)
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._context.close()

    def _asked(self, address):
        if not address.startswith(("data:", "blob:", "file:")):
            self.requests.append(address)

    def open(self, path):
        """Open a file and wait until it is loaded."""
        self.page.goto(path.resolve().as_uri())

    def run(self, script):
        """The value of a JavaScript expression; a promise is waited for."""
        return self.page.evaluate(script)

    def wait(self, condition):
        """Until a JavaScript expression is true."""
        self.page.wait_for_function(condition, timeout=1000 * PATIENCE)

    def send(self, method, **parameters):
        """A command of Chromium's own protocol, for touches."""
        return self._protocol.send(method, parameters)
