"""Signs the collector's messages to gateways, each with a higher counter.

Gateways refuse a counter that is not higher than the last one of this key, so that nobody can
replay old messages (``agent.uplink.words``). The counters are Unix milliseconds, or the next
number. So they increase even if the database is lost. The database reserves a block of counters at
a time, so that they also increase over a restart while the clock is wrong. If database and clock
are both wrong, the retained status at the broker shows how far the key has counted (``behind``).
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
# ms; no connection counts so far above the counter of its status: over a year
_SAID_AFTER_STATUS: Final = 2**35


class Voice:
    """Signs the collector's messages; without a key it leaves them unchanged."""

    def __init__(self, key: SecretKey | None, collected: Collected) -> None:
        self._key = key
        self._collected = collected
        self._next, self._end = 0, 0  # the reserved counters

    def say(self, topic: str, said: bytes) -> bytes:
        """Return the message to publish, a JSON object with counter and signature.

        Raises:
            StoreError: the database cannot be written.

        """
        if self._key is None:
            return said
        counter = b',"counter":%d}' % self._counter()
        return signed(said[:-1] + counter, topic, CONTEXT, self._key)

    def behind(self, topic: str, status: bytes, online: bytes) -> bool:
        """Whether our key signed ``status`` with a higher counter than ``online``.

        If so, later messages get counters above it. Nobody else can sign such a status. So the
        database was lost after it, or replaced by an older copy.

        Args:
            topic: the topic of both.
            status: the status that the broker has.
            online: the status that we publish on this connection.

        Raises:
            StoreError: the database cannot be written.

        """
        if self._key is None:
            return False
        message, _ = parted(status)
        if signed(message, topic, CONTEXT, self._key) != status:  # Ed25519 is deterministic
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
