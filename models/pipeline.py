"""The family ``telemanom``: the only path from samples to scores of a bundle with a network.

    samples ─> telemanom (network, smoothed errors) ─> threshold ─┬─> events ─> Result
            ├> sensors (runs of equal and missing values) ────────┘              │
            └> forecaster (steps, network, intervals) ───────────────────────────┘

Calibration, evaluation and the agent all use it; ``models.detector`` describes its parts. There is
only a streaming implementation: a batch is one call with many samples, and chunking never changes a
result. Streams of one bundle are processed together, in one call of the network, with the same
results as one by one. No score depends on future samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models import state as saved
from models.bundle import Bundle
from models.detector import BatchResult, Result
from models.events import EventRules, EventState, Levels, Recent
from models.forecaster import Forecaster, ForecastState
from models.interpreter import ForecastNetwork, Runtime, StepNetwork
from models.manifest import FORECASTER, TelemanomManifest
from models.messages import (
    ALL,
    Bool,
    Event,
    Float32,
    Float64,
    Forecast,
    Index,
    Int64,
    Samples,
    Scores,
)
from models.score_tail import Rating, ScoreTail, StreamTail
from models.sensors import SensorChecks
from models.state import State
from models.tail_fit import fit
from models.telemanom import Telemanom
from models.threshold import BlockPosition, DynamicThreshold, Limits

NEWEST_BLOCKS = 3  # of the threshold; their scores show at once that a stream has changed


class Pipeline:
    """Scores the streams of one bundle. It holds the network and no memory.

    Shapes and units are those of ``models.detector``.

    Raises:
        FamilyUnfit: the bundle has another family.
        BundleCorrupt: the network cannot be loaded or does not fit the manifest.
        InterpreterMissing: no interpreter is installed that can run the network.

    """

    def __init__(self, bundle: Bundle, runtime: Runtime = "auto") -> None:
        self.manifest = manifest = bundle.telemanom
        self.digest = bundle.digest
        self.detector: str = manifest.detector
        self._network = StepNetwork(bundle.network, runtime)
        self._network.expect(
            len(manifest.channels), manifest.network.state_size, manifest.prediction_size
        )
        self.runtime = self._network.runtime
        self._telemanom = Telemanom(manifest, self._network)
        self._threshold = DynamicThreshold(manifest.threshold, manifest.level_rows)
        self._sensors = SensorChecks(manifest)
        self._events = EventRules(manifest, _known_levels(manifest), _slow_rows(manifest))
        self.forecaster = _forecaster(bundle, manifest, runtime)
        self._tail = None if manifest.tail is None else ScoreTail(manifest.tail)
        self._channels = len(manifest.channels)

    def start(self, streams: int = 1) -> State:
        """Create an empty memory of ``streams`` streams."""
        block = (streams, self._threshold.block_samples)
        forecaster = self.forecaster
        return State(
            numbers=np.arange(streams),
            telemanom=self._telemanom.start(streams),
            threshold=self._threshold.start(streams),
            sensors=self._sensors.start(streams),
            recent=Recent.empty(block, self._channels),
            events=[self._events.start() for _ in range(streams)],
            watched=set(),
            forecast=[] if forecaster is None else [forecaster.start() for _ in range(streams)],
        )

    def restore(self, parts: Mapping[str, bytes]) -> State:
        """Restore the memory of one stream from the parts that ``changed_parts`` returned.

        Raises:
            StateMismatch: the parts belong to another bundle, or are damaged.

        """
        state = self.start()
        saved.restore(state, parts, self.digest)
        return state

    def adopt(self, state: State, stream: int, one: State) -> None:
        """Copy the only stream of ``one`` into ``state``, in place of its stream ``stream``."""
        saved.adopt(state, stream, one)

    def changed_parts(self, state: State, stream: int = 0) -> dict[str, bytes]:
        """Return the parts of a stream's memory that changed since the last call, to be saved."""
        return saved.changed_parts(state, stream, self.digest)

    def step(self, state: State, samples: Samples) -> Result:
        """Score the next ``samples`` of the only stream of ``state``.

        Samples of a stream that settles have no probability, because they are not judged.
        """
        results, begin = list[Result](), 0
        while begin < len(samples.times) or not results:
            room = self._threshold.room(state.threshold, ALL, len(samples.times) - begin)
            block = slice(begin, begin + room)
            rating, settled = self._rating(state, 0), state.threshold.settled.copy()
            times, values = samples.times[block], samples.values[block]
            scored = self.step_together(state, ALL, times[:, None], values[:, None])
            result = scored.first(times, rating)
            judged = self._threshold.settled(settled, ~np.isnan(scored.score))[:, 0]
            result.scores.probability[~judged] = np.nan
            results.append(result)
            begin += room
        return results[0] if len(results) == 1 else _joined(results)

    def step_together(
        self, state: State, who: Index, times: Float64, values: Float32
    ) -> BatchResult:
        """Score the next samples of some streams.

        After an interruption, that is a jump in a stream's ``times``, its network is reset and
        warms up again.

        Args:
            state: of ``N`` streams, changed in place.
            who: the ``B`` streams, none twice.
            times: (n, B) Unix seconds, on the grid of each stream.
            values: (n, B, C) in the channels' units, NaN where missing.

        """
        streams = state.numbers[who]
        if len(times) == 0:
            return self._nothing(state, len(streams))
        heard = self._heard(state, streams, times)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            parts = self._parts(state, who, streams, times, values)
        forecasts = self._forecasts(state, streams, times, values)
        if len(parts) == 1 and not heard and not forecasts:
            return parts[0]
        events = heard + [event for part in parts for event in part.events]
        return BatchResult(
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.smoothed for part in parts]),
            np.concatenate([part.threshold for part in parts]),
            events,
            forecasts,
        )

    def open_silence(self, state: State, time: float, since: float, stream: int = 0) -> list[Event]:
        """Open the ``silent`` event of a stream and return it; [] if it is open already.

        ``time`` is the present time, ``since`` that of the last sample, both in Unix seconds.
        """
        events = self._events.open_silence(state.events[stream], time, since)
        state.watched.add(stream)
        return events

    def open_events(self, state: State, stream: int = 0) -> list[Event]:
        """Return the open events of a stream, each with its worst sample so far."""
        return self._events.open_events(state.events[stream])

    def events(self, state: State, stream: int = 0) -> EventState:
        """Return the state of a stream's events."""
        return state.events[stream]

    def forecasts(self, state: State, stream: int = 0) -> ForecastState | None:
        """Return the forecaster's state of a stream; None if there is no forecaster."""
        return state.forecast[stream] if state.forecast else None

    def _nothing(self, state: State, streams: int) -> BatchResult:
        rows = state.threshold.block.shape[-1]
        empty = np.empty((0, streams, rows), np.float32)
        predicted = np.empty((0, streams, self._channels), np.float32)
        return BatchResult(np.empty((0, streams), np.float32), predicted, empty, empty, [])

    def _heard(self, state: State, streams: Int64, times: Float64) -> list[tuple[int, Event]]:
        return [
            (column, event)
            for column in self._watched(state, streams)
            for event in self._events.heard(
                state.events[int(streams[column])], float(times[0, column])
            )
        ]

    @staticmethod
    def _watched(state: State, streams: Int64) -> list[int]:
        """Return the columns of the streams that are watched."""
        if not state.watched:
            return []
        return [column for column, stream in enumerate(streams.tolist()) if stream in state.watched]

    def _forecasts(
        self, state: State, streams: Int64, times: Float64, values: Float32
    ) -> list[tuple[int, Forecast]]:
        if self.forecaster is None:
            return []
        return [
            (column, forecast)
            for column, stream in enumerate(streams.tolist())
            for forecast in self.forecaster.step(
                state.forecast[stream], Samples(times[:, column], values[:, column])
            )
        ]

    def _parts(
        self, state: State, who: Index, streams: Int64, times: Float64, values: Float32
    ) -> list[BatchResult]:
        """Process up to each interruption and threshold update, so that chunking never matters."""
        broken = self._telemanom.interruptions(state.telemanom, who, times)
        starts = [] if broken is None else np.flatnonzero(broken.any(axis=1)).tolist()
        parts, begin = [], 0
        while begin < len(times):
            if broken is not None and begin in starts:
                self._telemanom.restart(state.telemanom, streams[broken[begin]])
            next_start = next((start for start in starts if start > begin), len(times))
            room = self._threshold.room(state.threshold, who, next_start - begin)
            end = min(begin + room, next_start)
            parts.append(self._part(state, who, streams, times[begin:end], values[begin:end]))
            begin = end
        return parts

    def _part(
        self, state: State, who: Index, streams: Int64, times: Float64, values: Float32
    ) -> BatchResult:
        errors = self._telemanom.step(state.telemanom, who, times, values)
        if errors.whole and self._sensors.step_calmly(state.sensors, who, values):
            runs, notable = None, set()
        else:
            runs = self._sensors.step(state.sensors, who, values)
            notable = set(self._sensors.over(runs))
        begin = state.threshold.pending[who].copy()
        at = _block_position(begin, streams, len(times))
        state.recent.times[at] = times.swapaxes(0, 1)
        state.recent.observed[at] = values.swapaxes(0, 1)
        state.recent.expected[at] = errors.predicted.swapaxes(0, 1)
        score, seen = self._threshold.compare(state.threshold, who, at, errors.smoothed)
        if seen.some:
            notable.update(np.flatnonzero(seen.outside.any(axis=(0, 2))).tolist())
        events: list[tuple[int, Event]] = []
        for column in sorted(notable.union(self._watched(state, streams))):
            stream, first = int(streams[column]), int(begin[column])
            own = self._sensors.now(state.sensors, stream) if runs is None else runs.of(column)
            compared = seen.of(column)
            rules = self._events
            if compared.outside.any():
                rules = rules.rated_by(self._rating(state, stream))
            told = rules.step(state.events[stream], state.recent.of(stream), first, compared, own)
            state.watch(stream)
            events += [(column, event) for event in told]
        for column in self._threshold.full(state.threshold, who):
            events += [(column, event) for event in self._update(state, int(streams[column]))]
        return BatchResult(score, errors.predicted, errors.smoothed, seen.threshold, events)

    def _update(self, state: State, stream: int) -> list[Event]:
        """Recompute a stream's threshold at the end of its block."""
        events = state.events[stream]
        recent = state.recent.of(stream)
        accepted = self._threshold.accepts(events.open_samples)
        limits = self._threshold.limits(state.threshold, stream)
        found = self._threshold.update(state.threshold, stream, events.open_samples)
        state.ratings.pop(stream, None)
        told: list[Event] = []
        if found:
            rules = self._events
            if self._tail is not None:  # by the limits that were in force
                rules = rules.rated_by(self._rated(self._tail, state, stream, limits))
            told += rules.found(events, recent, found)
        if accepted:
            told += self._events.accept(events, float(recent.times[-1]))
        state.watch(stream)
        return told

    def _rating(self, state: State, stream: int) -> Rating | None:
        """Return how a stream's scores are rated until its next update; None: not at all."""
        if self._tail is None:
            return None
        if stream not in state.ratings:
            limits = self._threshold.limits(state.threshold, stream)
            state.ratings[stream] = self._rated(self._tail, state, stream, limits)
        return state.ratings[stream]

    def _rated(self, tail: ScoreTail, state: State, stream: int, limits: Limits) -> Rating:
        """Return the bundle's tail beside those of the stream's normal scores.

        While the history has fewer scores than a block, the bundle's tail counts alone.
        """
        block = self._threshold.block_samples
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = self._threshold.normal_scores(state.threshold, stream, limits)
        if len(scores) < block:
            return tail
        newest = scores[-NEWEST_BLOCKS * block :]
        return StreamTail(tail, ScoreTail(fit(scores)), ScoreTail(fit(newest)))


def _joined(results: Sequence[Result]) -> Result:
    """Return the results of consecutive samples as one."""
    scores, events, smoothed, threshold, forecasts = zip(*results, strict=True)
    return Result(
        Scores(*(np.concatenate(arrays) for arrays in zip(*scores, strict=True))),
        [event for some in events for event in some],
        np.concatenate(smoothed),
        np.concatenate(threshold),
        [forecast for some in forecasts for forecast in some],
    )


def _block_position(begin: Int64, streams: Int64, samples: int) -> BlockPosition:
    """Return the position in the blocks of these streams' next samples, from ``begin``."""
    if len(begin) == 1:
        first, stream = int(begin[0]), int(streams[0])
        return slice(stream, stream + 1), slice(first, first + samples)
    return streams[:, None], begin[:, None] + np.arange(samples)


def _known_levels(manifest: TelemanomManifest) -> Levels | None:
    """Return the known levels of the scored channels, in their units; None: no row is a level."""
    if manifest.level is None:
        return None
    middle, half = np.array(manifest.level.middle), np.array(manifest.level.half)
    scored = [manifest.channels[position] for position in manifest.scored]
    center = np.array([channel.center for channel in scored])
    scale = np.array([channel.scale for channel in scored])
    return Levels(
        first_row=manifest.error_rows - manifest.level_rows,
        low=center + (middle - half) * scale,
        high=center + (middle + half) * scale,
    )


def _slow_rows(manifest: TelemanomManifest) -> Bool | None:
    """Return the rows that show persistent deviations, (R,); None: all rows are alike.

    These are the levels, and the errors of all spans but the shortest.
    """
    spans = np.array(manifest.smoothing.spans_samples)
    errors = np.repeat(spans > spans.min(), manifest.prediction_size)
    slow = np.concatenate([errors, np.ones(manifest.level_rows, np.bool_)])
    return slow if slow.any() else None


def _forecaster(bundle: Bundle, manifest: TelemanomManifest, runtime: Runtime) -> Forecaster | None:
    if manifest.forecaster is None:
        return None
    return Forecaster(manifest, ForecastNetwork(bundle.parts[FORECASTER], runtime))
