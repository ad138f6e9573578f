"""How much room the books have: of the limit a share of their own, and of that each gateway a part.

Whoever may publish as a gateway can begin a book with each message, and fill it with numbers that
are gone. So a gateway's own books make room for each other, and no book takes a message's place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agent.store.sqlite import Connection

BYTES_MAX: Final = 256 * 2**20  # of all books
GATEWAY_BYTES_MAX: Final = 2**20
EPOCHS_MAX: Final = 32  # of a gateway; a new one begins where its database was lost
_SHARE: Final = 4  # the books' part of the limit is one of so many
_GATEWAYS: Final = 16  # so many can fill that part, and no fewer
_LEAST: Final = 2000  # of a gateway; it can always have one book of few ranges
_FREED: Final = 8  # one of so many parts is freed at a time, so that it is not looked for each time

# rather too much than too little: a long row has pages of its own, and pages are not full
_SIZE: Final = """(300 + 2 * (length(gateway) + length(epoch)) + length(gone)
    + ifnull(length(dropped), 0)
    + CASE WHEN length(gone) + ifnull(length(dropped), 0) > 600 THEN 4500 ELSE 600 END)"""
_HAS_MESSAGES: Final = """EXISTS (SELECT 1 FROM messages WHERE messages.site = books.site
    AND messages.gateway = books.gateway AND messages.epoch = books.epoch)"""


class Shelved(NamedTuple):
    """A book as it is stored."""

    gateway: str
    epoch: str
    size_bytes: int


class Room:
    """What the books of a site take of the database, by gateway."""

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
        """See what the books of these take now; return which of them have too much."""
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
        """Return which of a gateway's books have to go, where it has too much; one stays.

        Those without messages go first, and of these the ones that were not used for the longest.
        """
        rest = self.of(gateway)
        size = sum(book.size_bytes for book in rest)
        going = []
        while len(rest) > 1 and (size > self._gateway_bytes_max or len(rest) > EPOCHS_MAX):
            going.append(rest.pop(0))
            size -= going[-1].size_bytes
        return going

    def of(self, gateway: str) -> list[Shelved]:
        """Return the books of a gateway, the one that is to stay at the end."""
        return self._books("gateway = ?", [gateway])

    def oldest(self) -> Shelved:
        """Return the book that can be missed most."""
        return self._books("TRUE", [])[0]

    def unused(self) -> list[Shelved]:
        """Return books without messages, unused for the longest, where all take too much."""
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
        """Return whose books take the most, where all take too much."""
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
