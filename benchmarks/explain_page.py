"""How fast the interactive page answers, in headless Chromium, and how large it is.

    python benchmarks/explain_page.py [PAGE.html] [--json FILE] [--pictures DIR]

Times are from the event of a control until all that follows from it is computed and drawn, section
6 included where it is in sight, at 125x125 with `light`; median and largest of 20.  Without
PAGE.html one is made from the demo's clip.
Goals: a slider of the filter in 50 ms, a drag of the window in 100 ms, on two cores, and 3 MB.
--pictures writes what it looks like: desktop, phone, light and dark.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from browser import Page, chromium

from dcfnet_np.cli import main as dcfnet

REPEATS = 20
SLIDERS = {"lambda": (-4, 8), "sigma": (0.05, 0.2), "band": (6, 40)}
# the sections in which the window is dragged
DRAGS = {"response": "frame-response", "patches": "frame-search"}
TIMED = """new Promise((done) => {
  const began = performance.now(), look = () => (dcfnet.idle() ? done(performance.now() - began) : setTimeout(look, 1));
  %s;
  look();
})"""
READY = "window.dcfnet && dcfnet.idle()"


def measure(browser):
    """{control: [milliseconds]}"""
    found = {}
    for name, (low, high) in SLIDERS.items():
        browser.run(
            f"document.getElementById('{name}').scrollIntoView({{ behavior: 'instant', block: 'center' }})"
        )
        time.sleep(0.5)
        script = (
            f"(s => {{ s.value = {low} + ({high} - {low}) * %f; s.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById('{name}'))"
        )
        found[f"slider {name}"] = repeat(browser, lambda i, script=script: script % (i / REPEATS))
    browser.run("document.getElementById('reset').click()")
    for section, frame in DRAGS.items():
        browser.run(f"document.getElementById('{frame}').scrollIntoView({{ behavior: 'instant' }})")
        time.sleep(1)
        browser.wait("dcfnet.idle()")
        script = f"document.getElementById('{frame}').dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Arrow%s' }}))"
        found[f"drag, {section}"] = repeat(
            browser, lambda i, script=script: script % ("Right", "Down", "Left", "Up")[i % 4]
        )
    return found


def repeat(browser, script):
    times = []
    for number in range(REPEATS + 3):  # three to warm up
        times.append(browser.run(TIMED % script(number)))
    return times[3:]


def pictures(page, folder):
    """Every section on a desktop and on a phone, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size, scale, dark in (
        ("desktop", (1280, 900), 1, False),
        ("dark", (1280, 900), 1, True),
        ("phone", (390, 844), 2, False),
        ("phone-dark", (390, 844), 2, True),
    ):
        with (
            chromium() as program,
            Page(program, size, scale, dark, touch="phone" in name) as browser,
        ):
            browser.open(page)
            browser.wait(READY)
            browser.page.screenshot(path=folder / f"{name}-0-top.png")
            for number, section in enumerate(
                browser.run("[...document.querySelectorAll('section')].map(s => s.id)"), 1
            ):
                browser.run(
                    f"document.getElementById('{section}').scrollIntoView({{ behavior: 'instant' }})"
                )
                time.sleep(1)
                browser.wait("dcfnet.idle()")
                time.sleep(0.3)
                browser.wait("dcfnet.idle()")
                browser.page.screenshot(path=folder / f"{name}-{number}-{section}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        page = args.page or Path(temporary) / "page.html"
        if args.page is None and dcfnet(["explain", "--out", str(page)]):
            return 1
        if args.pictures:
            pictures(page, args.pictures)
            return 0
        with chromium() as program, Page(program) as browser:
            browser.open(page)
            browser.wait(READY)
            found = measure(browser)
            version = f"Chromium {program.version}"
        report = {
            "browser": version,
            "cores": len(os.sched_getaffinity(0)),
            "page_mb": page.stat().st_size / 1e6,
            "ms": {},
        }
    print(f"{version}, {report['cores']} cores, page {report['page_mb']:.2f} MB")
    for name, times in found.items():
        report["ms"][name] = {"median": statistics.median(times), "largest": max(times)}
        print(f"{name:<20} median {statistics.median(times):6.1f} ms, largest {max(times):6.1f} ms")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
