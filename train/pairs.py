"""Which crops make a training pair: two frames of one sequence, at most `max_gap` frames apart.

The paper pairs frames at most 10 apart (Sec. 4.1).  Three ways to spend an epoch on them:

    all    every unordered pair once, the earlier frame as the template: the paper's
    ahead  every crop is the template once, its search one of the following frames: the codes'
    near   every crop is the template once, its search before or after it

All are functions of (seed, epoch) alone, so a resumed run needs no saved generator state.
"""

from typing import Any

import numpy as np

from dcfnet_np.support.words import counted
from dcfnet_np.train.config import Config
from dcfnet_np.train.crops import Crops

MAX_GAP = 10  # frames, the paper's limit
MODES = ("all", "ahead", "near")
VALIDATION_SEED = 20170413  # one draw of validation pairs for every run, so that runs compare


def partner_ranges(
    sequence: np.ndarray, frame: np.ndarray, max_gap: int = MAX_GAP
) -> tuple[np.ndarray, np.ndarray]:
    """For every crop the range [first, last) of crops that it may be paired with, itself included.

    sequence, frame: (n,) integers, sorted by sequence, then by frame, no frame twice.  Returns
    first, last: (n,) int64.  Raises ValueError when the order is wrong.
    """
    sequence, frame = np.asarray(sequence, np.int64), np.asarray(frame, np.int64)
    if len(frame) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # One axis of time for all sequences, with gaps between them that no pair can bridge.
    time = sequence * (frame.max() - frame.min() + max_gap + 1) + frame
    if np.any(np.diff(time) <= 0):
        raise ValueError(
            "partner_ranges: crops must be sorted by sequence and frame, each frame once"
        )
    first = np.searchsorted(time, time - max_gap, side="left").astype(np.int64)
    return first, np.searchsorted(time, time + max_gap, side="right").astype(np.int64)


def all_pairs(sequence: np.ndarray, frame: np.ndarray, max_gap: int = MAX_GAP) -> np.ndarray:
    """Every unordered pair once, as (earlier, later) indices: (count, 2) int64, by the earlier one.

    sequence, frame: as in `partner_ranges`.  N consecutive frames of one video give 10 N - 55 for
    N >= 10, the paper's 1,651,360 for 166,643 frames of 274 videos.
    """
    _, last = partner_ranges(sequence, frame, max_gap)
    later = last - np.arange(len(last)) - 1  # how many partners each crop has after it
    template = np.repeat(np.arange(len(last)), later)
    # Counts 1, 2, ... up anew for every template.
    ahead = np.arange(len(template)) - np.repeat(np.cumsum(later) - later, later) + 1
    return np.stack([template, template + ahead], axis=1).astype(np.int64)


def epoch_pairs(
    sequence: np.ndarray,
    frame: np.ndarray,
    *,
    seed: int,
    epoch: int,
    max_gap: int = MAX_GAP,
    count: int | None = None,
    mode: str = "near",
) -> np.ndarray:
    """The (template, search) index pairs of one epoch, shuffled: (count, 2) int64.

    sequence, frame: as in `partner_ranges`.  mode: one of MODES, see the top of this file.  With
    `count` the list is cut, or continued with further rounds, to that many pairs.  A crop with no
    partner is left out.  Raises ValueError when no crop has one.
    """
    rng = np.random.default_rng([seed, epoch])
    first, last = partner_ranges(sequence, frame, max_gap)
    if mode == "ahead":
        first = np.arange(len(first))
    pool = np.flatnonzero(last - first > 1)
    if mode == "all":
        pool = all_pairs(sequence, frame, max_gap)
    if len(pool) == 0:
        raise ValueError(
            f"no two crops of one sequence are at most {counted(max_gap, 'frame')} apart"
        )
    count = len(pool) if count is None else count
    rounds = -(-count // len(pool))
    drawn = np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]
    if mode == "all":
        return drawn
    # A number from the range without the template: those from the template on move up by one.
    search = rng.integers(first[drawn], last[drawn] - 1)
    search += search >= drawn
    return np.stack([drawn, search], axis=1)


def continue_clips(
    pairs: np.ndarray,
    sequence: np.ndarray,
    frame: np.ndarray,
    frames: int,
    rng: np.random.Generator,
    max_gap: int = MAX_GAP,
) -> np.ndarray:
    """Pairs (n, 2) with further frames behind them, (n, frames).

    Each is at most `max_gap` frames from the one before it, on the same side as that is from its
    own, and at the end of a sequence on the other side.
    """
    first, last = partner_ranges(sequence, frame, max_gap)
    clips = [*pairs.T]
    forward = clips[1] > clips[0]
    while len(clips) < frames:
        now = clips[-1]
        ahead, behind = last[now] - now - 1, now - first[now]  # how many there are
        forward = np.where(np.where(forward, ahead, behind) > 0, forward, ~forward)
        steps = rng.integers(1, np.where(forward, ahead, behind) + 1)
        clips.append(now + np.where(forward, steps, -steps))
    return np.stack(clips, axis=1)


def draw_training_pairs(data: Crops, config: Config, epoch: int) -> np.ndarray:
    """The pairs, or clips, of an epoch, (n, frames) indices of crops; none of the sequences that
    are held out.
    """
    learnt = ~(data.validation & config.hold_out)[data.sequence]
    count = config.pairs_per_epoch or None
    how: dict[str, Any] = {"seed": config.seed, "epoch": epoch}
    pairs = _draw(data, learnt, config, **how, mode=config.pairs, count=count)
    rng = np.random.default_rng([config.seed, epoch, config.frames])
    return continue_clips(pairs, data.sequence, data.frame, config.frames, rng, config.max_gap)


def draw_validation_pairs(data: Crops, config: Config) -> np.ndarray:
    """The pairs of the validation loss, (n, 2) indices: the same in every epoch and run."""
    held = (data.validation & config.hold_out)[data.sequence]
    if not held.any():
        return np.empty((0, 2), np.int64)
    count = config.validation_pairs
    return _draw(data, held, config, seed=VALIDATION_SEED, epoch=0, mode="near", count=count)


def _draw(data: Crops, chosen: np.ndarray, config: Config, **how: Any) -> np.ndarray:
    """`epoch_pairs` among the chosen crops (n,) bool, as indices into all crops."""
    index = np.flatnonzero(chosen)
    sequence, frame = data.sequence[index], data.frame[index]
    return index[epoch_pairs(sequence, frame, max_gap=config.max_gap, **how)]
