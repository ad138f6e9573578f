"""The streams of one detector, aligned and scored together; what they bring is kept for the commit.

One call of the network serves all streams that have a sample, and what belongs to a stream alone
(counters, summaries, rows to store) is made once a commit, not once a sample.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agent.clock import Clock
from agent.config import StreamTable
from agent.health import Pace
from agent.store import Batch
from agent.stream import Stream
from models.align import Aligned, Aligners
from models.messages import Float32, Float64, Int64, Readings, Samples
from models.pipeline import Detector


class _Scored(NamedTuple):
    """Samples that wait for the commit: n of each of B streams, after those before."""

    streams: Int64  # (B,)
    times: Float64  # (n, B)
    values: Float32  # (n, B, C)
    score: Float32  # (n, B)


class Fleet:
    """Streams that share a detector; one thread uses it."""

    def __init__(
        self,
        detector: Detector,
        tables: Sequence[StreamTable],
        summary_interval_s: float,
        clock: Clock,
    ) -> None:
        manifest = detector.manifest
        self._detector = detector
        self._memory = detector.start(len(tables))
        self._aligners = Aligners(
            manifest.sampling,
            len(manifest.channels),
            [table.lateness_samples for table in tables],
        )
        self.streams = [
            Stream(table, detector, self._memory, number, self._aligners, summary_interval_s, clock)
            for number, table in enumerate(tables)
        ]
        self.pace = Pace()
        self._numbers = np.arange(len(tables))
        # since the last ``flush``
        self._taken: list[tuple[Int64, Float32]] = []  # streams (n,), values (n, C)
        self._scored: list[_Scored] = []

    def take(self, streams: Int64, readings: Readings, batch: Batch) -> None:
        """Score what the readings, (n, C), of these streams, (n,), complete.

        What came of it goes into ``batch``: events at once, the rest with ``flush``.
        """
        self._taken.append((streams, readings.values))
        for aligned in self._aligners.push(streams, readings):
            self._score(aligned, batch)

    def news(self, stream: int, readings: Readings) -> Readings:
        """Return those of a stream's readings whose samples are not made yet."""
        return self._aligners.news(stream, readings)

    def _score(self, aligned: Aligned, batch: Batch) -> None:
        streams = self._numbers[aligned.who]
        began = time.perf_counter()
        found = self._detector.step_together(self._memory, *aligned)
        self.pace.add(time.perf_counter() - began, aligned.times.size)
        self._scored.append(_Scored(streams, aligned.times, aligned.values, found.score))
        for column, event in found.events:
            self.streams[streams[column]].report([event], batch)
        for column, forecast in found.forecasts:
            self.streams[streams[column]].foretell(forecast, batch)

    def flush(self, batch: Batch) -> None:
        """Put the samples since the last call, with what they sum up to, into ``batch``."""
        self._count_readings()
        if not self._scored:
            return
        streams = np.concatenate([np.tile(s.streams, len(s.times)) for s in self._scored])
        times = np.concatenate([s.times.ravel() for s in self._scored])
        score = np.concatenate([s.score.ravel() for s in self._scored])
        rows = [s.values.reshape(-1, s.values.shape[-1]) for s in self._scored]
        values = np.concatenate(rows)
        self._scored.clear()
        order, edges = _by_stream(streams, len(self.streams))
        times, values, score = times[order], values[order], score[order]
        for own, (begin, end) in zip(self.streams, edges, strict=True):
            if end > begin:
                own.keep(Samples(times[begin:end], values[begin:end]), score[begin:end], batch)

    def _count_readings(self) -> None:
        if not self._taken:
            return
        streams = np.concatenate([streams for streams, _ in self._taken])
        known = ~np.isnan(np.concatenate([values for _, values in self._taken]))
        self._taken.clear()
        counts = np.bincount(streams, known.sum(axis=1), len(self.streams)).tolist()
        for stream, count in zip(self.streams, counts, strict=True):
            stream.counters["readings"] += int(count)


def _by_stream(streams: Int64, count: int) -> tuple[Int64, list[tuple[int, int]]]:
    """Return the order that puts each stream's rows together, and where they begin and end."""
    ends = np.cumsum(np.bincount(streams, minlength=count)).tolist()
    return np.argsort(streams, kind="stable"), list(itertools.pairwise([0, *ends]))
