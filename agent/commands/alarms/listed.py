"""Alarms from the store, each with the standing of its point, in order of urgency."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from agent.alarms.document import gravest_first
from agent.alarms.lifecycle import GAP, OPENED
from agent.alarms.names import point_of
from agent.alarms.points import severity_of
from agent.commands.alarms.similar import similar
from agent.handling.priority import PRIORITIES
from agent.handling.states import SUPPRESSED, UNACKNOWLEDGED, WORDS, Standing
from agent.store.reader import Reader
from models.errors import FieldwatchError
from models.times import iso_time

Section = Literal[
    "unacknowledged", "acknowledged", "suppressed", "advisories", "over", "interruptions"
]
SECTIONS: Final[tuple[Section, ...]] = (
    "unacknowledged",
    "acknowledged",
    "suppressed",
    "advisories",
    "over",
    "interruptions",
)
_REFERENCE: Final = re.compile(
    r"(?:(?P<stream>[^#\s]+)#)?(?P<number>\d{1,15})(?:\.(?P<seen>\d{1,15}))?"
)
_LOGBOOK_ROWS: Final = 200

Alarm = dict[str, Any]


class NoSuchAlarm(FieldwatchError):
    """There is no such alarm, or several streams have one of this number."""

    exit_code = 2  # as for other wrong words on the command line


class Reference(NamedTuple):
    """An alarm as a person names it: ``pump-1#3.7`` is alarm 3 of pump-1 as of revision 7."""

    stream: str | None  # None: the only stream that has this number
    number: int
    revision: int | None  # as the person saw it


def parse_reference(text: str) -> Reference:
    """Parse the text of a reference.

    Raises:
        ValueError: the text is not a reference.

    >>> parse_reference("pump-1#3.7")
    Reference(stream='pump-1', number=3, revision=7)
    >>> parse_reference("3")
    Reference(stream=None, number=3, revision=None)

    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError("an alarm is named as in the first column, such as pump-1#3.7 or 3")
    seen = found["seen"]
    return Reference(found["stream"], int(found["number"]), None if seen is None else int(seen))


def parse_references(text: str) -> list[Reference]:
    """Parse one or several references, as the list prints a group: the stream only once.

    Raises:
        ValueError: the text is no reference.

    >>> [tuple(one) for one in parse_references("pump-1#3.7,4.2")]
    [('pump-1', 3, 7), ('pump-1', 4, 2)]

    """
    if _REFERENCE.fullmatch(text):  # a name may have a comma
        return [parse_reference(text)]
    found: list[Reference] = []
    for part in text.split(","):
        one = parse_reference(part)
        before = found[-1].stream if found else None
        found.append(one if one.stream is not None else one._replace(stream=before))
    return found


def alarms(reader: Reader, limit: int, open_only: bool) -> list[Alarm]:
    """Return the newest alarms, each with ``handling``, the most urgent first.

    All alarms whose points are not normal are included, however old. ``open_only``: only these.
    """
    standings = reader.standings()
    rows = {(row["stream"], row["number"]): row for row in reader.alarms(limit, open_only)}
    waiting = [
        (stream, number)
        for (stream, _), standing in standings.items()
        if standing.state != "NORM" or (standing.advisory and standing.open)
        for number in {standing.number, *standing.open} - {0}
    ]
    for older in reader.alarms_named(name for name in waiting if name not in rows):
        rows[older["stream"], older["number"]] = older
    found = [handled(row, standings) for row in rows.values()]
    return in_order(one for one in found if not open_only or _is_open(one))


def _is_open(alarm: Alarm) -> bool:
    which = section(alarm)
    if which == "advisories":
        return bool(alarm["state"] == OPENED)
    return which in SECTIONS[:3]


def handled(alarm: Mapping[str, Any], standings: Mapping[tuple[str, str], Standing]) -> Alarm:
    """Return an alarm with ``handling``, its point's standing; None if a newer alarm has it."""
    point = point_of(alarm)
    standing = standings.get((alarm["stream"], point))
    mine = standing is not None and alarm["number"] in {standing.number, *standing.open}
    return {**alarm, "handling": _document(point, standing) if mine and standing else None}


def _document(point: str, standing: Standing) -> dict[str, Any]:
    shelving = standing.shelving
    return {
        "point": point,
        "state": standing.state,
        "told": WORDS[standing.state],
        "revision": standing.revision,
        "priority": standing.priority,
        "consequence": standing.consequence,
        "condition": standing.condition,
        "acknowledged": standing.acknowledged,
        "raised": standing.raised,
        "shelvings": standing.shelvings,
        "shelved_until": shelving and iso_time(shelving.until),
        "until_clear": shelving is not None and shelving.until_clear,
        "advisory": standing.advisory,
        "grouped": standing.grouped,
        "chattering": standing.chattered,
    }


def section(alarm: Mapping[str, Any]) -> Section:
    """Return the section of the list to which an alarm belongs."""
    if alarm["kind"] == GAP:
        return "interruptions"
    handling = alarm["handling"]
    if handling is None:  # from a version without a logbook, or the point was raised again
        return "unacknowledged" if alarm["state"] == OPENED else "over"
    if handling["state"] in UNACKNOWLEDGED:
        return "unacknowledged"
    if handling["state"] in SUPPRESSED:
        return "suppressed"
    if handling["state"] == "NORM" and handling["advisory"]:
        return "advisories"
    return "over" if handling["state"] == "NORM" else "acknowledged"


def in_order(found: Iterable[Alarm]) -> list[Alarm]:
    """Sort by section and priority; alarms that need nobody come last, newest first."""
    gravest = gravest_first(found)
    ranked = sorted(gravest, key=lambda one: (SECTIONS.index(section(one)), _rank(one)))
    count = sum(section(one) in SECTIONS[:3] for one in ranked)
    rest = sorted(ranked[count:], key=_newest, reverse=True)
    return ranked[:count] + sorted(rest, key=lambda one: SECTIONS.index(section(one)))


def priority_of(alarm: Mapping[str, Any]) -> str:
    """Return an alarm's priority; for the consequence "major" it equals the severity."""
    return str((alarm["handling"] or {}).get("priority") or severity_of(alarm))


def _newest(alarm: Mapping[str, Any]) -> tuple[str, int]:
    return str(alarm["onset"]), alarm["number"] or 0


def _rank(alarm: Mapping[str, Any]) -> int:
    return [str(one) for one in PRIORITIES].index(priority_of(alarm))


def one(reader: Reader, wanted: Reference) -> Alarm:
    """Return the alarm that a person named, with ``handling``, ``logbook`` and ``similar``.

    Raises:
        NoSuchAlarm: the alarm does not exist, or several streams have one of this number.

    """
    stream, number = wanted.stream, wanted.number
    if stream is None:
        streams = reader.streams_with(number)
        if len(streams) != 1:
            raise NoSuchAlarm(_unclear(number, streams))
        (stream,) = streams
    alarm = reader.alarm(stream, number)
    if alarm is None:
        raise NoSuchAlarm(f"{stream} has no alarm {number}; fieldwatch-agent alarms lists them")
    logbook = reader.logbook(stream, point_of(alarm), _LOGBOOK_ROWS)
    found = handled(alarm, reader.standings())
    return found | {"logbook": logbook, "similar": similar(reader, alarm)}


def _unclear(number: int, streams: list[str]) -> str:
    if not streams:
        return f"there is no alarm {number}; fieldwatch-agent alarms lists them"
    names = ", ".join(f"{name}#{number}" for name in streams)
    return f"several streams have an alarm {number}; name one: {names}"
