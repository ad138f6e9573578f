"""The books of all gateways' numbers: some in memory, all on the disk, both within limits.

The most recently used books are in memory. ``agent.collector.room`` decides which books on the disk
are dropped or cut to make room. Then the gateway sends or reports the forgotten numbers again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.collector.filed import Filed
from agent.collector.numbers import Book
from agent.collector.reading import Source
from agent.collector.retention import drop
from agent.collector.room import Room, Shelved
from agent.store.sqlite import Connection, errors_of

BOOKS_IN_MEMORY: Final = 1000  # bounded, because a garbled epoch also begins a book
RANGES_IN_MEMORY: Final = 100_000  # of all books; about 100 bytes each


class Shelf:
    """The books of a site; everything is written within the caller's transaction."""

    def __init__(
        self, path: Path, database: Connection, site: str, filed: Filed, bytes_max: int | None
    ) -> None:
        """Set up; ``path`` is the database's file, ``bytes_max`` the limit of its size."""
        self._path, self._database, self._site, self._filed = path, database, site, filed
        self.room = Room(database, site, bytes_max)
        self._books: dict[Source, Book] = {}  # the most recently used, the latest at the end
        self._loaded = 0  # ranges loaded since books were last removed from memory
        self._forgotten: list[Source] = []

    def __len__(self) -> int:
        """Return how many books are in memory."""
        return len(self._books)

    def ranges(self) -> int:
        """Return how many ranges are in memory."""
        return sum(book.ranges() for book in self._books.values())

    def book(self, source: Source) -> Book:
        """Return the book of a source, from memory or the disk; an empty one if it is new.

        Raises:
            StoreError: the database cannot be read.

        """
        book = self._books.pop(source, None)
        if book is None:
            with errors_of(self._path):
                book = self._filed.book(source)
            self._loaded += book.ranges()
        self._books[source] = book
        return book

    def grew(self, ranges: int) -> None:
        """Count ranges that books may have gained; this is an upper bound."""
        self._loaded += ranges

    def is_full(self) -> bool:
        """Whether there are enough new ranges that some books must leave memory."""
        return self._loaded > RANGES_IN_MEMORY

    def let_go(self) -> None:
        """Keep only the most recently used books in memory; others are read again when needed.

        Call this after all books are written.
        """
        for source in [one for one, book in self._books.items() if book.has_room_again()]:
            del self._books[source]
        ranges = self.ranges()
        while len(self._books) > BOOKS_IN_MEMORY or ranges > RANGES_IN_MEMORY:
            ranges -= self._books.pop(next(iter(self._books))).ranges()
        self._loaded = 0

    def write(self, sources: Iterable[Source]) -> None:
        """Write the books of these sources, and make room for them."""
        sources = list(sources)
        for source in sources:
            self._write(source)
        for gateway in self.room.look({source.gateway for source in sources}):
            self._make_room(gateway)
        self._forget(self.room.unused())
        while (largest := self.room.largest()) is not None:
            if not self._shrink(largest):
                self._forget([self.room.oldest()])

    def _write(self, source: Source) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO books VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [self._site, *source, *self.book(source).row()],
        )

    def _make_room(self, gateway: str) -> None:
        """Fit a gateway's books into its share: drop the older ones, then cut the last one."""
        self._forget(self.room.too_many(gateway))
        while self.room.look([gateway]) and self._shrink(gateway):
            pass

    def _shrink(self, gateway: str) -> bool:
        """Forget some of a gateway's numbers; return whether there were any."""
        *older, last = self.room.of(gateway)
        if older:
            self._forget(older[:1])
            return True
        source = Source(gateway, last.epoch)
        book = self.book(source)
        if book.gone.count() + book.dropped.count() == 0:
            return False
        book.halve()
        self._write(source)
        del self._books[source]  # fewer numbers are settled now; read the book from the disk again
        self._forgotten.append(source)
        self.room.look([gateway])
        return True

    def _forget(self, books: Iterable[Shelved]) -> None:
        sources = [Source(book.gateway, book.epoch) for book in books]
        drop(self._database, self._site, [], [(self._site, *source) for source in sources])
        self.dropped(sources)

    def dropped(self, sources: Iterable[Source]) -> None:
        """Update the state after the books of these sources were deleted."""
        sources = list(sources)
        for source in sources:
            self._books.pop(source, None)
        self._forgotten += sources
        self.room.look({source.gateway for source in sources})

    def forgotten(self) -> list[Source]:
        """Return the sources whose books were dropped or cut to save space since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten
