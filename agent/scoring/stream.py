"""One stream: makes alarms, summaries, messages and saved memory of its samples and events.

Its fleet aligns and scores it together with the other streams of its bundle. Besides its detector,
a stream has parts (``agent.scoring.part``). It does no I/O: the daemon commits what the stream puts
into the batch.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from agent.alarms.document import Newest, Reason
from agent.alarms.lifecycle import Alarms, Cause, Change
from agent.alarms.limit import check_limits
from agent.alarms.measured import DETECTOR as MEASURED
from agent.alarms.predicted import DETECTOR as FORECASTER
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.journal import STREAM
from agent.scoring import told
from agent.scoring.gaps import Gaps
from agent.scoring.origin import BASELINE, Origin
from agent.scoring.part import Moment, Part
from agent.scoring.parts import Doubts, GridPosition, Limits, PassedLimits, Summaries
from agent.scoring.remarks import WarmUp
from agent.scoring.summary import uncertain
from agent.store.batch import THROUGH, Batch
from agent.store.record import Kind, Outgoing
from models.align import Aligners
from models.detector import Detector, Memory
from models.messages import (
    HELD,
    INTERPOLATED,
    MISSING,
    QUALITIES,
    Event,
    Float32,
    Forecast,
    Samples,
    Uint8,
    named_quality,
)
from models.state import StateMismatch
from models.times import iso_time, unix_s

_LOG = logging.getLogger(__name__)

# alarms of these kinds stay open while another detector replaces the one that found them
_LASTING = ("anomaly", "limit")
_FOUND_BY = {"limit": FORECASTER, "limit_passed": MEASURED}  # kinds that the detector does not find


class Stream:
    """One stream of a fleet, by its number there; one thread uses it."""

    def __init__(
        self,
        settings: StreamTable,
        detector: Detector,
        memory: Memory,
        number: int,
        aligners: Aligners,
        summary_interval_s: float,
        clock: Clock,
        origin: Origin | None = None,
    ) -> None:
        """Set up; ``origin``: None for a detector that is as configured, and not signed."""
        self._clock = clock
        self.timed_by_arrival = False  # whether no input of it has its own times
        self.manifest = manifest = detector.manifest
        self.name = settings.name
        self.silent_after_s = settings.silent_after_s
        self.leap_agreed_s = settings.leap_agreed_s
        self.detector = detector
        self._memory, self._number = memory, number
        self._aligners = aligners
        self._alarms = Alarms(
            settings.name, {channel.name: channel.unit for channel in manifest.channels}
        )
        self.counters: Counter[str] = Counter()
        self.last_time: float | None = None  # of the last sample, Unix seconds
        self.last_score: float | None = None
        self._last_values: Float32 | None = None  # (C,) of the last sample
        self._quality: Uint8 | None = None  # the worst per channel since the last commit
        self._told = True  # whether it reported something since the memory was last saved
        self.saved_through: int | None = None  # see ``THROUGH``; None: all that is stored
        self._parts: list[Part] = []
        self.add(GridPosition(aligners, number))
        self.add(summaries := Summaries(self, manifest.channel_names, summary_interval_s, clock))
        self.add(Doubts(summaries))
        self.add(summaries.unchanged)
        self.add(WarmUp(self, manifest))
        self.gaps = Gaps(self, manifest.sampling, settings.lateness_samples)
        self.add(self.gaps)
        self.origin = origin or Origin()
        self._replaces_bundle = self.origin.stands_in == BASELINE
        self._check_limits(settings)
        self.add(measured := PassedLimits(self, settings, manifest.channels))
        self.add(Limits(self, settings, detector, memory, number, measured))
        self.add(self.origin)

    def add(self, part: Part) -> None:
        """Add a part; call this before ``restore``, so that the part is restored, too.

        Raises:
            ValueError: another part has this name.

        """
        if part.name in {THROUGH, *(other.name for other in self._parts)}:
            raise ValueError(f"stream {self.name}: {part.name!r} is saved already: take another")
        self._parts.append(part)

    def restore(
        self,
        parts: Mapping[str, bytes],
        open_alarms: list[dict[str, Any]],
        last_number: int,
        batch: Batch,
    ) -> bool:
        """Continue where ``save`` stopped; return whether that was possible.

        If not (first start, other bundle), numbers continue after ``last_number``. Open alarms
        close, because nothing watches them any more, and the stored state is forgotten. Parts that
        are ``Part.lasting`` still continue, and so does a silence: the clock found it, not the
        detector. If a baseline replaces a refused bundle, the alarms of the bundle stay open until
        a bundle runs again.
        """
        try:
            if not parts:
                raise StateMismatch("nothing saved")
            restored = self.detector.restore(parts)
        except StateMismatch as reason:
            _LOG.info(
                "stream %s starts from nothing: %s", self.name, reason, extra={STREAM: self.name}
            )
            batch.forget(self.name)
            if Gaps.name in parts:  # it does not depend on the detector
                self.gaps.restore(parts[Gaps.name], batch)
            self.detector.events(self._memory, self._number).next_number = last_number + 1
            self._alarms.adopt(open_alarms)
            lasting = {part.name for part in self._parts if part.lasting}
            self._restore_parts({name: parts[name] for name in lasting & parts.keys()}, batch)
            silent = self._alarms.release("silent")
            if self._replaces_bundle:
                self._alarms.leave_open(_LASTING)
            self.close_alarms("unwatched", batch, but=self._followed())
            self._stay_silent(silent)
            return False
        self.detector.adopt(self._memory, self._number, restored)
        self._alarms.adopt(open_alarms)
        self._restore_parts(parts, batch)
        if self._replaces_bundle:
            self._alarms.leave_open(_LASTING, but=self._followed())
        if THROUGH in parts:
            self.saved_through = int(parts[THROUGH])
        return True

    def _restore_parts(self, saved: Mapping[str, bytes], batch: Batch) -> None:
        for part in self._parts:
            if part.name in saved:  # an older version may not have had it
                part.restore(saved[part.name], batch)

    def _followed(self) -> set[int]:
        """Return the numbers of the alarms whose events are open."""
        return {event.number for event in self._open_events()}

    def replace(self, before: Stream, batch: Batch) -> None:
        """Replace the stream of the same name that another detector watched.

        Alarm numbers, counters and ``Part.lasting`` parts continue. So does a silence: the clock
        found it. The summary in progress is sent. The other alarms close and the stored state is
        forgotten, because both belong to the other detector.
        """
        lasting = [part for part in before._parts if part.lasting]
        kept = {event.number for part in lasting for event in part.open_events()}
        saved = {part.name: part.to_bytes(Moment.STOP) for part in lasting}
        silent = before._alarms.release("silent")
        before.close("unwatched", batch, but=kept)
        batch.forget(self.name)
        self._alarms.adopt(before._alarms.open_among(kept))
        self._restore_parts({name: data for name, data in saved.items() if data}, batch)
        events = before.detector.events(before._memory, before._number)
        self.detector.events(self._memory, self._number).next_number = events.next_number
        self._stay_silent(silent)
        self.counters.update(before.counters)
        self.last_time = before.last_time
        self.gaps.replace(before.gaps)
        before._parts.clear()  # parts and stream refer to each other, and so keep the network
        del before.gaps

    def catch_up(self, samples: Samples, batch: Batch) -> None:
        """Score the samples again that were stored after the memory was last saved.

        Everything that they opened or closed was saved or reported before.
        """
        inside = samples._replace(times=samples.times - self.correction_s)
        found = self.detector.step_together(
            self._memory, np.array([self._number]), inside.times[:, None], inside.values[:, None]
        )
        for _, event in found.events:
            self.report([event], batch, inside)
        for _, forecast in found.forecasts:
            self.foretell(forecast, batch)
        self._aligners.caught_up(self._number, inside)
        self._record(samples, found.score[:, 0], batch)

    @property
    def watched_by(self) -> dict[str, str]:
        """Name, version and digest of the detector, as ``status`` has them."""
        return {
            "bundle": f"{self.manifest.name} version {self.manifest.version}",
            "bundle_digest": self.detector.digest,
        }

    @property
    def correction_s(self) -> float:
        """Seconds to add to the detector's times; 0 for a device with times of its own."""
        return self._clock.correction_s if self.timed_by_arrival else 0.0

    def arrived_s(self, monotonic_s: float) -> float:
        """Return the time of a reading without its own time, from its arrival (``monotonic``)."""
        clock = self._clock
        steady = self.timed_by_arrival
        return clock.steady_s(monotonic_s) if steady else clock.wall_s(monotonic_s)

    def check(self, settings: StreamTable) -> None:
        """Raise ConfigError if the settings do not fit the stream's bundle."""
        self._check_limits(settings)
        for part in self._parts:
            part.check(settings)

    def _check_limits(self, settings: StreamTable) -> None:
        """Raise ConfigError if a limit does not fit.

        A baseline in place of a bundle guards the limits of those channels that it has.
        """
        if not self._replaces_bundle:
            check_limits(settings.name, settings.limits, self.manifest.channels)

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue with settings that passed ``check``."""
        self.silent_after_s = settings.silent_after_s
        for part in self._parts:
            part.reconfigure(settings, summary_interval_s, batch)

    def keep(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Store samples with their scores, (n,), n ≥ 1, and add them to the summary."""
        samples = samples._replace(times=samples.times + self.correction_s)
        batch.samples.append((self.name, samples, score))
        self.counters["samples"] += len(samples.times)
        self.counters["scored"] += int(np.count_nonzero(~np.isnan(score)))
        self._quality = None
        if samples.quality is not None:
            self._quality = samples.quality.max(axis=0)
            self.counters.update(_not_measured(samples.quality, score))
        if told.LOG.isEnabledFor(logging.DEBUG):
            last = self.last_time
            before = None if last is None else (last, self.last_score is not None)
            told.tell(self.name, samples, score, self.manifest.sampling.period_s, before)
        self._record(samples, score, batch)

    def _record(self, samples: Samples, score: Float32, batch: Batch) -> None:
        self.last_time = float(samples.times[-1])
        self.last_score = _or_none(score[-1])
        self._last_values = samples.values[-1].copy()
        for part in self._parts:
            part.take(samples, score, batch)

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Give a forecast to the parts, at once: alarms do not wait for the commit."""
        for part in self._parts:
            part.foretell(forecast, batch)

    def take_number(self) -> int:
        """Return the number of a new event."""
        return self.detector.events(self._memory, self._number).take_number()

    def open_silence(
        self, since_monotonic_s: float, batch: Batch, reason: Reason | None = None
    ) -> None:
        """Open the alarm ``silent``, once until the next reading.

        ``reason``: if it is known; if it becomes known later, the alarm gives it from then on.
        """
        since, now = self.arrived_s(since_monotonic_s), self.arrived_s(self._clock.monotonic_s())
        opened = self.detector.open_silence(self._memory, now, since, self._number)
        self.gaps.alarmed()
        if reason is not None and not opened:
            self._alarms.explain(reason)
        self.report(opened, batch, reason=reason)

    def _stay_silent(self, alarms: Iterable[dict[str, Any]]) -> None:
        """Continue a ``silent`` alarm of the former detector, under its number."""
        events, by_s = self.detector.events(self._memory, self._number), self.correction_s
        for alarm in alarms:
            opened, onset = unix_s(alarm["opened"]) - by_s, unix_s(alarm["onset"]) - by_s
            next_number, events.next_number = events.next_number, alarm["number"]
            self.detector.open_silence(self._memory, opened, onset, self._number)
            events.next_number = next_number
            self._alarms.go_on(alarm)
            self.gaps.alarmed()

    def report(
        self,
        events: list[Event],
        batch: Batch,
        samples: Samples | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Make alarms of events, with the ``samples`` in which they were found, if any.

        ``reason``: see ``alarm_document``.
        """
        for inside in events:
            event = inside.moved(self.correction_s)
            quality, newest = None, self._newest()
            if samples is not None:
                quality = samples.quality_at(inside.time)
                row = samples.row_at(inside.time)
                newest = self._as_newest(float(samples.times[row]), samples.values[row])
            named = named_quality(self.manifest.channel_names, quality)
            change = self._alarms.take(event, named, reason, newest)
            if change is not None:
                self._tell(change, event.detector, batch)

    def _newest(self) -> Newest | None:
        """Return the newest sample; None before the first since the start."""
        if self._last_values is None or self.last_time is None:
            return None
        return self._as_newest(self.last_time - self.correction_s, self._last_values)

    def _as_newest(self, time: float, values: Float32) -> Newest:
        """Return a sample, (C,), in the form of alarms; its time is the detector's."""
        known = [value if math.isfinite(value) else None for value in values.tolist()]
        names = self.manifest.channel_names
        return Newest(time + self.correction_s, dict(zip(names, known, strict=True)))

    def close_alarms(
        self,
        cause: Cause,
        batch: Batch,
        numbers: Iterable[int] | None = None,
        but: Collection[int] = (),
    ) -> None:
        """Close open alarms whose events will not close them; None: all but those in ``but``."""
        for change in self._alarms.close(cause, self._clock.wall_s(), numbers, but):
            self._tell(change, _FOUND_BY.get(change.alarm["kind"], self.detector.detector), batch)

    def _tell(self, change: Change, detector: str, batch: Batch) -> None:
        """Store, send, count and log an alarm that was opened or closed.

        The log does not give its number: the agent tells a number only once it is on the disk.
        """
        batch.alarms.append(change.alarm)
        self.send("alarm", change.time, change.alarm, batch, detector)
        self.counters.update(change.counters)
        _LOG.warning("stream %s: %s", self.name, change, extra={STREAM: self.name})

    def send(
        self,
        kind: Kind,
        time: float,
        data: dict[str, Any],
        batch: Batch,
        detector: str | None = None,
    ) -> None:
        """Send a message of this time; the memory is saved with the commit that has it.

        ``detector``: the one that found it; None: the stream's.
        """
        self._told = True
        batch.messages.append(
            Outgoing(
                kind,
                self.name,
                time,
                data,
                self.detector.digest,
                detector or self.detector.detector,
            )
        )

    def document(self, last_alarm: float = math.inf) -> dict[str, Any]:
        """Return the stream's state for ``status``.

        ``last_alarm``: the highest alarm number on the disk; higher ones are left out.
        """
        counters = self.counters.copy()
        for part in self._parts:
            counters.update(part.counters)
        return (
            self.watched_by
            | {
                "detector": self.detector.detector,
                "interpreter": self.detector.runtime,
                "last_sample": None if self.last_time is None else iso_time(self.last_time),
                "last_score": self.last_score,
                "quality": named_quality(self.manifest.channel_names, self._quality),
                "open_alarms": [
                    alarm if alarm["number"] <= last_alarm else alarm | {"number": None}
                    for alarm in self._alarms.stored
                ],
                "counters": dict(+counters),
            }
            | {key: value for part in self._parts for key, value in part.document().items()}
        )

    def save(
        self, batch: Batch, next_sample: int, whole: bool = True, stopping: bool = False
    ) -> None:
        """Put this stream's open alarms, its position on the grid and its memory into ``batch``.

        The position is saved only if the last sample does not imply it. The memory is saved only
        if ``whole``, or if something was reported since the last time: after a restart the stream
        scores later stored samples again.

        Args:
            batch: with all samples of the stream that are not stored yet.
            next_sample: number that the next sample has when those of the batch are stored.
            whole: also save the memory.
            stopping: the agent stops; see ``Moment``.

        """
        events = [event.moved(self.correction_s) for event in self._open_events()]
        batch.alarms += self._alarms.update(events, self._newest() if events else None)
        # a batch that could not be committed still has the parts that did not change since
        saved = batch.state.setdefault(self.name, {})
        whole = whole or self._told
        moment = Moment.STOP if stopping else Moment.MEMORY if whole else Moment.COMMIT
        for part in self._parts:
            if (data := part.to_bytes(moment)) is not None:
                saved[part.name] = data
        if moment < Moment.MEMORY:
            return
        self._told = False
        saved |= self.detector.changed_parts(self._memory, self._number)
        saved[THROUGH] = str(next_sample).encode()

    def _open_events(self) -> list[Event]:
        events = list(self.detector.open_events(self._memory, self._number))
        for part in self._parts:
            events += part.open_events()
        return events

    def close(self, cause: Cause, batch: Batch, but: Collection[int] = ()) -> None:
        """Send what the parts still hold, and close the open alarms, because the stream leaves.

        ``but``: numbers of alarms that stay open: another detector's stream continues them.
        """
        for part in self._parts:
            part.close(batch)
        self._alarms.leave_open(())
        self.close_alarms(cause, batch, but=but)


def _not_measured(quality: Uint8, score: Float32) -> dict[str, int]:
    """Count values, (n, C), that were not measured, and scores, (n,), made from such values."""
    counts = {
        f"values_{QUALITIES[code]}": int((quality == code).sum())
        for code in (HELD, INTERPOLATED, MISSING)
    }
    return counts | {"uncertain": uncertain(quality, score)}


def _or_none(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
