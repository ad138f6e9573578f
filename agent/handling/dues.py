"""What falls due next: keys with times, of which the earliest comes first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=tuple[str, ...])


class Dues(Generic[Key]):
    """A queue of times, each with a key; a key has at most one time that counts."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._times: dict[Key, float] = {}

    def set(self, key: Key, time: float) -> None:
        """Set the time of a key, replacing an earlier one; infinity: never."""
        if self._times.get(key, math.inf) == time:
            return
        if time == math.inf:
            self._times.pop(key, None)  # what is left in the heap no longer counts
            return
        self._times[key] = time
        heapq.heappush(self._heap, (time, key))

    def take(self, now: float) -> Iterator[Key]:
        """Take out the keys whose time has come, the earliest first."""
        while self._heap and self._heap[0][0] <= now:
            time, key = heapq.heappop(self._heap)
            if self._times.get(key) == time:
                del self._times[key]
                yield key

    def clear(self) -> None:
        """Forget all keys."""
        self._heap, self._times = [], {}
