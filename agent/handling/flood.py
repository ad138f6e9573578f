"""Floods: more new alarms in a while than a person can handle one by one.

A flood begins with more than ``singly`` new alarms within ``within_s``, and ends with fewer than
``over`` (ISA-18.2 and EEMUA 191: more than 10 in 10 minutes, fewer than 5). During a flood, alarms
are grouped by stream. A group calls somebody when it begins, and again when an alarm of a higher
priority joins it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.handling.priority import PRIORITIES
from agent.handling.states import Priority


class FloodLimits(NamedTuple):
    """When a flood begins and ends."""

    singly: int = 10
    over: int = 5  # at most ``singly``
    within_s: float = 600.0


class Flood:
    """Counts new alarms; the caller gives the times, Unix seconds."""

    def __init__(self, limits: FloodLimits) -> None:
        self.limits = limits
        self._times: list[float] = []  # of the newest alarms, as many as the limits need
        self.since: float | None = None  # Unix seconds; None: there is no flood
        self._called: dict[str, Priority] = {}  # the highest that each group has announced

    def new(self, at: float) -> bool:
        """Count a new alarm; return whether it belongs to a flood."""
        singly, _, within_s = self.limits
        self._times = [*self._times, at][-singly - 1 :]
        if self.since is None and len(self._times) > singly and at - self._times[0] < within_s:
            self.since = at
        return self.since is not None

    def calls(self, stream: str, urgent: Priority) -> bool:
        """Return whether an alarm that joins the group of its stream calls somebody."""
        before = self._called.get(stream)
        if before is not None and PRIORITIES.index(urgent) >= PRIORITIES.index(before):
            return False
        self._called[stream] = urgent
        return True

    def over_at(self) -> float:
        """Return when the flood ends if no new alarm comes; infinity: there is none."""
        if self.since is None:
            return math.inf
        counting = self._times[-self.limits.over :]
        enough = len(counting) == self.limits.over
        return counting[0] + self.limits.within_s if enough else self.since

    def end(self) -> None:
        """End the flood."""
        self.since, self._called = None, {}

    def move(self, by_s: float) -> None:
        """Move all times, because the clock was set by this much."""
        self._times = [one + by_s for one in self._times]
        self.since = None if self.since is None else self.since + by_s

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        return {"times": self._times, "since": self.since, "called": self._called}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Continue with the state that ``to_json`` returned."""
        self._times, self.since = list(data["times"]), data["since"]
        self._called = dict(data["called"])
