"""Pictures of a run, by matplotlib: its losses and rate, and the filters of the first layer."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcfnet_np.backend import to_numpy
from dcfnet_np.support.files import replacing


def draw_curves(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Losses, tracking score, learning rate and learnt numbers over the epochs, as a PNG.

    records: of log.jsonl.
    """
    from matplotlib.figure import Figure

    learnt = [record["learnt"] for record in records if "learnt" in record]
    figure = Figure(figsize=(13 if learnt else 10, 3.2), layout="constrained")
    losses, scores, rates, *numbers = figure.subplots(1, 4 if learnt else 3)
    epochs = [record["epoch"] for record in records]
    for key, label in (("loss", "training"), ("validation_loss", "validation")):
        values = [np.nan if record[key] is None else record[key] for record in records]
        losses.plot(epochs, values, marker=".", label=label)
    losses.set(title="loss of a pair", xlabel="epoch")
    losses.legend()
    tracked = [(record["epoch"], record["success"]) for record in records if "success" in record]
    if tracked:
        scores.plot(*zip(*tracked), marker=".")
    scores.set(title="success AUC on tracked sequences", xlabel="epoch", ylim=(0, 1))
    rates.semilogy(epochs, [record["lr"] for record in records], marker=".")
    rates.set(title="learning rate", xlabel="epoch")
    if learnt:
        for name, first in learnt[0].items():
            ratios = [each[name] / first for each in learnt]
            numbers[0].plot(epochs, ratios, marker=".", label=f"{name}, {first:.3g} at first")
        numbers[0].set(title="learnt numbers, over the first", xlabel="epoch")
        numbers[0].legend()
    _write(figure, path)


def draw_filters(parameters: Mapping[str, Any], path: Path) -> None:
    """The first layer's filters as colour images, each stretched to its own range, as a PNG."""
    from matplotlib.figure import Figure

    # BGR to RGB, colours last
    filters = to_numpy(parameters["conv1.weight"])[:, ::-1].transpose(0, 2, 3, 1)
    columns = 16
    rows = -(-len(filters) // columns)
    figure = Figure(figsize=(columns / 2, rows / 2))
    for axes, image in zip(figure.subplots(rows, columns, squeeze=False).flat, filters):
        axes.imshow((image - image.min()) / max(np.ptp(image), 1e-12))
    for axes in figure.axes:
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.98, 0.1, 0.1)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    """Save a figure; with no date in it, so that the same run gives the same bytes."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=120, metadata={"Software": None})
    with replacing(path) as part:
        part.write_bytes(memory.getvalue())
