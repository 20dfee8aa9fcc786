"""Hard input of every kind ends in a result or in one clear error: docs/reference/robustness.md.

What it found stands in test_found_input.py.
"""

import faulthandler
import os
import resource
import subprocess
import sys
import warnings
from collections import Counter

import hard_input
import numpy as np
import pytest
from hard_files import KINDS
from hypothesis import HealthCheck, Phase, given, settings
from scenes import make_frames, write_video

from dcfnet_np import weights
from dcfnet_np.vision.box_files import read_boxes

# A share of the inputs runs with the other tests; `make proof` runs many.
COUNTS = {"share": 60, "long": 4000}
PROFILE = os.environ.get("DCFNET_INPUTS", "share")
SETTINGS = settings(
    max_examples=COUNTS[PROFILE],
    derandomize=PROFILE == "share",
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,) if PROFILE == "share" else (Phase.generate, Phase.shrink),
    print_blob=True,
)
EXAMPLE_SECONDS = 300  # after which one input counts as a hang
EXAMPLE_MB = 400  # that one input may add to the peak
ADDRESSES = 24 << 30  # bytes, for the process


@pytest.fixture
def few_addresses():
    """Memory that a file claims is memory that is not there."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("few_addresses")
def test_hard_input_ends_well(tmp_path, monkeypatch, name):
    """Some must get through: a library that refuses everything would pass else.

    What a crash or a hang, which end the process, were tried on lies in current.txt.
    """
    monkeypatch.chdir(tmp_path)
    ended = Counter()

    @SETTINGS
    @given(KINDS[name].strategy)
    def attempt(value):
        (tmp_path / "current.txt").write_text(repr(value), encoding="utf-8", errors="replace")
        before = peak_mb()
        faulthandler.dump_traceback_later(EXAMPLE_SECONDS, exit=True)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                ended[KINDS[name].check(value, tmp_path)] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()
        assert peak_mb() - before < EXAMPLE_MB, f"{peak_mb() - before:.0f} MB for one input"

    attempt()
    print(f"{name}: {dict(ended.most_common())}, peak {peak_mb():.0f} MB")
    assert sum(ended.values()) >= 0.9 * SETTINGS.max_examples
    assert ended["result"] + ended["exit 0"] > 0 and len(ended) > 1, ended


@pytest.mark.slow
def test_memory_stays_flat_over_many_frames(tmp_path):
    """Peaks of `dcfnet track`, which decodes a video and writes boxes and another video."""
    weights.save_weights(tmp_path / "network.h5", hard_input.untrained())
    still = make_frames(np.random.default_rng(0), 40)
    peaks = []
    for count in (1000, 50_000):
        frames = (still[min(i % 80, 79 - i % 80)] for i in range(count))
        write_video(tmp_path / "in.mp4", frames, "mp4v", still[0])
        words = ["track", "in.mp4", "--box", "20,10,16,12", "--device", "cpu"]
        words += ["--weights", "network.h5", "--preset", "default:input_size=15:num_scales=1"]
        words += ["--save-boxes", "out.csv", "--save-video", "out.mkv"]
        command = [sys.executable, "-m", "dcfnet_np", *words]
        process = subprocess.Popen(command, cwd=tmp_path)
        _, status, usage = os.wait4(process.pid, 0)
        boxes = read_boxes(tmp_path / "out.csv")
        assert status == 0 and len(boxes) == count and np.isfinite(boxes).all()
        peaks.append(usage.ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 10, peaks  # MB
