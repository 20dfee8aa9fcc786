"""Boxes and target numbers of masks, by hand; colours are typed from PASCAL VOC's table."""

import cv2
import numpy as np
import pytest

from dcfnet_np.datasets.davis import read_mask, read_masks

# Of targets 1 to 9, 20 and 255: red, green, blue.
VOC = {
    1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128),
    6: (0, 128, 128),
    7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip


def write(path, mask):
    assert cv2.imwrite(str(path), mask)
    return path


@pytest.mark.parametrize("target", VOC)
def test_a_colour_is_its_target(tmp_path, target):
    mask = np.zeros((7, 9, 3), np.uint8)
    mask[2:5, 3:9] = VOC[target][::-1]  # OpenCV writes BGR
    found = read_mask(write(tmp_path / "a.png", mask))
    expected = np.zeros((7, 9), int)
    expected[2:5, 3:9] = target
    np.testing.assert_array_equal(found, expected)


def test_white_in_colour_is_the_target_of_a_gray_mask(tmp_path):
    mask = np.zeros((4, 5, 3), np.uint8)
    mask[1, 2] = 255
    found = read_mask(write(tmp_path / "a.png", mask))
    assert found.sum() == found[1, 2] == 255


def test_a_box_goes_around_all_pixels(tmp_path):
    """Two parts far apart; a target of one pixel; a frame without one target and one without a
    mask.
    """
    first, second = np.zeros((2, 20, 30), np.uint8)
    first[3, 4:6] = first[11:14, 17] = 2
    first[19, 29] = 7
    second[0, 0] = 2
    (
        write(tmp_path / "0.png", first),
        write(tmp_path / "1.png", second),
        write(tmp_path / "0.jpg", first),
    )
    found = read_masks(tmp_path, [tmp_path / f"{k}.jpg" for k in range(3)])
    nothing = [np.nan] * 4
    assert list(found) == [2, 7]
    np.testing.assert_array_equal(found[2], [(4, 3, 14, 11), (0, 0, 1, 1), nothing])
    np.testing.assert_array_equal(found[7], [(29, 19, 1, 1), nothing, nothing])


@pytest.mark.parametrize("count", [64, 65])
def test_an_image_of_many_values_is_no_mask(tmp_path, count):
    (
        write(tmp_path / "0.png", np.arange(count + 1, dtype=np.uint8)[None]),
        write(tmp_path / "0.jpg", np.zeros((1, count + 1))),
    )
    if count <= 64:
        assert len(read_masks(tmp_path, [tmp_path / "0.jpg"])) == count
    else:
        with pytest.raises(ValueError, match=r"0.png is no mask: it has 65 different values"):
            read_masks(tmp_path, [tmp_path / "0.jpg"])


def test_masks_of_another_size_than_their_frames(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 3:12] = 1
    write(tmp_path / "0.png", mask), write(tmp_path / "0.jpg", np.zeros((10, 15)))
    with pytest.raises(
        ValueError,
        match=r"0.png is 30x20 pixels, its frame 15x10; a mask must have its frame's size$",
    ):
        read_masks(tmp_path, [tmp_path / "0.jpg"])
