"""train/augment.py: what changes, what does not, and that it does not depend on batches."""

import numpy as np
import pytest

from dcfnet_np.ops.dcf import dcf_forward
from dcfnet_np.train.augment import (
    Augmentation,
    augment_images,
    cut_images,
    draw_changes,
    draw_cuts,
    label_shifts,
    shift_label,
)
from dcfnet_np.train.plain_step import PairImages
from dcfnet_np.vision.windows import gaussian_label

PAIRS = np.array([[3, 4], [5, 1], [9, 9], [2, 7]])


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (8, 3, 6, 5)).astype(np.float32)


SIZE, MARGIN = 31, 6
EVERYTHING = Augmentation(
    flip=True, light=0.2, colour=0.1, jitter=5, scale=0.1, gray=0.5, blur=1.5, rotate=20,
    stretch=0.1, seed=4,
)  # fmt: skip


@pytest.fixture
def raw(rng):
    """Stored crops of the four pairs, noise smoothed over some pixels."""
    side = SIZE + 2 * MARGIN
    noise = rng.integers(0, 256, (2, len(PAIRS), 3, side, side)).astype(float)
    for axis in (3, 4):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
    return noise.round().astype(np.uint8)


def middle(raw):
    return raw[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def test_nothing_asked_or_validation_cuts_the_middle(raw):
    np.testing.assert_array_equal(cut_images(raw, PAIRS, SIZE, 0, Augmentation()), middle(raw))
    np.testing.assert_array_equal(cut_images(raw, PAIRS, SIZE, None, EVERYTHING), middle(raw))


def test_jitter_moves_the_search_window_alone(raw):
    augmentation = Augmentation(jitter=MARGIN, seed=2)
    shift = draw_cuts(PAIRS, 3, augmentation).shift
    assert len(np.unique(shift, axis=0)) == 4 and abs(shift).max() <= MARGIN
    got = cut_images(raw, PAIRS, SIZE, 3, augmentation)
    np.testing.assert_array_equal(got[0], middle(raw)[0])
    for image, crop, (dx, dy) in zip(got[1], raw[1], shift):
        np.testing.assert_array_equal(image, crop[:, MARGIN + dy :, MARGIN + dx :][:, :SIZE, :SIZE])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("warp", [{}, {"scale": 0.2}, {"scale": 0.1, "rotate": 40, "stretch": 0.2}])
def test_the_response_peaks_where_the_shifted_label_does(rng, flip, warp):
    """By the real filter, on raw pixels: template and search are one image, the search moved,
    mirrored and warped.
    """
    side, size = 2 * 14 + 45, 45
    crops = rng.integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    crops[1] = crops[0]
    # A bright blob in the middle, which a scale of some percent leaves where and what it is.
    distance = np.hypot(*(np.mgrid[:side, :side] - side // 2))
    crops = np.maximum(crops // 8, (255 * np.exp(-((distance / 5) ** 2))).astype(np.uint8))
    augmentation = Augmentation(flip=flip, jitter=9, seed=1, **warp)
    batches = PairImages(crops, (20.0, 20.0, 20.0), np.float64, augmentation, size=size)
    label = gaussian_label((size, size), 3.0, np.float64)
    pairs = np.tile([[0, 1]], (1, 1))
    peaks = set()
    for epoch in range(8):
        images = batches.images(pairs, epoch)
        response, _ = dcf_forward(images[:1], images[1:], np.fft.rfft2(label), 1e-1)
        (shift,) = label_shifts(pairs, epoch, augmentation)
        (wanted,) = shift_label(label, shift[None])
        maps = response[0], wanted
        found, expected = (np.array(np.unravel_index(m.argmax(), m.shape)) for m in maps)
        np.testing.assert_array_equal(expected, shift % size)
        assert abs(found - expected).max() <= bool(warp)
        peaks.add(tuple(expected))
    assert len(peaks) > 4


@pytest.mark.parametrize(
    "warp",
    [
        {"stretch": 0.4},
        {"scale": 0.2, "rotate": 40, "stretch": 0.4},
        {"jitter": 6, "scale": 0.3, "rotate": 90},
    ],
)
def test_search_windows_turn_and_stretch_about_the_target(warp):
    """Two marks, right of the target and below it, are found where trigonometry puts them."""
    augmentation = Augmentation(**warp, seed=3)
    side, size = 77, 61
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    places = (38, 38), (50, 38), (38, 50)
    blobs = [255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 8) for at in places]
    raw = np.broadcast_to(np.round(blobs).astype(np.uint8), (2, len(PAIRS), 3, side, side))
    got = cut_images(raw, PAIRS, size, 0, augmentation)
    np.testing.assert_array_equal(got[0], raw[0, ..., 8:-8, 8:-8])
    cuts = draw_cuts(PAIRS, 0, augmentation)
    assert np.ptp(cuts.angle) > 0.3 or "rotate" not in warp
    rows = zip(got[1], cuts.shift, cuts.scale, cuts.angle, cuts.stretch)
    for image, shift, scale, angle, stretch in rows:
        weight = image.astype(float)
        rows, columns = np.mgrid[:size, :size]
        found = [np.array([(w * columns).sum(), (w * rows).sum()]) / w.sum() for w in weight]
        target = (size - 1) / 2 - shift / scale
        # A window that turns one way, and is so many times as wide, shows the mark turned the other
        # way, and nearer.
        expected = [
            target + 12 / scale * np.array([np.cos(angle) / stretch, -np.sin(angle) * stretch]),
            target + 12 / scale * np.array([np.sin(angle) / stretch, np.cos(angle) * stretch]),
        ]
        for place, mark in zip((target, *expected), found):
            np.testing.assert_allclose(mark, place, atol=0.3)


def test_gray(raw):
    drawn = draw_cuts(PAIRS, 1, EVERYTHING)
    gray = cut_images(raw, PAIRS, SIZE, 1, Augmentation(gray=0.5, seed=4)).astype(int)
    assert 0 < drawn.gray.sum() < 4
    same = (gray == gray[:, :, :1]).all((0, 2, 3, 4))
    np.testing.assert_array_equal(same, drawn.gray)
    weighted = np.tensordot(middle(raw), [0.114, 0.587, 0.299], (2, 0))
    np.testing.assert_allclose(gray[:, drawn.gray, 0], weighted[:, drawn.gray], atol=0.51)


def test_a_pair_is_changed_alike_in_any_batch_and_inputs_stay(raw, images):
    before = raw.copy()
    whole = cut_images(raw, PAIRS, SIZE, 2, EVERYTHING)
    np.testing.assert_array_equal(
        cut_images(raw[:, 1:3], PAIRS[1:3], SIZE, 2, EVERYTHING), whole[:, 1:3]
    )
    np.testing.assert_array_equal(raw, before)
    assert not np.array_equal(cut_images(raw, PAIRS, SIZE, 3, EVERYTHING), whole)
    whole = augment_images(images, PAIRS, 2, EVERYTHING)
    part = augment_images(images[[1, 5]], PAIRS[1:2], 2, EVERYTHING)
    np.testing.assert_array_equal(whole[[1, 5]], part)


# --- what is drawn, and what it does

MANY = np.stack([np.arange(4000), np.arange(4000) + 1], axis=1)
STRONG = Augmentation(
    flip=True, light=0.4, colour=0.3, jitter=3, scale=0.2, gray=0.25, blur=2.0, rotate=30,
    stretch=0.1, seed=9,
)  # fmt: skip


def evenly(values, low, high):
    """Whether 4000 values are spread evenly over low .. high: by ends, mean and quarters."""
    values = np.asarray(values, float)
    quarters = np.histogram(values, 4, (low, high))[0] / len(values)
    end, least, most = 0.01 * (high - low), values.min(), values.max()
    reached = low <= least < low + end and high - end < most <= high
    return reached and abs(quarters - 0.25).max() < 0.04


def drawn(augmentation, pairs=MANY, epoch=2):
    """{name: (N,)} of everything drawn that is a number, on an even scale."""
    cuts, n = draw_cuts(pairs, epoch, augmentation), len(pairs)
    changes = draw_changes(pairs, epoch, augmentation, float)
    columns = {"right": cuts.shift[:, 0], "down": cuts.shift[:, 1], "angle": cuts.angle}
    columns |= {"scale": np.log(cuts.scale), "stretch": np.log(cuts.stretch)}
    for i in (0, 1):  # template and search
        own = slice(i * n, i * n + n)
        columns |= {f"blur {i}": cuts.blur[:, i], f"contrast {i}": np.log(changes.contrast[own])}
        columns |= {f"brightness {i}": np.log(changes.brightness[own])}
        columns |= {f"colour {i}{c}": np.log(changes.colour[own, c]) for c in range(3)}
    masks = {"gray": cuts.gray, "mirrored": changes.mirrored[:n]}
    assert (changes.mirrored[:n] == changes.mirrored[n:]).all()  # both images or none
    return columns | {name: mask.astype(float) for name, mask in masks.items()}


def test_ranges_of_what_is_drawn():
    columns = drawn(STRONG)
    for axis in ("right", "down"):
        values, counts = np.unique(columns[axis], return_counts=True)
        assert values.tolist() == list(range(-3, 4)) and (abs(counts - 4000 / 7) < 100).all()
    ends = {"scale": 0.2, "stretch": 0.1, "angle": np.pi / 6}
    ends |= {"contrast": 0.4, "brightness": 0.4, "colour": 0.3}
    for name, values in columns.items():
        if (kind := name.split()[0]) in ends:
            assert evenly(values, -ends[kind], ends[kind]), name
    for i in (0, 1):
        blur = columns[f"blur {i}"]
        assert abs((blur == 0).mean() - 0.5) < 0.03
        assert evenly(blur[blur > 0], 0, 2.0)
    assert abs(columns["gray"].mean() - 0.25) < 0.03
    assert abs(columns["mirrored"].mean() - 0.5) < 0.03
    assert draw_cuts(MANY, 0, Augmentation(gray=1)).gray.all()
    assert not draw_cuts(MANY, 0, Augmentation()).gray.any()


def test_no_two_changes_share_their_numbers():
    table = np.array(list(drawn(STRONG).values()))
    correlation = np.corrcoef(table) - np.eye(len(table))
    assert abs(correlation).max() < 0.08


@pytest.mark.parametrize("what", ["seed", "epoch", "template", "search"])
def test_all_numbers_hang_on_seed_epoch_template_and_search(what):
    other = {
        "seed": lambda: drawn(STRONG._replace(seed=10)),
        "epoch": lambda: drawn(STRONG, epoch=3),
        "template": lambda: drawn(STRONG, MANY + np.array([5000, 0])),
        "search": lambda: drawn(STRONG, MANY + np.array([0, 5000])),
    }[what]()
    for name, values in drawn(STRONG).items():
        assert abs(np.corrcoef(values, other[name])[0, 1]) < 0.08, name


def test_the_label_moves_with_the_target_in_the_windows_own_pixels():
    """A window twice as large shows a shift half as long; a mirror image shows it on the other
    side.
    """
    augmentation = STRONG._replace(jitter=20, scale=0.7)
    cuts, changes = draw_cuts(MANY, 1, augmentation), draw_changes(MANY, 1, augmentation, float)
    shifts = label_shifts(MANY, 1, augmentation)
    rows = zip(shifts, cuts.shift, cuts.scale, changes.mirrored)
    for (down, right), (dx, dy), scale, mirrored in rows:
        assert right == round(dx / scale) * (1 if mirrored else -1)
        assert down == -round(dy / scale)


def test_light_colours_and_mirrors_by_hand(images):
    """Contrast about the image's mean level, brightness times it, each colour times its own; whole
    range at most.
    """
    augmentation = Augmentation(flip=True, light=0.6, colour=0.5, seed=2)
    changes = draw_changes(PAIRS, 1, augmentation, np.float64)
    got = augment_images(images, PAIRS, 1, augmentation)
    clipped = 0
    for i, image in enumerate(images.astype(float)):
        level = image.mean()
        for c in range(3):
            offset = level * changes.brightness[i] * changes.colour[i, c]
            shown = (image[c] - level) * changes.contrast[i] + offset
            shown = shown[:, ::-1] if changes.mirrored[i] else shown
            clipped += ((shown < 0) | (shown > 255)).sum()
            np.testing.assert_allclose(got[i, c], np.clip(shown, 0, 255), rtol=1e-4, atol=1e-3)
    assert clipped and 0 < changes.mirrored.sum() < 8


def test_blur_by_hand(raw):
    """A Gaussian of the drawn width, pixel by pixel, on the window that the network sees, mirrored
    at its edges.
    """
    augmentation = Augmentation(blur=1.5, seed=4)
    got, sigmas = (
        cut_images(raw, PAIRS, SIZE, 1, augmentation),
        draw_cuts(PAIRS, 1, augmentation).blur,
    )
    assert (sigmas > 0.3).any() and (sigmas == 0).any()
    for i, role in np.ndindex(4, 2):
        sigma, image = sigmas[i, role], middle(raw)[role, i].astype(float)
        if sigma > 0.1:
            reach = np.arange(-9, 10)
            kernel = np.exp(-(reach**2) / (2 * sigma**2))
            padded = np.pad(image, ((0, 0), (9, 9), (9, 9)), "reflect")
            taps = [*zip(kernel / kernel.sum(), reach)]
            rows = sum(k * padded[:, 9 + r : 9 + r + SIZE] for k, r in taps)
            image = sum(k * rows[:, :, 9 + r : 9 + r + SIZE] for k, r in taps)
        assert abs(got[role, i] - image).max() < 2.5 and abs(got[role, i] - image).mean() < 0.8


def test_what_lies_beyond_the_crop_is_its_edge_going_on():
    """A window far larger than the crop: not black, but the pixels of the crop's rim."""
    augmentation = Augmentation(scale=1.5, seed=5)
    crops = np.full((2, 4, 3, 20, 20), 40, np.uint8)
    crops[:, :, :, :, 10:] = 200
    got, scales = (
        cut_images(crops, PAIRS, 20, 0, augmentation),
        draw_cuts(PAIRS, 0, augmentation).scale,
    )
    assert scales.max() > 1.5
    assert (got[1, :, :, :, 0] == 40).all() and (got[1, :, :, :, -1] == 200).all()
