"""Processes that share a run and the cores, and end with the process that started them."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import connection, get_context
from typing import Any, TypeVar

from .machine import usable_cores

Task = TypeVar("Task")
Result = TypeVar("Result")


def hold_threads(cores: int) -> None:
    """Hold BLAS, OpenCV and our own pools of this process to `cores` threads."""
    import cv2
    import threadpoolctl

    os.environ["DCFNET_CORES"] = str(cores)
    threadpoolctl.threadpool_limits(cores)
    cv2.setNumThreads(cores)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` processes; leaving the block ends them, whatever they do."""
    context = get_context("spawn")  # a fork would copy BLAS's threads in whatever state they are
    reader, writer = context.Pipe(duplex=False)
    cores = max(1, usable_cores() // workers)
    executor = ProcessPoolExecutor(workers, context, _start_worker, (reader, cores))
    try:
        yield executor
    finally:
        writer.close()  # ends the workers at once; so does the death of this process
        executor.shutdown(cancel_futures=True)


def map_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int = 1
) -> Iterator[Result]:
    """function(task) of every task, in order; tasks are drawn no faster than the results are taken.

    workers: processes; 1 is this one.  Raises concurrent.futures.process.BrokenProcessPool when one
    of them dies.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    with worker_pool(workers) as executor:
        waiting: deque[Future[Any]] = deque()
        for task in tasks:
            waiting.append(executor.submit(function, task))
            if len(waiting) > 2 * workers:  # one in work and one in store for each
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start_worker(reader: connection.Connection, cores: int) -> None:
    import signal

    for name in ("SIGINT", "SIGHUP"):  # these go to the whole group; the parent ends us
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    hold_threads(cores)

    def watch() -> None:
        connection.wait([reader])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
