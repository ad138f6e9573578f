"""The interface of a dialect of the uplink.

A **record** is sent when the window and its topic allow it, and again with the same bytes until it
is acknowledged. Besides records there are three messages without a number:

- the **status**: the link is up (birth), or not (death; the broker publishes it as the last will).
  It is retained. The last will is made when the connection opens: its time and ``seq`` are of that
  moment, not of the loss. ``seq`` is the highest number given so far, so that ops sees what is
  still to come.
- **gone**: which numbers will not come (any more). Only a collector gets it.
- **samples**: a chunk of a stream's samples (``agent.dialects.samples``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, Self

from agent.store.record import Origin, Record

LinkState = Literal["online", "offline"]
Beside = Literal["status", "gone", "samples"]

SAMPLES_FOLLOW: Final = b"\n"  # after a message about samples, which has no line end


class Topic(str):
    """Where messages of one kind about one stream are published.

    ``kind`` is the ``Kind`` of a record, or ``Beside``.
    """

    __slots__ = ("kind", "stream")
    kind: str
    stream: str | None

    def __new__(cls, name: str, kind: str, stream: str | None = None) -> Self:
        """Return the topic together with its kind and stream."""
        topic = super().__new__(cls, name)
        topic.kind, topic.stream = kind, stream
        return topic


class Message(NamedTuple):
    """A message to publish."""

    topic: Topic
    body: bytes

    def size(self) -> int:
        """Return the bytes that the broker's limit counts, without the packet's header."""
        return len(self.topic.encode()) + len(self.body)


class Dialect(Protocol):
    """Encodes the messages of one gateway; the sender's thread uses it."""

    origin: Origin
    content_type: str  # of records; the other messages are JSON in every dialect

    def record(self, record: Record) -> Message:
        """Return the message to send for a record; it is the same each time."""
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
            suffix: distinguishes it from all other messages with this number.
            clock: quality of the gateway's clock.
            more: other data for central ops.

        """
        ...

    def gone(
        self, ranges: Sequence[tuple[int, int]], time: float, seq: int, suffix: str, clock: str
    ) -> Message:
        """Return the message about numbers that will not come: ranges of first and last number.

        The other arguments are those of ``status``.
        """
        ...

    def samples(
        self,
        stream: str,
        about: Mapping[str, Any],
        data: bytes,
        time: float,
        seq: int,
        suffix: str,
        clock: str,
    ) -> Message:
        """Return a chunk of samples; see ``agent.dialects.samples``.

        Args:
            stream: whose samples they are.
            about: what the message says about them.
            data: their bytes.
            time: when it is sent, Unix seconds.
            seq: as in ``status``, and so the other two.
            suffix: see ``seq``.
            clock: see ``seq``.

        """
        ...
