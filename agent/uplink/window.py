"""The window of one connection: the messages that the broker has not answered, and their limit.

MQTT 5 calls its size the receive maximum. It is 1 while the agent searches for the topic that makes
the broker end the connection (``agent.uplink.denials``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from agent.mqtt.connection import NO_PACKET, LinkError

if TYPE_CHECKING:
    from agent.dialects.dialect import Topic
    from agent.uplink.denials import Denials


class Sent(NamedTuple):
    """A message that the broker has not answered yet."""

    topic: Topic
    seq: int | None  # None: not from the outbox, but a status, a gone message or samples
    status: bool = False
    samples: bool = False


class Window:
    """The messages in flight; the sender's thread uses it."""

    def __init__(self, denials: Denials, size_max: int, timeout_s: float) -> None:
        """Set up; the broker must answer within ``timeout_s``."""
        self._denials, self._size_max, self._timeout_s = denials, size_max, timeout_s
        self._in_flight: dict[int, Sent] = {}  # by packet number
        self._seqs: set[int] = set()  # the numbers of those
        self._progress = time.monotonic()  # time of the last answer, or of the first message

    def __len__(self) -> int:
        """Return how many messages are in flight."""
        return len(self._in_flight)

    def __contains__(self, seq: int) -> bool:
        """Whether this message of the outbox is in flight."""
        return seq in self._seqs

    @property
    def full(self) -> bool:
        """Whether an answer must come before the next message."""
        return len(self._in_flight) >= (1 if self._denials.suspicious else self._size_max)

    @property
    def topics(self) -> list[Topic]:
        """The topics in flight, in the order in which they were sent."""
        return [sent.topic for sent in self._in_flight.values()]

    @property
    def has_status(self) -> bool:
        """Whether a status is in flight."""
        return any(sent.status for sent in self._in_flight.values())

    def add(self, packet: int | None, sent: Sent) -> None:
        """Wait for the answer to a packet; None: the packet may or may not have gone out."""
        if not self._in_flight:
            self._progress = time.monotonic()
        if packet is None:
            self._in_flight[NO_PACKET] = sent  # it may have caused the end of the connection
            return
        self._in_flight[packet] = sent
        if sent.seq is not None:
            self._seqs.add(sent.seq)

    def answered(self, packet: int) -> Sent | None:
        """Return the message that the broker answered, which is no longer in flight."""
        self._progress = time.monotonic()
        sent = self._in_flight.pop(packet, None)
        if sent is not None and sent.seq is not None:
            self._seqs.discard(sent.seq)
        return sent

    def check(self) -> None:
        """Check that the broker still answers.

        Raises:
            LinkError: it has not answered for too long.

        """
        waited = time.monotonic() - self._progress
        if self._in_flight and waited > self._timeout_s:
            raise LinkError(f"no acknowledgement for {waited:.0f} s")
