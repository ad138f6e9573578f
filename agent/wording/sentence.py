"""The first sentence of an alarm: which machine, what is wrong with it, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.wording.language import Language, language
from agent.wording.message import Message, Value, message_of
from models.times import unix_s

Alarm = Mapping[str, Any]

_RISES: Final = {"high": "rises", "low": "falls"}
_ABOVE: Final = {"high": "above", "low": "below"}
_SILENT: Final = ("device", "link", "unusable")
_GAPS: Final = ("device", "link", "agent", "times")


def plain_name(name: str) -> str:
    """Return a name as words.

    >>> plain_name("discharge_pressure")
    'discharge pressure'
    """
    return name.replace("_", " ")


def machine_of(alarm: Alarm) -> str:
    """Return the display name of an alarm's stream."""
    return str(alarm.get("title") or plain_name(str(alarm["stream"])))


def title_of(channel: Mapping[str, Any]) -> str:
    """Return the display name of a channel."""
    return str(channel.get("title") or plain_name(str(channel["channel"])))


def first_sentence(
    alarm: Alarm, language_: Language | str = "en", now_s: float | None = None
) -> str:
    """Return the first sentence of an alarm in a language.

    Args:
        alarm: The alarm as it is stored and sent.
        language_: The language, or the name of a built-in one.
        now_s: The time of the reader, Unix seconds. It adds how long an open alarm has lasted.

    """
    told = language(language_) if isinstance(language_, str) else language_
    message = present(alarm, now_s)
    parameters = dict(message.parameters)
    if level := parameters.get("level"):  # of a limit, a word of the language
        parameters["level"] = told.text(Message(f"level.{level}"))
    text = told.text(Message(message.key, parameters))
    if number := alarm.get("during"):
        text = told.text(Message("sentence.further", {"sentence": text, "number": str(number)}))
    end_s = now_s if alarm["closed"] is None else _seconds(alarm["closed"])
    onset_s = _seconds(alarm["onset"])
    if end_s is None or onset_s is None or alarm["kind"] == "gap":
        return text
    key = "sentence.for" if alarm["closed"] is None else "sentence.over"
    return told.text(Message(key, {"sentence": text, "lasted_s": max(end_s - onset_s, 0.0)}))


def present(alarm: Alarm, now_s: float | None = None) -> Message:
    """Return the message of the first sentence, as the alarm has it or as its data demand it.

    The time that a forecast leaves is counted from ``now_s``.
    """
    stored = alarm.get("text")
    message = message_of(stored) if stored else sentence(alarm)
    if alarm["kind"] != "limit" or now_s is None or alarm["closed"] is not None:
        return message
    left_s = _left_s(alarm["limit"], now_s)
    if left_s is None or not message.key.endswith("_in"):
        return message
    if left_s <= 0:
        return Message(message.key.removesuffix("_in") + "_now", message.parameters)
    return message._replace(parameters={**message.parameters, "left_s": left_s})


def sentence(alarm: Alarm) -> Message:
    """Return the message of the first sentence, without a duration."""
    kind = str(alarm["kind"])
    build = {
        "anomaly": _anomaly,
        "limit": _limit,
        "limit_passed": _limit,
        "silent": _silent,
        "gap": _gap,
    }.get(kind)
    if build is not None:
        return build(alarm)
    if kind in ("stuck", "missing"):
        return _sensor(alarm, kind)
    return Message("other", {"machine": machine_of(alarm), "kind": plain_name(kind)})


def _anomaly(alarm: Alarm) -> Message:
    machine: dict[str, Value] = {"machine": machine_of(alarm)}
    if not alarm["channels"]:
        return Message("anomaly.plain", machine)
    worst = alarm["channels"][0]
    observed, expected = worst["observed"], worst["expected"]
    known = machine | {"channel": title_of(worst)}
    if observed is None or expected is None or observed == expected:
        return Message("anomaly.unusual", known)
    side = "lower" if observed < expected else "higher"
    if worst.get("level"):
        return Message(f"anomaly.level_{side}", known)
    point = _operating_channel(alarm)
    if point is None or point["channel"] == worst["channel"]:
        return Message(f"anomaly.{side}", known)
    return Message(f"anomaly.{side}_for", known | {"point": title_of(point)})


def _operating_channel(alarm: Alarm) -> Mapping[str, Any] | None:
    """Return the first channel that sets the operating point; None: none is known."""
    operating = alarm.get("operating")
    return operating["channels"][0] if operating and operating["named"] else None


def _sensor(alarm: Alarm, kind: str) -> Message:
    machine: dict[str, Value] = {"machine": machine_of(alarm)}
    if len(alarm["channels"]) != 1:
        return Message(f"{kind}.plain", machine)
    return Message(f"{kind}.channel", machine | {"channel": title_of(alarm["channels"][0])})


def _silent(alarm: Alarm) -> Message:
    cause = alarm.get("cause")
    key = f"silent.{cause if cause in _SILENT else 'device'}"
    return Message(key, {"machine": machine_of(alarm)})


def _gap(alarm: Alarm) -> Message:
    cause = alarm.get("cause")
    begin_s, end_s = _seconds(alarm["onset"]), _seconds(alarm["closed"])
    lasted_s = None if begin_s is None or end_s is None else end_s - begin_s
    key = f"gap.{cause if cause in _GAPS else 'plain'}"
    return Message(key, {"machine": machine_of(alarm), "lasted_s": lasted_s})


def _limit(alarm: Alarm) -> Message:
    limit, channel = alarm["limit"], alarm["channels"][0]
    known: dict[str, Value] = {
        "machine": machine_of(alarm),
        "channel": title_of(channel),
        "limit": limit["value"],
        "unit": limit["unit"],
        "level": limit["level"],
    }
    if "worst" in limit:
        return Message(f"limit_passed.{_ABOVE.get(limit['side'], 'above')}", known)
    key = f"limit.{_RISES.get(limit['side'], 'rises')}"
    median_s = limit["median_s"]
    if median_s is None:
        return Message(key, known)
    if median_s <= 0:
        return Message(f"{key}_now", known)
    return Message(f"{key}_in", known | {"left_s": median_s})


def _left_s(limit: Mapping[str, Any], now_s: float) -> float | None:
    """Return the time from ``now_s`` until a limit is passed with a chance of 50 %."""
    made_s = _seconds(limit.get("made"))
    if made_s is None or limit.get("median_s") is None:
        return None
    return float(made_s + limit["median_s"] - now_s)


def _seconds(text: str | None) -> float | None:
    """Return the Unix seconds of a time; None if it is not a time, in a file of other software."""
    if text is None:
        return None
    try:
        return unix_s(text)
    except (ValueError, OverflowError):
        return None
