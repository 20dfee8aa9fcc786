"""The report of a run: plots as SVG and PNG, and one self-contained HTML page.

Needs the extra `report`.
"""

import base64
import importlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..support.files import replacing
from ..vision.draw import draw_box
from .metrics import Rules, is_box, score_frames
from .protocols import FAILED, Run
from .results import sortable, unscored
from .runner import Job, read

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

# What the OTB attributes stand for.
ATTRIBUTES = {
    "IV": "illumination variation",
    "SV": "scale variation",
    "OCC": "occlusion",
    "DEF": "deformation",
    "MB": "motion blur",
    "FM": "fast motion",
    "IPR": "in-plane rotation",
    "OPR": "out-of-plane rotation",
    "OV": "out of view",
    "BC": "background clutter",
    "LR": "low resolution",
}


class Line(NamedTuple):
    label: str
    score: str
    values: Sequence[float | None]
    colour: str
    style: str


def check_installed() -> None:
    """Raise ValueError when a package of the extra `report` is missing."""
    for name in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(
                f"a report needs {name}; install the extra report: pip install '.[report]'"
            ) from None


def write(
    out: Path, results: dict[str, Any], jobs: Sequence[Job], other: dict[str, Any] | None = None
) -> None:
    """Write report.html and plots/*.svg, *.png into `out`.

    results: what `results.load` gives.  jobs: those of the run, for the frames of the failure
    gallery.
    other: the results of another run, to be compared with.  Raises WriteError.
    """
    import jinja2
    from markupsafe import Markup

    folder = out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    inline = []
    for name, title, x_label, y_label, x, lines in _plots(results):
        for suffix in ("png", "svg"):
            drawn = _draw(title, x_label, y_label, x, lines, suffix)
            with replacing(folder / f"{name}.{suffix}") as part:
                part.write_bytes(drawn)
        inline.append({"name": name, "svg": Markup(_inline(drawn.decode(), name))})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dcfnet_np.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        **_context(results),
        plots=inline,
        **_gallery(out, results, jobs),
        comparison=_compare(results, other),
    )
    with replacing(out / "report.html") as part:
        part.write_text(page, encoding="utf-8")


# --- tables
# -----------------------------------------------------------------------------------------------


def _ranked(results: dict[str, Any]) -> list[str]:
    """Labels, the best tracker first."""

    def key(label: str) -> float:
        facts = results["trackers"][label]
        return sortable(facts["vot"]["eao"] if "vot" in facts else facts["scores"]["success"])

    return sorted(results["trackers"], key=key, reverse=True)


def _colour(results: dict[str, Any], label: str) -> str:
    """A tracker's colour: by its place on the command line, so that it stays when scores change."""
    return COLOURS[list(results["trackers"]).index(label) % len(COLOURS)]


def _success_name(results: dict[str, Any]) -> str:
    return "AO" if results["rules"]["success_score"] == "overlap" else "AUC"


def _context(results: dict[str, Any]) -> dict[str, Any]:
    """What the template shows but for plots, failures and the comparison."""
    vot = results["protocol"] == "vot"
    labels = _ranked(results)
    facts = [results["trackers"][label] for label in labels]
    key = "vot" if vot else "scores"
    best = {}
    for name in (
        ("accuracy", "eao", "failures")
        if vot
        else ("success", "op", "dp", "normalised_precision", "cle")
    ):
        values = [f[key][name] for f in facts if f[key][name] is not None]
        best[name] = (min if name in ("cle", "failures") else max)(values) if values else None
    trackers = [
        f
        | {
            "label": label,
            "colour": _colour(results, label),
            "best": {n: b is not None and f[key][n] == b for n, b in best.items()},
        }
        for label, f in zip(labels, facts)
    ]
    known = results["dataset"]["sequences"]
    measure = "failures" if vot else "success"
    sequences = [
        {"name": name, **about, "values": [f["sequences"][name][measure] for f in facts]}
        for name, about in known.items()
    ]
    attributes = []
    for word in [] if vot else sorted({word for f in facts for word in f["attributes"]}):
        values = [f["attributes"][word]["success"] for f in facts]
        attributes.append(
            {
                "name": word,
                "meaning": ATTRIBUTES.get(word, ""),
                "sequences": facts[0]["attributes"][word]["sequences"],
                "values": values,
                "best": max(value for value in values if value is not None),
            }
        )
    name = _success_name(results)
    return {
        "title": f"{results['protocol'].upper()} on {results['dataset']['name']}",
        "vot": vot,
        "lengths": facts[0]["vot"]["lengths"] if vot else None,
        "rules": results["rules"],
        "environment": results["environment"],
        "dataset": results["dataset"]["path"],
        "workers": results["workers"],
        "skipped": results["skipped"],
        "unscored": unscored(results["unscored"], len(known)),
        "frames": sum(about["frames"] for about in known.values()),
        "trackers": trackers,
        "sequences": sequences,
        "attributes": attributes,
        "has_median": all("median" in f for f in facts),
        "success_name": name,
        "success_hint": "average overlap" if name == "AO" else "area under the success curve",
        "notes": [
            f"{sequence}: {note}" for sequence, about in known.items() for note in about["notes"]
        ],
    }


def _compare(results: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Trackers and sequences that both runs have, the largest difference of a sequence first."""
    if other is None:
        return None
    if results["protocol"] == "vot" or other["protocol"] == "vot":
        raise ValueError("VOT runs are not compared: --compare takes runs of ope, tre or sre")
    warnings = []
    if results["protocol"] != other["protocol"]:
        warnings.append(
            f"The protocols differ: {results['protocol']} here, {other['protocol']} there."
        )
    rules = [
        f"{k} ({v}, {other['rules'][k]})"
        for k, v in results["rules"].items()
        if other["rules"].get(k) != v
    ]
    if rules:
        warnings.append(f"The rules differ in {', '.join(rules)}.")
    rows = []
    for label in _ranked(results):
        if label not in other["trackers"]:
            warnings.append(f"The other run has no {label}.")
            continue
        ours, theirs = (
            results["trackers"][label]["sequences"],
            other["trackers"][label]["sequences"],
        )
        both = [
            (name, ours[name]["success"], theirs[name]["success"])
            for name in ours
            if name in theirs
            and ours[name]["success"] is not None
            and theirs[name]["success"] is not None
        ]
        if not both:
            continue
        words = f"mean of {len(both)}"
        means = [float(np.mean([row[column] for row in both])) for column in (1, 2)]
        lines = [("", *means), *sorted(both, key=lambda row: -abs(row[1] - row[2]))]
        rows += [
            {
                "tracker": label,
                "sequence": name,
                "this": this,
                "other": that,
                "difference": this - that,
                "words": words,
            }
            for name, this, that in lines
        ]
    return {
        "name": other["dataset"]["name"] + ", " + _origin(other),
        "warnings": warnings,
        "rows": rows,
    }


def _origin(results: dict[str, Any]) -> str:
    environment = results["environment"]
    return f"dcfnet_np {environment['dcfnet_np']} {environment['commit'][:10]}".strip()


# --- plots
# ------------------------------------------------------------------------------------------------


def _plots(results: dict[str, Any]) -> list[tuple[str, str, str, str, Sequence[float], list[Line]]]:
    """(file name, title, axis labels, x, lines) of every plot."""
    protocol = results["protocol"].upper()
    labels = _ranked(results)
    facts = {label: results["trackers"][label] for label in labels}
    order = list(results["trackers"])

    def line(label: str, score: str, values: Sequence[float | None]) -> Line:
        style = STYLES[order.index(label) // len(COLOURS) % len(STYLES)]
        return Line(label, score, values, _colour(results, label), style)

    if len(results["unscored"]) == len(results["dataset"]["sequences"]):
        return []
    if results["protocol"] == "vot":
        longest = max(len(f["vot"]["curve"]) for f in facts.values())
        lines = [
            line(label, _number(f["vot"]["eao"]), f["vot"]["curve"]) for label, f in facts.items()
        ]
        title, x = "Expected overlap", list(range(1, longest + 1))
        return [
            ("expected_overlap", title, "Length of a run, frames", "Expected overlap", x, lines)
        ]
    plots = []
    for name, title, x_label, y_label, score in (
        ("success", "Success plot", "Overlap threshold", "Success rate", "success"),
        ("precision", "Precision plot", "Location error threshold, pixels", "Precision", "dp"),
        (
            "normalised",
            "Normalised precision plot",
            "Normalised error threshold",
            "Precision",
            "normalised_precision",
        ),
    ):
        ranked = sorted(labels, key=lambda label: -sortable(facts[label]["scores"][score]))
        lines = [
            line(label, _number(facts[label]["scores"][score]), facts[label]["curves"][name])
            for label in ranked
        ]
        x = results["thresholds"][name]
        plots.append((name, f"{title} of {protocol}", x_label, y_label, x, lines))
    return plots


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _draw(
    title: str, x_label: str, y_label: str, x: Sequence[float], lines: Sequence[Line], suffix: str
) -> bytes:
    """One plot as a file's bytes, the same for the same figures."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": INK,
        "axes.facecolor": PAPER,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=(5.0, 3.7 + 0.2 * -(-len(lines) // 2)), layout="constrained")
        axes = figure.add_subplot()
        for one in lines:
            values = np.array([np.nan if value is None else value for value in one.values])
            axes.plot(
                x[: len(values)],
                values,
                one.style,
                color=one.colour,
                linewidth=2.0,
                label=f"{one.label} [{one.score}]",
            )
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(x[0], x[-1]), ylim=(0, 1))
        axes.grid(True, color="#888888", alpha=0.25, linewidth=0.8)
        # beside no curve, however many
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
        stream = io.BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        figure.savefig(stream, format=suffix, dpi=200, facecolor=PAPER, metadata=metadata)
    return stream.getvalue()


def _inline(svg: str, name: str) -> str:
    """An SVG file for inside the page: in the page's text colour and fonts, its ids told apart from
    other plots'.
    """
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    svg = re.sub(r"(font: [^;\"']*?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{name} plot"', 1)


# --- failures
# ---------------------------------------------------------------------------------------------


def _gallery(out: Path, results: dict[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    """Frames of the worst failures of the first tracker on the command line."""
    label = next(iter(results["trackers"]))
    supervised = results["protocol"] == "vot"
    found = []
    first_runs: dict[str, Job] = {}  # TRE and SRE: one run a sequence will do
    for job in jobs:
        if job.spec.label == label:
            first_runs.setdefault(job.sequence.name, job)
    for job in first_runs.values():
        result = read(out, job)
        failure = _supervised_failure(result) if supervised else _longest_loss(job, result)
        if failure is not None:
            found.append((failure[0], job, result, failure[1], failure[2]))
    found.sort(key=lambda item: (-item[0], item[1].sequence.name))
    colour = tuple(int(_colour(results, label)[k : k + 2], 16) for k in (5, 3, 1))  # BGR
    failures = [
        {
            "sequence": job.stem,
            "text": text,
            "pictures": [_picture(job, result, index, words, colour) for index, words in shown],
        }
        for _, job, result, text, shown in found[:GALLERY]
    ]
    words = (
        "A frame before each sequence's first failure, the failure, and the new start."
        if supervised
        else "Where it lost the target for longest: the last good frame, the first with an overlap below "
        f"{LOST_BELOW}, and one in the middle of the loss."
    )
    return {"failures": failures, "failure_label": label, "failure_words": words}


def _longest_loss(job: Job, result: Run) -> tuple[float, str, list[tuple[int, str]]] | None:
    """(share of frames lost, words, frames to show) of the longest run of frames with hardly any
    overlap, or None.
    """
    truth = job.sequence.boxes[job.segment.start :]
    frames = score_frames(result.boxes, truth, Rules(truth="size"))
    there = is_box(truth)
    lost = there & (frames.overlap < LOST_BELOW)
    if not lost.any():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    start, end = int(starts[longest]), int(ends[longest])
    good = np.flatnonzero(frames.overlap[:start] >= 0.5)
    before = int(good[-1]) if good.size else max(start - 1, 0)
    text = f"lost in {int(lost.sum())} of {len(lost)} frames"
    shown = [(before, "before"), (start, "lost"), ((start + end) // 2, "later")]
    return float(lost.mean()), text, shown


def _supervised_failure(result: Run) -> tuple[float, str, list[tuple[int, str]]] | None:
    failed = np.flatnonzero(result.states == FAILED)
    if not failed.size:
        return None
    first = int(failed[0])
    after = np.flatnonzero(result.states[first + 1 :] == 1)
    shown = [(first - 1, "before"), (first, "failed")]
    if after.size:
        shown.append((first + 1 + int(after[0]), "started again"))
    return float(failed.size), f"{failed.size} failure{'s' if failed.size > 1 else ''}", shown


def _picture(
    job: Job, result: Run, index: int, words: str, colour: tuple[int, ...]
) -> dict[str, Any]:
    """One frame with both boxes, small, as a data URI."""
    import cv2

    number = job.segment.start + index
    frame = job.sequence.frame(number)
    scale = PICTURE_WIDTH / frame.shape[1]
    size = (PICTURE_WIDTH, max(1, round(frame.shape[0] * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    small = draw_box(small, job.sequence.boxes[number] * scale, WHITE, 2)
    small = draw_box(small, result.boxes[index] * scale, colour, 2)  # type: ignore[arg-type]
    good, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not good:
        raise RuntimeError("OpenCV cannot write JPEG")
    uri = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    return {
        "uri": uri,
        "width": size[0],
        "height": size[1],
        "caption": f"frame {number + 1}, {words}",
    }
