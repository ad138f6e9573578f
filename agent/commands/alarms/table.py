"""The list of alarms for a person: in sections by required action, 80 columns, without color.

Each alarm has a line of facts, then the advice, then the findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from agent.alarms.document import observed
from agent.commands.alarms import grouped
from agent.commands.alarms.listed import Section, priority_of, section
from agent.commands.alarms.moments import Moments, lasting
from agent.wording.advice import to_do
from agent.wording.language import Language
from models.cells import cell, columns, wrap
from models.printable import printable

WIDTH: Final = 80
CHANNELS_MAX: Final = 2  # named in a sentence
_INDENT: Final = "    "
_NAME_CHARS: Final = 22
_ROW: Final = "{:<22} {:<8} {:<12} {:<11} {}"
_HEAD: Final = _ROW.format("ALARM", "PRIORITY", "SINCE", "AGO", "STATE")
_TITLES: Final[Mapping[Section, str]] = {
    "unacknowledged": "NOT ACKNOWLEDGED",
    "acknowledged": "ACKNOWLEDGED",
    "suppressed": "SHELVED, SUPPRESSED, OUT OF SERVICE",
    "advisories": "ADVISORIES (for information: nothing to do now, nothing to acknowledge)",
    "over": "OVER",
    "interruptions": "INTERRUPTIONS (for information: nothing to acknowledge)",
}

Alarm = Mapping[str, Any]


def lines(alarms: Sequence[Alarm], moments: Moments) -> Iterator[str]:
    """Yield the list of at least one alarm; ``alarms`` are in order."""
    yield f"Times are {moments.zone()}. Details: fieldwatch-agent alarms show ALARM"
    for which, group in groupby(alarms, key=section):
        found = list(group)
        yield ""
        yield f"{_TITLES[which]}: {len(found)}"
        if which == "interruptions":
            for one in found:
                yield from _interruption(one, moments)
        else:
            yield _HEAD
            singly, groups = grouped.apart(found) if which == "unacknowledged" else (found, [])
            for one in singly:
                yield from _alarm(one, moments, which)
            for members in groups:
                yield from _group(members, moments)


def reference(alarm: Alarm) -> str:
    """Return how a person names an alarm: stream, number and the revision that is shown."""
    if alarm["number"] is None:
        return f"{alarm['stream']} (not stored yet)"
    handling = alarm["handling"]
    seen = f".{handling['revision']}" if handling else ""
    return f"{alarm['stream']}#{alarm['number']}{seen}"


def _alarm(alarm: Alarm, moments: Moments, which: Section) -> Iterator[str]:
    name = printable(reference(alarm))
    facts = (priority_of(alarm), moments.brief(alarm["onset"]), moments.age(alarm["onset"]))
    row = [name, *facts, _state(alarm, moments)]
    if columns(name) > _NAME_CHARS:  # the whole name, so that a person can type it
        yield name
        row[0] = ""
    yield _ROW.format(*map(cell, row)).rstrip()
    if (put_aside := shelving(alarm["handling"], moments)) is not None:
        yield from wrapped(f"Shelved {put_aside}")
    if which != "over":
        yield from wrapped(f"To do: {to_do(alarm, Language('en', time=moments.full))}")
    kind = alarm["kind"].replace("_", " ")
    found = observed(alarm, CHANNELS_MAX)
    yield from wrapped(f"{kind}: {found}" if found else kind)


def _group(members: Sequence[Alarm], moments: Moments) -> Iterator[str]:
    """Yield what a flood of one stream is: how many, the most urgent, and how to acknowledge."""
    first, named = members[0], members[: grouped.SHOWN_MAX]
    oldest = min(str(one["onset"]) for one in members)
    active = sum(one["handling"]["condition"] == "active" for one in members)
    row = [
        *(f"{first['stream']}: {len(members)} alarms", priority_of(first)),
        *(moments.brief(oldest), moments.age(oldest), f"{active} active, in a flood"),
    ]
    if len(row[0]) > _NAME_CHARS:
        yield printable(row[0])
        row[0] = ""
    yield _ROW.format(*map(printable, row)).rstrip()
    yield from wrapped(f"{grouped.kinds(members)}. The most urgent is {reference(first)}:")
    yield from wrapped(f"{first['kind'].replace('_', ' ')}: {observed(first, CHANNELS_MAX)}")
    yield from wrapped(f"To do: {to_do(first, Language('en', time=moments.full))}")
    yield from grouped.command(named)
    if (more := grouped.left_out(members)) is not None:
        yield from wrapped(more)


def _state(alarm: Alarm, moments: Moments) -> str:
    handling = alarm["handling"]
    if handling is None:
        return "active" if alarm["state"] == "opened" else f"until {moments.brief(alarm['closed'])}"
    state, times = handling["state"], handling["raised"]
    again = f" x{times}" if times > 1 else ""
    if handling["chattering"]:
        again = f", chatters x{handling['chattering']}"
    if state in ("DSUPR", "OOSRV"):
        return "by design" if state == "DSUPR" else "out of service"
    latched = ", latched" if state in ("LATUN", "LATAK") else ""
    condition = {"active": "active", "unknown": "not watched", "normal": "returned"}
    told: str = condition[handling["condition"]]
    if handling["advisory"] and handling["condition"] == "active":
        return told + again
    return told + latched + again if state != "NORM" else f"until {moments.brief(alarm['closed'])}"


def shelving(handling: Mapping[str, Any] | None, moments: Moments) -> str | None:
    """Return until when an alarm is shelved, in words; None if it is not."""
    if handling is None or handling["shelved_until"] is None:
        return None
    first = ", or until it clears" if handling["until_clear"] else ""
    times = handling["shelvings"]
    again = f"; {times} times in a row" if times > 1 else ""
    return f"until {moments.full(handling['shelved_until'])}{first}{again}"


def _interruption(alarm: Alarm, moments: Moments) -> Iterator[str]:
    begin, end = moments.brief(alarm["onset"]), moments.brief(alarm["closed"])
    seconds = moments.between_s(alarm["onset"], alarm["closed"])
    lasted = "" if seconds is None else f" ({lasting(seconds)})"
    yield from wrapped(f"{alarm['stream']}: no samples from {begin} to {end}{lasted}")
    yield from wrapped(f"To do: {alarm['action']}")


def wrapped(text: str, indent: str = _INDENT, hanging: str | None = None) -> Iterator[str]:
    """Yield a text in lines of at most ``WIDTH`` columns; ``hanging``: indent of later lines."""
    others = indent if hanging is None else hanging
    yield from wrap(printable(text, 2000), WIDTH, indent, others)
