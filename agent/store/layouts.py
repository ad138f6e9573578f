"""The channels of each stream that has a history, and since when; needs no numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from agent.store.migrations import NUMBER_BITS

Query = Callable[[str, Sequence[Any]], list[Any]]

_NUMBERS: Final = 1 << NUMBER_BITS  # above any sample number


class Part(NamedTuple):
    """A part of a stream's past in which its channels did not change."""

    id: int
    channels: list[str]
    since: int  # number of its first sample
    until: int  # number of the first sample after it


def streams(query: Query) -> list[str]:
    """Return the names of the streams that have a history, in order; none in an older file."""
    if not query("SELECT name FROM pragma_table_info('history_streams')", []):
        return []
    rows = query("SELECT DISTINCT stream FROM history_streams ORDER BY stream", [])
    return [name for (name,) in rows]


def layout(query: Query, stream: str) -> tuple[list[str], int] | None:
    """Return the channels of a stream now, and the number of the first sample with them."""
    parts = parts_of(query, stream)
    return (parts[-1].channels, parts[-1].since) if parts else None


def parts_of(query: Query, stream: str) -> list[Part]:
    """Return the parts of a stream's past, in order; none if it has no history."""
    if stream not in streams(query):
        return []
    rows = query(
        "SELECT id, channels, since FROM history_streams WHERE stream = ? ORDER BY id", [stream]
    )
    untils = [*(since for _, _, since in rows[1:]), _NUMBERS]
    return [
        Part(id_, json.loads(names), since, until)
        for (id_, names, since), until in zip(rows, untils, strict=True)
    ]
