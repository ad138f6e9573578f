"""Tracks what must wait on one connection: held or denied topics, and parked messages.

If the broker answers that nobody is subscribed to a topic, or that its queue is full, the messages
of that topic are **held**: they stay in the outbox, and the agent retries with one of them every
``unsubscribed_retry_s``. Other topics continue. The agent does the same for a topic to which the
broker does not let it publish (``agent.uplink.denials``). A message that the broker will never
accept is **parked** until the next connection.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from models.printable import printable

if TYPE_CHECKING:
    from agent.dialects.dialect import Topic
    from agent.uplink.denials import Denials
    from agent.uplink.link import Link

_LOG = logging.getLogger(__name__)


class Waiting:
    """Topics and messages that are not sent for now; the sender's thread uses it."""

    def __init__(self, denials: Denials, link: Link, retry_s: float) -> None:
        self._denials, self._link, self._retry_s = denials, link, retry_s
        self.parked: set[int] = set()
        self._refused: dict[int, Topic] = {}  # parked because of a denied topic -> that topic
        self._pardoned: set[int] = set()  # formerly parked because of their topic
        self._held: dict[Topic, float] = {}  # topic -> when to try it again, monotonic
        self.asking: set[Topic] = set()  # held or denied topics whose next message tries again
        self._show()

    def _show(self) -> None:
        self._link.parked = len(self.parked)
        self._link.held, self._link.denied = tuple(self._held), self._denials.topics

    def passed_over(self) -> list[Topic]:
        """Return the topics whose messages must wait now."""
        waiting = [*self._held, *self._denials.topics]
        return [topic for topic in waiting if topic not in self.asking]

    def wait_s(self) -> float | None:
        """Return how long until a topic may be tried; None if none waits."""
        waits = [at - time.monotonic() for at in self._held.values()]
        if (denied_s := self._denials.wait_s()) is not None:
            waits.append(denied_s)
        return min(waits, default=None)

    def let_ask(self) -> bool:
        """Retry each topic that is due with one message; return whether any is due.

        If no message waits, the next new message is the retry.
        """
        now = time.monotonic()
        due = [topic for topic, time_s in self._held.items() if time_s <= now]
        self._held |= dict.fromkeys(due, now + self._retry_s)
        due += self._denials.due()
        self.asking.update(due)
        return bool(due)

    def ask_soon(self) -> None:
        """Try all held topics soon: the collector has come online."""
        self._held = dict.fromkeys(self._held, time.monotonic())

    def is_denied(self, topic: Topic) -> bool:
        """Whether a message outside the outbox must wait for its topic; false if a retry is due."""
        if topic not in self._denials:
            return False
        asks = topic in self.asking
        self.asking.discard(topic)
        return not asks

    def park(self, seq: int, reason: str) -> None:
        """Leave a message in the outbox; the next connection tries again."""
        if not self.parked and seq not in self._refused:
            _LOG.error("the broker does not accept message %d, and perhaps others: %s", seq, reason)
        self.parked.add(seq)
        self._link.last_error = reason
        self._show()

    def deny(self, topic: Topic, seq: int | None, reason: str) -> None:
        """Let a denied topic wait; ``seq`` is the message that the broker answered."""
        self._denials.deny(topic, reason)
        self._link.last_error = reason
        if seq is not None and seq not in self._pardoned:
            self._refused[seq] = topic
        self._show()

    def taken(self, topic: Topic) -> bool:
        """Record that the broker accepted a message; return whether its topic was denied before.

        If so, messages that were refused because of this topic are sent again.
        """
        if not self._denials.taken(topic):
            return False
        pardoned = {seq for seq, refused in self._refused.items() if refused == topic}
        self._pardoned |= pardoned
        self.parked -= pardoned
        for seq in pardoned:
            del self._refused[seq]
        self._show()
        return True

    def hold(self, topic: Topic, reason: str) -> None:
        """Hold a topic: nobody would receive its messages, or the broker's queue is full."""
        if not self._held:
            _LOG.warning("messages on %s and perhaps others are held: %s", printable(topic), reason)
        self._held[topic] = time.monotonic() + self._retry_s
        self._link.last_error = reason
        self._link.change("held")
        self._show()

    def release(self, topic: Topic) -> bool:
        """Stop holding a topic; return whether it was held."""
        if self._held.pop(topic, None) is None:
            return False
        self.asking.discard(topic)
        if not self._held:
            _LOG.info("messages are no longer held")
            self._link.change("online")
        self._show()
        return True
