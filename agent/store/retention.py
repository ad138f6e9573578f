"""Deletes old samples, closed alarms and history.

The age is computed from the samples' own times and the alarms' ends. Nothing is deleted unless the
gateway's clock is set: a clock that is ahead must not empty the store. Each search checks a few
rows, oldest first.
"""

from __future__ import annotations

import json
import struct
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.alarms.lifecycle import CLOSED
from agent.store.logbook import waiting

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

LOOK_S: Final = 10.0  # between two searches
_DAY_S = 86400.0
_CHUNKS_READ = 500  # per search: more than arrive in between, so that a shorter limit takes effect
_ALARMS_READ = 200
_ROWS_DELETED = 1000  # of the logbook, per search: an alarm has several


class Retention(NamedTuple):
    """Retention times in days; None means without limit."""

    samples_days_max: float | None = None
    alarms_days_max: float | None = None
    history_days_max: float | None = None

    def history_since(self, now_s: float) -> float | None:
        """Return the time from which minutes and hours are kept, Unix seconds; None: no limit."""
        return None if self.history_days_max is None else now_s - self.history_days_max * _DAY_S


FOREVER: Final = Retention()


def drop_samples(readings: Connection, retention: Retention, now_s: float) -> int:
    """Delete chunks whose last sample is too old; return the number of samples deleted."""
    if retention.samples_days_max is None:
        return 0
    before_s = now_s - retention.samples_days_max * _DAY_S
    rows = readings.execute(
        "SELECT number, rows, substr(times, -8) FROM samples ORDER BY number LIMIT ?",
        [_CHUNKS_READ],
    ).fetchall()
    old = [(number, count) for number, count, last in rows if _seconds(last) < before_s]
    readings.executemany("DELETE FROM samples WHERE number = ?", [(number,) for number, _ in old])
    return sum(count for _, count in old)


def _seconds(last: bytes) -> float:
    (seconds,) = struct.unpack("<d", last)
    return float(seconds)


def drop_alarms(records: Connection, retention: Retention, now_s: float) -> int:
    """Delete alarms that have been closed for too long, and the logbook of that time without them.

    Alarms that wait for a person stay. Return the number of alarms deleted.
    """
    if retention.alarms_days_max is None:
        return 0
    before_s = now_s - retention.alarms_days_max * _DAY_S
    kept = waiting(records)
    rows = records.execute(
        "SELECT id, stream, number, document FROM alarms WHERE state = ? ORDER BY id LIMIT ?",
        [CLOSED, _ALARMS_READ + len(kept)],
    ).fetchall()
    old = [
        (row,)
        for row, stream, number, document in rows
        if (stream, number) not in kept and _closed_s(document) < before_s
    ]
    records.executemany("DELETE FROM alarms WHERE id = ?", old)
    _drop_rows(records, before_s)
    return len(old)


def _drop_rows(records: Connection, before_s: float) -> None:
    """Delete old rows of the logbook, unless their alarm is kept."""
    newer = records.execute(
        "SELECT id FROM logbook WHERE at >= ? ORDER BY id LIMIT 1", [before_s]
    ).fetchone()
    records.execute(
        """DELETE FROM logbook WHERE id IN (
            SELECT id FROM logbook WHERE (? IS NULL OR id < ?) AND NOT EXISTS (
                SELECT 1 FROM alarms
                WHERE alarms.stream = logbook.stream AND alarms.number = logbook.number)
            ORDER BY id LIMIT ?)""",
        [*(newer or (None,)) * 2, _ROWS_DELETED],
    )


def _closed_s(document: str) -> float:
    closed = json.loads(document).get("closed")
    return datetime.fromisoformat(closed).timestamp() if closed else float("inf")
