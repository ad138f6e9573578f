"""The only path from samples to scores; calibration, evaluation and the agent all take it.

    samples ─> telemanom (network, smoothed errors) ─> threshold ─┬─> events ─> Result
            ├> sensors (runs of equal and missing values) ────────┘              │
            └> forecaster (steps, network, intervals) ───────────────────────────┘

There is one implementation and it streams: a batch is a call with many samples, and how a
recording is cut into calls never changes a result. No score looks at the future.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from models import state as saved
from models.bundle import FORECASTER, Bundle, StreamRules
from models.events import EventRules, Recent
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork, Runtime, StepNetwork
from models.messages import Event, Float32, Float64, Forecast, Samples, Scores
from models.sensors import SensorChecks
from models.state import State
from models.tail import ScoreTail
from models.telemanom import Errors, Telemanom
from models.threshold import DynamicThreshold, Exceedance


class Result(NamedTuple):
    """What the pipeline made of ``n`` samples."""

    scores: Scores
    events: list[Event]  # opened and closed, in order
    smoothed: Float32  # (n, R) smoothed errors in scaled units, NaN where not scored
    threshold: Float32  # (n, R) that each was compared with
    forecasts: Sequence[Forecast] = ()  # made during these samples, in order


class Detector(Protocol):
    """What scores streams: the pipeline of a bundle, or the baseline; of a state only its own."""

    digest: str  # of all that changes a score
    detector: str
    runtime: str  # what runs the network

    @property
    def manifest(self) -> StreamRules: ...  # noqa: D102
    @property
    def forecaster(self) -> Forecaster | None: ...  # noqa: D102
    def start(self) -> Any: ...  # noqa: D102
    def restore(self, parts: Mapping[str, bytes]) -> Any: ...  # noqa: D102
    def changed_parts(self, state: Any) -> dict[str, bytes]: ...  # noqa: D102
    def step(self, state: Any, samples: Samples) -> Result: ...  # noqa: D102
    def silent(self, state: Any, time: float, since: float) -> list[Event]: ...  # noqa: D102
    def open_events(self, state: Any) -> list[Event]: ...  # noqa: D102


class Pipeline:
    """Scores the streams of one bundle; holds the network, no stream's memory.

    Raises:
        BundleCorrupt: the network does not load or does not fit the manifest.
        InterpreterMissing: there is nothing to run it with.

    """

    def __init__(self, bundle: Bundle, runtime: Runtime = "auto") -> None:
        self.manifest = manifest = bundle.manifest
        self.digest = bundle.digest
        self.detector: str = manifest.detector
        self._network = StepNetwork(bundle.network, runtime)
        self._network.expect(
            len(manifest.channels), manifest.network.state_size, manifest.prediction_size
        )
        self.runtime = self._network.runtime
        self._telemanom = Telemanom(manifest, self._network)
        self._threshold = DynamicThreshold(manifest.threshold)
        self._sensors = SensorChecks(manifest)
        self._events = EventRules(manifest)
        self.forecaster = _forecaster(bundle, runtime)
        self._tail = None if manifest.tail is None else ScoreTail(manifest.tail)
        self._channels = len(manifest.channels)

    def start(self) -> State:
        """Return the state of a stream before its first sample."""
        block, channels = self._threshold.block_samples, self._channels
        return State(
            telemanom=self._telemanom.start(),
            threshold=self._threshold.start(),
            sensors=self._sensors.start(),
            recent=Recent(
                times=np.full(block, np.nan),
                observed=np.full((block, channels), np.nan, np.float32),
                expected=np.full((block, channels), np.nan, np.float32),
            ),
            events=self._events.start(),
            forecast=None if self.forecaster is None else self.forecaster.start(),
        )

    def restore(self, parts: Mapping[str, bytes]) -> State:
        """Return the state that ``changed_parts`` saved.

        Raises:
            StateMismatch: the parts are of another bundle, or damaged.

        """
        state = self.start()
        saved.restore(state, parts, self.digest)
        return state

    def changed_parts(self, state: State) -> dict[str, bytes]:
        """Return the parts of ``state`` to save: those that changed since the last call."""
        return saved.changed_parts(state, self.digest)

    def step(self, state: State, samples: Samples) -> Result:
        """Score ``samples``, which follow those before; ``state`` moves on.

        A jump in ``times`` is an interruption: the network starts from nothing and warms up.
        """
        heard = (
            self._events.heard(state.events, float(samples.times[0])) if len(samples.times) else []
        )
        blocks = list(self._blocks(state, samples))
        forecasts = self._forecasts(state, samples)
        rows = state.threshold.block.shape[1]
        if not blocks:
            empty = np.empty((0, rows), np.float32)
            predicted = np.empty((0, self._channels), np.float32)
            scores = Scores(samples.times, np.empty(0, np.float32), np.empty(0), predicted)
            return Result(scores, [], empty, empty)
        score = np.concatenate([worst(seen.ratio) for _, seen, _ in blocks])
        return Result(
            Scores(
                samples.times,
                score,
                self._probability(score),
                np.concatenate([errors.predicted for errors, _, _ in blocks]),
            ),
            heard + [event for _, _, events in blocks for event in events],
            np.concatenate([errors.smoothed for errors, _, _ in blocks]),
            np.concatenate([seen.threshold for _, seen, _ in blocks]),
            forecasts,
        )

    def silent(self, state: State, time: float, since: float) -> list[Event]:
        """Say that at ``time`` nothing has come since ``since`` (Unix seconds).

        Only the gateway's clock can tell; the next sample closes the event.
        """
        return self._events.silent(state.events, time, since)

    def open_events(self, state: State) -> list[Event]:
        """Return the events that are open, each with its worst sample so far."""
        return self._events.open_events(state.events)

    def _forecasts(self, state: State, samples: Samples) -> list[Forecast]:
        if self.forecaster is None or state.forecast is None:
            return []
        return self.forecaster.step(state.forecast, samples)

    def _probability(self, score: Float32) -> Float64:
        return np.full(len(score), np.nan) if self._tail is None else self._tail.probability(score)

    def _blocks(
        self, state: State, samples: Samples
    ) -> Iterator[tuple[Errors, Exceedance, list[Event]]]:
        """Step up to each update of the threshold, so that chunking does not matter."""
        begin = 0
        while begin < len(samples.times):
            at = state.threshold.pending
            end = min(begin + self._threshold.block_samples - at, len(samples.times))
            block = Samples(samples.times[begin:end], samples.values[begin:end])
            errors = self._telemanom.step(state.telemanom, block)
            runs = self._sensors.step(state.sensors, block.values)
            filled = slice(at, at + end - begin)
            state.recent.times[filled] = block.times
            state.recent.observed[filled] = block.values
            state.recent.expected[filled] = errors.predicted
            seen = self._threshold.compare(state.threshold, errors.smoothed)
            events = self._events.step(state.events, state.recent, at, seen, runs)
            if state.threshold.pending == self._threshold.block_samples:
                found = self._threshold.update(state.threshold, state.events.open_samples)
                events += self._events.found(state.events, state.recent, found)
            yield errors, seen, events
            begin = end


def _forecaster(bundle: Bundle, runtime: Runtime) -> Forecaster | None:
    if bundle.manifest.forecaster is None:
        return None
    return Forecaster(bundle.manifest, ForecastNetwork(bundle.parts[FORECASTER], runtime))


def worst(ratio: Float32) -> Float32:
    """Largest over the rows, (n,); NaN where no row has an error."""
    worst = np.where(np.isnan(ratio), -1, ratio).max(axis=1)
    return np.where(worst < 0, np.nan, worst).astype(np.float32)
