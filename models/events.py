"""Turns scores into events that open and close: delays, deadband and contributing channels.

A stream has at most one open ``anomaly`` event, which names the contributing channels. It has at
most one open ``silent`` event, while no samples arrive. Each channel is in at most one open
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

from models.manifest import Severities, Severity, StreamRules
from models.messages import Bool, Contribution, Event, Float32, Float64
from models.score_tail import Rating, ScoreTail
from models.sensors import SENSOR_KINDS, SensorChecks, SensorKind, SensorRuns
from models.threshold import Exceedance, Found

CONTRIBUTIONS_MAX = 8
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


@dataclass(slots=True)
class EventState:
    """The open events of one stream, and the events that may open."""

    next_number: int = 1  # number of the next event
    above_run: int = 0  # consecutive samples outside the limits, before an event opens
    calm_run: int = 0  # consecutive samples below the deadband, while an event is open
    open_run: int = 0  # scored samples since the event opened
    candidate: Event | None = None  # the anomaly event as it would open now
    anomaly: Event | None = None  # open
    # the open ones; an event of several channels has an entry for each channel that is not back
    sensors: dict[tuple[SensorKind, str], Event] = field(default_factory=dict)
    silence: Event | None = None  # open; the whole stream has no samples

    @property
    def open_samples(self) -> int | None:
        """Scored samples since the anomaly opened; None if none is open."""
        return None if self.anomaly is None else self.open_run

    @property
    def watched(self) -> bool:
        """Whether the next sample may change an event that is open or may open."""
        return bool(self.anomaly or self.candidate or self.sensors or self.silence)

    def take_number(self) -> int:
        """Return the number of a new event, and increase the counter."""
        self.next_number += 1
        return self.next_number - 1


class EventRules:
    """Opens and closes events. It holds the settings but no memory."""

    def __init__(self, manifest: StreamRules, levels: Levels | None = None) -> None:
        """``levels``: the known levels of the level rows; None: there are no level rows."""
        self._settings = manifest.events
        self._levels = levels
        self._detector = manifest.detector
        self._channels = manifest.channel_names
        self._period_s = manifest.sampling.period_s
        self._limits = SensorChecks(manifest).limits
        self._scored = manifest.scored
        self._severities = manifest.severities
        self._tail: Rating | None = None if manifest.tail is None else ScoreTail(manifest.tail)

    def rated_by(self, tail: Rating | None) -> EventRules:
        """Return the same rules with the probabilities of another tail; None: without a tail."""
        other = copy.copy(self)
        other._tail = tail
        return other

    @staticmethod
    def open_events(state: EventState) -> list[Event]:
        """Return the open events, each with its worst sample so far."""
        singles = [event for event in (state.anomaly, state.silence) if event is not None]
        return [*singles, *{event.number: event for event in state.sensors.values()}.values()]

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
        if not (seen.outside.any() or state.anomaly or state.candidate or sensors):
            return []
        events: list[Event] = []
        for step in range(len(seen.ratio)):
            at, outside = begin + step, bool(seen.outside[step].any())
            events += self._sample(state, recent, at, seen.ratio[step], outside)
            for kind, channels in sensors.get(step, ()):
                events += self._sensor(state, kind, channels, recent, at, runs, step)
        return events

    def _sample(
        self, state: EventState, recent: Recent, at: int, ratio: Float32, outside: bool
    ) -> Iterator[Event]:
        if state.anomaly is not None:
            yield from self._while_open(state, state.anomaly, recent, at, ratio)
        elif outside:
            worst = self._anomaly(recent, at, ratio)
            state.candidate = worst if state.candidate is None else _worse(state.candidate, worst)
            state.above_run += 1
            if state.above_run >= self._settings.on_samples:
                yield self._open(state, state.candidate, float(recent.times[at]))
        else:
            state.candidate, state.above_run = None, 0

    def _while_open(
        self, state: EventState, opened: Event, recent: Recent, at: int, ratio: Float32
    ) -> Iterator[Event]:
        if np.isnan(ratio).all():  # without a score, the sample is not known to be calm
            return
        state.open_run += 1
        highest = float(np.nanmax(ratio))
        if highest > opened.score:
            opened = _worse(opened, self._anomaly(recent, at, ratio))
            state.anomaly = opened
        state.calm_run = state.calm_run + 1 if highest < self._settings.deadband else 0
        if state.calm_run >= self._settings.off_samples:
            state.anomaly, state.calm_run = None, 0
            yield replace(opened, closed=float(recent.times[at]))

    def found(self, state: EventState, recent: Recent, found: list[Found]) -> list[Event]:
        """Open an event for the sequences that the threshold's update found in a full block.

        Returns [] if there are none, or if an anomaly is already open.
        """
        if not found or state.anomaly is not None:
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
            **self._rated(worst_first[0].score, max(one.ratio for one in found)),
        )
        return [self._open(state, candidate, candidate.opened)]

    def accept(self, state: EventState, time: float) -> list[Event]:
        """Close the open anomaly at ``time`` (Unix seconds) as its values are the new normal."""
        if state.anomaly is None:
            return []
        closed = replace(state.anomaly, closed=time, accepted=True)
        state.anomaly, state.calm_run = None, 0
        return [closed]

    def _open(self, state: EventState, candidate: Event, time: float) -> Event:
        state.anomaly = replace(candidate, number=state.take_number(), opened=time)
        state.candidate, state.above_run, state.calm_run, state.open_run = None, 0, 0, 0
        return state.anomaly

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
