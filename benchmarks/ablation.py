"""The paper's ablations (its Tables 1 and 2): three networks with 3 scales, and one network with 1,
3, 5 and 7.

    python benchmarks/ablation.py DATASET_DIR [--weights NAME=FILE ...] [--preset paper] [--json
    FILE] [--page FILE.md]

`dcfnet eval` does the work: OPE by OTB's rules, files in --out, where a run that was cut goes on.
A network without a FILE takes the packaged weights of its name.  For the speeds run one process
alone."""

import argparse
import sys
from pathlib import Path
from typing import Any

import page

from dcfnet_np import network, weights
from dcfnet_np.cli import main as dcfnet
from dcfnet_np.evaluation import results

NETWORKS = ("conv1", "conv1-dilation", "conv2")
SCALES = (1, 3, 5, 7)
# Table 2: OP, DP, CLE in pixels, frames per second, by tracker; on OTB-2013, the authors' weights,
# a GTX 1080.
PAPER = {
    "conv1": (0.89, 0.88, 11.52, 65.94),
    "conv2": (0.84, 0.83, 14.38, 43.26),
    "conv1-dilation": (0.87, 0.88, 10.98, 63.46),
    "conv1-1s": (0.73, 0.80, 18.32, 89.44),
    "conv1-5s": (0.86, 0.83, 14.48, 41.28),
    "conv1-7s": (0.88, 0.90, 10.18, 36.86),
}
MARKS = "<!-- ablation: written by benchmarks/ablation.py --page -->", "<!-- end of ablation -->"


def find_weights(given: list[str]) -> dict[str, str]:
    """Weights by network.  ValueError for a name or a file that is wrong."""
    files = dict(word.split("=", 1) if "=" in word else (word, "") for word in given)
    for name, file in files.items():
        if name not in NETWORKS or not file:
            raise ValueError(
                f"--weights takes NAME=FILE with NAME one of {', '.join(NETWORKS)}, got {name!r}"
            )
        if (architecture := weights.load_weights(file).architecture) != name:
            raise ValueError(f"--weights {name}={file}: the file holds the network {architecture}")
    return {name: files.get(name, name) for name in NETWORKS}


def trackers(found: dict[str, str], preset: str) -> dict[str, str]:
    """{label: what `dcfnet eval --trackers` takes}: the networks, then the scales of the first of
    them.
    """
    first = next(iter(found))
    labels = {name: (name, 3) for name in found}
    labels |= {f"{first}-{count}s": (first, count) for count in SCALES if count != 3}
    return {
        label: f"{label}=dcfnet:{found[name]}:{preset}:num_scales={n}"
        for label, (name, n) in labels.items()
    }


def row(label: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a table says of one tracker, from results.json."""
    facts = found["trackers"][label]
    settings, scores = facts["settings"], facts["scores"]
    shape = network.get_architecture(settings["architecture"])
    return {
        "label": label,
        "network": settings["architecture"],
        "parameters": settings["parameters"],
        "receptive_field": 126 - network.feature_size(125, shape, "valid"),  # pixels
        "scales": settings["settings"]["num_scales"],
        "weights_digest": settings["weights_digest"],
        "auc": scores["success"],
        "op": scores["op"],
        "dp": scores["dp"],
        "cle": scores["cle"],
        "median_cle": facts["median"]["cle"],
        "fps": facts["speed"]["fps"],
        "sequences": {name: values["success"] for name, values in facts["sequences"].items()},
        "paper": dict(zip(("op", "dp", "cle", "fps"), PAPER[label])) if label in PAPER else None,
    }


def report(found: dict[str, Any], labels: list[str], preset: str) -> dict[str, Any]:
    """Both tables and what they were made with, as plain values."""
    rows = [row(label, found) for label in labels]
    return {
        "dataset": found["dataset"]["name"],
        "sequences": len(found["dataset"]["sequences"]),
        "rules": found["rules"]["name"],
        "preset": Path(preset).name,
        "workers": found["workers"],
        "networks": [each for each in rows if each["scales"] == 3],
        "scales": sorted(
            (e for e in rows if e["network"] == rows[0]["network"]), key=lambda each: each["scales"]
        ),
        "environment": found["environment"],
    }


def tables(content: dict[str, Any]) -> str:
    """The report as docs/results/ablation.md shows it."""
    figures = "AUC | OP@.5 | DP@20 | CLE, px | median CLE | fps | paper: OP | DP | CLE | fps |"
    lines = ["", f"| network | parameters | receptive field | {figures}", "|---|" + "--:|" * 12]
    for each in content["networks"]:
        side = each["receptive_field"]
        lines.append(
            f"| {each['network']} | {each['parameters']:,} | {side}x{side} | {_figures(each)} |"
        )
    lines += [
        "",
        f"| scales of {content['scales'][0]['network']} | {figures}",
        "|--:|" + "--:|" * 10,
    ]
    lines += [f"| {each['scales']} | {_figures(each)} |" for each in content["scales"]]
    where = content["environment"]
    lines += [
        "",
        f"{content['sequences']} sequences of `{content['dataset']}`, OPE, rules `{content['rules']}`, means over "
        "sequences; the median of CLE is over sequences too.",
        f"Preset `{content['preset']}`; fps of tracking alone on {where['processor']}, {where['cores']} cores, "
        f"{content['workers']}; dcfnet_np {where['dcfnet_np']}, commit {where['commit'][:7] or 'unknown'}.",
        "",
        "",
    ]
    return "\n".join(lines)


def _figures(each: dict[str, Any]) -> str:
    paper = each["paper"]
    words = [f"{each[name]:.3f}" for name in ("auc", "op", "dp")]
    words += [f"{each[name]:.1f}" for name in ("cle", "median_cle", "fps")]
    return " | ".join(
        words + ([f"{value:.2f}" for value in paper.values()] if paper else ["–"] * 4)
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--weights", metavar="NAME=FILE", nargs="*", default=[])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--sequences", metavar="A,B,...")
    parser.add_argument("--workers", default="1")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--out", type=Path, default=Path("out/ablation"), help="boxes and report of `dcfnet eval`"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown file whose tables are written anew")
    args = parser.parse_args(argv)
    try:
        found = find_weights(args.weights)
        page.check(args.json, args.page, MARKS)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    run = trackers(found, args.preset)
    words = ["eval", args.dataset, "--trackers", ",".join(run.values()), "--out", str(args.out)]
    words += ["--workers", args.workers, "--device", args.device]
    code = dcfnet(words + (["--sequences", args.sequences] if args.sequences else []))
    if code:
        return code
    try:
        content = report(results.load_scored(args.out), list(run), args.preset)
    except ValueError as error:
        parser.error(str(error))
    print(tables(content))
    page.write(content, args.json, tables(content), args.page, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
