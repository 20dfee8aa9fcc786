"""How fast the interactive page answers, in headless Chromium, and how large it is.

    python benchmarks/studies/explain_page.py [PAGE.html] [--json FILE]

Times are from the event of a control until all that follows from it is computed and drawn, at
125x125 with `light`; median and largest of 20. Without PAGE.html one is made from the demo's clip.
Goals on two cores: a slider of the filter in 50 ms, a drag of the window in 100 ms, and 3 MB.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from browser import Page, chromium

from dcfnet_np.cli import main as dcfnet

REPEATS, WARM_UP = 20, 3
SLIDERS = {"lambda": (-4, 8), "sigma": (0.05, 0.2), "band": (6, 40)}
# the sections in which the window is dragged, by arrow keys
DRAGS = {"response": "frame-response", "patches": "frame-search"}
KEYS = ("Right", "Down", "Left", "Up")
TIMED = """new Promise((done) => {
  const began = performance.now();
  const look = () => dcfnet.idle() ? done(performance.now() - began) : setTimeout(look, 1);
  const control = document.getElementById('%s');
  %s;
  look();
})"""
SLIDE = "control.value = %f; control.dispatchEvent(new Event('input'))"
PRESS = "control.dispatchEvent(new KeyboardEvent('keydown', { key: 'Arrow%s' }))"


def repeat(browser: Page, control: str, events: list[str]) -> list[float]:
    """Milliseconds of each event of a control, once it is in sight and the page is idle."""
    browser.run(f"document.getElementById('{control}').scrollIntoView({{ behavior: 'instant' }})")
    browser.wait("dcfnet.idle()")
    return [browser.run(TIMED % (control, event)) for event in events][WARM_UP:]


def measure(browser: Page) -> dict[str, list[float]]:
    """{control: milliseconds}"""
    found, count = {}, REPEATS + WARM_UP
    for name, (low, high) in SLIDERS.items():
        events = [SLIDE % (low + (high - low) * i / count) for i in range(count)]
        found[f"slider {name}"] = repeat(browser, name, events)
    browser.run("document.getElementById('reset').click()")
    for section, frame in DRAGS.items():
        events = [PRESS % KEYS[i % 4] for i in range(count)]
        found[f"drag, {section}"] = repeat(browser, frame, events)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        page = args.page or Path(temporary) / "page.html"
        if args.page is None and dcfnet(["explain", "--out", str(page)]):
            return 1
        with chromium() as program, Page(program) as browser:
            browser.open(page)
            browser.wait("window.dcfnet && dcfnet.idle()")
            found, version = measure(browser), f"Chromium {program.version}"
        size = page.stat().st_size / 1e6
    cores = len(os.sched_getaffinity(0))
    print(f"{version}, {cores} cores, page {size:.2f} MB")
    report = {"browser": version, "cores": cores, "page_mb": size, "ms": {}}
    for name, times in found.items():
        report["ms"][name] = row = {"median": statistics.median(times), "largest": max(times)}
        print(f"{name:<20} median {row['median']:6.1f} ms, largest {row['largest']:6.1f} ms")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
