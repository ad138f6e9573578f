"""Which topics an MQTT input asks for: not those that cost too much at every connection.

A retained message lies at the broker and comes with each subscription. One that is too large is
thrown away as it comes, but it has to come, over a cellular link perhaps. So a topic filter that
brings one on two connections in a row is given up for a day. The others go on.
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
        self._asked: list[str] = []  # on this connection, at its beginning
        self._struck: set[str] = set()  # on this connection
        self._until_s = dict.fromkeys(filters, -math.inf)  # given up until then

    def begin(self) -> None:
        """Begin a connection; what the last one did not bring has had no strike there."""
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
        """Take note of a retained message that is too large; return the filters to give up."""
        struck = [one for one in self.wanted() if one not in self._struck and matches(one, topic)]
        self._struck.update(struck)
        for one in struck:
            self._strikes[one] += 1
        given_up = [one for one in struck if self._strikes[one] >= _STRIKES]
        self._until_s |= dict.fromkeys(given_up, self._clock_s() + GIVEN_UP_S)
        return given_up
