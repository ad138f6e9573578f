"""How it went when there was such an alarm last time, and for how long this one has been over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.commands.alarms.moments import lasting
from agent.commands.alarms.shown import label_text
from agent.page.words import Words
from models.printable import printable
from models.times import unix_s

_BEFORE_S: Final = 120.0  # shown before the onset
_AFTER_S: Final = (120.0, 3600.0)  # least and most time shown after it
_TEXT_CHARS_MAX: Final = 2000
_CHANNELS_MAX: Final = 4
_NORMAL: Final = "normal"

Alarm = Mapping[str, Any]


def last_time(alarm: Alarm, words: Words) -> dict[str, Any] | None:
    """Return the newest earlier alarm like this one that is over, and which curves to compare.

    None: there is none.
    """
    for one in alarm["similar"]:
        took_s = words.moments.between_s(one["onset"], one["closed"])
        if one["closed"] is not None and took_s is not None:
            return _told(one, took_s, words) | {"chart": _chart(alarm, one, took_s, words)}
    return None


def _told(one: Alarm, took_s: float, words: Words) -> dict[str, Any]:
    return {
        "number": one["number"],
        "onset": words.moments.full(one["onset"]),
        "took": lasting(took_s, words.moments.language),
        "said": [printable(label_text(row, words.told), _TEXT_CHARS_MAX) for row in one["said"]],
    }


def _chart(alarm: Alarm, one: Alarm, took_s: float, words: Words) -> dict[str, Any] | None:
    """Return the curves, aligned at the onsets; None without channels or a usable onset."""
    channels = [channel["channel"] for channel in alarm["channels"]][:_CHANNELS_MAX]
    seconds = words.moments.between_s(alarm["onset"], alarm["closed"])
    if seconds is None or not channels:
        return None
    return {
        "onset_s": unix_s(alarm["onset"]),
        "then_s": unix_s(one["onset"]),
        "before_s": _BEFORE_S,
        "after_s": min(max(seconds, took_s, _AFTER_S[0]), _AFTER_S[1]),
        "channels": channels,
    }


def back(alarm: Alarm, words: Words) -> str | None:
    """Return for how long the machine has been back; None: it is not, or nobody can tell."""
    handling = alarm["handling"]
    ended = alarm.get("ended")  # absent in alarms of older versions
    if ended != _NORMAL or handling is None or handling["condition"] != _NORMAL:
        return None
    key = "anomaly" if alarm["kind"] == "anomaly" else "other"
    return words.text(f"alarm.back.{key}", age=words.moments.age(alarm["closed"]))
