"""What a collector has of each gateway: every message once, and the books of their numbers.

A number is settled when its message is here, or its gateway said that it is gone. ``through_seq``
of an acknowledgement is the last of the settled numbers that follow each other from 1. If a message
comes after its gateway said that it is gone, the collector still takes it in.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from agent.collector.retention import (
    FOREVER,
    LOOK_S,
    ROWS_A_LOOK,
    Book,
    Keeping,
    Row,
    drop,
    to_drop,
    unused_books,
)
from agent.collector.room import Room, Shelved
from agent.config.kinds import NAME
from agent.mqtt.payload import DEPTH_MAX
from agent.store.migrations import COLLECTED
from agent.store.ranges import Range, Ranges, is_number, parse
from agent.store.sqlite import (
    Connection,
    Damaged,
    errors_of,
    give_back,
    lock,
    open_for_writing,
    set_aside,
    transaction,
)
from agent.uplink.acknowledgements import ALSO_MAX, GONE_MAX
from models.errors import StoreError
from models.printable import printable

_EPOCH_CHARACTERS_MAX = 64
_BOOKS_MAX = 1000  # in memory; a garbled epoch begins a book, too
_RANGES_MAX = 10_000  # per set of a book
_RANGES_IN_MEMORY = 100_000  # of all books; about 100 bytes each


class Source(NamedTuple):
    """A gateway in one life of its database."""

    gateway: str
    epoch: str


class Message(NamedTuple):
    """A numbered message as it was received."""

    source: Source
    seq: int
    topic: str
    body: bytes
    merged: list[Range]  # numbers of the messages that it replaces


@dataclass(slots=True)
class _Book:
    """The numbers of one source."""

    through: int = 0
    beyond: Ranges = field(default_factory=Ranges)  # settled, above ``through``
    gone: Ranges = field(default_factory=Ranges)  # settled, but never here
    dropped: Ranges = field(
        default_factory=Ranges
    )  # the part of ``beyond`` that is not here any more

    def expect(self, seq: int) -> None:
        """Raise ValueError if a number would leave too many gaps: no gateway does that."""
        new = seq - 1 not in self.beyond and seq + 1 not in self.beyond and seq > self.through + 1
        if new and self.beyond.count() >= _RANGES_MAX:
            raise ValueError(f"more than {_RANGES_MAX} gaps in the numbers")

    def expect_gone(self, ranges: Sequence[Range]) -> None:
        """Raise ValueError if a gateway reports more missing numbers than it can have.

        Missing numbers lie between its messages. So it may be ahead of them by as many ranges as
        it reports at a time, and by more if more of its messages came.
        """
        here = self.through + len(self.beyond) - len(self.gone)
        if self.gone.count() + len(ranges) > GONE_MAX + max(0, here):
            raise ValueError(f"too many numbers are gone between {here} messages")

    def ranges(self) -> int:
        """Return what it takes of the memory."""
        return self.beyond.count() + self.gone.count() + self.dropped.count()

    def halve(self) -> None:
        """Forget the older half of the missing numbers; some may then not be settled."""
        self.gone.keep_last(self.gone.count() // 2)
        self.dropped.keep_last(self.dropped.count() // 2)

    def drop(self, seq: int) -> None:
        """Mark a message as dropped; its number stays settled."""
        if seq > self.through:
            self.dropped.add(seq, seq)

    def has(self, seq: int) -> bool:
        return (seq <= self.through or seq in self.beyond) and seq not in self.gone

    def settle(self, first: int, last: int) -> None:
        self.beyond.add(first, last)
        self.through = self.beyond.take_through(self.through)

    def row(self) -> tuple[int, str, str | None, float]:
        """Return the book as it is stored; of the missing numbers only the newest ranges."""
        self.dropped.remove(0, self.through)
        self.gone.keep_last(_RANGES_MAX)
        dropped = json.dumps(list(self.dropped)) if self.dropped.count() else None
        return self.through, json.dumps(list(self.gone)), dropped, time.time()


class Collected:
    """The collector's database; one thread of one process uses it."""

    def __init__(self, directory: Path, site: str, keeping: Keeping = FOREVER) -> None:
        self._path = directory / COLLECTED
        self._site = site
        self._keeping = keeping
        self._next_look_s = -math.inf  # monotonic
        self._books: dict[Source, _Book] = {}  # the most recently used, the latest at the end
        self._waiting: list[Message] = []
        self._touched: dict[Source, None] = {}
        self._loaded = 0  # ranges, since the last commit
        self._forgotten: list[Source] = []

    def __enter__(self) -> Self:
        """Open it; create it if needed.

        Raises:
            StoreError: it cannot be used, or is damaged, or another collector uses it.

        """
        with contextlib.ExitStack() as opening, errors_of(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opening.enter_context(lock(self._path.parent / f"{COLLECTED}.lock"))
            try:
                self._database = open_for_writing(self._path, "FULL")
            except Damaged as damage:
                aside = set_aside(self._path)
                raise StoreError(f"{damage}; it is now {aside.name}") from damage
            opening.enter_context(contextlib.closing(self._database))
            self._room = Room(self._database, self._site, self._keeping.bytes_max)
            self._closing = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; drop what was not committed."""
        self._closing.close()

    def take(self, message: Message) -> bool:
        """Take in a message with the next commit; say whether it is new.

        Raises:
            ValueError: its number leaves too many gaps.

        """
        book = self._book(message.source)
        book.expect(message.seq)
        self._touched[message.source] = None  # a repeat may be due to a lost acknowledgement
        if book.has(message.seq):
            return False
        self._loaded += len(message.merged) + 1
        for first, last in [*message.merged, (message.seq, message.seq)]:
            book.gone.remove(first, last)
            book.settle(first, last)
        self._waiting.append(message)
        return True

    def forgo(self, source: Source, ranges: Iterable[Range]) -> list[Range]:
        """Settle numbers that will not come; return those that were still missing.

        Raises:
            ValueError: that leaves too many gaps, or is more than lies between its messages.

        """
        book = self._book(source)
        missing = [
            hole
            for first, last in ranges
            for hole in book.beyond.missing(max(first, book.through + 1), last)
        ]
        book.expect_gone(missing)
        self._touched[source] = None
        self._loaded += 2 * len(missing)  # settled, and gone
        for first, last in missing:
            book.expect(first)
            book.gone.add(first, last)
            book.settle(first, last)
        return missing

    def commit(self) -> list[Message]:
        """Write what was taken in; return the new messages.

        Raises:
            StoreError: nothing was written; what is in memory is ahead of it, so end here.

        """
        with transaction(self._database, self._path):
            for message in self._waiting:
                self._write(message)
            self._write_books(self._touched)
        written, self._waiting = self._waiting, []
        self._let_go()
        return written

    def is_full(self) -> bool:
        """Whether a commit is due, so that the memory stays bounded."""
        return self._loaded > _RANGES_IN_MEMORY

    def _let_go(self) -> None:
        """Keep the most recently used books in memory."""
        ranges = sum(book.ranges() for book in self._books.values())
        while len(self._books) > _BOOKS_MAX or ranges > _RANGES_IN_MEMORY:
            ranges -= self._books.pop(next(iter(self._books))).ranges()
        self._loaded = 0

    def _write_books(self, sources: Iterable[Source]) -> None:
        sources = list(sources)
        for source in sources:
            self._write_book(source)
        for gateway in self._room.look({source.gateway for source in sources}):
            self._make_room(gateway)
        self._forget(self._room.unused())
        while (largest := self._room.largest()) is not None:
            if not self._shrink(largest):
                self._forget([self._room.oldest()])

    def _write_book(self, source: Source) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO books VALUES (?, ?, ?, ?, ?, ?, ?)",
            [self._site, *source, *self._book(source).row()],
        )

    def _make_room(self, gateway: str) -> None:
        """Make a gateway's books fit into its part: drop the older ones, cut the last one."""
        self._forget(self._room.too_many(gateway))
        while self._room.look([gateway]) and self._shrink(gateway):
            pass

    def _shrink(self, gateway: str) -> bool:
        """Forget some numbers of a gateway; return whether there were any."""
        *older, last = self._room.of(gateway)
        if older:
            self._forget(older[:1])
            return True
        source = Source(gateway, last.epoch)
        book = self._book(source)
        if book.gone.count() + book.dropped.count() == 0:
            return False
        book.halve()
        self._write_book(source)
        del self._books[source]  # less is settled now; what is left is read from the disk
        self._forgotten.append(source)
        self._room.look([gateway])
        return True

    def _forget(self, books: Iterable[Shelved]) -> None:
        sources = [Source(book.gateway, book.epoch) for book in books]
        drop(self._database, [], [(self._site, *source) for source in sources])
        for source in sources:
            self._books.pop(source, None)
        self._forgotten += sources
        self._room.look({source.gateway for source in sources})

    def forgotten(self) -> list[Source]:
        """Return whose books were dropped or cut to save space, since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def drop_old(self) -> int:
        """Delete the oldest messages if they are too old or too many; return how many.

        Call it after a commit, as often as you like: it looks only now and then.

        Raises:
            StoreError: nothing was deleted; what is in memory is ahead of it, so end here.

        """
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return 0
        with errors_of(self._path):
            rows = to_drop(self._database, self._site, self._keeping, time.time(), self._room)
            books = unused_books(self._database)
        if rows or books:
            self._drop(rows, books)
        if len(rows) < ROWS_A_LOOK:
            self._next_look_s = now_s + LOOK_S
        return len(rows)

    def _drop(self, rows: Sequence[Row], books: Sequence[Book]) -> None:
        with transaction(self._database, self._path):
            for row in rows:
                self._book(Source(row.gateway, row.epoch)).drop(row.seq)
            drop(self._database, rows, books)
            self._write_books(dict.fromkeys(Source(row.gateway, row.epoch) for row in rows))
        ours = [Source(gateway, epoch) for site, gateway, epoch in books if site == self._site]
        for source in ours:
            self._books.pop(source, None)
        self._forgotten += ours
        with errors_of(self._path):
            self._room.look({source.gateway for source in ours})
            give_back(self._database)
        self._let_go()

    def _book(self, source: Source) -> _Book:
        book = self._books.pop(source, None)
        if book is None:
            with errors_of(self._path):
                book = _read_book(self._database, (self._site, *source))
            self._loaded += book.ranges()
        self._books[source] = book
        return book

    def _write(self, message: Message) -> None:
        key = (self._site, *message.source)
        self._database.executemany(
            """DELETE FROM messages
            WHERE site = ? AND gateway = ? AND epoch = ? AND seq BETWEEN ? AND ?""",
            [(*key, first, last) for first, last in message.merged],
        )
        self._database.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, message.seq, message.topic, message.body, time.time()),
        )

    def messages(self, source: Source) -> list[tuple[int, bytes]]:
        """Return number and body of all messages of a source, in order."""
        with errors_of(self._path):
            return self._database.execute(
                """SELECT seq, body FROM messages
                WHERE site = ? AND gateway = ? AND epoch = ? ORDER BY seq""",
                [self._site, *source],
            ).fetchall()

    def touched(self) -> list[Source]:
        """Return whose books changed, or had a repeated message, since the last call."""
        touched, self._touched = list(self._touched), {}
        return touched

    def acknowledgement(self, source: Source) -> bytes:
        """Return the acknowledgement: what a gateway may delete."""
        book = self._book(source)
        also = [list(one) for one in book.beyond][:ALSO_MAX]
        if self.is_full() and not self._touched:  # what is touched is not on the disk yet
            self._let_go()
        return json.dumps(
            {"epoch": source.epoch, "through_seq": book.through, "also": also},
            separators=(",", ":"),
        ).encode()


def _read_book(database: Connection, key: tuple[str, str, str]) -> _Book:
    """Return the numbers of a site's gateway in one epoch; none if it is new."""
    where = "WHERE site = ? AND gateway = ? AND epoch = ?"
    row = database.execute(
        f"SELECT through_seq, gone, dropped FROM books {where}",  # noqa: S608
        key,
    ).fetchone()
    through, gone, dropped = row or (0, "[]", None)  # a book that was dropped left its messages
    book = _Book(through, gone=_stored(gone), dropped=_stored(dropped or "[]"))
    for first, last in [*book.gone, *book.dropped]:
        if last > through:
            book.settle(first, last)
    beyond = database.execute(
        f"SELECT seq FROM messages {where} AND seq > ? ORDER BY seq",  # noqa: S608
        [*key, through],
    )
    for (seq,) in beyond:
        book.settle(seq, seq)
    return book


def _stored(ranges: str) -> Ranges:
    return Ranges(map(tuple, json.loads(ranges)))


def read_message(topic: str, body: bytes) -> Message | tuple[Source, list[Range]]:
    """Return what a gateway published: a message, or which of its numbers are gone.

    Raises:
        ValueError: it is not as a gateway writes it.

    """
    document = json.loads(body, parse_constant=_refuse_constant)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    if _deeper_than(DEPTH_MAX, document):
        raise ValueError(f"lists and objects are nested more than {DEPTH_MAX} deep")
    epoch, data = document.get("epoch"), document.get("data")
    seq: Any = document.get("seq")
    if not isinstance(epoch, str) or not is_number(seq) or not isinstance(data, dict):
        raise ValueError("epoch, seq and data are needed")
    if not epoch.isascii() or not epoch.isprintable() or len(epoch) > _EPOCH_CHARACTERS_MAX:
        raise ValueError("epoch is not a word")
    gateway = topic.split("/")[3]
    if not NAME.fullmatch(gateway):  # it becomes part of the topic of the acknowledgement
        raise ValueError(f"{printable(gateway)} is not a valid name of a gateway")
    source = Source(gateway, epoch)
    if not 0 <= seq < 2**63:
        raise ValueError("seq is out of range")
    if document.get("type") == "fieldwatch.gone.v1":
        return source, _ranges(data.get("ranges"), seq)
    if seq == 0:
        raise ValueError("seq counts from 1")
    merged = data.get("merged")
    return Message(source, seq, topic, body, [] if merged is None else _ranges(merged, seq - 1))


def _deeper_than(depth_max: int, value: Any) -> bool:
    level = [value]
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(value, dict | list) for value in level)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _ranges(value: Any, highest: int) -> list[Range]:
    ranges = parse(value, 0, GONE_MAX)
    if ranges and ranges[-1][1] > highest:
        raise ValueError(f"numbers above {highest} were not assigned yet")
    return ranges
