"""The report of a run: plots as SVG and PNG, and one self-contained HTML page.

Needs the extra `report`.
"""

import base64
import importlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..support.files import replacing
from ..vision.draw import draw_box
from .metrics import is_box, score_frames
from .result_files import Run
from .results import (
    difference_text,
    interval_text,
    ranked_trackers,
    sortable,
    success_name,
    unscored_line,
)  # fmt: skip
from .rules import Rules

COLOURS = (
    "#3b7dd8", "#e07b2e", "#33a06f", "#d64550", "#8e6bbf",
    "#a0785a", "#d16ba5", "#7f8c8d", "#a39b2b", "#2fa3b5",
)  # fmt: skip
STYLES = ("-", "--", ":", "-.")
# of a plot; inside the page they become the page's own, light or dark
INK, PAPER = "#1d2329", "#fefefe"
WHITE = (255, 255, 255)

LOST_BELOW = 0.1  # overlap
GALLERY = 6  # failures shown
PICTURE_WIDTH = 320

Results = dict[str, Any]  # what `results.load_results` gives


def check_report_packages() -> None:
    """Raise ValueError when a package of the extra `report` is missing."""
    for name in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError:
            advice = "install the extra report: pip install '.[report]'"
            raise ValueError(f"a report needs {name}; {advice}") from None


def write_report(out: Path, results: Results, runs: Sequence[Run]) -> None:
    """Write report.html and plots/*.svg, *.png into `out`.

    runs: those of the first tracker, for the frames of the failure gallery.  Raises WriteError.
    """
    from markupsafe import Markup

    folder = out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    inline = []
    for plot in plan_plots(results):
        for suffix in ("png", "svg"):
            drawn = draw_plot(plot, suffix, list(results["trackers"]))
            with replacing(folder / f"{plot.name}.{suffix}") as part:
                part.write_bytes(drawn)
        inline.append({"name": plot.name, "svg": Markup(_inline(drawn.decode(), plot.name))})
    values = {**page_tables(results), **failure_gallery(results, runs), "plots": inline}
    write_page(out / "report.html", "dcfnet_np.evaluation", values)


def write_page(path: Path, package: str, values: dict[str, Any]) -> None:
    """Fill the template `report.html.j2` of a package, and write the page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with replacing(path) as part:
        part.write_text(environment.get_template("report.html.j2").render(values), encoding="utf-8")


# --- tables


def _colour(results: Results, label: str) -> str:
    """A tracker's colour: by its place on the command line, so that it stays when scores change."""
    return COLOURS[list(results["trackers"]).index(label) % len(COLOURS)]


def page_tables(results: Results) -> dict[str, Any]:
    """What the template shows but for plots, failures and the comparison."""
    vot = results["protocol"] == "vot"
    measure = "failures" if vot else "success"
    labels = ranked_trackers(results)
    facts = [results["trackers"][label] for label in labels]
    trackers = []
    for label, f in zip(labels, facts):
        texts: dict[str, Any] = {
            "interval_text": interval_text(f),
            "difference_text": difference_text(f),
            "low": (f.get("interval") or [None])[0],
            "less": f.get("to_first", {}).get("mean"),
        }
        colour = _colour(results, label)
        trackers.append({**f, **texts, "label": label, "colour": colour})
    known = results["dataset"]["sequences"]
    attributes = []
    for word in [] if vot else sorted({word for f in facts for word in f["attributes"]}):
        values = [f["attributes"].get(word, {}).get("success") for f in facts]
        count = max(f["attributes"].get(word, {}).get("sequences", 0) for f in facts)
        row = {"name": word, "sequences": count, "values": values}
        attributes.append(row)
    return {
        **results,
        "vot": vot,
        "unscored": unscored_line(results["unscored"], len(known)),
        "trackers": trackers,
        "sequences": [
            {
                "name": name,
                **about,
                "values": [f["sequences"].get(name, {}).get(measure) for f in facts],
            }
            for name, about in known.items()
        ],
        "attributes": attributes,
        "success_name": success_name(results),
        "first": next(iter(results["trackers"])),
    }


# --- plots


class Plot(NamedTuple):
    """One figure; x are the places of all values.  lines: label, score and values, best first."""

    name: str  # of its files
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: list[tuple[str, float | None, Sequence[float | None]]]


def plan_plots(results: Results) -> Iterator[Plot]:
    """The plots of a run: none where nothing could be scored."""
    if len(results["unscored"]) == len(results["dataset"]["sequences"]):
        return
    trackers = results["trackers"]

    def lines(scores: dict[str, Any], curves: dict[str, Any]) -> list[Any]:
        order = sorted(ranked_trackers(results), key=lambda label: -sortable(scores[label]))
        return [(label, scores[label], curves[label]) for label in order]

    if results["protocol"] == "vot":
        eao = {label: facts["vot"]["eao"] for label, facts in trackers.items()}
        curves = {label: facts["vot"]["curve"] for label, facts in trackers.items()}
        x = range(1, 1 + max(map(len, curves.values())))
        title = "Expected overlap"
        yield Plot(
            "expected_overlap", title, "Length of a run, frames", title, x, lines(eao, curves)
        )
        return
    for name, score, title, x_label, y_label in (
        ("success", "success", "Success plot", "Overlap threshold", "Success rate"),
        ("precision", "dp", "Precision plot", "Location error threshold, pixels", "Precision"),
        ("normalised", "normalised_precision", "Normalised precision plot",
         "Normalised error threshold", "Precision"),
    ):  # fmt: skip
        scores = {label: facts["scores"][score] for label, facts in trackers.items()}
        curves = {label: facts["curves"][name] for label, facts in trackers.items()}
        title += f" of {results['protocol'].upper()}"
        x = results["thresholds"][name]
        yield Plot(name, title, x_label, y_label, x, lines(scores, curves))


def draw_plot(plot: Plot, suffix: str, order: Sequence[str]) -> bytes:
    """One plot as a file's bytes, the same for the same figures.

    order: all labels; a tracker's place settles its colour and style.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(inks, INK),
        "axes.facecolor": PAPER,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": plot.title,
    }
    with rc_context(settings):
        height = 3.7 + 0.2 * -(-len(plot.lines) // 2)
        figure = Figure(figsize=(5.0, height), layout="constrained")
        axes = figure.add_subplot()
        for label, score, curve in plot.lines:
            values = np.array([np.nan if value is None else value for value in curve])
            place, text = order.index(label), "–" if score is None else f"{score:.3f}"
            style = STYLES[place // len(COLOURS) % len(STYLES)]
            look: Any = {"color": COLOURS[place % len(COLOURS)], "linestyle": style}
            axes.plot(
                plot.x[: len(values)], values, label=f"{label} [{text}]", linewidth=2.0, **look
            )
        axes.set_title(plot.title, loc="left", fontsize=12, fontweight="bold")
        limits = (plot.x[0], plot.x[-1])
        axes.set(xlabel=plot.x_label, ylabel=plot.y_label, xlim=limits, ylim=(0, 1))
        axes.grid(True, color="#888888", alpha=0.25, linewidth=0.8)
        # beside no curve, however many
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
        stream = io.BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        figure.savefig(stream, format=suffix, dpi=200, facecolor=PAPER, metadata=metadata)
    return stream.getvalue()


def _inline(svg: str, name: str) -> str:
    """An SVG file for inside the page: with the page's ink and fonts, and ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    svg = re.sub(r"(font: [^;\"']*?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{name} plot"', 1)


# --- failures


class Failure(NamedTuple):
    """How a tracker lost its target."""

    weight: float  # by which failures are ranked
    text: str
    shown: list[tuple[int, str]]  # frames of the run, with words


def failure_gallery(results: Results, runs: Sequence[Run]) -> dict[str, Any]:
    """Frames of the worst losses of the first tracker, whose runs these are; none of VOT's."""
    label = next(iter(results["trackers"]))
    first_runs: dict[str, Run] = {}  # TRE and SRE: one run a sequence will do
    for run in runs if results["protocol"] != "vot" else ():
        first_runs.setdefault(run.sequence.name, run)
    found = [(failure, run) for run in first_runs.values() if (failure := longest_loss(run))]
    found.sort(key=lambda each: (-each[0].weight, each[1].sequence.name))
    colour = tuple(int(_colour(results, label)[k : k + 2], 16) for k in (5, 3, 1))  # BGR
    failures = [
        {
            "sequence": run.sequence.name,
            "text": failure.text,
            "pictures": [_picture(run, *each, colour) for each in failure.shown],
        }
        for failure, run in found[:GALLERY]
    ]
    return {"failures": failures, "failure_label": label, "lost_below": LOST_BELOW}


def longest_loss(run: Run) -> Failure | None:
    """The longest part of a run with hardly any overlap, ranked by the share of lost frames."""
    truth = run.sequence.boxes[run.segment.start :]
    overlap = score_frames(run.found.boxes, truth, Rules(truth="size")).overlap
    lost = is_box(truth) & (overlap < LOST_BELOW)
    if not lost.any():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    longest = (ends - starts).argmax()
    start, end = int(starts[longest]), int(ends[longest])
    good = np.flatnonzero(overlap[:start] >= 0.5)
    before = int(good[-1]) if good.size else max(start - 1, 0)
    shown = [(before, "before"), (start, "lost"), ((start + end) // 2, "later")]
    return Failure(float(lost.mean()), f"lost in {int(lost.sum())} of {len(lost)} frames", shown)


def _picture(run: Run, index: int, words: str, colour: Any) -> dict[str, Any]:
    """One frame with both boxes, small, as a data URI."""
    import cv2

    number = run.segment.start + index
    frame = run.sequence.frame(number)
    scale = PICTURE_WIDTH / frame.shape[1]
    width, height = PICTURE_WIDTH, max(1, round(frame.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(frame, (width, height), interpolation=how)
    small = draw_box(small, run.sequence.boxes[number] * scale, WHITE, 2)
    small = draw_box(small, run.found.boxes[index] * scale, colour, 2)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    uri = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    caption = f"frame {number + 1}, {words}"
    return {"uri": uri, "width": width, "height": height, "caption": caption}
