"""The points of a gateway: how alarms, people and time change their standing.

    alarms as they open, worsen and close ─take─┐
    the end of a shelving ────────────────tick──┼─> points ─drain─> rows of the logbook, standings
    requests of people ───────────────────ask───┘

A point is one kind of trouble of one stream (``point_of``). It does not belong to a detector: a
point, and its handling by people, outlives bundles, reloads and restarts. This module does no I/O
and reads no clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.alarms.document import ACCEPTED
from agent.alarms.lifecycle import CAUSES, GAP, OPENED, Cause
from agent.handling import machine
from agent.handling.machine import Impossible, Rules
from agent.handling.priority import graver, priority
from agent.handling.states import WORDS, Consequence, Severity, Standing, State
from agent.handling.transition import AGENT, CALLS, Door, Transition, What

if TYPE_CHECKING:
    from agent.config.load import AgentConfig, AlarmsTable
    from agent.config.streams import StreamAlarmsTable

Key = tuple[str, str]  # stream, point

_HOUR_S: Final = 3600.0

_OF_A_CHANNEL: Final = ("stuck", "missing")
_TIME_IS_OVER: Final = "its time is over"
_CLEARED: Final[tuple[Cause, ...]] = ("normal", ACCEPTED)  # the condition itself is over


class Handled(NamedTuple):
    """The configured handling of a stream's alarms."""

    rules: Rules = Rules()
    consequence: Consequence = "major"


class Request(NamedTuple):
    """A person's request on an alarm."""

    what: What
    alarm: Mapping[str, Any]  # the alarm's document
    by: str  # the user's name
    door: Door
    revision: int | None = None  # of the point, as the person saw it; None: any
    why: str | None = None
    seconds: float = 0.0  # duration of a shelving
    until_clear: bool = False  # of a shelving
    label: str | None = None


class Stale(ValueError):
    """The alarm has changed since the person saw it; the text gives its present state."""


def point_of(alarm: Mapping[str, Any]) -> str:
    """Return the name of an alarm's point, which is the same for all alarms of the point."""
    kind, channels = str(alarm["kind"]), alarm.get("channels", ())
    if limit := alarm.get("limit"):  # absent in alarms of versions without forecasts
        return f"{kind} {channels[0]['channel']} {limit['side']} {limit['level']}"
    if kind in _OF_A_CHANNEL and channels:
        return f"{kind} {channels[0]['channel']}"
    return kind


def severity_of(alarm: Mapping[str, Any]) -> Severity:
    """Return an alarm's severity; alarms of old versions have none and count as medium."""
    severity: Severity = alarm.get("severity", "medium")
    return severity


class Points:
    """The standings of all points; the loop's thread uses it.

    Args:
        handled: Handling of each stream's alarms, by the stream's name.

    """

    def __init__(self, handled: Mapping[str, Handled]) -> None:
        self._handled = handled
        self._standings: dict[Key, Standing] = {}
        self._counts: Counter[State] = Counter()  # number of points in each state, without NORM
        self._made: list[Transition] = []  # since the last ``drain``
        self._changed: set[Key] = set()  # since the last ``drain``
        self._next_end_s = math.inf  # end of the next shelving, Unix seconds

    def configure(self, handled: Mapping[str, Handled]) -> None:
        """Continue with other settings."""
        self._handled = handled

    def restore(self, saved: Mapping[Key, Standing], at: float) -> None:
        """Continue with the stored standings; limit each shelving to one that begins now."""
        self._standings = dict(saved)
        for key, standing in saved.items():
            if (shelving := standing.shelving) is not None:
                until = min(shelving.until, at + self._of(key[0]).rules.shelve_s_max)
                shortened = replace(standing, shelving=shelving._replace(until=until))
                self._standings[key] = shortened
        self._counts = Counter(standing.state for standing in saved.values())
        self._look_for_ends()

    def clock_set(self, by_s: float) -> None:
        """Move the times of shelvings by ``by_s``, because the clock was set by this much."""
        for key, standing in self._standings.items():
            if (shelving := standing.shelving) is not None:
                since, until = shelving.since + by_s, shelving.until + by_s
                moved = shelving._replace(since=since, until=until)
                self._standings[key] = replace(standing, shelving=moved)
                self._changed.add(key)
        self._look_for_ends()

    def compare(self, open_alarms: Iterable[Mapping[str, Any]], at: float) -> None:
        """Compare the points with the open alarms of the store, at the start.

        After an older version or a repair of the file, an open alarm may lack a point, and a point
        may lack its open alarm.
        """
        found = {(alarm["stream"], alarm["number"]): alarm for alarm in open_alarms}
        for alarm in found.values():
            self.take(alarm, at)
        for key, standing in list(self._standings.items()):
            for number in standing.open:
                if (key[0], number) not in found:
                    self._over(key, number, "unwatched", at)

    def take(self, alarm: Mapping[str, Any], at: float) -> None:
        """Process an alarm that opened, changed or closed at the time ``at`` (Unix seconds)."""
        if alarm["kind"] == GAP:
            return
        key, number = (alarm["stream"], point_of(alarm)), alarm["number"]
        now, severity = self._standings.get(key, Standing()), severity_of(alarm)
        if alarm["state"] != OPENED:
            self._over(key, number, alarm.get("ended", "normal"), at)
        elif number not in now.open:
            self._go(key, "raised", machine.raised(now, number, severity), at)
        elif graver(severity, now.severity):
            self._go(key, "worsened", machine.worsened(now, severity), at)

    def _over(self, key: Key, number: int, ended: Cause, at: float) -> None:
        now = self._standings.get(key, Standing())
        if number not in now.open:
            return
        if len(now.open) > 1:
            self._standings[key] = machine.one_of_several_over(now, number)
            self._changed.add(key)
        elif ended in _CLEARED:
            then = machine.cleared(now, number, self._of(key[0]).rules, at)
            self._go(key, "cleared", then, at, why=CAUSES[ended] if ended == ACCEPTED else None)
        elif ended == "limit_passed":
            self._go(key, "superseded", machine.superseded(now, number), at, why=CAUSES[ended])
        else:
            self._go(key, "unwatched", machine.unwatched(now, number), at, why=CAUSES[ended])

    def tick(self, at: float) -> None:
        """End the shelvings whose time is over."""
        if at < self._next_end_s:
            return
        for key, now in list(self._standings.items()):
            if now.shelving is None or at < now.shelving.until:
                continue
            if now.state == "SHLVD":
                self._go(key, "unshelved", machine.unshelve(now, at), at, why=_TIME_IS_OVER)
        self._look_for_ends()

    def ask(self, request: Request, at: float) -> Transition:
        """Execute a person's request; return the transition.

        Raises:
            Stale: the alarm has changed since the person saw it.
            Impossible: the alarm's state, or a rule, forbids the request.

        """
        alarm = request.alarm
        key, number = (alarm["stream"], point_of(alarm)), alarm["number"]
        now = self._standings.get(key, Standing())
        if request.what not in ("noted", "labelled"):
            if number != now.number and number not in now.open:
                raise Stale(f"it is over; {self.told(key)}")
            if request.revision is not None and request.revision != now.revision:
                raise Stale(f"it has changed since; {self.told(key)}")
        then = self._asked(request, key, now, at)
        made = self._go(
            key,
            request.what,
            then,
            at,
            by=request.by,
            door=request.door,
            why=request.why,
            number=number,
            severity=severity_of(alarm) if now.severity is None else now.severity,
            label=request.label,
        )
        self._look_for_ends()
        return made

    def _asked(self, request: Request, key: Key, now: Standing, at: float) -> Standing:
        rules = self._of(key[0]).rules
        simple: dict[What, Callable[[Standing], Standing]] = {
            "acknowledged": machine.acknowledge,
            "unacknowledged": machine.unacknowledge,
            "reset": machine.reset,
            "in_service": machine.in_service,
            "noted": machine.noted,
            "labelled": machine.noted,
        }
        match request.what:
            case "shelved":
                return machine.shelve(now, rules, at, request.seconds, request.until_clear)
            case "unshelved":
                return machine.unshelve(now, at)
            case "out_of_service":
                return machine.out_of_service(now, at)
        if request.what not in simple:
            raise Impossible("only the agent does this")
        return simple[request.what](now)

    def told(self, key: Key) -> str:
        """Return a description of a point's standing, for a person."""
        now = self._standings.get(key, Standing())
        if not now.number:
            return "there was no such alarm since this version runs"
        said = f"{key[0]}#{now.number}.{now.revision} is {WORDS[now.state]}"
        if now.raised > 1:
            said += f", raised {now.raised} times since it was last normal"
        return said if now.severity is None else f"{said}, severity {now.severity}"

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

    def _of(self, stream: str) -> Handled:
        return self._handled.get(stream, Handled())

    def _go(
        self,
        key: Key,
        what: What,
        then: Standing,
        at: float,
        *,
        by: str = AGENT,
        door: Door = "agent",
        why: str | None = None,
        number: int | None = None,
        severity: Severity | None = None,
        label: str | None = None,
    ) -> Transition:
        """Move a point to its next standing, and keep the transition for the logbook."""
        consequence = self._of(key[0]).consequence
        grave: Severity = severity or then.severity or "medium"
        urgent = priority(grave, consequence)
        before = self._standings.get(key, Standing())
        self._standings[key] = replace(then, consequence=consequence, priority=urgent)
        self._changed.add(key)
        self._counts[before.state] -= 1
        self._counts[then.state] += 1
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
            why=why,
            until=then.shelving and then.shelving.until,
            until_clear=then.shelving is not None and then.shelving.until_clear,
            shelvings=then.shelvings,
            label=label,
            announces=what in CALLS and then.state == "UNACK",
        )
        self._made.append(made)
        return made

    def _look_for_ends(self) -> None:
        shelvings = (standing.shelving for standing in self._standings.values())
        self._next_end_s = min(
            (one.until for one in shelvings if one is not None), default=math.inf
        )


def handled_as(config: AgentConfig) -> dict[str, Handled]:
    """Return the configured handling of each stream's alarms."""
    return {table.name: _handled(config.alarms, table.alarms) for table in config.streams}


def _handled(common: AlarmsTable, own: StreamAlarmsTable) -> Handled:
    rules = Rules(
        latching=own.latching,
        shelvable=own.consequence not in common.not_shelvable,
        shelve_s_max=common.shelve_h_max * _HOUR_S,
        shelved_s_max=common.shelved_h_max * _HOUR_S,
    )
    return Handled(rules, own.consequence)
