"""What is added to a stream's open alarms while they last: their outlook, and what to check first.

the alarm opens ─first─> outlook ─> message        each commit ─renew─> changed? ─> message
                                                      at most once in ``shift.update_s``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from agent.alarms.outlook import KINDS, outlook, says_the_same
from agent.alarms.shift import next_start
from agent.alarms.suspect import Finding
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.config.words import ShiftTable
from agent.scoring.companions import Companions
from agent.scoring.parts import Limits
from agent.wording.sentence import plain_name
from models.manifest import Channel
from models.shown import short

Alarm = Mapping[str, Any]


class Advisor:
    """Adds to the alarms of one stream; one thread uses it.

    Args:
        settings: Of the stream.
        channels: The stream's channels.
        limits: The forecasts of the stream's limits.
        companions: What its channels say about each other.
        clock: Clock of the gateway.

    """

    def __init__(
        self,
        settings: StreamTable,
        channels: list[Channel],
        limits: Limits,
        companions: Companions,
        clock: Clock,
    ) -> None:
        self._channels = channels
        self._limits, self._companions, self._clock = limits, companions, clock
        self._due: dict[int, float] = {}  # number of an open alarm -> when it may be sent again
        self.reconfigure(settings)

    def reconfigure(self, settings: StreamTable) -> None:
        """Continue with other settings."""
        self._titles = settings.titles
        self._shift = settings.shift or ShiftTable()
        self._zone = None if self._shift.zone is None else ZoneInfo(self._shift.zone)

    def first(self, alarm: Alarm) -> dict[str, Any]:
        """Return what to add to an alarm that opens."""
        if alarm["kind"] not in KINDS:
            return {}
        self._due[alarm["number"]] = self._clock.monotonic_s() + self._shift.update_s
        return {"outlook": self._outlook(alarm)}

    def renewed(self, alarm: Alarm) -> dict[str, Any] | None:
        """Return what has changed of an open alarm and must be sent; None: nothing, or not yet.

        A first finding about machine or sensor does not wait.
        """
        if alarm["kind"] not in KINDS:
            return None
        now, number = self._clock.monotonic_s(), alarm["number"]
        found = self._suspect(alarm)
        news = found is not None and alarm.get("suspect") is None
        if not news and now < self._due.setdefault(number, now + self._shift.update_s):
            return None
        self._due[number] = now + self._shift.update_s
        fresh = {"outlook": self._outlook(alarm), "suspect": found or alarm.get("suspect")}
        if fresh["suspect"] == alarm.get("suspect") and says_the_same(
            alarm.get("outlook"), fresh["outlook"]
        ):
            return None
        return fresh

    def forget(self, but: set[int]) -> None:
        """Forget the alarms that are no longer open; ``but``: the numbers of those that are."""
        for number in self._due.keys() - but:
            del self._due[number]

    def _outlook(self, alarm: Alarm) -> dict[str, Any]:
        now_s = self._clock.wall_s()
        shift_s = next_start(now_s, self._shift.times, self._zone)
        return outlook(alarm, self._limits.estimates(), self._titles, now_s, shift_s)

    def _suspect(self, alarm: Alarm) -> dict[str, Any] | None:
        if alarm["kind"] != "anomaly":
            return None
        found = self._companions.find(alarm)
        return None if found is None else self._document(found)

    def _document(self, found: Finding) -> dict[str, Any]:
        worst = self._channels[found.channel]
        return {
            "what": found.what,
            "channel": worst.name,
            "title": self._title(worst.name),
            "unit": worst.unit,
            "expected": short(found.expected),
            "spread": short(found.spread),
            "neighbours": [
                {"channel": name, "title": self._title(name)}
                for name in (self._channels[one].name for one in found.neighbours)
            ],
        }

    def _title(self, name: str) -> str:
        return self._titles.get(name) or plain_name(name)
