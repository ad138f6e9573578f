"""The register of all points: their standings, and the transitions between two commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from agent.alarms.groups import Groups
from agent.alarms.handled import Handled
from agent.alarms.names import Key
from agent.handling import machine
from agent.handling.dues import Dues
from agent.handling.priority import priority
from agent.handling.states import Severity, Standing, State, told
from agent.handling.transition import AGENT, Door, Transition, What
from agent.wording.language import ENGLISH
from agent.wording.message import Message


class Labelled(NamedTuple):
    """A label of a person; times are Unix seconds."""

    label: str | None = None
    begin: float | None = None  # what it is about; None: as its alarm
    end: float | None = None
    ask_again: float | None = None  # when to look again; None: never


class Register:
    """The standings of all points; the loop's thread uses it.

    Args:
        handled: Handling of each stream's alarms, by the stream's name.
        groups: The groups of a flood.

    """

    def __init__(self, handled: Mapping[str, Handled], groups: Groups) -> None:
        self._handled, self._groups = handled, groups
        self._standings: dict[Key, Standing] = {}
        self._counts: Counter[State] = Counter()  # number of points in each state, without NORM
        self._made: list[Transition] = []  # since the last ``drain``
        self._changed: set[Key] = set()  # since the last ``drain``
        self.changes = 0  # counts every change of a standing
        self._dues: Dues[Key] = Dues()  # when time alone changes a point

    def configure(self, handled: Mapping[str, Handled]) -> None:
        """Continue with other settings."""
        self._handled = handled
        self._look_for_dues()

    def restore(self, saved: Mapping[Key, Standing]) -> None:
        """Continue with these standings."""
        self._standings = dict(saved)
        self._counts = Counter(standing.state for standing in saved.values())
        self._look_for_dues()

    def clock_set(self, by_s: float) -> None:
        """Move all times by ``by_s``, because the clock was set by this much."""
        for key, standing in self._standings.items():
            if (moved := machine.moved(standing, by_s)) != standing:
                self.amend(key, moved)
        self._look_for_dues()

    @property
    def streams(self) -> Collection[str]:
        """The names of the configured streams."""
        return self._handled.keys()

    def of(self, stream: str) -> Handled:
        """Return the handling of a stream's alarms."""
        return self._handled.get(stream, Handled())

    def standing(self, key: Key) -> Standing:
        """Return the standing of a point."""
        return self._standings.get(key, Standing())

    def items(self) -> Iterator[tuple[Key, Standing]]:
        """Yield all points that have ever had an alarm; the register may change meanwhile."""
        yield from list(self._standings.items())

    def due(self, at: float) -> Iterator[Key]:
        """Yield the points that time alone changes by ``at``, Unix seconds."""
        for key in list(self._dues.take(at)):
            yield key
            self._set_due(key)

    def amend(self, key: Key, standing: Standing) -> None:
        """Replace a standing without a transition."""
        self._standings[key] = standing
        self._changed.add(key)
        self.changes += 1

    def go(
        self,
        key: Key,
        what: What,
        then: Standing,
        at: float,
        *,
        by: str = AGENT,
        door: Door = "agent",
        why: str | Message | None = None,
        number: int | None = None,
        severity: Severity | None = None,
        labelled: Labelled | None = None,
    ) -> Transition:
        """Move a point to its next standing, and keep the transition for the logbook.

        ``why``: the words of a person or of the plant, or a message of the agent.
        """
        label = labelled or Labelled()
        consequence, before = self.of(key[0]).consequence, self.standing(key)
        grave: Severity = severity or then.severity or "medium"
        urgent = priority(grave, consequence)
        then = replace(then, consequence=consequence, priority=urgent)
        then, announces = self._groups.admit(key, what, before, then, at)
        self.amend(key, then)
        self._counts[before.state] -= 1
        self._counts[then.state] += 1
        self._set_due(key)
        made = Transition(
            stream=key[0],
            point=key[1],
            number=number or then.number,
            revision=then.revision,
            at=at,
            what=what,
            before=before.state,
            after=then.state,
            condition=then.condition,
            severity=grave,
            consequence=consequence,
            priority=urgent,
            by=by,
            door=door,
            why=ENGLISH.text(why) if isinstance(why, Message) else why,
            reason=why if isinstance(why, Message) else None,
            until=then.shelving.until if then.shelving else label.ask_again,
            until_clear=then.shelving is not None and then.shelving.until_clear,
            shelvings=then.shelvings,
            label=label.label,
            begin=label.begin,
            end=label.end,
            announces=announces,
            advisory=then.advisory,
            grouped=then.grouped,
            chattering=then.chattered,
        )
        self._made.append(made)
        return made

    def told(self, key: Key) -> dict[str, Any]:
        """Return a description of a point's standing, as the document of a message."""
        now = self.standing(key)
        if not now.number:
            return Message("standing.none").document()
        alarm = f"{key[0]}#{now.number}.{now.revision}"
        said = Message("standing.now", {"alarm": alarm, "state": told(now)}).document()
        if now.raised > 1:
            count = str(now.raised)
            said = Message("standing.raised", {"now": said, "count": count}).document()
        if now.severity is None:
            return said
        grade = Message(f"grade.{now.severity}").document()
        return Message("standing.severity", {"now": said, "severity": grade}).document()

    def drain(self) -> tuple[list[Transition], dict[Key, Standing]]:
        """Return the transitions since the last call, and the standings that changed."""
        made, self._made = self._made, []
        changed, self._changed = self._changed, set()
        return made, {key: self._standings[key] for key in changed}

    def states(self) -> Counter[State]:
        """Return how many points are in each state, other than the normal one."""
        counts = +self._counts
        del counts["NORM"]
        return counts

    def _set_due(self, key: Key) -> None:
        self._dues.set(key, machine.next_time(self.standing(key), self.of(key[0]).rules))

    def _look_for_dues(self) -> None:
        self._dues.clear()
        for key in self._standings:
            self._set_due(key)
