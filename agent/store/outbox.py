"""The write side of the outbox: numbers, caps, merging, deletion, in the store's transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.store.batch import EVICTION
from agent.store.compaction import compact
from agent.store.record import INSERT, Outgoing, Record

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

ROWS_DROPPED = 1000  # at a time, so that a commit does not take long
_CROWDED = 0.75  # of the cap; above it, summaries are merged
_MERGINGS_MAX = 20  # in one commit, which must not take long


@dataclass(slots=True)
class Totals:
    """Running totals of the rows, which avoid counting them."""

    last_seq: int = 0
    rows: int = 0
    evicted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVICTION, 0))
    merged: int = 0  # summaries that were merged into others


class Outbox:
    """Messages that wait to be sent; the store's thread uses it.

    ``totals`` describe the last commit. ``change`` returns the totals of its transaction, and the
    store assigns them to ``totals`` once that is committed.
    """

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.totals = Totals()
        self._compacted_through = 0  # seq where the next merging begins

    def open(self, records: Connection) -> None:
        """Read the totals of a file."""
        meta = dict(records.execute("SELECT key, value FROM meta").fetchall())
        (rows,) = records.execute("SELECT count(*) FROM outbox").fetchone()
        evicted = {kind: int(meta.get(f"evicted_{kind}", 0)) for kind in EVICTION}
        self.totals = Totals(int(meta["last_seq"]), rows, evicted, int(meta.get("merged", 0)))

    def change(
        self,
        records: Connection,
        messages: Sequence[Outgoing],
        acknowledged: Sequence[int],
        clock: str,
        is_too_large: Callable[[], bool],
    ) -> Totals:
        """Delete messages and write others, in the caller's transaction; return the new totals.

        Args:
            records: the database.
            messages: to be numbered and written.
            acknowledged: numbers of those to delete.
            clock: quality of the gateway's clock.
            is_too_large: whether the store is too large, and only messages can be dropped.

        """
        totals = replace(self.totals, evicted=dict(self.totals.evicted))
        deleted = records.executemany(
            "DELETE FROM outbox WHERE seq = ?", ((seq,) for seq in acknowledged)
        )
        totals.rows -= deleted.rowcount
        if messages:
            records.executemany(INSERT, _numbered(messages, clock, totals))
            self._compact(records, totals)
            self._evict(records, totals, len(messages) + ROWS_DROPPED, is_too_large)
            records.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", [totals.last_seq])
        return totals

    def _compact(self, records: Connection, totals: Totals) -> None:
        """Merge some summaries if the outbox is crowded: this loses detail, but no message.

        If the outbox is over its cap, merge more: the next step would drop messages.
        """
        if totals.rows <= _CROWDED * self.rows_max:
            return
        for _ in range(_MERGINGS_MAX):
            done = compact(records, totals.last_seq, self._compacted_through)
            self._compacted_through, totals.last_seq = done.after, done.last_seq
            totals.rows -= done.merged - done.written
            totals.merged += done.merged - done.written
            if totals.rows <= self.rows_max:
                break
        records.execute("INSERT OR REPLACE INTO meta VALUES ('merged', ?)", [totals.merged])

    def _evict(
        self,
        records: Connection,
        totals: Totals,
        rows_dropped_max: int,
        is_too_large: Callable[[], bool],
    ) -> None:
        """Drop rows above the cap, in the order of ``EVICTION``, oldest first; count them all."""
        for kind in EVICTION:
            excess = min(totals.rows - self.rows_max, rows_dropped_max)
            if excess > 0:
                rows_dropped_max -= _drop(records, kind, excess, totals)
        for kind in EVICTION:
            while is_too_large():
                if not _drop(records, kind, ROWS_DROPPED, totals):
                    break


def _numbered(messages: Sequence[Outgoing], clock: str, totals: Totals) -> Iterator[Record]:
    for message in messages:
        totals.last_seq += 1
        totals.rows += 1
        yield message.numbered(totals.last_seq, clock)


def _drop(records: Connection, kind: str, rows_max: int, totals: Totals) -> int:
    """Drop the oldest messages of a kind; return how many."""
    gone = records.execute(
        """DELETE FROM outbox WHERE seq IN
        (SELECT seq FROM outbox WHERE kind = ? ORDER BY seq LIMIT ?)""",
        [kind, rows_max],
    ).rowcount
    if gone:
        totals.rows -= gone
        totals.evicted[kind] += gone
        records.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [f"evicted_{kind}", totals.evicted[kind]]
        )
    return gone
