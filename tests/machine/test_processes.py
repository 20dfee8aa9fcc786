"""Trackers in threads, after a fork, and copied: right boxes or an error that names the method,
never a hang.
"""

import copy
import dataclasses
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import cuda_on_cpu
import numpy as np
import pytest
import threadpoolctl
from kernel_device import on_cpu
from scenes import make_sequence
from trackers import SMALL

from dcfnet_np import network
from dcfnet_np.adapters.opencv import OpenCVTracker
from dcfnet_np.evaluation.baselines import gray
from dcfnet_np.fast.strip import BandDft, Strip
from dcfnet_np.ops.fourier import make_band
from dcfnet_np.presets import PRESETS
from dcfnet_np.support.threads import one_blas_thread
from dcfnet_np.support.workers import map_in_order
from dcfnet_np.tracker import MultiTracker, Tracker
from dcfnet_np.weights import Weights

LONG = 240  # seconds: what takes longer hangs
WEIGHTS = Weights("light", network.initialise("light", seed=3))
CAREFUL = dataclasses.replace(PRESETS["careful"], input_size=63, lost_after=1, min_psr=9.0)


class Many(MultiTracker):
    """Two targets, behind the methods of `Tracker`."""

    def init(self, frame, box):
        for shift in (0, 7):
            self.add(frame, np.add(box, (shift, shift / 2, 0, 0)))


MAKERS = {
    "default": lambda: Tracker(device="cpu"),
    "careful": lambda: Tracker(preset=CAREFUL, device="cpu"),
    "many": lambda: Many(preset=SMALL, device="cpu"),
    "OpenCV": lambda: OpenCVTracker(preset=SMALL, device="cpu"),
    "gray": lambda: Tracker(preset=SMALL, features=gray),
}
maker = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))


@pytest.fixture
def video(rng, monkeypatch):
    """Eight frames and the first box; two cores, so that there is a pool of threads."""
    monkeypatch.setenv("DCFNET_CORES", "2")
    frames, boxes = make_sequence(rng, count=8)
    return list(frames), tuple(boxes[0])


@pytest.fixture
def blas_threads():
    """A function that counts BLAS's threads, of which there are two."""

    def count():
        return {
            pool["num_threads"]
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        }

    with threadpoolctl.threadpool_limits(2, "blas"):
        if count() != {2}:
            pytest.skip("this BLAS has one thread only")
        yield count


def numbers(result):
    """Box, score and PSR of a result of any of the trackers."""
    if isinstance(result, dict):
        return [number for one in result.values() for number in numbers(one)]
    return [*result[1]] if isinstance(result[0], bool) else [*result.box, result.score, result.psr]


def follow(tracker, video):
    frames, box = video
    tracker.init(frames[0], box)
    return [numbers(tracker.update(frame)) for frame in frames[1:]]


def forked(work):
    """The value of `work()` in a forked process, or its error; None where it hangs."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=lambda: writer.send(caught(work)))
    process.start()
    answer = reader.recv() if reader.poll(LONG) else None
    process.kill()
    process.join()
    return answer


def in_another_thread(work):
    """In one that stays alive, as threads of a server do."""
    answer = SimpleQueue()
    threading.Thread(
        target=lambda: (answer.put(caught(work)), time.sleep(LONG)), daemon=True
    ).start()
    result = answer.get()
    if isinstance(result, Exception):
        raise result
    return result


def caught(work):
    try:
        return work()
    except Exception as error:
        return error


# --- processes

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@maker
def test_a_tracker_goes_on_after_a_fork(make, video):
    frames, box = video
    want = follow(make(), video)
    tracker = make()
    tracker.init(frames[0], box)
    for frame in frames[1:3]:
        tracker.update(frame)
    assert forked(lambda: [numbers(tracker.update(frame)) for frame in frames[3:]]) == want[2:]
    # and here it has not moved
    assert [numbers(tracker.update(frame)) for frame in frames[3:]] == want[2:]


def test_a_gpu_s_tracker_says_that_it_does_not(monkeypatch, video):
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    frames, box = video
    tracker = Tracker(WEIGHTS, SMALL, device="cuda")
    tracker.init(frames[0], box)
    error = forked(lambda: tracker.update(frames[1]))
    assert isinstance(error, RuntimeError) and str(error).startswith(
        "Tracker.update: this tracker is on cuda:0 and was"
    )


# --- threads


@maker
def test_trackers_in_threads_of_their_own(make, video, blas_threads):
    want = follow(make(), video)
    start = threading.Barrier(3)

    def work():
        tracker = make()
        start.wait()
        return follow(tracker, video)

    with ThreadPoolExecutor(3) as pool:
        assert [task.result() for task in [pool.submit(work) for _ in range(3)]] == [want] * 3
    assert blas_threads() == {2}


def test_the_last_to_leave_gives_blas_its_threads_back(blas_threads):
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    in_another_thread(second.__enter__)
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    assert forked(blas_threads) == {2}  # where that other thread is not
    in_another_thread(lambda: second.__exit__(None, None, None))
    assert blas_threads() == {2} == forked(blas_threads)
    with threadpoolctl.threadpool_limits(1, "blas"):
        assert forked(blas_threads) == {1}  # set by somebody else


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_method_takes_its_turn(device, monkeypatch, video):
    if device == "cuda":
        on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    frames, box = video
    one, many = (kind(WEIGHTS, SMALL, device=device) for kind in (Tracker, MultiTracker))
    one.init(frames[0], box)
    id = many.add(frames[0], box)
    calls = {
        "Tracker.init": lambda: one.init(frames[0], box),
        "Tracker.update": lambda: one.update(frames[1]),
        "MultiTracker.add": lambda: many.add(frames[0], box),
        "MultiTracker.update": lambda: many.update(frames[1]),
        "MultiTracker.remove": lambda: many.remove(id),
    }
    with one.turn.take("first"), many.turn.take("first"):
        for name, call in calls.items():
            with pytest.raises(
                RuntimeError, match=f"^{name}: this tracker is at work already, in another thread"
            ):
                in_another_thread(call)
    with pytest.raises(ValueError):
        one.update(frames[1][:-1])  # an error gives the turn back
    assert numbers(one.update(frames[1])) == pytest.approx(
        numbers(many.update(frames[1])), rel=1e-4
    )


# --- copies


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])  # fmt: skip
@maker
def test_a_copy_goes_on_as_the_first_one_would(make, how, video):
    if how is copy.copy and make is MAKERS["OpenCV"]:
        pytest.skip("a shallow copy of what holds a tracker holds the same tracker")
    frames, box = video
    want = follow(make(), video)
    tracker = how(make())
    tracker.init(frames[0], box)
    got = [numbers(tracker.update(frame)) for frame in frames[1:4]]
    twin = how(tracker)
    tracker.update(frames[0][::-1].copy())  # what becomes of the first one is not the copy's affair
    assert got + [numbers(twin.update(frame)) for frame in frames[4:]] == want


def test_what_cannot_be_copied_says_so(monkeypatch, video):
    band = make_band((45, 45), 14)
    things = {"Strip: ": Strip("light", BandDft(band, (45, 45), (np.hanning(45),) * 2), (45, 45))}
    watched = Tracker(preset=SMALL, device="cpu", observer=print)
    things["Tracker: this tracker is watched by an observer"] = watched
    on_cpu(monkeypatch, cuda_on_cpu.unwatched)
    for kind in (Tracker, MultiTracker):
        things[f"{kind.__name__}: this tracker is on cuda:0"] = kind(WEIGHTS, SMALL, "cuda")
    for word, thing in things.items():
        for how in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=f"^{word}.*cannot be copied or pickled"):
                how(thing)


# --- processes that share a run


def square(number):
    return number * number, os.getpid()


def test_results_come_in_order_from_other_processes():
    results = list(map_in_order(square, range(40), 2))
    assert [value for value, _ in results] == [number * number for number in range(40)]
    assert os.getpid() not in {process for _, process in results}
    assert list(map_in_order(square, range(2))) == [(0, os.getpid()), (1, os.getpid())]
