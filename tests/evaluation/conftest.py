"""What all tests of evaluation share."""

import pytest


@pytest.fixture(autouse=True)
def no_signs_of_life(monkeypatch):
    """A slow machine adds no lines to stderr."""
    monkeypatch.setattr("dcfnet_np.commands.eval.LIFE_SIGN", float("inf"))
