"""How well weights track: whole validation sequences, never the training pairs."""

from collections.abc import Sequence
from pathlib import Path

from dcfnet_np import datasets
from dcfnet_np.evaluation import protocols
from dcfnet_np.evaluation.baselines import Boxes
from dcfnet_np.evaluation.metrics import get_rules
from dcfnet_np.tracker import Tracker
from dcfnet_np.train.parallel import Processes
from dcfnet_np.weights import Weights


def load_sequences(folder: str | Path, learnt: Sequence[str]) -> list[datasets.Sequence]:
    """The sequences below `folder`.

    ValueError when there are none, or one of them is among the `learnt` names.
    """
    sequences = datasets.load_dataset(folder)
    alone = [sequence.name for sequence in sequences if not protocols.is_annotated(sequence)]
    if alone:
        raise ValueError(
            f"train: {alone[0]} of {folder} has no box after its first: nothing to score by; leave it out"
        )
    both = sorted({sequence.name for sequence in sequences} & set(learnt))
    if both:
        raise ValueError(f"train: {both[0]} of {folder} is also learnt from; track other sequences")
    return sequences


def success(
    weights: Weights,
    preset: str,
    device: str,
    sequences: Sequence[datasets.Sequence],
    processes: Processes,
) -> dict[str, float]:
    """Success AUC of each sequence, one pass from its first box, by OTB's rules; the ranks share
    the sequences.
    """
    rules, mine = get_rules("otb"), dict[str, float]()
    for sequence in sequences[processes.rank :: processes.size]:
        (segment,) = protocols.segments(sequence, "ope", rules)
        tracker = Boxes(Tracker(weights, preset, device))
        mine[sequence.name] = protocols.success(tracker, sequence, segment, rules)
    scores = {name: score for part in processes.gather(mine) for name, score in part.items()}
    return {sequence.name: scores[sequence.name] for sequence in sequences}
