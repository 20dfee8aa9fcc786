"""Headless Chromium by its own protocol over two pipes (--remote-debugging-pipe): no driver, no port, no package.

with Browser(folder) as browser:
    browser.open(path)
    browser.run("document.title")          # a promise is waited for
    browser.screenshot(path)
    browser.messages, browser.requests     # of the console; addresses other than the page's own
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time

import pytest

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
PIPE = ("--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--remote-debugging-pipe")


def find_browser():
    """Its path; without one the test is skipped."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium found")
    return program


class Browser:
    """One page in a browser of its own; without a network."""

    def __init__(self, folder, size=(1280, 900), scale=1, dark=False, touch=False):
        program = find_browser()
        self.folder, self.size, self.scale, self.dark, self.touch = folder, size, scale, dark, touch
        self.messages, self.requests = [], []
        self._numbers = itertools.count(1)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Descriptors 3 and 4 of the child; the shell moves them there, since a child of Python cannot.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        profile = f"--user-data-dir={folder / 'profile'}"
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *OPTIONS, *PIPE, profile, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._session = None

    def __enter__(self):
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        width, height = self.size
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=self.scale,
            mobile=self.touch,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method, **parameters):
        """One command of the protocol and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _receive(self):
        while b"\0" not in self._rest:
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        kind, what = event.get("method"), event.get("params", {})
        if kind == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(value.get("value", value)) for value in what["args"]))
        elif kind == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(what["exceptionDetails"])[:2000])
        elif kind == "Log.entryAdded":
            self.messages.append(what["entry"]["text"])
        elif kind == "Network.requestWillBeSent" and not what["request"]["url"].startswith(("data:", "blob:", "file:")):
            self.requests.append(what["request"]["url"])

    def open(self, path):
        """Open a file and wait until it is loaded."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"location.href === {json.dumps(path.resolve().as_uri())} && document.readyState === 'complete'")

    def run(self, script):
        """The value of a JavaScript expression; a promise is waited for."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, json.dumps(done["exceptionDetails"])[:2000]
        return done["result"].get("value")

    def wait(self, condition, seconds=90):
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"waited {seconds} s for {condition}; console: {self.messages}"
            time.sleep(0.05)

    def screenshot(self, path):
        """What is on the screen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
