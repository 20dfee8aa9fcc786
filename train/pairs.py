"""Which crops make a training pair: two frames of one sequence, at most `max_gap` frames apart.

The paper pairs frames at most 10 apart (Sec. 4.1).  An epoch here takes every crop once as the template and
draws its search partner anew, before or after it: the loss has no direction in time, and the released codes
differ (both only look ahead).  The draw is a function of (seed, epoch) alone, so a resumed run needs no
saved generator state.
"""

import numpy as np

MAX_GAP = 10  # frames, the paper's limit


def partners(sequence: np.ndarray, frame: np.ndarray, max_gap: int = MAX_GAP) -> tuple[np.ndarray, np.ndarray]:
    """For every crop the range [first, last) of crops that it may be paired with, itself included.

    sequence, frame: (n,) integers, sorted by sequence, then by frame, no frame twice.  Returns first, last:
    (n,) int64.  Raises ValueError when the order is wrong or max_gap < 1.
    """
    sequence, frame = np.asarray(sequence, np.int64), np.asarray(frame, np.int64)
    if sequence.ndim != 1 or sequence.shape != frame.shape:
        raise ValueError(f"partners: sequence and frame must be (n,), got {sequence.shape} and {frame.shape}")
    if max_gap < 1:
        raise ValueError(f"partners: max_gap must be at least 1, got {max_gap}")
    if len(frame) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # One axis of time for all sequences, with gaps between them that no pair can bridge.
    time = sequence * (frame.max() - frame.min() + max_gap + 1) + frame
    if np.any(np.diff(time) <= 0):
        raise ValueError("partners: crops must be sorted by sequence and frame, each frame once")
    first = np.searchsorted(time, time - max_gap, side="left")
    last = np.searchsorted(time, time + max_gap, side="right")
    return first.astype(np.int64), last.astype(np.int64)


def epoch_pairs(
    sequence: np.ndarray,
    frame: np.ndarray,
    *,
    seed: int,
    epoch: int,
    max_gap: int = MAX_GAP,
    count: int | None = None,
) -> np.ndarray:
    """The (template, search) index pairs of one epoch, shuffled: (count, 2) int64.

    sequence, frame: as in `partners`.  Every crop that has a partner is a template once; with `count` the
    list is cut, or continued with further draws, to that many pairs.  A crop with no partner is left out.
    Raises ValueError when no crop has one.
    """
    first, last = partners(sequence, frame, max_gap)
    templates = np.flatnonzero(last - first > 1)
    if len(templates) == 0:
        raise ValueError(f"epoch_pairs: no two crops of one sequence are at most {max_gap} frames apart")
    if count is None:
        count = len(templates)
    elif count < 1:
        raise ValueError(f"epoch_pairs: count must be at least 1, got {count}")
    rng = np.random.default_rng([seed, epoch])
    rounds = -(-count // len(templates))
    template = np.concatenate([rng.permutation(templates) for _ in range(rounds)])[:count]
    # A number from the range without the template itself: those from the template on move up by one.
    search = rng.integers(first[template], last[template] - 1)
    search += search >= template
    return np.stack([template, search], axis=1)
