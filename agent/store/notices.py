"""The queue of what hooks on site must be told: the write side, in the store's transactions.

A notice is written in the transaction of the transition that it reports, so none is lost. It leaves
the queue when its hook has it, when the hook refuses it, or above a cap or an age; all are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.store.sqlite import Connection


class Notice(NamedTuple):
    """What one hook is to be told."""

    hook: str  # name of the hook
    id: str  # the same each time that it is told, and for each hook
    stream: str
    at: float  # time of the transition, Unix seconds
    document: bytes  # JSON


class Waiting(NamedTuple):
    """A stored notice."""

    row: int
    id: str
    at: float
    clock: str  # quality of the gateway's clock when it was stored
    document: bytes


class Totals(NamedTuple):
    """Numbers of notices by hook."""

    waiting: Counter[str]
    excess: Counter[str]  # dropped because of the cap, since the start
    removed: Counter[str]  # dropped because their hook is no longer configured, since the start


class NoticeTable:
    """The queues of all hooks; the store's thread uses it.

    ``totals`` describe the last commit. ``change`` returns those of its transaction, and the store
    assigns them to ``totals`` once that is committed.
    """

    def __init__(self) -> None:
        self.rows_max: Mapping[str, int] = {}  # by hook; notices of other hooks are dropped
        self.totals = Totals(Counter(), Counter(), Counter())

    def open(self, records: Connection) -> None:
        """Count the rows of a file."""
        rows = records.execute("SELECT hook, count(*) FROM notices GROUP BY hook").fetchall()
        self.totals = self.totals._replace(waiting=Counter(dict(rows)))

    def change(
        self, records: Connection, notices: Sequence[Notice], settled: Iterable[int], clock: str
    ) -> Totals:
        """Delete settled rows and add notices, in the caller's transaction; return the new totals.

        ``clock`` is the quality of the gateway's clock.
        """
        totals = Totals(*map(Counter, self.totals))
        for row in settled:
            _count(totals.waiting, _deleted(records, "id = ?", [row]), -1)
        for hook in totals.waiting.keys() - self.rows_max.keys():
            gone = _deleted(records, "hook = ?", [hook])
            _count(totals.waiting, gone, -1)
            _count(totals.removed, gone)
        if notices:
            self._add(records, notices, clock, totals)
        return totals

    def _add(
        self, records: Connection, notices: Sequence[Notice], clock: str, totals: Totals
    ) -> None:
        records.executemany(
            "INSERT INTO notices (hook, notice, at, clock, document) VALUES (?, ?, ?, ?, ?)",
            [(one.hook, one.id, one.at, clock, one.document) for one in notices],
        )
        totals.waiting.update(one.hook for one in notices)
        for hook in {one.hook for one in notices}:
            excess = totals.waiting[hook] - self.rows_max.get(hook, 0)
            if excess > 0:
                oldest = "id IN (SELECT id FROM notices WHERE hook = ? ORDER BY id LIMIT ?)"
                gone = _deleted(records, oldest, [hook, excess])
                _count(totals.waiting, gone, -1)
                _count(totals.excess, gone)


def _deleted(records: Connection, where: str, values: Sequence[object]) -> list[str]:
    """Delete rows; return the hook of each."""
    rows = records.execute(
        f"DELETE FROM notices WHERE {where} RETURNING hook",  # noqa: S608 - no input in it
        values,
    ).fetchall()
    return [hook for (hook,) in rows]


def _count(counts: Counter[str], hooks: Iterable[str], by: int = 1) -> None:
    for hook in hooks:
        counts[hook] += by
        if not counts[hook]:
            del counts[hook]
