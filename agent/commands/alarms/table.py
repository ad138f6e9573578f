"""The list of alarms for a person: in sections by required action, 80 columns, without color.

Each alarm has a line of facts, then its first sentence, the advice, and the findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from agent.commands.alarms import grouped
from agent.commands.alarms.listed import Section, priority_of, section
from agent.commands.alarms.moments import Moments, lasting
from agent.wording.advice import to_do
from agent.wording.lines import observed
from agent.wording.message import Message
from agent.wording.sentence import first_sentence
from models.cells import cell, columns, wrap
from models.printable import printable

WIDTH: Final = 80
CHANNELS_MAX: Final = 2  # named in a sentence
_INDENT: Final = "    "
_NAME_CHARS: Final = 22
_ROW: Final = "{:<22} {:<8} {:<12} {:<11} {}"
_HEAD: Final = "ALARM PRIORITY SINCE AGO STATE"
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
    told = moments.told
    yield printable(told.text(Message("terminal.times", {"zone": moments.zone()})))
    for which, group in groupby(alarms, key=section):
        found = list(group)
        yield ""
        yield printable(f"{told.phrase(f'section.{which}', _TITLES[which])}: {len(found)}")
        if which == "interruptions":
            for one in found:
                yield from _interruption(one, moments)
        else:
            yield _head(moments)
            singly, groups = grouped.apart(found) if which == "unacknowledged" else (found, [])
            for one in singly:
                yield from _alarm(one, moments, which)
            for members in groups:
                yield from _group(members, moments)


def _head(moments: Moments) -> str:
    words = moments.language.phrase("terminal.head", _HEAD).split()
    return _ROW.format(
        *map(printable, words if len(words) == len(_HEAD.split()) else _HEAD.split())
    )


def reference(alarm: Alarm) -> str:
    """Return how a person names an alarm: stream, number and the revision that is shown."""
    if alarm["number"] is None:
        return f"{alarm['stream']} (not stored yet)"
    handling = alarm["handling"]
    seen = f".{handling['revision']}" if handling else ""
    return f"{alarm['stream']}#{alarm['number']}{seen}"


def _alarm(alarm: Alarm, moments: Moments, which: Section) -> Iterator[str]:
    name = printable(reference(alarm))
    told = moments.told
    grade = told.phrase(f"grade.{priority_of(alarm)}", priority_of(alarm))
    facts = (grade, moments.brief(alarm["onset"]), moments.age(alarm["onset"]))
    row = [name, *facts, _state(alarm, moments)]
    if columns(name) > _NAME_CHARS:  # the whole name, so that a person can type it
        yield name
        row[0] = ""
    yield _ROW.format(*map(cell, row)).rstrip()
    if (put_aside := shelving(alarm["handling"], moments)) is not None:
        yield from wrapped(told.text(Message("terminal.shelved", {"until": put_aside})))
    yield from wrapped(first_sentence(alarm, told, moments.now.timestamp()))
    if which != "over":
        yield from wrapped(told.text(Message("terminal.to_do", {"action": to_do(alarm, told)})))
    if found := observed(alarm, told, CHANNELS_MAX):
        yield from wrapped(found)


def _group(members: Sequence[Alarm], moments: Moments) -> Iterator[str]:
    """Yield what a flood of one stream is: how many, the most urgent, and how to acknowledge."""
    told, first, named = moments.told, members[0], members[: grouped.SHOWN_MAX]
    oldest = min(str(one["onset"]) for one in members)
    active = sum(one["handling"]["condition"] == "active" for one in members)
    count = {"stream": first["stream"], "count": str(len(members))}
    row = [
        told.text(Message("flood.alarms", count)),
        told.phrase(f"grade.{priority_of(first)}", priority_of(first)),
        *(moments.brief(oldest), moments.age(oldest)),
        told.text(Message("flood.active", {"count": str(active)})),
    ]
    if columns(row[0]) > _NAME_CHARS:
        yield printable(row[0])
        row[0] = ""
    yield _ROW.format(*map(cell, row)).rstrip()
    most = {"kinds": grouped.kinds(members), "alarm": reference(first)}
    yield from wrapped(told.text(Message("flood.kinds", most)))
    yield from wrapped(first_sentence(first, told, moments.now.timestamp()))
    yield from wrapped(told.text(Message("terminal.to_do", {"action": to_do(first, told)})))
    yield from grouped.command(named)
    if (more := len(members) - len(named)) > 0:
        yield from wrapped(told.text(Message("flood.more", {"count": str(more)})))


def _state(alarm: Alarm, moments: Moments) -> str:
    handling, told = alarm["handling"], moments.language
    if handling is None:
        return _active(moments) if alarm["state"] == "opened" else _until(alarm["closed"], moments)
    state, times = handling["state"], handling["raised"]
    again = f" x{times}" if times > 1 else ""
    if handling["chattering"]:
        known = {"count": str(handling["chattering"])}
        again = told.text(Message("state.chatters", known))
    if state == "DSUPR":
        return told.phrase("state.by_design", "by design")
    if state == "OOSRV":
        return told.phrase("state.OOSRV", "out of service")
    if state == "NORM":
        return _until(alarm["closed"], moments)
    condition = {"active": "active", "unknown": "unknown", "normal": "returned"}
    word = condition[handling["condition"]]
    said = told.phrase(f"state.{word}", word)
    if state in ("LATUN", "LATAK"):
        said = told.text(Message("state.latched", {"state": said}))
    return said + again


def shelving(handling: Mapping[str, Any] | None, moments: Moments) -> str | None:
    """Return until when an alarm is shelved, in words; None if it is not."""
    if handling is None or handling["shelved_until"] is None:
        return None
    told, end = moments.told, moments.full(handling["shelved_until"])
    key = "show.shelved_clear" if handling["until_clear"] else "show.shelved"
    said, times = told.text(Message(key, {"end": end})), handling["shelvings"]
    again = {"text": said, "count": str(times)}
    return told.text(Message("show.again", again)) if times > 1 else said


def _active(moments: Moments) -> str:
    return moments.language.phrase("state.active", "active")


def _until(end: str | None, moments: Moments) -> str:
    return moments.language.text(Message("terminal.until", {"end": moments.brief(end)}))


def _interruption(alarm: Alarm, moments: Moments) -> Iterator[str]:
    told = moments.told
    known = {
        "stream": alarm["stream"],
        "begin": moments.brief(alarm["onset"]),
        "end": moments.brief(alarm["closed"]),
    }
    seconds = moments.between_s(alarm["onset"], alarm["closed"])
    if seconds is None:
        yield from wrapped(told.text(Message("terminal.interruption", known)))
    else:
        lasted = {"lasted": lasting(seconds, told)}
        yield from wrapped(told.text(Message("terminal.interruption_s", known | lasted)))
    yield from wrapped(told.text(Message("terminal.to_do", {"action": to_do(alarm, told)})))


def wrapped(text: str, indent: str = _INDENT, hanging: str | None = None) -> Iterator[str]:
    """Yield a text in lines of at most ``WIDTH`` columns; ``hanging``: indent of later lines."""
    others = indent if hanging is None else hanging
    yield from wrap(printable(text, 2000), WIDTH, indent, others)
