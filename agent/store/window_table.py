"""The write side of the windows of alarms, up to a size, in the store's transactions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.store.window import Window
from agent.store.windows import COLUMNS, window_of

if TYPE_CHECKING:
    from agent.handling.transition import Transition
    from agent.store.sqlite import Connection

_SIZE = "length(times) + length(data)"


class Totals(NamedTuple):
    """What the table contains after a change."""

    bytes: int = 0
    excess: int = 0  # windows dropped because of the cap, since the start


class WindowTable:
    """The windows of all streams; the store's thread uses it.

    A row that is written again gets a new id, so ids are in the order of the last write.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.next_id = 1
        self.totals = Totals()  # of what is committed; the caller sets it

    def open(self, records: Connection) -> None:
        """Read the ids and the size of the file."""
        newest, size = records.execute(
            f"SELECT ifnull(max(id), 0), ifnull(sum({_SIZE}), 0) FROM windows"  # noqa: S608
        ).fetchone()
        self.next_id = max(self.next_id, int(newest) + 1)
        self.totals = self.totals._replace(bytes=int(size))

    def change(
        self,
        records: Connection,
        windows: Iterable[Window],
        transitions: Sequence[Transition],
        orphaned: bool,
    ) -> Totals:
        """Write windows and note which alarms were labelled; drop the oldest above the cap.

        Windows of labelled alarms go last. ``orphaned``: whether alarms were dropped, whose windows
        go with them. Returns the totals for the time after the commit.
        """
        changed = orphaned or self.totals.bytes > self.bytes_max
        for window in windows:
            self._write(records, window)
            changed = True
        for one in transitions:
            if one.what == "labelled":
                records.execute(
                    "UPDATE windows SET labelled = 1 WHERE stream = ?"
                    " AND ? BETWEEN number AND last",
                    [one.stream, one.number],
                )
        if orphaned:
            drop_orphans(records)
        return self.trimmed(records) if changed else self.totals

    def _write(self, records: Connection, window: Window) -> None:
        where = [window.stream, window.number]
        known = records.execute(
            "SELECT labelled FROM windows WHERE stream = ? AND number = ?", where
        ).fetchone()
        records.execute("DELETE FROM windows WHERE stream = ? AND number = ?", where)
        records.execute(
            "INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                self.next_id,
                *where,
                window.last,
                known[0] if known else 0,
                window.to_come,
                json.dumps(window.channels),
                *window.packed(),
            ],
        )
        self.next_id += 1

    def trimmed(self, records: Connection) -> Totals:
        """Drop what exceeds the cap; return the totals for the time after the commit."""
        rows = records.execute(
            f"SELECT id, {_SIZE} FROM windows ORDER BY labelled, id"  # noqa: S608
        ).fetchall()
        size, excess = sum(size for _, size in rows), 0
        for number, own in rows:
            if size <= self.bytes_max:
                break
            records.execute("DELETE FROM windows WHERE id = ?", [number])
            size -= own
            excess += 1
        return Totals(size, self.totals.excess + excess)

    def unfinished(self, records: Connection, stream: str) -> list[Window]:
        """Return the windows of a stream that are not complete, the oldest first."""
        rows = records.execute(
            f"SELECT {COLUMNS} FROM windows WHERE stream = ? AND to_come > 0 ORDER BY number",  # noqa: S608
            [stream],
        ).fetchall()
        found = map(window_of, rows)
        return [one for one in found if one is not None]


def drop_orphans(records: Connection) -> None:
    """Delete the windows whose alarms are no longer in the list."""
    records.execute(
        """DELETE FROM windows WHERE NOT EXISTS (
            SELECT 1 FROM alarms WHERE alarms.stream = windows.stream
            AND alarms.number BETWEEN windows.number AND windows.last)"""
    )
