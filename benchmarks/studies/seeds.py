"""Success AUC of several trainings of one recipe: mean and range over their seeds, by sequence.

    python benchmarks/studies/seeds.py EVAL_DIR [EVAL_DIR ...] [--json FILE] [--page FILE.md]

EVAL_DIR: of a `dcfnet eval` whose trackers are called NETWORK-SEED, as light-0 and light-1; `make
weights` runs such a one. Each has a table of its own. Trackers of other names are columns of their
own, to compare with.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import page

from dcfnet_np.evaluation import results


def report(found: dict[str, Any]) -> dict[str, Any]:
    """Success AUC of every training by sequence, and what they were made with, as plain values."""
    networks: dict[str, list[dict[str, Any]]] = {}
    for label, facts in found["trackers"].items():
        seeded = re.fullmatch(r"(.+)-\d+", label)
        settings = facts["settings"]
        training = {
            "label": label,
            "weights_digest": settings["weights_digest"],
            "preset": Path(settings["settings"]["name"]).name,  # of a file, without its folder
            "auc": facts["scores"]["success"],
            "sequences": {name: each["success"] for name, each in facts["sequences"].items()},
        }
        networks.setdefault(seeded[1] if seeded else label, []).append(training)
    return {
        "dataset": found["dataset"]["name"],
        "protocol": found["protocol"],
        "rules": found["rules"]["name"],
        "networks": networks,
        "environment": found["environment"],
    }


def table(content: dict[str, Any]) -> str:
    """A report as docs/reference/training.md shows it."""
    networks = content["networks"]
    names = [f"{n}, {len(each)} seeds" if len(each) > 1 else n for n, each in networks.items()]
    lines = ["", f"| success AUC | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    sequences = next(iter(networks.values()))[0]["sequences"]
    for name in sequences:
        cells = [spread([one["sequences"][name] for one in each]) for each in networks.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = [spread([one["auc"] for one in each]) for each in networks.values()]
    all_of_them = [one for each in networks.values() for one in each]
    means = ", ".join(f"{one['label']} {one['auc']:.3f}" for one in all_of_them)
    presets = ", ".join(f"{name} `{each[0]['preset']}`" for name, each in networks.items())
    where = content["environment"]
    lines += [
        f"| **mean** | {' | '.join(cells)} |",
        "",
        f"{len(sequences)} sequences of `{content['dataset']}`, {content['protocol'].upper()}, "
        f"rules `{content['rules']}`; mean over seeds (lowest to highest). Means: {means}. "
        f"Presets: {presets}.",
        f"dcfnet_np {where['dcfnet_np']}, commit {where['commit'][:7] or 'unknown'}.",
    ]
    return "\n".join(lines) + "\n\n"


def spread(values: list[float]) -> str:
    """Mean (lowest to highest), the mean alone for one value."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="EVAL_DIR")
    page.add_outputs(parser)
    args = parser.parse_args(argv)
    try:
        content = [report(results.load_scored_results(folder)) for folder in args.folders]
        page.check(args, "seeds")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    page.write({"evaluations": content}, "".join(map(table, content)), args, "seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
