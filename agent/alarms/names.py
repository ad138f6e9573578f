"""The name of a point: the kind of trouble, with its channel or its limit if it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Key = tuple[str, str]  # stream, point

NO_ALARM: Final = 0  # in place of the number, in a label without an alarm
_OF_A_CHANNEL: Final = ("stuck", "missing")
_OF_A_LIMIT: Final = ("limit", "limit_passed")


def point_of(alarm: Mapping[str, Any]) -> str:
    """Return the name of an alarm's point, which is the same for all alarms of the point."""
    kind, channels = str(alarm["kind"]), alarm.get("channels", ())
    if limit := alarm.get("limit"):  # absent in alarms of versions without forecasts
        return f"{kind} {channels[0]['channel']} {limit['side']} {limit['level']}"
    if kind in _OF_A_CHANNEL and channels:
        return f"{kind} {channels[0]['channel']}"
    return kind


def reported(stream: str) -> dict[str, Any]:
    """Return what stands for the alarm of a fault that a person reports without one."""
    return {"stream": stream, "number": NO_ALARM, "kind": "reported", "state": "closed"}


def kind_and_channel(point: str) -> tuple[str, str | None]:
    """Return the kind of a point's alarms, and their channel if they have a single one.

    >>> kind_and_channel("limit flow at inlet high warning"), kind_and_channel("silent")
    (('limit', 'flow at inlet'), ('silent', None))
    """
    kind, _, rest = point.partition(" ")
    if kind in _OF_A_LIMIT and rest:
        return kind, rest.rsplit(" ", 2)[0]
    return kind, rest or None
