"""The report of a tunnel run: results.json, and one self-contained HTML page for people.

Needs the extra `report`.
"""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.report import COLOURS, write_page
from ..support.files import replacing
from ..vision.draw import draw_box
from .disturbances import DISTURBANCES
from .run import StressConfig, TrialRecord, load_video
from .trials import Trial, judge, make_scenes

PICTURE_HEIGHT = 150  # pixels of a picture of a film strip
Found = dict[str, dict[str, Any]]  # by tracker and disturbance, see `summary.summarise`
Worth = dict[str, list[dict[str, Any]]]  # by tracker, see `summary.calibrate`


def write_results(out: Path, config: StressConfig, found: Found, worth: Worth) -> None:
    """Write results.json."""
    facts = {
        "videos": [sequence.name for sequence in config.sequences],
        "starts": config.starts,
        "seed": config.seed,
        "trackers": found,
        "calibration": worth,
    }
    with replacing(out / "results.json") as part:
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_report(
    out: Path,
    config: StressConfig,
    records: dict[str, list[TrialRecord]],
    found: Found,
    worth: Worth,
) -> None:
    """Write report.html: a table, curves of survival over strength, and a film strip of losses."""
    from markupsafe import Markup

    values = {
        "trackers": [{"label": label, "colour": colour_of(found, label)} for label in found],
        "found": found,
        "names": list(next(iter(found.values()))),
        "units": {each.name: each.unit for each in DISTURBANCES.values()},
        "videos": len(config.sequences),
        "seed": config.seed,
        "calibration": worth,
        "curves": Markup(draw_curves(found)),
        "strips": list(film_strips(config, records)),
    }
    write_page(out / "report.html", "dcfnet_np.stress", values)


def colour_of(found: Found, label: str) -> str:
    """A tracker's colour: by its place on the command line."""
    return COLOURS[list(found).index(label) % len(COLOURS)]


def draw_curves(found: Found) -> str:
    """Survival over strength, a small plot for each disturbance with several strengths: SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    first = next(iter(found.values()))
    names = [name for name in first if len(first[name].get("strengths", ())) > 1]
    columns = 4
    rows = -(-len(names) // columns)
    with rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "stress"}):
        figure = Figure(figsize=(11, 0.4 + 2.1 * max(rows, 1)), layout="constrained")
        for number, name in enumerate(names, start=1):
            axes = figure.add_subplot(rows, columns, number)
            for label, figures in found.items():
                points = figures.get(name, {}).get("strengths", {})
                survived = [each["survived"] for each in points.values()]
                axes.plot([*map(float, points)], survived, "o-", color=colour_of(found, label))
            axes.set(xlabel=DISTURBANCES[name].unit, ylim=(-0.03, 1.03))
            axes.set_title(name, loc="left", fontweight="bold", fontsize=9)
            axes.grid(True, alpha=0.3)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


# --- film strips


def film_strips(
    config: StressConfig, records: dict[str, list[TrialRecord]]
) -> Iterator[dict[str, Any]]:
    """For each disturbance the weakest trial that most trackers lose, in five pictures.

    Videos in which a tracker loses the target anyway come last.
    """
    by_trial: dict[Trial, dict[str, TrialRecord]] = {}
    for label, mine in records.items():
        for record in mine:
            by_trial.setdefault(record.trial, {})[label] = record

    def lost_by(trial: Trial) -> list[str]:
        return [
            label
            for label, record in by_trial[trial].items()
            if not judge(trial, record.truth, record.boxes).survived
        ]

    hard = {trial.sequence for trial in by_trial if trial.disturbance == "none" and lost_by(trial)}
    for name in DISTURBANCES:
        trials = [trial for trial in by_trial if trial.disturbance == name and lost_by(trial)]
        if trials:
            chosen = max(
                trials,
                key=lambda trial: (
                    trial.sequence not in hard,
                    len(lost_by(trial)),
                    -trial.strength,
                ),
            )
            pictures = list(draw_trial(config, chosen, by_trial[chosen]))
            yield {"name": name, "trial": chosen, "lost": lost_by(chosen), "pictures": pictures}


def draw_trial(
    config: StressConfig, trial: Trial, records: dict[str, TrialRecord]
) -> Iterator[dict[str, Any]]:
    """Five frames of a trial, with the truth in white and the box of each tracker, as data URIs."""
    names = [sequence.name for sequence in config.sequences]
    place = names.index(trial.sequence)
    sequence = config.sequences[place]
    other = config.sequences[(place + 1) % len(names)]
    middle = (trial.begins + trial.ends) // 2
    shown = sorted({trial.begins - 1, middle, trial.ends, trial.ends + 8, trial.frames - 1})
    scenes = make_scenes(trial, *load_video(sequence, other), config.seed)
    for number, scene in enumerate(scenes):
        if number in shown:
            boxes = [scene.box, *(record.boxes[number] for record in records.values())]
            uri = picture_uri(scene.frame, boxes)
            yield {"uri": uri, "caption": f"frame {number - trial.begins:+d}"}


def picture_uri(frame: np.ndarray, boxes: Sequence[np.ndarray]) -> str:
    """A frame with the true box in white and those of the trackers in their colours, small."""
    import cv2

    scale = PICTURE_HEIGHT / len(frame)
    picture = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for place, box in enumerate(boxes):
        colour = COLOURS[(place - 1) % len(COLOURS)] if place else "#ffffff"
        blue, green, red = (int(colour[k : k + 2], 16) for k in (5, 3, 1))
        picture = draw_box(picture, (box * scale).tolist(), (blue, green, red), 2)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
