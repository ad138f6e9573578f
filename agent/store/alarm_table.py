"""The write side of the table of alarms: one row per alarm, in the store's transactions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.alarms.lifecycle import CLOSED, OPENED
from agent.store.logbook import waiting
from agent.store.meta import raise_numbers

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

_ROWS_DROPPED = 1000  # at a time, so that a commit does not take long
_LAST_ALARM = "last_alarm/"  # prefix of the keys in ``meta``, before a stream's name


class AlarmTable:
    """All alarms, open and closed, up to a cap; the store's thread uses it."""

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.next_id = 1  # id of the next row
        self.excess = 0  # rows dropped because of the cap, since the start
        # of each correction of times in progress, which must leave alone what is written meanwhile
        self.rewritten: list[set[tuple[str, int]]] = []
        self._last_numbers: dict[str, int] = {}  # stream -> highest number, a cache

    def open(self, records: Connection) -> None:
        """Read the id of the newest row."""
        (newest,) = records.execute("SELECT ifnull(max(id), 0) FROM alarms").fetchone()
        self.next_id = int(newest) + 1

    def write(self, records: Connection, alarms: Sequence[dict[str, Any]]) -> None:
        """Write alarms, new or changed, and drop the oldest above the cap.

        Alarms that are open or wait for a person stay.
        """
        if not alarms:
            return
        for rewritten in self.rewritten:
            rewritten.update((alarm["stream"], alarm["number"]) for alarm in alarms)
        records.executemany(
            """INSERT INTO alarms (stream, number, state, document) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET state = excluded.state, document = excluded.document""",
            [(a["stream"], a["number"], a["state"], json.dumps(a)) for a in alarms],
        )
        raise_numbers(
            records, [(_LAST_ALARM + alarm["stream"], alarm["number"]) for alarm in alarms]
        )
        self.excess += self._drop_excess(records, len(alarms) + _ROWS_DROPPED)
        self.open(records)

    def _drop_excess(self, records: Connection, rows_max: int) -> int:
        # ids increase, so rows need not be counted
        rows = records.execute(
            """SELECT id, stream, number FROM alarms
            WHERE id <= (SELECT max(id) FROM alarms) - ? AND state = ? ORDER BY id LIMIT ?""",
            [self.rows_max, CLOSED, rows_max],
        ).fetchall()
        kept = waiting(records) if rows else set()
        excess = [(number,) for number, *alarm in rows if tuple(alarm) not in kept]
        records.executemany("DELETE FROM alarms WHERE id = ?", excess)
        return len(excess)

    def committed(self, alarms: Sequence[dict[str, Any]]) -> None:
        """Record the numbers of these alarms after their transaction was committed."""
        for alarm in alarms:
            if (last := self._last_numbers.get(alarm["stream"])) is not None:
                self._last_numbers[alarm["stream"]] = max(last, alarm["number"])

    def open_ones(self, records: Connection, stream: str | None = None) -> list[dict[str, Any]]:
        """Return the alarms that are open, of one stream or of all."""
        rows = records.execute(
            f"SELECT stream, document FROM alarms WHERE state = '{OPENED}' ORDER BY id"  # noqa: S608 - as its index has it
        )
        return [json.loads(document) for name, document in rows if stream in (None, name)]

    def one(self, records: Connection, stream: str, number: int) -> dict[str, Any] | None:
        """Return an alarm; None if there is none."""
        found = records.execute(
            "SELECT document FROM alarms WHERE stream = ? AND number = ?", [stream, number]
        ).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def last_number(self, records: Connection, stream: str) -> int:
        """Return the highest number of the stream's alarms, kept or dropped; 0 before the first."""
        if stream not in self._last_numbers:
            # versions that did not write the number to meta kept the alarm with the highest one
            rows = records.execute("SELECT max(number) FROM alarms WHERE stream = ?", [stream])
            key = [_LAST_ALARM + stream]
            meta = records.execute("SELECT value FROM meta WHERE key = ?", key)
            numbers = [number or 0 for (number,) in [*rows, *meta]]
            self._last_numbers[stream] = max(numbers)
        return self._last_numbers[stream]
