"""The alarms and messages of a stream, with their times, numbers and counts.

A stream and its parts (``agent.scoring.part``) report and send through a teller.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent.alarms.context import Context
from agent.alarms.document import Newest, Reason
from agent.alarms.lifecycle import OPENED, Alarms, Cause, Change
from agent.alarms.limit import limitable
from agent.alarms.measured import DETECTOR as MEASURED
from agent.alarms.predicted import DETECTOR as FORECASTER
from agent.clock import Clock
from agent.journal import STREAM
from agent.store.batch import Batch
from agent.store.record import Kind, Outgoing
from models.detector import Detector, Memory
from models.messages import Event, Float32, Samples, named_quality
from models.names import REMAINING_LIFE
from models.times import unix_s

if TYPE_CHECKING:
    from agent.scoring.advisor import Advisor

_LOG = logging.getLogger(__name__)

_FOUND_BY = {"limit": FORECASTER, "limit_passed": MEASURED}  # kinds that the detector does not find


class StreamTeller:
    """The alarms and messages of one stream; one thread uses it.

    Args:
        name: Name of the stream.
        detector: Detector of the stream.
        memory: Memory of the detector's streams.
        number: Number of the stream in the memory.
        clock: Clock of the gateway.
        context: What the stream's alarms have in common.

    """

    def __init__(
        self,
        name: str,
        detector: Detector,
        memory: Memory,
        number: int,
        clock: Clock,
        context: Context | None = None,
    ) -> None:
        self._name, self._clock = name, clock
        self._detector, self._memory, self._number = detector, memory, number
        units = {each.name: each.unit for each in limitable(detector.manifest)}
        self.alarms = Alarms(name, units, context)
        self.advisor: Advisor | None = None
        # called with each alarm that opens
        self.openings_to: list[Callable[[dict[str, Any]], None]] = []
        self.timed_by_arrival = False  # whether all inputs of the stream lack their own times
        self.counters: Counter[str] = Counter()
        self.last_time: float | None = None  # of the last sample, Unix seconds
        self._last_values: Float32 | None = None  # (C,) of the last sample
        self.unsaved = True  # whether a message was sent since the memory was last saved

    def note(self, time: float, values: Float32) -> None:
        """Record the last sample: its time, Unix seconds, and its values, (C,)."""
        self.last_time, self._last_values = time, values.copy()

    @property
    def correction_s(self) -> float:
        """Seconds to add to the detector's times; 0 for a device with times of its own."""
        return self._clock.correction_s if self.timed_by_arrival else 0.0

    def arrived_s(self, monotonic_s: float) -> float:
        """Return the time of a reading without its own time, from its arrival (``monotonic``)."""
        clock = self._clock
        steady = self.timed_by_arrival
        return clock.steady_s(monotonic_s) if steady else clock.wall_s(monotonic_s)

    def take_number(self) -> int:
        """Return the number of a new event."""
        return self._detector.events(self._memory, self._number).take_number()

    def report(
        self,
        events: list[Event],
        batch: Batch,
        samples: Samples | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Turn events into alarms; ``samples``: those in which the events were found, if any.

        ``reason``: see ``alarm_document``.
        """
        for inside in events:
            event = inside.moved(self.correction_s)
            quality, newest = None, self._newest()
            if samples is not None:
                quality = samples.quality_at(inside.time)
                row = samples.row_at(inside.time)
                newest = self._as_newest(float(samples.times[row]), samples.values[row])
            named = named_quality(self._detector.manifest.channel_names, quality)
            change = self.alarms.take(event, named, reason, newest)
            if change is not None:
                self._tell(self._advised(change), event.detector, batch)

    def _advised(self, change: Change) -> Change:
        """Return an opening with what the advisor adds to the alarm; other changes as they are."""
        if change.state != OPENED or self.advisor is None:
            return change
        found = self.advisor.first(change.alarm)
        return change._replace(alarm=self.alarms.remark(change.alarm["number"], found))

    def renew(self, batch: Batch) -> None:
        """Send the open alarms again about which there is something new, as far as it is time."""
        alarms, advisor = self.alarms.open, self.advisor
        if advisor is None or not alarms:
            return
        advisor.forget({alarm["number"] for alarm in alarms})
        for alarm in alarms:
            found = advisor.renewed(alarm)
            if found is None:
                continue
            count = {"renewed": alarm.get("renewed", 0) + 1}
            now = self.alarms.remark(alarm["number"], {**found, **count})
            batch.tell(now)
            self.send("alarm", self._clock.wall_s(), now, batch, self._found_by(now))

    def open_silence(self, since_monotonic_s: float, batch: Batch, reason: Reason | None) -> None:
        """Open the alarm ``silent``, once until the next reading; see ``Stream.open_silence``."""
        since, now = self.arrived_s(since_monotonic_s), self.arrived_s(self._clock.monotonic_s())
        opened = self._detector.open_silence(self._memory, now, since, self._number)
        if reason is not None and not opened:
            self.alarms.explain(reason)
        self.report(opened, batch, reason=reason)

    def stay_silent(self, alarm: dict[str, Any]) -> None:
        """Continue a ``silent`` alarm of the former detector, under its number."""
        events, by_s = self._detector.events(self._memory, self._number), self.correction_s
        opened, onset = unix_s(alarm["opened"]) - by_s, unix_s(alarm["onset"]) - by_s
        next_number, events.next_number = events.next_number, alarm["number"]
        self._detector.open_silence(self._memory, opened, onset, self._number)
        events.next_number = next_number
        self.alarms.go_on(alarm)

    def update(self, events: Iterable[Event], batch: Batch) -> None:
        """Put the present state of the open alarms into ``batch``; ``events``: all open events."""
        moved = [event.moved(self.correction_s) for event in events]
        for alarm in self.alarms.update(moved, self._newest() if moved else None):
            batch.tell(alarm)

    def _newest(self) -> Newest | None:
        """Return the newest sample; None before the first since the start."""
        if self._last_values is None or self.last_time is None:
            return None
        return self._as_newest(self.last_time - self.correction_s, self._last_values)

    def _as_newest(self, time: float, values: Float32) -> Newest:
        """Return a sample, (C,), in the form of alarms; its time is the detector's."""
        known = [value if math.isfinite(value) else None for value in values.tolist()]
        names = self._detector.manifest.channel_names
        return Newest(time + self.correction_s, dict(zip(names, known, strict=True)))

    def close_alarms(
        self,
        cause: Cause,
        batch: Batch,
        numbers: Iterable[int] | None = None,
        but: Collection[int] = (),
    ) -> None:
        """Close open alarms whose events will not close them; None: all but those in ``but``."""
        for change in self.alarms.close(cause, self._clock.wall_s(), numbers, but):
            self._tell(change, self._found_by(change.alarm), batch)

    def _found_by(self, alarm: Mapping[str, Any]) -> str:
        """Return the name of what found an alarm."""
        if any(each["channel"] == REMAINING_LIFE for each in alarm["channels"]):
            return REMAINING_LIFE
        return _FOUND_BY.get(alarm["kind"], self._detector.detector)

    def _tell(self, change: Change, detector: str, batch: Batch) -> None:
        """Store, send, count and log an alarm that was opened or closed.

        The log omits its number, because the agent reports a number only once it is on the disk.
        """
        batch.tell(change.alarm)
        if change.state == OPENED:
            for take in self.openings_to:
                take(change.alarm)
        self.send("alarm", change.time, change.alarm, batch, detector)
        self.counters.update(change.counters)
        _LOG.warning("stream %s: %s", self._name, change, extra={STREAM: self._name})

    def send(
        self,
        kind: Kind,
        time: float,
        data: dict[str, Any],
        batch: Batch,
        detector: str | None = None,
    ) -> None:
        """Send a message with this time; the commit that contains it also saves the memory.

        ``detector``: name of the detector behind the message; None: the stream's.
        """
        self.unsaved = True
        by = detector or self._detector.detector
        batch.messages.append(Outgoing(kind, self._name, time, data, self._detector.digest, by))
