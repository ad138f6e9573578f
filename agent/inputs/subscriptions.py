"""Selects the topics of an MQTT input, without those that cost too much on every connection.

A retained message stays at the broker and is delivered with each subscription. One that is too
large is discarded during reception, but still uses the link, which may be cellular. So the input
gives up, for a day, a topic filter that delivers one on two connections in a row. The others
continue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.mqtt.connection import matches

GIVEN_UP_S: Final = 86_400.0
_STRIKES: Final = 2  # connections in a row


class Subscriptions:
    """The topic filters of an input, over all its connections; its thread uses it."""

    def __init__(
        self, filters: Sequence[str], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._filters = filters
        self._clock_s = clock_s
        self._strikes = dict.fromkeys(filters, 0)
        self._asked: list[str] = []  # subscribed at the start of this connection
        self._struck: set[str] = set()  # with a strike on this connection
        self._until_s = dict.fromkeys(filters, -math.inf)  # given up until then

    def begin(self) -> None:
        """Begin a connection; forget filters without a strike on the last one."""
        for one in self._asked:
            if one not in self._struck:
                self._strikes[one] = 0
        self._struck.clear()
        self._asked = self.wanted()

    def wanted(self) -> list[str]:
        """Return the filters to subscribe to now."""
        now_s = self._clock_s()
        return [one for one in self._filters if self._until_s[one] <= now_s]

    def given_up(self) -> list[str]:
        """Return the filters not to subscribe to now."""
        wanted = self.wanted()
        return [one for one in self._filters if one not in wanted]

    def too_large(self, topic: str) -> list[str]:
        """Add a strike for a too large retained message; return the filters to give up."""
        struck = [one for one in self.wanted() if one not in self._struck and matches(one, topic)]
        self._struck.update(struck)
        for one in struck:
            self._strikes[one] += 1
        given_up = [one for one in struck if self._strikes[one] >= _STRIKES]
        self._until_s |= dict.fromkeys(given_up, self._clock_s() + GIVEN_UP_S)
        return given_up
