"""What a dialect of the uplink is.

A **record** is sent once the broker, or central ops, lets it go, and again with the same bytes
until it is acknowledged. Beside the records there are two messages that have no number:

- the **status**: the link is up (birth), or not (death; the broker publishes it as the last will).
  It is retained, and written for the last will when the connection opens: its time and ``seq`` are
  of that moment, not of the loss. ``seq`` is the highest number given so far, by which ops sees
  what has yet to come.
- what is **gone**: which numbers will not come (any more). Only a collector is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self

from agent.store.record import Origin, Record

LinkState = Literal["online", "offline"]
Beside = Literal["status", "gone"]


class Topic(str):
    """Where messages of one kind about one stream are published.

    ``kind`` is the ``Kind`` of a record, or ``Beside``.
    """

    __slots__ = ("kind", "stream")
    kind: str
    stream: str | None

    def __new__(cls, name: str, kind: str, stream: str | None = None) -> Self:
        """Return the topic with what it is for."""
        topic = super().__new__(cls, name)
        topic.kind, topic.stream = kind, stream
        return topic


class Message(NamedTuple):
    """What is published."""

    topic: Topic
    body: bytes

    def size(self) -> int:
        """Return the bytes that the broker's limit counts, without the head of the packet."""
        return len(self.topic.encode()) + len(self.body)


class Dialect(Protocol):
    """Encodes the messages of one gateway; the sender's thread uses it."""

    origin: Origin
    content_type: str  # of records; status and gone are JSON in every dialect there is

    def record(self, record: Record) -> Message:
        """Return a record as it is sent: each time the same."""
        ...

    def status(
        self,
        state: LinkState,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
        more: Mapping[str, Any] | None = None,
    ) -> Message:
        """Return the retained status.

        Args:
            state: of the link.
            time: Unix seconds.
            seq: the highest number given so far.
            suffix: tells it from all other messages with this number.
            clock: quality of the gateway's clock.
            more: what else central ops is to know.

        """
        ...

    def gone(
        self, ranges: Sequence[tuple[int, int]], time: float, seq: int, suffix: str, clock: str
    ) -> Message:
        """Return which numbers will not come: ranges of first and last; the rest as in status."""
        ...
