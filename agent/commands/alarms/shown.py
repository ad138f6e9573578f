"""One alarm for a person: advice, findings, certainty, a chart, and the logbook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.alarms.document import observed, to_do
from agent.commands.alarms.listed import Alarm, priority_of
from agent.commands.alarms.moments import Moments, lasting
from agent.commands.alarms.table import CHANNELS_MAX, reference, shelving, wrapped
from agent.handling.states import WORDS
from agent.handling.transition import AGENT, SAID
from models.cells import cell
from models.errors import ConfigError, StoreError
from models.printable import printable
from models.shown import NO_VALUE, shown

_POINTS: Final = 24  # of the chart: it must fit beside the names and values
_AROUND_S: Final = (60.0, 3600.0)  # least and most time that the chart shows before the onset
_CHANNEL: Final = "  {:<26} {:>14} {:>14} {:>14}  {}"
_NEXT: Final[Mapping[str, str]] = {
    "UNACK": "ack",
    "RTNUN": "ack",
    "LATUN": "ack",
    "LATAK": "reset",
    "SHLVD": "unshelve",
    "OOSRV": "in-service",
}


def lines(alarm: Alarm, moments: Moments, config_file: Path, blocks: bool) -> Iterator[str]:
    """Yield the lines of the alarm; ``blocks``: whether the terminal has block characters."""
    yield from wrapped(f"{reference(alarm)}: {_sentence(alarm, moments)}", "")
    yield from wrapped(f"To do: {to_do(alarm, moments.full)}", "")
    yield ""
    yield from _facts(alarm, moments)
    yield from _channels(alarm)
    yield from _chart(alarm, moments, config_file, blocks)
    yield from _logbook(alarm, moments)
    if handling := alarm["handling"]:
        if (verb := _NEXT.get(handling["state"])) is not None:
            yield ""
            yield printable(f"Next: fieldwatch-agent alarms {verb} {reference(alarm)}")


def _sentence(alarm: Alarm, moments: Moments) -> str:
    kind, found = alarm["kind"].replace("_", " "), observed(alarm, CHANNELS_MAX)
    said = f"{kind}: {found}" if found else kind
    seconds = moments.between_s(alarm["onset"], alarm["closed"])
    if seconds is None:
        return said
    return f"{said}; {'for' if alarm['closed'] is None else 'it lasted'} {lasting(seconds)}"


def _facts(alarm: Alarm, moments: Moments) -> Iterator[str]:
    handling = alarm["handling"]
    yield f"state      {_state(alarm)}"
    if handling:
        urgent = f"{priority_of(alarm)}: severity {alarm.get('severity', NO_VALUE)}"
        yield f"priority   {urgent}, consequence {handling['consequence']}"
    yield from wrapped(f"how sure   {_how_sure(alarm)}", "", " " * 11)
    yield f"onset      {moments.full(alarm['onset'])}"
    yield f"opened     {moments.full(alarm['opened'])}"
    if alarm.get("worst_at"):
        yield f"worst      {moments.full(alarm['worst_at'])}"
    if alarm.get("newest_at"):
        yield f"newest     {moments.full(alarm['newest_at'])}"
    if alarm["closed"]:
        yield f"closed     {moments.full(alarm['closed'])}"
    if (put_aside := shelving(handling, moments)) is not None:
        yield f"shelved    {put_aside}"
    if handling and handling["raised"] > 1:
        yield f"raised     {handling['raised']} times since it was last normal"


def _state(alarm: Alarm) -> str:
    if (handling := alarm["handling"]) is None:
        return "active" if alarm["state"] == "opened" else "over"
    unknown = ", no longer watched" if handling["condition"] == "unknown" else ""
    return f"{handling['told']}{unknown} ({handling['state']})"


def _how_sure(alarm: Alarm) -> str:
    if alarm["kind"] == "limit_passed":
        return "certain: measured values were beyond the limit"
    if alarm.get("limit"):
        return f"a forecast; chance {100 * alarm['limit']['probability']:.0f} %"
    if alarm["kind"] != "anomaly":
        return "certain: it was measured"
    said = f"score {shown(alarm['score'], '.1f')} (1 is the threshold)"
    if not (probability := alarm.get("probability")):
        return said
    return f"{said}; normal operation reaches it in 1 of {1 / probability:,.0f} samples"


def _channels(alarm: Alarm) -> Iterator[str]:
    if not alarm["channels"]:
        return
    yield ""
    yield _CHANNEL.format("channel", "worst", "expected", "newest", "share").rstrip()
    total = sum(one["score"] or 0.0 for one in alarm["channels"])
    for one in alarm["channels"]:
        name = f"{one['channel']} {one['unit']}".strip()
        values = [shown(one.get(key), absent="-") for key in ("observed", "expected", "newest")]
        share = f"{100 * (one['score'] or 0.0) / total:.0f} %" if total else ""
        yield _CHANNEL.format(cell(name, 26), *values, share).rstrip()
    if quality := alarm.get("quality"):
        told = ", ".join(f"{channel} {what}" for channel, what in quality.items())
        yield from wrapped(f"not measured when it opened: {told}", "  ")


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
    begin, end = moments.full(document["from"]), moments.full(document["to"])
    yield f"around the onset: {begin} to {end}"
    for line in history.chart(document, blocks):
        yield f"  {line}"


def _logbook(alarm: Alarm, moments: Moments) -> Iterator[str]:
    if not alarm["logbook"]:
        return
    yield ""
    yield "logbook"
    for row in alarm["logbook"]:
        yield from wrapped(row_text(row, moments), "  ", "      ")


def row_text(row: Mapping[str, Any], moments: Moments) -> str:
    """Return a row of the logbook in one line."""
    by = "" if row["by"] == AGENT else f" by {row['by']}"
    label = f" {row['label']}" if row["label"] else ""
    if row.get("begin"):  # absent in rows of older versions
        label += f", {moments.brief(row['begin'])} to {moments.brief(row['end'])},"
    went = "" if row["before"] == row["after"] else f": now {WORDS[row['after']]}"
    why = f" ({row['why']})" if row["why"] else ""
    return f"{moments.full(row['at'])}  #{row['number']} {SAID[row['what']]}{label}{by}{went}{why}"
