"""The messages in an outbox of version 1: ready to send, with their topic.

The migration and the salvage of an older file convert them to records. This code never changes: it
describes the format of those files, independently of today's dialects.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, get_args

from agent.store.record import Kind, Record, packed
from models.times import iso_time, unix_s

_NAMES: Final = (
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "epoch",
    "seq",
    "stream",
    "clock",
    "bundle",
    "detector",
    "data",
)


class Wrapped(NamedTuple):
    """A row of the outbox of version 1."""

    seq: int
    kind: str
    topic: str
    body: bytes

    def record(self) -> Record:
        """Convert the row to a record.

        Raises:
            ValueError: it cannot be read.

        """
        said = self._read()
        try:
            names = ("stream", "time", "clock", "bundle", "detector", "data")
            stream, time, clock, bundle, detector, data = (said[name] for name in names)
            record = Record(
                self.seq, self.kind, stream, time, clock, bundle, detector, packed(data)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"message {self.seq} cannot be read: {error}") from error
        if said.get("seq") != self.seq or not is_record(record):
            raise ValueError(f"message {self.seq} was not written by this agent")
        return record

    def is_all_in(self, record: Record) -> bool:
        """Whether the record contains everything in this row, so that the payload is identical."""
        said = self._read()
        names = (*_NAMES, "subject") if record.stream is not None else _NAMES
        return packed(said) == self.body and tuple(said) == names

    def _read(self) -> dict[str, Any]:
        try:
            said = json.loads(self.body)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"message {self.seq} cannot be read: {error}") from error
        if not isinstance(said, dict):
            raise ValueError(f"message {self.seq} is not a JSON object")
        return said


def is_record(row: tuple[Any, ...]) -> bool:
    """Whether a row of the outbox is a valid record: a damaged file may contain anything."""
    _, kind, stream, time, clock, bundle, detector, data = row
    return (
        kind in get_args(Kind)
        and _is_stream(stream)
        and _is_time(time)
        and isinstance(clock, str)
        and all(one is None or isinstance(one, str) for one in (bundle, detector))
        and _is_object(data)
    )


def _is_time(time: Any) -> bool:
    try:
        return isinstance(time, str) and iso_time(unix_s(time)) == time
    except (ValueError, OverflowError):
        return False


def _is_stream(stream: Any) -> bool:
    """Whether it can be part of a topic."""
    return stream is None or (isinstance(stream, str) and not set("/+#\0") & set(stream))


def _is_object(data: Any) -> bool:
    try:
        return isinstance(data, bytes) and isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
