"""The lines below the first sentence of an alarm: how sure, whether it can wait, what to check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.wording.language import Language
from agent.wording.message import Message, Value
from agent.wording.sentence import Alarm, title_of

CHANNELS_MAX: Final = 4  # named in a line
_DIGEST_CHARS: Final = 8


def how_sure(alarm: Alarm, told: Language) -> str:
    """Return how sure the alarm is."""
    if alarm["kind"] == "limit_passed":
        return told.text(Message("sure.limit"))
    if limit := alarm.get("limit"):
        return told.text(Message("sure.forecast", {"chance_share": limit["probability"]}))
    if alarm["kind"] != "anomaly":
        return told.text(Message("sure.certain"))
    score = told.text(Message("sure.score", {"score": told.number(alarm["score"], ".1f")}))
    if rarity := alarm.get("rarity"):
        return told.text(_rarity(rarity, score))
    if probability := alarm.get("probability"):
        return told.text(
            Message("sure.samples", {"score": score, "count": told.whole(1 / probability)})
        )
    return score


def _rarity(rarity: Mapping[str, Any], score: str) -> Message:
    every_s, seen_s = rarity["every_s"], rarity["seen_s"]
    known: dict[str, Value] = {"score": score, "every_s": every_s}
    if rarity["at_least"]:
        return Message("sure.rarer", known | {"seen_s": seen_s})
    if seen_s is not None and every_s > seen_s:
        return Message("sure.beyond", known | {"seen_s": seen_s})
    return Message("sure.once", known)


def outlook(alarm: Alarm, told: Language) -> str | None:
    """Return whether the alarm can wait until the next shift; None: the question is not open."""
    found = alarm.get("outlook")
    if found is None or alarm["closed"] is not None:
        return None
    if found["channel"] is None:
        return told.text(Message("outlook.no_limit"))
    if found["made_at"] is None and found["answer"] != "passed":
        return told.text(Message("outlook.no_forecast"))
    known = {
        "shift_at": found["shift_at"],
        "channel": found.get("title") or found["channel"],
        "limit": found["limit"],
        "unit": found["unit"],
        "earliest_at": found["earliest_at"],
        "median_at": found["median_at"],
        "until_at": found["until_at"],
    }
    return told.text(Message(f"outlook.{_answer(found)}", known))


def _answer(found: Mapping[str, Any]) -> str:
    answer = str(found["answer"])
    if answer == "unknown":
        return "short"
    return "doubtful_median" if answer == "doubtful" and found["median_at"] else answer


def suspect(alarm: Alarm, told: Language) -> str | None:
    """Return whether to check the sensor or the machine first; None: nothing suggests either."""
    found = alarm.get("suspect")
    if found is None:
        return None
    names = told.joined([one["title"] for one in found["neighbours"][:CHANNELS_MAX]])
    if found["what"] == "machine":
        return told.text(Message("suspect.machine", {"neighbours": names}))
    measured = {
        "value": told.number(found["expected"], ".3g"),
        "spread": told.number(found["spread"], ".1g"),
        "unit": found["unit"],
    }
    known = {
        "channel": found["title"],
        "neighbours": names,
        "expected": told.text(Message("plus_minus", measured)),
    }
    return told.text(Message("suspect.sensor", known))


def course(alarm: Alarm, told: Language) -> str | None:
    """Return whether the alarm is of a spike or of a persistent deviation; None: not known."""
    found = alarm.get("course")
    return found and told.text(Message(f"course.{found}"))


def during(alarm: Alarm, told: Language) -> str | None:
    """Return which alarm was open when this further fault began; None: none was."""
    number = alarm.get("during")
    return number and told.text(Message("during.alarm", {"number": str(number)}))


def operating(alarm: Alarm, told: Language) -> str | None:
    """Return the operating point at the onset, and whether training covered it; None: unknown."""
    found = alarm.get("operating")
    if not found or not found["channels"]:
        return None
    point = ", ".join(_point(one, told) for one in found["channels"][:CHANNELS_MAX])
    keys = {True: "covered", False: "outside", None: "unknown"}
    return told.text(Message(f"operating.{keys[found['covered']]}", {"point": point}))


def _point(channel: Mapping[str, Any], told: Language) -> str:
    known = {"channel": title_of(channel), "value": told.measure(channel["value"], channel["unit"])}
    if channel["low"] is None or channel["high"] is None:
        return told.text(Message("operating.channel", known))
    ends = {"low": told.number(channel["low"]), "high": told.number(channel["high"])}
    return told.text(Message("operating.range", known | ends))


def found_by(alarm: Alarm, told: Language) -> str | None:
    """Return the detector and the bundle that found the alarm; None: an older version stored it."""
    found = alarm.get("found_by")
    if not found:
        return None
    known = {"detector": found["detector"], "bundle": found["bundle"]}
    if found["bundle"] is None:
        return told.text(Message("found.detector", {"detector": found["detector"]}))
    if found["digest"] is None:
        return told.text(Message("found.by", known))
    digest = found["digest"][:_DIGEST_CHARS]
    return told.text(Message("found.digest", known | {"digest": digest}))


def help_text(alarm: Alarm) -> str | None:
    """Return the plant's own help and the link to it; None: there is none."""
    found = alarm.get("help")
    if not found:
        return None
    return " ".join(part for part in (found["text"], found["link"]) if part)


def observed(alarm: Alarm, told: Language, channels_max: int) -> str:
    """Return the observed and expected values of the first channels, and how many others there are.

    An alarm of a limit has them in its first sentence; then it is empty.
    """
    channels = alarm["channels"]
    if alarm.get("limit"):
        return ""
    found = "; ".join(_channel(alarm, one, told) for one in channels[:channels_max])
    count = len(channels) - channels_max
    if count <= 0:
        return found
    key = "terminal.others" if count > 1 else "terminal.other"
    return told.text(
        Message(key, {"found": found, "count": str(count)} if count > 1 else {"found": found})
    )


def _channel(alarm: Alarm, channel: Mapping[str, Any], told: Language) -> str:
    known = {
        "channel": title_of(channel),
        "observed": told.measure(channel["observed"], channel["unit"]),
    }
    if channel["observed"] is None or channel["expected"] is None or alarm["kind"] == "stuck":
        return told.text(Message("terminal.channel_alone", known))
    key = "terminal.channel_level" if channel.get("level") else "terminal.channel"
    return told.text(Message(key, known | {"expected": told.number(channel["expected"])}))
