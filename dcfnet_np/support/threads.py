"""Threads of this process: BLAS held to one, all cores at work on items, one caller at a time."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar, cast

from ..backend import Device, current
from .machine import usable_cores

Method = TypeVar("Method", bound=Callable[..., Any])


class _Blas:
    """The BLAS of this process, held to one thread as long as anybody wants that.

    The number is the whole process's: the first to come sets it, the last to go sets it back.
    With OpenMP it is each thread's own, so everybody does both.
    """

    def __init__(self) -> None:
        import threadpoolctl

        libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self._own = [each for each in libraries if getattr(each, "threading_layer", "") == "openmp"]
        self._shared = [each for each in libraries if each not in self._own]
        # threadpoolctl 3.8 lets only the thread that came first set the number: here any may be
        # the last one to go.
        openblas = getattr(threadpoolctl, "OpenBLASController", None)
        self._free = getattr(openblas, "clear_controlling_thread", lambda force: None)
        self._before: list[int] = []
        self._lock, self._inside = threading.Lock(), 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @contextlib.contextmanager
    def one_thread(self) -> Iterator[None]:
        own = [library.num_threads for library in self._own]
        self._set(self._own, [1] * len(own))
        with self._lock:
            if self._inside == 0:
                self._before = [library.num_threads for library in self._shared]
                self._set(self._shared, [1] * len(self._before))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._set(self._shared, self._before)
            self._set(self._own, own)

    def _set(self, libraries: list[Any], numbers: list[int]) -> None:
        for library, number in zip(libraries, numbers):
            self._free(force=True)
            library.set_num_threads(number)
            self._free(force=True)

    def _after_fork(self) -> None:
        """The threads that were inside are not in the new process."""
        if self._inside:
            self._set(self._shared, self._before)
        self._lock, self._inside = threading.Lock(), 0


_blas = functools.cache(_Blas)  # one, made when it is first needed


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """For `with`, in any number of threads: BLAS has one thread.

    More would keep their cores busy for a while.
    """
    return _blas().one_thread()


class Cores:
    """All CPU cores, each at work on items of its own, with one BLAS thread in each.

    An image passes through a whole network on one core, where most of it stays in that core's
    cache, and the steps that are not BLAS run on all cores too.  BLAS's own threads would share
    every small product instead, and wait for each other: when another program takes a core, for
    ten times as long as the product lasts.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0  # that has the pool's threads: a fork copies none of them

    def _others(self) -> ThreadPoolExecutor | None:
        """Threads for all cores but one: the calling thread would only wait, so it works too."""
        if self._process != os.getpid():
            others = usable_cores() - 1
            self._pool = ThreadPoolExecutor(others) if others else None
            self._process = os.getpid()
        return self._pool

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """[function(item) for item in items], in order; BLAS has its threads back afterwards."""

        def work(item: Any) -> Any:
            with one_blas_thread():
                return function(item)

        pool = self._others()
        with one_blas_thread():
            if pool is None:
                return [work(item) for item in items]
            tasks = [(item, pool.submit(work, item)) for item in items]
            try:
                # What no other thread has begun is cancelled there and done here.
                results = [work(item) if task.cancel() else task for item, task in tasks]
            finally:
                wait([task for _, task in tasks])
            return [result.result() if isinstance(result, Future) else result for result in results]


class Turn:
    """Lets one call at a time work with an object.

    A second one is refused: their order would be left to chance.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._process = device, os.getpid()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, who: str) -> Iterator[None]:
        """For `with`.  Raises RuntimeError, in the name of `who`, where that cannot be."""
        if self._device.kind == "cuda" and self._process != os.getpid():
            raise RuntimeError(
                f"{who}: this tracker is on {self._device} and was made before a fork, which CUDA "
                "does not survive; make it in the process that uses it"
            )
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"{who}: this tracker is at work already, in another thread or in its observer; "
                "give each thread a tracker of its own, or let the threads take turns by a lock"
            )
        try:
            yield
        finally:
            self._lock.release()


def exclusive(method: Method) -> Method:
    """A method that runs with its object's `device` as the current one, and alone: see `Turn`."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        with self.turn.take(method.__qualname__), current(self.device):
            return method(self, *args, **options)

    return cast(Method, run)
