"""train/pairs.py against brute force: which pairs make an epoch."""

import numpy as np
import pytest

from dcfnet_np.train.pairs import all_pairs, epoch_pairs, partner_ranges

SEQUENCE = np.repeat([0, 1, 2, 3], [30, 7, 1, 25])
FRAME = np.concatenate([np.arange(30), [1, 2, 3, 40, 41, 55, 99], [0], np.arange(5, 130, 5)])


def draw(epoch=0, seed=3, **settings):
    return epoch_pairs(SEQUENCE, FRAME, seed=seed, epoch=epoch, **settings)


@pytest.mark.parametrize("max_gap", [1, 10])
def test_pairs_obey_the_rules(max_gap):
    template, search = draw(max_gap=max_gap).T
    gap = FRAME[search] - FRAME[template]
    assert (SEQUENCE[template] == SEQUENCE[search]).all()
    assert (gap != 0).all() and (abs(gap) <= max_gap).all()
    assert (gap > 0).any() and (gap < 0).any()
    # By brute force: who has a partner is a template, once.
    near = (SEQUENCE[:, None] == SEQUENCE) & (abs(FRAME[:, None] - FRAME) <= max_gap)
    assert sorted(template) == list(np.flatnonzero(near.sum(1) > 1))


def test_all_pairs_are_those_found_by_brute_force():
    drawn = draw(max_gap=7, mode="all")
    gap = FRAME[None, :] - FRAME[:, None]
    expected = np.argwhere((SEQUENCE[:, None] == SEQUENCE) & (gap >= 1) & (gap <= 7))
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, expected))
    assert not np.array_equal(drawn, expected)  # shuffled


def test_the_papers_number_of_pairs():
    """10 N - 55 for a video of N frames: 1,651,360 from 166,643 frames of 274 videos (Sec. 4.1)."""
    lengths = np.full(274, 166_643 // 274)
    lengths[: 166_643 - lengths.sum()] += 1
    sequence = np.repeat(np.arange(274), lengths)
    frame = np.arange(166_643) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    assert len(all_pairs(sequence, frame)) == 1_651_360 == 10 * 166_643 - 55 * 274


def test_partners_ahead_come_later():
    template, search = draw(max_gap=10, mode="ahead").T
    gap = FRAME[search] - FRAME[template]
    assert (SEQUENCE[template] == SEQUENCE[search]).all() and gap.min() >= 1 and gap.max() == 10
    gap = FRAME - FRAME[:, None]
    later = (SEQUENCE[:, None] == SEQUENCE) & (gap > 0) & (gap <= 10)
    assert sorted(template) == list(np.flatnonzero(later.any(1)))


def test_every_allowed_partner_is_drawn():
    seen = {tuple(pair) for epoch in range(200) for pair in draw(epoch, max_gap=4).tolist()}
    near = (SEQUENCE[:, None] == SEQUENCE) & (abs(FRAME[:, None] - FRAME) <= 4)
    np.fill_diagonal(near, False)
    assert seen == set(map(tuple, np.argwhere(near).tolist()))


def test_pairs_are_a_function_of_seed_and_epoch():
    assert np.array_equal(draw(2, seed=1), draw(2, seed=1))
    assert not np.array_equal(draw(2, seed=1), draw(3, seed=1))
    assert not np.array_equal(draw(2, seed=1), draw(2, seed=2))


def test_the_number_of_pairs():
    for count in (1, 10, 300):
        drawn = draw(count=count)
        assert drawn.shape == (count, 2)
    uses = np.bincount(drawn[:, 0])
    assert uses[uses > 0].max() - uses[uses > 0].min() <= 1
    assert len(np.unique(draw(count=20, mode="all"), axis=0)) == 20


def test_bad_input():
    with pytest.raises(ValueError, match="no two crops of one sequence are at most 10"):
        epoch_pairs(np.arange(5), np.arange(5), seed=0, epoch=0)
    for frames in ([1, 3, 2], [0, 3, 3]):
        with pytest.raises(ValueError, match="sorted by sequence and frame, each frame once"):
            partner_ranges(np.array([0, 0, 0]), np.array(frames))
