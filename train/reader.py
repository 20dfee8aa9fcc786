"""Reads the crops of the batches to come while the step before them computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

AHEAD = 4  # batches that lie ready at most; 3 MB each for 32 pairs of 125 x 125


def prefetch(
    read: Callable[[np.ndarray], np.ndarray], batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(batch, read(batch)) of every batch, in order; a thread reads up to AHEAD batches in advance.

    What `read` raises is raised here, when its batch's turn comes.
    """
    pool = ThreadPoolExecutor(1, "dcfnet-reader")
    ready: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
    try:
        for batch in batches:
            ready.append((batch, pool.submit(read, batch)))
            if len(ready) > AHEAD:
                first, crops = ready.popleft()
                yield first, crops.result()
        for last, crops in ready:
            yield last, crops.result()
    finally:
        pool.shutdown(cancel_futures=True)
