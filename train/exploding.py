"""Pairs whose loss explodes: what a step leaves out, and when a run ends.

A pair explodes when its loss is over a limit: nearly always its template shows next to nothing.  A
few such pairs are no harm: a step learns nothing of them.  Many mean that the parameters are bad.
"""

from typing import NamedTuple

import numpy as np

EXPECTED = 0.1  # share of the pairs that may explode, see `judge_losses`
MANY = 10.0  # pairs beyond that share, which end a run


class Diverged(Exception):
    """A step that must not be made.

    It has the losses of its pairs, what each may be, and the index pairs of its batch.
    """

    def __init__(self, losses: np.ndarray, limit: float, batch: np.ndarray) -> None:
        self.losses, self.limit, self.batch = losses, limit, batch


class Outcome(NamedTuple):
    """What a step came to."""

    losses: np.ndarray  # (N,) float64, of its pairs
    left_out: np.ndarray  # (N,) bool, pairs that exploded, of which the step has learnt nothing
    surplus: float  # see `judge_losses`


def judge_losses(losses: np.ndarray, limit: float, surplus: float, batch: np.ndarray) -> Outcome:
    """Which pairs of a step are left out of it, and whether the run can go on.

    losses: (N,), of the pairs batch, (N, 2) indices.  limit: what a loss may be.  surplus: 0 at
    first; grows by one with each pair that explodes and falls by EXPECTED, not below 0, with every
    pair of the run.  Raises Diverged when it is over MANY, and when a loss is no finite number,
    which only the parameters can do.
    """
    left_out = losses > limit
    surplus = max(0.0, surplus + float(left_out.sum()) - EXPECTED * len(losses))
    if not np.isfinite(losses).all() or surplus > MANY:
        raise Diverged(losses, limit, batch)
    return Outcome(losses, left_out, surplus)
