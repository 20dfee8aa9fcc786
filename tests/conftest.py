"""Fixtures shared by all tests, and a closing word on the tests that need data or a GPU."""

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from kernel_device import device, full_size_device  # noqa: F401  fixtures for all tests

from dcfnet_np import backend, network, weights

# A shell starts what runs in its background with SIGINT ignored, and nohup with SIGHUP.  Processes
# that the tests start would inherit that, and those about these signals would wait for ever.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), handler)


@pytest.fixture(scope="session")
def data_dir():
    """The folder $DCFNET_DATA with sequences/, train/, validation/ and weights/; skips where it is
    unset.
    """
    value = os.environ.get("DCFNET_DATA")
    if not value:
        pytest.skip("DCFNET_DATA is not set")
    folder = Path(value)
    if not (folder / "sequences").is_dir():  # a machine with a GPU may be given a part of the data
        pytest.skip("DCFNET_DATA names no folder with sequences/ in it")
    return folder


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request):
    """The array module under test: NumPy always, CuPy where a GPU can be used."""
    if request.param == "numpy":
        return np
    try:
        backend.select_device("cuda")
        return backend.cupy()
    except backend.DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def rng():
    """Random numbers, the same in every run of a test."""
    return np.random.default_rng(2017)


@pytest.fixture
def dcfnet(capsys):
    """The command in this process: dcfnet(*words) -> exit code, stdout, stderr."""
    from dcfnet_np.cli import main

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def track(dcfnet, network_file):
    """track(source, *options): exit code, stdout, stderr; `options` in one string or several."""

    def run(source, *options, box=None):
        words = [word for option in options for word in str(option).split()]
        start = ["--box", box] if box else []
        return dcfnet("track", source, *start, "--weights", network_file, *words)

    return run


@pytest.fixture(scope="session")
def network_file(tmp_path_factory):
    """Weights of an untrained network: enough to follow a patch over a few frames."""
    path = tmp_path_factory.mktemp("weights") / "random.h5"
    weights.save_weights(path, weights.Weights("light", network.initialise("light", seed=3)))
    return path


def pytest_collection_modifyitems(items):
    for item in items:
        if "data_dir" in item.fixturenames:
            item.add_marker(pytest.mark.needs_data)
        if "compiler" in item.fixturenames:
            item.add_marker(pytest.mark.needs_nvrtc)
        if {"program", "browser"} & set(item.fixturenames):
            item.add_marker(pytest.mark.needs_browser)


KINDS = (
    ("needs_data", "data"),
    ("gpu", "GPU"),
    ("needs_nvrtc", "NVRTC"),
    ("needs_toolkits", "toolkit"),
    ("needs_mpi", "MPI"),
    ("needs_browser", "browser"),
)


def pytest_terminal_summary(terminalreporter):
    """Say how many tests of a kind ran and why others did not: a skipped test proves nothing."""
    for marker, kind in KINDS:
        ran = failed = 0
        reasons = Counter()
        for outcome in ("passed", "failed", "error", "skipped"):
            for report in terminalreporter.stats.get(outcome, []):
                # a report of a failed collection has none
                if marker not in getattr(report, "keywords", ()):
                    continue
                if outcome == "skipped":
                    reasons[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
                else:
                    ran += 1
                    failed += outcome != "passed"
        if not ran and not reasons:
            continue
        line = f"{kind} tests: {ran} ran ({failed} failed), {sum(reasons.values())} skipped"
        if reasons:
            line += ": " + "; ".join(
                f"{count} x {reason}" for reason, count in reasons.most_common()
            )
        terminalreporter.write_line(line)
