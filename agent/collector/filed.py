"""The table of stored messages, and which of them are replaced by others."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Sequence
from heapq import merge
from math import inf

from agent.collector.numbers import Book
from agent.collector.reading import Message, Source
from agent.store.ranges import Range, Ranges
from agent.store.sqlite import Connection

_OF = "site = ? AND gateway = ? AND epoch = ?"


class Filed:
    """The messages of a site; everything is written within the caller's transaction."""

    def __init__(self, database: Connection, site: str) -> None:
        self._database = database
        self._site = site

    def body(self, source: Source, seq: int) -> bytes | None:
        """Return the stored body of a number; None if none is stored, or if it was dropped."""
        row = self._database.execute(
            f"SELECT body FROM messages WHERE {_OF} AND seq = ?",  # noqa: S608
            [self._site, *source, seq],
        ).fetchone()
        return None if row is None else row[0]

    def is_replaced(self, source: Source, seq: int) -> bool:
        """Whether a stored message claims to replace this number."""
        row = self._database.execute(
            f"SELECT 1 FROM merges WHERE {_OF} AND last >= ? AND first <= ? LIMIT 1",  # noqa: S608
            [self._site, *source, seq, seq],
        ).fetchone()
        return row is not None

    def replacing(self, source: Source, seq: int, topic: str) -> int | None:
        """Return the number of a message of the same topic that claims to replace this one."""
        row = self._database.execute(
            f"""SELECT seq FROM merges WHERE {_OF} AND last >= ? AND first <= ? AND EXISTS (
                SELECT 1 FROM messages WHERE messages.site = merges.site
                AND messages.gateway = merges.gateway AND messages.epoch = merges.epoch
                AND messages.seq = merges.seq AND topic = ?
            ) LIMIT 1""",  # noqa: S608
            [self._site, *source, seq, seq, topic],
        ).fetchone()
        return None if row is None else int(row[0])

    def add(self, message: Message) -> None:
        """Store a message; the messages of its topic that it replaces stay, with its number."""
        key = (self._site, *message.source)
        self._database.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*key, message.seq, message.topic, message.body, time.time()),
                self.replacing(message.source, message.seq, message.topic),
            ),
        )
        self._database.executemany(
            f"UPDATE messages SET superseded = ? WHERE {_OF} AND seq BETWEEN ? AND ?"  # noqa: S608
            " AND topic = ? AND superseded IS NULL",
            [(message.seq, *key, *one, message.topic) for one in message.merged],
        )
        self._database.executemany(
            "INSERT OR IGNORE INTO merges VALUES (?, ?, ?, ?, ?, ?)",
            [(*key, last, first, message.seq) for first, last in message.merged],
        )

    def of(self, source: Source) -> list[tuple[int, bytes]]:
        """Return number and body of a source's messages in order, without replaced ones."""
        return self._database.execute(
            f"SELECT seq, body FROM messages WHERE {_OF} AND superseded IS NULL"  # noqa: S608
            " ORDER BY seq",
            [self._site, *source],
        ).fetchall()

    def book(self, source: Source) -> Book:
        """Return the book of a source; an empty one if the source is new."""
        key = [self._site, *source]
        row = self._database.execute(
            f"SELECT through_seq, gone, dropped, unsure FROM books WHERE {_OF}",  # noqa: S608
            key,
        ).fetchone()
        through, gone, dropped, unsure = row or (0, "[]", None, 0)  # messages may exist without it
        book = Book(
            through, gone=_stored(gone), dropped=_stored(dropped or "[]"), unsure=unsure or 0
        )
        beyond = self._database.execute(
            f"""SELECT seq, seq FROM messages WHERE {_OF} AND seq > ?
            UNION ALL SELECT first, last FROM merges WHERE {_OF} AND last > ?
            ORDER BY 1""",  # noqa: S608
            [*key, through, *key, through],
        )
        for first, last in merge(book.gone, book.dropped, beyond):
            if last > through:
                book.settle(first, last)
            if book.cut is not None:  # all further ranges are above
                break
        return book


def covers(ranges: Sequence[Range], number: int) -> bool:
    """Whether one of the ranges, in increasing order, contains a number."""
    at = bisect_right(ranges, (number, inf)) - 1
    return at >= 0 and number <= ranges[at][1]


def _stored(ranges: str) -> Ranges:
    return Ranges(map(tuple, json.loads(ranges)))
