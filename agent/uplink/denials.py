"""Topics to which the broker does not let this gateway publish, over all connections.

A broker with an access list may answer that it denies a message (MQTT 5), end the connection, or
both. One denied topic must not block the others: it is parked, and retried after a while. If the
connection ends without a reason, all unanswered topics are suspects. Until each has been answered,
the agent sends one message at a time, alarms first. This shows which topic is the cause.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from agent.dialects.dialect import Topic
from models.printable import printable

_LOG = logging.getLogger(__name__)

_STRIKES: Final = 3  # connections in a row that ended with the topic in flight, without an answer


class Denials:
    """Which topics are parked, and which are suspected; the sender's thread uses it."""

    def __init__(self, retry_s: float) -> None:
        self._retry_s = retry_s
        self._asks_at: dict[Topic, float] = {}  # parked topics -> monotonic
        self._strikes: dict[Topic, int] = {}
        self._suspects: set[Topic] = set()

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics that are parked."""
        return tuple(self._asks_at)

    @property
    def suspicious(self) -> bool:
        """Whether to send one message at a time, to find the topic that ends the connection."""
        return bool(self._suspects)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._asks_at

    def wait_s(self) -> float | None:
        """Return how long until a parked topic is tried again; None if none is parked."""
        if not self._asks_at:
            return None
        return max(0.0, min(self._asks_at.values()) - time.monotonic())

    def due(self) -> list[Topic]:
        """Return the topics to try now with one message; the next try is after ``retry_s``."""
        now = time.monotonic()
        due = [topic for topic, asks_at in self._asks_at.items() if asks_at <= now]
        self._asks_at |= dict.fromkeys(due, now + self._retry_s)
        return due

    def deny(self, topic: Topic, reason: str) -> None:
        """Park a topic."""
        if topic not in self._asks_at:
            _LOG.error(
                "the broker does not allow this gateway to publish to %s: %s; its messages wait,"
                " and the agent retries with one of them every %.0f s",
                printable(topic),
                reason,
                self._retry_s,
            )
        self._asks_at[topic] = time.monotonic() + self._retry_s
        self._acquit(topic)

    def dropped(self, topics: Sequence[Topic]) -> None:
        """Record that the connection ended before these topics, in order, had an answer."""
        self._suspects.update(topics)
        for topic in topics[:1]:  # brokers answer in order
            strikes = self._strikes[topic] = self._strikes.get(topic, 0) + 1
            if strikes >= _STRIKES or topic in self._asks_at:
                self.deny(topic, "the connection ends each time")

    def nothing_waits(self) -> None:
        """End the search: the suspected topics have nothing to send."""
        self._suspects.clear()

    def _acquit(self, topic: Topic) -> None:
        self._strikes.pop(topic, None)
        self._suspects.discard(topic)

    def taken(self, topic: Topic) -> bool:
        """Record that the broker accepted a message of a topic; return whether that was parked."""
        self._acquit(topic)
        parked = self._asks_at.pop(topic, None) is not None
        if parked:
            _LOG.info("the broker allows this gateway to publish to %s again", printable(topic))
        return parked
