"""A queue between two threads that knows how many bytes wait in it."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LOOK_S: Final = 1.0  # a wait ends for certain


class BoundedQueue(Generic[T]):
    """Unbounded in number; who puts what is large waits for room before it reads more of it.

    ``put`` without bytes takes no lock, and may be called in a signal handler.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._queue: SimpleQueue[tuple[T, int]] = SimpleQueue()
        self._room = threading.Condition()
        self._bytes = 0
        self._closed = False

    def put(self, item: T, size_bytes: int = 0) -> None:
        """Add an item; never waits."""
        if size_bytes:
            with self._room:
                self._bytes += size_bytes
        self._queue.put((item, size_bytes))

    def get(self, timeout: float | None = None) -> T:
        """Return the oldest item; wait for one. Raises queue.Empty after ``timeout`` seconds."""
        return self._taken(*self._queue.get(timeout=timeout))

    def get_nowait(self) -> T:
        """Return the oldest item. Raises queue.Empty where there is none."""
        return self._taken(*self._queue.get_nowait())

    def _taken(self, item: T, size_bytes: int) -> T:
        if size_bytes:
            with self._room:
                self._bytes -= size_bytes
                self._room.notify_all()
        return item

    def qsize(self) -> int:
        """Return how many items wait."""
        return self._queue.qsize()

    def wait_for_room(self) -> None:
        """Wait until fewer than ``bytes_max`` bytes wait, or the queue is closed."""
        if self._bytes < self._bytes_max:  # mostly; a byte more or less is no matter
            return
        with self._room:
            while self._bytes >= self._bytes_max and not self._closed:
                self._room.wait(_LOOK_S)

    def close(self) -> None:
        """Let nobody wait for room any more."""
        with self._room:
            self._closed = True
            self._room.notify_all()
