"""Whether an alarm can wait until the next shift: the forecasts of limits against its start.

A forecast says by when a limit is passed with a chance of 10 % (earliest) and 50 % (median):

    the limit is passed                                  passed
    median before the shift                              does_not_wait
    earliest before the shift                            doubtful
    earliest after the shift, or not within a forecast
    that reaches until the shift                         waits
    none of these, no limit or no forecast               unknown

This does no I/O and reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from models.times import iso_time, unix_s

KINDS: Final = ("anomaly", "limit", "limit_passed")  # of alarms for which the question is asked

_OF_THE_FORECAST: Final = (
    "made",
    "probability",
    "earliest_s",
    "median_s",
    "latest_s",
    "horizon_s",
)

Limit = Mapping[str, Any]  # as in ``LimitWatch.document``


def outlook(
    alarm: Mapping[str, Any],
    limits: Sequence[Limit],
    titles: Mapping[str, str],
    now_s: float,
    shift_s: float,
) -> dict[str, Any]:
    """Return the outlook of an alarm as JSON data.

    Args:
        alarm: The alarm as JSON data.
        limits: The stream's limits, each with the newest forecast of it, if there is one.
        titles: Display names of channels.
        now_s: The time now, Unix seconds. A forecast that ended before is none.
        shift_s: Start of the next shift, Unix seconds.

    """
    limit = most_urgent([_still(one, now_s) for one in _relevant(alarm, limits)])
    if limit is None:
        return _document(None, titles, shift_s, "unknown")
    return _document(limit, titles, shift_s, _answer(alarm, limit, shift_s))


def _relevant(alarm: Mapping[str, Any], limits: Iterable[Limit]) -> list[Limit]:
    """Return the limits that matter for an alarm: its own channel's and side's, or all."""
    own = alarm.get("limit")
    if not own:
        return list(limits)
    channel = alarm["channels"][0]["channel"]
    return [one for one in limits if one["channel"] == channel and one["side"] == own["side"]]


def _still(limit: Limit, now_s: float) -> Limit:
    """Return a limit; without its forecast, if that is over."""
    if limit["made"] is None or unix_s(limit["made"]) + limit["horizon_s"] >= now_s:
        return limit
    return {**limit, **dict.fromkeys(_OF_THE_FORECAST)}


def most_urgent(limits: Sequence[Limit]) -> Limit | None:
    """Return the limit that is passed first; critical ones come before warnings.

    Those with a forecast come before those without.
    """
    return min(limits, key=_urgency, default=None)


def _urgency(limit: Limit) -> tuple[bool, bool, float, float]:
    earliest, probability = limit["earliest_s"], limit["probability"]
    return (
        limit["made"] is None,
        limit["level"] != "critical",
        math.inf if earliest is None else float(earliest),
        -float(probability or 0.0),
    )


def _answer(alarm: Mapping[str, Any], limit: Limit, shift_s: float) -> str:
    own = alarm.get("limit") or {}
    if "worst" in own and own["level"] == limit["level"]:  # it is passed, as measured
        return "passed"
    if limit["made"] is None:
        return "unknown"
    made_s = unix_s(limit["made"])
    if limit["median_s"] == 0:
        return "passed"
    if _before(made_s, limit["median_s"], shift_s):
        return "does_not_wait"
    if _before(made_s, limit["earliest_s"], shift_s):
        return "doubtful"
    reaches = limit["earliest_s"] is not None or made_s + limit["horizon_s"] >= shift_s
    return "waits" if reaches else "unknown"


def _before(made_s: float, after_s: float | None, shift_s: float) -> bool:
    return after_s is not None and made_s + after_s < shift_s


def _document(
    limit: Limit | None, titles: Mapping[str, str], shift_s: float, answer: str
) -> dict[str, Any]:
    known = limit or {}
    channel = known.get("channel")
    return {
        "answer": answer,
        "shift_at": iso_time(shift_s),
        "made_at": known.get("made"),
        "channel": channel,
        "title": None if channel is None else titles.get(channel, channel.replace("_", " ")),
        "side": known.get("side"),
        "level": known.get("level"),
        "limit": known.get("value"),
        "unit": known.get("unit"),
        "earliest_at": _at(known, "earliest_s"),
        "median_at": _at(known, "median_s"),
        "until_at": _at(known, "horizon_s"),
        "probability": known.get("probability"),
    }


def _at(limit: Limit, key: str) -> str | None:
    if limit.get("made") is None or limit.get(key) is None:
        return None
    return iso_time(unix_s(limit["made"]) + limit[key])


_MADE_ANEW: Final = ("made_at", "until_at", "probability")  # change with each forecast


def says_the_same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two outlooks differ only in what each forecast changes."""
    if one is None or other is None:
        return one is other
    if (one["made_at"] is None) != (other["made_at"] is None):
        return False
    return all(one[key] == other[key] for key in one if key not in _MADE_ANEW)
