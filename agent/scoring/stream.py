"""One stream: turns its samples and events into alarms, summaries, messages and saved memory.

Its fleet aligns and scores it together with the other streams of its bundle. Besides its detector,
a stream has parts (``agent.scoring.part``). It does no I/O: the daemon commits what the stream puts
into the batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from agent.alarms.context import check_names, context_of
from agent.alarms.document import Reason
from agent.alarms.lifecycle import Cause
from agent.alarms.limit import check_limits, limitable
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.journal import STREAM
from agent.scoring import told
from agent.scoring.advisor import Advisor
from agent.scoring.companions import Companions
from agent.scoring.gaps import Gaps
from agent.scoring.life import RemainingLife
from agent.scoring.origin import BASELINE, Origin
from agent.scoring.part import Moment, Part, answers
from agent.scoring.parts import Doubts, GridPosition, Limits, PassedLimits, Summaries
from agent.scoring.remarks import WarmUp
from agent.scoring.summary import uncertain
from agent.scoring.teller import StreamTeller
from agent.scoring.windows import Windows
from agent.store.batch import THROUGH, Batch
from models.align import Aligners
from models.detector import Detector, Memory
from models.manifest import TelemanomManifest
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

# alarms of these kinds stay open while another detector replaces the one that found them
_LASTING = ("anomaly", "limit")
_AT_COMMITS = ("take", "open_events", "counters", "document")  # calls of ``Part``


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
        """Set up; ``origin``: None for a detector as configured that is not signed."""
        self.manifest = manifest = detector.manifest
        self.name = settings.name
        self.silent_after_s = settings.silent_after_s
        self.leap_agreed_s = settings.leap_agreed_s
        self.detector = detector
        self._memory, self._number = memory, number
        self._aligners = aligners
        context = context_of(settings, manifest, detector.digest)
        self.teller = teller = StreamTeller(settings.name, detector, memory, number, clock, context)
        self.counters = teller.counters
        self.last_score: float | None = None
        self._quality: Uint8 | None = None  # worst quality per channel since the last commit
        self.saved_through: int | None = None  # see ``THROUGH``; None: all stored samples
        self._parts: list[Part] = []
        # the parts that override a call: only these are called at each commit of each stream
        self._answering: dict[str, list[Part]] = {call: [] for call in _AT_COMMITS}
        self._saved_at: dict[Moment, list[Part]] = {moment: [] for moment in Moment}
        self.add(GridPosition(aligners, number))
        self.add(summaries := Summaries(teller, manifest.channel_names, summary_interval_s, clock))
        self.add(Doubts(summaries))
        self.add(summaries.unchanged)
        self.add(WarmUp(teller, manifest))
        self.gaps = Gaps(teller, manifest.sampling, settings.lateness_samples)
        self.add(self.gaps)
        self.origin = origin or Origin()
        self._replaces_bundle = self.origin.stands_in == BASELINE
        self._check_limits(settings)
        self.add(measured := PassedLimits(teller, settings, manifest.channels, manifest.sampling))
        self.add(limits := Limits(teller, settings, detector, memory, number, measured))
        companions = Companions(manifest.channel_names, lambda: bool(teller.alarms.open))
        summaries.seen_by.append(companions.see)
        self.add(companions)
        teller.advisor = Advisor(settings, manifest.channels, limits, companions, clock)
        if isinstance(manifest, TelemanomManifest) and manifest.remaining is not None:
            self.add(RemainingLife(teller, settings, manifest, manifest.remaining))
        self.add(self.origin)
        samples = settings.alarms.window_samples
        self.windows = Windows(settings.name, manifest.channel_names, samples)
        teller.openings_to.append(self.windows.opened)
        self.add(self.windows)

    def add(self, part: Part) -> None:
        """Add a part; call this before ``restore``, so that the part is restored, too.

        Raises:
            ValueError: another part has this name.

        """
        if part.name in {THROUGH, *(other.name for other in self._parts)}:
            raise ValueError(f"stream {self.name}: {part.name!r} is saved already: take another")
        self._parts.append(part)
        for call in _AT_COMMITS:
            if answers(part, call):
                self._answering[call].append(part)
        for moment in Moment:
            if moment >= part.saved_from:
                self._saved_at[moment].append(part)

    def restore(
        self,
        parts: Mapping[str, bytes],
        open_alarms: list[dict[str, Any]],
        last_number: int,
        batch: Batch,
    ) -> bool:
        """Continue where ``save`` stopped; return whether that was possible.

        If not (first start, other bundle), numbers continue after ``last_number``. Open alarms
        close, because they are no longer watched, and the stored state is deleted. Parts that are
        ``Part.lasting`` still continue. So does a silence, because the clock found it, not the
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
            self.teller.alarms.adopt(open_alarms)
            lasting = {part.name for part in self._parts if part.lasting}
            self._restore_parts({name: parts[name] for name in lasting & parts.keys()}, batch)
            silent = self.teller.alarms.release("silent")
            if self._replaces_bundle:
                self.teller.alarms.leave_open(_LASTING)
            self.teller.close_alarms("unwatched", batch, but=self._followed())
            self._stay_silent(silent)
            return False
        self.detector.adopt(self._memory, self._number, restored)
        self.teller.alarms.adopt(open_alarms)
        self._restore_parts(parts, batch)
        if self._replaces_bundle:
            self.teller.alarms.leave_open(_LASTING, but=self._followed())
        if THROUGH in parts:
            self.saved_through = int(parts[THROUGH])
        return True

    def _restore_parts(self, saved: Mapping[str, bytes], batch: Batch) -> None:
        for part in self._parts:
            if part.name in saved:  # an older version may have lacked the part
                part.restore(saved[part.name], batch)

    def _followed(self) -> set[int]:
        """Return the numbers of the alarms whose events are open."""
        return {event.number for event in self._open_events()}

    def replace(self, before: Stream, batch: Batch) -> None:
        """Replace the stream of the same name that another detector watched.

        Alarm numbers, counters and ``Part.lasting`` parts continue. So does a silence, because the
        clock found it. The summary in progress is sent. The other alarms close and the stored state
        is deleted, because both belong to the other detector.
        """
        lasting = [part for part in before._parts if part.lasting]
        kept = {event.number for part in lasting for event in part.open_events()}
        saved = {part.name: part.to_bytes(Moment.STOP) for part in lasting}
        silent = before.teller.alarms.release("silent")
        before.close("unwatched", batch, but=kept)
        batch.forget(self.name)
        self.teller.alarms.adopt(before.teller.alarms.open_among(kept))
        self._restore_parts({name: data for name, data in saved.items() if data}, batch)
        events = before.detector.events(before._memory, before._number)
        self.detector.events(self._memory, self._number).next_number = events.next_number
        self._stay_silent(silent)
        self.counters.update(before.counters)
        self.teller.last_time = before.teller.last_time
        self.gaps.replace(before.gaps)

    def catch_up(self, samples: Samples, batch: Batch) -> None:
        """Score the samples again that were stored after the memory was last saved.

        All events that they opened or closed were saved or reported before.
        """
        inside = samples._replace(times=samples.times - self.teller.correction_s)
        found = self.detector.step_together(
            self._memory, np.array([self._number]), inside.times[:, None], inside.values[:, None]
        )
        for _, event in found.events:
            self.teller.report([event], batch, inside)
        for _, forecast in found.forecasts:
            self.foretell(forecast, batch)
        self._aligners.caught_up(self._number, inside)
        self._record(samples, found.predicted[:, 0], found.score[:, 0], batch)

    @property
    def watched_by(self) -> dict[str, str]:
        """Name, version and digest of the detector, as in ``status``."""
        return {
            "bundle": f"{self.manifest.name} version {self.manifest.version}",
            "bundle_digest": self.detector.digest,
        }

    def check(self, settings: StreamTable) -> None:
        """Raise ConfigError if the settings do not fit the stream's bundle."""
        self._check_limits(settings)
        for part in self._parts:
            part.check(settings)

    def _check_limits(self, settings: StreamTable) -> None:
        """Raise ConfigError if a limit does not fit.

        A baseline in place of a bundle watches only the limits of its own channels.
        """
        if not self._replaces_bundle:
            check_limits(settings.name, settings.limits, limitable(self.manifest))
            check_names(settings, self.manifest.channel_names)

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue with settings that passed ``check``."""
        self.silent_after_s = settings.silent_after_s
        self.teller.alarms.context = context_of(settings, self.manifest, self.detector.digest)
        assert self.teller.advisor is not None
        self.teller.advisor.reconfigure(settings)
        for part in self._parts:
            part.reconfigure(settings, summary_interval_s, batch)

    def keep(self, samples: Samples, expected: Float32, score: Float32, batch: Batch) -> None:
        """Store samples with their scores, (n,), n ≥ 1, and add them to the summary.

        ``expected``: (n, C), for the windows of alarms.
        """
        samples = samples._replace(times=samples.times + self.teller.correction_s)
        batch.samples.append((self.name, samples, score))
        self.counters["samples"] += len(samples.times)
        self.counters["scored"] += int(np.count_nonzero(~np.isnan(score)))
        self._quality = None
        if samples.quality is not None:
            self._quality = samples.quality.max(axis=0)
            self.counters.update(_not_measured(samples.quality, score))
        if told.LOG.isEnabledFor(logging.DEBUG):
            last = self.teller.last_time
            before = None if last is None else (last, self.last_score is not None)
            told.tell(self.name, samples, score, self.manifest.sampling.period_s, before)
        self._record(samples, expected, score, batch)

    def _record(self, samples: Samples, expected: Float32, score: Float32, batch: Batch) -> None:
        self.teller.note(float(samples.times[-1]), samples.values[-1])
        self.last_score = _or_none(score[-1])
        for part in self._answering["take"]:
            part.take(samples, score, batch)
        self.windows.see(samples, expected, score)

    def foretell(self, forecast: Forecast, batch: Batch) -> None:
        """Pass a forecast to the parts at once: alarms do not wait for the commit."""
        for part in self._parts:
            part.foretell(forecast, batch)

    def open_silence(
        self, since_monotonic_s: float, batch: Batch, reason: Reason | None = None
    ) -> None:
        """Open the alarm ``silent``, once until the next reading.

        ``reason``: if it is known. If it becomes known later, it is added to the alarm.
        """
        self.teller.open_silence(since_monotonic_s, batch, reason)
        self.gaps.alarmed()

    def _stay_silent(self, alarms: Iterable[dict[str, Any]]) -> None:
        """Continue the ``silent`` alarms of the former detector."""
        for alarm in alarms:
            self.teller.stay_silent(alarm)
            self.gaps.alarmed()

    def document(self, last_alarm: float = math.inf) -> dict[str, Any]:
        """Return the stream's state for ``status``.

        ``last_alarm``: the highest alarm number on the disk; higher ones are left out.
        """
        counters, last_time = self.counters.copy(), self.teller.last_time
        for part in self._answering["counters"]:
            counters.update(part.counters)
        return (
            self.watched_by
            | {
                "detector": self.detector.detector,
                "interpreter": self.detector.runtime,
                "last_sample": None if last_time is None else iso_time(last_time),
                "last_score": self.last_score,
                "quality": named_quality(self.manifest.channel_names, self._quality),
                "open_alarms": [
                    alarm if alarm["number"] <= last_alarm else alarm | {"number": None}
                    for alarm in self.teller.alarms.stored
                ],
                "counters": dict(+counters),
            }
            | {
                key: value
                for part in self._answering["document"]
                for key, value in part.document().items()
            }
        )

    def save(
        self, batch: Batch, next_sample: int, whole: bool = True, stopping: bool = False
    ) -> None:
        """Put this stream's open alarms, its position on the grid and its memory into ``batch``.

        The position is saved only if the last sample does not imply it. The memory is saved only
        if ``whole``, or if something was reported since the last save. After a restart, the stream
        scores the samples again that were stored later.

        Args:
            batch: contains all samples of the stream that are not stored yet.
            next_sample: number of the next sample after those of the batch.
            whole: whether to save the memory.
            stopping: whether the agent stops; see ``Moment``.

        """
        if stopping:
            for part in self._parts:
                part.settle()
        self.teller.update(self._open_events(), batch)
        self.teller.renew(batch)
        # a batch that was not committed still has the parts that have not changed since
        saved = batch.state.setdefault(self.name, {})
        whole = whole or self.teller.unsaved
        moment = Moment.STOP if stopping else Moment.MEMORY if whole else Moment.COMMIT
        for part in self._saved_at[moment]:
            if (data := part.to_bytes(moment)) is not None:
                saved[part.name] = data
        if moment < Moment.MEMORY:
            return
        self.windows.put(batch)
        self.teller.unsaved = False
        saved |= self.detector.changed_parts(self._memory, self._number)
        saved[THROUGH] = str(next_sample).encode()

    def _open_events(self) -> list[Event]:
        events = list(self.detector.open_events(self._memory, self._number))
        for part in self._answering["open_events"]:
            events += part.open_events()
        return events

    def close(self, cause: Cause, batch: Batch, but: Collection[int] = ()) -> None:
        """Send the parts' unsent data, and close the open alarms, because the stream leaves.

        ``but``: numbers of alarms that stay open, because another detector's stream continues them.
        """
        for part in self._parts:
            part.close(batch)
        self.teller.alarms.leave_open(())
        self.teller.close_alarms(cause, batch, but=but)


def _not_measured(quality: Uint8, score: Float32) -> dict[str, int]:
    """Count the unmeasured values, (n, C), and the scores, (n,), that depend on them."""
    counts = {
        f"values_{QUALITIES[code]}": int((quality == code).sum())
        for code in (HELD, INTERPOLATED, MISSING)
    }
    return counts | {"uncertain": uncertain(quality, score)}


def _or_none(value: np.float32) -> float | None:
    return float(value) if value == value else None
