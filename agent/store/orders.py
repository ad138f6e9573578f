"""The commands from central ops whose ids are kept: each with its answer, until it expires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

FORGOTTEN: Final = "orders/forgotten"  # counter: latest expiry of a deleted row, Unix seconds


class Known(NamedTuple):
    """A command that was answered."""

    expires: float  # Unix seconds
    digest: str  # SHA-256 of the signed message, hexadecimal
    answer: str  # JSON


def write(records: Connection, orders: Mapping[str, Known], forgotten: int | None) -> None:
    """Store commands by id, and delete those that expired no later than ``forgotten``."""
    if forgotten is not None:
        records.execute("DELETE FROM orders WHERE expires <= ?", [forgotten])
    records.executemany(
        "INSERT OR REPLACE INTO orders (id, expires, digest, answer) VALUES (?, ?, ?, ?)",
        [(name, *known) for name, known in orders.items()],
    )


def forgotten_s(records: Connection, key: str) -> float:
    """Return the latest expiry of a deleted row, Unix seconds; 0: none was deleted."""
    found = records.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
    return 0.0 if found is None else float(found[0])


def read(records: Connection) -> dict[str, Known]:
    """Return the stored commands by id."""
    rows = records.execute("SELECT id, expires, digest, answer FROM orders").fetchall()
    return {name: Known(*rest) for name, *rest in rows}
