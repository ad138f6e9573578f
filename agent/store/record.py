"""A message to central ops as the outbox keeps it: neutral, before a dialect encodes it.

Summaries, alarms and health are **numbered**: ``seq`` counts up by one within an ``epoch`` (the
life of the gateway's database). A record has the whole content of a message except its ``Origin``,
which is the same for all messages. ``agent.dialects`` creates topic and payload only when the
message is sent, so a waiting message is sent in the dialect configured at that time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from models.times import iso_time

Kind = Literal["summary", "alarm", "transition", "health"]


class Origin(NamedTuple):
    """The sender of messages: a gateway, in one life of its database."""

    site: str
    gateway: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message before it has a number."""

    kind: Kind
    stream: str | None  # None: the message concerns the gateway
    time: float  # Unix seconds
    data: dict[str, Any]
    bundle: str | None = None  # digest
    detector: str | None = None

    def numbered(self, seq: int, clock: str) -> Record:
        """Return the record for the outbox; ``clock`` is the quality of the gateway's clock.

        Raises:
            ValueError: it contains a number that JSON cannot represent (NaN, infinity).

        """
        time, data = iso_time(self.time), packed(self.data)
        return Record(seq, self.kind, self.stream, time, clock, self.bundle, self.detector, data)


class Record(NamedTuple):
    """A numbered message: a row of the outbox, in the order of its columns."""

    seq: int
    kind: str  # a ``Kind``; in a damaged file perhaps another text
    stream: str | None
    time: str  # as ``iso_time`` writes it, and as the times in the data are
    clock: str  # quality of the gateway's clock, or "corrected"
    bundle: str | None  # digest
    detector: str | None
    data: bytes  # a JSON object without spaces, which dialects embed unchanged

    def read(self) -> dict[str, Any]:
        """Return its data."""
        data: dict[str, Any] = json.loads(self.data)
        return data


COLUMNS: Final = ", ".join(Record._fields)
INSERT: Final = f"INSERT INTO outbox ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - no input in it


def packed(data: dict[str, Any]) -> bytes:
    """Encode data for a record.

    Raises:
        ValueError: it contains a number that JSON cannot represent (NaN, infinity).

    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
