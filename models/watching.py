"""The common base of detectors without a network, which learn from the streams they score.

They process one stream after the other. Their settings are in a bundle or in the gateway's
configuration. Their memory is a list with one state per stream. ``models.baseline`` and
``models.novelty`` define what they learn and how they judge it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from models import state as saved
from models.canonical import canonical_json
from models.detector import BatchResult, Result
from models.events import EventRules, EventState, Recent
from models.forecaster import Forecaster, ForecastState
from models.history import History
from models.manifest import (
    Channel,
    Events,
    NotNegative,
    Sampling,
    Severities,
    Source,
    StreamRules,
    Tail,
)
from models.messages import ALL, Event, Float32, Float64, Forecast, Index, Samples
from models.score_tail import ScoreTail
from models.sensors import SensorChecks, SensorState
from models.settings import Table
from models.validation import Field


class WatchSettings(Table):
    """Settings that every such detector has; see ``models.manifest`` for their parts."""

    name: str = "baseline"
    channels: list[Channel] = Field(min_length=1, description="Center and scale are not used")
    resolution: list[NotNegative] = Field(description="Least change that counts, per channel")
    sampling: Sampling
    events: Events
    severities: Severities

    @property
    def digest(self) -> str:
        """The sha256 of everything that changes a score; saved states belong to it."""
        document = self.model_dump()
        for name in ("events", "severities"):  # existing digests depend on this order
            document[name] = document.pop(name)
        for name in ("further_ratio", "rest_samples"):  # they change no score
            document["events"].pop(name, None)
        return hashlib.sha256(canonical_json(document).encode()).hexdigest()

    @property
    def version(self) -> int:
        """Always 1: settings of a configuration have no versions."""
        return 1

    @property
    def detector(self) -> str:
        """The detector's name in events."""
        raise NotImplementedError

    @property
    def tail(self) -> Tail | None:
        """None: without held-out normal operation there are no probabilities."""
        return None

    @property
    def sources(self) -> Sequence[Source]:
        """Empty: only a bundle has features."""
        return ()

    @property
    def source_channels(self) -> list[Channel]:
        """The channels that inputs must provide: all."""
        return self.channels

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def scored(self) -> list[int]:
        """Indices of the scored channels."""
        return [position for position, channel in enumerate(self.channels) if channel.scored]


class Watched(Protocol):
    """The common part of a stream's state in these detectors."""

    history: History
    recent: Recent  # the block
    pending: int  # rows of the block in use
    sensors: SensorState
    events: EventState


S = TypeVar("S", bound=Watched)


class Watcher(Generic[S]):
    """A detector that scores streams one by one. It holds settings but no memory.

    Shapes and units are those of ``models.detector``.
    """

    forecaster: Forecaster | None = None
    runtime = "no network"

    def __init__(self, rules: StreamRules, digest: str, rows: int, block_samples: int) -> None:
        """``rows`` is the number of error rows, ``R``; ``block_samples`` fill a block."""
        self.manifest = rules
        self.digest = digest
        self.detector = rules.detector
        self._rows, self._block_samples = rows, block_samples
        self._tail = None if rules.tail is None else ScoreTail(rules.tail)
        self._sensors = SensorChecks(rules)
        self._events = EventRules(rules)

    def start(self, streams: int = 1) -> list[S]:
        """Return a memory of ``streams`` streams without samples."""
        return [self._start() for _ in range(streams)]

    def _start(self) -> S:
        raise NotImplementedError

    def adopt(self, states: list[S], stream: int, one: list[S]) -> None:
        """Copy the only stream of ``one`` into ``states``, in place of its stream ``stream``."""
        states[stream] = one[0]

    def step(self, states: list[S], samples: Samples) -> Result:
        """Score the next ``samples`` of the only stream of ``states``."""
        times, values = samples.times[:, None], samples.values[:, None]
        return self.step_together(states, ALL, times, values).first(samples.times, self._tail)

    def step_together(
        self, states: list[S], who: Index, times: Float64, values: Float32
    ) -> BatchResult:
        """Score the next samples of some streams; see ``models.detector.Scorer.step_together``.

        The score is the largest of the error rows, 1 at the limit. A jump in ``times`` changes no
        score.
        """
        streams = np.arange(len(states))[who].tolist()
        ratio = np.full((*times.shape, self._rows), np.nan, np.float32)
        expected = np.full(values.shape, np.nan, np.float32)
        events = [
            (column, event)
            for column, stream in enumerate(streams)
            for event in self._step(
                states[stream],
                Samples(times[:, column], values[:, column]),
                ratio[:, column],
                expected[:, column],
            )
        ]
        forecasts = [
            (column, forecast)
            for column, stream in enumerate(streams)
            for forecast in self._foretell(
                states[stream], Samples(times[:, column], values[:, column])
            )
        ]
        score: Float32 = np.fmax.reduce(ratio, axis=-1)  # NaN where no row has an error
        return BatchResult(score, expected, ratio, np.ones_like(ratio), events, forecasts)

    def _step(self, state: S, samples: Samples, ratio: Float32, expected: Float32) -> list[Event]:
        """Fill in ``ratio`` (n, R) and ``expected`` (n, C) of one stream; return its events."""
        times, count = samples.times, len(samples.times)
        events = self._events.heard(state.events, float(times[0])) if count else []
        begin = 0
        while begin < count:
            end = min(begin + self._block_samples - state.pending, count)
            block = Samples(times[begin:end], samples.values[begin:end])
            events += self._block(state, block, ratio[begin:end], expected[begin:end])
            begin = end
        return events

    def _block(self, state: S, block: Samples, ratio: Float32, expected: Float32) -> list[Event]:
        """Do the work of ``_step`` for samples that fit into the block."""
        raise NotImplementedError

    def _foretell(self, state: S, samples: Samples) -> list[Forecast]:
        """Return the forecasts that become due with the samples; [] without a forecaster."""
        forecast = self._forecast_of(state)
        if self.forecaster is None or forecast is None:
            return []
        return self.forecaster.step(forecast, samples)

    def _forecast_of(self, state: S) -> ForecastState | None:
        """Return the forecaster's state; None: there is no forecaster."""
        return None

    def restore(self, parts: Mapping[str, bytes]) -> list[S]:
        """Return a memory of one stream from the parts that ``changed_parts`` returned.

        Raises:
            StateMismatch: the parts belong to other settings, or are damaged.

        """
        state = self._start()
        forecast = self._forecast_of(state)

        def take(scalars: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
            state.pending = len(arrays["times"])
            saved.set_arrays(self._arrays(state), arrays)
            saved.set_events(state.events, scalars)
            if forecast is not None:
                forecast.step = int(scalars["step"])

        saved.unpacked(parts, self.digest, take, state.history)
        if forecast is not None:
            saved.set_forecast(forecast, parts)
        return [state]

    def changed_parts(self, states: list[S], stream: int = 0) -> dict[str, bytes]:
        """Return the parts of a stream's memory that changed since the last call, for saving."""
        state = states[stream]
        scalars, forecast = saved.event_scalars(state.events), self._forecast_of(state)
        if forecast is not None:
            scalars["step"] = forecast.step
        head = saved.packed(scalars, self._arrays(state), state.history, self.digest)
        return head if forecast is None else head | saved.forecast_parts(forecast)

    def _arrays(self, state: S) -> dict[str, np.ndarray[Any, Any]]:
        """Return every array of the head, by a stable name; the history has its own parts."""
        used, recent, sensors = state.pending, state.recent, state.sensors
        forecast = self._forecast_of(state)
        in_progress = {}
        if forecast is not None:
            in_progress = {"step_total": forecast.total, "step_count": forecast.count}
        return (
            in_progress
            | self._own_arrays(state)
            | {
                "written": state.history.written,
                "times": recent.times[:used],
                "observed": recent.observed[:used],
                "expected": recent.expected[:used],
                "sensor_last": sensors.last[0],
                "stuck": sensors.stuck[0],
                "missing": sensors.missing[0],
            }
        )

    def _own_arrays(self, state: S) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays that only this detector has."""
        raise NotImplementedError

    def open_silence(
        self, states: list[S], time: float, since: float, stream: int = 0
    ) -> list[Event]:
        """Open the ``silent`` event of a stream and return it; [] if it is already open.

        ``time`` is now and ``since`` is the time of the last sample, both in Unix seconds.
        """
        return self._events.open_silence(states[stream].events, time, since)

    def open_events(self, states: list[S], stream: int = 0) -> list[Event]:
        """Return the open events of a stream, each with its worst sample so far."""
        return self._events.open_events(states[stream].events)

    def events(self, states: list[S], stream: int = 0) -> EventState:
        """Return the state of a stream's events."""
        return states[stream].events

    def forecasts(self, states: list[S], stream: int = 0) -> ForecastState | None:
        """Return the forecaster's state of a stream; None: there is no forecaster."""
        return self._forecast_of(states[stream])
