"""Follows the alarms of an agent by polling the store, without disturbing the agent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.alarms.lifecycle import OPENED
from agent.commands.life import Life, life

if TYPE_CHECKING:
    from agent.store.reader import Reader

POLL_S = 0.5
_LOOKED_AT = 1000  # newest alarms; no more change within a poll interval


def known_alarms(reader: Reader) -> list[dict[str, Any]]:
    """Return the alarms that are already known, whether they are shown or not."""
    return reader.alarms(limit=_LOOKED_AT, open_only=False)


class Followed:
    """The changes from now on.

    Args:
        reader: Reads the agent's store.
        seen: Alarms that are already known.
        brief: For people: alarms of a flood are put together as ``{"group": …}``, those of a point
            that chatters are left out, and each other alarm has its transition as ``raised_as``.

    """

    def __init__(
        self, reader: Reader, seen: Sequence[Mapping[str, Any]], brief: bool = False
    ) -> None:
        self._reader, self._brief = reader, brief
        self._states = {(row["stream"], row["number"]): row["state"] for row in seen}
        self._row = reader.last_logbook_row()

    def changes(self, was: Life, poll_s: float = POLL_S) -> Iterator[Mapping[str, Any] | Life]:
        """Yield each alarm as it opens and again as it closes; endless.

        In between it yields transitions of alarms, as ``{"transition": row}``, and the agent's
        ``Life`` whenever it stops or resumes watching; ``was`` is the previous one.
        """
        while True:
            changed = list(self._alarms())
            rows = list(self._reader.logbook_after(self._row, _LOOKED_AT))  # no older than those
            yield from _briefly(changed, [row for _, row in rows]) if self._brief else changed
            yield from self._transitions(rows)
            now = life(self._reader)
            if now.watching != was.watching:
                yield now
            was = now
            time.sleep(poll_s)

    def _alarms(self) -> Iterator[Mapping[str, Any]]:
        for row in known_alarms(self._reader):
            key = (row["stream"], row["number"])
            if self._states.get(key) != row["state"]:
                self._states[key] = row["state"]
                yield row

    def _transitions(
        self, rows: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> Iterator[Mapping[str, Any]]:
        for number, row in rows:
            self._row = number
            if row["what"] not in ("raised", "cleared"):  # already shown by the alarms above
                yield {"transition": row}


def _briefly(
    changed: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Yield what changed at one look; ``rows``: the transitions since the look before."""
    said = {(row["stream"], row["number"], row["what"]): row for row in rows}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for alarm in changed:
        stream, state = alarm["stream"], alarm["state"]
        what = "raised" if state == OPENED else "cleared"
        row = said.get((stream, alarm["number"], what), {})
        if row.get("grouped") and not row["announces"]:
            groups.setdefault((stream, state), []).append(alarm)
        elif not row.get("chattering") or row["announces"]:
            yield {**alarm, "raised_as": row}
    for (stream, state), members in groups.items():
        yield {"group": {"stream": stream, "state": state, "members": members}}
