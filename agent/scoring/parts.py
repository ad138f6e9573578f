"""The parts that each stream has; ``agent.scoring.part`` defines parts.

Each part connects a stream to an object that does not know streams: the aligner, the features of
fast channels, the summary, or the watches over limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agent.alarms.limit import limits_of, reason_of
from agent.alarms.measured import MeasuredLimits
from agent.alarms.predicted import LimitWatch, without_forecast
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.scoring.part import Changes, Moment, Part, Teller
from agent.scoring.remarks import Unchanged
from agent.scoring.summary import Summary
from agent.store.batch import Batch
from models.accuracy import by_channel, by_lead
from models.align import Aligners
from models.detector import Detector, Memory
from models.features import Features
from models.forecaster import NEVER, Forecaster, ForecastState
from models.manifest import Channel, Sampling
from models.messages import Event, Float32, Forecast, Samples
from models.times import iso_time


class GridPosition(Part):
    """The position of the stream on its grid, which the fleet's aligners know."""

    name = "aligner"
    saved_from = Moment.COMMIT

    def __init__(self, aligners: Aligners, number: int) -> None:
        self._aligners, self._number = aligners, number
        self._changes = Changes()

    @property
    def counters(self) -> Counter[str]:
        """Late rows, duplicate rows, …; see ``models.align.Aligner``."""
        return self._aligners.counters(self._number)

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save it after a change; at a commit only if the last sample does not imply it."""
        if moment < Moment.MEMORY and self._aligners.is_plain(self._number):
            return None
        return self._changes.of(self._aligners.of(self._number).to_bytes())

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue at the saved position."""
        self._aligners.restore(self._number, data)


class RawValues(Part):
    """The raw values of fast channels that are not yet part of a window.

    They are large and soon out of date, so only a stop saves them. After a crash the first windows
    may be short. Saved data from an earlier stop is deleted, so that it is not used after a crash.
    """

    name = "features"
    saved_from = Moment.COMMIT

    def __init__(self, features: Features) -> None:
        self._features = features
        self._changes = Changes()

    @property
    def counters(self) -> Counter[str]:
        """Late values and short windows; see ``models.features.Features``."""
        return self._features.counters

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save them at a stop."""
        return self._changes.of(self._features.to_bytes() if moment == Moment.STOP else b"")

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with the raw values that a stop saved."""
        self._changes.restore(data)
        if data:
            self._features.restore(data)


class Summaries(Part):
    """One summary per interval of sample time, sent when the next interval begins."""

    name = "summary"

    def __init__(
        self, teller: Teller, channels: tuple[str, ...], interval_s: float, clock: Clock
    ) -> None:
        self._teller, self._channels, self._clock = teller, channels, clock
        self.summary = Summary(channels, interval_s)
        self.unchanged = Unchanged()
        self.seen_by: list[Callable[[dict[str, Any]], None]] = [self.unchanged.see]

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Send the interval in progress and begin another one."""
        if summary_interval_s != self.summary.interval_s:
            self.close(batch)
            self.summary = Summary(self._channels, summary_interval_s)

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Add samples to the interval."""
        self._send(self.summary.add(samples, score), float(samples.times[-1]), batch)

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the interval in progress with the memory: samples stored later are added again."""
        return self.summary.to_bytes()

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue the interval that was in progress."""
        self.summary.restore(data)

    def close(self, batch: Batch) -> None:
        """Send the interval in progress."""
        self._send(self.summary.close(), self._teller.last_time or self._clock.wall_s(), batch)

    def _send(self, ended: list[dict[str, Any]], time: float, batch: Batch) -> None:
        for summary in ended:
            for see in self.seen_by:
                see(summary)
            self._teller.send("summary", time, summary, batch)


class Doubts(Part):
    """Unmeasured values in the summary's interval; separate, because they are mostly empty."""

    name = "doubts"

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries
        self._changes = Changes()

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save it with the memory, after a change."""
        return self._changes.of(self._summaries.summary.doubts_to_bytes())

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with the doubts of the interval that was in progress."""
        self._changes.restore(data)
        self._summaries.summary.restore_doubts(data)


class PassedLimits(Part):
    """The alarms of limits that measured values have passed; lasting, as they need no detector."""

    name = "passed_limits"
    lasting = True

    def __init__(
        self,
        teller: Teller,
        settings: StreamTable,
        channels: Sequence[Channel],
        sampling: Sampling,
    ) -> None:
        """Set up with the ``channels`` and the ``sampling`` of the stream."""
        self._teller, self._settings, self._channels = teller, settings, channels
        self._known_s = sampling.missing_samples * sampling.period_s
        self.watch = self._watch_of(settings)
        self._saved = False  # whether the last saved data was not empty

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue the delays and alarms of unchanged limits; close the others."""
        before, self._settings = self._settings, settings
        if settings.limits != before.limits:
            state, self.watch = self.watch.to_bytes(), self._watch_of(settings)
            self.restore(state, batch)

    def _watch_of(self, settings: StreamTable) -> MeasuredLimits:
        return MeasuredLimits(settings.limits, self._channels, self._known_s)

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Open and close the alarms of measured values."""
        if not self._settings.limits:
            return
        inside = samples._replace(times=samples.times - self._teller.correction_s)
        for event in self.watch.take(inside, self._teller.take_number):
            reason = reason_of(self._settings.limits, event)
            self._teller.report([event], batch, inside, reason)

    def settle(self) -> None:
        """Update the events of the alarms."""
        self.watch.settle()

    def open_events(self) -> list[Event]:
        """Return the alarms' events, each with its worst and its newest value."""
        return self.watch.open_events()

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save delays and alarms with the memory, while there are any."""
        if not (self.watch.active or self._saved):
            return None
        self._saved = self.watch.active
        return self.watch.to_bytes()

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with delays and alarms; close those of limits that are no longer set."""
        self._saved = True
        self._teller.close_alarms("limit_removed", batch, self.watch.restore(data))


class Limits(Part):
    """The forecasts, and the alarms of limits that will be passed."""

    name = "limits"

    def __init__(
        self,
        teller: Teller,
        settings: StreamTable,
        detector: Detector,
        memory: Memory,
        number: int,
        measured: PassedLimits,
    ) -> None:
        """Set up; ``measured``: of the same stream; it has precedence over forecasts."""
        self._teller, self._settings, self._measured = teller, settings, measured
        self._detector, self._memory, self._number = detector, memory, number
        self._forecaster = detector.forecaster
        self._watch = self._watch_of(settings)

    def _watch_of(self, settings: StreamTable) -> LimitWatch:
        return LimitWatch.of(settings.limits, settings.prediction, self._forecaster)

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue the runs and alarms of unchanged limits; close the others."""
        before, self._settings = self._settings, settings
        if (settings.limits, settings.prediction) != (before.limits, before.prediction):
            runs, self._watch = self._watch.to_bytes(), self._watch_of(settings)
            self.restore(runs, batch)

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Close the alarms of limits that were passed, as ``measured`` has alarms for these."""
        if not self._settings.limits:
            return
        if passed := self._watch.withdraw(self._measured.watch.passed):
            self._teller.close_alarms("limit_passed", batch, passed)

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Open and close the alarms of a forecast."""
        passed = self._measured.watch.passed
        for event in self._watch.take(forecast, self._teller.take_number, passed):
            reason = reason_of(self._settings.limits, event)
            self._teller.report([event], batch, reason=reason)

    def estimates(self) -> list[dict[str, Any]]:
        """Return all limits, each with its newest forecast; without one, its estimates are None."""
        forecast = self._watch.document(self._teller.correction_s)
        known = {one["channel"] for one in forecast}
        channels = self._detector.manifest.channels
        others = [
            without_forecast(limit)
            for limit in limits_of(self._settings.limits, channels)
            if limit.channel not in known
        ]
        return forecast + others

    def open_events(self) -> list[Event]:
        """Return the alarms' events, as in the last forecast."""
        return self._watch.open_events()

    def document(self) -> dict[str, Any]:
        """Return the forecast and the accuracy of earlier ones; None if nothing is forecast."""
        return {"forecast": self._forecast()}

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save runs and alarms with the memory."""
        return None if self._forecaster is None else self._watch.to_bytes()

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with runs and alarms; close those of limits that are no longer set."""
        left = self._watch.restore(data)
        self._teller.close_alarms("limit_removed", batch, left)

    def _forecast(self) -> dict[str, Any] | None:
        forecaster = self._forecaster
        state = self._detector.forecasts(self._memory, self._number)
        if forecaster is None or state is None:
            return None
        made, refused = int(state.pending.made.max()), state.refused
        return {
            "step_s": forecaster.step_s,
            "horizon_s": forecaster.part.horizon_steps * forecaster.step_s,
            "last_forecast": self._step_time(made),
            "warm_up": self._warm_up(forecaster, state),
            "refused": refused and f"{refused.reason.replace('_', ' ')}: {refused.detail}",
            "counters": dict(state.counters),
            "limits": self._watch.document(self._teller.correction_s),
            "accuracy": by_channel(forecaster, state.judged),
            "by_lead": by_lead(forecaster, state.judged),
        }

    @staticmethod
    def _warm_up(forecaster: Forecaster, state: ForecastState) -> dict[str, Any] | None:
        """Return the present and the required number of steps for a forecast; None: enough."""
        needed, has = forecaster.part.context_steps, int(state.history.written.max())
        if has >= needed:
            return None
        left_s = (needed - has) * forecaster.step_s
        return {"needs_steps": needed, "has_steps": has, "left_s": left_s}

    def _step_time(self, number: int) -> str | None:
        if number == NEVER or self._forecaster is None:
            return None
        return iso_time(number * self._forecaster.step_s + self._teller.correction_s)
