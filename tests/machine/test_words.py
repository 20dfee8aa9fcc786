"""A count and its noun."""

import pytest

from dcfnet_np.support.words import counted


@pytest.mark.parametrize(
    "text", ["0 frames", "1 frame", "2 frames", "1 box", "3 boxes", "1 process", "4 processes"]
)
def test_counted(text):
    count, noun = text.split()
    singular = {"frames": "frame", "boxes": "box", "processes": "process"}.get(noun, noun)
    assert counted(int(count), singular) == text
