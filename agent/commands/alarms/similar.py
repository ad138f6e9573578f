"""Earlier alarms like one alarm, and what people said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent.alarms.names import point_of
from agent.store.reader import Reader

SIMILAR_MAX: Final = 5
_LOOKED_AT: Final = 500  # newest alarms of the stream, and newest labels and notes of the point
_NOTES_MAX: Final = 2  # of an alarm
_SHARED: Final = 0.5  # of the channels of both

Alarm = Mapping[str, Any]


def similar(reader: Reader, alarm: Alarm) -> list[dict[str, Any]]:
    """Return the newest earlier alarms like this one, the newest first, with labels and notes.

    They are of the same stream and kind, and at least half of the channels of both are the same.
    """
    others = [
        one
        for one in reader.alarms_of(alarm["stream"], _LOOKED_AT)
        if one["number"] < alarm["number"] and alike(one, alarm)
    ][:SIMILAR_MAX]
    rows = {
        point: reader.said(alarm["stream"], point, _LOOKED_AT)
        for point in set(map(point_of, others))
    }
    return [
        {
            "stream": one["stream"],
            "number": one["number"],
            "onset": one["onset"],
            "closed": one["closed"],
            "said": list(_said(rows[point_of(one)], one["number"])),
        }
        for one in others
    ]


def alike(one: Alarm, other: Alarm) -> bool:
    """Whether two alarms of a stream are similar."""
    if one["kind"] != other["kind"] or _side(one) != _side(other):
        return False
    first, second = _channels(one), _channels(other)
    both = first | second
    return not both or len(first & second) >= _SHARED * len(both)


def _channels(alarm: Alarm) -> set[str]:
    return {channel["channel"] for channel in alarm["channels"]}


def _side(alarm: Alarm) -> str | None:
    limit = alarm.get("limit")
    return limit and limit["side"]


def _said(rows: Sequence[Mapping[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    """Yield the newest label of an alarm, then its newest notes; ``rows``: the newest first."""
    own = [row for row in rows if row["number"] == number]
    labels = [row for row in own if row["what"] == "labelled"][:1]
    notes = [row for row in own if row["what"] == "noted"][:_NOTES_MAX]
    for row in (*labels, *notes):
        yield {key: row[key] for key in ("what", "label", "why", "by", "at")}
