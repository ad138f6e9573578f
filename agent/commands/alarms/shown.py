"""One alarm for a person: advice, findings, certainty, similar alarms, a chart, and the logbook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.commands.alarms import drawn
from agent.commands.alarms.listed import priority_of
from agent.commands.alarms.moments import Moments
from agent.commands.alarms.table import reference, shelving, wrapped
from agent.handling.states import WORDS
from agent.handling.transition import AGENT, SAID
from agent.store.window import Seen
from agent.wording import lines as wording
from agent.wording.advice import to_do
from agent.wording.language import Language
from agent.wording.message import Message, Value, message_of
from agent.wording.sentence import first_sentence, title_of
from models.cells import cell
from models.errors import ConfigError, StoreError
from models.printable import printable
from models.shown import NO_VALUE

_POINTS: Final = 24  # of the chart: it must fit beside the names and values
_AROUND_S: Final = (60.0, 3600.0)  # least and most time that the chart shows before the onset
_LABEL_CHARS: Final = 11
_CHANNEL: Final = "  {:<24} {:>12} {:>12} {:>12}  {}"
_COLUMNS: Final = "channel worst expected newest share"
_NEXT: Final[Mapping[str, str]] = {
    "UNACK": "ack",
    "RTNUN": "ack",
    "LATUN": "ack",
    "LATAK": "reset",
    "SHLVD": "unshelve",
    "OOSRV": "in-service",
}

Alarm = Mapping[str, Any]


def lines(
    alarm: Alarm, moments: Moments, config_file: Path, blocks: bool, window: Seen | None
) -> Iterator[str]:
    """Yield the lines of the alarm.

    Args:
        alarm: With its handling, similar alarms and logbook.
        moments: Writes the times.
        config_file: Of the agent.
        blocks: Whether the terminal has block characters.
        window: The samples around the onset; None: they are read from the stream's history.

    """
    told = moments.told
    sentence = first_sentence(alarm, told, moments.now.timestamp())
    yield from wrapped(f"{reference(alarm)}: {sentence}", "")
    yield from wrapped(_text(told, "terminal.to_do", action=to_do(alarm, told)), "")
    if helped := wording.help_text(alarm):
        yield from wrapped(_text(told, "terminal.help", help=helped), "")
    yield ""
    yield from _facts(alarm, moments)
    yield from _channels(alarm, told)
    yield from _similar(alarm, moments)
    if window is None:
        yield from _chart(alarm, moments, config_file, blocks)
    else:
        yield ""
        yield from drawn.lines(window, alarm, moments)
    yield from _logbook(alarm, moments)
    if handling := alarm["handling"]:
        if (verb := _NEXT.get(handling["state"])) is not None:
            yield ""
            command = f"fieldwatch-agent alarms {verb} {reference(alarm)}"
            yield printable(_text(told, "terminal.next", command=command))


def _text(told: Language, key: str, **parameters: Value) -> str:
    return told.text(Message(key, parameters))


def _facts(alarm: Alarm, moments: Moments) -> Iterator[str]:
    """Yield a line for each fact that is known, with its name in a column before it."""
    told = moments.told
    named = [(told.phrase(f"label.{key}", key), fact) for key, fact in facts(alarm, moments)]
    width = max(_LABEL_CHARS, *(len(label) + 2 for label, _ in named))
    for label, fact in named:
        yield from wrapped(f"{label:<{width}}{fact}", "", " " * width)


def facts(alarm: Alarm, moments: Moments) -> Iterator[tuple[str, str]]:
    """Yield the facts that are known, each with the key of its name."""
    handling, told = alarm["handling"], moments.told
    yield "state", _state(alarm, told)
    if handling:
        yield "priority", _priority(alarm, told)
    findings = {
        "sure": wording.how_sure(alarm, told),
        "course": wording.course(alarm, told),
        "during": wording.during(alarm, told),
        "outlook": wording.outlook(alarm, moments.soon),
        "suspect": wording.suspect(alarm, told),
        "operating": wording.operating(alarm, told),
    }
    yield from ((key, found) for key, found in findings.items() if found)
    yield "onset", moments.full(alarm["onset"])
    yield "opened", moments.full(alarm["opened"])
    for key, time in (("worst", "worst_at"), ("newest", "newest_at"), ("closed", "closed")):
        if alarm.get(time):
            yield key, moments.full(alarm[time])
    if (put_aside := shelving(handling, moments)) is not None:
        yield "shelved", put_aside
    if handling and handling["raised"] > 1:
        yield "raised", _text(told, "show.raised", count=str(handling["raised"]))
    if handling:
        yield from _marks(handling, told)
    if found := wording.found_by(alarm, told):
        yield "found_by", found


def _priority(alarm: Alarm, told: Language) -> str:
    grades = (priority_of(alarm), alarm.get("severity"), alarm["handling"]["consequence"])
    words = [told.phrase(f"grade.{one}", str(one or NO_VALUE)) for one in grades]
    return _text(told, "show.priority", priority=words[0], severity=words[1], consequence=words[2])


def _marks(handling: Mapping[str, Any], told: Language) -> Iterator[tuple[str, str]]:
    """Yield what else is special about an alarm's handling."""
    if handling["advisory"]:
        yield "advisory", told.phrase("mark.advisory", "an advisory")
    if handling["chattering"]:
        yield "chatters", _text(told, "mark.chatters", count=str(handling["chattering"]))
    if handling["grouped"]:
        yield "flood", told.phrase("mark.flood", "a flood")


def _state(alarm: Alarm, told: Language) -> str:
    if (handling := alarm["handling"]) is None:
        word = "active" if alarm["state"] == "opened" else "over"
        return told.phrase(f"state.{word}", word)
    said = told.phrase(f"state.{handling['state']}", handling["told"])
    if handling["condition"] == "unknown":
        said = _text(told, "show.unwatched", state=said)
    return f"{said} ({handling['state']})"


def _channels(alarm: Alarm, told: Language) -> Iterator[str]:
    if not alarm["channels"]:
        return
    yield ""
    head = told.phrase("terminal.columns", _COLUMNS).split()
    fitting = head if len(head) == len(_COLUMNS.split()) else _COLUMNS.split()
    yield _CHANNEL.format(*map(printable, fitting)).rstrip()
    total = sum(one["score"] or 0.0 for one in alarm["channels"])
    for one in alarm["channels"]:
        name = f"{title_of(one)} {one['unit']}".strip()
        found = (one.get(key) for key in ("observed", "expected", "newest"))
        values = ["-" if value is None else told.number(value) for value in found]
        share = told.share((one["score"] or 0.0) / total) if total else ""
        yield _CHANNEL.format(cell(name, 24), *map(cell, values), printable(share)).rstrip()
    if quality := alarm.get("quality"):
        names = ", ".join(f"{channel} {what}" for channel, what in quality.items())
        yield from wrapped(_text(told, "terminal.not_measured", channels=names), "  ")


def _similar(alarm: Alarm, moments: Moments) -> Iterator[str]:
    """Yield the earlier alarms like this one, each with what people said of it."""
    if not alarm["similar"]:
        return
    told = moments.told
    yield ""
    yield printable(told.phrase("terminal.similar", "similar alarms"))
    for one in alarm["similar"]:
        said = "; ".join(label_text(row, told) for row in one["said"])
        text = said or told.phrase("similar.nothing_said", "-")
        name = f"{one['stream']}#{one['number']}"
        yield from wrapped(f"{name}  {moments.brief(one['onset'])}  {text}", "  ", "      ")


def label_text(row: Mapping[str, Any], told: Language) -> str:
    """Return a label or a note of a person."""
    what = told.phrase(f"row.{row['what']}", SAID.get(row["what"], row["what"]))
    if row["label"]:
        what = told.phrase(f"labelled.{row['label']}", row["label"])
    key = "similar.said_why" if row["why"] else "similar.said"
    parameters = {"what": what, "by": row["by"]} | ({"why": row["why"]} if row["why"] else {})
    return _text(told, key, **parameters)


def _chart(alarm: Alarm, moments: Moments, config_file: Path, blocks: bool) -> Iterator[str]:
    """Yield a chart of signals and score around the onset, if the store has them."""
    from agent.commands import history  # loads numpy, which the list does not need

    onset, seconds = moments.of(alarm["onset"]), moments.between_s(alarm["onset"], alarm["closed"])
    if onset is None or seconds is None:
        return
    onset_s, around_s = onset.timestamp(), min(max(seconds, _AROUND_S[0]), _AROUND_S[1])
    names = [one["channel"] for one in alarm["channels"]][:4]
    try:
        document = history.history(
            config_file, alarm["stream"], onset_s - around_s, onset_s + around_s, _POINTS, names
        )
    except (ConfigError, StoreError):  # no history of this stream or channel
        return
    if not document["points"]:
        return
    yield ""
    told = moments.told
    begin, end = moments.full(document["from"]), moments.full(document["to"])
    yield from wrapped(_text(told, "terminal.around", begin=begin, end=end), "")
    score = printable(told.phrase("terminal.score", "score"), 26)
    to = printable(told.phrase("chart.to", "to"), 8)
    for line in history.chart(document, blocks, score, to):
        yield f"  {line}"


def _logbook(alarm: Alarm, moments: Moments) -> Iterator[str]:
    if not alarm["logbook"]:
        return
    yield ""
    yield printable(moments.language.phrase("terminal.logbook", "logbook"))
    for row in alarm["logbook"]:
        yield from wrapped(row_text(row, moments), "  ", "      ")


def _mark(row: Mapping[str, Any], told: Language) -> str:
    """Return the mark of a transition; rows of older versions have none."""
    if row.get("advisory"):
        return told.phrase("row.advisory", ", an advisory")
    if row.get("chattering"):
        return _text(told, "row.chattering", count=str(row["chattering"]))
    return told.phrase("row.grouped", ", in a flood") if row.get("grouped") else ""


def why_of(row: Mapping[str, Any], told: Language) -> str | None:
    """Return the reason of a transition: the agent's in the reader's language, any other as it is.

    Rows of older versions have all of them as English text.
    """
    if reason := row.get("reason"):
        return told.text(message_of(reason))
    why: str | None = row["why"]
    return why


def row_text(row: Mapping[str, Any], moments: Moments) -> str:
    """Return a row of the logbook in one line."""
    told = moments.language
    said = told.phrase(f"row.{row['what']}", SAID.get(row["what"], row["what"]))
    if row["label"]:
        said = f"{said} {told.phrase('labelled.' + row['label'], row['label'])}"
    if row.get("begin"):  # absent in rows of older versions
        said = f"{said}, {moments.brief(row['begin'])} - {moments.brief(row['end'])}"
    if row["what"] == "raised":
        said += _mark(row, told)
    if row["by"] != AGENT:
        said = _text(told, "row.by", text=said, by=row["by"])
    if row["before"] != row["after"]:
        state = told.phrase(f"state.{row['after']}", WORDS.get(row["after"], row["after"]))
        said = _text(told, "row.now", text=said, state=state)
    if why := why_of(row, told):
        said = _text(told, "row.why", text=said, why=why)
    return f"{moments.full(row['at'])}  #{row['number']} {said}"
