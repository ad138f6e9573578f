"""Deletes the oldest messages of a collector, so that its database stays bounded.

A message's age counts from its arrival, by the collector's clock. The books stay correct: a number
stays settled after its message is deleted. A search looks at a few rows only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from agent.store.sqlite import Connection, bytes_used

BYTES_MAX: Final = 10 * 2**30
BOOKS_MAX: Final = 100_000  # one per gateway and epoch
LOOK_S: Final = 10.0  # between two searches, if the last one found few rows
ROWS_A_LOOK: Final = 1000
_DAY_S: Final = 86_400.0


BookKey = tuple[str, str, str]  # site, gateway and epoch


class Space(Protocol):
    """A part of the database that is not for messages."""

    @property
    def size_bytes(self) -> int: ...  # noqa: D102
    @property
    def bytes_max(self) -> int: ...  # noqa: D102


class Keeping(NamedTuple):
    """How much is kept; None means no limit."""

    days_max: float | None = None
    bytes_max: int | None = BYTES_MAX


FOREVER: Final = Keeping(bytes_max=None)


class Row(NamedTuple):
    """The message of one row."""

    number: int  # in order of arrival
    received_s: float | None  # Unix seconds; None: received by an older version
    gateway: str
    epoch: str
    seq: int
    size_bytes: int


def to_drop(
    database: Connection, site: str, keeping: Keeping, now_s: float, beside: Iterable[Space]
) -> list[Row]:
    """Return the oldest messages that are too many or too old, at most ``ROWS_A_LOOK``.

    The parts of the database in ``beside`` have their own space, and never displace a message.
    """
    rows = _oldest(database, site)
    too_many = 0
    if keeping.bytes_max is not None:
        too_many = bytes_used(database) - keeping.bytes_max
        too_many += sum(space.bytes_max - space.size_bytes for space in beside)
    count = max(_as_many_as(rows, too_many), _older(rows, older_than_s(keeping, now_s)))
    return rows[:count]


def older_than_s(keeping: Keeping, now_s: float) -> float | None:
    """Return the time before which messages are too old, Unix seconds; None without a limit."""
    return None if keeping.days_max is None else now_s - keeping.days_max * _DAY_S


def _oldest(database: Connection, site: str) -> list[Row]:
    found = database.execute(
        """SELECT rowid, received, gateway, epoch, seq, length(body) + length(topic) FROM messages
        WHERE site = ? ORDER BY rowid LIMIT ?""",
        [site, ROWS_A_LOOK],
    )
    return [Row(*row) for row in found]


def _as_many_as(rows: Sequence[Row], size_bytes: int) -> int:
    count = 0
    while size_bytes > 0 and count < len(rows):
        size_bytes -= rows[count].size_bytes
        count += 1
    return count


def _older(rows: Sequence[Row], before_s: float | None) -> int:
    """Return how many rows arrived before a time; rows without a time are older than the others."""
    if before_s is None:
        return 0
    known = [at for at, row in enumerate(rows) if row.received_s is not None]
    old = [at for at in known if (rows[at].received_s or 0.0) < before_s]
    return old[-1] + 1 if old else 0


def unused_books(database: Connection) -> list[BookKey]:
    """Return the least recently used books without messages, if there are too many."""
    (count,) = database.execute("SELECT count(*) FROM books").fetchone()
    if count <= BOOKS_MAX:
        return []
    return database.execute(
        """SELECT site, gateway, epoch FROM books WHERE NOT EXISTS (
            SELECT 1 FROM messages WHERE messages.site = books.site
            AND messages.gateway = books.gateway AND messages.epoch = books.epoch
        ) ORDER BY used LIMIT ?""",
        [min(count - BOOKS_MAX, ROWS_A_LOOK)],
    ).fetchall()


def drop(database: Connection, site: str, rows: Sequence[Row], books: Sequence[BookKey]) -> None:
    """Delete messages and books."""
    database.executemany("DELETE FROM messages WHERE rowid = ?", [(row.number,) for row in rows])
    database.executemany(
        "DELETE FROM merges WHERE site = ? AND gateway = ? AND epoch = ? AND seq = ?",
        [(site, row.gateway, row.epoch, row.seq) for row in rows],
    )
    database.executemany("DELETE FROM books WHERE site = ? AND gateway = ? AND epoch = ?", books)
