"""What is made of one stream's samples and events: alarms, summaries, messages, its saved memory.

The stream's fleet aligns and scores it together with the others of its bundle. Does no I/O: the
daemon commits what it put into the batch.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.alarms.document import alarm_document
from agent.alarms.predicted import DETECTOR as FORECASTER
from agent.alarms.predicted import LimitWatch
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.journal import STREAM
from agent.scoring.summary import Summary, uncertain
from agent.store.batch import THROUGH, Batch
from agent.store.envelope import Kind, Outgoing
from models.accuracy import by_channel, by_lead
from models.align import Aligners
from models.detector import Detector, Memory
from models.features import Features
from models.forecaster import NEVER
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
from models.times import iso_time

_LOG = logging.getLogger(__name__)
_ALIGNER, _FEATURES, _SUMMARY, _DOUBTS = "aligner", "features", "summary", "doubts"
_LIMITS = "limits"


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
    ) -> None:
        self._clock = clock
        self.timed_by_arrival = False  # no input of it has a time of its own
        self.manifest = manifest = detector.manifest
        self.name = settings.name
        self.silent_after_s = settings.silent_after_s
        self.leap_agreed_s = settings.leap_agreed_s
        self._settings = settings
        self._detector, self._memory, self._number = detector, memory, number
        self._aligners = aligners
        self._units = {channel.name: channel.unit for channel in manifest.channels}
        self._summary = Summary(manifest.channel_names, summary_interval_s)
        self._forecaster = detector.forecaster
        self._limits = self._watch(settings)
        self.features: Features | None = None  # of a bundle that has some
        self._raw_saved = False
        self.counters: Counter[str] = Counter()
        self.last_time: float | None = None  # of the last sample, Unix seconds
        self.last_score: float | None = None
        self._open_alarms: list[dict[str, Any]] = []  # as last stored
        self._opened_with: dict[int, dict[str, str]] = {}  # alarm -> channels not measured then
        self._quality: Uint8 | None = None  # the worst per channel since the last commit
        self._told = True  # something since the memory was last saved
        self._aligner_saved = self._doubts_saved = b""
        self.saved_through: int | None = None  # see ``THROUGH``; None: all that is stored

    def restore(
        self,
        parts: Mapping[str, bytes],
        open_alarms: list[dict[str, Any]],
        last_number: int,
        batch: Batch,
    ) -> bool:
        """Go on where ``save`` left off; say whether that was possible.

        If not (first start, other bundle), numbers go on after ``last_number`` and the alarms
        that are open are closed: nobody watches them any more.
        """
        try:
            if not parts:
                raise StateMismatch("nothing saved")
            restored = self._detector.restore(parts)
        except StateMismatch as reason:
            _LOG.info(
                "stream %s starts from nothing: %s", self.name, reason, extra={STREAM: self.name}
            )
            self._detector.events(self._memory, self._number).next_number = last_number + 1
            for alarm in open_alarms:
                self._close(alarm, batch)
            return False
        self._detector.adopt(self._memory, self._number, restored)
        self._aligners.restore(self._number, parts[_ALIGNER])
        if self.features and (raw := parts.get(_FEATURES)):
            self.features.restore(raw)
            self._raw_saved = True
        self._summary.restore(parts[_SUMMARY])
        # of an agent before there were forecasts there are none
        left = self._limits.restore(parts[_LIMITS]) if _LIMITS in parts else []
        if _DOUBTS in parts:
            self._doubts_saved = parts[_DOUBTS]
            self._summary.restore_doubts(self._doubts_saved)
        self._open_alarms = open_alarms
        self._opened_with = {alarm["number"]: alarm.get("quality", {}) for alarm in open_alarms}
        self._close_all(left, batch)
        if THROUGH in parts:
            self.saved_through = int(parts[THROUGH])
        return True

    def catch_up(self, samples: Samples, batch: Batch) -> None:
        """Score again what was stored after the memory was last saved; it was all told, or calm."""
        inside = samples._replace(times=samples.times - self.correction_s)
        found = self._detector.step_together(
            self._memory, np.array([self._number]), inside.times[:, None], inside.values[:, None]
        )
        for _, event in found.events:
            self.report([event], batch, inside.quality_at(event.time))
        for _, forecast in found.forecasts:
            self.foretell(forecast, batch)
        self._aligners.caught_up(self._number, inside)
        self._take_note(samples, found.score[:, 0], batch)

    @property
    def correction_s(self) -> float:
        """What is to be added to the times inside; a device's own times are as they are."""
        return self._clock.correction_s if self.timed_by_arrival else 0.0

    def arrived_s(self, monotonic_s: float) -> float:
        """Return the time of a reading that has none, by its arrival (``time.monotonic``)."""
        clock = self._clock
        steady = self.timed_by_arrival
        return clock.steady_s(monotonic_s) if steady else clock.wall_s(monotonic_s)

    def _close(self, alarm: dict[str, Any], batch: Batch) -> None:
        """Close an alarm that nobody watches any more."""
        now = self._clock.wall_s()
        by = FORECASTER if alarm["kind"] == "limit" else self._detector.detector
        self._tell(alarm | {"state": "closed", "closed": iso_time(now)}, now, by, batch)

    def _watch(self, settings: StreamTable) -> LimitWatch:
        return LimitWatch(self.name, settings.limits, settings.prediction, self._forecaster)

    def check(self, settings: StreamTable) -> None:
        """Raise ConfigError where the settings do not fit the stream's bundle."""
        self._watch(settings)

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Go on with new settings; alarms of limits that are not set any more are closed."""
        before, self._settings = self._settings, settings
        self.silent_after_s = settings.silent_after_s
        if (settings.limits, settings.prediction) != (before.limits, before.prediction):
            runs, self._limits = self._limits.to_bytes(), self._watch(settings)
            self._close_all(self._limits.restore(runs), batch)
        if summary_interval_s != self._summary.interval_s:
            for summary in self._summary.close():
                sent_s = self.last_time or self._clock.wall_s()
                self._send("summary", sent_s, self._detector.detector, summary, batch)
            self._summary = Summary(self.manifest.channel_names, summary_interval_s)

    def _close_all(self, numbers: list[int], batch: Batch) -> None:
        for alarm in self._open_alarms:
            if alarm["number"] in numbers:
                self._close(alarm, batch)

    def keep(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Take note of samples with their scores, (n,), n ≥ 1: they are stored and summed up."""
        samples = samples._replace(times=samples.times + self.correction_s)
        batch.samples.append((self.name, samples, score))
        self.counters["samples"] += len(samples.times)
        self.counters["scored"] += int(np.count_nonzero(~np.isnan(score)))
        self._quality = None
        if samples.quality is not None:
            self._doubt(samples.quality, score)
        self._take_note(samples, score, batch)

    def _doubt(self, quality: Uint8, score: Float32) -> None:
        """Count what was not measured."""
        self._quality = quality.max(axis=0)
        self.counters["uncertain"] += uncertain(quality, score)
        for code in (HELD, INTERPOLATED, MISSING):
            self.counters[f"values_{QUALITIES[code]}"] += int((quality == code).sum())

    def _take_note(self, samples: Samples, score: Float32, batch: Batch) -> None:
        self.last_time = float(samples.times[-1])
        self.last_score = _or_none(score[-1])
        for summary in self._summary.add(samples, score):
            self._send("summary", self.last_time, self._detector.detector, summary, batch)

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Raise and close the alarms of a forecast."""
        events = self._detector.events(self._memory, self._number)
        self.report(self._limits.take(forecast, events.take_number), batch)

    def silent(self, since_monotonic_s: float, batch: Batch) -> None:
        """Open the alarm that says nothing comes any more (once, until something does)."""
        since, now = self.arrived_s(since_monotonic_s), self.arrived_s(self._clock.monotonic_s())
        self.report(self._detector.silent(self._memory, now, since, self._number), batch)

    def report(self, events: list[Event], batch: Batch, quality: Uint8 | None = None) -> None:
        """Make alarms of events; ``quality`` (C,) is that of the sample they were found at."""
        for inside in events:
            event = inside.moved(self.correction_s)
            if event.state == "opened":
                names = self.manifest.channel_names
                self._opened_with[event.number] = named_quality(names, quality)
            self._tell(self._alarm(event), event.time, event.detector, batch)

    def _tell(self, alarm: dict[str, Any], time: float, detector: str, batch: Batch) -> None:
        """Have an alarm stored and sent, opened or closed; count it.

        The log has no number of it: that is told by what is on the disk.
        """
        if alarm["state"] == "closed":
            self._opened_with.pop(alarm["number"], None)
        batch.alarms.append(alarm)
        self._send("alarm", time, detector, alarm, batch)
        self.counters[f"alarms_{alarm['state']}"] += 1
        _LOG.warning(
            "stream %s: alarm %s: %s since %s",
            self.name,
            alarm["state"],
            alarm["kind"],
            alarm["onset"],
            extra={STREAM: self.name},
        )

    def _alarm(self, event: Event) -> dict[str, Any]:
        quality = self._opened_with.get(event.number, {})
        return alarm_document(self.name, event, self._units, quality)

    def _send(
        self, kind: Kind, time: float, detector: str, data: dict[str, Any], batch: Batch
    ) -> None:
        self._told = True
        batch.messages.append(
            Outgoing(kind, self.name, time, data, self._detector.digest, detector)
        )

    def document(self) -> dict[str, Any]:
        """Say how the stream is doing, for ``status``."""
        manifest = self.manifest
        return {
            "bundle": f"{manifest.name} version {manifest.version}",
            "bundle_digest": self._detector.digest,
            "detector": self._detector.detector,
            "interpreter": self._detector.runtime,
            "last_sample": None if self.last_time is None else iso_time(self.last_time),
            "last_score": self.last_score,
            "quality": named_quality(manifest.channel_names, self._quality),
            "open_alarms": self._open_alarms,
            "counters": dict(self._all_counters()),
            "forecast": self._forecast_document(),
        }

    def _all_counters(self) -> Counter[str]:
        own = self.counters + self._aligners.of(self._number).counters
        return own + self.features.counters if self.features else own

    def _forecast_document(self) -> dict[str, Any] | None:
        """Say what is forecast and how good that has been; None where nothing is."""
        forecaster = self._forecaster
        state = self._detector.forecasts(self._memory, self._number)
        if forecaster is None or state is None:
            return None
        made, refused = int(state.pending.made.max()), state.refused
        return {
            "step_s": forecaster.step_s,
            "horizon_s": forecaster.part.horizon_steps * forecaster.step_s,
            "last_forecast": self._step_time(made),
            "refused": refused and f"{refused.reason.replace('_', ' ')}: {refused.detail}",
            "counters": dict(state.counters),
            "limits": self._limits.document(self.correction_s),
            "accuracy": by_channel(forecaster, state.judged),
            "by_lead": by_lead(forecaster, state.judged),
        }

    def _step_time(self, number: int) -> str | None:
        if number == NEVER or self._forecaster is None:
            return None
        return iso_time(number * self._forecaster.step_s + self.correction_s)

    def save(
        self, batch: Batch, next_sample: int, whole: bool = True, stopping: bool = False
    ) -> None:
        """Put this stream's open alarms into ``batch``, its place on the grid, and its memory.

        The place only where the last sample does not say it, the memory only if ``whole``, or
        something was told since it was last saved: the rest is scored again after a restart,
        from the stored samples.

        Args:
            batch: with all samples of the stream that are not stored yet.
            next_sample: number that the next sample has when those of the batch are stored.
            whole: the memory, too.
            stopping: with the raw values of fast channels. They are large, and soon of the past:
                after a crash the first windows may be short.

        """
        self._save_alarms(batch)
        # a batch that could not be committed keeps the parts that have not changed since
        parts = batch.state.setdefault(self.name, {})
        whole = whole or self._told
        if whole or not self._aligners.is_plain(self._number):
            self._save_place(parts)
        if self.features and (stopping or self._raw_saved):
            parts[_FEATURES] = self.features.to_bytes() if stopping else b""
            self._raw_saved = stopping
        if not whole:
            return
        self._told = False
        parts |= self._detector.changed_parts(self._memory, self._number)
        parts[_SUMMARY] = self._summary.to_bytes()
        if (doubts := self._summary.doubts_to_bytes()) != self._doubts_saved:
            parts[_DOUBTS] = self._doubts_saved = doubts
        if self._forecaster is not None:
            parts[_LIMITS] = self._limits.to_bytes()
        parts[THROUGH] = str(next_sample).encode()

    def _save_place(self, parts: dict[str, bytes]) -> None:
        aligner = self._aligners.of(self._number).to_bytes()
        if aligner != self._aligner_saved:
            parts[_ALIGNER] = self._aligner_saved = aligner

    def _save_alarms(self, batch: Batch) -> None:
        events = self._detector.open_events(self._memory, self._number)
        open_alarms = [
            self._alarm(event.moved(self.correction_s))
            for event in [*events, *self._limits.open_events()]
        ]
        batch.alarms += [alarm for alarm in open_alarms if alarm not in self._open_alarms]
        self._open_alarms = open_alarms


def _or_none(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
