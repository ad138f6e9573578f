"""The write side of the logbook: the standing of each point, and a row for each transition.

Rows are only added, in the transaction of the change that they describe. Above a cap, the oldest
rows are deleted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.handling.states import Standing

if TYPE_CHECKING:
    from agent.handling.transition import Transition
    from agent.store.sqlite import Connection

Key = tuple[str, str]  # stream, point

_ROWS_DROPPED: Final = 1000  # at a time, so that a commit does not take long


class Logbook:
    """The tables ``points`` and ``logbook``; the store's thread uses it."""

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.excess = 0  # rows dropped because of the cap, since the start

    def write(
        self,
        records: Connection,
        transitions: Sequence[Transition],
        standings: Mapping[Key, Standing],
        clock: str,
    ) -> None:
        """Add transitions and replace the standings; ``clock`` is the quality of the clock."""
        records.executemany(
            """INSERT INTO points (stream, point, document) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET document = excluded.document""",
            [(*key, json.dumps(one.to_json())) for key, one in standings.items()],
        )
        if not transitions:
            return
        records.executemany(
            "INSERT INTO logbook (stream, point, number, revision, at, what, document)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(one.stream, one.point, one.number, one.revision, one.at, one.what),
                    json.dumps(one.document() | {"clock": clock}),
                )
                for one in transitions
            ],
        )
        self.excess += records.execute(
            "DELETE FROM logbook WHERE id IN (SELECT id FROM logbook"
            " WHERE id <= (SELECT max(id) FROM logbook) - ? ORDER BY id LIMIT ?)",
            [self.rows_max, len(transitions) + _ROWS_DROPPED],
        ).rowcount


def waiting(records: Connection) -> set[tuple[str, int]]:
    """Return stream and number of the alarms that wait for a person or are suppressed."""
    points = _points(records).items()
    return {(stream, one.number) for (stream, _), one in points if one.state != "NORM"}


def _points(records: Connection) -> dict[Key, Standing]:
    rows = records.execute("SELECT stream, point, document FROM points").fetchall()
    return {(stream, point): Standing.of(json.loads(text)) for stream, point, text in rows}


def standings(records: Connection) -> dict[Key, Standing]:
    """Return the standing of each point. Revisions in the logbook are never reused."""
    found = _points(records)
    highest = records.execute(
        "SELECT stream, point, max(revision) FROM logbook GROUP BY stream, point"
    ).fetchall()
    for stream, point, revision in highest:  # a repaired file may have lost the point
        known = found.get((stream, point), Standing())
        if revision > known.revision:
            found[stream, point] = replace(known, revision=revision)
    return found
