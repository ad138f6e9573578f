"""Numbers in the table ``meta`` that only increase."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.store.sqlite import Connection


def raise_numbers(records: Connection, numbers: Iterable[tuple[str, int]]) -> None:
    """Store each number under its key, unless a higher one is there."""
    records.executemany(
        """INSERT INTO meta VALUES (?, ?)
        ON CONFLICT DO UPDATE SET value = max(value, excluded.value)""",
        numbers,
    )
