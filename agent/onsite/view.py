"""The state of a gateway's alarms as panels show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from agent.handling.priority import PRIORITIES
from agent.handling.states import UNACKNOWLEDGED, Standing

NONE: Final = "none"  # in place of a priority: no alarm is active
LEVELS: Final = (NONE, *reversed(PRIORITIES))  # the most urgent last
_ACTIVE: Final = frozenset({"UNACK", "ACKED"})  # and not suppressed

Point = tuple[tuple[str, str], Standing]  # (stream, point), its standing


class View(NamedTuple):
    """The messages of one moment."""

    worst: str  # of ``LEVELS``: the most urgent active alarm
    gateway: dict[str, Any]
    streams: dict[str, dict[str, Any]]


def view_of(streams: Mapping[str, Mapping[str, Any]], points: Iterable[Point]) -> View:
    """Return what panels show.

    Args:
        streams: The part ``streams`` of the status document.
        points: The points that are not normal.

    """
    worst: dict[str, str] = dict.fromkeys(streams, NONE)
    active = waiting = 0
    for (stream, _), standing in points:
        if standing.advisory:
            continue
        waiting += standing.state in UNACKNOWLEDGED
        if standing.state in _ACTIVE:
            active += 1
            urgent = standing.priority or "medium"
            worst[stream] = max(worst.get(stream, NONE), urgent, key=LEVELS.index)
    whole = max(worst.values(), key=LEVELS.index, default=NONE)
    told = {name: _stream(one, worst[name]) for name, one in streams.items()}
    return View(whole, {"worst": whole, "active": active, "unacknowledged": waiting}, told)


def _stream(stream: Mapping[str, Any], worst: str) -> dict[str, Any]:
    """Return the state of a stream; without data it is unknown, and never normal."""
    known = stream.get("watched", True) and stream["last_sample"] is not None
    score = stream["last_score"]
    return {
        "problem": "ON" if worst != NONE else "OFF" if known else None,
        "priority": worst if known or worst != NONE else None,
        "score": None if score is None else round(score, 3),
        "time_to_limit_s": soonest(stream.get("forecast")),
    }


def soonest(forecast: Mapping[str, Any] | None) -> float | None:
    """Return the median time to the next limit, seconds; None if none is foretold."""
    limits = (forecast or {}).get("limits", ())
    times = [one["median_s"] for one in limits if one.get("median_s") is not None]
    return min(times, default=None)
