"""What a collector has of each gateway: every message once, and the books of their numbers.

A number is settled when its message is here, or its gateway said that it is gone; ``through_seq``
of an acknowledgement is the end of the settled ones that follow each other from 1. A message that
comes after it was said to be gone is taken in all the same.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from agent.central import ALSO_MAX, GONE_MAX
from agent.payload import DEPTH_MAX
from agent.ranges import Range, Ranges, is_number, parse
from agent.schema import (
    COLLECTED,
    Connection,
    Damaged,
    errors_of,
    lock,
    open_for_writing,
    set_aside,
    transaction,
)
from agent.setting_types import NAME
from models.errors import StoreError
from models.printable import printable

_EPOCH_CHARACTERS_MAX = 64
_BOOKS_MAX = 1000  # in memory; a garbled epoch begins one, too


class Source(NamedTuple):
    """A gateway in one life of its database."""

    gateway: str
    epoch: str


class Message(NamedTuple):
    """A numbered message as it came."""

    source: Source
    seq: int
    topic: str
    body: bytes
    merged: list[Range]  # numbers of the messages that it takes the place of


@dataclass(slots=True)
class _Book:
    """The numbers of one source."""

    through: int = 0
    beyond: Ranges = field(default_factory=Ranges)  # settled, above ``through``
    gone: Ranges = field(default_factory=Ranges)  # settled, and not here

    def has(self, seq: int) -> bool:
        return (seq <= self.through or seq in self.beyond) and seq not in self.gone

    def settle(self, first: int, last: int) -> None:
        self.beyond.add(first, last)
        self.through = self.beyond.take_through(self.through)


class Collected:
    """The collector's database; one thread of one process uses it."""

    def __init__(self, directory: Path, site: str) -> None:
        self._path = directory / COLLECTED
        self._site = site
        self._books: dict[Source, _Book] = {}  # the last ones used, the last at the end
        self._waiting: list[Message] = []
        self._touched: dict[Source, None] = {}

    def __enter__(self) -> Self:
        """Open it, made as needed.

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
            self._closing = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; what was not committed is dropped."""
        self._closing.close()

    def take(self, message: Message) -> bool:
        """Take in a message with the next commit; say whether it is new."""
        book = self._book(message.source)
        self._touched[message.source] = None  # a repeat may be due to a lost acknowledgement
        if book.has(message.seq):
            return False
        for first, last in [*message.merged, (message.seq, message.seq)]:
            book.gone.remove(first, last)
            book.settle(first, last)
        self._waiting.append(message)
        return True

    def forgo(self, source: Source, ranges: Iterable[Range]) -> list[Range]:
        """Take note of numbers that will not come; return those that were still missing."""
        book = self._book(source)
        self._touched[source] = None
        missing = [
            hole
            for first, last in ranges
            for hole in book.beyond.missing(max(first, book.through + 1), last)
        ]
        for first, last in missing:
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
            self._database.executemany(
                "INSERT OR REPLACE INTO books VALUES (?, ?, ?, ?, ?)",
                [
                    (self._site, *source, book.through, json.dumps(list(book.gone)))
                    for source in self._touched
                    for book in [self._book(source)]
                ],
            )
        written, self._waiting = self._waiting, []
        while len(self._books) > _BOOKS_MAX:
            del self._books[next(iter(self._books))]
        return written

    def _book(self, source: Source) -> _Book:
        book = self._books.pop(source, None)
        if book is None:
            with errors_of(self._path):
                book = _read_book(self._database, (self._site, *source))
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
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)",
            (*key, message.seq, message.topic, message.body),
        )

    def messages(self, source: Source) -> list[tuple[int, bytes]]:
        """Return number and body of all that is here of a source, in order."""
        with errors_of(self._path):
            return self._database.execute(
                """SELECT seq, body FROM messages
                WHERE site = ? AND gateway = ? AND epoch = ? ORDER BY seq""",
                [self._site, *source],
            ).fetchall()

    def touched(self) -> list[Source]:
        """Return whose books changed, or were asked for by a repeat, since the last call."""
        touched, self._touched = list(self._touched), {}
        return touched

    def acknowledgement(self, source: Source) -> bytes:
        """Return what a gateway may delete, as it is told."""
        book = self._book(source)
        also = [list(one) for one in book.beyond][:ALSO_MAX]
        return json.dumps(
            {"epoch": source.epoch, "through_seq": book.through, "also": also},
            separators=(",", ":"),
        ).encode()


def _read_book(database: Connection, key: tuple[str, str, str]) -> _Book:
    """Return the numbers of a site's gateway in one epoch; none, where it is new."""
    where = "WHERE site = ? AND gateway = ? AND epoch = ?"
    row = database.execute(f"SELECT through_seq, gone FROM books {where}", key).fetchone()  # noqa: S608
    if row is None:
        return _Book()
    through, gone = row
    book = _Book(through, gone=Ranges(map(tuple, json.loads(gone))))
    for first, last in book.gone:
        if last > through:
            book.settle(first, last)
    beyond = database.execute(
        f"SELECT seq FROM messages {where} AND seq > ? ORDER BY seq",  # noqa: S608
        [*key, through],
    )
    for (seq,) in beyond:
        book.settle(seq, seq)
    return book


def read_message(topic: str, body: bytes) -> Message | tuple[Source, list[Range]]:
    """Return what a gateway published: a message, or which of its numbers are gone.

    Raises:
        ValueError: it is not as a gateway writes it.

    """
    document = json.loads(body, parse_constant=_refuse_constant)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    if _deeper_than(DEPTH_MAX, document):
        raise ValueError(f"more than {DEPTH_MAX} lists and objects in each other")
    epoch, data = document.get("epoch"), document.get("data")
    seq: Any = document.get("seq")
    if not isinstance(epoch, str) or not is_number(seq) or not isinstance(data, dict):
        raise ValueError("epoch, seq and data are wanted")
    if not epoch.isascii() or not epoch.isprintable() or len(epoch) > _EPOCH_CHARACTERS_MAX:
        raise ValueError("epoch is no word")
    gateway = topic.split("/")[3]
    if not NAME.fullmatch(gateway):  # it becomes part of the topic of the acknowledgement
        raise ValueError(f"{printable(gateway)} is no name of a gateway")
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
    raise ValueError(f"{name} is no JSON")


def _ranges(value: Any, highest: int) -> list[Range]:
    ranges = parse(value, 0, GONE_MAX)
    if ranges and ranges[-1][1] > highest:
        raise ValueError(f"numbers above {highest} were not given yet")
    return ranges
