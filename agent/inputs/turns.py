"""Threads that share what takes one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is granted in the order in which it was asked for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.asked = 0  # times; the last who asked has this number
        self._served = 0

    @contextmanager
    def next(self) -> Iterator[None]:
        """Wait for one's turn, and hold it."""
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
