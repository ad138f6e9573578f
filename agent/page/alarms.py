"""The views of the alarms: the list, and one alarm with what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from agent.commands.alarms import grouped, listed
from agent.commands.alarms.listed import Reference, Section, priority_of, section
from agent.commands.alarms.shown import facts, label_text, row_text
from agent.commands.alarms.table import shelving
from agent.handling.states import SUPPRESSED, UNACKNOWLEDGED
from agent.handling.transition import LABELS
from agent.page.last_time import back, last_time
from agent.page.overview import SYMBOLS, is_active
from agent.page.words import Words
from agent.store.reader import Reader
from agent.wording import lines as wording
from agent.wording.advice import to_do
from agent.wording.sentence import first_sentence, machine_of, title_of
from models.errors import StoreError
from models.printable import printable
from models.times import unix_s

SHOWN_MAX: Final = 200
# what the list can be narrowed to -> its sections
FILTERS: Final[Mapping[str, Sequence[Section]]] = {
    "open": ("unacknowledged", "acknowledged", "advisories"),
    "aside": ("suppressed",),
    "over": ("over", "interruptions"),
}
SHELVE_HOURS: Final = (1, 4, 8, 24)
_AROUND_S: Final = (120.0, 3600.0)  # least and most time that the chart shows before the onset
_TEXT_CHARS_MAX: Final = 2000
_PUT_ASIDE: Final = ("shelved", "out_of_service")
_ROWS_SEARCHED: Final = 100  # of a point's logbook, the newest

Alarm = Mapping[str, Any]


class Choice(NamedTuple):
    """What can be done about an alarm now."""

    verbs: tuple[str, ...]  # without those that are always possible
    first: str | None  # the one that is expected next


def read_list(reader: Reader) -> Sequence[Alarm]:
    """Read the newest alarms in order of urgency.

    One that somebody has put aside has ``put_aside``, the row of the logbook, also after its
    return: who did it, and why.
    """
    found = listed.alarms(reader, SHOWN_MAX, open_only=False)
    return [one | {"put_aside": _put_aside(reader, one)} for one in found]


def _put_aside(reader: Reader, alarm: Alarm) -> Mapping[str, Any] | None:
    handling = alarm["handling"]
    if handling is None or not (handling["shelvings"] or handling["state"] == "OOSRV"):
        return None
    rows = reader.logbook(alarm["stream"], handling["point"], _ROWS_SEARCHED)
    return next((row for row in reversed(rows) if row["what"] in _PUT_ASIDE), None)


def sections(alarms: Sequence[Alarm], which: str, words: Words) -> Iterator[dict[str, Any]]:
    """Yield the sections of the list; ``which`` is one of ``FILTERS``."""
    for name, group in groupby(alarms, key=section):
        if name not in FILTERS[which]:
            continue
        found = list(group)
        singly, floods = grouped.apart(found) if name == "unacknowledged" else (found, [])
        yield {
            "name": name,
            "title": words.phrase(f"section.{name}", name),
            "count": len(found),
            "rows": [row(one, words) for one in singly[:SHOWN_MAX]],
            "more": max(0, len(singly) - SHOWN_MAX),
            "groups": [_group(members, words) for members in floods],
        }


def row(alarm: Alarm, words: Words) -> dict[str, Any]:
    """Return an alarm as a row of the list."""
    moments, handling = words.moments, alarm["handling"]
    return {
        "stream": alarm["stream"],
        "number": alarm["number"],
        "priority": priority_of(alarm),
        "symbol": _symbol(alarm),
        "calls": section(alarm) == "unacknowledged",
        "sentence": _sentence(alarm, words),
        "since": moments.full(alarm["onset"]),
        "brief": moments.brief(alarm["onset"]),
        "age": moments.age(alarm["onset"]),
        "state": state(alarm, words),
        "shelved": shelving(handling, moments),
        "put_aside": _was_put_aside(alarm, words),
        "to_do": None if alarm["closed"] else printable(to_do(alarm, words.told), _TEXT_CHARS_MAX),
    }


def _was_put_aside(alarm: Alarm, words: Words) -> str | None:
    """Return who put the alarm aside, and why; of one that has returned, as what was before."""
    if (row := alarm.get("put_aside")) is None:
        return None
    line = _log_line(row, words)
    aside = alarm["handling"]["state"] in SUPPRESSED
    return line if aside else words.text("put_aside.before", line=line)


def _sentence(alarm: Alarm, words: Words) -> str:
    now_s = words.moments.now.timestamp()
    return printable(first_sentence(alarm, words.told, now_s), _TEXT_CHARS_MAX)


def state(alarm: Alarm, words: Words) -> str:
    """Return the state of an alarm in words."""
    if (handling := alarm["handling"]) is None:
        word = "active" if alarm["state"] == "opened" else "over"
        return words.phrase(f"state.{word}", word)
    return words.phrase(f"state.{handling['state']}", handling["told"])


def _symbol(alarm: Alarm) -> str:
    which = section(alarm)
    if which == "unacknowledged":
        return SYMBOLS[priority_of(alarm) if is_active(alarm) else "returned"]
    names = {"acknowledged": "acknowledged", "suppressed": "aside", "advisories": "advisory"}
    return SYMBOLS[names.get(which, "normal")]


def _group(members: Sequence[Alarm], words: Words) -> dict[str, Any]:
    """Return a flood of one stream; an acknowledgement covers exactly the members shown."""
    named = members[: grouped.SHOWN_MAX]
    return {
        "stream": members[0]["stream"],
        "title": machine_of(members[0]),
        "priority": priority_of(members[0]),
        "symbol": SYMBOLS[priority_of(members[0])],
        "count": len(members),
        "kinds": grouped.kinds(members, words.told),
        "rows": [row(one, words) for one in named],
        "members": [f"{one['number']}.{one['handling']['revision']}" for one in named],
        "more": len(members) - len(named),
    }


def read_one(reader: Reader, stream: str, number: int) -> Alarm:
    """Read one alarm with its logbook.

    Raises:
        NoSuchAlarm: it does not exist.

    """
    found = listed.one(reader, Reference(stream, number, None))
    return found | {"foretold": found["closed"] is None and _is_foretold(reader, stream)}


def _is_foretold(reader: Reader, stream: str) -> bool:
    """Whether there is a forecast of the stream now."""
    try:
        forecast = reader.status()["streams"].get(stream, {}).get("forecast")
    except StoreError:  # the agent has not stored a status yet
        return False
    return bool(forecast and not forecast.get("warm_up") and not forecast["refused"])


def detail(alarm: Alarm, words: Words) -> dict[str, Any]:
    """Return all that the view of one alarm shows."""
    handling = alarm["handling"]
    return row(alarm, words) | {
        "title": machine_of(alarm),
        "kind": alarm["kind"],
        "action": printable(to_do(alarm, words.told), _TEXT_CHARS_MAX),
        "help": alarm.get("help"),
        "facts": [
            (words.phrase(f"label.{key}", key), printable(fact, _TEXT_CHARS_MAX))
            for key, fact in facts(alarm, words.moments)
        ],
        "channels": list(_channels(alarm, words)),
        "back": back(alarm, words),
        "last_time": last_time(alarm, words),
        "similar": [_similar(one, words) for one in alarm["similar"]],
        "logbook": list(_logbook(alarm, words)),
        "revision": handling and handling["revision"],
        "choice": choice(handling),
        "hours": SHELVE_HOURS,
        "labels": LABELS,
        "chart": chart(alarm, words),
        "foretold": alarm["foretold"],
        "limit": wording.observed(alarm, words.told, 8),
    }


def _logbook(alarm: Alarm, words: Words) -> Iterator[str]:
    """Yield the rows of the logbook, the newest first."""
    for one in reversed(alarm["logbook"]):
        yield _log_line(one, words)


def _log_line(row: Mapping[str, Any], words: Words) -> str:
    return printable(row_text(row, words.moments), _TEXT_CHARS_MAX)


def _channels(alarm: Alarm, words: Words) -> Iterator[dict[str, str]]:
    told, total = words.told, sum(one["score"] or 0.0 for one in alarm["channels"])
    for one in alarm["channels"]:
        values = {
            key: told.measure(one[key], one["unit"]) if one.get(key) is not None else "–"
            for key in ("observed", "expected", "newest")
        }
        share = told.share((one["score"] or 0.0) / total) if total else ""
        yield {"title": title_of(one), "channel": one["channel"], "share": share} | values


def _similar(one: Mapping[str, Any], words: Words) -> dict[str, Any]:
    said = "; ".join(label_text(row, words.told) for row in one["said"])
    return {
        "stream": one["stream"],
        "number": one["number"],
        "onset": words.moments.brief(one["onset"]),
        "said": printable(said, _TEXT_CHARS_MAX) or words.phrase("similar.nothing_said", "–"),
    }


def choice(handling: Mapping[str, Any] | None) -> Choice:
    """Return what can be done about an alarm in its state; the agent decides in the end."""
    if handling is None:
        return Choice((), None)
    now = handling["state"]
    if now == "OOSRV":
        return Choice(("in-service",), "in-service")
    if now == "SHLVD":
        return Choice(("unshelve", "out-of-service"), "unshelve")
    verbs = ["out-of-service"] if now in SUPPRESSED else ["shelve", "out-of-service"]
    if now in UNACKNOWLEDGED:
        return Choice(("acknowledge", *verbs), "acknowledge")
    if now == "LATAK":
        return Choice(("reset", *verbs), "reset")
    if now == "ACKED":
        verbs.append("unacknowledge")
    return Choice(tuple(verbs), None) if now != "NORM" else Choice((), None)


def chart(alarm: Alarm, words: Words) -> dict[str, Any] | None:
    """Return which part of the stream's past the chart shows; None without a usable onset."""
    seconds = words.moments.between_s(alarm["onset"], alarm["closed"])
    if seconds is None:
        return None
    onset_s = unix_s(alarm["onset"])
    around_s = min(max(seconds, _AROUND_S[0]), _AROUND_S[1])
    return {
        "stream": alarm["stream"],
        "from_s": onset_s - around_s,
        "to_s": onset_s + min(seconds, _AROUND_S[1]) + around_s,
        "onset_s": onset_s,
        "closed_s": alarm["closed"] and unix_s(alarm["closed"]),
        "channels": [one["channel"] for one in alarm["channels"]][:4],
    }
