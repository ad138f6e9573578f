"""A fair lock for threads that share a resource."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is granted in the order of the requests."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.asked = 0  # number of requests; the latest has this number
        self._served = 0

    @contextmanager
    def next(self) -> Iterator[None]:
        """Wait for the lock, and hold it in the block."""
        with self._changed:
            self.asked += 1
            mine = self.asked
            self._changed.wait_for(lambda: self._served == mine - 1)
        try:
            yield
        finally:
            with self._changed:
                self._served = mine
                self._changed.notify_all()
