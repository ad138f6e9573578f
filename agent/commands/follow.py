"""Follows the alarms of an agent: the store is read again, the agent is not disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.commands.life import Life, life

if TYPE_CHECKING:
    from agent.store.reader import Reader

POLL_S = 0.5
_LOOKED_AT = 1000  # the newest; more do not change within a poll


def known_alarms(reader: Reader) -> list[dict[str, Any]]:
    """Return the alarms that are no news now, whether they are shown or not."""
    return reader.alarms(limit=_LOOKED_AT, open_only=False)


def follow_alarms(
    reader: Reader, seen: Sequence[Mapping[str, Any]], was: Life, poll_s: float = POLL_S
) -> Iterator[Mapping[str, Any] | Life]:
    """Yield each alarm as it opens and again as it closes, after those in ``seen``; endless.

    Between them it yields when the agent stops watching or watches again, after it ``was`` so.
    """
    states = {(row["stream"], row["number"]): row["state"] for row in seen}
    while True:
        for row in known_alarms(reader):
            key = (row["stream"], row["number"])
            if states.get(key) != row["state"]:
                states[key] = row["state"]
                yield row
        now = life(reader)
        if now.watching != was.watching:
            yield now
        was = now
        time.sleep(poll_s)
