"""The groups of a flood: alarms that are shown and announced together with others of their stream.

``agent.handling.flood`` decides when there is a flood, and when a group calls somebody.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from agent.alarms.names import Key
from agent.handling import announcing
from agent.handling.flood import Flood, FloodLimits
from agent.handling.priority import PRIORITIES
from agent.handling.states import Standing
from agent.handling.transition import What
from agent.wording.message import Message

_LOG = logging.getLogger(__name__)

_LEAVING_MAX: Final = 500  # in one tick
_TOLD_MAX: Final = 20  # members of a group in a text, by number


class Group(NamedTuple):
    """What is still active of a stream at the end of a flood."""

    first: Key  # the most urgent
    why: Message  # names all of them


class Groups:
    """Puts the alarms of a flood into groups; the loop's thread uses it."""

    def __init__(self, limits: FloodLimits) -> None:
        self.flood = Flood(limits)
        self._members: set[Key] = set()
        self._leaving: list[Key] = []  # of a flood that is over
        self._saved = self._state()

    def _state(self) -> bytes:
        return json.dumps(self.flood.to_json()).encode()

    def changed(self) -> bytes | None:
        """Return the state of the flood, for the store; None if that has not changed."""
        state, before = self._state(), self._saved
        self._saved = state
        return None if state == before else state

    def restore(self, state: bytes | None, standings: Mapping[Key, Standing]) -> None:
        """Continue with what ``changed`` returned, and with the groups of the standings."""
        self._members = {key for key, standing in standings.items() if standing.grouped}
        if state is not None:
            try:
                self.flood.restore(json.loads(state))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _LOG.warning("the state of the flood is damaged, it begins anew: %s", error)
                return
            self._saved = state

    def admit(
        self, key: Key, what: What, before: Standing, then: Standing, at: float
    ) -> tuple[Standing, bool]:
        """Return the next standing with its group, and whether the transition calls somebody."""
        announces = announcing.calls(what, before, then)
        if announces and what in announcing.OF_A_FLOOD and self.flood.new(at):
            then = replace(then, grouped=True)
        if announces and then.grouped:
            announces = self.flood.calls(key[0], then.priority or "medium")
        if announces and then.chattered:
            then = replace(then, called=then.severity)
        (self._members.add if then.grouped else self._members.discard)(key)
        return then, announces

    def over(self, at: float) -> bool:
        """Return whether a flood is over, or has left a group behind."""
        return at >= self.flood.over_at() or bool(self._members and self.flood.since is None)

    def end(self) -> Iterable[Key]:
        """End the flood; return the members of all groups."""
        self.flood.end()
        members, self._members = sorted(self._members), set()
        self._leaving += members
        return members

    def leave(self) -> Iterator[Key]:
        """Yield some members of a flood that is over; all at once would take too long."""
        leaving, self._leaving = self._leaving[:_LEAVING_MAX], self._leaving[_LEAVING_MAX:]
        yield from (key for key in leaving if key not in self._members)  # in the next flood


def still_active(members: Iterable[tuple[Key, Standing]]) -> Iterator[Group]:
    """Yield a group for each stream that has unacknowledged, active alarms among ``members``."""
    waiting: dict[str, list[tuple[Key, Standing]]] = {}
    for key, standing in members:
        if standing.state == "UNACK":
            waiting.setdefault(key[0], []).append((key, standing))
    for group in waiting.values():
        ranked = sorted(group, key=lambda one: PRIORITIES.index(one[1].priority or "medium"))
        named = ", ".join(f"#{standing.number}" for _, standing in ranked[:_TOLD_MAX])
        more = len(ranked) - _TOLD_MAX
        text, known = "reason.still_active", {"alarms": named}
        if more > 0:
            text, known = "reason.still_active_more", known | {"count": str(more)}
        yield Group(ranked[0][0], Message(text, known))
