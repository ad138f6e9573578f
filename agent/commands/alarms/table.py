"""The list of alarms for a person: in sections by required action, 80 columns, without color.

Each alarm has a line of facts, then its first sentence, the advice, and the findings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from agent.commands.alarms.listed import SECTIONS, Section, priority_of, section
from agent.commands.alarms.moments import Moments, lasting
from agent.wording.advice import to_do
from agent.wording.lines import observed
from agent.wording.message import Message
from agent.wording.sentence import first_sentence
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
            for one in found:
                yield from _alarm(one, moments, which)


def _head(moments: Moments) -> str:
    words = moments.language.phrase("terminal.head", _HEAD).split()
    return _ROW.format(
        *map(printable, words if len(words) == len(_HEAD.split()) else _HEAD.split())
    )


def count(alarms: Sequence[Alarm]) -> dict[Section, int]:
    """Return how many alarms are in each section."""
    return {name: sum(section(one) == name for one in alarms) for name in SECTIONS}


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
    if len(name) > _NAME_CHARS:  # the whole name, so that a person can type it
        yield name
        row[0] = ""
    yield _ROW.format(*map(printable, row)).rstrip()
    yield from wrapped(first_sentence(alarm, told, moments.now.timestamp()))
    if which != "over":
        yield from wrapped(told.text(Message("terminal.to_do", {"action": to_do(alarm, told)})))
    if found := observed(alarm, told, CHANNELS_MAX):
        yield from wrapped(found)


def _state(alarm: Alarm, moments: Moments) -> str:
    handling, told = alarm["handling"], moments.language
    if handling is None:
        return _active(moments) if alarm["state"] == "opened" else _until(alarm["closed"], moments)
    state, times = handling["state"], handling["raised"]
    again = f" x{times}" if times > 1 else ""
    if state == "SHLVD":
        return _until(handling["shelved_until"], moments)
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
    yield from textwrap.wrap(
        printable(text, 2000), WIDTH, initial_indent=indent, subsequent_indent=others
    )
