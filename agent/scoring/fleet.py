"""The streams of one detector, which are aligned and scored together.

One network call serves all streams that have a sample. The work per stream (counters, summaries,
rows to store) is done once per commit, not once per sample.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from agent.clock import Clock
from agent.config.load import StreamTable
from agent.health.measured import Pace
from agent.scoring.origin import Origin
from agent.scoring.parts import RawValues
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from models.align import Aligned, Aligners
from models.detector import Detector
from models.features import features_of
from models.manifest import StreamRules
from models.messages import (
    Float32,
    Float64,
    Int64,
    Readings,
    Samples,
    Uint8,
    joined_quality,
)

_Number = TypeVar("_Number", bound=np.generic)


class _Scored(NamedTuple):
    """Samples that wait for the commit: n samples of each of B streams, in scoring order."""

    streams: Int64  # (B,)
    times: Float64  # (n, B)
    values: Float32  # (n, B, C)
    score: Float32  # (n, B)
    expected: Float32  # (n, B, C)
    quality: Uint8 | None  # (n, B, C)


class Fleet:
    """Streams that share a detector; one thread uses it."""

    def __init__(
        self,
        detector: Detector,
        tables: Sequence[StreamTable],
        summary_interval_s: float,
        clock: Clock,
        origins: Sequence[Origin] | None = None,
    ) -> None:
        """Set up; ``origins`` has the origin of each stream's detector; see ``Stream``."""
        manifest = detector.manifest
        self.clock = clock
        self._detector = detector
        self._memory = detector.start(len(tables))
        self._aligners = Aligners(
            manifest.sampling,
            len(manifest.channels),
            [table.lateness_samples for table in tables],
            anchored=bool(manifest.sources),
        )
        self._features = [features for _ in tables if (features := features_of(manifest))]
        self.streams = [
            Stream(
                table,
                detector,
                self._memory,
                number,
                self._aligners,
                summary_interval_s,
                clock,
                origins[number] if origins else None,
            )
            for number, table in enumerate(tables)
        ]
        for stream, features in zip(self.streams, self._features, strict=False):
            stream.add(RawValues(features))
        self.pace = Pace()
        self._numbers = np.arange(len(tables))
        # since the last ``flush``
        self._taken: list[tuple[Int64, Float32]] = []  # streams (n,), values (n, C)
        self._scored: list[_Scored] = []

    def take(self, streams: Int64, readings: Readings, batch: Batch) -> None:
        """Take readings of these streams, (n,), and score the samples that they complete.

        The columns are ``source_channels``. Events go into ``batch`` at once, and other data with
        ``flush``.
        """
        self._taken.append((streams, readings.values))
        if self._features:
            streams, readings = self._extracted(streams, readings)
            if len(streams) == 0:
                return
        for aligned in self._aligners.push(streams, readings):
            self._score(aligned, batch)

    @property
    def newest_s(self) -> Float64:
        """The latest time of each stream's readings; NaN before the first."""
        return self._aligners.newest_s

    def news(self, stream: int, readings: Readings) -> Readings:
        """Return the readings of a stream whose samples have not been made yet."""
        return self._aligners.news(stream, readings, raw=bool(self._features))

    def replace(self, stream: int, before: Fleet, number: int, batch: Batch) -> None:
        """Replace a stream of another fleet, which then gets no more readings.

        The new stream continues at the same position on the grid, so no reading is lost. Its
        detector starts without a memory. ``misfit`` must return None for the two detectors.
        """
        now, then = self.streams[stream], before.streams[number]
        names = then.manifest.channel_names
        order = [names.index(name) for name in now.manifest.channel_names]
        self._aligners.replace(stream, before._aligners.of(number), order)
        if self._features:
            self._features[stream].replace(before._features[number])
        now.replace(then, batch)

    def _extracted(self, streams: Int64, readings: Readings) -> tuple[Int64, Readings]:
        """Return readings of the bundle's channels, computed from raw ones, stream by stream."""
        who: list[Int64] = []
        made: list[Readings] = []
        for stream in np.unique(streams).tolist():
            own = streams == stream
            raw = Readings(readings.times[own], readings.values[own])
            made.append(self._features[stream].push(raw))
            who.append(np.full(len(made[-1].times), stream))
        times = np.concatenate([one.times for one in made])
        return np.concatenate(who), Readings(times, np.concatenate([one.values for one in made]))

    def _score(self, aligned: Aligned, batch: Batch) -> None:
        streams = self._numbers[aligned.who]
        began = time.perf_counter()
        found = self._detector.step_together(
            self._memory, aligned.who, aligned.times, aligned.values
        )
        self.pace.add(time.perf_counter() - began, aligned.times.size)
        self._scored.append(
            _Scored(
                streams,
                aligned.times,
                aligned.values,
                found.score,
                found.predicted,
                aligned.quality,
            )
        )
        for column, event in found.events:
            self.streams[streams[column]].teller.report([event], batch, aligned.of(column))
        for column, forecast in found.forecasts:
            self.streams[streams[column]].foretell(forecast, batch)

    def flush(self, batch: Batch) -> None:
        """Put the samples since the last call, and their summaries, into ``batch``."""
        self._count_readings()
        if not self._scored:
            return
        streams = np.concatenate([np.tile(s.streams, len(s.times)) for s in self._scored])
        times = np.concatenate([s.times.ravel() for s in self._scored])
        score = np.concatenate([s.score.ravel() for s in self._scored])
        values = np.concatenate([_rows(s.values) for s in self._scored])
        expected = np.concatenate([_rows(s.expected) for s in self._scored])
        quality = joined_quality(
            [
                (None if s.quality is None else _rows(s.quality), _rows(s.values))
                for s in self._scored
            ]
        )
        self._scored.clear()
        order, edges = _by_stream(streams, len(self.streams))
        samples = Samples(times[order], values[order], None if quality is None else quality[order])
        score, expected = score[order], expected[order]
        for own, (begin, end) in zip(self.streams, edges, strict=True):
            if end > begin:
                seen = samples.part(begin, end)
                own.keep(seen, expected[begin:end], score[begin:end], batch)

    def _count_readings(self) -> None:
        if not self._taken:
            return
        streams = np.concatenate([streams for streams, _ in self._taken])
        known = ~np.isnan(np.concatenate([values for _, values in self._taken]))
        self._taken.clear()
        # a 32-bit machine counts no other integers
        streams = streams.astype(np.intp, copy=False)
        counts = np.bincount(streams, known.sum(axis=1), len(self.streams)).tolist()
        for stream, count in zip(self.streams, counts, strict=True):
            stream.counters["readings"] += int(count)


def misfit(now: StreamRules, new: StreamRules) -> str | None:
    """Return the reason why a running stream cannot get a detector with these rules; None: it can.

    The stream's inputs and its position on the grid must stay the same.
    """
    if sorted(new.channel_names) != sorted(now.channel_names):
        return f"its channels are {_named(new)}, those of the running one {_named(now)}"
    if new.sampling.period_s != now.sampling.period_s:
        return (
            f"it has a sample every {new.sampling.period_s:g} s, the running one every"
            f" {now.sampling.period_s:g} s"
        )
    if list(new.sources) != list(now.sources) or (now.sources and _passed(new) != _passed(now)):
        return "its raw channels, or their order, are not those of the running one"
    return None


def _named(rules: StreamRules) -> str:
    return ", ".join(rules.channel_names)


def _passed(rules: StreamRules) -> list[str]:
    return [channel.name for channel in rules.source_channels]


def _rows(array: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Reshape an array from (n, B, C) to (n B, C)."""
    return array.reshape(-1, array.shape[-1])


def _by_stream(streams: Int64, count: int) -> tuple[Int64, list[tuple[int, int]]]:
    """Return the order that groups rows by stream, and the begin and end of each group."""
    native = streams.astype(np.intp, copy=False)  # a 32-bit machine counts no others
    ends = np.cumsum(np.bincount(native, minlength=count)).tolist()
    return np.argsort(streams, kind="stable"), list(itertools.pairwise([0, *ends]))
