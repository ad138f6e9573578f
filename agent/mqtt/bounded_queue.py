"""A queue between two threads that knows how many bytes wait in it."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LOOK_S: Final = 0.1  # a waiting thread looks this often: so no item needs a lock for it


class BoundedQueue(Generic[T]):
    """Unbounded in number; the reader of large items waits for space before it reads more.

    One thread puts items with a size, one gets; any thread, and a signal handler, may put others.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._queue: SimpleQueue[tuple[T, int]] = SimpleQueue()
        self._put_bytes = 0  # written by the one thread ...
        self._got_bytes = 0  # ... and by the other
        self._closed = threading.Event()

    def put(self, item: T, size_bytes: int = 0) -> None:
        """Add an item; never waits."""
        if size_bytes:
            self._put_bytes += size_bytes
        self._queue.put((item, size_bytes))

    def get(self, timeout: float | None = None) -> T:
        """Return the oldest item; wait for one. Raises queue.Empty after ``timeout`` seconds."""
        item, size_bytes = self._queue.get(timeout=timeout)
        self._got_bytes += size_bytes
        return item

    def get_nowait(self) -> T:
        """Return the oldest item. Raises queue.Empty if there is none."""
        item, size_bytes = self._queue.get_nowait()
        self._got_bytes += size_bytes
        return item

    def qsize(self) -> int:
        """Return how many items wait."""
        return self._queue.qsize()

    def wait_for_room(self) -> None:
        """Wait until fewer than ``bytes_max`` bytes wait, or the queue is closed."""
        while self._put_bytes - self._got_bytes >= self._bytes_max and not self._closed.is_set():
            self._closed.wait(_LOOK_S)

    def close(self) -> None:
        """Let no thread wait for space any more."""
        self._closed.set()
