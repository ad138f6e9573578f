"""Alarms, on which a person must act: their stored and sent form, and their text for people.

This imports no numpy, so that the ``alarms`` command starts at once on a small gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.alarms.context import Context
from agent.wording import advice
from agent.wording.language import ENGLISH, Language
from agent.wording.message import Message
from agent.wording.sentence import sentence
from models.shown import NO_VALUE, short, shown
from models.times import iso_time

if TYPE_CHECKING:
    from models.messages import Event, LimitForecast, LimitPassed

# words by the side of a limit: direction of a forecast, its future, position of a passed value, and
# its worst value; a stored alarm from other software may have any side
_RISE = {"high": "rise above", "low": "fall below"}
_ABOVE = {"high": "above", "low": "below"}
_HIGHEST = {"high": "highest", "low": "lowest"}


class Reason(NamedTuple):
    """The cause of an alarm, and the advice for it."""

    cause: str | None  # of silent and gap: agent, link, device, times, unusable
    action: str  # what to do, in English or in the words of the configuration
    advice: Message | None = None  # the same for any language; None: in the plant's own words

    def document(self) -> dict[str, Any]:
        """Return the reason as the keys of an alarm."""
        told = self.advice and self.advice.document()
        return {"cause": self.cause, "action": self.action, "advice": told}


def reason(cause: str | None, told: Message) -> Reason:
    """Return a reason with an advice in our words."""
    return Reason(cause, ENGLISH.text(told), told)


class Newest(NamedTuple):
    """A stream's newest sample, in contrast to an alarm's worst one."""

    time: float  # Unix seconds
    values: Mapping[str, float | None]  # of each channel, in its unit; None: no value


_OF_THE_MACHINE: Final = ("anomaly", "limit", "limit_passed")  # kinds with an operating point
ACCEPTED: Final = "accepted"  # a way to end: the values are accepted as the new normal
SILENT: Final = reason("device", Message("advice.silent"))


def link_lost(lost: str) -> Reason:
    """Return the reason for a silence; ``lost`` names the input without a link, and the cause."""
    return reason("link", Message("advice.link", {"lost": lost}))


def nothing_usable(counts: Mapping[str, int], seconds: float, last: str) -> Reason:
    """Return the reason for a silence in which lines arrive, but none of them is usable.

    ``counts``: rejects by cause in the given seconds; ``last``: one of them.
    """
    a_minute = 60 / max(seconds, 60.0)
    said = ", ".join(f"{max(1, round(n * a_minute))} {cause}" for cause, n in counts.items())
    return reason("unusable", Message("advice.unusable", {"rejects": said, "last": last}))


def alarm_document(
    stream: str,
    event: Event,
    units: Mapping[str, str],
    quality: Mapping[str, str],
    reason: Reason | None = None,
    newest: Newest | None = None,
    context: Context = Context(),  # noqa: B008 - it does not change
) -> dict[str, Any]:
    """Return the alarm as JSON data, for the store and for central ops.

    ``quality``: of the channels that were not measured in the sample that opened the event;
    ``reason``: of a ``silent`` or a ``gap``, or if the configuration gives advice;
    ``newest``: the stream's newest known sample; of an event that opens, that of the opening;
    ``context``: of the stream.
    """
    channel = event.channels[0].channel if event.channels else None
    alarm = {
        "stream": stream,
        "title": context.named(stream),
        "number": event.number,
        "kind": event.kind,
        **({"course": event.course} if event.course else {}),
        **({"during": event.during} if event.during else {}),
        "state": event.state,
        "onset": iso_time(event.onset),
        "opened": iso_time(event.opened),
        "closed": None if event.closed is None else iso_time(event.closed),
        "ended": None if event.closed is None else ACCEPTED if event.accepted else "normal",
        "worst_at": None if event.worst is None else iso_time(event.worst),
        "newest_at": newest and iso_time(newest.time),
        "score": short(event.score),
        "probability": short(event.probability),
        "severity": event.severity,
        "rarity": context.rarity(event.probability),
        **_advised(event, reason).document(),
        "channels": [
            {
                "channel": channel.channel,
                "title": context.channel(channel.channel),
                "unit": units[channel.channel],
                "score": short(channel.score),
                "observed": short(channel.observed),
                "expected": short(channel.expected),
                "newest": short(newest.values.get(channel.channel)) if newest else None,
                **({"level": True} if channel.level else {}),
            }
            for channel in event.channels
        ],
        "quality": dict(quality),
        "limit": event.limit and limit_document(event.limit),
        "operating": newest and context.operating(event, units, newest.values)
        if event.kind in _OF_THE_MACHINE
        else None,
        "suspect": None,
        "outlook": None,
        "renewed": 0,
        "help": context.help(event.kind, channel),
        "found_by": {
            "detector": event.detector,
            "bundle": context.bundle,
            "digest": context.digest,
        },
    }
    return alarm | {"text": sentence(alarm).document()}


def _advised(event: Event, given: Reason | None) -> Reason:
    """Return the reason of an alarm; without a given one, the default advice for the event."""
    return reason(None, advice.default_advice(event)) if given is None else given


def limit_document(limit: LimitForecast | LimitPassed) -> dict[str, Any]:
    """Return the predicted time to a limit, or the distance beyond it, as JSON data."""
    from models.messages import LimitPassed  # imports numpy; a limit has loaded it

    own = {"side": limit.side, "level": limit.level, "value": limit.value, "unit": limit.unit}
    return own | (_passed(limit) if isinstance(limit, LimitPassed) else _forecast(limit))


def _passed(limit: LimitPassed) -> dict[str, Any]:
    return {
        "worst": short(limit.worst),
        "worst_at": iso_time(limit.worst_at),
        "newest": short(limit.newest),
        "newest_at": iso_time(limit.newest_at),
        "back_since": None if limit.back_since is None else iso_time(limit.back_since),
        "off_delay_s": limit.off_delay_s,
    }


def _forecast(limit: LimitForecast) -> dict[str, Any]:
    return {
        "made": iso_time(limit.made),
        "probability": short(limit.probability),
        "median_s": short(limit.median_s),
        "earliest_s": short(limit.earliest_s),
        "latest_s": short(limit.latest_s),
        "horizon_s": limit.horizon_s,
    }


def gravest_first(alarms: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the alarms by severity, highest first, and then by probability, lowest first."""
    return sorted(alarms, key=_gravity)


def _gravity(alarm: Mapping[str, Any]) -> tuple[int, float, float]:
    probability = alarm.get("probability")
    # alarms of older versions have no severity; they come last
    severity = _SEVERITIES.index(alarm["severity"]) if "severity" in alarm else len(_SEVERITIES)
    rarity = 1.0 if probability is None else float(probability)
    if alarm["kind"] == "limit_passed":  # a certain event comes first
        rarity = 0.0
    return severity, rarity, -float(alarm["score"])


_SEVERITIES = ("high", "medium", "low")
# of a limit that is passed; alarms of older versions lack the last two
_NEWEST_OF_LIMIT: Final = ("newest", "newest_at", "back_since", "off_delay_s")


def without_newest(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alarm without the values that change with each sample."""
    channels = [channel | {"newest": None} for channel in alarm["channels"]]
    settled = {**alarm, "newest_at": None, "channels": channels}
    if "newest" in (limit := alarm.get("limit") or {}):
        settled["limit"] = limit | dict.fromkeys(_NEWEST_OF_LIMIT)
    return settled


def with_newest(alarm: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alarm with the newest values of ``now``, a later state of the same alarm."""
    values = {channel["channel"]: channel.get("newest") for channel in now["channels"]}
    channels = [
        channel | {"newest": values.get(channel["channel"])} for channel in alarm["channels"]
    ]
    newer = alarm | {"newest_at": now.get("newest_at"), "channels": channels}
    if "newest" in (limit := alarm.get("limit") or {}):
        newer["limit"] = limit | {
            key: value for key, value in now["limit"].items() if key in _NEWEST_OF_LIMIT
        }
    return newer


def describe(alarm: Mapping[str, Any], time: Callable[[str], str] = str) -> str:
    """Return the alarm in one line for a person.

    ``time`` writes a time for the reader; by default it stays as in the document, UTC.
    """
    until = f" until {time(alarm['closed'])}" if alarm["closed"] else ", still open"
    if alarm.get("ended") == ACCEPTED:  # absent in alarms of older versions
        until += ", when it was taken as the new normal"
    channels = observed(alarm)
    what, worst = "", ""
    if alarm["kind"] == "anomaly":
        what = f" (score {shown(alarm['score'], '.1f')})"
        if alarm.get("worst_at"):  # absent in alarms of older versions
            what, worst = "", f"; at its worst, {time(alarm['worst_at'])}{what}"
    if alarm.get("during"):  # absent in most alarms
        what += f" beside #{alarm['during']}"
    number = "(not stored yet)" if alarm["number"] is None else f"#{alarm['number']}"
    # separate from the kind: "high limit" would read as the limit's side
    grave = f", severity {alarm['severity']}," if "severity" in alarm else ""
    return (
        f"{alarm['stream']} {number} {alarm['kind'].replace('_', ' ')}{what}{grave}"
        f" since {time(alarm['onset'])}{until}{worst}"
        + (f": {channels}" if channels else "")
        + _newest(alarm, time)
        + _not_measured(alarm)
        + f". To do: {advice.to_do(alarm, ENGLISH.timed(time), _plain)}"
    )


def _plain(channel: Mapping[str, Any]) -> str:
    return str(channel["channel"])


def not_stored(unstored: Mapping[str, Any], told: Language = ENGLISH) -> str:
    """Return since when and why the store fails, and how many changes of alarms wait."""
    count = unstored["alarms_waiting"]
    known = {
        "since": told.written("since_at", unstored["since"]),
        "error": unstored["error"],
        "count": str(count),
    }
    return told.text(Message("unstored.one" if count == 1 else "unstored.many", known))


def observed(alarm: Mapping[str, Any], channels_max: int | None = None) -> str:
    """Return the observed and expected value of each channel, or how far it is beyond its limit.

    ``channels_max``: name only this many channels, and count the others.
    """
    if not (limit := alarm.get("limit")):  # absent in alarms of versions without forecasts
        channels = alarm["channels"]
        said = [_channel(alarm["kind"], channel) for channel in channels[:channels_max]]
        if (others := len(channels) - len(said)) > 0:
            said.append(f"{others} other channel{'s' if others > 1 else ''}")
        return "; ".join(said)
    told = _how_far(limit, alarm) if "worst" in limit else time_to_limit(limit)
    return f"{alarm['channels'][0]['channel']} {told}"


def _newest(alarm: Mapping[str, Any], time: Callable[[str], str]) -> str:
    """Return the newest values as text, if the worst sample was another one."""
    newest_at = alarm.get("newest_at")  # absent in alarms of older versions
    if alarm["kind"] != "anomaly" or newest_at is None or newest_at == alarm["worst_at"]:
        return ""
    values = ", ".join(
        f"{channel['channel']} {_value(channel['newest'], channel['unit'])}"
        for channel in alarm["channels"]
    )
    when = "when it closed" if alarm["closed"] else f"newest, {time(newest_at)}"
    return f"; {when}: {values}"


def _value(value: float | None, unit: str) -> str:
    return NO_VALUE if value is None else f"{shown(value)} {unit}".rstrip()


def _not_measured(alarm: Mapping[str, Any]) -> str:
    """Return the values not measured at the opening; a ``missing`` alarm omits its own channels."""
    missing = {channel["channel"] for channel in alarm["channels"] if alarm["kind"] == "missing"}
    found = [
        f"{channel} {quality}"
        for channel, quality in alarm.get("quality", {}).items()  # absent in older alarms
        if channel not in missing
    ]
    return f" (not measured then: {', '.join(found)})" if found else ""


def time_to_limit(limit: Mapping[str, Any]) -> str:
    """Return the time to a limit, for people, counted from the last step of the history."""
    name, rise = _name(limit), _RISE.get(limit["side"], "pass")
    chance = f"chance {_percent(limit['probability'])} within {span(limit['horizon_s'])}"
    median = limit["median_s"]
    if median == 0:
        return f"is {_ABOVE.get(limit['side'], 'beyond')} {name}"
    if median is None:
        return f"may {rise} {name}, {chance}"
    return f"will {rise} {name} in {span(median)} (80 %: {_interval(limit)}), {chance}"


def _how_far(limit: Mapping[str, Any], alarm: Mapping[str, Any]) -> str:
    """Return how far the measured values were beyond a limit, and the newest value, as text."""
    side, unit = limit["side"], limit["unit"]
    worst = f"{_HIGHEST.get(side, 'farthest')} {shown(limit['worst'], '.6g')} {unit}".rstrip()
    newest = "" if alarm["closed"] else f", newest {shown(limit['newest'], '.6g')} {unit}".rstrip()
    return f"{_ABOVE.get(side, 'beyond')} {_name(limit)}: {worst}{newest}"


def _name(limit: Mapping[str, Any]) -> str:
    return f"{shown(limit['value'], 'g')} {limit['unit']}".rstrip() + f" ({limit['level']} limit)"


def _interval(limit: Mapping[str, Any]) -> str:
    first = span(limit["earliest_s"])
    if limit["latest_s"] is None:
        return f"{first} or later than {span(limit['horizon_s'])}"
    last = span(limit["latest_s"])
    number, unit = first.split()
    return f"{number}-{last}" if last.endswith(f" {unit}") else f"{first} to {last}"


def span(seconds: float) -> str:
    """Return a duration in the unit that a person would choose.

    >>> span(90), span(5400), span(11520)
    ('90 s', '90.0 min', '3.2 h')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _percent(chance: float) -> str:
    """Return a probability as text: never 100 %, as no forecast is certain, and 0 % only for 0."""
    percent = f"{100 * chance:.0f} %"
    if chance < 1 and percent == "100 %":
        return "over 99 %"
    return "under 1 %" if chance > 0 and percent == "0 %" else percent


def _channel(kind: str, channel: Mapping[str, Any]) -> str:
    observed, expected, unit = channel["observed"], channel["expected"], channel["unit"]
    if observed is None:
        return f"{channel['channel']} {NO_VALUE}"
    told = f"{channel['channel']} {_value(observed, unit)}"
    if kind == "stuck" or expected is None:
        return told
    known = "known levels end at" if channel.get("level") else "expected"
    return f"{told}, {known} {shown(expected)}"
