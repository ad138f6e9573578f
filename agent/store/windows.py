"""Reads the window of an alarm: the samples around its onset, with what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent.store.window import Seen, Window, unpacked

Query = Callable[[str, Sequence[Any]], list[Any]]

COLUMNS: Final = "stream, number, last, to_come, channels, times, data"


def window(query: Query, stream: str, number: int) -> Seen | None:
    """Return the window of an alarm; None if there is none, or if it is damaged.

    Args:
        query: ``Reader.query_records``.
        stream: Of the alarm.
        number: Of the alarm; several may share a window.

    Raises:
        StoreError: the database cannot be read.

    """
    if not query("SELECT 1 FROM sqlite_master WHERE name = 'windows'", []):  # of an older version
        return None
    rows = query(
        f"SELECT {COLUMNS} FROM windows WHERE stream = ? AND number <= ?"  # noqa: S608
        " ORDER BY number DESC LIMIT 1",
        [stream, number],
    )
    found = window_of(rows[0]) if rows else None
    return None if found is None or found.last < number else Seen.of(found)


def window_of(row: Sequence[Any]) -> Window | None:
    """Return the window of a row of ``COLUMNS``; None if it is damaged."""
    stream, number, last, to_come, channels, times, data = row
    try:
        names = tuple(map(str, json.loads(channels)))
        found = unpacked(names, times, data)
        return found._replace(stream=stream, number=number, last=last, to_come=to_come)
    except (ValueError, TypeError):
        return None
