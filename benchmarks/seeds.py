"""Scores of several trainings of one recipe: mean and range over their seeds, by sequence.

    python benchmarks/seeds.py EVAL_DIR [EVAL_DIR ...] [--json FILE] [--page FILE.md]

EVAL_DIR: of a `dcfnet eval` whose trackers are called NETWORK-SEED, as light-0 and light-1; `make
weights` does so. Each has a table of its own.  Trackers of other names are columns of their own, to
compare with."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import page

from dcfnet_np.evaluation import results

MARKS = "<!-- seeds: written by benchmarks/seeds.py --page -->", "<!-- end of seeds -->"


def groups(labels: list[str]) -> dict[str, list[str]]:
    """Labels of the trackers by network, {"light": ["light-0", "light-1"]}; another label is its
    own.
    """
    found: dict[str, list[str]] = {}
    for label in labels:
        seeded = re.fullmatch(r"(.+)-\d+", label)
        found.setdefault(seeded[1] if seeded else label, []).append(label)
    return found


def report(found: dict[str, Any]) -> dict[str, Any]:
    """Success AUC of every training by sequence, and what they were made with, as plain values."""
    trackers = found["trackers"]
    return {
        "dataset": found["dataset"]["name"],
        "protocol": found["protocol"],
        "rules": found["rules"]["name"],
        "networks": {
            name: [training(label, trackers[label]) for label in each]
            for name, each in groups(trackers).items()
        },
        "environment": found["environment"],
    }


def training(label: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Of one tracker."""
    settings = facts["settings"]
    return {
        "label": label,
        "weights_digest": settings["weights_digest"],
        "preset": Path(settings["settings"]["name"]).name,  # of a file, without its folder
        "auc": facts["scores"]["success"],
        "sequences": {name: values["success"] for name, values in facts["sequences"].items()},
    }


def table(content: dict[str, Any]) -> str:
    """A report as docs/reference/training.md shows it."""
    networks = content["networks"]
    first = next(iter(networks.values()))[0]
    counts = [
        f"{name}, {len(each)} seeds" if len(each) > 1 else name for name, each in networks.items()
    ]
    lines = ["", "| success AUC | " + " | ".join(counts) + " |", "|---|" + "--:|" * len(counts)]
    for sequence in first["sequences"]:
        cells = [spread([one["sequences"][sequence] for one in each]) for each in networks.values()]
        lines.append(f"| {sequence} | {' | '.join(cells)} |")
    cells = [spread([one["auc"] for one in each]) for each in networks.values()]
    lines.append(f"| **mean** | {' | '.join(cells)} |")
    means = ", ".join(
        f"{one['label']} {one['auc']:.3f}" for each in networks.values() for one in each
    )
    presets = ", ".join(f"{name} `{each[0]['preset']}`" for name, each in networks.items())
    where = content["environment"]
    lines += [
        "",
        f"{len(first['sequences'])} sequences of `{content['dataset']}`, {content['protocol'].upper()}, rules "
        f"`{content['rules']}`; mean over seeds (lowest to highest). Means: {means}. Presets: {presets}.",
        f"dcfnet_np {where['dcfnet_np']}, commit {where['commit'][:7] or 'unknown'}.",
        "",
        "",
    ]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean (lowest to highest), the mean alone for one value."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="EVAL_DIR")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown file whose table is written anew")
    args = parser.parse_args(argv)
    try:
        content = [report(results.load_scored(folder)) for folder in args.folders]
        page.check(args.json, args.page, MARKS)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    text = "".join(table(each) for each in content)
    print(text)
    page.write({"evaluations": content}, args.json, text, args.page, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
