"""The life cycle of a stream's alarms: their states, and all changes of state.

                      event opens               event closes: normal
    (nothing is open) ──────────> opened ──────────────────────────────────> closed
                                   │  ↺ update, at each commit                 ↑
                                   └─ nobody watches it, its limit is gone … ──┘

A gap is closed at once, because it is over when the agent reports it. A closed alarm does not
change. These are the states of the condition; ``agent.alarms.points`` has the states from people's
handling (acknowledged, shelved, …). This module does no I/O: it returns each change, and the stream
stores, sends, counts and logs it. It loads no numpy, because the store imports it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from agent.alarms.context import Context
from agent.alarms.document import (
    ACCEPTED,
    SILENT,
    Newest,
    Reason,
    alarm_document,
    with_newest,
    without_newest,
)
from agent.wording.language import ENGLISH
from agent.wording.message import Message
from agent.wording.sentence import sentence
from models.times import iso_time, unix_s

if TYPE_CHECKING:
    from models.messages import Event, EventKind

State = Literal["opened", "closed"]
OPENED: Final = "opened"
CLOSED: Final = "closed"
GAP: Final = "gap"  # a kind that is over when it is reported; it calls no staff
# the order in which alarms are dropped if there are too many: people act only on open ones
SHED_FIRST: Final[tuple[State, ...]] = (CLOSED, OPENED)

Cause = Literal[
    "normal", "accepted", "unwatched", "limit_passed", "limit_removed", "stream_removed"
]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)


def reason_of(cause: Cause) -> Message:
    """Return the reason of a closing in words."""
    return Message(f"reason.{cause}")


# of an alarm, what its event does not say again
_LASTING: Final = ("cause", "action", "advice", "operating", "suspect", "outlook", "renewed")


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
        """The counters of the stream that this change increases."""
        if self.alarm["kind"] == GAP:
            return Counter(gaps=1)
        counted = Counter({f"alarms_{self.state}": 1})
        if self.cause not in (None, "normal", "accepted", "limit_passed"):
            counted["alarms_unwatched"] = 1
        return counted

    def __str__(self) -> str:
        """Return the change as text for the log."""
        if (alarm := self.alarm)["kind"] == GAP:
            return f"gap from {alarm['onset']} to {alarm['closed']}: {alarm['action']}"
        said = f"alarm {self.state}: {alarm['kind']} since {alarm['onset']}"
        return said if self.cause is None else f"{said}: {ENGLISH.text(reason_of(self.cause))}"


def closed_as_removed(alarm: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """Return an open alarm of a stream that is no longer configured, closed."""
    return _closed(alarm, "stream_removed", max(now_s, unix_s(alarm["opened"])))


def _closed(alarm: Mapping[str, Any], cause: Cause, time: float) -> dict[str, Any]:
    closed = max(iso_time(time), alarm["opened"])
    return {**alarm, "state": CLOSED, "closed": closed, "ended": cause}


class Alarms:
    """The alarms of one stream.

    Args:
        stream: Name of the stream.
        units: Unit of each channel, by the channel's name.
        context: What the alarms have in common.

    """

    def __init__(
        self, stream: str, units: Mapping[str, str], context: Context | None = None
    ) -> None:
        self._stream, self._units = stream, units
        self.context = context or Context()
        self._open: dict[int, dict[str, Any]] = {}  # by number, as last reported or stored
        self._stored: list[dict[str, Any]] = []
        self._over: set[int] = set()  # closed by ``close``; their events no longer matter
        self._left: set[int] = set()  # alarms of a detector that does not run, see ``leave_open``

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The open alarms, as last stored."""
        return self._stored

    def adopt(self, stored: Iterable[dict[str, Any]]) -> None:
        """Continue with the open alarms of the store."""
        self._stored = list(stored)
        self._open = {alarm["number"]: alarm for alarm in self._stored}

    def release(self, kind: EventKind) -> list[dict[str, Any]]:
        """Hand over the open alarms of a kind: return them and forget them."""
        given = [alarm for alarm in self._open.values() if alarm["kind"] == kind]
        for alarm in given:
            del self._open[alarm["number"]]
        return given

    def go_on(self, alarm: dict[str, Any]) -> None:
        """Continue an alarm that another ``Alarms`` has released."""
        self._open[alarm["number"]] = alarm
        self._stored = [*self._stored, alarm]

    def leave_open(self, kinds: Collection[str], but: Collection[int] = ()) -> None:
        """Leave the present alarms open although their detector does not run for a while.

        They no longer have events. ``close`` skips them, unless it gets their numbers.

        Args:
            kinds: Only alarms of these kinds.
            but: Numbers of alarms whose events are still followed.

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
        """Open or close the alarm of an event; None: ``close`` has already closed it.

        ``quality``: of the channels that were not measured in the sample that opened it;
        ``reason`` and ``newest``: see ``alarm_document``. A closing repeats its opening's data.
        """
        if event.kind == GAP:
            return Change(self._new(event, quality, reason, newest), event.time, "normal")
        if event.closed is None:
            if event.kind == "silent":
                reason = reason or SILENT
            alarm = self._new(event, quality, reason, newest)
            self._open[event.number] = alarm
            return Change(alarm, event.time)
        if event.number in self._over:
            return None
        # the sample may be older if the device sends late, or if its clock was set back
        event = replace(event, closed=max(event.closed, event.opened))
        alarm = self._document(event, newest)
        self._open.pop(event.number, None)
        return Change(alarm, event.time, ACCEPTED if event.accepted else "normal")

    def explain(self, reason: Reason) -> None:
        """Write the reason into an open ``silent`` alarm that has another one."""
        for number, alarm in self._open.items():
            if alarm["kind"] == "silent" and alarm.get("cause") != reason.cause:
                known = alarm | reason.document()
                self._open[number] = known | {"text": sentence(known).document()}

    @property
    def open(self) -> list[dict[str, Any]]:
        """The open alarms, as last reported or updated."""
        return list(self._open.values())

    def remark(self, number: int, found: Mapping[str, Any]) -> dict[str, Any]:
        """Add findings to an open alarm, such as ``suspect`` or ``outlook``; return it.

        The caller stores it.
        """
        alarm = self._open[number] = {**self._open[number], **found}
        self._stored = [alarm if one["number"] == number else one for one in self._stored]
        return alarm

    def update(self, events: Iterable[Event], newest: Newest | None = None) -> list[dict[str, Any]]:
        """Update the open alarms from their events; return those that must be stored.

        An alarm is not stored again if only its newest value changed: the status shows that value.

        Args:
            events: All open events.
            newest: The stream's newest sample.

        """
        now = [self._document(event, newest) for event in events if event.number not in self._over]
        now += [alarm for number, alarm in self._open.items() if number in self._left]
        stored = [without_newest(alarm) for alarm in self._stored]
        changed = [alarm for alarm in now if without_newest(alarm) not in stored]
        self.adopt(now)
        return changed

    def open_among(self, numbers: Collection[int]) -> list[dict[str, Any]]:
        """Return the open alarms with these numbers, as last reported or stored."""
        return [alarm for number, alarm in self._open.items() if number in numbers]

    def close(
        self,
        cause: Cause,
        now_s: float,
        numbers: Iterable[int] | None = None,
        but: Collection[int] = (),
    ) -> list[Change]:
        """Close open alarms whose events are no longer followed; None: all except left-open ones.

        ``but``: numbers of other alarms that stay open.
        ``now_s`` (Unix seconds) may be before an opening if the clock was set back. An alarm still
        never closes before its opening.
        """
        closed = []
        if numbers is None:
            numbers = [number for number in self._open if number not in self._left]
        for number in [number for number in numbers if number not in but]:
            if (alarm := self._open.pop(number, None)) is not None:
                self._over.add(number)
                time = max(now_s, unix_s(alarm["opened"]))
                closed.append(Change(_closed(alarm, cause, time), time, cause))
        return closed

    def _document(self, event: Event, newest: Newest | None) -> dict[str, Any]:
        """Return the alarm of an event that was already open."""
        known = self._open.get(event.number, {})
        # older versions stored neither quality nor cause
        told = self._new(event, known.get("quality", {}), None, newest)
        if newest is None and known:
            told = with_newest(told, known)
        if known and "advice" not in known:  # of an older version, or in the plant's own words
            told["advice"] = None
        told |= {key: known[key] for key in _LASTING if key in known}
        return told | {"text": sentence(told).document()}

    def _new(
        self,
        event: Event,
        quality: Mapping[str, str],
        reason: Reason | None,
        newest: Newest | None,
    ) -> dict[str, Any]:
        return alarm_document(
            self._stream, event, self._units, quality, reason, newest, self.context
        )
