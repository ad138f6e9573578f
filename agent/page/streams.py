"""The view of one stream: its past at any span, and its forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from agent.commands.alarms import listed
from agent.commands.alarms.listed import Alarm
from agent.page import described, overview
from agent.page.alarms import row
from agent.page.described import Known
from agent.page.words import Words
from agent.store.reader import Reader
from agent.wording.message import Message
from agent.wording.worded import Worded
from models.errors import FieldwatchError

SPANS_S: Final = (3600, 8 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 366 * 86_400)
_ALARMS_MAX: Final = 10


class NoSuchStream(Worded, FieldwatchError):
    """The agent has no such stream."""


class Found(NamedTuple):
    """What was read at once."""

    overview: overview.Overview
    channels: list[str]
    alarms: list[Alarm]  # the newest, the newest first


def read(reader: Reader, stream: str, look: overview.Look) -> Found:
    """Read what the view shows; ``look`` reads that of all streams.

    Raises:
        NoSuchStream: the agent has no such stream.
        StoreError: there is no database.

    """
    found = look(reader)
    layout = reader.layout(stream)
    if layout is None and stream not in found.status.get("streams", {}):
        raise NoSuchStream(Message("page.no_stream", {"stream": stream}))
    standings = reader.standings()
    newest = [listed.handled(one, standings) for one in reader.alarms_of(stream, _ALARMS_MAX)]
    return Found(found, layout[0] if layout else [], newest)


def detail(stream: str, found: Found, words: Words, known: Known, watching: bool) -> dict[str, Any]:
    """Return all that the view shows; ``watching``: see ``overview.cards``."""
    made = overview.cards(found.overview, words, known, watching)
    cards = {one["name"]: one for one in made}
    status = found.overview.status.get("streams", {}).get(stream, {})
    return {
        "name": stream,
        "card": cards.get(stream),
        "title": described.title(known, stream),
        "channels": [(name, described.channel(known, stream, name)[0]) for name in found.channels],
        "spans": [(seconds, words.told.duration(seconds)) for seconds in SPANS_S],
        "alarms": [row(one, words) for one in found.alarms],
        "forecast": _forecast(
            status.get("forecast"), words, lambda name: described.channel(known, stream, name)[0]
        ),
    }


def _forecast(
    forecast: Mapping[str, Any] | None, words: Words, title: Callable[[str], str]
) -> dict[str, Any] | None:
    """Return when the forecast begins, or how good it has been; None if there is none."""
    if forecast is None:
        return None
    warm_up = forecast.get("warm_up")
    return {
        "left": warm_up and words.told.duration(warm_up["left_s"]),
        "refused": forecast["refused"],
        "horizon": words.told.duration(forecast["horizon_s"]),
        "accuracy": list(_accuracy(forecast["accuracy"], words, title)),
    }


def _accuracy(
    accuracy: Mapping[str, Any], words: Words, title: Callable[[str], str]
) -> Iterator[dict[str, str]]:
    for channel, one in accuracy.items():
        if one["judged"]:
            yield {
                "channel": title(channel),
                "error": words.told.measure(one["mae"], one["unit"]),
                "coverage": words.told.share(one["coverage_80"])
                if one.get("coverage_80") is not None
                else "–",
            }
