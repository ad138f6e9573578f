"""Follows the alarms of an agent: the store is read again, the agent is not disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.commands.life import Life, life

if TYPE_CHECKING:
    from agent.store.reader import Reader

POLL_S = 0.5


def follow_alarms(
    reader: Reader, seen: Sequence[Mapping[str, Any]], was: Life, poll_s: float = POLL_S
) -> Iterator[Mapping[str, Any] | Life]:
    """Yield each alarm as it opens and again as it closes, after those in ``seen``; endless.

    Between them it yields when the agent stops watching or watches again, after it ``was`` so.
    """
    states = {(row["stream"], row["number"]): row["state"] for row in seen}
    while True:
        for row in reader.alarms(limit=1000, open_only=False):
            key = (row["stream"], row["number"])
            if states.get(key) != row["state"]:
                states[key] = row["state"]
                yield row
        now = life(reader)
        if now.watching != was.watching:
            yield now
        was = now
        time.sleep(poll_s)
