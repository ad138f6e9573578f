"""What the collector says to gateways: signed, and each time with a higher counter.

Gateways refuse a counter that is not higher than the last one of this key, so that nobody can
repeat old words (``agent.uplink.words``). The counters are Unix milliseconds, or the next number.
So they rise even if the database is lost. Some are reserved in the database at a time, so that they
rise over a restart while the clock is wrong. If database and clock are wrong at a time, the status
that the broker retains tells how far the key has counted (``behind``).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from agent.uplink.words import CONTEXT
from models.signed import parted, signed

if TYPE_CHECKING:
    from agent.collector.books import Collected
    from models.keys import SecretKey

_RESERVED: Final = 10_000
# above the counter of a status: what was said on one connection after it, in ms; over a year
_SAID_AFTER_STATUS: Final = 2**35


class Voice:
    """Says what the collector has to say; without a key as it is."""

    def __init__(self, key: SecretKey | None, collected: Collected) -> None:
        self._key = key
        self._collected = collected
        self._next, self._end = 0, 0  # counters that are reserved

    def say(self, topic: str, said: bytes) -> bytes:
        """Return what is to be published, a JSON object.

        Raises:
            StoreError: the database cannot be written.

        """
        if self._key is None:
            return said
        counter = b',"counter":%d}' % self._counter()
        return signed(said[:-1] + counter, topic, CONTEXT, self._key)

    def behind(self, topic: str, status: bytes, online: bytes) -> bool:
        """Whether a status is ours, and its counter above that of ``online``; then go on above it.

        Nobody else can sign it. So it is from before the database was lost, or an older copy of it
        was put in its place.

        Args:
            topic: of both.
            status: what the broker has.
            online: what we say on this connection.

        Raises:
            StoreError: the database cannot be written.

        """
        if self._key is None:
            return False
        message, _ = parted(status)
        if signed(message, topic, CONTEXT, self._key) != status:  # the same each time it is signed
            return False
        counter = _counter_in(message)
        if counter <= _counter_in(parted(online).message):
            return False
        self._reserve(counter + _SAID_AFTER_STATUS)
        return True

    def _counter(self) -> int:
        if self._next >= self._end:
            self._reserve(time.time_ns() // 1_000_000)
        self._next += 1
        return self._next - 1

    def _reserve(self, at_least: int) -> None:
        self._next = self._collected.reserve_counters(at_least, _RESERVED)
        self._end = self._next + _RESERVED


def _counter_in(message: bytes) -> int:
    return int(json.loads(message)["counter"])
