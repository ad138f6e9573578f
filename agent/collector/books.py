"""The collector's database: every message of each gateway once, and a book of its numbers.

No received message deletes another. A message that a later one replaces stays, and refers to the
number of that one. A different message with a number that is already used goes to the quarantine.

A number is settled when its message is stored, or when its gateway has reported it as gone.
``through_seq`` of an acknowledgement is the end of the unbroken run of settled numbers from 1. If a
message arrives after its gateway reported it as gone, the collector still stores it.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from agent.collector.filed import Filed, covers
from agent.collector.quarantine import CONFLICT, CORRECTED, Entry, Quarantine
from agent.collector.reading import Chunk, Message, Source
from agent.collector.retention import (
    FOREVER,
    LOOK_S,
    ROWS_A_LOOK,
    BookKey,
    Keeping,
    Row,
    Space,
    drop,
    older_than_s,
    to_drop,
    unused_books,
)
from agent.collector.shelf import Shelf
from agent.store.correction import is_corrected
from agent.store.migrations import COLLECTED
from agent.store.ranges import Range
from agent.store.sqlite import (
    Damaged,
    errors_of,
    give_back,
    lock,
    lock_of,
    open_for_writing,
    set_aside,
    transaction,
)
from models.errors import StoreError
from models.signed import parted

if TYPE_CHECKING:
    from agent.collector.samples import Shelved
    from agent.collector.tidying import Keeping as SamplesKeeping

Taken = Literal["new", "far", "repeated", "conflict", "corrected"]

_TOLD_MAX = 10_000  # gateways whose status is remembered


class Collected:
    """The collector's database; one thread of one process uses it."""

    def __init__(
        self,
        directory: Path,
        site: str,
        keeping: Keeping = FOREVER,
        samples: SamplesKeeping | None = None,
    ) -> None:
        """Set up; ``samples`` is how much is kept of samples; None: none are taken."""
        self._path = directory / COLLECTED
        self._samples_keeping = samples
        self.samples: Shelved | None = None
        self._site = site
        self._keeping = keeping
        self._next_look_s = -math.inf  # monotonic
        self._told: dict[Source, int] = {}  # the highest number in the latest status
        self._waiting: dict[tuple[Source, int], Message] = {}
        self._touched: dict[Source, None] = {}

    def __enter__(self) -> Self:
        """Open the database; create it if needed.

        Raises:
            StoreError: the database cannot be used or is damaged, or another collector uses it.

        """
        with contextlib.ExitStack() as opening, errors_of(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opening.enter_context(lock(lock_of(self._path)))
            try:
                self._database = open_for_writing(self._path, "FULL")
            except Damaged as damage:
                aside = set_aside(self._path)
                raise StoreError(f"{damage}; it is now {aside.name}") from damage
            opening.enter_context(contextlib.closing(self._database))
            self.quarantine = Quarantine(self._database, self._site, self._keeping.bytes_max)
            self._filed = Filed(self._database, self._site)
            self.shelf = Shelf(
                self._path, self._database, self._site, self._filed, self._keeping.bytes_max
            )
            if self._samples_keeping is not None:
                self.samples = self._shelved(self._samples_keeping)
            self._closing = opening.pop_all()
        return self

    def _shelved(self, keeping: SamplesKeeping) -> Shelved:
        from agent.collector.samples import Shelved  # loads numpy

        return Shelved(
            self._path,
            self._database,
            self._site,
            self._keeping.bytes_max,
            keeping,
            self.quarantine,
        )

    def take_samples(self, chunk: Chunk, samples: Shelved) -> int:
        """Take in a chunk of samples with the next commit; return how many are new.

        Raises:
            Refused: there is no room, or its numbers belong to other samples.
            StoreError: the database cannot be read.

        """
        taken = samples.take(chunk)
        self._touched[chunk.source] = None
        return taken

    def __exit__(self, *_: object) -> None:
        """Close the database; drop everything that is not committed."""
        self._closing.close()

    def take(self, message: Message) -> Taken:
        """Take in a message with the next commit; return how it relates to the stored ones.

        - ``new``: its number was not used.
        - ``far``: as ``new``, but its number is too far above all others to be acknowledged yet.
        - ``repeated``: it is already stored.
        - ``corrected``, ``conflict``: its number has another body. The quarantine takes this one.

        Raises:
            StoreError: the database cannot be read.

        """
        source, seq = message.source, message.seq
        book = self.shelf.book(source)
        self._touched[source] = None  # a repeat may be due to a lost acknowledgement
        with errors_of(self._path):
            here = self._body(source, seq)
            if here is not None:
                book.settle(seq, seq)  # a book that was cut may not have the number
                return self._compare(message, here)
            if book.has(seq) and not self._is_replaced(source, seq):
                return "repeated"  # it was stored once, and was dropped
        far = book.jumps(seq, self._told.get(source, 0))
        self.shelf.grew(len(message.merged) + 1)
        book.gone.remove(seq, seq)
        for first, last in [*message.merged, (seq, seq)]:
            book.settle(first, last)
        self._waiting[source, seq] = message
        return "far" if far else "new"

    def _body(self, source: Source, seq: int) -> bytes | None:
        waiting = self._waiting.get((source, seq))
        return waiting.body if waiting else self._filed.body(source, seq)

    def _is_replaced(self, source: Source, seq: int) -> bool:
        """Whether an earlier message claims to replace this one; the claim may be false."""
        return self._filed.is_replaced(source, seq) or any(
            other.source == source and covers(other.merged, seq) for other in self._waiting.values()
        )

    def _compare(self, message: Message, here: bytes) -> Taken:
        """Return how a message differs from the one with its number; quarantine new content."""
        source, seq, topic, body, _ = message
        said = parted(body).message  # without its signature, which depends on the key
        others = [here, *self.quarantine.bodies(source, seq)]
        if said in [parted(other).message for other in others]:
            return "repeated"
        corrected = is_corrected(parted(here).message, said, topic.split("/")[4])
        cause, reason = (
            (CORRECTED, "its gateway corrected its times after it had sent it")
            if corrected
            else (CONFLICT, "an earlier message has the same number and other content")
        )
        self.quarantine.add_body(Entry(source.gateway, cause, reason, topic, body), source, seq)
        return "corrected" if corrected else "conflict"

    def hear(self, source: Source, seq: int) -> None:
        """Take in the highest number that a gateway has assigned, from its latest status."""
        self._told.pop(source, None)
        self._told[source] = seq
        if len(self._told) > _TOLD_MAX:
            del self._told[next(iter(self._told))]

    def forgo(self, source: Source, ranges: Iterable[Range]) -> list[Range]:
        """Settle numbers whose messages are gone; return those that were still missing.

        Raises:
            ValueError: these are more numbers than lie between the source's messages, or they are
                far above them.

        """
        book = self.shelf.book(source)
        missing = [
            hole
            for first, last in ranges
            for hole in book.beyond.missing(max(first, book.through + 1), last)
        ]
        book.expect_gone(missing, self._told.get(source, 0))
        self._touched[source] = None
        self.shelf.grew(2 * len(missing))  # settled, and gone
        for first, last in missing:
            book.gone.add(first, last)
            book.settle(first, last)
        return missing

    def commit(self) -> list[Message]:
        """Write everything that was taken in; return the new messages.

        Raises:
            StoreError: nothing was written. The memory is now ahead of the disk, so the caller must
                close this object.

        """
        with transaction(self._database, self._path):
            for message in self._waiting.values():
                self._filed.add(message)
            self.shelf.write(self._touched)
            self.quarantine.write()
            if self.samples is not None:
                self.samples.write()
        if self.samples is not None:
            self.samples.written()
        written, self._waiting = list(self._waiting.values()), {}
        self.shelf.let_go()
        return written

    def drop_old(self) -> int:
        """Delete the oldest messages if they are too old or too many; return how many.

        Call it after every commit. It checks only once in ``LOOK_S`` seconds.

        Raises:
            StoreError: nothing was deleted. The memory is now ahead of the disk, so the caller must
                close this object.

        """
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return 0
        with errors_of(self._path):
            beside: list[Space] = [self.shelf.room, self.quarantine]
            beside += [] if self.samples is None else [self.samples]
            rows = to_drop(self._database, self._site, self._keeping, time.time(), beside)
            books = unused_books(self._database)
        if rows or books or self._keeping.days_max is not None:
            self._drop(rows, books)
        if len(rows) < ROWS_A_LOOK:
            self._next_look_s = now_s + LOOK_S
        return len(rows)

    def _drop(self, rows: Sequence[Row], books: Sequence[BookKey]) -> None:
        before_s = older_than_s(self._keeping, time.time())
        with transaction(self._database, self._path):
            if before_s is not None:
                self.quarantine.drop_older(before_s)
            for row in rows:
                self.shelf.book(Source(row.gateway, row.epoch)).drop(row.seq)
            drop(self._database, self._site, rows, books)
            self.shelf.write(dict.fromkeys(Source(row.gateway, row.epoch) for row in rows))
        ours = [Source(gateway, epoch) for site, gateway, epoch in books if site == self._site]
        with errors_of(self._path):
            self.shelf.dropped(ours)
            give_back(self._database)
        self.shelf.let_go()

    def messages(self, source: Source) -> list[tuple[int, bytes]]:
        """Return number and body of a source's messages in order, without replaced ones."""
        with errors_of(self._path):
            return self._filed.of(source)

    def reserve_counters(self, at_least: int, count: int) -> int:
        """Reserve ``count`` counters; return the first: unused, and at least ``at_least``.

        Raises:
            StoreError: the database cannot be written.

        """
        with transaction(self._database, self._path):
            (reserved,) = self._database.execute(
                "SELECT ifnull(max(reserved), 0) FROM counters"
            ).fetchone()
            first = max(at_least, reserved + 1)
            self._database.execute(
                "INSERT OR REPLACE INTO counters VALUES (1, ?)", [first + count - 1]
            )
        return int(first)

    def touched(self) -> list[Source]:
        """Return the sources that had a change or a repeated message since the last call."""
        touched, self._touched = list(self._touched), {}
        return touched

    def acknowledgement(self, source: Source) -> bytes:
        """Return the acknowledgement (JSON): the numbers that a gateway may delete."""
        book = self.shelf.book(source)
        also = [list(one) for one in book.acknowledged(self._told.get(source, 0))]
        if self.shelf.is_full() and not self._touched:  # touched books are not on the disk yet
            self.shelf.let_go()
        said: dict[str, Any] = {"epoch": source.epoch, "through_seq": book.through, "also": also}
        if self.samples is not None:
            said |= self.samples.recent(source)
        return json.dumps(said, separators=(",", ":")).encode()
