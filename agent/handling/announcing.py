"""Which transitions call somebody: the alarm is active, unacknowledged, and there is news.

A chattering point calls when it begins to chatter, and then only if its severity rises above all
that was announced meanwhile. ``agent.handling.flood`` has the rule of a flood.
"""

from __future__ import annotations

from typing import Final

from agent.handling.priority import graver
from agent.handling.states import Standing
from agent.handling.transition import What

_NEWS: Final[frozenset[What]] = frozenset(
    (
        "raised",
        "worsened",
        "due",
        "unacknowledged",
        "unshelved",
        "in_service",
        "unsuppressed",
        "settled",
        "ungrouped",
    )
)
OF_A_FLOOD: Final[frozenset[What]] = frozenset({"raised", "due", "unsuppressed"})  # as new alarms


def calls(what: What, before: Standing, then: Standing) -> bool:
    """Return whether a transition from one standing to the next calls somebody."""
    if what not in _NEWS or then.state != "UNACK":
        return False
    if not before.chattered or what not in ("raised", "worsened"):
        return True
    return then.severity is not None and graver(then.severity, before.called)
