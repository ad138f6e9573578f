"""Turns scores into events that open and close: delays, deadband and contributing channels.

An ``anomaly`` event names the contributing channels. A stream has one open at a time, and further
ones of faults that begin while it is open; see ``models.anomalies``. It has at most one open
``silent`` event, while no samples arrive. Each channel is in at most one open
``stuck`` and one open ``missing`` event. Channels that go missing at the same sample have one
cause, and so share one event: it closes when the last of them is back. The terms on-delay,
off-delay and deadband are those of ISA-18.2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypedDict

import numpy as np

from models.anomalies import OpenAnomaly, Rise
from models.manifest import Severities, Severity, StreamRules
from models.messages import Bool, Contribution, Course, Event, Float32, Float64
from models.score_tail import Rating, ScoreTail
from models.sensors import SENSOR_KINDS, SensorChecks, SensorKind, SensorRuns
from models.threshold import Exceedance, Found

CONTRIBUTIONS_MAX = 8
ANOMALIES_MAX = 4  # open at the same time: what exceeds it belongs to the newest
SENSOR_DETECTOR = "sensor"


class Rated(TypedDict):
    """A score with its probability and severity; see ``models.messages.Event``."""

    score: float
    probability: float | None
    severity: Severity


class Recent(NamedTuple):
    """The samples of the current blocks, each of length ``U``, of ``N`` streams.

    For one stream there is no axis ``N``.
    """

    times: Float64  # (N, U) Unix seconds
    observed: Float32  # (N, U, C) in the channels' units, NaN where missing
    expected: Float32  # (N, U, C) in the channels' units, NaN where there is no prediction

    @staticmethod
    def empty(block: tuple[int, ...], channels: int) -> Recent:
        """Return blocks of shape ``block``, (N, U) or (U,), without samples."""
        values = np.full((*block, channels), np.nan, np.float32)
        return Recent(np.full(block, np.nan), values, values.copy())

    def of(self, stream: int) -> Recent:
        """Return the samples of one stream, without the axis ``N``."""
        return Recent(self.times[stream], self.observed[stream], self.expected[stream])


class Levels(NamedTuple):
    """The known levels from training, for the error rows that compare with them."""

    first_row: int  # index of the first level row; all later rows are level rows
    low: Float64  # (W,) of the scored channels, in their units
    high: Float64  # (W,)


@dataclass(eq=False, slots=True)
class EventState:
    """The open events of one stream, and the events that may open."""

    next_number: int = 1  # number of the next event
    above_run: int = 0  # consecutive samples outside the limits, before an event opens
    slow_run: int = 0  # the same of the rows that show persistent deviations
    open_run: int = 0  # scored samples since an anomaly event opened while none was open
    candidate: Event | None = None  # the anomaly event as it would open now
    anomalies: list[OpenAnomaly] = field(default_factory=list)  # in the order of their openings
    rise: Rise | None = None  # while an anomaly is open and a further one may open
    # the open ones; an event of several channels has an entry for each channel that is not back
    sensors: dict[tuple[SensorKind, str], Event] = field(default_factory=dict)
    silence: Event | None = None  # open; the whole stream has no samples

    @property
    def open_samples(self) -> int | None:
        """Scored samples for which an anomaly has been open; None if none is open."""
        return self.open_run if self.anomalies else None

    @property
    def watched(self) -> bool:
        """Whether the next sample may change an event that is open or may open."""
        return bool(self.anomalies or self.candidate or self.sensors or self.silence)

    def take_number(self) -> int:
        """Return the number of a new event, and increase the counter."""
        self.next_number += 1
        return self.next_number - 1


class EventRules:
    """Opens and closes events. It holds the settings but no memory."""

    def __init__(
        self, manifest: StreamRules, levels: Levels | None = None, slow: Bool | None = None
    ) -> None:
        """Take what the error rows mean.

        ``levels``: the known levels of the level rows; None: there are no level rows. ``slow``
        (R,): rows that show persistent deviations, and no spikes; None: there is no difference.
        """
        self._settings = manifest.events
        self._levels = levels
        self._detector = manifest.detector
        self._channels = manifest.channel_names
        self._period_s = manifest.sampling.period_s
        self._limits = SensorChecks(manifest).limits
        self._scored = manifest.scored
        self._severities = manifest.severities
        self._tail: Rating | None = None if manifest.tail is None else ScoreTail(manifest.tail)
        self._slow = slow

    def rated_by(self, tail: Rating | None) -> EventRules:
        """Return the same rules with the probabilities of another tail; None: without a tail."""
        other = copy.copy(self)
        other._tail = tail
        return other

    @staticmethod
    def open_events(state: EventState) -> list[Event]:
        """Return the open events, each with its worst sample so far."""
        found = [one.event for one in state.anomalies]
        found += [] if state.silence is None else [state.silence]
        return [*found, *{event.number: event for event in state.sensors.values()}.values()]

    def start(self) -> EventState:
        """Return the state before the first sample: no event is open."""
        return EventState()

    def open_silence(self, state: EventState, time: float, since: float) -> list[Event]:
        """Open the stream's ``silent`` event and return it; [] if it is already open.

        ``time`` is now and ``since`` is the time of the last sample, both in Unix seconds.
        """
        if state.silence is not None:
            return []
        state.silence = Event(
            number=state.take_number(),
            kind="silent",
            detector=SENSOR_DETECTOR,
            onset=since,
            opened=time,
            score=1.0,
            probability=None,
            severity=self._severities.unrated,
        )
        return [state.silence]

    def heard(self, state: EventState, time: float) -> list[Event]:
        """Close the ``silent`` event at ``time`` (Unix seconds), if it is open; return it."""
        if state.silence is None:
            return []
        closed, state.silence = replace(state.silence, closed=time), None
        return [closed]

    def step(
        self,
        state: EventState,
        recent: Recent,
        begin: int,
        seen: Exceedance,
        runs: SensorRuns,
    ) -> list[Event]:
        """Return the events that ``n`` samples of one stream open or close, in chronological order.

        Args:
            state: of this stream, changed in place.
            recent: the stream's block, up to and including these samples.
            begin: position of the first sample in the block.
            seen: comparison of the samples' errors with the threshold, (n, R) each.
            runs: runs of the sensor checks, (n, C) each.

        """
        sensors = self._sensor_changes(state, runs)
        if not (seen.outside.any() or state.anomalies or state.candidate or sensors):
            return []
        events: list[Event] = []
        for step in range(len(seen.ratio)):
            at = begin + step
            events += self._sample(state, recent, at, seen.ratio[step], seen.outside[step])
            for kind, channels in sensors.get(step, ()):
                events += self._sensor(state, kind, channels, recent, at, runs, step)
        return events

    def _sample(
        self, state: EventState, recent: Recent, at: int, ratio: Float32, outside: Bool
    ) -> Iterator[Event]:
        if state.anomalies:
            if not np.isnan(ratio).all():  # without a score, the sample is not known to be calm
                yield from self._while_open(state, recent, at, ratio)
        elif outside.any():
            worst = self._anomaly(recent, at, ratio)
            state.candidate = worst if state.candidate is None else _worse(state.candidate, worst)
            self._count(state, outside)
            if self._lasts(state):
                candidate = replace(state.candidate, course=self._course(state.slow_run))
                yield self._open(state, candidate, float(recent.times[at]))
                yield from self._further(state, recent, at, ratio)
        else:
            state.candidate, state.above_run, state.slow_run = None, 0, 0

    def _count(self, state: EventState, outside: Bool) -> None:
        """Count one more sample outside, by the delays that it counts for."""
        if self._slow is None:
            state.above_run += 1
            return
        state.slow_run = state.slow_run + 1 if outside[self._slow].any() else 0
        apart = self._settings.persistent_on_samples is not None
        counts = not apart or outside[~self._slow].any()
        state.above_run = state.above_run + 1 if counts else 0

    def _lasts(self, state: EventState) -> bool:
        """Return whether the candidate has been outside for long enough to open."""
        return state.above_run >= self._settings.on_samples or state.slow_run >= self._persistent_on

    @property
    def _persistent_on(self) -> int:
        return self._settings.persistent_on_samples or self._settings.on_samples

    def _course(self, slow_run: int) -> Course | None:
        if self._slow is None:
            return None
        return "persistent" if slow_run >= self._persistent_on else "spike"

    def _while_open(
        self, state: EventState, recent: Recent, at: int, ratio: Float32
    ) -> Iterator[Event]:
        state.open_run += 1
        for one in list(state.anomalies):
            self._follow(one, recent, at, one.own(ratio))
            calm = one.distance(ratio) < self._settings.deadband
            one.calm_run = one.calm_run + 1 if calm else 0
            if one.calm_run >= self._settings.off_samples:
                state.anomalies.remove(one)
                yield replace(one.event, closed=float(recent.times[at]))
                self._release(state, ratio)
        if state.anomalies:
            yield from self._further(state, recent, at, ratio)

    def _follow(self, one: OpenAnomaly, recent: Recent, at: int, own: Float32) -> None:
        """Update an open event from the ratios (R,) of its rows; NaN: not one of them."""
        if float(np.fmax.reduce(own)) > one.event.score:
            one.event = _worse(one.event, self._anomaly(recent, at, own))
        if self._slow is not None and one.event.course == "spike":
            one.slow_run = one.slow_run + 1 if (own[self._slow] > 1).any() else 0
            one.event = replace(one.event, course=self._course(one.slow_run))

    def _release(self, state: EventState, ratio: Float32) -> None:
        """Give the calm rows free after an event closed."""
        calm = ratio < self._settings.deadband
        for one in state.anomalies:
            one.release(calm)
        if not state.anomalies:
            state.rise = None
        elif state.rise is not None:
            state.rise.release(calm)

    def _further(
        self, state: EventState, recent: Recent, at: int, ratio: Float32
    ) -> Iterator[Event]:
        """Open a further event for rows that rise far above what they had come to rest at."""
        if not self._settings.further_ratio:
            return
        if state.rise is None:
            state.rise = Rise.start(len(ratio))
        rise, beyond = state.rise, state.rise.beyond(ratio, self._settings.further_ratio)
        if beyond is None or len(state.anomalies) >= ANOMALIES_MAX:
            rise.candidate, rise.above_run = None, 0
        else:
            worst = self._anomaly(recent, at, beyond)
            rise.candidate = worst if rise.candidate is None else _worse(rise.candidate, worst)
            rise.above_run += 1
            if rise.above_run >= self._settings.on_samples:
                yield self._open_further(state, rise, rise.candidate, float(recent.times[at]))
        rise.take(ratio, self._settings.rest_samples)

    def _open_further(self, state: EventState, rise: Rise, candidate: Event, time: float) -> Event:
        base = rise.start_again()
        for one in state.anomalies:
            one.cede(base)
        course = None if self._slow is None else self._course(0)
        oldest = state.anomalies[0].event.number
        event = replace(
            candidate, number=state.take_number(), opened=time, course=course, during=oldest
        )
        state.anomalies.append(OpenAnomaly(event, base=base))
        return event

    def found(self, state: EventState, recent: Recent, found: list[Found]) -> list[Event]:
        """Open an event for the sequences that the threshold's update found in a full block.

        Returns [] if there are none, or if an anomaly is already open.
        """
        if not found or state.anomalies:
            return []
        worst_first = sorted(found, key=lambda one: -one.score)
        contributions = tuple(
            self._contribution(one.row, one.score, recent, one.peak) for one in worst_first
        )
        candidate = Event(
            number=0,
            kind="anomaly",
            detector=self._detector,
            onset=float(recent.times[min(one.onset for one in found)]),
            opened=float(recent.times[-1]),
            worst=float(recent.times[worst_first[0].peak]),
            channels=_each_once(contributions),
            course=self._course_of(found),
            **self._rated(worst_first[0].score, max(one.ratio for one in found)),
        )
        return [self._open(state, candidate, candidate.opened)]

    def _course_of(self, found: list[Found]) -> Course | None:
        if self._slow is None:
            return None
        return "persistent" if any(self._slow[one.row] for one in found) else "spike"

    def accept(self, state: EventState, time: float) -> list[Event]:
        """Close the open anomalies at ``time`` (Unix seconds): their values are the new normal."""
        closed = [replace(one.event, closed=time, accepted=True) for one in state.anomalies]
        state.anomalies, state.rise = [], None
        return closed

    def _open(self, state: EventState, candidate: Event, time: float) -> Event:
        event = replace(candidate, number=state.take_number(), opened=time)
        state.anomalies = [OpenAnomaly(event, slow_run=state.slow_run)]
        state.candidate, state.above_run, state.slow_run, state.open_run = None, 0, 0, 0
        return event

    def _rated(self, score: float, ratio: float) -> Rated:
        """Return a score with the probability and severity of ``ratio``, the sample's score."""
        probability = None
        severity = self._severities.unrated
        if self._tail is not None:
            probability = float(self._tail.probability(np.array([ratio]))[0])
            severity = severity_of(self._tail.cautious(ratio), self._severities)
        return {"score": score, "probability": probability, "severity": severity}

    def _anomaly(self, recent: Recent, at: int, ratio: Float32) -> Event:
        """Return the event of this one sample, its contributions worst first."""
        rows = [row for row in np.argsort(-ratio) if ratio[row] > 1]
        contributions = (
            self._contribution(int(row), float(ratio[row]), recent, at)
            for row in rows or [int(np.nanargmax(ratio))]
        )
        time, worst = float(recent.times[at]), float(np.nanmax(ratio))
        return Event(
            number=0,
            kind="anomaly",
            detector=self._detector,
            onset=time,
            opened=time,
            worst=time,
            channels=_each_once(tuple(contributions)),
            **self._rated(worst, worst),
        )

    def _contribution(self, row: int, score: float, recent: Recent, at: int) -> Contribution:
        place = row % len(self._scored)
        contribution = self._contribution_of(self._scored[place], score, recent, at)
        levels, observed = self._levels, contribution.observed
        if levels is None or row < levels.first_row or observed is None:
            return contribution
        nearest = float(np.clip(observed, levels.low[place], levels.high[place]))
        return replace(contribution, expected=nearest, level=True)

    def _contribution_of(self, channel: int, score: float, recent: Recent, at: int) -> Contribution:
        return Contribution(
            channel=self._channels[channel],
            score=score,
            observed=_or_none(recent.observed[at, channel]),
            expected=_or_none(recent.expected[at, channel]),
        )

    def _sensor_changes(
        self, state: EventState, runs: SensorRuns
    ) -> dict[int, list[tuple[SensorKind, list[int]]]]:
        """Return the channels whose runs pass their limit or end, by step."""
        if not state.sensors and not any(
            (getattr(runs, kind) >= self._limits[kind]).any() for kind in SENSOR_KINDS
        ):
            return {}
        changes: dict[int, list[tuple[SensorKind, list[int]]]] = {}
        for kind in SENSOR_KINDS:
            over = getattr(runs, kind) >= self._limits[kind]
            is_open = [(kind, name) in state.sensors for name in self._channels]
            changed = over != np.concatenate([np.array(is_open)[None, :], over[:-1]])
            for step in np.flatnonzero(changed.any(axis=1)).tolist():
                channels = np.flatnonzero(changed[step]).tolist()
                changes.setdefault(step, []).extend(
                    (kind, together) for together in _together(kind, channels, over[step])
                )
        return changes

    def _sensor(
        self,
        state: EventState,
        kind: SensorKind,
        channels: list[int],
        recent: Recent,
        at: int,
        runs: SensorRuns,
        step: int,
    ) -> list[Event]:
        """Open the event of these channels, or close the event of the only channel."""
        names, time = [self._channels[channel] for channel in channels], float(recent.times[at])
        if (before := state.sensors.pop((kind, names[0]), None)) is not None:
            goes_on = any(event.number == before.number for event in state.sensors.values())
            return [] if goes_on else [replace(before, closed=time)]
        run = int(getattr(runs, kind)[step, channels].max())
        opened = Event(
            number=state.take_number(),
            kind=kind,
            detector=SENSOR_DETECTOR,
            opened=time,
            onset=time - (run - 1) * self._period_s,
            score=1.0,
            probability=None,
            severity=self._severities.unrated,
            worst=time,
            channels=tuple(self._contribution_of(channel, 1.0, recent, at) for channel in channels),
        )
        state.sensors |= {(kind, name): opened for name in names}
        return [opened]


def _together(kind: SensorKind, channels: list[int], over: Bool) -> list[list[int]]:
    """Group changed channels by event; ``over`` (C,) marks the channels whose run begins."""
    if kind == "stuck":
        return [[channel] for channel in channels]
    ends = [[channel] for channel in channels if not over[channel]]
    begins = [channel for channel in channels if over[channel]]
    return [*ends, begins] if begins else ends


def _each_once(contributions: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
    """Keep the first and worst entry of each channel, as heads and spans may repeat a channel."""
    first: dict[str, Contribution] = {}
    for contribution in contributions:
        first.setdefault(contribution.channel, contribution)
    return tuple(first.values())[:CONTRIBUTIONS_MAX]


def severity_of(probability: float, severities: Severities) -> Severity:
    """Return the severity of an event of this probability; see ``ScoreTail.cautious``."""
    if probability <= severities.high:
        return "high"
    return "medium" if probability <= severities.medium else "low"


def _worse(event: Event, candidate: Event) -> Event:
    """Return ``event`` with the score and the channels of the worse of the two."""
    if candidate.score <= event.score:
        return event
    return replace(
        event,
        score=candidate.score,
        probability=candidate.probability,
        severity=candidate.severity,
        worst=candidate.worst,
        channels=candidate.channels,
    )


def _or_none(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
