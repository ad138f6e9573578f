"""The points of a gateway: how alarms, people and time change their standing.

    alarms as they open, worsen and close ─take─┐
    values that suppress by design ────────see──┤             ┌─ rows of the logbook
    shelvings, reminders, ends of floods ─tick──┼─> register ─┤
    requests of people ───────────────────ask───┘             └─ standings

A point is one kind of trouble of one stream (``agent.alarms.names``). It does not belong to a
detector: a point, and its handling by people, outlives bundles, reloads and restarts. This module
does no I/O and reads no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from agent.alarms.document import ACCEPTED
from agent.alarms.groups import Groups, still_active
from agent.alarms.handled import Handled
from agent.alarms.lifecycle import GAP, OPENED, Cause, reason_of
from agent.alarms.names import Key, kind_and_channel, point_of
from agent.alarms.register import Labelled as Labelled
from agent.alarms.register import Register
from agent.alarms.shelved import covered, is_another
from agent.alarms.suppressing import Suppressing
from agent.handling import machine
from agent.handling.flood import FloodLimits
from agent.handling.machine import Impossible
from agent.handling.priority import graver
from agent.handling.states import Severity, Standing, State
from agent.handling.suppression import Suppression
from agent.handling.transition import Door, Transition, What
from agent.wording.message import Message
from agent.wording.worded import Worded

_TIME_IS_OVER: Final = Message("reason.time_is_over")
_OVER_AND_DONE: Final = Message("reason.done")
_CLEARED: Final[tuple[Cause, ...]] = ("normal", ACCEPTED)  # the condition itself is over


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
    labelled: Labelled | None = None


class Stale(Worded, ValueError):
    """The alarm has changed since the person saw it; the message gives its present state."""


def severity_of(alarm: Mapping[str, Any]) -> Severity:
    """Return an alarm's severity; alarms of old versions have none and count as medium."""
    severity: Severity = alarm.get("severity", "medium")
    return severity


def is_advisory(alarm: Mapping[str, Any], handled: Handled) -> bool:
    """Return whether an alarm needs no action now: its limit is far away, even at the earliest."""
    if alarm["kind"] != "limit" or not (limit := alarm.get("limit")):
        return False
    earliest_s = limit.get("earliest_s")
    return earliest_s is not None and earliest_s > handled.advisory_s


class Points:
    """The points of all streams; the loop's thread uses it.

    Args:
        handled: Handling of each stream's alarms, by the stream's name.
        flood: When a flood begins and ends.
        suppressions: The designed suppressions.

    """

    def __init__(
        self,
        handled: Mapping[str, Handled],
        flood: FloodLimits = FloodLimits(),  # noqa: B008 - a value that never changes
        suppressions: Sequence[Suppression] = (),
    ) -> None:
        self._groups = Groups(flood)
        self._register = Register(handled, self._groups)
        self._suppressing = Suppressing(self._register, suppressions)

    def configure(
        self,
        handled: Mapping[str, Handled],
        flood: FloodLimits,
        suppressions: Sequence[Suppression],
    ) -> None:
        """Continue with other settings."""
        self._groups.flood.limits = flood
        self._register.configure(handled)
        self._suppressing.configure(suppressions)

    @property
    def streams(self) -> Collection[str]:
        """The names of the configured streams."""
        return self._register.streams

    def restore(
        self, saved: Mapping[Key, Standing], at: float, memory: Mapping[str, bytes] | None = None
    ) -> None:
        """Continue with what was stored; limit each shelving to one that begins now.

        ``memory``: the parts that ``memory`` returned.
        """
        parts = memory or {}
        standings = {key: self._restored(key, one, at) for key, one in saved.items()}
        self._groups.restore(parts.get("flood"), standings)
        self._register.restore(standings)
        for key, standing in standings.items():
            if standing is not saved[key]:
                self._register.amend(key, standing)
        self._suppressing.restore(parts.get("suppressions"), at)

    def _restored(self, key: Key, saved: Standing, at: float) -> Standing:
        if saved.state == "ACKED" and saved.seen_at is None:  # from an older version
            saved = replace(saved, seen_at=at)
        if (shelving := saved.shelving) is None:
            return saved
        until = min(shelving.until, at + self._register.of(key[0]).rules.shelve_s_max)
        return replace(saved, shelving=shelving._replace(until=until))

    def memory(self) -> dict[str, bytes]:
        """Return what changed since the last call beside the standings, for the store."""
        parts = {"flood": self._groups.changed(), "suppressions": self._suppressing.changed()}
        return {name: data for name, data in parts.items() if data is not None}

    def clock_set(self, by_s: float) -> None:
        """Move all times by ``by_s``, because the clock was set by this much."""
        self._groups.flood.move(by_s)
        self._suppressing.clock_set(by_s)
        self._register.clock_set(by_s)

    def compare(self, open_alarms: Iterable[Mapping[str, Any]], at: float) -> None:
        """Compare the points with the open alarms of the store, at the start.

        After an older version or a repair of the file, an open alarm may lack a point, and a point
        may lack its open alarm.
        """
        found = {(alarm["stream"], alarm["number"]): alarm for alarm in open_alarms}
        for alarm in found.values():
            self.take(alarm, at)
        for key, standing in self._register.items():
            for number in standing.open:
                if (key[0], number) not in found:
                    self._over(key, number, "unwatched", at)

    @property
    def watched(self) -> Mapping[str, frozenset[str]]:
        """The channels whose values ``see`` needs, by stream."""
        return self._suppressing.watched

    def see(
        self, stream: str, channel: str, times: Iterable[float], values: Iterable[float], at: float
    ) -> None:
        """Take measured values of a channel; see ``Suppressions.see``."""
        self._suppressing.see(stream, channel, times, values, at)

    def take(self, alarm: Mapping[str, Any], at: float) -> None:
        """Process an alarm that opened, changed or closed at the time ``at`` (Unix seconds)."""
        if alarm["kind"] == GAP:
            return
        key, number = (alarm["stream"], point_of(alarm)), alarm["number"]
        now, severity = self._register.standing(key), severity_of(alarm)
        if alarm["state"] != OPENED:
            self._over(key, number, alarm.get("ended", "normal"), at)
        elif number not in now.open:
            self._raise(key, alarm, at)
        elif now.advisory and not is_advisory(alarm, self._register.of(key[0])):
            self._register.go(key, "due", machine.due(now, severity), at)
        elif graver(severity, now.severity):
            self._register.go(key, "worsened", machine.worsened(now, severity), at)

    def _raise(self, key: Key, alarm: Mapping[str, Any], at: float) -> None:
        handled, reason = self._register.of(key[0]), self._suppressing.reason(key)
        now = self._register.standing(key)
        another = is_another(alarm, now)
        then = machine.raised(
            now,
            alarm["number"],
            severity_of(alarm),
            handled.rules,
            at,
            advisory=is_advisory(alarm, handled),
            suppressed=reason is not None,
            another=another,
        )
        ended = Message("reason.another_fault") if another else None
        self._register.go(key, "raised", then, at, why=reason or ended)

    def _over(self, key: Key, number: int, ended: Cause, at: float) -> None:
        now = self._register.standing(key)
        if number not in now.open:
            return
        if len(now.open) > 1:
            self._register.amend(key, machine.one_of_several_over(now, number))
        elif ended in _CLEARED:
            self._clear(key, number, ended, at)
        elif ended == "limit_passed":
            then = machine.superseded(now, number)
            self._register.go(key, "superseded", then, at, why=reason_of(ended))
        else:
            then = machine.unwatched(now, number)
            self._register.go(key, "unwatched", then, at, why=reason_of(ended))

    def _clear(self, key: Key, number: int, ended: Cause, at: float) -> None:
        now, handled = self._register.standing(key), self._register.of(key[0])
        done = kind_and_channel(key[1])[0] in handled.advisory_when_over
        then = machine.cleared(now, number, handled.rules, at, advisory=done)
        why = reason_of(ended) if ended == ACCEPTED else _OVER_AND_DONE if then.advisory else None
        self._register.go(key, "cleared", then, at, why=why)

    def tick(self, at: float) -> None:
        """Do what time demands: end suppressions, shelvings and floods, and remind."""
        self._suppressing.tick(at)
        for key in self._register.due(at):
            self._end_shelving(key, at)
            self._settle(key, at)
            self._remind(key, at)
            self._look_again(key, at)
        if self._groups.over(at):
            self._end_flood(at)
        for key in self._groups.leave():
            self._register.amend(key, machine.apart(self._register.standing(key)))

    def _end_shelving(self, key: Key, at: float) -> None:
        now = self._register.standing(key)
        if now.shelving is not None and at >= now.shelving.until:
            then = machine.unshelve(now, at)
            self._register.go(key, "unshelved", then, at, why=_TIME_IS_OVER)

    def _settle(self, key: Key, at: float) -> None:
        now = self._register.standing(key)
        if at >= machine.settles_at(now, self._register.of(key[0]).rules):
            why = Message("reason.chattered", {"count": str(now.chattered)})
            self._register.go(key, "settled", machine.settled(now), at, why=why)

    def _remind(self, key: Key, at: float) -> None:
        now = self._register.standing(key)
        if at >= machine.reminds_at(now, self._register.of(key[0]).rules):
            self._register.go(key, "reminded", machine.reminded(now, at), at)

    def _look_again(self, key: Key, at: float) -> None:
        for number, when in self._register.standing(key).looks:
            if at >= when:
                then = machine.look_again(self._register.standing(key), number)
                self._register.go(key, "look_again", then, at, number=number)

    def _end_flood(self, at: float) -> None:
        """End the flood; each stream announces in one row what is still active."""
        members = [(key, self._register.standing(key)) for key in self._groups.end()]
        for group in still_active(members):
            then = machine.ungrouped(self._register.standing(group.first))
            self._register.go(group.first, "ungrouped", then, at, why=group.why)

    def ask(self, request: Request, at: float) -> Transition:
        """Execute a person's request; return the transition.

        Raises:
            Stale: the alarm has changed since the person saw it.
            Impossible: the alarm's state, or a rule, forbids the request.

        """
        alarm = request.alarm
        key, number = (alarm["stream"], point_of(alarm)), alarm["number"]
        now = self._register.standing(key)
        if request.what not in ("noted", "labelled"):
            if number != now.number and number not in now.open:
                raise Stale(Message("stale.over", {"now": self._register.told(key)}))
            if request.revision is not None and request.revision != now.revision:
                raise Stale(Message("stale.changed", {"now": self._register.told(key)}))
        return self._register.go(
            key,
            request.what,
            _asked(request, now, self._register.of(key[0]), at),
            at,
            by=request.by,
            door=request.door,
            why=request.why,
            number=number,
            severity=severity_of(alarm) if now.severity is None else now.severity,
            labelled=request.labelled,
        )

    def drain(self) -> tuple[list[Transition], dict[Key, Standing]]:
        """Return the transitions since the last call, and the standings that changed."""
        return self._register.drain()

    def states(self) -> Counter[State]:
        """Return how many points are in each state, other than the normal one."""
        return self._register.states()

    def not_normal(self) -> list[tuple[Key, Standing]]:
        """Return the points that are in any state other than the normal one."""
        return [(key, one) for key, one in self._register.items() if one.state != "NORM"]


def _asked(request: Request, now: Standing, handled: Handled, at: float) -> Standing:
    """Return the standing after a person's request."""
    simple: dict[What, Callable[[Standing], Standing]] = {
        "unacknowledged": machine.unacknowledge,
        "reset": machine.reset,
        "in_service": machine.in_service,
        "noted": machine.noted,
    }
    match request.what:
        case "acknowledged":
            return machine.acknowledge(now, at)
        case "shelved":
            seconds, until_clear = request.seconds, request.until_clear
            of = covered(request.alarm)
            return machine.shelve(now, handled.rules, at, seconds, until_clear, of)
        case "unshelved":
            return machine.unshelve(now, at)
        case "labelled":
            again = None if request.labelled is None else request.labelled.ask_again
            return machine.labelled(now, request.alarm["number"], again)
        case "out_of_service":
            return machine.out_of_service(now, at)
    if request.what not in simple:
        raise Impossible(Message("impossible.agent"))
    return simple[request.what](now)
