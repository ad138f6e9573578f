"""Alarms: events that a person must act on, as stored, as sent, and as read.

Imports no numpy, so that the ``alarms`` command starts at once on a small gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from models.times import iso_time

if TYPE_CHECKING:
    from models.messages import Event, LimitForecast

ACTIONS = {
    "anomaly": "look at the machine: the channels named moved as they did not in normal operation",
    "stuck": "check the sensor: its value does not change any more",
    "missing": "check the sensor and its cable: it gives no usable value",
    "silent": "check the device, its cable and power: nothing comes from it",
    "limit": "take load off the machine, and plan the work that it needs",
}


def nothing_usable(counts: Mapping[str, int], seconds: float, last: str) -> str:
    """Return what to do about a silent stream whose input brings lines that cannot be used.

    ``counts``: of rejects by cause, in so many seconds; ``last``: one of them.
    """
    a_minute = 60 / max(seconds, 60.0)
    said = ", ".join(f"{max(1, round(n * a_minute))} {cause}" for cause, n in counts.items())
    return (
        "check the format of the input and the device's settings: nothing usable comes,"
        f" {said} a minute, last: {last}"
    )


def alarm_document(
    stream: str,
    event: Event,
    units: Mapping[str, str],
    quality: Mapping[str, str],
    action: str | None = None,
) -> dict[str, Any]:
    """Return the alarm as JSON data: what the store keeps and central ops receives.

    ``quality``: of the channels that were not measured in the sample that opened the event;
    ``action``: what to do, if not the usual of its kind.
    """
    return {
        "stream": stream,
        "number": event.number,
        "kind": event.kind,
        "state": event.state,
        "onset": iso_time(event.onset),
        "opened": iso_time(event.opened),
        "closed": None if event.closed is None else iso_time(event.closed),
        "score": _short(event.score),
        "probability": _short(event.probability),
        "severity": event.severity,
        "action": action or ACTIONS[event.kind],
        "channels": [
            {
                "channel": channel.channel,
                "unit": units[channel.channel],
                "score": _short(channel.score),
                "observed": _short(channel.observed),
                "expected": _short(channel.expected),
            }
            for channel in event.channels
        ],
        "quality": dict(quality),
        "limit": event.limit and limit_document(event.limit),
    }


def limit_document(limit: LimitForecast) -> dict[str, Any]:
    """Return when a limit will be passed as JSON data, for alarms and ``status``."""
    return {
        "side": limit.side,
        "level": limit.level,
        "value": limit.value,
        "unit": limit.unit,
        "made": iso_time(limit.made),
        "probability": _short(limit.probability),
        "median_s": _short(limit.median_s),
        "earliest_s": _short(limit.earliest_s),
        "latest_s": _short(limit.latest_s),
        "horizon_s": limit.horizon_s,
    }


def gravest_first(alarms: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the alarms in the order to look at them: by severity, the rarer score first."""
    return sorted(alarms, key=_gravity)


def _gravity(alarm: Mapping[str, Any]) -> tuple[int, float, float]:
    probability = alarm.get("probability")
    # alarms stored before there were severities come after those that have one
    severity = _SEVERITIES.index(alarm["severity"]) if "severity" in alarm else len(_SEVERITIES)
    return severity, 1.0 if probability is None else float(probability), -float(alarm["score"])


_SEVERITIES = ("high", "medium", "low")


def _short(value: float | None) -> float | None:
    """Six digits: more is noise of float32, and has to be sent and read."""
    return None if value is None else float(f"{value:z.6g}")


def describe(alarm: Mapping[str, Any]) -> str:
    """Return the alarm in one line for a person; times are UTC."""
    until = f" until {alarm['closed']}" if alarm["closed"] else ", still open"
    channels = "; ".join(_channel(alarm["kind"], channel) for channel in alarm["channels"])
    if alarm.get("limit"):  # alarms stored before there were forecasts have none
        first = alarm["channels"][0]
        channels = f"{first['channel']} {time_to_limit(alarm['limit'])}"
    what = f" (score {alarm['score']:z.1f})" if alarm["kind"] == "anomaly" else ""
    number = "(not stored yet)" if alarm["number"] is None else f"#{alarm['number']}"
    grave = f" {alarm['severity']}" if "severity" in alarm else ""
    return (
        f"{alarm['stream']} {number}{grave} {alarm['kind']}{what}"
        f" since {alarm['onset']}{until}"
        + (f": {channels}" if channels else "")
        + _not_measured(alarm)
        + f". To do: {alarm['action']}"
    )


def _not_measured(alarm: Mapping[str, Any]) -> str:
    """Say which values were made up or missing when the alarm opened; what it is of, is known."""
    missing = {channel["channel"] for channel in alarm["channels"] if alarm["kind"] == "missing"}
    found = [
        f"{channel} {quality}"
        for channel, quality in alarm.get("quality", {}).items()  # none of an older agent's
        if channel not in missing
    ]
    return f" (not measured then: {', '.join(found)})" if found else ""


def time_to_limit(limit: Mapping[str, Any]) -> str:
    """Say when a limit will be passed, for a person; counted from the forecast's last step."""
    name = f"{limit['value']:g} {limit['unit']}".rstrip() + f" ({limit['side']} {limit['level']})"
    chance = f"chance {_percent(limit['probability'])} within {span(limit['horizon_s'])}"
    median = limit["median_s"]
    if median == 0:
        return f"has passed {name}"
    if median is None:
        return f"may pass {name}, {chance}"
    return f"will pass {name} in {span(median)} (80 %: {_interval(limit)}), {chance}"


def _interval(limit: Mapping[str, Any]) -> str:
    first = span(limit["earliest_s"])
    if limit["latest_s"] is None:
        return f"{first} or later than {span(limit['horizon_s'])}"
    last = span(limit["latest_s"])
    number, unit = first.split()
    return f"{number}-{last}" if last.endswith(f" {unit}") else f"{first} to {last}"


def span(seconds: float) -> str:
    """Return a stretch of time in the unit that a person would choose.

    >>> span(90), span(5400), span(11520)
    ('90 s', '90.0 min', '3.2 h')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _percent(chance: float) -> str:
    """Nothing that is forecast is certain: 0 % and 100 % are for what has been seen."""
    percent = f"{100 * chance:.0f} %"
    if chance < 1 and percent == "100 %":
        return "over 99 %"
    return "under 1 %" if chance > 0 and percent == "0 %" else percent


def _channel(kind: str, channel: Mapping[str, Any]) -> str:
    observed, expected, unit = channel["observed"], channel["expected"], channel["unit"]
    if observed is None:
        return f"{channel['channel']} no value"
    if kind == "stuck" or expected is None:
        return f"{channel['channel']} {observed:z.4g} {unit}"
    return f"{channel['channel']} {observed:z.4g} {unit}, expected {expected:z.4g}"
