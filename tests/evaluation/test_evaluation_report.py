"""The report: what is on the page, that it needs nothing else, and how a browser shows it."""

import base64
import html
import json
import os
import re
import subprocess

import cv2
import numpy as np
import pytest
from browser import OPTIONS, find_browser
from processes import PATIENCE
from scenes import make_sequence, write_sequence

from dcfnet_np.cli import main
from dcfnet_np.evaluation import report, results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{protocol: folder of a run} on three sequences; the target of one jumps away."""
    root = tmp_path_factory.mktemp("report")
    for number in range(3):
        jumps = {"step": (0.5, 0.3), "jump": 12} if number == 2 else {}
        scene = make_sequence(np.random.default_rng(number), 24, 96, 72, (24, 18), **jumps)
        write_sequence(root / "set" / f"walk{10 - number}", *scene)
    (root / "set/attributes.json").write_text(json.dumps({"walk8": ["FM"], "walk9": ["SV", "FM"]}))

    def evaluate(name, trackers, *words):
        words = ["--trackers", trackers, *words, "--out", str(root / name)]
        assert main(["eval", str(root / "set"), *words]) == 0
        return root / name

    return {
        "ope": evaluate("ope", "gray-dcf,identity,a.b=csrt"),
        "vot": evaluate("vot", "gray-dcf,identity", "--protocol", "vot"),
    }


def read(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page):
    """Words of a page without its style and script."""
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.S)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_the_page_needs_nothing_else(runs):
    """All that a browser would fetch is in the page."""
    names = "src|href|xlink:href|srcset|action|data|poster"
    for page in (read(runs["ope"]), read(runs["vot"])):
        addresses = re.findall(rf'\s(?:{names})="([^"]*)"', page)
        assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
        assert "url(http" not in page and "@import" not in page
        ids = re.findall(r'\bid="([^"]+)"', page)
        assert len(ids) == len(set(ids))


def test_what_is_on_the_page(runs):
    page, found = read(runs["ope"]), results.load_results(runs["ope"])
    text, scores = text_of(page), [facts["scores"] for facts in found["trackers"].values()]
    words = [f"{each['success']:.3f}" for each in scores] + [
        f"{each['cle']:.1f}" for each in scores
    ]
    words += ["OPE on set", "3 sequences, 72 frames", "FM fast motion", "walk10"]
    words += ["Failures of gray-dcf", "walk8 lost in", "a.b was skipped: OpenCV"]
    words += [results.interval_text(found["trackers"]["identity"]), "less gray-dcf"]
    words += [results.difference_text(found["trackers"]["identity"])]
    words += [found["trackers"]["gray-dcf"]["boxes_digest"]]
    words += [f"{name} {value}" for name, value in found["rules"].items()]
    assert [each for each in words if each not in text] == []
    assert page.count("data:image/jpeg;base64,") == 3 * text.count("lost in")
    vot = text_of(read(runs["vot"]))
    assert "VOT's measures on 3 sequences are a test of the code and no score" in vot
    assert "Expected overlap" in vot and "Robustness" in vot


def test_plots(runs):
    for name in ("success", "precision", "normalised"):
        svg = (runs["ope"] / f"plots/{name}.svg").read_text(encoding="utf-8")
        assert "gray-dcf [" in svg and "identity [" in svg and "currentColor" not in svg
        picture = cv2.imread(str(runs["ope"] / f"plots/{name}.png"))
        assert picture.shape[1] == 1000 and len(np.unique(picture)) > 50
    assert (runs["vot"] / "plots/expected_overlap.svg").is_file()


def test_names_are_escaped_and_plots_come_again(runs, tmp_path):
    found = results.load_results(runs["ope"])
    found["dataset"]["name"] = "<script>alert(1)</script>"
    report.write_report(tmp_path, found, [])
    assert "<script>alert" not in read(tmp_path)
    for name in ("success.svg", "precision.png"):
        again = (tmp_path / "plots" / name).read_bytes()
        assert again == (runs["ope"] / "plots" / name).read_bytes()


# --- in a browser

SCRIPT = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("load", () => {
  const table = document.querySelector("#sequence-table");
  const rows = () => [...table.tBodies[0].rows];
  const column = (index) => rows().map((row) => row.children[index].textContent.trim());
  const click = (index) => table.tHead.rows[0].children[index].querySelector("button").click();
  const seen = { names: column(0) };
  click(3); seen.descending = column(3);
  click(3); seen.ascending = column(3);
  seen.sorted = table.tHead.rows[0].children[3].getAttribute("aria-sort");
  click(0); seen.byName = column(0);
  seen.plots = [...document.querySelectorAll("#plots svg")].map((svg) => {
    const box = svg.getBoundingClientRect();
    const paths = [...svg.querySelectorAll("[id*=line2d] path")];
    const lines = paths.filter((path) => path.getTotalLength() > 20).length;
    const text = svg.textContent.includes("gray-dcf");
    return { width: box.width, height: box.height, lines, text };
  });
  const images = [...document.querySelectorAll("#failures img")];
  seen.pictures = images.map((image) => image.naturalWidth);
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  seen.background = getComputedStyle(document.body).backgroundColor;
  seen.ink = getComputedStyle(document.querySelector("#plots svg text")).fill;
  seen.errors = errors;
  document.body.innerHTML = "";
  document.body.textContent = "SEEN" + btoa(JSON.stringify(seen)) + "END";
});
</script>
</head>
"""


def browse(page, tmp_path, *options):
    """(what SCRIPT saw, console messages) of a page in headless Chromium without a network."""
    copy = tmp_path / "page.html"
    copy.write_text(read(page).replace("</head>", SCRIPT, 1), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    words = [find_browser(), *OPTIONS, "--enable-logging=stderr", "--window-size=1280,900"]
    words += [profile, *options, "--dump-dom", copy.as_uri()]
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=home)
    found = re.search(r"SEEN([\w+/=]+)END", done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(base64.b64decode(found[1]))
    return seen, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.needs_browser
def test_in_a_browser(runs, tmp_path):
    seen, console = browse(runs["ope"], tmp_path)
    assert console == [] and seen["errors"] == []
    assert seen["names"] == ["walk8", "walk9", "walk10"]
    values = [float(value) for value in seen["descending"]]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    assert seen["ascending"] == seen["descending"][::-1] and seen["sorted"] == "ascending"
    assert seen["byName"] == ["walk8", "walk9", "walk10"]  # 9 before 10
    assert len(seen["plots"]) == 3
    for plot in seen["plots"]:
        assert plot["width"] > 300 and plot["height"] > 200 and plot["lines"] >= 2 and plot["text"]
    assert seen["pictures"] and all(width == 320 for width in seen["pictures"])
    assert seen["wide"], "the page scrolls sideways"
    assert seen["background"] == "rgb(255, 255, 255)" and seen["ink"] == "rgb(29, 35, 41)"


def test_in_the_dark_and_on_a_telephone(runs, tmp_path):
    options = ("--blink-settings=preferredColorScheme=0", "--window-size=500,900")
    seen, console = browse(runs["ope"], tmp_path, *options)
    assert console == [] and seen["errors"] == [] and seen["wide"]
    assert seen["background"] == "rgb(20, 24, 29)" and seen["ink"] == "rgb(228, 232, 236)"
