"""The life cycle of a stream's alarms: what state one is in, and the only ways to change that.

                      event opens               event closes: normal
    (nothing is open) ──────────> opened ──────────────────────────────────> closed
                                   │  ↺ update, at each commit                 ↑
                                   └─ nobody watches it, its limit is gone … ──┘

A gap is closed at once: it is over when it is told. A closed alarm stays as it is. States that a
person sets (acknowledged, shelved, suppressed in the terms of ISA-18.2) would come between these
two, in ``State`` and ``SHED_FIRST``. Does no I/O: it returns each change, and the stream has it
stored, sent, counted and logged. Loads no numpy, as the store imports it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from agent.alarms.document import (
    SILENT,
    Newest,
    Reason,
    alarm_document,
    with_newest,
    without_newest,
)
from models.times import iso_time, unix_s

if TYPE_CHECKING:
    from models.messages import Event, EventKind

State = Literal["opened", "closed"]
OPENED: Final = "opened"
CLOSED: Final = "closed"
GAP: Final = "gap"  # a kind that is over when it is told: nobody is called for it
# what goes first where not all alarms can be kept: a person can act only on those that are open
SHED_FIRST: Final[tuple[State, ...]] = (CLOSED, OPENED)

Cause = Literal["normal", "unwatched", "limit_passed", "limit_removed", "stream_removed"]
CAUSES: Final[Mapping[Cause, str]] = {  # of a closing; as the log says it
    "normal": "back to normal",
    "unwatched": "another detector watches the stream, or its memory is lost",
    "limit_passed": "the limit has been passed, and another alarm says so",
    "limit_removed": "its limit is not set any more",
    "stream_removed": "the stream is not watched any more",
}


class Change(NamedTuple):
    """An alarm that was opened or closed just now."""

    alarm: dict[str, Any]  # as stored and sent, see ``alarm_document``
    time: float  # of the change, Unix seconds
    cause: Cause | None = None  # of a closing

    @property
    def state(self) -> State:
        """The state that the alarm is in now."""
        return OPENED if self.cause is None else CLOSED

    @property
    def counters(self) -> Counter[str]:
        """What counts with it, of the stream's counters."""
        if self.alarm["kind"] == GAP:
            return Counter(gaps=1)
        counted = Counter({f"alarms_{self.state}": 1})
        if self.cause not in (None, "normal", "limit_passed"):
            counted["alarms_unwatched"] = 1
        return counted

    def __str__(self) -> str:
        """Return it as the log says it."""
        if (alarm := self.alarm)["kind"] == GAP:
            return f"gap from {alarm['onset']} to {alarm['closed']}: {alarm['action']}"
        said = f"alarm {self.state}: {alarm['kind']} since {alarm['onset']}"
        return said if self.cause is None else f"{said}: {CAUSES[self.cause]}"


class Alarms:
    """The alarms of one stream.

    Args:
        stream: Its name.
        units: Of each channel, by name.

    """

    def __init__(self, stream: str, units: Mapping[str, str]) -> None:
        self._stream, self._units = stream, units
        self._open: dict[int, dict[str, Any]] = {}  # by number, as last told or stored
        self._stored: list[dict[str, Any]] = []
        self._over: set[int] = set()  # closed by ``close``: their events have no say any more
        self._left: set[int] = set()  # those of a detector that does not run, see ``leave_open``

    @property
    def stored(self) -> list[dict[str, Any]]:
        """Those that are open, as last stored."""
        return self._stored

    def adopt(self, stored: Iterable[dict[str, Any]]) -> None:
        """Go on with alarms that the store has as open."""
        self._stored = list(stored)
        self._open = {alarm["number"]: alarm for alarm in self._stored}

    def release(self, kind: EventKind) -> list[dict[str, Any]]:
        """Give up the open alarms of a kind, and return them: another goes on with them."""
        given = [alarm for alarm in self._open.values() if alarm["kind"] == kind]
        for alarm in given:
            del self._open[alarm["number"]]
        return given

    def go_on(self, alarm: dict[str, Any]) -> None:
        """Go on with an alarm that another has released."""
        self._open[alarm["number"]] = alarm
        self._stored = [*self._stored, alarm]

    def leave_open(self, kinds: Collection[str], but: Collection[int] = ()) -> None:
        """Leave those that are open now as they are: what found them does not run for a while.

        They have no events any more. ``close`` leaves them out, unless it gets their numbers.

        Args:
            kinds: Only alarms of these kinds.
            but: Numbers of those that are followed.

        """
        self._left = {
            number
            for number, alarm in self._open.items()
            if alarm["kind"] in kinds and number not in but
        }

    def take(
        self,
        event: Event,
        quality: Mapping[str, str],
        reason: Reason | None = None,
        newest: Newest | None = None,
    ) -> Change | None:
        """Open or close the alarm of an event; None: ``close`` has closed it before.

        ``quality``: of the channels that were not measured in the sample that opened it;
        ``reason`` and ``newest``: see ``alarm_document``. A closing says what its opening said.
        """
        if event.kind == GAP:
            alarm = alarm_document(self._stream, event, self._units, quality, reason, newest)
            return Change(alarm, event.time, "normal")
        if event.closed is None:
            if event.kind == "silent":
                reason = reason or SILENT
            alarm = alarm_document(self._stream, event, self._units, quality, reason, newest)
            self._open[event.number] = alarm
            return Change(alarm, event.time)
        if event.number in self._over:
            return None
        # the sample may be older, where a device tells late, or its clock was set back
        event = replace(event, closed=max(event.closed, event.opened))
        alarm = self._document(event, newest)
        self._open.pop(event.number, None)
        return Change(alarm, event.time, "normal")

    def explain(self, reason: Reason) -> None:
        """Note why nothing comes, in a ``silent`` alarm that is open and says something else."""
        for number, alarm in self._open.items():
            if alarm["kind"] == "silent" and alarm.get("cause") != reason.cause:
                self._open[number] = alarm | reason._asdict()

    def update(self, events: Iterable[Event], newest: Newest | None = None) -> list[dict[str, Any]]:
        """Bring the open alarms up to date with their events; return those to be stored.

        What only has another newest value is not stored again: the status has it.

        Args:
            events: All that are open now.
            newest: Of the stream.

        """
        now = [self._document(event, newest) for event in events if event.number not in self._over]
        now += [alarm for number, alarm in self._open.items() if number in self._left]
        stored = [without_newest(alarm) for alarm in self._stored]
        changed = [alarm for alarm in now if without_newest(alarm) not in stored]
        self.adopt(now)
        return changed

    def open_among(self, numbers: Collection[int]) -> list[dict[str, Any]]:
        """Return the open alarms with these numbers, as last told or stored."""
        return [alarm for number, alarm in self._open.items() if number in numbers]

    def close(
        self,
        cause: Cause,
        now_s: float,
        numbers: Iterable[int] | None = None,
        but: Collection[int] = (),
    ) -> list[Change]:
        """Close open alarms whose events nobody follows any more; None: all but those left open.

        ``but``: numbers of others that stay open.
        ``now_s`` (Unix seconds) may be before an opening, where the clock was set back: an alarm
        does not close before it opened.
        """
        closed = []
        if numbers is None:
            numbers = [number for number in self._open if number not in self._left]
        for number in [number for number in numbers if number not in but]:
            if (alarm := self._open.pop(number, None)) is not None:
                self._over.add(number)
                time = max(now_s, unix_s(alarm["opened"]))
                over = {"state": CLOSED, "closed": max(iso_time(time), alarm["opened"])}
                closed.append(Change(alarm | over, time, cause))
        return closed

    def _document(self, event: Event, newest: Newest | None) -> dict[str, Any]:
        """Return the alarm of an event that opened before."""
        known = self._open.get(event.number, {})
        # older versions stored no quality, and no cause
        quality = known.get("quality", {})
        told = alarm_document(self._stream, event, self._units, quality, newest=newest)
        if newest is None and known:
            told = with_newest(told, known)
        return told | {key: known[key] for key in ("cause", "action") if key in known}
