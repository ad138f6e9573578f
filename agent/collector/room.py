"""Limits the space of the books: a share of the database, and a part of that for each gateway.

A client that may publish as a gateway can begin a book with each message, and fill it with missing
numbers. So a gateway's books displace only each other, and no book displaces a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agent.store.sqlite import Connection

BYTES_MAX: Final = 256 * 2**20  # all books together
GATEWAY_BYTES_MAX: Final = 2**20
EPOCHS_MAX: Final = 32  # per gateway; a new one begins if its database was lost
_SHARE: Final = 4  # the books have this fraction (1/4) of the database's limit
_GATEWAYS: Final = 16  # at least this many gateways fill that part
_LEAST: Final = 2000  # bytes per gateway; enough for one book with few ranges
_FREED: Final = 8  # this fraction (1/8) is freed at a time, so that it happens seldom

# an upper bound: a long row has its own pages, and pages are not full
_SIZE: Final = """(300 + 2 * (length(gateway) + length(epoch)) + length(gone)
    + ifnull(length(dropped), 0)
    + CASE WHEN length(gone) + ifnull(length(dropped), 0) > 600 THEN 4500 ELSE 600 END)"""
_HAS_MESSAGES: Final = """EXISTS (SELECT 1 FROM messages WHERE messages.site = books.site
    AND messages.gateway = books.gateway AND messages.epoch = books.epoch)"""


class Shelved(NamedTuple):
    """A stored book."""

    gateway: str
    epoch: str
    size_bytes: int


class Room:
    """The space of a site's books, by gateway."""

    def __init__(self, database: Connection, site: str, bytes_max: int | None) -> None:
        self._database = database
        self._site = site
        self.bytes_max = BYTES_MAX if bytes_max is None else min(bytes_max // _SHARE, BYTES_MAX)
        self._gateway_bytes_max = max(_LEAST, min(self.bytes_max // _GATEWAYS, GATEWAY_BYTES_MAX))
        sizes = database.execute(
            f"SELECT gateway, sum{_SIZE} FROM books WHERE site = ? GROUP BY gateway",  # noqa: S608
            [site],
        )
        self._of: dict[str, int] = dict(sizes)
        self.size_bytes = sum(self._of.values())

    def look(self, gateways: Iterable[str]) -> list[str]:
        """Measure the books of these gateways; return the gateways that exceed their share."""
        return [gateway for gateway in gateways if self._has_too_much(gateway)]

    def _has_too_much(self, gateway: str) -> bool:
        count, size = self._database.execute(
            f"""SELECT count(*), ifnull(sum{_SIZE}, 0) FROM books
            WHERE site = ? AND gateway = ?""",  # noqa: S608
            [self._site, gateway],
        ).fetchone()
        self.size_bytes += size - self._of.pop(gateway, 0)
        if size:
            self._of[gateway] = size
        return bool(count > EPOCHS_MAX or size > self._gateway_bytes_max)

    def too_many(self, gateway: str) -> list[Shelved]:
        """Return the books to drop if a gateway exceeds its share; one book always stays.

        Books without messages are dropped first, the least recently used of them at the head.
        """
        rest = self.of(gateway)
        size = sum(book.size_bytes for book in rest)
        going = []
        while len(rest) > 1 and (size > self._gateway_bytes_max or len(rest) > EPOCHS_MAX):
            going.append(rest.pop(0))
            size -= going[-1].size_bytes
        return going

    def of(self, gateway: str) -> list[Shelved]:
        """Return the books of a gateway; the one to keep is the last."""
        return self._books("gateway = ?", [gateway])

    def oldest(self) -> Shelved:
        """Return the least needed book."""
        return self._books("TRUE", [])[0]

    def unused(self) -> list[Shelved]:
        """Return the least recently used books without messages, if all take too much."""
        if self.size_bytes <= self.bytes_max:
            return []
        excess = self.size_bytes - self.bytes_max + self.bytes_max // _FREED
        going = []
        for book in self._books(f"NOT {_HAS_MESSAGES}", []):
            if excess <= 0:
                break
            going.append(book)
            excess -= book.size_bytes
        return going

    def largest(self) -> str | None:
        """Return whose books take the most, if all take too much."""
        if self.size_bytes <= self.bytes_max:
            return None
        return max(self._of, key=self._of.__getitem__)

    def _books(self, which: str, values: list[str]) -> list[Shelved]:
        return [
            Shelved(*row)
            for row in self._database.execute(
                f"""SELECT gateway, epoch, {_SIZE} FROM books WHERE site = ? AND {which}
                ORDER BY {_HAS_MESSAGES}, used""",  # noqa: S608
                [self._site, *values],
            )
        ]
