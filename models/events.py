"""From scores to events that open and close: delays, deadband, and who contributed.

One anomaly event per stream at a time, naming the channels that contribute; one ``stuck`` and
one ``missing`` event per channel; one ``silent`` event for a stream that stopped altogether.
Words after ISA-18.2: on-delay, off-delay, deadband.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypedDict

import numpy as np

from models.manifest import Severities, Severity, StreamRules
from models.messages import Contribution, Event, Float32, Float64
from models.sensors import SENSOR_KINDS, SensorChecks, SensorKind, SensorRuns
from models.tail import ScoreTail
from models.threshold import Exceedance, Found

CONTRIBUTIONS_MAX = 8
SENSOR_DETECTOR = "sensor"


class Rated(TypedDict):
    """A score and what it means, as an ``Event`` takes them."""

    score: float
    probability: float | None
    severity: Severity


class Recent(NamedTuple):
    """The samples of the current blocks of ``N`` streams; positions as in the block.

    Of one stream it has no axis ``N``.
    """

    times: Float64  # (N, U)
    observed: Float32  # (N, U, C) channel units
    expected: Float32  # (N, U, C) channel units

    def of(self, stream: int) -> Recent:
        """Return those of one stream."""
        return Recent(self.times[stream], self.observed[stream], self.expected[stream])


@dataclass(slots=True)
class EventState:
    """What is open, and what is about to open, in one stream."""

    next_number: int = 1
    above_run: int = 0  # samples in a row outside the limits, before an event opened
    calm_run: int = 0  # samples in a row below the deadband, while one is open
    open_run: int = 0  # scored samples since one opened
    candidate: Event | None = None  # the anomaly event as it would open now
    anomaly: Event | None = None  # open
    sensors: dict[tuple[SensorKind, str], Event] = field(default_factory=dict)  # open ones
    silence: Event | None = None  # open: the whole stream is without samples

    @property
    def open_samples(self) -> int | None:
        """How long the anomaly has been open, in scored samples; None while there is none."""
        return None if self.anomaly is None else self.open_run

    @property
    def watched(self) -> bool:
        """Tell whether the next sample may close or go on with something."""
        return bool(self.anomaly or self.candidate or self.sensors or self.silence)

    def take_number(self) -> int:
        """Return the number of a new event."""
        self.next_number += 1
        return self.next_number - 1


class EventRules:
    """Opens and closes events; holds the settings, no memory."""

    def __init__(self, manifest: StreamRules) -> None:
        self._settings = manifest.events
        self._detector = manifest.detector
        self._channels = manifest.channel_names
        self._period_s = manifest.sampling.period_s
        self._limits = SensorChecks(manifest).limits
        self._scored = manifest.scored
        self._severities = manifest.severities
        self._tail = None if manifest.tail is None else ScoreTail(manifest.tail)

    @staticmethod
    def open_events(state: EventState) -> list[Event]:
        """Return the events that are open, with the worst so far."""
        singles = [event for event in (state.anomaly, state.silence) if event is not None]
        return [*singles, *state.sensors.values()]

    def start(self) -> EventState:
        """Return the state before the first sample: nothing open."""
        return EventState()

    def silent(self, state: EventState, time: float, since: float) -> list[Event]:
        """Open the stream's ``silent`` event: at ``time``, nothing has come since ``since``."""
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
        """Close the ``silent`` event, if one is open: there is a sample of ``time``."""
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
        """Events of samples ``begin …`` of the block, in order; ``state`` moves on.

        Args:
            state: of this stream.
            recent: the stream's block up to and including these samples.
            begin: position of the first of them in the block.
            seen: what the threshold made of the errors.
            runs: (n, C) what the sensor checks counted.

        """
        sensors = self._sensor_changes(state, runs)
        if not (seen.outside.any() or state.anomaly or state.candidate or sensors):
            return []
        events: list[Event] = []
        for step in range(len(seen.ratio)):
            at, outside = begin + step, bool(seen.outside[step].any())
            events += self._sample(state, recent, at, seen.ratio[step], outside)
            for kind, channel in sensors.get(step, ()):
                events.append(self._sensor(state, kind, channel, recent, at, runs, step))
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
        if np.isnan(ratio).all():  # nothing to score is no sign of calm
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
        """Open an event for what the threshold's update found, at the end of a full block."""
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
            channels=_each_once(contributions),
            **self._rated(worst_first[0].score, max(one.ratio for one in found)),
        )
        return [self._open(state, candidate, candidate.opened)]

    def _open(self, state: EventState, candidate: Event, time: float) -> Event:
        state.anomaly = replace(candidate, number=state.take_number(), opened=time)
        state.candidate, state.above_run, state.calm_run, state.open_run = None, 0, 0, 0
        return state.anomaly

    def _rated(self, score: float, ratio: float) -> Rated:
        """Return an event's score with what it means, by the ratio that was the sample's score."""
        probability = None
        severity = self._severities.unrated
        if self._tail is not None:
            probability = float(self._tail.probability(np.array([ratio]))[0])
            severity = severity_of(probability, self._severities)
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
            channels=_each_once(tuple(contributions)),
            **self._rated(worst, worst),
        )

    def _contribution(self, row: int, score: float, recent: Recent, at: int) -> Contribution:
        channel = self._scored[row % len(self._scored)]
        return Contribution(
            channel=self._channels[channel],
            score=score,
            observed=_or_none(recent.observed[at, channel]),
            expected=_or_none(recent.expected[at, channel]),
        )

    def _sensor_changes(
        self, state: EventState, runs: SensorRuns
    ) -> dict[int, list[tuple[SensorKind, int]]]:
        """Which sensor events open or close at which step."""
        if not state.sensors and not any(
            (getattr(runs, kind) >= self._limits[kind]).any() for kind in SENSOR_KINDS
        ):
            return {}
        changes: dict[int, list[tuple[SensorKind, int]]] = {}
        for kind in SENSOR_KINDS:
            over = getattr(runs, kind) >= self._limits[kind]
            is_open = [(kind, name) in state.sensors for name in self._channels]
            before = np.concatenate([np.array(is_open)[None, :], over[:-1]])
            for step, channel in np.argwhere(over != before):
                changes.setdefault(int(step), []).append((kind, int(channel)))
        return changes

    def _sensor(
        self,
        state: EventState,
        kind: SensorKind,
        channel: int,
        recent: Recent,
        at: int,
        runs: SensorRuns,
        step: int,
    ) -> Event:
        name, time = self._channels[channel], float(recent.times[at])
        if (kind, name) in state.sensors:
            return replace(state.sensors.pop((kind, name)), closed=time)
        run = int(getattr(runs, kind)[step, channel])
        opened = Event(
            number=state.take_number(),
            kind=kind,
            detector=SENSOR_DETECTOR,
            opened=time,
            onset=time - (run - 1) * self._period_s,
            score=1.0,
            probability=None,
            severity=self._severities.unrated,
            channels=(
                Contribution(
                    channel=name,
                    score=1.0,
                    observed=_or_none(recent.observed[at, channel]),
                    expected=_or_none(recent.expected[at, channel]),
                ),
            ),
        )
        state.sensors[kind, name] = opened
        return opened


def _each_once(contributions: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
    """Keep the first, that is the worst, of each channel: heads and spans may name it twice."""
    first: dict[str, Contribution] = {}
    for contribution in contributions:
        first.setdefault(contribution.channel, contribution)
    return tuple(first.values())[:CONTRIBUTIONS_MAX]


def severity_of(probability: float, severities: Severities) -> Severity:
    """Return how grave an event of this probability is."""
    if probability <= severities.high:
        return "high"
    return "medium" if probability <= severities.medium else "low"


def _worse(event: Event, candidate: Event) -> Event:
    """``event`` with what is told of the worse of the two."""
    if candidate.score <= event.score:
        return event
    return replace(
        event,
        score=candidate.score,
        probability=candidate.probability,
        severity=candidate.severity,
        channels=candidate.channels,
    )


def _or_none(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
