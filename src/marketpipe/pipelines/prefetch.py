"""Reads ahead in a thread, so that parsing and building bars share two cores."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Prefetch(Generic[_T]):
    """Iterates over ``items`` in a thread of its own, at most ``ahead`` items ahead.

    An exception of the iterator is raised at its place in the sequence. `close` stops the
    thread at its next item.
    """

    def __init__(self, items: Iterator[_T], ahead: int = 2) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, None):
                    return
        except BaseException as problem:  # handed to the consumer whole
            self._put(None, problem)
        else:
            self._put(None, StopIteration())

    def _put(self, item: _T | None, problem: BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put((item, problem), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[_T]:
        while True:
            item, problem = self._queue.get()
            if isinstance(problem, StopIteration):
                return
            if problem is not None:
                raise problem
            assert item is not None  # noqa: S101 - narrows the type: an item or a problem
            yield item

    def close(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()
