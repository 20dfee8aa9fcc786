"""train/augment.py: what changes, what does not, and that it does not depend on batches."""

import numpy as np
import pytest

from dcfnet_np.backend import to_numpy
from dcfnet_np.train.augment import Augmentation, augment

PAIRS = np.array([[3, 4], [5, 1], [9, 9], [2, 7]])


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (8, 3, 6, 5)).astype(np.float32)


def test_nothing_asked_nothing_done(images):
    assert augment(images, PAIRS, 0, Augmentation()) is images


def test_mirror_images_come_in_pairs(xp, images):
    changed = to_numpy(augment(xp.asarray(images), PAIRS, 1, Augmentation(flip=True, seed=3)))
    same = [np.allclose(a, b, atol=1e-3) for a, b in zip(images, changed, strict=True)]
    mirrored = [np.allclose(a[..., ::-1], b, atol=1e-3) for a, b in zip(images, changed, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert same[:4] == same[4:] and 0 < sum(same) < 8


def test_light_changes_each_image_for_itself(xp, images):
    changed = to_numpy(augment(xp.asarray(images), PAIRS, 0, Augmentation(light=0.2)))
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 255
    ratio = changed.mean((2, 3)) / images.mean((2, 3))
    assert len(np.unique(ratio.round(4))) == ratio.size
    bound = np.exp(0.2 + 0.2 / 3)
    assert (ratio < 1.1 * bound).all() and (ratio > 0.9 / bound).all()


def test_a_pair_is_changed_alike_in_any_batch(images):
    augmentation = Augmentation(flip=True, light=0.3, seed=1)
    whole = augment(images, PAIRS, 2, augmentation)
    part = augment(images[[1, 5]], PAIRS[1:2], 2, augmentation)
    np.testing.assert_array_equal(whole[[1, 5]], part)
    assert not np.array_equal(augment(images, PAIRS, 3, augmentation), whole)
