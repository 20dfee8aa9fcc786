"""Reading and writing beside the work between them, each in a thread of its own.

OpenCV decodes and encodes without Python's lock, so the threads run at the same time as the
tracker.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ReadAhead(AbstractContextManager["ReadAhead[T]"], Iterator[T], Generic[T]):
    """Iterates over `items` in a thread, at most `size` of them ahead, until the `with` block ends.

    newest: keep only the newest item and drop those that nobody has taken, for frames that come by
    themselves: what is taken then is never older than one item, however slow the taker; `dropped`
    counts.  An exception of `items` is raised to the taker after the items before it.
    """

    def __init__(self, items: Iterable[T], size: int = 4, newest: bool = False) -> None:
        self.dropped = 0
        self._waiting: deque[T] = deque()
        self._size = 1 if newest else size
        self._newest = newest
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        # A daemon: a camera may hang in a read for ever, which shall not keep the process alive.
        self._thread = threading.Thread(
            target=self._read, args=(items,), name="dcfnet-reader", daemon=True
        )
        self._thread.start()

    def _read(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                with self._changed:
                    if self._newest and self._waiting:
                        self._waiting.clear()
                        self.dropped += 1
                    self._changed.wait_for(lambda: len(self._waiting) < self._size or self._closed)
                    if self._closed:
                        return
                    self._waiting.append(item)
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout=1)  # longer only where a read hangs


class WriteBehind(AbstractContextManager["WriteBehind"]):
    """Calls `write` in a thread, in order, at most `size` calls behind; leaving the block waits.

    An exception of `write` is raised by a later call, or at the end unless another one is on its
    way.
    """

    def __init__(self, write: Callable[..., None], size: int = 4) -> None:
        self._write = write
        self._size = size
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dcfnet-writer")

    def __call__(self, *arguments: Any) -> None:
        """Write `arguments` some time later; waits when too much is waiting already."""
        if len(self._waiting) == self._size:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, *arguments))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().result()
        except Exception:
            if error is None:
                raise
        finally:
            self._pool.shutdown(cancel_futures=True)
