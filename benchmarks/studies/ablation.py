"""The paper's ablations (its Tables 1 and 2): three networks with 3 scales, and one network with
1, 3, 5 and 7.

    python benchmarks/studies/ablation.py DATASET_DIR [--weights NAME=FILE ...] [--preset paper]
                                          [--json FILE] [--page FILE.md]

`dcfnet eval` does the work: OPE by OTB's rules, files in --out, where a run that was cut goes on.
A network without a FILE takes the packaged weights of its name. For the speeds run one process
alone.
"""

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
# Table 2: OP, DP, CLE in pixels, frames per second, by tracker; OTB-2013, the authors' weights, a
# GTX 1080.
PAPER = {
    "conv1": (0.89, 0.88, 11.52, 65.94),
    "conv2": (0.84, 0.83, 14.38, 43.26),
    "conv1-dilation": (0.87, 0.88, 10.98, 63.46),
    "conv1-1s": (0.73, 0.80, 18.32, 89.44),
    "conv1-5s": (0.86, 0.83, 14.48, 41.28),
    "conv1-7s": (0.88, 0.90, 10.18, 36.86),
}


def find_weights(given: list[str]) -> dict[str, str]:
    """Weights by network. ValueError for a name or a file that is wrong."""
    files = dict(word.split("=", 1) if "=" in word else (word, "") for word in given)
    for name, file in files.items():
        if name not in NETWORKS or not file:
            known = ", ".join(NETWORKS)
            raise ValueError(f"--weights takes NAME=FILE with NAME one of {known}, got {name!r}")
        if (architecture := weights.load_weights(file).architecture) != name:
            raise ValueError(f"--weights {name}={file}: the file holds the network {architecture}")
    return {name: files.get(name, name) for name in NETWORKS}


def trackers(found: dict[str, str], preset: str) -> dict[str, str]:
    """{label: what `dcfnet eval --trackers` takes}: the networks, then the scales of the first."""
    first = next(iter(found))
    labels = {name: (name, 3) for name in found}
    labels |= {f"{first}-{count}s": (first, count) for count in SCALES if count != 3}
    return {
        label: f"{label}=dcfnet:{found[name]}:{preset}:num_scales={count}"
        for label, (name, count) in labels.items()
    }


def row(label: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a table says of one tracker, from its part of results.json."""
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
    rows = [row(label, found["trackers"][label]) for label in labels]
    first = [each for each in rows if each["network"] == rows[0]["network"]]
    return {
        "dataset": found["dataset"]["name"],
        "sequences": len(found["dataset"]["sequences"]),
        "rules": found["rules"]["name"],
        "preset": Path(preset).name,
        "workers": found["workers"],
        "networks": [each for each in rows if each["scales"] == 3],
        "scales": sorted(first, key=lambda each: each["scales"]),
        "environment": found["environment"],
    }


def table(content: dict[str, Any]) -> str:
    """The report as docs/results/ablation.md shows it."""
    head = "AUC | OP@.5 | DP@20 | CLE, px | median CLE | fps | paper: OP | DP | CLE | fps |"
    lines = ["", f"| network | parameters | receptive field | {head}", "|---|" + "--:|" * 12]
    for each in content["networks"]:
        side = each["receptive_field"]
        about = f"{each['network']} | {each['parameters']:,} | {side}x{side}"
        lines.append(f"| {about} | {figures(each)} |")
    first = content["scales"][0]["network"]
    lines += ["", f"| scales of {first} | {head}", "|--:|" + "--:|" * 10]
    lines += [f"| {each['scales']} | {figures(each)} |" for each in content["scales"]]
    where = content["environment"]
    lines += [
        "",
        f"{content['sequences']} sequences of `{content['dataset']}`, OPE, rules "
        f"`{content['rules']}`, means over sequences; the median of CLE is over sequences too.",
        f"Preset `{content['preset']}`; fps of tracking alone on {where['processor']}, "
        f"{where['cores']} cores, {content['workers']}; dcfnet_np {where['dcfnet_np']}, commit "
        f"{where['commit'][:7] or 'unknown'}.",
    ]
    return "\n".join(lines) + "\n\n"


def figures(each: dict[str, Any]) -> str:
    words = [f"{each[name]:.3f}" for name in ("auc", "op", "dp")]
    words += [f"{each[name]:.1f}" for name in ("cle", "median_cle", "fps")]
    paper = each["paper"]
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
    parser.add_argument("--out", default="out/ablation", help="boxes and report of `dcfnet eval`")
    page.add_outputs(parser)
    args = parser.parse_args(argv)
    try:
        run = trackers(find_weights(args.weights), args.preset)
        page.check(args, "ablation")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    words = ["eval", args.dataset, "--trackers", ",".join(run.values()), "--out", args.out]
    words += ["--workers", args.workers, "--device", args.device]
    code = dcfnet(words + (["--sequences", args.sequences] if args.sequences else []))
    if code:
        return code
    try:
        content = report(results.load_scored_results(Path(args.out)), list(run), args.preset)
    except ValueError as error:
        parser.error(str(error))
    page.write(content, table(content), args, "ablation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
